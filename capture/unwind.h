/* SPDX-License-Identifier: Apache-2.0 */
/* The calls a thread was in, from a snapshot and the files of its modules: libunwind on memory that is long gone. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/cleanup.h"
#include "capture/modules.h"

enum unwind_trust {
	UNWIND_CONTEXT = 0, /* the registers themselves */
	UNWIND_CFI,         /* by the compiler's unwind tables */
	UNWIND_FP,          /* by the chain of frame pointers */
	UNWIND_SCAN,        /* the next word on the stack that looks like a return address */
};

struct unwind_frame {
	uint64_t pc, sp;
	enum unwind_trust trust;
	bool exact;      /* pc is the instruction itself, not the one a call returns to */
	bool signal;     /* the kernel's trampoline: the frame below was interrupted */
	uint32_t repeated, period; /* the last @period frames, this one included, come @repeated times more */
};

struct unwind_stack {
	struct unwind_frame *frames;
	size_t n;
	size_t dropped; /* frames left out in the middle, behind UNWIND_KEEP_FIRST */
	bool cut;       /* the walk ended for want of memory or patience, not at the outermost frame */
};

enum {
	UNWIND_WALK_MAX = 32768,  /* frames walked: 256 KiB of stack hold no more */
	UNWIND_FRAMES_MAX = 1024, /* kept after folding recursion */
	UNWIND_KEEP_FIRST = 128,
	UNWIND_KEEP_LAST = 32,
};

const char *unwind_trust_to_string(enum unwind_trust t);

struct unwinder;

/* @modules is kept. Return: 0 or -ENOMEM */
int unwinder_new(struct unwinder **ret, const struct modules *modules);
struct unwinder *unwinder_free(struct unwinder *u);
DEFINE_CLEANUP(struct unwinder *, unwinder_free)

/**
 * unwind_thread() - all frames of one thread, innermost first
 * @max:  frames to walk at the most
 * @ret:  to be given to unwind_stack_free(); whatever could be found, at least the program counter
 *
 * Return:  0 or -ENOMEM
 */
int unwind_thread(struct unwinder *u, const struct snapshot_thread *t, size_t max, struct unwind_stack *ret);
void unwind_stack_free(struct unwind_stack *s);
