/* SPDX-License-Identifier: Apache-2.0 */
#include "base/proc.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/file.h"

#ifndef SYS_pidfd_open
#define SYS_pidfd_send_signal 424
#define SYS_pidfd_open 434
#endif

const char *proc_boot_id(void)
{
	static char id[BOOT_ID_MAX];

	if (!id[0]) {
		_cleanup_(closep) int fd = open("/proc/sys/kernel/random/boot_id", O_RDONLY | O_CLOEXEC);
		ssize_t n = fd < 0 ? -1 : read_full(fd, id, sizeof(id) - 1);

		id[n > 0 ? n : 0] = '\0';
		id[strcspn(id, "\n")] = '\0';
	}
	return id;
}

const char *proc_hostname(void)
{
	static char name[256];

	if (!name[0]) {
		if (gethostname(name, sizeof(name) - 1) < 0 || !name[0])
			strcpy(name, "localhost");
		name[strcspn(name, ".")] = '\0';
		for (char *p = name; *p; p++)
			if (!isalnum((unsigned char)*p) && *p != '-' && *p != '_')
				*p = '_';
	}
	return name;
}

int proc_read_stat(pid_t pid, struct proc_stat *ret)
{
	struct proc_stat st = { 0 };
	char path[64], buf[1024];
	_cleanup_(closep) int fd = -1;
	ssize_t n;
	char *open_paren, *close_paren;
	long rss_pages;
	int ppid, pgrp, session;
	unsigned long long utime, stime, start;
	long threads;
	size_t comm;

	snprintf(path, sizeof(path), "/proc/%d/stat", (int)pid);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return errno == ENOENT ? -ESRCH : -errno;
	n = read(fd, buf, sizeof(buf) - 1);
	if (n < 0)
		return -errno;
	if (!n)
		return -ESRCH;
	buf[n] = '\0';
	/* the name may hold anything, parentheses too: the last one closes it */
	open_paren = strchr(buf, '(');
	close_paren = strrchr(buf, ')');
	if (!open_paren || !close_paren || close_paren < open_paren)
		return -EIO;
	comm = (size_t)(close_paren - open_paren - 1);
	if (comm >= sizeof(st.comm))
		comm = sizeof(st.comm) - 1;
	memcpy(st.comm, open_paren + 1, comm);
	if (sscanf(close_paren + 1,
		" %c %d %d %d %*d %*d %*u %*u %*u %*u %*u %llu %llu %*d %*d %*d %*d %ld %*d %llu %*u %ld", &st.state,
		&ppid, &pgrp, &session, &utime, &stime, &threads, &start, &rss_pages) != 9)
		return -EIO;
	st.ppid = ppid;
	st.pgrp = pgrp;
	st.session = session;
	st.utime_ticks = utime;
	st.stime_ticks = stime;
	st.threads = (unsigned)threads;
	st.start_ticks = start;
	st.rss_bytes = (uint64_t)rss_pages * (uint64_t)sysconf(_SC_PAGESIZE);
	*ret = st;
	return 0;
}

int proc_identify(pid_t pid, struct proc_id *ret)
{
	struct proc_stat st;
	int r = proc_read_stat(pid, &st);

	if (r < 0)
		return r;
	ret->pid = pid;
	ret->start_ticks = st.start_ticks;
	return 0;
}

int pidfd_open_(pid_t pid)
{
	int fd = (int)syscall(SYS_pidfd_open, pid, 0);

	return fd < 0 ? -errno : fd;
}

int pidfd_signal(int pidfd, int sig)
{
	return syscall(SYS_pidfd_send_signal, pidfd, sig, NULL, 0) < 0 ? -errno : 0;
}

enum proc_match proc_open(const struct proc_id *id, int *ret_pidfd)
{
	_cleanup_(closep) int fd = -1;
	struct proc_stat st;
	int r;

	if (id->pid <= 0)
		return PROC_GONE;
	fd = pidfd_open_(id->pid);
	if (fd < 0)
		return fd == -ESRCH || fd == -EINVAL ? PROC_GONE : PROC_UNKNOWN;
	r = proc_read_stat(id->pid, &st);
	if (r < 0)
		return r == -ESRCH ? PROC_GONE : PROC_UNKNOWN;
	if (st.start_ticks != id->start_ticks)
		return PROC_OTHER;
	*ret_pidfd = TAKE_FD(fd);
	return PROC_SAME;
}

/* include/uapi/linux/pidfd.h of Linux 6.15, restated because our headers are older */
struct pidfd_info_ {
	uint64_t mask;
	uint64_t cgroupid;
	uint32_t pid, tgid, ppid, ruid, rgid, euid, egid, suid, sgid, fsuid, fsgid;
	int32_t exit_code;
};
#define PIDFD_INFO_EXIT_ (1ull << 3)
#define PIDFD_GET_INFO_  _IOWR(0xff, 11, struct pidfd_info_)

int pidfd_exit_status(int pidfd, int *ret_status)
{
	struct pidfd_info_ info = { .mask = PIDFD_INFO_EXIT_ };

	if (ioctl(pidfd, PIDFD_GET_INFO_, &info) < 0)
		return errno == ESRCH ? -ENOTSUP : errno == ENOTTY || errno == EINVAL ? -ENOTSUP : -errno;
	if (!(info.mask & PIDFD_INFO_EXIT_))
		return -EAGAIN;
	*ret_status = info.exit_code;
	return 0;
}

int proc_read_environ(pid_t pid, const char *name, char **ret)
{
	_cleanup_(freep) char *data = NULL;
	char path[64];
	size_t size, len = strlen(name);
	int r;

	snprintf(path, sizeof(path), "/proc/%d/environ", (int)pid);
	r = file_read(AT_FDCWD, path, 4u << 20, &data, &size);
	if (r < 0)
		return r == -ENOENT ? -ESRCH : r;
	for (char *p = data; p < data + size; p += strlen(p) + 1)
		if (!strncmp(p, name, len) && p[len] == '=') {
			*ret = strdup(p + len + 1);
			return *ret ? 0 : -ENOMEM;
		}
	return -ENOENT;
}

int proc_for_each(int (*fn)(pid_t pid, void *userdata), void *userdata)
{
	_cleanup_(closedirp) DIR *d = opendir("/proc");
	uid_t me = geteuid();
	struct dirent *e;
	int r = 0;

	if (!d)
		return -errno;
	while (!r && (e = readdir(d))) {
		struct stat st;

		if (!isdigit((unsigned char)e->d_name[0]))
			continue;
		if (fstatat(dirfd(d), e->d_name, &st, 0) < 0 || st.st_uid != me)
			continue;
		r = fn((pid_t)atoi(e->d_name), userdata);
	}
	return r;
}
