/* SPDX-License-Identifier: Apache-2.0 */
/* Fields of the table of keys as JSON. */
#pragma once

#include "base/json.h"
#include "config/schema.h"

/**
 * keys_to_json() - add the fields of @keys, and of the maps below, to an object
 * @only:  flags one of which a key must have; 0: all
 */
void keys_to_json(const struct key *keys, const void *base, unsigned only, cJSON *j);
