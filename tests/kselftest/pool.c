// SPDX-License-Identifier: GPL-2.0-only
/* The pool: its target, its counters, and that nothing depends on it but speed. */
#include "util.h"

FIXTURE(pool) {
	int dev;
	long pool_mb;
};

FIXTURE_SETUP(pool)
{
	self->dev = device_open();
	ASSERT_LE(0, self->dev);
	self->pool_mb = read_long(PARAM_POOL_MB);
	ASSERT_LE(0, self->pool_mb);
}

FIXTURE_TEARDOWN(pool)
{
	EXPECT_EQ(0, set_pool_mb(self->pool_mb));
	close(self->dev);
}

TEST_F(pool, fills_to_target)
{
	struct shmdev_query q;

	ASSERT_EQ(0, set_pool_mb(32));
	ASSERT_EQ(0, query(self->dev, &q));
	EXPECT_EQ(32 << 20, q.pool_target_bytes);
	EXPECT_TRUE(WAIT_FOR(pool_is(self->dev, 32 << 20)));
	/* Larger, and smaller again. */
	ASSERT_EQ(0, set_pool_mb(64));
	EXPECT_TRUE(WAIT_FOR(pool_is(self->dev, 64 << 20)));
	ASSERT_EQ(0, set_pool_mb(16));
	EXPECT_TRUE(WAIT_FOR(pool_is(self->dev, 16 << 20)));
}

TEST_F(pool, hits_are_counted)
{
	struct shmdev_alloc a = { .size = 16 << 20 };
	struct shmdev_query before, after;
	int fd;

	ASSERT_EQ(0, set_pool_mb(64));
	ASSERT_TRUE(WAIT_FOR(pool_is(self->dev, 64 << 20)));
	ASSERT_EQ(0, query(self->dev, &before));
	fd = result(ioctl(self->dev, SHMDEV_IOC_ALLOC, &a));
	ASSERT_LE(0, fd);
	ASSERT_EQ(0, query(self->dev, &after));
	EXPECT_EQ(16 << 20, a.pool_bytes);
	EXPECT_EQ(16 << 20, a.huge_bytes);
	EXPECT_EQ(before.pool_hits + 8, after.pool_hits);
	EXPECT_EQ(before.pool_misses, after.pool_misses);
	close(fd);
	/* What was taken is replaced by fresh memory. */
	EXPECT_TRUE(WAIT_FOR(pool_is(self->dev, 64 << 20)));
}

TEST_F(pool, nothing_without_it_but_speed)
{
	struct shmdev_alloc a = { .size = 16 << 20 };
	struct shmdev_query before, after;
	char *p;
	int fd;

	ASSERT_EQ(0, set_pool_mb(0));
	ASSERT_TRUE(WAIT_FOR(pool_is(self->dev, 0)));
	ASSERT_EQ(0, query(self->dev, &before));
	EXPECT_EQ(0, before.pool_target_bytes);
	fd = result(ioctl(self->dev, SHMDEV_IOC_ALLOC, &a));
	ASSERT_LE(0, fd);
	ASSERT_EQ(0, query(self->dev, &after));
	EXPECT_EQ(0, a.pool_bytes);
	EXPECT_EQ(before.pool_hits, after.pool_hits);
	EXPECT_EQ(before.pool_misses + 8, after.pool_misses);
	p = map(fd, 16 << 20);
	ASSERT_NE(MAP_FAILED, p);
	EXPECT_TRUE(all_zero(p, 16 << 20));
	munmap(p, 16 << 20);
	close(fd);
}

/* A pool that runs dry in the middle: one region of both kinds, all of it zero. */
TEST_F(pool, half_from_it)
{
	struct shmdev_alloc a = { .size = 64 << 20 };
	char *p;
	int fd;

	ASSERT_EQ(0, set_pool_mb(16));
	ASSERT_TRUE(WAIT_FOR(pool_is(self->dev, 16 << 20)));
	fd = result(ioctl(self->dev, SHMDEV_IOC_ALLOC, &a));
	ASSERT_LE(0, fd);
	/* What this node has of it, and what is put in meanwhile. */
	EXPECT_LT(0, a.pool_bytes);
	EXPECT_GT(64 << 20, a.pool_bytes);
	p = map(fd, 64 << 20);
	ASSERT_NE(MAP_FAILED, p);
	EXPECT_TRUE(all_zero(p, 64 << 20));
	munmap(p, 64 << 20);
	close(fd);
}

/* Memory that others need is given back: dropping slabs runs all shrinkers. */
TEST_F(pool, shrinks)
{
	ASSERT_EQ(0, set_pool_mb(32));
	ASSERT_TRUE(WAIT_FOR(pool_is(self->dev, 32 << 20)));
	ASSERT_EQ(0, write_file("/proc/sys/vm/drop_caches", "2"));
	EXPECT_TRUE(pool_is(self->dev, 0));
	/* And taken again, when the pressure has passed. */
	EXPECT_TRUE(WAIT_FOR(pool_is(self->dev, 32 << 20)));
}

/*
 * Page frames of huge pages that are on no list of the kernel's, as those of the pool
 * are: compound, not on an LRU, of no slab, no page table, no hugetlb.
 */
static int unlisted_huge_pages(uint64_t *pfns, int max)
{
	const uint64_t head = 1 << 15, tail = 1 << 16;
	const uint64_t listed = 1 << 5 | 1 << 7 | 1 << 12 | 1 << 17 | 1 << 26;
	int fd = open("/proc/kpageflags", O_RDONLY | O_CLOEXEC);
	uint64_t first, last;
	int nr = 0;

	for (uint64_t pfn = 0; nr < max; pfn += 512) {
		if (pread(fd, &first, 8, pfn * 8) != 8)
			break;
		if (pread(fd, &last, 8, (pfn + 511) * 8) == 8 && first & head && last & tail &&
		    !(first & listed))
			pfns[nr++] = pfn;
	}
	close(fd);
	return nr;
}

static bool contains(const uint64_t *pfns, int nr, uint64_t pfn)
{
	for (int i = 0; i < nr; i++)
		if (pfns[i] == pfn)
			return true;
	return false;
}

/* Memory that breaks while it lies in the pool is given to nobody. */
TEST_F(pool, broken_memory)
{
	enum { MAX = 1024, POOL = 16 };
	struct shmdev_alloc a = { .size = POOL * HUGE };
	uint64_t before[MAX], after[MAX], broken[POOL], entry, flags;
	int nr_before, nr_after, nr = 0, fd, pagemap, kpageflags;
	char text[32], *p;

	if (access("/sys/devices/system/memory/hard_offline_page", W_OK))
		SKIP(return, "this kernel has no memory failure to inject");

	ASSERT_EQ(0, set_pool_mb(0));
	ASSERT_TRUE(WAIT_FOR(pool_is(self->dev, 0)));
	nr_before = unlisted_huge_pages(before, MAX);
	ASSERT_EQ(0, set_pool_mb(POOL * 2));
	ASSERT_TRUE(WAIT_FOR(pool_is(self->dev, POOL * HUGE)));
	nr_after = unlisted_huge_pages(after, MAX);
	for (int i = 0; i < nr_after && nr < POOL; i++)
		if (!contains(before, nr_before, after[i]))
			broken[nr++] = after[i];
	ASSERT_LE(POOL / 2, nr);
	nr = POOL / 2;
	for (int i = 0; i < nr; i++) {
		snprintf(text, sizeof(text), "0x%llx", (broken[i] + i * 60) * 4096ULL);
		/* It cannot be mended, only marked: the answer is an error. */
		write_file("/sys/devices/system/memory/hard_offline_page", text);
	}

	fd = result(ioctl(self->dev, SHMDEV_IOC_ALLOC, &a));
	ASSERT_LE(0, fd);
	EXPECT_GE((POOL - nr) * HUGE, a.pool_bytes);
	p = map(fd, POOL * HUGE);
	ASSERT_NE(MAP_FAILED, p);
	pagemap = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
	kpageflags = open("/proc/kpageflags", O_RDONLY | O_CLOEXEC);
	for (size_t i = 0; i < POOL * HUGE; i += 4096) {
		p[i] = 1;
		ASSERT_EQ(8, pread(pagemap, &entry, 8, ((size_t)p + i) / 4096 * 8));
		ASSERT_EQ(8, pread(kpageflags, &flags, 8, (entry & ((1ULL << 55) - 1)) * 8));
		ASSERT_EQ(0, flags & 1 << 19);
	}
	close(kpageflags);
	close(pagemap);
	munmap(p, POOL * HUGE);
	close(fd);
}

/* Filling the pool does not keep the machine from suspending. */
TEST_F(pool, freezes_while_filling)
{
	struct shmdev_query q;
	int err = -EBUSY;

	if (write_file("/sys/power/pm_test", "freezer"))
		SKIP(return, "this kernel cannot test suspending");
	ASSERT_EQ(0, write_file("/sys/power/pm_freeze_timeout", "2000"));
	/* A machine that had other things to do may need longer once, but not each time. */
	for (int try = 0; try < 5 && err == -EBUSY; try++) {
		ASSERT_EQ(0, set_pool_mb(0));
		ASSERT_TRUE(WAIT_FOR(pool_is(self->dev, 0)));
		ASSERT_EQ(0, set_pool_mb(1200));
		err = write_file("/sys/power/state", "freeze");
	}
	EXPECT_EQ(0, err);
	EXPECT_EQ(0, write_file("/sys/power/pm_test", "none"));
	EXPECT_EQ(0, write_file("/sys/power/pm_freeze_timeout", "20000"));
	/* It goes on where it was. */
	EXPECT_TRUE(WAIT_FOR(!query(self->dev, &q) && q.pool_bytes > 600 << 20));
}

/* What others could have is counted as such. */
TEST_F(pool, counted_as_reclaimable)
{
	long before, after;

	ASSERT_EQ(0, set_pool_mb(0));
	ASSERT_TRUE(WAIT_FOR(pool_is(self->dev, 0)));
	before = meminfo("KReclaimable");
	ASSERT_EQ(0, set_pool_mb(256));
	ASSERT_TRUE(WAIT_FOR(pool_is(self->dev, 256 << 20)));
	after = meminfo("KReclaimable");
	EXPECT_LT(before + (200 << 20), after);
}

TEST_F(pool, bad_targets)
{
	EXPECT_EQ(-EINVAL, write_file(PARAM_POOL_MB, "-1"));
	EXPECT_EQ(-EINVAL, write_file(PARAM_POOL_MB, "many"));
	EXPECT_EQ(-EINVAL, write_file(PARAM_POOL_MB, "4294967295"));
	EXPECT_EQ(-EINVAL, write_file(PARAM_POOL_MB, "1000000"));
	EXPECT_EQ(self->pool_mb, read_long(PARAM_POOL_MB));
}

TEST_HARNESS_MAIN
