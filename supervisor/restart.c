/* SPDX-License-Identifier: Apache-2.0 */
/* Pure: the clock and the dice are parameters. */
#include "supervisor/restart.h"

#include <string.h>
#include <sys/wait.h>

#include "base/cleanup.h"
#include "config/config.h"

static bool bit(const uint8_t *set, unsigned i)
{
	return set[i / 8] >> (i % 8) & 1;
}

bool restart_is_failure(const struct restart_config *cfg, const struct restart_end *end)
{
	if (!end->executed || !end->known)
		return true;
	if (WIFEXITED(end->status))
		return bit(cfg->when_exit, (unsigned)WEXITSTATUS(end->status));
	if (WIFSIGNALED(end->status))
		return cfg->when_signals >> (WTERMSIG(end->status) - 1) & 1;
	return true;
}

enum restart_verdict restart_decide(const struct restart_config *cfg, const struct restart_end *end,
    struct restart_history *h, double random, uint64_t *ret_delay_ms)
{
	unsigned recent = 0;
	double delay;

	if (cfg->policy == RESTART_NEVER)
		return RESTART_FINAL;
	if (end->executed && end->known && WIFEXITED(end->status) &&
	    bit(cfg->never, (unsigned)WEXITSTATUS(end->status)))
		return restart_is_failure(cfg, end) ? RESTART_GIVE_UP : RESTART_FINAL;
	if (cfg->policy == RESTART_ON_FAILURE && !restart_is_failure(cfg, end))
		return RESTART_FINAL;

	if (cfg->reset_after_ms && end->uptime_ms >= cfg->reset_after_ms)
		h->streak = 0;
	for (unsigned i = 0; i < h->n_times; i++)
		if (h->times_us[i] > end->now_us - (int64_t)cfg->window_ms * 1000)
			recent++;
	if (cfg->limit && recent >= cfg->limit)
		return RESTART_GIVE_UP;

	delay = (double)cfg->delay_ms;
	for (unsigned i = 0; i < h->streak && delay < (double)cfg->max_delay_ms; i++)
		delay *= cfg->factor;
	if (delay > (double)cfg->max_delay_ms && cfg->max_delay_ms >= cfg->delay_ms)
		delay = (double)cfg->max_delay_ms;
	delay *= 1 + cfg->jitter * (random - 0.5);
	*ret_delay_ms = (uint64_t)(delay + 0.5);

	if (h->n_times == ARRAY_SIZE(h->times_us)) {
		memmove(h->times_us, h->times_us + 1, sizeof(h->times_us) - sizeof(h->times_us[0]));
		h->n_times--;
	}
	h->times_us[h->n_times++] = end->now_us;
	if (h->streak < 1000)
		h->streak++;
	return RESTART_AGAIN;
}
