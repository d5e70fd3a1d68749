/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The producer's end of a spool.
 *
 * What makes a kill at any instant safe: a batch is one write(2) to an O_APPEND file, so a kill leaves a prefix of it.
 * Whole frames of the prefix are records; the rest is the torn tail, which spool_open() cuts off.
 *
 * A sequence number is never given to two different records, because the store takes the number as the proof that it
 * has a record. So when a write fails halfway (a reader may have seen its first frames before they were cut off again)
 * or the newest segment ends in a whole but damaged frame, the numbers in doubt are left out, and a new segment is
 * begun, since a reader may also stand behind the place. These are the only gaps. When all segments have vanished, the
 * spool becomes a new source.
 */
#include "log/spool.h"

#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/file.h"
#include "log/segment.h"

struct spool {
	char *folder;
	int dirfd, lockfd;
	int fd;          /* the newest segment, or -1: made by the next append */
	int previous_fd; /* the one before, until it is synced; or -1 */
	uint64_t size;   /* bytes of the newest segment that are to stay */
	uint64_t first_seq;
	bool cut; /* a failed write may have left bytes behind @size */
	uint64_t next_seq;
	struct uuid source;
	uint32_t salt;
	struct text batch, payload;
};

static int read_source(int dirfd, struct uuid *ret)
{
	_cleanup_(freep) char *text = NULL;
	int r;

	r = file_read(dirfd, "source", 256, &text, NULL);
	if (r < 0)
		return r;
	text[strcspn(text, "\n")] = '\0';
	return uuid_parse(text, ret);
}

int spool_read_source(const char *folder, struct uuid *ret)
{
	_cleanup_(closep) int dirfd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	return dirfd < 0 ? -errno : read_source(dirfd, ret);
}

static int write_source(struct spool *s)
{
	char text[UUID_TEXT_MAX + 1];

	uuid_format(&s->source, text);
	strcat(text, "\n");
	return file_replace(s->dirfd, "source", text, strlen(text), 0600, 1);
}

static int make_source(struct spool *s)
{
	s->source = uuid_make_v7(0);
	return write_source(s);
}

/* The source of the newest segment whose header is whole. Return: 0 or -ENOENT */
static int source_of_segments(int dirfd, const uint64_t *list, size_t n, struct uuid *ret)
{
	char name[SEGMENT_NAME_MAX];
	unsigned char header[SEGMENT_HEADER];
	uint64_t first;

	while (n--) {
		_cleanup_(closep) int fd = openat(dirfd, segment_name(list[n], name),
		    O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
		ssize_t size = fd < 0 ? -1 : read_full(fd, header, sizeof(header));

		if (size > 0 && !segment_header_read(header, (size_t)size, ret, &first))
			return 0;
	}
	return -ENOENT;
}

/* Copies what is behind @offset into a .torn file. Best effort: it holds no whole record. */
static void keep_torn(struct spool *s, uint64_t offset, uint64_t size)
{
	_cleanup_(closep) int out = -1;
	char name[64], chunk[16384];

	snprintf(name, sizeof(name), "%020" PRIu64 ".%" PRId64 ".torn", s->first_seq, clock_now_us());
	out = openat(s->dirfd, name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	while (out >= 0 && offset < size) {
		ssize_t n = pread(s->fd, chunk, sizeof(chunk), (off_t)offset);

		if (n <= 0 || write_all(out, chunk, (size_t)n) < 0)
			break;
		offset += (uint64_t)n;
	}
}

/* Finds the end of the newest segment and cuts off what is no whole frame. */
static int recover(struct spool *s, uint64_t first_seq, uint64_t *ret_torn)
{
	char name[SEGMENT_NAME_MAX];
	struct segment_scan scan = { .fd = -1 };
	unsigned char head[SEGMENT_HEADER];
	struct spool_frame f;
	struct uuid source;
	struct stat st;
	uint64_t skipped = 0, end, header_seq, torn;
	ssize_t n;
	int r;

	s->first_seq = s->next_seq = first_seq;
	s->fd = openat(s->dirfd, segment_name(first_seq, name), O_RDWR | O_APPEND | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
	if (s->fd < 0)
		return -errno;
	if (fstat(s->fd, &st) < 0)
		return -errno;
	if (!S_ISREG(st.st_mode))
		return -EINVAL;

	scan.fd = s->fd;
	scan.salt = s->salt;
	scan.offset = SEGMENT_HEADER;
	scan.last_seq = first_seq - 1;
	while ((r = segment_scan_next(&scan, &f, &skipped)) > 0)
		s->next_seq = f.seq + 1;
	end = scan.offset;
	scan.fd = -1; /* stays ours */
	segment_scan_close(&scan);
	if (r < 0)
		return r;

	n = pread(s->fd, head, sizeof(head), 0);
	if (s->next_seq == first_seq && segment_header_read(head, n < 0 ? 0 : (size_t)n, &source, &header_seq) < 0)
		end = 0; /* neither header nor frame: begun anew */
	torn = (uint64_t)st.st_size > end ? (uint64_t)st.st_size - end : 0;
	if (torn) {
		uint32_t size;

		/* A frame that a kill cut short ends before its size says. One that is all there was damaged later: it
		 * and any that were behind it may be in the store already, and a reader be past them. */
		if (end && torn >= FRAME_HEADER && pread(s->fd, &size, 4, (off_t)end) == 4 &&
		    le32toh(size) <= torn - FRAME_HEADER) {
			s->next_seq += torn / FRAME_HEADER + 1;
			close(TAKE_FD(s->fd));
		} else {
			keep_torn(s, end, (uint64_t)st.st_size);
			if (ftruncate(s->fd, (off_t)end) < 0)
				return -errno;
		}
	}
	s->size = end;
	*ret_torn = torn;
	return 0;
}

/* Begins the segment of the next record; its header is written along with the first batch. */
static int begin_segment(struct spool *s)
{
	char name[SEGMENT_NAME_MAX];
	int fd = openat(s->dirfd, segment_name(s->next_seq, name),
	    O_RDWR | O_CREAT | O_EXCL | O_APPEND | O_CLOEXEC | O_NOFOLLOW, 0600);

	if (fd < 0)
		return -errno;
	s->fd = fd;
	s->size = 0;
	s->cut = false;
	s->first_seq = s->next_seq;
	return 0;
}

int spool_open(struct spool **ret, const char *folder, uint64_t *ret_torn_bytes, struct error *err)
{
	_cleanup_(spool_closep) struct spool *s = calloc(1, sizeof(*s));
	_cleanup_(freep) uint64_t *list = NULL;
	uint64_t torn = 0;
	size_t n;
	int r;

	if (!s)
		return -ENOMEM;
	s->dirfd = s->lockfd = s->fd = s->previous_fd = -1;
	s->folder = strdup(folder);
	if (!s->folder)
		return -ENOMEM;
	r = dir_make_private(folder, err);
	if (r < 0)
		return r;
	s->dirfd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (s->dirfd >= 0)
		s->lockfd = openat(s->dirfd, "lock", O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (s->lockfd < 0)
		return error_set(err, -errno, "cannot open spool %s: %s", folder, strerror(errno));
	if (flock(s->lockfd, LOCK_EX | LOCK_NB) < 0) {
		if (errno == EWOULDBLOCK)
			return error_set(err, -EBUSY, "another process is appending to spool %s", folder);
		return error_set(err, -errno, "cannot lock spool %s: %s", folder, strerror(errno));
	}
	r = segment_list(s->dirfd, &list, &n);
	if (r < 0)
		return error_set(err, r, "cannot list spool %s: %s", folder, strerror(-r));
	if (!n) {
		r = make_source(s); /* even if there was one: its numbers are used up, and nobody knows how far */
	} else {
		struct uuid written;

		/* what the segments say counts: with another source all their frames would look damaged */
		r = read_source(s->dirfd, &written);
		if (source_of_segments(s->dirfd, list, n, &s->source) < 0) {
			if (r < 0)
				r = make_source(s);
			else
				s->source = written;
		} else if (r < 0 || memcmp(&written, &s->source, sizeof(written)) != 0) {
			r = write_source(s);
		}
	}
	if (r < 0)
		return error_set(err, r, "cannot write %s/source: %s", folder, strerror(-r));
	s->salt = segment_salt(&s->source);
	s->next_seq = 1;
	if (n)
		r = recover(s, list[n - 1], &torn);
	else
		r = begin_segment(s);
	if (r == -ENOSPC || r == -EDQUOT)
		r = 0; /* said again, and to somebody who can wait, by spool_append() */
	if (r < 0)
		return error_set(err, r, "cannot open the newest segment of spool %s: %s", folder, strerror(-r));
	if (ret_torn_bytes)
		*ret_torn_bytes = torn;
	*ret = TAKE_PTR(s);
	return 0;
}

struct spool *spool_close(struct spool *s)
{
	if (!s)
		return NULL;
	text_free(&s->payload);
	text_free(&s->batch);
	closep(&s->previous_fd);
	closep(&s->fd);
	closep(&s->lockfd);
	closep(&s->dirfd);
	free(s->folder);
	free(s);
	return NULL;
}

uint64_t spool_get_next_seq(const struct spool *s)
{
	return s->next_seq;
}

const struct uuid *spool_get_source(const struct spool *s)
{
	return &s->source;
}

/* The next record goes to a new segment. */
static void retire(struct spool *s)
{
	if (s->previous_fd >= 0) {
		(void)fdatasync(s->previous_fd);
		close(s->previous_fd);
	}
	s->previous_fd = TAKE_FD(s->fd);
}

/* Removes the bytes that a failed write left, and gives the segment up. */
static int cut_back(struct spool *s)
{
	char name[SEGMENT_NAME_MAX];

	if (ftruncate(s->fd, (off_t)s->size) < 0)
		return -errno;
	if (!s->size)
		(void)unlinkat(s->dirfd, segment_name(s->first_seq, name), 0);
	retire(s);
	s->cut = false;
	return 0;
}

int spool_append(struct spool *s, const struct view *payloads, const enum record_kind *kinds, const int64_t *ts_us,
    size_t n, uint64_t *ret_first_seq)
{
	unsigned char header[SEGMENT_HEADER > FRAME_HEADER ? SEGMENT_HEADER : FRAME_HEADER];
	uint64_t total = 0;
	size_t done = 0;
	int r = 0;

	for (size_t i = 0; i < n; i++) {
		if (payloads[i].size > SPOOL_FRAME_MAX)
			return -EMSGSIZE;
		total += FRAME_HEADER + payloads[i].size;
	}
	if (!n)
		return -EINVAL;
	if (s->cut) {
		r = cut_back(s);
		if (r < 0)
			return r;
	}
	if (s->fd >= 0 && s->size > SEGMENT_HEADER && s->size + total > SPOOL_SEGMENT_BYTES)
		retire(s);
	if (s->fd < 0) {
		r = begin_segment(s);
		if (r < 0)
			return r;
	}

	s->batch.size = 0;
	s->batch.failed = false;
	if (!s->size) {
		segment_header_write(header, &s->source, s->first_seq);
		text_add_bytes(&s->batch, header, SEGMENT_HEADER);
	}
	for (size_t i = 0; i < n; i++) {
		frame_header_write(header, s->salt, s->next_seq + i, kinds[i], ts_us[i], payloads[i].data, payloads[i].size);
		text_add_bytes(&s->batch, header, FRAME_HEADER);
		text_add_bytes(&s->batch, payloads[i].data, payloads[i].size);
	}
	if (s->batch.failed)
		return -ENOMEM;
	while (done < s->batch.size) {
		ssize_t wrote = write(s->fd, s->batch.data + done, s->batch.size - done);

		if (wrote < 0 && errno == EINTR)
			continue;
		if (wrote <= 0) {
			r = wrote < 0 ? -errno : -EIO;
			break;
		}
		done += (size_t)wrote;
	}
	if (r < 0) {
		if (done) {
			s->next_seq += n; /* see the top of this file */
			s->cut = true;
			(void)cut_back(s); /* tried again before the next write */
		}
	} else {
		s->size += s->batch.size;
		if (ret_first_seq)
			*ret_first_seq = s->next_seq;
		s->next_seq += n;
	}
	if (s->batch.room > SPOOL_FRAME_MAX)
		text_free(&s->batch);
	return r;
}

int spool_append_record(struct spool *s, const struct record *r, uint64_t *ret_seq)
{
	struct view v;
	int k;

	s->payload.size = 0;
	s->payload.failed = false;
	k = record_encode(r, &s->payload);
	if (k < 0)
		return k;
	v = (struct view){ s->payload.data, s->payload.size };
	return spool_append(s, &v, &r->kind, &r->ts_us, 1, ret_seq);
}

int spool_sync(struct spool *s)
{
	if (s->previous_fd >= 0) {
		if (fdatasync(s->previous_fd) < 0 || fsync(s->dirfd) < 0)
			return -errno;
		close(TAKE_FD(s->previous_fd));
	}
	if (s->fd >= 0 && fdatasync(s->fd) < 0)
		return -errno;
	return 0;
}

int spool_trim(const char *folder, uint64_t seq)
{
	_cleanup_(closep) int dirfd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	_cleanup_(closedirp) DIR *d = NULL;
	_cleanup_(freep) uint64_t *list = NULL;
	char name[SEGMENT_NAME_MAX];
	struct dirent *e;
	uint64_t kept;
	size_t n;
	int r;

	if (dirfd < 0)
		return -errno;
	r = segment_list(dirfd, &list, &n);
	if (r < 0)
		return r;
	/* a segment ends where the next begins */
	for (size_t i = 0; i + 1 < n && list[i + 1] <= seq + 1; i++) {
		if (unlinkat(dirfd, segment_name(list[i], name), 0) < 0 && errno != ENOENT)
			return -errno;
		list[i] = 0;
	}
	for (kept = 0; kept < n && !list[kept]; kept++)
		;
	if (!kept || kept == n)
		return 0;

	/* with a segment goes what was torn from it */
	d = opendir(folder);
	if (!d)
		return -errno;
	while ((e = readdir(d))) {
		size_t len = strlen(e->d_name);
		uint64_t first;

		if (len < 26 || strspn(e->d_name, "0123456789") != 20 || strcmp(e->d_name + len - 5, ".torn"))
			continue;
		memcpy(name, e->d_name, 20);
		name[20] = '\0';
		if (!parse_u64(name, &first) && first < list[kept])
			(void)unlinkat(dirfd, e->d_name, 0);
	}
	return 0;
}
