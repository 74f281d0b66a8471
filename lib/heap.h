/* SPDX-License-Identifier: LGPL-2.1-or-later OR MIT */
#ifndef SHMDEV_LIB_HEAP_H
#define SHMDEV_LIB_HEAP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct shmdev_region;
struct stretch;

/*
 * Whether someone may write to [@addr, @addr + @len), which is within a region: not
 * over the ends of a live block, nor into memory that the heap has yet to hand out.
 * @stretch, that region, becomes what else may be written to there.
 */
bool heap_check_range(const void *addr, size_t len, struct stretch *stretch);

/* The region of the live block around @ptr, as shmdev_block_share(); and the bytes left. */
struct shmdev_region *heap_share(const void *ptr, size_t *offset, size_t *left);

/* Whether the heap knows @addr; whether it is of a region that blocks share. */
bool heap_knows(const void *addr);
bool heap_shares(const void *addr);

void heap_count(uint64_t *blocks, uint64_t *bytes);

void heap_fork_prepare(void);
void heap_fork_parent(void);
void heap_fork_child(void);

#endif
