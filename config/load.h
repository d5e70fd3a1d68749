/* SPDX-License-Identifier: Apache-2.0 */
/* What config_load() is made of, for tests and fuzzers. */
#pragma once

#include "config/config.h"

/**
 * config_load_bytes() - config_load() of bytes in memory, away from any file
 * @shown:    the name of the file in messages
 * @data:     borrowed
 * @environ_: NULL-terminated "KEY=VALUE": what ${VAR} finds; borrowed
 *
 * Includes and env files are refused as unreadable; the folder of the file is "/".
 */
int config_load_bytes(const char *shown, const char *data, size_t size, char *const *environ_,
    struct config **ret, struct config_problems *problems);

/* Project and daemon names: [a-z0-9][a-z0-9_.-]{0,62} */
bool config_name_ok(const char *name);

/* The keys that make a restart necessary, as 16 hex digits in d->digest. Return: 0 or -ENOMEM */
int daemon_config_set_digest(struct daemon_config *d);

void daemon_config_deinit(struct daemon_config *d);

/* The name of a project without `name:`: that of the folder, made to fit. The caller frees. */
char *config_name_from_folder(const char *folder);

/* Whether program or folder are on a network file system; asks the file systems. */
bool daemon_config_on_network(const struct daemon_config *d);

/*
 * The folder of @path with its links resolved, the file name as it is: what "relative to the file" and the
 * name of the folder mean where the file itself is a link. Return: 0, -ENOMEM, or the -errno of realpath(3)
 */
int config_absolute_path(const char *path, char **ret);
