/* SPDX-License-Identifier: Apache-2.0 */
#include "config/schema.h"

#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>

#include "config/config.h"

static const char *const restart_words[] = { "", "always", "on-failure", "never", NULL };
static const char *const format_words[] = { "", "json", "text", "raw", NULL };
static const char *const compress_words[] = { "", "zstd", "none", NULL };
static const char *const capture_words[] = { "", "auto", "preload", "ptrace", "status", "off", NULL };
static const char *const store_words[] = { "", "sqlite", "none", NULL };

#define D(member) offsetof(struct daemon_config, member)
#define C(member) offsetof(struct config, member)

static const struct slot when_slots[] = {
	{ "exit", SLOT_EXITS, D(restart.when_exit), .standard = "1-255",
	    .doc = "exit codes that count as failure: numbers and ranges, as a list or one text" },
	{ "signals", SLOT_SIGNALS, D(restart.when_signals), .standard = "all",
	    .doc = "deaths by signal that count as failure: *all*, *none*, or names" },
	{ 0 },
};

static const struct slot restart_slots[] = {
	{ "policy", SLOT_ENUM, D(restart.policy), .words = restart_words, .standard = "on-failure",
	    .doc = "when it is started again after it ended by itself" },
	{ "delay", SLOT_DURATION, D(restart.delay_ms), .standard = "1s", .doc = "before the first restart" },
	{ "factor", SLOT_FACTOR, D(restart.factor), .standard = "2", .doc = "each further delay is this much longer" },
	{ "max_delay", SLOT_DURATION, D(restart.max_delay_ms), .standard = "60s", .doc = "the longest delay" },
	{ "jitter", SLOT_SHARE, D(restart.jitter), .standard = "20%",
	    .doc = "delays are spread by up to this share, so that many daemons do not restart in step" },
	{ "limit", SLOT_UINT, D(restart.limit), .min = 0, .max = 64, .standard = "10",
	    .doc = "restarts within *window*, after which it is *failed*; 0: no limit" },
	{ "window", SLOT_DURATION, D(restart.window_ms), .standard = "10m", .doc = "the time that *limit* is about" },
	{ "reset_after", SLOT_DURATION, D(restart.reset_after_ms), .standard = "5m",
	    .doc = "running this long forgives the delays so far" },
	{ "when", SLOT_MAP, .sub = when_slots, .doc = "what counts as failure" },
	{ "never", SLOT_EXITS, D(restart.never), .standard = "", .doc = "exit codes after which it is never started again" },
	{ 0 },
};

static const struct slot stop_slots[] = {
	{ "signal", SLOT_SIGNAL, D(stop.signal), .standard = "TERM", .doc = "sent to its process group, followed by SIGCONT" },
	{ "timeout", SLOT_DURATION, D(stop.timeout_ms), .standard = "10s", .doc = "then SIGKILL; 0: SIGKILL at once" },
	{ "tree", SLOT_BOOL, D(stop.tree), .standard = "true",
	    .doc = "end everything below it too, also what left its group or session" },
	{ 0 },
};

static const struct slot logging_slots[] = {
	{ "format", SLOT_ENUM, D(logging.format), .words = format_words, .standard = "json",
	    .doc = "*json*: one object a line; *text*: time, stream, line; *raw*: the bytes as they came" },
	{ "level", SLOT_LEVEL, D(logging.level), .standard = "INFO", .doc = "lines below it are not kept in the store" },
	{ "max_size", SLOT_SIZE, D(logging.max_size), .standard = "50M",
	    .doc = "a log file is rotated before it would pass this; 0: never" },
	{ "keep", SLOT_UINT, D(logging.keep), .min = 0, .max = 10000, .standard = "10", .doc = "rotated files that are kept" },
	{ "compress", SLOT_ENUM, D(logging.compress), .words = compress_words, .standard = "zstd", .doc = "of rotated files" },
	{ "redact", SLOT_LATER },
	{ "multiline", SLOT_LATER },
	{ "progress", SLOT_LATER },
	{ "rate_limit", SLOT_LATER },
	{ "patterns", SLOT_LATER },
	{ 0 },
};

static const struct slot capture_slots[] = {
	{ "mode", SLOT_ENUM, D(capture.mode), .words = capture_words, .standard = "auto",
	    .doc = "how a crash is looked at; *auto* takes the best that works for the program" },
	{ "threads", SLOT_ALL_THREADS, D(capture.all_threads), .standard = "all", .doc = "*all* or *crashed*" },
	{ "source", SLOT_UINT, D(capture.source), .min = 0, .max = 20, .standard = "3",
	    .doc = "lines of source shown on either side of the line that crashed" },
	{ "core", SLOT_LATER },
	{ "stacks_on_stop_timeout", SLOT_LATER },
	{ 0 },
};

static const struct slot python_slots[] = {
	{ "unbuffered", SLOT_BOOL, D(python.unbuffered), .standard = "true",
	    .doc = "PYTHONUNBUFFERED=1, unless the daemon sets it" },
	{ "faulthandler", SLOT_BOOL, D(python.faulthandler), .standard = "true",
	    .doc = "PYTHONFAULTHANDLER=1, unless the daemon sets it" },
	{ 0 },
};

const struct slot daemon_slots[] = {
	{ "command", SLOT_COMMAND, D(command), .doc = "the program and its arguments: a list, or a text that is split into words "
						      "as a shell does; no shell is run unless *shell* says so" },
	{ "shell", SLOT_SHELL, .standard = "false", .doc = "run *command*, a text, by /bin/sh -c" },
	{ "description", SLOT_STRING, D(description), .doc = "what it is, for people" },
	{ "directory", SLOT_PATH, D(directory), .doc = "working folder; default: the folder of the main file" },
	{ "environment", SLOT_ENVIRONMENT, D(environment),
	    .doc = "variables set over those the supervisor was started with; merged with those of templates and defaults" },
	{ "env_file", SLOT_ENV_FILE, D(environment),
	    .doc = "files of KEY=VALUE lines: a name, a list, or {path: NAME, optional: true}; *environment* goes over them" },
	{ "umask", SLOT_OCTAL, D(umask), .doc = "octal" },
	{ "nice", SLOT_INT, D(nice), .min = -20, .max = 19, .standard = "0", .doc = "added to the supervisor's own" },
	{ "limits", SLOT_LIMITS, D(limits), .doc = "resource limits by name (see *getrlimit*(2)): a value, or {soft: V, hard: V}" },
	{ "autostart", SLOT_BOOL, D(autostart), .standard = "true", .doc = "started by *supervise up*" },
	{ "restart", SLOT_MAP, .sub = restart_slots, .word_key = "policy", .doc = "a policy, or a map" },
	{ "start_timeout", SLOT_DURATION, D(start_timeout_ms), .standard = "30s",
	    .doc = "from fork to the program's first instruction; then it is killed" },
	{ "stop", SLOT_MAP, .sub = stop_slots, .word_key = "signal", .doc = "how it is ended: a signal, or a map" },
	{ "logging", SLOT_MAP, .sub = logging_slots, .word_key = "format", .doc = "what becomes of its output" },
	{ "capture", SLOT_MAP, .sub = capture_slots, .word_key = "mode", .doc = "what is done when it crashes" },
	{ "python", SLOT_MAP, .sub = python_slots, .doc = "variables that Python programs want" },
	{ "experiment", SLOT_STRING, D(experiment), .doc = "name or id of the experiment it works for; in every record of it" },
	{ "stage", SLOT_STRING, D(stage), .doc = "stage of the pipeline; in every record of it" },
	{ "node", SLOT_STRING, D(node), .doc = "progress node; in every record of it" },
	{ "instances", SLOT_OUTER, .doc = "run this many: NAME/0, NAME/1, ...; *%i* in any text is the number" },
	{ "extends", SLOT_OUTER, .doc = "template it begins with" },
	{ "depends_on", SLOT_LATER },
	{ "ready", SLOT_LATER },
	{ "health", SLOT_LATER },
	{ "watchdog", SLOT_LATER },
	{ "hang", SLOT_LATER },
	{ "on_change", SLOT_LATER },
	{ "group", SLOT_LATER },
	{ "type", SLOT_LATER },
	{ "schedule", SLOT_LATER },
	{ 0 },
};

static const struct slot monitoring_slots[] = {
	{ "enable_database_logging", SLOT_BOOL, C(monitoring.enable_database_logging), .standard = "true",
	    .doc = "lines of daemons become rows of *pipeline_logs*; events and crashes always do" },
	{ "log_batch_size", SLOT_UINT, C(monitoring.log_batch_size), .min = 1, .max = 4096, .standard = "100",
	    .doc = "so many waiting records are written at once" },
	{ "log_flush_interval", SLOT_DURATION, C(monitoring.log_flush_interval_ms), .standard = "5s",
	    .doc = "and at the latest after this time" },
	{ "enable_metrics", SLOT_BOOL, C(monitoring.enable_metrics), .standard = "true", .doc = "sample resource use" },
	{ "metrics_interval", SLOT_DURATION, C(monitoring.metrics_interval_ms), .standard = "10s", .doc = "how often" },
	{ "hang_after", SLOT_LATER },
	{ 0 },
};

static const struct slot store_slots[] = {
	{ "type", SLOT_ENUM, C(store.type), .words = store_words, .standard = "sqlite",
	    .doc = "*sqlite*: a file in the state folder; *none*: log files and reports only" },
	{ "url", SLOT_LATER },
	{ "url_env", SLOT_LATER },
	{ "service", SLOT_LATER },
	{ "passfile", SLOT_LATER },
	{ "retention", SLOT_LATER },
	{ "spool_max", SLOT_LATER },
	{ 0 },
};

const struct slot config_slots[] = {
	{ "version", SLOT_OUTER, .doc = "of this format: 1" },
	{ "name", SLOT_OUTER, .doc = "of the project; default: the name of the folder the file is in" },
	{ "include", SLOT_OUTER, .doc = "further files, relative to this one; patterns with \\* and ? may be used" },
	{ "env_file", SLOT_OUTER, .doc = "files of KEY=VALUE lines for ${VAR} in this configuration; they go over the environment" },
	{ "monitoring", SLOT_MAP, .sub = monitoring_slots, .doc = "records and metrics" },
	{ "store", SLOT_MAP, .sub = store_slots, .word_key = "type", .doc = "where records are kept" },
	{ "defaults", SLOT_OUTER, .doc = "merged into every daemon; any key of a daemon" },
	{ "templates", SLOT_OUTER, .doc = "by name: daemons to begin with (*extends*)" },
	{ "daemons", SLOT_OUTER, .doc = "by name: lower-case letters, digits, '_', '.', '-', at most 63" },
	{ "job", SLOT_LATER },
	{ "alerts", SLOT_LATER },
	{ "pipelines", SLOT_LATER },
	{ 0 },
};

const struct slot *slot_find(const struct slot *table, const char *name)
{
	for (; table->name; table++)
		if (!strcmp(table->name, name))
			return table;
	return NULL;
}

bool slot_is_scalar(const struct slot *s)
{
	return s->type >= SLOT_STRING && s->type <= SLOT_SIGNALS;
}

/* --- lists of strings --------------------------------------------------------------------------------------------- */

void strv_free(char **v)
{
	for (char **p = v; p && *p; p++)
		free(*p);
	free(v);
}

static size_t strv_length(char *const *v)
{
	size_t n = 0;

	while (v && v[n])
		n++;
	return n;
}

int strv_add(char ***v, const char *s)
{
	size_t n = strv_length(*v);
	char **p = realloc(*v, (n + 2) * sizeof(*p)), *copy;

	if (!p)
		return -ENOMEM;
	*v = p;
	p[n] = NULL;
	copy = strdup(s);
	if (!copy)
		return -ENOMEM;
	p[n] = copy;
	p[n + 1] = NULL;
	return 0;
}

char **strv_dup(char *const *v)
{
	char **copy = calloc(strv_length(v) + 1, sizeof(*copy));

	for (size_t i = 0; copy && v && v[i]; i++) {
		copy[i] = strdup(v[i]);
		if (!copy[i]) {
			strv_free(copy);
			return NULL;
		}
	}
	return copy;
}

int strv_set_env(char ***v, const char *key, const char *value)
{
	_cleanup_text_ struct text t = { 0 };
	size_t n = strlen(key);

	text_addf(&t, "%s=%s", key, value);
	if (t.failed)
		return -ENOMEM;
	for (char **p = *v; p && *p; p++)
		if (!strncmp(*p, key, n) && (*p)[n] == '=') {
			free(*p);
			*p = text_take(&t);
			return 0;
		}
	return strv_add(v, t.data);
}

int words_split(const char *text, char ***ret, struct error *err)
{
	_cleanup_text_ struct text word = { 0 };
	char **words = NULL;
	bool any = false;
	const char *p = text;

	for (;; p++) {
		if (!*p || *p == ' ' || *p == '\t' || *p == '\n') {
			if (any) {
				text_add(&word, "");
				if (word.failed || strv_add(&words, word.data) < 0)
					goto no_memory;
				text_free(&word);
				any = false;
			}
			if (!*p)
				break;
			continue;
		}
		any = true;
		if (*p == '\\') {
			if (!p[1])
				goto unfinished;
			text_add_bytes(&word, ++p, 1);
		} else if (*p == '\'' || *p == '"') {
			char quote = *p;

			for (p++; *p && *p != quote; p++) {
				if (quote == '"' && *p == '\\' && p[1] && strchr("\"\\$`", p[1]))
					p++;
				text_add_bytes(&word, p, 1);
			}
			if (!*p)
				goto unfinished;
		} else if (strchr("|&;<>()`", *p)) {
			strv_free(words);
			return error_set(err, -EINVAL, "'%c' has no meaning here because no shell is run; quote it, or add 'shell: true'",
			    *p);
		} else {
			text_add_bytes(&word, p, 1);
		}
	}
	if (!words) {
		words = calloc(1, sizeof(*words));
		if (!words)
			return -ENOMEM;
	}
	*ret = words;
	return 0;
unfinished:
	strv_free(words);
	return error_set(err, -EINVAL, "a quote or backslash in the command is not finished");
no_memory:
	strv_free(words);
	return -ENOMEM;
}

/* --- limits ------------------------------------------------------------------------------------------------------- */

static const struct {
	const char *name;
	int resource;
} limits[] = { { "nofile", RLIMIT_NOFILE }, { "core", RLIMIT_CORE }, { "as", RLIMIT_AS }, { "memory", RLIMIT_AS },
	{ "cpu", RLIMIT_CPU }, { "fsize", RLIMIT_FSIZE }, { "data", RLIMIT_DATA }, { "stack", RLIMIT_STACK },
	{ "nproc", RLIMIT_NPROC }, { "memlock", RLIMIT_MEMLOCK }, { "rss", RLIMIT_RSS }, { "locks", RLIMIT_LOCKS },
	{ "sigpending", RLIMIT_SIGPENDING }, { "msgqueue", RLIMIT_MSGQUEUE }, { "nice", RLIMIT_NICE },
	{ "rtprio", RLIMIT_RTPRIO }, { "rttime", RLIMIT_RTTIME } };

const char *const limit_names[] = { "nofile", "core", "as", "memory", "cpu", "fsize", "data", "stack", "nproc", "memlock",
	"rss", "locks", "sigpending", "msgqueue", "nice", "rtprio", "rttime", NULL };

int limit_from_name(const char *name)
{
	for (size_t i = 0; i < ARRAY_SIZE(limits); i++)
		if (!strcmp(limits[i].name, name))
			return limits[i].resource;
	return -EINVAL;
}

const char *limit_to_name(int resource)
{
	for (size_t i = 0; i < ARRAY_SIZE(limits); i++)
		if (limits[i].resource == resource)
			return limits[i].name;
	return "unknown";
}

int limit_parse(int resource, const char *text, unsigned long long *ret)
{
	uint64_t v;

	if (!strcmp(text, "unlimited") || !strcmp(text, "infinity")) {
		*ret = RLIM_INFINITY;
		return 0;
	}
	if (resource == RLIMIT_CPU && !parse_duration_ms(text, &v)) {
		*ret = (v + 999) / 1000;
		return 0;
	}
	if (parse_size(text, &v) < 0)
		return -EINVAL;
	*ret = v;
	return 0;
}

/* --- scalars ------------------------------------------------------------------------------------------------------ */

/* "1-127, 130" into bits 0..255. */
static int parse_exits(const char *text, uint8_t *set)
{
	const char *p = text;

	memset(set, 0, 32);
	while (*p) {
		char *end;
		long a, b;

		while (*p == ' ' || *p == ',')
			p++;
		if (!*p)
			break;
		if (!isdigit((unsigned char)*p))
			return -EINVAL;
		a = b = strtol(p, &end, 10);
		if (*end == '-') {
			p = end + 1;
			if (!isdigit((unsigned char)*p))
				return -EINVAL;
			b = strtol(p, &end, 10);
		}
		if (a > b || b > 255 || (*end && *end != ' ' && *end != ','))
			return -EINVAL;
		for (long i = a; i <= b; i++)
			set[i / 8] |= (uint8_t)(1u << (i % 8));
		p = end;
	}
	return 0;
}

static int parse_signals(const char *text, uint64_t *set)
{
	_cleanup_(freep) char *copy = strdup(text);
	char *save = NULL;
	uint64_t v = 0;

	if (!copy)
		return -ENOMEM;
	if (!strcmp(text, "all") || !strcmp(text, "none")) {
		*set = text[0] == 'a' ? ~0ull : 0;
		return 0;
	}
	for (char *w = strtok_r(copy, ", ", &save); w; w = strtok_r(NULL, ", ", &save)) {
		int sig = signal_from_name(w);

		if (sig < 0)
			return -EINVAL;
		v |= 1ull << (sig - 1);
	}
	*set = v;
	return 0;
}

static int parse_share(const char *text, double *ret)
{
	char *end;
	double v;

	if (!isdigit((unsigned char)text[0]) && text[0] != '.')
		return -EINVAL;
	v = strtod(text, &end);
	if (*end == '%') {
		v /= 100;
		end++;
	}
	if (*end || v < 0 || v > 1)
		return -EINVAL;
	*ret = v;
	return 0;
}

int slot_set_text(const struct slot *s, void *base, const char *text, struct error *err)
{
	void *at = (char *)base + s->offset;
	uint64_t u = 0;
	int64_t i = 0;
	double d = 0;
	char *end, *copy;

	switch (s->type) {
	case SLOT_STRING:
	case SLOT_PATH:
		copy = strdup(text);
		if (!copy)
			return -ENOMEM;
		free(*(char **)at);
		*(char **)at = copy;
		return 0;
	case SLOT_BOOL:
		if (!strcmp(text, "true") || !strcmp(text, "false")) {
			*(bool *)at = text[0] == 't';
			return 0;
		}
		if (!strcasecmp(text, "yes") || !strcasecmp(text, "on") || !strcasecmp(text, "true") || !strcmp(text, "1"))
			return error_set(err, -EINVAL, "'%s' is not a boolean here; write true", text);
		if (!strcasecmp(text, "no") || !strcasecmp(text, "off") || !strcasecmp(text, "false") || !strcmp(text, "0"))
			return error_set(err, -EINVAL, "'%s' is not a boolean here; write false", text);
		return error_set(err, -EINVAL, "'%s' is not a boolean; write true or false", text);
	case SLOT_UINT:
		if (parse_u64(text, &u) < 0 || (long long)u < s->min || u > (uint64_t)s->max)
			return error_set(err, -EINVAL, "'%s' is no whole number from %lld to %lld", text, s->min, s->max);
		*(unsigned *)at = (unsigned)u;
		return 0;
	case SLOT_INT:
		if (parse_i64(text, &i) < 0 || i < s->min || i > s->max)
			return error_set(err, -EINVAL, "'%s' is no whole number from %lld to %lld", text, s->min, s->max);
		*(int *)at = (int)i;
		return 0;
	case SLOT_OCTAL:
		u = isdigit((unsigned char)text[0]) ? strtoul(text + (text[1] == 'o' ? 2 : 0), &end, 8) : 01000;
		if (u > 0777 || *end)
			return error_set(err, -EINVAL, "'%s' is no octal mask from 000 to 777", text);
		*(int *)at = (int)u;
		return 0;
	case SLOT_DURATION:
		if (parse_duration_ms(text, &u) < 0)
			return error_set(err, -EINVAL, "'%s' is no duration; write 10s, 250ms, 1h30m, or seconds", text);
		*(uint64_t *)at = u;
		return 0;
	case SLOT_SIZE:
		if (parse_size(text, &u) < 0)
			return error_set(err, -EINVAL, "'%s' is no size; write 50M, 6G, or bytes", text);
		*(uint64_t *)at = u;
		return 0;
	case SLOT_FACTOR:
		d = isdigit((unsigned char)text[0]) ? strtod(text, &end) : 0;
		if (d < 1 || d > 1000 || *end)
			return error_set(err, -EINVAL, "'%s' is no number from 1 to 1000", text);
		*(double *)at = d;
		return 0;
	case SLOT_SHARE:
		if (parse_share(text, &d) < 0)
			return error_set(err, -EINVAL, "'%s' is no share; write 20%% or 0.2", text);
		*(double *)at = d;
		return 0;
	case SLOT_ENUM:
		for (int k = 1; s->words[k]; k++)
			if (!strcmp(s->words[k], text)) {
				*(int *)at = k;
				return 0;
			}
		if (s->words == format_words && !strcmp(text, "auto")) {
			*(int *)at = FORMAT_JSON;
			return 0;
		}
		{
			_cleanup_text_ struct text list = { 0 };
			const char *near;
			size_t n = 0;

			for (int k = 1; s->words[k]; k++, n++)
				text_addf(&list, "%s%s", k > 1 ? ", " : "", s->words[k]);
			if ((s->words == capture_words && !strcmp(text, "inject")) ||
			    (s->words == store_words && !strcmp(text, "postgres")))
				return error_set(err, -EOPNOTSUPP, "'%s' is not supported yet; there are: %s", text, list.data);
			near = text_nearest(text, s->words + 1, n);
			return error_set(err, -EINVAL, near ? "'%s' is not one of: %s. Did you mean '%s'?" : "'%s' is not one of: %s",
			    text, list.data, near);
		}
	case SLOT_ALL_THREADS:
		if (strcmp(text, "all") && strcmp(text, "crashed"))
			return error_set(err, -EINVAL, "'%s' is not one of: all, crashed", text);
		*(bool *)at = text[0] == 'a';
		return 0;
	case SLOT_SIGNAL:
		i = signal_from_name(text);
		if (i < 0)
			return error_set(err, -EINVAL, "'%s' is no signal; write TERM, INT, HUP, ...", text);
		*(int *)at = (int)i;
		return 0;
	case SLOT_LEVEL:
		i = log_level_from_string(text);
		if (!i)
			return error_set(err, -EINVAL, "'%s' is no level; there are: DEBUG, INFO, WARNING, ERROR, CRITICAL", text);
		*(enum log_level *)at = (enum log_level)i;
		return 0;
	case SLOT_EXITS:
		if (parse_exits(text, at) < 0)
			return error_set(err, -EINVAL, "'%s' are no exit codes; write numbers from 0 to 255 and ranges, [1-127, 130]",
			    text);
		return 0;
	case SLOT_SIGNALS:
		if (parse_signals(text, at) < 0)
			return error_set(err, -EINVAL, "'%s' are no signals; write all, none, or names, [SEGV, ABRT]", text);
		return 0;
	default:
		return error_set(err, -EINVAL, "a plain value cannot stand here");
	}
}

void slot_get_text(const struct slot *s, const void *base, struct text *out)
{
	const void *at = (const char *)base + s->offset;
	char buf[32];

	switch (s->type) {
	case SLOT_STRING:
	case SLOT_PATH:
		text_add(out, *(char *const *)at ? *(char *const *)at : "");
		break;
	case SLOT_BOOL:
		text_add(out, *(const bool *)at ? "true" : "false");
		break;
	case SLOT_UINT:
		text_addf(out, "%u", *(const unsigned *)at);
		break;
	case SLOT_INT:
		text_addf(out, "%d", *(const int *)at);
		break;
	case SLOT_OCTAL:
		text_addf(out, "%03o", (unsigned)*(const int *)at);
		break;
	case SLOT_DURATION:
		text_addf(out, "%" PRIu64 "ms", *(const uint64_t *)at);
		break;
	case SLOT_SIZE:
		text_addf(out, "%" PRIu64, *(const uint64_t *)at);
		break;
	case SLOT_FACTOR:
	case SLOT_SHARE:
		text_addf(out, "%.17g", *(const double *)at);
		break;
	case SLOT_ENUM:
		text_add(out, s->words[*(const int *)at]);
		break;
	case SLOT_ALL_THREADS:
		text_add(out, *(const bool *)at ? "all" : "crashed");
		break;
	case SLOT_SIGNAL:
		text_add(out, signal_to_name(*(const int *)at, buf));
		break;
	case SLOT_LEVEL:
		text_add(out, log_level_to_string(*(const enum log_level *)at));
		break;
	case SLOT_EXITS:
		for (int i = 0, first = 1; i < 256; i++) {
			const uint8_t *set = at;
			int j = i;

			if (!(set[i / 8] >> (i % 8) & 1))
				continue;
			while (j < 255 && (set[(j + 1) / 8] >> ((j + 1) % 8) & 1))
				j++;
			text_addf(out, j > i ? "%s%d-%d" : "%s%d", first ? "" : ",", i, j);
			first = 0;
			i = j;
		}
		break;
	case SLOT_SIGNALS: {
		uint64_t set = *(const uint64_t *)at;

		if (set == ~0ull || !set) {
			text_add(out, set ? "all" : "none");
			break;
		}
		for (int i = 1, first = 1; i <= 64; i++)
			if (set >> (i - 1) & 1) {
				text_addf(out, "%s%s", first ? "" : ",", i < 32 ? signal_to_name(i, buf) : "");
				if (i >= 32)
					text_addf(out, "%d", i);
				first = 0;
			}
		break;
	}
	default:
		break;
	}
}

int slots_set_defaults(const struct slot *table, void *base)
{
	for (const struct slot *s = table; s->name; s++) {
		int r = 0;

		if (s->type == SLOT_MAP)
			r = slots_set_defaults(s->sub, base);
		else if (s->standard && slot_is_scalar(s))
			r = slot_set_text(s, base, s->standard, NULL);
		if (r < 0)
			return r;
	}
	return 0;
}

const char *restart_policy_to_string(enum restart_policy p)
{
	return p > 0 && p < _RESTART_MAX ? restart_words[p] : "unknown";
}

const char *log_format_to_string(enum log_format f)
{
	return f > 0 && f < _FORMAT_MAX ? format_words[f] : "unknown";
}

const char *capture_wish_to_string(enum capture_wish w)
{
	return w > 0 && w < _WISH_MAX ? capture_words[w] : "unknown";
}

const char *store_type_to_string(enum store_type t)
{
	return t > 0 && t < _STORE_TYPE_MAX ? store_words[t] : "unknown";
}
