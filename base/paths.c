/* SPDX-License-Identifier: Apache-2.0 */
#include "base/paths.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/file.h"
#include "base/proc.h"

static int name_ok(const char *name)
{
	size_t n = strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789_.-");

	return n >= 1 && n <= 63 && !name[n] && name[0] != '_' && name[0] != '.' && name[0] != '-';
}

char *path_format(char *ret, size_t size, const char *folder, const char *fmt, ...)
{
	size_t n = strlen(folder);
	va_list ap;
	int m;

	if (n + 2 > size)
		goto too_long;
	memcpy(ret, folder, n);
	ret[n++] = '/';
	va_start(ap, fmt);
	m = vsnprintf(ret + n, size - n, fmt, ap);
	va_end(ap);
	if (m >= 0 && (size_t)m < size - n)
		return ret;
too_long:
	ret[0] = '\0';
	return ret;
}

int paths_init(struct paths *ret, const char *name, struct error *err)
{
	const char *dir = getenv("SUPERVISE_RUNTIME_DIR"), *xdg = getenv("XDG_RUNTIME_DIR");
	const char *state = getenv("XDG_STATE_HOME"), *home = getenv("HOME");
	char uid_dir[64];

	if (!name_ok(name))
		return error_set(err, -EINVAL,
		    "'%s' is no usable project name: lower-case letters, digits, '_', '.', '-', at most 63, beginning with "
		    "a letter or digit",
		    name);
	if (dir && dir[0] == '/')
		path_format(ret->runtime, sizeof(ret->runtime), dir, "%s", name);
	else if (xdg && xdg[0] == '/' && !access(xdg, W_OK))
		path_format(ret->runtime, sizeof(ret->runtime), xdg, "supervise/%s", name);
	else {
		snprintf(uid_dir, sizeof(uid_dir), "/tmp/supervise-%u", (unsigned)geteuid());
		path_format(ret->runtime, sizeof(ret->runtime), uid_dir, "%s", name);
	}
	if (state && state[0] == '/')
		path_format(ret->state, sizeof(ret->state), state, "supervise/%s/%s", name, proc_hostname());
	else if (home && home[0] == '/')
		path_format(ret->state, sizeof(ret->state), home, ".local/state/supervise/%s/%s", name,
		    proc_hostname());
	else
		return error_set(err, -EINVAL, "neither HOME nor XDG_STATE_HOME is set: nowhere to keep logs and reports");
	if (!ret->runtime[0] || !ret->state[0] || strlen(ret->runtime) > PATH_MAX - 300 ||
	    strlen(ret->state) > PATH_MAX - 300)
		return error_set(err, -ENAMETOOLONG, "the runtime or state folder's path is too long");
	return 0;
}

int paths_create(const struct paths *p, struct error *err)
{
	static const char *const runtime[] = { "pid", "fifo", "pending" };
	static const char *const state[] = { "log", "crash", "spool", "spool/logger", "spool/supervisor" };
	char path[PATH_MAX];
	int r;

	/* /tmp/supervise-UID must be ours before anything is put below it */
	memcpy(path, p->runtime, sizeof(path));
	if (strrchr(path, '/') > path) {
		*strrchr(path, '/') = '\0';
		if (!strncmp(path, "/tmp/supervise-", 15)) {
			r = dir_make_private(path, err);
			if (r < 0)
				return r;
		}
	}
	r = dir_make_private(p->runtime, err);
	if (r < 0)
		return r;
	if (path_is_network(p->runtime) == 1)
		return error_set(err, -EXDEV,
		    "runtime folder %s is on a network file system, where sockets and locks of several hosts would meet; set "
		    "SUPERVISE_RUNTIME_DIR to a folder on a local disk",
		    p->runtime);
	for (size_t i = 0; i < ARRAY_SIZE(runtime); i++) {
		r = dir_make_private(path_format(path, sizeof(path), p->runtime, "%s", runtime[i]), err);
		if (r < 0)
			return r;
	}
	r = dir_make_private(p->state, err);
	for (size_t i = 0; !r && i < ARRAY_SIZE(state); i++)
		r = dir_make_private(path_format(path, sizeof(path), p->state, "%s", state[i]), err);
	return r;
}

char *paths_file_name(const char *daemon, char *ret, size_t size)
{
	snprintf(ret, size, "%s", daemon);
	for (char *c = ret; *c; c++)
		if (*c == '/')
			*c = '@';
	return ret;
}

int paths_helper(const char *name, char *ret, struct error *err)
{
	const char *env = getenv("SUPERVISE_LIBEXEC");
	char self[PATH_MAX];
	ssize_t n;

	if (env && env[0] == '/' && path_format(ret, PATH_MAX, env, "%s", name)[0] && !access(ret, R_OK))
		return 0;
	n = readlink("/proc/self/exe", self, sizeof(self) - 1);
	if (n <= 0)
		return error_set(err, -ENOENT, "cannot tell where this program is: %s", strerror(errno));
	self[n] = '\0';
	*strrchr(self, '/') = '\0';
	if (path_format(ret, PATH_MAX, self, "%s", name)[0] && !access(ret, R_OK))
		return 0;
	if (path_format(ret, PATH_MAX, self, "../libexec/supervise/%s", name)[0] && !access(ret, R_OK))
		return 0;
	return error_set(err, -ENOENT,
	    "%s is neither in %s nor in %s/../libexec/supervise; is the installation complete? (SUPERVISE_LIBEXEC names "
	    "another folder)",
	    name, self, self);
}

int unix_address(int dirfd, const char *name, struct sockaddr_un *ret)
{
	*ret = (struct sockaddr_un){ .sun_family = AF_UNIX };
	if ((size_t)snprintf(ret->sun_path, sizeof(ret->sun_path), "/proc/self/fd/%d/%s", dirfd, name) >=
	    sizeof(ret->sun_path))
		return -ENAMETOOLONG;
	return 0;
}
