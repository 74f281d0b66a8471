// SPDX-License-Identifier: GPL-2.0-only
/* limit_mb and user_limit_mb: what all, and each user, may have. */
#include "util.h"

FIXTURE(limit) {
	int dev;
	long limit_mb;
	long user_limit_mb;
};

FIXTURE_SETUP(limit)
{
	self->dev = device_open();
	ASSERT_LE(0, self->dev);
	self->limit_mb = read_long(PARAM_LIMIT_MB);
	self->user_limit_mb = read_long(PARAM_USER_LIMIT_MB);
	ASSERT_LT(0, self->limit_mb);
	ASSERT_LT(0, self->user_limit_mb);
}

FIXTURE_TEARDOWN(limit)
{
	struct shmdev_query q;

	EXPECT_EQ(0, set_mb(PARAM_LIMIT_MB, self->limit_mb));
	EXPECT_EQ(0, set_mb(PARAM_USER_LIMIT_MB, self->user_limit_mb));
	EXPECT_EQ(0, query(self->dev, &q));
	EXPECT_EQ(0, q.regions);
	EXPECT_EQ(0, q.user_bytes);
	close(self->dev);
}

/* How many regions of 2 MiB come until there is an error, and which. */
static int take(int dev, int max, int *err)
{
	int nr = 0, fd;

	while (nr < max && (fd = alloc(dev, HUGE)) >= 0)
		nr++;
	*err = nr < max ? -fd : 0;
	return nr;
}

TEST_F(limit, default_is_half_of_memory)
{
	struct shmdev_query q;

	ASSERT_EQ(0, query(self->dev, &q));
	EXPECT_EQ(self->limit_mb << 20, q.limit_bytes);
	EXPECT_EQ(self->user_limit_mb << 20, q.user_limit_bytes);
	EXPECT_EQ(q.limit_bytes, q.user_limit_bytes);
	EXPECT_GE(q.max_region_bytes / 2 + HUGE, q.limit_bytes);
	EXPECT_LE(q.max_region_bytes / 2 - HUGE, q.limit_bytes);
	TH_LOG("limit %llu MiB of %ld MiB", q.limit_bytes >> 20, meminfo("MemTotal") >> 20);
}

TEST_F(limit, of_a_user)
{
	ASSERT_EQ(0, set_mb(PARAM_USER_LIMIT_MB, 20));
	EXPECT_EQ(0, AS_USER(1000, {
		struct shmdev_query q;
		int err;

		if (take(self->dev, 100, &err) != 10 || err != EDQUOT)
			_exit(1);
		if (query(self->dev, &q) || q.user_bytes != 20 << 20 ||
		    q.region_bytes != 20 << 20 || q.user_limit_bytes != 20 << 20)
			_exit(2);
	}));
	/* Given back, and not the next one's. */
	EXPECT_EQ(10, AS_USER(1000, {
		int err;

		_exit(take(self->dev, 100, &err));
	}));
}

TEST_F(limit, users_do_not_count_for_each_other)
{
	int ready[2], go[2];
	pid_t pid;
	char c = 0;

	ASSERT_EQ(0, set_mb(PARAM_USER_LIMIT_MB, 20));
	ASSERT_EQ(0, pipe(ready));
	ASSERT_EQ(0, pipe(go));
	pid = fork();
	if (!pid) {
		int err;

		if (setgid(1000) || setuid(1000) || take(self->dev, 100, &err) != 10)
			_exit(1);
		_exit(write(ready[1], &c, 1) != 1 || read(go[0], &c, 1) != 1);
	}
	ASSERT_EQ(1, read(ready[0], &c, 1));
	EXPECT_EQ(0, AS_USER(1001, {
		struct shmdev_query q;
		int err;

		if (query(self->dev, &q) || q.user_bytes || q.region_bytes != 20 << 20)
			_exit(1);
		if (take(self->dev, 100, &err) != 10 || err != EDQUOT)
			_exit(2);
	}));
	ASSERT_EQ(1, write(go[1], &c, 1));
	waitpid(pid, NULL, 0);
	close(ready[0]);
	close(ready[1]);
	close(go[0]);
	close(go[1]);
}

TEST_F(limit, of_all)
{
	int fd = alloc(self->dev, 5 * HUGE);

	ASSERT_LE(0, fd);
	ASSERT_EQ(0, set_mb(PARAM_LIMIT_MB, 20));
	EXPECT_EQ(0, AS_USER(1000, {
		int err;

		if (take(self->dev, 100, &err) != 5 || err != EDQUOT)
			_exit(1);
	}));
	/* CAP_IPC_LOCK, which root has and may drop. */
	EXPECT_EQ(0, IN_CHILD({
		int err;

		if (take(self->dev, 20, &err) != 20)
			_exit(1);
	}));
	/* Below what is in use: nothing is taken away. */
	ASSERT_EQ(0, set_mb(PARAM_LIMIT_MB, 0));
	EXPECT_EQ(EDQUOT, AS_USER(1000, _exit(-alloc(self->dev, 1))));
	EXPECT_EQ(1, pwrite(fd, "x", 1, 0));
	close(fd);
}

/* A region counts for who made it, whoever owns it, until its memory goes. */
TEST_F(limit, chown_does_not_move_it)
{
	struct shmdev_query q;
	int fd = alloc(self->dev, 4 * HUGE);
	char *p;

	ASSERT_LE(0, fd);
	ASSERT_EQ(0, fchown(fd, 1000, 1000));
	ASSERT_EQ(0, query(self->dev, &q));
	EXPECT_EQ(4 * HUGE, q.user_bytes);
	EXPECT_EQ(0, AS_USER(1000, {
		if (query(self->dev, &q) || q.user_bytes)
			_exit(1);
	}));
	p = map(fd, 4 * HUGE);
	close(fd);
	ASSERT_EQ(0, query(self->dev, &q));
	EXPECT_EQ(4 * HUGE, q.user_bytes);
	munmap(p, 4 * HUGE);
	ASSERT_EQ(0, query(self->dev, &q));
	EXPECT_EQ(0, q.user_bytes);
}

/* Many at once cannot get past it. */
TEST_F(limit, exact_under_contention)
{
	long *count = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	int go[2];
	char c;

	ASSERT_EQ(0, set_mb(PARAM_USER_LIMIT_MB, 64));
	ASSERT_EQ(0, pipe(go));
	for (int i = 0; i < 4; i++) {
		if (!fork()) {
			int err, nr;

			if (setgid(1000) || setuid(1000))
				_exit(1);
			nr = take(self->dev, 100, &err);
			__atomic_add_fetch(count, nr, __ATOMIC_SEQ_CST);
			__atomic_add_fetch(count + 1, 1, __ATOMIC_SEQ_CST);
			close(go[1]);
			_exit(read(go[0], &c, 1));
		}
	}
	EXPECT_TRUE(WAIT_FOR(__atomic_load_n(count + 1, __ATOMIC_SEQ_CST) == 4));
	EXPECT_EQ(32, *count);
	close(go[0]);
	close(go[1]);
	while (wait(NULL) > 0)
		;
	munmap(count, 4096);
}

/* A request that fails for another reason has not been counted. */
TEST_F(limit, failure_gives_back)
{
	struct shmdev_query q;

	EXPECT_EQ(-ENOMEM, alloc(self->dev, self->limit_mb * 2 << 20 & ~(HUGE - 1)));
	ASSERT_EQ(0, query(self->dev, &q));
	EXPECT_EQ(0, q.user_bytes);
	EXPECT_EQ(0, q.region_bytes);
	EXPECT_EQ(0, q.regions);
}

TEST_F(limit, bad_values)
{
	static const char *const bad[] = { "-1", "4294967295", "4294967296", "x", "" };

	for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++) {
		EXPECT_GT(1, write_file(PARAM_LIMIT_MB, bad[i]));
		EXPECT_GT(1, write_file(PARAM_USER_LIMIT_MB, bad[i]));
	}
	EXPECT_EQ(self->limit_mb, read_long(PARAM_LIMIT_MB));
	EXPECT_EQ(self->user_limit_mb, read_long(PARAM_USER_LIMIT_MB));
}

TEST_HARNESS_MAIN
