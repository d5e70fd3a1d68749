/* SPDX-License-Identifier: Apache-2.0 */
#include "db/names.h"

#include <stdlib.h>
#include <string.h>

/* Source: FNV-1a, 64 bits */
static size_t hash(struct view v)
{
	uint64_t h = 14695981039346656037u;

	for (size_t i = 0; i < v.size; i++)
		h = (h ^ (unsigned char)v.data[i]) * 1099511628211u;
	return (size_t)(h ^ h >> 32);
}

static struct name_entry *find(const struct name_map *m, struct view text)
{
	for (size_t i = hash(text);; i++) {
		struct name_entry *e = &m->slots[i & (m->room - 1)];

		if (!e->text || (e->size == text.size && !memcmp(e->text, text.data, text.size)))
			return e;
	}
}

int64_t name_map_get(const struct name_map *m, struct view text)
{
	return m->room ? find(m, text)->id : 0;
}

static int grow(struct name_map *m)
{
	struct name_map larger = { .room = m->room ? m->room * 2 : 64, .n = m->n };

	larger.slots = calloc(larger.room, sizeof(*larger.slots));
	if (!larger.slots)
		return -1;
	for (size_t i = 0; i < m->room; i++)
		if (m->slots[i].text)
			*find(&larger, (struct view){ m->slots[i].text, m->slots[i].size }) = m->slots[i];
	free(m->slots);
	*m = larger;
	return 0;
}

void name_map_put(struct name_map *m, struct view text, int64_t id)
{
	struct name_entry *e;

	if (m->n >= NAMES_MAX)
		name_map_clear(m);
	if (m->n * 2 >= m->room && grow(m) < 0)
		return;
	e = find(m, text);
	if (!e->text) {
		e->text = malloc(text.size + 1);
		if (!e->text)
			return;
		memcpy(e->text, text.data, text.size);
		e->size = text.size;
		m->n++;
	}
	e->id = id;
}

void name_map_clear(struct name_map *m)
{
	for (size_t i = 0; i < m->room; i++)
		free(m->slots[i].text);
	free(m->slots);
	*m = (struct name_map){ 0 };
}
