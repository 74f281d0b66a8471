// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/* Live blocks: what is at an address, and why nothing is. */
#define _GNU_SOURCE
#include "block.h"

#include <stdio.h>
#include <stdlib.h>

#include "annotate.h"

_Noreturn void heap_die(const void *addr, const char *what)
{
	fprintf(stderr, "shmdev: shm_free(%p): %s\n", addr, what);
	abort();
}

/* Why @addr, of which the page map knows nothing that helps, is no block. */
static const char *why_not(const char *addr)
{
	const char *why = "not from shm_alloc(), or freed already";
	struct arena *arena;
	struct span *span;

	pthread_mutex_lock(&heap.lock);
	arena = addrmap_find(&heap.arenas, addr);
	if (arena) {
		span = arena_find(arena, addr);
		if ((uintptr_t)addr % SHMDEV_ALIGN)
			why = "not the start of a block";
		else if (READ_ONCE(span->kind) == SPAN_RUN)
			why = "not the start of a block";
		else if (READ_ONCE(span->kind) == SPAN_SLAB)
			why = "not the start of a live block";
		else
			why = "freed already, or never allocated";
	}
	pthread_mutex_unlock(&heap.lock);
	return why;
}

/* The span of a block that starts at @addr: a run, or a slab and its *@slot; or NULL. */
static struct span *block_find(const void *addr, unsigned int *slot)
{
	struct span *span = pagemap_get(addr);
	struct slab *slab = (struct slab *)span;

	if (!span)
		return NULL;
	switch (READ_ONCE(span->kind)) {
	case SPAN_SLAB:
		*slot = slab_slot(slab, addr);
		return addr == slab_addr(slab, *slot) && *slot < slab->slots &&
		       word_get(slab, *slot) & WORD_LIVE ? span : NULL;
	case SPAN_RUN:
		return addr == span->base ? span : NULL;
	default:
		return NULL;
	}
}

struct span *block_get(const void *addr, unsigned int *slot)
{
	struct span *span = block_find(addr, slot);
	struct slab *slab;

	if (span)
		return span;
	span = pagemap_get(addr);
	slab = (struct slab *)span;
	/* Of a slot there is more to say. */
	if (span && READ_ONCE(span->kind) == SPAN_SLAB &&
	    addr == slab_addr(slab, slab_slot(slab, addr)) &&
	    slab_slot(slab, addr) < READ_ONCE(slab->handed))
		heap_die(addr, "freed already");
	heap_die(addr, why_not(addr));
}

size_t block_size(const struct span *span, unsigned int slot)
{
	if (READ_ONCE(span->kind) == SPAN_SLAB)
		return word_size(word_get((const struct slab *)span, slot));
	return READ_ONCE(((const struct run *)span)->block.size);
}

size_t block_room(const struct span *span, unsigned int slot)
{
	const struct arena *arena = span->arena;

	/* What is behind the block is there to be run into. */
	if (heap.annotate)
		return block_size(span, slot);
	if (READ_ONCE(span->kind) == SPAN_SLAB)
		return ((const struct slab *)span)->size;
	if (!arena->pool)
		return arena->size - (span->base - arena->base);
	return span->pages * PAGE;
}

struct span *block_around(const char *addr, unsigned int *slot, char **start, size_t *size)
{
	struct arena *arena = addrmap_find(&heap.arenas, addr);
	struct span *span;
	struct slab *slab;
	uint16_t word;

	if (!arena)
		return NULL;
	span = arena_find(arena, addr);
	if (READ_ONCE(span->kind) == SPAN_RUN) {
		*start = span->base;
		*size = ((struct run *)span)->block.size;
	} else if (READ_ONCE(span->kind) == SPAN_SLAB) {
		slab = (struct slab *)span;
		*slot = slab_slot(slab, addr);
		word = word_get(slab, *slot);
		if (!(word & WORD_LIVE))
			return NULL;
		*start = slab_addr(slab, *slot);
		*size = word_size(word);
	} else {
		return NULL;
	}
	return addr >= *start && (size_t)(addr - *start) < *size ? span : NULL;
}

long span_count(const struct span *span, const char *from, const char *to, uint64_t *bytes)
{
	const struct slab *slab = (const struct slab *)span;
	uint16_t word;
	long count = 0;

	if (READ_ONCE(span->kind) == SPAN_RUN && (!to || (span->base >= from && span->base < to))) {
		*bytes += READ_ONCE(((const struct run *)span)->block.size);
		return 1;
	}
	if (READ_ONCE(span->kind) != SPAN_SLAB)
		return 0;
	for (unsigned int slot = 0; slot < slab->slots; slot++) {
		const char *addr = slab_addr(slab, slot);

		word = word_get(slab, slot);
		if (!(word & WORD_LIVE) || (to && (addr < from || addr >= to)))
			continue;
		*bytes += word_size(word);
		count++;
	}
	return count;
}

long arena_count(const struct arena *arena, uint64_t *bytes)
{
	long count = 0;

	for (struct span *span = arena_first(arena); span; span = arena_next(arena, span))
		count += span_count(span, NULL, NULL, bytes);
	return count;
}
