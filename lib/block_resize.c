// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/* A block becomes larger or smaller where it is. */
#define _GNU_SOURCE
#include "block.h"

#include "annotate.h"

/* The pages of a block that shall be of @size; it is in a shared arena.  Locked. */
static bool run_repage(struct run *run, size_t size)
{
	uint32_t pages = (size + PAGE - 1) / PAGE, have = run->span.pages;

	if (pages > have) {
		if (run->span.arena->inherited || !run_extend(run, pages - have))
			return false;
	} else if (pages < have) {
		/* What others know of is not given up before it is freed. */
		if (run->span.arena->inherited || run->block.epoch != heap.epoch)
			return true;
		if (run_shrink(run, pages))
			return false;
	}
	WRITE_ONCE(heap.used, heap.used + pages * PAGE - have * PAGE);
	return true;
}

/*
 * Resize a block of pages where it is, if that goes.  What is behind its old end may not
 * be zero before *@clear_to.
 */
static bool run_resize(struct run *run, size_t size, bool anyhow, size_t *clear_to)
{
	struct arena *arena = run->span.arena;
	size_t have = run->span.pages * PAGE;
	uint32_t low, high, pages;
	bool done = false;

	pthread_mutex_lock(&heap.lock);
	if (!arena->pool) {
		/* Less than a half is not worth a region any more. */
		if (size > arena->size - (run->span.base - arena->base) ||
		    (size <= arena->size / 2 && !anyhow))
			goto unlock;
		*clear_to = run->block.high;
	} else {
		if ((size > CROWDED_MAX || !run_repage(run, size)) && !anyhow)
			goto unlock;
		*clear_to = have;
		pages = run->span.pages - have / PAGE;
		if (run->span.pages * PAGE > have) {
			if (arena_dirty(arena, run->span.page + have / PAGE, pages, &low, &high))
				*clear_to = (high - run->span.page) * PAGE;
			arena_soil(arena, run->span.page + have / PAGE, pages);
		}
	}
	WRITE_ONCE(run->block.size, size);
	if (run->block.high < size)
		run->block.high = size;
	done = true;
unlock:
	pthread_mutex_unlock(&heap.lock);
	return done;
}

bool block_resize(struct span *span, unsigned int slot, const struct request *request,
		  bool anyhow)
{
	struct slab *slab = (struct slab *)span;
	size_t size = request->size, old = block_size(span, slot), clear_to = size;
	char *addr = READ_ONCE(span->kind) == SPAN_SLAB ? slab_addr(slab, slot) : span->base;

	if (heap.annotate) {
		/* It moves when it grows, so that who goes on using the old one is found. */
		if (size > old)
			return false;
		anyhow = true;
		/* At once: what is given up below can be somebody else's block right then. */
		annotate_resize(addr, old, size);
	}
	if (READ_ONCE(span->kind) == SPAN_SLAB) {
		if (size > slab->size || (size <= slab->size / 2 && !anyhow))
			return false;
		word_set(slab, slot, WORD_LIVE | (size - 1));
	} else if (!run_resize((struct run *)span, size, anyhow, &clear_to)) {
		return false;
	}
	if (clear_to > size)
		clear_to = size;
	if (old < clear_to && !request->dirty)
		arena_clear(span->arena, addr + old, clear_to - old);
	return true;
}

bool is_as_requested(const struct span *span, const void *addr, const struct request *request)
{
	const struct arena *arena = span->arena;

	if ((uintptr_t)addr % request->align || (request->own && arena->pool))
		return false;
	if (!request->placement.on_node && !request->placement.strict)
		return true;
	return placement_is(&arena->placement, &request->placement);
}
