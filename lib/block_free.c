// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/* Blocks that no thread has in its slabs become free. */
#define _GNU_SOURCE
#include "block.h"

void inherited_free(struct span *span, unsigned int slot)
{
	struct arena *arena = span->arena;
	struct slab *slab = (struct slab *)span;
	uint64_t bytes = 0;

	pthread_mutex_lock(&heap.lock);
	if (arena->live < 0)
		arena->live = arena_count(arena, &bytes);
	if (READ_ONCE(span->kind) == SPAN_SLAB) {
		if (!(word_get(slab, slot) & WORD_LIVE))
			heap_die(slab_addr(slab, slot), "freed already");
		word_set(slab, slot, WORD_WITHHELD);
	} else {
		if (READ_ONCE(span->kind) != SPAN_RUN)
			heap_die(span->base, "freed already");
		WRITE_ONCE(span->kind, SPAN_WITHHELD);
	}
	if (!--arena->live)
		arena_condemn(arena);
	pthread_mutex_unlock(&heap.lock);
	condemned_drop_gated();
}

void run_free(struct run *run)
{
	struct arena *arena = run->span.arena;

	if (stash_put(run))
		return;
	pthread_mutex_lock(&heap.lock);
	if (!run_claim(run, SPAN_BUSY))
		heap_die(run->span.base, "freed already");
	if (!arena->pool) {
		arena->keep = arena->keep && run->block.epoch == heap.epoch;
		arena->high = run->span.base - arena->base + run->block.high;
		arena_condemn(arena);
	} else {
		arena_uncount(arena);
		WRITE_ONCE(heap.used, heap.used - run->span.pages * PAGE);
		if (run->block.epoch == heap.epoch) {
			run_release(run);
		} else {
			WRITE_ONCE(run->span.kind, SPAN_WITHHELD);
			WRITE_ONCE(arena->withheld, true);
		}
		arena_settle(arena);
	}
	pthread_mutex_unlock(&heap.lock);
	condemned_drop_gated();
	if (heap_purge_due())
		heap_purge();
}

