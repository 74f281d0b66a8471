// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/* Where a block comes from: a slab, pages of a region that blocks share, or its own. */
#define _GNU_SOURCE
#include "block.h"

#include <errno.h>
#include <string.h>
#include <sys/resource.h>

#include "annotate.h"

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
	bool grown = false;
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
		grown = true;
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
	if (grown)
		pool_settle(pool);
	pthread_mutex_unlock(&heap.lock);
	if (grown)
		condemned_drop_gated();

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

void *block_alloc(const struct request *request)
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

int request_make(struct request *request, size_t size,
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
