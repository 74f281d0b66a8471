// SPDX-License-Identifier: GPL-2.0-only
/* Memory that moves, that goes and that breaks, under regions and the pool. */
#include <dirent.h>
#include <sched.h>
#include <sys/syscall.h>
#include <linux/mempolicy.h>

#include "ring.h"
#include "util.h"

#ifndef MADV_SOFT_OFFLINE
#define MADV_SOFT_OFFLINE 101	/* not in every libc's header */
#endif

#define SIZE		(8 * HUGE)
#define BLOCKS		"/sys/devices/system/memory/"
#define COMPACT		"/proc/sys/vm/compact_memory"

FIXTURE(migrate) {
	int dev;
	int fd;
	char *p;
	long pool_mb;
};

FIXTURE_SETUP(migrate)
{
	self->dev = device_open();
	ASSERT_LE(0, self->dev);
	self->pool_mb = read_long(PARAM_POOL_MB);
	self->fd = alloc(self->dev, SIZE);
	ASSERT_LE(0, self->fd);
	self->p = map(self->fd, SIZE);
	ASSERT_NE(MAP_FAILED, self->p);
	for (size_t i = 0; i < SIZE; i += 4096)
		*(size_t *)(self->p + i) = i + 1;
}

FIXTURE_TEARDOWN(migrate)
{
	munmap(self->p, SIZE);
	close(self->fd);
	EXPECT_EQ(0, set_pool_mb(self->pool_mb));
	close(self->dev);
}

/* The first page that is not as it was written; SIZE: there is none. */
static size_t wrong(const char *p)
{
	size_t i;

	for (i = 0; i < SIZE; i += 4096)
		if (*(size_t *)(p + i) != i + 1)
			break;
	return i;
}

/* Of /proc/kpageflags. */
#define COMPOUND_TAIL	(1ULL << 16)
#define HWPOISON	(1ULL << 19)

/* So many words of a file that has one for each page; 0 where it has none. */
static void words_read(const char *path, size_t page, uint64_t *words, size_t nr)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);

	memset(words, 0, nr * 8);
	if (pread(fd, words, nr * 8, page * 8) < 0)
		memset(words, 0, nr * 8);
	close(fd);
}

/* 0 if it is not mapped. */
static uint64_t pfn_of(const void *p)
{
	uint64_t entry;

	words_read("/proc/self/pagemap", (size_t)p / 4096, &entry, 1);
	return entry >> 63 ? entry & ((1ULL << 55) - 1) : 0;
}

static bool is_broken(uint64_t pfn)
{
	uint64_t flags;

	words_read("/proc/kpageflags", pfn, &flags, 1);
	return flags & HWPOISON;
}

/* How many pages of the @nr huge ones at @p are marked as broken. */
static int count_broken(const char *p, size_t nr)
{
	uint64_t pfns[512], flags[512];
	int broken = 0;

	for (size_t i = 0; i < nr; i++) {
		words_read("/proc/self/pagemap", (size_t)p / 4096 + i * 512, pfns, 512);
		for (size_t page = 0; page < 512; page++) {
			pfns[page] &= (1ULL << 55) - 1;
			/* As many at once as follow each other, most often all. */
			if (!page || pfns[page] != pfns[page - 1] + 1)
				words_read("/proc/kpageflags", pfns[page], flags + page,
					   512 - page);
			broken += !!(flags[page] & HWPOISON);
		}
	}
	return broken;
}

/* --- between nodes ---------------------------------------------------------- */

static bool two_nodes(void)
{
	return !access("/sys/devices/system/node/node1", F_OK);
}

/* Where a page is, or -errno. */
static int node_of(void *page)
{
	int node = -EIO;

	syscall(__NR_move_pages, 0, 1, &page, NULL, &node, 0);
	return node;
}

/* 0, the number of pages that did not move, or -errno. */
static long move_to(void *page, int to, int *status)
{
	*status = 99;
	return result(syscall(__NR_move_pages, 0, 1, &page, &to, status, MPOL_MF_MOVE));
}

TEST_F(migrate, move_pages)
{
	int status;

	if (!two_nodes())
		SKIP(return, "this machine has one NUMA node");
	for (int to = 0; to < 4; to++) {
		for (size_t i = 0; i < SIZE; i += HUGE) {
			/* Split or whole, the answer is of the page that was named. */
			ASSERT_EQ(0, move_to(self->p + i, to % 2, &status));
			ASSERT_EQ(to % 2, status);
			ASSERT_EQ(to % 2, node_of(self->p + i));
		}
		ASSERT_EQ(SIZE, wrong(self->p));
	}
	/* By another mapping, and as a file. */
	EXPECT_EQ(8, pread(self->fd, &status, sizeof(status), HUGE) + 4);
	EXPECT_EQ((int)HUGE + 1, status);
}

TEST_F(migrate, migrate_pages)
{
	unsigned long from, to;

	if (!two_nodes())
		SKIP(return, "this machine has one NUMA node");
	for (int i = 0; i < 4; i++) {
		from = 1UL << i % 2;
		to = 3 & ~from;
		EXPECT_LE(0, result(syscall(__NR_migrate_pages, 0, 64, &from, &to)));
		for (size_t page = 0; page < SIZE; page += HUGE)
			ASSERT_EQ((i + 1) % 2, node_of(self->p + page));
		ASSERT_EQ(SIZE, wrong(self->p));
	}
}

/* What is pinned stays, and who asks is told: the page counts as one that did not move. */
TEST_F(migrate, pinned_stays)
{
	struct iovec iov = { .iov_base = self->p + HUGE + 4096, .iov_len = 4096 };
	int pipe_fd[2], at, status;
	uint64_t pfn;
	long ret;
	char buf[4096];

	if (!two_nodes())
		SKIP(return, "this machine has one NUMA node");
	ASSERT_EQ(0, pipe(pipe_fd));
	ASSERT_EQ(4096, vmsplice(pipe_fd[1], &iov, 1, 0));
	at = node_of(self->p + HUGE);
	pfn = pfn_of(self->p + HUGE);
	ASSERT_LE(0, at);
	ret = move_to(self->p + HUGE, !at, &status);
	TH_LOG("pinned: returned %ld, status %d", ret, status);
	EXPECT_TRUE(ret == 1 || (!ret && (status == -EBUSY || status == -EAGAIN)));
	EXPECT_EQ(at, node_of(self->p + HUGE));
	EXPECT_EQ(pfn, pfn_of(self->p + HUGE));
	/* Others are not in its way, nor it in theirs. */
	EXPECT_EQ(0, move_to(self->p, !node_of(self->p), &status));
	EXPECT_EQ(4096, read(pipe_fd[0], buf, sizeof(buf)));
	EXPECT_EQ(HUGE + 4096 + 1, *(size_t *)buf);
	EXPECT_EQ(0, move_to(self->p + HUGE, !at, &status));
	EXPECT_EQ(!at, status);
	EXPECT_EQ(SIZE, wrong(self->p));
	close(pipe_fd[0]);
	close(pipe_fd[1]);
}

TEST_F(migrate, pinned_for_long_stays)
{
	struct ring ring;
	int ret, status;
	uint64_t pfn;

	if (!two_nodes())
		SKIP(return, "this machine has one NUMA node");
	ret = ring_open(&ring);
	if (ret)
		SKIP(return, "no io_uring here: %s", strerror(-ret));
	if (ring_pin(&ring, self->p, HUGE)) {
		ring_close(&ring);
		SKIP(return, "this kernel's io_uring registers no files");
	}
	pfn = pfn_of(self->p);
	ret = move_to(self->p, !node_of(self->p), &status);
	EXPECT_TRUE(ret == 1 || (!ret && (status == -EBUSY || status == -EAGAIN)));
	EXPECT_EQ(0, write_file(COMPACT, "1"));
	EXPECT_EQ(pfn, pfn_of(self->p));
	ring_close(&ring);
	EXPECT_EQ(SIZE, wrong(self->p));
}

/* --- going away ------------------------------------------------------------- */

enum { MAX_BLOCKS = 1024 };

/* Numbers of the memory blocks that are on. */
static int blocks_list(int *blocks)
{
	DIR *dir = opendir(BLOCKS);
	struct dirent *entry;
	char path[300], state[16];
	int nr = 0, block;

	while (dir && nr < MAX_BLOCKS && (entry = readdir(dir))) {
		FILE *file;

		if (sscanf(entry->d_name, "memory%d", &block) != 1)
			continue;
		snprintf(path, sizeof(path), BLOCKS "%s/state", entry->d_name);
		file = fopen(path, "re");
		if (file && fscanf(file, "%15s", state) == 1 && !strcmp(state, "online"))
			blocks[nr++] = block;
		if (file)
			fclose(file);
	}
	if (dir)
		closedir(dir);
	return nr;
}

static int block_set(int block, const char *state)
{
	char path[128];

	snprintf(path, sizeof(path), BLOCKS "memory%d/state", block);
	return write_file(path, state);
}

static bool block_has(int block, uint64_t pfn)
{
	char text[32] = "";
	int fd = open(BLOCKS "block_size_bytes", O_RDONLY | O_CLOEXEC);
	uint64_t size = 0;

	if (read(fd, text, sizeof(text) - 1) > 0)
		size = strtoull(text, NULL, 16);
	close(fd);
	return size && pfn / (size / 4096) == block;
}

/*
 * Blocks with a region's memory in them go, the region stays.  A node's pool lets go of all
 * while one goes, and fills again.
 */
TEST_F(migrate, memory_goes_offline)
{
	int blocks[MAX_BLOCKS], off[MAX_BLOCKS], nr, nr_off = 0, moved = 0;
	uint64_t before[SIZE / HUGE];
	struct shmdev_query q;

	nr = blocks_list(blocks);
	if (!nr)
		SKIP(return, "this kernel has no memory that can be taken offline");
	ASSERT_EQ(0, set_pool_mb(0));
	ASSERT_TRUE(WAIT_FOR(pool_is(self->dev, 0)));
	/* So that there is room to move to, and huge pages. */
	ASSERT_EQ(0, write_file("/proc/sys/vm/drop_caches", "3"));
	for (size_t i = 0; i < SIZE / HUGE; i++)
		before[i] = pfn_of(self->p + i * HUGE);
	for (int i = 0; i < nr && nr_off < 4; i++) {
		bool ours = false;

		for (size_t page = 0; page < SIZE / HUGE; page++)
			ours |= block_has(blocks[i], before[page]);
		/* Those first that matter; the others have been tried by other tests. */
		if (!ours || block_set(blocks[i], "offline"))
			continue;
		off[nr_off++] = blocks[i];
		for (size_t page = 0; page < SIZE; page += HUGE)
			(void)*(volatile char *)(self->p + page);
		for (size_t page = 0; page < SIZE / HUGE; page++)
			EXPECT_FALSE(block_has(blocks[i], pfn_of(self->p + page * HUGE)));
		EXPECT_EQ(SIZE, wrong(self->p));
	}
	for (size_t page = 0; page < SIZE / HUGE; page++)
		moved += before[page] != pfn_of(self->p + page * HUGE);
	TH_LOG("%d of %d blocks went offline, %d of %lu huge pages moved", nr_off, nr, moved,
	       SIZE / HUGE);
	/* With less memory the pool works as it did. */
	EXPECT_EQ(0, set_pool_mb(64));
	EXPECT_TRUE(WAIT_FOR(pool_is(self->dev, 64 << 20)));
	while (nr_off)
		EXPECT_EQ(0, block_set(off[--nr_off], "online"));
	EXPECT_EQ(SIZE, wrong(self->p));
	ASSERT_EQ(0, query(self->dev, &q));
	EXPECT_EQ(64 << 20, q.pool_target_bytes);
	EXPECT_TRUE(WAIT_FOR(pool_is(self->dev, 64 << 20)));
	if (!moved)
		SKIP(return, "no block with memory of the region can be taken offline here");
}

/* A full pool delays it for no longer than it takes to say so. */
TEST_F(migrate, pool_goes_first)
{
	int blocks[MAX_BLOCKS], nr, busy = 0, late = 0, free_at_once = 0;

	nr = blocks_list(blocks);
	if (!nr)
		SKIP(return, "this kernel has no memory that can be taken offline");
	ASSERT_EQ(0, set_pool_mb(64));
	ASSERT_TRUE(WAIT_FOR(pool_is(self->dev, 64 << 20)));
	for (int i = 0; i < nr && free_at_once + late < 6; i++) {
		int err = block_set(blocks[i], "offline");

		if (!err) {
			free_at_once++;
		} else {
			busy++;
			ASSERT_EQ(0, set_pool_mb(0));
			ASSERT_TRUE(WAIT_FOR(pool_is(self->dev, 0)));
			err = block_set(blocks[i], "offline");
			late += !err;
		}
		if (!err)
			ASSERT_EQ(0, block_set(blocks[i], "online"));
		ASSERT_EQ(0, set_pool_mb(64));
		ASSERT_TRUE(WAIT_FOR(pool_is(self->dev, 64 << 20)));
	}
	TH_LOG("of %d blocks %d went at once, %d were busy, %d of these went without a pool", nr,
	       free_at_once, busy, late);
	EXPECT_EQ(SIZE, wrong(self->p));
	if (!(free_at_once + late))
		SKIP(return, "no block can be taken offline here");
}

/* Memory for taking away is for regions and not for the pool. */
TEST_F(migrate, movable_memory)
{
	int blocks[MAX_BLOCKS], nr, block = -1;

	nr = blocks_list(blocks);
	ASSERT_EQ(0, set_pool_mb(0));
	ASSERT_TRUE(WAIT_FOR(pool_is(self->dev, 0)));
	/* Movable memory is at the end of a node's. */
	for (int i = nr - 1; i >= 0 && block < 0; i--) {
		if (block_set(blocks[i], "offline"))
			continue;
		if (!block_set(blocks[i], "online_movable"))
			block = blocks[i];
		else
			ASSERT_EQ(0, block_set(blocks[i], "online"));
	}
	if (block < 0)
		SKIP(return, "no block can be made movable here");
	ASSERT_EQ(0, set_pool_mb(64));
	ASSERT_TRUE(WAIT_FOR(pool_is(self->dev, 64 << 20)));
	/* None of the pool is in it. */
	EXPECT_EQ(0, block_set(block, "offline"));
	EXPECT_EQ(0, block_set(block, "online"));
	EXPECT_TRUE(WAIT_FOR(pool_is(self->dev, 64 << 20)));
	EXPECT_EQ(SIZE, wrong(self->p));
}

/* The first node that has memory blocks, and all of them off; 0: there is none. */
static int node_off(int blocks[], int *nr)
{
	int on[MAX_BLOCKS], nr_on = blocks_list(on), nid;

	for (nid = 1; nid < 64; nid++) {
		struct dirent *entry;
		char path[128];
		DIR *dir;
		bool off;

		snprintf(path, sizeof(path), "/sys/devices/system/node/node%d", nid);
		dir = opendir(path);
		*nr = 0;
		while (dir && *nr < MAX_BLOCKS && (entry = readdir(dir)))
			*nr += sscanf(entry->d_name, "memory%d", &blocks[*nr]) == 1;
		if (dir)
			closedir(dir);
		off = *nr;
		for (int i = 0; i < *nr; i++)
			for (int j = 0; j < nr_on; j++)
				off &= blocks[i] != on[j];
		if (off)
			return nid;
	}
	return 0;
}

static long node_value(int nid, const char *name)
{
	char path[128];

	snprintf(path, sizeof(path), "/sys/class/misc/shmdev/node%d/%s", nid, name);
	return read_long(path);
}

/*
 * A node of memory that is there to be taken out: regions have it and the pool does not, it
 * goes while it is in use, and then for good.
 */
TEST_F(migrate, memory_is_taken_out)
{
	int blocks[MAX_BLOCKS], nr, nid = node_off(blocks, &nr), left[MAX_BLOCKS], nr_left, fd;
	struct shmdev_alloc a = {
		.size = SIZE, .node = nid,
		.flags = SHMDEV_ALLOC_NODE | SHMDEV_ALLOC_NODE_STRICT,
	};
	char *p;

	if (!nid)
		SKIP(return, "no node here has its memory off");
	ASSERT_EQ(-EINVAL, result(ioctl(self->dev, SHMDEV_IOC_ALLOC, &a)));
	for (int i = 0; i < nr; i++)
		ASSERT_EQ(0, block_set(blocks[i], "online_movable"));
	ASSERT_EQ(0, set_pool_mb(64));
	ASSERT_TRUE(WAIT_FOR(pool_is(self->dev, 64 << 20)));
	EXPECT_EQ(0, node_value(nid, "pool_target_bytes"));

	fd = result(ioctl(self->dev, SHMDEV_IOC_ALLOC, &a));
	ASSERT_LE(0, fd);
	p = map(fd, SIZE);
	ASSERT_NE(MAP_FAILED, p);
	for (size_t i = 0; i < SIZE; i += 4096)
		*(size_t *)(p + i) = i + 1;
	for (size_t i = 0; i < SIZE; i += HUGE)
		EXPECT_EQ(nid, node_of(p + i));
	for (int i = 0; i < nr; i++)
		ASSERT_EQ(0, block_set(blocks[i], "offline"));
	EXPECT_EQ(SIZE, wrong(p));
	for (size_t i = 0; i < SIZE; i += HUGE)
		EXPECT_NE(nid, node_of(p + i));
	EXPECT_EQ(0, zero_range(fd, 0, SIZE));
	EXPECT_TRUE(all_zero(p, SIZE));
	EXPECT_EQ(-EINVAL, result(ioctl(self->dev, SHMDEV_IOC_ALLOC, &a)));
	munmap(p, SIZE);
	close(fd);

	/* The virtual machine has two in this node: one is for the test of what is added. */
	ASSERT_EQ(0, write_file("/sys/bus/acpi/devices/PNP0C80:00/eject", "1"));
	EXPECT_TRUE(WAIT_FOR(node_off(left, &nr_left) == nid && nr_left < nr));
	EXPECT_EQ(0, node_value(nid, "pool_bytes"));
	EXPECT_EQ(-EINVAL, result(ioctl(self->dev, SHMDEV_IOC_ALLOC, &a)));
	EXPECT_EQ(0, set_pool_mb(32));
	EXPECT_TRUE(WAIT_FOR(pool_is(self->dev, 32 << 20)));
	EXPECT_EQ(SIZE, wrong(self->p));
}

/* A node that gets memory gets its part of the pool, which is then in the way of its going. */
TEST_F(migrate, node_gets_memory)
{
	int blocks[MAX_BLOCKS], nr, nid = node_off(blocks, &nr);
	long target;

	if (!nid)
		SKIP(return, "no node here has its memory off");
	ASSERT_EQ(0, set_pool_mb(512));
	EXPECT_EQ(0, node_value(nid, "pool_target_bytes"));
	for (int i = 0; i < nr; i++)
		ASSERT_EQ(0, block_set(blocks[i], "online_kernel"));
	target = node_value(nid, "pool_target_bytes");
	EXPECT_LT(0, target);
	EXPECT_TRUE(WAIT_FOR(node_value(nid, "pool_bytes") == target));
	EXPECT_TRUE(WAIT_FOR(pool_is(self->dev, 512 << 20)));
	EXPECT_EQ(-EBUSY, block_set(blocks[0], "offline"));
	EXPECT_EQ(target, node_value(nid, "pool_bytes"));
	EXPECT_EQ(SIZE, wrong(self->p));
}

/* Where the threads may run; sum over all of them. */
static uint64_t threads_cpus(void)
{
	DIR *proc = opendir("/proc");
	struct dirent *entry;
	uint64_t sum = 0;

	while (proc && (entry = readdir(proc))) {
		char path[300], comm[32] = "";
		cpu_set_t set;
		FILE *file;

		snprintf(path, sizeof(path), "/proc/%s/comm", entry->d_name);
		file = fopen(path, "re");
		if (!file)
			continue;
		if (fscanf(file, "%31s", comm) == 1 && !strncmp(comm, "shmdev_pool/", 12) &&
		    !sched_getaffinity(atoi(entry->d_name), sizeof(set), &set))
			for (int cpu = 0; cpu < 8; cpu++)
				sum += (uint64_t)!!CPU_ISSET(cpu, &set) << 8 * cpu;
		fclose(file);
	}
	if (proc)
		closedir(proc);
	return sum;
}

TEST_F(migrate, processors_come_and_go)
{
	static const char online[] = "/sys/devices/system/cpu/cpu1/online";
	uint64_t before = threads_cpus();

	ASSERT_NE(0, before);
	if (write_file(online, "0"))
		SKIP(return, "the second processor cannot be taken offline");
	EXPECT_EQ(0, set_pool_mb(0));
	EXPECT_TRUE(WAIT_FOR(pool_is(self->dev, 0)));
	EXPECT_EQ(0, set_pool_mb(64));
	EXPECT_TRUE(WAIT_FOR(pool_is(self->dev, 64 << 20)));
	ASSERT_EQ(0, write_file(online, "1"));
	EXPECT_EQ(before, threads_cpus());
	EXPECT_EQ(SIZE, wrong(self->p));
}

/* --- breaking --------------------------------------------------------------- */

/* Whoever reads what has broken dies of it, and nobody else of anything. */
TEST_F(migrate, broken_page_hurts_its_readers)
{
	size_t bad = 3 * HUGE + 60 * 4096;
	char *q = map(self->fd, SIZE), buf[4096];
	struct shmdev_query query_;
	struct shmdev_stat stat;
	uint64_t pfn;

	ASSERT_NE(MAP_FAILED, q);
	pfn = pfn_of(self->p + bad);
	if (madvise(self->p + bad, 4096, MADV_HWPOISON))
		SKIP(return, "memory failure cannot be injected: %s", strerror(errno));
	EXPECT_EQ(128 + SIGBUS, IN_CHILD((void)*(volatile char *)(self->p + bad)));
	EXPECT_EQ(128 + SIGBUS, IN_CHILD(*(volatile char *)(q + bad) = 1));
	EXPECT_EQ(-EIO, result(pread(self->fd, buf, 4096, bad)));
	for (size_t i = 0; i < SIZE; i += 4096)
		if (i != bad) {
			ASSERT_EQ(i + 1, *(size_t *)(self->p + i));
			ASSERT_EQ(i + 1, *(size_t *)(q + i));
			ASSERT_EQ(4096, pread(self->fd, buf, 4096, i));
			ASSERT_EQ(i + 1, *(size_t *)buf);
		}
	EXPECT_EQ(0, region_stat(self->fd, &stat));
	EXPECT_EQ(SIZE, stat.size);
	munmap(q, SIZE);
	/* What count_broken() goes by. */
	EXPECT_TRUE(is_broken(pfn));

	/* It goes as any other, and what broke comes back in no other. */
	munmap(self->p, SIZE);
	close(self->fd);
	ASSERT_EQ(0, query(self->dev, &query_));
	EXPECT_EQ(0, query_.regions);
	for (int i = 0; i < soak(4); i++) {
		self->fd = alloc(self->dev, 4 * SIZE);
		ASSERT_LE(0, self->fd);
		self->p = map(self->fd, 4 * SIZE);
		ASSERT_NE(MAP_FAILED, self->p);
		for (size_t page = 0; page < 4 * SIZE; page += 4096)
			*(volatile char *)(self->p + page) = 1;
		EXPECT_EQ(0, count_broken(self->p, 4 * SIZE / HUGE));
		munmap(self->p, 4 * SIZE);
		close(self->fd);
	}
	self->fd = alloc(self->dev, SIZE);
	self->p = map(self->fd, SIZE);
	ASSERT_NE(MAP_FAILED, self->p);
}

/*
 * A huge page that could not be split, because somebody had a hold on it when a part of it
 * broke: once it can be exchanged, it goes to nobody else.
 */
TEST_F(migrate, broken_huge_page_is_not_reused)
{
	struct iovec iov = { .iov_base = self->p + HUGE, .iov_len = 4096 };
	char *bad = self->p + HUGE + 60 * 4096;
	off_t bad_at = bad - self->p, offset;
	static char buf[64 * 4096];
	uint64_t pfn = pfn_of(bad), flags;
	int pipe_fd[2], fd, failed;
	char *p;

	ASSERT_EQ(0, set_pool_mb(64));
	ASSERT_TRUE(WAIT_FOR(pool_is(self->dev, 64 << 20)));
	ASSERT_EQ(0, pipe(pipe_fd));
	ASSERT_EQ(4096, vmsplice(pipe_fd[1], &iov, 1, 0));
	/* By who may die of it, as if it had been read. */
	failed = IN_CHILD(_exit(madvise(bad, 4096, MADV_HWPOISON) ? errno : 0));
	if (!is_broken(pfn))
		SKIP(return, "memory failure cannot be injected: %d", failed);
	/* As long as it is held it stays, and cannot be zero. */
	ASSERT_NE(0, failed);
	EXPECT_EQ(-EHWPOISON, zero_range(self->fd, HUGE, HUGE));
	/* What is sound can be read, and the kernel does not touch what is not. */
	EXPECT_EQ(60 * 4096 - 100, pread(self->fd, buf, sizeof(buf), HUGE + 100));
	EXPECT_EQ(HUGE + 59 * 4096 + 1, *(size_t *)(buf + 59 * 4096 - 100));
	EXPECT_EQ(-EIO, result(pread(self->fd, buf, 4096, bad_at)));
	EXPECT_EQ(-EIO, result(pread(self->fd, buf, 1, bad_at + 4095)));
	EXPECT_EQ(4096, pread(self->fd, buf, 4096, bad_at + 4096));
	EXPECT_EQ(bad_at + 4096 + 1, *(size_t *)buf);
	offset = bad_at;
	EXPECT_EQ(-EIO, result(splice(self->fd, &offset, pipe_fd[1], NULL, 4096, 0)));
	ASSERT_EQ(4096, read(pipe_fd[0], buf, 4096));
	ASSERT_EQ(0, zero_range(self->fd, HUGE, HUGE));
	EXPECT_TRUE(all_zero(self->p + HUGE, HUGE));
	EXPECT_NE(pfn, pfn_of(bad));

	/* It is still what it was, a part of a huge page, and not free. */
	words_read("/proc/kpageflags", pfn, &flags, 1);
	EXPECT_TRUE(flags & HWPOISON);
	EXPECT_TRUE(flags & COMPOUND_TAIL);
	fd = alloc(self->dev, 32 * SIZE);
	ASSERT_LE(0, fd);
	p = map(fd, 32 * SIZE);
	ASSERT_NE(MAP_FAILED, p);
	for (size_t page = 0; page < 32 * SIZE; page += 4096)
		(void)*(volatile char *)(p + page);
	EXPECT_EQ(0, count_broken(p, 32 * SIZE / HUGE));
	munmap(p, 32 * SIZE);
	close(fd);
	close(pipe_fd[0]);
	close(pipe_fd[1]);
}

/* What is about to break is moved away from, and nobody notices. */
TEST_F(migrate, soft_offline)
{
	size_t bad = 2 * HUGE + 4096;
	uint64_t pfn = pfn_of(self->p + bad);

	if (madvise(self->p + bad, 4096, MADV_SOFT_OFFLINE))
		SKIP(return, "memory cannot be taken offline softly: %s", strerror(errno));
	EXPECT_EQ(SIZE, wrong(self->p));
	EXPECT_NE(pfn, pfn_of(self->p + bad));
	EXPECT_TRUE(is_broken(pfn));
}

TEST_HARNESS_MAIN
