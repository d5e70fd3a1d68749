/* SPDX-License-Identifier: Apache-2.0 */
/* The restart policy: given how a process ended and what went before, whether and when to start it again. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

struct restart_config;

/* How one incarnation ended. */
struct restart_end {
	bool executed; /* false: the program could not even be executed */
	bool known;    /* false: gone, nobody knows how (counts as failure) */
	int status;    /* wait(2) */
	uint64_t uptime_ms;
	int64_t now_us; /* wall time */
};

/* What is remembered between incarnations; kept in the registry. */
struct restart_history {
	unsigned streak;       /* delays grow with it */
	unsigned n_times;
	int64_t times_us[64];  /* wall times of the latest restarts, oldest first */
};

enum restart_verdict {
	RESTART_VERDICT_UNKNOWN = 0,
	RESTART_AGAIN,
	RESTART_FINAL,   /* it ended, and that is fine with the policy */
	RESTART_GIVE_UP, /* limit reached, or an exit code in `never` */
};

/* Whether this end counts as a failure under the policy's `when`. */
bool restart_is_failure(const struct restart_config *cfg, const struct restart_end *end);

/**
 * restart_decide() - apply the policy
 * @history:       updated when the verdict is RESTART_AGAIN
 * @random:        0..1, spreads the delay by the configured jitter
 * @ret_delay_ms:  time to wait before the next start
 *
 * Delays: delay * factor^streak, at most max_delay, spread by +-jitter/2. A run of at least reset_after forgives the streak.
 */
enum restart_verdict restart_decide(const struct restart_config *cfg, const struct restart_end *end,
    struct restart_history *history, double random, uint64_t *ret_delay_ms);
