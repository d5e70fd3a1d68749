/* SPDX-License-Identifier: Apache-2.0 */
/* crashes and crash show|rm: from the report files, so they work with everything else down. */
#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <fnmatch.h>
#include <libsmartcols.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/file.h"
#include "capture/report.h"
#include "cli/cli.h"

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

int verb_crashes(struct cli *c)
{
	struct reports all = { 0 };
	struct libscols_table *t = scols_new_table();
	_cleanup_(freep) char *text = NULL;
	int64_t now = clock_now_us(), since = 0;
	size_t shown = 0, first = 0, matching = 0;

	if (c->o.since && cli_parse_time(c->o.since, now, c->o.utc, &since) < 0) {
		scols_unref_table(t);
		return cli_fail(CLI_USAGE, "Write 1h, 7d, today, or a date", "--since: '%s' is no time", c->o.since);
	}
	reports_read(c, &all);
	for (size_t i = 0; i < all.n; i++) {
		bool wanted = !c->o.n_args;

		for (int k = 0; k < c->o.n_args; k++)
			wanted |= is_of(all.items[i].j, c->o.args[k]);
		if (!wanted || all.items[i].died_us < since)
			all.items[i].died_us = -1; /* not shown */
		else
			matching++;
	}
	if (c->o.limit && c->o.limit != UINT64_MAX && matching > c->o.limit)
		first = matching - c->o.limit;
	scols_table_enable_colors(t, c->colour);
	scols_table_enable_noheadings(t, c->o.no_headings);
	scols_table_set_termforce(t, c->width ? SCOLS_TERMFORCE_ALWAYS : SCOLS_TERMFORCE_NEVER);
	if (c->width)
		scols_table_set_termwidth(t, c->width);
	scols_table_new_column(t, "ID", 8, 0);
	scols_table_new_column(t, "WHEN", 8, 0);
	scols_table_new_column(t, "DAEMON", 6, 0);
	scols_table_new_column(t, "CAUSE", 6, 0);
	scols_table_new_column(t, "WHERE", 0.4, SCOLS_FL_TRUNC);
	scols_table_new_column(t, "STAGE", 5, 0);
	scols_table_new_column(t, "SEEN", 4, SCOLS_FL_RIGHT);
	for (size_t i = 0, k = 0; i < all.n; i++) {
		const cJSON *j = all.items[i].j, *summary = json_get_object(j, "summary");
		const char *group = json_get_string(json_get_object(j, "fingerprint"), "group", NULL);
		struct libscols_line *l;
		char buf[48];
		unsigned seen = 0;

		if (all.items[i].died_us < 0 || k++ < first)
			continue;
		shown++;
		if (c->o.json) {
			cli_print_json(j);
			continue;
		}
		for (size_t x = 0; group && x <= i; x++) {
			const char *other = json_get_string(json_get_object(all.items[x].j, "fingerprint"), "group", NULL);

			seen += other && !strcmp(other, group);
		}
		l = scols_table_new_line(t, NULL);
		scols_line_set_data(l, 0, json_get_string(j, "short_id", "?"));
		scols_line_set_data(l, 1, cli_format_ago(all.items[i].died_us, now, buf));
		scols_line_set_data(l, 2, json_get_string(j, "daemon", "?"));
		scols_line_set_data(l, 3, json_get_string(summary, "cause", "?"));
		if (c->colour)
			scols_cell_set_color(scols_line_get_cell(l, 3), "red");
		scols_line_set_data(l, 4, json_get_string(summary, "where", "-"));
		scols_line_set_data(l, 5, json_get_string(j, "stage", "-"));
		snprintf(buf, sizeof(buf), seen ? "%ux" : "-", seen);
		scols_line_set_data(l, 6, buf);
	}
	if (!c->o.json && shown && scols_print_table_to_string(t, &text) == 0 && text) {
		fputs(text, stdout);
		if (*text && text[strlen(text) - 1] != '\n')
			putchar('\n');
		cli_note(c, "next: supervise crash show ID");
	}
	if (!shown && !c->o.json)
		cli_note(c, "no crashes%s", c->o.since || c->o.n_args ? " match" : "");
	if (first)
		cli_note(c, "-- %zu older ones are left out --", first);
	scols_unref_table(t);
	reports_free(&all);
	return shown && c->o.exit_code ? CLI_FAILED : CLI_OK;
}

/* ID, the beginning of one, a daemon's name, or -N for the N-th latest. Return: index, or -1 after a message */
static ssize_t find(struct cli *c, const struct reports *all, const char *what)
{
	ssize_t hit = -1;
	unsigned hits = 0;
	int64_t n;

	if (!all->n)
		return cli_fail(-1, NULL, "there are no crash reports");
	if (what[0] == '-' && parse_i64(what, &n) == 0) {
		if (n < 0 && (size_t)-n <= all->n)
			return (ssize_t)all->n + (ssize_t)n;
		return cli_fail(-1, NULL, "there are only %zu crash reports", all->n);
	}
	for (size_t i = 0; i < all->n; i++) {
		const char *s = json_get_string(all->items[i].j, "short_id", ""), *full = json_get_string(all->items[i].j, "crash_id", "");

		if (!strncasecmp(s, what, strlen(what)) || !strncasecmp(full, what, strlen(what))) {
			hit = (ssize_t)i;
			hits++;
		}
	}
	if (hits == 1)
		return hit;
	for (size_t i = all->n; i-- > 0;)
		if (is_of(all->items[i].j, what))
			return (ssize_t)i;
	if (hits > 1)
		return cli_fail(-1, "Write more of it", "'%s' is the beginning of %u crash ids", what, hits);
	return cli_fail(-1, "supervise crashes lists them", "no crash report is called '%s', and no daemon of that name crashed", what);
}

int verb_crash(struct cli *c)
{
	const char *what = c->o.args[0];
	struct reports all = { 0 };
	ssize_t i;
	int r = CLI_OK;

	if (strcmp(what, "show") && strcmp(what, "rm"))
		return cli_fail(CLI_USAGE, "supervise crash show ID    supervise crash rm ID...", "'crash %s' is unknown", what);
	if (!strcmp(what, "rm") && c->o.n_args < 2)
		return cli_fail(CLI_USAGE, NULL, "which report? Name one, or a daemon for its latest");
	reports_read(c, &all);
	for (int k = 1; k < c->o.n_args || k == 1; k++) {
		char path[PATH_MAX];

		i = find(c, &all, k < c->o.n_args ? c->o.args[k] : "-1");
		if (i < 0) {
			r = CLI_UNKNOWN;
			continue;
		}
		if (!strcmp(what, "rm")) {
			path_format(path, sizeof(path), c->paths.state, "crash/%s", all.items[i].file);
			if (unlink(path) < 0)
				r = cli_fail(CLI_IO, NULL, "cannot remove %s: %s", path, strerror(errno));
			else
				cli_note(c, "removed %s", json_get_string(all.items[i].j, "short_id", ""));
		} else if (c->o.json) {
			_cleanup_(freep) char *text = json_print_pretty(all.items[i].j);

			puts(text ? text : "");
		} else {
			struct report_render_options o = { .colour = c->colour, .all_threads = c->o.threads, .full = c->o.full,
				.utf8 = c->utf8, .width = c->width };
			_cleanup_text_ struct text t = { 0 };

			if (k == 1)
				cli_page(c);
			report_render(all.items[i].j, &o, &t);
			fwrite(t.data ? t.data : "", 1, t.size, stdout);
			cli_note(c, "report: %s/crash/%s", c->paths.state, all.items[i].file);
		}
	}
	reports_free(&all);
	return r;
}
