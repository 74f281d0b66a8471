// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/* What the rest of the library asks of blocks. */
#define _GNU_SOURCE
#include "heap.h"

#include "block.h"
#include "region.h"

/*
 * Whether [@from, @from + @len), which begins in no block, may be written to.  Of our own
 * arenas nothing else may.  In one of the parent's there may be blocks that only the parent
 * knows.  Locked.
 */
static bool may_be_the_parents(struct arena *arena, const char *from, size_t len)
{
	struct span *span;
	uint64_t bytes;

	if (!arena->inherited || !arena->pool)
		return false;
	for (span = arena_find(arena, from); span && span->base < from + len;
	     span = arena_next(arena, span))
		if (span_count(span, from, from + len, &bytes))
			return false;
	return true;
}

bool heap_check_range(const void *addr, size_t len, struct stretch *stretch)
{
	struct arena *arena;
	unsigned int slot;
	char *start;
	size_t size;
	bool good;

	pthread_mutex_lock(&heap.lock);
	if (block_around(addr, &slot, &start, &size)) {
		stretch->start = start;
		stretch->size = size;
		good = stretch_has(stretch, addr, len);
	} else if ((arena = addrmap_find(&heap.arenas, addr))) {
		stretch->start = addr;
		stretch->size = len;
		good = may_be_the_parents(arena, addr, len);
	} else {
		good = !kept_has(addr);
	}
	pthread_mutex_unlock(&heap.lock);
	return good;
}

void heap_count(uint64_t *blocks, uint64_t *bytes)
{
	*blocks = *bytes = 0;
	pthread_mutex_lock(&heap.lock);
	for (size_t i = 0; i < heap.arenas.nr; i++)
		*blocks += arena_count(heap.arenas.ranges[i].owner, bytes);
	pthread_mutex_unlock(&heap.lock);
}

bool heap_knows(const void *addr)
{
	bool known;

	pthread_mutex_lock(&heap.lock);
	known = addrmap_find(&heap.arenas, addr) || kept_has(addr);
	pthread_mutex_unlock(&heap.lock);
	return known;
}

bool heap_shares(const void *addr)
{
	struct arena *arena;
	bool shares;

	pthread_mutex_lock(&heap.lock);
	arena = addrmap_find(&heap.arenas, addr);
	shares = arena && arena->pool;
	pthread_mutex_unlock(&heap.lock);
	return shares;
}

struct shmdev_region *heap_share(const void *ptr, size_t *offset, size_t *left)
{
	struct shmdev_region *region = NULL;
	struct slab *slab;
	struct span *span;
	unsigned int slot;
	char *start;
	size_t size;

	pthread_mutex_lock(&heap.lock);
	span = block_around(ptr, &slot, &start, &size);
	if (span) {
		slab = (struct slab *)span;
		if (READ_ONCE(span->kind) == SPAN_SLAB) {
			slab_tell(slab, slot);
		} else {
			((struct run *)span)->block.epoch = EPOCH_KNOWN;
		}
		region = shmdev_region_ref(span->arena->region);
		*offset = (const char *)ptr - span->arena->base;
		*left = size - (size_t)((const char *)ptr - start);
	}
	pthread_mutex_unlock(&heap.lock);
	return region;
}
