/* SPDX-License-Identifier: LGPL-2.1-or-later OR MIT */
#ifndef SHMDEV_LIB_TRANSFER_H
#define SHMDEV_LIB_TRANSFER_H

#include <stddef.h>
#include <stdint.h>

#include "shmdev.h"

enum direction { FILL, DRAIN };

/* What struct shm_fill and struct shm_drain both are. */
struct transfer {
	char *memory;
	size_t len;
	int64_t offset;
	int fd;
	unsigned int flags;
	int64_t result;
	size_t done;
} __attribute__((may_alias));

#define TRANSFER_IS(type, memory_of)							\
	(sizeof(struct transfer) == sizeof(struct type) &&				\
	 offsetof(struct transfer, memory) == offsetof(struct type, memory_of) &&	\
	 offsetof(struct transfer, len) == offsetof(struct type, len) &&		\
	 offsetof(struct transfer, offset) == offsetof(struct type, offset) &&		\
	 offsetof(struct transfer, fd) == offsetof(struct type, fd) &&			\
	 offsetof(struct transfer, flags) == offsetof(struct type, flags) &&		\
	 offsetof(struct transfer, result) == offsetof(struct type, result) &&		\
	 offsetof(struct transfer, done) == offsetof(struct type, done))

_Static_assert(TRANSFER_IS(shm_fill, dst), "a fill is a transfer");
_Static_assert(TRANSFER_IS(shm_drain, src), "a drain is a transfer");

#endif
