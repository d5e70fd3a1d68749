/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The configuration in force: what supervise.yaml and its includes, templates, defaults and variables come to.
 *
 * The command line reads and checks the YAML (config_load) and hands the result to the supervisor as JSON
 * (config_to_json / config_from_json), so a supervisor that is restarted goes on with the last accepted
 * configuration, not with a file that is half edited.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/resource.h>

#include "base/cleanup.h"
#include "base/error.h"
#include "base/json.h"
#include "log/level.h"

enum restart_policy { RESTART_UNKNOWN = 0, RESTART_ALWAYS, RESTART_ON_FAILURE, RESTART_NEVER, _RESTART_MAX };
enum log_format { FORMAT_UNKNOWN = 0, FORMAT_JSON, FORMAT_TEXT, FORMAT_RAW, _FORMAT_MAX };
enum log_compress { COMPRESS_UNKNOWN = 0, COMPRESS_ZSTD, COMPRESS_NONE, _COMPRESS_MAX };
enum capture_wish { WISH_UNKNOWN = 0, WISH_AUTO, WISH_PRELOAD, WISH_PTRACE, WISH_STATUS, WISH_OFF, _WISH_MAX };
enum store_type { STORE_UNKNOWN = 0, STORE_SQLITE, STORE_NONE, _STORE_TYPE_MAX };

struct config_place {
	const char *file; /* one of config.files; borrowed from the config */
	unsigned line, column;
};

struct restart_config {
	enum restart_policy policy;
	uint64_t delay_ms;     /* before the first restart */
	double factor;         /* each further delay is this much longer; >= 1 */
	uint64_t max_delay_ms;
	double jitter;         /* 0..1: a delay is spread by up to this share */
	unsigned limit;        /* this many restarts within window_ms, then failed; 0: no limit */
	uint64_t window_ms;
	uint64_t reset_after_ms; /* running this long forgives the delays so far */
	uint8_t when_exit[32];   /* bit set: this exit code counts as failure (on-failure restarts on it) */
	uint64_t when_signals;   /* bit (signal - 1): this death counts as failure */
	uint8_t never[32];       /* exit codes after which it is never restarted */
};

struct limit_config {
	int resource; /* RLIMIT_... */
	rlim_t soft, hard;
};

struct daemon_config {
	char *name;      /* "ingest", or "train/0" for an instance */
	char *base;      /* "train": the key in the file; equal to name without instances */
	int instance;    /* its number, or -1 */
	char **command;  /* NULL-terminated argv; with `shell: true`: /bin/sh -c TEXT */
	char *description; /* may be NULL, as every string below */
	char *directory;   /* absolute; default: the folder of the main file */
	char **environment; /* NULL-terminated "KEY=VALUE", set over what the supervisor was started with */
	int umask;          /* -1: leave */
	int nice;           /* added to the supervisor's; 0: leave */
	struct limit_config *limits;
	size_t n_limits;
	bool autostart;
	struct restart_config restart;
	uint64_t start_timeout_ms; /* from fork to the program's first instruction; then killed */
	struct {
		int signal;
		uint64_t timeout_ms; /* then SIGKILL; 0: SIGKILL at once */
		bool tree;           /* the whole tree is ended, also what left the group or the session */
	} stop;
	struct {
		enum log_format format;
		enum log_level level; /* records below are not kept in the store */
		uint64_t max_size;    /* bytes; a file is rotated before it would pass this; 0: never */
		unsigned keep;        /* rotated files kept */
		enum log_compress compress;
	} logging;
	struct {
		enum capture_wish mode;
		bool all_threads; /* threads: all | crashed */
		unsigned source;  /* lines of source shown around the crash line, 0..20 */
	} capture;
	struct {
		bool unbuffered;   /* PYTHONUNBUFFERED=1 unless the daemon sets it */
		bool faulthandler; /* PYTHONFAULTHANDLER=1 unless the daemon sets it */
	} python;
	char *experiment, *stage, *node;
	bool network; /* program or folder on a network file system: starting it may hang, and must not hang others */
	char digest[17];           /* 16 hex digits over everything a running process would have to be restarted for */
	struct config_place place; /* of its key, for messages */
};

struct config {
	char *name;
	char *path;     /* absolute path of the main file */
	char **files;   /* NULL-terminated: every file read, the main one first, env files last */
	char digest[17]; /* over the bytes of all files: "changed on disk" compares it */
	struct {
		bool enable_database_logging; /* daemons' lines become pipeline_logs rows */
		unsigned log_batch_size;
		uint64_t log_flush_interval_ms;
		bool enable_metrics;
		uint64_t metrics_interval_ms;
	} monitoring;
	struct {
		enum store_type type;
	} store;
	bool transient; /* the supervisor leaves when its last daemon has ended: supervise run */
	struct daemon_config *daemons; /* instances expanded, in file order */
	size_t n_daemons;
};

/* One finding of config_load(). */
struct config_problem {
	char *file;
	unsigned line, column, end_column; /* 1-based; columns count characters */
	bool warning;
	char *code;    /* "unknown-key", "type", ...: stable, for editors */
	char *message; /* "unknown key 'autostrt' in daemon 'ingest'" */
	char *hint;    /* "Did you mean 'autostart'?", or NULL */
	char *source;  /* the line it is about; NULL where it might hold a secret */
};

struct config_problems {
	struct config_problem *items; /* sorted by file (in the order they were read) and position */
	size_t n;
};

void config_problems_free(struct config_problems *p);

/**
 * config_load() - read a configuration file, its includes and env files
 * @path:      the main file
 * @ret:       the whole configuration; written on success alone; config_free() it
 * @problems:  every finding, warnings too, also on success; config_problems_free() it
 *
 * Finds all problems of all files in one run.
 *
 * Return:  0; -EINVAL when there is any error; -ENOENT, -EACCES... when the main file cannot be read (one problem
 *          says so); -ENOMEM
 */
int config_load(const char *path, struct config **ret, struct config_problems *problems);

/**
 * config_peek_name() - the project that a file is about, however many mistakes it has
 * @ret:  its `name`, else the name made of the folder; the caller frees
 *
 * Return:  0 or -errno of reading the file
 */
int config_peek_name(const char *path, char **ret);

struct config *config_free(struct config *c);
DEFINE_CLEANUP(struct config *, config_free)

/**
 * config_print_problems() - for people: "file:line:column: error: message. hint", source line, caret; a count at the end
 * @colour:  bold and red
 */
void config_print_problems(const struct config_problems *p, FILE *out, bool colour);

/* An array of {file, line, column, end, severity, code, message, hint}: for editors. NULL: no memory */
cJSON *config_problems_to_json(const struct config_problems *p);

/* The whole configuration as JSON, and back (checked like any input). */
cJSON *config_to_json(const struct config *c);
int config_from_json(const cJSON *j, struct config **ret, struct error *err);

const struct daemon_config *config_find(const struct config *c, const char *name);

/*
 * Digest of the files as they are on disk now, to be compared with config.digest. Return: 0 or -errno (-ENOENT: one is
 * gone). A file that has come to match an `include` since, or an optional one that was missing, is not noticed.
 */
int config_files_digest(const struct config *c, char ret[17]);

/*
 * A configuration of one daemon without a file, for `supervise run`: defaults, restart never, store sqlite, transient,
 * in the current folder. @daemon NULL: without any. Return: 0; -EINVAL for a name or an empty @argv; -EILSEQ when a word or the folder is not UTF-8
 */
int config_make_run(struct config **ret, const char *project, const char *daemon, char *const *argv);

/* JSON Schema (draft 2020-12) of supervise.yaml; the key list for scdoc: both from the one table. The caller frees. */
cJSON *config_schema(void);
char *config_schema_scdoc(void);

const char *restart_policy_to_string(enum restart_policy p);
const char *log_format_to_string(enum log_format f);
const char *log_compress_to_string(enum log_compress c);
const char *capture_wish_to_string(enum capture_wish w);
const char *store_type_to_string(enum store_type t);
