/* SPDX-License-Identifier: Apache-2.0 */
/*
 * run: one command with everything a daemon has, and no file. Its supervisor belongs to the project "run", is started
 * when the first run begins and leaves with the last one. Output is followed in the log file; the exit status, or the
 * signal, is handed on.
 */
#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/inotify.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/file.h"
#include "base/proc.h"
#include "capture/report.h"
#include "cli/cli.h"
#include "config/config.h"
#include "supervisor/client.h"
#include "supervisor/launch.h"

static const char project[] = "run";

struct follower {
	char path[PATH_MAX];
	int fd;           /* the log file, -1 until it is there */
	ino_t inode;
	struct text rest; /* a line that is not whole yet */
	bool broken;      /* nobody reads our output any more */
};

/* One line of the log file back into the bytes that were written. */
static void print_line(struct follower *f, const char *line, size_t size)
{
	_cleanup_json_ cJSON *j = NULL;
	_cleanup_text_ struct text t = { 0 };
	FILE *out;
	const char *raw;

	if (json_parse(line, size, &j, NULL) < 0)
		return;
	out = !strcmp(json_get_string(j, "stream", "stdout"), "stderr") ? stderr : stdout;
	if (out == stderr)
		fflush(stdout); /* in the order of writing, where both are one file */
	raw = json_get_string(j, "raw", NULL);
	if (raw)
		cli_add_base64(&t, raw);
	else
		text_add(&t, json_get_string(j, "message", ""));
	if (!json_get_bool(j, "partial", false) && !json_get_bool(j, "continued", false))
		text_add(&t, "\n");
	fwrite(t.data ? t.data : "", 1, t.size, out);
	f->broken |= ferror(out) && errno == EPIPE;
}

static void print_lines(struct follower *f)
{
	size_t at = 0;
	char *end;

	while (at < f->rest.size && (end = memchr(f->rest.data + at, '\n', f->rest.size - at))) {
		print_line(f, f->rest.data + at, (size_t)(end - f->rest.data) - at);
		at = (size_t)(end - f->rest.data) + 1;
	}
	if (at) {
		memmove(f->rest.data, f->rest.data + at, f->rest.size - at);
		f->rest.size -= at;
	}
}

/* A step of reading, so that signals are seen however fast the command writes. Return: whether the end was reached */
static bool read_some(struct follower *f)
{
	char buf[65536];
	ssize_t n = 0;

	for (int i = 0; i < 16 && f->fd >= 0 && !f->broken; i++) {
		n = read(f->fd, buf, sizeof(buf));
		if (n <= 0)
			break;
		text_add_bytes(&f->rest, buf, (size_t)n);
		print_lines(f);
	}
	return n <= 0;
}

/*
 * What is new, through a rotation too: the old file is read to its end once it has its new name.
 * Return: whether all of it was read
 */
static bool drain(struct follower *f)
{
	struct stat st;
	bool end = read_some(f);

	while (end && stat(f->path, &st) == 0 && (f->fd < 0 || st.st_ino != f->inode)) {
		end = read_some(f); /* what was written before the renaming */
		if (!end)
			break;
		if (f->fd >= 0)
			close(f->fd);
		f->fd = open(f->path, O_RDONLY | O_CLOEXEC);
		if (f->fd < 0 || fstat(f->fd, &st) < 0)
			break;
		f->inode = st.st_ino;
		end = read_some(f);
	}
	if (fflush(stdout) == EOF && errno == EPIPE)
		f->broken = true;
	return end || f->broken;
}

static void drain_all(struct follower *f)
{
	while (!drain(f))
		;
}

/* @sig: to be sent to all of it; 0: it is stopped */
static int forward(const struct paths *p, const char *daemon, int sig)
{
	_cleanup_(control_closep) struct control *control = NULL;
	_cleanup_json_ cJSON *j = cJSON_CreateObject(), *done = NULL;
	struct error err;
	char name[24];

	json_add_text(j, "verb", sig ? "signal" : "stop");
	if (sig)
		json_add_text(j, "signal", signal_to_name(sig, name));
	json_add_bool(j, "tree", true);
	cJSON_AddItemToArray(json_add_array(j, "names"), cJSON_CreateString(daemon));
	return control_connect(&control, p, &err) < 0 ? -1 : control_request(control, j, NULL, NULL, &done, &err);
}

static void show_report(struct cli *c, const char *path)
{
	struct report_render_options o = { .colour = c->colour_err, .utf8 = c->utf8, .width = c->width };
	_cleanup_text_ struct text t = { 0 };
	_cleanup_(freep) char *text = NULL;
	_cleanup_json_ cJSON *j = NULL;
	size_t size;

	if (file_read(AT_FDCWD, path, 64 << 20, &text, &size) < 0 || json_parse(text, size, &j, NULL) < 0)
		return;
	report_render(j, &o, &t);
	fprintf(stderr, "\n%s\n  report: %s\n", t.data ? t.data : "", path);
}

/* The way the command ended is the way this program ends. */
static int hand_on(struct cli *c, const cJSON *ended)
{
	const cJSON *exit = json_get_object(ended, "exit");
	const char *report = json_get_string(ended, "report", NULL);
	int sig = (int)json_get_i64(exit, "signal", 0);

	if (report && !c->o.quiet)
		show_report(c, report);
	if (sig) {
		struct rlimit none = { 0, 0 };
		sigset_t all;

		fflush(NULL);
		setrlimit(RLIMIT_CORE, &none);
		signal(sig, SIG_DFL);
		sigfillset(&all);
		sigprocmask(SIG_UNBLOCK, &all, NULL);
		raise(sig);
		return 128 + sig;
	}
	return (int)json_get_i64(exit, "code", CLI_OWN_FAILURE);
}

static int exec_failure(const char *error)
{
	int code = !strstr(error, "exec ") ? CLI_OWN_FAILURE : strstr(error, "No such file") ? CLI_NOT_FOUND : CLI_NOT_EXECUTABLE;

	return cli_fail(code, NULL, "%s", error);
}

/* Variables that a supervisor needs itself. The rest of a caller's environment is that of its command alone: the supervisor
 * is shared by all runs. */
static const char *const own_variables[] = { "PATH=", "HOME=", "USER=", "LOGNAME=", "SHELL=", "LANG=", "LC_ALL=", "TZ=", "TMPDIR=",
	"XDG_RUNTIME_DIR=", "XDG_STATE_HOME=", "XDG_CONFIG_HOME=", "XDG_CACHE_HOME=", "SUPERVISE_RUNTIME_DIR=", "SUPERVISE_LIBEXEC=",
	"DEBUGINFOD_URLS=", "ASAN_OPTIONS=", "UBSAN_OPTIONS=", "LSAN_OPTIONS=" };

/* What a session or service manager, or an outer supervisor, meant for this process and not for the command. */
static const char *const not_passed[] = { "NOTIFY_SOCKET=", "JOURNAL_STREAM=", "LISTEN_", "WATCHDOG_", "INVOCATION_ID=", "SUPERVISE_" };

static bool begins_with_any(const char *s, const char *const *list, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (!strncmp(s, list[i], strlen(list[i])))
			return true;
	return false;
}

/* The command's environment as it is here, and ours cut down to what is kept. Return: 0 or -ENOMEM */
static int split_environment(char ***ret)
{
	_cleanup_(freep) char **all = NULL;
	size_t n = 0, n_all = 0, n_own = 0;

	while (environ && environ[n])
		n++;
	all = calloc(n + 1, sizeof(*all));
	if (!all)
		return -ENOMEM;
	for (size_t i = 0; i < n; i++) {
		char *e = environ[i];
		bool own = begins_with_any(e, own_variables, ARRAY_SIZE(own_variables));

		if (*e != '=' && strchr(e, '=') && (own || !begins_with_any(e, not_passed, ARRAY_SIZE(not_passed)))) {
			all[n_all] = strdup(e);
			if (!all[n_all++])
				return -ENOMEM;
		}
		if (own)
			environ[n_own++] = e;
	}
	if (environ)
		environ[n_own] = NULL;
	*ret = TAKE_PTR(all);
	return 0;
}

/*
 * @last:      do not ask for another try where the supervisor does not answer
 * @ret_idle:  a second connection to the same supervisor, made before the request: it ends when that supervisor has left
 * Return: 0; -1: the supervisor just left, try again; an exit code after a message
 */
static int begin(struct cli *c, const struct paths *p, const char *daemon, char **environment, bool last, struct control **ret,
    struct control **ret_idle)
{
	_cleanup_(config_freep) struct config *empty = NULL, *config = NULL;
	_cleanup_json_ cJSON *j = NULL, *request = cJSON_CreateObject();
	_cleanup_(freep) char *text = NULL;
	char file[64], path[PATH_MAX], **own;
	struct error err = { "" };
	int r;

	r = config_make_run(&empty, project, NULL, NULL);
	if (r == 0)
		r = config_make_run(&config, project, daemon, c->o.args);
	if (r < 0)
		return cli_fail(CLI_OWN_FAILURE, r == -EILSEQ ? "Words and the current folder must be UTF-8" : NULL, "cannot run '%s': %s",
		    c->o.args[0], strerror(-r));
	config->daemons[0].umask = (int)umask(077);
	umask((mode_t)config->daemons[0].umask);
	own = config->daemons[0].environment;
	config->daemons[0].environment = environment; /* lent */
	r = launch_supervisor(p, empty, &err);
	j = r < 0 ? NULL : config_to_json(config);
	config->daemons[0].environment = own;
	if (r == -EAGAIN && !last)
		return -1; /* the keeper of an earlier run was just leaving */
	if (r < 0)
		return cli_fail(CLI_OWN_FAILURE, "supervise doctor looks for the usual causes", "%s", err.text);
	text = j ? json_print(j) : NULL;
	snprintf(file, sizeof(file), "new.%d.json", (int)getpid());
	path_format(path, sizeof(path), p->runtime, "%s", file);
	r = text ? file_replace(AT_FDCWD, path, text, strlen(text), 0600, 0) : -ENOMEM;
	if (r < 0)
		return cli_fail(CLI_OWN_FAILURE, NULL, "cannot write %s: %s", path, strerror(-r));
	json_add_text(request, "verb", "run");
	json_add_text(request, "config", file);
	if (control_connect(ret, p, &err) < 0 || control_connect(ret_idle, p, &err) < 0 ||
	    control_send(*ret, request, &err) < 0) {
		unlink(path);
		return -1;
	}
	return 0;
}

/* The supervisor was killed; the keeper starts another, which knows this run. Return: 0 or -1 */
static int attach(const struct paths *p, const char *daemon, struct control **ret)
{
	_cleanup_(closep) int watch = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);
	_cleanup_json_ cJSON *request = cJSON_CreateObject();
	uint64_t end = clock_mono_ms() + 10000;
	char events[4096];
	struct error err;

	json_add_text(request, "verb", "run");
	json_add_text(request, "attach", daemon);
	*ret = control_close(*ret);
	if (watch < 0 || inotify_add_watch(watch, p->runtime, IN_CREATE | IN_MOVED_TO | IN_MODIFY) < 0)
		return -1;
	/* the socket appears, and something is written after it listens */
	while (control_connect(ret, p, &err) < 0) {
		struct pollfd fd = { watch, POLLIN, 0 };

		/* nobody tells when a lock becomes free, so it is looked at now and then */
		if (clock_mono_ms() >= end || !launch_keeper_runs(p) || (poll(&fd, 1, 100) < 0 && errno != EINTR))
			return -1;
		while (read(watch, events, sizeof(events)) > 0)
			;
	}
	return control_send(*ret, request, &err) < 0 ? -1 : 0;
}

/* The command's name, and something that no other run has. */
static void make_name(const char *command, char ret[96])
{
	const char *base = strrchr(command, '/');
	uint32_t dice;
	size_t n = 0;

	for (base = base ? base + 1 : command; *base && n < 40; base++) {
		char letter = (char)tolower((unsigned char)*base);

		if (isalnum((unsigned char)letter) ? (unsigned char)letter < 0x80 : n && strchr("_.-", letter))
			ret[n++] = letter;
	}
	random_bytes(&dice, sizeof(dice));
	snprintf(ret + n, 96 - n, "%s%08x", n ? "-" : "r", dice);
}

enum { AGAIN = -2 };

/* Follows the command to its end. Return: exit code; AGAIN when the supervisor was just leaving */
static int follow(struct cli *c, const struct paths *p, const char *daemon, struct control **control, int sig_fd)
{
	_cleanup_(closep) int watch = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);
	struct follower f = { .fd = -1 };
	char folder[PATH_MAX], events[4096];
	struct error err = { "" };
	bool stopped = false, started = false, all_read = true;
	int code = -1, r = 0;

	path_format(f.path, sizeof(f.path), p->state, "log/%s.log", daemon);
	if (watch < 0 ||
	    inotify_add_watch(watch, path_format(folder, sizeof(folder), p->state, "log"), IN_MODIFY | IN_CREATE | IN_MOVED_TO) < 0)
		return cli_fail(CLI_OWN_FAILURE, "fs.inotify.max_user_instances may be too low", "cannot watch the log: %s", strerror(errno));
	if (c->o.verbose)
		cli_note(c, "log: %s", f.path);
	while (code == -1) {
		struct pollfd fds[] = { { control_get_fd(*control), POLLIN, 0 }, { watch, POLLIN, 0 }, { sig_fd, POLLIN, 0 } };
		_cleanup_json_ cJSON *line = NULL;

		if (poll(fds, ARRAY_SIZE(fds), all_read ? -1 : 0) < 0) {
			if (errno != EINTR)
				return cli_fail(CLI_OWN_FAILURE, NULL, "poll: %s", strerror(errno));
			continue;
		}
		if (fds[2].revents) {
			struct signalfd_siginfo info;

			if (read(sig_fd, &info, sizeof(info)) == sizeof(info))
				forward(p, daemon, (int)info.ssi_signo);
		}
		while (read(watch, events, sizeof(events)) > 0)
			;
		all_read = drain(&f);
		if (f.broken && !stopped) { /* as a pipeline ends its writer when the reader leaves */
			forward(p, daemon, 0);
			stopped = true;
		}
		while (code == -1 && (r = control_read_line(*control, false, &line, &err)) == 1) {
			const char *error = json_get_string(line, "error", NULL);

			if (json_get_bool(line, "ended", false)) {
				drain_all(&f);
				code = f.broken ? 128 + SIGPIPE : hand_on(c, line);
			} else if (json_get_bool(line, "ok", false)) {
				started = true;
			} else if (error) {
				code = (json_get_i64(line, "code", 0) == 71 && strstr(error, "going down")) ||
					(!started && !strcmp(error, "no such run")) ?
				    AGAIN :
				    exec_failure(error);
			}
			cJSON_Delete(line);
			line = NULL;
		}
		/* killed, or it was just leaving when we asked: its successor, if there is one, knows whether it began */
		if (r < 0 && code == -1 && attach(p, daemon, control) < 0)
			code = !started ? AGAIN : cli_fail(CLI_OWN_FAILURE, "The command goes on; its output and its end are in: supervise -p run logs, status",
			    "the supervisor was killed");
	}
	if (f.fd >= 0)
		close(f.fd);
	text_free(&f.rest);
	if (f.broken) {
		signal(SIGPIPE, SIG_DFL);
		raise(SIGPIPE);
	}
	return code;
}

int verb_run(struct cli *c)
{
	_cleanup_(closep) int sig_fd = -1;
	char **environment = NULL, daemon[96];
	struct error err = { "" };
	struct paths p;
	sigset_t mask;
	int r = AGAIN;

	make_name(c->o.args[0], daemon);
	sigemptyset(&mask);
	sigaddset(&mask, SIGINT);
	sigaddset(&mask, SIGTERM);
	sigaddset(&mask, SIGHUP);
	sigaddset(&mask, SIGQUIT);
	sigprocmask(SIG_BLOCK, &mask, NULL);
	sig_fd = signalfd(-1, &mask, SFD_CLOEXEC);
	signal(SIGPIPE, SIG_IGN);
	if (sig_fd < 0)
		return cli_fail(CLI_OWN_FAILURE, NULL, "signalfd: %s", strerror(errno));
	if (paths_init(&p, project, &err) < 0)
		return cli_fail(CLI_OWN_FAILURE, NULL, "%s", err.text);
	if (split_environment(&environment) < 0)
		return cli_fail(CLI_OWN_FAILURE, NULL, "out of memory");
	/* the last run's supervisor may just be leaving: then another one is started */
	for (int attempt = 0; attempt < 50 && r == AGAIN; attempt++) {
		_cleanup_(control_closep) struct control *control = NULL, *idle = NULL;

		r = begin(c, &p, daemon, environment, attempt >= 3, &control, &idle);
		r = r == -1 ? AGAIN : r == 0 ? follow(c, &p, daemon, &control, sig_fd) : r;
		if (r == AGAIN && idle) {
			struct pollfd fds[] = { { control_get_fd(idle), POLLIN, 0 }, { sig_fd, POLLIN, 0 } };

			if (poll(fds, ARRAY_SIZE(fds), -1) > 0 && fds[1].revents)
				r = 128 + SIGINT; /* nothing was started */
		}
	}
	for (char **e = environment; *e; e++)
		free(*e);
	free(environment);
	return r == AGAIN ? cli_fail(CLI_OWN_FAILURE, "supervise -p run status", "the supervisor of the project 'run' does not answer") : r;
}
