/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/cleanup.h"
#include "db/sqlite.h"

static const struct uuid source = { { 1, 2, 3, 4 } };
static const int64_t t0 = 1795455663412345; /* 2026-11-23T17:41:03.412345Z */

struct fixture {
	char root[64];
	char path[80];
	struct store *store;
};

static struct store *open_store(const char *path, bool read_only)
{
	const struct store_options o = { .type = "sqlite", .path = path, .read_only = read_only };
	struct store *s = NULL;
	struct error err = { "" };

	if (store_open(&s, &o, &err) < 0)
		fail_msg("%s", err.text);
	return s;
}

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));
	uint64_t mark = 99;

	strcpy(f->root, "/tmp/test-store-XXXXXX");
	assert_non_null(mkdtemp(f->root));
	snprintf(f->path, sizeof(f->path), "%s/supervise.db", f->root);
	f->store = open_store(f->path, false);
	assert_int_equal(store_get_mark(f->store, &source, "host1", "logger", &mark, NULL), 0);
	assert_int_equal(mark, 0);
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;
	char cmd[128];

	store_close(f->store);
	snprintf(cmd, sizeof(cmd), "rm -rf '%s'", f->root);
	assert_int_equal(system(cmd), 0);
	free(f);
	return 0;
}

/* First column of the first row as text, by a connection of its own: what a person sees. @ret: 1024 bytes */
static const char *ask(const struct fixture *f, const char *sql, char *ret)
{
	sqlite3_stmt *st = NULL;
	sqlite3 *db;

	assert_int_equal(sqlite3_open(f->path, &db), SQLITE_OK);
	if (sqlite3_prepare_v2(db, sql, -1, &st, NULL) != SQLITE_OK)
		fail_msg("%s: %s", sql, sqlite3_errmsg(db));
	strcpy(ret, "no row");
	if (sqlite3_step(st) == SQLITE_ROW)
		snprintf(ret, 1024, "%s",
		    sqlite3_column_text(st, 0) ? (const char *)sqlite3_column_text(st, 0) : "NULL");
	sqlite3_finalize(st);
	sqlite3_close(db);
	return ret;
}

#define assert_answer(f, sql, expected)                                                                      \
	do {                                                                                                 \
		char answer_[1024];                                                                          \
		assert_string_equal(ask(f, sql, answer_), expected);                                         \
	} while (0)

static struct uuid id_of(unsigned n)
{
	struct uuid u = { { 0x01, 0x98, 0xc2, 0xf1, 0, 0, 0x70, 0, 0x80 } };

	u.b[14] = (uint8_t)(n >> 8);
	u.b[15] = (uint8_t)n;
	return u;
}

static struct record log_record(unsigned n, enum log_level level, const char *daemon, const char *message)
{
	return (struct record){
		.kind = RECORD_LOG,
		.id = id_of(n),
		.ts_us = t0 + n * 1000,
		.level = level,
		.pid = 100,
		.daemon = VIEW_OF(daemon),
		.run = VIEW_OF("0198c2f1-0000-7000-8000-000000000001"),
		.logger_name = VIEW_OF("stderr"),
		.message = VIEW_OF(message),
	};
}

static void write_records(struct fixture *f, const struct record *records, size_t n)
{
	_cleanup_(freep) uint64_t *seqs = calloc(n, sizeof(*seqs));
	struct error err = { "" };
	uint64_t mark;

	assert_int_equal(store_get_mark(f->store, &source, NULL, NULL, &mark, NULL), 0);
	for (size_t i = 0; i < n; i++)
		seqs[i] = mark + 1 + i;
	if (store_write(f->store, &source, records, seqs, n, mark, mark + n, &err) != 0)
		fail_msg("%s", err.text);
}

/* --- what a person sees ------------------------------------------------------------------------------------------- */

static void test_logs_read_as_the_seed_wrote_them(void **state)
{
	struct fixture *f = *state;
	struct record r = log_record(1, LEVEL_ERROR, "train/0", "no such file");

	r.experiment = VIEW_OF("resnet");
	r.job_id = VIEW_OF("0198c2f1-0000-7000-8000-00000000000a");
	r.node_id = VIEW_OF("node-7");
	r.stage = VIEW_OF("load");
	r.context = VIEW_OF("{\"step\":3}");
	r.traceback = VIEW_OF("Traceback (most recent call last):\n  ...");
	r.performance = VIEW_OF("{\"ms\":1.5}");
	write_records(f, &r, 1);
	assert_answer(f,
	    "select timestamp || ' ' || level || ' ' || message || ' ' || traceback from pipeline_logs where level='ERROR'",
	    "2026-11-23T17:41:03.413345Z ERROR no such file Traceback (most recent call last):\n  ...");
	assert_answer(f, "select id from pipeline_logs", "0198c2f1-0000-7000-8000-000000000001");
	assert_answer(f, "select job_id from pipeline_logs", "0198c2f1-0000-7000-8000-00000000000a");
	assert_answer(f, "select node_id || stage || logger_name || stream || daemon || pid || host from pipeline_logs",
	    "node-7loadstderrstderrtrain/0100host1");
	assert_answer(f, "select run || ' ' || source || ' ' || seq from pipeline_logs",
	    "0198c2f1-0000-7000-8000-000000000001 01020304-0000-0000-0000-000000000000 1");
	assert_answer(f, "select json_extract(context, '$.step') + json_extract(performance, '$.ms') from pipeline_logs",
	    "4.5");
	assert_answer(f, "select e.name || e.status from pipeline_logs l join experiments e on e.id = l.experiment_id",
	    "resnetrunning");
	assert_answer(f, "select abs(julianday(created_at) - julianday('now')) < 0.01 from pipeline_logs", "1");
	assert_answer(f,
	    "select group_concat(name) from (select name from pragma_table_info('pipeline_logs') order by cid limit 12)",
	    "id,experiment_id,job_id,node_id,timestamp,level,logger_name,message,context,traceback,performance,created_at");
}

static void test_the_seeds_insert_into_logs_works(void **state)
{
	struct fixture *f = *state;

	assert_answer(f,
	    "INSERT INTO pipeline_logs (experiment_id, job_id, node_id, timestamp, level, logger_name, message, context,"
	    " traceback, performance) VALUES ('0198C2F1-0000-7000-8000-000000000009', NULL, 'n', '2026-11-23T19:01:03.412+01:00',"
	    " 'ERROR', 'app.db', 'hello', '{\"a\": 1}', NULL, '{}') RETURNING 1",
	    "1");
	assert_answer(f, "INSERT INTO pipeline_logs(message, level) VALUES('plain', 'warning')", "no row");
	assert_answer(f, "select timestamp from pipeline_logs where message = 'hello'", "2026-11-23T18:01:03.412000Z");
	assert_answer(f, "select experiment_id from pipeline_logs where message = 'hello'",
	    "0198c2f1-0000-7000-8000-000000000009");
	assert_answer(f, "select level || context || length(id) || logger_name is null from pipeline_logs where message = 'plain'",
	    "1");
	assert_answer(f, "select level || context || length(id) from pipeline_logs where message = 'plain'", "WARNING{}36");
	assert_answer(f,
	    "select count(*) from pipeline_logs where message = 'plain' and abs(julianday(timestamp) - julianday('now')) < 0.01",
	    "1");
	assert_answer(f, "delete from pipeline_logs where message = 'plain'", "no row");
	assert_answer(f, "select count(*) from pipeline_logs", "1");
}

static void test_the_views_insert_refuses_nonsense(void **state)
{
	struct fixture *f = *state;
	static const char *const bad[] = {
		"INSERT INTO pipeline_logs(message, level) VALUES('x', 'LOUD')",
		"INSERT INTO pipeline_logs(message, timestamp) VALUES('x', 'yesterday')",
		"INSERT INTO pipeline_logs(message, context) VALUES('x', '{broken')",
		"INSERT INTO pipeline_progress(node_id, node_level, node_name, status) VALUES('a', 'galaxy', 'a', 'running')",
		"INSERT INTO pipeline_progress(node_id, node_level, node_name, status) VALUES('a', 'stage', 'a', 'lost')",
	};
	sqlite3 *db;

	assert_int_equal(sqlite3_open(f->path, &db), SQLITE_OK);
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
		assert_int_equal(sqlite3_exec(db, bad[i], NULL, NULL, NULL) & 0xff, SQLITE_CONSTRAINT);
	assert_int_equal(
	    sqlite3_exec(db,
		"INSERT INTO pipeline_progress(node_id, node_level, node_name, status) VALUES('a', 'operation', 'a', 'running');"
		"INSERT INTO pipeline_progress(node_id, node_level, node_name, status) VALUES('b', 'stage', 'b', 'pending');"
		"INSERT INTO pipeline_metrics(node_id, memory_mb) VALUES('a', 12.5);"
		"INSERT INTO processing_jobs(node_id) VALUES('a');"
		"INSERT INTO pipeline_checkpoints(node_id) VALUES('a');"
		"INSERT INTO pipeline_events(event_type, source, title) VALUES('stage_start', 'x', 'y')",
		NULL, NULL, NULL),
	    SQLITE_OK);
	sqlite3_close(db);
	assert_answer(f, "select count(*) from pipeline_progress where length(id) = 36 and progress_percent = 0", "2");
	assert_answer(f, "select severity || details from pipeline_events", "info{}");
}

static void test_an_event_says_who_it_is_about(void **state)
{
	struct fixture *f = *state;
	struct record r[] = { log_record(1, LEVEL_ERROR, "train/0", "train/0 was killed by SIGSEGV"),
		log_record(2, LEVEL_INFO, "web", "started"), log_record(3, LEVEL_INFO, "", "up") };

	r[0].kind = r[1].kind = r[2].kind = RECORD_EVENT;
	r[0].event_type = VIEW_OF("process_crash");
	r[0].logger_name = VIEW_OF("supervisor");
	r[0].context = VIEW_OF("{\"signal\":\"SIGSEGV\",\"address\":18446744073709551615}");
	r[0].experiment = VIEW_OF("0198C2F1-0000-7000-8000-000000000009");
	r[1].event_type = VIEW_OF("process_start");
	r[1].context = VIEW_OF("{\"daemon\":\"other\"}");
	r[1].run = (struct view){ 0 };
	r[2].event_type = VIEW_OF("supervisor_start");
	r[2].run = (struct view){ 0 };
	write_records(f, r, 3);
	assert_answer(f, "select details from pipeline_events where event_type = 'process_crash'",
	    "{\"daemon\":\"train/0\",\"run\":\"0198c2f1-0000-7000-8000-000000000001\",\"signal\":\"SIGSEGV\","
	    "\"address\":18446744073709551615}");
	assert_answer(f, "select details from pipeline_events where event_type = 'process_start'", "{\"daemon\":\"other\"}");
	assert_answer(f, "select details from pipeline_events where event_type = 'supervisor_start'", "{}");
	assert_answer(f, "select severity || source || timestamp || seq || experiment_id from pipeline_events",
	    "errorsupervisor2026-11-23T17:41:03.413345Z10198c2f1-0000-7000-8000-000000000009");
	assert_answer(f, "select count(*) from experiments", "1");
}

static void test_an_experiment_is_registered_once(void **state)
{
	struct fixture *f = *state;
	struct record r[4];
	char a[1024];

	for (unsigned i = 0; i < 4; i++) {
		r[i] = log_record(i, LEVEL_INFO, "w", "x");
		r[i].experiment = VIEW_OF(i % 2 ? "two" : "one");
	}
	write_records(f, r, 4);
	store_close(f->store);
	f->store = open_store(f->path, false); /* nothing remembered */
	r[0].id = id_of(77);
	ask(f, "select id from experiments where name = 'two'", a);
	r[0].experiment = VIEW_OF(a);
	write_records(f, r, 1);
	assert_answer(f, "select count(*) from experiments", "2");
	assert_answer(f,
	    "select count(*) from pipeline_logs l join experiments e on e.id = l.experiment_id where e.name = 'two'", "3");
	/* deleted by a person meanwhile: registered again, and the event is not lost */
	assert_answer(f, "delete from experiments", "no row");
	r[0] = log_record(78, LEVEL_INFO, "w", "x");
	r[0].kind = RECORD_EVENT;
	r[0].event_type = VIEW_OF("process_exit");
	r[0].experiment = VIEW_OF("two");
	write_records(f, r, 1);
	assert_answer(f, "select e.name from pipeline_events v join experiments e on e.id = v.experiment_id", "two");
	assert_answer(f, "select count(*) from log_quarantine", "0");
}

/* --- exactly once ------------------------------------------------------------------------------------------------- */

static void test_only_the_writer_that_knows_the_mark_writes(void **state)
{
	struct fixture *f = *state;
	_cleanup_(store_closep) struct store *other = open_store(f->path, false);
	const struct record r[] = { log_record(1, LEVEL_INFO, "w", "a"), log_record(2, LEVEL_INFO, "w", "b") };
	const uint64_t seqs[] = { 1, 2 };
	static const struct uuid unknown = { { 9 } };
	uint64_t mark;

	assert_int_equal(store_write(f->store, &source, r, seqs, 2, 0, 2, NULL), 0);
	assert_int_equal(store_write(other, &source, r, seqs, 2, 0, 2, NULL), STORE_E_FENCED);
	assert_int_equal(store_write(f->store, &source, r, seqs, 1, 1, 1, NULL), STORE_E_FENCED);
	assert_int_equal(store_write(other, &unknown, r, seqs, 1, 0, 1, NULL), STORE_E_FENCED);
	assert_int_equal(store_write(other, &source, r, seqs, 2, 2, 1, NULL), -EINVAL);
	assert_int_equal(store_get_mark(other, &source, NULL, NULL, &mark, NULL), 0);
	assert_int_equal(mark, 2);
	assert_answer(f, "select count(*) from pipeline_logs", "2");
}

static void test_a_record_spooled_twice_is_stored_once(void **state)
{
	struct fixture *f = *state;
	struct record r[] = { log_record(1, LEVEL_INFO, "w", "a"), log_record(1, LEVEL_INFO, "w", "a"),
		log_record(5, LEVEL_INFO, "w", "a"), log_record(5, LEVEL_INFO, "w", "a") };

	r[2].kind = r[3].kind = RECORD_EVENT;
	r[2].event_type = r[3].event_type = VIEW_OF("process_exit");
	write_records(f, r, 4);
	write_records(f, r, 4);
	assert_answer(f, "select count(*) from pipeline_logs", "1");
	assert_answer(f, "select count(*) from pipeline_events", "1");
	assert_answer(f, "select mark || ' ' || stored || ' ' || duplicates from ingest_source", "8 2 6");
}

static void test_what_is_refused_goes_to_quarantine_alone(void **state)
{
	struct fixture *f = *state;
	struct record r[4] = { log_record(1, LEVEL_INFO, "w", "before"), { .message = { "\xff\0raw", 5 } },
		log_record(3, LEVEL_INFO, "w", "no type"), log_record(4, LEVEL_INFO, "w", "after") };
	sqlite3_stmt *st;
	sqlite3 *db;
	struct record back;

	r[2].kind = RECORD_EVENT; /* without event_type */
	write_records(f, r, 4);
	assert_answer(f, "select group_concat(message) from pipeline_logs", "before,after");
	assert_answer(f, "select quarantined || ' ' || stored || ' ' || mark from ingest_source", "2 2 4");
	assert_answer(f, "select hex(payload) || reason || seq from log_quarantine where seq = 2", "FF00726177does not decode2");
	assert_int_equal(sqlite3_open(f->path, &db), SQLITE_OK);
	assert_int_equal(sqlite3_prepare_v2(db, "select payload from log_quarantine where seq = 3", -1, &st, NULL), 0);
	assert_int_equal(sqlite3_step(st), SQLITE_ROW);
	assert_int_equal(
	    record_decode(sqlite3_column_blob(st, 0), (size_t)sqlite3_column_bytes(st, 0), &back), 0); /* whole */
	assert_int_equal(back.message.size, 7);
	sqlite3_finalize(st);
	sqlite3_close(db);
}

static void test_hostile_text_is_repaired_and_kept(void **state)
{
	struct fixture *f = *state;
	struct record r[] = { log_record(1, LEVEL_INFO, "w", ""), log_record(2, LEVEL_UNKNOWN, "w\xff", "x") };

	r[0].message = (struct view){ "a\0b\xff\xc3", 5 };
	r[0].context = VIEW_OF("{not json");
	r[0].performance = VIEW_OF("[1,");
	r[0].ts_us = INT64_MAX;
	r[1].traceback = VIEW_OF("t\xc0\x80");
	r[1].context = VIEW_OF("{\"a\":\"\xff\"}");
	r[1].ts_us = -5;
	write_records(f, r, 2);
	assert_answer(f, "select message || context || performance from pipeline_logs where seq = 1",
	    "a\xe2\x90\x80" "b\xef\xbf\xbd\xef\xbf\xbd{\"text\":\"{not json\"}{\"text\":\"[1,\"}");
	assert_answer(f, "select daemon || level || traceback || context from pipeline_logs where seq = 2",
	    "w\xef\xbf\xbdINFOt\xef\xbf\xbd\xef\xbf\xbd{\"a\":\"\xef\xbf\xbd\"}");
	assert_answer(f, "select count(*) from pipeline_logs where abs(julianday(timestamp) - julianday('now')) < 0.01", "2");
}

static void test_a_removed_file_is_noticed(void **state)
{
	struct fixture *f = *state;
	const struct record r = log_record(1, LEVEL_INFO, "w", "a");
	const uint64_t seq = 1;
	uint64_t mark = 99;

	assert_int_equal(unlink(f->path), 0);
	assert_int_equal(store_write(f->store, &source, &r, &seq, 1, 0, 1, NULL), -ESTALE);
	store_close(f->store);
	f->store = open_store(f->path, false);
	assert_int_equal(store_get_mark(f->store, &source, "h", "n", &mark, NULL), 0);
	assert_int_equal(mark, 0);
	assert_int_equal(store_write(f->store, &source, &r, &seq, 1, 0, 1, NULL), 0);
}

static void test_a_lock_of_another_program_is_an_error_that_passes(void **state)
{
	struct fixture *f = *state;
	const struct record r = log_record(1, LEVEL_INFO, "w", "a");
	const uint64_t seq = 1;
	struct error err = { "" };
	sqlite3 *db;

	assert_int_equal(sqlite3_open(f->path, &db), SQLITE_OK);
	assert_int_equal(sqlite3_exec(db, "BEGIN IMMEDIATE", NULL, NULL, NULL), SQLITE_OK);
	sqlite3_busy_timeout(((struct sqlite_store *)(void *)f->store)->db, 50);
	assert_int_equal(store_write(f->store, &source, &r, &seq, 1, 0, 1, &err), -EBUSY);
	assert_non_null(strstr(err.text, "another program"));
	/* it is no obstacle to readers */
	{
		_cleanup_(store_closep) struct store *reader = open_store(f->path, true);
		int64_t a, b;

		assert_int_equal(store_get_cursors(reader, &a, &b, NULL), 0);
	}
	assert_int_equal(sqlite3_exec(db, "ROLLBACK", NULL, NULL, NULL), SQLITE_OK);
	assert_int_equal(store_write(f->store, &source, &r, &seq, 1, 0, 1, &err), 0);
	sqlite3_close(db);
}

/* --- opening and migrating ---------------------------------------------------------------------------------------- */

static void test_files_are_private(void **state)
{
	struct fixture *f = *state;
	static const char *const ends[] = { "", "-wal", "-shm" };
	const struct record r = log_record(1, LEVEL_INFO, "w", "a");
	struct stat st;
	char path[96];

	write_records(f, &r, 1);
	for (size_t i = 0; i < ARRAY_SIZE(ends); i++) {
		snprintf(path, sizeof(path), "%s%s", f->path, ends[i]);
		assert_int_equal(stat(path, &st), 0);
		assert_int_equal(st.st_mode & 07777, 0600);
	}
	store_close(f->store);
	assert_int_equal(chmod(f->path, 0644), 0);
	f->store = open_store(f->path, false);
	assert_int_equal(stat(f->path, &st), 0);
	assert_int_equal(st.st_mode & 07777, 0600);
}

static void test_what_cannot_be_read_is_refused_in_words(void **state)
{
	struct fixture *f = *state;
	struct store_options o = { .type = "sqlite", .path = f->path };
	struct store *s = NULL;
	struct error err;
	char a[1024], path[96];
	FILE *file;

	assert_answer(f, "select version || name || length(checksum) from schema_version", "1001tables8");
	ask(f, "insert into schema_version(version, name) values(1999, 'later')", a);
	store_close(open_store(f->path, false)); /* a newer minor version only adds */
	store_close(open_store(f->path, true));
	ask(f, "insert into schema_version(version, name) values(2001, 'later')", a);
	for (int i = 0; i < 2; i++) {
		o.read_only = i;
		assert_int_equal(store_open(&s, &o, &err), -EPROTONOSUPPORT);
		assert_non_null(strstr(err.text, "newer version"));
	}
	ask(f, "delete from schema_version where version > 1001", a);
	ask(f, "update schema_version set checksum = 'x'", a);
	o.read_only = false;
	assert_int_equal(store_open(&s, &o, &err), -EBADMSG);
	assert_non_null(strstr(err.text, "another text"));

	snprintf(path, sizeof(path), "%s/none.db", f->root);
	o = (struct store_options){ .type = "sqlite", .path = path, .read_only = true };
	assert_int_equal(store_open(&s, &o, &err), -ENOENT);
	file = fopen(path, "w");
	for (int i = 0; i < 1000; i++)
		fputs("this is no database\n", file);
	fclose(file);
	for (int i = 0; i < 2; i++) {
		o.read_only = i;
		assert_int_equal(store_open(&s, &o, &err), -EBADMSG);
	}
	o.type = "oracle";
	assert_int_equal(store_open(&s, &o, &err), -EINVAL);
	assert_null(s);
}

static void test_many_may_create_the_schema_at_once_and_be_killed(void **state)
{
	struct fixture *f = *state;
	char a[1024];

	for (int round = 0; round < 25; round++) {
		struct fixture g = *f;
		pid_t pid[3];
		int status;

		snprintf(g.path, sizeof(g.path), "%s/round%d.db", f->root, round);
		for (int i = 0; i < 3; i++) {
			pid[i] = fork();
			if (!pid[i]) {
				const struct store_options o = { .type = "sqlite", .path = g.path };
				struct store *s;

				_exit(store_open(&s, &o, NULL) < 0);
			}
		}
		usleep((useconds_t)(round * 400)); /* another moment each round */
		kill(pid[0], SIGKILL);
		for (int i = 0; i < 3; i++) {
			assert_int_equal(waitpid(pid[i], &status, 0), pid[i]);
			assert_true(WIFEXITED(status) ? WEXITSTATUS(status) == 0 : i == 0);
		}
		assert_string_equal(ask(&g, "select count(*) from schema_version", a), "1");
		assert_string_equal(ask(&g, "pragma integrity_check", a), "ok");
	}
}

/* --- queries ------------------------------------------------------------------------------------------------------ */

struct seen {
	unsigned n;
	int64_t last_cursor;
	char text[512];
};

static int see(const struct store_row *row, void *userdata)
{
	struct seen *s = userdata;
	size_t at = strlen(s->text);

	snprintf(s->text + at, sizeof(s->text) - at, "%s%.*s", at ? " " : "", (int)row->record.message.size,
	    row->record.message.data);
	s->n++;
	s->last_cursor = row->cursor;
	return 0;
}

static const char *logs(struct fixture *f, const struct log_query *q, struct seen *s)
{
	struct error err = { "" };

	*s = (struct seen){ 0 };
	if (store_query_logs(f->store, q, see, s, &err) < 0)
		fail_msg("%s", err.text);
	return s->text;
}

static const char *const daemons2[] = { "train", "web" };
static const char *const train[] = { "train" };
static const char *const train1[] = { "train/1" };
static const char *const nobody[] = { "nobody" };

static void fill(struct fixture *f)
{
	struct record r[8] = {
		log_record(1, LEVEL_INFO, "train/0", "a"),
		log_record(2, LEVEL_ERROR, "train/1", "b"),
		log_record(3, LEVEL_WARNING, "web", "c%"),
		log_record(4, LEVEL_DEBUG, "web", "D_x"),
		log_record(5, LEVEL_CRITICAL, "train/0", "e"),
		log_record(6, LEVEL_INFO, "training", "f"),
		log_record(7, LEVEL_ERROR, "web", "g"),
		log_record(0, LEVEL_INFO, "train/0", "late"), /* older than what is stored before it */
	};

	r[0].experiment = r[1].experiment = VIEW_OF("one");
	r[2].experiment = VIEW_OF("two");
	r[3].node_id = VIEW_OF("n1");
	r[3].stage = VIEW_OF("load");
	r[4].logger_name = VIEW_OF("app");
	r[4].context = VIEW_OF("{\"stream\":\"stdout\"}");
	r[5].pid = 7;
	r[6].run = VIEW_OF("other-run");
	r[6].traceback = VIEW_OF("deep in d_X");
	write_records(f, r, 8);
}

static void test_every_condition_selects_what_it_says(void **state)
{
	struct fixture *f = *state;
	struct seen s;
	char id[1024];

	fill(f);
#define Q(...) logs(f, &(struct log_query){ __VA_ARGS__ }, &s)
	assert_string_equal(Q(0), "late a b c% D_x e f g");
	assert_string_equal(Q(.newest_first = true), "g f e D_x c% b a late");
	assert_string_equal(Q(.limit = 3), "e f g");
	assert_string_equal(Q(.limit = 3, .newest_first = true), "g f e");
	assert_string_equal(Q(.daemons = train, .n_daemons = 1), "late a b e");
	assert_string_equal(Q(.daemons = train, .n_daemons = 1, .limit = 2), "b e");
	assert_string_equal(Q(.daemons = train1, .n_daemons = 1), "b");
	assert_string_equal(Q(.daemons = daemons2, .n_daemons = 2, .limit = 4), "c% D_x e g");
	assert_string_equal(Q(.daemons = nobody, .n_daemons = 1), "");
	assert_string_equal(Q(.experiment = "one"), "a b");
	assert_string_equal(Q(.experiment = ask(f, "select upper(id) from experiments where name = 'two'", id)), "c%");
	assert_string_equal(Q(.experiment = "three"), "");
	assert_string_equal(Q(.node = "n1"), "D_x");
	assert_string_equal(Q(.node = "n2"), "");
	assert_string_equal(Q(.stage = "load"), "D_x");
	assert_string_equal(Q(.run = "other-run"), "g");
	assert_string_equal(Q(.logger = "app"), "e");
	assert_string_equal(Q(.level = LEVEL_WARNING), "b c% e g");
	assert_string_equal(Q(.level = LEVEL_ERROR), "b e g");
	assert_string_equal(Q(.level_exact = LEVEL_ERROR), "b g");
	assert_string_equal(Q(.level_exact = LEVEL_INFO), "late a f");
	assert_string_equal(Q(.level = LEVEL_ERROR, .daemons = train, .n_daemons = 1, .limit = 1), "e");
	assert_string_equal(Q(.search = "d_x"), "D_x g");
	assert_string_equal(Q(.search = "%"), "c%");
	assert_string_equal(Q(.search = "'; drop table logs; --"), "");
	assert_string_equal(Q(.stream = "stdout"), "e");
	assert_string_equal(Q(.stream = "stderr"), "late a b c% D_x f g");
	assert_string_equal(Q(.stream = "'"), "");
	assert_string_equal(Q(.pid = 7), "f");
	assert_string_equal(Q(.since_us = t0 + 6000), "f g");
	assert_string_equal(Q(.until_us = t0 + 2000), "late a");
	assert_string_equal(Q(.since_us = t0 + 2000, .until_us = t0 + 4000, .level = LEVEL_ERROR), "b");
	/* follow: in the order stored, so that what came late is not missed */
	assert_string_equal(Q(.after_cursor = 5), "f g late");
	assert_string_equal(Q(.after_cursor = 5, .limit = 1), "f");
	assert_string_equal(Q(.after_cursor = 2, .daemons = train, .n_daemons = 1, .level = LEVEL_ERROR), "e");
	assert_int_equal(s.last_cursor, 5);
}

static int see_row(const struct store_row *row, void *userdata)
{
	const struct uuid id = id_of(5);

	*(int *)userdata += 1;
	assert_memory_equal(&row->record.id, &id, sizeof(id));
	assert_true(row->record.ts_us == t0 + 5000);
	assert_int_equal(row->record.level, LEVEL_CRITICAL);
	assert_int_equal(row->record.pid, 100);
	assert_int_equal(row->record.kind, RECORD_LOG);
	assert_memory_equal(row->record.daemon.data, "train/0", row->record.daemon.size);
	assert_memory_equal(row->record.logger_name.data, "app", row->record.logger_name.size);
	assert_memory_equal(row->host.data, "host1", row->host.size);
	assert_memory_equal(row->record.context.data, "{\"stream\":\"stdout\"}", row->record.context.size);
	assert_int_equal(row->record.traceback.size, 0);
	return 42;
}

static void test_a_row_comes_back_whole_and_the_callback_may_end_it(void **state)
{
	struct fixture *f = *state;
	int calls = 0;

	fill(f);
	assert_int_equal(store_query_logs(f->store, &(struct log_query){ .level = LEVEL_CRITICAL }, see_row, &calls, NULL), 42);
	assert_int_equal(calls, 1);
}

static void test_events_are_selected_like_logs(void **state)
{
	static const char *const crash[] = { "process_crash", "process_failure" };
	struct fixture *f = *state;
	struct record r[4];
	struct seen s = { 0 };
	int64_t logs_at, events_at;

	for (unsigned i = 0; i < 4; i++) {
		r[i] = log_record(i, i % 2 ? LEVEL_ERROR : LEVEL_INFO, i ? "train/1" : "web", (const char *[]){ "a", "b", "c", "d" }[i]);
		r[i].kind = RECORD_EVENT;
		r[i].event_type = VIEW_OF(i == 3 ? "process_crash" : "process_start");
		if (i == 2)
			r[i].experiment = VIEW_OF("one");
	}
	write_records(f, r, 4);
#define E(...) (s = (struct seen){ 0 }, store_query_events(f->store, &(struct event_query){ __VA_ARGS__ }, see, &s, NULL), s.text)
	assert_string_equal(E(0), "a b c d");
	assert_string_equal(E(.newest_first = true, .limit = 2), "d c");
	assert_string_equal(E(.limit = 2), "c d");
	assert_string_equal(E(.daemons = train, .n_daemons = 1), "b c d");
	assert_string_equal(E(.daemons = daemons2, .n_daemons = 2, .types = crash, .n_types = 2), "d");
	assert_string_equal(E(.level = LEVEL_ERROR), "b d");
	assert_string_equal(E(.experiment = "one"), "c");
	assert_string_equal(E(.since_us = t0 + 2000), "c d");
	assert_string_equal(E(.until_us = t0 + 1000), "a");
	assert_string_equal(E(.after_cursor = 2), "c d");
	assert_string_equal(E(.after_cursor = 1, .types = crash, .n_types = 1), "d");
	assert_int_equal(store_get_cursors(f->store, &logs_at, &events_at, NULL), 0);
	assert_int_equal(logs_at, 0);
	assert_int_equal(events_at, 4);
}

static void test_a_cursor_never_comes_back(void **state)
{
	struct fixture *f = *state;
	const struct record r = log_record(50, LEVEL_INFO, "w", "new");
	int64_t logs_at, events_at;
	struct seen s;
	char a[1024];

	fill(f);
	assert_int_equal(store_get_cursors(f->store, &logs_at, &events_at, NULL), 0);
	assert_int_equal(logs_at, 8);
	ask(f, "delete from pipeline_logs", a);
	write_records(f, &r, 1);
	assert_string_equal(Q(.after_cursor = logs_at), "new");
}

static const char *plan(struct fixture *f, const struct log_query *q, struct text *t)
{
	t->size = 0;
	assert_int_equal(sqlite_explain_logs(f->store, q, t), 0);
	return t->data;
}

/* A plan that ends early: the rows come from an index in order, and nothing but the result is sorted. */
static void assert_plan(struct fixture *f, const char *index, const struct log_query *q)
{
	_cleanup_text_ struct text t = { 0 };
	char search[64], scan[64];
	const char *p = plan(f, q, &t), *inner;

	snprintf(search, sizeof(search), "USING INDEX %s ", index);
	snprintf(scan, sizeof(scan), "USING COVERING INDEX %s", index);
	if (!strstr(p, search) && !strstr(p, scan) && !(snprintf(scan, sizeof(scan), "USING INDEX %s\n", index) && strstr(p, scan)))
		fail_msg("not %s:\n%s", index, p);
	/* sorting before the join with the result is sorting all that matches */
	inner = strstr(p, "USE TEMP B-TREE FOR ORDER BY");
	if (inner && strstr(p, "SEARCH l USING INTEGER PRIMARY KEY") && inner < strstr(p, "SEARCH l USING INTEGER PRIMARY KEY") &&
	    !strstr(p, "UNION ALL"))
		fail_msg("sorts what matches:\n%s", p);
}

static void test_tail_errors_and_follow_use_their_indexes(void **state)
{
	struct fixture *f = *state;
	_cleanup_text_ struct text t = { 0 };

	fill(f);
#define P(index, ...) assert_plan(f, index, &(struct log_query){ __VA_ARGS__ })
	P("idx_logs_time", .limit = 100);
	P("idx_logs_time", .since_us = t0, .limit = 100);
	P("idx_logs_time", .search = "x", .since_us = t0);
	P("idx_logs_daemon_time", .daemons = train1, .n_daemons = 1, .limit = 100);
	P("idx_logs_daemon_time", .daemons = train1, .n_daemons = 1, .since_us = t0);
	P("idx_logs_daemon_time", .daemons = daemons2, .n_daemons = 2, .limit = 100);
	P("idx_logs_daemon_time", .daemons = train, .n_daemons = 1, .search = "x", .limit = 100);
	P("idx_logs_experiment_time", .experiment = "one", .limit = 100);
	P("idx_logs_experiment_time", .experiment = "one", .since_us = t0, .limit = 100);
	P("idx_logs_node_time", .node = "n1", .limit = 100);
	P("idx_logs_errors", .level = LEVEL_ERROR, .limit = 100);
	P("idx_logs_errors", .level = LEVEL_ERROR, .since_us = t0, .limit = 100);
	P("idx_logs_errors", .level_exact = LEVEL_CRITICAL, .limit = 100);
	P("idx_logs_errors_daemon", .level = LEVEL_ERROR, .daemons = train1, .n_daemons = 1, .limit = 100);
	P("idx_logs_errors_daemon", .level = LEVEL_ERROR, .daemons = daemons2, .n_daemons = 2, .limit = 100);
	P("idx_logs_errors_experiment", .level = LEVEL_ERROR, .experiment = "one", .limit = 100);
	/* follow walks the rows behind the cursor, whatever else is asked */
	assert_non_null(strstr(plan(f, &(struct log_query){ .after_cursor = 5 }, &t), "USING INTEGER PRIMARY KEY (rowid>?)"));
	plan(f,
	    &(struct log_query){ .after_cursor = 5, .daemons = daemons2, .n_daemons = 2, .experiment = "one", .node = "n1",
		.level = LEVEL_ERROR, .since_us = t0, .search = "x" },
	    &t);
	assert_non_null(strstr(t.data, "SEARCH l USING INTEGER PRIMARY KEY (rowid>?)"));
	assert_null(strstr(t.data, "idx_logs"));
	assert_null(strstr(t.data, "TEMP B-TREE"));

	t.size = 0;
	assert_int_equal(sqlite_explain_events(f->store, &(struct event_query){ .limit = 10 }, &t), 0);
	assert_non_null(strstr(t.data, "idx_events_time"));
	t.size = 0;
	assert_int_equal(sqlite_explain_events(f->store, &(struct event_query){ .after_cursor = 3, .types = train, .n_types = 1, .daemons = train, .n_daemons = 1 }, &t), 0);
	assert_non_null(strstr(t.data, "SEARCH pipeline_events USING INTEGER PRIMARY KEY (rowid>?)"));
}

static int nothing(const struct store_row *row, void *userdata)
{
	return 0;
}

static void test_a_query_that_takes_too_long_is_ended(void **state)
{
	struct fixture *f = *state;
	const struct store_options o = { .type = "sqlite", .path = f->path, .read_only = true, .timeout_ms = 1 };
	_cleanup_(store_closep) struct store *reader = NULL;
	struct error err = { "" };
	char a[1024];

	ask(f,
	    "with recursive n(i) as (select 1 union all select i + 1 from n where i < 60000)"
	    " insert into logs(id, ts, level, message, created) select 'x' || i, i, 'INFO', printf('%.200c', 'x'), 1 from n",
	    a);
	assert_int_equal(store_open(&reader, &o, &err), 0);
	assert_int_equal(store_query_logs(reader, &(struct log_query){ .search = "nothing like it" }, nothing, NULL, &err),
	    -ETIMEDOUT);
	assert_non_null(strstr(err.text, "took longer"));
	assert_int_equal(store_query_logs(reader, &(struct log_query){ .limit = 1 }, nothing, NULL, &err), 0);
}

static void test_the_store_describes_itself(void **state)
{
	struct fixture *f = *state;
	_cleanup_(store_closep) struct store *reader = NULL;
	_cleanup_json_ cJSON *j = NULL;
	const cJSON *first;

	fill(f);
	reader = open_store(f->path, true);
	assert_int_equal(store_describe(reader, &j, NULL), 0);
	assert_int_equal(json_get_i64(j, "schema_version", 0), 1001);
	assert_true(json_get_i64(j, "bytes", 0) > 0);
	assert_int_equal(json_get_i64(json_get_object(j, "tables"), "pipeline_logs", 0), 8);
	assert_int_equal(json_get_i64(json_get_object(j, "tables"), "experiments", 0), 2);
	first = cJSON_GetArrayItem(json_get_array(j, "sources"), 0);
	assert_int_equal(json_get_i64(first, "mark", 0), 8);
	assert_string_equal(json_get_string(first, "name", ""), "logger");
	assert_null(store_get_warning(reader));
}

int main(void)
{
#define TEST(t) cmocka_unit_test_setup_teardown(t, setup, teardown)
	static const struct CMUnitTest tests[] = {
		TEST(test_logs_read_as_the_seed_wrote_them),
		TEST(test_the_seeds_insert_into_logs_works),
		TEST(test_the_views_insert_refuses_nonsense),
		TEST(test_an_event_says_who_it_is_about),
		TEST(test_an_experiment_is_registered_once),
		TEST(test_only_the_writer_that_knows_the_mark_writes),
		TEST(test_a_record_spooled_twice_is_stored_once),
		TEST(test_what_is_refused_goes_to_quarantine_alone),
		TEST(test_hostile_text_is_repaired_and_kept),
		TEST(test_a_removed_file_is_noticed),
		TEST(test_a_lock_of_another_program_is_an_error_that_passes),
		TEST(test_files_are_private),
		TEST(test_what_cannot_be_read_is_refused_in_words),
		TEST(test_many_may_create_the_schema_at_once_and_be_killed),
		TEST(test_every_condition_selects_what_it_says),
		TEST(test_a_row_comes_back_whole_and_the_callback_may_end_it),
		TEST(test_events_are_selected_like_logs),
		TEST(test_a_cursor_never_comes_back),
		TEST(test_tail_errors_and_follow_use_their_indexes),
		TEST(test_a_query_that_takes_too_long_is_ended),
		TEST(test_the_store_describes_itself),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
