// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/*
 * Runs: pages of an arena in a row, and the bins that free ones are in.
 *
 * The page map has the first and the last page of each span, so that neighbours are
 * found; of a slab all pages, so that a slot is.  No other page of it is set.
 *
 * Freed runs are taken last in, first out, because they are warm in the cache.
 */
#define _GNU_SOURCE
#include "alloc.h"

#include "annotate.h"

/* How many runs of the bin that a size falls into are looked at. */
#define BIN_TRIES	16

/* --- Bits ------------------------------------------------------------------------- */

static void bit_set(uint64_t *bits, uint32_t at)
{
	bits[at / 64] |= 1ULL << at % 64;
}

static void bit_clear(uint64_t *bits, uint32_t at)
{
	bits[at / 64] &= ~(1ULL << at % 64);
}

/* The bits of [*@from, @end) in one word; moves *@from to the next. */
static uint64_t bits_mask(uint32_t *from, uint32_t end)
{
	uint32_t nr = 64 - *from % 64;
	uint64_t mask;

	if (nr > end - *from)
		nr = end - *from;
	mask = ~0ULL >> (64 - nr) << *from % 64;
	*from += nr;
	return mask;
}

void arena_soil(struct arena *arena, uint32_t page, uint32_t nr)
{
	uint32_t end = page + nr;

	while (page < end) {
		uint64_t *word = &arena->dirty[page / 64];

		*word |= bits_mask(&page, end);
	}
}

void arena_clean(struct arena *arena, uint32_t page, uint32_t nr)
{
	uint32_t end = page + nr;

	while (page < end) {
		uint64_t *word = &arena->dirty[page / 64];

		*word &= ~bits_mask(&page, end);
	}
}

static uint32_t dirty_count(const struct arena *arena, uint32_t page, uint32_t nr)
{
	uint32_t end = page + nr, count = 0;

	while (page < end) {
		uint64_t word = arena->dirty[page / 64];

		count += __builtin_popcountll(word & bits_mask(&page, end));
	}
	return count;
}

bool arena_dirty(const struct arena *arena, uint32_t page, uint32_t nr, uint32_t *low,
		 uint32_t *high)
{
	uint32_t end = page + nr;
	bool any = false;

	while (page < end) {
		uint32_t first = page & ~63U;
		uint64_t word = arena->dirty[page / 64] & bits_mask(&page, end);

		if (!word)
			continue;
		if (!any)
			*low = first + __builtin_ctzll(word);
		*high = first + 64 - __builtin_clzll(word);
		any = true;
	}
	return any;
}

/* --- Bins ------------------------------------------------------------------------- */

static unsigned int bin_of(uint32_t pages)
{
	unsigned int log2;

	if (pages < BIN_STEPS)
		return pages;
	log2 = 31 - __builtin_clz(pages);
	return (log2 - BIN_STEPS_LOG2 + 1) * BIN_STEPS +
	       ((pages >> (log2 - BIN_STEPS_LOG2)) & (BIN_STEPS - 1));
}

/* Of @run, .bin.dirty must be right. */
static void bin_add(struct run *run)
{
	struct arena *arena = run->span.arena;
	struct pool *pool = arena->pool;
	unsigned int bin = bin_of(run->span.pages);
	struct run *next = pool->bins[bin];

	WRITE_ONCE(run->span.kind, SPAN_FREE);
	run->bin.prev = NULL;
	run->bin.next = next;
	if (next)
		next->bin.prev = run;
	pool->bins[bin] = run;
	pool->bins_used[bin / 64] |= 1ULL << bin % 64;

	if (arena->granule)
		WRITE_ONCE(heap.dirty_free, heap.dirty_free + run->bin.dirty * PAGE);
}

void bin_remove(struct run *run)
{
	struct pool *pool = run->span.arena->pool;
	unsigned int bin = bin_of(run->span.pages);

	if (run->bin.next)
		run->bin.next->bin.prev = run->bin.prev;
	if (run->bin.prev)
		run->bin.prev->bin.next = run->bin.next;
	else
		pool->bins[bin] = run->bin.next;
	if (!pool->bins[bin])
		pool->bins_used[bin / 64] &= ~(1ULL << bin % 64);
	if (run->span.arena->granule)
		WRITE_ONCE(heap.dirty_free, heap.dirty_free - run->bin.dirty * PAGE);
	WRITE_ONCE(run->span.kind, SPAN_BUSY);
}

/* A free run of at least @pages, or NULL. */
static struct run *bin_find(const struct pool *pool, uint32_t pages)
{
	unsigned int bin = bin_of(pages);
	struct run *run = pool->bins[bin];
	unsigned int word;
	uint64_t used;

	for (int tries = 0; run && tries < BIN_TRIES; tries++, run = run->bin.next)
		if (run->span.pages >= pages)
			return run;

	bin++;
	word = bin / 64;
	used = pool->bins_used[word] & ~0ULL << bin % 64;
	while (!used) {
		if (++word == BINS / 64)
			return NULL;
		used = pool->bins_used[word];
	}
	return pool->bins[word * 64 + __builtin_ctzll(used)];
}

/* How many pages there must be so that @pages of them are aligned. */
static uint32_t pages_aligned(uint32_t pages, size_t align)
{
	return align > PAGE ? pages + align / PAGE - 1 : pages;
}

bool pool_has(const struct pool *pool, uint32_t pages, size_t align)
{
	return bin_find(pool, pages_aligned(pages, align));
}

/* --- Runs ------------------------------------------------------------------------- */

/* Let @run be @pages from @page on. */
static void run_set(struct run *run, struct arena *arena, uint32_t page, uint32_t pages)
{
	run->span.fast = NULL;
	run->span.arena = arena;
	run->span.base = arena->base + page * PAGE;
	run->span.page = page;
	run->span.pages = pages;
	bit_set(arena->starts, page);
	pagemap_set(run->span.base, &run->span);
	pagemap_set(run->span.base + (pages - 1) * PAGE, &run->span);
}

/* That no page map entry is left of @run, which ceases. */
static void run_unset(struct run *run)
{
	bit_clear(run->span.arena->starts, run->span.page);
	pagemap_set(run->span.base, NULL);
	pagemap_set(run->span.base + (run->span.pages - 1) * PAGE, NULL);
}

/*
 * Cut @run, which was in a bin just now, down to @pages; what is left goes into a bin.  Needs a
 * struct.  The pages that are not zero are counted in the part that is taken, which is as much
 * work as to clear it; what is left may be large.
 */
static void run_split(struct run *run, uint32_t pages)
{
	struct arena *arena = run->span.arena;
	uint32_t page = run->span.page, rest = run->span.pages - pages;
	struct run *behind;

	if (!rest)
		return;
	run_set(run, arena, page, pages);
	behind = run_new();
	run_set(behind, arena, page + pages, rest);
	behind->bin.dirty = run->bin.dirty - dirty_count(arena, page, pages);
	bin_add(behind);
}

struct run *run_take(struct pool *pool, uint32_t pages, size_t align)
{
	struct run *run, *before;
	uint32_t skip;

	if (run_reserve(2))
		return NULL;
	run = bin_find(pool, pages_aligned(pages, align));
	if (!run)
		return NULL;
	bin_remove(run);
	skip = (-(uintptr_t)run->span.base & (align - 1)) / PAGE;
	if (skip) {
		before = run;
		run = run_new();
		run_set(run, before->span.arena, before->span.page + skip,
			before->span.pages - skip);
		run_set(before, before->span.arena, before->span.page, skip);
		run->bin.dirty = before->bin.dirty;
		before->bin.dirty = dirty_count(before->span.arena, before->span.page, skip);
		run->bin.dirty -= before->bin.dirty;
		bin_add(before);
	}
	run_split(run, pages);
	return run;
}

/* The run behind or before, if it is free. */
static struct run *free_neighbour(const struct arena *arena, uint32_t page)
{
	struct span *span;

	if (page >= arena->pages)
		return NULL;
	span = pagemap_get(arena->base + page * PAGE);
	return span && READ_ONCE(span->kind) == SPAN_FREE ? (struct run *)span : NULL;
}

/* Let @run take in @behind, which is in no bin. */
static void run_absorb(struct run *run, struct run *behind)
{
	struct arena *arena = run->span.arena;
	uint32_t pages = run->span.pages + behind->span.pages, page = run->span.page;

	run_unset(behind);
	run_unset(run);
	run_delete(behind);
	run_set(run, arena, page, pages);
}

void run_release(struct run *run)
{
	struct arena *arena = run->span.arena;
	struct run *other;
	uint32_t dirty;

	if (heap.annotate)
		annotate_closed(run->span.base, run->span.pages * PAGE);
	dirty = dirty_count(arena, run->span.page, run->span.pages);
	other = free_neighbour(arena, run->span.page + run->span.pages);
	if (other) {
		dirty += other->bin.dirty;
		bin_remove(other);
		run_absorb(run, other);
	}
	other = run->span.page ? free_neighbour(arena, run->span.page - 1) : NULL;
	if (other) {
		dirty += other->bin.dirty;
		bin_remove(other);
		run_absorb(other, run);
		run = other;
	}
	run->bin.dirty = dirty;
	bin_add(run);
}

int run_shrink(struct run *run, uint32_t pages)
{
	struct arena *arena = run->span.arena;
	uint32_t page = run->span.page, rest = run->span.pages - pages;
	struct run *behind;
	int err;

	if (!rest)
		return 0;
	err = run_reserve(1);
	if (err)
		return err;
	run_set(run, arena, page, pages);
	behind = run_new();
	run_set(behind, arena, page + pages, rest);
	run_release(behind);
	return 0;
}

bool run_extend(struct run *run, uint32_t pages)
{
	struct run *behind = free_neighbour(run->span.arena, run->span.page + run->span.pages);
	enum span_kind kind = run->span.kind;

	if (!behind || behind->span.pages < pages || run_reserve(1))
		return false;
	bin_remove(behind);
	run_split(behind, pages);
	run_absorb(run, behind);
	WRITE_ONCE(run->span.kind, kind);
	return true;
}

/* --- All of an arena ---------------------------------------------------------------- */

struct span *arena_first(const struct arena *arena)
{
	return arena->pool ? pagemap_get(arena->base) : &arena->alone->span;
}

struct span *arena_next(const struct arena *arena, const struct span *span)
{
	uint32_t page = span->page + span->pages;

	return page < arena->pages ? pagemap_get(arena->base + page * PAGE) : NULL;
}

struct span *arena_find(const struct arena *arena, const void *addr)
{
	uint32_t page = ((const char *)addr - arena->base) / PAGE, word = page / 64;
	uint64_t starts;

	if (!arena->pool)
		return &arena->alone->span;
	starts = arena->starts[word] & ~0ULL >> (63 - page % 64);
	while (!starts)		/* ends at page 0, where a span starts */
		starts = arena->starts[--word];
	page = word * 64 + 63 - __builtin_clzll(starts);
	return pagemap_get(arena->base + page * PAGE);
}
