/* SPDX-License-Identifier: Apache-2.0 */
#define PCRE2_CODE_UNIT_WIDTH 8

#include "cli/records.h"

#include <errno.h>
#include <fcntl.h>
#include <fnmatch.h>
#include <pcre2.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/file.h"
#include "cli/cli.h"
#include "db/store.h"
#include "log/spool.h"

/* Records outlive the reader's buffers here: payload bytes and the record that points into them. */
struct kept {
	char *payload;
	struct record r;
};

struct ring { /* the latest `limit`, or all */
	struct kept *items;
	size_t n, room, first;
	uint64_t limit;
	bool cut;
};

/* Positions from which a follow goes on. */
static uint64_t seen[2];
static const char *const spools[2] = { "spool/logger", "spool/supervisor" };

bool record_matches(const struct record_filter *f, const struct record *r)
{
	bool hit = true;

	if (f->kind && r->kind != f->kind)
		return false;
	if (f->n_daemons) {
		bool any = false;
		char name[128];

		snprintf(name, sizeof(name), "%.*s", (int)r->daemon.size, r->daemon.data ? r->daemon.data : "");
		for (size_t i = 0; i < f->n_daemons && !any; i++) {
			size_t n = strlen(f->daemons[i]);

			any = !strcmp(name, f->daemons[i]) || (!strncmp(name, f->daemons[i], n) && name[n] == '/') ||
			    !strcmp(f->daemons[i], "all") || fnmatch(f->daemons[i], name, 0) == 0;
		}
		if (!any)
			return false;
	}
#define DIFFERS(want, have) (f->want && ((have).size != strlen(f->want) || memcmp((have).data, f->want, (have).size)))
	if (DIFFERS(experiment, r->experiment) || DIFFERS(node, r->node_id) || DIFFERS(stage, r->stage) ||
	    DIFFERS(stream, r->logger_name) || DIFFERS(event_type, r->event_type))
		return false;
	if ((f->level && r->level < f->level) || (f->level_exact && r->level != f->level_exact) || (f->pid && r->pid != f->pid) ||
	    (f->since_us && r->ts_us < f->since_us) || (f->until_us && r->ts_us > f->until_us))
		return false;
	if (f->search) {
		size_t n = strlen(f->search);

		hit = false;
		for (size_t i = 0; i + n <= r->message.size && !hit; i++)
			hit = !strncasecmp(r->message.data + i, f->search, n);
	}
	if (hit && f->regex) {
		pcre2_match_data *m = pcre2_match_data_create_from_pattern(f->regex, NULL);
		pcre2_match_context *limits = pcre2_match_context_create(NULL);

		/* no pattern may stall the reader: a line that takes longer counts as no match */
		pcre2_set_match_limit(limits, 100000);
		pcre2_set_heap_limit(limits, 8192);
		hit = pcre2_match(f->regex, (PCRE2_SPTR)r->message.data, r->message.size, 0, PCRE2_NO_UTF_CHECK, m, limits) >= 0;
		pcre2_match_data_free(m);
		pcre2_match_context_free(limits);
	}
	return f->search || f->regex ? hit != f->invert : true;
}

/* --- keeping ------------------------------------------------------------------------------------------------------ */

static int keep(struct ring *k, const struct record *r)
{
	_cleanup_text_ struct text t = { 0 };
	struct kept *x;

	if (record_encode(r, &t) < 0 || t.failed)
		return -ENOMEM;
	if (k->limit && k->n == k->limit) {
		x = &k->items[k->first];
		free(x->payload);
		k->first = (k->first + 1) % k->n;
		k->cut = true;
	} else {
		if (k->n == k->room) {
			size_t room = k->room ? k->room * 2 : 128;
			void *p = realloc(k->items, room * sizeof(*k->items));

			if (!p)
				return -ENOMEM;
			k->items = p;
			k->room = room;
		}
		x = &k->items[k->n++];
	}
	x->payload = malloc(t.size ? t.size : 1);
	if (!x->payload)
		return -ENOMEM;
	memcpy(x->payload, t.data, t.size);
	return record_decode(x->payload, t.size, &x->r);
}

static void ring_free(struct ring *k)
{
	for (size_t i = 0; i < k->n; i++)
		free(k->items[i].payload);
	free(k->items);
}

static int by_time(const void *a, const void *b)
{
	const struct kept *x = a, *y = b;

	if (x->r.ts_us != y->r.ts_us)
		return x->r.ts_us < y->r.ts_us ? -1 : 1;
	/* one batch has one time: the ids ascend */
	return memcmp(x->r.id.b, y->r.id.b, sizeof(x->r.id.b));
}

/* --- store and spool ---------------------------------------------------------------------------------------------- */

struct from_store {
	struct ring *ring;
	const struct record_filter *f;
};

static int on_row(const struct store_row *row, void *userdata)
{
	struct from_store *s = userdata;

	return record_matches(s->f, &row->record) ? keep(s->ring, &row->record) : 0;
}

static int read_store(struct cli *c, const struct record_filter *f, struct ring *ring, struct store **ret)
{
	struct store_options o = { .type = "sqlite", .read_only = true };
	struct from_store to = { ring, f };
	char path[PATH_MAX];
	struct error err = { "" };
	bool exact = !f->regex && !f->invert && !f->search;
	/* patterns are matched here, so the store is asked for everything then */
	bool patterns = false;
	int r;

	for (size_t i = 0; i < f->n_daemons; i++)
		patterns |= strpbrk(f->daemons[i], "*?[") != NULL || !strcmp(f->daemons[i], "all");
	o.path = path_format(path, sizeof(path), c->paths.state, "supervise.db");
	r = store_open(ret, &o, &err);
	if (r == -ENOENT)
		return 0;
	if (r < 0)
		return cli_fail(CLI_UNAVAILABLE, "Log files can still be read: see the folder log/ in the state folder", "%s", err.text);
	if (f->kind == RECORD_LOG) {
		struct log_query q = { .daemons = patterns ? NULL : f->daemons, .n_daemons = patterns ? 0 : f->n_daemons,
			.experiment = f->experiment, .node = f->node, .stage = f->stage, .level = f->level,
			.level_exact = f->level_exact, .search = f->invert ? NULL : f->search, .stream = f->stream, .pid = f->pid,
			.since_us = f->since_us, .until_us = f->until_us };

		/* one more than asked for tells whether something was left out */
		q.limit = ring->limit && !f->regex && !f->invert && !patterns ? ring->limit + 1 : 0;
		(void)exact;
		r = store_query_logs(*ret, &q, on_row, &to, &err);
	} else {
		struct event_query q = { .daemons = patterns ? NULL : f->daemons, .n_daemons = patterns ? 0 : f->n_daemons,
			.experiment = f->experiment, .level = f->level, .since_us = f->since_us, .until_us = f->until_us };

		q.limit = ring->limit && !patterns ? ring->limit + 1 : 0;
		r = store_query_events(*ret, &q, on_row, &to, &err);
	}
	return r < 0 ? cli_fail(CLI_UNAVAILABLE, NULL, "%s", err.text) : 0;
}

/* What the store does not have yet. The mark is read before the rows are, so nothing falls between. */
static int read_spool(struct cli *c, int which, uint64_t mark, const struct record_filter *f, struct ring *ring)
{
	_cleanup_(spool_reader_closep) struct spool_reader *reader = NULL;
	char folder[PATH_MAX];
	struct spool_frame frame;
	struct error err;

	seen[which] = mark;
	if (spool_reader_open(&reader, path_format(folder, sizeof(folder), c->paths.state, "%s", spools[which]), mark, &err) < 0)
		return 0;
	while (spool_reader_next(reader, &frame, NULL) == 1) {
		struct record r;

		seen[which] = frame.seq;
		if (record_decode(frame.payload, frame.size, &r) == 0 && record_matches(f, &r) && keep(ring, &r) < 0)
			return cli_fail(CLI_OS, NULL, "out of memory");
	}
	return 0;
}

static bool has_store(const struct cli *c)
{
	char path[PATH_MAX];

	return !access(path_format(path, sizeof(path), c->paths.state, "supervise.db"), F_OK) ||
	    !access(path_format(path, sizeof(path), c->paths.state, "spool/logger/source"), F_OK);
}

/* --- log files ---------------------------------------------------------------------------------------------------- */

/* One line of a JSON log file as a record; views point into @j. */
static bool from_line(const cJSON *j, const char *file, struct record *ret, char name[128])
{
	const char *stream = json_get_string(j, "logger_name", json_get_string(j, "stream", "")),
		   *instance = json_get_string(j, "instance", NULL), *when = json_get_string(j, "timestamp", NULL);

	*ret = (struct record){ .kind = RECORD_LOG };
	if (!when || clock_parse_utc(when, &ret->ts_us) < 0)
		return false;
	snprintf(name, 128, instance ? "%s/%s" : "%s%s", json_get_string(j, "daemon", file), instance ? instance : "");
	ret->daemon = VIEW_OF(name);
	ret->level = log_level_from_string(json_get_string(j, "level", "INFO"));
	ret->logger_name = VIEW_OF(stream);
	ret->message = VIEW_OF(json_get_string(j, "message", ""));
	ret->experiment = VIEW_OF(json_get_string(j, "experiment_id", NULL));
	ret->node_id = VIEW_OF(json_get_string(j, "node_id", NULL));
	ret->stage = VIEW_OF(json_get_string(j, "stage", NULL));
	ret->pid = (int32_t)json_get_i64(j, "pid", 0);
	return true;
}

static int read_file(struct cli *c, const char *file, off_t from, off_t *ret_end, const struct record_filter *f, record_fn fn,
    void *userdata)
{
	_cleanup_(fclosep) FILE *in = NULL;
	_cleanup_(freep) char *line = NULL;
	char path[PATH_MAX], base[128];
	size_t room = 0;
	ssize_t n;
	int r = 0;

	snprintf(base, sizeof(base), "%.*s", (int)strcspn(file, "."), file);
	in = fopen(path_format(path, sizeof(path), c->paths.state, "log/%s", file), "re");
	if (!in)
		return 0;
	if (from && fseeko(in, from, SEEK_SET) < 0)
		return 0;
	while (!r && (n = getline(&line, &room, in)) > 0) {
		_cleanup_json_ cJSON *j = NULL;
		struct record rec = { .kind = RECORD_LOG };
		char name[128];

		if (line[n - 1] != '\n' && ret_end)
			break; /* still being written */
		from += n;
		if (line[n - 1] == '\n')
			n--;
		if (json_parse(line, (size_t)n, &j, NULL) < 0 || !from_line(j, base, &rec, name)) {
			/* format text or raw: the line is all there is */
			rec = (struct record){ .kind = RECORD_LOG, .level = LEVEL_INFO, .daemon = VIEW_OF(base),
				.message = { line, (size_t)n } };
		}
		if (record_matches(f, &rec))
			r = fn(&rec, userdata);
	}
	if (ret_end)
		*ret_end = from;
	return r;
}

static int keep_one(const struct record *r, void *userdata)
{
	return keep(userdata, r);
}

static int read_files(struct cli *c, const struct record_filter *f, struct ring *ring)
{
	char folder[PATH_MAX];
	_cleanup_(closedirp) DIR *d = opendir(path_format(folder, sizeof(folder), c->paths.state, "log"));
	struct dirent *e;

	while (d && (e = readdir(d))) {
		size_t n = strlen(e->d_name);

		if (n > 4 && !strcmp(e->d_name + n - 4, ".log"))
			read_file(c, e->d_name, 0, NULL, f, keep_one, ring);
	}
	return 0;
}

/* --- both --------------------------------------------------------------------------------------------------------- */

int records_read(struct cli *c, const struct record_filter *f, uint64_t limit, bool *ret_cut, record_fn fn, void *userdata)
{
	struct ring ring = { .limit = 0 };
	_cleanup_(store_closep) struct store *store = NULL;
	int r = 0;

	ring.limit = limit;
	if (has_store(c)) {
		uint64_t marks[2] = { 0, 0 };
		struct store_options o = { .type = "sqlite", .read_only = true };
		_cleanup_(store_closep) struct store *for_marks = NULL;
		char path[PATH_MAX];
		struct error err;

		/* marks first, rows then: what is committed in between is in both, and taken once by its id */
		o.path = path_format(path, sizeof(path), c->paths.state, "supervise.db");
		if (store_open(&for_marks, &o, &err) == 0)
			for (int i = 0; i < 2; i++) {
				struct uuid source;
				char folder[PATH_MAX];

				if (spool_read_source(path_format(folder, sizeof(folder), c->paths.state, "%s", spools[i]), &source) == 0 &&
				    store_get_mark(for_marks, &source, NULL, NULL, &marks[i], &err) < 0)
					marks[i] = 0;
			}
		ring.limit = limit ? limit * 2 + 64 : 0; /* room for both parts; cut below */
		r = read_store(c, f, &ring, &store);
		for (int i = 0; i < 2 && !r; i++)
			r = read_spool(c, i, marks[i], f, &ring);
	} else if (f->kind == RECORD_LOG) {
		r = read_files(c, f, &ring);
	}
	if (!r && ring.n) {
		size_t n = 0, begin;

		qsort(ring.items, ring.n, sizeof(*ring.items), by_time);
		for (size_t i = 0; i < ring.n; i++) { /* the same id twice: stored while we were reading */
			bool zero = true;

			for (size_t k = 0; k < sizeof(ring.items[i].r.id.b); k++)
				zero &= !ring.items[i].r.id.b[k];
			if (n && !zero && !memcmp(&ring.items[n - 1].r.id, &ring.items[i].r.id, sizeof(struct uuid))) {
				free(ring.items[i].payload);
				continue;
			}
			ring.items[n++] = ring.items[i];
		}
		ring.n = n;
		begin = limit && n > limit ? n - limit : 0;
		*ret_cut = ring.cut || begin;
		for (size_t i = begin; i < n && !r; i++)
			r = fn(&ring.items[c->o.reverse ? n - 1 - (i - begin) : i].r, userdata);
	}
	ring_free(&ring);
	return r;
}

static int follow_files(struct cli *c, const struct record_filter *f, record_fn fn, void *userdata)
{
	struct {
		char name[128];
		off_t at;
	} *files = NULL;
	size_t n = 0;
	char folder[PATH_MAX], events[4096];
	int fd = inotify_init1(IN_CLOEXEC), r = 0;
	bool first = true;

	path_format(folder, sizeof(folder), c->paths.state, "log");
	if (fd < 0 || inotify_add_watch(fd, folder, IN_MODIFY | IN_CREATE | IN_MOVED_TO) < 0)
		return cli_fail(CLI_OS, NULL, "cannot watch %s: %s", folder, strerror(errno));
	while (!r) {
		_cleanup_(closedirp) DIR *d = opendir(folder);
		struct dirent *e;

		while (d && (e = readdir(d)) && !r) {
			size_t len = strlen(e->d_name), i;
			struct stat st;

			if (len <= 4 || strcmp(e->d_name + len - 4, ".log") || fstatat(dirfd(d), e->d_name, &st, 0) < 0)
				continue;
			for (i = 0; i < n && strcmp(files[i].name, e->d_name); i++)
				;
			if (i == n) {
				void *p = realloc(files, (n + 1) * sizeof(*files));

				if (!p)
					return cli_fail(CLI_OS, NULL, "out of memory");
				files = p;
				snprintf(files[n].name, sizeof(files[n].name), "%s", e->d_name);
				files[n++].at = first ? st.st_size : 0;
			}
			if (st.st_size < files[i].at)
				files[i].at = 0; /* rotated */
			if (st.st_size > files[i].at)
				r = read_file(c, e->d_name, files[i].at, &files[i].at, f, fn, userdata);
		}
		first = false;
		fflush(stdout);
		if (!r && read(fd, events, sizeof(events)) < 0 && errno != EINTR)
			r = CLI_OS;
	}
	free(files);
	close(fd);
	return r;
}

int records_follow(struct cli *c, const struct record_filter *f, record_fn fn, void *userdata)
{
	struct spool_reader *readers[2] = { NULL, NULL };
	char folder[PATH_MAX];
	struct error err;
	int r = 0;

	if (!has_store(c))
		return f->kind == RECORD_LOG ? follow_files(c, f, fn, userdata) :
						     cli_fail(CLI_UNAVAILABLE, NULL, "there is no store, so events are not kept");
	for (int i = 0; i < 2; i++)
		if (spool_reader_open(&readers[i], path_format(folder, sizeof(folder), c->paths.state, "%s", spools[i]), seen[i],
			&err) < 0)
			return cli_fail(CLI_UNAVAILABLE, NULL, "%s", err.text);
	while (!r) {
		struct pollfd fds[2];

		for (int i = 0; i < 2 && !r; i++) {
			struct spool_frame frame;
			int got = 0;

			while (!r && (got = spool_reader_next(readers[i], &frame, NULL)) == 1) {
				struct record rec;

				if (record_decode(frame.payload, frame.size, &rec) == 0 && record_matches(f, &rec))
					r = fn(&rec, userdata);
			}
			if (got < 0)
				r = cli_fail(CLI_IO, NULL, "cannot read the spool: %s", strerror(-got));
			fds[i] = (struct pollfd){ spool_reader_get_fd(readers[i]), POLLIN, 0 };
		}
		fflush(stdout);
		if (ferror(stdout))
			break;
		if (!r && poll(fds, 2, -1) < 0 && errno != EINTR)
			r = CLI_OS;
	}
	for (int i = 0; i < 2; i++)
		spool_reader_close(readers[i]);
	return r;
}
