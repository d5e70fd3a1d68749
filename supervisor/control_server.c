/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Requests are untrusted input: bounded in size and number, parsed strictly, and from our own user only. An answer that a
 * client does not read is kept up to ANSWER_MAX bytes, then the client is dropped.
 */
#include "supervisor/control_server.h"

#include <errno.h>
#include <fcntl.h>
#include <fnmatch.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/file.h"
#include "base/proc.h"
#include "base/text.h"
#include "supervisor/control.h"
#include "supervisor/daemon.h"
#include "supervisor/death.h"
#include "supervisor/supervisor.h"
#include "supervisor/watch.h"

enum {
	CLIENTS_MAX = 256,
	ANSWER_MAX = 64 << 20,
	CONFIG_MAX = 64 << 20,
	STAYED_UP_MS = 1000, /* `start --wait`: up for this long counts as up */
};

enum verb { VERB_UNKNOWN = 0, VERB_STATUS, VERB_START, VERB_STOP, VERB_RESTART, VERB_KILL, VERB_SIGNAL, VERB_UP,
	VERB_DOWN, VERB_RELOAD, VERB_PING, VERB_RUN, _VERB_MAX };

static const char *const verbs[_VERB_MAX] = { [VERB_STATUS] = "status", [VERB_START] = "start", [VERB_STOP] = "stop",
	[VERB_RESTART] = "restart", [VERB_KILL] = "kill", [VERB_SIGNAL] = "signal", [VERB_UP] = "up",
	[VERB_DOWN] = "down", [VERB_RELOAD] = "reload", [VERB_PING] = "ping", [VERB_RUN] = "run" };

struct target {
	char *name;
	bool done;
	uint64_t starts; /* before the request: a later attempt is ours */
};

struct client {
	struct client *next;
	struct control_server *server;
	int fd;
	struct watch *watch;
	struct text in, out;
	size_t sent;
	bool closing; /* after the answer is sent */
	bool dead;    /* freed in the next turn of the loop */
	enum verb verb;
	struct target *targets;
	size_t n_targets, n_left;
	bool wait, failed;
	struct alarm_clock *timeout, *look_again;
	char *run_id; /* VERB_RUN: incarnation */
};

struct control_server {
	struct supervisor *s;
	int fd;
	struct watch *watch;
	struct client *clients;
	unsigned n_clients;
};

static void client_free(struct client *c)
{
	for (struct client **p = &c->server->clients; *p; p = &(*p)->next)
		if (*p == c) {
			*p = c->next;
			break;
		}
	c->server->n_clients--;
	watch_free(c->watch);
	alarm_free(c->timeout);
	alarm_free(c->look_again);
	close(c->fd);
	text_free(&c->in);
	text_free(&c->out);
	for (size_t i = 0; i < c->n_targets; i++)
		free(c->targets[i].name);
	free(c->targets);
	free(c->run_id);
	free(c);
}

/* Frees nothing at once: callers up the stack still hold the client. */
static void bury(struct client *c)
{
	c->dead = c->closing = true;
	c->n_left = 0;
	alarm_set(c->look_again, 0);
}

static void flush(struct client *c)
{
	while (c->sent < c->out.size) {
		ssize_t n = send(c->fd, c->out.data + c->sent, c->out.size - c->sent, MSG_DONTWAIT | MSG_NOSIGNAL);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno == EAGAIN) {
			watch_set(c->watch, UV_READABLE | UV_WRITABLE);
			return;
		}
		if (n < 0) {
			bury(c);
			return;
		}
		c->sent += (size_t)n;
	}
	c->out.size = c->sent = 0;
	if (c->closing)
		bury(c);
	else
		watch_set(c->watch, UV_READABLE);
}

static void say(struct client *c, const cJSON *line)
{
	_cleanup_(freep) char *text = json_print(line);

	if (text && c->out.size < ANSWER_MAX) {
		text_add(&c->out, text);
		text_add(&c->out, "\n");
	}
}

/* The last line; the client is gone after it. */
static void finish(struct client *c, int code, cJSON *extra, const char *fmt, ...) __attribute__((format(printf, 4, 5)));
static void finish(struct client *c, int code, cJSON *extra, const char *fmt, ...)
{
	_cleanup_json_ cJSON *j = extra ? extra : cJSON_CreateObject();
	char text[1024];
	va_list ap;

	json_add_bool(j, "done", true);
	json_add_i64(j, "code", code);
	if (fmt) {
		va_start(ap, fmt);
		vsnprintf(text, sizeof(text), fmt, ap);
		va_end(ap);
		json_add_text(j, "error", text);
	}
	say(c, j);
	c->closing = true;
	c->n_left = 0;
	flush(c);
}

static cJSON *supervisor_to_json(struct supervisor *s)
{
	cJSON *j = cJSON_CreateObject(), *problems;

	json_add_i64(j, "pid", getpid());
	json_add_i64(j, "keeper_pid", s->keeper_pid);
	json_add_time(j, "started_at", s->started_us);
	json_add_text(j, "version", SUPERVISE_VERSION);
	json_add_text(j, "project", s->config->name);
	json_add_text(j, "config", s->config->path);
	json_add_text(j, "config_digest", s->config->digest);
	json_add_text(j, "host", proc_hostname());
	json_add_text(j, "store", store_type_to_string(s->config->store.type));
	json_add_i64(j, "logger_pid", helper_get_pid(s->logger));
	json_add_i64(j, "writer_pid", s->writer ? helper_get_pid(s->writer) : 0);
	json_add_i64(j, "helper_restarts", s->helper_restarts);
	json_add_bool(j, "going_down", s->going_down);
	problems = json_add_array(j, "problems");
	if (s->problem[0])
		cJSON_AddItemToArray(problems, cJSON_CreateString(s->problem));
	return j;
}

/* --- names -------------------------------------------------------------------------------------------------------- */

static bool name_matches(const struct daemon *d, const char *pattern)
{
	const char *name = daemon_get_name(d);

	if (!strcmp(pattern, "all") || !strcmp(pattern, name) || !strcmp(pattern, daemon_get_config(d)->base))
		return true;
	return strpbrk(pattern, "*?[") && fnmatch(pattern, name, 0) == 0;
}

static int add_target(struct client *c, const struct daemon *d)
{
	for (size_t i = 0; i < c->n_targets; i++)
		if (!strcmp(c->targets[i].name, daemon_get_name(d)))
			return 0;
	if (!(c->n_targets & (c->n_targets + 1)) || !c->targets) { /* room grows at powers of two */
		void *p = realloc(c->targets, (c->n_targets + 1) * 2 * sizeof(*c->targets));

		if (!p)
			return -ENOMEM;
		c->targets = p;
	}
	c->targets[c->n_targets] = (struct target){ .name = strdup(daemon_get_name(d)), .starts = daemon_get_starts(d) };
	if (!c->targets[c->n_targets].name)
		return -ENOMEM;
	c->n_targets++;
	return 0;
}

/* Fills in the targets. Return: false when it has answered with an error already */
static bool resolve(struct client *c, const cJSON *request)
{
	struct supervisor *s = c->server->s;
	const cJSON *names = json_get_array(request, "names"), *n;

	cJSON_ArrayForEach(n, names) {
		bool found = false;

		if (!cJSON_IsString(n)) {
			finish(c, 64, NULL, "names must be strings");
			return false;
		}
		for (size_t i = 0; i < s->n_daemons; i++)
			if (name_matches(s->daemons[i], n->valuestring)) {
				found = true;
				if (add_target(c, s->daemons[i]) < 0) {
					finish(c, 71, NULL, "out of memory");
					return false;
				}
			}
		if (!found && strcmp(n->valuestring, "all")) {
			_cleanup_(freep) const char **list = calloc(s->n_daemons + 1, sizeof(*list));
			cJSON *extra = cJSON_CreateObject();

			for (size_t i = 0; list && i < s->n_daemons; i++)
				list[i] = daemon_get_name(s->daemons[i]);
			json_add_text(extra, "suggestion", list ? text_nearest(n->valuestring, list, s->n_daemons) : NULL);
			finish(c, 4, extra, strpbrk(n->valuestring, "*?[") ? "no daemon matches '%s'" : "no daemon is called '%s'",
			    n->valuestring);
			return false;
		}
	}
	c->n_left = c->n_targets;
	return true;
}

/* --- waiting ------------------------------------------------------------------------------------------------------ */

static void target_done(struct client *c, struct target *t, struct daemon *d, bool ok, const char *error)
{
	_cleanup_json_ cJSON *j = cJSON_CreateObject();

	t->done = true;
	c->n_left--;
	c->failed |= !ok;
	json_add_text(j, "daemon", t->name);
	json_add_bool(j, "ok", ok);
	json_add_text(j, "state", d ? daemon_state_to_string(daemon_get_state(d)) : "unknown");
	if (d && daemon_get_pid(d))
		json_add_i64(j, "pid", daemon_get_pid(d));
	if (error)
		json_add_text(j, "error", error);
	say(c, j);
}

static void check_start(struct client *c, struct target *t, struct daemon *d)
{
	const struct registry_entry *e = daemon_get_entry(d);
	int64_t up_ms = (clock_now_us() - e->started_us) / 1000;

	switch (daemon_get_state(d)) {
	case DAEMON_RUNNING:
		if (c->verb == VERB_RESTART && daemon_get_starts(d) == t->starts)
			return;
		if (c->wait && up_ms < STAYED_UP_MS) {
			alarm_set(c->look_again, (uint64_t)(STAYED_UP_MS - up_ms));
			return;
		}
		target_done(c, t, d, true, NULL);
		return;
	case DAEMON_BACKOFF:
	case DAEMON_FAILED:
	case DAEMON_EXITED:
		if (daemon_get_starts(d) == t->starts)
			return; /* not tried yet */
		if (daemon_get_state(d) == DAEMON_EXITED && !e->last_exit.failure)
			target_done(c, t, d, true, NULL);
		else
			target_done(c, t, d, false,
			    daemon_get_error(d)[0] ? daemon_get_error(d) : e->last_exit.cause[0] ? e->last_exit.cause : "ended");
		return;
	case DAEMON_STOPPED:
		if (daemon_get_starts(d) != t->starts)
			target_done(c, t, d, false, "stopped meanwhile");
		return;
	default:
		return;
	}
}

static void check_run(struct client *c, struct target *t, struct daemon *d)
{
	const struct registry_entry *e = daemon_get_entry(d);
	_cleanup_json_ cJSON *j = NULL;
	cJSON *exit;

	if (!c->run_id && daemon_get_state(d) == DAEMON_RUNNING) {
		j = cJSON_CreateObject();
		json_add_text(j, "daemon", t->name);
		json_add_bool(j, "ok", true);
		json_add_i64(j, "pid", daemon_get_pid(d));
		json_add_text(j, "run", e->run);
		json_add_text(j, "log", e->log_path);
		say(c, j);
		c->run_id = strdup(e->run);
		flush(c);
		return;
	}
	if (daemon_get_state(d) == DAEMON_RUNNING || daemon_get_state(d) == DAEMON_STARTING ||
	    daemon_get_state(d) == DAEMON_STOPPING || daemon_is_sweeping(d) || death_is_pending(c->server->s, t->name))
		return;
	j = cJSON_CreateObject();
	json_add_text(j, "daemon", t->name);
	if (daemon_get_error(d)[0]) {
		json_add_bool(j, "ok", false);
		json_add_text(j, "error", daemon_get_error(d));
	} else {
		json_add_bool(j, "ended", true);
		exit = json_add_object(j, "exit");
		if (e->last_exit.known && WIFEXITED(e->last_exit.status))
			json_add_i64(exit, "code", WEXITSTATUS(e->last_exit.status));
		else if (e->last_exit.known)
			json_add_i64(exit, "signal", WTERMSIG(e->last_exit.status));
		json_add_bool(exit, "core", e->last_exit.known && WCOREDUMP(e->last_exit.status));
		json_add_text(j, "crash", e->last_exit.crash_id[0] ? e->last_exit.crash_id : NULL);
		json_add_text(j, "report", e->last_exit.crash_id[0] ? e->report_path : NULL);
		json_add_text(j, "log", e->log_path);
	}
	say(c, j);
	t->done = true;
	c->n_left = 0;
}

/* One target is looked at again: is what was asked for the case now? */
static void look(struct client *c, struct target *t, struct daemon *d)
{
	switch (c->verb) {
	case VERB_START:
	case VERB_RESTART:
	case VERB_UP:
		check_start(c, t, d);
		break;
	case VERB_STOP:
	case VERB_KILL:
		if ((daemon_get_state(d) == DAEMON_STOPPED || daemon_get_state(d) == DAEMON_EXITED ||
			daemon_get_state(d) == DAEMON_FAILED) &&
		    !daemon_is_sweeping(d))
			target_done(c, t, d, true, NULL);
		break;
	case VERB_RUN:
		check_run(c, t, d);
		break;
	default:
		break;
	}
}

/* All open targets, or those that are @only. */
static void check(struct client *c, struct daemon *only)
{
	for (size_t i = 0; i < c->n_targets && c->n_left; i++) {
		struct target *t = &c->targets[i];
		struct daemon *d;

		if (t->done || (only && strcmp(t->name, daemon_get_name(only))))
			continue;
		d = only ? only : supervisor_find(c->server->s, t->name);
		if (d)
			look(c, t, d);
		else
			target_done(c, t, NULL, c->verb == VERB_STOP || c->verb == VERB_KILL, "it was removed meanwhile");
	}
	if (!c->n_left && !c->closing)
		finish(c, c->failed ? 1 : 0, NULL, NULL);
}

static void on_look_again(void *userdata)
{
	struct client *c = userdata;

	if (c->dead) {
		client_free(c);
		return;
	}
	check(c, NULL);
}

static void on_timeout(void *userdata)
{
	struct client *c = userdata;

	for (size_t i = 0; i < c->n_targets; i++)
		if (!c->targets[i].done)
			target_done(c, &c->targets[i], supervisor_find(c->server->s, c->targets[i].name), false, "timed out");
	finish(c, 124, NULL, "timed out");
}

void control_server_daemon_changed(struct control_server *c, struct daemon *d)
{
	struct client *next;

	for (struct client *x = c->clients; x; x = next) {
		next = x->next;
		if (x->n_left && !x->closing)
			check(x, d);
	}
}

void control_server_finished(struct control_server *c)
{
	struct client *next;

	for (struct client *x = c->clients; x; x = next) {
		next = x->next;
		if (x->verb == VERB_DOWN && !x->closing)
			finish(x, 0, NULL, NULL);
	}
}

/* --- verbs -------------------------------------------------------------------------------------------------------- */

static void do_status(struct client *c, bool daemons)
{
	struct supervisor *s = c->server->s;
	cJSON *extra = cJSON_CreateObject();

	for (size_t i = 0; daemons && i < s->n_daemons; i++) {
		_cleanup_json_ cJSON *j = NULL;
		bool wanted = !c->n_targets;

		for (size_t k = 0; k < c->n_targets && !wanted; k++)
			wanted = !strcmp(c->targets[k].name, daemon_get_name(s->daemons[i]));
		if (!wanted)
			continue;
		j = daemon_to_json(s->daemons[i]);
		if (j)
			say(c, j);
	}
	cJSON_AddItemToObject(extra, "supervisor", supervisor_to_json(s));
	finish(c, 0, extra, NULL);
}

static void do_signal(struct client *c, const cJSON *request)
{
	int sig = signal_from_name(json_get_string(request, "signal", ""));
	bool tree = json_get_bool(request, "tree", false);

	if (sig < 0) {
		finish(c, 64, NULL, "'%s' is no signal", json_get_string(request, "signal", ""));
		return;
	}
	for (size_t i = 0; i < c->n_targets; i++) {
		struct daemon *d = supervisor_find(c->server->s, c->targets[i].name);
		int r = daemon_signal(d, sig, tree);

		target_done(c, &c->targets[i], d, r == 0, r == -ESRCH ? "it is not running" : r < 0 ? strerror(-r) : NULL);
	}
	finish(c, c->failed ? 1 : 0, NULL, NULL);
}

static int read_config(struct client *c, const cJSON *request, struct config **ret, char *path)
{
	struct supervisor *s = c->server->s;
	const char *file = json_get_string(request, "config", "");
	_cleanup_json_ cJSON *j = NULL;
	_cleanup_(freep) char *text = NULL;
	struct error err = { "" };
	size_t size;
	int r;

	if (!file[0] || strchr(file, '/')) {
		finish(c, 64, NULL, "the request names no configuration in the runtime folder");
		return -EINVAL;
	}
	r = file_read(AT_FDCWD, path_format(path, PATH_MAX, s->paths.runtime, "%s", file), CONFIG_MAX, &text, &size);
	if (!r)
		r = json_parse(text, size, &j, &err);
	if (!r)
		r = config_from_json(j, ret, &err);
	if (r < 0)
		finish(c, 78, NULL, "configuration handed over cannot be used: %s", err.text[0] ? err.text : strerror(-r));
	return r;
}

static void on_change(const char *daemon, const char *change, const cJSON *keys, void *userdata)
{
	_cleanup_json_ cJSON *j = cJSON_CreateObject();

	json_add_text(j, "daemon", daemon);
	json_add_text(j, "change", change);
	cJSON_AddItemToObject(j, "keys", keys ? cJSON_Duplicate(keys, 1) : cJSON_CreateArray());
	say(userdata, j);
}

static void do_reload(struct client *c, const cJSON *request)
{
	struct supervisor *s = c->server->s;
	bool dry = json_get_bool(request, "dry_run", false);
	char path[PATH_MAX], final[PATH_MAX];
	struct config *config = NULL;
	int r;

	if (read_config(c, request, &config, path) < 0)
		return;
	if (strcmp(config->name, s->config->name)) {
		finish(c, 78, NULL, "the file names project '%s', this is '%s'", config->name, s->config->name);
		config_free(config);
		return;
	}
	if (!dry && rename(path, path_format(final, sizeof(final), s->paths.runtime, "config.json")) < 0) {
		finish(c, 73, NULL, "cannot keep the new configuration: %s", strerror(errno));
		config_free(config);
		return;
	}
	r = supervisor_reload(s, config, dry, on_change, c);
	finish(c, r < 0 ? 71 : 0, NULL, r < 0 ? "%s" : NULL, strerror(-r));
}

static void do_run(struct client *c, const cJSON *request)
{
	struct supervisor *s = c->server->s;
	struct config *config = NULL;
	struct error err = { "" };
	char path[PATH_MAX];
	struct daemon *d;

	if (json_get_string(request, "attach", NULL)) { /* begun under a supervisor that was killed */
		d = supervisor_find(s, json_get_string(request, "attach", ""));
		if (!d || !daemon_is_ephemeral(d) || add_target(c, d) < 0) {
			finish(c, 4, NULL, "no such run");
			return;
		}
		c->run_id = strdup(daemon_get_entry(d)->run);
		c->n_left = 1;
		check(c, d);
		return;
	}
	if (read_config(c, request, &config, path) < 0)
		return;
	d = supervisor_add_run(s, config, path, &err);
	if (!d) {
		unlink(path);
		finish(c, 71, NULL, "%s", err.text);
		return;
	}
	if (add_target(c, d) < 0) {
		finish(c, 71, NULL, "out of memory");
		return;
	}
	c->n_left = 1;
	daemon_start(d);
	check(c, d);
}

static void act(struct client *c, const cJSON *request)
{
	struct supervisor *s = c->server->s;
	int64_t timeout = json_get_i64(request, "timeout_ms", 0);
	uint64_t stop_timeout = UINT64_MAX;

	c->wait = json_get_bool(request, "wait", false);
	if (s->going_down) {
		finish(c, 75, NULL, "the supervisor is going down; try again in a moment");
		return;
	}
	if (timeout > 0)
		alarm_set(c->timeout, (uint64_t)timeout);
	for (size_t i = 0; i < c->n_targets; i++) {
		struct daemon *d = supervisor_find(s, c->targets[i].name);

		if (!d)
			continue;
		switch (c->verb) {
		case VERB_START:
		case VERB_UP:
			daemon_start(d);
			break;
		case VERB_STOP:
			daemon_stop(d, stop_timeout);
			break;
		case VERB_KILL:
			daemon_stop(d, 0);
			break;
		default:
			daemon_restart(d);
			break;
		}
	}
	check(c, NULL); /* what was already as asked for has not changed, so nobody has looked at it */
}

static void handle(struct client *c, const char *line, size_t size)
{
	struct supervisor *s = c->server->s;
	_cleanup_json_ cJSON *request = NULL;
	struct error err = { "" };
	const char *verb;

	if (json_parse(line, size, &request, &err) < 0 || !cJSON_IsObject(request)) {
		finish(c, 64, NULL, "request: %s", err.text[0] ? err.text : "not an object");
		return;
	}
	verb = json_get_string(request, "verb", "");
	for (int v = 1; v < _VERB_MAX; v++)
		if (!strcmp(verb, verbs[v]))
			c->verb = (enum verb)v;
	if (json_get_i64(request, "v", 0) != CONTROL_VERSION) {
		finish(c, 76, NULL, "this supervisor speaks version %d of the control protocol; restart it with this program "
				    "version: supervise down, then up",
		    CONTROL_VERSION);
		return;
	}
	switch (c->verb) {
	case VERB_PING:
		do_status(c, false);
		break;
	case VERB_STATUS:
		if (resolve(c, request))
			do_status(c, true);
		break;
	case VERB_SIGNAL:
		if (resolve(c, request))
			do_signal(c, request);
		break;
	case VERB_UP:
		for (size_t i = 0; i < s->n_daemons; i++)
			if (daemon_get_config(s->daemons[i])->autostart && add_target(c, s->daemons[i]) < 0) {
				finish(c, 71, NULL, "out of memory");
				return;
			}
		c->n_left = c->n_targets;
		if (!c->n_left)
			finish(c, 0, NULL, NULL);
		else
			act(c, request);
		break;
	case VERB_START:
	case VERB_STOP:
	case VERB_RESTART:
	case VERB_KILL:
		if (!json_get_array(request, "names") || !cJSON_GetArraySize(json_get_array(request, "names"))) {
			finish(c, 64, NULL, "which daemon? Name one, a pattern, or 'all'");
			break;
		}
		if (resolve(c, request)) {
			if (c->n_left)
				act(c, request);
			else
				finish(c, 0, NULL, NULL);
		}
		break;
	case VERB_DOWN:
		supervisor_go_down(s);
		break;
	case VERB_RELOAD:
		do_reload(c, request);
		break;
	case VERB_RUN:
		do_run(c, request);
		break;
	default:
		finish(c, 64, NULL, "unknown request '%s'", verb);
		break;
	}
}

/* --- connections -------------------------------------------------------------------------------------------------- */

static void on_client(int events, void *userdata)
{
	struct client *c = userdata;
	char buf[16384], *end;

	if (c->dead)
		return;
	if (events & UV_WRITABLE)
		flush(c);
	if (!(events & UV_READABLE) && events)
		return;
	for (;;) {
		ssize_t n = recv(c->fd, buf, sizeof(buf), MSG_DONTWAIT);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno == EAGAIN)
			return;
		if (n <= 0) { /* gone; what it asked for goes on */
			client_free(c);
			return;
		}
		if (c->verb || c->closing)
			continue; /* one request a connection */
		text_add_bytes(&c->in, buf, (size_t)n);
		if (c->in.failed || c->in.size > CONTROL_REQUEST_MAX) {
			c->verb = VERB_PING;
			finish(c, 64, NULL, "request too large");
			return;
		}
		end = memchr(c->in.data, '\n', c->in.size);
		if (end) {
			handle(c, c->in.data, (size_t)(end - c->in.data));
			return; /* c may be gone */
		}
	}
}

static void on_accept(int events, void *userdata)
{
	struct control_server *s = userdata;
	int fd = accept4(s->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
	struct ucred cred;
	socklen_t len = sizeof(cred);
	struct client *c;

	(void)events;
	if (fd < 0)
		return;
	if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &cred, &len) < 0 || (cred.uid != geteuid() && cred.uid != 0) ||
	    s->n_clients >= CLIENTS_MAX) {
		close(fd);
		return;
	}
	c = calloc(1, sizeof(*c));
	if (!c) {
		close(fd);
		return;
	}
	c->server = s;
	c->fd = fd;
	c->next = s->clients;
	s->clients = c;
	s->n_clients++;
	if (alarm_new(&c->timeout, s->s->loop, on_timeout, c) < 0 ||
	    alarm_new(&c->look_again, s->s->loop, on_look_again, c) < 0 ||
	    watch_new(&c->watch, s->s->loop, fd, UV_READABLE, on_client, c) < 0)
		client_free(c);
}

int control_server_new(struct control_server **ret, struct supervisor *s, struct error *err)
{
	struct control_server *c = calloc(1, sizeof(*c));
	_cleanup_(closep) int dir = -1;
	struct sockaddr_un address;
	int r;

	if (!c)
		return -ENOMEM;
	c->s = s;
	dir = open(s->paths.runtime, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	c->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	/* the project's lock is ours: a socket file that is there is a dead supervisor's */
	if (dir >= 0)
		unlinkat(dir, "control.sock", 0);
	if (dir < 0 || c->fd < 0 || unix_address(dir, "control.sock", &address) < 0 ||
	    bind(c->fd, (struct sockaddr *)&address, sizeof(address)) < 0 || fchmodat(dir, "control.sock", 0600, 0) < 0 ||
	    listen(c->fd, 128) < 0) {
		r = -errno;
		if (c->fd >= 0)
			close(c->fd);
		free(c);
		return error_set(err, r, "cannot listen on %s/control.sock: %s", s->paths.runtime, strerror(-r));
	}
	r = watch_new(&c->watch, s->loop, c->fd, UV_READABLE, on_accept, c);
	if (r < 0) {
		close(c->fd);
		free(c);
		return error_set(err, r, "cannot watch the control socket: %s", strerror(-r));
	}
	*ret = c;
	return 0;
}

struct control_server *control_server_free(struct control_server *c)
{
	if (!c)
		return NULL;
	while (c->clients)
		client_free(c->clients);
	watch_free(c->watch);
	close(c->fd);
	free(c);
	return NULL;
}
