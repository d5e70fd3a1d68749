/* SPDX-License-Identifier: Apache-2.0 */
/* check, config, init, doctor, version, help: verbs that need no supervisor. */
#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/statvfs.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/file.h"
#include "cli/cli.h"
#include "config/config.h"
#include "db/store.h"
#include "log/spool.h"
#include "supervisor/client.h"

int verb_version(struct cli *c)
{
	if (c->o.json) {
		_cleanup_json_ cJSON *j = cJSON_CreateObject();

		json_add_text(j, "schema", "supervise.version/1");
		json_add_text(j, "version", SUPERVISE_VERSION);
		cli_print_json(j);
	} else {
		puts("supervise " SUPERVISE_VERSION);
	}
	return CLI_OK;
}

/* --- configuration ------------------------------------------------------------------------------------------------ */

int verb_check(struct cli *c)
{
	_cleanup_(config_freep) struct config *config = NULL;
	struct config_problems problems;
	const char *file = c->o.n_args ? c->o.args[0] : c->file;
	int r;

	if (!file)
		return cli_fail(CLI_NO_INPUT, "supervise check FILE", "there is no supervise.yaml here or above");
	r = config_load(file, &config, &problems);
	if (c->o.json) {
		_cleanup_json_ cJSON *j = cJSON_CreateObject();

		json_add_text(j, "schema", "supervise.check/1");
		json_add_text(j, "file", file);
		json_add_bool(j, "ok", r == 0);
		cJSON_AddItemToObject(j, "problems", config_problems_to_json(&problems));
		cli_print_json(j);
	} else {
		config_print_problems(&problems, stderr, c->colour_err);
		if (r == 0)
			cli_note(c, "%s is in order: project '%s', %zu daemon%s", file, config->name, config->n_daemons,
			    config->n_daemons == 1 ? "" : "s");
	}
	config_problems_free(&problems);
	return r == 0 ? CLI_OK : r == -ENOENT ? CLI_NO_INPUT : CLI_CONFIG;
}

/* Values of variables may be secrets. */
static void mask_environment(cJSON *config)
{
	cJSON *d, *e;

	cJSON_ArrayForEach(d, cJSON_GetObjectItemCaseSensitive(config, "daemons")) {
		cJSON_ArrayForEach(e, cJSON_GetObjectItemCaseSensitive(d, "environment")) {
			char text[256];
			const char *value = cJSON_GetStringValue(e);

			snprintf(text, sizeof(text), "%.*s=***", (int)strcspn(value, "="), value);
			cJSON_SetValuestring(e, strlen(text) <= strlen(value) ? text : "***");
		}
	}
}

int verb_config(struct cli *c)
{
	_cleanup_json_ cJSON *j = NULL;
	_cleanup_(freep) char *text = NULL;
	const char *what = c->o.args[0];

	if (!strcmp(what, "schema")) {
		j = config_schema();
	} else if (!strcmp(what, "show")) {
		char path[PATH_MAX];
		struct error err;
		int r;

		if (!c->have_paths)
			return cli_fail(CLI_NO_INPUT, "supervise -c FILE config show", "there is no supervise.yaml here or above");
		r = file_read(AT_FDCWD, path_format(path, sizeof(path), c->paths.runtime, "config.json"), 64 << 20, &text, NULL);
		if (r < 0)
			return cli_fail(CLI_UNAVAILABLE, "It is read by: supervise up", "no configuration is in force: %s: %s", path,
			    strerror(-r));
		if (json_parse(text, strlen(text), &j, &err) < 0)
			return cli_fail(CLI_DATA, NULL, "%s: %s", path, err.text);
		mask_environment(j);
		free(text);
		text = NULL;
	} else {
		return cli_fail(CLI_USAGE, "There are: config show, config schema", "'config %s' is unknown", what);
	}
	text = j ? json_print_pretty(j) : NULL;
	puts(text ? text : "");
	return CLI_OK;
}

static const char first_file[] =
    "# supervise.yaml - which daemons run, and how. All keys: man 5 supervise.yaml\n"
    "version: 1\n"
    "# name: my-project          # default: the name of this folder\n"
    "\n"
    "defaults:                    # merged into every daemon\n"
    "  restart: {policy: on-failure, delay: 1s, max_delay: 60s, limit: 10, window: 10m}\n"
    "\n"
    "daemons:\n";

static const char example[] =
    "  ticker:                    # an example: replace it by a program of yours\n"
    "    command: 'i=0; while :; do echo \"tick $i\"; i=$((i+1)); sleep 1; done'\n"
    "    shell: true\n"
    "    # command: [./server, --port, \"${PORT:-7000}\"]   # a list, or a text; no shell is run for these\n"
    "    # directory: /scratch/me/run\n"
    "    # environment: {OMP_NUM_THREADS: \"4\"}\n"
    "    # experiment: my-experiment\n";

/* "web: bundle exec thin start" -> a daemon run by a shell, as Procfile runners do. */
static void add_procfile(struct text *t, char *procfile)
{
	for (char *rest = procfile, *line = strsep(&rest, "\n"); line; line = strsep(&rest, "\n")) {
		char *colon = strchr(line, ':'), *command;

		if (!colon || line == colon || *line == '#')
			continue;
		*colon = '\0';
		command = colon + 1 + strspn(colon + 1, " \t");
		for (char *p = line; *p; p++)
			*p = isalnum((unsigned char)*p) || *p == '-' || *p == '_' ? (char)tolower((unsigned char)*p) : '-';
		text_addf(t, "  %s:\n    shell: true\n    command: \"", line);
		for (char *p = command; *p && *p != '\r'; p++)
			text_addf(t, *p == '"' || *p == '\\' ? "\\%c" : "%c", *p);
		text_add(t, "\"\n");
	}
}

int verb_init(struct cli *c)
{
	_cleanup_text_ struct text t = { 0 };
	_cleanup_(freep) char *procfile = NULL;
	_cleanup_(config_freep) struct config *config = NULL;
	struct config_problems problems;
	const char *file = c->o.n_args ? c->o.args[0] : "supervise.yaml";
	bool imported = false;
	int r;

	if (!access(file, F_OK) && !c->o.force)
		return cli_fail(CLI_CANT_CREATE, "Overwrite it with --force", "%s exists already", file);
	text_add(&t, first_file);
	if (file_read(AT_FDCWD, "Procfile", 1 << 20, &procfile, NULL) == 0) {
		size_t before = t.size;

		add_procfile(&t, procfile);
		imported = t.size > before;
	}
	if (!imported)
		text_add(&t, example);
	if (t.failed)
		return cli_fail(CLI_TRY_AGAIN, NULL, "out of memory");
	r = file_replace(AT_FDCWD, file, t.data, t.size, 0644, 0);
	if (r < 0)
		return cli_fail(CLI_CANT_CREATE, NULL, "cannot write %s: %s", file, strerror(-r));
	printf("wrote %s%s\n", file, imported ? ", with the processes of Procfile" : "");
	r = config_load(file, &config, &problems);
	config_print_problems(&problems, stderr, c->colour_err);
	config_problems_free(&problems);
	cli_note(c, "next: edit it, then: supervise check    supervise up");
	return r < 0 ? CLI_CONFIG : CLI_OK;
}

/* --- doctor ------------------------------------------------------------------------------------------------------- */

struct findings {
	struct cli *c;
	cJSON *list;
	unsigned bad;
};

/* @state: "ok", "note" or "bad" */
static void finding(struct findings *f, const char *state, const char *what, const char *fmt, ...)
    __attribute__((format(printf, 4, 5)));
static void finding(struct findings *f, const char *state, const char *what, const char *fmt, ...)
{
	char text[1024];
	va_list ap;
	cJSON *j;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	f->bad += !strcmp(state, "bad");
	if (f->list) {
		j = cJSON_CreateObject();
		json_add_text(j, "state", state);
		json_add_text(j, "what", what);
		json_add_text(j, "text", text);
		cJSON_AddItemToArray(f->list, j);
		return;
	}
	printf("%s%-5s%s %-14s %s\n", cli_sgr(f->c, !strcmp(state, "ok") ? "32" : !strcmp(state, "bad") ? "31" : "33"), state,
	    cli_sgr(f->c, "0"), what, text);
}

static long long read_number(const char *path)
{
	_cleanup_(freep) char *text = NULL;

	return file_read(AT_FDCWD, path, 64, &text, NULL) < 0 ? -1 : atoll(text);
}

static void look_at_helpers(struct findings *f)
{
	static const char *const names[] = { "supervise-keeper", "supervise-supervisor", "supervise-logger", "supervise-writer",
		"supervise-symbolizer", "supervise-agent.so" };
	char path[PATH_MAX];
	struct error err;
	bool all = true;

	for (size_t i = 0; i < ARRAY_SIZE(names); i++)
		if (paths_helper(names[i], path, &err) < 0) {
			finding(f, "bad", "installation", "%s", err.text);
			all = false;
		}
	if (all)
		finding(f, "ok", "installation", "all helpers are there: %.*s", (int)(strrchr(path, '/') - path), path);
}

/* It is linked with the unwinder and the symbol reader, so a missing library shows here first. */
static void look_at_symbolizer(struct findings *f)
{
	char path[PATH_MAX];
	struct error err;
	int fds[2], status = 0;
	pid_t pid;

	if (paths_helper("supervise-symbolizer", path, &err) < 0 || pipe2(fds, O_CLOEXEC) < 0)
		return; /* said already */
	pid = fork();
	if (!pid) {
		int null = open("/dev/null", O_RDWR);

		/* an empty snapshot, and an empty report on descriptor 3 */
		if (null < 0 || dup2(null, 0) < 0 || dup2(null, 1) < 0 || dup2(null, 2) < 0 || dup2(fds[0], 3) < 0)
			_exit(126);
		if (fds[0] == 3)
			fcntl(3, F_SETFD, 0);
		execl(path, path, (char *)NULL);
		_exit(126);
	}
	close(fds[0]);
	if (pid > 0) {
		write_all(fds[1], "{}", 2);
		close(fds[1]);
		while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
			;
	} else {
		close(fds[1]);
		status = -1;
	}
	if (status == 0)
		finding(f, "ok", "symbolizer", "runs: crash reports will have functions, files and lines");
	else
		finding(f, "bad", "symbolizer", "%s does not run: reports will have no backtrace; start it by hand to see why", path);
}

static void look_at_capture(struct findings *f)
{
	long long yama = read_number("/proc/sys/kernel/yama/ptrace_scope");
	_cleanup_(freep) char *pattern = NULL;

	if (yama < 0)
		finding(f, "ok", "ptrace", "no yama restrictions");
	else if (yama <= 1)
		finding(f, "ok", "ptrace", "yama ptrace_scope is %lld: crashes of supervised processes can be looked at", yama);
	else
		finding(f, "note", "ptrace",
		    "yama ptrace_scope is %lld: reports will have no stacks of threads other than the crashed one, if any", yama);
	if (file_read(AT_FDCWD, "/proc/sys/kernel/core_pattern", 4096, &pattern, NULL) == 0) {
		pattern[strcspn(pattern, "\n")] = '\0';
		finding(f, "ok", "core files", "core_pattern is '%s'; reports need no core file", pattern);
	}
}

static void look_at_limits(struct findings *f)
{
	struct rlimit files, procs;
	long long pages = read_number("/proc/sys/fs/pipe-user-pages-soft");

	if (getrlimit(RLIMIT_NOFILE, &files) == 0)
		finding(f, files.rlim_max < 4096 ? "note" : "ok", "open files", "hard limit %llu: enough for about %llu daemons",
		    (unsigned long long)files.rlim_max, (unsigned long long)(files.rlim_max > 100 ? (files.rlim_max - 100) / 4 : 0));
	if (getrlimit(RLIMIT_NPROC, &procs) == 0 && procs.rlim_cur != RLIM_INFINITY)
		finding(f, procs.rlim_cur < 256 ? "note" : "ok", "processes", "limit %llu for this user",
		    (unsigned long long)procs.rlim_cur);
	if (pages > 0)
		finding(f, "ok", "pipes", "%lld daemons have output pipes of 64 KiB, further ones of 8 KiB (pipe-user-pages-soft %lld)",
		    pages / 32, pages);
}

static void look_at_folder(struct findings *f, const char *what, const char *path)
{
	char at[PATH_MAX];
	struct statvfs fs;
	char size[16];
	int network;

	snprintf(at, sizeof(at), "%s", path);
	while (access(at, F_OK) && strrchr(at, '/') > at)
		*strrchr(at, '/') = '\0';
	network = path_is_network(at);
	if (access(at, W_OK))
		finding(f, "bad", what, "%s cannot be written to", at);
	else if (network == 1)
		finding(f, !strcmp(what, "state") ? "note" : "bad", what,
		    !strcmp(what, "state") ? "%s is on a network file system: the store uses a rollback journal there, and is slower" :
						  "%s is on a network file system: set SUPERVISE_RUNTIME_DIR to a local folder",
		    path);
	else if (statvfs(at, &fs) == 0 && (uint64_t)fs.f_bavail * fs.f_frsize < (uint64_t)100 << 20)
		finding(f, "note", what, "%s: only %s free", path, format_size((uint64_t)fs.f_bavail * fs.f_frsize, size));
	else
		finding(f, "ok", what, "%s", path);
}

static void look_at_store(struct findings *f)
{
	struct store_options o = { .type = "sqlite", .read_only = true };
	_cleanup_(store_closep) struct store *store = NULL;
	_cleanup_json_ cJSON *j = NULL;
	char path[PATH_MAX], size[16];
	struct error err;
	int r;

	o.path = path_format(path, sizeof(path), f->c->paths.state, "supervise.db");
	r = store_open(&store, &o, &err);
	if (r == -ENOENT) {
		finding(f, "ok", "store", "none yet: %s", path);
		return;
	}
	if (r < 0 || store_describe(store, &j, &err) < 0) {
		finding(f, "bad", "store", "%s", err.text);
		return;
	}
	finding(f, "ok", "store", "%s, %s", path, format_size((uint64_t)json_get_i64(j, "bytes", 0), size));
	for (int i = 0; i < 2; i++) {
		static const char *const spools[] = { "logger", "supervisor" };
		_cleanup_(spool_reader_closep) struct spool_reader *reader = NULL;
		struct spool_frame frame;
		struct uuid source;
		uint64_t mark = 0, waiting = 0;
		char folder[PATH_MAX];

		path_format(folder, sizeof(folder), f->c->paths.state, "spool/%s", spools[i]);
		if (spool_read_source(folder, &source) < 0 || store_get_mark(store, &source, NULL, NULL, &mark, &err) < 0 ||
		    spool_reader_open(&reader, folder, mark, &err) < 0)
			continue;
		while (spool_reader_next(reader, &frame, NULL) == 1)
			waiting++;
		finding(f, waiting > 100000 ? "note" : "ok", "spool", "%s: %llu records wait to be stored", spools[i],
		    (unsigned long long)waiting);
	}
}

int verb_doctor(struct cli *c)
{
	_cleanup_json_ cJSON *j = cJSON_CreateObject();
	_cleanup_(control_closep) struct control *control = NULL;
	struct findings f = { .c = c };
	struct error err;

	signal(SIGPIPE, SIG_IGN); /* a helper that does not even read what it is given */
	json_add_text(j, "schema", "supervise.doctor/1");
	if (c->o.json)
		f.list = json_add_array(j, "findings");
	look_at_helpers(&f);
	look_at_symbolizer(&f);
	look_at_capture(&f);
	look_at_limits(&f);
	if (!c->have_paths) {
		struct paths p;

		snprintf(c->project, sizeof(c->project), "run");
		if (paths_init(&p, c->project, &err) == 0) {
			c->paths = p;
			c->have_paths = true;
		} else {
			finding(&f, "bad", "folders", "%s", err.text);
		}
	}
	if (c->have_paths) {
		look_at_folder(&f, "runtime", c->paths.runtime);
		look_at_folder(&f, "state", c->paths.state);
		look_at_store(&f);
		if (control_connect(&control, &c->paths, &err) == 0)
			finding(&f, "ok", "supervisor", "of project '%s' answers", c->project);
		else
			finding(&f, "note", "supervisor", "of project '%s' does not run", c->project);
	}
	if (c->o.json)
		cli_print_json(j);
	return f.bad ? CLI_FAILED : CLI_OK;
}
