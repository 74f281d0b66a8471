// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/* Fills: what arrives, what is reported, and by which engine. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>

#include <linux/capability.h>
#include <linux/fs.h>
#include <linux/io_uring.h>
#include <linux/loop.h>

#include "tap.h"
#include "util.h"

#define MIB	((size_t)1 << 20)
#define COUNT(array)	(sizeof(array) / sizeof((array)[0]))

static char *get(size_t size)
{
	char *block = shm_alloc(size);

	CHECK(block);
	return block;
}

static struct shm_fill request(void *dst, size_t len, int fd, int64_t offset)
{
	return (struct shm_fill){ .dst = dst, .len = len, .fd = fd, .offset = offset,
				  .result = 0x5555, .done = 0x5555 };
}

/* The result of a batch of one. */
static int64_t fill(void *dst, size_t len, int fd, int64_t offset)
{
	struct shm_fill one = request(dst, len, fd, offset);

	CHECK_EQ(shm_fill(&one, 1), 0);
	CHECK(one.result < 0 || (size_t)one.result == one.done);
	return one.result;
}

/* --- What arrives -------------------------------------------------------------- */

static const size_t sizes[] = {
	1, 511, 512, 4095, 4096, 4097, 65536, MIB - 1, MIB, MIB + 1, 3 * MIB + 17,
};

#define FILE_LEN	(5 * MIB + 1234)

static const int64_t offsets[] = {
	0, 1, 4095, 4096, MIB - 3, 2 * MIB, FILE_LEN - 4096, FILE_LEN - 1, FILE_LEN,
	FILE_LEN + 1, 1LL << 40,
};

static int64_t expected_result(size_t len, int64_t offset)
{
	int64_t left = (int64_t)FILE_LEN - offset;

	if (left <= 0)
		return 0;
	return left < (int64_t)len ? left : (int64_t)len;
}

/* Every size at every offset, one by one, and all in one batch. */
/* @direct: a block is the least that is written, within what was asked for. */
static void check_sizes_and_offsets_of(int file, bool direct)
{
	enum { NR = COUNT(sizes) * COUNT(offsets) };
	static struct shm_fill batch[NR];
	char *block = get(4 * MIB), *all;
	size_t at = 0, n = 0;

	for (size_t s = 0; s < COUNT(sizes); s++) {
		for (size_t o = 0; o < COUNT(offsets); o++) {
			int64_t want = expected_result(sizes[s], offsets[o]);

			memset(block, 0xee, sizes[s] + 1);
			CHECK_EQ(fill(block, sizes[s], file, offsets[o]), want);
			CHECK(pattern_is(block, want, 3, offsets[o]));
			if (direct)
				want = sizes[s];
			CHECK(is_all(block + want, sizes[s] + 1 - want, 0xee));
		}
	}
	shm_free(block);

	for (size_t s = 0; s < COUNT(sizes); s++)
		at += (sizes[s] + 1) * COUNT(offsets);
	all = get(at);
	memset(all, 0xee, at);
	at = 0;
	for (size_t s = 0; s < COUNT(sizes); s++) {
		for (size_t o = 0; o < COUNT(offsets); o++) {
			batch[n++] = request(all + at, sizes[s], file, offsets[o]);
			at += sizes[s] + 1;
		}
	}
	CHECK_EQ(shm_fill(batch, NR), 0);
	for (n = 0; n < NR; n++) {
		int64_t want = expected_result(batch[n].len, batch[n].offset);

		CHECK_EQ(batch[n].result, want);
		CHECK(pattern_is(batch[n].dst, want, 3, batch[n].offset));
		if (direct)
			want = batch[n].len;
		CHECK(is_all((char *)batch[n].dst + want, batch[n].len + 1 - want, 0xee));
	}
	shm_free(all);
	close(file);
}

static void check_sizes_and_offsets(void)
{
	check_sizes_and_offsets_of(pattern_file(FILE_LEN, 3), false);
}

static void sizes_and_offsets(void)
{
	need_backend();
	check_sizes_and_offsets();
}

/* Small records from random places to random places. */
static void check_many_small(void)
{
	enum { NR = 5000, RECORD = 700 };
	struct shm_fill *batch = calloc(NR, sizeof(*batch));
	char *block = get(NR * RECORD);
	int file = pattern_file(FILE_LEN, 8);
	uint32_t random = 4711;

	CHECK(batch);
	for (int i = 0; i < NR; i++)
		batch[i] = request(block + i * RECORD, RECORD, file,
				   random_below(&random, FILE_LEN - RECORD));
	for (int i = NR - 1; i > 0; i--) {
		int j = random_below(&random, i + 1);
		struct shm_fill other = batch[i];

		batch[i] = batch[j];
		batch[j] = other;
	}
	CHECK_EQ(shm_fill(batch, NR), 0);
	for (int i = 0; i < NR; i++) {
		CHECK_EQ(batch[i].result, RECORD);
		CHECK(pattern_is(batch[i].dst, RECORD, 8, batch[i].offset));
	}
	free(batch);
	shm_free(block);
	close(file);
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
		batch[i] = request(addr + (i * 17 % 40) * (MIB + MIB / 2) + i, 5000 + i * 1000,
				   file, i * 4096);
	CHECK_EQ(shm_fill(batch, 40), 0);
	for (int i = 0; i < 40; i++) {
		CHECK_EQ(batch[i].result, 5000 + i * 1000);
		CHECK(pattern_is(batch[i].dst, batch[i].len, 6, i * 4096));
	}
	shmdev_region_unref(region);
	close(file);
}

static void nothing_to_do(void)
{
	struct shm_fill none;
	char *block;

	need_backend();
	CHECK_EQ(shm_fill(NULL, 0), 0);
	CHECK_EQ(shm_fill(&none, 0), 0);
	CHECK_EQ(shm_fill(NULL, 1), -EINVAL);
	block = get(64);
	CHECK_EQ(fill(block, 0, 0, 0), 0);
	CHECK_EQ(fill(NULL, 0, -1, SHM_FILL_CURRENT), 0);
	shm_free(block);
}

/* --- Streams -------------------------------------------------------------------- */

/* Write the pattern in dribs and drabs, then close. */
struct writer {
	int fd;
	size_t len;
	uint32_t seed, random;
};

static void *write_slowly(void *argument)
{
	struct writer *writer = argument;
	unsigned char buffer[70000];
	size_t at = 0, piece;

	while (at < writer->len) {
		piece = 1 + random_below(&writer->random, sizeof(buffer));
		if (piece > writer->len - at)
			piece = writer->len - at;
		pattern_write(buffer, piece, writer->seed, at);
		for (size_t done = 0; done < piece;) {
			ssize_t put = write(writer->fd, buffer + done, piece - done);

			CHECK(put > 0);
			done += put;
		}
		at += piece;
		sched_yield();
	}
	close(writer->fd);
	return NULL;
}

/* Several requests of one pipe are done in order; the last finds the end. */
static void check_stream(int reader, int write_end)
{
	struct writer writer = { write_end, 3 * MIB + 500, 21, 9 };
	static const size_t lens[] = { 1, 1000, MIB, 2 * MIB - 3, 0, 500, 7000, 10 };
	struct shm_fill batch[COUNT(lens)];
	char *block = get(8 * MIB);
	size_t at = 0, want;
	pthread_t thread;

	CHECK_EQ(pthread_create(&thread, NULL, write_slowly, &writer), 0);
	for (size_t i = 0; i < COUNT(lens); i++)
		batch[i] = request(block + i * MIB, lens[i], reader, SHM_FILL_CURRENT);
	batch[3].dst = block + 3 * MIB;
	batch[5].dst = block + 6 * MIB;
	CHECK_EQ(shm_fill(batch, COUNT(lens)), 0);
	CHECK_EQ(pthread_join(thread, NULL), 0);
	for (size_t i = 0; i < COUNT(lens); i++) {
		want = at + lens[i] > writer.len ? writer.len - at : lens[i];
		CHECK_EQ(batch[i].result, want);
		CHECK(pattern_is(batch[i].dst, want, 21, at));
		at += want;
	}
	CHECK_EQ(at, writer.len);
	shm_free(block);
	close(reader);
}

static void check_pipe(void)
{
	int pipes[2];

	CHECK_EQ(pipe2(pipes, O_CLOEXEC), 0);
	check_stream(pipes[0], pipes[1]);
}

static void requests_of_a_pipe_are_done_in_order(void)
{
	need_backend();
	check_pipe();
}

static void requests_of_a_socket_are_done_in_order(void)
{
	int pair[2];

	need_backend();
	CHECK_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
	check_stream(pair[0], pair[1]);
}

/* The writer fills one pipe and then the other; whoever insists on an order hangs. */
struct pair_writer {
	int first, second;
};

static void *write_one_and_then_the_other(void *argument)
{
	struct pair_writer *writers = argument;
	struct writer one = { writers->first, MIB, 31, 5 }, other = { writers->second, MIB, 32, 6 };

	write_slowly(&one);
	write_slowly(&other);
	return NULL;
}

static void check_two_pipes(void)
{
	for (int swapped = 0; swapped < 2; swapped++) {
		struct shm_fill batch[4];
		struct pair_writer writers;
		char *block = get(3 * MIB);
		int one[2], other[2];
		pthread_t thread;

		CHECK_EQ(pipe2(one, O_CLOEXEC), 0);
		CHECK_EQ(pipe2(other, O_CLOEXEC), 0);
		writers = (struct pair_writer){ one[1], other[1] };
		CHECK_EQ(pthread_create(&thread, NULL, write_one_and_then_the_other, &writers), 0);
		batch[swapped] = request(block, MIB - 10, one[0], SHM_FILL_CURRENT);
		batch[!swapped] = request(block + MIB, MIB - 10, other[0], SHM_FILL_CURRENT);
		batch[2] = request(block + 2 * MIB, 100, one[0], SHM_FILL_CURRENT);
		batch[3] = request(block + 2 * MIB + 100, 10, other[0], SHM_FILL_CURRENT);
		CHECK_EQ(shm_fill(batch, 4), 0);
		CHECK_EQ(pthread_join(thread, NULL), 0);
		CHECK_EQ(batch[0].result, MIB - 10);
		CHECK_EQ(batch[1].result, MIB - 10);
		CHECK_EQ(batch[2].result, 10);
		CHECK_EQ(batch[3].result, 10);
		CHECK(pattern_is(block, MIB - 10, 31, 0));
		CHECK(pattern_is(block + MIB, MIB - 10, 32, 0));
		CHECK(pattern_is(block + 2 * MIB, 10, 31, MIB - 10));
		CHECK(pattern_is(block + 2 * MIB + 100, 10, 32, MIB - 10));
		close(one[0]);
		close(other[0]);
		shm_free(block);
	}
}

static void no_pipe_waits_for_another(void)
{
	need_backend();
	check_two_pipes();
}

/* More than fit into a ring, and the writer begins with the last. */
static void more_pipes_than_are_done_at_a_time(void)
{
	enum { NR = 150, LEN = 70000 };		/* more than a pipe holds */
	struct shm_fill batch[NR + 1];
	int (*pipes)[2] = calloc(NR, sizeof(*pipes)), file;
	char *block;
	pid_t child;

	need_backend();
	CHECK(pipes);
	block = get((NR + 1) * LEN);
	file = pattern_file(LEN, 4);
	for (int i = 0; i < NR; i++) {
		CHECK_EQ(pipe2(pipes[i], O_CLOEXEC), 0);
		batch[i] = request(block + i * LEN, LEN, pipes[i][0], SHM_FILL_CURRENT);
	}
	batch[NR] = request(block + NR * LEN, LEN, file, 0);
	child = fork();
	CHECK(child >= 0);
	if (!child) {
		unsigned char bytes[LEN];

		for (int i = NR - 1; i >= 0; i--) {
			pattern_write(bytes, LEN, i, 0);
			CHECK_EQ(write(pipes[i][1], bytes, LEN), LEN);
			close(pipes[i][1]);
			close(pipes[i][0]);
		}
		_exit(0);
	}
	for (int i = 0; i < NR; i++)
		close(pipes[i][1]);
	CHECK_EQ(shm_fill(batch, NR + 1), 0);
	wait_good(child);
	for (int i = 0; i <= NR; i++) {
		CHECK_EQ(batch[i].result, LEN);
		CHECK(pattern_is(batch[i].dst, LEN, i < NR ? i : 4, 0));
	}
	free(pipes);
	shm_free(block);
}

static void check_nonblocking(void)
{
	struct shm_fill batch[4];
	char *block = get(4096);
	int pipes[2], other[2];

	CHECK_EQ(pipe2(pipes, O_CLOEXEC | O_NONBLOCK), 0);
	CHECK_EQ(pipe2(other, O_CLOEXEC | O_NONBLOCK), 0);
	CHECK_EQ(fill(block, 100, pipes[0], SHM_FILL_CURRENT), -EAGAIN);

	CHECK_EQ(write(pipes[1], "12345", 5), 5);
	batch[0] = request(block, 3, pipes[0], SHM_FILL_CURRENT);
	batch[1] = request(block + 3, 100, pipes[0], SHM_FILL_CURRENT);
	batch[2] = request(block + 200, 100, other[0], SHM_FILL_CURRENT);
	batch[3] = request(block + 300, 100, pipes[0], SHM_FILL_CURRENT);
	CHECK_EQ(shm_fill(batch, 4), 0);
	CHECK_EQ(batch[0].result, 3);
	CHECK_EQ(batch[1].result, 2);
	CHECK_EQ(batch[2].result, -EAGAIN);
	CHECK_EQ(batch[3].result, -EAGAIN);
	CHECK(!memcmp(block, "12345", 5));
	close(pipes[1]);
	CHECK_EQ(fill(block, 100, pipes[0], SHM_FILL_CURRENT), 0);
	close(pipes[0]);
	close(other[0]);
	close(other[1]);
	shm_free(block);
}

static void what_does_not_block_says_eagain(void)
{
	need_backend();
	check_nonblocking();
}

static void current_moves_the_position(void)
{
	struct shm_fill batch[5];
	char *block;
	int file;

	need_backend();
	block = get(4 * MIB);
	file = pattern_file(3 * MIB, 41);
	CHECK_EQ(lseek(file, 100, SEEK_SET), 100);
	batch[0] = request(block, 50, file, SHM_FILL_CURRENT);
	batch[1] = request(block + 50, MIB + 50, file, SHM_FILL_CURRENT);
	batch[2] = request(block + 3 * MIB, 1000, file, 7);
	batch[3] = request(block + MIB + 100, MIB, file, SHM_FILL_CURRENT);
	batch[4] = request(block + 2 * MIB + 100, MIB - 100, file, SHM_FILL_CURRENT);
	CHECK_EQ(shm_fill(batch, 5), 0);
	CHECK_EQ(batch[0].result, 50);
	CHECK_EQ(batch[1].result, MIB + 50);
	CHECK_EQ(batch[2].result, 1000);
	CHECK_EQ(batch[3].result, MIB);
	CHECK_EQ(batch[4].result, MIB - 200);
	CHECK(pattern_is(block, 3 * MIB - 100, 41, 100));
	CHECK(pattern_is(block + 3 * MIB, 1000, 41, 7));
	CHECK_EQ(lseek(file, 0, SEEK_CUR), 3 * MIB);
	shm_free(block);
	close(file);
}

/* --- Errors ----------------------------------------------------------------------- */

struct bad {
	struct shm_fill request;
	int error;
};

/* Each kind of bad request, alone, and among good ones, which it must not disturb. */
static void check_bad_requests(void)
{
	struct shmdev_region *region = shmdev_region_create(3 * MIB, 0);
	int file = pattern_file(4 * MIB, 51), pipes[2], directory, writable, closed;
	char *one = get(1000), *two = get(1000), *large = get(2 * MIB), *freed, *addr;
	char *good = get(2 * MIB), on_stack[64];
	struct shm_fill batch[64];
	size_t nr, size;

	CHECK(region);
	addr = shmdev_region_addr(region);
	size = shmdev_region_size(region);
	CHECK_EQ(pipe2(pipes, O_CLOEXEC), 0);
	directory = open("/", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	writable = open("/dev/null", O_WRONLY | O_CLOEXEC);
	closed = dup(file);
	close(closed);
	freed = get(50000);
	shm_free(laundered(freed));

	{
		struct bad bad[] = {
			{ request(one, 100, -1, 0), EBADF },
			{ request(one, 100, -1, SHM_FILL_CURRENT), EBADF },
			{ request(one, 100, closed, 0), EBADF },
			{ request(one, 100, closed, SHM_FILL_CURRENT), EBADF },
			{ request(one, 100, writable, 0), EBADF },
			{ request(one, 100, writable, SHM_FILL_CURRENT), EBADF },
			{ request(one, 100, directory, 0), EISDIR },
			{ request(one, 100, directory, SHM_FILL_CURRENT), EISDIR },
			{ request(one, 100, pipes[0], 0), ESPIPE },
			{ request(one, 100, pipes[0], 5), ESPIPE },
			{ request(one, 100, file, -2), EINVAL },
			{ request(one, 100, file, INT64_MIN), EINVAL },
			{ request(one, (size_t)INT64_MAX + 1, file, 0), EINVAL },
			{ request(one, SIZE_MAX, file, 0), EINVAL },
			{ request(one, INT64_MAX, file, 0), EFAULT },
			/* Past a block, across two, into one from before it. */
			{ request(one, 1001, file, 0), EFAULT },
			{ request(one + 999, 2, file, 0), EFAULT },
			{ request(one + 1000, 1, file, 0), EFAULT },
			{ request(one < two ? one : two, 1100, file, 0), EFAULT },
			{ request(large, 2 * MIB + 1, file, 0), EFAULT },
			{ request(large + 2 * MIB - 1, 2, pipes[0], SHM_FILL_CURRENT), EFAULT },
			{ request(freed, 100, file, 0), EFAULT },
			/* Past a region, and in none. */
			{ request(addr, size + 1, file, 0), EFAULT },
			{ request(addr + size - 1, 2, file, 0), EFAULT },
			{ request(addr - 1, 2, file, 0), EFAULT },
			{ request(on_stack, 64, file, 0), EFAULT },
			{ request(NULL, 64, file, 0), EFAULT },
			{ request((void *)-64L, 64, file, 0), EFAULT },
		};

		for (size_t i = 0; i < COUNT(bad); i++) {
			CHECK_EQ(shm_fill(&bad[i].request, 1), 0);
			if (bad[i].request.result != -bad[i].error)
				tap_note("bad request %zu alone", i);
			CHECK_EQ(bad[i].request.result, -bad[i].error);
		}
		bad[0].request.fd = file;
		bad[0].request.flags = SHM_DRAIN_SYNC;
		bad[0].error = EINVAL;

		nr = 0;
		for (size_t i = 0; i < COUNT(bad); i++) {
			batch[nr++] = bad[i].request;
			batch[nr++] = request(good + i * 50000, 50000, file, i * 50000);
		}
		CHECK(nr <= COUNT(batch) && nr / 2 * 50000 <= 2 * MIB);
		CHECK_EQ(shm_fill(batch, nr), 0);
		for (size_t i = 0; i < COUNT(bad); i++) {
			if (batch[2 * i].result != -bad[i].error)
				tap_note("bad request %zu among good ones", i);
			CHECK_EQ(batch[2 * i].result, -bad[i].error);
			CHECK_EQ(batch[2 * i + 1].result, 50000);
		}
		CHECK(pattern_is(good, nr / 2 * 50000, 51, 0));
	}

	shm_free(one);
	shm_free(two);
	shm_free(large);
	shm_free(good);
	shmdev_region_unref(region);
	close(file);
	close(directory);
	close(writable);
	close(pipes[0]);
	close(pipes[1]);
}

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
		batch[i] = request(NULL, MIB, 0, 0);
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
	block = get(4 * MIB);
	memset(block, 0xee, 4 * MIB);
	CHECK_EQ(fill(block, 4 * MIB, file, 0), 3 * MIB + 10);
	CHECK(pattern_is(block, 4096, 61, 0));
	CHECK(is_all(block + 4096, 3 * MIB + 10 - 4096, 0));
	CHECK(is_all(block + 3 * MIB + 10, MIB - 10, 0xee));
	shm_free(block);
	close(file);
}

/* A file that has something, then nothing but EIO: memory, with a hole in it. */
static void check_half_a_file(void)
{
	struct shm_fill batch[3];
	unsigned char *there = mmap(NULL, 4 * MIB, PROT_READ | PROT_WRITE,
				    MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	int memory = open("/proc/self/mem", O_RDONLY | O_CLOEXEC);
	char *block = get(8 * MIB);
	size_t good = 2 * MIB + 8192;

	CHECK(there != MAP_FAILED && memory >= 0);
	pattern_write(there, 4 * MIB, 66, 0);
	CHECK_EQ(munmap(there + good, 4096), 0);
	memset(block, 0xee, 8 * MIB);
	batch[0] = request(block, 4 * MIB, memory, (intptr_t)there);
	batch[1] = request(block + 4 * MIB, 100, memory, (intptr_t)(there + good));
	batch[2] = request(block + 5 * MIB, MIB, memory, (intptr_t)there);
	CHECK_EQ(shm_fill(batch, 3), 0);
	CHECK_EQ(batch[0].result, -EIO);
	CHECK_EQ(batch[0].done, good);
	CHECK(pattern_is(block, good, 66, 0));
	CHECK_EQ(batch[1].result, -EIO);
	CHECK_EQ(batch[1].done, 0);
	CHECK_EQ(batch[2].result, MIB);
	CHECK(pattern_is(block + 5 * MIB, MIB, 66, 0));
	CHECK_EQ(munmap(there, good), 0);
	CHECK_EQ(munmap(there + good + 4096, 4 * MIB - good - 4096), 0);
	close(memory);
	shm_free(block);
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
	block = get(8 * MIB);
	CHECK_EQ(fill(block, 8 * MIB, loop, 0), 4 * MIB);
	CHECK(pattern_is(block, 4 * MIB, 44, 0));

	CHECK_EQ(ioctl(loop, BLKFLSBUF), 0);
	CHECK_EQ(ftruncate(file, 2 * MIB), 0);
	batch[0] = request(block, 4 * MIB, loop, 0);
	batch[1] = request(block + 4 * MIB, MIB, loop, 512);
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
	block = get(12 * MIB);
	file = pattern_file(3 * MIB + 100, 45);
	CHECK_EQ(pthread_create(&thread, NULL, cut_and_grow, &file), 0);
	for (int i = 0; i < 100; i++) {
		struct shm_fill one = request(block, 12 * MIB, file, 0);

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
	block = get(4 * MIB);
	CHECK_EQ(fill(block, 4 * MIB, direct, 0), 3 * MIB + 1000);
	CHECK(pattern_is(block, 3 * MIB + 1000, 71, 0));
	memset(block, 0, 4 * MIB);
	CHECK_EQ(fill(block, 4096, direct, 3 * MIB), 1000);
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
	block = get(4 * MIB);
	for (int i = 0; i < 100; i++) {
		struct shm_fill batch[3];

		memset(block, 0xee, 4 * MIB);
		for (int j = 0; j < 3; j++)
			batch[j] = request(block + j * MIB + random_below(&random, 9000),
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
	block = get(3 * MIB);
	CHECK_EQ(fill(block, 3 * MIB, fd, 0), 3 * MIB);
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
	block = get(8 * MIB);
	memset(block, 0xee, 8 * MIB);
	batch[0] = request(block, 2 * MIB, zero, SHM_FILL_CURRENT);
	batch[1] = request(block + 2 * MIB, 100000, status, 0);
	batch[2] = request(block + 3 * MIB, 3 * MIB, memfd, 0);
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
	CHECK_EQ(fill(shmdev_region_addr(to), 4 * MIB, shmdev_region_fd(from), 0), 4 * MIB);
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
		char *block = get(3 * MIB);
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
		batch[0] = request(block, 1000, pipes[0], SHM_FILL_CURRENT);
		batch[1] = request(block + MIB, 2 * MIB, file, 0);
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
	struct itimerval soon = { { 0, 0 }, { 0, 30000 } };
	struct shm_fill batch[4];
	char *block = get(4 * MIB);
	int silent[2], other[2], file = pattern_file(MIB, 84);

	CHECK_EQ(sigaction(SIGALRM, &action, NULL), 0);
	CHECK_EQ(pipe2(silent, O_CLOEXEC), 0);
	CHECK_EQ(pipe2(other, O_CLOEXEC), 0);
	for (int nr = 1; nr <= 4; nr++) {
		CHECK_EQ(write(silent[1], "hello", 5), 5);
		batch[0] = request(block, MIB, silent[0], SHM_FILL_CURRENT);
		batch[1] = request(block + MIB, 100, silent[0], SHM_FILL_CURRENT);
		batch[2] = request(block + 2 * MIB, MIB, file, 0);
		batch[3] = request(block + 3 * MIB, 100, other[0], SHM_FILL_CURRENT);
		for (int i = 0; i < 3; i++)
			batch[i].flags = SHM_FILL_INTR;
		if (nr == 4) {
			/* This one is patient: it is written to by the handler's time. */
			CHECK_EQ(write(other[1], "patience", 8), 8);
			batch[3].len = 8;
		}
		CHECK_EQ(setitimer(ITIMER_REAL, &soon, NULL), 0);
		CHECK_EQ(shm_fill(batch, nr), 0);
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
	char *block = get(200);

	alarm(0);
	for (int i = 0; i < *nr; i++) {
		CHECK_EQ(pipe2(pipes, O_CLOEXEC), 0);
		batch[i] = request(block + i * 100, 100, pipes[0], SHM_FILL_CURRENT);
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

/* --- Engines ------------------------------------------------------------------------- */

static enum shmdev_fill_engine engine_now(void)
{
	enum shmdev_fill_engine engine = info_now().fill_engine;

	tap_note("engine: %s", shmdev_fill_engine_name(engine));
	return engine;
}

static void check_everything(void)
{
	check_sizes_and_offsets();
	check_many_small();
	check_pipe();
	check_two_pipes();
	check_nonblocking();
	check_bad_requests();
	check_half_a_file();
}

#define FEAT_OF_6_3	(1U << 13)

/* Whether io_uring works here at all, as the kernel and not the library says. */
static bool kernel_has_io_uring(bool *registers)
{
	struct io_uring_params params = { 0 };
	long fd = syscall(SYS_io_uring_setup, 1, &params);

	if (fd < 0) {
		tap_note("io_uring_setup: %s", strerror(errno));
		return false;
	}
	close(fd);
	/* Before, it takes longer to unregister memory than to fill it. */
	*registers = params.features & FEAT_OF_6_3;
	return true;
}

static void the_best_engine_is_used(void)
{
	enum shmdev_backend backend = need_backend();
	bool huge = backend == SHMDEV_BACKEND_DEVICE || backend == SHMDEV_BACKEND_HUGETLB;
	enum shmdev_fill_engine engine = engine_now();
	bool registers;

	if (!kernel_has_io_uring(&registers))
		CHECK_EQ(engine, SHMDEV_FILL_PREADV);
	else
		CHECK_EQ(engine, huge && registers ? SHMDEV_FILL_FIXED : SHMDEV_FILL_RING);
	check_everything();
	CHECK_EQ(count_descriptors_of("anon_inode:[io_uring]", NULL),
		 engine != SHMDEV_FILL_PREADV);
}

static void the_ring_reads_it_all(void)
{
	forbid_cached_reads();
	need_backend();
	if (engine_now() == SHMDEV_FILL_PREADV)
		tap_skip("no io_uring here");
	check_everything();
}

static void check_refused_by(int nr, int error)
{
	/* First of all: a ring that is there already goes on working. */
	forbid_syscall(nr, error);
	need_backend();
	CHECK_EQ(engine_now(), SHMDEV_FILL_PREADV);
	check_everything();
	CHECK_EQ(count_descriptors_of("anon_inode:[io_uring]", NULL), 0);
}

static void io_uring_refused_with_eperm(void)
{
	check_refused_by(SYS_io_uring_setup, EPERM);
}

static void io_uring_refused_with_enosys(void)
{
	check_refused_by(SYS_io_uring_setup, ENOSYS);
}

/* A filter that comes when there is a ring already, and one that half works. */
static void io_uring_refused_later(void)
{
	forbid_cached_reads();
	need_backend();
	if (engine_now() == SHMDEV_FILL_PREADV)
		tap_skip("no io_uring here");
	check_many_small();
	forbid_syscall(SYS_io_uring_enter, EPERM);
	check_everything();
	forbid_syscall(SYS_io_uring_setup, EPERM);
	check_everything();
	CHECK_EQ(engine_now(), SHMDEV_FILL_PREADV);
}

static void registering_refused(void)
{
	forbid_cached_reads();
	need_backend();
	if (engine_now() == SHMDEV_FILL_PREADV)
		tap_skip("no io_uring here");
	forbid_syscall(SYS_io_uring_register, EOPNOTSUPP);
	check_everything();
}

static void registering_refused_from_the_start(void)
{
	bool registers;

	if (!kernel_has_io_uring(&registers))
		tap_skip("no io_uring here");
	forbid_syscall(SYS_io_uring_register, EOPNOTSUPP);
	forbid_cached_reads();
	need_backend();
	CHECK_EQ(engine_now(), SHMDEV_FILL_RING);
	check_everything();
}

static void drop_capability(int number)
{
	struct __user_cap_header_struct header = { _LINUX_CAPABILITY_VERSION_3, 0 };
	struct __user_cap_data_struct data[2];

	CHECK_EQ(syscall(SYS_capget, &header, data), 0);
	data[CAP_TO_INDEX(number)].effective &= ~CAP_TO_MASK(number);
	CHECK_EQ(syscall(SYS_capset, &header, data), 0);
}

static void little_memory_may_be_locked(void)
{
	struct rlimit limit = { 65536, 65536 };

	/* Who has this capability is not limited. */
	drop_capability(CAP_IPC_LOCK);
	CHECK_EQ(setrlimit(RLIMIT_MEMLOCK, &limit), 0);
	forbid_cached_reads();
	need_backend();
	CHECK(engine_now() != SHMDEV_FILL_FIXED);
	check_everything();
}

/* For the whole machine, so not on one that others may be using. */
static void io_uring_disabled(void)
{
	int setting = open("/proc/sys/kernel/io_uring_disabled", O_RDWR | O_CLOEXEC);

	if (setting < 0)
		tap_skip("kernel.io_uring_disabled: %s", strerror(errno));
	if (!getenv("SHMDEV_VM"))
		tap_skip("the setting is for the whole machine; only in a virtual one");
	CHECK_EQ(pwrite(setting, "2", 1, 0), 1);
	need_backend();
	CHECK_EQ(engine_now(), SHMDEV_FILL_PREADV);
	check_everything();
	CHECK_EQ(count_descriptors_of("anon_inode:[io_uring]", NULL), 0);
	CHECK_EQ(pwrite(setting, "0", 1, 0), 1);
}

static void odd_tuning(void)
{
	setenv("SHMDEV_CHUNK", "12345", 1);
	setenv("SHMDEV_DEPTH", "1", 1);
	setenv("SHMDEV_THREADS", "5", 1);
	forbid_cached_reads();
	need_backend();
	check_everything();
}

static void tuning_that_is_none(void)
{
	setenv("SHMDEV_CHUNK", "-1", 1);
	setenv("SHMDEV_DEPTH", "1000000000000000000000", 1);
	setenv("SHMDEV_THREADS", "many", 1);
	need_backend();
	check_everything();
}

/* A program that closes "all other" descriptors, a daemon say, closes ours too. */
static void the_ring_is_closed_by_the_program(void)
{
	int ring, file;
	char byte;

	forbid_cached_reads();
	need_backend();
	if (engine_now() == SHMDEV_FILL_PREADV)
		tap_skip("no io_uring here");
	check_many_small();
	CHECK_EQ(count_descriptors_of("anon_inode:[io_uring]", &ring), 1);
	close(ring);
	check_everything();

	/* And its number is another file's now, which we must leave alone. */
	CHECK_EQ(count_descriptors_of("anon_inode:[io_uring]", &ring), 1);
	file = pattern_file(4096, 91);
	CHECK_EQ(dup2(file, ring), ring);
	check_everything();
	CHECK_EQ(pread(ring, &byte, 1, 0), 1);
	CHECK_EQ((unsigned char)byte, pattern_at(91, 0));
}

static void no_descriptor_for_a_ring(void)
{
	struct rlimit limit;
	struct shm_fill batch[4];
	char *block;
	int file;

	need_backend();
	block = get(4 * MIB);
	file = pattern_file(4 * MIB, 92);
	CHECK_EQ(getrlimit(RLIMIT_NOFILE, &limit), 0);
	limit.rlim_cur = 3;
	CHECK_EQ(setrlimit(RLIMIT_NOFILE, &limit), 0);
	for (int i = 0; i < 4; i++)
		batch[i] = request(block + i * MIB, MIB, file, i * MIB);
	CHECK_EQ(shm_fill(batch, 4), 0);
	for (int i = 0; i < 4; i++)
		CHECK_EQ(batch[i].result, MIB);
	CHECK(pattern_is(block, 4 * MIB, 92, 0));
	shm_free(block);
	/* A sanitizer wants to look around in the end. */
	limit.rlim_cur = 256;
	CHECK_EQ(setrlimit(RLIMIT_NOFILE, &limit), 0);
}

TAP_MAIN(TAP_TEST(sizes_and_offsets),
	 TAP_TEST(many_small_requests),
	 TAP_TEST(scattered_destinations),
	 TAP_TEST(nothing_to_do),
	 TAP_TEST(requests_of_a_pipe_are_done_in_order),
	 TAP_TEST(requests_of_a_socket_are_done_in_order),
	 TAP_TEST(no_pipe_waits_for_another),
	 TAP_TEST(more_pipes_than_are_done_at_a_time),
	 TAP_TEST(what_does_not_block_says_eagain),
	 TAP_TEST(current_moves_the_position),
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
	 TAP_TEST(a_fatal_signal_kills),
	 TAP_TEST(the_best_engine_is_used),
	 TAP_TEST(the_ring_reads_it_all),
	 TAP_TEST(io_uring_refused_with_eperm),
	 TAP_TEST(io_uring_refused_with_enosys),
	 TAP_TEST(io_uring_refused_later),
	 TAP_TEST(registering_refused),
	 TAP_TEST(registering_refused_from_the_start),
	 TAP_TEST(little_memory_may_be_locked),
	 TAP_TEST(io_uring_disabled),
	 TAP_TEST(odd_tuning),
	 TAP_TEST(tuning_that_is_none),
	 TAP_TEST(the_ring_is_closed_by_the_program),
	 TAP_TEST(no_descriptor_for_a_ring))
