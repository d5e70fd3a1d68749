/* SPDX-License-Identifier: Apache-2.0 */
#include "supervisor/environment.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "supervisor/supervisor.h"

/* Ours from an outer supervisor, and what a login session or a service manager left: libraries would act on it. */
static const char *const dropped[] = { "SUPERVISE_DAEMON=", "SUPERVISE_INSTANCE=", "SUPERVISE_NONCE=", "SUPERVISE_RUN=",
	"SUPERVISE_RUNTIME=", "SUPERVISE_EXPERIMENT_ID=", "SUPERVISE_STAGE=", "SUPERVISE_NODE_ID=", "SUPERVISE_PROTO=",
	"SUPERVISE_CAPTURE=", "SUPERVISE_SOFT_NOFILE=", "SUPERVISE_READY_FD=", "SUPERVISE_LOCK_INHERITED=",
	"NOTIFY_SOCKET=", "JOURNAL_STREAM=", "LISTEN_FDS=", "LISTEN_PID=", "LISTEN_FDNAMES=", "WATCHDOG_USEC=",
	"WATCHDOG_PID=", "INVOCATION_ID=" };

struct list {
	char **items;
	size_t n, room;
};

static int same_key(const char *a, const char *b)
{
	size_t n = strcspn(a, "=");

	return !strncmp(a, b, n) && b[n] == '=';
}

/* Sets an entry "KEY=VALUE", replacing one of the same key. */
static int set(struct list *l, const char *entry)
{
	char *copy = strdup(entry);

	if (!copy)
		return -ENOMEM;
	for (size_t i = 0; i < l->n; i++)
		if (same_key(entry, l->items[i])) {
			free(l->items[i]);
			l->items[i] = copy;
			return 0;
		}
	if (l->n + 1 >= l->room) {
		size_t room = l->room ? l->room * 2 : 64;
		char **p = realloc(l->items, room * sizeof(*p));

		if (!p) {
			free(copy);
			return -ENOMEM;
		}
		l->items = p;
		l->room = room;
	}
	l->items[l->n++] = copy;
	l->items[l->n] = NULL;
	return 0;
}

static const char *get(const struct list *l, const char *key)
{
	size_t n = strlen(key);

	for (size_t i = 0; i < l->n; i++)
		if (!strncmp(l->items[i], key, n) && l->items[i][n] == '=')
			return l->items[i] + n + 1;
	return NULL;
}

static int setf(struct list *l, const char *key, const char *value)
{
	char buf[PATH_MAX + 64];

	if (!value || !value[0])
		return 0;
	if ((size_t)snprintf(buf, sizeof(buf), "%s=%s", key, value) >= sizeof(buf))
		return -E2BIG;
	return set(l, buf);
}

static void list_free(char **items)
{
	for (char **p = items; p && *p; p++)
		free(*p);
	free(items);
}

int environment_make(struct environment *ret, const struct supervisor *s, const struct daemon_config *cfg,
    const struct registry_entry *e)
{
	struct list l = { 0 }, with_agent = { 0 };
	char preload[PATH_MAX + 64], socket_name[PATH_MAX + 64], instance[16];
	int r = 0;

	for (char **p = environ; *p && !r; p++) {
		bool drop = false;

		for (size_t i = 0; i < ARRAY_SIZE(dropped); i++)
			drop |= !strncmp(*p, dropped[i], strlen(dropped[i]));
		if (!drop)
			r = set(&l, *p);
	}
	if (!r && cfg->python.unbuffered && !get(&l, "PYTHONUNBUFFERED"))
		r = set(&l, "PYTHONUNBUFFERED=1");
	if (!r && cfg->python.faulthandler && !get(&l, "PYTHONFAULTHANDLER"))
		r = set(&l, "PYTHONFAULTHANDLER=1");
	for (char **p = cfg->environment; p && *p && !r; p++)
		r = set(&l, *p);
	if (!r)
		r = setf(&l, "SUPERVISE_DAEMON", cfg->name);
	if (!r && cfg->instance >= 0) {
		snprintf(instance, sizeof(instance), "%d", cfg->instance);
		r = setf(&l, "SUPERVISE_INSTANCE", instance);
	}
	if (!r)
		r = setf(&l, "SUPERVISE_NONCE", e->nonce);
	if (!r)
		r = setf(&l, "SUPERVISE_RUN", e->run);
	if (!r)
		r = setf(&l, "SUPERVISE_RUNTIME", s->paths.runtime);
	if (!r)
		r = setf(&l, "SUPERVISE_EXPERIMENT_ID", cfg->experiment);
	if (!r)
		r = setf(&l, "SUPERVISE_STAGE", cfg->stage);
	if (!r)
		r = setf(&l, "SUPERVISE_NODE_ID", cfg->node);
	if (!r)
		r = set(&l, "SUPERVISE_PROTO=1");
	if (!r && s->capture && cfg->capture.mode != WISH_OFF && cfg->capture.mode != WISH_STATUS &&
	    capture_environment(s->paths.runtime, get(&l, "LD_PRELOAD"), preload, socket_name, sizeof(preload), NULL) == 0) {
		for (size_t i = 0; i < l.n && !r; i++)
			r = set(&with_agent, l.items[i]);
		if (!r)
			r = set(&with_agent, preload);
		if (!r)
			r = set(&with_agent, socket_name);
	}
	if (r < 0) {
		list_free(l.items);
		list_free(with_agent.items);
		return r;
	}
	ret->plain = l.items;
	ret->preload = with_agent.items;
	ret->path = get(&l, "PATH");
	return 0;
}

void environment_free(struct environment *env)
{
	list_free(env->plain);
	list_free(env->preload);
	*env = (struct environment){ 0 };
}
