// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/*
 * Runs that a thread keeps for its next block of as many pages.  What it has freed last is
 * warm in its own cache, and nobody waits for anybody.  They are in no bin and count as
 * nothing that an arena stays for: who settles an arena takes them away.
 */
#define _GNU_SOURCE
#include "alloc.h"

struct run *stash_take(uint32_t pages, size_t size)
{
	struct tcache *self = tcache_self;
	struct run *run = NULL;

	if (pages > STASH_PAGES || !READ_ONCE(self->stash.nr[pages - 1]) || !tcache_enter(self))
		return NULL;
	if (self->stash.nr[pages - 1]) {
		run = self->stash.runs[pages - 1][--self->stash.nr[pages - 1]];
		self->stash.pages -= pages;
		arena_count_in(run->span.arena);
		WRITE_ONCE(run->block.size, size);
		run->block.high = size;
		run->block.epoch = heap.epoch;
		__atomic_store_n(&run->span.kind, SPAN_RUN, __ATOMIC_RELEASE);
	}
	tcache_leave(self);
	return run;
}

bool stash_put(struct run *run)
{
	struct arena *arena = run->span.arena;
	uint32_t pages = run->span.pages;
	struct tcache *self = tcache_self;
	struct stash *stash = &self->stash;
	bool done = false;

	if (arena->pool != &heap.pool || pages > STASH_PAGES || heap.annotate ||
	    !tcache_enter(self))
		return false;
	if (run->block.epoch == heap.epoch && stash->nr[pages - 1] < STASH_RUNS &&
	    stash->pages + pages <= STASH_SUM && arena_uncount_one_of(arena)) {
		if (!run_claim(run, SPAN_STASHED))
			heap_die(run->span.base, "freed already");
		stash->runs[pages - 1][stash->nr[pages - 1]++] = run;
		stash->pages += pages;
		done = true;
	}
	tcache_leave(self);
	return done;
}

static void release(struct run *run)
{
	WRITE_ONCE(heap.used, heap.used - run->span.pages * PAGE);
	run_release(run);
}

/* What is of @arena, or all if that is NULL. */
static bool release_of(struct stash *stash, const struct arena *arena)
{
	bool any = false;

	for (uint32_t pages = 1; pages <= STASH_PAGES; pages++) {
		struct run **runs = stash->runs[pages - 1];
		uint8_t left = 0;

		for (uint8_t i = 0; i < stash->nr[pages - 1]; i++) {
			if (arena && runs[i]->span.arena != arena) {
				runs[left++] = runs[i];
				continue;
			}
			release(runs[i]);
			stash->pages -= pages;
			any = true;
		}
		WRITE_ONCE(stash->nr[pages - 1], left);
	}
	return any;
}

void stash_release(struct tcache *tcache)
{
	release_of(&tcache->stash, NULL);
}

void stash_release_of(const struct arena *arena)
{
	for (struct tcache *tcache = heap.tcaches; tcache; tcache = tcache->next)
		release_of(&tcache->stash, arena);
}

bool stash_flush(void)
{
	bool any = false;

	pthread_mutex_lock(&heap.lock);
	heap_stop();
	for (struct tcache *tcache = heap.tcaches; tcache; tcache = tcache->next)
		any |= release_of(&tcache->stash, NULL);
	heap_resume();
	pthread_mutex_unlock(&heap.lock);
	return any;
}
