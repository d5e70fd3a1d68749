/* SPDX-License-Identifier: Apache-2.0 */
/* Clocks and their texts. No locale and no time zone: a record is always UTC. */
#include "base/clock.h"

#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

static const int64_t min_us = -62135596800000000LL; /* 0001-01-01 */
static const int64_t max_us = 253402300799999999LL; /* 9999-12-31 */

int64_t clock_now_us(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_REALTIME, &ts);
	return (int64_t)ts.tv_sec * 1000000 + ts.tv_nsec / 1000;
}

uint64_t clock_mono_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000000 + (uint64_t)ts.tv_nsec;
}

uint64_t clock_mono_us(void)
{
	return clock_mono_ns() / 1000;
}

uint64_t clock_mono_ms(void)
{
	return clock_mono_ns() / 1000000;
}

char *clock_format_utc(int64_t us, char *ret)
{
	struct tm tm;
	time_t sec;
	int64_t frac;

	if (us < min_us)
		us = min_us;
	if (us > max_us)
		us = max_us;
	frac = us % 1000000;
	sec = us / 1000000;
	if (frac < 0) {
		frac += 1000000;
		sec--;
	}
	gmtime_r(&sec, &tm);
	snprintf(ret, CLOCK_TEXT_MAX, "%04u-%02u-%02uT%02u:%02u:%02u.%06uZ", (unsigned)(tm.tm_year + 1900) % 10000,
	    (unsigned)(tm.tm_mon + 1) % 100, (unsigned)tm.tm_mday % 100, (unsigned)tm.tm_hour % 100,
	    (unsigned)tm.tm_min % 100, (unsigned)tm.tm_sec % 100, (unsigned)frac);
	return ret;
}

static int digits(const char **p, int n, int *ret)
{
	int v = 0;

	for (int i = 0; i < n; i++, (*p)++) {
		if (!isdigit((unsigned char)**p))
			return -EINVAL;
		v = v * 10 + (**p - '0');
	}
	*ret = v;
	return 0;
}

int clock_parse_utc(const char *text, int64_t *ret_us)
{
	const char *p = text;
	struct tm tm = { 0 };
	int64_t frac = 0, sec;
	int year, mon, day, hour, min, s, scale = 100000, oh = 0, om = 0, sign = 0;

	if (digits(&p, 4, &year) || *p++ != '-' || digits(&p, 2, &mon) || *p++ != '-' || digits(&p, 2, &day))
		return -EINVAL;
	if (*p != 'T' && *p != ' ' && *p != 't')
		return -EINVAL;
	p++;
	if (digits(&p, 2, &hour) || *p++ != ':' || digits(&p, 2, &min) || *p++ != ':' || digits(&p, 2, &s))
		return -EINVAL;
	if (*p == '.') {
		p++;
		if (!isdigit((unsigned char)*p))
			return -EINVAL;
		for (int n = 0; isdigit((unsigned char)*p); p++, n++) {
			if (n >= 9)
				return -EINVAL;
			frac += (int64_t)(*p - '0') * scale;
			scale /= 10;
		}
	}
	if (*p == 'Z' || *p == 'z') {
		p++;
	} else if (*p == '+' || *p == '-') {
		sign = *p++ == '-' ? -1 : 1;
		if (digits(&p, 2, &oh))
			return -EINVAL;
		if (*p == ':')
			p++;
		if (digits(&p, 2, &om))
			return -EINVAL;
	} else {
		return -EINVAL;
	}
	if (*p || year < 1 || mon < 1 || mon > 12 || day < 1 || day > 31 || hour > 23 || min > 59 || s > 60 ||
	    oh > 23 || om > 59)
		return -EINVAL;
	tm.tm_year = year - 1900;
	tm.tm_mon = mon - 1;
	tm.tm_mday = day;
	tm.tm_hour = hour;
	tm.tm_min = min;
	tm.tm_sec = s;
	sec = timegm(&tm);
	if (tm.tm_mday != day) /* the 31st of a shorter month */
		return -EINVAL;
	*ret_us = (sec - sign * (oh * 3600 + om * 60)) * 1000000 + frac;
	return 0;
}

char *clock_format_duration(uint64_t ms, char *ret)
{
	uint64_t s = ms / 1000;

	if (ms < 1000)
		snprintf(ret, 24, "%" PRIu64 "ms", ms);
	else if (s < 60)
		snprintf(ret, 24, "%" PRIu64 "s", s);
	else if (s < 3600)
		snprintf(ret, 24, s % 60 && s < 600 ? "%" PRIu64 "m %" PRIu64 "s" : "%" PRIu64 "m", s / 60, s % 60);
	else if (s < 86400)
		snprintf(ret, 24, s / 60 % 60 ? "%" PRIu64 "h %" PRIu64 "m" : "%" PRIu64 "h", s / 3600, s / 60 % 60);
	else
		snprintf(ret, 24, s / 3600 % 24 ? "%" PRIu64 "d %" PRIu64 "h" : "%" PRIu64 "d", s / 86400,
		    s / 3600 % 24);
	return ret;
}
