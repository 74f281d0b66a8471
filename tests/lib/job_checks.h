/* SPDX-License-Identifier: LGPL-2.1-or-later OR MIT */
/* What the tests of jobs have in common. */
#ifndef SHMDEV_TESTS_JOB_CHECKS_H
#define SHMDEV_TESTS_JOB_CHECKS_H

#include "transfer.h"

struct shmdev_job *job_start(struct shm_fill *reqs, unsigned int nr);

/* What poll(2) says of the descriptor. */
bool job_is_ready(const struct shmdev_job *job);

/* A fill and a drain, from their start to their end, and nothing left. */
void check_to_the_end(void);

/* A job that waits for a pipe. */
struct waiting {
	struct shmdev_job *job;
	struct shm_fill fill;
	int pipes[2];
};

void waiting_start(struct waiting *waiting);

#endif
