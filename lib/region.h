/* SPDX-License-Identifier: LGPL-2.1-or-later OR MIT */
/* Regions as the rest of the library sees them; the callers hold the fork gate. */
#ifndef SHMDEV_LIB_REGION_H
#define SHMDEV_LIB_REGION_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "backend.h"
#include "shmdev.h"

/* shmdev_region_create() and _unref() for callers that are behind the gate. */
struct shmdev_region *region_create(size_t size, const struct placement *placement);
void region_put(struct shmdev_region *region);

/* Memory of one region.  No reference to that: it is to compare, not to look into. */
struct stretch {
	const char *start;
	size_t size;
	const void *region;
	enum shmdev_backend backend;
};

static inline bool stretch_has(const struct stretch *stretch, const void *addr, size_t len)
{
	size_t at = (const char *)addr - stretch->start;

	return at < stretch->size && len <= stretch->size - at;
}

/*
 * The one mapped region that all of [@addr, @addr + @len) lies in; false if there is none,
 * or with @write if it can only be read.
 */
bool region_around(const void *addr, size_t len, bool write, struct stretch *stretch);

/* What file a region is: the same in every process of a machine. */
struct region_identity {
	uint64_t dev, ino, size;
	/* Its token; all zero where there is none, or none is known. */
	unsigned char token[TOKEN_SIZE];
};

/* The region that @addr lies in, with a reference, or NULL. */
struct shmdev_region *region_at(const void *addr);

/* Whether its descriptor is still its, and not of what a program that closed it has opened since. */
bool region_has_fd(const struct shmdev_region *region);

/* Whether somebody has @region besides the heap, which has it, and the caller. */
bool region_is_held(const struct shmdev_region *region);

/* What another process needs to know of @region.  0 or -errno. */
int region_export(struct shmdev_region *region, struct region_identity *identity);

/*
 * The region of @identity if this process has it, or the file @fd, which is it; with a
 * reference, which with @attach is for region_detach() to take back.  NULL or -errno.
 */
struct shmdev_region *region_get_known(const struct region_identity *identity, bool readonly,
				       bool attach);
int region_get(int fd, const struct region_identity *identity, bool readonly, bool attach,
	       struct shmdev_region **region);

/* A descriptor of @region that is open for reading alone, or -errno. */
int region_reopen(const struct shmdev_region *region);

/* False: @addr is in no region that was attached and not detached since. */
bool region_detach(const void *addr);

void region_count(uint64_t *regions, uint64_t *bytes);

void region_fork_prepare(void);
void region_fork_parent(void);
void region_fork_child(void);

#endif
