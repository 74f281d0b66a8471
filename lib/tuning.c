// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
#define _GNU_SOURCE
#include "tuning.h"

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdlib.h>

/*
 * From 512 KiB on, size makes no difference to what a read of the page cache costs for
 * each byte, and less makes a better end when several processors share the work.
 */
static struct tuning tuning = {
	.chunk = (size_t)512 << 10,
	.depth = 64,
};

/* Memory is shared by all processors: beyond some of them there is nothing to be won. */
#define THREADS_DEFAULT	8

/* The number that variable @name holds, if it is one from @least to @most; else 0. */
static size_t number_of(const char *name, size_t least, size_t most)
{
	const char *text = secure_getenv(name);
	unsigned long long number;
	char *end;

	if (!text || *text < '0' || *text > '9')
		return 0;
	errno = 0;
	number = strtoull(text, &end, 10);
	return *end || errno || number < least || number > most ? 0 : number;
}

static unsigned int processors(void)
{
	cpu_set_t set;

	/* More processors than the set has room for: enough. */
	if (sched_getaffinity(0, sizeof(set), &set))
		return THREADS_DEFAULT;
	return CPU_COUNT(&set) < THREADS_DEFAULT ? CPU_COUNT(&set) : THREADS_DEFAULT;
}

static void tuning_read(void)
{
	int saved = errno;
	size_t number;

	number = number_of("SHMDEV_CHUNK", 4096, (size_t)1 << 30);
	if (number)
		tuning.chunk = number & ~(size_t)4095;
	number = number_of("SHMDEV_DEPTH", 1, DEPTH_MAX);
	if (number)
		tuning.depth = number;
	number = number_of("SHMDEV_THREADS", 1, THREADS_MAX);
	tuning.threads = number ? number : processors();
	errno = saved;
}

const struct tuning *tuning_get(void)
{
	static pthread_once_t once = PTHREAD_ONCE_INIT;

	pthread_once(&once, tuning_read);
	return &tuning;
}
