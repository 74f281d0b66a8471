/* SPDX-License-Identifier: LGPL-2.1-or-later OR MIT */
/*
 * The innermost loops.  kernels.c is compiled once for each instruction set of
 * KERNEL_SETS; convert.c chooses among them.
 */
#ifndef SHMDEV_PYTHON_KERNELS_H
#define SHMDEV_PYTHON_KERNELS_H

#include "number.h"

/* Convert @n contiguous numbers; neither side needs to be aligned; no overlap. */
typedef void kernel_convert(void *to, const void *from, size_t n);

/* Copy @n items of one size from and to any stride; no overlap. */
typedef void kernel_move(char *to, ptrdiff_t to_stride, const char *from,
			 ptrdiff_t from_stride, size_t n);

#define KERNEL_SIZES 5	/* 1 << 0 ... 1 << 4 bytes */

struct kernels {
	/* [to][from]; NULL where the bits need no change or nothing is defined */
	kernel_convert *convert[NUMBER_NR][NUMBER_NR];
	/* [log2 of the size][0: as it is, 1: bytes reversed]; never NULL but [4][1] */
	kernel_move *move[KERNEL_SIZES][2];
};

extern const struct kernels kernels_base;
#ifdef __x86_64__
extern const struct kernels kernels_avx2;
extern const struct kernels kernels_avx512;
#endif

#endif /* SHMDEV_PYTHON_KERNELS_H */
