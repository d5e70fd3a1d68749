/* SPDX-License-Identifier: Apache-2.0 */
/*
 * supervise.yaml to struct config: libyaml's document API, whose marks are exact on every node, and our own walk by the table of
 * schema.c. All problems of all files in one run.
 *
 * A daemon is made of layers, applied one after the other: built-in defaults, `defaults:`, its chain of templates, itself. A
 * map sets only the keys it has, so layers merge deeply; a short form ("restart: always") replaces the whole map.
 *
 * Aliases make nodes shared, so a small file can mean a huge walk: nodes visited are counted (VISITS_MAX).
 */
#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <glob.h>
#include <inttypes.h>
#include <libgen.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <yaml.h>

#include "base/file.h"
#include "base/text.h"
#include "config/config.h"
#include "config/problems.h"
#include "config/schema.h"

#define XXH_INLINE_ALL
#include <xxhash.h>

enum {
	FILE_MAX = 16 << 20,
	FILES_MAX = 256,
	VISITS_MAX = 50000000,
	INSTANCES_MAX = 10000,
	DAEMONS_MAX = 20000,
	DEPTH_MAX = 16, /* templates, includes */
};

struct source {
	char *path;  /* absolute */
	char *shown; /* as it is named in messages */
	char *folder;
	yaml_document_t doc;
	bool loaded;
};

struct named {
	char *name;
	struct source *source;
	const yaml_node_t *key, *value;
};

struct loader {
	struct config *c;
	struct config_problems *problems;
	struct source *sources[FILES_MAX];
	size_t n_sources;
	struct named *templates, *daemons;
	size_t n_templates, n_daemons;
	struct named defaults;
	char **variables; /* of env files, "K=V" */
	char **env_files; /* all that were read */
	uint64_t digest; /* sum of the files' hashes: the order they were read in does not matter */
	unsigned visits;
	bool has_name, has_version;
};

/* Where in which daemon we are. */
struct scope {
	struct loader *l;
	struct source *source;
	struct daemon_config *d;
	const char *what; /* "daemon 'ingest'" */
	int instance;     /* -1: none */
	bool shell;
	bool secret;      /* inside environment: values are not shown */
};

/* --- problems ----------------------------------------------------------------------------------------------------- */

static void problem_at(struct loader *l, const struct source *s, const yaml_node_t *n, bool warning, const char *code,
    const char *hint, const char *fmt, ...) __attribute__((format(printf, 7, 8)));
static void problem_at(struct loader *l, const struct source *s, const yaml_node_t *n, bool warning, const char *code,
    const char *hint, const char *fmt, ...)
{
	char text[1024];
	unsigned end = 0;
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	if (n && n->start_mark.line == n->end_mark.line)
		end = (unsigned)n->end_mark.column + 1;
	problems_add(l->problems, warning, s->shown, n ? (unsigned)n->start_mark.line + 1 : 0,
	    n ? (unsigned)n->start_mark.column + 1 : 0, end, code, text, hint);
}

/* --- YAML --------------------------------------------------------------------------------------------------------- */

static yaml_node_t *node(const struct source *s, int index)
{
	return yaml_document_get_node((yaml_document_t *)&s->doc, index);
}

static const char *scalar(const yaml_node_t *n)
{
	return n->type == YAML_SCALAR_NODE ? (const char *)n->data.scalar.value : NULL;
}

static bool visit(struct loader *l, const struct source *s, const yaml_node_t *n)
{
	if (++l->visits == VISITS_MAX)
		problem_at(l, s, n, false, "too-large", NULL, "aliases make this file too large to read");
	return l->visits < VISITS_MAX;
}

static bool is_null(const yaml_node_t *n)
{
	const char *v = scalar(n);

	return v && n->data.scalar.style == YAML_PLAIN_SCALAR_STYLE && (!*v || !strcmp(v, "~") || !strcmp(v, "null"));
}

static const char *kind(const yaml_node_t *n)
{
	return n->type == YAML_MAPPING_NODE ? "a map" : n->type == YAML_SEQUENCE_NODE ? "a list" : "a value";
}

/* A scanner or parser error in words for people, at the place where the cause is. */
static void yaml_problem(struct loader *l, const struct source *s, const yaml_parser_t *p)
{
	const char *what = p->problem ? p->problem : "cannot be read", *hint = NULL;
	yaml_mark_t at = p->problem_mark;
	char text[256];

	snprintf(text, sizeof(text), "%s", what);
	if (strstr(what, "found unexpected end of stream") && p->context && strstr(p->context, "quoted")) {
		at = p->context_mark;
		snprintf(text, sizeof(text), "the quote opened here is never closed");
	} else if (strstr(what, "mapping values are not allowed")) {
		hint = "Probably it is indented too far, or a text with ': ' wants quotes";
		snprintf(text, sizeof(text), "a 'key: value' cannot stand here");
	} else if (strstr(what, "cannot start any token") && p->problem_mark.column < 200) {
		snprintf(text, sizeof(text), "this character cannot begin a value");
		hint = "YAML is indented by blanks, not tabs; a text that begins with @ or ` wants quotes";
	} else if (strstr(what, "could not find expected ':'")) {
		at = p->context_mark;
		snprintf(text, sizeof(text), "a ':' is missing behind this key");
	} else if (strstr(what, "did not find expected key")) {
		hint = "Look at the indentation here and above";
		snprintf(text, sizeof(text), "a key is expected here");
	} else if (strstr(what, "did not find expected ',' or")) {
		at = p->context_mark;
		snprintf(text, sizeof(text), "the bracket opened here is not closed");
	} else if (strstr(what, "found undefined alias")) {
		snprintf(text, sizeof(text), "this alias names no anchor");
	} else if (p->error == YAML_READER_ERROR) {
		snprintf(text, sizeof(text), "not readable text: %s (byte %zu)", what, p->problem_offset);
		problems_add(l->problems, false, s->shown, 1, 1, 0, "syntax", text, "The file must be UTF-8");
		return;
	}
	problems_add(l->problems, false, s->shown, (unsigned)at.line + 1, (unsigned)at.column + 1, 0, "syntax", text, hint);
}

static struct source *source_free(struct source *s)
{
	if (s) {
		if (s->loaded)
			yaml_document_delete(&s->doc);
		free(s->path);
		free(s->shown);
		free(s->folder);
		free(s);
	}
	return NULL;
}

/* Parses bytes as one document. Return: the source, owned by the loader; NULL when there is none (told) */
static struct source *source_add(struct loader *l, const char *path, const char *shown, const char *data, size_t size)
{
	struct source *s = calloc(1, sizeof(*s));
	yaml_parser_t parser;
	yaml_document_t more;
	char *copy;

	if (!s)
		return NULL;
	s->path = strdup(path);
	s->shown = strdup(shown);
	copy = strdup(path);
	s->folder = copy ? strdup(dirname(copy)) : NULL;
	free(copy);
	if (!s->path || !s->shown || !s->folder || l->n_sources >= FILES_MAX || !yaml_parser_initialize(&parser))
		return source_free(s);
	l->sources[l->n_sources++] = s;
	l->digest += XXH64(data, size, 0);
	yaml_parser_set_input_string(&parser, (const unsigned char *)data, size);
	if (!yaml_parser_load(&parser, &s->doc)) {
		yaml_problem(l, s, &parser);
	} else {
		s->loaded = true;
		if (!yaml_parser_load(&parser, &more)) {
			yaml_problem(l, s, &parser);
		} else {
			if (yaml_document_get_root_node(&more))
				problem_at(l, s, yaml_document_get_root_node(&more), false, "syntax", NULL,
				    "a second document begins here; one file is one document");
			yaml_document_delete(&more);
		}
	}
	yaml_parser_delete(&parser);
	return s;
}

/* --- variables ---------------------------------------------------------------------------------------------------- */

static const char *variable(const struct loader *l, const char *name, size_t n)
{
	char buf[256];

	for (char **p = l->variables; p && *p; p++)
		if (!strncmp(*p, name, n) && (*p)[n] == '=')
			return *p + n + 1;
	if (n >= sizeof(buf))
		return NULL;
	memcpy(buf, name, n);
	buf[n] = '\0';
	return getenv(buf);
}

/* ${VAR}, ${VAR:-default}, ${VAR:?message}, $$, and %i of an instance. Return: the text, caller frees; NULL: told */
static char *expand(const struct scope *sc, const yaml_node_t *n, const char *text)
{
	_cleanup_text_ struct text out = { 0 };

	for (const char *p = text; *p;) {
		const char *end, *name, *value, *op;
		size_t len;

		if (sc->instance >= 0 && p[0] == '%' && p[1] == 'i') {
			text_addf(&out, "%d", sc->instance);
			p += 2;
			continue;
		}
		if (*p != '$') {
			text_add_bytes(&out, p++, 1);
			continue;
		}
		if (p[1] == '$') {
			text_add(&out, "$");
			p += 2;
			continue;
		}
		if (p[1] != '{') { /* a shell's own business */
			text_add_bytes(&out, p++, 1);
			continue;
		}
		name = p + 2;
		for (len = 0; isalnum((unsigned char)name[len]) || name[len] == '_'; len++)
			;
		op = name + len;
		end = strchr(op, '}');
		if (!len || !end || isdigit((unsigned char)*name) || (op != end && strncmp(op, ":-", 2) && strncmp(op, ":?", 2))) {
			problem_at(sc->l, sc->source, n, false, "variable",
			    "Write ${NAME}, ${NAME:-default} or ${NAME:?message}; $$ is a plain $", "this ${...} cannot be read");
			return NULL;
		}
		value = variable(sc->l, name, len);
		if (value && (*value || op == end)) {
			text_add(&out, value);
		} else if (op != end && op[1] == '-') {
			text_add_bytes(&out, op + 2, (size_t)(end - op - 2));
		} else if (op != end) {
			problem_at(sc->l, sc->source, n, false, "variable", NULL, "%.*s: %.*s", (int)len, name, (int)(end - op - 2), op + 2);
			return NULL;
		} else {
			problem_at(sc->l, sc->source, n, false, "variable", "Set it, or write ${NAME:-default}", "variable %.*s is not set",
			    (int)len, name);
			return NULL;
		}
		p = end + 1;
	}
	return text_take(&out);
}

/* KEY=VALUE lines: blank lines and # comments are passed over, quotes around a value are taken off. */
static void read_env_file(struct loader *l, const struct source *s, const yaml_node_t *at, const char *name, bool optional,
    char ***into)
{
	_cleanup_(freep) char *data = NULL;
	char path[PATH_MAX], *save = NULL;
	unsigned line_no = 0;
	size_t size = 0;
	int r;

	if (name[0] == '/')
		snprintf(path, sizeof(path), "%s", name);
	else
		snprintf(path, sizeof(path), "%s/%s", s->folder, name);
	r = file_read(AT_FDCWD, path, FILE_MAX, &data, &size);
	if (r == -ENOENT && optional)
		return;
	if (r < 0) {
		problem_at(l, s, at, false, "env-file", optional ? NULL : "Write {path: NAME, optional: true} if it need not exist",
		    "cannot read env file %s: %s", path, strerror(-r));
		return;
	}
	l->digest += XXH64(data, size, 0);
	strv_add(&l->env_files, path);
	if (strlen(data) != size) {
		problems_add(l->problems, false, path, 1, 1, 0, "env-file", "the file holds a NUL byte", NULL);
		return;
	}
	/* strsep keeps count of blank lines too */
	for (char *rest = data, *line = strsep(&rest, "\n"); line; line = strsep(&rest, "\n")) {
		char *key = line + strspn(line, " \t"), *value, *end;
		size_t n;

		(void)save;
		line_no++;
		end = line + strlen(line);
		while (end > line && (end[-1] == '\r' || end[-1] == ' ' || end[-1] == '\t'))
			*--end = '\0';
		if (key >= end || *key == '#')
			continue;
		if (!strncmp(key, "export ", 7))
			key += 7;
		n = strspn(key, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_");
		if (!n || isdigit((unsigned char)*key) || key[n] != '=') {
			problems_add(l->problems, false, path, line_no, (unsigned)(key - line) + 1, 0, "env-file",
			    "a line of KEY=VALUE is expected", NULL);
			continue;
		}
		key[n] = '\0';
		value = key + n + 1;
		n = strlen(value);
		if (n >= 2 && (*value == '"' || *value == '\'') && value[n - 1] == *value) {
			value[n - 1] = '\0';
			value++;
		}
		strv_set_env(into, key, value);
	}
}

/* A name, a list, or {path:, optional:}. */
static void env_files(const struct scope *sc, const yaml_node_t *n, char ***into)
{
	if (!visit(sc->l, sc->source, n))
		return;
	if (n->type == YAML_SEQUENCE_NODE) {
		for (yaml_node_item_t *i = n->data.sequence.items.start; i < n->data.sequence.items.top; i++)
			env_files(sc, node(sc->source, *i), into);
		return;
	}
	if (n->type == YAML_MAPPING_NODE) {
		const char *path = NULL;
		bool optional = false;

		for (yaml_node_pair_t *p = n->data.mapping.pairs.start; p < n->data.mapping.pairs.top; p++) {
			const yaml_node_t *k = node(sc->source, p->key), *v = node(sc->source, p->value);
			const char *key = scalar(k), *value = scalar(v);

			if (key && value && !strcmp(key, "path"))
				path = value;
			else if (key && value && !strcmp(key, "optional") && (!strcmp(value, "true") || !strcmp(value, "false")))
				optional = value[0] == 't';
			else
				problem_at(sc->l, sc->source, k, false, "unknown-key", "There are 'path' and 'optional: true|false'",
				    "an env file has no such key");
		}
		if (path)
			read_env_file(sc->l, sc->source, n, path, optional, into);
		else
			problem_at(sc->l, sc->source, n, false, "missing-key", NULL, "'path' is missing");
		return;
	}
	if (scalar(n) && !is_null(n)) {
		_cleanup_(freep) char *name = expand(sc, n, scalar(n));

		if (name)
			read_env_file(sc->l, sc->source, n, name, false, into);
	} else {
		problem_at(sc->l, sc->source, n, false, "type", NULL, "the name of a file is expected");
	}
}

/* --- values ------------------------------------------------------------------------------------------------------- */

static void apply_map(struct scope *sc, const struct slot *table, void *base, const yaml_node_t *map);

static void apply_command(struct scope *sc, const yaml_node_t *n)
{
	char **argv = NULL;
	struct error err = { "" };

	if (n->type == YAML_SEQUENCE_NODE) {
		if (sc->shell) {
			problem_at(sc->l, sc->source, n, false, "type", NULL, "with 'shell: true' the command is one text, not a list");
			return;
		}
		for (yaml_node_item_t *i = n->data.sequence.items.start; i < n->data.sequence.items.top; i++) {
			const yaml_node_t *item = node(sc->source, *i);
			_cleanup_(freep) char *word = NULL;

			if (!visit(sc->l, sc->source, n))
				break;
			if (!scalar(item)) {
				problem_at(sc->l, sc->source, item, false, "type", NULL, "a word of the command is expected, not %s", kind(item));
				continue;
			}
			word = expand(sc, item, scalar(item));
			if (word)
				strv_add(&argv, word);
		}
		if (!argv && n->data.sequence.items.start == n->data.sequence.items.top)
			problem_at(sc->l, sc->source, n, false, "value", NULL, "the command is empty");
	} else if (scalar(n) && !is_null(n)) {
		_cleanup_(freep) char *text = expand(sc, n, scalar(n));

		if (!text)
			return;
		if (sc->shell) {
			strv_add(&argv, "/bin/sh");
			strv_add(&argv, "-c");
			strv_add(&argv, text);
		} else if (words_split(text, &argv, &err) < 0) {
			problem_at(sc->l, sc->source, n, false, "value", NULL, "%s", err.text);
			return;
		} else if (!argv[0]) {
			problem_at(sc->l, sc->source, n, false, "value", NULL, "the command is empty");
		}
	} else {
		problem_at(sc->l, sc->source, n, false, "type", NULL, "a command is a list of words, or a text, not %s", kind(n));
		return;
	}
	if (argv) {
		strv_free(sc->d->command);
		sc->d->command = argv;
	}
}

static void apply_environment(struct scope *sc, const yaml_node_t *n)
{
	if (n->type != YAML_MAPPING_NODE) {
		problem_at(sc->l, sc->source, n, false, "env-type", "Write {NAME: value}", "environment is a map, not %s", kind(n));
		return;
	}
	for (yaml_node_pair_t *p = n->data.mapping.pairs.start; p < n->data.mapping.pairs.top; p++) {
		const yaml_node_t *k = node(sc->source, p->key), *v = node(sc->source, p->value);
		_cleanup_(freep) char *value = NULL;

		if (!visit(sc->l, sc->source, n))
			return;
		if (!scalar(k) || !*scalar(k) || strchr(scalar(k), '=')) {
			problem_at(sc->l, sc->source, k, false, "env-name", NULL, "this is no name of a variable");
			continue;
		}
		if (!scalar(v)) {
			problem_at(sc->l, sc->source, v, false, "env-type", NULL, "the value of %s must be a text, not %s", scalar(k), kind(v));
			continue;
		}
		value = expand(sc, v, scalar(v));
		if (value)
			strv_set_env(&sc->d->environment, scalar(k), value);
	}
}

static void set_limit(struct daemon_config *d, int resource, unsigned long long soft, unsigned long long hard)
{
	struct limit_config *items;

	for (size_t i = 0; i < d->n_limits; i++)
		if (d->limits[i].resource == resource) {
			d->limits[i].soft = soft;
			d->limits[i].hard = hard;
			return;
		}
	items = realloc(d->limits, (d->n_limits + 1) * sizeof(*items));
	if (!items)
		return;
	d->limits = items;
	items[d->n_limits++] = (struct limit_config){ resource, soft, hard };
}

static bool limit_value(struct scope *sc, int resource, const yaml_node_t *v, unsigned long long *ret)
{
	_cleanup_(freep) char *text = scalar(v) ? expand(sc, v, scalar(v)) : NULL;

	if (text && limit_parse(resource, text, ret) == 0)
		return true;
	if (text || !scalar(v))
		problem_at(sc->l, sc->source, v, false, "value", "Write a number, a size (8G), or unlimited",
		    "this is no value for the limit '%s'", limit_to_name(resource));
	return false;
}

static void apply_limits(struct scope *sc, const yaml_node_t *n)
{
	if (n->type != YAML_MAPPING_NODE) {
		problem_at(sc->l, sc->source, n, false, "type", "Write {nofile: 4096}", "limits is a map, not %s", kind(n));
		return;
	}
	for (yaml_node_pair_t *p = n->data.mapping.pairs.start; p < n->data.mapping.pairs.top; p++) {
		const yaml_node_t *k = node(sc->source, p->key), *v = node(sc->source, p->value);
		int resource = scalar(k) ? limit_from_name(scalar(k)) : -EINVAL;
		unsigned long long soft = 0, hard = 0;

		if (!visit(sc->l, sc->source, n))
			return;
		if (resource < 0) {
			const char *near = scalar(k) ? text_nearest(scalar(k), limit_names, 17) : NULL;
			char hint[64];

			snprintf(hint, sizeof(hint), "Did you mean '%s'?", near ? near : "");
			problem_at(sc->l, sc->source, k, false, "unknown-key", near ? hint : NULL, "unknown limit '%s'",
			    scalar(k) ? scalar(k) : "");
			continue;
		}
		if (v->type == YAML_MAPPING_NODE) {
			bool has_soft = false, has_hard = false, ok = true;

			for (yaml_node_pair_t *q = v->data.mapping.pairs.start; q < v->data.mapping.pairs.top; q++) {
				const yaml_node_t *kk = node(sc->source, q->key), *vv = node(sc->source, q->value);

				if (scalar(kk) && !strcmp(scalar(kk), "soft"))
					ok &= has_soft = limit_value(sc, resource, vv, &soft);
				else if (scalar(kk) && !strcmp(scalar(kk), "hard"))
					ok &= has_hard = limit_value(sc, resource, vv, &hard);
				else
					problem_at(sc->l, sc->source, kk, false, "unknown-key", "There are 'soft' and 'hard'",
					    "a limit has no such key");
			}
			if (!ok)
				continue;
			if (!has_hard && has_soft)
				hard = soft;
			if (!has_soft && has_hard)
				soft = hard;
			if (soft > hard) {
				problem_at(sc->l, sc->source, v, false, "value", NULL, "the soft limit is above the hard one");
				continue;
			}
		} else {
			if (!limit_value(sc, resource, v, &soft))
				continue;
			hard = soft;
		}
		set_limit(sc->d, resource, soft, hard);
	}
}

/* A list of words as the text that slot_set_text() reads. */
static char *joined(struct scope *sc, const yaml_node_t *n)
{
	_cleanup_text_ struct text t = { 0 };

	for (yaml_node_item_t *i = n->data.sequence.items.start; i < n->data.sequence.items.top; i++) {
		const yaml_node_t *item = node(sc->source, *i);

		if (!visit(sc->l, sc->source, n) || !scalar(item))
			return NULL;
		text_addf(&t, "%s%s", t.size ? "," : "", scalar(item));
	}
	return text_take(&t);
}

static void apply_value(struct scope *sc, const struct slot *slot, void *base, const yaml_node_t *k, const yaml_node_t *v)
{
	_cleanup_(freep) char *text = NULL;
	struct error err = { "" };
	int r;

	switch (slot->type) {
	case SLOT_MAP:
		if (v->type == YAML_MAPPING_NODE) {
			apply_map(sc, slot->sub, base, v);
		} else if (scalar(v) && slot->word_key && !is_null(v)) {
			slots_set_defaults(slot->sub, base); /* the short form stands for the whole map */
			apply_value(sc, slot_find(slot->sub, slot->word_key), base, k, v);
		} else {
			problem_at(sc->l, sc->source, v, false, "type", NULL, "'%s' is a map%s, not %s", slot->name,
			    slot->word_key ? " or a word" : "", is_null(v) ? "empty" : kind(v));
		}
		return;
	case SLOT_COMMAND:
		apply_command(sc, v);
		return;
	case SLOT_ENVIRONMENT:
		apply_environment(sc, v);
		return;
	case SLOT_LIMITS:
		apply_limits(sc, v);
		return;
	case SLOT_LATER:
		problem_at(sc->l, sc->source, k, false, "not-supported-yet", NULL, "'%s' is not supported yet", slot->name);
		return;
	case SLOT_SHELL: /* seen before the other keys */
	case SLOT_ENV_FILE:
	case SLOT_OUTER:
		return;
	default:
		break;
	}
	if ((slot->type == SLOT_EXITS || slot->type == SLOT_SIGNALS) && v->type == YAML_SEQUENCE_NODE) {
		text = joined(sc, v);
	} else if (!scalar(v)) {
		problem_at(sc->l, sc->source, v, false, "type", NULL, "'%s' takes one value, not %s", slot->name, kind(v));
		return;
	} else if (is_null(v) && slot->type != SLOT_STRING && slot->type != SLOT_EXITS) {
		problem_at(sc->l, sc->source, k, false, "type", NULL, "'%s' has no value", slot->name);
		return;
	} else {
		text = expand(sc, v, is_null(v) ? "" : scalar(v));
		if (!text)
			return;
	}
	if (!text)
		return;
	if (slot->type == SLOT_PATH && text[0] != '/') {
		_cleanup_text_ struct text path = { 0 };

		/* a template's folder is relative to the file it stands in, as everything is */
		text_addf(&path, "%s/%s", sc->source->folder, text);
		free(text);
		text = text_take(&path);
		if (!text)
			return;
	}
	r = slot_set_text(slot, base, text, &err);
	if (r < 0)
		problem_at(sc->l, sc->source, v, false, r == -EOPNOTSUPP ? "not-supported-yet" : "value", NULL, "%s: %s", slot->name,
		    err.text);
}

static void unknown_key(struct scope *sc, const struct slot *table, const yaml_node_t *k)
{
	const char *names[64], *near;
	char hint[128];
	size_t n = 0;

	for (const struct slot *s = table; s->name && n < ARRAY_SIZE(names); s++)
		names[n++] = s->name;
	near = scalar(k) ? text_nearest(scalar(k), names, n) : NULL;
	snprintf(hint, sizeof(hint), "Did you mean '%s'?", near ? near : "");
	problem_at(sc->l, sc->source, k, false, "unknown-key", near ? hint : NULL, "unknown key '%s' in %s",
	    scalar(k) ? scalar(k) : "?", sc->what);
}

/* Keys must be plain words, and stand there once. */
static bool check_keys(struct loader *l, const struct source *s, const yaml_node_t *map)
{
	bool ok = true;

	for (yaml_node_pair_t *p = map->data.mapping.pairs.start; p < map->data.mapping.pairs.top; p++) {
		const yaml_node_t *k = node(s, p->key);

		if (!visit(l, s, map))
			return false;
		if (!scalar(k)) {
			problem_at(l, s, k, false, "type", NULL, "a key must be a word, not %s", kind(k));
			ok = false;
			continue;
		}
		if (!strcmp(scalar(k), "<<")) {
			problem_at(l, s, k, false, "merge-key", "Use templates and extends", "merge keys (<<) are not part of this format");
			ok = false;
			continue;
		}
		for (yaml_node_pair_t *q = map->data.mapping.pairs.start; q < p; q++) {
			const yaml_node_t *other = node(s, q->key);

			if (scalar(other) && !strcmp(scalar(other), scalar(k))) {
				problem_at(l, s, k, false, "duplicate-key", NULL, "'%s' stands here a second time; first in line %zu",
				    scalar(k), other->start_mark.line + 1);
				ok = false;
				break;
			}
			if (!visit(l, s, map))
				return false;
		}
	}
	return ok;
}

static void apply_map(struct scope *sc, const struct slot *table, void *base, const yaml_node_t *map)
{
	if (!visit(sc->l, sc->source, map))
		return;
	if (map->type != YAML_MAPPING_NODE) {
		problem_at(sc->l, sc->source, map, false, "type", NULL, "%s is a map, not %s", sc->what, kind(map));
		return;
	}
	check_keys(sc->l, sc->source, map);
	/* what other keys depend on */
	for (yaml_node_pair_t *p = map->data.mapping.pairs.start; p < map->data.mapping.pairs.top; p++) {
		const yaml_node_t *k = node(sc->source, p->key), *v = node(sc->source, p->value);
		const struct slot *slot = scalar(k) ? slot_find(table, scalar(k)) : NULL;

		if (slot && slot->type == SLOT_SHELL) {
			if (scalar(v) && (!strcmp(scalar(v), "true") || !strcmp(scalar(v), "false")))
				sc->shell = scalar(v)[0] == 't';
			else
				problem_at(sc->l, sc->source, v, false, "value", NULL, "shell: write true or false");
		} else if (slot && slot->type == SLOT_ENV_FILE) {
			env_files(sc, v, &sc->d->environment);
		}
	}
	for (yaml_node_pair_t *p = map->data.mapping.pairs.start; p < map->data.mapping.pairs.top; p++) {
		const yaml_node_t *k = node(sc->source, p->key), *v = node(sc->source, p->value);
		const struct slot *slot = scalar(k) ? slot_find(table, scalar(k)) : NULL;

		if (slot)
			apply_value(sc, slot, base, k, v);
		else if (scalar(k) && strcmp(scalar(k), "<<"))
			unknown_key(sc, table, k);
	}
}

/* --- daemons ------------------------------------------------------------------------------------------------------ */

static void daemon_config_free(struct daemon_config *d)
{
	free(d->name);
	free(d->base);
	strv_free(d->command);
	free(d->description);
	free(d->directory);
	strv_free(d->environment);
	free(d->limits);
	free(d->experiment);
	free(d->stage);
	free(d->node);
	*d = (struct daemon_config){ 0 };
}

struct config *config_free(struct config *c)
{
	if (!c)
		return NULL;
	for (size_t i = 0; i < c->n_daemons; i++)
		daemon_config_free(&c->daemons[i]);
	free(c->daemons);
	free(c->name);
	free(c->path);
	strv_free(c->files);
	free(c);
	return NULL;
}

static const yaml_node_t *get(const struct source *s, const yaml_node_t *map, const char *key)
{
	if (map->type != YAML_MAPPING_NODE)
		return NULL;
	for (yaml_node_pair_t *p = map->data.mapping.pairs.start; p < map->data.mapping.pairs.top; p++)
		if (scalar(node(s, p->key)) && !strcmp(scalar(node(s, p->key)), key))
			return node(s, p->value);
	return NULL;
}

static struct named *named_find(struct named *list, size_t n, const char *name)
{
	for (size_t i = 0; i < n; i++)
		if (!strcmp(list[i].name, name))
			return &list[i];
	return NULL;
}

/* Templates first, the thing itself last. Return: false when the chain is broken (told) */
static bool apply_chain(struct scope *sc, const struct named *x, const struct named **seen, size_t depth)
{
	const yaml_node_t *extends = get(x->source, x->value, "extends");
	char what[128];

	seen[depth] = x;
	if (extends) {
		const char *name = scalar(extends);
		struct named *t = name ? named_find(sc->l->templates, sc->l->n_templates, name) : NULL;

		if (!t) {
			const char **names = calloc(sc->l->n_templates + 1, sizeof(*names)), *near = NULL;
			char hint[128];

			for (size_t i = 0; names && i < sc->l->n_templates; i++)
				names[i] = sc->l->templates[i].name;
			if (name && names)
				near = text_nearest(name, names, sc->l->n_templates);
			snprintf(hint, sizeof(hint), "Did you mean '%s'?", near ? near : "");
			free(names);
			problem_at(sc->l, x->source, extends, false, "unknown-template", near ? hint : NULL,
			    name ? "extends names '%s', which is no template" : "extends takes the name of a template%s", name ? name : "");
			return false;
		}
		for (size_t i = 0; i <= depth; i++)
			if (seen[i] == t) {
				problem_at(sc->l, x->source, extends, false, "cycle", NULL, "template '%s' extends itself", t->name);
				return false;
			}
		if (depth + 1 >= DEPTH_MAX) {
			problem_at(sc->l, x->source, extends, false, "too-deep", NULL, "templates extend each other more than %d deep",
			    DEPTH_MAX);
			return false;
		}
		if (!apply_chain(sc, t, seen, depth + 1))
			return false;
	}
	snprintf(what, sizeof(what), "%s '%s'", depth ? "template" : "daemon", x->name);
	sc->source = x->source;
	sc->what = what;
	apply_map(sc, daemon_slots, sc->d, x->value);
	return true;
}

static bool name_ok(const char *name)
{
	size_t n = strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789_.-");

	return n >= 1 && n <= 63 && !name[n] && name[0] != '_' && name[0] != '.' && name[0] != '-';
}

/* What a running process was started with; changes elsewhere need no restart. */
static void make_digest(struct daemon_config *d)
{
	XXH64_state_t *x = XXH64_createState();

	XXH64_reset(x, 0);
	for (char **p = d->command; p && *p; p++)
		XXH64_update(x, *p, strlen(*p) + 1);
	for (char **p = d->environment; p && *p; p++)
		XXH64_update(x, *p, strlen(*p) + 1);
	if (d->directory)
		XXH64_update(x, d->directory, strlen(d->directory) + 1);
	XXH64_update(x, &d->umask, sizeof(d->umask));
	XXH64_update(x, &d->nice, sizeof(d->nice));
	for (size_t i = 0; i < d->n_limits; i++) {
		XXH64_update(x, &d->limits[i].resource, sizeof(d->limits[i].resource));
		XXH64_update(x, &d->limits[i].soft, sizeof(d->limits[i].soft));
		XXH64_update(x, &d->limits[i].hard, sizeof(d->limits[i].hard));
	}
	XXH64_update(x, &d->capture.mode, sizeof(d->capture.mode));
	XXH64_update(x, &d->python.unbuffered, 1);
	XXH64_update(x, &d->python.faulthandler, 1);
	for (const char *const *p = (const char *const[]){ d->experiment, d->stage, d->node, (char *)-1 }; *p != (char *)-1; p++)
		if (*p)
			XXH64_update(x, *p, strlen(*p) + 1);
		else
			XXH64_update(x, "\1", 1);
	snprintf(d->digest, sizeof(d->digest), "%016" PRIx64, (uint64_t)XXH64_digest(x));
	XXH64_freeState(x);
}

static bool on_network(const char *path, const char *program)
{
	char found[PATH_MAX];
	const char *search = getenv("PATH");

	if (path && path_is_network(path) == 1)
		return true;
	if (!program || strchr(program, '/'))
		return program && program[0] == '/' && path_is_network(program) == 1;
	while (search && *search) {
		size_t n = strcspn(search, ":");

		snprintf(found, sizeof(found), "%.*s/%s", (int)n, search, program);
		if (n && !access(found, X_OK))
			return path_is_network(found) == 1;
		search += n;
		search += *search == ':';
	}
	return false;
}

static void daemon_init(struct daemon_config *d)
{
	*d = (struct daemon_config){ .umask = -1, .instance = -1 };
	slots_set_defaults(daemon_slots, d);
}

static struct daemon_config *daemon_add(struct config *c)
{
	struct daemon_config *p = realloc(c->daemons, (c->n_daemons + 1) * sizeof(*p));

	if (!p)
		return NULL;
	c->daemons = p;
	daemon_init(&p[c->n_daemons]);
	return &p[c->n_daemons++];
}

static void make_daemon(struct loader *l, const struct named *x, int instance)
{
	const struct named *seen[DEPTH_MAX];
	struct daemon_config *d;
	struct scope sc = { .l = l, .instance = instance };
	char name[96];

	if (l->c->n_daemons >= DAEMONS_MAX || l->visits >= VISITS_MAX)
		return;
	d = daemon_add(l->c);
	if (!d)
		return;
	sc.d = d;
	if (instance >= 0)
		snprintf(name, sizeof(name), "%s/%d", x->name, instance);
	else
		snprintf(name, sizeof(name), "%s", x->name);
	d->name = strdup(name);
	d->base = strdup(x->name);
	d->instance = instance;
	d->place = (struct config_place){ NULL, (unsigned)x->key->start_mark.line + 1, (unsigned)x->key->start_mark.column + 1 };
	for (size_t i = 0; l->c->files && l->c->files[i]; i++)
		if (!strcmp(l->c->files[i], x->source->path))
			d->place.file = l->c->files[i];
	if (l->defaults.value) {
		sc.source = l->defaults.source;
		sc.what = "defaults";
		apply_map(&sc, daemon_slots, d, l->defaults.value);
	}
	if (!apply_chain(&sc, x, seen, 0))
		return;
	if (!d->command && !problems_any_error(l->problems))
		problem_at(l, x->source, x->key, false, "missing-key", "Add 'command: [PROGRAM, ARGUMENT, ...]'", "daemon '%s' has no command",
		    x->name);
	if (!d->directory)
		d->directory = strdup(l->sources[0]->folder);
	d->network = d->command && on_network(d->directory, d->command[0]);
	make_digest(d);
}

static void make_daemons(struct loader *l, const struct named *x)
{
	const yaml_node_t *instances = NULL, *from = x->value;
	const struct named *at = x;
	uint64_t n;

	if (x->value->type != YAML_MAPPING_NODE) {
		problem_at(l, x->source, x->value, false, "type", "Write {command: ...}", "daemon '%s' is a map, not %s", x->name,
		    is_null(x->value) ? "empty" : kind(x->value));
		return;
	}
	for (int depth = 0; at && depth < DEPTH_MAX && !instances; depth++) {
		const yaml_node_t *extends = get(at->source, from, "extends");

		instances = get(at->source, from, "instances");
		if (instances || !extends || !scalar(extends))
			break;
		at = named_find(l->templates, l->n_templates, scalar(extends));
		from = at ? at->value : NULL;
	}
	if (!instances) {
		make_daemon(l, x, -1);
		return;
	}
	if (!scalar(instances) || parse_u64(scalar(instances), &n) < 0 || n < 1 || n > INSTANCES_MAX) {
		problem_at(l, at->source, instances, false, "value", NULL, "instances is a whole number from 1 to %d", INSTANCES_MAX);
		return;
	}
	for (uint64_t i = 0; i < n; i++)
		make_daemon(l, x, (int)i);
}

/* --- files -------------------------------------------------------------------------------------------------------- */

static void collect(struct loader *l, struct source *s, const yaml_node_t *map, const char *what, struct named **list,
    size_t *n)
{
	if (is_null(map))
		return;
	if (map->type != YAML_MAPPING_NODE) {
		problem_at(l, s, map, false, "type", NULL, "'%s' is a map of names, not %s", what, kind(map));
		return;
	}
	check_keys(l, s, map);
	for (yaml_node_pair_t *p = map->data.mapping.pairs.start; p < map->data.mapping.pairs.top; p++) {
		const yaml_node_t *k = node(s, p->key);
		struct named *old, *items;

		if (!scalar(k) || !strcmp(scalar(k), "<<"))
			continue;
		if (!name_ok(scalar(k)) || !strcmp(scalar(k), "all")) {
			problem_at(l, s, k, false, "name", !strcmp(scalar(k), "all") ? "'all' means every daemon" : NULL,
			    "'%s' is no usable name: lower-case letters, digits, '_', '.', '-', at most 63, beginning with a letter or digit",
			    scalar(k));
			continue;
		}
		old = named_find(*list, *n, scalar(k));
		if (old) {
			if (old->source != s)
				problem_at(l, s, k, false, "duplicate-key", NULL, "'%s' is defined in %s:%zu already", scalar(k),
				    old->source->shown, old->key->start_mark.line + 1);
			continue;
		}
		items = realloc(*list, (*n + 1) * sizeof(*items));
		if (!items)
			return;
		*list = items;
		items[(*n)++] = (struct named){ strdup(scalar(k)), s, k, node(s, p->value) };
	}
}

static void load_file(struct loader *l, const char *path, const char *shown, const struct source *from,
    const yaml_node_t *at);

static void include(struct loader *l, struct source *s, const yaml_node_t *n)
{
	char pattern[PATH_MAX];
	glob_t g;
	int r;

	if (n->type == YAML_SEQUENCE_NODE) {
		for (yaml_node_item_t *i = n->data.sequence.items.start; i < n->data.sequence.items.top; i++)
			if (visit(l, s, n))
				include(l, s, node(s, *i));
		return;
	}
	if (!scalar(n) || is_null(n)) {
		problem_at(l, s, n, false, "type", NULL, "include takes names of files");
		return;
	}
	if (scalar(n)[0] == '/')
		snprintf(pattern, sizeof(pattern), "%s", scalar(n));
	else
		snprintf(pattern, sizeof(pattern), "%s/%s", s->folder, scalar(n));
	r = glob(pattern, 0, NULL, &g);
	if (r == GLOB_NOMATCH && !strpbrk(scalar(n), "*?["))
		problem_at(l, s, n, false, "include", NULL, "there is no file %s", pattern);
	else if (r && r != GLOB_NOMATCH)
		problem_at(l, s, n, false, "include", NULL, "cannot look for %s", pattern);
	for (size_t i = 0; !r && i < g.gl_pathc; i++) {
		/* shown relative to where the person is, as the main file is */
		const char *slash = strrchr(s->shown, '/');
		char shown[PATH_MAX];

		if (scalar(n)[0] != '/' && !strncmp(g.gl_pathv[i], s->folder, strlen(s->folder)))
			snprintf(shown, sizeof(shown), "%.*s%s", slash ? (int)(slash + 1 - s->shown) : 0, s->shown,
			    g.gl_pathv[i] + strlen(s->folder) + 1);
		else
			snprintf(shown, sizeof(shown), "%s", g.gl_pathv[i]);
		load_file(l, g.gl_pathv[i], shown, s, n);
	}
	if (!r)
		globfree(&g);
}

static void read_top(struct loader *l, struct source *s, bool main_file)
{
	const yaml_node_t *root = s->loaded ? yaml_document_get_root_node(&s->doc) : NULL;
	struct scope sc = { .l = l, .source = s, .what = "the file", .instance = -1 };

	if (!s->loaded)
		return;
	if (!root || is_null(root)) {
		problems_add(l->problems, !main_file, s->shown, 1, 1, 0, "empty", "the file is empty", NULL);
		return;
	}
	if (root->type != YAML_MAPPING_NODE) {
		problem_at(l, s, root, false, "type", NULL, "the file must be a map of keys, not %s", kind(root));
		return;
	}
	check_keys(l, s, root);
	for (yaml_node_pair_t *p = root->data.mapping.pairs.start; p < root->data.mapping.pairs.top; p++) {
		const yaml_node_t *k = node(s, p->key), *v = node(s, p->value);
		const char *key = scalar(k);
		const struct slot *slot = key ? slot_find(config_slots, key) : NULL;

		if (!key || !strcmp(key, "<<"))
			continue;
		if (!slot) {
			unknown_key(&sc, config_slots, k);
		} else if (slot->type != SLOT_OUTER) {
			apply_value(&sc, slot, l->c, k, v);
		} else if (!strcmp(key, "version")) {
			l->has_version = true;
			if (!scalar(v) || strcmp(scalar(v), "1"))
				problem_at(l, s, v, false, "version", NULL, "version '%s' is not known to this program; it knows 1",
				    scalar(v) ? scalar(v) : "?");
		} else if (!strcmp(key, "name")) {
			if (!main_file)
				problem_at(l, s, k, false, "include", NULL, "'name' belongs into the main file");
			else if (!scalar(v) || !name_ok(scalar(v)))
				problem_at(l, s, v, false, "name", NULL,
				    "'%s' is no usable name: lower-case letters, digits, '_', '.', '-', at most 63, beginning with a letter or "
				    "digit",
				    scalar(v) ? scalar(v) : "?");
			else {
				free(l->c->name);
				l->c->name = strdup(scalar(v));
			}
		} else if (!strcmp(key, "env_file")) {
			env_files(&sc, v, &l->variables);
		} else if (!strcmp(key, "include")) {
			include(l, s, v);
		} else if (!strcmp(key, "defaults")) {
			if (l->defaults.value && l->defaults.source != s)
				problem_at(l, s, k, false, "duplicate-key", NULL, "defaults stand in %s:%zu already", l->defaults.source->shown,
				    l->defaults.key->start_mark.line + 1);
			else if (!is_null(v))
				l->defaults = (struct named){ NULL, s, k, v };
		} else if (!strcmp(key, "templates")) {
			collect(l, s, v, "templates", &l->templates, &l->n_templates);
		} else if (!strcmp(key, "daemons")) {
			collect(l, s, v, "daemons", &l->daemons, &l->n_daemons);
		}
	}
}

static void load_file(struct loader *l, const char *path, const char *shown, const struct source *from,
    const yaml_node_t *at)
{
	_cleanup_(freep) char *data = NULL, *real = realpath(path, NULL);
	struct source *s;
	size_t size = 0;
	int r = 0;

	for (size_t i = 0; real && i < l->n_sources; i++)
		if (!strcmp(l->sources[i]->path, real)) {
			problem_at(l, from, at, false, "include", NULL, "%s is included a second time", shown);
			return;
		}
	if (l->n_sources >= FILES_MAX) {
		problem_at(l, from, at, false, "include", NULL, "more than %d files", FILES_MAX);
		return;
	}
	r = real ? file_read(AT_FDCWD, real, FILE_MAX, &data, &size) : -errno;
	if (r < 0) {
		if (from)
			problem_at(l, from, at, false, "include", NULL, "cannot read %s: %s", shown, strerror(-r));
		return;
	}
	s = source_add(l, real, shown, data, size);
	if (s) {
		strv_add(&l->c->files, s->path);
		read_top(l, s, !from);
	}
}

/* Defaults and templates that no daemon uses are checked too. */
static void check_unused(struct loader *l)
{
	struct daemon_config scratch;

	for (size_t i = 0; i <= l->n_templates; i++) {
		const struct named *x = i < l->n_templates ? &l->templates[i] : &l->defaults;
		struct scope sc = { .l = l, .d = &scratch, .source = x->source, .instance = -1 };
		char what[128];

		if (!x->value)
			continue;
		if (i < l->n_templates)
			snprintf(what, sizeof(what), "template '%s'", x->name);
		else
			snprintf(what, sizeof(what), "defaults");
		sc.what = what;
		daemon_init(&scratch);
		apply_map(&sc, daemon_slots, &scratch, x->value);
		daemon_config_free(&scratch);
	}
}

/* A project name made of a folder's name. Return: the name, caller frees, or NULL */
static char *name_of_folder(const char *folder)
{
	const char *slash = strrchr(folder, '/');
	char *name = strdup(slash && slash[1] ? slash + 1 : "project"), *to = name;

	if (!name)
		return NULL;
	for (char *p = name; *p; p++) {
		char c = (char)tolower((unsigned char)*p);

		if ((c >= 'a' && c <= 'z') || isdigit((unsigned char)c) || (to > name && strchr("_.-", c)))
			*to++ = c;
		else if (to > name && to[-1] != '-')
			*to++ = '-';
	}
	*to = '\0';
	if (to - name > 63)
		name[63] = '\0';
	if (!name_ok(name)) {
		free(name);
		return strdup("project");
	}
	return name;
}

/* Return: whether the bytes are YAML that names the project */
static bool name_in_document(const char *data, size_t size, char **ret)
{
	struct source s = { 0 };
	const yaml_node_t *root, *name;
	yaml_parser_t parser;
	bool found = false;

	if (!yaml_parser_initialize(&parser))
		return false;
	yaml_parser_set_input_string(&parser, (const unsigned char *)data, size);
	if (yaml_parser_load(&parser, &s.doc)) {
		root = yaml_document_get_root_node(&s.doc);
		name = root ? get(&s, root, "name") : NULL;
		if (name && scalar(name) && name_ok(scalar(name))) {
			*ret = strdup(scalar(name));
			found = true;
		}
		yaml_document_delete(&s.doc);
	}
	yaml_parser_delete(&parser);
	return found;
}

int config_peek_name(const char *path, char **ret)
{
	_cleanup_(freep) char *real = realpath(path, NULL), *data = NULL;
	char *at;
	size_t size = 0;
	int r = real ? file_read(AT_FDCWD, real, FILE_MAX, &data, &size) : -errno;

	if (r < 0)
		return r;
	if (name_in_document(data, size, ret))
		return *ret ? 0 : -ENOMEM;
	for (at = data; at; at = strchr(at, '\n')) {
		size_t n;

		at += *at == '\n';
		if (*at == '"')
			at++;
		if (strncmp(at, "name", 4))
			continue;
		at += 4;
		at += *at == '"';
		if (*at++ != ':')
			continue;
		at += strspn(at, " \t\"'");
		n = strcspn(at, " \t\r\n\"',#");
		at[n] = '\0';
		if (!name_ok(at))
			break;
		*ret = strdup(at);
		return *ret ? 0 : -ENOMEM;
	}
	*strrchr(real, '/') = '\0';
	*ret = name_of_folder(real);
	return *ret ? 0 : -ENOMEM;
}

static int finish(struct loader *l, struct config **ret)
{
	int r = 0;

	if (l->n_sources && l->sources[0]->loaded) {
		if (!l->c->name)
			l->c->name = name_of_folder(l->sources[0]->folder);
		if (!l->n_daemons && !problems_any_error(l->problems))
			problems_add(l->problems, false, l->sources[0]->shown, 1, 1, 0, "missing-key", "no daemons are defined",
			    "Add 'daemons:' with at least one");
		check_unused(l);
		for (size_t i = 0; i < l->n_daemons; i++)
			make_daemons(l, &l->daemons[i]);
	}
	for (char **p = l->env_files; p && *p; p++)
		strv_add(&l->c->files, *p);
	snprintf(l->c->digest, sizeof(l->c->digest), "%016" PRIx64, l->digest);
	problems_sort(l->problems);
	if (problems_any_error(l->problems) || !l->n_sources)
		r = -EINVAL;
	for (size_t i = 0; i < l->n_templates; i++)
		free(l->templates[i].name);
	for (size_t i = 0; i < l->n_daemons; i++)
		free(l->daemons[i].name);
	free(l->templates);
	free(l->daemons);
	for (size_t i = 0; i < l->n_sources; i++)
		source_free(l->sources[i]);
	strv_free(l->variables);
	strv_free(l->env_files);
	if (r < 0)
		config_free(l->c);
	else
		*ret = l->c;
	return r;
}

static int begin(struct loader *l, struct config_problems *problems)
{
	*problems = (struct config_problems){ 0 };
	*l = (struct loader){ .problems = problems, .c = calloc(1, sizeof(struct config)) };
	if (!l->c)
		return -ENOMEM;
	return slots_set_defaults(config_slots, l->c);
}

int config_load(const char *path, struct config **ret, struct config_problems *problems)
{
	_cleanup_(freep) char *real = NULL;
	struct loader l;
	int r = begin(&l, problems);

	if (r < 0)
		return r;
	real = realpath(path, NULL);
	if (!real || access(real, R_OK) < 0) {
		char text[256];

		r = -errno;
		snprintf(text, sizeof(text), "cannot be read: %s", strerror(-r));
		problems_add(problems, false, path, 0, 0, 0, "file", text, r == -ENOENT ? "supervise init writes one" : NULL);
		finish(&l, ret);
		return r;
	}
	l.c->path = strdup(real);
	load_file(&l, real, path, NULL, NULL);
	if (!l.n_sources)
		problems_add(problems, false, path, 0, 0, 0, "file", "cannot be read", NULL);
	return finish(&l, ret);
}

int config_load_bytes(const char *data, size_t size, struct config **ret, struct config_problems *problems)
{
	struct source *s;
	struct loader l;
	int r = begin(&l, problems);

	if (r < 0)
		return r;
	l.c->path = strdup("/supervise.yaml");
	s = source_add(&l, "/nonexistent/supervise.yaml", "supervise.yaml", data, size);
	if (s) {
		strv_add(&l.c->files, s->path);
		read_top(&l, s, true);
	}
	return finish(&l, ret);
}

int config_files_digest(const struct config *c, char ret[17])
{
	uint64_t digest = 0;

	for (char **p = c->files; p && *p; p++) {
		_cleanup_(freep) char *data = NULL;
		size_t size;
		int r = file_read(AT_FDCWD, *p, FILE_MAX, &data, &size);

		if (r < 0)
			return r;
		digest += XXH64(data, size, 0);
	}
	snprintf(ret, 17, "%016" PRIx64, digest);
	return 0;
}

const struct daemon_config *config_find(const struct config *c, const char *name)
{
	for (size_t i = 0; i < c->n_daemons; i++)
		if (!strcmp(c->daemons[i].name, name))
			return &c->daemons[i];
	return NULL;
}

int config_make_run(struct config **ret, const char *project, const char *daemon, char *const *argv)
{
	_cleanup_(config_freep) struct config *c = calloc(1, sizeof(*c));
	char cwd[PATH_MAX];
	struct daemon_config *d;
	int r;

	if (!c)
		return -ENOMEM;
	r = slots_set_defaults(config_slots, c);
	if (r < 0)
		return r;
	c->transient = true;
	c->name = strdup(project);
	c->path = strdup("");
	c->files = calloc(1, sizeof(*c->files));
	snprintf(c->digest, sizeof(c->digest), "%016d", 0);
	if (!c->name || !c->path || !c->files)
		return -ENOMEM;
	if (daemon) {
		d = daemon_add(c);
		if (!d)
			return -ENOMEM;
		d->name = strdup(daemon);
		d->base = strdup(daemon);
		d->command = strv_dup(argv);
		d->directory = strdup(getcwd(cwd, sizeof(cwd)) ? cwd : "/");
		if (!d->name || !d->base || !d->command || !d->directory)
			return -ENOMEM;
		d->restart.policy = RESTART_NEVER;
		d->logging.level = LEVEL_DEBUG;
		d->network = on_network(d->directory, d->command[0]);
		make_digest(d);
	}
	*ret = TAKE_PTR(c);
	return 0;
}
