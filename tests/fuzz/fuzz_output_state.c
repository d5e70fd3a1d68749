/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A state file that somebody has written to: a whole one with edits {area, offset (u16), size, bytes}. Taking over from
 * it must end, whatever it says.
 */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "output/output.h"
#include "output/stage.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static char root[64], runtime[80], state[80];
static struct stage_header clean;

static void clear(void)
{
	char command[256];

	snprintf(command, sizeof(command), "rm -rf '%s'/rt/* '%s'/st/*", root, root);
	if (system(command))
		abort();
}

static void finish(void)
{
	char command[128];

	snprintf(command, sizeof(command), "rm -rf '%s'", root);
	if (system(command))
		abort();
}

static int open_state(struct stage *ret)
{
	_cleanup_(closep) int dirfd = open(runtime, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	struct error err;
	bool aside;

	return stage_open(ret, dirfd, &aside, &err);
}

static void prepare(void)
{
	struct error err;
	struct stage s;
	_cleanup_json_ cJSON *j = cJSON_CreateObject();
	_cleanup_(freep) struct settings *settings = NULL;
	uint32_t slot;

	strcpy(root, access("/dev/shm", W_OK) ? "/tmp/fuzz-state-XXXXXX" : "/dev/shm/fuzz-state-XXXXXX");
	if (!mkdtemp(root))
		abort();
	atexit(finish);
	snprintf(runtime, sizeof(runtime), "%s/rt", root);
	snprintf(state, sizeof(state), "%s/st", root);
	mkdir(runtime, 0700);
	mkdir(state, 0700);
	if (open_state(&s) < 0)
		abort();
	json_add_text(j, "daemon", "a");
	json_add_bool(j, "store", true);
	if (settings_from_json(j, &settings, &err) < 0 || stage_take_slot(&s, "a.out", &slot) < 0)
		abort();
	memcpy(stage_header(&s)->settings, settings, settings->size);
	clean = *stage_header(&s);
	stage_close(&s);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const struct output_handlers handlers = { 0 };
	static unsigned runs;
	struct output *o = NULL;
	struct error err;
	struct stage s;

	if (!*root)
		prepare();
	if (++runs % 500 == 0)
		clear();
	if (open_state(&s) < 0)
		abort();
	char *areas[] = { s.base, stage_raw(&s), stage_out(&s, SINK_LOG), stage_out(&s, SINK_SPOOL),
		(char *)stage_slot(&s, 0), stage_scratch(&s), stage_parked(&s, SINK_LOG), stage_parked(&s, SINK_SPOOL) };

	for (size_t i = 1; i < 6; i++)
		memset(areas[i], 'a' + (int)i, i == 4 ? 4 * sizeof(struct slot) : 4096);
	memset(areas[4], 0, 4 * sizeof(struct slot));
	*stage_header(&s) = clean;
	stage_slot(&s, 0)->used = 1;
	(void)stage_reserve_parked(&s, SINK_LOG);
	(void)stage_reserve_parked(&s, SINK_SPOOL);
	(void)stage_reserve_carry(&s, 0, STAGE_LINE);
	memset(areas[6], 0, 4096);
	memset(areas[7], 0, 4096);
	while (size >= 4) {
		size_t area = data[0] & 7, at = (size_t)(data[1] | data[2] << 8), n = data[3];
		size_t room = area == 0 ? sizeof(clean) : area == 4 ? 4 * sizeof(struct slot) : 4096;

		data += 4;
		size -= 4;
		at %= room;
		if (n > size)
			n = size;
		if (n > room - at)
			n = room - at;
		memcpy(areas[area] + at, data, n);
		data += n;
		size -= n;
	}
	stage_close(&s);
	if (output_new(&o, runtime, state, &handlers, &err) < 0)
		return 0;
	output_tick(o);
	output_free(o);
	return 0;
}
