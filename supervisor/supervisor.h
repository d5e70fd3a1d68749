/* SPDX-License-Identifier: Apache-2.0 */
/* The supervisor as a whole: what its parts share. One per process; everything here belongs to the loop thread. */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/resource.h>
#include <uv.h>

#include "base/paths.h"
#include "capture/capture.h"
#include "config/config.h"
#include "log/level.h"
#include "registry/registry.h"
#include "supervisor/helper.h"
#include "supervisor/recorder.h"

struct daemon;
struct death;
struct control_server;

struct supervisor {
	uv_loop_t *loop;
	struct paths paths;
	struct config *config;
	struct registry *registry;
	struct capture *capture; /* NULL when it could not be started: mode status for all */
	struct helper *logger, *writer; /* writer NULL with store: none */
	struct recorder *recorder;
	struct control_server *control;
	struct daemon **daemons;
	size_t n_daemons;
	struct death *deaths;     /* whose reports are not finished; a list */
	unsigned n_symbolizers;   /* running */
	int keeper_fd;            /* -1 when there is none */
	pid_t keeper_pid;
	rlim_t soft_nofile;       /* given back to daemons */
	int64_t started_us;
	uint32_t next_slot;       /* keeper slots */
	bool restarted;           /* an earlier supervisor of this project died; this one goes on */
	bool going_down;
	unsigned helper_restarts;
	char problem[512];        /* latest trouble worth showing in `status`, "" if none */
};

struct daemon *supervisor_find(struct supervisor *s, const char *name);
struct daemon *supervisor_find_by_pid(struct supervisor *s, pid_t pid);

/* Sorted pids that are never part of a daemon's tree: all first processes but @except's, and helpers. Caller frees. */
pid_t *supervisor_known_pids(struct supervisor *s, const struct daemon *except, size_t *ret_n);

/* Called after each change of a daemon: waiting requests look at it again. */
void supervisor_daemon_changed(struct supervisor *s, struct daemon *d);

/* A line in supervise.log, and in the `status` header when @keep. */
void supervisor_say(struct supervisor *s, bool keep, const char *fmt, ...) __attribute__((format(printf, 3, 4)));

/**
 * supervisor_event() - one pipeline_events row, and a pipeline_logs row beside it from WARNING on
 * @d:        the daemon it is about, or NULL
 * @details:  taken; may be NULL
 */
void supervisor_event(struct supervisor *s, const struct daemon *d, const char *type, enum log_level level,
    cJSON *details, const char *title, ...) __attribute__((format(printf, 6, 7)));

/* Keeper: hold @fd in a slot, or let go of it. Return: the slot, or -errno */
int supervisor_hold(struct supervisor *s, int fd);
void supervisor_release(struct supervisor *s, uint32_t slot);

/* Applies a configuration that differs from the one in force; takes @config. See control.h "reload". */
typedef void (*supervisor_change_fn)(const char *daemon, const char *change, const cJSON *keys, void *userdata);
int supervisor_reload(struct supervisor *s, struct config *config, bool dry_run, supervisor_change_fn fn, void *userdata);

/*
 * Adds the one daemon of @config for `supervise run`; takes @config. The file @path is renamed to RUNTIME/FILE.run.json and
 * kept as long as the daemon: a restarted supervisor finds it there. Return: it, or NULL with @err
 */
struct daemon *supervisor_add_run(struct supervisor *s, struct config *config, const char *path, struct error *err);

/* Begins to stop everything, then the loop. */
void supervisor_go_down(struct supervisor *s);
void supervisor_check_down(struct supervisor *s);
