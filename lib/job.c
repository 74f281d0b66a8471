// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/*
 * Jobs: a batch and the thread that does it.
 *
 * Nobody but its caller knows of a job, so there is nothing to be put in order at a fork:
 * in the child its thread is missing and the rest is a copy, which shmdev_job_free() frees.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <poll.h>
#include <stdbool.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "batch.h"
#include "crew.h"

struct shmdev_job {
	pthread_t thread;
	pid_t owner;		/* the process that has the thread */
	enum direction direction;
	struct transfer *reqs;
	unsigned int nr;
	struct control control;
	int done_fd;		/* an eventfd: counts 1 in the end */
	bool done;		/* atomic, set before */
	int result;
};

static void *job_body(void *argument)
{
	struct shmdev_job *job = argument;

	job->result = batch_run(job->direction, job->reqs, job->nr, &job->control);
	__atomic_store_n(&job->done, true, __ATOMIC_RELEASE);
	eventfd_write(job->done_fd, 1);
	return NULL;
}

static struct shmdev_job *job_start(enum direction direction, struct transfer *reqs,
				    unsigned int nr)
{
	struct shmdev_job *job;
	int err;

	if (!reqs && nr) {
		err = EINVAL;
		goto fail;
	}
	job = calloc(1, sizeof(*job));
	if (!job) {
		err = ENOMEM;
		goto fail;
	}
	job->owner = getpid();
	job->direction = direction;
	job->reqs = reqs;
	job->nr = nr;
	job->control.stop_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (job->control.stop_fd < 0) {
		err = errno;
		goto free_job;
	}
	job->done_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (job->done_fd < 0) {
		err = errno;
		goto close_stop;
	}
	err = crew_thread(&job->thread, job_body, job);
	if (err)
		goto close_done;
	return job;

close_done:
	close(job->done_fd);
close_stop:
	close(job->control.stop_fd);
free_job:
	free(job);
fail:
	errno = err;
	return NULL;
}

struct shmdev_job *shmdev_fill_start(struct shm_fill *reqs, unsigned int nr)
{
	return job_start(FILL, (struct transfer *)reqs, nr);
}

struct shmdev_job *shmdev_drain_start(struct shm_drain *reqs, unsigned int nr)
{
	return job_start(DRAIN, (struct transfer *)reqs, nr);
}

int shmdev_job_fd(const struct shmdev_job *job)
{
	return job->done_fd;
}

uint64_t shmdev_job_bytes(const struct shmdev_job *job)
{
	return __atomic_load_n(&job->control.bytes, __ATOMIC_RELAXED);
}

int shmdev_job_wait(struct shmdev_job *job, int timeout)
{
	struct pollfd poll_done = { job->done_fd, POLLIN, 0 };
	int ready;

	if (job->owner != getpid())
		return -ECHILD;
	if (!__atomic_load_n(&job->done, __ATOMIC_ACQUIRE)) {
		ready = poll(&poll_done, 1, timeout < 0 ? -1 : timeout);
		if (ready < 0)
			return -errno;
		if (!ready || !__atomic_load_n(&job->done, __ATOMIC_ACQUIRE))
			return -ETIMEDOUT;
	}
	return job->result;
}

void shmdev_job_cancel(struct shmdev_job *job)
{
	if (job->owner != getpid())
		return;
	/* The order that whoever waits for the event and then looks relies on. */
	__atomic_store_n(&job->control.stopped, 1, __ATOMIC_RELEASE);
	eventfd_write(job->control.stop_fd, 1);
}

void shmdev_job_free(struct shmdev_job *job)
{
	int saved = errno;

	if (!job)
		return;
	if (job->owner == getpid()) {
		shmdev_job_cancel(job);
		pthread_join(job->thread, NULL);
	}
	close(job->done_fd);
	close(job->control.stop_fd);
	free(job);
	errno = saved;
}
