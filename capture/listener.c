/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Answers the agent: one connection per crash (capture/protocol.h). The thread sleeps in poll(2) and takes one process
 * after another; the time it spends on one is what the next waits.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/file.h"
#include "base/paths.h"
#include "capture/arch.h"
#include "capture/post.h"

enum {
	CONNECTIONS_MAX = CAPTURE_BACKLOG,
	SILENT_MS = 2000, /* for the packet, which comes right behind the connection */
	LEFTOVER_MS = 5,
};

struct connection {
	int fd;
	pid_t pid;
	uint64_t deadline_ms;
};

struct listener {
	struct capture *c;
	bool (*owns)(pid_t pid, void *userdata);
	void *userdata;
	pthread_t thread;
	bool runs;
	int stop_fd, sockets[2];
	struct target *target;
	struct connection connections[CONNECTIONS_MAX];
	size_t n_connections;
	struct pollfd fds[CONNECTIONS_MAX + 3];
};

static int listen_at(const struct sockaddr_un *address, socklen_t size)
{
	_cleanup_(closep) int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	if (fd < 0)
		return -errno;
	if (bind(fd, (const struct sockaddr *)address, size) < 0 || listen(fd, CAPTURE_BACKLOG) < 0)
		return -errno;
	return TAKE_FD(fd);
}

static int open_sockets(struct listener *l, int runtime_fd, struct error *err)
{
	struct sockaddr_un address;
	char name[sizeof(address.sun_path) - 1];
	size_t n;
	int r, fd;

	r = capture_socket_name(runtime_fd, name, sizeof(name));
	if (r < 0)
		return error_set(err, r, "capture.name: %s", strerror(-r));
	n = strlen(name);
	address = (struct sockaddr_un){ .sun_family = AF_UNIX };
	memcpy(address.sun_path + 1, name, n);
	l->sockets[0] = listen_at(&address, (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + n));

	/* the bound name is a path of its own, so a predecessor's socket file is only in the way */
	fd = openat(runtime_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd >= 0) {
		unlinkat(fd, "capture.sock", 0);
		r = unix_address(fd, "capture.sock", &address);
		l->sockets[1] = r < 0 ? r : listen_at(&address, sizeof(address));
		if (l->sockets[1] >= 0)
			fchmodat(fd, "capture.sock", 0600, 0);
		close(fd);
	}
	if (l->sockets[0] < 0 && l->sockets[1] < 0)
		return error_set(err, l->sockets[0], "cannot listen on capture.sock: %s", strerror(-l->sockets[0]));
	return 0;
}

static bool packet_ok(const struct capture_packet *p, ssize_t size)
{
	if (size != (ssize_t)sizeof(*p) || p->magic != CAPTURE_PACKET_MAGIC || p->version != CAPTURE_PACKET_VERSION ||
	    p->size != sizeof(*p) || p->machine != ARCH_ID || p->n_regs != ARCH_REGS)
		return false;
	switch (p->signal) {
	case SIGSEGV:
	case SIGBUS:
	case SIGFPE:
	case SIGILL:
	case SIGABRT:
	case SIGTRAP:
	case SIGSYS:
		return true;
	default:
		return false;
	}
}

/* The last number of the NSpid line: the tid in the innermost pid namespace; 0 unknown. */
static pid_t inner_tid(pid_t pid, pid_t tid)
{
	_cleanup_(freep) char *text = NULL;
	char path[64], *line, *end;

	snprintf(path, sizeof(path), "/proc/%d/task/%d/status", (int)pid, (int)tid);
	if (file_read(AT_FDCWD, path, 16384, &text, NULL) < 0)
		return 0;
	line = strstr(text, "\nNSpid:");
	if (!line)
		return 0;
	end = strchr(line + 1, '\n');
	if (end)
		*end = '\0';
	return atoi(strrchr(line, '\t') ? strrchr(line, '\t') + 1 : "0");
}

/* The sender's thread as we see it. Return: 0 if there is no such thread in @pid */
static pid_t find_tid(pid_t pid, const struct capture_packet *p)
{
	_cleanup_(closedirp) DIR *d = NULL;
	struct dirent *e;
	char path[64];

	snprintf(path, sizeof(path), "/proc/%d/task/%d", (int)pid, (int)p->tid);
	if (p->pid == pid && p->tid > 0 && !access(path, F_OK))
		return p->tid;
	snprintf(path, sizeof(path), "/proc/%d/task", (int)pid);
	d = opendir(path);
	while (d && (e = readdir(d))) {
		pid_t tid = atoi(e->d_name);

		if (tid > 0 && inner_tid(pid, tid) == p->tid)
			return tid;
	}
	return 0;
}

static void serve(struct listener *l, struct connection *con, const struct capture_packet *p)
{
	const char done = CAPTURE_VERDICT_DONE;
	uint64_t began_ns = clock_mono_ns(), now_ns, held_ns;
	struct target *t = l->target;
	siginfo_t si;
	pid_t tid;
	char byte;

	if (!l->owns(con->pid, l->userdata) || !(tid = find_tid(con->pid, p)))
		return;
	memcpy(&si, p->siginfo, sizeof(si));
	si.si_signo = p->signal;
	target_begin(t, con->pid, tid, p->regs, CAPTURE_HOLD_US);
	if (si.si_code <= 0 && si.si_pid == p->pid &&
	    !arch_last_fault(p->signal, p->regs, &t->original_code, &t->original_address))
		t->original_code = 0;
	target_stop_others(t);
	target_copy(t);
	if (recv(con->fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT) == 0)
		target_note(t, "the process ended while it was read: parts may be missing or wrong");
	target_release(t);
	(void)send(con->fd, &done, 1, MSG_NOSIGNAL | MSG_DONTWAIT);
	close(con->fd);
	con->fd = -1;

	now_ns = clock_mono_ns();
	held_ns = now_ns - began_ns;
	/* the sender's own clock counts the time in the queue as well, unless it makes no sense */
	if (p->entered_ns <= began_ns && now_ns - p->entered_ns < 10000000000u)
		held_ns = now_ns - p->entered_ns;
	capture_post_snapshot(l->c, t, &si, CAPTURE_PRELOAD, held_ns / 1000);
	target_trim(t);
}

/* Return: whether the connection is done with */
static bool read_packet(struct listener *l, struct connection *con)
{
	struct capture_packet p;
	ssize_t n = recv(con->fd, &p, sizeof(p), MSG_DONTWAIT | MSG_TRUNC);

	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return false;
	if (packet_ok(&p, n))
		serve(l, con, &p);
	return true;
}

static void drop(struct listener *l, size_t i)
{
	if (l->connections[i].fd >= 0)
		close(l->connections[i].fd);
	l->connections[i] = l->connections[--l->n_connections];
}

static void accept_all(struct listener *l, int sock)
{
	while (l->n_connections < CONNECTIONS_MAX) {
		struct connection con = { .fd = accept4(sock, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK),
			.deadline_ms = clock_mono_ms() + SILENT_MS };
		struct ucred peer;
		socklen_t size = sizeof(peer);

		if (con.fd < 0)
			return;
		if (getsockopt(con.fd, SOL_SOCKET, SO_PEERCRED, &peer, &size) < 0 || peer.uid != getuid() || peer.pid <= 0 ||
		    peer.pid == getpid()) {
			close(con.fd);
			continue;
		}
		con.pid = peer.pid;
		l->connections[l->n_connections++] = con;
	}
}

static void *listen_for_crashes(void *userdata)
{
	struct listener *l = userdata;
	struct pollfd *fds = l->fds;

	for (;;) {
		size_t n = 0;
		int timeout = -1;

		fds[n++] = (struct pollfd){ .fd = l->stop_fd, .events = POLLIN };
		for (size_t i = 0; i < ARRAY_SIZE(l->sockets); i++)
			fds[n++] = (struct pollfd){ .fd = l->n_connections < CONNECTIONS_MAX ? l->sockets[i] : -1,
				.events = POLLIN };
		for (size_t i = 0; i < l->n_connections; i++) {
			uint64_t now = clock_mono_ms(), at = l->connections[i].deadline_ms;
			int left = at > now ? (int)(at - now) : 0;

			fds[n++] = (struct pollfd){ .fd = l->connections[i].fd, .events = POLLIN };
			if (timeout < 0 || left < timeout)
				timeout = left;
		}
		if (target_reap_leftovers(l->target))
			timeout = LEFTOVER_MS;
		if (poll(fds, n, timeout) < 0 && errno != EINTR)
			break;
		if (fds[0].revents)
			break;
		for (size_t i = l->n_connections; i-- > 0;) /* from the end: drop() moves the last one down */
			if ((fds[3 + i].revents && read_packet(l, &l->connections[i])) ||
			    clock_mono_ms() >= l->connections[i].deadline_ms)
				drop(l, i);
		for (size_t i = 0; i < ARRAY_SIZE(l->sockets); i++)
			if (fds[1 + i].revents)
				accept_all(l, l->sockets[i]);
	}
	return NULL;
}

int listener_start(struct listener **ret, struct capture *c, int runtime_fd, const struct capture_options *o,
    struct error *err)
{
	struct listener *l = calloc(1, sizeof(*l));
	int r;

	if (!l)
		return error_set(err, -ENOMEM, "crash capture: no memory");
	l->c = c;
	l->owns = o->owns;
	l->userdata = o->userdata;
	l->sockets[0] = l->sockets[1] = -1;
	l->stop_fd = eventfd(0, EFD_CLOEXEC);
	r = l->stop_fd < 0 ? -errno : target_new(&l->target);
	if (r < 0)
		error_set(err, r, "crash capture: %s", strerror(-r));
	else
		r = open_sockets(l, runtime_fd, err);
	if (!r) {
		r = capture_start_thread(&l->thread, listen_for_crashes, l);
		if (r < 0)
			error_set(err, r, "crash capture: cannot start a thread: %s", strerror(-r));
		l->runs = !r;
	}
	if (r < 0) {
		listener_stop(l);
		return r;
	}
	*ret = l;
	return 0;
}

struct listener *listener_stop(struct listener *l)
{
	const uint64_t one = 1;

	if (!l)
		return NULL;
	if (l->runs) {
		(void)!write(l->stop_fd, &one, sizeof(one));
		pthread_join(l->thread, NULL);
	}
	for (size_t i = 0; i < l->n_connections; i++)
		close(l->connections[i].fd);
	for (size_t i = 0; i < ARRAY_SIZE(l->sockets); i++)
		if (l->sockets[i] >= 0)
			close(l->sockets[i]);
	if (l->stop_fd >= 0)
		close(l->stop_fd);
	target_free(l->target);
	free(l);
	return NULL;
}
