// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
#define _GNU_SOURCE
#include "ring.h"

#include <errno.h>
#include <fcntl.h>
#include <liburing.h>
#include <poll.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/stat.h>

#include "debug.h"
#include "fork.h"
#include "tuning.h"

#ifndef IORING_SETUP_COOP_TASKRUN	/* Linux 5.19 */
#define IORING_SETUP_COOP_TASKRUN	(1U << 8)
#endif

#ifndef IORING_FEAT_LINKED_FILE		/* Linux 5.19 */
#define IORING_FEAT_LINKED_FILE		(1U << 12)
#endif

#ifndef IORING_FEAT_REG_REG_RING	/* Linux 6.3 */
#define IORING_FEAT_REG_REG_RING	(1U << 13)
#endif

/*
 * For each of the depth: a file's steps, or a transfer and its cancelling, which can be
 * wanted twice.  And a few.
 */
#define ENTRIES(depth)	((depth) < 2 ? 8 : 4 * (depth))

/* How many idle rings are kept: threads that fill at a time, each has a descriptor. */
#define RINGS_KEPT	4

struct ring {
	struct io_uring uring;
	struct ring *next;
	bool busy;		/* under the lock of the rings */
	bool broken;		/* not to be used again */
	bool lost;		/* the descriptor is not ours any more */
	bool registered;
	bool has_slots;		/* for files */
	unsigned int under_way;	/* submitted and not reaped */
	int watched;		/* or -1 */
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
	unsigned int entries = ENTRIES(tuning_get()->depth);
	int err;

	err = io_uring_queue_init_params(entries, &ring->uring, &params);
	if (err == -EINVAL) {
		/* An older kernel; the flag only saves interrupts. */
		memset(&params, 0, sizeof(params));
		err = io_uring_queue_init_params(entries, &ring->uring, &params);
	}
	if (err) {
		debug("no io_uring: %s; reads and writes by preadv(2) and pwritev(2)",
		      strerrorname_np(-err));
		return err;
	}

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
	ring->watched = -1;

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
	ring->watched = -1;

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

/* There is an entry: ring_wait() empties the queue, and it has room for all at a time. */
#define RING_QUEUE(ring, cookie, prepare, ...)						\
	({										\
		struct io_uring_sqe *sqe_ = io_uring_get_sqe(&(ring)->uring);		\
											\
		io_uring_prep_##prepare(sqe_, __VA_ARGS__);				\
		io_uring_sqe_set_data(sqe_, cookie);					\
		sqe_;									\
	})

void ring_transfer(struct ring *ring, enum direction direction, int fd, void *memory,
		   size_t len, int64_t offset, int span, void *cookie)
{
	if (direction == FILL && span >= 0)
		RING_QUEUE(ring, cookie, read_fixed, fd, memory, len, offset, span);
	else if (direction == FILL)
		RING_QUEUE(ring, cookie, read, fd, memory, len, offset);
	else if (span >= 0)
		RING_QUEUE(ring, cookie, write_fixed, fd, memory, len, offset, span);
	else
		RING_QUEUE(ring, cookie, write, fd, memory, len, offset);
}

void ring_fsync(struct ring *ring, int fd, void *cookie)
{
	RING_QUEUE(ring, cookie, fsync, fd, 0);
}

void ring_watch(struct ring *ring, int fd, void *cookie)
{
	RING_QUEUE(ring, cookie, poll_add, fd, POLLIN);
	ring->watched = fd;
}

void ring_cancel(struct ring *ring, void *cookie)
{
	RING_QUEUE(ring, NULL, cancel, cookie, 0);
}

int ring_files_prepare(struct ring *ring)
{
	int err;

	if (ring->has_slots)
		return 0;
	/* Before, a read looks for its file before the link in front has opened it. */
	if (!(ring->uring.features & IORING_FEAT_LINKED_FILE))
		return -EOPNOTSUPP;
	err = io_uring_register_files_sparse(&ring->uring, tuning_get()->depth);
	ring->has_slots = !err;
	return err;
}

/* A step of a file's, in the lower bits of its address. */
static void *file_cookie(struct ring_file *file, unsigned int step)
{
	return (char *)file + step;
}

_Static_assert(_Alignof(struct ring_file) >= FILE_STEPS, "the step fits into the address");

void ring_file_read(struct ring *ring, struct ring_file *file)
{
	struct io_uring_sqe *sqe;

	file->pending = 1;
	RING_QUEUE(ring, file_cookie(file, FILE_LOOK), statx, file->dirfd, file->path, 0,
		   STATX_SIZE | STATX_TYPE, file->stx);
	if (!file->len)
		return;

	file->pending = FILE_STEPS;
	sqe = RING_QUEUE(ring, file_cookie(file, FILE_OPEN), openat_direct, file->dirfd,
			 file->path, O_RDONLY | O_NOCTTY, 0, file->slot);
	sqe->flags |= IOSQE_IO_LINK;
	sqe = RING_QUEUE(ring, file_cookie(file, FILE_READ), read, file->slot, file->dst,
			 file->len, 0);
	/* Hard: it is to be closed also when it cannot be read. */
	sqe->flags |= IOSQE_FIXED_FILE | IOSQE_IO_HARDLINK;
	RING_QUEUE(ring, file_cookie(file, FILE_CLOSE), close_direct, file->slot);
}

/*
 * The kernel does not let us in any more, but what it has of ours it goes on with,
 * and we must not leave before.  Completions can be seen without its help, but not
 * waited for.
 */
static void ring_settle(struct ring *ring)
{
	eventfd_t count;

	/* What only watches would never end. */
	if (ring->watched >= 0)
		eventfd_write(ring->watched, 1);
	while (io_uring_cq_ready(&ring->uring) < ring->under_way)
		poll(NULL, 0, 1);
	if (ring->watched >= 0)
		eventfd_read(ring->watched, &count);
}

/* It cannot go on, because of @err. */
static void ring_break(struct ring *ring, int err)
{
	/* EBADF, EOPNOTSUPP: the program closed it, or it is a file of the program's. */
	ring->lost = err == -EBADF || err == -EOPNOTSUPP;
	ring->broken = true;
	ring_settle(ring);
}

int ring_submit(struct ring *ring)
{
	int ret = io_uring_submit(&ring->uring);

	if (ret > 0)
		ring->under_way += ret;
	/* What has no room now will have it when something is done. */
	if (ret >= 0 || ret == -EINTR || ret == -EAGAIN || ret == -EBUSY)
		return 0;
	ring_break(ring, ret);
	return ret;
}

int ring_wait(struct ring *ring, bool interruptible)
{
	int ret;

	for (;;) {
		ret = io_uring_submit_and_wait(&ring->uring, 1);
		if (ret > 0)
			ring->under_way += ret;
		if (io_uring_cq_ready(&ring->uring))
			return 0;
		/* Where it has submitted something, this is all it says of a signal. */
		if (interruptible && (ret == -EINTR || ret >= 0))
			return -EINTR;
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

	ring_break(ring, ret);
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

bool ring_is_doubtful(int result)
{
	switch (result) {
	case -EAGAIN:
	case -ECANCELED:
	case -EFAULT:
	case -EINVAL:
	case -ENOMEM:
	case -EOPNOTSUPP:
		return true;
	default:
		return false;
	}
}

bool ring_reap_file(struct ring *ring, struct ring_file **done)
{
	struct ring_file *file;
	unsigned int step;
	void *cookie;
	int result;

	*done = NULL;
	if (!ring_reap(ring, &cookie, &result))
		return false;
	step = (uintptr_t)cookie % _Alignof(struct ring_file);
	file = (struct ring_file *)((char *)cookie - step);
	file->results[step] = result;
	if (!--file->pending)
		*done = file;
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
