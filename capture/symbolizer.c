/* SPDX-License-Identifier: Apache-2.0 */
/*
 * supervise-symbolizer: one crash, then gone. Snapshot on descriptor 0, raw report on 3, complete report on 1.
 *
 * ELF and DWARF of unknown origin are read here and nowhere else: little memory, little time, no new privileges, no core
 * dump. If it dies the raw report stands.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <unistd.h>

#include "base/file.h"
#include "base/json.h"
#include "capture/postmortem.h"

#if defined(__SANITIZE_ADDRESS__)
#define UNDER_SANITIZER
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define UNDER_SANITIZER
#endif
#endif

enum {
	MEMORY_BYTES = 1 << 30,
	CPU_SECONDS = 10,
	WALL_SECONDS = 14, /* the supervisor waits one more */
	RAW_MAX = 16 << 20,
	RAW_FD = 3,
};

static void limit(void)
{
	const struct rlimit cpu = { CPU_SECONDS, CPU_SECONDS + 1 }, none = { 0, 0 };

	prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
	setrlimit(RLIMIT_CORE, &none);
	setrlimit(RLIMIT_CPU, &cpu);
#ifndef UNDER_SANITIZER /* whose shadow is a map of terabytes */
	const struct rlimit memory = { MEMORY_BYTES, MEMORY_BYTES };

	setrlimit(RLIMIT_AS, &memory);
#endif
	errno = 0;
	(void)!nice(10);
	alarm(WALL_SECONDS);
}

static int read_all(int fd, size_t max, char **ret, size_t *ret_size)
{
	size_t size = 0, room = 1 << 18;
	char *data = malloc(room + 1);

	while (data) {
		ssize_t n = read_full(fd, data + size, room - size);
		char *more;

		if (n < 0) {
			free(data);
			return (int)n;
		}
		size += (size_t)n;
		if (size < room) {
			data[size] = '\0';
			*ret = data;
			*ret_size = size;
			return 0;
		}
		if (room >= max) {
			free(data);
			return -EFBIG;
		}
		room *= 2;
		more = realloc(data, room + 1);
		if (!more)
			free(data);
		data = more;
	}
	return -ENOMEM;
}

int main(void)
{
	_cleanup_(freep) char *snap = NULL, *raw = NULL, *out = NULL;
	_cleanup_json_ cJSON *report = NULL;
	struct snapshot s = { 0 };
	struct error err;
	size_t snap_size, raw_size;
	int r;

	limit();
	r = read_all(RAW_FD, RAW_MAX, &raw, &raw_size);
	if (r < 0) {
		fprintf(stderr, "supervise-symbolizer: raw report on descriptor 3: %s\n", strerror(-r));
		return 1;
	}
	r = json_parse(raw, raw_size, &report, &err);
	if (r < 0) {
		fprintf(stderr, "supervise-symbolizer: raw report on descriptor 3: %s\n", err.text);
		return 1;
	}
	r = read_all(STDIN_FILENO, SNAPSHOT_MAX + 4096, &snap, &snap_size);
	if (r < 0) {
		fprintf(stderr, "supervise-symbolizer: snapshot on standard input: %s\n", strerror(-r));
		return 1;
	}
	if (snap_size) { /* without one the raw report is all there is to say */
		r = snapshot_read(&s, snap, snap_size, &err);
		if (!r)
			r = postmortem_complete(report, &s, &err);
		snapshot_free(&s);
		if (r < 0) {
			fprintf(stderr, "supervise-symbolizer: %s\n", r == -ENOMEM ? "no memory" : err.text);
			return 1;
		}
	}
	out = json_print(report);
	if (!out)
		return 1;
	return write_all(STDOUT_FILENO, out, strlen(out)) < 0;
}
