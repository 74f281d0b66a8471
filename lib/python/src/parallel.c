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
#include <stdbool.h>

/* Few cores saturate the memory of most machines. */
#define THREADS_MAX	8

struct share {
	parallel_part *part;
	const void *loop;
	size_t first, n;
	pthread_t thread;
	bool given;
};

static void *share_do(void *arg)
{
	const struct share *share = arg;

	share->part(share->loop, share->first, share->n);
	return NULL;
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
	struct share shares[THREADS_MAX];
	size_t nr = threads_for(n, grain), i;
	sigset_t all, before;

	if (nr <= 1) {
		part(loop, 0, n);
		return;
	}

	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	for (i = 0; i < nr; i++) {
		size_t first = n / nr * i;

		shares[i] = (struct share){
			.part = part,
			.loop = loop,
			.first = first,
			.n = i == nr - 1 ? n - first : n / nr,
		};
		/* The first share is this thread's. */
		shares[i].given = i && !pthread_create(&shares[i].thread, NULL, share_do,
						       &shares[i]);
	}
	pthread_sigmask(SIG_SETMASK, &before, NULL);

	for (i = 0; i < nr; i++)
		if (!shares[i].given)
			share_do(&shares[i]);
	for (i = 0; i < nr; i++)
		if (shares[i].given)
			pthread_join(shares[i].thread, NULL);
}
