/* SPDX-License-Identifier: Apache-2.0 */
/* What the verbs of `supervise` share: options, where the project is, terminal, exit codes. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "base/json.h"
#include "base/paths.h"
#include "base/text.h"

/* Exit codes: LSB for status, sysexits(3) for the rest, timeout(1) for waits. The manual has the list. */
enum {
	CLI_OK = 0,
	CLI_FAILED = 1,
	CLI_STOPPED = 3,
	CLI_UNKNOWN = 4,
	CLI_USAGE = 64,
	CLI_DATA = 65,
	CLI_NO_INPUT = 66,
	CLI_UNAVAILABLE = 69,
	CLI_SOFTWARE = 70,
	CLI_OS = 71,
	CLI_CANT_CREATE = 73,
	CLI_IO = 74,
	CLI_TRY_AGAIN = 75,
	CLI_CONFIG = 78,
	CLI_TIMEOUT = 124,
	CLI_OWN_FAILURE = 125, /* run */
	CLI_NOT_EXECUTABLE = 126,
	CLI_NOT_FOUND = 127,
};

/* Every option of every verb, parsed. The verb table says which verb takes which. */
struct cli_options {
	const char *config, *project; /* -c, -p */
	bool json, no_headings, quiet, verbose, yes, utc, no_pager;
	bool wait, dry_run, follow, reverse, invert, traceback, raw, threads, full, exit_code, force, tree;
	uint64_t timeout_ms; /* 0: none given */
	const char *experiment, *node, *stage, *search, *grep, *stream, *since, *until, *level, *signal;
	const char *daemons[64]; /* -d */
	size_t n_daemons;
	int64_t pid;
	uint64_t limit; /* 0: none given */
	unsigned before, after;
	char **args; /* what is left, NULL-terminated */
	int n_args;
};

/* The terminal and where the project is; filled in by main(). */
struct cli {
	struct cli_options o;
	struct paths paths;
	char project[64];
	char *file;        /* the configuration file found, or NULL */
	bool have_paths;
	bool colour, utf8; /* of standard output */
	bool colour_err;
	unsigned width;    /* columns of standard output; 0: not a terminal, no limit */
};

/* One option of the table. */
struct cli_option {
	const char *name; /* long, without dashes */
	char letter;      /* 0: none */
	const char *argument; /* its name in help, or NULL */
	const char *help;
};

struct cli_verb {
	const char *name;
	const char *aliases;   /* blank-separated, or NULL */
	const char *arguments; /* "NAME..." in the synopsis */
	const char *completes; /* "daemons", "crashes", "files", "verbs", "signals shells...", or NULL */
	const char *options;   /* blank-separated long names beyond the global ones */
	const char *summary;
	const char *help;      /* more lines, or NULL */
	int (*run)(struct cli *c);
	bool needs_project;
	bool needs_file; /* a configuration file must be there */
	int min_args, max_args; /* -1: any */
};

extern const struct cli_verb cli_verbs[];   /* ended by a NULL name */
extern const struct cli_option cli_options[]; /* ended by a NULL name */
extern const char cli_global_options[];

const struct cli_verb *cli_find_verb(const char *name);

/* "supervise: ..." on standard error, with a second line for the hint when it is not NULL. Return: @code */
int cli_fail(int code, const char *hint, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
void cli_note(const struct cli *c, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* "" when colour is off. */
const char *cli_sgr(const struct cli *c, const char *code);

void cli_print_json(const cJSON *j); /* one line and LF on standard output */

/* Puts a pager between standard output and the terminal, when that is one. */
void cli_page(struct cli *c);

/**
 * cli_parse_time() - "1h" (ago), "today", "yesterday 14:00", "14:00", RFC 3339, "2026-11-23 18:01", "@epoch"
 * @now_us: wall time
 * @utc:    words and times without a zone are UTC, else local
 *
 * Return: 0 or -EINVAL
 */
int cli_parse_time(const char *text, int64_t now_us, bool utc, int64_t *ret_us);

/* "12m ago"-style, and clock time today / date otherwise. Return: @ret (at least 40 bytes) */
char *cli_format_ago(int64_t us, int64_t now_us, char *ret);
char *cli_format_clock(int64_t us, bool utc, char *ret);

/* Global exit paths of the verbs, one function each. */
int verb_up(struct cli *c);
int verb_down(struct cli *c);
int verb_act(struct cli *c, const char *verb);
int verb_start(struct cli *c);
int verb_stop(struct cli *c);
int verb_restart(struct cli *c);
int verb_kill(struct cli *c);
int verb_signal(struct cli *c);
int verb_reload(struct cli *c);
int verb_status(struct cli *c);
int verb_show(struct cli *c);
int verb_logs(struct cli *c);
int verb_tail(struct cli *c);
int verb_events(struct cli *c);
int verb_crashes(struct cli *c);
int verb_crash(struct cli *c);
int verb_check(struct cli *c);
int verb_config(struct cli *c);
int verb_run(struct cli *c);
int verb_init(struct cli *c);
int verb_doctor(struct cli *c);
int verb_version(struct cli *c);
int verb_help(struct cli *c);
int verb_completion(struct cli *c);
int verb_complete(struct cli *c);

/* Prints help of one verb, or of all. */
void cli_print_help(FILE *out, const struct cli_verb *v);
