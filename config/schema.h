/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The one table of every key supervise.yaml may hold. The reader of the file, the suggestions in its
 * messages, the built-in defaults, the JSON Schema, the manual page and the JSON form all walk it, so they
 * cannot differ.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "config/config.h"

enum slot {
	SLOT_NONE = 0,
	SLOT_TEXT,     /* char * */
	SLOT_PATH,     /* char *; made absolute against the folder of the file it stands in */
	SLOT_BOOL,     /* bool */
	SLOT_INT,      /* int, min..max */
	SLOT_COUNT,    /* unsigned, min..max */
	SLOT_FACTOR,   /* double, min..max */
	SLOT_SHARE,    /* double 0..1, written 20% or 0.2 */
	SLOT_DURATION, /* uint64_t in milliseconds, min..max */
	SLOT_SIZE,     /* uint64_t in bytes */
	SLOT_WORD,     /* an enum of `words` */
	SLOT_SIGNAL,   /* int */
	SLOT_SIGNALS,  /* uint64_t, bit (signal - 1); "all" or a list */
	SLOT_CODES,    /* uint8_t[32], bit per exit code; a list of codes and ranges */
	SLOT_UMASK,    /* int, written octal */
	SLOT_LIMIT,    /* an entry of daemon_config.limits; min is the RLIMIT_... */
	SLOT_MAP,      /* the keys in `keys` */
	/* each of these is read by code of its own */
	SLOT_VERSION,
	SLOT_PROJECT,
	SLOT_INCLUDE,
	SLOT_ENV_FILES,
	SLOT_ENVIRONMENT,
	SLOT_COMMAND,
	SLOT_EXTENDS,
	SLOT_DEFAULTS,
	SLOT_TEMPLATES,
	SLOT_DAEMONS,
	_SLOT_MAX
};

enum {
	KEY_LATER = 1 << 0,      /* known, and refused: its part does not exist yet */
	KEY_MAIN = 1 << 1,       /* only in the main file */
	KEY_NO_DEFAULT = 1 << 2, /* means nothing under `defaults` */
	KEY_START =
	    1
	    << 3, /* read when the program starts: a change asks for a restart; in the digest of the daemon */
	KEY_ALIAS = 1 << 4,    /* another spelling of a key before it: not in the JSON form */
	KEY_NOT_HELD = 1 << 5, /* worked off while reading: not in the JSON form */
};

enum limit_unit { UNIT_COUNT, UNIT_BYTES, UNIT_SECONDS };

struct word {
	const char *name;
	int value;
	const char *means; /* not accepted; what its users mean, for the suggestion */
	bool later;        /* known, and refused: its part does not exist yet */
};

struct key {
	const char *name; /* NULL ends a table */
	enum slot slot;
	unsigned flags;
	size_t offset; /* in struct config for the keys of the file, in struct draft for those of a daemon */
	int64_t min, max;
	enum limit_unit unit;
	const struct word *words;
	const struct key *keys;
	const char *short_form; /* the key of `keys` a single word stands for */
	const char *otherwise;  /* default, as it would be written in the file; NULL: none, or zero */
	const char *also;       /* words other programs have for it, blanks between: for suggestions */
	const char *doc;        /* for the manual and for editors; `so` names a key or a value */
};

/* A daemon while it is put together; the keys of `keys_daemon` have their offsets here. */
struct draft {
	struct daemon_config d; /* first: offsets in it are offsets here */
	bool shell;
	unsigned instances; /* 0: not given */
};

extern const struct key keys_file[];   /* struct config */
extern const struct key keys_daemon[]; /* struct draft */
extern const struct key keys_env_file[];
extern const struct key keys_limit[]; /* {soft, hard} */
extern const struct word words_policy[], words_format[], words_compress[], words_wish[], words_store[];

const struct key *schema_find(const struct key *keys, const char *name);

/* The key a person may have meant by @name, or NULL. */
const struct key *schema_suggest(const struct key *keys, const char *name);

/* The map below @keys (itself left out) in which @name is a key: "restart" for "policy". NULL: none */
const struct key *schema_home(const struct key *keys, const char *name);

/* Whether the field of this SLOT_WORD is a bool, not an enum. */
bool schema_word_is_bool(const struct key *k);

const char *word_name(const struct word *words, int value); /* NULL: no such value */

struct complaint {
	char what[256]; /* "expects a duration such as 10s, 5m or 1h30m": to follow the key's name */
	char hint[160]; /* a sentence, or "" */
	bool later;     /* the value is known, its part does not exist yet */
};

/**
 * slot_set() - put a value that was written as text into its field
 * @k:      a key whose slot is SLOT_TEXT .. SLOT_UMASK, but for SLOT_PATH
 * @text:   the scalar, variables replaced
 * @field:  address of the field; its old value is freed or overwritten. SIGNALS and CODES add to it
 *
 * Return:  0; 1 with @ret saying what is wrong; -ENOMEM
 */
int slot_set(const struct key *k, const char *text, void *field, struct complaint *ret);

/* A limit as text, "unlimited" included. Return: 0, or 1 with @ret */
int slot_limit(const struct key *k, const char *text, rlim_t *ret_value, struct complaint *ret);

/* What slot_set() expects, as a noun: "a duration such as 10s, 5m or 1h30m". */
const char *slot_expects(const struct key *k, char *buf, size_t size);

/* Sets every field of @keys (and of the maps below) to its default. @base: zeroed or whole. Return: 0 or
 * -ENOMEM */
int schema_set_defaults(const struct key *keys, void *base);

/* Frees the strings of @keys (and of the maps below). */
void schema_free_fields(const struct key *keys, void *base);

static inline void *key_field(const struct key *k, void *base)
{
	return (char *)base + k->offset;
}
