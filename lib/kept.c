// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/*
 * Memory of large blocks that stays for the next.  Each has a region of its own, and to
 * make one, its pages and their mappings takes ten times as long as to write numbers there
 * that are to be had: who makes large arrays from data in a loop does little else.
 *
 * Only blocks that need not be zero leave and take such memory.  It is as much as malloc(3)
 * keeps of this kind, and none that others know of, or that is short.
 */
#include "alloc.h"

/* All of them together. */
#define KEPT_MAX	(32 * MIB)

/* A block is not to have more of a region for nothing, if that is more than a page. */
#define WASTE_PART	4

static void kept_remove(struct arena **at)
{
	struct arena *arena = *at;

	WRITE_ONCE(*at, arena->next);
	heap.kept_bytes -= arena->size;
}

/* Let @arena be dropped by the next who is behind the gate.  Locked. */
static void condemn(struct arena *arena)
{
	arena->next = heap.condemned;
	WRITE_ONCE(heap.condemned, arena);
}

static void kept_condemn_oldest(void)
{
	struct arena **at = &heap.kept, *arena;

	while ((*at)->next)
		at = &(*at)->next;
	arena = *at;
	kept_remove(at);
	condemn(arena);
}

bool kept_put(struct arena *arena)
{
	/* Where there is no granule, memory was taken at once, and others may wait for it. */
	if (!arena->keep || arena->inherited || !arena->granule || heap.annotate ||
	    arena->size > KEPT_MAX)
		return false;
	while (heap.kept_bytes + arena->size > KEPT_MAX)
		kept_condemn_oldest();
	arena->next = heap.kept;
	WRITE_ONCE(heap.kept, arena);
	heap.kept_bytes += arena->size;
	return true;
}

/* Where @size bytes that are aligned begin in @arena; NULL: it is too small, or too large. */
static char *room_in(const struct arena *arena, size_t size, size_t align)
{
	uintptr_t base = (uintptr_t)arena->base, at = (base + align - 1) & ~(uintptr_t)(align - 1);

	if (at - base > arena->size || arena->size - (at - base) < size ||
	    (arena->size - size > arena->size / WASTE_PART &&
	     arena->size - size >= arena->granule))
		return NULL;
	return arena->base + (at - base);
}

struct arena *kept_take(size_t size, size_t align, const struct placement *placement,
			char **block)
{
	struct arena *arena;

	if (!READ_ONCE(heap.kept))
		return NULL;
	pthread_mutex_lock(&heap.lock);
	for (struct arena **at = &heap.kept; (arena = *at); at = &arena->next) {
		*block = room_in(arena, size, align);
		if (*block && placement_is(&arena->placement, placement)) {
			kept_remove(at);
			break;
		}
	}
	pthread_mutex_unlock(&heap.lock);
	return arena;
}

bool kept_has(const char *addr)
{
	for (const struct arena *arena = heap.kept; arena; arena = arena->next)
		if (addr >= arena->base && (size_t)(addr - arena->base) < arena->size)
			return true;
	return false;
}

void kept_condemn(void)
{
	while (heap.kept)
		kept_condemn_oldest();
}

bool kept_drop(void)
{
	if (!READ_ONCE(heap.kept))
		return false;
	pthread_mutex_lock(&heap.lock);
	kept_condemn();
	pthread_mutex_unlock(&heap.lock);
	condemned_drop();
	return true;
}
