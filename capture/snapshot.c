/* SPDX-License-Identifier: Apache-2.0 */
#include "capture/snapshot.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/crc32c.h"
#include "capture/arch.h"

struct header {
	char magic[8];
	uint32_t version, crc;
	uint64_t size;
	uint32_t machine, reserved;
};

struct section {
	uint32_t type, reserved;
	uint64_t size;
};

static const char magic[8] = { 'S', 'V', 'S', 'N', 'A', 'P', '1', '\n' };

static void put(struct snapshot_writer *w, const void *data, size_t size)
{
	if (w->failed || !size)
		return;
	if (size > SNAPSHOT_MAX || w->size + size > SNAPSHOT_MAX) {
		w->failed = true;
		return;
	}
	if (w->size + size > w->room) {
		size_t room = w->room ? w->room * 2 : 1 << 18;
		uint8_t *p;

		while (room < w->size + size)
			room *= 2;
		p = realloc(w->data, room);
		if (!p) {
			w->failed = true;
			return;
		}
		w->data = p;
		w->room = room;
	}
	memcpy(w->data + w->size, data, size);
	w->size += size;
}

static void pad(struct snapshot_writer *w)
{
	static const uint8_t zero[8];

	put(w, zero, (8 - w->size % 8) % 8);
}

void snapshot_begin(struct snapshot_writer *w)
{
	struct header h = { .version = SNAPSHOT_VERSION, .machine = ARCH_ID };

	memcpy(h.magic, magic, sizeof(magic));
	put(w, &h, sizeof(h));
}

void snapshot_add(struct snapshot_writer *w, uint32_t type, const void *data, size_t size)
{
	struct section s = { .type = type, .size = size };

	put(w, &s, sizeof(s));
	put(w, data, size);
	pad(w);
}

void snapshot_add_memory(struct snapshot_writer *w, uint64_t address, const void *data, size_t size)
{
	struct section s = { .type = SNAPSHOT_MEMORY, .size = size + sizeof(address) };

	put(w, &s, sizeof(s));
	put(w, &address, sizeof(address));
	put(w, data, size);
	pad(w);
}

void snapshot_add_note(struct snapshot_writer *w, const char *fmt, ...)
{
	char text[160];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	snapshot_add(w, SNAPSHOT_NOTE, text, strlen(text));
}

int snapshot_end(struct snapshot_writer *w)
{
	if (w->failed || w->size < sizeof(struct header))
		return w->size >= SNAPSHOT_MAX ? -EFBIG : -ENOMEM;
	snapshot_fix_checksum(w->data, w->size);
	return 0;
}

void snapshot_writer_free(struct snapshot_writer *w)
{
	free(w->data);
	*w = (struct snapshot_writer){ 0 };
}

void snapshot_fix_checksum(void *data, size_t size)
{
	struct header h;

	if (size < sizeof(h))
		return;
	memcpy(&h, data, sizeof(h));
	h.size = size - sizeof(h);
	h.crc = crc32c(0, (const uint8_t *)data + sizeof(h), (size_t)h.size);
	memcpy(data, &h, sizeof(h));
}

static int compare_regions(const void *a, const void *b)
{
	const struct snapshot_region *x = a, *y = b;

	return x->address < y->address ? -1 : x->address > y->address;
}

/* Makes room for one more in an array that doubles. */
static int grow(void **array, size_t n, size_t item, size_t max)
{
	void *p;

	if (n >= max)
		return -E2BIG;
	if (n & (n - 1) || (n && n < 16))
		return 0;
	p = realloc(*array, (n ? n * 2 : 16) * item);
	if (!p)
		return -ENOMEM;
	*array = p;
	return 0;
}

static void copy_text(char *ret, size_t room, const uint8_t *data, uint64_t size)
{
	size_t n = size < room - 1 ? (size_t)size : room - 1;

	memcpy(ret, data, n);
	ret[n] = '\0';
}

static int take_section(struct snapshot *s, uint32_t type, const uint8_t *data, uint64_t size, struct error *err)
{
	int r;

	switch (type) {
	case SNAPSHOT_INFO:
		if (size < sizeof(s->info))
			return error_set(err, -EINVAL, "snapshot: information section of %llu bytes", (unsigned long long)size);
		memcpy(&s->info, data, sizeof(s->info));
		s->info.comm[sizeof(s->info.comm) - 1] = '\0';
		s->info.sender_comm[sizeof(s->info.sender_comm) - 1] = '\0';
		return 0;
	case SNAPSHOT_THREAD:
		if (size < sizeof(*s->threads))
			return error_set(err, -EINVAL, "snapshot: thread section of %llu bytes", (unsigned long long)size);
		r = grow((void **)&s->threads, s->n_threads, sizeof(*s->threads), SNAPSHOT_THREADS_MAX);
		if (r == -E2BIG)
			return 0;
		if (r < 0)
			return r;
		memcpy(&s->threads[s->n_threads], data, sizeof(*s->threads));
		s->threads[s->n_threads].comm[15] = '\0';
		if (s->threads[s->n_threads].n_regs > ARCH_REGS)
			s->threads[s->n_threads].n_regs = ARCH_REGS;
		s->n_threads++;
		return 0;
	case SNAPSHOT_MEMORY: {
		struct snapshot_region region = { .size = size - 8, .data = data + 8 };

		if (size <= 8)
			return 0;
		memcpy(&region.address, data, 8);
		if (region.address + region.size < region.address)
			return 0;
		r = grow((void **)&s->regions, s->n_regions, sizeof(*s->regions), SNAPSHOT_REGIONS_MAX);
		if (r == -E2BIG)
			return 0;
		if (r < 0)
			return r;
		s->regions[s->n_regions++] = region;
		return 0;
	}
	case SNAPSHOT_MAPS:
		if (s->maps_text)
			return 0;
		s->maps_text = malloc((size_t)size + 1);
		if (!s->maps_text)
			return -ENOMEM;
		copy_text(s->maps_text, (size_t)size + 1, data, size);
		return maps_parse(s->maps_text, &s->vmas, &s->n_vmas);
	case SNAPSHOT_EXE:
		copy_text(s->exe, sizeof(s->exe), data, size);
		return 0;
	case SNAPSHOT_NOTE:
		if (s->n_notes < ARRAY_SIZE(s->notes))
			copy_text(s->notes[s->n_notes++], sizeof(s->notes[0]), data, size);
		return 0;
	default:
		return 0;
	}
}

int snapshot_read(struct snapshot *ret, const void *data, size_t size, struct error *err)
{
	const uint8_t *p = data, *end = p + size;
	struct snapshot s = { 0 };
	struct header h;
	bool info = false;
	int r = 0;

	if (size < sizeof(h) || memcmp(data, magic, sizeof(magic)))
		return error_set(err, -EINVAL, "not a snapshot");
	memcpy(&h, data, sizeof(h));
	p += sizeof(h);
	if (h.version != SNAPSHOT_VERSION)
		return error_set(err, -EINVAL, "snapshot of version %u, this program reads %d", h.version, SNAPSHOT_VERSION);
	if (h.machine != ARCH_ID)
		return error_set(err, -EINVAL, "snapshot of machine %u, this program is for %d", h.machine, ARCH_ID);
	if (h.size != (uint64_t)(end - p) || size > SNAPSHOT_MAX)
		return error_set(err, -EINVAL, "snapshot has %zu bytes where %llu belong", size - sizeof(h),
		    (unsigned long long)h.size);
	if (crc32c(0, p, (size_t)(end - p)) != h.crc)
		return error_set(err, -EINVAL, "snapshot is damaged: wrong checksum");
	while (!r && (size_t)(end - p) >= sizeof(struct section)) {
		struct section sec;

		memcpy(&sec, p, sizeof(sec));
		p += sizeof(sec);
		if (sec.size > (uint64_t)(end - p)) {
			r = error_set(err, -EINVAL, "snapshot: a section reaches beyond the end");
			break;
		}
		info |= sec.type == SNAPSHOT_INFO;
		r = take_section(&s, sec.type, p, sec.size, err);
		sec.size += (8 - sec.size % 8) % 8;
		p = sec.size > (uint64_t)(end - p) ? end : p + sec.size;
	}
	if (!r && !info)
		r = error_set(err, -EINVAL, "snapshot without information section");
	if (r < 0) {
		snapshot_free(&s);
		return r;
	}
	if (s.n_regions)
		qsort(s.regions, s.n_regions, sizeof(*s.regions), compare_regions);
	*ret = s;
	return 0;
}

void snapshot_free(struct snapshot *s)
{
	free(s->threads);
	free(s->regions);
	free(s->vmas);
	free(s->maps_text);
	*s = (struct snapshot){ 0 };
}

int snapshot_read_memory(const struct snapshot *s, uint64_t address, void *ret, size_t size)
{
	size_t low = 0, high = s->n_regions;

	while (low < high) { /* the first region that begins behind the address */
		size_t mid = low + (high - low) / 2;

		if (s->regions[mid].address <= address)
			low = mid + 1;
		else
			high = mid;
	}
	for (size_t i = low, tries = 0; i-- > 0 && tries < 8; tries++) { /* regions may overlap a little */
		const struct snapshot_region *r = &s->regions[i];
		uint64_t off = address - r->address;

		if (off < r->size && size <= r->size - off) {
			memcpy(ret, r->data + off, size);
			return 0;
		}
	}
	return -EFAULT;
}

const struct vma *vma_find(const struct vma *vmas, size_t n, uint64_t address)
{
	size_t low = 0, high = n;

	while (low < high) {
		size_t mid = low + (high - low) / 2;

		if (vmas[mid].end <= address)
			low = mid + 1;
		else
			high = mid;
	}
	return low < n && vmas[low].start <= address ? &vmas[low] : NULL;
}

static bool parse_number(char **p, unsigned base, uint64_t *ret)
{
	uint64_t v = 0;
	char *begin = *p;

	for (;; (*p)++) {
		unsigned digit = **p >= '0' && **p <= '9' ? (unsigned)(**p - '0') :
		    **p >= 'a' && **p <= 'f'          ? (unsigned)(**p - 'a') + 10 :
							99;

		if (digit >= base)
			break;
		if (v > UINT64_MAX / base - 1)
			return false;
		v = v * base + digit;
	}
	*ret = v;
	return *p != begin;
}

/* "start-end rwxp offset major:minor inode      path" */
static bool parse_line(char *p, struct vma *ret)
{
	static const char deleted[] = " (deleted)";
	struct vma v = { 0 };
	uint64_t ignored;
	size_t n;

	if (!parse_number(&p, 16, &v.start) || *p++ != '-' || !parse_number(&p, 16, &v.end) || *p++ != ' ')
		return false;
	if (strnlen(p, 5) < 5 || p[4] != ' ')
		return false;
	v.read = p[0] == 'r';
	v.write = p[1] == 'w';
	v.exec = p[2] == 'x';
	v.shared = p[3] == 's';
	p += 5;
	if (!parse_number(&p, 16, &v.offset) || *p++ != ' ' || !parse_number(&p, 16, &ignored) || *p++ != ':' ||
	    !parse_number(&p, 16, &ignored) || *p++ != ' ' || !parse_number(&p, 10, &v.inode))
		return false;
	while (*p == ' ')
		p++;
	n = strlen(p);
	if (n > sizeof(deleted) - 1 && !strcmp(p + n - (sizeof(deleted) - 1), deleted)) {
		v.deleted = true;
		p[n - (sizeof(deleted) - 1)] = '\0';
	}
	v.path = p;
	*ret = v;
	return v.start < v.end;
}

int maps_parse(char *text, struct vma **ret, size_t *ret_n)
{
	_cleanup_(freep) struct vma *vmas = NULL;
	size_t n = 0;

	for (char *line = text, *next; line && *line; line = next) {
		struct vma v;

		next = strchr(line, '\n');
		if (next)
			*next++ = '\0';
		if (!parse_line(line, &v) || (n && v.start < vmas[n - 1].end))
			continue;
		if (grow((void **)&vmas, n, sizeof(*vmas), SNAPSHOT_MAPS_MAX) < 0) {
			if (n >= SNAPSHOT_MAPS_MAX)
				break;
			return -ENOMEM;
		}
		vmas[n++] = v;
	}
	*ret = TAKE_PTR(vmas);
	*ret_n = n;
	return 0;
}
