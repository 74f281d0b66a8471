// SPDX-License-Identifier: GPL-2.0-only
/* Loading and unloading: refused in use, clean otherwise. */
#include "module.h"
#include "util.h"

FIXTURE(life) {
	int dev;
};

FIXTURE_SETUP(life)
{
	self->dev = device_open();
	ASSERT_LE(0, self->dev);
}

/* Every test ends with the module loaded and idle. */
FIXTURE_TEARDOWN(life)
{
	int dev = device_open();

	EXPECT_LE(0, dev);
	close(dev);
}

TEST_F(life, refused_while_device_open)
{
	EXPECT_EQ(-EWOULDBLOCK, module_remove());
	close(self->dev);
	EXPECT_EQ(0, module_remove());
	EXPECT_EQ(-ENOENT, device_open());
	EXPECT_EQ(0, module_insert(""));
}

TEST_F(life, refused_while_descriptor)
{
	int fd = alloc(self->dev, HUGE);

	ASSERT_LE(0, fd);
	close(self->dev);
	EXPECT_EQ(-EWOULDBLOCK, module_remove());
	close(fd);
	EXPECT_EQ(0, module_remove());
	EXPECT_EQ(0, module_insert(""));
}

TEST_F(life, refused_while_mapped)
{
	int fd = alloc(self->dev, 2 * HUGE);
	char *p;

	ASSERT_LE(0, fd);
	close(self->dev);
	p = map(fd, 2 * HUGE);
	ASSERT_NE(MAP_FAILED, p);
	close(fd);
	memset(p, 1, 2 * HUGE);
	EXPECT_EQ(-EWOULDBLOCK, module_remove());
	munmap(p, HUGE);
	EXPECT_EQ(-EWOULDBLOCK, module_remove());
	p[HUGE] = 2;
	munmap(p + HUGE, HUGE);
	EXPECT_EQ(0, module_remove());
	EXPECT_EQ(0, module_insert(""));
}

/* A region keeps working when nobody has the device open, and so do later ones. */
TEST_F(life, regions_outlive_device_descriptors)
{
	struct stat a, b;
	int fd = alloc(self->dev, HUGE), fd2;
	char *p;

	ASSERT_LE(0, fd);
	close(self->dev);
	p = map(fd, HUGE);
	ASSERT_NE(MAP_FAILED, p);
	p[0] = 1;
	self->dev = device_open();
	ASSERT_LE(0, self->dev);
	fd2 = alloc(self->dev, HUGE);
	ASSERT_LE(0, fd2);
	ASSERT_EQ(0, fstat(fd, &a));
	ASSERT_EQ(0, fstat(fd2, &b));
	EXPECT_NE(a.st_ino, b.st_ino);
	close(self->dev);
	close(fd2);
	close(fd);
	munmap(p, HUGE);
}

TEST_F(life, again_and_again)
{
	close(self->dev);
	for (int i = 0; i < soak(50); i++) {
		int dev, fd;
		char *p;

		ASSERT_EQ(0, module_remove());
		ASSERT_EQ(0, module_insert(i & 1 ? "pool_mb=8" : "pool_mb=0"));
		dev = device_open();
		ASSERT_LE(0, dev);
		fd = alloc(dev, HUGE);
		ASSERT_LE(0, fd);
		p = map(fd, HUGE);
		ASSERT_NE(MAP_FAILED, p);
		p[0] = 1;
		/* The last use ends in a different order each time. */
		if (i & 2)
			close(dev);
		munmap(p, HUGE);
		close(fd);
		if (!(i & 2))
			close(dev);
	}
	ASSERT_EQ(0, module_remove());
	ASSERT_EQ(0, module_insert(""));
}

/* Unloading while another process opens, allocates and dies. */
TEST_F(life, removal_against_users)
{
	int removed = 0;
	pid_t pid;

	close(self->dev);
	for (int i = 0; i < soak(100); i++) {
		pid = fork();
		if (!pid) {
			int dev = device_open();
			int fd = dev < 0 ? -1 : alloc(dev, HUGE);

			if (fd >= 0) {
				char *p = map(fd, HUGE);

				if (p != MAP_FAILED)
					p[0] = 1;
			}
			/* The kernel closes what is open, in its order. */
			_exit(0);
		}
		ASSERT_LT(0, pid);
		while (waitpid(pid, NULL, WNOHANG) == 0) {
			if (!module_remove()) {
				removed++;
				ASSERT_EQ(0, module_insert("pool_mb=2"));
			}
		}
	}
	TH_LOG("removed %d times while others used it", removed);
	EXPECT_EQ(0, module_remove());
	EXPECT_EQ(0, module_insert(""));
}

TEST_F(life, bad_parameters)
{
	close(self->dev);
	ASSERT_EQ(0, module_remove());
	EXPECT_EQ(-EINVAL, module_insert("pool_mb=-1"));
	EXPECT_EQ(-EINVAL, module_insert("pool_mb=1000000000"));
	EXPECT_EQ(-EINVAL, module_insert("pool_mb=x"));
	EXPECT_EQ(-ENOENT, device_open());
	EXPECT_EQ(0, module_insert(""));
}

TEST_HARNESS_MAIN
