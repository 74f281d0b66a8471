// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
#define _GNU_SOURCE
#include "job_checks.h"

#include <fcntl.h>
#include <poll.h>

struct shmdev_job *job_start(struct shm_fill *reqs, unsigned int nr)
{
	struct shmdev_job *job = shmdev_fill_start(reqs, nr);

	CHECK(job);
	return job;
}

bool job_is_ready(const struct shmdev_job *job)
{
	struct pollfd one = { shmdev_job_fd(job), POLLIN, 0 };
	int ready = poll(&one, 1, 0);

	CHECK(ready >= 0);
	return ready;
}

void check_to_the_end(void)
{
	struct shm_fill fills[40];
	struct shm_drain drains[40];
	char *block = get_block(5 * MIB), *back = get_block(5 * MIB);
	int from = pattern_file(5 * MIB, 1), to = pattern_file(0, 1);
	struct shmdev_job *job;
	struct pollfd one;

	for (int i = 0; i < 40; i++)
		fills[i] = fill_request(block + i * MIB / 8, MIB / 8, from, i * MIB / 8);
	job = job_start(fills, 40);
	one = (struct pollfd){ shmdev_job_fd(job), POLLIN, 0 };
	CHECK_EQ(poll(&one, 1, -1), 1);
	CHECK_EQ(shmdev_job_wait(job, 0), 0);
	CHECK_EQ(shmdev_job_wait(job, -1), 0);
	CHECK_EQ(shmdev_job_bytes(job), 5 * MIB);
	shmdev_job_cancel(job);
	CHECK_EQ(shmdev_job_wait(job, 0), 0);
	CHECK(job_is_ready(job));
	shmdev_job_free(job);
	for (int i = 0; i < 40; i++) {
		CHECK_EQ(fills[i].result, MIB / 8);
		CHECK_EQ(fills[i].done, MIB / 8);
	}
	CHECK(pattern_is(block, 5 * MIB, 1, 0));

	for (int i = 0; i < 40; i++)
		drains[i] = (struct shm_drain){ .src = block + i * MIB / 8, .len = MIB / 8,
						.fd = to, .offset = i * MIB / 8 };
	job = shmdev_drain_start(drains, 40);
	CHECK(job);
	CHECK_EQ(shmdev_job_wait(job, -1), 0);
	CHECK_EQ(shmdev_job_bytes(job), 5 * MIB);
	shmdev_job_free(job);
	CHECK_EQ(pread(to, back, 5 * MIB, 0), 5 * MIB);
	CHECK(!memcmp(block, back, 5 * MIB));

	shm_free(block);
	shm_free(back);
	close(from);
	close(to);
}

void waiting_start(struct waiting *waiting)
{
	CHECK_EQ(pipe2(waiting->pipes, O_CLOEXEC), 0);
	waiting->fill = fill_request(get_block(MIB), MIB, waiting->pipes[0], SHM_FILL_CURRENT);
	waiting->job = job_start(&waiting->fill, 1);
}
