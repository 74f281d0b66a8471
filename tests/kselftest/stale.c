// SPDX-License-Identifier: GPL-2.0-only
/* One user's bytes are never another's: not by the pool, not by zeroing, not at the limit. */
#include "util.h"

#define MARK	0x5ec4e7c0ffee5a5aULL

/* Here the limit is memory. */
#define ALL_MB	"1000000"

FIXTURE(stale) {
	int dev;
	long pool_mb;
	long limit_mb;
	long user_limit_mb;
};

FIXTURE_SETUP(stale)
{
	self->dev = device_open();
	ASSERT_LE(0, self->dev);
	self->pool_mb = read_long(PARAM_POOL_MB);
	ASSERT_EQ(0, set_pool_mb(256));
	self->limit_mb = read_long(PARAM_LIMIT_MB);
	ASSERT_EQ(0, write_file(PARAM_LIMIT_MB, ALL_MB));
	self->user_limit_mb = read_long(PARAM_USER_LIMIT_MB);
	ASSERT_EQ(0, write_file(PARAM_USER_LIMIT_MB, ALL_MB));
}

FIXTURE_TEARDOWN(stale)
{
	struct shmdev_query q;

	EXPECT_EQ(0, query(self->dev, &q));
	EXPECT_EQ(0, q.regions);
	EXPECT_EQ(0, set_pool_mb(self->pool_mb));
	EXPECT_EQ(0, set_mb(PARAM_LIMIT_MB, self->limit_mb));
	EXPECT_EQ(0, set_mb(PARAM_USER_LIMIT_MB, self->user_limit_mb));
	close(self->dev);
}

/* Write the mark all over regions until there is no more memory, and drop them all. */
static int dirty_all(int dev, size_t size)
{
	int nr = 0, fd;

	while ((fd = alloc(dev, size)) >= 0) {
		uint64_t *p = map(fd, size);

		if (p == MAP_FAILED)
			return -1;
		for (size_t i = 0; i < size / 8; i += 64)
			p[i] = MARK;
		nr++;
	}
	return fd == -ENOMEM ? nr : -1;
}

/* Number of regions with nothing but zeros, -1 if there was anything else. */
static int find_zeros(int dev, size_t size)
{
	int nr = 0, fd;

	while ((fd = alloc(dev, size)) >= 0) {
		char *p = map(fd, size);

		if (p == MAP_FAILED || !all_zero(p, size))
			return -1;
		nr++;
	}
	return fd == -ENOMEM ? nr : -1;
}

TEST_F(stale, all_of_memory)
{
	for (int i = 0; i < soak(1); i++) {
		int *nr = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS,
			       -1, 0);

		EXPECT_EQ(0, AS_USER(1000, nr[0] = dirty_all(self->dev, 16 * HUGE)));
		EXPECT_EQ(0, AS_USER(1001, nr[1] = find_zeros(self->dev, 16 * HUGE)));
		EXPECT_LT(10, nr[0]);
		EXPECT_LT(10, nr[1]);
		TH_LOG("%d regions of 32 MiB dirtied, %d found zero", nr[0], nr[1]);
		munmap(nr, 4096);
	}
}

/* Two users at a time, from a pool that is too small for both. */
TEST_F(stale, turns)
{
	pid_t pids[2];
	int status;

	ASSERT_EQ(0, set_pool_mb(16));
	for (int i = 0; i < 2; i++) {
		pids[i] = fork();
		ASSERT_LE(0, pids[i]);
		if (pids[i])
			continue;
		if (setgid(1000 + i) || setuid(1000 + i))
			_exit(1);
		for (int turn = 0; turn < soak(60); turn++) {
			int fd = alloc(self->dev, 4 * HUGE);
			char *p = map(fd, 4 * HUGE);

			if (p == MAP_FAILED)
				_exit(2);
			if (!all_zero(p, 4 * HUGE))
				_exit(3);
			memset(p, 0x77, 4 * HUGE);
			if (turn % 3 == 0) {
				if (zero_range(fd, 0, 4 * HUGE) || !all_zero(p, 4 * HUGE))
					_exit(4);
				memset(p, 0x77, 4 * HUGE);
			}
			munmap(p, 4 * HUGE);
			close(fd);
		}
		_exit(0);
	}
	for (int i = 0; i < 2; i++) {
		waitpid(pids[i], &status, 0);
		EXPECT_EQ(0, status);
	}
}

TEST_HARNESS_MAIN
