// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
#define _GNU_SOURCE
#include "ring.h"

#include <errno.h>
#include <liburing.h>
#include <poll.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "fork.h"

#ifndef IORING_SETUP_COOP_TASKRUN	/* Linux 5.19 */
#define IORING_SETUP_COOP_TASKRUN	(1U << 8)
#endif

#ifndef IORING_FEAT_REG_REG_RING	/* Linux 6.3 */
#define IORING_FEAT_REG_REG_RING	(1U << 13)
#endif

/* How many idle rings are kept: threads that fill at a time, each has a descriptor. */
#define RINGS_KEPT	4

struct ring {
	struct io_uring uring;
	struct ring *next;
	bool busy;		/* under the lock of the rings */
	bool broken;		/* not to be used again */
	bool lost;		/* the descriptor is not ours any more */
	bool registered;
	unsigned int under_way;	/* submitted and not reaped */
};

static struct {
	pthread_mutex_t lock;
	struct ring *all;
	unsigned int idle;
	bool refused;		/* for good: no such call, or not allowed */
} rings = {
	.lock = PTHREAD_MUTEX_INITIALIZER,
};

/* Behind the gate.  0 or -errno. */
static int ring_setup(struct ring *ring)
{
	struct io_uring_params params = { .flags = IORING_SETUP_COOP_TASKRUN };
	int err;

	err = io_uring_queue_init_params(RING_DEPTH, &ring->uring, &params);
	if (err == -EINVAL) {
		/* An older kernel; the flag only saves interrupts. */
		memset(&params, 0, sizeof(params));
		err = io_uring_queue_init_params(RING_DEPTH, &ring->uring, &params);
	}
	if (err)
		return err;

	/* Linux 5.6, which also brought IORING_OP_READ. */
	if (!(params.features & IORING_FEAT_RW_CUR_POS)) {
		io_uring_queue_exit(&ring->uring);
		return -ENOSYS;
	}
	return 0;
}

/* Unmap and close it here; another process that has it keeps it. */
static void ring_drop(struct ring *ring)
{
	if (ring->lost)
		ring->uring.ring_fd = -1;
	io_uring_queue_exit(&ring->uring);
	free(ring);
}

static struct ring *ring_make(void)
{
	struct ring *ring;
	int err;

	err = fork_init();
	if (err)
		return NULL;
	ring = calloc(1, sizeof(*ring));
	if (!ring)
		return NULL;

	fork_gate_enter();
	err = ring_setup(ring);
	pthread_mutex_lock(&rings.lock);
	if (!err) {
		ring->busy = true;
		ring->next = rings.all;
		rings.all = ring;
	} else if (err == -ENOSYS || err == -EPERM || err == -EACCES) {
		rings.refused = true;
	}
	pthread_mutex_unlock(&rings.lock);
	fork_gate_leave();

	if (err) {
		free(ring);
		return NULL;
	}
	return ring;
}

struct ring *ring_get(void)
{
	struct ring *ring = NULL;
	bool refused;

	pthread_mutex_lock(&rings.lock);
	refused = rings.refused;
	if (!refused) {
		for (ring = rings.all; ring; ring = ring->next)
			if (!ring->busy)
				break;
		if (ring) {
			ring->busy = true;
			rings.idle--;
		}
	}
	pthread_mutex_unlock(&rings.lock);

	if (refused || ring)
		return ring;
	return ring_make();
}

int ring_register(struct ring *ring, const struct iovec *spans, unsigned int nr)
{
	int err;

	/*
	 * Before Linux 6.4 to unregister waits for an RCU grace period: 16 ms, in which
	 * 150 MiB can be read.  There is no flag for 6.4; this one is next to it.
	 */
	if (!(ring->uring.features & IORING_FEAT_REG_REG_RING))
		return -EOPNOTSUPP;
	err = io_uring_register_buffers(&ring->uring, spans, nr);
	ring->registered = !err;
	return err;
}

void ring_unregister(struct ring *ring)
{
	if (ring->registered && !ring->lost)
		io_uring_unregister_buffers(&ring->uring);
	ring->registered = false;
}

void ring_put(struct ring *ring)
{
	struct ring **at;
	bool keep;

	/* Now, not when the ring goes: registered memory is pinned. */
	ring_unregister(ring);

	fork_gate_enter();
	pthread_mutex_lock(&rings.lock);
	keep = !ring->broken && rings.idle < RINGS_KEPT;
	if (keep) {
		ring->busy = false;
		rings.idle++;
	} else {
		for (at = &rings.all; *at != ring; at = &(*at)->next)
			;
		*at = ring->next;
	}
	pthread_mutex_unlock(&rings.lock);
	if (!keep)
		ring_drop(ring);
	fork_gate_leave();
}

void ring_read(struct ring *ring, int fd, void *dst, size_t len, int64_t offset, int span,
	       void *cookie)
{
	struct io_uring_sqe *sqe = io_uring_get_sqe(&ring->uring);

	if (span >= 0)
		io_uring_prep_read_fixed(sqe, fd, dst, len, offset, span);
	else
		io_uring_prep_read(sqe, fd, dst, len, offset);
	io_uring_sqe_set_data(sqe, cookie);
}

/*
 * The kernel does not let us in any more, but what it has of ours it goes on with,
 * and we must not leave before.  Completions can be seen without its help, but not
 * waited for.
 */
static void ring_drain(struct ring *ring)
{
	while (io_uring_cq_ready(&ring->uring) < ring->under_way)
		poll(NULL, 0, 1);
}

int ring_wait(struct ring *ring)
{
	int ret;

	for (;;) {
		ret = io_uring_submit_and_wait(&ring->uring, 1);
		if (ret > 0)
			ring->under_way += ret;
		if (io_uring_cq_ready(&ring->uring))
			return 0;
		if (ret >= 0 || ret == -EINTR)
			continue;
		if ((ret == -EAGAIN || ret == -EBUSY) && ring->under_way) {
			/* No room for more until some are done. */
			ret = io_uring_wait_cqe(&ring->uring, &(struct io_uring_cqe *){ NULL });
			if (!ret)
				return 0;
			if (ret == -EINTR)
				continue;
		}
		break;
	}

	/* EBADF, EOPNOTSUPP: the program closed it, or it is a file of the program's. */
	ring->lost = ret == -EBADF || ret == -EOPNOTSUPP;
	ring->broken = true;
	ring_drain(ring);
	return ret;
}

bool ring_reap(struct ring *ring, void **cookie, int *result)
{
	struct io_uring_cqe *cqe;

	if (io_uring_peek_cqe(&ring->uring, &cqe))
		return false;
	*cookie = io_uring_cqe_get_data(cqe);
	*result = cqe->res;
	io_uring_cqe_seen(&ring->uring, cqe);
	ring->under_way--;
	return true;
}

void ring_fork_prepare(void)
{
	pthread_mutex_lock(&rings.lock);
}

void ring_fork_parent(void)
{
	pthread_mutex_unlock(&rings.lock);
}

/*
 * The rings are the parent's, also those that its other threads are using: with
 * queues in shared memory, to be unmapped here and never touched.
 */
void ring_fork_child(void)
{
	struct ring *ring, *next;

	for (ring = rings.all; ring; ring = next) {
		next = ring->next;
		ring_drop(ring);
	}
	rings.all = NULL;
	rings.idle = 0;
	pthread_mutex_unlock(&rings.lock);
}
