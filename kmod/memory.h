/* SPDX-License-Identifier: GPL-2.0-only */
/* The memory of a region: what its page cache holds, from the first to the last page. */
#ifndef SHMDEV_MEMORY_H
#define SHMDEV_MEMORY_H

#include <linux/types.h>

struct address_space;
struct folio;

struct shmdev_memory_request {
	u64 size;		/* a multiple of HPAGE_PMD_SIZE */
	int nid;		/* whose pool is asked */
	bool node;		/* take what the pool does not have from there, too */
	bool node_strict;	/* ... and from nowhere else */
	bool strict;		/* huge pages only */
	/* out */
	u64 huge_bytes;
	u64 pool_bytes;
};

/* Whether @size bytes can be had without taking what others live on. */
bool shmdev_memory_may_take(u64 size);

/*
 * Fill the empty @mapping with zeroed memory, charged to the caller's memory cgroup.
 * -ENOMEM, or -EINTR for a fatal signal; what has been put in stays.
 */
int shmdev_memory_populate(struct address_space *mapping, struct shmdev_memory_request *req);

/* Whether memory failure has marked a page of @folio and could not take it out. */
bool shmdev_memory_broken(struct folio *folio);

/*
 * How many of @len bytes at @pos may be read before a page that is marked so.  The core reads
 * what is in the page cache, marked or not, and the machine stops if the kernel meets it.
 */
size_t shmdev_memory_sound(struct address_space *mapping, loff_t pos, size_t len);

/*
 * Zero [@start, @end) and add to @exchanged how much of it is of the pool now.  The caller
 * holds the inode's lock.  -EINTR for a fatal signal; -EHWPOISON or -ENOMEM where broken
 * memory cannot be replaced.
 */
int shmdev_memory_zero(struct address_space *mapping, loff_t start, loff_t end, u64 *exchanged);

/*
 * Unmap all of it, and wait a moment until nobody else has a reference to any of it:
 * -EBUSY if somebody keeps one, -EINTR for a fatal signal.  The caller holds the inode's lock
 * and has seen to it that new mappings cannot write.
 */
int shmdev_memory_settle(struct address_space *mapping);

#endif /* SHMDEV_MEMORY_H */
