/* SPDX-License-Identifier: Apache-2.0 */
/* Findings while they are gathered: any number, from any file, in any order. */
#pragma once

#include <stdarg.h>

#include "config/config.h"

struct source;

/* Where in a source: lines and columns from 1, columns in characters. end_column is one past the last. */
struct span {
	unsigned line, column, end_column;
};

struct finding {
	struct config_problem p;
	const struct source *source; /* borrowed; NULL: no line of it is ever shown */
	unsigned order;              /* of the file among all that were read */
	bool cut;                    /* of the line, show nothing after the place */
};

enum { FINDINGS_MAX = 500 };

struct findings {
	struct finding *items;
	size_t n, room;
	size_t n_errors;
	bool failed; /* memory ran out */
	bool quiet;  /* take none: the same ground is walked again */
};

struct note {
	struct span at;
	bool warning;
	bool cut;
	const char *code; /* static */
	const char *hint; /* borrowed; NULL or "": none */
};

void findings_add(struct findings *f, const struct source *s, const struct note *n, const char *fmt, ...)
    __attribute__((format(printf, 4, 5)));
void findings_addv(struct findings *f, const struct source *s, const struct note *n, const char *fmt,
    va_list ap) __attribute__((format(printf, 4, 0)));

/* A finding about a file no line of which is shown: one that cannot be read (line 0), an env file. */
void findings_add_file(struct findings *f, const char *file, unsigned order, unsigned line, const char *code,
    const char *fmt, ...) __attribute__((format(printf, 6, 7)));

/* Sorts, adds the source lines, and hands all over. @f is empty afterwards. */
int findings_take(struct findings *f, struct config_problems *ret);

void findings_free(struct findings *f);
