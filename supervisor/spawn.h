/* SPDX-License-Identifier: Apache-2.0 */
/* Forking one daemon: everything between fork(2) and execve(2), and how its failure is told. */
#pragma once

#include <stdint.h>
#include <sys/resource.h>
#include <sys/types.h>

#include "capture/capture.h"
#include "config/config.h"

/* What the child does before it becomes the program, in this order. */
enum spawn_step {
	SPAWN_NONE = 0,
	SPAWN_SESSION, /* setsid */
	SPAWN_OUTPUT,  /* opening its FIFOs */
	SPAWN_LIMITS,
	SPAWN_NICE,
	SPAWN_CHDIR,
	SPAWN_SEARCH, /* finding the program along PATH */
	SPAWN_EXEC,
	_SPAWN_STEP_MAX
};

/* Written by the child into the exec pipe: once before execve(2) (step NONE), and once more if something failed. */
struct spawn_note {
	int32_t step;
	int32_t error; /* errno */
	int32_t detail; /* SPAWN_LIMITS: the resource */
	struct capture_plan plan;
	char path[512]; /* the folder, or the program as found */
};

/* All of it made before the fork: the child allocates nothing. */
struct spawn_request {
	const struct daemon_config *cfg;
	char *const *envp;          /* without the agent */
	char *const *envp_preload;  /* with it; NULL when the agent is not available */
	const char *path;           /* value of PATH in that environment, or NULL */
	const char *out, *err;      /* FIFOs */
	rlim_t soft_nofile;         /* given back to the child; 0: leave */
	int gate_fd;                /* read end the child waits on before exec, or -1 */
};

/**
 * spawn() - fork and execute one daemon
 * @req:          borrowed
 * @ret_pid:      child, leader of its own session and group
 * @ret_note_fd:  read end of the exec pipe (non-blocking): one struct spawn_note, then end of file when the program runs,
 *                or another note with the failure; the caller closes
 *
 * Return:  0 or -errno of fork(2) or pipe2(2)
 */
int spawn(const struct spawn_request *req, pid_t *ret_pid, int *ret_note_fd);

/* "exec ./ingest: No such file or directory", "chdir /scratch/x: Permission denied". Return: @ret */
char *spawn_note_format(const struct spawn_note *n, char *ret, size_t size);
