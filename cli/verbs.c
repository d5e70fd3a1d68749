/* SPDX-License-Identifier: Apache-2.0 */
/* The one table of verbs and options: parser, help, completion and the manual all read it. */
#include <string.h>

#include "cli/cli.h"

#define FLAG(m)  OPTION_FLAG, offsetof(struct cli_options, m)
#define TEXT(m)  OPTION_TEXT, offsetof(struct cli_options, m)
#define COUNT(m) OPTION_COUNT, offsetof(struct cli_options, m)

const struct cli_option cli_options[] = {
	{ "config", 'c', "FILE", "configuration file", TEXT(config) },
	{ "project", 'p', "NAME", "project, when no configuration file is at hand", TEXT(project) },
	{ "json", 0, NULL, "machine-readable output", FLAG(json) },
	{ "columns", 0, "A,B", "only these columns of a table, in this order", TEXT(columns) },
	{ "no-header", 0, NULL, "no heading line in tables", FLAG(no_header), NULL, "no-headers no-headings" },
	{ "color", 0, "WHEN", "auto, always or never", TEXT(colour), "auto always never", "colour" },
	{ "no-pager", 0, NULL, "do not page long output", FLAG(no_pager) },
	{ "utc", 0, NULL, "times in UTC", FLAG(utc) },
	{ "quiet", 'q', NULL, "no notes on standard error", FLAG(quiet) },
	{ "verbose", 'v', NULL, "more of them", FLAG(verbose) },
	{ "yes", 'y', NULL, "do not ask", FLAG(yes) },
	{ "help", 'h', NULL, "help for the verb", FLAG(help) },
	{ "version", 0, NULL, "version of this program", FLAG(version) },
	{ "wait", 0, NULL, "wait until it has stayed up for a moment", FLAG(wait) },
	{ "timeout", 0, "DURATION", "give up waiting after this time (exit status 124)", OPTION_DURATION,
	    offsetof(struct cli_options, timeout) },
	{ "dry-run", 0, NULL, "say what would be done", FLAG(dry_run) },
	{ "follow", 'f', NULL, "go on with what is written from now on", FLAG(follow) },
	{ "lines", 'n', "N", "the last N", COUNT(lines) },
	{ "limit", 0, "N", "at most N, the latest (default 100; 0: all)", COUNT(limit) },
	{ "since", 0, "TIME", "not older: 1h, today, '2026-11-23 18:00', RFC 3339, @EPOCH, boot, start, crash:ID", TEXT(since) },
	{ "until", 0, "TIME", "not newer", TEXT(until) },
	{ "level", 'l', "LEVEL", "at least this level; =LEVEL: exactly", TEXT(level) },
	{ "search", 0, "TEXT", "message contains TEXT, in either case of letters", TEXT(search) },
	{ "grep", 'g', "REGEX", "message matches a Perl-compatible regular expression", TEXT(grep) },
	{ "invert", 0, NULL, "those that do not match --search and --grep", FLAG(invert) },
	{ "before", 'B', "N", "N records before each match", COUNT(before) },
	{ "after", 'A', "N", "N records after each match", COUNT(after) },
	{ "context", 'C', "N", "N records before and after each match", COUNT(context) },
	{ "daemon", 'd', "NAME", "of this daemon (may be repeated)", OPTION_DAEMON, 0 },
	{ "experiment", 'e', "NAME", "of this experiment, by name or id", TEXT(experiment) },
	{ "node", 0, "ID", "of this progress node", TEXT(node) },
	{ "stage", 0, "NAME", "of this stage", TEXT(stage) },
	{ "stream", 0, "NAME", "out or err", TEXT(stream), "out err stdout stderr" },
	{ "pid", 0, "PID", "of this process", COUNT(pid) },
	{ "reverse", 'r', NULL, "newest first", FLAG(reverse) },
	{ "traceback", 0, NULL, "tracebacks in full", FLAG(traceback) },
	{ "raw", 0, NULL, "messages alone, byte for byte as they were written", FLAG(raw) },
	{ "threads", 't', NULL, "all threads", FLAG(threads) },
	{ "full", 0, NULL, "nothing folded or left out", FLAG(full) },
	{ "exit-code", 0, NULL, "exit status 1 when there are any", FLAG(exit_code) },
	{ "force", 0, NULL, "overwrite", FLAG(force) },
	{ "tree", 0, NULL, "every process of the daemon, not only the first", FLAG(tree) },
	{ 0 },
};

const char cli_global_options[] =
    "config project json columns no-header color no-pager utc quiet verbose yes help version";

#define RECORD_OPTIONS                                                                                       \
	"follow lines limit since until level search grep invert before after context daemon experiment node stage stream " \
	"pid reverse traceback raw"

const struct cli_verb cli_verbs[] = {
	{ "up", NULL, "", NULL, "wait timeout", "start the supervisor if need be, and every daemon with autostart",
	    "A supervisor that runs already keeps the configuration it has read; see reload.", verb_up, CLI_PROJECT | CLI_FILE, 0,
	    0 },
	{ "down", "shutdown", "", NULL, "timeout", "stop all daemons, and the supervisor",
	    "Comes back once nothing of the project is left.", verb_down, CLI_PROJECT, 0, 0 },
	{ "start", NULL, "NAME...", "daemons", "wait timeout", "start daemons (and the supervisor if need be)",
	    "NAME is a daemon, 'train' for all of train/0, train/1..., a pattern ('tr*'), or 'all'. Comes back once the program "
	    "was executed; with --wait once it has also stayed up for a second.",
	    verb_start, CLI_PROJECT | CLI_FILE, 1, -1 },
	{ "stop", NULL, "NAME...", "daemons", "timeout", "stop daemons, their whole trees",
	    "Comes back once nothing of them is left. --timeout limits how long this command waits, not how long they have "
	    "(that is stop.timeout of the configuration).",
	    verb_stop, CLI_PROJECT, 1, -1 },
	{ "restart", NULL, "NAME...", "daemons", "wait timeout", "stop daemons and start them again", NULL, verb_restart,
	    CLI_PROJECT | CLI_FILE, 1, -1 },
	{ "kill", NULL, "NAME...", "daemons", "timeout", "stop daemons at once, by SIGKILL", NULL, verb_kill, CLI_PROJECT, 1, -1 },
	{ "signal", NULL, "SIGNAL NAME...", "signals", "tree", "send a signal to daemons",
	    "SIGNAL is a name (HUP, SIGUSR1) or a number.", verb_signal, CLI_PROJECT, 2, -1 },
	{ "reload", "update reread", "", NULL, "dry-run", "apply the changed configuration file, and only what changed",
	    "Prints a plan: what is added (+), removed (-), restarted (!), or changed in place (~). A file with a mistake changes "
	    "nothing.",
	    verb_reload, CLI_PROJECT | CLI_FILE, 0, 0 },
	{ "status", "ps ls list", "[NAME...]", "daemons", "", "what runs, and why the last one ended",
	    "Without a supervisor: what was known last. Exit status with NAME: 0 running, 1 dead though wanted, 3 stopped, 4 "
	    "unknown name or no supervisor. Without: 0 all as wanted, 1 not, 3 no supervisor. CPU is the average over the life "
	    "of the process.",
	    verb_status, CLI_PROJECT | CLI_READS, 0, -1 },
	{ "show", "describe info", "NAME", "daemons", "", "everything about one daemon",
	    "State, last exit, capture mode and why, the configuration in force, the names of its variables.", verb_show,
	    CLI_PROJECT | CLI_READS, 1, 1 },
	{ "logs", "log", "[NAME...]", "daemons", RECORD_OPTIONS, "what daemons said",
	    "NAME is a daemon or an experiment. Also shows what is not in the store yet. The last 100 records unless --limit, -n "
	    "or --since say otherwise. --since crash:ID shows what was said around a crash.",
	    verb_logs, CLI_PROJECT | CLI_READS, 0, -1 },
	{ "tail", NULL, "[NAME...]", "daemons", "lines level search grep daemon experiment stage stream raw traceback",
	    "logs -f -n 20", NULL, verb_tail, CLI_PROJECT | CLI_READS, 0, -1 },
	{ "events", NULL, "[NAME...]", "daemons", "follow lines limit since until level search grep daemon experiment reverse",
	    "starts, ends, crashes, reloads", NULL, verb_events, CLI_PROJECT | CLI_READS, 0, -1 },
	{ "crashes", NULL, "[NAME...]", "daemons", "since until limit lines exit-code", "crash reports, newest last",
	    "Works with everything else down. SEEN counts the reports of the same kind up to that one.", verb_crashes, CLI_PROJECT | CLI_READS,
	    0, -1 },
	{ "crash", NULL, "show|rm [ID...]", "crashes", "threads full", "read or remove a crash report",
	    "ID is what 'crashes' shows or the beginning of it, a daemon's name for its latest, or -1 for the latest of all, -2 "
	    "for the one before, and so on. 'crash show' without ID shows the latest; 'crash rm all' asks first.",
	    verb_crash, CLI_PROJECT | CLI_READS, 1, -1 },
	{ "check", "validate", "[FILE]", "files", "", "check a configuration file",
	    "Every problem at once, with its place. Exit status: 0, or 78.", verb_check, CLI_MAYBE_PROJECT, 0, 1 },
	{ "config", NULL, "show|schema", "words show schema", "", "the configuration in force, or the JSON Schema of the file",
	    "Values of variables are not shown.", verb_config, CLI_MAYBE_PROJECT, 1, 1 },
	{ "run", NULL, "[--] COMMAND [ARGUMENT...]", "commands", "",
	    "run one command with capture, log and crash report; no file needed",
	    "Its output appears here and in the log; its standard input is empty. At a crash the report is shown. Ends with the "
	    "command's exit status, or dies by the same signal. 125: own failure, 126: not executable, 127: not found.",
	    verb_run, CLI_COMMAND, 1, -1 },
	{ "init", NULL, "[FILE]", "files", "force", "write a first supervise.yaml (from a Procfile, if there is one)", NULL,
	    verb_init, 0, 0, 1 },
	{ "doctor", NULL, "", NULL, "", "what works on this machine, and what does not", "Exit status 1 when something does not.",
	    verb_doctor, CLI_MAYBE_PROJECT, 0, 0 },
	{ "completion", NULL, "bash|zsh|fish", "words bash zsh fish", "", "shell completion script",
	    "bash: source <(supervise completion bash). zsh: the same, after compinit. fish: supervise completion fish | source.",
	    verb_completion, 0, 1, 1 },
	{ "version", NULL, "", NULL, "", "version of this program", NULL, verb_version, 0, 0, 0 },
	{ "help", NULL, "[VERB]", "verbs", "", "help", NULL, verb_help, 0, 0, 1 },
	{ "__complete", NULL, "", NULL, "", "words for a shell's completion", NULL, verb_complete, CLI_MAYBE_PROJECT | CLI_HIDDEN, 0,
	    -1 },
	{ "__manual", NULL, "", NULL, "", "sections of the manual, as scdoc text", NULL, verb_manual, CLI_HIDDEN, 0, 1 },
	{ 0 },
};

const struct cli_verb *cli_find_verb(const char *name)
{
	for (const struct cli_verb *v = cli_verbs; v->name && !strchr(name, ' '); v++)
		if (!strcmp(v->name, name) || cli_listed(v->aliases, name))
			return v;
	return NULL;
}
