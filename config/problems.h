/* SPDX-License-Identifier: Apache-2.0 */
/* Collecting what is wrong with a configuration: every finding once, sorted by place. */
#pragma once

#include "config/config.h"

struct source; /* a file that was read */

/* Adds a finding; one at the same place with the same text is there already. @hint may be NULL. Columns are 1-based. */
void problems_add(struct config_problems *p, bool warning, const char *file, unsigned line, unsigned column,
    unsigned end_column, const char *code, const char *message, const char *hint);
void problems_sort(struct config_problems *p);
bool problems_any_error(const struct config_problems *p);
