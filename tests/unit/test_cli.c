/* SPDX-License-Identifier: Apache-2.0 */
#include <locale.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/clock.h"
#include "cli/cli.h"
#include "cli/records.h"
#include "cli/status.h"

/* 2026-11-23 18:01:03 UTC, a Monday */
static const int64_t now_us = INT64_C(1795456863) * 1000000;

/* --- options ------------------------------------------------------------------------------------------------------ */

static char words[32][64];
static char *vector[33];
static struct cli_options o;
static const struct cli_verb *verb;

/* Standard error is kept out of the way: messages are looked at by the integration tests. */
static int parse(const char *line)
{
	int argc = 0, kept = dup(2), r;
	FILE *null = freopen("/dev/null", "w", stderr);

	assert_non_null(null);
	for (const char *p = line; *p; p += strspn(p, " ")) {
		size_t n = strcspn(p, " ");

		snprintf(words[argc], sizeof(words[0]), "%.*s", (int)n, p);
		vector[argc] = words[argc];
		argc++;
		p += n;
	}
	vector[argc] = NULL;
	r = cli_parse(&o, argc, vector, &verb);
	fflush(stderr);
	dup2(kept, 2);
	close(kept);
	return r;
}

static void test_options_stand_anywhere(void **state)
{
	(void)state;
	assert_int_equal(parse("supervise --json logs -n5 web -f --level=ERROR api"), 0);
	assert_string_equal(verb->name, "logs");
	assert_true(o.json && o.follow);
	assert_int_equal(o.lines, 5);
	assert_string_equal(o.level, "ERROR");
	assert_int_equal(o.n_args, 2);
	assert_string_equal(o.args[0], "web");
	assert_string_equal(o.args[1], "api");
	assert_null(o.args[2]);
}

static void test_letters_can_be_joined_and_carry_a_value(void **state)
{
	(void)state;
	assert_int_equal(parse("supervise logs -frn 7"), 0);
	assert_true(o.follow && o.reverse);
	assert_int_equal(o.lines, 7);
	assert_int_equal(parse("supervise -qcfile.yaml status"), 0);
	assert_true(o.quiet);
	assert_string_equal(o.config, "file.yaml");
}

static void test_two_dashes_end_the_options(void **state)
{
	(void)state;
	assert_int_equal(parse("supervise status -- --json"), 0);
	assert_false(o.json);
	assert_string_equal(o.args[0], "--json");
}

static void test_what_follows_a_command_is_its_own(void **state)
{
	(void)state;
	assert_int_equal(parse("supervise run -q ls --json -- -l"), 0);
	assert_true(o.quiet);
	assert_false(o.json);
	assert_int_equal(o.n_args, 4);
	assert_string_equal(o.args[1], "--json");
	assert_string_equal(o.args[2], "--");
	assert_int_equal(parse("supervise run -- --strange"), 0);
	assert_string_equal(o.args[0], "--strange");
}

static void test_a_negative_number_is_an_argument(void **state)
{
	(void)state;
	assert_int_equal(parse("supervise crash show -2 --full"), 0);
	assert_string_equal(o.args[1], "-2");
	assert_true(o.full);
}

static void test_aliases_of_verbs_and_options(void **state)
{
	(void)state;
	assert_int_equal(parse("supervise ps --no-headings"), 0);
	assert_string_equal(verb->name, "status");
	assert_true(o.no_header);
}

static void test_what_is_not_understood_is_refused(void **state)
{
	static const char *const lines[] = { "supervise statsu", "supervise status --jsno", "supervise status --follow",
		"supervise --follow status", "supervise logs -n", "supervise logs -n x", "supervise logs --json=1", "supervise stat",
		"supervise logs --lev ERROR", "supervise show", "supervise show a b", "supervise logs -Z", "supervise -- ls",
		"supervise stop a --timeout soon", "supervise logs --stream up", "supervise logs --config",
		"supervise logs -n 18446744073709551615" };

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(lines); i++)
		if (parse(lines[i]) != CLI_USAGE)
			fail_msg("%s", lines[i]);
}

static void test_no_verb_is_no_mistake_of_the_parser(void **state)
{
	(void)state;
	assert_int_equal(parse("supervise"), 0);
	assert_null(verb);
	assert_int_equal(parse("supervise --version"), 0);
	assert_true(o.version);
	assert_int_equal(parse("supervise show --help"), 0); /* though its argument is missing */
	assert_true(o.help);
}

static void test_the_tables_fit_together(void **state)
{
	(void)state;
	for (const struct cli_verb *v = cli_verbs; v->name; v++) {
		char list[1024];

		assert_non_null(v->summary);
		assert_ptr_equal(cli_find_verb(v->name), v);
		snprintf(list, sizeof(list), "%s", v->options);
		for (char *rest = list, *word; (word = strsep(&rest, " "));) {
			const struct cli_option *x = cli_options;

			while (*word && x->name && strcmp(x->name, word))
				x++;
			if (*word && (!x->name || cli_is_global(x)))
				fail_msg("%s: option '%s'", v->name, word);
		}
	}
	for (const struct cli_option *x = cli_options; x->name; x++) {
		bool used = cli_is_global(x);

		assert_int_equal(!x->argument, x->kind == OPTION_FLAG);
		for (const struct cli_verb *v = cli_verbs; v->name; v++)
			used |= cli_takes(v, x);
		if (!used)
			fail_msg("no verb takes --%s", x->name);
		for (const struct cli_option *y = x + 1; y->name; y++)
			assert_true(!x->letter || x->letter != y->letter);
	}
}

/* --- times -------------------------------------------------------------------------------------------------------- */

static int64_t at(const char *text)
{
	int64_t us = -1;

	return cli_parse_time(text, now_us, true, &us) == 0 ? us / 1000000 : -1;
}

static void test_times_as_people_write_them(void **state)
{
	static const struct {
		const char *text;
		int64_t s;
	} cases[] = {
		{ "now", 1795456863 },
		{ "1h", 1795456863 - 3600 },
		{ "2h30m", 1795456863 - 9000 },
		{ "2d", 1795456863 - 172800 },
		{ "90", 1795456863 - 90 }, /* a bare number is seconds */
		{ "@1700000000", 1700000000 },
		{ "today", 1795392000 },
		{ "yesterday", 1795305600 },
		{ "yesterday 14:00", 1795305600 + 14 * 3600 },
		{ "today 06:30:05", 1795392000 + 6 * 3600 + 30 * 60 + 5 },
		{ "14:00", 1795392000 + 14 * 3600 },
		{ "2026-11-20", 1795132800 },
		{ "2026-11-20 18:00", 1795132800 + 18 * 3600 },
		{ "2026-11-20T18:00:00Z", 1795132800 + 18 * 3600 },
		{ "2026-11-20T18:00:00+02:00", 1795132800 + 16 * 3600 },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++)
		if (at(cases[i].text) != cases[i].s)
			fail_msg("%s: %lld, not %lld", cases[i].text, (long long)at(cases[i].text), (long long)cases[i].s);
}

static void test_what_is_no_time_is_refused(void **state)
{
	static const char *const cases[] = { "", "soon", "25:00", "14:61", "2026-13-01", "2026-11-32", "2026-02-30", "@", "@x", "@-1",
		"todayx", "today 25:00", "yesterday14:00", "2026-11-20 ", "1x", "-1h", "99999999999999999999h", "2026-11-20T18:00:00Zx", "14: 5", "14:+5", "2026-+1-01", "2026- 1-01",
		"@99999999999999" };

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++)
		if (at(cases[i]) != -1)
			fail_msg("'%s' was taken", cases[i]);
}

static void test_local_times_follow_the_zone(void **state)
{
	int64_t us;

	(void)state;
	setenv("TZ", "CET-1CEST,M3.5.0,M10.5.0/3", 1);
	tzset();
	assert_int_equal(cli_parse_time("today", now_us, false, &us), 0);
	assert_int_equal(us / 1000000, 1795392000 - 3600);
	/* the day before the clocks went back had its midnight in summer time */
	assert_int_equal(cli_parse_time("2026-10-25", now_us, false, &us), 0);
	assert_int_equal(us / 1000000, 1792879200);
	setenv("TZ", "UTC", 1);
	tzset();
}

/* --- tables ------------------------------------------------------------------------------------------------------- */

static const char daemons_json[] =
    "[{\"name\":\"train/10\",\"state\":\"stopped\",\"pid\":null,\"restarts\":0,\"last_exit\":null},"
    "{\"name\":\"train/2\",\"state\":\"running\",\"pid\":55190,\"uptime_ms\":720000,\"restarts\":2,\"rss_bytes\":6549825126,"
    "\"cpu_percent\":98.2,\"last_exit\":{\"at\":\"2026-11-23T17:49:03Z\",\"cause\":\"SIGSEGV in fit_kernel (kernels.c:88)\","
    "\"crash_id\":\"0198c2f1-0000-7000-8000-00001a2b3c4d\",\"failure\":true}},"
    "{\"name\":\"export\",\"state\":\"failed\",\"pid\":null,\"restarts\":5,\"restart_limit\":5,\"last_exit\":{\"at\":"
    "\"2026-11-23T16:01:03Z\",\"cause\":\"exit 3\\u001b[2J\",\"crash_id\":null,\"failure\":true}},"
    "{\"name\":\"load\",\"state\":\"backoff\",\"pid\":null,\"restarts\":4,\"restart_limit\":10,\"restart_in_ms\":24000,"
    "\"last_exit\":{\"at\":\"2026-11-23T18:00:55Z\",\"cause\":\"out of memory\",\"crash_id\":null,\"failure\":true}}]";

static const char wide_utf8[] =
    "   NAME      STATE      PID   UP   RST  CPU   MEM  LAST EXIT\n"
    "✗  export    failed       -    -   5/5    -     -  2h ago  exit 3\\x1b[2J  gave up\n"
    "◐  load      backoff      -    -  4/10    -     -  8s ago  out of memory  next try in 24s\n"
    "●  train/2   running  55190  12m     2  98%  6.1G  12m ago  SIGSEGV in fit_kernel (kernels.c:88)  crash 1a2b3c4d\n"
    "○  train/10  stopped      -    -     0    -     -  -\n";

static const char at_80_ascii[] =
    "   NAME      STATE      PID   UP   RST  CPU   MEM  LAST EXIT\n"
    "x  export    failed       -    -   5/5    -     -  2h ago  exit 3\\x1b[2J  gave u\n"
    "~  load      backoff      -    -  4/10    -     -  8s ago  out of memory  next t\n"
    "*  train/2   running  55190  12m     2  98%  6.1G  12m ago  SIGSEGV in fit_kerne\n"
    "o  train/10  stopped      -    -     0    -     -  -\n";

static const char at_40_utf8[] =
    "   NAME      STATE    LAST EXIT\n"
    "✗  export    failed   2h ago  exit 3\\x1b\n"
    "◐  load      backoff  8s ago  out of mem\n"
    "●  train/2   running  12m ago  SIGSEGV i\n"
    "○  train/10  stopped  -\n";

static void render(unsigned width, const char *locale, bool colour, const char *columns, struct text *out)
{
	struct cli c = { .width = width, .colour = colour, .o.columns = columns };
	_cleanup_json_ cJSON *j = NULL;

	assert_non_null(setlocale(LC_ALL, locale));
	c.utf8 = strcmp(locale, "C") != 0;
	assert_int_equal(json_parse(daemons_json, strlen(daemons_json), &j, NULL), 0);
	assert_int_equal(status_render(&c, j, now_us, out), 0);
	setlocale(LC_ALL, "C");
}

static void test_status_at_each_width_and_locale(void **state)
{
	static const struct {
		unsigned width;
		const char *locale, *golden;
	} cases[] = { { 200, "C.UTF-8", wide_utf8 }, { 0, "C.UTF-8", wide_utf8 }, { 80, "C", at_80_ascii },
		{ 40, "C.UTF-8", at_40_utf8 } };

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		_cleanup_text_ struct text out = { 0 };

		render(cases[i].width, cases[i].locale, false, NULL, &out);
		assert_string_equal(out.data, cases[i].golden);
	}
}

static void test_colour_adds_sequences_and_nothing_else(void **state)
{
	_cleanup_text_ struct text out = { 0 }, plain = { 0 };

	(void)state;
	render(200, "C.UTF-8", true, NULL, &out);
	assert_non_null(strstr(out.data, "\033["));
	assert_null(strstr(out.data, "\033[2J")); /* the daemon's own never comes through */
	for (const char *p = out.data; *p;) {
		if (*p == '\033') {
			p += strcspn(p, "m") + 1;
			continue;
		}
		text_add_bytes(&plain, p++, 1);
	}
	assert_string_equal(plain.data, wide_utf8);
}

static void test_columns_are_chosen_and_ordered(void **state)
{
	_cleanup_text_ struct text out = { 0 };

	(void)state;
	render(200, "C", false, "state,Name,PID", &out);
	assert_string_equal(out.data, "STATE    NAME        PID\n"
				      "failed   export        -\n"
				      "backoff  load          -\n"
				      "running  train/2   55190\n"
				      "stopped  train/10      -\n");
}

/* --- records ------------------------------------------------------------------------------------------------------ */

static void test_names_patterns_and_instances(void **state)
{
	(void)state;
	assert_true(daemon_matches("train/0", "train"));
	assert_true(daemon_matches("train/0", "tr*"));
	assert_true(daemon_matches("x", "all"));
	assert_false(daemon_matches("trainer", "train"));
	assert_false(daemon_matches("train", "train/0"));
}

static void test_search_is_literal_and_knows_no_case(void **state)
{
	struct record r = { .kind = RECORD_LOG, .level = LEVEL_WARNING, .message = VIEW_OF("100% Done_ok") };
	struct record_filter f = { .kind = RECORD_LOG, .search = "% done_" };

	(void)state;
	assert_true(record_matches(&f, &r));
	f.invert = true;
	assert_false(record_matches(&f, &r));
	f = (struct record_filter){ .search = "1%d" };
	assert_false(record_matches(&f, &r));
	f = (struct record_filter){ .level = LEVEL_ERROR };
	assert_false(record_matches(&f, &r));
	f = (struct record_filter){ .level_exact = LEVEL_WARNING };
	assert_true(record_matches(&f, &r));
	f = (struct record_filter){ .invert = true }; /* of nothing */
	assert_true(record_matches(&f, &r));
}

static void test_base64_gives_the_bytes_back(void **state)
{
	_cleanup_text_ struct text t = { 0 };

	(void)state;
	cli_add_base64(&t, "YQBi/w==");
	assert_int_equal(t.size, 4);
	assert_memory_equal(t.data, "a\0b\xff", 4);
	cli_add_base64(&t, "!!");
	assert_int_equal(t.size, 4);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_options_stand_anywhere),
		cmocka_unit_test(test_letters_can_be_joined_and_carry_a_value),
		cmocka_unit_test(test_two_dashes_end_the_options),
		cmocka_unit_test(test_what_follows_a_command_is_its_own),
		cmocka_unit_test(test_a_negative_number_is_an_argument),
		cmocka_unit_test(test_aliases_of_verbs_and_options),
		cmocka_unit_test(test_what_is_not_understood_is_refused),
		cmocka_unit_test(test_no_verb_is_no_mistake_of_the_parser),
		cmocka_unit_test(test_the_tables_fit_together),
		cmocka_unit_test(test_times_as_people_write_them),
		cmocka_unit_test(test_what_is_no_time_is_refused),
		cmocka_unit_test(test_local_times_follow_the_zone),
		cmocka_unit_test(test_status_at_each_width_and_locale),
		cmocka_unit_test(test_colour_adds_sequences_and_nothing_else),
		cmocka_unit_test(test_columns_are_chosen_and_ordered),
		cmocka_unit_test(test_names_patterns_and_instances),
		cmocka_unit_test(test_search_is_literal_and_knows_no_case),
		cmocka_unit_test(test_base64_gives_the_bytes_back),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
