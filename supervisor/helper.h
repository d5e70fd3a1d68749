/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A helper process of the supervisor (logger, writer): started, restarted when it dies, spoken to in JSON messages over
 * a SOCK_SEQPACKET pair whose other end is its descriptor 3. Nothing here ever waits for the helper.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>
#include <uv.h>

#include "base/cleanup.h"
#include "base/json.h"

struct helper;

struct helper_callbacks {
	void (*on_message)(struct helper *h, const cJSON *message, void *userdata);
	void (*on_started)(struct helper *h, void *userdata); /* a new process: tell it everything again */
	void (*on_died)(struct helper *h, int status, void *userdata);
};

/**
 * helper_new() - describe a helper; helper_start() runs it
 * @name:  "supervise-logger": found by paths_helper(), and RUNTIME/<after the hyphen>.pid is written
 * @argv:  NULL-terminated, argv[0] is replaced by the path found; kept
 */
int helper_new(struct helper **ret, uv_loop_t *loop, const char *name, const char *runtime, char *const *argv,
    const struct helper_callbacks *cb, void *userdata);
struct helper *helper_free(struct helper *h);
DEFINE_CLEANUP(struct helper *, helper_free)

int helper_start(struct helper *h, struct error *err);

/* Queues one message; kept in order, sent as the socket takes it. Dropped while no process runs (see on_started). */
void helper_send(struct helper *h, const cJSON *message);

/* Closes our end: the helper finishes its work and exits by itself; it is not restarted. */
void helper_finish(struct helper *h);

pid_t helper_get_pid(const struct helper *h); /* 0: none runs */
unsigned helper_get_restarts(const struct helper *h);
