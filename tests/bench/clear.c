// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/*
 * The ways to clear a huge page that a kernel has, and what they cost others: a tool of
 * tests/bench/bench_clear.py.
 *
 * The instructions are those of the kernel's clear_page_*(); in user space they do the same.
 * Beside the time they take, a run tells how long it takes afterwards to read what somebody
 * works with, so many MiB that were in the caches before.
 */
#define _GNU_SOURCE
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>

#include "tool.h"

#define HUGE	((size_t)2 << 20)
#define PAGE	((size_t)4096)
#define PAGES	16		/* cleared in a run: more than stays in most caches */

static void nothing(char *page)
{
	(void)page;
}

#ifdef __x86_64__
static void stosb(char *p, size_t size)
{
	asm volatile("rep stosb" : "+D" (p), "+c" (size) : "a" (0) : "memory");
}

static void stosq(char *p, size_t size)
{
	size /= 8;
	asm volatile("rep stosq" : "+D" (p), "+c" (size) : "a" (0L) : "memory");
}

static void clear_stosb(char *page)
{
	for (size_t i = 0; i < HUGE; i += PAGE)
		stosb(page + i, PAGE);
}

static void clear_stosq(char *page)
{
	for (size_t i = 0; i < HUGE; i += PAGE)
		stosq(page + i, PAGE);
}

static void clear_whole(char *page)
{
	stosb(page, HUGE);
}

static void clear_movnti(char *page)
{
	for (size_t i = 0; i < HUGE; i += 64)
		asm volatile("movnti %1, (%0)\n\tmovnti %1, 8(%0)\n\t"
			     "movnti %1, 16(%0)\n\tmovnti %1, 24(%0)\n\t"
			     "movnti %1, 32(%0)\n\tmovnti %1, 40(%0)\n\t"
			     "movnti %1, 48(%0)\n\tmovnti %1, 56(%0)"
			     : : "r" (page + i), "r" (0L) : "memory");
	asm volatile("sfence" : : : "memory");
}
#endif

static const struct way {
	const char *name;
	void (*clear)(char *page);
} ways[] = {
	{ "nothing", nothing },
#ifdef __x86_64__
	{ "stosb", clear_stosb },
	{ "stosq", clear_stosq },
	{ "stosb-whole", clear_whole },
	{ "movnti", clear_movnti },
#endif
};

/* One huge page's worth of addresses that lie in one. */
static char *pages_map(size_t size)
{
	char *p = mmap(NULL, size + HUGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS,
		       -1, 0);

	if (p == MAP_FAILED)
		return NULL;
	p = (char *)(((uintptr_t)p + HUGE - 1) & ~(HUGE - 1));
	madvise(p, size, MADV_HUGEPAGE);
	memset(p, 1, size);
	return p;
}

/* Line by line, each where the last one says: no prefetcher helps. */
static char *chain_make(char *set, size_t size)
{
	size_t nr = size / 64, *order = malloc(nr * sizeof(*order));

	if (!order)
		return NULL;
	for (size_t i = 0; i < nr; i++)
		order[i] = i;
	srand(1);
	for (size_t i = nr - 1; i; i--) {
		size_t j = ((size_t)rand() << 15 ^ rand()) % (i + 1), tmp = order[i];

		order[i] = order[j];
		order[j] = tmp;
	}
	for (size_t i = 0; i < nr; i++)
		*(char **)(set + order[i] * 64) = set + order[(i + 1) % nr] * 64;
	free(order);
	return set;
}

static double chain_read(char *set, size_t size)
{
	double start = now();
	char *p = set;

	for (size_t i = 0; i < size / 64; i++)
		p = *(char *volatile *)p;
	return now() - start;
}

static int measure(const char *name, size_t size)
{
	static char *pages, *set;
	static size_t set_size;
	double cleared = 0, read = 0, start;
	const struct way *way = NULL;

	for (size_t i = 0; i < sizeof(ways) / sizeof(*ways); i++)
		if (!strcmp(name, ways[i].name))
			way = &ways[i];
	if (!way)
		return -EINVAL;
	pages = pages ?: pages_map(PAGES * HUGE);
	if (set_size != size) {
		/* What there was before stays: a benchmark has few sizes. */
		set = pages_map((size + HUGE - 1) & ~(HUGE - 1));
		set_size = size;
		if (!set || !chain_make(set, size))
			return -ENOMEM;
	}
	if (!pages)
		return -ENOMEM;
	for (int i = 0; i < PAGES; i++) {
		char *page = pages + i * HUGE;

		memset(page, 1, HUGE);
		chain_read(set, size);
		chain_read(set, size);
		start = now();
		way->clear(page);
		cleared += now() - start;
		read += chain_read(set, size);
		for (size_t j = 0; way->clear != nothing && j < HUGE; j += 64)
			if (page[j])
				return -EIO;
	}
	printf("seconds=%.9f read=%.9f\n", cleared / PAGES, read / PAGES);
	return 0;
}

int main(void)
{
	return tool_main(measure);
}
