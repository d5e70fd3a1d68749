/* SPDX-License-Identifier: Apache-2.0 */
/* The command line's end of the control socket; the protocol is in supervisor/control.h. */
#pragma once

#include "base/cleanup.h"
#include "base/error.h"
#include "base/json.h"
#include "base/paths.h"

struct control;

/* Return: 0; -ENOENT or -ECONNREFUSED when no supervisor runs; other -errno with @err */
int control_connect(struct control **ret, const struct paths *p, struct error *err);
struct control *control_close(struct control *c);
DEFINE_CLEANUP(struct control *, control_close)

/**
 * control_request() - send one request and take its answer
 * @request:   without "v"; borrowed
 * @on_line:   called for every line but the last; not 0 stops reading and is returned; may be NULL
 * @ret_done:  the last line ("done":true); the caller deletes
 *
 * Return:  0; what @on_line returned; -ECONNRESET when the supervisor ended meanwhile; other -errno with @err
 */
int control_request(struct control *c, const cJSON *request, int (*on_line)(const cJSON *line, void *userdata),
    void *userdata, cJSON **ret_done, struct error *err);

/* The socket, for callers that wait for other things too; lines are then read by control_request() alone. */
int control_get_fd(const struct control *c);

/* The same in two halves, for callers with a loop of their own: send, then read when the descriptor is readable. */
int control_send(struct control *c, const cJSON *request, struct error *err);

/* Return: 1 and a line (caller deletes); 0 when none is complete yet (after a read that would block, or one read of a
 * blocking socket when @block); -ECONNRESET at the end; other -errno */
int control_read_line(struct control *c, bool block, cJSON **ret, struct error *err);
