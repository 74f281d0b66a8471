// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/*
 * Arenas: the regions that blocks are in.
 *
 * An arena goes when no block is left in it.  Whether one is cannot be counted, because
 * slots of current slabs come and go without a lock: .others counts the spans that have
 * live blocks for certain, and only when it is 0 the few other slabs are looked at.
 */
#define _GNU_SOURCE
#include "alloc.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "annotate.h"
#include "backend.h"
#include "bounds.h"
#include "fork.h"

#define ARENA_MIN	(2 * MIB)
#define ARENA_CHEAP	(32 * MIB)
#define ARENA_MAX	((size_t)64 << 30)

/* From here on an arena whose memory is taken at once is only a part of what is held. */
#define DEAR_MAX	(32 * MIB)
#define DEAR_PART	4

/* The largest that is kept without a block. */
#define SPARE_MAX	(32 * MIB)

/* --- Made and dropped ------------------------------------------------------------------ */

static void arena_drop(struct arena *arena)
{
	if (heap.annotate)
		annotate_open(shmdev_region_addr(arena->region), arena->size);
	region_put(arena->region);
	free(arena);
}

/* What parts of a region's free memory can be given back, and are zero afterwards. */
static size_t granule_of(const struct shmdev_region *region)
{
	struct limits limits;

	/* What was allocated at once must stay. */
	if (limits_get(&limits) || limits.commit)
		return 0;
	switch (shmdev_region_backend(region)) {
	case SHMDEV_BACKEND_THP:
		return HUGE_SIZE;	/* a part of one would split it */
	case SHMDEV_BACKEND_MEMFD:
		return sysconf(_SC_PAGESIZE);
	default:
		/*
		 * Huge pages of hugetlbfs were reserved; one that is punched may not come
		 * back.  The device has no holes: its regions are given back whole.
		 */
		return 0;
	}
}

/* An arena of at least @size bytes, known to nobody yet; NULL + errno. */
static struct arena *arena_make(size_t size, struct pool *pool,
				const struct placement *placement)
{
	struct shmdev_region *region;
	struct arena *arena;
	size_t words;

	region = region_create(size, placement);
	/* What we have ourselves for no block may be what is missing. */
	if (!region && kept_drop())
		region = region_create(size, placement);
	if (!region)
		return NULL;
	size = shmdev_region_size(region);
	words = pool ? (size / PAGE + 63) / 64 : 0;
	arena = calloc(1, sizeof(*arena) + 2 * words * sizeof(uint64_t));
	if (!arena) {
		region_put(region);
		errno = ENOMEM;
		return NULL;
	}
	arena->region = region;
	arena->base = shmdev_region_addr(region);
	arena->size = size;
	arena->pool = pool;
	arena->placement = *placement;
	arena->pages = pool ? size / PAGE : 0;
	arena->starts = arena->bits;
	arena->dirty = arena->bits + words;
	arena->granule = granule_of(region);
	return arena;
}

/* Let blocks come from @arena.  0 or -ENOMEM.  Locked. */
static int arena_install(struct arena *arena)
{
	struct pool *pool = arena->pool;
	struct run *run;
	int err;

	err = run_reserve(1);
	if (!err)
		err = pagemap_reserve(arena->base, arena->size);
	if (!err)
		err = addrmap_insert(&heap.arenas, arena->base, arena->size, arena);
	if (err)
		return err;
	run = run_new();
	run->span.fast = NULL;
	run->span.arena = arena;
	run->span.base = arena->base;
	run->span.page = 0;
	run->span.pages = arena->pages;
	arena->starts[0] = 1;
	pagemap_set(arena->base, &run->span);
	pagemap_set(arena->base + (arena->pages - 1) * PAGE, &run->span);
	WRITE_ONCE(pool->held, pool->held + arena->size);
	WRITE_ONCE(pool->cheap, arena->granule != 0);
	run_release(run);
	if (!heap.spare && pool == &heap.pool && arena->size <= SPARE_MAX)
		WRITE_ONCE(heap.spare, arena);
	return 0;
}

/*
 * The next arena.  Where memory costs nothing until it is touched, as large as all before
 * it together, and never small but the first: few descriptors, however much is allocated.
 * Where it is taken at once, that only as long as it is little.  Where that is not to be
 * had, less.
 */
static struct arena *arena_grow(struct pool *pool, size_t held, size_t needed)
{
	bool cheap = READ_ONCE(pool->cheap);
	size_t size = held;
	struct arena *arena;

	if (!cheap && size > DEAR_MAX)
		size = size / DEAR_PART > DEAR_MAX ? size / DEAR_PART : DEAR_MAX;
	if (cheap && size < ARENA_CHEAP)
		size = ARENA_CHEAP;
	if (size > ARENA_MAX)
		size = ARENA_MAX;
	if (size < ARENA_MIN)
		size = ARENA_MIN;
	if (needed < ARENA_MIN)
		needed = ARENA_MIN;
	if (size < needed)
		size = needed;
	for (;;) {
		arena = arena_make(size, pool, &pool->placement);
		if (arena || (errno != ENOMEM && errno != EFBIG && errno != EDQUOT) ||
		    size == needed)
			return arena;
		size = size / 2 > needed ? size / 2 : needed;
	}
}

int pool_grow(struct pool *pool, uint32_t pages, size_t align)
{
	/* What begins at a page may take one alignment more. */
	size_t needed = pages * PAGE + (align > PAGE ? align : 0), held;
	struct arena *arena;
	int err;

	err = fork_init();
	if (err)
		return err;
	fork_gate_enter();
	held = READ_ONCE(pool->held);
	arena = arena_grow(pool, held, needed);
	if (!arena) {
		err = -errno;
		goto leave;
	}
	pthread_mutex_lock(&heap.lock);
	/* Others may have freed something in the meantime, or grown the heap. */
	if (!pool_has(pool, pages, align)) {
		err = arena_install(arena);
		if (!err)
			arena = NULL;
	}
	pthread_mutex_unlock(&heap.lock);
	if (arena)
		arena_drop(arena);
leave:
	fork_gate_leave();
	return err;
}

struct pool *pool_of(const struct placement *placement)
{
	struct pool *pool = &heap.pool;

	for (; pool; pool = pool->next)
		if (placement_is(&pool->placement, placement))
			return pool;
	pool = meta_alloc(sizeof(*pool));
	if (!pool)
		return NULL;
	pool->placement = *placement;
	pool->next = heap.pool.next;
	heap.pool.next = pool;
	return pool;
}

/* --- Alone ------------------------------------------------------------------------------ */

/* With a region in which @size bytes are aligned; they begin at *@block. */
static struct arena *arena_make_aligned(size_t size, size_t align,
					const struct placement *placement, char **block)
{
	struct arena *arena = arena_make(size, NULL, placement);

	if (!arena)
		return NULL;
	*block = (char *)(((uintptr_t)arena->base + align - 1) & ~(uintptr_t)(align - 1));
	if (*block == arena->base)
		return arena;
	arena_drop(arena);
	if (size > PTRDIFF_MAX - align) {
		errno = ENOMEM;
		return NULL;
	}
	arena = arena_make(size + align, NULL, placement);
	if (arena)
		*block = (char *)(((uintptr_t)arena->base + align - 1) &
				  ~(uintptr_t)(align - 1));
	return arena;
}

void *arena_alone(size_t size, size_t align, bool dirty, const struct placement *placement)
{
	struct arena *arena = NULL;
	struct run *run;
	char *block = NULL;
	int err;

	err = fork_init();
	if (err) {
		errno = -err;
		return NULL;
	}
	fork_gate_enter();
	if (dirty)
		arena = kept_take(size, align, placement, &block);
	if (!arena)
		arena = arena_make_aligned(size, align, placement, &block);
	if (!arena) {
		block = NULL;	/* where one would have been */
		goto leave;
	}
	pthread_mutex_lock(&heap.lock);
	err = run_reserve(1);
	if (!err)
		err = pagemap_reserve(block, 1);
	if (!err)
		err = addrmap_insert(&heap.arenas, arena->base, arena->size, arena);
	if (!err) {
		run = run_new();
		run->span.fast = NULL;
		run->span.arena = arena;
		run->span.base = block;
		run->span.page = run->span.pages = 0;
		run->block.size = run->block.high = size;
		if (arena->high > (size_t)(block - arena->base) + size)
			run->block.high = arena->high - (block - arena->base);
		run->block.epoch = heap.epoch;
		arena->keep = dirty;
		arena->alone = run;
		WRITE_ONCE(heap.alone, heap.alone + 1);
		WRITE_ONCE(run->span.kind, SPAN_RUN);
		pagemap_set(block, &run->span);
		if (heap.annotate)
			annotate_closed(arena->base, arena->size);
	}
	pthread_mutex_unlock(&heap.lock);
	if (err) {
		arena_drop(arena);
		errno = -err;
		block = NULL;
	}
leave:
	fork_gate_leave();
	return block;
}

/* --- Emptied ------------------------------------------------------------------------------ */

static bool span_has_block(const struct span *span)
{
	return READ_ONCE(span->kind) == SPAN_RUN ||
	       (READ_ONCE(span->kind) == SPAN_SLAB && !slab_is_empty((const struct slab *)span));
}

bool arena_is_empty(const struct arena *arena)
{
	if (READ_ONCE(arena->others))
		return false;
	for (struct span *span = arena_first(arena); span; span = arena_next(arena, span))
		if (span_has_block(span) || READ_ONCE(span->kind) == SPAN_BUSY)
			return false;
	return true;
}

/* Of a slab that may be of another thread. */
static void slab_speed_any(struct slab *slab)
{
	pthread_mutex_lock(&slab->owner->lock);
	slab_speed(slab);
	pthread_mutex_unlock(&slab->owner->lock);
}

void arena_watch(struct arena *arena, struct slab *slab)
{
	struct slab *before = arena->witness;

	WRITE_ONCE(arena->witness, slab);
	if (before)
		slab_speed_any(before);
	if (slab)
		slab_speed_any(slab);
}

/* Let @arena be kept when it is empty, and no other. */
static void arena_spare(struct arena *arena)
{
	struct arena *before = heap.spare;

	WRITE_ONCE(heap.spare, arena);
	arena_watch(arena, NULL);
	/* That one is in use; when it is no longer, it is to be noticed. */
	if (before)
		arena_settle(before);
}

/* Of @arena there is no other span; nobody is in a tcache. */
static void settle_stopped(struct arena *arena)
{
	struct slab *slab;
	struct span *span;

	stash_release_of(arena);
	for (span = arena_first(arena); span; span = arena_next(arena, span)) {
		if (READ_ONCE(span->kind) == SPAN_BUSY)
			return;
		if (!span_has_block(span))
			continue;
		/* The last of that one is not to go unnoticed. */
		if (READ_ONCE(span->kind) != SPAN_SLAB)
			return;
		slab = (struct slab *)span;
		arena_watch(arena, slab);
		/*
		 * Its owner may be freeing that one just now, and have looked at .fast
		 * before and not see that it is empty.  To exclude that would take a fence
		 * in each free().  So the owner looks again when it next has no slot for
		 * an alloc(), or ends; until then the arena, without a block, may stay.
		 */
		if (slab->owner != tcache_self)
			WRITE_ONCE(slab->owner->asked, true);
		return;
	}

	/* A larger one is better: it has room for what was in both. */
	if (!READ_ONCE(arena->withheld) && arena->size <= SPARE_MAX && arena->pool == &heap.pool &&
	    (!heap.spare || arena->size > heap.spare->size || !arena_is_empty(heap.spare))) {
		arena_spare(arena);
		return;
	}
	/* What looks empty and another thread takes slots from, may not be.  It is to look. */
	for (span = arena_first(arena); span; span = arena_next(arena, span)) {
		slab = (struct slab *)span;
		if (READ_ONCE(span->kind) == SPAN_SLAB && (slab->state == SLAB_CURRENT || slab->torn) &&
		    slab->owner != tcache_self && !slab->owner->idle) {
			WRITE_ONCE(slab->owner->asked, true);
			return;
		}
	}
	arena_condemn(arena);
}

void arena_settle(struct arena *arena)
{
	if (arena == heap.spare) {
		if (!READ_ONCE(arena->withheld))
			return;
		/* Who keeps the last run of it for that reason is to have done so before. */
		heap_stop();
		WRITE_ONCE(heap.spare, NULL);
	} else {
		if (READ_ONCE(arena->others))
			return;
		heap_stop();
	}
	if (!READ_ONCE(arena->others))
		settle_stopped(arena);
	heap_resume();
}

void pool_settle(struct pool *pool)
{
	struct arena *arena;

	for (size_t i = heap.arenas.nr; i-- > 0;) {
		/* With one that is settled, another may go. */
		if (i >= heap.arenas.nr)
			continue;
		arena = heap.arenas.ranges[i].owner;
		if (arena->pool == pool && !arena->inherited && arena_is_empty(arena))
			arena_settle(arena);
	}
}

void arena_count_in(struct arena *arena)
{
	__atomic_add_fetch(&arena->others, 1, __ATOMIC_RELAXED);
}

void arena_uncount(struct arena *arena)
{
	__atomic_sub_fetch(&arena->others, 1, __ATOMIC_RELAXED);
}

bool arena_uncount_one_of(struct arena *arena)
{
	uint32_t others = READ_ONCE(arena->others);
	uint32_t least = READ_ONCE(heap.spare) == arena && !READ_ONCE(arena->withheld) ? 0 : 1;

	do {
		if (others <= least)
			return false;
	} while (!__atomic_compare_exchange_n(&arena->others, &others, others - 1, true,
					      __ATOMIC_RELAXED, __ATOMIC_RELAXED));
	return true;
}

/* Take @arena out of everything. */
void arena_condemn(struct arena *arena)
{
	struct span *span, *next;
	struct slab *slab;

	addrmap_remove(&heap.arenas, arena->base);
	for (span = arena_first(arena); span; span = next) {
		next = arena_next(arena, span);
		pagemap_set(span->base, NULL);
		if (span->pages)
			pagemap_set(span->base + (span->pages - 1) * PAGE, NULL);
		if (READ_ONCE(span->kind) != SPAN_SLAB) {
			if (READ_ONCE(span->kind) == SPAN_FREE && !arena->inherited)
				bin_remove((struct run *)span);
			run_delete((struct run *)span);
			continue;
		}
		slab = (struct slab *)span;
		if (!arena->inherited)
			slab_detach(slab);
		for (uint32_t page = 1; page < span->pages; page++)
			pagemap_set(span->base + page * PAGE, NULL);
		slab->soiled = true;
		run_delete(slab->run);
		slab_delete(slab);
	}
	if (!arena->pool)
		WRITE_ONCE(heap.alone, heap.alone - 1);
	else if (!arena->inherited)
		WRITE_ONCE(arena->pool->held, arena->pool->held - arena->size);
	if (heap.spare == arena)
		WRITE_ONCE(heap.spare, NULL);
	if (kept_put(arena))
		return;
	arena->next = heap.condemned;
	WRITE_ONCE(heap.condemned, arena);
}

void condemned_drop(void)
{
	struct arena *arena, *next;

	pthread_mutex_lock(&heap.lock);
	arena = heap.condemned;
	WRITE_ONCE(heap.condemned, NULL);
	pthread_mutex_unlock(&heap.lock);

	for (; arena; arena = next) {
		next = arena->next;
		arena_drop(arena);
	}
}

void condemned_drop_gated(void)
{
	if (!READ_ONCE(heap.condemned))
		return;
	fork_gate_enter();
	condemned_drop();
	fork_gate_leave();
}
