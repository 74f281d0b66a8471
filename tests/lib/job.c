// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/* Jobs: that they end, when they are to and how, and what is known of them until then. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>

#include "job_checks.h"

static void to_the_end(void)
{
	unsigned int before;

	need_backend();
	check_to_the_end();
	before = count_descriptors();
	check_to_the_end();
	CHECK_EQ(count_descriptors(), before);
}

static void nothing_to_do(void)
{
	struct shmdev_job *job;

	need_backend();
	job = job_start(NULL, 0);
	CHECK_EQ(shmdev_job_wait(job, -1), 0);
	CHECK_EQ(shmdev_job_bytes(job), 0);
	shmdev_job_free(job);
	CHECK_FAILS(shmdev_fill_start(NULL, 1), EINVAL);
	CHECK_FAILS(shmdev_drain_start(NULL, 1), EINVAL);
	errno = 7;
	shmdev_job_free(NULL);
	CHECK_EQ(errno, 7);
}

/* --- Waiting ----------------------------------------------------------------------- */

static void noted(int signal)
{
	(void)signal;
}

/* A pipe that nobody writes to: nothing but the canceller ends that. */
static void check_silent_pipes(int nr)
{
	/* Again and again: the first may come before there is anybody who waits. */
	struct itimerval soon = { { 0, 20000 }, { 0, 20000 } }, never = { { 0, 0 }, { 0, 0 } };
	struct sigaction action = { .sa_handler = noted };
	struct shm_fill fills[3];
	struct shmdev_job *job;
	char *block = get_block(3 * MIB);
	int pipes[3][2], file = pattern_file(MIB, 5);

	for (int i = 0; i < 3; i++)
		CHECK_EQ(pipe2(pipes[i], O_CLOEXEC), 0);
	for (int i = 0; i < nr; i++)
		fills[i] = fill_request(block + i * MIB, MIB, pipes[i][0], SHM_FILL_CURRENT);
	job = job_start(fills, nr);
	CHECK_EQ(shmdev_job_wait(job, 0), -ETIMEDOUT);
	CHECK(!job_is_ready(job));

	/* What has come by then is there and is counted. */
	CHECK_EQ(write(pipes[0][1], "hello", 5), 5);
	while (shmdev_job_bytes(job) != 5)
		sched_yield();
	CHECK_EQ(shmdev_job_wait(job, 5), -ETIMEDOUT);

	CHECK_EQ(sigaction(SIGALRM, &action, NULL), 0);
	CHECK_EQ(setitimer(ITIMER_REAL, &soon, NULL), 0);
	CHECK_EQ(shmdev_job_wait(job, -1), -EINTR);
	CHECK_EQ(setitimer(ITIMER_REAL, &never, NULL), 0);

	shmdev_job_cancel(job);
	shmdev_job_cancel(job);
	CHECK_EQ(shmdev_job_wait(job, -1), 0);
	CHECK(job_is_ready(job));
	shmdev_job_free(job);
	for (int i = 0; i < nr; i++) {
		CHECK_EQ(fills[i].result, -ECANCELED);
		CHECK_EQ(fills[i].done, i ? 0 : 5);
	}
	CHECK(!memcmp(block, "hello", 5));

	/* To forget a job ends it. */
	fills[0] = fill_request(block, MIB, pipes[0][0], SHM_FILL_CURRENT);
	fills[1] = fill_request(block + MIB, MIB, file, 0);
	job = job_start(fills, 2);
	shmdev_job_free(job);
	CHECK_EQ(fills[0].result, -ECANCELED);
	CHECK(fills[1].result == -ECANCELED || fills[1].result == (int64_t)MIB);

	/* And nobody reads from the pipe any more. */
	CHECK_EQ(write(pipes[0][1], "world", 5), 5);
	CHECK_EQ(read(pipes[0][0], block, 6), 5);
	CHECK(!memcmp(block, "world", 5));
	for (int i = 0; i < 3; i++) {
		close(pipes[i][0]);
		close(pipes[i][1]);
	}
	close(file);
	shm_free(block);
}

static void silent_pipes(void)
{
	need_backend();
	check_silent_pipes(1);
	check_silent_pipes(3);
}

/* The same for a pipe that is full. */
static void check_full_pipe(void)
{
	struct shm_drain drains[2];
	struct shmdev_job *job;
	char *block = get_block(MIB);
	int pipes[2][2], full;

	for (int i = 0; i < 2; i++) {
		CHECK_EQ(pipe2(pipes[i], O_CLOEXEC), 0);
		CHECK_EQ(fcntl(pipes[i][1], F_SETPIPE_SZ, 65536), 65536);
		drains[i] = (struct shm_drain){ .src = block, .len = MIB, .fd = pipes[i][1],
						.offset = SHM_DRAIN_CURRENT };
	}
	job = shmdev_drain_start(drains, 2);
	CHECK(job);
	/* Not by what the job says: before Linux 6.4 that comes late. */
	for (int i = 0; i < 2; i++) {
		do {
			sched_yield();
			CHECK_EQ(ioctl(pipes[i][0], FIONREAD, &full), 0);
		} while (full < 65536);
	}
	shmdev_job_free(job);
	for (int i = 0; i < 2; i++) {
		CHECK_EQ(drains[i].result, -ECANCELED);
		CHECK_EQ(drains[i].done, 65536);
		close(pipes[i][0]);
		close(pipes[i][1]);
	}
	shm_free(block);
}

static void full_pipes(void)
{
	need_backend();
	check_full_pipe();
}

/* --- Cancelling at any moment -------------------------------------------------------- */

static void nap(uint32_t microseconds)
{
	struct timespec time = { 0, microseconds * 1000L };

	nanosleep(&time, NULL);
}

/* Whatever is said to be done is, whenever it was cancelled. */
static void check_cancelled_at_random(void)
{
	enum { NR = 600, LEN = 30000, ROUNDS = 25 };
	struct shm_fill *fills = calloc(NR + 2, sizeof(*fills));
	int file = pattern_file(3 * MIB, 9), pipes[2][2];
	unsigned int whole = 0, ended = 0;
	char *block = get_block(NR * LEN + 2 * MIB);
	uint32_t random = 77;

	CHECK(fills);
	for (int round = 0; round < ROUNDS; round++) {
		struct shmdev_job *job;
		size_t bytes = 0, done = 0;

		memset(block, 0xee, NR * LEN);
		for (int i = 0; i < NR; i++)
			fills[i] = fill_request(block + i * LEN, LEN, file,
						random_below(&random, 3 * MIB - LEN));
		for (int i = 0; i < 2; i++) {
			CHECK_EQ(pipe2(pipes[i], O_CLOEXEC), 0);
			fills[NR + i] = fill_request(block + NR * LEN + i * MIB, MIB, pipes[i][0],
						     SHM_FILL_CURRENT);
		}
		job = job_start(fills, NR + 2);
		if (round % 10)
			nap(random_below(&random, 6000));
		if (round % 2) {
			shmdev_job_cancel(job);
			CHECK_EQ(shmdev_job_wait(job, -1), 0);
			bytes = shmdev_job_bytes(job);
		}
		shmdev_job_free(job);
		for (int i = 0; i < NR; i++) {
			if (fills[i].result >= 0) {
				CHECK_EQ(fills[i].result, LEN);
				whole++;
			} else {
				CHECK_EQ(fills[i].result, -ECANCELED);
				ended++;
			}
			CHECK(fills[i].done == LEN || fills[i].result < 0);
			CHECK(pattern_is(fills[i].dst, fills[i].done, 9, fills[i].offset));
			done += fills[i].done;
		}
		/* Pieces may have come that have a gap before them. */
		if (round % 2)
			CHECK(done <= bytes && bytes <= (size_t)NR * LEN);
		for (int i = 0; i < 2; i++) {
			CHECK_EQ(fills[NR + i].result, -ECANCELED);
			close(pipes[i][0]);
			close(pipes[i][1]);
		}
	}
	tap_note("%u requests whole, %u cancelled", whole, ended);
	CHECK(whole && ended);
	free(fills);
	shm_free(block);
	close(file);
}

static void cancelled_at_random(void)
{
	need_backend();
	check_cancelled_at_random();
}

static void several_at_once(void)
{
	enum { JOBS = 12 };
	struct shmdev_job *jobs[JOBS];
	struct shm_fill fills[JOBS][2];
	char *block;
	int file, pipes[2];

	need_backend();
	block = get_block(JOBS * MIB);
	file = pattern_file(JOBS * MIB, 3);
	CHECK_EQ(pipe2(pipes, O_CLOEXEC), 0);
	for (int i = 0; i < JOBS; i++) {
		fills[i][0] = fill_request(block + i * MIB, MIB / 2, file, i * MIB);
		fills[i][1] = fill_request(block + i * MIB + MIB / 2, MIB / 2, file,
					   i * MIB + MIB / 2);
		if (!i)
			fills[i][0] = fill_request(block, 5, pipes[0], SHM_FILL_CURRENT);
		jobs[i] = job_start(fills[i], 2);
	}
	for (int i = JOBS; i-- > 1;) {
		CHECK_EQ(shmdev_job_wait(jobs[i], -1), 0);
		CHECK(pattern_is(block + i * MIB, MIB, 3, i * MIB));
		shmdev_job_free(jobs[i]);
	}
	/* The first one waits all the time, and gets its own. */
	CHECK(!job_is_ready(jobs[0]));
	CHECK_EQ(write(pipes[1], "first", 5), 5);
	CHECK_EQ(shmdev_job_wait(jobs[0], -1), 0);
	CHECK_EQ(fills[0][0].result, 5);
	CHECK(!memcmp(block, "first", 5));
	shmdev_job_free(jobs[0]);
	shm_free(block);
	close(file);
}

/* --- Processes ------------------------------------------------------------------------ */

static void exit_with_a_job(void *unused)
{
	struct waiting waiting;

	(void)unused;
	waiting_start(&waiting);
	exit(7);
}

static void exit_does_not_wait(void)
{
	int status;

	need_backend();
	status = in_child(exit_with_a_job, NULL);
	CHECK(WIFEXITED(status));
	CHECK_EQ(WEXITSTATUS(status), 7);
}

/* --- Engines -------------------------------------------------------------------------- */

static void check_everything(void)
{
	check_to_the_end();
	check_silent_pipes(1);
	check_silent_pipes(3);
	check_full_pipe();
	check_cancelled_at_random();
}

static void without_io_uring(void)
{
	forbid_syscall(SYS_io_uring_setup, EPERM);
	need_backend();
	CHECK_EQ(info_now().fill_engine, SHMDEV_FILL_PREADV);
	check_everything();
}

/* The ring must neither wait for what only watches, nor take that for a cancelling. */
static void io_uring_refused_later(void)
{
	forbid_cached_reads();
	need_backend();
	if (info_now().fill_engine == SHMDEV_FILL_PREADV)
		tap_skip("no io_uring here");
	check_to_the_end();
	forbid_syscall(SYS_io_uring_enter, EPERM);
	check_everything();
}

static void odd_tuning(void)
{
	setenv("SHMDEV_CHUNK", "5000", 1);
	setenv("SHMDEV_DEPTH", "1", 1);
	setenv("SHMDEV_THREADS", "3", 1);
	forbid_cached_reads();
	need_backend();
	check_everything();
}

TAP_MAIN(TAP_TEST(to_the_end),
	 TAP_TEST(nothing_to_do),
	 TAP_TEST(silent_pipes),
	 TAP_TEST(full_pipes),
	 TAP_TEST(cancelled_at_random),
	 TAP_TEST(several_at_once),
	 TAP_TEST(exit_does_not_wait),
	 TAP_TEST(without_io_uring),
	 TAP_TEST(io_uring_refused_later),
	 TAP_TEST(odd_tuning))
