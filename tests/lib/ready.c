// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/* Regions that are ready before they are asked for: what is taken, what it costs, who has it. */
#define _GNU_SOURCE
#include <dirent.h>
#include <limits.h>
#include <pthread.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include "tap.h"
#include "util.h"

#define MIB	((size_t)1 << 20)

/* Long enough for a slow machine; what comes sooner is not waited for. */
#define PATIENCE	60000

static enum shmdev_backend need_memfds(void)
{
	enum shmdev_backend backend = need_backend();

	if (backend == SHMDEV_BACKEND_DEVICE)
		tap_skip("the device has ready memory of its own");
	return backend;
}

static struct shmdev_ready_info ready_now(void)
{
	struct shmdev_ready_info info;

	memset(&info, 0xff, sizeof(info));
	shmdev_ready_get(&info);
	return info;
}

static void start(size_t limit, size_t size)
{
	const struct shmdev_ready_options options = { .limit = limit, .size = size };

	CHECK_EQ(shmdev_ready_start(&options), 0);
}

/* A region of at least @size bytes, zeroed. */
static struct shmdev_region *take(size_t size)
{
	struct shmdev_region *region = shmdev_region_create(size, 0);

	CHECK(region);
	CHECK(shmdev_region_size(region) >= size);
	return region;
}

static void settle(void)
{
	CHECK_EQ(shmdev_ready_wait(PATIENCE), 0);
}

static unsigned int memfds(void)
{
	return count_descriptors_of("/memfd:shmdev (deleted)", NULL);
}

/* Sanitizers have memory of their own that is touched beside ours. */
#if defined(__SANITIZE_THREAD__) || defined(__SANITIZE_ADDRESS__)
#define FAULTS_MAX	LONG_MAX
#else
#define FAULTS_MAX	16
#endif

static long faults(void)
{
	struct rusage usage;

	CHECK_EQ(getrusage(RUSAGE_THREAD, &usage), 0);
	return usage.ru_minflt;
}

static void off_unless_asked_for(void)
{
	struct shmdev_ready_info info;

	need_memfds();
	CHECK_EQ(unsetenv("SHMDEV_READY"), 0);
	for (int i = 0; i < 3; i++)
		shmdev_region_unref(take(8 * MIB));
	info = ready_now();
	CHECK(is_all(&info, sizeof(info), 0));
	CHECK_EQ(shmdev_ready_wait(0), -EINVAL);
	CHECK_EQ(memfds(), 0);
	shmdev_ready_stop();
}

static void bad_options(void)
{
	struct shmdev_ready_options options = { .limit = 0 };

	CHECK_EQ(shmdev_ready_start(NULL), -EINVAL);
	CHECK_EQ(shmdev_ready_start(&options), -EINVAL);
	options.limit = UINT64_MAX;
	CHECK_EQ(shmdev_ready_start(&options), -EINVAL);
	options.limit = 8 * MIB;
	options.size = 8 * MIB + 1;
	CHECK_EQ(shmdev_ready_start(&options), -EINVAL);
	options.size = 4096;
	CHECK_EQ(shmdev_ready_start(&options), -EINVAL);
	options.size = UINT64_MAX;
	CHECK_EQ(shmdev_ready_start(&options), -EINVAL);
	options.size = 0;
	options.reserved[5] = 1;
	CHECK_EQ(shmdev_ready_start(&options), -EINVAL);
	CHECK_EQ(ready_now().limit, 0);
	CHECK_EQ(shmdev_ready_wait(-1), -EINVAL);
}

/* All of it is there, mapped, and zero, whatever was in what was given back. */
static void ready_is_ready_and_zero(void)
{
	struct shmdev_region *region;
	struct stat st;
	long before;

	need_memfds();
	start(64 * MIB, 8 * MIB);
	for (uint64_t i = 1; i <= 4; i++) {
		settle();
		CHECK_EQ(ready_now().bytes, 8 * MIB);
		CHECK_EQ(ready_now().regions, 1);
		region = take(8 * MIB);
		CHECK_EQ(ready_now().hits, i);
		CHECK_EQ(shmdev_region_size(region), 8 * MIB);
		CHECK_EQ(fstat(shmdev_region_fd(region), &st), 0);
		CHECK(st.st_blocks * 512ULL >= 8 * MIB);
		before = faults();
		for (size_t at = 0; at < 8 * MIB; at += 4096)
			((volatile char *)shmdev_region_addr(region))[at] += 0;
		CHECK(faults() - before < FAULTS_MAX);
		CHECK(is_all(shmdev_region_addr(region), 8 * MIB, 0));
		memset(shmdev_region_addr(region), 0xa5, 8 * MIB);
		shmdev_region_unref(region);
	}
	CHECK_EQ(ready_now().misses, 0);
	CHECK(ready_now().made_bytes >= 32 * MIB);
	settle();
	CHECK(ready_now().cpu_ns > 0);
	shmdev_ready_stop();
	CHECK_EQ(memfds(), 0);
	CHECK_EQ(count_region_mappings(), 0);
	CHECK_EQ(ready_now().bytes, 0);
	CHECK_EQ(ready_now().limit, 0);
	CHECK_EQ(ready_now().dropped_bytes, 8 * MIB);
}

/* What has been asked for will be asked for; nearly the same size is as good. */
static void sizes_are_learned(void)
{
	struct shmdev_region *first, *second;

	need_memfds();
	start(256 * MIB, 0);
	settle();
	CHECK_EQ(ready_now().bytes, 0);
	first = take(20 * MIB);
	CHECK_EQ(ready_now().misses, 1);
	settle();
	CHECK_EQ(ready_now().bytes, 20 * MIB);
	second = take(20 * MIB - 5000);
	CHECK_EQ(ready_now().hits, 1);
	shmdev_region_unref(first);
	shmdev_region_unref(second);
	settle();
	/* Another size is another one; what is small is none. */
	shmdev_region_unref(take(30 * MIB));
	CHECK_EQ(ready_now().misses, 2);
	shmdev_region_unref(take(4096));
	CHECK_EQ(ready_now().misses, 2);
	shmdev_ready_stop();
}

static void never_more_than_the_limit(void)
{
	enum { LIMIT = 24 };
	struct shmdev_region *held[8];
	uint32_t random = 7;

	need_memfds();
	start(LIMIT * MIB, 0);
	for (int i = 0; i < 200; i++) {
		struct shmdev_ready_info info;

		for (int j = 0; j < 8; j++)
			held[j] = take((1 + random_below(&random, 2 * LIMIT)) * MIB);
		info = ready_now();
		CHECK(info.bytes <= LIMIT * MIB);
		CHECK(memfds() <= 8 + LIMIT / 2 + 1);
		for (int j = 0; j < 8; j++)
			shmdev_region_unref(held[j]);
	}
	settle();
	CHECK(ready_now().bytes <= LIMIT * MIB);
	/* Less from now on. */
	start(4 * MIB, 0);
	settle();
	CHECK(ready_now().bytes <= 4 * MIB);
	shmdev_ready_stop();
	CHECK_EQ(memfds(), 0);
}

/* What was asked for last takes the place of what was asked for before it. */
static void newer_sizes_come_first(void)
{
	need_memfds();
	start(20 * MIB, 0);
	shmdev_region_unref(take(16 * MIB));
	settle();
	CHECK_EQ(ready_now().bytes, 16 * MIB);
	shmdev_region_unref(take(12 * MIB));
	settle();
	CHECK_EQ(ready_now().bytes, 12 * MIB);
	CHECK_EQ(ready_now().dropped_bytes, 16 * MIB);
	shmdev_region_unref(take(12 * MIB));
	CHECK_EQ(ready_now().hits, 1);
	shmdev_ready_stop();
}

static void blocks_are_of_it_too(void)
{
	const struct shmdev_block_options own = { .flags = SHMDEV_BLOCK_OWN };
	char *block;

	need_memfds();
	start(64 * MIB, 16 * MIB);
	settle();
	block = shmdev_block_alloc_with(16 * MIB, &own);
	CHECK(block);
	CHECK_EQ(ready_now().hits, 1);
	CHECK(is_all(block, 16 * MIB, 0));
	memset(block, 1, 16 * MIB);
	shm_free(block);
	settle();
	block = shmdev_block_alloc_with(16 * MIB, &own);
	CHECK(block);
	CHECK_EQ(ready_now().hits, 2);
	CHECK(is_all(block, 16 * MIB, 0));
	shm_free(block);
	shmdev_ready_stop();
	CHECK_EQ(info_now().blocks, 0);
}

static void look_in_the_child(void *region)
{
	struct shmdev_ready_info info = ready_now();

	CHECK(is_all(&info, sizeof(info), 0));
	CHECK_EQ(shmdev_ready_wait(-1), -EINVAL);
	CHECK_EQ(memfds(), 1);
	CHECK_EQ(count_region_mappings(), 1);
	CHECK(is_all(shmdev_region_addr(region), 4 * MIB, 0));
	memset(shmdev_region_addr(region), 1, 4 * MIB);
	/* Of its own it can have one. */
	start(32 * MIB, 4 * MIB);
	settle();
	shmdev_region_unref(take(4 * MIB));
	CHECK_EQ(ready_now().hits, 1);
}

static void a_child_has_none_of_it(void)
{
	struct shmdev_region *region;

	need_memfds();
	start(32 * MIB, 4 * MIB);
	settle();
	region = take(4 * MIB);
	settle();
	CHECK_EQ(in_child(look_in_the_child, region), 0);
	CHECK(is_all(shmdev_region_addr(region), 4 * MIB, 1));
	/* The parent's is as it was. */
	CHECK_EQ(ready_now().regions, 1);
	shmdev_region_unref(take(4 * MIB));
	CHECK_EQ(ready_now().hits, 2);
	shmdev_region_unref(region);
	shmdev_ready_stop();
	CHECK_EQ(memfds(), 0);
}

static bool enough;			/* atomic */

static void *take_and_give(void *seed)
{
	uint32_t random = (uintptr_t)seed;

	while (!__atomic_load_n(&enough, __ATOMIC_RELAXED)) {
		struct shmdev_region *region = take((1 + random_below(&random, 6)) * MIB);

		CHECK(is_all(shmdev_region_addr(region), 4096, 0));
		memset(shmdev_region_addr(region), 1, 4096);
		shmdev_region_unref(region);
	}
	return NULL;
}

static void nothing_is_there(void *unused)
{
	(void)unused;
	/* What threads of the parent held is leaked here, as always; no more than that. */
	CHECK(memfds() <= 2);
	CHECK(count_region_mappings() <= 2);
	shmdev_region_unref(take(MIB));
	CHECK_EQ(ready_now().hits + ready_now().misses, 0);
}

/* Forks, starts and stops in the middle of everything. */
static void forks_and_stops_at_any_time(void)
{
	pthread_t threads[2];

	need_memfds();
	for (uintptr_t i = 0; i < 2; i++)
		CHECK_EQ(pthread_create(&threads[i], NULL, take_and_give, (void *)(i + 1)), 0);
	for (int i = 0; i < 60; i++) {
		start((8 + i % 32) * MIB, i % 2 ? 3 * MIB : 0);
		CHECK_EQ(in_child(nothing_is_there, NULL), 0);
		if (i % 3 == 0)
			shmdev_ready_stop();
	}
	__atomic_store_n(&enough, true, __ATOMIC_RELAXED);
	for (int i = 0; i < 2; i++)
		CHECK_EQ(pthread_join(threads[i], NULL), 0);
	shmdev_ready_stop();
	shmdev_ready_stop();
	CHECK_EQ(memfds(), 0);
	CHECK_EQ(count_region_mappings(), 0);
}

static void exit_at_once(void *unused)
{
	(void)unused;
	start(256 * MIB, 128 * MIB);
	exit(0);
}

static void exit_does_not_wait_for_it(void)
{
	need_memfds();
	for (int i = 0; i < 20; i++)
		CHECK_EQ(in_child(exit_at_once, NULL), 0);
}

static void use_the_environment(void *hits)
{
	shmdev_region_unref(take(4 * MIB));
	if (shmdev_ready_wait(PATIENCE))
		CHECK(!hits);
	shmdev_region_unref(take(4 * MIB));
	CHECK_EQ(ready_now().hits, hits ? 1 : 0);
	CHECK_EQ(ready_now().limit, hits ? 32 * MIB : 0);
}

static void the_environment_turns_it_on(void)
{
	static const char *const bad[] = { "", "0", "-1", "x", "32Q", "32MB", "32M ", " 32M",
					   "99999999999999999999", "18446744073709551615" };

	need_memfds();
	/* This process has not used the library for anything that reads it. */
	CHECK_EQ(setenv("SHMDEV_READY", "32M", 1), 0);
	CHECK_EQ(in_child(use_the_environment, "yes"), 0);
	CHECK_EQ(setenv("SHMDEV_READY", "33554432", 1), 0);
	CHECK_EQ(in_child(use_the_environment, "yes"), 0);
	CHECK_EQ(setenv("SHMDEV_READY", "32768K", 1), 0);
	CHECK_EQ(in_child(use_the_environment, "yes"), 0);
	for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++) {
		CHECK_EQ(setenv("SHMDEV_READY", bad[i], 1), 0);
		CHECK_EQ(in_child(use_the_environment, NULL), 0);
	}
}

/* The nice value of the thread, from what is behind the name in /proc's stat. */
static void the_thread_is_of_the_lowest_priority(void)
{
	DIR *tasks;
	struct dirent *entry;
	int found = 0;

	need_memfds();
	start(16 * MIB, 4 * MIB);
	settle();
	tasks = opendir("/proc/self/task");
	CHECK(tasks);
	while ((entry = readdir(tasks))) {
		char path[300], line[512] = "", *rest;
		long nice = 0;
		FILE *file;

		snprintf(path, sizeof(path), "/proc/self/task/%s/stat", entry->d_name);
		file = fopen(path, "re");
		if (!file)
			continue;
		CHECK(fgets(line, sizeof(line), file) || entry->d_name[0] == '.');
		fclose(file);
		rest = strrchr(line, ')');
		if (!rest || !strstr(line, "(shmdev-ready)"))
			continue;
		CHECK_EQ(sscanf(rest, ") %*c %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s"
				" %*s %*s %ld", &nice), 1);
		CHECK_EQ(nice, 19);
		found++;
	}
	closedir(tasks);
	CHECK_EQ(found, 1);
	shmdev_ready_stop();
}

/* What is only kept ready does not count as used up. */
static void huge_pages_that_are_wanted_are_given(void)
{
	static struct shmdev_region *held[1000];
	int nr = 0, more = 0;

	if (need_memfds() != SHMDEV_BACKEND_HUGETLB || !getenv("SHMDEV_BACKEND"))
		tap_skip("only where the run is of hugetlb");
	while (nr < 1000 && (held[nr] = shmdev_region_create(16 * MIB, 0)))
		nr++;
	if (nr < 4 || nr == 1000)
		tap_skip("fewer, or more, huge pages than this test wants");
	/* All of what two held is ready, in another size. */
	shmdev_region_unref(held[--nr]);
	shmdev_region_unref(held[--nr]);
	start(64 * MIB, 32 * MIB);
	settle();
	CHECK_EQ(ready_now().bytes, 32 * MIB);
	while (more < 3 && (held[nr + more] = shmdev_region_create(16 * MIB, 0)))
		more++;
	CHECK_EQ(more, 2);
	CHECK_EQ(errno, ENOMEM);
	CHECK_EQ(ready_now().bytes, 0);
	for (nr += more; nr; )
		shmdev_region_unref(held[--nr]);
	shmdev_ready_stop();
}

TAP_MAIN(TAP_TEST(off_unless_asked_for),
	 TAP_TEST(bad_options),
	 TAP_TEST(ready_is_ready_and_zero),
	 TAP_TEST(sizes_are_learned),
	 TAP_TEST(never_more_than_the_limit),
	 TAP_TEST(newer_sizes_come_first),
	 TAP_TEST(blocks_are_of_it_too),
	 TAP_TEST(a_child_has_none_of_it),
	 TAP_TEST(forks_and_stops_at_any_time),
	 TAP_TEST(exit_does_not_wait_for_it),
	 TAP_TEST(the_environment_turns_it_on),
	 TAP_TEST(the_thread_is_of_the_lowest_priority),
	 TAP_TEST(huge_pages_that_are_wanted_are_given))
