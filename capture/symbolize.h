/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Names and lines of addresses, with libdwfl: symbol tables, DWARF, separate debug files by build-id, inlined calls. A name
 * is given only if the symbol's size says that the address is inside; otherwise there is none, which is better than a
 * wrong one.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "base/cleanup.h"
#include "capture/modules.h"

enum { SYMBOLIZE_INLINES_MAX = 24 };

struct symbol {
	char *function;   /* demangled, without parameters; NULL: unknown */
	char *linkage;    /* as in the file, if it differs */
	uint64_t offset;  /* of the address in the function; not for inlined ones */
	char *file;       /* NULL: unknown */
	int line;
	bool inlined;     /* into the next one */
};

struct symbolizer;

/* @modules is kept. Never asks a debuginfod server. Return: 0 or -errno */
int symbolizer_new(struct symbolizer **ret, const struct modules *modules);
struct symbolizer *symbolizer_free(struct symbolizer *s);
DEFINE_CLEANUP(struct symbolizer *, symbolizer_free)

/**
 * symbolizer_find() - the function at @address, preceded by the calls inlined into it
 * @address:  inside the instruction: one less than a return address
 * @ret:      SYMBOLIZE_INLINES_MAX + 1 entries, innermost first; each to be given to symbol_free()
 *
 * Return:  how many, at least 1 (which may be empty)
 */
size_t symbolizer_find(struct symbolizer *s, uint64_t address, struct symbol *ret);
void symbol_free(struct symbol *s);

/* The name a person would know; NULL if it is not mangled. The caller frees. */
char *symbol_demangle(const char *linkage);
