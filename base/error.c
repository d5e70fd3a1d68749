/* SPDX-License-Identifier: Apache-2.0 */
/* Error messages of fixed size: usable when memory has run out. */
#include "base/error.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static void cut(char *text, size_t size, int wrote)
{
	size_t end;

	if (wrote < 0 || (size_t)wrote < size)
		return;
	end = size - 4;
	while (end > 0 && ((unsigned char)text[end] & 0xc0) == 0x80)
		end--;
	memcpy(text + end, "...", 4);
}

int error_set(struct error *err, int r, const char *fmt, ...)
{
	va_list ap;

	if (!err)
		return r;
	va_start(ap, fmt);
	cut(err->text, sizeof(err->text), vsnprintf(err->text, sizeof(err->text), fmt, ap));
	va_end(ap);
	return r;
}

int error_prefix(struct error *err, int r, const char *fmt, ...)
{
	char head[512], old[sizeof(err->text)];
	va_list ap;

	if (!err)
		return r;
	va_start(ap, fmt);
	cut(head, sizeof(head), vsnprintf(head, sizeof(head), fmt, ap));
	va_end(ap);
	memcpy(old, err->text, sizeof(old));
	return error_set(err, r, "%s: %s", head, old);
}
