/* SPDX-License-Identifier: Apache-2.0 */
/* What is wanted of a configuration without reading all of it. */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <yaml.h>

#include "base/file.h"
#include "config/load.h"

enum { FILE_MAX = 16 << 20 };

/* Return: whether the bytes are YAML that names the project */
static bool name_in_document(const char *data, size_t size, char **ret)
{
	yaml_document_t doc;
	yaml_parser_t parser;
	yaml_node_t *root;
	bool found = false;

	if (!yaml_parser_initialize(&parser))
		return false;
	yaml_parser_set_input_string(&parser, (const unsigned char *)data, size);
	if (yaml_parser_load(&parser, &doc)) {
		root = yaml_document_get_root_node(&doc);
		for (yaml_node_pair_t *p = root && root->type == YAML_MAPPING_NODE ? root->data.mapping.pairs.start : NULL;
		     p && p < root->data.mapping.pairs.top && !found; p++) {
			yaml_node_t *k = yaml_document_get_node(&doc, p->key), *v = yaml_document_get_node(&doc, p->value);

			if (k->type == YAML_SCALAR_NODE && v->type == YAML_SCALAR_NODE &&
			    !strcmp((const char *)k->data.scalar.value, "name") &&
			    config_name_ok((const char *)v->data.scalar.value)) {
				*ret = strdup((const char *)v->data.scalar.value);
				found = true;
			}
		}
		yaml_document_delete(&doc);
	}
	yaml_parser_delete(&parser);
	return found;
}

int config_peek_name(const char *path, char **ret)
{
	_cleanup_(freep) char *real = NULL, *data = NULL;
	size_t size = 0;
	int r = config_absolute_path(path, &real);

	if (!r)
		r = file_read(AT_FDCWD, real, FILE_MAX, &data, &size);
	if (r < 0)
		return r;
	if (name_in_document(data, size, ret))
		return *ret ? 0 : -ENOMEM;
	/* no YAML at all: a line "name: VALUE" still says what is meant */
	for (char *at = data; at; at = strchr(at, '\n')) {
		at += *at == '\n';
		if (strncmp(at, "name:", 5) != 0)
			continue;
		at += 5 + strspn(at + 5, " \t\"'");
		at[strcspn(at, " \t\r\n\"'#")] = '\0';
		if (!config_name_ok(at))
			break;
		*ret = strdup(at);
		return *ret ? 0 : -ENOMEM;
	}
	*strrchr(real, '/') = '\0';
	*ret = config_name_from_folder(real);
	return *ret ? 0 : -ENOMEM;
}

bool daemon_config_on_network(const struct daemon_config *d)
{
	const char *program = d->command && d->command[0] ? d->command[0] : "", *search = getenv("PATH");
	char found[PATH_MAX];

	if (d->directory && path_is_network(d->directory) == 1)
		return true;
	if (strchr(program, '/'))
		return program[0] == '/' && path_is_network(program) == 1;
	while (search && *search) {
		size_t n = strcspn(search, ":");

		snprintf(found, sizeof(found), "%.*s/%s", (int)n, search, program);
		if (n && !access(found, X_OK))
			return path_is_network(found) == 1;
		search += n;
		search += *search == ':';
	}
	return false;
}
