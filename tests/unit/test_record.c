/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/text.h"
#include "log/level.h"
#include "log/record.h"
#include "log/spool.h"

static void test_levels_have_the_seeds_names_and_take_others(void **state)
{
	static const char *const seed[] = { "DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL" };

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(seed); i++) {
		assert_int_equal(log_level_from_string(seed[i]), LEVEL_DEBUG + (int)i);
		assert_string_equal(log_level_to_string(log_level_from_string(seed[i])), seed[i]);
	}
	assert_int_equal(log_level_from_string("warn"), LEVEL_WARNING);
	assert_int_equal(log_level_from_string("Fatal"), LEVEL_CRITICAL);
	assert_int_equal(log_level_from_string("trace"), LEVEL_DEBUG);
	assert_int_equal(log_level_from_string("notice"), LEVEL_INFO);
	assert_int_equal(log_level_from_string("loud"), LEVEL_UNKNOWN);
	assert_int_equal(log_level_from_string(""), LEVEL_UNKNOWN);
	assert_int_equal(log_level_from_string(NULL), LEVEL_UNKNOWN);
	assert_string_equal(log_level_to_string(LEVEL_UNKNOWN), "UNKNOWN");
	assert_string_equal(log_level_to_string((enum log_level)99), "UNKNOWN");
}

static struct record whole(void)
{
	return (struct record){
		.kind = RECORD_LOG,
		.id = uuid_make_v7(0),
		.ts_us = 1795455663412345,
		.level = LEVEL_ERROR,
		.pid = 4711,
		.daemon = VIEW_OF("train/0"),
		.run = VIEW_OF("0198c2f1-0000-7000-8000-000000000001"),
		.experiment = VIEW_OF("resnet"),
		.job_id = VIEW_OF("0198c2f1-0000-7000-8000-000000000002"),
		.node_id = VIEW_OF("node-7"),
		.stage = VIEW_OF("load"),
		.logger_name = VIEW_OF("stderr"),
		.message = VIEW_OF("no such file: \xe2\x82\xac.csv"),
		.context = VIEW_OF("{\"a\":1}"),
		.traceback = VIEW_OF("Traceback (most recent call last):\n"),
		.performance = VIEW_OF("{\"ms\":1.5}"),
		.event_type = VIEW_OF("process_crash"),
	};
}

#define assert_same_view(a, b)                                                                               \
	do {                                                                                                 \
		assert_int_equal((a).size, (b).size);                                                        \
		if ((a).size)                                                                                \
			assert_memory_equal((a).data, (b).data, (a).size);                                   \
	} while (0)

static void test_every_field_survives_the_round_trip(void **state)
{
	_cleanup_text_ struct text t = { 0 };
	struct record a = whole(), b;

	(void)state;
	assert_int_equal(record_encode(&a, &t), 0);
	assert_int_equal(record_decode(t.data, t.size, &b), 0);
	assert_int_equal(b.kind, a.kind);
	assert_memory_equal(&b.id, &a.id, sizeof(a.id));
	assert_true(b.ts_us == a.ts_us);
	assert_int_equal(b.level, a.level);
	assert_int_equal(b.pid, a.pid);
	assert_same_view(a.daemon, b.daemon);
	assert_same_view(a.run, b.run);
	assert_same_view(a.experiment, b.experiment);
	assert_same_view(a.job_id, b.job_id);
	assert_same_view(a.node_id, b.node_id);
	assert_same_view(a.stage, b.stage);
	assert_same_view(a.logger_name, b.logger_name);
	assert_same_view(a.message, b.message);
	assert_same_view(a.context, b.context);
	assert_same_view(a.traceback, b.traceback);
	assert_same_view(a.performance, b.performance);
	assert_same_view(a.event_type, b.event_type);
}

static void test_an_unknown_field_is_skipped(void **state)
{
	_cleanup_text_ struct text t = { 0 };
	struct record a = whole(), b;

	(void)state;
	assert_int_equal(record_encode(&a, &t), 0);
	text_add_bytes(&t, "\xfe\x03\0\0\0new", 8);
	assert_int_equal(record_decode(t.data, t.size, &b), 0);
	assert_same_view(a.event_type, b.event_type);
}

static void test_every_cut_of_a_payload_is_refused_or_whole_fields(void **state)
{
	_cleanup_text_ struct text t = { 0 };
	struct record a = whole(), b;
	unsigned whole_fields = 0;

	(void)state;
	assert_int_equal(record_encode(&a, &t), 0);
	for (size_t n = 0; n < t.size; n++) {
		_cleanup_(freep) char *copy = malloc(n + 1); /* exactly as large, so that ASan sees a step beyond */
		int r;

		memcpy(copy, t.data, n);
		r = record_decode(copy, n, &b);
		if (!r)
			whole_fields++;
		else
			assert_int_equal(r, -EBADMSG);
	}
	assert_int_equal(whole_fields, 12);
}

static void test_unknown_kind_and_version_are_refused(void **state)
{
	_cleanup_text_ struct text t = { 0 };
	struct record a = whole(), b;

	(void)state;
	assert_int_equal(record_encode(&a, &t), 0);
	t.data[1] = _RECORD_KIND_MAX;
	assert_int_equal(record_decode(t.data, t.size, &b), -EBADMSG);
	t.data[1] = RECORD_LOG;
	t.data[0] = 2;
	assert_int_equal(record_decode(t.data, t.size, &b), -EBADMSG);
	a.kind = RECORD_UNKNOWN;
	assert_int_equal(record_encode(&a, &t), -EINVAL);
}

static void test_an_endless_message_and_traceback_are_cut_to_fit(void **state)
{
	_cleanup_text_ struct text t = { 0 };
	_cleanup_(freep) char *big = malloc(3u << 20);
	struct record a = whole(), b;

	(void)state;
	for (size_t i = 0; i < 3u << 20; i += 3)
		memcpy(big + i, "\xe2\x82\xac", 3);
	memcpy(big, "first ", 6);
	memcpy(big + 3 * (1u << 20) - 6, "  last", 6);
	a.message = a.traceback = a.context = a.node_id = (struct view){ big, 3u << 20 };
	assert_int_equal(record_encode(&a, &t), 0);
	assert_true(t.size <= SPOOL_FRAME_MAX);
	assert_true(t.size > SPOOL_FRAME_MAX - 1024);
	assert_int_equal(record_decode(t.data, t.size, &b), 0);
	assert_memory_equal(b.traceback.data, "first", 5);
	assert_memory_equal(b.traceback.data + b.traceback.size - 4, "last", 4);
	assert_non_null(memmem(b.message.data, b.message.size, "bytes cut", 9));
	assert_int_equal(utf8_valid_prefix(b.node_id.data, b.node_id.size), b.node_id.size);
	assert_same_view(b.context, VIEW_OF("{\"dropped_bytes\":3145728}"));

	/* one of the two may use what the other does not need */
	t.size = 0;
	a.traceback = VIEW_OF("short");
	assert_int_equal(record_encode(&a, &t), 0);
	assert_true(t.size <= SPOOL_FRAME_MAX && t.size > SPOOL_FRAME_MAX - 1024);
	assert_int_equal(record_decode(t.data, t.size, &b), 0);
	assert_same_view(b.traceback, VIEW_OF("short"));
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_levels_have_the_seeds_names_and_take_others),
		cmocka_unit_test(test_every_field_survives_the_round_trip),
		cmocka_unit_test(test_an_unknown_field_is_skipped),
		cmocka_unit_test(test_every_cut_of_a_payload_is_refused_or_whole_fields),
		cmocka_unit_test(test_unknown_kind_and_version_are_refused),
		cmocka_unit_test(test_an_endless_message_and_traceback_are_cut_to_fit),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
