/* SPDX-License-Identifier: GPL-2.0-only */
/* A region: one file, fully populated when it is made, mapped by huge pages. */
#ifndef SHMDEV_REGION_H
#define SHMDEV_REGION_H

#include <linux/types.h>

struct file;

struct shmdev_region_stats {
	u64 regions;
	u64 bytes;
};

/* The largest size that may be asked for. */
u64 shmdev_region_max_bytes(void);

/*
 * Make a region of @size bytes, a multiple of HPAGE_PMD_SIZE, on @nid if there is
 * room.  @strict: huge pages or -ENOMEM.  On success the caller owns the file, and
 * *@huge_bytes and *@pool_bytes say what the region is made of.
 */
struct file *shmdev_region_create(u64 size, int nid, bool strict, u64 *huge_bytes,
				  u64 *pool_bytes);

void shmdev_region_read_stats(struct shmdev_region_stats *stats);

#endif /* SHMDEV_REGION_H */
