/* SPDX-License-Identifier: Apache-2.0 */
/*
 * run: one command with everything a daemon has, and no file. Its supervisor belongs to the project "run", is started
 * when the first run begins and leaves with the last one. Output is followed in the log file; the exit status, or the
 * signal, is handed on.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <time.h>
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
	int fd;          /* the log file, -1 until it is there */
	struct text rest; /* a line that is not whole yet */
};

/* One line of the log file back into the bytes that were written. */
static void print_line(const char *line, size_t size)
{
	_cleanup_json_ cJSON *j = NULL;
	_cleanup_text_ struct text t = { 0 };
	FILE *out;
	const char *raw;

	if (json_parse(line, size, &j, NULL) < 0)
		return;
	out = !strcmp(json_get_string(j, "stream", "stdout"), "stderr") ? stderr : stdout;
	raw = json_get_string(j, "raw", NULL);
	if (raw)
		cli_add_base64(&t, raw);
	else
		text_add(&t, json_get_string(j, "message", ""));
	if (!json_get_bool(j, "partial", false) && !json_get_bool(j, "continued", false))
		text_add(&t, "\n");
	fwrite(t.data ? t.data : "", 1, t.size, out);
}

static void drain(struct follower *f)
{
	char buf[65536];
	ssize_t n;

	if (f->fd < 0)
		f->fd = open(f->path, O_RDONLY | O_CLOEXEC);
	while (f->fd >= 0 && (n = read(f->fd, buf, sizeof(buf))) > 0) {
		char *end;

		text_add_bytes(&f->rest, buf, (size_t)n);
		while (f->rest.size && (end = memchr(f->rest.data, '\n', f->rest.size))) {
			size_t len = (size_t)(end - f->rest.data);

			print_line(f->rest.data, len);
			memmove(f->rest.data, end + 1, f->rest.size - len - 1);
			f->rest.size -= len + 1;
		}
	}
	fflush(stdout);
}

static int forward(const struct paths *p, const char *daemon, int sig)
{
	_cleanup_(control_closep) struct control *control = NULL;
	_cleanup_json_ cJSON *j = cJSON_CreateObject(), *done = NULL;
	struct error err;
	char name[24];

	json_add_text(j, "verb", "signal");
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
	int code = strstr(error, "No such file") ? CLI_NOT_FOUND : strstr(error, "exec ") ? CLI_NOT_EXECUTABLE : CLI_OWN_FAILURE;

	return cli_fail(code, NULL, "%s", error);
}

static int begin(struct cli *c, const struct paths *p, const char *daemon, struct control **ret)
{
	_cleanup_(config_freep) struct config *empty = NULL, *config = NULL;
	_cleanup_json_ cJSON *j = NULL, *request = cJSON_CreateObject();
	_cleanup_(freep) char *text = NULL;
	char file[64], path[PATH_MAX];
	struct error err = { "" };
	int r;

	if (config_make_run(&empty, project, NULL, NULL) < 0 || config_make_run(&config, project, daemon, c->o.args) < 0)
		return cli_fail(CLI_OWN_FAILURE, NULL, "out of memory");
	r = launch_supervisor(p, empty, &err);
	if (r < 0)
		return cli_fail(CLI_OWN_FAILURE, "supervise doctor looks for the usual causes", "%s", err.text);
	j = config_to_json(config);
	text = j ? json_print(j) : NULL;
	snprintf(file, sizeof(file), "new.%d.json", (int)getpid());
	path_format(path, sizeof(path), p->runtime, "%s", file);
	r = text ? file_replace(AT_FDCWD, path, text, strlen(text), 0600, 0) : -ENOMEM;
	if (r < 0)
		return cli_fail(CLI_OWN_FAILURE, NULL, "cannot write %s: %s", path, strerror(-r));
	json_add_text(request, "verb", "run");
	json_add_text(request, "config", file);
	if (control_connect(ret, p, &err) < 0 || control_send(*ret, request, &err) < 0) {
		unlink(path);
		return -1;
	}
	return 0;
}

/* The supervisor was killed; the keeper starts another, which knows this run. Return: 0 or -1 */
static int attach(const struct paths *p, const char *daemon, struct control **ret)
{
	_cleanup_json_ cJSON *request = cJSON_CreateObject();
	uint64_t end = clock_mono_ms() + 10000;
	struct timespec pause = { 0, 10000000 };
	struct error err;

	json_add_text(request, "verb", "run");
	json_add_text(request, "attach", daemon);
	*ret = control_close(*ret);
	while (control_connect(ret, p, &err) < 0) {
		if (clock_mono_ms() > end)
			return -1;
		nanosleep(&pause, NULL);
	}
	return control_send(*ret, request, &err) < 0 ? -1 : 0;
}

int verb_run(struct cli *c)
{
	_cleanup_(control_closep) struct control *control = NULL;
	struct follower f = { .fd = -1 };
	char daemon[96], events[4096];
	const char *base = strrchr(c->o.args[0], '/');
	struct error err = { "" };
	struct paths p;
	sigset_t mask;
	bool started = false;
	int sig_fd, watch, code = -1, r;
	size_t n = 0;
	uint32_t dice;

	base = base ? base + 1 : c->o.args[0];
	/* a name of its own: the command's, and something that no other run has */
	for (const char *s = base; *s && n < 40; s++)
		if (strchr("abcdefghijklmnopqrstuvwxyz0123456789_.-", *s | (*s >= 'A' && *s <= 'Z' ? 32 : 0)) &&
		    (n || (*s != '.' && *s != '-' && *s != '_')))
			daemon[n++] = (char)(*s >= 'A' && *s <= 'Z' ? *s | 32 : *s);
	random_bytes(&dice, sizeof(dice));
	snprintf(daemon + n, sizeof(daemon) - n, "%s%08x", n ? "-" : "r", dice);

	sigemptyset(&mask);
	sigaddset(&mask, SIGINT);
	sigaddset(&mask, SIGTERM);
	sigaddset(&mask, SIGHUP);
	sigaddset(&mask, SIGQUIT);
	sigprocmask(SIG_BLOCK, &mask, NULL);
	sig_fd = signalfd(-1, &mask, SFD_CLOEXEC);
	if (paths_init(&p, project, &err) < 0)
		return cli_fail(CLI_OWN_FAILURE, NULL, "%s", err.text);
	/* the last run's supervisor may just be leaving: then another one is started */
	for (int attempt = 0; (r = begin(c, &p, daemon, &control)) == -1; attempt++) {
		control = control_close(control);
		if (attempt == 20)
			return cli_fail(CLI_OWN_FAILURE, NULL, "the supervisor of the project 'run' does not answer");
	}
	if (r > 0)
		return r;
	path_format(f.path, sizeof(f.path), p.state, "log/%s.log", daemon);
	watch = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);
	{
		char folder[PATH_MAX];

		inotify_add_watch(watch, path_format(folder, sizeof(folder), p.state, "log"), IN_MODIFY | IN_CREATE);
	}
	while (code < 0) {
		struct pollfd fds[3] = { { control_get_fd(control), POLLIN, 0 }, { watch, POLLIN, 0 }, { sig_fd, POLLIN, 0 } };
		_cleanup_json_ cJSON *line = NULL;

		if (poll(fds, 3, -1) < 0 && errno != EINTR)
			return cli_fail(CLI_OWN_FAILURE, NULL, "poll: %s", strerror(errno));
		if (fds[2].revents) {
			struct signalfd_siginfo info;

			if (read(sig_fd, &info, sizeof(info)) == sizeof(info))
				forward(&p, daemon, (int)info.ssi_signo);
		}
		if (fds[1].revents)
			while (read(watch, events, sizeof(events)) > 0)
				;
		drain(&f);
		while (code < 0 && (r = control_read_line(control, false, &line, &err)) == 1) {
			if (json_get_bool(line, "ended", false)) {
				drain(&f);
				code = hand_on(c, line);
			} else if (json_get_bool(line, "ok", false)) {
				started = true;
			} else if (json_get_string(line, "error", NULL)) {
				const char *error = json_get_string(line, "error", "");

				code = strstr(error, "try again") ? -2 : exec_failure(error);
			}
			cJSON_Delete(line);
			line = NULL;
		}
		if (code == -2 || (r == -ECONNRESET && code < 0 && !started)) /* it was going down when we asked */
			return verb_run(c);
		if (r == -ECONNRESET && code < 0 && attach(&p, daemon, &control) == 0)
			continue;
		if (r < 0 && code < 0)
			return cli_fail(CLI_OWN_FAILURE, "The command goes on; its log is in the state folder of the project 'run'",
			    "the supervisor was killed");
	}
	drain(&f);
	text_free(&f.rest);
	return code;
}
