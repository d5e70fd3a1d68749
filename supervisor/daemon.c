/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One daemon on real processes. lifecycle.c says what follows what; this file does it and feeds the outcome back.
 *
 * What makes it safe to kill the supervisor at any instant: a new process is in the registry's journal before anything
 * else is done with it (and until then is found by SUPERVISE_RUNTIME and SUPERVISE_DAEMON in its environment); an end is
 * looked at without reaping, journalled, and only then reaped, so that the status is always in the kernel or in
 * the journal, or in both.
 */
#include "supervisor/daemon.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/file.h"
#include "base/proc.h"
#include "base/text.h"
#include "base/uuid.h"
#include "config/config.h"
#include "log/event.h"
#include "supervisor/death.h"
#include "supervisor/environment.h"
#include "supervisor/restart.h"
#include "supervisor/spawn.h"
#include "supervisor/supervisor.h"
#include "supervisor/tree.h"
#include "supervisor/watch.h"

enum {
	STATUS_WAIT_MS = 2000, /* for the keeper's word on how a process ended */
	SWEEP_AGAIN_MS = 1000, /* a member in uninterruptible sleep is looked at again */
};

struct daemon {
	struct supervisor *s;
	const struct daemon_config *cfg;
	struct config *own_config; /* `supervise run` */
	enum daemon_state state;
	struct registry_entry e; /* e.name is owned here */
	char file[80];
	int pidfd;
	bool child; /* of ours; else of the keeper */
	struct watch *pid_watch;
	int note_fd;
	struct watch *note_watch;
	char *exec_error; /* why the last start failed, or NULL */
	int fifo[2];      /* held, never read */
	uint32_t slot[2]; /* at the keeper; UINT32_MAX: none */
	struct alarm_clock *alarm; /* start timeout, backoff, stop timeout, waiting for a status */
	struct alarm_clock *sweep_alarm;
	bool sweeping, sweep_killed, backoff_over;
	struct watch **sweep_watches; /* members being waited for */
	int *sweep_fds;
	size_t n_sweep, n_sweep_left;
	bool start_after, stop_killed, ephemeral, waiting_for_status;
	uint64_t stop_timeout_ms; /* asked for, or UINT64_MAX: the configured one */
	uint64_t stop_deadline_ms; /* monotonic: then SIGKILL */
	uint64_t starts;
	struct capture_event *snapshot; /* of the present incarnation, or NULL */
};

static void step(struct daemon *d, enum daemon_event event);
static void spawn_now(struct daemon *d);
static void sweep_begin(struct daemon *d, int sig, uint64_t timeout_ms);
static void sweep_end(struct daemon *d);

static void on_alarm(void *userdata);
static void on_sweep_alarm(void *userdata);

static void set_exec_error(struct daemon *d, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
static void set_exec_error(struct daemon *d, const char *fmt, ...)
{
	va_list ap;

	free(d->exec_error);
	d->exec_error = NULL;
	if (!fmt)
		return;
	va_start(ap, fmt);
	if (vasprintf(&d->exec_error, fmt, ap) < 0)
		d->exec_error = NULL;
	va_end(ap);
}

static void remember_restarts(struct daemon *d, const int64_t *times, unsigned n)
{
	int64_t *p = n ? realloc(d->e.restart_times_us, n * sizeof(*p)) : d->e.restart_times_us;

	if (n && !p)
		return; /* the window sees fewer restarts than there were */
	d->e.restart_times_us = p;
	d->e.n_restart_times = n;
	if (n)
		memmove(p, times, n * sizeof(*p));
}

int daemon_new(struct daemon **ret, struct supervisor *s, const struct daemon_config *cfg,
    const struct registry_entry *entry)
{
	_cleanup_(daemon_freep) struct daemon *d = calloc(1, sizeof(*d));
	char path[PATH_MAX];

	if (!d)
		return -ENOMEM;
	d->s = s;
	d->cfg = cfg;
	d->pidfd = d->note_fd = d->fifo[0] = d->fifo[1] = -1;
	d->slot[0] = d->slot[1] = UINT32_MAX;
	d->state = DAEMON_STOPPED;
	d->stop_timeout_ms = UINT64_MAX;
	if (alarm_new(&d->alarm, s->loop, on_alarm, d) < 0 || alarm_new(&d->sweep_alarm, s->loop, on_sweep_alarm, d) < 0)
		return -ENOMEM;
	if (entry) {
		d->e = *entry;
		d->e.report_path = entry->report_path ? strdup(entry->report_path) : NULL;
		d->e.restart_times_us = NULL;
		d->e.n_restart_times = 0;
		remember_restarts(d, entry->restart_times_us, entry->n_restart_times);
	} else {
		d->e.since_us = clock_now_us();
	}
	paths_file_name(cfg->name, d->file, sizeof(d->file));
	d->e.name = strdup(cfg->name);
	d->e.log_path = strdup(path_format(path, sizeof(path), s->paths.state, "log/%s.log", d->file));
	if (!d->e.name || !d->e.log_path)
		return -ENOMEM;
	*ret = TAKE_PTR(d);
	return 0;
}

static void sweep_drop(struct daemon *d)
{
	for (size_t i = 0; i < d->n_sweep; i++) {
		watch_free(d->sweep_watches[i]);
		if (d->sweep_fds[i] >= 0)
			close(d->sweep_fds[i]);
	}
	free(d->sweep_watches);
	free(d->sweep_fds);
	d->sweep_watches = NULL;
	d->sweep_fds = NULL;
	d->n_sweep = d->n_sweep_left = 0;
}

static void drop_process(struct daemon *d)
{
	d->pid_watch = watch_free(d->pid_watch);
	if (d->pidfd >= 0)
		close(d->pidfd);
	d->pidfd = -1;
}

static void drop_note(struct daemon *d)
{
	d->note_watch = watch_free(d->note_watch);
	if (d->note_fd >= 0)
		close(d->note_fd);
	d->note_fd = -1;
}

struct daemon *daemon_free(struct daemon *d)
{
	if (!d)
		return NULL;
	drop_process(d);
	drop_note(d);
	sweep_drop(d);
	alarm_free(d->alarm);
	alarm_free(d->sweep_alarm);
	for (int i = 0; i < 2; i++) {
		if (d->slot[i] != UINT32_MAX)
			supervisor_release(d->s, d->slot[i]);
		if (d->fifo[i] >= 0)
			close(d->fifo[i]);
	}
	free(d->e.name);
	free(d->e.log_path);
	free(d->e.report_path);
	free(d->e.restart_times_us);
	free(d->exec_error);
	free(d->snapshot);
	config_free(d->own_config);
	free(d);
	return NULL;
}

/* --- what everybody may ask --------------------------------------------------------------------------------------- */

const char *daemon_get_name(const struct daemon *d)
{
	return d->e.name;
}

const char *daemon_get_file(const struct daemon *d)
{
	return d->file;
}

const struct daemon_config *daemon_get_config(const struct daemon *d)
{
	return d->cfg;
}

const struct registry_entry *daemon_get_entry(const struct daemon *d)
{
	return &d->e;
}

enum daemon_state daemon_get_state(const struct daemon *d)
{
	return d->state;
}

pid_t daemon_get_pid(const struct daemon *d)
{
	return d->e.id.pid;
}

const char *daemon_get_error(const struct daemon *d)
{
	return d->exec_error ? d->exec_error : "";
}

uint64_t daemon_get_starts(const struct daemon *d)
{
	return d->starts;
}

bool daemon_is_sweeping(const struct daemon *d)
{
	return d->sweeping;
}

bool daemon_is_ephemeral(const struct daemon *d)
{
	return d->ephemeral;
}

void daemon_set_ephemeral(struct daemon *d, struct config *own)
{
	d->ephemeral = true;
	d->own_config = own;
}

void daemon_set_config(struct daemon *d, const struct daemon_config *cfg)
{
	d->cfg = cfg;
}

cJSON *daemon_to_json(const struct daemon *d)
{
	cJSON *j = registry_entry_to_json(&d->e);
	int64_t now = clock_now_us();

	if (!j)
		return NULL;
	if (d->e.id.pid)
		json_add_i64(j, "uptime_ms", (now - d->e.started_us) / 1000);
	else
		cJSON_AddNullToObject(j, "uptime_ms");
	if (d->state == DAEMON_BACKOFF)
		json_add_i64(j, "restart_in_ms", d->e.restart_at_us > now ? (d->e.restart_at_us - now) / 1000 : 0);
	else
		cJSON_AddNullToObject(j, "restart_in_ms");
	json_add_i64(j, "restart_limit", d->cfg->restart.limit);
	json_add_text(j, "description", d->cfg->description);
	json_add_text(j, "experiment", d->cfg->experiment);
	json_add_text(j, "stage", d->cfg->stage);
	json_add_text(j, "node", d->cfg->node);
	json_add_bool(j, "autostart", d->cfg->autostart);
	json_add_bool(j, "drift", d->e.id.pid && strcmp(d->e.digest, d->cfg->digest));
	if (d->exec_error)
		json_add_text(j, "error", d->exec_error);
	return j;
}

/* --- state, in one place ------------------------------------------------------------------------------------------ */

static void save(struct daemon *d)
{
	int r;

	d->e.state = (char *)daemon_state_to_string(d->state);
	r = registry_put(d->s->registry, &d->e);
	if (r < 0)
		supervisor_say(d->s, true, "registry: cannot record the state of %s: %s", d->e.name, strerror(-r));
}

static void set_state(struct daemon *d, enum daemon_state state)
{
	if (d->state != state)
		d->e.since_us = clock_now_us();
	d->state = state;
}

/* --- output ------------------------------------------------------------------------------------------------------- */

static char *fifo_path(const struct daemon *d, int i, char *ret)
{
	return path_format(ret, PATH_MAX, d->s->paths.runtime, "fifo/%s.%s", d->file, i ? "err" : "out");
}

/* Makes both FIFOs if need be and holds a descriptor of each, here and at the keeper. */
static int open_fifos(struct daemon *d)
{
	char path[PATH_MAX];

	for (int i = 0; i < 2; i++) {
		struct stat st;
		int slot;

		if (d->fifo[i] >= 0)
			continue;
		fifo_path(d, i, path);
		if (mkfifo(path, 0600) < 0 && errno != EEXIST)
			return -errno;
		d->fifo[i] = open(path, O_RDWR | O_NONBLOCK | O_CLOEXEC | O_NOFOLLOW);
		if (d->fifo[i] < 0)
			return -errno;
		if (fstat(d->fifo[i], &st) < 0 || !S_ISFIFO(st.st_mode)) {
			close(d->fifo[i]);
			d->fifo[i] = -1;
			return -EEXIST;
		}
		slot = supervisor_hold(d->s, d->fifo[i]);
		if (slot >= 0)
			d->slot[i] = (uint32_t)slot;
	}
	return 0;
}

void daemon_open_output(struct daemon *d)
{
	static const char *const compress[] = { [COMPRESS_ZSTD] = "zstd", [COMPRESS_NONE] = "none" };
	_cleanup_json_ cJSON *m = NULL;
	const struct daemon_config *cfg = d->cfg;

	if (d->fifo[0] < 0)
		return; /* never started since the supervisor is up */
	m = cJSON_CreateObject();
	json_add_text(m, "op", "open");
	json_add_text(m, "daemon", d->e.name);
	json_add_text(m, "run", d->e.run);
	json_add_i64(m, "pid", d->e.id.pid);
	json_add_text(m, "format", log_format_to_string(cfg->logging.format));
	json_add_text(m, "level", log_level_to_string(cfg->logging.level));
	json_add_i64(m, "max_size", (int64_t)cfg->logging.max_size);
	json_add_i64(m, "keep", cfg->logging.keep);
	json_add_text(m, "compress", compress[cfg->logging.compress]);
	json_add_bool(m, "store",
	    d->s->config->store.type != STORE_NONE && d->s->config->monitoring.enable_database_logging);
	json_add_text(m, "experiment", cfg->experiment);
	json_add_text(m, "stage", cfg->stage);
	json_add_text(m, "node", cfg->node);
	helper_send(d->s->logger, m);
}

/* --- its processes ------------------------------------------------------------------------------------------------ */

static struct tree_key tree_key(const struct daemon *d)
{
	return (struct tree_key){ .root = d->e.pgid, .nonce = d->e.nonce, .keeper = d->s->keeper_pid };
}

static bool is_ours(const struct daemon *d, pid_t pid)
{
	_cleanup_(freep) char *nonce = NULL;
	struct proc_stat st;

	if (proc_read_stat(pid, &st) < 0 || st.state == 'Z')
		return false;
	if (st.session == d->e.pgid || st.pgrp == d->e.pgid)
		return true;
	return d->e.nonce[0] && proc_read_environ(pid, "SUPERVISE_NONCE", &nonce) == 0 && !strcmp(nonce, d->e.nonce);
}

/*
 * Whether anything is left after the first process was reaped. Cheap when nothing is: its group is asked with
 * signal 0, and whatever had left the group has been reparented to us (or the keeper), so it is an unknown child.
 */
static bool anything_left(struct daemon *d)
{
	_cleanup_(freep) pid_t *known = NULL;
	size_t n_known;
	pid_t parents[2] = { getpid(), d->child ? 0 : d->s->keeper_pid };

	if (d->e.pgid > 1 && kill(-d->e.pgid, 0) == 0) {
		_cleanup_(tree_free) struct tree t = { 0 };
		struct tree_key key = tree_key(d);

		known = supervisor_known_pids(d->s, d, &n_known);
		if (tree_scan(&key, known, known ? n_known : 0, &t) == 0)
			return t.n > 0; /* zombies answer signal 0 too */
		return true;
	}
	for (int i = 0; i < 2; i++) {
		_cleanup_(freep) pid_t *children = NULL;
		size_t n = 0;

		if (!parents[i])
			continue;
		if (i == 0 && children_list(&children, &n) < 0) {
			_cleanup_(tree_free) struct tree t = { 0 };
			struct tree_key key = tree_key(d);

			return tree_scan(&key, NULL, 0, &t) == 0 && t.n > 0;
		}
		if (i == 1) {
			_cleanup_(tree_free) struct tree t = { 0 };
			struct tree_key key = tree_key(d);

			free(known);
			known = supervisor_known_pids(d->s, d, &n_known);
			return tree_scan(&key, known, known ? n_known : 0, &t) == 0 && t.n > 0;
		}
		if (!n)
			continue;
		if (!known)
			known = supervisor_known_pids(d->s, NULL, &n_known);
		for (size_t k = 0; k < n; k++)
			if (!pid_listed(known, known ? n_known : 0, children[k]) && is_ours(d, children[k]))
				return true;
	}
	return false;
}

bool daemon_owns(struct daemon *d, pid_t pid)
{
	struct proc_stat st;

	if (!d->e.id.pid)
		return false;
	for (int depth = 0; depth < 64 && pid > 1; depth++) {
		if (pid == d->e.id.pid)
			return true;
		if (proc_read_stat(pid, &st) < 0)
			return false;
		if (st.session == d->e.pgid)
			return true;
		pid = st.ppid;
	}
	return false;
}

static void kill_tree(struct daemon *d)
{
	_cleanup_(freep) pid_t *known = NULL;
	struct tree_key key = tree_key(d);
	size_t n_known;

	if (d->pidfd >= 0)
		pidfd_signal(d->pidfd, SIGKILL);
	if (!d->cfg->stop.tree)
		return;
	known = supervisor_known_pids(d->s, d, &n_known);
	tree_kill(&key, known, known ? n_known : 0);
}

int daemon_signal(struct daemon *d, int sig, bool tree)
{
	if (!d->e.id.pid || d->pidfd < 0)
		return -ESRCH;
	if (tree) {
		_cleanup_(freep) pid_t *known = NULL;
		_cleanup_(tree_free) struct tree t = { 0 };
		struct tree_key key = tree_key(d);
		size_t n_known;
		int r;

		known = supervisor_known_pids(d->s, d, &n_known);
		r = tree_scan(&key, known, known ? n_known : 0, &t);
		if (r < 0)
			return r;
		for (size_t i = 0; i < t.n; i++)
			pidfd_signal(t.items[i].pidfd, sig);
		return 0;
	}
	return pidfd_signal(d->pidfd, sig);
}

/* The polite part of a stop: the whole group, and SIGCONT so that a stopped process can act on it. */
static void signal_stop(struct daemon *d)
{
	int sig = d->cfg->stop.signal;

	if (d->pidfd < 0)
		return;
	/* the unreaped first process leads the group, so the group's number cannot have been given to another */
	if (d->cfg->stop.tree && d->e.pgid == d->e.id.pid) {
		if (pidfd_signal(d->pidfd, 0) == 0) {
			kill(-d->e.pgid, sig);
			if (sig != SIGKILL)
				kill(-d->e.pgid, SIGCONT);
		}
		return;
	}
	daemon_signal(d, sig, d->cfg->stop.tree);
	if (sig != SIGKILL)
		daemon_signal(d, SIGCONT, d->cfg->stop.tree);
}

/* --- ending what is left of a tree -------------------------------------------------------------------------------- */

static void sweep_watch(struct daemon *d);

static void on_member_gone(int events, void *userdata)
{
	struct daemon *d = userdata;

	(void)events;
	/* which one it was does not matter: count those that are still there */
	d->n_sweep_left = 0;
	for (size_t i = 0; i < d->n_sweep; i++) {
		if (d->sweep_fds[i] < 0)
			continue;
		if (pidfd_signal(d->sweep_fds[i], 0) == -ESRCH) {
			d->sweep_watches[i] = watch_free(d->sweep_watches[i]);
			close(d->sweep_fds[i]);
			d->sweep_fds[i] = -1;
			continue;
		}
		d->n_sweep_left++;
	}
	/* a zombie that its parent has not reaped still takes signals: the tree is looked at instead */
	sweep_watch(d);
}

/* Waits for the members there are now; when there are none, the sweep is over. */
static void sweep_watch(struct daemon *d)
{
	_cleanup_(freep) pid_t *known = NULL;
	_cleanup_(tree_free) struct tree t = { 0 };
	struct tree_key key = tree_key(d);
	size_t n_known;

	sweep_drop(d);
	known = supervisor_known_pids(d->s, d, &n_known);
	if (tree_scan(&key, known, known ? n_known : 0, &t) < 0) {
		alarm_set(d->sweep_alarm, SWEEP_AGAIN_MS);
		return;
	}
	if (!t.n) {
		sweep_end(d);
		return;
	}
	d->sweep_watches = calloc(t.n, sizeof(*d->sweep_watches));
	d->sweep_fds = calloc(t.n, sizeof(*d->sweep_fds));
	if (!d->sweep_watches || !d->sweep_fds) {
		sweep_drop(d);
		alarm_set(d->sweep_alarm, SWEEP_AGAIN_MS);
		return;
	}
	for (size_t i = 0; i < t.n; i++) {
		d->sweep_fds[d->n_sweep] = t.items[i].pidfd;
		t.items[i].pidfd = -1;
		if (watch_new(&d->sweep_watches[d->n_sweep], d->s->loop, d->sweep_fds[d->n_sweep], UV_READABLE, on_member_gone,
			d) < 0) {
			close(d->sweep_fds[d->n_sweep]);
			continue;
		}
		d->n_sweep++;
	}
	d->n_sweep_left = d->n_sweep;
}

static void on_sweep_alarm(void *userdata)
{
	struct daemon *d = userdata;
	_cleanup_(freep) pid_t *known = NULL;
	struct tree_key key = tree_key(d);
	size_t n_known;

	if (!d->sweeping)
		return;
	if (!d->sweep_killed) {
		d->sweep_killed = true;
		if (d->state == DAEMON_STOPPING)
			d->stop_killed = true;
	}
	known = supervisor_known_pids(d->s, d, &n_known);
	tree_kill(&key, known, known ? n_known : 0);
	alarm_set(d->sweep_alarm, SWEEP_AGAIN_MS); /* until nothing is left, however long a D state lasts */
	sweep_watch(d);
}

static void sweep_begin(struct daemon *d, int sig, uint64_t timeout_ms)
{
	_cleanup_(freep) pid_t *known = NULL;
	_cleanup_(tree_free) struct tree t = { 0 };
	struct tree_key key = tree_key(d);
	size_t n_known;

	if (!d->cfg->stop.tree || !anything_left(d)) {
		sweep_end(d);
		return;
	}
	d->sweeping = true;
	d->sweep_killed = false;
	known = supervisor_known_pids(d->s, d, &n_known);
	if (timeout_ms && tree_scan(&key, known, known ? n_known : 0, &t) == 0)
		tree_signal(&t, sig);
	alarm_set(d->sweep_alarm, timeout_ms);
	sweep_watch(d);
}

static void sweep_end(struct daemon *d)
{
	bool was = d->sweeping;

	d->sweeping = false;
	alarm_stop(d->sweep_alarm);
	sweep_drop(d);
	if (d->state == DAEMON_STOPPING) {
		step(d, EV_TREE_GONE);
	} else if (was && d->state == DAEMON_BACKOFF && d->backoff_over) {
		step(d, EV_BACKOFF_OVER);
	} else if (was) {
		supervisor_daemon_changed(d->s, d);
		supervisor_check_down(d->s);
	}
}

/* --- starting ----------------------------------------------------------------------------------------------------- */

static void on_pidfd(int events, void *userdata);
static void on_note(int events, void *userdata);

/* Could not even be forked, or not executed: goes through the policy like an end. */
static void end_unexecuted(struct daemon *d);

static int watch_process(struct daemon *d)
{
	int r;

	if (d->pidfd < 0) {
		d->pidfd = pidfd_open_(d->e.id.pid);
		if (d->pidfd < 0)
			return d->pidfd;
	}
	r = watch_new(&d->pid_watch, d->s->loop, d->pidfd, UV_READABLE, on_pidfd, d);
	return r;
}

static void new_incarnation(struct daemon *d)
{
	struct uuid run = uuid_make_v7(0);
	uint8_t nonce[16];

	random_bytes(nonce, sizeof(nonce));
	for (int i = 0; i < 16; i++)
		snprintf(d->e.nonce + 2 * i, 3, "%02x", nonce[i]);
	uuid_format(&run, d->e.run);
}

static void spawn_now(struct daemon *d)
{
	struct environment env = { 0 };
	struct spawn_request req = { .cfg = d->cfg, .soft_nofile = d->s->soft_nofile, .gate_fd = -1 };
	char out[PATH_MAX], err[PATH_MAX];
	int gate[2] = { -1, -1 }, r;

	alarm_stop(d->alarm);
	d->backoff_over = false;
	set_exec_error(d, NULL);
	d->stop_killed = d->waiting_for_status = false;
	d->stop_timeout_ms = UINT64_MAX;
	d->stop_deadline_ms = 0;
	free(d->snapshot);
	d->snapshot = NULL;
	d->starts++;
	d->e.restart_at_us = 0;
	d->e.id = (struct proc_id){ 0 };
	d->e.started_us = clock_now_us();
	memcpy(d->e.digest, d->cfg->digest, sizeof(d->e.digest));
	new_incarnation(d);

	r = open_fifos(d);
	if (r < 0) {
		set_exec_error(d, "cannot make its output pipes in %s/fifo: %s", d->s->paths.runtime, strerror(-r));
		end_unexecuted(d);
		return;
	}
	/* told before the program can write: its first line is not its predecessor's. The pid follows. */
	if (d->starts > 1 || d->e.last_exit.at_us)
		daemon_open_output(d);
	r = environment_make(&env, d->s, d->cfg, &d->e);
	if (!r && d->cfg->capture.mode == WISH_PTRACE && d->s->capture)
		r = pipe2(gate, O_CLOEXEC) < 0 ? -errno : 0;
	if (!r) {
		req.envp = env.plain;
		req.envp_preload = env.preload;
		req.path = env.path;
		req.out = fifo_path(d, 0, out);
		req.err = fifo_path(d, 1, err);
		req.gate_fd = gate[0];
		r = spawn(&req, &d->e.id.pid, &d->note_fd);
	}
	environment_free(&env);
	if (gate[0] >= 0)
		close(gate[0]);
	if (r < 0) {
		if (gate[1] >= 0)
			close(gate[1]);
		set_exec_error(d, "cannot fork: %s%s", strerror(-r),
		    r == -EAGAIN  ? " (too many processes: ulimit -u)" :
			r == -EMFILE ? " (too many open files: raise the hard limit, ulimit -Hn)" :
				       "");
		end_unexecuted(d);
		return;
	}
	d->child = true;
	d->e.pgid = d->e.id.pid; /* it calls setsid(2) */
	proc_identify(d->e.id.pid, &d->e.id);
	d->pidfd = -1;
	save(d);
	r = watch_process(d);
	if (r < 0)
		supervisor_say(d->s, true, "cannot watch %s (pid %d): %s", d->e.name, (int)d->e.id.pid, strerror(-r));
	if (gate[1] >= 0) {
		r = capture_trace(d->s->capture, d->e.id.pid, gate[1]);
		if (r < 0)
			supervisor_say(d->s, true, "cannot trace %s: %s", d->e.name, strerror(-r));
	}
	watch_new(&d->note_watch, d->s->loop, d->note_fd, UV_READABLE, on_note, d);
	if (d->cfg->start_timeout_ms)
		alarm_set(d->alarm, d->cfg->start_timeout_ms);
	daemon_open_output(d);
}

/* Reads what the child has to say. Return: whether the program is executing now */
static bool read_notes(struct daemon *d)
{
	struct spawn_note n;

	while (d->note_fd >= 0) {
		ssize_t got = read(d->note_fd, &n, sizeof(n));

		if (got < 0 && (errno == EAGAIN || errno == EINTR))
			return false;
		if (got != sizeof(n)) {
			drop_note(d);
			return !d->exec_error;
		}
		n.path[sizeof(n.path) - 1] = '\0';
		n.plan.reason[sizeof(n.plan.reason) - 1] = '\0';
		snprintf(d->e.capture_mode, sizeof(d->e.capture_mode), "%s", capture_mode_to_string(n.plan.mode));
		snprintf(d->e.capture_reason, sizeof(d->e.capture_reason), "%s", n.plan.reason);
		if (n.step) {
			char text[700];

			set_exec_error(d, "%s", spawn_note_format(&n, text, sizeof(text)));
		}
	}
	return false;
}

static void on_note(int events, void *userdata)
{
	struct daemon *d = userdata;

	(void)events;
	if (read_notes(d))
		step(d, EV_EXECUTED);
}

/* --- ending ------------------------------------------------------------------------------------------------------- */

static void describe_end(const struct daemon *d, const struct restart_end *end, bool requested, char *ret, size_t size)
{
	char name[24], took[24];

	if (!end->executed)
		snprintf(ret, size, "%.150s", daemon_get_error(d));
	else if (!end->known)
		snprintf(ret, size, "exit unknown (ended while nobody could see)");
	else if (requested && d->stop_killed)
		snprintf(ret, size, "killed: did not stop within %s",
		    clock_format_duration(d->stop_timeout_ms != UINT64_MAX ? d->stop_timeout_ms : d->cfg->stop.timeout_ms, took));
	else if (WIFSIGNALED(end->status) && requested &&
	    (WTERMSIG(end->status) == d->cfg->stop.signal || WTERMSIG(end->status) == SIGKILL))
		snprintf(ret, size, "stopped (%s)", signal_to_name(WTERMSIG(end->status), name));
	else if (WIFSIGNALED(end->status))
		snprintf(ret, size, "%s", signal_to_name(WTERMSIG(end->status), name));
	else
		snprintf(ret, size, "exit %d%s", WEXITSTATUS(end->status), requested ? " (stopped)" : "");
}

/* A background process of a program that put itself there: the oldest that hangs off us is the daemon from now on. */
static bool follow(struct daemon *d)
{
	_cleanup_(freep) pid_t *known = NULL;
	_cleanup_(tree_free) struct tree t = { 0 };
	struct tree_key key = tree_key(d);
	struct tree_member *best = NULL;
	size_t n_known;
	bool child = false;

	known = supervisor_known_pids(d->s, d, &n_known);
	if (tree_scan(&key, known, known ? n_known : 0, &t) < 0)
		return false;
	for (size_t i = 0; i < t.n; i++) {
		struct proc_stat st;

		if (proc_read_stat(t.items[i].id.pid, &st) < 0 || (st.ppid != getpid() && st.ppid != d->s->keeper_pid))
			continue;
		if (best && best->id.start_ticks <= t.items[i].id.start_ticks)
			continue;
		best = &t.items[i];
		child = st.ppid == getpid();
	}
	if (!best)
		return false;
	drop_process(d);
	d->e.id = best->id;
	d->pidfd = best->pidfd;
	best->pidfd = -1;
	d->child = child;
	save(d);
	watch_process(d);
	supervisor_say(d->s, false, "%s: went to the background, now pid %d", d->e.name, (int)d->e.id.pid);
	daemon_open_output(d);
	supervisor_daemon_changed(d->s, d);
	return true;
}

static const char *describe_next(enum restart_verdict verdict, bool requested, const struct daemon *d, uint64_t delay_ms,
    char *ret, size_t size)
{
	char wait[24], window[24];

	if (requested)
		snprintf(ret, size, d->start_after ? "started again, as asked for" : "stopped, as asked for");
	else if (verdict == RESTART_AGAIN && d->cfg->restart.limit)
		snprintf(ret, size, "restart in %s (%u of %u in %s)", clock_format_duration(delay_ms, wait), d->e.n_restart_times,
		    d->cfg->restart.limit, clock_format_duration(d->cfg->restart.window_ms, window));
	else if (verdict == RESTART_AGAIN)
		snprintf(ret, size, "restart in %s", clock_format_duration(delay_ms, wait));
	else if (verdict == RESTART_GIVE_UP)
		snprintf(ret, size, "given up: %u restarts within %s", d->e.n_restart_times,
		    clock_format_duration(d->cfg->restart.window_ms, window));
	else
		snprintf(ret, size, "not restarted (restart: %s)", restart_policy_to_string(d->cfg->restart.policy));
	return ret;
}

static void ended(struct daemon *d, const struct restart_end *end, const struct rusage *usage)
{
	struct restart_history h = { .streak = d->e.streak, .n_times = d->e.n_restart_times };
	struct exit_info *x = &d->e.last_exit;
	bool requested = d->state == DAEMON_STOPPING, reap = d->child && end->executed && d->pidfd >= 0;
	enum restart_verdict verdict;
	struct transition t;
	char crash_id[UUID_TEXT_MAX], next[160];
	struct uuid id = uuid_make_v7(0);
	pid_t pid = d->e.id.pid;
	int pidfd = d->pidfd;
	uint64_t delay_ms = 0;
	uint32_t dice;

	for (unsigned i = 0; i < h.n_times; i++)
		h.times_us[i] = d->e.restart_times_us[i];
	random_bytes(&dice, sizeof(dice));
	verdict = restart_decide(&d->cfg->restart, end, &h, dice / 4294967295.0, &delay_ms);
	if (requested)
		verdict = RESTART_FINAL;
	if (verdict == RESTART_AGAIN) {
		d->e.streak = h.streak;
		remember_restarts(d, h.times_us, h.n_times);
		d->e.restarts++;
		d->e.restart_at_us = end->now_us + (int64_t)delay_ms * 1000;
	}

	*x = (struct exit_info){ .known = end->known, .status = end->status, .at_us = end->now_us, .pid = pid,
		.uptime_ms = end->uptime_ms };
	if (usage) {
		x->max_rss_bytes = (uint64_t)usage->ru_maxrss * 1024;
		x->utime_us = (uint64_t)usage->ru_utime.tv_sec * 1000000 + (uint64_t)usage->ru_utime.tv_usec;
		x->stime_us = (uint64_t)usage->ru_stime.tv_sec * 1000000 + (uint64_t)usage->ru_stime.tv_usec;
	}
	x->failure = !requested && restart_is_failure(&d->cfg->restart, end);
	if (requested && d->stop_killed)
		x->failure = true;
	describe_end(d, end, requested, x->cause, sizeof(x->cause));
	uuid_format(&id, crash_id);
	memcpy(d->e.pending_crash, crash_id, sizeof(crash_id));
	d->e.id = (struct proc_id){ 0 };
	alarm_stop(d->alarm);
	drop_note(d);

	if (lifecycle_step(d->state,
		verdict == RESTART_AGAIN       ? EV_END_RESTART :
		    verdict == RESTART_GIVE_UP ? EV_END_GIVE_UP :
						 EV_END_FINAL,
		&t) < 0)
		t = (struct transition){ DAEMON_EXITED, ACT_SWEEP };
	set_state(d, t.next);
	if (t.next == DAEMON_EXITED || t.next == DAEMON_FAILED)
		d->e.wanted = false;
	save(d); /* durable before the kernel forgets */
	d->pid_watch = watch_free(d->pid_watch);
	d->pidfd = -1;
	if (reap) {
		siginfo_t si;

		waitid((idtype_t)P_PIDFD, (id_t)pidfd, &si, WEXITED | WNOHANG | __WNOTHREAD);
	}
	if (pidfd >= 0)
		close(pidfd);
	describe_next(verdict, requested, d, delay_ms, next, sizeof(next));

	struct death_facts facts = { .crash_id = crash_id, .exit = x, .stop_timeout = d->stop_killed,
		.requested = requested, .next = next, .exec_error = end->executed ? NULL : daemon_get_error(d) };
	struct exit_info copy = *x;

	facts.exit = &copy;
	/* everything the report needs is copied here; only then may the successor overwrite it */
	death_begin(d->s, d, &facts, d->snapshot);

	switch (t.action) {
	case ACT_WAIT_BACKOFF:
		d->backoff_over = false;
		sweep_begin(d, SIGTERM, d->cfg->stop.timeout_ms);
		if (!delay_ms && !d->sweeping) {
			step(d, EV_BACKOFF_OVER);
			return;
		}
		alarm_set(d->alarm, delay_ms);
		break;
	case ACT_GIVE_UP:
		supervisor_event(d->s, d, EVENT_PROCESS_FAILED, LEVEL_ERROR, NULL, "%s: %s; last: %s", d->e.name, next,
		    copy.cause);
		sweep_begin(d, SIGTERM, d->cfg->stop.timeout_ms);
		break;
	default:
		if (requested) { /* what is left gets what is left of the time */
			uint64_t now = clock_mono_ms();

			sweep_begin(d, d->cfg->stop.signal, d->stop_deadline_ms > now ? d->stop_deadline_ms - now : 0);
		} else {
			sweep_begin(d, SIGTERM, d->cfg->stop.timeout_ms);
		}
		break;
	}
	supervisor_daemon_changed(d->s, d);
	supervisor_check_down(d->s);
}

static void end_unexecuted(struct daemon *d)
{
	struct restart_end end = { .executed = false, .known = true, .status = 127 << 8, .now_us = clock_now_us() };

	ended(d, &end, NULL);
}

/* The child's or the keeper's word is in: status is known (or known to be lost). */
static void process_ended(struct daemon *d, bool known, int status, const struct rusage *usage, int64_t at_us)
{
	struct restart_end end = { .executed = true, .known = known, .status = status, .now_us = at_us };

	d->waiting_for_status = false;
	if (d->note_fd >= 0 && read_notes(d) && d->state == DAEMON_STARTING)
		set_state(d, DAEMON_RUNNING); /* executed and ended within one turn of the loop */
	if (d->exec_error && d->state != DAEMON_RUNNING) {
		end.executed = false;
		if (d->child && d->pidfd >= 0) { /* its exit code 127 is our own child's */
			siginfo_t si;

			waitid((idtype_t)P_PIDFD, (id_t)d->pidfd, &si, WEXITED | WNOHANG | __WNOTHREAD);
		}
	}
	if (at_us > d->e.started_us)
		end.uptime_ms = (uint64_t)(at_us - d->e.started_us) / 1000;
	if (end.executed && d->state == DAEMON_RUNNING && known && WIFEXITED(status) && !WEXITSTATUS(status) &&
	    d->cfg->stop.tree) {
		/* reaped first: as long as it is a zombie its children are not ours yet only in name, but its group has it */
		if (anything_left(d)) {
			int old = d->pidfd;
			bool child = d->child;

			d->pidfd = -1;
			if (follow(d)) {
				siginfo_t si;

				if (old >= 0) {
					if (child)
						waitid((idtype_t)P_PIDFD, (id_t)old, &si, WEXITED | WNOHANG | __WNOTHREAD);
					close(old);
				}
				return;
			}
			d->pidfd = old;
		}
	}
	ended(d, &end, usage);
}

static void on_pidfd(int events, void *userdata)
{
	struct daemon *d = userdata;
	siginfo_t si = { 0 };
	struct rusage usage = { 0 };

	(void)events;
	if (!d->child) {
		/* the keeper reaps it, and says how it ended */
		d->pid_watch = watch_free(d->pid_watch);
		d->waiting_for_status = true;
		alarm_set(d->alarm, STATUS_WAIT_MS);
		return;
	}
	/* the raw call: waitid(3) hides the rusage */
	if (syscall(SYS_waitid, P_PIDFD, d->pidfd, &si, WEXITED | WNOHANG | WNOWAIT | __WNOTHREAD, &usage) < 0 ||
	    !si.si_pid) {
		if (errno == ECHILD) { /* cannot be: somebody reaped our child */
			process_ended(d, false, 0, NULL, clock_now_us());
		}
		return;
	}
	if (si.si_code != CLD_EXITED && si.si_code != CLD_KILLED && si.si_code != CLD_DUMPED)
		return;
	process_ended(d, true,
	    si.si_code == CLD_EXITED     ? (si.si_status & 0xff) << 8 :
		si.si_code == CLD_DUMPED ? si.si_status | 0x80 :
					   si.si_status,
	    &usage, clock_now_us());
}

void daemon_ended_elsewhere(struct daemon *d, int status, const struct rusage *usage, int64_t at_us)
{
	if (d->e.id.pid)
		process_ended(d, true, status, usage, at_us);
}

void daemon_take_snapshot(struct daemon *d, const struct capture_event *e)
{
	if (e->pid == d->e.id.pid && e->kind == CAPTURE_EVENT_SNAPSHOT) {
		if (!d->snapshot)
			d->snapshot = malloc(sizeof(*d->snapshot));
		if (d->snapshot)
			*d->snapshot = *e;
	} else if (e->kind == CAPTURE_EVENT_TRACE_FAILED) {
		snprintf(d->e.capture_mode, sizeof(d->e.capture_mode), "status");
		snprintf(d->e.capture_reason, sizeof(d->e.capture_reason), "%s", e->reason);
		save(d);
	} else {
		death_begin_descendant(d->s, d, e);
	}
}

void daemon_report_done(struct daemon *d, const char *crash_id, const char *path, const char *cause)
{
	if (!strcmp(d->e.pending_crash, crash_id))
		d->e.pending_crash[0] = '\0';
	if (path) {
		char *copy = strdup(path);

		if (copy) {
			free(d->e.report_path);
			d->e.report_path = copy;
		}
		if (cause && d->e.last_exit.at_us) {
			snprintf(d->e.last_exit.cause, sizeof(d->e.last_exit.cause), "%s", cause);
			snprintf(d->e.last_exit.crash_id, sizeof(d->e.last_exit.crash_id), "%s", crash_id);
		}
	}
	save(d);
	supervisor_daemon_changed(d->s, d);
	supervisor_check_down(d->s);
}

/* --- events ------------------------------------------------------------------------------------------------------- */

static void on_alarm(void *userdata)
{
	struct daemon *d = userdata;
	int status;

	if (d->waiting_for_status) {
		/* the keeper said nothing: it is gone too, or was restarted meanwhile. Some kernels still know. */
		if (d->pidfd >= 0 && pidfd_exit_status(d->pidfd, &status) == 0)
			process_ended(d, true, status, NULL, clock_now_us());
		else
			process_ended(d, false, 0, NULL, clock_now_us());
		return;
	}
	switch (d->state) {
	case DAEMON_STARTING:
		step(d, EV_START_TIMEOUT);
		break;
	case DAEMON_STOPPING:
		step(d, EV_STOP_TIMEOUT);
		break;
	case DAEMON_BACKOFF:
		if (d->sweeping)
			d->backoff_over = true; /* the successor must not meet what is left of its predecessor */
		else
			step(d, EV_BACKOFF_OVER);
		break;
	default:
		break;
	}
}

static void step(struct daemon *d, enum daemon_event event)
{
	struct transition t;
	bool was_stopping = d->state == DAEMON_STOPPING;

	if (lifecycle_step(d->state, event, &t) < 0)
		return;
	set_state(d, t.next);
	switch (t.action) {
	case ACT_SPAWN:
		if (d->sweeping) { /* asked for while its predecessor's tree is still being ended */
			set_state(d, DAEMON_BACKOFF);
			d->backoff_over = true;
			save(d);
			break;
		}
		spawn_now(d);
		break;
	case ACT_KILL:
		if (d->state == DAEMON_STOPPING)
			d->stop_killed = true;
		else
			set_exec_error(d, "start_timeout: the program was not executed in time");
		kill_tree(d);
		break;
	case ACT_SIGNAL: {
		uint64_t timeout = d->stop_timeout_ms != UINT64_MAX ? d->stop_timeout_ms : d->cfg->stop.timeout_ms;

		save(d);
		if (!timeout) {
			kill_tree(d);
		} else {
			d->stop_deadline_ms = clock_mono_ms() + timeout;
			signal_stop(d);
			alarm_set(d->alarm, timeout);
		}
		break;
	}
	case ACT_START_AFTER:
		d->start_after = true;
		break;
	default:
		save(d);
		break;
	}
	if (event == EV_EXECUTED && d->state == DAEMON_RUNNING) {
		alarm_stop(d->alarm);
		save(d);
		supervisor_event(d->s, d, EVENT_PROCESS_START, LEVEL_INFO, NULL, "%s started, pid %d", d->e.name,
		    (int)d->e.id.pid);
	}
	if (was_stopping && d->state == DAEMON_STOPPED) {
		if (d->start_after && !d->s->going_down) {
			d->start_after = false;
			supervisor_daemon_changed(d->s, d);
			step(d, EV_START);
			return;
		}
		d->start_after = false;
		d->e.wanted = false;
		save(d);
	}
	supervisor_daemon_changed(d->s, d);
	supervisor_check_down(d->s);
}

int daemon_start(struct daemon *d)
{
	d->e.wanted = true;
	if (d->state != DAEMON_RUNNING && d->state != DAEMON_STARTING && d->state != DAEMON_STOPPING) {
		d->e.restarts = d->e.streak = d->e.n_restart_times = 0;
		alarm_stop(d->alarm);
	}
	step(d, EV_START);
	return 0;
}

void daemon_stop(struct daemon *d, uint64_t timeout_ms)
{
	d->start_after = false;
	d->e.wanted = false;
	d->stop_timeout_ms = timeout_ms;
	if (d->state == DAEMON_BACKOFF)
		alarm_stop(d->alarm);
	if (d->state == DAEMON_STOPPING && timeout_ms == 0) {
		step(d, EV_STOP_TIMEOUT);
		return;
	}
	if (d->waiting_for_status) {
		set_state(d, DAEMON_STOPPING); /* it has ended already; only how is not known yet */
		save(d);
		return;
	}
	step(d, EV_STOP);
}

void daemon_restart(struct daemon *d)
{
	if (d->state == DAEMON_RUNNING || d->state == DAEMON_STARTING || d->state == DAEMON_STOPPING) {
		daemon_stop(d, UINT64_MAX);
		d->e.wanted = d->start_after = true;
		d->e.restarts = d->e.streak = d->e.n_restart_times = 0;
		return;
	}
	daemon_start(d);
}

/* --- after a restart of the supervisor ---------------------------------------------------------------------------- */

static void resume(struct daemon *d, enum daemon_state was)
{
	struct proc_stat st;
	int r;

	d->child = proc_read_stat(d->e.id.pid, &st) == 0 && st.ppid == getpid();
	open_fifos(d);
	d->state = was == DAEMON_STOPPING ? DAEMON_STOPPING : DAEMON_RUNNING;
	save(d);
	r = watch_process(d);
	if (r < 0)
		supervisor_say(d->s, true, "cannot watch %s (pid %d): %s", d->e.name, (int)d->e.id.pid, strerror(-r));
	daemon_open_output(d);
	if (d->state == DAEMON_STOPPING) {
		d->stop_deadline_ms = clock_mono_ms() + d->cfg->stop.timeout_ms;
		signal_stop(d);
		alarm_set(d->alarm, d->cfg->stop.timeout_ms);
	}
}

void daemon_recover(struct daemon *d)
{
	enum daemon_state was = daemon_state_from_string(d->e.state);

	d->state = was == DAEMON_UNKNOWN ? DAEMON_STOPPED : was;
	if (d->e.pending_crash[0]) { /* its last output is asked for by death_resume_all() */
		open_fifos(d);
		daemon_open_output(d);
	}
	if (d->e.id.pid) {
		switch (proc_open(&d->e.id, &d->pidfd)) {
		case PROC_SAME:
			resume(d, was);
			supervisor_say(d->s, false, "%s: still running, pid %d", d->e.name, (int)d->e.id.pid);
			return;
		case PROC_UNKNOWN:
			supervisor_say(d->s, true, "%s: cannot tell whether pid %d is still it; left alone", d->e.name,
			    (int)d->e.id.pid);
			break;
		default:
			/* gone: the keeper knows how, and says so as soon as we listen */
			open_fifos(d);
			daemon_open_output(d);
			if (d->state != DAEMON_STOPPING)
				d->state = DAEMON_RUNNING;
			d->waiting_for_status = true;
			alarm_set(d->alarm, d->s->restarted ? STATUS_WAIT_MS : 0);
			return;
		}
	}
	switch (d->state) {
	case DAEMON_BACKOFF: {
		int64_t left = d->e.restart_at_us - clock_now_us();

		open_fifos(d);
		if (!d->s->restarted) { /* a new project start, not a continuation: a person says what starts */
			d->state = DAEMON_STOPPED;
			break;
		}
		alarm_set(d->alarm, left > 0 ? (uint64_t)left / 1000 : 0);
		return;
	}
	case DAEMON_STARTING:
	case DAEMON_RUNNING:
		/* killed between deciding and forking; a child forked in that instant has been adopted by now */
		d->state = DAEMON_STOPPED;
		if (d->s->restarted && d->e.wanted) {
			step(d, EV_START);
			return;
		}
		break;
	case DAEMON_STOPPING:
		sweep_begin(d, d->cfg->stop.signal, d->cfg->stop.timeout_ms);
		return;
	default:
		break;
	}
	save(d);
}

void daemon_adopt(struct daemon *d, const struct proc_id *id, const char *nonce, const char *run)
{
	int pidfd = -1;

	if (proc_open(id, &pidfd) != PROC_SAME)
		return;
	d->e.id = *id;
	d->e.pgid = id->pid;
	d->pidfd = pidfd;
	d->e.started_us = clock_now_us();
	snprintf(d->e.nonce, sizeof(d->e.nonce), "%s", nonce);
	snprintf(d->e.run, sizeof(d->e.run), "%s", run);
	d->starts++;
	resume(d, DAEMON_RUNNING);
	supervisor_say(d->s, false, "%s: found again by its environment, pid %d", d->e.name, (int)id->pid);
}
