/* SPDX-License-Identifier: Apache-2.0 */
/* A text -> number map: what the writer remembers of the dictionary, so that a row costs no look-up. */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "log/record.h"

enum { NAMES_MAX = 16384 }; /* entries; then it is emptied and begins anew */

struct name_entry {
	char *text;
	size_t size;
	int64_t id;
};

/* All zero is empty and valid. */
struct name_map {
	struct name_entry *slots;
	size_t n, room;
};

/* Return: the number, or 0 */
int64_t name_map_get(const struct name_map *m, struct view text);

/* Best effort: without memory it is simply not remembered. */
void name_map_put(struct name_map *m, struct view text, int64_t id);

void name_map_clear(struct name_map *m);
