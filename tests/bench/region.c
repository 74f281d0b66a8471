// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/*
 * How long until shared memory can be written: a tool of tests/bench/bench_region.py.
 *
 * A run ends with one write to each 2 MiB.  Giving back is timed too, but apart.
 */
#define _GNU_SOURCE
#include <linux/memfd.h>
#include <shmdev.h>
#include <stdlib.h>
#include <sys/mman.h>

#include "tool.h"

#define STEP	((size_t)2 << 20)

struct run {
	void *addr;
	size_t size;
	struct shmdev_region *region;
	int fd;
	bool populate;
};

/* The library, on whatever SHMDEV_BACKEND says. */
static int region_get(struct run *run)
{
	run->region = shmdev_region_create(run->size, 0);
	if (!run->region)
		return -errno;
	run->addr = shmdev_region_addr(run->region);
	return 0;
}

static void region_put(struct run *run)
{
	shmdev_region_unref(run->region);
}

static int memfd_get(struct run *run, unsigned int flags, int advice)
{
	int err;

	run->fd = memfd_create("bench", MFD_CLOEXEC | flags);
	if (run->fd < 0)
		return -errno;
	if (ftruncate(run->fd, run->size))
		goto err_close;
	run->addr = mmap(NULL, run->size, PROT_READ | PROT_WRITE,
			 MAP_SHARED | (run->populate ? MAP_POPULATE : 0), run->fd, 0);
	if (run->addr == MAP_FAILED)
		goto err_close;
	if (advice)
		madvise(run->addr, run->size, advice);
	return 0;

err_close:
	err = -errno;
	close(run->fd);
	return err;
}

static int hugetlb_get(struct run *run)
{
	return memfd_get(run, MFD_HUGETLB | MFD_HUGE_2MB, 0);
}

static int hugetlb_populate_get(struct run *run)
{
	run->populate = true;
	return hugetlb_get(run);
}

static int thp_get(struct run *run)
{
	return memfd_get(run, 0, MADV_HUGEPAGE);
}

static int memfd_plain_get(struct run *run)
{
	return memfd_get(run, 0, 0);
}

static void memfd_put(struct run *run)
{
	munmap(run->addr, run->size);
	close(run->fd);
}

/* Base pages are touched each: a write to one in 512 would not make the rest ready. */
static const struct way {
	const char *name;
	int (*get)(struct run *run);
	void (*put)(struct run *run);
	size_t step;
} ways[] = {
	{ "shmdev", region_get, region_put, STEP },
	{ "hugetlb", hugetlb_get, memfd_put, STEP },
	{ "hugetlb-populate", hugetlb_populate_get, memfd_put, STEP },
	{ "thp", thp_get, memfd_put, STEP },
	{ "memfd", memfd_plain_get, memfd_put, 4096 },
};

static int measure_way(const struct way *way, size_t size)
{
	struct run run = { .size = size };
	double start, got, touched, end;
	int err;

	wait_for_pool(size);
	start = now();
	err = way->get(&run);
	if (err)
		return err;
	got = now();
	for (size_t i = 0; i < size; i += way->step)
		((volatile char *)run.addr)[i] = 1;
	touched = now();
	way->put(&run);
	end = now();
	printf("seconds=%.9f get=%.9f touch=%.9f put=%.9f\n", touched - start, got - start,
	       touched - got, end - touched);
	return 0;
}

static int measure(const char *name, size_t size)
{
	for (size_t i = 0; i < sizeof(ways) / sizeof(*ways); i++)
		if (!strcmp(name, ways[i].name))
			return measure_way(&ways[i], size);
	return -EINVAL;
}

int main(void)
{
	return tool_main(measure);
}
