/* SPDX-License-Identifier: Apache-2.0 */
#include "supervisor/death.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/file.h"
#include "base/proc.h"
#include "base/text.h"
#include "capture/report.h"
#include "config/config.h"
#include "log/event.h"
#include "supervisor/daemon.h"
#include "supervisor/supervisor.h"
#include "supervisor/watch.h"

enum {
	TAIL_WAIT_MS = 3000,      /* for the logger, also across a restart of it */
	SNAPSHOT_WAIT_MS = 1500,  /* for the capture thread to finish writing */
	SYMBOLIZER_WAIT_MS = 15000,
	REPORT_MAX = 16 << 20,
};

enum death_stage {
	STAGE_TAIL,       /* waiting for the last output */
	STAGE_SNAPSHOT,   /* waiting for the snapshot */
	STAGE_SYMBOLIZER_QUEUED,
	STAGE_SYMBOLIZER, /* running */
	STAGE_WRITING,
};

struct death {
	struct death *next;
	struct supervisor *s;
	enum death_stage stage;
	char crash_id[UUID_TEXT_MAX];
	char *daemon, *run, *experiment, *node, *stage_name, *directory, *next_text, *exec_error;
	char file[80]; /* of the daemon */
	char **argv;
	struct exit_info exit;
	bool stop_timeout, requested, descendant;
	bool report;  /* worth a report and an ERROR row */
	bool unsaved; /* its file in pending/ is not written yet */
	unsigned restarts, restart_limit, source_lines;
	bool all_threads;
	char mode[16], reason[128];
	int64_t started_us;
	struct capture_event snapshot; /* kind NONE: none (yet) */
	cJSON *tail;
	struct alarm_clock *alarm;
	/* the symbolizer */
	pid_t pid;
	int pidfd, out;
	struct watch *pid_watch, *out_watch;
	struct text output;
	bool out_done, exited;
	int status;
	cJSON *finished;
	char report_path[PATH_MAX];
};

static void on_alarm(void *userdata);
static void advance(struct death *x);
static void symbolize_next(struct supervisor *s);

static char *copy(const char *s)
{
	return s ? strdup(s) : NULL;
}

static void death_free(struct death *x)
{
	for (struct death **p = &x->s->deaths; *p; p = &(*p)->next)
		if (*p == x) {
			*p = x->next;
			break;
		}
	alarm_free(x->alarm);
	watch_free(x->pid_watch);
	watch_free(x->out_watch);
	if (x->pidfd >= 0)
		close(x->pidfd);
	if (x->out >= 0)
		close(x->out);
	free(x->daemon);
	free(x->run);
	free(x->experiment);
	free(x->node);
	free(x->stage_name);
	free(x->directory);
	free(x->next_text);
	free(x->exec_error);
	for (char **p = x->argv; p && *p; p++)
		free(*p);
	free(x->argv);
	cJSON_Delete(x->tail);
	cJSON_Delete(x->finished);
	text_free(&x->output);
	free(x);
}

static struct death *death_new(struct supervisor *s, struct daemon *d, const char *crash_id)
{
	const struct daemon_config *cfg = daemon_get_config(d);
	const struct registry_entry *e = daemon_get_entry(d);
	struct death *x = calloc(1, sizeof(*x));
	size_t n = 0;

	if (!x)
		return NULL;
	x->s = s;
	x->pidfd = x->out = -1;
	snprintf(x->crash_id, sizeof(x->crash_id), "%s", crash_id);
	x->daemon = copy(daemon_get_name(d));
	snprintf(x->file, sizeof(x->file), "%s", daemon_get_file(d));
	x->run = copy(e->run);
	x->experiment = copy(cfg->experiment);
	x->node = copy(cfg->node);
	x->stage_name = copy(cfg->stage);
	x->directory = copy(cfg->directory);
	while (cfg->command[n])
		n++;
	x->argv = calloc(n + 1, sizeof(*x->argv));
	for (size_t i = 0; x->argv && i < n; i++)
		x->argv[i] = copy(cfg->command[i]);
	x->restarts = e->restarts;
	x->restart_limit = cfg->restart.limit;
	x->all_threads = cfg->capture.all_threads;
	x->source_lines = cfg->capture.source;
	memcpy(x->mode, e->capture_mode, sizeof(x->mode));
	memcpy(x->reason, e->capture_reason, sizeof(x->reason));
	x->started_us = e->started_us;
	if (!x->daemon || !x->argv || alarm_new(&x->alarm, s->loop, on_alarm, x) < 0) {
		death_free(x);
		return NULL;
	}
	x->next = s->deaths;
	s->deaths = x;
	return x;
}

static bool is_fault(const struct exit_info *e)
{
	if (!e->known || !WIFSIGNALED(e->status))
		return false;
	switch (WTERMSIG(e->status)) {
	case SIGSEGV:
	case SIGBUS:
	case SIGFPE:
	case SIGILL:
	case SIGABRT:
	case SIGTRAP:
	case SIGSYS:
		return true;
	default:
		return false;
	}
}

static char *pending_path(const struct death *x, const char *ending, char *ret)
{
	return path_format(ret, PATH_MAX, x->s->paths.runtime, "pending/%s.%s", x->crash_id, ending);
}

static cJSON *make_raw(const struct death *x)
{
	struct crash_context c = { .project = x->s->config->name, .host = proc_hostname(), .boot_id = proc_boot_id(),
		.daemon = x->daemon, .run = x->run, .argv = (const char *const *)x->argv, .directory = x->directory,
		.experiment = x->experiment, .stage = x->stage_name, .node = x->node, .uid = getuid(), .pid = x->exit.pid,
		.started_us = x->started_us, .died_us = x->exit.at_us, .status_known = x->exit.known,
		.status = x->exit.status, .stop_timeout = x->stop_timeout, .max_rss_bytes = x->exit.max_rss_bytes,
		.utime_us = x->exit.utime_us, .stime_us = x->exit.stime_us, .restarts = x->restarts,
		.restart_limit = x->restart_limit, .next = x->next_text, .capture_mode = x->mode,
		.capture_reason = x->reason, .held_us = x->snapshot.held_us,
		.snapshot_pid = x->snapshot.kind == CAPTURE_EVENT_SNAPSHOT ? x->snapshot.pid : 0,
		.exec_error = x->exec_error, .tail = x->tail, .all_threads = x->all_threads,
		.source_lines = x->source_lines };

	uuid_parse(x->crash_id, &c.id);
	return report_new_raw(&c);
}

/* What a successor of ours needs to finish this report, on local disk or tmpfs. */
static void save_pending(const struct death *x)
{
	_cleanup_json_ cJSON *j = cJSON_CreateObject();
	_cleanup_(freep) char *text = NULL;
	char path[PATH_MAX];

	json_add_bool(j, "report", x->report);
	json_add_bool(j, "requested", x->requested);
	json_add_bool(j, "stop_timeout", x->stop_timeout);
	json_add_text(j, "next", x->next_text);
	json_add_text(j, "exec_error", x->exec_error);
	json_add_text(j, "snapshot", x->snapshot.snapshot);
	json_add_i64(j, "snapshot_pid", x->snapshot.pid);
	json_add_i64(j, "held_us", (int64_t)x->snapshot.held_us);
	json_add_text(j, "run", x->run);
	json_add_text(j, "daemon", x->daemon);
	json_add_bool(j, "descendant", x->descendant);
	json_add_bool(j, "known", x->exit.known);
	json_add_i64(j, "status", x->exit.status);
	json_add_id(j, "at_us", (uint64_t)x->exit.at_us);
	json_add_i64(j, "pid", x->exit.pid);
	json_add_id(j, "uptime_ms", x->exit.uptime_ms);
	json_add_id(j, "max_rss_bytes", x->exit.max_rss_bytes);
	json_add_id(j, "utime_us", x->exit.utime_us);
	json_add_id(j, "stime_us", x->exit.stime_us);
	json_add_text(j, "cause", x->exit.cause);
	json_add_bool(j, "failure", x->exit.failure);
	text = json_print(j);
	if (text)
		(void)file_replace(AT_FDCWD, pending_path(x, "json", path), text, strlen(text), 0600, 0);
}

static void ask_for_tail(struct death *x)
{
	_cleanup_json_ cJSON *m = cJSON_CreateObject();

	json_add_text(m, "op", "drain");
	json_add_text(m, "daemon", x->daemon);
	json_add_text(m, "id", x->crash_id);
	json_add_i64(m, "deadline_ms", 1000);
	helper_send(x->s->logger, m);
}

static void begin(struct death *x)
{
	x->report = x->report || x->exit.failure || is_fault(&x->exit) || x->stop_timeout;
	if (x->exec_error)
		x->report = false;
	x->stage = STAGE_TAIL;
	ask_for_tail(x);
	/* its file is written in the next turn of the loop, after the successor was started: until then the registry knows enough */
	x->unsaved = true;
	alarm_set(x->alarm, 0);
}

void death_begin(struct supervisor *s, struct daemon *d, const struct death_facts *f, const struct capture_event *event)
{
	struct death *x = death_new(s, d, f->crash_id);

	if (!x) {
		supervisor_say(s, true, "no memory for the report of %s", daemon_get_name(d));
		return;
	}
	x->exit = *f->exit;
	x->stop_timeout = f->stop_timeout;
	x->requested = f->requested;
	x->next_text = copy(f->next);
	x->exec_error = copy(f->exec_error);
	if (event)
		x->snapshot = *event;
	begin(x);
}

void death_begin_descendant(struct supervisor *s, struct daemon *d, const struct capture_event *event)
{
	char id[UUID_TEXT_MAX];
	struct uuid u = uuid_make_v7(0);
	struct death *x = death_new(s, d, uuid_format(&u, id));

	if (!x)
		return;
	x->descendant = x->report = true;
	x->snapshot = *event;
	x->exit = (struct exit_info){ .known = true, .status = event->signal, .at_us = clock_now_us(), .pid = event->pid,
		.failure = true };
	x->next_text = copy("a process below the daemon's first one: the daemon itself goes on");
	begin(x);
}

static void resume(struct supervisor *s, struct daemon *d, const char *crash_id, const struct exit_info *exit,
    const cJSON *j)
{
	const char *snap = json_get_string(j, "snapshot", "");
	struct death *x = death_new(s, d, crash_id);

	if (!x)
		return;
	x->exit = *exit;
	x->descendant = json_get_bool(j, "descendant", false);
	x->report = json_get_bool(j, "report", false);
	x->requested = json_get_bool(j, "requested", false);
	x->stop_timeout = json_get_bool(j, "stop_timeout", false);
	x->next_text = copy(json_get_string(j, "next", "unknown: the supervisor was killed at that moment"));
	x->exec_error = copy(json_get_string(j, "exec_error", NULL));
	if (json_get_string(j, "run", NULL)) {
		free(x->run);
		x->run = copy(json_get_string(j, "run", NULL));
	}
	if (snap[0] && !strchr(snap, '/')) {
		x->snapshot.kind = CAPTURE_EVENT_SNAPSHOT;
		snprintf(x->snapshot.snapshot, sizeof(x->snapshot.snapshot), "%s", snap);
		x->snapshot.pid = (pid_t)json_get_i64(j, "snapshot_pid", 0);
		x->snapshot.held_us = (uint64_t)json_get_i64(j, "held_us", 0);
	}
	begin(x);
}

void death_resume_all(struct supervisor *s)
{
	char folder[PATH_MAX], crash_id[UUID_TEXT_MAX];
	_cleanup_(closedirp) DIR *dir = opendir(path_format(folder, sizeof(folder), s->paths.runtime, "pending"));
	struct dirent *e;

	while (dir && (e = readdir(dir))) {
		_cleanup_json_ cJSON *j = NULL;
		_cleanup_(freep) char *text = NULL;
		struct exit_info exit = { 0 };
		struct uuid u;
		struct daemon *d;
		size_t size;

		if (strlen(e->d_name) != UUID_TEXT_MAX - 1 + 5 || strcmp(e->d_name + UUID_TEXT_MAX - 1, ".json"))
			continue;
		snprintf(crash_id, sizeof(crash_id), "%s", e->d_name);
		if (uuid_parse(crash_id, &u) < 0 || file_read(dirfd(dir), e->d_name, 1 << 20, &text, &size) < 0 ||
		    json_parse(text, size, &j, NULL) < 0)
			continue;
		d = supervisor_find(s, json_get_string(j, "daemon", ""));
		if (!d)
			continue;
		exit.known = json_get_bool(j, "known", false);
		exit.status = (int)json_get_i64(j, "status", 0);
		exit.at_us = json_get_i64(j, "at_us", 0);
		exit.pid = (pid_t)json_get_i64(j, "pid", 0);
		exit.uptime_ms = (uint64_t)json_get_i64(j, "uptime_ms", 0);
		exit.max_rss_bytes = (uint64_t)json_get_i64(j, "max_rss_bytes", 0);
		exit.utime_us = (uint64_t)json_get_i64(j, "utime_us", 0);
		exit.stime_us = (uint64_t)json_get_i64(j, "stime_us", 0);
		exit.failure = json_get_bool(j, "failure", false);
		snprintf(exit.cause, sizeof(exit.cause), "%s", json_get_string(j, "cause", ""));
		resume(s, d, crash_id, &exit, j);
	}
	/* killed after journalling the death and before writing its file: what the registry says is all there is */
	for (size_t i = 0; i < s->n_daemons; i++) {
		const struct registry_entry *entry = daemon_get_entry(s->daemons[i]);
		bool found = false;

		for (struct death *x = s->deaths; x; x = x->next)
			found |= !strcmp(x->crash_id, entry->pending_crash);
		if (entry->pending_crash[0] && !found)
			resume(s, s->daemons[i], entry->pending_crash, &entry->last_exit, NULL);
	}
}

void death_take_tail(struct supervisor *s, const cJSON *m)
{
	const char *id = json_get_string(m, "id", "");

	for (struct death *x = s->deaths; x; x = x->next)
		if (x->stage == STAGE_TAIL && !strcmp(x->crash_id, id)) {
			x->tail = cJSON_Duplicate(json_get_array(m, "tail"), 1);
			advance(x);
			return;
		}
}

void death_logger_restarted(struct supervisor *s)
{
	for (struct death *x = s->deaths; x; x = x->next)
		if (x->stage == STAGE_TAIL)
			ask_for_tail(x);
}

bool death_take_snapshot(struct supervisor *s, const struct capture_event *e)
{
	for (struct death *x = s->deaths; x; x = x->next)
		if (x->exit.pid == e->pid && x->snapshot.kind == CAPTURE_EVENT_NONE && !x->descendant &&
		    (x->stage == STAGE_TAIL || x->stage == STAGE_SNAPSHOT)) {
			x->snapshot = *e;
			x->unsaved = false;
			save_pending(x);
			if (x->stage == STAGE_TAIL)
				alarm_set(x->alarm, TAIL_WAIT_MS);
			if (x->stage == STAGE_SNAPSHOT)
				advance(x);
			return true;
		}
	return false;
}

bool death_is_pending(struct supervisor *s, const char *daemon)
{
	for (struct death *x = s->deaths; x; x = x->next)
		if (!daemon || !strcmp(x->daemon, daemon))
			return true;
	return false;
}

size_t death_list_symbolizers(struct supervisor *s, pid_t *ret)
{
	size_t n = 0;

	for (struct death *x = s->deaths; x && n < DEATH_SYMBOLIZERS_MAX; x = x->next)
		if (x->stage == STAGE_SYMBOLIZER && !x->exited && x->pid > 0)
			ret[n++] = x->pid;
	return n;
}

/* --- the symbolizer ----------------------------------------------------------------------------------------------- */

static void collect_output(struct death *x)
{
	char buf[65536];

	while (!x->out_done) {
		ssize_t n = read(x->out, buf, sizeof(buf));

		if (n < 0 && (errno == EAGAIN || errno == EINTR))
			return;
		if (n <= 0 || x->output.size + (size_t)n > REPORT_MAX) {
			x->out_done = true;
			x->out_watch = watch_free(x->out_watch);
			return;
		}
		text_add_bytes(&x->output, buf, (size_t)n);
	}
}

static void on_output(int events, void *userdata)
{
	struct death *x = userdata;

	(void)events;
	collect_output(x);
	if (x->exited && x->out_done)
		advance(x);
}

static void on_symbolizer_exit(int events, void *userdata)
{
	struct death *x = userdata;
	siginfo_t si = { 0 };

	(void)events;
	if (waitid((idtype_t)P_PIDFD, (id_t)x->pidfd, &si, WEXITED | WNOHANG | __WNOTHREAD) < 0 || !si.si_pid)
		return;
	x->status = si.si_code == CLD_EXITED ? si.si_status << 8 : si.si_status;
	x->pid_watch = watch_free(x->pid_watch);
	x->exited = true;
	x->s->n_symbolizers--;
	collect_output(x);
	x->out_done = true;
	x->out_watch = watch_free(x->out_watch);
	advance(x);
}

static int symbolizer_start(struct death *x)
{
	_cleanup_json_ cJSON *raw = make_raw(x);
	_cleanup_(freep) char *text = raw ? json_print(raw) : NULL;
	_cleanup_(closep) int raw_fd = -1, snap = -1;
	char program[PATH_MAX], path[PATH_MAX];
	struct error err;
	int pipe_fds[2], r;

	if (!text)
		return -ENOMEM;
	r = paths_helper("supervise-symbolizer", program, &err);
	if (r < 0)
		return r;
	snap = open(path_format(path, sizeof(path), x->s->paths.runtime, "pending/%s", x->snapshot.snapshot),
	    O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	if (snap < 0)
		return -errno;
	r = file_replace(AT_FDCWD, pending_path(x, "raw", path), text, strlen(text), 0600, 0);
	if (r < 0)
		return r;
	raw_fd = open(path, O_RDONLY | O_CLOEXEC);
	unlink(path);
	if (raw_fd < 0)
		return -errno;
	if (pipe2(pipe_fds, O_CLOEXEC) < 0)
		return -errno;
	x->pid = fork();
	if (x->pid < 0) {
		r = -errno;
		close(pipe_fds[0]);
		close(pipe_fds[1]);
		return r;
	}
	if (!x->pid) {
		char *const argv[] = { program, NULL };
		int a = fcntl(snap, F_DUPFD, 10), b = fcntl(pipe_fds[1], F_DUPFD, 10), c = fcntl(raw_fd, F_DUPFD, 10);
		struct sigaction dfl = { .sa_handler = SIG_DFL };
		sigset_t none;

		for (int i = 1; i < 65; i++)
			sigaction(i, &dfl, NULL);
		sigemptyset(&none);
		sigprocmask(SIG_SETMASK, &none, NULL);
		setpgid(0, 0);
		if (dup2(a, 0) < 0 || dup2(b, 1) < 0 || dup2(c, 3) < 0)
			_exit(71);
		close(a);
		close(b);
		close(c);
		execv(program, argv);
		_exit(127);
	}
	close(pipe_fds[1]);
	x->out = pipe_fds[0];
	fcntl(x->out, F_SETFL, O_NONBLOCK);
	x->pidfd = pidfd_open_(x->pid);
	if (x->pidfd < 0)
		return x->pidfd;
	x->s->n_symbolizers++;
	r = watch_new(&x->pid_watch, x->s->loop, x->pidfd, UV_READABLE, on_symbolizer_exit, x);
	if (!r)
		r = watch_new(&x->out_watch, x->s->loop, x->out, UV_READABLE, on_output, x);
	return r;
}

static void symbolize_next(struct supervisor *s)
{
	/* the oldest first: new ones are put at the head of the list */
	while (s->n_symbolizers < DEATH_SYMBOLIZERS_MAX) {
		struct death *oldest = NULL;
		int r;

		for (struct death *x = s->deaths; x; x = x->next)
			if (x->stage == STAGE_SYMBOLIZER_QUEUED)
				oldest = x;
		if (!oldest)
			return;
		oldest->stage = STAGE_SYMBOLIZER;
		alarm_set(oldest->alarm, SYMBOLIZER_WAIT_MS);
		r = symbolizer_start(oldest);
		if (r < 0) {
			supervisor_say(s, true, "cannot symbolize the crash of %s: %s", oldest->daemon, strerror(-r));
			oldest->status = 127 << 8;
			oldest->exited = oldest->out_done = true;
			advance(oldest);
		}
	}
}

/* --- report and rows ---------------------------------------------------------------------------------------------- */

static void on_written(int status, void *userdata)
{
	struct death *x = userdata;
	struct supervisor *s = x->s;
	struct daemon *d = supervisor_find(s, x->daemon);
	const cJSON *summary = x->finished ? json_get_object(x->finished, "summary") : NULL;
	char path[PATH_MAX], cause[160] = "", crash_id[UUID_TEXT_MAX];
	bool report = x->report, descendant = x->descendant;

	if (status < 0) {
		/* left pending: the next supervisor, or the next try, writes it */
		supervisor_say(s, true, "cannot write the report of %s to %s: %s", x->daemon, x->report_path, strerror(-status));
	} else {
		unlink(pending_path(x, "json", path));
		if (x->snapshot.kind == CAPTURE_EVENT_SNAPSHOT && x->snapshot.snapshot[0])
			unlink(path_format(path, sizeof(path), s->paths.runtime, "pending/%s", x->snapshot.snapshot));
	}
	if (summary && !x->stop_timeout) { /* "did not stop within 10s" says more than "SIGKILL" */
		const char *where = json_get_string(summary, "where", NULL), *what = json_get_string(summary, "cause", "ended");
		const char *words = strstr(json_get_string(summary, "sentence", ""), "last words ");

		if (where)
			snprintf(cause, sizeof(cause), "%s in %s", what, where);
		else
			snprintf(cause, sizeof(cause), words ? "%s: %s" : "%s", what, words ? words + strlen("last words ") : "");
	}
	snprintf(path, sizeof(path), "%s", x->report_path);
	memcpy(crash_id, x->crash_id, sizeof(crash_id));
	death_free(x);
	if (d && status >= 0)
		daemon_report_done(d, crash_id, report && !descendant ? path : NULL, cause[0] ? cause : NULL);
	else
		supervisor_check_down(s);
	symbolize_next(s);
}

static void add_rows(struct death *x, const char *sentence, const char *traceback)
{
	_cleanup_json_ cJSON *details = cJSON_CreateObject();
	_cleanup_(freep) char *details_text = NULL;
	_cleanup_text_ struct text title = { 0 }, tail = { 0 };
	const cJSON *summary = x->finished ? json_get_object(x->finished, "summary") : NULL;
	const cJSON *fingerprint = x->finished ? json_get_object(x->finished, "fingerprint") : NULL, *line;
	const char *type;
	struct record rec = { .kind = RECORD_EVENT, .ts_us = x->exit.at_us, .pid = x->exit.pid, .daemon = VIEW_OF(x->daemon),
		.run = VIEW_OF(x->run), .experiment = VIEW_OF(x->experiment), .node_id = VIEW_OF(x->node),
		.stage = VIEW_OF(x->stage_name) };

	if (x->exec_error)
		type = EVENT_EXEC_FAILURE;
	else if (!x->exit.known)
		type = EVENT_EXIT_UNKNOWN;
	else if (x->stop_timeout)
		type = EVENT_STOP_KILLED;
	else if (!x->report)
		type = EVENT_PROCESS_EXIT;
	else if (WIFSIGNALED(x->exit.status))
		type = EVENT_PROCESS_CRASH;
	else
		type = EVENT_PROCESS_FAILURE;
	rec.level = x->report || x->exec_error ? LEVEL_ERROR : LEVEL_INFO;
	if (x->stop_timeout || !x->exit.known)
		rec.level = LEVEL_WARNING;
	uuid_parse(x->crash_id, &rec.id);

	json_add_text(details, "crash_id", x->crash_id);
	json_add_text(details, "event_type", type);
	json_add_text(details, "process_name", x->daemon);
	json_add_i64(details, "pid", x->exit.pid);
	json_add_text(details, "host", proc_hostname());
	json_add_text(details, "run", x->run);
	if (x->exit.known && WIFSIGNALED(x->exit.status)) {
		char name[24];

		json_add_text(details, "signal", signal_to_name(WTERMSIG(x->exit.status), name));
	} else if (x->exit.known) {
		json_add_i64(details, "exit_code", WEXITSTATUS(x->exit.status));
	}
	json_add_text(details, "cause", summary ? json_get_string(summary, "cause", x->exit.cause) : x->exit.cause);
	if (summary && json_get_string(summary, "where", NULL))
		json_add_text(details, "where", json_get_string(summary, "where", NULL));
	if (x->stage_name)
		json_add_text(details, "stage", x->stage_name);
	if (fingerprint) {
		json_add_text(details, "group", json_get_string(fingerprint, "group", NULL));
		json_add_text(details, "exact", json_get_string(fingerprint, "exact", NULL));
	}
	json_add_i64(details, "uptime_ms", (int64_t)x->exit.uptime_ms);
	json_add_i64(details, "max_rss_bytes", (int64_t)x->exit.max_rss_bytes);
	json_add_i64(details, "restart_attempts", x->restarts);
	json_add_text(details, "next", x->next_text);
	if (x->report_path[0])
		json_add_text(details, "report", x->report_path);
	details_text = json_print(details);

	if (x->exec_error)
		text_addf(&title, "%s could not be executed: %s", x->daemon, x->exec_error);
	else if (!x->report)
		text_addf(&title, "%s ended: %s", x->daemon, x->exit.cause);
	else
		text_addf(&title, "%s died: %s", x->daemon, sentence ? sentence : x->exit.cause);
	if (!details_text || title.failed)
		return;
	rec.event_type = VIEW_OF(type);
	rec.message = (struct view){ title.data, title.size };
	rec.context = VIEW_OF(details_text);
	rec.logger_name = VIEW_OF("supervisor");
	recorder_add(x->s->recorder, &rec);
	supervisor_say(x->s, false, "%s; %s", title.data, x->next_text ? x->next_text : "");
	if (rec.level < LEVEL_WARNING)
		return;

	if (!traceback) { /* no stack: the last words stand in for it */
		cJSON_ArrayForEach(line, x->tail) {
			text_add(&tail, json_get_string(line, "text", ""));
			text_add(&tail, "\n");
		}
		traceback = tail.data;
	}
	rec.kind = RECORD_LOG;
	rec.event_type = (struct view){ 0 };
	rec.traceback = VIEW_OF(traceback);
	recorder_add(x->s->recorder, &rec);
}

static void write_report(struct death *x)
{
	_cleanup_(freep) char *sentence = NULL, *traceback = NULL;
	char name[512];

	x->stage = STAGE_WRITING;
	alarm_stop(x->alarm);
	if (x->report && !x->finished)
		x->finished = make_raw(x);
	if (x->report && x->finished) {
		sentence = copy(json_get_string(json_get_object(x->finished, "summary"), "sentence", NULL));
		traceback = copy(json_get_string(x->finished, "traceback", NULL));
		path_format(x->report_path, sizeof(x->report_path), x->s->paths.state, "%s",
		    report_file_name(x->finished, name, sizeof(name)));
	}
	add_rows(x, sentence, traceback);
	if (x->report && x->finished)
		recorder_add_report(x->s->recorder, x->report_path, cJSON_Duplicate(x->finished, 1), on_written, x);
	else
		recorder_barrier(x->s->recorder, on_written, x);
}

static void take_symbolized(struct death *x)
{
	cJSON *j = NULL;

	if (WIFEXITED(x->status) && WEXITSTATUS(x->status) == 0 && !x->output.failed && x->output.size &&
	    json_parse(x->output.data, x->output.size, &j, NULL) == 0 &&
	    !strcmp(json_get_string(j, "crash_id", ""), x->crash_id)) {
		x->finished = j;
		return;
	}
	cJSON_Delete(j);
	x->finished = make_raw(x);
	if (x->finished) {
		char text[64], sig[24];

		if (WIFSIGNALED(x->status))
			snprintf(text, sizeof(text), "symbolizer died: %s", signal_to_name(WTERMSIG(x->status), sig));
		else
			snprintf(text, sizeof(text), "symbolizer ended with status %d", WEXITSTATUS(x->status));
		json_add_text(x->finished, "symbolizer_error", text);
	}
}

/* The present stage has what it waited for. */
static void advance(struct death *x)
{
	if (x->unsaved) {
		x->unsaved = false;
		save_pending(x);
	}
	switch (x->stage) {
	case STAGE_TAIL:
		if (!x->report) {
			write_report(x);
			return;
		}
		if (x->snapshot.kind == CAPTURE_EVENT_NONE && is_fault(&x->exit) && x->s->capture &&
		    (!strcmp(x->mode, "preload") || !strcmp(x->mode, "ptrace"))) {
			x->stage = STAGE_SNAPSHOT;
			alarm_set(x->alarm, SNAPSHOT_WAIT_MS);
			return;
		}
		__attribute__((fallthrough));
	case STAGE_SNAPSHOT:
		if (x->snapshot.kind != CAPTURE_EVENT_SNAPSHOT) {
			write_report(x);
			return;
		}
		x->stage = STAGE_SYMBOLIZER_QUEUED;
		alarm_stop(x->alarm);
		symbolize_next(x->s);
		return;
	case STAGE_SYMBOLIZER:
		take_symbolized(x);
		write_report(x);
		symbolize_next(x->s);
		return;
	default:
		return;
	}
}

static void on_alarm(void *userdata)
{
	struct death *x = userdata;

	if (x->unsaved) {
		x->unsaved = false;
		save_pending(x);
		if (x->stage == STAGE_TAIL) {
			alarm_set(x->alarm, TAIL_WAIT_MS);
			return;
		}
	}
	if (x->stage == STAGE_SYMBOLIZER) {
		if (x->pidfd >= 0 && !x->exited)
			pidfd_signal(x->pidfd, SIGKILL); /* its exit brings us on */
		return;
	}
	advance(x); /* without what did not come in time */
}
