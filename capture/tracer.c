/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ptrace mode: a thread that follows one daemon and all it starts, from before its program is executed. Every signal of
 * every traced thread passes through here, so the loop decides and continues, nothing else.
 *
 * One thread per daemon: waiting for a tracee blocks in waitid(2), ptrace(2) is bound to the thread, and so a slow
 * capture of one daemon holds up no signal of another. PTRACE_O_EXITKILL is never set: when this thread or the whole
 * supervisor goes, the kernel detaches, and a tracee in its stop goes on with its signal.
 *
 * Exit statuses belong to others: __WNOTHREAD keeps us to our own tracees, and a dead child of this process is left to the
 * thread that waits for its pidfd (the kernel lets the real parent's threads reap it).
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/file.h"
#include "base/proc.h"
#include "capture/arch.h"
#include "capture/post.h"

enum {
	OPTIONS = PTRACE_O_TRACECLONE | PTRACE_O_TRACEFORK | PTRACE_O_TRACEVFORK | PTRACE_O_TRACEEXEC,
	SIBLING_STOP_US = 20000,
	CORPSE_WAIT_NS = 1000000,
};

struct tracee {
	pid_t tid, pid; /* pid 0: not known yet */
	/* the last fault that a handler of the program's own got: it may send the signal again */
	int fault_signal, fault_code;
	uint64_t fault_address;
};

struct tracer {
	struct tracer *next;
	struct capture *c;
	pthread_t thread;
	pid_t first;
	int gate_fd;
	bool finished, stopping;
	struct tracee *tracees;
	size_t n, room;
	struct target *target;
};

static struct tracee *find(struct tracer *tr, pid_t tid)
{
	for (size_t i = 0; i < tr->n; i++)
		if (tr->tracees[i].tid == tid)
			return &tr->tracees[i];
	return NULL;
}

static struct tracee *add(struct tracer *tr, pid_t tid)
{
	struct tracee *t = find(tr, tid);

	if (t)
		return t;
	if (tr->n == tr->room) {
		size_t room = tr->room ? tr->room * 2 : 16;
		struct tracee *p = realloc(tr->tracees, room * sizeof(*p));

		if (!p)
			return NULL; /* it is served all the same, only not stopped as somebody's sibling */
		tr->tracees = p;
		tr->room = room;
	}
	t = &tr->tracees[tr->n++];
	*t = (struct tracee){ .tid = tid };
	return t;
}

static void forget(struct tracer *tr, pid_t tid)
{
	struct tracee *t = find(tr, tid);

	if (t)
		*t = tr->tracees[--tr->n];
}

/* A number out of /proc/TID/status ("Tgid:\t12", "SigIgn:\t00..."). */
static bool read_status(pid_t tid, const char *name, int base, uint64_t *ret)
{
	_cleanup_(freep) char *text = NULL;
	char path[40], key[24], *p;

	snprintf(path, sizeof(path), "/proc/%d/status", (int)tid);
	snprintf(key, sizeof(key), "\n%s:\t", name);
	if (file_read(AT_FDCWD, path, 16384, &text, NULL) < 0)
		return false;
	p = strstr(text, key);
	if (!p)
		return false;
	*ret = strtoull(p + strlen(key), NULL, base);
	return true;
}

static pid_t process_of(struct tracer *tr, pid_t tid)
{
	struct tracee *t = add(tr, tid);
	uint64_t pid = 0;

	if (t && t->pid)
		return t->pid;
	if (!read_status(tid, "Tgid", 10, &pid))
		return 0;
	if (t)
		t->pid = (pid_t)pid;
	return (pid_t)pid;
}

/* Whether delivering @sig ends the process, and is worth a report. */
static bool is_crash(pid_t tid, int sig)
{
	uint64_t ignored, caught, bit = 1ull << (sig - 1);

	switch (sig) {
	case SIGSEGV:
	case SIGBUS:
	case SIGFPE:
	case SIGILL:
	case SIGABRT:
	case SIGTRAP:
	case SIGSYS:
		break;
	default:
		return false;
	}
	return read_status(tid, "SigIgn", 16, &ignored) && read_status(tid, "SigCgt", 16, &caught) &&
	    !((ignored | caught) & bit);
}

static void resume(pid_t tid, int status)
{
	int sig = WSTOPSIG(status);

	if (status >> 16 == PTRACE_EVENT_STOP && (sig == SIGSTOP || sig == SIGTSTP || sig == SIGTTIN || sig == SIGTTOU))
		ptrace(PTRACE_LISTEN, tid, NULL, NULL); /* stays stopped until SIGCONT, as without us */
	else
		ptrace(PTRACE_CONT, tid, NULL, (void *)(uintptr_t)(status >> 16 ? 0 : sig));
}

static void note_event(struct tracer *tr, pid_t tid, int status)
{
	unsigned long message = 0;

	switch (status >> 16) {
	case PTRACE_EVENT_CLONE:
	case PTRACE_EVENT_FORK:
	case PTRACE_EVENT_VFORK:
		if (!ptrace(PTRACE_GETEVENTMSG, tid, NULL, &message))
			add(tr, (pid_t)message);
		break;
	case PTRACE_EVENT_EXEC: /* of a thread that was not the first: it has taken the first one's id */
		if (!ptrace(PTRACE_GETEVENTMSG, tid, NULL, &message) && (pid_t)message != tid)
			forget(tr, (pid_t)message);
		break;
	default:
		break;
	}
}

/* Return: whether it was done, and the thread went on to its death */
static bool capture(struct tracer *tr, pid_t tid, int status)
{
	uint64_t began_us = clock_mono_us(), deadline_us = began_us + SIBLING_STOP_US;
	struct {
		pid_t tid;
		int status;
	} *stopped = NULL;
	struct snapshot_thread crashed = { 0 };
	struct target *t = tr->target;
	pid_t pid = process_of(tr, tid);
	size_t n_stopped = 0, n = tr->n;
	const struct tracee *self;
	unsigned late = 0;
	siginfo_t si;

	if (!pid || ptrace(PTRACE_GETSIGINFO, tid, NULL, &si) < 0 || target_read_regs(tid, &crashed) < 0)
		return false;
	target_begin(t, pid, tid, crashed.regs, CAPTURE_HOLD_US);
	self = find(tr, tid);
	if (self && si.si_code <= 0 && si.si_pid == pid && self->fault_signal == si.si_signo) {
		t->original_code = self->fault_code;
		t->original_address = self->fault_address;
	}
	stopped = calloc(n ? n : 1, sizeof(*stopped));
	for (size_t i = 0; i < n && stopped; i++) {
		pid_t sibling = tr->tracees[i].tid;

		if (sibling != tid && process_of(tr, sibling) == pid)
			ptrace(PTRACE_INTERRUPT, sibling, NULL, NULL);
	}
	for (size_t i = 0; i < n && stopped; i++) {
		const struct timespec briefly = { .tv_nsec = 20000 };
		pid_t sibling = tr->tracees[i].tid;
		struct target_thread *th;
		int s, r;

		if (sibling == tid || tr->tracees[i].pid != pid)
			continue;
		while (!(r = target_wait(pid, sibling, &s)) && clock_mono_us() < deadline_us)
			nanosleep(&briefly, NULL);
		if (r < 0)
			continue;
		th = target_add_thread(t, sibling);
		if (!r) {
			late++;
			if (th)
				th->t.flags |= SNAPSHOT_THREAD_NOT_STOPPED;
			continue;
		}
		stopped[n_stopped].tid = sibling;
		stopped[n_stopped++].status = s;
		if (th && target_read_regs(sibling, &th->t) < 0)
			th->t.flags |= SNAPSHOT_THREAD_NOT_STOPPED;
	}
	if (late)
		target_note(t, "%u threads did not stop within %d ms", late, SIBLING_STOP_US / 1000);
	target_copy(t);
	for (size_t i = 0; i < n_stopped; i++) {
		note_event(tr, stopped[i].tid, stopped[i].status);
		resume(stopped[i].tid, stopped[i].status);
	}
	free(stopped);
	resume(tid, status);
	capture_post_snapshot(tr->c, t, &si, CAPTURE_PTRACE, clock_mono_us() - began_us);
	target_trim(t);
	return true;
}

static void remember_fault(struct tracer *tr, pid_t tid, int sig)
{
	struct tracee *t = find(tr, tid);
	siginfo_t si;

	if (!t || (sig != SIGSEGV && sig != SIGBUS && sig != SIGFPE && sig != SIGILL) ||
	    ptrace(PTRACE_GETSIGINFO, tid, NULL, &si) < 0 || si.si_code <= 0)
		return;
	t->fault_signal = sig;
	t->fault_code = si.si_code;
	t->fault_address = (uint64_t)(uintptr_t)si.si_addr;
}

static void serve(struct tracer *tr, pid_t tid, int status)
{
	add(tr, tid);
	note_event(tr, tid, status);
	if (status >> 16 == 0)
		remember_fault(tr, tid, WSTOPSIG(status));
	if (status >> 16 || !is_crash(tid, WSTOPSIG(status)) || !capture(tr, tid, status))
		resume(tid, status);
}

/* Serves what can be served at once. Return: whether there was something */
static bool serve_stops(struct tracer *tr)
{
	siginfo_t si = { 0 };
	int status;

	if (waitid(P_ALL, 0, &si, WSTOPPED | WNOHANG | WNOWAIT | __WALL | __WNOTHREAD) < 0 || !si.si_pid ||
	    waitpid(si.si_pid, &status, WNOHANG | __WALL | __WNOTHREAD) != si.si_pid)
		return false;
	if (WIFSTOPPED(status))
		serve(tr, si.si_pid, status);
	else
		forget(tr, si.si_pid);
	return true;
}

/*
 * A child of this process is dead and stays in front of all other news until its waiter has taken its status, which takes
 * that thread a moment. Meanwhile the others are served by looking at each.
 */
static void pass_corpse(struct tracer *tr, pid_t corpse)
{
	const struct timespec ts = { .tv_nsec = CORPSE_WAIT_NS };

	forget(tr, corpse);
	while (tr->n && !__atomic_load_n(&tr->stopping, __ATOMIC_ACQUIRE)) {
		siginfo_t si = { 0 };

		if (waitid(P_PID, (id_t)corpse, &si, WEXITED | WNOHANG | WNOWAIT | __WALL | __WNOTHREAD) < 0)
			return;
		if (serve_stops(tr))
			continue;
		for (size_t i = tr->n; i-- > 0;) {
			pid_t tid = tr->tracees[i].tid;
			int status, r = target_wait(process_of(tr, tid), tid, &status);

			if (r < 0)
				forget(tr, tid);
			else if (r > 0)
				serve(tr, tid, status);
		}
		nanosleep(&ts, NULL);
	}
}

/*
 * Cancelled in here and in run(), and unwound without coming back: AddressSanitizer would take the marks it leaves around
 * their variables for those of whoever uses that stack next.
 */
__attribute__((no_sanitize_address)) static void follow(struct tracer *tr)
{
	for (;;) {
		siginfo_t si = { 0 };
		struct proc_stat st;
		int status, r, old;

		pthread_setcancelstate(PTHREAD_CANCEL_ENABLE, &old);
		r = waitid(P_ALL, 0, &si, WEXITED | WSTOPPED | WNOWAIT | __WALL | __WNOTHREAD);
		pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &old);
		if (r < 0 && errno == EINTR)
			continue;
		if (r < 0)
			return; /* ECHILD: nobody left */
		if (si.si_code != CLD_TRAPPED && si.si_code != CLD_STOPPED) {
			if (proc_read_stat(si.si_pid, &st) == 0 && st.ppid == getpid() && process_of(tr, si.si_pid) == si.si_pid) {
				pass_corpse(tr, si.si_pid);
				if (!tr->n || __atomic_load_n(&tr->stopping, __ATOMIC_ACQUIRE))
					return;
				continue;
			}
			(void)waitpid(si.si_pid, &status, WNOHANG | __WALL | __WNOTHREAD);
			forget(tr, si.si_pid);
			continue;
		}
		if (waitpid(si.si_pid, &status, WNOHANG | __WALL | __WNOTHREAD) != si.si_pid)
			continue;
		if (WIFSTOPPED(status))
			serve(tr, si.si_pid, status);
	}
}

__attribute__((no_sanitize_address)) static void *run(void *userdata)
{
	struct tracer *tr = userdata;
	const char go = 1;
	int old;

	pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &old);
	if (ptrace(PTRACE_SEIZE, tr->first, NULL, (void *)(uintptr_t)OPTIONS) < 0) {
		struct capture_event e = { .kind = CAPTURE_EVENT_TRACE_FAILED, .pid = tr->first, .tid = tr->first };

		snprintf(e.reason, sizeof(e.reason), "cannot be traced: %s", strerror(errno));
		capture_post(tr->c, &e);
	} else {
		add(tr, tr->first);
	}
	(void)!write(tr->gate_fd, &go, 1);
	close(tr->gate_fd);
	tr->gate_fd = -1;
	if (tr->n)
		follow(tr);
	__atomic_store_n(&tr->finished, true, __ATOMIC_RELEASE);
	return NULL;
}

static void tracer_free(struct tracer *tr)
{
	target_free(tr->target);
	free(tr->tracees);
	free(tr);
}

int tracer_start(struct tracer **ret, struct capture *c, pid_t pid, int gate_fd, struct tracer *next)
{
	struct tracer *tr = calloc(1, sizeof(*tr));
	int r;

	if (!tr)
		return -ENOMEM;
	tr->c = c;
	tr->first = pid;
	tr->gate_fd = gate_fd;
	tr->next = next;
	r = target_new(&tr->target);
	if (!r)
		r = capture_start_thread(&tr->thread, run, tr);
	if (r < 0) {
		tracer_free(tr);
		return r;
	}
	*ret = tr;
	return 0;
}

struct tracer *tracer_join(struct tracer *list, bool all)
{
	struct tracer **p = &list;

	while (*p) {
		struct tracer *tr = *p;

		if (!all && !__atomic_load_n(&tr->finished, __ATOMIC_ACQUIRE)) {
			p = &tr->next;
			continue;
		}
		if (!__atomic_load_n(&tr->finished, __ATOMIC_ACQUIRE)) {
			__atomic_store_n(&tr->stopping, true, __ATOMIC_RELEASE);
			pthread_cancel(tr->thread); /* out of waitid(2); the kernel detaches what is left */
		}
		pthread_join(tr->thread, NULL);
		*p = tr->next;
		tracer_free(tr);
	}
	return list;
}
