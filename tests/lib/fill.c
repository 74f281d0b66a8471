// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/* Fills: what arrives, and what is reported. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>

#include <linux/fs.h>
#include <linux/loop.h>

#include "fill_checks.h"

/* --- What arrives -------------------------------------------------------------- */

static void sizes_and_offsets(void)
{
	need_backend();
	check_sizes_and_offsets();
}

static void many_small_requests(void)
{
	need_backend();
	check_many_small();
}

/* Far apart in a large region: what is worth registering is not all of it. */
static void scattered_destinations(void)
{
	struct shm_fill batch[40];
	struct shmdev_region *region;
	int file;
	char *addr;

	need_backend();
	region = shmdev_region_create(64 * MIB, 0);
	if (!region && errno == ENOMEM)
		tap_skip("no 64 MiB to be had");
	CHECK(region);
	addr = shmdev_region_addr(region);
	file = pattern_file(3 * MIB, 6);
	for (int i = 0; i < 40; i++)
		batch[i] = fill_request(addr + (i * 17 % 40) * (MIB + MIB / 2) + i, 5000 + i * 1000,
					file, i * 4096);
	CHECK_EQ(shm_fill(batch, 40), 0);
	for (int i = 0; i < 40; i++) {
		CHECK_EQ(batch[i].result, 5000 + i * 1000);
		CHECK(pattern_is(batch[i].dst, batch[i].len, 6, i * 4096));
	}
	shmdev_region_unref(region);
	close(file);
}

/*
 * Where destinations overlap a byte is one file's or the other's, and never what was there
 * before; what is not shared is exact, and so are the results.
 */
static void check_overlapping(void)
{
	enum { NR = 40, LEN = 3 * MIB / 2 + 77, STEP = 65536 - 5, ALL = (NR - 1) * STEP + LEN };
	struct shm_fill batch[NR];
	char *block = get_block(ALL);
	int files[2] = { pattern_file(LEN, 101), pattern_file(LEN, 102) };

	memset(block, 0, ALL);
	for (int i = 0; i < NR; i++)
		batch[i] = fill_request(block + (size_t)i * STEP, LEN, files[i % 2], 0);
	CHECK_EQ(shm_fill(batch, NR), 0);
	for (int i = 0; i < NR; i++) {
		CHECK_EQ(batch[i].result, LEN);
		CHECK_EQ(batch[i].done, LEN);
	}
	CHECK(pattern_is(block, STEP, 101, 0));
	CHECK(pattern_is(block + ALL - STEP, STEP, (NR - 1) % 2 ? 102 : 101, LEN - STEP));
	for (size_t at = 0; at < ALL; at++) {
		bool found = false;

		for (size_t i = at < LEN ? 0 : (at - LEN) / STEP + 1; i < NR && i * STEP <= at; i++)
			found |= (unsigned char)block[at] ==
				 pattern_at(i % 2 ? 102 : 101, at - i * STEP);
		if (!found)
			tap_note("byte %zu is %#x", at, (unsigned char)block[at]);
		CHECK(found);
	}
	close(files[0]);
	close(files[1]);
	shm_free(block);
}

static void overlapping_destinations(void)
{
	need_backend();
	check_overlapping();
}

static void overlapping_destinations_by_the_ring(void)
{
	forbid_cached_reads();
	need_backend();
	check_overlapping();
}

static void nothing_to_do(void)
{
	struct shm_fill none;
	char *block;

	need_backend();
	CHECK_EQ(shm_fill(NULL, 0), 0);
	CHECK_EQ(shm_fill(&none, 0), 0);
	CHECK_EQ(shm_fill(NULL, 1), -EINVAL);
	block = get_block(64);
	CHECK_EQ(fill_one(block, 0, 0, 0), 0);
	CHECK_EQ(fill_one(NULL, 0, -1, SHM_FILL_CURRENT), 0);
	shm_free(block);
}

/* --- Errors ----------------------------------------------------------------------- */

static void bad_requests_do_not_disturb_good_ones(void)
{
	need_backend();
	check_bad_requests();
}

/* A batch in which nothing is good does not even get to an engine. */
static void only_bad_requests(void)
{
	struct shm_fill batch[100];

	need_backend();
	for (int i = 0; i < 100; i++)
		batch[i] = fill_request(NULL, MIB, 0, 0);
	CHECK_EQ(shm_fill(batch, 100), 0);
	for (int i = 0; i < 100; i++)
		CHECK_EQ(batch[i].result, -EFAULT);
}

/* A file that ends, for now, in a hole and in the middle of a batch. */
static void sparse_files(void)
{
	char *block;
	int file;

	need_backend();
	file = pattern_file(4096, 61);
	CHECK_EQ(ftruncate(file, 3 * MIB + 10), 0);
	block = get_block(4 * MIB);
	memset(block, 0xee, 4 * MIB);
	CHECK_EQ(fill_one(block, 4 * MIB, file, 0), 3 * MIB + 10);
	CHECK(pattern_is(block, 4096, 61, 0));
	CHECK(is_all(block + 4096, 3 * MIB + 10 - 4096, 0));
	CHECK(is_all(block + 3 * MIB + 10, MIB - 10, 0xee));
	shm_free(block);
	close(file);
}

static void what_came_before_an_error_is_known(void)
{
	need_backend();
	check_half_a_file();
}

/* A disk that fails in the middle: a loop device whose file has become shorter. */
static void a_failing_disk(void)
{
	int control = open("/dev/loop-control", O_RDWR | O_CLOEXEC), file, loop = -1, number;
	struct loop_info64 info = { .lo_flags = LO_FLAGS_AUTOCLEAR };
	struct shm_fill batch[2];
	char path[64], *block;

	need_backend();
	if (control < 0)
		tap_skip("no loop devices: %s", strerror(errno));
	file = pattern_file(4 * MIB, 44);
	/* Others may be faster at taking the one that is free. */
	for (int tries = 0; loop < 0 && tries < 20; tries++) {
		number = ioctl(control, LOOP_CTL_GET_FREE);
		if (number < 0)
			break;
		snprintf(path, sizeof(path), "/dev/loop%d", number);
		loop = open(path, O_RDWR | O_CLOEXEC);
		if (loop >= 0 && ioctl(loop, LOOP_SET_FD, file)) {
			close(loop);
			loop = -1;
		}
	}
	if (loop < 0)
		tap_skip("no loop device to be had: %s", strerror(errno));
	/* It goes with the last descriptor, however this ends. */
	CHECK_EQ(ioctl(loop, LOOP_SET_STATUS64, &info), 0);
	block = get_block(8 * MIB);
	CHECK_EQ(fill_one(block, 8 * MIB, loop, 0), 4 * MIB);
	CHECK(pattern_is(block, 4 * MIB, 44, 0));

	CHECK_EQ(ioctl(loop, BLKFLSBUF), 0);
	CHECK_EQ(ftruncate(file, 2 * MIB), 0);
	batch[0] = fill_request(block, 4 * MIB, loop, 0);
	batch[1] = fill_request(block + 4 * MIB, MIB, loop, 512);
	CHECK_EQ(shm_fill(batch, 2), 0);
	CHECK_EQ(batch[0].result, -EIO);
	CHECK_EQ(batch[0].done, 2 * MIB);
	CHECK(pattern_is(block, 2 * MIB, 44, 0));
	CHECK_EQ(batch[1].result, MIB);
	close(loop);
	close(control);
	shm_free(block);
}

static void *cut_and_grow(void *argument)
{
	int file = *(int *)argument;

	for (int i = 0; i < 300; i++) {
		CHECK_EQ(ftruncate(file, i % 2 ? 12 * MIB : 3 * MIB + 100), 0);
		sched_yield();
	}
	return NULL;
}

/* Below where it was cut all is as it was; what is said to be there was in the file. */
static void a_file_that_is_cut_meanwhile(void)
{
	char *block;
	pthread_t thread;
	int file, cut = 0;

	need_backend();
	block = get_block(12 * MIB);
	file = pattern_file(3 * MIB + 100, 45);
	CHECK_EQ(pthread_create(&thread, NULL, cut_and_grow, &file), 0);
	for (int i = 0; i < 100; i++) {
		struct shm_fill one = fill_request(block, 12 * MIB, file, 0);

		memset(block, 0xee, 12 * MIB);
		CHECK_EQ(shm_fill(&one, 1), 0);
		CHECK(one.result >= (int64_t)(3 * MIB + 100));
		CHECK_EQ(one.result, one.done);
		cut += one.done < 12 * MIB;
		CHECK(pattern_is(block, 3 * MIB + 100, 45, 0));
		CHECK(is_all(block + 3 * MIB + 100, one.done - 3 * MIB - 100, 0));
	}
	tap_note("%d of 100 were cut", cut);
	CHECK_EQ(pthread_join(thread, NULL), 0);
	shm_free(block);
	close(file);
}

/* --- Other kinds of files ----------------------------------------------------------- */

static int direct_file(size_t len, uint32_t seed)
{
	int file = pattern_file(len, seed), direct;
	char path[64];

	CHECK_EQ(fsync(file), 0);
	snprintf(path, sizeof(path), "/proc/self/fd/%d", file);
	direct = open(path, O_RDONLY | O_DIRECT | O_CLOEXEC);
	if (direct < 0)
		tap_skip("no O_DIRECT here: %s", strerror(errno));
	close(file);
	return direct;
}

static void direct_io(void)
{
	char *block;
	int direct;

	need_backend();
	direct = direct_file(3 * MIB + 1000, 71);
	block = get_block(4 * MIB);
	CHECK_EQ(fill_one(block, 4 * MIB, direct, 0), 3 * MIB + 1000);
	CHECK(pattern_is(block, 3 * MIB + 1000, 71, 0));
	memset(block, 0, 4 * MIB);
	CHECK_EQ(fill_one(block, 4096, direct, 3 * MIB), 1000);
	CHECK(pattern_is(block, 1000, 71, 3 * MIB));
	shm_free(block);
	close(direct);
}

static void direct_io_of_any_size_and_offset(void)
{
	need_backend();
	check_sizes_and_offsets_of(direct_file(FILE_LEN, 3), true);
}

/* Where the memory is not aligned either. */
static void direct_io_to_anywhere(void)
{
	uint32_t random = 17;
	char *block;
	int direct;

	need_backend();
	direct = direct_file(5 * MIB + 77, 8);
	block = get_block(4 * MIB);
	for (int i = 0; i < 100; i++) {
		struct shm_fill batch[3];

		memset(block, 0xee, 4 * MIB);
		for (int j = 0; j < 3; j++)
			batch[j] = fill_request(block + j * MIB + random_below(&random, 9000),
						1 + random_below(&random, MIB - 9000), direct,
					   random_below(&random, 4 * MIB));
		CHECK_EQ(shm_fill(batch, 3), 0);
		for (int j = 0; j < 3; j++) {
			char *end = (char *)batch[j].dst + batch[j].len;

			CHECK_EQ(batch[j].result, batch[j].len);
			CHECK(pattern_is(batch[j].dst, batch[j].len, 8, batch[j].offset));
			CHECK_EQ((unsigned char)*end, 0xee);
		}
	}
	shm_free(block);
	close(direct);
}

static void nonblocking_regular_file(void)
{
	char path[64], *block;
	int file, fd;

	need_backend();
	file = pattern_file(3 * MIB, 72);
	snprintf(path, sizeof(path), "/proc/self/fd/%d", file);
	fd = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
	CHECK(fd >= 0);
	/* Not in the page cache: the ring has to wait for the disk all the same. */
	CHECK_EQ(fsync(file), 0);
	CHECK_EQ(posix_fadvise(file, 0, 0, POSIX_FADV_DONTNEED), 0);
	block = get_block(3 * MIB);
	CHECK_EQ(fill_one(block, 3 * MIB, fd, 0), 3 * MIB);
	CHECK(pattern_is(block, 3 * MIB, 72, 0));
	shm_free(block);
	close(fd);
	close(file);
}

static void devices_and_proc(void)
{
	struct shm_fill batch[3];
	char *block;
	int zero, status, memfd;

	need_backend();
	zero = open("/dev/zero", O_RDONLY | O_CLOEXEC);
	status = open("/proc/self/status", O_RDONLY | O_CLOEXEC);
	memfd = memfd_create("test", MFD_CLOEXEC);
	CHECK(zero >= 0 && status >= 0 && memfd >= 0);
	CHECK_EQ(pwrite(memfd, "abc", 3, 2 * MIB), 3);
	block = get_block(8 * MIB);
	memset(block, 0xee, 8 * MIB);
	batch[0] = fill_request(block, 2 * MIB, zero, SHM_FILL_CURRENT);
	batch[1] = fill_request(block + 2 * MIB, 100000, status, 0);
	batch[2] = fill_request(block + 3 * MIB, 3 * MIB, memfd, 0);
	CHECK_EQ(shm_fill(batch, 3), 0);
	CHECK_EQ(batch[0].result, 2 * MIB);
	CHECK(is_all(block, 2 * MIB, 0));
	CHECK(batch[1].result > 100 && batch[1].result < 100000);
	CHECK(!memcmp(block + 2 * MIB, "Name:", 5));
	CHECK_EQ(batch[2].result, 2 * MIB + 3);
	CHECK(is_all(block + 3 * MIB, 2 * MIB, 0));
	CHECK(!memcmp(block + 5 * MIB, "abc", 3));
	shm_free(block);
	close(zero);
	close(status);
	close(memfd);
}

/* From one region to another, by the descriptor that a region has. */
static void from_a_region(void)
{
	struct shmdev_region *from, *to;

	need_backend();
	from = shmdev_region_create(4 * MIB, 0);
	to = shmdev_region_create(4 * MIB, 0);
	CHECK(from && to);
	if (pread(shmdev_region_fd(from), shmdev_region_addr(to), 1, 0) < 0)
		tap_skip("a region of this backend cannot be read as a file: %s",
			 strerror(errno));
	pattern_write(shmdev_region_addr(from), 4 * MIB, 73, 0);
	CHECK_EQ(fill_one(shmdev_region_addr(to), 4 * MIB, shmdev_region_fd(from), 0), 4 * MIB);
	CHECK(pattern_is(shmdev_region_addr(to), 4 * MIB, 73, 0));
	shmdev_region_unref(from);
	shmdev_region_unref(to);
}

/* --- At the same time ---------------------------------------------------------------- */

static void *fill_in_a_loop(void *unused)
{
	(void)unused;
	for (int i = 0; i < 5; i++)
		check_many_small();
	return NULL;
}

static void threads_fill(void)
{
	pthread_t threads[8];

	need_backend();
	for (int i = 0; i < 8; i++)
		CHECK_EQ(pthread_create(&threads[i], NULL, fill_in_a_loop, NULL), 0);
	for (int i = 0; i < 8; i++)
		CHECK_EQ(pthread_join(threads[i], NULL), 0);
	/* Rings are kept, but not one for each thread that ever was. */
	CHECK(count_descriptors_of("anon_inode:[io_uring]", NULL) <= 4);
}

static unsigned long interruptions;

static void interrupt(int signal)
{
	(void)signal;
	interruptions++;
}

static void signals_do_no_harm(void)
{
	struct sigaction action = { .sa_handler = interrupt };	/* no SA_RESTART */
	struct itimerval often = { { 0, 500 }, { 0, 500 } }, never = { { 0, 0 }, { 0, 0 } };

	need_backend();
	CHECK_EQ(sigaction(SIGALRM, &action, NULL), 0);
	CHECK_EQ(setitimer(ITIMER_REAL, &often, NULL), 0);
	while (interruptions < 100) {
		struct shm_fill batch[2];
		int pipes[2], file = pattern_file(2 * MIB, 81);
		char *block = get_block(3 * MIB);
		pid_t child;

		CHECK_EQ(pipe2(pipes, O_CLOEXEC), 0);
		child = fork();
		CHECK(child >= 0);
		if (!child) {
			/* Timers are not inherited: this one writes in peace, and slowly. */
			for (int i = 0; i < 20; i++) {
				CHECK_EQ(write(pipes[1], "0123456789", 10), 10);
				poll(NULL, 0, 1);
			}
			_exit(0);
		}
		close(pipes[1]);
		batch[0] = fill_request(block, 1000, pipes[0], SHM_FILL_CURRENT);
		batch[1] = fill_request(block + MIB, 2 * MIB, file, 0);
		CHECK_EQ(shm_fill(batch, 2), 0);
		CHECK_EQ(batch[0].result, 200);
		CHECK_EQ(batch[1].result, 2 * MIB);
		CHECK(pattern_is(block + MIB, 2 * MIB, 81, 0));
		while (waitpid(child, NULL, 0) < 0)
			CHECK_EQ(errno, EINTR);
		shm_free(block);
		close(pipes[0]);
		close(file);
	}
	CHECK_EQ(setitimer(ITIMER_REAL, &never, NULL), 0);
}

/* What asks for it ends when a signal comes; what does not, does not. */
static void check_interrupted(int restart)
{
	struct sigaction action = { .sa_handler = interrupt, .sa_flags = restart };
	/* Again and again: the first may come before there is anything that waits. */
	struct itimerval soon = { { 0, 30000 }, { 0, 30000 } }, never = { { 0, 0 }, { 0, 0 } };
	struct shm_fill batch[4];
	char *block = get_block(4 * MIB);
	int silent[2], other[2], file = pattern_file(MIB, 84);

	CHECK_EQ(sigaction(SIGALRM, &action, NULL), 0);
	CHECK_EQ(pipe2(silent, O_CLOEXEC), 0);
	CHECK_EQ(pipe2(other, O_CLOEXEC), 0);
	for (int nr = 1; nr <= 4; nr++) {
		CHECK_EQ(write(silent[1], "hello", 5), 5);
		batch[0] = fill_request(block, MIB, silent[0], SHM_FILL_CURRENT);
		batch[1] = fill_request(block + MIB, 100, silent[0], SHM_FILL_CURRENT);
		batch[2] = fill_request(block + 2 * MIB, MIB, file, 0);
		batch[3] = fill_request(block + 3 * MIB, 100, other[0], SHM_FILL_CURRENT);
		for (int i = 0; i < 3; i++)
			batch[i].flags = SHM_FILL_INTR;
		if (nr == 4) {
			/* This one is patient: it is written to by the handler's time. */
			CHECK_EQ(write(other[1], "patience", 8), 8);
			batch[3].len = 8;
		}
		CHECK_EQ(setitimer(ITIMER_REAL, &soon, NULL), 0);
		CHECK_EQ(shm_fill(batch, nr), 0);
		CHECK_EQ(setitimer(ITIMER_REAL, &never, NULL), 0);
		CHECK_EQ(batch[0].result, -EINTR);
		CHECK_EQ(batch[0].done, 5);
		CHECK(!memcmp(block, "hello", 5));
		if (nr > 1)
			CHECK_EQ(batch[1].result, -EINTR);
		if (nr > 2)
			CHECK(batch[2].result == (int64_t)MIB || batch[2].result == -EINTR);
		if (nr > 3)
			CHECK_EQ(batch[3].result, 8);
	}
	close(silent[0]);
	close(silent[1]);
	close(other[0]);
	close(other[1]);
	close(file);
	shm_free(block);
}

static void a_signal_ends_what_asks_for_it(void)
{
	need_backend();
	check_interrupted(0);
	check_interrupted(SA_RESTART);
	forbid_syscall(SYS_io_uring_setup, EPERM);
	forbid_syscall(SYS_io_uring_enter, EPERM);
	check_interrupted(0);
	check_interrupted(SA_RESTART);
}

static void wait_for_ever(void *argument)
{
	int *nr = argument, pipes[2];
	struct shm_fill batch[2];
	char *block = get_block(200);

	alarm(0);
	for (int i = 0; i < *nr; i++) {
		CHECK_EQ(pipe2(pipes, O_CLOEXEC), 0);
		batch[i] = fill_request(block + i * 100, 100, pipes[0], SHM_FILL_CURRENT);
	}
	CHECK_EQ(raise(SIGSTOP), 0);
	CHECK_EQ(shm_fill(batch, *nr), 0);
}

static void a_fatal_signal_kills(void)
{
	need_backend();
	for (int nr = 1; nr <= 2; nr++) {
		pid_t child = fork();
		int status;

		CHECK(child >= 0);
		if (!child) {
			wait_for_ever(&nr);
			_exit(0);
		}
		CHECK_EQ(waitpid(child, &status, WUNTRACED), child);
		CHECK(WIFSTOPPED(status));
		CHECK_EQ(kill(child, SIGCONT), 0);
		poll(NULL, 0, 20);
		CHECK_EQ(kill(child, SIGTERM), 0);
		CHECK_EQ(waitpid(child, &status, 0), child);
		CHECK(WIFSIGNALED(status));
		CHECK_EQ(WTERMSIG(status), SIGTERM);
	}
}

TAP_MAIN(TAP_TEST(sizes_and_offsets),
	 TAP_TEST(many_small_requests),
	 TAP_TEST(scattered_destinations),
	 TAP_TEST(overlapping_destinations),
	 TAP_TEST(overlapping_destinations_by_the_ring),
	 TAP_TEST(nothing_to_do),
	 TAP_TEST(bad_requests_do_not_disturb_good_ones),
	 TAP_TEST(only_bad_requests),
	 TAP_TEST(sparse_files),
	 TAP_TEST(what_came_before_an_error_is_known),
	 TAP_TEST(a_failing_disk),
	 TAP_TEST(a_file_that_is_cut_meanwhile),
	 TAP_TEST(direct_io),
	 TAP_TEST(direct_io_of_any_size_and_offset),
	 TAP_TEST(direct_io_to_anywhere),
	 TAP_TEST(nonblocking_regular_file),
	 TAP_TEST(devices_and_proc),
	 TAP_TEST(from_a_region),
	 TAP_TEST(threads_fill),
	 TAP_TEST(signals_do_no_harm),
	 TAP_TEST(a_signal_ends_what_asks_for_it),
	 TAP_TEST(a_fatal_signal_kills))
