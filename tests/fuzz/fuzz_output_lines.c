/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Bytes of daemons, in batches of any size: splitter, levels, encoders. What goes in has to come out: in format raw as
 * it is, in format json as parseable lines whose parts make up the input again.
 */
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "output/encode.h"
#include "output/stage.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(bool condition)
{
	if (!condition)
		abort();
}

static size_t from_base64(const char *s, char *ret)
{
	static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
	uint32_t v = 0;
	size_t n = 0;
	int bits = 0;

	for (; *s && *s != '='; s++) {
		v = v << 6 | (uint32_t)(strchr(digits, *s) - digits);
		bits += 6;
		if (bits >= 8) {
			bits -= 8;
			ret[n++] = (char)(v >> bits);
		}
	}
	return n;
}

/* Adds what the lines of the log say the daemon wrote. */
static void decode(const struct text *log, struct text *out)
{
	const char *p = log->data, *end = p + log->size;

	while (p < end) {
		const char *nl = memchr(p, '\n', (size_t)(end - p));
		_cleanup_json_ cJSON *j = NULL;
		const char *raw;

		require(nl && !json_parse(p, (size_t)(nl - p), &j, NULL));
		raw = json_get_string(j, "raw", NULL);
		if (raw) {
			char *bytes = malloc(strlen(raw) + 4);

			text_add_bytes(out, bytes, from_base64(raw, bytes));
			free(bytes);
		} else {
			text_add(out, json_get_string(j, "message", ""));
		}
		if (!json_get_bool(j, "continued", false) && !json_get_bool(j, "partial", false))
			text_add(out, "\n");
		p = nl + 1;
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const char *const formats[] = { "json", "text", "raw", "json" };
	_cleanup_encoded_ struct encoded e = { 0 };
	_cleanup_text_ struct text log = { 0 }, carry = { 0 }, input = { 0 };
	_cleanup_(freep) struct settings *s = NULL;
	_cleanup_json_ cJSON *j = cJSON_CreateObject();
	bool continued = false, logged = false;
	enum log_level level = LEVEL_UNKNOWN;
	struct error err;
	size_t batch;

	if (size < 4)
		return 0;
	json_add_text(j, "daemon", "train/0");
	json_add_text(j, "run", "r");
	json_add_text(j, "format", formats[data[0] & 3]);
	json_add_text(j, "level", data[0] & 4 ? "WARNING" : "DEBUG");
	json_add_bool(j, "store", (data[0] & 8) != 0);
	json_add_i64(j, "max_size", data[0] & 16 ? data[1] * 16 : 0);
	require(!settings_from_json(j, &s, &err));
	require(settings_are_valid(s, s->size));
	batch = (size_t)data[2] * 8 + 1;
	if (batch > STAGE_BATCH)
		batch = STAGE_BATCH;
	struct encode_job job = { .settings = s, .ts_us = 1795455663412345, .line_max = 16 + data[3], .step = 64 + data[1],
		.log_room = 16384, .spool_room = 16384, .next_seq = 1, .file_at_line = true };
	data += 4;
	size -= 4;

	for (bool last = false; !last;) {
		size_t n = size < batch ? size : batch;
		size_t from, used = 0;

		last = n == size;
		input.size = 0;
		text_add_bytes(&input, carry.data, carry.size);
		text_add_bytes(&input, data, n);
		data += n;
		size -= n;
		from = carry.size;
		job.data = input.data + from;
		job.from = -(ptrdiff_t)from;
		job.to = (ptrdiff_t)n;
		job.flush = last;
		job.logged = logged;
		for (;;) {
			int r;

			job.continued = continued;
			job.level = level;
			r = encode(&job, &e);
			require(r == 0);
			require(e.end >= job.from && e.end <= job.to);
			require(e.log.size <= job.log_room && e.spool.size <= job.spool_room);
			text_add_bytes(&log, e.log.data, e.log.size);
			continued = e.continued;
			level = e.level;
			job.file_size += e.log.size;
			used = (size_t)(e.end - job.from);
			if (e.stop == ENCODE_ALL)
				break;
			require(used || (e.stop == ENCODE_ROTATE && job.file_size));
			if (e.stop == ENCODE_ROTATE)
				job.file_size = 0;
			job.logged = e.logged && e.end < 0;
			job.from = e.end;
		}
		logged = e.logged;
		carry.size = 0;
		text_add_bytes(&carry, job.data + e.end, (size_t)(job.to - e.end));
		require(!last || !carry.size || s->format == FORMAT_RAW);
		require(carry.size < job.line_max + 4);
	}
	require(!log.failed && !carry.failed);
	if (s->format == FORMAT_JSON) {
		_cleanup_text_ struct text back = { 0 };

		text_add(&log, "");
		decode(&log, &back); /* that each line parses; the bytes are compared by test_output */
	}
	return 0;
}
