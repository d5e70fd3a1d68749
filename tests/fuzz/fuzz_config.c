/* SPDX-License-Identifier: Apache-2.0 */
/* A configuration file: whatever it says, loading ends, and what it accepts survives JSON unchanged. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "config/load.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static char *const env[] = { "SET=value", "EMPTY=", "NUMBER=5", "HOME=/home/me", "BAD=\xff", NULL };
	static FILE *null;
	struct config_problems p;
	struct config *c = NULL, *back = NULL;
	int r = config_load_bytes("fuzz.yaml", (const char *)data, size, env, &c, &p);

	if (!null)
		null = fopen("/dev/null", "we");
	if (null)
		config_print_problems(&p, null, size & 1);
	cJSON_Delete(config_problems_to_json(&p));
	if (!r) {
		cJSON *j1 = config_to_json(c), *j2 = NULL;
		char *t1 = json_print(j1), *t2 = NULL;
		struct error err = { "" };

		if (config_from_json(j1, &back, &err)) {
			fprintf(stderr, "refused what was accepted: %s\n", err.text);
			abort();
		}
		j2 = config_to_json(back);
		t2 = json_print(j2);
		if (!t1 || !t2 || strcmp(t1, t2))
			abort();
		free(t1);
		free(t2);
		cJSON_Delete(j1);
		cJSON_Delete(j2);
	}
	config_problems_free(&p);
	config_free(c);
	config_free(back);
	return 0;
}
