/* SPDX-License-Identifier: Apache-2.0 */
#include "capture/report.h"

#include <ctype.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <sys/wait.h>

#include "base/clock.h"
#include "base/paths.h"

static const struct {
	int number;
	const char *text;
} signal_texts[] = {
	{ SIGSEGV, "segmentation fault" },
	{ SIGBUS, "bus error" },
	{ SIGFPE, "arithmetic error" },
	{ SIGILL, "illegal instruction" },
	{ SIGABRT, "aborted" },
	{ SIGTRAP, "trap" },
	{ SIGSYS, "forbidden system call" },
};

/* Source: sigaction(2) */
static const struct {
	int sig, code;
	const char *name;
} codes[] = {
	{ SIGSEGV, SEGV_MAPERR, "SEGV_MAPERR" },
	{ SIGSEGV, SEGV_ACCERR, "SEGV_ACCERR" },
	{ SIGSEGV, 3, "SEGV_BNDERR" },
	{ SIGSEGV, 4, "SEGV_PKUERR" },
	{ SIGBUS, BUS_ADRALN, "BUS_ADRALN" },
	{ SIGBUS, BUS_ADRERR, "BUS_ADRERR" },
	{ SIGBUS, BUS_OBJERR, "BUS_OBJERR" },
	{ SIGBUS, 4, "BUS_MCEERR_AR" },
	{ SIGBUS, 5, "BUS_MCEERR_AO" },
	{ SIGFPE, FPE_INTDIV, "FPE_INTDIV" },
	{ SIGFPE, FPE_INTOVF, "FPE_INTOVF" },
	{ SIGFPE, FPE_FLTDIV, "FPE_FLTDIV" },
	{ SIGFPE, FPE_FLTOVF, "FPE_FLTOVF" },
	{ SIGFPE, FPE_FLTUND, "FPE_FLTUND" },
	{ SIGFPE, FPE_FLTRES, "FPE_FLTRES" },
	{ SIGFPE, FPE_FLTINV, "FPE_FLTINV" },
	{ SIGILL, ILL_ILLOPC, "ILL_ILLOPC" },
	{ SIGILL, ILL_ILLOPN, "ILL_ILLOPN" },
	{ SIGILL, ILL_ILLADR, "ILL_ILLADR" },
	{ SIGILL, ILL_ILLTRP, "ILL_ILLTRP" },
	{ SIGILL, ILL_PRVOPC, "ILL_PRVOPC" },
	{ SIGTRAP, 1, "TRAP_BRKPT" },
	{ SIGTRAP, 2, "TRAP_TRACE" },
	{ SIGSYS, 1, "SYS_SECCOMP" },
	{ 0, SI_USER, "SI_USER" },
	{ 0, SI_TKILL, "SI_TKILL" },
	{ 0, SI_QUEUE, "SI_QUEUE" },
	{ 0, 0x80, "SI_KERNEL" },
};

const char *report_signal_text(int sig)
{
	for (size_t i = 0; i < ARRAY_SIZE(signal_texts); i++)
		if (signal_texts[i].number == sig)
			return signal_texts[i].text;
	return NULL;
}

const char *report_code_name(int sig, int code)
{
	for (size_t i = 0; i < ARRAY_SIZE(codes); i++)
		if ((codes[i].sig == sig || !codes[i].sig) && codes[i].code == code)
			return codes[i].name;
	return NULL;
}

/* --- secrets ------------------------------------------------------------------------------------------------------- */

static bool names_secret(const char *s, size_t n)
{
	static const char *const words[] = { "password", "passwd", "passphrase", "token", "secret", "api-key", "apikey",
		"api_key", "access-key", "access_key", "private-key", "private_key", "credential", "pgpass" };

	for (size_t i = 0; i + 4 < n; i++)
		for (size_t k = 0; k < ARRAY_SIZE(words); k++)
			if (n - i >= strlen(words[k]) && !strncasecmp(s + i, words[k], strlen(words[k])))
				return true;
	return false;
}

/* "scheme://user:password@host" */
static const char *find_url_password(const char *s, size_t *ret_n)
{
	const char *p = strstr(s, "://"), *at, *colon;

	if (!p)
		return NULL;
	p += 3;
	at = strpbrk(p, "@/");
	colon = strchr(p, ':');
	if (!at || *at != '@' || !colon || colon > at)
		return NULL;
	*ret_n = (size_t)(at - colon) - 1;
	return colon + 1;
}

static void add_argv(cJSON *j, const char *const *argv)
{
	cJSON *a = json_add_array(j, "argv");
	bool mask_next = false;

	for (; a && argv && *argv; argv++) {
		_cleanup_text_ struct text t = { 0 };
		const char *arg = *argv, *equals = strchr(arg, '='), *pass;
		size_t n;

		if (mask_next) {
			text_add(&t, "***");
			mask_next = false;
		} else if (equals && names_secret(arg, (size_t)(equals - arg))) {
			text_add_utf8(&t, arg, (size_t)(equals - arg) + 1);
			text_add(&t, "***");
		} else if ((pass = find_url_password(arg, &n))) {
			text_add_utf8(&t, arg, (size_t)(pass - arg));
			text_add(&t, "***");
			text_add_utf8(&t, pass + n, strlen(pass + n));
		} else {
			text_add_utf8(&t, arg, strlen(arg));
			mask_next = arg[0] == '-' && !equals && names_secret(arg, strlen(arg));
		}
		if (!t.failed)
			cJSON_AddItemToArray(a, cJSON_CreateString(t.data ? t.data : ""));
	}
}

/* --- what the tail says -------------------------------------------------------------------------------------------- */

static const char *tail_text(const cJSON *line)
{
	const char *s = json_get_string(line, "text", "");

	while (*s == ' ' || *s == '\t')
		s++;
	return s;
}

/* The line in which a runtime said why it gives up, or the last words on stderr, or at all. */
static const char *last_words(const cJSON *tail, bool known_only)
{
	static const char *const known[] = { "terminate called", "panic: ", "fatal error: ", "*** stack smashing",
		"double free", "free(): ", "malloc(): ", "corrupted ", "munmap_chunk(): ", "realloc(): ", "Fatal Python error",
		"Fatal glibc error", "*** buffer overflow" };
	const cJSON *line, *best = NULL;
	int rank = 0;

	cJSON_ArrayForEach(line, tail) {
		const char *s = tail_text(line);
		int r = !strcmp(json_get_string(line, "stream", ""), "stderr") ? 2 : 1;

		if (!*s || !strncmp(s, "note: run with `RUST_BACKTRACE", 30))
			continue;
		for (size_t i = 0; i < ARRAY_SIZE(known); i++)
			if (!strncmp(s, known[i], strlen(known[i])))
				r = 3;
		if (strstr(s, "panicked at") || (strstr(s, "Assertion ") && strstr(s, " failed")))
			r = 3;
		if (r >= rank && (r == 3 || !known_only)) {
			best = line;
			rank = r;
		}
	}
	return best ? tail_text(best) : NULL;
}

/* libstdc++ says what() on a line of its own */
static const char *what_of(const cJSON *tail)
{
	const cJSON *line;
	const char *found = NULL;

	cJSON_ArrayForEach(line, tail) {
		const char *s = tail_text(line);

		if (!strncmp(s, "what():", 7)) {
			found = s + 7;
			while (*found == ' ')
				found++;
		}
	}
	return found;
}

static void add_quoted(struct text *t, const char *s)
{
	enum { WORDS_MAX = 160 };
	size_t n = strlen(s);

	while (n && isspace((unsigned char)s[n - 1]))
		n--;
	if (n > WORDS_MAX) {
		text_add_utf8(t, s, utf8_valid_prefix(s, WORDS_MAX - 3));
		text_add(t, "...");
	} else {
		text_add_utf8(t, s, n);
	}
}

/* --- one sentence -------------------------------------------------------------------------------------------------- */

static void describe_fault(struct text *t, const cJSON *s, int sig, const char *where)
{
	const char *kind = json_get_string(s, "kind", ""), *access = json_get_string(s, "access", "");
	const char *address = json_get_string(s, "address", NULL), *object = json_get_string(s, "object", NULL);
	int64_t code = json_get_i64(s, "code", 0);

	if (!strcmp(kind, "stack overflow"))
		text_add(t, "stack overflow");
	else if (sig == SIGFPE && code == FPE_INTDIV)
		text_add(t, "integer division by zero");
	else if (sig == SIGTRAP)
		text_add(t, "stopped at a breakpoint instruction");
	else if (sig == SIGSYS)
		text_add(t, "system call forbidden by a seccomp filter");
	else
		text_add(t, report_signal_text(sig));
	if (sig == SIGSEGV && strcmp(kind, "stack overflow")) {
		if (!strcmp(kind, "null call"))
			text_add(t, " calling a null function pointer");
		else if (!strcmp(kind, "wild jump"))
			text_addf(t, " executing address %s (no code there)", address ? address : "unknown");
		else if (!strcmp(kind, "non-canonical address"))
			text_add(t, " using an address that cannot exist");
		else if (address)
			text_addf(t, " %s address %s", !strcmp(access, "write") ? "writing" :
				!strcmp(access, "read")                                 ? "reading" :
				!strcmp(access, "execute")                              ? "executing" :
											  "at",
			    address);
		if (!strcmp(kind, "write to read-only memory") && object)
			text_addf(t, " (read-only: %s)", object);
	} else if (sig == SIGBUS && address) {
		text_addf(t, " at address %s", address);
		if (code == BUS_ADRERR && object)
			text_addf(t, " (beyond the end of %s)", object);
	}
	if (where)
		text_addf(t, " in %s", where);
}

static void describe_signal(struct text *t, const cJSON *report, int sig, const char *where)
{
	const cJSON *s = json_get_object(report, "signal"), *tail = json_get_array(report, "last_output");
	const cJSON *sender = s ? json_get_object(s, "sender") : NULL;
	const char *words, *what;
	char name[24];

	if (json_get_bool(report, "stop_timeout", false)) {
		text_add(t, "killed by us: it had not ended within stop.timeout");
		return;
	}
	if (sender && !json_get_bool(sender, "self", false)) {
		text_addf(t, "%s sent by pid %lld", signal_to_name(sig, name), (long long)json_get_i64(sender, "pid", 0));
		if (json_get_string(sender, "comm", NULL))
			text_addf(t, " (%s)", json_get_string(sender, "comm", NULL));
		if (where)
			text_addf(t, " while in %s", where);
		return;
	}
	if (sig == SIGABRT) {
		text_add(t, "aborted");
		words = last_words(tail, true);
		what = words && !strncmp(words, "terminate called", 16) ? what_of(tail) : NULL;
		if (words) {
			text_add(t, ": ");
			add_quoted(t, words);
		}
		if (what) {
			text_add(t, ": ");
			add_quoted(t, what);
		}
		if (where)
			text_addf(t, words ? ", in %s" : " in %s", where);
		return;
	}
	if (s && report_signal_text(sig)) {
		describe_fault(t, s, sig, where);
		return;
	}
	if (sig == SIGKILL)
		text_add(t, "killed by SIGKILL from outside (nobody of ours sent it)");
	else if (report_signal_text(sig))
		text_addf(t, "%s (%s)", report_signal_text(sig), signal_to_name(sig, name));
	else
		text_addf(t, "ended by %s", signal_to_name(sig, name));
	if (where)
		text_addf(t, " in %s", where);
}

static int signal_of(const cJSON *report)
{
	const cJSON *s = json_get_object(report, "signal");

	if (s)
		return (int)json_get_i64(s, "number", 0);
	return (int)json_get_i64(json_get_object(report, "exit"), "signal_number", 0);
}

void report_summarize(cJSON *report, const char *where)
{
	const cJSON *exit = json_get_object(report, "exit"), *process = json_get_object(report, "process");
	const char *exec_error = json_get_string(report, "exec_error", NULL), *words;
	_cleanup_text_ struct text t = { 0 };
	char name[24], cause[40] = "exit unknown";
	int sig = signal_of(report);
	cJSON *summary;

	if (process && json_get_i64(process, "pid", 0) != json_get_i64(report, "pid", 0)) {
		text_addf(&t, "a process below it (%s, pid %lld) died: ", json_get_string(process, "name", "?"),
		    (long long)json_get_i64(process, "pid", 0));
	}
	if (exec_error) {
		if (!strncmp(exec_error, "exec ", 5))
			text_addf(&t, "could not execute %s", exec_error + 5);
		else
			text_addf(&t, "could not start: %s", exec_error);
		snprintf(cause, sizeof(cause), "not executed");
	} else if (sig) {
		describe_signal(&t, report, sig, where);
		snprintf(cause, sizeof(cause), "%s",
		    json_get_bool(report, "stop_timeout", false) ? "stop timeout" : signal_to_name(sig, name));
	} else if (!exit || !json_get_bool(exit, "known", false)) {
		text_add(&t, "ended while nobody could see it: its exit status is unknown");
	} else {
		int code = (int)json_get_i64(exit, "code", 0);

		text_addf(&t, "exit status %d", code);
		words = last_words(json_get_array(report, "last_output"), false);
		if (words) {
			text_add(&t, ": last words '");
			add_quoted(&t, words);
			text_add(&t, "'");
		}
		snprintf(cause, sizeof(cause), "exit %d", code);
	}
	if (t.failed)
		return;
	cJSON_DeleteItemFromObjectCaseSensitive(report, "summary");
	summary = json_add_object(report, "summary");
	json_add_text(summary, "cause", cause);
	json_add_text(summary, "where", where);
	json_add_text(summary, "sentence", t.data);
}

/* --- frames -------------------------------------------------------------------------------------------------------- */

static const char *base_name(const char *path)
{
	const char *slash = strrchr(path, '/');

	return slash && slash[1] ? slash + 1 : path;
}

static const cJSON *crashed_thread(const cJSON *report)
{
	const cJSON *thread;

	cJSON_ArrayForEach(thread, json_get_array(report, "threads")) {
		if (json_get_bool(thread, "crashed", false))
			return thread;
	}
	return NULL;
}

/* "function (file:line)", or "module+0xoffset" */
static void name_frame(const cJSON *f, char *ret, size_t size)
{
	const char *function = json_get_string(f, "function", NULL), *file = json_get_string(f, "file", NULL);
	const char *module = json_get_string(f, "module", NULL);

	if (function && file)
		snprintf(ret, size, "%s (%s:%lld)", function, base_name(file), (long long)json_get_i64(f, "line", 0));
	else if (function)
		snprintf(ret, size, "%s (%s)", function, module ? base_name(module) : "?");
	else if (module)
		snprintf(ret, size, "%s+%s", base_name(module), json_get_string(f, "offset", "?"));
	else
		snprintf(ret, size, "address %s", json_get_string(f, "pc", "?"));
}

const cJSON *report_where_frame(const cJSON *report)
{
	const cJSON *thread = crashed_thread(report), *f, *first = NULL, *user = NULL;

	if (!thread)
		return NULL;
	cJSON_ArrayForEach(f, json_get_array(thread, "frames")) {
		if (json_get_bool(f, "noise", false) || (!json_get_string(f, "module", NULL) && !json_get_string(f, "function", NULL)))
			continue;
		if (!first)
			first = f;
		/* rather the caller that has a source than memcpy(3) under it */
		if (!user && json_get_string(f, "file", NULL) && !json_get_bool(f, "system", false))
			user = f;
	}
	if (first && user && json_get_bool(first, "system", false))
		first = user;
	return first;
}

const char *report_where(const cJSON *report, char *ret, size_t size)
{
	const cJSON *f = report_where_frame(report);

	if (!f)
		return NULL;
	name_frame(f, ret, size);
	return ret;
}

static void add_frames(struct text *t, const cJSON *thread)
{
	const cJSON *f;
	int64_t n = 0;

	text_addf(t, "Thread %lld \"%s\"%s:\n", (long long)json_get_i64(thread, "tid", 0), json_get_string(thread, "name", "?"),
	    json_get_bool(thread, "crashed", false) ? " (crashed)" : "");
	cJSON_ArrayForEach(f, json_get_array(thread, "frames")) {
		char name[1024];
		int64_t repeated = json_get_i64(f, "repeated", 0);
		const char *module = json_get_string(f, "module", NULL), *trust = json_get_string(f, "trust", "cfi");

		name_frame(f, name, sizeof(name));
		text_addf(t, "  #%lld %s", (long long)json_get_i64(f, "index", n), name);
		if (module && json_get_string(f, "file", NULL))
			text_addf(t, " in %s", base_name(module));
		if (json_get_bool(f, "inlined", false))
			text_add(t, " [inlined]");
		if (strcmp(trust, "cfi") && strcmp(trust, "context"))
			text_addf(t, " [%s]", trust);
		text_add(t, "\n");
		if (repeated)
			text_addf(t, "  ... repeated %lld more times\n", (long long)repeated);
		n++;
	}
}

void report_add_traceback(cJSON *report)
{
	enum { TRACEBACK_MAX = 256 << 10 };
	_cleanup_text_ struct text t = { 0 };
	const cJSON *thread, *crashed = crashed_thread(report);
	unsigned same = 0;

	if (crashed)
		add_frames(&t, crashed);
	cJSON_ArrayForEach(thread, json_get_array(report, "threads")) {
		if (thread == crashed || t.size > TRACEBACK_MAX)
			continue;
		if (json_get_i64(thread, "same_as", 0))
			same++;
		else if (cJSON_GetArraySize(json_get_array(thread, "frames")))
			add_frames(&t, thread);
	}
	if (same)
		text_addf(&t, "%u more threads have the stack of one of these\n", same);
	cJSON_DeleteItemFromObjectCaseSensitive(report, "traceback");
	json_add_text(report, "traceback", t.failed ? NULL : t.data);
}

/* --- the raw report ------------------------------------------------------------------------------------------------ */

static void add_exit(cJSON *j, const struct crash_context *c)
{
	cJSON *e = json_add_object(j, "exit");
	char name[24], text[64];

	json_add_bool(e, "known", c->status_known);
	if (!c->status_known) {
		json_add_text(e, "text", "unknown");
		return;
	}
	if (WIFSIGNALED(c->status)) {
		json_add_text(e, "signal", signal_to_name(WTERMSIG(c->status), name));
		json_add_i64(e, "signal_number", WTERMSIG(c->status));
		json_add_bool(e, "core", WCOREDUMP(c->status));
		snprintf(text, sizeof(text), "%s%s", signal_to_name(WTERMSIG(c->status), name),
		    WCOREDUMP(c->status) ? " (core dumped)" : "");
	} else {
		json_add_i64(e, "code", WEXITSTATUS(c->status));
		snprintf(text, sizeof(text), "exit status %d", WEXITSTATUS(c->status));
	}
	json_add_text(e, "text", text);
}

cJSON *report_new_raw(const struct crash_context *c)
{
	_cleanup_json_ cJSON *j = cJSON_CreateObject();
	char id[UUID_TEXT_MAX];
	cJSON *o;

	if (!j)
		return NULL;
	uuid_format(&c->id, id);
	json_add_text(j, "schema", "supervise.crash/1");
	json_add_text(j, "crash_id", id);
	json_add_text(j, "short_id", id + strlen(id) - 8);
	json_add_bool(j, "complete", false);
	json_add_text(j, "project", c->project);
	json_add_text(j, "host", c->host);
	json_add_text(j, "boot_id", c->boot_id);
	json_add_text(j, "daemon", c->daemon);
	json_add_text(j, "run", c->run);
	json_add_i64(j, "pid", c->pid);
	json_add_i64(j, "uid", c->uid);
	add_argv(j, c->argv);
	json_add_text(j, "directory", c->directory);
	json_add_text(j, "experiment", c->experiment);
	json_add_text(j, "stage", c->stage);
	json_add_text(j, "node", c->node);
	json_add_time(j, "started_at", c->started_us);
	json_add_time(j, "died_at", c->died_us);
	json_add_i64(j, "uptime_ms",
	    c->started_us && c->died_us > c->started_us ? (c->died_us - c->started_us) / 1000 : 0);
	add_exit(j, c);
	if (c->exec_error)
		json_add_text(j, "exec_error", c->exec_error);
	if (c->stop_timeout)
		json_add_bool(j, "stop_timeout", true);
	json_add_i64(j, "restarts", c->restarts);
	json_add_i64(j, "restart_limit", c->restart_limit);
	json_add_text(j, "next", c->next);
	o = json_add_object(j, "capture");
	json_add_text(o, "mode", c->capture_mode);
	json_add_text(o, "reason", c->capture_reason);
	json_add_i64(o, "held_us", (int64_t)c->held_us);
	json_add_bool(o, "snapshot", c->snapshot_pid != 0);
	json_add_bool(o, "all_threads", c->all_threads);
	json_add_i64(o, "source_lines", c->source_lines);
	if (c->snapshot_pid && c->snapshot_pid != c->pid) {
		o = json_add_object(j, "process");
		json_add_i64(o, "pid", c->snapshot_pid);
	}
	o = json_add_object(j, "resources");
	json_add_i64(o, "max_rss_bytes", (int64_t)c->max_rss_bytes);
	json_add_i64(o, "user_us", (int64_t)c->utime_us);
	json_add_i64(o, "system_us", (int64_t)c->stime_us);
	if (c->tail)
		cJSON_AddItemToObject(j, "last_output", cJSON_Duplicate(c->tail, 1));
	else
		json_add_array(j, "last_output");
	json_add_text(j, "traceback", NULL);
	json_add_text(j, "fingerprint", NULL);
	json_add_array(j, "threads");
	json_add_array(j, "modules");
	report_summarize(j, NULL);
	return TAKE_PTR(j);
}

char *report_file_name(const cJSON *report, char *ret, size_t size)
{
	const char *died = json_get_string(report, "died_at", ""), *id = json_get_string(report, "short_id", "00000000");
	char file[96], when[24] = "unknown";
	int64_t us;

	paths_file_name(json_get_string(report, "daemon", "unknown"), file, sizeof(file));
	for (char *p = file; *p; p++)
		if (!isalnum((unsigned char)*p) && !strchr("@._-", *p))
			*p = '_';
	if (clock_parse_utc(died, &us) == 0 && strlen(died) > 18) /* 2026-11-23T18:01:03 -> 20261123T180103Z */
		snprintf(when, sizeof(when), "%.4s%.2s%.5s%.2s%.2sZ", died, died + 5, died + 8, died + 14, died + 17);
	snprintf(ret, size, "crash/%s-%.80s-%.8s.json", when, file, strspn(id, "0123456789abcdef") == 8 ? id : "00000000");
	return ret;
}
