/* SPDX-License-Identifier: Apache-2.0 */
/* Hands every call to the kind of store that was opened. */
#include "db/store.h"

#include <errno.h>
#include <string.h>

#include "db/store_ops.h"

static const struct store_ops *const kinds[] = { &sqlite_ops };

int store_open(struct store **ret, const struct store_options *o, struct error *err)
{
	for (size_t i = 0; i < ARRAY_SIZE(kinds); i++)
		if (!strcmp(kinds[i]->type, o->type))
			return kinds[i]->open(ret, o, err);
	return error_set(err, -EINVAL, "there is no store of type '%s'", o->type);
}

struct store *store_close(struct store *s)
{
	if (s)
		s->ops->close(s);
	return NULL;
}

const char *store_get_warning(const struct store *s)
{
	return s->warning[0] ? s->warning : NULL;
}

int store_get_mark(struct store *s, const struct uuid *source, const char *host, const char *name, uint64_t *ret_mark,
    struct error *err)
{
	return s->ops->get_mark(s, source, host, name, ret_mark, err);
}

int store_write(struct store *s, const struct uuid *source, const struct record *records, const uint64_t *seqs,
    size_t n, uint64_t expected, uint64_t mark, struct error *err)
{
	return s->ops->write(s, source, records, seqs, n, expected, mark, err);
}

void store_release_memory(struct store *s)
{
	s->ops->release_memory(s);
}

int store_query_logs(struct store *s, const struct log_query *q, store_row_fn fn, void *userdata, struct error *err)
{
	return s->ops->query_logs(s, q, fn, userdata, err);
}

int store_query_events(struct store *s, const struct event_query *q, store_row_fn fn, void *userdata, struct error *err)
{
	return s->ops->query_events(s, q, fn, userdata, err);
}

int store_get_cursors(struct store *s, int64_t *ret_logs, int64_t *ret_events, struct error *err)
{
	return s->ops->get_cursors(s, ret_logs, ret_events, err);
}

int store_describe(struct store *s, cJSON **ret, struct error *err)
{
	return s->ops->describe(s, ret, err);
}
