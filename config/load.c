/* SPDX-License-Identifier: Apache-2.0 */
/*
 * From files to a configuration.
 *
 * Everything is read first (the main file, its env files, what it includes). Then each layer (defaults,
 * templates, daemons) is checked by itself, so that a mistake is told once, where it is written. Then every
 * daemon is put together: built-in defaults, `defaults`, its templates from the root down, its own keys, each
 * layer laid over what is there. That second walk is silent about what the first has told.
 *
 * Aliases let a small file stand for a huge one, since libyaml shares the nodes: all walking is counted and
 * bounded.
 */
#include "config/load.h"

#include <errno.h>
#include <fcntl.h>
#include <glob.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <xxhash.h>

#include "base/file.h"
#include "base/text.h"
#include "config/expand.h"
#include "config/schema.h"
#include "config/source.h"

enum {
	FILE_BYTES_MAX = 4 << 20,
	FILES_MAX = 1000,
	INCLUDE_DEPTH_MAX = 16,
	MERGE_DEPTH_MAX = 16,
	DAEMONS_MAX = 10000,
	ENVIRONMENT_MAX = 2000,
	CHAIN_MAX = 64, /* templates of one daemon, itself counted */
	VISITS_MAX = 3000000,
	TEXT_BYTES_MAX = 64 << 20,
	ENV_FILE_ORDER = 1 << 20, /* env files come behind all others */
};

struct var_list {
	char **items; /* "KEY=VALUE", NULL-terminated once there is one */
	size_t n, room;
	uint32_t
	    *slots; /* 2 * room of them, a power of two: 1 + position in items by hash of the key; 0: free */
};

struct env_file {
	char *path, *shown;
	char *data;
	size_t size;
	bool there;
	struct var_list vars;
	unsigned order;
	struct loader *loader; /* while it is parsed */
};

/* A template or a daemon as it stands in a file. */
struct entry {
	char *name;
	struct source *source;
	yaml_node_t *key, *value;
	struct entry *parent; /* the template it extends; resolved by link_entry() */
	enum { ENTRY_NEW = 0, ENTRY_WALKING, ENTRY_LINKED, ENTRY_BROKEN } state;
};

struct entry_list {
	struct entry *items;
	size_t n, room;
};

struct origin {
	dev_t dev;
	ino_t ino;
	struct source *by; /* the source that includes it; NULL for the main file */
	struct span at;
};

struct loader {
	struct config *config;
	struct findings f;
	struct source **sources;
	struct origin *origins; /* of each source */
	size_t n_sources;
	struct env_file **env_files;
	size_t n_env_files;
	struct var_list vars; /* of the top-level env_file */
	char *const *environ_;
	struct entry_list templates, daemons;
	struct source *defaults_source;
	yaml_node_t *defaults;
	char *shown_folder; /* of the main file as people are told, with its slash, or "" */
	bool sealed;        /* no other files */
	bool failed;        /* memory ran out */
	bool stop;          /* a bound was passed and told */
	size_t visits, text_bytes;
};

/* A daemon while its layers are laid over each other. */
struct assembly {
	struct draft draft; /* first: fields of keys_daemon are offsets into it */
	struct var_list environment;
	struct source *command_source, *env_source;
	yaml_node_t *command, *env_files;
};

struct walk {
	struct loader *l;
	struct source *s;
	const char *owner; /* "daemon 'ingest'"; NULL at the top level */
	bool main;         /* the main file */
	bool defaults;     /* under `defaults` */
	int instance;
};

struct pair {
	const char *name; /* borrowed from the key */
	yaml_node_t *key, *value;
};

struct pair_list {
	struct pair *items;
	size_t n;
};

bool config_name_ok(const char *name)
{
	size_t n = strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789_.-");

	return n >= 1 && n <= 63 && !name[n] && !strchr("_.-", name[0]);
}

/* ---- small things ---- */

static void vars_free(struct var_list *v)
{
	for (size_t i = 0; i < v->n; i++)
		free(v->items[i]);
	free(v->items);
	free(v->slots);
	*v = (struct var_list){ 0 };
}

/* The slot of a key: its own, or the free one where it belongs. There must be slots. */
static uint32_t *vars_slot(const struct var_list *v, const char *name, size_t size)
{
	size_t mask = v->room * 2 - 1, i = XXH3_64bits(name, size) & mask;

	while (v->slots[i] &&
	       (strncmp(v->items[v->slots[i] - 1], name, size) || v->items[v->slots[i] - 1][size] != '='))
		i = (i + 1) & mask;
	return &v->slots[i];
}

static const char *vars_get(const struct var_list *v, const char *name)
{
	size_t n = strlen(name);
	uint32_t *slot = v->room ? vars_slot(v, name, n) : NULL;

	return slot && *slot ? v->items[*slot - 1] + n + 1 : NULL;
}

static int vars_grow(struct var_list *v)
{
	size_t room = v->room ? v->room * 2 : 8;
	char **items = realloc(v->items, (room + 1) * sizeof(*items));
	uint32_t *slots = calloc(room * 2, sizeof(*slots));

	if (items)
		v->items = items;
	if (!items || !slots) {
		free(slots);
		return -ENOMEM;
	}
	free(v->slots);
	v->slots = slots;
	v->room = room;
	for (size_t i = 0; i < v->n; i++)
		*vars_slot(v, v->items[i], strcspn(v->items[i], "=")) = (uint32_t)i + 1;
	return 0;
}

/* Sets or replaces. Return: 0 or -ENOMEM */
static int vars_set(struct var_list *v, const char *name, size_t size, const char *value)
{
	uint32_t *slot;
	char *item;

	if (v->n == v->room && vars_grow(v) < 0)
		return -ENOMEM;
	if (asprintf(&item, "%.*s=%s", (int)size, name, value) < 0)
		return -ENOMEM;
	slot = vars_slot(v, name, size);
	if (*slot) {
		free(v->items[*slot - 1]);
		v->items[*slot - 1] = item;
		return 0;
	}
	v->items[v->n++] = item;
	v->items[v->n] = NULL;
	*slot = (uint32_t)v->n;
	return 0;
}

/* Lays @from over @v. Return: 0 or -ENOMEM */
static int vars_lay(struct var_list *v, const struct var_list *from)
{
	for (size_t i = 0; i < from->n; i++) {
		size_t n = strcspn(from->items[i], "=");

		if (vars_set(v, from->items[i], n, from->items[i] + n + 1) < 0)
			return -ENOMEM;
	}
	return 0;
}

static void tell(const struct walk *w, const yaml_node_t *at, const char *code, const char *hint,
    const char *fmt, ...) __attribute__((format(printf, 5, 6)));

static void tell(
    const struct walk *w, const yaml_node_t *at, const char *code, const char *hint, const char *fmt, ...)
{
	struct note n = { .at = source_span(w->s, at), .code = code, .hint = hint };
	va_list ap;

	va_start(ap, fmt);
	findings_addv(&w->l->f, w->s, &n, fmt, ap);
	va_end(ap);
}

/* Of the line, nothing behind the place is shown: what stands there may be a variable that slipped out of its
 * map. */
static void tell_cut(const struct walk *w, const yaml_node_t *at, const char *code, const char *hint,
    const char *fmt, ...) __attribute__((format(printf, 5, 6)));

static void tell_cut(
    const struct walk *w, const yaml_node_t *at, const char *code, const char *hint, const char *fmt, ...)
{
	struct note n = { .at = source_span(w->s, at), .code = code, .hint = hint, .cut = true };
	va_list ap;

	va_start(ap, fmt);
	findings_addv(&w->l->f, w->s, &n, fmt, ap);
	va_end(ap);
}

static void warn(const struct walk *w, const yaml_node_t *at, const char *code, const char *hint,
    const char *fmt, ...) __attribute__((format(printf, 5, 6)));

static void warn(
    const struct walk *w, const yaml_node_t *at, const char *code, const char *hint, const char *fmt, ...)
{
	struct note n = { .at = source_span(w->s, at), .code = code, .hint = hint, .warning = true };
	va_list ap;

	va_start(ap, fmt);
	findings_addv(&w->l->f, w->s, &n, fmt, ap);
	va_end(ap);
}

/* Counts a step of walking. Return: false when there were too many, which is told once */
static bool step(const struct walk *w, const yaml_node_t *at, size_t n)
{
	struct loader *l = w->l;

	if (l->stop)
		return false;
	l->visits += n;
	if (l->visits <= VISITS_MAX && l->text_bytes <= TEXT_BYTES_MAX)
		return true;
	l->stop = true;
	l->f.quiet = false;
	tell(w, at, "too-large", NULL,
	    "written out, the aliases, templates and instances of this configuration are too much");
	return false;
}

/* "'restart.delay' in daemon 'ingest'" */
static const char *subject(const struct walk *w, const char *path, char *buf, size_t size)
{
	if (w->owner)
		snprintf(buf, size, "'%s' in %s", path, w->owner);
	else
		snprintf(buf, size, "'%s'", path);
	return buf;
}

/* What the file says, short enough for a message. */
static const char *quote(const yaml_node_t *n, char *buf, size_t size)
{
	size_t keep =
	    utf8_valid_prefix(n->data.scalar.value, n->data.scalar.length > 60 ? 60 : n->data.scalar.length);

	snprintf(buf, size, "'%.*s%s'", (int)keep, (const char *)n->data.scalar.value,
	    keep < n->data.scalar.length ? "..." : "");
	return buf;
}

static bool is_quoted(const yaml_node_t *n)
{
	return n->data.scalar.style != YAML_PLAIN_SCALAR_STYLE;
}

static bool is_nothing(const yaml_node_t *n)
{
	const char *v;

	if (n->type != YAML_SCALAR_NODE || is_quoted(n))
		return false;
	v = (const char *)n->data.scalar.value;
	return !*v || !strcmp(v, "~") || !strcmp(v, "null") || !strcmp(v, "Null") || !strcmp(v, "NULL");
}

/* "not a list", for a value that should be something else. */
static const char *instead(const yaml_node_t *n)
{
	return n->type == YAML_SEQUENCE_NODE  ? "a list"
	       : n->type == YAML_MAPPING_NODE ? "a map"
					      : "a single value";
}

/* A custom tag means nothing to us. */
static bool tag_ok(const struct walk *w, const yaml_node_t *n)
{
	static const char *const known[] = { "str", "int", "float", "bool", "null", "seq", "map" };
	static const char core[] = "tag:yaml.org,2002:";
	const char *tag = (const char *)n->tag;

	if (!tag)
		return true;
	for (size_t i = 0; i < ARRAY_SIZE(known); i++)
		if (!strncmp(tag, core, sizeof(core) - 1) && !strcmp(tag + sizeof(core) - 1, known[i]))
			return true;
	tell(w, n, "tag", "Leave it out.", "tags such as '%.60s' mean nothing here", tag);
	return false;
}

static void tell_type(const struct walk *w, const yaml_node_t *n, const char *name, const char *expects)
{
	if (is_nothing(n)) {
		bool word = n->data.scalar.length > 0;

		tell(w, n, "type",
		    word ? "Put it in quotes if it is a text." : "Give it one, or leave the key out.",
		    word ? "%s is '%s', which is nothing in YAML" : "%s has no value%s", name,
		    word ? (const char *)n->data.scalar.value : "");
	} else
		tell(w, n, "type", NULL, "%s expects %s, not %s", name, expects, instead(n));
}

static const char *lookup(void *userdata, const char *name)
{
	struct loader *l = userdata;
	const char *v = vars_get(&l->vars, name);
	size_t n = strlen(name);

	for (char *const *p = l->environ_; !v && p && *p; p++)
		if (!strncmp(*p, name, n) && (*p)[n] == '=')
			v = *p + n + 1;
	return v;
}

/* Expands a part of a scalar. @ret is the caller's. Return: whether it did; if not, it was told */
static bool expand_part(
    const struct walk *w, const yaml_node_t *n, const char *in, char **ret, bool *variable)
{
	struct expansion x = { .lookup = lookup, .userdata = w->l, .instance = w->instance };
	_cleanup_text_ struct text out = { 0 };
	char *p;

	if (expand_text(&x, in, strlen(in), &out)) {
		struct note note = { .at = source_span(w->s, n), .code = "variable", .hint = x.hint };

		findings_add(&w->l->f, w->s, &note, "%s", x.what);
		return false;
	}
	w->l->text_bytes += out.size;
	p = text_take(&out);
	if (!p) {
		w->l->failed = true;
		return false;
	}
	if (variable)
		*variable = x.used_variable;
	*ret = p;
	return true;
}

/* The scalar @n with its variables replaced. @name: for messages. Return: whether there is one; if not, it
 * was told */
static bool get_text(const struct walk *w, const yaml_node_t *n, const char *name, const char *expects,
    char **ret, bool *variable)
{
	if (!step(w, n, 1))
		return false;
	if (n->type != YAML_SCALAR_NODE || is_nothing(n)) {
		tell_type(w, n, name, expects);
		return false;
	}
	if (!tag_ok(w, n))
		return false;
	if (strlen((const char *)n->data.scalar.value) != n->data.scalar.length) {
		tell(w, n, "value", NULL, "%s holds a NUL byte", name);
		return false;
	}
	return expand_part(w, n, (const char *)n->data.scalar.value, ret, variable);
}

/* "~/x" and "x" made absolute against @folder. NULL: no memory */
static char *resolve_path(const struct walk *w, const char *path)
{
	const char *home = NULL, *base = w->s->folder;
	char *r;

	if (path[0] == '~' && (path[1] == '/' || !path[1]))
		home = lookup(w->l, "HOME");
	if (home && home[0] == '/' && utf8_valid_prefix(home, strlen(home)) == strlen(home)) {
		base = home;
		path += path[1] ? 2 : 1;
	}
	while (path[0] == '.' && path[1] == '/')
		path += 2;
	if (!strcmp(path, "."))
		path++;
	if (path[0] == '/')
		r = strdup(path);
	else if (asprintf(&r, "%s%s%s", base, *path && strcmp(base, "/") ? "/" : "", path) < 0)
		r = NULL;
	if (!r)
		w->l->failed = true;
	return r;
}

/* ---- maps ---- */

static int by_name(const void *a, const void *b)
{
	const struct pair *x = a, *y = b;
	int r = strcmp(x->name, y->name);

	return r ? r : x->key < y->key ? -1 : x->key > y->key;
}

static int by_position(const void *a, const void *b)
{
	const struct pair *x = a, *y = b;

	return x->key->start_mark.index < y->key->start_mark.index
		   ? -1
		   : x->key->start_mark.index > y->key->start_mark.index;
}

static void pairs_free(struct pair_list *p)
{
	free(p->items);
	*p = (struct pair_list){ 0 };
}

static bool pairs_add(
    const struct walk *w, struct pair_list *list, const yaml_node_t *map, unsigned depth, bool own);

/* What `<<` stands for: a map, or a list of maps. */
static bool pairs_merge(const struct walk *w, struct pair_list *list, const yaml_node_t *n, unsigned depth)
{
	if (depth > MERGE_DEPTH_MAX) {
		tell(w, n, "merge", NULL, "merge keys are nested more than %d deep, or without end",
		    MERGE_DEPTH_MAX);
		return true;
	}
	if (n->type == YAML_MAPPING_NODE)
		return pairs_add(w, list, n, depth, false);
	if (n->type == YAML_SEQUENCE_NODE) {
		for (yaml_node_item_t *i = n->data.sequence.items.start; i < n->data.sequence.items.top;
		     i++) {
			const yaml_node_t *item = source_node(w->s, *i);

			if (!item || item->type != YAML_MAPPING_NODE)
				goto bad;
			if (!pairs_add(w, list, item, depth, false))
				return false;
		}
		return true;
	}
bad:
	tell(w, n, "merge", NULL, "the merge key '<<' takes a map or a list of maps, not %s",
	    n->type == YAML_SEQUENCE_NODE ? "a list of other things" : instead(n));
	return true;
}

static bool has_name(const struct pair_list *list, size_t n, const char *name)
{
	for (size_t i = 0; i < n; i++)
		if (!strcmp(list->items[i].name, name))
			return true;
	return false;
}

static bool pairs_add(
    const struct walk *w, struct pair_list *list, const yaml_node_t *map, unsigned depth, bool own)
{
	size_t n = (size_t)(map->data.mapping.pairs.top - map->data.mapping.pairs.start), before = list->n;
	struct pair *p;

	if (!step(w, map, n + 1))
		return false;
	p = realloc(list->items, (list->n + n + 1) * sizeof(*p));
	if (!p) {
		w->l->failed = true;
		return false;
	}
	list->items = p;
	for (yaml_node_pair_t *i = map->data.mapping.pairs.start; i < map->data.mapping.pairs.top; i++) {
		yaml_node_t *key = source_node(w->s, i->key), *value = source_node(w->s, i->value);
		const char *name;

		if (!key || !value)
			continue;
		if (key->type != YAML_SCALAR_NODE) {
			tell(w, key, "type", NULL, "a key is a single word, not %s", instead(key));
			continue;
		}
		name = (const char *)key->data.scalar.value;
		if (strlen(name) != key->data.scalar.length || !*name) {
			tell(w, key, "type", NULL, "a key must not %s",
			    *name ? "hold a NUL byte" : "be empty");
			continue;
		}
		if (!strcmp(name, "<<") && !is_quoted(key))
			continue;
		/* the first to say a name wins: the map itself before what is merged, the first merged before
		 * the next */
		if (!own) {
			if (!step(w, map, before / 16 + 1))
				return false;
			if (has_name(list, before, name))
				continue;
		}
		list->items[list->n++] = (struct pair){ name, key, value };
	}
	if (own && list->n > 1) {
		size_t kept = 0;

		qsort(list->items, list->n, sizeof(*p), by_name);
		for (size_t i = 0; i < list->n; i++) {
			if (kept && !strcmp(list->items[kept - 1].name, list->items[i].name)) {
				tell(w, list->items[i].key, "duplicate-key", NULL,
				    "key '%.80s' is given twice; first in line %u", list->items[i].name,
				    source_span(w->s, list->items[kept - 1].key).line);
				continue;
			}
			list->items[kept++] = list->items[i];
		}
		list->n = kept;
		qsort(list->items, list->n, sizeof(*p), by_position);
	}
	for (yaml_node_pair_t *i = map->data.mapping.pairs.start; i < map->data.mapping.pairs.top; i++) {
		const yaml_node_t *key = source_node(w->s, i->key), *value = source_node(w->s, i->value);

		if (key && value && key->type == YAML_SCALAR_NODE && !is_quoted(key) &&
		    !strcmp((const char *)key->data.scalar.value, "<<") &&
		    !pairs_merge(w, list, value, depth + 1))
			return false;
	}
	return true;
}

/* The keys and values of a map, merge keys worked in. Return: whether @n is a map; if not, it was told */
static bool get_pairs(
    const struct walk *w, const yaml_node_t *n, const char *name, const char *expects, struct pair_list *ret)
{
	struct pair_list list = { 0 };

	if (n->type != YAML_MAPPING_NODE) {
		tell_type(w, n, name, expects);
		return false;
	}
	if (!tag_ok(w, n) || !pairs_add(w, &list, n, 0, true)) {
		pairs_free(&list);
		return false;
	}
	*ret = list;
	return true;
}

/* ---- keys ---- */

static void tell_unknown(const struct walk *w, const struct key *keys, const struct pair *p, const char *path)
{
	const struct key *k = NULL, *home = NULL;
	struct note n = { .at = source_span(w->s, p->key), .code = "unknown-key" };
	char where[256] = " at the top level", hint[200] = "";
	bool shouting = false;

	for (const char *c = p->name; *c; c++)
		shouting |= *c >= 'A' && *c <= 'Z';
	if (w->owner)
		snprintf(where, sizeof(where), path ? " in '%s' of %s" : " in %s%s", path ? path : w->owner,
		    path ? w->owner : "");
	else if (path)
		snprintf(where, sizeof(where), " in '%s'", path);
	if (w->owner && !path)
		home = schema_home(keys_daemon, p->name);
	if (home)
		snprintf(hint, sizeof(hint), "It belongs in '%s'.", home->name);
	else if (w->owner && path && schema_find(keys_daemon, p->name))
		snprintf(hint, sizeof(hint), "It belongs beside '%.*s', not in it; check the indentation.",
		    (int)strcspn(path, "."), path);
	else if (w->owner && schema_find(keys_file, p->name))
		snprintf(hint, sizeof(hint), "It belongs at the top level; check the indentation.");
	else if (!w->owner && !path && schema_find(keys_daemon, p->name))
		snprintf(
		    hint, sizeof(hint), "It belongs in a daemon or in 'defaults'; check the indentation.");
	else if (w->owner && !path && !strcmp(p->name, "user"))
		snprintf(hint, sizeof(hint), "Every daemon runs as the user who runs supervise.");
	else {
		k = schema_suggest(keys, p->name);
		if (k)
			snprintf(hint, sizeof(hint), "Did you mean '%s'?%s", k->name,
			    k->flags & KEY_LATER ? " It is not supported yet." : "");
	}
	/* what stands behind an unknown word may be a secret: a variable outside its map */
	n.cut = shouting || !hint[0] || (k && k->slot == SLOT_ENVIRONMENT);
	n.hint = hint;
	findings_add(&w->l->f, w->s, &n, "unknown key '%.80s'%s", p->name, where);
	if (p->value->type != YAML_SCALAR_NODE || p->value->end_mark.line != p->value->start_mark.line)
		source_hide(w->s, p->value);
}

static void walk_key(const struct walk *w, const struct key *k, yaml_node_t *n, void *base, const char *path);

static void walk_map(const struct walk *w, const struct key *keys, const yaml_node_t *n, void *base,
    const char *path, const char *name, const char *expects)
{
	struct pair_list pairs;

	if (!get_pairs(w, n, name, expects, &pairs))
		return;
	for (size_t i = 0; i < pairs.n && !w->l->stop; i++) {
		const struct pair *p = &pairs.items[i];
		const struct key *k = schema_find(keys, p->name);
		char deeper[128], buf[256];

		snprintf(
		    deeper, sizeof(deeper), "%s%s%s", path ? path : "", path ? "." : "", k ? k->name : "");
		if (!k)
			tell_unknown(w, keys, p, path);
		else if (k->flags & KEY_LATER) {
			if (!strcmp(k->name, "url"))
				source_hide(w->s, p->value); /* it often holds a password */
			tell(w, p->key, "not-supported-yet", "Leave it out for now.",
			    "%s is not supported yet", subject(w, deeper, buf, sizeof(buf)));
		} else if (w->defaults && (k->flags & KEY_NO_DEFAULT))
			tell(w, p->key, "place", "It belongs in a daemon or a template.",
			    "'%s' means nothing in 'defaults'", k->name);
		else
			walk_key(w, k, p->value, base, deeper);
	}
	pairs_free(&pairs);
}

static void tell_complaint(
    const struct walk *w, const yaml_node_t *n, const struct complaint *c, const char *name, bool variable)
{
	char buf[96];

	if (c->later) {
		tell(w, n, "not-supported-yet", c->hint, "%s: %s", name, c->what);
		return;
	}
	tell(w, n, "value", c->hint, "%s %s%s%s%s", name, c->what, variable ? "; " : ", not ",
	    quote(n, buf, sizeof(buf)), variable ? " does not come to that" : "");
}

/* A list of single values, or one of them. */
static void walk_set(
    const struct walk *w, const struct key *k, const yaml_node_t *n, void *field, const char *name)
{
	_Alignas(uint64_t) uint8_t set[32] = { 0 };
	size_t size = k->slot == SLOT_CODES ? sizeof(set) : sizeof(uint64_t);
	size_t count = n->type == YAML_SEQUENCE_NODE
			   ? (size_t)(n->data.sequence.items.top - n->data.sequence.items.start)
			   : 1;
	char buf[160];
	bool ok = true;

	if (n->type == YAML_MAPPING_NODE) {
		tell_type(w, n, name, slot_expects(k, buf, sizeof(buf)));
		return;
	}
	for (size_t i = 0; i < count; i++) {
		const yaml_node_t *item =
		    n->type == YAML_SEQUENCE_NODE ? source_node(w->s, n->data.sequence.items.start[i]) : n;
		_cleanup_(freep) char *text = NULL;
		struct complaint c;
		bool variable = false;

		if (!item || !get_text(w, item, name, slot_expects(k, buf, sizeof(buf)), &text, &variable)) {
			ok = false;
			continue;
		}
		if (slot_set(k, text, set, &c)) {
			tell_complaint(w, item, &c, name, variable);
			ok = false;
		} else if (!strcmp(text, "all") && count > 1) {
			tell(w, item, "value", "Write it without the list.", "'all' is not one of several");
			ok = false;
		}
	}
	if (ok)
		memcpy(field, set, size);
}

static bool get_limit(
    const struct walk *w, const struct key *k, const yaml_node_t *n, const char *name, rlim_t *ret)
{
	_cleanup_(freep) char *text = NULL;
	bool variable = false;
	struct complaint c;
	char buf[160];

	if (!get_text(w, n, name, slot_expects(k, buf, sizeof(buf)), &text, &variable))
		return false;
	if (!slot_limit(k, text, ret, &c))
		return true;
	tell_complaint(w, n, &c, name, variable);
	return false;
}

static void walk_limit(const struct walk *w, const struct key *k, const yaml_node_t *n,
    struct daemon_config *d, const char *name)
{
	struct limit_config x = { .resource = (int)k->min }, *p;

	if (n->type == YAML_MAPPING_NODE) {
		struct pair_list pairs;
		bool soft = false, hard = false, ok = true;

		if (!get_pairs(w, n, name, "a map", &pairs))
			return;
		for (size_t i = 0; i < pairs.n; i++) {
			const struct pair *q = &pairs.items[i];
			bool is_soft = !strcmp(q->name, "soft");

			if (!is_soft && strcmp(q->name, "hard")) {
				tell_unknown(w, keys_limit, q, "limits");
				ok = false;
				continue;
			}
			if (is_soft)
				soft = true;
			else
				hard = true;
			if (!get_limit(w, k, q->value, name, is_soft ? &x.soft : &x.hard))
				ok = false;
		}
		pairs_free(&pairs);
		if (ok && (!soft || !hard)) {
			tell(w, n, "missing-key", NULL, "%s needs both 'soft' and 'hard'", name);
			ok = false;
		}
		if (ok && x.soft > x.hard) {
			tell(w, n, "value", NULL, "%s has a soft limit above the hard one", name);
			ok = false;
		}
		if (!ok)
			return;
	} else if (!get_limit(w, k, n, name, &x.soft))
		return;
	else
		x.hard = x.soft;
	for (size_t i = 0; i < d->n_limits; i++)
		if (d->limits[i].resource == x.resource) {
			d->limits[i] = x;
			return;
		}
	p = realloc(d->limits, (d->n_limits + 1) * sizeof(*p));
	if (!p) {
		w->l->failed = true;
		return;
	}
	d->limits = p;
	d->limits[d->n_limits++] = x;
}

static void walk_environment(const struct walk *w, const yaml_node_t *n, struct var_list *v, const char *name)
{
	struct pair_list pairs;

	if (!get_pairs(w, n, name, "a map such as {KEY: value}", &pairs))
		return;
	for (size_t i = 0; i < pairs.n && !w->l->stop; i++) {
		const struct pair *p = &pairs.items[i];
		_cleanup_(freep) char *text = NULL;
		char what[200];

		if (!env_name_ok(p->name)) {
			tell(w, p->key, "name", "Letters, digits and '_' make one, and no digit is first.",
			    "'%.80s' is no name of a variable", p->name);
			continue;
		}
		snprintf(what, sizeof(what), "variable '%.80s'", p->name);
		if (is_nothing(p->value) && !p->value->data.scalar.length) {
			tell(w, p->key, "type", "Write \"\" for an empty text.", "%s has no value", what);
			continue;
		}
		if (!get_text(w, p->value, what, "a text", &text, NULL))
			continue;
		if (v->n >= ENVIRONMENT_MAX) {
			tell(w, p->key, "too-large", NULL, "more than %d variables", ENVIRONMENT_MAX);
			break;
		}
		if (vars_set(v, p->name, strlen(p->name), text) < 0)
			w->l->failed = true;
	}
	pairs_free(&pairs);
}

/* ---- env files ---- */

static void env_file_free(struct env_file *e)
{
	vars_free(&e->vars);
	free(e->path);
	free(e->shown);
	free(e->data);
	free(e);
}

static int on_env_line(void *userdata, const char *key, const char *value)
{
	struct env_file *e = userdata;

	if (e->vars.n >= ENVIRONMENT_MAX) {
		findings_add_file(&e->loader->f, e->shown, e->order, 0, "too-large", "more than %d variables",
		    ENVIRONMENT_MAX);
		return 1;
	}
	return vars_set(&e->vars, key, strlen(key), value);
}

static void on_env_wrong(void *userdata, unsigned line, const char *what)
{
	struct env_file *e = userdata;

	findings_add_file(&e->loader->f, e->shown, e->order, line, "env-file", "%s", what);
}

/* How people are told of a file: beside the main file, the way they named that. NULL: no memory */
static char *shown_name(struct loader *l, const char *path)
{
	const char *folder = l->n_sources ? l->sources[0]->folder : "/";
	size_t n = strlen(folder);
	char *r;

	if (!strcmp(folder, "/") || strncmp(path, folder, n) || path[n] != '/')
		r = strdup(path);
	else if (asprintf(&r, "%s%s", l->shown_folder, path + n + 1) < 0)
		r = NULL;
	if (!r)
		l->failed = true;
	return r;
}

/* A regular file, whole. Return: 0 or -errno */
static int read_regular(struct loader *l, const char *path, char **ret, size_t *ret_size, struct stat *ret_st)
{
	_cleanup_(closep) int fd = -1;
	char proc[48];

	if (l->sealed)
		return -EACCES;
	/* a FIFO in its place must not make us wait */
	fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
	if (fd < 0)
		return -errno;
	if (fstat(fd, ret_st) < 0)
		return -errno;
	if (S_ISDIR(ret_st->st_mode))
		return -EISDIR;
	if (!S_ISREG(ret_st->st_mode))
		return -ENOTSUP;
	snprintf(proc, sizeof(proc), "/proc/self/fd/%d", fd);
	return file_read(AT_FDCWD, proc, FILE_BYTES_MAX, ret, ret_size);
}

static const char *why_not(int r)
{
	return r == -EILSEQ    ? "its path is not UTF-8"
	       : r == -ENOTSUP ? "it is no regular file"
	       : r == -EFBIG   ? "it is larger than 4 MiB"
			       : strerror(-r);
}

/* About an env file, also while the layers are laid over each other: only then it is looked for. */
static void tell_env_file(const struct walk *w, const yaml_node_t *n, const char *shown, int r)
{
	bool quiet = w->l->f.quiet;

	w->l->f.quiet = false;
	if (r == -ENOENT)
		tell(w, n, "file", "If it may be missing, write {path: ..., optional: true}.",
		    "env file %s does not exist", shown);
	else
		tell(w, n, "file", NULL, "cannot read env file %s: %s", shown, why_not(r));
	w->l->f.quiet = quiet;
}

/* The file, from the cache or read now. NULL: it cannot be read, which is told, or is missing and may be */
static struct env_file *get_env_file(
    const struct walk *w, const yaml_node_t *n, char *path_taken, bool optional)
{
	_cleanup_(freep) char *path = path_taken;
	struct loader *l = w->l;
	struct env_file *e = NULL, **p;
	struct stat st;
	int r;

	for (size_t i = 0; i < l->n_env_files; i++)
		if (!strcmp(l->env_files[i]->path, path)) {
			e = l->env_files[i];
			goto have;
		}
	if (l->n_env_files >= FILES_MAX) {
		tell(w, n, "too-large", NULL, "more than %d env files", FILES_MAX);
		return NULL;
	}
	e = calloc(1, sizeof(*e));
	p = realloc(l->env_files, (l->n_env_files + 1) * sizeof(*p));
	if (p)
		l->env_files = p;
	if (!e || !p) {
		free(e);
		l->failed = true;
		return NULL;
	}
	l->env_files[l->n_env_files++] = e;
	e->order = ENV_FILE_ORDER + (unsigned)l->n_env_files;
	e->shown = shown_name(l, path);
	e->path = TAKE_PTR(path);
	if (!e->shown)
		return NULL;
	r = read_regular(l, e->path, &e->data, &e->size, &st);
	if (r == -ENOMEM)
		l->failed = true;
	if (r < 0 && r != -ENOENT)
		tell_env_file(w, n, e->shown, r);
	e->there = !r || r != -ENOENT;
	if (!r) {
		e->loader = l;
		if (env_file_parse(e->data, e->size, on_env_line, on_env_wrong, e) == -ENOMEM)
			l->failed = true;
	}
have:
	if (!e->there && !optional)
		tell_env_file(w, n, e->shown, -ENOENT);
	return e->data ? e : NULL;
}

/* One item of env_file. @ret NULL: only check it */
static void walk_env_file(const struct walk *w, const yaml_node_t *n, struct var_list *ret, const char *name)
{
	const yaml_node_t *at = n;
	_cleanup_(freep) char *text = NULL;
	bool optional = false;
	struct env_file *e;
	char *path;

	if (n->type == YAML_MAPPING_NODE) {
		struct pair_list pairs;
		bool ok = true;

		if (!get_pairs(w, n, name, "a map", &pairs))
			return;
		for (size_t i = 0; i < pairs.n; i++) {
			const struct pair *p = &pairs.items[i];

			if (!strcmp(p->name, "path")) {
				at = p->value;
				ok = get_text(w, p->value, name, "a path", &text, NULL) && ok;
			} else if (!strcmp(p->name, "optional"))
				walk_key(
				    w, schema_find(keys_env_file, "optional"), p->value, &optional, name);
			else {
				tell_unknown(w, keys_env_file, p, "env_file");
				ok = false;
			}
		}
		pairs_free(&pairs);
		if (!ok)
			return;
		if (!text) {
			tell(w, n, "missing-key", NULL, "%s needs a 'path'", name);
			return;
		}
	} else if (!get_text(w, n, name, "a path, a map {path, optional}, or a list of these", &text, NULL))
		return;
	if (!*text) {
		tell(w, at, "value", NULL, "%s names no file: the text is empty", name);
		return;
	}
	if (!ret)
		return;
	path = resolve_path(w, text);
	e = path ? get_env_file(w, at, path, optional) : NULL;
	for (size_t i = 0; e && i < e->vars.n; i++)
		w->l->text_bytes += strlen(e->vars.items[i]);
	if (e && step(w, at, e->vars.n) && vars_lay(ret, &e->vars) < 0)
		w->l->failed = true;
}

static void walk_env_files(const struct walk *w, const yaml_node_t *n, struct var_list *ret, const char *name)
{
	if (n->type != YAML_SEQUENCE_NODE) {
		walk_env_file(w, n, ret, name);
		return;
	}
	for (yaml_node_item_t *i = n->data.sequence.items.start;
	     i < n->data.sequence.items.top && !w->l->stop; i++)
		if (step(w, n, 1))
			walk_env_file(w, source_node(w->s, *i), ret, name);
}

/* ---- commands ---- */

static bool add_word(const struct walk *w, struct daemon_config *d, size_t *n, char *word)
{
	char **p = realloc(d->command, (*n + 2) * sizeof(*p));

	if (!p || !word) {
		if (p)
			d->command = p;
		free(word);
		w->l->failed = true;
		return false;
	}
	p[(*n)++] = word;
	p[*n] = NULL;
	d->command = p;
	return true;
}

/* Fills d->command. What is wrong is told; there is no command then. */
static void make_command(const struct walk *w, const yaml_node_t *node, bool shell, struct daemon_config *d)
{
	static const char name[] = "'command'"; /* of a template, perhaps: said once, whoever extends it */
	size_t n = 0;

	if (node->type == YAML_SEQUENCE_NODE) {
		if (shell) {
			tell(w, node, "type", "Write the command as one text.",
			    "with 'shell: true', %s expects a text, not a list", name);
			return;
		}
		for (yaml_node_item_t *i = node->data.sequence.items.start; i < node->data.sequence.items.top;
		     i++) {
			char *word;

			if (!get_text(w, source_node(w->s, *i), name, "words", &word, NULL) ||
			    !add_word(w, d, &n, word))
				return;
		}
	} else {
		_cleanup_(freep) char *text = NULL;
		struct word_list words = { 0 };
		size_t open;
		int r;

		if (!get_text(w, node, name, "a list of words or a text", &text, NULL))
			return;
		if (shell) {
			if (add_word(w, d, &n, strdup("/bin/sh")) && add_word(w, d, &n, strdup("-c")))
				add_word(w, d, &n, TAKE_PTR(text));
			return;
		}
		r = words_split((const char *)node->data.scalar.value, &words, &open);
		if (r < 0)
			w->l->failed = true;
		else if (r > 0)
			tell(w, node, "value", NULL,
			    "the quote or backslash at character %zu of the command is never closed",
			    open + 1);
		for (size_t i = 0; i < words.n; i++) {
			char *word;

			if (words.items[i].operator)
				warn(w, node, "shell-syntax",
				    "Add 'shell: true', or quote it if the program wants it.",
				    "no shell runs this command: '%.10s' is given to the program as a word",
				    words.items[i].text);
			if (!expand_part(w, node, words.items[i].text, &word, NULL) ||
			    !add_word(w, d, &n, word))
				break;
		}
		words_free(&words);
		if (r)
			return;
	}
	if (!n || !d->command[0][0])
		tell(w, node, "value", NULL, "%s names no program", name);
}

/* ---- one key ---- */

static void walk_key(const struct walk *w, const struct key *k, yaml_node_t *n, void *base, const char *path)
{
	void *field = key_field(k, base);
	_cleanup_(freep) char *text = NULL;
	struct assembly *a = base;
	bool variable = false;
	struct complaint c;
	char name[256], buf[160];
	int r;

	subject(w, path, name, sizeof(name));
	if (!step(w, n, 1))
		return;
	switch (k->slot) {
	case SLOT_MAP:
		if (n->type != YAML_MAPPING_NODE && k->short_form && n->type == YAML_SCALAR_NODE &&
		    !is_nothing(n)) {
			/* the short form stands for the whole map: nothing of an earlier layer is left */
			if (schema_set_defaults(k->keys, base) < 0)
				w->l->failed = true;
			walk_key(w, schema_find(k->keys, k->short_form), n, base, path);
		} else if (n->type == YAML_SCALAR_NODE && !is_nothing(n)) {
			char hint[128] = "";
			size_t used = 0, i = 0;

			for (const struct key *m = k->keys; m->name && i < 4; m++)
				if (!(m->flags & KEY_LATER))
					used += (size_t)snprintf(hint + used, sizeof(hint) - used, "%s%s",
					    i++ ? ", " : "Its keys are ", m->name);
			snprintf(hint + used, sizeof(hint) - used, "%s", i == 4 ? " and so on." : ".");
			tell(w, n, "type", hint, "%s expects a map, not %s", name, instead(n));
		} else
			walk_map(w, k->keys, n, base, path, name, slot_expects(k, buf, sizeof(buf)));
		return;
	case SLOT_LIMIT:
		walk_limit(w, k, n, base, name);
		return;
	case SLOT_SIGNALS:
	case SLOT_CODES:
		walk_set(w, k, n, field, name);
		return;
	case SLOT_ENVIRONMENT:
		walk_environment(w, n, &a->environment, name);
		return;
	case SLOT_ENV_FILES:
		a->env_source = w->s;
		a->env_files = n;
		walk_env_files(w, n, NULL, name);
		return;
	case SLOT_COMMAND:
		a->command_source = w->s;
		a->command = n;
		if (n->type == YAML_MAPPING_NODE || is_nothing(n))
			tell_type(w, n, name, slot_expects(k, buf, sizeof(buf)));
		return;
	case SLOT_EXTENDS:
		return; /* link_entry() */
	default:
		break;
	}
	if (!get_text(w, n, name, slot_expects(k, buf, sizeof(buf)), &text, &variable))
		return;
	if (k->slot == SLOT_BOOL && is_quoted(n) && !variable &&
	    (!strcmp(text, "true") || !strcmp(text, "false"))) {
		tell(w, n, "value", "Leave the quotes out.", "%s expects true or false, not a text in quotes",
		    name);
		return;
	}
	if (k->slot == SLOT_PATH) {
		char *full;

		if (!*text) {
			tell(w, n, "value", NULL, "%s is empty", name);
			return;
		}
		full = resolve_path(w, text);
		if (!full)
			return;
		free(*(char **)field);
		*(char **)field = full;
		return;
	}
	r = slot_set(k, text, field, &c);
	if (r < 0)
		w->l->failed = true;
	else if (r)
		tell_complaint(w, n, &c, name, variable);
}

/* ---- files ---- */

static struct entry *entry_find(struct entry_list *list, const char *name)
{
	for (size_t i = 0; i < list->n; i++)
		if (!strcmp(list->items[i].name, name))
			return &list->items[i];
	return NULL;
}

static void register_entries(
    const struct walk *w, struct entry_list *list, const yaml_node_t *n, const char *what, const char *key)
{
	struct pair_list pairs;
	size_t before = list->n;
	struct entry *room;
	char name[64];

	snprintf(name, sizeof(name), "'%s'", key);
	if (!get_pairs(w, n, name, "a map of names", &pairs))
		return;
	room = realloc(list->items, (list->n + pairs.n + 1) * sizeof(*room));
	if (!room) {
		w->l->failed = true;
		pairs_free(&pairs);
		return;
	}
	list->items = room;
	for (size_t i = 0; i < pairs.n; i++) {
		const struct pair *p = &pairs.items[i];
		struct entry *e = NULL;

		for (size_t j = 0; j < before && !e; j++)
			if (!strcmp(list->items[j].name, p->name))
				e = &list->items[j];
		if (!config_name_ok(p->name)) {
			tell_cut(w, p->key, "name",
			    "Use lower-case letters, digits, '_', '.' and '-', at most 63, a letter or digit "
			    "first.",
			    "'%.80s' is no usable name for a %s", p->name, what);
			continue;
		}
		if (list == &w->l->daemons && !strcmp(p->name, "all")) {
			tell(w, p->key, "name", NULL,
			    "a daemon cannot be called 'all': that word means every daemon");
			continue;
		}
		if (e) {
			tell(w, p->key, "duplicate-key", NULL, "%s '%s' is defined in %s:%u already", what,
			    p->name, e->source->shown, source_span(e->source, e->key).line);
			continue;
		}
		if (p->value->type != YAML_MAPPING_NODE) {
			char owner[100];

			snprintf(owner, sizeof(owner), "%s '%s'", what, p->name);
			if (is_nothing(p->value))
				tell(w, p->key, "type", NULL, "%s has no keys", owner);
			else
				tell_cut(w, p->key, "type", NULL, "%s expects a map, not %s", owner,
				    instead(p->value));
			continue;
		}
		if (list->n >= DAEMONS_MAX) {
			tell(w, p->key, "too-large", NULL, "more than %d of them", DAEMONS_MAX);
			break;
		}
		list->items[list->n] = (struct entry){
			.name = strdup(p->name), .source = w->s, .key = p->key, .value = p->value
		};
		if (!list->items[list->n].name)
			w->l->failed = true;
		else
			list->n++;
	}
	pairs_free(&pairs);
}

static void walk_file(struct loader *l, struct source *s);

/* Adds a source, taken. Return: false when memory ran out */
static bool add_source(struct loader *l, struct source *s, const struct origin *o)
{
	struct source **p = realloc(l->sources, (l->n_sources + 1) * sizeof(*p));
	struct origin *q;

	if (p)
		l->sources = p;
	q = realloc(l->origins, (l->n_sources + 1) * sizeof(*q));
	if (q)
		l->origins = q;
	if (!p || !q) {
		source_free(s);
		l->failed = true;
		return false;
	}
	l->origins[l->n_sources] = *o;
	l->sources[l->n_sources++] = s;
	return true;
}

static const struct origin *origin_of(const struct loader *l, const struct source *s)
{
	return &l->origins[s->order];
}

static void include_file(const struct walk *w, const yaml_node_t *n, const char *path)
{
	struct loader *l = w->l;
	struct origin o = { .by = w->s, .at = source_span(w->s, n) };
	_cleanup_(freep) char *shown = shown_name(l, path), *data = NULL;
	struct source *s;
	unsigned depth = 0;
	struct stat st;
	size_t size;
	int r;

	if (!shown)
		return;
	if (utf8_valid_prefix(path, strlen(path)) != strlen(path)) {
		tell(w, n, "file", NULL, "the name of file %s is not UTF-8", shown);
		return;
	}
	r = read_regular(l, path, &data, &size, &st);
	if (r < 0) {
		tell(w, n, "file", NULL, "cannot read %s: %s", shown, why_not(r));
		return;
	}
	o.dev = st.st_dev;
	o.ino = st.st_ino;
	for (const struct source *up = w->s; up; up = origin_of(l, up)->by, depth++) {
		const struct origin *x = origin_of(l, up);

		if (x->dev == o.dev && x->ino == o.ino) {
			tell(w, n, "cycle", NULL,
			    up == w->s ? "%s includes itself" : "%s includes itself by way of %s", up->shown,
			    w->s->shown);
			return;
		}
	}
	for (size_t i = 0; i < l->n_sources; i++)
		if (l->origins[i].dev == o.dev && l->origins[i].ino == o.ino) {
			tell(w, n, "duplicate-file", NULL, "%s was included already, by %s:%u", shown,
			    l->origins[i].by->shown, l->origins[i].at.line);
			return;
		}
	if (depth >= INCLUDE_DEPTH_MAX || l->n_sources >= FILES_MAX) {
		tell(w, n, "too-large", NULL,
		    depth >= INCLUDE_DEPTH_MAX ? "includes are nested too deep" : "too many files");
		return;
	}
	if (source_new(&s, shown, path, TAKE_PTR(data), size, (unsigned)l->n_sources) < 0) {
		l->failed = true;
		return;
	}
	if (!add_source(l, s, &o))
		return;
	if (source_parse(s, &l->f) < 0)
		l->failed = true;
	walk_file(l, s);
}

/* Characters that glob(3) would read something into, escaped. */
static void add_literal(struct text *t, const char *s)
{
	for (; *s; s++) {
		if (strchr("*?[]\\", *s))
			text_add(t, "\\");
		text_add_bytes(t, s, 1);
	}
}

static int by_text(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

static void walk_include(const struct walk *w, const yaml_node_t *n)
{
	_cleanup_(freep) char *text = NULL, *path = NULL;
	_cleanup_text_ struct text pattern = { 0 };
	glob_t g = { 0 };
	int r;

	if (!get_text(w, n, "'include'", "a path or a list of paths", &text, NULL))
		return;
	if (!*text) {
		tell(w, n, "value", NULL, "'include' names no file: the text is empty");
		return;
	}
	if (!strpbrk(text, "*?[")) {
		path = resolve_path(w, text);
		if (path)
			include_file(w, n, path);
		return;
	}
	if (w->l->sealed) {
		tell(w, n, "file", NULL, "no other files can be read here");
		return;
	}
	if (text[0] != '/' && !(text[0] == '~' && text[1] == '/')) {
		add_literal(&pattern, w->s->folder);
		text_add(&pattern, "/");
		text_add(&pattern, !strncmp(text, "./", 2) ? text + 2 : text);
		path = text_take(&pattern);
	} else
		path = resolve_path(w, text);
	if (!path) {
		w->l->failed = true;
		return;
	}
	r = glob(path, GLOB_NOSORT, NULL, &g);
	if (r == GLOB_NOSPACE)
		w->l->failed = true;
	if (!r) {
		qsort(g.gl_pathv, g.gl_pathc, sizeof(*g.gl_pathv), by_text);
		for (size_t i = 0; i < g.gl_pathc && i <= FILES_MAX && !w->l->stop; i++)
			include_file(w, n, g.gl_pathv[i]);
	}
	globfree(&g);
}

static void walk_version(const struct walk *w, const yaml_node_t *n)
{
	_cleanup_(freep) char *text = NULL;
	char buf[96];

	if (!get_text(w, n, "'version'", "the number 1", &text, NULL) || !strcmp(text, "1"))
		return;
	tell(w, n, "value", NULL, "'version' is %s, and this program reads version 1",
	    quote(n, buf, sizeof(buf)));
}

static void walk_project(const struct walk *w, const yaml_node_t *n)
{
	_cleanup_(freep) char *text = NULL;

	if (!get_text(w, n, "'name'", "a text", &text, NULL))
		return;
	if (config_name_ok(text)) {
		free(w->l->config->name);
		w->l->config->name = TAKE_PTR(text);
	} else
		tell(w, n, "name",
		    "Use lower-case letters, digits, '_', '.' and '-', at most 63, a letter or digit first.",
		    "'name' is no usable name of a project");
}

/* The top level of a file. Its daemons and templates are only noted: they may need what comes later. */
static void walk_file(struct loader *l, struct source *s)
{
	struct walk w = { .l = l, .s = s, .main = s->order == 0, .instance = -1 };
	yaml_node_t *root = source_root(s), *include = NULL;
	struct pair_list pairs;

	if (!root || l->stop || is_nothing(root))
		return;
	if (!get_pairs(&w, root, "the file", "keys and values", &pairs))
		return;
	for (size_t i = 0; i < pairs.n; i++)
		if (w.main && !strcmp(pairs.items[i].name, "env_file"))
			walk_env_files(&w, pairs.items[i].value, &l->vars, "'env_file'");
	for (size_t i = 0; i < pairs.n && !l->stop; i++) {
		const struct pair *p = &pairs.items[i];
		const struct key *k = schema_find(keys_file, p->name);

		if (!k) {
			tell_unknown(&w, keys_file, p, NULL);
			continue;
		}
		if (k->flags & KEY_LATER) {
			tell(&w, p->key, "not-supported-yet", "Leave it out for now.",
			    "'%s' is not supported yet", k->name);
			continue;
		}
		if ((k->flags & KEY_MAIN) && !w.main) {
			tell(&w, p->key, "place", "Move it to the main file.",
			    "'%s' means nothing in an included file", k->name);
			continue;
		}
		switch (k->slot) {
		case SLOT_VERSION:
			walk_version(&w, p->value);
			break;
		case SLOT_PROJECT:
			walk_project(&w, p->value);
			break;
		case SLOT_INCLUDE:
			include = p->value;
			break;
		case SLOT_ENV_FILES:
			break;
		case SLOT_DEFAULTS:
			l->defaults_source = s;
			l->defaults = p->value;
			break;
		case SLOT_TEMPLATES:
			register_entries(&w, &l->templates, p->value, "template", "templates");
			break;
		case SLOT_DAEMONS:
			register_entries(&w, &l->daemons, p->value, "daemon", "daemons");
			break;
		default:
			walk_key(&w, k, p->value, l->config, k->name);
			break;
		}
	}
	pairs_free(&pairs);
	if (!include || l->stop)
		return;
	if (include->type != YAML_SEQUENCE_NODE) {
		walk_include(&w, include);
		return;
	}
	for (yaml_node_item_t *i = include->data.sequence.items.start;
	     i < include->data.sequence.items.top && !l->stop; i++)
		walk_include(&w, source_node(s, *i));
}

/* ---- daemons ---- */

static void assembly_deinit(struct assembly *a)
{
	daemon_config_deinit(&a->draft.d);
	vars_free(&a->environment);
}

/* Checks a layer by itself. */
static void check_layer(struct loader *l, struct source *s, yaml_node_t *n, const char *owner, bool defaults)
{
	struct walk w = {
		.l = l, .s = s, .owner = owner, .main = s->order == 0, .defaults = defaults, .instance = -1
	};
	struct assembly a = { 0 };

	if (schema_set_defaults(keys_daemon, &a.draft) < 0)
		l->failed = true;
	walk_map(&w, keys_daemon, n, &a.draft, NULL, owner, "a map");
	if (a.draft.d.limits && n->type == YAML_MAPPING_NODE) {
		/* `memory` is `data`: one layer must not say both */
		struct pair_list pairs;
		yaml_node_t *data = NULL, *memory = NULL, *limits = NULL;

		l->f.quiet = true;
		if (get_pairs(&w, n, owner, "a map", &pairs)) {
			for (size_t i = 0; i < pairs.n; i++)
				if (!strcmp(pairs.items[i].name, "limits"))
					limits = pairs.items[i].value;
			pairs_free(&pairs);
		}
		if (limits && get_pairs(&w, limits, owner, "a map", &pairs)) {
			for (size_t i = 0; i < pairs.n; i++) {
				if (!strcmp(pairs.items[i].name, "data"))
					data = pairs.items[i].key;
				if (!strcmp(pairs.items[i].name, "memory"))
					memory = pairs.items[i].key;
			}
			pairs_free(&pairs);
		}
		l->f.quiet = false;
		if (data && memory)
			tell(&w, memory, "duplicate-key", NULL,
			    "'memory' and 'data' are the same limit; give one of them");
	}
	assembly_deinit(&a);
}

/* Finds what @e extends, and what that extends. Return: whether the chain is whole; if not, it was told */
static bool link_entry(struct loader *l, struct entry *e, bool is_template, unsigned depth)
{
	struct walk w = { .l = l, .s = e->source, .instance = -1 };
	_cleanup_(freep) char *text = NULL;
	struct pair_list pairs;
	yaml_node_t *n = NULL;
	struct entry *parent;
	char owner[100], name[140];
	bool quiet = l->f.quiet;

	if (e->state != ENTRY_NEW)
		return e->state == ENTRY_LINKED;
	e->state = ENTRY_BROKEN;
	snprintf(owner, sizeof(owner), "%s '%s'", is_template ? "template" : "daemon", e->name);
	w.owner = owner;
	l->f.quiet = true; /* check_layer() has told what is wrong with the map */
	if (get_pairs(&w, e->value, owner, "a map", &pairs)) {
		for (size_t i = 0; i < pairs.n; i++)
			if (!strcmp(pairs.items[i].name, "extends"))
				n = pairs.items[i].value;
		pairs_free(&pairs);
	}
	l->f.quiet = quiet;
	if (!n) {
		e->state = ENTRY_LINKED;
		return true;
	}
	if (!get_text(
		&w, n, subject(&w, "extends", name, sizeof(name)), "the name of a template", &text, NULL))
		return false;
	parent = entry_find(&l->templates, text);
	if (!parent) {
		_cleanup_(freep) const char **names = calloc(l->templates.n + 1, sizeof(*names));
		const char *near;
		char hint[200] = "";

		if (!names) {
			l->failed = true;
			return false;
		}
		for (size_t i = 0; i < l->templates.n; i++)
			names[i] = l->templates.items[i].name;
		near = text_nearest(text, names, l->templates.n);
		if (near)
			snprintf(hint, sizeof(hint), "Did you mean '%s'?", near);
		else if (entry_find(&l->daemons, text))
			snprintf(hint, sizeof(hint), "It is a daemon; move what both share to 'templates'.");
		tell(&w, n, "reference", hint, "%s extends '%.80s', which is no template", owner,
		    (const char *)n->data.scalar.value);
		return false;
	}
	e->parent = parent;
	if (is_template) {
		_cleanup_text_ struct text loop = { 0 };

		/* found by the template that closes the circle; it is opened again then, so no walk up is
		 * endless */
		text_add(&loop, e->name);
		for (struct entry *up = parent; up; up = up->parent) {
			if (loop.size < 400)
				text_addf(&loop, " -> %s", up->name);
			if (up == e) {
				tell(&w, n, "cycle", NULL, "templates extend each other in a circle: %s",
				    loop.data ? loop.data : "");
				e->parent = NULL;
				return false;
			}
		}
	}
	if (depth >= CHAIN_MAX - 1) {
		tell(
		    &w, n, "too-large", NULL, "templates extend each other more than %d deep", CHAIN_MAX - 1);
		return false;
	}
	if (parent->state == ENTRY_NEW && !link_entry(l, parent, true, depth + 1))
		return false;
	if (parent->state != ENTRY_LINKED)
		return false;
	e->state = ENTRY_LINKED;
	return true;
}

static void lay(
    struct loader *l, struct source *s, yaml_node_t *n, const char *owner, int instance, struct assembly *a)
{
	struct walk w = { .l = l, .s = s, .owner = owner, .main = s->order == 0, .instance = instance };

	walk_map(&w, keys_daemon, n, &a->draft, NULL, owner, "a map");
}

/* Puts a daemon together and adds it to the configuration. @ret_instances: how many it asks for, 0 when it
 * does not */
static void assemble(struct loader *l, struct entry *e, int instance, unsigned *ret_instances)
{
	struct assembly a = { 0 };
	struct daemon_config *d = &a.draft.d, *room;
	const struct entry *chain[CHAIN_MAX];
	struct walk w = { .l = l, .s = e->source, .instance = instance };
	struct var_list env = { 0 };
	char owner[100];
	size_t n = 0;

	snprintf(owner, sizeof(owner), "daemon '%s'", e->name);
	w.owner = owner;
	if (schema_set_defaults(keys_daemon, &a.draft) < 0)
		l->failed = true;
	for (const struct entry *up = e; up && n < CHAIN_MAX; up = up->parent)
		chain[n++] = up;
	l->f.quiet = true;
	if (l->defaults && l->defaults->type == YAML_MAPPING_NODE)
		lay(l, l->defaults_source, l->defaults, owner, instance, &a);
	while (n > 0 && !l->stop) {
		n--;
		lay(l, chain[n]->source, chain[n]->value, owner, instance, &a);
	}
	l->f.quiet = false;
	*ret_instances = a.draft.instances;
	if (l->stop || l->failed || (instance < 0 && a.draft.instances))
		goto out;

	if (a.command) {
		w.s = a.command_source;
		if (a.command->type != YAML_MAPPING_NODE && !is_nothing(a.command))
			make_command(&w, a.command, a.draft.shell, d);
	} else if (e->state == ENTRY_LINKED) {
		w.s = e->source;
		tell(&w, e->key, "missing-key", NULL, "%s has no 'command'", owner);
	}
	if (a.env_files) {
		w.s = a.env_source;
		l->f.quiet = true;
		walk_env_files(&w, a.env_files, &env, "'env_file'");
		l->f.quiet = false;
	}
	if (vars_lay(&env, &a.environment) < 0)
		l->failed = true;
	if (l->f.n_errors || l->failed || l->stop)
		goto out;

	if (!env.items)
		env.items = calloc(1, sizeof(*env.items));
	d->environment = TAKE_PTR(env.items);
	env.n = 0;
	if (!d->directory)
		d->directory = strdup(l->sources[0]->folder);
	if (d->restart.max_delay_ms < d->restart.delay_ms)
		d->restart.max_delay_ms = d->restart.delay_ms;
	d->network = !l->sealed && daemon_config_on_network(d);
	d->base = strdup(e->name);
	d->instance = instance;
	if (instance < 0)
		d->name = strdup(e->name);
	else if (asprintf(&d->name, "%s/%d", e->name, instance) < 0)
		d->name = NULL;
	d->place.file = l->config->files[e->source->order];
	d->place.line = source_span(e->source, e->key).line;
	d->place.column = source_span(e->source, e->key).column;
	if (!d->environment || !d->directory || !d->base || !d->name || daemon_config_set_digest(d) < 0) {
		l->failed = true;
		goto out;
	}
	room = realloc(l->config->daemons, (l->config->n_daemons + 1) * sizeof(*room));
	if (!room) {
		l->failed = true;
		goto out;
	}
	l->config->daemons = room;
	l->config->daemons[l->config->n_daemons++] = *d;
	memset(d, 0, sizeof(*d));
out:
	vars_free(&env);
	assembly_deinit(&a);
}

static void make_daemons(struct loader *l)
{
	char owner[100];

	if (l->defaults)
		check_layer(l, l->defaults_source, l->defaults, "'defaults'", true);
	for (size_t i = 0; i < l->templates.n && !l->stop; i++) {
		struct entry *e = &l->templates.items[i];

		snprintf(owner, sizeof(owner), "template '%s'", e->name);
		check_layer(l, e->source, e->value, owner, false);
	}
	for (size_t i = 0; i < l->daemons.n && !l->stop; i++) {
		struct entry *e = &l->daemons.items[i];

		snprintf(owner, sizeof(owner), "daemon '%s'", e->name);
		check_layer(l, e->source, e->value, owner, false);
	}
	for (size_t i = 0; i < l->templates.n; i++)
		link_entry(l, &l->templates.items[i], true, 0);
	for (size_t i = 0; i < l->daemons.n; i++)
		link_entry(l, &l->daemons.items[i], false, 0);
	for (size_t i = 0; i < l->daemons.n && !l->stop && !l->failed; i++) {
		struct entry *e = &l->daemons.items[i];
		unsigned count = 0;

		/* as a single daemon first; when it wants to be several that is all it tells */
		assemble(l, e, -1, &count);
		for (unsigned k = 0; k < count && !l->stop && !l->failed && (!k || !l->f.n_errors); k++) {
			if (l->config->n_daemons >= DAEMONS_MAX) {
				struct walk w = { .l = l, .s = e->source };

				tell(&w, e->key, "too-large", NULL, "more than %d daemons, instances counted",
				    DAEMONS_MAX);
				break;
			}
			assemble(l, e, (int)k, &count);
		}
	}
}

/* ---- the whole ---- */

static void digest_add(XXH3_state_t *state, const void *data, size_t size)
{
	uint64_t n = size;

	XXH3_64bits_update(state, &n, sizeof(n));
	XXH3_64bits_update(state, data, size);
}

static int digest_end(XXH3_state_t *state, char ret[17])
{
	snprintf(ret, 17, "%016llx", (unsigned long long)XXH3_64bits_digest(state));
	return 0;
}

int config_files_digest(const struct config *c, char ret[17])
{
	XXH3_state_t *state = XXH3_createState();
	int r = 0;

	if (!state)
		return -ENOMEM;
	XXH3_64bits_reset(state);
	for (char **p = c->files; p && *p && !r; p++) {
		_cleanup_(freep) char *data = NULL;
		size_t size;

		r = file_read(AT_FDCWD, *p, FILE_BYTES_MAX, &data, &size);
		if (!r)
			digest_add(state, data, size);
	}
	if (!r)
		r = digest_end(state, ret);
	XXH3_freeState(state);
	return r;
}

char *config_name_from_folder(const char *folder)
{
	const char *slash = strrchr(folder, '/');
	char name[64];
	size_t n = 0;

	for (const char *p = slash ? slash + 1 : folder; *p && n < sizeof(name) - 1; p++) {
		char c = *p;

		if (c >= 'A' && c <= 'Z')
			c = (char)(c - 'A' + 'a');
		if ((c >= 'a' && c <= 'z') || (c >= '0' && c <= '9'))
			name[n++] = c;
		else if (n && (name[n - 1] != '-' || c == '.' || c == '_'))
			name[n++] = c == '.' || c == '_' ? c : '-';
	}
	while (n && strchr("-._", name[n - 1]))
		n--;
	name[n] = '\0';
	return strdup(n ? name : "default");
}

static int finish_files(struct loader *l)
{
	struct config *c = l->config;

	c->files = calloc(l->n_sources + 1, sizeof(*c->files));
	if (!c->files)
		return -ENOMEM;
	for (size_t i = 0; i < l->n_sources; i++) {
		c->files[i] = strdup(l->sources[i]->path);
		if (!c->files[i])
			return -ENOMEM;
	}
	return 0;
}

static int finish(struct loader *l)
{
	struct config *c = l->config;
	XXH3_state_t *state;
	size_t n = l->n_sources;
	char **p;

	if (!c->name) {
		c->name = config_name_from_folder(l->sources[0]->folder);
		if (!c->name)
			return -ENOMEM;
	}
	c->path = strdup(l->sources[0]->path);
	state = XXH3_createState();
	/* places of the daemons point at the strings, not at the array: it may move */
	p = realloc(c->files, (l->n_sources + l->n_env_files + 1) * sizeof(*p));
	if (p)
		c->files = p;
	if (!c->path || !state || !p) {
		XXH3_freeState(state);
		return -ENOMEM;
	}
	XXH3_64bits_reset(state);
	for (size_t i = 0; i < l->n_sources; i++)
		digest_add(state, l->sources[i]->data, l->sources[i]->size);
	for (size_t i = 0; i < l->n_env_files; i++) {
		struct env_file *e = l->env_files[i];

		if (!e->data)
			continue;
		digest_add(state, e->data, e->size);
		c->files[n] = strdup(e->path);
		c->files[n + 1] = NULL;
		if (!c->files[n++])
			l->failed = true;
	}
	digest_end(state, c->digest);
	XXH3_freeState(state);
	return l->failed ? -ENOMEM : 0;
}

static void loader_deinit(struct loader *l)
{
	for (size_t i = 0; i < l->n_sources; i++)
		source_free(l->sources[i]);
	free(l->sources);
	free(l->origins);
	for (size_t i = 0; i < l->n_env_files; i++)
		env_file_free(l->env_files[i]);
	free(l->env_files);
	vars_free(&l->vars);
	for (size_t i = 0; i < l->templates.n; i++)
		free(l->templates.items[i].name);
	free(l->templates.items);
	for (size_t i = 0; i < l->daemons.n; i++)
		free(l->daemons.items[i].name);
	free(l->daemons.items);
	free(l->shown_folder);
	findings_free(&l->f);
	config_free(l->config);
}

/* From the bytes of the main file on. @data is taken. */
static int load(struct loader *l, const char *shown, const char *path, char *data, size_t size,
    const struct stat *st, struct config **ret, struct config_problems *problems)
{
	struct origin o = { .dev = st->st_dev, .ino = st->st_ino };
	const char *slash = strrchr(shown, '/');
	struct source *s;
	int r;

	l->shown_folder = slash ? strndup(shown, (size_t)(slash - shown) + 1) : strdup("");
	l->config = calloc(1, sizeof(*l->config));
	if (!l->shown_folder || !l->config) {
		free(data);
		return -ENOMEM;
	}
	r = schema_set_defaults(keys_file, l->config);
	if (r < 0) {
		free(data);
		return r;
	}
	r = source_new(&s, shown, path, data, size, 0);
	if (r < 0)
		return r;
	if (!add_source(l, s, &o) || source_parse(s, &l->f) < 0)
		return -ENOMEM;
	walk_file(l, s);
	r = finish_files(l);
	if (r < 0)
		return r;
	make_daemons(l);
	if (!l->f.n_errors && !l->daemons.n) {
		struct note n = { .warning = true, .code = "no-daemons", .at = { 1, 1, 2 } };

		findings_add(&l->f, s, &n, "no daemons are defined");
	}
	if (!l->failed && !l->f.n_errors)
		r = finish(l);
	if (r < 0 || l->failed)
		return -ENOMEM;
	r = l->f.n_errors ? -EINVAL : 0;
	if (findings_take(&l->f, problems) < 0)
		return -ENOMEM;
	if (!r)
		*ret = TAKE_PTR(l->config);
	return r;
}

int config_load_bytes(const char *shown, const char *data, size_t size, char *const *environ_,
    struct config **ret, struct config_problems *problems)
{
	struct loader l = { .sealed = true, .environ_ = environ_ };
	struct stat st = { 0 };
	char *copy = malloc(size + 1);
	int r;

	*problems = (struct config_problems){ 0 };
	if (!copy)
		return -ENOMEM;
	if (size)
		memcpy(copy, data, size);
	copy[size] = '\0';
	r = load(&l, shown, "/supervise.yaml", copy, size, &st, ret, problems);
	loader_deinit(&l);
	return r;
}

int config_absolute_path(const char *path, char **ret)
{
	const char *slash = strrchr(path, '/');
	_cleanup_(freep) char *dir = slash == path ? strdup("/")
				     : slash       ? strndup(path, (size_t)(slash - path))
						   : strdup(".");
	_cleanup_(freep) char *real = NULL;

	if (!dir)
		return -ENOMEM;
	real = realpath(dir, NULL);
	if (!real)
		return -errno;
	if (asprintf(ret, "%s/%s", strcmp(real, "/") ? real : "", slash ? slash + 1 : path) < 0)
		return -ENOMEM;
	return 0;
}

int config_load(const char *path, struct config **ret, struct config_problems *problems)
{
	struct loader l = { .environ_ = environ };
	_cleanup_(freep) char *full = NULL, *data = NULL;
	struct stat st = { 0 };
	size_t size;
	int r;

	*problems = (struct config_problems){ 0 };
	r = config_absolute_path(path, &full);
	if (!r && stat(path, &st) < 0)
		r = -errno;
	if (!r)
		r = S_ISDIR(st.st_mode) ? -EISDIR : file_read(AT_FDCWD, path, FILE_BYTES_MAX, &data, &size);
	if (!r && utf8_valid_prefix(full, strlen(full)) != strlen(full))
		r = -EILSEQ; /* JSON, which carries the configuration, is UTF-8 */
	if (r == -ENOMEM)
		return r;
	if (r < 0) {
		findings_add_file(&l.f, path, 0, 0, "file", "cannot read it: %s", why_not(r));
		if (findings_take(&l.f, problems) < 0)
			r = -ENOMEM;
	} else
		r = load(&l, path, full, TAKE_PTR(data), size, &st, ret, problems);
	loader_deinit(&l);
	return r;
}
