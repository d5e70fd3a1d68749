/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A hostile snapshot, through reader, modules, unwinder and report. The checksum is made right first: it guards against
 * accidents, not against intent. Paths in the maps are bent, so that no file of this machine decides what happens.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/json.h"
#include "base/text.h"
#include "capture/postmortem.h"
#include "capture/report.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	_cleanup_(freep) uint8_t *copy = malloc(size + 1);
	_cleanup_json_ cJSON *report = cJSON_CreateObject();
	struct report_render_options o = { .all_threads = true, .full = true, .width = 80 };
	_cleanup_text_ struct text t = { 0 };
	struct snapshot s = { 0 };
	struct error err;

	if (!copy || !report || size > 1 << 20)
		return 0;
	memcpy(copy, data, size);
	snapshot_fix_checksum(copy, size);
	if (snapshot_read(&s, copy, size, &err) < 0)
		return 0;
	for (size_t i = 0; i < s.n_vmas; i++)
		if (s.vmas[i].path[0] == '/')
			s.vmas[i].deleted = true; /* known by what the snapshot holds of it alone */
	json_add_text(report, "daemon", "fuzz");
	if (postmortem_complete(report, &s, &err) == 0)
		report_render(report, &o, &t);
	snapshot_free(&s);
	return 0;
}
