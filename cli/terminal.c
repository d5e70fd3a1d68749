/* SPDX-License-Identifier: Apache-2.0 */
/* Messages, colours, pager: what every verb says, and how. */
#include <errno.h>
#include <fcntl.h>
#include <langinfo.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "cli/cli.h"

int cli_fail(int code, const char *hint, const char *fmt, ...)
{
	_cleanup_text_ struct text t = { 0 };
	char text[2048];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	fflush(stdout);
	text_add_printable(&t, text, strlen(text));
	if (hint) {
		text_add(&t, "\n  ");
		text_add_printable(&t, hint, strlen(hint));
	}
	fprintf(stderr, "supervise: %s\n", t.data ? t.data : "");
	return code;
}

int cli_code(int r)
{
	switch (-r) {
	case EACCES:
	case EPERM:
		return CLI_PERMISSION;
	case EAGAIN:
	case EBUSY:
	case ENOMEM:
	case EMFILE:
	case ENFILE:
		return CLI_TRY_AGAIN;
	case ENOENT:
	case ENOTDIR:
		return CLI_NO_INPUT;
	default:
		return CLI_IO;
	}
}

void cli_note(const struct cli *c, const char *fmt, ...)
{
	_cleanup_text_ struct text t = { 0 };
	char text[2048];
	va_list ap;

	if (c->o.quiet)
		return;
	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	text_add_printable(&t, text, strlen(text));
	fflush(stdout); /* the note comes behind what it is about */
	fprintf(stderr, "%s\n", t.data ? t.data : "");
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

static int base64_value(char c)
{
	static const char set[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
	const char *p = c ? strchr(set, c) : NULL;

	return p ? (int)(p - set) : -1;
}

void cli_add_base64(struct text *t, const char *s)
{
	unsigned acc = 0, bits = 0;

	for (; *s && *s != '='; s++) {
		int v = base64_value(*s);
		char byte;

		if (v < 0)
			return;
		acc = acc << 6 | (unsigned)v;
		bits += 6;
		if (bits >= 8) {
			bits -= 8;
			byte = (char)(acc >> bits & 0xff);
			text_add_bytes(t, &byte, 1);
		}
	}
}

void cli_look_at_terminal(struct cli *c)
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
	if (c->o.colour && strcmp(c->o.colour, "auto"))
		c->colour = c->colour_err = !strcmp(c->o.colour, "always");
	c->utf8 = !strcmp(nl_langinfo(CODESET), "UTF-8");
	if (columns && parse_u64(columns, &n) == 0 && n > 0 && n < 10000)
		c->width = (unsigned)n;
	else if (tty && ioctl(STDOUT_FILENO, TIOCGWINSZ, &w) == 0 && w.ws_col)
		c->width = w.ws_col;
}

/* --- pager -------------------------------------------------------------------------------------------------------- */

static pid_t pager_pid;

/* The pager has the terminal until the person leaves it; then the shell's prompt may come. */
static void wait_for_pager(void)
{
	int status;

	fflush(stdout);
	close(STDOUT_FILENO);
	while (waitpid(pager_pid, &status, 0) < 0 && errno == EINTR)
		;
}

/* Ctrl-C ends what we do; the pager, which does not die of it, is waited for. Only safe calls here. */
static void on_interrupt(int sig)
{
	int status;

	close(STDOUT_FILENO);
	while (waitpid(pager_pid, &status, 0) < 0 && errno == EINTR)
		;
	_exit(128 + sig);
}

static bool in_path(const char *program)
{
	const char *path = getenv("PATH");
	char file[PATH_MAX];

	for (const char *p = path ? path : "/usr/bin:/bin"; *p;) {
		size_t n = strcspn(p, ":");

		snprintf(file, sizeof(file), "%.*s/%s", (int)n, p, program);
		if (n && !access(file, X_OK))
			return true;
		p += n;
		p += *p == ':';
	}
	return false;
}

void cli_page(struct cli *c)
{
	const char *pager = getenv("SUPERVISE_PAGER");
	int fds[2];

	if (c->o.no_pager || c->o.follow || c->o.json || pager_pid || !isatty(STDOUT_FILENO))
		return;
	if (!pager)
		pager = getenv("PAGER");
	if (!pager && in_path("less"))
		pager = "less -FRX";
	if (!pager || !*pager || !strcmp(pager, "cat") || pipe2(fds, O_CLOEXEC) < 0)
		return;
	pager_pid = fork();
	if (pager_pid < 0) {
		pager_pid = 0;
		close(fds[0]);
		close(fds[1]);
		return;
	}
	if (!pager_pid) {
		dup2(fds[0], STDIN_FILENO);
		setenv("LESS", "FRX", 0);
		execl("/bin/sh", "sh", "-c", pager, (char *)NULL);
		_exit(127);
	}
	dup2(fds[1], STDOUT_FILENO);
	close(fds[0]);
	close(fds[1]);
	signal(SIGINT, on_interrupt);
	atexit(wait_for_pager);
}
