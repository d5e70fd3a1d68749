/* SPDX-License-Identifier: Apache-2.0 */
/* Completion for bash, zsh and fish: each shell asks `supervise __complete`, which knows the verb table and the names. */
#include <fcntl.h>
#include <string.h>

#include "base/file.h"
#include "cli/cli.h"
#include "config/config.h"

static const char bash[] =
    "# bash completion for supervise\n"
    "_supervise() {\n"
    "  local IFS=$'\\n' word=${COMP_WORDS[COMP_CWORD]}\n"
    "  mapfile -t COMPREPLY < <(supervise __complete -- \"${COMP_WORDS[@]:1:COMP_CWORD}\" 2>/dev/null | cut -f1)\n"
    "  if [ \"${COMPREPLY[0]}\" = __files ]; then\n"
    "    mapfile -t COMPREPLY < <(compgen -f -- \"$word\")\n"
    "  fi\n"
    "}\n"
    "complete -o filenames -F _supervise supervise\n";

static const char zsh[] = "#compdef supervise\n"
			  "_supervise() {\n"
			  "  local -a lines\n"
			  "  lines=(\"${(@f)$(supervise __complete -- \"${(@)words[2,CURRENT]}\" 2>/dev/null)}\")\n"
			  "  if [[ $lines[1] == __files ]]; then\n"
			  "    _files\n"
			  "    return\n"
			  "  fi\n"
			  "  lines=(\"${(@)lines/:/\\\\:}\")\n"
			  "  lines=(\"${(@)lines/$'\\t'/:}\")\n"
			  "  _describe 'supervise' lines\n"
			  "}\n"
			  "if [ \"$funcstack[1]\" = \"_supervise\" ]; then\n"
			  "  _supervise \"$@\"\n"
			  "else\n"
			  "  compdef _supervise supervise\n"
			  "fi\n";

static const char fish[] =
    "# fish completion for supervise\n"
    "function __supervise_complete\n"
    "  set -l words (commandline -opc) (commandline -ct)\n"
    "  set -l lines (supervise __complete -- $words[2..-1] 2>/dev/null)\n"
    "  if test \"$lines[1]\" = __files\n"
    "    __fish_complete_path (commandline -ct)\n"
    "  else\n"
    "    printf '%s\\n' $lines\n"
    "  end\n"
    "end\n"
    "complete -c supervise -f -a '(__supervise_complete)'\n";

int verb_completion(struct cli *c)
{
	const char *shell = c->o.args[0];
	const char *script = !strcmp(shell, "bash") ? bash : !strcmp(shell, "zsh") ? zsh : !strcmp(shell, "fish") ? fish : NULL;

	if (!script)
		return cli_fail(CLI_USAGE, "There are: bash, zsh, fish", "no completion for '%s'", shell);
	fputs(script, stdout);
	return CLI_OK;
}

static void offer(const char *prefix, const char *word, const char *about)
{
	if (!strncmp(word, prefix, strlen(prefix)))
		printf(about ? "%s\t%s\n" : "%s\n", word, about);
}

static void offer_daemons(struct cli *c, const char *prefix)
{
	_cleanup_(freep) char *text = NULL;
	_cleanup_json_ cJSON *j = NULL;
	_cleanup_(config_freep) struct config *config = NULL;
	struct config_problems problems = { 0 };
	char path[PATH_MAX];

	if (c->have_paths &&
	    file_read(AT_FDCWD, path_format(path, sizeof(path), c->paths.runtime, "config.json"), 64 << 20, &text, NULL) == 0 &&
	    json_parse(text, strlen(text), &j, NULL) == 0)
		config_from_json(j, &config, NULL);
	if (!config && c->file)
		config_load(c->file, &config, &problems);
	for (size_t i = 0; config && i < config->n_daemons; i++)
		offer(prefix, config->daemons[i].name, config->daemons[i].description);
	config_problems_free(&problems);
	offer(prefix, "all", "every daemon");
}

static void offer_crashes(struct cli *c, const char *prefix)
{
	char folder[PATH_MAX];
	_cleanup_(closedirp) DIR *d = c->have_paths ? opendir(path_format(folder, sizeof(folder), c->paths.state, "crash")) : NULL;
	struct dirent *e;

	while (d && (e = readdir(d))) {
		char id[9];
		size_t n = strlen(e->d_name);

		if (n < 14 || strcmp(e->d_name + n - 5, ".json"))
			continue;
		memcpy(id, e->d_name + n - 13, 8);
		id[8] = '\0';
		offer(prefix, id, e->d_name);
	}
}

/* Arguments: the words so far, the last one is to be completed. */
int verb_complete(struct cli *c)
{
	const char *last = c->o.n_args ? c->o.args[c->o.n_args - 1] : "";
	const struct cli_verb *v = NULL;
	int at = 0;

	while (at < c->o.n_args - 1 && c->o.args[at][0] == '-')
		at += !strcmp(c->o.args[at], "-c") || !strcmp(c->o.args[at], "-p") ? 2 : 1;
	if (at < c->o.n_args - 1)
		v = cli_find_verb(c->o.args[at]);
	if (*last == '-') {
		for (const struct cli_option *o = cli_options; o->name; o++) {
			const char *lists[2] = { cli_global_options, v ? v->options : "" };
			char word[64];
			size_t n = strlen(o->name);

			snprintf(word, sizeof(word), "--%s", o->name);
			for (int i = 0; i < 2; i++) {
				const char *p = strstr(lists[i], o->name);

				while (p && !((p == lists[i] || p[-1] == ' ') && (p[n] == ' ' || !p[n])))
					p = strstr(p + 1, o->name);
				if (p) {
					offer(last, word, o->help);
					break;
				}
			}
		}
		return CLI_OK;
	}
	if (!v) {
		for (v = cli_verbs; v->name; v++)
			if (v->summary)
				offer(last, v->name, v->summary);
		return CLI_OK;
	}
	if (!v->completes)
		return CLI_OK;
	if (!strcmp(v->completes, "daemons")) {
		offer_daemons(c, last);
	} else if (!strcmp(v->completes, "files")) {
		puts("__files");
	} else if (!strcmp(v->completes, "verbs")) {
		for (const struct cli_verb *x = cli_verbs; x->name; x++)
			if (x->summary)
				offer(last, x->name, x->summary);
	} else if (!strcmp(v->completes, "crashes")) {
		if (c->o.n_args - at == 2) {
			offer(last, "show", "read a report");
			offer(last, "rm", "remove a report");
		} else {
			offer_crashes(c, last);
		}
	} else if (!strncmp(v->completes, "words ", 6)) {
		for (const char *p = v->completes + 6; *p;) {
			char word[32];
			size_t n = strcspn(p, " ");

			snprintf(word, sizeof(word), "%.*s", (int)n, p);
			offer(last, word, NULL);
			p += n;
			p += *p == ' ';
		}
	}
	return CLI_OK;
}
