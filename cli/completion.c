/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Completion for bash, zsh and fish. Verbs, options and fixed words are written into the scripts from the tables in
 * verbs.c; names of daemons and ids of crashes are asked for by `supervise __complete KIND`, which reads files alone.
 */
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "cli/cli.h"
#include "config/config.h"

static bool is_shown(const struct cli_verb *v)
{
	return !(v->flags & CLI_HIDDEN);
}

/* For a shell's single quotes. */
static void put_quoted(const char *s)
{
	putchar('\'');
	for (; *s; s++)
		if (*s == '\'')
			fputs("'\\''", stdout);
		else
			putchar(*s);
	putchar('\'');
}

static const char *verb_words(const struct cli_verb *v)
{
	return v->completes && !strncmp(v->completes, "words ", 6) ? v->completes + 6 : NULL;
}

/* What stands after an option: a kind of __complete, "files", or NULL. */
static const char *option_completes(const struct cli_option *x)
{
	return !strcmp(x->name, "config") ? "files" :
	    !strcmp(x->name, "daemon")    ? "daemons" :
	    !strcmp(x->name, "project")   ? "projects" :
	    !strcmp(x->name, "level")     ? "levels" :
						NULL;
}

/* --- bash --------------------------------------------------------------------------------------------------------- */

static void put_bash_options(const struct cli_verb *v)
{
	for (const struct cli_option *x = cli_options; x->name; x++)
		if (v ? !cli_is_global(x) && cli_takes(v, x) : cli_is_global(x))
			printf(" --%s", x->name);
}

static void print_bash(void)
{
	puts("# bash completion for supervise; made by: supervise completion bash\n"
	     "_supervise() {\n"
	     "  local cur=${COMP_WORDS[COMP_CWORD]} prev= verb= word i skip= kind= words= opts= n=0 given=()\n"
	     "  ((COMP_CWORD)) && prev=${COMP_WORDS[COMP_CWORD-1]}\n"
	     "  COMPREPLY=()\n"
	     "  for ((i = 1; i < COMP_CWORD; i++)); do\n"
	     "    word=${COMP_WORDS[i]}\n"
	     "    if [[ $skip ]]; then skip=; continue; fi\n"
	     "    case $word in");
	printf("      ");
	for (const struct cli_option *x = cli_options, *first = x; x->name; x++) {
		if (x->kind == OPTION_FLAG)
			continue;
		printf("%s--%s", x == first ? "" : "|", x->name);
		if (x->letter)
			printf("|-%c", x->letter);
	}
	puts(")\n"
	     "        skip=1\n"
	     "        case $word in --config|-c|--project|-p) given+=(\"$word\" \"${COMP_WORDS[i+1]}\");; esac;;\n"
	     "      -*) ;;\n"
	     "      *) if [[ ! $verb ]]; then verb=$word; else ((n++)); fi;;\n"
	     "    esac\n"
	     "  done\n"
	     "  case $prev in");
	for (const struct cli_option *x = cli_options; x->name; x++) {
		if (x->kind == OPTION_FLAG)
			continue;
		printf("    --%s", x->name);
		if (x->letter)
			printf("|-%c", x->letter);
		if (x->words)
			printf(") COMPREPLY=($(compgen -W \"%s\" -- \"$cur\")); return;;\n", x->words);
		else if (option_completes(x))
			printf(") kind=%s;;\n", option_completes(x));
		else
			puts(") return;;");
	}
	puts("  esac\n"
	     "  case $verb in");
	for (const struct cli_verb *v = cli_verbs; v->name; v++) {
		if (!is_shown(v))
			continue;
		printf("    %s", v->name);
		for (const char *p = v->aliases; p && *p; p += strspn(p, " ")) {
			size_t n = strcspn(p, " ");

			printf("|%.*s", (int)n, p);
			p += n;
		}
		printf(") opts='");
		put_bash_options(v);
		printf("'");
		if (verb_words(v))
			printf(" words='%s'", verb_words(v));
		else if (v->completes)
			printf(" kind=${kind:-%s}", v->completes);
		puts(";;");
	}
	printf("    *) words='");
	for (const struct cli_verb *v = cli_verbs; v->name; v++)
		if (is_shown(v))
			printf("%s ", v->name);
	puts("';;\n"
	     "  esac\n"
	     "  if [[ $cur == -* ]]; then");
	printf("    COMPREPLY=($(compgen -W \"$opts");
	put_bash_options(NULL);
	puts("\" -- \"$cur\"))\n"
	     "    return\n"
	     "  fi\n"
	     "  if [[ ${prev:0:1} == - && $kind == files ]]; then words=; fi\n"
	     "  case $kind in\n"
	     "    '') COMPREPLY=($(compgen -W \"$words\" -- \"$cur\"));;\n"
	     "    files) compopt -o filenames; mapfile -t COMPREPLY < <(compgen -f -- \"$cur\");;\n"
	     "    commands)\n"
	     "      if ((n)); then compopt -o filenames; mapfile -t COMPREPLY < <(compgen -f -- \"$cur\")\n"
	     "      else mapfile -t COMPREPLY < <(compgen -c -- \"$cur\"); fi;;\n"
	     "    crashes) ((n)) || { COMPREPLY=($(compgen -W 'show rm' -- \"$cur\")); return; };;&\n"
	     "    signals) ((n)) && kind=daemons;;&\n"
	     "    *) mapfile -t COMPREPLY < <(\"${COMP_WORDS[0]}\" \"${given[@]}\" __complete \"$kind\" -- \"$cur\" 2>/dev/null | cut -f1);;\n"
	     "  esac\n"
	     "}\n"
	     "complete -F _supervise supervise");
}

/* --- zsh ---------------------------------------------------------------------------------------------------------- */

static void put_zsh_text(const char *s) /* within '...[...]' */
{
	for (; *s; s++) {
		if (*s == '\'')
			fputs("'\\''", stdout);
		else if (*s == '[' || *s == ']' || *s == ':' || *s == '\\')
			printf("\\%c", *s);
		else
			putchar(*s);
	}
}

static void put_zsh_option(const struct cli_option *x)
{
	const char *many = x->kind == OPTION_DAEMON ? "*" : "";

	for (int i = 0; i < (x->letter ? 2 : 1); i++) {
		printf("    '%s", many);
		if (i)
			printf("-%c%s[", x->letter, x->argument ? "+" : "");
		else
			printf("--%s%s[", x->name, x->argument ? "=" : "");
		put_zsh_text(x->help);
		putchar(']');
		if (x->argument) {
			printf(":%s:", x->argument);
			if (x->words)
				printf("(%s)", x->words);
			else if (option_completes(x) && !strcmp(option_completes(x), "files"))
				printf("_files");
			else if (option_completes(x))
				printf("{_supervise_ask %s}", option_completes(x));
			else
				putchar(' ');
		}
		puts("'");
	}
}

static void print_zsh(void)
{
	puts("#compdef supervise\n"
	     "# made by: supervise completion zsh\n"
	     "_supervise_ask() {\n"
	     "  local -a lines given\n"
	     "  (( ${+opt_args[-c]} )) && given+=(-c ${(Q)opt_args[-c]})\n"
	     "  (( ${+opt_args[--config]} )) && given+=(-c ${(Q)opt_args[--config]})\n"
	     "  (( ${+opt_args[-p]} )) && given+=(-p ${(Q)opt_args[-p]})\n"
	     "  lines=(\"${(@f)$(supervise $given __complete $1 -- 2>/dev/null)}\")\n"
	     "  lines=(\"${(@)lines//:/\\\\:}\")\n"
	     "  lines=(\"${(@)lines/$'\\t'/:}\")\n"
	     "  [[ -n $lines[1] ]] && _describe \"$1\" lines\n"
	     "}\n"
	     "_supervise_arguments() {\n"
	     "  case $1 in");
	for (const struct cli_verb *v = cli_verbs; v->name; v++) {
		const char *words = verb_words(v);

		if (!is_shown(v) || !v->completes)
			continue;
		printf("    %s) ", v->name);
		if (words)
			printf("compadd %s", words);
		else if (!strcmp(v->completes, "files"))
			printf("_files");
		else if (!strcmp(v->completes, "commands"))
			printf("_normal");
		else if (!strcmp(v->completes, "crashes"))
			printf("if (( $2 )); then _supervise_ask crashes; else compadd show rm; fi");
		else if (!strcmp(v->completes, "signals"))
			printf("if (( $2 )); then _supervise_ask daemons; else _supervise_ask signals; fi");
		else
			printf("_supervise_ask %s", v->completes);
		puts(";;");
	}
	puts("  esac\n"
	     "}\n"
	     "_supervise() {\n"
	     "  local -a verbs globals options\n"
	     "  local verb word i=2 n=0\n"
	     "  verbs=(");
	for (const struct cli_verb *v = cli_verbs; v->name; v++) {
		char text[256];

		if (!is_shown(v))
			continue;
		snprintf(text, sizeof(text), "%s:%s", v->name, v->summary);
		printf("    ");
		put_quoted(text);
		putchar('\n');
	}
	puts("  )\n"
	     "  globals=(");
	for (const struct cli_option *x = cli_options; x->name; x++)
		if (cli_is_global(x))
			put_zsh_option(x);
	puts("  )\n"
	     "  while (( i < CURRENT )); do\n"
	     "    word=$words[i]\n"
	     "    case $word in");
	printf("      ");
	for (const struct cli_option *x = cli_options, *first = x; x->name; x++) {
		if (x->kind == OPTION_FLAG)
			continue;
		printf("%s--%s", x == first ? "" : "|", x->name);
		if (x->letter)
			printf("|-%c", x->letter);
	}
	puts(") (( i++ ));;\n"
	     "      -*) ;;\n"
	     "      *) if [[ -z $verb ]]; then verb=$word; else (( n++ )); fi;;\n"
	     "    esac\n"
	     "    (( i++ ))\n"
	     "  done\n"
	     "  case $verb in");
	for (const struct cli_verb *v = cli_verbs; v->name; v++) {
		if (!is_shown(v))
			continue;
		printf("    %s", v->name);
		for (const char *p = v->aliases; p && *p; p += strspn(p, " ")) {
			size_t n = strcspn(p, " ");

			printf("|%.*s", (int)n, p);
			p += n;
		}
		printf(") verb=%s options=(\n", v->name);
		for (const struct cli_option *x = cli_options; x->name; x++)
			if (!cli_is_global(x) && cli_takes(v, x))
				put_zsh_option(x);
		puts("    );;");
	}
	puts("  esac\n"
	     "  if [[ -z $verb ]]; then\n"
	     "    _arguments -S $globals \"1:verb:{_describe verb verbs}\" '*: : '\n"
	     "  else\n"
	     "    _arguments -S $globals $options \"1: : \" \"*:argument:{_supervise_arguments $verb $n}\"\n"
	     "  fi\n"
	     "}\n"
	     "if [ \"$funcstack[1]\" = \"_supervise\" ]; then\n"
	     "  _supervise \"$@\"\n"
	     "else\n"
	     "  compdef _supervise supervise\n"
	     "fi");
}

/* --- fish --------------------------------------------------------------------------------------------------------- */

static void put_fish_option(const struct cli_option *x, const char *condition)
{
	printf("complete -c supervise%s -l %s", condition, x->name);
	if (x->letter)
		printf(" -s %c", x->letter);
	if (x->argument) {
		printf(" -x");
		if (x->words)
			printf(" -a '%s'", x->words);
		else if (option_completes(x) && !strcmp(option_completes(x), "files"))
			printf(" -a '(__fish_complete_path (commandline -ct))'");
		else if (option_completes(x))
			printf(" -a '(__supervise_ask %s)'", option_completes(x));
	}
	printf(" -d ");
	put_quoted(x->help);
	putchar('\n');
}

static void print_fish(void)
{
	puts("# fish completion for supervise; made by: supervise completion fish\n"
	     "function __supervise_ask\n"
	     "  set -l words (commandline -opc)\n"
	     "  set -l given\n"
	     "  for i in (seq 2 (count $words))\n"
	     "    if contains -- $words[$i] -c -p --config --project; and test (math $i + 1) -le (count $words)\n"
	     "      set given $given $words[$i] $words[(math $i + 1)]\n"
	     "    end\n"
	     "  end\n"
	     "  supervise $given __complete $argv[1] -- 2>/dev/null\n"
	     "end\n"
	     "complete -c supervise -f");
	for (const struct cli_option *x = cli_options; x->name; x++)
		if (cli_is_global(x))
			put_fish_option(x, "");
	for (const struct cli_verb *v = cli_verbs; v->name; v++) {
		char condition[256];

		if (!is_shown(v))
			continue;
		printf("complete -c supervise -n __fish_use_subcommand -a %s -d ", v->name);
		put_quoted(v->summary);
		putchar('\n');
		snprintf(condition, sizeof(condition), " -n '__fish_seen_subcommand_from %s%s%s'", v->name, v->aliases ? " " : "",
		    v->aliases ? v->aliases : "");
		for (const struct cli_option *x = cli_options; x->name; x++)
			if (!cli_is_global(x) && cli_takes(v, x))
				put_fish_option(x, condition);
		if (!v->completes)
			continue;
		printf("complete -c supervise%s", condition);
		if (verb_words(v))
			printf(" -a '%s'\n", verb_words(v));
		else if (!strcmp(v->completes, "files"))
			puts(" -F");
		else if (!strcmp(v->completes, "commands"))
			puts(" -a '(__fish_complete_subcommand --fcs-skip=2)'");
		else if (!strcmp(v->completes, "crashes"))
			puts(" -a 'show rm (__supervise_ask crashes)'");
		else if (!strcmp(v->completes, "signals"))
			puts(" -a '(__supervise_ask signals; __supervise_ask daemons)'");
		else
			printf(" -a '(__supervise_ask %s)'\n", v->completes);
	}
}

int verb_completion(struct cli *c)
{
	const char *shell = c->o.args[0];

	if (!strcmp(shell, "bash"))
		print_bash();
	else if (!strcmp(shell, "zsh"))
		print_zsh();
	else if (!strcmp(shell, "fish"))
		print_fish();
	else
		return cli_fail(CLI_USAGE, "There are: bash, zsh, fish", "no completion for '%s'", shell);
	return CLI_OK;
}

/* --- names -------------------------------------------------------------------------------------------------------- */

static void offer(const char *prefix, const char *word, const char *about)
{
	_cleanup_text_ struct text t = { 0 };

	if (strncmp(word, prefix, strlen(prefix)))
		return;
	text_add_printable(&t, about ? about : "", about ? strcspn(about, "\n\t") : 0);
	printf(t.size ? "%s\t%s\n" : "%s\n", word, t.data);
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
	for (size_t i = 0; config && i < config->n_daemons; i++) {
		const struct daemon_config *d = &config->daemons[i];

		if (d->instance == 0)
			offer(prefix, d->base, "all instances");
		offer(prefix, d->name, d->description);
	}
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

static void offer_projects(const char *prefix)
{
	struct paths p;
	struct error err;
	_cleanup_(closedirp) DIR *d = NULL;
	struct dirent *e;

	if (paths_init(&p, "x", &err) < 0)
		return;
	*strrchr(p.runtime, '/') = '\0';
	d = opendir(p.runtime);
	while (d && (e = readdir(d)))
		if (e->d_name[0] != '.')
			offer(prefix, e->d_name, NULL);
}

/* Arguments: a kind of words, and the beginning of the one that is asked for. */
int verb_complete(struct cli *c)
{
	static const char *const levels[] = { "DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL" };
	const char *kind = c->o.n_args ? c->o.args[0] : "", *prefix = c->o.n_args > 1 ? c->o.args[1] : "";

	if (!strcmp(kind, "daemons")) {
		offer_daemons(c, prefix);
	} else if (!strcmp(kind, "crashes")) {
		offer_crashes(c, prefix);
		offer_daemons(c, prefix);
	} else if (!strcmp(kind, "projects")) {
		offer_projects(prefix);
	} else if (!strcmp(kind, "levels")) {
		for (size_t i = 0; i < ARRAY_SIZE(levels); i++)
			offer(prefix, levels[i], NULL);
	} else if (!strcmp(kind, "signals")) {
		for (int sig = 1; sig < 32; sig++) {
			char buf[24];
			const char *name = signal_to_name(sig, buf);

			if (!strncmp(name, "SIG", 3))
				offer(prefix, name + 3, NULL);
		}
	} else if (!strcmp(kind, "verbs")) {
		for (const struct cli_verb *v = cli_verbs; v->name; v++)
			if (is_shown(v))
				offer(prefix, v->name, v->summary);
	}
	return CLI_OK;
}
