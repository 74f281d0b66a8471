/* SPDX-License-Identifier: LGPL-2.1-or-later OR MIT */
/*
 * Threads that help one call and are gone when it returns: there is nothing for a fork
 * or an exit to find.  To make and to join one takes 20 to 60 us, in which one processor
 * copies some 300 KiB.
 */
#ifndef SHMDEV_LIB_CREW_H
#define SHMDEV_LIB_CREW_H

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>

#include "tuning.h"

struct crew {
	pthread_t threads[THREADS_MAX - 1];
	unsigned int nr;
};

/* How many threads are to share a copying of @bytes, the calling one included. */
unsigned int crew_size(size_t bytes);

/* A thread that runs @body in which no signal is delivered.  0 or an error number. */
int crew_thread(pthread_t *thread, void *(*body)(void *), void *argument);

/* Have up to @size - 1 threads run @body besides the calling one. */
void crew_start(struct crew *crew, unsigned int size, void *(*body)(void *), void *argument);
void crew_join(struct crew *crew);

/*
 * Whether the calling thread has slept since @sleeps was noted, which is noted anew.  A read
 * that made it was not of memory.  True, too, if the kernel does not let it be known.
 */
bool thread_slept(long *sleeps);

#endif
