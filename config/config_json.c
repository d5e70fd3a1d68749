/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The configuration as JSON: what the command line hands to the supervisor, and what the supervisor keeps for
 * its successor. Whatever it is read from, it is checked like any input. A key that is missing has its
 * default, so that a newer program takes what an older one has left; a key that is unknown is refused.
 *
 * Durations are whole milliseconds under NAME_ms, sizes bytes, exit codes the text of the file ("1-127").
 */
#include "config/config_json.h"

#include <ctype.h>
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/text.h"
#include "config/expand.h"
#include "config/load.h"

enum { NAME_BYTES = 64, COMMAND_MAX = 10000, VARIABLES_MAX = 10000, FILES_MAX = 4000, DAEMONS_MAX = 10000 };

static const char *json_name(const struct key *k, char *buf)
{
	if (k->slot != SLOT_DURATION)
		return k->name;
	snprintf(buf, NAME_BYTES, "%s_ms", k->name);
	return buf;
}

static bool is_held(const struct key *k)
{
	return !(k->flags & (KEY_LATER | KEY_NOT_HELD | KEY_ALIAS)) && k->slot != SLOT_NONE &&
	       k->slot <= SLOT_MAP;
}

static void add_codes(cJSON *j, const char *name, const uint8_t *set)
{
	_cleanup_text_ struct text t = { 0 };

	text_add_bytes(&t, "", 0);
	for (unsigned c = 0; c < 256; c++) {
		unsigned last = c;

		if (!(set[c / 8] >> (c % 8) & 1))
			continue;
		while (last < 255 && set[(last + 1) / 8] >> ((last + 1) % 8) & 1)
			last++;
		text_addf(&t, t.size ? ",%u" : "%u", c);
		if (last > c)
			text_addf(&t, "-%u", last);
		c = last;
	}
	json_add_text(j, name, t.failed ? NULL : t.data);
}

static void add_limit(cJSON *j, const char *name, rlim_t v)
{
	if (v == RLIM_INFINITY || v > INT64_MAX)
		json_add_text(j, name, "unlimited");
	else
		json_add_i64(j, name, (int64_t)v);
}

void keys_to_json(const struct key *keys, const void *base, unsigned only, cJSON *j)
{
	for (const struct key *k = keys; k->name; k++) {
		const void *field = key_field(k, (void *)base);
		char buf[NAME_BYTES];
		const char *name = json_name(k, buf);

		if (!is_held(k) || (only && k->slot != SLOT_MAP && !(k->flags & only)))
			continue;
		switch (k->slot) {
		case SLOT_TEXT:
		case SLOT_PATH:
			json_add_text(j, name, *(char *const *)field);
			break;
		case SLOT_BOOL:
			json_add_bool(j, name, *(const bool *)field);
			break;
		case SLOT_INT:
		case SLOT_SIGNAL:
			json_add_i64(j, name, *(const int *)field);
			break;
		case SLOT_UMASK:
			if (*(const int *)field < 0)
				json_add_text(j, name, NULL);
			else
				json_add_i64(j, name, *(const int *)field);
			break;
		case SLOT_COUNT:
			json_add_i64(j, name, *(const unsigned *)field);
			break;
		case SLOT_FACTOR:
		case SLOT_SHARE:
			json_add_double(j, name, *(const double *)field);
			break;
		case SLOT_DURATION:
		case SLOT_SIZE: {
			uint64_t v = *(const uint64_t *)field;

			json_add_i64(j, name, v > INT64_MAX ? INT64_MAX : (int64_t)v);
			break;
		}
		case SLOT_WORD:
			if (!k->words) {
				enum log_level level;

				memcpy(&level, field, sizeof(level));
				json_add_text(j, name, log_level_to_string(level));
			} else {
				int value;

				if (schema_word_is_bool(k))
					value = *(const bool *)field;
				else
					memcpy(&value, field, sizeof(value));
				json_add_text(j, name, word_name(k->words, value));
			}
			break;
		case SLOT_SIGNALS: {
			uint64_t set = *(const uint64_t *)field;
			cJSON *list;

			if (set == UINT64_MAX) {
				json_add_text(j, name, "all");
				break;
			}
			list = json_add_array(j, name);
			for (int i = 1; i <= 64; i++)
				if (list && set >> (i - 1) & 1)
					cJSON_AddItemToArray(list, cJSON_CreateNumber(i));
			break;
		}
		case SLOT_CODES:
			add_codes(j, name, field);
			break;
		case SLOT_LIMIT: {
			const struct daemon_config *d = base;

			for (size_t i = 0; i < d->n_limits; i++)
				if (d->limits[i].resource == (int)k->min) {
					cJSON *x = json_add_object(j, name);

					add_limit(x, "soft", d->limits[i].soft);
					add_limit(x, "hard", d->limits[i].hard);
				}
			break;
		}
		case SLOT_MAP:
			keys_to_json(k->keys, base, only, json_add_object(j, name));
			break;
		default:
			break;
		}
	}
}

static void add_strings(cJSON *j, const char *name, char *const *v)
{
	cJSON *list = json_add_array(j, name);

	for (char *const *p = v; list && p && *p; p++)
		cJSON_AddItemToArray(list, cJSON_CreateString(*p));
}

cJSON *config_to_json(const struct config *c)
{
	_cleanup_json_ cJSON *j = cJSON_CreateObject();
	cJSON *list;

	if (!j)
		return NULL;
	json_add_text(j, "schema", "supervise.config/1");
	json_add_text(j, "name", c->name);
	json_add_text(j, "path", c->path);
	add_strings(j, "files", c->files);
	json_add_text(j, "digest", c->digest);
	json_add_bool(j, "transient", c->transient);
	keys_to_json(keys_file, c, 0, j);
	list = json_add_array(j, "daemons");
	for (size_t i = 0; i < c->n_daemons; i++) {
		const struct daemon_config *d = &c->daemons[i];
		cJSON *x = cJSON_CreateObject(), *place;

		if (!x || !list || !cJSON_AddItemToArray(list, x)) {
			cJSON_Delete(x);
			return NULL;
		}
		json_add_text(x, "name", d->name);
		json_add_text(x, "base", d->base);
		json_add_i64(x, "instance", d->instance);
		add_strings(x, "command", d->command);
		add_strings(x, "environment", d->environment);
		keys_to_json(keys_daemon, d, 0, x);
		json_add_bool(x, "network", d->network);
		json_add_text(x, "digest", d->digest);
		place = json_add_object(x, "place");
		for (int k = 0; place && c->files && c->files[k]; k++)
			if (c->files[k] == d->place.file)
				json_add_i64(place, "file", k);
		json_add_i64(place, "line", d->place.line);
		json_add_i64(place, "column", d->place.column);
	}
	return TAKE_PTR(j);
}

/* ---- and back ---- */

static bool want_i64(const cJSON *v, int64_t min, int64_t max, int64_t *ret)
{
	int64_t n;

	if (cJSON_IsNumber(v)) {
		if (!(fabs(v->valuedouble) <= 9007199254740992.0) || v->valuedouble != floor(v->valuedouble))
			return false;
		n = (int64_t)v->valuedouble;
	} else if (!cJSON_IsString(v) || parse_i64(v->valuestring, &n))
		return false;
	if (n < min || n > max)
		return false;
	*ret = n;
	return true;
}

/* A string of ours: UTF-8, of bearable length. */
static bool want_text(const cJSON *v, const char **ret)
{
	size_t n;

	if (!cJSON_IsString(v))
		return false;
	n = strlen(v->valuestring);
	if (n > EXPAND_MAX_BYTES || utf8_valid_prefix(v->valuestring, n) != n)
		return false;
	*ret = v->valuestring;
	return true;
}

static bool want_limit(const cJSON *v, rlim_t *ret)
{
	const char *s;
	int64_t n;

	if (want_text(v, &s) && !strcmp(s, "unlimited"))
		*ret = RLIM_INFINITY;
	else if (want_i64(v, 0, INT64_MAX, &n))
		*ret = (rlim_t)n;
	else
		return false;
	return true;
}

static int bad(struct error *err, const char *where, const char *name)
{
	return error_set(err, -EINVAL, "%s'%.60s' is not as expected", where, name);
}

static int limit_from_json(
    const struct key *k, struct daemon_config *d, const cJSON *v, struct error *err, const char *where)
{
	struct limit_config x = { .resource = (int)k->min }, *p;

	if (!cJSON_IsObject(v) || !want_limit(cJSON_GetObjectItemCaseSensitive(v, "soft"), &x.soft) ||
	    !want_limit(cJSON_GetObjectItemCaseSensitive(v, "hard"), &x.hard) || x.soft > x.hard)
		return bad(err, where, k->name);
	p = realloc(d->limits, (d->n_limits + 1) * sizeof(*p));
	if (!p)
		return -ENOMEM;
	d->limits = p;
	d->limits[d->n_limits++] = x;
	return 0;
}

static const struct key *find_by_json_name(const struct key *keys, const char *name)
{
	char buf[NAME_BYTES];

	for (const struct key *k = keys; k->name; k++)
		if (is_held(k) && !strcmp(json_name(k, buf), name))
			return k;
	return NULL;
}

/* Whether every key of @j is once there and known, in @keys or (NULL-terminated) in @others. */
static int check_names(
    const cJSON *j, const struct key *keys, const char *const *others, struct error *err, const char *where)
{
	uint64_t seen[2] = { 0 };
	const cJSON *v;

	cJSON_ArrayForEach (v, j) {
		const struct key *k = keys && v->string ? find_by_json_name(keys, v->string) : NULL;
		size_t bit = 0;

		if (k)
			bit = (size_t)(k - keys);
		else {
			while (others && others[bit] && v->string && strcmp(others[bit], v->string))
				bit++;
			if (!others || !others[bit] || !v->string)
				return error_set(err, -EINVAL, "%sthere is no key '%.60s'", where,
				    v->string ? v->string : "");
			bit += 64;
		}
		if (bit >= 128 || seen[bit / 64] >> (bit % 64) & 1)
			return error_set(err, -EINVAL, "%skey '%.60s' is given twice", where, v->string);
		seen[bit / 64] |= UINT64_C(1) << (bit % 64);
	}
	return 0;
}

static int keys_from_json(
    const struct key *keys, void *base, const cJSON *j, struct error *err, const char *where)
{
	struct complaint c;
	const cJSON *v;
	int r;

	cJSON_ArrayForEach (v, j) {
		const struct key *k = find_by_json_name(keys, v->string);
		void *field;
		const char *s;
		int64_t n;

		if (!k)
			continue; /* of the caller; check_names() has seen to the rest */
		field = key_field(k, base);
		switch (k->slot) {
		case SLOT_TEXT:
		case SLOT_PATH:
			if (cJSON_IsNull(v))
				break;
			if (!want_text(v, &s) || (k->slot == SLOT_PATH && s[0] != '/'))
				return bad(err, where, v->string);
			r = slot_set(k, s, field, &c);
			if (r)
				return r < 0 ? r : bad(err, where, v->string);
			break;
		case SLOT_BOOL:
			if (!cJSON_IsBool(v))
				return bad(err, where, v->string);
			*(bool *)field = cJSON_IsTrue(v);
			break;
		case SLOT_INT:
			if (!want_i64(v, k->min, k->max, &n))
				return bad(err, where, v->string);
			*(int *)field = (int)n;
			break;
		case SLOT_SIGNAL:
			if (!want_i64(v, 1, 64, &n))
				return bad(err, where, v->string);
			*(int *)field = (int)n;
			break;
		case SLOT_UMASK:
			if (cJSON_IsNull(v))
				break;
			if (!want_i64(v, 0, 0777, &n))
				return bad(err, where, v->string);
			*(int *)field = (int)n;
			break;
		case SLOT_COUNT:
			if (!want_i64(v, k->min, k->max, &n))
				return bad(err, where, v->string);
			*(unsigned *)field = (unsigned)n;
			break;
		case SLOT_FACTOR:
		case SLOT_SHARE: {
			double min = k->slot == SLOT_SHARE ? 0 : (double)k->min,
			       max = k->slot == SLOT_SHARE ? 1 : (double)k->max;

			if (!cJSON_IsNumber(v) || !(v->valuedouble >= min && v->valuedouble <= max))
				return bad(err, where, v->string);
			*(double *)field = v->valuedouble;
			break;
		}
		case SLOT_DURATION:
			if (!want_i64(v, k->min, k->max, &n))
				return bad(err, where, v->string);
			*(uint64_t *)field = (uint64_t)n;
			break;
		case SLOT_SIZE:
			if (!want_i64(v, 0, INT64_MAX, &n))
				return bad(err, where, v->string);
			*(uint64_t *)field = (uint64_t)n;
			break;
		case SLOT_WORD:
			if (!want_text(v, &s) || slot_set(k, s, field, &c))
				return bad(err, where, v->string);
			break;
		case SLOT_CODES: {
			uint8_t set[32] = { 0 };

			if (!want_text(v, &s) || slot_set(k, s, set, &c))
				return bad(err, where, v->string);
			memcpy(field, set, sizeof(set));
			break;
		}
		case SLOT_SIGNALS: {
			uint64_t set = 0;
			const cJSON *item;

			if (want_text(v, &s) && !strcmp(s, "all"))
				set = UINT64_MAX;
			else if (!cJSON_IsArray(v))
				return bad(err, where, v->string);
			else
				cJSON_ArrayForEach (item, v) {
					if (!want_i64(item, 1, 64, &n))
						return bad(err, where, v->string);
					set |= UINT64_C(1) << (n - 1);
				}
			*(uint64_t *)field = set;
			break;
		}
		case SLOT_LIMIT:
			r = limit_from_json(k, base, v, err, where);
			if (r < 0)
				return r;
			break;
		case SLOT_MAP: {
			char deeper[160];

			snprintf(deeper, sizeof(deeper), "%.120s%s: ", where, k->name);
			if (!cJSON_IsObject(v))
				return bad(err, where, v->string);
			r = check_names(v, k->keys, NULL, err, deeper);
			if (!r)
				r = keys_from_json(k->keys, base, v, err, deeper);
			if (r < 0)
				return r;
			break;
		}
		default:
			return bad(err, where, v->string);
		}
	}
	return 0;
}

/* Return: 0, -EINVAL or -ENOMEM */
static int strings_from_json(const cJSON *v, size_t min, size_t max, char ***ret)
{
	int n = cJSON_IsArray(v) ? cJSON_GetArraySize(v) : -1;
	char **list;
	const cJSON *item;
	size_t i = 0;

	if (n < 0 || (size_t)n < min || (size_t)n > max)
		return -EINVAL;
	list = calloc((size_t)n + 1, sizeof(*list));
	if (!list)
		return -ENOMEM;
	*ret = list; /* freed with what it belongs to, half filled too */
	cJSON_ArrayForEach (item, v) {
		const char *s;

		if (!want_text(item, &s))
			return -EINVAL;
		list[i] = strdup(s);
		if (!list[i++])
			return -ENOMEM;
	}
	return 0;
}

static bool digest_ok(const char *s)
{
	return strlen(s) == 16 && strspn(s, "0123456789abcdef") == 16;
}

static bool variable_ok(const char *s)
{
	const char *eq = strchr(s, '=');
	char name[256];

	if (!eq || (size_t)(eq - s) >= sizeof(name))
		return false;
	memcpy(name, s, (size_t)(eq - s));
	name[eq - s] = '\0';
	return env_name_ok(name);
}

static int daemon_from_json(
    struct config *c, struct daemon_config *d, const cJSON *j, struct error *err, const char *where)
{
	static const char *const others[] = { "name", "base", "instance", "command", "environment", "digest",
		"network", "place", NULL };
	static const char *const place_names[] = { "file", "line", "column", NULL };
	const cJSON *place = cJSON_GetObjectItemCaseSensitive(j, "place"), *v;
	struct draft draft = { 0 };
	char expected[96];
	const char *name, *base, *digest;
	int64_t instance, line, column, file;
	size_t n_files = 0;
	int r;

	if (!cJSON_IsObject(j))
		return error_set(err, -EINVAL, "%snot an object", where);
	r = check_names(j, keys_daemon, others, err, where);
	if (r < 0)
		return r;
	r = schema_set_defaults(keys_daemon, &draft);
	*d = draft.d;
	if (r < 0)
		return r;
	if (!want_text(cJSON_GetObjectItemCaseSensitive(j, "base"), &base) || !config_name_ok(base) ||
	    !strcmp(base, "all"))
		return bad(err, where, "base");
	if (!want_i64(cJSON_GetObjectItemCaseSensitive(j, "instance"), -1, 9999, &instance))
		return bad(err, where, "instance");
	if (instance < 0)
		snprintf(expected, sizeof(expected), "%s", base);
	else
		snprintf(expected, sizeof(expected), "%s/%d", base, (int)instance);
	if (!want_text(cJSON_GetObjectItemCaseSensitive(j, "name"), &name) || strcmp(name, expected))
		return bad(err, where, "name");
	if (!want_text(cJSON_GetObjectItemCaseSensitive(j, "digest"), &digest) || !digest_ok(digest))
		return bad(err, where, "digest");
	v = cJSON_GetObjectItemCaseSensitive(j, "network");
	if (v && !cJSON_IsBool(v))
		return bad(err, where, "network");
	d->network = cJSON_IsTrue(v);
	d->instance = (int)instance;
	memcpy(d->digest, digest, sizeof(d->digest));
	d->name = strdup(name);
	d->base = strdup(base);
	if (!d->name || !d->base)
		return -ENOMEM;
	r = strings_from_json(cJSON_GetObjectItemCaseSensitive(j, "command"), 1, COMMAND_MAX, &d->command);
	if (r == -EINVAL || (!r && !d->command[0][0]))
		return bad(err, where, "command");
	if (r < 0)
		return r;
	r = strings_from_json(
	    cJSON_GetObjectItemCaseSensitive(j, "environment"), 0, VARIABLES_MAX, &d->environment);
	for (char **p = d->environment; !r && *p; p++)
		if (!variable_ok(*p))
			r = -EINVAL;
	if (r == -EINVAL)
		return bad(err, where, "environment");
	if (r < 0)
		return r;
	r = keys_from_json(keys_daemon, d, j, err, where);
	if (r < 0)
		return r;
	if (!d->directory)
		return bad(err, where, "directory");
	if (!place)
		return 0;
	if (!cJSON_IsObject(place) || check_names(place, NULL, place_names, err, where) < 0 ||
	    !want_i64(cJSON_GetObjectItemCaseSensitive(place, "line"), 0, INT32_MAX, &line) ||
	    !want_i64(cJSON_GetObjectItemCaseSensitive(place, "column"), 0, INT32_MAX, &column))
		return bad(err, where, "place");
	d->place.line = (unsigned)line;
	d->place.column = (unsigned)column;
	v = cJSON_GetObjectItemCaseSensitive(place, "file");
	while (c->files[n_files])
		n_files++;
	if (v && (!n_files || !want_i64(v, 0, (int64_t)n_files - 1, &file)))
		return bad(err, where, "place");
	if (v)
		d->place.file = c->files[file];
	return 0;
}

static int by_daemon_name(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

static int check_unique(const struct config *c, struct error *err)
{
	_cleanup_(freep) const char **names = calloc(c->n_daemons + 1, sizeof(*names));

	if (!names)
		return -ENOMEM;
	for (size_t i = 0; i < c->n_daemons; i++)
		names[i] = c->daemons[i].name;
	qsort(names, c->n_daemons, sizeof(*names), by_daemon_name);
	for (size_t i = 1; i < c->n_daemons; i++)
		if (!strcmp(names[i - 1], names[i]))
			return error_set(err, -EINVAL, "two daemons are called '%s'", names[i]);
	return 0;
}

int config_from_json(const cJSON *j, struct config **ret, struct error *err)
{
	static const char *const others[] = { "schema", "name", "path", "files", "digest", "transient",
		"daemons", NULL };
	_cleanup_(config_freep) struct config *c = calloc(1, sizeof(*c));
	const cJSON *daemons, *v, *x;
	const char *s;
	int r, n;

	if (!c)
		return -ENOMEM;
	if (!cJSON_IsObject(j))
		return error_set(err, -EINVAL, "the configuration is not a JSON object");
	if (!want_text(cJSON_GetObjectItemCaseSensitive(j, "schema"), &s) || strcmp(s, "supervise.config/1"))
		return error_set(err, -EINVAL, "the configuration is not of schema supervise.config/1");
	r = check_names(j, keys_file, others, err, "");
	if (!r)
		r = schema_set_defaults(keys_file, c);
	if (r < 0)
		return r;
	if (!want_text(cJSON_GetObjectItemCaseSensitive(j, "name"), &s) || !config_name_ok(s))
		return bad(err, "", "name");
	c->name = strdup(s);
	if (!c->name)
		return -ENOMEM;
	v = cJSON_GetObjectItemCaseSensitive(j, "path");
	if (v && !cJSON_IsNull(v)) {
		if (!want_text(v, &s) || s[0] != '/')
			return bad(err, "", "path");
		c->path = strdup(s);
		if (!c->path)
			return -ENOMEM;
	}
	r = strings_from_json(cJSON_GetObjectItemCaseSensitive(j, "files"), 0, FILES_MAX, &c->files);
	for (char **p = c->files; !r && *p; p++)
		if ((*p)[0] != '/')
			r = -EINVAL;
	if (r < 0)
		return r == -EINVAL ? bad(err, "", "files") : r;
	if (!want_text(cJSON_GetObjectItemCaseSensitive(j, "digest"), &s) || !digest_ok(s))
		return bad(err, "", "digest");
	memcpy(c->digest, s, sizeof(c->digest));
	v = cJSON_GetObjectItemCaseSensitive(j, "transient");
	if (v && !cJSON_IsBool(v))
		return bad(err, "", "transient");
	c->transient = cJSON_IsTrue(v);
	r = keys_from_json(keys_file, c, j, err, "");
	if (r < 0)
		return r;
	daemons = cJSON_GetObjectItemCaseSensitive(j, "daemons");
	n = cJSON_IsArray(daemons) ? cJSON_GetArraySize(daemons) : -1;
	if (n < 0 || n > DAEMONS_MAX)
		return bad(err, "", "daemons");
	c->daemons = calloc((size_t)n + 1, sizeof(*c->daemons));
	if (!c->daemons)
		return -ENOMEM;
	cJSON_ArrayForEach (x, daemons) {
		char where[48];

		snprintf(where, sizeof(where), "daemons[%zu]: ", c->n_daemons);
		r = daemon_from_json(c, &c->daemons[c->n_daemons++], x, err, where);
		if (r < 0)
			return r;
	}
	r = check_unique(c, err);
	if (r < 0)
		return r;
	*ret = TAKE_PTR(c);
	return 0;
}
