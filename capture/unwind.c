/* SPDX-License-Identifier: Apache-2.0 */
/*
 * libunwind (generic, remote) with accessors of our own: memory comes from the snapshot and the files, registers from the
 * snapshot, and unwind tables are found by our module table, since libunwind's own search takes the first segment whose
 * file page fits and is a page off for binaries of lld.
 *
 * libunwind also guesses when a table is missing, without saying so. Therefore each step first asks whether there is a
 * table; if not, the guess is made here and marked.
 */
#include "capture/unwind.h"

#include <errno.h>
#include <libunwind.h>
#include <stdlib.h>
#include <string.h>

#include "capture/arch.h"

enum {
	SCAN_BYTES = 2048,
	SCAN_IN_A_ROW = 8,  /* guesses on guesses lead nowhere */
	FP_STEP_MAX = 1 << 20,
	PERIOD_MAX = 3,
};

/* Exported by libunwind for its own ptrace library; what it takes is public. Source: libunwind 1.6.2, include/dwarf.h */
extern int UNW_OBJ(dwarf_search_unwind_table)(unw_addr_space_t as, unw_word_t ip, unw_dyn_info_t *di,
    unw_proc_info_t *pi, int need_unwind_info, void *arg);

struct unwinder {
	const struct modules *m;
	unw_addr_space_t space;
	uint64_t regs[ARCH_REGS]; /* at the frame the cursor was made for */
};

const char *unwind_trust_to_string(enum unwind_trust t)
{
	static const char *const names[] = { [UNWIND_CONTEXT] = "context", [UNWIND_CFI] = "cfi", [UNWIND_FP] = "fp",
		[UNWIND_SCAN] = "scan" };

	return names[t <= UNWIND_SCAN ? t : UNWIND_SCAN];
}

/* --- what libunwind asks ------------------------------------------------------------------------------------------- */

static int access_mem(unw_addr_space_t as, unw_word_t address, unw_word_t *value, int write, void *arg)
{
	const struct unwinder *u = arg;
	uint64_t v;

	(void)as;
	if (write || modules_read(u->m, address, &v, sizeof(v)) < 0)
		return -UNW_EINVAL;
	*value = v;
	return 0;
}

static int access_reg(unw_addr_space_t as, unw_regnum_t reg, unw_word_t *value, int write, void *arg)
{
	const struct unwinder *u = arg;

	(void)as;
	if (write || reg < 0 || reg > ARCH_PC)
		return -UNW_EBADREG;
	*value = u->regs[reg];
	return 0;
}

static int access_fpreg(unw_addr_space_t as, unw_regnum_t reg, unw_fpreg_t *value, int write, void *arg)
{
	(void)as;
	(void)reg;
	(void)value;
	(void)write;
	(void)arg;
	return -UNW_EBADREG;
}

static int get_dyn_info_list(unw_addr_space_t as, unw_word_t *ret, void *arg)
{
	(void)as;
	(void)ret;
	(void)arg;
	return -UNW_ENOINFO;
}

static int resume(unw_addr_space_t as, unw_cursor_t *cursor, void *arg)
{
	(void)as;
	(void)cursor;
	(void)arg;
	return -UNW_EINVAL;
}

static int get_proc_name(unw_addr_space_t as, unw_word_t address, char *ret, size_t size, unw_word_t *off, void *arg)
{
	(void)as;
	(void)address;
	(void)ret;
	(void)size;
	(void)off;
	(void)arg;
	return -UNW_ENOINFO;
}

static void put_unwind_info(unw_addr_space_t as, unw_proc_info_t *pi, void *arg)
{
	(void)as;
	(void)arg;
	free(pi->unwind_info);
	pi->unwind_info = NULL;
}

/* Source: LSB 5.0, .eh_frame_hdr: version 1, three encodings, pointer to .eh_frame, number of entries, sorted table */
static int find_proc_info(unw_addr_space_t as, unw_word_t ip, unw_proc_info_t *pi, int need_unwind_info, void *arg)
{
	enum { ENC_UDATA4 = 0x03, ENC_SDATA4_DATAREL = 0x3b, ENC_OMIT = 0xff };
	struct unwinder *u = arg;
	const struct module *mod = modules_find(u->m, ip);
	unw_dyn_info_t di;
	struct {
		uint8_t version, frame_enc, count_enc, table_enc;
		int32_t frame;
		uint32_t count;
	} hdr;
	uint64_t table;

	if (!mod || !mod->eh_frame_hdr || modules_read(u->m, mod->eh_frame_hdr, &hdr, sizeof(hdr)) < 0 ||
	    hdr.version != 1 || hdr.count_enc != ENC_UDATA4 || hdr.table_enc != ENC_SDATA4_DATAREL ||
	    (hdr.frame_enc & 0x0f) != 0x0b || !hdr.count)
		return -UNW_ENOINFO;
	table = mod->eh_frame_hdr + sizeof(hdr);
	if ((uint64_t)hdr.count * 8 > mod->end - mod->start)
		return -UNW_ENOINFO;
	memset(&di, 0, sizeof(di));
	di.start_ip = mod->start;
	di.end_ip = mod->end;
	di.format = UNW_INFO_FORMAT_REMOTE_TABLE;
	di.u.rti.segbase = mod->eh_frame_hdr;
	di.u.rti.table_data = table;
	di.u.rti.table_len = (uint64_t)hdr.count * 8 / sizeof(unw_word_t);
	return UNW_OBJ(dwarf_search_unwind_table)(as, ip, &di, pi, need_unwind_info, arg);
}

int unwinder_new(struct unwinder **ret, const struct modules *modules)
{
	static unw_accessors_t accessors = { .find_proc_info = find_proc_info, .put_unwind_info = put_unwind_info,
		.get_dyn_info_list_addr = get_dyn_info_list, .access_mem = access_mem, .access_reg = access_reg,
		.access_fpreg = access_fpreg, .resume = resume, .get_proc_name = get_proc_name };
	struct unwinder *u = calloc(1, sizeof(*u));

	if (!u)
		return -ENOMEM;
	u->m = modules;
	u->space = unw_create_addr_space(&accessors, 0);
	if (!u->space) {
		free(u);
		return -ENOMEM;
	}
	unw_set_caching_policy(u->space, UNW_CACHE_GLOBAL);
	*ret = u;
	return 0;
}

struct unwinder *unwinder_free(struct unwinder *u)
{
	if (!u)
		return NULL;
	unw_destroy_addr_space(u->space);
	free(u);
	return NULL;
}

/* --- one step ------------------------------------------------------------------------------------------------------ */

static bool is_trampoline(const struct unwinder *u, uint64_t pc)
{
	uint8_t code[ARCH_TRAMPOLINE_BYTES];

	return modules_read(u->m, pc, code, sizeof(code)) == 0 && arch_is_trampoline(code);
}

static bool has_table(struct unwinder *u, uint64_t ip)
{
	unw_proc_info_t pi;

	memset(&pi, 0, sizeof(pi));
	return find_proc_info(u->space, ip, &pi, 0, u) >= 0;
}

static bool read_word(const struct unwinder *u, uint64_t address, uint64_t *ret)
{
	return !(address & 7) && modules_read(u->m, address, ret, sizeof(*ret)) == 0;
}

/* What the cursor knows of the registers becomes what the next cursor starts with. */
static void take_regs(struct unwinder *u, unw_cursor_t *c)
{
	for (int i = 0; i <= ARCH_PC; i++) {
		unw_word_t v;

		if (unw_get_reg(c, i, &v) >= 0)
			u->regs[i] = v;
	}
}

static void set_frame(struct unwinder *u, uint64_t pc, uint64_t sp, uint64_t fp)
{
	u->regs[ARCH_PC] = pc;
	u->regs[ARCH_SP] = sp;
	u->regs[ARCH_FP] = fp;
}

/* Without a table. @u's registers are of the present frame, and of the next one afterwards. */
static bool guess(struct unwinder *u, bool exact, unsigned *scans, enum unwind_trust *ret)
{
	uint64_t sp = u->regs[ARCH_SP], fp = u->regs[ARCH_FP], pc = u->regs[ARCH_PC], word, next;
	uint64_t best = 0;

	/* interrupted before it had a frame, or a leaf that needs none */
	if (exact && read_word(u, sp, &word) && modules_is_return_address(u->m, word)) {
		set_frame(u, word, sp + 8, fp);
		*ret = UNWIND_FP;
		return true;
	}
	if (fp >= sp && fp - sp < FP_STEP_MAX && read_word(u, fp, &next) && read_word(u, fp + 8, &word) &&
	    modules_is_return_address(u->m, word)) {
		set_frame(u, word, fp + 16, next);
		*ret = UNWIND_FP;
		return true;
	}
	if (++*scans > SCAN_IN_A_ROW)
		return false;
	for (uint64_t at = sp; at - sp < SCAN_BYTES; at += 8) {
		uint8_t code[8];
		uint64_t target;

		if (!read_word(u, at, &word))
			break;
		if (!modules_is_return_address(u->m, word))
			continue;
		if (!best)
			best = at;
		/* a direct call to just before where we are is as good as proof */
		if (modules_read(u->m, word - 8, code, sizeof(code)) == 0 && (target = arch_call_target(code, word)) &&
		    target <= pc && pc - target < 4096) {
			best = at;
			break;
		}
	}
	if (!best || !read_word(u, best, &word))
		return false;
	set_frame(u, word, best + 8, fp);
	*ret = UNWIND_SCAN;
	return true;
}

/* A thread read without stopping it has no frame pointer: the first frame record above sp stands in. */
static void find_frame_pointer(struct unwinder *u)
{
	uint64_t sp = u->regs[ARCH_SP], next, word;

	for (uint64_t at = sp; at - sp < SCAN_BYTES; at += 8)
		if (read_word(u, at, &next) && next > at && next - at < FP_STEP_MAX && read_word(u, at + 8, &word) &&
		    modules_is_return_address(u->m, word)) {
			u->regs[ARCH_FP] = at;
			return;
		}
}

static int push(struct unwind_stack *s, size_t *room, const struct unwind_frame *f)
{
	if (s->n == *room) {
		size_t more = *room ? *room * 2 : 64;
		struct unwind_frame *p = realloc(s->frames, more * sizeof(*p));

		if (!p)
			return -ENOMEM;
		s->frames = p;
		*room = more;
	}
	s->frames[s->n++] = *f;
	return 0;
}

/* --- recursion ----------------------------------------------------------------------------------------------------- */

static bool same_block(const struct unwind_frame *a, const struct unwind_frame *b, size_t period)
{
	for (size_t i = 0; i < period; i++)
		if (a[i].pc != b[i].pc || a[i].exact != b[i].exact)
			return false;
	return true;
}

/* Blocks of up to PERIOD_MAX frames that follow one another three times and more become one with a count. */
static void fold(struct unwind_stack *s)
{
	size_t out = 0, in = 0;

	while (in < s->n) {
		size_t period, times = 0;

		for (period = 1; period <= PERIOD_MAX; period++) {
			times = 0;
			while (in + (times + 2) * period <= s->n &&
			    same_block(&s->frames[in], &s->frames[in + (times + 1) * period], period))
				times++;
			if (times >= 2)
				break;
		}
		if (times < 2) {
			s->frames[out++] = s->frames[in++];
			continue;
		}
		memmove(&s->frames[out], &s->frames[in], period * sizeof(s->frames[0]));
		out += period;
		s->frames[out - 1].repeated = (uint32_t)times;
		s->frames[out - 1].period = (uint32_t)period;
		in += (times + 1) * period;
	}
	s->n = out;
	if (s->n > UNWIND_FRAMES_MAX) {
		s->dropped = s->n - UNWIND_KEEP_FIRST - UNWIND_KEEP_LAST;
		memmove(&s->frames[UNWIND_KEEP_FIRST], &s->frames[s->n - UNWIND_KEEP_LAST],
		    UNWIND_KEEP_LAST * sizeof(s->frames[0]));
		s->n = UNWIND_KEEP_FIRST + UNWIND_KEEP_LAST;
	}
}

/* --- a whole thread ------------------------------------------------------------------------------------------------ */

int unwind_thread(struct unwinder *u, const struct snapshot_thread *t, size_t max, struct unwind_stack *ret)
{
	struct unwind_stack s = { 0 };
	struct unwind_frame f = { .trust = UNWIND_CONTEXT, .exact = true };
	size_t room = 0;
	unsigned scans = 0;
	unw_cursor_t cursor;
	int r = 0;

	*ret = s;
	if (t->n_regs <= ARCH_PC)
		return 0;
	memcpy(u->regs, t->regs, sizeof(u->regs));
	if (t->flags & SNAPSHOT_THREAD_PASSIVE)
		find_frame_pointer(u);

	f.pc = u->regs[ARCH_PC];
	f.sp = u->regs[ARCH_SP];
	r = push(&s, &room, &f);
	if (!r && !modules_is_code(u->m, f.pc)) {
		/* a call through a bad pointer: nothing but the return address was pushed */
		uint64_t word = 0;
#ifdef __aarch64__
		bool have = modules_is_return_address(u->m, word = u->regs[30]);
		uint64_t sp = f.sp;
#else
		bool have = read_word(u, f.sp, &word) && modules_is_return_address(u->m, word);
		uint64_t sp = f.sp + 8;
#endif
		if (have) {
			set_frame(u, word, sp, u->regs[ARCH_FP]);
			f = (struct unwind_frame){ .pc = word, .sp = sp, .trust = UNWIND_CFI };
			r = push(&s, &room, &f);
		} else if (guess(u, true, &scans, &f.trust)) {
			f = (struct unwind_frame){ .pc = u->regs[ARCH_PC], .sp = u->regs[ARCH_SP], .trust = f.trust };
			r = push(&s, &room, &f);
		} else {
			goto done;
		}
	}
	if (!r && unw_init_remote(&cursor, u->space, u) < 0)
		goto done;
	while (!r) {
		struct unwind_frame *now = &s.frames[s.n - 1];
		bool trampoline = is_trampoline(u, now->pc);
		unw_word_t pc, sp;
		int step = -1;

		if (s.n >= max) {
			s.cut = true;
			break;
		}
		now->signal = trampoline;
		f = (struct unwind_frame){ .trust = UNWIND_CFI, .exact = trampoline };
		if (trampoline || has_table(u, now->exact ? now->pc : now->pc - 1)) {
			/* a function that never returns may end in its call: look the table up inside it, as libunwind does */
			step = unw_step(&cursor);
			if (step == 0)
				break;
			if (step > 0) {
				scans = 0;
				if (unw_get_reg(&cursor, UNW_REG_IP, &pc) < 0 || unw_get_reg(&cursor, UNW_REG_SP, &sp) < 0)
					break;
			}
		}
		if (step < 0) {
			uint64_t before = now->sp;

			take_regs(u, &cursor);
			if (!guess(u, now->exact, &scans, &f.trust)) {
				s.cut = !modules_is_code(u->m, now->pc) || s.n == 1;
				break;
			}
			pc = u->regs[ARCH_PC];
			sp = u->regs[ARCH_SP];
			if (sp <= before || unw_init_remote(&cursor, u->space, u) < 0)
				break;
		}
		if (!pc)
			break;
		if (pc == now->pc && sp == now->sp)
			break;
		f.pc = pc;
		f.sp = sp;
		if (!modules_is_code(u->m, pc)) {
			if (trampoline) { /* what was interrupted had jumped nowhere: show it, then as above */
				uint64_t word;

				r = push(&s, &room, &f);
				take_regs(u, &cursor);
				if (!r && read_word(u, sp, &word) && modules_is_return_address(u->m, word)) {
					set_frame(u, word, sp + 8, u->regs[ARCH_FP]);
					f = (struct unwind_frame){ .pc = word, .sp = sp + 8, .trust = UNWIND_CFI };
					r = push(&s, &room, &f);
					if (!r && unw_init_remote(&cursor, u->space, u) >= 0)
						continue;
				}
			}
			s.cut = true;
			break;
		}
		r = push(&s, &room, &f);
	}
done:
	if (r < 0) {
		unwind_stack_free(&s);
		return r;
	}
	fold(&s);
	*ret = s;
	return 0;
}

void unwind_stack_free(struct unwind_stack *s)
{
	free(s->frames);
	*s = (struct unwind_stack){ 0 };
}
