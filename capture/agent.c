/* SPDX-License-Identifier: Apache-2.0 */
/*
 * supervise-agent.so: preloaded into daemons, inherited by all they execute. It waits, costs nothing, and answers
 * crash signals whose disposition would be the default one.
 *
 * It needs no other object, so that a program with another libc starts as well. It stays out of the way: a handler
 * of the program is installed untouched, and whoever asks for a disposition that is ours is told SIG_DFL. So programs that
 * print their own crash report, then reset and raise again, work as before and come to us last. (With SA_RESETHAND the
 * kernel resets by itself, to its own default: such a death is reported by its status.)
 *
 * Functions of libc are found in the loader's list of objects rather than by dlsym(3), which may be missing (glibc
 * before 2.34), takes locks, and would be called from sigaction(2), which is async-signal-safe.
 */
#include <elf.h>
#include <errno.h>
#include <link.h>
#include <pthread.h>

#include "capture/agent.h"

enum {
	STACK_BYTES = 16 * 1024, /* handler and packet take 3 KiB; the signal frame with AVX-512 or AMX up to 11 */
	THREAD_STACKS = 32,
	RECLAIM_TRIES = 4,
};

extern ElfW(Dyn) _DYNAMIC[] __attribute__((visibility("hidden")));
extern struct r_debug _r_debug __attribute__((weak));
extern char **environ __attribute__((weak));
extern const char *gnu_get_libc_version(void) __attribute__((weak));
extern void *dlsym(void *handle, const char *name) __attribute__((weak));

ARCH_DEFINE_RESTORER(agent_restorer);

static bool active; /* there is somebody to tell */
static uint8_t main_stack[STACK_BYTES] __attribute__((aligned(64)));

/* Alternate stacks of threads: without one, a thread that overflows its stack cannot run the handler. */
struct thread_slot {
	int32_t owner; /* tid; 0: free; -1: being handed to a new thread */
	void *(*run)(void *);
	void *argument;
};

static struct thread_slot slots[THREAD_STACKS];
static uint8_t thread_stacks[THREAD_STACKS][STACK_BYTES] __attribute__((aligned(64)));
static uint32_t next_slot;

static const int crash_signals[] = { SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT, SIGTRAP, SIGSYS };

static long kernel_sigaction(int sig, const struct agent_sigaction *new_action, struct agent_sigaction *ret_old)
{
	return agent_call(SYS_rt_sigaction, sig, (long)new_action, (long)ret_old, 8);
}

long agent_install(int sig, struct agent_sigaction *ret_old)
{
	struct agent_sigaction a = { .handler = agent_handler,
		.flags = SA_SIGINFO | SA_ONSTACK | ARCH_SA_RESTORER | (sig == SIGSYS ? SA_NODEFER : 0),
		.mask = ~(1ull << (SIGSYS - 1)) };

	if (ARCH_SA_RESTORER)
		a.restorer = agent_restorer;
	return kernel_sigaction(sig, &a, ret_old);
}

long agent_set_default(int sig)
{
	struct agent_sigaction a = { 0 };

	return kernel_sigaction(sig, &a, NULL);
}

static bool is_ours(int sig)
{
	return active && agent_is_crash_signal(sig);
}

/* --- functions of libc --------------------------------------------------------------------------------------------- */

static bool same(const char *a, const char *b)
{
	while (*a && *a == *b) {
		a++;
		b++;
	}
	return *a == *b;
}

/* A default-version function @name defined by @map. Source: gABI chapter 5; DT_GNU_HASH as glibc's do_lookup_x reads it */
static void *find_in(const struct link_map *map, const char *name)
{
	const ElfW(Sym) *symbols = NULL;
	const char *strings = NULL;
	const uint32_t *hash = NULL;
	const ElfW(Half) *versions = NULL;
	uint32_t h = 5381;

	for (const ElfW(Dyn) *d = map->l_ld; d && d->d_tag != DT_NULL; d++) {
		uintptr_t p = d->d_un.d_ptr;

		if (p < map->l_addr) /* relocated in place by glibc, not by others */
			p += map->l_addr;
		if (d->d_tag == DT_SYMTAB)
			symbols = (const void *)p;
		else if (d->d_tag == DT_STRTAB)
			strings = (const void *)p;
		else if (d->d_tag == DT_GNU_HASH)
			hash = (const void *)p;
		else if (d->d_tag == DT_VERSYM)
			versions = (const void *)p;
	}
	if (!symbols || !strings || !hash || !hash[0])
		return NULL;
	for (const char *c = name; *c; c++)
		h = h * 33 + (uint8_t)*c;

	const uint32_t n_buckets = hash[0], first = hash[1], n_bloom = hash[2];
	const uint32_t *buckets = hash + 4 + n_bloom * (sizeof(ElfW(Addr)) / 4);
	const uint32_t *chain = buckets + n_buckets;
	uint32_t i = buckets[h % n_buckets];

	if (i < first)
		return NULL;
	for (;; i++) {
		const ElfW(Sym) *s = &symbols[i];

		if ((chain[i - first] | 1) == (h | 1) && s->st_shndx != SHN_UNDEF && s->st_value &&
		    ELF64_ST_TYPE(s->st_info) == STT_FUNC && same(strings + s->st_name, name) &&
		    !(versions && (versions[i] & 0x8000)))
			return (void *)(map->l_addr + s->st_value);
		if (chain[i - first] & 1)
			return NULL;
	}
}

/* The function the program would have called without us. */
static void *find_real(const char *name, void **cache)
{
	void *f = __atomic_load_n(cache, __ATOMIC_RELAXED);

	if (f)
		return f;
	if (&_r_debug)
		for (const struct link_map *m = _r_debug.r_map; m && !f; m = m->l_next)
			if (m->l_ld != _DYNAMIC) /* not ours */
				f = find_in(m, name);
	if (!f && dlsym)
		f = dlsym((void *)-1l /* RTLD_NEXT */, name);
	__atomic_store_n(cache, f, __ATOMIC_RELAXED);
	return f;
}

#define REAL(type, name)                                                                                     \
	__extension__({                                                                                      \
		static void *cache_;                                                                         \
		(type) find_real(name, &cache_);                                                             \
	})

/* --- what programs call -------------------------------------------------------------------------------------------- */

typedef void (*handler_t)(int);
typedef int (*sigaction_fn)(int, const struct sigaction *, struct sigaction *);
typedef handler_t (*signal_fn)(int, handler_t);

static int change(sigaction_fn real, int sig, const struct sigaction *action, struct sigaction *ret_old)
{
	struct sigaction old;
	int r;

	if (!real)
		return -1;
	if (!is_ours(sig))
		return real(sig, action, ret_old);
	if (action && action->sa_handler == SIG_DFL) {
		r = real(sig, NULL, &old);
		if (r)
			return r;
		agent_install(sig, NULL);
	} else {
		r = real(sig, action, &old);
		if (r)
			return r;
	}
	if (ret_old) {
		*ret_old = old;
		if (old.sa_sigaction == agent_handler) {
			memset(ret_old, 0, sizeof(*ret_old));
			ret_old->sa_handler = SIG_DFL;
		}
	}
	return 0;
}

static handler_t change_simple(signal_fn real, int sig, handler_t handler)
{
	handler_t old;

	if (!real)
		return SIG_ERR;
	old = real(sig, handler);
	if (!is_ours(sig))
		return old;
	if (old != SIG_ERR && handler == SIG_DFL)
		agent_install(sig, NULL);
	return (uintptr_t)old == (uintptr_t)agent_handler ? SIG_DFL : old;
}

AGENT_EXPORT int sigaction(int sig, const struct sigaction *restrict action, struct sigaction *restrict ret_old)
{
	return change(REAL(sigaction_fn, "sigaction"), sig, action, ret_old);
}

AGENT_EXPORT int __sigaction(int sig, const struct sigaction *action, struct sigaction *ret_old);
int __sigaction(int sig, const struct sigaction *action, struct sigaction *ret_old)
{
	return change(REAL(sigaction_fn, "__sigaction"), sig, action, ret_old);
}

#define SIMPLE(name)                                                                                         \
	AGENT_EXPORT handler_t name(int sig, handler_t handler);                                             \
	handler_t name(int sig, handler_t handler)                                                           \
	{                                                                                                    \
		return change_simple(REAL(signal_fn, #name), sig, handler);                                  \
	}                                                                                                    \
	struct simple_##name

SIMPLE(signal);
SIMPLE(bsd_signal);
SIMPLE(ssignal);
SIMPLE(sysv_signal);
SIMPLE(__sysv_signal);
SIMPLE(sigset);

/* --- threads ------------------------------------------------------------------------------------------------------- */

typedef int (*pthread_create_fn)(pthread_t *, const pthread_attr_t *, void *(*)(void *), void *);

/*
 * A thread that ended through pthread_exit(3) or cancellation left its slot taken: its tid no longer exists then. (After
 * fork(2) the tids of the parent do not exist either; the slot of the forking thread may then be shared, which matters only
 * if both users crash at the same moment.)
 */
static struct thread_slot *take_slot(void)
{
	int32_t pid = 0;
	int tries = 0;

	for (uint32_t i = 0; i < THREAD_STACKS; i++) {
		struct thread_slot *s = &slots[__atomic_fetch_add(&next_slot, 1, __ATOMIC_RELAXED) % THREAD_STACKS];
		int32_t owner = __atomic_load_n(&s->owner, __ATOMIC_RELAXED);

		if (owner < 0)
			continue;
		if (owner > 0) {
			if (tries++ >= RECLAIM_TRIES)
				continue;
			if (!pid)
				pid = (int32_t)agent_call(SYS_getpid, 0, 0, 0, 0);
			if (agent_call(SYS_tgkill, pid, owner, 0, 0) != -ESRCH)
				continue;
		}
		if (__atomic_compare_exchange_n(&s->owner, &owner, -1, false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST))
			return s;
	}
	return NULL;
}

static void free_slot(struct thread_slot *s)
{
	__atomic_store_n(&s->owner, 0, __ATOMIC_SEQ_CST);
}

static void *thread_entry(void *p)
{
	struct thread_slot *s = p;
	void *(*run)(void *) = s->run;
	void *argument = s->argument;
	stack_t mine = { .ss_sp = thread_stacks[s - slots], .ss_size = STACK_BYTES }, now = { 0 };
	void *result;

	__atomic_store_n(&s->owner, (int32_t)agent_call(SYS_gettid, 0, 0, 0, 0), __ATOMIC_SEQ_CST);
	agent_call(SYS_sigaltstack, (long)&mine, 0, 0, 0);
	result = run(argument);
	if (!agent_call(SYS_sigaltstack, 0, (long)&now, 0, 0) && now.ss_sp == mine.ss_sp) {
		mine.ss_flags = SS_DISABLE;
		agent_call(SYS_sigaltstack, (long)&mine, 0, 0, 0);
	}
	free_slot(s);
	return result;
}

AGENT_EXPORT int pthread_create(pthread_t *restrict ret, const pthread_attr_t *restrict attributes,
    void *(*run)(void *), void *restrict argument)
{
	pthread_create_fn real = REAL(pthread_create_fn, "pthread_create");
	struct thread_slot *s = NULL;
	int r;

	if (!real)
		return EAGAIN;
	if (active)
		s = take_slot();
	if (!s) /* as well as it goes: only a stack overflow of that thread is missed */
		return real(ret, attributes, run, argument);
	s->run = run;
	s->argument = argument;
	r = real(ret, attributes, thread_entry, s);
	if (r)
		free_slot(s);
	return r;
}

/* --- start --------------------------------------------------------------------------------------------------------- */

static const char *find_environment(char **env)
{
	static const char name[] = CAPTURE_ENVIRONMENT "=";

	for (; env && *env; env++) {
		const char *e = *env, *n = name;

		while (*n && *n == *e) {
			n++;
			e++;
		}
		if (!*n)
			return e;
	}
	return NULL;
}

/* "@ABSTRACT:/PATH" into the two addresses; the path keeps its NUL, an abstract name begins with one. */
static void parse_sockets(const char *s)
{
	struct agent_sockets *a = &agent_sockets;
	uint32_t n = 0;

	if (*s == '@') {
		for (s++, n = 1; *s && *s != ':' && n < sizeof(a->abstract); s++)
			a->abstract[n++] = *s;
		if (*s && *s != ':')
			return; /* too long */
		a->abstract_size = n;
		if (*s)
			s++;
	}
	if (*s == '/') {
		for (n = 0; *s && n < sizeof(a->path) - 1; s++)
			a->path[n++] = *s;
		a->path_size = *s ? 0 : n + 1;
	}
}

__attribute__((constructor)) static void start(int argc, char **argv, char **env)
{
	stack_t stack = { .ss_sp = main_stack, .ss_size = sizeof(main_stack) }, had = { 0 };
	const char *sockets;

	(void)argc;
	(void)argv;
	if (!gnu_get_libc_version) /* glibc alone passes arguments to constructors, and has not set environ by now */
		env = &environ ? environ : NULL;
	sockets = find_environment(env);
	if (!sockets)
		return;
	parse_sockets(sockets);
	if (!agent_sockets.abstract_size && !agent_sockets.path_size)
		return;
	active = true;
	if (!agent_call(SYS_sigaltstack, 0, (long)&had, 0, 0) && (had.ss_flags & SS_DISABLE))
		agent_call(SYS_sigaltstack, (long)&stack, 0, 0, 0);
	for (size_t i = 0; i < sizeof(crash_signals) / sizeof(crash_signals[0]); i++) {
		struct agent_sigaction old = { 0 };

		if (!agent_install(crash_signals[i], &old) && old.handler)
			kernel_sigaction(crash_signals[i], &old, NULL); /* ignored on purpose, or somebody was first */
	}
}
