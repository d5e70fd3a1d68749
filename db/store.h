/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The store: what SQLite now, and PostgreSQL later, do for the writer and for the command line. Callers see this
 * interface only; each kind of store is one struct store_ops behind it.
 *
 * Exactly once: store_write() puts a batch and the new high-water mark of its source into one transaction, and only if
 * the mark is still where the caller believes it to be (compare and set). So a writer killed at any instant, or two
 * writers by mistake, can neither lose nor double a record.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/cleanup.h"
#include "base/error.h"
#include "base/json.h"
#include "base/uuid.h"
#include "log/record.h"

enum {
	STORE_E_FENCED = 1, /* the mark is not where expected: re-read it */
};

struct store;

struct store_options {
	const char *type; /* "sqlite" */
	const char *path; /* sqlite: the database file */
	bool read_only;   /* the command line: the schema is not touched */
	uint64_t timeout_ms; /* of one query, which then ends with -ETIMEDOUT; 0: none */
};

/**
 * store_open() - open, and unless read_only create or migrate the schema
 * Return:  0; -ENOENT (read_only and there is none yet); -EPROTONOSUPPORT (made by a newer major version); other
 *          -errno with @err
 */
int store_open(struct store **ret, const struct store_options *o, struct error *err);
struct store *store_close(struct store *s);
DEFINE_CLEANUP(struct store *, store_close)

/* Something the operator should know about how the store works here, or NULL. Borrowed. */
const char *store_get_warning(const struct store *s);

/* Registers @source if it is new and gives its mark: the greatest sequence number already stored. */
int store_get_mark(struct store *s, const struct uuid *source, const char *host, const char *name, uint64_t *ret_mark,
    struct error *err);

/**
 * store_write() - one batch, one transaction
 * @records, @seqs:  decoded records and their spool sequence numbers, ascending
 * @expected, @mark: the mark before, and after
 *
 * A record the database refuses (hostile or damaged) is put into the quarantine table in the same transaction, never
 * dropped and never a reason to lose its neighbours. A record whose id is already stored is skipped. One of kind
 * RECORD_UNKNOWN goes to quarantine with its message as the bytes: that is how the writer passes on what does not
 * decode.
 *
 * Return:  0; STORE_E_FENCED; -ESTALE when the database file was removed or replaced (open it again); other -errno with
 *          @err. Nothing of the batch is stored unless 0 comes back, but for a COMMIT whose answer was lost: ask the
 *          mark again before the next attempt
 */
int store_write(struct store *s, const struct uuid *source, const struct record *records, const uint64_t *seqs,
    size_t n, uint64_t expected, uint64_t mark, struct error *err);

/* Gives back the memory of caches, after which nothing but speed is different. */
void store_release_memory(struct store *s);

/* What to read. Zero means "no condition". Times are wall microseconds. */
struct log_query {
	const char *const *daemons; /* any of these names; a name without instance takes all its instances */
	size_t n_daemons;
	const char *experiment; /* name or id */
	const char *node, *stage, *run, *logger;
	enum log_level level;    /* at least */
	enum log_level level_exact;
	const char *search;      /* substring, letters of either case alike, LIKE metacharacters are literal */
	const char *stream;      /* "stdout" | "stderr" */
	int32_t pid;
	int64_t since_us, until_us; /* from (included) and up to (excluded) */
	uint64_t limit;          /* the latest @limit that match, 0: all */
	bool newest_first;
	int64_t after_cursor;    /* follow: only rows behind this cursor, oldest first */
};

/* One row. Views are valid during the callback. */
struct store_row {
	struct record record;
	int64_t cursor; /* ascending in the order rows were stored; for follow on an embedded store */
	struct view host;
};

/* Not 0 ends the query and is returned by it. */
typedef int (*store_row_fn)(const struct store_row *row, void *userdata);

/* Rows in order of time, oldest first unless newest_first. Return: 0, the callback's value, or -errno with @err */
int store_query_logs(struct store *s, const struct log_query *q, store_row_fn fn, void *userdata, struct error *err);

struct event_query {
	const char *const *daemons;
	size_t n_daemons;
	const char *experiment;
	const char *const *types; /* any of these event types */
	size_t n_types;
	enum log_level level;
	int64_t since_us, until_us;
	uint64_t limit;
	bool newest_first;
	int64_t after_cursor;
};

int store_query_events(struct store *s, const struct event_query *q, store_row_fn fn, void *userdata, struct error *err);

/* Greatest cursor of logs and of events at this moment: where a follow begins. */
int store_get_cursors(struct store *s, int64_t *ret_logs, int64_t *ret_events, struct error *err);

/* Rows per table, size of the file, schema version: {"schema_version":..,"bytes":..,"tables":{..},"sources":[..]} */
int store_describe(struct store *s, cJSON **ret, struct error *err);
