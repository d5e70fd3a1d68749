/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One segment file of a spool: its layout, and a scan over its frames that survives damage. Shared by the producer's
 * recovery and by the reader; nothing outside log/ includes it.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/uuid.h"
#include "log/spool.h"

enum {
	SEGMENT_HEADER = 64,
	FRAME_HEADER = 28, /* u32 size, u32 crc, u64 seq, u16 kind, u16 flags, i64 ts_us */
	SEGMENT_NAME_MAX = 32,
};

#define SPOOL_SEQ_MAX (UINT64_C(1) << 62) /* numbers beyond are damage; below, adding to one cannot overflow */

/* Fills SEGMENT_HEADER bytes. */
void segment_header_write(void *ret, const struct uuid *source, uint64_t first_seq);

/* Return: 0 or -EBADMSG (too short, other magic or version, bad checksum) */
int segment_header_read(const void *data, size_t size, struct uuid *ret_source, uint64_t *ret_first_seq);

/* The checksum of frames begins with this: bytes that look like a frame of another spool are none of ours. */
uint32_t segment_salt(const struct uuid *source);

/* Fills FRAME_HEADER bytes for @payload. */
void frame_header_write(void *ret, uint32_t salt, uint64_t seq, enum record_kind kind, int64_t ts_us,
    const void *payload, size_t size);

/* "00000000000000000042.seg". Return: @ret (SEGMENT_NAME_MAX bytes) */
char *segment_name(uint64_t first_seq, char *ret);

/* FIRSTSEQ of every segment in a folder, ascending. The caller frees. Return: 0 or -errno */
int segment_list(int dirfd, uint64_t **ret, size_t *ret_n);

/* A position in a segment. All zero except fd = -1 is "none". */
struct segment_scan {
	int fd; /* owned */
	uint32_t salt;
	uint64_t offset;   /* of the first byte that no frame delivered so far covers */
	uint64_t last_seq; /* only greater numbers are believed */
	unsigned char *buffer;
	size_t room, fill; /* buffer[0] is the byte at @buffer_offset */
	uint64_t buffer_offset;
};

void segment_scan_close(struct segment_scan *s);

/**
 * segment_scan_next() - the next whole frame
 * @ret_skipped:  damaged bytes left out before it; added to, never reset
 *
 * Return:  1; 0 when no whole frame is behind @offset at present (an unfinished one may be); -errno
 */
int segment_scan_next(struct segment_scan *s, struct spool_frame *ret, uint64_t *ret_skipped);

/* Gives back the buffer, which is refilled when next needed. */
void segment_scan_rest(struct segment_scan *s);
