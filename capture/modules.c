/* SPDX-License-Identifier: Apache-2.0 */
#include "capture/modules.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "capture/arch.h"

enum {
	MODULES_MAX = 4096,
	SEGMENTS_MAX = 128,
	NOTES_MAX = 64 << 10,
	HEAD_COMPARED = 1024,
};

int modules_read(const struct modules *m, uint64_t address, void *ret, size_t size)
{
	const struct module *mod;
	const struct vma *v;
	uint64_t off;

	if (snapshot_read_memory(m->s, address, ret, size) == 0)
		return 0;
	v = vma_find(m->s->vmas, m->s->n_vmas, address);
	if (!v || !v->inode || size > v->end - address)
		return -EFAULT;
	mod = modules_find(m, address);
	if (!mod || !mod->file)
		return -EFAULT;
	off = v->offset + (address - v->start);
	if (off < v->offset || off > mod->file_size || size > mod->file_size - off)
		return -EFAULT;
	memcpy(ret, mod->file + off, size);
	return 0;
}

const struct module *modules_find(const struct modules *m, uint64_t address)
{
	size_t low = 0, high = m->n;

	while (low < high) {
		size_t mid = low + (high - low) / 2;

		if (m->m[mid].end <= address)
			low = mid + 1;
		else
			high = mid;
	}
	return low < m->n && m->m[low].start <= address ? &m->m[low] : NULL;
}

bool modules_is_code(const struct modules *m, uint64_t address)
{
	const struct vma *v = vma_find(m->s->vmas, m->s->n_vmas, address);

	return v && v->exec;
}

bool modules_is_return_address(const struct modules *m, uint64_t address)
{
	uint8_t code[8];

	return address >= 8 && modules_is_code(m, address) && modules_read(m, address - 8, code, sizeof(code)) == 0 &&
	    arch_ends_with_call(code);
}

static void open_file(struct module *mod)
{
	/* never waits: the path came out of a process, and may name a FIFO by now */
	_cleanup_(closep) int fd = open(mod->path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
	char magic[SELFMAG];
	struct stat st;
	void *p;

	if (fd < 0 || fstat(fd, &st) < 0 || !S_ISREG(st.st_mode) || st.st_size < (off_t)sizeof(Elf64_Ehdr)) {
		mod->missing = true;
		return;
	}
	if (pread(fd, magic, SELFMAG, 0) != SELFMAG || memcmp(magic, ELFMAG, SELFMAG))
		return; /* data, perhaps very large */
	p = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
	if (p == MAP_FAILED) {
		mod->missing = true;
		return;
	}
	mod->file = p;
	mod->file_size = (size_t)st.st_size;
}

static void close_file(struct module *mod)
{
	if (mod->file)
		munmap((void *)(uintptr_t)mod->file, mod->file_size);
	mod->file = NULL;
	mod->file_size = 0;
}

/* An upgraded file has the old path: the beginning in memory tells, as it is never written to. */
static bool is_stale(const struct modules *m, const struct module *mod)
{
	const struct vma *v = vma_find(m->s->vmas, m->s->n_vmas, mod->start);
	uint8_t memory[HEAD_COMPARED];

	if (!v || v->offset || v->write || mod->file_size < sizeof(memory))
		return false;
	if (snapshot_read_memory(m->s, mod->start, memory, sizeof(memory)) < 0)
		return false;
	return memcmp(memory, mod->file, sizeof(memory)) != 0;
}

static int read_head(const struct modules *m, struct module *mod, uint64_t off, void *ret, size_t size)
{
	if (!mod->file)
		return modules_read(m, mod->start + off, ret, size);
	if (off > mod->file_size || size > mod->file_size - off)
		return -EFAULT;
	memcpy(ret, mod->file + off, size);
	return 0;
}

static bool contains(const struct modules *m, const Elf64_Phdr *ph, uint64_t offset)
{
	uint64_t first = ph->p_offset & ~(m->page - 1);

	return offset >= first && offset - first < ph->p_filesz + (ph->p_offset - first);
}

/*
 * Which segment a mapping belongs to is told by its file offset and its permissions: linkers such as lld let
 * neighbouring segments share a page of the file, so the offset alone finds the wrong one, a page off.
 */
static bool match_segment(const struct modules *m, struct module *mod, const struct vma *v, bool write_too)
{
	for (size_t i = 0; i < mod->n_segments; i++) {
		const Elf64_Phdr *ph = &mod->segments[i];

		if (ph->p_type != PT_LOAD || !contains(m, ph, v->offset) || !(ph->p_flags & PF_X) != !v->exec)
			continue;
		if (write_too && !(ph->p_flags & PF_W) != !v->write)
			continue;
		mod->bias = v->start - v->offset + (ph->p_offset & ~(m->page - 1)) - (ph->p_vaddr & ~(m->page - 1));
		mod->biased = true;
		return true;
	}
	return false;
}

static void find_bias(const struct modules *m, struct module *mod)
{
	/* code first; then what is read-only now and was writable in the file (relocated) */
	for (int pass = 0; pass < 4; pass++)
		for (size_t i = 0; i < m->s->n_vmas; i++) {
			const struct vma *v = &m->s->vmas[i];

			if (v->start < mod->start || v->end > mod->end || strcmp(v->path, mod->path) != 0)
				continue;
			if (v->exec == (pass < 2) && match_segment(m, mod, v, pass % 2 == 0))
				return;
		}
}

static void find_build_id(const struct modules *m, struct module *mod)
{
	for (size_t i = 0; i < mod->n_segments; i++) {
		const Elf64_Phdr *ph = &mod->segments[i];
		uint64_t off = 0, size = ph->p_filesz < NOTES_MAX ? ph->p_filesz : NOTES_MAX;

		if (ph->p_type != PT_NOTE)
			continue;
		while (size - off >= sizeof(Elf64_Nhdr)) {
			Elf64_Nhdr nh;
			char name[4];
			uint64_t at = ph->p_offset + off, next;

			if (read_head(m, mod, at, &nh, sizeof(nh)) < 0)
				break;
			next = sizeof(nh) + (((uint64_t)nh.n_namesz + 3) & ~3ull) + (((uint64_t)nh.n_descsz + 3) & ~3ull);
			if (nh.n_type == NT_GNU_BUILD_ID && nh.n_namesz == 4 && nh.n_descsz && nh.n_descsz <= BUILD_ID_MAX &&
			    read_head(m, mod, at + sizeof(nh), name, 4) == 0 && !memcmp(name, "GNU", 4) &&
			    read_head(m, mod, at + sizeof(nh) + 4, mod->build_id, nh.n_descsz) == 0) {
				mod->build_id_size = nh.n_descsz;
				return;
			}
			if (next > size - off)
				break;
			off += next;
		}
	}
}

static int read_headers(const struct modules *m, struct module *mod)
{
	const Elf64_Ehdr *h = &mod->header;

	if (read_head(m, mod, 0, &mod->header, sizeof(mod->header)) < 0 || memcmp(h->e_ident, ELFMAG, SELFMAG) ||
	    h->e_ident[EI_CLASS] != ELFCLASS64 || h->e_machine != ARCH_ID || !h->e_phnum || h->e_phnum > SEGMENTS_MAX ||
	    h->e_phentsize != sizeof(Elf64_Phdr))
		return 0;
	mod->segments = calloc(h->e_phnum, sizeof(*mod->segments));
	if (!mod->segments)
		return -ENOMEM;
	if (read_head(m, mod, h->e_phoff, mod->segments, h->e_phnum * sizeof(*mod->segments)) < 0)
		return 0;
	mod->n_segments = h->e_phnum;
	find_bias(m, mod);
	find_build_id(m, mod);
	for (size_t i = 0; i < mod->n_segments && mod->biased; i++)
		if (mod->segments[i].p_type == PT_GNU_EH_FRAME)
			mod->eh_frame_hdr = mod->bias + mod->segments[i].p_vaddr;
	return 0;
}

static int fill(struct modules *m)
{
	const struct snapshot *s = m->s;

	for (size_t i = 0; i < s->n_vmas; i++) {
		const struct vma *v = &s->vmas[i];
		struct module *last = m->n ? &m->m[m->n - 1] : NULL;
		bool vdso = !strcmp(v->path, "[vdso]");

		if (!vdso && (!v->inode || v->path[0] != '/'))
			continue;
		if (last && v->offset && !strcmp(last->path, v->path) && last->deleted == v->deleted) {
			last->end = v->end;
			continue;
		}
		if (m->n == MODULES_MAX)
			break;
		if (m->n % 64 == 0) {
			struct module *p = realloc(m->m, (m->n + 64) * sizeof(*p));

			if (!p)
				return -ENOMEM;
			m->m = p;
		}
		m->m[m->n++] = (struct module){ .path = v->path, .start = v->start, .end = v->end, .deleted = v->deleted };
	}
	for (size_t i = 0; i < m->n; i++) {
		struct module *mod = &m->m[i];
		int r;

		if (mod->path[0] == '/' && !mod->deleted)
			open_file(mod);
		if (mod->file && is_stale(m, mod)) {
			close_file(mod);
			mod->stale = true;
		}
		r = read_headers(m, mod);
		if (r < 0)
			return r;
		if (mod->file && !mod->n_segments) /* data: fonts, locale archives, ... */
			close_file(mod);
	}
	return 0;
}

int modules_new(struct modules **ret, const struct snapshot *s)
{
	_cleanup_(modules_freep) struct modules *m = calloc(1, sizeof(*m));
	int r;

	if (!m)
		return -ENOMEM;
	m->s = s;
	m->page = (uint64_t)sysconf(_SC_PAGESIZE);
	r = fill(m);
	if (r < 0)
		return r;
	*ret = TAKE_PTR(m);
	return 0;
}

struct modules *modules_free(struct modules *m)
{
	if (!m)
		return NULL;
	for (size_t i = 0; i < m->n; i++) {
		close_file(&m->m[i]);
		free(m->m[i].segments);
	}
	free(m->m);
	free(m);
	return NULL;
}

char *module_format_build_id(const struct module *m, char *ret)
{
	ret[0] = '\0';
	for (size_t i = 0; i < m->build_id_size; i++)
		sprintf(ret + 2 * i, "%02x", m->build_id[i]);
	return ret;
}
