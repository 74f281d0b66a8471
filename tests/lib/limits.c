// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/*
 * Where memory ends: control groups, pools of huge pages, nodes, vm.overcommit_memory.
 * What cannot be had is an error when it is asked for, and no signal when it is touched.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <linux/mempolicy.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#include "tap.h"
#include "util.h"

#define MIB	((size_t)1 << 20)
#define HUGE	(2 * MIB)

#define NR_HUGEPAGES	"/proc/sys/vm/nr_hugepages"
#define HUGE_DIR	"/sys/kernel/mm/hugepages/hugepages-2048kB/"
#define SHMEM_ENABLED	"/sys/kernel/mm/transparent_hugepage/shmem_enabled"

/* What the run is of, before a test forces something else. */
static const char *run_of(void)
{
	static char name[32];
	const char *forced = getenv("SHMDEV_BACKEND");

	if (!*name)
		snprintf(name, sizeof(name), "%s", forced ? forced : "nothing");
	return name;
}

static void force(const char *name)
{
	run_of();
	if (name)
		CHECK_EQ(setenv("SHMDEV_BACKEND", name, 1), 0);
	else
		CHECK_EQ(unsetenv("SHMDEV_BACKEND"), 0);
}

static bool write_file(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC);
	bool good = fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text);

	if (fd >= 0)
		close(fd);
	return good;
}

/* The number behind @key in a file, or its first; -1 if there is none. */
static long read_number(const char *path, const char *key)
{
	FILE *file = fopen(path, "re");
	char line[256];
	long number = -1;

	while (file && number < 0 && fgets(line, sizeof(line), file))
		if (!strncmp(line, key, strlen(key)))
			sscanf(line + strlen(key), "%ld", &number);
	if (file)
		fclose(file);
	return number;
}

/* Settings that are the whole machine's are changed only where it is ours. */
static void need_own_machine(void)
{
	if (access("/run/shmdev-vm", F_OK))
		tap_skip("changes a setting of the whole machine: only in a virtual one of ours");
}

static void hold_huge_pages(long wanted)
{
	char text[32];

	/* They are for others to use up at other times. */
	if (access("/run/shmdev-vm", F_OK) && strcmp(run_of(), "hugetlb"))
		tap_skip("only where the run is of hugetlb");
	if (!access("/run/shmdev-vm", F_OK)) {
		snprintf(text, sizeof(text), "%ld", wanted);
		CHECK(write_file(NR_HUGEPAGES, text));
	}
	if (read_number(HUGE_DIR "free_hugepages", "") -
	    read_number(HUGE_DIR "resv_hugepages", "") < wanted)
		tap_skip("fewer than %ld huge pages are free: set vm.nr_hugepages", wanted);
}

/* --- Control groups -------------------------------------------------------------- */

static char group[256], mounted[64];
static bool unified;

/* A group for @controller in a hierarchy of either version, ours if there is none. */
static void group_make(const char *controller)
{
	char mount_v1[128];

	if (geteuid())
		tap_skip("needs root");
	snprintf(mount_v1, sizeof(mount_v1), "/sys/fs/cgroup/%s", controller);
	unified = !access("/sys/fs/cgroup/cgroup.controllers", F_OK);
	if (unified) {
		char enable[64];

		snprintf(enable, sizeof(enable), "+%s", controller);
		if (!write_file("/sys/fs/cgroup/cgroup.subtree_control", enable))
			tap_skip("the control groups here have no %s", controller);
		snprintf(group, sizeof(group), "/sys/fs/cgroup/shmdev-%d", getpid());
	} else if (!access(mount_v1, F_OK)) {
		snprintf(group, sizeof(group), "%s/shmdev-%d", mount_v1, getpid());
	} else {
		if (unshare(CLONE_NEWNS) || mount("none", "/", "none", MS_REC | MS_PRIVATE, NULL))
			tap_skip("cannot have a mount name space: %s", strerror(errno));
		strcpy(mounted, "/tmp/shmdev-XXXXXX");
		CHECK(mkdtemp(mounted));
		if (mount("none", mounted, "cgroup", 0, controller)) {
			int err = errno;

			rmdir(mounted);
			tap_skip("no control groups for %s: %s", controller, strerror(err));
		}
		snprintf(group, sizeof(group), "%s/shmdev-%d", mounted, getpid());
	}
	if (mkdir(group, 0755))
		tap_skip("cannot make a control group: %s", strerror(errno));
}

static const char *group_file(const char *v2, const char *v1)
{
	static char path[400];

	snprintf(path, sizeof(path), "%s/%s", group, unified ? v2 : v1);
	return path;
}

static void group_drop(void)
{
	CHECK_EQ(rmdir(group), 0);
	if (*mounted) {
		CHECK_EQ(umount(mounted), 0);
		CHECK_EQ(rmdir(mounted), 0);
	}
}

static void group_enter(void)
{
	CHECK(write_file(group_file("cgroup.procs", "cgroup.procs"), "0"));
}

/* --- Huge pages ------------------------------------------------------------------ */

static void touch(struct shmdev_region *region)
{
	memset(shmdev_region_addr(region), 1, shmdev_region_size(region));
}

static void within_a_hugetlb_group(void *forced)
{
	struct shmdev_region *region, *small;
	char why[256];

	group_enter();
	force(forced);
	/* Two of the four pages that the group may touch. */
	small = shmdev_region_create(2 * HUGE, 0);
	CHECK(small);
	CHECK_EQ(shmdev_region_backend(small), SHMDEV_BACKEND_HUGETLB);
	touch(small);
	/* All are free in the pool; more than this group may have. */
	if (forced) {
		CHECK_FAILS(shmdev_region_create(6 * HUGE, 0), ENOMEM);
	} else {
		region = shmdev_region_create(6 * HUGE, 0);
		CHECK(region);
		CHECK(shmdev_region_backend(region) > SHMDEV_BACKEND_HUGETLB);
		touch(region);
		shmdev_region_unref(region);
	}
	/* What did not work has taken nothing. */
	region = shmdev_region_create(2 * HUGE, 0);
	CHECK(region);
	CHECK_EQ(shmdev_region_backend(region), SHMDEV_BACKEND_HUGETLB);
	touch(region);
	CHECK_EQ(shmdev_backend_probe(SHMDEV_BACKEND_HUGETLB, why, sizeof(why)), -ENOMEM);
	CHECK(strstr(why, "control group"));
	tap_note("%s", why);
	shmdev_region_unref(region);
	shmdev_region_unref(small);
}

/* A limit of what is touched is met when memory is asked for. */
static void a_hugetlb_group_is_no_signal(void)
{
	int status;

	if (!access("/dev/shmdev", F_OK))
		force("hugetlb");
	hold_huge_pages(8);
	group_make("hugetlb");
	CHECK(write_file(group_file("hugetlb.2MB.max", "hugetlb.2MB.limit_in_bytes"), "8388608"));
	status = in_child(within_a_hugetlb_group, "hugetlb");
	if (!status && access("/dev/shmdev", F_OK))
		status = in_child(within_a_hugetlb_group, NULL);
	group_drop();
	CHECK_EQ(status, 0);
}

static int received;

static void open_within_a_hugetlb_group(void *unused)
{
	(void)unused;
	group_enter();
	CHECK_FAILS(shmdev_region_open(received), ENOMEM);
	/* To read a hole takes a page, too. */
	CHECK_FAILS(shmdev_region_open_rdonly(received), ENOMEM);
}

/* Nor does another's region, whose holes would be charged to this process. */
static void a_region_of_others_is_no_signal(void)
{
	int status;

	hold_huge_pages(8);
	group_make("hugetlb");
	CHECK(write_file(group_file("hugetlb.2MB.max", "hugetlb.2MB.limit_in_bytes"), "8388608"));
	received = memfd_create("other", MFD_HUGETLB | MFD_ALLOW_SEALING | MFD_CLOEXEC);
	CHECK(received >= 0);
	CHECK_EQ(ftruncate(received, 6 * HUGE), 0);
	CHECK_EQ(fcntl(received, F_ADD_SEALS, F_SEAL_SHRINK), 0);
	status = in_child(open_within_a_hugetlb_group, NULL);
	close(received);
	group_drop();
	CHECK_EQ(status, 0);
}

static void touch_all(void *region)
{
	touch(region);
}

/* What is reserved is there for a child as well, when all else has been taken. */
static void reserved_pages_are_there_after_fork(void)
{
	enum { MOST = 1000 };
	static struct shmdev_region *others[MOST];
	struct shmdev_region *region;
	int nr = 0;

	force("hugetlb");
	hold_huge_pages(12);
	region = shmdev_region_create(4 * HUGE, 0);
	CHECK(region);
	while (nr < MOST && (others[nr] = shmdev_region_create(HUGE, 0)))
		touch(others[nr++]);
	if (nr == MOST)
		tap_skip("more huge pages than this test wants to use up");
	CHECK_EQ(errno, ENOMEM);
	CHECK_EQ(in_child(touch_all, region), 0);
	CHECK(is_all(shmdev_region_addr(region), 4 * HUGE, 1));
	CHECK_FAILS(shmdev_region_create(HUGE, 0), ENOMEM);
	while (nr)
		shmdev_region_unref(others[--nr]);
	shmdev_region_unref(region);
}

/* Pages that are not set aside but taken when they are asked for are as good. */
static void surplus_pages(void)
{
	static struct shmdev_region *others[1000];
	struct shmdev_region *region;
	char why[256], before[32];
	int nr = 0, err;

	force("hugetlb");
	hold_huge_pages(4);
	if (geteuid())
		tap_skip("needs root");
	while (nr < 1000 && (others[nr] = shmdev_region_create(HUGE, 0)))
		nr++;
	CHECK(nr < 1000);
	snprintf(before, sizeof(before), "%ld", read_number(HUGE_DIR "nr_overcommit_hugepages", ""));
	CHECK(write_file(HUGE_DIR "nr_overcommit_hugepages", "6"));
	region = shmdev_region_create(6 * HUGE, 0);
	err = region ? shmdev_backend_probe(SHMDEV_BACKEND_HUGETLB, why, sizeof(why)) : 0;
	if (region) {
		touch(region);
		shmdev_region_unref(region);
	}
	CHECK(write_file(HUGE_DIR "nr_overcommit_hugepages", before));
	while (nr)
		shmdev_region_unref(others[--nr]);
	if (!region)
		tap_skip("no memory in pieces of 2 MiB to be had");
	CHECK_EQ(err, -ENOMEM);
	CHECK(strstr(why, "nr_overcommit_hugepages"));
	tap_note("%s", why);
}

/* Pages of a node that this thread may not use are none. */
static void pages_of_other_nodes(void)
{
	unsigned long second = 1UL << 1;
	struct shmdev_region *region;

	need_own_machine();
	if (access("/sys/devices/system/node/node1", F_OK))
		tap_skip("there is one node");
	CHECK(write_file("/sys/devices/system/node/node0/hugepages/hugepages-2048kB/nr_hugepages",
			 "8"));
	CHECK(write_file("/sys/devices/system/node/node1/hugepages/hugepages-2048kB/nr_hugepages",
			 "0"));
	if (read_number("/sys/devices/system/node/node0/hugepages/hugepages-2048kB/free_hugepages",
			"") < 4)
		tap_skip("no huge pages on node 0");
	force("hugetlb");
	region = shmdev_region_create(2 * HUGE, 0);
	CHECK(region);
	touch(region);
	shmdev_region_unref(region);
	CHECK_EQ(syscall(SYS_set_mempolicy, MPOL_BIND, &second, 64), 0);
	region = shmdev_region_create(2 * HUGE, 0);
	if (region)
		touch(region);
	CHECK(!region);
	CHECK_EQ(errno, ENOMEM);
}

/* --- Ordinary memory ------------------------------------------------------------- */

static unsigned long used_by(const struct shmdev_region *region)
{
	struct stat st;

	CHECK_EQ(fstat(shmdev_region_fd(region), &st), 0);
	return st.st_blocks * 512UL;
}

/* It costs nothing until it is touched, or all of it at once, as one wants. */
static void committed_or_not(void)
{
	enum shmdev_backend backend = need_backend();
	struct shmdev_region *region;

	CHECK_FAILS(shmdev_region_create(MIB, SHMDEV_REGION_COMMIT << 1), EINVAL);
	CHECK_FAILS(shmdev_region_create(MIB, ~0U), EINVAL);
	region = shmdev_region_create(32 * MIB + 1, 0);
	CHECK(region);
	if (backend != SHMDEV_BACKEND_DEVICE)
		CHECK_EQ(used_by(region), 0);
	shmdev_region_unref(region);
	region = shmdev_region_create(32 * MIB + 1, SHMDEV_REGION_COMMIT);
	CHECK(region);
	CHECK_EQ(shmdev_region_backend(region), backend);
	CHECK(used_by(region) >= 32 * MIB + 1);
	CHECK(is_all(shmdev_region_addr(region), shmdev_region_size(region), 0));
	CHECK_EQ(shmdev_region_create(1, SHMDEV_REGION_COMMIT) == NULL, 0);
	shmdev_region_unref(region);
}

/* More than the machine has: an error, and nobody is the worse for it. */
static void more_than_there_is(void)
{
	size_t all = (size_t)sysconf(_SC_PHYS_PAGES) * sysconf(_SC_PAGESIZE);
	long before = read_number("/proc/vmstat", "oom_kill ");
	struct shmdev_region *region;

	need_backend();
	/* All of it costs nothing, as long as nobody touches it. */
	region = shmdev_region_create(all, 0);
	if (region)
		shmdev_region_unref(region);
	CHECK_FAILS(shmdev_region_create(all, SHMDEV_REGION_COMMIT), ENOMEM);
	CHECK_EQ(count_region_mappings(), 0);
	CHECK_EQ(read_number("/proc/vmstat", "oom_kill "), before);
}

static void within_a_memory_group(void *forced)
{
	struct shmdev_region *region;

	group_enter();
	force(forced);
	CHECK_FAILS(shmdev_region_create(200 * MIB, SHMDEV_REGION_COMMIT), ENOMEM);
	CHECK_EQ(count_region_mappings(), 0);
	for (int i = 0; i < 20; i++) {
		region = shmdev_region_create(40 * MIB, SHMDEV_REGION_COMMIT);
		CHECK(region);
		touch(region);
		shmdev_region_unref(region);
	}
	/* As much as there is, in pieces. */
	for (int i = 0; ; i++) {
		region = shmdev_region_create(4 * MIB, SHMDEV_REGION_COMMIT);
		if (!region) {
			CHECK_EQ(errno, ENOMEM);
			CHECK(i >= 4 && i < 16);
			break;
		}
		touch(region);
	}
}

/* Memory that is asked for at once is ENOMEM at the limit of a control group, for which
 * the kernel would otherwise kill. */
static void a_memory_group_kills_nobody(void)
{
	static const char *const backends[] = { "memfd", "thp" };
	const char *failures;
	int status = 0;
	long failed;

	group_make("memory");
	CHECK(write_file(group_file("memory.max", "memory.limit_in_bytes"), "67108864"));
	for (int i = 0; i < 2 && !status; i++) {
		force(backends[i]);
		if (i && shmdev_backend_probe(SHMDEV_BACKEND_THP, NULL, 0))
			break;
		status = in_child(within_a_memory_group, (void *)backends[i]);
	}
	failures = group_file("memory.events", "memory.oom_control");
	failed = read_number(failures, "oom_kill ");
	group_drop();
	CHECK_EQ(status, 0);
	CHECK_EQ(failed, 0);
}

static void ready_within_a_memory_group(void *forced)
{
	struct shmdev_ready_options options = { .limit = 512 * MIB, .size = 256 * MIB };
	struct shmdev_ready_info info;

	group_enter();
	force(forced);
	/* What the group cannot have is not made ready. */
	CHECK_EQ(shmdev_ready_start(&options), 0);
	CHECK_EQ(shmdev_ready_wait(60000), -ENOMEM);
	shmdev_ready_get(&info);
	CHECK_EQ(info.bytes, 0);
	shmdev_ready_stop();
	/* What is ready goes back for who wants it. */
	options = (struct shmdev_ready_options){ .limit = 24 * MIB, .size = 16 * MIB };
	CHECK_EQ(shmdev_ready_start(&options), 0);
	CHECK_EQ(shmdev_ready_wait(60000), 0);
	CHECK(shmdev_region_create(36 * MIB, SHMDEV_REGION_COMMIT));
	CHECK(shmdev_region_create(8 * MIB, SHMDEV_REGION_COMMIT));
	/* There may be some again, of the last size, if the group has room. */
	shmdev_ready_get(&info);
	CHECK(info.bytes < 16 * MIB);
	shmdev_ready_stop();
}

/* Nor does what makes memory ready have anybody killed. */
static void ready_memory_kills_nobody(void)
{
	const char *failures;
	long failed;
	int status;

	group_make("memory");
	CHECK(write_file(group_file("memory.max", "memory.limit_in_bytes"), "67108864"));
	status = in_child(ready_within_a_memory_group, "memfd");
	failures = group_file("memory.events", "memory.oom_control");
	failed = read_number(failures, "oom_kill ");
	group_drop();
	CHECK_EQ(status, 0);
	CHECK_EQ(failed, 0);
}

/* With the strictest accounting each page may be refused: so all are asked for. */
static void try_strict_accounting(void *forced)
{
	struct shmdev_region *region;
	size_t all = (size_t)sysconf(_SC_PHYS_PAGES) * sysconf(_SC_PAGESIZE);
	char *block;

	force(forced);
	region = shmdev_region_create(8 * MIB, 0);
	CHECK(region);
	CHECK(used_by(region) >= 8 * MIB);
	touch(region);
	CHECK_FAILS(shmdev_region_create(all, 0), ENOMEM);
	/* As long as there is any, every byte of it is there. */
	for (int i = 0; i < 10000; i++) {
		block = shm_alloc(4 * MIB);
		if (!block)
			break;
		memset(block, 1, 4 * MIB);
	}
	CHECK(!block);
	CHECK_EQ(errno, ENOMEM);
}

static void strict_accounting_is_no_signal(void)
{
	int status;

	need_own_machine();
	CHECK(write_file("/proc/sys/vm/overcommit_ratio", "40"));
	CHECK(write_file("/proc/sys/vm/overcommit_memory", "2"));
	status = in_child(try_strict_accounting, "memfd");
	CHECK(write_file("/proc/sys/vm/overcommit_memory", "0"));
	CHECK_EQ(status, 0);
}

TAP_MAIN(TAP_TEST(a_hugetlb_group_is_no_signal),
	 TAP_TEST(a_region_of_others_is_no_signal),
	 TAP_TEST(reserved_pages_are_there_after_fork),
	 TAP_TEST(surplus_pages),
	 TAP_TEST(pages_of_other_nodes),
	 TAP_TEST(committed_or_not),
	 TAP_TEST(more_than_there_is),
	 TAP_TEST(a_memory_group_kills_nobody),
	 TAP_TEST(ready_memory_kills_nobody),
	 TAP_TEST(strict_accounting_is_no_signal))
