/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The payload of a spool frame, little-endian:
 *
 *   u8 version (1)  u8 kind  u8 level  u8 zero  i32 pid  i64 ts_us  16 bytes id        32 bytes, always
 *   { u8 tag  u32 size  bytes }*                                                      text fields that are not empty
 *
 * A reader skips tags it does not know, so a field may be added without a new version. The version changes only when
 * an old reader would misunderstand.
 */
#include "log/record.h"

#include <endian.h>
#include <errno.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include "base/cleanup.h"
#include "log/spool.h"

enum {
	VERSION = 1,
	FIXED = 32,
	FIELD_HEAD = 5,
	NAME_MAX_BYTES = 1024,      /* names: ten times what anyone uses */
	OBJECT_MAX_BYTES = 256 << 10, /* context and performance: cutting JSON would break it, so it is replaced whole */
};

/* Numbers of this table are on disk: never reuse one. */
static const struct {
	uint8_t tag;
	size_t offset;
} fields[] = {
	{ 1, offsetof(struct record, daemon) },      { 2, offsetof(struct record, run) },
	{ 3, offsetof(struct record, experiment) },  { 4, offsetof(struct record, job_id) },
	{ 5, offsetof(struct record, node_id) },     { 6, offsetof(struct record, stage) },
	{ 7, offsetof(struct record, logger_name) }, { 8, offsetof(struct record, message) },
	{ 9, offsetof(struct record, context) },     { 10, offsetof(struct record, traceback) },
	{ 11, offsetof(struct record, performance) }, { 12, offsetof(struct record, event_type) },
};

static const struct view *field(const struct record *r, size_t i)
{
	return (const struct view *)(const void *)((const char *)r + fields[i].offset);
}

/* Where a text of @size bytes may end so that at most @max bytes stay and no character is split. */
static size_t cut_at(const char *data, size_t size, size_t max)
{
	if (size <= max)
		return size;
	while (max > 0 && ((unsigned char)data[max] & 0xc0) == 0x80)
		max--;
	return max;
}

static void put_head(struct text *out, uint8_t tag, size_t size)
{
	uint8_t h[FIELD_HEAD] = { tag };
	uint32_t n = htole32((uint32_t)size);

	memcpy(h + 1, &n, 4);
	text_add_bytes(out, h, sizeof(h));
}

static void put(struct text *out, uint8_t tag, const char *data, size_t size)
{
	if (!size)
		return;
	put_head(out, tag, size);
	text_add_bytes(out, data, size);
}

/* The beginning and the end of a long text with a note between them: a traceback is explained by its last lines, a
 * native backtrace by its first. */
static void put_cut(struct text *out, uint8_t tag, const struct view *v, size_t max)
{
	char note[64];
	size_t head, tail, n;

	if (v->size <= max) {
		put(out, tag, v->data, v->size);
		return;
	}
	head = cut_at(v->data, v->size, (max - sizeof(note)) / 2);
	tail = v->size - (max - sizeof(note)) / 2;
	while (tail < v->size && ((unsigned char)v->data[tail] & 0xc0) == 0x80)
		tail++;
	n = (size_t)snprintf(note, sizeof(note), "\n[... %zu bytes cut ...]\n", tail - head);
	put_head(out, tag, head + n + v->size - tail);
	text_add_bytes(out, v->data, head);
	text_add_bytes(out, note, n);
	text_add_bytes(out, v->data + tail, v->size - tail);
}

static size_t put_object(struct text *out, uint8_t tag, const struct view *v)
{
	char note[64];
	size_t before = out->size;

	if (v->size <= OBJECT_MAX_BYTES) {
		put(out, tag, v->data, v->size);
	} else {
		int n = snprintf(note, sizeof(note), "{\"dropped_bytes\":%zu}", v->size);

		put(out, tag, note, (size_t)n);
	}
	return out->size - before;
}

int record_encode(const struct record *r, struct text *out)
{
	uint8_t fixed[FIXED] = { VERSION, (uint8_t)r->kind, (uint8_t)r->level };
	size_t start = out->size, left, message_max, traceback_max;
	uint32_t pid = htole32((uint32_t)r->pid);
	uint64_t ts = htole64((uint64_t)r->ts_us);

	if (r->kind <= RECORD_UNKNOWN || r->kind >= _RECORD_KIND_MAX)
		return -EINVAL;
	memcpy(fixed + 4, &pid, 4);
	memcpy(fixed + 8, &ts, 8);
	memcpy(fixed + 16, r->id.b, 16);
	text_add_bytes(out, fixed, sizeof(fixed));
	for (size_t i = 0; i < ARRAY_SIZE(fields); i++) {
		const struct view *v = field(r, i);

		if (v == &r->message || v == &r->traceback)
			continue;
		if (v == &r->context || v == &r->performance)
			put_object(out, fields[i].tag, v);
		else
			put(out, fields[i].tag, v->data, cut_at(v->data, v->size, NAME_MAX_BYTES));
	}

	/* What is left is shared: each of the two may use what the other does not need, and at least half. */
	left = SPOOL_FRAME_MAX - (out->size - start) - 2 * (size_t)FIELD_HEAD;
	message_max = r->traceback.size < left / 2 ? left - r->traceback.size : left / 2;
	traceback_max = r->message.size < left / 2 ? left - r->message.size : left / 2;
	put_cut(out, 8, &r->message, message_max);
	put_cut(out, 10, &r->traceback, traceback_max);
	return out->failed ? -ENOMEM : 0;
}

int record_decode(const void *data, size_t size, struct record *ret)
{
	const uint8_t *p = data;
	struct record r = { 0 };
	uint32_t pid, n;
	uint64_t ts;

	if (size < FIXED || p[0] != VERSION)
		return -EBADMSG;
	if (p[1] <= RECORD_UNKNOWN || p[1] >= _RECORD_KIND_MAX)
		return -EBADMSG;
	r.kind = (enum record_kind)p[1];
	r.level = p[2] < _LEVEL_MAX ? (enum log_level)p[2] : LEVEL_UNKNOWN;
	memcpy(&pid, p + 4, 4);
	memcpy(&ts, p + 8, 8);
	r.pid = (int32_t)le32toh(pid);
	r.ts_us = (int64_t)le64toh(ts);
	memcpy(r.id.b, p + 16, 16);
	p += FIXED;
	size -= FIXED;
	while (size) {
		if (size < FIELD_HEAD)
			return -EBADMSG;
		memcpy(&n, p + 1, 4);
		n = le32toh(n);
		if (n > size - FIELD_HEAD)
			return -EBADMSG;
		for (size_t i = 0; i < ARRAY_SIZE(fields); i++)
			if (fields[i].tag == p[0] && n)
				*(struct view *)(void *)((char *)&r + fields[i].offset) =
				    (struct view){ (const char *)p + FIELD_HEAD, n };
		p += FIELD_HEAD + n;
		size -= FIELD_HEAD + n;
	}
	*ret = r;
	return 0;
}
