/* SPDX-License-Identifier: Apache-2.0 */
/*
 * scope - runs commands such that nothing they start outlives this process, and tells how each process ended.
 *
 * Reads one /bin/sh command a line from stdin and starts it in a session of its own; prints "started PID" for it.
 * As child subreaper it takes the place of init for whatever loses its parent, and prints "ended PID STATUS" (wait
 * status) for every child it reaps. At the end of stdin (so also when its parent dies) and on SIGTERM it kills everything
 * below it until nothing is left.
 */
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <unistd.h>

static sigset_t old_mask;

static void reap(void)
{
	int status;
	pid_t pid;

	while ((pid = waitpid(-1, &status, WNOHANG)) > 0)
		dprintf(1, "ended %d %d\n", (int)pid, status);
}

static void start(const char *command)
{
	pid_t pid = fork();

	if (pid == 0) {
		setsid();
		sigprocmask(SIG_SETMASK, &old_mask, NULL);
		execl("/bin/sh", "sh", "-c", command, (char *)NULL);
		_exit(127);
	}
	dprintf(1, "started %d\n", (int)pid);
}

/* What is killed leaves its children to us: after some rounds all of them are ours, and ended. */
static void kill_all(void)
{
	char path[64];

	snprintf(path, sizeof(path), "/proc/self/task/%d/children", (int)getpid());
	for (;;) {
		FILE *f = fopen(path, "re");
		int pid;

		if (!f)
			return;
		while (fscanf(f, "%d", &pid) == 1)
			kill(pid, SIGKILL); /* our own unreaped child */
		fclose(f);
		if (waitpid(-1, NULL, 0) < 0 && errno == ECHILD)
			return;
		while (waitpid(-1, NULL, WNOHANG) > 0)
			;
	}
}

int main(void)
{
	struct pollfd fds[2] = { { .events = POLLIN }, { .fd = 0, .events = POLLIN } };
	struct signalfd_siginfo info;
	static char line[65536];
	size_t used = 0;
	sigset_t mask;

	prctl(PR_SET_CHILD_SUBREAPER, 1);
	sigemptyset(&mask);
	sigaddset(&mask, SIGCHLD);
	sigaddset(&mask, SIGTERM);
	sigaddset(&mask, SIGINT);
	sigprocmask(SIG_BLOCK, &mask, &old_mask);
	signal(SIGPIPE, SIG_IGN);
	fds[0].fd = signalfd(-1, &mask, SFD_CLOEXEC | SFD_NONBLOCK);
	if (fds[0].fd < 0)
		return 71;
	for (;;) {
		if (poll(fds, 2, -1) < 0 && errno != EINTR)
			break;
		while (read(fds[0].fd, &info, sizeof(info)) == sizeof(info)) {
			if (info.ssi_signo == SIGTERM) {
				kill_all();
				return 0;
			}
		}
		reap();
		if (fds[1].revents) {
			ssize_t n = read(0, line + used, sizeof(line) - 1 - used);
			char *end;

			if (n <= 0)
				break;
			used += (size_t)n;
			line[used] = '\0';
			while ((end = strchr(line, '\n'))) {
				*end = '\0';
				start(line);
				used -= (size_t)(end + 1 - line);
				memmove(line, end + 1, used + 1);
			}
			if (used == sizeof(line) - 1)
				break;
		}
	}
	kill_all();
	return 0;
}
