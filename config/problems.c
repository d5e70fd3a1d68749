/* SPDX-License-Identifier: Apache-2.0 */
#include "config/problems.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/text.h"

enum { PROBLEMS_MAX = 1000, SOURCE_MAX = 16 << 20 };

void problems_add(struct config_problems *p, bool warning, const char *file, unsigned line, unsigned column,
    unsigned end_column, const char *code, const char *message, const char *hint)
{
	struct config_problem *items, *x;

	for (size_t i = 0; i < p->n; i++)
		if (p->items[i].line == line && p->items[i].column == column && !strcmp(p->items[i].message, message) &&
		    !strcmp(p->items[i].file, file))
			return;
	if (p->n >= PROBLEMS_MAX)
		return;
	items = realloc(p->items, (p->n + 1) * sizeof(*items));
	if (!items)
		return;
	p->items = items;
	x = &items[p->n];
	*x = (struct config_problem){ .file = strdup(file), .line = line, .column = column, .end_column = end_column,
		.warning = warning, .code = strdup(code), .message = strdup(message), .hint = hint ? strdup(hint) : NULL };
	if (x->file && x->code && x->message)
		p->n++;
}

static int by_place(const void *a, const void *b)
{
	const struct config_problem *x = a, *y = b;
	int c = strcmp(x->file, y->file);

	if (c)
		return c;
	if (x->line != y->line)
		return x->line < y->line ? -1 : 1;
	return x->column < y->column ? -1 : x->column > y->column;
}

void problems_sort(struct config_problems *p)
{
	if (p->n)
		qsort(p->items, p->n, sizeof(*p->items), by_place);
}

bool problems_any_error(const struct config_problems *p)
{
	for (size_t i = 0; i < p->n; i++)
		if (!p->items[i].warning)
			return true;
	return false;
}

void config_problems_free(struct config_problems *p)
{
	for (size_t i = 0; i < p->n; i++) {
		free(p->items[i].file);
		free(p->items[i].code);
		free(p->items[i].message);
		free(p->items[i].hint);
	}
	free(p->items);
	*p = (struct config_problems){ 0 };
}

/* The source line, unless it may hold a secret: a line of an env file, or one with the code "secret". */
static void print_source(const struct config_problem *x, FILE *out, bool colour)
{
	_cleanup_(freep) char *data = NULL;
	_cleanup_text_ struct text shown = { 0 };
	const char *start, *end;
	unsigned line = 1;
	size_t width;

	if (!x->line || !strncmp(x->code, "env", 3) || file_read(AT_FDCWD, x->file, SOURCE_MAX, &data, NULL) < 0)
		return;
	for (start = data; line < x->line; line++) {
		start = strchr(start, '\n');
		if (!start)
			return;
		start++;
	}
	end = start + strcspn(start, "\r\n");
	text_add_printable(&shown, start, (size_t)(end - start));
	for (char *c = shown.data; c && *c; c++)
		if (*c == '\t')
			*c = ' '; /* so that the caret stands where it should */
	fprintf(out, "%5u | %s\n      | ", x->line, shown.data ? shown.data : "");
	width = x->end_column > x->column ? x->end_column - x->column : 1;
	if (width > 60)
		width = 60;
	fprintf(out, "%*s%s^", (int)x->column - 1, "", colour ? "\033[1;31m" : "");
	for (size_t i = 1; i < width; i++)
		fputc('~', out);
	fprintf(out, "%s\n", colour ? "\033[0m" : "");
}

void config_print_problems(const struct config_problems *p, FILE *out, bool colour)
{
	size_t errors = 0;

	for (size_t i = 0; i < p->n; i++) {
		const struct config_problem *x = &p->items[i];
		_cleanup_text_ struct text t = { 0 };

		errors += !x->warning;
		text_add_printable(&t, x->message, strlen(x->message));
		if (x->hint) {
			text_add(&t, ". ");
			text_add_printable(&t, x->hint, strlen(x->hint));
		}
		if (x->line)
			fprintf(out, "%s%s:%u:%u:%s ", colour ? "\033[1m" : "", x->file, x->line, x->column, colour ? "\033[0m" : "");
		else
			fprintf(out, "%s%s:%s ", colour ? "\033[1m" : "", x->file, colour ? "\033[0m" : "");
		fprintf(out, "%s%s:%s %s\n", colour ? x->warning ? "\033[1;35m" : "\033[1;31m" : "",
		    x->warning ? "warning" : "error", colour ? "\033[0m" : "", t.data ? t.data : "");
		print_source(x, out, colour);
	}
	if (p->n)
		fprintf(out, "%zu error%s, %zu warning%s. %s\n", errors, errors == 1 ? "" : "s", p->n - errors,
		    p->n - errors == 1 ? "" : "s", errors ? "Nothing was changed." : "");
}

cJSON *config_problems_to_json(const struct config_problems *p)
{
	cJSON *j = cJSON_CreateObject(), *list;

	json_add_text(j, "schema", "supervise.check/1");
	list = json_add_array(j, "problems");
	for (size_t i = 0; i < p->n; i++) {
		const struct config_problem *x = &p->items[i];
		cJSON *item = cJSON_CreateObject();

		json_add_text(item, "file", x->file);
		json_add_i64(item, "line", x->line);
		json_add_i64(item, "column", x->column);
		json_add_i64(item, "end_column", x->end_column);
		json_add_text(item, "severity", x->warning ? "warning" : "error");
		json_add_text(item, "code", x->code);
		json_add_text(item, "message", x->message);
		json_add_text(item, "hint", x->hint);
		cJSON_AddItemToArray(list, item);
	}
	return j;
}
