/* SPDX-License-Identifier: Apache-2.0 */
/* The configuration as a value: its end, looking into it, the one made without a file, its digests. */
#include "config/config.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <xxhash.h>

#include "base/text.h"
#include "config/config_json.h"
#include "config/load.h"
#include "config/schema.h"

static void strv_free(char **v)
{
	for (char **p = v; p && *p; p++)
		free(*p);
	free(v);
}

void daemon_config_deinit(struct daemon_config *d)
{
	schema_free_fields(keys_daemon, d);
	free(d->name);
	free(d->base);
	strv_free(d->command);
	strv_free(d->environment);
	free(d->limits);
	memset(d, 0, sizeof(*d));
}

struct config *config_free(struct config *c)
{
	if (!c)
		return NULL;
	for (size_t i = 0; i < c->n_daemons; i++)
		daemon_config_deinit(&c->daemons[i]);
	free(c->daemons);
	strv_free(c->files);
	free(c->name);
	free(c->path);
	free(c);
	return NULL;
}

const struct daemon_config *config_find(const struct config *c, const char *name)
{
	for (size_t i = 0; i < c->n_daemons; i++)
		if (!strcmp(c->daemons[i].name, name))
			return &c->daemons[i];
	return NULL;
}

static int by_text(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

int daemon_config_set_digest(struct daemon_config *d)
{
	_cleanup_json_ cJSON *j = cJSON_CreateObject();
	_cleanup_(freep) char **sorted = NULL, *text = NULL;
	cJSON *command = json_add_array(j, "command"), *environment = json_add_array(j, "environment");
	size_t n = 0;

	while (d->environment && d->environment[n])
		n++;
	sorted = calloc(n + 1, sizeof(*sorted));
	if (!command || !environment || !sorted)
		return -ENOMEM;
	for (char **p = d->command; p && *p; p++)
		cJSON_AddItemToArray(command, cJSON_CreateString(*p));
	if (n) {
		memcpy(sorted, d->environment, n * sizeof(*sorted));
		qsort(sorted, n, sizeof(*sorted), by_text); /* the order of variables is no change */
	}
	for (size_t i = 0; i < n; i++)
		cJSON_AddItemToArray(environment, cJSON_CreateString(sorted[i]));
	keys_to_json(keys_daemon, d, KEY_START, j);
	text = json_print(j);
	if (!text)
		return -ENOMEM;
	snprintf(
	    d->digest, sizeof(d->digest), "%016llx", (unsigned long long)XXH3_64bits(text, strlen(text)));
	return 0;
}

int config_make_run(struct config **ret, const char *project, const char *daemon, char *const *argv)
{
	_cleanup_(config_freep) struct config *c = calloc(1, sizeof(*c));
	struct daemon_config *d;
	struct draft draft = { 0 };
	size_t n = 0;
	int r;

	if (!c)
		return -ENOMEM;
	if (!config_name_ok(project) || (daemon && (!config_name_ok(daemon) || !argv || !argv[0])))
		return -EINVAL;
	if (!daemon) { /* what a supervisor of runs begins with */
		r = schema_set_defaults(keys_file, c);
		c->transient = true;
		snprintf(c->digest, sizeof(c->digest), "%016x", 0);
		c->name = strdup(project);
		c->files = calloc(1, sizeof(*c->files));
		if (!c->name || !c->files)
			return -ENOMEM;
		if (!r)
			*ret = TAKE_PTR(c);
		return r;
	}
	for (; argv[n]; n++)
		if (utf8_valid_prefix(argv[n], strlen(argv[n])) != strlen(argv[n]))
			return -EILSEQ; /* JSON, which carries the configuration, is UTF-8 */
	r = schema_set_defaults(keys_file, c);
	if (!r)
		r = schema_set_defaults(keys_daemon, &draft);
	c->daemons = calloc(1, sizeof(*c->daemons));
	if (!c->daemons) {
		daemon_config_deinit(&draft.d);
		return -ENOMEM;
	}
	c->n_daemons = 1;
	d = &c->daemons[0];
	*d = draft.d;
	if (r < 0)
		return r;
	c->transient = true;
	snprintf(c->digest, sizeof(c->digest), "%016x", 0);
	c->name = strdup(project);
	c->files = calloc(1, sizeof(*c->files));
	d->name = strdup(daemon);
	d->base = strdup(daemon);
	d->instance = -1;
	d->restart.policy = RESTART_NEVER;
	d->directory = realpath(".", NULL);
	d->command = calloc(n + 1, sizeof(*d->command));
	d->environment = calloc(1, sizeof(*d->environment));
	if (!d->directory)
		return -errno;
	if (utf8_valid_prefix(d->directory, strlen(d->directory)) != strlen(d->directory))
		return -EILSEQ;
	if (!c->name || !c->files || !d->name || !d->base || !d->command || !d->environment)
		return -ENOMEM;
	for (size_t i = 0; i < n; i++) {
		d->command[i] = strdup(argv[i]);
		if (!d->command[i])
			return -ENOMEM;
	}
	d->network = daemon_config_on_network(d);
	r = daemon_config_set_digest(d);
	if (r < 0)
		return r;
	*ret = TAKE_PTR(c);
	return 0;
}

static const char *name_or_unknown(const struct word *words, int value)
{
	const char *name = value ? word_name(words, value) : NULL;

	return name ? name : "unknown";
}

const char *restart_policy_to_string(enum restart_policy p)
{
	return name_or_unknown(words_policy, (int)p);
}

const char *log_format_to_string(enum log_format f)
{
	return name_or_unknown(words_format, (int)f);
}

const char *log_compress_to_string(enum log_compress c)
{
	return name_or_unknown(words_compress, (int)c);
}

const char *capture_wish_to_string(enum capture_wish w)
{
	return name_or_unknown(words_wish, (int)w);
}

const char *store_type_to_string(enum store_type t)
{
	return name_or_unknown(words_store, (int)t);
}
