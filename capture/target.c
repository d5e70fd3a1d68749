/* SPDX-License-Identifier: Apache-2.0 */
#include "capture/target.h"

#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/proc.h"
#include "capture/arch.h"

enum {
	ARENA_BYTES = 24 << 20,      /* address space; used as far as needed */
	ARENA_WARM = 512 << 10,      /* touched beforehand: page faults are most of the time of a first copy */
	STACKS_BYTES = 16 << 20,     /* of all threads together */
	CRASH_STACK = 256 << 10,
	OTHER_STACK = 32 << 10,
	GUARD_SKIP = 16 << 20,       /* below a stack that overflowed: how far up it may begin */
	CODE_BYTES = 64,
	VDSO_BYTES = 8 << 10,
	MODULE_HEAD = 1 << 10,       /* ELF header, program headers, build-id note */
	MODULES_MAX = 192,
	DELETED_BYTES = 4 << 20,     /* of files that cannot be opened any more */
	REGIONS_MAX = 8192,
	THREADS_MAX = 2048,
	MAPS_BYTES = 8 << 20,
	ENVIRON_BYTES = 64 << 10,
	STOP_BUDGET_US = 20000,
	ROUNDS = 8,
	SIGNAL_LEVELS = 2,
};

int target_new(struct target **ret)
{
	_cleanup_(target_freep) struct target *t = calloc(1, sizeof(*t));

	if (!t)
		return -ENOMEM;
	t->arena = mmap(NULL, ARENA_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (t->arena == MAP_FAILED) {
		t->arena = NULL;
		return -ENOMEM;
	}
	madvise(t->arena, ARENA_BYTES, MADV_NOHUGEPAGE); /* zeroing 2 MiB at once takes longer than the copy */
	memset(t->arena, 0, ARENA_WARM);
	t->regions = calloc(REGIONS_MAX, sizeof(*t->regions));
	t->threads_room = 64;
	t->threads = calloc(t->threads_room, sizeof(*t->threads));
	t->maps_room = 256 << 10;
	t->maps = malloc(t->maps_room);
	if (!t->regions || !t->threads || !t->maps)
		return -ENOMEM;
	*ret = TAKE_PTR(t);
	return 0;
}

struct target *target_free(struct target *t)
{
	if (!t)
		return NULL;
	if (t->arena)
		munmap(t->arena, ARENA_BYTES);
	free(t->threads);
	free(t->maps);
	free(t->maps_copy);
	free(t->vmas);
	free(t->regions);
	free(t->leftovers);
	free(t);
	return NULL;
}

void target_trim(struct target *t)
{
	if (t->arena_used > ARENA_WARM)
		madvise(t->arena + ARENA_WARM, ARENA_BYTES - ARENA_WARM, MADV_DONTNEED);
	free(t->maps_copy);
	t->maps_copy = NULL;
	free(t->vmas);
	t->vmas = NULL;
	t->n_vmas = 0;
}

void target_note(struct target *t, const char *fmt, ...)
{
	va_list ap;

	if (t->n_notes == ARRAY_SIZE(t->notes))
		return;
	va_start(ap, fmt);
	vsnprintf(t->notes[t->n_notes++], sizeof(t->notes[0]), fmt, ap);
	va_end(ap);
}

/* A /proc file of at most @size - 1 bytes. Return: bytes, or -errno */
static ssize_t read_proc(pid_t pid, pid_t tid, const char *name, char *ret, size_t size)
{
	_cleanup_(closep) int fd = -1;
	char path[64];
	ssize_t n;

	snprintf(path, sizeof(path), "/proc/%d/task/%d/%s", (int)pid, (int)tid, name);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	n = read(fd, ret, size - 1);
	if (n < 0)
		return -errno;
	ret[n] = '\0';
	return n;
}

void target_read_stat(pid_t pid, pid_t tid, struct snapshot_thread *ret)
{
	char buf[512], *open_, *close_;

	if (read_proc(pid, tid, "stat", buf, sizeof(buf)) < 0)
		return;
	open_ = strchr(buf, '(');
	close_ = strrchr(buf, ')');
	if (!open_ || !close_ || close_ < open_ || close_[1] != ' ')
		return;
	ret->state = close_[2];
	*close_ = '\0';
	snprintf(ret->comm, sizeof(ret->comm), "%.15s", open_ + 1);
}

struct target_thread *target_add_thread(struct target *t, pid_t tid)
{
	struct target_thread *th;

	if (t->n_threads == t->threads_room) {
		size_t room = t->threads_room * 2;
		struct target_thread *p = room <= THREADS_MAX ? realloc(t->threads, room * sizeof(*p)) : NULL;

		if (!p)
			return NULL;
		t->threads = p;
		t->threads_room = room;
	}
	th = &t->threads[t->n_threads++];
	*th = (struct target_thread){ .t = { .tid = tid, .syscall = -1 } };
	target_read_stat(t->pid, tid, &th->t);
	return th;
}

static void take_variable(const char *env, size_t size, const char *name, char *ret, size_t room)
{
	size_t n = strlen(name);

	ret[0] = '\0';
	for (const char *p = env; p < env + size; p += strlen(p) + 1)
		if (!strncmp(p, name, n) && p[n] == '=') {
			snprintf(ret, room, "%s", p + n + 1);
			return;
		}
}

static void read_environment(struct target *t)
{
	/* the maps come later: their room is free now */
	ssize_t n = read_proc(t->pid, t->tid, "environ", t->maps, ENVIRON_BYTES);

	if (n < 0)
		n = 0;
	t->maps[n] = '\0';
	take_variable(t->maps, (size_t)n, "SUPERVISE_DAEMON", t->daemon, sizeof(t->daemon));
	take_variable(t->maps, (size_t)n, "SUPERVISE_RUN", t->run, sizeof(t->run));
}

void target_begin(struct target *t, pid_t pid, pid_t tid, const uint64_t *regs, uint64_t budget_us)
{
	struct target_thread *th;
	struct proc_stat st;
	char path[64];
	ssize_t n;

	t->pid = pid;
	t->tid = tid;
	t->n_threads = t->n_regions = t->arena_used = t->maps_size = 0;
	t->n_seen = t->n_notes = 0;
	t->deadline_us = clock_mono_us() + budget_us;
	th = target_add_thread(t, tid); /* there is room for one */
	th->t.flags = SNAPSHOT_THREAD_CRASHED;
	th->t.n_regs = ARCH_REGS;
	memcpy(th->t.regs, regs, sizeof(th->t.regs[0]) * ARCH_REGS);
	t->original_code = 0;
	t->original_address = 0;
	t->start_ticks = 0;
	t->comm[0] = '\0';
	if (proc_read_stat(pid, &st) == 0) {
		t->start_ticks = st.start_ticks;
		snprintf(t->comm, sizeof(t->comm), "%.15s", st.comm);
		t->n_seen = st.threads;
	}
	snprintf(path, sizeof(path), "/proc/%d/exe", (int)pid);
	n = readlink(path, t->exe, sizeof(t->exe) - 1);
	t->exe[n > 0 ? n : 0] = '\0';
	read_environment(t);
}

int target_read_regs(pid_t tid, struct snapshot_thread *ret)
{
	struct user_regs_struct u = { 0 };
	struct iovec iov = { &u, sizeof(u) };

	if (ptrace(PTRACE_GETREGSET, tid, (void *)(uintptr_t)NT_PRSTATUS, &iov) < 0)
		return -errno;
	if (iov.iov_len != sizeof(u))
		return -ENOTSUP; /* a 32-bit process */
	arch_regs_from_ptrace(ret->regs, &u);
	ret->n_regs = ARCH_REGS;
#ifdef __x86_64__
	ret->syscall = (int64_t)ret->regs[ARCH_ORIG_AX];
#endif
	return 0;
}

int target_wait(pid_t pid, pid_t tid, int *ret_status)
{
	siginfo_t si = { 0 };
	struct proc_stat st;
	int status;

	if (waitid(P_PID, (id_t)tid, &si, WEXITED | WSTOPPED | WNOHANG | WNOWAIT | __WALL) < 0)
		return -ESRCH;
	if (!si.si_pid)
		return 0;
	if (si.si_code != CLD_TRAPPED && si.si_code != CLD_STOPPED) {
		/*
		 * Dead. A thread must be reaped by its tracer, or its process never becomes one whole zombie; so must the first
		 * thread of somebody else's child, or the news does not reach its parent. Our own child is left to whoever
		 * waits for it.
		 */
		if (tid != pid || (proc_read_stat(pid, &st) == 0 && st.ppid != getpid()))
			(void)waitpid(tid, &status, __WALL | WNOHANG);
		return -ESRCH;
	}
	if (waitpid(tid, &status, __WALL | WNOHANG) != tid || !WIFSTOPPED(status))
		return 0;
	*ret_status = status;
	return 1;
}

/* "NR a b c d e f SP PC", "-1 SP PC" or "running": what a blocked thread shows without being stopped. */
static void read_passively(struct target *t, struct target_thread *th)
{
	char buf[512], *words[9], *save = NULL;
	size_t n = 0;

	th->t.flags |= SNAPSHOT_THREAD_PASSIVE;
	if (read_proc(t->pid, th->t.tid, "syscall", buf, sizeof(buf)) < 0) {
		th->t.flags |= SNAPSHOT_THREAD_NOT_STOPPED;
		return;
	}
	for (char *w = strtok_r(buf, " \n", &save); w && n < ARRAY_SIZE(words); w = strtok_r(NULL, " \n", &save))
		words[n++] = w;
	if (n != 3 && n != 9) {
		th->t.flags |= SNAPSHOT_THREAD_NOT_STOPPED;
		return;
	}
	th->t.syscall = strtoll(words[0], NULL, 10);
	th->t.regs[ARCH_SP] = strtoull(words[n - 2], NULL, 16);
	th->t.regs[ARCH_PC] = strtoull(words[n - 1], NULL, 16);
	th->t.n_regs = ARCH_REGS;
}

static void pause_briefly(void)
{
	const struct timespec ts = { .tv_nsec = 20000 };

	nanosleep(&ts, NULL); /* a stop has no descriptor to wait for, and waiting for one thread may not end */
}

/* Collects the threads that were interrupted, until @deadline_us. */
static void collect_stops(struct target *t, uint64_t deadline_us)
{
	bool again = true;

	while (again) {
		again = false;
		for (size_t i = 1; i < t->n_threads; i++) {
			struct target_thread *th = &t->threads[i];
			int status, r;

			if (!th->waiting)
				continue;
			r = target_wait(t->pid, th->t.tid, &status);
			if (!r) {
				again = true;
				continue;
			}
			th->waiting = false;
			if (r < 0) {
				th->seized = false;
				th->t.tid = 0; /* gone */
				continue;
			}
			if (status >> 16 == 0) /* on its way to receive a signal of its own */
				th->inject = WSTOPSIG(status);
			if (target_read_regs(th->t.tid, &th->t) < 0)
				th->t.flags |= SNAPSHOT_THREAD_NOT_STOPPED;
		}
		if (again && clock_mono_us() >= deadline_us)
			break;
		if (again)
			pause_briefly();
	}
}

void target_stop_others(struct target *t)
{
	uint64_t deadline_us = clock_mono_us() + STOP_BUDGET_US;
	unsigned passive = 0, late = 0;
	bool full = false;
	char path[64];

	if (deadline_us > t->deadline_us)
		deadline_us = t->deadline_us;
	snprintf(path, sizeof(path), "/proc/%d/task", (int)t->pid);
	for (int round = 0; round < ROUNDS && !full; round++) {
		_cleanup_(closedirp) DIR *d = opendir(path);
		size_t before = t->n_threads;
		struct dirent *e;

		if (!d)
			break;
		while ((e = readdir(d)) && !full) {
			pid_t tid = atoi(e->d_name);
			struct target_thread *th;
			bool known = tid <= 0;

			for (size_t i = 0; i < before && !known; i++)
				known = t->threads[i].t.tid == tid;
			if (known)
				continue;
			th = target_add_thread(t, tid);
			if (!th) {
				full = true;
			} else if (th->t.state == 'Z' || th->t.state == 'X') {
				/* stays listed, so that it is not looked at again; target_write() leaves it out */
				th->t.flags |= SNAPSHOT_THREAD_NOT_STOPPED;
			} else if (!ptrace(PTRACE_SEIZE, tid, NULL, NULL)) {
				th->seized = true;
				th->waiting = !ptrace(PTRACE_INTERRUPT, tid, NULL, NULL);
			} else if (errno != ESRCH) {
				read_passively(t, th); /* a debugger is there, or we may not */
				passive++;
			} else {
				th->t.tid = 0;
			}
		}
		if (t->n_threads == before)
			break;
		collect_stops(t, deadline_us);
		if (clock_mono_us() >= deadline_us)
			break;
	}
	for (size_t i = 1; i < t->n_threads; i++) {
		struct target_thread *th = &t->threads[i];

		if (!th->waiting || !th->t.tid)
			continue;
		read_passively(t, th); /* in the kernel and not to be disturbed, state D */
		late++;
	}
	if (passive)
		target_note(t, "%u threads could not be stopped (already traced, or not permitted): read while they waited", passive);
	if (late)
		target_note(t, "%u threads did not stop within %d ms", late, STOP_BUDGET_US / 1000);
	if (full)
		target_note(t, "more than %d threads: the others are missing", THREADS_MAX);
}

static void keep_leftover(struct target *t, pid_t tid)
{
	struct target_leftover *p = realloc(t->leftovers, (t->n_leftovers + 1) * sizeof(*p));

	if (!p)
		return;
	t->leftovers = p;
	t->leftovers[t->n_leftovers++] = (struct target_leftover){ t->pid, tid };
}

void target_release(struct target *t)
{
	for (size_t i = 1; i < t->n_threads; i++) {
		struct target_thread *th = &t->threads[i];

		if (!th->seized)
			continue;
		th->seized = false;
		if (th->waiting || ptrace(PTRACE_DETACH, th->t.tid, NULL, (void *)(uintptr_t)th->inject) < 0)
			keep_leftover(t, th->t.tid);
	}
}

bool target_reap_leftovers(struct target *t)
{
	for (size_t i = 0; i < t->n_leftovers;) {
		const struct target_leftover *l = &t->leftovers[i];
		int status, r = target_wait(l->pid, l->tid, &status);

		if (r == 1 &&
		    ptrace(PTRACE_DETACH, l->tid, NULL, (void *)(uintptr_t)(status >> 16 ? 0 : WSTOPSIG(status))) < 0)
			r = 0; /* killed this moment: its end comes next */
		if (r)
			t->leftovers[i] = t->leftovers[--t->n_leftovers];
		else
			i++;
	}
	return t->n_leftovers != 0;
}

/* --- memory -------------------------------------------------------------------------------------------------------- */

static void read_maps(struct target *t)
{
	_cleanup_(closep) int fd = -1;
	char path[64];

	/* of the crashed thread: a first thread that called pthread_exit(3) is a zombie, and its maps are empty */
	snprintf(path, sizeof(path), "/proc/%d/task/%d/maps", (int)t->pid, (int)t->tid);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0) {
		target_note(t, "memory maps: %s", strerror(errno));
		return;
	}
	for (;;) {
		ssize_t n;

		if (t->maps_size + 4096 > t->maps_room) {
			char *p = t->maps_room < MAPS_BYTES ? realloc(t->maps, t->maps_room * 2) : NULL;

			if (!p) {
				target_note(t, "memory maps cut at %zu bytes", t->maps_size);
				break;
			}
			t->maps = p;
			t->maps_room *= 2;
		}
		n = read(fd, t->maps + t->maps_size, t->maps_room - t->maps_size - 1);
		if (n <= 0) {
			if (n < 0)
				target_note(t, "memory maps: %s", strerror(errno));
			break;
		}
		t->maps_size += (size_t)n;
	}
	t->maps[t->maps_size] = '\0';
	free(t->maps_copy);
	free(t->vmas);
	t->vmas = NULL;
	t->n_vmas = 0;
	t->maps_copy = strdup(t->maps);
	if (t->maps_copy)
		maps_parse(t->maps_copy, &t->vmas, &t->n_vmas);
}

static void plan(struct target *t, uint64_t address, uint64_t size)
{
	if (!size || t->n_regions == REGIONS_MAX || size > ARENA_BYTES - t->arena_used)
		return;
	t->regions[t->n_regions++] = (struct target_region){ .address = address, .size = size, .off = t->arena_used };
	t->arena_used += (size + 15) & ~15ull;
}

/* What of the stack that @sp points into is to be copied. */
static void plan_stack(struct target *t, uint64_t sp, uint64_t limit)
{
	const struct vma *v = vma_find(t->vmas, t->n_vmas, sp), *last = t->vmas + t->n_vmas;
	uint64_t start;

	if (v && v->read) {
		start = sp - v->start > ARCH_RED_ZONE ? sp - ARCH_RED_ZONE : v->start;
	} else {
		/* in the guard below the stack: what can be read begins with the next mapping */
		for (v = v ? v : t->vmas; v < last && (v->end <= sp || !v->read); v++)
			;
		if (v == last || v->start - sp > GUARD_SKIP)
			return;
		start = v->start;
		limit += 4096;
	}
	start &= ~7ull;
	plan(t, start, v->end - start < limit ? v->end - start : limit);
}

/* Copies regions @first and up. What cannot be read is cut short, down to nothing. */
static void fetch(struct target *t, size_t first)
{
	struct iovec local[512], remote[512];

	while (first < t->n_regions) {
		size_t n = 0, want = 0;
		ssize_t got;

		for (; n < ARRAY_SIZE(local) && first + n < t->n_regions; n++) {
			struct target_region *r = &t->regions[first + n];

			local[n] = (struct iovec){ t->arena + r->off, (size_t)r->size };
			remote[n] = (struct iovec){ (void *)(uintptr_t)r->address, (size_t)r->size };
			want += (size_t)r->size;
		}
		got = process_vm_readv(t->tid, local, n, remote, n, 0);
		if (got < 0 && errno != EFAULT) {
			target_note(t, "memory: %s", strerror(errno));
			for (; first < t->n_regions; first++)
				t->regions[first].size = 0;
			return;
		}
		if (got < 0)
			got = 0;
		if ((size_t)got == want) {
			first += n;
			continue;
		}
		for (; (size_t)got >= t->regions[first].size; first++)
			got -= (ssize_t)t->regions[first].size;
		t->regions[first++].size = (uint64_t)got & ~7ull;
	}
}

/*
 * A handler of the program's own runs on another stack than what it interrupted: find the kernel's signal frame in the
 * bytes just copied, and copy the stack it came from.
 */
static void follow_signal_frames(struct target *t, size_t first, size_t last)
{
	for (int level = 0; level < SIGNAL_LEVELS && first < last; level++) {
		size_t begin = t->n_regions;

		for (size_t i = first; i < last; i++) {
			const struct target_region r = t->regions[i];

			for (uint64_t off = 0; off + ARCH_FRAME_BYTES <= r.size; off += 8) {
				uint64_t pc, sp;
				const struct vma *code, *stack;
				bool have = false;

				if (!arch_saved_context(t->arena + r.off + off, &pc, &sp))
					continue;
				code = vma_find(t->vmas, t->n_vmas, pc);
				stack = vma_find(t->vmas, t->n_vmas, sp);
				if (!code || !code->exec)
					continue;
				for (size_t k = 0; k < t->n_regions && !have; k++)
					have = sp >= t->regions[k].address && sp - t->regions[k].address < t->regions[k].size;
				if (have || (stack && stack->start <= r.address + off && r.address + off < stack->end &&
						sp < r.address + off))
					continue;
				plan_stack(t, sp, CRASH_STACK);
				plan(t, pc - CODE_BYTES / 2, CODE_BYTES);
			}
			if (t->n_regions > begin + 8)
				break;
		}
		first = begin;
		last = t->n_regions;
		fetch(t, first);
	}
}

static void plan_modules(struct target *t)
{
	uint64_t deleted = 0;
	unsigned modules = 0;

	for (size_t i = 0; i < t->n_vmas; i++) {
		const struct vma *v = &t->vmas[i];
		uint64_t size = v->end - v->start;

		if (!strcmp(v->path, "[vdso]")) {
			plan(t, v->start, size < VDSO_BYTES ? size : VDSO_BYTES);
		} else if (v->deleted && v->inode && v->read && !v->shared && (v->exec || !v->write) &&
		    deleted + size <= DELETED_BYTES) {
			plan(t, v->start, size);
			deleted += size;
		} else if (v->inode && v->read && !v->offset && modules < MODULES_MAX) {
			plan(t, v->start, MODULE_HEAD);
			modules++;
		}
	}
}

void target_copy(struct target *t)
{
	const struct snapshot_thread *crashed = &t->threads[0].t;
	size_t first;
	uint64_t stacks;
	unsigned left_out = 0;

	read_maps(t);
	plan_stack(t, crashed->regs[ARCH_SP], CRASH_STACK);
	first = t->n_regions;
	plan(t, crashed->regs[ARCH_PC] - CODE_BYTES / 2, CODE_BYTES);
	plan(t, crashed->regs[ARCH_PC], CODE_BYTES / 2); /* when the page before cannot be read */
	plan_modules(t);
	fetch(t, 0);
	follow_signal_frames(t, 0, first);

	first = t->n_regions;
	stacks = 0;
	for (size_t i = 1; i < t->n_threads; i++) {
		const struct snapshot_thread *th = &t->threads[i].t;
		size_t before = t->arena_used;

		if (!th->tid || !th->n_regs)
			continue;
		if (stacks >= STACKS_BYTES || clock_mono_us() >= t->deadline_us) {
			left_out++;
			continue;
		}
		plan_stack(t, th->regs[ARCH_SP], OTHER_STACK);
		stacks += t->arena_used - before;
		if (t->n_regions - first >= 64) {
			fetch(t, first);
			first = t->n_regions;
		}
	}
	fetch(t, first);
	if (left_out)
		target_note(t, "stacks of %u threads left out: the process would have been held too long", left_out);
}

/* --- the file ------------------------------------------------------------------------------------------------------ */

void target_describe_signal(struct snapshot_info *info, const siginfo_t *si)
{
	info->signal = si->si_signo;
	info->code = si->si_code;
	if (si->si_code > 0) {
		if (si->si_signo == SIGSEGV || si->si_signo == SIGBUS || si->si_signo == SIGFPE || si->si_signo == SIGILL)
			info->address = (uint64_t)(uintptr_t)si->si_addr;
		return;
	}
	info->sender_pid = si->si_pid;
	info->sender_uid = si->si_uid;
	if (si->si_pid > 0) {
		struct proc_stat st;

		if (proc_read_stat(si->si_pid, &st) == 0)
			snprintf(info->sender_comm, sizeof(info->sender_comm), "%.15s", st.comm);
	}
}

int target_write(const struct target *t, const struct snapshot_info *info, struct snapshot_writer *w)
{
	struct snapshot_info full = *info;
	unsigned n = 0;

	for (size_t i = 0; i < t->n_threads; i++)
		n += t->threads[i].t.tid != 0;
	full.pid = t->pid;
	full.tid = t->tid;
	full.start_ticks = t->start_ticks;
	full.n_threads = t->n_seen > n ? t->n_seen : n;
	full.uid = getuid();
	full.original_code = t->original_code;
	full.original_address = t->original_address;
	memcpy(full.comm, t->comm, sizeof(full.comm));
	snapshot_begin(w);
	snapshot_add(w, SNAPSHOT_INFO, &full, sizeof(full));
	snapshot_add(w, SNAPSHOT_MAPS, t->maps, t->maps_size);
	snapshot_add(w, SNAPSHOT_EXE, t->exe, strlen(t->exe));
	for (size_t i = 0; i < t->n_threads; i++)
		if (t->threads[i].t.tid && t->threads[i].t.state != 'Z' && t->threads[i].t.state != 'X')
			snapshot_add(w, SNAPSHOT_THREAD, &t->threads[i].t, sizeof(t->threads[i].t));
	for (size_t i = 0; i < t->n_regions; i++)
		if (t->regions[i].size)
			snapshot_add_memory(w, t->regions[i].address, t->arena + t->regions[i].off, (size_t)t->regions[i].size);
	for (unsigned i = 0; i < t->n_notes; i++)
		snapshot_add_note(w, "%s", t->notes[i]);
	return snapshot_end(w);
}
