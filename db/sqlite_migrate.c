/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The schema and its steps: sqlite_schema.sql, built in as text.
 *
 * A step and its line in schema_version are one transaction, begun with the write lock held and looked at again under
 * it: an interrupted run left nothing of a step, and of two programs at once the second finds the step done.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/crc32c.h"
#include "db/sqlite.h"

extern const char sqlite_schema[];

struct step {
	int version;
	char name[32];
	char checksum[16];
	const char *sql;
	size_t size;
};

/* The next step at or behind *at, which is moved behind it. Return: 1 or 0 */
static int next_step(const char **at, struct step *ret)
{
	static const char mark[] = "\n-- migration ";
	const char *p = strstr(*at, mark), *end;

	if (!p || sscanf(p + strlen(mark), "%d %31s", &ret->version, ret->name) != 2)
		return 0;
	end = strstr(p + 1, mark);
	ret->sql = p;
	ret->size = end ? (size_t)(end - p) : strlen(p);
	snprintf(ret->checksum, sizeof(ret->checksum), "%08x", crc32c(0, p, ret->size));
	*at = p + ret->size;
	return 1;
}

static int refuse(struct sqlite_store *s, int64_t version, struct error *err)
{
	return error_set(err, -EPROTONOSUPPORT,
	    "%s was made by a newer version of supervise (schema %d, this one knows %d); use that version, or another file",
	    s->path, (int)(version / 1000), SQLITE_MAJOR);
}

/* Return: the newest version applied, 0 for none, -errno */
static int applied_version(struct sqlite_store *s, int64_t *ret, struct error *err)
{
	int64_t any;
	int r;

	*ret = 0;
	r = sqlite_get_i64(s, "SELECT count(*) FROM sqlite_master WHERE type = 'table' AND name = 'schema_version'", &any,
	    err);
	if (r < 0 || !any)
		return r < 0 ? r : 0;
	r = sqlite_get_i64(s, "SELECT max(version) FROM schema_version", ret, err);
	return r < 0 ? r : 0;
}

int sqlite_check_version(struct sqlite_store *s, struct error *err)
{
	int64_t version;
	int r;

	r = applied_version(s, &version, err);
	if (r < 0)
		return r;
	if (!version)
		return error_set(err, -ENOENT, "%s holds no schema of supervise yet", s->path);
	return version / 1000 > SQLITE_MAJOR ? refuse(s, version, err) : 0;
}

/* Whether @step is applied. Return: 1, 0, -errno */
static int is_applied(struct sqlite_store *s, const struct step *step, struct error *err)
{
	_cleanup_(sqlite3_finalizep) sqlite3_stmt *st = NULL;
	int rc;

	rc = sqlite3_prepare_v2(s->db, "SELECT checksum FROM schema_version WHERE version = ?", -1, &st, NULL);
	if (rc)
		return sqlite_error(s, rc, err, "read schema_version");
	sqlite3_bind_int(st, 1, step->version);
	rc = sqlite3_step(st);
	if (rc == SQLITE_DONE)
		return 0;
	if (rc != SQLITE_ROW)
		return sqlite_error(s, rc, err, "read schema_version");
	if (strcmp((const char *)sqlite3_column_text(st, 0), step->checksum) != 0)
		return error_set(err, -EBADMSG,
		    "%s: migration %d (%s) was applied with another text than this program has; move the file away to begin a "
		    "new one",
		    s->path, step->version, step->name);
	return 1;
}

static int apply(struct sqlite_store *s, const struct step *step, struct error *err)
{
	_cleanup_(freep) char *sql = strndup(step->sql, step->size);
	char insert[192], doing[64];
	int r;

	if (!sql)
		return -ENOMEM;
	snprintf(doing, sizeof(doing), "apply migration %d", step->version);
	r = sqlite_exec(s, sql, err, doing);
	if (r < 0)
		return r;
	snprintf(insert, sizeof(insert), "INSERT INTO schema_version(version, name, checksum) VALUES(%d, '%s', '%s')",
	    step->version, step->name, step->checksum);
	return sqlite_exec(s, insert, err, doing);
}

int sqlite_migrate(struct sqlite_store *s, struct error *err)
{
	const char *at = sqlite_schema;
	char sql[256];
	struct step step;
	int64_t version;
	int r;

	for (;;) {
		r = applied_version(s, &version, err);
		if (r < 0)
			return r;
		if (version / 1000 > SQLITE_MAJOR)
			return refuse(s, version, err);
		if (!next_step(&at, &step))
			return 0;
		r = version ? is_applied(s, &step, err) : 0;
		if (r < 0)
			return r;
		if (r)
			continue;
		r = sqlite_exec(s, "BEGIN IMMEDIATE", err, "begin a migration");
		if (r < 0)
			return r;
		snprintf(sql, sizeof(sql),
		    "CREATE TABLE IF NOT EXISTS schema_version(version INTEGER PRIMARY KEY, name TEXT, checksum TEXT,"
		    " applied_at TEXT DEFAULT (strftime('%%Y-%%m-%%dT%%H:%%M:%%fZ')));"
		    "PRAGMA application_id = %d",
		    SQLITE_APPLICATION_ID);
		r = sqlite_exec(s, sql, err, "make schema_version");
		if (!r)
			r = is_applied(s, &step, err); /* by another program, while we waited for the lock? */
		if (!r)
			r = apply(s, &step, err);
		if (r >= 0)
			r = sqlite_exec(s, "COMMIT", err, "commit a migration");
		if (r < 0) {
			if (!sqlite3_get_autocommit(s->db))
				(void)sqlite_exec(s, "ROLLBACK", NULL, NULL);
			return r;
		}
	}
}
