/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Threads: the listener answers crashing processes, a tracer follows each daemon in ptrace mode, the writer puts
 * snapshots on disk. The first two hold processes and so wait for nothing else.
 *
 * If the supervisor is killed, a process being held goes on within CAPTURE_RECEIVE_MS (agent), or at once (tracee: the
 * kernel detaches it, and its signal is delivered). A snapshot not written yet is lost: that death has its status alone.
 */
#include "capture/capture.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/file.h"
#include "base/paths.h"
#include "base/uuid.h"
#include "capture/post.h"

enum {
	QUEUED_BYTES_MAX = 256 << 20, /* of snapshots not written yet */
	NAME_MAX_ = 64,
};

struct item {
	struct item *next;
	struct capture_event event;
	struct snapshot_writer w;
};

struct queue {
	struct item *first, **last;
};

struct capture {
	int runtime_fd, event_fd;
	pthread_mutex_t lock;
	pthread_cond_t wake; /* of the writer */
	struct queue write, done;
	size_t queued_bytes;
	bool stopping;
	pthread_t writer;
	bool writer_runs;
	struct listener *listener;
	struct tracer *tracers;
};

static const char *const mode_names[_CAPTURE_MAX] = { [CAPTURE_UNKNOWN] = "unknown", [CAPTURE_PRELOAD] = "preload",
	[CAPTURE_PTRACE] = "ptrace", [CAPTURE_STATUS] = "status", [CAPTURE_OFF] = "off" };

const char *capture_mode_to_string(enum capture_mode m)
{
	return m > CAPTURE_UNKNOWN && m < _CAPTURE_MAX ? mode_names[m] : mode_names[CAPTURE_UNKNOWN];
}

static void push(struct queue *q, struct item *i)
{
	if (!q->last)
		q->last = &q->first;
	*q->last = i;
	q->last = &i->next;
}

static struct item *pop(struct queue *q)
{
	struct item *i = q->first;

	if (i) {
		q->first = i->next;
		if (!q->first)
			q->last = &q->first;
		i->next = NULL;
	}
	return i;
}

static void tell(struct capture *c, struct item *i)
{
	const uint64_t one = 1;

	pthread_mutex_lock(&c->lock);
	push(&c->done, i);
	pthread_mutex_unlock(&c->lock);
	(void)!write(c->event_fd, &one, sizeof(one));
}

void capture_post(struct capture *c, const struct capture_event *e)
{
	struct item *i = calloc(1, sizeof(*i));

	if (!i)
		return;
	i->event = *e;
	tell(c, i);
}

void capture_post_snapshot(struct capture *c, const struct target *t, const siginfo_t *si, enum capture_mode mode,
    uint64_t held_us)
{
	struct snapshot_info info = { .wall_us = clock_now_us(), .mode = mode,
		.held_us = held_us > UINT32_MAX ? UINT32_MAX : (uint32_t)held_us };
	struct item *i = calloc(1, sizeof(*i));
	bool full;

	if (!i)
		return;
	target_describe_signal(&info, si);
	i->event = (struct capture_event){ .kind = CAPTURE_EVENT_SNAPSHOT, .pid = t->pid, .tid = t->tid,
		.signal = si->si_signo, .held_us = held_us };
	snprintf(i->event.snapshot, sizeof(i->event.snapshot), "%d-%llu.snap", (int)t->pid,
	    (unsigned long long)t->start_ticks);
	memcpy(i->event.daemon, t->daemon, sizeof(t->daemon));
	memcpy(i->event.run, t->run, sizeof(t->run));
	pthread_mutex_lock(&c->lock);
	full = c->queued_bytes > QUEUED_BYTES_MAX;
	pthread_mutex_unlock(&c->lock);
	if (full || target_write(t, &info, &i->w) < 0) {
		/* the disk does not follow, or no memory: the death is reported by its status */
		snapshot_writer_free(&i->w);
		free(i);
		return;
	}
	pthread_mutex_lock(&c->lock);
	c->queued_bytes += i->w.size;
	push(&c->write, i);
	pthread_cond_signal(&c->wake);
	pthread_mutex_unlock(&c->lock);
}

static void *write_snapshots(void *userdata)
{
	struct capture *c = userdata;
	char path[PATH_MAX];

	pthread_mutex_lock(&c->lock);
	for (;;) {
		struct item *i = pop(&c->write);
		size_t size;
		int r;

		if (!i) {
			if (c->stopping)
				break;
			pthread_cond_wait(&c->wake, &c->lock);
			continue;
		}
		pthread_mutex_unlock(&c->lock);
		size = i->w.size;
		snprintf(path, sizeof(path), "pending/%s", i->event.snapshot);
		r = file_replace(c->runtime_fd, path, i->w.data, size, 0600, 0);
		snapshot_writer_free(&i->w);
		if (r < 0) {
			i->event.kind = CAPTURE_EVENT_NONE;
			free(i);
		} else {
			tell(c, i);
		}
		pthread_mutex_lock(&c->lock);
		c->queued_bytes -= size;
	}
	pthread_mutex_unlock(&c->lock);
	return NULL;
}

int capture_start_thread(pthread_t *ret, void *(*run)(void *), void *argument)
{
	pthread_attr_t attributes;
	sigset_t all, before;
	int r;

	sigfillset(&all);
	pthread_attr_init(&attributes);
	pthread_attr_setstacksize(&attributes, 256 << 10);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	r = pthread_create(ret, &attributes, run, argument);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	pthread_attr_destroy(&attributes);
	return -r;
}

int capture_start(struct capture **ret, const struct capture_options *o, struct error *err)
{
	_cleanup_(capture_stopp) struct capture *c = calloc(1, sizeof(*c));
	int r;

	if (!c)
		return error_set(err, -ENOMEM, "crash capture: no memory");
	pthread_mutex_init(&c->lock, NULL);
	pthread_cond_init(&c->wake, NULL);
	c->event_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	c->runtime_fd = open(o->runtime, O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (c->event_fd < 0 || c->runtime_fd < 0)
		return error_set(err, -errno, "crash capture: %s: %s", o->runtime, strerror(errno));
	if (mkdirat(c->runtime_fd, "pending", 0700) < 0 && errno != EEXIST)
		return error_set(err, -errno, "crash capture: %s/pending: %s", o->runtime, strerror(errno));
	r = capture_start_thread(&c->writer, write_snapshots, c);
	if (r < 0)
		return error_set(err, r, "crash capture: cannot start a thread: %s", strerror(-r));
	c->writer_runs = true;
	r = listener_start(&c->listener, c, c->runtime_fd, o, err);
	if (r < 0)
		return r;
	*ret = TAKE_PTR(c);
	return 0;
}

struct capture *capture_stop(struct capture *c)
{
	struct item *i;

	if (!c)
		return NULL;
	c->listener = listener_stop(c->listener);
	c->tracers = tracer_join(c->tracers, true);
	if (c->writer_runs) {
		pthread_mutex_lock(&c->lock);
		c->stopping = true;
		pthread_cond_signal(&c->wake);
		pthread_mutex_unlock(&c->lock);
		pthread_join(c->writer, NULL);
	}
	while ((i = pop(&c->done)))
		free(i);
	if (c->event_fd >= 0)
		close(c->event_fd);
	if (c->runtime_fd >= 0)
		close(c->runtime_fd);
	pthread_cond_destroy(&c->wake);
	pthread_mutex_destroy(&c->lock);
	free(c);
	return NULL;
}

int capture_get_fd(const struct capture *c)
{
	return c->event_fd;
}

int capture_next(struct capture *c, struct capture_event *ret)
{
	struct item *i;
	uint64_t n;

	pthread_mutex_lock(&c->lock);
	i = pop(&c->done);
	if (!i) /* under the lock: an event that comes now makes it readable again */
		(void)!read(c->event_fd, &n, sizeof(n));
	pthread_mutex_unlock(&c->lock);
	if (!i)
		return 0;
	*ret = i->event;
	free(i);
	return 1;
}

int capture_trace(struct capture *c, pid_t pid, int gate_fd)
{
	const char go = 1;
	int r;

	c->tracers = tracer_join(c->tracers, false);
	r = tracer_start(&c->tracers, c, pid, gate_fd, c->tracers);
	if (r < 0) {
		(void)!write(gate_fd, &go, 1);
		close(gate_fd);
	}
	return r;
}

/* --- what daemons need to know ------------------------------------------------------------------------------------- */

static bool name_ok(const char *s)
{
	return !strncmp(s, "supervise-", 10) && strlen(s) < NAME_MAX_ &&
	    strspn(s, "abcdefghijklmnopqrstuvwxyz0123456789-") == strlen(s);
}

int capture_socket_name(int runtime_fd, char *ret, size_t size)
{
	_cleanup_(freep) char *text = NULL;
	uint64_t random;
	int r = file_read(runtime_fd, "capture.name", NAME_MAX_, &text, NULL);

	/* kept in a file, since daemons outlive the supervisor and go on using it */
	if (r == 0 && name_ok(text)) {
		snprintf(ret, size, "%s", text);
		return 0;
	}
	random_bytes(&random, sizeof(random));
	snprintf(ret, size, "supervise-%u-%016llx", (unsigned)getuid(), (unsigned long long)random);
	return file_replace(runtime_fd, "capture.name", ret, strlen(ret), 0600, 0);
}

int capture_environment(const char *runtime, const char *preload_before, char *ret_preload, char *ret_socket,
    size_t size, struct error *err)
{
	_cleanup_(closep) int fd = open(runtime, O_PATH | O_DIRECTORY | O_CLOEXEC);
	char agent[PATH_MAX], name[NAME_MAX_], path[PATH_MAX];
	int r = paths_helper("supervise-agent.so", agent, err), n, m;

	if (r < 0)
		return r;
	if (agent[strcspn(agent, " :")] || agent[0] != '/')
		return error_set(err, -ENOENT, "%s cannot be preloaded: LD_PRELOAD takes no path with a blank or colon", agent);
	if (fd < 0)
		return error_set(err, -errno, "%s: %s", runtime, strerror(errno));
	r = capture_socket_name(fd, name, sizeof(name));
	if (r < 0)
		return error_set(err, r, "%s/capture.name: %s", runtime, strerror(-r));
	path_format(path, sizeof(path), runtime, "capture.sock");
	/* ours last: an allocator or sanitizer that insists on being first keeps its place */
	n = snprintf(ret_preload, size, "LD_PRELOAD=%s%s%s", preload_before ? preload_before : "",
	    preload_before && preload_before[0] ? ":" : "", agent);
	m = snprintf(ret_socket, size, CAPTURE_ENVIRONMENT "=@%s%s%s", name, path[0] && strlen(path) < 108 ? ":" : "",
	    path[0] && strlen(path) < 108 ? path : "");
	if (n < 0 || (size_t)n >= size || m < 0 || (size_t)m >= size)
		return error_set(err, -ENOENT, "LD_PRELOAD would be too long");
	return 0;
}
