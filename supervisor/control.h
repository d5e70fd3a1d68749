/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The control socket: RUNTIME/control.sock, SOCK_STREAM, mode 0600 in a 0700 folder, peers checked with SO_PEERCRED.
 * One request per connection: a JSON object and LF, at most CONTROL_REQUEST_MAX bytes. Answers are JSON objects, one a
 * line; the last has "done":true. Unknown members are ignored on both sides.
 *
 * Requests: {"v":1, "verb":V, ...}
 *   status   {"names":[...]}                    -> lines of "daemon" objects, then done with "supervisor" object
 *   start, stop, restart, kill
 *            {"names":[...], "wait":bool, "timeout_ms":N}
 *                 -> per daemon {"daemon":"train/0","ok":true,"state":"running","pid":N,"message":TEXT}
 *                    or {"daemon":..,"ok":false,"state":..,"error":TEXT}
 *                 start answers once the program was executed or could not be (errno and path in "error"); with "wait" once
 *                 it has also stayed up for a moment (1 s); stop answers once the whole tree is gone (always waits;
 *                 "timeout_ms" 0: as long as it takes); "code" of done: 0, 1 (some failed), 4 (unknown name), 124 (timeout)
 *   signal   {"names":[...], "signal":"HUP", "tree":bool}
 *   up       {"wait":bool,"timeout_ms":N}       start everything that has autostart, as start does
 *   down     {"timeout_ms":N}                   stop all, then the supervisor, writer (spool shipped), keeper
 *   reload   {"config":"FILE below RUNTIME","dry_run":bool}
 *                 -> {"daemon":..,"change":"add|remove|restart|update|same","keys":[...]} per daemon that changes
 *   run      {"config":"FILE below RUNTIME"}    one more daemon, gone when it has ended (supervise run)
 *                 -> {"daemon":..,"ok":true,"pid":N,"run":UUID,"log":PATH} or {"daemon":..,"ok":false,"error":TEXT}, then, once
 *                    output and report are written, {"daemon":..,"ended":true,"exit":{"code"|"signal","core"},"crash",
 *                    "report","log"}
 *            {"attach":"NAME"}                    the same answer for one that runs already
 *   ping     {}                                 -> done with "supervisor"
 *
 * names: exact, "train" for all of train/N, globs (fnmatch), "all". An unknown one: done with "code":4, "error",
 * "suggestion" (nearest name or null), before anything is done.
 *
 * "daemon" object: every member of registry_entry_to_json() plus {"uptime_ms","restart_in_ms"|null,"restart_limit",
 *   "description","experiment","stage","node","drift":bool (config in force differs from what it was started with)}
 * "supervisor" object: {"pid","keeper_pid","started_at","version","project","config","host","logger_pid","writer_pid",
 *   "helper_restarts","problems":[TEXT,...]}
 * done: {"done":true,"code":N,"error":TEXT?}
 */
#pragma once

enum {
	CONTROL_REQUEST_MAX = 1 << 20,
	CONTROL_VERSION = 1,
};
