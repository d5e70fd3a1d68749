/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The spool: an append-only queue of records on disk, one folder per producer. A record is safe against the death of
 * every process of ours once spool_append() is back, and against power loss once spool_sync() is.
 *
 * FOLDER/source        text: UUID of this spool ("source"), made once
 * FOLDER/FIRSTSEQ.seg  FIRSTSEQ as 20 decimal digits; header {magic, version, source, first_seq, boot id}, then frames
 *                      {u32 size, u32 crc32c(of what follows), u64 seq, u16 kind, u16 flags, i64 ts_us, payload}
 * FOLDER/FIRSTSEQ.TIME.torn   bytes cut off a segment's end after a kill
 *
 * Source:  layout and policies measured in research, 7.7 M records/s without sync
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "base/uuid.h"
#include "log/record.h"

enum {
	SPOOL_FRAME_MAX = 1 << 20,      /* payload bytes of one frame */
	SPOOL_SEGMENT_BYTES = 16 << 20, /* a new segment is begun beyond this */
};

struct spool; /* the producer's end */

/**
 * spool_open() - open a spool for appending, making its folder and source file if need be
 * @folder:  absolute; only one process may have it open: an exclusive flock is held, -EBUSY if another has it
 *
 * A torn tail of the last segment is cut off and kept as .torn; *ret_torn_bytes says how much (may be NULL).
 *
 * Return:  0 or -errno with @err
 */
int spool_open(struct spool **ret, const char *folder, uint64_t *ret_torn_bytes, struct error *err);
struct spool *spool_close(struct spool *s);
DEFINE_CLEANUP(struct spool *, spool_close)

/* Sequence number the next record gets. Numbers begin at 1; they have a gap only where a write failed halfway (full
 * disk) or damage was cut off, because a number is never given to two records. */
uint64_t spool_get_next_seq(const struct spool *s);
const struct uuid *spool_get_source(const struct spool *s);

/**
 * spool_append() - append @n encoded payloads in one write(2)
 * @payloads:   results of record_encode(), in order; borrowed
 * @kinds, @ts_us:  of each
 *
 * On a full disk nothing of the batch is kept (a partial write is cut off again) and -ENOSPC comes back.
 *
 * Return:  0 or -errno
 */
int spool_append(struct spool *s, const struct view *payloads, const enum record_kind *kinds, const int64_t *ts_us,
    size_t n, uint64_t *ret_first_seq);

/* record_encode() and spool_append() of one record. */
int spool_append_record(struct spool *s, const struct record *r, uint64_t *ret_seq);

int spool_sync(struct spool *s); /* fdatasync; 0 or -errno */

struct spool_reader; /* the consumer's end: lock-free, any number beside the producer */

struct spool_frame {
	uint64_t seq;
	int64_t ts_us;
	enum record_kind kind;
	const void *payload; /* valid until the next call */
	size_t size;
};

/* @after_seq: the first frame delivered has a greater number. The folder need not exist yet. */
int spool_reader_open(struct spool_reader **ret, const char *folder, uint64_t after_seq, struct error *err);
struct spool_reader *spool_reader_close(struct spool_reader *r);
DEFINE_CLEANUP(struct spool_reader *, spool_reader_close)

/* Return: 1 and a frame; 0 at the present end; -ESTALE when the folder was emptied and begun anew as another source
 * (open the reader again with that source's mark); other -errno. Damaged stretches are skipped by looking for the next
 * whole frame; *ret_skipped_bytes (may be NULL) is set to the number of bytes this call skipped. */
int spool_reader_next(struct spool_reader *r, struct spool_frame *ret, uint64_t *ret_skipped_bytes);

/* An inotify descriptor: readable when something was appended since it was last drained by spool_reader_next(). */
int spool_reader_get_fd(const struct spool_reader *r);

/* Makes everything delivered so far durable, so that the store cannot know of records that a power loss takes from the
 * spool, whose numbers would then be used a second time. Return: 0 or -errno */
int spool_reader_sync(struct spool_reader *r);

/* -ENOENT until the producer has made it. */
int spool_read_source(const char *folder, struct uuid *ret);

/* Unlinks segments all of whose frames are <= @seq, and what was torn from them; never the newest one. Return: 0 or -errno */
int spool_trim(const char *folder, uint64_t seq);
