// SPDX-License-Identifier: GPL-2.0-only
/* The pool: its target, its counters, and that nothing depends on it but speed. */
#include "util.h"

FIXTURE(pool) {
	int dev;
	long pool_mb;
};

static int set_pool_mb(long mb)
{
	char text[32];

	snprintf(text, sizeof(text), "%ld", mb);
	return write_file(PARAM_POOL_MB, text);
}

static bool pool_is(int dev, uint64_t bytes)
{
	struct shmdev_query q;

	return !query(dev, &q) && q.pool_bytes == bytes;
}

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
	struct shmdev_alloc a = { .size = 16 << 20, .node = SHMDEV_NODE_ANY };
	struct shmdev_query before, after;
	int fd;

	ASSERT_EQ(0, set_pool_mb(32));
	ASSERT_TRUE(WAIT_FOR(pool_is(self->dev, 32 << 20)));
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
	EXPECT_TRUE(WAIT_FOR(pool_is(self->dev, 32 << 20)));
}

TEST_F(pool, nothing_without_it_but_speed)
{
	struct shmdev_alloc a = { .size = 16 << 20, .node = SHMDEV_NODE_ANY };
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
	struct shmdev_alloc a = { .size = 64 << 20, .node = SHMDEV_NODE_ANY };
	char *p;
	int fd;

	ASSERT_EQ(0, set_pool_mb(16));
	ASSERT_TRUE(WAIT_FOR(pool_is(self->dev, 16 << 20)));
	fd = result(ioctl(self->dev, SHMDEV_IOC_ALLOC, &a));
	ASSERT_LE(0, fd);
	EXPECT_LE(16 << 20, a.pool_bytes);
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

TEST_F(pool, bad_targets)
{
	EXPECT_EQ(-EINVAL, write_file(PARAM_POOL_MB, "-1"));
	EXPECT_EQ(-EINVAL, write_file(PARAM_POOL_MB, "many"));
	EXPECT_EQ(-EINVAL, write_file(PARAM_POOL_MB, "4294967295"));
	EXPECT_EQ(-EINVAL, write_file(PARAM_POOL_MB, "1000000"));
	EXPECT_EQ(self->pool_mb, read_long(PARAM_POOL_MB));
}

TEST_HARNESS_MAIN
