/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The objects a crashed process had mapped: which ranges, how far from their linked addresses, and their files. Reads
 * any address of the process, out of the snapshot or, for what is the same in the file, out of the file.
 */
#pragma once

#include <elf.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/cleanup.h"
#include "capture/snapshot.h"

enum { BUILD_ID_MAX = 64 };

struct module {
	const char *path;      /* as in the maps; "[vdso]" */
	uint64_t start, end;   /* first to last mapping */
	uint64_t bias;         /* address - linked address */
	bool biased;           /* it could be told */
	bool deleted;          /* the file has no name any more */
	bool stale;            /* a file of that name exists, but it is another one */
	bool missing;          /* cannot be opened */
	Elf64_Ehdr header;
	Elf64_Phdr *segments;
	size_t n_segments;
	uint8_t build_id[BUILD_ID_MAX];
	size_t build_id_size;
	uint64_t eh_frame_hdr; /* address, 0: none */
	const uint8_t *file;   /* whole file, mapped; NULL: deleted, stale or missing */
	size_t file_size;
};

struct modules {
	const struct snapshot *s;
	struct module *m;
	size_t n;
	uint64_t page;
};

/* Opens what can be opened; a file that cannot is no error. @s is kept. Return: 0 or -ENOMEM */
int modules_new(struct modules **ret, const struct snapshot *s);
struct modules *modules_free(struct modules *m);
DEFINE_CLEANUP(struct modules *, modules_free)

/* The module that @address lies in, or NULL. */
const struct module *modules_find(const struct modules *m, uint64_t address);

/* @size bytes at @address. Return: 0 or -EFAULT */
int modules_read(const struct modules *m, uint64_t address, void *ret, size_t size);

/* Whether code may be at @address. */
bool modules_is_code(const struct modules *m, uint64_t address);

/* Whether @address is one that a call instruction right before it would return to. */
bool modules_is_return_address(const struct modules *m, uint64_t address);

/* Lower-case hex. Return: @ret, at least 2 * BUILD_ID_MAX + 1 bytes; "" without one */
char *module_format_build_id(const struct module *m, char *ret);
