// SPDX-License-Identifier: GPL-2.0-only
/*
 * Seals, as memfd has them.
 *
 * For SHMDEV_SEAL_WRITE nobody may be left who could write: no mapping, which the core
 * counts in i_mmap_writable, and refuses once that is negative, before it asks us; and no
 * reference to a page, by which a pin or a mapping that is just being torn down would.
 */
#include <linux/fs.h>
#include <uapi/linux/shmdev.h>

#include "memory.h"
#include "region.h"
#include "seal.h"

bool shmdev_sealed(const struct shmdev_region *region)
{
	return READ_ONCE(region->seals) & SHMDEV_SEALS;
}

int shmdev_seal_add(struct inode *inode, u32 seals)
{
	struct shmdev_region *region = shmdev_region_of(inode);
	struct address_space *mapping = inode->i_mapping;
	int err;

	err = shmdev_region_lock(inode);
	if (err)
		return err;
	if (seals & ~region->seals & SHMDEV_SEAL_WRITE) {
		err = mapping_deny_writable(mapping);
		if (err)
			goto out_unlock;
		err = shmdev_memory_settle(mapping);
		if (err) {
			mapping_allow_writable(mapping);
			goto out_unlock;
		}
	}
	WRITE_ONCE(region->seals, region->seals | seals);
out_unlock:
	inode_unlock(inode);
	return err;
}
