/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The one table of what may stand in supervise.yaml. Parser, suggestions, JSON Schema, manual and the JSON form handed to the
 * supervisor all come from it.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "base/error.h"
#include "base/json.h"
#include "base/text.h"

struct config;
struct daemon_config;

enum slot_type {
	SLOT_NONE = 0,
	SLOT_STRING,   /* char * */
	SLOT_PATH,     /* char *, made absolute against the file's folder */
	SLOT_BOOL,     /* bool */
	SLOT_UINT,     /* unsigned, min..max */
	SLOT_INT,      /* int, min..max */
	SLOT_OCTAL,    /* int */
	SLOT_DURATION, /* uint64_t, ms */
	SLOT_SIZE,     /* uint64_t, bytes */
	SLOT_FACTOR,   /* double >= 1 */
	SLOT_SHARE,    /* double 0..1, or "20%" */
	SLOT_ENUM,     /* an enum, by words */
	SLOT_ALL_THREADS, /* bool: all | crashed */
	SLOT_SIGNAL,   /* int */
	SLOT_LEVEL,    /* enum log_level */
	SLOT_EXITS,    /* uint8_t[32] */
	SLOT_SIGNALS,  /* uint64_t */
	SLOT_COMMAND,  /* char **; list, or text split into words */
	SLOT_SHELL,    /* bool, seen by command */
	SLOT_ENVIRONMENT, /* char ** "K=V"; a map */
	SLOT_ENV_FILE, /* file names, read into environment */
	SLOT_LIMITS,   /* struct limit_config *, a map */
	SLOT_MAP,      /* the keys of sub */
	SLOT_OUTER,    /* handled by the loader itself: daemons, include, extends, ... */
	SLOT_LATER,    /* known, and not supported yet */
};

struct slot {
	const char *name;
	enum slot_type type;
	size_t offset;             /* in struct config or struct daemon_config */
	const struct slot *sub;    /* SLOT_MAP: its keys, ended by a NULL name */
	const char *word_key;      /* SLOT_MAP: the key that a plain word sets ("restart: always") */
	const char *const *words;  /* SLOT_ENUM: by value, [0] unused, ended by NULL */
	long long min, max;
	const char *standard;      /* built-in default as text; NULL: none */
	const char *doc;
};

extern const struct slot config_slots[];  /* top level */
extern const struct slot daemon_slots[];  /* a daemon, a template, defaults */

/* Return: the slot called @name in @table, or NULL */
const struct slot *slot_find(const struct slot *table, const char *name);

/**
 * slot_set_text() - set a scalar slot from its text
 * @base:  struct config or struct daemon_config
 * Return: 0, or -EINVAL with @err ("'x' is no duration; write 10s, 250ms, 1h30m")
 */
int slot_set_text(const struct slot *s, void *base, const char *text, struct error *err);

/* Scalar slots only: the canonical text, which slot_set_text() reads back. */
void slot_get_text(const struct slot *s, const void *base, struct text *out);
bool slot_is_scalar(const struct slot *s);

/* Sets every default of @table. */
int slots_set_defaults(const struct slot *table, void *base);

/* rlimit names. Return: RLIMIT_..., or -EINVAL */
int limit_from_name(const char *name);
const char *limit_to_name(int resource);
extern const char *const limit_names[]; /* NULL-terminated */
/* "4096", "8G", "unlimited", "60s" (cpu) */
int limit_parse(int resource, const char *text, unsigned long long *ret);

char **strv_dup(char *const *v);
void strv_free(char **v);
int strv_add(char ***v, const char *s);
/* Sets "KEY=VALUE", replacing one of the same key. */
int strv_set_env(char ***v, const char *key, const char *value);

/* Splits text into words as a shell does: blanks, quotes, backslashes; nothing is expanded. */
int words_split(const char *text, char ***ret, struct error *err);
