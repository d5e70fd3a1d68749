/* SPDX-License-Identifier: Apache-2.0 */
/*
 * libuv's poll and timer handles as objects that can be freed at once: a uv handle's memory must outlive uv_close(), so each
 * lives on the heap and frees itself when libuv lets it go.
 */
#pragma once

#include <stdint.h>
#include <uv.h>

struct watch;
typedef void (*watch_fn)(int events, void *userdata); /* UV_READABLE, UV_WRITABLE; 0 on an error of the descriptor */

/* Watches @fd (borrowed; must stay open until watch_free()). Return: 0 or -errno */
int watch_new(struct watch **ret, uv_loop_t *loop, int fd, int events, watch_fn fn, void *userdata);
void watch_set(struct watch *w, int events);
struct watch *watch_free(struct watch *w); /* NULL is fine; fn is not called any more */

struct alarm_clock;
typedef void (*alarm_fn)(void *userdata);

int alarm_new(struct alarm_clock **ret, uv_loop_t *loop, alarm_fn fn, void *userdata);
void alarm_set(struct alarm_clock *a, uint64_t ms); /* once, from now; again: moves it */
void alarm_stop(struct alarm_clock *a);
struct alarm_clock *alarm_free(struct alarm_clock *a);
