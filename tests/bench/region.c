// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/*
 * How long until shared memory can be written: a tool of tests/bench/bench_region.py.
 *
 * A run ends with one write to each 4 KiB, whatever the pages are.  Giving back is timed
 * too, but apart.
 */
#define _GNU_SOURCE
#include <linux/dma-heap.h>
#include <linux/memfd.h>
#include <linux/udmabuf.h>
#include <shmdev.h>
#include <stdlib.h>
#include <sys/ipc.h>
#include <sys/mman.h>
#include <sys/shm.h>
#include <sys/statvfs.h>

#include "tool.h"

#define HUGE	((size_t)2 << 20)

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

/*
 * The same with ready memory, of which there is one region when a run begins, as in a
 * program that makes an array now and then.
 */
static int ready_get(struct run *run)
{
	struct shmdev_ready_info before, after;
	int err;

	shmdev_ready_get(&before);
	err = region_get(run);
	if (err)
		return err;
	shmdev_ready_get(&after);
	if (after.hits == before.hits) {
		shmdev_region_unref(run->region);
		return -EAGAIN;
	}
	return 0;
}

static int ready_before(size_t size)
{
	/* What is rounded up must fit. */
	struct shmdev_ready_options options = { .limit = size + size / 8 + HUGE, .size = size };
	int err = shmdev_ready_start(&options);

	return err ?: shmdev_ready_wait(60000);
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

static void fd_put(struct run *run)
{
	munmap(run->addr, run->size);
	close(run->fd);
}

/* Map @fd, and take it over also on failure. */
static int fd_get(struct run *run, int fd)
{
	int err;

	run->addr = mmap(NULL, run->size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (run->addr == MAP_FAILED) {
		err = -errno;
		close(fd);
		return err;
	}
	run->fd = fd;
	return 0;
}

static bool is_too_large(int fd, size_t size)
{
	struct statvfs fs;

	return fstatvfs(fd, &fs) || fs.f_bavail * fs.f_frsize < size;
}

/* A dma-buf of the system heap. */
static int dma_heap_get(struct run *run)
{
	struct dma_heap_allocation_data data = {
		.len = run->size, .fd_flags = O_RDWR | O_CLOEXEC,
	};
	int heap = open("/dev/dma_heap/system", O_RDWR | O_CLOEXEC);
	int err;

	if (heap < 0)
		return -errno;
	err = ioctl(heap, DMA_HEAP_IOCTL_ALLOC, &data) ? -errno : 0;
	close(heap);
	return err ?: fd_get(run, data.fd);
}

/* A dma-buf of a memfd's pages, which have to be there. */
static int udmabuf_get(struct run *run)
{
	struct udmabuf_create create = { .flags = UDMABUF_FLAGS_CLOEXEC, .size = run->size };
	int device, fd, err;

	create.memfd = memfd_create("bench", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	if ((int)create.memfd < 0)
		return -errno;
	device = open("/dev/udmabuf", O_RDWR | O_CLOEXEC);
	if (device < 0 || ftruncate(create.memfd, run->size) ||
	    fcntl(create.memfd, F_ADD_SEALS, F_SEAL_SHRINK))
		goto err_close;
	fd = ioctl(device, UDMABUF_CREATE, &create);
	if (fd < 0)
		goto err_close;
	close(device);
	close(create.memfd);
	return fd_get(run, fd);

err_close:
	err = -errno;
	if (device >= 0)
		close(device);
	close(create.memfd);
	return err;
}

/* As POSIX has it; in /dev/shm, whose size bounds it. */
static int shm_open_get(struct run *run)
{
	char name[32];
	int fd, err;

	snprintf(name, sizeof(name), "/shmdev-bench-%d", getpid());
	fd = shm_open(name, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	if (fd < 0)
		return -errno;
	shm_unlink(name);
	if (ftruncate(fd, run->size)) {
		err = -errno;
		close(fd);
		return err;
	}
	/* Otherwise a full /dev/shm is SIGBUS, in the loop that is measured. */
	if (is_too_large(fd, run->size)) {
		close(fd);
		return -ENOSPC;
	}
	return fd_get(run, fd);
}

static int shared_get(struct run *run)
{
	run->addr = mmap(NULL, run->size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS,
			 -1, 0);
	return run->addr == MAP_FAILED ? -errno : 0;
}

static int sysv_get(struct run *run)
{
	int err, id = shmget(IPC_PRIVATE, run->size, IPC_CREAT | 0600);

	if (id < 0)
		return -errno;
	run->addr = shmat(id, NULL, 0);
	err = run->addr == (void *)-1 ? -errno : 0;
	shmctl(id, IPC_RMID, NULL);
	return err;
}

static void sysv_put(struct run *run)
{
	shmdt(run->addr);
}

/* Not shared: what it costs to have huge pages at all, and to give them back. */
static int anon_get(struct run *run)
{
	char *addr = mmap(NULL, run->size + HUGE, PROT_READ | PROT_WRITE,
			  MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	size_t head;

	if (addr == MAP_FAILED)
		return -errno;
	head = -(uintptr_t)addr % HUGE;
	if (head)
		munmap(addr, head);
	munmap(addr + head + run->size, HUGE - head);
	run->addr = addr + head;
	return madvise(run->addr, run->size, MADV_HUGEPAGE) ? -errno : 0;
}

static void anon_put(struct run *run)
{
	munmap(run->addr, run->size);
}

static const struct way {
	const char *name;
	int (*get)(struct run *run);
	void (*put)(struct run *run);
	int (*before)(size_t size);	/* not in the time, but in the processor time */
} ways[] = {
	{ "shmdev", region_get, region_put, NULL },
	{ "ready", ready_get, region_put, ready_before },
	{ "shm_open", shm_open_get, fd_put, NULL },
	{ "shared", shared_get, anon_put, NULL },
	{ "sysv", sysv_get, sysv_put, NULL },
	{ "hugetlb", hugetlb_get, fd_put, NULL },
	{ "hugetlb-populate", hugetlb_populate_get, fd_put, NULL },
	{ "thp", thp_get, fd_put, NULL },
	{ "memfd", memfd_plain_get, fd_put, NULL },
	{ "dma-heap", dma_heap_get, fd_put, NULL },
	{ "udmabuf", udmabuf_get, fd_put, NULL },
	{ "anonymous", anon_get, anon_put, NULL },
};

/* Of all threads of this process. */
static double cpu_now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &ts);
	return ts.tv_sec + ts.tv_nsec / 1e9;
}

static int measure_way(const struct way *way, size_t size)
{
	struct run run = { .size = size };
	static double cpu_then;
	double start, got, touched, end, cpu;
	int err;

	wait_for_pool(size);
	/* Each makes one region, which a run before it has taken. */
	err = way->before ? way->before(size) : 0;
	if (err)
		return err;
	start = now();
	err = way->get(&run);
	if (err)
		return err;
	got = now();
	for (size_t i = 0; i < size; i += 4096)
		((volatile char *)run.addr)[i] = 1;
	touched = now();
	way->put(&run);
	end = now();
	/* Since the last run: what was made ready after it was made for this one. */
	cpu = cpu_now();
	printf("seconds=%.9f get=%.9f touch=%.9f put=%.9f cpu=%.9f\n", touched - start,
	       got - start, touched - got, end - touched, cpu - cpu_then);
	cpu_then = cpu;
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
