/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Level of a line. In this order:
 *
 *   <3>text                           the prefix of sd-daemon(3), 0 (emergency) to 7 (debug)
 *   {"level":"error", ...}            a JSON object with a level, severity or levelname of a known name, in any case
 *   ERROR: text   [WARN] text         a level in capitals as the first word, perhaps in brackets
 *   2026-11-23 18:01:03 [x] ERROR y   after a time, the first such word within the first 96 bytes
 *
 * Everything else is INFO. The word must be whole: ERRORS, NOINFO and X_DEBUG say nothing.
 */
#include "output/level.h"

#include <stdbool.h>
#include <string.h>
#include <strings.h>

#include "base/cleanup.h"

enum { LOOK_AHEAD = 96, JSON_LOOK_AHEAD = 4096 };

static const struct {
	const char *name;
	unsigned char size;
	unsigned char level;
} words[] = {
	{ "CRITICAL", 8, LEVEL_CRITICAL },
	{ "DEBUG", 5, LEVEL_DEBUG },
	{ "ERROR", 5, LEVEL_ERROR },
	{ "FATAL", 5, LEVEL_CRITICAL },
	{ "INFO", 4, LEVEL_INFO },
	{ "WARN", 4, LEVEL_WARNING },
	{ "WARNING", 7, LEVEL_WARNING },
};

/* What JSON members may say besides: names of syslog, OpenTelemetry, bunyan, zap, logrus, slog. Any case. */
static const struct {
	const char *name;
	unsigned char level;
} names[] = {
	{ "trace", LEVEL_DEBUG },
	{ "debug", LEVEL_DEBUG },
	{ "info", LEVEL_INFO },
	{ "information", LEVEL_INFO },
	{ "notice", LEVEL_INFO },
	{ "warn", LEVEL_WARNING },
	{ "warning", LEVEL_WARNING },
	{ "err", LEVEL_ERROR },
	{ "error", LEVEL_ERROR },
	{ "crit", LEVEL_CRITICAL },
	{ "critical", LEVEL_CRITICAL },
	{ "fatal", LEVEL_CRITICAL },
	{ "panic", LEVEL_CRITICAL },
	{ "alert", LEVEL_CRITICAL },
	{ "emerg", LEVEL_CRITICAL },
	{ "emergency", LEVEL_CRITICAL },
};

/* sd-daemon(3), syslog(3): emerg alert crit err warning notice info debug */
static const unsigned char priorities[8] = { LEVEL_CRITICAL, LEVEL_CRITICAL, LEVEL_CRITICAL, LEVEL_ERROR,
	LEVEL_WARNING, LEVEL_INFO, LEVEL_INFO, LEVEL_DEBUG };

static bool is_digit(char c)
{
	return c >= '0' && c <= '9';
}

static bool is_word(char c)
{
	return (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || is_digit(c) || c == '_' || (c & 0x80);
}

/* The level whose name is the whole word at p. */
static enum log_level word_at(const char *p, size_t size)
{
	if (!size || p[0] < 'C' || p[0] > 'W')
		return LEVEL_UNKNOWN;
	for (size_t i = 0; i < ARRAY_SIZE(words); i++)
		if (size >= words[i].size && !memcmp(p, words[i].name, words[i].size) &&
		    (size == words[i].size || !is_word(p[words[i].size])))
			return words[i].level;
	return LEVEL_UNKNOWN;
}

/*
 * Length of a time at the beginning, or 0: date and time in ISO 8601 order with '-' or '/', or a time of day alone,
 * perhaps in brackets. Only its outline is checked; a false hit costs a look at the words behind it.
 */
static size_t time_at(const char *p, size_t size)
{
	size_t i = 0, digits = 0;
	bool bracket = size && p[0] == '[', separated = false;

	if (bracket)
		i++;
	if (i >= size || !is_digit(p[i]))
		return 0;
	for (; i < size; i++) {
		if (is_digit(p[i])) {
			digits++;
			continue;
		}
		if (p[i] == '-' || p[i] == ':' || p[i] == '/') {
			separated = true;
			continue;
		}
		if (p[i] == '.' || p[i] == ',' || p[i] == '+' || p[i] == 'T' || p[i] == 'Z')
			continue;
		if (p[i] == ' ' && i + 1 < size && is_digit(p[i + 1]))
			continue;
		break;
	}
	if (digits < 6 || !separated)
		return 0;
	if (bracket && (i >= size || p[i] != ']'))
		return 0;
	return i + (bracket ? 1 : 0);
}

static enum log_level level_by_name(const char *p, size_t size)
{
	for (size_t i = 0; i < ARRAY_SIZE(names); i++)
		if (strlen(names[i].name) == size && !strncasecmp(names[i].name, p, size))
			return names[i].level;
	return LEVEL_UNKNOWN;
}

/* One past the closing quote of the string whose first byte after the opening quote is at i; 0: it does not end. */
static size_t skip_string(const char *p, size_t size, size_t i)
{
	for (; i < size; i++) {
		if (p[i] == '\\')
			i++;
		else if (p[i] == '"')
			return i + 1;
	}
	return 0;
}

/* Looks for a member of the outermost object; follows strings and nesting, and checks nothing else. */
static enum log_level json_level(const char *p, size_t size)
{
	unsigned depth = 0;
	bool key = true; /* a string here would be a key */

	for (size_t i = 0; i < size;) {
		size_t start, end;

		switch (p[i]) {
		case '{':
		case '[':
			depth++;
			key = true;
			i++;
			continue;
		case '}':
		case ']':
			if (!depth || !--depth)
				return LEVEL_UNKNOWN;
			i++;
			continue;
		case ',':
			key = true;
			i++;
			continue;
		case ':':
			key = false;
			i++;
			continue;
		case '"':
			break;
		default:
			i++;
			continue;
		}
		start = i + 1;
		end = skip_string(p, size, start);
		if (!end)
			return LEVEL_UNKNOWN;
		i = end;
		if (depth != 1 || !key)
			continue;
		end--;
		if (!(end - start == 5 && !memcmp(p + start, "level", 5)) &&
		    !(end - start == 8 && !memcmp(p + start, "severity", 8)) &&
		    !(end - start == 9 && !memcmp(p + start, "levelname", 9)))
			continue;
		while (i < size && (p[i] == ' ' || p[i] == '\t' || p[i] == ':'))
			i++;
		if (i >= size || p[i] != '"')
			continue;
		start = i + 1;
		end = skip_string(p, size, start);
		if (!end)
			return LEVEL_UNKNOWN;
		i = end;
		if (level_by_name(p + start, end - 1 - start))
			return level_by_name(p + start, end - 1 - start);
	}
	return LEVEL_UNKNOWN;
}

enum log_level level_detect(const char *data, size_t size, size_t *ret_skip)
{
	enum log_level l;
	size_t i, look;

	*ret_skip = 0;
	if (!size)
		return LEVEL_INFO;
	if (data[0] == '<' && size >= 3 && data[2] == '>' && data[1] >= '0' && data[1] <= '7') {
		*ret_skip = 3;
		return priorities[data[1] - '0'];
	}
	if (data[0] == '{') {
		l = json_level(data, size < JSON_LOOK_AHEAD ? size : JSON_LOOK_AHEAD);
		return l ? l : LEVEL_INFO;
	}
	l = word_at(data, size);
	if (l)
		return l;
	if (data[0] != '[' && !is_digit(data[0]))
		return LEVEL_INFO;
	if (data[0] == '[') {
		l = word_at(data + 1, size - 1);
		if (l)
			return l;
	}
	i = time_at(data, size < LOOK_AHEAD ? size : LOOK_AHEAD);
	if (!i)
		return LEVEL_INFO;
	look = size < LOOK_AHEAD ? size : LOOK_AHEAD;
	for (; i < look; i++) {
		if (is_word(data[i - 1]))
			continue;
		l = word_at(data + i, size - i);
		if (l)
			return l;
	}
	return LEVEL_INFO;
}
