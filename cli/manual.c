/* SPDX-License-Identifier: Apache-2.0 */
/* Help on the screen and sections of the manual, both from the tables in verbs.c. */
#include <string.h>

#include "cli/cli.h"
#include "config/config.h"

static void print_options(FILE *out, const struct cli_verb *v)
{
	for (const struct cli_option *x = cli_options; x->name; x++) {
		char head[64], letter[8] = "    ";

		if (v ? cli_is_global(x) || !cli_takes(v, x) : !cli_is_global(x))
			continue;
		if (x->letter)
			snprintf(letter, sizeof(letter), "-%c, ", x->letter);
		snprintf(head, sizeof(head), "%s--%s%s%s", letter, x->name, x->argument ? " " : "", x->argument ? x->argument : "");
		fprintf(out, "  %-24s %s\n", head, x->help);
	}
}

/* Filled to 80 columns. */
static void print_filled(FILE *out, const char *text)
{
	size_t column = 0;

	while (*text) {
		size_t n = strcspn(text, " ");

		if (column && column + 1 + n > 80) {
			fputc('\n', out);
			column = 0;
		}
		fprintf(out, "%s%.*s", column ? " " : "", (int)n, text);
		column += n + (column != 0);
		text += n;
		text += strspn(text, " ");
	}
	fputc('\n', out);
}

void cli_print_help(FILE *out, const struct cli_verb *v)
{
	if (v) {
		fprintf(out, "usage: supervise %s%s%s%s\n\n", v->name, v->options[0] ? " [OPTION...]" : "", v->arguments[0] ? " " : "",
		    v->arguments);
		fprintf(out, "%c%s.\n", v->summary[0] & ~32, v->summary + 1);
		if (v->help)
			print_filled(out, v->help);
		if (v->aliases)
			fprintf(out, "Also called: %s\n", v->aliases);
		if (v->options[0]) {
			fprintf(out, "\nOptions:\n");
			print_options(out, v);
		}
		fprintf(out, "\nGlobal options:\n");
		print_options(out, NULL);
		return;
	}
	fprintf(out, "usage: supervise [OPTION...] VERB [ARGUMENT...]\n\n"
		     "Runs daemons and jobs without root, keeps what they said, and says why they died.\n\n");
	for (v = cli_verbs; v->name; v++)
		if (!(v->flags & CLI_HIDDEN))
			fprintf(out, "  %-12s %s\n", v->name, v->summary);
	fprintf(out, "\nBegin with:  supervise run -- COMMAND    or    supervise init\n"
		     "More:        supervise help VERB, man supervise\n");
}

int verb_help(struct cli *c)
{
	const struct cli_verb *v = NULL;

	if (c->o.n_args) {
		v = cli_find_verb(c->o.args[0]);
		if (!v)
			return cli_fail(CLI_USAGE, "See: supervise help", "'%s' is no verb of supervise", c->o.args[0]);
	}
	cli_page(c);
	cli_print_help(stdout, v);
	return CLI_OK;
}

/* --- scdoc -------------------------------------------------------------------------------------------------------- */

/* Characters that scdoc(5) would take for markup. */
static void put(const char *s)
{
	for (; *s; s++) {
		if (strchr("*_\\#<>`~[]", *s))
			putchar('\\');
		putchar(*s);
	}
}

static void put_option(const struct cli_option *x)
{
	if (x->letter)
		printf("*-%c*, ", x->letter);
	printf("*--%s*", x->name);
	if (x->argument) {
		printf(" _");
		put(x->argument);
		putchar('_');
	}
	printf("\n\t");
	/* scdoc begins a list or a table at some characters */
	printf("%c", x->help[0] & ~32);
	put(x->help + 1);
	printf(".\n\n");
}

static void put_verbs(void)
{
	for (const struct cli_verb *v = cli_verbs; v->name; v++) {
		bool first = true;

		if (v->flags & CLI_HIDDEN)
			continue;
		printf("*%s*", v->name);
		if (v->arguments[0]) {
			putchar(' ');
			put(v->arguments);
		}
		printf("\n\t");
		putchar(v->summary[0] & ~32);
		put(v->summary + 1);
		putchar('.');
		if (v->help) {
			putchar(' ');
			put(v->help);
		}
		for (const struct cli_option *x = cli_options; x->name; x++)
			if (!cli_is_global(x) && cli_takes(v, x)) {
				printf("%s*--%s*", first ? " Options: " : ", ", x->name);
				first = false;
			}
		if (!first)
			putchar('.');
		if (v->aliases) {
			printf(" Also called ");
			for (const char *p = v->aliases; *p;) {
				size_t n = strcspn(p, " ");

				printf("%s*%.*s*", p > v->aliases ? ", " : "", (int)n, p);
				p += n;
				p += strspn(p, " ");
			}
			putchar('.');
		}
		printf("\n\n");
	}
}

/* Argument: "verbs", "options", "global-options", or "keys" of the configuration file. */
int verb_manual(struct cli *c)
{
	const char *what = c->o.n_args ? c->o.args[0] : "verbs";

	if (!strcmp(what, "verbs")) {
		put_verbs();
		return CLI_OK;
	}
	if (!strcmp(what, "keys")) {
		_cleanup_(freep) char *keys = config_schema_scdoc();

		if (!keys)
			return cli_fail(CLI_TRY_AGAIN, NULL, "out of memory");
		fputs(keys, stdout);
		return CLI_OK;
	}
	for (const struct cli_option *x = cli_options; x->name; x++)
		if (cli_is_global(x) == !strcmp(what, "global-options"))
			put_option(x);
	return CLI_OK;
}
