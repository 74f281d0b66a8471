/* SPDX-License-Identifier: GPL-2.0-only */
/* As much of io_uring as the tests need: one request at a time. */
#ifndef SHMDEV_KSELFTEST_RING_H
#define SHMDEV_KSELFTEST_RING_H

#include <sys/syscall.h>
#include <sys/uio.h>
#include <linux/io_uring.h>

#include "util.h"

struct ring {
	struct io_uring_params params;
	int fd;
	char *sq;
	char *cq;
	struct io_uring_sqe *sqe;
};

/* 0 or -errno. */
static inline int ring_open(struct ring *ring)
{
	*ring = (struct ring) {};
	ring->fd = result(syscall(__NR_io_uring_setup, 1, &ring->params));
	if (ring->fd < 0)
		return ring->fd;
	ring->sq = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, ring->fd,
			IORING_OFF_SQ_RING);
	ring->cq = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, ring->fd,
			IORING_OFF_CQ_RING);
	ring->sqe = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, ring->fd,
			 IORING_OFF_SQES);
	return ring->sq == MAP_FAILED || ring->cq == MAP_FAILED ||
	       ring->sqe == MAP_FAILED ? -ENOMEM : 0;
}

static inline void ring_close(struct ring *ring)
{
	munmap(ring->sq, 4096);
	munmap(ring->cq, 4096);
	munmap(ring->sqe, 4096);
	close(ring->fd);
}

/* Pin @len bytes at @p for long: 0 or -errno. */
static inline int ring_pin(struct ring *ring, void *p, size_t len)
{
	struct iovec iov = { .iov_base = p, .iov_len = len };

	return result(syscall(__NR_io_uring_register, ring->fd, IORING_REGISTER_BUFFERS, &iov, 1));
}

/* Have one request done; its result, or -errno if it could not even be asked for. */
static inline int ring_do(struct ring *ring, const struct io_uring_sqe *sqe)
{
	unsigned int *tail = (unsigned int *)(ring->sq + ring->params.sq_off.tail);
	unsigned int *head = (unsigned int *)(ring->cq + ring->params.cq_off.head);
	struct io_uring_cqe *cqes = (struct io_uring_cqe *)(ring->cq + ring->params.cq_off.cqes);
	int ret;

	*ring->sqe = *sqe;
	((unsigned int *)(ring->sq + ring->params.sq_off.array))[0] = 0;
	__atomic_store_n(tail, *tail + 1, __ATOMIC_RELEASE);
	ret = result(syscall(__NR_io_uring_enter, ring->fd, 1, 1, IORING_ENTER_GETEVENTS,
			     NULL, 0));
	if (ret != 1)
		return ret < 0 ? ret : -EIO;
	ret = cqes[*head & (ring->params.cq_entries - 1)].res;
	__atomic_store_n(head, *head + 1, __ATOMIC_RELEASE);
	return ret;
}

#endif /* SHMDEV_KSELFTEST_RING_H */
