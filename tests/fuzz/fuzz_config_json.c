/* SPDX-License-Identifier: Apache-2.0 */
/* The JSON form, as it comes over the control socket or from a file: what is accepted comes out as it went
 * in. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "config/config.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct config *c = NULL, *back = NULL;
	struct error err = { "" };
	cJSON *j = NULL;

	if (json_parse((const char *)data, size, &j, &err) < 0)
		return 0;
	if (!config_from_json(j, &c, &err)) {
		cJSON *j1 = config_to_json(c), *j2 = NULL;
		char *t1 = json_print(j1), *t2 = NULL;

		if (config_from_json(j1, &back, &err))
			abort();
		j2 = config_to_json(back);
		t2 = json_print(j2);
		if (!t1 || !t2 || strcmp(t1, t2))
			abort();
		free(t1);
		free(t2);
		cJSON_Delete(j1);
		cJSON_Delete(j2);
	} else if (!err.text[0])
		abort(); /* a refusal without a word */
	cJSON_Delete(j);
	config_free(c);
	config_free(back);
	return 0;
}
