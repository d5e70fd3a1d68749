/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Findings: gathering, ordering, showing.
 *
 * A line of the file is shown only when the source says that it holds no value of an environment
 * (source_line_shown()), and that is asked at the very end, when all of the file has been seen.
 */
#include "config/problem.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/text.h"
#include "config/source.h"

static void problem_free(struct config_problem *p)
{
	free(p->file);
	free(p->code);
	free(p->message);
	free(p->hint);
	free(p->source);
}

void config_problems_free(struct config_problems *p)
{
	for (size_t i = 0; i < p->n; i++)
		problem_free(&p->items[i]);
	free(p->items);
	*p = (struct config_problems){ 0 };
}

void findings_free(struct findings *f)
{
	for (size_t i = 0; i < f->n; i++)
		problem_free(&f->items[i].p);
	free(f->items);
	*f = (struct findings){ 0 };
}

static void add(struct findings *f, const char *file, unsigned order, const struct source *s,
    const struct note *n, const char *message)
{
	_cleanup_text_ struct text clean = { 0 };
	struct finding x = { .source = s, .order = order, .cut = n->cut };

	text_add_printable(&clean, message, strlen(message));
	for (size_t i = 0; i < f->n && clean.data; i++) {
		const struct config_problem *p = &f->items[i].p;

		if (f->items[i].order == order && p->line == n->at.line && p->column == n->at.column &&
		    !strcmp(p->code, n->code) && !strcmp(p->message, clean.data))
			return; /* a template says it again for everyone who extends it */
	}
	if (!n->warning)
		f->n_errors++;
	if (f->n >= FINDINGS_MAX)
		return;
	if (f->n == f->room) {
		size_t room = f->room ? f->room * 2 : 16;
		struct finding *p = realloc(f->items, room * sizeof(*p));

		if (!p)
			goto fail;
		f->items = p;
		f->room = room;
	}
	x.p.file = strdup(file);
	x.p.line = n->at.line;
	x.p.column = n->at.column;
	x.p.end_column = n->at.end_column > n->at.column ? n->at.end_column : n->at.column + 1;
	x.p.warning = n->warning;
	x.p.code = strdup(n->code);
	x.p.message = text_take(&clean);
	x.p.hint = n->hint && *n->hint ? strdup(n->hint) : NULL;
	if (!x.p.file || !x.p.code || !x.p.message || (n->hint && *n->hint && !x.p.hint)) {
		problem_free(&x.p);
		goto fail;
	}
	f->items[f->n++] = x;
	return;
fail:
	f->failed = true;
}

void findings_addv(
    struct findings *f, const struct source *s, const struct note *n, const char *fmt, va_list ap)
{
	_cleanup_(freep) char *message = NULL;

	if (f->quiet)
		return;
	if (vasprintf(&message, fmt, ap) < 0) {
		message = NULL;
		f->failed = true;
		return;
	}
	add(f, s->shown, s->order, s, n, message);
}

void findings_add(struct findings *f, const struct source *s, const struct note *n, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	findings_addv(f, s, n, fmt, ap);
	va_end(ap);
}

void findings_add_file(struct findings *f, const char *file, unsigned order, unsigned line, const char *code,
    const char *fmt, ...)
{
	struct note n = { .code = code, .at = { line, line ? 1 : 0, 0 } };
	_cleanup_(freep) char *message = NULL;
	va_list ap;
	int r;

	va_start(ap, fmt);
	r = vasprintf(&message, fmt, ap);
	va_end(ap);
	if (r < 0) {
		message = NULL;
		f->failed = true;
		return;
	}
	add(f, file, order, NULL, &n, message);
}

static int by_place(const void *a, const void *b)
{
	const struct finding *x = a, *y = b;
	int r;

	if (x->order != y->order)
		return x->order < y->order ? -1 : 1;
	r = strcmp(x->p.file, y->p.file);
	if (r)
		return r;
	if (x->p.line != y->p.line)
		return x->p.line < y->p.line ? -1 : 1;
	if (x->p.column != y->p.column)
		return x->p.column < y->p.column ? -1 : 1;
	r = strcmp(x->p.code, y->p.code);
	return r ? r : strcmp(x->p.message, y->p.message);
}

int findings_take(struct findings *f, struct config_problems *ret)
{
	struct config_problems out = { 0 };

	if (f->failed)
		goto fail;
	if (f->n) {
		qsort(f->items, f->n, sizeof(*f->items), by_place);
		out.items = calloc(f->n, sizeof(*out.items));
		if (!out.items)
			goto fail;
	}
	for (size_t i = 0; i < f->n; i++) {
		struct finding *x = &f->items[i];

		if (x->source && x->p.line &&
		    source_line_shown(x->source, x->p.line, x->cut ? x->p.end_column : 0, &x->p.source) < 0)
			goto fail;
		out.items[out.n++] = x->p;
		memset(&x->p, 0, sizeof(x->p));
	}
	findings_free(f);
	*ret = out;
	return 0;
fail:
	config_problems_free(&out);
	findings_free(f);
	return -ENOMEM;
}

/* A line too wide for a terminal is shown from here on. */
static unsigned window_start(unsigned column)
{
	return column > 100 ? column - 60 : 1;
}

static void print_source(const struct config_problem *p, FILE *out, bool colour)
{
	enum { WIDTH = 150 };
	unsigned from = window_start(p->column), end = p->end_column, at = 1;
	const unsigned char *s = (const unsigned char *)p->source;
	_cleanup_text_ struct text line = { 0 };

	for (; *s && at < from + WIDTH; at++) {
		size_t n = 1;

		while ((s[n] & 0xc0) == 0x80)
			n++;
		if (at >= from) {
			if (*s == '\t')
				text_add(&line, " ");
			else if (*s < 0x20 || *s == 0x7f || (*s == 0xc2 && s[1] < 0xa0) ||
				 utf8_valid_prefix(s, n) != n)
				text_add(&line, "?");
			else
				text_add_bytes(&line, s, n);
		}
		s += n;
	}
	if (*s)
		text_add(&line, " ...");
	fprintf(out, "%5u | %s%s\n", p->line, from > 1 ? "... " : "", line.data ? line.data : "");
	if (end > at)
		end = at > p->column ? at : p->column + 1;
	fprintf(out, "      | %*s%s^", (int)(p->column - from + (from > 1 ? 4 : 0)), "",
	    colour ? (p->warning ? "\033[35m" : "\033[31m") : "");
	for (unsigned c = p->column + 1; c < end; c++)
		fputc('~', out);
	fprintf(out, "%s\n", colour ? "\033[0m" : "");
}

void config_print_problems(const struct config_problems *p, FILE *out, bool colour)
{
	size_t errors = 0, warnings = 0;

	for (size_t i = 0; i < p->n; i++) {
		const struct config_problem *x = &p->items[i];
		_cleanup_text_ struct text file = { 0 };
		char place[48] = "";
		const char *stop;

		if (x->warning)
			warnings++;
		else
			errors++;
		text_add_printable(&file, x->file, strlen(x->file));
		if (x->line)
			snprintf(place, sizeof(place), "%u:%u:", x->line, x->column);
		stop = x->hint && !strchr(".!?", x->message[strlen(x->message) - 1]) ? ". " : " ";
		fprintf(out, "%s%s:%s%s %s%s:%s %s%s%s\n", colour ? "\033[1m" : "",
		    file.data ? file.data : "", place, colour ? "\033[0m" : "",
		    colour ? (x->warning ? "\033[1;35m" : "\033[1;31m") : "",
		    x->warning ? "warning" : "error", colour ? "\033[0m" : "", x->message,
		    x->hint ? stop : "", x->hint ? x->hint : "");
		if (x->source)
			print_source(x, out, colour);
	}
	if (errors)
		fprintf(out, "%zu error%s", errors, errors == 1 ? "" : "s");
	if (warnings)
		fprintf(out, "%s%zu warning%s", errors ? ", " : "", warnings, warnings == 1 ? "" : "s");
	if (errors >= FINDINGS_MAX)
		fprintf(out, ", and perhaps more");
	if (errors)
		fprintf(out, ". Nothing was changed.\n");
	else if (warnings)
		fprintf(out, ".\n");
}

cJSON *config_problems_to_json(const struct config_problems *p)
{
	_cleanup_json_ cJSON *list = cJSON_CreateArray();

	for (size_t i = 0; list && i < p->n; i++) {
		const struct config_problem *x = &p->items[i];
		cJSON *j = cJSON_CreateObject();

		if (!j || !cJSON_AddItemToArray(list, j)) {
			cJSON_Delete(j);
			return NULL;
		}
		json_add_text(j, "file", x->file);
		json_add_i64(j, "line", x->line);
		json_add_i64(j, "column", x->column);
		json_add_i64(j, "end", x->end_column);
		json_add_text(j, "severity", x->warning ? "warning" : "error");
		json_add_text(j, "code", x->code);
		json_add_text(j, "message", x->message);
		json_add_text(j, "hint", x->hint);
	}
	return TAKE_PTR(list);
}
