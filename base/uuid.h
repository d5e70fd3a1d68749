/* SPDX-License-Identifier: Apache-2.0 */
/* UUID version 7 (RFC 9562 section 5.7): time-ordered ids, made here because libuuid 2.38 has only v1 and v4. */
#pragma once

#include <stdint.h>

enum { UUID_TEXT_MAX = 37 };

struct uuid {
	uint8_t b[16];
};

/**
 * uuid_make_v7() - a new id; ids of one process ascend even within a millisecond
 * @wall_us:  wall time in microseconds, or 0 for now
 *
 * Not safe in a signal handler; one thread at a time.
 */
struct uuid uuid_make_v7(int64_t wall_us);

/* Lower-case text with hyphens. Return: @ret (UUID_TEXT_MAX bytes) */
char *uuid_format(const struct uuid *u, char *ret);

/* Return: 0 or -EINVAL */
int uuid_parse(const char *text, struct uuid *ret);

/* @size random bytes from getrandom(2). */
void random_bytes(void *ret, unsigned size);
