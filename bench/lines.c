/* SPDX-License-Identifier: Apache-2.0 */
/*
 * lines FOLDER - prints "line PID N" every millisecond and counts what write(2) took in FOLDER/PID.
 *
 * The count is in a shared mapping, so it is right whatever happens to this process. SIGUSR1: print no more, but stay.
 * SIGUSR2: exit 42. A write that fails is counted and the line tried no more: the supervisor lost it.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

struct count {
	uint64_t tried;
	uint64_t refused; /* of those */
	uint64_t quiet;   /* SIGUSR1 has been obeyed: nothing more comes */
};

static volatile sig_atomic_t stop, leave;

static void on_signal(int sig)
{
	if (sig == SIGUSR1)
		stop = 1;
	else
		leave = 1;
}

int main(int argc, char **argv)
{
	struct sigaction sa = { .sa_handler = on_signal };
	struct timespec ms = { 0, 1000000 };
	struct count *c;
	char text[4096];
	int fd, n;

	if (argc < 2)
		return 64;
	snprintf(text, sizeof(text), "%s/%d", argv[1], (int)getpid());
	fd = open(text, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	if (fd < 0 || ftruncate(fd, sizeof(*c)) < 0)
		return 73;
	c = mmap(NULL, sizeof(*c), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (c == MAP_FAILED)
		return 71;
	close(fd);
	sigaction(SIGUSR1, &sa, NULL);
	sigaction(SIGUSR2, &sa, NULL);
	while (!leave) {
		if (stop) {
			c->quiet = 1;
			pause();
			continue;
		}
		n = snprintf(text, sizeof(text), "line %d %llu\n", (int)getpid(), (unsigned long long)c->tried);
		c->tried++; /* first: SIGPIPE may end us in the write */
		if (write(1, text, (size_t)n) != n) /* below PIPE_BUF: whole or not at all */
			c->refused++;
		nanosleep(&ms, NULL);
	}
	return 42;
}
