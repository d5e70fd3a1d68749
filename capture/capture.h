/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The supervisor's side of crash capture: one thread that answers crashing processes, takes their snapshot and lets
 * them go. It links no unwinder and never waits for a disk while a process is held.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/cleanup.h"
#include "base/error.h"

enum capture_mode {
	CAPTURE_UNKNOWN = 0,
	CAPTURE_PRELOAD, /* agent in the process, preloaded by the dynamic loader */
	CAPTURE_PTRACE,  /* traced from birth */
	CAPTURE_STATUS,  /* wait status, rusage and last output only */
	CAPTURE_OFF,
	_CAPTURE_MAX
};

const char *capture_mode_to_string(enum capture_mode m);

/* What will be done for one program, and why. */
struct capture_plan {
	enum capture_mode mode;
	char reason[128]; /* "dynamic glibc program", "static program: preload cannot reach it", ... */
};

/**
 * capture_resolve() - pick the mode for a program about to be executed
 * @wish:  "auto", "preload", "ptrace", "status" or "off"
 * @file:  what execve(2) will be given (PATH already searched)
 *
 * Follows "#!" lines to the final ELF file and looks at its class, interpreter, DT_NEEDED and set-id bits.
 *
 * Context:  called in the forked child before exec: async-signal-safe, no allocation, no stdio
 */
void capture_resolve(const char *wish, const char *file, struct capture_plan *ret);

struct capture;

struct capture_options {
	const char *runtime; /* folder for capture.sock and pending/; borrowed for the call */
	bool (*owns)(pid_t pid, void *userdata); /* does this process belong to a daemon of ours? capture thread! */
	void *userdata;
};

/* What the thread has to tell. */
enum capture_event_kind {
	CAPTURE_EVENT_NONE = 0,
	CAPTURE_EVENT_SNAPSHOT,     /* a process crashed and was let go; its snapshot file is complete */
	CAPTURE_EVENT_TRACE_FAILED, /* capture_trace() did not work: reason; the daemon runs untraced */
};

struct capture_event {
	enum capture_event_kind kind;
	pid_t pid;         /* thread group that crashed (may be a descendant of the daemon's first process) */
	pid_t tid;
	int signal;
	uint64_t held_us;  /* from the handler's first instruction, or the stop, to release */
	char snapshot[256]; /* file name below RUNTIME/pending/, "PID-STARTTICKS.snap" */
	char reason[128];
	/*
	 * SUPERVISE_DAEMON and SUPERVISE_RUN of the process' environment, "" if it had none: by the time a descendant's
	 * event is read, process and daemon may both be gone. A hint: programs may change their environment.
	 */
	char daemon[128], run[40];
};

/**
 * capture_start() - bind RUNTIME/capture.sock and start the thread
 * Return:  0 or -errno with @err
 */
int capture_start(struct capture **ret, const struct capture_options *o, struct error *err);
struct capture *capture_stop(struct capture *c); /* ends the thread; tracees are detached */
DEFINE_CLEANUP(struct capture *, capture_stop)

int capture_get_fd(const struct capture *c); /* eventfd: readable when capture_next() has something */
int capture_next(struct capture *c, struct capture_event *ret); /* 1, or 0 when there is nothing */

/**
 * capture_trace() - trace a child from birth
 * @pid:      child of ours that waits to read one byte from a pipe before it executes its program
 * @gate_fd:  write end of that pipe; taken: the thread seizes the child, writes the byte (in any case), closes it
 */
int capture_trace(struct capture *c, pid_t pid, int gate_fd);

/**
 * capture_environment() - what the child's environment needs for the agent
 * @preload_before:  the value of LD_PRELOAD that it would have, or NULL
 * @ret_preload:     "LD_PRELOAD=...", at most @size bytes
 * @ret_socket:      "SUPERVISE_CAPTURE=...": name of the socket the agent connects to at crash time
 *
 * Return:  0, or -ENOENT when the agent is not installed
 */
int capture_environment(const char *runtime, const char *preload_before, char *ret_preload, char *ret_socket,
    size_t size, struct error *err);
