/* SPDX-License-Identifier: Apache-2.0 */
#include "capture/fingerprint.h"

#include <stdio.h>
#include <string.h>
#include <xxhash.h>

#include "base/text.h"

enum {
	GROUP_FRAMES = 5,
	EXACT_FRAMES = 8,
	PERIOD_NAMES = 3,
};

/* Ends in '*': the beginning is enough. Between the signal and what called for it. */
static const char *const above[] = { "raise", "gsignal", "__pthread_kill*", "pthread_kill*", "__GI_raise", "__GI_abort",
	"abort", "__libc_message*", "malloc_printerr", "__libc_fatal", "__assert*", "__GI___assert*", "__fortify_fail*",
	"__chk_fail", "__stack_chk_fail*", "_int_free*", "_int_malloc", "_int_realloc", "malloc_consolidate", "unlink_chunk*",
	"__cxxabiv1::*", "__cxa_throw", "__cxa_rethrow", "__cxa_pure_virtual", "std::terminate*", "std::__throw_*",
	"__gnu_cxx::__verbose_terminate_handler*", "_Unwind_*", "std::panicking::*", "core::panicking::*",
	"rust_begin_unwind", "rust_panic*", "__rust_start_panic*", "panic_abort::*", "std::sys::*::abort_internal",
	"std::process::abort", "__rust_end_short_backtrace", "std::sys_common::backtrace::__rust_end_short_backtrace*",
	"runtime.gopanic", "runtime.sigpanic", "runtime.fatalpanic*", "runtime.throw*", "runtime.raise*", "runtime.dieFromSignal*",
	"runtime.crash", "runtime.panic*", "runtime.sighandler", "runtime.sigtramp*", "__sanitizer::*", "__asan::*",
	"__ubsan::*", "__interceptor_*", "<signal handler called>" };

/* Between the system's entry and the program. */
static const char *const below[] = { "_start", "__libc_start_main*", "__libc_start_call_main", "start_thread", "clone",
	"__clone*", "clone3", "__clone3", "runtime.goexit*", "runtime.main", "runtime.mcall*", "runtime.rt0_go*",
	"std::rt::lang_start*", "__rust_begin_short_backtrace*", "std::sys_common::backtrace::__rust_begin_short_backtrace*",
	"std::rt::*", "std::sys::*thread*", "core::ops::function::FnOnce::call_once*" };

static bool matches(const char *name, const char *const *list, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		const char *p = list[i], *star = strchr(p, '*');
		size_t head = star ? (size_t)(star - p) : 0;

		if (!star && !strcmp(name, p))
			return true;
		if (star && !strncmp(name, p, head) && (!star[1] || strstr(name + head, star + 1)))
			return true;
	}
	return false;
}

static cJSON *crashed_frames(const cJSON *report)
{
	const cJSON *thread;

	cJSON_ArrayForEach(thread, json_get_array(report, "threads")) {
		if (json_get_bool(thread, "crashed", false))
			return (cJSON *)(uintptr_t)json_get_array(thread, "frames");
	}
	return NULL;
}

/*
 * The last frame of the machinery on top, or NULL. Functions of system libraries without a name (libstdc++ has such between
 * abort() and std::terminate()) belong to it if named ones follow, or if they are of the library that aborts: without its
 * debug symbols, libc has no names for what lies between free() and abort().
 */
static const cJSON *find_machinery(const cJSON *frames)
{
	const cJSON *f, *last = NULL;
	const char *module = NULL;

	cJSON_ArrayForEach(f, frames) {
		const char *function = json_get_string(f, "function", NULL);

		if (function && matches(function, above, ARRAY_SIZE(above))) {
			last = f;
			module = json_get_string(f, "module", NULL);
		} else if (function || !json_get_bool(f, "system", false)) {
			break;
		} else if (last == f->prev && module && !strcmp(module, json_get_string(f, "module", ""))) {
			last = f;
		}
	}
	return last;
}

void fingerprint_mark_noise(cJSON *report)
{
	bool reraised = json_get_bool(json_get_object(report, "signal"), "reraised", false);
	cJSON *thread, *f;

	cJSON_ArrayForEach(thread, (cJSON *)(uintptr_t)json_get_array(report, "threads")) {
		cJSON *frames = (cJSON *)(uintptr_t)json_get_array(thread, "frames");
		const cJSON *last = NULL;

		if (reraised && json_get_bool(thread, "crashed", false)) {
			/* what the program's own handler did, before it raised what it had caught */
			cJSON_ArrayForEach(f, frames) {
				if (json_get_bool(f, "signal_frame", false))
					last = f;
			}
		}
		if (!last)
			last = find_machinery(frames);
		cJSON_ArrayForEach(f, frames) {
			const char *function = json_get_string(f, "function", NULL);

			if (last || (function && matches(function, below, ARRAY_SIZE(below))))
				json_add_bool(f, "noise", true);
			if (f == last)
				last = NULL;
		}
	}
}

char *fingerprint_normalize(const char *function, char *ret, size_t size)
{
	static const char *const suffixes[] = { ".isra", ".part", ".cold", ".constprop", ".lto_priv", ".llvm.", " [clone" };
	static const char *const variants[] = { "_evex", "_avx2", "_avx512", "_avx_", "_sse2", "_sse4", "_ssse3", "_erms" };
	size_t n = 0, len;
	int depth = 0;

	for (const char *p = function; *p && n + 1 < size; p++) {
		bool op = n >= 8 && !strncmp(ret + n - 8, "operator", 8);

		if (!strncmp(p, "[abi:", 5)) {
			const char *end = strchr(p, ']');

			if (end) {
				p = end;
				continue;
			}
		}
		if (*p == '<' && !op && ++depth > 1)
			continue;
		if (*p == '>' && !op && depth && !(p > function && p[-1] == '-') && depth-- > 1)
			continue;
		if (depth > 1)
			continue;
		ret[n++] = *p;
	}
	ret[n] = '\0';
	for (size_t i = 0; i < ARRAY_SIZE(suffixes); i++) {
		char *at = strstr(ret, suffixes[i]);

		if (at && at != ret)
			*at = '\0';
	}
	len = strlen(ret);
	if (len > 19 && !strncmp(ret + len - 19, "::h", 3) && strspn(ret + len - 16, "0123456789abcdef") == 16)
		ret[len - 19] = '\0';
	if (!strncmp(ret, "__", 2)) { /* __strlen_evex and its like: chosen by the processor */
		for (size_t i = 0; i < ARRAY_SIZE(variants); i++) {
			char *at = strstr(ret, variants[i]);

			if (at && at > ret + 2) {
				*at = '\0';
				memmove(ret, ret + 2, strlen(ret + 2) + 1);
				break;
			}
		}
	}
	return ret;
}

static const char *base_name(const char *path)
{
	const char *slash = strrchr(path, '/');

	return slash && slash[1] ? slash + 1 : path;
}

static void add_hash(cJSON *j, const char *key, const struct text *t)
{
	char hex[17];

	snprintf(hex, sizeof(hex), "%016llx", (unsigned long long)XXH3_64bits(t->data ? t->data : "", t->size));
	json_add_text(j, key, hex);
}

static void add_place(struct text *t, const cJSON *f)
{
	const char *build_id = json_get_string(f, "build_id", NULL), *module = json_get_string(f, "module", "?");

	text_addf(t, "|%s+%s", build_id ? build_id : base_name(module), json_get_string(f, "offset", "?"));
}

void fingerprint_add(cJSON *report)
{
	const cJSON *s = json_get_object(report, "signal"), *f, *exe = json_get_object(report, "process");
	_cleanup_text_ struct text group = { 0 }, exact = { 0 };
	cJSON *frames = crashed_frames(report), *result;
	const char *name = s ? json_get_string(s, "name", "?") : "?";
	char last[PERIOD_NAMES][256], function[1024];
	unsigned n_group = 0, n_exact = 0;

	memset(last, 0, sizeof(last));
	text_addf(&group, "1|%s", name);
	text_addf(&exact, "1|%s|%s", name, s ? json_get_string(s, "code_name", "?") : "?");
	cJSON_ArrayForEach(f, frames) {
		bool repeat = false;

		if (json_get_bool(f, "noise", false) || !strcmp(json_get_string(f, "trust", ""), "scan"))
			continue;
		if (n_exact < EXACT_FRAMES && !json_get_bool(f, "inlined", false)) {
			add_place(&exact, f);
			n_exact++;
		}
		if (n_group >= GROUP_FRAMES)
			continue;
		if (json_get_string(f, "function", NULL)) {
			fingerprint_normalize(json_get_string(f, "function", ""), function, sizeof(function));
			for (size_t i = 0; i < PERIOD_NAMES; i++)
				repeat |= !strncmp(last[i], function, sizeof(last[i]) - 1);
			memmove(last[1], last[0], sizeof(last) - sizeof(last[0]));
			snprintf(last[0], sizeof(last[0]), "%.255s", function);
			if (repeat) /* recursion, however deep it was this time */
				continue;
			text_addf(&group, "|%s", function);
		} else if (json_get_string(f, "module", NULL)) {
			add_place(&group, f);
		} else {
			continue;
		}
		n_group++;
	}
	if (!n_group) {
		text_addf(&group, "|%s|%s", s ? json_get_string(s, "kind", "?") : "?",
		    exe ? json_get_string(exe, "build_id", json_get_string(exe, "exe", "?")) : "?");
		text_add(&exact, group.data);
	}
	cJSON_DeleteItemFromObjectCaseSensitive(report, "fingerprint");
	if (group.failed || exact.failed)
		return;
	result = json_add_object(report, "fingerprint");
	add_hash(result, "group", &group);
	add_hash(result, "exact", &exact);
}
