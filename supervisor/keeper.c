/* SPDX-License-Identifier: Apache-2.0 */
/*
 * keeper RUNTIME SUPERVISOR [ARGUMENT...] - keeps the supervisor running, and its daemons' exit statuses and pipes.
 *
 * It is the child subreaper above the supervisor: when the supervisor is killed, the daemons become the keeper's
 * children, the keeper starts a new supervisor, and what ends in between is reported to that one. It also holds a read
 * end of every daemon's FIFO, never reading, so that last words survive a moment in which nobody else has it open.
 *
 * Nothing is allocated after start and no library but libc is linked: little is left that could kill it. Killed all the
 * same, the supervisor sees the end of their socket, executes this program in its own place (same process, so the same
 * children), and that keeper starts a supervisor again.
 */
#include "supervisor/keeper.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static int held[KEEPER_SLOTS]; /* descriptor + 1; 0 = free */
static int pair[2];
static int ready;     /* the present or an earlier supervisor got as far as KEEPER_READY */
static pid_t child;   /* the supervisor, 0 while none runs */
static sigset_t old_mask;

static int64_t now_us(clockid_t clock)
{
	struct timespec ts;

	clock_gettime(clock, &ts);
	return (int64_t)ts.tv_sec * 1000000 + ts.tv_nsec / 1000;
}

static void die(const char *what, int code)
{
	const char *ready_fd = getenv("SUPERVISE_READY_FD");

	dprintf(ready_fd ? atoi(ready_fd) : 2, "keeper: %s: %s\n", what, strerror(errno));
	_exit(code);
}

static void write_pid_file(const char *dir)
{
	char path[4096], tmp[4200];
	int fd;

	snprintf(path, sizeof(path), "%s/keeper.pid", dir);
	snprintf(tmp, sizeof(tmp), "%s.tmp", path);
	fd = open(tmp, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (fd < 0)
		die("cannot write keeper.pid", 73);
	dprintf(fd, "%d\n", (int)getpid());
	close(fd);
	if (rename(tmp, path) < 0)
		die("cannot write keeper.pid", 73);
}

static void start_supervisor(char **argv, int lock_fd)
{
	child = fork();
	if (child < 0) {
		child = 0; /* tried again after the delay */
		return;
	}
	if (child)
		return;
	/* Source and target numbers may cross (a pair at 3 and 4): move both out of the way first. */
	int sock = fcntl(pair[1], F_DUPFD, 10), lock = fcntl(lock_fd, F_DUPFD, 10);

	if (sock < 0 || lock < 0 || dup2(sock, KEEPER_FD) < 0 || dup2(lock, KEEPER_LOCK_FD) < 0)
		_exit(71);
	close(sock);
	close(lock);
	sigprocmask(SIG_SETMASK, &old_mask, NULL);
	execv(argv[0], argv);
	dprintf(2, "keeper: cannot execute %s: %s\n", argv[0], strerror(errno));
	_exit(71);
}

/* Takes messages of the supervisor off the socket. */
static void receive(void)
{
	struct keeper_message m;
	union {
		struct cmsghdr align;
		char space[CMSG_SPACE(sizeof(int))];
	} control;

	for (;;) {
		struct iovec iov = { &m, sizeof(m) };
		struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1, .msg_control = &control,
			.msg_controllen = sizeof(control) };
		ssize_t n = recvmsg(pair[0], &msg, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
		struct cmsghdr *c = n >= 0 ? CMSG_FIRSTHDR(&msg) : NULL;
		int fd = -1;

		if (n < 0)
			return;
		if (c && c->cmsg_level == SOL_SOCKET && c->cmsg_type == SCM_RIGHTS)
			memcpy(&fd, CMSG_DATA(c), sizeof(fd));
		if (n == sizeof(m) && m.type == KEEPER_READY)
			ready = 1;
		if (n == sizeof(m) && (m.type == KEEPER_HOLD || m.type == KEEPER_RELEASE) && m.slot < KEEPER_SLOTS) {
			int old = held[m.slot];

			/* the new one is in before the old one goes: no instant without either */
			held[m.slot] = m.type == KEEPER_HOLD && fd >= 0 ? fd + 1 : 0;
			if (held[m.slot])
				fd = -1;
			if (old)
				close(old - 1);
		}
		if (fd >= 0)
			close(fd);
	}
}

/*
 * Reports and reaps what has ended. A process is looked at first, then reported, then reaped: a keeper killed in between
 * leaves the status to be found by others, and a full socket leaves the zombie, which keeps the status.
 * Returns the supervisor's status in *ret_status when it was the supervisor that ended (1), else 0; -1: socket full.
 */
static int reap(int *ret_status)
{
	for (;;) {
		struct keeper_message m = { .type = KEEPER_EXIT };
		siginfo_t si = { 0 };
		struct rusage ru;
		int status;

		if (waitid(P_ALL, 0, &si, WEXITED | WNOHANG | WNOWAIT) < 0 || !si.si_pid)
			return 0;
		if (si.si_pid != child) {
			m.pid = si.si_pid;
			m.status = si.si_code == CLD_EXITED ? si.si_status << 8 :
			    si.si_code == CLD_DUMPED        ? si.si_status | 0x80 :
							      si.si_status;
			m.at_us = now_us(CLOCK_REALTIME);
			if (send(pair[0], &m, sizeof(m), MSG_DONTWAIT | MSG_NOSIGNAL) < 0 && errno == EAGAIN)
				return -1;
		}
		if (wait4(si.si_pid, &status, WNOHANG, &ru) == child && child) {
			child = 0;
			*ret_status = status;
			return 1;
		}
	}
}

int main(int argc, char **argv)
{
	int64_t started = 0, restart_at = -1;
	int64_t delay_us = 0;
	char path[4096];
	int lock_fd, sig_fd;
	struct rlimit nofile;
	sigset_t mask;

	if (argc < 3) {
		dprintf(2, "usage: supervise-keeper RUNTIME SUPERVISOR [ARGUMENT...]\n(started by supervise itself)\n");
		return 64;
	}
	prctl(PR_SET_CHILD_SUBREAPER, 1);
	prctl(PR_SET_NAME, "keeper");
	signal(SIGPIPE, SIG_IGN);
	sigemptyset(&mask);
	sigaddset(&mask, SIGCHLD);
	sigaddset(&mask, SIGTERM);
	sigaddset(&mask, SIGINT);
	sigaddset(&mask, SIGHUP);
	sigprocmask(SIG_BLOCK, &mask, &old_mask);
	sigdelset(&old_mask, SIGCHLD);
	sig_fd = signalfd(-1, &mask, SFD_CLOEXEC | SFD_NONBLOCK);
	if (sig_fd < 0)
		die("signalfd", 71);

	/* The lock: inherited when a supervisor became this keeper, taken otherwise. */
	if (getenv("SUPERVISE_LOCK_INHERITED")) {
		unsetenv("SUPERVISE_LOCK_INHERITED");
		lock_fd = fcntl(KEEPER_LOCK_FD, F_DUPFD_CLOEXEC, 10);
		close(KEEPER_LOCK_FD);
		ready = 1;
	} else {
		snprintf(path, sizeof(path), "%s/lock", argv[1]);
		lock_fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
		if (lock_fd < 0)
			die("cannot open the lock file", 73);
		/* somebody may hold it for an instant to see whether there is a keeper */
		for (int i = 0; flock(lock_fd, LOCK_EX | LOCK_NB) < 0; i++) {
			if (i == 50)
				die("another supervisor of this project is running", 75);
			poll(NULL, 0, 2);
		}
	}
	if (getrlimit(RLIMIT_NOFILE, &nofile) == 0) {
		char soft[24];

		/* the daemons get the old soft limit back: programs that use select(2) rely on it */
		snprintf(soft, sizeof(soft), "%llu", (unsigned long long)nofile.rlim_cur);
		setenv("SUPERVISE_SOFT_NOFILE", soft, 0);
		nofile.rlim_cur = nofile.rlim_max;
		setrlimit(RLIMIT_NOFILE, &nofile);
	}
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
		die("socketpair", 71);
	write_pid_file(argv[1]);

	for (;;) {
		struct pollfd fds[2] = { { sig_fd, POLLIN, 0 }, { pair[0], POLLIN, 0 } };
		struct signalfd_siginfo info;
		int status = 0, r, timeout = -1;

		if (!child && restart_at <= now_us(CLOCK_MONOTONIC)) {
			started = now_us(CLOCK_MONOTONIC);
			start_supervisor(argv + 2, lock_fd);
			restart_at = started + 1000000; /* if fork(2) failed */
			if (getenv("SUPERVISE_READY_FD")) { /* whoever waits there waits for the supervisor alone */
				close(atoi(getenv("SUPERVISE_READY_FD")));
				unsetenv("SUPERVISE_READY_FD");
			}
		}
		r = reap(&status);
		receive();
		if (r == 1) {
			int64_t lived = now_us(CLOCK_MONOTONIC) - started;

			if (WIFEXITED(status) && (WEXITSTATUS(status) == 0 || !ready)) {
				snprintf(path, sizeof(path), "%s/keeper.pid", argv[1]);
				unlink(path);
				return WEXITSTATUS(status);
			}
			if (!ready)
				return 70;
			/* at once, unless it keeps dying: then 0.1 s, doubled up to 10 s */
			if (lived > 5000000 || (WIFEXITED(status) && WEXITSTATUS(status) == SUPERVISOR_EXIT_RESTART))
				delay_us = 0;
			else
				delay_us = delay_us ? (delay_us < 5000000 ? delay_us * 2 : 10000000) : lived > 200000 ? 0 : 100000;
			restart_at = now_us(CLOCK_MONOTONIC) + delay_us;
			continue;
		}
		if (r < 0)
			fds[1].events |= POLLOUT;
		if (!child) {
			int64_t left = restart_at - now_us(CLOCK_MONOTONIC);

			timeout = left > 0 ? (int)(left / 1000) + 1 : 0;
		}
		if (poll(fds, 2, timeout) < 0 && errno != EINTR)
			return 71;
		while (read(sig_fd, &info, sizeof(info)) == sizeof(info))
			if ((info.ssi_signo == SIGTERM || info.ssi_signo == SIGINT) && child)
				kill(child, SIGTERM); /* our own unreaped child: the pid is its alone */
	}
}
