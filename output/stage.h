/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The state file, RUNTIME/logger.state: everything a logger has in hand, in memory shared with the file, so that
 * kill -9 takes nothing with it. This file is the layout, the checks on it and the small steps; output.c has the order
 * of the steps and says why no instant loses or doubles a byte.
 *
 * header | scratch | raw | out of log | out of spool | parked for log | parked for spool | slots | carry of each slot
 *
 * Of a file on tmpfs only what was touched takes memory: some 4 KiB for 64 idle streams, and nothing for the rest.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/cleanup.h"
#include "base/error.h"
#include "output/settings.h"

enum {
	STAGE_BATCH = 64 << 10,  /* bytes of one read */
	STAGE_LINE = 64 << 10,   /* a longer line is split */
	STAGE_OUT = 1020 << 10,  /* encoded bytes of one step, for each sink; below STAGE_PARKED with a parcel's head */
	STAGE_OUT_AT_FIRST = 256 << 10, /* of these, allocated from the beginning */
	STAGE_PARKED = 1 << 20,  /* bytes kept for each sink while it cannot be written */
	STAGE_SLOTS = 16384,     /* streams */
	STAGE_SLOTS_STEP = 64,
};

enum stage_phase {
	STAGE_IDLE = 0,
	STAGE_READING, /* a read into raw may or may not have happened */
	STAGE_HAVE,    /* raw[consumed..want) is in hand and nobody else has it */
	STAGE_READY,   /* what is to be appended is staged in out; it may have been appended in part */
	STAGE_DONE,    /* both sinks have it (or it is parked); the changes in next_* are to be made */
	_STAGE_PHASE_MAX
};

enum { MARK_SEQ = 48 };

enum sink { SINK_LOG, SINK_SPOOL, _SINK_MAX };

/*
 * Bytes on their way to one sink. Before the first attempt `mark` is 0; from then on it says what was there before, so
 * that whoever comes next finds out how much has been written already.
 */
struct parcel {
	uint64_t step;   /* number of the step that made it */
	uint64_t mark;   /* log: inode number; spool: MARK_SEQ bits of the sequence number that the next record of it
	                    gets, above them how many it had before; 0: not tried */
	uint64_t before; /* log: size of the file before */
	uint32_t size;   /* bytes */
	uint32_t count;  /* spool: records, each with its size (u32) in front */
	uint32_t lines;  /* to be counted when it has to be dropped */
	uint32_t slot;   /* of the stream */
	int64_t ts_us;
	uint32_t done;
	uint32_t file_size; /* parked for log: bytes of the file name that follows, with its NUL and padding; else 0 */
};

/* One stream. Lives in the state file; 64 bytes so that thousands cost little. */
struct slot {
	uint64_t key[2]; /* XXH3 of the FIFO's name */
	uint32_t used;
	uint32_t carry_size; /* bytes of the unfinished line */
	uint32_t carry_room; /* bytes of the file that are allocated for it */
	uint32_t dropped[_SINK_MAX]; /* lines */
	uint8_t continued; /* the unfinished line is the rest of one that was split */
	uint8_t level;     /* then: the level of its beginning */
	uint8_t logged;    /* the unfinished line is in the log file already (format raw) */
	uint8_t reserved;
	uint64_t run; /* XXH3 of the incarnation; of stdout's slot alone */
	uint64_t run_inode, run_size; /* of the log file when it began */
};

struct stage_header {
	char magic[8];
	uint32_t version;
	uint32_t slots; /* the file has room for */
	char boot_id[40];
	uint64_t step; /* number of the latest step */
	int64_t ts_us; /* of the batch */
	uint32_t phase;
	uint32_t slot;
	uint32_t stream; /* 0 stdout, 1 stderr */
	uint32_t want;
	uint32_t consumed;
	uint32_t flush; /* end the unfinished line too */
	uint32_t first; /* the byte that raw[0] gets when the read happens; raw[0] is its complement before */
	uint32_t sinks_done; /* bit per sink */
	struct parcel parcel[_SINK_MAX];
	uint32_t out_room[_SINK_MAX];    /* bytes allocated */
	uint32_t parked_room[_SINK_MAX];
	uint32_t parked[_SINK_MAX];      /* bytes in use */

	/* What STAGE_DONE changes. Nothing of it is changed by making it so, so it may be done twice. */
	uint32_t next_consumed;
	uint32_t next_flush;
	int32_t carry_from; /* the unfinished line becomes raw[carry_from..+carry_copy); below 0 it begins in scratch */
	uint32_t carry_copy;
	uint32_t next_continued, next_level, next_logged;
	uint32_t set_dropped[_SINK_MAX]; /* 1: dropped[] of the slot becomes the number below */
	uint32_t next_dropped[_SINK_MAX];
	uint32_t keep_raw; /* 1: a step of our own, beside any batch: consumed and carry stay as they are */

	uint64_t settings[SETTINGS_MAX / 8]; /* of the daemon the batch belongs to */
};

struct stage {
	int fd;
	char *base; /* moves when the file grows */
	size_t size;
};

/**
 * stage_open() - map RUNTIME/logger.state, making it if need be
 * @dirfd:  the runtime folder; the caller holds its logger.lock
 * @ret_aside:  true when there was a file that made no sense or came from before a reboot; it is kept under another name
 *
 * Return:  0 or -errno with @err
 */
int stage_open(struct stage *ret, int dirfd, bool *ret_aside, struct error *err);
void stage_close(struct stage *s);

/* Whether @size bytes at @base are a state file to go on with. All of it is hostile input. */
bool stage_is_valid(const void *base, size_t size);

struct stage_header *stage_header(const struct stage *s);
char *stage_scratch(const struct stage *s); /* STAGE_LINE bytes right in front of raw */
char *stage_raw(const struct stage *s);
char *stage_out(const struct stage *s, enum sink k);
char *stage_parked(const struct stage *s, enum sink k);
struct slot *stage_slot(const struct stage *s, uint32_t i);
char *stage_carry(const struct stage *s, uint32_t i); /* STAGE_LINE bytes, of which carry_room may be touched */

enum stage_phase stage_get_phase(const struct stage *s);

/* Everything stored before is stored when the phase is (see output.c). */
void stage_set_phase(struct stage *s, enum stage_phase p);

/* Allocates the first @size bytes of an area, so that touching them cannot fail. Return: 0 or -errno */
int stage_reserve_out(struct stage *s, enum sink k, uint32_t size);
int stage_reserve_parked(struct stage *s, enum sink k);
int stage_reserve_carry(struct stage *s, uint32_t slot, uint32_t size);

/**
 * stage_take_slot() - the slot of a stream: the one it had, or a new one
 * @fifo:  name of the FIFO
 *
 * Return:  0, or -errno (-ENOSPC: no slot is left)
 */
int stage_take_slot(struct stage *s, const char *fifo, uint32_t *ret);
/* Hash of any text, for slot.run. */
uint64_t stage_hash(const char *text);
void stage_give_slot(struct stage *s, uint32_t i);

/* Makes the changes of STAGE_DONE, and goes on to STAGE_HAVE or STAGE_IDLE. */
void stage_apply(struct stage *s);

/* The parcel at offset *@at of what is parked; moves *@at on. NULL: no more, or nonsense from here on. */
struct parcel *stage_next_parked(const struct stage *s, enum sink k, uint32_t *at, const char **ret_file, char **ret_data);

/* Adds a copy of @p with its bytes. Return: 0, or -ENOSPC */
int stage_park(struct stage *s, enum sink k, const struct parcel *p, const char *file, const char *data);
