/* SPDX-License-Identifier: GPL-2.0-only */
/* How the module is doing, in /sys/class/misc/shmdev: see kmod/ABI/sysfs-class-misc-shmdev. */
#ifndef SHMDEV_SYSFS_H
#define SHMDEV_SYSFS_H

struct attribute_group;

int shmdev_sysfs_init(void);
void shmdev_sysfs_exit(void);

/* For the device, so that they are there when user space is told of it. */
const struct attribute_group **shmdev_sysfs_groups(void);

#endif /* SHMDEV_SYSFS_H */
