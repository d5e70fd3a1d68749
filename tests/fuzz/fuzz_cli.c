/* SPDX-License-Identifier: Apache-2.0 */
/* Any command line and any time text: refused, or taken apart within what was given. */
#include <assert.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/cli.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Words are separated by LF; the first byte says whether it is a time. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const int64_t now_us = INT64_C(1795456863) * 1000000;
	char *copy, *argv[32] = { "supervise" };
	const struct cli_verb *v;
	struct cli_options o;
	int64_t us = 0;
	int argc = 1, r;

	if (!size)
		return 0;
	copy = calloc(1, size);
	assert(copy);
	memcpy(copy, data + 1, size - 1);
	if (*data == 't') {
		if (cli_parse_time(copy, now_us, true, &us) == 0)
			assert(us > -(INT64_C(1) << 60) && us < INT64_C(1) << 60);
		free(copy);
		return 0;
	}
	for (char *rest = copy, *word; argc < 31 && (word = strsep(&rest, "\n"));)
		argv[argc++] = word;
	if (!freopen("/dev/null", "w", stderr))
		abort();
	r = cli_parse(&o, argc, argv, &v);
	if (r == 0 && v) {
		assert(o.n_args < argc && !o.args[o.n_args]);
		for (int i = 0; i < o.n_args; i++)
			assert(o.args[i] >= copy && o.args[i] <= copy + size);
	}
	assert(r == 0 || r == CLI_USAGE);
	free(copy);
	return 0;
}
