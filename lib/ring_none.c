// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/*
 * In place of ring.c where the library is built without liburing: there is never a
 * ring, and fills and drains go by system calls.
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
	abort();
}

void ring_unregister(struct ring *ring)
{
	(void)ring;
	abort();
}

void ring_transfer(struct ring *ring, enum direction direction, int fd, void *memory,
		   size_t len, int64_t offset, int span, void *cookie)
{
	(void)ring, (void)direction, (void)fd, (void)memory, (void)len, (void)offset, (void)span;
	(void)cookie;
	abort();
}

void ring_fsync(struct ring *ring, int fd, void *cookie)
{
	(void)ring, (void)fd, (void)cookie;
	abort();
}

int ring_files_prepare(struct ring *ring)
{
	(void)ring;
	abort();
}

void ring_file_read(struct ring *ring, struct ring_file *file)
{
	(void)ring, (void)file;
	abort();
}

bool ring_is_doubtful(int result)
{
	(void)result;
	abort();
}

bool ring_reap_file(struct ring *ring, struct ring_file **done)
{
	(void)ring, (void)done;
	abort();
}

void ring_watch(struct ring *ring, int fd, void *cookie)
{
	(void)ring, (void)fd, (void)cookie;
	abort();
}

void ring_cancel(struct ring *ring, void *cookie)
{
	(void)ring, (void)cookie;
	abort();
}

int ring_wait(struct ring *ring, bool interruptible)
{
	(void)ring, (void)interruptible;
	abort();
}

int ring_submit(struct ring *ring)
{
	(void)ring;
	abort();
}

bool ring_reap(struct ring *ring, void **cookie, int *result)
{
	(void)ring, (void)cookie, (void)result;
	abort();
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
