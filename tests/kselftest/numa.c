// SPDX-License-Identifier: GPL-2.0-only
/* Which node the memory comes from.  Takes a machine with two; "numa=fake=2" makes one. */
#include <pthread.h>
#include <sched.h>
#include <sys/syscall.h>
#include <linux/mempolicy.h>

#include "util.h"

#define SIZE	(8 * HUGE)
#define CPUSET	"/sys/fs/cgroup/shmdev_cpuset"

FIXTURE(numa) {
	int dev;
	long pool_mb;
};

FIXTURE_SETUP(numa)
{
	if (access("/sys/devices/system/node/node1", F_OK))
		SKIP(return, "this machine has one NUMA node");
	self->dev = device_open();
	ASSERT_LE(0, self->dev);
	self->pool_mb = read_long(PARAM_POOL_MB);
}

FIXTURE_TEARDOWN(numa)
{
	EXPECT_EQ(0, set_pool_mb(self->pool_mb));
	EXPECT_EQ(0, syscall(__NR_set_mempolicy, MPOL_DEFAULT, NULL, 0));
	close(self->dev);
}

static int alloc_node(int dev, int node, uint64_t flags, struct shmdev_alloc *a)
{
	*a = (struct shmdev_alloc) { .size = SIZE, .flags = flags, .node = node };
	return result(ioctl(dev, SHMDEV_IOC_ALLOC, a));
}

/* Bytes of region @fd on each of two nodes. */
static void where(int fd, size_t on[2])
{
	char *p = map(fd, SIZE);

	on[0] = on[1] = 0;
	for (size_t i = 0; i < SIZE; i += 4096) {
		void *page = p + i;
		int node = -1;

		*(volatile char *)page;
		syscall(__NR_move_pages, 0, 1, &page, NULL, &node, 0);
		if (node == 0 || node == 1)
			on[node] += 4096;
	}
	munmap(p, SIZE);
}

static int set_policy(int mode, unsigned long nodes)
{
	return result(syscall(__NR_set_mempolicy, mode, &nodes, 8 * sizeof(nodes)));
}

/* With a pool on both nodes and without: a given node is where it is from. */
TEST_F(numa, given_node)
{
	struct shmdev_alloc a;
	struct shmdev_stat stat;
	size_t on[2];

	for (int mb = 0; mb <= 128; mb += 128) {
		ASSERT_EQ(0, set_pool_mb(mb));
		ASSERT_TRUE(WAIT_FOR(pool_is(self->dev, mb << 20)));
		for (int node = 0; node < 2; node++)
			for (int strict = 0; strict < 2; strict++) {
				int fd = alloc_node(self->dev, node, SHMDEV_ALLOC_NODE |
						    (strict ? SHMDEV_ALLOC_NODE_STRICT : 0), &a);

				ASSERT_LE(0, fd);
				where(fd, on);
				EXPECT_EQ(SIZE, on[node]);
				EXPECT_EQ(0, on[!node]);
				ASSERT_EQ(0, region_stat(fd, &stat));
				EXPECT_EQ(node, stat.node);
				close(fd);
			}
	}
}

/* The caller's own node, from the pool and beside it. */
TEST_F(numa, own_node)
{
	unsigned int cpu, node;
	struct shmdev_alloc a;
	size_t on[2];
	cpu_set_t set;
	int fd;

	ASSERT_EQ(0, sched_getaffinity(0, sizeof(set), &set));
	for (cpu = 0; cpu < 2; cpu++) {
		unsigned int is;
		cpu_set_t one;

		CPU_ZERO(&one);
		CPU_SET(cpu, &one);
		if (sched_setaffinity(0, sizeof(one), &one))
			continue;
		ASSERT_EQ(0, syscall(__NR_getcpu, &is, &node, NULL));
		fd = alloc_node(self->dev, 0, 0, &a);
		ASSERT_LE(0, fd);
		where(fd, on);
		EXPECT_EQ(SIZE, on[node]);
		close(fd);
	}
	ASSERT_EQ(0, sched_setaffinity(0, sizeof(set), &set));
}

/* Where the memory policy says, from the pool and where it has nothing. */
TEST_F(numa, memory_policy)
{
	struct shmdev_alloc a;
	size_t on[2];
	int fd;

	for (int mb = 0; mb <= 128; mb += 128) {
		ASSERT_EQ(0, set_pool_mb(mb));
		ASSERT_TRUE(WAIT_FOR(pool_is(self->dev, mb << 20)));
		for (int node = 0; node < 2; node++) {
			static const int modes[] = { MPOL_BIND, MPOL_PREFERRED };

			for (int m = 0; m < 2; m++) {
				ASSERT_EQ(0, set_policy(modes[m], 1UL << node));
				fd = alloc_node(self->dev, 0, 0, &a);
				ASSERT_LE(0, fd);
				where(fd, on);
				EXPECT_EQ(SIZE, on[node]);
				close(fd);
			}
		}
		ASSERT_EQ(0, set_policy(MPOL_DEFAULT, 0));
	}
	ASSERT_EQ(0, set_pool_mb(0));
	ASSERT_TRUE(WAIT_FOR(pool_is(self->dev, 0)));
	ASSERT_EQ(0, set_policy(MPOL_INTERLEAVE, 3));
	fd = alloc_node(self->dev, 0, 0, &a);
	ASSERT_LE(0, fd);
	where(fd, on);
	EXPECT_EQ(SIZE / 2, on[0]);
	EXPECT_EQ(SIZE / 2, on[1]);
	close(fd);
	ASSERT_EQ(0, set_policy(MPOL_DEFAULT, 0));
}

/* Strictly: when the node is full, ENOMEM; preferably: from another. */
TEST_F(numa, full_node)
{
	enum { MAX = 400 };
	struct shmdev_alloc a;
	int fds[MAX], nr = 0, fd;
	size_t on[2];

	ASSERT_EQ(0, set_pool_mb(0));
	do
		fd = fds[nr] = alloc_node(self->dev, 1, SHMDEV_ALLOC_STRICT | SHMDEV_ALLOC_NODE |
					  SHMDEV_ALLOC_NODE_STRICT, &a);
	while (fd >= 0 && ++nr < MAX);
	EXPECT_EQ(-ENOMEM, fd);
	EXPECT_LT(8, nr);
	TH_LOG("%d times %lu MiB of node 1", nr, SIZE >> 20);
	fd = alloc_node(self->dev, 1, SHMDEV_ALLOC_NODE, &a);
	ASSERT_LE(0, fd);
	where(fd, on);
	EXPECT_GT(SIZE, on[1]);
	close(fd);
	while (nr)
		close(fds[--nr]);
}

/* Zeroing leaves memory on its node. */
TEST_F(numa, zero_stays)
{
	struct shmdev_alloc a;
	size_t on[2];
	int fd;

	ASSERT_EQ(0, set_pool_mb(128));
	ASSERT_TRUE(WAIT_FOR(pool_is(self->dev, 128 << 20)));
	for (int node = 0; node < 2; node++) {
		fd = alloc_node(self->dev, node, SHMDEV_ALLOC_NODE, &a);
		ASSERT_LE(0, fd);
		ASSERT_EQ(0, zero_range(fd, 0, SIZE));
		where(fd, on);
		EXPECT_EQ(SIZE, on[node]);
		close(fd);
	}
}

/* Memory that moves while it is written to takes the writes with it. */
struct mover {
	char *p;
	int stop;
	long moved;
};

static void *mover_run(void *arg)
{
	struct mover *mover = arg;

	for (int to = 0; !__atomic_load_n(&mover->stop, __ATOMIC_RELAXED); to = !to) {
		void *page = mover->p;
		int status = -1;

		(void)*(volatile char *)page;
		syscall(__NR_move_pages, 0, 1, &page, &to, &status, MPOL_MF_MOVE);
		mover->moved += status == to;
	}
	return NULL;
}

TEST_F(numa, move_against_write)
{
	int fd = alloc(self->dev, HUGE), lost = 0;
	struct mover mover = {};
	pthread_t thread;

	ASSERT_LE(0, fd);
	mover.p = map(fd, HUGE);
	ASSERT_NE(MAP_FAILED, mover.p);
	ASSERT_EQ(0, pthread_create(&thread, NULL, mover_run, &mover));
	for (unsigned long v = 1, got, last = 0; v < soak(30000); last = v++) {
		ASSERT_EQ(8, pwrite(fd, &v, 8, v % 512 * 4096));
		/* The one before had a moment more to get lost. */
		ASSERT_EQ(8, pread(fd, &got, 8, last % 512 * 4096));
		lost += last && got != last;
	}
	__atomic_store_n(&mover.stop, 1, __ATOMIC_RELAXED);
	pthread_join(thread, NULL);
	EXPECT_EQ(0, lost);
	EXPECT_LT(0, mover.moved);
	TH_LOG("moved %ld times", mover.moved);
	munmap(mover.p, HUGE);
	close(fd);
}

TEST_F(numa, cpuset)
{
	struct shmdev_alloc a;
	size_t on[2];

	if (write_file("/sys/fs/cgroup/cgroup.subtree_control", "+cpuset"))
		SKIP(return, "no cpusets in cgroup2 here");
	ASSERT_EQ(0, mkdir(CPUSET, 0755));
	ASSERT_EQ(0, write_file(CPUSET "/cpuset.mems", "1"));
	EXPECT_EQ(0, IN_CHILD({
		int fd;

		if (write_file(CPUSET "/cgroup.procs", "0"))
			_exit(1);
		fd = alloc_node(self->dev, 0, 0, &a);
		if (fd < 0)
			_exit(2);
		where(fd, on);
		if (on[1] != SIZE)
			_exit(3);
		close(fd);
		if (alloc_node(self->dev, 0, SHMDEV_ALLOC_NODE | SHMDEV_ALLOC_NODE_STRICT,
			       &a) != -EINVAL)
			_exit(4);
		fd = alloc_node(self->dev, 0, SHMDEV_ALLOC_NODE, &a);
		if (fd < 0)
			_exit(5);
		where(fd, on);
		if (on[1] != SIZE)
			_exit(6);
	}));
	EXPECT_TRUE(WAIT_FOR(!rmdir(CPUSET)));
}

TEST_HARNESS_MAIN
