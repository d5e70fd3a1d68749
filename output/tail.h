/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The last lines of a daemon, for its crash report. Read back from its log file when they are asked for: a daemon that
 * is not dying costs nothing, and a logger that was just restarted knows as much as one that was not.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "base/json.h"
#include "output/settings.h"

/**
 * tail_collect() - the last lines, oldest first
 * @dirfd:   the log folder
 * @since:   size the log file had when this incarnation began; what is before is not looked at
 * @since_inode: of that file; 0: not known, look at everything
 * @parked, @parked_size:  what could not be written to the file yet
 *
 * Return:  an array of {"time", "stream", "text"}; the caller frees. time and stream are null in format raw.
 */
cJSON *tail_collect(int dirfd, const struct settings *s, uint64_t since_inode, uint64_t since, const char *parked,
    size_t parked_size);
