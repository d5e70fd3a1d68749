/* SPDX-License-Identifier: Apache-2.0 */
/* Shared by the files of the SQLite store; nothing else includes it, but its tests. */
#pragma once

#include <sqlite3.h>
#include <sys/types.h>

#include "db/names.h"
#include "db/store_ops.h"

enum {
	SQLITE_MAJOR = 1,                 /* of the schema: schema_version.version / 1000 */
	SQLITE_APPLICATION_ID = 0x53505653, /* "SPVS" in the file's header: file(1) and we recognise it */
};

struct sqlite_store {
	struct store store;
	sqlite3 *db;
	char *path;
	bool read_only;
	dev_t dev; /* of the file that is open, to notice when another takes its place */
	ino_t ino;
	uint64_t timeout_ms, deadline_ms;

	/* writing; prepared when first used */
	sqlite3_stmt *insert_log, *insert_event, *insert_name, *find_name;
	struct name_map names;       /* dictionary */
	struct name_map experiments; /* as configured -> dictionary number of its id */
	int64_t data_version;        /* changes when another connection has committed: then both maps are doubted */
};

struct sqlite_store *sqlite_of(struct store *s);

/* The errno that stands for an SQLite result, and the message. Never 0. */
int sqlite_error(struct sqlite_store *s, int rc, struct error *err, const char *doing);

int sqlite_exec(struct sqlite_store *s, const char *sql, struct error *err, const char *doing);

/* First column of the first row. Return: 1 and the number, 0 no row (or NULL), -errno with @err */
int sqlite_get_i64(struct sqlite_store *s, const char *sql, int64_t *ret, struct error *err);

DEFINE_CLEANUP(sqlite3_stmt *, sqlite3_finalize)

/* Brings the schema up to date; safe to repeat, to interrupt, and to run twice at once. */
int sqlite_migrate(struct sqlite_store *s, struct error *err);

/* Refuses a store that we cannot read. Return: 0; -ENOENT there is no schema yet; -EPROTONOSUPPORT; -errno */
int sqlite_check_version(struct sqlite_store *s, struct error *err);

int sqlite_query_logs(struct store *s, const struct log_query *q, store_row_fn fn, void *userdata, struct error *err);
int sqlite_query_events(struct store *s, const struct event_query *q, store_row_fn fn, void *userdata,
    struct error *err);
int sqlite_get_cursors(struct store *s, int64_t *ret_logs, int64_t *ret_events, struct error *err);
int sqlite_describe(struct store *s, cJSON **ret, struct error *err);

/* EXPLAIN QUERY PLAN of a query, one step a line: for the tests that hold plans to their indexes. */
int sqlite_explain_logs(struct store *s, const struct log_query *q, struct text *ret);
int sqlite_explain_events(struct store *s, const struct event_query *q, struct text *ret);
