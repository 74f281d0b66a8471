// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/*
 * Limits are read from /proc and from control groups of either version.  What is not
 * there, or may not be read, is no limit; what cannot be read for want of descriptors or
 * memory is an error.
 *
 * A process in a name space of control groups sees its own and those up to the root of
 * that space.  Containers have their limits there.
 */
#define _GNU_SOURCE
#include "bounds.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/mempolicy.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define UNLIMITED	UINT64_MAX

/* The text of a small file: 0, or -errno; -ENOENT if there is none for us. */
static int text_read(const char *path, char *text, size_t size)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t len;
	int err;

	if (fd < 0)
		return errno == ENOTDIR || errno == EACCES || errno == EPERM ? -ENOENT : -errno;
	len = read(fd, text, size - 1);
	err = len < 0 ? -errno : 0;
	close(fd);
	if (err)
		/* A control group that has just been removed. */
		return err == -ENODEV ? -ENOENT : err;
	text[len] = '\0';
	return 0;
}

/* The number after @key, which stands at the start of a line, or @otherwise. */
static uint64_t text_number(const char *text, const char *key, uint64_t otherwise)
{
	size_t len = strlen(key);

	for (const char *line = text; line; line = strchr(line, '\n')) {
		line += *line == '\n';
		if (!strncmp(line, key, len))
			return strtoull(line + len, NULL, 10);
	}
	return otherwise;
}

/* --- Control groups ------------------------------------------------------------- */

struct cgroup {
	char path[PATH_MAX];	/* a directory, from that of this process upwards */
	size_t top;		/* the length of the uppermost's */
	bool unified;		/* version 2 */
};

static bool has_word(const char *list, const char *word)
{
	size_t len = strlen(word);

	for (const char *at = list; at; at = strchr(at, ',')) {
		at += *at == ',';
		if (!strncmp(at, word, len) && (at[len] == ',' || !at[len]))
			return true;
	}
	return false;
}

/* Which group of the hierarchy with @controller this process is in.  0 or -errno. */
static int cgroup_membership(const char *controller, char path[PATH_MAX], bool *unified)
{
	char text[4096], *line, *rest = text, *list, *name;
	int err = text_read("/proc/self/cgroup", text, sizeof(text));

	if (err)
		return err;
	err = -ENOENT;
	while ((line = strsep(&rest, "\n"))) {
		/* <number>:<controllers>:<path> */
		list = strchr(line, ':');
		name = list ? strchr(list + 1, ':') : NULL;
		if (!name || strlen(name) > PATH_MAX)
			continue;
		*name++ = '\0';
		list++;
		if (!*list && err)
			*unified = true;
		else if (has_word(list, controller))
			*unified = false;
		else
			continue;
		strcpy(path, name);
		err = 0;
		if (!*unified)
			break;
	}
	return err;
}

/* Where the hierarchy with @controller is mounted, if it shows the group @member. */
static bool cgroup_mount(char *line, const char *controller, bool unified, const char *member,
			 struct cgroup *cgroup)
{
	char *fields[6], *rest = line, *type, *source, *options;
	size_t root;

	for (int i = 0; i < 6; i++)
		fields[i] = strsep(&rest, " ");
	rest = rest ? strstr(rest, "- ") : NULL;
	if (!rest)
		return false;
	rest += 2;
	type = strsep(&rest, " ");
	source = strsep(&rest, " ");
	options = strsep(&rest, "\n");
	if (!source || !options || strcmp(type, unified ? "cgroup2" : "cgroup"))
		return false;
	if (!unified && !has_word(options, controller))
		return false;

	/* What is mounted may be a part of the hierarchy: as far as that goes. */
	root = strcmp(fields[3], "/") ? strlen(fields[3]) : 0;
	if (!strncmp(member, fields[3], root) && (member[root] == '/' || !member[root]) &&
	    !strstr(member, "/.."))
		member += root;
	else
		member = "";
	if (!strcmp(member, "/"))
		member = "";
	cgroup->unified = unified;
	cgroup->top = strlen(fields[4]);
	return snprintf(cgroup->path, sizeof(cgroup->path), "%s%s", fields[4], member) <
	       (int)sizeof(cgroup->path);
}

/* The group of this process that @controller is about.  0, -ENOENT: none, or -errno. */
static int cgroup_find(const char *controller, struct cgroup *cgroup)
{
	char member[PATH_MAX], line[4096];
	bool unified, whole = true;
	int err = cgroup_membership(controller, member, &unified);
	FILE *file;

	if (err)
		return err;
	file = fopen("/proc/self/mountinfo", "re");
	if (!file)
		return errno == EACCES ? -ENOENT : -errno;
	err = -ENOENT;
	while (err && fgets(line, sizeof(line), file)) {
		bool start = whole;

		/* Those that are longer than this are of other file systems. */
		whole = strchr(line, '\n');
		if (start && whole && cgroup_mount(line, controller, unified, member, cgroup))
			err = 0;
	}
	fclose(file);
	return err;
}

/* From a group to the one above; false from the uppermost. */
static bool cgroup_up(struct cgroup *cgroup)
{
	char *slash = strrchr(cgroup->path, '/');

	if (strlen(cgroup->path) <= cgroup->top || !slash)
		return false;
	*slash = '\0';
	return true;
}

/* The text of file @name of @cgroup, as text_read(). */
static int cgroup_text(const struct cgroup *cgroup, const char *name, char *text, size_t size)
{
	char path[PATH_MAX + 64];

	snprintf(path, sizeof(path), "%s/%s", cgroup->path, name);
	return text_read(path, text, size);
}

/* A number of @cgroup; UNLIMITED for "max" and where there is none.  0 or -errno. */
static int cgroup_number(const struct cgroup *cgroup, const char *name, uint64_t *number)
{
	char text[64];
	int err = cgroup_text(cgroup, name, text, sizeof(text));

	*number = UNLIMITED;
	if (err)
		return err == -ENOENT ? 0 : err;
	if (*text >= '0' && *text <= '9')
		*number = strtoull(text, NULL, 10);
	/* Version 1 has the largest multiple of a page for it. */
	if (*number >= INT64_MAX / 4096 * 4096)
		*number = UNLIMITED;
	return 0;
}

/* --- What is touched ------------------------------------------------------------ */

static int hugetlb_limited(bool *limited)
{
	struct cgroup cgroup;
	uint64_t limit;
	int err;

	*limited = false;
	err = cgroup_find("hugetlb", &cgroup);
	if (err)
		return err == -ENOENT ? 0 : err;
	do {
		err = cgroup_number(&cgroup, cgroup.unified ? "hugetlb.2MB.max" :
				    "hugetlb.2MB.limit_in_bytes", &limit);
		if (err)
			return err;
		*limited = limit != UNLIMITED;
	} while (!*limited && cgroup_up(&cgroup));
	return 0;
}

static int commit_limited(bool *limited)
{
	char text[16];
	int err = text_read("/proc/sys/vm/overcommit_memory", text, sizeof(text));

	if (err && err != -ENOENT)
		return err;
	*limited = !err && *text == '2';
	return 0;
}

int limits_get(struct limits *limits)
{
	/* The second they were read in, and what was found in the two lowest bits. */
	static uint64_t known;
	uint64_t found = __atomic_load_n(&known, __ATOMIC_RELAXED);
	struct timespec ts;
	int err;

	clock_gettime(CLOCK_MONOTONIC_COARSE, &ts);
	if (!found || found >> 2 != (uint64_t)ts.tv_sec + 1) {
		err = hugetlb_limited(&limits->hugetlb);
		if (!err)
			err = commit_limited(&limits->commit);
		if (err)
			return err;
		found = ((uint64_t)ts.tv_sec + 1) << 2 | limits->hugetlb | limits->commit << 1;
		__atomic_store_n(&known, found, __ATOMIC_RELAXED);
	}
	limits->hugetlb = found & 1;
	limits->commit = found & 2;
	return 0;
}

/* The nodes in a list as of sysfs, "0-1,4"; 1 if there is no such file. */
static unsigned int nodes_with_memory(void)
{
	unsigned int nr = 0, first, last;
	char text[512], *at = text;
	int len;

	if (text_read("/sys/devices/system/node/has_memory", text, sizeof(text)))
		return 1;
	while (sscanf(at, "%u%n", &first, &len) == 1) {
		at += len;
		last = first;
		if (*at == '-' && sscanf(at + 1, "%u%n", &last, &len) == 1)
			at += len + 1;
		nr += last - first + 1;
		if (*at++ != ',')
			break;
	}
	return nr;
}

bool limits_on_nodes(void)
{
	/* More nodes than any machine has: the kernel refuses a mask that is too small. */
	unsigned long mask[1024 / (8 * sizeof(long))] = { 0 };
	unsigned int there = nodes_with_memory(), allowed = 0;
	int mode = MPOL_DEFAULT;

	if (there < 2)
		return false;
	if (syscall(SYS_get_mempolicy, &mode, NULL, 0, NULL, 0))
		return errno != ENOSYS;
	if ((mode & ~MPOL_MODE_FLAGS) == MPOL_BIND)
		return true;
	if (syscall(SYS_get_mempolicy, NULL, mask, 1024, NULL, MPOL_F_MEMS_ALLOWED))
		return true;
	for (size_t i = 0; i < sizeof(mask) / sizeof(*mask); i++)
		allowed += __builtin_popcountl(mask[i]);
	return allowed < there;
}

/* --- Headroom ------------------------------------------------------------------- */

static uint64_t minus(uint64_t a, uint64_t b)
{
	return a > b ? a - b : 0;
}

static int machine_headroom(struct headroom *headroom)
{
	char text[8192];
	int err = text_read("/proc/meminfo", text, sizeof(text));

	*headroom = (struct headroom){ UNLIMITED, UNLIMITED, 0 };
	if (err)
		return err == -ENOENT ? 0 : err;
	headroom->bytes = text_number(text, "MemAvailable:", UNLIMITED >> 10) << 10;
	headroom->total = text_number(text, "MemTotal:", UNLIMITED >> 10) << 10;
	headroom->swap = text_number(text, "SwapFree:", 0) << 10;
	return 0;
}

/* What @cgroup alone leaves.  Its page cache goes before anything is killed. */
static int cgroup_headroom(const struct cgroup *cgroup, struct headroom *headroom)
{
	bool v2 = cgroup->unified;
	uint64_t used, swap_max = 0, swap_used = 0;
	char stat[8192];
	int err;

	*headroom = (struct headroom){ UNLIMITED, UNLIMITED, 0 };
	err = cgroup_number(cgroup, v2 ? "memory.max" : "memory.limit_in_bytes", &headroom->total);
	if (err || headroom->total == UNLIMITED)
		return err;
	err = cgroup_number(cgroup, v2 ? "memory.current" : "memory.usage_in_bytes", &used);
	if (!err)
		err = cgroup_text(cgroup, "memory.stat", stat, sizeof(stat));
	if (!err && v2)
		err = cgroup_number(cgroup, "memory.swap.max", &swap_max);
	if (!err && v2)
		err = cgroup_number(cgroup, "memory.swap.current", &swap_used);
	if (err)
		return err == -ENOENT ? 0 : err;
	used = minus(used, text_number(stat, v2 ? "inactive_file " : "total_inactive_file ", 0) +
			   text_number(stat, v2 ? "active_file " : "total_active_file ", 0));
	headroom->bytes = minus(headroom->total, used);
	headroom->swap = minus(swap_max, swap_used);
	return 0;
}

int headroom_get(struct headroom *headroom)
{
	struct headroom here;
	struct cgroup cgroup;
	int err;

	err = machine_headroom(headroom);
	if (err)
		return err;
	err = cgroup_find("memory", &cgroup);
	if (err)
		return err == -ENOENT ? 0 : err;
	do {
		err = cgroup_headroom(&cgroup, &here);
		if (err)
			return err;
		if (here.swap > headroom->swap)
			here.swap = headroom->swap;
		if (here.total != UNLIMITED && here.bytes < headroom->bytes)
			*headroom = here;
	} while (cgroup_up(&cgroup));
	return 0;
}
