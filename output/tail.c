/* SPDX-License-Identifier: Apache-2.0 */
#include "output/tail.h"

#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "base/clock.h"
#include "base/text.h"
#include "output/logfile.h"
#include "output/protocol.h"

enum { LOOK_BACK = 512 << 10 }; /* of JSON lines this is some 64 KiB of text at the least */

static void add(cJSON *array, const char *time, const char *stream, const char *text, size_t size)
{
	cJSON *o = cJSON_CreateObject();

	json_add_text(o, "time", time);
	json_add_text(o, "stream", stream);
	json_add_text_n(o, "text", text, size);
	if (!cJSON_InsertItemInArray(array, 0, o))
		cJSON_Delete(o);
}

/* Return: bytes of text added; 0 also for a line that is none; -1: belongs to an earlier incarnation, stop */
static int add_json_line(cJSON *array, const struct settings *s, const char *p, size_t size, size_t room)
{
	_cleanup_json_ cJSON *j = NULL;
	const char *run = settings_get_text(s, s->run), *text;
	size_t n;

	if (json_parse(p, size, &j, NULL) < 0)
		return 0;
	if (run && strcmp(json_get_string(j, "run", ""), run))
		return -1;
	text = json_get_string(j, "message", "");
	n = strlen(text);
	if (n > room)
		return -1;
	add(array, json_get_string(j, "timestamp", NULL), json_get_string(j, "stream", NULL), text, n);
	return (int)n;
}

/* "TIME stream LEVEL message" */
static size_t add_text_line(cJSON *array, const char *p, size_t size)
{
	char time[CLOCK_TEXT_MAX], stream[8];
	size_t n = CLOCK_TEXT_MAX - 5; /* of the time as clock_format_utc() makes it */
	const char *level;
	int64_t us;

	if (size < n + 8 || p[n] != ' ' || p[n + 7] != ' ')
		goto plain;
	memcpy(time, p, n);
	time[n] = '\0';
	memcpy(stream, p + n + 1, 6);
	stream[6] = '\0';
	level = memchr(p + n + 8, ' ', size - n - 8);
	if (!level || clock_parse_utc(time, &us) < 0 || (strcmp(stream, "stdout") && strcmp(stream, "stderr")))
		goto plain;
	level++;
	add(array, time, stream, level, (size_t)(p + size - level));
	return (size_t)(p + size - level);
plain:
	add(array, NULL, NULL, p, size);
	return size;
}

cJSON *tail_collect(int dirfd, const struct settings *s, uint64_t since_inode, uint64_t since, const char *parked,
    size_t parked_size)
{
	_cleanup_text_ struct text t = { 0 };
	cJSON *array = cJSON_CreateArray();
	size_t room = OUTPUT_TAIL_BYTES, begin = 0, end, lines = 0;
	char name[NAME_MAX + 1];
	struct stat st = { 0 };
	int whole = 1;

	if (!array)
		return NULL;
	snprintf(name, sizeof(name), "%s.log", settings_get_text(s, s->file));
	if (!fstatat(dirfd, name, &st, AT_SYMLINK_NOFOLLOW)) {
		whole = logfile_read_end(dirfd, name, LOOK_BACK, &t);
		if (since_inode == st.st_ino && since <= (uint64_t)st.st_size && (uint64_t)st.st_size - since <= t.size) {
			begin = t.size - (size_t)((uint64_t)st.st_size - since);
			whole = 0; /* all of this incarnation is here */
		}
	}
	for (size_t i = begin; i < t.size; i++)
		lines += t.data[i] == '\n';
	if (whole && lines < OUTPUT_TAIL_LINES && t.size < OUTPUT_TAIL_BYTES &&
	    !logfile_newest_rotated(dirfd, settings_get_text(s, s->file), name)) {
		_cleanup_text_ struct text older = { 0 };

		if (logfile_read_end(dirfd, name, LOOK_BACK, &older) >= 0) {
			text_add_bytes(&older, t.data, t.size);
			text_free(&t);
			t = older;
			older = (struct text){ 0 };
		}
	}
	text_add_bytes(&t, parked, parked_size);
	if (t.failed)
		return array;

	/* backwards from the end; a first line of which only the end was read is no JSON and left out, or cut */
	end = t.size;
	for (lines = 0; end > begin && lines < OUTPUT_TAIL_LINES; lines++) {
		const char *p = t.data + begin, *nl;
		size_t size = end - begin;
		int n = 0;

		if (p[size - 1] == '\n')
			size--;
		nl = size ? memrchr(p, '\n', size) : NULL;
		if (nl) {
			size -= (size_t)(nl + 1 - p);
			p = nl + 1;
		}
		end = (size_t)(p - t.data);
		if (s->format == FORMAT_JSON) {
			n = add_json_line(array, s, p, size, room);
			if (n < 0)
				break;
		} else {
			if (size > room)
				break;
			if (s->format == FORMAT_TEXT) {
				n = (int)add_text_line(array, p, size);
			} else {
				add(array, NULL, NULL, p, size);
				n = (int)size;
			}
		}
		room -= (size_t)n;
	}
	return array;
}
