// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/* Memory that goes back to the system while its arena stays, and memory that is cleared. */
#define _GNU_SOURCE
#include "alloc.h"

#include <fcntl.h>
#include <string.h>

#include "backend.h"

/* As much that is free may stay, and a part of what is in use. */
#define KEEP_MIN	(16 * MIB)
#define KEEP_PART	4

/* Less in a row is not worth a system call. */
#define PURGE_MIN	((size_t)64 << 10)

bool heap_purge_due(void)
{
	return READ_ONCE(heap.dirty_free) > KEEP_MIN + READ_ONCE(heap.used) / KEEP_PART &&
	       !READ_ONCE(heap.purging);
}

/* What of @run can be given back: [*@start, *@end) of its arena. */
static bool run_purgeable(const struct run *run, size_t *start, size_t *end)
{
	const struct arena *arena = run->span.arena;
	uint32_t low, high;

	if (!arena->granule || run->bin.dirty * PAGE < PURGE_MIN ||
	    !arena_dirty(arena, run->span.page, run->span.pages, &low, &high))
		return false;
	/* Whole granules that are free, even if there is dirt only in a part of them. */
	*start = low * PAGE / arena->granule * arena->granule;
	if (*start < run->span.page * PAGE)
		*start = (run->span.page * PAGE + arena->granule - 1) / arena->granule *
			 arena->granule;
	*end = (high * PAGE + arena->granule - 1) / arena->granule * arena->granule;
	if (*end > (run->span.page + run->span.pages) * PAGE)
		*end = (run->span.page + run->span.pages) * PAGE / arena->granule *
		       arena->granule;
	/* At the ends there may be dirt that is in no whole granule. */
	return *start + PURGE_MIN <= *end &&
	       arena_dirty(arena, *start / PAGE, (*end - *start) / PAGE, &low, &high);
}

/* A run that is worth it, of all bins, large ones first.  Locked. */
static struct run *purgeable_find(size_t *start, size_t *end)
{
	for (struct pool *pool = &heap.pool; pool; pool = pool->next)
		for (unsigned int bin = BINS; bin-- > 0;)
			for (struct run *run = pool->bins[bin]; run; run = run->bin.next)
				if (run_purgeable(run, start, end))
					return run;
	return NULL;
}

void heap_purge(void)
{
	struct run *run;
	size_t start, end;
	bool done;

	pthread_mutex_lock(&heap.lock);
	if (heap.purging)
		goto unlock;
	WRITE_ONCE(heap.purging, true);
	while (heap.dirty_free > KEEP_MIN / 2) {
		struct arena *arena;

		run = purgeable_find(&start, &end);
		if (!run)
			break;
		arena = run->span.arena;
		bin_remove(run);
		/*
		 * It is nobody's now, and its arena cannot go.  A child that is forked here
		 * sees pages without a block.
		 */
		pthread_mutex_unlock(&heap.lock);
		done = !fallocate(shmdev_region_fd(arena->region),
				  FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, start, end - start);
		pthread_mutex_lock(&heap.lock);
		if (done)
			arena_clean(arena, start / PAGE, (end - start) / PAGE);
		run_release(run);
		arena_settle(arena);
		if (!done)
			break;
	}
	WRITE_ONCE(heap.purging, false);
unlock:
	pthread_mutex_unlock(&heap.lock);
	condemned_drop_gated();
}

/* Of the device: whole huge pages are exchanged for zeroed ones, which is less work. */
static bool clear_by_exchange(struct arena *arena, char *addr, size_t len)
{
	return shmdev_region_backend(arena->region) == SHMDEV_BACKEND_DEVICE &&
	       !fallocate(shmdev_region_fd(arena->region),
			  FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE, addr - arena->base, len);
}

void arena_clear(struct arena *arena, char *addr, size_t len)
{
	size_t before = -(size_t)(addr - arena->base) & (HUGE_SIZE - 1), whole;

	if (len > before) {
		whole = (len - before) & ~(HUGE_SIZE - 1);
		if (whole && clear_by_exchange(arena, addr + before, whole)) {
			memset(addr, 0, before);
			addr += before + whole;
			len -= before + whole;
		}
	}
	memset(addr, 0, len);
}
