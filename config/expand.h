/* SPDX-License-Identifier: Apache-2.0 */
/* Texts of the file: variables, the instance number, words as a shell splits them, files of KEY=VALUE lines.
 */
#pragma once

#include "base/text.h"

enum { EXPAND_MAX_BYTES = 128 * 1024 }; /* Linux's MAX_ARG_STRLEN: no argument or variable can be longer */

/* The value of a variable, or NULL; borrowed for the call. */
typedef const char *(*expand_lookup_fn)(void *userdata, const char *name);

struct expansion {
	expand_lookup_fn lookup;
	void *userdata;
	int instance;       /* what %i becomes; -1: it stays */
	bool used_variable; /* set: the result is not what the file says, so it is never shown */
	/* on failure: */
	char what[512];  /* what is wrong */
	char hint[160];  /* or "" */
	size_t at, size; /* which bytes of the input */
};

/**
 * expand_text() - replace ${VAR}, ${VAR:-otherwise}, ${VAR:?message}, $$ and %i
 * @out:  added to; what a variable brings in is not read again
 *
 * A '$' before anything else stays, so text for a shell needs no care. `otherwise` may hold variables itself.
 *
 * Return:  0; 1 with x->what
 */
int expand_text(struct expansion *x, const char *in, size_t size, struct text *out);

struct word_piece {
	size_t from, size; /* in the input, for places */
	char *text;        /* quotes and backslashes worked off, ${...} untouched */
	bool operator;     /* unquoted, and a shell would not take it as a word: | > && */
};

struct word_list {
	struct word_piece *items;
	size_t n;
};

/**
 * words_split() - split into words by the quoting rules of sh(1), without any of its expansions
 * @ret_at:  where the quote that is never closed begins
 *
 * Return:  0; 1 for an open quote or a backslash at the end; -ENOMEM
 */
int words_split(const char *in, struct word_list *ret, size_t *ret_at);
void words_free(struct word_list *w);

typedef int (*env_line_fn)(void *userdata, const char *key, const char *value);
typedef void (*env_wrong_fn)(void *userdata, unsigned line, const char *what);

/**
 * env_file_parse() - KEY=VALUE lines, as shells, systemd and compose files have them
 * @on_line:   for each variable, in order; a result other than 0 ends the reading and is handed on
 * @on_wrong:  for each line that is none, with a text that repeats nothing of the line
 *
 * Blank lines and lines beginning with # are passed over; `export ` may stand before the key; blanks around
 * '=' are not allowed; a value in single quotes is as it stands, in double quotes \n \t \" \\ \$ are escapes,
 * without quotes it ends before blanks and " #". Nothing is replaced in it. A value in quotes may run over
 * several lines.
 *
 * Return:  0, -ENOMEM, or what @on_line returned
 */
int env_file_parse(const char *data, size_t size, env_line_fn on_line, env_wrong_fn on_wrong, void *userdata);

/* Whether @name can be an environment variable: letters, digits, '_', not a digit first. */
bool env_name_ok(const char *name);
