/* SPDX-License-Identifier: LGPL-2.1-or-later OR MIT */
/*
 * Reads by io_uring.  A ring is one thread's from ring_get() to ring_put(); between
 * that it is kept for the next, because to make one costs as much as a small fill.
 */
#ifndef SHMDEV_LIB_RING_H
#define SHMDEV_LIB_RING_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

struct ring;

/* How many reads can be on their way at a time. */
#define RING_DEPTH	64

/* NULL: not now or not here; to be done without. */
struct ring *ring_get(void);

/* Nothing may be on its way. */
void ring_put(struct ring *ring);

/*
 * Let reads go directly to the pages of @spans, until ring_unregister() or
 * ring_put().  0 or -errno: -EOPNOTSUPP if the kernel refuses such memory,
 * or is so slow about it that it does not pay.
 */
int ring_register(struct ring *ring, const struct iovec *spans, unsigned int nr);
void ring_unregister(struct ring *ring);

/*
 * Queue a read, of which there are fewer than RING_DEPTH.  @offset may be -1: where
 * the descriptor stands.  @span is the number of the registered span that
 * [@dst, @dst + @len) lies in, or -1.
 */
void ring_read(struct ring *ring, int fd, void *dst, size_t len, int64_t offset, int span,
	       void *cookie);

/*
 * Submit what is queued and wait until a read is done.  0, or -errno if this ring
 * cannot go on: then nothing is on its way, reads that are not reaped were never
 * begun, and all that is left to do is to reap and to put.
 */
int ring_wait(struct ring *ring);

/* Take the result of a read that is done, as read(2) would give it or -errno. */
bool ring_reap(struct ring *ring, void **cookie, int *result);

void ring_fork_prepare(void);
void ring_fork_parent(void);
void ring_fork_child(void);

#endif
