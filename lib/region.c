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
#include <string.h>
#include <sys/stat.h>

#include "addrmap.h"
#include "backend.h"
#include "fork.h"
#include "heap.h"

struct shmdev_region {
	struct backing backing;

	/* What file it is: the same in every process. */
	dev_t dev;
	ino_t ino;
	struct shmdev_region *next_identity;

	/* By which others get it, once it was asked for or used; else 0.  Locked. */
	unsigned char token[TOKEN_SIZE];

	unsigned long refs;		/* atomic */
	unsigned long attached;		/* how many of them are attachments; locked */
};

static const unsigned char no_token[TOKEN_SIZE];

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

/*
 * The region of @identity, with a reference, or NULL.  What can be written and what
 * can only be read are two mappings.  Locked.
 */
static struct shmdev_region *table_find(const struct region_identity *identity, bool readonly)
{
	struct shmdev_region *region;

	for (region = *identity_slot(identity->ino); region; region = region->next_identity) {
		if (region->ino != identity->ino || region->dev != identity->dev)
			continue;
		/* The size cannot change.  Inode numbers of 32 bits can come round. */
		if (region->backing.size != identity->size ||
		    region->backing.readonly != readonly)
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

struct shmdev_region *region_create(size_t size, const struct placement *placement)
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
	err = backing_create(size, placement, &region->backing);
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
static int region_open(int fd, const struct region_identity *identity,
		       enum shmdev_backend backend, bool readonly, bool attach,
		       struct shmdev_region **found)
{
	struct shmdev_region *region;
	int err = 0;

	pthread_mutex_lock(&table.lock);
	region = table_find(identity, readonly);
	if (region)
		goto unlock;

	region = calloc(1, sizeof(*region));
	if (!region) {
		err = -ENOMEM;
		goto unlock;
	}
	err = backing_open(fd, identity->size, backend, readonly, &region->backing);
	if (err)
		goto free_region;
	region->dev = identity->dev;
	region->ino = identity->ino;
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
	if (!err) {
		region->attached += attach;
		if (memcmp(identity->token, no_token, TOKEN_SIZE))
			memcpy(region->token, identity->token, TOKEN_SIZE);
		*found = region;
	}
	pthread_mutex_unlock(&table.lock);
	return err;
}

/* Open what @fd, of which @st tells, is, having made sure that it is one of ours. */
static int region_open_checked(int fd, const struct stat *st, bool readonly, bool attach,
			       const unsigned char token[TOKEN_SIZE],
			       struct shmdev_region **region)
{
	struct region_identity identity = {
		.dev = st->st_dev, .ino = st->st_ino, .size = st->st_size,
	};
	int backend = st->st_size > 0 ? backend_of(fd, st) : -EINVAL;

	if (backend < 0)
		return backend;
	if (!readonly && (fcntl(fd, F_GETFL) & O_ACCMODE) != O_RDWR)
		return -EACCES;
	memcpy(identity.token, token, TOKEN_SIZE);
	return region_open(fd, &identity, backend, readonly, attach, region);
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

bool region_around(const void *addr, size_t len, bool write, struct stretch *stretch)
{
	struct shmdev_region *region;

	*stretch = (struct stretch){ .size = 0 };
	pthread_mutex_lock(&table.lock);
	region = addrmap_find(&table.by_address, addr);
	if (region && !(write && region->backing.readonly))
		*stretch = (struct stretch){ region->backing.addr, region->backing.size, region,
					     region->backing.backend };
	pthread_mutex_unlock(&table.lock);
	return stretch_has(stretch, addr, len);
}

struct shmdev_region *region_at(const void *addr)
{
	struct shmdev_region *region;

	pthread_mutex_lock(&table.lock);
	region = addrmap_find(&table.by_address, addr);
	if (region)
		__atomic_add_fetch(&region->refs, 1, __ATOMIC_RELAXED);
	pthread_mutex_unlock(&table.lock);
	return region;
}

bool region_is_held(const struct shmdev_region *region)
{
	return __atomic_load_n(&region->refs, __ATOMIC_RELAXED) > 2;
}

int region_export(struct shmdev_region *region, struct region_identity *identity)
{
	unsigned char token[TOKEN_SIZE];
	bool known;
	int err;

	identity->dev = region->dev;
	identity->ino = region->ino;
	identity->size = region->backing.size;

	pthread_mutex_lock(&table.lock);
	memcpy(token, region->token, TOKEN_SIZE);
	pthread_mutex_unlock(&table.lock);
	known = memcmp(token, no_token, TOKEN_SIZE);
	if (!known) {
		err = backing_export(&region->backing, token);
		if (err && err != -EOPNOTSUPP)
			return err;
		known = !err;
	}
	if (!known)
		memset(token, 0, TOKEN_SIZE);
	memcpy(identity->token, token, TOKEN_SIZE);

	/* One region has one token: who comes second stores the same. */
	pthread_mutex_lock(&table.lock);
	memcpy(region->token, token, TOKEN_SIZE);
	pthread_mutex_unlock(&table.lock);
	return 0;
}

bool region_has_fd(const struct shmdev_region *region)
{
	struct stat st;

	return !fstat(region->backing.fd, &st) && st.st_dev == region->dev &&
	       st.st_ino == region->ino;
}

struct shmdev_region *region_get_known(const struct region_identity *identity, bool readonly,
				       bool attach)
{
	struct shmdev_region *region, *other = NULL;

	pthread_mutex_lock(&table.lock);
	region = table_find(identity, readonly);
	/* The token tells it from one of the same inode number that is gone. */
	if (region && memcmp(region->token, identity->token, TOKEN_SIZE)) {
		other = region;
		region = NULL;
	}
	if (region)
		region->attached += attach;
	pthread_mutex_unlock(&table.lock);
	if (other)
		region_put(other);
	return region;
}

int region_get(int fd, const struct region_identity *identity, bool readonly, bool attach,
	       struct shmdev_region **region)
{
	struct stat st;

	if (fstat(fd, &st))
		return -errno;
	if (st.st_dev != identity->dev || st.st_ino != identity->ino ||
	    (uint64_t)st.st_size != identity->size)
		return -ENOENT;
	return region_open_checked(fd, &st, readonly, attach, identity->token, region);
}

int region_reopen(const struct shmdev_region *region)
{
	int fd;

	if (!region->backing.readonly)
		return backing_reopen(&region->backing);
	fd = fcntl(region->backing.fd, F_DUPFD_CLOEXEC, 0);
	return fd < 0 ? -errno : fd;
}

bool region_detach(const void *addr)
{
	struct shmdev_region *region;

	pthread_mutex_lock(&table.lock);
	region = addrmap_find(&table.by_address, addr);
	if (region && !region->attached)
		region = NULL;
	if (region)
		region->attached--;
	pthread_mutex_unlock(&table.lock);
	if (region)
		region_put(region);
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
	const struct placement placement = { .commit = flags & SHMDEV_REGION_COMMIT };
	struct shmdev_region *region;
	int err = flags & ~SHMDEV_REGION_COMMIT ? -EINVAL : fork_init();

	if (err) {
		errno = -err;
		return NULL;
	}
	fork_gate_enter();
	region = region_create(size, &placement);
	fork_gate_leave();
	return region;
}

static struct shmdev_region *region_open_as(int fd, bool readonly)
{
	struct shmdev_region *region = NULL;
	struct stat st;
	int flags, err;

	flags = fcntl(fd, F_GETFL);
	if (flags < 0 || fstat(fd, &st))
		return NULL;
	if (flags & O_PATH) {
		errno = EBADF;
		return NULL;
	}

	err = fork_init();
	if (!err) {
		fork_gate_enter();
		err = region_open_checked(fd, &st, readonly, false, no_token, &region);
		fork_gate_leave();
	}
	if (err)
		errno = -err;
	return region;
}

struct shmdev_region *shmdev_region_open(int fd)
{
	return region_open_as(fd, false);
}

struct shmdev_region *shmdev_region_open_rdonly(int fd)
{
	return region_open_as(fd, true);
}

/*
 * The lock keeps others from finding the region, to map it anew or to fill it, while it
 * changes from one kind to the other.
 */
static int region_seal(struct shmdev_region *region, bool future)
{
	int err;

	pthread_mutex_lock(&table.lock);
	err = backing_seal(&region->backing, future);
	pthread_mutex_unlock(&table.lock);
	return err;
}

int shmdev_region_seal(struct shmdev_region *region, unsigned int flags)
{
	int err;

	if (flags & ~SHMDEV_SEAL_FUTURE)
		return -EINVAL;
	if (heap_shares(region->backing.addr))
		return -EPERM;
	err = fork_init();
	if (err)
		return err;
	fork_gate_enter();
	err = region_seal(region, flags & SHMDEV_SEAL_FUTURE);
	fork_gate_leave();
	return err;
}

int shmdev_region_rdonly(const struct shmdev_region *region)
{
	return region->backing.readonly;
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
