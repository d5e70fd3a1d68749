/* SPDX-License-Identifier: Apache-2.0 */
/* Text: growing buffers, UTF-8, edit distance, numbers. */
#pragma once

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include "base/cleanup.h"

/* A growing byte string. All zero is empty and valid; data is NUL-terminated once anything was added. */
struct text {
	char *data;
	size_t size; /* bytes in use, without the NUL */
	size_t room;
	bool failed; /* memory ran out: what was added since is missing */
};

void text_add(struct text *t, const char *s);
void text_add_bytes(struct text *t, const void *data, size_t size);
void text_addf(struct text *t, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
void text_free(struct text *t);
#define _cleanup_text_ _cleanup_(text_free)

/* Hands the string over (caller frees; "" when empty) and resets @t. Return: NULL when memory ran out */
char *text_take(struct text *t);

/**
 * utf8_valid_prefix() - length of the longest well-formed prefix (Unicode 15, table 3-7)
 * Return:  bytes, 0..@size
 */
size_t utf8_valid_prefix(const void *data, size_t size);

/* Adds @size bytes with every malformed byte replaced by U+FFFD. */
void text_add_utf8(struct text *t, const void *data, size_t size);

/* Adds @size bytes as the inside of a JSON string (RFC 8259): escaped, malformed UTF-8 replaced by U+FFFD. */
void text_add_json(struct text *t, const void *data, size_t size);

/* Adds @size bytes safe for a terminal: control bytes except tab and newline as \xNN, malformed UTF-8 likewise. */
void text_add_printable(struct text *t, const void *data, size_t size);

/**
 * text_nearest() - the candidate a person may have meant
 * @word:        what was typed
 * @candidates:  @n names
 *
 * Source:  Damerau-Levenshtein distance (adjacent transposition counts once), at most 1 + length/4 edits
 *
 * Return:  one of @candidates (borrowed), or NULL
 */
const char *text_nearest(const char *word, const char *const *candidates, size_t n);

/* Whole string as a decimal number. Return: 0, -EINVAL or -ERANGE */
int parse_u64(const char *s, uint64_t *ret);
int parse_i64(const char *s, int64_t *ret);

/* "10s", "1h30m", "250ms", "2d", "1.5s"; a bare number is seconds. Return: 0 or -EINVAL */
int parse_duration_ms(const char *s, uint64_t *ret_ms);

/* "50M", "6G", "1024", "64KiB": powers of 1024. Return: 0, -EINVAL or -ERANGE */
int parse_size(const char *s, uint64_t *ret_bytes);

/* "6.1G", "182M", "40K", "12B". Return: @ret (at least 16 bytes) */
char *format_size(uint64_t bytes, char *ret);

/* Signal names without "SIG": signal_from_name("TERM" or "SIGTERM" or "15"). Return: number, or -EINVAL */
int signal_from_name(const char *name);
/* "SIGTERM", "SIGRTMIN+3", "signal 99". Return: static or @buf (at least 24 bytes) */
const char *signal_to_name(int sig, char *buf);
