/* SPDX-License-Identifier: Apache-2.0 */
/* The event types of pipeline_events that the supervisor and its helpers write. One list for producers and readers. */
#pragma once

#define EVENT_PROCESS_START   "process_start"   /* a daemon's program was executed */
#define EVENT_PROCESS_EXIT    "process_exit"    /* ended as it should: success, or stopped on request */
#define EVENT_PROCESS_FAILURE "process_failure" /* ended with a status that counts as failure */
#define EVENT_PROCESS_CRASH   "process_crash"   /* killed by a signal that nobody on our side sent */
#define EVENT_EXEC_FAILURE    "exec_failure"    /* the program could not be executed */
#define EVENT_PROCESS_FAILED  "process_failed"  /* given up: too many restarts in the window */
#define EVENT_STOP_KILLED     "stop_killed"     /* did not end within stop.timeout and was killed */
#define EVENT_EXIT_UNKNOWN    "exit_unknown"    /* gone while nobody could learn how */
#define EVENT_SUPERVISOR_START "supervisor_start"
#define EVENT_SUPERVISOR_STOP  "supervisor_stop"
#define EVENT_HELPER_RESTART   "helper_restart" /* logger, writer or the supervisor itself died and was restarted */
#define EVENT_CONFIG_RELOAD    "config_reload"
#define EVENT_LOG_DAMAGE       "log_damage"     /* spool or log file had a torn or corrupt part */
