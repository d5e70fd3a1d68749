/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Reads what daemons write to their FIFOs, and puts it into log files and the spool, losing and doubling nothing
 * whenever it is killed (output.c says how). The program around it owns the loop and the control socket.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/epoll.h>

#include "base/error.h"
#include "base/json.h"

struct output;

struct output_handlers {
	/* Something a person should know. @daemon: NULL when it is about all; @reason: text of an errno, or NULL */
	void (*problem)(const char *daemon, const char *title, const char *reason, void *userdata);
	/* A drain is over. @tail: the last lines (protocol.h); borrowed, the handler may take items from it */
	void (*drained)(const char *daemon, const char *id, bool complete, cJSON *tail, void *userdata);
	void *userdata; /* kept */
};

enum { OUTPUT_TAG_MAX = 4096 }; /* epoll data below belong to the program around */

/**
 * output_new() - take over from whoever was killed
 * @runtime, @state:  the folders of base/paths.h, which exist; the caller holds RUNTIME/logger.lock
 * @handlers:  copied
 *
 * What a killed logger had in hand is where it belongs when this comes back.
 *
 * Return:  0 or -errno with @err
 */
int output_new(struct output **ret, const char *runtime, const char *state, const struct output_handlers *handlers,
    struct error *err);
struct output *output_free(struct output *o);
DEFINE_CLEANUP(struct output *, output_free)

/* The messages of protocol.h; borrowed. Return: 0 or -errno with @err */
int output_open_daemon(struct output *o, const cJSON *message, struct error *err);
int output_drain(struct output *o, const char *daemon, const char *id, uint64_t deadline_ms);
int output_close_daemon(struct output *o, const char *daemon);
int output_rotate(struct output *o, const char *daemon);

/* The loop: wait on this epoll descriptor for as long as output_get_timeout() says (-1: for ever), hand every event
 * that is not your own to output_handle(), then handle your own, then call output_tick(). */
int output_get_epoll_fd(const struct output *o);
int output_get_timeout(struct output *o);
void output_handle(struct output *o, const struct epoll_event *e);
void output_tick(struct output *o);
