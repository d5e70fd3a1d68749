/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Inside supervise-agent.so, which lives in programs that are not ours: no libc function, no TLS, no allocation. Only
 * system calls made here.
 */
#pragma once

#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/syscall.h>

#include "capture/arch.h"
#include "capture/protocol.h"

#define AGENT_EXPORT __attribute__((visibility("default")))

/* What the kernel takes; libc's struct sigaction differs. */
struct agent_sigaction {
	void (*handler)(int, siginfo_t *, void *);
	unsigned long flags;
	void (*restorer)(void);
	uint64_t mask;
};

struct agent_sockets {
	char abstract[108], path[108];
	uint32_t abstract_size, path_size; /* 0: there is none */
};

extern struct agent_sockets agent_sockets;

static inline long agent_call(long nr, long a, long b, long c, long d)
{
	return arch_syscall6(nr, a, b, c, d, 0, 0);
}

static inline bool agent_is_crash_signal(int sig)
{
	return sig == SIGSEGV || sig == SIGBUS || sig == SIGFPE || sig == SIGILL || sig == SIGABRT || sig == SIGTRAP ||
	    sig == SIGSYS;
}

/* The handler of all crash signals (insignal.c). */
void agent_handler(int sig, siginfo_t *info, void *context);

/* Kernel's disposition of @sig := ours, and what was there before. Return: 0 or -errno */
long agent_install(int sig, struct agent_sigaction *ret_old);
long agent_set_default(int sig);
