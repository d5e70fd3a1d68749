/* SPDX-License-Identifier: Apache-2.0 */
/*
 * YAML files through libyaml's document interface, whose marks are exact for every node. It shares the nodes
 * behind aliases, so a few lines cannot grow here; whoever walks the document has to count its steps.
 *
 * A file that does not parse gets one finding. libyaml gives two marks, where it noticed and what it was
 * reading then, and people need now the one and now the other: an unclosed quote is noticed at the end of the
 * file.
 */
#include "config/source.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/text.h"

struct source *source_free(struct source *s)
{
	if (!s)
		return NULL;
	if (s->parsed)
		yaml_document_delete(&s->doc);
	free(s->shown);
	free(s->path);
	free(s->folder);
	free(s->data);
	free(s->lines);
	free(s->secret);
	free(s);
	return NULL;
}

/* Length of the line break at @i, or 0. The breaks of YAML 1.1, which libyaml counts by: CR, LF, CRLF, NEL,
 * LS, PS. */
static size_t line_break(const char *p, size_t size, size_t i)
{
	const unsigned char *u = (const unsigned char *)p + i;
	size_t left = size - i;

	if (u[0] == '\r')
		return left > 1 && u[1] == '\n' ? 2 : 1;
	if (u[0] == '\n')
		return 1;
	if (left > 1 && u[0] == 0xc2 && u[1] == 0x85)
		return 2;
	if (left > 2 && u[0] == 0xe2 && u[1] == 0x80 && (u[2] == 0xa8 || u[2] == 0xa9))
		return 3;
	return 0;
}

int source_new(
    struct source **ret, const char *shown, const char *path, char *data, size_t size, unsigned order)
{
	_cleanup_(source_freep) struct source *s = calloc(1, sizeof(*s));
	size_t n = 1, i;
	const char *slash;

	if (!s) {
		free(data);
		return -ENOMEM;
	}
	s->data = data;
	s->size = size;
	s->order = order;
	s->shown = strdup(shown);
	s->path = strdup(path);
	slash = strrchr(path, '/');
	s->folder = slash == path ? strdup("/") : slash ? strndup(path, (size_t)(slash - path)) : strdup(".");
	if (size >= 3 && !memcmp(data, "\xef\xbb\xbf", 3)) {
		memmove(data, data + 3,
		    size - 3); /* a byte order mark would shift the columns of the first line */
		s->size = size -= 3;
		data[size] = '\0';
	}
	for (i = 0; i < size;) {
		size_t b = line_break(data, size, i);

		n += b != 0;
		i += b ? b : 1;
	}
	s->lines = calloc(n + 1, sizeof(*s->lines));
	s->secret = calloc(n, sizeof(*s->secret));
	if (!s->shown || !s->path || !s->folder || !s->lines || !s->secret)
		return -ENOMEM;
	s->n_lines = 1;
	for (i = 0; i < size;) {
		size_t b = line_break(data, size, i);

		i += b ? b : 1;
		if (b)
			s->lines[s->n_lines++] = i;
	}
	s->lines[s->n_lines] = size;
	*ret = TAKE_PTR(s);
	return 0;
}

/* The bytes of a line, its break left out. */
static const char *line_bytes(const struct source *s, unsigned line, size_t *ret_size)
{
	size_t from, to;

	if (line < 1 || line > s->n_lines) {
		*ret_size = 0;
		return "";
	}
	from = s->lines[line - 1];
	to = s->lines[line];
	for (size_t i = from; i < to; i++)
		if (line_break(s->data, to, i)) {
			to = i;
			break;
		}
	*ret_size = to - from;
	return s->data + from;
}

static bool is_continuation(char c)
{
	return ((unsigned char)c & 0xc0) == 0x80;
}

unsigned source_indent(const struct source *s, unsigned line)
{
	size_t n;
	const char *p = line_bytes(s, line, &n);

	for (size_t i = 0; i < n; i++)
		if (p[i] != ' ' && p[i] != '\t')
			return (unsigned)i + 1;
	return 0;
}

int source_line_shown(const struct source *s, unsigned line, unsigned column, char **ret)
{
	_cleanup_text_ struct text t = { 0 };
	const char *p;
	size_t n, i = 0;

	if (line < 1 || line > s->n_lines || s->secret[line - 1])
		return 0;
	p = line_bytes(s, line, &n);
	if (!source_indent(s, line))
		return 0;
	if (column) {
		for (unsigned c = 1; i < n && c < column; c++)
			for (i++; i < n && is_continuation(p[i]); i++)
				;
		text_add_utf8(&t, p, i);
		if (i < n)
			text_add(&t, p[i] == ':' ? ": ..." : " ...");
	} else
		text_add_utf8(&t, p, n);
	p = text_take(&t);
	if (!p)
		return -ENOMEM;
	*ret = (char *)p;
	return 0;
}

yaml_node_t *source_root(const struct source *s)
{
	return s->parsed ? yaml_document_get_root_node((yaml_document_t *)&s->doc) : NULL;
}

yaml_node_t *source_node(const struct source *s, int index)
{
	return yaml_document_get_node((yaml_document_t *)&s->doc, index);
}

struct span source_span(const struct source *s, const yaml_node_t *n)
{
	struct span x = { (unsigned)n->start_mark.line + 1, (unsigned)n->start_mark.column + 1, 0 };

	if (n->end_mark.line == n->start_mark.line)
		x.end_column = (unsigned)n->end_mark.column + 1;
	if ((n->type == YAML_MAPPING_NODE && n->data.mapping.style == YAML_BLOCK_MAPPING_STYLE) ||
	    (n->type == YAML_SEQUENCE_NODE && n->data.sequence.style == YAML_BLOCK_SEQUENCE_STYLE))
		x.end_column = 0; /* of a block only its beginning is marked */
	return x;
}

void source_hide(struct source *s, const yaml_node_t *n)
{
	size_t last = n->end_mark.line;

	/* a block ends where the next thing begins: a line it has no part in */
	if (last > n->start_mark.line) {
		unsigned indent = source_indent(s, (unsigned)last + 1);

		if (!indent || indent > n->end_mark.column)
			last--;
	}
	for (size_t i = n->start_mark.line; i <= last && i < s->n_lines; i++)
		s->secret[i] = true;
}

static bool is_environment(const char *p, size_t n)
{
	char word[32];
	static const char *const names[] = { "environment" };

	if (!n || n >= sizeof(word))
		return false;
	memcpy(word, p, n);
	word[n] = '\0';
	return !strcmp(word, "env") || !strcmp(word, "envs") || text_nearest(word, names, 1);
}

/* Hides what stands below anything called `environment`, or nearly so, wherever it is. */
static void hide_environments(struct source *s)
{
	for (const yaml_node_t *n = s->doc.nodes.start; n < s->doc.nodes.top; n++) {
		if (n->type != YAML_MAPPING_NODE)
			continue;
		for (const yaml_node_pair_t *p = n->data.mapping.pairs.start; p < n->data.mapping.pairs.top;
		     p++) {
			const yaml_node_t *key = source_node(s, p->key), *value = source_node(s, p->value);

			if (key && value && key->type == YAML_SCALAR_NODE &&
			    is_environment((const char *)key->data.scalar.value, key->data.scalar.length))
				source_hide(s, value);
		}
	}
}

/* The same for a file that did not parse: by its looks alone, and rather too much than too little. */
static void hide_environments_by_text(struct source *s)
{
	unsigned hidden_from = 0; /* column of the key that is being hidden */
	bool flow = false;

	for (unsigned line = 1; line <= s->n_lines; line++) {
		size_t n, key, from = 0;
		const char *p = line_bytes(s, line, &n);
		unsigned indent = source_indent(s, line);
		bool here = false;

		/* the items of a list may stand in the column of its key */
		if (hidden_from && !flow && indent && indent <= hidden_from &&
		    !(indent == hidden_from && p[indent - 1] == '-'))
			hidden_from = 0;
		for (size_t i = 0; i < n && !here; i++) {
			if (p[i] != ':' && p[i] != '=')
				continue;
			for (key = i;
			     key > from && (p[key - 1] == ' ' || p[key - 1] == '"' || p[key - 1] == '\'');
			     key--)
				;
			for (from = key;
			     from > 0 && ((p[from - 1] | 0x20) >= 'a' && (p[from - 1] | 0x20) <= 'z'); from--)
				;
			here = is_environment(p + from, key - from);
			from = i + 1;
		}
		if (here && !hidden_from) {
			hidden_from = indent;
			flow = from < n && strpbrk(p + from, "{\"'|>&*") && memchr(p + from, '{', n - from);
		}
		if (here || hidden_from)
			s->secret[line - 1] = true;
	}
}

/* The last quoted text before @line that runs over several lines: where a missing quote usually is. */
static bool find_long_quote(const struct source *s, size_t line, yaml_mark_t *ret)
{
	yaml_parser_t parser;
	yaml_token_t token;
	bool found = false, end = false;

	if (!yaml_parser_initialize(&parser))
		return false;
	yaml_parser_set_encoding(&parser, YAML_UTF8_ENCODING);
	yaml_parser_set_input_string(&parser, (const unsigned char *)s->data, s->size);
	while (!end && yaml_parser_scan(&parser, &token)) {
		end = token.type == YAML_STREAM_END_TOKEN || token.start_mark.line > line;
		if (!end && token.type == YAML_SCALAR_TOKEN &&
		    (token.data.scalar.style == YAML_DOUBLE_QUOTED_SCALAR_STYLE ||
			token.data.scalar.style == YAML_SINGLE_QUOTED_SCALAR_STYLE)) {
			found = token.end_mark.line > token.start_mark.line && token.end_mark.line == line;
			*ret = token.start_mark;
		}
		yaml_token_delete(&token);
	}
	yaml_parser_delete(&parser);
	return found;
}

static struct span at_mark(const yaml_mark_t *m)
{
	return (struct span){ (unsigned)m->line + 1, (unsigned)m->column + 1, 0 };
}

/* Whether ": " stands in the line before the (character) column. */
static bool colon_before(const struct source *s, unsigned line, size_t column)
{
	size_t n, chars = 0;
	const char *p = line_bytes(s, line, &n);

	for (size_t i = 0; i + 1 < n && chars < column; i++) {
		if (p[i] == ':' && p[i + 1] == ' ')
			return true;
		chars += !is_continuation(p[i]);
	}
	return false;
}

static char char_at(const struct source *s, const yaml_mark_t *m)
{
	size_t n, i = 0;
	const char *p = line_bytes(s, (unsigned)m->line + 1, &n);

	for (size_t c = 0; c < m->column && i < n; c++)
		for (i++; i < n && is_continuation(p[i]); i++)
			;
	return i < n ? p[i] : '\0';
}

/* The nearest line above that is neither blank nor a comment; 0: none */
static unsigned line_above(const struct source *s, unsigned line)
{
	while (--line > 0) {
		unsigned indent = source_indent(s, line);

		if (indent && s->data[s->lines[line - 1] + indent - 1] != '#')
			return line;
	}
	return 0;
}

static bool says(const char *text, const char *part)
{
	return text && strstr(text, part);
}

/* libyaml's words and marks as a finding for people. */
static void tell_syntax(const struct source *s, const yaml_parser_t *parser, struct findings *f)
{
	const char *problem = parser->problem ? parser->problem : "", *context = parser->context;
	const yaml_mark_t *pm = &parser->problem_mark, *cm = &parser->context_mark;
	struct note n = { .code = "syntax", .at = at_mark(pm) };
	unsigned line = n.at.line, indent = source_indent(s, line), above;
	char hint[200];
	yaml_mark_t quote;

	if (parser->error == YAML_READER_ERROR) {
		size_t offset = parser->problem_offset < s->size ? parser->problem_offset : s->size;
		size_t at = 1;

		while (at < s->n_lines && s->lines[at] <= offset)
			at++;
		n.at = (struct span){ (unsigned)at, 1, 0 };
		for (size_t i = s->lines[at - 1]; i < offset; i++)
			n.at.column += !is_continuation(s->data[i]);
		n.code = "encoding";
		if (says(problem, "control characters"))
			findings_add(f, s, &n, "the control character U+%04X is not allowed in YAML",
			    (unsigned)parser->problem_value);
		else
			findings_add(f, s, &n, "this is not UTF-8; save the file as UTF-8");
		return;
	}

	if (says(context, "quoted scalar") &&
	    (says(problem, "end of stream") || says(problem, "document indicator"))) {
		n.at = at_mark(cm);
		findings_add(f, s, &n, "the quote opened here is never closed");
		return;
	}
	if (says(problem, "unknown escape")) {
		n.hint = "Write \\\\ for a backslash, or use single quotes.";
		findings_add(f, s, &n, "inside double quotes a backslash begins an escape, and this is none");
		return;
	}
	if (char_at(s, pm) == '\t' || says(problem, "tab character")) {
		n.hint = "Use spaces.";
		findings_add(
		    f, s, &n, "a tab stands where indentation is read, and YAML does not allow it there");
		return;
	}
	if (says(problem, "cannot start any token")) {
		char c = char_at(s, pm);

		n.hint = "Put the text in quotes.";
		findings_add(f, s, &n, "a text cannot begin with '%c'", c >= 0x20 && c < 0x7f ? c : '?');
		return;
	}
	if ((says(problem, "expected key") || says(problem, "',' or") || says(problem, "'-' indicator") ||
		says(problem, "expected ':'") || says(problem, "mapping values") ||
		says(problem, "document start")) &&
	    find_long_quote(s, pm->line, &quote)) {
		n.at = at_mark(&quote);
		findings_add(f, s, &n,
		    "the quote opened here is closed only in line %u; one is probably missing before", line);
		return;
	}
	if (says(problem, "mapping values are not allowed") ||
	    (says(problem, "expected key") && char_at(s, pm) == ':')) {
		if (colon_before(s, line, pm->column)) {
			n.hint = "Put the value in quotes if the colon is part of it.";
			findings_add(
			    f, s, &n, "a second ': ' in one line; a value cannot hold it without quotes");
			return;
		}
		above = line_above(s, line);
		n.at.column = indent ? indent : n.at.column;
		if (above && source_indent(s, above) < indent) {
			snprintf(hint, sizeof(hint),
			    "Begin it in column %u like line %u, or end line %u with ':' alone.",
			    source_indent(s, above), above, above);
			n.hint = hint;
			findings_add(f, s, &n,
			    "this line is indented too far: it continues the value in line %u", above);
			return;
		}
		if (above && source_indent(s, above) == indent) {
			n.at = (struct span){ above, indent, 0 };
			n.hint = "A colon and a space belong between a key and its value.";
			findings_add(f, s, &n, "this is no 'key: value'");
			return;
		}
		findings_add(f, s, &n, "'key: value' is not allowed here");
		return;
	}
	if (says(problem, "could not find expected ':'")) {
		n.at = at_mark(cm);
		n.hint = "A colon and a space belong between a key and its value.";
		findings_add(f, s, &n, "this is no 'key: value'");
		return;
	}
	if (says(problem, "block sequence entries")) {
		n.hint = "Begin the list in a line of its own, below its key.";
		findings_add(f, s, &n, "a list item ('- ') is not allowed here");
		return;
	}
	if (says(problem, "expected key") || says(problem, "'-' indicator")) {
		bool list = says(problem, "'-'");

		if (indent == n.at.column) {
			above = line_above(s, line);
			if (indent == cm->column + 1)
				findings_add(f, s, &n, "expected %s, as in line %u",
				    list ? "a list item ('- ')" : "'key: value'", (unsigned)cm->line + 1);
			else
				findings_add(f, s, &n,
				    "the indentation fits nothing above: this line begins in column %u, line "
				    "%u in column %u",
				    indent, above, source_indent(s, above));
			return;
		}
		n.hint = "Put quotes around the whole value.";
		findings_add(f, s, &n, "there is something behind the end of the value");
		return;
	}
	if (says(problem, "',' or")) {
		bool list = says(problem, "']'");

		if (pm->line != cm->line) {
			n.at = at_mark(cm);
			findings_add(f, s, &n, "the '%c' opened here is not closed before line %u",
			    list ? '[' : '{', line);
			return;
		}
		findings_add(f, s, &n, "expected ',' or '%c'; the '%c' before it is in column %u",
		    list ? ']' : '}', list ? '[' : '{', (unsigned)cm->column + 1);
		return;
	}
	if (says(problem, "node content")) {
		char c = char_at(s, pm);

		if (c == '*' || c == '&' || c == '!' || c == '|' || c == '>' || c == '%' || c == '@' ||
		    c == '`')
			n.hint = "Put the text in quotes.";
		if (cm->line != pm->line && says(context, "flow")) {
			n.at = at_mark(cm);
			findings_add(f, s, &n, "what is opened here is not closed before line %u", line);
			return;
		}
		findings_add(f, s, &n, "expected a value here");
		return;
	}
	if (says(problem, "undefined alias")) {
		n.hint = "Put the text in quotes if the '*' is part of it.";
		findings_add(f, s, &n, "the alias that begins here names no anchor ('&') above it");
		return;
	}
	if (says(problem, "duplicate anchor")) {
		findings_add(
		    f, s, &n, "an anchor of this name was set in line %u already", (unsigned)cm->line + 1);
		return;
	}
	if (says(problem, "alphabetic or numeric")) {
		n.at = at_mark(cm);
		n.hint = "Put the text in quotes.";
		findings_add(f, s, &n, "'%c' at the beginning of a text has a meaning of its own in YAML",
		    says(context, "anchor") ? '&' : '*');
		return;
	}
	if (says(problem, "document start")) {
		findings_add(
		    f, s, &n, "this line does not belong to the map above it; check its indentation");
		return;
	}
	findings_add(f, s, &n, "%s%s%s", problem[0] ? problem : "this is not YAML", context ? " " : "",
	    context ? context : "");
}

int source_parse(struct source *s, struct findings *f)
{
	yaml_parser_t parser;
	yaml_document_t more;
	int r = 0;

	if (!yaml_parser_initialize(&parser))
		return -ENOMEM;
	yaml_parser_set_encoding(&parser, YAML_UTF8_ENCODING);
	yaml_parser_set_input_string(&parser, (const unsigned char *)s->data, s->size);
	if (!yaml_parser_load(&parser, &s->doc))
		goto broken;
	s->parsed = true;
	hide_environments(s);
	if (source_root(s)) {
		yaml_node_t *root;

		if (!yaml_parser_load(&parser, &more))
			goto broken;
		root = yaml_document_get_root_node(&more);
		if (root) {
			struct note n = { .code = "syntax", .at = at_mark(&root->start_mark) };

			hide_environments_by_text(s);
			n.hint = "Use `include` for further files.";
			findings_add(
			    f, s, &n, "a second document begins before this; one file is one document");
		}
		yaml_document_delete(&more);
	}
	goto out;
broken:
	if (parser.error == YAML_MEMORY_ERROR) {
		r = -ENOMEM;
		goto out;
	}
	hide_environments_by_text(s);
	tell_syntax(s, &parser, f);
out:
	yaml_parser_delete(&parser);
	return r;
}
