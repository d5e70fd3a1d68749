/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The embedded store: opening, and writing batches.
 *
 * A kill at any instant: rows and mark are one transaction, so the file holds both or neither, and the next writer goes
 * on from the mark. synchronous = FULL makes that true for a power loss as well, at 11 % of the speed at batch 100.
 *
 * Errors of SQLite are of two kinds. Those of one record (a constraint, too big) send it to quarantine; each record is
 * a single statement, which SQLite undoes by itself. All others undo the transaction and go to the caller, who tries
 * again later.
 */
#include "db/sqlite.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/file.h"
#include "base/text.h"

enum {
	BUSY_MS = 5000,
	OPS_PER_LOOK = 20000, /* virtual machine steps between two looks at the clock, about 1 ms */
};

struct sqlite_store *sqlite_of(struct store *s)
{
	return (struct sqlite_store *)(void *)s;
}

int sqlite_error(struct sqlite_store *s, int rc, struct error *err, const char *doing)
{
	const char *hint = "";
	int r;

	switch (rc & 0xff) {
	case SQLITE_BUSY:
	case SQLITE_LOCKED:
		r = -EBUSY;
		hint = "; another program holds a lock on it";
		break;
	case SQLITE_FULL:
		r = -ENOSPC;
		break;
	case SQLITE_NOMEM:
		r = -ENOMEM;
		break;
	case SQLITE_PERM:
	case SQLITE_READONLY:
	case SQLITE_AUTH:
		r = -EACCES;
		break;
	case SQLITE_CORRUPT:
	case SQLITE_NOTADB:
		r = -EBADMSG;
		hint = "; the file is damaged or no database";
		break;
	case SQLITE_INTERRUPT:
		r = -ETIMEDOUT;
		return error_set(err, r, "the query took longer than %" PRIu64 " s and was ended; ask for less (a daemon, a time)",
		    s->timeout_ms / 1000);
	case SQLITE_CANTOPEN:
		r = s->db && sqlite3_system_errno(s->db) ? -sqlite3_system_errno(s->db) : -EIO;
		break;
	default:
		r = -EIO;
	}
	return error_set(err, r, "%s: cannot %s: %s%s", s->path, doing ? doing : "go on",
	    s->db ? sqlite3_errmsg(s->db) : sqlite3_errstr(rc), hint);
}

int sqlite_exec(struct sqlite_store *s, const char *sql, struct error *err, const char *doing)
{
	int rc = sqlite3_exec(s->db, sql, NULL, NULL, NULL);

	return rc ? sqlite_error(s, rc, err, doing) : 0;
}

int sqlite_get_i64(struct sqlite_store *s, const char *sql, int64_t *ret, struct error *err)
{
	_cleanup_(sqlite3_finalizep) sqlite3_stmt *st = NULL;
	int rc = sqlite3_prepare_v2(s->db, sql, -1, &st, NULL);

	if (!rc)
		rc = sqlite3_step(st);
	if (rc == SQLITE_ROW) {
		if (sqlite3_column_type(st, 0) == SQLITE_NULL)
			return 0;
		*ret = sqlite3_column_int64(st, 0);
		return 1;
	}
	return rc == SQLITE_DONE ? 0 : sqlite_error(s, rc, err, "read");
}

/* --- opening ------------------------------------------------------------------------------------------------------ */

static int on_progress(void *userdata)
{
	struct sqlite_store *s = userdata;

	return s->deadline_ms && clock_mono_ms() > s->deadline_ms;
}

/* Made here and not by SQLite, which would take 0644; -wal and -shm get the mode of the file. */
static int make_file(struct sqlite_store *s, struct error *err)
{
	struct stat st;
	int fd = open(s->path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);

	if (fd >= 0) {
		close(fd);
		return 0;
	}
	if (errno != EEXIST)
		return error_set(err, -errno, "cannot create %s: %s", s->path, strerror(errno));
	/* not opened: closing any descriptor of the file drops the locks that this process has on it */
	if (stat(s->path, &st) < 0)
		return error_set(err, -errno, "cannot look at %s: %s", s->path, strerror(errno));
	if (!S_ISREG(st.st_mode))
		return error_set(err, -EINVAL, "%s is not a regular file", s->path);
	if ((st.st_mode & 077) && chmod(s->path, 0600) < 0)
		return error_set(err, -errno, "cannot make %s private: %s", s->path, strerror(errno));
	return 0;
}

/* The folder of a file. Return: @ret (PATH_MAX bytes) */
static const char *folder_of(const char *path, char *ret)
{
	char *slash;

	snprintf(ret, PATH_MAX, "%s", path);
	slash = strrchr(ret, '/');
	if (!slash)
		return ".";
	slash[slash == ret] = '\0';
	return ret;
}

static int prepare_writing(struct sqlite_store *s, struct error *err)
{
	_cleanup_(sqlite3_finalizep) sqlite3_stmt *st = NULL;
	char buf[PATH_MAX];
	const char *mode, *folder = folder_of(s->path, buf);
	bool network = path_is_network(folder) == 1;
	_cleanup_(closep) int lock = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	int r, rc;

	/* One at a time: SQLite's waiting for locks leaves out the change of the journal mode. Without this lock, on a file
	 * system that has none for folders, the loser gets -EBUSY and tries again. */
	if (lock >= 0)
		while (flock(lock, LOCK_EX) < 0 && errno == EINTR)
			;

	/* WAL needs memory shared by all who have the file open, which several hosts have not */
	rc = sqlite3_prepare_v2(s->db, network ? "PRAGMA journal_mode = DELETE" : "PRAGMA journal_mode = WAL", -1, &st,
	    NULL);
	if (!rc)
		rc = sqlite3_step(st);
	if (rc != SQLITE_ROW)
		return sqlite_error(s, rc, err, "set the journal mode");
	mode = (const char *)sqlite3_column_text(st, 0);
	if (network)
		snprintf(s->store.warning, sizeof(s->store.warning),
		    "the database is on a network file system: it is kept with a rollback journal, so that reading it and writing "
		    "it wait for each other; a local disk is better");
	else if (!mode || strcmp(mode, "wal") != 0)
		snprintf(s->store.warning, sizeof(s->store.warning),
		    "the database cannot use a write-ahead log here: reading it and writing it wait for each other");
	sqlite3_finalize(TAKE_PTR(st));
	r = sqlite_exec(s,
	    "PRAGMA synchronous = FULL; PRAGMA foreign_keys = ON; PRAGMA cache_size = -4096; PRAGMA temp_store = MEMORY;"
	    "PRAGMA wal_autocheckpoint = 4000; PRAGMA journal_size_limit = 67108864",
	    err, "set up the connection");
	return r ? r : sqlite_migrate(s, err);
}

static void sqlite_close_(struct store *store)
{
	struct sqlite_store *s = sqlite_of(store);

	sqlite3_finalize(s->insert_log);
	sqlite3_finalize(s->insert_event);
	sqlite3_finalize(s->insert_name);
	sqlite3_finalize(s->find_name);
	sqlite3_close(s->db);
	name_map_clear(&s->names);
	name_map_clear(&s->experiments);
	free(s->path);
	free(s);
}

static int sqlite_open_(struct store **ret, const struct store_options *o, struct error *err)
{
	_cleanup_(store_closep) struct store *store = NULL;
	struct sqlite_store *s = calloc(1, sizeof(*s));
	struct stat st;
	int r, rc;

	if (!s)
		return -ENOMEM;
	store = &s->store;
	store->ops = &sqlite_ops;
	s->read_only = o->read_only;
	s->timeout_ms = o->timeout_ms;
	s->data_version = -1;
	s->path = strdup(o->path);
	if (!s->path)
		return -ENOMEM;
	if (s->read_only) {
		if (stat(s->path, &st) < 0)
			return error_set(err, -errno, "%s: %s", s->path,
			    errno == ENOENT ? "nothing was stored yet" : strerror(errno));
	} else {
		r = make_file(s, err);
		if (r < 0)
			return r;
	}
	rc = sqlite3_open_v2(s->path, &s->db,
	    (s->read_only ? SQLITE_OPEN_READONLY : SQLITE_OPEN_READWRITE) | SQLITE_OPEN_NOMUTEX | SQLITE_OPEN_EXRESCODE, NULL);
	if (rc)
		return sqlite_error(s, rc, err, "open it");
	if (stat(s->path, &st) < 0)
		return error_set(err, -errno, "cannot look at %s: %s", s->path, strerror(errno));
	s->dev = st.st_dev;
	s->ino = st.st_ino;
	sqlite3_busy_timeout(s->db, BUSY_MS);
	/* the file may have been made by somebody else: its schema may call nothing that acts. (Not when writing: SQLite 3.40
	 * counts json_valid() of our CHECKs among that.) */
	sqlite3_db_config(s->db, SQLITE_DBCONFIG_DEFENSIVE, 1, NULL);
	if (s->read_only)
		sqlite3_db_config(s->db, SQLITE_DBCONFIG_TRUSTED_SCHEMA, 0, NULL);
	if (s->timeout_ms)
		sqlite3_progress_handler(s->db, OPS_PER_LOOK, on_progress, s);
	r = s->read_only ? sqlite_check_version(s, err) : prepare_writing(s, err);
	if (r < 0)
		return r;
	*ret = TAKE_PTR(store);
	return 0;
}

/* --- names -------------------------------------------------------------------------------------------------------- */

/* Text as SQLite and its readers take it: well-formed, no NUL (shown as U+2400). @room keeps a repaired copy. */
static struct view clean(struct view v, struct text *room)
{
	size_t start = room->size;

	if (!v.size || (utf8_valid_prefix(v.data, v.size) == v.size && !memchr(v.data, 0, v.size)))
		return v;
	for (size_t i = 0; i < v.size;) {
		size_t n = strnlen(v.data + i, v.size - i);

		text_add_utf8(room, v.data + i, n);
		i += n;
		if (i < v.size) {
			text_add(room, "\xe2\x90\x80");
			i++;
		}
	}
	return room->failed ? (struct view){ 0 } : (struct view){ room->data + start, room->size - start };
}

static void bind_view(sqlite3_stmt *st, int i, struct view v)
{
	if (v.size)
		sqlite3_bind_text64(st, i, v.data, v.size, SQLITE_STATIC, SQLITE_UTF8);
	else
		sqlite3_bind_null(st, i);
}

/* Text of a record, repaired if need be. Return: 0 or -ENOMEM */
static int bind_text(sqlite3_stmt *st, int i, struct view v)
{
	_cleanup_text_ struct text room = { 0 };
	struct view c = clean(v, &room);

	if (room.failed)
		return -ENOMEM;
	if (c.data == v.data)
		bind_view(st, i, v);
	else
		sqlite3_bind_text64(st, i, c.data, c.size, SQLITE_TRANSIENT, SQLITE_UTF8);
	return 0;
}

static int prepare(struct sqlite_store *s, sqlite3_stmt **st, const char *sql, struct error *err)
{
	int rc = *st ? SQLITE_OK : sqlite3_prepare_v3(s->db, sql, -1, SQLITE_PREPARE_PERSISTENT, st, NULL);

	return rc ? sqlite_error(s, rc, err, "prepare a statement") : 0;
}

/* Number of a name in the dictionary, which it is put into if need be; 0 for the empty one. */
static int get_name(struct sqlite_store *s, struct view name, int64_t *ret, struct error *err)
{
	_cleanup_text_ struct text room = { 0 };
	struct view v;
	int rc, r;

	*ret = 0;
	if (!name.size)
		return 0;
	*ret = name_map_get(&s->names, name);
	if (*ret)
		return 0;
	v = clean(name, &room);
	if (!v.size)
		return -ENOMEM;
	r = prepare(s, &s->find_name, "SELECT id FROM names WHERE text = ?", err);
	if (!r)
		r = prepare(s, &s->insert_name, "INSERT INTO names(text) VALUES(?)", err);
	if (r < 0)
		return r;
	bind_view(s->find_name, 1, v);
	rc = sqlite3_step(s->find_name);
	if (rc == SQLITE_ROW)
		*ret = sqlite3_column_int64(s->find_name, 0);
	sqlite3_reset(s->find_name);
	if (rc == SQLITE_DONE) {
		bind_view(s->insert_name, 1, v);
		rc = sqlite3_step(s->insert_name);
		sqlite3_reset(s->insert_name);
		if (rc == SQLITE_DONE)
			*ret = sqlite3_last_insert_rowid(s->db);
	}
	if (!*ret)
		return sqlite_error(s, rc, err, "write to the dictionary");
	name_map_put(&s->names, name, *ret);
	return 0;
}

/* Runs one statement with texts bound. The first column, if it gives a row, replaces @ret (UUID_TEXT_MAX bytes). */
static int run(struct sqlite_store *s, const char *sql, const struct view *args, int n, char *ret, struct error *err)
{
	_cleanup_(sqlite3_finalizep) sqlite3_stmt *st = NULL;
	int rc = sqlite3_prepare_v2(s->db, sql, -1, &st, NULL);

	for (int i = 0; i < n && !rc; i++)
		bind_view(st, i + 1, args[i]);
	if (!rc)
		rc = sqlite3_step(st);
	if (rc == SQLITE_ROW) {
		const char *text = (const char *)sqlite3_column_text(st, 0);

		if (text && ret)
			snprintf(ret, UUID_TEXT_MAX, "%s", text);
		return 1;
	}
	return rc == SQLITE_DONE ? 0 : sqlite_error(s, rc, err, "register a name");
}

/* Dictionary number of the id of an experiment given by name or id, which is registered if it is new. */
static int get_experiment(struct sqlite_store *s, struct view text, int64_t ts_us, int64_t *ret, struct error *err)
{
	_cleanup_text_ struct text room = { 0 };
	char id[UUID_TEXT_MAX] = "", started[CLOCK_TEXT_MAX];
	struct uuid uuid;
	struct view name, args[3];
	int r;

	*ret = 0;
	if (!text.size)
		return 0;
	*ret = name_map_get(&s->experiments, text);
	if (*ret)
		return 0;
	name = clean(text, &room);
	if (!name.size)
		return -ENOMEM;
	if (name.size == UUID_TEXT_MAX - 1) {
		char copy[UUID_TEXT_MAX] = "";

		memcpy(copy, name.data, name.size);
		if (!uuid_parse(copy, &uuid)) {
			uuid_format(&uuid, id);
			name = (struct view){ 0 };
		}
	}
	if (!id[0]) {
		r = run(s, "SELECT id FROM experiments WHERE name = ? ORDER BY created_at DESC LIMIT 1", &name, 1, id, err);
		if (r < 0)
			return r;
		uuid = uuid_make_v7(0);
		if (!r)
			uuid_format(&uuid, id);
	}
	args[0] = VIEW_OF(id);
	args[1] = name;
	args[2] = VIEW_OF(clock_format_utc(ts_us, started));
	r = run(s, "INSERT OR IGNORE INTO experiments(id, name, status, started_at) VALUES(?, ?, 'running', ?)", args, 3,
	    NULL, err);
	if (!r)
		r = get_name(s, args[0], ret, err);
	if (!r)
		name_map_put(&s->experiments, text, *ret);
	return r;
}

/* --- writing ------------------------------------------------------------------------------------------------------ */

static int sqlite_get_mark(struct store *store, const struct uuid *source, const char *host, const char *name,
    uint64_t *ret_mark, struct error *err)
{
	struct sqlite_store *s = sqlite_of(store);
	char id[UUID_TEXT_MAX], sql[128];
	const struct view args[] = { VIEW_OF(uuid_format(source, id)), VIEW_OF(host), VIEW_OF(name) };
	int64_t mark = 0;
	int r;

	snprintf(sql, sizeof(sql), "SELECT mark FROM ingest_source WHERE source = '%s'", id);
	r = sqlite_get_i64(s, sql, &mark, err);
	if (!r)
		r = run(s, "INSERT OR IGNORE INTO ingest_source(source, host, name) VALUES(?, ?, ?)", args, 3, NULL, err);
	if (r < 0)
		return r;
	*ret_mark = (uint64_t)mark;
	return 0;
}

/* What happens within one transaction. */
struct batch {
	int64_t source_id, now_us;
	int64_t stored, duplicates, quarantined;
};

/* Whether the result is about the record and not about the database. */
static bool is_refusal(int rc)
{
	switch (rc & 0xff) {
	case SQLITE_CONSTRAINT:
	case SQLITE_TOOBIG:
	case SQLITE_MISMATCH:
	case SQLITE_RANGE:
		return true;
	default:
		return false;
	}
}

static int quarantine(struct sqlite_store *s, struct batch *b, uint64_t seq, struct view payload, const char *reason,
    struct error *err)
{
	_cleanup_(sqlite3_finalizep) sqlite3_stmt *st = NULL;
	int rc;

	rc = sqlite3_prepare_v2(s->db, "INSERT INTO log_quarantine(source_id, seq, reason, payload) VALUES(?, ?, ?, ?)", -1,
	    &st, NULL);
	if (!rc) {
		sqlite3_bind_int64(st, 1, b->source_id);
		sqlite3_bind_int64(st, 2, (int64_t)seq);
		sqlite3_bind_text(st, 3, reason, -1, SQLITE_TRANSIENT);
		sqlite3_bind_blob64(st, 4, payload.data ? payload.data : "", payload.size, SQLITE_STATIC);
		rc = sqlite3_step(st);
	}
	if (rc != SQLITE_DONE)
		return sqlite_error(s, rc, err, "write to log_quarantine");
	b->quarantined++;
	return 0;
}

static int64_t time_of(const struct record *r, const struct batch *b)
{
	return r->ts_us > 0 && r->ts_us < 253402300800000000 ? r->ts_us : b->now_us; /* 1970 to 9999 */
}

/* A JSON object; with @wrap, one that is none becomes an object that holds it as text. */
static int bind_object(sqlite3_stmt *st, int i, struct view v, bool wrap)
{
	_cleanup_text_ struct text room = { 0 };
	_cleanup_json_ cJSON *j = NULL;

	if (v.size == 2 && !memcmp(v.data, "{}", 2))
		v.size = 0;
	if (!wrap || !v.size || !json_parse(v.data, v.size, &j, NULL))
		return bind_text(st, i, v);
	text_add(&room, "{\"text\":\"");
	text_add_json(&room, v.data, v.size);
	text_add(&room, "\"}");
	if (room.failed)
		return -ENOMEM;
	sqlite3_bind_text64(st, i, room.data, room.size, SQLITE_TRANSIENT, SQLITE_UTF8);
	return 0;
}

static void bind_id(sqlite3_stmt *st, int i, int64_t id)
{
	if (id)
		sqlite3_bind_int64(st, i, id);
	else
		sqlite3_bind_null(st, i);
}

/* Return: the result of sqlite3_step() in *ret_rc; -errno when a name could not be looked up */
static int insert_log(struct sqlite_store *s, const struct batch *b, const struct record *r, uint64_t seq, bool wrap,
    int *ret_rc, struct error *err)
{
	const struct view names[] = { r->daemon, r->logger_name, r->node_id, r->stage, r->job_id, r->run };
	enum log_level level = r->level > LEVEL_UNKNOWN && r->level < _LEVEL_MAX ? r->level : LEVEL_INFO;
	int64_t ids[ARRAY_SIZE(names)], experiment, ts = time_of(r, b);
	sqlite3_stmt *st;
	int k;

	for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
		k = get_name(s, names[i], &ids[i], err);
		if (k < 0)
			return k;
	}
	k = get_experiment(s, r->experiment, ts, &experiment, err);
	if (!k)
		k = prepare(s, &s->insert_log,
		    "INSERT INTO logs(id, ts, level, daemon, logger, message, experiment, node, stage, job, run, pid, source_id,"
		    " source_seq, created, context, traceback, performance)"
		    " VALUES(?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT(id) DO NOTHING",
		    err);
	if (k < 0)
		return k;
	st = s->insert_log;
	sqlite3_bind_blob(st, 1, r->id.b, 16, SQLITE_STATIC);
	sqlite3_bind_int64(st, 2, ts);
	sqlite3_bind_text(st, 3, log_level_to_string(level), -1, SQLITE_STATIC);
	bind_id(st, 4, ids[0]);
	bind_id(st, 5, ids[1]);
	sqlite3_bind_text(st, 6, "", 0, SQLITE_STATIC);
	if ((r->message.size && bind_text(st, 6, r->message) < 0) || bind_object(st, 16, r->context, wrap) < 0 ||
	    bind_text(st, 17, r->traceback) < 0 || bind_object(st, 18, r->performance, wrap) < 0)
		return -ENOMEM;
	bind_id(st, 7, experiment);
	bind_id(st, 8, ids[2]);
	bind_id(st, 9, ids[3]);
	bind_id(st, 10, ids[4]);
	bind_id(st, 11, ids[5]);
	bind_id(st, 12, r->pid);
	sqlite3_bind_int64(st, 13, b->source_id);
	sqlite3_bind_int64(st, 14, (int64_t)seq);
	sqlite3_bind_int64(st, 15, b->now_us);
	*ret_rc = sqlite3_step(st);
	return 0;
}

/* Details of an event, with whom it is about where the producer did not say. Only an object is added to. */
static int bind_details(sqlite3_stmt *st, int i, const struct record *r)
{
	const struct {
		const char *key;
		struct view value;
	} fields[] = { { "daemon", r->daemon }, { "run", r->run }, { "node", r->node_id }, { "stage", r->stage } };
	_cleanup_json_ cJSON *j = NULL;
	_cleanup_text_ struct text cleaned = { 0 }, out = { 0 };
	struct view v = clean(r->context.size ? r->context : VIEW_OF("{}"), &cleaned);
	size_t at;

	if (cleaned.failed)
		return -ENOMEM;
	if (json_parse(v.data, v.size, &j, NULL) < 0 || !cJSON_IsObject(j))
		return bind_object(st, i, r->context, true);
	text_add(&out, "{");
	for (size_t k = 0; k < ARRAY_SIZE(fields); k++)
		if (fields[k].value.size && !cJSON_GetObjectItemCaseSensitive(j, fields[k].key)) {
			text_addf(&out, "%s\"%s\":\"", out.size > 1 ? "," : "", fields[k].key);
			text_add_json(&out, fields[k].value.data, fields[k].value.size);
			text_add(&out, "\"");
		}
	/* the rest as it was written: numbers beyond a double must not be printed anew */
	at = (size_t)((const char *)memchr(v.data, '{', v.size) - v.data) + 1;
	if (cJSON_GetArraySize(j) && out.size > 1)
		text_add(&out, ",");
	text_add_bytes(&out, v.data + at, v.size - at);
	if (out.failed)
		return -ENOMEM;
	sqlite3_bind_text64(st, i, out.data, out.size, SQLITE_TRANSIENT, SQLITE_UTF8);
	return 0;
}

static int insert_event(struct sqlite_store *s, const struct batch *b, const struct record *r, uint64_t seq, int *ret_rc,
    struct error *err)
{
	enum log_level level = r->level > LEVEL_UNKNOWN && r->level < _LEVEL_MAX ? r->level : LEVEL_INFO;
	const struct {
		int i;
		struct view value;
	} texts[] = { { 3, r->event_type }, { 4, r->logger_name.size ? r->logger_name : VIEW_OF("supervise") },
		{ 6, r->message.size ? r->message : r->event_type }, { 9, r->node_id }, { 10, r->job_id }, { 11, r->stage },
		{ 12, r->daemon }, { 13, r->run } };
	char id[UUID_TEXT_MAX], at[CLOCK_TEXT_MAX], experiment[UUID_TEXT_MAX] = "", severity[16], sql[64];
	int64_t number, ts = time_of(r, b);
	sqlite3_stmt *st;
	int k;

	k = get_experiment(s, r->experiment, ts, &number, err);
	if (!k && number) {
		snprintf(sql, sizeof(sql), "SELECT text FROM names WHERE id = %" PRId64, number);
		k = run(s, sql, NULL, 0, experiment, err);
	}
	if (k >= 0)
		k = prepare(s, &s->insert_event,
		    "INSERT INTO pipeline_events(id, experiment_id, event_type, source, severity, title, details, timestamp,"
		    " node_id, job_id, stage, daemon, run, pid, source_id, seq)"
		    " VALUES(?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT(id) DO NOTHING",
		    err);
	if (k < 0)
		return k;
	snprintf(severity, sizeof(severity), "%s", log_level_to_string(level));
	for (char *c = severity; *c; c++)
		*c |= 0x20;
	st = s->insert_event;
	sqlite3_bind_text(st, 1, uuid_format(&r->id, id), -1, SQLITE_STATIC);
	bind_view(st, 2, VIEW_OF(experiment));
	sqlite3_bind_text(st, 5, severity, -1, SQLITE_STATIC);
	sqlite3_bind_text(st, 8, clock_format_utc(ts, at), -1, SQLITE_STATIC);
	bind_id(st, 14, r->pid);
	sqlite3_bind_int64(st, 15, b->source_id);
	sqlite3_bind_int64(st, 16, (int64_t)seq);
	for (size_t i = 0; i < ARRAY_SIZE(texts); i++)
		if (bind_text(st, texts[i].i, texts[i].value) < 0)
			return -ENOMEM;
	if (bind_details(st, 7, r) < 0)
		return -ENOMEM;
	*ret_rc = sqlite3_step(st);
	return 0;
}

static int write_record(struct sqlite_store *s, struct batch *b, const struct record *r, uint64_t seq, struct error *err)
{
	_cleanup_text_ struct text payload = { 0 };
	char reason[256];
	sqlite3_stmt *st;
	int k, rc = SQLITE_OK;

	if (r->kind != RECORD_LOG && r->kind != RECORD_EVENT)
		return quarantine(s, b, seq, r->message, "does not decode", err);
	k = r->kind == RECORD_LOG ? insert_log(s, b, r, seq, false, &rc, err) : insert_event(s, b, r, seq, &rc, err);
	if (!k && r->kind == RECORD_LOG && is_refusal(rc)) { /* JSON that is none is the one thing to repair */
		sqlite3_reset(s->insert_log);
		k = insert_log(s, b, r, seq, true, &rc, err);
	}
	if (k < 0)
		return k;
	st = r->kind == RECORD_LOG ? s->insert_log : s->insert_event;
	if (rc == SQLITE_DONE) {
		if (sqlite3_changes(s->db))
			b->stored++;
		else
			b->duplicates++;
		sqlite3_reset(st);
		return 0;
	}
	if (!is_refusal(rc)) {
		k = sqlite_error(s, rc, err, "write");
		sqlite3_reset(st);
		return k;
	}
	snprintf(reason, sizeof(reason), "%s", sqlite3_errmsg(s->db));
	sqlite3_reset(st);
	k = record_encode(r, &payload);
	return k < 0 ? k : quarantine(s, b, seq, (struct view){ payload.data, payload.size }, reason, err);
}

/* Within the transaction. Return: 0, STORE_E_FENCED, -errno */
static int write_batch(struct sqlite_store *s, const struct uuid *source, const struct record *records,
    const uint64_t *seqs, size_t n, uint64_t expected, uint64_t mark, struct error *err)
{
	struct batch b = { .now_us = clock_now_us() };
	char id[UUID_TEXT_MAX], now[CLOCK_TEXT_MAX], sql[512];
	int64_t version = s->data_version;
	int r;

	r = sqlite_get_i64(s, "PRAGMA data_version", &version, err);
	if (r < 0)
		return r;
	if (version != s->data_version) {
		name_map_clear(&s->names);
		name_map_clear(&s->experiments);
		s->data_version = version;
	}
	snprintf(sql, sizeof(sql), "SELECT source_id FROM ingest_source WHERE source = '%s' AND mark = %" PRIu64,
	    uuid_format(source, id), expected);
	r = sqlite_get_i64(s, sql, &b.source_id, err);
	if (r < 0)
		return r;
	if (!r)
		return STORE_E_FENCED;
	for (size_t i = 0; i < n; i++) {
		r = write_record(s, &b, &records[i], seqs[i], err);
		if (r < 0)
			return r;
	}
	snprintf(sql, sizeof(sql),
	    "UPDATE ingest_source SET mark = %" PRIu64 ", stored = stored + %" PRId64 ", duplicates = duplicates + %" PRId64
	    ", quarantined = quarantined + %" PRId64 ", updated_at = '%s' WHERE source_id = %" PRId64,
	    mark, b.stored, b.duplicates, b.quarantined, clock_format_utc(b.now_us, now), b.source_id);
	return sqlite_exec(s, sql, err, "move the mark");
}

static int sqlite_write(struct store *store, const struct uuid *source, const struct record *records,
    const uint64_t *seqs, size_t n, uint64_t expected, uint64_t mark, struct error *err)
{
	struct sqlite_store *s = sqlite_of(store);
	struct stat st;
	int r;

	if (mark < expected || (n && seqs[n - 1] > mark))
		return error_set(err, -EINVAL, "the mark %" PRIu64 " does not cover the batch", mark);
	/* SQLite goes on writing to a file that was deleted under it, where nobody will ever look */
	if (stat(s->path, &st) < 0 || st.st_dev != s->dev || st.st_ino != s->ino)
		return error_set(err, -ESTALE, "%s was removed or replaced while it was in use", s->path);
	r = sqlite_exec(s, "BEGIN IMMEDIATE", err, "begin to write");
	if (r < 0)
		return r;
	r = write_batch(s, source, records, seqs, n, expected, mark, err);
	if (!r)
		r = sqlite_exec(s, "COMMIT", err, "commit");
	if (r) {
		/* what the maps learned in this transaction is no longer so */
		name_map_clear(&s->names);
		name_map_clear(&s->experiments);
		if (!sqlite3_get_autocommit(s->db))
			(void)sqlite3_exec(s->db, "ROLLBACK", NULL, NULL, NULL);
	}
	return r;
}

static void sqlite_release_memory_(struct store *store)
{
	sqlite3_db_release_memory(sqlite_of(store)->db);
}

const struct store_ops sqlite_ops = {
	.type = "sqlite",
	.open = sqlite_open_,
	.close = sqlite_close_,
	.get_mark = sqlite_get_mark,
	.write = sqlite_write,
	.release_memory = sqlite_release_memory_,
	.query_logs = sqlite_query_logs,
	.query_events = sqlite_query_events,
	.get_cursors = sqlite_get_cursors,
	.describe = sqlite_describe,
};
