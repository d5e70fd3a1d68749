/* SPDX-License-Identifier: Apache-2.0 */
/* supervise: finds the verb, its options, the configuration file and the project, and runs it. */
#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <langinfo.h>
#include <locale.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "cli/cli.h"
#include "config/config.h"
#include "supervisor/client.h"

enum { OPTIONS_MAX = 64 };

static const char *colour_when = "auto";

int cli_fail(int code, const char *hint, const char *fmt, ...)
{
	char text[2048];
	_cleanup_text_ struct text t = { 0 };
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	fflush(stdout);
	text_add_printable(&t, text, strlen(text));
	fprintf(stderr, "supervise: %s\n", t.data ? t.data : "");
	if (hint)
		fprintf(stderr, "  %s\n", hint);
	return code;
}

void cli_note(const struct cli *c, const char *fmt, ...)
{
	va_list ap;

	if (c->o.quiet)
		return;
	va_start(ap, fmt);
	vfprintf(stderr, fmt, ap);
	va_end(ap);
	fputc('\n', stderr);
}

const char *cli_sgr(const struct cli *c, const char *code)
{
	static char buf[8][16];
	static unsigned i;

	if (!c->colour)
		return "";
	i = (i + 1) % 8;
	snprintf(buf[i], sizeof(buf[i]), "\033[%sm", code);
	return buf[i];
}

void cli_print_json(const cJSON *j)
{
	_cleanup_(freep) char *text = json_print(j);

	if (text)
		puts(text);
}

void cli_page(struct cli *c)
{
	const char *pager = getenv("SUPERVISE_PAGER");
	int fds[2];
	pid_t pid;

	if (c->o.no_pager || c->o.follow || c->o.json || !isatty(STDOUT_FILENO))
		return;
	if (!pager)
		pager = getenv("PAGER");
	if (!pager)
		pager = "less -FRX";
	if (!*pager || !strcmp(pager, "cat") || pipe2(fds, O_CLOEXEC) < 0)
		return;
	pid = fork();
	if (pid < 0) {
		close(fds[0]);
		close(fds[1]);
		return;
	}
	if (pid) { /* this process becomes the pager, so the shell waits for it; the child goes on */
		dup2(fds[0], STDIN_FILENO);
		close(fds[1]);
		execl("/bin/sh", "sh", "-c", pager, (char *)NULL);
		_exit(127);
	}
	dup2(fds[1], STDOUT_FILENO);
	close(fds[0]);
	close(fds[1]);
}

/* --- options ------------------------------------------------------------------------------------------------------ */

static bool listed(const char *list, const char *name)
{
	size_t n = strlen(name);

	for (const char *p = list; (p = strstr(p, name)); p += n)
		if ((p == list || p[-1] == ' ') && (p[n] == ' ' || !p[n]))
			return true;
	return false;
}

static int take_number(const char *name, const char *text, uint64_t *ret)
{
	if (parse_u64(text, ret) < 0)
		return cli_fail(CLI_USAGE, NULL, "--%s takes a whole number, not '%s'", name, text);
	return 0;
}

static int take(struct cli *c, const struct cli_option *x, const char *value)
{
	static const struct {
		const char *name;
		size_t offset;
	} flags[] = {
#define FLAG(n, m) { n, offsetof(struct cli_options, m) }
		FLAG("json", json), FLAG("no-headings", no_headings), FLAG("no-pager", no_pager), FLAG("utc", utc),
		FLAG("quiet", quiet), FLAG("verbose", verbose), FLAG("yes", yes), FLAG("wait", wait), FLAG("dry-run", dry_run),
		FLAG("follow", follow), FLAG("reverse", reverse), FLAG("invert", invert), FLAG("traceback", traceback),
		FLAG("raw", raw), FLAG("threads", threads), FLAG("full", full), FLAG("exit-code", exit_code),
		FLAG("force", force), FLAG("tree", tree),
	}, texts[] = {
		FLAG("config", config), FLAG("project", project), FLAG("since", since), FLAG("until", until), FLAG("level", level),
		FLAG("search", search), FLAG("grep", grep), FLAG("experiment", experiment), FLAG("node", node),
		FLAG("stage", stage), FLAG("stream", stream),
	};
	struct cli_options *o = &c->o;
	uint64_t n = 0;
	int r = 0;

	for (size_t i = 0; i < ARRAY_SIZE(flags); i++)
		if (!strcmp(flags[i].name, x->name))
			*(bool *)((char *)o + flags[i].offset) = true;
	for (size_t i = 0; i < ARRAY_SIZE(texts); i++)
		if (!strcmp(texts[i].name, x->name))
			*(const char **)((char *)o + texts[i].offset) = value;
	if (!strcmp(x->name, "color")) {
		if (strcmp(value, "auto") && strcmp(value, "always") && strcmp(value, "never"))
			return cli_fail(CLI_USAGE, NULL, "--color is auto, always or never");
		colour_when = value;
	} else if (!strcmp(x->name, "timeout")) {
		if (parse_duration_ms(value, &o->timeout_ms) < 0)
			return cli_fail(CLI_USAGE, "Write 10s, 250ms, 1h30m", "--timeout: '%s' is no duration", value);
	} else if (!strcmp(x->name, "lines") || !strcmp(x->name, "limit")) {
		r = take_number(x->name, value, &n);
		o->limit = n ? n : UINT64_MAX;
	} else if (!strcmp(x->name, "pid")) {
		r = take_number(x->name, value, &n);
		o->pid = (int64_t)n;
	} else if (!strcmp(x->name, "before") || !strcmp(x->name, "after") || !strcmp(x->name, "context")) {
		r = take_number(x->name, value, &n);
		if (x->name[0] != 'a')
			o->before = (unsigned)n;
		if (x->name[0] != 'b')
			o->after = (unsigned)n;
	} else if (!strcmp(x->name, "daemon")) {
		if (o->n_daemons >= ARRAY_SIZE(o->daemons))
			return cli_fail(CLI_USAGE, NULL, "too many --daemon");
		o->daemons[o->n_daemons++] = value;
	}
	return r;
}

/* Return: -1 to go on, or an exit code */
static int parse(struct cli *c, const struct cli_verb *v, int argc, char **argv)
{
	struct option longs[OPTIONS_MAX] = { { 0 } };
	char shorts[2 * OPTIONS_MAX + 4] = "";
	size_t n = 0, s = 0;
	bool stop_early = v && !strcmp(v->name, "run"); /* what follows belongs to the command */
	int k;

	shorts[s++] = stop_early ? '+' : '-';
	if (!stop_early)
		s = 0;
	shorts[s++] = ':';
	for (const struct cli_option *x = cli_options; x->name; x++) {
		if (!listed(cli_global_options, x->name) && !(v && listed(v->options, x->name)))
			continue;
		longs[n++] = (struct option){ x->name, x->argument ? required_argument : no_argument, NULL,
			(int)(1000 + (x - cli_options)) };
		if (x->letter) {
			shorts[s++] = x->letter;
			if (x->argument)
				shorts[s++] = ':';
		}
	}
	shorts[s] = '\0';
	opterr = 0;
	optind = 1;
	while ((k = getopt_long(argc, argv, shorts, longs, NULL)) != -1) {
		const struct cli_option *x = NULL;
		int r;

		/* "crash show -1": the latest */
		if (k == '?' && v && !strcmp(v->name, "crash") && isdigit(optopt))
			continue;
		if (k == ':')
			return cli_fail(CLI_USAGE, NULL, "option '%s' needs a value", argv[optind - 1]);
		if (k == '?') {
			const char *names[OPTIONS_MAX], *near;
			const char *word = argv[optind - 1];
			char hint[96];

			for (size_t i = 0; i < n; i++)
				names[i] = longs[i].name;
			while (*word == '-')
				word++;
			near = optopt ? NULL : text_nearest(word, names, n);
			snprintf(hint, sizeof(hint), near ? "Did you mean '--%s'?" : "See: supervise help %s",
			    near ? near : v ? v->name : "");
			if (optopt && optopt < 256)
				return cli_fail(CLI_USAGE, hint, "unknown option '-%c'", optopt);
			return cli_fail(CLI_USAGE, hint, "unknown option '%s'", argv[optind - 1]);
		}
		for (const struct cli_option *y = cli_options; y->name; y++)
			if (k == 1000 + (y - cli_options) || (y->letter && k == y->letter && (listed(cli_global_options, y->name) ||
									  (v && listed(v->options, y->name)))))
				x = y;
		if (!x)
			continue;
		if (!strcmp(x->name, "help")) {
			cli_print_help(stdout, v);
			return CLI_OK;
		}
		if (!strcmp(x->name, "version")) {
			puts("supervise " SUPERVISE_VERSION);
			return CLI_OK;
		}
		r = take(c, x, optarg);
		if (r)
			return r;
	}
	c->o.args = argv + optind;
	c->o.n_args = argc - optind;
	return -1;
}

/* --- the project -------------------------------------------------------------------------------------------------- */

/* -c, $SUPERVISE_CONFIG, ./supervise.yaml up to the top of a repository or the home folder, $XDG_CONFIG_HOME. */
static char *find_file(const struct cli *c)
{
	const char *env = getenv("SUPERVISE_CONFIG"), *xdg = getenv("XDG_CONFIG_HOME"), *home = getenv("HOME");
	char dir[PATH_MAX], path[PATH_MAX + 32];

	if (c->o.config)
		return strdup(c->o.config);
	if (env && *env)
		return strdup(env);
	if (!access("supervise.yaml", F_OK))
		return strdup("supervise.yaml");
	if (getcwd(dir, sizeof(dir)))
		for (;;) {
			char *slash;

			snprintf(path, sizeof(path), "%s/supervise.yaml", dir);
			if (!access(path, F_OK))
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

/* The runtime folder's parent, where all projects of the user are. */
static int parent_folder(char *ret, size_t size)
{
	struct paths p;
	struct error err;
	int r = paths_init(&p, "x", &err);

	if (r < 0)
		return r;
	*strrchr(p.runtime, '/') = '\0';
	snprintf(ret, size, "%s", p.runtime);
	return 0;
}

static bool answers(const char *project)
{
	_cleanup_(control_closep) struct control *control = NULL;
	struct paths p;
	struct error err;

	return paths_init(&p, project, &err) == 0 && control_connect(&control, &p, &err) == 0;
}

/* No file: the one project of the user that runs. */
static int only_running(struct cli *c)
{
	_cleanup_text_ struct text names = { 0 };
	char folder[PATH_MAX];
	struct dirent *e;
	unsigned n = 0;
	_cleanup_(closedirp) DIR *d = parent_folder(folder, sizeof(folder)) < 0 ? NULL : opendir(folder);

	while (d && (e = readdir(d)))
		if (e->d_name[0] != '.' && answers(e->d_name)) {
			text_addf(&names, "%s%s", n++ ? ", " : "", e->d_name);
			snprintf(c->project, sizeof(c->project), "%s", e->d_name);
		}
	if (n == 1)
		return 0;
	if (n > 1)
		return cli_fail(CLI_USAGE, "Choose one with -p NAME", "there is no supervise.yaml here, and several projects run: %s",
		    names.data);
	return cli_fail(CLI_NO_INPUT, "Write one with: supervise init    Or name one: supervise -c FILE, supervise -p PROJECT",
	    "there is no supervise.yaml here or above, and no supervisor of yours runs");
}

/* The project's name stands in the file; reading it must not fail on other mistakes. */
static int name_of_file(struct cli *c)
{
	_cleanup_(freep) char *name = NULL;
	int r = config_peek_name(c->file, &name);

	if (r < 0)
		return cli_fail(r == -ENOENT ? CLI_NO_INPUT : CLI_CONFIG, "supervise check says more", "cannot read %s: %s", c->file,
		    strerror(-r));
	snprintf(c->project, sizeof(c->project), "%s", name);
	return 0;
}

static int find_project(struct cli *c, const struct cli_verb *v)
{
	struct error err;
	int r = 0;

	c->file = find_file(c);
	if (c->o.project) {
		snprintf(c->project, sizeof(c->project), "%s", c->o.project);
		if (!c->o.config) { /* -p alone: the file at hand may be another project's */
			_cleanup_(freep) char *name = NULL;

			if (c->file && (config_peek_name(c->file, &name) < 0 || strcmp(name, c->project))) {
				free(c->file);
				c->file = NULL;
			}
		}
	} else if (c->file) {
		r = name_of_file(c);
	} else if (v->needs_project) {
		r = only_running(c);
	} else {
		return 0;
	}
	if (r)
		return v->needs_project ? r : 0;
	if (v->needs_file && !c->file)
		return cli_fail(CLI_NO_INPUT, "supervise -c FILE ...", "'%s' needs the configuration file", v->name);
	if (paths_init(&c->paths, c->project, &err) < 0)
		return cli_fail(CLI_OS, NULL, "%s", err.text);
	c->have_paths = true;
	return 0;
}

static void look_at_terminal(struct cli *c)
{
	const char *no = getenv("NO_COLOR"), *force = getenv("CLICOLOR_FORCE"), *term = getenv("TERM"),
		   *columns = getenv("COLUMNS");
	bool dumb = !term || !strcmp(term, "dumb"), tty = isatty(STDOUT_FILENO);
	struct winsize w;
	uint64_t n;

	c->colour = tty && !dumb;
	c->colour_err = isatty(STDERR_FILENO) && !dumb;
	if (force && *force && strcmp(force, "0"))
		c->colour = c->colour_err = true;
	if (no && *no)
		c->colour = c->colour_err = false;
	if (!strcmp(colour_when, "always"))
		c->colour = c->colour_err = true;
	if (!strcmp(colour_when, "never"))
		c->colour = c->colour_err = false;
	c->utf8 = !strcmp(nl_langinfo(CODESET), "UTF-8");
	if (columns && parse_u64(columns, &n) == 0 && n > 0 && n < 10000)
		c->width = (unsigned)n;
	else if (tty && ioctl(STDOUT_FILENO, TIOCGWINSZ, &w) == 0 && w.ws_col)
		c->width = w.ws_col;
}

int main(int argc, char **argv)
{
	const struct cli_verb *v = NULL;
	struct cli c = { 0 };
	int at = 1, r;

	setlocale(LC_ALL, "");
	setlocale(LC_NUMERIC, "C");
	signal(SIGPIPE, SIG_DFL); /* a reader that leaves ends us quietly */
	/* the verb is the first word; global options may stand before it */
	while (at < argc && argv[at][0] == '-' && argv[at][1]) {
		bool takes = !strcmp(argv[at], "-c") || !strcmp(argv[at], "-p") || !strcmp(argv[at], "--config") ||
		    !strcmp(argv[at], "--project") || !strcmp(argv[at], "--color");

		at += takes ? 2 : 1;
	}
	if (at < argc) {
		char *name = argv[at];

		v = cli_find_verb(name);
		if (!v) {
			const char *names[ARRAY_SIZE(c.o.daemons)], *near;
			size_t n = 0;
			char hint[96];

			for (const struct cli_verb *x = cli_verbs; x->name; x++)
				if (x->summary)
					names[n++] = x->name;
			near = text_nearest(name, names, n);
			snprintf(hint, sizeof(hint), near ? "Did you mean '%s'?" : "See: supervise help", near);
			return cli_fail(CLI_USAGE, hint, "'%s' is no verb of supervise", name);
		}
		memmove(argv + at, argv + at + 1, (size_t)(argc - at) * sizeof(*argv));
		argc--;
	}
	r = parse(&c, v, argc, argv);
	if (r >= 0)
		return r;
	if (!v) {
		cli_print_help(stderr, NULL);
		return CLI_USAGE;
	}
	if (c.o.n_args < v->min_args || (v->max_args >= 0 && c.o.n_args > v->max_args)) {
		char hint[64];

		snprintf(hint, sizeof(hint), "See: supervise help %s", v->name);
		return cli_fail(CLI_USAGE, hint, "usage: supervise %s %s", v->name, v->arguments);
	}
	look_at_terminal(&c);
	if (v->needs_project || !strcmp(v->name, "config") || !strcmp(v->name, "check") || !strcmp(v->name, "doctor") ||
	    !strcmp(v->name, "__complete")) {
		r = find_project(&c, v);
		if (r)
			return r;
	}
	r = v->run(&c);
	if (fflush(stdout) == EOF && errno != EPIPE)
		return cli_fail(CLI_IO, NULL, "cannot write: %s", strerror(errno));
	free(c.file);
	return r;
}
