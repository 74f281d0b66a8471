// SPDX-License-Identifier: GPL-2.0-only
/* What the device tells of itself in sysfs, and root of its regions in debugfs. */
#include <inttypes.h>
#include <sys/prctl.h>

#include "module.h"
#include "util.h"

#define DIR		"/sys/class/misc/shmdev/"
#define REGIONS		"/sys/kernel/debug/shmdev/regions"

FIXTURE(sysfs) {
	int dev;
	long pool_mb;
};

FIXTURE_SETUP(sysfs)
{
	self->dev = device_open();
	ASSERT_LE(0, self->dev);
	self->pool_mb = read_long(PARAM_POOL_MB);
}

FIXTURE_TEARDOWN(sysfs)
{
	EXPECT_EQ(0, set_pool_mb(self->pool_mb));
	close(self->dev);
}

static long value(const char *name)
{
	char path[128];

	snprintf(path, sizeof(path), DIR "%s", name);
	return read_long(path);
}

/* Sum over the nodes. */
static long node_values(const char *name)
{
	long sum = 0, one;
	char path[128];
	int nodes = 0;

	for (int nid = 0; nid < 1024; nid++) {
		snprintf(path, sizeof(path), DIR "node%d/%s", nid, name);
		one = read_long(path);
		if (one == -ENOENT)
			continue;
		if (one < 0)
			return one;
		sum += one;
		nodes++;
	}
	return nodes ? sum : -ENOENT;
}

TEST_F(sysfs, as_query_says)
{
	struct shmdev_query q;
	int fd;

	ASSERT_EQ(0, set_pool_mb(64));
	ASSERT_TRUE(WAIT_FOR(pool_is(self->dev, 64 << 20)));
	fd = alloc(self->dev, 4 * HUGE);
	ASSERT_LE(0, fd);
	ASSERT_TRUE(WAIT_FOR(pool_is(self->dev, 64 << 20)));
	ASSERT_EQ(0, query(self->dev, &q));
	EXPECT_EQ(q.pool_target_bytes, value("pool_target_bytes"));
	EXPECT_EQ(q.pool_bytes, value("pool_bytes"));
	EXPECT_EQ(q.pool_hits, value("pool_hits"));
	EXPECT_EQ(q.pool_misses, value("pool_misses"));
	EXPECT_EQ(q.regions, value("regions"));
	EXPECT_EQ(q.region_bytes, value("region_bytes"));
	EXPECT_EQ(1, value("regions"));
	close(fd);
	EXPECT_EQ(0, value("regions"));
}

TEST_F(sysfs, nodes_are_the_whole)
{
	static const char *const names[] = {
		"pool_target_bytes", "pool_low_bytes", "pool_bytes", "pool_hits", "pool_misses",
		"pool_zeroed_bytes", "pool_shrunk_bytes", "pool_refill_cpu_ns",
	};

	ASSERT_EQ(0, set_pool_mb(64));
	ASSERT_TRUE(WAIT_FOR(pool_is(self->dev, 64 << 20)));
	/* The thread comes to rest: then nothing changes from one line to the next. */
	for (size_t i = 0; i < sizeof(names) / sizeof(*names); i++) {
		EXPECT_LE(0, value(names[i]));
		EXPECT_TRUE(WAIT_FOR(value(names[i]) == node_values(names[i]))) {
			TH_LOG("%s", names[i]);
		}
	}
}

/* Fill, take, shrink: each counted once. */
TEST_F(sysfs, counters)
{
	long zeroed, shrunk, cpu;

	ASSERT_EQ(0, set_pool_mb(0));
	ASSERT_TRUE(WAIT_FOR(pool_is(self->dev, 0)));
	zeroed = value("pool_zeroed_bytes");
	shrunk = value("pool_shrunk_bytes");
	cpu = value("pool_refill_cpu_ns");
	ASSERT_EQ(0, set_pool_mb(64));
	ASSERT_TRUE(WAIT_FOR(pool_is(self->dev, 64 << 20)));
	EXPECT_EQ(zeroed + (64 << 20), value("pool_zeroed_bytes"));
	EXPECT_EQ(shrunk, value("pool_shrunk_bytes"));
	/* To zero a gigabyte takes a good machine some 20 ms. */
	EXPECT_TRUE(WAIT_FOR(value("pool_refill_cpu_ns") > cpu + 500000));
	ASSERT_EQ(0, write_file("/proc/sys/vm/drop_caches", "2"));
	EXPECT_EQ(shrunk + (64 << 20), value("pool_shrunk_bytes"));
	/* What the administrator takes away is not what memory was short of. */
	ASSERT_TRUE(WAIT_FOR(pool_is(self->dev, 64 << 20)));
	shrunk = value("pool_shrunk_bytes");
	ASSERT_EQ(0, set_pool_mb(0));
	ASSERT_TRUE(WAIT_FOR(pool_is(self->dev, 0)));
	EXPECT_EQ(shrunk, value("pool_shrunk_bytes"));
}

TEST_F(sysfs, read_only)
{
	struct stat st;

	ASSERT_EQ(0, stat(DIR "pool_bytes", &st));
	EXPECT_EQ(0444, st.st_mode & 0777);
	EXPECT_EQ(0, AS_USER(NOBODY, {
		if (value("pool_bytes") < 0 || !access(REGIONS, R_OK))
			_exit(1);
	}));
}

struct line {
	uint64_t ino, size, huge, age;
	int node, pid, exported;
	unsigned int maps, files, seals, uid;
	char comm[64];
};

/* What the list says of region @ino; false: it is not there. */
static bool list_find(uint64_t ino, struct line *line)
{
	FILE *file = fopen(REGIONS, "re");
	char text[512];
	bool found = false;

	while (file && !found && fgets(text, sizeof(text), file))
		found = sscanf(text, "%" SCNu64 " %" SCNu64 " %" SCNu64 " %d %u %u %d %x %" SCNu64
			       " %u %d %63s", &line->ino, &line->size, &line->huge, &line->node,
			       &line->maps, &line->files, &line->exported, &line->seals,
			       &line->age, &line->uid, &line->pid, line->comm) == 12 &&
			line->ino == ino;
	if (file)
		fclose(file);
	return found;
}

static uint64_t ino(int fd)
{
	struct stat st;

	return fstat(fd, &st) ? 0 : st.st_ino;
}

TEST_F(sysfs, list_of_regions)
{
	struct shmdev_export export;
	struct line line;
	uint64_t region;
	int fd, fd2;
	char *p, *q;

	if (access(REGIONS, R_OK))
		SKIP(return, "debugfs is not mounted");
	ASSERT_EQ(0, prctl(PR_SET_NAME, "a b\n\\c"));
	fd = alloc(self->dev, 3 * HUGE);
	ASSERT_LE(0, fd);
	region = ino(fd);
	ASSERT_TRUE(list_find(region, &line));
	EXPECT_EQ(3 * HUGE, line.size);
	EXPECT_EQ(3 * HUGE, line.huge);
	EXPECT_EQ(0, line.maps);
	EXPECT_EQ(1, line.files);
	EXPECT_EQ(0, line.exported);
	EXPECT_EQ(0, line.seals);
	EXPECT_GT(60, line.age);
	EXPECT_EQ(0, line.uid);
	EXPECT_EQ(getpid(), line.pid);
	EXPECT_STREQ("a\\040b\\012\\134c", line.comm);

	p = map_rdonly(fd, 3 * HUGE);
	q = map_rdonly(fd, HUGE);
	fd2 = reopen(fd, O_RDONLY);
	ASSERT_EQ(0, region_export(fd, &export));
	ASSERT_EQ(0, region_seal(fd, SHMDEV_SEAL_FUTURE_WRITE));
	ASSERT_TRUE(list_find(region, &line));
	EXPECT_EQ(2, line.maps);
	EXPECT_EQ(2, line.files);
	EXPECT_EQ(1, line.exported);
	EXPECT_EQ(SHMDEV_SEAL_FUTURE_WRITE, line.seals);

	/* It lives by a mapping alone, and the list says so. */
	close(fd);
	close(fd2);
	munmap(q, HUGE);
	ASSERT_TRUE(list_find(region, &line));
	EXPECT_EQ(1, line.maps);
	munmap(p, 3 * HUGE);
	EXPECT_TRUE(WAIT_FOR(!list_find(region, &line)));
}

/* Somebody else's, with the user who made it, whoever has it now. */
TEST_F(sysfs, owner_of_region)
{
	struct line line;
	int fd;

	if (access(REGIONS, R_OK))
		SKIP(return, "debugfs is not mounted");
	fd = alloc(self->dev, HUGE);
	ASSERT_LE(0, fd);
	ASSERT_EQ(0, fchown(fd, NOBODY, NOBODY));
	ASSERT_TRUE(list_find(ino(fd), &line));
	EXPECT_EQ(0, line.uid);
	close(fd);
}

/* Readers, and regions that come and go, and the module with them. */
TEST_F(sysfs, against_release_and_removal)
{
	int removed = 0, fd;
	pid_t reader, user;

	close(self->dev);
	reader = fork();
	if (!reader) {
		char text[65536];

		for (;;) {
			static const char *const paths[] = {
				REGIONS, DIR "pool_bytes", DIR "pool_refill_cpu_ns",
				DIR "node0/pool_hits",
			};

			for (size_t i = 0; i < sizeof(paths) / sizeof(*paths); i++) {
				fd = open(paths[i], O_RDONLY | O_CLOEXEC);
				if (fd < 0)
					continue;
				while (read(fd, text, sizeof(text)) > 0)
					;
				close(fd);
			}
		}
	}
	user = fork();
	if (!user) {
		for (;;) {
			int dev = device_open();

			if (dev < 0)
				continue;
			for (int i = 0; i < 10; i++)
				close(alloc(dev, HUGE));
			close(dev);
		}
	}
	for (int i = 0; i < soak(200); i++) {
		int err = module_remove();

		if (!err) {
			removed++;
			ASSERT_EQ(0, module_insert("pool_mb=8"));
		} else {
			ASSERT_TRUE(err == -EWOULDBLOCK || err == -EBUSY) {
				TH_LOG("%d", err);
			}
		}
	}
	kill(reader, SIGKILL);
	kill(user, SIGKILL);
	ASSERT_EQ(reader, waitpid(reader, NULL, 0));
	ASSERT_EQ(user, waitpid(user, NULL, 0));
	/* Once at least for certain. */
	ASSERT_TRUE(WAIT_FOR(!module_remove()));
	ASSERT_EQ(0, module_insert(""));
	TH_LOG("removed %d times", removed + 1);
	self->dev = device_open();
	ASSERT_LE(0, self->dev);
}

TEST_HARNESS_MAIN
