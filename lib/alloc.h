/* SPDX-License-Identifier: LGPL-2.1-or-later OR MIT */
/*
 * The allocator's own data.  None of it is in shared memory.
 *
 *   arena	a region that blocks share, divided into spans of whole pages; or the region
 *		of one block
 *   span	a slab, a run (one block of whole pages), or free pages
 *   slab	slots of one size class
 *   tcache	what one thread has: it alone takes slots of its slabs, without a lock
 *
 * heap.lock guards all of it, but these, by which blocks come and go without it:
 *
 *   - the owner of a slab changes .nfree, .handed, .withheld and .stack, and words of
 *     slots that are not live.  Others may read the counters, for a guess;
 *   - whoever frees a slot of somebody else's slab turns its word into a link of the list
 *     .remote and, if that was empty, puts the slab on the owner's list .pending.  Only
 *     who has taken the slab from there, with the lock held, may take .remote;
 *   - tcache.current[] and span.fast are written with the lock held, and read without by
 *     the owner.  So fork() and others can turn a slab's fast path off;
 *   - a thread that has entered its tcache, which takes that one's lock only, exchanges its
 *     current slab for another one of its own, puts a full one back to use, and takes and
 *     keeps runs.  By none of it does an arena become one that may go.  Who holds
 *     heap.lock and looks at all there is in an arena stops that first, by heap_stop();
 *     who changes one slab of another's has that one's lock, too.
 *
 * A tcache whose thread is gone is idle: anybody with the lock is its owner then, and the
 * next thread gets it, slabs and all.
 *
 * Structs of spans and tcaches are never given back: a pointer found in the page map by
 * one who should not have looked is to a struct of its kind, and the word of the slot says
 * what is wrong.
 */
#ifndef SHMDEV_LIB_ALLOC_H
#define SHMDEV_LIB_ALLOC_H

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "addrmap.h"
#include "backend.h"
#include "pagemap.h"
#include "region.h"
#include "shmdev.h"

#define likely(condition)	__builtin_expect(!!(condition), 1)
#define unlikely(condition)	__builtin_expect(!!(condition), 0)

#define READ_ONCE(x)		__atomic_load_n(&(x), __ATOMIC_RELAXED)
#define WRITE_ONCE(x, value)	__atomic_store_n(&(x), value, __ATOMIC_RELAXED)

#define MIB			((size_t)1 << 20)
#define CACHE_LINE		64

/* --- Sizes ---------------------------------------------------------------------- */

/* Blocks up to this are slots of slabs; up to that share regions, if they may. */
#define SLAB_MAX	((size_t)32 << 10)
#define SHARED_MAX	((size_t)1 << 20)

/* Where descriptors are short, larger ones share regions, too. */
#define CROWDED_MAX	((size_t)64 << 20)

/* The multiples of 64 up to 512, then four classes to a doubling. */
#define CLASSES		32

static inline unsigned int class_of(size_t size)
{
	size_t grains = (size - 1) / SHMDEV_ALIGN;
	unsigned int log2;

	if (grains < 8)
		return grains;
	log2 = 63 - __builtin_clzl(grains);
	return 4 * log2 - 4 + (grains >> (log2 - 2) & 3);
}

static inline size_t class_size(unsigned int class)
{
	unsigned int doublings = (class - 8) / 4, step = (class - 8) % 4 + 1;

	if (class < 8)
		return (class + 1) * (size_t)SHMDEV_ALIGN;
	return ((8UL << doublings) + (2UL << doublings) * step) * SHMDEV_ALIGN;
}

/* --- Spans ----------------------------------------------------------------------- */

enum span_kind {
	SPAN_NONE,		/* not in use */
	SPAN_FREE,		/* in a bin */
	SPAN_BUSY,		/* in the hands of a thread: on its way from or to a bin */
	SPAN_SLAB,
	SPAN_RUN,		/* a block */
	SPAN_STASHED,		/* was one, and a thread keeps it for the next */
	SPAN_WITHHELD,		/* was a block, known to others */
};

/* Begins a struct run or a struct slab.  Ordered by what a free() looks at first. */
struct span {
	struct tcache *fast;	/* whose free() may be fast; NULL, if nobody's */
	char *base;
	struct arena *arena;
	uint32_t page, pages;	/* in the arena; 0 if it has the arena to itself */
	enum span_kind kind;
};

struct run {
	struct span span;
	union {
		struct {
			struct run *next, *prev;
			uint32_t dirty;	/* pages that may not be zero */
		} bin;			/* SPAN_FREE */
		struct {
			size_t size;	/* as asked for */
			size_t high;	/* the most it ever was */
			uint64_t epoch;	/* of its birth, or EPOCH_KNOWN */
		} block;		/* SPAN_RUN */
	};
};

enum slab_state {
	SLAB_CURRENT,		/* what its owner takes slots from */
	SLAB_PARTIAL,		/* in the owner's list */
	SLAB_FULL,		/* in no list; has few slots at most */
};

/*
 * The word of a slot: WORD_LIVE with one less than the size that was asked for;
 * WORD_REMOTE, freed by another thread, with the next of such slots in the list, and with
 * WORD_KNOWN if it must be withheld; or one of the other two.
 */
#define WORD_FREE	0x0000
#define WORD_WITHHELD	0x0001
#define WORD_LIVE	0x8000
#define WORD_REMOTE	0x4000
#define WORD_KNOWN	0x2000
#define WORD_NEXT	0x07ff

#define REMOTE_END	WORD_NEXT

struct slab {
	/* What all look at, and nobody changes as long as slots only come and go. */
	struct span span;
	uint32_t size;
	uint16_t slots;
	uint8_t class;
	bool clean;			/* slots from .handed on are zero */
	uint64_t inverse;		/* 2^32 / (size / SHMDEV_ALIGN), rounded up */
	struct tcache *owner;

	/* What its owner changes: in a cache line of its own, as others free slots, too. */
	uint16_t nfree __attribute__((aligned(CACHE_LINE)));	/* slots on the stack */
	uint16_t handed;		/* slots below this have been on it, or out */
	uint16_t last;			/* .nfree when it is to be settled; 0: never */
	uint16_t withheld;		/* slots */
	bool counted;			/* in arena.others */
	bool torn;			/* no longer current, which its owner may not know */
	bool soiled;			/* words are left over */
	bool knows;			/* has bits in .known */
	enum slab_state state;
	uint64_t epoch;			/* live slots of this epoch that are not .known ... */
	uint64_t *known;		/* ... are nobody else's */
	struct run *run;		/* the pages, for when they are free again */
	struct slab *next_settle;
	struct slab *next, *prev;	/* partial ones */
	struct slab *next_of_all, *prev_of_all;

	/* What others change. */
	uint32_t remote __attribute__((aligned(CACHE_LINE)));	/* atomic: first slot they freed */
	struct slab *next_pending;	/* of the tcache */

	uint16_t words[];		/* one more, which is free; then the stack */
};

static inline uint16_t *slab_stack(struct slab *slab)
{
	return slab->words + slab->slots + 1;
}

static inline uint16_t word_get(const struct slab *slab, unsigned int slot)
{
	return READ_ONCE(slab->words[slot]);
}

static inline void word_set(struct slab *slab, unsigned int slot, uint16_t word)
{
	WRITE_ONCE(slab->words[slot], word);
}

static inline size_t word_size(uint16_t word)
{
	return (word & ~WORD_LIVE) + 1;
}

/* The slot that starts at @addr in pages of @slab; of another address, any. */
static inline unsigned int slab_slot(const struct slab *slab, const void *addr)
{
	size_t offset = (const char *)addr - slab->span.base;

	return offset / SHMDEV_ALIGN * slab->inverse >> 32;
}

static inline char *slab_addr(const struct slab *slab, unsigned int slot)
{
	return slab->span.base + (size_t)slot * slab->size;
}

/* A slot for @size bytes, for the owner; *@dirty if it may not be zero.  Or NULL. */
static inline void *slab_take(struct slab *slab, size_t size, bool *dirty)
{
	unsigned int nfree = READ_ONCE(slab->nfree), slot;

	if (likely(nfree)) {
		slot = slab_stack(slab)[nfree - 1];
		WRITE_ONCE(slab->nfree, nfree - 1);
		*dirty = true;
	} else {
		slot = READ_ONCE(slab->handed);
		if (unlikely(slot == slab->slots))
			return NULL;
		WRITE_ONCE(slab->handed, slot + 1);
		*dirty = !slab->clean;
	}
	word_set(slab, slot, WORD_LIVE | (size - 1));
	return slab_addr(slab, slot);
}

/* Take back @slot, which was live, for the owner.  How many there are now. */
static inline unsigned int slab_give(struct slab *slab, unsigned int slot)
{
	unsigned int nfree = READ_ONCE(slab->nfree);

	word_set(slab, slot, WORD_FREE);
	slab_stack(slab)[nfree] = slot;
	WRITE_ONCE(slab->nfree, nfree + 1);
	return nfree + 1;
}

static inline bool slab_has_room(const struct slab *slab)
{
	return READ_ONCE(slab->nfree) || READ_ONCE(slab->handed) < slab->slots;
}

/* Whether no block is in it: certain for the owner, a guess for others. */
static inline bool slab_is_empty(const struct slab *slab)
{
	return READ_ONCE(slab->nfree) + READ_ONCE(slab->withheld) == READ_ONCE(slab->handed);
}

/* --- Thread caches ---------------------------------------------------------------- */

/* Runs that a thread keeps are of so many pages at most, and of each number so many. */
#define STASH_PAGES	32
#define STASH_RUNS	8

/* And together of no more. */
#define STASH_SUM	((uint32_t)(MIB / PAGE))

struct stash {
	uint32_t pages;
	uint8_t nr[STASH_PAGES];
	struct run *runs[STASH_PAGES][STASH_RUNS];	/* the last kept is the last */
};

struct tcache {
	struct slab *current[CLASSES];	/* or &slab_none */
	struct slab *pending;		/* atomic: slabs with slots that others freed */
	bool idle;			/* atomic: no thread's */
	bool asked;			/* to give back what is empty */
	pthread_mutex_t lock;		/* of who has entered it; below heap.lock */
	struct stash stash;
	struct slab *partial[CLASSES];
	struct slab *slabs;
	struct tcache *next;		/* of all */
	struct tcache *next_idle;
};

/* Has no slot; stands where there is no slab.  Has no slab; where there is no tcache. */
extern struct slab slab_none;
extern struct tcache tcache_none;

/* Of this thread.  A pointer: of what a dlopen()ed library may have, it is little. */
extern __thread struct tcache *tcache_self __attribute__((tls_model("initial-exec")));

/* --- Arenas ------------------------------------------------------------------------ */

/*
 * Bins: one for each number of pages below 16, then 16 for each power of two.  All
 * that is in a higher bin than the one a size falls into is large enough for it.
 */
#define BIN_STEPS_LOG2	4
#define BIN_STEPS	(1U << BIN_STEPS_LOG2)
#define BINS		(32U * BIN_STEPS)

/* The free pages of arenas whose memory is of one kind. */
struct pool {
	struct placement placement;
	struct run *bins[BINS];
	uint64_t bins_used[BINS / 64];
	size_t held;		/* bytes of arenas that we allocate from */
	bool cheap;		/* the last one's takes none until it is touched */
	struct pool *next;
};

static inline bool placement_is(const struct placement *a, const struct placement *b)
{
	return a->strict == b->strict && a->on_node == b->on_node && a->node == b->node;
}

struct arena {
	struct shmdev_region *region;	/* one reference */
	char *base;
	size_t size;
	struct pool *pool;	/* NULL: of one block */
	struct placement placement;
	struct run *alone;	/* that block */
	size_t high;		/* alone, without it: bytes that may not be zero */
	bool keep;		/* alone: for another block that need not be zero */
	uint32_t pages;
	uint32_t others;	/* atomic: spans with live blocks that are no current slab */
	size_t granule;		/* what its free memory is given back in; 0: not at all */
	struct slab *witness;	/* when it is empty, the arena may be */
	bool withheld;		/* has had a withheld block */
	bool inherited;		/* the parent's: nothing is allocated here */
	long live;		/* inherited: blocks, or -1 */
	struct arena *next;	/* of the condemned, or of those kept */

	/* A bit for each page: a span starts here; it may not be zero. */
	uint64_t *starts, *dirty;
	uint64_t bits[];
};

/* --- The heap ----------------------------------------------------------------------- */

/* The epoch of blocks that someone else has been told of. */
#define EPOCH_KNOWN	0

struct heap {
	pthread_mutex_t lock;
	struct addrmap arenas;

	/* Counts forks: a block of an earlier epoch is known to another process. */
	uint64_t epoch;

	struct pool pool;	/* of shm_alloc(); .next are those of other placements */

	/*
	 * One shared arena is kept when it has no block: a program that allocates and frees
	 * in turn would make and drop a region each time.
	 */
	struct arena *spare;

	/* Taken out of all else, to be dropped by the next who is behind the gate. */
	struct arena *condemned;

	/*
	 * Arenas of one block that went, the last first: their memory is there, and another
	 * block that need not be zero may have it.
	 */
	struct arena *kept;
	size_t kept_bytes;

	unsigned int alone;	/* arenas of one block */
	size_t dirty_free;	/* bytes in bins that are not zero and could be given back */
	size_t used;		/* bytes of runs and slabs */
	bool purging;
	unsigned int stopped;	/* atomic: nobody may enter a tcache */

	struct tcache *tcaches, *idle;
	struct tcache common;	/* always idle: for threads that cannot have their own */

	struct slab *free_slabs[CLASSES];
	struct run *free_runs;
	unsigned int nr_free_runs;

	bool ready;
	bool annotate;		/* fast paths are off */
};

extern struct heap heap;

/* End the process: @addr was given to us, or found, and should not have been. */
_Noreturn void heap_die(const void *addr, const char *what);

/* meta.c: private memory for all of the above.  Locked. */

/* Zeroed, of cache lines, for ever; NULL. */
void *meta_alloc(size_t size);

/* That run_new() has @nr structs.  0 or -ENOMEM. */
int run_reserve(unsigned int nr);
struct run *run_new(void);
void run_delete(struct run *run);

/* run.c: spans of pages.  Locked. */

/* A run of @pages, its base a multiple of @align; NULL if no bin has any, or no memory. */
struct run *run_take(struct pool *pool, uint32_t pages, size_t align);

/* Put @run, and what is free around it, into a bin. */
void run_release(struct run *run);

/* Give up the pages of @run from @pages on, or take the @pages behind it. */
int run_shrink(struct run *run, uint32_t pages);
bool run_extend(struct run *run, uint32_t pages);

bool pool_has(const struct pool *pool, uint32_t pages, size_t align);
void bin_remove(struct run *run);

/* The bounds of what may not be zero of @nr pages from @page on; false: all is zero. */
bool arena_dirty(const struct arena *arena, uint32_t page, uint32_t nr, uint32_t *low,
		 uint32_t *high);
void arena_soil(struct arena *arena, uint32_t page, uint32_t nr);
void arena_clean(struct arena *arena, uint32_t page, uint32_t nr);

/* The span behind @span, or NULL; begin with arena_first(). */
struct span *arena_first(const struct arena *arena);
struct span *arena_next(const struct arena *arena, const struct span *span);

/* The span that @addr, which is in @arena, is in. */
struct span *arena_find(const struct arena *arena, const void *addr);

/* arena.c */

/* Let @pool have @pages in a row.  0 or -errno.  Not locked, not behind the gate. */
int pool_grow(struct pool *pool, uint32_t pages, size_t align);

/*
 * After pool_grow(), and after what it was for was taken, maybe of what others had freed by
 * then: let no arena stay in which there has never been a block to be freed.  Locked; drop
 * what is condemned.
 */
void pool_settle(struct pool *pool);

/* The pool of @placement; NULL: no memory.  Locked. */
struct pool *pool_of(const struct placement *placement);

/*
 * A block in a region of its own, which need not be zero if @dirty.  NULL + errno.  Not
 * locked, not behind the gate.
 */
void *arena_alone(size_t size, size_t align, bool dirty, const struct placement *placement);

/* What to do with @arena in which there is a live block less.  Locked. */
void arena_settle(struct arena *arena);

/* Let @slab, which may be NULL, tell when it is empty.  Locked. */
void arena_watch(struct arena *arena, struct slab *slab);
void arena_condemn(struct arena *arena);
bool arena_is_empty(const struct arena *arena);

/* There is a span with live blocks more, or less, in @arena.  The latter locked. */
void arena_count_in(struct arena *arena);
void arena_uncount(struct arena *arena);

/* Less, if that leaves one, or the arena stays without.  For who has entered a tcache. */
bool arena_uncount_one_of(struct arena *arena);

/* Drop the condemned.  Behind the gate, without the lock; the other one without both. */
void condemned_drop(void);

/* Keep @arena, which was condemned, for the next of its kind?  Locked. */
bool kept_put(struct arena *arena);

/* One that has room for a block at *@block, or NULL.  Not locked, behind the gate. */
struct arena *kept_take(size_t size, size_t align, const struct placement *placement,
			char **block);

/* Keep none.  The former is locked; the latter not, but behind the gate: was there any? */
void kept_condemn(void);
bool kept_drop(void);

/* Whether @addr is in one that is kept.  Locked. */
bool kept_has(const char *addr);

void condemned_drop_gated(void);

/* slab.c.  Locked, but where it is said otherwise. */

/* One with a slot for @class in @tcache; NULL: a run of as many pages is to be had first. */
struct slab *slab_choose(struct tcache *tcache, unsigned int class);
uint32_t slab_pages(unsigned int class);

/*
 * The one that the owner, who has entered @tcache, may go on with; NULL: slab_choose() is to
 * look.  And whether @slab, of which slots have become free, needs nothing but this.
 */
struct slab *slab_swap(struct tcache *tcache, unsigned int class);
bool slab_reuse(struct tcache *tcache, struct slab *slab);

/* Let slabs of @tcache that count as full be used for @class to the last slot.  Any? */
bool slab_sweep(struct tcache *tcache, unsigned int class);

/* @slab has got a slot, or lost its last block, or both. */
void slab_settle(struct slab *slab);

/* Take out of everything, without a look at its pages. */
void slab_detach(struct slab *slab);
void slab_delete(struct slab *slab);

/* Whether free() may be fast follows from what @slab is now. */
void slab_speed(struct slab *slab);

/* @slot, which was live, is never to be handed out again.  For the owner, not locked. */
void slab_withhold(struct slab *slab, unsigned int slot);

/* A current one becomes one of many; the owner has done that, or may be using it. */
void slab_retire(struct slab *slab, bool torn);

/* Settle what fork() has taken from @tcache, whose owner we are. */
void tcache_mend(struct tcache *tcache);

/* Take what others have freed. */
void tcache_drain(struct tcache *tcache);

/* Whether what is in @slot, live, is known to others; let it be. */
void slab_tell(struct slab *slab, unsigned int slot);
bool slab_knows(const struct slab *slab, unsigned int slot);

/* tcache.c */

/* Before all else.  0 or -errno. */
int heap_init(void);

/* The calling thread's, or &heap.common.  Not locked. */
struct tcache *tcache_get(void);

/* A slot for @size bytes, of @class; *@dirty as of slab_take().  NULL + errno. */
void *tcache_alloc(size_t size, unsigned int class, bool *dirty);

/* What a thread does to its tcache without heap.lock; false: it must do it with it. */
bool tcache_enter(struct tcache *tcache);
void tcache_leave(struct tcache *tcache);

/* Let nobody be in a tcache or enter it until heap_resume().  Locked. */
void heap_stop(void);
void heap_resume(void);

/* @slot of @slab, which is live, becomes free. */
void tcache_free(struct slab *slab, unsigned int slot);

/* @slab has got a slot, or lost its last block. */
void tcache_event(struct tcache *self, struct slab *slab);

void tcache_fork_prepare(void);
void tcache_fork_child(void);

/* stash.c: runs that a thread keeps.  Not locked. */

/* One of @pages, already a block of @size bytes, or NULL. */
struct run *stash_take(uint32_t pages, size_t size);

/* Keep @run, which was a block?  Ends the process if another thread frees it, too. */
bool stash_put(struct run *run);

/* Release what is kept: of @tcache, or all of @arena.  Locked; the latter stopped. */
void stash_release(struct tcache *tcache);
void stash_release_of(const struct arena *arena);

/* Release all there is.  Was there any? */
bool stash_flush(void);

/* A live block becomes something else, which no two threads can do.  False: it is none. */
static inline bool run_claim(struct run *run, enum span_kind kind)
{
	enum span_kind was = SPAN_RUN;

	return __atomic_compare_exchange_n(&run->span.kind, &was, kind, false, __ATOMIC_ACQ_REL,
					   __ATOMIC_RELAXED);
}

/* purge.c.  Not locked. */

/* Give memory of free pages back to the system, if there is much. */
void heap_purge(void);
bool heap_purge_due(void);

/* Zero [@addr, @addr + @len) of @arena. */
void arena_clear(struct arena *arena, char *addr, size_t len);

#endif
