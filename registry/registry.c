/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Snapshot plus journal. Each entry keeps its printed JSON, made once per change for the journal, so a snapshot of 1,000
 * daemons is concatenation.
 *
 * Order of a change: memory, journal line (one write(2)), PID file. Order of a snapshot: registry.json by rename, then
 * the journal is truncated. Killed between those two, the journal holds changes the snapshot has already; their
 * serials are not above the snapshot's and are skipped when loading.
 *
 * Members we do not know, of the file or of an entry, are carried along: a supervisor that is replaced by an older one and
 * then by the newer one again finds what it wrote.
 */
#include "registry/registry.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/crc32c.h"
#include "base/file.h"
#include "base/paths.h"
#include "base/text.h"

enum {
	FILE_MAX = 256 << 20,
	VERSION = 1,
	ENTRIES_MAX = 100000,
};

static const uint64_t serial_max = (uint64_t)1 << 53; /* beyond it: garbage */

struct slot {
	struct registry_entry e; /* owns name, state, log_path, report_path */
	char *json;              /* printed entry */
	char *extra;             /* members of its JSON that are not ours, "\"x\":1,..." or NULL */
	pid_t pid_file;          /* what pid/FILE.pid says; 0: there is none; -1: not known */
};

struct registry {
	int dir, journal;
	off_t journal_bytes;
	struct slot *slots;
	size_t n, room;
	char *project, *config_path;
	pid_t supervisor;
	char *extra;     /* members of the file that are not ours */
	uint64_t serial; /* of the last change */
	bool dirty;
	uint64_t dirty_since_ms;
};

static void entry_free(struct registry_entry *e)
{
	free(e->name);
	free(e->state);
	free(e->log_path);
	free(e->report_path);
	free(e->restart_times_us);
}

/* Return: a copy; NULL for none, and when memory ran out */
static int64_t *dup_times(const int64_t *times, unsigned n)
{
	int64_t *copy = n ? malloc(n * sizeof(*copy)) : NULL;

	if (copy)
		memcpy(copy, times, n * sizeof(*copy));
	return copy;
}

static void slot_free(struct slot *s)
{
	entry_free(&s->e);
	free(s->json);
	free(s->extra);
}

struct registry *registry_close(struct registry *r)
{
	if (!r)
		return NULL;
	if (r->dirty)
		registry_flush(r);
	for (size_t i = 0; i < r->n; i++)
		slot_free(&r->slots[i]);
	free(r->slots);
	free(r->project);
	free(r->config_path);
	free(r->extra);
	if (r->journal >= 0)
		close(r->journal);
	if (r->dir >= 0)
		close(r->dir);
	free(r);
	return NULL;
}

static struct slot *find(const struct registry *r, const char *name)
{
	for (size_t i = 0; i < r->n; i++)
		if (!strcmp(r->slots[i].e.name, name))
			return &r->slots[i];
	return NULL;
}

const struct registry_entry *registry_find(const struct registry *r, const char *name)
{
	struct slot *s = find(r, name);

	return s ? &s->e : NULL;
}

size_t registry_count(const struct registry *r)
{
	return r->n;
}

const struct registry_entry *registry_at(const struct registry *r, size_t i)
{
	return i < r->n ? &r->slots[i].e : NULL;
}

/* --- entries as JSON ---------------------------------------------------------------------------------------------- */

cJSON *registry_entry_to_json(const struct registry_entry *e)
{
	cJSON *j = cJSON_CreateObject(), *x, *times;

	if (!j)
		return NULL;
	json_add_text(j, "name", e->name);
	json_add_text(j, "state", e->state);
	json_add_bool(j, "wanted", e->wanted);
	if (e->id.pid)
		json_add_i64(j, "pid", e->id.pid);
	else
		cJSON_AddNullToObject(j, "pid");
	json_add_id(j, "start_ticks", e->id.start_ticks);
	json_add_i64(j, "pgid", e->pgid);
	json_add_text(j, "nonce", e->nonce);
	json_add_text(j, "run", e->run);
	json_add_time(j, "since", e->since_us);
	json_add_time(j, "started_at", e->started_us);
	json_add_i64(j, "restarts", e->restarts);
	json_add_i64(j, "streak", e->streak);
	json_add_time(j, "restart_at", e->restart_at_us);
	times = json_add_array(j, "restart_times");
	for (unsigned i = 0; i < e->n_restart_times; i++) {
		char buf[CLOCK_TEXT_MAX];

		cJSON_AddItemToArray(times, cJSON_CreateString(clock_format_utc(e->restart_times_us[i], buf)));
	}
	if (e->last_exit.at_us) {
		x = json_add_object(j, "last_exit");
		json_add_time(x, "at", e->last_exit.at_us);
		json_add_bool(x, "known", e->last_exit.known);
		json_add_i64(x, "status", e->last_exit.status);
		json_add_i64(x, "pid", e->last_exit.pid);
		json_add_i64(x, "uptime_ms", (int64_t)e->last_exit.uptime_ms);
		json_add_i64(x, "max_rss_bytes", (int64_t)e->last_exit.max_rss_bytes);
		json_add_i64(x, "user_us", (int64_t)e->last_exit.utime_us);
		json_add_i64(x, "system_us", (int64_t)e->last_exit.stime_us);
		json_add_text(x, "cause", e->last_exit.cause);
		json_add_text(x, "crash_id", e->last_exit.crash_id[0] ? e->last_exit.crash_id : NULL);
		json_add_bool(x, "failure", e->last_exit.failure);
	} else {
		cJSON_AddNullToObject(j, "last_exit");
	}
	json_add_text(j, "pending_crash", e->pending_crash[0] ? e->pending_crash : NULL);
	json_add_text(j, "log", e->log_path);
	json_add_text(j, "report", e->report_path);
	json_add_text(j, "config_digest", e->digest);
	x = json_add_object(j, "capture");
	json_add_text(x, "mode", e->capture_mode);
	json_add_text(x, "reason", e->capture_reason);
	return j;
}

static char *dup_or_null(const char *s)
{
	return s ? strdup(s) : NULL;
}

static int64_t get_time(const cJSON *j, const char *key)
{
	const char *s = json_get_string(j, key, NULL);
	int64_t us = 0;

	return s && clock_parse_utc(s, &us) == 0 ? us : 0;
}

#define COPY_TEXT(field, j, key) snprintf(field, sizeof(field), "%s", json_get_string(j, key, ""))

/* The members of @j that are not in @known, as JSON without the braces. Return: NULL when there are none */
static char *unknown_members(const cJSON *j, const char *const *known)
{
	_cleanup_text_ struct text t = { 0 };
	const cJSON *x;

	cJSON_ArrayForEach(x, j) {
		_cleanup_(freep) char *value = NULL;
		size_t i = 0;

		while (known[i] && x->string && strcmp(known[i], x->string) != 0)
			i++;
		if (known[i] || !x->string)
			continue;
		value = json_print(x);
		if (!value)
			continue;
		text_add(&t, t.size ? ",\"" : "\"");
		text_add_json(&t, x->string, strlen(x->string));
		text_addf(&t, "\":%s", value);
	}
	return t.size ? text_take(&t) : NULL;
}

/* Checks nothing but types and ranges: what it says is compared with the processes before it is believed. */
static int entry_from_json(const cJSON *j, struct registry_entry *ret)
{
	struct registry_entry e = { 0 };
	int64_t times[REGISTRY_TIMES_MAX];
	const cJSON *x, *t, *capture = json_get_object(j, "capture");
	const char *name = json_get_string(j, "name", NULL);
	int64_t pid = json_get_i64(j, "pid", 0), pgid = json_get_i64(j, "pgid", 0);

	if (!cJSON_IsObject(j) || !name || !name[0] || strlen(name) > 100)
		return -EBADMSG;
	/* it becomes part of file names */
	if (name[strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789_.-/")] || name[0] == '.' || name[0] == '/' ||
	    strstr(name, ".."))
		return -EBADMSG;
	e.id.pid = pid > 1 && pid <= INT_MAX ? (pid_t)pid : 0;
	e.pgid = pgid > 1 && pgid <= INT_MAX ? (pid_t)pgid : 0;
	e.id.start_ticks = (uint64_t)json_get_i64(j, "start_ticks", 0);
	e.wanted = json_get_bool(j, "wanted", false);
	COPY_TEXT(e.nonce, j, "nonce");
	COPY_TEXT(e.run, j, "run");
	e.since_us = get_time(j, "since");
	e.started_us = get_time(j, "started_at");
	e.restarts = (unsigned)json_get_i64(j, "restarts", 0);
	e.streak = (unsigned)json_get_i64(j, "streak", 0);
	if (e.streak > 1000)
		e.streak = 1000;
	e.restart_at_us = get_time(j, "restart_at");
	cJSON_ArrayForEach(t, json_get_array(j, "restart_times")) {
		int64_t us;

		if (e.n_restart_times < REGISTRY_TIMES_MAX && cJSON_IsString(t) && clock_parse_utc(t->valuestring, &us) == 0)
			times[e.n_restart_times++] = us;
	}
	x = json_get_object(j, "last_exit");
	if (x) {
		e.last_exit.at_us = get_time(x, "at");
		e.last_exit.known = json_get_bool(x, "known", false);
		e.last_exit.status = (int)json_get_i64(x, "status", 0) & 0xffff;
		e.last_exit.pid = (pid_t)json_get_i64(x, "pid", 0);
		e.last_exit.uptime_ms = (uint64_t)json_get_i64(x, "uptime_ms", 0);
		e.last_exit.max_rss_bytes = (uint64_t)json_get_i64(x, "max_rss_bytes", 0);
		e.last_exit.utime_us = (uint64_t)json_get_i64(x, "user_us", 0);
		e.last_exit.stime_us = (uint64_t)json_get_i64(x, "system_us", 0);
		COPY_TEXT(e.last_exit.cause, x, "cause");
		COPY_TEXT(e.last_exit.crash_id, x, "crash_id");
		e.last_exit.failure = json_get_bool(x, "failure", false);
	}
	COPY_TEXT(e.pending_crash, j, "pending_crash");
	COPY_TEXT(e.digest, j, "config_digest");
	COPY_TEXT(e.capture_mode, capture, "mode");
	COPY_TEXT(e.capture_reason, capture, "reason");
	e.name = strdup(name);
	e.state = strdup(json_get_string(j, "state", "unknown"));
	e.log_path = dup_or_null(json_get_string(j, "log", NULL));
	e.report_path = dup_or_null(json_get_string(j, "report", NULL));
	e.restart_times_us = dup_times(times, e.n_restart_times);
	if (!e.name || !e.state || (e.n_restart_times && !e.restart_times_us)) {
		entry_free(&e);
		return -ENOMEM;
	}
	*ret = e;
	return 0;
}

/* --- memory ------------------------------------------------------------------------------------------------------- */

/* Takes the strings of @e, and @extra unless NULL. Return: the slot or NULL (then they are freed) */
static struct slot *put_slot(struct registry *r, struct registry_entry *e, char *extra)
{
	struct slot *s = find(r, e->name);

	if (!s) {
		if (r->n == r->room) {
			size_t room = r->room ? r->room * 2 : 64;
			void *p = r->n < ENTRIES_MAX ? realloc(r->slots, room * sizeof(*r->slots)) : NULL;

			if (!p) {
				entry_free(e);
				free(extra);
				return NULL;
			}
			r->slots = p;
			r->room = room;
		}
		s = &r->slots[r->n++];
		*s = (struct slot){ 0 };
	} else {
		pid_t pid_file = s->pid_file;

		if (!extra)
			extra = TAKE_PTR(s->extra);
		slot_free(s);
		*s = (struct slot){ .pid_file = pid_file };
	}
	s->e = *e;
	s->extra = extra;
	return s;
}

static void drop_slot(struct registry *r, struct slot *s)
{
	slot_free(s);
	memmove(s, s + 1, (size_t)(r->slots + r->n - s - 1) * sizeof(*s));
	r->n--;
}

static int print_slot(struct slot *s)
{
	_cleanup_json_ cJSON *j = registry_entry_to_json(&s->e);

	free(s->json);
	s->json = j ? json_print(j) : NULL;
	if (s->json && s->extra) {
		_cleanup_text_ struct text t = { 0 };

		text_add_bytes(&t, s->json, strlen(s->json) - 1);
		text_addf(&t, ",%s}", s->extra);
		free(s->json);
		s->json = text_take(&t);
	}
	return s->json ? 0 : -ENOMEM;
}

/* @j as it stands in registry.json or in the journal. Return: 0, -EBADMSG, -ENOMEM */
static int load_entry(struct registry *r, const cJSON *j)
{
	static const char *const known[] = { "name", "state", "wanted", "pid", "start_ticks", "pgid", "nonce", "run", "since",
		"started_at", "restarts", "streak", "restart_at", "restart_times", "last_exit", "pending_crash", "log", "report",
		"config_digest", "capture", NULL };
	struct registry_entry e;
	int err = entry_from_json(j, &e);

	if (err < 0)
		return err;
	return put_slot(r, &e, unknown_members(j, known)) ? 0 : -ENOMEM;
}

/* --- loading ------------------------------------------------------------------------------------------------------ */

/* One journal line without its newline: "8 hex digits SP JSON". Return: 0 or -EBADMSG */
static int read_journal_line(const char *line, size_t size, cJSON **ret)
{
	char hex[9];
	char *end;
	unsigned long crc;

	if (size < 10 || line[8] != ' ')
		return -EBADMSG;
	memcpy(hex, line, 8);
	hex[8] = '\0';
	if (!isxdigit((unsigned char)hex[0]))
		return -EBADMSG;
	crc = strtoul(hex, &end, 16);
	if (*end || crc32c(0, line + 9, size - 9) != crc)
		return -EBADMSG;
	return json_parse(line + 9, size - 9, ret, NULL) < 0 ? -EBADMSG : 0;
}

/* Applies whole lines newer than the snapshot. Return: bytes that were no good */
static size_t apply_journal(struct registry *r, const char *data, size_t size, uint64_t snapshot_serial)
{
	size_t bad = 0;

	for (size_t at = 0; at < size;) {
		const char *end = memchr(data + at, '\n', size - at);
		size_t n = end ? (size_t)(end - (data + at)) : size - at;
		_cleanup_json_ cJSON *j = NULL;
		uint64_t serial;

		if (!end || read_journal_line(data + at, n, &j) < 0) {
			bad += n + (end != NULL);
			at += n + 1;
			continue;
		}
		at += n + 1;
		serial = (uint64_t)json_get_i64(j, "serial", 0);
		if (serial <= snapshot_serial)
			continue;
		if (serial > serial_max) {
			bad += n;
			continue;
		}
		if (serial > r->serial)
			r->serial = serial;
		if (json_get_string(j, "remove", NULL)) {
			struct slot *s = find(r, json_get_string(j, "remove", ""));

			if (s)
				drop_slot(r, s);
		} else if (load_entry(r, cJSON_GetObjectItemCaseSensitive(j, "put")) < 0) {
			bad += n;
		}
	}
	return bad;
}

/* Return: 0, 1 when the file is damaged, -errno */
static int load_snapshot(struct registry *r, const char *data, size_t size, bool *ret_same_boot)
{
	static const char *const known[] = { "version", "serial", "boot_id", "host", "project", "config", "supervisor_pid",
		"updated_at", "daemons", NULL };
	_cleanup_json_ cJSON *j = NULL;
	const cJSON *d;
	bool damaged = false;

	if (json_parse(data, size, &j, NULL) < 0 || !cJSON_IsObject(j) || json_get_i64(j, "version", 0) != VERSION)
		return 1;
	r->serial = (uint64_t)json_get_i64(j, "serial", 0);
	if (r->serial > serial_max) {
		r->serial = 0;
		damaged = true;
	}
	*ret_same_boot = !strcmp(json_get_string(j, "boot_id", ""), proc_boot_id());
	free(r->extra);
	r->extra = unknown_members(j, known);
	cJSON_ArrayForEach(d, json_get_object(j, "daemons"))
		if (load_entry(r, d) < 0)
			damaged = true;
	return damaged;
}

/* Processes of an earlier boot are gone; their pids may be anybody's. */
static void forget_processes(struct registry *r)
{
	for (size_t i = 0; i < r->n; i++) {
		r->slots[i].e.id = (struct proc_id){ 0 };
		r->slots[i].e.pgid = 0;
	}
}

/* A copy, so that being killed before the new snapshot is written costs nothing: the next one finds the same damage. */
static void set_aside(struct registry *r, const char *name, const char *data, size_t size, struct error *err)
{
	char to[256], when[CLOCK_TEXT_MAX];

	clock_format_utc(clock_now_us(), when);
	snprintf(to, sizeof(to), "%s.damaged-%s", name, when);
	if (file_replace(r->dir, to, data, size, 0600, 0) == 0 || renameat(r->dir, name, r->dir, to) == 0)
		error_set(err, 0, "%s was damaged and is kept as %s; what runs is found again by its environment", name, to);
}

static void write_pid_file(struct registry *r, struct slot *s)
{
	char file[128], path[160], text[16];

	if (s->pid_file == s->e.id.pid)
		return; /* also: there is none and none is wanted */
	snprintf(path, sizeof(path), "pid/%s.pid", paths_file_name(s->e.name, file, sizeof(file)));
	if (s->e.id.pid) {
		snprintf(text, sizeof(text), "%d\n", (int)s->e.id.pid);
		if (file_replace(r->dir, path, text, strlen(text), 0600, 0) < 0)
			return; /* tried again at the next change */
	} else {
		unlinkat(r->dir, path, 0);
	}
	s->pid_file = s->e.id.pid;
}

/*
 * Removes from @folder what a kill left there: half-written files, and PID files of nobody. What the others say is
 * remembered, so that only those are rewritten that are wrong.
 */
static void sweep(struct registry *r, const char *folder, const char *prefix)
{
	int fd = openat(r->dir, folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	_cleanup_(closedirp) DIR *d = fd < 0 ? NULL : fdopendir(fd);
	struct dirent *f;

	if (!d && fd >= 0)
		close(fd);
	while (d && (f = readdir(d))) {
		_cleanup_(freep) char *text = NULL;
		char name[NAME_MAX + 1], *end;
		struct slot *s;

		if (f->d_name[0] == '.' || strncmp(f->d_name, prefix, strlen(prefix)) != 0)
			continue;
		if (strstr(f->d_name, ".tmp.")) {
			unlinkat(fd, f->d_name, 0);
			continue;
		}
		snprintf(name, sizeof(name), "%s", f->d_name);
		end = strrchr(name, '.');
		if (strcmp(folder, "pid") != 0 || !end || strcmp(end, ".pid") != 0)
			continue;
		*end = '\0';
		for (char *p = name; *p; p++)
			if (*p == '@')
				*p = '/';
		s = find(r, name);
		if (!s)
			unlinkat(fd, f->d_name, 0);
		else if (file_read(fd, f->d_name, 32, &text, NULL) == 0 && atoi(text) > 0)
			s->pid_file = atoi(text);
		else
			s->pid_file = -1;
	}
}

static int open_journal(struct registry *r, int flags)
{
	int fd = openat(r->dir, "registry.journal", O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC | O_NOFOLLOW | flags, 0600);

	return fd < 0 ? -errno : fd;
}

int registry_open(struct registry **ret, const char *folder, struct error *err)
{
	_cleanup_(registry_closep) struct registry *r = calloc(1, sizeof(*r));
	_cleanup_(freep) char *snapshot = NULL, *journal = NULL;
	size_t size = 0, journal_size = 0;
	bool same_boot = true;
	uint64_t snapshot_serial;
	int e;

	if (!r)
		return -ENOMEM;
	if (err)
		err->text[0] = '\0';
	r->journal = -1;
	r->dir = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (r->dir < 0)
		return error_set(err, -errno, "cannot open %s: %s", folder, strerror(errno));
	e = file_read(r->dir, "registry.json", FILE_MAX, &snapshot, &size);
	if (e < 0 && e != -ENOENT)
		return error_set(err, e, "cannot read %s/registry.json: %s", folder, strerror(-e));
	if (!e && load_snapshot(r, snapshot, size, &same_boot))
		set_aside(r, "registry.json", snapshot, size, err);
	snapshot_serial = r->serial;
	e = file_read(r->dir, "registry.journal", FILE_MAX, &journal, &journal_size);
	if (e < 0 && e != -ENOENT)
		return error_set(err, e, "cannot read %s/registry.journal: %s", folder, strerror(-e));
	if (!e) {
		const char *last = journal_size ? memrchr(journal, '\n', journal_size) : NULL;
		size_t torn = journal_size - (last ? (size_t)(last + 1 - journal) : 0);

		/* a torn last line is what a kill leaves; anything else is damage */
		if (apply_journal(r, journal, journal_size, snapshot_serial) > torn)
			set_aside(r, "registry.journal", journal, journal_size, err);
	}
	if (!same_boot)
		forget_processes(r);
	for (size_t i = 0; i < r->n; i++) {
		e = print_slot(&r->slots[i]);
		if (e < 0)
			return e;
	}
	sweep(r, ".", "registry.json.");
	sweep(r, "pid", "");
	for (size_t i = 0; i < r->n; i++)
		write_pid_file(r, &r->slots[i]);
	/* a clean base: the journal begins anew with a snapshot that has everything */
	r->dirty = true;
	e = registry_flush(r);
	if (e < 0)
		return error_set(err, e, "cannot write %s/registry.json: %s", folder, strerror(-e));
	*ret = TAKE_PTR(r);
	return 0;
}

int registry_read(const char *folder, cJSON **ret, struct error *err)
{
	_cleanup_(registry_closep) struct registry *r = calloc(1, sizeof(*r));
	_cleanup_(freep) char *snapshot = NULL, *journal = NULL;
	_cleanup_json_ cJSON *j = NULL;
	size_t size = 0, journal_size = 0;
	bool same_boot = true;
	cJSON *daemons;
	int e;

	if (!r)
		return -ENOMEM;
	r->journal = -1;
	r->dir = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (r->dir < 0)
		return error_set(err, -errno, "cannot open %s: %s", folder, strerror(errno));
	/* the journal first: a snapshot taken in between has all of it, and the serials tell */
	e = file_read(r->dir, "registry.journal", FILE_MAX, &journal, &journal_size);
	if (e < 0 && e != -ENOENT)
		return error_set(err, e, "cannot read %s/registry.journal: %s", folder, strerror(-e));
	e = file_read(r->dir, "registry.json", FILE_MAX, &snapshot, &size);
	if (e < 0)
		return error_set(err, e, "cannot read %s/registry.json: %s", folder, strerror(-e));
	if (load_snapshot(r, snapshot, size, &same_boot) < 0 || json_parse(snapshot, size, &j, NULL) < 0)
		return error_set(err, -EBADMSG, "%s/registry.json is damaged", folder);
	if (journal)
		apply_journal(r, journal, journal_size, r->serial);
	if (!same_boot)
		forget_processes(r);
	cJSON_DeleteItemFromObjectCaseSensitive(j, "daemons");
	daemons = json_add_object(j, "daemons");
	for (size_t i = 0; i < r->n; i++) {
		cJSON *d;

		if (print_slot(&r->slots[i]) < 0 || json_parse(r->slots[i].json, strlen(r->slots[i].json), &d, NULL) < 0)
			return -ENOMEM;
		cJSON_AddItemToObject(daemons, r->slots[i].e.name, d);
	}
	*ret = TAKE_PTR(j);
	return 0;
}

/* --- changing ----------------------------------------------------------------------------------------------------- */

void registry_set_header(struct registry *r, const char *project, const char *config_path, pid_t supervisor)
{
	free(r->project);
	free(r->config_path);
	r->project = dup_or_null(project);
	r->config_path = dup_or_null(config_path);
	r->supervisor = supervisor;
	if (!r->dirty)
		r->dirty_since_ms = clock_mono_ms();
	r->dirty = true;
}

/* @value is JSON. */
static int append(struct registry *r, const char *key, const char *value)
{
	_cleanup_text_ struct text t = { 0 };
	char crc[10];
	int e;

	if (!r->dirty)
		r->dirty_since_ms = clock_mono_ms();
	r->dirty = true;
	text_add(&t, "00000000 ");
	text_addf(&t, "{\"serial\":\"%" PRIu64 "\",\"%s\":%s}\n", ++r->serial, key, value);
	if (t.failed)
		return -ENOMEM;
	if (r->journal < 0)
		return -EBADF;
	snprintf(crc, sizeof(crc), "%08x", crc32c(0, t.data + 9, t.size - 10));
	memcpy(t.data, crc, 8);
	e = write_all(r->journal, t.data, t.size);
	if (e < 0) { /* disk full: half a line would spoil the next one */
		if (ftruncate(r->journal, r->journal_bytes) < 0) {
			close(r->journal);
			r->journal = -1;
		}
		return e;
	}
	r->journal_bytes += (off_t)t.size;
	return 0;
}

int registry_put(struct registry *r, const struct registry_entry *e)
{
	struct registry_entry copy = *e;
	struct slot *s;
	int err;

	copy.name = strdup(e->name);
	copy.state = strdup(e->state ? e->state : "unknown");
	copy.log_path = dup_or_null(e->log_path);
	copy.report_path = dup_or_null(e->report_path);
	copy.restart_times_us = dup_times(e->restart_times_us, e->n_restart_times);
	if (!copy.name || !copy.state || (e->n_restart_times && !copy.restart_times_us)) {
		entry_free(&copy);
		return -ENOMEM;
	}
	s = put_slot(r, &copy, NULL);
	if (!s)
		return -ENOMEM;
	err = print_slot(s);
	if (!err)
		err = append(r, "put", s->json);
	write_pid_file(r, s);
	return err;
}

int registry_remove(struct registry *r, const char *name)
{
	_cleanup_text_ struct text quoted = { 0 };
	struct slot *s = find(r, name);

	if (!s)
		return 0;
	text_add(&quoted, "\"");
	text_add_json(&quoted, name, strlen(name)); /* before the slot goes: @name may be its own */
	text_add(&quoted, "\"");
	s->e.id.pid = 0;
	write_pid_file(r, s);
	drop_slot(r, s);
	return quoted.failed ? -ENOMEM : append(r, "remove", quoted.data);
}

int registry_get_timeout(const struct registry *r)
{
	uint64_t waited;

	if (!r->dirty)
		return -1;
	waited = clock_mono_ms() - r->dirty_since_ms;
	return waited >= REGISTRY_COALESCE_MS ? 0 : (int)(REGISTRY_COALESCE_MS - waited);
}

int registry_flush(struct registry *r)
{
	_cleanup_text_ struct text t = { 0 };
	char now[CLOCK_TEXT_MAX];
	int e;

	text_addf(&t, "{\n\"version\":%d,\n\"serial\":\"%" PRIu64 "\",\n\"boot_id\":\"%s\",\n\"host\":\"%s\",\n", VERSION,
	    r->serial, proc_boot_id(), proc_hostname());
	text_add(&t, "\"project\":\"");
	text_add_json(&t, r->project ? r->project : "", r->project ? strlen(r->project) : 0);
	text_add(&t, "\",\n\"config\":\"");
	text_add_json(&t, r->config_path ? r->config_path : "", r->config_path ? strlen(r->config_path) : 0);
	text_addf(&t, "\",\n\"supervisor_pid\":%d,\n\"updated_at\":\"%s\",\n\"daemons\":{", (int)r->supervisor,
	    clock_format_utc(clock_now_us(), now));
	for (size_t i = 0; i < r->n; i++) {
		text_add(&t, i ? ",\n\"" : "\n\"");
		text_add_json(&t, r->slots[i].e.name, strlen(r->slots[i].e.name));
		text_add(&t, "\":");
		text_add(&t, r->slots[i].json ? r->slots[i].json : "null");
	}
	text_add(&t, "\n}");
	if (r->extra)
		text_addf(&t, ",\n%s", r->extra);
	text_add(&t, "\n}\n");
	if (t.failed)
		return -ENOMEM;
	e = file_replace(r->dir, "registry.json", t.data, t.size, 0600, 0);
	if (e < 0) {
		r->dirty_since_ms = clock_mono_ms(); /* again in a while */
		return e;
	}
	r->dirty = false;
	if (r->journal >= 0)
		close(r->journal);
	r->journal = open_journal(r, O_TRUNC);
	r->journal_bytes = 0;
	return r->journal < 0 ? r->journal : 0;
}
