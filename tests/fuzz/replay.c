/* SPDX-License-Identifier: Apache-2.0 */
/* Runs a fuzz target over every file of the folders given: the regression test of what fuzzing once found. */
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>

#include "base/cleanup.h"
#include "base/file.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int main(int argc, char **argv)
{
	unsigned n = 0;

	for (int i = 1; i < argc; i++) {
		_cleanup_(closedirp) DIR *d = opendir(argv[i]);
		struct dirent *e;

		while (d && (e = readdir(d))) {
			_cleanup_(freep) char *data = NULL;
			size_t size;

			if (e->d_name[0] == '.' || file_read(dirfd(d), e->d_name, 64u << 20, &data, &size) < 0)
				continue;
			LLVMFuzzerTestOneInput((const uint8_t *)data, size);
			n++;
		}
	}
	printf("%u inputs\n", n);
	return n ? 0 : 1; /* an empty corpus tests nothing */
}
