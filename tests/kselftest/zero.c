// SPDX-License-Identifier: GPL-2.0-only
/* fallocate(FALLOC_FL_ZERO_RANGE): zero at once, for every mapping, with never a hole. */
#include <pthread.h>

#include "ring.h"
#include "util.h"

#define SIZE	(8 * HUGE)
#define CGROUP	"/sys/fs/cgroup/shmdev_zero"

FIXTURE(zero) {
	int dev;
	int fd;
	long pool_mb;
	char *p;
};

FIXTURE_VARIANT(zero) {
	long pool_mb;
};

/* By exchange, and by clearing in place. */
FIXTURE_VARIANT_ADD(zero, pool) {
	.pool_mb = 64,
};

FIXTURE_VARIANT_ADD(zero, no_pool) {
	.pool_mb = 0,
};

FIXTURE_SETUP(zero)
{
	self->dev = device_open();
	ASSERT_LE(0, self->dev);
	self->pool_mb = read_long(PARAM_POOL_MB);
	ASSERT_EQ(0, set_pool_mb(variant->pool_mb));
	self->fd = alloc_flags(self->dev, SIZE, SHMDEV_ALLOC_STRICT);
	ASSERT_LE(0, self->fd);
	self->p = map(self->fd, SIZE);
	ASSERT_NE(MAP_FAILED, self->p);
	memset(self->p, 0xa5, SIZE);
	ASSERT_TRUE(WAIT_FOR(pool_is(self->dev, variant->pool_mb << 20)));
}

FIXTURE_TEARDOWN(zero)
{
	struct shmdev_query q;

	if (self->p)
		munmap(self->p, SIZE);
	close(self->fd);
	EXPECT_EQ(0, query(self->dev, &q));
	EXPECT_EQ(0, q.regions);
	EXPECT_EQ(0, set_pool_mb(self->pool_mb));
	close(self->dev);
}

static bool all_is(const char *p, char c, size_t size)
{
	return !size || (*p == c && !memcmp(p, p + 1, size - 1));
}

TEST_F(zero, any_range)
{
	static const struct { off_t offset, len; } ranges[] = {
		{ 0, SIZE }, { 0, 1 }, { SIZE - 1, 1 }, { 0, HUGE }, { HUGE, HUGE },
		{ HUGE - 1, HUGE + 2 }, { 5, 3 * HUGE }, { 4096, 4096 }, { 4095, 2 },
		{ HUGE + 77, 100 }, { HUGE - 1, 1 }, { HUGE, 1 }, { 3, SIZE - 6 },
		{ 2 * HUGE, 6 * HUGE }, { 2 * HUGE - 4096, 2 * HUGE + 8192 },
	};

	for (size_t i = 0; i < sizeof(ranges) / sizeof(*ranges); i++) {
		off_t offset = ranges[i].offset, end = offset + ranges[i].len;

		memset(self->p, 0xa5, SIZE);
		ASSERT_EQ(0, zero_range(self->fd, offset, ranges[i].len));
		EXPECT_TRUE(all_is(self->p, 0xa5, offset)) {
			TH_LOG("range %zu", i);
		}
		EXPECT_TRUE(all_is(self->p + offset, 0, end - offset)) {
			TH_LOG("range %zu", i);
		}
		EXPECT_TRUE(all_is(self->p + end, 0xa5, SIZE - end)) {
			TH_LOG("range %zu", i);
		}
	}
}

/* What the pool is for: whole huge pages come from it, and are replaced there. */
TEST_F(zero, from_the_pool)
{
	struct shmdev_query before, after;

	ASSERT_EQ(0, query(self->dev, &before));
	ASSERT_EQ(0, zero_range(self->fd, 1, SIZE - 1));
	ASSERT_EQ(0, query(self->dev, &after));
	EXPECT_EQ(before.pool_hits + (variant->pool_mb ? 7 : 0), after.pool_hits);
	EXPECT_EQ(before.region_bytes, after.region_bytes);
	EXPECT_TRUE(WAIT_FOR(pool_is(self->dev, variant->pool_mb << 20)));
}

TEST_F(zero, every_mapping_sees_it)
{
	char *q = map(self->fd, SIZE);
	int ready[2], go[2];
	char c = 0;
	pid_t pid;
	int status;

	ASSERT_NE(MAP_FAILED, q);
	ASSERT_EQ(0, pipe(ready));
	ASSERT_EQ(0, pipe(go));
	pid = fork();
	if (!pid) {
		/* Touched, so that it has page tables of its own. */
		if (q[0] != (char)0xa5 || write(ready[1], &c, 1) != 1 || read(go[0], &c, 1) != 1)
			_exit(1);
		_exit(all_zero(q, SIZE) && all_zero(self->p, SIZE) ? 0 : 2);
	}
	ASSERT_EQ(1, read(ready[0], &c, 1));
	ASSERT_EQ(0, mlock(q, SIZE));
	ASSERT_EQ(0, zero_range(self->fd, 0, SIZE));
	ASSERT_EQ(1, write(go[1], &c, 1));
	EXPECT_TRUE(all_zero(q, SIZE));
	EXPECT_TRUE(all_zero(self->p, SIZE));
	waitpid(pid, &status, 0);
	EXPECT_EQ(0, status);
	/* And what is written then is one memory for all. */
	q[HUGE + 1] = 3;
	EXPECT_EQ(3, self->p[HUGE + 1]);
	munmap(q, SIZE);
	close(ready[0]);
	close(ready[1]);
	close(go[0]);
	close(go[1]);
}

TEST_F(zero, bad_arguments)
{
	static const int modes[] = {
		0, FALLOC_FL_KEEP_SIZE, FALLOC_FL_ZERO_RANGE,
		FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, FALLOC_FL_COLLAPSE_RANGE,
		FALLOC_FL_INSERT_RANGE, FALLOC_FL_UNSHARE_RANGE, FALLOC_FL_KEEP_SIZE | 1 << 20,
	};
	int ro = reopen(self->fd, O_RDONLY);

	ASSERT_LE(0, ro);
	for (size_t i = 0; i < sizeof(modes) / sizeof(*modes); i++) {
		EXPECT_EQ(-EOPNOTSUPP, result(fallocate(self->fd, modes[i], 0, HUGE))) {
			TH_LOG("mode %#x", modes[i]);
		}
	}
	EXPECT_EQ(-EINVAL, zero_range(self->fd, -1, HUGE));
	EXPECT_EQ(-EINVAL, zero_range(self->fd, 0, 0));
	EXPECT_EQ(-EINVAL, zero_range(self->fd, 0, -1));
	EXPECT_EQ(-EINVAL, zero_range(self->fd, 0, SIZE + 1));
	EXPECT_EQ(-EINVAL, zero_range(self->fd, SIZE, 1));
	EXPECT_EQ(-EFBIG, zero_range(self->fd, INT64_MAX, 1));
	EXPECT_EQ(-EBADF, zero_range(ro, 0, HUGE));
	EXPECT_TRUE(all_is(self->p, 0xa5, SIZE));
	close(ro);
}

/* A pin goes on seeing the region, and not memory that it once had. */
TEST_F(zero, pinned)
{
	int version = open("/proc/version", O_RDONLY | O_CLOEXEC);
	struct io_uring_sqe sqe = {
		.opcode = IORING_OP_READ_FIXED, .fd = version, .len = 5,
		.addr = (unsigned long)self->p + HUGE,
	};
	struct ring ring;
	int ret;

	ASSERT_LE(0, version);
	ret = ring_open(&ring);
	if (ret)
		SKIP(return, "no io_uring here: %s", strerror(-ret));
	ret = ring_pin(&ring, self->p + HUGE, 2 * HUGE);
	if (ret == -EOPNOTSUPP) {
		ring_close(&ring);
		SKIP(return, "this kernel does not let io_uring pin regions");
	}
	ASSERT_EQ(0, ret);
	ASSERT_EQ(0, zero_range(self->fd, 0, SIZE));
	EXPECT_TRUE(all_zero(self->p, SIZE));
	/* Written by the pin, read by the mapping. */
	EXPECT_EQ(5, ring_do(&ring, &sqe));
	EXPECT_EQ(0, memcmp(self->p + HUGE, "Linux", 5));
	ring_close(&ring);
	close(version);
}

/* What lies in a pipe is what was there when it was put in, or zero by now. */
TEST_F(zero, in_a_pipe)
{
	static char buf[65536];
	off_t offset = HUGE;
	int pipe_fd[2];
	ssize_t n;

	ASSERT_EQ(0, pipe(pipe_fd));
	n = splice(self->fd, &offset, pipe_fd[1], NULL, sizeof(buf), 0);
	ASSERT_LT(0, n);
	ASSERT_EQ(0, zero_range(self->fd, 0, SIZE));
	memset(self->p, 0x11, SIZE);
	ASSERT_EQ(n, read(pipe_fd[0], buf, n));
	EXPECT_TRUE(all_is(buf, 0xa5, n) || all_is(buf, 0x11, n));
	close(pipe_fd[0]);
	close(pipe_fd[1]);
}

TEST_F(zero, by_io_uring)
{
	struct io_uring_sqe sqe = {
		.opcode = IORING_OP_FALLOCATE, .fd = self->fd, .off = HUGE,
		.addr = SIZE - HUGE, .len = FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE,
	};
	struct ring ring;
	int ret;

	ret = ring_open(&ring);
	if (ret)
		SKIP(return, "no io_uring here: %s", strerror(-ret));
	EXPECT_EQ(0, ring_do(&ring, &sqe));
	EXPECT_TRUE(all_is(self->p, 0xa5, HUGE));
	EXPECT_TRUE(all_zero(self->p + HUGE, SIZE - HUGE));
	sqe.len = FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE;
	EXPECT_EQ(-EOPNOTSUPP, ring_do(&ring, &sqe));
	ring_close(&ring);
}

/*
 * Readers see old bytes or zeros, never another's bytes, never SIGBUS; a writer of one
 * value sees nothing but it and zeros.
 */
struct race {
	char *p;
	int fd;
	int stop;
	long seen[2];
	long wrong;
};

static void *race_read(void *arg)
{
	struct race *race = arg;
	unsigned int seed = 1;

	while (!__atomic_load_n(&race->stop, __ATOMIC_RELAXED)) {
		char c = *(volatile char *)(race->p + rand_r(&seed) % SIZE);

		if (c && c != (char)0xa5)
			race->wrong++;
		else
			race->seen[!c]++;
	}
	return NULL;
}

static void *race_pread(void *arg)
{
	struct race *race = arg;
	unsigned int seed = 2;
	char buf[512];

	while (!__atomic_load_n(&race->stop, __ATOMIC_RELAXED)) {
		if (pread(race->fd, buf, sizeof(buf), rand_r(&seed) % (SIZE - 512)) != 512)
			race->wrong++;
		for (size_t i = 0; i < sizeof(buf); i++)
			if (buf[i] && buf[i] != (char)0xa5)
				race->wrong++;
	}
	return NULL;
}

TEST_F(zero, against_readers)
{
	struct race race = { .p = self->p, .fd = self->fd };
	struct race race2 = race;
	pthread_t threads[2];

	ASSERT_EQ(0, pthread_create(&threads[0], NULL, race_read, &race));
	ASSERT_EQ(0, pthread_create(&threads[1], NULL, race_pread, &race2));
	for (int i = 0; i < soak(20); i++) {
		ASSERT_EQ(0, zero_range(self->fd, i % 3 * 1000, SIZE - i % 5 * 1000 - 2000));
		memset(self->p, 0xa5, SIZE);
	}
	race.stop = race2.stop = 1;
	pthread_join(threads[0], NULL);
	pthread_join(threads[1], NULL);
	EXPECT_EQ(0, race.wrong);
	EXPECT_EQ(0, race2.wrong);
	EXPECT_LT(0, race.seen[0]);
	TH_LOG("%ld old bytes and %ld zeros", race.seen[0], race.seen[1]);
}

/* A fatal signal stops it; what it got to is zero, the rest is as it was. */
TEST_F(zero, killed)
{
	enum { LARGE = 256 << 20 };
	int fd = alloc(self->dev, LARGE), status;
	char *p = map(fd, LARGE);
	size_t zeros = 0;
	pid_t pid;

	ASSERT_LE(0, fd);
	ASSERT_NE(MAP_FAILED, p);
	memset(p, 0xa5, LARGE);
	pid = fork();
	if (!pid) {
		for (;;)
			zero_range(fd, 0, LARGE);
	}
	ASSERT_LT(0, pid);
	while (*(volatile char *)p)
		sched_yield();
	ASSERT_EQ(0, kill(pid, SIGKILL));
	ASSERT_EQ(pid, waitpid(pid, &status, 0));
	EXPECT_EQ(SIGKILL, WTERMSIG(status));
	for (size_t i = 0; i < LARGE; i += HUGE) {
		EXPECT_TRUE(all_is(p + i, p[i], HUGE));
		zeros += !p[i];
	}
	TH_LOG("stopped after %zu of %zu huge pages", zeros, LARGE / HUGE);
	munmap(p, LARGE);
	close(fd);
}

/* At the limit of the memory cgroup: it is the same memory, and nobody is killed. */
TEST_F(zero, at_the_cgroup_limit)
{
	char text[32];

	if (access("/sys/fs/cgroup/cgroup.subtree_control", W_OK))
		SKIP(return, "no cgroup2 at /sys/fs/cgroup");
	ASSERT_EQ(0, write_file("/sys/fs/cgroup/cgroup.subtree_control", "+memory"));
	ASSERT_EQ(0, mkdir(CGROUP, 0755));
	EXPECT_EQ(0, IN_CHILD({
		int fd;
		char *p;
		long current;

		if (write_file(CGROUP "/cgroup.procs", "0"))
			_exit(1);
		fd = alloc(self->dev, SIZE);
		p = map(fd, SIZE);
		if (p == MAP_FAILED)
			_exit(2);
		memset(p, 1, SIZE);
		current = read_long(CGROUP "/memory.current");
		/* Room for page tables, and not for a huge page. */
		snprintf(text, sizeof(text), "%ld", current + (1 << 20));
		if (write_file(CGROUP "/memory.max", text))
			_exit(3);
		for (int i = 0; i < 10; i++) {
			if (zero_range(fd, 0, SIZE))
				_exit(4);
			if (!all_zero(p, SIZE))
				_exit(5);
			memset(p, 1, SIZE);
		}
		/* Charged once, and still charged. */
		if (read_long(CGROUP "/memory.current") < (long)SIZE)
			_exit(6);
		munmap(p, SIZE);
		close(fd);
		if (read_long(CGROUP "/memory.current") > (long)SIZE / 2)
			_exit(7);
	}));
	EXPECT_TRUE(WAIT_FOR(!rmdir(CGROUP)));
}

/* Memory failure takes a page out of the region; zeroing puts a new one in. */
TEST_F(zero, mends_broken_memory)
{
	volatile char *p = self->p;
	char buf[1];

	if (madvise(self->p + HUGE + 4096, 4096, MADV_HWPOISON))
		SKIP(return, "memory failure cannot be injected: %s", strerror(errno));
	EXPECT_EQ(128 + SIGBUS, IN_CHILD({
		buf[0] = p[HUGE + 4096];
	}));
	EXPECT_EQ(-EIO, result(pread(self->fd, buf, 1, HUGE + 4096)));
	EXPECT_EQ(-EIO, result(pwrite(self->fd, buf, 1, HUGE + 4096)));
	EXPECT_EQ((char)0xa5, p[HUGE]);
	/* Not by a part of it: the rest is lost. */
	EXPECT_EQ(-EHWPOISON, zero_range(self->fd, HUGE + 4096, 4095));
	EXPECT_EQ(0, zero_range(self->fd, HUGE + 4096, 4096));
	EXPECT_EQ(0, p[HUGE + 4096]);
	EXPECT_EQ(0, pread(self->fd, buf, 1, HUGE + 4096) - 1);
	p[HUGE + 4096] = 1;
	EXPECT_EQ((char)0xa5, p[HUGE + 4095]);
	EXPECT_EQ((char)0xa5, p[HUGE + 8192]);
}

TEST_HARNESS_MAIN
