/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What runs in a crashing process: tell the supervisor, wait until it has looked, die of the same signal.
 *
 * The heap, the loader and every lock may be broken here, so: a fixed packet on the alternate stack, raw system calls, no
 * descriptor kept from before (daemons close and reuse all numbers), no wait without a limit. If nobody listens,
 * connect(2) fails at once and the process dies as if we were not there.
 */
#include <linux/prctl.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <time.h>

#include "capture/agent.h"

/*
 * Who is being looked at: pid << 32 | tid, 0 for nobody. The pid is in it because a forked child inherits the word, and a
 * vfork(2) child runs on its parent's memory.
 */
static uint64_t crashing;

struct agent_sockets agent_sockets;

/* The compiler may call these for structures; hidden, so that the program keeps its own. */
__attribute__((visibility("hidden"))) void *memcpy(void *restrict to, const void *restrict from, size_t n)
{
	char *t = to;
	const char *f = from;

	while (n--)
		*t++ = *f++;
	return to;
}

__attribute__((visibility("hidden"))) void *memset(void *to, int c, size_t n)
{
	char *t = to;

	while (n--)
		*t++ = (char)c;
	return to;
}

static int connect_to(const char *name, uint32_t size)
{
	const struct timeval connect_time = { .tv_usec = CAPTURE_CONNECT_MS * 1000 };
	const struct timeval receive_time = { .tv_sec = CAPTURE_RECEIVE_MS / 1000,
		.tv_usec = CAPTURE_RECEIVE_MS % 1000 * 1000 };
	struct sockaddr_un address;
	struct ucred peer;
	uint32_t peer_size = sizeof(peer);
	long fd, uid;

	if (!size)
		return -1;
	fd = agent_call(SYS_socket, AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, 0);
	if (fd < 0)
		return -1;
	/* also bounds connect(2), which blocks when the backlog is full */
	arch_syscall6(SYS_setsockopt, fd, SOL_SOCKET, SO_SNDTIMEO, (long)&connect_time, sizeof(connect_time), 0);
	arch_syscall6(SYS_setsockopt, fd, SOL_SOCKET, SO_RCVTIMEO, (long)&receive_time, sizeof(receive_time), 0);
	memset(&address, 0, sizeof(address));
	address.sun_family = AF_UNIX;
	memcpy(address.sun_path, name, size);
	if (agent_call(SYS_connect, fd, (long)&address, (long)(offsetof(struct sockaddr_un, sun_path) + size), 0) < 0)
		goto fail;
	/* anybody may own an abstract name: only our own user, or root, may look into us */
	if (arch_syscall6(SYS_getsockopt, fd, SOL_SOCKET, SO_PEERCRED, (long)&peer, (long)&peer_size, 0) < 0)
		goto fail;
	uid = agent_call(SYS_geteuid, 0, 0, 0, 0);
	if (uid < 0 || (peer.uid != (uid_t)uid && peer.uid != 0))
		goto fail;
	agent_call(SYS_prctl, PR_SET_PTRACER, peer.pid, 0, 0); /* EINVAL without yama: nobody forbids it then */
	return (int)fd;
fail:
	agent_call(SYS_close, fd, 0, 0, 0);
	return -1;
}

static void tell(int sig, const siginfo_t *info, const ucontext_t *context, int32_t pid, int32_t tid)
{
	struct capture_packet p;
	struct timespec now = { 0 };
	char verdict;
	int fd;

	agent_call(SYS_clock_gettime, CLOCK_MONOTONIC, (long)&now, 0, 0);
	memset(&p, 0, sizeof(p));
	p.magic = CAPTURE_PACKET_MAGIC;
	p.version = CAPTURE_PACKET_VERSION;
	p.size = sizeof(p);
	p.machine = ARCH_ID;
	p.n_regs = ARCH_REGS;
	p.signal = sig;
	p.pid = pid;
	p.tid = tid;
	p.entered_ns = (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
	p.context = (uint64_t)(uintptr_t)context;
	arch_regs_from_ucontext(p.regs, context);
	memcpy(p.siginfo, info, CAPTURE_SIGINFO_BYTES);

	fd = connect_to(agent_sockets.abstract, agent_sockets.abstract_size);
	if (fd < 0)
		fd = connect_to(agent_sockets.path, agent_sockets.path_size);
	if (fd < 0)
		return;
	if (arch_syscall6(SYS_sendto, fd, (long)&p, sizeof(p), MSG_NOSIGNAL, 0, 0) == (long)sizeof(p))
		arch_syscall6(SYS_recvfrom, fd, (long)&verdict, 1, 0, 0, 0); /* whatever comes, or nothing: go on */
	agent_call(SYS_close, fd, 0, 0, 0);
}

/*
 * Of these the faulting instruction runs again on return and faults again, now with the default action: the kernel
 * itself makes the siginfo and the exit status. Other signals would not come back.
 */
static bool repeats(int sig, const siginfo_t *info)
{
	return info->si_code > 0 && (sig == SIGSEGV || sig == SIGBUS || sig == SIGFPE || sig == SIGILL);
}

void agent_handler(int sig, siginfo_t *info, void *context)
{
	const struct timespec park = { .tv_sec = 2 };
	int32_t pid = (int32_t)agent_call(SYS_getpid, 0, 0, 0, 0);
	int32_t tid = (int32_t)agent_call(SYS_gettid, 0, 0, 0, 0);
	uint64_t me = (uint64_t)(uint32_t)pid << 32 | (uint32_t)tid, was = 0;

	while (!__atomic_compare_exchange_n(&crashing, &was, me, false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST))
		if (was >> 32 == (uint32_t)pid)
			break;
	if (was == me && sig == SIGSYS) { /* a seccomp filter refuses our own system calls: do without */
		arch_set_return(context, -38 /* ENOSYS */);
		return;
	}
	if (was >> 32 != (uint32_t)pid)
		tell(sig, info, context, pid, tid);
	else if (was != me) /* another thread is being looked at; its end is ours too */
		arch_syscall6(SYS_ppoll, 0, 0, (long)&park, 0, 0, 0);

	agent_set_default(sig);
	if (!repeats(sig, info))
		agent_call(SYS_rt_tgsigqueueinfo, pid, tid, sig, (long)info);
}
