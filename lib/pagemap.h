/* SPDX-License-Identifier: LGPL-2.1-or-later OR MIT */
/*
 * Which span a page of the heap belongs to: a tree of two levels over the address space,
 * read without a lock, written with the heap's.
 */
#ifndef SHMDEV_LIB_PAGEMAP_H
#define SHMDEV_LIB_PAGEMAP_H

#include <stddef.h>
#include <stdint.h>

/* The heap's pages, which need not be the machine's. */
#define PAGE_SHIFT	12
#define PAGE		((size_t)1 << PAGE_SHIFT)

/* What user space has on every machine that we know; a leaf is of 1 GiB. */
#define PAGEMAP_ADDRESS	48
#define PAGEMAP_LEAF	18
#define PAGEMAP_ROOT	(PAGEMAP_ADDRESS - PAGE_SHIFT - PAGEMAP_LEAF)

struct span;

extern struct span **pagemap_root[1 << PAGEMAP_ROOT];

/*
 * What was set for the page that @addr, which may be anything, is in; or NULL.  Of an
 * address that is too large the upper bits are ignored: the caller compares what it finds.
 */
static inline struct span *pagemap_get(const void *addr)
{
	uintptr_t page = (uintptr_t)addr >> PAGE_SHIFT;
	struct span **leaf;

	leaf = __atomic_load_n(&pagemap_root[page >> PAGEMAP_LEAF & ((1 << PAGEMAP_ROOT) - 1)],
			       __ATOMIC_ACQUIRE);
	if (__builtin_expect(!leaf, 0))
		return NULL;
	return __atomic_load_n(&leaf[page & ((1 << PAGEMAP_LEAF) - 1)], __ATOMIC_ACQUIRE);
}

/* That there is room for the pages of [@addr, @addr + @size).  0 or -ENOMEM. */
int pagemap_reserve(const void *addr, size_t size);

/* Room must have been reserved; NULL is as if nothing had been set. */
static inline void pagemap_set(const void *addr, struct span *span)
{
	uintptr_t page = (uintptr_t)addr >> PAGE_SHIFT;

	__atomic_store_n(&pagemap_root[page >> PAGEMAP_LEAF][page & ((1 << PAGEMAP_LEAF) - 1)],
			 span, __ATOMIC_RELEASE);
}

#endif
