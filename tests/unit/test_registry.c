/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/file.h"
#include "registry/registry.h"

static char dir[32];

static int make_dir(void **state)
{
	char path[80];

	(void)state;
	strcpy(dir, "/tmp/test_registry.XXXXXX");
	assert_non_null(mkdtemp(dir));
	snprintf(path, sizeof(path), "%s/pid", dir);
	return mkdir(path, 0700);
}

static int remove_dir(void **state)
{
	char command[96];

	(void)state;
	snprintf(command, sizeof(command), "rm -rf %s", dir);
	return system(command);
}

static char *slurp(const char *name)
{
	char path[128], *data = NULL;

	snprintf(path, sizeof(path), "%s/%s", dir, name);
	file_read(AT_FDCWD, path, 1 << 20, &data, NULL);
	return data;
}

static void spill(const char *name, const char *text)
{
	char path[128];

	snprintf(path, sizeof(path), "%s/%s", dir, name);
	assert_int_equal(file_replace(AT_FDCWD, path, text, strlen(text), 0600, 0), 0);
}

static struct registry_entry entry(const char *name, pid_t pid)
{
	static int64_t times[] = { 1795455663000000 };
	struct registry_entry e = { .name = (char *)name, .state = (char *)"running", .wanted = true, .id = { pid, 4711 },
		.pgid = pid, .since_us = 1795455663412345, .restarts = 2, .log_path = (char *)"/x/y.log" };

	strcpy(e.nonce, "00112233445566778899aabbccddeeff");
	strcpy(e.capture_mode, "preload");
	e.last_exit = (struct exit_info){ .known = true, .status = SIGSEGV, .at_us = 1795455663000000, .pid = 99 };
	strcpy(e.last_exit.cause, "SIGSEGV in f (a.c:1)");
	e.restart_times_us = times;
	e.n_restart_times = 1;
	return e;
}

static void test_what_was_put_is_there_after_reopening(void **state)
{
	struct registry_entry e = entry("train/0", 1234);
	const struct registry_entry *got;
	struct registry *r = NULL;
	struct error err;
	_cleanup_(freep) char *pid = NULL;

	(void)state;
	assert_int_equal(registry_open(&r, dir, &err), 0);
	assert_int_equal(registry_put(r, &e), 0);
	pid = slurp("pid/train@0.pid");
	assert_string_equal(pid, "1234\n");
	registry_close(r);
	assert_int_equal(registry_open(&r, dir, &err), 0);
	assert_string_equal(err.text, "");
	got = registry_find(r, "train/0");
	assert_non_null(got);
	assert_int_equal(got->id.pid, 1234);
	assert_int_equal(got->id.start_ticks, 4711);
	assert_true(got->wanted);
	assert_string_equal(got->last_exit.cause, e.last_exit.cause);
	assert_int_equal(got->last_exit.status, SIGSEGV);
	assert_true(got->restart_times_us[0] == e.restart_times_us[0]);
	assert_string_equal(got->nonce, e.nonce);
	e.id.pid = 0;
	assert_int_equal(registry_put(r, &e), 0);
	assert_null(slurp("pid/train@0.pid"));
	assert_int_equal(registry_remove(r, "train/0"), 0);
	registry_close(r);
	assert_int_equal(registry_open(&r, dir, &err), 0);
	assert_int_equal(registry_count(r), 0);
	registry_close(r);
}

static void test_changes_are_coalesced_into_one_snapshot(void **state)
{
	struct registry *r = NULL;
	_cleanup_(freep) char *after = NULL;
	struct stat a, b;
	char path[96], name[16];

	(void)state;
	assert_int_equal(registry_open(&r, dir, NULL), 0);
	snprintf(path, sizeof(path), "%s/registry.json", dir);
	assert_int_equal(stat(path, &a), 0);
	for (int i = 0; i < 1000; i++) {
		struct registry_entry e;

		snprintf(name, sizeof(name), "d/%d", i);
		e = entry(name, 1000 + i);
		assert_int_equal(registry_put(r, &e), 0);
	}
	assert_int_equal(stat(path, &b), 0);
	assert_int_equal(a.st_ino, b.st_ino); /* not one rewrite */
	assert_in_range(registry_get_timeout(r), 0, REGISTRY_COALESCE_MS);
	assert_int_equal(registry_flush(r), 0);
	assert_int_equal(registry_get_timeout(r), -1);
	after = slurp("registry.journal");
	assert_string_equal(after, "");
	registry_close(r);
}

static void test_garbage_is_set_aside_and_never_deleted(void **state)
{
	struct registry *r = NULL;
	struct error err;
	char command[256];

	(void)state;
	spill("registry.json", "{\"version\":1,\"daemons\":{\"a\":");
	spill("registry.journal", "00000000 {\"serial\":\"5\"}\nrubbish\n");
	assert_int_equal(registry_open(&r, dir, &err), 0);
	assert_non_null(strstr(err.text, "damaged"));
	assert_int_equal(registry_count(r), 0);
	registry_close(r);
	snprintf(command, sizeof(command), "ls %s/registry.json.damaged-* %s/registry.journal.damaged-* >/dev/null", dir, dir);
	assert_int_equal(system(command), 0);
}

static void test_names_that_leave_the_folder_are_refused(void **state)
{
	struct registry *r = NULL;
	struct error err;

	(void)state;
	spill("registry.json", "{\"version\":1,\"boot_id\":\"x\",\"daemons\":{\"../../etc/x\":{\"name\":\"../../etc/x\",\"pid\":5},"
			       "\"ok\":{\"name\":\"ok\",\"pid\":5,\"state\":\"running\"}}}");
	assert_int_equal(registry_open(&r, dir, &err), 0);
	assert_int_equal(registry_count(r), 1);
	assert_int_equal(registry_find(r, "ok")->id.pid, 0); /* of another boot: that pid is somebody else */
	registry_close(r);
}

static void test_a_torn_journal_line_is_dropped_quietly(void **state)
{
	struct registry_entry e = entry("a", 77);
	struct registry *r = NULL, *again = NULL;
	struct error err;
	char path[96];
	int fd;

	(void)state;
	assert_int_equal(registry_open(&r, dir, &err), 0);
	assert_int_equal(registry_put(r, &e), 0);
	snprintf(path, sizeof(path), "%s/registry.journal", dir);
	fd = open(path, O_WRONLY | O_APPEND);
	assert_int_equal(write(fd, "deadbeef {\"serial", 17), 17);
	close(fd);
	/* as a successor finds it: the first one was killed, not closed */
	assert_int_equal(registry_open(&again, dir, &err), 0);
	assert_string_equal(err.text, "");
	assert_int_equal(registry_find(again, "a")->id.pid, 77);
	registry_close(again);
	registry_close(r);
}

static void test_killed_at_any_moment_it_holds_the_last_acknowledged_put(void **state)
{
	/* shared with the child: the last put that came back */
	int *acknowledged = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	(void)state;
	for (int round = 0; round < 25; round++) {
		struct registry *r = NULL;
		struct error err;
		pid_t pid;
		int before = *acknowledged;

		pid = fork();
		if (!pid) {
			if (registry_open(&r, dir, &err) < 0)
				_exit(1);
			for (int i = before + 1;; i++) {
				struct registry_entry e = entry("a", i);

				if (registry_put(r, &e) < 0)
					_exit(1);
				__atomic_store_n(acknowledged, i, __ATOMIC_SEQ_CST);
				if (i % 7 == 0 && registry_flush(r) < 0)
					_exit(1);
			}
		}
		while (__atomic_load_n(acknowledged, __ATOMIC_SEQ_CST) < before + 3 + round * 5)
			;
		kill(pid, SIGKILL);
		assert_int_equal(waitpid(pid, NULL, 0), pid);
		assert_int_equal(registry_open(&r, dir, &err), 0);
		assert_string_equal(err.text, "");
		/* the next one may have been written without having come back */
		assert_in_range(registry_find(r, "a")->id.pid, *acknowledged, *acknowledged + 1);
		registry_close(r);
	}
	munmap(acknowledged, 4096);
}

static void test_another_process_reads_snapshot_and_journal(void **state)
{
	struct registry_entry e = entry("a", 77);
	struct registry *r = NULL;
	_cleanup_json_ cJSON *j = NULL;
	struct error err;

	(void)state;
	assert_int_equal(registry_open(&r, dir, &err), 0);
	registry_set_header(r, "proj", "/x/supervise.yaml", 42);
	assert_int_equal(registry_flush(r), 0);
	assert_int_equal(registry_put(r, &e), 0);
	assert_int_equal(registry_read(dir, &j, &err), 0);
	assert_string_equal(json_get_string(j, "project", ""), "proj");
	assert_int_equal(json_get_i64(json_get_object(json_get_object(j, "daemons"), "a"), "pid", 0), 77);
	registry_close(r);
}

/* Everything that changes files: opening, putting, a flush, an end, a removal. @acknowledged: the last put that came back. */
static void change_all(int *acknowledged)
{
	struct registry *r = NULL;
	struct registry_entry e;

	if (registry_open(&r, dir, NULL) < 0)
		_exit(1);
	for (int i = 1; i <= 6; i++) {
		e = entry("a", 100 + i);
		if (registry_put(r, &e) < 0 || (i == 4 && registry_flush(r) < 0))
			_exit(1);
		*acknowledged = 100 + i;
	}
	e = entry("b", 55);
	if (registry_put(r, &e) < 0 || registry_remove(r, "b") < 0)
		_exit(1);
	registry_close(r);
}

static void test_killed_before_and_after_each_system_call_nothing_is_damaged(void **state)
{
	int *acknowledged = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	bool finished = false;
	int stops = 0;

	(void)state;
	for (stops = 1; !finished && stops < 5000; stops++) {
		struct registry_entry e = entry("a", 100);
		struct registry *r = NULL;
		struct error err;
		int status;
		pid_t pid;

		assert_int_equal(registry_open(&r, dir, &err), 0);
		assert_int_equal(registry_put(r, &e), 0);
		registry_close(r);
		*acknowledged = 100;
		pid = fork();
		if (!pid) {
			if (ptrace(PTRACE_TRACEME, 0, 0, 0) < 0)
				_exit(77);
			raise(SIGSTOP);
			change_all(acknowledged);
			_exit(0);
		}
		assert_int_equal(waitpid(pid, &status, 0), pid);
		if (WIFEXITED(status) && WEXITSTATUS(status) == 77) {
			munmap(acknowledged, 4096);
			return; /* no ptrace here */
		}
		for (int i = 0; i < stops && !finished; i++) {
			assert_int_equal(ptrace(PTRACE_SYSCALL, pid, 0, 0), 0);
			assert_int_equal(waitpid(pid, &status, 0), pid);
			finished = WIFEXITED(status);
		}
		if (!finished) {
			kill(pid, SIGKILL);
			assert_int_equal(waitpid(pid, &status, 0), pid);
		}
		assert_int_equal(registry_open(&r, dir, &err), 0);
		assert_string_equal(err.text, "");
		assert_in_range(registry_find(r, "a")->id.pid, *acknowledged, *acknowledged + 1);
		{
			_cleanup_(freep) char *file = slurp("pid/a.pid");

			assert_int_equal(atoi(file), registry_find(r, "a")->id.pid);
		}
		registry_remove(r, "b");
		registry_close(r);
	}
	assert_true(finished);
	assert_true(stops > 50);
	munmap(acknowledged, 4096);
	{
		char command[128]; /* nor is anything half-written left behind */

		snprintf(command, sizeof(command), "test -z \"$(find %s -name '*.tmp.*' -o -name '*damaged*')\"", dir);
		assert_int_equal(system(command), 0);
	}
}

static void test_a_line_that_did_not_fit_does_not_spoil_the_next(void **state)
{
	struct registry_entry e = entry("a", 77);
	struct registry *r = NULL, *again = NULL;
	struct rlimit old, small;
	struct error err;
	struct stat st;
	char path[96];

	(void)state;
	assert_int_equal(registry_open(&r, dir, &err), 0);
	assert_int_equal(registry_put(r, &e), 0);
	snprintf(path, sizeof(path), "%s/registry.journal", dir);
	assert_int_equal(stat(path, &st), 0);
	/* a full disk, as far as write(2) tells: half of the line goes in, then an error */
	signal(SIGXFSZ, SIG_IGN);
	getrlimit(RLIMIT_FSIZE, &old);
	small = old;
	small.rlim_cur = (rlim_t)st.st_size + 100;
	setrlimit(RLIMIT_FSIZE, &small);
	e.id.pid = 78;
	assert_int_equal(registry_put(r, &e), -EFBIG);
	setrlimit(RLIMIT_FSIZE, &old);
	e.id.pid = 79;
	assert_int_equal(registry_put(r, &e), 0);
	assert_int_equal(registry_open(&again, dir, &err), 0);
	assert_string_equal(err.text, "");
	assert_int_equal(registry_find(again, "a")->id.pid, 79);
	registry_close(again);
	registry_close(r);
}

static void test_members_of_a_newer_version_are_carried_along(void **state)
{
	struct registry_entry e = entry("a", 77);
	struct registry *r = NULL;
	_cleanup_(freep) char *text = NULL;
	_cleanup_json_ cJSON *j = NULL;

	(void)state;
	spill("registry.json", "{\"version\":1,\"cluster\":{\"id\":7},\"daemons\":{\"a\":{\"name\":\"a\",\"state\":\"running\","
			       "\"watchdog\":[1,\"x\\\"y\"]}}}");
	for (int i = 0; i < 2; i++) {
		assert_int_equal(registry_open(&r, dir, NULL), 0);
		assert_int_equal(registry_put(r, &e), 0);
		registry_close(r);
	}
	text = slurp("registry.json");
	assert_int_equal(json_parse(text, strlen(text), &j, NULL), 0);
	assert_int_equal(json_get_i64(json_get_object(j, "cluster"), "id", 0), 7);
	assert_int_equal(cJSON_GetArraySize(json_get_array(json_get_object(json_get_object(j, "daemons"), "a"), "watchdog")), 2);
}

static void test_a_reader_after_a_reboot_sees_no_pids(void **state)
{
	_cleanup_json_ cJSON *j = NULL;

	(void)state;
	spill("registry.json", "{\"version\":1,\"boot_id\":\"x\",\"daemons\":{\"a\":{\"name\":\"a\",\"state\":\"running\","
			       "\"pid\":5}}}");
	assert_int_equal(registry_read(dir, &j, NULL), 0);
	assert_true(cJSON_IsNull(cJSON_GetObjectItem(json_get_object(json_get_object(j, "daemons"), "a"), "pid")));
}

static void test_stale_pid_files_go_and_right_ones_stay(void **state)
{
	struct registry_entry e = entry("train/0", 1234);
	struct registry *r = NULL;
	struct stat a, b;
	char path[96];

	(void)state;
	assert_int_equal(registry_open(&r, dir, NULL), 0);
	assert_int_equal(registry_put(r, &e), 0);
	registry_close(r);
	spill("pid/gone.pid", "99\n");
	spill("pid/x.pid.tmp.99", "9");
	spill("registry.json.tmp.99", "{");
	snprintf(path, sizeof(path), "%s/pid/train@0.pid", dir);
	assert_int_equal(stat(path, &a), 0);
	assert_int_equal(registry_open(&r, dir, NULL), 0);
	assert_int_equal(stat(path, &b), 0);
	assert_int_equal(a.st_ino, b.st_ino);
	assert_null(slurp("pid/gone.pid"));
	assert_null(slurp("pid/x.pid.tmp.99"));
	assert_null(slurp("registry.json.tmp.99"));
	registry_close(r);
	spill("pid/train@0.pid", "rubbish");
	assert_int_equal(registry_open(&r, dir, NULL), 0);
	registry_close(r);
	{
		_cleanup_(freep) char *pid = slurp("pid/train@0.pid");

		assert_string_equal(pid, "1234\n");
	}
}

static void test_readers_see_a_whole_file_while_it_changes(void **state)
{
	char command[160];
	pid_t pid = fork();

	(void)state;
	if (!pid) {
		struct registry *r = NULL;

		if (registry_open(&r, dir, NULL) < 0)
			_exit(1);
		for (int i = 0;; i++) {
			char name[16];
			struct registry_entry e;

			snprintf(name, sizeof(name), "d/%d", i % 20);
			e = entry(name, 2 + i);
			if (registry_put(r, &e) < 0 || (i % 5 == 0 && registry_flush(r) < 0))
				_exit(1);
		}
	}
	snprintf(command, sizeof(command), "%s/registry.json", dir);
	while (access(command, F_OK) < 0)
		;
	for (int i = 0; i < 100; i++) {
		_cleanup_(freep) char *text = slurp("registry.json");
		_cleanup_json_ cJSON *j = NULL, *merged = NULL;

		assert_int_equal(json_parse(text, strlen(text), &j, NULL), 0);
		assert_int_equal(registry_read(dir, &merged, NULL), 0);
	}
	snprintf(command, sizeof(command),
	    "command -v jq >/dev/null || exit 0; for i in 1 2 3 4 5 6 7 8 9 10; do jq -e .version %s/registry.json >/dev/null || exit 1; done",
	    dir);
	assert_int_equal(system(command), 0);
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
}

static void test_nobody_else_may_read_it(void **state)
{
	struct registry_entry e = entry("a", 77);
	struct registry *r = NULL;
	char command[128];
	mode_t old = umask(0);

	(void)state;
	assert_int_equal(registry_open(&r, dir, NULL), 0);
	assert_int_equal(registry_put(r, &e), 0);
	snprintf(command, sizeof(command), "test -z \"$(find %s -type f ! -perm 600)\"", dir);
	assert_int_equal(system(command), 0);
	registry_close(r);
	umask(old);
}

/* It puts together what each change printed already. */
static void test_a_snapshot_of_1000_daemons_is_cheap(void **state)
{
	struct registry *r = NULL;
	uint64_t puts, best = UINT64_MAX;

	(void)state;
	assert_int_equal(registry_open(&r, dir, NULL), 0);
	puts = clock_mono_us();
	for (int i = 0; i < 1000; i++) {
		struct registry_entry e;
		char name[16];

		snprintf(name, sizeof(name), "d/%d", i);
		e = entry(name, 1000 + i);
		assert_int_equal(registry_put(r, &e), 0);
	}
	puts = clock_mono_us() - puts;
	for (int i = 0; i < 10; i++) {
		uint64_t t = clock_mono_us();

		assert_int_equal(registry_flush(r), 0);
		t = clock_mono_us() - t;
		best = t < best ? t : best;
	}
	print_message("# 1,000 puts %d us, a snapshot of 1,000 daemons %d us\n", (int)puts, (int)best);
	assert_true(best * 4 < puts);
	registry_close(r);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_what_was_put_is_there_after_reopening, make_dir, remove_dir),
		cmocka_unit_test_setup_teardown(test_changes_are_coalesced_into_one_snapshot, make_dir, remove_dir),
		cmocka_unit_test_setup_teardown(test_garbage_is_set_aside_and_never_deleted, make_dir, remove_dir),
		cmocka_unit_test_setup_teardown(test_names_that_leave_the_folder_are_refused, make_dir, remove_dir),
		cmocka_unit_test_setup_teardown(test_a_torn_journal_line_is_dropped_quietly, make_dir, remove_dir),
		cmocka_unit_test_setup_teardown(test_killed_at_any_moment_it_holds_the_last_acknowledged_put, make_dir, remove_dir),
		cmocka_unit_test_setup_teardown(test_killed_before_and_after_each_system_call_nothing_is_damaged, make_dir, remove_dir),
		cmocka_unit_test_setup_teardown(test_a_line_that_did_not_fit_does_not_spoil_the_next, make_dir, remove_dir),
		cmocka_unit_test_setup_teardown(test_members_of_a_newer_version_are_carried_along, make_dir, remove_dir),
		cmocka_unit_test_setup_teardown(test_a_reader_after_a_reboot_sees_no_pids, make_dir, remove_dir),
		cmocka_unit_test_setup_teardown(test_stale_pid_files_go_and_right_ones_stay, make_dir, remove_dir),
		cmocka_unit_test_setup_teardown(test_readers_see_a_whole_file_while_it_changes, make_dir, remove_dir),
		cmocka_unit_test_setup_teardown(test_nobody_else_may_read_it, make_dir, remove_dir),
		cmocka_unit_test_setup_teardown(test_a_snapshot_of_1000_daemons_is_cheap, make_dir, remove_dir),
		cmocka_unit_test_setup_teardown(test_another_process_reads_snapshot_and_journal, make_dir, remove_dir),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
