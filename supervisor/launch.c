/* SPDX-License-Identifier: Apache-2.0 */
#include "supervisor/launch.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/file.h"
#include "config/config.h"
#include "supervisor/client.h"

enum { READY_FD = 5, ANSWER_TRIES = 500 };

static int write_config(const struct paths *p, const struct config *c, struct error *err)
{
	_cleanup_json_ cJSON *j = config_to_json(c);
	_cleanup_(freep) char *text = j ? json_print(j) : NULL;
	char path[PATH_MAX];
	int r;

	if (!text)
		return error_set(err, -ENOMEM, "out of memory");
	path_format(path, sizeof(path), p->runtime, "config.json");
	r = file_replace(AT_FDCWD, path, text, strlen(text), 0600, 0);
	return r < 0 ? error_set(err, r, "cannot write %s: %s", path, strerror(-r)) : 0;
}

/* In the child: leave the terminal, and become the keeper. */
__attribute__((noreturn)) static void become(const struct paths *p, const char *keeper, const char *supervisor,
    int ready, int log_fd)
{
	char *argv[] = { (char *)keeper, (char *)p->runtime, (char *)supervisor, (char *)p->runtime, (char *)p->state, NULL };
	struct sigaction dfl = { .sa_handler = SIG_DFL };
	int null = open("/dev/null", O_RDWR), fd;
	sigset_t none;
	char text[16];

	for (int i = 1; i < 65; i++)
		sigaction(i, &dfl, NULL);
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	setsid();
	if (fork() != 0) /* nobody waits for it, and no terminal can become its own */
		_exit(0);
	fd = fcntl(ready, F_DUPFD, 10);
	if (null < 0 || fd < 0 || dup2(null, 0) < 0 || dup2(null, 1) < 0 || dup2(log_fd, 2) < 0 || dup2(fd, READY_FD) < 0)
		_exit(71);
	syscall(SYS_close_range, READY_FD + 1, ~0u, 0);
	close(3);
	close(4);
	if (chdir("/") < 0)
		_exit(71);
	umask(077);
	snprintf(text, sizeof(text), "%d", READY_FD);
	setenv("SUPERVISE_READY_FD", text, 1);
	unsetenv("SUPERVISE_LOCK_INHERITED");
	unsetenv("SUPERVISE_SOFT_NOFILE");
	execv(keeper, argv);
	dprintf(READY_FD, "cannot execute %s: %s\n", keeper, strerror(errno));
	_exit(71);
}

bool launch_keeper_runs(const struct paths *p)
{
	char path[PATH_MAX];
	_cleanup_(closep) int fd = open(path_format(path, sizeof(path), p->runtime, "lock"), O_RDWR | O_CLOEXEC);

	return fd >= 0 && flock(fd, LOCK_EX | LOCK_NB) < 0;
}

int launch_supervisor(const struct paths *p, const struct config *c, struct error *err)
{
	_cleanup_(closep) int lock = -1, log_fd = -1, ready = -1;
	_cleanup_(control_closep) struct control *control = NULL;
	char path[PATH_MAX], keeper[PATH_MAX], supervisor[PATH_MAX], answer[1024];
	int fds[2], r = paths_create(p, err), status;
	struct error ignored;
	ssize_t n;
	pid_t pid;

	if (r < 0)
		return r;
	path_format(path, sizeof(path), p->runtime, "start.lock");
	lock = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (lock < 0 || flock(lock, LOCK_EX) < 0)
		return error_set(err, -errno, "cannot lock %s: %s", path, strerror(errno));
	/* no socket but a keeper: its supervisor is being started again right now, is just leaving, or hangs */
	for (int i = 0; control_connect(&control, p, &ignored) < 0; i++) {
		struct timespec pause = { 0, 20000000 };

		if (!launch_keeper_runs(p))
			break;
		if (i == ANSWER_TRIES)
			return error_set(err, -EAGAIN,
			    "a supervisor of this project runs but does not answer; see %s/supervise.log, or end process $(cat "
			    "%s/supervisor.pid)",
			    p->state, p->runtime);
		nanosleep(&pause, NULL);
	}
	if (control)
		return 1;
	r = paths_helper("supervise-keeper", keeper, err);
	if (!r)
		r = paths_helper("supervise-supervisor", supervisor, err);
	if (!r)
		r = write_config(p, c, err);
	if (r < 0)
		return r;
	path_format(path, sizeof(path), p->state, "supervise.log");
	log_fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (log_fd < 0)
		return error_set(err, -errno, "cannot open %s: %s", path, strerror(errno));
	if (pipe2(fds, O_CLOEXEC) < 0)
		return error_set(err, -errno, "pipe: %s", strerror(errno));
	ready = fds[0];
	pid = fork();
	if (pid < 0) {
		r = -errno;
		close(fds[1]);
		return error_set(err, r, "fork: %s", strerror(-r));
	}
	if (!pid)
		become(p, keeper, supervisor, fds[1], log_fd);
	close(fds[1]);
	waitpid(pid, &status, 0);
	n = read_full(ready, answer, sizeof(answer) - 1);
	if (n < 0)
		n = 0;
	answer[n] = '\0';
	if (n >= 6 && !strncmp(answer + n - 6, "ready\n", 6))
		return 0;
	answer[strcspn(answer, "\n")] = '\0';
	return error_set(err, -EIO, "the supervisor did not start: %s (see %s)",
	    answer[0] ? answer : "it ended without a word", path);
}
