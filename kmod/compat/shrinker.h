/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef SHMDEV_COMPAT_SHRINKER_H
#define SHMDEV_COMPAT_SHRINKER_H

#include <linux/shrinker.h>
#include <linux/slab.h>
#include <linux/version.h>

typedef unsigned long shmdev_shrinker_fn(struct shrinker *shrinker, struct shrink_control *sc);

/*
 * Allocate and register in one step, because the older interface can fail in the
 * second.  c42d50aefd17 ("mm: shrinker: add infrastructure for dynamically
 * allocating shrinker"), 6.7, is the border.
 */
static inline struct shrinker *shmdev_shrinker_create(unsigned int flags, const char *name,
						      long batch, shmdev_shrinker_fn *count,
						      shmdev_shrinker_fn *scan)
{
#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 7, 0)
	struct shrinker *shrinker = shrinker_alloc(flags, "%s", name);
#else
	struct shrinker *shrinker = kzalloc(sizeof(*shrinker), GFP_KERNEL);
#endif

	if (!shrinker)
		return NULL;
	shrinker->batch = batch;
	shrinker->count_objects = count;
	shrinker->scan_objects = scan;
#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 7, 0)
	shrinker_register(shrinker);
#else
	shrinker->flags = flags;
	shrinker->seeks = DEFAULT_SEEKS;
	if (register_shrinker(shrinker, "%s", name)) {
		kfree(shrinker);
		return NULL;
	}
#endif
	return shrinker;
}

static inline void shmdev_shrinker_destroy(struct shrinker *shrinker)
{
#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 7, 0)
	shrinker_free(shrinker);
#else
	unregister_shrinker(shrinker);
	kfree(shrinker);
#endif
}

#endif /* SHMDEV_COMPAT_SHRINKER_H */
