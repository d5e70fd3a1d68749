/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Any record: the store takes it or quarantines it, is never stopped by it, and reads back valid UTF-8 and JSON.
 * The input is a spool payload; what does not decode is written as the writer does it.
 */
#include <assert.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/json.h"
#include "base/text.h"
#include "db/store.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static char root[] = "/dev/shm/fuzz-store-XXXXXX";
static struct store *store;

static void clean(void)
{
	char cmd[128];

	store = store_close(store);
	snprintf(cmd, sizeof(cmd), "rm -rf '%s'", root);
	if (system(cmd))
		abort();
}

static void check_text(struct view v)
{
	assert(utf8_valid_prefix(v.data, v.size) == v.size);
	assert(!v.size || !memchr(v.data, 0, v.size));
}

static int check(const struct store_row *row, void *userdata)
{
	const struct record *r = &row->record;
	const struct view texts[] = { r->daemon, r->run, r->experiment, r->job_id, r->node_id, r->stage, r->logger_name,
		r->message, r->context, r->traceback, r->performance, r->event_type };

	for (size_t i = 0; i < ARRAY_SIZE(texts); i++)
		check_text(texts[i]);
	assert(r->level > LEVEL_UNKNOWN && r->level < _LEVEL_MAX);
	assert(r->ts_us > 0);
	*(unsigned *)userdata += 1;
	return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const struct uuid source = { { 7 } };
	static uint64_t mark;
	static unsigned runs;
	struct record r;
	struct error err = { "" };
	char path[64], word[64];
	int64_t logs = 0, events = 0;
	unsigned seen = 0;
	uint64_t seq;

	if (!store) {
		if (access("/dev/shm", W_OK) < 0)
			memcpy(root, "/tmp/././", 9);
		if (!mkdtemp(root))
			abort();
		atexit(clean);
	}
	if (runs++ % 1000 == 0) {
		struct store_options o = { .type = "sqlite", .path = path };

		store = store_close(store);
		snprintf(path, sizeof(path), "%s/%u.db", root, runs);
		if (store_open(&store, &o, &err) < 0 || store_get_mark(store, &source, "h", "n", &mark, &err) < 0)
			abort();
	}
	if (record_decode(data, size, &r) < 0)
		r = (struct record){ .message = { (const char *)data, size } };
	else
		memcpy(r.id.b, &runs, sizeof(runs));
	if (store_get_cursors(store, &logs, &events, &err) < 0)
		abort();
	seq = mark + 1;
	if (store_write(store, &source, &r, &seq, 1, mark, seq, &err) != 0) {
		fprintf(stderr, "%s\n", err.text);
		abort();
	}
	mark = seq;
	snprintf(word, sizeof(word), "%.*s", (int)(r.message.size < 60 ? r.message.size : 60), r.message.data ? r.message.data : "");
	if (r.kind == RECORD_LOG) {
		/* cursor 0 is "from the beginning" */
		const struct log_query q = { .after_cursor = logs ? logs : 0 };
		const struct log_query search = { .search = word, .limit = 3, .daemons = (const char *[]){ word }, .n_daemons = 1 };

		if (store_query_logs(store, &q, check, &seen, &err) < 0 ||
		    store_query_logs(store, &search, check, &seen, &err) < 0)
			abort();
	} else if (r.kind == RECORD_EVENT) {
		const struct event_query q = { .after_cursor = events ? events : 0 };

		if (store_query_events(store, &q, check, &seen, &err) < 0)
			abort();
	}
	return 0;
}
