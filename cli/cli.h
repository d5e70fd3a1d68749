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
	CLI_CANT_CREATE = 73,
	CLI_IO = 74,
	CLI_TRY_AGAIN = 75,
	CLI_PERMISSION = 77,
	CLI_CONFIG = 78,
	CLI_TIMEOUT = 124,
	CLI_OWN_FAILURE = 125, /* run */
	CLI_NOT_EXECUTABLE = 126,
	CLI_NOT_FOUND = 127,
};

#define CLI_UNSET UINT64_MAX /* of a number: the option was not given */

/* Every option of every verb, parsed. The verb table says which verb takes which. */
struct cli_options {
	bool json, no_header, no_pager, utc, quiet, verbose, yes, help, version;
	bool wait, dry_run, follow, reverse, invert, traceback, raw, threads, full, exit_code, force, tree;
	const char *config, *project, *colour, *columns, *timeout, *signal; /* signal: an argument of the verb, not an option */
	const char *since, *until, *level, *search, *grep, *experiment, *node, *stage, *stream;
	const char *daemons[64]; /* -d */
	size_t n_daemons;
	uint64_t timeout_ms;     /* of --timeout; 0: none given */
	uint64_t limit, lines, pid, before, after, context; /* CLI_UNSET */
	char **args;             /* what is left, NULL-terminated; in argv */
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
	const char *verb;  /* its name */
};

enum option_kind {
	OPTION_NONE = 0,
	OPTION_FLAG,     /* bool */
	OPTION_TEXT,     /* const char * */
	OPTION_COUNT,    /* uint64_t */
	OPTION_DURATION, /* const char *, checked; the number beside it */
	OPTION_DAEMON,   /* may be repeated */
};

/* One option of the table. */
struct cli_option {
	const char *name;     /* long, without dashes */
	char letter;          /* 0: none */
	const char *argument; /* its name in help, or NULL */
	const char *help;
	enum option_kind kind;
	size_t offset;        /* in struct cli_options */
	const char *words;    /* blank-separated: nothing else is accepted, or NULL */
	const char *aliases;  /* blank-separated other spellings, accepted and not shown, or NULL */
};

enum {
	CLI_PROJECT = 1,       /* the verb works on a project: without one it does not run */
	CLI_MAYBE_PROJECT = 2, /* it takes a project into account when there is one */
	CLI_FILE = 4,          /* a configuration file must be there */
	CLI_COMMAND = 8,       /* what follows the first argument belongs to that command */
	CLI_HIDDEN = 16,
	CLI_READS = 32,        /* looks at what is there, also of a project that does not run */
};

struct cli_verb {
	const char *name;
	const char *aliases;   /* blank-separated, or NULL */
	const char *arguments; /* "NAME..." in the synopsis */
	const char *completes; /* "daemons", "crashes", "files", "verbs", "commands", "words A B", or NULL */
	const char *options;   /* blank-separated long names beyond the global ones */
	const char *summary;
	const char *help;      /* more lines, or NULL */
	int (*run)(struct cli *c);
	unsigned flags;
	int min_args, max_args; /* -1: any */
};

extern const struct cli_verb cli_verbs[];   /* ended by a NULL name */
extern const struct cli_option cli_options[]; /* ended by a NULL name */
extern const char cli_global_options[];

/* By name or alias. Return: NULL when there is none */
const struct cli_verb *cli_find_verb(const char *name);

/* Whether @name is one of the blank-separated words of @list, which may be NULL. */
bool cli_listed(const char *list, const char *name);
bool cli_is_global(const struct cli_option *x);
bool cli_takes(const struct cli_verb *v, const struct cli_option *x); /* @v may be NULL: global options alone */

/**
 * cli_parse() - find the verb and take the options, which may stand anywhere
 * @argv:      rearranged; o.args points into it
 * @ret_verb:  NULL when none was given
 *
 * "--" ends the options; so does the first argument of a verb with CLI_COMMAND. A word like "-1" is an argument.
 *
 * Return: 0, or an exit code after a message
 */
int cli_parse(struct cli_options *o, int argc, char **argv, const struct cli_verb **ret_verb);

/* "supervise: ..." on standard error, with a second line for the hint when it is not NULL. Return: @code */
int cli_fail(int code, const char *hint, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
/* The code that fits a failed system call. */
int cli_code(int r);
void cli_note(const struct cli *c, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* Fills in colours, glyphs and width; after the options. */
void cli_look_at_terminal(struct cli *c);

/* Fills in file, project and paths. Return: 0, or an exit code after a message */
int cli_find_project(struct cli *c, const struct cli_verb *v);

/* Whether a file of the configuration in force is not what the supervisor has read, or is gone. */
bool cli_config_changed(const struct cli *c);

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

/* The same, and what needs the project: "boot", "start" (of the first daemon named), "crash:ID". Return: 0 or exit code */
int cli_resolve_time(struct cli *c, const char *option, const char *text, int64_t *ret_us);

/* "12m ago"-style, and clock time today / date otherwise. Return: @ret (at least 40 bytes) */
char *cli_format_ago(int64_t us, int64_t now_us, char *ret);
char *cli_format_clock(int64_t us, bool utc, char *ret);

/* Adds the bytes that a base64 text stands for; stops at what is none. */
void cli_add_base64(struct text *t, const char *s);

/* Crash reports of the project since a time, by their files' times; the latest report of @id (as `crash show` takes it). */
unsigned crashes_count_since(const struct cli *c, int64_t since_us);
int crash_find(struct cli *c, const char *id, cJSON **ret); /* 0, or an exit code after a message */

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
int verb_manual(struct cli *c);

/* Prints help of one verb, or of all. */
void cli_print_help(FILE *out, const struct cli_verb *v);
