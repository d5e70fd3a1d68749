/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Where `logs` and `events` read records: the store, plus what is spooled and not stored yet, so the last line is always
 * there; or, without a store, the log files. Following reads the spool (or the files), so it needs no database.
 */
#pragma once

#include <stdbool.h>

#include "cli/cli.h"
#include "log/record.h"

/* What is wanted; zero means no condition. */
struct record_filter {
	enum record_kind kind;
	const char *const *daemons; /* names, "train" for its instances, patterns */
	size_t n_daemons;
	const char *experiment, *node, *stage, *search, *stream, *event_type;
	enum log_level level, level_exact;
	int32_t pid;
	int64_t since_us, until_us;
	bool invert;
	void *regex; /* pcre2_code of --grep */
};

/* Views are valid during the call. Not 0 ends the reading and is returned. */
typedef int (*record_fn)(const struct record *r, void *userdata);

bool record_matches(const struct record_filter *f, const struct record *r);

/**
 * records_read() - what there is, oldest first
 * @limit:    the latest @limit that match; 0: all
 * @ret_cut:  set when older ones match too but were left out
 *
 * Return: 0, what @fn returned, or an exit code > 0 after a message
 */
int records_read(struct cli *c, const struct record_filter *f, uint64_t limit, bool *ret_cut, record_fn fn, void *userdata);

/* Goes on with what is written from the end of records_read() on; comes back only when @fn says so, or on SIGINT. */
int records_follow(struct cli *c, const struct record_filter *f, record_fn fn, void *userdata);
