/* SPDX-License-Identifier: LGPL-2.1-or-later OR MIT */
/*
 * A tool of a benchmark: reads lines "<way> <MiB>" and answers each with the times of
 * one run, or with "unavailable" and why.
 */
#ifndef SHMDEV_BENCH_TOOL_H
#define SHMDEV_BENCH_TOOL_H

#include <errno.h>
#include <fcntl.h>
#include <linux/shmdev.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

static inline double now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec + ts.tv_nsec / 1e9;
}

/* Let the pool have what a run takes, if it ever can; its time is told by others. */
static inline void wait_for_pool(size_t size)
{
	int dev = open("/dev/shmdev", O_RDWR | O_CLOEXEC);
	struct shmdev_query q;

	if (dev < 0)
		return;
	do {
		memset(&q, 0, sizeof(q));
		if (ioctl(dev, SHMDEV_IOC_QUERY, &q))
			break;
		if (q.pool_bytes >= q.pool_target_bytes || q.pool_target_bytes < size)
			break;
		usleep(2000);
	} while (true);
	close(dev);
}

/* @measure: -EINVAL for a way it does not know, -errno, or 0 after it has printed. */
static inline int tool_main(int (*measure)(const char *way, size_t size))
{
	char line[128], way[32];
	unsigned long mib;

	setvbuf(stdout, NULL, _IOLBF, 0);
	while (fgets(line, sizeof(line), stdin)) {
		int err = sscanf(line, "%31s %lu", way, &mib) == 2 ? measure(way, mib << 20) :
								    -EINVAL;

		if (err)
			printf("unavailable %s\n", strerror(-err));
	}
	return 0;
}

#endif /* SHMDEV_BENCH_TOOL_H */
