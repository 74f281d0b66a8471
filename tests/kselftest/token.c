// SPDX-License-Identifier: GPL-2.0-only
/* EXPORT and ATTACH: a region for whoever has its token and may. */
#include "util.h"

FIXTURE(token) {
	int dev;
	int fd;
	char *p;
	struct shmdev_export export;
};

FIXTURE_SETUP(token)
{
	self->dev = device_open();
	ASSERT_LE(0, self->dev);
	self->fd = alloc(self->dev, 2 * HUGE);
	ASSERT_LE(0, self->fd);
	self->p = map(self->fd, 2 * HUGE);
	ASSERT_NE(MAP_FAILED, self->p);
	ASSERT_EQ(0, region_export(self->fd, &self->export));
}

FIXTURE_TEARDOWN(token)
{
	struct shmdev_query q;

	munmap(self->p, 2 * HUGE);
	close(self->fd);
	EXPECT_EQ(0, query(self->dev, &q));
	EXPECT_EQ(0, q.regions);
	close(self->dev);
}

TEST_F(token, same_region)
{
	int fd = attach(self->dev, &self->export);
	struct stat a, b;
	char *q;

	ASSERT_LE(0, fd);
	EXPECT_EQ(FD_CLOEXEC, fcntl(fd, F_GETFD));
	EXPECT_EQ(O_RDWR, fcntl(fd, F_GETFL) & O_ACCMODE);
	ASSERT_EQ(0, fstat(self->fd, &a));
	ASSERT_EQ(0, fstat(fd, &b));
	EXPECT_EQ(a.st_ino, b.st_ino);
	EXPECT_EQ(a.st_dev, b.st_dev);
	EXPECT_EQ(a.st_size, b.st_size);
	q = map(fd, 2 * HUGE);
	ASSERT_NE(MAP_FAILED, q);
	self->p[HUGE] = 5;
	EXPECT_EQ(5, q[HUGE]);
	q[1] = 6;
	EXPECT_EQ(6, self->p[1]);
	munmap(q, 2 * HUGE);
	close(fd);
}

TEST_F(token, is_constant_and_shown)
{
	struct shmdev_export again;
	struct shmdev_stat stat;
	int other = alloc(self->dev, HUGE);

	ASSERT_LE(0, other);
	ASSERT_EQ(0, region_stat(other, &stat));
	EXPECT_EQ(0, stat.flags);
	ASSERT_EQ(0, region_stat(self->fd, &stat));
	EXPECT_EQ(SHMDEV_STAT_EXPORTED, stat.flags);
	ASSERT_EQ(0, region_export(self->fd, &again));
	EXPECT_EQ(0, memcmp(&again, &self->export, sizeof(again)));
	ASSERT_EQ(0, region_export(other, &again));
	EXPECT_NE(0, memcmp(again.token, self->export.token, 16));
	EXPECT_FALSE(all_zero(again.token, 16));
	close(other);
}

TEST_F(token, read_only)
{
	int fd = attach_flags(self->dev, &self->export, SHMDEV_ATTACH_RDONLY);
	char *q;

	ASSERT_LE(0, fd);
	EXPECT_EQ(O_RDONLY, fcntl(fd, F_GETFL) & O_ACCMODE);
	EXPECT_EQ(MAP_FAILED, map(fd, HUGE));
	EXPECT_EQ(EACCES, errno);
	q = map_rdonly(fd, HUGE);
	ASSERT_NE(MAP_FAILED, q);
	EXPECT_EQ(-EACCES, result(mprotect(q, HUGE, PROT_READ | PROT_WRITE)));
	EXPECT_EQ(-EBADF, result(pwrite(fd, "", 1, 0)));
	EXPECT_EQ(-EBADF, zero_range(fd, 0, HUGE));
	EXPECT_EQ(-EPERM, region_seal(fd, SHMDEV_SEAL_WRITE));
	EXPECT_EQ(-EPERM, region_seal(fd, SHMDEV_SEAL_FUTURE_WRITE));
	munmap(q, HUGE);
	close(fd);
}

/* Every bit of it counts, and nothing but the region's life keeps it. */
TEST_F(token, wrong_one)
{
	struct shmdev_export wrong = {};

	EXPECT_EQ(-ENOENT, attach(self->dev, &wrong));
	memset(wrong.token, 0xff, 16);
	EXPECT_EQ(-ENOENT, attach(self->dev, &wrong));
	for (int bit = 0; bit < 128; bit++) {
		wrong = self->export;
		wrong.token[bit / 8] ^= 1 << bit % 8;
		EXPECT_EQ(-ENOENT, attach(self->dev, &wrong));
	}
}

TEST_F(token, ends_with_the_region)
{
	struct shmdev_export export;
	int fd = alloc(self->dev, HUGE), fd2;
	char *p;

	ASSERT_LE(0, fd);
	ASSERT_EQ(0, region_export(fd, &export));
	p = map(fd, HUGE);
	ASSERT_NE(MAP_FAILED, p);
	/* A mapping is a life, too. */
	close(fd);
	fd2 = attach(self->dev, &export);
	EXPECT_LE(0, fd2);
	close(fd2);
	munmap(p, HUGE);
	EXPECT_EQ(-ENOENT, attach(self->dev, &export));
}

/* The last region of all: the file system of the regions goes, and comes again. */
TEST_F(token, of_the_last_region)
{
	munmap(self->p, 2 * HUGE);
	close(self->fd);
	EXPECT_EQ(-ENOENT, attach(self->dev, &self->export));
	self->fd = alloc(self->dev, HUGE);
	ASSERT_LE(0, self->fd);
	EXPECT_EQ(-ENOENT, attach(self->dev, &self->export));
}

/* By no descriptor that could be used, but by one that can be opened again. */
TEST_F(token, comes_back_by_o_path)
{
	int path, other, fd;
	struct stat a, b;

	ASSERT_EQ(0, fstat(self->fd, &a));
	munmap(self->p, 2 * HUGE);
	path = reopen(self->fd, O_PATH);
	ASSERT_LE(0, path);
	close(self->fd);
	EXPECT_EQ(-ENOENT, attach(self->dev, &self->export));
	other = alloc(self->dev, HUGE);
	ASSERT_LE(0, other);
	self->fd = reopen(path, O_RDWR);
	ASSERT_LE(0, self->fd);
	close(path);
	fd = attach(self->dev, &self->export);
	ASSERT_LE(0, fd);
	ASSERT_EQ(0, fstat(fd, &b));
	EXPECT_EQ(a.st_ino, b.st_ino);
	EXPECT_EQ(a.st_dev, b.st_dev);
	close(fd);
	close(other);
}

TEST_F(token, exporter_may_be_gone)
{
	struct shmdev_export export;
	int pipe_fd[2], fd;
	pid_t pid;
	char *p;

	ASSERT_EQ(0, pipe(pipe_fd));
	pid = fork();
	ASSERT_LE(0, pid);
	if (!pid) {
		int mine = alloc(self->dev, HUGE);
		char *q = map(mine, HUGE);

		q[3] = 33;
		if (region_export(mine, &export))
			_exit(1);
		if (write(pipe_fd[1], &export, sizeof(export)) != sizeof(export))
			_exit(1);
		pause();
	}
	ASSERT_EQ(sizeof(export), read(pipe_fd[0], &export, sizeof(export)));
	fd = attach(self->dev, &export);
	ASSERT_LE(0, fd);
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
	p = map(fd, HUGE);
	ASSERT_NE(MAP_FAILED, p);
	EXPECT_EQ(33, p[3]);
	munmap(p, HUGE);
	close(fd);
	EXPECT_EQ(-ENOENT, attach(self->dev, &export));
	close(pipe_fd[0]);
	close(pipe_fd[1]);
}

/* Owner and mode decide, as for any file; root overrides. */
TEST_F(token, owner_and_mode)
{
	ASSERT_EQ(0, fchown(self->fd, 1000, 1000));
	ASSERT_EQ(0, fchmod(self->fd, 0600));
	EXPECT_EQ(EACCES, AS_USER(1001, _exit(-attach(self->dev, &self->export))));
	EXPECT_EQ(EACCES, AS_USER(1001, _exit(-attach_flags(self->dev, &self->export,
							    SHMDEV_ATTACH_RDONLY))));
	EXPECT_EQ(0, AS_USER(1000, _exit(attach(self->dev, &self->export) < 0)));
	ASSERT_EQ(0, fchmod(self->fd, 0604));
	EXPECT_EQ(EACCES, AS_USER(1001, _exit(-attach(self->dev, &self->export))));
	EXPECT_EQ(0, AS_USER(1001, _exit(attach_flags(self->dev, &self->export,
						      SHMDEV_ATTACH_RDONLY) < 0)));
	ASSERT_EQ(0, fchmod(self->fd, 0400));
	EXPECT_EQ(EACCES, AS_USER(1000, _exit(-attach(self->dev, &self->export))));
	ASSERT_EQ(0, fchmod(self->fd, 0));
	EXPECT_EQ(EACCES, AS_USER(1000, _exit(-attach(self->dev, &self->export))));
	EXPECT_EQ(0, IN_CHILD(_exit(attach(self->dev, &self->export) < 0)));
}

/* Regions that die while others ask for them: there or not there, nothing between. */
TEST_F(token, attach_against_release)
{
	struct shmdev_export *shared = mmap(NULL, 4096, PROT_READ | PROT_WRITE,
					    MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	int status, found = 0;
	pid_t pids[2];

	ASSERT_NE(MAP_FAILED, shared);
	/* So that each is the only one, and the file system of the regions goes with it. */
	munmap(self->p, 2 * HUGE);
	close(self->fd);
	for (int i = 0; i < 2; i++) {
		pids[i] = fork();
		ASSERT_LE(0, pids[i]);
		if (!pids[i]) {
			for (;;) {
				struct shmdev_export export = *shared;
				int fd = attach(self->dev, &export);
				char *p;

				if (fd < 0 && fd != -ENOENT)
					_exit(1);
				if (fd < 0)
					continue;
				p = map(fd, HUGE);
				close(fd);
				if (p == MAP_FAILED || p[0] != 1)
					_exit(2);
				munmap(p, HUGE);
				__atomic_add_fetch((long *)(shared + 8), 1, __ATOMIC_RELAXED);
			}
		}
	}
	for (int i = 0; i < soak(500); i++) {
		int fd = alloc(self->dev, HUGE);

		ASSERT_LE(0, fd);
		ASSERT_EQ(1, pwrite(fd, "\1", 1, 0));
		ASSERT_EQ(0, region_export(fd, shared));
		if (i & 1)
			sched_yield();
		close(fd);
	}
	found = *(long *)(shared + 8);
	for (int i = 0; i < 2; i++) {
		EXPECT_EQ(0, waitpid(pids[i], &status, WNOHANG)) {
			TH_LOG("status %#x", status);
		}
		kill(pids[i], SIGKILL);
		waitpid(pids[i], NULL, 0);
	}
	TH_LOG("attached %d times", found);
	munmap(shared, 4096);
}

TEST_F(token, many)
{
	enum { NR = 300 };
	static struct shmdev_export exports[NR];
	static int fds[NR];
	int fd;

	for (int i = 0; i < NR; i++) {
		fds[i] = alloc(self->dev, HUGE);
		ASSERT_LE(0, fds[i]);
		ASSERT_EQ(0, region_export(fds[i], &exports[i]));
		ASSERT_EQ(sizeof(i), pwrite(fds[i], &i, sizeof(i), 0));
	}
	for (int i = 0, value; i < NR; i++) {
		fd = attach(self->dev, &exports[i]);
		ASSERT_LE(0, fd);
		ASSERT_EQ(sizeof(value), pread(fd, &value, sizeof(value), 0));
		EXPECT_EQ(i, value);
		close(fd);
		close(fds[i]);
		EXPECT_EQ(-ENOENT, attach(self->dev, &exports[i]));
	}
}

TEST_F(token, no_descriptor_left)
{
	EXPECT_EQ(EMFILE, IN_CHILD({
		while (dup(self->dev) >= 0)
			;
		_exit(-attach(self->dev, &self->export));
	}));
}

TEST_HARNESS_MAIN
