/* SPDX-License-Identifier: LGPL-2.1-or-later OR MIT */
/* A batch by a ring. */
#ifndef SHMDEV_LIB_FLIGHT_H
#define SHMDEV_LIB_FLIGHT_H

#include <stdbool.h>

#include "piece.h"
#include "ring.h"

/* As much of @batch as @ring will do: all, and true, unless it breaks. */
bool batch_ring(struct batch *batch, struct ring *ring);

#endif
