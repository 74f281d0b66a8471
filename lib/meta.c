// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/* Private memory for the allocator's own data, which is never given back. */
#define _GNU_SOURCE
#include "alloc.h"

#include <errno.h>
#include <sys/mman.h>

#define CHUNK		((size_t)1 << 20)

void *meta_alloc(size_t size)
{
	static char *at;
	static size_t left;
	void *taken;

	size = (size + CACHE_LINE - 1) & ~(size_t)(CACHE_LINE - 1);
	if (left < size) {
		taken = mmap(NULL, CHUNK, PROT_READ | PROT_WRITE,
			     MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
		if (taken == MAP_FAILED)
			return NULL;
		at = taken;
		left = CHUNK;
	}
	taken = at;
	at += size;
	left -= size;
	return taken;
}

int run_reserve(unsigned int nr)
{
	while (heap.nr_free_runs < nr) {
		struct run *run = meta_alloc(sizeof(*run));

		if (!run)
			return -ENOMEM;
		run_delete(run);
	}
	return 0;
}

struct run *run_new(void)
{
	struct run *run = heap.free_runs;

	heap.free_runs = run->bin.next;
	heap.nr_free_runs--;
	run->span.kind = SPAN_BUSY;
	return run;
}

void run_delete(struct run *run)
{
	WRITE_ONCE(run->span.kind, SPAN_NONE);
	run->bin.next = heap.free_runs;
	heap.free_runs = run;
	heap.nr_free_runs++;
}
