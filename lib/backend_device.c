// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/* Regions of the kernel module.  The only file that knows its ioctls. */
#define _GNU_SOURCE
#include "backend.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <linux/shmdev.h>

#define DEVICE	"/dev/shmdev"

/* What open(2) and ioctl(2) say, in the words of shmdev_region_create(). */
static int device_errno(int err)
{
	switch (err) {
	case ENOENT:
	case ENOTDIR:
		return -ENODEV;
	case EPERM:
		return -EACCES;
	case ENOTTY:
		return -EOPNOTSUPP;
	case EFBIG:
		return -ENOMEM;
	default:
		return -err;
	}
}

/*
 * Opened for each region: it costs microseconds, and a descriptor kept open would
 * outlive a change of identity, hold the module, and be one that a program which
 * closes "all others" takes from under us.
 */
static int device_open(void)
{
	int fd = open(DEVICE, O_RDWR | O_CLOEXEC);

	return fd < 0 ? -errno : fd;
}

static int device_map(struct backing *backing)
{
	/*
	 * The memory is there: populating only writes page table entries, one for
	 * each huge page, and saves as many faults.
	 */
	void *addr = mmap(NULL, backing->size, PROT_READ | PROT_WRITE,
			  MAP_SHARED | MAP_POPULATE, backing->fd, 0);

	if (addr == MAP_FAILED)
		return -errno;
	backing->addr = addr;
	return 0;
}

static int device_create(size_t size, struct backing *backing)
{
	struct shmdev_alloc alloc = { .size = size };
	int device, fd, err;

	device = device_open();
	if (device < 0)
		return device_errno(-device);
	fd = ioctl(device, SHMDEV_IOC_ALLOC, &alloc);
	err = fd < 0 ? device_errno(errno) : 0;
	close(device);
	if (err)
		return err;

	backing->backend = SHMDEV_BACKEND_DEVICE;
	backing->fd = fd;
	backing->size = alloc.size;
	err = device_map(backing);
	if (err)
		close(fd);
	return err;
}

static int device_probe(const struct reason *why)
{
	struct shmdev_query query = { 0 };
	int device, err;

	device = device_open();
	switch (device) {
	case -ENOENT:
	case -ENOTDIR:
		reason_set(why, DEVICE " does not exist: load the module with 'insmod shmdev.ko'");
		break;
	case -ENXIO:
	case -ENODEV:
		reason_set(why, DEVICE " has no driver: load the module with 'insmod shmdev.ko'");
		break;
	case -EACCES:
	case -EPERM:
		reason_set(why, "no permission to open " DEVICE
			   " for reading and writing: ask for access to it");
		break;
	default:
		if (device < 0)
			reason_set(why, "cannot open " DEVICE ": %s", strerrordesc_np(-device));
	}
	if (device < 0)
		return device_errno(-device);

	err = ioctl(device, SHMDEV_IOC_QUERY, &query) < 0 ? errno : 0;
	close(device);
	if (err) {
		if (err == ENOTTY)
			reason_set(why, DEVICE " is not the device of a module that this"
				   " library knows: load the shmdev.ko that goes with it");
		else
			reason_set(why, DEVICE " does not answer: %s", strerrordesc_np(err));
		return device_errno(err);
	}
	return 0;
}

static bool device_owns(int fd, const struct stat *st)
{
	struct statfs fs;

	/* An ioctl on a stranger's descriptor could do anything; this cannot. */
	return S_ISREG(st->st_mode) && !fstatfs(fd, &fs) &&
	       (unsigned long)fs.f_type == SHMDEV_MAGIC;
}

const struct backend_ops device_backend = {
	.name = "device",
	.page_size = HUGE_SIZE,
	.create = device_create,
	.probe = device_probe,
	.owns = device_owns,
	.map = device_map,
};
