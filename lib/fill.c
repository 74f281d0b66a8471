// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
#include "fill.h"

#include "batch.h"
#include "fixed.h"
#include "ring.h"

int shm_fill(struct shm_fill *reqs, unsigned int nr)
{
	return batch_run(FILL, (struct transfer *)reqs, nr, NULL);
}

int shm_drain(struct shm_drain *reqs, unsigned int nr)
{
	return batch_run(DRAIN, (struct transfer *)reqs, nr, NULL);
}

enum shmdev_fill_engine fill_engine(enum shmdev_backend backend)
{
	enum shmdev_fill_engine engine = SHMDEV_FILL_RING;
	struct ring *ring = ring_get();

	if (!ring)
		return SHMDEV_FILL_PREADV;
	if (fixed_works(ring, backend))
		engine = SHMDEV_FILL_FIXED;
	ring_put(ring);
	return engine;
}
