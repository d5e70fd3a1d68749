/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Layout and checks of the state file.
 *
 * Order of stores: whoever reads this memory after a kill does so after the killed process has left its processor, so
 * it sees every store that process made, in any case all those before one that it sees, as long as the compiler kept
 * their order. That is what the release stores of the phase are for.
 */
#include "output/stage.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#define XXH_INLINE_ALL
#include <xxhash.h>

#include "base/clock.h"
#include "base/proc.h"

static const char magic[8] = "svlogst";

enum { VERSION = 1, PAGE = 4096 };

enum {
	AT_SCRATCH = (sizeof(struct stage_header) + PAGE - 1) / PAGE * PAGE,
	AT_RAW = AT_SCRATCH + STAGE_LINE,
	AT_OUT = AT_RAW + STAGE_BATCH,
	AT_PARKED = AT_OUT + _SINK_MAX * STAGE_OUT,
	AT_SLOTS = AT_PARKED + _SINK_MAX * STAGE_PARKED,
	AT_CARRY = AT_SLOTS + STAGE_SLOTS * (int)sizeof(struct slot),
};

_Static_assert(sizeof(struct slot) == 64, "a slot is a cache line");
_Static_assert(AT_PARKED % PAGE == 0 && AT_CARRY % PAGE == 0, "areas begin at pages");
_Static_assert(STAGE_OUT + sizeof(struct parcel) + DAEMON_NAME_MAX + 8 <= STAGE_PARKED, "a parcel can be parked");

static size_t size_for(uint32_t slots)
{
	return AT_CARRY + (size_t)slots * STAGE_LINE;
}

struct stage_header *stage_header(const struct stage *s)
{
	return (struct stage_header *)(void *)s->base;
}

char *stage_scratch(const struct stage *s)
{
	return s->base + AT_SCRATCH;
}

char *stage_raw(const struct stage *s)
{
	return s->base + AT_RAW;
}

char *stage_out(const struct stage *s, enum sink k)
{
	return s->base + AT_OUT + (size_t)k * STAGE_OUT;
}

char *stage_parked(const struct stage *s, enum sink k)
{
	return s->base + AT_PARKED + (size_t)k * STAGE_PARKED;
}

struct slot *stage_slot(const struct stage *s, uint32_t i)
{
	return (struct slot *)(void *)(s->base + AT_SLOTS) + i;
}

char *stage_carry(const struct stage *s, uint32_t i)
{
	return s->base + AT_CARRY + (size_t)i * STAGE_LINE;
}

enum stage_phase stage_get_phase(const struct stage *s)
{
	return (enum stage_phase)__atomic_load_n(&stage_header(s)->phase, __ATOMIC_ACQUIRE);
}

void stage_set_phase(struct stage *s, enum stage_phase p)
{
	__atomic_store_n(&stage_header(s)->phase, (uint32_t)p, __ATOMIC_SEQ_CST);
}

static int reserve(struct stage *s, size_t at, size_t size)
{
	int r;

	do
		r = posix_fallocate(s->fd, (off_t)at, (off_t)size);
	while (r == EINTR);
	return -r;
}

int stage_reserve_out(struct stage *s, enum sink k, uint32_t size)
{
	struct stage_header *h = stage_header(s);
	int r;

	if (size <= h->out_room[k])
		return 0;
	if (size > STAGE_OUT)
		return -EMSGSIZE;
	r = reserve(s, AT_OUT + (size_t)k * STAGE_OUT, STAGE_OUT);
	if (!r)
		h->out_room[k] = STAGE_OUT;
	return r;
}

int stage_reserve_parked(struct stage *s, enum sink k)
{
	struct stage_header *h = stage_header(s);
	int r;

	if (h->parked_room[k])
		return 0;
	r = reserve(s, AT_PARKED + (size_t)k * STAGE_PARKED, STAGE_PARKED);
	if (!r)
		h->parked_room[k] = STAGE_PARKED;
	return r;
}

int stage_reserve_carry(struct stage *s, uint32_t slot, uint32_t size)
{
	struct slot *t = stage_slot(s, slot);
	uint32_t room = (size + PAGE - 1) / PAGE * PAGE;
	int r;

	if (size <= t->carry_room)
		return 0;
	if (size > STAGE_LINE)
		return -EMSGSIZE;
	r = reserve(s, AT_CARRY + (size_t)slot * STAGE_LINE, room);
	if (!r)
		t->carry_room = room;
	return r;
}

/* More slots, and the carry areas that belong to them. */
static int grow(struct stage *s, uint32_t slots)
{
	struct stage_header *h = stage_header(s);
	size_t from = h->slots * sizeof(struct slot);
	size_t size = size_for(slots);
	void *p;
	int r;

	if (ftruncate(s->fd, (off_t)size) < 0)
		return -errno;
	r = reserve(s, AT_SLOTS + from, slots * sizeof(struct slot) - from);
	if (r < 0)
		return r;
	/* not mremap(2): the locked pages have made several mappings of it */
	p = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, s->fd, 0);
	if (p == MAP_FAILED)
		return -errno;
	munmap(s->base, s->size);
	s->base = p;
	s->size = size;
	(void)mlock(stage_raw(s), STAGE_BATCH);
	stage_header(s)->slots = slots;
	return 0;
}

static bool parcel_is_valid(const struct parcel *p, enum sink k, uint32_t slots)
{
	return p->size <= STAGE_OUT && p->slot < slots && p->done <= 1 &&
	    (k == SINK_LOG ? p->count == 0 : p->count <= p->size / 4);
}

/* Whether the spool parcel's bytes are as many records as it says. */
static bool records_are_valid(const struct parcel *p, const char *data)
{
	uint32_t at = 0, n = 0, size;

	for (; at < p->size; n++) {
		if (p->size - at < 4)
			return false;
		memcpy(&size, data + at, 4);
		if (size > p->size - at - 4)
			return false;
		at += 4 + size;
	}
	return n == p->count;
}

struct parcel *stage_next_parked(const struct stage *s, enum sink k, uint32_t *at, const char **ret_file, char **ret_data)
{
	const struct stage_header *h = stage_header(s);
	char *area = stage_parked(s, k);
	uint32_t left = h->parked[k] > STAGE_PARKED || *at > h->parked[k] ? 0 : h->parked[k] - *at;
	struct parcel *p = (struct parcel *)(void *)(area + *at);

	if (left < sizeof(*p) || !parcel_is_valid(p, k, h->slots))
		return NULL;
	left -= (uint32_t)sizeof(*p);
	if (p->file_size > left || p->file_size % 8 || p->file_size > DAEMON_NAME_MAX + 8 || p->size > left - p->file_size)
		return NULL;
	if (k == SINK_LOG && (!p->file_size || !memchr(p + 1, 0, p->file_size)))
		return NULL;
	*ret_file = (const char *)(p + 1);
	*ret_data = (char *)(p + 1) + p->file_size;
	if (k == SINK_SPOOL && !records_are_valid(p, *ret_data))
		return NULL;
	*at += (uint32_t)((sizeof(*p) + p->file_size + p->size + 7) / 8 * 8);
	return p;
}

int stage_park(struct stage *s, enum sink k, const struct parcel *p, const char *file, const char *data)
{
	struct stage_header *h = stage_header(s);
	uint32_t name = k == SINK_LOG ? (uint32_t)strlen(file) + 1 : 0, padded = (name + 7) / 8 * 8;
	uint32_t size = (uint32_t)((sizeof(*p) + padded + p->size + 7) / 8 * 8);
	struct parcel *to;

	if (h->parked[k] > STAGE_PARKED || size > STAGE_PARKED - h->parked[k] || stage_reserve_parked(s, k) < 0)
		return -ENOSPC;
	to = (struct parcel *)(void *)(stage_parked(s, k) + h->parked[k]);
	*to = *p;
	to->done = 0;
	to->file_size = padded;
	memset(to + 1, 0, padded);
	if (name)
		memcpy(to + 1, file, name);
	memcpy((char *)(to + 1) + padded, data, p->size);
	__atomic_store_n(&h->parked[k], h->parked[k] + size, __ATOMIC_SEQ_CST);
	return 0;
}

bool stage_is_valid(const void *base, size_t size)
{
	const struct stage s = { .fd = -1, .base = (char *)base, .size = size };
	const struct stage_header *h = base;

	if (size < AT_CARRY || memcmp(h->magic, magic, sizeof(magic)) || h->version != VERSION)
		return false;
	if (!h->slots || h->slots > STAGE_SLOTS || size < size_for(h->slots))
		return false;
	if (!memchr(h->boot_id, 0, sizeof(h->boot_id)) || strcmp(h->boot_id, proc_boot_id()))
		return false;
	if (h->phase >= _STAGE_PHASE_MAX || h->slot >= h->slots || h->stream > 1 || h->want > STAGE_BATCH ||
	    h->consumed > h->want || h->flush > 1 || h->first > 255 || h->sinks_done >= 1u << _SINK_MAX)
		return false;
	if ((h->phase == STAGE_READY || h->phase == STAGE_DONE) &&
	    (h->next_consumed > h->want || h->next_flush > 1 || h->carry_from > STAGE_BATCH ||
	        h->carry_from < -STAGE_LINE || h->carry_copy > STAGE_LINE ||
	        h->carry_from + (int32_t)h->carry_copy > STAGE_BATCH || h->next_continued > 1 || h->next_logged > 1 ||
	        h->next_level >= _LEVEL_MAX || h->keep_raw > 1))
		return false;
	for (unsigned k = 0; k < _SINK_MAX; k++) {
		if (h->out_room[k] > STAGE_OUT || h->parked_room[k] > STAGE_PARKED || h->parked[k] > h->parked_room[k] ||
		    h->parked[k] % 8)
			return false;
		if (h->phase != STAGE_READY)
			continue;
		if (!parcel_is_valid(&h->parcel[k], k, h->slots) || h->parcel[k].size > h->out_room[k] ||
		    (k == SINK_SPOOL && !records_are_valid(&h->parcel[k], stage_out(&s, k))))
			return false;
	}
	for (uint32_t i = 0; i < h->slots; i++) {
		const struct slot *t = stage_slot(&s, i);

		if (t->used > 1 || t->carry_room > STAGE_LINE || t->carry_size > t->carry_room || t->continued > 1 || t->logged > 1 ||
		    t->level >= _LEVEL_MAX)
			return false;
	}
	if ((h->phase == STAGE_READY || h->phase == STAGE_DONE) && !h->keep_raw &&
	    h->carry_copy > stage_slot(&s, h->slot)->carry_room)
		return false;
	if (h->phase == STAGE_IDLE)
		return true;
	/* the block begins with its size */
	return settings_are_valid(h->settings, ((const struct settings *)(const void *)h->settings)->size);
}

int stage_open(struct stage *ret, int dirfd, bool *ret_aside, struct error *err)
{
	static const char name[] = "logger.state";
	struct stage s = { .fd = -1 };
	struct stage_header *h;
	struct stat st;
	bool aside = false;
	int r;

again:
	s.fd = openat(dirfd, name, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK, 0600);
	if (s.fd < 0 && (errno == ELOOP || errno == EISDIR) && !aside)
		goto set_aside;
	if (s.fd < 0)
		return error_set(err, -errno, "cannot open %s: %s", name, strerror(errno));
	if (fstat(s.fd, &st) < 0) {
		r = error_set(err, -errno, "cannot look at %s: %s", name, strerror(errno));
		goto fail;
	}
	if (!S_ISREG(st.st_mode)) {
		if (!aside)
			goto set_aside;
		r = error_set(err, -EINVAL, "%s is not a file", name);
		goto fail;
	}
	/*
	 * A new file has its magic written last, so one that a killed logger left unfinished has none; it never held
	 * anything and is made anew in place.
	 */
	if (st.st_size) {
		char head[sizeof(magic)] = { 0 };

		if (pread(s.fd, head, sizeof(head), 0) < 0) {
			r = error_set(err, -errno, "cannot read %s: %s", name, strerror(errno));
			goto fail;
		}
		if (st.st_size >= (off_t)size_for(STAGE_SLOTS_STEP) && st.st_size <= (off_t)size_for(STAGE_SLOTS) &&
		    !memcmp(head, magic, sizeof(head))) {
			s.size = (size_t)st.st_size;
			s.base = mmap(NULL, s.size, PROT_READ | PROT_WRITE, MAP_SHARED, s.fd, 0);
			if (s.base == MAP_FAILED) {
				r = error_set(err, -errno, "cannot map %s: %s", name, strerror(errno));
				goto fail;
			}
			/* what it says is allocated is made so, since a file may have been copied or punched */
			h = stage_header(&s);
			if (stage_is_valid(s.base, s.size) && !reserve(&s, 0, AT_OUT) &&
			    !reserve(&s, AT_SLOTS, h->slots * sizeof(struct slot))) {
				for (unsigned k = 0; k < _SINK_MAX; k++)
					if ((h->out_room[k] && reserve(&s, AT_OUT + (size_t)k * STAGE_OUT, h->out_room[k])) ||
					    (h->parked_room[k] &&
					        reserve(&s, AT_PARKED + (size_t)k * STAGE_PARKED, h->parked_room[k])))
						goto nonsense;
				goto ready;
			}
nonsense:
			munmap(s.base, s.size);
			s.base = NULL;
			goto set_aside;
		}
		for (size_t i = 0; i < sizeof(head); i++)
			if (head[i] && !aside)
				goto set_aside;
		if (ftruncate(s.fd, 0) < 0)
			goto cannot_make;
	}
	s.size = size_for(STAGE_SLOTS_STEP);
	if (ftruncate(s.fd, (off_t)s.size) < 0)
		goto cannot_make;
	r = reserve(&s, 0, AT_OUT);
	for (unsigned k = 0; !r && k < _SINK_MAX; k++)
		r = reserve(&s, AT_OUT + (size_t)k * STAGE_OUT, STAGE_OUT_AT_FIRST);
	if (!r)
		r = reserve(&s, AT_SLOTS, STAGE_SLOTS_STEP * sizeof(struct slot));
	errno = -r;
	if (r < 0)
		goto cannot_make;
	s.base = mmap(NULL, s.size, PROT_READ | PROT_WRITE, MAP_SHARED, s.fd, 0);
	if (s.base == MAP_FAILED)
		goto cannot_make;
	h = stage_header(&s);
	h->version = VERSION;
	h->slots = STAGE_SLOTS_STEP;
	snprintf(h->boot_id, sizeof(h->boot_id), "%s", proc_boot_id());
	h->out_room[SINK_LOG] = h->out_room[SINK_SPOOL] = STAGE_OUT_AT_FIRST;
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	memcpy(h->magic, magic, sizeof(magic));
ready:
	/* present from now on, here and after grow(): no page of the buffer that read(2) fills has to be fetched while it does */
	(void)mlock(stage_raw(&s), STAGE_BATCH);
	*ret_aside = aside;
	*ret = s;
	return 0;

set_aside: {
	char other[64];

	snprintf(other, sizeof(other), "%s.unreadable-%lld", name, (long long)clock_now_us());
	if (s.fd >= 0)
		close(s.fd);
	s.fd = -1;
	if (renameat(dirfd, name, dirfd, other) < 0)
		return error_set(err, -errno, "cannot rename the unreadable %s: %s", name, strerror(errno));
	aside = true;
	goto again;
}
cannot_make:
	r = error_set(err, -errno, "cannot make %s in the runtime folder: %s", name, strerror(errno));
fail:
	if (s.base && s.base != MAP_FAILED)
		munmap(s.base, s.size);
	if (s.fd >= 0)
		close(s.fd);
	return r;
}

void stage_close(struct stage *s)
{
	if (s->base)
		munmap(s->base, s->size);
	if (s->fd >= 0)
		close(s->fd);
	*s = (struct stage){ .fd = -1 };
}

int stage_take_slot(struct stage *s, const char *fifo, uint32_t *ret)
{
	XXH128_hash_t key = XXH3_128bits(fifo, strlen(fifo));
	struct stage_header *h = stage_header(s);
	uint32_t free_slot = STAGE_SLOTS;
	struct slot *t;
	int r;

	for (uint32_t i = 0; i < h->slots; i++) {
		t = stage_slot(s, i);
		if (t->used && t->key[0] == key.low64 && t->key[1] == key.high64) {
			*ret = i;
			return 0;
		}
		if (!t->used && free_slot == STAGE_SLOTS)
			free_slot = i;
	}
	if (free_slot == STAGE_SLOTS) {
		if (h->slots == STAGE_SLOTS)
			return -ENOSPC;
		free_slot = h->slots;
		r = grow(s, h->slots * 2 < STAGE_SLOTS ? h->slots * 2 : STAGE_SLOTS);
		if (r < 0)
			return r;
	}
	t = stage_slot(s, free_slot);
	*t = (struct slot){ .key = { key.low64, key.high64 } };
	__atomic_store_n(&t->used, 1, __ATOMIC_SEQ_CST);
	*ret = free_slot;
	return 0;
}

uint64_t stage_hash(const char *text)
{
	return XXH3_64bits(text, strlen(text));
}

void stage_give_slot(struct stage *s, uint32_t i)
{
	struct slot *t = stage_slot(s, i);
	uint32_t room = t->carry_room;

	__atomic_store_n(&t->used, 0, __ATOMIC_SEQ_CST);
	t->carry_size = 0;
	__atomic_store_n(&t->carry_room, 0, __ATOMIC_SEQ_CST);
	if (room)
		(void)fallocate(s->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
		    (off_t)(AT_CARRY + (size_t)i * STAGE_LINE), room);
}

void stage_apply(struct stage *s)
{
	struct stage_header *h = stage_header(s);
	struct slot *t = stage_slot(s, h->slot);

	for (unsigned k = 0; k < _SINK_MAX; k++)
		if (h->set_dropped[k])
			t->dropped[k] = h->next_dropped[k];
	if (h->keep_raw) {
		stage_set_phase(s, STAGE_IDLE);
		return;
	}
	memcpy(stage_carry(s, h->slot), stage_raw(s) + h->carry_from, h->carry_copy);
	t->carry_size = h->carry_copy;
	t->logged = (uint8_t)h->next_logged;
	t->continued = (uint8_t)h->next_continued;
	t->level = (uint8_t)h->next_level;
	h->consumed = h->next_consumed;
	h->flush = h->next_flush;
	stage_set_phase(s, h->consumed < h->want || h->flush ? STAGE_HAVE : STAGE_IDLE);
}
