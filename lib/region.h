/* SPDX-License-Identifier: LGPL-2.1-or-later OR MIT */
/* Regions as the rest of the library sees them; the callers hold the fork gate. */
#ifndef SHMDEV_LIB_REGION_H
#define SHMDEV_LIB_REGION_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "shmdev.h"

/* shmdev_region_create() and _unref() for callers that are behind the gate. */
struct shmdev_region *region_create(size_t size);
void region_put(struct shmdev_region *region);

/* The backend of the one mapped region that [@addr, @addr + @len) is in, or -EFAULT. */
int region_check_range(const void *addr, size_t len);

void region_count(uint64_t *regions, uint64_t *bytes);

void region_fork_prepare(void);
void region_fork_parent(void);
void region_fork_child(void);

#endif
