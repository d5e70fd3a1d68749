/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The table of keys for readers: JSON Schema for editors, scdoc for the manual.
 *
 * Any single value may be a text with a ${VAR} in it, whatever comes out: the schema allows that everywhere.
 */
#include <stdio.h>
#include <string.h>

#include "base/text.h"
#include "config/schema.h"

/* The doc text without its back quotes. */
static void add_description(cJSON *j, const struct key *k)
{
	_cleanup_text_ struct text t = { 0 };

	if (k->flags & KEY_LATER)
		text_add(&t, "Not supported yet: ");
	for (const char *p = k->doc; *p; p++)
		text_add_bytes(&t, *p == '`' ? "'" : p, 1);
	if (k->otherwise && *k->otherwise)
		text_addf(&t, " Default: %s.", k->otherwise);
	json_add_text(j, "description", t.data);
}

static cJSON *new_type(const char *type)
{
	cJSON *j = cJSON_CreateObject();

	json_add_text(j, "type", type);
	return j;
}

static cJSON *new_pattern(const char *pattern)
{
	cJSON *j = new_type("string");

	json_add_text(j, "pattern", pattern);
	return j;
}

static cJSON *new_ref(const char *name)
{
	cJSON *j = cJSON_CreateObject();

	json_add_text(j, "$ref", name);
	return j;
}

static cJSON *new_array(cJSON *items)
{
	cJSON *j = new_type("array");

	cJSON_AddItemToObject(j, "items", items);
	return j;
}

static cJSON *new_range(const char *type, int64_t min, int64_t max)
{
	cJSON *j = new_type(type);

	json_add_i64(j, "minimum", min);
	json_add_i64(j, "maximum", max);
	return j;
}

/* The alternatives go below @j; each is taken. */
static void add_any_of(cJSON *j, cJSON *a, cJSON *b, cJSON *c)
{
	cJSON *list = json_add_array(j, "anyOf");

	cJSON_AddItemToArray(list, a);
	if (b)
		cJSON_AddItemToArray(list, b);
	if (c)
		cJSON_AddItemToArray(list, c);
}

/* All members of @from, which is taken, into @to. */
static void move_members(cJSON *to, cJSON *from)
{
	while (from && from->child) {
		cJSON *member = cJSON_DetachItemViaPointer(from, from->child);

		cJSON_AddItemToObject(to, member->string, member);
	}
	cJSON_Delete(from);
}

static cJSON *new_map(const struct key *keys, unsigned without);

#define VARIABLE     "\\$\\{"
#define DURATION     "^([0-9]*\\.?[0-9]+(ms|s|m|min|h|d|w))+$|^[0-9]*\\.?[0-9]+$"
#define SIZE_PATTERN "^[0-9]*\\.?[0-9]+([KMGTPkmgtp]i?)?B?$"
#define NAME_PATTERN "^[a-z0-9][a-z0-9_.-]{0,62}$"

static cJSON *new_words(const struct key *k)
{
	static const char *const levels[] = { "DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL" };
	cJSON *j = cJSON_CreateObject(), *list = json_add_array(j, "enum");

	for (const struct word *w = k->words; w && w->name; w++)
		if (!w->means && !w->later)
			cJSON_AddItemToArray(list, cJSON_CreateString(w->name));
	for (size_t i = 0; !k->words && i < ARRAY_SIZE(levels); i++)
		cJSON_AddItemToArray(list, cJSON_CreateString(levels[i]));
	return j;
}

/* What one value of the key looks like; added to @j. */
static void add_value(cJSON *j, const struct key *k)
{
	cJSON *map, *list;

	switch (k->slot) {
	case SLOT_BOOL:
		add_any_of(j, new_type("boolean"), new_pattern(VARIABLE), NULL);
		break;
	case SLOT_VERSION:
		json_add_i64(j, "const", 1);
		break;
	case SLOT_INT:
	case SLOT_COUNT:
		add_any_of(
		    j, new_range("integer", k->min, k->max), new_pattern("^-?[0-9]+$|" VARIABLE), NULL);
		break;
	case SLOT_FACTOR:
		add_any_of(j, new_range("number", k->min, k->max),
		    new_pattern("^[0-9]*\\.?[0-9]+$|" VARIABLE), NULL);
		break;
	case SLOT_SHARE:
		add_any_of(j, new_range("number", 0, 1), new_pattern("^[0-9]*\\.?[0-9]+%?$|" VARIABLE), NULL);
		break;
	case SLOT_DURATION: {
		cJSON *number = new_type("number");

		json_add_i64(number, "minimum", 0);
		add_any_of(j, number, new_pattern(DURATION "|" VARIABLE), NULL);
		break;
	}
	case SLOT_SIZE: {
		cJSON *number = new_type("number");

		json_add_i64(number, "minimum", 0);
		add_any_of(j, number, new_pattern(SIZE_PATTERN "|" VARIABLE), NULL);
		break;
	}
	case SLOT_WORD:
		add_any_of(j, new_words(k), new_pattern(VARIABLE), NULL);
		break;
	case SLOT_SIGNAL:
		add_any_of(j, new_range("integer", 1, 64), new_type("string"), NULL);
		break;
	case SLOT_SIGNALS:
		add_any_of(
		    j, new_range("integer", 1, 64), new_type("string"), new_array(new_ref("#/$defs/word")));
		break;
	case SLOT_CODES:
		add_any_of(j, new_range("integer", k->min, k->max), new_type("string"),
		    new_array(new_ref("#/$defs/word")));
		break;
	case SLOT_UMASK:
		add_any_of(j, new_type("integer"), new_pattern("^(0o)?[0-7]+$|" VARIABLE), NULL);
		break;
	case SLOT_LIMIT:
		json_add_text(j, "$ref", "#/$defs/limit");
		break;
	case SLOT_MAP:
		if (k->short_form) {
			cJSON *one = cJSON_CreateObject();

			for (const struct key *s = k->keys; s->name; s++)
				if (!strcmp(s->name, k->short_form))
					add_value(one, s);
			add_any_of(j, new_map(k->keys, 0), one, NULL);
		} else {
			map = new_map(k->keys, 0);
			move_members(j, map);
		}
		break;
	case SLOT_ENV_FILES:
		add_any_of(j, new_ref("#/$defs/env_file"), new_array(new_ref("#/$defs/env_file")), NULL);
		break;
	case SLOT_INCLUDE:
		add_any_of(j, new_type("string"), new_array(new_type("string")), NULL);
		break;
	case SLOT_ENVIRONMENT:
		json_add_text(j, "type", "object");
		cJSON_AddItemToObject(j, "propertyNames", new_pattern("^[A-Za-z_][A-Za-z0-9_]*$"));
		map = cJSON_CreateObject();
		list = json_add_array(map, "type");
		cJSON_AddItemToArray(list, cJSON_CreateString("string"));
		cJSON_AddItemToArray(list, cJSON_CreateString("number"));
		cJSON_AddItemToArray(list, cJSON_CreateString("boolean"));
		cJSON_AddItemToObject(j, "additionalProperties", map);
		break;
	case SLOT_COMMAND:
		add_any_of(j, new_type("string"), new_array(new_ref("#/$defs/word")), NULL);
		break;
	case SLOT_DEFAULTS:
		json_add_text(j, "$ref", "#/$defs/defaults");
		break;
	case SLOT_TEMPLATES:
	case SLOT_DAEMONS:
		json_add_text(j, "type", "object");
		cJSON_AddItemToObject(j, "propertyNames", new_pattern(NAME_PATTERN));
		cJSON_AddItemToObject(j, "additionalProperties", new_ref("#/$defs/daemon"));
		break;
	case SLOT_PROJECT:
		add_any_of(j, new_pattern(NAME_PATTERN), new_pattern(VARIABLE), NULL);
		break;
	case SLOT_TEXT:
	case SLOT_EXTENDS:
		list = json_add_array(j, "type");
		cJSON_AddItemToArray(list, cJSON_CreateString("string"));
		cJSON_AddItemToArray(list, cJSON_CreateString("number"));
		cJSON_AddItemToArray(list, cJSON_CreateString("boolean"));
		break;
	case SLOT_PATH:
	default:
		json_add_text(j, "type", "string");
		break;
	}
}

static cJSON *new_map(const struct key *keys, unsigned without)
{
	cJSON *j = new_type("object"), *properties = json_add_object(j, "properties");

	for (const struct key *k = keys; k->name; k++) {
		cJSON *p;

		if (k->flags & without)
			continue;
		p = json_add_object(properties, k->name);
		add_description(p, k);
		if (k->flags & KEY_LATER)
			cJSON_AddItemToObject(p, "not", cJSON_CreateObject());
		else
			add_value(p, k);
	}
	json_add_bool(j, "additionalProperties", false);
	return j;
}

cJSON *config_schema(void)
{
	cJSON *j = new_map(keys_file, 0), *top = cJSON_CreateObject(), *defs, *limit, *words, *pair,
	      *required;

	json_add_text(top, "$schema", "https://json-schema.org/draft/2020-12/schema");
	json_add_text(top, "title", "supervise.yaml");
	move_members(top, j);
	defs = json_add_object(top, "$defs");
	cJSON_AddItemToObject(defs, "daemon", new_map(keys_daemon, 0));
	cJSON_AddItemToObject(defs, "defaults", new_map(keys_daemon, KEY_NO_DEFAULT));
	words = json_add_object(defs, "word");
	add_any_of(words, new_type("string"), new_type("number"), new_type("boolean"));
	words = json_add_object(defs, "limit_value");
	pair = new_type("number");
	json_add_i64(pair, "minimum", 0);
	add_any_of(words, pair, new_type("string"), NULL);
	limit = json_add_object(defs, "limit");
	pair = new_type("object");
	words = json_add_object(pair, "properties");
	for (const struct key *k = keys_limit; k->name; k++)
		cJSON_AddItemToObject(words, k->name, new_ref("#/$defs/limit_value"));
	required = json_add_array(pair, "required");
	for (const struct key *k = keys_limit; k->name; k++)
		cJSON_AddItemToArray(required, cJSON_CreateString(k->name));
	json_add_bool(pair, "additionalProperties", false);
	add_any_of(limit, new_ref("#/$defs/limit_value"), pair, NULL);
	limit = new_map(keys_env_file, 0);
	cJSON_AddItemToArray(json_add_array(limit, "required"), cJSON_CreateString("path"));
	words = json_add_object(defs, "env_file");
	add_any_of(words, new_type("string"), limit, NULL);
	return top;
}

/* ---- the manual ---- */

/* Text that scdoc shall show as it is; `word` becomes underlined. */
static void add_scdoc(struct text *t, const char *s)
{
	for (; *s; s++) {
		if (*s == '`') {
			text_add(t, "_");
			continue;
		}
		if (strchr("_*\\<>[]#|~-", *s) && *s != '-')
			text_add(t, "\\");
		text_add_bytes(t, s, 1);
	}
}

static const char *slot_noun(const struct key *k)
{
	switch (k->slot) {
	case SLOT_TEXT:
	case SLOT_PROJECT:
		return "text";
	case SLOT_PATH:
		return "path";
	case SLOT_BOOL:
		return "true or false";
	case SLOT_INT:
	case SLOT_COUNT:
		return "whole number";
	case SLOT_FACTOR:
		return "number";
	case SLOT_SHARE:
		return "share";
	case SLOT_DURATION:
		return "duration";
	case SLOT_SIZE:
		return "size";
	case SLOT_WORD:
		return "word";
	case SLOT_SIGNAL:
		return "signal";
	case SLOT_SIGNALS:
		return "all, or list of signals";
	case SLOT_CODES:
		return "list of exit codes";
	case SLOT_UMASK:
		return "octal mask";
	case SLOT_LIMIT:
		return k->unit == UNIT_BYTES ? "size" : k->unit == UNIT_SECONDS ? "duration" : "whole number";
	case SLOT_MAP:
		return k->short_form ? "word or map" : "map";
	case SLOT_VERSION:
		return "1";
	case SLOT_INCLUDE:
		return "path or list";
	case SLOT_ENV_FILES:
		return "path, map or list";
	case SLOT_COMMAND:
		return "list or text";
	case SLOT_EXTENDS:
		return "name of a template";
	case SLOT_ENVIRONMENT:
	case SLOT_DEFAULTS:
	case SLOT_TEMPLATES:
	case SLOT_DAEMONS:
	default:
		return "map";
	}
}

static void add_keys(struct text *t, const struct key *keys, const char *path)
{
	for (const struct key *k = keys; k->name; k++) {
		char deeper[128];

		if (k->flags & KEY_LATER)
			continue;
		snprintf(deeper, sizeof(deeper), "%s%s%s", path, *path ? "." : "", k->name);
		text_add(t, "*");
		for (const char *p = deeper; *p; p++) {
			if (*p == '_')
				text_add(t, "\\");
			text_add_bytes(t, p, 1);
		}
		text_addf(t, "* (%s)\n\t", slot_noun(k));
		add_scdoc(t, k->doc);
		if (k->otherwise && *k->otherwise) {
			text_add(t, " Default: ");
			add_scdoc(t, k->otherwise);
			text_add(t, ".");
		}
		if ((k->flags & KEY_START) && k->slot != SLOT_LIMIT)
			text_add(t, " A change takes effect when the daemon is started again.");
		text_add(t, "\n\n");
		if (k->slot == SLOT_MAP)
			add_keys(t, k->keys, deeper);
	}
}

static void add_later(struct text *t, const struct key *keys, const char *path, bool *first)
{
	for (const struct key *k = keys; k->name; k++) {
		char deeper[128];

		snprintf(deeper, sizeof(deeper), "%s%s%s", path, *path ? "." : "", k->name);
		if (k->flags & KEY_LATER) {
			text_add(t, *first ? "_" : ", _");
			add_scdoc(t, deeper);
			text_add(t, "_");
			*first = false;
		} else if (k->keys)
			add_later(t, k->keys, deeper, first);
	}
}

char *config_schema_scdoc(void)
{
	_cleanup_text_ struct text t = { 0 };
	bool first = true;

	text_add(&t, "# KEYS OF THE FILE\n\n");
	add_keys(&t, keys_file, "");
	text_add(&t, "# KEYS OF A DAEMON\n\nThese stand under the name of a daemon or a template, and in "
		     "_defaults_.\n\n");
	add_keys(&t, keys_daemon, "");
	text_add(&t, "# NOT SUPPORTED YET\n\nThese keys are known and refused, never ignored: ");
	add_later(&t, keys_file, "", &first);
	add_later(&t, keys_daemon, "", &first);
	text_add(&t, ".\n");
	return text_take(&t);
}
