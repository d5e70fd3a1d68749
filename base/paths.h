/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Where things live. One project of one user on one host has a runtime folder (local disk or tmpfs, gone at reboot)
 * and a state folder (kept; in the home folder, so perhaps on a network file system).
 */
#pragma once

#include <limits.h>

#include "base/error.h"

/*
 * runtime/                      $SUPERVISE_RUNTIME_DIR/NAME, else $XDG_RUNTIME_DIR/supervise/NAME,
 *                               else /tmp/supervise-UID/NAME; never a network file system
 *   lock                        flock(2) held by the keeper as long as the project runs
 *   keeper.pid supervisor.pid logger.pid writer.pid
 *   control.sock capture.sock   SOCK_STREAM, NDJSON: supervisor/control.h; SOCK_SEQPACKET: capture/protocol.h
 *   config.json                 the configuration in force (config_to_json)
 *   registry.json registry.journal    registry/registry.h
 *   pid/FILE.pid  fifo/FILE.out  fifo/FILE.err
 *   logger.state                what a killed logger had in hand: output/stage.h
 *   pending/CRASH.json CRASH.snap     deaths whose report is not finished yet
 * state/                        ${XDG_STATE_HOME:-~/.local/state}/supervise/NAME/HOST
 *   log/FILE.log  log/FILE.log.TIME.zst
 *   crash/TIME-FILE-SHORTID.json
 *   spool/logger/  spool/supervisor/  log/spool.h
 *   supervise.db                the embedded store
 *   supervise.log               what our own processes have to say
 *
 * FILE is a daemon's name with '/' as '@': train/0 -> train@0 (names have no '@').
 */
struct paths {
	char runtime[PATH_MAX];
	char state[PATH_MAX];
};

/**
 * paths_init() - fill in both folders of project @name from the environment; creates nothing
 * Return:  0, or -EINVAL with @err (no home, name not [a-z0-9][a-z0-9_.-]{0,62}, path too long for use)
 */
int paths_init(struct paths *ret, const char *name, struct error *err);

/* Creates both folders and their fixed sub-folders, 0700; refuses foreign owners and a network runtime. */
int paths_create(const struct paths *p, struct error *err);

/* "train/0" -> "train@0". Return: @ret */
char *paths_file_name(const char *daemon, char *ret, size_t size);

/* @ret = folder "/" fmt. Return: @ret; a result that does not fit becomes "" */
char *path_format(char *ret, size_t size, const char *folder, const char *fmt, ...)
    __attribute__((format(printf, 4, 5)));

/**
 * paths_helper() - full path of one of our own programs or of the agent
 * @name:  "supervise-keeper", "supervise-agent.so", ...
 * @ret:   PATH_MAX bytes
 *
 * Looked for in $SUPERVISE_LIBEXEC, beside the running program, and in ../libexec/supervise from there: this covers
 * the build folder, an installation, and helpers calling helpers.
 *
 * Return:  0, or -ENOENT with @err
 */
int paths_helper(const char *name, char *ret, struct error *err);

/**
 * unix_address() - address of a socket in a folder whose path may be longer than sun_path
 * @dirfd:  the folder, open; must stay open until bind/connect is done
 *
 * Source:  /proc/self/fd/N/NAME resolves through the descriptor, so 108 bytes are always enough
 */
struct sockaddr_un;
int unix_address(int dirfd, const char *name, struct sockaddr_un *ret);
