/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One process while it is held: its threads, and what is copied out of it. Everything between begin and release is in
 * the time the process waits, so it allocates little and touches no disk. One target serves one process after another.
 */
#pragma once

#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/cleanup.h"
#include "capture/snapshot.h"

struct target_thread {
	struct snapshot_thread t;
	bool seized;  /* by us, for this capture: to be detached */
	bool waiting; /* has been interrupted and not stopped yet */
	int inject;   /* signal it was about to receive: given back on detach */
};

struct target {
	pid_t pid, tid; /* of the crashed thread; its stack and registers come first */
	struct target_thread *threads; /* the first is the crashed one */
	size_t n_threads, threads_room;
	unsigned n_seen; /* threads that the process has */
	char *maps;
	size_t maps_size, maps_room;
	char *maps_copy;
	struct vma *vmas;
	size_t n_vmas;
	struct target_region {
		uint64_t address, size;
		size_t off; /* in the arena */
	} *regions;
	size_t n_regions;
	uint8_t *arena;
	size_t arena_used;
	uint64_t deadline_us;
	uint64_t original_address; /* see struct snapshot_info */
	int original_code;
	char notes[8][160];
	unsigned n_notes;
	char exe[4096];
	uint64_t start_ticks;
	char comm[16];
	char daemon[128], run[40]; /* from its environment */
	/* seized, and could not be detached yet: it had not stopped, or died on the way */
	struct target_leftover {
		pid_t pid, tid;
	} *leftovers;
	size_t n_leftovers;
};

int target_new(struct target **ret);
struct target *target_free(struct target *t);
DEFINE_CLEANUP(struct target *, target_free)

/* Forgets what was before. @budget_us: hard limit of the time the process is held, from now. */
void target_begin(struct target *t, pid_t pid, pid_t tid, const uint64_t *regs, uint64_t budget_us);

/* Adds a thread without touching it; tracer.c has stopped it already. Return: the thread, or NULL */
struct target_thread *target_add_thread(struct target *t, pid_t tid);

/* Stops all other threads with ptrace(2) and fetches their registers. What cannot be stopped is read passively. */
void target_stop_others(struct target *t);

/* Copies maps, stacks, code at the program counter, heads of modules. */
void target_copy(struct target *t);

/* Lets the threads go that target_stop_others() stopped. */
void target_release(struct target *t);

/*
 * Detaches or reaps what target_release() could not. To be called every few milliseconds as long as it says so: a traced
 * thread that nobody reaps keeps its process from being seen dead.
 *
 * Return:  whether some are left
 */
bool target_reap_leftovers(struct target *t);

void target_note(struct target *t, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* After the release: the file. Return: 0 or -errno */
int target_write(const struct target *t, const struct snapshot_info *info, struct snapshot_writer *w);

/* Gives memory back that a large process made it touch. */
void target_trim(struct target *t);

/* siginfo as the kernel gave it, into the members of @info that come from it. */
void target_describe_signal(struct snapshot_info *info, const siginfo_t *si);

/* PTRACE_GETREGSET of a stopped tracee. Return: 0 or -errno */
int target_read_regs(pid_t tid, struct snapshot_thread *ret);

/* Name and state from /proc. */
void target_read_stat(pid_t pid, pid_t tid, struct snapshot_thread *ret);

/**
 * target_wait() - the state change of one tracee, without stealing its exit status
 * @pid:  its process; the exit of a child of ours belongs to the thread that waits for its pidfd, and is left there
 *
 * Return:  1 and the stop status as waitpid(2) gives it; 0 nothing yet; -ESRCH it is gone
 */
int target_wait(pid_t pid, pid_t tid, int *ret_status);
