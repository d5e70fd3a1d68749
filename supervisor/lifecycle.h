/* SPDX-License-Identifier: Apache-2.0 */
/* Life cycle of one daemon: states, events, and the table between them. */
#pragma once

enum daemon_state {
	DAEMON_UNKNOWN = 0,
	DAEMON_STOPPED,  /* never started, or stopped on request */
	DAEMON_STARTING, /* forked; its program is not executing yet */
	DAEMON_RUNNING,
	DAEMON_STOPPING, /* asked to end; its tree is not gone yet */
	DAEMON_BACKOFF,  /* ended; will be started again */
	DAEMON_EXITED,   /* ended by itself, and that was all that was asked of it */
	DAEMON_FAILED,   /* given up: too many restarts, or ended in a way that forbids another */
	_DAEMON_STATE_MAX
};

enum daemon_event {
	EV_UNKNOWN = 0,
	EV_START,         /* somebody wants it up */
	EV_STOP,          /* somebody wants it down */
	EV_ADOPTED,       /* found running by a new supervisor */
	EV_EXECUTED,      /* the program's image is in place */
	EV_START_TIMEOUT, /* start_timeout is over and it is not */
	EV_END_RESTART,   /* ended, or could not be executed; the policy says: again */
	EV_END_FINAL,     /* ended; the policy says: that was it */
	EV_END_GIVE_UP,   /* ended; the policy says: no more */
	EV_BACKOFF_OVER,
	EV_STOP_TIMEOUT,
	EV_TREE_GONE,     /* after a stop: nothing of its tree is left */
	_EV_MAX
};

enum daemon_action {
	ACT_NONE = 0,
	ACT_SPAWN,
	ACT_KILL,         /* SIGKILL, the whole tree */
	ACT_SIGNAL,       /* the stop signal, and the stop timer */
	ACT_SWEEP,        /* see whether anything of the tree is left, and end it */
	ACT_WAIT_BACKOFF, /* sweep, and the backoff timer */
	ACT_START_AFTER,  /* remember that it is wanted again once it has stopped */
	ACT_GIVE_UP,      /* sweep, and say so */
	_ACT_MAX
};

struct transition {
	enum daemon_state next;
	enum daemon_action action;
};

/**
 * lifecycle_step() - what follows an event
 * Return:  0, or -EINVAL when the event means nothing in that state (@ret is untouched)
 */
int lifecycle_step(enum daemon_state state, enum daemon_event event, struct transition *ret);

/* "running"; "unknown" outside the table. Return: static text */
const char *daemon_state_to_string(enum daemon_state s);
enum daemon_state daemon_state_from_string(const char *s);
