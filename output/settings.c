/* SPDX-License-Identifier: Apache-2.0 */
#include "output/settings.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/paths.h"
#include "base/text.h"

bool daemon_name_is_valid(const char *name)
{
	size_t n = strlen(name), slashes = 0;

	if (!n || n >= DAEMON_NAME_MAX || name[0] == '.' || name[0] == '-' || name[0] == '/' || name[n - 1] == '/')
		return false;
	for (size_t i = 0; i < n; i++) {
		char c = name[i];

		if (c == '/') {
			if (slashes++)
				return false;
		} else if (!((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' ||
		               c == '-' || c == '.')) {
			return false;
		}
	}
	return true;
}

const char *settings_get_text(const struct settings *s, uint16_t offset)
{
	return offset ? s->text + offset : NULL;
}

/* Adds an optional text; 0 when it is absent. */
static uint16_t add(struct text *t, const char *value)
{
	size_t at = t->size;

	if (!value || !*value || at > SETTINGS_MAX)
		return 0;
	text_add_utf8(t, value, strlen(value));
	text_add_bytes(t, "", 1);
	return (uint16_t)at;
}

int settings_from_json(const cJSON *j, struct settings **ret, struct error *err)
{
	static const char *const formats[] = { [FORMAT_JSON] = "json", [FORMAT_TEXT] = "text", [FORMAT_RAW] = "raw" };
	_cleanup_text_ struct text t = { 0 };
	const char *daemon = json_get_string(j, "daemon", "");
	const char *format = json_get_string(j, "format", "json");
	const char *compress = json_get_string(j, "compress", "none");
	char file[DAEMON_NAME_MAX];
	struct settings s = { 0 }, *p;
	int64_t n;

	if (!daemon_name_is_valid(daemon))
		return error_set(err, -EINVAL, "\"daemon\" is missing or not a daemon's name");
	for (unsigned i = FORMAT_JSON; i < _FORMAT_MAX; i++)
		if (!strcmp(format, formats[i]))
			s.format = (uint8_t)i;
	if (!s.format)
		return error_set(err, -EINVAL, "%s: \"format\" is not one of json, text, raw", daemon);
	s.level = (uint8_t)log_level_from_string(json_get_string(j, "level", "DEBUG"));
	if (s.level == LEVEL_UNKNOWN)
		return error_set(err, -EINVAL, "%s: \"level\" is not the name of a level", daemon);
	s.compress = !strcmp(compress, "zstd");
	if (!s.compress && strcmp(compress, "none"))
		return error_set(err, -EINVAL, "%s: \"compress\" is neither zstd nor none", daemon);
	s.store = json_get_bool(j, "store", false);
	n = json_get_i64(j, "pid", 0);
	s.pid = n > 0 && n <= INT32_MAX ? (int32_t)n : 0;
	n = json_get_i64(j, "max_size", 0);
	s.max_size = n > 0 ? (uint64_t)n : 0;
	n = json_get_i64(j, "keep", 0);
	s.keep = n < 0 ? 0 : n > 1000000 ? 1000000 : (uint32_t)n;

	text_add_bytes(&t, daemon, strlen(daemon) + 1);
	s.file = add(&t, paths_file_name(daemon, file, sizeof(file)));
	s.run = add(&t, json_get_string(j, "run", NULL));
	s.experiment = add(&t, json_get_string(j, "experiment", NULL));
	s.stage = add(&t, json_get_string(j, "stage", NULL));
	s.node = add(&t, json_get_string(j, "node", NULL));
	if (t.failed)
		return error_set(err, -ENOMEM, "no memory");
	if (sizeof(s) + t.size > SETTINGS_MAX)
		return error_set(err, -EINVAL, "%s: the texts of the message are too long", daemon);
	s.size = (uint32_t)(sizeof(s) + t.size);
	p = malloc(s.size);
	if (!p)
		return error_set(err, -ENOMEM, "no memory");
	memcpy(p, &s, sizeof(s));
	memcpy(p->text, t.data, t.size);
	*ret = p;
	return 0;
}

bool settings_are_valid(const void *data, size_t size)
{
	const struct settings *s = data;
	char file[DAEMON_NAME_MAX];
	size_t n;

	if (size < sizeof(*s) + 2 || size > SETTINGS_MAX || s->size != size)
		return false;
	n = size - sizeof(*s);
	if (s->text[n - 1]) /* so every text ends within the block */
		return false;
	if (!s->format || s->format >= _FORMAT_MAX || !s->level || s->level >= _LEVEL_MAX || s->compress > 1 ||
	    s->store > 1)
		return false;
	if (s->run >= n || s->experiment >= n || s->stage >= n || s->node >= n || !s->file || s->file >= n)
		return false;
	return daemon_name_is_valid(s->text) &&
	    !strcmp(paths_file_name(s->text, file, sizeof(file)), s->text + s->file);
}
