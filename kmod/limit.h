/* SPDX-License-Identifier: GPL-2.0-only */
/* What all users together, and each, may have in regions. */
#ifndef SHMDEV_LIMIT_H
#define SHMDEV_LIMIT_H

#include <linux/types.h>

struct shmdev_limit_user;

struct shmdev_limit_stats {
	u64 regions;
	u64 bytes;
	u64 limit_bytes;
	u64 user_bytes;		/* of the caller */
	u64 user_limit_bytes;
};

/*
 * Count a region of @bytes in for the caller; give it back to whom was returned.
 * -EDQUOT: more than there may be, and the caller has no CAP_IPC_LOCK.
 */
struct shmdev_limit_user *shmdev_limit_charge(u64 bytes);
void shmdev_limit_uncharge(struct shmdev_limit_user *user, u64 bytes);

void shmdev_limit_read_stats(struct shmdev_limit_stats *stats);

#endif /* SHMDEV_LIMIT_H */
