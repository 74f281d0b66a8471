/* SPDX-License-Identifier: GPL-2.0-only */
/* Seals: no more writing. */
#ifndef SHMDEV_SEAL_H
#define SHMDEV_SEAL_H

#include <linux/types.h>

struct inode;
struct shmdev_region;

#define SHMDEV_SEALS	(SHMDEV_SEAL_WRITE | SHMDEV_SEAL_FUTURE_WRITE)

/* Whether write(2) and the like are over; settled for who holds the inode's lock. */
bool shmdev_sealed(const struct shmdev_region *region);

/* Add @seals for ever.  -EBUSY: somebody may still write; -EINTR: a fatal signal came. */
int shmdev_seal_add(struct inode *inode, u32 seals);

#endif /* SHMDEV_SEAL_H */
