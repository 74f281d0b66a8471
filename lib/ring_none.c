// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/*
 * In place of ring.c where the library is built without liburing: there is never a
 * ring, and fills go by preadv(2).
 */
#include "ring.h"

#include <errno.h>
#include <stdlib.h>

struct ring *ring_get(void)
{
	return NULL;
}

/* Without a ring nobody comes here. */

void ring_put(struct ring *ring)
{
	(void)ring;
	abort();
}

int ring_register(struct ring *ring, const struct iovec *spans, unsigned int nr)
{
	(void)ring, (void)spans, (void)nr;
	return -EOPNOTSUPP;
}

void ring_unregister(struct ring *ring)
{
	(void)ring;
	abort();
}

void ring_read(struct ring *ring, int fd, void *dst, size_t len, int64_t offset, int span,
	       void *cookie)
{
	(void)ring, (void)fd, (void)dst, (void)len, (void)offset, (void)span, (void)cookie;
	abort();
}

int ring_wait(struct ring *ring)
{
	(void)ring;
	return -EOPNOTSUPP;
}

bool ring_reap(struct ring *ring, void **cookie, int *result)
{
	(void)ring, (void)cookie, (void)result;
	return false;
}

void ring_fork_prepare(void)
{
}

void ring_fork_parent(void)
{
}

void ring_fork_child(void)
{
}
