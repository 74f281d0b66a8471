// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/* Slabs: pages with slots of one size, of one thread at a time. */
#define _GNU_SOURCE
#include "alloc.h"

#include <string.h>

struct slab slab_none;

/* --- Made and unmade ------------------------------------------------------------------ */

/* At least 16 slots: of the largest, four to a page would be a lock too often. */
uint32_t slab_pages(unsigned int class)
{
	size_t bytes = 16 * 4096;

	while (bytes / 16 < class_size(class))
		bytes *= 2;
	return bytes / PAGE;
}

static size_t known_words(const struct slab *slab)
{
	return (slab->slots + 63) / 64;
}

/*
 * A slab that was full is not used again for the first slot that is freed in it: then, where
 * blocks are exchanged all the time, each would be the only one of its slab.
 */
static unsigned int slots_worth_it(const struct slab *slab)
{
	return slab->slots / 8 + 1;
}

/* A struct for @class; NULL.  Its words are free. */
static struct slab *slab_new(unsigned int class)
{
	struct slab *slab = heap.free_slabs[class];
	unsigned int slots = slab_pages(class) * PAGE / class_size(class);
	size_t size = sizeof(*slab) + (2 * slots + 1) * sizeof(slab->words[0]);

	size = (size + 7) & ~(size_t)7;
	if (slab) {
		heap.free_slabs[class] = slab->next;
	} else {
		slab = meta_alloc(size + (slots + 63) / 64 * sizeof(*slab->known));
		if (!slab)
			return NULL;
		slab->class = class;
		slab->slots = slots;
		slab->size = class_size(class);
		slab->inverse = ((1ULL << 32) + slab->size / SHMDEV_ALIGN - 1) /
				(slab->size / SHMDEV_ALIGN);
		slab->known = (uint64_t *)((char *)slab + size);
		slab->remote = REMOTE_END;
	}
	if (slab->soiled) {
		memset(slab->words, 0, (slots + 1) * sizeof(slab->words[0]));
		slab->remote = REMOTE_END;
		slab->soiled = false;
	}
	return slab;
}

void slab_delete(struct slab *slab)
{
	WRITE_ONCE(slab->span.fast, NULL);
	WRITE_ONCE(slab->span.kind, SPAN_NONE);
	slab->owner = NULL;
	slab->next = heap.free_slabs[slab->class];
	heap.free_slabs[slab->class] = slab;
}

static void partial_add(struct slab *slab)
{
	struct slab **head = &slab->owner->partial[slab->class];

	slab->state = SLAB_PARTIAL;
	slab->prev = NULL;
	slab->next = *head;
	if (*head)
		(*head)->prev = slab;
	*head = slab;
}

static void partial_remove(struct slab *slab)
{
	if (slab->next)
		slab->next->prev = slab->prev;
	if (slab->prev)
		slab->prev->next = slab->next;
	else
		slab->owner->partial[slab->class] = slab->next;
	slab->state = SLAB_FULL;
}

static void slab_count(struct slab *slab)
{
	if (slab->counted)
		return;
	slab->counted = true;
	arena_count_in(slab->span.arena);
}

static void slab_uncount(struct slab *slab)
{
	if (!slab->counted)
		return;
	slab->counted = false;
	arena_uncount(slab->span.arena);
}

/* One for @tcache, in its list of partial ones. */
static struct slab *slab_make(struct tcache *tcache, unsigned int class)
{
	struct slab *slab = slab_new(class);
	uint32_t low, high;
	struct run *run;

	if (!slab)
		return NULL;
	run = run_take(&heap.pool, slab_pages(class), PAGE);
	if (!run) {
		slab_delete(slab);
		return NULL;
	}
	slab->span = run->span;
	slab->run = run;
	slab->clean = !arena_dirty(run->span.arena, run->span.page, run->span.pages, &low, &high);
	slab->nfree = slab->handed = slab->withheld = 0;
	slab->counted = slab->torn = slab->knows = false;
	slab->epoch = heap.epoch;
	memset(slab->known, 0, known_words(slab) * sizeof(*slab->known));
	slab->owner = tcache;
	WRITE_ONCE(heap.used, heap.used + slab->span.pages * PAGE);
	slab->prev_of_all = NULL;
	slab->next_of_all = tcache->slabs;
	if (tcache->slabs)
		tcache->slabs->prev_of_all = slab;
	tcache->slabs = slab;
	partial_add(slab);
	slab->span.kind = SPAN_SLAB;
	for (uint32_t page = 0; page < slab->span.pages; page++)
		pagemap_set(slab->span.base + page * PAGE, &slab->span);
	return slab;
}

void slab_detach(struct slab *slab)
{
	struct tcache *owner = slab->owner;

	if (slab->span.arena->witness == slab)
		WRITE_ONCE(slab->span.arena->witness, NULL);
	if (slab->state == SLAB_PARTIAL)
		partial_remove(slab);
	else if (slab->state == SLAB_CURRENT)
		WRITE_ONCE(owner->current[slab->class], &slab_none);
	slab_uncount(slab);
	WRITE_ONCE(heap.used, heap.used - slab->span.pages * PAGE);
	if (slab->next_of_all)
		slab->next_of_all->prev_of_all = slab->prev_of_all;
	if (slab->prev_of_all)
		slab->prev_of_all->next_of_all = slab->next_of_all;
	else
		owner->slabs = slab->next_of_all;
}

/* Without a live or a withheld slot.  Its words are free. */
static void slab_release(struct slab *slab)
{
	struct run *run = slab->run;
	struct span *span = &slab->span;
	size_t used = slab->handed * (size_t)slab->size;

	slab_detach(slab);
	for (uint32_t page = 1; page + 1 < span->pages; page++)
		pagemap_set(span->base + page * PAGE, NULL);
	pagemap_set(span->base, &run->span);
	pagemap_set(span->base + (span->pages - 1) * PAGE, &run->span);
	arena_soil(span->arena, span->page, (used + PAGE - 1) / PAGE);
	slab_delete(slab);
	run_release(run);
}

/* --- In use ------------------------------------------------------------------------------ */

void slab_retire(struct slab *slab, bool torn)
{
	WRITE_ONCE(slab->owner->current[slab->class], &slab_none);
	slab->torn = torn;
	if (!torn && !slab_is_empty(slab))
		slab_count(slab);
	if (torn || slab_has_room(slab))
		partial_add(slab);
	else
		slab->state = SLAB_FULL;
	slab_speed(slab);
}

/*
 * The fast path of free() knows of no withheld slots, and sees only that there is a certain
 * number of free ones.  So it is not for what may be the last of its arena, if that is the
 * current one.
 */
void slab_speed(struct slab *slab)
{
	bool fast = !READ_ONCE(slab->withheld) && !slab->torn && !slab->knows &&
		    slab->epoch == heap.epoch && slab->span.arena->witness != slab &&
		    !heap.annotate && slab->owner != &heap.common;
	unsigned int last = 0;

	if (slab->state == SLAB_PARTIAL)
		last = READ_ONCE(slab->handed);
	else if (slab->state == SLAB_FULL)
		last = slots_worth_it(slab);
	WRITE_ONCE(slab->last, last);
	WRITE_ONCE(slab->span.fast, fast ? slab->owner : NULL);
}

/* What is live is known to others, if there was a fork; what will be is not. */
static void slab_refresh(struct slab *slab)
{
	slab->torn = false;
	if (slab->epoch == heap.epoch)
		return;
	for (unsigned int slot = 0; slot < slab->handed; slot++)
		if (word_get(slab, slot) & WORD_LIVE) {
			__atomic_or_fetch(&slab->known[slot / 64], 1ULL << slot % 64,
					  __ATOMIC_RELAXED);
			slab->knows = true;
		}
	__atomic_store_n(&slab->epoch, heap.epoch, __ATOMIC_RELEASE);
}

void slab_withhold(struct slab *slab, unsigned int slot)
{
	word_set(slab, slot, WORD_WITHHELD);
	WRITE_ONCE(slab->withheld, slab->withheld + 1);
	WRITE_ONCE(slab->span.arena->withheld, true);
}

bool slab_knows(const struct slab *slab, unsigned int slot)
{
	if (__atomic_load_n(&slab->epoch, __ATOMIC_ACQUIRE) != READ_ONCE(heap.epoch))
		return true;
	return READ_ONCE(slab->known[slot / 64]) >> slot % 64 & 1;
}

void slab_tell(struct slab *slab, unsigned int slot)
{
	__atomic_or_fetch(&slab->known[slot / 64], 1ULL << slot % 64, __ATOMIC_RELAXED);
	/* The parent's was never fast here, and its owner's lock is as fork() found it. */
	if (slab->span.arena->inherited)
		return;
	pthread_mutex_lock(&slab->owner->lock);
	slab->knows = true;
	WRITE_ONCE(slab->span.fast, NULL);
	pthread_mutex_unlock(&slab->owner->lock);
}

/* Give back the current slabs that are empty: where they are, there could be nothing. */
static void tcache_trim(struct tcache *tcache)
{
	for (unsigned int class = 0; class < CLASSES; class++) {
		struct slab *slab = tcache->current[class];

		if (slab == &slab_none || !slab_is_empty(slab))
			continue;
		slab_retire(slab, false);
		slab_settle(slab);
	}
}

struct slab *slab_choose(struct tcache *tcache, unsigned int class)
{
	struct arena *arena;
	struct slab *slab;

	tcache_drain(tcache);
	if (tcache->asked) {
		WRITE_ONCE(tcache->asked, false);
		tcache_mend(tcache);
		tcache_trim(tcache);
	}

	slab = tcache->current[class];
	if (slab != &slab_none) {
		if (slab_has_room(slab))
			return slab;
		slab_retire(slab, false);
	}
	for (;;) {
		slab = tcache->partial[class];
		if (!slab)
			slab = slab_make(tcache, class);
		if (!slab)
			return NULL;
		if (slab_has_room(slab))
			break;
		partial_remove(slab);
		slab_speed(slab);
	}

	slab_refresh(slab);
	if (heap.annotate || tcache == &heap.common) {
		slab_count(slab);	/* a slot will be taken at once */
		return slab;
	}
	partial_remove(slab);
	slab_uncount(slab);
	slab->state = SLAB_CURRENT;
	arena = slab->span.arena;
	if (!READ_ONCE(arena->others) && arena != heap.spare)
		arena_watch(arena, slab);
	else
		slab_speed(slab);
	WRITE_ONCE(tcache->current[class], slab);
	return slab;
}

/* Whether @slab has nothing to it that only heap.lock could tell of. */
static bool slab_is_plain(const struct slab *slab)
{
	return !slab->torn && !READ_ONCE(slab->withheld) &&
	       slab->epoch == READ_ONCE(heap.epoch) &&
	       READ_ONCE(slab->span.arena->witness) != slab;
}

struct slab *slab_swap(struct tcache *tcache, unsigned int class)
{
	struct slab *full = tcache->current[class], *slab = tcache->partial[class];

	if (READ_ONCE(tcache->asked) || READ_ONCE(tcache->pending) || full == &slab_none)
		return NULL;
	if (slab_has_room(full))
		return full;
	if (!slab || !slab->counted || !slab_has_room(slab) || !slab_is_plain(full) ||
	    !slab_is_plain(slab))
		return NULL;
	/* Of one arena there are as many others as before. */
	if (slab->span.arena != full->span.arena) {
		if (!arena_uncount_one_of(slab->span.arena))
			return NULL;
		arena_count_in(full->span.arena);
	}
	full->counted = true;
	full->state = SLAB_FULL;
	slab_speed(full);
	slab->counted = false;
	partial_remove(slab);
	slab->state = SLAB_CURRENT;
	slab_speed(slab);
	WRITE_ONCE(tcache->current[class], slab);
	return slab;
}

bool slab_reuse(struct tcache *tcache, struct slab *slab)
{
	if (slab->owner != tcache || slab->state != SLAB_FULL || !slab->counted ||
	    slab_is_empty(slab) || !slab_is_plain(slab) ||
	    READ_ONCE(slab->span.arena->withheld) ||
	    READ_ONCE(slab->nfree) < slots_worth_it(slab))
		return false;
	partial_add(slab);
	slab_speed(slab);
	return true;
}

bool slab_sweep(struct tcache *tcache, unsigned int class)
{
	bool any = false;

	for (struct slab *slab = tcache->slabs; slab; slab = slab->next_of_all) {
		if (slab->class != class || slab->state != SLAB_FULL || !slab_has_room(slab))
			continue;
		partial_add(slab);
		slab_speed(slab);
		any = true;
	}
	return any;
}

void slab_settle(struct slab *slab)
{
	struct arena *arena = slab->span.arena;

	if (slab_is_empty(slab) && slab->state != SLAB_CURRENT) {
		if (!slab->withheld) {
			slab_release(slab);
			arena_settle(arena);
			return;
		}
		slab_uncount(slab);
	} else if (slab->state != SLAB_CURRENT) {
		/* If it was torn, it was not counted, and is not protected by that any more. */
		slab_count(slab);
	}
	if (slab->state == SLAB_FULL && READ_ONCE(slab->nfree) >= slots_worth_it(slab))
		partial_add(slab);
	/* As long as there are others, it is for them to say. */
	if (arena->witness == slab && (READ_ONCE(arena->others) || arena == heap.spare))
		WRITE_ONCE(arena->witness, NULL);
	slab_speed(slab);
	if (slab_is_empty(slab) || (arena == heap.spare && READ_ONCE(arena->withheld)))
		arena_settle(arena);
}

/*
 * Take the slots of @slab that others have freed.  Whoever is the next to free one sees that
 * the list is empty and puts the slab on the pending list: what we have read of that link
 * is to be before.
 */
static void slab_collect(struct slab *slab)
{
	uint32_t slot = __atomic_exchange_n(&slab->remote, REMOTE_END, __ATOMIC_ACQ_REL);
	uint16_t word;

	while (slot != REMOTE_END) {
		word = word_get(slab, slot);
		if (!(word & WORD_REMOTE) || word & WORD_LIVE)
			heap_die(slab_addr(slab, slot), "freed by two threads");
		if (word & WORD_KNOWN) {
			slab_withhold(slab, slot);
			WRITE_ONCE(slab->span.fast, NULL);
		} else {
			slab_give(slab, slot);
		}
		slot = word & WORD_NEXT;
	}
}

/* Those of a list: one may go because another does. */
static void slabs_settle(struct tcache *owner, struct slab *slab)
{
	for (; slab; slab = slab->next_settle)
		if (slab->owner == owner)
			slab_settle(slab);
}

/*
 * All are collected before one is settled: that may release slabs, but only such that have
 * been collected, for until then they have slots that are neither free nor withheld.
 */
void tcache_drain(struct tcache *tcache)
{
	struct slab *slab, *next, *collected = NULL;

	if (!READ_ONCE(tcache->pending))
		return;
	slab = __atomic_exchange_n(&tcache->pending, NULL, __ATOMIC_SEQ_CST);
	for (; slab; slab = next) {
		next = slab->next_pending;
		slab->next_settle = collected;
		collected = slab;
		slab_collect(slab);
	}
	slabs_settle(tcache, collected);
}

void tcache_mend(struct tcache *tcache)
{
	struct slab *torn = NULL;

	for (struct slab *slab = tcache->slabs; slab; slab = slab->next_of_all) {
		if (!slab->torn)
			continue;
		slab->torn = false;
		slab->next_settle = torn;
		torn = slab;
	}
	slabs_settle(tcache, torn);
}
