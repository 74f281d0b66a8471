// SPDX-License-Identifier: GPL-2.0-only
/* SHMDEV_IOC_QUERY, and what every command has in common. */
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
	EXPECT_EQ(SHMDEV_ALLOC_STRICT | SHMDEV_ALLOC_NODE, q.alloc_flags);
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

TEST_F(query, every_reserved_byte)
{
	struct shmdev_query q;

	for (size_t i = 0; i < sizeof(q.reserved); i++) {
		memset(&q, 0, sizeof(q));
		((char *)q.reserved)[i] = 1;
		EXPECT_EQ(-EINVAL, result(ioctl(self->dev, SHMDEV_IOC_QUERY, &q)));
		EXPECT_EQ(0, q.abi_version);
	}
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

TEST_F(query, bad_pointer)
{
	EXPECT_EQ(-EFAULT, result(ioctl(self->dev, SHMDEV_IOC_QUERY, NULL)));
	EXPECT_EQ(-EFAULT, result(ioctl(self->dev, SHMDEV_IOC_QUERY, 1)));
	EXPECT_EQ(-EFAULT, result(ioctl(self->dev, SHMDEV_IOC_QUERY, -1L)));
}

/* Every number, size and direction but the two commands'. */
TEST_F(query, unknown_commands)
{
	static const unsigned int dirs[] = { _IOC_NONE, _IOC_READ, _IOC_WRITE,
					     _IOC_READ | _IOC_WRITE };
	static const size_t sizes[] = { 0, 1, 8, 63, 64, 65, 72, 120, 127, 128, 129, 136, 4096 };
	char buf[8192] = {};

	for (unsigned int nr = 0; nr < 256; nr++)
		for (size_t d = 0; d < 4; d++)
			for (size_t s = 0; s < sizeof(sizes) / sizeof(*sizes); s++) {
				unsigned int cmd = _IOC(dirs[d], SHMDEV_IOC_TYPE, nr, sizes[s]);

				if (cmd == SHMDEV_IOC_QUERY || cmd == SHMDEV_IOC_ALLOC)
					continue;
				ASSERT_EQ(-ENOTTY, result(ioctl(self->dev, cmd, buf))) {
					TH_LOG("command %#x", cmd);
				}
			}
	EXPECT_TRUE(all_zero(buf, sizeof(buf)));
}

/* The commands are the device's, not a region's and not another file's. */
TEST_F(query, wrong_descriptor)
{
	struct shmdev_query q = {};
	int region = alloc(self->dev, 1);
	int null = open("/dev/null", O_RDWR);

	ASSERT_LE(0, region);
	ASSERT_LE(0, null);
	EXPECT_EQ(-ENOTTY, result(ioctl(region, SHMDEV_IOC_QUERY, &q)));
	EXPECT_EQ(-ENOTTY, result(ioctl(null, SHMDEV_IOC_QUERY, &q)));
	EXPECT_EQ(-EBADF, result(ioctl(-1, SHMDEV_IOC_QUERY, &q)));
	close(region);
	close(null);
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

TEST(layout)
{
	EXPECT_EQ(128, sizeof(struct shmdev_query));
	EXPECT_EQ(4, offsetof(struct shmdev_query, huge_page_shift));
	EXPECT_EQ(8, offsetof(struct shmdev_query, features));
	EXPECT_EQ(16, offsetof(struct shmdev_query, alloc_flags));
	EXPECT_EQ(24, offsetof(struct shmdev_query, pool_target_bytes));
	EXPECT_EQ(32, offsetof(struct shmdev_query, pool_bytes));
	EXPECT_EQ(40, offsetof(struct shmdev_query, pool_hits));
	EXPECT_EQ(48, offsetof(struct shmdev_query, pool_misses));
	EXPECT_EQ(56, offsetof(struct shmdev_query, regions));
	EXPECT_EQ(64, offsetof(struct shmdev_query, region_bytes));
	EXPECT_EQ(72, offsetof(struct shmdev_query, max_region_bytes));
	EXPECT_EQ(80, offsetof(struct shmdev_query, reserved));
	EXPECT_EQ(64, sizeof(struct shmdev_alloc));
	EXPECT_EQ(8, offsetof(struct shmdev_alloc, flags));
	EXPECT_EQ(16, offsetof(struct shmdev_alloc, node));
	EXPECT_EQ(20, offsetof(struct shmdev_alloc, pad));
	EXPECT_EQ(24, offsetof(struct shmdev_alloc, huge_bytes));
	EXPECT_EQ(32, offsetof(struct shmdev_alloc, pool_bytes));
	EXPECT_EQ(40, offsetof(struct shmdev_alloc, reserved));
	EXPECT_EQ(0xc080e900, SHMDEV_IOC_QUERY);
	EXPECT_EQ(0xc040e901, SHMDEV_IOC_ALLOC);
}

TEST_HARNESS_MAIN
