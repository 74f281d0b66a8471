// SPDX-License-Identifier: GPL-2.0-only
/* SEAL: no more writing, for nobody, for ever. */
#include <pthread.h>

#include "ring.h"
#include "util.h"

#define SIZE	(4 * HUGE)

FIXTURE(seal) {
	int dev;
	int fd;
};

FIXTURE_SETUP(seal)
{
	self->dev = device_open();
	ASSERT_LE(0, self->dev);
	self->fd = alloc(self->dev, SIZE);
	ASSERT_LE(0, self->fd);
	ASSERT_EQ(3, pwrite(self->fd, "abc", 3, 0));
}

FIXTURE_TEARDOWN(seal)
{
	struct shmdev_query q;

	close(self->fd);
	EXPECT_EQ(0, query(self->dev, &q));
	EXPECT_EQ(0, q.regions);
	close(self->dev);
}

static uint32_t seals(int fd)
{
	struct shmdev_stat stat;

	return region_stat(fd, &stat) ? ~0U : stat.seals;
}

TEST_F(seal, write)
{
	struct shmdev_export export;
	char buf[3];
	int ro, rw;
	char *p;

	ASSERT_EQ(0, region_seal(self->fd, SHMDEV_SEAL_WRITE));
	EXPECT_EQ(SHMDEV_SEAL_WRITE, seals(self->fd));
	EXPECT_EQ(-EPERM, result(pwrite(self->fd, "d", 1, 0)));
	EXPECT_EQ(-EPERM, zero_range(self->fd, 0, HUGE));
	EXPECT_EQ(MAP_FAILED, map(self->fd, SIZE));
	EXPECT_EQ(EPERM, errno);
	EXPECT_EQ(MAP_FAILED, map_rdonly(self->fd, SIZE));
	EXPECT_EQ(EPERM, errno);

	/* Nor by any other way to it. */
	rw = reopen(self->fd, O_RDWR);
	ASSERT_LE(0, rw);
	EXPECT_EQ(-EPERM, result(pwrite(rw, "d", 1, 0)));
	EXPECT_EQ(MAP_FAILED, map(rw, SIZE));
	close(rw);
	ASSERT_EQ(0, region_export(self->fd, &export));
	rw = attach(self->dev, &export);
	ASSERT_LE(0, rw);
	EXPECT_EQ(SHMDEV_SEAL_WRITE, seals(rw));
	EXPECT_EQ(-EPERM, result(pwrite(rw, "d", 1, 0)));
	close(rw);

	/* Reading goes on. */
	ro = reopen(self->fd, O_RDONLY);
	ASSERT_LE(0, ro);
	p = map_rdonly(ro, SIZE);
	ASSERT_NE(MAP_FAILED, p);
	EXPECT_EQ(0, memcmp(p, "abc", 3));
	EXPECT_EQ(-EACCES, result(mprotect(p, SIZE, PROT_READ | PROT_WRITE)));
	EXPECT_EQ(3, pread(self->fd, buf, 3, 0));
	EXPECT_EQ(0, memcmp(buf, "abc", 3));
	munmap(p, SIZE);
	close(ro);
}

TEST_F(seal, future_write)
{
	char *p = map(self->fd, SIZE), *q;

	ASSERT_NE(MAP_FAILED, p);
	ASSERT_EQ(0, region_seal(self->fd, SHMDEV_SEAL_FUTURE_WRITE));
	EXPECT_EQ(SHMDEV_SEAL_FUTURE_WRITE, seals(self->fd));
	p[0] = 'x';
	p[HUGE] = 'y';
	EXPECT_EQ(-EPERM, result(pwrite(self->fd, "d", 1, 0)));
	EXPECT_EQ(-EPERM, zero_range(self->fd, 0, HUGE));
	EXPECT_EQ(MAP_FAILED, map(self->fd, SIZE));
	EXPECT_EQ(EPERM, errno);
	q = map_rdonly(self->fd, SIZE);
	ASSERT_NE(MAP_FAILED, q);
	EXPECT_EQ('x', q[0]);
	EXPECT_EQ(-EACCES, result(mprotect(q, SIZE, PROT_READ | PROT_WRITE)));
	/* The mapping that was there may be protected and unprotected. */
	EXPECT_EQ(0, mprotect(p, SIZE, PROT_READ));
	EXPECT_EQ(0, mprotect(p, SIZE, PROT_READ | PROT_WRITE));
	p[1] = 'z';
	EXPECT_EQ('z', q[1]);

	/* The other seal needs it to go. */
	EXPECT_EQ(-EBUSY, region_seal(self->fd, SHMDEV_SEAL_WRITE));
	EXPECT_EQ(SHMDEV_SEAL_FUTURE_WRITE, seals(self->fd));
	munmap(p, SIZE);
	munmap(q, SIZE);
	ASSERT_EQ(0, region_seal(self->fd, SHMDEV_SEAL_WRITE));
	EXPECT_EQ(SHMDEV_SEAL_WRITE | SHMDEV_SEAL_FUTURE_WRITE, seals(self->fd));
}

TEST_F(seal, irreversible)
{
	struct shmdev_seal seal = { .seals = SHMDEV_SEAL_FUTURE_WRITE };

	ASSERT_EQ(0, region_seal(self->fd, SHMDEV_SEAL_WRITE));
	ASSERT_EQ(0, region_seal(self->fd, SHMDEV_SEAL_WRITE));
	EXPECT_EQ(-EINVAL, region_seal(self->fd, 0));
	ASSERT_EQ(0, ioctl(self->fd, SHMDEV_IOC_SEAL, &seal));
	EXPECT_EQ(SHMDEV_SEAL_WRITE | SHMDEV_SEAL_FUTURE_WRITE, seal.seals);
	EXPECT_EQ(SHMDEV_SEAL_WRITE | SHMDEV_SEAL_FUTURE_WRITE, seals(self->fd));
}

TEST_F(seal, busy_while_mapped)
{
	char *p = map(self->fd, SIZE), *q;

	ASSERT_NE(MAP_FAILED, p);
	EXPECT_EQ(-EBUSY, region_seal(self->fd, SHMDEV_SEAL_WRITE));
	EXPECT_EQ(0, seals(self->fd));
	/* A failure has changed nothing. */
	q = map(self->fd, SIZE);
	ASSERT_NE(MAP_FAILED, q);
	q[0] = 'q';
	EXPECT_EQ(1, pwrite(self->fd, "w", 1, 1));
	munmap(p, SIZE);
	EXPECT_EQ(-EBUSY, region_seal(self->fd, SHMDEV_SEAL_WRITE));
	/* One page is enough; a child's is, too. */
	munmap(q + 4096, SIZE - 4096);
	EXPECT_EQ(-EBUSY, region_seal(self->fd, SHMDEV_SEAL_WRITE));
	EXPECT_EQ(EBUSY, IN_CHILD({
		munmap(q, 4096);
		_exit(-region_seal(self->fd, SHMDEV_SEAL_WRITE));
	}));
	munmap(q, 4096);
	EXPECT_EQ(0, region_seal(self->fd, SHMDEV_SEAL_WRITE));
}

/* Who only reads is not in the way, and sees no difference. */
TEST_F(seal, readers_stay)
{
	int ro = reopen(self->fd, O_RDONLY);
	char *p = map_rdonly(ro, SIZE);

	ASSERT_LE(0, ro);
	ASSERT_NE(MAP_FAILED, p);
	EXPECT_EQ('a', p[0]);
	EXPECT_EQ(0, region_seal(self->fd, SHMDEV_SEAL_WRITE));
	EXPECT_EQ('a', p[0]);
	EXPECT_EQ(0, p[SIZE - 1]);
	munmap(p, SIZE);
	close(ro);
}

TEST_F(seal, busy_while_in_a_pipe)
{
	off_t offset = 0;
	char buf[4096];
	int pipe_fd[2];

	ASSERT_EQ(0, pipe(pipe_fd));
	ASSERT_EQ(4096, splice(self->fd, &offset, pipe_fd[1], NULL, 4096, 0));
	EXPECT_EQ(-EBUSY, region_seal(self->fd, SHMDEV_SEAL_WRITE));
	EXPECT_EQ(0, seals(self->fd));
	ASSERT_EQ(4096, read(pipe_fd[0], buf, sizeof(buf)));
	EXPECT_EQ(0, memcmp(buf, "abc", 3));
	EXPECT_EQ(0, region_seal(self->fd, SHMDEV_SEAL_WRITE));
	close(pipe_fd[0]);
	close(pipe_fd[1]);
}

/* Registered with io_uring, memory can be written without any mapping. */
TEST_F(seal, busy_while_pinned)
{
	char *p = map(self->fd, SIZE);
	struct ring ring;
	int ret;

	ASSERT_NE(MAP_FAILED, p);
	ret = ring_open(&ring);
	if (ret)
		SKIP(return, "no io_uring here: %s", strerror(-ret));
	ret = ring_pin(&ring, p, SIZE);
	munmap(p, SIZE);
	if (ret == -EOPNOTSUPP) {
		ring_close(&ring);
		SKIP(return, "this kernel does not let io_uring pin regions");
	}
	ASSERT_EQ(0, ret);
	EXPECT_EQ(-EBUSY, region_seal(self->fd, SHMDEV_SEAL_WRITE));
	EXPECT_EQ(0, region_seal(self->fd, SHMDEV_SEAL_FUTURE_WRITE));
	ring_close(&ring);
	/* The ring is taken down in the background. */
	EXPECT_TRUE(WAIT_FOR(!region_seal(self->fd, SHMDEV_SEAL_WRITE)));
}

struct race {
	int fd;
	int stop;
	long mapped;
};

/* Whoever takes pages off their LRU list for a moment hides no pin by it. */
static void *race_pageout(void *arg)
{
	struct race *race = arg;
	int ro = reopen(race->fd, O_RDONLY);
	volatile char *p = map_rdonly(ro, HUGE);

	while (!__atomic_load_n(&race->stop, __ATOMIC_RELAXED)) {
		(void)*p;
		madvise((char *)p, HUGE, MADV_PAGEOUT);
	}
	munmap((char *)p, HUGE);
	close(ro);
	return NULL;
}

TEST_F(seal, pinned_and_paged_out)
{
	struct race race = { .fd = alloc_flags(self->dev, HUGE, SHMDEV_ALLOC_STRICT) };
	char *p = map(race.fd, HUGE);
	pthread_t thread;
	struct ring ring;
	int ret;

	ASSERT_NE(MAP_FAILED, p);
	ret = ring_open(&ring);
	if (ret)
		SKIP(return, "no io_uring here: %s", strerror(-ret));
	ret = ring_pin(&ring, p, 4096);
	munmap(p, HUGE);
	if (ret == -EOPNOTSUPP) {
		ring_close(&ring);
		close(race.fd);
		SKIP(return, "this kernel does not let io_uring pin regions");
	}
	ASSERT_EQ(0, pthread_create(&thread, NULL, race_pageout, &race));
	for (int i = 0; i < soak(20); i++)
		ASSERT_EQ(-EBUSY, region_seal(race.fd, SHMDEV_SEAL_WRITE));
	__atomic_store_n(&race.stop, 1, __ATOMIC_RELAXED);
	pthread_join(thread, NULL);
	ring_close(&ring);
	close(race.fd);
	EXPECT_TRUE(WAIT_FOR(({
		struct shmdev_query q;

		!query(self->dev, &q) && q.regions == 1;
	})));
}

/*
 * Sealing against all who map, write and pin: once it has succeeded, not a byte changes
 * any more.
 */
static void *race_map(void *arg)
{
	struct race *race = arg;

	while (!__atomic_load_n(&race->stop, __ATOMIC_RELAXED)) {
		char *p = map(race->fd, HUGE);

		if (p == MAP_FAILED)
			continue;
		for (int i = 0; i < 64; i++)
			p[i * 4096]++;
		munmap(p, HUGE);
		__atomic_add_fetch(&race->mapped, 1, __ATOMIC_RELAXED);
	}
	return NULL;
}

static void *race_write(void *arg)
{
	struct race *race = arg;

	for (unsigned char c = 0; !__atomic_load_n(&race->stop, __ATOMIC_RELAXED); c++)
		if (pwrite(race->fd, &c, 1, 100) != 1)
			zero_range(race->fd, 0, HUGE);
	return NULL;
}

TEST_F(seal, against_writers)
{
	static char before[HUGE], after[HUGE];
	int ret = 0, sealed = 0;

	for (int i = 0; i < soak(10); i++) {
		struct race race = { .fd = alloc(self->dev, HUGE) };
		pthread_t threads[2];

		ASSERT_LE(0, race.fd);
		ASSERT_EQ(0, pthread_create(&threads[0], NULL, race_map, &race));
		ASSERT_EQ(0, pthread_create(&threads[1], NULL, race_write, &race));
		while (__atomic_load_n(&race.mapped, __ATOMIC_RELAXED) < 3)
			sched_yield();
		do
			ret = region_seal(race.fd, SHMDEV_SEAL_WRITE);
		while (ret == -EBUSY);
		ASSERT_EQ(0, ret);
		ASSERT_EQ(HUGE, pread(race.fd, before, HUGE, 0));
		for (int j = 0; j < 100; j++)
			sched_yield();
		ASSERT_EQ(HUGE, pread(race.fd, after, HUGE, 0));
		sealed += !memcmp(before, after, HUGE);
		__atomic_store_n(&race.stop, 1, __ATOMIC_RELAXED);
		pthread_join(threads[0], NULL);
		pthread_join(threads[1], NULL);
		close(race.fd);
	}
	EXPECT_EQ(soak(10), sealed);
}

TEST_HARNESS_MAIN
