/* SPDX-License-Identifier: Apache-2.0 */
/* cJSON with the checks and cleanups we always want: typed getters, 64-bit integers as strings, UTF-8 repaired. */
#pragma once

#include <cjson/cJSON.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/cleanup.h"
#include "base/error.h"

DEFINE_CLEANUP(cJSON *, cJSON_Delete)
#define _cleanup_json_ _cleanup_(cJSON_Deletep)

/* Parses exactly @size bytes (blank space may follow). @err gets line and column. Return: 0, -EINVAL or -ENOMEM */
int json_parse(const char *data, size_t size, cJSON **ret, struct error *err);

/* One line without blanks / indented, newline at the end of neither. The caller frees. NULL: no memory */
char *json_print(const cJSON *j);
char *json_print_pretty(const cJSON *j);

/* Getters: the value of @key when it is there and of that type, else @otherwise. Strings are borrowed. */
const char *json_get_string(const cJSON *j, const char *key, const char *otherwise);
int64_t json_get_i64(const cJSON *j, const char *key, int64_t otherwise); /* a number, or a string of digits */
double json_get_double(const cJSON *j, const char *key, double otherwise);
bool json_get_bool(const cJSON *j, const char *key, bool otherwise);
const cJSON *json_get_array(const cJSON *j, const char *key);
const cJSON *json_get_object(const cJSON *j, const char *key);

/* Adders: nothing is added when @j is NULL or memory runs out. json_add_text repairs UTF-8; NULL adds null. */
void json_add_text(cJSON *j, const char *key, const char *value);
void json_add_text_n(cJSON *j, const char *key, const void *data, size_t size);
void json_add_i64(cJSON *j, const char *key, int64_t v);  /* a number up to 2^53 either way, a string beyond */
void json_add_id(cJSON *j, const char *key, uint64_t v);  /* always a string: ids, cursors */
void json_add_hex(cJSON *j, const char *key, uint64_t v); /* "0x..." */
void json_add_double(cJSON *j, const char *key, double v);
void json_add_bool(cJSON *j, const char *key, bool v);
void json_add_time(cJSON *j, const char *key, int64_t wall_us); /* RFC 3339 UTC; 0 adds null */
cJSON *json_add_object(cJSON *j, const char *key);             /* borrowed, or NULL */
cJSON *json_add_array(cJSON *j, const char *key);
