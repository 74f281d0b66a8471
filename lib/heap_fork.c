// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/* What a fork() does to blocks. */
#define _GNU_SOURCE
#include "heap.h"

#include <string.h>

#include "block.h"

void heap_fork_prepare(void)
{
	pthread_mutex_lock(&heap.lock);
	heap_stop();
	/* Before the child is made: then it need not copy what this writes to. */
	__atomic_store_n(&heap.epoch, heap.epoch + 1, __ATOMIC_RELEASE);
	tcache_fork_prepare();
}

void heap_fork_parent(void)
{
	heap_resume();
	pthread_mutex_unlock(&heap.lock);
}

static bool has_block(const struct arena *arena)
{
	uint64_t bytes = 0;

	for (struct span *span = arena_first(arena); span; span = arena_next(arena, span))
		if (span_count(span, NULL, NULL, &bytes))
			return true;
	return false;
}

/*
 * The child keeps the blocks, gives up what is free to the parent, and drops the
 * arenas that have nothing else, so that it does not hold the parent's memory.
 */
void heap_fork_child(void)
{
	struct arena *arena;

	for (struct pool *pool = &heap.pool; pool; pool = pool->next) {
		memset(pool->bins, 0, sizeof(pool->bins));
		memset(pool->bins_used, 0, sizeof(pool->bins_used));
		pool->held = 0;
	}
	heap.spare = NULL;
	heap.dirty_free = heap.used = 0;
	heap.purging = false;
	heap.stopped = 0;
	tcache_fork_child();
	for (size_t i = heap.arenas.nr; i-- > 0;) {
		arena = heap.arenas.ranges[i].owner;
		arena->inherited = true;
		arena->live = -1;
		if (!has_block(arena))
			arena_condemn(arena);
	}
	kept_condemn();
	pthread_mutex_unlock(&heap.lock);
	condemned_drop();
}
