/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The processes that belong to one daemon: its first process, everything below it, its group and session, and what was
 * reparented to us or the keeper and still carries its nonce. Without a cgroup there is no kernel object for this, so it
 * is read from /proc when needed, never periodically.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include "base/proc.h"

struct tree_member {
	struct proc_id id;
	int pidfd;
};

struct tree {
	struct tree_member *items;
	size_t n, room;
};

struct tree_key {
	pid_t root;        /* first process; also its group and session. May be gone already */
	const char *nonce; /* SUPERVISE_NONCE of the incarnation */
	pid_t keeper;
};

/* Whether @pid is among @n pids in ascending order; @sorted may be NULL when @n is 0. */
bool pid_listed(const pid_t *sorted, size_t n, pid_t pid);

/**
 * tree_scan() - find all living members; zombies are none
 * @known:      pids that are another daemon's first process or helpers of ours: never members; sorted ascending
 * @ret:        tree_free() it
 *
 * Return:  0 or -errno
 */
int tree_scan(const struct tree_key *key, const pid_t *known, size_t n_known, struct tree *ret);
void tree_free(struct tree *t);

/* Sends a signal to every member, SIGCONT after it unless it is SIGKILL or SIGSTOP. */
void tree_signal(const struct tree *t, int sig);

/**
 * tree_kill() - SIGKILL all members so that none can escape by forking
 *
 * Stops the members one by one, looks again until nothing new appears, then kills all through their pidfds; repeated, at
 * most 16 times.
 *
 * Return:  members that were killed, or -errno
 */
int tree_kill(const struct tree_key *key, const pid_t *known, size_t n_known);

/**
 * children_list() - pids of our own children, living or dead
 * @ret:  the caller frees
 *
 * Source:  /proc/thread-self/children (CONFIG_PROC_CHILDREN); -ENOTSUP without it
 */
int children_list(pid_t **ret, size_t *ret_n);
