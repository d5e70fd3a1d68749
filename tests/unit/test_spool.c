/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/file.h"
#include "log/segment.h"
#include "log/spool.h"

struct fixture {
	char root[64];
	char folder[80];
};

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));

	strcpy(f->root, "/tmp/test-spool-XXXXXX");
	assert_non_null(mkdtemp(f->root));
	snprintf(f->folder, sizeof(f->folder), "%s/spool", f->root);
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;
	char cmd[128];

	snprintf(cmd, sizeof(cmd), "rm -rf '%s'", f->root);
	assert_int_equal(system(cmd), 0);
	free(f);
	return 0;
}

static struct spool *open_spool(const char *folder, uint64_t *ret_torn)
{
	struct spool *s = NULL;
	struct error err = { "" };

	if (spool_open(&s, folder, ret_torn, &err) < 0)
		fail_msg("%s", err.text);
	return s;
}

static struct spool_reader *open_reader(const char *folder, uint64_t after)
{
	struct spool_reader *r = NULL;
	struct error err = { "" };

	if (spool_reader_open(&r, folder, after, &err) < 0)
		fail_msg("%s", err.text);
	return r;
}

/* The record "number N", with a message of @size bytes in all. */
static void append_number(struct spool *s, unsigned number, size_t size)
{
	_cleanup_(freep) char *text = malloc(size + 1);
	struct record rec = { .kind = RECORD_LOG, .ts_us = number, .level = LEVEL_INFO };
	int n = snprintf(text, size + 1, "number %u", number);

	if ((size_t)n < size)
		memset(text + n, '.', size - (size_t)n);
	rec.message = (struct view){ text, size };
	assert_int_equal(spool_append_record(s, &rec, NULL), 0);
}

/* Reads to the present end. Every frame must carry its own number. Return: how many */
static unsigned read_all(struct spool_reader *r, uint64_t *ret_first, uint64_t *ret_last, uint64_t *ret_skipped)
{
	uint64_t skipped, all = 0;
	struct spool_frame f;
	struct record rec;
	unsigned n = 0;
	int k;

	while ((k = spool_reader_next(r, &f, &skipped)) > 0) {
		all += skipped;
		assert_int_equal(record_decode(f.payload, f.size, &rec), 0);
		assert_int_equal(rec.ts_us, f.ts_us);
		assert_memory_equal(rec.message.data, "number ", 7);
		if (!n++ && ret_first)
			*ret_first = f.seq;
		if (ret_last)
			*ret_last = f.seq;
	}
	assert_int_equal(k, 0);
	if (ret_skipped)
		*ret_skipped = all + skipped;
	return n;
}

static unsigned count_files(const char *folder, const char *end)
{
	_cleanup_(closedirp) DIR *d = opendir(folder);
	struct dirent *e;
	unsigned n = 0;

	while (d && (e = readdir(d)))
		if (strlen(e->d_name) > strlen(end) && !strcmp(e->d_name + strlen(e->d_name) - strlen(end), end))
			n++;
	return n;
}

static void segment_path(const struct fixture *f, uint64_t first, char *ret)
{
	char name[SEGMENT_NAME_MAX];

	snprintf(ret, 128, "%s/%s", f->folder, segment_name(first, name));
}

static void test_what_is_appended_is_read_in_order(void **state)
{
	struct fixture *f = *state;
	_cleanup_(spool_closep) struct spool *s = open_spool(f->folder, NULL);
	_cleanup_(spool_reader_closep) struct spool_reader *r = open_reader(f->folder, 0);
	_cleanup_(spool_reader_closep) struct spool_reader *later = open_reader(f->folder, 90);
	uint64_t first, last, skipped;
	struct uuid source;
	struct stat st;
	char path[128];

	assert_int_equal(read_all(r, NULL, NULL, NULL), 0);
	for (unsigned i = 1; i <= 100; i++) {
		assert_int_equal(spool_get_next_seq(s), i);
		append_number(s, i, 50);
	}
	assert_int_equal(read_all(r, &first, &last, &skipped), 100);
	assert_int_equal(first, 1);
	assert_int_equal(last, 100);
	assert_int_equal(skipped, 0);
	assert_int_equal(read_all(later, &first, &last, &skipped), 10);
	assert_int_equal(first, 91);
	assert_int_equal(spool_reader_sync(r), 0);
	assert_int_equal(spool_sync(s), 0);
	assert_int_equal(spool_read_source(f->folder, &source), 0);
	assert_memory_equal(&source, spool_get_source(s), sizeof(source));
	segment_path(f, 1, path);
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_mode & 07777, 0600);
	assert_int_equal(stat(f->folder, &st), 0);
	assert_int_equal(st.st_mode & 07777, 0700);
}

static void test_numbers_go_on_after_reopening(void **state)
{
	struct fixture *f = *state;
	struct spool *s = open_spool(f->folder, NULL);
	struct uuid source = *spool_get_source(s);
	_cleanup_(spool_reader_closep) struct spool_reader *r = open_reader(f->folder, 0);
	uint64_t torn = 99;

	append_number(s, 1, 10);
	append_number(s, 2, 10);
	spool_close(s);
	s = open_spool(f->folder, &torn);
	assert_int_equal(torn, 0);
	assert_memory_equal(&source, spool_get_source(s), sizeof(source));
	assert_int_equal(spool_get_next_seq(s), 3);
	append_number(s, 3, 10);
	spool_close(s);
	assert_int_equal(read_all(r, NULL, NULL, NULL), 3);
}

static void test_a_second_producer_is_refused(void **state)
{
	struct fixture *f = *state;
	_cleanup_(spool_closep) __attribute__((unused)) struct spool *s = open_spool(f->folder, NULL);
	struct spool *second = NULL;
	struct error err;

	assert_int_equal(spool_open(&second, f->folder, NULL, &err), -EBUSY);
	assert_null(second);
	assert_non_null(strstr(err.text, "another process"));
	append_number(s, 1, 10);
}

static void test_a_batch_spans_segments_and_is_trimmed(void **state)
{
	struct fixture *f = *state;
	_cleanup_(spool_closep) struct spool *s = open_spool(f->folder, NULL);
	_cleanup_(spool_reader_closep) struct spool_reader *r = open_reader(f->folder, 0);
	uint64_t first, last;
	unsigned n = 0;

	while (count_files(f->folder, ".seg") < 4)
		append_number(s, ++n, 700000);
	assert_int_equal(read_all(r, &first, &last, NULL), n);
	assert_int_equal(last, n);
	assert_int_equal(spool_trim(f->folder, 0), 0);
	assert_int_equal(count_files(f->folder, ".seg"), 4);
	assert_int_equal(spool_trim(f->folder, 30), 0);
	assert_int_equal(count_files(f->folder, ".seg"), 3);
	{
		_cleanup_(spool_reader_closep) struct spool_reader *late = open_reader(f->folder, 30);

		assert_int_equal(read_all(late, &first, &last, NULL), n - 30);
		assert_int_equal(first, 31);
	}
	assert_int_equal(spool_trim(f->folder, n), 0);
	assert_int_equal(count_files(f->folder, ".seg"), 1);
	append_number(s, ++n, 10);
	assert_int_equal(read_all(r, &first, &last, NULL), 1);
	assert_int_equal(last, n);
	assert_int_equal(spool_sync(s), 0);
}

static void test_a_torn_tail_is_cut_off_and_kept(void **state)
{
	struct fixture *f = *state;
	struct spool *s = open_spool(f->folder, NULL);
	char path[128];
	struct stat st;
	off_t whole;

	append_number(s, 1, 100);
	append_number(s, 2, 100);
	segment_path(f, 1, path);
	assert_int_equal(stat(path, &st), 0);
	whole = st.st_size;
	append_number(s, 3, 100);
	spool_close(s);
	/* every way in which a kill can cut the last frame short */
	assert_int_equal(stat(path, &st), 0);
	for (off_t end = st.st_size - 1; end >= whole; end -= end > whole + 30 ? 13 : 1) {
		_cleanup_(spool_reader_closep) struct spool_reader *r = NULL;
		uint64_t torn, skipped, last;

		assert_int_equal(truncate(path, end), 0);
		s = open_spool(f->folder, &torn);
		assert_int_equal(torn, end - whole);
		assert_int_equal(spool_get_next_seq(s), 3);
		append_number(s, 3, 100);
		spool_close(s);
		r = open_reader(f->folder, 0);
		assert_int_equal(read_all(r, NULL, &last, &skipped), 3);
		assert_int_equal(skipped, 0);
		assert_int_equal(last, 3);
	}
	assert_true(count_files(f->folder, ".torn") > 30);
}

static void test_a_segment_killed_in_its_header_is_begun_anew(void **state)
{
	struct fixture *f = *state;
	char path[128];

	segment_path(f, 1, path);
	for (off_t end = 0; end < SEGMENT_HEADER; end += 9) {
		struct spool *s = open_spool(f->folder, NULL);
		_cleanup_(spool_reader_closep) struct spool_reader *r = NULL;
		uint64_t torn;

		if (!end)
			append_number(s, 1, 10);
		spool_close(s);
		assert_int_equal(truncate(path, end), 0);
		s = open_spool(f->folder, &torn);
		assert_int_equal(torn, end);
		append_number(s, 1, 10);
		r = open_reader(f->folder, 0);
		assert_int_equal(read_all(r, NULL, NULL, NULL), 1);
		spool_close(s);
	}
}

static void flip(const char *path, off_t at)
{
	int fd = open(path, O_RDWR | O_CLOEXEC);
	unsigned char c;

	assert_int_equal(pread(fd, &c, 1, at), 1);
	c ^= 0x10;
	assert_int_equal(pwrite(fd, &c, 1, at), 1);
	close(fd);
}

static void test_a_flipped_bit_costs_one_record(void **state)
{
	struct fixture *f = *state;
	struct spool *s = open_spool(f->folder, NULL);
	uint64_t skipped, last, torn;
	char path[128];
	struct stat st;
	off_t frame;

	for (unsigned i = 1; i <= 10; i++)
		append_number(s, i, 20);
	spool_close(s);
	segment_path(f, 1, path);
	assert_int_equal(stat(path, &st), 0);
	frame = (st.st_size - SEGMENT_HEADER) / 10;
	/* every byte of the fifth frame, its size and number too */
	for (off_t at = SEGMENT_HEADER + 4 * frame; at < SEGMENT_HEADER + 5 * frame; at++) {
		_cleanup_(spool_reader_closep) struct spool_reader *r = open_reader(f->folder, 0);

		flip(path, at);
		assert_int_equal(read_all(r, NULL, &last, &skipped), 9);
		assert_int_equal(last, 10);
		assert_int_equal(skipped, frame);
		/* recovery cuts nothing off that has whole frames behind it */
		s = open_spool(f->folder, &torn);
		assert_int_equal(torn, 0);
		assert_int_equal(spool_get_next_seq(s), 11);
		spool_close(s);
		flip(path, at);
	}
	/* the header: its frames are read all the same */
	for (off_t at = 0; at < SEGMENT_HEADER; at += 5) {
		_cleanup_(spool_reader_closep) struct spool_reader *r = open_reader(f->folder, 0);

		flip(path, at);
		assert_int_equal(read_all(r, NULL, &last, &skipped), 10);
		s = open_spool(f->folder, &torn);
		assert_int_equal(spool_get_next_seq(s), 11);
		spool_close(s);
		flip(path, at);
	}
}

static void test_the_number_of_a_damaged_last_record_is_not_given_again(void **state)
{
	struct fixture *f = *state;
	struct spool *s = open_spool(f->folder, NULL);
	_cleanup_(spool_reader_closep) struct spool_reader *r = open_reader(f->folder, 0);
	uint64_t torn, last;
	char path[128];
	struct stat st;

	append_number(s, 1, 20);
	append_number(s, 2, 20);
	assert_int_equal(read_all(r, NULL, NULL, NULL), 2);
	spool_close(s);
	segment_path(f, 1, path);
	assert_int_equal(stat(path, &st), 0);
	flip(path, st.st_size - 3);
	s = open_spool(f->folder, &torn);
	assert_true(torn > 0);
	assert_true(spool_get_next_seq(s) > 2);
	append_number(s, 3, 20);
	spool_close(s);
	assert_int_equal(read_all(r, NULL, &last, NULL), 1); /* a reader that has 2 sees the new one */
	assert_true(last > 2);
}

static void test_a_damaged_end_of_an_older_segment_is_passed(void **state)
{
	struct fixture *f = *state;
	_cleanup_(spool_closep) struct spool *s = open_spool(f->folder, NULL);
	_cleanup_(spool_reader_closep) struct spool_reader *r = open_reader(f->folder, 0);
	uint64_t skipped, last;
	unsigned n = 0;
	char path[128];
	struct stat st;

	while (count_files(f->folder, ".seg") < 2)
		append_number(s, ++n, 900000);
	segment_path(f, 1, path);
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(truncate(path, st.st_size - 100), 0);
	assert_int_equal(read_all(r, NULL, &last, &skipped), n - 1);
	assert_int_equal(last, n);
	assert_true(skipped > 800000);
}

static void test_a_reader_may_come_before_the_folder(void **state)
{
	struct fixture *f = *state;
	_cleanup_(spool_closep) struct spool *s = NULL;
	_cleanup_(spool_reader_closep) struct spool_reader *r = NULL;
	char deep[128];
	struct pollfd p;

	snprintf(deep, sizeof(deep), "%s/a/b/spool", f->root);
	r = open_reader(deep, 0);
	p = (struct pollfd){ .fd = spool_reader_get_fd(r), .events = POLLIN };
	assert_int_equal(read_all(r, NULL, NULL, NULL), 0);
	assert_int_equal(poll(&p, 1, 0), 0);
	s = open_spool(deep, NULL);
	assert_int_equal(poll(&p, 1, 5000), 1);
	assert_int_equal(read_all(r, NULL, NULL, NULL), 0);
	assert_int_equal(poll(&p, 1, 0), 0); /* drained */
	append_number(s, 1, 10);
	assert_int_equal(poll(&p, 1, 5000), 1);
	assert_int_equal(read_all(r, NULL, NULL, NULL), 1);
	assert_int_equal(poll(&p, 1, 0), 0);
}

static void test_a_vanished_spool_is_a_new_source(void **state)
{
	struct fixture *f = *state;
	struct spool *s = open_spool(f->folder, NULL);
	_cleanup_(spool_reader_closep) struct spool_reader *r = open_reader(f->folder, 0);
	struct uuid old = *spool_get_source(s);
	struct spool_frame frame;
	char path[128];

	append_number(s, 1, 10);
	assert_int_equal(read_all(r, NULL, NULL, NULL), 1);
	spool_close(s);
	segment_path(f, 1, path);
	assert_int_equal(unlink(path), 0);
	assert_int_equal(spool_reader_next(r, &frame, NULL), 0);
	s = open_spool(f->folder, NULL);
	assert_memory_not_equal(&old, spool_get_source(s), sizeof(old));
	append_number(s, 1, 10);
	assert_int_equal(spool_reader_next(r, &frame, NULL), -ESTALE);
	spool_close(s);
}

static void test_a_removed_folder_is_noticed_and_its_successor_read(void **state)
{
	struct fixture *f = *state;
	struct spool *s = open_spool(f->folder, NULL);
	_cleanup_(spool_reader_closep) struct spool_reader *r = open_reader(f->folder, 0);
	struct pollfd p = { .fd = spool_reader_get_fd(r), .events = POLLIN };
	struct spool_frame frame;
	char cmd[128];

	append_number(s, 1, 10);
	assert_int_equal(read_all(r, NULL, NULL, NULL), 1);
	spool_close(s);
	snprintf(cmd, sizeof(cmd), "rm -r '%s'", f->folder);
	assert_int_equal(system(cmd), 0);
	assert_int_equal(poll(&p, 1, 5000), 1);
	assert_int_equal(spool_reader_next(r, &frame, NULL), 0);
	s = open_spool(f->folder, NULL);
	append_number(s, 1, 10);
	assert_int_equal(poll(&p, 1, 5000), 1);
	assert_int_equal(spool_reader_next(r, &frame, NULL), -ESTALE);
	spool_close(s);
}

/* A reader must never take a frame whose end is just being written for damage. */
static void test_a_reader_beside_a_busy_producer_skips_nothing(void **state)
{
	struct fixture *f = *state;
	_cleanup_(spool_reader_closep) struct spool_reader *r = open_reader(f->folder, 0);
	uint64_t expected = 1, last = 0, skipped;
	int status;
	pid_t pid = fork();

	if (!pid) {
		struct spool *s = open_spool(f->folder, NULL);

		for (unsigned i = 1; i <= 30000; i++)
			append_number(s, i, 20 + i * 997 % 3000);
		_exit(0);
	}
	for (bool done = false; !done || expected <= last; expected = last + 1) {
		uint64_t first = 0;
		unsigned n;

		done = waitpid(pid, &status, WNOHANG) == pid || done;
		n = read_all(r, &first, &last, &skipped);
		assert_int_equal(skipped, 0);
		if (n) {
			assert_int_equal(first, expected);
			assert_int_equal(last - first + 1, n);
		}
		if (done && !n)
			break;
	}
	assert_int_equal(last, 30000);
}

static void test_a_lost_or_foreign_source_file_is_restored_from_the_segments(void **state)
{
	struct fixture *f = *state;
	struct spool *s = open_spool(f->folder, NULL);
	struct uuid source = *spool_get_source(s), now;
	char path[128];

	append_number(s, 1, 10);
	spool_close(s);
	snprintf(path, sizeof(path), "%s/source", f->folder);
	for (int i = 0; i < 3; i++) {
		uint64_t torn;

		assert_int_equal(unlink(path), 0);
		if (i)
			assert_int_equal(file_replace(AT_FDCWD, path,
					     i == 1 ? "garbage\n" : "0198c2f1-0000-7000-8000-000000000001\n",
					     i == 1 ? 8 : 37, 0600, 0),
			    0);
		s = open_spool(f->folder, &torn);
		assert_memory_equal(&source, spool_get_source(s), sizeof(source));
		assert_int_equal(torn, 0);
		assert_int_equal(spool_get_next_seq(s), 2);
		spool_close(s);
		assert_int_equal(spool_read_source(f->folder, &now), 0);
		assert_memory_equal(&source, &now, sizeof(source));
	}
}

/* Fills the disk, then removes @filler. */
static void full_disk(const char *folder, const char *filler)
{
	struct spool *s = open_spool(folder, NULL);
	_cleanup_(spool_reader_closep) struct spool_reader *r = NULL;
	char text[3000];
	struct record rec = { .kind = RECORD_LOG, .level = LEVEL_INFO, .message = { text, sizeof(text) } };
	uint64_t last, seq, good = 0;
	int k;

	memset(text, '.', sizeof(text));
	memcpy(text, "number ", 7);
	while (!(k = spool_append_record(s, &rec, &seq)))
		good++;
	assert_int_equal(k, -ENOSPC);
	assert_true(good > 5);
	for (int i = 0; i < 5; i++)
		assert_int_equal(spool_append_record(s, &rec, &seq), k);
	r = open_reader(folder, 0);
	assert_int_equal(read_all(r, NULL, &last, NULL), good);
	assert_int_equal(unlink(filler), 0);
	assert_int_equal(spool_append_record(s, &rec, &seq), 0);
	assert_true(seq > good);
	assert_int_equal(read_all(r, NULL, &last, NULL), 1);
	assert_int_equal(last, seq);
	spool_close(s);
	s = open_spool(folder, &last);
	assert_int_equal(last, 0); /* nothing half-written was left */
	assert_int_equal(spool_get_next_seq(s), seq + 1);
	spool_close(s);
}

static void test_a_write_cut_short_leaves_nothing_of_its_batch(void **state)
{
	struct fixture *f = *state;
	_cleanup_(spool_closep) struct spool *s = open_spool(f->folder, NULL);
	_cleanup_(spool_reader_closep) struct spool_reader *r = open_reader(f->folder, 0);
	char text[3000];
	struct view v[10];
	enum record_kind kinds[10];
	int64_t ts[10] = { 0 };
	_cleanup_text_ struct text payload = { 0 };
	struct record rec = { .kind = RECORD_LOG, .message = { text, sizeof(text) } };
	struct rlimit old, small;
	uint64_t torn, seq, last, good = 0;
	int k;

	memset(text, '.', sizeof(text));
	memcpy(text, "number ", 7);
	assert_int_equal(record_encode(&rec, &payload), 0);
	for (int i = 0; i < 10; i++) {
		v[i] = (struct view){ payload.data, payload.size };
		kinds[i] = RECORD_LOG;
	}
	signal(SIGXFSZ, SIG_IGN);
	assert_int_equal(getrlimit(RLIMIT_FSIZE, &old), 0);
	small = (struct rlimit){ 100000, old.rlim_max };
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
	while (!(k = spool_append(s, v, kinds, ts, 10, &seq)))
		good += 10;
	setrlimit(RLIMIT_FSIZE, &old);
	assert_int_equal(k, -EFBIG);
	assert_int_equal(good, 30);
	assert_int_equal(read_all(r, NULL, &last, NULL), good);
	assert_int_equal(spool_append(s, v, kinds, ts, 10, &seq), 0);
	assert_int_equal(seq, good + 11); /* the numbers of the failed batch stay unused */
	assert_int_equal(read_all(r, NULL, &last, &torn), 10);
	assert_int_equal(torn, 0);
	spool_close(TAKE_PTR(s));
	s = open_spool(f->folder, &torn);
	assert_int_equal(torn, 0);
	assert_int_equal(spool_get_next_seq(s), good + 21);
}

static void test_a_full_disk_leaves_nothing(void **state)
{
	struct fixture *f = *state;
	char folder[160], filler[200], zeros[4096] = { 0 };
	int fd;

	snprintf(folder, sizeof(folder), "%s/small", f->root);
	assert_int_equal(mkdir(folder, 0700), 0);
	if (mount("none", folder, "tmpfs", 0, "size=256k") < 0)
		return; /* needs root */
	snprintf(filler, sizeof(filler), "%s/filler", folder);
	fd = open(filler, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
	for (int i = 0; i < 32; i++)
		assert_int_equal(write_all(fd, zeros, sizeof(zeros)), 0);
	close(fd);
	snprintf(folder, sizeof(folder), "%s/small/spool", f->root);
	full_disk(folder, filler);
	snprintf(folder, sizeof(folder), "%s/small", f->root);
	assert_int_equal(umount2(folder, MNT_DETACH), 0);
}

static void test_a_killed_producer_leaves_whole_records(void **state)
{
	struct fixture *f = *state;
	_cleanup_(spool_reader_closep) struct spool_reader *r = open_reader(f->folder, 0);
	uint64_t first, last, expected = 1, skipped;
	unsigned n;

	for (int round = 0; round < 40; round++) {
		struct spool *s;
		int pipefd[2], status;
		char c;
		pid_t pid;

		assert_int_equal(pipe(pipefd), 0);
		pid = fork();
		if (!pid) {
			close(pipefd[0]);
			s = open_spool(f->folder, NULL);
			for (unsigned i = 0;; i++) {
				append_number(s, i, 20 + i * 997 % 9000);
				if (i == 20 && write(pipefd[1], "x", 1) != 1)
					_exit(1);
			}
		}
		close(pipefd[1]);
		assert_int_equal(read(pipefd[0], &c, 1), 1);
		close(pipefd[0]);
		usleep((useconds_t)(round * 137 % 1500)); /* a different moment each round, not a wait */
		kill(pid, SIGKILL);
		assert_int_equal(waitpid(pid, &status, 0), pid);
		s = open_spool(f->folder, NULL);
		n = read_all(r, &first, &last, &skipped);
		assert_true(n > 20);
		assert_int_equal(skipped, 0);
		assert_int_equal(first, expected);
		assert_int_equal(last - first + 1, n);
		expected = last + 1;
		assert_int_equal(spool_get_next_seq(s), expected);
		spool_close(s);
		assert_int_equal(spool_trim(f->folder, last), 0);
	}
}

static void test_too_large_a_payload_is_refused_before_anything_is_written(void **state)
{
	struct fixture *f = *state;
	_cleanup_(spool_closep) struct spool *s = open_spool(f->folder, NULL);
	_cleanup_(freep) char *big = calloc(1, SPOOL_FRAME_MAX + 1);
	const struct view v[] = { { "a", 1 }, { big, SPOOL_FRAME_MAX + 1 } };
	const enum record_kind kinds[] = { RECORD_LOG, RECORD_LOG };
	const int64_t ts[] = { 1, 2 };

	assert_int_equal(spool_append(s, v, kinds, ts, 2, NULL), -EMSGSIZE);
	assert_int_equal(spool_append(s, v, kinds, ts, 0, NULL), -EINVAL);
	assert_int_equal(spool_get_next_seq(s), 1);
}

static void test_foreign_files_in_the_folder_do_no_harm(void **state)
{
	struct fixture *f = *state;
	struct spool *s = open_spool(f->folder, NULL);
	_cleanup_(spool_reader_closep) struct spool_reader *r = open_reader(f->folder, 0);
	char path[160];
	uint64_t last;

	append_number(s, 1, 10);
	/* a link, a folder, a fifo and a short file with names of segments, and numbers that are none */
	snprintf(path, sizeof(path), "%s/00000000000000000000.seg", f->folder);
	assert_int_equal(symlink("/etc/passwd", path), 0);
	snprintf(path, sizeof(path), "%s/99999999999999999999.seg", f->folder);
	assert_int_equal(mkdir(path, 0700), 0);
	snprintf(path, sizeof(path), "%s/00000000000000000001.seg.bak", f->folder);
	assert_int_equal(mkfifo(path, 0600), 0);
	append_number(s, 2, 10);
	assert_int_equal(read_all(r, NULL, &last, NULL), 2);
	spool_close(s);
	s = open_spool(f->folder, NULL);
	assert_int_equal(spool_get_next_seq(s), 3);
	spool_close(s);
}

int main(void)
{
#define TEST(t) cmocka_unit_test_setup_teardown(t, setup, teardown)
	static const struct CMUnitTest tests[] = {
		TEST(test_what_is_appended_is_read_in_order),
		TEST(test_numbers_go_on_after_reopening),
		TEST(test_a_second_producer_is_refused),
		TEST(test_a_batch_spans_segments_and_is_trimmed),
		TEST(test_a_torn_tail_is_cut_off_and_kept),
		TEST(test_a_segment_killed_in_its_header_is_begun_anew),
		TEST(test_a_flipped_bit_costs_one_record),
		TEST(test_the_number_of_a_damaged_last_record_is_not_given_again),
		TEST(test_a_damaged_end_of_an_older_segment_is_passed),
		TEST(test_a_reader_may_come_before_the_folder),
		TEST(test_a_vanished_spool_is_a_new_source),
		TEST(test_a_removed_folder_is_noticed_and_its_successor_read),
		TEST(test_a_reader_beside_a_busy_producer_skips_nothing),
		TEST(test_a_lost_or_foreign_source_file_is_restored_from_the_segments),
		TEST(test_a_write_cut_short_leaves_nothing_of_its_batch),
		TEST(test_a_full_disk_leaves_nothing),
		TEST(test_a_killed_producer_leaves_whole_records),
		TEST(test_too_large_a_payload_is_refused_before_anything_is_written),
		TEST(test_foreign_files_in_the_folder_do_no_harm),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
