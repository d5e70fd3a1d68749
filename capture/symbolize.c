/* SPDX-License-Identifier: Apache-2.0 */
#include "capture/symbolize.h"

#include <dwarf.h>
#include <elfutils/libdw.h>
#include <elfutils/libdwfl.h>
#include <errno.h>
#include <fcntl.h>
#include <libiberty/demangle.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum {
	LINKAGE_MAX = 4096, /* longer ones are not demangled: output may be exponential in the input */
	NAME_MAX_ = 2048,
};

struct symbolizer {
	const struct modules *m;
	Dwfl *dwfl;
	Dwfl_Module **modules; /* same order as @m->m; NULL: not looked at yet */
	bool *failed;
};

static char debug_path[] = ":.debug:/usr/lib/debug";
static char *debug_paths = debug_path;

static int find_elf(Dwfl_Module *mod, void **userdata, const char *name, Dwarf_Addr base, char **file, Elf **elf)
{
	(void)mod;
	(void)userdata;
	(void)name;
	(void)base;
	(void)file;
	(void)elf;
	return -1; /* dwfl_report_elf() has been given the file */
}

int symbolizer_new(struct symbolizer **ret, const struct modules *modules)
{
	static const Dwfl_Callbacks callbacks = { .find_elf = find_elf, .find_debuginfo = dwfl_standard_find_debuginfo,
		.section_address = dwfl_offline_section_address, .debuginfo_path = &debug_paths };
	_cleanup_(symbolizer_freep) struct symbolizer *s = calloc(1, sizeof(*s));

	if (!s)
		return -ENOMEM;
	unsetenv("DEBUGINFOD_URLS");
	s->m = modules;
	s->modules = calloc(modules->n + 1, sizeof(s->modules[0]));
	s->failed = calloc(modules->n + 1, sizeof(s->failed[0]));
	s->dwfl = dwfl_begin(&callbacks);
	if (!s->modules || !s->failed || !s->dwfl)
		return -ENOMEM;
	*ret = TAKE_PTR(s);
	return 0;
}

struct symbolizer *symbolizer_free(struct symbolizer *s)
{
	if (!s)
		return NULL;
	if (s->dwfl)
		dwfl_end(s->dwfl);
	free(s->modules);
	free(s->failed);
	free(s);
	return NULL;
}

/* The module's file is given to libdwfl when its first frame comes up, at the bias of our own module table. */
static Dwfl_Module *open_module(struct symbolizer *s, const struct module *mod)
{
	size_t i = (size_t)(mod - s->m->m);
	int fd;

	if (s->modules[i] || s->failed[i])
		return s->modules[i];
	s->failed[i] = true;
	if (!mod->file || !mod->biased)
		return NULL;
	fd = open(mod->path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
	if (fd < 0)
		return NULL;
	dwfl_report_begin_add(s->dwfl);
	s->modules[i] = dwfl_report_elf(s->dwfl, mod->path, mod->path, fd, mod->bias, true);
	dwfl_report_end(s->dwfl, NULL, NULL);
	if (!s->modules[i])
		close(fd);
	return s->modules[i];
}

char *symbol_demangle(const char *linkage)
{
	if (!linkage || strlen(linkage) > LINKAGE_MAX || linkage[0] != '_')
		return NULL;
	return cplus_demangle(linkage, DMGL_AUTO | DMGL_ANSI); /* without DMGL_PARAMS: names and template arguments */
}

static void set_name(struct symbol *ret, const char *linkage, const char *plain)
{
	const char *name = linkage ? linkage : plain;
	char *nice = symbol_demangle(name);

	free(ret->function);
	free(ret->linkage);
	ret->function = ret->linkage = NULL;
	if (nice && strlen(nice) > NAME_MAX_)
		strcpy(nice + NAME_MAX_ - 4, "...");
	if (nice) {
		ret->function = nice;
		ret->linkage = strdup(name);
	} else if (name) {
		ret->function = strndup(name, NAME_MAX_);
	}
}

/* From the symbol tables. */
static bool find_symbol(Dwfl_Module *mod, uint64_t address, struct symbol *ret)
{
	GElf_Sym sym;
	GElf_Off off;
	const char *name = dwfl_module_addrinfo(mod, address, &off, &sym, NULL, NULL, NULL);

	if (!name || !*name || off >= sym.st_size) /* the nearest one before is no answer */
		return false;
	set_name(ret, name, NULL);
	ret->offset = off;
	return ret->function != NULL;
}

static const char *die_string(Dwarf_Die *die, unsigned attribute)
{
	Dwarf_Attribute a;

	return dwarf_formstring(dwarf_attr_integrate(die, attribute, &a));
}

static void name_die(struct symbol *ret, Dwarf_Die *die)
{
	const char *linkage = die_string(die, DW_AT_linkage_name);

	if (!linkage)
		linkage = die_string(die, DW_AT_MIPS_linkage_name);
	if (linkage || dwarf_diename(die))
		set_name(ret, linkage, dwarf_diename(die));
}

/* Takes "." and "x/.." out of a path: compilers write where they stood. */
static void tidy_path(char *path)
{
	char *out = path + 1, *p = path + 1;

	if (path[0] != '/')
		return;
	while (*p) {
		size_t n = strcspn(p, "/");

		if (n == 2 && p[0] == '.' && p[1] == '.') {
			if (out > path + 1)
				for (out--; out > path + 1 && out[-1] != '/'; out--)
					;
		} else if (n && !(n == 1 && p[0] == '.')) {
			memmove(out, p, n);
			out += n;
			if (p[n])
				*out++ = '/';
		}
		p += n + (p[n] == '/');
	}
	*out = '\0';
}

static void set_file(struct symbol *ret, const char *file, const char *folder)
{
	char path[4096];

	if (!file || !*file)
		return;
	if (file[0] != '/' && folder && folder[0] == '/' && strcmp(file, "<built-in>") != 0)
		snprintf(path, sizeof(path), "%s/%s", folder, file);
	else
		snprintf(path, sizeof(path), "%s", file);
	tidy_path(path);
	free(ret->file);
	ret->file = strdup(path);
}

static const char *folder_of(Dwarf_Die *cu)
{
	Dwarf_Attribute a;

	return dwarf_formstring(dwarf_attr(cu, DW_AT_comp_dir, &a));
}

static bool is_function(Dwarf_Die *die)
{
	int tag = dwarf_tag(die);

	return tag == DW_TAG_subprogram || tag == DW_TAG_inlined_subroutine || tag == DW_TAG_entry_point;
}

static void set_call_site(struct symbol *ret, Dwarf_Die *inlined, Dwarf_Die *cu, Dwarf_Files *files, size_t n_files)
{
	Dwarf_Attribute a;
	Dwarf_Word value;

	if (dwarf_formudata(dwarf_attr(inlined, DW_AT_call_file, &a), &value) == 0 && value < n_files)
		set_file(ret, dwarf_filesrc(files, value, NULL, NULL), folder_of(cu));
	if (dwarf_formudata(dwarf_attr(inlined, DW_AT_call_line, &a), &value) == 0 && value < INT32_MAX)
		ret->line = (int)value;
}

/* The chain of inlined calls around @address. Return: entries written; 0 without DWARF */
static size_t find_inlines(Dwfl_Module *mod, uint64_t address, struct symbol *ret)
{
	Dwarf_Die *scopes = NULL, *chain = NULL, die, *cu;
	Dwarf_Addr bias;
	Dwarf_Files *files = NULL;
	size_t n_files = 0, n = 0;
	int n_scopes, n_chain;

	cu = dwfl_module_addrdie(mod, address, &bias);
	if (!cu)
		return 0;
	n_scopes = dwarf_getscopes(cu, address - bias, &scopes);
	if (n_scopes <= 0)
		return 0;
	/* the scopes of an inlined call lead to its definition; what it was inlined into is found from the DIE itself */
	die = scopes[0];
	free(scopes);
	n_chain = dwarf_getscopes_die(&die, &chain);
	if (n_chain <= 0)
		return 0;
	if (dwarf_getsrcfiles(cu, &files, &n_files) != 0)
		n_files = 0;
	for (int i = 0; i < n_chain && n <= SYMBOLIZE_INLINES_MAX; i++) {
		if (!is_function(&chain[i]))
			continue;
		name_die(&ret[n], &chain[i]);
		ret[n].inlined = dwarf_tag(&chain[i]) == DW_TAG_inlined_subroutine && n < SYMBOLIZE_INLINES_MAX;
		n++;
		if (!ret[n - 1].inlined)
			break;
		set_call_site(&ret[n], &chain[i], cu, files, n_files); /* of the next one */
	}
	/* a call site that no function followed */
	if (n && ret[n - 1].inlined)
		ret[n - 1].inlined = false;
	if (n <= SYMBOLIZE_INLINES_MAX)
		symbol_free(&ret[n]);
	free(chain);
	return n;
}

size_t symbolizer_find(struct symbolizer *s, uint64_t address, struct symbol *ret)
{
	const struct module *mod = modules_find(s->m, address);
	Dwfl_Module *dm = mod ? open_module(s, mod) : NULL;
	struct symbol table = { 0 };
	Dwfl_Line *line;
	size_t n;

	for (size_t i = 0; i <= SYMBOLIZE_INLINES_MAX; i++)
		ret[i] = (struct symbol){ 0 };
	if (!dm)
		return 1;
	n = find_inlines(dm, address, ret);
	if (find_symbol(dm, address, &table)) {
		if (!n)
			n = 1;
		/* the symbol table knows the physical function best: clones, and what DWARF has no linkage name for */
		if (!ret[n - 1].function) {
			ret[n - 1].function = TAKE_PTR(table.function);
			ret[n - 1].linkage = TAKE_PTR(table.linkage);
		}
		ret[n - 1].offset = table.offset;
	}
	symbol_free(&table);
	if (!n)
		n = 1;
	line = dwfl_module_getsrc(dm, address);
	if (line) {
		int number = 0;
		const char *file = dwfl_lineinfo(line, NULL, &number, NULL, NULL, NULL);

		set_file(&ret[0], file, dwfl_line_comp_dir(line));
		ret[0].line = number;
	}
	return n;
}

void symbol_free(struct symbol *s)
{
	free(s->function);
	free(s->linkage);
	free(s->file);
	*s = (struct symbol){ 0 };
}
