/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The child runs nothing but async-signal-safe code: the supervisor has threads, and any of them may have held a lock at
 * the moment of fork(2). Signal mask and dispositions are reset first, so that no daemon inherits what some parent
 * ignored (Python leaves SIGPIPE and SIGXFSZ ignored).
 */
#include "supervisor/spawn.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/file.h"

static void tell(int fd, const struct spawn_note *note)
{
	/* the pipe is empty and larger than both notes: one write, never short */
	if (write(fd, note, sizeof(*note)) < 0)
		return; /* no supervisor is there to be told; the program is what matters */
}

__attribute__((noreturn)) static void fail(int fd, struct spawn_note *note, enum spawn_step step, const char *path)
{
	note->step = step;
	note->error = errno;
	if (path) {
		size_t n = strnlen(path, sizeof(note->path) - 1);

		memcpy(note->path, path, n);
		note->path[n] = '\0';
	}
	tell(fd, note);
	_exit(127);
}

/* execvp(3)'s search without its allocation: a name with a slash is taken as it is. */
static int find_program(const char *name, const char *path, char *ret, size_t size)
{
	size_t n = strlen(name);
	int error = ENOENT;

	if (!n)
		return -ENOENT;
	if (strchr(name, '/')) {
		if (n >= size)
			return -ENAMETOOLONG;
		memcpy(ret, name, n + 1);
		return 0;
	}
	if (!path)
		path = "/usr/local/bin:/usr/bin:/bin";
	for (const char *p = path; *p || p == path;) {
		size_t len = strcspn(p, ":");
		struct stat st;

		if (len + n + 2 < size) {
			memcpy(ret, p, len);
			ret[len] = '/';
			memcpy(ret + len + 1, name, n + 1);
			if (!len)
				memcpy(ret, name, n + 1); /* an empty element is the current folder */
			if (!stat(ret, &st) && S_ISREG(st.st_mode)) {
				if (!access(ret, X_OK))
					return 0;
				error = EACCES;
			}
		}
		p += len;
		if (!*p)
			break;
		p++;
	}
	return -error;
}

__attribute__((noreturn)) static void child(const struct spawn_request *req, int note_fd)
{
	static const char *const wishes[] = { [WISH_AUTO] = "auto", [WISH_PRELOAD] = "preload",
		[WISH_PTRACE] = "ptrace", [WISH_STATUS] = "status", [WISH_OFF] = "off" };
	const struct daemon_config *cfg = req->cfg;
	struct spawn_note note = { 0 };
	struct sigaction dfl = { .sa_handler = SIG_DFL };
	char program[4096];
	sigset_t none;
	int fd, r;
	char go;

	for (int i = 1; i < 65; i++)
		sigaction(i, &dfl, NULL);
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);

	if (setsid() < 0)
		fail(note_fd, &note, SPAWN_SESSION, NULL);

	/* Read and write: the daemon itself keeps its pipe open, so nothing that happens to us gives it SIGPIPE or EOF. */
	fd = open("/dev/null", O_RDONLY);
	if (fd < 0 || dup2(fd, 0) < 0)
		fail(note_fd, &note, SPAWN_OUTPUT, "/dev/null");
	fd = open(req->out, O_RDWR | O_NOFOLLOW);
	if (fd < 0 || dup2(fd, 1) < 0)
		fail(note_fd, &note, SPAWN_OUTPUT, req->out);
	fd = open(req->err, O_RDWR | O_NOFOLLOW);
	if (fd < 0 || dup2(fd, 2) < 0)
		fail(note_fd, &note, SPAWN_OUTPUT, req->err);
	/* whatever else is open, ours or inherited, ends at exec; Linux 5.11, and all of ours is close-on-exec anyway */
	syscall(SYS_close_range, 3, ~0u, 4u /* CLOSE_RANGE_CLOEXEC */);

	if (req->soft_nofile) {
		struct rlimit l;

		if (!getrlimit(RLIMIT_NOFILE, &l)) {
			l.rlim_cur = req->soft_nofile < l.rlim_max ? req->soft_nofile : l.rlim_max;
			setrlimit(RLIMIT_NOFILE, &l);
		}
	}
	for (size_t i = 0; i < cfg->n_limits; i++) {
		struct rlimit l = { cfg->limits[i].soft, cfg->limits[i].hard };

		if (setrlimit((__rlimit_resource_t)cfg->limits[i].resource, &l) < 0) {
			note.detail = cfg->limits[i].resource;
			fail(note_fd, &note, SPAWN_LIMITS, NULL);
		}
	}
	if (cfg->nice) {
		errno = 0;
		if (nice(cfg->nice) < 0 && errno)
			fail(note_fd, &note, SPAWN_NICE, NULL);
	}
	if (cfg->umask >= 0)
		umask((mode_t)cfg->umask);
	if (cfg->directory && chdir(cfg->directory) < 0)
		fail(note_fd, &note, SPAWN_CHDIR, cfg->directory);

	r = find_program(cfg->command[0], req->path, program, sizeof(program));
	if (r < 0) {
		errno = -r;
		fail(note_fd, &note, SPAWN_SEARCH, cfg->command[0]);
	}
	capture_resolve(wishes[cfg->capture.mode], program, &note.plan);
	if (note.plan.mode == CAPTURE_PRELOAD && !req->envp_preload) {
		note.plan.mode = CAPTURE_STATUS;
		strcpy(note.plan.reason, "the crash agent is not installed");
	}
	tell(note_fd, &note);
	if (req->gate_fd >= 0 && read(req->gate_fd, &go, 1) < 0)
		go = 0; /* opened or broken, the gate has done its part */
	execve(program, cfg->command, note.plan.mode == CAPTURE_PRELOAD ? req->envp_preload : req->envp);
	fail(note_fd, &note, SPAWN_EXEC, program);
}

int spawn(const struct spawn_request *req, pid_t *ret_pid, int *ret_note_fd)
{
	int fds[2];
	pid_t pid;

	if (pipe2(fds, O_CLOEXEC | O_NONBLOCK) < 0)
		return -errno;
	/*
	 * vfork(2) spares copying page tables and the faults after it: measured with 1,000 daemons, 0.13 instead of 0.97 ms until the
	 * program executes. It stops this thread until then, so what could hang there (a file system of another host, the
	 * tracer's gate) is forked instead. The child changes nothing in the shared memory but its own stack and errno.
	 */
	pid = req->cfg->network || req->gate_fd >= 0 ? fork() : vfork();
	if (pid < 0) {
		int r = -errno;

		close(fds[0]);
		close(fds[1]);
		return r;
	}
	if (!pid)
		child(req, fds[1]);
	close(fds[1]);
	*ret_pid = pid;
	*ret_note_fd = fds[0];
	return 0;
}

char *spawn_note_format(const struct spawn_note *n, char *ret, size_t size)
{
	static const char *const what[_SPAWN_STEP_MAX] = { [SPAWN_NONE] = "start", [SPAWN_SESSION] = "setsid",
		[SPAWN_OUTPUT] = "open output", [SPAWN_LIMITS] = "set limit", [SPAWN_NICE] = "nice", [SPAWN_CHDIR] = "chdir",
		[SPAWN_SEARCH] = "exec", [SPAWN_EXEC] = "exec" };
	static const char *const limits[] = { [RLIMIT_CPU] = "cpu", [RLIMIT_FSIZE] = "fsize", [RLIMIT_DATA] = "data",
		[RLIMIT_STACK] = "stack", [RLIMIT_CORE] = "core", [RLIMIT_RSS] = "rss", [RLIMIT_NPROC] = "nproc",
		[RLIMIT_NOFILE] = "nofile", [RLIMIT_MEMLOCK] = "memlock", [RLIMIT_AS] = "as" };
	int step = n->step > 0 && n->step < _SPAWN_STEP_MAX ? n->step : SPAWN_NONE;
	const char *object = n->path;

	if (step == SPAWN_LIMITS && n->detail >= 0 && (size_t)n->detail < ARRAY_SIZE(limits))
		object = limits[n->detail];
	snprintf(ret, size, "%s%s%.500s: %s%s", what[step], object[0] ? " " : "", object, strerror(n->error),
	    step == SPAWN_SEARCH && n->error == ENOENT && !strchr(n->path, '/') ? " (searched along PATH)" :
	    step == SPAWN_EXEC && n->error == ENOEXEC ? " (a script needs a '#!' line)" :
	    step == SPAWN_EXEC && n->error == ENOENT  ? " (the file or its interpreter is missing)" :
							"");
	return ret;
}
