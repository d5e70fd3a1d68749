/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The crash report: one JSON object, schema "supervise.crash/1" (supervise-crash(5)). The supervisor makes a raw report
 * of what it knows itself; the symbolizer reads that and the snapshot, and prints the complete one. If the
 * symbolizer fails, the raw report stands, with "complete": false and "symbolizer_error".
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/json.h"
#include "base/text.h"
#include "base/uuid.h"

/* What the supervisor knows about a death. Strings are borrowed; NULL where unknown. */
struct crash_context {
	struct uuid id;
	const char *project, *host, *boot_id;
	const char *daemon;  /* "train/0" */
	const char *run;     /* incarnation */
	const char *const *argv; /* as configured; values after words like --password are masked by report_new_raw() */
	const char *directory;
	const char *experiment, *stage, *node;
	uid_t uid;
	pid_t pid;
	int64_t started_us, died_us;
	bool status_known;
	int status; /* wait(2) */
	bool stop_timeout; /* we killed it: it had not ended within stop.timeout */
	uint64_t max_rss_bytes, utime_us, stime_us;
	unsigned restarts, restart_limit;
	const char *next;   /* what was decided: "restart in 4 s (2 of 10 in 10 min)", "given up", "none" */
	const char *capture_mode, *capture_reason;
	uint64_t held_us;
	pid_t snapshot_pid; /* 0: no snapshot; differs from pid when a descendant crashed */
	const char *exec_error; /* "exec ./x: No such file or directory", else NULL */
	const cJSON *tail;  /* array as in output/protocol.h "drained"; NULL: none */
	bool all_threads;
	unsigned source_lines;
};

/* Return: the report (caller deletes), or NULL when memory ran out. Fills "summary" as far as the status tells. */
cJSON *report_new_raw(const struct crash_context *c);

/**
 * report_summarize() - make "summary" (and "exit"."text") from the other members
 * @report:  changed; "signal" is used if it is there, as is "last_output"
 * @where:   "function (file:line)" of the frame that matters, or NULL
 */
void report_summarize(cJSON *report, const char *where);

/* The frame of the crashed thread that matters: the first that is not machinery, its caller if that is a library. */
const cJSON *report_where_frame(const cJSON *report);

/* Its "function (file:line)". Return: @ret, or NULL */
const char *report_where(const cJSON *report, char *ret, size_t size);

/* The crashed thread's frames as plain text, the other threads below: member "traceback". */
void report_add_traceback(cJSON *report);

/* Crash signals and their codes: "segmentation fault", "SEGV_MAPERR". Return: static text, or NULL */
const char *report_signal_text(int sig);
const char *report_code_name(int sig, int code);

/*
 * Members that every report has, raw or complete, and that supervisor and command line use:
 *   "schema", "crash_id", "short_id" (last 8 hex digits of the id), "complete", "project", "host", "daemon", "run", "pid",
 *   "experiment", "stage", "node", "started_at", "died_at", "uptime_ms", "exit": {"known","code"|"signal","core","text"},
 *   "summary": {"cause": "SIGSEGV", "where": "fit_kernel (kernels.c:88)" | null,
 *               "sentence": "segmentation fault reading address 0x18 in fit_kernel (kernels.c:88)"},
 *   "traceback": plain text of the crashed thread's frames (all threads below), or null,
 *   "fingerprint": {"group","exact"} | null, "last_output": [...], "next", "capture": {"mode","reason","held_us"},
 *   "resources": {"max_rss_bytes","user_us","system_us"}, "threads": [...], "modules": [...]
 * A complete one has "signal", "process", "registers", "code" and "memory" as well; see supervise-crash(5).
 */

/**
 * report_render() - the report as text for people, as `supervise crash show` prints it
 * @out:     appended to; control bytes escaped
 * @colour:  SGR sequences for a terminal
 * @width:   columns to fit, 0 for unlimited
 */
struct report_render_options {
	bool colour, all_threads, full, utf8;
	unsigned width;
};
void report_render(const cJSON *report, const struct report_render_options *o, struct text *out);

/* "crash/TIME-FILE-SHORTID.json" below the state folder. Return: @ret */
char *report_file_name(const cJSON *report, char *ret, size_t size);
