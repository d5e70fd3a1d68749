/* SPDX-License-Identifier: Apache-2.0 */
/* crashes and crash show|rm: from the report files, so they work with everything else down. */
#include <errno.h>
#include <fcntl.h>
#include <fnmatch.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/file.h"
#include "capture/report.h"
#include "cli/cli.h"
#include "cli/table.h"

enum { REPORT_MAX = 64 << 20 };

struct report {
	char *file; /* below the state folder's crash/ */
	cJSON *j;
	int64_t died_us;
};

struct reports {
	struct report *items;
	size_t n;
};

static void reports_free(struct reports *r)
{
	for (size_t i = 0; i < r->n; i++) {
		free(r->items[i].file);
		cJSON_Delete(r->items[i].j);
	}
	free(r->items);
	*r = (struct reports){ 0 };
}

static int by_time(const void *a, const void *b)
{
	const struct report *x = a, *y = b;

	return x->died_us < y->died_us ? -1 : x->died_us > y->died_us;
}

static bool is_of(const cJSON *j, const char *name)
{
	const char *daemon = json_get_string(j, "daemon", "");
	size_t n = strlen(name);

	return !strcmp(name, "all") || !strcmp(daemon, name) || (!strncmp(daemon, name, n) && daemon[n] == '/') ||
	    fnmatch(name, daemon, 0) == 0;
}

/* Every report; a file that cannot be read is told and passed over. */
static void reports_read(struct cli *c, struct reports *ret)
{
	char folder[PATH_MAX];
	_cleanup_(closedirp) DIR *d = opendir(path_format(folder, sizeof(folder), c->paths.state, "crash"));
	struct dirent *e;

	while (d && (e = readdir(d))) {
		size_t len = strlen(e->d_name), size;
		_cleanup_(freep) char *text = NULL;
		struct report *items, x = { 0 };
		struct error err;
		int r;

		if (len < 6 || strcmp(e->d_name + len - 5, ".json"))
			continue;
		r = file_read(dirfd(d), e->d_name, REPORT_MAX, &text, &size);
		if (r < 0)
			error_set(&err, r, "%s", strerror(-r));
		else
			r = json_parse(text, size, &x.j, &err);
		if (r < 0) {
			cli_note(c, "note: %s/%s: %s", folder, e->d_name, err.text);
			continue;
		}
		if (clock_parse_utc(json_get_string(x.j, "died_at", ""), &x.died_us) < 0)
			x.died_us = 0;
		x.file = strdup(e->d_name);
		items = realloc(ret->items, (ret->n + 1) * sizeof(*items));
		if (!items || !x.file) {
			free(x.file);
			cJSON_Delete(x.j);
			break;
		}
		ret->items = items;
		items[ret->n++] = x;
	}
	if (ret->n)
		qsort(ret->items, ret->n, sizeof(*ret->items), by_time);
}

unsigned crashes_count_since(const struct cli *c, int64_t since_us)
{
	char folder[PATH_MAX];
	_cleanup_(closedirp) DIR *d = opendir(path_format(folder, sizeof(folder), c->paths.state, "crash"));
	struct dirent *e;
	struct stat st;
	unsigned n = 0;

	while (d && (e = readdir(d))) {
		size_t len = strlen(e->d_name);

		if (len > 5 && !strcmp(e->d_name + len - 5, ".json") && fstatat(dirfd(d), e->d_name, &st, AT_SYMLINK_NOFOLLOW) == 0)
			n += (int64_t)st.st_mtim.tv_sec * 1000000 >= since_us;
	}
	return n;
}

enum { COL_ID, COL_WHEN, COL_DAEMON, COL_CAUSE, COL_WHERE, COL_STAGE, COL_SEEN, COL_FIRST };

static const struct cli_column columns[] = {
	[COL_ID] = { "ID" },
	[COL_WHEN] = { "WHEN" },
	[COL_DAEMON] = { "DAEMON" },
	[COL_CAUSE] = { "CAUSE" },
	[COL_WHERE] = { "WHERE", .cut = true },
	[COL_STAGE] = { "STAGE", .narrow = 90 },
	[COL_SEEN] = { "SEEN", .right = true, .narrow = 60 },
	[COL_FIRST] = { "FIRST", .narrow = 80 },
	{ NULL },
};

static const char *group_of(const cJSON *j)
{
	return json_get_string(json_get_object(j, "fingerprint"), "group", NULL);
}

static void fill_line(struct cli_table *t, const struct reports *all, size_t i, int64_t now_us)
{
	const cJSON *j = all->items[i].j, *summary = json_get_object(j, "summary");
	const char *group = group_of(j);
	int64_t first = 0;
	unsigned seen = 0;
	char buf[48];

	for (size_t k = 0; group && k <= i; k++) {
		const char *other = group_of(all->items[k].j);

		if (!other || strcmp(other, group))
			continue;
		if (!seen++)
			first = all->items[k].died_us;
	}
	cli_table_add_line(t);
	cli_table_set(t, COL_ID, json_get_string(j, "short_id", "?"), NULL);
	cli_table_set(t, COL_WHEN, cli_format_ago(all->items[i].died_us, now_us, buf), NULL);
	cli_table_set(t, COL_DAEMON, json_get_string(j, "daemon", "?"), NULL);
	cli_table_set(t, COL_CAUSE, json_get_string(summary, "cause", "?"), "red");
	cli_table_set(t, COL_WHERE, json_get_string(summary, "where", "-"), NULL);
	cli_table_set(t, COL_STAGE, json_get_string(j, "stage", "-"), NULL);
	snprintf(buf, sizeof(buf), "%ux", seen);
	cli_table_set(t, COL_SEEN, seen ? buf : "-", NULL);
	cli_table_set(t, COL_FIRST, seen ? cli_format_ago(first, now_us, buf) : "-", NULL);
}

int verb_crashes(struct cli *c)
{
	_cleanup_(cli_table_freep) struct cli_table *t = NULL;
	_cleanup_(reports_free) struct reports all = { 0 };
	_cleanup_text_ struct text text = { 0 };
	_cleanup_(freep) bool *wanted = NULL;
	int64_t now = clock_now_us(), since = 0, until = INT64_MAX;
	uint64_t limit = c->o.lines != CLI_UNSET ? c->o.lines : c->o.limit != CLI_UNSET ? c->o.limit : 0;
	size_t matching = 0, left_out = 0;
	int r = cli_table_new(&t, c, columns);

	if (!r && c->o.since)
		r = cli_resolve_time(c, "since", c->o.since, &since);
	if (!r && c->o.until)
		r = cli_resolve_time(c, "until", c->o.until, &until);
	if (r)
		return r;
	reports_read(c, &all);
	wanted = calloc(all.n + 1, sizeof(*wanted));
	if (!wanted)
		return cli_fail(CLI_TRY_AGAIN, NULL, "out of memory");
	for (size_t i = 0; i < all.n; i++) {
		wanted[i] = !c->o.n_args;
		for (int k = 0; k < c->o.n_args; k++)
			wanted[i] |= is_of(all.items[i].j, c->o.args[k]);
		wanted[i] &= all.items[i].died_us >= since && all.items[i].died_us <= until;
		matching += wanted[i];
	}
	if (limit && matching > limit)
		left_out = matching - limit;
	for (size_t i = 0, k = 0; i < all.n; i++) {
		if (!wanted[i] || k++ < left_out)
			continue;
		if (c->o.json)
			cli_print_json(all.items[i].j);
		else
			fill_line(t, &all, i, now);
	}
	if (!c->o.json && matching) {
		cli_table_print(t, &text);
		fwrite(text.data ? text.data : "", 1, text.size, stdout);
		cli_note(c, "next: supervise crash show ID");
	}
	if (!matching && !c->o.json)
		cli_note(c, "no crashes%s", c->o.since || c->o.until || c->o.n_args ? " match" : "");
	if (left_out)
		cli_note(c, "-- %zu older ones are left out --", left_out);
	return matching && c->o.exit_code ? CLI_FAILED : CLI_OK;
}

/* ID, the beginning of one, a daemon's name, or -N for the N-th latest. Return: index, or -1 after a message */
static ssize_t find(const struct reports *all, const char *what)
{
	ssize_t hit = -1;
	unsigned hits = 0;
	int64_t n;

	if (!all->n)
		return cli_fail(-1, "Reports are kept in the folder crash/ of the state folder: supervise -v crashes", "there are no crash reports");
	if (what[0] == '-' && parse_i64(what, &n) == 0) {
		if (n < 0 && n > -INT64_C(1000000000) && (size_t)-n <= all->n)
			return (ssize_t)all->n + (ssize_t)n;
		return cli_fail(-1, NULL, "there is no crash report %s: there are %zu", what, all->n);
	}
	/* a daemon's own name first: "a" and "cafe" are beginnings of ids too */
	for (size_t i = all->n; i-- > 0;)
		if (!strcmp(json_get_string(all->items[i].j, "daemon", ""), what))
			return (ssize_t)i;
	for (size_t i = 0; *what && i < all->n; i++) {
		const char *s = json_get_string(all->items[i].j, "short_id", ""), *full = json_get_string(all->items[i].j, "crash_id", "");

		if (!strncasecmp(s, what, strlen(what)) || !strncasecmp(full, what, strlen(what))) {
			hit = (ssize_t)i;
			hits++;
		}
	}
	if (hits == 1)
		return hit;
	for (size_t i = all->n; *what && i-- > 0;)
		if (is_of(all->items[i].j, what))
			return (ssize_t)i;
	if (hits > 1)
		return cli_fail(-1, "Write more of it", "'%s' is the beginning of %u crash ids", what, hits);
	return cli_fail(-1, "supervise crashes lists them", "no crash report is called '%s', and no daemon of that name crashed", what);
}

int crash_find(struct cli *c, const char *id, cJSON **ret)
{
	_cleanup_(reports_free) struct reports all = { 0 };
	ssize_t i;

	reports_read(c, &all);
	i = find(&all, id);
	if (i < 0)
		return CLI_UNKNOWN;
	*ret = TAKE_PTR(all.items[i].j);
	return 0;
}

static int show(struct cli *c, const struct report *x)
{
	struct report_render_options o = { .colour = c->colour, .all_threads = c->o.threads, .full = c->o.full, .utf8 = c->utf8,
		.width = c->width };
	_cleanup_text_ struct text t = { 0 };

	if (c->o.json) {
		_cleanup_(freep) char *text = json_print_pretty(x->j);

		puts(text ? text : "");
		return CLI_OK;
	}
	cli_page(c);
	report_render(x->j, &o, &t);
	fwrite(t.data ? t.data : "", 1, t.size, stdout);
	if (t.size && t.data[t.size - 1] != '\n')
		putchar('\n');
	cli_note(c, "report: %s/crash/%s", c->paths.state, x->file);
	return CLI_OK;
}

static int remove_report(struct cli *c, const struct report *x)
{
	char path[PATH_MAX];

	path_format(path, sizeof(path), c->paths.state, "crash/%s", x->file);
	if (unlink(path) < 0)
		return cli_fail(cli_code(-errno), NULL, "cannot remove %s: %s", path, strerror(errno));
	cli_note(c, "removed %s (%s, %s)", json_get_string(x->j, "short_id", "?"), json_get_string(x->j, "daemon", "?"),
	    json_get_string(json_get_object(x->j, "summary"), "cause", "?"));
	return CLI_OK;
}

static bool agreed(const struct cli *c, const char *question)
{
	char answer[16];

	if (c->o.yes)
		return true;
	if (!isatty(STDIN_FILENO))
		return false;
	fprintf(stderr, "%s [y/N] ", question);
	return fgets(answer, sizeof(answer), stdin) && (*answer == 'y' || *answer == 'Y');
}

static int remove_all(struct cli *c, const struct reports *all)
{
	char question[64];
	int r = CLI_OK;

	snprintf(question, sizeof(question), "Remove all %zu crash reports?", all->n);
	if (all->n && !agreed(c, question))
		return cli_fail(CLI_USAGE, "supervise crash rm all --yes", "nothing was removed: this wants a yes");
	for (size_t i = 0; i < all->n; i++)
		r = remove_report(c, &all->items[i]) ? CLI_FAILED : r;
	return r;
}

int verb_crash(struct cli *c)
{
	_cleanup_(reports_free) struct reports all = { 0 };
	const char *what = c->o.args[0];
	bool rm = !strcmp(what, "rm");
	int r = CLI_OK;

	if (!rm && strcmp(what, "show")) {
		const char *words[] = { "show", "rm" }, *near = text_nearest(what, words, 2);
		char hint[64];

		snprintf(hint, sizeof(hint), "Did you mean 'crash %s'?", near);
		return cli_fail(CLI_USAGE, near ? hint : "supervise crash show ID    supervise crash rm ID...", "'crash %s' is unknown",
		    what);
	}
	if (rm && c->o.n_args < 2)
		return cli_fail(CLI_USAGE, "supervise crash rm ID, or a daemon for its latest, or -1", "which report?");
	reports_read(c, &all);
	if (rm && !strcmp(c->o.args[1], "all"))
		return remove_all(c, &all);
	for (int k = 1; k < c->o.n_args || k == 1; k++) {
		ssize_t i = find(&all, k < c->o.n_args ? c->o.args[k] : "-1");
		int one = i < 0 ? CLI_UNKNOWN : rm ? remove_report(c, &all.items[i]) : show(c, &all.items[i]);

		r = one ? one : r;
	}
	return r;
}
