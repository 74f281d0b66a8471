// SPDX-License-Identifier: GPL-2.0-only
/* A region as a file: read, write, splice and what else takes a descriptor. */
#include <sys/resource.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/uio.h>

#include "ring.h"
#include "util.h"

#define SIZE	(3 * HUGE)

FIXTURE(file) {
	int dev;
	int fd;
	unsigned char *p;
	unsigned char *buf;
};

FIXTURE_SETUP(file)
{
	self->dev = device_open();
	ASSERT_LE(0, self->dev);
	self->fd = alloc(self->dev, SIZE);
	ASSERT_LE(0, self->fd);
	self->p = map(self->fd, SIZE);
	ASSERT_NE(MAP_FAILED, (char *)self->p);
	self->buf = malloc(SIZE + 1);
	for (size_t i = 0; i <= SIZE; i++)
		self->buf[i] = i % 251;
}

FIXTURE_TEARDOWN(file)
{
	struct shmdev_query q;

	free(self->buf);
	munmap(self->p, SIZE);
	close(self->fd);
	EXPECT_EQ(0, query(self->dev, &q));
	EXPECT_EQ(0, q.regions);
	close(self->dev);
}

/* Offsets and lengths around all borders: of pages, huge pages, the region. */
TEST_F(file, read_and_write_anywhere)
{
	static const size_t lens[] = { 1, 7, 4095, 4096, 4097, 65536, HUGE - 1, HUGE, HUGE + 1 };
	static const size_t offsets[] = { 0, 1, 4095, 4096, HUGE - 4096, HUGE - 1, HUGE,
					  2 * HUGE - 3, SIZE - HUGE - 1, SIZE - 1 };
	unsigned char *out = malloc(SIZE);

	for (size_t i = 0; i < sizeof(lens) / sizeof(*lens); i++)
		for (size_t j = 0; j < sizeof(offsets) / sizeof(*offsets); j++) {
			size_t offset = offsets[j];
			size_t len = lens[i] < SIZE - offset ? lens[i] : SIZE - offset;

			memset(self->p, 0xff, SIZE);
			ASSERT_EQ(len, pwrite(self->fd, self->buf, lens[i], offset));
			ASSERT_EQ(0, memcmp(self->p + offset, self->buf, len));
			if (offset)
				ASSERT_EQ(0xff, self->p[offset - 1]);
			if (offset + len < SIZE)
				ASSERT_EQ(0xff, self->p[offset + len]);
			memset(out, 0, len);
			ASSERT_EQ(len, pread(self->fd, out, lens[i], offset));
			ASSERT_EQ(0, memcmp(out, self->buf, len));
		}
	free(out);
}

TEST_F(file, vectors)
{
	char a[3] = "abc", b[4096], c[5] = "vwxyz";
	struct iovec iov[] = { { a, 3 }, { NULL, 0 }, { b, sizeof(b) }, { c, 5 } };
	char out[3 + 4096 + 5];
	struct iovec all = { out, sizeof(out) };

	memset(b, 'b', sizeof(b));
	ASSERT_EQ(sizeof(out), pwritev(self->fd, iov, 4, HUGE - 100));
	EXPECT_EQ(0, memcmp(self->p + HUGE - 100, "abcbb", 5));
	EXPECT_EQ(0, memcmp(self->p + HUGE - 100 + 3 + 4096, "vwxyz", 5));
	ASSERT_EQ(sizeof(out), preadv(self->fd, &all, 1, HUGE - 100));
	EXPECT_EQ(0, memcmp(out, self->p + HUGE - 100, sizeof(out)));
	ASSERT_EQ(HUGE, lseek(self->fd, HUGE, SEEK_SET));
	ASSERT_EQ(sizeof(out), writev(self->fd, iov, 4));
	EXPECT_EQ(HUGE + sizeof(out), lseek(self->fd, 0, SEEK_CUR));
	ASSERT_EQ(0, lseek(self->fd, 0, SEEK_SET));
	ASSERT_EQ(sizeof(out), readv(self->fd, &all, 1));
}

TEST_F(file, end)
{
	char c = 1;

	EXPECT_EQ(0, pread(self->fd, &c, 1, SIZE));
	EXPECT_EQ(0, pread(self->fd, &c, 1, SIZE + HUGE));
	EXPECT_EQ(-ENOSPC, result(pwrite(self->fd, &c, 1, SIZE)));
	EXPECT_EQ(-ENOSPC, result(pwrite(self->fd, &c, 1, SIZE + HUGE)));
	EXPECT_EQ(-EINVAL, result(pwrite(self->fd, &c, 1, -1)));
	EXPECT_EQ(10, pwrite(self->fd, self->buf, 11, SIZE - 10));
	EXPECT_EQ(0, pwrite(self->fd, &c, 0, SIZE));
	EXPECT_EQ(SIZE, lseek(self->fd, 0, SEEK_END));
	EXPECT_EQ(0, lseek(self->fd, 0, SEEK_DATA));
	EXPECT_EQ(SIZE, lseek(self->fd, 0, SEEK_HOLE));
	EXPECT_EQ(-ENXIO, result(lseek(self->fd, SIZE, SEEK_DATA)));
	ASSERT_EQ(0, fcntl(self->fd, F_SETFL, O_APPEND));
	EXPECT_EQ(-ENOSPC, result(write(self->fd, &c, 1)));
}

/*
 * io_uring goes on with what is left of a request after a short write: the iterator must
 * still have what lies beyond the end, and the answer is what was written.
 */
TEST_F(file, end_by_io_uring)
{
	struct iovec iov[3] = {
		{ .iov_base = self->buf, .iov_len = 7 },
		{ .iov_base = self->buf + 7, .iov_len = 5 },
		{ .iov_base = self->buf + 12, .iov_len = HUGE },
	};
	struct io_uring_sqe write = {
		.opcode = IORING_OP_WRITE, .fd = self->fd, .off = SIZE - 10,
		.addr = (uint64_t)self->buf, .len = HUGE,
	};
	struct io_uring_sqe writev = {
		.opcode = IORING_OP_WRITEV, .fd = self->fd, .off = SIZE - 10,
		.addr = (uint64_t)iov, .len = 3,
	};
	struct ring ring;
	int ret;

	ret = ring_open(&ring);
	if (ret)
		SKIP(return, "no io_uring here: %s", strerror(-ret));
	for (int flags = 0; flags <= IOSQE_ASYNC; flags += IOSQE_ASYNC) {
		write.flags = writev.flags = flags;
		memset(self->p + SIZE - 10, 0xff, 10);
		EXPECT_EQ(10, ring_do(&ring, &write));
		EXPECT_EQ(0, memcmp(self->p + SIZE - 10, self->buf, 10));
		memset(self->p + SIZE - 10, 0xff, 10);
		EXPECT_EQ(10, ring_do(&ring, &writev));
		EXPECT_EQ(0, memcmp(self->p + SIZE - 10, self->buf, 10));
	}
	ring_close(&ring);
	EXPECT_EQ(10, pwritev(self->fd, iov, 3, SIZE - 10));
	EXPECT_EQ(0, memcmp(self->p + SIZE - 10, self->buf, 10));
}

TEST_F(file, bad_buffers)
{
	char *hole = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	ASSERT_NE(MAP_FAILED, hole);
	munmap(hole + 4096, 4096);
	EXPECT_EQ(-EFAULT, result(pwrite(self->fd, hole + 4096, 1, 0)));
	EXPECT_EQ(-EFAULT, result(pread(self->fd, hole + 4096, 1, 0)));
	memset(hole, 7, 4096);
	/* As far as it goes. */
	EXPECT_EQ(100, pwrite(self->fd, hole + 3996, 200, HUGE - 50));
	EXPECT_EQ(7, self->p[HUGE + 49]);
	EXPECT_EQ(0, self->p[HUGE + 50]);
	munmap(hole, 4096);
}

/* Out of a region into itself, by a mapping of it: the page that is copied to may fault. */
TEST_F(file, from_itself)
{
	unsigned char *q = map(self->fd, SIZE);

	ASSERT_NE(MAP_FAILED, (char *)q);
	memcpy(self->p, self->buf, SIZE);
	ASSERT_EQ(0, zero_range(self->fd, HUGE, HUGE));
	ASSERT_EQ(HUGE, pwrite(self->fd, q + 1, HUGE, HUGE + 1));
	EXPECT_EQ(1, self->p[HUGE + 1]);
	ASSERT_EQ(HUGE, pread(self->fd, q + 2 * HUGE, HUGE, 0));
	EXPECT_EQ(0, memcmp(self->p + 2 * HUGE, self->buf, HUGE));
	munmap(q, SIZE);
}

TEST_F(file, splice)
{
	loff_t in = HUGE - 5000, out = 12345;
	unsigned char *got = malloc(65536);
	int pipe_fd[2];
	ssize_t n, done = 0;

	memcpy(self->p, self->buf, SIZE);
	ASSERT_EQ(0, pipe(pipe_fd));
	n = splice(self->fd, &in, pipe_fd[1], NULL, 65536, 0);
	ASSERT_LT(0, n);
	EXPECT_EQ(HUGE - 5000 + n, in);
	while (done < n) {
		ssize_t m = read(pipe_fd[0], got + done, n - done);

		ASSERT_LT(0, m);
		done += m;
	}
	EXPECT_EQ(0, memcmp(got, self->buf + HUGE - 5000, n));

	memset(got, 0x77, 65536);
	ASSERT_EQ(60000, write(pipe_fd[1], got, 60000));
	for (done = 0; done < 60000; done += n) {
		n = splice(pipe_fd[0], NULL, self->fd, &out, 60000 - done, 0);
		ASSERT_LT(0, n);
	}
	EXPECT_EQ(0, memcmp(self->p + 12345, got, 60000));
	EXPECT_EQ(self->buf[12344], self->p[12344]);
	EXPECT_EQ(self->buf[12345 + 60000], self->p[12345 + 60000]);
	close(pipe_fd[0]);
	close(pipe_fd[1]);
	free(got);
}

TEST_F(file, sendfile)
{
	unsigned char *got = malloc(SIZE);
	off_t in = 1;
	int sv[2];

	memcpy(self->p, self->buf, SIZE);
	ASSERT_EQ(0, socketpair(AF_UNIX, SOCK_STREAM, 0, sv));
	if (!fork()) {
		size_t done = 0;

		close(sv[0]);
		while (done < SIZE - 1) {
			ssize_t n = sendfile(sv[1], self->fd, &in, SIZE - 1 - done);

			if (n <= 0)
				_exit(1);
			done += n;
		}
		_exit(0);
	}
	close(sv[1]);
	ASSERT_EQ(SIZE - 1, recv(sv[0], got, SIZE - 1, MSG_WAITALL));
	EXPECT_EQ(0, memcmp(got, self->buf + 1, SIZE - 1));
	close(sv[0]);
	wait(NULL);
	free(got);
}

/* Between regions, as between files of one file system; beyond it the kernel says EXDEV. */
TEST_F(file, copy_file_range)
{
	int other = alloc(self->dev, SIZE);
	int tmp = memfd_create("elsewhere", MFD_CLOEXEC);
	loff_t in = 100, out = HUGE + 1;
	unsigned char *q = map(other, SIZE);
	ssize_t n;

	ASSERT_LE(0, other);
	ASSERT_NE(MAP_FAILED, (char *)q);
	memcpy(self->p, self->buf, SIZE);
	while (in < (loff_t)HUGE + 100) {
		n = copy_file_range(self->fd, &in, other, &out, HUGE + 100 - in, 0);
		ASSERT_LT(0, n);
	}
	EXPECT_EQ(0, memcmp(q + HUGE + 1, self->buf + 100, HUGE));
	EXPECT_EQ(0, q[HUGE]);
	ASSERT_LE(0, tmp);
	EXPECT_EQ(-EXDEV, result(copy_file_range(self->fd, NULL, tmp, NULL, 10, 0)));
	EXPECT_EQ(-EXDEV, result(copy_file_range(tmp, NULL, self->fd, NULL, 10, 0)));
	/* What works there. */
	ASSERT_EQ(0, lseek(self->fd, 0, SEEK_SET));
	EXPECT_EQ(10, sendfile(tmp, self->fd, NULL, 10));
	ASSERT_EQ(0, lseek(tmp, 0, SEEK_SET));
	EXPECT_EQ(10, sendfile(self->fd, tmp, NULL, 10));
	munmap(q, SIZE);
	close(other);
	close(tmp);
}

/* The kernel's own copy, socket to region, without a pipe of ours. */
TEST_F(file, received_into)
{
	int sv[2];

	ASSERT_EQ(0, socketpair(AF_UNIX, SOCK_STREAM, 0, sv));
	ASSERT_EQ(1000, send(sv[0], self->buf, 1000, 0));
	ASSERT_EQ(1000, recv(sv[1], self->p + HUGE - 500, 1000, MSG_WAITALL));
	EXPECT_EQ(0, memcmp(self->p + HUGE - 500, self->buf, 1000));
	close(sv[0]);
	close(sv[1]);
}

TEST_F(file, fdinfo)
{
	char path[64], text[1024] = {};
	struct shmdev_stat stat;
	struct shmdev_export export;
	char expected[256];
	int info;

	ASSERT_EQ(0, region_export(self->fd, &export));
	ASSERT_EQ(0, region_seal(self->fd, SHMDEV_SEAL_FUTURE_WRITE));
	ASSERT_EQ(0, region_stat(self->fd, &stat));
	EXPECT_EQ(SIZE, stat.size);
	EXPECT_GE(SIZE, stat.huge_bytes);
	EXPECT_EQ(SHMDEV_SEAL_FUTURE_WRITE, stat.seals);
	EXPECT_EQ(SHMDEV_STAT_EXPORTED, stat.flags);
	EXPECT_LE(0, stat.node);
	snprintf(path, sizeof(path), "/proc/self/fdinfo/%d", self->fd);
	info = open(path, O_RDONLY);
	ASSERT_LE(0, info);
	ASSERT_LT(0, read(info, text, sizeof(text) - 1));
	close(info);
	snprintf(expected, sizeof(expected),
		 "shmdev-size:\t%llu\nshmdev-huge:\t%llu\nshmdev-node:\t%d\n"
		 "shmdev-seals:\t0x%x\nshmdev-exported:\t1\n",
		 stat.size, stat.huge_bytes, stat.node, stat.seals);
	EXPECT_NE(NULL, strstr(text, expected));
	for (char *line = strtok(text, "\n"); line; line = strtok(NULL, "\n"))
		TH_LOG("%s", line);
}

TEST_F(file, stat_reserved)
{
	struct shmdev_stat stat;

	for (size_t i = 0; i < sizeof(stat.reserved); i++) {
		memset(&stat, 0, sizeof(stat));
		((char *)stat.reserved)[i] = 1;
		EXPECT_EQ(-EINVAL, result(ioctl(self->fd, SHMDEV_IOC_STAT, &stat)));
		EXPECT_EQ(0, stat.size);
	}
}

/* A core has none of it. */
TEST_F(file, not_in_core_dumps)
{
	char pattern[256] = {}, path[64] = "";
	struct rlimit limit = { RLIM_INFINITY, RLIM_INFINITY };
	int fd = open("/proc/sys/kernel/core_pattern", O_RDWR | O_CLOEXEC);
	struct stat st;
	char dir[] = "/tmp/shmdev.XXXXXX";

	ASSERT_LE(0, fd);
	ASSERT_LT(0, read(fd, pattern, sizeof(pattern) - 1));
	ASSERT_NE(NULL, mkdtemp(dir));
	snprintf(path, sizeof(path), "%s/core", dir);
	ASSERT_EQ(strlen(path), pwrite(fd, path, strlen(path), 0));
	memset(self->p, 0x5a, SIZE);
	EXPECT_EQ(128 + SIGABRT, IN_CHILD({
		setrlimit(RLIMIT_CORE, &limit);
		free(self->buf);
		abort();
	}));
	EXPECT_EQ(strlen(pattern), pwrite(fd, pattern, strlen(pattern), 0));
	close(fd);
	ASSERT_EQ(0, stat(path, &st));
	EXPECT_LT(0, st.st_size);
	EXPECT_GT(SIZE, st.st_size);
	unlink(path);
	rmdir(dir);
}

TEST_HARNESS_MAIN
