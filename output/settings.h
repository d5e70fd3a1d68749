/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the logger knows about one daemon: the contents of an "open" message in one flat block of memory, so that a copy
 * of it can lie beside the bytes in hand in the state file and be understood by the next logger.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "base/json.h"
#include "log/level.h"

enum {
	SETTINGS_MAX = 8 * 1024, /* bytes of one block */
	DAEMON_NAME_MAX = 128,   /* and its NUL; leaves room for what rotation adds to the file name */
};

enum output_format {
	FORMAT_UNKNOWN = 0,
	FORMAT_JSON, /* one JSON object a line */
	FORMAT_TEXT, /* time, stream, level, message */
	FORMAT_RAW,  /* the bytes as they came */
	_FORMAT_MAX
};

struct settings {
	uint32_t size; /* of the whole block */
	int32_t pid;
	uint64_t max_size; /* bytes of a log file before it is rotated; 0: never */
	uint32_t keep;     /* rotated files */
	uint8_t format;    /* enum output_format */
	uint8_t level;     /* enum log_level: the least that goes to the store */
	uint8_t compress;
	uint8_t store;
	uint16_t run, experiment, stage, node; /* offsets into text; 0: absent */
	uint16_t file;                         /* offset of the daemon's name as a file name */
	char text[];                           /* the daemon's name, then the others, each with its NUL */
};

/**
 * settings_from_json() - check an "open" message and pack it
 * @ret:  the caller frees
 *
 * Return:  0, or -EINVAL or -ENOMEM with @err
 */
int settings_from_json(const cJSON *j, struct settings **ret, struct error *err);

/* Whether @size bytes at @data (aligned to 8) are a block that settings_from_json() could have made. */
bool settings_are_valid(const void *data, size_t size);

/* Whether it may be a daemon's name, and so a file's: "train", "train/0". */
bool daemon_name_is_valid(const char *name);

/* The text at one of the offsets, or NULL. */
const char *settings_get_text(const struct settings *s, uint16_t offset);
