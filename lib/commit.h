/* SPDX-License-Identifier: LGPL-2.1-or-later OR MIT */
#ifndef SHMDEV_LIB_COMMIT_H
#define SHMDEV_LIB_COMMIT_H

#include "backend.h"

/*
 * Have all memory of @backing, which is mapped, allocated.  0, -ENOMEM: it is not to be
 * had, or another -errno; then some of it may be allocated.
 *
 * Of memory that the machine and control groups are asked for: nobody is killed for it.
 */
int commit_ordinary(const struct backing *backing);

/* Of huge pages that are reserved. */
int commit_huge(const struct backing *backing);

#endif
