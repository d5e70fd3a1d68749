/* SPDX-License-Identifier: Apache-2.0 */
/* CRC-32C (Castagnoli, RFC 3720 appendix B.4): the checksum of spool frames, journals and snapshots. */
#pragma once

#include <stddef.h>
#include <stdint.h>

/* Continues @crc (0 to begin) over @size bytes. */
uint32_t crc32c(uint32_t crc, const void *data, size_t size);
