/* SPDX-License-Identifier: Apache-2.0 */
/* Scope-bound cleanup. A variable marked _cleanup_(fp) is handed to fp when it leaves scope. */
#pragma once

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define _cleanup_(f) __attribute__((cleanup(f)))

/* Defines FUNC##p(T *), which calls FUNC on what the pointer points at unless that is NULL. */
#define DEFINE_CLEANUP(T, func)                                                                              \
	__attribute__((unused)) static inline void func##p(T *p)                                             \
	{                                                                                                    \
		if (*p)                                                                                      \
			func(*p);                                                                            \
	}

/* Gives away the value of a cleanup variable: yields the pointer and leaves NULL behind. */
#define TAKE_PTR(p)                                                                                          \
	__extension__({                                                                                      \
		__typeof__(p) take_ptr_ = (p);                                                               \
		(p) = NULL;                                                                                  \
		take_ptr_;                                                                                   \
	})

/* The same for a descriptor: yields it and leaves -1 behind. */
#define TAKE_FD(fd)                                                                                          \
	__extension__({                                                                                      \
		int take_fd_ = (fd);                                                                         \
		(fd) = -1;                                                                                   \
		take_fd_;                                                                                    \
	})

#define ARRAY_SIZE(a) (sizeof(a) / sizeof((a)[0]))

__attribute__((unused)) static inline void freep(void *p)
{
	free(*(void **)p);
}

__attribute__((unused)) static inline void closep(int *fd)
{
	if (*fd >= 0)
		close(*fd);
}

__attribute__((unused)) static inline void fclosep(FILE **f)
{
	if (*f)
		fclose(*f);
}

__attribute__((unused)) static inline void closedirp(DIR **d)
{
	if (*d)
		closedir(*d);
}
