/* SPDX-License-Identifier: Apache-2.0 */
/* Files: whole reads, whole writes, atomic replacement, private folders. */
#pragma once

#include <stddef.h>
#include <sys/types.h>
#include <sys/uio.h>

#include "base/error.h"

/* write(2) until all is written. Return: 0 or -errno */
int write_all(int fd, const void *data, size_t size);

/* read(2) until @size bytes or the end. Return: bytes read, or -errno */
ssize_t read_full(int fd, void *ret, size_t size);

/**
 * file_read() - a whole file as a NUL-terminated string
 * @dirfd:     folder @path is relative to, or AT_FDCWD
 * @max:       the most bytes accepted; more is -EFBIG
 * @ret:       the bytes and a NUL; the caller frees
 * @ret_size:  bytes without the NUL; may be NULL
 *
 * Works on /proc files, whose st_size is 0.
 *
 * Return:  0 or -errno
 */
int file_read(int dirfd, const char *path, size_t max, char **ret, size_t *ret_size);

/**
 * file_replace() - put new contents in place of a file, all or nothing
 * @dirfd:  folder @path is relative to, or AT_FDCWD
 * @mode:   of the new file, exactly
 * @sync:   fdatasync(2) before the rename and fsync(2) of the folder after it: survives power loss too
 *
 * Writes "PATH.tmp.PID" and renames it: a reader sees the old or the new file, and a writer killed at any instant
 * leaves at most that temporary file.
 *
 * Return:  0 or -errno
 */
int file_replace(int dirfd, const char *path, const void *data, size_t size, mode_t mode, int sync);

/**
 * dir_make_private() - make a folder and its parents 0700, and see that it is ours
 * @path:  absolute
 * @err:   filled when the folder belongs to another user, is a link, or others may write to it
 *
 * Return:  0 or -errno
 */
int dir_make_private(const char *path, struct error *err);

/* Close-on-exec, kept away from 0..2. Return: the descriptor, or -errno */
int fd_above_stdio(int fd);

/* Whether @path lies on a file system that several hosts may share (NFS, Lustre, GPFS, CIFS, FUSE...). 1, 0, -errno */
int path_is_network(const char *path);

/* Waits until nobody else holds the flock(2) on @fd, and takes it. Return: 0 or -errno */
int file_lock_wait(int fd);
