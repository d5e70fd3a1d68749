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
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

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
	struct registry_entry e = { .name = (char *)name, .state = (char *)"running", .wanted = true, .id = { pid, 4711 },
		.pgid = pid, .since_us = 1795455663412345, .restarts = 2, .log_path = (char *)"/x/y.log" };

	strcpy(e.nonce, "00112233445566778899aabbccddeeff");
	strcpy(e.capture_mode, "preload");
	e.last_exit = (struct exit_info){ .known = true, .status = SIGSEGV, .at_us = 1795455663000000, .pid = 99 };
	strcpy(e.last_exit.cause, "SIGSEGV in f (a.c:1)");
	e.restart_times_us[0] = 1795455663000000;
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
	_cleanup_(freep) char *before = NULL, *after = NULL;
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
	for (int round = 0; round < 60; round++) {
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

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_what_was_put_is_there_after_reopening, make_dir, remove_dir),
		cmocka_unit_test_setup_teardown(test_changes_are_coalesced_into_one_snapshot, make_dir, remove_dir),
		cmocka_unit_test_setup_teardown(test_garbage_is_set_aside_and_never_deleted, make_dir, remove_dir),
		cmocka_unit_test_setup_teardown(test_names_that_leave_the_folder_are_refused, make_dir, remove_dir),
		cmocka_unit_test_setup_teardown(test_a_torn_journal_line_is_dropped_quietly, make_dir, remove_dir),
		cmocka_unit_test_setup_teardown(test_killed_at_any_moment_it_holds_the_last_acknowledged_put, make_dir, remove_dir),
		cmocka_unit_test_setup_teardown(test_another_process_reads_snapshot_and_journal, make_dir, remove_dir),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
