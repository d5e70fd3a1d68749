/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "base/json.h"
#include "log/record.h"
#include "output/encode.h"
#include "output/level.h"
#include "output/logfile.h"
#include "output/stage.h"
#include "output/tail.h"

struct folder {
	char path[64];
	int fd;
};

static int setup(void **state)
{
	struct folder *f = calloc(1, sizeof(*f));

	strcpy(f->path, "/tmp/test-output-XXXXXX");
	assert_non_null(mkdtemp(f->path));
	f->fd = open(f->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct folder *f = *state;
	char command[128];

	snprintf(command, sizeof(command), "rm -rf '%s'", f->path);
	assert_int_equal(system(command), 0);
	close(f->fd);
	free(f);
	return 0;
}

static void write_file(int dirfd, const char *name, const char *text)
{
	assert_int_equal(file_replace(dirfd, name, text, strlen(text), 0600, 0), 0);
}

static void expect_file(int dirfd, const char *name, const char *text)
{
	_cleanup_(freep) char *data = NULL;

	assert_int_equal(file_read(dirfd, name, 1 << 20, &data, NULL), 0);
	assert_string_equal(data, text);
}

static struct settings *settings_of(const char *json)
{
	_cleanup_json_ cJSON *j = NULL;
	struct settings *s = NULL;
	struct error err = { "" };

	assert_int_equal(json_parse(json, strlen(json), &j, &err), 0);
	if (settings_from_json(j, &s, &err) < 0)
		fail_msg("%s", err.text);
	assert_true(settings_are_valid(s, s->size));
	return s;
}

static void test_levels_are_found_where_lines_say_them(void **state)
{
	static const struct {
		const char *line;
		enum log_level level;
		size_t skip;
	} lines[] = {
		{ "", LEVEL_INFO, 0 },
		{ "hello", LEVEL_INFO, 0 },
		{ "<3>disk", LEVEL_ERROR, 3 },
		{ "<0>", LEVEL_CRITICAL, 3 },
		{ "<7>x", LEVEL_DEBUG, 3 },
		{ "<8>x", LEVEL_INFO, 0 },
		{ "ERROR:root:x", LEVEL_ERROR, 0 },
		{ "ERRORS found", LEVEL_INFO, 0 },
		{ "WARN x", LEVEL_WARNING, 0 },
		{ "WARNING", LEVEL_WARNING, 0 },
		{ "[FATAL] x", LEVEL_CRITICAL, 0 },
		{ "an ERROR in the middle", LEVEL_INFO, 0 },
		{ "2026-11-23 18:01:03,412 - root - ERROR - x", LEVEL_ERROR, 0 },
		{ "[2026-11-23T18:01:03.412Z] DEBUG x", LEVEL_DEBUG, 0 },
		{ "2026-11-23T18:01:03.412Z MY_ERROR then INFO and ERROR", LEVEL_INFO, 0 },
		{ "2026-11-23T18:01:03Z CRITICAL", LEVEL_CRITICAL, 0 },
		{ "123456 ERROR x", LEVEL_INFO, 0 },
		{ "{\"a\":{\"level\":\"error\"},\"level\":\"Warn\"}", LEVEL_WARNING, 0 },
		{ "{\"severity\" : \"FATAL\"}", LEVEL_CRITICAL, 0 },
		{ "{\"msg\":\"level\",\"x\":\"error\"}", LEVEL_INFO, 0 },
		{ "{\"m\":\"\\\"level\\\":\\\"error\\\"\"}", LEVEL_INFO, 0 },
		{ "{\"level\":30}", LEVEL_INFO, 0 },
		{ "{\"level", LEVEL_INFO, 0 },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(lines); i++) {
		size_t skip = 99;
		/* exactly as long as the line, so that a sanitizer sees a read beyond it */
		_cleanup_(freep) char *copy = malloc(strlen(lines[i].line) + 1);

		memcpy(copy, lines[i].line, strlen(lines[i].line));
		if (level_detect(copy, strlen(lines[i].line), &skip) != lines[i].level || skip != lines[i].skip)
			fail_msg("%s: level %d, skip %zu", lines[i].line, level_detect(copy, strlen(lines[i].line), &skip), skip);
	}
}

static void test_settings_refuse_what_is_no_daemon(void **state)
{
	static const char *const bad[] = { "{}", "{\"daemon\":\"\"}", "{\"daemon\":\"..\"}", "{\"daemon\":\"a/b/c\"}",
		"{\"daemon\":\"a@b\"}", "{\"daemon\":\"/a\"}", "{\"daemon\":\"a\",\"format\":\"xml\"}",
		"{\"daemon\":\"a\",\"level\":\"LOUD\"}", "{\"daemon\":\"a\",\"compress\":\"gzip\"}" };

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		_cleanup_json_ cJSON *j = NULL;
		struct settings *s = NULL;
		struct error err = { "" };

		assert_int_equal(json_parse(bad[i], strlen(bad[i]), &j, NULL), 0);
		assert_int_equal(settings_from_json(j, &s, &err), -EINVAL);
		assert_true(strlen(err.text) > 10);
	}
}

static struct encode_job job_of(const struct settings *s, const char *data, size_t size)
{
	return (struct encode_job){ .settings = s, .ts_us = 1795456863412345, .data = data, .to = (ptrdiff_t)size,
		.line_max = STAGE_LINE, .step = 1 << 20, .log_room = STAGE_OUT, .spool_room = STAGE_OUT, .file_at_line = true };
}

static void test_lines_become_text_and_the_rest_is_carried(void **state)
{
	_cleanup_(freep) struct settings *s = settings_of("{\"daemon\":\"a\",\"format\":\"text\"}");
	_cleanup_encoded_ struct encoded e = { 0 };
	struct encode_job job = job_of(s, "one\r\n\nERROR two\nrest", 20);

	(void)state;
	assert_int_equal(encode(&job, &e), 0);
	assert_string_equal(e.log.data, "2026-11-23T18:01:03.412345Z stdout INFO one\n"
	                                "2026-11-23T18:01:03.412345Z stdout INFO \n"
	                                "2026-11-23T18:01:03.412345Z stdout ERROR ERROR two\n");
	assert_int_equal(e.end, 16);
	assert_int_equal(e.stop, ENCODE_ALL);
	assert_int_equal(e.lines, 3);
	job.from = 16;
	job.flush = true;
	assert_int_equal(encode(&job, &e), 0);
	e.log.data[e.log.size] = '\0';
	assert_string_equal(e.log.data, "2026-11-23T18:01:03.412345Z stdout INFO rest\n");
}

static void test_records_carry_the_daemon_and_ascending_ids(void **state)
{
	_cleanup_(freep) struct settings *s = settings_of("{\"daemon\":\"train/0\",\"run\":\"r1\",\"store\":true,\"pid\":7,"
	                                                   "\"experiment\":\"e\",\"stage\":\"s\",\"node\":\"n\"}");
	_cleanup_encoded_ struct encoded e = { 0 };
	struct encode_job job = job_of(s, "a\nb\n", 4);
	struct uuid last = { { 0 } };
	size_t at = 0;

	(void)state;
	job.stream = 1;
	job.next_seq = 41;
	assert_int_equal(encode(&job, &e), 0);
	assert_int_equal(e.records, 2);
	assert_non_null(strstr(e.log.data, "\"seq\":\"41\"}\n"));
	assert_non_null(strstr(e.log.data, "\"seq\":\"42\"}\n"));
	for (unsigned i = 0; i < 2; i++) {
		struct record r;
		uint32_t size;

		memcpy(&size, e.spool.data + at, 4);
		assert_int_equal(record_decode(e.spool.data + at + 4, size, &r), 0);
		at += 4 + size;
		assert_int_equal(r.kind, RECORD_LOG);
		assert_true(r.ts_us == 1795456863412345);
		assert_memory_equal(r.daemon.data, "train/0", 7);
		assert_memory_equal(r.logger_name.data, "stderr", 6);
		assert_memory_equal(r.message.data, i ? "b" : "a", 1);
		assert_int_equal(r.context.size, 0);
		assert_true(memcmp(&r.id, &last, sizeof(last)) > 0);
		last = r.id;
	}
	assert_int_equal(at, e.spool.size);
}

/* Whatever the sizes of batches and steps, what comes out is what went in. */
static void test_batches_of_any_size_give_the_same_lines(void **state)
{
	_cleanup_(freep) struct settings *s = settings_of("{\"daemon\":\"a\",\"format\":\"text\",\"max_size\":4000}");
	_cleanup_text_ struct text input = { 0 };
	const size_t prefix = strlen("2026-11-23T18:01:03.412345Z stdout INFO ");

	(void)state;
	for (int i = 0; i < 300; i++)
		text_addf(&input, "line %d %.*s\n", i, i % 90, "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx");
	for (size_t batch = 1; batch < 6000; batch = batch * 3 + 1) {
		_cleanup_encoded_ struct encoded e = { 0 };
		_cleanup_text_ struct text out = { 0 }, hand = { 0 };

		for (size_t at = 0; at < input.size; at += batch) {
			size_t n = input.size - at < batch ? input.size - at : batch;
			struct encode_job job;

			text_add_bytes(&hand, input.data + at, n);
			job = job_of(s, hand.data, hand.size);
			job.step = 500;
			do {
				assert_int_equal(encode(&job, &e), 0);
				for (size_t i = 0; i < e.log.size;) {
					const char *nl = memchr(e.log.data + i, '\n', e.log.size - i);

					text_add_bytes(&out, e.log.data + i + prefix, (size_t)(nl + 1 - e.log.data) - i - prefix);
					i = (size_t)(nl + 1 - e.log.data);
				}
				job.file_size += e.log.size;
				assert_true(job.file_size <= 4000);
				if (e.stop == ENCODE_ROTATE)
					job.file_size = 0;
				job.from = e.end;
			} while (e.stop != ENCODE_ALL);
			memmove(hand.data, hand.data + e.end, hand.size - (size_t)e.end);
			hand.size -= (size_t)e.end;
		}
		assert_int_equal(out.size, input.size);
		assert_memory_equal(out.data, input.data, input.size);
	}
}

static void test_raw_is_cut_at_line_ends_for_rotation(void **state)
{
	_cleanup_(freep) struct settings *s = settings_of("{\"daemon\":\"a\",\"format\":\"raw\",\"max_size\":10}");
	_cleanup_encoded_ struct encoded e = { 0 };
	struct encode_job job = job_of(s, "aaaa\nbbbb\ncccc\ndddd", 19);

	(void)state;
	assert_int_equal(encode(&job, &e), 0);
	assert_int_equal(e.stop, ENCODE_ROTATE);
	assert_string_equal(e.log.data, "aaaa\nbbbb\n");
	job.from = e.end;
	assert_int_equal(encode(&job, &e), 0);
	assert_string_equal(e.log.data, "cccc\ndddd");
	job.file_size = 8; /* in the middle of a line: goes on to its end before the file is rotated */
	job.file_at_line = false;
	job.from = 0;
	assert_int_equal(encode(&job, &e), 0);
	assert_int_equal(e.stop, ENCODE_ROTATE);
	assert_string_equal(e.log.data, "aaaa\n");
}

static void test_an_interrupted_append_is_completed_exactly(void **state)
{
	struct folder *f = *state;
	static const char data[] = "0123456789";

	for (size_t had = 0; had <= 10; had++) {
		struct parcel p = { .size = 10 };
		_cleanup_(closep) int fd = -1;
		struct stat st;

		write_file(f->fd, "a.log", "before\n");
		fd = logfile_open(f->fd, "a");
		assert_true(fd >= 0);
		assert_int_equal(fstat(fd, &st), 0);
		p.before = (uint64_t)st.st_size;
		p.mark = st.st_ino;
		assert_int_equal(write_all(fd, data, had), 0); /* then it was killed */
		assert_int_equal(logfile_append(fd, &p, data), 0);
		expect_file(f->fd, "a.log", "before\n0123456789");
		assert_int_equal(logfile_append(fd, &p, data), 0); /* and once more, after the last byte */
		expect_file(f->fd, "a.log", "before\n0123456789");
	}
}

static void test_rotated_names_sort_by_time_and_are_told_from_others(void **state)
{
	struct folder *f = *state;
	char file[DAEMON_NAME_MAX], newest[NAME_MAX + 1];
	const char *suffix;

	assert_true(logfile_is_rotated("train@0.log.20261123T180103.412345Z-000001.zst", file, &suffix));
	assert_string_equal(file, "train@0");
	assert_string_equal(suffix, ".zst");
	assert_false(logfile_is_rotated("train@0.log", file, &suffix));
	assert_false(logfile_is_rotated(".log.20261123T180103.412345Z-000001", file, &suffix));
	assert_false(logfile_is_rotated("a.log.20261123T180103.412345Z-00000x", file, &suffix));
	for (int i = 0; i < 5; i++) {
		write_file(f->fd, "a.log", "x\n");
		assert_int_equal(logfile_rotate(f->fd, "a", 1795456863412345 + i / 2), 0);
	}
	write_file(f->fd, "ab.log.20261123T180103.412345Z-000001", "other\n");
	assert_int_equal(logfile_prune(f->fd, "a", 2), 0);
	assert_int_equal(logfile_newest_rotated(f->fd, "a", newest), 0);
	assert_string_equal(newest, "a.log.20261123T180103.412347Z-000001");
	assert_int_equal(faccessat(f->fd, "a.log.20261123T180103.412346Z-000002", F_OK, 0), 0);
	assert_int_equal(faccessat(f->fd, "a.log.20261123T180103.412346Z-000001", F_OK, 0), -1);
	assert_int_equal(faccessat(f->fd, "ab.log.20261123T180103.412345Z-000001", F_OK, 0), 0);
}

static void test_compression_keeps_the_text_and_its_end_can_be_read(void **state)
{
	static const char name[] = "a.log.20261123T180103.412345Z-000001";
	struct folder *f = *state;
	_cleanup_text_ struct text big = { 0 }, end = { 0 };
	_cleanup_(closep) int busy = -1;

	for (int i = 0; i < 100000; i++)
		text_addf(&big, "line %d\n", i);
	write_file(f->fd, name, big.data);
	busy = openat(f->fd, name, O_RDONLY | O_CLOEXEC);
	assert_int_equal(flock(busy, LOCK_EX), 0);
	assert_int_equal(logfile_compress(f->fd, name), -EWOULDBLOCK);
	close(TAKE_FD(busy));
	assert_int_equal(logfile_compress(f->fd, name), 0);
	assert_int_equal(faccessat(f->fd, name, F_OK, 0), -1);
	assert_int_equal(logfile_read_end(f->fd, "a.log.20261123T180103.412345Z-000001.zst", 1000, &end), 0);
	assert_int_equal(end.size, 1000);
	assert_memory_equal(end.data, big.data + big.size - 1000, 1000);
}

static void test_slots_are_found_again_and_the_file_grows(void **state)
{
	struct folder *f = *state;
	struct error err = { "" };
	struct stage s;
	bool aside;
	uint32_t slot, again;

	assert_int_equal(stage_open(&s, f->fd, &aside, &err), 0);
	for (int i = 0; i < 300; i++) {
		char name[32];

		snprintf(name, sizeof(name), "d@%d.out", i);
		assert_int_equal(stage_take_slot(&s, name, &slot), 0);
		assert_int_equal(slot, i);
	}
	assert_int_equal(stage_reserve_carry(&s, 299, 5), 0);
	memcpy(stage_carry(&s, 299), "carry", 5);
	stage_slot(&s, 299)->carry_size = 5;
	stage_close(&s);

	assert_int_equal(stage_open(&s, f->fd, &aside, &err), 0);
	assert_false(aside);
	assert_int_equal(stage_take_slot(&s, "d@299.out", &again), 0);
	assert_int_equal(again, 299);
	assert_memory_equal(stage_carry(&s, again), "carry", 5);
	stage_give_slot(&s, 7);
	assert_int_equal(stage_take_slot(&s, "new.out", &again), 0);
	assert_int_equal(again, 7);
	stage_close(&s);
}

static void test_a_state_file_cut_short_or_of_another_boot_is_set_aside(void **state)
{
	struct folder *f = *state;
	struct error err = { "" };
	struct stage s;
	struct stat st;
	bool aside;

	assert_int_equal(stage_open(&s, f->fd, &aside, &err), 0);
	assert_false(aside);
	stage_header(&s)->boot_id[0] ^= 1;
	stage_close(&s);
	assert_int_equal(stage_open(&s, f->fd, &aside, &err), 0);
	assert_true(aside);
	assert_int_equal(fstat(s.fd, &st), 0);
	assert_int_equal(ftruncate(s.fd, st.st_size - 4096), 0);
	close(s.fd);
	assert_int_equal(stage_open(&s, f->fd, &aside, &err), 0);
	assert_true(aside);
	stage_close(&s);
}

static void test_what_is_parked_comes_back_in_order_and_no_more_than_fits(void **state)
{
	struct folder *f = *state;
	_cleanup_(freep) char *data = calloc(1, 100000);
	struct error err = { "" };
	struct parcel *q;
	struct stage s;
	const char *file;
	char *bytes;
	bool aside;
	uint32_t at = 0;
	unsigned n = 0;

	assert_int_equal(stage_open(&s, f->fd, &aside, &err), 0);
	for (;; n++) {
		struct parcel p = { .step = n, .size = 100000 };

		data[0] = (char)n;
		if (stage_park(&s, SINK_LOG, &p, "train@0", data) < 0)
			break;
	}
	assert_int_equal(n, 10);
	for (unsigned i = 0; i < n; i++) {
		q = stage_next_parked(&s, SINK_LOG, &at, &file, &bytes);
		assert_non_null(q);
		assert_string_equal(file, "train@0");
		assert_int_equal(bytes[0], i);
	}
	assert_null(stage_next_parked(&s, SINK_LOG, &at, &file, &bytes));
	stage_close(&s);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_levels_are_found_where_lines_say_them),
		cmocka_unit_test(test_settings_refuse_what_is_no_daemon),
		cmocka_unit_test(test_lines_become_text_and_the_rest_is_carried),
		cmocka_unit_test(test_records_carry_the_daemon_and_ascending_ids),
		cmocka_unit_test(test_batches_of_any_size_give_the_same_lines),
		cmocka_unit_test(test_raw_is_cut_at_line_ends_for_rotation),
		cmocka_unit_test_setup_teardown(test_an_interrupted_append_is_completed_exactly, setup, teardown),
		cmocka_unit_test_setup_teardown(test_rotated_names_sort_by_time_and_are_told_from_others, setup, teardown),
		cmocka_unit_test_setup_teardown(test_compression_keeps_the_text_and_its_end_can_be_read, setup, teardown),
		cmocka_unit_test_setup_teardown(test_slots_are_found_again_and_the_file_grows, setup, teardown),
		cmocka_unit_test_setup_teardown(test_a_state_file_cut_short_or_of_another_boot_is_set_aside, setup, teardown),
		cmocka_unit_test_setup_teardown(test_what_is_parked_comes_back_in_order_and_no_more_than_fits, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
