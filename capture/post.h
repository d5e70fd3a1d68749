/* SPDX-License-Identifier: Apache-2.0 */
/* Between the threads of capture: what listener and tracers hand to the writer thread, and it to the supervisor. */
#pragma once

#include <pthread.h>

#include "capture/capture.h"
#include "capture/snapshot.h"
#include "capture/target.h"

enum {
	CAPTURE_HOLD_US = 250000, /* a process is let go after this time, however much of it is missing */
};

/* Queues an event. Any thread. */
void capture_post(struct capture *c, const struct capture_event *e);

/**
 * capture_post_snapshot() - what @t holds, to be written below RUNTIME/pending, then told
 * @held_us:  the process has been let go already, after this time
 *
 * Context:  any thread; waits for no disk
 */
void capture_post_snapshot(struct capture *c, const struct target *t, const siginfo_t *si, enum capture_mode mode,
    uint64_t held_us);

/* listener.c: the thread that answers the agent */
struct listener;
int listener_start(struct listener **ret, struct capture *c, int runtime_fd, const struct capture_options *o,
    struct error *err);
struct listener *listener_stop(struct listener *l);

/* tracer.c: one thread per traced daemon, since waiting for a tracee blocks and ptrace(2) is per thread */
struct tracer;
int tracer_start(struct tracer **ret, struct capture *c, pid_t pid, int gate_fd, struct tracer *next);
/* Takes finished tracers out of the list, all of them with @all. Return: the new head */
struct tracer *tracer_join(struct tracer *list, bool all);

/* The abstract socket name of this runtime folder; made on first use. Return: 0 or -errno */
int capture_socket_name(int runtime_fd, char *ret, size_t size);

/* Starts a thread with all signals blocked. */
int capture_start_thread(pthread_t *ret, void *(*run)(void *), void *argument);
