// SPDX-License-Identifier: GPL-2.0-only
/* SHMDEV_IOC_ALLOC: what comes out, and that a failure leaves nothing behind. */
#include <sys/resource.h>

#include "util.h"

FIXTURE(alloc) {
	int dev;
	uint64_t max;
	int fds;
};

static int count_fds(void)
{
	int n = 0;

	for (int fd = 0; fd < 256; fd++)
		n += fcntl(fd, F_GETFD) >= 0;
	return n;
}

FIXTURE_SETUP(alloc)
{
	struct shmdev_query q;

	self->dev = device_open();
	ASSERT_LE(0, self->dev);
	ASSERT_EQ(0, query(self->dev, &q));
	self->max = q.max_region_bytes;
	self->fds = count_fds();
}

/* Whatever a test did, no descriptor and no region may be left. */
FIXTURE_TEARDOWN(alloc)
{
	struct shmdev_query q;

	EXPECT_EQ(self->fds, count_fds());
	EXPECT_EQ(0, query(self->dev, &q));
	EXPECT_EQ(0, q.regions);
	EXPECT_EQ(0, q.region_bytes);
	close(self->dev);
}

TEST_F(alloc, sizes)
{
	static const struct { uint64_t ask, get; } sizes[] = {
		{ 1, HUGE }, { 4096, HUGE }, { HUGE - 1, HUGE }, { HUGE, HUGE },
		{ HUGE + 1, 2 * HUGE }, { 64 * HUGE, 64 * HUGE },
	};

	for (size_t i = 0; i < sizeof(sizes) / sizeof(*sizes); i++) {
		struct shmdev_alloc a = { .size = sizes[i].ask };
		struct stat st;
		char *p;
		int fd;

		fd = result(ioctl(self->dev, SHMDEV_IOC_ALLOC, &a));
		ASSERT_LE(0, fd);
		EXPECT_EQ(sizes[i].get, a.size);
		EXPECT_GE(a.size, a.huge_bytes);
		EXPECT_GE(a.huge_bytes, a.pool_bytes);
		ASSERT_EQ(0, fstat(fd, &st));
		EXPECT_EQ(sizes[i].get, st.st_size);
		EXPECT_EQ(sizes[i].get, st.st_blocks * 512);
		p = map(fd, a.size);
		ASSERT_NE(MAP_FAILED, p);
		EXPECT_TRUE(all_zero(p, a.size));
		memset(p, 0xa5, a.size);
		EXPECT_EQ(0, munmap(p, a.size));
		close(fd);
	}
}

TEST_F(alloc, strict_is_huge)
{
	struct shmdev_alloc a = { .size = 8 * HUGE, .flags = SHMDEV_ALLOC_STRICT };
	int fd = result(ioctl(self->dev, SHMDEV_IOC_ALLOC, &a));

	ASSERT_LE(0, fd);
	EXPECT_EQ(8 * HUGE, a.huge_bytes);
	close(fd);
}

TEST_F(alloc, bad_sizes)
{
	EXPECT_EQ(-EINVAL, alloc(self->dev, 0));
	EXPECT_EQ(-EFBIG, alloc(self->dev, self->max + 1));
	EXPECT_EQ(-EFBIG, alloc(self->dev, 1ULL << 63));
	EXPECT_EQ(-EFBIG, alloc(self->dev, UINT64_MAX - HUGE));
	EXPECT_EQ(-EFBIG, alloc(self->dev, UINT64_MAX));
}

/*
 * More than there is: an error for the caller, and nobody dies of it, not even those who
 * take memory at that moment.
 */
TEST_F(alloc, all_of_memory)
{
	pid_t bystanders[3];
	int status;

	for (int i = 0; i < 3; i++) {
		bystanders[i] = fork();
		ASSERT_LE(0, bystanders[i]);
		for (; !bystanders[i]; ) {
			char *p = mmap(NULL, 50 << 20, PROT_READ | PROT_WRITE,
				       MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

			memset(p, 1, 50 << 20);
			munmap(p, 50 << 20);
		}
	}
	for (int i = 0; i < 3; i++) {
		EXPECT_EQ(-ENOMEM, alloc(self->dev, self->max));
		EXPECT_EQ(-ENOMEM, alloc_flags(self->dev, self->max, SHMDEV_ALLOC_STRICT));
	}
	for (int i = 0; i < 3; i++) {
		EXPECT_EQ(0, waitpid(bystanders[i], &status, WNOHANG));
		kill(bystanders[i], SIGKILL);
		waitpid(bystanders[i], &status, 0);
	}
}

/* The same in small steps, each of which would be possible alone. */
TEST_F(alloc, memory_bit_by_bit)
{
	int fds[192], nr = 0, fd = 0;

	while (nr < 192 && (fd = alloc(self->dev, 16 * HUGE)) >= 0)
		fds[nr++] = fd;
	EXPECT_EQ(-ENOMEM, fd);
	/* What is left is enough to live on. */
	EXPECT_EQ(0, IN_CHILD({
		char *p = malloc(8 << 20);

		memset(p, 1, 8 << 20);
	}));
	while (nr)
		close(fds[--nr]);
}

TEST_F(alloc, nodes)
{
	static const int bad[] = { -1, -2, INT32_MIN, 1023, 1024, 1 << 20, INT32_MAX };
	struct shmdev_alloc a = { .size = HUGE, .flags = SHMDEV_ALLOC_NODE };
	int fd;

	for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++) {
		a.node = bad[i];
		EXPECT_EQ(-EINVAL, result(ioctl(self->dev, SHMDEV_IOC_ALLOC, &a)));
	}
	/* A node without its flag, a strict one without its node. */
	a = (struct shmdev_alloc){ .size = HUGE, .node = 1 };
	EXPECT_EQ(-EINVAL, result(ioctl(self->dev, SHMDEV_IOC_ALLOC, &a)));
	EXPECT_EQ(-EINVAL, alloc_flags(self->dev, HUGE, SHMDEV_ALLOC_NODE_STRICT));
	a = (struct shmdev_alloc){ .size = HUGE, .flags = SHMDEV_ALLOC_NODE };
	fd = result(ioctl(self->dev, SHMDEV_IOC_ALLOC, &a));
	ASSERT_LE(0, fd);
	close(fd);
}

TEST_F(alloc, no_descriptor_left)
{
	struct rlimit old, limit;

	ASSERT_EQ(0, getrlimit(RLIMIT_NOFILE, &old));
	limit = old;
	limit.rlim_cur = self->dev + 1;
	ASSERT_EQ(0, setrlimit(RLIMIT_NOFILE, &limit));
	EXPECT_EQ(-EMFILE, alloc(self->dev, HUGE));
	ASSERT_EQ(0, setrlimit(RLIMIT_NOFILE, &old));
}

TEST_F(alloc, close_on_exec)
{
	int fd = alloc(self->dev, HUGE);

	ASSERT_LE(0, fd);
	EXPECT_EQ(FD_CLOEXEC, fcntl(fd, F_GETFD));
	EXPECT_EQ(O_RDWR, fcntl(fd, F_GETFL) & O_ACCMODE);
	close(fd);
}

/* Used memory never comes back dirty, whichever way it went. */
TEST_F(alloc, always_zero)
{
	for (int round = 0; round < 16; round++) {
		int fd = alloc(self->dev, 16 * HUGE);
		char *p;

		ASSERT_LE(0, fd);
		p = map(fd, 16 * HUGE);
		ASSERT_NE(MAP_FAILED, p);
		close(fd);
		ASSERT_TRUE(all_zero(p, 16 * HUGE));
		memset(p, 0xff, 16 * HUGE);
		munmap(p, 16 * HUGE);
	}
}

/* A fatal signal in the middle of a large request leaves nothing behind. */
TEST_F(alloc, killed)
{
	struct timespec killed, gone;
	struct shmdev_query q;
	int status;
	pid_t pid;

	for (int i = 0; i < soak(5); i++) {
		pid = fork();
		if (!pid) {
			for (;;)
				close(alloc(self->dev, self->max / 2));
		}
		ASSERT_LT(0, pid);
		/* A region that is in the making counts, and is what shall be stopped. */
		EXPECT_TRUE(WAIT_FOR(!query(self->dev, &q) && q.regions));
		ASSERT_EQ(0, kill(pid, SIGKILL));
		clock_gettime(CLOCK_MONOTONIC, &killed);
		ASSERT_EQ(pid, waitpid(pid, &status, 0));
		clock_gettime(CLOCK_MONOTONIC, &gone);
		EXPECT_EQ(SIGKILL, WTERMSIG(status));
		ASSERT_EQ(0, query(self->dev, &q));
		EXPECT_EQ(0, q.regions);
		TH_LOG("gone %ld ms after the signal, out of an ALLOC of %llu MiB",
		       (gone.tv_sec - killed.tv_sec) * 1000 +
		       (gone.tv_nsec - killed.tv_nsec) / 1000000,
		       (unsigned long long)self->max >> 21);
	}
}

TEST_HARNESS_MAIN
