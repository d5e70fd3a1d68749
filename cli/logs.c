/* SPDX-License-Identifier: Apache-2.0 */
/* logs, tail and events: records on the screen. */
#define PCRE2_CODE_UNIT_WIDTH 8

#include <errno.h>
#include <pcre2.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "cli/cli.h"
#include "cli/records.h"

struct printer {
	struct cli *c;
	uint64_t n;
	/* context lines around matches: what came before, and how many after are still to be shown */
	const struct record_filter *real;
	struct text *before;
	unsigned n_before, room_before, owed;
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
	add_view(j, "experiment", r->experiment);
	add_view(j, "stage", r->stage);
	add_view(j, "node_id", r->node_id);
	return j;
}

static void print_traceback(const struct cli *c, const struct record *r)
{
	const char *p = r->traceback.data, *end = p + r->traceback.size;

	while (p < end) {
		const char *nl = memchr(p, '\n', (size_t)(end - p));
		size_t n = nl ? (size_t)(nl - p) : (size_t)(end - p);
		_cleanup_text_ struct text t = { 0 };

		text_add_printable(&t, p, n);
		printf("  %s%s%s %s\n", cli_sgr(c, "90"), c->utf8 ? "│" : "|", cli_sgr(c, "0"), t.data ? t.data : "");
		p += n + 1;
	}
}

static void print_one(const struct cli *c, const struct record *r)
{
	_cleanup_text_ struct text message = { 0 };
	char when[48];

	if (c->o.json) {
		_cleanup_json_ cJSON *j = to_json(r);

		cli_print_json(j);
		return;
	}
	if (c->o.raw) {
		fwrite(r->message.data ? r->message.data : "", 1, r->message.size, stdout);
		putchar('\n');
		return;
	}
	text_add_printable(&message, r->message.data, r->message.size);
	cli_format_clock(r->ts_us, c->o.utc, when);
	printf("%s%s%s %s%-8s%s %s%.*s%s", cli_sgr(c, "90"), when, cli_sgr(c, "0"), cli_sgr(c, level_sgr(r->level)),
	    r->kind == RECORD_EVENT && r->level < LEVEL_WARNING ? "" : log_level_to_string(r->level), cli_sgr(c, "0"),
	    cli_sgr(c, "36"), (int)r->daemon.size, r->daemon.data ? r->daemon.data : "", cli_sgr(c, "0"));
	if (r->kind == RECORD_EVENT)
		printf(" %s%.*s%s", cli_sgr(c, "1"), (int)r->event_type.size, r->event_type.data, cli_sgr(c, "0"));
	if (r->experiment.size || r->stage.size)
		printf(" [%.*s%s%.*s]", (int)r->experiment.size, r->experiment.data ? r->experiment.data : "", r->stage.size ? "/" : "",
		    (int)r->stage.size, r->stage.data ? r->stage.data : "");
	printf(" %s\n", message.data ? message.data : "");
	if (r->traceback.size && c->o.traceback)
		print_traceback(c, r);
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
		p->owed = p->c->o.after;
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

/* Return: 0 or an exit code */
static int make_filter(struct cli *c, struct record_filter *f, enum record_kind kind)
{
	int64_t now = clock_now_us();

	*f = (struct record_filter){ .kind = kind, .experiment = c->o.experiment, .node = c->o.node, .stage = c->o.stage,
		.search = c->o.search, .pid = (int32_t)c->o.pid, .invert = c->o.invert };
	for (int i = 0; i < c->o.n_args && c->o.n_daemons < ARRAY_SIZE(c->o.daemons); i++)
		c->o.daemons[c->o.n_daemons++] = c->o.args[i];
	f->daemons = c->o.daemons;
	f->n_daemons = c->o.n_daemons;
	if (c->o.stream) {
		f->stream = !strcmp(c->o.stream, "out") || !strcmp(c->o.stream, "stdout") ? "stdout" :
		    !strcmp(c->o.stream, "err") || !strcmp(c->o.stream, "stderr")         ? "stderr" :
											       NULL;
		if (!f->stream)
			return cli_fail(CLI_USAGE, NULL, "--stream is out or err");
	}
	if (c->o.level) {
		bool exact = *c->o.level == '=';
		enum log_level l = log_level_from_string(c->o.level + exact);

		if (!l)
			return cli_fail(CLI_USAGE, "There are: DEBUG INFO WARNING ERROR CRITICAL", "'%s' is no level", c->o.level + exact);
		*(exact ? &f->level_exact : &f->level) = l;
	}
	if (c->o.since && cli_parse_time(c->o.since, now, c->o.utc, &f->since_us) < 0)
		return cli_fail(CLI_USAGE, "Write 1h, 30m, today, 'yesterday 14:00', '2026-11-23 18:00', RFC 3339 or @EPOCH",
		    "--since: '%s' is no time", c->o.since);
	if (c->o.until && cli_parse_time(c->o.until, now, c->o.utc, &f->until_us) < 0)
		return cli_fail(CLI_USAGE, "Write 1h, 30m, today, 'yesterday 14:00', '2026-11-23 18:00', RFC 3339 or @EPOCH",
		    "--until: '%s' is no time", c->o.until);
	if (c->o.grep) {
		PCRE2_UCHAR text[256];
		PCRE2_SIZE at;
		int error;

		f->regex = pcre2_compile((PCRE2_SPTR)c->o.grep, PCRE2_ZERO_TERMINATED, 0, &error, &at, NULL);
		if (!f->regex) {
			pcre2_get_error_message(error, text, sizeof(text));
			return cli_fail(CLI_USAGE, NULL, "--grep: %s (at character %zu)", (char *)text, at + 1);
		}
		pcre2_jit_compile(f->regex, PCRE2_JIT_COMPLETE);
	}
	return 0;
}

static int show(struct cli *c, enum record_kind kind)
{
	struct printer p = { .c = c };
	struct record_filter f, wide;
	uint64_t limit = c->o.limit == UINT64_MAX ? 0 : c->o.limit ? c->o.limit : c->o.since ? 0 : c->o.follow ? 20 : 100;
	bool cut = false, context;
	int r = make_filter(c, &f, kind);

	if (r)
		return r;
	cli_page(c);
	context = (c->o.before || c->o.after) && (f.search || f.regex || f.level || f.level_exact);
	if (context) {
		wide = f;
		wide.search = NULL;
		wide.regex = NULL;
		wide.level = wide.level_exact = LEVEL_UNKNOWN;
		p.real = &f;
		p.room_before = c->o.before > 10000 ? 10000 : c->o.before;
		p.before = calloc(p.room_before + 1, sizeof(*p.before));
		r = p.before ? records_read(c, &wide, 0, &cut, on_context, &p) : CLI_OS;
	} else {
		r = records_read(c, &f, limit, &cut, on_record, &p);
	}
	if (!r && cut)
		cli_note(c, "-- older ones are left out: --limit 0 shows all, --since from a time on --");
	if (!r && !p.n && !c->o.follow)
		cli_note(c, kind == RECORD_LOG ? "-- no record matches --" : "-- no event matches --");
	if (!r && c->o.follow)
		r = context ? records_follow(c, &wide, on_context, &p) : records_follow(c, &f, on_record, &p);
	free(p.before);
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
