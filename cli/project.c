/* SPDX-License-Identifier: Apache-2.0 */
/* Which configuration file and which project a command is about. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "cli/cli.h"
#include "config/config.h"
#include "supervisor/client.h"

/* Found by climbing up, a file of somebody else would run that person's commands as us. */
static bool is_ours(const char *path)
{
	struct stat st;

	return stat(path, &st) == 0 && (st.st_uid == geteuid() || st.st_uid == 0);
}

/* -c, $SUPERVISE_CONFIG, ./supervise.yaml up to the top of a repository or the home folder, $XDG_CONFIG_HOME. */
static char *find_file(const struct cli *c)
{
	const char *env = getenv("SUPERVISE_CONFIG"), *xdg = getenv("XDG_CONFIG_HOME"), *home = getenv("HOME");
	char dir[PATH_MAX], path[PATH_MAX + 64];

	if (c->o.config)
		return strdup(c->o.config);
	if (env && *env)
		return strdup(env);
	if (!access("supervise.yaml", F_OK))
		return strdup("supervise.yaml");
	if (getcwd(dir, sizeof(dir)) && *dir == '/')
		for (;;) {
			char *slash;

			snprintf(path, sizeof(path), "%s/supervise.yaml", dir);
			if (is_ours(path))
				return strdup(path);
			snprintf(path, sizeof(path), "%s/.git", dir);
			if (!access(path, F_OK) || (home && !strcmp(dir, home)))
				break;
			slash = strrchr(dir, '/');
			if (!slash || slash == dir)
				break;
			*slash = '\0';
		}
	if (xdg && *xdg)
		snprintf(path, sizeof(path), "%s/supervise/supervise.yaml", xdg);
	else
		snprintf(path, sizeof(path), "%s/.config/supervise/supervise.yaml", home ? home : "");
	return access(path, F_OK) ? NULL : strdup(path);
}

/* The folder of all projects of the user: their runtime folders, or their state folders. */
static int parent_folder(bool state, char *ret, size_t size)
{
	struct paths p;
	struct error err;
	int r = paths_init(&p, "x", &err);
	char *folder = state ? p.state : p.runtime;

	if (r < 0)
		return r;
	if (state) /* NAME/HOST */
		*strrchr(folder, '/') = '\0';
	*strrchr(folder, '/') = '\0';
	snprintf(ret, size, "%s", folder);
	return 0;
}

static bool answers(const char *project)
{
	_cleanup_(control_closep) struct control *control = NULL;
	struct paths p;
	struct error err;

	return paths_init(&p, project, &err) == 0 && control_connect(&control, &p, &err) == 0;
}

static bool has_history(const char *project)
{
	struct paths p;
	struct error err;

	return paths_init(&p, project, &err) == 0 && !access(p.state, F_OK);
}

/* Names of projects for which @is holds; the last one goes to c->project. */
static unsigned list_projects(struct cli *c, bool state, bool (*is)(const char *project), struct text *ret)
{
	char folder[PATH_MAX];
	struct dirent *e;
	unsigned n = 0;
	_cleanup_(closedirp) DIR *d = parent_folder(state, folder, sizeof(folder)) < 0 ? NULL : opendir(folder);

	while (d && (e = readdir(d)))
		if (e->d_name[0] != '.' && is(e->d_name)) {
			text_addf(ret, "%s%s", n++ ? ", " : "", e->d_name);
			snprintf(c->project, sizeof(c->project), "%s", e->d_name);
		}
	return n;
}

/* No file: the one project of the user that runs; for reading, the only one that ever ran. */
static int only_one(struct cli *c, const struct cli_verb *v)
{
	_cleanup_text_ struct text names = { 0 };
	unsigned n = list_projects(c, false, answers, &names);

	if (n > 1)
		return cli_fail(CLI_USAGE, "Choose one with -p NAME", "there is no supervise.yaml here, and several projects run: %s",
		    names.data);
	if (!n && (v->flags & CLI_READS)) {
		n = list_projects(c, true, has_history, &names);
		if (n > 1)
			return cli_fail(CLI_USAGE, "Choose one with -p NAME",
			    "there is no supervise.yaml here, nothing runs, and these projects have a history: %s", names.data);
	}
	if (n)
		return 0;
	return cli_fail(CLI_NO_INPUT, "Write one with: supervise init    Or name one: supervise -c FILE, supervise -p PROJECT",
	    "there is no supervise.yaml here or above, and no supervisor of yours runs");
}

/* The project's name stands in the file; reading it must not fail on other mistakes. */
static int name_of_file(struct cli *c, bool needed)
{
	_cleanup_(freep) char *name = NULL;
	int r = config_peek_name(c->file, &name);

	if (r < 0 && !needed)
		return CLI_NO_INPUT; /* the verb says it better */
	if (r < 0)
		return cli_fail(r == -ENOENT ? CLI_NO_INPUT : CLI_CONFIG, "supervise check says more", "cannot read %s: %s", c->file,
		    strerror(-r));
	snprintf(c->project, sizeof(c->project), "%s", name);
	return 0;
}

int cli_find_project(struct cli *c, const struct cli_verb *v)
{
	bool needed = v->flags & CLI_PROJECT;
	struct error err;
	int r = 0;

	c->file = find_file(c);
	if (c->o.project) {
		_cleanup_(freep) char *name = NULL;

		snprintf(c->project, sizeof(c->project), "%s", c->o.project);
		if (c->file && (config_peek_name(c->file, &name) < 0 || strcmp(name, c->project))) {
			if (c->o.config)
				return cli_fail(CLI_USAGE, "Leave out one of -c and -p", "%s is the file of project '%s', not of '%s'", c->file,
				    name ? name : "?", c->project);
			free(c->file); /* the one at hand is another project's */
			c->file = NULL;
		}
	} else if (c->file) {
		r = name_of_file(c, needed);
	} else if (needed) {
		r = only_one(c, v);
	} else {
		_cleanup_text_ struct text names = { 0 };

		if (list_projects(c, false, answers, &names) != 1)
			return 0;
	}
	if (r)
		return r;
	if ((v->flags & CLI_FILE) && !c->file)
		return cli_fail(CLI_NO_INPUT, "supervise -c FILE ...", "'%s' needs the configuration file of project '%s'", v->name,
		    c->project);
	if (paths_init(&c->paths, c->project, &err) < 0)
		return cli_fail(CLI_USAGE, NULL, "%s", err.text);
	c->have_paths = true;
	if (c->o.verbose) {
		cli_note(c, "project: %s (%s)", c->project, c->file ? c->file : "no file");
		cli_note(c, "runtime: %s", c->paths.runtime);
		cli_note(c, "state: %s", c->paths.state);
	}
	return 0;
}

/* The part of config.json in front of the daemons, which are the bulk of it. Return: NULL when there is none */
static cJSON *read_head_of_config(const struct cli *c)
{
	/* within a string the quotes have backslashes, so this is a member's name */
	static const char daemons[] = ",\"daemons\":";
	_cleanup_(freep) char *text = NULL;
	cJSON *j = NULL;
	char path[PATH_MAX], *cut;

	if (file_read(AT_FDCWD, path_format(path, sizeof(path), c->paths.runtime, "config.json"), 64 << 20, &text, NULL) < 0)
		return NULL;
	cut = strstr(text, daemons);
	if (cut)
		strcpy(cut, "}");
	return json_parse(text, strlen(text), &j, NULL) == 0 ? j : NULL;
}

bool cli_config_changed(const struct cli *c)
{
	_cleanup_json_ cJSON *j = read_head_of_config(c);
	const cJSON *list = json_get_array(j, "files"), *file;
	_cleanup_(freep) char **files = calloc((size_t)cJSON_GetArraySize(list) + 1, sizeof(*files));
	struct config running = { .files = files };
	char digest[17];
	size_t n = 0;

	cJSON_ArrayForEach(file, list) {
		if (files && cJSON_IsString(file))
			files[n++] = file->valuestring;
	}
	if (!n)
		return false; /* it was made without a file */
	return config_files_digest(&running, digest) < 0 || strcmp(digest, json_get_string(j, "digest", "")) != 0;
}
