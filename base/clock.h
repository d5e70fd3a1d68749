/* SPDX-License-Identifier: Apache-2.0 */
/* The two clocks: wall time for people and records, monotonic time for every deadline. */
#pragma once

#include <stddef.h>
#include <stdint.h>

enum { CLOCK_TEXT_MAX = 32 }; /* "2026-11-23T18:01:03.412345Z" and its NUL */

/* Wall time (CLOCK_REALTIME), microseconds since the epoch, UTC. */
int64_t clock_now_us(void);

/* CLOCK_MONOTONIC in milliseconds / microseconds / nanoseconds: for deadlines and durations only. */
uint64_t clock_mono_ms(void);
uint64_t clock_mono_us(void);
uint64_t clock_mono_ns(void);

/**
 * clock_format_utc() - RFC 3339 text in UTC with microseconds, "2026-11-23T18:01:03.412345Z"
 * @us:   wall time, microseconds since the epoch; clamped to the years 0001..9999
 * @ret:  CLOCK_TEXT_MAX bytes
 *
 * Return:  @ret
 */
char *clock_format_utc(int64_t us, char *ret);

/**
 * clock_parse_utc() - the reverse of clock_format_utc(); also takes an offset ("+01:00") and 0..9 fraction digits
 * Return:  0, or -EINVAL
 */
int clock_parse_utc(const char *text, int64_t *ret_us);

/* "3d 4h", "12m", "8s", "340ms": two units at the most. Return: @ret (at least 24 bytes) */
char *clock_format_duration(uint64_t ms, char *ret);
