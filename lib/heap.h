/* SPDX-License-Identifier: LGPL-2.1-or-later OR MIT */
#ifndef SHMDEV_LIB_HEAP_H
#define SHMDEV_LIB_HEAP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/*
 * Whether someone may write to [@addr, @addr + @len), which is within a region: not
 * over the ends of a live block, nor into memory that the heap has yet to hand out.
 */
bool heap_check_range(const void *addr, size_t len);

void heap_count(uint64_t *blocks, uint64_t *bytes);

void heap_fork_prepare(void);
void heap_fork_parent(void);
void heap_fork_child(void);

#endif
