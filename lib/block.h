/* SPDX-License-Identifier: LGPL-2.1-or-later OR MIT */
/* Blocks, wherever they are: what the API is made of. */
#ifndef SHMDEV_LIB_BLOCK_H
#define SHMDEV_LIB_BLOCK_H

#include "alloc.h"

/* As the caller wants it. */
struct request {
	size_t size;
	size_t align;
	bool dirty;		/* need not be cleared */
	bool own;		/* a region */
	struct placement placement;
};

/* 0 or -EINVAL. */
int request_make(struct request *request, size_t size,
		 const struct shmdev_block_options *options);

/* NULL + errno.  Not locked. */
void *block_alloc(const struct request *request);

/* The span of the live block that starts at @addr, which must be there, and its *@slot. */
struct span *block_get(const void *addr, unsigned int *slot);
size_t block_size(const struct span *span, unsigned int slot);

/* How large it may become where it is. */
size_t block_room(const struct span *span, unsigned int slot);

/* The live block that @addr is in: where it starts, and its size.  Locked. */
struct span *block_around(const char *addr, unsigned int *slot, char **start, size_t *size);

/* Live blocks of @span that start in [@from, @to), which is all if these are NULL. */
long span_count(const struct span *span, const char *from, const char *to, uint64_t *bytes);
long arena_count(const struct arena *arena, uint64_t *bytes);

/* A block of the parent's, which may be anywhere in an arena that we only look at. */
void inherited_free(struct span *span, unsigned int slot);
void run_free(struct run *run);

/*
 * Let the block that begins with @span be of @size, and what it grew by zero, where it is.
 * To shrink to less than a half is refused, unless it is to be @anyhow.
 */
bool block_resize(struct span *span, unsigned int slot, const struct request *request,
		  bool anyhow);

/* Whether the block at @addr is where @request could have put it. */
bool is_as_requested(const struct span *span, const void *addr, const struct request *request);

#endif
