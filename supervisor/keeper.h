/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Between keeper and supervisor: fixed messages over a SOCK_SEQPACKET pair, the supervisor's end at KEEPER_FD.
 *
 * The keeper holds both ends. So exit records sent while no supervisor runs stay queued in the kernel; a supervisor
 * looks at one with MSG_PEEK, makes it durable, and only then takes it off the queue. Killed in between, its successor
 * sees the record again.
 */
#pragma once

#include <stdint.h>

enum {
	KEEPER_FD = 3,      /* supervisor's end of the pair */
	KEEPER_LOCK_FD = 4, /* RUNTIME/lock, flock(2) held: shared by keeper and supervisor */
	KEEPER_SLOTS = 16384,

	SUPERVISOR_EXIT_RESTART = 79, /* the supervisor left in order to be started anew (upgrade) */
};

enum keeper_type {
	KEEPER_EXIT = 1,    /* keeper -> supervisor: a process reparented to the keeper has ended */
	KEEPER_READY = 2,   /* supervisor -> keeper: from now on restart me whenever I die */
	KEEPER_HOLD = 3,    /* supervisor -> keeper, with one descriptor: keep it open in slot */
	KEEPER_RELEASE = 4, /* supervisor -> keeper: close what is in slot */
};

struct keeper_message {
	uint32_t type;
	int32_t pid;    /* EXIT */
	int32_t status; /* EXIT: as wait(2) gives it */
	uint32_t slot;  /* HOLD, RELEASE: 0..KEEPER_SLOTS-1 */
	uint64_t max_rss_bytes, utime_us, stime_us; /* EXIT */
	int64_t at_us;                              /* EXIT: wall time */
};
