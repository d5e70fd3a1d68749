/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Where `logs` and `events` read records: the store, plus what is spooled and not stored yet, so the last line is always
 * there; where daemons' lines do not go to a store, the log files. Following reads the spool and the files, so it needs
 * no database.
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
	const char *experiment, *node, *stage, *search;
	const char *stream; /* "stdout" or "stderr" */
	enum log_level level, level_exact;
	int32_t pid;
	int64_t since_us, until_us; /* from (included) up to (excluded) */
	bool invert;        /* of search and grep */
	void *regex;        /* pcre2_code of --grep */
	unsigned *too_hard; /* counts records on which the regex was given up; may be NULL */
};

/* Whether a daemon is meant by @pattern: its name, that of all its instances, a glob, or "all". */
bool daemon_matches(const char *name, const char *pattern);

bool record_matches(const struct record_filter *f, const struct record *r);

/* Views are valid during the call. Not 0 ends the reading and is returned. */
typedef int (*record_fn)(const struct record *r, void *userdata);

struct records;

/* Finds out where records are. Return: 0, or an exit code after a message */
int records_open(struct records **ret, struct cli *c);
struct records *records_close(struct records *s);
DEFINE_CLEANUP(struct records *, records_close)

/**
 * records_read() - what there is, in order of time
 * @limit:    the latest @limit that match; 0: all
 * @ret_cut:  set when older ones match too but were left out
 *
 * Return: 0, what @fn returned, or an exit code > 0 after a message
 */
int records_read(struct records *s, const struct record_filter *f, uint64_t limit, bool reverse, bool *ret_cut, record_fn fn,
    void *userdata);

/* Goes on with what is written from where records_read() came to the end. Comes back when @fn says so, or when nobody
 * reads standard output any more. */
int records_follow(struct records *s, const struct record_filter *f, record_fn fn, void *userdata);
