/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Takes the command line apart by the tables in verbs.c.
 *
 * Not getopt_long(3): that one takes abbreviations of long options (which a later option would make ambiguous), cannot
 * tell "-1" from an option, and does not know which option was meant.
 */
#include <ctype.h>
#include <string.h>

#include "cli/cli.h"

enum { USED_MAX = 128 };

struct use { /* of an option, judged once the verb is known */
	const struct cli_option *x;
	const char *word; /* as written */
};

bool cli_listed(const char *list, const char *name)
{
	size_t n = strlen(name);

	for (const char *p = list; n && p && (p = strstr(p, name)); p += n)
		if ((p == list || p[-1] == ' ') && (p[n] == ' ' || !p[n]))
			return true;
	return false;
}

bool cli_is_global(const struct cli_option *x)
{
	return cli_listed(cli_global_options, x->name);
}

bool cli_takes(const struct cli_verb *v, const struct cli_option *x)
{
	return cli_is_global(x) || (v && cli_listed(v->options, x->name));
}

static const struct cli_option *find_long(const char *name, size_t n)
{
	char word[32];

	if (n >= sizeof(word))
		return NULL;
	memcpy(word, name, n);
	word[n] = '\0';
	for (const struct cli_option *x = cli_options; x->name; x++)
		if (!strcmp(x->name, word) || cli_listed(x->aliases, word))
			return x;
	return NULL;
}

static const struct cli_option *find_letter(char letter)
{
	for (const struct cli_option *x = cli_options; x->name; x++)
		if (x->letter == letter)
			return x;
	return NULL;
}

static int set_option(struct cli_options *o, const struct cli_option *x, const char *value)
{
	void *at = (char *)o + x->offset;

	if (x->words && !cli_listed(x->words, value)) {
		char hint[96];

		snprintf(hint, sizeof(hint), "There are: %s", x->words);
		return cli_fail(CLI_USAGE, hint, "--%s: '%s' is none of its words", x->name, value);
	}
	switch (x->kind) {
	case OPTION_FLAG:
		*(bool *)at = true;
		break;
	case OPTION_TEXT:
		*(const char **)at = value;
		break;
	case OPTION_COUNT:
		if (parse_u64(value, at) < 0 || *(uint64_t *)at == CLI_UNSET) {
			*(uint64_t *)at = CLI_UNSET;
			return cli_fail(CLI_USAGE, NULL, "--%s takes a whole number, not '%s'", x->name, value);
		}
		break;
	case OPTION_DURATION:
		if (parse_duration_ms(value, &o->timeout_ms) < 0)
			return cli_fail(CLI_USAGE, "Write 10s, 250ms, 1h30m", "--%s: '%s' is no duration", x->name, value);
		*(const char **)at = value;
		break;
	case OPTION_DAEMON:
		if (o->n_daemons >= ARRAY_SIZE(o->daemons))
			return cli_fail(CLI_USAGE, "Write a pattern: 'train*'", "--daemon is given more than %zu times",
			    ARRAY_SIZE(o->daemons));
		o->daemons[o->n_daemons++] = value;
		break;
	case OPTION_NONE:
		break;
	}
	return 0;
}

static int unknown_option(const struct cli_verb *v, const char *word)
{
	const char *names[USED_MAX], *near = NULL;
	char hint[96];
	size_t n = 0;

	for (const struct cli_option *x = cli_options; x->name && n < USED_MAX; x++)
		if (cli_takes(v, x))
			names[n++] = x->name;
	if (!strncmp(word, "--", 2)) {
		char name[64];

		snprintf(name, sizeof(name), "%.*s", (int)strcspn(word + 2, "="), word + 2);
		near = text_nearest(name, names, n);
	}
	if (near)
		snprintf(hint, sizeof(hint), "Did you mean '--%s'?", near);
	else
		snprintf(hint, sizeof(hint), "See: supervise help%s%s", v ? " " : "", v ? v->name : "");
	return cli_fail(CLI_USAGE, hint, v ? "%s: unknown option '%s'" : "%sunknown option '%s'", v ? v->name : "", word);
}

static int unknown_verb(const char *word)
{
	const char *names[USED_MAX], *near;
	char hint[96];
	size_t n = 0;

	for (const struct cli_verb *v = cli_verbs; v->name && n < USED_MAX; v++)
		if (!(v->flags & CLI_HIDDEN))
			names[n++] = v->name;
	near = text_nearest(word, names, n);
	if (!near) { /* an alias mistyped: suggest what it stands for */
		for (const struct cli_verb *v = cli_verbs; v->name && !near; v++) {
			char alias[32];
			const char *a = alias;

			for (const char *p = v->aliases; p && *p && !near; p += strspn(p, " ")) {
				size_t len = strcspn(p, " ");

				snprintf(alias, sizeof(alias), "%.*s", (int)len, p);
				p += len;
				if (text_nearest(word, &a, 1))
					near = v->name;
			}
		}
	}
	if (near)
		snprintf(hint, sizeof(hint), "Did you mean '%s'?", near);
	else
		snprintf(hint, sizeof(hint), "See: supervise help");
	return cli_fail(CLI_USAGE, hint, "'%s' is no verb of supervise", word);
}

/* "-1", "-12" */
static bool is_number(const char *word)
{
	if (word[0] != '-' || !word[1])
		return false;
	return strspn(word + 1, "0123456789") == strlen(word + 1);
}

int cli_parse(struct cli_options *o, int argc, char **argv, const struct cli_verb **ret_verb)
{
	struct use used[USED_MAX];
	const struct cli_verb *v = NULL;
	const char *unknown = NULL;
	bool ended = false, command = false;
	size_t n_used = 0;
	int n_args = 0, r;

	*o = (struct cli_options){ .limit = CLI_UNSET, .lines = CLI_UNSET, .pid = CLI_UNSET, .before = CLI_UNSET,
		.after = CLI_UNSET, .context = CLI_UNSET };
	*ret_verb = NULL;
	o->args = argv;
	for (int i = 1; i < argc; i++) {
		char *word = argv[i];
		bool hidden = v && (v->flags & CLI_HIDDEN); /* __complete: every word is an argument */

		if (!ended && !command && !strcmp(word, "--")) {
			ended = true;
			continue;
		}
		if (ended || command || word[0] != '-' || !word[1] || is_number(word) || (hidden && n_args)) {
			if (!v && !ended) {
				v = cli_find_verb(word);
				if (!v)
					return unknown_verb(word);
				continue;
			}
			if (!v) /* "supervise -- x" */
				return cli_fail(CLI_USAGE, "supervise run -- COMMAND", "a verb stands before '--'");
			argv[n_args++] = word; /* never ahead of i */
			command = v->flags & CLI_COMMAND;
			continue;
		}
		if (word[1] == '-') {
			const char *equals = strchr(word, '=');
			const struct cli_option *x = find_long(word + 2, equals ? (size_t)(equals - word - 2) : strlen(word + 2));
			const char *value = equals ? equals + 1 : NULL;

			if (!x || n_used == USED_MAX) {
				unknown = unknown ? unknown : word;
				continue;
			}
			if (x->kind == OPTION_FLAG && value)
				return cli_fail(CLI_USAGE, NULL, "'--%s' takes no value", x->name);
			if (x->kind != OPTION_FLAG && !value) {
				if (i + 1 >= argc)
					return cli_fail(CLI_USAGE, NULL, "'--%s' needs a value: --%s %s", x->name, x->name, x->argument);
				value = argv[++i];
			}
			used[n_used++] = (struct use){ x, word };
			r = set_option(o, x, value);
			if (r)
				return r;
			continue;
		}
		for (const char *p = word + 1; *p; p++) {
			const struct cli_option *x = find_letter(*p);
			const char *value = NULL;

			if (!x || n_used == USED_MAX) {
				unknown = unknown ? unknown : word;
				break;
			}
			if (x->kind != OPTION_FLAG) {
				if (p[1])
					value = p + 1;
				else if (i + 1 < argc)
					value = argv[++i];
				else
					return cli_fail(CLI_USAGE, NULL, "'-%c' needs a value: -%c %s", *p, *p, x->argument);
			}
			used[n_used++] = (struct use){ x, word };
			r = set_option(o, x, value);
			if (r)
				return r;
			if (value)
				break;
		}
	}
	if (unknown)
		return unknown_option(v, unknown);
	for (size_t i = 0; v && i < n_used; i++)
		if (!cli_takes(v, used[i].x))
			return unknown_option(v, used[i].word);
	argv[n_args] = NULL; /* there is room: argv[0] was no argument, and argv[argc] is NULL already */
	o->n_args = n_args;
	*ret_verb = v;
	if (!v || o->help || o->version)
		return 0;
	if (n_args < v->min_args || (v->max_args >= 0 && n_args > v->max_args)) {
		char hint[64];

		snprintf(hint, sizeof(hint), "See: supervise help %s", v->name);
		return cli_fail(CLI_USAGE, hint, "%s: usage: supervise %s %s",
		    n_args < v->min_args ? "something is missing" : "too many arguments", v->name, v->arguments);
	}
	return 0;
}
