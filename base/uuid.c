/* SPDX-License-Identifier: Apache-2.0 */
#include "base/uuid.h"

#include <ctype.h>
#include <errno.h>
#include <string.h>
#include <sys/random.h>

#include "base/clock.h"

void random_bytes(void *ret, unsigned size)
{
	unsigned char *p = ret;

	while (size) {
		ssize_t n = getrandom(p, size, 0);

		if (n < 0) {
			if (errno == EINTR)
				continue;
			__builtin_trap(); /* no kernel we run on lacks it */
		}
		p += n;
		size -= (unsigned)n;
	}
}

struct uuid uuid_make_v7(int64_t wall_us)
{
	static uint64_t last_ms;
	static uint16_t counter;
	struct uuid u;
	uint64_t ms = (uint64_t)(wall_us ? wall_us : clock_now_us()) / 1000;

	random_bytes(u.b, sizeof(u.b));
	/* rand_a is a counter within one millisecond, seeded low enough to have room (RFC 9562 6.2, method 1) */
	if (ms == last_ms) {
		counter++;
	} else {
		counter = (uint16_t)((u.b[6] << 8 | u.b[7]) & 0x7ff);
		last_ms = ms;
	}
	for (int i = 0; i < 6; i++)
		u.b[i] = (uint8_t)(ms >> (40 - 8 * i));
	u.b[6] = (uint8_t)(0x70 | ((counter >> 8) & 0x0f));
	u.b[7] = (uint8_t)counter;
	u.b[8] = (uint8_t)(0x80 | (u.b[8] & 0x3f));
	return u;
}

char *uuid_format(const struct uuid *u, char *ret)
{
	static const char hex[] = "0123456789abcdef";
	char *p = ret;

	for (int i = 0; i < 16; i++) {
		if (i == 4 || i == 6 || i == 8 || i == 10)
			*p++ = '-';
		*p++ = hex[u->b[i] >> 4];
		*p++ = hex[u->b[i] & 15];
	}
	*p = '\0';
	return ret;
}

int uuid_parse(const char *text, struct uuid *ret)
{
	struct uuid u;
	const char *p = text;

	for (int i = 0; i < 16; i++) {
		int v = 0;

		if (i == 4 || i == 6 || i == 8 || i == 10)
			if (*p++ != '-')
				return -EINVAL;
		for (int k = 0; k < 2; k++, p++) {
			if (!isxdigit((unsigned char)*p))
				return -EINVAL;
			v = v * 16 + (isdigit((unsigned char)*p) ? *p - '0' : (*p | 32) - 'a' + 10);
		}
		u.b[i] = (uint8_t)v;
	}
	if (*p)
		return -EINVAL;
	*ret = u;
	return 0;
}
