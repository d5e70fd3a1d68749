/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which process is which. A pid alone names nobody: pid + start time + boot id does. Order matters when it is to be
 * signalled: open the pidfd, then read the start time, then compare, then signal through the pidfd only.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

enum { BOOT_ID_MAX = 37 };

struct proc_id {
	pid_t pid;            /* 0: none */
	uint64_t start_ticks; /* /proc/PID/stat field 22: clock ticks after boot */
};

struct proc_stat {
	char state;       /* R S D Z T t X ... */
	pid_t ppid, pgrp, session;
	uint64_t start_ticks;
	uint64_t utime_ticks, stime_ticks;
	uint64_t rss_bytes;
	unsigned threads;
	char comm[64];
};

enum proc_match {
	PROC_UNKNOWN = 0, /* cannot tell (no right to look): touch nothing */
	PROC_SAME,
	PROC_OTHER, /* the pid now belongs to somebody else */
	PROC_GONE,
};

/* /proc/sys/kernel/random/boot_id. Return: static text, "" when it cannot be read */
const char *proc_boot_id(void);

/* Short host name (up to the first dot). Return: static text */
const char *proc_hostname(void);

/* Return: 0, -ESRCH, or another -errno. A zombie answers too (state 'Z'). */
int proc_read_stat(pid_t pid, struct proc_stat *ret);

/* pid and start time of a live process. Return: 0 or -errno */
int proc_identify(pid_t pid, struct proc_id *ret);

/**
 * proc_open() - a pidfd for exactly the process that @id names
 * @ret_pidfd:  written only with PROC_SAME; the caller closes
 *
 * Source:  pidfd_open(2), Linux 5.3
 */
enum proc_match proc_open(const struct proc_id *id, int *ret_pidfd);

int pidfd_open_(pid_t pid);                /* the descriptor (close-on-exec) or -errno */
int pidfd_signal(int pidfd, int sig);      /* 0 or -errno; -ESRCH when it is gone */

/**
 * pidfd_exit_status() - wait status of a process we are not the parent of
 *
 * Return:  0 and @ret_status in the form of wait(2); -ENOTSUP where the kernel cannot tell; -EAGAIN while it runs
 * Source:  PIDFD_GET_INFO with PIDFD_INFO_EXIT, Linux 6.15
 */
int pidfd_exit_status(int pidfd, int *ret_status);

/* Value of one variable in /proc/PID/environ. The caller frees. Return: 0, -ENOENT, or -errno */
int proc_read_environ(pid_t pid, const char *name, char **ret);

/**
 * proc_for_each() - every process of ours in /proc
 * @fn:  called for each process whose effective user is ours; not 0 ends the walk and is returned
 */
int proc_for_each(int (*fn)(pid_t pid, void *userdata), void *userdata);
