/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Log files: FILE.log in STATE/log, and what became of it: FILE.log.20261123T180103.412345Z-000001, then the same with
 * ".zst". The names alone say what is left to do, so nothing about rotation has to be remembered over a kill.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/text.h"
#include "output/stage.h"

/* Opens (makes) FILE.log for appending; 0600, a regular file and no link. Return: the descriptor or -errno */
int logfile_open(int dirfd, const char *file);

/**
 * logfile_append() - append a parcel, or what is missing of it
 * @p:  its mark and before are set ahead of the first byte; from then on the file itself tells how much of it is there
 *
 * After an error some of it may have been written; calling it again goes on from there.
 *
 * Return:  0 or -errno
 */
int logfile_append(int fd, struct parcel *p, const char *data);

/* Takes back what an unfinished logfile_append() has written. Return: 0 or -errno */
int logfile_take_back(int fd, const struct parcel *p);

/* Size, and whether it ends at the end of a line. Return: 0 or -errno; -ESTALE when the file was removed */
int logfile_look(int fd, uint64_t *ret_size, bool *ret_at_line);

/* Gives FILE.log its rotated name. The caller closes its descriptor. Return: 0 or -errno */
int logfile_rotate(int dirfd, const char *file, int64_t now_us);

/* Removes the oldest rotated files of FILE until @keep are left. Return: 0 or -errno */
int logfile_prune(int dirfd, const char *file, unsigned keep);

/* Whether @name is a rotated file. @ret_file: DAEMON_NAME_MAX bytes, whose it is. @ret_suffix: "", ".zst", ... */
bool logfile_is_rotated(const char *name, char *ret_file, const char **ret_suffix);

/**
 * logfile_compress() - make NAME.zst of NAME, then remove NAME
 *
 * Killed before the new file has its name: NAME is whole and a NAME.zst.tmp is left that the next attempt overwrites.
 * Killed before NAME is removed: both are whole, and the next attempt removes NAME.
 *
 * Return:  0; -EWOULDBLOCK when another process is at it; -errno
 */
int logfile_compress(int dirfd, const char *name);

/* Whether a rotated file waits for compression, given who wants it. */
bool logfile_any_to_compress(int dirfd, bool (*wanted)(const char *file, void *userdata), void *userdata);

/* Compresses all of them; for a short-lived process. */
void logfile_compress_all(int dirfd, bool (*wanted)(const char *file, void *userdata), void *userdata);

/* The newest rotated file of FILE. @ret: NAME_MAX + 1 bytes. Return: 0 or -ENOENT, -errno */
int logfile_newest_rotated(int dirfd, const char *file, char *ret);

/* Adds the last @max bytes of a file to @out, decompressed if its name ends in .zst. Return: 0 or -errno; 1: that is
 * all of it */
int logfile_read_end(int dirfd, const char *name, size_t max, struct text *out);
