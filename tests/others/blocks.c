// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/*
 * For programs that are linked with -Wl,--wrap= of these calls: what they allocate is
 * shared memory of ours.  Not what libc does for them; that is freed here, too.
 */
#include <errno.h>
#include <shmdev.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

void __real_free(void *ptr);

static unsigned long served;

static void *block(size_t align, size_t size)
{
	void *ptr = shmdev_block_alloc_aligned(align, size ? size : 1);

	__atomic_add_fetch(&served, !!ptr, __ATOMIC_RELAXED);
	return ptr;
}

/* malloc(3) does not clear either. */
void *__wrap_malloc(size_t size)
{
	void *ptr = block(64, size);

	if (ptr)
		memset(ptr, 0xa5, size);
	return ptr;
}

void *__wrap_calloc(size_t nr, size_t size)
{
	size_t all;

	if (__builtin_mul_overflow(nr, size, &all)) {
		errno = ENOMEM;
		return NULL;
	}
	return block(64, all);
}

int __wrap_posix_memalign(void **ptr, size_t align, size_t size)
{
	*ptr = block(align, size);
	return *ptr ? 0 : errno;
}

void *__wrap_aligned_alloc(size_t align, size_t size)
{
	return block(align, size);
}

void __wrap_free(void *ptr)
{
	struct shmdev_region *region;
	size_t offset;

	if (!ptr)
		return;
	region = shmdev_block_share(ptr, &offset);
	if (region) {
		shmdev_region_unref(region);
		shm_free(ptr);
	} else {
		__real_free(ptr);
	}
}

/* A hard limit that is lowered can be raised again only with a capability. */
int __real_setrlimit(int resource, const struct rlimit *limit);
int __wrap_setrlimit(int resource, const struct rlimit *limit);

int __wrap_setrlimit(int resource, const struct rlimit *limit)
{
	struct rlimit soft;

	if (getrlimit(resource, &soft))
		return -1;
	soft.rlim_cur = limit->rlim_cur;
	return __real_setrlimit(resource, &soft);
}

/* Who runs it wants to know that it was our memory; to a file, for tests close theirs. */
__attribute__((destructor)) static void tell(void)
{
	const char *name = getenv("BLOCKS_SERVED");
	FILE *file = name ? fopen(name, "a") : NULL;

	if (file) {
		fprintf(file, "%lu\n", served);
		fclose(file);
	}
}
