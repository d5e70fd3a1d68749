/* SPDX-License-Identifier: Apache-2.0 */
/* The configuration as JSON and back, its JSON Schema, and the key list of the manual: walks over the table of schema.c. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/text.h"
#include "config/config.h"
#include "config/schema.h"

/* --- out ---------------------------------------------------------------------------------------------------------- */

static void add_strings(cJSON *j, const char *key, char *const *v)
{
	cJSON *list = json_add_array(j, key);

	for (; v && *v; v++) {
		_cleanup_text_ struct text t = { 0 };

		text_add_utf8(&t, *v, strlen(*v));
		cJSON_AddItemToArray(list, cJSON_CreateString(t.data ? t.data : ""));
	}
}

static void slots_to_json(const struct slot *table, const void *base, cJSON *j)
{
	for (const struct slot *s = table; s->name; s++) {
		if (s->type == SLOT_MAP) {
			slots_to_json(s->sub, base, json_add_object(j, s->name));
		} else if ((s->type == SLOT_STRING || s->type == SLOT_PATH)) {
			const char *text = *(char *const *)((const char *)base + s->offset);

			if (text)
				json_add_text(j, s->name, text);
		} else if (s->type == SLOT_OCTAL && *(const int *)((const char *)base + s->offset) < 0) {
			continue;
		} else if (slot_is_scalar(s)) {
			_cleanup_text_ struct text t = { 0 };

			slot_get_text(s, base, &t);
			json_add_text(j, s->name, t.data ? t.data : "");
		} else if (s->type == SLOT_COMMAND || s->type == SLOT_ENVIRONMENT) {
			add_strings(j, s->name, *(char **const *)((const char *)base + s->offset));
		}
	}
}

cJSON *config_to_json(const struct config *c)
{
	cJSON *j = cJSON_CreateObject(), *list;

	if (!j)
		return NULL;
	json_add_i64(j, "version", 1);
	json_add_text(j, "name", c->name);
	json_add_text(j, "path", c->path);
	json_add_text(j, "digest", c->digest);
	json_add_bool(j, "transient", c->transient);
	add_strings(j, "files", c->files);
	slots_to_json(config_slots, c, j);
	list = json_add_array(j, "daemons");
	for (size_t i = 0; i < c->n_daemons; i++) {
		const struct daemon_config *d = &c->daemons[i];
		cJSON *x = cJSON_CreateObject(), *limits, *place;

		json_add_text(x, "name", d->name);
		json_add_text(x, "base", d->base);
		json_add_i64(x, "instance", d->instance);
		slots_to_json(daemon_slots, d, x);
		limits = json_add_object(x, "limits");
		for (size_t k = 0; k < d->n_limits; k++) {
			cJSON *limit = json_add_object(limits, limit_to_name(d->limits[k].resource));

			json_add_id(limit, "soft", d->limits[k].soft);
			json_add_id(limit, "hard", d->limits[k].hard);
		}
		json_add_bool(x, "network", d->network);
		json_add_text(x, "digest", d->digest);
		place = json_add_object(x, "place");
		json_add_text(place, "file", d->place.file);
		json_add_i64(place, "line", d->place.line);
		json_add_i64(place, "column", d->place.column);
		cJSON_AddItemToArray(list, x);
	}
	return j;
}

/* --- in ----------------------------------------------------------------------------------------------------------- */

static int get_strings(const cJSON *list, char ***ret)
{
	const cJSON *x;
	char **v = calloc(1, sizeof(*v));
	int r = v ? 0 : -ENOMEM;

	cJSON_ArrayForEach(x, list) {
		if (!r && !cJSON_IsString(x))
			r = -EINVAL;
		if (!r)
			r = strv_add(&v, x->valuestring);
	}
	if (r < 0) {
		strv_free(v);
		return r;
	}
	strv_free(*ret);
	*ret = v;
	return 0;
}

static int slots_from_json(const struct slot *table, void *base, const cJSON *j, struct error *err)
{
	for (const struct slot *s = table; s->name; s++) {
		const cJSON *v = cJSON_GetObjectItemCaseSensitive(j, s->name);
		int r = 0;

		if (!v || cJSON_IsNull(v))
			continue;
		if (s->type == SLOT_MAP) {
			if (!cJSON_IsObject(v))
				return error_set(err, -EINVAL, "'%s' is no object", s->name);
			r = slots_from_json(s->sub, base, v, err);
		} else if (slot_is_scalar(s)) {
			if (!cJSON_IsString(v))
				return error_set(err, -EINVAL, "'%s' is no text", s->name);
			r = slot_set_text(s, base, v->valuestring, err);
		} else if (s->type == SLOT_COMMAND || s->type == SLOT_ENVIRONMENT) {
			r = get_strings(v, (char ***)((char *)base + s->offset));
			if (r < 0)
				error_set(err, r, "'%s' is no list of texts", s->name);
		}
		if (r < 0)
			return error_prefix(err, r, "%s", s->name);
	}
	return 0;
}

static int limits_from_json(struct daemon_config *d, const cJSON *j, struct error *err)
{
	const cJSON *x;

	cJSON_ArrayForEach(x, j) {
		int resource = limit_from_name(x->string);
		uint64_t soft, hard;
		struct limit_config *items;

		if (resource < 0 || parse_u64(json_get_string(x, "soft", ""), &soft) < 0 ||
		    parse_u64(json_get_string(x, "hard", ""), &hard) < 0)
			return error_set(err, -EINVAL, "limit '%s' cannot be read", x->string);
		items = realloc(d->limits, (d->n_limits + 1) * sizeof(*items));
		if (!items)
			return -ENOMEM;
		d->limits = items;
		items[d->n_limits++] = (struct limit_config){ resource, soft, hard };
	}
	return 0;
}

static bool usable_name(const char *s)
{
	size_t n = strspn(s, "abcdefghijklmnopqrstuvwxyz0123456789_.-/");

	return n >= 1 && n <= 75 && !s[n] && s[0] != '.' && s[0] != '/' && !strstr(s, "..") && !strstr(s, "//");
}

static char *dup_text(const cJSON *j, const char *key)
{
	const char *s = json_get_string(j, key, NULL);

	return s ? strdup(s) : NULL;
}

static int daemon_from_json(struct config *c, const cJSON *j, struct error *err)
{
	struct daemon_config *items = realloc(c->daemons, (c->n_daemons + 1) * sizeof(*items)), *d;
	const char *name = json_get_string(j, "name", ""), *file;
	const cJSON *place = json_get_object(j, "place");
	int r;

	if (!items)
		return -ENOMEM;
	c->daemons = items;
	d = &items[c->n_daemons++];
	*d = (struct daemon_config){ .umask = -1, .instance = -1 };
	r = slots_set_defaults(daemon_slots, d);
	if (r < 0)
		return r;
	if (!cJSON_IsObject(j) || !usable_name(name))
		return error_set(err, -EINVAL, "'%s' is no name of a daemon", name);
	d->name = strdup(name);
	d->base = dup_text(j, "base");
	if (!d->base || !usable_name(d->base) || strchr(d->base, '/'))
		return error_set(err, -EINVAL, "daemon '%s' has no usable base name", name);
	for (size_t i = 0; i + 1 < c->n_daemons; i++)
		if (!strcmp(c->daemons[i].name, name))
			return error_set(err, -EINVAL, "daemon '%s' stands there twice", name);
	d->instance = (int)json_get_i64(j, "instance", -1);
	d->network = json_get_bool(j, "network", false);
	r = slots_from_json(daemon_slots, d, j, err);
	if (r < 0)
		return error_prefix(err, r, "daemon '%s'", name);
	r = limits_from_json(d, json_get_object(j, "limits"), err);
	if (r < 0)
		return error_prefix(err, r, "daemon '%s'", name);
	if (!d->command || !d->command[0])
		return error_set(err, -EINVAL, "daemon '%s' has no command", name);
	for (char **p = d->environment; p && *p; p++)
		if (!strchr(*p, '=') || **p == '=')
			return error_set(err, -EINVAL, "daemon '%s': environment holds something else than NAME=VALUE", name);
	snprintf(d->digest, sizeof(d->digest), "%s", json_get_string(j, "digest", ""));
	file = json_get_string(place, "file", NULL);
	for (char **p = c->files; p && *p && file; p++)
		if (!strcmp(*p, file))
			d->place.file = *p;
	d->place.line = (unsigned)json_get_i64(place, "line", 0);
	d->place.column = (unsigned)json_get_i64(place, "column", 0);
	return 0;
}

int config_from_json(const cJSON *j, struct config **ret, struct error *err)
{
	_cleanup_(config_freep) struct config *c = calloc(1, sizeof(*c));
	const cJSON *d;
	int r;

	if (!c)
		return -ENOMEM;
	if (json_get_i64(j, "version", 0) != 1)
		return error_set(err, -EINVAL, "configuration of another version");
	r = slots_set_defaults(config_slots, c);
	if (!r)
		r = slots_from_json(config_slots, c, j, err);
	if (r < 0)
		return r;
	c->name = dup_text(j, "name");
	c->path = dup_text(j, "path");
	c->transient = json_get_bool(j, "transient", false);
	snprintf(c->digest, sizeof(c->digest), "%s", json_get_string(j, "digest", ""));
	if (!c->name || !usable_name(c->name) || strchr(c->name, '/') || !c->path)
		return error_set(err, -EINVAL, "configuration has no usable name");
	r = get_strings(json_get_array(j, "files"), &c->files);
	if (r < 0)
		return error_set(err, r, "'files' cannot be read");
	cJSON_ArrayForEach(d, json_get_array(j, "daemons")) {
		r = daemon_from_json(c, d, err);
		if (r < 0)
			return r;
	}
	*ret = TAKE_PTR(c);
	return 0;
}

/* --- JSON Schema -------------------------------------------------------------------------------------------------- */

static cJSON *type_of(const char *type)
{
	cJSON *j = cJSON_CreateObject();

	cJSON_AddStringToObject(j, "type", type);
	return j;
}

static cJSON *any_of(cJSON *a, cJSON *b)
{
	cJSON *j = cJSON_CreateObject(), *list = json_add_array(j, "anyOf");

	cJSON_AddItemToArray(list, a);
	if (b)
		cJSON_AddItemToArray(list, b);
	return j;
}

static cJSON *list_of(cJSON *items)
{
	cJSON *j = type_of("array");

	cJSON_AddItemToObject(j, "items", items);
	return j;
}

static cJSON *map_schema(const struct slot *table);

static cJSON *text_or_number(void)
{
	cJSON *j = cJSON_CreateObject(), *types = json_add_array(j, "type");

	cJSON_AddItemToArray(types, cJSON_CreateString("string"));
	cJSON_AddItemToArray(types, cJSON_CreateString("number"));
	return j;
}

static cJSON *slot_schema(const struct slot *s)
{
	cJSON *j = NULL, *words;

	switch (s->type) {
	case SLOT_BOOL:
	case SLOT_SHELL:
		j = type_of("boolean");
		break;
	case SLOT_UINT:
	case SLOT_INT:
		j = type_of("integer");
		json_add_i64(j, "minimum", s->min);
		json_add_i64(j, "maximum", s->max);
		break;
	case SLOT_ENUM:
		j = type_of("string");
		words = json_add_array(j, "enum");
		for (int i = 1; s->words[i]; i++)
			cJSON_AddItemToArray(words, cJSON_CreateString(s->words[i]));
		break;
	case SLOT_MAP:
		j = map_schema(s->sub);
		if (s->word_key)
			j = any_of(slot_schema(slot_find(s->sub, s->word_key)), j);
		break;
	case SLOT_COMMAND:
	case SLOT_ENV_FILE:
		j = any_of(type_of("string"), list_of(text_or_number()));
		break;
	case SLOT_EXITS:
	case SLOT_SIGNALS:
		j = any_of(text_or_number(), list_of(text_or_number()));
		break;
	case SLOT_ENVIRONMENT:
	case SLOT_LIMITS:
		j = type_of("object");
		break;
	default:
		j = text_or_number();
		break;
	}
	if (s->doc)
		json_add_text(j, "description", s->doc);
	if (s->standard)
		json_add_text(j, "default", s->standard);
	return j;
}

static cJSON *map_schema(const struct slot *table)
{
	cJSON *j = type_of("object"), *properties = json_add_object(j, "properties");

	for (const struct slot *s = table; s->name; s++)
		if (s->type != SLOT_LATER && s->type != SLOT_OUTER)
			cJSON_AddItemToObject(properties, s->name, slot_schema(s));
	json_add_bool(j, "additionalProperties", false);
	return j;
}

static cJSON *reference(const char *name)
{
	cJSON *j = cJSON_CreateObject();
	char path[64];

	snprintf(path, sizeof(path), "#/$defs/%s", name);
	json_add_text(j, "$ref", path);
	return j;
}

static cJSON *map_of_daemons(void)
{
	cJSON *j = type_of("object");

	cJSON_AddItemToObject(j, "additionalProperties", reference("daemon"));
	return j;
}

cJSON *config_schema(void)
{
	cJSON *j = map_schema(config_slots), *properties, *defs, *d, *extra;

	json_add_text(j, "$schema", "https://json-schema.org/draft/2020-12/schema");
	json_add_text(j, "title", "supervise.yaml");
	properties = cJSON_GetObjectItemCaseSensitive(j, "properties");
	extra = cJSON_CreateObject();
	json_add_i64(extra, "const", 1);
	cJSON_AddItemToObject(properties, "version", extra);
	cJSON_AddItemToObject(properties, "name", type_of("string"));
	cJSON_AddItemToObject(properties, "include", any_of(type_of("string"), list_of(type_of("string"))));
	cJSON_AddItemToObject(properties, "env_file", any_of(type_of("string"), list_of(type_of("string"))));
	cJSON_AddItemToObject(properties, "defaults", reference("daemon"));
	cJSON_AddItemToObject(properties, "templates", map_of_daemons());
	cJSON_AddItemToObject(properties, "daemons", map_of_daemons());
	defs = json_add_object(j, "$defs");
	d = map_schema(daemon_slots);
	properties = cJSON_GetObjectItemCaseSensitive(d, "properties");
	extra = type_of("integer");
	json_add_i64(extra, "minimum", 1);
	cJSON_AddItemToObject(properties, "instances", extra);
	cJSON_AddItemToObject(properties, "extends", type_of("string"));
	cJSON_AddItemToObject(defs, "daemon", d);
	return j;
}

/* --- manual ------------------------------------------------------------------------------------------------------- */

/* scdoc takes _ and * as emphasis: both are escaped in names. */
static void add_name(struct text *t, const char *name)
{
	for (; *name; name++)
		text_addf(t, *name == '_' ? "\\%c" : "%c", *name);
}

static void add_doc(struct text *t, const char *doc)
{
	for (; *doc; doc++)
		text_addf(t, *doc == '_' || *doc == '<' || *doc == '[' ? "\\%c" : "%c", *doc);
}

static void add_slots(struct text *t, const struct slot *table, const char *prefix)
{
	for (const struct slot *s = table; s->name; s++) {
		_cleanup_text_ struct text name = { 0 };

		if (s->type == SLOT_LATER || !s->doc)
			continue;
		text_addf(&name, "%s%s", prefix, s->name);
		text_add(t, "*");
		add_name(t, name.data);
		text_add(t, "*");
		if (s->type == SLOT_ENUM) {
			text_add(t, ": ");
			for (int i = 1; s->words[i]; i++)
				text_addf(t, "%s%s", i > 1 ? " | " : "", s->words[i]);
		}
		text_add(t, "\n\t");
		add_doc(t, s->doc);
		if (s->standard && s->standard[0])
			text_addf(t, " (default: %s)", s->standard);
		text_add(t, "\n\n");
		if (s->type == SLOT_MAP) {
			text_add(&name, ".");
			add_slots(t, s->sub, name.data);
		}
	}
}

char *config_schema_scdoc(void)
{
	_cleanup_text_ struct text t = { 0 };

	text_add(&t, "# KEYS OF THE FILE\n\n");
	add_slots(&t, config_slots, "");
	text_add(&t, "# KEYS OF A DAEMON\n\n");
	add_slots(&t, daemon_slots, "");
	return text_take(&t);
}
