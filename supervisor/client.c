/* SPDX-License-Identifier: Apache-2.0 */
#include "supervisor/client.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "base/file.h"
#include "base/text.h"
#include "supervisor/control.h"

enum { LINE_MAX_BYTES = 64 << 20 };

struct control {
	int fd;
	struct text in;
	size_t taken; /* bytes of in that were handed out */
};

int control_connect(struct control **ret, const struct paths *p, struct error *err)
{
	_cleanup_(control_closep) struct control *c = calloc(1, sizeof(*c));
	_cleanup_(closep) int dir = open(p->runtime, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	struct sockaddr_un address;
	struct ucred cred;
	socklen_t len = sizeof(cred);

	if (!c)
		return error_set(err, -ENOMEM, "out of memory");
	c->fd = -1;
	if (dir < 0)
		return error_set(err, -errno, "no supervisor runs here (%s: %s)", p->runtime, strerror(errno));
	c->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (c->fd < 0 || unix_address(dir, "control.sock", &address) < 0)
		return error_set(err, -errno, "socket: %s", strerror(errno));
	if (connect(c->fd, (struct sockaddr *)&address, sizeof(address)) < 0)
		return error_set(err, -errno, "no supervisor runs here (%s/control.sock: %s)", p->runtime, strerror(errno));
	/* in /tmp somebody else could have put a socket of that name before the folder was ours */
	if (getsockopt(c->fd, SOL_SOCKET, SO_PEERCRED, &cred, &len) < 0 || (cred.uid != geteuid() && geteuid() != 0))
		return error_set(err, -EPERM, "%s/control.sock belongs to another user", p->runtime);
	*ret = TAKE_PTR(c);
	return 0;
}

struct control *control_close(struct control *c)
{
	if (!c)
		return NULL;
	if (c->fd >= 0)
		close(c->fd);
	text_free(&c->in);
	free(c);
	return NULL;
}

int control_get_fd(const struct control *c)
{
	return c->fd;
}

int control_send(struct control *c, const cJSON *request, struct error *err)
{
	_cleanup_json_ cJSON *j = cJSON_Duplicate(request, 1);
	_cleanup_(freep) char *text = NULL;
	_cleanup_text_ struct text line = { 0 };
	size_t sent = 0;

	if (j && !cJSON_GetObjectItemCaseSensitive(j, "v"))
		json_add_i64(j, "v", CONTROL_VERSION);
	text = j ? json_print(j) : NULL;
	if (!text)
		return error_set(err, -ENOMEM, "out of memory");
	text_add(&line, text);
	text_add(&line, "\n");
	while (sent < line.size) {
		ssize_t n = send(c->fd, line.data + sent, line.size - sent, MSG_NOSIGNAL);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return error_set(err, -errno, "cannot speak to the supervisor: %s", strerror(errno));
		sent += (size_t)n;
	}
	return 0;
}

int control_read_line(struct control *c, bool block, cJSON **ret, struct error *err)
{
	char buf[65536];

	for (;;) {
		char *start = c->in.data ? c->in.data + c->taken : NULL;
		char *end = start ? memchr(start, '\n', c->in.size - c->taken) : NULL;
		ssize_t n;

		if (end) {
			int r = json_parse(start, (size_t)(end - start), ret, err);

			c->taken = (size_t)(end + 1 - c->in.data);
			return r < 0 ? error_prefix(err, r, "answer of the supervisor") : 1;
		}
		if (c->taken) {
			memmove(c->in.data, c->in.data + c->taken, c->in.size - c->taken);
			c->in.size -= c->taken;
			c->taken = 0;
		}
		n = recv(c->fd, buf, sizeof(buf), block ? 0 : MSG_DONTWAIT);
		if (n < 0 && errno == EINTR && block)
			return 0;
		if (n < 0 && errno == EAGAIN)
			return 0;
		if (n < 0)
			return error_set(err, -errno, "cannot hear the supervisor: %s", strerror(errno));
		if (!n)
			return error_set(err, -ECONNRESET, "the supervisor ended before it answered");
		text_add_bytes(&c->in, buf, (size_t)n);
		if (c->in.failed || c->in.size > LINE_MAX_BYTES)
			return error_set(err, -ENOMEM, "answer of the supervisor is too long");
	}
}

int control_request(struct control *c, const cJSON *request, int (*on_line)(const cJSON *line, void *userdata),
    void *userdata, cJSON **ret_done, struct error *err)
{
	int r = control_send(c, request, err);

	while (r >= 0) {
		_cleanup_json_ cJSON *line = NULL;

		r = control_read_line(c, true, &line, err);
		if (r <= 0)
			continue;
		if (json_get_bool(line, "done", false)) {
			*ret_done = TAKE_PTR(line);
			return 0;
		}
		r = on_line ? on_line(line, userdata) : 0;
		if (r)
			return r;
	}
	return r;
}
