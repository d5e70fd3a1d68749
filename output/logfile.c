/* SPDX-License-Identifier: Apache-2.0 */
#include "output/logfile.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zstd.h>

#include "base/clock.h"
#include "base/file.h"

enum { ZSTD_LEVEL = 3, CHUNK = 128 << 10 };

int logfile_open(int dirfd, const char *file)
{
	char name[NAME_MAX + 1];
	_cleanup_(closep) int fd = -1;
	struct stat st;

	if ((size_t)snprintf(name, sizeof(name), "%s.log", file) >= sizeof(name))
		return -ENAMETOOLONG;
	/* O_NONBLOCK: should somebody have put a FIFO there, that open must not wait */
	fd = openat(dirfd, name, O_RDWR | O_APPEND | O_CREAT | O_CLOEXEC | O_NOFOLLOW | O_NOCTTY | O_NONBLOCK, 0600);
	if (fd < 0)
		return -errno;
	if (fstat(fd, &st) < 0)
		return -errno;
	if (!S_ISREG(st.st_mode))
		return -EINVAL;
	return TAKE_FD(fd);
}

/* How many bytes of @data the file has from @at on. */
static size_t common_prefix(int fd, off_t at, const char *data, size_t size)
{
	_cleanup_(freep) char *buf = malloc(CHUNK);
	size_t done = 0;

	while (buf && done < size) {
		size_t want = size - done < CHUNK ? size - done : CHUNK;
		ssize_t n = pread(fd, buf, want, at + (off_t)done);
		size_t i = 0;

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			break;
		while (i < (size_t)n && buf[i] == data[done + i])
			i++;
		done += i;
		if (i < (size_t)n)
			break;
	}
	return done;
}

int logfile_append(int fd, struct parcel *p, const char *data)
{
	size_t done = 0;
	struct stat st;

	if (fstat(fd, &st) < 0)
		return -errno;
	if (p->mark) {
		/* another file by now: none of it is there */
		if (p->mark == st.st_ino && (uint64_t)st.st_size > p->before)
			done = common_prefix(fd, (off_t)p->before, data, p->size);
	} else {
		p->before = (uint64_t)st.st_size;
		__atomic_store_n(&p->mark, (uint64_t)st.st_ino, __ATOMIC_SEQ_CST);
	}
	return write_all(fd, data + done, p->size - done);
}

int logfile_take_back(int fd, const struct parcel *p)
{
	struct stat st;

	if (fstat(fd, &st) < 0)
		return -errno;
	if (!p->mark || p->mark != st.st_ino || (uint64_t)st.st_size <= p->before ||
	    (uint64_t)st.st_size - p->before > p->size)
		return 0;
	return ftruncate(fd, (off_t)p->before) < 0 ? -errno : 0;
}

int logfile_look(int fd, uint64_t *ret_size, bool *ret_at_line)
{
	struct stat st;
	char c = '\n';

	if (fstat(fd, &st) < 0)
		return -errno;
	if (!st.st_nlink)
		return -ESTALE;
	if (st.st_size > 0 && ret_at_line && pread(fd, &c, 1, st.st_size - 1) < 0)
		return -errno;
	*ret_size = (uint64_t)st.st_size;
	if (ret_at_line)
		*ret_at_line = c == '\n';
	return 0;
}

bool logfile_is_rotated(const char *name, char *ret_file, const char **ret_suffix)
{
	static const char shape[] = ".log.00000000T000000.000000Z-000000"; /* '0' for a digit */
	size_t n = strlen(name), fixed = sizeof(shape) - 1;
	const char *suffix = "", *p;

	for (const char *const *s = (const char *const[]){ ".zst.tmp", ".zst", NULL }; *s; s++)
		if (n > strlen(*s) && !strcmp(name + n - strlen(*s), *s)) {
			n -= strlen(*s);
			suffix = name + n;
			break;
		}
	if (n <= fixed || n - fixed >= DAEMON_NAME_MAX)
		return false;
	p = name + n - fixed;
	for (size_t i = 0; i < fixed; i++)
		if (shape[i] == '0' ? !isdigit((unsigned char)p[i]) : p[i] != shape[i])
			return false;
	memcpy(ret_file, name, n - fixed);
	ret_file[n - fixed] = '\0';
	*ret_suffix = suffix;
	return true;
}

int logfile_rotate(int dirfd, const char *file, int64_t now_us)
{
	char from[NAME_MAX + 1], to[NAME_MAX + 1], zst[NAME_MAX + 8], time[CLOCK_TEXT_MAX], *w = time;

	clock_format_utc(now_us, time);
	for (const char *r = time; *r; r++) /* 2026-11-23T18:01:03.412345Z -> 20261123T180103.412345Z */
		if (*r != '-' && *r != ':')
			*w++ = *r;
	*w = '\0';
	if ((size_t)snprintf(from, sizeof(from), "%s.log", file) >= sizeof(from))
		return -ENAMETOOLONG;
	/* nobody else makes names here, so looking first is enough; renameat2() is missing on network file systems */
	for (unsigned i = 1; i < 1000000; i++) {
		if ((size_t)snprintf(to, sizeof(to), "%s.%s-%06u", from, time, i) >= sizeof(to))
			return -ENAMETOOLONG;
		snprintf(zst, sizeof(zst), "%s.zst", to);
		if (!faccessat(dirfd, to, F_OK, AT_SYMLINK_NOFOLLOW) || !faccessat(dirfd, zst, F_OK, AT_SYMLINK_NOFOLLOW))
			continue;
		return renameat(dirfd, from, dirfd, to) < 0 ? -errno : 0;
	}
	return -EEXIST;
}

/* All names in a folder that are rotated files; of one daemon, or of all with file NULL. */
struct names {
	char **names;
	size_t n;
};

static void names_free(struct names *l)
{
	for (size_t i = 0; i < l->n; i++)
		free(l->names[i]);
	free(l->names);
}

static int compare(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

static int list(int dirfd, const char *file, struct names *ret)
{
	int fd = openat(dirfd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	_cleanup_(closedirp) DIR *d = fd < 0 ? NULL : fdopendir(fd);
	struct dirent *e;

	if (!d)
		return -errno;
	while ((e = readdir(d))) {
		char whose[DAEMON_NAME_MAX];
		const char *suffix;
		char **p;

		if (!logfile_is_rotated(e->d_name, whose, &suffix) || (file && strcmp(file, whose)))
			continue;
		p = realloc(ret->names, (ret->n + 1) * sizeof(*p));
		if (!p)
			return -ENOMEM;
		ret->names = p;
		p[ret->n] = strdup(e->d_name);
		if (!p[ret->n])
			return -ENOMEM;
		ret->n++;
	}
	if (ret->n)
		qsort(ret->names, ret->n, sizeof(*ret->names), compare); /* the time is the order */
	return 0;
}

/* Without ".zst" and ".zst.tmp". */
static size_t base_size(const char *name)
{
	const char *suffix;
	char file[DAEMON_NAME_MAX];

	return logfile_is_rotated(name, file, &suffix) ? strlen(name) - strlen(suffix) : strlen(name);
}

int logfile_prune(int dirfd, const char *file, unsigned keep)
{
	_cleanup_(names_free) struct names l = { 0 };
	unsigned kept = 0;
	int r = list(dirfd, file, &l);

	if (r < 0)
		return r;
	for (size_t i = l.n; i-- > 0;) {
		size_t n = base_size(l.names[i]);

		/* a file and its compressed twin count once */
		if (i + 1 == l.n || base_size(l.names[i + 1]) != n || strncmp(l.names[i], l.names[i + 1], n))
			kept++;
		if (kept > keep && unlinkat(dirfd, l.names[i], 0) < 0 && errno != ENOENT)
			r = -errno;
	}
	return r;
}

int logfile_newest_rotated(int dirfd, const char *file, char *ret)
{
	_cleanup_(names_free) struct names l = { 0 };
	int r = list(dirfd, file, &l);

	if (r < 0)
		return r;
	while (l.n && !strcmp(l.names[l.n - 1] + base_size(l.names[l.n - 1]), ".zst.tmp")) {
		l.n--;
		free(l.names[l.n]);
	}
	if (!l.n)
		return -ENOENT;
	snprintf(ret, NAME_MAX + 1, "%s", l.names[l.n - 1]);
	return 0;
}

static void free_cctx(ZSTD_CCtx **c)
{
	ZSTD_freeCCtx(*c);
}

static void free_dctx(ZSTD_DCtx **c)
{
	ZSTD_freeDCtx(*c);
}

int logfile_compress(int dirfd, const char *name)
{
	_cleanup_(closep) int in = -1;
	_cleanup_(closep) int out = -1;
	_cleanup_(freep) char *from = malloc(CHUNK), *to = malloc(CHUNK);
	_cleanup_(free_cctx) ZSTD_CCtx *c = ZSTD_createCCtx();
	char tmp[NAME_MAX + 16], zst[NAME_MAX + 8];
	struct stat st;
	bool last = false;
	int r = 0;

	if (!from || !to || !c)
		return -ENOMEM;
	snprintf(zst, sizeof(zst), "%s.zst", name);
	snprintf(tmp, sizeof(tmp), "%s.zst.tmp", name);
	in = openat(dirfd, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
	if (in < 0)
		return -errno;
	if (fstat(in, &st) < 0)
		return -errno;
	if (!S_ISREG(st.st_mode))
		return -EINVAL;
	if (flock(in, LOCK_EX | LOCK_NB) < 0)
		return -errno;
	(void)unlinkat(dirfd, tmp, 0); /* of somebody who was killed */
	out = openat(dirfd, tmp, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (out < 0)
		return -errno;
	ZSTD_CCtx_setParameter(c, ZSTD_c_compressionLevel, ZSTD_LEVEL);
	ZSTD_CCtx_setParameter(c, ZSTD_c_checksumFlag, 1);
	ZSTD_CCtx_setPledgedSrcSize(c, (unsigned long long)st.st_size);
	while (!r && !last) {
		ssize_t n = read_full(in, from, CHUNK);
		ZSTD_inBuffer src = { from, n < 0 ? 0 : (size_t)n, 0 };
		size_t left;

		if (n < 0) {
			r = (int)n;
			break;
		}
		last = n < CHUNK;
		do {
			ZSTD_outBuffer dst = { to, CHUNK, 0 };

			left = ZSTD_compressStream2(c, &dst, &src, last ? ZSTD_e_end : ZSTD_e_continue);
			if (ZSTD_isError(left)) {
				r = -EIO; /* the size has changed under us, which nobody should do */
				break;
			}
			r = write_all(out, to, dst.pos);
		} while (!r && (last ? left != 0 : src.pos < src.size));
	}
	if (!r && fdatasync(out) < 0) /* the original goes next */
		r = -errno;
	if (!r && renameat(dirfd, tmp, dirfd, zst) < 0)
		r = -errno;
	if (!r && unlinkat(dirfd, name, 0) < 0)
		r = -errno;
	if (r < 0)
		unlinkat(dirfd, tmp, 0);
	return r;
}

static bool to_compress(const char *name, bool (*wanted)(const char *file, void *userdata), void *userdata)
{
	char file[DAEMON_NAME_MAX];
	const char *suffix;

	return logfile_is_rotated(name, file, &suffix) && !*suffix && wanted(file, userdata);
}

bool logfile_any_to_compress(int dirfd, bool (*wanted)(const char *file, void *userdata), void *userdata)
{
	_cleanup_(names_free) struct names l = { 0 };

	if (list(dirfd, NULL, &l) < 0)
		return false;
	for (size_t i = 0; i < l.n; i++)
		if (to_compress(l.names[i], wanted, userdata))
			return true;
	return false;
}

void logfile_compress_all(int dirfd, bool (*wanted)(const char *file, void *userdata), void *userdata)
{
	_cleanup_(names_free) struct names l = { 0 };

	if (list(dirfd, NULL, &l) < 0)
		return;
	for (size_t i = 0; i < l.n; i++)
		if (to_compress(l.names[i], wanted, userdata))
			(void)logfile_compress(dirfd, l.names[i]); /* a failure leaves the file as it is, for the next time */
}

/* Keeps the last max bytes of what is added. */
static void add_end(struct text *t, size_t start, size_t max, const char *data, size_t size)
{
	text_add_bytes(t, data, size);
	if (t->failed || t->size - start <= 2 * max)
		return;
	memmove(t->data + start, t->data + t->size - max, max);
	t->size = start + max;
	t->data[t->size] = '\0';
}

int logfile_read_end(int dirfd, const char *name, size_t max, struct text *out)
{
	_cleanup_(closep) int fd = openat(dirfd, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
	_cleanup_(freep) char *from = malloc(CHUNK), *to = NULL;
	_cleanup_(free_dctx) ZSTD_DCtx *c = NULL;
	size_t start = out->size, n = strlen(name), total = 0;
	struct stat st;
	ssize_t got;

	if (fd < 0)
		return -errno;
	if (!from)
		return -ENOMEM;
	if (fstat(fd, &st) < 0)
		return -errno;
	if (!S_ISREG(st.st_mode))
		return -EINVAL;
	if (n < 4 || strcmp(name + n - 4, ".zst")) {
		off_t at = st.st_size > (off_t)max ? st.st_size - (off_t)max : 0;

		while ((got = pread(fd, from, CHUNK, at)) > 0) {
			add_end(out, start, max, from, (size_t)got);
			at += got;
		}
		total = (size_t)st.st_size;
		goto done;
	}
	to = malloc(CHUNK);
	c = ZSTD_createDCtx();
	if (!to || !c)
		return -ENOMEM;
	ZSTD_DCtx_setParameter(c, ZSTD_d_windowLogMax, 23); /* 8 MiB; ours need 2 */
	while ((got = read_full(fd, from, CHUNK)) > 0) {
		ZSTD_inBuffer src = { from, (size_t)got, 0 };

		while (src.pos < src.size) {
			ZSTD_outBuffer dst = { to, CHUNK, 0 };
			size_t r = ZSTD_decompressStream(c, &dst, &src);

			if (ZSTD_isError(r))
				return -EBADMSG;
			add_end(out, start, max, to, dst.pos);
			total += dst.pos;
		}
	}
done:
	if (got < 0)
		return -EIO;
	if (out->failed)
		return -ENOMEM;
	if (out->size - start > max) {
		memmove(out->data + start, out->data + out->size - max, max);
		out->size = start + max;
		out->data[out->size] = '\0';
	}
	return total <= max;
}
