/* SPDX-License-Identifier: LGPL-2.1-or-later OR MIT */
/* What was drained, onto stable storage. */
#ifndef SHMDEV_LIB_SYNC_H
#define SHMDEV_LIB_SYNC_H

#include "piece.h"
#include "ring.h"

/* Those of batch->syncs that have gone well so far; @ring may be NULL. */
void batch_sync(struct batch *batch, struct ring *ring);

#endif
