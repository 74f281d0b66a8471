// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
#include "addrmap.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* How many ranges start at or below @addr. */
static size_t rank(const struct addrmap *map, uintptr_t addr)
{
	size_t low = 0, high = map->nr;

	while (low < high) {
		size_t middle = low + (high - low) / 2;

		if (map->ranges[middle].start <= addr)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

int addrmap_insert(struct addrmap *map, const void *start, size_t size, void *owner)
{
	size_t at;

	if (map->nr == map->room) {
		size_t room = map->room ? 2 * map->room : 16;
		void *ranges = reallocarray(map->ranges, room, sizeof(*map->ranges));

		if (!ranges)
			return -ENOMEM;
		map->ranges = ranges;
		map->room = room;
	}

	at = rank(map, (uintptr_t)start);
	memmove(&map->ranges[at + 1], &map->ranges[at],
		(map->nr - at) * sizeof(*map->ranges));
	map->ranges[at] = (struct addrmap_range){ (uintptr_t)start, size, owner };
	map->nr++;
	return 0;
}

void addrmap_remove(struct addrmap *map, const void *start)
{
	size_t at = rank(map, (uintptr_t)start) - 1;

	map->nr--;
	memmove(&map->ranges[at], &map->ranges[at + 1],
		(map->nr - at) * sizeof(*map->ranges));
}

void *addrmap_find(const struct addrmap *map, const void *addr)
{
	size_t at = rank(map, (uintptr_t)addr);

	if (!at || (uintptr_t)addr - map->ranges[at - 1].start >= map->ranges[at - 1].size)
		return NULL;
	return map->ranges[at - 1].owner;
}
