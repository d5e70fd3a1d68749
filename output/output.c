/* SPDX-License-Identifier: Apache-2.0 */
/*
 * From FIFOs to log files and the spool. A logger may be killed at any instant, and then no byte is lost and no line
 * doubled. Reading a FIFO takes its bytes away, so they have to be somewhere else before, at and after that instant:
 * in the state file, memory shared with a file (stage.h), where the next logger finds them and the phase they are in.
 *
 * IDLE      Nothing is in hand. How much the FIFO has (FIONREAD) is `want`: nobody else reads it (logger.lock), so a
 *           read of `want` bytes takes exactly these. tee(2) makes a copy of its first byte, which stays in the FIFO.
 *           raw[0] is set to the complement of that byte. Killed here: the FIFO has everything.
 * READING   read(2) from the FIFO into raw. Killed before or in it: is raw[0] still the complement, then nothing was
 *           taken, since the copy goes from the first byte on. Otherwise all of `want` was: once the read is copying,
 *           a signal, SIGKILL too, waits for its end, because nothing in it sleeps: the bytes are there (FIONREAD) and
 *           the pages of raw are present (locked, and each is written to right before).
 * HAVE      raw[consumed..want) belongs to us alone. It and the unfinished line from before (carry) are encoded into
 *           memory of our own and from there copied to `out`. Killed here: encoded again; nobody has seen the first try.
 * READY     What each sink is to get lies in `out`. Right before the first attempt the parcel's mark notes what the
 *           file or spool ends with; both only ever grow, by our hand alone. Killed here, even in the middle of a
 *           write(2): the file's growth since says how much of the parcel it has (and the bytes are compared); whole
 *           frames of the spool are counted by its next sequence number, and it cuts off a torn one itself. The next
 *           logger appends the rest. When a sink cannot be written, its parcel is parked: copied behind what is parked,
 *           then one store makes it part of that. The parcel's step number tells that this has happened already.
 * DONE      Both sinks have it. The unfinished line is copied to carry and the other changes are made (next_*). All of
 *           it comes from memory that does not change meanwhile, so after a kill it is simply done once more. Then the
 *           phase becomes HAVE for the rest of the batch, or IDLE.
 *
 * A log file is rotated in HAVE or IDLE, never in READY, and only while nothing is parked for it: so a mark always
 * belongs to the file that FILE.log names. Killed between the rename and the making of a new file: the next open makes
 * it. Lines that had to be dropped are counted in the stream's slot, by the same DONE.
 *
 * What this does not cover: loss of power (the runtime folder is gone at a reboot); another process of the same user that
 * reads the FIFO too; a daemon that turns its pipe into packet mode (O_DIRECT), which is killed for between two packets.
 */
#include "output/output.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <linux/ioprio.h>
#include <malloc.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/file.h"
#include "base/paths.h"
#include "base/proc.h"
#include "log/spool.h"
#include "output/encode.h"
#include "output/logfile.h"
#include "output/protocol.h"
#include "output/settings.h"
#include "output/stage.h"
#include "output/tail.h"

enum {
	STEP_BYTES = 256 << 10,  /* a step ends beyond this, so that no write gets much longer */
	SMALL_LINE = 16 << 10,   /* split lines here when the runtime folder is full */
	BUFFER_KEEP = 64 << 10,  /* larger buffers are given back after a second without work */
	RETRY_MS = 1000,         /* between attempts to write what is parked: a full disk tells nobody when it has room */
	CLOSE_DRAIN_MS = 1000,
};

struct stream {
	struct daemon *d;
	int fd; /* the FIFO, or -1 */
	uint32_t slot;
	unsigned index; /* 0 stdout, 1 stderr */
};

struct daemon {
	struct settings *settings;
	struct stream streams[2];
	int log_fd; /* opened when there is something to write */
	bool log_failing;
};

struct drain {
	struct daemon *d;
	char *id; /* NULL: close */
	uint64_t deadline; /* clock_mono_ms() */
};

struct output {
	struct output_handlers on;
	struct stage stage;
	int epoll_fd, runtime_fd, log_dirfd;
	int peek[2]; /* private pipe for the copy of one byte */
	char spool_folder[PATH_MAX];
	struct spool *spool; /* NULL while it cannot be opened */
	uint64_t spool_opened_seq; /* its next sequence number at that time */
	bool spool_fresh; /* nothing was appended since */
	bool spool_failing;
	struct daemon **daemons; /* sorted by name */
	size_t n_daemons;
	struct drain *drains;
	size_t n_drains;
	struct encoded encoded;
	uint64_t retry_at; /* 0: nothing is parked */
	uint64_t last_turn;
	bool small;   /* the runtime folder had no room for larger steps */
	bool dropped; /* perhaps a slot counts dropped lines */
	bool compress, compress_again;
	pid_t compressor;
	int compressor_fd;
	int spare_fd; /* the log file of a daemon that is not open (recovery) */
	char spare_file[DAEMON_NAME_MAX];
};

static void problem(struct output *o, const char *daemon, const char *title, int r)
{
	if (o->on.problem)
		o->on.problem(daemon, title, r < 0 ? strerror(-r) : NULL, o->on.userdata);
}

/* Index of the first daemon whose name is not below. */
static size_t position(const struct output *o, const char *name)
{
	size_t lo = 0, hi = o->n_daemons;

	while (lo < hi) {
		size_t mid = lo + (hi - lo) / 2;

		if (strcmp(o->daemons[mid]->settings->text, name) < 0)
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo;
}

static struct daemon *find(const struct output *o, const char *name)
{
	size_t i = position(o, name);

	return i < o->n_daemons && !strcmp(o->daemons[i]->settings->text, name) ? o->daemons[i] : NULL;
}

static struct daemon *find_by_file(const struct output *o, const char *file)
{
	char name[DAEMON_NAME_MAX];

	snprintf(name, sizeof(name), "%s", file);
	for (char *c = name; *c; c++)
		if (*c == '@')
			*c = '/';
	return find(o, name);
}

static const char *file_of(const struct settings *s)
{
	return settings_get_text(s, s->file);
}

/* ---- log files ---- */

/* Where the descriptor of FILE.log is kept. */
static int *log_place(struct output *o, const char *file)
{
	struct daemon *d = find_by_file(o, file);

	if (d)
		return &d->log_fd;
	if (strcmp(o->spare_file, file) != 0) {
		closep(&o->spare_fd);
		o->spare_fd = -1;
		snprintf(o->spare_file, sizeof(o->spare_file), "%s", file);
	}
	return &o->spare_fd;
}

/* Return: descriptor, which stays ours, or -errno */
static int log_get(struct output *o, const char *file)
{
	int *fd = log_place(o, file);

	if (*fd >= 0)
		return *fd;
	*fd = logfile_open(o->log_dirfd, file);
	for (size_t i = 0; *fd == -EMFILE && i < o->n_daemons; i++)
		if (&o->daemons[i]->log_fd != fd && o->daemons[i]->log_fd >= 0) {
			close(TAKE_FD(o->daemons[i]->log_fd)); /* it can be opened again */
			*fd = logfile_open(o->log_dirfd, file);
		}
	if (*fd < 0) {
		int r = *fd;

		*fd = -1;
		return r;
	}
	return *fd;
}

static void log_close(struct output *o, const char *file)
{
	int *fd = log_place(o, file);

	closep(fd);
	*fd = -1;
}

static void log_failed(struct output *o, const char *file, int r)
{
	struct daemon *d = find_by_file(o, file);

	if (d && !d->log_failing)
		problem(o, d->settings->text, "log file cannot be written", r);
	if (d)
		d->log_failing = true;
}

static void log_works(struct output *o, const char *file)
{
	struct daemon *d = find_by_file(o, file);

	if (d)
		d->log_failing = false;
}

static bool log_is_parked(const struct output *o, const char *file)
{
	const struct parcel *p;
	const char *whose;
	uint32_t at = 0;
	char *data;

	while ((p = stage_next_parked(&o->stage, SINK_LOG, &at, &whose, &data)))
		if (!p->done && !strcmp(whose, file))
			return true;
	return false;
}

/* In phase HAVE or IDLE alone. Return: 0 or -errno, -EBUSY while something is parked for the file */
static int rotate(struct output *o, const struct settings *s)
{
	const char *file = file_of(s);
	int r;

	if (log_is_parked(o, file))
		return -EBUSY;
	log_close(o, file);
	r = logfile_rotate(o->log_dirfd, file, clock_now_us());
	if (r < 0) {
		if (r != -ENOENT)
			problem(o, s->text, "log file cannot be rotated", r);
		return r;
	}
	r = logfile_prune(o->log_dirfd, file, s->keep);
	if (r < 0)
		problem(o, s->text, "old log files cannot be removed", r);
	if (s->compress)
		o->compress = true;
	(void)log_get(o, file); /* a new one is there from now on, also for those who only look */
	return 0;
}

/* ---- the spool ---- */

static int spool_get(struct output *o)
{
	struct error err = { 0 };
	uint64_t torn = 0;
	int r;

	if (o->spool)
		return 0;
	r = spool_open(&o->spool, o->spool_folder, &torn, &err);
	if (r < 0)
		return r;
	o->spool_opened_seq = spool_get_next_seq(o->spool);
	o->spool_fresh = true;
	return 0;
}

static void spool_failed(struct output *o, int r)
{
	if (!o->spool_failing)
		problem(o, NULL, "spool cannot be written: lines go to the log files alone", r);
	o->spool_failing = true;
}

/* Appends a parcel, or what is missing of it. Return: 0 or -errno */
static int spool_append_parcel(struct output *o, struct parcel *p, const char *data)
{
	const uint64_t seq_mask = (UINT64_C(1) << MARK_SEQ) - 1;
	_cleanup_(freep) struct view *views = NULL;
	_cleanup_(freep) enum record_kind *kinds = NULL;
	_cleanup_(freep) int64_t *times = NULL;
	uint64_t skip = p->mark >> MARK_SEQ, seq = p->mark & seq_mask;
	size_t n = 0;
	uint32_t at = 0;
	int r = spool_get(o);

	if (r < 0)
		return r;
	/* Tried by a logger that was killed: whatever the spool has since that attempt is from this parcel. An attempt of
	 * our own that failed has left nothing. */
	if (o->spool_fresh && seq && o->spool_opened_seq > seq)
		skip += o->spool_opened_seq - seq;
	o->spool_fresh = false;
	if (skip >= p->count)
		return 0;
	__atomic_store_n(&p->mark, skip << MARK_SEQ | spool_get_next_seq(o->spool), __ATOMIC_SEQ_CST);

	views = calloc(p->count, sizeof(*views));
	kinds = calloc(p->count, sizeof(*kinds));
	times = calloc(p->count, sizeof(*times));
	if (!views || !kinds || !times)
		return -ENOMEM;
	for (uint32_t i = 0; i < p->count; i++) {
		uint32_t size;

		memcpy(&size, data + at, 4);
		if (i >= skip) {
			views[n] = (struct view){ data + at + 4, size };
			kinds[n] = RECORD_LOG;
			times[n++] = p->ts_us;
		}
		at += 4 + size;
	}
	return spool_append(o->spool, views, kinds, times, n, NULL);
}

/* ---- one step ---- */

static bool anything_parked(const struct output *o, enum sink k)
{
	return stage_header(&o->stage)->parked[k] > 0;
}

/* Whether the step in hand has been parked already, before a kill. */
static bool is_parked(const struct output *o, enum sink k)
{
	uint64_t step = stage_header(&o->stage)->step;
	const struct parcel *p;
	const char *file;
	uint32_t at = 0;
	char *data;

	while ((p = stage_next_parked(&o->stage, k, &at, &file, &data)))
		if (p->step == step)
			return true;
	return false;
}

static void park_or_drop(struct output *o, enum sink k, const char *file)
{
	struct stage_header *h = stage_header(&o->stage);
	struct parcel *p = &h->parcel[k];

	if (!o->retry_at)
		o->retry_at = clock_mono_ms() + RETRY_MS;
	/* once one had to be dropped, so have those after it, until that has been told: a gap is in one place */
	if ((h->keep_raw || !stage_slot(&o->stage, h->slot)->dropped[k]) &&
	    !stage_park(&o->stage, k, p, file, stage_out(&o->stage, k)))
		return;
	if (k == SINK_LOG && p->mark) {
		int fd = log_get(o, file);

		if (fd >= 0)
			(void)logfile_take_back(fd, p); /* no half line stays */
	}
	o->dropped = true;
	if (h->keep_raw) {
		h->set_dropped[k] = 0; /* a notice: the count it tells stays */
		return;
	}
	h->next_dropped[k] = stage_slot(&o->stage, h->slot)->dropped[k] + p->lines;
	h->set_dropped[k] = 1;
}

/*
 * READY to DONE.
 *
 * Return:  0; 1 when the spool failed at the first attempt and nothing has been written anywhere, so that the step may
 *          be encoded again without sequence numbers
 */
static int deliver(struct output *o, bool may_encode_again)
{
	struct stage_header *h = stage_header(&o->stage);
	const struct settings *s = (const struct settings *)(const void *)h->settings;
	const char *file = file_of(s);
	struct parcel *p = &h->parcel[SINK_SPOOL];
	int r, fd;

	if (!(h->sinks_done & 1u << SINK_SPOOL)) {
		if (!h->keep_raw)
			h->set_dropped[SINK_SPOOL] = 0;
		if (p->size && !is_parked(o, SINK_SPOOL)) {
			if (anything_parked(o, SINK_SPOOL) || (o->spool_failing && clock_mono_ms() < o->retry_at)) {
				park_or_drop(o, SINK_SPOOL, file);
			} else {
				r = spool_append_parcel(o, p, stage_out(&o->stage, SINK_SPOOL));
				if (r < 0) {
					spool_failed(o, r);
					if (!o->retry_at)
						o->retry_at = clock_mono_ms() + RETRY_MS;
					if (may_encode_again && p->mark >> MARK_SEQ == 0 && !h->parcel[SINK_LOG].mark) {
						stage_set_phase(&o->stage, STAGE_HAVE);
						return 1;
					}
					park_or_drop(o, SINK_SPOOL, file);
				} else {
					o->spool_failing = false;
				}
			}
		}
		__atomic_store_n(&h->sinks_done, h->sinks_done | 1u << SINK_SPOOL, __ATOMIC_SEQ_CST);
	}
	p = &h->parcel[SINK_LOG];
	if (!(h->sinks_done & 1u << SINK_LOG)) {
		if (!h->keep_raw)
			h->set_dropped[SINK_LOG] = 0;
		if (p->size && !is_parked(o, SINK_LOG)) {
			if (anything_parked(o, SINK_LOG) && log_is_parked(o, file)) {
				park_or_drop(o, SINK_LOG, file);
			} else {
				r = fd = log_get(o, file);
				if (fd >= 0)
					r = logfile_append(fd, p, stage_out(&o->stage, SINK_LOG));
				if (r < 0) {
					log_failed(o, file, r);
					park_or_drop(o, SINK_LOG, file);
				} else {
					log_works(o, file);
				}
			}
		}
		__atomic_store_n(&h->sinks_done, h->sinks_done | 1u << SINK_LOG, __ATOMIC_SEQ_CST);
	}
	stage_set_phase(&o->stage, STAGE_DONE);
	return 0;
}

/* Puts what was encoded into the state file: from HAVE or IDLE to READY. Room was reserved before. */
static void stage_encoded(struct output *o, const struct encoded *e)
{
	struct stage_header *h = stage_header(&o->stage);
	const struct text *t[_SINK_MAX] = { [SINK_LOG] = &e->log, [SINK_SPOOL] = &e->spool };

	h->step++;
	for (unsigned k = 0; k < _SINK_MAX; k++) {
		if (t[k]->size)
			memcpy(stage_out(&o->stage, k), t[k]->data, t[k]->size);
		h->parcel[k] = (struct parcel){
			.step = h->step,
			.size = (uint32_t)t[k]->size,
			.count = k == SINK_SPOOL ? e->records : 0,
			.lines = k == SINK_SPOOL ? e->records : e->lines,
			.slot = h->slot,
			.ts_us = h->ts_us,
		};
		h->set_dropped[k] = 0;
	}
	h->sinks_done = 0;
}

/* Size and end of the log file as they are; a file that cannot be opened counts as empty. */
static void look_at_log(struct output *o, const char *file, bool last_byte, struct encode_job *job)
{
	for (int i = 0; i < 2; i++) {
		int fd = log_get(o, file);
		int r = fd < 0 ? fd : logfile_look(fd, &job->file_size, last_byte ? &job->file_at_line : NULL);

		if (r != -ESTALE)
			return;
		log_close(o, file); /* somebody removed it: begin a new one */
	}
}

/* Brings the batch in hand to its end: from HAVE to IDLE. */
static void work(struct output *o)
{
	bool no_rotate = false, no_carry = false;

	while (stage_get_phase(&o->stage) == STAGE_HAVE) {
		struct stage_header *h = stage_header(&o->stage);
		const struct settings *s = (const struct settings *)(const void *)h->settings;
		const struct slot *slot = stage_slot(&o->stage, h->slot);
		struct encoded *e = &o->encoded;
		ptrdiff_t from = (ptrdiff_t)h->consumed;
		size_t left;
		int r;

		if (!h->consumed && slot->carry_size) {
			from = -(ptrdiff_t)slot->carry_size;
			memcpy(stage_raw(&o->stage) + from, stage_carry(&o->stage, h->slot), slot->carry_size);
		}
		struct encode_job job = {
			.settings = s,
			.stream = h->stream,
			.ts_us = h->ts_us,
			.data = stage_raw(&o->stage),
			.from = from,
			.to = h->want,
			.flush = h->flush || no_carry,
			.continued = slot->continued,
			.level = slot->level,
			.logged = slot->logged,
			.line_max = o->small ? SMALL_LINE : STAGE_LINE,
			.step = o->small ? SMALL_LINE : STEP_BYTES,
			.log_room = o->small ? h->out_room[SINK_LOG] : STAGE_OUT,
			.spool_room = o->small ? h->out_room[SINK_SPOOL] : STAGE_OUT,
			.no_rotate = no_rotate,
			.file_at_line = true,
		};

		look_at_log(o, file_of(s), s->format == FORMAT_RAW && s->max_size, &job);
		if (s->store && !o->spool_failing && !anything_parked(o, SINK_SPOOL) && !spool_get(o))
			job.next_seq = spool_get_next_seq(o->spool);
		r = encode(&job, e);
		if (r == -ENOMEM) {
			/* Nothing better is left to do than to try once more with as little as possible, then to end and let
			 * a new logger try: the bytes are safe where they are. */
			encoded_free(e);
			if (o->small)
				abort();
			o->small = true;
			continue;
		}
		if (r == -EMSGSIZE && !o->small) {
			o->small = true;
			continue;
		}
		if (r < 0)
			abort(); /* a line of SMALL_LINE bytes always fits into STAGE_OUT_AT_FIRST */
		if (e->stop == ENCODE_ROTATE && e->end == from) {
			no_rotate = rotate(o, s) < 0;
			continue;
		}
		if (stage_reserve_out(&o->stage, SINK_LOG, (uint32_t)e->log.size) < 0 ||
		    stage_reserve_out(&o->stage, SINK_SPOOL, (uint32_t)e->spool.size) < 0) {
			o->small = true;
			continue;
		}

		/* what remains unfinished: at the end of the batch, or of an earlier one that has not been used up yet */
		h->next_consumed = e->end > 0 ? (uint32_t)e->end : 0;
		h->next_flush = h->flush;
		h->carry_from = (int32_t)e->end;
		left = e->end < 0 ? (size_t)-e->end : 0;
		if (e->stop == ENCODE_ALL) {
			left = (size_t)((ptrdiff_t)h->want - e->end);
			h->next_consumed = h->want;
			h->next_flush = 0;
		}
		if (left && stage_reserve_carry(&o->stage, h->slot, (uint32_t)left) < 0) {
			no_carry = true; /* the runtime folder is full: the line ends here */
			continue;
		}
		h->carry_copy = (uint32_t)left;
		h->next_continued = e->continued;
		h->next_level = e->level;
		h->next_logged = e->logged && left;
		h->keep_raw = 0;
		stage_encoded(o, e);
		stage_set_phase(&o->stage, STAGE_READY);
		if (deliver(o, job.next_seq != 0) == 1)
			continue;
		stage_apply(&o->stage);
		no_rotate = false;
		if (e->stop == ENCODE_ROTATE)
			no_rotate = rotate(o, s) < 0;
	}
}

/* The header of a new batch. In IDLE. */
static void begin(struct output *o, const struct stream *s)
{
	struct stage_header *h = stage_header(&o->stage);
	const struct settings *settings = s->d->settings;

	if (memcmp(h->settings, settings, settings->size) != 0)
		memcpy(h->settings, settings, settings->size);
	h->slot = s->slot;
	h->stream = s->index;
	h->consumed = 0;
	h->flush = 0;
	h->want = 0;
	h->ts_us = clock_now_us();
}

/* Bytes that wait in a FIFO. */
static uint32_t waiting(const struct stream *s)
{
	int n = 0;

	if (s->fd < 0 || ioctl(s->fd, FIONREAD, &n) < 0 || n < 0)
		return 0;
	return (uint32_t)n;
}

/* One batch of one stream. */
static void turn(struct output *o, struct stream *s)
{
	struct stage_header *h = stage_header(&o->stage);
	volatile char *raw = stage_raw(&o->stage);
	uint32_t want = waiting(s);
	char first;
	ssize_t n;

	if (!want)
		return;
	if (want > STAGE_BATCH)
		want = STAGE_BATCH;
	if (tee(s->fd, o->peek[1], 1, SPLICE_F_NONBLOCK) != 1 || read(o->peek[0], &first, 1) != 1)
		return; /* somebody else reads it too, against the rules; a later turn gets what is left */
	begin(o, s);
	h->want = want;
	h->first = (unsigned char)first;
	for (uint32_t i = 0; i < want; i += 4096)
		raw[i] = 0;
	raw[0] = (char)~first;
	stage_set_phase(&o->stage, STAGE_READING);
	n = read(s->fd, (char *)raw, want);
	if (n <= 0) {
		stage_set_phase(&o->stage, STAGE_IDLE);
		return;
	}
	h->want = (uint32_t)n;
	stage_set_phase(&o->stage, STAGE_HAVE);
	work(o);
}

/* Ends the unfinished line of a stream. */
static void end_line(struct output *o, struct stream *s)
{
	const struct slot *slot = stage_slot(&o->stage, s->slot);

	if (s->fd < 0 || (!slot->carry_size && !slot->continued))
		return;
	begin(o, s);
	stage_header(&o->stage)->flush = 1;
	stage_set_phase(&o->stage, STAGE_HAVE);
	work(o);
}

/* Tells how many lines of a stream had to be dropped, once that can be told. */
static void tell_dropped(struct output *o, struct stream *s)
{
	struct stage_header *h = stage_header(&o->stage);
	struct slot *slot = stage_slot(&o->stage, s->slot);
	struct encode_job job = { .settings = s->d->settings, .stream = s->index };

	for (unsigned k = 0; k < _SINK_MAX; k++) {
		bool blocked = k == SINK_LOG ? log_is_parked(o, file_of(s->d->settings)) : anything_parked(o, k);
		char text[160];

		if (!slot->dropped[k])
			continue;
		if (blocked || (k == SINK_SPOOL && o->spool_failing)) {
			o->dropped = true; /* later */
			continue;
		}
		if (k == SINK_SPOOL && !s->d->settings->store) {
			slot->dropped[k] = 0;
			continue;
		}
		begin(o, s);
		job.ts_us = h->ts_us;
		/* in the problem too: format raw has no place for it */
		snprintf(text, sizeof(text), "%" PRIu32 " lines dropped: the %s could not be written", slot->dropped[k],
		    k == SINK_LOG ? "log file" : "spool");
		problem(o, s->d->settings->text, text, 0);
		if (encode_notice(&job, text, k == SINK_LOG, k == SINK_SPOOL, &o->encoded) < 0 ||
		    stage_reserve_out(&o->stage, k, (uint32_t)(k == SINK_LOG ? o->encoded.log.size : o->encoded.spool.size)) < 0)
			continue;
		stage_encoded(o, &o->encoded);
		h->keep_raw = 1;
		h->set_dropped[k] = 1;
		h->next_dropped[k] = 0;
		stage_set_phase(&o->stage, STAGE_READY);
		(void)deliver(o, false);
		stage_apply(&o->stage);
	}
}

/* Tries to write what is parked. */
static void retry(struct output *o)
{
	struct stage_header *h = stage_header(&o->stage);
	_cleanup_text_ struct text failed = { 0 }; /* names, each between NULs */
	bool left[_SINK_MAX] = { 0 };
	const char *file;
	struct parcel *p;
	uint32_t at = 0;
	char *data;
	int r;

	while ((p = stage_next_parked(&o->stage, SINK_SPOOL, &at, &file, &data))) {
		if (p->done)
			continue;
		r = spool_append_parcel(o, p, data);
		if (r < 0) {
			spool_failed(o, r);
			left[SINK_SPOOL] = true;
			break;
		}
		__atomic_store_n(&p->done, 1, __ATOMIC_SEQ_CST);
	}
	at = 0;
	while ((p = stage_next_parked(&o->stage, SINK_LOG, &at, &file, &data))) {
		size_t n = strlen(file) + 1;

		if (p->done)
			continue;
		if (failed.size && memmem(failed.data, failed.size, file, n)) {
			left[SINK_LOG] = true; /* its order stays; a name that ends like a failed one waits too */
			continue;
		}
		r = log_get(o, file);
		if (r >= 0)
			r = logfile_append(r, p, data);
		if (r < 0) {
			log_failed(o, file, r);
			text_add_bytes(&failed, file, n);
			left[SINK_LOG] = true;
			continue;
		}
		log_works(o, file);
		__atomic_store_n(&p->done, 1, __ATOMIC_SEQ_CST);
	}
	for (unsigned k = 0; k < _SINK_MAX; k++)
		if (!left[k])
			__atomic_store_n(&h->parked[k], 0, __ATOMIC_SEQ_CST);
	if (!left[SINK_SPOOL])
		o->spool_failing = false;
	o->retry_at = left[SINK_LOG] || left[SINK_SPOOL] ? clock_mono_ms() + RETRY_MS : 0;
}

/* ---- compression, in a process of its own ---- */

static bool wants_compression(const char *file, void *userdata)
{
	const struct daemon *d = find_by_file(userdata, file);

	return d && d->settings->compress;
}

static void compress_in_child(struct output *o, pid_t parent)
{
	sigset_t none;

	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	prctl(PR_SET_PDEATHSIG, SIGKILL); /* the next logger begins anew */
	if (getppid() != parent)
		_exit(1);
	/* nothing of the logger's may stay open here: its lock, the control socket, FIFOs, the spool's lock */
	if (dup2(o->log_dirfd, 3) < 0 || close_range(4, ~0u, 0) < 0)
		_exit(1);
	(void)setpriority(PRIO_PROCESS, 0, 19);
	(void)syscall(SYS_ioprio_set, IOPRIO_WHO_PROCESS, 0, IOPRIO_PRIO_VALUE(IOPRIO_CLASS_IDLE, 0));
	logfile_compress_all(3, wants_compression, o);
	_exit(0);
}

static void start_compressor(struct output *o)
{
	struct epoll_event e = { .events = EPOLLIN, .data.ptr = o };
	pid_t parent = getpid(), pid;

	o->compress = false;
	if (o->compressor) {
		o->compress_again = true;
		return;
	}
	if (!logfile_any_to_compress(o->log_dirfd, wants_compression, o))
		return;
	pid = fork();
	if (pid < 0) {
		problem(o, NULL, "rotated log files are not compressed", -errno);
		return;
	}
	if (!pid)
		compress_in_child(o, parent);
	o->compressor = pid;
	o->compressor_fd = pidfd_open_(pid);
	if (o->compressor_fd < 0 || epoll_ctl(o->epoll_fd, EPOLL_CTL_ADD, o->compressor_fd, &e) < 0) {
		/* no way to be told of its end: wait for it, which is what a kernel without pidfds gets */
		waitpid(pid, NULL, 0);
		closep(&o->compressor_fd);
		o->compressor_fd = -1;
		o->compressor = 0;
	}
}

static void reap_compressor(struct output *o)
{
	if (waitpid(o->compressor, NULL, WNOHANG) != o->compressor)
		return;
	close(TAKE_FD(o->compressor_fd));
	o->compressor = 0;
	if (o->compress_again)
		o->compress = true;
	o->compress_again = false;
}

/* ---- daemons ---- */

static void close_stream(struct output *o, struct stream *s)
{
	if (s->fd < 0)
		return;
	/* said explicitly: a compressor that was just forked may still have the descriptor for a moment */
	(void)epoll_ctl(o->epoll_fd, EPOLL_CTL_DEL, s->fd, NULL);
	close(TAKE_FD(s->fd));
}

static struct daemon *daemon_free_(struct output *o, struct daemon *d)
{
	for (unsigned i = 0; i < 2; i++)
		close_stream(o, &d->streams[i]);
	closep(&d->log_fd);
	free(d->settings);
	free(d);
	return NULL;
}

/* The incarnation's first byte in the log file, kept over restarts of the logger. */
static void note_run(struct output *o, const struct daemon *d)
{
	const struct settings *s = d->settings;
	const char *run = settings_get_text(s, s->run);
	uint64_t hash = stage_hash(run ? run : "") | 1;
	struct slot *slot = stage_slot(&o->stage, d->streams[0].slot);
	char name[NAME_MAX + 1];
	struct stat st;

	if (slot->run == hash)
		return;
	snprintf(name, sizeof(name), "%s.log", file_of(s));
	if (fstatat(o->log_dirfd, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
		st = (struct stat){ 0 };
	slot->run_inode = st.st_ino;
	slot->run_size = (uint64_t)st.st_size;
	__atomic_store_n(&slot->run, hash, __ATOMIC_SEQ_CST);
}

/* Opens a stream's FIFO, also one that has been made anew under the same name. */
static int open_stream(struct output *o, struct stream *s, struct error *err)
{
	struct epoll_event e = { .events = EPOLLIN, .data.ptr = s };
	_cleanup_(closep) int fd = -1;
	char fifo[DAEMON_NAME_MAX + 8], path[DAEMON_NAME_MAX + 16];
	struct stat st, old;
	int r;

	snprintf(fifo, sizeof(fifo), "%s.%s", file_of(s->d->settings), s->index ? "err" : "out");
	snprintf(path, sizeof(path), "fifo/%s", fifo);
	/* O_RDWR: there is always a writer, so the end of one daemon process is no end of file */
	fd = openat(o->runtime_fd, path, O_RDWR | O_NONBLOCK | O_CLOEXEC | O_NOFOLLOW | O_NOCTTY);
	if (fd < 0 && errno == ENOENT && s->index)
		return 0; /* stderr goes to stdout's */
	if (fd < 0)
		return error_set(err, -errno, "%s: cannot open %s: %s", s->d->settings->text, path, strerror(errno));
	if (fstat(fd, &st) < 0 || !S_ISFIFO(st.st_mode) || st.st_uid != geteuid())
		return error_set(err, -EINVAL, "%s: %s is not a FIFO of ours", s->d->settings->text, path);
	if (s->fd >= 0 && !fstat(s->fd, &old) && old.st_ino == st.st_ino && old.st_dev == st.st_dev)
		return 0;
	r = stage_take_slot(&o->stage, fifo, &s->slot);
	if (r < 0)
		return error_set(err, r, "%s: no room for another stream in logger.state: %s", s->d->settings->text,
		    strerror(-r));
	close_stream(o, s);
	if (epoll_ctl(o->epoll_fd, EPOLL_CTL_ADD, fd, &e) < 0)
		return error_set(err, -errno, "%s: cannot watch %s: %s", s->d->settings->text, path, strerror(errno));
	s->fd = TAKE_FD(fd);
	for (unsigned k = 0; k < _SINK_MAX; k++)
		if (stage_slot(&o->stage, s->slot)->dropped[k])
			o->dropped = true;
	return 0;
}

static bool same_text(const struct settings *a, uint16_t at, const struct settings *b, uint16_t bt)
{
	const char *s = settings_get_text(a, at), *t = settings_get_text(b, bt);

	return s && t ? !strcmp(s, t) : s == t;
}

int output_open_daemon(struct output *o, const cJSON *message, struct error *err)
{
	_cleanup_(freep) struct settings *s = NULL;
	struct daemon *d, **p;
	size_t at;
	int r;

	r = settings_from_json(message, &s, err);
	if (r < 0)
		return r;
	d = find(o, s->text);
	if (d) {
		/* an unfinished line belongs to what was there before */
		if (d->settings->format != s->format || !same_text(d->settings, d->settings->run, s, s->run))
			for (unsigned i = 0; i < 2; i++)
				end_line(o, &d->streams[i]);
		free(d->settings);
		d->settings = TAKE_PTR(s);
		for (unsigned i = 0; i < 2; i++) {
			r = open_stream(o, &d->streams[i], err);
			if (r < 0)
				return r;
		}
		note_run(o, d);
		return 0;
	}
	p = realloc(o->daemons, (o->n_daemons + 1) * sizeof(*p));
	if (!p)
		return error_set(err, -ENOMEM, "no memory");
	o->daemons = p;
	d = calloc(1, sizeof(*d));
	if (!d)
		return error_set(err, -ENOMEM, "no memory");
	d->settings = TAKE_PTR(s);
	d->log_fd = d->streams[0].fd = d->streams[1].fd = -1;
	for (unsigned i = 0; i < 2; i++) {
		d->streams[i].d = d;
		d->streams[i].index = i;
		r = open_stream(o, &d->streams[i], err);
		if (r < 0) {
			daemon_free_(o, d);
			return r;
		}
	}
	at = position(o, d->settings->text);
	memmove(p + at + 1, p + at, (o->n_daemons - at) * sizeof(*p));
	p[at] = d;
	o->n_daemons++;
	if (d->settings->compress)
		o->compress = true;
	note_run(o, d);
	return 0;
}

static int add_drain(struct output *o, struct daemon *d, const char *id, uint64_t deadline_ms)
{
	struct drain *p = realloc(o->drains, (o->n_drains + 1) * sizeof(*p));
	char *copy = id ? strdup(id) : NULL;

	if (p)
		o->drains = p;
	if (!p || (id && !copy)) {
		free(copy);
		return -ENOMEM;
	}
	p[o->n_drains++] = (struct drain){ d, copy, clock_mono_ms() + (deadline_ms < 86400000 ? deadline_ms : 86400000) };
	return 0;
}

int output_drain(struct output *o, const char *daemon, const char *id, uint64_t deadline_ms)
{
	struct daemon *d = find(o, daemon);

	if (!d)
		return -ENOENT;
	/* what waits now was said by the process that has ended; the next message may open another incarnation */
	for (unsigned i = 0; i < 2; i++)
		for (uint32_t n = waiting(&d->streams[i]); n; n -= n < STAGE_BATCH ? n : STAGE_BATCH)
			turn(o, &d->streams[i]);
	return add_drain(o, d, id, deadline_ms);
}

int output_close_daemon(struct output *o, const char *daemon)
{
	struct daemon *d = find(o, daemon);

	return d ? add_drain(o, d, NULL, CLOSE_DRAIN_MS) : -ENOENT;
}

int output_rotate(struct output *o, const char *daemon)
{
	struct daemon *d = find(o, daemon);

	return d ? rotate(o, d->settings) : -ENOENT;
}

static cJSON *tail_of(struct output *o, const struct daemon *d)
{
	const struct slot *slot = stage_slot(&o->stage, d->streams[0].slot);
	_cleanup_text_ struct text parked = { 0 };
	const struct parcel *p;
	const char *file;
	uint32_t at = 0;
	char *data;

	while ((p = stage_next_parked(&o->stage, SINK_LOG, &at, &file, &data)))
		if (!p->done && !strcmp(file, file_of(d->settings)))
			text_add_bytes(&parked, data, p->size);
	return tail_collect(o->log_dirfd, d->settings, slot->run_inode, slot->run_size, parked.data, parked.size);
}

static void forget(struct output *o, struct daemon *d)
{
	size_t at = position(o, d->settings->text), n = 0;

	for (unsigned i = 0; i < 2; i++)
		if (d->streams[i].fd >= 0)
			stage_give_slot(&o->stage, d->streams[i].slot);
	memmove(o->daemons + at, o->daemons + at + 1, (o->n_daemons - at - 1) * sizeof(*o->daemons));
	o->n_daemons--;
	for (size_t i = 0; i < o->n_drains; i++) { /* others that wait for the same daemon */
		if (o->drains[i].d == d)
			free(o->drains[i].id);
		else
			o->drains[n++] = o->drains[i];
	}
	o->n_drains = n;
	daemon_free_(o, d);
}

/* Ends the drains that are over. */
static void end_drains(struct output *o)
{
	for (size_t i = 0; i < o->n_drains;) {
		struct drain r = o->drains[i];
		bool empty = !waiting(&r.d->streams[0]) && !waiting(&r.d->streams[1]);

		if (!empty && clock_mono_ms() < r.deadline) {
			i++;
			continue;
		}
		memmove(o->drains + i, o->drains + i + 1, (o->n_drains - i - 1) * sizeof(*o->drains));
		o->n_drains--;
		for (unsigned k = 0; k < 2; k++)
			end_line(o, &r.d->streams[k]);
		if (r.id) {
			_cleanup_json_ cJSON *tail = tail_of(o, r.d);

			o->on.drained(r.d->settings->text, r.id, empty, tail, o->on.userdata);
			free(r.id);
		} else {
			forget(o, r.d);
			i = 0;
		}
	}
}

/* ---- the loop ---- */

int output_get_epoll_fd(const struct output *o)
{
	return o->epoll_fd;
}

int output_get_timeout(struct output *o)
{
	uint64_t now, until = UINT64_MAX;

	for (size_t i = 0; i < o->n_drains; i++)
		if (o->drains[i].deadline < until)
			until = o->drains[i].deadline;
	if (o->retry_at && o->retry_at < until)
		until = o->retry_at;
	if ((o->encoded.log.room > BUFFER_KEEP || o->encoded.spool.room > BUFFER_KEEP) && o->last_turn + RETRY_MS < until)
		until = o->last_turn + RETRY_MS;
	if (until == UINT64_MAX)
		return -1;
	now = clock_mono_ms();
	return until <= now ? 0 : until - now > 60000 ? 60000 : (int)(until - now);
}

void output_handle(struct output *o, const struct epoll_event *e)
{
	if (e->data.ptr == o) {
		reap_compressor(o);
		return;
	}
	turn(o, e->data.ptr);
	o->last_turn = 0;
}

void output_tick(struct output *o)
{
	if (o->retry_at && clock_mono_ms() >= o->retry_at) {
		o->small = false;
		retry(o);
	}
	if (o->dropped) {
		o->dropped = false;
		for (size_t i = 0; i < o->n_daemons; i++)
			for (unsigned k = 0; k < 2; k++)
				if (o->daemons[i]->streams[k].fd >= 0)
					tell_dropped(o, &o->daemons[i]->streams[k]);
	}
	if (o->n_drains)
		end_drains(o);
	if (o->compress)
		start_compressor(o);
	if (o->encoded.log.room > BUFFER_KEEP || o->encoded.spool.room > BUFFER_KEEP) {
		if (!o->last_turn) {
			o->last_turn = clock_mono_ms();
		} else if (clock_mono_ms() >= o->last_turn + RETRY_MS) {
			encoded_free(&o->encoded);
			o->small = false;
		}
	}
}

/* What a killed logger had in hand. */
static void recover(struct output *o)
{
	struct stage_header *h = stage_header(&o->stage);

	switch (stage_get_phase(&o->stage)) {
	case STAGE_READING:
		if ((unsigned char)stage_raw(&o->stage)[0] == (unsigned char)~h->first)
			stage_set_phase(&o->stage, STAGE_IDLE);
		else
			stage_set_phase(&o->stage, STAGE_HAVE);
		break;
	case STAGE_READY:
		(void)deliver(o, false);
		stage_apply(&o->stage);
		break;
	case STAGE_DONE:
		stage_apply(&o->stage);
		break;
	default:
		break;
	}
	work(o);
	if (anything_parked(o, SINK_LOG) || anything_parked(o, SINK_SPOOL))
		retry(o);
}

int output_new(struct output **ret, const char *runtime, const char *state, const struct output_handlers *handlers,
    struct error *err)
{
	_cleanup_(output_freep) struct output *o = calloc(1, sizeof(*o));
	char path[PATH_MAX];
	bool aside;
	int r;

	if (!o)
		return error_set(err, -ENOMEM, "no memory");
	o->on = *handlers;
	o->stage.fd = o->epoll_fd = o->runtime_fd = o->log_dirfd = o->spare_fd = o->compressor_fd = -1;
	o->peek[0] = o->peek[1] = -1;
	/* A buffer of a burst goes back to the system when it is freed, and does not raise the bar for the next one. */
	mallopt(M_MMAP_THRESHOLD, 128 << 10);

	o->runtime_fd = open(runtime, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (o->runtime_fd < 0)
		return error_set(err, -errno, "cannot open folder %s: %s", runtime, strerror(errno));
	if (!*path_format(path, sizeof(path), state, "log"))
		return error_set(err, -ENAMETOOLONG, "the path %s is too long", state);
	r = dir_make_private(path, err);
	if (r < 0)
		return r;
	o->log_dirfd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (o->log_dirfd < 0)
		return error_set(err, -errno, "cannot open folder %s: %s", path, strerror(errno));
	if (!*path_format(o->spool_folder, sizeof(o->spool_folder), state, "spool/logger"))
		return error_set(err, -ENAMETOOLONG, "the path %s is too long", state);
	o->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	if (o->epoll_fd < 0 || pipe2(o->peek, O_CLOEXEC | O_NONBLOCK) < 0)
		return error_set(err, -errno, "cannot make a pipe: %s", strerror(errno));

	r = stage_open(&o->stage, o->runtime_fd, &aside, err);
	if (r < 0)
		return r;
	if (aside)
		problem(o, NULL, "logger.state was unreadable or from before a reboot, and was set aside", 0);
	r = spool_get(o);
	if (r < 0) {
		spool_failed(o, r);
		o->retry_at = clock_mono_ms() + RETRY_MS;
	}
	recover(o);
	*ret = TAKE_PTR(o);
	return 0;
}

struct output *output_free(struct output *o)
{
	if (!o)
		return NULL;
	for (size_t i = 0; i < o->n_drains; i++)
		free(o->drains[i].id);
	free(o->drains);
	for (size_t i = 0; i < o->n_daemons; i++)
		daemon_free_(o, o->daemons[i]);
	free(o->daemons);
	spool_close(o->spool);
	encoded_free(&o->encoded);
	stage_close(&o->stage);
	closep(&o->spare_fd);
	closep(&o->compressor_fd);
	closep(&o->peek[0]);
	closep(&o->peek[1]);
	closep(&o->log_dirfd);
	closep(&o->runtime_fd);
	closep(&o->epoll_fd);
	free(o);
	return NULL;
}
