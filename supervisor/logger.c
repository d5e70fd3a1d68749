/* SPDX-License-Identifier: Apache-2.0 */
/*
 * supervise-logger RUNTIME STATE: puts what daemons write into log files and the spool.
 *
 * Descriptor 3 is the supervisor's end of a SOCK_SEQPACKET pair (output/protocol.h). At its end of file, and on SIGTERM,
 * the logger finishes what it has read and exits 0. It holds RUNTIME/logger.lock before it touches anything, so that
 * of an old and a new logger only one reads.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/error.h"
#include "base/json.h"
#include "output/output.h"
#include "output/protocol.h"

enum { TAG_CONTROL = 1, TAG_SIGNAL, QUEUE_MAX = 4 << 20, EVENTS = 64 };

/* A message the supervisor has not taken yet. */
struct message {
	struct message *next;
	size_t size;
	char text[];
};

struct logger {
	struct output *output;
	struct message *first, **last;
	size_t queued; /* bytes */
	bool waits_for_room;
	bool end;
};

/* Sends what is queued until the socket is full. */
static void flush_queue(struct logger *l)
{
	struct epoll_event e = { .events = EPOLLIN, .data.u64 = TAG_CONTROL };

	while (l->first) {
		struct message *m = l->first;

		if (send(OUTPUT_CONTROL_FD, m->text, m->size, MSG_DONTWAIT | MSG_NOSIGNAL) < 0) {
			if (errno == EINTR)
				continue;
			if (errno == EAGAIN)
				break;
			/* gone, or too large for the socket: no later attempt would do better */
		}
		l->queued -= m->size;
		l->first = m->next;
		if (!l->first)
			l->last = &l->first;
		free(m);
	}
	if (l->waits_for_room == (l->first != NULL) || !l->output)
		return;
	l->waits_for_room = l->first != NULL;
	if (l->waits_for_room)
		e.events |= EPOLLOUT;
	(void)epoll_ctl(output_get_epoll_fd(l->output), EPOLL_CTL_MOD, OUTPUT_CONTROL_FD, &e);
}

static void send_message(struct logger *l, const cJSON *j)
{
	_cleanup_(freep) char *text = json_print(j);
	size_t size = text ? strlen(text) : 0;
	struct message *m;

	if (!text || size > OUTPUT_MESSAGE_MAX || l->queued + size > QUEUE_MAX)
		return;
	m = malloc(sizeof(*m) + size);
	if (!m)
		return;
	m->next = NULL;
	m->size = size;
	memcpy(m->text, text, size);
	*l->last = m;
	l->last = &m->next;
	l->queued += size;
	flush_queue(l);
}

static cJSON *new_message(const char *op)
{
	cJSON *j = cJSON_CreateObject();

	json_add_text(j, "op", op);
	return j;
}

static void on_problem(const char *daemon, const char *title, const char *reason, void *userdata)
{
	_cleanup_json_ cJSON *j = new_message("problem");
	cJSON *details;

	json_add_text(j, "daemon", daemon);
	json_add_text(j, "title", title);
	details = json_add_object(j, "details");
	if (reason)
		json_add_text(details, "reason", reason);
	send_message(userdata, j);
}

static void send_drained(struct logger *l, const char *daemon, const char *id, bool complete, const cJSON *tail)
{
	_cleanup_json_ cJSON *j = new_message("drained"), *lines = tail ? cJSON_Duplicate(tail, 1) : cJSON_CreateArray();

	json_add_text(j, "daemon", daemon);
	json_add_text(j, "id", id);
	json_add_bool(j, "complete", complete);
	/* escapes can make the text six times as long: leave out the oldest lines until the message fits */
	for (;;) {
		_cleanup_(freep) char *text = lines ? json_print(lines) : NULL;

		if (!text || strlen(text) + 1024 < OUTPUT_MESSAGE_MAX || !cJSON_GetArraySize(lines))
			break;
		cJSON_DeleteItemFromArray(lines, 0);
	}
	cJSON_AddItemToObject(j, "tail", TAKE_PTR(lines));
	send_message(l, j);
}

static void on_drained(const char *daemon, const char *id, bool complete, cJSON *tail, void *userdata)
{
	send_drained(userdata, daemon, id, complete, tail);
}

static void handle_message(struct logger *l, const char *data, size_t size)
{
	_cleanup_json_ cJSON *j = NULL;
	struct error err = { 0 };
	const char *op, *daemon, *id;
	int64_t deadline;
	int r = json_parse(data, size, &j, &err);

	if (r < 0) {
		on_problem(NULL, "control message is no JSON", err.text, l);
		return;
	}
	op = json_get_string(j, "op", "");
	daemon = json_get_string(j, "daemon", "");
	if (!strcmp(op, "open")) {
		r = output_open_daemon(l->output, j, &err);
		if (r < 0)
			on_problem(*daemon ? daemon : NULL, "output cannot be read", err.text, l);
	} else if (!strcmp(op, "drain")) {
		id = json_get_string(j, "id", "");
		deadline = json_get_i64(j, "deadline_ms", 0);
		r = output_drain(l->output, daemon, id, deadline > 0 ? (uint64_t)deadline : 0);
		if (r < 0) /* nothing to wait for */
			send_drained(l, daemon, id, r == -ENOENT, NULL);
	} else if (!strcmp(op, "close")) {
		(void)output_close_daemon(l->output, daemon); /* not open: closed already */
	} else if (!strcmp(op, "rotate")) {
		r = output_rotate(l->output, daemon);
		if (r < 0 && r != -ENOENT)
			on_problem(daemon, "log file is not rotated now", strerror(-r), l);
	} else {
		on_problem(NULL, "control message with an unknown \"op\"", op, l);
	}
}

/* All messages that have come. */
static void receive(struct logger *l)
{
	for (;;) {
		_cleanup_(freep) char *data = NULL;
		char none;
		ssize_t size = recv(OUTPUT_CONTROL_FD, &none, 0, MSG_PEEK | MSG_TRUNC | MSG_DONTWAIT);
		ssize_t n;

		if (size < 0 && errno == EINTR)
			continue;
		if (size < 0 && errno == EAGAIN)
			return;
		if (size > OUTPUT_MESSAGE_MAX) {
			(void)recv(OUTPUT_CONTROL_FD, &none, 0, MSG_TRUNC | MSG_DONTWAIT);
			on_problem(NULL, "control message is too long", NULL, l);
			continue;
		}
		if (size <= 0) { /* an empty message cannot be told from the end, and means nothing else */
			l->end = true;
			return;
		}
		data = malloc((size_t)size);
		if (!data)
			return; /* it stays in the socket */
		n = recv(OUTPUT_CONTROL_FD, data, (size_t)size, MSG_DONTWAIT);
		if (n > 0)
			handle_message(l, data, (size_t)n);
	}
}

static int run(struct logger *l, int signal_fd)
{
	struct epoll_event control = { .events = EPOLLIN, .data.u64 = TAG_CONTROL };
	struct epoll_event signals = { .events = EPOLLIN, .data.u64 = TAG_SIGNAL };
	struct epoll_event events[EVENTS];
	int epoll_fd = output_get_epoll_fd(l->output);

	if (epoll_ctl(epoll_fd, EPOLL_CTL_ADD, OUTPUT_CONTROL_FD, &control) < 0 ||
	    epoll_ctl(epoll_fd, EPOLL_CTL_ADD, signal_fd, &signals) < 0)
		return -errno;
	while (!l->end) {
		bool message = false, room = false;
		int n = epoll_wait(epoll_fd, events, EVENTS, output_get_timeout(l->output));

		if (n < 0 && errno != EINTR)
			return -errno;
		for (int i = 0; i < n; i++) {
			if (events[i].data.u64 == TAG_CONTROL) {
				message |= (events[i].events & ~(uint32_t)EPOLLOUT) != 0;
				room |= (events[i].events & EPOLLOUT) != 0;
			} else if (events[i].data.u64 == TAG_SIGNAL) {
				l->end = true;
			}
		}
		if (room)
			flush_queue(l);
		/* messages first: the lines of an incarnation come after the message that tells of it. What a message
		 * closes is only forgotten in the tick, so the other events stay good. */
		if (message)
			receive(l);
		for (int i = 0; i < n; i++)
			if (events[i].data.u64 != TAG_CONTROL && events[i].data.u64 != TAG_SIGNAL)
				output_handle(l->output, &events[i]);
		output_tick(l->output);
	}
	return 0;
}

int main(int argc, char **argv)
{
	struct output_handlers handlers = { on_problem, on_drained, NULL };
	_cleanup_(closep) int signal_fd = -1;
	_cleanup_(closep) int lock = -1;
	_cleanup_json_ cJSON *ready = NULL;
	struct logger l = { 0 };
	struct error err = { 0 };
	struct rlimit files;
	char path[4096];
	sigset_t mask;
	int r;

	if (argc != 3 || argv[1][0] != '/' || argv[2][0] != '/') {
		fprintf(stderr, "usage: supervise-logger RUNTIME STATE\n"
		                "Started by supervise; descriptor 3 is its control socket.\n");
		return 64;
	}
	if (fcntl(OUTPUT_CONTROL_FD, F_SETFD, FD_CLOEXEC) < 0) {
		fprintf(stderr, "supervise-logger: descriptor 3 is not open: this program is started by supervise\n");
		return 64;
	}
	l.last = &l.first;
	handlers.userdata = &l;
	umask(077);
	(void)setrlimit(RLIMIT_CORE, &(struct rlimit){ 0, 0 }); /* a core file would hold what daemons said */
	signal(SIGPIPE, SIG_IGN);
	signal(SIGXFSZ, SIG_IGN); /* a file size limit is an error of write(2), like a full disk */
	signal(SIGHUP, SIG_IGN);
	signal(SIGINT, SIG_IGN);
	if (!getrlimit(RLIMIT_NOFILE, &files)) {
		files.rlim_cur = files.rlim_max;
		(void)setrlimit(RLIMIT_NOFILE, &files);
	}

	if ((size_t)snprintf(path, sizeof(path), "%s/logger.lock", argv[1]) >= sizeof(path))
		return 64;
	lock = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
	while (lock >= 0 && (r = flock(lock, LOCK_EX)) < 0 && errno == EINTR)
		;
	if (lock < 0 || r < 0) {
		fprintf(stderr, "supervise-logger: cannot lock %s: %s\n", path, strerror(errno));
		return 73;
	}
	sigemptyset(&mask);
	sigaddset(&mask, SIGTERM);
	sigprocmask(SIG_BLOCK, &mask, NULL);
	signal_fd = signalfd(-1, &mask, SFD_CLOEXEC | SFD_NONBLOCK);
	if (signal_fd < 0) {
		fprintf(stderr, "supervise-logger: signalfd: %s\n", strerror(errno));
		return 71;
	}

	r = output_new(&l.output, argv[1], argv[2], &handlers, &err);
	if (r < 0) {
		fprintf(stderr, "supervise-logger: %s\n", err.text);
		on_problem(NULL, "the logger cannot work", err.text, &l);
		return 74;
	}
	ready = new_message("ready");
	send_message(&l, ready);
	r = run(&l, signal_fd);
	l.output = output_free(l.output);
	while (l.first) {
		struct message *m = l.first;

		l.first = m->next;
		free(m);
	}
	if (r < 0)
		fprintf(stderr, "supervise-logger: %s\n", strerror(-r));
	return r < 0 ? 71 : 0;
}
