/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <signal.h>
#include <string.h>

#include "config/config.h"
#include "supervisor/lifecycle.h"
#include "supervisor/restart.h"

static void test_every_state_leads_somewhere_or_nowhere(void **state)
{
	(void)state;
	for (int s = 1; s < _DAEMON_STATE_MAX; s++)
		for (int e = 1; e < _EV_MAX; e++) {
			struct transition t = { DAEMON_UNKNOWN, ACT_NONE };
			int r = lifecycle_step((enum daemon_state)s, (enum daemon_event)e, &t);

			if (r < 0)
				assert_int_equal(t.next, DAEMON_UNKNOWN); /* untouched */
			else
				assert_true(t.next > DAEMON_UNKNOWN && t.next < _DAEMON_STATE_MAX);
		}
	assert_int_equal(lifecycle_step(DAEMON_UNKNOWN, EV_START, NULL), -EINVAL);
	assert_int_equal(lifecycle_step(_DAEMON_STATE_MAX, EV_START, NULL), -EINVAL);
}

static void test_start_and_stop_are_answered_in_every_state(void **state)
{
	struct transition t;

	(void)state;
	for (int s = 1; s < _DAEMON_STATE_MAX; s++) {
		assert_int_equal(lifecycle_step((enum daemon_state)s, EV_START, &t), 0);
		assert_int_equal(lifecycle_step((enum daemon_state)s, EV_STOP, &t), 0);
	}
}

static void test_exit_during_stop_is_no_crash(void **state)
{
	struct transition t;

	(void)state;
	assert_int_equal(lifecycle_step(DAEMON_STOPPING, EV_END_RESTART, &t), 0);
	assert_int_equal(t.next, DAEMON_STOPPING);
	assert_int_equal(t.action, ACT_SWEEP);
	assert_int_equal(lifecycle_step(DAEMON_STOPPING, EV_TREE_GONE, &t), 0);
	assert_int_equal(t.next, DAEMON_STOPPED);
}

static void test_state_names_both_ways(void **state)
{
	(void)state;
	for (int s = 1; s < _DAEMON_STATE_MAX; s++)
		assert_int_equal(daemon_state_from_string(daemon_state_to_string((enum daemon_state)s)), s);
	assert_int_equal(daemon_state_from_string("nonsense"), DAEMON_UNKNOWN);
	assert_int_equal(daemon_state_from_string(NULL), DAEMON_UNKNOWN);
}

static struct restart_config policy(void)
{
	struct restart_config c = { .policy = RESTART_ON_FAILURE, .delay_ms = 1000, .factor = 2, .max_delay_ms = 5000,
		.limit = 4, .window_ms = 600000, .reset_after_ms = 300000, .when_signals = ~0ull };

	memset(c.when_exit, 0xff, sizeof(c.when_exit));
	c.when_exit[0] = 0xfe;
	return c;
}

static void test_delays_double_up_to_the_cap_and_are_forgiven(void **state)
{
	static const uint64_t expected[] = { 1000, 2000, 4000, 5000 };
	struct restart_config c = policy();
	struct restart_history h = { 0 };
	struct restart_end end = { .executed = true, .known = true, .status = SIGSEGV, .uptime_ms = 10 };
	uint64_t delay;

	(void)state;
	c.limit = 0;
	for (int i = 0; i < 4; i++) {
		assert_int_equal(restart_decide(&c, &end, &h, 0.5, &delay), RESTART_AGAIN);
		assert_int_equal(delay, expected[i]);
	}
	end.uptime_ms = 300000;
	assert_int_equal(restart_decide(&c, &end, &h, 0.5, &delay), RESTART_AGAIN);
	assert_int_equal(delay, 1000);
}

static void test_limit_within_the_window_gives_up(void **state)
{
	struct restart_config c = policy();
	struct restart_history h = { 0 };
	struct restart_end end = { .executed = true, .known = true, .status = 3 << 8, .now_us = 1000000000 };
	uint64_t delay;

	(void)state;
	for (int i = 0; i < 4; i++)
		assert_int_equal(restart_decide(&c, &end, &h, 0.5, &delay), RESTART_AGAIN);
	assert_int_equal(restart_decide(&c, &end, &h, 0.5, &delay), RESTART_GIVE_UP);
	end.now_us += 601000000; /* the window has moved on */
	assert_int_equal(restart_decide(&c, &end, &h, 0.5, &delay), RESTART_AGAIN);
}

static void test_policies_tell_success_from_failure(void **state)
{
	struct restart_config c = policy();
	struct restart_history h = { 0 };
	struct restart_end ok = { .executed = true, .known = true }, lost = { .executed = true },
			   unexecuted = { .known = true, .status = 127 << 8 };
	uint64_t delay;

	(void)state;
	assert_int_equal(restart_decide(&c, &ok, &h, 0.5, &delay), RESTART_FINAL);
	assert_int_equal(restart_decide(&c, &lost, &h, 0.5, &delay), RESTART_AGAIN);
	assert_int_equal(restart_decide(&c, &unexecuted, &h, 0.5, &delay), RESTART_AGAIN);
	c.policy = RESTART_ALWAYS;
	assert_int_equal(restart_decide(&c, &ok, &h, 0.5, &delay), RESTART_AGAIN);
	c.policy = RESTART_NEVER;
	assert_int_equal(restart_decide(&c, &lost, &h, 0.5, &delay), RESTART_FINAL);
	c.policy = RESTART_ALWAYS;
	c.never[78 / 8] |= 1 << (78 % 8);
	ok.status = 78 << 8;
	assert_int_equal(restart_decide(&c, &ok, &h, 0.5, &delay), RESTART_GIVE_UP);
}

static void test_jitter_stays_within_its_share(void **state)
{
	struct restart_config c = policy();
	struct restart_end end = { .executed = true, .known = true, .status = SIGKILL };

	(void)state;
	c.jitter = 0.2;
	for (int i = 0; i <= 10; i++) {
		struct restart_history h = { 0 };
		uint64_t delay;

		assert_int_equal(restart_decide(&c, &end, &h, i / 10.0, &delay), RESTART_AGAIN);
		assert_in_range(delay, 900, 1100);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_every_state_leads_somewhere_or_nowhere),
		cmocka_unit_test(test_start_and_stop_are_answered_in_every_state),
		cmocka_unit_test(test_exit_during_stop_is_no_crash),
		cmocka_unit_test(test_state_names_both_ways),
		cmocka_unit_test(test_delays_double_up_to_the_cap_and_are_forgiven),
		cmocka_unit_test(test_limit_within_the_window_gives_up),
		cmocka_unit_test(test_policies_tell_success_from_failure),
		cmocka_unit_test(test_jitter_stays_within_its_share),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
