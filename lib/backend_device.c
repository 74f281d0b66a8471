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
	int flags = MAP_SHARED | MAP_POPULATE | (backing->addr ? MAP_FIXED : 0);
	void *addr = mmap(backing->addr, backing->size, backing_access(backing), flags,
			  backing->fd, 0);

	if (addr == MAP_FAILED)
		return errno == EPERM ? -EACCES : -errno;
	backing->addr = addr;
	return 0;
}

static int device_create(size_t size, const struct placement *placement,
			 struct backing *backing)
{
	struct shmdev_alloc alloc = { .size = size };
	int device, fd, err;

	if (placement->strict)
		alloc.flags |= SHMDEV_ALLOC_STRICT;
	if (placement->on_node) {
		alloc.flags |= SHMDEV_ALLOC_NODE;
		alloc.node = placement->node;
	}

	device = device_open();
	if (device < 0)
		return device_errno(-device);
	fd = ioctl(device, SHMDEV_IOC_ALLOC, &alloc);
	err = fd < 0 ? device_errno(errno) : 0;
	close(device);
	if (err)
		return err;

	*backing = (struct backing){ .backend = SHMDEV_BACKEND_DEVICE, .fd = fd,
				     .size = alloc.size };
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

static int device_export(int fd, unsigned char token[TOKEN_SIZE])
{
	struct shmdev_export export = { 0 };

	if (ioctl(fd, SHMDEV_IOC_EXPORT, &export) < 0)
		return device_errno(errno);
	memcpy(token, export.token, TOKEN_SIZE);
	return 0;
}

static int device_attach(const unsigned char token[TOKEN_SIZE], bool readonly)
{
	struct shmdev_attach attach = { .flags = readonly ? SHMDEV_ATTACH_RDONLY : 0 };
	int device, fd;

	memcpy(attach.token, token, TOKEN_SIZE);
	device = device_open();
	if (device < 0)
		return device_errno(-device);
	fd = ioctl(device, SHMDEV_IOC_ATTACH, &attach);
	if (fd < 0)	/* here ENOENT is no missing file, but a token of nothing */
		fd = errno == ENOENT ? -ENOENT : device_errno(errno);
	close(device);
	return fd;
}

static int device_reopen(int fd)
{
	unsigned char token[TOKEN_SIZE];
	int err = device_export(fd, token);

	return err ? err : device_attach(token, true);
}

static int device_seal(int fd, bool future)
{
	struct shmdev_seal seal = {
		.seals = future ? SHMDEV_SEAL_FUTURE_WRITE : SHMDEV_SEAL_WRITE,
	};
	struct shmdev_stat stat = { 0 };

	if (!ioctl(fd, SHMDEV_IOC_SEAL, &seal))
		return 0;
	if (errno != EPERM)
		return device_errno(errno);
	/* Open for reading alone; but it may be what was asked for already. */
	if (ioctl(fd, SHMDEV_IOC_STAT, &stat))
		return device_errno(errno);
	return stat.seals & seal.seals ? 0 : -EACCES;
}

const struct backend_ops device_backend = {
	.name = "device",
	.page_size = HUGE_SIZE,
	.create = device_create,
	.probe = device_probe,
	.owns = device_owns,
	.map = device_map,
	.reopen = device_reopen,
	.seal = device_seal,
	.export = device_export,
	.attach = device_attach,
};
