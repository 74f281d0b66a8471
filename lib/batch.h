/* SPDX-License-Identifier: LGPL-2.1-or-later OR MIT */
/* Batches of fills or of drains. */
#ifndef SHMDEV_LIB_BATCH_H
#define SHMDEV_LIB_BATCH_H

#include <stdint.h>

#include "transfer.h"

/*
 * How another thread follows a batch and ends it: @stopped first, then an event on
 * @stop_fd.  Both numbers are atomic.
 */
struct control {
	int stop_fd;
	int stopped;
	uint64_t bytes;
};

/* As shm_fill() and shm_drain(); @control may be NULL. */
int batch_run(enum direction direction, struct transfer *reqs, unsigned int nr,
	      struct control *control);

#endif
