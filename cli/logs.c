/* SPDX-License-Identifier: Apache-2.0 */
/* logs, tail and events: records on the screen. */
#define PCRE2_CODE_UNIT_WIDTH 8

#include <fcntl.h>
#include <pcre2.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/clock.h"
#include "base/file.h"
#include "cli/cli.h"
#include "cli/records.h"
#include "config/config.h"
#include "registry/registry.h"

struct printer {
	struct cli *c;
	uint64_t n;
	/* context lines around matches: what came before, and how many after are still to be shown */
	const struct record_filter *real;
	struct text *before;
	unsigned n_before, room_before, after, owed;
	bool gap;
};

static const char *level_sgr(enum log_level l)
{
	switch (l) {
	case LEVEL_DEBUG:
		return "90";
	case LEVEL_WARNING:
		return "33";
	case LEVEL_ERROR:
		return "31";
	case LEVEL_CRITICAL:
		return "1;31";
	default:
		return "0";
	}
}

static void add_view(cJSON *j, const char *key, struct view v)
{
	if (v.size)
		json_add_text_n(j, key, v.data, v.size);
	else
		cJSON_AddNullToObject(j, key);
}

static void add_object(cJSON *j, const char *key, struct view v)
{
	cJSON *o = NULL;

	if (v.size && json_parse(v.data, v.size, &o, NULL) == 0)
		cJSON_AddItemToObject(j, key, o);
	else
		cJSON_AddItemToObject(j, key, cJSON_CreateObject());
}

static cJSON *to_json(const struct record *r)
{
	cJSON *j = cJSON_CreateObject();
	char id[UUID_TEXT_MAX];

	json_add_text(j, "schema", r->kind == RECORD_EVENT ? "supervise.event/1" : "supervise.log/1");
	json_add_text(j, "id", uuid_format(&r->id, id));
	json_add_time(j, "timestamp", r->ts_us);
	if (r->kind == RECORD_EVENT) {
		add_view(j, "event_type", r->event_type);
		json_add_text(j, "severity", log_level_to_string(r->level));
		add_view(j, "source", r->logger_name);
		add_view(j, "title", r->message);
		add_object(j, "details", r->context);
	} else {
		json_add_text(j, "level", log_level_to_string(r->level));
		add_view(j, "logger_name", r->logger_name);
		add_view(j, "message", r->message);
		add_object(j, "context", r->context);
		add_view(j, "traceback", r->traceback);
	}
	add_view(j, "daemon", r->daemon);
	add_view(j, "run", r->run);
	json_add_i64(j, "pid", r->pid);
	add_view(j, "experiment_id", r->experiment);
	add_view(j, "stage", r->stage);
	add_view(j, "node_id", r->node_id);
	return j;
}

/* Further lines of a record, marked as such: text of a daemon cannot pass itself off as a record. */
static void print_more(const struct cli *c, const char *p, size_t size)
{
	const char *end = p + size;

	while (p < end) {
		const char *nl = memchr(p, '\n', (size_t)(end - p));
		size_t n = nl ? (size_t)(nl - p) : (size_t)(end - p);
		_cleanup_text_ struct text t = { 0 };

		text_add_printable(&t, p, n);
		printf("  %s%s%s %s\n", cli_sgr(c, "90"), c->utf8 ? "│" : "|", cli_sgr(c, "0"), t.data ? t.data : "");
		p += n + 1;
	}
}

/* The bytes as the daemon wrote them. */
static void print_raw(const struct record *r)
{
	_cleanup_json_ cJSON *context = NULL;
	const char *raw;

	if (r->context.size && json_parse(r->context.data, r->context.size, &context, NULL) < 0)
		context = NULL;
	raw = json_get_string(context, "raw", NULL);
	if (raw) {
		_cleanup_text_ struct text bytes = { 0 };

		cli_add_base64(&bytes, raw);
		fwrite(bytes.data ? bytes.data : "", 1, bytes.size, stdout);
	} else {
		fwrite(r->message.data ? r->message.data : "", 1, r->message.size, stdout);
	}
	if (!json_get_bool(context, "continued", false) && !json_get_bool(context, "partial", false))
		putchar('\n');
}

static void print_name(const char *before, struct view v, const char *after)
{
	_cleanup_text_ struct text t = { 0 };

	text_add_printable(&t, v.data ? v.data : "", v.size);
	printf("%s%s%s", before, t.data ? t.data : "", after);
}

static void print_one(const struct cli *c, const struct record *r)
{
	_cleanup_text_ struct text message = { 0 };
	const char *nl = r->message.size ? memchr(r->message.data, '\n', r->message.size) : NULL;
	size_t first = nl ? (size_t)(nl - r->message.data) : r->message.size;
	char when[48] = "-           "; /* a log file of format raw has no times */

	if (c->o.json) {
		_cleanup_json_ cJSON *j = to_json(r);

		cli_print_json(j);
		return;
	}
	if (c->o.raw) {
		print_raw(r);
		return;
	}
	text_add_printable(&message, r->message.data ? r->message.data : "", first);
	if (r->ts_us)
		cli_format_clock(r->ts_us, c->o.utc, when);
	printf("%s%s%s %s%-8s%s ", cli_sgr(c, "90"), when, cli_sgr(c, "0"), cli_sgr(c, level_sgr(r->level)),
	    r->kind == RECORD_EVENT && r->level < LEVEL_WARNING ? "" : log_level_to_string(r->level), cli_sgr(c, "0"));
	if (r->daemon.size)
		print_name(cli_sgr(c, "36"), r->daemon, cli_sgr(c, "0"));
	else
		printf("-");
	if (r->kind == RECORD_EVENT) {
		putchar(' ');
		print_name(cli_sgr(c, "1"), r->event_type, cli_sgr(c, "0"));
	}
	if (r->experiment.size || r->stage.size) {
		print_name(" [", r->experiment, r->stage.size ? "/" : "");
		print_name("", r->stage, "]");
	}
	printf(" %s\n", message.data ? message.data : "");
	if (nl)
		print_more(c, nl + 1, r->message.size - first - 1);
	if (r->traceback.size && c->o.traceback)
		print_more(c, r->traceback.data, r->traceback.size);
}

static int on_record(const struct record *r, void *userdata)
{
	struct printer *p = userdata;

	p->n++;
	print_one(p->c, r);
	return 0;
}

/* With -A, -B, -C the filter's text conditions are looked at here, and everything else is read. */
static int on_context(const struct record *r, void *userdata)
{
	struct printer *p = userdata;

	if (record_matches(p->real, r)) {
		if (p->gap && p->n && !p->c->o.json)
			puts("--");
		p->gap = false;
		for (unsigned i = 0; i < p->n_before; i++) {
			struct record old;

			if (record_decode(p->before[i].data, p->before[i].size, &old) == 0)
				print_one(p->c, &old);
			text_free(&p->before[i]);
		}
		p->n_before = 0;
		p->owed = p->after;
		return on_record(r, userdata);
	}
	if (p->owed) {
		p->owed--;
		print_one(p->c, r);
		return 0;
	}
	p->gap = true;
	if (p->room_before) {
		if (p->n_before == p->room_before) {
			text_free(&p->before[0]);
			memmove(p->before, p->before + 1, (p->n_before - 1) * sizeof(*p->before));
			p->n_before--;
		}
		p->before[p->n_before] = (struct text){ 0 };
		record_encode(r, &p->before[p->n_before++]);
	}
	return 0;
}

/* --- what is asked for -------------------------------------------------------------------------------------------- */

/* A bare word is a daemon, or else an experiment. */
struct words {
	struct config *config; /* in force, else the file's */
	bool daemon, experiment;
};

static void look_up(struct cli *c, const struct config *config, const char *word, struct words *ret)
{
	char folder[PATH_MAX];
	_cleanup_(closedirp) DIR *d = NULL;
	struct dirent *e;

	ret->daemon = !strcmp(word, "all") || strpbrk(word, "*?[");
	ret->experiment = false;
	for (size_t i = 0; config && i < config->n_daemons; i++) {
		const char *experiment = config->daemons[i].experiment;

		ret->daemon |= daemon_matches(config->daemons[i].name, word);
		ret->experiment |= experiment && !strcmp(experiment, word);
	}
	if (ret->daemon)
		return;
	/* one that the configuration had earlier: its log is still there */
	d = opendir(path_format(folder, sizeof(folder), c->paths.state, "log"));
	while (d && (e = readdir(d))) {
		char name[NAME_MAX + 1];

		snprintf(name, sizeof(name), "%.*s", (int)strcspn(e->d_name, "."), e->d_name);
		for (char *p = name; *p; p++)
			if (*p == '@')
				*p = '/';
		ret->daemon |= daemon_matches(name, word);
	}
}

static struct config *read_config(struct cli *c)
{
	_cleanup_(freep) char *text = NULL;
	_cleanup_json_ cJSON *j = NULL;
	struct config_problems problems = { 0 };
	struct config *config = NULL;
	char path[PATH_MAX];

	if (file_read(AT_FDCWD, path_format(path, sizeof(path), c->paths.runtime, "config.json"), 64 << 20, &text, NULL) == 0 &&
	    json_parse(text, strlen(text), &j, NULL) == 0 && config_from_json(j, &config, NULL) == 0)
		return config;
	if (c->file && config_load(c->file, &config, &problems) < 0)
		config = NULL;
	config_problems_free(&problems);
	return config;
}

static int resolve_words(struct cli *c)
{
	_cleanup_(config_freep) struct config *config = c->o.n_args ? read_config(c) : NULL;

	for (int i = 0; i < c->o.n_args; i++) {
		const char *word = c->o.args[i];
		struct words w;

		look_up(c, config, word, &w);
		if (w.daemon && w.experiment) {
			char hint[192];

			snprintf(hint, sizeof(hint), "Write: supervise %s -d %s    or: supervise %s -e %s", c->verb, word, c->verb, word);
			return cli_fail(CLI_USAGE, hint, "'%s' is a daemon and an experiment", word);
		}
		if (w.experiment) {
			if (c->o.experiment && strcmp(c->o.experiment, word))
				return cli_fail(CLI_USAGE, NULL, "one experiment at a time: '%s' or '%s'?", c->o.experiment, word);
			c->o.experiment = word;
			continue;
		}
		if (c->o.n_daemons >= ARRAY_SIZE(c->o.daemons))
			return cli_fail(CLI_USAGE, "Write a pattern: 'train*'", "too many names");
		c->o.daemons[c->o.n_daemons++] = word;
	}
	return 0;
}

/* Nothing came: is there a name that nobody knows? Return: 0 or an exit code */
static int complain_about_words(struct cli *c)
{
	_cleanup_(config_freep) struct config *config = NULL;
	_cleanup_(freep) const char **names = NULL;

	if (!c->o.n_daemons)
		return 0;
	config = read_config(c);
	names = calloc((config ? config->n_daemons : 0) + 1, sizeof(*names));
	for (size_t i = 0; i < c->o.n_daemons; i++) {
		const char *near = NULL;
		char hint[128];
		struct words w;

		look_up(c, config, c->o.daemons[i], &w);
		if (w.daemon)
			continue;
		for (size_t k = 0; config && names && k < config->n_daemons; k++)
			names[k] = config->daemons[k].name;
		if (config && names)
			near = text_nearest(c->o.daemons[i], names, config->n_daemons);
		snprintf(hint, sizeof(hint), near ? "Did you mean '%s'?" : "supervise status shows what there is", near);
		return cli_fail(CLI_UNKNOWN, hint, "nothing is known of '%s'", c->o.daemons[i]);
	}
	return 0;
}

enum { AROUND_CRASH_US = 30 * 1000000 };

int cli_resolve_time(struct cli *c, const char *option, const char *text, int64_t *ret_us)
{
	int64_t now = clock_now_us();
	struct error err;

	if (!strcmp(text, "boot")) {
		struct timespec up;

		clock_gettime(CLOCK_BOOTTIME, &up);
		*ret_us = now - (int64_t)up.tv_sec * 1000000 - up.tv_nsec / 1000;
		return 0;
	}
	if (!strcmp(text, "start")) {
		_cleanup_json_ cJSON *j = NULL;
		const cJSON *d;
		int64_t us, first = 0;

		if (!c->o.n_daemons)
			return cli_fail(CLI_USAGE, "supervise logs NAME --since start", "--%s start: of which daemon?", option);
		if (registry_read(c->paths.runtime, &j, &err) < 0)
			return cli_fail(CLI_UNAVAILABLE, NULL, "--%s start: %s", option, err.text);
		cJSON_ArrayForEach(d, json_get_object(j, "daemons")) {
			if (d->string && daemon_matches(d->string, c->o.daemons[0]) &&
			    clock_parse_utc(json_get_string(d, "started_at", ""), &us) == 0 && (!first || us < first))
				first = us;
		}
		if (!first)
			return cli_fail(CLI_UNKNOWN, NULL, "--%s start: '%s' was never started", option, c->o.daemons[0]);
		*ret_us = first;
		return 0;
	}
	if (!strncmp(text, "crash:", 6)) {
		_cleanup_json_ cJSON *j = NULL;
		int r = crash_find(c, text + 6, &j);

		if (r)
			return r;
		if (clock_parse_utc(json_get_string(j, "died_at", ""), ret_us) < 0)
			return cli_fail(CLI_DATA, NULL, "the report of crash '%s' says no time", text + 6);
		return 0;
	}
	if (cli_parse_time(text, now, c->o.utc, ret_us) < 0)
		return cli_fail(CLI_USAGE,
		    "Write 1h, 30m, today, 'yesterday 14:00', '2026-11-23 18:00', RFC 3339, @EPOCH, boot, start or crash:ID",
		    "--%s: '%s' is no time", option, text);
	return 0;
}

/* "--since crash:ID": what was said around it, by that daemon unless others are named. */
static int around_crash(struct cli *c, struct record_filter *f)
{
	static char name[128];
	_cleanup_json_ cJSON *j = NULL;

	f->since_us -= AROUND_CRASH_US;
	if (!c->o.until)
		f->until_us = f->since_us + 2 * AROUND_CRASH_US;
	if (c->o.n_daemons || c->o.experiment)
		return 0;
	if (crash_find(c, c->o.since + 6, &j))
		return CLI_UNKNOWN;
	snprintf(name, sizeof(name), "%s", json_get_string(j, "daemon", ""));
	c->o.daemons[c->o.n_daemons++] = name;
	return 0;
}

static int compile(const char *pattern, void **ret)
{
	PCRE2_UCHAR text[256];
	PCRE2_SIZE at;
	int error;

	*ret = pcre2_compile((PCRE2_SPTR)pattern, PCRE2_ZERO_TERMINATED, PCRE2_UTF | PCRE2_MATCH_INVALID_UTF | PCRE2_NEVER_BACKSLASH_C,
	    &error, &at, NULL);
	if (!*ret) {
		pcre2_get_error_message(error, text, sizeof(text));
		return cli_fail(CLI_USAGE, "supervise logs --search TEXT takes a text as it is", "--grep: %s (at character %zu)",
		    (char *)text, at + 1);
	}
	pcre2_jit_compile(*ret, PCRE2_JIT_COMPLETE); /* slower without */
	return 0;
}

/* Return: 0 or an exit code */
static int make_filter(struct cli *c, struct record_filter *f, enum record_kind kind)
{
	int r = resolve_words(c);

	*f = (struct record_filter){ .kind = kind, .experiment = c->o.experiment, .node = c->o.node, .stage = c->o.stage,
		.search = c->o.search, .invert = c->o.invert };
	if (!r && c->o.since)
		r = cli_resolve_time(c, "since", c->o.since, &f->since_us);
	if (!r && c->o.until)
		r = cli_resolve_time(c, "until", c->o.until, &f->until_us);
	if (!r && c->o.since && !strncmp(c->o.since, "crash:", 6))
		r = around_crash(c, f);
	if (r)
		return r;
	f->daemons = c->o.daemons;
	f->n_daemons = c->o.n_daemons;
	if (c->o.pid != CLI_UNSET)
		f->pid = c->o.pid <= INT32_MAX ? (int32_t)c->o.pid : -1;
	if (c->o.stream)
		f->stream = strstr(c->o.stream, "out") ? "stdout" : "stderr";
	if (c->o.level) {
		bool exact = *c->o.level == '=';
		enum log_level l = log_level_from_string(c->o.level + exact);

		if (!l)
			return cli_fail(CLI_USAGE, "There are: DEBUG INFO WARNING ERROR CRITICAL", "--level: '%s' is no level",
			    c->o.level + exact);
		*(exact ? &f->level_exact : &f->level) = l;
	}
	return c->o.grep ? compile(c->o.grep, &f->regex) : 0;
}

static uint64_t limit_of(const struct cli *c)
{
	if (c->o.lines != CLI_UNSET)
		return c->o.lines;
	if (c->o.limit != CLI_UNSET)
		return c->o.limit;
	if (c->o.follow)
		return 20;
	return c->o.since ? 0 : 100;
}

static void free_printer(struct printer *p)
{
	for (unsigned i = 0; i < p->n_before; i++)
		text_free(&p->before[i]);
	free(p->before);
}

static int show(struct cli *c, enum record_kind kind)
{
	_cleanup_(records_closep) struct records *source = NULL;
	_cleanup_(free_printer) struct printer p = { .c = c };
	struct record_filter f, wide;
	const struct record_filter *asked = &f;
	uint64_t around = c->o.context != CLI_UNSET ? c->o.context : 0, limit = limit_of(c),
		 before = c->o.before != CLI_UNSET ? c->o.before : around, after = c->o.after != CLI_UNSET ? c->o.after : around;
	record_fn fn = on_record;
	unsigned too_hard = 0;
	bool cut = false;
	int r;

	if (c->o.reverse && (c->o.follow || before || after))
		return cli_fail(CLI_USAGE, NULL, "--reverse goes with neither --follow nor context lines");
	r = make_filter(c, &f, kind);
	if (!r)
		r = records_open(&source, c);
	if (r)
		return r;
	f.too_hard = &too_hard;
	if ((before || after) && (f.search || f.regex || f.level || f.level_exact)) {
		wide = f;
		wide.search = NULL;
		wide.regex = NULL;
		wide.invert = false;
		wide.level = wide.level_exact = LEVEL_UNKNOWN;
		asked = &wide;
		p.real = &f;
		p.room_before = before > 10000 ? 10000 : (unsigned)before;
		p.after = after > 10000 ? 10000 : (unsigned)after;
		p.before = calloc(p.room_before + 1, sizeof(*p.before));
		if (!p.before)
			return cli_fail(CLI_TRY_AGAIN, NULL, "out of memory");
		fn = on_context;
		limit = 0;
	}
	cli_page(c);
	r = records_read(source, asked, limit, c->o.reverse, &cut, fn, &p);
	if (!r && cut && c->o.lines == CLI_UNSET && !c->o.follow)
		cli_note(c, "-- older ones are left out: --limit 0 shows all, --since from a time on --");
	if (!r && !p.n && !c->o.follow)
		r = complain_about_words(c);
	if (!r && !p.n && !c->o.follow)
		cli_note(c, kind == RECORD_LOG ? "-- no record matches --" : "-- no event matches --");
	if (!r && too_hard)
		cli_note(c, "-- --grep was given up on %u records: the pattern takes too long on them --", too_hard);
	if (!r && c->o.follow)
		r = records_follow(source, asked, fn, &p);
	if (f.regex)
		pcre2_code_free(f.regex);
	return r < 0 ? CLI_IO : r;
}

int verb_logs(struct cli *c)
{
	return show(c, RECORD_LOG);
}

int verb_tail(struct cli *c)
{
	c->o.follow = true;
	return show(c, RECORD_LOG);
}

int verb_events(struct cli *c)
{
	return show(c, RECORD_EVENT);
}
