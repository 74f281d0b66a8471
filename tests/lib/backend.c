// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/* Backends: which is taken, which is forced, and what is said of the others. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#include "tap.h"
#include "util.h"

#define MIB	((size_t)1 << 20)

static void force(const char *name)
{
	if (name)
		CHECK_EQ(setenv("SHMDEV_BACKEND", name, 1), 0);
	else
		CHECK_EQ(unsetenv("SHMDEV_BACKEND"), 0);
}

/* The sentence for @backend, which must say something if it cannot be had. */
static int probe(enum shmdev_backend backend, char why[256])
{
	int err = shmdev_backend_probe(backend, why, 256);

	CHECK(err <= 0);
	CHECK(!err == !why[0]);
	return err;
}

static void names(void)
{
	CHECK_EQ(strcmp(shmdev_backend_name(SHMDEV_BACKEND_DEVICE), "device"), 0);
	CHECK_EQ(strcmp(shmdev_backend_name(SHMDEV_BACKEND_HUGETLB), "hugetlb"), 0);
	CHECK_EQ(strcmp(shmdev_backend_name(SHMDEV_BACKEND_THP), "thp"), 0);
	CHECK_EQ(strcmp(shmdev_backend_name(SHMDEV_BACKEND_MEMFD), "memfd"), 0);
	CHECK(!shmdev_backend_name(SHMDEV_BACKEND_NR));
	CHECK(!shmdev_backend_name((enum shmdev_backend)-1));
	CHECK_EQ(strcmp(shmdev_fill_engine_name(SHMDEV_FILL_FIXED), "fixed"), 0);
	CHECK_EQ(strcmp(shmdev_fill_engine_name(SHMDEV_FILL_RING), "ring"), 0);
	CHECK_EQ(strcmp(shmdev_fill_engine_name(SHMDEV_FILL_PREADV), "preadv"), 0);
	CHECK(!shmdev_fill_engine_name(SHMDEV_FILL_NR));
	CHECK(!shmdev_fill_engine_name((enum shmdev_fill_engine)-1));
}

/* Left alone, it takes the first of which the probe says that it can be had. */
static void the_best_is_taken(void)
{
	struct shmdev_region *region;
	struct shmdev_info info;
	char why[256];
	int best = -1;

	force(NULL);
	for (int i = 0; i < SHMDEV_BACKEND_NR; i++) {
		int err = probe(i, why);

		tap_note("%s: %s", shmdev_backend_name(i), err ? why : "yes");
		if (!err && best < 0)
			best = i;
	}
	CHECK(best >= 0);
	info = info_now();
	CHECK_EQ(info.backend, best);
	CHECK_EQ(info.page_size, best == SHMDEV_BACKEND_MEMFD ? sysconf(_SC_PAGESIZE) :
							       (long)(2 * MIB));
	CHECK_EQ(info.regions, 0);
	for (int i = 0; i < 8; i++)
		CHECK_EQ(info.reserved[i], 0);
	region = shmdev_region_create(1, 0);
	CHECK(region);
	CHECK_EQ(shmdev_region_backend(region), best);
	shmdev_region_unref(region);
	CHECK_EQ(count_region_mappings(), 0);
}

static void try_forced(void *argument)
{
	int forced = *(int *)argument;
	struct shmdev_info info;
	struct shmdev_region *region;
	char why[256];
	int err;

	force(shmdev_backend_name(forced));
	for (int i = 0; i < SHMDEV_BACKEND_NR; i++) {
		err = probe(i, why);
		if (i == forced)
			continue;
		CHECK_EQ(err, -EPERM);
		CHECK(strstr(why, "SHMDEV_BACKEND"));
		CHECK(strstr(why, shmdev_backend_name(forced)));
	}

	err = probe(forced, why);
	memset(&info, 0x77, sizeof(info));
	CHECK_EQ(shmdev_info_get(&info), err);
	region = shmdev_region_create(1, 0);
	if (err) {
		tap_note("%s: %s", shmdev_backend_name(forced), why);
		CHECK(!region);
		CHECK_EQ(errno, -err);
		CHECK(is_all(&info, sizeof(info), 0x77));
		CHECK_FAILS(shm_alloc(1), -err);
		CHECK_FAILS(shm_alloc(2 * MIB), -err);
	} else {
		CHECK(region);
		CHECK_EQ(shmdev_region_backend(region), forced);
		CHECK_EQ(info.backend, forced);
		shmdev_region_unref(region);
	}
}

static void a_forced_one_is_it_or_nothing(void)
{
	for (int i = 0; i < SHMDEV_BACKEND_NR; i++) {
		int status = in_child(try_forced, &i);

		CHECK(WIFEXITED(status) && !WEXITSTATUS(status));
	}
}

static void try_unknown(void *name)
{
	struct shmdev_info info;
	char why[256];

	force(name);
	CHECK_FAILS(shmdev_region_create(4096, 0), EINVAL);
	CHECK_FAILS(shm_alloc(64), EINVAL);
	CHECK_FAILS(shm_alloc(2 * MIB), EINVAL);
	CHECK_EQ(shmdev_info_get(&info), -EINVAL);
	for (int i = 0; i < SHMDEV_BACKEND_NR; i++) {
		CHECK_EQ(probe(i, why), -EPERM);
		CHECK(strstr(why, "names no backend"));
	}
}

static void an_unknown_name_is_an_error(void)
{
	static char *const bad[] = { "", "Memfd", "memfd ", "memf", "memfdx", "0", "auto" };

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		int status = in_child(try_unknown, bad[i]);

		CHECK(WIFEXITED(status) && !WEXITSTATUS(status));
	}
}

static void the_first_use_decides(void)
{
	struct shmdev_region *region;

	force("memfd");
	region = shmdev_region_create(4096, 0);
	CHECK(region);
	shmdev_region_unref(region);
	force("nonsense");
	region = shmdev_region_create(4096, 0);
	CHECK(region);
	CHECK_EQ(shmdev_region_backend(region), SHMDEV_BACKEND_MEMFD);
	shmdev_region_unref(region);
}

static void reasons_are_cut_and_may_be_waived(void)
{
	char whole[256], cut[256];

	force("memfd");
	CHECK_EQ(shmdev_backend_probe(SHMDEV_BACKEND_NR, whole, sizeof(whole)), -EINVAL);
	CHECK_EQ(shmdev_backend_probe((enum shmdev_backend)-1, NULL, 0), -EINVAL);
	CHECK_EQ(shmdev_backend_probe(SHMDEV_BACKEND_DEVICE, NULL, 0), -EPERM);
	CHECK_EQ(shmdev_backend_probe(SHMDEV_BACKEND_DEVICE, NULL, 1), -EINVAL);
	CHECK_EQ(probe(SHMDEV_BACKEND_DEVICE, whole), -EPERM);
	for (size_t size = 1; size < 20; size++) {
		memset(cut, 'x', sizeof(cut));
		CHECK_EQ(shmdev_backend_probe(SHMDEV_BACKEND_DEVICE, cut, size), -EPERM);
		CHECK_EQ(strlen(cut), size - 1);
		CHECK(!strncmp(cut, whole, size - 1));
		CHECK_EQ(cut[size], 'x');
	}
}

/* What use_it() writes to standard error, in @said. */
static void listen_to(void (*use_it)(void *), void *argument, char *said, size_t size)
{
	int pipes[2], error = dup(STDERR_FILENO), status;
	size_t len = 0;
	ssize_t got;

	CHECK_EQ(pipe(pipes), 0);
	dup2(pipes[1], STDERR_FILENO);
	close(pipes[1]);
	status = in_child(use_it, argument);
	dup2(error, STDERR_FILENO);
	close(error);
	while ((got = read(pipes[0], said + len, size - 1 - len)) > 0)
		len += got;
	close(pipes[0]);
	said[len] = '\0';
	CHECK_EQ(status, 0);
}

static void make_a_region(void *debug)
{
	struct shmdev_region *region;

	if (debug)
		setenv("SHMDEV_DEBUG", debug, 1);
	region = shmdev_region_create(3 * MIB, 0);
	CHECK(region);
	/* Not what was read at the first use. */
	setenv("SHMDEV_DEBUG", debug && *(char *)debug == '1' ? "0" : "1", 1);
	shmdev_region_unref(region);
	shmdev_region_unref(shmdev_region_create(3 * MIB, 0));
}

/* A sentence for each backend that was tried, twice, and for what was taken. */
static void decisions_are_told_to_who_asks(void)
{
	static char *const off[] = { NULL, "", "0" };
	char said[8192], why[256], *at;
	int best = 0;

	force(NULL);
	unsetenv("SHMDEV_DEBUG");
	for (int i = 0; i < 3; i++) {
		listen_to(make_a_region, off[i], said, sizeof(said));
		CHECK_EQ(strlen(said), 0);
	}
	listen_to(make_a_region, "1", said, sizeof(said));
	at = said;
	for (int turn = 0; turn < 2; turn++) {
		for (best = 0; probe(best, why); best++) {
			at = strstr(at, "region of 3145728 bytes: not ");
			CHECK(at);
			at += strlen("region of 3145728 bytes: not ");
			CHECK(!strncmp(at, shmdev_backend_name(best),
				       strlen(shmdev_backend_name(best))));
			CHECK(strstr(at, why));
		}
		at = strstr(at, best == SHMDEV_BACKEND_MEMFD ? "region of 3145728 bytes: " :
							       "region of 4194304 bytes: ");
		CHECK(at);
		at += strlen("region of 3145728 bytes: ");
		CHECK(!strncmp(at, shmdev_backend_name(best), strlen(shmdev_backend_name(best))));
	}
	/* Whole lines, each with the process. */
	CHECK(said[strlen(said) - 1] == '\n');
	for (at = said; *at; at = strchr(at, '\n') + 1)
		CHECK(!strncmp(at, "shmdev[", 7));
}

/* --- Device -------------------------------------------------------------------- */

static void a_missing_device_is_told(void)
{
	char why[256];

	if (!access("/dev/shmdev", F_OK))
		tap_skip("/dev/shmdev is there");
	force(NULL);
	CHECK_EQ(probe(SHMDEV_BACKEND_DEVICE, why), -ENODEV);
	CHECK(strstr(why, "/dev/shmdev does not exist") && strstr(why, "insmod"));
}

/* In a mount name space of our own /dev is ours too. */
static void make_own_dev(void)
{
	if (geteuid())
		tap_skip("needs root");
	if (unshare(CLONE_NEWNS))
		tap_skip("cannot have a mount name space: %s", strerror(errno));
	CHECK_EQ(mount("none", "/", "none", MS_REC | MS_PRIVATE, NULL), 0);
	if (mount("none", "/dev", "tmpfs", 0, NULL))
		tap_skip("cannot mount a tmpfs: %s", strerror(errno));
}

static void try_as_nobody(void *unused)
{
	char why[256];

	(void)unused;
	CHECK_EQ(setgid(65534), 0);
	CHECK_EQ(setuid(65534), 0);
	CHECK_EQ(probe(SHMDEV_BACKEND_DEVICE, why), -EACCES);
	CHECK(strstr(why, "no permission"));
}

static void a_device_that_is_not_ours_is_told(void)
{
	char why[256];
	int status, fd;

	force(NULL);
	make_own_dev();

	/* A node of a driver that is not there: 250 is for local use. */
	CHECK_EQ(mknod("/dev/shmdev", S_IFCHR | 0600, 250 << 8 | 250), 0);
	CHECK_EQ(probe(SHMDEV_BACKEND_DEVICE, why), -ENXIO);
	CHECK(strstr(why, "has no driver"));
	status = in_child(try_as_nobody, NULL);
	CHECK(WIFEXITED(status) && !WEXITSTATUS(status));

	/* A file, and a device that is another. */
	CHECK_EQ(unlink("/dev/shmdev"), 0);
	fd = open("/dev/shmdev", O_CREAT | O_RDWR, 0666);
	CHECK(fd >= 0);
	CHECK_EQ(probe(SHMDEV_BACKEND_DEVICE, why), -EOPNOTSUPP);
	CHECK(strstr(why, "is not the device"));
	CHECK_EQ(unlink("/dev/shmdev"), 0);
	CHECK_EQ(mknod("/dev/shmdev", S_IFCHR | 0666, 1 << 8 | 3), 0);
	CHECK_EQ(probe(SHMDEV_BACKEND_DEVICE, why), -EOPNOTSUPP);

	/* The next backend is taken, as if there were no node. */
	CHECK(info_now().backend != SHMDEV_BACKEND_DEVICE);
	shm_free(shm_alloc(100));
}

/* --- Huge pages ----------------------------------------------------------------- */

static unsigned long hugetlb_free(void)
{
	unsigned long available = 0, reserved = 0;
	char line[128];
	FILE *file = fopen("/proc/meminfo", "re");

	CHECK(file);
	while (fgets(line, sizeof(line), file)) {
		sscanf(line, "HugePages_Free: %lu", &available);
		sscanf(line, "HugePages_Rsvd: %lu", &reserved);
	}
	fclose(file);
	return available - reserved;
}

/* When it has no more pages, a region comes from the next, and is as good as any. */
static void exhausted_huge_pages_are_made_up_for(void)
{
	enum { MOST = 2000 };
	static struct shmdev_region *regions[MOST];
	int nr = 0, after = 0;
	char why[256], *block;

	force(NULL);
	if (!shmdev_backend_probe(SHMDEV_BACKEND_DEVICE, NULL, 0))
		tap_skip("the device is there, and better");
	if (!hugetlb_free())
		tap_skip("no free huge pages: set vm.nr_hugepages");
	for (; nr < MOST && after < 3; nr++) {
		/* 16 MiB at a time as long as that goes, then what is left. */
		size_t size = hugetlb_free() >= 8 ? 16 * MIB : 2 * MIB;

		regions[nr] = shmdev_region_create(size, 0);
		CHECK(regions[nr]);
		if (shmdev_region_backend(regions[nr]) == SHMDEV_BACKEND_HUGETLB)
			continue;
		after++;
		memset(shmdev_region_addr(regions[nr]), 1, 2 * MIB);
	}
	if (after < 3)
		tap_skip("more huge pages than this test wants to use up");
	CHECK(nr > 3);
	/* Of what was reserved every byte is there. */
	memset(shmdev_region_addr(regions[0]), 1, shmdev_region_size(regions[0]));

	CHECK_EQ(probe(SHMDEV_BACKEND_HUGETLB, why), -ENOMEM);
	CHECK(strstr(why, "vm.nr_hugepages"));
	tap_note("%s", why);
	CHECK(info_now().backend > SHMDEV_BACKEND_HUGETLB);
	block = shm_alloc(3 * MIB);
	CHECK(block);
	memset(block, 1, 3 * MIB);
	shm_free(block);
	while (nr)
		shmdev_region_unref(regions[--nr]);
}

/* Where it is forced, it is ENOMEM when it is made and no signal when it is used. */
static void exhausted_huge_pages_are_enomem(void)
{
	enum { MOST = 2000 };
	static void *blocks[MOST];
	int nr = 0;

	force("hugetlb");
	if (!hugetlb_free())
		tap_skip("no free huge pages: set vm.nr_hugepages");
	/* Small blocks, in regions that grow until they do not fit, and then do again. */
	for (; nr < MOST; nr++) {
		blocks[nr] = shm_alloc(MIB);
		if (!blocks[nr])
			break;
		*(char *)blocks[nr] = 1;
	}
	if (nr == MOST)
		tap_skip("more huge pages than this test wants to use up");
	CHECK_EQ(errno, ENOMEM);
	CHECK_FAILS(shmdev_region_create(2 * MIB, 0), ENOMEM);
	CHECK(hugetlb_free() < 2);
	while (nr)
		shm_free(blocks[--nr]);
}

/* --- memfd ---------------------------------------------------------------------- */

static void the_size_of_dev_shm_does_not_matter(void)
{
	char *block;

	force("memfd");
	make_own_dev();
	CHECK_EQ(mkdir("/dev/shm", 0777), 0);
	CHECK_EQ(mount("none", "/dev/shm", "tmpfs", 0, "size=65536"), 0);
	block = shm_alloc(20 * MIB);
	CHECK(block);
	memset(block, 1, 20 * MIB);
	shm_free(block);
	/* And may not be there. */
	CHECK_EQ(umount("/dev/shm"), 0);
	CHECK_EQ(rmdir("/dev/shm"), 0);
	shm_free(shm_alloc(2 * MIB));
}

static void try_without_memfd(void *error)
{
	char why[256];
	int expected = *(int *)error == EPERM ? EACCES : EOPNOTSUPP;

	force("memfd");
	forbid_syscall(SYS_memfd_create, *(int *)error);
	CHECK_EQ(probe(SHMDEV_BACKEND_MEMFD, why), -expected);
	CHECK_FAILS(shmdev_region_create(4096, 0), expected);
	CHECK_FAILS(shm_alloc(64), expected);
	CHECK_EQ(count_region_mappings(), 0);
}

static void a_memfd_that_is_refused_is_told(void)
{
	for (int i = 0; i < 2; i++) {
		int error = i ? ENOSYS : EPERM;
		int status = in_child(try_without_memfd, &error);

		CHECK(WIFEXITED(status) && !WEXITSTATUS(status));
	}
}

TAP_MAIN(TAP_TEST(names),
	 TAP_TEST(the_best_is_taken),
	 TAP_TEST(a_forced_one_is_it_or_nothing),
	 TAP_TEST(an_unknown_name_is_an_error),
	 TAP_TEST(the_first_use_decides),
	 TAP_TEST(reasons_are_cut_and_may_be_waived),
	 TAP_TEST(decisions_are_told_to_who_asks),
	 TAP_TEST(a_missing_device_is_told),
	 TAP_TEST(a_device_that_is_not_ours_is_told),
	 TAP_TEST(exhausted_huge_pages_are_made_up_for),
	 TAP_TEST(exhausted_huge_pages_are_enomem),
	 TAP_TEST(the_size_of_dev_shm_does_not_matter),
	 TAP_TEST(a_memfd_that_is_refused_is_told))
