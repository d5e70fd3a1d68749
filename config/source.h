/* SPDX-License-Identifier: Apache-2.0 */
/* One YAML file: its bytes, its nodes, and which of its lines may be shown to people. */
#pragma once

#include <yaml.h>

#include "config/problem.h"

struct source {
	char *shown;  /* its name as people are told */
	char *path;   /* absolute */
	char *folder; /* absolute; what relative paths in it count from */
	char *data;
	size_t size;
	unsigned order;
	bool parsed; /* there is a document */
	yaml_document_t doc;
	size_t *lines; /* offset of each line in data; n_lines + 1 of them, the last one is size */
	size_t n_lines;
	bool *secret; /* per line */
};

/* Reads the lines of @data (taken) into a source. Return: 0 or -ENOMEM; @data is freed on failure */
int source_new(
    struct source **ret, const char *shown, const char *path, char *data, size_t size, unsigned order);
struct source *source_free(struct source *s);
DEFINE_CLEANUP(struct source *, source_free)

/* Parses it; what is wrong goes to @f. Return: 0, parsed or not; -ENOMEM */
int source_parse(struct source *s, struct findings *f);

/* Root of the document; NULL: not parsed, or nothing in it. */
yaml_node_t *source_root(const struct source *s);
yaml_node_t *source_node(const struct source *s, int index);

struct span source_span(const struct source *s, const yaml_node_t *n);

/* No line of this node is shown from now on. */
void source_hide(struct source *s, const yaml_node_t *n);

/**
 * source_line_shown() - a copy of a line for people
 * @column:  0, or what is at this column and beyond is left out
 * @ret:     the line without its end; stays untouched when the line is blank or may hold a secret
 *
 * Return:  0 or -ENOMEM
 */
int source_line_shown(const struct source *s, unsigned line, unsigned column, char **ret);

/* The column (from 1, in characters) of the first character of a line that is no blank; 0: a blank line */
unsigned source_indent(const struct source *s, unsigned line);
