/* SPDX-License-Identifier: Apache-2.0 */
#include "capture/postmortem.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <xxhash.h>

#include "base/clock.h"
#include "base/file.h"
#include "base/text.h"
#include "capture/arch.h"
#include "capture/fingerprint.h"
#include "capture/modules.h"
#include "capture/report.h"
#include "capture/symbolize.h"
#include "capture/unwind.h"

enum {
	OTHER_WALK_MAX = 4096,
	SYMBOLS_BUDGET_MS = 7000, /* below the limits of the process; addresses without names after that */
	NULL_PAGE = 64 << 10,
	STACK_NEAR = 64 << 10,
	STACK_GAP = 16 << 20,
	CODE_SHOWN = 32,
	SOURCE_FILE_MAX = 8 << 20,
	SOURCE_LINES_MAX = 50,
	SOURCE_LINE_BYTES = 400,
};

struct job {
	cJSON *report;
	const struct snapshot *s;
	const struct snapshot_thread *crashed;
	struct modules *modules;
	struct unwinder *unwinder;
	struct symbolizer *symbols;
	uint64_t deadline_ms, unwind_us, symbolize_us;
	unsigned unnamed;
	bool cut;
	/* of the signal that counts: an outer one if a handler raised it again */
	int code;
	uint64_t address, pc, sp;
	char access;
	bool reraised;   /* its frames are on the stack, above the first signal's */
	bool sent_again; /* they are gone */
};

static const char *base_name(const char *path)
{
	const char *slash = strrchr(path, '/');

	return slash && slash[1] ? slash + 1 : path;
}

static bool is_system_path(const char *path)
{
	return path[0] == '[' || !strncmp(path, "/lib", 4) || !strncmp(path, "/usr/lib", 8) ||
	    !strcmp(base_name(path), "supervise-agent.so");
}

/* --- frames -------------------------------------------------------------------------------------------------------- */

static void add_place(struct job *j, cJSON *f, const struct unwind_frame *u)
{
	const struct module *mod = modules_find(j->modules, u->pc);
	char build_id[2 * BUILD_ID_MAX + 1];

	json_add_hex(f, "pc", u->pc);
	if (!mod)
		return;
	json_add_text(f, "module", mod->path);
	json_add_hex(f, "offset", mod->biased ? u->pc - mod->bias : u->pc - mod->start);
	if (mod->build_id_size)
		json_add_text(f, "build_id", module_format_build_id(mod, build_id));
	if (is_system_path(mod->path))
		json_add_bool(f, "system", true);
	if (mod->stale)
		json_add_bool(f, "stale", true);
}

static void add_frame(struct job *j, cJSON *frames, const struct unwind_frame *u)
{
	struct symbol symbols[SYMBOLIZE_INLINES_MAX + 1];
	uint64_t began_us = clock_mono_us();
	size_t n = 1;

	memset(symbols, 0, sizeof(symbols));
	if (u->signal)
		symbols[0].function = strdup("<signal handler called>");
	else if (clock_mono_ms() < j->deadline_ms)
		n = symbolizer_find(j->symbols, u->exact ? u->pc : u->pc - 1, symbols);
	else
		j->unnamed++;
	j->symbolize_us += clock_mono_us() - began_us;
	for (size_t i = 0; i < n; i++) {
		const struct symbol *s = &symbols[i];
		cJSON *f = cJSON_CreateObject();

		json_add_i64(f, "index", cJSON_GetArraySize(frames));
		add_place(j, f, u);
		if (s->function)
			json_add_text(f, "function", s->function);
		if (s->linkage)
			json_add_text(f, "symbol", s->linkage);
		if (s->function && i == n - 1 && !u->signal)
			json_add_hex(f, "function_offset", u->exact ? s->offset : s->offset + 1);
		if (s->file && s->line > 0) {
			json_add_text(f, "file", s->file);
			json_add_i64(f, "line", s->line);
		}
		if (s->inlined)
			json_add_bool(f, "inlined", true);
		if (u->signal)
			json_add_bool(f, "signal_frame", true);
		json_add_text(f, "trust", unwind_trust_to_string(u->trust));
		if (i == n - 1 && u->repeated) {
			json_add_i64(f, "repeated", u->repeated);
			if (u->period > 1)
				json_add_i64(f, "period", u->period);
		}
		cJSON_AddItemToArray(frames, f);
	}
	for (size_t i = 0; i < n; i++)
		symbol_free(&symbols[i]);
}

/* What of the agent itself is on the stack (its start of a thread) is nobody's business. */
static bool is_agent(const struct job *j, const struct unwind_frame *u)
{
	const struct module *mod = modules_find(j->modules, u->pc);

	return mod && !strcmp(base_name(mod->path), "supervise-agent.so") && !u->signal;
}

static void add_frames(struct job *j, cJSON *thread, const struct unwind_stack *stack)
{
	cJSON *frames = json_add_array(thread, "frames");

	for (size_t i = 0; frames && i < stack->n; i++) {
		if (i == UNWIND_KEEP_FIRST && stack->dropped)
			json_add_i64(thread, "frames_left_out", (int64_t)stack->dropped);
		if (!is_agent(j, &stack->frames[i]))
			add_frame(j, frames, &stack->frames[i]);
	}
	if (stack->cut)
		json_add_bool(thread, "cut", true);
}

static uint64_t hash_stack(const struct unwind_stack *s)
{
	XXH3_state_t *state = XXH3_createState();
	uint64_t h = 0;

	if (!state)
		return 0;
	XXH3_64bits_reset(state);
	for (size_t i = 0; i < s->n; i++) {
		XXH3_64bits_update(state, &s->frames[i].pc, sizeof(s->frames[i].pc));
		XXH3_64bits_update(state, &s->frames[i].repeated, sizeof(s->frames[i].repeated));
	}
	h = XXH3_64bits_digest(state);
	XXH3_freeState(state);
	return h | 1;
}

/*
 * A handler of the program's own that raised the signal again: what counts is the first one. Its siginfo lies in the
 * signal frame, and the interrupted frame is the one below.
 */
static void find_original(struct job *j, const struct unwind_stack *stack)
{
	uint8_t code[8];

	if (j->s->info.code > 0) /* in a handler perhaps, but in its own right */
		return;
	/*
	 * Sent while it was blocked, as it is in its own handler, it arrives when the handler returns: at the instruction that
	 * faulted, with no trace of the handler on the stack. In a system call it would have arrived right behind one.
	 */
	if (j->s->info.original_code && j->s->info.sender_pid == j->s->info.pid && stack->n &&
	    modules_read(j->modules, j->pc - sizeof(code), code, sizeof(code)) == 0 && !arch_ends_with_syscall(code)) {
		j->sent_again = true;
		j->code = j->s->info.original_code;
		j->address = j->s->info.original_address;
		j->access = j->s->info.signal == SIGSEGV ? arch_fault_access(j->crashed->regs) : 0;
		return;
	}
	for (size_t i = 0; i + 1 < stack->n && !j->reraised; i++) {
		uint64_t regs[ARCH_REGS] = { 0 };
		siginfo_t si = { 0 };

		if (!stack->frames[i].signal)
			continue;
		regs[ARCH_PC] = stack->frames[i + 1].pc;
#ifdef ARCH_FRAME_FAULT
		uint64_t fault[4]; /* error code, trap, mask, address */

		if (modules_read(j->modules, stack->frames[i].sp + ARCH_FRAME_FAULT, fault, sizeof(fault)) < 0)
			continue;
		regs[ARCH_ERR] = fault[0];
		regs[ARCH_TRAP] = fault[1];
		regs[ARCH_CR2] = fault[3];
#endif
		/* the kernel fills in the siginfo for handlers that asked for it */
		if (modules_read(j->modules, stack->frames[i].sp + ARCH_FRAME_SIGINFO, &si, sizeof(si)) == 0 &&
		    si.si_signo == j->s->info.signal && si.si_code > 0) {
			j->code = si.si_code;
			j->address = (uint64_t)(uintptr_t)si.si_addr;
		} else if (!arch_last_fault(j->s->info.signal, regs, &j->code, &j->address) ||
		    modules_read(j->modules, regs[ARCH_PC] - sizeof(code), code, sizeof(code)) < 0 ||
		    arch_ends_with_syscall(code)) {
			continue;
		}
		j->reraised = true;
		j->pc = stack->frames[i + 1].pc;
		j->sp = stack->frames[i + 1].sp;
		j->access = j->s->info.signal == SIGSEGV ? arch_fault_access(regs) : 0;
	}
}

static int add_threads(struct job *j, bool all)
{
	_cleanup_(freep) uint64_t *hashes = calloc(j->s->n_threads + 1, sizeof(*hashes));
	cJSON *threads = cJSON_CreateArray();

	if (!hashes || !threads)
		return -ENOMEM;
	cJSON_DeleteItemFromObjectCaseSensitive(j->report, "threads");
	cJSON_AddItemToObject(j->report, "threads", threads);
	for (size_t i = 0; i < j->s->n_threads; i++) {
		const struct snapshot_thread *t = &j->s->threads[i];
		bool crashed = t->flags & SNAPSHOT_THREAD_CRASHED;
		struct unwind_stack stack;
		uint64_t began_us = clock_mono_us();
		char state[2] = { t->state, '\0' };
		cJSON *o;
		int r;

		if (!crashed && !all)
			continue;
		r = unwind_thread(j->unwinder, t, crashed ? UNWIND_WALK_MAX : OTHER_WALK_MAX, &stack);
		if (r < 0)
			return r;
		j->unwind_us += clock_mono_us() - began_us;
		o = cJSON_CreateObject();
		cJSON_AddItemToArray(threads, o);
		json_add_i64(o, "tid", t->tid);
		json_add_text(o, "name", t->comm);
		if (isalpha((unsigned char)t->state))
			json_add_text(o, "state", state);
		json_add_bool(o, "crashed", crashed);
		if (t->flags & SNAPSHOT_THREAD_NOT_STOPPED)
			json_add_bool(o, "not_stopped", true);
		if (t->flags & SNAPSHOT_THREAD_PASSIVE)
			json_add_bool(o, "passive", true);
		if (t->syscall >= 0 && t->syscall < 4096)
			json_add_i64(o, "syscall", t->syscall);
		if (crashed && j->crashed == t) {
			find_original(j, &stack);
			j->cut = stack.cut;
		}
		hashes[i] = stack.n ? hash_stack(&stack) : 0;
		for (size_t k = 0; k < i && hashes[i]; k++)
			if (hashes[k] == hashes[i] && !(j->s->threads[k].flags & SNAPSHOT_THREAD_CRASHED)) {
				json_add_i64(o, "same_as", j->s->threads[k].tid);
				break;
			}
		if (json_get_i64(o, "same_as", 0))
			hashes[i] = 0;
		else
			add_frames(j, o, &stack);
		unwind_stack_free(&stack);
	}
	return 0;
}

/* --- the signal ---------------------------------------------------------------------------------------------------- */

static bool is_stack_overflow(const struct job *j)
{
	const struct snapshot *s = j->s;
	const struct vma *v;

	if (j->address + STACK_NEAR < j->sp || j->address > j->sp + STACK_NEAR)
		return false;
	for (size_t i = 0; i < s->n_vmas; i++) {
		v = &s->vmas[i];
		if (v->end <= j->address)
			continue;
		if (v->start <= j->address) {
			if (v->read || v->write)
				return false;
			continue; /* the guard */
		}
		return v->write && !v->inode && v->start - j->address < STACK_GAP &&
		    (j->sp < v->start || j->sp - v->start < STACK_NEAR);
	}
	return false;
}

static const char *describe_segv(const struct job *j, const char **ret_object)
{
	const struct vma *v = vma_find(j->s->vmas, j->s->n_vmas, j->address);

	if (j->code == 0x80 /* SI_KERNEL: a general protection fault tells no address */)
		return "non-canonical address";
	if (j->address == j->pc && !modules_is_code(j->modules, j->pc))
		return j->pc < NULL_PAGE ? "null call" : "wild jump";
	if (is_stack_overflow(j))
		return "stack overflow";
	if (j->address < NULL_PAGE)
		return "null pointer";
	if (v) {
		*ret_object = v->path[0] ? v->path : "anonymous memory";
		return j->access == 'w' && v->read && !v->write ? "write to read-only memory" : "protected memory";
	}
	return "unmapped address";
}

static void add_signal(struct job *j)
{
	const struct snapshot_info *info = &j->s->info;
	const char *kind = NULL, *object = NULL, *name;
	cJSON *o, *sender;
	char buf[24];

	cJSON_DeleteItemFromObjectCaseSensitive(j->report, "signal");
	o = json_add_object(j->report, "signal");
	json_add_i64(o, "number", info->signal);
	json_add_text(o, "name", signal_to_name(info->signal, buf));
	json_add_i64(o, "code", j->code);
	name = report_code_name(info->signal, j->code);
	if (name)
		json_add_text(o, "code_name", name);
	if (j->reraised || j->sent_again)
		json_add_bool(o, "reraised", true);
	if (j->code <= 0) {
		sender = json_add_object(o, "sender");
		json_add_i64(sender, "pid", info->sender_pid);
		json_add_i64(sender, "uid", info->sender_uid);
		if (info->sender_comm[0])
			json_add_text(sender, "comm", info->sender_comm);
		json_add_bool(sender, "self", info->sender_pid == info->pid);
		return;
	}
	if (info->signal == SIGSEGV) {
		kind = describe_segv(j, &object);
	} else if (info->signal == SIGBUS) {
		const struct vma *v = vma_find(j->s->vmas, j->s->n_vmas, j->address);

		kind = j->code == BUS_ADRERR ? "beyond the end of a file" : NULL;
		object = v && v->path[0] ? v->path : NULL;
	}
	if ((info->signal == SIGSEGV && j->code != 0x80) || info->signal == SIGBUS || info->signal == SIGFPE ||
	    info->signal == SIGILL)
		json_add_hex(o, "address", j->address);
	if (kind)
		json_add_text(o, "kind", kind);
	if (object)
		json_add_text(o, "object", base_name(object));
	if (info->signal == SIGSEGV && j->access)
		json_add_text(o, "access", j->access == 'w' ? "write" : j->access == 'x' ? "execute" : "read");
}

/* --- the rest ------------------------------------------------------------------------------------------------------ */

static void add_registers(struct job *j)
{
	static const char *const names[ARCH_REGS] = ARCH_REG_NAMES;
	cJSON *o = json_add_object(j->report, "registers");
	uint8_t code[CODE_SHOWN];
	char hex[2 * CODE_SHOWN + 1];

	if (!j->crashed)
		return;
	for (uint32_t i = 0; i < j->crashed->n_regs && i < ARCH_REGS; i++)
		if (i <= ARCH_PC || j->crashed->regs[i] != UINT64_MAX)
			json_add_hex(o, names[i], j->crashed->regs[i]);
	if (modules_read(j->modules, j->crashed->regs[ARCH_PC], code, sizeof(code)) < 0)
		return;
	for (size_t i = 0; i < sizeof(code); i++)
		sprintf(hex + 2 * i, "%02x", code[i]);
	json_add_text(j->report, "code", hex);
}

static void add_modules(struct job *j)
{
	cJSON *a = cJSON_CreateArray();
	char build_id[2 * BUILD_ID_MAX + 1];

	cJSON_DeleteItemFromObjectCaseSensitive(j->report, "modules");
	cJSON_AddItemToObject(j->report, "modules", a);
	for (size_t i = 0; i < j->modules->n; i++) {
		const struct module *mod = &j->modules->m[i];
		cJSON *o;

		if (!mod->n_segments && !mod->deleted && !mod->stale)
			continue;
		o = cJSON_CreateObject();
		cJSON_AddItemToArray(a, o);
		json_add_text(o, "path", mod->path);
		json_add_text(o, "build_id", mod->build_id_size ? module_format_build_id(mod, build_id) : NULL);
		json_add_hex(o, "start", mod->start);
		json_add_hex(o, "end", mod->end);
		if (mod->deleted)
			json_add_bool(o, "deleted", true);
		if (mod->stale)
			json_add_bool(o, "stale", true);
		if (mod->missing)
			json_add_bool(o, "missing", true);
	}
}

static void add_process(struct job *j)
{
	const struct snapshot *s = j->s;
	uint64_t anonymous = 0, file = 0, stack = 0;
	char build_id[2 * BUILD_ID_MAX + 1];
	cJSON *o;

	cJSON_DeleteItemFromObjectCaseSensitive(j->report, "process");
	o = json_add_object(j->report, "process");
	json_add_i64(o, "pid", s->info.pid);
	json_add_i64(o, "tid", s->info.tid);
	json_add_text(o, "name", s->info.comm);
	json_add_text(o, "exe", s->exe[0] ? s->exe : NULL);
	json_add_i64(o, "threads", s->info.n_threads);
	json_add_id(o, "start_ticks", s->info.start_ticks);
	for (size_t i = 0; i < j->modules->n; i++)
		if (!strcmp(j->modules->m[i].path, s->exe) && j->modules->m[i].build_id_size) {
			json_add_text(o, "build_id", module_format_build_id(&j->modules->m[i], build_id));
			break;
		}
	for (size_t i = 0; i < s->n_vmas; i++) {
		const struct vma *v = &s->vmas[i];
		uint64_t size = v->end - v->start;

		if (!strncmp(v->path, "[stack", 6))
			stack += size;
		else if (v->inode)
			file += size;
		else if (v->read || v->write)
			anonymous += size;
	}
	cJSON_DeleteItemFromObjectCaseSensitive(j->report, "memory");
	o = json_add_object(j->report, "memory");
	json_add_i64(o, "mappings", (int64_t)s->n_vmas);
	json_add_i64(o, "anonymous_bytes", (int64_t)anonymous);
	json_add_i64(o, "file_bytes", (int64_t)file);
	json_add_i64(o, "stack_bytes", (int64_t)stack);
}

static void add_source(cJSON *report, int64_t around)
{
	cJSON *f = (cJSON *)(uintptr_t)report_where_frame(report), *lines;
	const char *path = f ? json_get_string(f, "file", NULL) : NULL;
	int64_t line = f ? json_get_i64(f, "line", 0) : 0, n = 1;
	_cleanup_(freep) char *text = NULL;
	_cleanup_(closep) int fd = -1;
	struct stat st;

	if (!path || path[0] != '/' || around <= 0)
		return;
	if (around > SOURCE_LINES_MAX)
		around = SOURCE_LINES_MAX;
	fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
	if (fd < 0 || fstat(fd, &st) < 0 || !S_ISREG(st.st_mode) || st.st_size > SOURCE_FILE_MAX)
		return;
	text = malloc((size_t)st.st_size + 1);
	if (!text)
		return;
	{
		ssize_t got = read_full(fd, text, (size_t)st.st_size);

		if (got <= 0)
			return;
		text[got] = '\0';
	}
	lines = json_add_array(f, "source");
	for (char *p = text, *next; lines && p && *p && n <= line + around; p = next, n++) {
		cJSON *o;

		next = strchr(p, '\n');
		if (next)
			*next++ = '\0';
		if (n < line - around)
			continue;
		o = cJSON_CreateObject();
		json_add_i64(o, "line", n);
		json_add_text_n(o, "text", p, strnlen(p, SOURCE_LINE_BYTES));
		if (n == line)
			json_add_bool(o, "crash", true);
		cJSON_AddItemToArray(lines, o);
	}
}

static void add_capture(struct job *j)
{
	cJSON *c = (cJSON *)(uintptr_t)json_get_object(j->report, "capture"), *notes;
	char text[160];

	if (!c)
		c = json_add_object(j->report, "capture");
	cJSON_DeleteItemFromObjectCaseSensitive(c, "held_us");
	json_add_i64(c, "held_us", j->s->info.held_us);
	json_add_i64(c, "unwind_us", (int64_t)j->unwind_us);
	json_add_i64(c, "symbolize_us", (int64_t)j->symbolize_us);
	json_add_time(c, "taken_at", j->s->info.wall_us);
	notes = json_add_array(c, "notes");
	for (size_t i = 0; notes && i < j->s->n_notes; i++) {
		_cleanup_text_ struct text t = { 0 };

		text_add_utf8(&t, j->s->notes[i], strlen(j->s->notes[i]));
		if (t.data)
			cJSON_AddItemToArray(notes, cJSON_CreateString(t.data));
	}
	if (j->unnamed) {
		snprintf(text, sizeof(text), "names of %u frames left out: symbolizing took too long", j->unnamed);
		cJSON_AddItemToArray(notes, cJSON_CreateString(text));
	}
	for (size_t i = 0; i < j->modules->n; i++) {
		const struct module *mod = &j->modules->m[i];

		if (!mod->stale)
			continue;
		snprintf(text, sizeof(text), "%.100s was replaced since the start: no names for it", base_name(mod->path));
		cJSON_AddItemToArray(notes, cJSON_CreateString(text));
	}
}

static int complete(struct job *j, struct error *err)
{
	const cJSON *c = json_get_object(j->report, "capture");
	char where[1200];
	int r;

	r = modules_new(&j->modules, j->s);
	if (!r)
		r = unwinder_new(&j->unwinder, j->modules);
	if (!r)
		r = symbolizer_new(&j->symbols, j->modules);
	if (!r)
		r = add_threads(j, !c || json_get_bool(c, "all_threads", true));
	if (r < 0)
		return error_set(err, r, "snapshot of pid %d: %s", (int)j->s->info.pid, strerror(-r));
	add_process(j);
	add_signal(j);
	add_registers(j);
	add_modules(j);
	if (j->reraised)
		json_add_bool(j->report, "reraised", true);
	fingerprint_mark_noise(j->report);
	cJSON_DeleteItemFromObjectCaseSensitive(j->report, "reraised");
	fingerprint_add(j->report);
	add_source(j->report, c ? json_get_i64(c, "source_lines", 0) : 0);
	add_capture(j);
	report_summarize(j->report, report_where(j->report, where, sizeof(where)));
	report_add_traceback(j->report);
	cJSON_DeleteItemFromObjectCaseSensitive(j->report, "complete");
	json_add_bool(j->report, "complete", true);
	return 0;
}

int postmortem_complete(cJSON *report, const struct snapshot *s, struct error *err)
{
	struct job j = { .report = report, .s = s, .deadline_ms = clock_mono_ms() + SYMBOLS_BUDGET_MS, .code = s->info.code,
		.address = s->info.address };
	int r;

	for (size_t i = 0; i < s->n_threads && !j.crashed; i++)
		if (s->threads[i].flags & SNAPSHOT_THREAD_CRASHED && s->threads[i].n_regs > ARCH_PC)
			j.crashed = &s->threads[i];
	if (j.crashed) {
		j.pc = j.crashed->regs[ARCH_PC];
		j.sp = j.crashed->regs[ARCH_SP];
		j.access = s->info.signal == SIGSEGV && s->info.code > 0 ? arch_fault_access(j.crashed->regs) : 0;
	}
	r = complete(&j, err);
	symbolizer_free(j.symbols);
	unwinder_free(j.unwinder);
	modules_free(j.modules);
	return r;
}
