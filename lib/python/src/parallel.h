/* SPDX-License-Identifier: LGPL-2.1-or-later OR MIT */
/* A long loop on several processors.  Knows nothing of Python objects. */
#ifndef SHMDEV_PYTHON_PARALLEL_H
#define SHMDEV_PYTHON_PARALLEL_H

#include <stddef.h>

/* Do [@first, @first + @n) of a loop. */
typedef void parallel_part(const void *loop, size_t first, size_t n);

/*
 * Do all @n of @loop, in parts that may be done at the same time, by this thread and, for
 * each @grain of them, another; those are gone on return.  No other than this one takes
 * signals.  Cannot fail: what cannot be given to another thread is done here.
 */
void parallel_run(parallel_part *part, const void *loop, size_t n, size_t grain);

#endif /* SHMDEV_PYTHON_PARALLEL_H */
