/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/wait.h>

#include "base/clock.h"
#include "base/crc32c.h"
#include "base/file.h"
#include "base/json.h"
#include "base/paths.h"
#include "base/proc.h"
#include "base/text.h"
#include "base/uuid.h"

static void test_utc_text_survives_the_round_trip(void **state)
{
	static const int64_t times[] = { 0, 1, -1, 1795455663412345, -62135596800000000LL, 253402300799999999LL };
	char buf[CLOCK_TEXT_MAX];
	int64_t us;

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(times); i++) {
		clock_format_utc(times[i], buf);
		assert_int_equal(clock_parse_utc(buf, &us), 0);
		assert_true(us == times[i]);
	}
	assert_int_equal(clock_parse_utc("2026-11-23T19:01:03+01:00", &us), 0);
	assert_string_equal(clock_format_utc(us, buf), "2026-11-23T18:01:03.000000Z");
	assert_int_equal(clock_parse_utc("2026-02-30T00:00:00Z", &us), -EINVAL);
	assert_int_equal(clock_parse_utc("2026-11-23T18:01:03", &us), -EINVAL);
	assert_int_equal(clock_parse_utc("2026-11-23T18:01:03.Z", &us), -EINVAL);
}

static void test_crc32c_matches_the_rfc_vectors(void **state)
{
	unsigned char zeros[32] = { 0 }, up[32];

	(void)state;
	for (int i = 0; i < 32; i++)
		up[i] = (unsigned char)i;
	assert_int_equal(crc32c(0, zeros, 32), 0x8a9136aa); /* RFC 3720 B.4 */
	assert_int_equal(crc32c(0, up, 32), 0x46dd794e);
	assert_int_equal(crc32c(crc32c(0, up, 13), up + 13, 19), 0x46dd794e);
}

static void test_uuids_ascend_and_parse(void **state)
{
	char a[UUID_TEXT_MAX], b[UUID_TEXT_MAX];
	struct uuid u, v = uuid_make_v7(0);

	(void)state;
	uuid_format(&v, a);
	for (int i = 0; i < 1000; i++) {
		v = uuid_make_v7(0);
		uuid_format(&v, b);
		assert_true(strcmp(a, b) < 0);
		memcpy(a, b, sizeof(a));
	}
	assert_int_equal(b[14], '7');
	assert_int_equal(uuid_parse(b, &u), 0);
	assert_memory_equal(&u, &v, sizeof(u));
	assert_int_equal(uuid_parse("0198c2f1", &u), -EINVAL);
}

static void test_malformed_utf8_is_replaced_byte_by_byte(void **state)
{
	_cleanup_text_ struct text t = { 0 }, j = { 0 }, p = { 0 };

	(void)state;
	text_add_utf8(&t, "a\xff\xc3\xa9\xed\xa0\x80z", 8);
	assert_string_equal(t.data, "a\xef\xbf\xbd\xc3\xa9\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbdz");
	text_add_json(&j, "\x1b[31m\"\\\n\xfe", 9);
	assert_string_equal(j.data, "\\u001b[31m\\\"\\\\\\n\xef\xbf\xbd");
	text_add_printable(&p, "\x1b[2J\xc2\x9bx\t\xc3\xa9\n", 11);
	assert_string_equal(p.data, "\\x1b[2J\\xc2\\x9bx\t\xc3\xa9\n");
}

static void test_nearest_finds_single_typos_only(void **state)
{
	static const char *const words[] = { "autostart", "restart", "stop", "umask" };

	(void)state;
	assert_string_equal(text_nearest("autostrt", words, 4), "autostart");
	assert_string_equal(text_nearest("rsetart", words, 4), "restart");
	assert_string_equal(text_nearest("unmask", words, 4), "umask");
	assert_null(text_nearest("zebra", words, 4));
}

static void test_durations_and_sizes(void **state)
{
	uint64_t v;
	char buf[24];

	(void)state;
	assert_int_equal(parse_duration_ms("1h30m", &v), 0);
	assert_int_equal(v, 5400000);
	assert_int_equal(parse_duration_ms("5", &v), 0);
	assert_int_equal(v, 5000);
	assert_int_equal(parse_duration_ms("250ms", &v), 0);
	assert_int_equal(v, 250);
	assert_int_equal(parse_duration_ms("1.5s", &v), 0);
	assert_int_equal(v, 1500);
	assert_int_equal(parse_duration_ms("30m1h", &v), -EINVAL);
	assert_int_equal(parse_duration_ms("", &v), -EINVAL);
	assert_int_equal(parse_duration_ms("-1s", &v), -EINVAL);
	assert_int_equal(parse_size("50M", &v), 0);
	assert_int_equal(v, 50 << 20);
	assert_int_equal(parse_size("64KiB", &v), 0);
	assert_int_equal(v, 65536);
	assert_int_equal(parse_size("9999999T", &v), -ERANGE);
	assert_int_equal(parse_size("12X", &v), -EINVAL);
	assert_string_equal(format_size(6549825945ull, buf), "6.1G");
	assert_string_equal(clock_format_duration(273600000, buf), "3d 4h");
}

static void test_signal_names_both_ways(void **state)
{
	char buf[24];

	(void)state;
	assert_int_equal(signal_from_name("TERM"), SIGTERM);
	assert_int_equal(signal_from_name("sigkill"), SIGKILL);
	assert_int_equal(signal_from_name("RTMIN+3"), SIGRTMIN + 3);
	assert_int_equal(signal_from_name("15"), 15);
	assert_int_equal(signal_from_name("0"), -EINVAL);
	assert_int_equal(signal_from_name("FOO"), -EINVAL);
	assert_string_equal(signal_to_name(SIGSEGV, buf), "SIGSEGV");
	assert_string_equal(signal_to_name(SIGRTMIN + 3, buf), "SIGRTMIN+3");
}

static void test_big_integers_survive_json(void **state)
{
	_cleanup_json_ cJSON *j = cJSON_CreateObject(), *back = NULL;
	_cleanup_(freep) char *text = NULL;
	struct error err;

	(void)state;
	json_add_i64(j, "big", 9007199254740993LL);
	json_add_i64(j, "small", -42);
	text = json_print(j);
	assert_string_equal(text, "{\"big\":\"9007199254740993\",\"small\":-42}");
	assert_int_equal(json_parse(text, strlen(text), &back, &err), 0);
	assert_true(json_get_i64(back, "big", 0) == 9007199254740993LL);
	assert_int_equal(json_get_i64(back, "none", 7), 7);
	cJSON_Delete(back);
	back = NULL;
	assert_int_equal(json_parse("{\"a\":1} x", 9, &back, &err), -EINVAL);
}

static void test_identity_tells_same_other_and_gone(void **state)
{
	struct proc_id id, wrong;
	int fd, status;
	pid_t pid = fork();

	(void)state;
	if (!pid) {
		pause();
		_exit(0);
	}
	assert_int_equal(proc_identify(pid, &id), 0);
	assert_int_equal(proc_open(&id, &fd), PROC_SAME);
	wrong = id;
	wrong.start_ticks++;
	assert_int_equal(proc_open(&wrong, &(int){ -1 }), PROC_OTHER);
	assert_int_equal(pidfd_signal(fd, SIGKILL), 0);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(pidfd_signal(fd, SIGKILL), -ESRCH);
	assert_int_equal(proc_open(&id, &(int){ -1 }), PROC_GONE);
	close(fd);
}

static void test_replace_is_whole_or_nothing(void **state)
{
	char dir[] = "/tmp/test_base.XXXXXX", path[64];
	_cleanup_(freep) char *data = NULL;
	size_t size;

	(void)state;
	assert_non_null(mkdtemp(dir));
	snprintf(path, sizeof(path), "%s/f", dir);
	assert_int_equal(file_replace(AT_FDCWD, path, "one", 3, 0600, 0), 0);
	assert_int_equal(file_replace(AT_FDCWD, path, "two!", 4, 0600, 1), 0);
	assert_int_equal(file_read(AT_FDCWD, path, 100, &data, &size), 0);
	assert_int_equal(size, 4);
	assert_string_equal(data, "two!");
	assert_int_equal(file_read(AT_FDCWD, path, 3, &data, &size), -EFBIG);
	unlink(path);
	rmdir(dir);
}

static void test_project_names_cannot_leave_the_folder(void **state)
{
	struct paths p;
	struct error err;
	char buf[64];

	(void)state;
	setenv("SUPERVISE_RUNTIME_DIR", "/tmp/rt", 1);
	setenv("XDG_STATE_HOME", "/tmp/st", 1);
	assert_int_equal(paths_init(&p, "pipeline-a", &err), 0);
	assert_string_equal(p.runtime, "/tmp/rt/pipeline-a");
	assert_int_equal(paths_init(&p, "../x", &err), -EINVAL);
	assert_int_equal(paths_init(&p, "", &err), -EINVAL);
	assert_string_equal(paths_file_name("train/0", buf, sizeof(buf)), "train@0");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_utc_text_survives_the_round_trip),
		cmocka_unit_test(test_crc32c_matches_the_rfc_vectors),
		cmocka_unit_test(test_uuids_ascend_and_parse),
		cmocka_unit_test(test_malformed_utf8_is_replaced_byte_by_byte),
		cmocka_unit_test(test_nearest_finds_single_typos_only),
		cmocka_unit_test(test_durations_and_sizes),
		cmocka_unit_test(test_signal_names_both_ways),
		cmocka_unit_test(test_big_integers_survive_json),
		cmocka_unit_test(test_identity_tells_same_other_and_gone),
		cmocka_unit_test(test_replace_is_whole_or_nothing),
		cmocka_unit_test(test_project_names_cannot_leave_the_folder),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
