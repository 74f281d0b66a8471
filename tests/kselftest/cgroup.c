// SPDX-License-Identifier: GPL-2.0-only
/* Regions are charged to the memory cgroup of whoever asks for them. */
#include "util.h"

#define CGROUP	"/sys/fs/cgroup/shmdev_test"

FIXTURE(cgroup) {
	int dev;
};

FIXTURE_SETUP(cgroup)
{
	/* Not there in a container or with version 1: visibly not tested. */
	if (access("/sys/fs/cgroup/cgroup.subtree_control", W_OK))
		SKIP(return, "no cgroup2 at /sys/fs/cgroup");
	ASSERT_EQ(0, write_file("/sys/fs/cgroup/cgroup.subtree_control", "+memory"));
	ASSERT_EQ(0, mkdir(CGROUP, 0755));
	self->dev = device_open();
	ASSERT_LE(0, self->dev);
}

FIXTURE_TEARDOWN(cgroup)
{
	close(self->dev);
	EXPECT_EQ(0, rmdir(CGROUP));
}

static void join(void)
{
	if (write_file(CGROUP "/cgroup.procs", "0"))
		_exit(101);
}

TEST_F(cgroup, charged_at_allocation)
{
	EXPECT_EQ(0, IN_CHILD({
		long before, after;
		int fd;

		join();
		before = read_long(CGROUP "/memory.current");
		fd = alloc(self->dev, 16 * HUGE);
		if (fd < 0)
			_exit(102);
		after = read_long(CGROUP "/memory.current");
		/* Not touched, not even mapped. */
		if (after < before + (long)(16 * HUGE))
			_exit(103);
		close(fd);
		if (read_long(CGROUP "/memory.current") > after - (long)(15 * HUGE))
			_exit(104);
	}));
}

/* At the limit: ENOMEM for the caller, the OOM killer for nobody. */
TEST_F(cgroup, limit_is_enomem)
{
	struct shmdev_query q;
	char line[128];
	FILE *events;
	long oom_kill = -1;

	ASSERT_EQ(0, write_file(CGROUP "/memory.max", "67108864"));
	EXPECT_EQ(ENOMEM, IN_CHILD({
		join();
		_exit(-alloc(self->dev, 64 * HUGE));
	}));
	EXPECT_EQ(0, IN_CHILD({
		join();
		_exit(alloc(self->dev, 16 * HUGE) < 0);
	}));
	events = fopen(CGROUP "/memory.events", "re");
	ASSERT_NE(NULL, events);
	while (fgets(line, sizeof(line), events))
		sscanf(line, "oom_kill %ld", &oom_kill);
	fclose(events);
	EXPECT_EQ(0, oom_kill);
	ASSERT_EQ(0, query(self->dev, &q));
	EXPECT_EQ(0, q.regions);
}

TEST_HARNESS_MAIN
