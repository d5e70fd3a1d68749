/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Between supervisor and logger: JSON objects, one per SOCK_SEQPACKET message of at most OUTPUT_MESSAGE_MAX bytes, on
 * the logger's descriptor 3. The supervisor never waits for an answer. End of file on the socket tells the logger to
 * finish what it has read, and exit 0; a new supervisor starts a new logger, which waits for the old one's lock
 * (RUNTIME/logger.lock) before it touches a FIFO.
 *
 * Supervisor to logger
 *   {"op":"open", "daemon":"train/0", "run":UUID, "pid":N, "format":"json|text|raw", "level":"INFO",
 *    "max_size":BYTES, "keep":N, "compress":"zstd|none", "store":true|false,
 *    "experiment":TEXT|null, "stage":TEXT|null, "node":TEXT|null}
 *        begin reading RUNTIME/fifo/FILE.out and FILE.err (made by the supervisor before; without a FILE.err stderr goes
 *        to stdout's), write STATE/log/FILE.log; again for a daemon already open: replaces these values (new
 *        incarnation, reload), and ends an unfinished line when run or format are others. Lines get the values in
 *        force when they are read: send it before the program is executed, and "drain" of the last incarnation before.
 *   {"op":"drain", "daemon":..., "id":"TEXT", "deadline_ms":N}
 *        the process has ended: read until both FIFOs are empty or the deadline, end partial lines, answer "drained";
 *        what waits when it arrives is read before the next message is looked at
 *   {"op":"close", "daemon":...}    drain, then close files and FIFOs (the supervisor has removed the daemon)
 *   {"op":"rotate", "daemon":...}   rotate now
 *
 * Logger to supervisor
 *   {"op":"ready"}                  lock held, earlier state recovered
 *   {"op":"drained", "daemon":..., "id":..., "complete":bool,
 *    "tail":[{"time":RFC3339, "stream":"stdout|stderr", "text":TEXT}, ...]}    the last lines, oldest first,
 *        of this run, at most OUTPUT_TAIL_LINES and OUTPUT_TAIL_BYTES of text; read back from the log file, so with
 *        format raw time and stream are null. A daemon that is not open is drained at once, with no lines.
 *   {"op":"problem", "daemon":TEXT|null, "title":TEXT, "details":{...}}         log file or spool cannot be written, ...
 */
#pragma once

enum {
	OUTPUT_MESSAGE_MAX = 160 * 1024, /* below the default socket buffer */
	OUTPUT_TAIL_LINES = 64,
	OUTPUT_TAIL_BYTES = 64 * 1024,
	OUTPUT_CONTROL_FD = 3,
};
