/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The table of keys, and the reading of single values. Nothing here knows YAML or JSON: a value is the text a
 * person wrote. What a word may be is decided by the key it stands at, never by its looks, so `no`, `1e3` and
 * `022` are text where text is wanted.
 */
#include "config/schema.h"

#include <ctype.h>
#include <errno.h>
#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "base/text.h"
#include "log/level.h"

#define DAEMON(field) offsetof(struct daemon_config, field)
#define FILE_(field)  offsetof(struct config, field)

enum { DAY_MS = 86400000, YEAR_DAYS = 365 };
#define LONG_MS \
	((int64_t)DAY_MS * YEAR_DAYS) /* the longest sensible wait: timers take it, sums do not overflow */

const struct word words_policy[] = {
	{ "always", RESTART_ALWAYS },
	{ "on-failure", RESTART_ON_FAILURE },
	{ "never", RESTART_NEVER },
	{ "no", 0, "never" },
	{ "false", 0, "never" },
	{ "off", 0, "never" },
	{ "yes", 0, "always" },
	{ "true", 0, "always" },
	{ "unless-stopped", 0, "always" },
	{ "unexpected", 0, "on-failure" },
	{ "on-abnormal", 0, "on-failure" },
	{ "on-abort", 0, "on-failure" },
	{ NULL },
};

const struct word words_format[] = {
	{ "json", FORMAT_JSON },
	{ "text", FORMAT_TEXT },
	{ "raw", FORMAT_RAW },
	{ "auto", FORMAT_JSON },
	{ "ndjson", 0, "json" },
	{ "plain", 0, "text" },
	{ "none", 0, "raw" },
	{ NULL },
};

const struct word words_compress[] = {
	{ "zstd", COMPRESS_ZSTD },
	{ "none", COMPRESS_NONE },
	{ "gzip", 0, "zstd" },
	{ "gz", 0, "zstd" },
	{ "true", 0, "zstd" },
	{ "false", 0, "none" },
	{ "no", 0, "none" },
	{ NULL },
};

const struct word words_wish[] = {
	{ "auto", WISH_AUTO },
	{ "preload", WISH_PRELOAD },
	{ "ptrace", WISH_PTRACE },
	{ "status", WISH_STATUS },
	{ "off", WISH_OFF },
	{ "inject", 0, NULL, true },
	{ "none", 0, "off" },
	{ "no", 0, "off" },
	{ "false", 0, "off" },
	{ "true", 0, "auto" },
	{ NULL },
};

const struct word words_store[] = {
	{ "sqlite", STORE_SQLITE },
	{ "none", STORE_NONE },
	{ "postgres", 0, NULL, true },
	{ "postgresql", 0, NULL, true },
	{ "sqlite3", 0, "sqlite" },
	{ "off", 0, "none" },
	{ NULL },
};

static const struct word words_threads[] = {
	{ "all", true },
	{ "crashed", false },
	{ NULL },
};

static const struct key keys_monitoring[] = {
	{ "enable_database_logging", SLOT_BOOL, 0, FILE_(monitoring.enable_database_logging),
	    .otherwise = "true",
	    .doc = "Whether the lines the daemons print become rows of the table `pipeline_logs`. Crashes "
		   "and events are "
		   "stored in any case." },
	{ "log_batch_size", SLOT_COUNT, 0, FILE_(monitoring.log_batch_size), 1, 100000, .otherwise = "100",
	    .doc = "Records that make a batch full, so that it is committed at once." },
	{ "log_flush_interval", SLOT_DURATION, 0, FILE_(monitoring.log_flush_interval_ms), 1, LONG_MS,
	    .otherwise = "5s", .doc = "The longest a record waits for its batch to fill." },
	{ "enable_metrics", SLOT_BOOL, 0, FILE_(monitoring.enable_metrics), .otherwise = "true",
	    .doc = "Whether memory and CPU of the daemons are sampled." },
	{ "metrics_interval", SLOT_DURATION, 0, FILE_(monitoring.metrics_interval_ms), 100, LONG_MS,
	    .otherwise = "10s", .doc = "Time between two samples." },
	{ "hang_after", SLOT_DURATION, KEY_LATER,
	    .doc = "Report a daemon that shows no progress and prints nothing." },
	{ NULL },
};

static const struct key keys_store[] = {
	{ "type", SLOT_WORD, 0, FILE_(store.type), .words = words_store, .otherwise = "sqlite",
	    .also = "kind backend driver",
	    .doc = "`sqlite`: an embedded database in the state folder. `none`: log files and crash reports "
		   "only." },
	{ "url", SLOT_TEXT, KEY_LATER, .also = "dsn uri", .doc = "Where the database server is." },
	{ "url_env", SLOT_TEXT, KEY_LATER, .doc = "The variable that says where the database server is." },
	{ "service", SLOT_TEXT, KEY_LATER, .doc = "An entry of the connection service file." },
	{ "passfile", SLOT_TEXT, KEY_LATER, .doc = "The password file." },
	{ "retention", SLOT_MAP, KEY_LATER, .doc = "How long rows and reports are kept." },
	{ "spool_max", SLOT_SIZE, KEY_LATER,
	    .doc = "The most the spool may hold while the database is away." },
	{ NULL },
};

static const struct key keys_when[] = {
	{ "exit", SLOT_CODES, 0, DAEMON(restart.when_exit), 0, 255, .otherwise = "1-255",
	    .also = "exits codes exit_codes",
	    .doc = "Exit codes that count as failure: a list of codes and ranges, as [1-127, 255]." },
	{ "signals", SLOT_SIGNALS, 0, DAEMON(restart.when_signals), .otherwise = "all", .also = "signal",
	    .doc = "Deaths by a signal that count as failure: `all`, or a list of names. [] is none." },
	{ NULL },
};

static const struct key keys_restart[] = {
	{ "policy", SLOT_WORD, 0, DAEMON(restart.policy), .words = words_policy, .otherwise = "on-failure",
	    .also = "condition mode when_to",
	    .doc = "`always`: after every end that was not asked for. `on-failure`: after an end that `when` "
		   "counts as "
		   "failure. `never`." },
	{ "delay", SLOT_DURATION, 0, DAEMON(restart.delay_ms), 0, LONG_MS, .otherwise = "1s",
	    .also = "wait sleep backoff sec", .doc = "Wait before the first restart." },
	{ "factor", SLOT_FACTOR, 0, DAEMON(restart.factor), 1, 1000, .otherwise = "2", .also = "multiplier",
	    .doc = "Each further wait is this many times the one before." },
	{ "max_delay", SLOT_DURATION, 0, DAEMON(restart.max_delay_ms), 0, LONG_MS, .otherwise = "60s",
	    .also = "delay_max cap ceiling", .doc = "The longest wait. A `delay` above it raises it." },
	{ "jitter", SLOT_SHARE, 0, DAEMON(restart.jitter), .otherwise = "20%", .also = "random spread",
	    .doc = "Each wait is made longer or shorter by up to this share, so that many daemons do not "
		   "return at the same "
		   "instant. 20% and 0.2 are the same." },
	{ "limit", SLOT_COUNT, 0, DAEMON(restart.limit), 0, 1000000, .otherwise = "10",
	    .also = "max retries max_retries max_attempts attempts burst startretries",
	    .doc = "After this many restarts within `window` the daemon is failed and stays down until it is "
		   "started by "
		   "hand. 0: no limit." },
	{ "window", SLOT_DURATION, 0, DAEMON(restart.window_ms), 1, LONG_MS, .otherwise = "10m",
	    .also = "interval period", .doc = "The time in which restarts are counted against `limit`." },
	{ "reset_after", SLOT_DURATION, 0, DAEMON(restart.reset_after_ms), 0, LONG_MS, .otherwise = "5m",
	    .also = "reset",
	    .doc = "Once a daemon has run this long, the next wait is `delay` again. 0: never." },
	{ "when", SLOT_MAP, .keys = keys_when, .doc = "Which ends count as failure." },
	{ "never", SLOT_CODES, 0, DAEMON(restart.never), 0, 255, .otherwise = "",
	    .also = "except exclude exitcodes",
	    .doc = "Exit codes after which the daemon is not restarted, whatever the policy." },
	{ NULL },
};

static const struct key keys_stop[] = {
	{ "signal", SLOT_SIGNAL, 0, DAEMON(stop.signal), .otherwise = "TERM",
	    .also = "stopsignal sig kill_signal", .doc = "The signal that asks the daemon to end." },
	{ "timeout", SLOT_DURATION, 0, DAEMON(stop.timeout_ms), 0, LONG_MS, .otherwise = "10s",
	    .also = "grace grace_period wait stopwaitsecs",
	    .doc = "What has not ended by then is killed. 0: killed at once." },
	{ "tree", SLOT_BOOL, 0, DAEMON(stop.tree), .otherwise = "true",
	    .also = "group stopasgroup killasgroup recursive",
	    .doc = "Whether all descendants are ended too, also those that left the process group or the "
		   "session." },
	{ NULL },
};

static const struct key keys_logging[] = {
	{ "format", SLOT_WORD, 0, DAEMON(logging.format), .words = words_format, .otherwise = "json",
	    .doc = "`json`: one JSON object a line, with time and level. `text`: time, level and text. "
		   "`raw`: the bytes as "
		   "they came. `auto` is `json`." },
	{ "level", SLOT_WORD, 0, DAEMON(logging.level), .otherwise = "INFO", .also = "min_level severity",
	    .doc = "Lines below this level are not kept in the store; the log file has them. `DEBUG`, "
		   "`INFO`, `WARNING`, "
		   "`ERROR` or `CRITICAL`." },
	{ "max_size", SLOT_SIZE, 0, DAEMON(logging.max_size), .otherwise = "50M",
	    .also = "size maxbytes max_file_size rotate",
	    .doc = "A log file is rotated before it grows past this. 0: never." },
	{ "keep", SLOT_COUNT, 0, DAEMON(logging.keep), 0, 1000000, .otherwise = "10",
	    .also = "backups max_file max_files count", .doc = "Rotated files kept beside the current one." },
	{ "compress", SLOT_WORD, 0, DAEMON(logging.compress), .words = words_compress, .otherwise = "zstd",
	    .also = "compression", .doc = "How rotated files are compressed: `zstd` or `none`." },
	{ "redact", SLOT_NONE, KEY_LATER, .doc = "Words whose values are blotted out." },
	{ "multiline", SLOT_NONE, KEY_LATER, .doc = "How lines that belong together are found." },
	{ "progress", SLOT_NONE, KEY_LATER, .doc = "How progress bars are read." },
	{ "rate_limit", SLOT_NONE, KEY_LATER, .doc = "Lines a second that are kept." },
	{ "stderr_level", SLOT_NONE, KEY_LATER, .doc = "The level of what is printed on standard error." },
	{ "patterns", SLOT_NONE, KEY_LATER, .doc = "Rules for grouping lines." },
	{ NULL },
};

static const struct key keys_capture[] = {
	{ "mode", SLOT_WORD, KEY_START, DAEMON(capture.mode), .words = words_wish, .otherwise = "auto",
	    .also = "method",
	    .doc = "`auto`: the best way that works for the program. `preload`: a small library in the "
		   "program reports the "
		   "crash. `ptrace`: the supervisor traces the program all the time, which sees most and "
		   "slows down thread "
		   "creation and signals. `status`: no backtrace, only how it ended and its last output. "
		   "`off`: nothing." },
	{ "threads", SLOT_WORD, 0, DAEMON(capture.all_threads), .words = words_threads, .otherwise = "all",
	    .doc = "Backtraces of `all` threads, or of the `crashed` one." },
	{ "source", SLOT_COUNT, 0, DAEMON(capture.source), 0, 20, .otherwise = "3",
	    .also = "source_lines lines context",
	    .doc = "Lines of source code shown above and below the line that crashed." },
	{ "core", SLOT_NONE, KEY_LATER, .doc = "Whether a core file is written." },
	{ "stacks_on_stop_timeout", SLOT_BOOL, KEY_LATER,
	    .doc = "Record the stacks of what does not stop in time." },
	{ NULL },
};

static const struct key keys_python[] = {
	{ "unbuffered", SLOT_BOOL, KEY_START, DAEMON(python.unbuffered), .otherwise = "true",
	    .doc = "Sets PYTHONUNBUFFERED=1 unless the daemon sets it, so that no output is held back." },
	{ "faulthandler", SLOT_BOOL, KEY_START, DAEMON(python.faulthandler), .otherwise = "true",
	    .doc = "Sets PYTHONFAULTHANDLER=1 unless the daemon sets it, so that a crash prints the Python "
		   "stack." },
	{ NULL },
};

#define LIMIT(name, resource, u, ...)                                                    \
	{                                                                                \
		name, SLOT_LIMIT, KEY_START, .min = (resource), .unit = (u), __VA_ARGS__ \
	}

static const struct key keys_limits[] = {
	LIMIT("as", RLIMIT_AS, UNIT_BYTES, .also = "address_space virtual vmem",
	    .doc = "Address space, mappings of files and reservations included."),
	LIMIT("core", RLIMIT_CORE, UNIT_BYTES, .doc = "Size of a core file."),
	LIMIT(
	    "cpu", RLIMIT_CPU, UNIT_SECONDS, .also = "cpu_time", .doc = "Processor time, in whole seconds."),
	LIMIT("data", RLIMIT_DATA, UNIT_BYTES,
	    .doc = "Private writable memory: heap, anonymous maps, variables."),
	LIMIT("fsize", RLIMIT_FSIZE, UNIT_BYTES, .also = "file_size", .doc = "Size of a file it writes."),
	LIMIT("locks", RLIMIT_LOCKS, UNIT_COUNT, .doc = "File locks; no effect on today's Linux."),
	LIMIT("memlock", RLIMIT_MEMLOCK, UNIT_BYTES, .also = "locked", .doc = "Locked memory."),
	{ "memory", SLOT_LIMIT, KEY_START | KEY_ALIAS, .min = RLIMIT_DATA, .unit = UNIT_BYTES,
	    .also = "mem mem_limit ram rss",
	    .doc = "The same as `data`: of all limits the nearest to memory used, since address space that "
		   "is merely reserved "
		   "(threads, Java, Go, sanitizers) does not count." },
	LIMIT("msgqueue", RLIMIT_MSGQUEUE, UNIT_BYTES, .doc = "Bytes in POSIX message queues."),
	LIMIT("nofile", RLIMIT_NOFILE, UNIT_COUNT, .also = "files fds open_files descriptors",
	    .doc = "Open files."),
	LIMIT("nproc", RLIMIT_NPROC, UNIT_COUNT, .also = "processes threads pids",
	    .doc = "Processes and threads of the user."),
	LIMIT("rtprio", RLIMIT_RTPRIO, UNIT_COUNT, .doc = "Real-time priority."),
	LIMIT("sigpending", RLIMIT_SIGPENDING, UNIT_COUNT, .doc = "Queued signals."),
	LIMIT("stack", RLIMIT_STACK, UNIT_BYTES,
	    .doc = "Stack of the main thread; the default for further threads."),
	{ NULL },
};

const struct key keys_limit[] = {
	{ "soft", SLOT_NONE, .doc = "What applies; the program may raise it up to `hard`." },
	{ "hard", SLOT_NONE, .doc = "The most it may be raised to." },
	{ NULL },
};

const struct key keys_env_file[] = {
	{ "path", SLOT_PATH, .also = "file name", .doc = "The file." },
	{ "optional", SLOT_BOOL, .also = "required", .doc = "Whether it may be missing." },
	{ NULL },
};

const struct key keys_daemon[] = {
	{ "command", SLOT_COMMAND, KEY_START | KEY_NO_DEFAULT | KEY_NOT_HELD,
	    .also = "cmd exec run execstart args argv program entrypoint script start",
	    .doc = "What to run. A list is the program and its arguments as they are. A text is split into "
		   "words as a shell "
		   "splits them (quotes and backslashes count), but no shell runs; ask for one with `shell`. "
		   "A program without "
		   "a slash is looked for in PATH; a relative one counts from `directory`." },
	{ "shell", SLOT_BOOL, KEY_START | KEY_NO_DEFAULT | KEY_NOT_HELD, offsetof(struct draft, shell),
	    .otherwise = "false",
	    .doc = "Whether `command`, which must be a text then, is given to /bin/sh -c. Begin it with "
		   "`exec` when it is a single "
		   "program: it gets the signals itself then." },
	{ "extends", SLOT_EXTENDS, KEY_NO_DEFAULT | KEY_NOT_HELD, .also = "template inherits from base use",
	    .doc = "A template whose keys this daemon starts from." },
	{ "description", SLOT_TEXT, 0, DAEMON(description), .also = "comment summary title",
	    .doc = "One line for people, shown by `supervise status`." },
	{ "directory", SLOT_PATH, KEY_START, DAEMON(directory),
	    .also = "cwd chdir workdir working_dir workingdir working_directory workingdirectory dir folder",
	    .doc = "The folder it runs in; a relative one counts from the file it is written in, and ~/ is "
		   "the home folder. "
		   "Default: the folder of the main file." },
	{ "environment", SLOT_ENVIRONMENT, KEY_START | KEY_NOT_HELD,
	    .also = "env envs variables vars environ",
	    .doc = "Variables set for it, over those `supervise` was started with. Values are never shown in "
		   "messages." },
	{ "env_file", SLOT_ENV_FILES, KEY_START | KEY_NOT_HELD,
	    .also = "environment_file environmentfile dotenv env_files",
	    .doc = "A file of KEY=VALUE lines, or {path, optional}, or a list of these. A later file wins "
		   "over an earlier "
		   "one, `environment` over all." },
	{ "umask", SLOT_UMASK, KEY_START, DAEMON(umask), 0, 0777,
	    .doc =
		"File mode mask, always octal: 022, 0022 and \"022\" are the same. Default: left as it is." },
	{ "nice", SLOT_INT, KEY_START, DAEMON(nice), -20, 19, .otherwise = "0", .also = "priority niceness",
	    .doc = "Added to the niceness of `supervise`; higher is more polite." },
	{ "limits", SLOT_MAP, KEY_START, .keys = keys_limits,
	    .also = "ulimits ulimit rlimits rlimit resources",
	    .doc = "Resource limits: a number, size or duration, `unlimited`, or {soft, hard}. One value "
		   "sets both." },
	{ "autostart", SLOT_BOOL, 0, DAEMON(autostart), .otherwise = "true",
	    .also = "enabled enable auto_start", .doc = "Whether `supervise up` starts it." },
	{ "restart", SLOT_MAP, .keys = keys_restart, .short_form = "policy",
	    .also = "autorestart restart_policy respawn restarts",
	    .doc = "Whether and when it is started again: a policy, or this map." },
	{ "start_timeout", SLOT_DURATION, 0, DAEMON(start_timeout_ms), 0, LONG_MS, .otherwise = "30s",
	    .also = "startsecs timeout timeoutstartsec",
	    .doc = "A start that has not reached the program by then is given up. 0: no limit." },
	{ "stop", SLOT_MAP, .keys = keys_stop, .doc = "How it is ended." },
	{ "logging", SLOT_MAP, .keys = keys_logging, .also = "log logs output stdout stderr",
	    .doc = "Its log files." },
	{ "capture", SLOT_MAP, .keys = keys_capture, .short_form = "mode",
	    .also = "crash crashes backtrace coredump",
	    .doc = "How a crash is looked into: a mode, or this map." },
	{ "python", SLOT_MAP, .keys = keys_python, .doc = "Help for Python programs; others do not notice." },
	{ "experiment", SLOT_TEXT, KEY_START, DAEMON(experiment), .also = "experiment_id",
	    .doc = "The experiment its records belong to." },
	{ "stage", SLOT_TEXT, KEY_START, DAEMON(stage), .doc = "The stage its records belong to." },
	{ "node", SLOT_TEXT, KEY_START, DAEMON(node), .also = "node_id",
	    .doc = "The progress node its records belong to." },
	{ "instances", SLOT_COUNT, KEY_NO_DEFAULT | KEY_NOT_HELD, offsetof(struct draft, instances), 1, 1000,
	    .also = "numprocs replicas count scale copies processes",
	    .doc = "Run this many, called NAME/0, NAME/1 and so on. %i in any text of the daemon is the "
		   "number; %%i stays %i." },
	{ "depends_on", SLOT_NONE, KEY_LATER, .also = "requires after needs depends wants",
	    .doc = "Daemons that must be up before." },
	{ "ready", SLOT_NONE, KEY_LATER, .also = "readiness readiness_probe",
	    .doc = "How it is known to be ready." },
	{ "health", SLOT_NONE, KEY_LATER, .also = "healthcheck liveness liveness_probe",
	    .doc = "How it is known to be well." },
	{ "watchdog", SLOT_NONE, KEY_LATER, .also = "watchdogsec",
	    .doc = "The longest silence of its watchdog pings." },
	{ "on_change", SLOT_NONE, KEY_LATER, .also = "watch reload_on",
	    .doc = "Files whose change restarts it." },
	{ "group", SLOT_NONE, KEY_LATER, .also = "namespace groups", .doc = "A name for several daemons." },
	{ "type", SLOT_NONE, KEY_LATER, .doc = "Other kinds of daemon, such as one that runs once." },
	{ "schedule", SLOT_NONE, KEY_LATER, .also = "cron timer every",
	    .doc = "When it is started by the clock." },
	{ NULL },
};

const struct key keys_file[] = {
	{ "version", SLOT_VERSION, .otherwise = "1", .doc = "The version of this format: 1." },
	{ "name", SLOT_PROJECT, KEY_MAIN, FILE_(name), .also = "project project_name",
	    .doc = "The name of the project: lower-case letters, digits, `_`, `.` and `-`. Two projects of "
		   "one user never meet. "
		   "Default: the name of the folder of the file." },
	{ "include", SLOT_INCLUDE, .also = "includes import imports include_files files",
	    .doc = "Further files, or a list of them; `*`, `?` and [...] match as in a shell. Relative to "
		   "this file. They may "
		   "hold `version`, `include`, `templates` and `daemons`. A file is read once: a second time "
		   "is an error." },
	{ "env_file", SLOT_ENV_FILES, KEY_MAIN, .also = "dotenv environment_file env_files",
	    .doc = "Files of KEY=VALUE lines for ${VAR} in these files. A file, or {path, optional}, or a "
		   "list of these; a later one wins "
		   "over an earlier, and all over the environment. They do not reach the daemons by "
		   "themselves." },
	{ "monitoring", SLOT_MAP, KEY_MAIN, .keys = keys_monitoring,
	    .doc = "What is stored, and how often." },
	{ "store", SLOT_MAP, KEY_MAIN, .keys = keys_store, .short_form = "type",
	    .also = "database db storage", .doc = "Where records are kept: a type, or this map." },
	{ "defaults", SLOT_DEFAULTS, KEY_MAIN, .also = "default common global",
	    .doc = "Keys of a daemon (but `command`, `shell`, `extends` and `instances`) that every daemon "
		   "starts from." },
	{ "templates", SLOT_TEMPLATES, .also = "template",
	    .doc = "Keys of a daemon under a name, for `extends`. A template may itself extend another." },
	{ "daemons", SLOT_DAEMONS, .also = "services programs processes apps daemon",
	    .doc = "The daemons, each under its name: lower-case letters, digits, `_`, `.` and `-`, at most "
		   "63, beginning with a "
		   "letter or digit; not `all`." },
	{ "alerts", SLOT_NONE, KEY_LATER, .also = "notifications hooks", .doc = "Whom to tell of what." },
	{ "job", SLOT_NONE, KEY_LATER, .doc = "What to do at the end of a batch job." },
	{ NULL },
};

const struct key *schema_find(const struct key *keys, const char *name)
{
	for (const struct key *k = keys; k->name; k++)
		if (!strcmp(k->name, name))
			return k;
	return NULL;
}

static bool listed(const char *list, const char *word)
{
	size_t n = strlen(word);

	for (const char *p = list; p && n;) {
		size_t m = strcspn(p, " ");

		if (m == n && !strncasecmp(p, word, n))
			return true;
		p = p[m] ? p + m + 1 : NULL;
	}
	return false;
}

const struct key *schema_suggest(const struct key *keys, const char *name)
{
	const char *names[64], *best;
	size_t n = 0;

	for (const struct key *k = keys; k->name; k++)
		if (listed(k->also, name))
			return k;
	for (const struct key *k = keys; k->name && n < ARRAY_SIZE(names); k++)
		names[n++] = k->name;
	best = text_nearest(name, names, n);
	return best ? schema_find(keys, best) : NULL;
}

const struct key *schema_home(const struct key *keys, const char *name)
{
	for (const struct key *k = keys; k->name; k++)
		if (k->keys && !(k->flags & KEY_LATER)) {
			const struct key *deeper;

			if (schema_find(k->keys, name))
				return k;
			deeper = schema_home(k->keys, name);
			if (deeper)
				return deeper;
		}
	return NULL;
}

bool schema_word_is_bool(const struct key *k)
{
	return k->words == words_threads;
}

const char *word_name(const struct word *words, int value)
{
	for (const struct word *w = words; w->name; w++)
		if (w->value == value && !w->means && !w->later)
			return w->name;
	return NULL;
}

static void list_words(const struct key *k, char *buf, size_t size)
{
	size_t n = 0, total = 0, i = 0;

	if (!k->words) {
		snprintf(buf, size, "DEBUG, INFO, WARNING, ERROR or CRITICAL");
		return;
	}
	for (const struct word *w = k->words; w->name; w++)
		total += !w->means && !w->later;
	buf[0] = '\0';
	for (const struct word *w = k->words; w->name; w++)
		if (!w->means && !w->later && n < size) {
			i++;
			n += (size_t)snprintf(buf + n, size - n, "%s%s", w->name,
			    i == total       ? ""
			    : i + 1 == total ? " or "
					     : ", ");
		}
}

const char *slot_expects(const struct key *k, char *buf, size_t size)
{
	switch (k->slot) {
	case SLOT_TEXT:
	case SLOT_EXTENDS:
	case SLOT_PROJECT:
		return "a text";
	case SLOT_PATH:
		return "a path";
	case SLOT_BOOL:
		return "true or false";
	case SLOT_VERSION:
		return "the number 1";
	case SLOT_INT:
	case SLOT_COUNT:
		snprintf(buf, size, "a whole number from %lld to %lld", (long long)k->min, (long long)k->max);
		return buf;
	case SLOT_FACTOR:
		snprintf(buf, size, "a number from %lld to %lld", (long long)k->min, (long long)k->max);
		return buf;
	case SLOT_SHARE:
		return "a share such as 20% or 0.2";
	case SLOT_DURATION:
		return "a duration such as 10s, 5m or 1h30m";
	case SLOT_SIZE:
		return "a size such as 512K, 50M or 2G";
	case SLOT_WORD:
		list_words(k, buf, size);
		return buf;
	case SLOT_SIGNAL:
		return "a signal such as TERM, INT or USR1";
	case SLOT_SIGNALS:
		return "'all' or a list of signals such as [SEGV, ABRT]";
	case SLOT_CODES:
		return "a list of exit codes such as [1, 3, 64-78]";
	case SLOT_UMASK:
		return "an octal mask from 0 to 777";
	case SLOT_LIMIT:
		return k->unit == UNIT_BYTES ? "a size such as 512M, 'unlimited', or {soft, hard}"
		       : k->unit == UNIT_SECONDS
			   ? "a duration such as 30s or 2h, 'unlimited', or {soft, hard}"
			   : "a whole number, 'unlimited', or {soft, hard}";
	case SLOT_ENVIRONMENT:
		return "a map such as {KEY: value}";
	case SLOT_ENV_FILES:
		return "a path, a map {path, optional}, or a list of these";
	case SLOT_INCLUDE:
		return "a path or a list of paths";
	case SLOT_COMMAND:
		return "a list of words or a text";
	case SLOT_MAP:
		return k->short_form ? "a word or a map" : "a map";
	case SLOT_DEFAULTS:
	case SLOT_TEMPLATES:
	case SLOT_DAEMONS:
	default:
		return "a map";
	}
}

static int complain(const struct key *k, struct complaint *ret, const char *hint)
{
	char buf[160];

	snprintf(ret->what, sizeof(ret->what), "expects %s", slot_expects(k, buf, sizeof(buf)));
	snprintf(ret->hint, sizeof(ret->hint), "%s", hint ? hint : "");
	return 1;
}

static int set_bool(const struct key *k, const char *text, bool *field, struct complaint *ret)
{
	static const char *const yes[] = { "yes", "on", "y", "1" }, *const no[] = { "no", "off", "n", "0" };
	static const char *const both[] = { "true", "false" };
	const char *near;
	char hint[64];

	if (!strcmp(text, "true") || !strcmp(text, "false")) {
		*field = text[0] == 't';
		return 0;
	}
	for (size_t i = 0; i < ARRAY_SIZE(yes); i++) {
		if (!strcasecmp(text, yes[i]))
			return complain(k, ret, "Write true.");
		if (!strcasecmp(text, no[i]))
			return complain(k, ret, "Write false.");
	}
	near = text_nearest(text, both, ARRAY_SIZE(both));
	if (near)
		snprintf(hint, sizeof(hint), "Did you mean '%s'?", near);
	return complain(k, ret, near ? hint : NULL);
}

static int set_word(const struct key *k, const char *text, void *field, struct complaint *ret)
{
	static const char *const levels[] = { "DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL" };
	const char *names[32], *near = NULL;
	char hint[96];
	size_t n = 0;
	int value;

	if (!k->words) {
		enum log_level level = log_level_from_string(text);

		if (level != LEVEL_UNKNOWN) {
			memcpy(field, &level, sizeof(level));
			return 0;
		}
		near = text_nearest(text, levels, ARRAY_SIZE(levels));
		goto complain;
	}
	for (const struct word *w = k->words; w->name && n < ARRAY_SIZE(names); w++) {
		if (strcmp(w->name, text)) {
			if (!w->means && !w->later)
				names[n++] = w->name;
			if (!near && w->means && !strcasecmp(w->name, text))
				near = w->means;
			continue;
		}
		if (w->later) {
			ret->later = true;
			snprintf(ret->what, sizeof(ret->what), "'%s' is not supported yet", w->name);
			snprintf(ret->hint, sizeof(ret->hint), "%s", "");
			return 1;
		}
		if (w->means) {
			near = w->means;
			continue;
		}
		value = w->value;
		if (schema_word_is_bool(k))
			*(bool *)field = value;
		else
			memcpy(field, &value, sizeof(value));
		return 0;
	}
	if (!near)
		near = text_nearest(text, names, n);
complain:
	if (near)
		snprintf(hint, sizeof(hint), "Did you mean '%s'?", near);
	return complain(k, ret, near ? hint : NULL);
}

/* "12" or "64-78", more of them after commas. Return: 0 or 1 */
static int set_codes(const struct key *k, const char *text, uint8_t *field, struct complaint *ret)
{
	const char *p = text;

	while (*p) {
		unsigned long v[2];

		for (int i = 0; i < 2; i++) {
			char *end;

			while (*p == ' ')
				p++;
			if (!isdigit((unsigned char)*p))
				return complain(k, ret, NULL);
			v[i] = strtoul(p, &end, 10);
			if (v[i] > (unsigned long)k->max)
				return complain(k, ret, "Exit codes go from 0 to 255.");
			p = end;
			while (*p == ' ')
				p++;
			if (i == 0 && *p != '-') {
				v[1] = v[0];
				break;
			}
			if (i == 0)
				p++;
		}
		if (v[1] < v[0])
			return complain(k, ret, "The range runs backwards.");
		for (unsigned long c = v[0]; c <= v[1]; c++)
			field[c / 8] |= (uint8_t)(1u << (c % 8));
		if (*p == ',' && p[1])
			p++;
		else if (*p)
			return complain(k, ret, NULL);
	}
	return 0;
}

static int set_signal(const struct key *k, const char *text, int *field, struct complaint *ret)
{
	const char *names[32], *near;
	char hint[64];
	size_t n = 0;
	int sig = signal_from_name(text);

	if (sig > 0 && sig <= 64) {
		*field = sig;
		return 0;
	}
	for (int i = 1; i < 32; i++)
		if (sigabbrev_np(i))
			names[n++] = sigabbrev_np(i);
	near = text_nearest(strncasecmp(text, "SIG", 3) ? text : text + 3, names, n);
	if (near)
		snprintf(hint, sizeof(hint), "Did you mean '%s'?", near);
	return complain(k, ret, near ? hint : NULL);
}

static int set_text(const char *text, char **field)
{
	char *copy = strdup(text);

	if (!copy)
		return -ENOMEM;
	free(*field);
	*field = copy;
	return 0;
}

/* Digits with at most one point, nothing else: no exponent, no locale. */
static bool parse_plain_double(const char *s, double *ret)
{
	double v = 0, scale = 1;
	bool any = false;

	for (; isdigit((unsigned char)*s); s++, any = true)
		v = v * 10 + (*s - '0');
	if (*s == '.')
		for (s++; isdigit((unsigned char)*s); s++, any = true) {
			scale *= 10;
			v += (*s - '0') / scale;
		}
	if (!any || *s || v > 1e9)
		return false;
	*ret = v;
	return true;
}

int slot_set(const struct key *k, const char *text, void *field, struct complaint *ret)
{
	uint64_t u;
	int64_t i;
	double v;

	*ret = (struct complaint){ 0 };
	switch (k->slot) {
	case SLOT_TEXT:
		if (!*text)
			return complain(k, ret, "It is empty: leave the key out instead.");
		for (const char *p = text; *p; p++)
			if ((unsigned char)*p < 0x20 || *p == 0x7f)
				return complain(k, ret, "It must be one line without control characters.");
		if (strlen(text) > 1024)
			return complain(k, ret, "It is longer than 1024 bytes.");
		return set_text(text, field);
	case SLOT_PATH:
		return set_text(text, field);
	case SLOT_BOOL:
		return set_bool(k, text, field, ret);
	case SLOT_INT:
		if (parse_i64(text, &i) || i < k->min || i > k->max)
			return complain(k, ret, NULL);
		*(int *)field = (int)i;
		return 0;
	case SLOT_COUNT:
		if (parse_i64(text, &i) || i < k->min || i > k->max)
			return complain(k, ret, NULL);
		*(unsigned *)field = (unsigned)i;
		return 0;
	case SLOT_FACTOR:
		if (!parse_plain_double(text, &v) || v < (double)k->min || v > (double)k->max)
			return complain(k, ret, NULL);
		*(double *)field = v;
		return 0;
	case SLOT_SHARE: {
		char number[32];
		size_t n = strlen(text);
		bool percent = n && text[n - 1] == '%';

		snprintf(number, sizeof(number), "%s", text);
		if (percent && n < sizeof(number))
			number[n - 1] = '\0';
		if (n >= sizeof(number) || !parse_plain_double(number, &v))
			return complain(k, ret, NULL);
		if (percent)
			v = round(v * 1e7) /
			    1e9; /* the double that 0.333 reads as: it survives being printed */
		if (v > 1)
			return complain(k, ret, "It is at most 100%.");
		*(double *)field = v;
		return 0;
	}
	case SLOT_DURATION:
		if (parse_duration_ms(text, &u))
			return complain(k, ret, NULL);
		if (u < (uint64_t)k->min)
			return complain(k, ret, u ? "It is too short." : "It must be more than 0.");
		if (u > (uint64_t)k->max)
			return complain(k, ret, "It is longer than a year.");
		*(uint64_t *)field = u;
		return 0;
	case SLOT_SIZE:
		if (parse_size(text, &u))
			return complain(k, ret, NULL);
		*(uint64_t *)field = u;
		return 0;
	case SLOT_WORD:
		return set_word(k, text, field, ret);
	case SLOT_SIGNAL:
		return set_signal(k, text, field, ret);
	case SLOT_SIGNALS:
		if (!strcmp(text, "all")) {
			*(uint64_t *)field = UINT64_MAX;
			return 0;
		} else {
			int sig = 0;

			if (set_signal(k, text, &sig, ret))
				return 1;
			*(uint64_t *)field |= UINT64_C(1) << (sig - 1);
			return 0;
		}
	case SLOT_CODES:
		return set_codes(k, text, field, ret);
	case SLOT_UMASK: {
		const char *p = text;
		unsigned mask = 0;

		if (p[0] == '0' && (p[1] == 'o' || p[1] == 'O'))
			p += 2;
		if (!*p || strlen(p) > 6)
			return complain(k, ret, NULL);
		for (; *p; p++) {
			if (*p == '8' || *p == '9')
				return complain(k, ret, "Octal digits go from 0 to 7.");
			if (*p < '0' || *p > '7')
				return complain(k, ret, NULL);
			mask = mask * 8 + (unsigned)(*p - '0');
		}
		if (mask > 0777)
			return complain(k, ret, NULL);
		*(int *)field = (int)mask;
		return 0;
	}
	default:
		return complain(k, ret, NULL);
	}
}

int slot_limit(const struct key *k, const char *text, rlim_t *ret_value, struct complaint *ret)
{
	uint64_t u;

	*ret = (struct complaint){ 0 };
	if (!strcmp(text, "unlimited") || !strcmp(text, "infinity")) {
		*ret_value = RLIM_INFINITY;
		return 0;
	}
	switch (k->unit) {
	case UNIT_BYTES:
		if (parse_size(text, &u))
			return complain(k, ret, NULL);
		break;
	case UNIT_SECONDS:
		if (parse_duration_ms(text, &u))
			return complain(k, ret, NULL);
		u = (u + 999) / 1000;
		break;
	case UNIT_COUNT:
	default:
		if (parse_u64(text, &u) || u > INT64_MAX)
			return complain(k, ret, NULL);
		break;
	}
	*ret_value = u;
	return 0;
}

int schema_set_defaults(const struct key *keys, void *base)
{
	for (const struct key *k = keys; k->name; k++) {
		struct complaint c;
		int r = 0;

		if (k->flags & KEY_LATER)
			continue;
		if (k->slot == SLOT_MAP)
			r = schema_set_defaults(k->keys, base);
		else if (k->slot == SLOT_CODES || k->slot == SLOT_SIGNALS)
			memset(key_field(k, base), 0, k->slot == SLOT_CODES ? 32 : sizeof(uint64_t));
		else if (k->slot == SLOT_TEXT || k->slot == SLOT_PATH) {
			free(*(char **)key_field(k, base));
			*(char **)key_field(k, base) = NULL;
		} else if (k->slot == SLOT_UMASK)
			*(int *)key_field(k, base) = -1;
		if (k->otherwise && k->slot < SLOT_MAP)
			r = slot_set(k, k->otherwise, key_field(k, base), &c);
		if (r)
			return r < 0 ? r : -EINVAL; /* a default that does not read is a mistake of ours; a
						       test sees it */
	}
	return 0;
}

void schema_free_fields(const struct key *keys, void *base)
{
	for (const struct key *k = keys; k->name; k++) {
		if (k->flags & KEY_LATER)
			continue;
		if (k->slot == SLOT_MAP)
			schema_free_fields(k->keys, base);
		else if (k->slot == SLOT_TEXT || k->slot == SLOT_PATH) {
			free(*(char **)key_field(k, base));
			*(char **)key_field(k, base) = NULL;
		}
	}
}
