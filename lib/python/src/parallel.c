// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/*
 * Threads are made for one loop and end with it: to make one takes some 20 us, of a
 * loop of milliseconds, and none is there to be lost at a fork, to be found by whoever
 * counts threads, or to be ended at exit.
 */
#define _GNU_SOURCE
#include "parallel.h"

#include <pthread.h>
#include <sched.h>
#include <signal.h>

/* Few cores saturate the memory of most machines. */
#define THREADS_MAX	8

/* Pieces that each thread would get, if all were as fast: one that waits for a processor gets less. */
#define PIECES	4

struct sharing {
	parallel_part *part;
	const void *loop;
	size_t n, piece;
	size_t next;		/* atomic */
};

static void *share(void *arg)
{
	struct sharing *sharing = arg;
	size_t first;

	for (;;) {
		first = __atomic_fetch_add(&sharing->next, sharing->piece, __ATOMIC_RELAXED);
		if (first >= sharing->n)
			return NULL;
		sharing->part(sharing->loop, first, sharing->n - first < sharing->piece ?
						    sharing->n - first : sharing->piece);
	}
}

/* How many processors this thread may use; cgroups and taskset count, as they are now. */
static size_t processors(void)
{
	cpu_set_t set;

	/* More than fit into a set: then it does not matter how many exactly. */
	if (sched_getaffinity(0, sizeof(set), &set))
		return THREADS_MAX;
	return CPU_COUNT(&set);
}

/* How many threads are to share it. */
static size_t threads_for(size_t n, size_t grain)
{
	size_t nr = n / grain, most;

	if (nr <= 1)
		return 1;
	most = processors();
	if (most > THREADS_MAX)
		most = THREADS_MAX;
	return nr < most ? nr : most;
}

void parallel_run(parallel_part *part, const void *loop, size_t n, size_t grain)
{
	size_t nr = threads_for(n, grain), made = 0;
	struct sharing sharing = { part, loop, n, n / (nr * PIECES) + 1, 0 };
	pthread_t threads[THREADS_MAX];
	sigset_t all, before;

	if (nr <= 1) {
		part(loop, 0, n);
		return;
	}

	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	/* Those there are do it all. */
	while (made < nr - 1 && !pthread_create(&threads[made], NULL, share, &sharing))
		made++;
	pthread_sigmask(SIG_SETMASK, &before, NULL);

	share(&sharing);
	while (made)
		pthread_join(threads[--made], NULL);
}
