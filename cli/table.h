/* SPDX-License-Identifier: Apache-2.0 */
/* Tables on the screen: libsmartcols, with --columns, and columns that go when the terminal is narrow. */
#pragma once

#include "cli/cli.h"

struct cli_column {
	const char *name;
	bool right; /* aligned */
	bool cut;   /* gives way when the line is too long */
	unsigned narrow; /* shown only when the terminal has at least so many columns; 0: always */
};

struct cli_table;

/**
 * cli_table_new() - an empty table with the columns asked for and those that fit
 * @c:        options, colour, width; kept
 * @columns:  ended by a NULL name; kept. An empty name is the mark in front, which --columns leaves alone
 * @ret:      the caller frees
 *
 * Return: 0, or an exit code after a message (--columns names an unknown one)
 */
int cli_table_new(struct cli_table **ret, const struct cli *c, const struct cli_column *columns);
struct cli_table *cli_table_free(struct cli_table *t);
DEFINE_CLEANUP(struct cli_table *, cli_table_free)

void cli_table_add_line(struct cli_table *t);

/* A cell of the last line. @column: place in @columns; @colour: a name of libsmartcols ("red"), or NULL */
void cli_table_set(struct cli_table *t, size_t column, const char *text, const char *colour);

/* Adds the table to @out, every line ended by LF. */
void cli_table_print(struct cli_table *t, struct text *out);
