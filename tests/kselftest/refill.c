// SPDX-License-Identifier: GPL-2.0-only
/* When the pool is filled, how fast, and when not. */
#include <dirent.h>

#include "module.h"
#include "util.h"

#define PARAM_RATE	PARAM("refill_mb_s")
#define PARAM_LOW	PARAM("pool_low_percent")
#define THREAD		"shmdev_pool/"
#define MB		(1UL << 20)

FIXTURE(refill) {
	int dev;
};

FIXTURE_SETUP(refill)
{
	self->dev = device_open();
	ASSERT_LE(0, self->dev);
}

/* Some of the tests end with another module, and all of them with its defaults. */
FIXTURE_TEARDOWN(refill)
{
	close(self->dev);
	EXPECT_EQ(0, module_remove());
	EXPECT_EQ(0, module_insert(""));
}

static double now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec + ts.tv_nsec / 1e9;
}

static uint64_t depth(int dev)
{
	struct shmdev_query q;

	return query(dev, &q) ? UINT64_MAX : q.pool_bytes;
}

/* How often the threads have gone to sleep, all together; -1: there are none. */
static long thread_sleeps(void)
{
	char path[300], line[128];
	struct dirent *entry;
	long sum = -1, one;
	DIR *proc = opendir("/proc");

	while (proc && (entry = readdir(proc))) {
		bool ours = false;
		FILE *file;

		snprintf(path, sizeof(path), "/proc/%s/status", entry->d_name);
		file = fopen(path, "re");
		while (file && fgets(line, sizeof(line), file)) {
			if (!strncmp(line, "Name:\t" THREAD, strlen("Name:\t" THREAD)))
				ours = true;
			if (ours && sscanf(line, "voluntary_ctxt_switches: %ld", &one) == 1)
				sum = (sum < 0 ? 0 : sum) + one;
		}
		if (file)
			fclose(file);
	}
	if (proc)
		closedir(proc);
	return sum;
}

TEST_F(refill, no_faster_than_may_be)
{
	const double rate = 64 * MB;
	double start, took = 0;
	uint64_t held;

	ASSERT_EQ(0, set_pool_mb(0));
	ASSERT_TRUE(WAIT_FOR(pool_is(self->dev, 0)));
	ASSERT_EQ(0, write_file(PARAM_RATE, "64"));
	/* What it may make up for is a tenth of a second. */
	start = now();
	ASSERT_EQ(0, set_pool_mb(64));
	do {
		held = depth(self->dev);
		took = now() - start;
		ASSERT_GE(rate * (took + 0.1) + 2 * HUGE * 2, held);
		ASSERT_GT(120, took);
		usleep(5000);
	} while (held < 64 * MB);
	TH_LOG("64 MiB in %.3f s at 64 MiB/s", took);
	EXPECT_LT(0.8, took);
}

/* A cap that is lifted while the thread keeps to it is lifted at once. */
TEST_F(refill, cap_lifted)
{
	uint64_t held;
	double start;

	ASSERT_EQ(0, set_pool_mb(0));
	ASSERT_TRUE(WAIT_FOR(pool_is(self->dev, 0)));
	ASSERT_EQ(0, write_file(PARAM_RATE, "1"));
	start = now();
	ASSERT_EQ(0, set_pool_mb(128));
	usleep(500000);
	held = depth(self->dev);
	/* One for each node at once, and no more than may be. */
	EXPECT_GE(MB * (now() - start + 0.1) + 2 * HUGE * 2, held);
	ASSERT_EQ(0, write_file(PARAM_RATE, "0"));
	/* Which would take two minutes otherwise. */
	start = now();
	EXPECT_TRUE(WAIT_FOR(pool_is(self->dev, 128 * MB)));
	TH_LOG("full %.3f s later", now() - start);
	EXPECT_EQ(-EINVAL, write_file(PARAM_RATE, "-1"));
	EXPECT_EQ(-EINVAL, write_file(PARAM_LOW, "101"));
}

/* Whether no thread goes to sleep, that is, none was awake, for @us. */
static bool threads_rest(unsigned int us)
{
	long before = thread_sleeps();

	usleep(us);
	return before > 0 && before == thread_sleeps();
}

/* A full pool costs nothing: no thread wakes. */
TEST_F(refill, rests_when_full)
{
	ASSERT_EQ(0, set_pool_mb(64));
	ASSERT_TRUE(WAIT_FOR(pool_is(self->dev, 64 * MB)));
	/* The last page is there somewhat before the thread is at rest. */
	EXPECT_TRUE(WAIT_FOR(threads_rest(2000000)));
}

/* Above the low watermark the thread is woken once in a while and not for each page. */
TEST_F(refill, not_woken_for_each_page)
{
	enum { TIMES = 60 };
	long before, woken;
	double start, took;

	ASSERT_EQ(0, set_pool_mb(256));
	ASSERT_EQ(0, write_file(PARAM_LOW, "50"));
	ASSERT_TRUE(WAIT_FOR(pool_is(self->dev, 256 * MB)));
	ASSERT_TRUE(WAIT_FOR(threads_rest(300000)));
	before = thread_sleeps();
	start = now();
	for (int i = 0; i < TIMES; i++) {
		int fd = alloc(self->dev, HUGE);

		ASSERT_LE(0, fd);
		close(fd);
	}
	took = now() - start;
	woken = thread_sleeps() - before;
	TH_LOG("%d regions in %.3f s, threads woken %ld times", TIMES, took, woken);
	/* Twice for each tenth of a second: to wait, and to go to rest. */
	EXPECT_GE(2 * (took / 0.1 + 2), woken);
	/* And yet it is full again, all by itself. */
	EXPECT_TRUE(WAIT_FOR(pool_is(self->dev, 256 * MB)));
}

/*
 * Whoever takes memory, works with it for as long as it takes to zero more, and drops it,
 * never waits for it: the threads need no idle processor, and nobody to wake them.
 */
TEST_F(refill, steady_state)
{
	enum { PAGES = 4, POOL = 64 };
	struct shmdev_query before, after;
	uint64_t hits, misses;
	double start, longest = 0;

	ASSERT_EQ(0, set_pool_mb(POOL * HUGE / MB));
	ASSERT_TRUE(WAIT_FOR(pool_is(self->dev, POOL * HUGE)));
	ASSERT_EQ(0, query(self->dev, &before));
	for (int i = 0; i < soak(100); i++) {
		int fd = alloc(self->dev, PAGES * HUGE);
		char *p;

		ASSERT_LE(0, fd);
		p = map(fd, PAGES * HUGE);
		ASSERT_NE(MAP_FAILED, p);
		start = now();
		do {
			memset(p, i, PAGES * HUGE);
			ASSERT_GT(60, now() - start);
		} while (!pool_is(self->dev, POOL * HUGE));
		if (longest < now() - start)
			longest = now() - start;
		munmap(p, PAGES * HUGE);
		close(fd);
	}
	ASSERT_EQ(0, query(self->dev, &after));
	hits = after.pool_hits - before.pool_hits;
	misses = after.pool_misses - before.pool_misses;
	TH_LOG("%llu hits, %llu misses, at most %.0f ms of work with each",
	       (unsigned long long)hits, (unsigned long long)misses, longest * 1000);
	EXPECT_EQ(soak(100) * PAGES, hits);
	EXPECT_EQ(0, misses);
}

TEST_F(refill, leaves_memory_alone_after_it_was_shrunk)
{
	double start;

	ASSERT_EQ(0, set_pool_mb(32));
	ASSERT_TRUE(WAIT_FOR(pool_is(self->dev, 32 * MB)));
	start = now();
	ASSERT_EQ(0, write_file("/proc/sys/vm/drop_caches", "2"));
	ASSERT_TRUE(pool_is(self->dev, 0));
	for (;;) {
		uint64_t held = depth(self->dev);

		/* It may have been long between the two, so not the other way round. */
		if (now() - start > 3)
			break;
		ASSERT_EQ(0, held);
		usleep(50000);
	}
	EXPECT_TRUE(WAIT_FOR(pool_is(self->dev, 32 * MB)));
	TH_LOG("full again after %.1f s", now() - start);
}

/* Bytes of node @nid that are free above its high watermarks, and how many it has. */
static long node_spare(int nid, long *managed)
{
	FILE *file = fopen("/proc/zoneinfo", "re");
	long spare = 0, value;
	char line[128];
	int node = -1;

	*managed = 0;
	while (file && fgets(line, sizeof(line), file)) {
		if (sscanf(line, "Node %d, zone", &node) == 1 || node != nid)
			continue;
		if (sscanf(line, " pages free %ld", &value) == 1)
			spare += value * 4096;
		else if (sscanf(line, " high %ld", &value) == 1)
			spare -= value * 4096;
		else if (sscanf(line, " managed %ld", &value) == 1)
			*managed += value * 4096;
	}
	if (file)
		fclose(file);
	return spare;
}

/* What is left when others have taken the rest is not for the pool. */
TEST_F(refill, leaves_memory_alone_when_it_is_low)
{
	long left = 160 * MB, size;
	char *hog;

	ASSERT_EQ(0, set_pool_mb(0));
	ASSERT_TRUE(WAIT_FOR(pool_is(self->dev, 0)));
	ASSERT_EQ(0, write_file("/proc/sys/vm/drop_caches", "3"));
	size = (meminfo("MemAvailable") - left) & ~(HUGE - 1);
	ASSERT_LT(0, size);
	hog = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	ASSERT_NE(MAP_FAILED, hog);
	madvise(hog, size, MADV_HUGEPAGE);
	ASSERT_EQ(0, mlock(hog, size));
	left = meminfo("MemAvailable");

	ASSERT_EQ(0, set_pool_mb(1024));
	usleep(3000000);
	TH_LOG("%ld MiB available before, pool of %ld MiB, %ld MiB available after",
	       left >> 20, (long)(depth(self->dev) >> 20),
	       meminfo("MemAvailable") >> 20);
	EXPECT_GT(left, depth(self->dev));
	/* Not by chance: each node from which it took some keeps a part of 32, about. */
	for (int nid = 0; nid < 2; nid++) {
		char path[128];
		long managed, spare = node_spare(nid, &managed), held;

		snprintf(path, sizeof(path), "/sys/class/misc/shmdev/node%d/pool_bytes", nid);
		held = read_long(path);
		TH_LOG("node %d: pool of %ld MiB, %ld of %ld MiB free above the watermark", nid,
		       held >> 20, spare >> 20, managed >> 20);
		if (held > 0)
			EXPECT_LT(managed / 64, spare);
	}
	/* And there is no reason to give up: when there is more, it takes it. */
	munmap(hog, size);
	EXPECT_TRUE(WAIT_FOR(depth(self->dev) >= 512 * MB));
}

/*
 * Removing the module waits for no cap, no backoff and no large pool.  A machine that had
 * other things to do may be slow at it once, but not each time.
 */
TEST_F(refill, ends_at_once)
{
	char most[32];
	const struct {
		const char *what, *params;
		uint64_t shrunk;
	} cases[] = {
		{ "while it fills", most },
		{ "while it keeps to a cap", "pool_mb=256 refill_mb_s=1" },
		{ "while it backs off", "pool_mb=64", 64 * MB },
		{ "without a pool", "pool_mb=0" },
	};

	snprintf(most, sizeof(most), "pool_mb=%ld", meminfo("MemTotal") / 2 / MB - 1);
	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		double start, took = 2;

		for (int try = 0; try < 5 && took > 1; try++) {
			close(self->dev);
			ASSERT_EQ(0, module_remove());
			ASSERT_EQ(0, module_insert(cases[i].params));
			self->dev = device_open();
			ASSERT_LE(0, self->dev);
			ASSERT_TRUE(WAIT_FOR(depth(self->dev) >= cases[i].shrunk));
			if (cases[i].shrunk)
				ASSERT_EQ(0, write_file("/proc/sys/vm/drop_caches", "2"));
			usleep(200000);
			close(self->dev);
			start = now();
			ASSERT_EQ(0, module_remove());
			took = now() - start;
			TH_LOG("%s: %.0f ms", cases[i].what, took * 1000);
			ASSERT_EQ(0, module_insert(""));
			self->dev = device_open();
			ASSERT_LE(0, self->dev);
		}
		EXPECT_GT(1, took);
	}
}

/* What there is without parameters, and without a pool from the beginning. */
TEST_F(refill, defaults)
{
	long sixteenth = meminfo("MemTotal") / 16 / MB;
	struct shmdev_query q;
	char *p;
	int fd;

	close(self->dev);
	ASSERT_EQ(0, module_remove());
	ASSERT_EQ(0, module_insert(""));
	EXPECT_EQ(sixteenth < 1024 ? sixteenth : 1024, read_long(PARAM_POOL_MB));
	EXPECT_EQ(0, read_long(PARAM_RATE));
	EXPECT_EQ(75, read_long(PARAM_LOW));

	ASSERT_EQ(0, module_remove());
	ASSERT_EQ(0, module_insert("pool_mb=0"));
	self->dev = device_open();
	ASSERT_LE(0, self->dev);
	fd = alloc(self->dev, 8 * HUGE);
	ASSERT_LE(0, fd);
	p = map(fd, 8 * HUGE);
	ASSERT_NE(MAP_FAILED, p);
	EXPECT_TRUE(all_zero(p, 8 * HUGE));
	memset(p, 1, 8 * HUGE);
	EXPECT_EQ(0, zero_range(fd, 0, 8 * HUGE));
	EXPECT_TRUE(all_zero(p, 8 * HUGE));
	ASSERT_EQ(0, query(self->dev, &q));
	EXPECT_EQ(0, q.pool_target_bytes);
	EXPECT_EQ(0, q.pool_bytes);
	EXPECT_EQ(0, q.pool_hits);
	EXPECT_EQ(8, q.pool_misses);
	munmap(p, 8 * HUGE);
	close(fd);
}

TEST_HARNESS_MAIN
