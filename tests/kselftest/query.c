// SPDX-License-Identifier: GPL-2.0-only
/* SHMDEV_IOC_QUERY, and the device beside its commands. */
#include "util.h"

FIXTURE(query) {
	int dev;
};

FIXTURE_SETUP(query)
{
	self->dev = device_open();
	ASSERT_LE(0, self->dev);
}

FIXTURE_TEARDOWN(query)
{
	close(self->dev);
}

TEST_F(query, fields)
{
	struct shmdev_query q;

	ASSERT_EQ(0, query(self->dev, &q));
	EXPECT_EQ(SHMDEV_ABI_VERSION, q.abi_version);
	EXPECT_EQ(HUGE, 1UL << q.huge_page_shift);
	EXPECT_EQ(0, q.features);
	EXPECT_EQ(SHMDEV_ALLOC_STRICT | SHMDEV_ALLOC_NODE | SHMDEV_ALLOC_NODE_STRICT,
		  q.alloc_flags);
	EXPECT_EQ(0, q.pool_target_bytes % HUGE);
	EXPECT_EQ(0, q.pool_bytes % HUGE);
	EXPECT_EQ(0, q.regions);
	EXPECT_EQ(0, q.region_bytes);
	EXPECT_LT(0, q.max_region_bytes);
	EXPECT_EQ(0, q.max_region_bytes % HUGE);
	EXPECT_TRUE(all_zero(q.reserved, sizeof(q.reserved)));
}

/* What goes out is not looked at on the way in. */
TEST_F(query, dirty_out_fields)
{
	struct shmdev_query q;

	memset(&q, 0xff, sizeof(q));
	memset(q.reserved, 0, sizeof(q.reserved));
	ASSERT_EQ(0, result(ioctl(self->dev, SHMDEV_IOC_QUERY, &q)));
	EXPECT_EQ(SHMDEV_ABI_VERSION, q.abi_version);
}

TEST_F(query, counts_regions)
{
	struct shmdev_query q;
	int a, b;

	a = alloc(self->dev, 1);
	ASSERT_LE(0, a);
	b = alloc(self->dev, 3 * HUGE);
	ASSERT_LE(0, b);
	ASSERT_EQ(0, query(self->dev, &q));
	EXPECT_EQ(2, q.regions);
	EXPECT_EQ(4 * HUGE, q.region_bytes);
	close(a);
	close(b);
	ASSERT_EQ(0, query(self->dev, &q));
	EXPECT_EQ(0, q.regions);
	EXPECT_EQ(0, q.region_bytes);
}

TEST_F(query, device_is_no_file)
{
	char c = 0;

	EXPECT_EQ(-EINVAL, result(read(self->dev, &c, 1)));
	EXPECT_EQ(-EINVAL, result(write(self->dev, &c, 1)));
	EXPECT_EQ(-ESPIPE, result(lseek(self->dev, 0, SEEK_SET)));
	EXPECT_EQ(MAP_FAILED, map(self->dev, 4096));
	EXPECT_EQ(ENODEV, errno);
}

TEST_F(query, without_permission)
{
	EXPECT_EQ(EACCES, IN_CHILD({
		if (setgid(65534) || setuid(65534))
			_exit(1);
		_exit(-device_open());
	}));
}

TEST_HARNESS_MAIN
