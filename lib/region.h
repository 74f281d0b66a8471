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

/*
 * The one mapped region that all of [@addr, @addr + @len) lies in, and its backend;
 * NULL if there is none.  No reference: to compare, not to look into.
 */
const void *region_around(const void *addr, size_t len, enum shmdev_backend *backend);

void region_count(uint64_t *regions, uint64_t *bytes);

void region_fork_prepare(void);
void region_fork_parent(void);
void region_fork_child(void);

#endif
