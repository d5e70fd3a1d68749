/* SPDX-License-Identifier: Apache-2.0 */
/*
 * supervise-writer RUNTIME STATE --store TYPE [--batch N] [--flush-ms N]
 *
 * (RUNTIME is there to tell the writers of two projects apart in ps; nothing in it is used.)
 *
 * Reads the spools of the supervisor and the logger and puts their records into the store: the only process of ours that
 * links a database. It waits for inotify, its control socket and timers that are due, so it costs nothing while nothing
 * is said.
 *
 * A kill at any instant is harmless: the store moves a spool's mark in the transaction that has the rows, so the next
 * writer goes on behind the last commit, and segments are removed only behind a mark that is committed. STATE/spool/
 * writer.lock keeps a second writer waiting; should that lock fail us, the store lets only the one commit that knows the
 * mark.
 *
 * Descriptor 3, SOCK_SEQPACKET, JSON objects:
 *   to the supervisor   {"op":"ready"}  {"op":"drained","complete":bool}
 *                       {"op":"problem","title":TEXT,"details":{...},"recovered":bool}
 *   from it             {"op":"drain"}: ship everything that is spooled now, then answer "drained"
 *   end of file         ship what is there, exit 0; stop at the first failure, since the next writer goes on anyway
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <malloc.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/error.h"
#include "base/file.h"
#include "base/json.h"
#include "base/paths.h"
#include "base/proc.h"
#include "db/store.h"
#include "log/spool.h"

enum {
	CONTROL_FD = 3,
	BACKLOG_RECORDS = 4096, /* of one transaction when there is a backlog */
	BACKLOG_BYTES = 1 << 20,
	REST_MS = 3000, /* after the last batch, caches are given back; then nothing wakes us but work */
	LINGER_MS = 40, /* at most 25 looks a second at a spool whose batch is not full */
	RETRY_MIN_MS = 250,
	RETRY_MAX_MS = 30000,
	FINISH_MS = 15000, /* a producer that never pauses must not keep us from leaving, or from answering */
};

/* One record that is read and not yet stored. */
struct pending {
	uint64_t seq;
	size_t offset, size; /* of the payload in the feed's bytes */
};

struct feed {
	const char *name;
	char folder[PATH_MAX];
	struct spool_reader *reader;
	bool is_open; /* false: the spool does not exist yet, and @reader only waits for it */
	struct uuid source;
	uint64_t mark;
	uint64_t damage_told; /* sequence number before the last damage told of, plus one */
	struct pending *pending;
	size_t n;
	struct text bytes;
	uint64_t first_ms; /* when the oldest pending record was read */
	bool urgent, more; /* ship at once; there is more behind what is pending */
};

static struct {
	char state[PATH_MAX], db[PATH_MAX];
	const char *store_type;
	uint64_t batch, flush_ms;
	struct store *store;
	struct feed feeds[2];
	bool draining, finishing, told_ready;
	char trouble[64];  /* what the supervisor was told of: "" when all is well */
	uint64_t retry_ms; /* no attempt before this */
	uint64_t delay_ms;
	uint64_t finish_by_ms; /* end of draining or finishing */
	uint64_t rest_ms;      /* when to give caches back; 0: done */
} self = { .batch = 100, .flush_ms = 5000, .feeds = { { .name = "supervisor" }, { .name = "logger" } } };

/* --- the supervisor ----------------------------------------------------------------------------------------------- */

static void tell(cJSON *message)
{
	_cleanup_(freep) char *text = json_print(message);

	cJSON_Delete(message);
	if (text)
		(void)send(CONTROL_FD, text, strlen(text), MSG_NOSIGNAL | MSG_DONTWAIT);
}

static cJSON *message(const char *op)
{
	cJSON *j = cJSON_CreateObject();

	json_add_text(j, "op", op);
	return j;
}

static void tell_problem(const char *title, bool recovered, const char *key, const char *value)
{
	cJSON *j = message("problem"), *details;

	json_add_text(j, "title", title);
	json_add_bool(j, "recovered", recovered);
	details = json_add_object(j, "details");
	json_add_text(details, "component", "writer");
	json_add_text(details, key, value);
	tell(j);
	fprintf(stderr, "writer: %s: %s\n", title, value);
}

/* --- trouble with the store --------------------------------------------------------------------------------------- */

/* One kind of trouble is told once, however often it is met. */
static void trouble(int r, const char *text)
{
	char kind[sizeof(self.trouble)];
	uint64_t jitter = 0;

	snprintf(kind, sizeof(kind), "%s", strerror(-r));
	self.delay_ms = !self.delay_ms ? RETRY_MIN_MS : self.delay_ms * 2 > RETRY_MAX_MS ? RETRY_MAX_MS : self.delay_ms * 2;
	random_bytes(&jitter, sizeof(uint32_t));
	self.retry_ms = clock_mono_ms() + self.delay_ms * 3 / 4 + jitter % (self.delay_ms / 2);
	if (strcmp(kind, self.trouble) != 0) {
		memcpy(self.trouble, kind, sizeof(kind));
		tell_problem("the store cannot be written; records are kept in the spool until it can", false, "error", text);
	}
}

static void all_well(void)
{
	self.retry_ms = self.delay_ms = 0;
	if (!self.trouble[0])
		return;
	self.trouble[0] = '\0';
	tell_problem("the store is written again", true, "file", self.db);
}

static void forget_pending(struct feed *f)
{
	free(f->pending);
	f->pending = NULL;
	text_free(&f->bytes);
	f->n = 0;
	f->urgent = f->more = false;
}

static void close_feed(struct feed *f)
{
	f->reader = spool_reader_close(f->reader);
	f->is_open = false;
	forget_pending(f);
}

static void close_store(void)
{
	self.store = store_close(self.store);
	for (size_t i = 0; i < ARRAY_SIZE(self.feeds); i++)
		close_feed(&self.feeds[i]);
}

static int open_store(struct error *err)
{
	const struct store_options o = { .type = self.store_type, .path = self.db };
	static bool warned;
	int r;

	if (self.store)
		return 0;
	r = store_open(&self.store, &o, err);
	if (!r && store_get_warning(self.store) && !warned) {
		warned = true;
		tell_problem("the store works with restrictions", false, "warning", store_get_warning(self.store));
	}
	return r;
}

/* --- reading the spools ------------------------------------------------------------------------------------------- */

/* Begins to read a spool behind its mark, or to wait until there is one. Return: 0 or -errno */
static int open_feed(struct feed *f, struct error *err)
{
	struct spool_frame frame;
	struct uuid source;
	int r;

	if (f->is_open)
		return 0;
	if (!f->reader) {
		r = spool_reader_open(&f->reader, f->folder, UINT32_MAX, err);
		if (r < 0)
			return r;
	}
	/* sets the watches and drains them; only then is it worth looking whether the source is there */
	while ((r = spool_reader_next(f->reader, &frame, NULL)) > 0)
		;
	if (r < 0 && r != -ESTALE)
		return error_set(err, r, "cannot watch spool/%s: %s", f->name, strerror(-r));
	r = spool_read_source(f->folder, &source);
	if (r == -ENOENT || r == -EINVAL) /* -EINVAL: damaged; the producer restores it when it begins */
		return 0;
	if (r < 0)
		return error_set(err, r, "cannot read spool/%s/source: %s", f->name, strerror(-r));
	r = store_get_mark(self.store, &source, proc_hostname(), f->name, &f->mark, err);
	if (r < 0)
		return r;
	f->reader = spool_reader_close(f->reader);
	r = spool_reader_open(&f->reader, f->folder, f->mark, err);
	if (r < 0)
		return r;
	f->source = source;
	f->is_open = true;
	return 0;
}

static bool is_urgent(const struct spool_frame *frame)
{
	struct record r;

	return frame->kind != RECORD_LOG || record_decode(frame->payload, frame->size, &r) < 0 ||
	    r.level >= LEVEL_ERROR;
}

static void tell_damage(struct feed *f, uint64_t bytes)
{
	uint64_t before = (f->n ? f->pending[f->n - 1].seq : f->mark) + 1;
	char text[96];

	if (before <= f->damage_told) /* read again after the store failed */
		return;
	f->damage_told = before;
	snprintf(text, sizeof(text), "%" PRIu64 " bytes behind record %" PRIu64 " of spool/%s", bytes, before - 1, f->name);
	tell_problem("a damaged part of the spool was left out", false, "skipped", text);
}

/* Reads what is new, up to one transaction's worth. Return: 1 the spool was begun anew, look again; 0; -errno */
static int fill(struct feed *f, struct error *err)
{
	struct spool_frame frame;
	uint64_t skipped;
	int r = 1;

	if (!f->is_open)
		return 0;
	while (f->n < BACKLOG_RECORDS && f->bytes.size < BACKLOG_BYTES) {
		r = spool_reader_next(f->reader, &frame, &skipped);
		if (skipped)
			tell_damage(f, skipped);
		if (r <= 0)
			break;
		if (!f->pending)
			f->pending = malloc(BACKLOG_RECORDS * sizeof(*f->pending));
		if (!f->pending)
			return -ENOMEM;
		if (!f->n)
			f->first_ms = clock_mono_ms();
		f->pending[f->n] = (struct pending){ frame.seq, f->bytes.size, frame.size };
		text_add_bytes(&f->bytes, frame.payload, frame.size);
		if (f->bytes.failed)
			return -ENOMEM;
		f->n++;
		f->urgent |= is_urgent(&frame);
	}
	f->more = r > 0;
	if (r != -ESTALE)
		return r < 0 ? error_set(err, r, "cannot read spool/%s: %s", f->name, strerror(-r)) : 0;
	if (f->n) {
		f->urgent = true; /* what was read of the old one goes first */
		return 0;
	}
	close_feed(f);
	return 1;
}

static bool is_due(const struct feed *f, uint64_t now)
{
	return f->n && (f->urgent || f->more || f->n >= self.batch || self.draining || self.finishing || self.trouble[0] ||
			   now - f->first_ms >= self.flush_ms);
}

/* --- shipping ----------------------------------------------------------------------------------------------------- */

/* Whether something was read that waits for its batch to fill. */
static bool is_gathering(void)
{
	for (size_t i = 0; i < ARRAY_SIZE(self.feeds); i++)
		if (self.feeds[i].n)
			return true;
	return false;
}

/* Return: 0 or -errno with @err */
static int ship(struct feed *f, struct error *err)
{
	_cleanup_(freep) struct record *records = malloc(f->n * sizeof(*records));
	_cleanup_(freep) uint64_t *seqs = malloc(f->n * sizeof(*seqs));
	uint64_t mark = f->pending[f->n - 1].seq;
	int r;

	if (!records || !seqs)
		return -ENOMEM;
	for (size_t i = 0; i < f->n; i++) {
		const struct pending *p = &f->pending[i];

		seqs[i] = p->seq;
		if (record_decode(f->bytes.data + p->offset, p->size, &records[i]) < 0)
			records[i] = (struct record){ .message = { f->bytes.data + p->offset, p->size } };
	}
	/* the store must not know of records that a power loss can still take from the spool */
	r = spool_reader_sync(f->reader);
	if (r < 0)
		return error_set(err, r, "cannot sync spool/%s: %s", f->name, strerror(-r));
	r = store_write(self.store, &f->source, records, seqs, f->n, f->mark, mark, err);
	if (!r) {
		f->mark = mark;
		forget_pending(f);
		self.rest_ms = clock_mono_ms() + REST_MS;
		(void)spool_trim(f->folder, mark);
		return 0;
	}
	/* Fenced: somebody else has moved the mark. Failed: perhaps it was committed after all, and only the answer is
	 * lost. Either way the mark is asked again, and reading begins behind it. */
	close_feed(f);
	return r == STORE_E_FENCED ? 0 : r;
}

/* One round over both spools. Return: 1 there may be more to do at once, 0, -errno with @err */
static int round_of_work(struct error *err)
{
	int again = 0, failed = 0, r;

	r = open_store(err);
	if (r < 0)
		return r;
	for (size_t i = 0; i < ARRAY_SIZE(self.feeds); i++) {
		struct feed *f = &self.feeds[i];

		r = open_feed(f, err);
		if (!r)
			r = fill(f, err);
		if (r > 0)
			again = 1;
		if (!r && is_due(f, clock_mono_ms())) {
			r = ship(f, err);
			again = 1;
		}
		if (r == -ESTALE) { /* the database file is gone: a new one is begun, from what the spools still have */
			close_store();
			return 1;
		}
		if (r < 0)
			failed = r; /* the other spool is looked at all the same */
	}
	return failed ? failed : again;
}

/* Everything that can be done now. Return: milliseconds until there is something to do again; -1: until told */
static int work(void)
{
	uint64_t now = clock_mono_ms(), wait = UINT64_MAX;
	struct error err = { "" };
	int r;

	if (self.retry_ms > now && !self.draining && !self.finishing)
		return (int)(self.retry_ms - now) + 1;
	do
		r = round_of_work(&err);
	while (r > 0 && !((self.draining || self.finishing) && clock_mono_ms() > self.finish_by_ms));
	if (r < 0)
		trouble(r, err.text[0] ? err.text : strerror(-r));
	else
		all_well();

	if (!self.told_ready) {
		self.told_ready = true;
		tell(message("ready"));
	}
	if (self.draining) {
		cJSON *j = message("drained");

		self.draining = false;
		json_add_bool(j, "complete", !r);
		tell(j);
	}
	now = clock_mono_ms();
	if (r < 0)
		return self.retry_ms > now ? (int)(self.retry_ms - now) + 1 : 0;
	if (self.rest_ms && self.store && now >= self.rest_ms && !is_gathering()) {
		self.rest_ms = 0;
		store_release_memory(self.store);
		malloc_trim(0);
	}
	if (self.rest_ms && !is_gathering())
		wait = self.rest_ms > now ? self.rest_ms - now : 0;
	for (size_t i = 0; i < ARRAY_SIZE(self.feeds); i++) {
		const struct feed *f = &self.feeds[i];
		uint64_t due = f->first_ms + self.flush_ms;

		if (f->n && (due > now ? due - now : 0) < wait)
			wait = due > now ? due - now : 0;
	}
	return wait == UINT64_MAX ? -1 : (int)wait;
}

/* --- start and loop ----------------------------------------------------------------------------------------------- */

static void finish(void)
{
	if (!self.finishing)
		self.finish_by_ms = clock_mono_ms() + FINISH_MS;
	self.finishing = true;
}

static void take_message(void)
{
	static char data[64 * 1024];
	_cleanup_json_ cJSON *j = NULL;
	ssize_t n = recv(CONTROL_FD, data, sizeof(data), MSG_DONTWAIT);

	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n <= 0) {
		finish();
		return;
	}
	if (!json_parse(data, (size_t)n, &j, NULL) && !strcmp(json_get_string(j, "op", ""), "drain")) {
		self.draining = true;
		self.finish_by_ms = clock_mono_ms() + FINISH_MS;
	}
}

static void loop(int signals)
{
	struct pollfd p[2 + ARRAY_SIZE(self.feeds)] = { { CONTROL_FD, POLLIN, 0 }, { signals, POLLIN, 0 } };

	for (;;) {
		int timeout = work(), k = 0;

		if (self.finishing)
			return;
		for (size_t i = 0; i < ARRAY_SIZE(self.feeds); i++)
			p[2 + i] = (struct pollfd){ self.feeds[i].reader ? spool_reader_get_fd(self.feeds[i].reader) : -1, POLLIN, 0 };
		if (self.trouble[0]) { /* what is appended meanwhile is for the next attempt */
			k = poll(p, 2, timeout);
		} else {
			if (timeout > 0 && is_gathering()) { /* a look at every append would be wasted */
				k = poll(p, 2, timeout < LINGER_MS ? timeout : LINGER_MS);
				timeout = timeout < LINGER_MS ? 0 : timeout - LINGER_MS;
			}
			if (!k)
				k = poll(p, ARRAY_SIZE(p), timeout);
		}
		if (k < 0 && errno != EINTR) {
			fprintf(stderr, "writer: poll: %s\n", strerror(errno));
			exit(71);
		}
		if (k > 0 && p[0].revents)
			take_message();
		if (k > 0 && p[1].revents)
			finish();
	}
}

static int lock_writer(void)
{
	char path[PATH_MAX];
	int fd;

	path_format(path, sizeof(path), self.state, "spool");
	if (dir_make_private(path, NULL) < 0)
		fprintf(stderr, "writer: cannot make %s\n", path);
	path_format(path, sizeof(path), self.state, "spool/writer.lock");
	fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (fd < 0)
		return -errno;
	while (flock(fd, LOCK_EX) < 0) /* until the writer of an earlier supervisor is done */
		if (errno != EINTR)
			return -errno;
	return fd;
}

static int usage(void)
{
	fprintf(stderr, "usage: supervise-writer RUNTIME STATE --store sqlite [--batch N] [--flush-ms N]\n"
			"It is started by the supervisor, which holds the other end of its descriptor 3.\n");
	return 64;
}

int main(int argc, char **argv)
{
	struct stat st;
	sigset_t set;
	int lock, signals;

	if (argc < 3 || argv[1][0] != '/' || argv[2][0] != '/')
		return usage();
	for (int i = 3; i < argc; i += 2) {
		uint64_t v = 0;

		if (i + 1 == argc)
			return usage();
		if (!strcmp(argv[i], "--store"))
			self.store_type = argv[i + 1];
		else if (parse_u64(argv[i + 1], &v) < 0)
			return usage();
		else if (!strcmp(argv[i], "--batch") && v)
			self.batch = v;
		else if (!strcmp(argv[i], "--flush-ms") && v <= INT_MAX / 2)
			self.flush_ms = v;
		else
			return usage();
	}
	if (!self.store_type || fstat(CONTROL_FD, &st) < 0 || !S_ISSOCK(st.st_mode))
		return usage();
	snprintf(self.state, sizeof(self.state), "%s", argv[2]);
	path_format(self.db, sizeof(self.db), self.state, "supervise.db");
	for (size_t i = 0; i < ARRAY_SIZE(self.feeds); i++)
		path_format(self.feeds[i].folder, PATH_MAX, self.state, "spool/%s", self.feeds[i].name);
	umask(077);
	fcntl(CONTROL_FD, F_SETFD, FD_CLOEXEC);
	signal(SIGPIPE, SIG_IGN);
	signal(SIGXFSZ, SIG_IGN);
	lock = lock_writer();
	if (lock < 0) {
		fprintf(stderr, "writer: cannot lock %s/spool/writer.lock: %s\n", self.state, strerror(-lock));
		return 73;
	}
	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGINT);
	sigaddset(&set, SIGHUP);
	sigprocmask(SIG_BLOCK, &set, NULL);
	signals = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
	loop(signals);
	close_store();
	return 0;
}
