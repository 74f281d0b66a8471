// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
#define _GNU_SOURCE
#include "crew.h"

#include <signal.h>
#include <sys/resource.h>

/* Less than this for each, and a thread does not pay. */
#define SHARE	((size_t)2 << 20)

unsigned int crew_size(size_t bytes)
{
	size_t size;

	if (bytes < 2 * SHARE)
		return 1;
	size = bytes / SHARE;
	return size < tuning_get()->threads ? size : tuning_get()->threads;
}

int crew_thread(pthread_t *thread, void *(*body)(void *), void *argument)
{
	sigset_t all, before;
	int err;

	/* The program's handlers are for its own threads, and so is SIGPIPE's default. */
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	err = pthread_create(thread, NULL, body, argument);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	return err;
}

void crew_start(struct crew *crew, unsigned int size, void *(*body)(void *), void *argument)
{
	for (crew->nr = 0; crew->nr + 1 < size; crew->nr++)
		/* Those there are do it all. */
		if (crew_thread(&crew->threads[crew->nr], body, argument))
			break;
}

void crew_join(struct crew *crew)
{
	while (crew->nr)
		pthread_join(crew->threads[--crew->nr], NULL);
}

bool thread_slept(long *sleeps)
{
	struct rusage usage;
	long before = *sleeps;

	if (getrusage(RUSAGE_THREAD, &usage))
		return true;
	*sleeps = usage.ru_nvcsw;
	return *sleeps != before;
}
