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
#include <string.h>

#include "annotate.h"
#include "block.h"

struct heap heap = {
	.lock = PTHREAD_ADAPTIVE_MUTEX_INITIALIZER_NP,
	.epoch = EPOCH_KNOWN + 1,
	.common.lock = PTHREAD_ADAPTIVE_MUTEX_INITIALIZER_NP,
};

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
	struct span *span;

	if (!ptr)
		return 0;
	span = block_get(ptr, &slot);
	return block_room(span, slot);
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
