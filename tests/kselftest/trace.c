// SPDX-License-Identifier: GPL-2.0-only
/* The tracepoints: that each tells what has happened, in numbers that are true. */
#include <inttypes.h>

#include "util.h"

#define TRACING		"/sys/kernel/tracing/"
#define EVENTS		TRACING "events/shmdev/"
#define SIZE		(4 * HUGE)

FIXTURE(trace) {
	int dev;
	long pool_mb;
};

FIXTURE_SETUP(trace)
{
	if (access(EVENTS, F_OK))
		SKIP(return, "this kernel has no tracepoints, or tracefs is not mounted");
	self->dev = device_open();
	ASSERT_LE(0, self->dev);
	self->pool_mb = read_long(PARAM_POOL_MB);
	ASSERT_EQ(0, write_file(TRACING "tracing_on", "1"));
	ASSERT_EQ(0, write_file(EVENTS "enable", "1"));
	/* Opened for writing with O_TRUNC, it is emptied. */
	close(open(TRACING "trace", O_WRONLY | O_TRUNC | O_CLOEXEC));
}

FIXTURE_TEARDOWN(trace)
{
	EXPECT_EQ(0, write_file(EVENTS "enable", "0"));
	EXPECT_EQ(0, set_pool_mb(self->pool_mb));
	close(self->dev);
}

/* The text after "name: " of the last event that has @with in it; false: there is none. */
static bool event_find(const char *name, const char *with, char *text, size_t size)
{
	FILE *file = fopen(TRACING "trace", "re");
	char line[512], what[64];
	bool found = false;

	snprintf(what, sizeof(what), ": %s: ", name);
	while (file && fgets(line, sizeof(line), file)) {
		char *at = strstr(line, what);

		if (!at || !strstr(at, with))
			continue;
		snprintf(text, size, "%s", at + strlen(what));
		found = true;
	}
	if (file)
		fclose(file);
	return found;
}

static uint64_t ino(int fd)
{
	struct stat st;

	return fstat(fd, &st) ? 0 : st.st_ino;
}

TEST_F(trace, life_of_a_region)
{
	struct shmdev_alloc a = { .size = SIZE };
	struct shmdev_export export;
	char with[64], text[256], wanted[256];
	uint64_t region;
	int fd, fd2;
	char *p;

	ASSERT_EQ(0, set_pool_mb(64));
	ASSERT_TRUE(WAIT_FOR(pool_is(self->dev, 64 << 20)));
	fd = result(ioctl(self->dev, SHMDEV_IOC_ALLOC, &a));
	ASSERT_LE(0, fd);
	region = ino(fd);
	snprintf(with, sizeof(with), "ino=%" PRIu64 " ", region);
	ASSERT_TRUE(event_find("alloc", with, text, sizeof(text)));
	snprintf(wanted, sizeof(wanted), "%ssize=%lu huge=%llu pool=%llu node=", with, SIZE,
		 (unsigned long long)a.huge_bytes, (unsigned long long)a.pool_bytes);
	EXPECT_EQ(0, strncmp(text, wanted, strlen(wanted)));
	EXPECT_NE(NULL, strstr(text, " err=0\n"));

	ASSERT_EQ(0, region_export(fd, &export));
	fd2 = attach_flags(self->dev, &export, SHMDEV_ATTACH_RDONLY);
	ASSERT_LE(0, fd2);
	ASSERT_TRUE(event_find("attach", with, text, sizeof(text)));
	snprintf(wanted, sizeof(wanted), "%srdonly=1 err=0\n", with);
	EXPECT_STREQ(wanted, text);

	p = map(fd, SIZE);
	ASSERT_NE(MAP_FAILED, p);
	memset(p, 1, SIZE);
	ASSERT_TRUE(WAIT_FOR(pool_is(self->dev, 64 << 20)));
	ASSERT_EQ(0, zero_range(fd, HUGE, SIZE - HUGE));
	ASSERT_TRUE(event_find("zero", with, text, sizeof(text)));
	snprintf(wanted, sizeof(wanted), "%soffset=%lu len=%lu exchanged=%lu err=0\n", with, HUGE,
		 SIZE - HUGE, a.huge_bytes == SIZE ? SIZE - HUGE : 0);
	EXPECT_STREQ(wanted, text);

	munmap(p, SIZE);
	close(fd);
	EXPECT_FALSE(event_find("release", with, text, sizeof(text)));
	close(fd2);
	ASSERT_TRUE(event_find("release", with, text, sizeof(text)));
	snprintf(wanted, sizeof(wanted), "%ssize=%lu\n", with, SIZE);
	EXPECT_STREQ(wanted, text);
}

TEST_F(trace, errors)
{
	struct shmdev_export export = {};
	long limit = read_long(PARAM_USER_LIMIT_MB);
	char text[256], wanted[64];

	ASSERT_EQ(-ENOENT, attach(self->dev, &export));
	snprintf(wanted, sizeof(wanted), "ino=0 rdonly=0 err=%d\n", -ENOENT);
	EXPECT_TRUE(event_find("attach", wanted, text, sizeof(text)));

	ASSERT_EQ(0, set_mb(PARAM_USER_LIMIT_MB, 0));
	EXPECT_EQ(0, AS_USER(NOBODY, {
		if (alloc(self->dev, SIZE) != -EDQUOT)
			_exit(1);
	}));
	ASSERT_EQ(0, set_mb(PARAM_USER_LIMIT_MB, limit));
	snprintf(wanted, sizeof(wanted), "err=%d\n", -EDQUOT);
	EXPECT_TRUE(event_find("alloc", wanted, text, sizeof(text)));
	EXPECT_EQ(0, strncmp(text, "ino=0 ", 6));
}

TEST_F(trace, pool)
{
	char text[256];

	ASSERT_EQ(0, set_pool_mb(0));
	ASSERT_TRUE(WAIT_FOR(pool_is(self->dev, 0)));
	ASSERT_EQ(0, set_pool_mb(8));
	ASSERT_TRUE(WAIT_FOR(pool_is(self->dev, 8 << 20)));
	EXPECT_TRUE(event_find("refill", "found=1", text, sizeof(text)));
	ASSERT_EQ(0, write_file("/proc/sys/vm/drop_caches", "2"));
	EXPECT_TRUE(pool_is(self->dev, 0));
	EXPECT_TRUE(event_find("shrink", "freed=2097152 bytes=0\n", text, sizeof(text)));
	EXPECT_TRUE(WAIT_FOR(pool_is(self->dev, 8 << 20)));
}

/* perf and bpftrace go by the format, and by its own types. */
TEST_F(trace, formats)
{
	static const char *const names[] = {
		"alloc", "release", "attach", "zero", "refill", "shrink",
	};

	for (size_t i = 0; i < sizeof(names) / sizeof(*names); i++) {
		char path[128];

		snprintf(path, sizeof(path), EVENTS "%s/format", names[i]);
		EXPECT_EQ(0, access(path, R_OK)) {
			TH_LOG("%s", path);
		}
		snprintf(path, sizeof(path), EVENTS "%s/id", names[i]);
		EXPECT_LT(0, read_long(path));
	}
	EXPECT_EQ(0, write_file(EVENTS "alloc/filter", "size > 4096 && err == 0"));
	EXPECT_EQ(0, write_file(EVENTS "alloc/filter", "0"));
	EXPECT_EQ(0, write_file(EVENTS "refill/filter", "found == 1 && node == 0"));
	EXPECT_EQ(0, write_file(EVENTS "refill/filter", "0"));
}

TEST_HARNESS_MAIN
