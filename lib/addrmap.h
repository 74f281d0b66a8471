/* SPDX-License-Identifier: LGPL-2.1-or-later OR MIT */
/*
 * Which of many disjoint address ranges an address lies in: a sorted array.  There
 * are few ranges and many look-ups.  The caller locks.
 */
#ifndef SHMDEV_LIB_ADDRMAP_H
#define SHMDEV_LIB_ADDRMAP_H

#include <stddef.h>
#include <stdint.h>

struct addrmap {
	struct addrmap_range {
		uintptr_t start;
		size_t size;
		void *owner;
	} *ranges;
	size_t nr;
	size_t room;
};

/* 0 or -ENOMEM. */
int addrmap_insert(struct addrmap *map, const void *start, size_t size, void *owner);

/* The range must be there. */
void addrmap_remove(struct addrmap *map, const void *start);

/* The owner of the range that @addr lies in, or NULL. */
void *addrmap_find(const struct addrmap *map, const void *addr);

#endif
