/* SPDX-License-Identifier: Apache-2.0 */
/* One daemon: its life cycle performed on real processes. */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/resource.h>
#include <sys/types.h>

#include "base/cleanup.h"
#include "base/json.h"
#include "capture/capture.h"
#include "registry/registry.h"
#include "supervisor/lifecycle.h"

struct config;
struct daemon_config;
struct supervisor;
struct daemon; /* opaque; the parameter is called d, since daemon(3) is a libc function */

/**
 * daemon_new() - describe a daemon; nothing is started
 * @cfg:    kept: belongs to a configuration that outlives the daemon or is replaced by daemon_set_config()
 * @entry:  what the registry knows of it, or NULL
 */
int daemon_new(struct daemon **ret, struct supervisor *s, const struct daemon_config *cfg,
    const struct registry_entry *entry);
struct daemon *daemon_free(struct daemon *d); /* leaves a running process alone */
DEFINE_CLEANUP(struct daemon *, daemon_free)

/* After a restart of the supervisor: takes up a process that still runs, or what is known of its end. */
void daemon_recover(struct daemon *d);

/* Takes a process of this daemon that the registry did not know of (found by its environment). */
void daemon_adopt(struct daemon *d, const struct proc_id *id, const char *nonce, const char *run);

/* A person wants it up: resets counters. Return: 0, or -errno when nothing could be tried */
int daemon_start(struct daemon *d);

/* A person wants it down. @timeout_ms: instead of stop.timeout, or UINT64_MAX; 0 kills at once. */
void daemon_stop(struct daemon *d, uint64_t timeout_ms);

/* Stop, then start. */
void daemon_restart(struct daemon *d);

/* Sends a signal to the first process, or to the whole tree. Return: 0, -ESRCH when nothing runs, -errno */
int daemon_signal(struct daemon *d, int sig, bool tree);

/* The process ended although we are not its parent: told by the keeper. */
void daemon_ended_elsewhere(struct daemon *d, int status, const struct rusage *usage, int64_t at_us);

/* A snapshot was taken of a process of this daemon. */
void daemon_take_snapshot(struct daemon *d, const struct capture_event *e);

/* Whether @pid is its first process or below it. */
bool daemon_owns(struct daemon *d, pid_t pid);

/* Its report has been written: the death is not pending any more. */
void daemon_report_done(struct daemon *d, const char *crash_id, const char *path, const char *cause);

/* Tells the logger about it (again). */
void daemon_open_output(struct daemon *d);

void daemon_set_config(struct daemon *d, const struct daemon_config *cfg);

const char *daemon_get_name(const struct daemon *d);
const char *daemon_get_file(const struct daemon *d); /* "train@0" */
const struct daemon_config *daemon_get_config(const struct daemon *d);
const struct registry_entry *daemon_get_entry(const struct daemon *d);
enum daemon_state daemon_get_state(const struct daemon *d);
pid_t daemon_get_pid(const struct daemon *d);
const char *daemon_get_error(const struct daemon *d); /* why the last start failed, "" if it did not */
uint64_t daemon_get_starts(const struct daemon *d);   /* grows with every attempt */
bool daemon_is_sweeping(const struct daemon *d);      /* ended, but parts of its tree are still being ended */
bool daemon_is_ephemeral(const struct daemon *d);
void daemon_set_ephemeral(struct daemon *d, struct config *own); /* `supervise run`; takes its configuration */

/* The "daemon" object of control.h. */
cJSON *daemon_to_json(const struct daemon *d);
