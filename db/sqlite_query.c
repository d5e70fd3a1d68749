/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Reading the embedded store.
 *
 * Each query is built so that one index gives the rows in order and the limit ends it early; the tests hold the plans to
 * that. What that takes:
 *
 * - names are looked up first, so that a condition is an equality of numbers;
 * - several daemons are one branch each, since IN (...) would make SQLite sort everything they ever said;
 * - the error levels are spelled exactly as in the partial indexes, which are not considered otherwise;
 * - a leading + takes a column out of the choice of index: follow walks the rows behind its cursor, and nothing else.
 *
 * Numbers are written into the text; texts are bound.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/clock.h"
#include "db/sqlite.h"

enum { BRANCHES_MAX = 64 };

struct ids {
	int64_t *v;
	size_t n;
};

static void ids_free(struct ids *ids)
{
	free(ids->v);
}

static int begin(struct sqlite_store *s)
{
	s->deadline_ms = s->timeout_ms ? clock_mono_ms() + s->timeout_ms : 0;
	return 0;
}

/* Runs @sql with ?1 bound; adds the numbers it gives. */
static int add_ids(struct sqlite_store *s, struct ids *ids, const char *sql, const char *arg, struct error *err)
{
	_cleanup_(sqlite3_finalizep) sqlite3_stmt *st = NULL;
	int rc = sqlite3_prepare_v2(s->db, sql, -1, &st, NULL);

	if (!rc)
		rc = sqlite3_bind_text(st, 1, arg, -1, SQLITE_STATIC);
	while (!rc && (rc = sqlite3_step(st)) == SQLITE_ROW) {
		int64_t *p = realloc(ids->v, (ids->n + 1) * sizeof(*p));

		if (!p)
			return -ENOMEM;
		ids->v = p;
		p[ids->n++] = sqlite3_column_int64(st, 0);
		rc = 0;
	}
	return rc == SQLITE_DONE ? 0 : sqlite_error(s, rc, err, "look up a name");
}

static void add_in(struct text *sql, const char *column, const struct ids *ids)
{
	if (ids->n == 1) {
		text_addf(sql, " AND %s = %" PRId64, column, ids->v[0]);
		return;
	}
	text_addf(sql, " AND %s IN (", column);
	for (size_t i = 0; i < ids->n; i++)
		text_addf(sql, "%s%" PRId64, i ? "," : "", ids->v[i]);
	text_add(sql, ")");
}

static bool is_level(enum log_level l)
{
	return l > LEVEL_UNKNOWN && l < _LEVEL_MAX;
}

/* "'ERROR', 'CRITICAL'": @least and above, in the order the partial indexes have. */
static void add_levels(struct text *sql, enum log_level least, bool small)
{
	for (enum log_level l = least; l < _LEVEL_MAX; l++) {
		char name[16];

		snprintf(name, sizeof(name), "%s", log_level_to_string(l));
		for (char *c = name; small && *c; c++)
			*c |= 0x20;
		text_addf(sql, "%s'%s'", l > least ? ", " : "", name);
	}
}

/* Adds one condition "column is this name" from an optional argument. Return: 1, 0 nothing can match, -errno */
static int add_name(struct sqlite_store *s, struct text *sql, const char *column, const char *name, struct error *err)
{
	__attribute__((cleanup(ids_free))) struct ids ids = { 0 };
	int r;

	if (!name)
		return 1;
	r = add_ids(s, &ids, "SELECT id FROM names WHERE text = ?1", name, err);
	if (r < 0)
		return r;
	if (ids.n)
		add_in(sql, column, &ids);
	return ids.n > 0;
}

/* LIKE pattern for "contains", with \ as escape. The caller frees. */
static char *like_pattern(const char *word)
{
	struct text t = { 0 };

	text_add(&t, "%");
	for (const char *c = word; *c; c++) {
		if (strchr("%_\\", *c))
			text_add(&t, "\\");
		text_add_bytes(&t, c, 1);
	}
	text_add(&t, "%");
	return text_take(&t);
}

/* What a row of logs is shown as; the numbers of the columns are those of read_log_row(). */
#define LOG_COLUMNS                                                                                          \
	"l.seq, l.id, l.ts, l.level, l.pid, l.message, ifnull(l.context, '{}'), l.traceback,"                \
	" ifnull(l.performance, '{}'), (SELECT text FROM names WHERE id = l.daemon),"                        \
	" (SELECT text FROM names WHERE id = l.run),"                                                        \
	" (SELECT coalesce((SELECT e.name FROM experiments e WHERE e.id = n.text), n.text)"                  \
	" FROM names n WHERE n.id = l.experiment),"                                                          \
	" (SELECT text FROM names WHERE id = l.job), (SELECT text FROM names WHERE id = l.node),"            \
	" (SELECT text FROM names WHERE id = l.stage), (SELECT text FROM names WHERE id = l.logger),"        \
	" (SELECT host FROM ingest_source i WHERE i.source_id = l.source_id)"

/* Return: 1 and the text of the query, whose ?1 is the pattern of @search; 0 nothing can match; -errno */
static int build_logs(struct sqlite_store *s, const struct log_query *q, struct text *ret, struct error *err)
{
	__attribute__((cleanup(ids_free))) struct ids daemons = { 0 }, experiments = { 0 };
	_cleanup_text_ struct text where = { 0 };
	const char *plus = q->after_cursor > 0 ? "+" : "", *order;
	enum log_level least = q->level;
	size_t branches = 1;
	char column[32];
	int r = 1;

	for (size_t i = 0; i < q->n_daemons; i++) {
		/* "train" means train/0, train/1, ... as well; '0' follows '/' */
		r = add_ids(s, &daemons,
		    "SELECT id FROM names WHERE text = ?1 OR (text > ?1 || '/' AND text < ?1 || '0') ORDER BY id",
		    q->daemons[i], err);
		if (r < 0)
			return r;
	}
	if (q->n_daemons && !daemons.n)
		return 0;
	if (q->experiment) {
		r = add_ids(s, &experiments,
		    "SELECT n.id FROM experiments e JOIN names n ON n.text = e.id WHERE e.id = lower(?1) OR e.name = ?1",
		    q->experiment, err);
		if (r < 0)
			return r;
		if (!experiments.n)
			return 0;
		snprintf(column, sizeof(column), "%sexperiment", plus);
		add_in(&where, column, &experiments);
	}
	snprintf(column, sizeof(column), "%snode", plus);
	r = add_name(s, &where, column, q->node, err);
	if (r > 0)
		r = add_name(s, &where, "+stage", q->stage, err);
	if (r > 0)
		r = add_name(s, &where, "+run", q->run, err);
	if (r > 0)
		r = add_name(s, &where, "+logger", q->logger, err);
	if (r <= 0)
		return r;
	if (q->stream) {
		/* only these two words are let through, so they can stand in the text */
		const char *stream = !strcmp(q->stream, "stdout") ? "stdout" : !strcmp(q->stream, "stderr") ? "stderr" : "";

		text_addf(&where,
		    " AND (+logger = (SELECT id FROM names WHERE text = '%s') OR json_extract(context, '$.stream') = '%s')",
		    stream, stream);
	}
	if (is_level(q->level_exact)) {
		/* the partial indexes are found by this list alone */
		if (q->level_exact >= LEVEL_ERROR && least < LEVEL_ERROR)
			least = LEVEL_ERROR;
		text_addf(&where, " AND +level = '%s'", log_level_to_string(q->level_exact));
	}
	if (least > LEVEL_DEBUG && least < _LEVEL_MAX) {
		text_add(&where, " AND level IN (");
		add_levels(&where, least, false);
		text_add(&where, ")");
	}
	if (q->pid)
		text_addf(&where, " AND pid = %" PRId32, q->pid);
	if (q->since_us)
		text_addf(&where, " AND %sts >= %" PRId64, plus, q->since_us);
	if (q->until_us)
		text_addf(&where, " AND %sts < %" PRId64, plus, q->until_us);
	if (q->search)
		text_add(&where, " AND (message LIKE ?1 ESCAPE '\\' OR traceback LIKE ?1 ESCAPE '\\')");

	if (q->after_cursor > 0) {
		text_add(ret, "SELECT " LOG_COLUMNS " FROM logs l WHERE ");
		text_addf(ret, "seq > %" PRId64, q->after_cursor);
		if (daemons.n)
			add_in(ret, "+daemon", &daemons);
		text_add_bytes(ret, where.data, where.size);
		text_add(ret, " ORDER BY seq");
		if (q->limit)
			text_addf(ret, " LIMIT %" PRIu64, q->limit);
		return ret->failed || where.failed ? -ENOMEM : 1;
	}

	/* the latest of each branch, then the latest of all, then in the order asked for */
	order = q->limit ? " ORDER BY ts DESC, seq DESC" : "";
	if (q->limit && daemons.n > 1 && daemons.n <= BRANCHES_MAX)
		branches = daemons.n;
	text_add(ret, "SELECT " LOG_COLUMNS " FROM (");
	text_add(ret, branches > 1 ? "SELECT k, t FROM (" : "");
	for (size_t i = 0; i < branches; i++) {
		const struct ids one = { branches > 1 ? &daemons.v[i] : NULL, 1 };

		text_add(ret, i ? " UNION ALL " : "");
		text_add(ret, branches > 1 ? "SELECT * FROM (" : "");
		text_add(ret, "SELECT seq AS k, ts AS t FROM logs WHERE true");
		if (daemons.n)
			add_in(ret, daemons.n > BRANCHES_MAX && q->limit ? "+daemon" : "daemon", branches > 1 ? &one : &daemons);
		text_add_bytes(ret, where.data, where.size);
		text_add(ret, order);
		if (q->limit)
			text_addf(ret, " LIMIT %" PRIu64, q->limit);
		text_add(ret, branches > 1 ? ")" : "");
	}
	if (branches > 1)
		text_addf(ret, ") ORDER BY t DESC, k DESC LIMIT %" PRIu64, q->limit);
	text_addf(ret, ") CROSS JOIN logs l ON l.seq = k ORDER BY t%s, k%s", q->newest_first ? " DESC" : "",
	    q->newest_first ? " DESC" : "");
	return ret->failed || where.failed ? -ENOMEM : 1;
}

static struct view view_column(sqlite3_stmt *st, int i)
{
	const void *data = sqlite3_column_text(st, i);

	return (struct view){ data, data ? (size_t)sqlite3_column_bytes(st, i) : 0 };
}

static void read_id(sqlite3_stmt *st, int i, struct uuid *ret)
{
	const void *data;

	if (sqlite3_column_type(st, i) == SQLITE_BLOB) {
		data = sqlite3_column_blob(st, i);
		if (sqlite3_column_bytes(st, i) == 16)
			memcpy(ret->b, data, 16);
	} else {
		data = sqlite3_column_text(st, i);
		if (data)
			(void)uuid_parse(data, ret);
	}
}

static void read_log_row(sqlite3_stmt *st, struct store_row *row)
{
	const char *level = (const char *)sqlite3_column_text(st, 3);

	row->record = (struct record){
		.kind = RECORD_LOG,
		.ts_us = sqlite3_column_int64(st, 2),
		.level = log_level_from_string(level),
		.pid = sqlite3_column_int(st, 4),
		.message = view_column(st, 5),
		.context = view_column(st, 6),
		.traceback = view_column(st, 7),
		.performance = view_column(st, 8),
		.daemon = view_column(st, 9),
		.run = view_column(st, 10),
		.experiment = view_column(st, 11),
		.job_id = view_column(st, 12),
		.node_id = view_column(st, 13),
		.stage = view_column(st, 14),
		.logger_name = view_column(st, 15),
	};
	read_id(st, 1, &row->record.id);
	row->cursor = sqlite3_column_int64(st, 0);
	row->host = view_column(st, 16);
}

/* Runs a built query. */
static int each_row(struct sqlite_store *s, sqlite3_stmt *st, void (*read)(sqlite3_stmt *, struct store_row *),
    store_row_fn fn, void *userdata, struct error *err)
{
	struct store_row row;
	int rc, r;

	while ((rc = sqlite3_step(st)) == SQLITE_ROW) {
		read(st, &row);
		r = fn(&row, userdata);
		if (r)
			return r;
	}
	return rc == SQLITE_DONE ? 0 : sqlite_error(s, rc, err, "read");
}

int sqlite_query_logs(struct store *store, const struct log_query *q, store_row_fn fn, void *userdata, struct error *err)
{
	struct sqlite_store *s = sqlite_of(store);
	_cleanup_(sqlite3_finalizep) sqlite3_stmt *st = NULL;
	_cleanup_text_ struct text sql = { 0 };
	_cleanup_(freep) char *pattern = NULL;
	int r, rc;

	begin(s);
	r = build_logs(s, q, &sql, err);
	if (r <= 0)
		return r;
	rc = sqlite3_prepare_v2(s->db, sql.data, (int)sql.size, &st, NULL);
	if (rc)
		return sqlite_error(s, rc, err, "read logs");
	if (q->search) {
		pattern = like_pattern(q->search);
		if (!pattern)
			return -ENOMEM;
		sqlite3_bind_text(st, 1, pattern, -1, SQLITE_STATIC);
	}
	return each_row(s, st, read_log_row, fn, userdata, err);
}

/* --- events ------------------------------------------------------------------------------------------------------- */

#define EVENT_COLUMNS                                                                                        \
	"e.cursor, e.id, e.timestamp, e.severity, e.pid, e.title, e.details, e.event_type, e.source, e.daemon, e.run," \
	" coalesce((SELECT x.name FROM experiments x WHERE x.id = e.experiment_id), e.experiment_id), e.job_id,"       \
	" e.node_id, e.stage, (SELECT host FROM ingest_source i WHERE i.source_id = e.source_id)"

/* Texts to bind: ?1 the experiment, then daemons, then types. */
static int build_events(const struct event_query *q, struct text *ret)
{
	const char *plus = q->after_cursor > 0 ? "+" : "";
	char at[CLOCK_TEXT_MAX];
	size_t arg = 2;

	text_add(ret, "SELECT " EVENT_COLUMNS " FROM (SELECT cursor AS k, timestamp AS t FROM pipeline_events WHERE true");
	if (q->after_cursor > 0)
		text_addf(ret, " AND cursor > %" PRId64, q->after_cursor);
	if (q->experiment)
		text_addf(ret, " AND %sexperiment_id IN (SELECT id FROM experiments WHERE id = lower(?1) OR name = ?1)", plus);
	for (size_t i = 0; i < q->n_daemons; i++, arg++)
		text_addf(ret, "%s%sdaemon = ?%zu OR (%sdaemon > ?%zu || '/' AND %sdaemon < ?%zu || '0')",
		    i ? " OR " : " AND (", plus, arg, plus, arg, plus, arg);
	text_add(ret, q->n_daemons ? ")" : "");
	for (size_t i = 0; i < q->n_types; i++, arg++)
		text_addf(ret, "%s?%zu", i ? ", " : q->after_cursor > 0 ? " AND +event_type IN (" : " AND event_type IN (", arg);
	text_add(ret, q->n_types ? ")" : "");
	if (q->level > LEVEL_DEBUG && q->level < _LEVEL_MAX) {
		text_add(ret, " AND severity IN (");
		add_levels(ret, q->level, true);
		text_add(ret, ")");
	}
	if (q->since_us)
		text_addf(ret, " AND %stimestamp >= '%s'", plus, clock_format_utc(q->since_us, at));
	if (q->until_us)
		text_addf(ret, " AND %stimestamp < '%s'", plus, clock_format_utc(q->until_us, at));
	if (q->after_cursor > 0)
		text_add(ret, " ORDER BY cursor");
	else if (q->limit)
		text_add(ret, " ORDER BY timestamp DESC, cursor DESC");
	if (q->limit)
		text_addf(ret, " LIMIT %" PRIu64, q->limit);
	text_add(ret, ") CROSS JOIN pipeline_events e ON e.cursor = k ORDER BY ");
	text_add(ret, q->after_cursor > 0 ? "k" : q->newest_first ? "t DESC, k DESC" : "t, k");
	return ret->failed ? -ENOMEM : 0;
}

static void read_event_row(sqlite3_stmt *st, struct store_row *row)
{
	const char *at = (const char *)sqlite3_column_text(st, 2);
	int64_t ts = 0;

	if (at)
		(void)clock_parse_utc(at, &ts);
	row->record = (struct record){
		.kind = RECORD_EVENT,
		.ts_us = ts,
		.level = log_level_from_string((const char *)sqlite3_column_text(st, 3)),
		.pid = sqlite3_column_int(st, 4),
		.message = view_column(st, 5),
		.context = view_column(st, 6),
		.event_type = view_column(st, 7),
		.logger_name = view_column(st, 8),
		.daemon = view_column(st, 9),
		.run = view_column(st, 10),
		.experiment = view_column(st, 11),
		.job_id = view_column(st, 12),
		.node_id = view_column(st, 13),
		.stage = view_column(st, 14),
	};
	read_id(st, 1, &row->record.id);
	row->cursor = sqlite3_column_int64(st, 0);
	row->host = view_column(st, 15);
}

int sqlite_query_events(struct store *store, const struct event_query *q, store_row_fn fn, void *userdata,
    struct error *err)
{
	struct sqlite_store *s = sqlite_of(store);
	_cleanup_(sqlite3_finalizep) sqlite3_stmt *st = NULL;
	_cleanup_text_ struct text sql = { 0 };
	int arg = 2, r, rc;

	begin(s);
	r = build_events(q, &sql);
	if (r < 0)
		return r;
	rc = sqlite3_prepare_v2(s->db, sql.data, (int)sql.size, &st, NULL);
	if (!rc && q->experiment)
		rc = sqlite3_bind_text(st, 1, q->experiment, -1, SQLITE_STATIC);
	for (size_t i = 0; !rc && i < q->n_daemons; i++)
		rc = sqlite3_bind_text(st, arg++, q->daemons[i], -1, SQLITE_STATIC);
	for (size_t i = 0; !rc && i < q->n_types; i++)
		rc = sqlite3_bind_text(st, arg++, q->types[i], -1, SQLITE_STATIC);
	if (rc)
		return sqlite_error(s, rc, err, "read events");
	return each_row(s, st, read_event_row, fn, userdata, err);
}

/* --- the rest ----------------------------------------------------------------------------------------------------- */

int sqlite_get_cursors(struct store *store, int64_t *ret_logs, int64_t *ret_events, struct error *err)
{
	struct sqlite_store *s = sqlite_of(store);
	int64_t logs = 0, events = 0;
	int r;

	/* not max(): after the newest rows were deleted that would be a number that is never given again */
	r = sqlite_get_i64(s, "SELECT seq FROM sqlite_sequence WHERE name = 'logs'", &logs, err);
	if (r >= 0)
		r = sqlite_get_i64(s, "SELECT seq FROM sqlite_sequence WHERE name = 'pipeline_events'", &events, err);
	if (r < 0)
		return r;
	*ret_logs = logs;
	*ret_events = events;
	return 0;
}

static int describe_sources(struct sqlite_store *s, cJSON *list, struct error *err)
{
	static const char *const keys[] = { "source", "host", "name", "mark", "stored", "duplicates", "quarantined",
		"updated_at" };
	_cleanup_(sqlite3_finalizep) sqlite3_stmt *st = NULL;
	int rc;

	rc = sqlite3_prepare_v2(s->db,
	    "SELECT source, host, name, mark, stored, duplicates, quarantined, updated_at FROM ingest_source"
	    " ORDER BY source_id",
	    -1, &st, NULL);
	while (!rc && (rc = sqlite3_step(st)) == SQLITE_ROW) {
		cJSON *j = cJSON_CreateObject();

		for (int i = 0; i < (int)ARRAY_SIZE(keys); i++)
			if (sqlite3_column_type(st, i) == SQLITE_INTEGER)
				json_add_i64(j, keys[i], sqlite3_column_int64(st, i));
			else
				json_add_text(j, keys[i], (const char *)sqlite3_column_text(st, i));
		cJSON_AddItemToArray(list, j);
		rc = 0;
	}
	return rc == SQLITE_DONE ? 0 : sqlite_error(s, rc, err, "read");
}

int sqlite_describe(struct store *store, cJSON **ret, struct error *err)
{
	static const char *const tables[] = { "pipeline_logs", "pipeline_events", "pipeline_progress", "pipeline_metrics",
		"experiments", "processing_jobs", "pipeline_checkpoints", "log_quarantine" };
	struct sqlite_store *s = sqlite_of(store);
	_cleanup_json_ cJSON *j = cJSON_CreateObject();
	cJSON *counts;
	struct stat st;
	int64_t v = 0;
	int r;

	begin(s);
	if (!j)
		return -ENOMEM;
	r = sqlite_get_i64(s, "SELECT max(version) FROM schema_version", &v, err);
	if (r < 0)
		return r;
	json_add_i64(j, "schema_version", v);
	json_add_i64(j, "bytes", stat(s->path, &st) < 0 ? 0 : (int64_t)st.st_size);
	counts = json_add_object(j, "tables");
	for (size_t i = 0; i < ARRAY_SIZE(tables); i++) {
		char sql[96];

		/* count(*) of the view would look up the names of every row */
		snprintf(sql, sizeof(sql), "SELECT count(*) FROM %s", i ? tables[i] : "logs");
		v = 0;
		r = sqlite_get_i64(s, sql, &v, err);
		if (r < 0)
			return r;
		json_add_i64(counts, tables[i], v);
	}
	r = describe_sources(s, json_add_array(j, "sources"), err);
	if (r < 0)
		return r;
	*ret = TAKE_PTR(j);
	return 0;
}

static int explain(struct sqlite_store *s, const struct text *sql, struct text *ret)
{
	_cleanup_(sqlite3_finalizep) sqlite3_stmt *st = NULL;
	_cleanup_text_ struct text all = { 0 };
	int rc;

	text_add(&all, "EXPLAIN QUERY PLAN ");
	text_add_bytes(&all, sql->data, sql->size);
	rc = sqlite3_prepare_v2(s->db, all.data, (int)all.size, &st, NULL);
	if (rc)
		return sqlite_error(s, rc, NULL, NULL);
	while (sqlite3_step(st) == SQLITE_ROW) {
		text_add(ret, (const char *)sqlite3_column_text(st, 3));
		text_add(ret, "\n");
	}
	return 0;
}

int sqlite_explain_logs(struct store *store, const struct log_query *q, struct text *ret)
{
	_cleanup_text_ struct text sql = { 0 };
	int r = build_logs(sqlite_of(store), q, &sql, NULL);

	return r <= 0 ? r : explain(sqlite_of(store), &sql, ret);
}

int sqlite_explain_events(struct store *store, const struct event_query *q, struct text *ret)
{
	_cleanup_text_ struct text sql = { 0 };
	int r = build_events(q, &sql);

	return r < 0 ? r : explain(sqlite_of(store), &sql, ret);
}
