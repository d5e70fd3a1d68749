/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Any bytes as a segment: the reader and recovery come to an end, deliver ascending numbers, and agree.
 *
 * The first byte says how many frames the rest is to be dressed up as: their checksums are made right, so that the
 * fuzzer reaches what is behind them. 0 takes the rest as the whole file.
 *
 * The scan below both is run on every input, they themselves on one in sixteen: closing an inotify descriptor takes
 * milliseconds.
 */
#include <assert.h>
#include <endian.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/file.h"
#include "log/segment.h"
#include "log/spool.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static char root[] = "/dev/shm/fuzz-spool-XXXXXX";

static void clean(void)
{
	char cmd[128];

	snprintf(cmd, sizeof(cmd), "rm -rf '%s'", root);
	if (system(cmd))
		abort();
}

static void scan(const struct uuid *source, const unsigned char *file, size_t size)
{
	static int fd = -1;
	struct segment_scan s = { .fd = -1 };
	struct spool_frame f;
	uint64_t last = 0, skipped = 0;
	int k;

	if (fd < 0)
		fd = memfd_create("segment", MFD_CLOEXEC);
	if (ftruncate(fd, 0) < 0 || pwrite(fd, file, size, 0) != (ssize_t)size)
		abort();
	s = (struct segment_scan){ .fd = dup(fd), .salt = segment_salt(source), .offset = SEGMENT_HEADER };
	while ((k = segment_scan_next(&s, &f, &skipped)) > 0) {
		struct record rec;

		assert(f.seq > last && f.size <= SPOOL_FRAME_MAX && s.offset <= size);
		last = f.seq;
		(void)record_decode(f.payload, f.size, &rec);
	}
	assert(k == 0 && skipped <= size);
	segment_scan_close(&s);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const struct uuid source = { { 1, 2, 3 } };
	static const char *const files[] = { "00000000000000000001.seg", "00000000000000000100.seg" };
	static int dirfd = -1;
	static char folder[64];
	_cleanup_(freep) unsigned char *file = malloc(SEGMENT_HEADER + size + 64 * FRAME_HEADER);
	_cleanup_(spool_reader_closep) struct spool_reader *r = NULL;
	_cleanup_(spool_closep) struct spool *s = NULL;
	uint64_t last = 0, skipped, next;
	struct spool_frame f;
	size_t fill = 0;
	int k;

	if (dirfd < 0) {
		if (access("/dev/shm", W_OK) < 0)
			memcpy(root, "/tmp/././", 9);
		if (!mkdtemp(root))
			abort();
		atexit(clean);
		snprintf(folder, sizeof(folder), "%s/s", root);
		if (dir_make_private(folder, NULL) < 0)
			abort();
		dirfd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	}
	if (!size)
		return 0;
	if (data[0]) {
		size_t frames = data[0] % 32 + 1, each = (size - 1) / frames;

		segment_header_write(file, &source, 1);
		fill = SEGMENT_HEADER;
		for (size_t i = 0; i < frames; i++) {
			const uint8_t *p = data + 1 + i * each;

			/* odd first bytes: left as raw bytes, damage between frames */
			if (!each || !(p[0] & 1)) {
				frame_header_write(file + fill, segment_salt(&source), i + 1, RECORD_LOG, (int64_t)i, p, each);
				fill += FRAME_HEADER;
			}
			memcpy(file + fill, p, each);
			fill += each;
		}
	} else {
		memcpy(file, data + 1, size - 1);
		fill = size - 1;
	}
	scan(&source, file, fill);
	if (size % 16)
		return 0;
	/* sometimes cut in two segments */
	if (file_replace(dirfd, "source", "01020300-0000-0000-0000-000000000000\n", 37, 0600, 0) < 0 ||
	    file_replace(dirfd, files[0], file, fill, 0600, 0) < 0)
		abort();
	unlinkat(dirfd, files[1], 0);
	if (size % 48 == 0 && fill > SEGMENT_HEADER)
		if (file_replace(dirfd, files[1], file, fill / 2, 0600, 0) < 0)
			abort();

	if (spool_reader_open(&r, folder, size % 5, NULL) < 0)
		abort();
	while ((k = spool_reader_next(r, &f, &skipped)) > 0) {
		struct record rec;

		assert(f.seq > last && f.size <= SPOOL_FRAME_MAX);
		last = f.seq;
		(void)record_decode(f.payload, f.size, &rec);
	}
	if (spool_open(&s, folder, NULL, NULL) < 0)
		return 0;
	next = spool_get_next_seq(s);
	/* a header with a source of its own makes recovery follow that one; else no number is given twice */
	if (!memcmp(spool_get_source(s), &source, sizeof(source)) && k == 0)
		assert(next > last);
	if (next < SPOOL_SEQ_MAX) {
		static const struct record rec = { .kind = RECORD_LOG, .message = { "x", 1 } };
		uint64_t seq;

		assert(spool_append_record(s, &rec, &seq) == 0 && seq == next);
	}
	s = spool_close(s);
	{
		_cleanup_(closedirp) DIR *d = opendir(folder);
		struct dirent *e;

		while (d && (e = readdir(d)))
			if (strstr(e->d_name, ".torn") || strstr(e->d_name, ".seg"))
				unlinkat(dirfd, e->d_name, 0);
	}
	return 0;
}
