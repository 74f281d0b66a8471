// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/*
 * What a program that was compiled against the header has in its code: the layout of
 * structs and the values of constants.  None of it may change as long as the soname is
 * libshmdev.so.0; what is added takes reserved fields, or goes behind what there is.
 */
#include <shmdev.h>

#include "tap.h"

/* The field @field of @type is at @offset and has @size bytes. */
#define FIELD(type, field, offset, size)						\
	_Static_assert(offsetof(struct type, field) == (offset) &&			\
		       sizeof(((struct type *)0)->field) == (size), #type "." #field)
#define SIZE(type, size)	_Static_assert(sizeof(struct type) == (size), #type)
#define VALUE(name, value)	_Static_assert((name) == (value), #name)

#if __SIZEOF_POINTER__ == 8
FIELD(shm_fill, dst, 0, 8);
FIELD(shm_fill, len, 8, 8);
FIELD(shm_fill, offset, 16, 8);
FIELD(shm_fill, fd, 24, 4);
FIELD(shm_fill, flags, 28, 4);
FIELD(shm_fill, result, 32, 8);
FIELD(shm_fill, done, 40, 8);
SIZE(shm_fill, 48);

FIELD(shm_drain, src, 0, 8);
FIELD(shm_drain, len, 8, 8);
FIELD(shm_drain, offset, 16, 8);
FIELD(shm_drain, fd, 24, 4);
FIELD(shm_drain, flags, 28, 4);
FIELD(shm_drain, result, 32, 8);
FIELD(shm_drain, done, 40, 8);
SIZE(shm_drain, 48);

FIELD(shmdev_path, dst, 0, 8);
FIELD(shmdev_path, len, 8, 8);
FIELD(shmdev_path, path, 16, 8);
FIELD(shmdev_path, dirfd, 24, 4);
FIELD(shmdev_path, flags, 28, 4);
FIELD(shmdev_path, result, 32, 8);
FIELD(shmdev_path, done, 40, 8);
FIELD(shmdev_path, size, 48, 8);
SIZE(shmdev_path, 56);
#endif

FIELD(shmdev_block_options, flags, 0, 4);
FIELD(shmdev_block_options, node, 4, 4);
FIELD(shmdev_block_options, align, 8, 8);
FIELD(shmdev_block_options, reserved, 16, 48);
SIZE(shmdev_block_options, 64);

FIELD(shmdev_info, backend, 0, 4);
FIELD(shmdev_info, fill_engine, 4, 4);
FIELD(shmdev_info, page_size, 8, 8);
FIELD(shmdev_info, regions, 16, 8);
FIELD(shmdev_info, region_bytes, 24, 8);
FIELD(shmdev_info, blocks, 32, 8);
FIELD(shmdev_info, block_bytes, 40, 8);
FIELD(shmdev_info, reserved, 48, 64);
SIZE(shmdev_info, 112);

FIELD(shmdev_ready_options, limit, 0, 8);
FIELD(shmdev_ready_options, size, 8, 8);
FIELD(shmdev_ready_options, reserved, 16, 48);
SIZE(shmdev_ready_options, 64);

FIELD(shmdev_ready_info, limit, 0, 8);
FIELD(shmdev_ready_info, bytes, 8, 8);
FIELD(shmdev_ready_info, regions, 16, 8);
FIELD(shmdev_ready_info, hits, 24, 8);
FIELD(shmdev_ready_info, misses, 32, 8);
FIELD(shmdev_ready_info, made_bytes, 40, 8);
FIELD(shmdev_ready_info, dropped_bytes, 48, 8);
FIELD(shmdev_ready_info, cpu_ns, 56, 8);
FIELD(shmdev_ready_info, reserved, 64, 64);
SIZE(shmdev_ready_info, 128);

VALUE(SHMDEV_ALIGN, 64);
VALUE(SHMDEV_ALIGN_MAX, 1UL << 30);
VALUE(SHMDEV_BLOCK_NOZERO, 1);
VALUE(SHMDEV_BLOCK_OWN, 2);
VALUE(SHMDEV_BLOCK_NODE, 4);
VALUE(SHMDEV_BLOCK_HUGE, 8);
VALUE(SHMDEV_REGION_COMMIT, 1);
VALUE(SHMDEV_BACKEND_DEVICE, 0);
VALUE(SHMDEV_BACKEND_HUGETLB, 1);
VALUE(SHMDEV_BACKEND_THP, 2);
VALUE(SHMDEV_BACKEND_MEMFD, 3);
VALUE(SHM_FILL_CURRENT, -1);
VALUE(SHM_DRAIN_CURRENT, -1);
VALUE(SHM_FILL_INTR, 1);
VALUE(SHM_DRAIN_INTR, 1);
VALUE(SHM_DRAIN_SYNC, 2);
VALUE(SHMDEV_FILL_FIXED, 0);
VALUE(SHMDEV_FILL_RING, 1);
VALUE(SHMDEV_FILL_PREADV, 2);

/* Nothing would have been compiled; this says so where tests are counted. */
static void layouts_and_values_are_as_ever(void)
{
	CHECK_EQ(sizeof(enum shmdev_backend), 4);
	CHECK_EQ(sizeof(enum shmdev_fill_engine), 4);
}

TAP_MAIN(TAP_TEST(layouts_and_values_are_as_ever))
