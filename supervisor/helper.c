/* SPDX-License-Identifier: Apache-2.0 */
#include "supervisor/helper.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/file.h"
#include "base/paths.h"
#include "base/proc.h"
#include "supervisor/watch.h"

enum {
	MESSAGE_MAX = 256 * 1024,
	RESTART_MAX_MS = 10000,
	LIVED_MS = 5000, /* a helper that lived this long is restarted at once */
};

struct message {
	struct message *next;
	size_t size;
	char data[];
};

struct helper {
	uv_loop_t *loop;
	char *name, *runtime;
	char *const *argv;
	struct helper_callbacks cb;
	void *userdata;
	pid_t pid;
	int pidfd, sock;
	struct watch *pid_watch, *sock_watch;
	struct alarm_clock *alarm; /* restart delay */
	struct message *first, **last;
	uint64_t started_ms, delay_ms;
	unsigned restarts;
	bool finishing;
	char *buffer; /* incoming */
};

static void schedule_restart(struct helper *h);
static void on_alarm(void *userdata);

static void pid_file(const struct helper *h, pid_t pid)
{
	char path[PATH_MAX], text[16];
	const char *dash = strchr(h->name, '-');

	path_format(path, sizeof(path), h->runtime, "%s.pid", dash ? dash + 1 : h->name);
	if (pid) {
		snprintf(text, sizeof(text), "%d\n", (int)pid);
		(void)file_replace(AT_FDCWD, path, text, strlen(text), 0600, 0);
	} else {
		unlink(path);
	}
}

int helper_new(struct helper **ret, uv_loop_t *loop, const char *name, const char *runtime, char *const *argv,
    const struct helper_callbacks *cb, void *userdata)
{
	struct helper *h = calloc(1, sizeof(*h));

	if (!h)
		return -ENOMEM;
	h->loop = loop;
	h->name = strdup(name);
	h->runtime = strdup(runtime);
	h->buffer = malloc(MESSAGE_MAX);
	h->argv = argv;
	h->cb = *cb;
	h->userdata = userdata;
	h->pidfd = h->sock = -1;
	h->last = &h->first;
	if (!h->name || !h->runtime || !h->buffer || alarm_new(&h->alarm, loop, on_alarm, h) < 0) {
		helper_free(h);
		return -ENOMEM;
	}
	*ret = h;
	return 0;
}

static void drop_queue(struct helper *h)
{
	while (h->first) {
		struct message *m = h->first;

		h->first = m->next;
		free(m);
	}
	h->last = &h->first;
}

static void stop_polling(struct helper *h)
{
	h->pid_watch = watch_free(h->pid_watch);
	h->sock_watch = watch_free(h->sock_watch);
	if (h->pidfd >= 0)
		close(h->pidfd);
	if (h->sock >= 0)
		close(h->sock);
	h->pidfd = h->sock = -1;
}

struct helper *helper_free(struct helper *h)
{
	if (!h)
		return NULL;
	h->alarm = alarm_free(h->alarm);
	stop_polling(h);
	drop_queue(h);
	free(h->buffer);
	free(h->name);
	free(h->runtime);
	free(h);
	return NULL;
}

static void flush(struct helper *h);

static void on_socket(int events, void *userdata)
{
	struct helper *h = userdata;

	while (h->sock >= 0 && (events & UV_READABLE || !events)) {
		_cleanup_json_ cJSON *j = NULL;
		ssize_t n = recv(h->sock, h->buffer, MESSAGE_MAX, MSG_DONTWAIT);

		if (n < 0 && (errno == EAGAIN || errno == EINTR))
			break;
		if (n <= 0) { /* it has closed its end: its death follows by the pidfd */
			h->sock_watch = watch_free(h->sock_watch);
			break;
		}
		if (json_parse(h->buffer, (size_t)n, &j, NULL) == 0)
			h->cb.on_message(h, j, h->userdata);
	}
	if (h->sock_watch && events & UV_WRITABLE)
		flush(h);
}

static void flush(struct helper *h)
{
	while (h->first && h->sock >= 0) {
		struct message *m = h->first;

		if (send(h->sock, m->data, m->size, MSG_DONTWAIT | MSG_NOSIGNAL) < 0) {
			if (errno == EAGAIN || errno == ENOBUFS)
				break;
			if (errno == EPIPE || errno == ECONNRESET) {
				drop_queue(h);
				break;
			}
			fprintf(stderr, "supervisor: message to %s lost: %s\n", h->name, strerror(errno));
		}
		h->first = m->next;
		if (!h->first)
			h->last = &h->first;
		free(m);
	}
	if (h->sock_watch)
		watch_set(h->sock_watch, UV_READABLE | (h->first ? UV_WRITABLE : 0));
}

void helper_send(struct helper *h, const cJSON *message)
{
	_cleanup_(freep) char *text = NULL;
	struct message *m;
	size_t size;

	if (h->sock < 0)
		return;
	text = json_print(message);
	if (!text)
		return;
	size = strlen(text);
	m = malloc(sizeof(*m) + size);
	if (!m)
		return;
	m->next = NULL;
	m->size = size;
	memcpy(m->data, text, size);
	*h->last = m;
	h->last = &m->next;
	if (h->first == m)
		flush(h);
}

static void on_pidfd(int events, void *userdata)
{
	struct helper *h = userdata;
	siginfo_t si = { 0 };
	int st = 0;

	(void)events;
	if (waitid((idtype_t)P_PIDFD, (id_t)h->pidfd, &si, WEXITED | WNOHANG | __WNOTHREAD) < 0 || !si.si_pid)
		return;
	st = si.si_code == CLD_EXITED ? si.si_status << 8 : si.si_status;
	if (h->sock_watch) /* what it said before it died */
		on_socket(UV_READABLE, h);
	stop_polling(h);
	drop_queue(h);
	h->pid = 0;
	pid_file(h, 0);
	h->cb.on_died(h, st, h->userdata);
	if (!h->finishing)
		schedule_restart(h);
}

static void on_alarm(void *userdata)
{
	struct helper *h = userdata;
	struct error err = { "" };

	if (helper_start(h, &err) < 0) {
		fprintf(stderr, "supervisor: %s\n", err.text);
		schedule_restart(h);
	}
}

static void schedule_restart(struct helper *h)
{
	uint64_t lived = clock_mono_ms() - h->started_ms;

	h->restarts++;
	if (lived >= LIVED_MS)
		h->delay_ms = 0;
	else
		h->delay_ms = h->delay_ms ? h->delay_ms * 2 : lived >= 100 ? 0 : 50;
	if (h->delay_ms > RESTART_MAX_MS)
		h->delay_ms = RESTART_MAX_MS;
	alarm_set(h->alarm, h->delay_ms);
}

int helper_start(struct helper *h, struct error *err)
{
	char path[PATH_MAX];
	int pair[2], r = paths_helper(h->name, path, err);
	pid_t pid;

	h->started_ms = clock_mono_ms();
	if (r < 0)
		return r;
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
		return error_set(err, -errno, "cannot start %s: socketpair: %s", h->name, strerror(errno));
	pid = fork();
	if (pid < 0) {
		r = -errno;
		close(pair[0]);
		close(pair[1]);
		return error_set(err, r, "cannot start %s: fork: %s", h->name, strerror(-r));
	}
	if (!pid) {
		struct sigaction dfl = { .sa_handler = SIG_DFL };
		sigset_t none;
		int fd = fcntl(pair[1], F_DUPFD, 10);

		for (int i = 1; i < 65; i++)
			sigaction(i, &dfl, NULL);
		sigemptyset(&none);
		sigprocmask(SIG_SETMASK, &none, NULL);
		setpgid(0, 0); /* what is sent to the supervisor's group is not meant for it */
		if (fd < 0 || dup2(fd, 3) < 0)
			_exit(71);
		close(fd);
		execv(path, h->argv);
		_exit(127);
	}
	close(pair[1]);
	h->pid = pid;
	h->sock = pair[0];
	h->pidfd = pidfd_open_(pid);
	if (h->pidfd < 0)
		return error_set(err, h->pidfd, "cannot watch %s: pidfd_open: %s", h->name, strerror(-h->pidfd));
	pid_file(h, pid);
	r = watch_new(&h->pid_watch, h->loop, h->pidfd, UV_READABLE, on_pidfd, h);
	if (!r)
		r = watch_new(&h->sock_watch, h->loop, h->sock, UV_READABLE, on_socket, h);
	if (r < 0)
		return error_set(err, r, "cannot watch %s: %s", h->name, strerror(-r));
	h->cb.on_started(h, h->userdata);
	return 0;
}

void helper_finish(struct helper *h)
{
	h->finishing = true;
	alarm_stop(h->alarm);
	if (h->sock < 0)
		return;
	flush(h);
	h->sock_watch = watch_free(h->sock_watch);
	close(h->sock);
	h->sock = -1;
}

pid_t helper_get_pid(const struct helper *h)
{
	return h->pid;
}

unsigned helper_get_restarts(const struct helper *h)
{
	return h->restarts;
}
