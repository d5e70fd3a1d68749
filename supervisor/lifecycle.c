/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Life cycle of one daemon: which state follows which event, and the one action taken on the way.
 *
 * Pure: no clock, system call or allocation, so tests walk every (state, event) pair without starting a process.
 * daemon.c performs the action and feeds its outcome back as the next event.
 */
#include "supervisor/lifecycle.h"

#include <errno.h>
#include <string.h>

#include "base/cleanup.h"

/* An empty cell is DAEMON_UNKNOWN: the event means nothing in that state. */
static const struct transition table[_DAEMON_STATE_MAX][_EV_MAX] = {
	[DAEMON_STOPPED] = {
		[EV_START]   = { DAEMON_STARTING, ACT_SPAWN },
		[EV_ADOPTED] = { DAEMON_RUNNING,  ACT_NONE },
		[EV_STOP]    = { DAEMON_STOPPED,  ACT_NONE },
	},
	[DAEMON_STARTING] = {
		[EV_START]         = { DAEMON_STARTING, ACT_NONE },
		[EV_EXECUTED]      = { DAEMON_RUNNING,  ACT_NONE },
		[EV_STOP]          = { DAEMON_STOPPING, ACT_SIGNAL },
		[EV_START_TIMEOUT] = { DAEMON_STARTING, ACT_KILL },
		[EV_END_RESTART]   = { DAEMON_BACKOFF,  ACT_WAIT_BACKOFF },
		[EV_END_FINAL]     = { DAEMON_EXITED,   ACT_SWEEP },
		[EV_END_GIVE_UP]   = { DAEMON_FAILED,   ACT_GIVE_UP },
	},
	[DAEMON_RUNNING] = {
		[EV_START]       = { DAEMON_RUNNING,  ACT_NONE },
		[EV_STOP]        = { DAEMON_STOPPING, ACT_SIGNAL },
		[EV_END_RESTART] = { DAEMON_BACKOFF,  ACT_WAIT_BACKOFF },
		[EV_END_FINAL]   = { DAEMON_EXITED,   ACT_SWEEP },
		[EV_END_GIVE_UP] = { DAEMON_FAILED,   ACT_GIVE_UP },
	},
	[DAEMON_STOPPING] = {
		[EV_START]        = { DAEMON_STOPPING, ACT_START_AFTER },
		[EV_STOP]         = { DAEMON_STOPPING, ACT_NONE },
		[EV_EXECUTED]     = { DAEMON_STOPPING, ACT_NONE },
		[EV_END_RESTART]  = { DAEMON_STOPPING, ACT_SWEEP },
		[EV_END_FINAL]    = { DAEMON_STOPPING, ACT_SWEEP },
		[EV_END_GIVE_UP]  = { DAEMON_STOPPING, ACT_SWEEP },
		[EV_STOP_TIMEOUT] = { DAEMON_STOPPING, ACT_KILL },
		[EV_TREE_GONE]    = { DAEMON_STOPPED,  ACT_NONE },
	},
	[DAEMON_BACKOFF] = {
		[EV_START]        = { DAEMON_STARTING, ACT_SPAWN },
		[EV_BACKOFF_OVER] = { DAEMON_STARTING, ACT_SPAWN },
		[EV_STOP]         = { DAEMON_STOPPED,  ACT_NONE },
		[EV_ADOPTED]      = { DAEMON_RUNNING,  ACT_NONE },
	},
	[DAEMON_EXITED] = {
		[EV_START]   = { DAEMON_STARTING, ACT_SPAWN },
		[EV_STOP]    = { DAEMON_STOPPED,  ACT_NONE },
		[EV_ADOPTED] = { DAEMON_RUNNING,  ACT_NONE },
	},
	[DAEMON_FAILED] = {
		[EV_START]   = { DAEMON_STARTING, ACT_SPAWN },
		[EV_STOP]    = { DAEMON_STOPPED,  ACT_NONE },
		[EV_ADOPTED] = { DAEMON_RUNNING,  ACT_NONE },
	},
};

int lifecycle_step(enum daemon_state state, enum daemon_event event, struct transition *ret)
{
	if (state <= DAEMON_UNKNOWN || state >= _DAEMON_STATE_MAX || event <= EV_UNKNOWN || event >= _EV_MAX ||
	    table[state][event].next == DAEMON_UNKNOWN)
		return -EINVAL;
	*ret = table[state][event];
	return 0;
}

static const char *const names[_DAEMON_STATE_MAX] = {
	[DAEMON_UNKNOWN] = "unknown",
	[DAEMON_STOPPED] = "stopped",
	[DAEMON_STARTING] = "starting",
	[DAEMON_RUNNING] = "running",
	[DAEMON_STOPPING] = "stopping",
	[DAEMON_BACKOFF] = "backoff",
	[DAEMON_EXITED] = "exited",
	[DAEMON_FAILED] = "failed",
};

const char *daemon_state_to_string(enum daemon_state s)
{
	return s > DAEMON_UNKNOWN && s < _DAEMON_STATE_MAX ? names[s] : names[DAEMON_UNKNOWN];
}

enum daemon_state daemon_state_from_string(const char *s)
{
	for (size_t i = 1; s && i < ARRAY_SIZE(names); i++)
		if (!strcmp(s, names[i]))
			return (enum daemon_state)i;
	return DAEMON_UNKNOWN;
}
