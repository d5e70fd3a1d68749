/* SPDX-License-Identifier: Apache-2.0 */
/* A report as a person reads it. All text out of it may be hostile: control bytes are escaped, lines cut to the width. */
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "capture/report.h"

enum {
	FRAMES_MAX = 40,  /* of one thread, unless everything is asked for */
	TAIL_MAX = 10,
	NAME_COLUMN = 48,
	PLACE_COLUMN = 28,
	LABEL_COLUMN = 9,
};

static const char *base_name(const char *path)
{
	const char *slash = strrchr(path, '/');

	return slash && slash[1] ? slash + 1 : path;
}

static size_t columns_of(const char *s, size_t n)
{
	size_t c = 0;

	for (size_t i = 0; i < n; i++)
		c += ((unsigned char)s[i] & 0xc0) != 0x80;
	return c;
}

/* One line, escaped and cut to the width; @line is emptied. */
static void put_line(const struct report_render_options *o, struct text *line, struct text *out)
{
	_cleanup_text_ struct text safe = { 0 };
	size_t n, width = o->width;

	for (char *p = line->data; p && *p; p++)
		if (*p == '\n' || *p == '\t')
			*p = ' ';
	text_add_printable(&safe, line->data ? line->data : "", line->size);
	n = safe.size;
	if (width >= 20 && safe.data && columns_of(safe.data, n) > width) {
		const char *dots = o->utf8 ? "\xe2\x80\xa6" : "...";
		size_t keep = width - (o->utf8 ? 1 : 3), c = 0;

		for (n = 0; n < safe.size; n++) {
			if (((unsigned char)safe.data[n] & 0xc0) != 0x80 && c++ == keep)
				break;
		}
		text_add_bytes(out, safe.data, n);
		text_add(out, dots);
	} else {
		text_add_bytes(out, safe.data ? safe.data : "", n);
	}
	text_add(out, "\n");
	text_free(line);
}

static void colour(const struct report_render_options *o, struct text *out, const char *sgr)
{
	if (o->colour)
		text_addf(out, "\033[%sm", sgr);
}

static void begin(struct text *line, const char *label)
{
	text_addf(line, "  %-*s", LABEL_COLUMN, label);
}

static void put_head(const cJSON *r, const struct report_render_options *o, struct text *out)
{
	const cJSON *summary = json_get_object(r, "summary");
	struct text line = { 0 };
	char ago[32];
	int64_t died_us, now_us = clock_now_us();

	text_add(&line, json_get_string(r, "daemon", "?"));
	text_add(&line, " died");
	if (clock_parse_utc(json_get_string(r, "died_at", ""), &died_us) == 0 && died_us <= now_us)
		text_addf(&line, " %s ago", clock_format_duration((uint64_t)(now_us - died_us) / 1000, ago));
	text_add(&line, ": ");
	text_add(&line, summary ? json_get_string(summary, "sentence", "cause unknown") : "cause unknown");
	colour(o, out, "1");
	{
		struct report_render_options whole = *o;

		whole.width = 0; /* the one sentence is never cut */
		put_line(&whole, &line, out);
	}
	colour(o, out, "0");
}

static void put_when(const cJSON *r, const struct report_render_options *o, struct text *out)
{
	const char *died = json_get_string(r, "died_at", NULL);
	struct text line = { 0 };
	char up[32];

	begin(&line, "when");
	if (died && strlen(died) >= 23)
		text_addf(&line, "%.10s %.12s UTC", died, died + 11);
	else
		text_add(&line, "unknown");
	if (json_get_i64(r, "uptime_ms", 0) > 0)
		text_addf(&line, ", %s after start", clock_format_duration((uint64_t)json_get_i64(r, "uptime_ms", 0), up));
	text_addf(&line, ", pid %lld", (long long)json_get_i64(r, "pid", 0));
	if (json_get_string(r, "host", NULL))
		text_addf(&line, " on %s", json_get_string(r, "host", NULL));
	put_line(o, &line, out);
}

static void put_work(const cJSON *r, const struct report_render_options *o, struct text *out)
{
	static const char *const keys[] = { "experiment", "stage", "node" };
	struct text line = { 0 };
	bool any = false;

	for (size_t i = 0; i < ARRAY_SIZE(keys); i++) {
		const char *v = json_get_string(r, keys[i], NULL);

		if (!v)
			continue;
		if (!any)
			begin(&line, "work");
		text_addf(&line, "%s%s %s", any ? ", " : "", keys[i], v);
		any = true;
	}
	if (any)
		put_line(o, &line, out);
}

static void put_command(const cJSON *r, const struct report_render_options *o, struct text *out)
{
	const cJSON *arg, *argv = json_get_array(r, "argv");
	struct text line = { 0 };

	if (!argv || !cJSON_GetArraySize(argv))
		return;
	begin(&line, "command");
	cJSON_ArrayForEach(arg, argv) {
		text_addf(&line, "%s%s", arg == argv->child ? "" : " ", cJSON_IsString(arg) ? arg->valuestring : "?");
	}
	put_line(o, &line, out);
}

static void put_capture(const cJSON *r, const struct report_render_options *o, struct text *out)
{
	const cJSON *c = json_get_object(r, "capture"), *f = json_get_object(r, "fingerprint"), *note, *notes = NULL;
	const char *mode = json_get_string(c, "mode", "unknown");
	struct text line = { 0 };

	begin(&line, "capture");
	text_add(&line, mode);
	if (json_get_bool(c, "snapshot", false)) {
		text_addf(&line, ", held %.1f ms", (double)json_get_i64(c, "held_us", 0) / 1000);
		text_add(&line, json_get_bool(r, "complete", false) ? ", complete" : ", no backtrace");
	} else {
		text_add(&line, ", no snapshot");
		if (json_get_string(c, "reason", NULL))
			text_addf(&line, " (%s)", json_get_string(c, "reason", NULL));
	}
	if (json_get_string(r, "symbolizer_error", NULL))
		text_addf(&line, " (%s)", json_get_string(r, "symbolizer_error", NULL));
	if (f)
		text_addf(&line, "; group %.16s", json_get_string(f, "group", "-"));
	put_line(o, &line, out);
	if (c)
		notes = json_get_array(c, "notes");
	cJSON_ArrayForEach(note, notes) {
		if (!cJSON_IsString(note))
			continue;
		begin(&line, "");
		text_add(&line, note->valuestring);
		put_line(o, &line, out);
	}
}

static void put_resources(const cJSON *r, const struct report_render_options *o, struct text *out)
{
	const cJSON *res = json_get_object(r, "resources");
	struct text line = { 0 };
	char size[24], user[32], system[32];

	if (!res || !json_get_i64(res, "max_rss_bytes", 0))
		return;
	begin(&line, "memory");
	text_addf(&line, "%s at most, cpu %s user, %s system",
	    format_size((uint64_t)json_get_i64(res, "max_rss_bytes", 0), size),
	    clock_format_duration((uint64_t)json_get_i64(res, "user_us", 0) / 1000, user),
	    clock_format_duration((uint64_t)json_get_i64(res, "system_us", 0) / 1000, system));
	put_line(o, &line, out);
}

static void frame_texts(const cJSON *f, char *name, char *place, size_t size)
{
	const char *function = json_get_string(f, "function", NULL), *file = json_get_string(f, "file", NULL);
	const char *module = json_get_string(f, "module", NULL);

	if (function)
		snprintf(name, size, "%s", function);
	else if (module)
		snprintf(name, size, "%s+%s", base_name(module), json_get_string(f, "offset", "?"));
	else
		snprintf(name, size, "%s", json_get_string(f, "pc", "?"));
	place[0] = '\0';
	if (file)
		snprintf(place, size, "%s:%lld", base_name(file), (long long)json_get_i64(f, "line", 0));
}

/* Machinery above and below what the program did; unless there is nothing else. */
static bool hides_noise(const cJSON *frames, const struct report_render_options *o)
{
	const cJSON *f;

	if (o->full)
		return false;
	cJSON_ArrayForEach(f, frames) {
		if (!json_get_bool(f, "noise", false))
			return true;
	}
	return false;
}

static void put_frames(const cJSON *thread, const struct report_render_options *o, struct text *out)
{
	const cJSON *frames = json_get_array(thread, "frames"), *f;
	size_t name_width = 12, place_width = 8;
	struct text line = { 0 };
	char name[512], place[512];
	unsigned n = 0, hidden = 0;
	bool hides = hides_noise(frames, o);

	cJSON_ArrayForEach(f, frames) {
		frame_texts(f, name, place, sizeof(name));
		if (strlen(name) > name_width)
			name_width = strlen(name);
		if (strlen(place) > place_width)
			place_width = strlen(place);
	}
	if (name_width > NAME_COLUMN)
		name_width = NAME_COLUMN;
	if (place_width > PLACE_COLUMN)
		place_width = PLACE_COLUMN;
	cJSON_ArrayForEach(f, frames) {
		const char *module = json_get_string(f, "module", NULL), *trust = json_get_string(f, "trust", "cfi");
		int64_t repeated = json_get_i64(f, "repeated", 0);

		if ((hides && json_get_bool(f, "noise", false)) || (!o->full && n >= FRAMES_MAX)) {
			hidden++;
			continue;
		}
		n++;
		frame_texts(f, name, place, sizeof(name));
		text_addf(&line, "  #%-3lld %-*s  %-*s  %s", (long long)json_get_i64(f, "index", 0), (int)name_width, name,
		    (int)place_width, place, module ? base_name(module) : "");
		if (json_get_bool(f, "inlined", false))
			text_add(&line, "  (inlined)");
		if (strcmp(trust, "cfi") && strcmp(trust, "context"))
			text_addf(&line, "  (guessed: %s)", trust);
		while (line.size && line.data[line.size - 1] == ' ')
			line.data[--line.size] = '\0';
		put_line(o, &line, out);
		if (repeated) {
			text_addf(&line, "       the same %lld more times", (long long)repeated);
			put_line(o, &line, out);
		}
	}
	if (hidden) {
		text_addf(&line, "       %u more frames: --full", hidden);
		put_line(o, &line, out);
	}
}

static void put_source(const cJSON *thread, const struct report_render_options *o, struct text *out)
{
	const cJSON *f, *l, *source = NULL;
	struct text line = { 0 };

	cJSON_ArrayForEach(f, json_get_array(thread, "frames")) {
		source = json_get_array(f, "source");
		if (source && cJSON_GetArraySize(source))
			break;
		source = NULL;
	}
	if (!source)
		return;
	text_addf(&line, "Source %s", json_get_string(f, "file", ""));
	put_line(o, &line, out);
	cJSON_ArrayForEach(l, source) {
		bool here = json_get_bool(l, "crash", false);

		text_addf(&line, "  %c %5lld  %s", here ? '>' : ' ', (long long)json_get_i64(l, "line", 0),
		    json_get_string(l, "text", ""));
		if (here)
			colour(o, out, "1");
		put_line(o, &line, out);
		if (here)
			colour(o, out, "0");
	}
}

static void put_thread_title(const cJSON *thread, const struct report_render_options *o, const char *note,
    struct text *out)
{
	struct text line = { 0 };

	text_addf(&line, "Thread %lld \"%s\"%s%s%s", (long long)json_get_i64(thread, "tid", 0),
	    json_get_string(thread, "name", "?"), json_get_bool(thread, "crashed", false) ? " (crashed)" : "",
	    note[0] ? "    " : "", note);
	colour(o, out, "1");
	put_line(o, &line, out);
	colour(o, out, "0");
}

static void put_threads(const cJSON *r, const struct report_render_options *o, struct text *out)
{
	const cJSON *threads = json_get_array(r, "threads"), *thread, *other;
	int n = cJSON_GetArraySize(threads);
	char note[96] = "";

	if (n > 1 && !o->all_threads)
		snprintf(note, sizeof(note), "%d more thread%s: --threads", n - 1, n == 2 ? "" : "s");
	cJSON_ArrayForEach(thread, threads) {
		if (!json_get_bool(thread, "crashed", false))
			continue;
		put_thread_title(thread, o, note, out);
		put_frames(thread, o, out);
		put_source(thread, o, out);
	}
	if (!o->all_threads)
		return;
	cJSON_ArrayForEach(thread, threads) {
		int64_t tid = json_get_i64(thread, "tid", 0);
		int same = 0;

		if (json_get_bool(thread, "crashed", false) || json_get_i64(thread, "same_as", 0))
			continue;
		cJSON_ArrayForEach(other, threads) {
			same += json_get_i64(other, "same_as", 0) == tid;
		}
		note[0] = '\0';
		if (same)
			snprintf(note, sizeof(note), "and %d more with this stack", same);
		put_thread_title(thread, o, note, out);
		put_frames(thread, o, out);
	}
}

static void put_registers(const cJSON *r, const struct report_render_options *o, struct text *out)
{
	const cJSON *regs = json_get_object(r, "registers"), *v;
	struct text line = { 0 };
	unsigned n = 0;

	if (!o->full || !regs)
		return;
	text_add(&line, "Registers");
	put_line(o, &line, out);
	cJSON_ArrayForEach(v, regs) {
		text_addf(&line, "  %-6s %-18s", v->string ? v->string : "?", cJSON_IsString(v) ? v->valuestring : "?");
		if (++n % 3 == 0)
			put_line(o, &line, out);
	}
	if (line.size)
		put_line(o, &line, out);
}

static void put_tail(const cJSON *r, const struct report_render_options *o, struct text *out)
{
	const cJSON *tail = json_get_array(r, "last_output"), *l;
	int n = cJSON_GetArraySize(tail), skip = o->full || n <= TAIL_MAX ? 0 : n - TAIL_MAX;
	struct text line = { 0 };

	if (!n)
		return;
	text_add(&line, "Last output");
	colour(o, out, "1");
	put_line(o, &line, out);
	colour(o, out, "0");
	cJSON_ArrayForEach(l, tail) {
		const char *time = json_get_string(l, "time", "");

		if (skip-- > 0)
			continue;
		text_addf(&line, "  %.12s %s  %s", strlen(time) > 22 ? time + 11 : "            ",
		    !strcmp(json_get_string(l, "stream", ""), "stderr") ? "err" : "out", json_get_string(l, "text", ""));
		put_line(o, &line, out);
	}
}

void report_render(const cJSON *r, const struct report_render_options *o, struct text *out)
{
	struct text line = { 0 };

	put_head(r, o, out);
	put_when(r, o, out);
	put_work(r, o, out);
	if (o->full)
		put_command(r, o, out);
	if (json_get_string(r, "next", NULL)) {
		begin(&line, "then");
		text_add(&line, json_get_string(r, "next", ""));
		put_line(o, &line, out);
	}
	put_capture(r, o, out);
	put_resources(r, o, out);
	put_threads(r, o, out);
	put_registers(r, o, out);
	put_tail(r, o, out);
}
