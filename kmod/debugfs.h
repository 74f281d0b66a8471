/* SPDX-License-Identifier: GPL-2.0-only */
/* For root: /sys/kernel/debug/shmdev/regions, a line for each region that exists. */
#ifndef SHMDEV_DEBUGFS_H
#define SHMDEV_DEBUGFS_H

struct shmdev_region;

void shmdev_debugfs_init(void);
void shmdev_debugfs_exit(void);

/* May sleep.  A region that was not added need not be removed, but may. */
void shmdev_debugfs_add(struct shmdev_region *region);
void shmdev_debugfs_remove(struct shmdev_region *region);

#endif /* SHMDEV_DEBUGFS_H */
