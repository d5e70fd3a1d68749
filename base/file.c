/* SPDX-License-Identifier: Apache-2.0 */
#include "base/file.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "base/cleanup.h"

int write_all(int fd, const void *data, size_t size)
{
	const char *p = data;

	while (size) {
		ssize_t n = write(fd, p, size);

		if (n < 0) {
			if (errno == EINTR)
				continue;
			return -errno;
		}
		p += n;
		size -= (size_t)n;
	}
	return 0;
}

ssize_t read_full(int fd, void *ret, size_t size)
{
	size_t got = 0;

	while (got < size) {
		ssize_t n = read(fd, (char *)ret + got, size - got);

		if (n < 0) {
			if (errno == EINTR)
				continue;
			return -errno;
		}
		if (!n)
			break;
		got += (size_t)n;
	}
	return (ssize_t)got;
}

int file_read(int dirfd, const char *path, size_t max, char **ret, size_t *ret_size)
{
	_cleanup_(closep) int fd = openat(dirfd, path, O_RDONLY | O_CLOEXEC | O_NOCTTY);
	_cleanup_(freep) char *data = NULL;
	size_t room = 4096, size = 0;

	if (fd < 0)
		return -errno;
	for (;;) {
		char *p = realloc(data, room + 1);
		ssize_t n;

		if (!p)
			return -ENOMEM;
		data = p;
		n = read_full(fd, data + size, room - size);
		if (n < 0)
			return (int)n;
		size += (size_t)n;
		if (size > max)
			return -EFBIG;
		if (size < room)
			break;
		room *= 2;
	}
	data[size] = '\0';
	if (ret_size)
		*ret_size = size;
	*ret = TAKE_PTR(data);
	return 0;
}

int file_replace(int dirfd, const char *path, const void *data, size_t size, mode_t mode, int sync)
{
	char tmp[PATH_MAX];
	_cleanup_(closep) int fd = -1;
	int r;

	if ((size_t)snprintf(tmp, sizeof(tmp), "%s.tmp.%d", path, (int)getpid()) >= sizeof(tmp))
		return -ENAMETOOLONG;
	fd = openat(dirfd, tmp, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, mode);
	if (fd < 0)
		return -errno;
	r = write_all(fd, data, size);
	if (!r && fchmod(fd, mode) < 0)
		r = -errno;
	if (!r && sync && fdatasync(fd) < 0)
		r = -errno;
	if (!r && renameat(dirfd, tmp, dirfd, path) < 0)
		r = -errno;
	if (r < 0) {
		unlinkat(dirfd, tmp, 0);
		return r;
	}
	if (sync) {
		_cleanup_(freep) char *dir = strdup(path);
		_cleanup_(closep) int dfd = -1;
		char *slash = dir ? strrchr(dir, '/') : NULL;

		if (slash)
			slash[slash == dir] = '\0';
		dfd = openat(dirfd, slash ? dir : ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		if (dfd >= 0)
			(void)fsync(dfd);
	}
	return 0;
}

int dir_make_private(const char *path, struct error *err)
{
	char part[PATH_MAX];
	struct stat st;
	size_t n = strlen(path);

	if (path[0] != '/' || n >= sizeof(part))
		return error_set(err, -EINVAL, "'%s' is not an absolute path of usable length", path);
	for (size_t i = 1; i <= n; i++) {
		if (path[i] != '/' && path[i])
			continue;
		memcpy(part, path, i);
		part[i] = '\0';
		if (mkdir(part, 0700) < 0 && errno != EEXIST && !(errno == EROFS && !access(part, F_OK)))
			return error_set(err, -errno, "cannot create folder %s: %s", part, strerror(errno));
	}
	if (lstat(path, &st) < 0)
		return error_set(err, -errno, "cannot look at folder %s: %s", path, strerror(errno));
	if (!S_ISDIR(st.st_mode))
		return error_set(err, -ENOTDIR, "%s is not a folder (links are not followed here)", path);
	if (st.st_uid != geteuid())
		return error_set(err, -EPERM, "folder %s belongs to user %u, not to you (%u)", path,
		    (unsigned)st.st_uid, (unsigned)geteuid());
	if ((st.st_mode & 077) && chmod(path, 0700) < 0)
		return error_set(err, -errno, "cannot make folder %s private: %s", path, strerror(errno));
	return 0;
}

int fd_above_stdio(int fd)
{
	int n;

	if (fd > 2)
		return fd;
	n = fcntl(fd, F_DUPFD_CLOEXEC, 3);
	if (n < 0)
		n = -errno;
	close(fd);
	return n;
}

int path_is_network(const char *path)
{
	/* statfs(2) f_type values: linux/magic.h, and the clients' own sources for Lustre, GPFS, BeeGFS, CephFS, AFS */
	static const uint32_t magics[] = { 0x6969 /* nfs */, 0x517b /* smb */, 0xff534d42 /* cifs */, 0xfe534d42 /* smb2 */,
		0x0bd00bd0 /* lustre */, 0x47504653 /* gpfs */, 0x19830326 /* beegfs */, 0x00c36400 /* ceph */,
		0x5346414f /* afs */, 0x6b414653 /* kafs */, 0x65735546 /* fuse: sshfs, gluster */, 0x01021997 /* 9p */,
		0x20030528 /* orangefs */, 0x013661 /* panfs, ibrix */ };
	struct statfs fs;

	if (statfs(path, &fs) < 0)
		return -errno;
	for (size_t i = 0; i < ARRAY_SIZE(magics); i++)
		if ((uint32_t)fs.f_type == magics[i])
			return 1;
	return 0;
}

int file_lock_wait(int fd)
{
	while (flock(fd, LOCK_EX) < 0)
		if (errno != EINTR)
			return -errno;
	return 0;
}
