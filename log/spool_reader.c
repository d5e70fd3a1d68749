/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The consumer's end of a spool. It takes no lock and writes nothing.
 *
 * No wake-up is lost: inotify events are drained first and the file is looked at again afterwards, so what is appended
 * later leaves an event behind. While the folder does not exist, its nearest ancestor is watched instead.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/file.h"
#include "log/segment.h"
#include "log/spool.h"

struct spool_reader {
	char *folder;
	int inotify;
	int watch;        /* of the folder, or of an ancestor */
	int dirfd;        /* -1: the folder does not exist (yet) */
	uint64_t segment; /* FIRSTSEQ of the open one */
	uint64_t last_seq;
	bool finished; /* a newer segment exists: nothing more comes to this one */
	bool has_source;
	bool folder_synced; /* the open segment's directory entry is durable */
	struct uuid source;
	struct segment_scan scan; /* fd -1: none */
};

/* Watches the folder, or the nearest ancestor that exists. Return: 1 the folder is watched, 0 an ancestor, -errno */
static int watch(struct spool_reader *r)
{
	const uint32_t mask = IN_CREATE | IN_MOVED_TO | IN_DELETE | IN_DELETE_SELF | IN_MOVE_SELF | IN_ONLYDIR;
	char path[PATH_MAX];
	int wd;

	for (;;) {
		bool whole = true;

		strcpy(path, r->folder);
		while ((wd = inotify_add_watch(r->inotify, path, whole ? mask | IN_MODIFY : mask)) < 0) {
			char *slash = strrchr(path, '/');

			if (errno != ENOENT || !slash)
				return -errno;
			whole = false;
			slash[slash == path] = '\0';
		}
		if (r->watch >= 0 && r->watch != wd)
			(void)inotify_rm_watch(r->inotify, r->watch);
		r->watch = wd;
		if (whole)
			return 1;
		/* has the next step of the path come into being meanwhile? */
		strncpy(path + strlen(path), r->folder + strlen(path), strcspn(r->folder + strlen(path) + 1, "/") + 1);
		if (access(path, F_OK) < 0)
			return 0;
	}
}

static void forget_folder(struct spool_reader *r)
{
	segment_scan_close(&r->scan);
	closep(&r->dirfd);
	r->dirfd = -1; /* also what lets IN_DELETE_SELF come: not while the folder is open somewhere */
	r->finished = false;
}

/* Return: 1 something happened, 0 nothing, -errno */
static int drain(struct spool_reader *r)
{
	_Alignas(struct inotify_event) char buf[4096];
	int any = 0;

	for (;;) {
		ssize_t n = read(r->inotify, buf, sizeof(buf));

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return errno == EAGAIN ? any : -errno;
		any = 1;
		for (ssize_t i = 0; i < n;) {
			struct inotify_event e;

			memcpy(&e, buf + i, sizeof(e));
			if (e.wd == r->watch && (e.mask & (IN_DELETE_SELF | IN_MOVE_SELF | IN_IGNORED))) {
				if (!(e.mask & IN_IGNORED))
					(void)inotify_rm_watch(r->inotify, r->watch);
				r->watch = -1;
				forget_folder(r);
			}
			i += (ssize_t)(sizeof(e) + e.len);
		}
	}
}

int spool_reader_open(struct spool_reader **ret, const char *folder, uint64_t after_seq, struct error *err)
{
	_cleanup_(spool_reader_closep) struct spool_reader *r = calloc(1, sizeof(*r));

	if (!r)
		return -ENOMEM;
	r->inotify = r->watch = r->dirfd = r->scan.fd = -1;
	r->last_seq = after_seq;
	if (folder[0] != '/' || strlen(folder) >= PATH_MAX)
		return error_set(err, -EINVAL, "'%s' is no absolute path of usable length", folder);
	r->folder = strdup(folder);
	if (!r->folder)
		return -ENOMEM;
	for (size_t n = strlen(folder); n > 1 && r->folder[n - 1] == '/'; n--)
		r->folder[n - 1] = '\0';
	r->inotify = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);
	if (r->inotify < 0)
		return error_set(err, -errno, "cannot watch spool %s: %s (see /proc/sys/fs/inotify/max_user_instances)",
		    folder, strerror(errno));
	*ret = TAKE_PTR(r);
	return 0;
}

struct spool_reader *spool_reader_close(struct spool_reader *r)
{
	if (!r)
		return NULL;
	forget_folder(r);
	closep(&r->inotify);
	free(r->folder);
	free(r);
	return NULL;
}

int spool_reader_get_fd(const struct spool_reader *r)
{
	return r->inotify;
}

/*
 * Opens segment @first in place of the one that is open.
 * Return: 1; 0 there is nothing to read in it (gone, not begun yet, no file of ours); -ESTALE another source; -errno
 */
static int open_segment(struct spool_reader *r, uint64_t first, uint64_t *ret_skipped)
{
	_cleanup_(closep) int fd = -1;
	char name[SEGMENT_NAME_MAX];
	unsigned char header[SEGMENT_HEADER];
	struct uuid source;
	struct stat st;
	uint64_t header_seq;
	ssize_t n;

	fd = openat(r->dirfd, segment_name(first, name), O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
	if (fd < 0)
		return errno == ENOENT || errno == ELOOP || errno == ENXIO ? 0 : -errno;
	if (fstat(fd, &st) < 0)
		return -errno;
	if (!S_ISREG(st.st_mode))
		return 0;
	n = read_full(fd, header, sizeof(header));
	if (n < 0)
		return (int)n;
	if (n < SEGMENT_HEADER)
		return 0;
	if (!segment_header_read(header, (size_t)n, &source, &header_seq)) {
		if (r->has_source && memcmp(&source, &r->source, sizeof(source)) != 0)
			return -ESTALE;
	} else if (r->has_source) {
		source = r->source; /* a damaged header is no reason to give up its frames */
	} else if (spool_read_source(r->folder, &source) < 0) {
		return 0; /* without the source no frame can be checked */
	}
	if (r->scan.fd >= 0) {
		if (!fstat(r->scan.fd, &st) && (uint64_t)st.st_size > r->scan.offset)
			*ret_skipped += (uint64_t)st.st_size - r->scan.offset;
		(void)fdatasync(r->scan.fd); /* spool_reader_sync() no longer reaches it */
	}
	segment_scan_close(&r->scan);
	r->source = source;
	r->has_source = true;
	r->scan = (struct segment_scan){
		.fd = TAKE_FD(fd),
		.salt = segment_salt(&source),
		.offset = SEGMENT_HEADER,
		.last_seq = first - 1,
	};
	r->segment = first;
	r->finished = false;
	r->folder_synced = false;
	return 1;
}

/*
 * Goes on to the next segment: the one behind the open one, or, when none is open, the one that last_seq + 1 is in.
 * Return: 1 look again; 0 there is none; -errno
 */
static int advance(struct spool_reader *r, uint64_t *ret_skipped)
{
	_cleanup_(freep) uint64_t *list = NULL;
	size_t n, i = 0;
	int k;

	k = segment_list(r->dirfd, &list, &n);
	if (k == -ENOENT) /* the folder itself was removed */
		n = 0;
	else if (k < 0)
		return k;
	if (r->scan.fd >= 0)
		while (i < n && list[i] <= r->segment)
			i++;
	else
		while (i + 1 < n && list[i + 1] <= r->last_seq + 1)
			i++;
	if (i == n)
		return 0;
	if (r->scan.fd >= 0 && !r->finished) {
		r->finished = true; /* something may have been appended before the newer one was made */
		return 1;
	}
	for (k = 0; !k && i < n; i++)
		k = open_segment(r, list[i], ret_skipped);
	return k;
}

/* Whether the open segment was removed by somebody, with nothing behind it. */
static bool is_unlinked(struct spool_reader *r)
{
	struct stat st;

	return r->scan.fd >= 0 && !fstat(r->scan.fd, &st) && st.st_nlink == 0;
}

/* Return: 1 and a frame; 0 nothing more at present; -errno */
static int look(struct spool_reader *r, struct spool_frame *ret, uint64_t *ret_skipped)
{
	int k;

	if (r->dirfd < 0) {
		k = watch(r);
		if (k <= 0)
			return k;
		r->dirfd = open(r->folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		if (r->dirfd < 0)
			return errno == ENOENT ? 0 : -errno;
	}
	for (;;) {
		if (r->scan.fd >= 0) {
			k = segment_scan_next(&r->scan, ret, ret_skipped);
			if (k < 0)
				return k;
			if (k > 0 && ret->seq <= r->last_seq)
				continue;
			if (k > 0) {
				r->last_seq = ret->seq;
				return 1;
			}
		}
		k = advance(r, ret_skipped);
		if (k < 0)
			return k;
		if (!k && is_unlinked(r)) {
			segment_scan_close(&r->scan);
			continue;
		}
		if (!k) {
			if (r->scan.fd < 0)
				forget_folder(r);
			return 0;
		}
	}
}

int spool_reader_next(struct spool_reader *r, struct spool_frame *ret, uint64_t *ret_skipped_bytes)
{
	uint64_t skipped = 0;
	int k;

	do {
		k = look(r, ret, &skipped);
		if (k)
			break;
		k = drain(r);
	} while (k > 0);
	if (ret_skipped_bytes)
		*ret_skipped_bytes = skipped;
	return k;
}

int spool_reader_sync(struct spool_reader *r)
{
	if (r->scan.fd < 0)
		return 0;
	if (!r->folder_synced && fsync(r->dirfd) < 0 && errno != EINVAL)
		return -errno;
	r->folder_synced = true;
	return fdatasync(r->scan.fd) < 0 ? -errno : 0;
}
