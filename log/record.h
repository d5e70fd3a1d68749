/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Records: what is said about daemons, in the one form in which it is spooled, stored and printed. The logger makes
 * log records from output; the supervisor makes events and ERROR logs; the writer puts both into the store.
 */
#pragma once

#include <stdint.h>

#include "base/text.h"
#include "base/uuid.h"
#include "log/level.h"

/* A piece of bytes that belongs to somebody else. size 0 = absent (stored as NULL). */
struct view {
	const char *data;
	size_t size;
};

#define VIEW_OF(s)                                                                                           \
	__extension__({                                                                                      \
		const char *view_s_ = (s);                                                                   \
		(struct view){ view_s_, view_s_ ? strlen(view_s_) : 0 };                                     \
	})

enum record_kind {
	RECORD_UNKNOWN = 0,
	RECORD_LOG,   /* -> pipeline_logs */
	RECORD_EVENT, /* -> pipeline_events */
	_RECORD_KIND_MAX
};

/*
 * Text fields are UTF-8 (made so by the producer), without NUL. context, performance and details are JSON objects as
 * text, "" for {}. Sizes are bounded by SPOOL_FRAME_MAX as a whole; record_encode() cuts message and traceback to fit.
 */
struct record {
	enum record_kind kind;
	struct uuid id;       /* UUIDv7; a record that may be written twice after a kill uses the same id twice */
	int64_t ts_us;        /* wall time, microseconds since the epoch */
	enum log_level level; /* logs: the level; events: the severity */
	int32_t pid;          /* 0: none */
	struct view daemon;     /* "train/0" */
	struct view run;        /* incarnation: UUIDv7 text */
	struct view experiment; /* name or UUID text, as configured; the store resolves it */
	struct view job_id;     /* UUID text */
	struct view node_id;
	struct view stage;
	struct view logger_name; /* logs: "stdout", "stderr", or the application's logger; events: the source */
	struct view message;     /* logs: the message; events: the title */
	struct view context;     /* logs: context; events: details */
	struct view traceback;   /* logs only */
	struct view performance; /* logs only */
	struct view event_type;  /* events only: "process_crash", "process_exit", ... (log/event.h) */
};

/* Adds the payload of a spool frame to @out (tag-length-value; unknown tags are skipped by readers, so fields may be
 * added later). Return: 0, -ENOMEM, or -EINVAL for an unknown kind */
int record_encode(const struct record *r, struct text *out);

/* Reads a payload; views point into @data. All input is hostile. Return: 0 or -EBADMSG */
int record_decode(const void *data, size_t size, struct record *ret);
