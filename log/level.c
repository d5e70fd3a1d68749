/* SPDX-License-Identifier: Apache-2.0 */
#include "log/level.h"

#include <stddef.h>
#include <strings.h>

#include "base/cleanup.h"

/* The first name of a level is the one that is stored; the rest are what other log systems call it. */
static const struct {
	enum log_level level;
	const char *name;
} names[] = {
	{ LEVEL_DEBUG, "DEBUG" },       { LEVEL_INFO, "INFO" },          { LEVEL_WARNING, "WARNING" },
	{ LEVEL_ERROR, "ERROR" },       { LEVEL_CRITICAL, "CRITICAL" },  { LEVEL_DEBUG, "TRACE" },
	{ LEVEL_INFO, "NOTICE" },       { LEVEL_WARNING, "WARN" },       { LEVEL_ERROR, "ERR" },
	{ LEVEL_CRITICAL, "FATAL" },    { LEVEL_CRITICAL, "CRIT" },      { LEVEL_CRITICAL, "ALERT" },
	{ LEVEL_CRITICAL, "EMERG" },    { LEVEL_CRITICAL, "EMERGENCY" }, { LEVEL_CRITICAL, "PANIC" },
};

const char *log_level_to_string(enum log_level l)
{
	for (size_t i = 0; i < ARRAY_SIZE(names); i++)
		if (names[i].level == l)
			return names[i].name;
	return "UNKNOWN";
}

enum log_level log_level_from_string(const char *s)
{
	for (size_t i = 0; s && i < ARRAY_SIZE(names); i++)
		if (!strcasecmp(names[i].name, s))
			return names[i].level;
	return LEVEL_UNKNOWN;
}
