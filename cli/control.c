/* SPDX-License-Identifier: Apache-2.0 */
/* Verbs that act: they talk to the supervisor, and start it where that is what the verb means. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/file.h"
#include "cli/cli.h"
#include "config/config.h"
#include "supervisor/client.h"
#include "supervisor/launch.h"

/* Reads and checks the file; prints what is wrong. Return: 0, or an exit code */
static int load(struct cli *c, struct config **ret)
{
	struct config_problems problems;
	int r = config_load(c->file, ret, &problems);

	if (r < 0 || !c->o.quiet)
		config_print_problems(&problems, stderr, c->colour_err);
	config_problems_free(&problems);
	return r == 0 ? 0 : r == -ENOENT ? CLI_NO_INPUT : CLI_CONFIG;
}

static int not_running(struct cli *c, const struct error *err)
{
	(void)err;
	return cli_fail(CLI_UNAVAILABLE, "Start it with: supervise up", "no supervisor of project '%s' runs", c->project);
}

struct outcome {
	struct cli *c;
	const char *verb;
	unsigned ok, failed;
	cJSON *list; /* --json */
};

static const char *past(const char *verb, const char *state)
{
	if (!strcmp(verb, "stop") || !strcmp(verb, "kill"))
		return state;
	return !strcmp(state, "running") ? "running" : state;
}

static int on_line(const cJSON *line, void *userdata)
{
	struct outcome *o = userdata;
	const char *name = json_get_string(line, "daemon", "?"), *error = json_get_string(line, "error", NULL);
	const char *state = json_get_string(line, "state", "");
	bool ok = json_get_bool(line, "ok", false);

	if (o->c->o.json) {
		cJSON_AddItemToArray(o->list, cJSON_Duplicate(line, 1));
	} else if (ok && !o->c->o.quiet) {
		int64_t pid = json_get_i64(line, "pid", 0);

		if (pid)
			printf("%s: %s%s%s, pid %lld\n", name, cli_sgr(o->c, "32"), past(o->verb, state), cli_sgr(o->c, "0"), (long long)pid);
		else
			printf("%s: %s\n", name, past(o->verb, state));
	}
	if (!ok) {
		cli_fail(0, NULL, "%s %s: %s", o->verb, name, error ? error : state);
		o->failed++;
	} else {
		o->ok++;
	}
	return 0;
}

static int done_code(struct cli *c, const cJSON *done)
{
	const char *error = json_get_string(done, "error", NULL), *suggestion = json_get_string(done, "suggestion", NULL);
	int code = (int)json_get_i64(done, "code", CLI_SOFTWARE);
	char hint[160];

	if (error) {
		if (suggestion)
			snprintf(hint, sizeof(hint), "Did you mean '%s'?", suggestion);
		else
			snprintf(hint, sizeof(hint), "supervise status shows what there is");
		cli_fail(code, code == CLI_UNKNOWN ? hint : NULL, "%s", error);
	}
	(void)c;
	return code;
}

static int request(struct cli *c, struct control *control, const char *verb, cJSON *names)
{
	_cleanup_json_ cJSON *j = cJSON_CreateObject(), *done = NULL, *out = NULL;
	struct outcome o = { .c = c, .verb = verb };
	struct error err = { "" };
	int r, code;

	json_add_text(j, "verb", verb);
	if (names)
		cJSON_AddItemToObject(j, "names", names);
	json_add_bool(j, "wait", c->o.wait);
	if (c->o.timeout_ms)
		json_add_i64(j, "timeout_ms", (int64_t)c->o.timeout_ms);
	if (c->o.signal)
		json_add_text(j, "signal", c->o.signal);
	json_add_bool(j, "tree", c->o.tree);
	if (c->o.json) {
		out = cJSON_CreateObject();
		json_add_text(out, "schema", "supervise.action/1");
		o.list = json_add_array(out, "daemons");
	}
	r = control_request(control, j, on_line, &o, &done, &err);
	if (r < 0 && !(r == -ECONNRESET && !strcmp(verb, "down")))
		return cli_fail(CLI_UNAVAILABLE, "supervise status shows whether it is back", "%s", err.text);
	code = done ? done_code(c, done) : CLI_OK;
	if (o.list) {
		json_add_i64(out, "code", code);
		cli_print_json(out);
	}
	return code;
}

static cJSON *names_of(const struct cli *c, int from)
{
	cJSON *names = cJSON_CreateArray();

	for (int i = from; i < c->o.n_args; i++)
		cJSON_AddItemToArray(names, cJSON_CreateString(c->o.args[i]));
	return names;
}

/* With a supervisor: connects. Without one: reads the file and starts it. Return: 0, or an exit code */
static int connect_or_launch(struct cli *c, struct control **ret, bool *ret_launched)
{
	_cleanup_(config_freep) struct config *config = NULL;
	struct error err = { "" };
	int r;

	*ret_launched = false;
	if (control_connect(ret, &c->paths, &err) == 0) {
		if (cli_config_changed(c))
			cli_note(c, "note: %s has changed since it was read; apply it with: supervise reload", c->file ? c->file : "the file");
		return 0;
	}
	r = load(c, &config);
	if (r)
		return r;
	r = launch_supervisor(&c->paths, config, &err);
	if (r < 0)
		return cli_fail(r == -EACCES || r == -EPERM ? CLI_PERMISSION : r == -EAGAIN ? CLI_TRY_AGAIN : CLI_UNAVAILABLE,
		    "supervise doctor looks for the usual causes", "%s", err.text);
	*ret_launched = r == 0;
	if (control_connect(ret, &c->paths, &err) < 0)
		return cli_fail(CLI_UNAVAILABLE, NULL, "%s", err.text);
	return 0;
}

int verb_up(struct cli *c)
{
	_cleanup_(control_closep) struct control *control = NULL;
	bool launched;
	int r = connect_or_launch(c, &control, &launched);

	if (r)
		return r;
	r = request(c, control, "up", NULL);
	if (launched && !c->o.json) {
		cli_note(c, "logs and reports: %s", c->paths.state);
		cli_note(c, "next: supervise status    supervise logs -f");
	}
	return r;
}

int verb_down(struct cli *c)
{
	_cleanup_(control_closep) struct control *control = NULL;
	struct error err;
	int r;

	if (control_connect(&control, &c->paths, &err) < 0) {
		cli_note(c, "no supervisor of project '%s' runs", c->project);
		return CLI_OK;
	}
	r = request(c, control, "down", NULL);
	if (r == CLI_OK) {
		/* the keeper holds the project's lock until it is gone: then nothing of ours is left */
		char path[PATH_MAX];
		int fd = open(path_format(path, sizeof(path), c->paths.runtime, "lock"), O_RDWR | O_CLOEXEC);

		if (fd >= 0) {
			file_lock_wait(fd);
			close(fd);
		}
		if (!c->o.quiet && !c->o.json)
			printf("%s: all stopped\n", c->project);
	}
	return r;
}

static int start_like(struct cli *c, const char *verb)
{
	_cleanup_(control_closep) struct control *control = NULL;
	bool launched;
	int r = connect_or_launch(c, &control, &launched);

	return r ? r : request(c, control, verb, names_of(c, 0));
}

static int stop_like(struct cli *c, const char *verb, int from)
{
	_cleanup_(control_closep) struct control *control = NULL;
	struct error err;

	if (control_connect(&control, &c->paths, &err) < 0)
		return not_running(c, &err);
	return request(c, control, verb, names_of(c, from));
}

int verb_start(struct cli *c)
{
	return start_like(c, "start");
}

int verb_restart(struct cli *c)
{
	return start_like(c, "restart");
}

int verb_stop(struct cli *c)
{
	return stop_like(c, "stop", 0);
}

int verb_kill(struct cli *c)
{
	return stop_like(c, "kill", 0);
}

int verb_signal(struct cli *c)
{
	c->o.signal = c->o.args[0];
	if (signal_from_name(c->o.signal) < 0)
		return cli_fail(CLI_USAGE, "Write HUP, USR1, TERM, ...", "'%s' is no signal", c->o.signal);
	return stop_like(c, "signal", 1);
}

/* --- reload ------------------------------------------------------------------------------------------------------- */

struct plan {
	struct cli *c;
	unsigned n;
	cJSON *list;
};

static int on_change(const cJSON *line, void *userdata)
{
	static const char *const marks[][3] = { { "add", "+", "32" }, { "remove", "-", "31" }, { "restart", "!", "33" },
		{ "update", "~", "36" } };
	struct plan *p = userdata;
	const char *change = json_get_string(line, "change", "");
	_cleanup_text_ struct text keys = { 0 };
	const cJSON *k;

	p->n++;
	if (p->list) {
		cJSON_AddItemToArray(p->list, cJSON_Duplicate(line, 1));
		return 0;
	}
	cJSON_ArrayForEach(k, json_get_array(line, "keys")) {
		text_addf(&keys, "%s%s", keys.size ? ", " : "", cJSON_GetStringValue(k));
	}
	for (size_t i = 0; i < ARRAY_SIZE(marks); i++)
		if (!strcmp(marks[i][0], change))
			printf("%s%s %s%s  %s%s%s%s\n", cli_sgr(p->c, marks[i][2]), marks[i][1],
			    json_get_string(line, "daemon", ""), cli_sgr(p->c, "0"), change, keys.size ? " (" : "",
			    keys.size ? keys.data : "", keys.size ? ")" : "");
	return 0;
}

int verb_reload(struct cli *c)
{
	_cleanup_(control_closep) struct control *control = NULL;
	_cleanup_(config_freep) struct config *config = NULL;
	_cleanup_json_ cJSON *j = NULL, *request_ = cJSON_CreateObject(), *done = NULL, *out = NULL;
	_cleanup_(freep) char *text = NULL;
	char name[64], path[PATH_MAX];
	struct plan p = { .c = c };
	struct error err = { "" };
	int r;

	if (control_connect(&control, &c->paths, &err) < 0)
		return not_running(c, &err);
	r = load(c, &config);
	if (r)
		return r;
	j = config_to_json(config);
	text = j ? json_print(j) : NULL;
	snprintf(name, sizeof(name), "reload.%d.json", (int)getpid());
	path_format(path, sizeof(path), c->paths.runtime, "%s", name);
	r = text ? file_replace(AT_FDCWD, path, text, strlen(text), 0600, 0) : -ENOMEM;
	if (r < 0)
		return cli_fail(CLI_CANT_CREATE, NULL, "cannot write %s: %s", path, strerror(-r));
	json_add_text(request_, "verb", "reload");
	json_add_text(request_, "config", name);
	json_add_bool(request_, "dry_run", c->o.dry_run);
	if (c->o.json) {
		out = cJSON_CreateObject();
		json_add_text(out, "schema", "supervise.reload/1");
		p.list = json_add_array(out, "changes");
	}
	r = control_request(control, request_, on_change, &p, &done, &err);
	unlink(path); /* the supervisor has renamed it if it took it */
	if (r < 0)
		return cli_fail(CLI_UNAVAILABLE, NULL, "%s", err.text);
	r = done_code(c, done);
	if (out) {
		json_add_bool(out, "applied", r == 0 && !c->o.dry_run);
		cli_print_json(out);
	} else if (r == 0) {
		cli_note(c, p.n ? c->o.dry_run ? "nothing was changed (--dry-run)" : "applied" : "nothing to change");
	}
	return r;
}
