// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/*
 * Blocks: memory by the byte, in regions.
 *
 * An arena is a region and what we know of it.  Blocks up to SHARED_MAX share
 * arenas; a larger one is alone in its own.  Shared arenas are divided into chunks
 * of whole grains, and every grain has a struct chunk in a table that is private
 * memory, sparsely used: a peer that scribbles over a region does not touch it, and
 * to split and to merge need no memory and cannot fail.
 *
 * Free chunks are in bins by size, last freed first, because it is warm in the
 * cache; memory above an arena's top has never been handed out, is zero, and is
 * taken only if no bin has what is wanted.
 *
 * Chunks whose contents others may know of, because the block was shared or was
 * there at a fork, are withheld when they are freed: they go back with the arena.
 */
#define _GNU_SOURCE
#include "heap.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "addrmap.h"
#include "fork.h"
#include "region.h"
#include "shmdev.h"

#define GRAIN		((size_t)SHMDEV_ALIGN)
#define SHARED_MAX	((size_t)1 << 20)
#define ARENA_MIN	((size_t)2 << 20)
#define ARENA_MAX	((size_t)32 << 20)

enum chunk_state {
	CHUNK_NONE,		/* no chunk starts here */
	CHUNK_FREE,		/* in a bin */
	CHUNK_LIVE,		/* a block */
	CHUNK_WITHHELD,		/* was a block, known to others */
};

/* What starts at a grain.  All zero, which costs no memory, if nothing does. */
struct chunk {
	struct arena *arena;
	union {
		struct {
			struct chunk *next, *prev;
		} bin;			/* CHUNK_FREE */
		struct {
			size_t size;	/* as asked for */
			uint64_t epoch;	/* of its birth, or EPOCH_KNOWN */
		} block;		/* CHUNK_LIVE */
	};
	uint32_t grains;
	uint32_t grains_before;	/* of the chunk that ends here; 0 if none does */
	enum chunk_state state;
};

struct arena {
	struct shmdev_region *region;	/* one reference */
	char *base;

	/*
	 * Shared arenas: a chunk and a bit "something starts here" for each grain,
	 * and how far grains have been handed out.  An arena of one block: that.
	 */
	struct chunk *chunks;
	uint64_t *starts;
	size_t table_size;		/* of the mapping that both lie in */
	uint32_t grains, top;
	uint32_t grains_below_top;	/* of the chunk that ends at top */
	struct chunk alone;

	size_t live;			/* blocks */
	bool withheld;			/* has a withheld chunk */
	bool inherited;			/* the parent's: nothing is allocated here */
	struct arena *next;		/* of the condemned */
};

/*
 * Bins: one for each number of grains below 16, then 16 for each power of two.  All
 * that is in a higher bin than the one a size falls into is large enough for it.
 */
#define BIN_STEPS_LOG2	4
#define BIN_STEPS	(1U << BIN_STEPS_LOG2)
#define BINS		(32U * BIN_STEPS)

/* How many chunks of the bin that a size falls into are looked at. */
#define BIN_TRIES	16

/* The epoch of blocks that someone else has been told of. */
#define EPOCH_KNOWN	0

static struct {
	pthread_mutex_t lock;
	struct addrmap arenas;

	/* Counts forks: a block of an earlier epoch is known to another process. */
	uint64_t epoch;

	struct chunk *bins[BINS];
	uint64_t bins_used[BINS / 64];

	struct arena *current;		/* whose top is used; in .arenas too */
	/*
	 * One shared arena without a block is kept: a program that allocates and
	 * frees in turn would make and drop a region each time.
	 */
	struct arena *spare;
	size_t shared_bytes;		/* of shared arenas that we allocate from */

	/* Taken out of all else, to be dropped by the next who is behind the gate. */
	struct arena *condemned;

	uint64_t blocks, block_bytes;
} heap = {
	.lock = PTHREAD_MUTEX_INITIALIZER,
	.epoch = EPOCH_KNOWN + 1,
};

/* --- Bins --------------------------------------------------------------------- */

static unsigned int bin_of(uint32_t grains)
{
	unsigned int log2;

	if (grains < BIN_STEPS)
		return grains;
	log2 = 31 - __builtin_clz(grains);
	return (log2 - BIN_STEPS_LOG2 + 1) * BIN_STEPS +
	       ((grains >> (log2 - BIN_STEPS_LOG2)) & (BIN_STEPS - 1));
}

static void bin_add(struct chunk *chunk)
{
	unsigned int bin = bin_of(chunk->grains);
	struct chunk *next = heap.bins[bin];

	chunk->state = CHUNK_FREE;
	chunk->bin.prev = NULL;
	chunk->bin.next = next;
	if (next)
		next->bin.prev = chunk;
	heap.bins[bin] = chunk;
	heap.bins_used[bin / 64] |= 1ULL << bin % 64;
}

static void bin_remove(struct chunk *chunk)
{
	unsigned int bin = bin_of(chunk->grains);

	if (chunk->bin.next)
		chunk->bin.next->bin.prev = chunk->bin.prev;
	if (chunk->bin.prev)
		chunk->bin.prev->bin.next = chunk->bin.next;
	else
		heap.bins[bin] = chunk->bin.next;
	if (!heap.bins[bin])
		heap.bins_used[bin / 64] &= ~(1ULL << bin % 64);
}

/* A free chunk of at least @grains, or NULL. */
static struct chunk *bin_find(uint32_t grains)
{
	unsigned int bin = bin_of(grains);
	struct chunk *chunk = heap.bins[bin];
	unsigned int word;
	uint64_t used;

	for (int tries = 0; chunk && tries < BIN_TRIES; tries++, chunk = chunk->bin.next)
		if (chunk->grains >= grains)
			return chunk;

	bin++;
	word = bin / 64;
	used = heap.bins_used[word] & ~0ULL << bin % 64;
	while (!used) {
		if (++word == BINS / 64)
			return NULL;
		used = heap.bins_used[word];
	}
	return heap.bins[word * 64 + __builtin_ctzll(used)];
}

/* --- Chunks ------------------------------------------------------------------- */

static uint32_t chunk_index(const struct chunk *chunk)
{
	return chunk - chunk->arena->chunks;
}

static char *chunk_addr(const struct chunk *chunk)
{
	return chunk->arena->base + chunk_index(chunk) * GRAIN;
}

/* The chunk before or after in memory, or NULL. */
static struct chunk *chunk_before(struct chunk *chunk)
{
	return chunk->grains_before ? chunk - chunk->grains_before : NULL;
}

static struct chunk *chunk_after(struct chunk *chunk)
{
	return chunk_index(chunk) + chunk->grains < chunk->arena->top ?
	       chunk + chunk->grains : NULL;
}

static void chunk_resize(struct chunk *chunk, uint32_t grains)
{
	uint32_t end = chunk_index(chunk) + grains;

	chunk->grains = grains;
	if (end < chunk->arena->top)
		chunk[grains].grains_before = grains;
	else
		chunk->arena->grains_below_top = grains;
}

/* Let a chunk of @grains start at @chunk, whose grains_before is right. */
static void chunk_begin(struct arena *arena, struct chunk *chunk, uint32_t grains)
{
	uint32_t index = chunk - arena->chunks;

	chunk->arena = arena;
	arena->starts[index / 64] |= 1ULL << index % 64;
	chunk_resize(chunk, grains);
}

/* Let @chunk take in the one after it. */
static void chunk_absorb(struct chunk *chunk, struct chunk *after)
{
	uint32_t index = chunk_index(after);

	after->state = CHUNK_NONE;
	chunk->arena->starts[index / 64] &= ~(1ULL << index % 64);
	chunk_resize(chunk, chunk->grains + after->grains);
}

/* Cut @chunk, which is in no bin, down to @grains, and put the rest into a bin. */
static void chunk_split(struct chunk *chunk, uint32_t grains)
{
	struct chunk *rest = chunk + grains;
	uint32_t rest_grains = chunk->grains - grains;

	if (!rest_grains)
		return;
	chunk_begin(chunk->arena, rest, rest_grains);
	chunk_resize(chunk, grains);
	bin_add(rest);
}

/* Put @chunk into a bin, together with what is free around it. */
static void chunk_free(struct chunk *chunk)
{
	struct chunk *after = chunk_after(chunk);
	struct chunk *before = chunk_before(chunk);

	if (after && after->state == CHUNK_FREE) {
		bin_remove(after);
		chunk_absorb(chunk, after);
	}
	if (before && before->state == CHUNK_FREE) {
		bin_remove(before);
		chunk_absorb(before, chunk);
		chunk = before;
	}
	bin_add(chunk);
}

/* Fresh memory of @arena, which must have it. */
static struct chunk *chunk_fresh(struct arena *arena, uint32_t grains)
{
	struct chunk *chunk = &arena->chunks[arena->top];

	chunk->grains_before = arena->grains_below_top;
	arena->top += grains;
	chunk_begin(arena, chunk, grains);
	return chunk;
}

/* The chunk that the grain at @index of a shared arena belongs to; NULL above top. */
static struct chunk *chunk_around(const struct arena *arena, uint32_t index)
{
	uint32_t word = index / 64;
	uint64_t starts;

	if (index >= arena->top)
		return NULL;
	starts = arena->starts[word] & ~0ULL >> (63 - index % 64);
	while (!starts)		/* ends at grain 0, where a chunk starts */
		starts = arena->starts[--word];
	return &arena->chunks[word * 64 + 63 - __builtin_clzll(starts)];
}

/* --- Arenas ------------------------------------------------------------------- */

static bool arena_is_shared(const struct arena *arena)
{
	return arena->chunks != &arena->alone;
}

/* The table of chunks and starts: address space now, memory where it is used. */
static int arena_make_table(struct arena *arena)
{
	size_t chunks = arena->grains * sizeof(*arena->chunks);
	size_t starts = (arena->grains + 63) / 64 * sizeof(*arena->starts);
	void *addr;

	addr = mmap(NULL, chunks + starts, PROT_READ | PROT_WRITE,
		    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (addr == MAP_FAILED)
		return -ENOMEM;
	/* Huge pages would fill in what is sparse by design. */
	madvise(addr, chunks + starts, MADV_NOHUGEPAGE);
	arena->table_size = chunks + starts;
	arena->chunks = addr;
	arena->starts = (uint64_t *)((char *)addr + chunks);
	return 0;
}

static void arena_drop(struct arena *arena)
{
	if (arena_is_shared(arena))
		munmap(arena->chunks, arena->table_size);
	region_put(arena->region);
	free(arena);
}

/* An arena of at least @size bytes, known to nobody yet; NULL + errno. */
static struct arena *arena_make(size_t size, bool shared)
{
	struct arena *arena = calloc(1, sizeof(*arena));
	int err;

	if (!arena)
		return NULL;
	arena->region = region_create(size, &(struct placement){ 0 });
	if (!arena->region) {
		err = errno;
		goto free_arena;
	}
	arena->base = shmdev_region_addr(arena->region);
	arena->chunks = &arena->alone;
	arena->alone.arena = arena;
	if (shared) {
		arena->grains = shmdev_region_size(arena->region) / GRAIN;
		err = -arena_make_table(arena);
		if (err)
			goto put_region;
	}
	return arena;

put_region:
	region_put(arena->region);
free_arena:
	free(arena);
	errno = err;
	return NULL;
}

/* Take @arena out of everything.  Locked. */
static void arena_condemn(struct arena *arena)
{
	addrmap_remove(&heap.arenas, arena->base);
	if (arena_is_shared(arena) && !arena->inherited) {
		for (struct chunk *chunk = arena->top ? arena->chunks : NULL; chunk;
		     chunk = chunk_after(chunk))
			if (chunk->state == CHUNK_FREE)
				bin_remove(chunk);
		heap.shared_bytes -= arena->grains * GRAIN;
		if (heap.current == arena)
			heap.current = NULL;
		if (heap.spare == arena)
			heap.spare = NULL;
	}
	arena->next = heap.condemned;
	heap.condemned = arena;
}

/* The last block of @arena is gone.  Locked. */
static void arena_emptied(struct arena *arena)
{
	if (arena_is_shared(arena) && !arena->inherited && !arena->withheld && !heap.spare)
		heap.spare = arena;
	else
		arena_condemn(arena);
}

/* Behind the gate, without the lock. */
static void drop_condemned(void)
{
	struct arena *arena, *next;

	pthread_mutex_lock(&heap.lock);
	arena = heap.condemned;
	heap.condemned = NULL;
	pthread_mutex_unlock(&heap.lock);

	for (; arena; arena = next) {
		next = arena->next;
		arena_drop(arena);
	}
}

/* --- Blocks ------------------------------------------------------------------- */

/* Make a block of @size bytes of @chunk, which is of the right length.  Locked. */
static void *block_begin(struct chunk *chunk, size_t size)
{
	struct arena *arena = chunk->arena;

	chunk->state = CHUNK_LIVE;
	chunk->block.size = size;
	chunk->block.epoch = heap.epoch;
	arena->live++;
	if (heap.spare == arena)
		heap.spare = NULL;
	heap.blocks++;
	heap.block_bytes += size;
	return chunk_addr(chunk);
}

/* From memory that was used before, or is fresh; NULL if neither is there.  Locked. */
static void *block_take(size_t size, bool *fresh)
{
	uint32_t grains = (size + GRAIN - 1) / GRAIN;
	struct chunk *chunk = bin_find(grains);

	*fresh = !chunk;
	if (chunk) {
		bin_remove(chunk);
		chunk_split(chunk, grains);
		return block_begin(chunk, size);
	}
	if (heap.current && heap.current->grains - heap.current->top >= grains)
		return block_begin(chunk_fresh(heap.current, grains), size);
	return NULL;
}

/* Let fresh memory come from @arena from now on.  0 or -ENOMEM.  Locked. */
static int arena_install(struct arena *arena)
{
	struct arena *old = heap.current;
	int err;

	err = addrmap_insert(&heap.arenas, arena->base, arena->grains * GRAIN, arena);
	if (err)
		return err;
	/* What the old one has left is too little now, and will do for smaller blocks. */
	if (old && old->top < old->grains)
		chunk_free(chunk_fresh(old, old->grains - old->top));
	heap.current = arena;
	heap.shared_bytes += arena->grains * GRAIN;
	return 0;
}

/*
 * The next shared arena, as large as all before it together: few regions if much
 * is allocated, little memory if not.  Where that is not to be had, less.
 */
static struct arena *arena_grow(size_t held)
{
	size_t size = held < ARENA_MIN ? ARENA_MIN : held > ARENA_MAX ? ARENA_MAX : held;
	struct arena *arena;

	for (;;) {
		arena = arena_make(size, true);
		if (arena || errno != ENOMEM || size == ARENA_MIN)
			return arena;
		size = size / 2 > ARENA_MIN ? size / 2 : ARENA_MIN;
	}
}

static void *block_alloc_shared(size_t size, bool *fresh)
{
	struct arena *arena;
	size_t held;
	void *addr;
	int err;

	pthread_mutex_lock(&heap.lock);
	addr = block_take(size, fresh);
	held = heap.shared_bytes;
	pthread_mutex_unlock(&heap.lock);
	if (addr)
		return addr;

	err = fork_init();
	if (err) {
		errno = -err;
		return NULL;
	}
	fork_gate_enter();
	arena = arena_grow(held);
	if (arena) {
		pthread_mutex_lock(&heap.lock);
		/* Others may have freed something in the meantime, or grown the heap. */
		addr = block_take(size, fresh);
		if (!addr) {
			err = arena_install(arena);
			if (!err) {
				arena = NULL;
				addr = block_take(size, fresh);
			}
		}
		pthread_mutex_unlock(&heap.lock);
		if (arena)
			arena_drop(arena);
		if (err)
			errno = -err;
	}
	fork_gate_leave();
	return addr;
}

static void *block_alloc_alone(size_t size)
{
	struct arena *arena;
	void *addr = NULL;
	int err;

	err = fork_init();
	if (err) {
		errno = -err;
		return NULL;
	}
	fork_gate_enter();
	arena = arena_make(size, false);
	if (arena) {
		pthread_mutex_lock(&heap.lock);
		err = addrmap_insert(&heap.arenas, arena->base,
				     shmdev_region_size(arena->region), arena);
		if (!err)
			addr = block_begin(&arena->alone, size);
		pthread_mutex_unlock(&heap.lock);
		if (err) {
			arena_drop(arena);
			errno = -err;
		}
	}
	fork_gate_leave();
	return addr;
}

/* The block that starts at @addr, or NULL and what @addr is instead.  Locked. */
static struct chunk *block_at(const char *addr, const char **instead)
{
	struct arena *arena = addrmap_find(&heap.arenas, addr);
	struct chunk *chunk;
	size_t offset;

	*instead = "not from shm_alloc()";
	if (!arena)
		return NULL;
	offset = addr - arena->base;
	*instead = "not the start of a block";
	if (offset % GRAIN || (!arena_is_shared(arena) && offset))
		return NULL;
	chunk = &arena->chunks[offset / GRAIN];
	switch (chunk->state) {
	case CHUNK_LIVE:
		return chunk;
	case CHUNK_FREE:
	case CHUNK_WITHHELD:
		*instead = "freed already";
		break;
	case CHUNK_NONE:
		*instead = "not the start of a live block";
		break;
	}
	return NULL;
}

/* The live block that @addr lies in, or NULL.  Locked. */
static struct chunk *block_around(const char *addr)
{
	struct arena *arena = addrmap_find(&heap.arenas, addr);
	struct chunk *chunk;

	if (!arena)
		return NULL;
	chunk = arena_is_shared(arena) ?
		chunk_around(arena, (addr - arena->base) / GRAIN) : &arena->alone;
	if (!chunk || chunk->state != CHUNK_LIVE ||
	    (size_t)(addr - chunk_addr(chunk)) >= chunk->block.size)
		return NULL;
	return chunk;
}

static void block_end(struct chunk *chunk)
{
	struct arena *arena = chunk->arena;

	heap.blocks--;
	heap.block_bytes -= chunk->block.size;
	if (arena_is_shared(arena)) {
		if (arena->inherited || chunk->block.epoch != heap.epoch) {
			chunk->state = CHUNK_WITHHELD;
			arena->withheld = true;
		} else {
			chunk_free(chunk);
		}
	}
	if (!--arena->live)
		arena_emptied(arena);
}

static _Noreturn void die(const void *addr, const char *what)
{
	fprintf(stderr, "shmdev: shm_free(%p): %s\n", addr, what);
	abort();
}

bool heap_check_range(const void *addr, size_t len)
{
	const char *start = addr;
	struct arena *arena;
	struct chunk *chunk;
	bool good = true;

	pthread_mutex_lock(&heap.lock);
	chunk = block_around(start);
	if (chunk) {
		good = len <= chunk->block.size - (size_t)(start - chunk_addr(chunk));
		goto unlock;
	}
	arena = addrmap_find(&heap.arenas, start);
	if (!arena)
		goto unlock;
	/*
	 * Not in a block.  Of our own arenas nothing else may be written to.  In one
	 * of the parent's there may be blocks that only the parent knows.
	 */
	if (!arena->inherited || !arena_is_shared(arena)) {
		good = false;
		goto unlock;
	}
	chunk = chunk_around(arena, (start - arena->base) / GRAIN);
	for (; chunk && chunk_addr(chunk) < start + len; chunk = chunk_after(chunk))
		if (chunk->state == CHUNK_LIVE && chunk_addr(chunk) >= start)
			good = false;
unlock:
	pthread_mutex_unlock(&heap.lock);
	return good;
}

void heap_count(uint64_t *blocks, uint64_t *bytes)
{
	pthread_mutex_lock(&heap.lock);
	*blocks = heap.blocks;
	*bytes = heap.block_bytes;
	pthread_mutex_unlock(&heap.lock);
}

/* --- Fork --------------------------------------------------------------------- */

void heap_fork_prepare(void)
{
	pthread_mutex_lock(&heap.lock);
}

void heap_fork_parent(void)
{
	heap.epoch++;
	pthread_mutex_unlock(&heap.lock);
}

/*
 * The child keeps the blocks, gives up what is free to the parent, and drops the
 * arenas that have nothing else, so that it does not hold the parent's memory.
 */
void heap_fork_child(void)
{
	struct arena *arena;

	heap.epoch++;
	memset(heap.bins, 0, sizeof(heap.bins));
	memset(heap.bins_used, 0, sizeof(heap.bins_used));
	heap.current = NULL;
	heap.shared_bytes = 0;
	for (size_t i = 0; i < heap.arenas.nr; i++) {
		arena = heap.arenas.ranges[i].owner;
		arena->inherited = true;
	}
	if (heap.spare)
		arena_condemn(heap.spare);
	heap.spare = NULL;
	pthread_mutex_unlock(&heap.lock);
	drop_condemned();
}

/* --- API ---------------------------------------------------------------------- */

void *shmdev_block_alloc(size_t size, unsigned int flags)
{
	bool fresh = true;
	void *addr;

	if (!size || flags & ~SHMDEV_BLOCK_NOZERO) {
		errno = EINVAL;
		return NULL;
	}
	if (size > SHARED_MAX)
		return block_alloc_alone(size);

	addr = block_alloc_shared(size, &fresh);
	if (addr && !fresh && !(flags & SHMDEV_BLOCK_NOZERO))
		memset(addr, 0, size);
	return addr;
}

void *shm_alloc(size_t size)
{
	return shmdev_block_alloc(size, 0);
}

void shm_free(void *ptr)
{
	int err = errno;
	struct chunk *chunk;
	const char *instead;
	bool drop;

	if (!ptr)
		return;

	pthread_mutex_lock(&heap.lock);
	chunk = block_at(ptr, &instead);
	if (chunk)
		block_end(chunk);
	drop = heap.condemned;
	pthread_mutex_unlock(&heap.lock);

	if (!chunk)
		die(ptr, instead);
	if (drop) {
		fork_gate_enter();
		drop_condemned();
		fork_gate_leave();
	}
	errno = err;
}

bool heap_knows(const void *addr)
{
	bool known;

	pthread_mutex_lock(&heap.lock);
	known = addrmap_find(&heap.arenas, addr);
	pthread_mutex_unlock(&heap.lock);
	return known;
}

bool heap_shares(const void *addr)
{
	struct arena *arena;
	bool shared;

	pthread_mutex_lock(&heap.lock);
	arena = addrmap_find(&heap.arenas, addr);
	shared = arena && arena_is_shared(arena);
	pthread_mutex_unlock(&heap.lock);
	return shared;
}

struct shmdev_region *heap_share(const void *ptr, size_t *offset, size_t *left)
{
	struct shmdev_region *region = NULL;
	struct chunk *chunk;

	pthread_mutex_lock(&heap.lock);
	chunk = block_around(ptr);
	if (chunk) {
		chunk->block.epoch = EPOCH_KNOWN;
		region = shmdev_region_ref(chunk->arena->region);
		*offset = (const char *)ptr - chunk->arena->base;
		*left = chunk->block.size - ((const char *)ptr - chunk_addr(chunk));
	}
	pthread_mutex_unlock(&heap.lock);

	return region;
}

struct shmdev_region *shmdev_block_share(const void *ptr, size_t *offset)
{
	size_t left;
	struct shmdev_region *region = heap_share(ptr, offset, &left);

	if (!region)
		errno = ENOENT;
	return region;
}
