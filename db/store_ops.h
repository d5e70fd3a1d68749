/* SPDX-License-Identifier: Apache-2.0 */
/* What a kind of store implements. A new kind is one file with such a table, and one line in store.c. */
#pragma once

#include "db/store.h"

/* The first member of every store's own structure. */
struct store {
	const struct store_ops *ops;
	char warning[256]; /* "": none; see store_get_warning() */
};

/* Each is the function of the same name in store.h. */
struct store_ops {
	const char *type;
	int (*open)(struct store **ret, const struct store_options *o, struct error *err);
	void (*close)(struct store *s);
	int (*get_mark)(struct store *s, const struct uuid *source, const char *host, const char *name, uint64_t *ret_mark,
	    struct error *err);
	int (*write)(struct store *s, const struct uuid *source, const struct record *records, const uint64_t *seqs,
	    size_t n, uint64_t expected, uint64_t mark, struct error *err);
	void (*release_memory)(struct store *s);
	int (*query_logs)(struct store *s, const struct log_query *q, store_row_fn fn, void *userdata, struct error *err);
	int (*query_events)(struct store *s, const struct event_query *q, store_row_fn fn, void *userdata,
	    struct error *err);
	int (*get_cursors)(struct store *s, int64_t *ret_logs, int64_t *ret_events, struct error *err);
	int (*describe)(struct store *s, cJSON **ret, struct error *err);
};

extern const struct store_ops sqlite_ops;
