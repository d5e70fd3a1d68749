/* SPDX-License-Identifier: Apache-2.0 */
/*
 * supervisor RUNTIME STATE - started by the keeper with their socket at descriptor 3 and the project's lock at 4.
 *
 * Wires the parts together: config, registry, capture thread, logger, writer, daemons, control socket, keeper. The loop thread
 * blocks on nothing: no database, no unwinder, no daemon output, and files in the state folder only through recorder.c.
 */
#include "supervisor/supervisor.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <malloc.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/file.h"
#include "base/proc.h"
#include "base/text.h"
#include "log/event.h"
#include "supervisor/control_server.h"
#include "supervisor/daemon.h"
#include "supervisor/death.h"
#include "supervisor/keeper.h"
#include "supervisor/tree.h"
#include "supervisor/watch.h"

enum { CONFIG_MAX = 64 << 20, DOWN_WAIT_MS = 30000, TRIM_DAEMONS = 100 };

/* Only what is known to this file. */
static struct {
	struct watch *signals, *keeper, *capture;
	struct alarm_clock *registry, *down;
	int signal_fd;
	bool helpers_finished;
	int exit_code;
	char keeper_program[PATH_MAX];
	char **argv;
} self = { .signal_fd = -1 };

/* --- small services ----------------------------------------------------------------------------------------------- */

void supervisor_say(struct supervisor *s, bool keep, const char *fmt, ...)
{
	char text[512], when[CLOCK_TEXT_MAX];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	fprintf(stderr, "%s supervisor: %s\n", clock_format_utc(clock_now_us(), when), text);
	if (keep)
		snprintf(s->problem, sizeof(s->problem), "%s", text);
}

void supervisor_event(struct supervisor *s, const struct daemon *d, const char *type, enum log_level level,
    cJSON *details, const char *fmt, ...)
{
	_cleanup_json_ cJSON *j = details ? details : cJSON_CreateObject();
	_cleanup_(freep) char *context = NULL;
	char title[500];
	struct record r = { .kind = RECORD_EVENT, .id = uuid_make_v7(0), .ts_us = clock_now_us(), .level = level,
		.event_type = VIEW_OF(type), .logger_name = VIEW_OF("supervisor") };
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(title, sizeof(title), fmt, ap);
	va_end(ap);
	r.message = VIEW_OF(title);
	if (d) {
		const struct daemon_config *cfg = daemon_get_config(d);

		r.daemon = VIEW_OF(daemon_get_name(d));
		r.run = VIEW_OF(daemon_get_entry(d)->run);
		r.pid = daemon_get_pid(d);
		r.experiment = VIEW_OF(cfg->experiment);
		r.stage = VIEW_OF(cfg->stage);
		r.node_id = VIEW_OF(cfg->node);
		json_add_text(j, "process_name", daemon_get_name(d));
	}
	json_add_text(j, "host", proc_hostname());
	context = json_print(j);
	r.context = VIEW_OF(context);
	recorder_add(s->recorder, &r);
	if (level >= LEVEL_WARNING) {
		r.kind = RECORD_LOG;
		r.event_type = (struct view){ 0 };
		recorder_add(s->recorder, &r);
	}
	supervisor_say(s, level >= LEVEL_ERROR && !d, "%s", title);
}

struct daemon *supervisor_find(struct supervisor *s, const char *name)
{
	for (size_t i = 0; i < s->n_daemons; i++)
		if (!strcmp(daemon_get_name(s->daemons[i]), name))
			return s->daemons[i];
	return NULL;
}

struct daemon *supervisor_find_by_pid(struct supervisor *s, pid_t pid)
{
	for (size_t i = 0; pid > 0 && i < s->n_daemons; i++)
		if (daemon_get_pid(s->daemons[i]) == pid)
			return s->daemons[i];
	return NULL;
}

static int by_pid(const void *a, const void *b)
{
	pid_t x = *(const pid_t *)a, y = *(const pid_t *)b;

	return x < y ? -1 : x > y;
}

pid_t *supervisor_known_pids(struct supervisor *s, const struct daemon *except, size_t *ret_n)
{
	pid_t *list = malloc((s->n_daemons + 2 + DEATH_SYMBOLIZERS_MAX) * sizeof(*list)), pid;
	size_t n = 0;

	*ret_n = 0;
	if (!list)
		return NULL;
	for (size_t i = 0; i < s->n_daemons; i++)
		if (s->daemons[i] != except && (pid = daemon_get_pid(s->daemons[i])) > 0)
			list[n++] = pid;
	if ((pid = helper_get_pid(s->logger)) > 0)
		list[n++] = pid;
	if (s->writer && (pid = helper_get_pid(s->writer)) > 0)
		list[n++] = pid;
	n += death_list_symbolizers(s, list + n);
	qsort(list, n, sizeof(*list), by_pid);
	*ret_n = n;
	return list;
}

static void arm_registry(struct supervisor *s)
{
	int ms = registry_get_timeout(s->registry);

	if (ms >= 0 && self.registry)
		alarm_set(self.registry, (uint64_t)ms);
}

static void on_registry_alarm(void *userdata)
{
	struct supervisor *s = userdata;
	int r = registry_flush(s->registry);

	if (r < 0)
		supervisor_say(s, true, "cannot write registry.json: %s", strerror(-r));
	if (s->n_daemons >= TRIM_DAEMONS)
		malloc_trim(0); /* many changes at once leave holes, and forks copy the page tables of holes too */
	arm_registry(s);
}

void supervisor_daemon_changed(struct supervisor *s, struct daemon *d)
{
	if (registry_get_timeout(s->registry) >= 0)
		arm_registry(s);
	if (s->control)
		control_server_daemon_changed(s->control, d);
}

/* --- keeper ------------------------------------------------------------------------------------------------------- */

static int keeper_send(struct supervisor *s, const struct keeper_message *m, int fd)
{
	struct iovec iov = { (void *)m, sizeof(*m) };
	union {
		struct cmsghdr align;
		char space[CMSG_SPACE(sizeof(int))];
	} control = { 0 };
	struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1 };
	struct cmsghdr *c;

	if (s->keeper_fd < 0)
		return -ENOTCONN;
	if (fd >= 0) {
		msg.msg_control = &control;
		msg.msg_controllen = sizeof(control);
		c = CMSG_FIRSTHDR(&msg);
		c->cmsg_level = SOL_SOCKET;
		c->cmsg_type = SCM_RIGHTS;
		c->cmsg_len = CMSG_LEN(sizeof(int));
		memcpy(CMSG_DATA(c), &fd, sizeof(fd));
	}
	/*
	 * The keeper does next to nothing but read these; a queue that is full empties in microseconds. Should the keeper be stopped,
	 * the descriptor is not held there, which matters only if everybody else dies too.
	 */
	for (int i = 0; i < 100; i++) {
		struct timespec ts = { 0, 1000000 };

		if (sendmsg(s->keeper_fd, &msg, MSG_DONTWAIT | MSG_NOSIGNAL) >= 0)
			return 0;
		if (errno != EAGAIN && errno != ETOOMANYREFS)
			return -errno;
		nanosleep(&ts, NULL);
	}
	return -EAGAIN;
}

int supervisor_hold(struct supervisor *s, int fd)
{
	struct keeper_message m = { .type = KEEPER_HOLD, .slot = s->next_slot };
	int r;

	if (s->next_slot >= KEEPER_SLOTS)
		return -ENOSPC;
	r = keeper_send(s, &m, fd);
	return r < 0 ? r : (int)s->next_slot++;
}

void supervisor_release(struct supervisor *s, uint32_t slot)
{
	struct keeper_message m = { .type = KEEPER_RELEASE, .slot = slot };

	keeper_send(s, &m, -1);
}

/* The keeper is gone: become it. Same process, so the daemons' parent stays; it starts a supervisor that takes over. */
static void become_keeper(struct supervisor *s)
{
	char *argv[] = { self.keeper_program, s->paths.runtime, self.argv[0], self.argv[1], self.argv[2], NULL };
	sigset_t none;

	supervisor_say(s, false, "the keeper is gone; taking its place");
	registry_flush(s->registry);
	setenv("SUPERVISE_LOCK_INHERITED", "1", 1);
	fcntl(KEEPER_LOCK_FD, F_SETFD, 0);
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	execv(self.keeper_program, argv);
	supervisor_say(s, true, "cannot execute %s: %s; going on without a keeper", self.keeper_program, strerror(errno));
	unsetenv("SUPERVISE_LOCK_INHERITED");
	fcntl(KEEPER_LOCK_FD, F_SETFD, FD_CLOEXEC);
	s->keeper_fd = -1;
	s->keeper_pid = 0;
}

static void on_keeper(int events, void *userdata)
{
	struct supervisor *s = userdata;
	struct keeper_message m;

	(void)events;
	for (;;) {
		/* looked at, acted on, then taken: a supervisor killed in between leaves it to the next one */
		ssize_t n = recv(s->keeper_fd, &m, sizeof(m), MSG_PEEK | MSG_DONTWAIT);
		struct daemon *d;

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno == EAGAIN)
			return;
		if (n <= 0) {
			self.keeper = watch_free(self.keeper);
			if (!s->going_down)
				become_keeper(s);
			return;
		}
		if (n == sizeof(m) && m.type == KEEPER_EXIT && (d = supervisor_find_by_pid(s, m.pid))) {
			struct rusage usage = { .ru_maxrss = (long)(m.max_rss_bytes / 1024),
				.ru_utime = { (time_t)(m.utime_us / 1000000), (suseconds_t)(m.utime_us % 1000000) },
				.ru_stime = { (time_t)(m.stime_us / 1000000), (suseconds_t)(m.stime_us % 1000000) } };

			daemon_ended_elsewhere(d, m.status, m.max_rss_bytes ? &usage : NULL, m.at_us);
		}
		recv(s->keeper_fd, &m, sizeof(m), MSG_DONTWAIT);
	}
}

/* --- helpers ------------------------------------------------------------------------------------------------------ */

static void on_helper_message(struct helper *h, const cJSON *m, void *userdata)
{
	struct supervisor *s = userdata;
	const char *op = json_get_string(m, "op", "");

	if (!strcmp(op, "drained") && h == s->logger) {
		death_take_tail(s, m);
	} else if (!strcmp(op, "problem")) {
		const char *name = json_get_string(m, "daemon", NULL), *title = json_get_string(m, "title", "unspecified trouble");
		cJSON *details = cJSON_Duplicate(json_get_object(m, "details"), 1);
		bool over = json_get_bool(m, "recovered", false);

		supervisor_event(s, name ? supervisor_find(s, name) : NULL, EVENT_LOG_DAMAGE, over ? LEVEL_INFO : LEVEL_WARNING, details,
		    "%s: %s", h == s->logger ? "logger" : "writer", title);
		snprintf(s->problem, sizeof(s->problem), "%s", over ? "" : title);
	}
}

static void on_helper_started(struct helper *h, void *userdata)
{
	struct supervisor *s = userdata;

	if (h != s->logger)
		return;
	for (size_t i = 0; i < s->n_daemons; i++)
		daemon_open_output(s->daemons[i]);
	death_logger_restarted(s);
}

static void on_helper_died(struct helper *h, int status, void *userdata)
{
	struct supervisor *s = userdata;
	char text[64], sig[24];

	if (self.helpers_finished) {
		supervisor_check_down(s);
		return;
	}
	if (WIFSIGNALED(status))
		snprintf(text, sizeof(text), "was killed by %s", signal_to_name(WTERMSIG(status), sig));
	else
		snprintf(text, sizeof(text), "ended with status %d", WEXITSTATUS(status));
	s->helper_restarts++;
	supervisor_event(s, NULL, EVENT_HELPER_RESTART, LEVEL_WARNING, NULL, "%s %s and is started again",
	    h == s->logger ? "logger" : "writer", text);
}

static int start_helpers(struct supervisor *s, struct error *err)
{
	static char batch[16], flush[24];
	static char *logger_argv[] = { "supervise-logger", NULL, NULL, NULL };
	static char *writer_argv[] = { "supervise-writer", NULL, NULL, "--store", NULL, "--batch", batch, "--flush-ms",
		flush, NULL };
	const struct helper_callbacks cb = { on_helper_message, on_helper_started, on_helper_died };
	int r;

	logger_argv[1] = writer_argv[1] = s->paths.runtime;
	logger_argv[2] = writer_argv[2] = s->paths.state;
	r = helper_new(&s->logger, s->loop, "supervise-logger", s->paths.runtime, logger_argv, &cb, s);
	if (!r)
		r = helper_start(s->logger, err);
	if (r < 0 || s->config->store.type == STORE_NONE)
		return r;
	writer_argv[4] = (char *)store_type_to_string(s->config->store.type);
	snprintf(batch, sizeof(batch), "%u", s->config->monitoring.log_batch_size);
	snprintf(flush, sizeof(flush), "%llu", (unsigned long long)s->config->monitoring.log_flush_interval_ms);
	r = helper_new(&s->writer, s->loop, "supervise-writer", s->paths.runtime, writer_argv, &cb, s);
	if (!r)
		r = helper_start(s->writer, err);
	return r;
}

/* --- capture ------------------------------------------------------------------------------------------------------ */

/* Capture thread: reads /proc only. The list of daemons is the loop's, so the environment of the process decides. */
static bool owns(pid_t pid, void *userdata)
{
	struct supervisor *s = userdata;
	_cleanup_(freep) char *runtime = NULL;
	struct proc_stat st;

	if (proc_read_environ(pid, "SUPERVISE_RUNTIME", &runtime) == 0)
		return !strcmp(runtime, s->paths.runtime);
	for (int depth = 0; depth < 64 && pid > 1; depth++) {
		if (proc_read_stat(pid, &st) < 0)
			return false;
		if (st.ppid == getpid() || st.ppid == s->keeper_pid)
			return true;
		pid = st.ppid;
	}
	return false;
}

static void on_capture(int events, void *userdata)
{
	struct supervisor *s = userdata;
	struct capture_event e;

	(void)events;
	while (capture_next(s->capture, &e) == 1) {
		struct daemon *d = supervisor_find_by_pid(s, e.pid);

		if (!d && death_take_snapshot(s, &e))
			continue;
		for (size_t i = 0; !d && i < s->n_daemons; i++)
			if (daemon_owns(s->daemons[i], e.pid))
				d = s->daemons[i];
		if (d) {
			daemon_take_snapshot(d, &e);
		} else if (e.kind == CAPTURE_EVENT_SNAPSHOT) {
			char path[PATH_MAX];

			unlink(path_format(path, sizeof(path), s->paths.runtime, "pending/%s", e.snapshot));
			supervisor_say(s, false, "a snapshot of pid %d belongs to no daemon any more", (int)e.pid);
		}
	}
}

/* --- signals ------------------------------------------------------------------------------------------------------ */

/*
 * Orphans of our daemons become our children, and are reaped here. First processes and helpers are left to whoever
 * watches their pidfd; only when one of those is in the way (the kernel shows the first dead child, not the next) are all
 * children looked at.
 */
static void reap_orphans(struct supervisor *s)
{
	_cleanup_(freep) pid_t *known = NULL, *children = NULL;
	size_t n_known = 0, n = 0;
	siginfo_t si;

	for (;;) {
		si = (siginfo_t){ 0 };
		if (waitid(P_ALL, 0, &si, WEXITED | WNOHANG | WNOWAIT | __WNOTHREAD) < 0 || !si.si_pid)
			return;
		if (!known)
			known = supervisor_known_pids(s, NULL, &n_known);
		if (!known || pid_listed(known, n_known, si.si_pid))
			break;
		if (si.si_code != CLD_EXITED && si.si_code != CLD_KILLED && si.si_code != CLD_DUMPED)
			break; /* a stop of something the capture thread traces: not ours to take */
		waitid(P_PID, (id_t)si.si_pid, &si, WEXITED | WNOHANG | __WNOTHREAD);
	}
	if (children_list(&children, &n) < 0)
		return;
	for (size_t i = 0; known && i < n; i++) {
		struct proc_stat st;

		if (!pid_listed(known, n_known, children[i]) && proc_read_stat(children[i], &st) == 0 && st.state == 'Z')
			waitid(P_PID, (id_t)children[i], &si, WEXITED | WNOHANG | __WNOTHREAD);
	}
}

static void on_signal(int events, void *userdata)
{
	struct supervisor *s = userdata;
	struct signalfd_siginfo info;
	bool child = false;

	(void)events;
	while (read(self.signal_fd, &info, sizeof(info)) == sizeof(info)) {
		if (info.ssi_signo == SIGCHLD)
			child = true;
		else if (info.ssi_signo == SIGTERM || info.ssi_signo == SIGINT)
			supervisor_go_down(s);
	}
	if (child)
		reap_orphans(s);
}

/* --- configuration ------------------------------------------------------------------------------------------------ */

static int load_config(struct supervisor *s, struct error *err)
{
	_cleanup_json_ cJSON *j = NULL;
	_cleanup_(freep) char *text = NULL;
	char path[PATH_MAX];
	size_t size;
	int r = file_read(AT_FDCWD, path_format(path, sizeof(path), s->paths.runtime, "config.json"), CONFIG_MAX, &text, &size);

	if (r < 0)
		return error_set(err, r, "cannot read %s: %s", path, strerror(-r));
	r = json_parse(text, size, &j, err);
	if (!r)
		r = config_from_json(j, &s->config, err);
	cJSON_Delete(j);
	j = NULL;
	free(text);
	text = NULL;
	/* the tree was many times the size of what is kept, and every page that stays is copied by every fork(2) */
	malloc_trim(0);
	return r < 0 ? error_prefix(err, r, "%s", path) : 0;
}

static int add_daemon(struct supervisor *s, const struct daemon_config *cfg, struct daemon **ret)
{
	struct daemon **p, *d = NULL;
	int r;

	if (!(s->n_daemons & (s->n_daemons + 1)) || !s->daemons) {
		p = realloc(s->daemons, (s->n_daemons + 1) * 2 * sizeof(*p));
		if (!p)
			return -ENOMEM;
		s->daemons = p;
	}
	r = daemon_new(&d, s, cfg, registry_find(s->registry, cfg->name));
	if (r < 0)
		return r;
	s->daemons[s->n_daemons++] = d;
	if (ret)
		*ret = d;
	return 0;
}

static char *run_path(const struct supervisor *s, const struct daemon *d, char *ret)
{
	return path_format(ret, PATH_MAX, s->paths.runtime, "%s.run.json", daemon_get_file(d));
}

static void remove_daemon(struct supervisor *s, size_t i)
{
	_cleanup_json_ cJSON *m = cJSON_CreateObject();
	struct daemon *d = s->daemons[i];
	char path[PATH_MAX];

	if (daemon_is_ephemeral(d))
		unlink(run_path(s, d, path));
	json_add_text(m, "op", "close");
	json_add_text(m, "daemon", daemon_get_name(d));
	helper_send(s->logger, m);
	registry_remove(s->registry, daemon_get_name(d));
	unlink(path_format(path, sizeof(path), s->paths.runtime, "fifo/%s.out", daemon_get_file(d)));
	unlink(path_format(path, sizeof(path), s->paths.runtime, "fifo/%s.err", daemon_get_file(d)));
	memmove(s->daemons + i, s->daemons + i + 1, (s->n_daemons - i - 1) * sizeof(*s->daemons));
	s->n_daemons--;
	daemon_free(d);
	arm_registry(s);
}

/* The members of a daemon's configuration that differ, by name. */
static cJSON *changed_keys(const cJSON *a, const cJSON *b)
{
	cJSON *keys = cJSON_CreateArray();
	const cJSON *m;

	cJSON_ArrayForEach(m, b) {
		const cJSON *old = cJSON_GetObjectItemCaseSensitive(a, m->string);

		if (strcmp(m->string, "digest") && strcmp(m->string, "place") && (!old || !cJSON_Compare(old, m, 1)))
			cJSON_AddItemToArray(keys, cJSON_CreateString(m->string));
	}
	cJSON_ArrayForEach(m, a) {
		if (!cJSON_GetObjectItemCaseSensitive(b, m->string))
			cJSON_AddItemToArray(keys, cJSON_CreateString(m->string));
	}
	return keys;
}

static const cJSON *daemon_json(const cJSON *config, const char *name)
{
	const cJSON *d;

	cJSON_ArrayForEach(d, json_get_array(config, "daemons")) {
		if (!strcmp(json_get_string(d, "name", ""), name))
			return d;
	}
	return NULL;
}

int supervisor_reload(struct supervisor *s, struct config *config, bool dry_run, supervisor_change_fn fn, void *userdata)
{
	_cleanup_json_ cJSON *was = config_to_json(s->config), *is = config_to_json(config);
	struct config *old = s->config;

	if (!was || !is) {
		config_free(config);
		return -ENOMEM;
	}
	for (size_t i = 0; i < s->n_daemons; i++)
		if (!config_find(config, daemon_get_name(s->daemons[i])) && !daemon_is_ephemeral(s->daemons[i]))
			fn(daemon_get_name(s->daemons[i]), "remove", NULL, userdata);
	for (size_t i = 0; i < config->n_daemons; i++) {
		const struct daemon_config *cfg = &config->daemons[i];
		struct daemon *d = supervisor_find(s, cfg->name);
		_cleanup_json_ cJSON *keys = NULL;

		if (!d) {
			fn(cfg->name, "add", NULL, userdata);
			continue;
		}
		keys = changed_keys(daemon_json(was, cfg->name), daemon_json(is, cfg->name));
		if (!cJSON_GetArraySize(keys))
			continue;
		fn(cfg->name,
		    strcmp(cfg->digest, daemon_get_config(d)->digest) && daemon_get_pid(d) ? "restart" : "update", keys, userdata);
	}
	if (dry_run) {
		config_free(config);
		return 0;
	}
	s->config = config;
	/* from the back: removing moves those behind */
	for (size_t i = s->n_daemons; i-- > 0;) {
		struct daemon *d = s->daemons[i];
		const struct daemon_config *cfg = config_find(config, daemon_get_name(d));

		if (daemon_is_ephemeral(d))
			continue;
		if (cfg) {
			bool restart = strcmp(cfg->digest, daemon_get_config(d)->digest) && daemon_get_pid(d);

			daemon_set_config(d, cfg);
			if (restart)
				daemon_restart(d);
			else
				daemon_open_output(d);
		} else {
			/* goes once it has stopped: it keeps a configuration of its own until then */
			struct config *own = NULL;
			_cleanup_json_ cJSON *copy = config_to_json(old);
			struct error err;

			if (config_from_json(copy, &own, &err) == 0 && config_find(own, daemon_get_name(d))) {
				daemon_set_config(d, config_find(own, daemon_get_name(d)));
				daemon_set_ephemeral(d, own);
				daemon_stop(d, UINT64_MAX);
			} else {
				config_free(own);
			}
		}
	}
	for (size_t i = 0; i < config->n_daemons; i++)
		if (!supervisor_find(s, config->daemons[i].name)) {
			struct daemon *d;

			if (add_daemon(s, &config->daemons[i], &d) == 0 && config->daemons[i].autostart)
				daemon_start(d);
		}
	config_free(old);
	registry_set_header(s->registry, s->config->name, s->config->path, getpid());
	supervisor_event(s, NULL, EVENT_CONFIG_RELOAD, LEVEL_INFO, NULL, "configuration reloaded from %s",
	    s->config->path ? s->config->path : "nowhere");
	supervisor_check_down(s);
	return 0;
}

struct daemon *supervisor_add_run(struct supervisor *s, struct config *config, const char *path, struct error *err)
{
	struct daemon *d = NULL;
	char kept[PATH_MAX];
	int r;

	if (s->going_down || config->n_daemons != 1) {
		error_set(err, -EAGAIN, s->going_down ? "the supervisor is going down; try again" : "one daemon is expected");
		config_free(config);
		return NULL;
	}
	if (supervisor_find(s, config->daemons[0].name)) {
		error_set(err, -EEXIST, "'%s' exists already", config->daemons[0].name);
		config_free(config);
		return NULL;
	}
	r = add_daemon(s, &config->daemons[0], &d);
	if (r < 0) {
		error_set(err, r, "%s", strerror(-r));
		config_free(config);
		return NULL;
	}
	daemon_set_ephemeral(d, config);
	if (rename(path, run_path(s, d, kept)) < 0)
		supervisor_say(s, true, "cannot keep %s: %s", kept, strerror(errno));
	return d;
}

/* Jobs of `supervise run` that a supervisor before us had. */
static void recover_runs(struct supervisor *s)
{
	_cleanup_(closedirp) DIR *dir = opendir(s->paths.runtime);
	struct dirent *e;

	while (dir && (e = readdir(dir))) {
		const char *ending = strstr(e->d_name, ".run.json");
		_cleanup_json_ cJSON *j = NULL;
		_cleanup_(freep) char *text = NULL;
		struct config *config = NULL;
		char path[PATH_MAX];
		struct error err;
		size_t size;

		if (!ending || ending[strlen(".run.json")] || file_read(dirfd(dir), e->d_name, CONFIG_MAX, &text, &size) < 0 ||
		    json_parse(text, size, &j, &err) < 0 || config_from_json(j, &config, &err) < 0)
			continue;
		supervisor_add_run(s, config, path_format(path, sizeof(path), s->paths.runtime, "%s", e->d_name), &err);
	}
}

/* What still runs although the configuration does not have it any more: a person must decide. */
static void report_strangers(struct supervisor *s)
{
	for (size_t i = 0; i < registry_count(s->registry); i++) {
		const struct registry_entry *e = registry_at(s->registry, i);
		int pidfd = -1;

		if (supervisor_find(s, e->name) || !e->id.pid || proc_open(&e->id, &pidfd) != PROC_SAME)
			continue;
		supervisor_say(s, true, "%s (pid %d) still runs but is not in the configuration; end it with: kill %d", e->name,
		    (int)e->id.pid, (int)e->id.pid);
		close(pidfd);
	}
}

/* --- going down --------------------------------------------------------------------------------------------------- */

static bool is_resting(const struct daemon *d)
{
	enum daemon_state state = daemon_get_state(d);

	return (state == DAEMON_STOPPED || state == DAEMON_EXITED || state == DAEMON_FAILED) && !daemon_is_sweeping(d);
}

static void on_down_alarm(void *userdata)
{
	struct supervisor *s = userdata;

	/* helpers that do not end in time keep their locks until they do; nothing of theirs is lost */
	supervisor_say(s, false, "logger or writer did not finish within %d s; leaving without them", DOWN_WAIT_MS / 1000);
	control_server_finished(s->control);
	uv_stop(s->loop);
}

static void on_recorded(int status, void *userdata)
{
	struct supervisor *s = userdata;

	(void)status;
	self.helpers_finished = true;
	alarm_set(self.down, DOWN_WAIT_MS);
	helper_finish(s->logger); /* the writer after it: it ships what the logger wrote last */
	supervisor_check_down(s);
}

void supervisor_go_down(struct supervisor *s)
{
	if (s->going_down)
		return;
	s->going_down = true;
	supervisor_event(s, NULL, EVENT_SUPERVISOR_STOP, LEVEL_INFO, NULL, "supervisor is going down");
	for (size_t i = 0; i < s->n_daemons; i++)
		if (!is_resting(s->daemons[i]))
			daemon_stop(s->daemons[i], UINT64_MAX);
	supervisor_check_down(s);
}

/* Deferred: a daemon may be in the middle of its own step when everything turns out to be at rest. */
static void look_whether_down(void *userdata)
{
	struct supervisor *s = userdata;
	static bool recording;

	for (size_t i = s->n_daemons; i-- > 0;)
		if (daemon_is_ephemeral(s->daemons[i]) && is_resting(s->daemons[i]) &&
		    !death_is_pending(s, daemon_get_name(s->daemons[i])))
			remove_daemon(s, i);
	if (s->config->transient && !s->n_daemons && !s->going_down)
		supervisor_go_down(s);
	if (!s->going_down)
		return;
	for (size_t i = 0; i < s->n_daemons; i++)
		if (!is_resting(s->daemons[i]))
			return;
	if (death_is_pending(s, NULL))
		return;
	if (!recording) {
		recording = true;
		recorder_barrier(s->recorder, on_recorded, s);
		return;
	}
	if (!self.helpers_finished || helper_get_pid(s->logger))
		return;
	if (s->writer && helper_get_pid(s->writer)) {
		static bool asked;

		if (!asked) {
			asked = true;
			helper_finish(s->writer);
		}
		return;
	}
	control_server_finished(s->control);
	uv_stop(s->loop);
}

static struct alarm_clock *down_look;

void supervisor_check_down(struct supervisor *s)
{
	(void)s;
	if (down_look)
		alarm_set(down_look, 0);
}

/* --- start -------------------------------------------------------------------------------------------------------- */

static void tell_ready(const char *text)
{
	const char *fd = getenv("SUPERVISE_READY_FD");

	if (!fd)
		return;
	(void)write_all(atoi(fd), text, strlen(text));
	close(atoi(fd));
	unsetenv("SUPERVISE_READY_FD");
}

struct lost_search {
	struct supervisor *s;
};

/* A child of a supervisor that was killed between fork and journal. */
static int find_lost(pid_t pid, void *userdata)
{
	struct supervisor *s = ((struct lost_search *)userdata)->s;
	_cleanup_(freep) char *runtime = NULL, *name = NULL, *nonce = NULL, *run = NULL;
	struct proc_stat st;
	struct daemon *d;

	if (proc_read_stat(pid, &st) < 0 || st.session != pid || st.state == 'Z' ||
	    (st.ppid != s->keeper_pid && st.ppid != getpid() && st.ppid != 1))
		return 0;
	if (proc_read_environ(pid, "SUPERVISE_RUNTIME", &runtime) < 0 || strcmp(runtime, s->paths.runtime) ||
	    proc_read_environ(pid, "SUPERVISE_DAEMON", &name) < 0 || proc_read_environ(pid, "SUPERVISE_NONCE", &nonce) < 0 ||
	    proc_read_environ(pid, "SUPERVISE_RUN", &run) < 0)
		return 0;
	d = supervisor_find(s, name);
	if (d && !daemon_get_pid(d) && strcmp(daemon_get_entry(d)->nonce, nonce)) {
		struct proc_id id = { pid, st.start_ticks };

		daemon_adopt(d, &id, nonce, run);
	}
	return 0;
}

static void write_pid_file(struct supervisor *s)
{
	char path[PATH_MAX], text[16];

	snprintf(text, sizeof(text), "%d\n", (int)getpid());
	(void)file_replace(AT_FDCWD, path_format(path, sizeof(path), s->paths.runtime, "supervisor.pid"), text, strlen(text),
	    0600, 0);
}

static int start(struct supervisor *s, struct error *err)
{
	struct capture_options capture = { .runtime = s->paths.runtime, .owns = owns, .userdata = s };
	char path[PATH_MAX];
	sigset_t mask;
	int r = load_config(s, err);

	if (r < 0)
		return r;
	/* before any thread is made: they all inherit the mask */
	sigemptyset(&mask);
	sigaddset(&mask, SIGCHLD);
	sigaddset(&mask, SIGTERM);
	sigaddset(&mask, SIGINT);
	sigaddset(&mask, SIGHUP);
	sigprocmask(SIG_BLOCK, &mask, NULL);
	signal(SIGPIPE, SIG_IGN);
	self.signal_fd = signalfd(-1, &mask, SFD_CLOEXEC | SFD_NONBLOCK);
	if (self.signal_fd < 0)
		return error_set(err, -errno, "signalfd: %s", strerror(errno));

	r = registry_open(&s->registry, s->paths.runtime, err);
	if (r < 0)
		return r;
	if (err->text[0])
		supervisor_say(s, true, "%s", err->text);
	registry_set_header(s->registry, s->config->name, s->config->path, getpid());
	r = recorder_new(&s->recorder, s->loop,
	    s->config->store.type == STORE_NONE ? NULL :
						  path_format(path, sizeof(path), s->paths.state, "spool/supervisor"),
	    err);
	if (r < 0)
		return r;
	r = watch_new(&self.signals, s->loop, self.signal_fd, UV_READABLE, on_signal, s);
	if (!r)
		r = alarm_new(&self.registry, s->loop, on_registry_alarm, s);
	if (!r)
		r = alarm_new(&self.down, s->loop, on_down_alarm, s);
	if (!r)
		r = alarm_new(&down_look, s->loop, look_whether_down, s);
	if (r < 0)
		return error_set(err, r, "%s", strerror(-r));
	for (size_t i = 0; i < s->config->n_daemons; i++) {
		r = add_daemon(s, &s->config->daemons[i], NULL);
		if (r < 0)
			return error_set(err, r, "daemon %s: %s", s->config->daemons[i].name, strerror(-r));
	}
	recover_runs(s);
	report_strangers(s);
	r = start_helpers(s, err);
	if (r < 0)
		return r;
	r = capture_start(&s->capture, &capture, err);
	if (r < 0) /* every death still has its status report */
		supervisor_say(s, true, "crash capture is off: %s", err->text);
	else
		watch_new(&self.capture, s->loop, capture_get_fd(s->capture), UV_READABLE, on_capture, s);
	r = control_server_new(&s->control, s, err);
	if (r < 0)
		return r;
	return 0;
}

int main(int argc, char **argv)
{
	static struct supervisor supervisor;
	struct supervisor *s = &supervisor;
	struct keeper_message ready = { .type = KEEPER_READY };
	struct lost_search lost = { s };
	struct error err = { "" };
	const char *soft = getenv("SUPERVISE_SOFT_NOFILE");
	socklen_t len = sizeof(int);
	int type, r;

	if (argc != 3 || getsockopt(KEEPER_FD, SOL_SOCKET, SO_TYPE, &type, &len) < 0 || type != SOCK_SEQPACKET) {
		fprintf(stderr, "usage: supervise-supervisor RUNTIME STATE\n(started by supervise-keeper)\n");
		return 64;
	}
	self.argv = argv;
	s->loop = uv_default_loop();
	s->keeper_fd = KEEPER_FD;
	s->keeper_pid = getppid();
	fcntl(KEEPER_FD, F_SETFD, FD_CLOEXEC);
	fcntl(KEEPER_LOCK_FD, F_SETFD, FD_CLOEXEC);
	if (getenv("SUPERVISE_READY_FD"))
		fcntl(atoi(getenv("SUPERVISE_READY_FD")), F_SETFD, FD_CLOEXEC);
	prctl(PR_SET_CHILD_SUBREAPER, 1);
	snprintf(s->paths.runtime, sizeof(s->paths.runtime), "%s", argv[1]);
	snprintf(s->paths.state, sizeof(s->paths.state), "%s", argv[2]);
	s->started_us = clock_now_us();
	s->restarted = !getenv("SUPERVISE_READY_FD");
	if (soft)
		s->soft_nofile = (rlim_t)strtoull(soft, NULL, 10);
	umask(077);
	r = paths_helper("supervise-keeper", self.keeper_program, &err);
	if (!r)
		r = start(s, &err);
	if (r < 0) {
		fprintf(stderr, "supervisor: %s\n", err.text);
		tell_ready(err.text);
		return r == -EINVAL ? 78 : r == -EBUSY ? 75 : 71;
	}
	for (size_t i = 0; i < s->n_daemons; i++)
		daemon_recover(s->daemons[i]);
	proc_for_each(find_lost, &lost);
	death_resume_all(s);
	r = watch_new(&self.keeper, s->loop, s->keeper_fd, UV_READABLE, on_keeper, s);
	if (r < 0)
		return 71;
	keeper_send(s, &ready, -1);
	write_pid_file(s);
	supervisor_event(s, NULL, s->restarted ? EVENT_HELPER_RESTART : EVENT_SUPERVISOR_START,
	    s->restarted ? LEVEL_WARNING : LEVEL_INFO, NULL,
	    s->restarted ? "the supervisor died and was started again, %zu daemons" : "supervisor started, %zu daemons",
	    s->n_daemons);
	tell_ready("ready\n");
	reap_orphans(s);
	arm_registry(s);

	uv_run(s->loop, UV_RUN_DEFAULT);

	{
		char path[PATH_MAX];

		capture_stop(s->capture);
		registry_close(s->registry);
		unlink(path_format(path, sizeof(path), s->paths.runtime, "control.sock"));
		unlink(path_format(path, sizeof(path), s->paths.runtime, "supervisor.pid"));
	}
	return 0;
}
