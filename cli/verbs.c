/* SPDX-License-Identifier: Apache-2.0 */
/* The one table of verbs and options: help, completion, the manual's synopsis and the parser all read it. */
#include <string.h>

#include "cli/cli.h"

const struct cli_option cli_options[] = {
	{ "config", 'c', "FILE", "configuration file" },
	{ "project", 'p', "NAME", "project, when no configuration file is at hand" },
	{ "json", 0, NULL, "machine-readable output" },
	{ "no-headings", 0, NULL, "no heading line in tables" },
	{ "color", 0, "WHEN", "auto, always or never" },
	{ "no-pager", 0, NULL, "do not page long output" },
	{ "utc", 0, NULL, "times in UTC" },
	{ "quiet", 'q', NULL, "no notes on standard error" },
	{ "verbose", 'v', NULL, "more of them" },
	{ "yes", 'y', NULL, "do not ask" },
	{ "help", 'h', NULL, "help for the verb" },
	{ "version", 0, NULL, "version of this program" },
	{ "wait", 0, NULL, "wait until it has stayed up for a moment" },
	{ "timeout", 0, "DURATION", "give up waiting after this time (exit status 124)" },
	{ "dry-run", 0, NULL, "say what would be done" },
	{ "follow", 'f', NULL, "go on with what is written from now on" },
	{ "lines", 'n', "N", "the last N" },
	{ "limit", 0, "N", "at most N, the latest (default 100; 0: all)" },
	{ "since", 0, "TIME", "not older: 1h, today, '2026-11-23 18:00', RFC 3339, @EPOCH" },
	{ "until", 0, "TIME", "not newer" },
	{ "level", 'l', "LEVEL", "at least this level; =LEVEL: exactly" },
	{ "search", 0, "TEXT", "message contains TEXT, in either case of letters" },
	{ "grep", 'g', "REGEX", "message matches a Perl-compatible regular expression" },
	{ "invert", 0, NULL, "those that do not match --search and --grep" },
	{ "before", 'B', "N", "N records before each match" },
	{ "after", 'A', "N", "N records after each match" },
	{ "context", 'C', "N", "N records before and after each match" },
	{ "daemon", 'd', "NAME", "of this daemon (may be repeated)" },
	{ "experiment", 'e', "NAME", "of this experiment, by name or id" },
	{ "node", 0, "ID", "of this progress node" },
	{ "stage", 0, "NAME", "of this stage" },
	{ "stream", 0, "NAME", "out or err" },
	{ "pid", 0, "PID", "of this process" },
	{ "reverse", 'r', NULL, "newest first" },
	{ "traceback", 0, NULL, "tracebacks in full" },
	{ "raw", 0, NULL, "messages alone, as they were written" },
	{ "threads", 't', NULL, "all threads" },
	{ "full", 0, NULL, "nothing folded or left out" },
	{ "exit-code", 0, NULL, "exit status 1 when there are any" },
	{ "force", 0, NULL, "overwrite" },
	{ "tree", 0, NULL, "every process of the daemon, not only the first" },
	{ 0 },
};

const char cli_global_options[] = "config project json no-headings color no-pager utc quiet verbose yes help version";

const struct cli_verb cli_verbs[] = {
	{ "up", NULL, "", NULL, "wait timeout", "start the supervisor if need be, and every daemon with autostart", NULL, verb_up,
	    true, true, 0, 0 },
	{ "down", "shutdown", "", NULL, "timeout", "stop all daemons, and the supervisor", NULL, verb_down, true, false, 0, 0 },
	{ "start", NULL, "NAME...", "daemons", "wait timeout", "start daemons (and the supervisor if need be)",
	    "NAME is a daemon, 'train' for all of train/0, train/1..., a pattern ('tr*'), or 'all'.", verb_start, true, true, 1,
	    -1 },
	{ "stop", NULL, "NAME...", "daemons", "timeout", "stop daemons, their whole trees",
	    "Comes back once nothing of them is left. --timeout limits how long this command waits, not how long they have.",
	    verb_stop, true, false, 1, -1 },
	{ "restart", NULL, "NAME...", "daemons", "wait timeout", "stop daemons and start them again", NULL, verb_restart, true,
	    true, 1, -1 },
	{ "kill", NULL, "NAME...", "daemons", "timeout", "stop daemons at once by SIGKILL", NULL, verb_kill, true, false, 1, -1 },
	{ "signal", NULL, "SIGNAL NAME...", "daemons", "tree", "send a signal to daemons", NULL, verb_signal, true, false, 2, -1 },
	{ "reload", "update reread", "", NULL, "dry-run", "apply the changed configuration file, and only what changed",
	    "Prints a plan: what is added, removed, restarted, or changed in place.", verb_reload, true, true, 0, 0 },
	{ "status", "ps ls list", "[NAME...]", "daemons", "", "what runs, and why the last one ended",
	    "Exit status: 0 running (or all as wanted), 1 dead though wanted, 3 stopped, 4 unknown name.", verb_status, true, false,
	    0, -1 },
	{ "show", "describe info", "NAME", "daemons", "", "everything about one daemon", NULL, verb_show, true, false, 1, 1 },
	{ "logs", "log", "[NAME...]", "daemons",
	    "follow lines limit since until level search grep invert before after context daemon experiment node stage stream "
	    "pid reverse traceback raw",
	    "what daemons said", "Also what is not in the store yet. The last 100 records unless --limit, -n or --since say otherwise.",
	    verb_logs, true, false, 0, -1 },
	{ "tail", NULL, "[NAME...]", "daemons", "lines level search grep stream raw", "logs -f -n 20", NULL, verb_tail, true, false,
	    0, -1 },
	{ "events", NULL, "[NAME...]", "daemons", "follow lines limit since until level daemon experiment reverse",
	    "starts, ends, crashes, reloads", NULL, verb_events, true, false, 0, -1 },
	{ "crashes", NULL, "[NAME...]", "daemons", "since limit lines exit-code", "crash reports, newest last", NULL, verb_crashes,
	    true, false, 0, -1 },
	{ "crash", NULL, "show|rm [ID]", "crashes", "threads full", "read or remove a crash report",
	    "ID is the one that 'crashes' shows, the beginning of it, a daemon's name for its latest, or -1 (default) for the "
	    "latest.",
	    verb_crash, true, false, 1, -1 },
	{ "check", "validate", "[FILE]", "files", "", "check a configuration file", "Exit status: 0, or 78.", verb_check, false,
	    false, 0, 1 },
	{ "config", NULL, "show|schema", "words show schema", "", "the configuration in force, or the JSON Schema of the file", NULL,
	    verb_config, false, false, 1, 1 },
	{ "run", NULL, "[--] COMMAND...", "files", "", "run one command with capture, log and crash report; no file needed",
	    "Ends with the command's exit status, or dies by the same signal. 125: own failure, 126: not executable, 127: not "
	    "found.",
	    verb_run, false, false, 1, -1 },
	{ "init", NULL, "[FILE]", "files", "force", "write a first supervise.yaml (from a Procfile, if there is one)", NULL,
	    verb_init, false, false, 0, 1 },
	{ "doctor", NULL, "", NULL, "", "what works on this machine, and what does not", NULL, verb_doctor, false, false, 0, 0 },
	{ "completion", NULL, "bash|zsh|fish", "words bash zsh fish", "", "shell completion script", NULL, verb_completion, false,
	    false, 1, 1 },
	{ "version", NULL, "", NULL, "", "version of this program", NULL, verb_version, false, false, 0, 0 },
	{ "help", NULL, "[VERB]", "verbs", "", "help", NULL, verb_help, false, false, 0, 1 },
	{ "__complete", NULL, "", NULL, "", NULL, NULL, verb_complete, false, false, 0, -1 },
	{ 0 },
};

const struct cli_verb *cli_find_verb(const char *name)
{
	for (const struct cli_verb *v = cli_verbs; v->name; v++) {
		const char *a = v->aliases;
		size_t n = strlen(name);

		if (!strcmp(v->name, name))
			return v;
		while (a && *a) {
			size_t len = strcspn(a, " ");

			if (len == n && !strncmp(a, name, n))
				return v;
			a += len;
			a += *a == ' ';
		}
	}
	return NULL;
}
