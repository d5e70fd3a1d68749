/* SPDX-License-Identifier: Apache-2.0 */
/* Trees of real processes: what a daemon leaves behind is found and ended, whatever it did to get away. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "supervisor/spawn.h"
#include "supervisor/tree.h"

static const char nonce[] = "00112233445566778899aabbccddeeff";

/* Runs a shell script as a session leader, and waits until it has written one byte. */
static pid_t run(const char *script)
{
	int fds[2];
	char c;
	pid_t pid;

	assert_int_equal(pipe(fds), 0);
	pid = fork();
	if (!pid) {
		setsid();
		dup2(fds[1], 9);
		close(fds[0]);
		if (fds[1] != 9)
			close(fds[1]);
		setenv("SUPERVISE_NONCE", nonce, 1);
		execl("/bin/sh", "sh", "-c", script, (char *)NULL);
		_exit(127);
	}
	close(fds[1]);
	assert_int_equal(read(fds[0], &c, 1), 1);
	close(fds[0]);
	return pid;
}

static void reap_all(void)
{
	uint64_t end = clock_mono_ms() + 10000;

	while (waitpid(-1, NULL, WNOHANG) >= 0)
		assert_true(clock_mono_ms() < end);
	assert_int_equal(errno, ECHILD);
}

static void test_plain_and_setsid_children_are_members(void **state)
{
	pid_t root = run("sleep 1000 & setsid sleep 1000 & while [ $(cat /proc/*/comm 2>/dev/null | grep -c '^sleep') -lt 2 ]; "
			 "do :; done; echo >&9; wait");
	struct tree_key key = { .root = root, .nonce = nonce };
	_cleanup_(tree_free) struct tree t = { 0 };

	(void)state;
	assert_int_equal(tree_scan(&key, NULL, 0, &t), 0);
	assert_true(t.n >= 3);
	assert_true(tree_kill(&key, NULL, 0) >= 3);
	reap_all();
}

static void test_what_double_forked_away_is_found_by_its_nonce(void **state)
{
	pid_t root = run("(setsid sh -c 'echo >&9; exec 9>&-; sleep 1000' &) ; exit 0");
	struct tree_key key = { .root = root, .nonce = nonce }, wrong = { .root = root, .nonce = "other" };
	_cleanup_(tree_free) struct tree t = { 0 };
	int status;

	(void)state;
	assert_int_equal(waitpid(root, &status, 0), root);
	assert_int_equal(tree_scan(&wrong, NULL, 0, &t), 0);
	assert_int_equal(t.n, 0);
	assert_int_equal(tree_scan(&key, NULL, 0, &t), 0);
	assert_true(t.n >= 1);
	tree_kill(&key, NULL, 0);
	reap_all();
}

static void test_a_tree_that_forks_for_its_life_is_ended(void **state)
{
	pid_t root = run("f() { while :; do (f) & sleep 0.01; done; }; ulimit -u 400 2>/dev/null; echo >&9; f");
	struct tree_key key = { .root = root, .nonce = nonce };
	_cleanup_(tree_free) struct tree t = { 0 };

	(void)state;
	assert_true(tree_kill(&key, NULL, 0) > 0);
	reap_all();
	assert_int_equal(tree_scan(&key, NULL, 0, &t), 0);
	assert_int_equal(t.n, 0);
}

static void test_known_pids_are_never_members(void **state)
{
	pid_t root = run("sleep 1000 & echo >&9; wait");
	struct tree_key key = { .root = root, .nonce = nonce };
	_cleanup_(tree_free) struct tree t = { 0 };

	(void)state;
	assert_int_equal(tree_scan(&key, &root, 1, &t), 0);
	for (size_t i = 0; i < t.n; i++)
		assert_int_not_equal(t.items[i].id.pid, root);
	tree_kill(&key, NULL, 0);
	reap_all();
}

static void test_children_are_listed(void **state)
{
	pid_t a = run("echo >&9; sleep 1000"), b = run("echo >&9; sleep 1000");
	_cleanup_(freep) pid_t *list = NULL;
	size_t n = 0;
	int r = children_list(&list, &n);

	(void)state;
	if (r == -ENOTSUP)
		return;
	assert_int_equal(r, 0);
	assert_int_equal(n, 2);
	assert_true((list[0] == a && list[1] == b) || (list[0] == b && list[1] == a));
	kill(-a, SIGKILL);
	kill(-b, SIGKILL);
	reap_all();
}

/* --- spawn -------------------------------------------------------------------------------------------------------- */

struct fixture {
	char dir[32], out[64], err[64];
	struct daemon_config cfg;
};

static void fixture_init(struct fixture *f, char **command)
{
	memset(f, 0, sizeof(*f));
	strcpy(f->dir, "/tmp/test_spawn.XXXXXX");
	assert_non_null(mkdtemp(f->dir));
	snprintf(f->out, sizeof(f->out), "%s/out", f->dir);
	snprintf(f->err, sizeof(f->err), "%s/err", f->dir);
	assert_int_equal(mkfifo(f->out, 0600), 0);
	assert_int_equal(mkfifo(f->err, 0600), 0);
	f->cfg.name = (char *)"x";
	f->cfg.command = command;
	f->cfg.umask = -1;
	f->cfg.capture.mode = WISH_STATUS;
}

static void fixture_deinit(struct fixture *f)
{
	unlink(f->out);
	unlink(f->err);
	rmdir(f->dir);
}

/* Reads notes until the end. Return: the last one */
static struct spawn_note notes(int fd)
{
	struct spawn_note n = { 0 }, last = { 0 };

	for (;;) {
		struct pollfd p = { fd, POLLIN, 0 };

		assert_int_equal(poll(&p, 1, 10000), 1);
		if (read(fd, &n, sizeof(n)) != sizeof(n))
			return last;
		last = n;
	}
}

static void test_exec_failure_names_errno_and_path(void **state)
{
	char *command[] = { (char *)"/nonexistent/program", NULL }, *envp[] = { NULL };
	struct spawn_request req = { .envp = envp, .gate_fd = -1 };
	struct spawn_note n;
	struct fixture f;
	char text[700];
	pid_t pid;
	int fd;

	(void)state;
	fixture_init(&f, command);
	req.cfg = &f.cfg;
	req.out = f.out;
	req.err = f.err;
	assert_int_equal(spawn(&req, &pid, &fd), 0);
	n = notes(fd);
	assert_int_equal(n.step, SPAWN_EXEC);
	assert_int_equal(n.error, ENOENT);
	assert_non_null(strstr(spawn_note_format(&n, text, sizeof(text)), "exec /nonexistent/program: No such file"));
	close(fd);
	f.cfg.directory = (char *)"/nonexistent";
	assert_int_equal(spawn(&req, &pid, &fd), 0);
	n = notes(fd);
	assert_int_equal(n.step, SPAWN_CHDIR);
	close(fd);
	f.cfg.directory = NULL;
	command[0] = (char *)"no-such-program-anywhere";
	assert_int_equal(spawn(&req, &pid, &fd), 0);
	n = notes(fd);
	assert_int_equal(n.step, SPAWN_SEARCH);
	close(fd);
	reap_all();
	fixture_deinit(&f);
}

static void test_child_starts_with_clean_signals_and_only_stdio(void **state)
{
	char *command[] = { (char *)"sh", (char *)"-c",
		(char *)"grep -E 'Sig(Blk|Ign)' /proc/self/status; ls /proc/self/fd | wc -l; umask; ulimit -n", NULL };
	char *envp[] = { NULL }, buf[512];
	struct limit_config limit = { RLIMIT_NOFILE, 64, 128 };
	struct spawn_request req = { .envp = envp, .gate_fd = -1, .soft_nofile = 256 };
	struct fixture f;
	int fd, out, leak;
	size_t got = 0;
	pid_t pid;

	(void)state;
	signal(SIGPIPE, SIG_IGN);
	leak = dup(0); /* not close-on-exec, as something inherited would be */
	fixture_init(&f, command);
	f.cfg.umask = 027;
	f.cfg.limits = &limit;
	f.cfg.n_limits = 1;
	req.cfg = &f.cfg;
	req.out = f.out;
	req.err = f.err;
	out = open(f.out, O_RDWR);
	assert_int_equal(spawn(&req, &pid, &fd), 0);
	assert_int_equal(notes(fd).step, SPAWN_NONE);
	while (got < sizeof(buf) - 1) {
		struct pollfd p = { out, POLLIN, 0 };

		assert_int_equal(poll(&p, 1, 10000), 1);
		got += (size_t)read(out, buf + got, sizeof(buf) - 1 - got);
		buf[got] = '\0';
		if (strstr(buf, "0027\n64\n"))
			break;
	}
	assert_non_null(strstr(buf, "SigBlk:\t0000000000000000"));
	assert_non_null(strstr(buf, "SigIgn:\t0000000000000000"));
	assert_non_null(strstr(buf, "\n4\n")); /* 0, 1, 2, and ls's own */
	close(fd);
	close(out);
	close(leak);
	signal(SIGPIPE, SIG_DFL);
	reap_all();
	fixture_deinit(&f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_plain_and_setsid_children_are_members),
		cmocka_unit_test(test_what_double_forked_away_is_found_by_its_nonce),
		cmocka_unit_test(test_a_tree_that_forks_for_its_life_is_ended),
		cmocka_unit_test(test_known_pids_are_never_members),
		cmocka_unit_test(test_children_are_listed),
		cmocka_unit_test(test_exec_failure_names_errno_and_path),
		cmocka_unit_test(test_child_starts_with_clean_signals_and_only_stdio),
	};

	prctl(PR_SET_CHILD_SUBREAPER, 1);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
