/* SPDX-License-Identifier: Apache-2.0 */
/* Log levels: the seed's five names, ordered. */
#pragma once

enum log_level {
	LEVEL_UNKNOWN = 0,
	LEVEL_DEBUG,
	LEVEL_INFO,
	LEVEL_WARNING,
	LEVEL_ERROR,
	LEVEL_CRITICAL,
	_LEVEL_MAX
};

/* "INFO"; "UNKNOWN" outside the table. Return: static text */
const char *log_level_to_string(enum log_level l);

/* Any case; also WARN, FATAL, TRACE, NOTICE. Return: the level, or LEVEL_UNKNOWN */
enum log_level log_level_from_string(const char *s);
