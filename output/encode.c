/* SPDX-License-Identifier: Apache-2.0 */
#include "output/encode.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/uuid.h"
#include "log/record.h"
#include "output/level.h"

enum { RECORDS_MAX = 4096 }; /* of one step: the counter in their ids has 12 bits */

/* Of the line before its newline. */
struct line {
	const char *data;
	size_t size;
	enum log_level level;
	size_t skip;
	bool continued; /* its rest follows */
	bool partial;   /* the process ended, or what is left was asked for, before a newline came */
};

/* What is the same for all lines of a step. */
struct frame {
	const struct encode_job *job;
	const char *stream;
	const char *logger;
	char time[CLOCK_TEXT_MAX];
	struct text middle;  /* JSON from after the level to the message's opening quote */
	struct text head[_LEVEL_MAX]; /* of a line up to its message, made when a level comes up */
	struct text scratch; /* repaired message */
	struct text context;
	struct record record;
	uint64_t random;
};

void encoded_free(struct encoded *e)
{
	text_free(&e->log);
	text_free(&e->spool);
	*e = (struct encoded){ 0 };
}

static void frame_free(struct frame *f)
{
	text_free(&f->middle);
	for (unsigned i = 0; i < _LEVEL_MAX; i++)
		text_free(&f->head[i]);
	text_free(&f->scratch);
	text_free(&f->context);
}

static void add_base64(struct text *t, const void *data, size_t size)
{
	static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
	const unsigned char *p = data;

	for (size_t i = 0; i < size; i += 3) {
		uint32_t v = (uint32_t)p[i] << 16;
		char out[4];

		v |= i + 1 < size ? (uint32_t)p[i + 1] << 8 : 0;
		v |= i + 2 < size ? p[i + 2] : 0;
		out[0] = digits[v >> 18];
		out[1] = digits[v >> 12 & 63];
		out[2] = i + 1 < size ? digits[v >> 6 & 63] : '=';
		out[3] = i + 2 < size ? digits[v & 63] : '=';
		text_add_bytes(t, out, 4);
	}
}

static void add_member(struct text *t, const char *key, const char *value)
{
	if (!value)
		return;
	text_add(t, "\",\"");
	text_add(t, key);
	text_add(t, "\":\"");
	text_add_json(t, value, strlen(value));
}

static void frame_init(struct frame *f, const struct encode_job *job, const char *logger)
{
	const struct settings *s = job->settings;
	const char *name = s->text, *slash = strchr(name, '/');
	const char *run = settings_get_text(s, s->run), *experiment = settings_get_text(s, s->experiment);
	const char *node = settings_get_text(s, s->node), *stage = settings_get_text(s, s->stage);

	*f = (struct frame){ .job = job, .stream = job->stream ? "stderr" : "stdout" };
	f->logger = logger ? logger : f->stream;
	clock_format_utc(job->ts_us, f->time);
	if (s->format == FORMAT_JSON) {
		text_add(&f->middle, "\",\"daemon\":\"");
		text_add_json(&f->middle, name, slash ? (size_t)(slash - name) : strlen(name));
		add_member(&f->middle, "instance", slash ? slash + 1 : NULL);
		add_member(&f->middle, "run", run);
		add_member(&f->middle, "stream", f->stream);
		if (s->pid)
			text_addf(&f->middle, "\",\"pid\":%" PRId32 ",\"logger_name\":\"%s", s->pid, f->logger);
		else
			add_member(&f->middle, "logger_name", f->logger);
		add_member(&f->middle, "experiment_id", experiment);
		add_member(&f->middle, "node_id", node);
		add_member(&f->middle, "stage", stage);
		text_add(&f->middle, "\",\"message\":\"");
	}
	if (s->store) {
		f->record = (struct record){
			.kind = RECORD_LOG,
			.ts_us = job->ts_us,
			.pid = s->pid,
			.daemon = VIEW_OF(name),
			.run = VIEW_OF(run),
			.experiment = VIEW_OF(experiment),
			.node_id = VIEW_OF(node),
			.stage = VIEW_OF(stage),
			.logger_name = VIEW_OF(f->logger),
		};
		random_bytes(&f->random, sizeof(f->random));
	}
}

/*
 * Ids of one step ascend: a 12-bit counter behind the millisecond, then 62 bits that are random for each (RFC 9562
 * section 6.2). One call of getrandom(2) a step, spread by an odd constant (splitmix64), since a record must cost less
 * than a system call.
 */
static struct uuid record_id(struct frame *f, uint32_t n)
{
	uint64_t ms = (uint64_t)f->job->ts_us / 1000, v;
	struct uuid u;

	f->random += 0x9e3779b97f4a7c15ull;
	v = f->random;
	v = (v ^ v >> 30) * 0xbf58476d1ce4e5b9ull;
	v = (v ^ v >> 27) * 0x94d049bb133111ebull;
	v ^= v >> 31;
	for (int i = 0; i < 6; i++)
		u.b[i] = (uint8_t)(ms >> (40 - 8 * i));
	u.b[6] = (uint8_t)(0x70 | (n >> 8 & 0x0f));
	u.b[7] = (uint8_t)n;
	for (int i = 0; i < 8; i++)
		u.b[8 + i] = (uint8_t)(v >> (56 - 8 * i));
	u.b[8] = (uint8_t)(0x80 | (u.b[8] & 0x3f));
	return u;
}

static const char *level_name(enum log_level l)
{
	static const char *const names[_LEVEL_MAX] = {
		[LEVEL_UNKNOWN] = "INFO",
		[LEVEL_DEBUG] = "DEBUG",
		[LEVEL_INFO] = "INFO",
		[LEVEL_WARNING] = "WARNING",
		[LEVEL_ERROR] = "ERROR",
		[LEVEL_CRITICAL] = "CRITICAL",
	};

	return names[l];
}

/*
 * Bytes at the beginning of well-formed text that stand for themselves in JSON; eight at a time, which is what nearly
 * every line consists of. Source: "Bit Twiddling Hacks", hasless() and haszero()
 */
static size_t plain_prefix(const char *p, size_t size)
{
	const uint64_t ones = 0x0101010101010101ull, highs = 0x8080808080808080ull;
	size_t i = 0;

	for (; size - i >= 8; i += 8) {
		uint64_t v, control, quote, backslash, del;

		memcpy(&v, p + i, 8);
		control = (v - ones * 0x20) & ~v;
		quote = v ^ ones * '"';
		backslash = v ^ ones * '\\';
		del = v ^ ones * 0x7f;
		quote = (quote - ones) & ~quote;
		backslash = (backslash - ones) & ~backslash;
		del = (del - ones) & ~del;
		if ((control | quote | backslash | del) & highs)
			break;
	}
	for (; i < size; i++)
		if ((unsigned char)p[i] < 0x20 || p[i] == '"' || p[i] == '\\' || p[i] == 0x7f)
			break;
	return i;
}

/* printf(3) takes as long as the rest of a short line. */
static void add_seq(struct text *t, uint64_t seq)
{
	char buf[32], *p = buf + sizeof(buf);

	*--p = '"';
	do
		*--p = (char)('0' + seq % 10);
	while (seq /= 10);
	text_add_bytes(t, ",\"seq\":\"", 8);
	text_add_bytes(t, p, (size_t)(buf + sizeof(buf) - p));
}

/* Adds one line to both outputs as far as the settings say so. */
static int add_line(struct frame *f, const struct line *l, bool log, bool spool, struct encoded *e)
{
	const struct settings *s = f->job->settings;
	const char *message = l->data + l->skip, *shown;
	size_t size = l->size - l->skip, shown_size;
	bool stored = spool && s->store && l->level >= (enum log_level)s->level;
	bool exact;

	/* "\r\n" ends a line too. The carriage return of a split line's last part may stand alone; it goes as well. */
	if (!l->continued && !l->partial && size && message[size - 1] == '\r')
		size--;
	exact = (!stored && s->format != FORMAT_JSON) ||
	    (utf8_valid_prefix(message, size) == size && !memchr(message, 0, size));
	shown = message;
	shown_size = size;
	if (!exact) {
		f->scratch.size = 0;
		for (size_t i = 0; i < size; i++) {
			size_t n = strnlen(message + i, size - i);

			text_add_utf8(&f->scratch, message + i, n);
			i += n;
			if (i < size)
				text_add(&f->scratch, "\xef\xbf\xbd"); /* no record can hold a NUL */
		}
		if (f->scratch.failed)
			return -ENOMEM;
		shown = f->scratch.data ? f->scratch.data : "";
		shown_size = f->scratch.size;
	}

	if (log && s->format == FORMAT_JSON) {
		struct text *head = &f->head[l->level];
		size_t plain = plain_prefix(shown, shown_size);

		if (!head->size) {
			text_add(head, "{\"timestamp\":\"");
			text_add(head, f->time);
			text_add(head, "\",\"level\":\"");
			text_add(head, level_name(l->level));
			text_add_bytes(head, f->middle.data, f->middle.size);
			if (head->failed)
				return -ENOMEM;
		}
		text_add_bytes(&e->log, head->data, head->size);
		text_add_bytes(&e->log, shown, plain);
		if (plain < shown_size)
			text_add_json(&e->log, shown + plain, shown_size - plain);
		text_add_bytes(&e->log, "\"", 1);
		if (l->continued)
			text_add(&e->log, ",\"continued\":true");
		if (l->partial)
			text_add(&e->log, ",\"partial\":true");
		if (!exact) {
			text_add(&e->log, ",\"raw\":\"");
			add_base64(&e->log, l->data, l->size);
			text_add(&e->log, "\"");
		}
		if (stored && f->job->next_seq)
			add_seq(&e->log, f->job->next_seq + e->records);
		text_add_bytes(&e->log, "}\n", 2);
	} else if (log && s->format == FORMAT_TEXT) {
		struct text *head = &f->head[l->level];

		if (!head->size) {
			text_add(head, f->time);
			text_add(head, f->job->stream ? " stderr " : " stdout ");
			text_add(head, level_name(l->level));
			text_add(head, " ");
			if (head->failed)
				return -ENOMEM;
		}
		text_add_bytes(&e->log, head->data, head->size);
		text_add_bytes(&e->log, message, size);
		text_add_bytes(&e->log, "\n", 1);
	}

	if (stored) {
		uint32_t at = (uint32_t)e->spool.size, bytes = 0;
		int r;

		f->context.size = 0;
		if (l->continued || l->partial || !exact) {
			text_add(&f->context, l->continued ? "{\"continued\":true" : l->partial ? "{\"partial\":true" : "{");
			if (!exact) {
				text_add(&f->context, l->continued || l->partial ? ",\"raw\":\"" : "\"raw\":\"");
				add_base64(&f->context, l->data, l->size);
				text_add(&f->context, "\"");
			}
			text_add(&f->context, "}");
		}
		f->record.id = record_id(f, e->records);
		f->record.level = l->level;
		f->record.message = (struct view){ shown, shown_size };
		f->record.context = (struct view){ f->context.data, f->context.size };
		text_add_bytes(&e->spool, &bytes, 4);
		r = record_encode(&f->record, &e->spool);
		if (r < 0)
			return r;
		if (e->spool.failed || f->context.failed)
			return -ENOMEM;
		bytes = (uint32_t)(e->spool.size - at - 4);
		memcpy(e->spool.data + at, &bytes, 4);
		e->records++;
	}
	return e->log.failed ? -ENOMEM : 0;
}

/* Length of an unfinished UTF-8 sequence at the end, so that a line is not split within a character. */
static size_t cut_character(const char *p, size_t size)
{
	for (size_t back = 1; back <= 3 && back <= size; back++) {
		unsigned char c = (unsigned char)p[size - back];

		if (c < 0x80)
			return 0;
		if (c < 0xc0)
			continue;
		return back < (c >= 0xf0 ? 4u : c >= 0xe0 ? 3u : 2u) ? back : 0;
	}
	return 0;
}

static const char *last_newline(const char *p, size_t size)
{
	return size ? memrchr(p, '\n', size) : NULL;
}

/*
 * Where a raw step has to end so that the file is rotated at the end of a line, if it has to be rotated at all.
 * Return: 0, or ENCODE_ROTATE with *to moved
 */
static enum encode_stop raw_limit(const struct encode_job *job, ptrdiff_t first, ptrdiff_t *to)
{
	uint64_t max = job->settings->max_size, left = max > job->file_size ? max - job->file_size : 0;
	uint64_t size = (uint64_t)(*to - first);
	const char *nl;

	if (!max || job->no_rotate || size <= left)
		return ENCODE_ALL;
	nl = last_newline(job->data + first, (size_t)left);
	if (!nl && job->file_size && job->file_at_line) {
		*to = job->from; /* rotate first */
		return ENCODE_ROTATE;
	}
	if (!nl)
		nl = memchr(job->data + first, '\n', (size_t)size);
	if (!nl)
		return ENCODE_ALL; /* in the middle of a line that is longer than a whole file may be */
	*to = nl + 1 - job->data;
	return ENCODE_ROTATE;
}

int encode(const struct encode_job *job, struct encoded *ret)
{
	_cleanup_(frame_free) struct frame f;
	const bool raw = job->settings->format == FORMAT_RAW;
	ptrdiff_t pos = job->from, to = job->to, first = job->logged && job->from < 0 ? 0 : job->from;
	ptrdiff_t seen = pos < 0 ? 0 : pos; /* no newline before */
	int r;

	ret->log.size = ret->spool.size = 0;
	ret->records = ret->lines = 0;
	ret->continued = job->continued;
	ret->level = job->level;
	ret->stop = ENCODE_ALL;
	ret->end = pos;
	frame_init(&f, job, NULL);
	if (f.middle.failed)
		return -ENOMEM;

	if (raw) {
		ret->stop = raw_limit(job, first, &to);
		if (ret->stop == ENCODE_ROTATE && to == job->from)
			return 0;
		if (to > first && (size_t)(to - first) > job->log_room)
			return -EMSGSIZE;
		if (!job->settings->store) {
			for (const char *p = job->data + first, *end = job->data + to; p < end; p++, ret->lines++) {
				p = memchr(p, '\n', (size_t)(end - p));
				if (!p)
					break;
			}
			pos = to;
		}
	}
	while (pos < to) {
		const char *nl = memchr(job->data + seen, '\n', (size_t)(to - seen));
		size_t size = (size_t)((nl ? nl - job->data : to) - pos);
		size_t log_before = ret->log.size, spool_before = ret->spool.size;
		uint32_t records_before = ret->records;
		struct line l = { .data = job->data + pos, .size = size };
		ptrdiff_t next;

		/* without an end in sight a little earlier, so that what is carried over is always shorter than a part */
		if (size > (nl || job->flush ? job->line_max : job->line_max - 4)) {
			l.size = size < job->line_max ? size : job->line_max;
			l.size -= cut_character(l.data, l.size);
			l.continued = true;
			next = pos + (ptrdiff_t)l.size;
		} else if (nl) {
			next = nl + 1 - job->data;
		} else if (job->flush && to == job->to) {
			l.partial = true;
			next = to;
		} else {
			break;
		}
		l.level = ret->continued ? ret->level : level_detect(l.data, l.size, &l.skip);
		r = add_line(&f, &l, true, true, ret);
		if (r < 0)
			return r;
		if (!raw && !job->no_rotate && job->settings->max_size && job->file_size + ret->log.size > job->settings->max_size &&
		    (job->file_size || log_before)) {
			ret->stop = ENCODE_ROTATE;
			goto undo;
		}
		if (ret->log.size > job->log_room || ret->spool.size > job->spool_room) {
			if (!ret->lines)
				return -EMSGSIZE;
			ret->stop = ENCODE_ROOM;
			goto undo;
		}
		ret->continued = l.continued;
		ret->level = l.level;
		ret->lines++;
		pos = next;
		seen = pos < 0 ? 0 : pos;
		if (pos < to && (ret->log.size >= job->step || ret->spool.size >= job->step || ret->records >= RECORDS_MAX)) {
			ret->stop = ENCODE_ROOM;
			break;
		}
		continue;
undo:
		ret->log.size = log_before;
		ret->spool.size = spool_before;
		ret->records = records_before;
		break;
	}
	ret->logged = false;
	if (raw) {
		/* The file gets the unfinished line at once; the records get it when it ends. */
		ptrdiff_t end = ret->stop == ENCODE_ROOM ? pos : to;

		if (end > first)
			text_add_bytes(&ret->log, job->data + first, (size_t)(end - first));
		if (ret->log.failed)
			return -ENOMEM;
		ret->logged = ret->stop != ENCODE_ROOM || job->logged;
	}
	if (job->flush && pos == job->to)
		ret->continued = false;
	ret->end = pos;
	return 0;
}

int encode_notice(const struct encode_job *job, const char *text, bool log, bool spool, struct encoded *ret)
{
	_cleanup_(frame_free) struct frame f;
	const struct line l = { .data = text, .size = strlen(text), .level = LEVEL_WARNING };

	ret->log.size = ret->spool.size = 0;
	ret->records = ret->lines = 0;
	frame_init(&f, job, "supervise");
	if (f.middle.failed)
		return -ENOMEM;
	return add_line(&f, &l, log, spool, ret);
}
