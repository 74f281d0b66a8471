/* SPDX-License-Identifier: LGPL-2.1-or-later OR MIT */
#ifndef SHMDEV_LIB_COMMIT_H
#define SHMDEV_LIB_COMMIT_H

#include <stdbool.h>

#include "backend.h"

/*
 * Have all memory of @backing, which is mapped, allocated.  0, -ENOMEM: it is not to be
 * had, or another -errno; then some of it may be allocated.
 *
 * Of memory that the machine and control groups are asked for: nobody is killed for it.
 */
int commit_ordinary(const struct backing *backing);

/*
 * The same of memory of either kind, and have it mapped, as far as the kernel can do that.
 * -ECANCELED: *@cancel, which is atomic, became true.
 */
int commit_ready(const struct backing *backing, const bool *cancel);

/* Of huge pages that are reserved. */
int commit_huge(const struct backing *backing);

#endif
