/* SPDX-License-Identifier: Apache-2.0 */
#include "config/expand.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

enum { MAX_DEPTH = 8, NAME_BYTES = 256 };

bool env_name_ok(const char *name)
{
	if (!isalpha((unsigned char)*name) && *name != '_')
		return false;
	for (; *name; name++)
		if (!isalnum((unsigned char)*name) && *name != '_')
			return false;
	return true;
}

static int wrong(struct expansion *x, size_t at, size_t size, const char *hint, const char *fmt, ...)
    __attribute__((format(printf, 5, 6)));

static int wrong(struct expansion *x, size_t at, size_t size, const char *hint, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(x->what, sizeof(x->what), fmt, ap);
	va_end(ap);
	snprintf(x->hint, sizeof(x->hint), "%s", hint);
	x->at = at;
	x->size = size;
	return 1;
}

/* The '}' that closes the "${" at @from, braces of inner variables counted; @size when there is none. */
static size_t closing_brace(const char *in, size_t from, size_t size)
{
	size_t depth = 0;

	for (size_t i = from; i < size; i++) {
		if (in[i] == '$' && i + 1 < size && in[i + 1] == '$')
			i++;
		else if (in[i] == '$' && i + 1 < size && in[i + 1] == '{') {
			depth++;
			i++;
		} else if (in[i] == '}' && --depth == 0)
			return i;
	}
	return size;
}

static int expand_range(
    struct expansion *x, const char *in, size_t from, size_t to, unsigned depth, struct text *out);

/* "${...}" from @at to the brace at @end. */
static int expand_variable(
    struct expansion *x, const char *in, size_t at, size_t end, unsigned depth, struct text *out)
{
	char name[NAME_BYTES], hint[NAME_BYTES + 80];
	size_t n = 0, from = at + 2, operator;
	const char *value;

	while (from + n < end && (isalnum((unsigned char)in[from + n]) || in[from + n] == '_'))
		n++;
	if (!n || n >= sizeof(name) || isdigit((unsigned char)in[from]))
		return wrong(
		    x, at, end + 1 - at, "Write $$ for a plain '$'.", "no name of a variable follows '${'");
	memcpy(name, in + from, n);
	name[n] = '\0';
	operator= from + n;
	if (operator < end && (end - operator < 2 || in[operator] != ':' || !strchr("-?", in[operator + 1])))
		return wrong(x, at, end + 1 - at, "There are ${VAR}, ${VAR:-otherwise} and ${VAR:?message}.",
		    "'${%s' is followed by something unknown", name);
	value = x->lookup ? x->lookup(x->userdata, name) : NULL;
	x->used_variable = true;
	if (value && (*value || operator== end)) {
		size_t size = strlen(value);

		if (utf8_valid_prefix(value, size) != size)
			return wrong(
			    x, at, end + 1 - at, "", "the value of variable '%s' is not UTF-8", name);
		text_add_bytes(out, value, size);
		return 0;
	}
	if (operator== end) {
		snprintf(hint, sizeof(hint), "Set it, or give a value with ${%.100s:-value}.", name);
		return wrong(x, at, end + 1 - at, hint, "variable '%s' is not set", name);
	}
	if (in[operator + 1] == '-')
		return expand_range(x, in, operator+ 2, end, depth + 1, out);
	return wrong(x, at, end + 1 - at, "", "variable '%s' is %s: %.*s", name, value ? "empty" : "not set",
	    (int)(end - operator- 2> 200 ? 200 : end - operator- 2), in + operator+ 2);
}

static int expand_range(
    struct expansion *x, const char *in, size_t from, size_t to, unsigned depth, struct text *out)
{
	char number[16];
	size_t i = from;

	if (depth > MAX_DEPTH)
		return wrong(x, from, to - from, "", "variables are nested more than %d deep", MAX_DEPTH);
	if (x->instance >= 0)
		snprintf(number, sizeof(number), "%d", x->instance);
	while (i < to) {
		size_t n = 0, end;
		int r;

		while (i + n < to && in[i + n] != '$' && (x->instance < 0 || in[i + n] != '%'))
			n++;
		text_add_bytes(out, in + i, n);
		i += n;
		if (i == to)
			break;
		if (in[i] == '%') {
			if (to - i >= 3 && in[i + 1] == '%' && in[i + 2] == 'i') {
				text_add(out, "%i");
				i += 3;
			} else if (to - i >= 2 && in[i + 1] == 'i') {
				text_add(out, number);
				i += 2;
			} else {
				text_add(out, "%");
				i++;
			}
			continue;
		}
		if (i + 1 < to && in[i + 1] == '$') {
			text_add(out, "$");
			i += 2;
			continue;
		}
		if (i + 1 >= to || in[i + 1] != '{') {
			text_add(out, "$");
			i++;
			continue;
		}
		end = closing_brace(in, i, to);
		if (end == to)
			return wrong(x, i, 2, "Write $$ for a plain '$'.", "'${' is never closed");
		r = expand_variable(x, in, i, end, depth, out);
		if (r)
			return r;
		if (out->size > EXPAND_MAX_BYTES)
			break;
		i = end + 1;
	}
	if (out->size > EXPAND_MAX_BYTES)
		return wrong(
		    x, from, to - from, "", "the text is longer than %d KiB", EXPAND_MAX_BYTES / 1024);
	return 0;
}

int expand_text(struct expansion *x, const char *in, size_t size, struct text *out)
{
	text_add_bytes(out, "", 0);
	return expand_range(x, in, 0, size, 0, out);
}

void words_free(struct word_list *w)
{
	for (size_t i = 0; i < w->n; i++)
		free(w->items[i].text);
	free(w->items);
	*w = (struct word_list){ 0 };
}

static bool is_operator(const char *p, size_t n)
{
	static const char *const operators[] = { "|", "||", "&", "&&", ";", "<", ">", ">>", "<<", "2>&1",
		"&>", "2>", "1>", "2>>", ">&2", "|&" };

	for (size_t i = 0; i < ARRAY_SIZE(operators); i++)
		if (strlen(operators[i]) == n && !memcmp(operators[i], p, n))
			return true;
	return n > 1 && p[n - 1] == ';';
}

int words_split(const char *in, struct word_list *ret, size_t *ret_at)
{
	struct word_list w = { 0 };
	size_t size = strlen(in), i = 0, room = 0;
	int r = -ENOMEM;

	for (;;) {
		_cleanup_text_ struct text t = { 0 };
		bool quoted = false;
		size_t from;
		char *word;

		while (i < size && isspace((unsigned char)in[i]))
			i++;
		if (i == size)
			break;
		from = i;
		while (i < size && !isspace((unsigned char)in[i])) {
			char c = in[i];
			size_t open = i;

			if (c == '$' && i + 1 < size && in[i + 1] == '{') {
				size_t end = closing_brace(in, i, size);

				if (end == size)
					end--; /* told when it is expanded */
				text_add_bytes(&t, in + i, end + 1 - i);
				i = end + 1;
			} else if (c == '\'') {
				quoted = true;
				for (i++; i < size && in[i] != '\''; i++)
					text_add_bytes(&t, in + i, 1);
				if (i == size)
					goto open_quote;
				i++;
				continue;
open_quote:
				*ret_at = open;
				words_free(&w);
				return 1;
			} else if (c == '"') {
				quoted = true;
				for (i++; i < size && in[i] != '"'; i++) {
					if (in[i] == '\\' && i + 1 < size && strchr("\"\\$`\n", in[i + 1])) {
						i++;
						if (in[i] == '\n')
							continue;
						if (in[i] == '$')
							text_add(&t,
							    "$"); /* "$$": a plain one when it is expanded */
					}
					text_add_bytes(&t, in + i, 1);
				}
				if (i == size)
					goto open_quote;
				i++;
			} else if (c == '\\') {
				quoted = true;
				if (i + 1 == size)
					goto open_quote;
				if (in[i + 1] == '$')
					text_add(&t, "$");
				if (in[i + 1] != '\n')
					text_add_bytes(&t, in + i + 1, 1);
				i += 2;
			} else {
				text_add_bytes(&t, &c, 1);
				i++;
			}
		}
		word = text_take(&t);
		if (!word)
			goto fail;
		if (w.n == room) {
			struct word_piece *p = realloc(w.items, (room = room ? room * 2 : 8) * sizeof(*p));

			if (!p) {
				free(word);
				goto fail;
			}
			w.items = p;
		}
		w.items[w.n++] =
		    (struct word_piece){ from, i - from, word, !quoted && is_operator(in + from, i - from) };
	}
	*ret = w;
	return 0;
fail:
	words_free(&w);
	return r;
}

int env_file_parse(const char *data, size_t size, env_line_fn on_line, env_wrong_fn on_wrong, void *userdata)
{
	size_t i = 0;
	unsigned line = 1;

	if (size >= 3 && !memcmp(data, "\xef\xbb\xbf", 3))
		i = 3;
	while (i < size) {
		_cleanup_text_ struct text value = { 0 };
		_cleanup_(freep) char *key = NULL;
		const char *bad = NULL;
		unsigned at = line;
		size_t from, n;
		char quote;
		int r;

		while (i < size && (data[i] == ' ' || data[i] == '\t' || data[i] == '\r'))
			i++;
		if (i < size && data[i] == '\n') {
			i++;
			line++;
			continue;
		}
		if (i == size)
			break;
		if (data[i] == '#' || data[i] == ';')
			goto next_line;
		if (size - i > 7 && !memcmp(data + i, "export ", 7))
			for (i += 7; i < size && data[i] == ' '; i++)
				;
		from = i;
		while (i < size && data[i] != '=' && data[i] != '\n')
			i++;
		if (i == size || data[i] == '\n') {
			on_wrong(userdata, at, "this is no KEY=VALUE line: there is no '='");
			goto next_line;
		}
		n = i - from;
		key = strndup(data + from, n);
		if (!key)
			return -ENOMEM;
		i++;
		if (strlen(key) != n || !env_name_ok(key)) {
			bad = n && (key[n - 1] == ' ' || key[n - 1] == '\t')
				  ? "a blank stands before the '='"
				  : "what stands before the '=' is no name of a variable (letters, digits "
				    "and '_')";
		}
		text_add_bytes(&value, "", 0);
		quote = i < size ? data[i] : '\0';
		if (quote == '"' || quote == '\'') {
			for (i++; i < size && data[i] != quote; i++) {
				char c = data[i];

				if (c == '\\' && quote == '"' && i + 1 < size &&
				    strchr("nt\"\\$`", data[i + 1])) {
					c = data[++i];
					c = c == 'n' ? '\n' : c == 't' ? '\t' : c;
				} else if (c == '\n')
					line++;
				text_add_bytes(&value, &c, 1);
			}
			if (i == size) {
				on_wrong(userdata, at, "the quote in this line is never closed");
				break;
			}
			i++;
			while (i < size && (data[i] == ' ' || data[i] == '\t' || data[i] == '\r'))
				i++;
			if (i < size && data[i] != '\n' && data[i] != '#')
				bad = bad ? bad : "there is something behind the closing quote";
		} else {
			from = i;
			while (i < size && data[i] != '\n' &&
			       !(data[i] == '#' && (i == from || data[i - 1] == ' ' || data[i - 1] == '\t')))
				i++;
			n = i;
			while (n > from && (data[n - 1] == ' ' || data[n - 1] == '\t' || data[n - 1] == '\r'))
				n--;
			text_add_bytes(&value, data + from, n - from);
		}
		if (value.failed)
			return -ENOMEM;
		if (!bad && memchr(value.data, '\0', value.size))
			bad = "the value holds a NUL byte";
		if (!bad && utf8_valid_prefix(value.data, value.size) != value.size)
			bad = "the value is not UTF-8";
		if (!bad && value.size > EXPAND_MAX_BYTES)
			bad = "the value is longer than 128 KiB";
		if (bad)
			on_wrong(userdata, at, bad);
		else {
			r = on_line(userdata, key, value.data);
			if (r)
				return r;
		}
next_line:
		while (i < size && data[i] != '\n')
			i++;
		if (i < size) {
			i++;
			line++;
		}
	}
	return 0;
}
