// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/* What a thread allocates from and frees to, and what happens when the fast way is none. */
#define _GNU_SOURCE
#include "alloc.h"

#include <errno.h>

#include "annotate.h"
#include "fork.h"

#define NONE_4	&slab_none, &slab_none, &slab_none, &slab_none
#define NONE_32	NONE_4, NONE_4, NONE_4, NONE_4, NONE_4, NONE_4, NONE_4, NONE_4

struct tcache tcache_none = { .current = { NONE_32 }, .idle = true };

__thread struct tcache *tcache_self __attribute__((tls_model("initial-exec"))) = &tcache_none;

_Static_assert(CLASSES == 32, "as many as there are above");

/* --- Threads come and go ------------------------------------------------------------------ */

static pthread_key_t key;
static bool have_key;

/* Locked. */
static struct tcache *tcache_new(void)
{
	struct tcache *tcache = meta_alloc(sizeof(*tcache));

	if (!tcache)
		return NULL;
	for (unsigned int class = 0; class < CLASSES; class++)
		tcache->current[class] = &slab_none;
	tcache->lock = (pthread_mutex_t)PTHREAD_ADAPTIVE_MUTEX_INITIALIZER_NP;
	tcache->next = heap.tcaches;
	heap.tcaches = tcache;
	return tcache;
}

/* Let @tcache be nobody's.  Locked. */
static void tcache_idle(struct tcache *tcache)
{
	for (unsigned int class = 0; class < CLASSES; class++) {
		struct slab *slab = tcache->current[class];

		if (slab != &slab_none) {
			slab_retire(slab, false);
			slab_settle(slab);
		}
	}
	tcache_mend(tcache);
	stash_release(tcache);
	tcache->next_idle = heap.idle;
	heap.idle = tcache;
	/*
	 * Who frees a slot of ours from now on sees that we are idle, and drains; what was
	 * freed before, we see.
	 */
	__atomic_store_n(&tcache->idle, true, __ATOMIC_SEQ_CST);
	tcache_drain(tcache);
}

static void thread_ends(void *argument)
{
	struct tcache *tcache = argument;

	/* Of destructors that come later, frees go to a tcache that is not theirs. */
	tcache_self = &tcache_none;
	pthread_mutex_lock(&heap.lock);
	tcache_idle(tcache);
	pthread_mutex_unlock(&heap.lock);
	condemned_drop_gated();
}

/* The key's destructor is our code, which may be of something that is unloaded. */
static __attribute__((destructor)) void library_ends(void)
{
	pthread_mutex_lock(&heap.lock);
	if (have_key)
		pthread_key_delete(key);
	have_key = false;
	pthread_mutex_unlock(&heap.lock);
}

int heap_init(void)
{
	int err = 0;

	if (__atomic_load_n(&heap.ready, __ATOMIC_ACQUIRE))
		return 0;
	err = fork_init();
	if (err)
		return err;
	pthread_mutex_lock(&heap.lock);
	if (!heap.ready) {
		for (unsigned int class = 0; class < CLASSES; class++)
			heap.common.current[class] = &slab_none;
		heap.common.idle = true;
		heap.annotate = annotate_wanted();
		/* Where there is no key left, all threads have one cache. */
		have_key = !pthread_key_create(&key, thread_ends);
		__atomic_store_n(&heap.ready, true, __ATOMIC_RELEASE);
	}
	pthread_mutex_unlock(&heap.lock);
	return 0;
}

struct tcache *tcache_get(void)
{
	struct tcache *tcache = tcache_self;

	if (tcache != &tcache_none)
		return tcache;
	pthread_mutex_lock(&heap.lock);
	if (!have_key) {
		tcache = NULL;
	} else if (heap.idle) {
		tcache = heap.idle;
		heap.idle = tcache->next_idle;
		__atomic_store_n(&tcache->idle, false, __ATOMIC_SEQ_CST);
	} else {
		tcache = tcache_new();
	}
	/* Else nobody would tell us when the thread ends. */
	if (tcache && pthread_setspecific(key, tcache)) {
		tcache_idle(tcache);
		tcache = NULL;
	}
	pthread_mutex_unlock(&heap.lock);
	if (!tcache)
		return &heap.common;
	tcache_self = tcache;
	return tcache;
}

/* --- Without heap.lock -------------------------------------------------------------------- */

bool tcache_enter(struct tcache *tcache)
{
	if (tcache == &tcache_none)
		return false;
	pthread_mutex_lock(&tcache->lock);
	if (!__atomic_load_n(&heap.stopped, __ATOMIC_ACQUIRE))
		return true;
	pthread_mutex_unlock(&tcache->lock);
	return false;
}

void tcache_leave(struct tcache *tcache)
{
	pthread_mutex_unlock(&tcache->lock);
}

void heap_stop(void)
{
	__atomic_store_n(&heap.stopped, heap.stopped + 1, __ATOMIC_RELAXED);
	if (heap.stopped > 1)
		return;
	/* Who was there before has left, who comes afterwards sees it. */
	for (struct tcache *tcache = heap.tcaches; tcache; tcache = tcache->next) {
		pthread_mutex_lock(&tcache->lock);
		pthread_mutex_unlock(&tcache->lock);
	}
}

void heap_resume(void)
{
	__atomic_store_n(&heap.stopped, heap.stopped - 1, __ATOMIC_RELEASE);
}

static void *quick_alloc(size_t size, unsigned int class, bool *dirty)
{
	struct tcache *self = tcache_self;
	struct slab *slab;

	if (!tcache_enter(self))
		return NULL;
	slab = slab_swap(self, class);
	tcache_leave(self);
	/* What fork() does to it now is what it does to who is in alloc_fast(). */
	return slab ? slab_take(slab, size, dirty) : NULL;
}

static bool quick_event(struct tcache *self, struct slab *slab)
{
	bool done;

	if (!tcache_enter(self))
		return false;
	done = slab_reuse(self, slab);
	tcache_leave(self);
	return done;
}

/* --- The slow ways ------------------------------------------------------------------------ */

void *tcache_alloc(size_t size, unsigned int class, bool *dirty)
{
	struct tcache *tcache;
	bool grown = false;
	struct slab *slab;
	void *addr;
	int err;

	addr = quick_alloc(size, class, dirty);
	if (addr)
		return addr;
	tcache = tcache_get();

	pthread_mutex_lock(&heap.lock);
	for (;;) {
		slab = slab_choose(tcache, class);
		if (slab)
			break;
		pthread_mutex_unlock(&heap.lock);
		err = pool_grow(&heap.pool, slab_pages(class), PAGE);
		grown = true;
		if (err && stash_flush())
			err = 0;
		pthread_mutex_lock(&heap.lock);
		if (err && !slab_sweep(tcache, class)) {
			pthread_mutex_unlock(&heap.lock);
			errno = -err;
			return NULL;
		}
	}
	addr = slab_take(slab, size, dirty);
	if (grown)
		pool_settle(&heap.pool);
	pthread_mutex_unlock(&heap.lock);
	condemned_drop_gated();
	return addr;
}

/* Whether it is plain that nothing follows from it that the current slab is empty. */
static bool may_stay(const struct slab *slab)
{
	const struct arena *arena = slab->span.arena;

	return READ_ONCE(arena->witness) != slab &&
	       (READ_ONCE(arena->others) || READ_ONCE(heap.spare) == arena);
}

void tcache_event(struct tcache *self, struct slab *slab)
{
	if (quick_event(self, slab))
		return;
	pthread_mutex_lock(&heap.lock);
	/* If it was the last one of its arena, another thread may have been faster. */
	if (slab->owner == self) {
		slab->torn = false;
		slab_settle(slab);
	}
	pthread_mutex_unlock(&heap.lock);
	condemned_drop_gated();
	if (heap_purge_due())
		heap_purge();
}

static void free_own(struct tcache *self, struct slab *slab, unsigned int slot)
{
	const struct arena *arena = slab->span.arena;
	bool current = slab == READ_ONCE(self->current[slab->class]), event;

	if (slab_knows(slab, slot)) {
		/* Of the first, the arena must hear. */
		event = !READ_ONCE(arena->withheld);
		slab_withhold(slab, slot);
	} else {
		event = slab_give(slab, slot) == READ_ONCE(slab->last);
	}
	if (slab_is_empty(slab))
		event |= !current || !may_stay(slab);
	/* It need not be slow for ever. */
	event |= READ_ONCE(arena->witness) == slab && READ_ONCE(arena->others);
	if (event)
		tcache_event(self, slab);
}

/* Slots of a slab whose owner is another, or idle. */
static void free_remote(struct slab *slab, unsigned int slot)
{
	struct tcache *owner = slab->owner;
	uint16_t word = word_get(slab, slot), link;
	uint32_t head = __atomic_load_n(&slab->remote, __ATOMIC_RELAXED);

	link = WORD_REMOTE | (slab_knows(slab, slot) ? WORD_KNOWN : 0);
	if (!(word & WORD_LIVE) ||
	    !__atomic_compare_exchange_n(&slab->words[slot], &word, link | head, false,
					 __ATOMIC_RELAXED, __ATOMIC_RELAXED))
		heap_die(slab_addr(slab, slot), "freed already");
	/*
	 * Release: our word, and what was done with the slot.  Acquire: if that was empty, of
	 * who has emptied it, for the sake of .next_pending.  What failed decides nothing.
	 */
	while (!__atomic_compare_exchange_n(&slab->remote, &head, slot, true,
					    __ATOMIC_ACQ_REL, __ATOMIC_RELAXED))
		word_set(slab, slot, link | head);
	if (head != REMOTE_END)
		return;

	/* The list was empty, so the slab is on no list of those that have one. */
	slab->next_pending = __atomic_load_n(&owner->pending, __ATOMIC_RELAXED);
	while (!__atomic_compare_exchange_n(&owner->pending, &slab->next_pending, slab, true,
					    __ATOMIC_SEQ_CST, __ATOMIC_RELAXED))
		;
	if (!__atomic_load_n(&owner->idle, __ATOMIC_SEQ_CST))
		return;
	pthread_mutex_lock(&heap.lock);
	if (owner->idle)
		tcache_drain(owner);
	pthread_mutex_unlock(&heap.lock);
	condemned_drop_gated();
	if (heap_purge_due())
		heap_purge();
}

void tcache_free(struct slab *slab, unsigned int slot)
{
	struct tcache *self = tcache_self;

	if (slab->owner == self)
		free_own(self, slab, slot);
	else
		free_remote(slab, slot);
}

/* --- Fork -------------------------------------------------------------------------------- */

/*
 * All fast paths off: what is live now must not be handed out again.  Threads that are in
 * the middle of one free or take a block that nobody in the child can know of.  Locked.
 */
void tcache_fork_prepare(void)
{
	for (struct tcache *tcache = heap.tcaches; tcache; tcache = tcache->next) {
		for (unsigned int class = 0; class < CLASSES; class++)
			if (tcache->current[class] != &slab_none)
				slab_retire(tcache->current[class], true);
		for (struct slab *slab = tcache->slabs; slab; slab = slab->next_of_all)
			WRITE_ONCE(slab->span.fast, NULL);
	}
}

/* The parent's threads are not here, and its slabs are not allocated from. */
void tcache_fork_child(void)
{
	heap.tcaches = heap.idle = NULL;
	heap.common.slabs = NULL;
	heap.common.pending = NULL;
	for (unsigned int class = 0; class < CLASSES; class++)
		heap.common.partial[class] = NULL;
	if (tcache_self == &tcache_none)
		return;
	tcache_self = &tcache_none;
	pthread_setspecific(key, NULL);
}
