// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/*
 * Blocks: memory by the byte, in regions.  What there is of it is told in alloc.h; here
 * is what callers see.
 *
 * Blocks whose contents others may know of, because they were shared or were there at a
 * fork, are withheld when they are freed: their bytes go back with the arena.
 */
#define _GNU_SOURCE
#include "heap.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#include "alloc.h"
#include "annotate.h"

struct heap heap = {
	.lock = PTHREAD_ADAPTIVE_MUTEX_INITIALIZER_NP,
	.epoch = EPOCH_KNOWN + 1,
	.common.lock = PTHREAD_ADAPTIVE_MUTEX_INITIALIZER_NP,
};

_Noreturn void heap_die(const void *addr, const char *what)
{
	fprintf(stderr, "shmdev: shm_free(%p): %s\n", addr, what);
	abort();
}

/* --- Allocation ------------------------------------------------------------------------- */

/* As the caller wants it. */
struct request {
	size_t size;
	size_t align;
	bool dirty;		/* need not be cleared */
	bool own;		/* a region */
	struct placement placement;
};

/* What a slot or a run is to have room for. */
static size_t room_of(size_t size)
{
	return heap.annotate ? size + ANNOTATE_REDZONE : size;
}

/* The class whose slots, aligned, hold @size bytes; CLASSES if none does. */
static unsigned int class_aligned(size_t size, size_t align)
{
	unsigned int class = size > SLAB_MAX ? CLASSES : class_of(size);

	/* Slabs begin at a page. */
	if (align > PAGE)
		return CLASSES;
	while (class < CLASSES && class_size(class) % align)
		class++;
	return class;
}

static void *small_alloc(const struct request *request, unsigned int class)
{
	bool dirty;
	void *addr = tcache_alloc(request->size, class, &dirty);

	if (!addr)
		return NULL;
	if (heap.annotate)
		annotate_alloc(addr, request->size, !request->dirty);
	if (dirty && !request->dirty)
		memset(addr, 0, request->size);
	return addr;
}

/* A block of whole pages. */
static void *run_alloc(const struct request *request, bool anywhere)
{
	uint32_t pages = (room_of(request->size) + PAGE - 1) / PAGE, low = 0, high = 0;
	struct arena *arena;
	struct pool *pool;
	struct run *run;
	int err;

	if (anywhere && request->align <= PAGE) {
		run = stash_take(pages, request->size);
		if (run) {
			if (!request->dirty)
				memset(run->span.base, 0, request->size);
			return run->span.base;
		}
		/* For what is freed one day. */
		tcache_get();
	}
	pthread_mutex_lock(&heap.lock);
	pool = pool_of(&request->placement);
	if (!pool) {
		pthread_mutex_unlock(&heap.lock);
		errno = ENOMEM;
		return NULL;
	}
	for (;;) {
		run = run_take(pool, pages, request->align);
		if (run)
			break;
		pthread_mutex_unlock(&heap.lock);
		err = pool_grow(pool, pages, request->align);
		if (err && !stash_flush()) {
			errno = -err;
			return NULL;
		}
		pthread_mutex_lock(&heap.lock);
	}
	arena = run->span.arena;
	run->block.size = run->block.high = request->size;
	run->block.epoch = heap.epoch;
	WRITE_ONCE(run->span.kind, SPAN_RUN);
	arena_count_in(arena);
	WRITE_ONCE(heap.used, heap.used + pages * PAGE);
	/* From now on the block's bytes may not be zero. */
	if (!arena_dirty(arena, run->span.page, pages, &low, &high))
		low = high = 0;
	arena_soil(arena, run->span.page, pages);
	pthread_mutex_unlock(&heap.lock);

	if (heap.annotate)
		annotate_alloc(run->span.base, request->size, !request->dirty);
	if (low < high && !request->dirty) {
		size_t start = (low - run->span.page) * PAGE, end = (high - run->span.page) * PAGE;

		if (end > request->size)
			end = request->size;
		if (start < end)
			arena_clear(arena, run->span.base + start, end - start);
	}
	return run->span.base;
}

static void *alone_alloc(const struct request *request)
{
	void *addr = arena_alone(request->size, request->align, request->dirty,
				 &request->placement);

	if (addr && heap.annotate)
		annotate_alloc(addr, request->size, true);
	return addr;
}

/* Whether there are so many regions of one block that the next is to share one. */
static bool is_crowded(void)
{
	unsigned int most = 256;
	struct rlimit limit;

	if (!getrlimit(RLIMIT_NOFILE, &limit) && limit.rlim_cur / 8 < most)
		most = limit.rlim_cur / 8;
	return READ_ONCE(heap.alone) >= most;
}

static void *block_alloc(const struct request *request)
{
	bool anywhere = !request->placement.on_node && !request->placement.strict;
	unsigned int class;
	void *addr;
	int err;

	err = heap_init();
	if (err) {
		errno = -err;
		return NULL;
	}
	if (request->size > PTRDIFF_MAX - HUGE_SIZE - request->align) {
		errno = ENOMEM;
		return NULL;
	}
	if (request->own)
		return alone_alloc(request);
	if (anywhere) {
		class = class_aligned(room_of(request->size), request->align);
		if (class < CLASSES)
			return small_alloc(request, class);
	}
	if (request->size <= SHARED_MAX && request->align <= SHARED_MAX)
		return run_alloc(request, anywhere);
	if (request->size > CROWDED_MAX || request->align > CROWDED_MAX)
		return alone_alloc(request);
	if (is_crowded())
		return run_alloc(request, anywhere);
	addr = alone_alloc(request);
	if (!addr && (errno == EMFILE || errno == ENFILE))
		addr = run_alloc(request, anywhere);
	return addr;
}

/* 0 or -EINVAL. */
static int request_make(struct request *request, size_t size,
			const struct shmdev_block_options *options)
{
	const uint32_t known = SHMDEV_BLOCK_NOZERO | SHMDEV_BLOCK_OWN | SHMDEV_BLOCK_NODE |
			       SHMDEV_BLOCK_HUGE;

	*request = (struct request){
		.size = size, .align = SHMDEV_ALIGN,
	};
	if (!size)
		return -EINVAL;
	if (!options)
		return 0;
	for (size_t i = 0; i < sizeof(options->reserved) / sizeof(options->reserved[0]); i++)
		if (options->reserved[i])
			return -EINVAL;
	if (options->flags & ~known ||
	    (options->align & (options->align - 1)) || options->align > SHMDEV_ALIGN_MAX ||
	    (options->flags & SHMDEV_BLOCK_NODE ? options->node < 0 : options->node))
		return -EINVAL;
	if (options->align > SHMDEV_ALIGN)
		request->align = options->align;
	request->dirty = options->flags & SHMDEV_BLOCK_NOZERO;
	request->own = options->flags & SHMDEV_BLOCK_OWN;
	request->placement.strict = options->flags & SHMDEV_BLOCK_HUGE;
	request->placement.on_node = options->flags & SHMDEV_BLOCK_NODE;
	request->placement.node = options->node;
	return 0;
}

/* --- Live blocks ---------------------------------------------------------------------- */

/* Why @addr, of which the page map knows nothing that helps, is no block. */
static const char *why_not(const char *addr)
{
	const char *why = "not from shm_alloc()";
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

/* For one that must be there. */
static struct span *block_get(const void *addr, unsigned int *slot)
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

static size_t block_size(const struct span *span, unsigned int slot)
{
	if (READ_ONCE(span->kind) == SPAN_SLAB)
		return word_size(word_get((const struct slab *)span, slot));
	return READ_ONCE(((const struct run *)span)->block.size);
}

/* How large it may become where it is. */
static size_t block_room(const struct span *span, unsigned int slot)
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

/* The live block that @addr is in: where it starts, and its size.  Locked. */
static struct span *block_around(const char *addr, unsigned int *slot, char **start,
				 size_t *size)
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

/* --- Free ----------------------------------------------------------------------------- */

/* Live blocks of @span that start in [@from, @to), which is all if these are NULL. */
static long span_count(const struct span *span, const char *from, const char *to,
		       uint64_t *bytes)
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

static long arena_count(const struct arena *arena, uint64_t *bytes)
{
	long count = 0;

	for (struct span *span = arena_first(arena); span; span = arena_next(arena, span))
		count += span_count(span, NULL, NULL, bytes);
	return count;
}

/* A block of the parent's, which may be anywhere in an arena that we only look at. */
static void inherited_free(struct span *span, unsigned int slot)
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

static void run_free(struct run *run)
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

/* What the fast path of shm_free() does not do. */
static __attribute__((noinline)) void free_slow(void *ptr)
{
	int err = errno;
	unsigned int slot = 0;
	struct span *span;

	if (!ptr)
		return;
	span = block_get(ptr, &slot);
	if (heap.annotate)
		annotate_free(ptr, block_size(span, slot));
	if (span->arena->inherited)
		inherited_free(span, slot);
	else if (READ_ONCE(span->kind) == SPAN_SLAB)
		tcache_free((struct slab *)span, slot);
	else
		run_free((struct run *)span);
	errno = err;
}

static __attribute__((noinline)) void free_event(struct tcache *self, struct slab *slab)
{
	int err = errno;

	tcache_event(self, slab);
	errno = err;
}

/* --- Resize --------------------------------------------------------------------------- */

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

/*
 * Let the block that begins with @span be of @size, and what it grew by zero, where it is.
 * To shrink to less than a half is refused, unless it is to be @anyhow.
 */
static bool block_resize(struct span *span, unsigned int slot, const struct request *request,
			 bool anyhow)
{
	struct slab *slab = (struct slab *)span;
	size_t size = request->size, old = block_size(span, slot), clear_to = size;
	char *addr = span->base;

	if (heap.annotate) {
		/* It moves when it grows, so that who goes on using the old one is found. */
		if (size > old)
			return false;
		anyhow = true;
	}
	if (READ_ONCE(span->kind) == SPAN_SLAB) {
		addr = slab_addr(slab, slot);
		if (size > slab->size || (size <= slab->size / 2 && !anyhow))
			return false;
		word_set(slab, slot, WORD_LIVE | (size - 1));
	} else if (!run_resize((struct run *)span, size, anyhow, &clear_to)) {
		return false;
	}
	if (heap.annotate)
		annotate_resize(addr, old, size);
	if (clear_to > size)
		clear_to = size;
	if (old < clear_to && !request->dirty)
		arena_clear(span->arena, addr + old, clear_to - old);
	return true;
}

/* Whether the block at @addr is where @request could have put it. */
static bool is_as_requested(const struct span *span, const void *addr,
			    const struct request *request)
{
	const struct arena *arena = span->arena;

	if ((uintptr_t)addr % request->align || (request->own && arena->pool))
		return false;
	if (!request->placement.on_node && !request->placement.strict)
		return true;
	return placement_is(&arena->placement, &request->placement);
}

/* --- What others ask ------------------------------------------------------------------ */

bool heap_check_range(const void *addr, size_t len)
{
	const char *from = addr;
	struct arena *arena;
	struct span *span;
	unsigned int slot;
	uint64_t bytes;
	char *start;
	size_t size;
	bool good = true;

	pthread_mutex_lock(&heap.lock);
	if (block_around(from, &slot, &start, &size)) {
		good = len <= size - (size_t)(from - start);
		goto unlock;
	}
	arena = addrmap_find(&heap.arenas, from);
	if (!arena) {
		good = !kept_has(from);
		goto unlock;
	}
	/*
	 * Not in a block.  Of our own arenas nothing else may be written to.  In one
	 * of the parent's there may be blocks that only the parent knows.
	 */
	if (!arena->inherited || !arena->pool) {
		good = false;
		goto unlock;
	}
	for (span = arena_find(arena, from); span && span->base < from + len;
	     span = arena_next(arena, span))
		if (span_count(span, from, from + len, &bytes))
			good = false;
unlock:
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

/* --- Fork ----------------------------------------------------------------------------- */

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

/* --- API ------------------------------------------------------------------------------ */

/* What the fast path of shm_alloc() does not do. */
static __attribute__((noinline)) void *alloc_slow(size_t size, bool dirty)
{
	struct request request = {
		.size = size, .align = SHMDEV_ALIGN, .dirty = dirty,
	};

	if (!size) {
		errno = EINVAL;
		return NULL;
	}
	return block_alloc(&request);
}

/* memset() is for more than a few cache lines. */
static inline void clear(void *addr, size_t size)
{
	typedef long long line __attribute__((vector_size(16), may_alias));
	line *at = __builtin_assume_aligned(addr, SHMDEV_ALIGN), *end = at + (size + 15) / 16;

	if (unlikely(size > 256)) {
		memset(addr, 0, size);
		return;
	}
	do {
		at[0] = at[1] = at[2] = at[3] = (line){ 0 };
		at += 4;
	} while (at < end);
}

static inline void *alloc_fast(size_t size, bool clean)
{
	struct slab *slab;
	bool dirty;
	void *addr;

	if (unlikely(size - 1 >= SLAB_MAX))
		return alloc_slow(size, !clean);
	slab = READ_ONCE(tcache_self->current[class_of(size)]);
	addr = slab_take(slab, size, &dirty);
	if (unlikely(!addr))
		return alloc_slow(size, !clean);
	if (clean && dirty)
		clear(addr, size);
	return addr;
}

void *shm_alloc(size_t size)
{
	return alloc_fast(size, true);
}

void *shmdev_block_alloc(size_t size, unsigned int flags)
{
	if (flags & ~SHMDEV_BLOCK_NOZERO) {
		errno = EINVAL;
		return NULL;
	}
	return alloc_fast(size, !flags);
}

void *shmdev_block_alloc_with(size_t size, const struct shmdev_block_options *options)
{
	struct request request;
	int err = request_make(&request, size, options);

	if (err) {
		errno = -err;
		return NULL;
	}
	return block_alloc(&request);
}

void *shmdev_block_alloc_aligned(size_t align, size_t size)
{
	const struct shmdev_block_options options = { .align = align };

	/* In options it is whatever alignment a block has. */
	if (!align) {
		errno = EINVAL;
		return NULL;
	}
	return shmdev_block_alloc_with(size, &options);
}

void shm_free(void *ptr)
{
	struct span *span = pagemap_get(ptr);
	struct tcache *self = tcache_self;
	struct slab *slab = (struct slab *)span;
	unsigned int slot;

	if (unlikely(!span) || unlikely(READ_ONCE(span->fast) != self)) {
		free_slow(ptr);
		return;
	}
	slot = slab_slot(slab, ptr);
	if (unlikely(ptr != slab_addr(slab, slot)) ||
	    unlikely(!(word_get(slab, slot) & WORD_LIVE))) {
		free_slow(ptr);
		return;
	}
	if (unlikely(slab_give(slab, slot) == READ_ONCE(slab->last)))
		free_event(self, slab);
}

size_t shmdev_block_usable_size(const void *ptr)
{
	unsigned int slot = 0;

	if (!ptr)
		return 0;
	return block_room(block_get(ptr, &slot), slot);
}

void *shmdev_block_resize(void *ptr, size_t size, const struct shmdev_block_options *options)
{
	struct request request;
	unsigned int slot = 0;
	struct span *span;
	bool stays;
	size_t old;
	void *moved;
	int err = request_make(&request, size, options);

	if (err) {
		errno = -err;
		return NULL;
	}
	if (!ptr)
		return block_alloc(&request);
	span = block_get(ptr, &slot);
	stays = is_as_requested(span, ptr, &request);
	if (stays && block_resize(span, slot, &request, false))
		return ptr;

	old = block_size(span, slot);
	moved = block_alloc(&request);
	if (!moved) {
		/* Waste is better than an error. */
		err = errno;
		if (stays && size <= old && block_resize(span, slot, &request, true))
			return ptr;
		errno = err;
		return NULL;
	}
	memcpy(moved, ptr, old < size ? old : size);
	shm_free(ptr);
	return moved;
}

struct shmdev_region *shmdev_block_share(const void *ptr, size_t *offset)
{
	size_t left;
	struct shmdev_region *region = heap_share(ptr, offset, &left);

	if (!region)
		errno = ENOENT;
	return region;
}
