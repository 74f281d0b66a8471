// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/*
 * Regions: which are mapped here, by address and by identity.
 *
 * A region is in the table as long as it has references.  The last reference is
 * only ever dropped with the lock held, so what is found in the table is alive.
 */
#define _GNU_SOURCE
#include "region.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "addrmap.h"
#include "backend.h"
#include "fork.h"

struct shmdev_region {
	struct backing backing;

	/* What file it is: the same in every process. */
	dev_t dev;
	ino_t ino;
	struct shmdev_region *next_identity;

	unsigned long refs;		/* atomic */
};

#define IDENTITIES	256

static struct {
	pthread_mutex_t lock;
	struct addrmap by_address;
	struct shmdev_region *by_identity[IDENTITIES];
	uint64_t bytes;
} table = {
	.lock = PTHREAD_MUTEX_INITIALIZER,
};

static struct shmdev_region **identity_slot(ino_t ino)
{
	return &table.by_identity[ino % IDENTITIES];
}

/* The region that @st tells of, with a reference, or NULL.  Locked. */
static struct shmdev_region *table_find(const struct stat *st)
{
	struct shmdev_region *region;

	for (region = *identity_slot(st->st_ino); region; region = region->next_identity) {
		if (region->ino != st->st_ino || region->dev != st->st_dev)
			continue;
		/* The size cannot change.  Inode numbers of 32 bits can come round. */
		if (region->backing.size != (size_t)st->st_size)
			continue;
		__atomic_add_fetch(&region->refs, 1, __ATOMIC_RELAXED);
		return region;
	}
	return NULL;
}

/* 0 or -ENOMEM.  Locked. */
static int table_insert(struct shmdev_region *region)
{
	struct shmdev_region **slot = identity_slot(region->ino);
	int err;

	err = addrmap_insert(&table.by_address, region->backing.addr, region->backing.size,
			     region);
	if (err)
		return err;
	region->next_identity = *slot;
	*slot = region;
	table.bytes += region->backing.size;
	return 0;
}

/* Locked. */
static void table_remove(struct shmdev_region *region)
{
	struct shmdev_region **at = identity_slot(region->ino);

	while (*at != region)
		at = &(*at)->next_identity;
	*at = region->next_identity;
	addrmap_remove(&table.by_address, region->backing.addr);
	table.bytes -= region->backing.size;
}

struct shmdev_region *region_create(size_t size)
{
	struct shmdev_region *region;
	struct stat st;
	int err;

	if (!size) {
		errno = EINVAL;
		return NULL;
	}

	region = calloc(1, sizeof(*region));
	if (!region)
		return NULL;
	err = backing_create(size, &region->backing);
	if (err)
		goto free_region;
	if (fstat(region->backing.fd, &st)) {
		err = -errno;
		goto drop_backing;
	}
	region->dev = st.st_dev;
	region->ino = st.st_ino;
	region->refs = 1;

	pthread_mutex_lock(&table.lock);
	err = table_insert(region);
	pthread_mutex_unlock(&table.lock);
	if (err)
		goto drop_backing;
	return region;

drop_backing:
	backing_drop(&region->backing);
free_region:
	free(region);
	errno = -err;
	return NULL;
}

/*
 * Map what @fd is, unless it is mapped.  All under the lock: two threads that open
 * one region at a time must get one mapping.
 */
static int region_open(int fd, const struct stat *st, enum shmdev_backend backend,
		       struct shmdev_region **found)
{
	struct shmdev_region *region;
	int err = 0;

	pthread_mutex_lock(&table.lock);
	region = table_find(st);
	if (region)
		goto unlock;

	region = calloc(1, sizeof(*region));
	if (!region) {
		err = -ENOMEM;
		goto unlock;
	}
	err = backing_open(fd, st->st_size, backend, &region->backing);
	if (err)
		goto free_region;
	region->dev = st->st_dev;
	region->ino = st->st_ino;
	region->refs = 1;
	err = table_insert(region);
	if (err)
		goto drop_backing;
	goto unlock;

drop_backing:
	backing_drop(&region->backing);
free_region:
	free(region);
unlock:
	pthread_mutex_unlock(&table.lock);
	if (!err)
		*found = region;
	return err;
}

void region_put(struct shmdev_region *region)
{
	unsigned long refs = __atomic_load_n(&region->refs, __ATOMIC_RELAXED);

	while (refs > 1)
		if (__atomic_compare_exchange_n(&region->refs, &refs, refs - 1, false,
						__ATOMIC_RELEASE, __ATOMIC_RELAXED))
			return;

	pthread_mutex_lock(&table.lock);
	refs = __atomic_sub_fetch(&region->refs, 1, __ATOMIC_ACQ_REL);
	if (!refs)
		table_remove(region);
	pthread_mutex_unlock(&table.lock);
	if (refs)
		return;

	/* Not under the lock: to unmap much memory takes long. */
	backing_drop(&region->backing);
	free(region);
}

const void *region_around(const void *addr, size_t len, enum shmdev_backend *backend)
{
	struct shmdev_region *region;

	pthread_mutex_lock(&table.lock);
	region = addrmap_find(&table.by_address, addr);
	if (region && len > region->backing.size -
			    (size_t)((const char *)addr - (const char *)region->backing.addr))
		region = NULL;
	if (region)
		*backend = region->backing.backend;
	pthread_mutex_unlock(&table.lock);
	return region;
}

void region_count(uint64_t *regions, uint64_t *bytes)
{
	pthread_mutex_lock(&table.lock);
	*regions = table.by_address.nr;
	*bytes = table.bytes;
	pthread_mutex_unlock(&table.lock);
}

void region_fork_prepare(void)
{
	pthread_mutex_lock(&table.lock);
}

void region_fork_parent(void)
{
	pthread_mutex_unlock(&table.lock);
}

void region_fork_child(void)
{
	pthread_mutex_unlock(&table.lock);
}

/* --- API ---------------------------------------------------------------------- */

struct shmdev_region *shmdev_region_create(size_t size, unsigned int flags)
{
	struct shmdev_region *region;
	int err = flags ? -EINVAL : fork_init();

	if (err) {
		errno = -err;
		return NULL;
	}
	fork_gate_enter();
	region = region_create(size);
	fork_gate_leave();
	return region;
}

struct shmdev_region *shmdev_region_open(int fd)
{
	struct shmdev_region *region = NULL;
	struct stat st;
	int flags, backend, err;

	flags = fcntl(fd, F_GETFL);
	if (flags < 0 || fstat(fd, &st))
		return NULL;
	if (flags & O_PATH) {
		errno = EBADF;
		return NULL;
	}

	backend = st.st_size > 0 ? backend_of(fd, &st) : -EINVAL;
	if (backend < 0)
		err = backend;
	else if ((flags & O_ACCMODE) != O_RDWR)
		err = -EACCES;
	else
		err = fork_init();

	if (!err) {
		fork_gate_enter();
		err = region_open(fd, &st, backend, &region);
		fork_gate_leave();
	}
	if (err)
		errno = -err;
	return region;
}

struct shmdev_region *shmdev_region_ref(struct shmdev_region *region)
{
	__atomic_add_fetch(&region->refs, 1, __ATOMIC_RELAXED);
	return region;
}

void shmdev_region_unref(struct shmdev_region *region)
{
	int err = errno;

	if (!region)
		return;
	fork_gate_enter();
	region_put(region);
	fork_gate_leave();
	errno = err;
}

void *shmdev_region_addr(const struct shmdev_region *region)
{
	return region->backing.addr;
}

size_t shmdev_region_size(const struct shmdev_region *region)
{
	return region->backing.size;
}

int shmdev_region_fd(const struct shmdev_region *region)
{
	return region->backing.fd;
}

enum shmdev_backend shmdev_region_backend(const struct shmdev_region *region)
{
	return region->backing.backend;
}

size_t shmdev_region_page_size(const struct shmdev_region *region)
{
	return backend_page_size(region->backing.backend);
}
