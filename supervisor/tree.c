/* SPDX-License-Identifier: Apache-2.0 */
#include "supervisor/tree.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/file.h"

struct process {
	struct proc_stat st;
	pid_t pid;
	bool member;
};

struct table {
	struct process *items;
	size_t n, room;
};

static int collect(pid_t pid, void *userdata)
{
	struct table *t = userdata;
	struct proc_stat st;

	if (proc_read_stat(pid, &st) < 0 || st.state == 'Z' || st.state == 'X')
		return 0;
	if (t->n == t->room) {
		size_t room = t->room ? t->room * 2 : 256;
		void *p = realloc(t->items, room * sizeof(*t->items));

		if (!p)
			return -ENOMEM;
		t->items = p;
		t->room = room;
	}
	t->items[t->n++] = (struct process){ .st = st, .pid = pid };
	return 0;
}

static int by_pid(const void *a, const void *b)
{
	pid_t x = *(const pid_t *)a, y = *(const pid_t *)b;

	return x < y ? -1 : x > y;
}

bool pid_listed(const pid_t *sorted, size_t n, pid_t pid)
{
	return n && bsearch(&pid, sorted, n, sizeof(*sorted), by_pid);
}

static bool carries_nonce(pid_t pid, const char *nonce)
{
	_cleanup_(freep) char *value = NULL;

	return nonce && nonce[0] && proc_read_environ(pid, "SUPERVISE_NONCE", &value) == 0 && !strcmp(value, nonce);
}

int tree_scan(const struct tree_key *key, const pid_t *known, size_t n_known, struct tree *ret)
{
	_cleanup_(freep) struct process *owned = NULL;
	struct table t = { 0 };
	pid_t me = getpid();
	bool grew = true;
	int r = proc_for_each(collect, &t);

	owned = t.items;
	*ret = (struct tree){ 0 };
	if (r < 0)
		return r;
	for (size_t i = 0; i < t.n; i++) {
		struct process *p = &t.items[i];

		if (p->pid == me || p->pid == key->keeper || pid_listed(known, n_known, p->pid)) {
			p->pid = 0; /* never */
			continue;
		}
		p->member = p->pid == key->root || p->st.session == key->root || p->st.pgrp == key->root;
		/* a setsid grandchild whose parent has ended is ours or the keeper's child now */
		if (!p->member && (p->st.ppid == me || p->st.ppid == key->keeper || p->st.ppid == 1))
			p->member = carries_nonce(p->pid, key->nonce);
	}
	while (grew) {
		grew = false;
		for (size_t i = 0; i < t.n; i++) {
			if (t.items[i].member || !t.items[i].pid)
				continue;
			for (size_t k = 0; k < t.n; k++)
				if (t.items[k].member && t.items[k].pid == t.items[i].st.ppid) {
					t.items[i].member = grew = true;
					break;
				}
		}
	}
	for (size_t i = 0; i < t.n; i++) {
		struct tree_member m = { { t.items[i].pid, t.items[i].st.start_ticks }, -1 };

		if (!t.items[i].member || proc_open(&m.id, &m.pidfd) != PROC_SAME)
			continue;
		if (ret->n == ret->room) {
			size_t room = ret->room ? ret->room * 2 : 8;
			void *p = realloc(ret->items, room * sizeof(*ret->items));

			if (!p) {
				close(m.pidfd);
				tree_free(ret);
				return -ENOMEM;
			}
			ret->items = p;
			ret->room = room;
		}
		ret->items[ret->n++] = m;
	}
	return 0;
}

void tree_free(struct tree *t)
{
	for (size_t i = 0; i < t->n; i++)
		if (t->items[i].pidfd >= 0)
			close(t->items[i].pidfd);
	free(t->items);
	*t = (struct tree){ 0 };
}

void tree_signal(const struct tree *t, int sig)
{
	for (size_t i = 0; i < t->n; i++) {
		pidfd_signal(t->items[i].pidfd, sig);
		if (sig != SIGKILL && sig != SIGSTOP)
			pidfd_signal(t->items[i].pidfd, SIGCONT);
	}
}

int tree_kill(const struct tree_key *key, const pid_t *known, size_t n_known)
{
	int killed = 0;

	for (int round = 0; round < 16; round++) {
		_cleanup_(tree_free) struct tree t = { 0 };
		size_t before = 0;
		int r;

		for (int freeze = 0; freeze < 16; freeze++) {
			tree_free(&t);
			r = tree_scan(key, known, n_known, &t);
			if (r < 0)
				return r;
			if (t.n == before)
				break; /* everything there is stands still */
			before = t.n;
			tree_signal(&t, SIGSTOP);
		}
		if (!t.n)
			break;
		tree_signal(&t, SIGKILL);
		killed += (int)t.n;
		/* killed ones leave the next scan as soon as they are zombies; those in D state need longer: not waited for */
	}
	return killed;
}

int children_list(pid_t **ret, size_t *ret_n)
{
	_cleanup_(freep) char *text = NULL;
	pid_t *list;
	size_t n = 0, room = 16;
	int r = file_read(AT_FDCWD, "/proc/thread-self/children", 16u << 20, &text, NULL);

	if (r < 0)
		return r == -ENOENT ? -ENOTSUP : r;
	for (const char *p = text; *p; p++)
		room += *p == ' ';
	list = malloc(room * sizeof(*list));
	if (!list)
		return -ENOMEM;
	for (char *p = text; isdigit((unsigned char)*p);) {
		list[n++] = (pid_t)strtol(p, &p, 10);
		while (*p == ' ')
			p++;
	}
	*ret = list;
	*ret_n = n;
	return 0;
}
