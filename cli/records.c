/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Nothing may be missing between the parts: the store's mark is read first, then the spool behind it, then the store. A
 * record that the writer moves from spool to store meanwhile is found in both, and taken once by its id.
 */
#define PCRE2_CODE_UNIT_WIDTH 8

#include "cli/records.h"

#include <errno.h>
#include <fcntl.h>
#include <fnmatch.h>
#include <pcre2.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/inotify.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zstd.h>

#include "base/clock.h"
#include "base/file.h"
#include "config/config.h"
#include "db/store.h"
#include "log/spool.h"

enum { SPOOLS = 2, LINE_MAX_BYTES = 4 << 20 };

static const char *const spools[SPOOLS] = { "spool/logger", "spool/supervisor" };

/* Records outlive the reader's buffers here: payload bytes and the record that points into them. */
struct kept {
	char *payload;
	struct record r;
	uint64_t serial; /* of arrival: order where times are equal and there is no id */
};

struct keeper { /* the latest `limit`, or all */
	struct kept *items;
	size_t n, room;
	uint64_t limit, serial;
	bool cut;
};

struct log_file {
	char name[NAME_MAX + 1]; /* below log/ */
	int fd;
	ino_t inode;
	struct text rest; /* a line that is not whole yet */
};

struct records {
	struct cli *c;
	bool lines_in_files; /* daemons' lines are not stored */
	bool store;
	struct spool_reader *readers[SPOOLS];
	uint64_t last_seq[SPOOLS];
	struct log_file *files;
	size_t n_files;
	int watch; /* inotify on log/, -1 */
};

/* --- filter ------------------------------------------------------------------------------------------------------- */

bool daemon_matches(const char *name, const char *pattern)
{
	size_t n = strlen(pattern);

	return !strcmp(pattern, "all") || !strcmp(name, pattern) || (!strncmp(name, pattern, n) && name[n] == '/') ||
	    (strpbrk(pattern, "*?[") && fnmatch(pattern, name, 0) == 0);
}

static bool differs(const char *want, struct view have)
{
	return want && (have.size != strlen(want) || memcmp(have.data, want, have.size));
}

static bool regex_matches(const struct record_filter *f, struct view text)
{
	static pcre2_match_data *data;
	static pcre2_match_context *limits;
	int r;

	if (!data) {
		data = pcre2_match_data_create(1, NULL);
		limits = pcre2_match_context_create(NULL);
		if (!data || !limits)
			return false;
		/* no pattern may stall the reader */
		pcre2_set_match_limit(limits, 1000000);
		pcre2_set_heap_limit(limits, 16384);
	}
	r = pcre2_match(f->regex, (PCRE2_SPTR)(text.data ? text.data : ""), text.size, 0, 0, data, limits);
	if (r < 0 && r != PCRE2_ERROR_NOMATCH && f->too_hard)
		(*f->too_hard)++;
	return r >= 0;
}

bool record_matches(const struct record_filter *f, const struct record *r)
{
	bool hit = true;

	if (f->kind && r->kind != f->kind)
		return false;
	if (f->n_daemons) {
		bool any = false;
		char name[128];

		snprintf(name, sizeof(name), "%.*s", (int)r->daemon.size, r->daemon.data ? r->daemon.data : "");
		for (size_t i = 0; i < f->n_daemons && !any; i++)
			any = daemon_matches(name, f->daemons[i]);
		if (!any)
			return false;
	}
	if (differs(f->experiment, r->experiment) || differs(f->node, r->node_id) || differs(f->stage, r->stage) ||
	    differs(f->stream, r->logger_name))
		return false;
	if ((f->level && r->level < f->level) || (f->level_exact && r->level != f->level_exact) || (f->pid && r->pid != f->pid) ||
	    (f->since_us && r->ts_us < f->since_us) || (f->until_us && r->ts_us >= f->until_us))
		return false;
	if (f->search) {
		size_t n = strlen(f->search);

		hit = false;
		for (size_t i = 0; i + n <= r->message.size && !hit; i++)
			hit = !strncasecmp(r->message.data + i, f->search, n);
	}
	if (hit && f->regex)
		hit = regex_matches(f, r->message);
	return f->search || f->regex ? hit != f->invert : true;
}

/* --- keeping ------------------------------------------------------------------------------------------------------ */

static int by_time(const void *a, const void *b)
{
	const struct kept *x = a, *y = b;
	int order;

	if (x->r.ts_us != y->r.ts_us)
		return x->r.ts_us < y->r.ts_us ? -1 : 1;
	/* what one step wrote has one time: its ids ascend */
	order = memcmp(x->r.id.b, y->r.id.b, sizeof(x->r.id.b));
	return order ? order : x->serial < y->serial ? -1 : x->serial > y->serial;
}

static bool is_double(const struct kept *x, const struct kept *y)
{
	static const struct uuid none;

	return memcmp(&x->r.id, &none, sizeof(none)) && !memcmp(&x->r.id, &y->r.id, sizeof(none));
}

/* Sorts, drops doubles, and all but the latest. */
static void keeper_sort(struct keeper *k)
{
	size_t n = 0, excess;

	if (!k->n)
		return;
	qsort(k->items, k->n, sizeof(*k->items), by_time);
	for (size_t i = 0; i < k->n; i++) {
		if (n && is_double(&k->items[n - 1], &k->items[i]))
			free(k->items[i].payload);
		else
			k->items[n++] = k->items[i];
	}
	k->n = n;
	if (!k->limit || n <= k->limit)
		return;
	excess = n - (size_t)k->limit;
	for (size_t i = 0; i < excess; i++)
		free(k->items[i].payload);
	memmove(k->items, k->items + excess, (n - excess) * sizeof(*k->items));
	k->n = n - excess;
	k->cut = true;
}

static int keep(const struct record *r, void *userdata)
{
	struct keeper *k = userdata;
	_cleanup_text_ struct text t = { 0 };
	struct kept *x;
	int err;

	if (record_encode(r, &t) < 0 || t.failed)
		return -ENOMEM;
	if (k->limit && k->n >= 2 * k->limit + 1024)
		keeper_sort(k);
	if (k->n == k->room) {
		size_t room = k->room ? k->room * 2 : 256;
		void *p = realloc(k->items, room * sizeof(*k->items));

		if (!p)
			return -ENOMEM;
		k->items = p;
		k->room = room;
	}
	x = &k->items[k->n];
	*x = (struct kept){ .payload = malloc(t.size ? t.size : 1), .serial = k->serial++ };
	if (!x->payload)
		return -ENOMEM;
	memcpy(x->payload, t.data, t.size);
	err = record_decode(x->payload, t.size, &x->r);
	if (err < 0) {
		free(x->payload);
		return err;
	}
	k->n++;
	return 0;
}

static void keeper_free(struct keeper *k)
{
	for (size_t i = 0; i < k->n; i++)
		free(k->items[i].payload);
	free(k->items);
}

/* --- store and spool ---------------------------------------------------------------------------------------------- */

struct filtered { /* of any source, into a record_fn */
	struct records *s;
	const struct record_filter *f;
	record_fn fn;
	void *userdata;
};

static int pass(const struct filtered *to, const struct record *r)
{
	/* what an earlier configuration put into the store is in the files as well */
	if (to->s->lines_in_files && r->kind == RECORD_LOG && (!differs("stdout", r->logger_name) || !differs("stderr", r->logger_name)))
		return 0;
	return record_matches(to->f, r) ? to->fn(r, to->userdata) : 0;
}

static int on_row(const struct store_row *row, void *userdata)
{
	return pass(userdata, &row->record);
}

static int open_store(struct records *s, struct store **ret)
{
	struct store_options o = { .type = "sqlite", .read_only = true };
	struct error err = { "" };
	char path[PATH_MAX];
	int r;

	o.path = path_format(path, sizeof(path), s->c->paths.state, "supervise.db");
	r = store_open(ret, &o, &err);
	if (r == -ENOENT || r == 0)
		return 0;
	return cli_fail(CLI_UNAVAILABLE, "The log files can still be read: they are in the folder log/ beside it", "%s: %s", o.path,
	    err.text);
}

static int query_store(struct store *store, struct filtered *to, uint64_t limit)
{
	const struct record_filter *f = to->f;
	/* what the store cannot judge is judged here; then it is asked for everything */
	bool here = f->regex || f->invert || to->s->lines_in_files, patterns = false;
	struct error err = { "" };
	int r;

	for (size_t i = 0; i < f->n_daemons; i++)
		patterns |= strpbrk(f->daemons[i], "*?[") || !strcmp(f->daemons[i], "all");
	if (limit && limit < UINT64_MAX) /* one more tells whether something is left out */
		limit++;
	if (f->kind == RECORD_LOG) {
		struct log_query q = { .daemons = patterns ? NULL : f->daemons, .n_daemons = patterns ? 0 : f->n_daemons,
			.experiment = f->experiment, .node = f->node, .stage = f->stage, .level = f->level,
			.level_exact = f->level_exact, .search = f->invert ? NULL : f->search, .stream = f->stream, .pid = f->pid,
			.since_us = f->since_us, .until_us = f->until_us, .limit = here || patterns ? 0 : limit };

		r = store_query_logs(store, &q, on_row, to, &err);
	} else {
		struct event_query q = { .daemons = patterns ? NULL : f->daemons, .n_daemons = patterns ? 0 : f->n_daemons,
			.experiment = f->experiment, .level = f->level, .since_us = f->since_us, .until_us = f->until_us,
			.limit = here || patterns || f->search || f->level_exact ? 0 : limit };

		r = store_query_events(store, &q, on_row, to, &err);
	}
	return r < 0 ? cli_fail(CLI_UNAVAILABLE, "supervise doctor looks at the store", "%s", err.text[0] ? err.text : strerror(-r)) : r;
}

/* From the store's mark on to the present end; the reader stays there for a follow. */
static int read_spool(struct records *s, int which, struct store *store, struct filtered *to)
{
	char folder[PATH_MAX];
	struct spool_frame frame;
	struct uuid source;
	struct error err;
	uint64_t mark = 0;
	int r = 0, got;

	path_format(folder, sizeof(folder), s->c->paths.state, "%s", spools[which]);
	if (store && spool_read_source(folder, &source) == 0 && store_get_mark(store, &source, NULL, NULL, &mark, &err) < 0)
		mark = 0;
	s->readers[which] = spool_reader_close(s->readers[which]);
	if (spool_reader_open(&s->readers[which], folder, mark, &err) < 0)
		return cli_fail(CLI_IO, NULL, "%s", err.text);
	s->last_seq[which] = mark;
	while (!r && (got = spool_reader_next(s->readers[which], &frame, NULL)) == 1) {
		struct record rec;

		s->last_seq[which] = frame.seq;
		if (record_decode(frame.payload, frame.size, &rec) == 0)
			r = pass(to, &rec);
	}
	return r;
}

/* --- log files ---------------------------------------------------------------------------------------------------- */

/* One line of a log file as a record, whatever its format. */
static int on_line(const char *line, size_t size, const char *file, const struct filtered *to)
{
	_cleanup_json_ cJSON *j = NULL;
	_cleanup_text_ struct text context = { 0 };
	struct record r = { .kind = RECORD_LOG, .level = LEVEL_INFO };
	char name[128];
	const char *instance, *when;

	/* FILE.log of "train/0" is train@0.log */
	snprintf(name, sizeof(name), "%.*s", (int)(strstr(file, ".log") - file), file);
	for (char *p = name; *p; p++)
		if (*p == '@')
			*p = '/';
	if (size && *line == '{' && json_parse(line, size, &j, NULL) == 0) {
		when = json_get_string(j, "timestamp", "");
		if (clock_parse_utc(when, &r.ts_us) < 0)
			return 0;
		instance = json_get_string(j, "instance", NULL);
		snprintf(name, sizeof(name), instance ? "%s/%s" : "%s", json_get_string(j, "daemon", name), instance);
		r.level = log_level_from_string(json_get_string(j, "level", "INFO"));
		r.run = VIEW_OF(json_get_string(j, "run", NULL));
		r.logger_name = VIEW_OF(json_get_string(j, "logger_name", json_get_string(j, "stream", NULL)));
		r.message = VIEW_OF(json_get_string(j, "message", ""));
		r.experiment = VIEW_OF(json_get_string(j, "experiment_id", NULL));
		r.node_id = VIEW_OF(json_get_string(j, "node_id", NULL));
		r.stage = VIEW_OF(json_get_string(j, "stage", NULL));
		r.traceback = VIEW_OF(json_get_string(j, "traceback", NULL));
		r.pid = (int32_t)json_get_i64(j, "pid", 0);
		if (json_get_bool(j, "continued", false) || json_get_bool(j, "partial", false) || json_get_string(j, "raw", NULL)) {
			text_addf(&context, "{\"continued\":%s,\"partial\":%s", json_get_bool(j, "continued", false) ? "true" : "false",
			    json_get_bool(j, "partial", false) ? "true" : "false");
			if (json_get_string(j, "raw", NULL))
				text_addf(&context, ",\"raw\":\"%s\"", json_get_string(j, "raw", ""));
			text_add(&context, "}");
			r.context = (struct view){ context.data, context.size };
		}
	} else { /* text: "TIME STREAM LEVEL MESSAGE"; raw: the line is all there is */
		char time[CLOCK_TEXT_MAX];
		const char *p = memchr(line, ' ', size < sizeof(time) ? size : sizeof(time) - 1);
		size_t left;

		snprintf(time, sizeof(time), "%.*s", p ? (int)(p - line) : 0, line);
		r.message = (struct view){ line, size };
		if (p && clock_parse_utc(time, &r.ts_us) == 0) {
			left = size - (size_t)(p - line);
			if (left > 8 && (!memcmp(p, " stdout ", 8) || !memcmp(p, " stderr ", 8))) {
				const char *level = p + 8, *end = memchr(level, ' ', left - 8);

				r.logger_name = (struct view){ p + 1, 6 };
				if (end && end - level < (int)sizeof(time)) {
					snprintf(time, sizeof(time), "%.*s", (int)(end - level), level);
					r.level = log_level_from_string(time);
					r.message = (struct view){ end + 1, size - (size_t)(end + 1 - line) };
				}
			}
		}
	}
	if (!r.level)
		r.level = LEVEL_INFO;
	r.daemon = VIEW_OF(name);
	return record_matches(to->f, &r) ? to->fn(&r, to->userdata) : 0;
}

/* Hands on every whole line of @rest; keeps what is left. */
static int take_lines(struct text *rest, const char *file, const struct filtered *to)
{
	size_t at = 0;
	int r = 0;
	char *end;

	while (!r && at < rest->size && (end = memchr(rest->data + at, '\n', rest->size - at))) {
		r = on_line(rest->data + at, (size_t)(end - rest->data) - at, file, to);
		at = (size_t)(end - rest->data) + 1;
	}
	if (!r && rest->size - at > LINE_MAX_BYTES) { /* none of our files has such a line */
		at = rest->size;
	}
	if (at) {
		memmove(rest->data, rest->data + at, rest->size - at);
		rest->size -= at;
	}
	return r;
}

static int drain_file(struct log_file *l, const struct filtered *to)
{
	char buf[65536];
	ssize_t n;
	int r = 0;

	while (!r && l->fd >= 0 && (n = read(l->fd, buf, sizeof(buf))) > 0) {
		text_add_bytes(&l->rest, buf, (size_t)n);
		r = l->rest.failed ? cli_fail(CLI_TRY_AGAIN, NULL, "out of memory") : take_lines(&l->rest, l->name, to);
	}
	return r;
}

static int read_compressed(int fd, const char *name, const struct filtered *to)
{
	ZSTD_DStream *z = ZSTD_createDStream();
	_cleanup_text_ struct text rest = { 0 };
	static char in[65536], out[131072];
	ssize_t n;
	int r = 0;

	while (z && !r && (n = read(fd, in, sizeof(in))) > 0) {
		ZSTD_inBuffer from = { in, (size_t)n, 0 };

		while (!r && from.pos < from.size) {
			ZSTD_outBuffer into = { out, sizeof(out), 0 };

			if (ZSTD_isError(ZSTD_decompressStream(z, &into, &from))) {
				cli_note(to->s->c, "note: log/%s is damaged; what follows in it is left out", name);
				ZSTD_freeDStream(z);
				return 0;
			}
			text_add_bytes(&rest, out, into.pos);
			r = take_lines(&rest, name, to);
		}
	}
	ZSTD_freeDStream(z);
	return r;
}

static bool ends_with(const char *s, const char *end)
{
	size_t n = strlen(s), m = strlen(end);

	return n > m && !strcmp(s + n - m, end);
}

/* The entry of a FILE.log, made if need be. */
static struct log_file *get_file(struct records *s, const char *name)
{
	void *p;

	for (size_t i = 0; i < s->n_files; i++)
		if (!strcmp(s->files[i].name, name))
			return &s->files[i];
	p = realloc(s->files, (s->n_files + 1) * sizeof(*s->files));
	if (!p)
		return NULL;
	s->files = p;
	s->files[s->n_files] = (struct log_file){ .fd = -1 };
	snprintf(s->files[s->n_files].name, sizeof(s->files[s->n_files].name), "%s", name);
	return &s->files[s->n_files++];
}

/* Every FILE.log from where it was left, through a rotation too: the old file is read to its end, then the new one. */
static int read_current(struct records *s, const struct filtered *to)
{
	char folder[PATH_MAX];
	_cleanup_(closedirp) DIR *d = opendir(path_format(folder, sizeof(folder), s->c->paths.state, "log"));
	struct dirent *e;
	int r = 0;

	while (d && !r && (e = readdir(d))) {
		struct log_file *l;
		struct stat st;

		if (!ends_with(e->d_name, ".log"))
			continue;
		l = get_file(s, e->d_name);
		if (!l)
			return cli_fail(CLI_TRY_AGAIN, NULL, "out of memory");
		r = drain_file(l, to);
		if (r || (l->fd >= 0 && fstatat(dirfd(d), l->name, &st, AT_SYMLINK_NOFOLLOW) == 0 && st.st_ino == l->inode))
			continue;
		if (l->fd >= 0)
			close(l->fd);
		l->rest.size = 0;
		l->fd = openat(dirfd(d), l->name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
		if (l->fd < 0 || fstat(l->fd, &st) < 0)
			continue;
		l->inode = st.st_ino;
		r = drain_file(l, to);
	}
	return r;
}

/* FILE.log.TIME, FILE.log.TIME.zst; not the unfinished ones */
static int is_rotated(const struct dirent *e)
{
	return strstr(e->d_name, ".log.") && !ends_with(e->d_name, ".tmp");
}

/* The names of one daemon's files ascend with time. */
static int read_rotated(struct records *s, const struct filtered *to)
{
	struct dirent **list = NULL;
	char folder[PATH_MAX];
	int n = scandir(path_format(folder, sizeof(folder), s->c->paths.state, "log"), &list, is_rotated, alphasort), r = 0;
	_cleanup_(closep) int dir = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	for (int i = 0; i < n; i++) {
		struct log_file l = { .fd = -1 };

		if (!r && dir >= 0)
			l.fd = openat(dir, list[i]->d_name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
		if (l.fd >= 0) {
			snprintf(l.name, sizeof(l.name), "%s", list[i]->d_name);
			r = ends_with(l.name, ".zst") ? read_compressed(l.fd, l.name, to) : drain_file(&l, to);
			close(l.fd);
			text_free(&l.rest);
		}
		free(list[i]);
	}
	free(list);
	return r;
}

/* The rotated files are looked at only when the current ones have too little. */
static int read_files(struct records *s, const struct filtered *to, struct keeper *k)
{
	_cleanup_(keeper_free) struct keeper current = { .limit = k->limit };
	struct filtered to_current = { s, to->f, keep, &current };
	int r = read_current(s, &to_current);

	if (!r && (!k->limit || current.n <= k->limit))
		r = read_rotated(s, to);
	k->cut |= current.cut;
	for (size_t i = 0; i < current.n && !r; i++)
		r = keep(&current.items[i].r, k);
	return r;
}

/* --- all ---------------------------------------------------------------------------------------------------------- */

int records_open(struct records **ret, struct cli *c)
{
	_cleanup_(records_closep) struct records *s = calloc(1, sizeof(*s));
	_cleanup_(freep) char *text = NULL;
	_cleanup_json_ cJSON *j = NULL;
	_cleanup_(config_freep) struct config *config = NULL;
	char path[PATH_MAX];

	if (!s)
		return cli_fail(CLI_TRY_AGAIN, NULL, "out of memory");
	s->c = c;
	s->watch = -1;
	if (file_read(AT_FDCWD, path_format(path, sizeof(path), c->paths.runtime, "config.json"), 64 << 20, &text, NULL) == 0 &&
	    json_parse(text, strlen(text), &j, NULL) == 0 && config_from_json(j, &config, NULL) == 0)
		s->lines_in_files = config->store.type == STORE_NONE || !config->monitoring.enable_database_logging;
	else /* after a reboot, say: by what there is */
		s->lines_in_files = access(path_format(path, sizeof(path), c->paths.state, "supervise.db"), F_OK) &&
		    access(path_format(path, sizeof(path), c->paths.state, "spool/logger/source"), F_OK);
	*ret = TAKE_PTR(s);
	return 0;
}

struct records *records_close(struct records *s)
{
	if (!s)
		return NULL;
	for (int i = 0; i < SPOOLS; i++)
		spool_reader_close(s->readers[i]);
	for (size_t i = 0; i < s->n_files; i++) {
		if (s->files[i].fd >= 0)
			close(s->files[i].fd);
		text_free(&s->files[i].rest);
	}
	free(s->files);
	if (s->watch >= 0)
		close(s->watch);
	free(s);
	return NULL;
}

int records_read(struct records *s, const struct record_filter *f, uint64_t limit, bool reverse, bool *ret_cut, record_fn fn,
    void *userdata)
{
	_cleanup_(store_closep) struct store *store = NULL;
	_cleanup_(keeper_free) struct keeper k = { .limit = limit };
	struct filtered to = { s, f, keep, &k };
	int r = open_store(s, &store);

	for (int i = 0; i < SPOOLS && !r; i++)
		r = read_spool(s, i, store, &to);
	if (!r && store)
		r = query_store(store, &to, limit);
	if (!r && s->lines_in_files && f->kind == RECORD_LOG)
		r = read_files(s, &to, &k);
	if (r)
		return r < 0 ? cli_fail(CLI_TRY_AGAIN, NULL, "%s", strerror(-r)) : r;
	keeper_sort(&k);
	*ret_cut = k.cut;
	for (size_t i = 0; i < k.n && !r; i++)
		r = fn(&k.items[reverse ? k.n - 1 - i : i].r, userdata);
	return r;
}

/* What came to one spool since the last look. */
static int follow_spool(struct records *s, int which, const struct filtered *to)
{
	struct spool_frame frame;
	char folder[PATH_MAX];
	struct error err;
	int r = 0, got;

	while (!r && (got = spool_reader_next(s->readers[which], &frame, NULL)) != 0) {
		struct record rec;

		if (got == -ESTALE) { /* begun anew: all of it is new */
			s->readers[which] = spool_reader_close(s->readers[which]);
			s->last_seq[which] = 0;
			if (spool_reader_open(&s->readers[which],
				path_format(folder, sizeof(folder), s->c->paths.state, "%s", spools[which]), 0, &err) < 0)
				return cli_fail(CLI_IO, NULL, "%s", err.text);
			continue;
		}
		if (got < 0)
			return cli_fail(CLI_IO, NULL, "cannot read %s: %s", spools[which], strerror(-got));
		/* whoever reads our output was so slow that the spool went on without us */
		if (s->last_seq[which] && frame.seq > s->last_seq[which] + 1)
			cli_note(s->c, "-- up to %llu records are missing here, they were stored meanwhile: supervise logs --since shows them --",
			    (unsigned long long)(frame.seq - s->last_seq[which] - 1));
		s->last_seq[which] = frame.seq;
		if (record_decode(frame.payload, frame.size, &rec) == 0)
			r = pass(to, &rec);
	}
	return r;
}

int records_follow(struct records *s, const struct record_filter *f, record_fn fn, void *userdata)
{
	struct filtered to = { s, f, fn, userdata };
	bool files = s->lines_in_files && f->kind == RECORD_LOG;
	char folder[PATH_MAX], events[4096];
	int r = 0;

	if (files) {
		path_format(folder, sizeof(folder), s->c->paths.state, "log");
		s->watch = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);
		if (s->watch < 0 || inotify_add_watch(s->watch, folder, IN_MODIFY | IN_CREATE | IN_MOVED_TO) < 0)
			return cli_fail(cli_code(-errno), "Nothing was written yet? Start it with: supervise up", "cannot watch %s: %s", folder,
			    strerror(errno));
	}
	for (;;) {
		struct pollfd fds[SPOOLS + 2];

		/* the descriptors are made before the first look, so nothing falls between */
		for (int i = 0; i < SPOOLS && !r; i++)
			r = follow_spool(s, i, &to);
		while (files && read(s->watch, events, sizeof(events)) > 0)
			;
		if (files && !r)
			r = read_current(s, &to);
		fflush(stdout);
		if (r || ferror(stdout))
			return r;
		for (int i = 0; i < SPOOLS; i++)
			fds[i] = (struct pollfd){ .fd = spool_reader_get_fd(s->readers[i]), .events = POLLIN };
		fds[SPOOLS] = (struct pollfd){ .fd = STDOUT_FILENO }; /* POLLERR: the reader of our output left */
		fds[SPOOLS + 1] = (struct pollfd){ .fd = s->watch, .events = POLLIN };
		if (poll(fds, ARRAY_SIZE(fds), -1) < 0 && errno != EINTR)
			return cli_fail(CLI_IO, NULL, "poll: %s", strerror(errno));
		if (fds[SPOOLS].revents & (POLLERR | POLLNVAL))
			return 0;
	}
}
