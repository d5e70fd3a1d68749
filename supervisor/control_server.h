/* SPDX-License-Identifier: Apache-2.0 */
/* The supervisor's end of the control socket; the protocol is in supervisor/control.h. */
#pragma once

#include "base/error.h"

struct control_server;
struct daemon;
struct supervisor;

/* Binds RUNTIME/control.sock and listens. Return: 0 or -errno with @err */
int control_server_new(struct control_server **ret, struct supervisor *s, struct error *err);
struct control_server *control_server_free(struct control_server *c);

/* A daemon changed: requests that wait for it look again. */
void control_server_daemon_changed(struct control_server *c, struct daemon *d);

/* All is stopped: answers those who asked for `down`. */
void control_server_finished(struct control_server *c);
