/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Segments, and how damage in them is passed over.
 *
 * A frame has no magic of its own. After damage every byte offset is tried: a candidate needs a plausible size, a
 * sequence number shortly behind the last good one, and a matching CRC-32C that begins with a salt made of the spool's
 * id. Text of a record cannot contain the NUL bytes that a frame header has, so a hostile log line is no frame either.
 *
 * The file may grow while it is read, and its unfinished end may be cut off and written anew (spool.c). So bytes of an
 * unfinished frame are never kept between calls, and a frame counts as damaged only when it is bad after a whole one
 * was seen behind it.
 */
#include "log/segment.h"

#include <dirent.h>
#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/crc32c.h"
#include "base/proc.h"

static const char magic[8] = { 'S', 'P', 'V', 'S', 'P', 'O', 'O', 'L' };

enum {
	SEGMENT_VERSION = 1,
	BUFFER_BYTES = 64 << 10,
	WHOLE_FRAME_MAX = FRAME_HEADER + SPOOL_FRAME_MAX,
	RESYNC_CRC_BYTES = 64 << 20, /* per window: bounds the time that false candidates can cost */
};

static uint32_t get32(const void *p)
{
	uint32_t v;

	memcpy(&v, p, 4);
	return le32toh(v);
}

static uint64_t get64(const void *p)
{
	uint64_t v;

	memcpy(&v, p, 8);
	return le64toh(v);
}

static void put16(void *p, uint16_t v)
{
	v = htole16(v);
	memcpy(p, &v, 2);
}

static void put32(void *p, uint32_t v)
{
	v = htole32(v);
	memcpy(p, &v, 4);
}

static void put64(void *p, uint64_t v)
{
	v = htole64(v);
	memcpy(p, &v, 8);
}

/* 0 magic, 8 version, 12 header size, 16 source, 32 first_seq, 40 boot id, 56 zero, 60 crc of the 60 before */
void segment_header_write(void *ret, const struct uuid *source, uint64_t first_seq)
{
	unsigned char *p = ret;
	struct uuid boot = { 0 };

	memset(p, 0, SEGMENT_HEADER);
	(void)uuid_parse(proc_boot_id(), &boot);
	memcpy(p, magic, 8);
	put32(p + 8, SEGMENT_VERSION);
	put32(p + 12, SEGMENT_HEADER);
	memcpy(p + 16, source->b, 16);
	put64(p + 32, first_seq);
	memcpy(p + 40, boot.b, 16);
	put32(p + 60, crc32c(0, p, 60));
}

int segment_header_read(const void *data, size_t size, struct uuid *ret_source, uint64_t *ret_first_seq)
{
	const unsigned char *p = data;

	if (size < SEGMENT_HEADER || memcmp(p, magic, 8) || get32(p + 8) != SEGMENT_VERSION ||
	    get32(p + 60) != crc32c(0, p, 60))
		return -EBADMSG;
	memcpy(ret_source->b, p + 16, 16);
	*ret_first_seq = get64(p + 32);
	return 0;
}

uint32_t segment_salt(const struct uuid *source)
{
	return crc32c(0, source->b, 16);
}

void frame_header_write(void *ret, uint32_t salt, uint64_t seq, enum record_kind kind, int64_t ts_us,
    const void *payload, size_t size)
{
	unsigned char *p = ret;

	put32(p, (uint32_t)size);
	put64(p + 8, seq);
	put16(p + 16, (uint16_t)kind);
	put16(p + 18, 0);
	put64(p + 20, (uint64_t)ts_us);
	put32(p + 4, crc32c(crc32c(salt, p + 8, FRAME_HEADER - 8), payload, size));
}

/* The whole frame at p, if there is one. Return: its bytes with the header; 0: damaged; SIZE_MAX: goes on behind @n */
static size_t frame_read(const unsigned char *p, size_t n, uint32_t salt, uint64_t last_seq, struct spool_frame *ret)
{
	size_t size;
	uint64_t seq;

	if (n < FRAME_HEADER)
		return SIZE_MAX;
	size = get32(p);
	seq = get64(p + 8);
	if (size > SPOOL_FRAME_MAX || seq <= last_seq || seq > SPOOL_SEQ_MAX)
		return 0;
	if (size > n - FRAME_HEADER)
		return SIZE_MAX;
	if (crc32c(salt, p + 8, FRAME_HEADER - 8 + size) != get32(p + 4))
		return 0;
	*ret = (struct spool_frame){
		.seq = seq,
		.ts_us = (int64_t)get64(p + 20),
		.kind = (enum record_kind)(p[16] | p[17] << 8),
		.payload = p + FRAME_HEADER,
		.size = size,
	};
	return FRAME_HEADER + size;
}

char *segment_name(uint64_t first_seq, char *ret)
{
	snprintf(ret, SEGMENT_NAME_MAX, "%020" PRIu64 ".seg", first_seq);
	return ret;
}

static int compare(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return x < y ? -1 : x > y;
}

int segment_list(int dirfd, uint64_t **ret, size_t *ret_n)
{
	_cleanup_(freep) uint64_t *list = NULL;
	_cleanup_(closedirp) DIR *d = NULL;
	size_t n = 0, room = 0;
	struct dirent *e;
	int fd = openat(dirfd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	if (fd < 0)
		return -errno;
	d = fdopendir(fd);
	if (!d) {
		int r = -errno;

		close(fd);
		return r;
	}
	while (errno = 0, (e = readdir(d))) {
		uint64_t seq = 0;

		if (strlen(e->d_name) != 24 || strspn(e->d_name, "0123456789") != 20 || strcmp(e->d_name + 20, ".seg"))
			continue;
		e->d_name[20] = '\0';
		if (parse_u64(e->d_name, &seq) < 0 || !seq || seq > SPOOL_SEQ_MAX)
			continue;
		if (n == room) {
			uint64_t *p = realloc(list, (room = room ? room * 2 : 16) * sizeof(*list));

			if (!p)
				return -ENOMEM;
			list = p;
		}
		list[n++] = seq;
	}
	if (errno)
		return -errno;
	if (n)
		qsort(list, n, sizeof(*list), compare);
	*ret = TAKE_PTR(list);
	*ret_n = n;
	return 0;
}

void segment_scan_close(struct segment_scan *s)
{
	if (s->fd >= 0)
		close(s->fd);
	free(s->buffer);
	*s = (struct segment_scan){ .fd = -1 };
}

void segment_scan_rest(struct segment_scan *s)
{
	free(s->buffer);
	s->buffer = NULL;
	s->room = s->fill = 0;
}

static ssize_t pread_full(int fd, void *ret, size_t size, uint64_t offset)
{
	size_t got = 0;

	while (got < size) {
		ssize_t n = pread(fd, (char *)ret + got, size - got, (off_t)(offset + got));

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		if (!n)
			break;
		got += (size_t)n;
	}
	return (ssize_t)got;
}

/* Reads anew from @offset: the whole frame there, if the file has it, and what else fits. */
static int refill(struct segment_scan *s)
{
	size_t want = BUFFER_BYTES;

	for (;;) {
		ssize_t n;

		if (s->room < want) {
			segment_scan_rest(s);
			s->buffer = malloc(want);
			if (!s->buffer)
				return -ENOMEM;
			s->room = want;
		}
		s->fill = 0;
		s->buffer_offset = s->offset;
		n = pread_full(s->fd, s->buffer, s->room, s->offset);
		if (n < 0)
			return (int)n;
		s->fill = (size_t)n;
		if (s->fill < s->room || get32(s->buffer) > SPOOL_FRAME_MAX)
			return 0;
		want = FRAME_HEADER + get32(s->buffer);
		if (want <= s->room)
			return 0;
	}
}

/* Looks for a whole frame behind @offset. Return: 1 and its offset, 0 none, -errno */
static int resync(const struct segment_scan *s, uint64_t *ret)
{
	_cleanup_(freep) unsigned char *window = NULL;
	size_t room = 2 * (size_t)WHOLE_FRAME_MAX;
	uint64_t at = s->offset + 1;
	struct stat st;
	bool whole; /* the window reaches to the end of the file as it was */

	if (fstat(s->fd, &st) < 0)
		return -errno;
	if ((uint64_t)st.st_size <= at)
		return 0;
	whole = (uint64_t)st.st_size - at <= room;
	if (whole)
		room = (size_t)((uint64_t)st.st_size - at);
	window = malloc(room);
	if (!window)
		return -ENOMEM;
	for (;;) {
		ssize_t n = pread_full(s->fd, window, room, at);
		size_t end, crc_bytes = 0;

		if (n < 0)
			return (int)n;
		/* but for the end of the file, a frame that begins in the first half is whole within the window */
		whole = whole || (size_t)n < room;
		end = whole ? (size_t)n : WHOLE_FRAME_MAX;
		for (size_t i = 0; i < end && crc_bytes < RESYNC_CRC_BYTES; i++) {
			struct spool_frame f;
			size_t size;

			if ((size_t)n - i < FRAME_HEADER)
				break;
			size = get32(window + i);
			if (size > SPOOL_FRAME_MAX || size > (size_t)n - i - FRAME_HEADER ||
			    get64(window + i + 8) - s->last_seq - 1 > UINT32_MAX)
				continue;
			crc_bytes += size;
			size = frame_read(window + i, (size_t)n - i, s->salt, s->last_seq, &f);
			if (!size || size == SIZE_MAX)
				continue;
			*ret = at + i;
			return 1;
		}
		if (whole)
			return 0;
		at += WHOLE_FRAME_MAX;
	}
}

/* The frame at @offset, if the buffer has the whole of it. */
static bool take(struct segment_scan *s, struct spool_frame *ret)
{
	uint64_t in = s->offset - s->buffer_offset;
	size_t size;

	if (!s->buffer || in >= s->fill)
		return false;
	size = frame_read(s->buffer + in, s->fill - (size_t)in, s->salt, s->last_seq, ret);
	if (!size || size == SIZE_MAX)
		return false;
	s->offset += size;
	s->last_seq = ret->seq;
	return true;
}

int segment_scan_next(struct segment_scan *s, struct spool_frame *ret, uint64_t *ret_skipped)
{
	uint64_t found = 0;
	int r;

	while (!take(s, ret)) {
		r = refill(s);
		if (r < 0)
			return r;
		if (take(s, ret))
			return 1;
		r = s->fill ? resync(s, &found) : 0;
		if (r < 0)
			return r;
		if (!r) {
			segment_scan_rest(s);
			return 0;
		}
		/* Its end may have been written just now. What lies before a whole frame is written for good, so a third
		 * look tells. */
		r = refill(s);
		if (r < 0)
			return r;
		if (take(s, ret))
			return 1;
		*ret_skipped += found - s->offset;
		s->offset = found;
	}
	return 1;
}
