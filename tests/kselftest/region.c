// SPDX-License-Identifier: GPL-2.0-only
/* A region as a file and as memory. */

#include <sys/inotify.h>
#include <sys/statfs.h>
#include <sys/uio.h>
#include <sys/utsname.h>

#include "ring.h"
#include "util.h"

#define SIZE	(8 * HUGE)

FIXTURE(region) {
	int dev;
	int fd;
	char *p;
};

FIXTURE_SETUP(region)
{
	self->dev = device_open();
	ASSERT_LE(0, self->dev);
	self->fd = alloc_flags(self->dev, SIZE, SHMDEV_ALLOC_STRICT);
	ASSERT_LE(0, self->fd);
	self->p = map(self->fd, SIZE);
	ASSERT_NE(MAP_FAILED, self->p);
}

FIXTURE_TEARDOWN(region)
{
	struct shmdev_query q;

	munmap(self->p, SIZE);
	close(self->fd);
	EXPECT_EQ(0, query(self->dev, &q));
	EXPECT_EQ(0, q.regions);
	close(self->dev);
}

/* Bytes of a field of the mapping at @p in /proc/self/smaps, -1 if it is not there. */
static long smaps(const void *p, const char *field)
{
	FILE *file = fopen("/proc/self/smaps", "re");
	unsigned long start, end;
	bool here = false;
	char line[512];
	long kb = -1;

	while (file && fgets(line, sizeof(line), file)) {
		if (sscanf(line, "%lx-%lx ", &start, &end) == 2)
			here = start == (unsigned long)p;
		else if (here && !strncmp(line, field, strlen(field)))
			sscanf(line + strlen(field), ": %ld kB", &kb);
	}
	if (file)
		fclose(file);
	return kb < 0 ? -1 : kb * 1024;
}

/* The same, but the line of flags. */
static bool smaps_has_flag(const void *p, const char *flag)
{
	FILE *file = fopen("/proc/self/smaps", "re");
	unsigned long start, end;
	bool here = false, has = false;
	char line[512];

	while (file && fgets(line, sizeof(line), file)) {
		if (sscanf(line, "%lx-%lx ", &start, &end) == 2)
			here = start == (unsigned long)p;
		else if (here && !strncmp(line, "VmFlags:", 8))
			has = strstr(line, flag);
	}
	if (file)
		fclose(file);
	return has;
}

TEST_F(region, pmd_mapped)
{
	for (size_t i = 0; i < SIZE; i += HUGE)
		self->p[i] = 1;
	EXPECT_EQ(SIZE, smaps(self->p, "FilePmdMapped"));
	EXPECT_EQ(SIZE, smaps(self->p, "Rss"));
	TH_LOG("FilePmdMapped: %ld kB of %lu kB", smaps(self->p, "FilePmdMapped") / 1024,
	       SIZE / 1024);
}

/* By reading alone, and by MAP_POPULATE without a touch. */
TEST_F(region, pmd_mapped_by_read)
{
	volatile char *p = self->p;
	char *q;

	for (size_t i = 0; i < SIZE; i += HUGE)
		EXPECT_EQ(0, p[i]);
	EXPECT_EQ(SIZE, smaps(self->p, "FilePmdMapped"));

	q = mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, self->fd, 0);
	ASSERT_NE(MAP_FAILED, q);
	EXPECT_EQ(SIZE, smaps(q, "FilePmdMapped"));
	munmap(q, SIZE);
}

TEST_F(region, aligned_address)
{
	EXPECT_EQ(0, (unsigned long)self->p % HUGE);
}

TEST_F(region, identity)
{
	struct stat a, b, c;
	struct statfs fs;
	int other = alloc(self->dev, HUGE);

	ASSERT_LE(0, other);
	ASSERT_EQ(0, fstat(self->fd, &a));
	ASSERT_EQ(0, fstat(self->fd, &b));
	ASSERT_EQ(0, fstat(other, &c));
	EXPECT_EQ(a.st_ino, b.st_ino);
	EXPECT_NE(a.st_ino, c.st_ino);
	EXPECT_EQ(a.st_dev, c.st_dev);
	EXPECT_EQ(S_IFREG | 0600, a.st_mode);
	EXPECT_EQ(geteuid(), a.st_uid);
	EXPECT_EQ(0, a.st_nlink);
	ASSERT_EQ(0, fstatfs(self->fd, &fs));
	EXPECT_EQ(SHMDEV_MAGIC, fs.f_type);
	close(other);
}

TEST_F(region, size_is_fixed)
{
	struct stat st;

	EXPECT_EQ(-EPERM, result(ftruncate(self->fd, 0)));
	EXPECT_EQ(-EPERM, result(ftruncate(self->fd, SIZE)));
	EXPECT_EQ(-EPERM, result(ftruncate(self->fd, 2 * SIZE)));
	EXPECT_EQ(-EOPNOTSUPP, result(fallocate(self->fd, 0, 0, 2 * SIZE)));
	EXPECT_EQ(-EOPNOTSUPP, result(fallocate(self->fd, FALLOC_FL_PUNCH_HOLE |
						FALLOC_FL_KEEP_SIZE, 0, HUGE)));
	EXPECT_NE(0, madvise(self->p, HUGE, MADV_REMOVE));
	ASSERT_EQ(0, fstat(self->fd, &st));
	EXPECT_EQ(SIZE, st.st_size);
	self->p[SIZE - 1] = 1;
}

TEST_F(region, file_calls)
{
	EXPECT_EQ(SIZE, lseek(self->fd, 0, SEEK_END));
	EXPECT_EQ(4096, lseek(self->fd, 4096, SEEK_SET));
	EXPECT_EQ(-EINVAL, result(lseek(self->fd, -1, SEEK_SET)));
	EXPECT_EQ(0, fsync(self->fd));
	EXPECT_EQ(0, fdatasync(self->fd));
	EXPECT_EQ(0, msync(self->p, SIZE, MS_SYNC));
}

TEST_F(region, private_refused)
{
	EXPECT_EQ(MAP_FAILED, mmap(NULL, HUGE, PROT_READ, MAP_PRIVATE, self->fd, 0));
	EXPECT_EQ(EINVAL, errno);
	EXPECT_EQ(MAP_FAILED, mmap(NULL, HUGE, PROT_READ | PROT_WRITE, MAP_PRIVATE, self->fd, 0));
	EXPECT_EQ(EINVAL, errno);
}

TEST_F(region, exec_refused)
{
	EXPECT_EQ(MAP_FAILED, mmap(NULL, HUGE, PROT_READ | PROT_EXEC, MAP_SHARED, self->fd, 0));
	EXPECT_EQ(EPERM, errno);
	EXPECT_EQ(-EACCES, result(mprotect(self->p, HUGE, PROT_READ | PROT_EXEC)));
}

TEST_F(region, beyond_end_refused)
{
	static const struct { size_t len; off_t off; } bad[] = {
		{ SIZE + 4096, 0 }, { 4096, SIZE }, { SIZE, 4096 }, { 2 * HUGE, SIZE - HUGE },
		{ 4096, (off_t)1 << 62 }, { 4096, INT64_MAX & ~4095L },
	};

	for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++)
		EXPECT_EQ(MAP_FAILED, mmap(NULL, bad[i].len, PROT_READ, MAP_SHARED, self->fd,
					   bad[i].off));
	EXPECT_EQ(MAP_FAILED, mremap(self->p, SIZE, 2 * SIZE, MREMAP_MAYMOVE));
}

TEST_F(region, parts)
{
	char *q = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, self->fd, HUGE + 8192);

	ASSERT_NE(MAP_FAILED, q);
	q[0] = 7;
	EXPECT_EQ(7, self->p[HUGE + 8192]);
	munmap(q, 4096);
	/* A hole in a PMD mapping splits it and loses nothing. */
	self->p[3 * HUGE] = 8;
	EXPECT_EQ(0, munmap(self->p + 3 * HUGE + 4096, 4096));
	EXPECT_EQ(8, self->p[3 * HUGE]);
	EXPECT_EQ(self->p + 3 * HUGE + 4096,
		  mmap(self->p + 3 * HUGE + 4096, 4096, PROT_READ | PROT_WRITE,
		       MAP_SHARED | MAP_FIXED, self->fd, 3 * HUGE + 4096));
}

/* A descriptor without write permission gives no writable mapping, now or later. */
TEST_F(region, read_only_descriptor)
{
	char path[64];
	char *q;
	int ro;

	snprintf(path, sizeof(path), "/proc/self/fd/%d", self->fd);
	ro = result(open(path, O_RDONLY | O_CLOEXEC));
	ASSERT_LE(0, ro);
	EXPECT_EQ(MAP_FAILED, map(ro, HUGE));
	EXPECT_EQ(EACCES, errno);
	q = mmap(NULL, HUGE, PROT_READ, MAP_SHARED, ro, 0);
	ASSERT_NE(MAP_FAILED, q);
	EXPECT_EQ(-EACCES, result(mprotect(q, HUGE, PROT_READ | PROT_WRITE)));
	EXPECT_EQ(MAP_FAILED, mmap(NULL, HUGE, PROT_READ, MAP_PRIVATE, ro, 0));
	self->p[5] = 5;
	EXPECT_EQ(5, q[5]);
	munmap(q, HUGE);
	close(ro);
	EXPECT_EQ(-EPERM, result(open(path, O_RDWR | O_TRUNC)));
}

/* The owner's mode decides who may reopen. */
TEST_F(region, reopened_by_others)
{
	char path[64];

	snprintf(path, sizeof(path), "/proc/%d/fd/%d", getpid(), self->fd);
	ASSERT_EQ(0, fchown(self->fd, 1234, 1234));
	ASSERT_EQ(0, fchmod(self->fd, 0400));
	EXPECT_EQ(EACCES, IN_CHILD({
		/* Through the descriptor it inherited: another's /proc is closed anyway. */
		snprintf(path, sizeof(path), "/proc/self/fd/%d", self->fd);
		if (setgid(65534) || setuid(65534))
			_exit(1);
		_exit(open(path, O_RDONLY) < 0 ? errno : 0);
	}));
}

TEST_F(region, shared_with_child)
{
	self->p[0] = 1;
	EXPECT_EQ(0, IN_CHILD({
		if (self->p[0] != 1)
			_exit(1);
		self->p[HUGE] = 2;
		munmap(self->p, SIZE);
	}));
	EXPECT_EQ(2, self->p[HUGE]);
}

/* A mapping alone keeps it. */
TEST_F(region, mapping_outlives_descriptor)
{
	struct shmdev_query q;
	int fd = alloc(self->dev, HUGE);
	char *p;

	ASSERT_LE(0, fd);
	p = map(fd, HUGE);
	ASSERT_NE(MAP_FAILED, p);
	close(fd);
	memset(p, 3, HUGE);
	ASSERT_EQ(0, query(self->dev, &q));
	EXPECT_EQ(2, q.regions);
	munmap(p, HUGE);
	ASSERT_EQ(0, query(self->dev, &q));
	EXPECT_EQ(1, q.regions);
}

/* Who watches a region does not keep it. */
TEST_F(region, watch_does_not_keep)
{
	struct shmdev_query q;
	char path[64];
	int fd = alloc(self->dev, HUGE);
	int watch = inotify_init1(IN_CLOEXEC);

	ASSERT_LE(0, fd);
	ASSERT_LE(0, watch);
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	ASSERT_LE(0, inotify_add_watch(watch, path, IN_ALL_EVENTS));
	close(fd);
	ASSERT_EQ(0, query(self->dev, &q));
	EXPECT_EQ(1, q.regions);
	close(watch);
}

/* Whatever the system does to get memory back, it does not get this. */
TEST_F(region, nothing_reclaims)
{
	for (size_t i = 0; i < SIZE; i += 4096)
		*(size_t *)(self->p + i) = i + 1;
	ASSERT_EQ(0, write_file("/proc/sys/vm/drop_caches", "3"));
	EXPECT_EQ(0, madvise(self->p, SIZE, MADV_PAGEOUT));
	EXPECT_EQ(0, madvise(self->p, SIZE, MADV_COLD));
	EXPECT_EQ(0, madvise(self->p, SIZE, MADV_DONTNEED));
	EXPECT_EQ(0, posix_fadvise(self->fd, 0, 0, POSIX_FADV_DONTNEED));
	ASSERT_EQ(0, write_file("/proc/sys/vm/drop_caches", "3"));
	for (size_t i = 0; i < SIZE; i += 4096)
		ASSERT_EQ(i + 1, *(size_t *)(self->p + i));
	EXPECT_EQ(SIZE, smaps(self->p, "FilePmdMapped"));
}

TEST_F(region, not_dumped_not_expanded)
{
	EXPECT_TRUE(smaps_has_flag(self->p, " dd"));
	EXPECT_TRUE(smaps_has_flag(self->p, " de"));
	EXPECT_TRUE(smaps_has_flag(self->p, " sh"));
}

/* Pages can be pinned: a pipe holds them and they outlive the mapping. */
TEST_F(region, pinned_by_vmsplice)
{
	struct iovec iov = { .iov_len = 8192 };
	char buf[8192];
	char *q = map(self->fd, SIZE);
	int pipe_fd[2];

	ASSERT_NE(MAP_FAILED, q);
	ASSERT_EQ(0, pipe(pipe_fd));
	memset(q + HUGE - 4096, 9, 8192);
	iov.iov_base = q + HUGE - 4096;
	ASSERT_EQ(8192, vmsplice(pipe_fd[1], &iov, 1, 0));
	munmap(q, SIZE);
	ASSERT_EQ(8192, read(pipe_fd[0], buf, sizeof(buf)));
	EXPECT_EQ(9, buf[0]);
	EXPECT_EQ(9, buf[8191]);
	close(pipe_fd[0]);
	close(pipe_fd[1]);
}

TEST_F(region, long_term_pin_by_io_uring)
{
	int ret, major = 0, minor = 0;
	struct utsname uts;
	struct ring ring;

	ret = ring_open(&ring);
	if (ret)
		SKIP(return, "no io_uring here: %s", strerror(-ret));
	ret = ring_pin(&ring, self->p, SIZE);
	/* Before 6.5 io_uring takes no file but shmem's and hugetlbfs's. */
	ASSERT_EQ(0, uname(&uts));
	ASSERT_EQ(2, sscanf(uts.release, "%d.%d", &major, &minor));
	EXPECT_EQ(major * 1000 + minor < 6005 ? -EOPNOTSUPP : 0, ret);
	ring_close(&ring);
}

TEST_HARNESS_MAIN
