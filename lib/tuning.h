/* SPDX-License-Identifier: LGPL-2.1-or-later OR MIT */
#ifndef SHMDEV_LIB_TUNING_H
#define SHMDEV_LIB_TUNING_H

#include <stddef.h>

#define DEPTH_MAX	256
#define THREADS_MAX	16

struct tuning {
	size_t chunk;		/* what one read or write asks for at the most */
	unsigned int depth;	/* how many of them are on their way at a time */
	unsigned int threads;	/* how many threads a call may use, the caller's included */
};

/* What the environment says, where it says something sensible, and defaults. */
const struct tuning *tuning_get(void);

#endif
