/* SPDX-License-Identifier: Apache-2.0 */
/*
 * stamp FIFO ID - an idle daemon: says when it reached its first instruction, then waits for ever.
 *
 * Linked statically, so that what is measured is the supervisor and not the dynamic linker.
 */
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

struct stamp {
	uint64_t at_ns; /* CLOCK_MONOTONIC */
	uint32_t pid;
	uint32_t id;
};

int main(int argc, char **argv)
{
	struct stamp s;
	struct timespec ts;
	int fd;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	if (argc < 3)
		return 64;
	s.at_ns = (uint64_t)ts.tv_sec * 1000000000 + (uint64_t)ts.tv_nsec;
	s.pid = (uint32_t)getpid();
	s.id = (uint32_t)atoi(argv[2]);
	fd = open(argv[1], O_WRONLY | O_CLOEXEC);
	if (fd < 0 || write(fd, &s, sizeof(s)) != sizeof(s)) /* below PIPE_BUF: whole or not at all */
		return 74;
	if (argc > 3) { /* s6: this descriptor wants a newline once the service is ready */
		if (write(atoi(argv[3]), "\n", 1) != 1)
			return 74;
		close(atoi(argv[3]));
	}
	close(fd);
	for (;;)
		pause();
}
