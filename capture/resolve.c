/* SPDX-License-Identifier: Apache-2.0 */
/* Which way of capturing fits a program. Runs between fork(2) and execve(2): system calls and the stack alone. */
#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "capture/arch.h"
#include "capture/capture.h"

enum {
	SCRIPT_DEPTH = 5, /* the kernel follows four */
	HEADERS_MAX = 64,
	NEEDED_MAX = 128,
	DYNAMIC_MAX = 256,
};

static void decide(struct capture_plan *ret, enum capture_mode mode, const char *reason, const char *detail)
{
	size_t n = strlen(reason), m = strlen(detail);

	ret->mode = mode;
	if (n > sizeof(ret->reason) - 1)
		n = sizeof(ret->reason) - 1;
	if (m > sizeof(ret->reason) - 1 - n)
		m = sizeof(ret->reason) - 1 - n;
	memcpy(ret->reason, reason, n);
	memcpy(ret->reason + n, detail, m);
	ret->reason[n + m] = '\0';
}

static bool read_at(int fd, uint64_t off, void *ret, size_t size)
{
	return off <= INT64_MAX && pread(fd, ret, size, (off_t)off) == (ssize_t)size;
}

/* "#!/path args" -> /path. Return: whether it is a script */
static bool read_interpreter(int fd, char *ret, size_t size)
{
	char line[256];
	ssize_t n = pread(fd, line, sizeof(line) - 1, 0);
	char *p = line + 2, *end;

	if (n < 3 || line[0] != '#' || line[1] != '!')
		return false;
	line[n] = '\0';
	while (*p == ' ' || *p == '\t')
		p++;
	end = p + strcspn(p, " \t\n");
	if (end == p || (size_t)(end - p) >= size)
		return false;
	memcpy(ret, p, (size_t)(end - p));
	ret[end - p] = '\0';
	return true;
}

static uint64_t file_offset(const Elf64_Phdr *ph, size_t n, uint64_t address)
{
	for (size_t i = 0; i < n; i++)
		if (ph[i].p_type == PT_LOAD && address >= ph[i].p_vaddr && address - ph[i].p_vaddr < ph[i].p_filesz)
			return address - ph[i].p_vaddr + ph[i].p_offset;
	return 0;
}

/* Whether a sanitizer's runtime is among the libraries: it must come first, and refuses to start behind a preloaded one. */
static bool needs_sanitizer(int fd, const Elf64_Phdr *ph, size_t n, const Elf64_Phdr *dynamic)
{
	static const char *const names[] = { "libasan.so", "libtsan.so", "liblsan.so", "libhwasan.so", "libclang_rt." };
	Elf64_Dyn dyn[DYNAMIC_MAX];
	size_t n_dyn = dynamic->p_filesz / sizeof(dyn[0]);
	uint64_t strings = 0;

	if (n_dyn > DYNAMIC_MAX)
		n_dyn = DYNAMIC_MAX;
	if (!read_at(fd, dynamic->p_offset, dyn, n_dyn * sizeof(dyn[0])))
		return false;
	for (size_t i = 0; i < n_dyn && dyn[i].d_tag != DT_NULL; i++)
		if (dyn[i].d_tag == DT_STRTAB)
			strings = file_offset(ph, n, dyn[i].d_un.d_ptr);
	for (size_t i = 0, seen = 0; strings && i < n_dyn && dyn[i].d_tag != DT_NULL; i++) {
		char name[32] = "";

		if (dyn[i].d_tag != DT_NEEDED || seen++ == NEEDED_MAX)
			continue;
		if (pread(fd, name, sizeof(name) - 1, (off_t)(strings + dyn[i].d_un.d_val)) < 0)
			continue;
		for (size_t k = 0; k < ARRAY_SIZE(names); k++)
			if (!strncmp(name, names[k], strlen(names[k])))
				return true;
	}
	return false;
}

static bool has_privilege(int fd, const struct stat *st)
{
	char caps[64];

	return (st->st_mode & S_ISUID && st->st_uid != geteuid()) || (st->st_mode & S_ISGID && st->st_gid != getegid()) ||
	    fgetxattr(fd, "security.capability", caps, sizeof(caps)) > 0;
}

static void resolve_elf(int fd, const Elf64_Ehdr *eh, struct capture_plan *ret)
{
	Elf64_Phdr ph[HEADERS_MAX];
	const Elf64_Phdr *interpreter = NULL, *dynamic = NULL;
	char loader[256] = "", *base;

	if (eh->e_ident[EI_CLASS] != ELFCLASS64 || eh->e_machine != ARCH_ID) {
		decide(ret, CAPTURE_STATUS, "program for another machine or word size", "");
		return;
	}
	if (!eh->e_phnum || eh->e_phnum > HEADERS_MAX || eh->e_phentsize != sizeof(ph[0]) ||
	    !read_at(fd, eh->e_phoff, ph, eh->e_phnum * sizeof(ph[0]))) {
		decide(ret, CAPTURE_STATUS, "unusual program file", "");
		return;
	}
	for (size_t i = 0; i < eh->e_phnum; i++) {
		if (ph[i].p_type == PT_INTERP)
			interpreter = &ph[i];
		else if (ph[i].p_type == PT_DYNAMIC)
			dynamic = &ph[i];
	}
	if (!interpreter || !dynamic) {
		decide(ret, CAPTURE_STATUS, "static program: nothing can be preloaded into it; capture mode ptrace would work", "");
		return;
	}
	if (interpreter->p_filesz >= sizeof(loader) ||
	    !read_at(fd, interpreter->p_offset, loader, (size_t)interpreter->p_filesz)) {
		decide(ret, CAPTURE_STATUS, "unusual program file", "");
		return;
	}
	base = strrchr(loader, '/');
	base = base ? base + 1 : loader;
	if (strncmp(base, "ld-linux", 8)) {
		decide(ret, CAPTURE_STATUS, "not a glibc program (capture mode ptrace would work): it uses ", base);
		return;
	}
	if (needs_sanitizer(fd, ph, eh->e_phnum, dynamic)) {
		decide(ret, CAPTURE_STATUS, "built with a sanitizer, which makes its own report", "");
		return;
	}
	decide(ret, CAPTURE_PRELOAD, "dynamic glibc program", "");
}

static void resolve_file(const char *wish, const char *file, int depth, struct capture_plan *ret)
{
	_cleanup_(closep) int fd = open(file, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	char interpreter[256];
	struct stat st;
	Elf64_Ehdr eh;

	if (fd < 0 || fstat(fd, &st) < 0 || !S_ISREG(st.st_mode)) {
		decide(ret, CAPTURE_STATUS, "the program file cannot be read", "");
		return;
	}
	if (has_privilege(fd, &st)) {
		decide(ret, CAPTURE_STATUS, "gains privileges when executed: may not be traced, and takes no agent", "");
		return;
	}
	if (read_interpreter(fd, interpreter, sizeof(interpreter))) {
		if (depth == SCRIPT_DEPTH)
			decide(ret, CAPTURE_STATUS, "too many scripts inside one another", "");
		else
			resolve_file(wish, interpreter, depth + 1, ret);
		return;
	}
	if (!strcmp(wish, "ptrace")) {
		decide(ret, CAPTURE_PTRACE, "asked for", "");
		return;
	}
	if (!read_at(fd, 0, &eh, sizeof(eh)) || memcmp(eh.e_ident, ELFMAG, SELFMAG)) {
		decide(ret, CAPTURE_STATUS, "not an ELF program", "");
		return;
	}
	resolve_elf(fd, &eh, ret);
}

void capture_resolve(const char *wish, const char *file, struct capture_plan *ret)
{
	int error = errno;

	if (!strcmp(wish, "off"))
		decide(ret, CAPTURE_OFF, "asked for", "");
	else if (!strcmp(wish, "status"))
		decide(ret, CAPTURE_STATUS, "asked for", "");
	else
		resolve_file(wish, file, 0, ret);
	errno = error;
}
