/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Between a crashing process and the supervisor, over a SOCK_SEQPACKET connection made at that moment:
 *
 *   process     one struct capture_packet, then waits at most CAPTURE_RECEIVE_MS
 *   supervisor  one byte, CAPTURE_VERDICT_DONE; or closes. Either lets the process go on to its own death.
 *
 * The pid in the packet is the sender's idea of it; the supervisor believes SO_PEERCRED. The registers and the siginfo come by
 * value, so that the crashed thread needs no ptrace(2): it waits in recvfrom(2) meanwhile.
 *
 * SUPERVISE_CAPTURE in the environment names the socket: "@ABSTRACT", "/PATH", or both as "@ABSTRACT:/PATH", tried in that
 * order: abstract names are seen within one network namespace, paths within one mount namespace. Neither is trusted: the
 * process looks at the user id behind it.
 */
#pragma once

#include <stdint.h>

#define CAPTURE_ENVIRONMENT "SUPERVISE_CAPTURE"

enum {
	CAPTURE_PACKET_MAGIC = 0x31435653, /* "SVC1" */
	CAPTURE_PACKET_VERSION = 1,
	CAPTURE_REGS_MAX = 40,
	CAPTURE_SIGINFO_BYTES = 128,
	CAPTURE_VERDICT_DONE = 'D',
	CAPTURE_CONNECT_MS = 500,
	CAPTURE_RECEIVE_MS = 1200, /* with the connection, below the two seconds a dying process may be held */
	CAPTURE_BACKLOG = 512,
};

struct capture_packet {
	uint32_t magic;
	uint16_t version;
	uint16_t size;    /* of this packet */
	uint32_t machine; /* ARCH_ID */
	uint32_t n_regs;
	int32_t signal;
	int32_t pid, tid; /* in the sender's pid namespace */
	uint32_t reserved;
	uint64_t entered_ns; /* CLOCK_MONOTONIC at the handler's first instruction */
	uint64_t context;    /* address of the ucontext: the handler runs on the stack it lies on */
	uint64_t regs[CAPTURE_REGS_MAX]; /* arch.h order */
	uint8_t siginfo[CAPTURE_SIGINFO_BYTES];
};
