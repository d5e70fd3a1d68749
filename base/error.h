/* SPDX-License-Identifier: Apache-2.0 */
/* A message for the person at the terminal, carried beside the negative errno that says what failed. */
#pragma once

#include <stddef.h>

struct error {
	char text[1024]; /* what happened, where, what to do; no trailing newline, never a secret */
};

/**
 * error_set() - write the message and hand the code on
 * @err:  borrowed; may be NULL, then only the code is passed on
 * @r:    negative errno, returned unchanged
 * @fmt:  printf format; too long a text is cut at a UTF-8 border and ends in "..."
 *
 * Return:  @r
 */
int error_set(struct error *err, int r, const char *fmt, ...) __attribute__((format(printf, 3, 4)));

/* Puts "prefix: " in front of the message that is already there. Return: @r */
int error_prefix(struct error *err, int r, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
