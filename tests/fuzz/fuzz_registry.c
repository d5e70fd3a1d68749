/* SPDX-License-Identifier: Apache-2.0 */
/* Whatever registry.json and registry.journal hold, loading neither crashes nor believes in names that leave the folder. */
#include <fcntl.h>
#include <limits.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "registry/registry.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static char dir[PATH_MAX];

static void clean(void)
{
	_cleanup_(closedirp) DIR *d = opendir(dir);
	struct dirent *e;

	while (d && (e = readdir(d)))
		if (strncmp(e->d_name, "registry", 8) == 0)
			unlinkat(dirfd(d), e->d_name, 0);
}

static void leave(void)
{
	char pid[PATH_MAX + 8];

	clean();
	snprintf(pid, sizeof(pid), "%s/pid", dir);
	rmdir(pid);
	rmdir(dir);
}

/* Snapshot, a byte 0xff, journal. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const uint8_t *cut = memchr(data, 0xff, size);
	size_t first = cut ? (size_t)(cut - data) : size;
	struct registry *r = NULL;
	char path[PATH_MAX + 32];
	struct error err;
	cJSON *j = NULL;

	if (!dir[0]) {
		strcpy(dir, "/tmp/fuzz_registry.XXXXXX");
		if (!mkdtemp(dir))
			abort();
		snprintf(path, sizeof(path), "%s/pid", dir);
		mkdir(path, 0700);
		atexit(leave);
	}
	snprintf(path, sizeof(path), "%s/registry.json", dir);
	file_replace(AT_FDCWD, path, data, first, 0600, 0);
	snprintf(path, sizeof(path), "%s/registry.journal", dir);
	file_replace(AT_FDCWD, path, cut ? cut + 1 : (const uint8_t *)"", cut ? size - first - 1 : 0, 0600, 0);
	if (registry_read(dir, &j, &err) == 0)
		cJSON_Delete(j);
	if (registry_open(&r, dir, &err) == 0) {
		for (size_t i = 0; i < registry_count(r); i++) {
			const struct registry_entry *e = registry_at(r, i);
			struct registry_entry copy = *e;

			if (strstr(e->name, "..") || e->name[0] == '/')
				abort();
			copy.id.pid = 0;
			registry_put(r, &copy);
		}
		registry_close(r);
	}
	clean();
	return 0;
}
