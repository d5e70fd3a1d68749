/* SPDX-License-Identifier: Apache-2.0 */
/* Copies a page in scdoc to standard output; the table of keys takes the place of its line "@KEYS@". Used by the build. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>

#include "base/file.h"
#include "config/config.h"

int main(int argc, char **argv)
{
	static const char mark[] = "@KEYS@\n";
	_cleanup_(freep) char *page = NULL, *keys = config_schema_scdoc();
	char *at;
	int r;

	if (argc != 2 || !keys)
		return 64;
	r = file_read(AT_FDCWD, argv[1], 1 << 20, &page, NULL);
	if (r < 0) {
		fprintf(stderr, "config-man: %s: %s\n", argv[1], strerror(-r));
		return 66;
	}
	at = strstr(page, mark);
	if (at)
		printf("%.*s%s%s", (int)(at - page), page, keys, at + sizeof(mark) - 1);
	else
		fputs(page, stdout);
	return fflush(stdout) || ferror(stdout) ? 74 : 0;
}
