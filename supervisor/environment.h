/* SPDX-License-Identifier: Apache-2.0 */
/* The environment of a daemon: what the supervisor was started with, without what would mislead, plus ours. */
#pragma once

struct daemon_config;
struct registry_entry;
struct supervisor;

struct environment {
	char **plain;     /* NULL-terminated, owned */
	char **preload;   /* the same with the crash agent; NULL when there is none */
	const char *path; /* PATH in it; borrowed from plain */
};

/* Return: 0 or -ENOMEM */
int environment_make(struct environment *ret, const struct supervisor *s, const struct daemon_config *cfg,
    const struct registry_entry *e);
void environment_free(struct environment *env);
