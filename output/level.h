/* SPDX-License-Identifier: Apache-2.0 */
/* Which level a line of output has, as far as the line itself says. */
#pragma once

#include <stddef.h>

#include "log/level.h"

/**
 * level_detect() - level of one line
 * @data:      the line without its newline; borrowed, any bytes
 * @ret_skip:  bytes at the beginning that only carry the level ("<3>"), not part of the message
 *
 * Return:  a level; LEVEL_INFO when the line says nothing
 */
enum log_level level_detect(const char *data, size_t size, size_t *ret_skip);
