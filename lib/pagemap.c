// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
#define _GNU_SOURCE
#include "pagemap.h"

#include <errno.h>
#include <sys/mman.h>

struct span **pagemap_root[1 << PAGEMAP_ROOT];

int pagemap_reserve(const void *addr, size_t size)
{
	uintptr_t first = (uintptr_t)addr >> (PAGE_SHIFT + PAGEMAP_LEAF);
	uintptr_t last = ((uintptr_t)addr + size - 1) >> (PAGE_SHIFT + PAGEMAP_LEAF);
	const size_t bytes = sizeof(struct span *) << PAGEMAP_LEAF;
	void *leaf;

	if (last >= 1 << PAGEMAP_ROOT)
		return -ENOMEM;
	for (; first <= last; first++) {
		if (pagemap_root[first])
			continue;
		/* Address space now, memory where it is used; kept for ever. */
		leaf = mmap(NULL, bytes, PROT_READ | PROT_WRITE,
			    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
		if (leaf == MAP_FAILED)
			return -ENOMEM;
		/* Huge pages would fill in what is sparse by design. */
		madvise(leaf, bytes, MADV_NOHUGEPAGE);
		__atomic_store_n(&pagemap_root[first], leaf, __ATOMIC_RELEASE);
	}
	return 0;
}
