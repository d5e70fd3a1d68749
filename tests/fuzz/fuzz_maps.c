/* SPDX-License-Identifier: Apache-2.0 */
/* Text of /proc/PID/maps, whose paths the process chooses. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "capture/snapshot.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	_cleanup_(freep) char *text = malloc(size + 1);
	_cleanup_(freep) struct vma *vmas = NULL;
	size_t n = 0;

	if (!text)
		return 0;
	memcpy(text, data, size);
	text[size] = '\0';
	if (maps_parse(text, &vmas, &n) < 0)
		return 0;
	for (size_t i = 0; i < n; i++)
		if (vma_find(vmas, n, vmas[i].start) != &vmas[i] || vma_find(vmas, n, vmas[i].end - 1) != &vmas[i])
			abort();
	return 0;
}
