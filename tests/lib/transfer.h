/* SPDX-License-Identifier: LGPL-2.1-or-later OR MIT */
/* What the tests of fills, of drains and of jobs begin with. */
#ifndef SHMDEV_TESTS_TRANSFER_H
#define SHMDEV_TESTS_TRANSFER_H

#include "tap.h"
#include "util.h"

#define MIB	((size_t)1 << 20)
#define COUNT(array)	(sizeof(array) / sizeof((array)[0]))

static inline char *get_block(size_t size)
{
	char *block = shm_alloc(size);

	CHECK(block);
	return block;
}

static inline struct shm_fill fill_request(void *dst, size_t len, int fd, int64_t offset)
{
	return (struct shm_fill){ .dst = dst, .len = len, .fd = fd, .offset = offset,
				  .result = 0x5555, .done = 0x5555 };
}

/* The result of a batch of one, which says as much in its done. */
static inline int64_t fill_one(void *dst, size_t len, int fd, int64_t offset)
{
	struct shm_fill one = fill_request(dst, len, fd, offset);

	CHECK_EQ(shm_fill(&one, 1), 0);
	CHECK(one.result < 0 || (size_t)one.result == one.done);
	return one.result;
}

static inline struct shm_drain drain_request(const void *src, size_t len, int fd,
					     int64_t offset)
{
	return (struct shm_drain){ .src = src, .len = len, .fd = fd, .offset = offset,
				   .result = 0x5555, .done = 0x5555 };
}

static inline int64_t drain_one(const void *src, size_t len, int fd, int64_t offset)
{
	struct shm_drain one = drain_request(src, len, fd, offset);

	CHECK_EQ(shm_drain(&one, 1), 0);
	CHECK(one.result < 0 || (size_t)one.result == one.done);
	return one.result;
}

#endif
