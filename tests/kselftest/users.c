// SPDX-License-Identifier: GPL-2.0-only
/* Two users: one can do nothing to the other's regions that he may not, by no way. */
#include <dirent.h>

#include "util.h"

#define OWNER	1000
#define OTHER	1001

FIXTURE(users) {
	int dev;
	int to_owner[2];
	int from_owner[2];
	pid_t owner;
	struct shmdev_export export;
};

/* The owner keeps a region with something in it, of mode 0600, until told to look again. */
static void owner_run(int dev, int in, int out)
{
	struct shmdev_export export;
	char c, *p;
	int fd;

	if (setgroups(0, NULL) || setgid(OWNER) || setuid(OWNER))
		_exit(1);
	fd = alloc(dev, 2 * HUGE);
	p = map(fd, 2 * HUGE);
	if (p == MAP_FAILED)
		_exit(2);
	memset(p, 0x5c, 2 * HUGE);
	if (region_export(fd, &export) || write(out, &export, sizeof(export)) != sizeof(export) ||
	    write(out, &fd, sizeof(fd)) != sizeof(fd) || read(in, &c, 1) != 1)
		_exit(3);
	for (size_t i = 0; i < 2 * HUGE; i++)
		if (p[i] != 0x5c)
			_exit(4);
	/* And is still the one who may write. */
	_exit(pwrite(fd, "x", 1, 0) == 1 ? 0 : 5);
}

FIXTURE_SETUP(users)
{
	self->dev = device_open();
	ASSERT_LE(0, self->dev);
	ASSERT_EQ(0, pipe(self->to_owner));
	ASSERT_EQ(0, pipe(self->from_owner));
	self->owner = fork();
	ASSERT_LE(0, self->owner);
	if (!self->owner)
		owner_run(self->dev, self->to_owner[0], self->from_owner[1]);
	ASSERT_EQ(sizeof(self->export),
		  read(self->from_owner[0], &self->export, sizeof(self->export)));
}

FIXTURE_TEARDOWN(users)
{
	struct shmdev_query q;
	int status;

	ASSERT_EQ(1, write(self->to_owner[1], "", 1));
	ASSERT_EQ(self->owner, waitpid(self->owner, &status, 0));
	EXPECT_EQ(0, status);
	for (int i = 0; i < 2; i++) {
		close(self->to_owner[i]);
		close(self->from_owner[i]);
	}
	EXPECT_EQ(0, query(self->dev, &q));
	EXPECT_EQ(0, q.regions);
	close(self->dev);
}

TEST_F(users, token_is_not_enough)
{
	EXPECT_EQ(0, AS_USER(OTHER, {
		if (attach(self->dev, &self->export) != -EACCES)
			_exit(1);
		if (attach_flags(self->dev, &self->export, SHMDEV_ATTACH_RDONLY) != -EACCES)
			_exit(2);
	}));
}

TEST_F(users, no_way_by_proc)
{
	char path[64];
	int fd;

	ASSERT_EQ(sizeof(fd), read(self->from_owner[0], &fd, sizeof(fd)));
	snprintf(path, sizeof(path), "/proc/%d/fd/%d", self->owner, fd);
	EXPECT_EQ(0, AS_USER(OTHER, {
		if (open(path, O_RDWR) >= 0 || errno != EACCES)
			_exit(1);
		if (open(path, O_RDONLY) >= 0 || errno != EACCES)
			_exit(2);
	}));
}

/* A descriptor that was let out for reading does not become one for writing. */
TEST_F(users, read_only_stays)
{
	int ro = attach_flags(self->dev, &self->export, SHMDEV_ATTACH_RDONLY);

	ASSERT_LE(0, ro);
	EXPECT_EQ(0, AS_USER(OTHER, {
		char *p = map_rdonly(ro, HUGE);
		struct shmdev_export again;

		if (p == MAP_FAILED || p[0] != 0x5c)
			_exit(1);
		if (!mprotect(p, HUGE, PROT_READ | PROT_WRITE))
			_exit(2);
		if (map(ro, HUGE) != MAP_FAILED)
			_exit(3);
		if (pwrite(ro, "x", 1, 0) != -1 || errno != EBADF)
			_exit(4);
		if (zero_range(ro, 0, HUGE) != -EBADF)
			_exit(5);
		if (region_seal(ro, SHMDEV_SEAL_WRITE) != -EPERM ||
		    region_seal(ro, SHMDEV_SEAL_FUTURE_WRITE) != -EPERM)
			_exit(6);
		if (reopen(ro, O_RDWR) != -EACCES || reopen(ro, O_RDONLY) != -EACCES)
			_exit(7);
		/* A token may be asked for; it opens nothing that was closed. */
		if (region_export(ro, &again) || attach(self->dev, &again) != -EACCES)
			_exit(8);
		if (!fchmod(ro, 0666) || errno != EPERM)
			_exit(9);
		if (!fchown(ro, OTHER, OTHER) || errno != EPERM)
			_exit(10);
		if (!ftruncate(ro, 0))
			_exit(11);
		if (!madvise(p, HUGE, MADV_REMOVE))
			_exit(12);
	}));
	close(ro);
}

/* A group that may. */
TEST_F(users, group)
{
	int fd = attach(self->dev, &self->export);

	ASSERT_LE(0, fd);
	ASSERT_EQ(0, fchown(fd, -1, OTHER));
	ASSERT_EQ(0, fchmod(fd, 0640));
	EXPECT_EQ(0, AS_USER(OTHER, {
		if (attach(self->dev, &self->export) != -EACCES)
			_exit(1);
		if (attach_flags(self->dev, &self->export, SHMDEV_ATTACH_RDONLY) < 0)
			_exit(2);
	}));
	close(fd);
}

TEST_HARNESS_MAIN
