// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/* Jobs: what a child has of them. */
#define _GNU_SOURCE
#include "job_checks.h"

static void have_the_parents_job(void *argument)
{
	struct waiting *waiting = argument;
	unsigned int before = count_descriptors();

	CHECK_EQ(shmdev_job_wait(waiting->job, -1), -ECHILD);
	shmdev_job_cancel(waiting->job);
	shmdev_job_free(waiting->job);
	CHECK_EQ(count_descriptors(), before - 2);
	check_to_the_end();
}

static void a_child_leaves_its_parents_job_alone(void)
{
	struct waiting waiting;
	int status;

	need_backend();
	waiting_start(&waiting);
	for (int i = 0; i < 5; i++) {
		status = in_child(have_the_parents_job, &waiting);
		CHECK(WIFEXITED(status));
		CHECK_EQ(WEXITSTATUS(status), 0);
	}
	CHECK_EQ(shmdev_job_wait(waiting.job, 0), -ETIMEDOUT);
	CHECK_EQ(write(waiting.pipes[1], "hello", 5), 5);
	close(waiting.pipes[1]);
	CHECK_EQ(shmdev_job_wait(waiting.job, -1), 0);
	CHECK_EQ(waiting.fill.result, 5);
	shmdev_job_free(waiting.job);
	shm_free(waiting.fill.dst);
}

static void fork_while_jobs_run(void)
{
	int file, status;

	need_backend();
	file = pattern_file(4 * MIB, 5);
	for (int round = 0; round < 15; round++) {
		struct shm_fill fills[2][8];
		struct shmdev_job *jobs[2];
		char *block = get_block(8 * MIB);

		for (int j = 0; j < 2; j++) {
			for (int i = 0; i < 8; i++)
				fills[j][i] = fill_request(block + (8 * j + i) * MIB / 2,
							   MIB / 2, file, i * MIB / 2);
			jobs[j] = job_start(fills[j], 8);
		}
		status = in_child((void (*)(void *))check_to_the_end, NULL);
		CHECK(WIFEXITED(status) && !WEXITSTATUS(status));
		for (int j = 0; j < 2; j++) {
			CHECK_EQ(shmdev_job_wait(jobs[j], -1), 0);
			shmdev_job_free(jobs[j]);
			CHECK(pattern_is(block + j * 4 * MIB, 4 * MIB, 5, 0));
		}
		shm_free(block);
	}
	close(file);
}

TAP_MAIN(TAP_TEST(a_child_leaves_its_parents_job_alone),
	 TAP_TEST(fork_while_jobs_run))
