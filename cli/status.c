/* SPDX-License-Identifier: Apache-2.0 */
/* status and show: what runs, and why the last one ended. From the supervisor, or from registry.json without one. */
#include <errno.h>
#include <fcntl.h>
#include <fnmatch.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/file.h"
#include "base/proc.h"
#include "cli/cli.h"
#include "cli/status.h"
#include "cli/table.h"
#include "config/config.h"
#include "registry/registry.h"
#include "supervisor/client.h"

struct view_of {
	struct cli *c;
	cJSON *daemons;    /* array */
	cJSON *supervisor; /* object, or NULL: none runs */
};

static int on_daemon(const cJSON *line, void *userdata)
{
	struct view_of *v = userdata;

	cJSON_AddItemToArray(v->daemons, cJSON_Duplicate(line, 1));
	return 0;
}

static int64_t time_of(const cJSON *j, const char *key)
{
	int64_t us = 0;
	const char *s = json_get_string(j, key, NULL);

	return s && clock_parse_utc(s, &us) == 0 ? us : 0;
}

/* --- resource use, read here and now ------------------------------------------------------------------------------ */

struct usage {
	struct proc_use {
		pid_t pid, ppid, session;
		bool is_daemon;
		uint64_t rss, ticks;
		uint64_t tree_rss, tree_ticks; /* of a daemon */
	} *all;
	size_t n, room;
};

static int collect(pid_t pid, void *userdata)
{
	struct usage *u = userdata;
	struct proc_stat st;

	if (proc_read_stat(pid, &st) < 0)
		return 0;
	if (u->n == u->room) {
		size_t room = u->room ? u->room * 2 : 256;
		void *p = realloc(u->all, room * sizeof(*u->all));

		if (!p)
			return -ENOMEM;
		u->all = p;
		u->room = room;
	}
	u->all[u->n++] = (struct proc_use){ .pid = pid, .ppid = st.ppid, .session = st.session, .rss = st.rss_bytes,
		.ticks = st.utime_ticks + st.stime_ticks };
	return 0;
}

static int by_pid(const void *a, const void *b)
{
	pid_t x = ((const struct proc_use *)a)->pid, y = ((const struct proc_use *)b)->pid;

	return x < y ? -1 : x > y;
}

static struct proc_use *find_use(const struct usage *u, pid_t pid)
{
	struct proc_use key = { .pid = pid };

	return pid > 0 ? bsearch(&key, u->all, u->n, sizeof(*u->all), by_pid) : NULL;
}

/* A process belongs to the nearest daemon above it, or to the one whose session it is in. */
static void sum_trees(struct usage *u)
{
	for (size_t i = 0; i < u->n; i++) {
		struct proc_use *at = &u->all[i];
		int depth = 0;

		while (at && !at->is_daemon && depth++ < 1000) {
			struct proc_use *session = find_use(u, at->session);

			at = session && session->is_daemon ? session : find_use(u, at->ppid);
		}
		if (at && at->is_daemon) {
			at->tree_rss += u->all[i].rss;
			at->tree_ticks += u->all[i].ticks;
		}
	}
}

static void add_usage(cJSON *daemons)
{
	struct usage u = { 0 };
	cJSON *d;
	double hz = (double)sysconf(_SC_CLK_TCK);

	proc_for_each(collect, &u);
	if (u.n)
		qsort(u.all, u.n, sizeof(*u.all), by_pid);
	cJSON_ArrayForEach(d, daemons) {
		struct proc_use *p = find_use(&u, (pid_t)json_get_i64(d, "pid", 0));

		if (p)
			p->is_daemon = true;
	}
	sum_trees(&u);
	cJSON_ArrayForEach(d, daemons) {
		struct proc_use *p = find_use(&u, (pid_t)json_get_i64(d, "pid", 0));
		double up_s = (double)json_get_i64(d, "uptime_ms", 0) / 1000;

		if (!p)
			continue;
		json_add_i64(d, "rss_bytes", (int64_t)p->tree_rss);
		/* over its life so far: one look has no other interval */
		json_add_double(d, "cpu_percent",
		    up_s > 0.5 ? (double)(int)((double)p->tree_ticks / hz / up_s * 1000 + 0.5) / 10 : 0);
	}
	free(u.all);
}

/* --- getting it --------------------------------------------------------------------------------------------------- */

static bool asked_for(const struct cli *c, const char *name)
{
	const char *slash = strchr(name, '/');

	for (int i = 0; i < c->o.n_args; i++) {
		const char *a = c->o.args[i];

		if (!strcmp(a, "all") || !strcmp(a, name) || fnmatch(a, name, 0) == 0 ||
		    (slash && strlen(a) == (size_t)(slash - name) && !strncmp(a, name, strlen(a))))
			return true;
	}
	return !c->o.n_args;
}

/* From registry.json: what was the last time somebody knew; pids are checked. */
static int from_registry(struct view_of *v)
{
	_cleanup_json_ cJSON *j = NULL;
	const cJSON *d;
	struct error err;
	int found = 0;

	if (registry_read(v->c->paths.runtime, &j, &err) < 0)
		return 0;
	cJSON_ArrayForEach(d, json_get_object(j, "daemons")) {
		cJSON *copy;
		struct proc_id id = { (pid_t)json_get_i64(d, "pid", 0), (uint64_t)json_get_i64(d, "start_ticks", 0) };
		int fd = -1;

		if (!asked_for(v->c, d->string))
			continue;
		found++;
		copy = cJSON_Duplicate(d, 1);
		if (id.pid && proc_open(&id, &fd) == PROC_SAME) {
			int64_t up_us = clock_now_us() - time_of(copy, "started_at");

			json_add_i64(copy, "uptime_ms", up_us > 0 ? up_us / 1000 : 0);
			close(fd);
		} else if (id.pid) {
			cJSON_ReplaceItemInObjectCaseSensitive(copy, "pid", cJSON_CreateNull());
			cJSON_ReplaceItemInObjectCaseSensitive(copy, "state", cJSON_CreateString("unknown"));
		}
		cJSON_AddItemToArray(v->daemons, copy);
	}
	return found;
}

/* Return: 0, or an exit code */
static int fetch(struct view_of *v)
{
	_cleanup_(control_closep) struct control *control = NULL;
	_cleanup_json_ cJSON *j = cJSON_CreateObject(), *done = NULL;
	struct error err = { "" };
	cJSON *names;
	int r, code;

	v->daemons = cJSON_CreateArray();
	if (control_connect(&control, &v->c->paths, &err) < 0) {
		r = from_registry(v);
		if (!r && v->c->o.n_args)
			return cli_fail(CLI_UNKNOWN, "Start the supervisor with: supervise up", "nothing is known of '%s', and no supervisor runs",
			    v->c->o.args[0]);
		return 0;
	}
	json_add_text(j, "verb", "status");
	names = json_add_array(j, "names");
	for (int i = 0; i < v->c->o.n_args; i++)
		cJSON_AddItemToArray(names, cJSON_CreateString(v->c->o.args[i]));
	r = control_request(control, j, on_daemon, v, &done, &err);
	if (r < 0)
		return cli_fail(CLI_UNKNOWN, "supervise doctor looks for the usual causes", "%s", err.text);
	code = (int)json_get_i64(done, "code", 0);
	if (code) {
		const char *near = json_get_string(done, "suggestion", NULL);
		char hint[128];

		snprintf(hint, sizeof(hint), "Did you mean '%s'?", near ? near : "");
		return cli_fail(code, near ? hint : NULL, "%s", json_get_string(done, "error", "status failed"));
	}
	v->supervisor = cJSON_DetachItemFromObjectCaseSensitive(done, "supervisor");
	return 0;
}

/* --- showing it --------------------------------------------------------------------------------------------------- */

static const char *glyph(const struct cli *c, const char *state)
{
	if (!c->utf8)
		return !strcmp(state, "running")   ? "*" :
		    !strcmp(state, "failed")       ? "x" :
		    !strcmp(state, "stopped") || !strcmp(state, "exited") ? "o" :
							     "~";
	return !strcmp(state, "running")   ? "●" :
	    !strcmp(state, "failed")       ? "✗" :
	    !strcmp(state, "stopped") || !strcmp(state, "exited") ? "○" :
						     "◐";
}

static const char *state_colour(const char *state)
{
	return !strcmp(state, "running") ? "green" : !strcmp(state, "failed") || !strcmp(state, "unknown") ? "red" :
	    !strcmp(state, "stopped") || !strcmp(state, "exited") ? "brightblack" : "yellow";
}

/* "12m ago  SIGSEGV in f (a.c:1)  crash 7f3a1b2c  next try in 24s" */
static void last_exit_text(const cJSON *d, int64_t now_us, struct text *out)
{
	const cJSON *x = json_get_object(d, "last_exit");
	const char *state = json_get_string(d, "state", ""), *crash = x ? json_get_string(x, "crash_id", NULL) : NULL;
	char ago[48], wait[24];

	if (!x) {
		if (json_get_string(d, "error", NULL))
			text_add(out, json_get_string(d, "error", ""));
		else
			text_add(out, "-");
		return;
	}
	text_addf(out, "%s  %s", cli_format_ago(time_of(x, "at"), now_us, ago), json_get_string(x, "cause", "?"));
	if (crash && strlen(crash) == 36)
		text_addf(out, "  crash %s", crash + 28);
	if (!strcmp(state, "backoff"))
		text_addf(out, "  next try in %s",
		    clock_format_duration((uint64_t)json_get_i64(d, "restart_in_ms", 0), wait));
	if (!strcmp(state, "failed"))
		text_add(out, "  gave up");
}

static int by_name(const void *a, const void *b)
{
	const cJSON *x = *(cJSON *const *)a, *y = *(cJSON *const *)b;

	return strverscmp(json_get_string(x, "name", ""), json_get_string(y, "name", ""));
}

enum { COL_MARK, COL_NAME, COL_STATE, COL_PID, COL_UP, COL_RST, COL_CPU, COL_MEM, COL_LAST };

static const struct cli_column columns[] = {
	[COL_MARK] = { "" },
	[COL_NAME] = { "NAME" },
	[COL_STATE] = { "STATE" },
	[COL_PID] = { "PID", .right = true, .narrow = 60 },
	[COL_UP] = { "UP", .right = true, .narrow = 50 },
	[COL_RST] = { "RST", .right = true, .narrow = 70 },
	[COL_CPU] = { "CPU", .right = true, .narrow = 80 },
	[COL_MEM] = { "MEM", .right = true, .narrow = 80 },
	[COL_LAST] = { "LAST EXIT", .cut = true },
	{ NULL },
};

static void fill_line(const struct cli *c, struct cli_table *t, const cJSON *d, int64_t now_us)
{
	_cleanup_text_ struct text last = { 0 };
	const char *state = json_get_string(d, "state", "unknown"), *look = state;
	int64_t pid = json_get_i64(d, "pid", 0), restarts = json_get_i64(d, "restarts", 0),
		limit = json_get_i64(d, "restart_limit", 0), up_ms = json_get_i64(d, "uptime_ms", 0);
	char buf[48];

	if (!strcmp(state, "exited") && json_get_bool(json_get_object(d, "last_exit"), "failure", false))
		look = "failed";
	cli_table_add_line(t);
	cli_table_set(t, COL_MARK, glyph(c, look), state_colour(look));
	cli_table_set(t, COL_NAME, json_get_string(d, "name", ""), NULL);
	cli_table_set(t, COL_STATE, state, state_colour(look));
	snprintf(buf, sizeof(buf), "%lld", (long long)pid);
	cli_table_set(t, COL_PID, pid ? buf : "-", NULL);
	cli_table_set(t, COL_UP, pid ? clock_format_duration(up_ms > 0 ? (uint64_t)up_ms : 0, buf) : "-", NULL);
	if ((!strcmp(state, "backoff") || !strcmp(state, "failed")) && limit)
		snprintf(buf, sizeof(buf), "%lld/%lld", (long long)restarts, (long long)limit);
	else
		snprintf(buf, sizeof(buf), "%lld", (long long)restarts);
	cli_table_set(t, COL_RST, buf, NULL);
	snprintf(buf, sizeof(buf), "%.0f%%", json_get_double(d, "cpu_percent", 0));
	cli_table_set(t, COL_CPU, pid ? buf : "-", NULL);
	cli_table_set(t, COL_MEM, pid ? format_size((uint64_t)json_get_i64(d, "rss_bytes", 0), buf) : "-", NULL);
	last_exit_text(d, now_us, &last);
	cli_table_set(t, COL_LAST, last.data, NULL);
}

int status_render(const struct cli *c, const cJSON *daemons, int64_t now_us, struct text *out)
{
	_cleanup_(cli_table_freep) struct cli_table *t = NULL;
	size_t n = (size_t)cJSON_GetArraySize(daemons), i = 0;
	_cleanup_(freep) const cJSON **sorted = calloc(n + 1, sizeof(*sorted));
	const cJSON *d;
	int r = cli_table_new(&t, c, columns);

	if (r)
		return r;
	if (!sorted)
		return cli_fail(CLI_TRY_AGAIN, NULL, "out of memory");
	cJSON_ArrayForEach(d, daemons) {
		sorted[i++] = d;
	}
	qsort(sorted, n, sizeof(*sorted), by_name);
	for (i = 0; i < n; i++)
		fill_line(c, t, sorted[i], now_us);
	cli_table_print(t, out);
	return 0;
}

static void print_header(const struct cli *c, const struct view_of *v)
{
	static const char *const order[] = { "running", "starting", "stopping", "backoff", "failed", "exited", "stopped",
		"unknown" };
	_cleanup_text_ struct text counts = { 0 };
	char up[24], crashes[48] = "";
	unsigned recent = v->supervisor ? crashes_count_since(c, clock_now_us() - INT64_C(86400) * 1000000) : 0;
	const cJSON *d, *p;

	if (recent)
		snprintf(crashes, sizeof(crashes), "  %u crash%s/24h", recent, recent == 1 ? "" : "es");
	for (size_t i = 0; i < ARRAY_SIZE(order); i++) {
		unsigned n = 0;

		cJSON_ArrayForEach(d, v->daemons) {
			n += !strcmp(json_get_string(d, "state", ""), order[i]);
		}
		if (n)
			text_addf(&counts, "%s%u %s", counts.size ? ", " : "", n, order[i]);
	}
	if (v->supervisor)
		printf("%s%s%s  %s  up %s  %d daemon%s: %s%s  store: %s\n", cli_sgr(c, "1"), c->project, cli_sgr(c, "0"),
		    json_get_string(v->supervisor, "host", ""),
		    clock_format_duration((uint64_t)(clock_now_us() - time_of(v->supervisor, "started_at")) / 1000, up),
		    cJSON_GetArraySize(v->daemons), cJSON_GetArraySize(v->daemons) == 1 ? "" : "s",
		    counts.size ? counts.data : "none", crashes, json_get_string(v->supervisor, "store", "?"));
	else
		printf("%s%s%s  no supervisor runs; %s\n", cli_sgr(c, "1"), c->project, cli_sgr(c, "0"),
		    cJSON_GetArraySize(v->daemons) ? "this is what was known last" : "nothing is known of earlier runs");
	cJSON_ArrayForEach(p, json_get_array(v->supervisor, "problems")) {
		cli_note(c, "! %s", cJSON_IsString(p) ? p->valuestring : "?");
	}
}

/* Is a daemon as somebody wanted it? */
static bool as_wanted(const cJSON *d)
{
	const char *state = json_get_string(d, "state", "");
	const cJSON *x = json_get_object(d, "last_exit");

	if (!strcmp(state, "running") || !strcmp(state, "starting") || !strcmp(state, "stopped") || !strcmp(state, "stopping"))
		return true;
	return !strcmp(state, "exited") && !(x && json_get_bool(x, "failure", false));
}

static int exit_code(const struct view_of *v)
{
	bool all_stopped = true;
	const cJSON *d;
	int code = CLI_OK;

	if (!v->supervisor)
		return v->c->o.n_args ? CLI_UNKNOWN : CLI_STOPPED;
	cJSON_ArrayForEach(d, v->daemons) {
		const char *state = json_get_string(d, "state", "");

		if (!as_wanted(d))
			code = CLI_FAILED;
		all_stopped &= !strcmp(state, "stopped") || !strcmp(state, "exited");
	}
	if (v->c->o.n_args && code == CLI_OK && all_stopped)
		return CLI_STOPPED;
	return code;
}

int verb_status(struct cli *c)
{
	_cleanup_text_ struct text table = { 0 };
	struct view_of v = { .c = c };
	const cJSON *d;
	char next[256] = "";
	int64_t latest_us = 0;
	bool changed;
	int r = fetch(&v), code;

	if (r)
		goto out;
	add_usage(v.daemons);
	changed = v.supervisor && cli_config_changed(c);
	code = exit_code(&v);
	if (c->o.json) {
		_cleanup_json_ cJSON *j = cJSON_CreateObject();

		json_add_text(j, "schema", "supervise.status/1");
		json_add_text(j, "project", c->project);
		json_add_bool(j, "config_changed", changed);
		cJSON_AddItemToObject(j, "supervisor", v.supervisor ? cJSON_Duplicate(v.supervisor, 1) : cJSON_CreateNull());
		cJSON_AddItemToObject(j, "daemons", cJSON_Duplicate(v.daemons, 1));
		cli_print_json(j);
		r = code;
		goto out;
	}
	r = status_render(c, v.daemons, clock_now_us(), &table);
	if (r)
		goto out;
	if (!c->o.no_header)
		print_header(c, &v);
	if (cJSON_GetArraySize(v.daemons))
		fwrite(table.data ? table.data : "", 1, table.size, stdout);
	if (changed)
		cli_note(c, "! the configuration changed on disk since it was read: supervise reload --dry-run");
	cJSON_ArrayForEach(d, v.daemons) {
		const cJSON *x = json_get_object(d, "last_exit");
		const char *crash = json_get_string(x, "crash_id", NULL);

		if (crash && strlen(crash) == 36 && time_of(x, "at") > latest_us) {
			latest_us = time_of(x, "at");
			snprintf(next, sizeof(next), "next: supervise crash show %s    supervise logs %s", crash + 28,
			    json_get_string(d, "name", ""));
		}
	}
	if (next[0])
		cli_note(c, "%s", next);
	if (!v.supervisor)
		cli_note(c, "next: supervise up");
	r = code;
out:
	cJSON_Delete(v.daemons);
	cJSON_Delete(v.supervisor);
	return r;
}

static void row(const struct cli *c, const char *name, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
static void row(const struct cli *c, const char *name, const char *fmt, ...)
{
	char text[2048];
	_cleanup_text_ struct text t = { 0 };
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	if (!text[0])
		return;
	text_add_printable(&t, text, strlen(text));
	printf("  %s%-12s%s %s\n", cli_sgr(c, "1"), name, cli_sgr(c, "0"), t.data);
}

/* The configuration in force: command and the names of variables, never their values. */
static void show_config(const struct cli *c, const char *name)
{
	_cleanup_(freep) char *text = NULL;
	_cleanup_json_ cJSON *j = NULL;
	_cleanup_(config_freep) struct config *config = NULL;
	_cleanup_text_ struct text t = { 0 }, env = { 0 };
	const struct daemon_config *d;
	char path[PATH_MAX], a[24], b[24];

	if (file_read(AT_FDCWD, path_format(path, sizeof(path), c->paths.runtime, "config.json"), 64 << 20, &text, NULL) < 0 ||
	    json_parse(text, strlen(text), &j, NULL) < 0 || config_from_json(j, &config, NULL) < 0)
		return;
	d = config_find(config, name);
	if (!d)
		return;
	for (char **p = d->command; *p; p++)
		text_addf(&t, strpbrk(*p, " \t\n'\"") || !**p ? "%s'%s'" : "%s%s", p > d->command ? " " : "", *p);
	row(c, "command", "%s", t.data);
	row(c, "directory", "%s", d->directory ? d->directory : "");
	for (char **p = d->environment; p && *p; p++)
		text_addf(&env, "%s%.*s", env.size ? " " : "", (int)strcspn(*p, "="), *p);
	row(c, "environment", "%s", env.size ? env.data : "");
	row(c, "restart", "%s, delay %s up to %s, at most %u", restart_policy_to_string(d->restart.policy),
	    clock_format_duration(d->restart.delay_ms, a), clock_format_duration(d->restart.max_delay_ms, b), d->restart.limit);
	row(c, "stop", "%s, then SIGKILL after %s", signal_to_name(d->stop.signal, b), clock_format_duration(d->stop.timeout_ms, a));
	if (d->place.file)
		row(c, "defined in", "%s:%u", d->place.file, d->place.line);
}

int verb_show(struct cli *c)
{
	struct view_of v = { .c = c };
	const cJSON *d, *x, *capture;
	char buf[48];
	int r = fetch(&v);

	if (r)
		goto out;
	add_usage(v.daemons);
	cJSON_ArrayForEach(d, v.daemons) {
		const char *name = json_get_string(d, "name", ""), *state = json_get_string(d, "state", "");
		_cleanup_text_ struct text last = { 0 };

		if (c->o.json) {
			_cleanup_json_ cJSON *copy = cJSON_Duplicate(d, 1);

			cJSON_AddStringToObject(copy, "schema", "supervise.daemon/1");
			cli_print_json(copy);
			continue;
		}
		printf("%s%s%s  %s%s\n", cli_sgr(c, "1"), name, cli_sgr(c, "0"), state, json_get_bool(d, "wanted", false) ? " (wanted)" : "");
		row(c, "about", "%s", json_get_string(d, "description", ""));
		if (json_get_i64(d, "pid", 0))
			row(c, "process", "pid %lld, up %s, run %s", (long long)json_get_i64(d, "pid", 0),
			    clock_format_duration((uint64_t)json_get_i64(d, "uptime_ms", 0), buf), json_get_string(d, "run", ""));
		row(c, "restarts", "%lld", (long long)json_get_i64(d, "restarts", 0));
		last_exit_text(d, clock_now_us(), &last);
		row(c, "last exit", "%s", last.data);
		x = json_get_object(d, "last_exit");
		if (x)
			row(c, "", "after %s, peak memory %s", clock_format_duration((uint64_t)json_get_i64(x, "uptime_ms", 0), buf),
			    format_size((uint64_t)json_get_i64(x, "max_rss_bytes", 0), buf + 24));
		row(c, "report", "%s", json_get_string(d, "report", ""));
		capture = json_get_object(d, "capture");
		row(c, "capture", "%s%s%s", json_get_string(capture, "mode", ""),
		    json_get_string(capture, "reason", "")[0] ? ": " : "", json_get_string(capture, "reason", ""));
		show_config(c, name);
		row(c, "experiment", "%s", json_get_string(d, "experiment", ""));
		row(c, "stage", "%s", json_get_string(d, "stage", ""));
		row(c, "log", "%s", json_get_string(d, "log", ""));
		if (json_get_bool(d, "drift", false))
			row(c, "note", "the configuration changed since it was started: supervise restart %s", name);
	}
	r = exit_code(&v);
out:
	cJSON_Delete(v.daemons);
	cJSON_Delete(v.supervisor);
	return r;
}
