/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Messages are tested against tests/fixtures/config: each FILE.yaml there is loaded, and what a person would
 * read must be FILE.expected. With SUPERVISE_UPDATE_EXPECTED=1 in the environment those files are written
 * instead of compared.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include <cmocka.h>

#include "base/file.h"
#include "base/text.h"
#include "config/config.h"
#include "config/expand.h"
#include "config/load.h"
#include "config/schema.h"

static char *const test_environ[] = { "SET=value", "EMPTY=", "PORT=7001", "HOME=/home/me", "BAD=\xff", NULL };

static char *printed(const struct config_problems *p, bool colour)
{
	char *text = NULL;
	size_t size;
	FILE *f = open_memstream(&text, &size);

	assert_non_null(f);
	config_print_problems(p, f, colour);
	fclose(f);
	return text;
}

/* Loads @text; it must be free of errors. */
static struct config *load(const char *text)
{
	struct config_problems p;
	struct config *c = NULL;
	int r = config_load_bytes("t.yaml", text, strlen(text), test_environ, &c, &p);

	if (r) {
		_cleanup_(freep) char *s = printed(&p, false);

		print_message("%s", s);
	}
	assert_int_equal(r, 0);
	config_problems_free(&p);
	return c;
}

/* Loads @text, which must fail; the first message. The caller frees. */
static char *refused(const char *text)
{
	struct config_problems p;
	struct config *c = NULL;
	char *message;

	assert_int_equal(config_load_bytes("t.yaml", text, strlen(text), test_environ, &c, &p), -EINVAL);
	assert_null(c);
	assert_true(p.n > 0);
	message = strdup(p.items[0].message);
	config_problems_free(&p);
	return message;
}

static bool bit(const uint8_t *set, unsigned n)
{
	return set[n / 8] >> (n % 8) & 1;
}

static void test_every_message_is_as_expected(void **state)
{
	bool update = getenv("SUPERVISE_UPDATE_EXPECTED") != NULL;
	_cleanup_(closedirp) DIR *d = opendir(CONFIG_FIXTURES);
	_cleanup_(freep) char *cwd = realpath(".", NULL);
	unsigned n = 0, failed = 0;
	struct dirent *e;

	(void)state;
	assert_non_null(d);
	assert_int_equal(chdir(CONFIG_FIXTURES), 0);
	setenv("SET", "value", 1);
	setenv("EMPTY", "", 1);
	unsetenv("UNSET_ONE");
	unsetenv("UNSET_TWO");
	while ((e = readdir(d))) {
		_cleanup_(freep) char *text = NULL, *expected = NULL, *coloured = NULL, *json = NULL;
		_cleanup_json_ cJSON *j = NULL;
		struct config_problems p;
		struct config *c = NULL;
		const char *dot = strrchr(e->d_name, '.');
		char name[PATH_MAX];
		bool errors = false;
		int r;

		if (!dot || strcmp(dot, ".yaml"))
			continue;
		r = config_load(e->d_name, &c, &p);
		for (size_t i = 0; i < p.n; i++)
			errors |= !p.items[i].warning;
		assert_int_equal(r, errors ? -EINVAL : 0);
		assert_int_equal(c != NULL, !errors);
		text = printed(&p, false);
		coloured = printed(&p, true);
		j = config_problems_to_json(&p);
		assert_non_null(j);
		assert_int_equal(cJSON_GetArraySize(j), p.n);
		json = json_print(j);
		assert_null(strstr(coloured, "topsecret"));
		assert_null(strstr(json, "topsecret"));
		snprintf(name, sizeof(name), "%.*s.expected", (int)(dot - e->d_name), e->d_name);
		if (update)
			assert_int_equal(file_replace(AT_FDCWD, name, text, strlen(text), 0644, 0), 0);
		assert_int_equal(file_read(AT_FDCWD, name, 1 << 20, &expected, NULL), 0);
		if (strcmp(text, expected)) {
			print_message("%s: expected\n%s\ngot\n%s\n", e->d_name, expected, text);
			failed++;
		}
		config_problems_free(&p);
		config_free(c);
		n++;
	}
	assert_int_equal(chdir(cwd), 0);
	assert_int_equal(failed, 0);
	assert_true(n >= 55);
}

struct typos {
	unsigned n, hits;
};

static void try_typo(const struct key *keys, const struct key *k, const char *typo, struct typos *t)
{
	const struct key *found;

	if (schema_find(keys, typo) || !*typo)
		return; /* not a typo: another key */
	found = schema_suggest(keys, typo);
	t->n++;
	t->hits += found == k;
}

static void try_typos(const struct key *keys, struct typos *t)
{
	static const char letters[] = "abcdefghijklmnopqrstuvwxyz_";

	for (const struct key *k = keys; k->name; k++) {
		size_t n = strlen(k->name);
		char typo[80];

		for (size_t i = 0; i < n; i++) { /* delete */
			snprintf(typo, sizeof(typo), "%.*s%s", (int)i, k->name, k->name + i + 1);
			try_typo(keys, k, typo, t);
		}
		for (size_t i = 0; i + 1 < n; i++) { /* transpose */
			snprintf(typo, sizeof(typo), "%s", k->name);
			typo[i] = k->name[i + 1];
			typo[i + 1] = k->name[i];
			if (strcmp(typo, k->name))
				try_typo(keys, k, typo, t);
		}
		for (size_t i = 0; i <= n; i++)
			for (const char *c = letters; *c; c++) {
				snprintf(typo, sizeof(typo), "%.*s%c%s", (int)i, k->name, *c,
				    k->name + i); /* insert */
				try_typo(keys, k, typo, t);
				if (i == n || k->name[i] == *c)
					continue;
				snprintf(typo, sizeof(typo), "%s", k->name); /* substitute */
				typo[i] = *c;
				try_typo(keys, k, typo, t);
			}
		if (k->keys)
			try_typos(k->keys, t);
	}
}

static void test_nearly_every_single_edit_typo_of_a_key_is_recognised(void **state)
{
	struct typos t = { 0 };

	(void)state;
	try_typos(keys_file, &t);
	try_typos(keys_daemon, &t);
	try_typos(keys_limit, &t);
	try_typos(keys_env_file, &t);
	print_message("# %u of %u typos lead to their key (%.2f %%)\n", t.hits, t.n, 100.0 * t.hits / t.n);
	assert_true(t.n > 10000);
	assert_true(t.hits >= t.n * 0.95);
}

static void test_defaults_are_the_documented_ones(void **state)
{
	_cleanup_(config_freep) struct config *c = load("daemons: {a: {command: x}}\n");
	const struct daemon_config *d = config_find(c, "a");

	(void)state;
	assert_non_null(d);
	assert_string_equal(c->name, "default");
	assert_string_equal(c->path, "/supervise.yaml");
	assert_true(c->monitoring.enable_database_logging);
	assert_int_equal(c->monitoring.log_batch_size, 100);
	assert_int_equal(c->monitoring.log_flush_interval_ms, 5000);
	assert_true(c->monitoring.enable_metrics);
	assert_int_equal(c->monitoring.metrics_interval_ms, 10000);
	assert_int_equal(c->store.type, STORE_SQLITE);
	assert_false(c->transient);
	assert_int_equal(d->restart.policy, RESTART_ON_FAILURE);
	assert_int_equal(d->restart.delay_ms, 1000);
	assert_true(d->restart.factor == 2);
	assert_int_equal(d->restart.max_delay_ms, 60000);
	assert_true(d->restart.jitter > 0.19 && d->restart.jitter < 0.21);
	assert_int_equal(d->restart.limit, 10);
	assert_int_equal(d->restart.window_ms, 600000);
	assert_int_equal(d->restart.reset_after_ms, 300000);
	assert_false(bit(d->restart.when_exit, 0));
	assert_true(bit(d->restart.when_exit, 1));
	assert_true(bit(d->restart.when_exit, 127));
	assert_true(bit(d->restart.when_exit, 255));
	assert_true(d->restart.when_signals == UINT64_MAX);
	for (unsigned i = 0; i < 256; i++)
		assert_false(bit(d->restart.never, i));
	assert_int_equal(d->stop.signal, SIGTERM);
	assert_int_equal(d->stop.timeout_ms, 10000);
	assert_true(d->stop.tree);
	assert_int_equal(d->logging.format, FORMAT_JSON);
	assert_int_equal(d->logging.level, LEVEL_INFO);
	assert_int_equal(d->logging.max_size, 50u << 20);
	assert_int_equal(d->logging.keep, 10);
	assert_int_equal(d->logging.compress, COMPRESS_ZSTD);
	assert_int_equal(d->capture.mode, WISH_AUTO);
	assert_true(d->capture.all_threads);
	assert_int_equal(d->capture.source, 3);
	assert_true(d->python.unbuffered && d->python.faulthandler);
	assert_true(d->autostart);
	assert_int_equal(d->start_timeout_ms, 30000);
	assert_int_equal(d->umask, -1);
	assert_int_equal(d->nice, 0);
	assert_int_equal(d->instance, -1);
	assert_string_equal(d->directory, "/");
	assert_string_equal(d->command[0], "x");
	assert_null(d->command[1]);
	assert_null(d->environment[0]);
	assert_int_equal(d->place.line, 1);
	assert_int_equal(d->place.column, 11);
	assert_ptr_equal(d->place.file, c->files[0]);
}

static void test_layers_merge_deep_and_a_short_form_replaces_the_map(void **state)
{
	_cleanup_(config_freep) struct config *c = load(
	    "defaults:\n"
	    "  restart: {delay: 2s, limit: 3, when: {exit: [3]}}\n"
	    "  environment: {A: one, B: one}\n"
	    "  limits: {nofile: 100, nproc: 5}\n"
	    "  capture: {threads: crashed}\n"
	    "templates:\n"
	    "  t: {command: x, restart: {factor: 3}, environment: {B: two, C: two}, limits: {nofile: {soft: "
	    "10, hard: 20}}}\n"
	    "  u: {extends: t, restart: {limit: 7}, stop: {timeout: 1s}}\n"
	    "daemons:\n"
	    "  a: {extends: u, restart: {delay: 9m}, environment: {C: three}}\n"
	    "  b: {extends: u, restart: always, capture: ptrace}\n"
	    "  c: {extends: t, restart: {when: {signals: [SEGV]}}, limits: {memory: 1G, cpu: 1500ms}}\n");
	const struct daemon_config *a = config_find(c, "a"), *b = config_find(c, "b"),
				   *x = config_find(c, "c");

	(void)state;
	assert_int_equal(a->restart.policy, RESTART_ON_FAILURE);
	assert_int_equal(a->restart.delay_ms, 540000);
	assert_int_equal(a->restart.max_delay_ms, 540000); /* raised by the delay */
	assert_int_equal(a->restart.limit, 7);
	assert_true(a->restart.factor == 3);
	assert_true(bit(a->restart.when_exit, 3));
	assert_false(bit(a->restart.when_exit, 1));
	assert_int_equal(a->stop.timeout_ms, 1000);
	assert_false(a->capture.all_threads);
	assert_string_equal(a->environment[0], "A=one");
	assert_string_equal(a->environment[1], "B=two");
	assert_string_equal(a->environment[2], "C=three");
	assert_null(a->environment[3]);
	assert_int_equal(a->n_limits, 2);

	assert_int_equal(b->restart.policy, RESTART_ALWAYS);
	assert_int_equal(b->restart.delay_ms, 1000);
	assert_int_equal(b->restart.limit, 10);
	assert_true(b->restart.factor == 2);
	assert_true(bit(b->restart.when_exit, 1));
	assert_int_equal(b->capture.mode, WISH_PTRACE);
	assert_true(b->capture.all_threads);

	assert_true(x->restart.when_signals == UINT64_C(1) << (SIGSEGV - 1));
	assert_true(bit(x->restart.when_exit, 3));
	assert_int_equal(x->n_limits, 4);
	for (size_t i = 0; i < x->n_limits; i++)
		switch (x->limits[i].resource) {
		case RLIMIT_NOFILE:
			assert_int_equal(x->limits[i].soft, 10);
			assert_int_equal(x->limits[i].hard, 20);
			break;
		case RLIMIT_DATA:
			assert_int_equal(x->limits[i].hard, 1 << 30);
			break;
		case RLIMIT_CPU:
			assert_int_equal(x->limits[i].soft, 2);
			break;
		default:
			assert_int_equal(x->limits[i].resource, RLIMIT_NPROC);
			break;
		}
}

static void test_words_of_yaml_stay_text_where_text_is_wanted(void **state)
{
	_cleanup_(config_freep) struct config *c =
	    load("name: 1e3\n"
		 "daemons:\n"
		 "  on: {command: [no, 022, 1e3, 0x10, true, \"null\", 2020-01-01], description: yes, umask: "
		 "022, stage: 1.50,\n"
		 "       environment: {A: no, B: 010, C: true, D: \"\", E: 1:30}}\n"
		 "  b: {command: x, umask: \"0027\", stop: {signal: 15}, restart: {when: {signals: []}, "
		 "never: 78}}\n");
	const struct daemon_config *d = config_find(c, "on");

	(void)state;
	assert_string_equal(c->name, "1e3");
	assert_string_equal(d->command[0], "no");
	assert_string_equal(d->command[1], "022");
	assert_string_equal(d->command[2], "1e3");
	assert_string_equal(d->command[3], "0x10");
	assert_string_equal(d->command[4], "true");
	assert_string_equal(d->command[5], "null");
	assert_string_equal(d->command[6], "2020-01-01");
	assert_string_equal(d->description, "yes");
	assert_string_equal(d->stage, "1.50");
	assert_int_equal(d->umask, 022);
	assert_string_equal(d->environment[0], "A=no");
	assert_string_equal(d->environment[1], "B=010");
	assert_string_equal(d->environment[2], "C=true");
	assert_string_equal(d->environment[3], "D=");
	d = config_find(c, "b");
	assert_int_equal(d->umask, 027);
	assert_true(d->restart.when_signals == 0);
	assert_true(bit(d->restart.never, 78));
}

static void test_instances_have_their_number_in_every_text(void **state)
{
	_cleanup_(config_freep) struct config *c =
	    load("templates: {w: {command: \"run --rank %i %%i %d\", stage: \"fit-%i\"}}\n"
		 "daemons:\n"
		 "  w: {extends: w, instances: 3, environment: {RANK: \"%i\"}, directory: \"d%i\", "
		 "description: \"${SET}%i\"}\n"
		 "  v: {extends: w}\n");
	const struct daemon_config *d = config_find(c, "w/2");

	(void)state;
	assert_int_equal(c->n_daemons, 4);
	assert_non_null(d);
	assert_string_equal(d->base, "w");
	assert_int_equal(d->instance, 2);
	assert_string_equal(d->command[2], "2");
	assert_string_equal(d->command[3], "%i");
	assert_string_equal(d->command[4], "%d");
	assert_string_equal(d->stage, "fit-2");
	assert_string_equal(d->environment[0], "RANK=2");
	assert_string_equal(d->directory, "/d2");
	assert_string_equal(d->description, "value2");
	assert_null(config_find(c, "w"));
	assert_string_equal(config_find(c, "v")->command[2], "%i");
	assert_string_not_equal(config_find(c, "w/0")->digest, config_find(c, "w/1")->digest);
}

static void test_commands_are_split_as_a_shell_splits(void **state)
{
	_cleanup_(config_freep) struct config *c =
	    load("daemons:\n"
		 "  a: {command: 'p a\\ b \"c  d\" ''e \"f'' g\"h\"i \"\" \"\\$x \\q\" $y ${PORT}1 ${NONE:-j "
		 "k} '}\n"
		 "  b: {command: 'echo \"$HOME\" | wc; $${PORT}', shell: true}\n"
		 "  c: {command: [\"a b\", '$', \"${SET}${EMPTY:-x}${NONE:-${PORT}}\"]}\n");
	char **v = config_find(c, "a")->command;

	(void)state;
	assert_string_equal(v[0], "p");
	assert_string_equal(v[1], "a b");
	assert_string_equal(v[2], "c  d");
	assert_string_equal(v[3], "e \"f");
	assert_string_equal(v[4], "ghi");
	assert_string_equal(v[5], "");
	assert_string_equal(v[6], "$x \\q");
	assert_string_equal(v[7], "$y");
	assert_string_equal(v[8], "70011");
	assert_string_equal(v[9], "j k");
	assert_null(v[10]);
	v = config_find(c, "b")->command;
	assert_string_equal(v[0], "/bin/sh");
	assert_string_equal(v[1], "-c");
	assert_string_equal(v[2], "echo \"$HOME\" | wc; ${PORT}");
	assert_null(v[3]);
	v = config_find(c, "c")->command;
	assert_string_equal(v[0], "a b");
	assert_string_equal(v[1], "$");
	assert_string_equal(v[2], "valuex7001");
}

static void test_merge_keys_and_aliases_work(void **state)
{
	_cleanup_(config_freep) struct config *c = load("templates:\n"
							"  t: &t {command: x, nice: 1, stage: t}\n"
							"  u: &u {nice: 2, node: u}\n"
							"daemons:\n"
							"  a: {<<: *t, nice: 3}\n"
							"  b: {stage: b, <<: [*u, *t]}\n"
							"  c: *t\n");
	const struct daemon_config *b = config_find(c, "b");

	(void)state;
	assert_int_equal(config_find(c, "a")->nice, 3);
	assert_string_equal(config_find(c, "a")->stage, "t");
	assert_int_equal(b->nice, 2);
	assert_string_equal(b->stage, "b");
	assert_string_equal(b->node, "u");
	assert_string_equal(b->command[0], "x");
	assert_int_equal(config_find(c, "c")->nice, 1);
}

static void test_a_variable_that_is_not_utf8_is_refused_without_showing_it(void **state)
{
	_cleanup_(freep) char *message = refused("daemons: {a: {command: '${BAD}'}}\n");

	(void)state;
	assert_string_equal(message, "the value of variable 'BAD' is not UTF-8");
}

static void test_paths_count_from_the_file_or_the_home_folder(void **state)
{
	_cleanup_(config_freep) struct config *c = load("daemons:\n"
							"  a: {command: x, directory: ./run}\n"
							"  b: {command: x, directory: ~/run}\n"
							"  c: {command: x, directory: /srv}\n"
							"  d: {command: x, directory: .}\n");

	(void)state;
	assert_string_equal(config_find(c, "a")->directory, "/run");
	assert_string_equal(config_find(c, "b")->directory, "/home/me/run");
	assert_string_equal(config_find(c, "c")->directory, "/srv");
	assert_string_equal(config_find(c, "d")->directory, "/");
}

/* The whole of small files that stand for huge ones must be cheap to refuse. */
static void test_alias_bombs_are_refused(void **state)
{
	_cleanup_text_ struct text t = { 0 };
	_cleanup_(freep) char *message = NULL;

	(void)state;
	text_add(&t, "defaults: {environment: &e {");
	for (int i = 0; i < 1900; i++)
		text_addf(&t, "A%d: x, ", i);
	text_add(&t, "}}\ntemplates: {t: &t {command: x, environment: *e}}\ndaemons:\n");
	for (int i = 0; i < 3000; i++)
		text_addf(&t, "  d%d: {<<: *t, instances: 1000}\n", i);
	assert_false(t.failed);
	message = refused(t.data);
	assert_non_null(strstr(message, "too much"));

	text_free(&t);
	text_add(&t, "daemons:\n  a:\n    command: &a0 [x]\n");
	for (int i = 1; i < 12; i++) {
		text_addf(&t, "  b%d:\n    command: &a%d [", i, i);
		for (int k = 0; k < 9; k++)
			text_addf(&t, "*a%d, ", i - 1);
		text_add(&t, "]\n");
	}
	free(TAKE_PTR(message));
	message = refused(t.data);
	assert_non_null(strstr(message, "not a list"));
}

static void test_too_many_daemons_are_refused(void **state)
{
	_cleanup_text_ struct text t = { 0 };
	_cleanup_(freep) char *message = NULL;

	(void)state;
	text_add(&t, "daemons:\n");
	for (int i = 0; i < 11; i++)
		text_addf(&t, "  d%d: {command: x, instances: 1000}\n", i);
	message = refused(t.data);
	assert_non_null(strstr(message, "more than 10000 daemons"));
}

static void test_a_configuration_survives_json_unchanged(void **state)
{
	_cleanup_(config_freep) struct config *c =
	    load("name: p\nmonitoring: {log_flush_interval: 250ms, enable_metrics: false}\nstore: none\n"
		 "daemons:\n"
		 "  a: {command: [a, 'b c', \"tab\\t\\u00e9\\n\"], environment: {A: 'x=y', B: ''}, umask: "
		 "007, nice: -3, node: n,\n"
		 "      limits: {core: unlimited, nofile: {soft: 5, hard: 9}, rtprio: 9223372036854775807},\n"
		 "      restart: {when: {exit: [0, 3, 5-7, 255], signals: [INT, 64]}, never: [1, 2], jitter: "
		 "33.3%, factor: 1.7},\n"
		 "      logging: {format: raw, level: debug, max_size: 0, compress: none}, capture: off, "
		 "autostart: false}\n"
		 "  b: {command: x, instances: 2}\n");
	_cleanup_json_ cJSON *j1 = config_to_json(c), *j2 = NULL, *parsed = NULL;
	_cleanup_(config_freep) struct config *back = NULL;
	_cleanup_(freep) char *t1 = json_print(j1), *t2 = NULL;
	struct error err = { "" };

	(void)state;
	c->transient = true;
	assert_int_equal(json_parse(t1, strlen(t1), &parsed, &err), 0);
	if (config_from_json(parsed, &back, &err))
		print_message("%s\n", err.text);
	assert_non_null(back);
	j2 = config_to_json(back);
	t2 = json_print(j2);
	assert_string_equal(t1, t2);
	assert_int_equal(back->n_daemons, 3);
	assert_string_equal(back->daemons[0].digest, c->daemons[0].digest);
	assert_memory_equal(&back->daemons[0].restart, &c->daemons[0].restart, sizeof(struct restart_config));
	assert_int_equal(back->daemons[0].place.line, c->daemons[0].place.line);
	assert_string_equal(back->daemons[0].place.file, "/supervise.yaml");
	assert_int_equal(daemon_config_set_digest(&back->daemons[0]), 0);
	assert_string_equal(back->daemons[0].digest, c->daemons[0].digest);
}

/* Puts values of every kind in the place of every value: nothing but a refusal or a sound configuration may
 * come of it. */
static void corrupt(cJSON *root, cJSON *at, unsigned *refusals)
{
	static const char *const wrong[] = { "null", "true", "-1", "1e300", "0.5", "\"x\"", "\"\"", "[]",
		"[1]", "{}", "{\"a\":1}", "4294967296" };
	cJSON *child;

	cJSON_ArrayForEach (child, at) {
		cJSON saved = *child;

		for (size_t i = 0; i < ARRAY_SIZE(wrong); i++) {
			cJSON *w = cJSON_Parse(wrong[i]);
			struct config *c = NULL;
			struct error err = { "" };

			child->type = w->type;
			child->valuestring = w->valuestring;
			child->valueint = w->valueint;
			child->valuedouble = w->valuedouble;
			child->child = w->child;
			if (config_from_json(root, &c, &err) == 0) {
				_cleanup_json_ cJSON *j = config_to_json(c);

				assert_non_null(j);
				config_free(c);
			} else {
				(*refusals)++;
				assert_null(c);
				assert_true(err.text[0] != '\0');
			}
			child->type = saved.type;
			child->valuestring = saved.valuestring;
			child->valueint = saved.valueint;
			child->valuedouble = saved.valuedouble;
			child->child = saved.child;
			cJSON_Delete(w);
		}
		corrupt(root, child, refusals);
	}
}

static void test_wrong_json_is_refused_with_a_reason(void **state)
{
	_cleanup_(config_freep) struct config *c = load(
	    "daemons: {a: {command: x, limits: {nofile: 5}, environment: {A: b}, umask: 022, stage: s}}\n");
	_cleanup_json_ cJSON *j = config_to_json(c);
	struct config *bad = NULL;
	struct error err = { "" };
	unsigned refusals = 0;

	(void)state;
	corrupt(j, j, &refusals);
	assert_true(refusals > 500);
	cJSON_AddItemToArray(cJSON_GetObjectItem(j, "daemons"),
	    cJSON_Duplicate(cJSON_GetArrayItem(cJSON_GetObjectItem(j, "daemons"), 0), true));
	assert_int_equal(config_from_json(j, &bad, &err), -EINVAL);
	assert_string_equal(err.text, "two daemons are called 'a'");
	cJSON_DeleteItemFromArray(cJSON_GetObjectItem(j, "daemons"), 1);
	cJSON_AddNumberToObject(cJSON_GetArrayItem(cJSON_GetObjectItem(j, "daemons"), 0), "colour", 1);
	assert_int_equal(config_from_json(j, &bad, &err), -EINVAL);
	assert_string_equal(err.text, "daemons[0]: there is no key 'colour'");
}

static void test_the_digest_of_a_daemon_is_over_what_needs_a_restart(void **state)
{
	static const char *const same[] = { "restart: never", "stop: {timeout: 3s}", "autostart: false",
		"description: x", "logging: {keep: 3}", "capture: {source: 5}" };
	static const char *const other[] = { "nice: 1", "directory: /x", "umask: 022", "environment: {A: b}",
		"stage: x", "limits: {nofile: 5}", "python: {unbuffered: false}", "capture: ptrace",
		"experiment: e", "node: n" };
	_cleanup_(config_freep) struct config *plain = load("daemons: {a: {command: x}}\n");
	char text[200];

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(same); i++) {
		_cleanup_(config_freep) struct config *c = NULL;

		snprintf(text, sizeof(text), "daemons: {a: {command: [x], %s}}\n", same[i]);
		c = load(text);
		assert_string_equal(c->daemons[0].digest, plain->daemons[0].digest);
		assert_string_not_equal(c->digest, plain->digest);
	}
	for (size_t i = 0; i < ARRAY_SIZE(other); i++) {
		_cleanup_(config_freep) struct config *c = NULL;

		snprintf(text, sizeof(text), "daemons: {a: {command: [x], %s}}\n", other[i]);
		c = load(text);
		assert_string_not_equal(c->daemons[0].digest, plain->daemons[0].digest);
	}
}

static void write_file(const char *folder, const char *name, const char *text)
{
	char path[PATH_MAX];

	snprintf(path, sizeof(path), "%s/%s", folder, name);
	assert_int_equal(file_replace(AT_FDCWD, path, text, strlen(text), 0600, 0), 0);
}

static void test_files_are_found_and_a_change_of_any_is_seen(void **state)
{
	char folder[] = "/tmp/config-test-XXXXXX", dir[64], path[96], digest[17];
	_cleanup_(config_freep) struct config *c = NULL;
	struct config_problems p;
	static const char *const names[] = { "My Project_1/main.yaml", "My Project_1/vars.env",
		"My Project_1/more/b.env", "My Project_1/more/a.yaml", "My Project_1/more/b.yaml",
		"My Project_1/more/skipped.txt" };

	(void)state;
	assert_non_null(mkdtemp(folder));
	snprintf(dir, sizeof(dir), "%s/My Project_1", folder);
	assert_int_equal(mkdir(dir, 0700), 0);
	snprintf(path, sizeof(path), "%s/more", dir);
	assert_int_equal(mkdir(path, 0700), 0);
	write_file(folder, names[0],
	    "include: [\"more/*.yaml\"]\nenv_file: [vars.env, {path: none.env, optional: true}]\ndaemons: "
	    "{m: {command: m}}\n");
	write_file(folder, names[1],
	    "# variables\nX=from file\r\nexport Y='single \\n $X' # comment\nZ=\"a\\nb\"\nW=a#b #c\n\n");
	write_file(folder, names[2], "IN_FILE=1\nBOTH=file\n");
	write_file(folder, names[3],
	    "daemons: {a: {command: [\"${X}\", \"${Y}\", \"${Z}\", \"${W}\"], directory: here, env_file: "
	    "b.env, environment: {BOTH: map}}}\n");
	write_file(folder, names[4], "templates: {t: {command: t}}\ndaemons: {b: {extends: t}}\n");
	write_file(folder, names[5], "not read: [");
	snprintf(path, sizeof(path), "%s/main.yaml", dir);
	assert_int_equal(config_load(path, &c, &p), 0);
	assert_int_equal(p.n, 0);
	config_problems_free(&p);
	assert_string_equal(c->name, "my-project_1");
	assert_string_equal(c->path, path);
	assert_int_equal(c->n_daemons, 3);
	assert_string_equal(c->daemons[0].name, "m");
	assert_string_equal(c->daemons[0].directory, dir);
	assert_string_equal(c->daemons[1].command[0], "from file");
	assert_string_equal(c->daemons[1].command[1], "single \\n $X");
	assert_string_equal(c->daemons[1].command[2], "a\nb");
	assert_string_equal(c->daemons[1].command[3], "a#b");
	snprintf(path, sizeof(path), "%s/more/here", dir);
	assert_string_equal(c->daemons[1].directory, path);
	assert_string_equal(c->daemons[1].environment[0], "IN_FILE=1");
	assert_string_equal(c->daemons[1].environment[1], "BOTH=map");
	assert_string_equal(c->daemons[2].place.file, c->files[2]);
	assert_non_null(strstr(c->files[0], "main.yaml"));
	assert_non_null(strstr(c->files[3], "vars.env"));
	assert_non_null(strstr(c->files[4], "b.env"));
	assert_null(c->files[5]);

	assert_int_equal(config_files_digest(c, digest), 0);
	assert_string_equal(digest, c->digest);
	write_file(folder, names[2], "IN_FILE=2\nBOTH=file\n");
	assert_int_equal(config_files_digest(c, digest), 0);
	assert_string_not_equal(digest, c->digest);
	for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
		snprintf(path, sizeof(path), "%s/%s", folder, names[i]);
		assert_int_equal(unlink(path), 0);
	}
	assert_int_equal(config_files_digest(c, digest), -ENOENT);
	snprintf(path, sizeof(path), "%s/more", dir);
	rmdir(path);
	rmdir(dir);
	rmdir(folder);
}

static void test_a_main_file_that_cannot_be_read_is_one_problem(void **state)
{
	struct config_problems p;
	struct config *c = NULL;

	(void)state;
	assert_int_equal(config_load("/nonexistent/supervise.yaml", &c, &p), -ENOENT);
	assert_int_equal(p.n, 1);
	assert_string_equal(p.items[0].code, "file");
	assert_int_equal(p.items[0].line, 0);
	config_problems_free(&p);
	assert_int_equal(config_load("/tmp", &c, &p), -EISDIR);
	assert_int_equal(p.n, 1);
	config_problems_free(&p);
	assert_null(c);
}

static void test_a_run_needs_no_file(void **state)
{
	char *argv[] = { "./prog", "--x", "", NULL }, *bad[] = { "\xff", NULL }, *none[] = { NULL };
	_cleanup_(config_freep) struct config *c = NULL, *back = NULL;
	_cleanup_(freep) char *cwd = realpath(".", NULL);
	_cleanup_json_ cJSON *j = NULL;
	struct error err;

	(void)state;
	assert_int_equal(config_make_run(&c, "run-1", "Prog", argv), -EINVAL);
	assert_int_equal(config_make_run(&c, "run-1", "prog", none), -EINVAL);
	assert_int_equal(config_make_run(&c, "run-1", "prog", bad), -EILSEQ);
	assert_int_equal(config_make_run(&c, "run-1", "prog", argv), 0);
	assert_true(c->transient);
	assert_int_equal(c->n_daemons, 1);
	assert_int_equal(c->daemons[0].restart.policy, RESTART_NEVER);
	assert_string_equal(c->daemons[0].directory, cwd);
	assert_string_equal(c->daemons[0].command[1], "--x");
	assert_int_equal(c->store.type, STORE_SQLITE);
	j = config_to_json(c);
	assert_int_equal(config_from_json(j, &back, &err), 0);
	assert_true(back->transient);
	assert_null(back->path);
	assert_null(back->daemons[0].place.file);
}

static void check_schema(const struct key *keys, const cJSON *map, unsigned *n)
{
	for (const struct key *k = keys; k->name; k++) {
		const cJSON *p =
		    cJSON_GetObjectItemCaseSensitive(json_get_object(map, "properties"), k->name);

		assert_non_null(p);
		assert_non_null(json_get_string(p, "description", NULL));
		(*n)++;
		if (k->slot == SLOT_MAP && !(k->flags & KEY_LATER))
			check_schema(
			    k->keys, json_get_array(p, "anyOf") ? json_get_array(p, "anyOf")->child : p, n);
	}
}

static void test_schema_and_manual_have_every_key(void **state)
{
	_cleanup_json_ cJSON *j = config_schema();
	_cleanup_(freep) char *page = config_schema_scdoc(), *text = json_print(j);
	unsigned n = 0;

	(void)state;
	assert_non_null(text);
	check_schema(keys_file, j, &n);
	check_schema(keys_daemon, json_get_object(json_get_object(j, "$defs"), "daemon"), &n);
	assert_true(n >= 90);
	for (const struct key *k = keys_daemon; k->name; k++) {
		_cleanup_text_ struct text t = { 0 };

		for (const char *c = k->name; *c; c++) {
			if (*c == '_')
				text_add(&t, "\\");
			text_add_bytes(&t, c, 1);
		}
		assert_non_null(strstr(page, t.data));
	}
}

static void test_names_of_values_are_those_of_the_file(void **state)
{
	(void)state;
	assert_string_equal(restart_policy_to_string(RESTART_ON_FAILURE), "on-failure");
	assert_string_equal(log_format_to_string(FORMAT_JSON), "json");
	assert_string_equal(log_format_to_string(FORMAT_RAW), "raw");
	assert_string_equal(log_compress_to_string(COMPRESS_NONE), "none");
	assert_string_equal(capture_wish_to_string(WISH_OFF), "off");
	assert_string_equal(store_type_to_string(STORE_SQLITE), "sqlite");
	assert_string_equal(store_type_to_string(STORE_UNKNOWN), "unknown");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_every_message_is_as_expected),
		cmocka_unit_test(test_nearly_every_single_edit_typo_of_a_key_is_recognised),
		cmocka_unit_test(test_defaults_are_the_documented_ones),
		cmocka_unit_test(test_layers_merge_deep_and_a_short_form_replaces_the_map),
		cmocka_unit_test(test_words_of_yaml_stay_text_where_text_is_wanted),
		cmocka_unit_test(test_instances_have_their_number_in_every_text),
		cmocka_unit_test(test_commands_are_split_as_a_shell_splits),
		cmocka_unit_test(test_merge_keys_and_aliases_work),
		cmocka_unit_test(test_a_variable_that_is_not_utf8_is_refused_without_showing_it),
		cmocka_unit_test(test_paths_count_from_the_file_or_the_home_folder),
		cmocka_unit_test(test_alias_bombs_are_refused),
		cmocka_unit_test(test_too_many_daemons_are_refused),
		cmocka_unit_test(test_a_configuration_survives_json_unchanged),
		cmocka_unit_test(test_wrong_json_is_refused_with_a_reason),
		cmocka_unit_test(test_the_digest_of_a_daemon_is_over_what_needs_a_restart),
		cmocka_unit_test(test_files_are_found_and_a_change_of_any_is_seen),
		cmocka_unit_test(test_a_main_file_that_cannot_be_read_is_one_problem),
		cmocka_unit_test(test_a_run_needs_no_file),
		cmocka_unit_test(test_schema_and_manual_have_every_key),
		cmocka_unit_test(test_names_of_values_are_those_of_the_file),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
