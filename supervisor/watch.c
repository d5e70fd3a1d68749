/* SPDX-License-Identifier: Apache-2.0 */
#include "supervisor/watch.h"

#include <errno.h>
#include <stdlib.h>

struct watch {
	uv_poll_t poll; /* first: freed through its address */
	watch_fn fn;
	void *userdata;
};

struct alarm_clock {
	uv_timer_t timer; /* first */
	alarm_fn fn;
	void *userdata;
};

static void free_handle(uv_handle_t *h)
{
	free(h);
}

static void on_poll(uv_poll_t *p, int status, int events)
{
	struct watch *w = (struct watch *)p;

	w->fn(status < 0 ? 0 : events, w->userdata);
}

int watch_new(struct watch **ret, uv_loop_t *loop, int fd, int events, watch_fn fn, void *userdata)
{
	struct watch *w = calloc(1, sizeof(*w));
	int r;

	if (!w)
		return -ENOMEM;
	r = uv_poll_init(loop, &w->poll, fd);
	if (r < 0) {
		free(w);
		return r;
	}
	w->fn = fn;
	w->userdata = userdata;
	uv_poll_start(&w->poll, events, on_poll);
	*ret = w;
	return 0;
}

void watch_set(struct watch *w, int events)
{
	uv_poll_start(&w->poll, events, on_poll);
}

struct watch *watch_free(struct watch *w)
{
	if (w) {
		uv_poll_stop(&w->poll);
		uv_close((uv_handle_t *)&w->poll, free_handle);
	}
	return NULL;
}

static void on_timer(uv_timer_t *t)
{
	struct alarm_clock *a = (struct alarm_clock *)t;

	a->fn(a->userdata);
}

int alarm_new(struct alarm_clock **ret, uv_loop_t *loop, alarm_fn fn, void *userdata)
{
	struct alarm_clock *a = calloc(1, sizeof(*a));

	if (!a)
		return -ENOMEM;
	uv_timer_init(loop, &a->timer);
	a->fn = fn;
	a->userdata = userdata;
	*ret = a;
	return 0;
}

void alarm_set(struct alarm_clock *a, uint64_t ms)
{
	uv_update_time(a->timer.loop); /* the loop's idea of now is as old as this iteration */
	uv_timer_start(&a->timer, on_timer, ms, 0);
}

void alarm_stop(struct alarm_clock *a)
{
	uv_timer_stop(&a->timer);
}

struct alarm_clock *alarm_free(struct alarm_clock *a)
{
	if (a) {
		uv_timer_stop(&a->timer);
		uv_close((uv_handle_t *)&a->timer, free_handle);
	}
	return NULL;
}
