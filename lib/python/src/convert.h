/* SPDX-License-Identifier: LGPL-2.1-or-later OR MIT */
/* Columns of numbers, copied and converted.  Knows nothing of Python objects. */
#ifndef SHMDEV_PYTHON_CONVERT_H
#define SHMDEV_PYTHON_CONVERT_H

#include "number.h"

/* Numbers at equal distances, of any alignment; a stride may be negative or 0. */
struct column {
	char *first;
	ptrdiff_t stride;
	struct format format;
};

/* Whether to store @from in @to is to copy its bytes as they are. */
bool convert_is_copy(const struct column *to, const struct column *from);

/* Whether ctypes would take every number of @from as an item of @to, without fail. */
bool convert_is_defined(enum number to, enum number from);

/*
 * Store the @n numbers of @from in @to, as ctypes would store them one by one.  If
 * the two overlap the result is as if @from had been copied first.  The pair must
 * be defined.  0, or -ENOMEM and nothing is written.
 */
int convert_column(const struct column *to, const struct column *from, size_t n);

/*
 * The sets of kernels that this machine can run: the best if @name is NULL, then the
 * next worse one, then NULL.  The best is in use until another is chosen, which is
 * for tests: they would see one of them only.  -EINVAL: no set that runs here.
 */
const char *convert_kernels_next(const char *name);
int convert_kernels_use(const char *name);

#endif /* SHMDEV_PYTHON_CONVERT_H */
