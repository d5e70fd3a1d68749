/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The whole way of a crash: a real program with the agent in it, or traced; the capture threads; the snapshot file; the
 * real symbolizer; the report. Programs are in tests/fixtures; the line that must be found is marked in their source.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/file.h"
#include "base/json.h"
#include "base/paths.h"
#include "base/proc.h"
#include "base/text.h"
#include "capture/capture.h"
#include "capture/report.h"

enum {
	EVENT_MS = 20000, /* a loaded machine, and sanitizers */
	EXIT_MS = 20000,
};

/* The beginning of /proc/PID/syscall in pause(2): the call of its own, or ppoll(2) where there is none. */
#ifdef SYS_pause
#define PAUSE_CALL "34 "
#else
#define PAUSE_CALL "73 "
#endif

static char build[PATH_MAX], runtime_[PATH_MAX];

struct outcome {
	int status;
	pid_t pid;
	struct capture_event event;
	cJSON *report;
	cJSON *tail;
	uint64_t died_ms; /* how long the process lived */
};

static void outcome_free(struct outcome *o)
{
	cJSON_Delete(o->report);
	cJSON_Delete(o->tail);
	*o = (struct outcome){ 0 };
}
#define _cleanup_outcome_ _cleanup_(outcome_free)

static bool owns_all(pid_t pid, void *userdata)
{
	(void)userdata;
	return pid > 0;
}

static const char *fixture(const char *name)
{
	static char path[PATH_MAX + 64];

	snprintf(path, sizeof(path), "%s/tests/fixtures/%s", build, name);
	return path;
}

static cJSON *read_lines(int fd)
{
	cJSON *a = cJSON_CreateArray();
	char buf[16384], *save = NULL;
	ssize_t n = read_full(fd, buf, sizeof(buf) - 1);

	buf[n > 0 ? n : 0] = '\0';
	for (char *l = strtok_r(buf, "\n", &save); l; l = strtok_r(NULL, "\n", &save)) {
		cJSON *o = cJSON_CreateObject();

		json_add_time(o, "time", clock_now_us());
		json_add_text(o, "stream", "stderr");
		json_add_text(o, "text", l);
		cJSON_AddItemToArray(a, o);
	}
	return a;
}

static struct capture *start(void)
{
	struct capture_options o = { .runtime = runtime_, .owns = owns_all };
	struct capture *c = NULL;
	struct error err = { "" };

	if (capture_start(&c, &o, &err) < 0)
		fail_msg("%s", err.text);
	return c;
}

/* Forks @program; its standard error goes to @ret_err. With @gate_fd, waits for a byte there first. */
static pid_t launch(const char *program, const char *what, bool agent, int gate_fd, int err_fd)
{
	static char preload[PATH_MAX * 2], socket_name[PATH_MAX];
	struct error err;
	pid_t pid;

	if (agent)
		assert_int_equal(capture_environment(runtime_, NULL, preload, socket_name, sizeof(socket_name), &err), 0);
	pid = fork();
	if (!pid) {
		struct rlimit none = { 0, 0 };
		int null = open("/dev/null", O_RDWR);
		char go;

		setrlimit(RLIMIT_CORE, &none);
		alarm(120); /* does not outlive a test that failed */
		setsid();
		dup2(null, 0);
		dup2(null, 1);
		dup2(err_fd, 2);
		if (gate_fd >= 0)
			(void)!read(gate_fd, &go, 1);
		unsetenv("LD_PRELOAD");
		setenv("SUPERVISE_DAEMON", "train/0", 1);
		if (agent) {
			putenv(preload);
			putenv(socket_name);
		}
		execl(program, program, what, (char *)NULL);
		_exit(127);
	}
	assert_true(pid > 0);
	return pid;
}

static int wait_for(pid_t pid, uint64_t *ret_ms)
{
	_cleanup_(closep) int pidfd = pidfd_open_(pid);
	struct pollfd p = { .fd = pidfd, .events = POLLIN };
	siginfo_t si = { 0 };

	if (poll(&p, 1, EXIT_MS) != 1) {
		kill(pid, SIGKILL);
		fail_msg("pid %d did not end", (int)pid);
	}
	*ret_ms = clock_mono_ms();
	/* as the supervisor does */
	assert_int_equal(waitid((idtype_t)P_PIDFD, (id_t)pidfd, &si, WEXITED | WNOHANG | __WNOTHREAD), 0);
	assert_int_equal(si.si_pid, pid);
	return si.si_code == CLD_EXITED ? si.si_status << 8 : si.si_status;
}

static bool next_event(struct capture *c, struct capture_event *ret, int timeout_ms)
{
	struct pollfd p = { .fd = capture_get_fd(c), .events = POLLIN };
	uint64_t until = clock_mono_ms() + (uint64_t)timeout_ms;

	for (;;) {
		uint64_t now = clock_mono_ms();

		if (capture_next(c, ret) == 1)
			return true;
		if (now >= until || poll(&p, 1, (int)(until - now)) == 0)
			return false;
	}
}

static cJSON *symbolize(const struct capture_event *e, cJSON *raw)
{
	_cleanup_(freep) char *text = json_print(raw), *out = NULL;
	_cleanup_(closep) int snap = -1, raw_fd = -1, out_fd = -1;
	char path[PATH_MAX], program[PATH_MAX];
	struct error err = { "" };
	cJSON *j = NULL;
	size_t size;
	struct stat st;
	int status;
	pid_t pid;

	path_format(path, sizeof(path), runtime_, "pending/%s", e->snapshot);
	snap = open(path, O_RDONLY | O_CLOEXEC);
	assert_true(snap >= 0);
	assert_int_equal(fstat(snap, &st), 0);
	assert_int_equal(st.st_mode & 07777, 0600);
	unlink(path);
	path_format(path, sizeof(path), runtime_, "raw");
	assert_int_equal(file_replace(AT_FDCWD, path, text, strlen(text), 0600, 0), 0);
	raw_fd = open(path, O_RDONLY | O_CLOEXEC);
	path_format(path, sizeof(path), runtime_, "out");
	out_fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	assert_int_equal(paths_helper("supervise-symbolizer", program, &err), 0);
	pid = fork();
	if (!pid) {
		int a = fcntl(snap, F_DUPFD, 10), b = fcntl(out_fd, F_DUPFD, 10), c = fcntl(raw_fd, F_DUPFD, 10);

		dup2(a, 0);
		dup2(b, 1);
		dup2(c, 3);
		close(a);
		close(b);
		close(c);
		execl(program, program, (char *)NULL);
		_exit(127);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
	assert_int_equal(file_read(AT_FDCWD, path, 64 << 20, &out, &size), 0);
	if (json_parse(out, size, &j, &err) < 0)
		fail_msg("%s", err.text);
	return j;
}

static void make_report(struct outcome *o, const char *what, enum capture_mode mode)
{
	static const char *argv[] = { "crash", "--token", "hunter2", "--db=postgres://u:hunter2@h/x", NULL };
	_cleanup_json_ cJSON *raw = NULL;
	struct crash_context c = { .project = "test", .host = "here", .boot_id = proc_boot_id(), .daemon = what,
		.run = "run-1", .argv = argv, .directory = "/", .uid = getuid(), .pid = o->pid,
		.started_us = clock_now_us() - 1000000, .died_us = clock_now_us(), .status_known = true, .status = o->status,
		.next = "none", .capture_mode = capture_mode_to_string(mode), .capture_reason = "test",
		.held_us = o->event.held_us, .snapshot_pid = o->event.pid, .tail = o->tail, .all_threads = true,
		.source_lines = 3, .id = uuid_make_v7(0) };

	raw = report_new_raw(&c);
	assert_non_null(raw);
	o->report = symbolize(&o->event, raw);
}

/* SUPERVISE_TEST_SHOW=FILE: all reports, for whoever works on them. */
static void show(const struct outcome *o)
{
	_cleanup_(freep) char *all = json_print_pretty(o->report);
	_cleanup_text_ struct text t = { 0 };
	struct report_render_options ro = { .width = 120, .utf8 = true, .full = true };
	_cleanup_(fclosep) FILE *f = getenv("SUPERVISE_TEST_SHOW") ? fopen(getenv("SUPERVISE_TEST_SHOW"), "a") : NULL;

	if (!f)
		return;
	report_render(o->report, &ro, &t);
	fprintf(f, "%s\n%s\n", all, t.data);
}

static void crash(struct outcome *o, const char *program, const char *what, enum capture_mode mode)
{
	_cleanup_(capture_stopp) struct capture *c = start();
	uint64_t began = clock_mono_ms(), ended;
	int gate[2] = { -1, -1 }, err[2];

	assert_int_equal(pipe2(err, O_CLOEXEC), 0);
	if (mode == CAPTURE_PTRACE)
		assert_int_equal(pipe2(gate, O_CLOEXEC), 0);
	o->pid = launch(fixture(program), what, mode == CAPTURE_PRELOAD, gate[0], err[1]);
	close(err[1]);
	if (mode == CAPTURE_PTRACE) {
		close(gate[0]);
		assert_int_equal(capture_trace(c, o->pid, gate[1]), 0);
	}
	o->status = wait_for(o->pid, &ended);
	o->died_ms = ended - began;
	if (!next_event(c, &o->event, EVENT_MS))
		fail_msg("no event for %s %s", program, what);
	assert_int_equal(o->event.kind, CAPTURE_EVENT_SNAPSHOT);
	o->tail = read_lines(err[0]);
	close(err[0]);
	make_report(o, what, mode);
	show(o);
}

/* --- looking at a report ------------------------------------------------------------------------------------------- */

static const cJSON *crashed(const struct outcome *o)
{
	const cJSON *t;

	cJSON_ArrayForEach(t, json_get_array(o->report, "threads")) {
		if (json_get_bool(t, "crashed", false))
			return t;
	}
	fail_msg("no crashed thread");
	return NULL;
}

static void explain(const struct outcome *o)
{
	print_message("# %s\n# %s\n", json_get_string(json_get_object(o->report, "summary"), "sentence", "-"),
	    json_get_string(o->report, "traceback", "-"));
}

/* The crashed thread's frames that are not noise begin with these functions ("*": any one). */
static void expect_frames(const struct outcome *o, const char *names)
{
	char copy[512], *save = NULL;
	const cJSON *f = json_get_array(crashed(o), "frames")->child;

	snprintf(copy, sizeof(copy), "%s", names);
	for (char *name = strtok_r(copy, " ", &save); name; name = strtok_r(NULL, " ", &save)) {
		while (f && json_get_bool(f, "noise", false) && strcmp(name, "noise") != 0)
			f = f->next;
		if (!f || (strcmp(name, "*") != 0 && strcmp(json_get_string(f, "function", "?"), name) != 0)) {
			explain(o);
			fail_msg("expected frame %s, have %s", name, f ? json_get_string(f, "function", "?") : "none");
		}
		f = f->next;
	}
}

/* The line shown as the place of the crash carries this mark in its source. */
static void expect_mark(const struct outcome *o, const char *mark)
{
	const cJSON *f, *l;
	char text[64];

	snprintf(text, sizeof(text), "MARK %s", mark);
	cJSON_ArrayForEach(f, json_get_array(crashed(o), "frames")) {
		cJSON_ArrayForEach(l, json_get_array(f, "source")) {
			if (json_get_bool(l, "crash", false) && strstr(json_get_string(l, "text", ""), text)) {
				assert_int_equal(json_get_i64(l, "line", -1), json_get_i64(f, "line", -2));
				return;
			}
		}
	}
	explain(o);
	fail_msg("no line with %s", text);
}

static void expect_sentence(const struct outcome *o, const char *part)
{
	const char *s = json_get_string(json_get_object(o->report, "summary"), "sentence", "");

	if (!strstr(s, part))
		fail_msg("\"%s\" is not in \"%s\"", part, s);
}

static void expect_trust(const struct outcome *o, const char *trust, size_t n)
{
	const cJSON *f = json_get_array(crashed(o), "frames")->child;

	for (size_t i = 0; i < n; i++, f = f->next) {
		assert_non_null(f);
		if (i && strcmp(json_get_string(f, "trust", ""), trust) != 0) {
			explain(o);
			fail_msg("frame %zu is %s", i, json_get_string(f, "trust", "?"));
		}
	}
}

/* --- the cases ----------------------------------------------------------------------------------------------------- */

struct expectation {
	const char *program, *what;
	int signal;
	const char *frames, *mark, *sentence;
};

static const struct expectation cases[] = {
	{ "crash", "null-write", SIGSEGV, "h g f main", "null-write", "segmentation fault" },
	{ "crash", "read-member", SIGSEGV, "read_member main", "read-member", "address 0x18 in read_member (crash.c:" },
	{ "crash", "abort", SIGABRT, "die main", "abort", "aborted in die (crash.c:" },
	{ "crash", "divide", SIGFPE, "divide main", "divide", "integer division by zero in divide (crash.c:" },
	{ "crash", "double-free", SIGABRT, "* free_twice main", NULL, "aborted: " },
	{ "crash", "illegal", SIGILL, "main", NULL, "illegal instruction in main" },
	{ "crash", "bus", SIGBUS, "touch bus main", "bus", "bus error at address" },
	{ "crash", "sigsys", SIGSYS, "* forbidden main", NULL, "forbidden by a seccomp filter" },
	{ "crash", "call-null", SIGSEGV, "* call_null main", NULL, "calling a null function pointer in call_null" },
	{ "crash", "call-wild", SIGSEGV, "* call_null main", NULL, "executing address 0x123450000" },
	{ "crash", "overflow", SIGSEGV, "rec rec", NULL, "stack overflow in rec (crash.c:" },
	{ "crash", "thread-overflow", SIGSEGV, "rec rec", NULL, "stack overflow in rec (crash.c:" },
	{ "crash", "reraise", SIGSEGV, "h g f main", "null-write", "segmentation fault writing address 0x0 in h" },
	{ "crash", "reraise-altstack", SIGSEGV, "rec rec", NULL, "stack overflow in rec" },
	{ "crash", "reraise-nodefer", SIGSEGV, "h g f main", "null-write", "segmentation fault writing address 0x0 in h" },
	{ "crash", "in-handler", SIGSEGV, "h on_usr1 <signal", "null-write", "in h (crash.c:" },
	{ "crash", "thread", SIGSEGV, "h g f crash_thread", "null-write", "in h (crash.c:" },
	{ "crash", "main-exited", SIGSEGV, "h late_thread", "null-write", "in h (crash.c:" },
	{ "crash-cpp", "throw", SIGABRT, "ns::Widget<int>::explode main", "throw", "widget is full: 2" },
	{ "crash-cpp", "template", SIGSEGV, "ns::Widget<int>::write main", "template-write", "in ns::Widget<int>::write" },
	{ "crash-cpp", "virtual", SIGSEGV, "ns::Derived::value main", "virtual-read", "in ns::Derived::value" },
	{ "crash-cpp", "inline", SIGSEGV, "deref middle outer main", "inlined-write", "in deref (crash_cpp.cc:" },
	{ "crash-cpp", "lambda", SIGSEGV, NULL, NULL, "crash_cpp.cc:" },
	{ "crash-cpp", "thread", SIGABRT, "ns::Widget<long>::explode", "throw", "widget is full: 9" },
	{ "crash-lld", "null-write", SIGSEGV, "h g f main", "null-write", "in h (crash.c:" },
	{ "crash-lld", "abort", SIGABRT, "die main", "abort", "aborted in die (crash.c:" },
};

static void check_case(const struct expectation *e, enum capture_mode mode)
{
	_cleanup_outcome_ struct outcome o = { 0 };
	const cJSON *fp;

	if (access(fixture(e->program), X_OK) < 0) {
		print_message("# no %s: left out\n", e->program);
		return;
	}
	print_message("# %s %s, %s\n", e->program, e->what, capture_mode_to_string(mode));
	crash(&o, e->program, e->what, mode);
	assert_true(WIFSIGNALED(o.status));
	assert_int_equal(WTERMSIG(o.status), e->signal);
	assert_int_equal(o.event.signal, e->signal);
	assert_int_equal(o.event.pid, o.pid);
	assert_true(json_get_bool(o.report, "complete", false));
	if (e->frames) {
		char names[256];

		snprintf(names, sizeof(names), "%s", e->frames);
		if (strstr(names, " <signal")) { /* the name has blanks */
			*strstr(names, " <signal") = '\0';
			expect_frames(&o, names);
			assert_non_null(strstr(json_get_string(o.report, "traceback", ""), "<signal handler called>"));
			assert_non_null(strstr(json_get_string(o.report, "traceback", ""), "work (crash.c:"));
		} else {
			expect_frames(&o, names);
		}
	}
	if (e->mark)
		expect_mark(&o, e->mark);
	if (mode == CAPTURE_PTRACE && strstr(e->sentence, " writing address")) /* ptrace(2) does not tell what it wanted to do */
		expect_sentence(&o, "segmentation fault");
	else
		expect_sentence(&o, e->sentence);
	fp = json_get_object(o.report, "fingerprint");
	assert_non_null(fp);
	assert_int_equal(strlen(json_get_string(fp, "group", "")), 16);
	assert_int_equal(strlen(json_get_string(fp, "exact", "")), 16);
	assert_string_equal(o.event.daemon, "train/0");
	assert_true(o.event.held_us < 1000000);
}

static void test_crashes_are_explained_with_the_agent(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++)
		check_case(&cases[i], CAPTURE_PRELOAD);
}

static void test_crashes_are_explained_when_traced(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++)
		check_case(&cases[i], CAPTURE_PTRACE);
}

static void test_a_read_and_a_write_are_told_apart(void **state)
{
	_cleanup_outcome_ struct outcome a = { 0 }, b = { 0 };

	(void)state;
	crash(&a, "crash", "null-write", CAPTURE_PRELOAD);
	expect_sentence(&a, "segmentation fault writing address 0x0 in h (crash.c:");
	crash(&b, "crash", "read-member", CAPTURE_PRELOAD);
	expect_sentence(&b, "segmentation fault reading address 0x18 in read_member (crash.c:");
}

static void test_recursion_is_folded(void **state)
{
	_cleanup_outcome_ struct outcome o = { 0 };
	int64_t repeated = 0;
	const cJSON *f;

	(void)state;
	crash(&o, "crash", "overflow", CAPTURE_PRELOAD);
	cJSON_ArrayForEach(f, json_get_array(crashed(&o), "frames")) {
		repeated += json_get_i64(f, "repeated", 0);
	}
	assert_true(repeated > 500);
	assert_true(cJSON_GetArraySize(json_get_array(crashed(&o), "frames")) < 20);
	assert_string_equal(json_get_string(json_get_object(o.report, "signal"), "kind", ""), "stack overflow");
}

static void test_a_stripped_program_gives_module_and_offset(void **state)
{
	_cleanup_outcome_ struct outcome o = { 0 };
	const cJSON *f;
	int n = 0;

	(void)state;
	crash(&o, "crash-stripped", "null-write", CAPTURE_PRELOAD);
	cJSON_ArrayForEach(f, json_get_array(crashed(&o), "frames")) {
		const char *module = json_get_string(f, "module", "");

		if (!strstr(module, "crash-stripped"))
			break;
		assert_null(json_get_string(f, "function", NULL));
		assert_true(json_get_i64(f, "index", -1) == n);
		n++;
	}
	assert_int_equal(n, 4); /* h, g, f, main */
	expect_sentence(&o, "in crash-stripped+0x");
}

static void test_without_unwind_tables_frames_are_guessed_and_say_so(void **state)
{
	_cleanup_outcome_ struct outcome o = { 0 };

	(void)state;
	crash(&o, "crash-no-tables", "null-write", CAPTURE_PRELOAD);
	expect_frames(&o, "h g f main");
	expect_trust(&o, "fp", 3);
}

static void test_a_static_program_is_captured_when_traced(void **state)
{
	_cleanup_outcome_ struct outcome o = { 0 };

	(void)state;
	if (access(fixture("crash-static"), X_OK) < 0)
		return;
	crash(&o, "crash-static", "null-write", CAPTURE_PTRACE);
	expect_frames(&o, "h g f main");
}

static void check_threads(enum capture_mode mode)
{
	_cleanup_outcome_ struct outcome o = { 0 };
	const cJSON *t;
	int n = 0, same = 0;

	/* a loaded machine may not get all of them to stop in time, which the report then says */
	for (int i = 0; i < 5 && (!i || cJSON_GetArraySize(json_get_array(json_get_object(o.report, "capture"), "notes"))); i++) {
		outcome_free(&o);
		crash(&o, "crash", "threads", mode);
	}
	expect_frames(&o, "h g f many_threads main");
	cJSON_ArrayForEach(t, json_get_array(o.report, "threads")) {
		n++;
		same += json_get_i64(t, "same_as", 0) != 0;
		if (json_get_bool(t, "not_stopped", false)) {
			print_message("# not all threads stopped in time: left out\n");
			return;
		}
	}
	assert_int_equal(n, 65);
	assert_true(same > 40); /* two depths of recursion */
	assert_non_null(strstr(json_get_string(o.report, "traceback", ""), "deep (crash.c:"));
	print_message("# 65 threads, %s: held %llu us\n", capture_mode_to_string(mode), (unsigned long long)o.event.held_us);
}

static void test_all_threads_are_in_the_report(void **state)
{
	(void)state;
	check_threads(CAPTURE_PRELOAD);
	check_threads(CAPTURE_PTRACE);
}

static void wait_until_paused(pid_t pid)
{
	char path[64];

	snprintf(path, sizeof(path), "/proc/%d/syscall", (int)pid);
	for (int i = 0; i < 2000; i++) {
		_cleanup_(freep) char *text = NULL;

		if (file_read(AT_FDCWD, path, 1024, &text, NULL) == 0 && !strncmp(text, PAUSE_CALL, strlen(PAUSE_CALL)))
			return;
		usleep(5000);
	}
	fail_msg("pid %d does not wait", (int)pid);
}

static void check_sent_signal(enum capture_mode mode)
{
	_cleanup_(capture_stopp) struct capture *c = start();
	_cleanup_outcome_ struct outcome o = { 0 };
	int gate[2] = { -1, -1 }, null = open("/dev/null", O_WRONLY | O_CLOEXEC);
	uint64_t ended;

	if (mode == CAPTURE_PTRACE)
		assert_int_equal(pipe2(gate, O_CLOEXEC), 0);
	o.pid = launch(fixture("crash"), "wait", mode == CAPTURE_PRELOAD, gate[0], null);
	close(null);
	if (mode == CAPTURE_PTRACE) {
		close(gate[0]);
		assert_int_equal(capture_trace(c, o.pid, gate[1]), 0);
	}
	wait_until_paused(o.pid);
	kill(o.pid, SIGSEGV);
	o.status = wait_for(o.pid, &ended);
	assert_true(next_event(c, &o.event, EVENT_MS));
	make_report(&o, "wait", mode);
	assert_int_equal(WTERMSIG(o.status), SIGSEGV);
	expect_frames(&o, "* waiting main");
	expect_sentence(&o, "SIGSEGV sent by pid ");
	assert_int_equal(json_get_i64(json_get_object(json_get_object(o.report, "signal"), "sender"), "pid", 0), getpid());
}

static void test_a_signal_from_outside_names_its_sender(void **state)
{
	(void)state;
	check_sent_signal(CAPTURE_PRELOAD);
	check_sent_signal(CAPTURE_PTRACE);
}

/* Upgraded or removed while it runs: what is in memory is enough to unwind, and no other file gives it wrong names. */
static void test_a_program_whose_file_is_gone_is_unwound(void **state)
{
	_cleanup_(capture_stopp) struct capture *c = start();
	_cleanup_outcome_ struct outcome o = { 0 };
	_cleanup_(freep) char *data = NULL;
	char path[PATH_MAX];
	const cJSON *f, *m;
	uint64_t ended;
	size_t size;
	int n = 0;

	(void)state;
	path_format(path, sizeof(path), runtime_, "short-lived");
	assert_int_equal(file_read(AT_FDCWD, fixture("crash"), 64 << 20, &data, &size), 0);
	assert_int_equal(file_replace(AT_FDCWD, path, data, size, 0700, 0), 0);
	o.pid = launch(path, "wait", true, -1, 2);
	wait_until_paused(o.pid);
	assert_int_equal(file_replace(AT_FDCWD, path, "something else", 14, 0700, 0), 0);
	kill(o.pid, SIGSEGV);
	o.status = wait_for(o.pid, &ended);
	assert_true(next_event(c, &o.event, EVENT_MS));
	make_report(&o, "short-lived", CAPTURE_PRELOAD);
	cJSON_ArrayForEach(f, json_get_array(crashed(&o), "frames")) {
		if (!strstr(json_get_string(f, "module", ""), "short-lived"))
			continue;
		assert_null(json_get_string(f, "function", NULL));
		assert_string_equal(json_get_string(f, "trust", ""), "cfi");
		n++;
	}
	assert_int_equal(n, 3); /* waiting, main, _start */
	cJSON_ArrayForEach(m, json_get_array(o.report, "modules")) {
		if (strstr(json_get_string(m, "path", ""), "short-lived")) {
			assert_true(json_get_bool(m, "deleted", false));
			assert_true(strlen(json_get_string(m, "build_id", "")) >= 16);
			return;
		}
	}
	fail_msg("not among the modules");
}

static void check_descendant(const char *what, enum capture_mode mode)
{
	_cleanup_(capture_stopp) struct capture *c = start();
	_cleanup_outcome_ struct outcome o = { 0 };
	int gate[2] = { -1, -1 }, null = open("/dev/null", O_WRONLY | O_CLOEXEC);
	uint64_t ended;

	if (mode == CAPTURE_PTRACE)
		assert_int_equal(pipe2(gate, O_CLOEXEC), 0);
	o.pid = launch(fixture("crash"), what, mode == CAPTURE_PRELOAD, gate[0], null);
	close(null);
	if (mode == CAPTURE_PTRACE) {
		close(gate[0]);
		assert_int_equal(capture_trace(c, o.pid, gate[1]), 0);
	}
	o.status = wait_for(o.pid, &ended);
	assert_int_equal(o.status, 0);
	assert_true(next_event(c, &o.event, EVENT_MS));
	assert_int_not_equal(o.event.pid, o.pid);
	make_report(&o, what, mode);
	expect_frames(&o, "h g f main");
	expect_mark(&o, "null-write");
	expect_sentence(&o, "a process below it (");
	/* the supervisor is a subreaper: the orphan is its own */
	while (waitpid(-1, NULL, WNOHANG | __WNOTHREAD) > 0)
		;
}

static void test_what_a_daemon_starts_is_captured_too(void **state)
{
	(void)state;
	prctl(PR_SET_CHILD_SUBREAPER, 1);
	check_descendant("grandchild", CAPTURE_PRELOAD);
	check_descendant("exec-child", CAPTURE_PRELOAD);
	check_descendant("grandchild", CAPTURE_PTRACE);
	check_descendant("exec-child", CAPTURE_PTRACE);
}

static void check_behaviour(enum capture_mode mode)
{
	_cleanup_(capture_stopp) struct capture *c = start();
	int gate[2] = { -1, -1 };
	struct capture_event e;
	uint64_t ended;
	pid_t pid;

	if (mode == CAPTURE_PTRACE)
		assert_int_equal(pipe2(gate, O_CLOEXEC), 0);
	pid = launch(fixture("crash"), "behaviour", mode == CAPTURE_PRELOAD, gate[0], 2);
	if (mode == CAPTURE_PTRACE) {
		close(gate[0]);
		assert_int_equal(capture_trace(c, pid, gate[1]), 0);
	}
	assert_int_equal(wait_for(pid, &ended), 0); /* else: the step that differs */
	assert_false(next_event(c, &e, 0));
}

static void test_handlers_and_threads_of_the_program_work_as_without_us(void **state)
{
	(void)state;
	check_behaviour(CAPTURE_OFF);
	check_behaviour(CAPTURE_PRELOAD);
	check_behaviour(CAPTURE_PTRACE);
}

static void test_job_control_works_when_traced(void **state)
{
	_cleanup_(capture_stopp) struct capture *c = start();
	struct proc_stat st = { 0 };
	uint64_t ended;
	int gate[2];
	pid_t pid;

	(void)state;
	assert_int_equal(pipe2(gate, O_CLOEXEC), 0);
	pid = launch(fixture("crash"), "stop-self", false, gate[0], 2);
	close(gate[0]);
	assert_int_equal(capture_trace(c, pid, gate[1]), 0);
	for (int i = 0; i < 2000 && st.state != 't' && st.state != 'T'; i++) {
		usleep(5000);
		proc_read_stat(pid, &st);
	}
	usleep(50000); /* it must still be stopped: nothing to wait for */
	proc_read_stat(pid, &st);
	assert_true(st.state == 't' || st.state == 'T');
	kill(pid, SIGCONT);
	assert_int_equal(wait_for(pid, &ended), 5 << 8);
}

static void test_what_cannot_be_traced_runs_all_the_same(void **state)
{
	_cleanup_(capture_stopp) struct capture *c = start();
	struct capture_event e;
	uint64_t ended;
	int gate[2];
	pid_t pid;

	(void)state;
	assert_int_equal(pipe2(gate, O_CLOEXEC), 0);
	pid = launch(fixture("crash"), "exit", false, gate[0], 2);
	close(gate[0]);
	assert_int_equal(capture_trace(c, 1 << 29, gate[1]), 0); /* no such process */
	assert_int_equal(wait_for(pid, &ended), 3 << 8);
	assert_true(next_event(c, &e, EVENT_MS));
	assert_int_equal(e.kind, CAPTURE_EVENT_TRACE_FAILED);
	assert_true(e.reason[0]);
}

/* Nobody there, nobody answering, somebody else: the process dies by its own signal, and soon. */
static void test_a_process_never_waits_long_for_us(void **state)
{
	struct sockaddr_un address;
	_cleanup_(freep) char *name = NULL;
	_cleanup_(closep) int silent = -1;
	char path[PATH_MAX];
	uint64_t began, ended;
	size_t n;
	pid_t pid;

	(void)state;
	capture_stop(start()); /* makes the name */
	pid = launch(fixture("crash"), "null-write", true, -1, 2);
	began = clock_mono_ms();
	assert_int_equal(wait_for(pid, &ended), SIGSEGV);
	assert_true(ended - began < 1000);

	/* like a stopped supervisor: the connection is taken by the kernel, and nobody reads */
	path_format(path, sizeof(path), runtime_, "capture.name");
	assert_int_equal(file_read(AT_FDCWD, path, 100, &name, &n), 0);
	address = (struct sockaddr_un){ .sun_family = AF_UNIX };
	memcpy(address.sun_path + 1, name, n);
	silent = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
	assert_int_equal(bind(silent, (struct sockaddr *)&address, (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + n)),
	    0);
	assert_int_equal(listen(silent, 1), 0);
	pid = launch(fixture("crash"), "abort", true, -1, 2);
	began = clock_mono_ms();
	assert_int_equal(wait_for(pid, &ended), SIGABRT);
	assert_true(ended - began >= 500);
	assert_true(ended - began < 2500);
}

static void test_a_tracer_that_goes_leaves_its_daemon_running(void **state)
{
	struct capture *c = start();
	struct proc_stat st;
	uint64_t ended;
	int gate[2];
	pid_t pid;

	(void)state;
	assert_int_equal(pipe2(gate, O_CLOEXEC), 0);
	pid = launch(fixture("crash"), "wait", false, gate[0], 2);
	close(gate[0]);
	assert_int_equal(capture_trace(c, pid, gate[1]), 0);
	wait_until_paused(pid);
	capture_stop(c);
	assert_int_equal(proc_read_stat(pid, &st), 0);
	assert_int_equal(st.state, 'S');
	kill(pid, SIGTERM);
	assert_int_equal(wait_for(pid, &ended), SIGTERM);
}

/* A process that has the capture threads, to be killed. Writes the pid of a traced daemon to @out, if there is one. */
static pid_t fork_supervisor(bool trace, int out)
{
	pid_t pid = fork();

	if (!pid) {
		struct capture *c = start();
		pid_t daemon = getpid();
		int gate[2];

		prctl(PR_SET_PDEATHSIG, SIGKILL);
		if (trace) {
			if (pipe2(gate, O_CLOEXEC) < 0)
				_exit(1);
			daemon = launch(fixture("crash"), "wait", false, gate[0], 2);
			close(gate[0]);
			if (capture_trace(c, daemon, gate[1]) < 0)
				_exit(1);
		}
		(void)!write(out, &daemon, sizeof(daemon));
		for (;;)
			pause();
	}
	assert_true(pid > 0); /* it is going to be killed: -1 would be everybody */
	return pid;
}

static void test_a_killed_supervisor_harms_nobody(void **state)
{
	struct proc_stat st;
	uint64_t began, ended;
	pid_t supervisor, daemon;
	int p[2];

	(void)state;
	prctl(PR_SET_CHILD_SUBREAPER, 1);
	assert_int_equal(pipe2(p, O_CLOEXEC), 0);
	supervisor = fork_supervisor(true, p[1]);
	assert_int_equal(read(p[0], &daemon, sizeof(daemon)), sizeof(daemon));
	wait_until_paused(daemon);
	kill(supervisor, SIGKILL);
	assert_int_equal(waitpid(supervisor, NULL, 0), supervisor);
	assert_int_equal(proc_read_stat(daemon, &st), 0); /* and not dead with it */
	assert_int_equal(st.state, 'S');
	kill(daemon, SIGSEGV);
	assert_int_equal(wait_for(daemon, &ended), SIGSEGV);

	for (int i = 0; i < 12; i++) { /* at some moment of a capture */
		supervisor = fork_supervisor(false, p[1]);
		assert_int_equal(read(p[0], &daemon, sizeof(daemon)), sizeof(daemon));
		daemon = launch(fixture("crash"), "threads", true, -1, 2);
		began = clock_mono_ms();
		usleep((useconds_t)(2000 + i * 1500));
		kill(supervisor, SIGKILL);
		assert_int_equal(waitpid(supervisor, NULL, 0), supervisor);
		assert_int_equal(wait_for(daemon, &ended), SIGSEGV);
		assert_true(ended - began < 3000);
	}
	close(p[0]);
	close(p[1]);
}

static void test_strangers_are_not_served(void **state)
{
	_cleanup_(capture_stopp) struct capture *c = start();
	struct sockaddr_un address;
	_cleanup_(freep) char *name = NULL;
	char path[PATH_MAX], garbage[4096];
	struct capture_event e;
	size_t n;

	(void)state;
	memset(garbage, 'x', sizeof(garbage));
	path_format(path, sizeof(path), runtime_, "capture.name");
	assert_int_equal(file_read(AT_FDCWD, path, 100, &name, &n), 0);
	address = (struct sockaddr_un){ .sun_family = AF_UNIX };
	memcpy(address.sun_path + 1, name, n);
	for (size_t size = 1; size <= sizeof(garbage); size *= 4) {
		_cleanup_(closep) int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);

		assert_int_equal(
		    connect(fd, (struct sockaddr *)&address, (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + n)), 0);
		(void)!write(fd, garbage, size);
	}
	assert_false(next_event(c, &e, 200));
}

static void test_many_crashes_at_once_are_all_told(void **state)
{
	_cleanup_(capture_stopp) struct capture *c = start();
	enum { N = 50 };
	pid_t pids[N];
	int null = open("/dev/null", O_WRONLY | O_CLOEXEC), events = 0;
	struct capture_event e;
	uint64_t ended, worst = 0;

	(void)state;
	for (int i = 0; i < N; i++)
		pids[i] = launch(fixture("crash"), "null-write", true, -1, null);
	close(null);
	for (int i = 0; i < N; i++)
		assert_int_equal(wait_for(pids[i], &ended), SIGSEGV);
	while (events < N && next_event(c, &e, EVENT_MS)) {
		events++;
		if (e.held_us > worst)
			worst = e.held_us;
	}
	assert_int_equal(events, N);
	print_message("# %d at once: held %llu us at the most\n", N, (unsigned long long)worst);
}

static char *run_and_read(const char *command)
{
	FILE *f = popen(command, "r");
	static char out[65536];
	size_t n;

	assert_non_null(f);
	n = fread(out, 1, sizeof(out) - 1, f);
	out[n] = '\0';
	pclose(f);
	return out;
}

static void test_the_agent_needs_nothing(void **state)
{
	static const char *const allowed[] = { "_r_debug", "dlsym", "environ", "gnu_get_libc_version" };
	char command[PATH_MAX + 64], *out, *save = NULL;

	(void)state;
	snprintf(command, sizeof(command), "nm -u '%s/supervise-agent.so'", build);
	out = run_and_read(command);
	for (char *l = strtok_r(out, "\n", &save); l; l = strtok_r(NULL, "\n", &save)) {
		char kind, symbol[128];
		bool ok = false;

		assert_int_equal(sscanf(l, " %c %127s", &kind, symbol), 2);
		for (size_t i = 0; i < ARRAY_SIZE(allowed); i++)
			ok |= !strcmp(symbol, allowed[i]);
		if (!ok || (kind != 'w' && kind != 'v'))
			fail_msg("the agent needs %s (%c)", symbol, kind);
	}
	snprintf(command, sizeof(command), "readelf -dW '%s/supervise-agent.so'", build);
	out = run_and_read(command);
	assert_null(strstr(out, "(NEEDED)"));
	assert_non_null(strstr(out, "BIND_NOW"));
	snprintf(command, sizeof(command), "readelf -lW '%s/supervise-agent.so'", build);
	out = run_and_read(command);
	assert_non_null(strstr(out, "GNU_EH_FRAME"));
	assert_null(strstr(out, "TLS"));
	assert_null(strstr(out, "RWE"));
}

/* All that is named in our stack is in gdb's, in this order; gdb also shows calls that left no frame. */
static void test_frames_are_those_of_gdb(void **state)
{
	_cleanup_outcome_ struct outcome o = { 0 };
	char command[PATH_MAX * 2], *line, *save = NULL;
	const cJSON *f;

	(void)state;
	if (system("command -v gdb >/dev/null 2>&1") != 0)
		return;
	crash(&o, "crash-cpp", "throw", CAPTURE_PRELOAD);
	snprintf(command, sizeof(command), "env -u LD_PRELOAD gdb -nx -batch -ex 'set debuginfod enabled off' -ex 'set width 0' "
	    "-ex run -ex bt --args '%s' throw 2>/dev/null | grep '^#'", fixture("crash-cpp"));
	line = strtok_r(run_and_read(command), "\n", &save);
	if (!line)
		return; /* gdb may not trace here */
	cJSON_ArrayForEach(f, json_get_array(crashed(&o), "frames")) {
		const char *name = json_get_string(f, "function", NULL);
		bool found = !name;

		for (; line && !found; line = strtok_r(NULL, "\n", &save)) {
			const char *in = strstr(line, " in "), *at = in ? in + 4 : strchr(line, ' ');

			while (*at == ' ')
				at++;
			found = !strncmp(at, name, strlen(name));
		}
		if (!found)
			fail_msg("gdb does not have %s", name);
		if (name && !strcmp(name, "main"))
			return;
	}
	fail_msg("no main");
}

static void test_secrets_of_the_command_line_are_masked(void **state)
{
	_cleanup_outcome_ struct outcome o = { 0 };
	_cleanup_(freep) char *text = NULL;

	(void)state;
	crash(&o, "crash", "null-write", CAPTURE_PRELOAD);
	text = json_print(o.report);
	assert_null(strstr(text, "hunter2"));
}

static int make_runtime(void **state)
{
	char self[PATH_MAX];
	ssize_t n = readlink("/proc/self/exe", self, sizeof(self) - 1);

	(void)state;
	if (n <= 0)
		return -1;
	self[n] = '\0';
	for (int i = 0; i < 3; i++) /* BUILD/tests/unit/test_capture */
		*strrchr(self, '/') = '\0';
	snprintf(build, sizeof(build), "%s", self);
	setenv("SUPERVISE_LIBEXEC", build, 1);
	snprintf(runtime_, sizeof(runtime_), "/tmp/supervise-test-capture-XXXXXX");
	return mkdtemp(runtime_) ? 0 : -1;
}

static int remove_runtime(void **state)
{
	char command[PATH_MAX + 16];

	(void)state;
	snprintf(command, sizeof(command), "rm -rf '%s'", runtime_);
	return system(command);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_the_agent_needs_nothing),
		cmocka_unit_test(test_crashes_are_explained_with_the_agent),
		cmocka_unit_test(test_crashes_are_explained_when_traced),
		cmocka_unit_test(test_a_read_and_a_write_are_told_apart),
		cmocka_unit_test(test_recursion_is_folded),
		cmocka_unit_test(test_a_stripped_program_gives_module_and_offset),
		cmocka_unit_test(test_without_unwind_tables_frames_are_guessed_and_say_so),
		cmocka_unit_test(test_a_static_program_is_captured_when_traced),
		cmocka_unit_test(test_all_threads_are_in_the_report),
		cmocka_unit_test(test_a_signal_from_outside_names_its_sender),
		cmocka_unit_test(test_a_program_whose_file_is_gone_is_unwound),
		cmocka_unit_test(test_what_a_daemon_starts_is_captured_too),
		cmocka_unit_test(test_handlers_and_threads_of_the_program_work_as_without_us),
		cmocka_unit_test(test_job_control_works_when_traced),
		cmocka_unit_test(test_what_cannot_be_traced_runs_all_the_same),
		cmocka_unit_test(test_a_process_never_waits_long_for_us),
		cmocka_unit_test(test_a_tracer_that_goes_leaves_its_daemon_running),
		cmocka_unit_test(test_a_killed_supervisor_harms_nobody),
		cmocka_unit_test(test_strangers_are_not_served),
		cmocka_unit_test(test_many_crashes_at_once_are_all_told),
		cmocka_unit_test(test_frames_are_those_of_gdb),
		cmocka_unit_test(test_secrets_of_the_command_line_are_masked),
	};

	return cmocka_run_group_tests(tests, make_runtime, remove_runtime);
}
