// SPDX-License-Identifier: GPL-2.0-only
/* Regions when memory has no huge pages left: smaller ones, or ENOMEM if strict. */
#include "util.h"

#define STRIDE	(64UL << 10)
#define REGION	(64UL << 20)
#define PLAYGROUND (768UL << 20)
#define COMPACT	"/proc/sys/vm/compact_unevictable_allowed"

FIXTURE(fragment) {
	int dev;
	long pool_mb;
	long compact;
	char *ballast;
	size_t ballast_size;
	char *hog;
	size_t hog_size;
};

/* Locked memory that nobody touches: @advice says of which pages. */
static char *memory_lock(size_t size, int advice)
{
	char *p = mmap(NULL, size, PROT_READ | PROT_WRITE,
		       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	return p == MAP_FAILED || madvise(p, size, advice) || mlock(p, size) ? NULL : p;
}

/*
 * Fill memory with locked base pages that compaction may not move, then free all but
 * one of each 64 KiB: plenty of memory, and no huge page in it.  As that takes its time,
 * most of the memory is put out of reach before, by huge pages.
 */
FIXTURE_SETUP(fragment)
{
	self->dev = device_open();
	ASSERT_LE(0, self->dev);
	self->pool_mb = read_long(PARAM_POOL_MB);
	ASSERT_EQ(0, write_file(PARAM_POOL_MB, "0"));
	self->compact = read_long(COMPACT);
	ASSERT_EQ(0, write_file(COMPACT, "0"));

	self->ballast_size = meminfo("MemFree") & ~(HUGE - 1);
	self->ballast_size -= self->ballast_size < PLAYGROUND ? self->ballast_size : PLAYGROUND;
	if (self->ballast_size) {
		self->ballast = memory_lock(self->ballast_size, MADV_HUGEPAGE);
		ASSERT_NE(NULL, self->ballast);
	}
	self->hog_size = meminfo("MemFree") / 10 * 8;
	self->hog = memory_lock(self->hog_size, MADV_NOHUGEPAGE);
	ASSERT_NE(NULL, self->hog);
	for (size_t i = 0; i + STRIDE <= self->hog_size; i += STRIDE)
		ASSERT_EQ(0, madvise(self->hog + i + 4096, STRIDE - 4096, MADV_DONTNEED_LOCKED));
}

FIXTURE_TEARDOWN(fragment)
{
	char text[16];

	munmap(self->hog, self->hog_size);
	if (self->ballast)
		munmap(self->ballast, self->ballast_size);
	snprintf(text, sizeof(text), "%ld", self->compact);
	EXPECT_EQ(0, write_file(COMPACT, text));
	snprintf(text, sizeof(text), "%ld", self->pool_mb);
	EXPECT_EQ(0, write_file(PARAM_POOL_MB, text));
	close(self->dev);
}

TEST_F(fragment, smaller_pages)
{
	struct shmdev_alloc a = { .size = REGION };
	struct shmdev_query q;
	int fd, nr = 0, fds[512];
	char *p;

	/* What huge pages the hog has left over. */
	while (nr < 512 && (fds[nr] = alloc_flags(self->dev, HUGE, SHMDEV_ALLOC_STRICT)) >= 0)
		nr++;
	ASSERT_GT(512, nr);
	EXPECT_EQ(-ENOMEM, fds[nr]);
	ASSERT_EQ(0, query(self->dev, &q));
	EXPECT_EQ(nr, q.regions);

	fd = result(ioctl(self->dev, SHMDEV_IOC_ALLOC, &a));
	ASSERT_LE(0, fd);
	EXPECT_EQ(REGION, a.size);
	EXPECT_GT(REGION, a.huge_bytes);
	EXPECT_EQ(0, a.pool_bytes);
	TH_LOG("%llu of %llu MiB in huge pages", a.huge_bytes >> 20, a.size >> 20);

	p = map(fd, REGION);
	ASSERT_NE(MAP_FAILED, p);
	EXPECT_EQ(0, (unsigned long)p % HUGE);
	EXPECT_TRUE(all_zero(p, REGION));
	for (size_t i = 0; i < REGION; i += 4096)
		*(size_t *)(p + i) = i + 1;
	EXPECT_EQ(0, madvise(p, REGION, MADV_DONTNEED));
	for (size_t i = 0; i < REGION; i += 4096)
		ASSERT_EQ(i + 1, *(size_t *)(p + i));
	munmap(p, REGION);
	close(fd);
	while (nr)
		close(fds[--nr]);
	ASSERT_EQ(0, query(self->dev, &q));
	EXPECT_EQ(0, q.regions);
}

TEST_HARNESS_MAIN
