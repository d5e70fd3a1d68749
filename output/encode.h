/* SPDX-License-Identifier: Apache-2.0 */
/*
 * From bytes to what goes into the log file and the spool: lines, their levels, the three formats.
 *
 * Pure: no clock, descriptor or state of its own beyond a random start for ids.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/text.h"
#include "log/level.h"
#include "output/settings.h"

struct encode_job {
	const struct settings *settings; /* borrowed */
	unsigned stream;                 /* 0 stdout, 1 stderr */
	int64_t ts_us;
	const char *data; /* data[from..to) is looked at; from may be below 0 */
	ptrdiff_t from, to;
	bool flush;             /* what is left at the end is a line too */
	bool continued;         /* data[from] goes on with a line whose beginning has been encoded */
	enum log_level level;   /* then: its level */
	bool logged;            /* data[from..0) is in the log file already (format raw) */
	size_t line_max;        /* a longer line is split; at least 16 */
	size_t step;            /* stop once either output has that many bytes */
	size_t log_room, spool_room; /* never make more than that */
	uint64_t next_seq;      /* of the first record, when that is known; else 0 */
	bool no_rotate;         /* whatever its size */
	uint64_t file_size;     /* of the log file as it is */
	bool file_at_line;      /* and whether it ends at the end of a line */
};

enum encode_stop {
	ENCODE_ALL = 0, /* got to the end; data[end..to) is the beginning of a line */
	ENCODE_ROOM,    /* enough for one step */
	ENCODE_ROTATE,  /* what follows belongs into a new log file */
};

struct encoded {
	struct text log;
	struct text spool; /* records, each with its size (u32) in front */
	uint32_t records;
	uint32_t lines; /* that ended, or were split off */
	ptrdiff_t end;
	bool continued;
	enum log_level level;
	bool logged; /* data[end..to) is in log already */
	enum encode_stop stop;
};

void encoded_free(struct encoded *e);
#define _cleanup_encoded_ _cleanup_(encoded_free)

/**
 * encode() - one step
 * @ret:  initialised; emptied first, its memory is used again
 *
 * Return:  0; -EMSGSIZE when not even one line fits into the room; -ENOMEM
 */
int encode(const struct encode_job *job, struct encoded *ret);

/**
 * encode_notice() - a line of our own among the daemon's: level WARNING, logger "supervise"
 * @log, @spool:  for which of the two
 *
 * Return:  0 or -ENOMEM
 */
int encode_notice(const struct encode_job *job, const char *text, bool log, bool spool, struct encoded *ret);
