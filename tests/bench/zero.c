// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/*
 * How long until used shared memory is zero and can be written again: a tool of
 * tests/bench/bench_zero.py.
 *
 * A run begins with memory that has been written to all over, and ends with one write to
 * each page that could fault: what zeroing leaves to the next touch is part of it.
 */
#define _GNU_SOURCE
#include <linux/falloc.h>
#include <linux/memfd.h>
#include <sys/mman.h>

#include "tool.h"

#define HUGE	((size_t)2 << 20)

struct memory {
	int fd;
	size_t size;
	char *addr;
};

static int region_open(size_t size)
{
	struct shmdev_alloc alloc = { .size = size };
	int dev = open("/dev/shmdev", O_RDWR | O_CLOEXEC);
	int fd = dev < 0 ? -1 : ioctl(dev, SHMDEV_IOC_ALLOC, &alloc);
	int err = -errno;

	if (dev >= 0)
		close(dev);
	return fd < 0 ? err : fd;
}

static int memfd_open(size_t size, unsigned int flags)
{
	int fd = memfd_create("bench", MFD_CLOEXEC | flags);
	int err;

	if (fd >= 0 && !ftruncate(fd, size))
		return fd;
	err = -errno;
	if (fd >= 0)
		close(fd);
	return err;
}

static int hugetlb_open(size_t size)
{
	return memfd_open(size, MFD_HUGETLB | MFD_HUGE_2MB);
}

static int memfd_plain_open(size_t size)
{
	return memfd_open(size, 0);
}

static int zero_range(const struct memory *m)
{
	return fallocate(m->fd, FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE, 0, m->size);
}

static int punch_hole(const struct memory *m)
{
	return fallocate(m->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, m->size);
}

static int set(const struct memory *m)
{
	memset(m->addr, 0, m->size);
	return 0;
}

static const struct way {
	const char *name;
	int (*open)(size_t size);
	int (*zero)(const struct memory *m);
	size_t step;
} ways[] = {
	{ "shmdev-zero", region_open, zero_range, HUGE },
	{ "shmdev-memset", region_open, set, HUGE },
	{ "hugetlb-memset", hugetlb_open, set, HUGE },
	{ "hugetlb-punch", hugetlb_open, punch_hole, HUGE },
	{ "memfd-memset", memfd_plain_open, set, 4096 },
	{ "memfd-punch", memfd_plain_open, punch_hole, 4096 },
};

static int measure_way(const struct way *way, size_t size)
{
	struct memory m = { .size = size };
	double start, zeroed, touched;
	int err = 0;

	m.fd = way->open(size);
	if (m.fd < 0)
		return m.fd;
	m.addr = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, m.fd, 0);
	if (m.addr == MAP_FAILED) {
		err = -errno;
		goto out_close;
	}
	memset(m.addr, 0x5a, size);
	wait_for_pool(size);

	start = now();
	if (way->zero(&m)) {
		err = -errno;
		goto out_unmap;
	}
	zeroed = now();
	for (size_t i = 0; i < size; i += way->step)
		((volatile char *)m.addr)[i] = 1;
	touched = now();
	for (size_t i = 1; i < size; i += 4096)
		if (m.addr[i]) {
			err = -EIO;
			goto out_unmap;
		}
	printf("seconds=%.9f zero=%.9f touch=%.9f\n", touched - start, zeroed - start,
	       touched - zeroed);

out_unmap:
	munmap(m.addr, size);
out_close:
	close(m.fd);
	return err;
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
