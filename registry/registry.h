/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The registry: which daemons there are and which process each one is. It is what a restarted supervisor starts from,
 * and what other tools read.
 *
 *   registry.json     whole state, replaced atomically, at most every REGISTRY_COALESCE_MS: `jq` always sees a whole file
 *   registry.journal  one line per change since, "CRC32C-hex SP JSON LF", appended with write(2) before registry_put()
 *                     returns: so the registry is never behind by more than the daemon being forked (and that one is
 *                     found by the nonce in its environment)
 *   pid/FILE.pid      "PID\n" of the running process, for other tools; we ourselves never trust it
 *
 * A kill -9 between any two system calls leaves either the change or its absence: a torn last journal line fails its
 * CRC and is dropped, and a journal that was not truncated after a snapshot holds only changes the snapshot has too
 * (each carries a serial; smaller ones are skipped).
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"
#include "base/json.h"
#include "base/proc.h"

enum {
	REGISTRY_COALESCE_MS = 250,
	REGISTRY_TIMES_MAX = 64,
};

struct registry;

/* How a process ended. */
struct exit_info {
	bool known;     /* false: gone, but nobody could learn how */
	int status;     /* as wait(2) gives it */
	int64_t at_us;  /* wall time; 0: never ended yet */
	pid_t pid;
	uint64_t uptime_ms;
	uint64_t max_rss_bytes, utime_us, stime_us; /* 0 when unknown */
	char cause[160];   /* "SIGSEGV in fit_kernel (kernels.c:88)", "exit 3", "stopped", "exec ./x: No such file..." */
	char crash_id[37]; /* UUID text, "" when there is no report */
	bool failure;      /* counts as failure */
};

struct registry_entry {
	char *name;       /* "train/0" */
	char *state;      /* lifecycle state name */
	bool wanted;      /* it should be up */
	struct proc_id id; /* pid 0: none */
	pid_t pgid;
	char nonce[33];   /* SUPERVISE_NONCE of the incarnation, hex */
	char run[37];     /* SUPERVISE_RUN, UUID text */
	int64_t since_us;   /* in this state since */
	int64_t started_us; /* this or the last incarnation's start */
	unsigned restarts;  /* since the last start by a person */
	unsigned streak;    /* restarts in a row that the next delay is computed from */
	int64_t restart_at_us; /* backoff: next try, wall time; 0 otherwise */
	int64_t *restart_times_us; /* of the latest restarts, newest last, for the window; at most REGISTRY_TIMES_MAX */
	unsigned n_restart_times;
	struct exit_info last_exit;
	char pending_crash[37]; /* a death whose report and rows are not written yet; "" otherwise */
	char *log_path, *report_path; /* may be NULL */
	char digest[17];        /* of the daemon_config it was started with */
	char capture_mode[16];  /* "preload", "ptrace", "status", "off", "" */
	char capture_reason[128];
};

/**
 * registry_open() - load what is there and begin a new registry on top of it
 * @folder:  the runtime folder
 * @err:     on success too: text when something was damaged and set aside as registry.json.damaged-TIME, else empty
 *
 * A registry of an earlier boot is kept for its history (last exits, wanted) but its pids are cleared. Garbage is
 * renamed, never deleted, and loading goes on with what is left.
 *
 * Return:  0 or -errno
 */
int registry_open(struct registry **ret, const char *folder, struct error *err);
struct registry *registry_close(struct registry *r); /* writes the snapshot if anything changed */
DEFINE_CLEANUP(struct registry *, registry_close)

/* Whole-registry facts shown in registry.json. Strings are copied. */
void registry_set_header(struct registry *r, const char *project, const char *config_path, pid_t supervisor);

/* The entry of @name, or NULL. Borrowed until the next put or remove. */
const struct registry_entry *registry_find(const struct registry *r, const char *name);
size_t registry_count(const struct registry *r);
const struct registry_entry *registry_at(const struct registry *r, size_t i);

/**
 * registry_put() - record the present state of one daemon
 * @e:  copied, strings too
 *
 * Appends to the journal, and writes or removes pid/FILE.pid when the pid changed.
 *
 * Return:  0 or -errno (the state in memory is updated all the same, and the snapshot tries again)
 */
int registry_put(struct registry *r, const struct registry_entry *e);
int registry_remove(struct registry *r, const char *name);

/* Milliseconds until registry_flush() wants to be called, or -1 when nothing changed. */
int registry_get_timeout(const struct registry *r);

/* Writes registry.json and begins a new journal. Return: 0 or -errno */
int registry_flush(struct registry *r);

/* Reading from another process (`supervise status` while the supervisor is down): snapshot plus journal, no lock. */
int registry_read(const char *folder, cJSON **ret, struct error *err);

/* One entry as the JSON object that registry.json and the control socket show. */
cJSON *registry_entry_to_json(const struct registry_entry *e);
