/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The supervisor's own records and crash reports on their way to disk. The state folder may be on a network file system
 * that hangs, so all of it happens in a worker thread, one job after the other; the loop never waits.
 */
#pragma once

#include <stdint.h>
#include <uv.h>

#include "base/cleanup.h"
#include "base/error.h"
#include "base/json.h"
#include "log/record.h"

struct recorder;

/**
 * recorder_new() - open STATE/spool/supervisor
 * @spool_folder:  NULL: records are dropped (store: none); reports are written all the same
 */
int recorder_new(struct recorder **ret, uv_loop_t *loop, const char *spool_folder, struct error *err);
struct recorder *recorder_free(struct recorder *r); /* finishes what is queued first */
DEFINE_CLEANUP(struct recorder *, recorder_free)

/* Queues one record; copied. */
void recorder_add(struct recorder *r, const struct record *record);

typedef void (*recorder_done_fn)(int status, void *userdata);

/**
 * recorder_add_report() - write a report file, then the records queued before and with it
 * @path:   the file, replaced atomically; copied
 * @json:   taken
 * @done:   called on the loop once report and records are on disk; status 0 or -errno
 */
void recorder_add_report(struct recorder *r, const char *path, cJSON *json, recorder_done_fn done, void *userdata);

/* Calls @done once everything queued so far is on disk. */
void recorder_barrier(struct recorder *r, recorder_done_fn done, void *userdata);
