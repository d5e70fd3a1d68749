/* SPDX-License-Identifier: Apache-2.0 */
/* Text helpers. None of them looks at the locale. */
#include "base/text.h"

#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

static bool reserve(struct text *t, size_t more)
{
	size_t room = t->room ? t->room : 128;
	char *p;

	if (t->failed || more > SIZE_MAX / 4 - t->size)
		goto fail;
	if (t->size + more + 1 <= t->room)
		return true;
	while (room < t->size + more + 1)
		room *= 2;
	p = realloc(t->data, room);
	if (!p)
		goto fail;
	t->data = p;
	t->room = room;
	return true;
fail:
	t->failed = true;
	return false;
}

void text_add_bytes(struct text *t, const void *data, size_t size)
{
	if (!reserve(t, size))
		return;
	if (size)
		memcpy(t->data + t->size, data, size);
	t->size += size;
	t->data[t->size] = '\0';
}

void text_add(struct text *t, const char *s)
{
	text_add_bytes(t, s, strlen(s));
}

void text_addf(struct text *t, const char *fmt, ...)
{
	va_list ap;
	int n;

	va_start(ap, fmt);
	n = vsnprintf(NULL, 0, fmt, ap);
	va_end(ap);
	if (n < 0 || !reserve(t, (size_t)n)) {
		t->failed = true;
		return;
	}
	va_start(ap, fmt);
	vsnprintf(t->data + t->size, (size_t)n + 1, fmt, ap);
	va_end(ap);
	t->size += (size_t)n;
}

void text_free(struct text *t)
{
	free(t->data);
	*t = (struct text){ 0 };
}

char *text_take(struct text *t)
{
	char *p;

	text_add_bytes(t, "", 0);
	p = t->failed ? NULL : t->data;
	if (!p)
		free(t->data);
	*t = (struct text){ 0 };
	return p;
}

/* Length of the well-formed sequence at p, or 0. */
static size_t utf8_step(const unsigned char *p, size_t n)
{
	unsigned char lo = 0x80, hi = 0xbf;
	size_t len;

	if (p[0] < 0x80)
		return 1;
	if (p[0] >= 0xc2 && p[0] <= 0xdf)
		len = 2;
	else if (p[0] >= 0xe0 && p[0] <= 0xef)
		len = 3;
	else if (p[0] >= 0xf0 && p[0] <= 0xf4)
		len = 4;
	else
		return 0;
	if (p[0] == 0xe0)
		lo = 0xa0;
	if (p[0] == 0xed)
		hi = 0x9f;
	if (p[0] == 0xf0)
		lo = 0x90;
	if (p[0] == 0xf4)
		hi = 0x8f;
	if (n < len || p[1] < lo || p[1] > hi)
		return 0;
	for (size_t i = 2; i < len; i++)
		if ((p[i] & 0xc0) != 0x80)
			return 0;
	return len;
}

size_t utf8_valid_prefix(const void *data, size_t size)
{
	const unsigned char *p = data;
	size_t i = 0;

	while (i < size) {
		uint64_t v;
		size_t n;

		if (size - i >= 8) {
			memcpy(&v, p + i, 8);
			if (!(v & 0x8080808080808080ull)) {
				i += 8;
				continue;
			}
		}
		n = utf8_step(p + i, size - i);
		if (!n)
			break;
		i += n;
	}
	return i;
}

void text_add_utf8(struct text *t, const void *data, size_t size)
{
	const char *p = data;

	while (size) {
		size_t n = utf8_valid_prefix(p, size);

		text_add_bytes(t, p, n);
		p += n;
		size -= n;
		if (size) {
			text_add(t, "\xef\xbf\xbd");
			p++;
			size--;
		}
	}
}

void text_add_json(struct text *t, const void *data, size_t size)
{
	const unsigned char *p = data;
	size_t i = 0;

	if (!reserve(t, size))
		return;
	while (i < size) {
		size_t start = i, n;

		while (i < size && p[i] >= 0x20 && p[i] < 0x7f && p[i] != '"' && p[i] != '\\')
			i++;
		if (i > start)
			text_add_bytes(t, p + start, i - start);
		if (i == size)
			break;
		switch (p[i]) {
		case '"':
			text_add(t, "\\\"");
			i++;
			continue;
		case '\\':
			text_add(t, "\\\\");
			i++;
			continue;
		case '\n':
			text_add(t, "\\n");
			i++;
			continue;
		case '\r':
			text_add(t, "\\r");
			i++;
			continue;
		case '\t':
			text_add(t, "\\t");
			i++;
			continue;
		default:
			break;
		}
		if (p[i] < 0x20 || p[i] == 0x7f) {
			text_addf(t, "\\u%04x", p[i++]);
			continue;
		}
		n = utf8_step(p + i, size - i);
		if (n) {
			text_add_bytes(t, p + i, n);
			i += n;
		} else {
			text_add(t, "\xef\xbf\xbd");
			i++;
		}
	}
}

void text_add_printable(struct text *t, const void *data, size_t size)
{
	const unsigned char *p = data;

	for (size_t i = 0; i < size;) {
		size_t n = utf8_step(p + i, size - i);

		/* C0 and C1 controls move cursors and set colours */
		if (!n || (n == 1 && (p[i] < 0x20 || p[i] == 0x7f) && p[i] != '\t' && p[i] != '\n') ||
		    (n == 2 && p[i] == 0xc2 && p[i + 1] < 0xa0)) {
			text_addf(t, "\\x%02x", p[i]);
			i++;
			continue;
		}
		text_add_bytes(t, p + i, n);
		i += n;
	}
}

enum { NEAREST_MAX = 64 };

static unsigned distance(const char *a, const char *b)
{
	unsigned d[3][NEAREST_MAX + 1];
	size_t la = strlen(a), lb = strlen(b);

	if (la > NEAREST_MAX || lb > NEAREST_MAX)
		return NEAREST_MAX;
	for (size_t j = 0; j <= lb; j++)
		d[0][j] = (unsigned)j;
	for (size_t i = 1; i <= la; i++) {
		unsigned *row = d[i % 3], *up = d[(i - 1) % 3], *up2 = d[(i + 1) % 3];

		row[0] = (unsigned)i;
		for (size_t j = 1; j <= lb; j++) {
			unsigned best = up[j - 1] + (tolower((unsigned char)a[i - 1]) != tolower((unsigned char)b[j - 1]));

			if (up[j] + 1 < best)
				best = up[j] + 1;
			if (row[j - 1] + 1 < best)
				best = row[j - 1] + 1;
			if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] && up2[j - 2] + 1 < best)
				best = up2[j - 2] + 1;
			row[j] = best;
		}
	}
	return d[la % 3][lb];
}

const char *text_nearest(const char *word, const char *const *candidates, size_t n)
{
	const char *best = NULL;
	unsigned best_distance = 2 + (unsigned)strlen(word) / 4;

	for (size_t i = 0; i < n; i++) {
		unsigned d = distance(word, candidates[i]);

		if (d < best_distance && d < strlen(candidates[i])) {
			best = candidates[i];
			best_distance = d;
		}
	}
	return best;
}

int parse_u64(const char *s, uint64_t *ret)
{
	char *end;
	unsigned long long v;

	if (!isdigit((unsigned char)*s))
		return -EINVAL;
	errno = 0;
	v = strtoull(s, &end, 10);
	if (*end)
		return -EINVAL;
	if (errno)
		return -ERANGE;
	*ret = v;
	return 0;
}

int parse_i64(const char *s, int64_t *ret)
{
	char *end;
	long long v;

	if (!isdigit((unsigned char)*s) && !(*s == '-' && isdigit((unsigned char)s[1])))
		return -EINVAL;
	errno = 0;
	v = strtoll(s, &end, 10);
	if (*end)
		return -EINVAL;
	if (errno)
		return -ERANGE;
	*ret = v;
	return 0;
}

/* Digits with at most one point, without exponent, sign or locale. Return: 0 or -EINVAL */
static int decimal(const char **p, double *ret)
{
	double v = 0, scale = 1;
	bool any = false;

	for (; isdigit((unsigned char)**p); (*p)++, any = true)
		v = v * 10 + (**p - '0');
	if (**p == '.') {
		(*p)++;
		for (; isdigit((unsigned char)**p); (*p)++, any = true)
			v += (**p - '0') * (scale /= 10);
	}
	if (!any)
		return -EINVAL;
	*ret = v;
	return 0;
}

int parse_duration_ms(const char *s, uint64_t *ret_ms)
{
	static const struct {
		const char *unit;
		double ms;
	} units[] = { { "ms", 1 }, { "s", 1e3 }, { "m", 60e3 }, { "min", 60e3 }, { "h", 3600e3 }, { "d", 86400e3 },
		{ "w", 7 * 86400e3 } };
	const char *p = s;
	double total = 0, last = INFINITY;

	if (!*p)
		return -EINVAL;
	while (*p) {
		size_t n = 0, i;
		double v;

		if (decimal(&p, &v) < 0)
			return -EINVAL;
		while (isalpha((unsigned char)p[n]))
			n++;
		if (!n) {
			if (*p || last != INFINITY)
				return -EINVAL;
			total = v * 1e3;
			break;
		}
		for (i = 0; i < ARRAY_SIZE(units); i++)
			if (strlen(units[i].unit) == n && !strncmp(units[i].unit, p, n))
				break;
		if (i == ARRAY_SIZE(units) || units[i].ms >= last)
			return -EINVAL;
		total += v * units[i].ms;
		last = units[i].ms;
		p += n;
	}
	if (total > 1e15)
		return -EINVAL;
	*ret_ms = (uint64_t)(total + 0.5);
	return 0;
}

int parse_size(const char *s, uint64_t *ret_bytes)
{
	static const char letters[] = "KMGTP";
	const char *p = s, *at;
	double v;

	if (decimal(&p, &v) < 0)
		return -EINVAL;
	if (*p && (at = strchr(letters, toupper((unsigned char)*p)))) {
		for (const char *q = letters; q <= at; q++)
			v *= 1024;
		p++;
		if (*p == 'i')
			p++;
	}
	if (*p == 'B')
		p++;
	if (*p)
		return -EINVAL;
	if (v >= 9e18)
		return -ERANGE;
	*ret_bytes = (uint64_t)v;
	return 0;
}

char *format_size(uint64_t bytes, char *ret)
{
	static const char letters[] = "BKMGTPE";
	double v = (double)bytes;
	int i = 0;

	while (v >= 1023.5 && i < 6) {
		v /= 1024;
		i++;
	}
	snprintf(ret, 16, i && v < 9.95 ? "%.1f%c" : "%.0f%c", v, letters[i]);
	return ret;
}

int signal_from_name(const char *name)
{
	uint64_t v;
	int base = 0;

	if (!parse_u64(name, &v))
		return v >= 1 && v <= (uint64_t)SIGRTMAX ? (int)v : -EINVAL;
	if (!strncasecmp(name, "SIG", 3))
		name += 3;
	for (int i = 1; i < 32; i++) {
		const char *a = sigabbrev_np(i);

		if (a && !strcasecmp(a, name))
			return i;
	}
	if (!strncasecmp(name, "RTMIN", 5))
		base = SIGRTMIN;
	else if (!strncasecmp(name, "RTMAX", 5))
		base = SIGRTMAX;
	else
		return -EINVAL;
	name += 5;
	if (!*name)
		return base;
	if (base == SIGRTMIN ? *name != '+' : *name != '-')
		return -EINVAL;
	if (parse_u64(name + 1, &v) || v > (uint64_t)(SIGRTMAX - SIGRTMIN))
		return -EINVAL;
	return base == SIGRTMIN ? base + (int)v : base - (int)v;
}

const char *signal_to_name(int sig, char *buf)
{
	const char *a = sig > 0 && sig < 32 ? sigabbrev_np(sig) : NULL;

	if (a)
		snprintf(buf, 24, "SIG%s", a);
	else if (sig >= SIGRTMIN && sig <= SIGRTMAX)
		snprintf(buf, 24, sig == SIGRTMIN ? "SIGRTMIN" : "SIGRTMIN+%d", sig - SIGRTMIN);
	else
		snprintf(buf, 24, "signal %d", sig);
	return buf;
}
