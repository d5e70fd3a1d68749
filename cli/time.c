/* SPDX-License-Identifier: Apache-2.0 */
/* Times as people write and read them. */
#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "base/clock.h"
#include "cli/cli.h"

static int64_t from_tm(struct tm *tm, bool utc)
{
	tm->tm_isdst = -1;
	return (int64_t)(utc ? timegm(tm) : mktime(tm)) * 1000000;
}

/* "14:00", "14:00:05" into hours, minutes, seconds. Return: characters read, 0 if it is none */
static int clock_time(const char *s, struct tm *tm)
{
	int h, m, sec = 0, n = 0, n2 = 0;

	if (!isdigit((unsigned char)*s) || s[strspn(s, "0123456789:")] || sscanf(s, "%2d:%2d%n", &h, &m, &n) < 2 || !n)
		return 0;
	if (s[n] == ':' && sscanf(s + n, ":%2d%n", &sec, &n2) == 1)
		n += n2;
	if (h > 23 || m > 59 || sec > 60 || h < 0 || m < 0 || sec < 0)
		return 0;
	tm->tm_hour = h;
	tm->tm_min = m;
	tm->tm_sec = sec;
	return n;
}

int cli_parse_time(const char *text, int64_t now_us, bool utc, int64_t *ret_us)
{
	time_t now = (time_t)(now_us / 1000000);
	struct tm tm;
	uint64_t ms;
	int64_t us;
	int y, mo, d, n = 0;

	if (*text == '@') {
		if (parse_i64(text + 1, &us) < 0 || us > 253402300799LL || us < 0)
			return -EINVAL;
		*ret_us = us * 1000000;
		return 0;
	}
	if (parse_duration_ms(text, &ms) == 0) {
		if (ms > (uint64_t)now_us / 1000) /* before 1970 */
			return -EINVAL;
		*ret_us = now_us - (int64_t)ms * 1000;
		return 0;
	}
	if (clock_parse_utc(text, ret_us) == 0)
		return 0;
	if (utc)
		gmtime_r(&now, &tm);
	else
		localtime_r(&now, &tm);
	tm.tm_sec = tm.tm_min = tm.tm_hour = 0;
	if (!strcmp(text, "now")) {
		*ret_us = now_us;
		return 0;
	}
	if (!strncmp(text, "today", 5) || !strncmp(text, "yesterday", 9)) {
		if (*text == 'y')
			tm.tm_mday--;
		text += *text == 'y' ? 9 : 5;
	} else if (strspn(text, "0123456789-") >= 10 && sscanf(text, "%4d-%2d-%2d%n", &y, &mo, &d, &n) == 3 && n == 10) {
		static const uint8_t days[] = { 31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31 };

		if (y < 1970 || y > 9999 || mo < 1 || mo > 12 || d < 1 || d > days[mo - 1] ||
		    (mo == 2 && d == 29 && (y % 4 || (y % 100 == 0 && y % 400))))
			return -EINVAL;
		tm.tm_year = y - 1900;
		tm.tm_mon = mo - 1;
		tm.tm_mday = d;
		text += 10;
	} else {
		n = clock_time(text, &tm);
		if (!n || text[n])
			return -EINVAL;
		*ret_us = from_tm(&tm, utc);
		return 0;
	}
	if (*text == ' ' || *text == 'T') {
		text++;
		n = clock_time(text, &tm);
		if (!n)
			return -EINVAL;
		text += n;
	}
	if (*text)
		return -EINVAL;
	*ret_us = from_tm(&tm, utc);
	return 0;
}

char *cli_format_ago(int64_t us, int64_t now_us, char *ret)
{
	char d[24];

	if (!us)
		snprintf(ret, 40, "-");
	else if (now_us - us < 1000000)
		snprintf(ret, 40, "just now");
	else
		snprintf(ret, 40, "%s ago", clock_format_duration((uint64_t)(now_us - us) / 1000, d));
	return ret;
}

char *cli_format_clock(int64_t us, bool utc, char *ret)
{
	time_t s = (time_t)(us / 1000000), now = time(NULL);
	struct tm tm, today;
	size_t n;

	if (utc) {
		gmtime_r(&s, &tm);
		gmtime_r(&now, &today);
	} else {
		localtime_r(&s, &tm);
		localtime_r(&now, &today);
	}
	if (tm.tm_yday == today.tm_yday && tm.tm_year == today.tm_year)
		n = strftime(ret, 40, "%H:%M:%S", &tm);
	else
		n = strftime(ret, 40, "%Y-%m-%d %H:%M:%S", &tm);
	snprintf(ret + n, 40 - n, ".%03d", (int)(us / 1000 % 1000));
	return ret;
}
