/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A kill -9 between queueing and writing loses nothing that is not made again: a death is journalled in the registry as
 * pending before it is reaped, and only taken off once its job here is done. Records carry ids made beforehand, so one that
 * is written twice is stored once.
 */
#include "supervisor/recorder.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "log/spool.h"

enum { QUEUE_MAX = 100000 }; /* records waiting for a disk that hangs; what comes then is counted */

struct job {
	struct job *next;
	struct text payload; /* encoded record, if any */
	enum record_kind kind;
	int64_t ts_us;
	char *path; /* report, if any */
	cJSON *json;
	recorder_done_fn done;
	void *userdata;
	int status;
};

struct recorder {
	uv_loop_t *loop;
	struct spool *spool;
	struct job *first, **last; /* waiting */
	struct job *working;       /* handed to the worker thread */
	size_t n;
	uint64_t dropped;
	uv_work_t work;
	bool busy;
};

static void job_free(struct job *j)
{
	text_free(&j->payload);
	free(j->path);
	cJSON_Delete(j->json);
	free(j);
}

int recorder_new(struct recorder **ret, uv_loop_t *loop, const char *spool_folder, struct error *err)
{
	_cleanup_(recorder_freep) struct recorder *r = calloc(1, sizeof(*r));

	if (!r)
		return -ENOMEM;
	r->loop = loop;
	r->last = &r->first;
	if (spool_folder) {
		uint64_t torn = 0;
		int e = spool_open(&r->spool, spool_folder, &torn, err);

		if (e < 0)
			return e;
	}
	*ret = TAKE_PTR(r);
	return 0;
}

/* Worker thread: reports first, then all records in one append. */
static void work(uv_work_t *w)
{
	struct recorder *r = w->data;
	struct view *payloads;
	enum record_kind *kinds;
	int64_t *times;
	size_t n = 0, i = 0;
	int status = 0;

	for (struct job *j = r->working; j; j = j->next) {
		n += j->payload.size > 0;
		if (j->path) {
			_cleanup_(freep) char *text = json_print_pretty(j->json);

			j->status = text ? file_replace(AT_FDCWD, j->path, text, strlen(text), 0600, 0) : -ENOMEM;
		}
	}
	if (!n || !r->spool)
		return;
	payloads = calloc(n, sizeof(*payloads));
	kinds = calloc(n, sizeof(*kinds));
	times = calloc(n, sizeof(*times));
	if (payloads && kinds && times) {
		for (struct job *j = r->working; j; j = j->next)
			if (j->payload.size) {
				payloads[i] = (struct view){ j->payload.data, j->payload.size };
				kinds[i] = j->kind;
				times[i++] = j->ts_us;
			}
		status = spool_append(r->spool, payloads, kinds, times, n, NULL);
	} else {
		status = -ENOMEM;
	}
	free(payloads);
	free(kinds);
	free(times);
	if (status < 0)
		fprintf(stderr, "supervisor: cannot append to the spool: %s\n", strerror(-status));
	for (struct job *j = r->working; j && status < 0; j = j->next)
		if (!j->status)
			j->status = status;
}

static void kick(struct recorder *r);

static void finish(struct recorder *r)
{
	struct job *j = r->working;

	r->working = NULL;
	while (j) {
		struct job *next = j->next;

		r->n--;
		if (j->done)
			j->done(j->status, j->userdata);
		job_free(j);
		j = next;
	}
}

static void after_work(uv_work_t *w, int status)
{
	struct recorder *r = w->data;

	(void)status;
	r->busy = false;
	finish(r);
	kick(r);
}

static void kick(struct recorder *r)
{
	if (r->busy || !r->first)
		return;
	r->working = r->first;
	r->first = NULL;
	r->last = &r->first;
	r->busy = true;
	r->work.data = r;
	if (uv_queue_work(r->loop, &r->work, work, after_work) < 0) {
		work(&r->work); /* no thread to be had: better slow than lost */
		r->busy = false;
		finish(r);
	}
}

static void add(struct recorder *r, struct job *j)
{
	j->next = NULL;
	*r->last = j;
	r->last = &j->next;
	r->n++;
	kick(r);
}

void recorder_add(struct recorder *r, const struct record *record)
{
	struct job *j;

	if (!r->spool)
		return;
	if (r->n >= QUEUE_MAX) {
		if (!r->dropped++)
			fprintf(stderr, "supervisor: the state folder does not answer, records are being dropped\n");
		return;
	}
	j = calloc(1, sizeof(*j));
	if (!j)
		return;
	j->kind = record->kind;
	j->ts_us = record->ts_us;
	if (record_encode(record, &j->payload) < 0 || j->payload.failed) {
		job_free(j);
		return;
	}
	add(r, j);
}

void recorder_add_report(struct recorder *r, const char *path, cJSON *json, recorder_done_fn done, void *userdata)
{
	struct job *j = calloc(1, sizeof(*j));

	if (j)
		j->path = strdup(path);
	if (!j || !j->path) {
		free(j);
		cJSON_Delete(json);
		done(-ENOMEM, userdata);
		return;
	}
	j->json = json;
	j->done = done;
	j->userdata = userdata;
	add(r, j);
}

void recorder_barrier(struct recorder *r, recorder_done_fn done, void *userdata)
{
	struct job *j = calloc(1, sizeof(*j));

	if (!j) {
		done(-ENOMEM, userdata);
		return;
	}
	j->done = done;
	j->userdata = userdata;
	add(r, j);
}

struct recorder *recorder_free(struct recorder *r)
{
	if (!r)
		return NULL;
	while (r->busy || r->first) {
		kick(r);
		uv_run(r->loop, UV_RUN_ONCE);
	}
	spool_close(r->spool);
	free(r);
	return NULL;
}
