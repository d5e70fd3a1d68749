/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The snapshot: what was copied out of a process while it was held, and the one format between the capture thread, which
 * makes it, and the symbolizer, which unwinds it.
 *
 *   header    "SVSNAP1\n", u32 version, u32 CRC-32C of all that follows the header, u64 bytes that follow, u32 machine, u32 0
 *   section   u32 type, u32 0, u64 size, then size bytes and padding to a multiple of 8; repeated to the end
 *
 * Little endian (both machines we know are). Unknown sections are skipped. The reader trusts nothing: the bytes of the
 * process are hostile, and so may be the file.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/cleanup.h"
#include "base/error.h"
#include "capture/protocol.h"

enum {
	SNAPSHOT_VERSION = 1,
	SNAPSHOT_MAX = 64 << 20,
	SNAPSHOT_THREADS_MAX = 4096,
	SNAPSHOT_REGIONS_MAX = 16384,
	SNAPSHOT_MAPS_MAX = 65536, /* lines */
};

enum snapshot_section_type {
	SNAPSHOT_INFO = 1, /* struct snapshot_info, once, first */
	SNAPSHOT_MAPS,     /* text of /proc/PID/maps, once */
	SNAPSHOT_THREAD,   /* struct snapshot_thread, one each; the crashed one first */
	SNAPSHOT_MEMORY,   /* u64 address, then the bytes */
	SNAPSHOT_EXE,      /* text: what /proc/PID/exe pointed to */
	SNAPSHOT_NOTE,     /* text: one thing that is missing, and why */
};

enum {
	SNAPSHOT_THREAD_CRASHED = 1,
	SNAPSHOT_THREAD_PASSIVE = 2,     /* pc and sp alone, read without stopping it */
	SNAPSHOT_THREAD_NOT_STOPPED = 4, /* did not stop in time: no registers */
};

struct snapshot_info {
	int32_t pid, tid; /* as the supervisor sees them */
	int32_t signal, code;
	uint64_t address;     /* si_addr, for faults */
	int32_t sender_pid;   /* with code <= 0 */
	uint32_t sender_uid;
	int64_t wall_us;      /* when it was taken */
	uint64_t start_ticks; /* of the process */
	uint32_t held_us;     /* up to the verdict */
	uint32_t mode;        /* enum capture_mode */
	uint32_t n_threads;   /* that the process had; more than there are sections if some are missing */
	uint32_t uid;
	char comm[16];
	char sender_comm[16];
	/* the signal was sent by the process itself: what the thread had faulted for before that, if it is known */
	uint64_t original_address;
	int32_t original_code; /* 0: not known */
	uint32_t reserved32;
	uint64_t reserved[2];
};

struct snapshot_thread {
	int32_t tid;
	uint32_t flags;
	char comm[16];
	char state; /* of /proc/PID/task/TID/stat before it was stopped; 0: unknown */
	char pad[7];
	int64_t syscall; /* number it waits in, -1: none known */
	uint32_t n_regs;
	uint32_t reserved;
	uint64_t regs[CAPTURE_REGS_MAX];
};

/* --- making one ---------------------------------------------------------------------------------------------------- */

struct snapshot_writer {
	uint8_t *data;
	size_t size, room;
	bool failed;
};

/* Begins with the header. The writer is all zero before. */
void snapshot_begin(struct snapshot_writer *w);
void snapshot_add(struct snapshot_writer *w, uint32_t type, const void *data, size_t size);
void snapshot_add_memory(struct snapshot_writer *w, uint64_t address, const void *data, size_t size);
void snapshot_add_note(struct snapshot_writer *w, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* Checksum and length. Return: 0, or -ENOMEM if something before ran out of memory, -EFBIG */
int snapshot_end(struct snapshot_writer *w);
void snapshot_writer_free(struct snapshot_writer *w);

/* --- reading one --------------------------------------------------------------------------------------------------- */

struct snapshot_region {
	uint64_t address, size;
	const uint8_t *data;
};

struct vma {
	uint64_t start, end, offset, inode;
	bool read, write, exec, shared;
	bool deleted;      /* the name ended in " (deleted)", which is taken off */
	const char *path;  /* "" for anonymous memory; "[stack]", "[vdso]", ... */
};

struct snapshot {
	struct snapshot_info info;
	struct snapshot_thread *threads;
	size_t n_threads;
	struct snapshot_region *regions; /* ascending by address; later ones win where they overlap */
	size_t n_regions;
	struct vma *vmas; /* ascending, not overlapping */
	size_t n_vmas;
	char *maps_text; /* the vmas' paths point into it */
	char exe[4096];
	char notes[16][160];
	size_t n_notes;
};

/**
 * snapshot_read() - check and take apart
 * @data:  the file; borrowed: must outlive @ret
 *
 * Return:  0; -EINVAL with @err; -ENOMEM
 */
int snapshot_read(struct snapshot *ret, const void *data, size_t size, struct error *err);
void snapshot_free(struct snapshot *s);

/* The first @size bytes of @data belong to a snapshot made for this machine. For fuzzers: makes the checksum right. */
void snapshot_fix_checksum(void *data, size_t size);

/* Copies @size bytes at @address out of the memory sections. Return: 0 or -EFAULT */
int snapshot_read_memory(const struct snapshot *s, uint64_t address, void *ret, size_t size);

/* The mapping that @address lies in, or NULL. */
const struct vma *vma_find(const struct vma *vmas, size_t n, uint64_t address);

/**
 * maps_parse() - text of /proc/PID/maps as an array
 * @text:      NUL-terminated; cut into strings, which the result points to
 * @ret:       the caller frees
 *
 * Malformed, descending and overlapping lines are skipped.
 *
 * Return:  0 or -ENOMEM
 */
int maps_parse(char *text, struct vma **ret, size_t *ret_n);
