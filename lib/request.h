/* SPDX-License-Identifier: LGPL-2.1-or-later OR MIT */
/* Which requests are good, and how a batch of them is to be done. */
#ifndef SHMDEV_LIB_REQUEST_H
#define SHMDEV_LIB_REQUEST_H

#include <stdbool.h>

#include "piece.h"
#include "region.h"

/*
 * Whether requests may name [@memory, @memory + @len), with @write to store there.  @stretch
 * is what was found for the last of them, with the same @write, or of no size; then what was
 * found for this one.
 */
bool memory_is_ours(const void *memory, size_t len, bool write, struct stretch *stretch);

/* Sort the good ones of @reqs into @batch, which has room for all of them. */
void batch_collect(struct batch *batch, struct transfer *reqs, unsigned int nr);

#endif
