/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/table.h"

#include <libsmartcols.h>
#include <string.h>
#include <strings.h>

enum { COLUMNS_MAX = 16 };

struct cli_table {
	const struct cli *c;
	struct libscols_table *t;
	struct libscols_line *line;
	int at[COLUMNS_MAX]; /* by place in the description: the column of libsmartcols, or -1 */
};

static int add_column(struct cli_table *t, const struct cli_column *columns, size_t i, int *n)
{
	const struct cli_column *x = &columns[i];

	/* a cut column asks for nothing, so libsmartcols takes what is too much from it alone */
	if (t->at[i] >= 0)
		return 0;
	if (!scols_table_new_column(t->t, x->name, x->cut ? 0.1 : 0, (x->right ? SCOLS_FL_RIGHT : 0) | (x->cut ? SCOLS_FL_TRUNC : 0)))
		return cli_fail(CLI_TRY_AGAIN, NULL, "out of memory");
	t->at[i] = (*n)++;
	return 0;
}

static int unknown_column(const struct cli_column *columns, const char *name)
{
	_cleanup_text_ struct text hint = { 0 };

	text_add(&hint, "There are:");
	for (; columns->name; columns++)
		if (columns->name[0])
			text_addf(&hint, " %s", columns->name);
	return cli_fail(CLI_USAGE, hint.data, "--columns: there is no column '%s'", name);
}

int cli_table_new(struct cli_table **ret, const struct cli *c, const struct cli_column *columns)
{
	_cleanup_(cli_table_freep) struct cli_table *t = calloc(1, sizeof(*t));
	int r = 0, n = 0;

	if (t)
		t->t = scols_new_table();
	if (!t || !t->t)
		return cli_fail(CLI_TRY_AGAIN, NULL, "out of memory");
	t->c = c;
	for (size_t i = 0; i < COLUMNS_MAX; i++)
		t->at[i] = -1;
	scols_table_set_column_separator(t->t, "  ");
	scols_table_enable_colors(t->t, c->colour);
	scols_table_enable_noheadings(t->t, c->o.no_header);
	scols_table_set_termforce(t->t, c->width ? SCOLS_TERMFORCE_ALWAYS : SCOLS_TERMFORCE_NEVER);
	if (c->width)
		scols_table_set_termwidth(t->t, c->width);
	for (const char *p = c->o.columns; p && *p && !r; p += *p == ',') {
		char name[32];
		size_t len = strcspn(p, ","), i;

		snprintf(name, sizeof(name), "%.*s", (int)len, p);
		for (i = 0; columns[i].name && strcasecmp(columns[i].name, name); i++)
			;
		if (!columns[i].name || !name[0])
			return unknown_column(columns, name);
		r = add_column(t, columns, i, &n);
		p += len;
	}
	for (size_t i = 0; columns[i].name && !c->o.columns && !r; i++)
		if (!c->width || c->width >= columns[i].narrow)
			r = add_column(t, columns, i, &n);
	if (r)
		return r;
	*ret = TAKE_PTR(t);
	return 0;
}

struct cli_table *cli_table_free(struct cli_table *t)
{
	if (!t)
		return NULL;
	scols_unref_table(t->t);
	free(t);
	return NULL;
}

void cli_table_add_line(struct cli_table *t)
{
	t->line = scols_table_new_line(t->t, NULL);
}

void cli_table_set(struct cli_table *t, size_t column, const char *text, const char *colour)
{
	struct libscols_cell *cell;

	if (!t->line || t->at[column] < 0)
		return;
	cell = scols_line_get_cell(t->line, (size_t)t->at[column]);
	scols_cell_set_data(cell, text); /* control bytes are escaped when it is printed */
	if (colour && t->c->colour)
		scols_cell_set_color(cell, colour);
}

void cli_table_print(struct cli_table *t, struct text *out)
{
	_cleanup_(freep) char *data = NULL;

	if (scols_print_table_to_string(t->t, &data) != 0 || !data)
		return;
	/* libsmartcols pads the last column when it is cut, and ends the last line without LF */
	for (const char *p = data; *p;) {
		size_t n = strcspn(p, "\n"), used = n;

		while (used && p[used - 1] == ' ')
			used--;
		text_add_bytes(out, p, used);
		text_add(out, "\n");
		p += n;
		p += *p == '\n';
	}
}
