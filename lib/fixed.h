/* SPDX-License-Identifier: LGPL-2.1-or-later OR MIT */
/*
 * Which memory of a batch is worth registering with io_uring.
 *
 * To register is to pin: 1.4 us for each MiB of huge pages, 17 us for base pages,
 * where a read from the page cache takes 200 us and one by O_DIRECT a processor time
 * of 7 us, of which registering saves half.  So it pays for huge pages and for what
 * goes past the page cache: it is not done for base pages, and not before there is
 * something that is not in the page cache.
 *
 * It is undone with the batch.  Buffers that stay registered would follow their old
 * pages when a peer gives those back (hole punching), and data would go nowhere.
 */
#ifndef SHMDEV_LIB_FIXED_H
#define SHMDEV_LIB_FIXED_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/uio.h>

#include "ring.h"
#include "shmdev.h"

#define FIXED_SPANS	64

struct fixed {
	struct iovec spans[FIXED_SPANS];
	const void *regions[FIXED_SPANS];	/* that the spans lie in, to compare */
	unsigned int nr;
	size_t wanted;				/* bytes that are to be read */
	bool asked;				/* to register them */
	enum shmdev_backend backend;		/* of all of them, if any */
};

static inline void fixed_init(struct fixed *fixed)
{
	fixed->nr = 0;
	fixed->wanted = 0;
	fixed->asked = false;
}

/* Note that the batch will read into [@dst, @dst + @len) of @region of @backend. */
void fixed_add(struct fixed *fixed, enum shmdev_backend backend, const void *region,
	       char *dst, size_t len);

/* Register what was noted, the first time; if that is not to be had, forget it. */
void fixed_register(struct fixed *fixed, struct ring *ring);

/* The span that [@dst, @dst + @len) lies in, or -1. */
int fixed_find(const struct fixed *fixed, const char *dst, size_t len);

/* Whether the kernel registers memory of @backend, found out by trying. */
bool fixed_works(struct ring *ring, enum shmdev_backend backend);

#endif
