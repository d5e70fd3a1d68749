/* SPDX-License-Identifier: Apache-2.0 */
/* supervise: finds the verb, its options, the configuration file and the project, and runs it. */
#include <errno.h>
#include <locale.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

#include "cli/cli.h"

int main(int argc, char **argv)
{
	const struct cli_verb *v = NULL;
	struct cli c = { 0 };
	int r;

	setlocale(LC_ALL, "");
	setlocale(LC_NUMERIC, "C");
	signal(SIGPIPE, SIG_DFL); /* a reader that leaves ends us quietly */
	r = cli_parse(&c.o, argc, argv, &v);
	if (r)
		return r;
	cli_look_at_terminal(&c);
	if (c.o.version) {
		r = verb_version(&c);
	} else if (c.o.help) {
		cli_page(&c);
		cli_print_help(stdout, v);
	} else if (!v) {
		cli_print_help(stderr, NULL);
		return CLI_USAGE;
	} else {
		c.verb = v->name;
		if (v->flags & (CLI_PROJECT | CLI_MAYBE_PROJECT)) {
			r = cli_find_project(&c, v);
			if (r && (v->flags & CLI_PROJECT))
				return r;
		}
		r = v->run(&c);
	}
	free(c.file);
	if (fflush(stdout) == EOF || ferror(stdout))
		return cli_fail(CLI_IO, NULL, "cannot write: %s", strerror(errno));
	return r;
}
