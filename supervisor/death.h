/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A death on its way to a report: last output from the logger, snapshot from the capture thread, symbolizer, report file,
 * event and ERROR log. None of it delays the next start.
 *
 * Killed at any instant: the registry has named the death as pending before the process was reaped, and what is known of it is
 * in RUNTIME/pending/ID.json; death_resume_all() begins again from there. Ids are fixed at the beginning, so a row written
 * twice is stored once and a report written twice replaces itself.
 */
#pragma once

#include <stdbool.h>

#include "base/json.h"
#include "capture/capture.h"
#include "registry/registry.h"

struct daemon;
struct death;
struct supervisor;

enum { DEATH_SYMBOLIZERS_MAX = 2 }; /* at the same time */

struct death_facts {
	const char *crash_id;
	const struct exit_info *exit;
	bool stop_timeout;
	bool requested;        /* it was asked to stop */
	const char *next;      /* what happens now */
	const char *exec_error; /* NULL unless it could not be executed */
};

/**
 * death_begin() - start the way to the report
 * @d:      its daemon; what is needed of it is copied
 * @event:  the snapshot that has come already, or NULL
 */
void death_begin(struct supervisor *s, struct daemon *d, const struct death_facts *f, const struct capture_event *event);

/* A process below a daemon's first one crashed: a report of its own. */
void death_begin_descendant(struct supervisor *s, struct daemon *d, const struct capture_event *event);

/* After a restart of the supervisor: all deaths whose reports are not written yet. */
void death_resume_all(struct supervisor *s);

/* A snapshot came after the death. Return: whether one of the deaths waited for it */
bool death_take_snapshot(struct supervisor *s, const struct capture_event *event);

/* The logger's "drained" message. */
void death_take_tail(struct supervisor *s, const cJSON *message);

/* Drain requests were lost with the logger: ask again. */
void death_logger_restarted(struct supervisor *s);

/* Whether any report of this daemon is still on its way. */
bool death_is_pending(struct supervisor *s, const char *daemon);

/* Pids of the symbolizers running now, at most DEATH_SYMBOLIZERS_MAX, into @ret. Return: how many */
size_t death_list_symbolizers(struct supervisor *s, pid_t *ret);
