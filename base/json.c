/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cJSON 1.7.15 keeps numbers as doubles (9007199254740993 prints as 9.00719925474099e+15), passes malformed UTF-8
 * through and limits nesting to 1000: hence strings for ids and repair on the way in.
 */
#include "base/json.h"

#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/text.h"

static const int64_t exact_max = 9007199254740992LL; /* 2^53 */

int json_parse(const char *data, size_t size, cJSON **ret, struct error *err)
{
	const char *end = NULL;
	cJSON *j = cJSON_ParseWithLengthOpts(data, size, &end, 0);

	if (j) {
		while (end < data + size && isspace((unsigned char)*end))
			end++;
		if (end < data + size && *end) {
			cJSON_Delete(j);
			j = NULL;
		}
	}
	if (!j) {
		unsigned line = 1, column = 1;

		for (const char *p = data; end && p < end && p < data + size; p++) {
			column++;
			if (*p == '\n') {
				line++;
				column = 1;
			}
		}
		return error_set(err, -EINVAL, "not valid JSON at line %u, column %u", line, column);
	}
	*ret = j;
	return 0;
}

char *json_print(const cJSON *j)
{
	return cJSON_PrintUnformatted(j);
}

char *json_print_pretty(const cJSON *j)
{
	return cJSON_Print(j);
}

const char *json_get_string(const cJSON *j, const char *key, const char *otherwise)
{
	const char *s = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(j, key));

	return s ? s : otherwise;
}

int64_t json_get_i64(const cJSON *j, const char *key, int64_t otherwise)
{
	const cJSON *v = cJSON_GetObjectItemCaseSensitive(j, key);
	int64_t n;

	if (cJSON_IsNumber(v) && v->valuedouble >= -9.2e18 && v->valuedouble <= 9.2e18)
		return (int64_t)v->valuedouble;
	if (cJSON_IsString(v) && !parse_i64(v->valuestring, &n))
		return n;
	return otherwise;
}

double json_get_double(const cJSON *j, const char *key, double otherwise)
{
	const cJSON *v = cJSON_GetObjectItemCaseSensitive(j, key);

	return cJSON_IsNumber(v) ? v->valuedouble : otherwise;
}

bool json_get_bool(const cJSON *j, const char *key, bool otherwise)
{
	const cJSON *v = cJSON_GetObjectItemCaseSensitive(j, key);

	return cJSON_IsBool(v) ? cJSON_IsTrue(v) : otherwise;
}

const cJSON *json_get_array(const cJSON *j, const char *key)
{
	const cJSON *v = cJSON_GetObjectItemCaseSensitive(j, key);

	return cJSON_IsArray(v) ? v : NULL;
}

const cJSON *json_get_object(const cJSON *j, const char *key)
{
	const cJSON *v = cJSON_GetObjectItemCaseSensitive(j, key);

	return cJSON_IsObject(v) ? v : NULL;
}

void json_add_text_n(cJSON *j, const char *key, const void *data, size_t size)
{
	_cleanup_text_ struct text t = { 0 };

	text_add_utf8(&t, data, size);
	if (!t.failed)
		cJSON_AddStringToObject(j, key, t.data ? t.data : "");
}

void json_add_text(cJSON *j, const char *key, const char *value)
{
	if (value)
		json_add_text_n(j, key, value, strlen(value));
	else
		cJSON_AddNullToObject(j, key);
}

void json_add_i64(cJSON *j, const char *key, int64_t v)
{
	char buf[24];

	if (v >= -exact_max && v <= exact_max) {
		cJSON_AddNumberToObject(j, key, (double)v);
		return;
	}
	snprintf(buf, sizeof(buf), "%" PRId64, v);
	cJSON_AddStringToObject(j, key, buf);
}

void json_add_id(cJSON *j, const char *key, uint64_t v)
{
	char buf[24];

	snprintf(buf, sizeof(buf), "%" PRIu64, v);
	cJSON_AddStringToObject(j, key, buf);
}

void json_add_hex(cJSON *j, const char *key, uint64_t v)
{
	char buf[24];

	snprintf(buf, sizeof(buf), "0x%" PRIx64, v);
	cJSON_AddStringToObject(j, key, buf);
}

void json_add_double(cJSON *j, const char *key, double v)
{
	cJSON_AddNumberToObject(j, key, v);
}

void json_add_bool(cJSON *j, const char *key, bool v)
{
	cJSON_AddBoolToObject(j, key, v);
}

void json_add_time(cJSON *j, const char *key, int64_t wall_us)
{
	char buf[CLOCK_TEXT_MAX];

	if (wall_us)
		cJSON_AddStringToObject(j, key, clock_format_utc(wall_us, buf));
	else
		cJSON_AddNullToObject(j, key);
}

cJSON *json_add_object(cJSON *j, const char *key)
{
	return cJSON_AddObjectToObject(j, key);
}

cJSON *json_add_array(cJSON *j, const char *key)
{
	return cJSON_AddArrayToObject(j, key);
}
