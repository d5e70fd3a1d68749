/* SPDX-License-Identifier: Apache-2.0 */
/* Starting the supervisor of a project, once. */
#pragma once

#include <stdbool.h>

#include "base/error.h"
#include "base/paths.h"

struct config;

/**
 * launch_supervisor() - see to it that the project's supervisor runs
 * @p:  as paths_init() made them; the folders are created
 * @c:  written to RUNTIME/config.json when a new supervisor is started
 *
 * Two callers at the same time start one: RUNTIME/start.lock is held meanwhile, and the keeper takes RUNTIME/lock. Comes
 * back once the supervisor listens or has failed; the wait is a read on a pipe that only they hold.
 *
 * Return:  0 started and listening; 1 one was running already (config.json untouched); -errno with @err
 */
int launch_supervisor(const struct paths *p, const struct config *c, struct error *err);

/* Whether the project has a keeper: it holds RUNTIME/lock as long as it lives, and starts its supervisor again and again. */
bool launch_keeper_runs(const struct paths *p);
