// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
#define _GNU_SOURCE
#include "fill_checks.h"

#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <sys/mman.h>

#include "tap.h"

static const size_t sizes[] = {
	1, 511, 512, 4095, 4096, 4097, 65536, MIB - 1, MIB, MIB + 1, 3 * MIB + 17,
};

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

void check_sizes_and_offsets_of(int file, bool direct)
{
	enum { NR = COUNT(sizes) * COUNT(offsets) };
	static struct shm_fill batch[NR];
	char *block = get_block(4 * MIB), *all;
	size_t at = 0, n = 0;

	for (size_t s = 0; s < COUNT(sizes); s++) {
		for (size_t o = 0; o < COUNT(offsets); o++) {
			int64_t want = expected_result(sizes[s], offsets[o]);

			memset(block, 0xee, sizes[s] + 1);
			CHECK_EQ(fill_one(block, sizes[s], file, offsets[o]), want);
			CHECK(pattern_is(block, want, 3, offsets[o]));
			if (direct)
				want = sizes[s];
			CHECK(is_all(block + want, sizes[s] + 1 - want, 0xee));
		}
	}
	shm_free(block);

	for (size_t s = 0; s < COUNT(sizes); s++)
		at += (sizes[s] + 1) * COUNT(offsets);
	all = get_block(at);
	memset(all, 0xee, at);
	at = 0;
	for (size_t s = 0; s < COUNT(sizes); s++) {
		for (size_t o = 0; o < COUNT(offsets); o++) {
			batch[n++] = fill_request(all + at, sizes[s], file, offsets[o]);
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

void check_sizes_and_offsets(void)
{
	check_sizes_and_offsets_of(pattern_file(FILE_LEN, 3), false);
}

/* Small records from random places to random places. */
void check_many_small(void)
{
	enum { NR = 5000, RECORD = 700 };
	struct shm_fill *batch = calloc(NR, sizeof(*batch));
	char *block = get_block(NR * RECORD);
	int file = pattern_file(FILE_LEN, 8);
	uint32_t random = 4711;

	CHECK(batch);
	for (int i = 0; i < NR; i++)
		batch[i] = fill_request(block + i * RECORD, RECORD, file,
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

void check_stream(int reader, int write_end)
{
	struct writer writer = { write_end, 3 * MIB + 500, 21, 9 };
	static const size_t lens[] = { 1, 1000, MIB, 2 * MIB - 3, 0, 500, 7000, 10 };
	struct shm_fill batch[COUNT(lens)];
	char *block = get_block(8 * MIB);
	size_t at = 0, want;
	pthread_t thread;

	CHECK_EQ(pthread_create(&thread, NULL, write_slowly, &writer), 0);
	for (size_t i = 0; i < COUNT(lens); i++)
		batch[i] = fill_request(block + i * MIB, lens[i], reader, SHM_FILL_CURRENT);
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

void check_pipe(void)
{
	int pipes[2];

	CHECK_EQ(pipe2(pipes, O_CLOEXEC), 0);
	check_stream(pipes[0], pipes[1]);
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

void check_two_pipes(void)
{
	for (int swapped = 0; swapped < 2; swapped++) {
		struct shm_fill batch[4];
		struct pair_writer writers;
		char *block = get_block(3 * MIB);
		int one[2], other[2];
		pthread_t thread;

		CHECK_EQ(pipe2(one, O_CLOEXEC), 0);
		CHECK_EQ(pipe2(other, O_CLOEXEC), 0);
		writers = (struct pair_writer){ one[1], other[1] };
		CHECK_EQ(pthread_create(&thread, NULL, write_one_and_then_the_other, &writers), 0);
		batch[swapped] = fill_request(block, MIB - 10, one[0], SHM_FILL_CURRENT);
		batch[!swapped] = fill_request(block + MIB, MIB - 10, other[0], SHM_FILL_CURRENT);
		batch[2] = fill_request(block + 2 * MIB, 100, one[0], SHM_FILL_CURRENT);
		batch[3] = fill_request(block + 2 * MIB + 100, 10, other[0], SHM_FILL_CURRENT);
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

void check_nonblocking(void)
{
	struct shm_fill batch[4];
	char *block = get_block(4096);
	int pipes[2], other[2];

	CHECK_EQ(pipe2(pipes, O_CLOEXEC | O_NONBLOCK), 0);
	CHECK_EQ(pipe2(other, O_CLOEXEC | O_NONBLOCK), 0);
	CHECK_EQ(fill_one(block, 100, pipes[0], SHM_FILL_CURRENT), -EAGAIN);

	CHECK_EQ(write(pipes[1], "12345", 5), 5);
	batch[0] = fill_request(block, 3, pipes[0], SHM_FILL_CURRENT);
	batch[1] = fill_request(block + 3, 100, pipes[0], SHM_FILL_CURRENT);
	batch[2] = fill_request(block + 200, 100, other[0], SHM_FILL_CURRENT);
	batch[3] = fill_request(block + 300, 100, pipes[0], SHM_FILL_CURRENT);
	CHECK_EQ(shm_fill(batch, 4), 0);
	CHECK_EQ(batch[0].result, 3);
	CHECK_EQ(batch[1].result, 2);
	CHECK_EQ(batch[2].result, -EAGAIN);
	CHECK_EQ(batch[3].result, -EAGAIN);
	CHECK(!memcmp(block, "12345", 5));
	close(pipes[1]);
	CHECK_EQ(fill_one(block, 100, pipes[0], SHM_FILL_CURRENT), 0);
	close(pipes[0]);
	close(other[0]);
	close(other[1]);
	shm_free(block);
}

struct bad {
	struct shm_fill request;
	int error;
};

/* Each kind of bad request, alone, and among good ones, which it must not disturb. */
void check_bad_requests(void)
{
	struct shmdev_region *region = shmdev_region_create(3 * MIB, 0);
	int file = pattern_file(4 * MIB, 51), pipes[2], directory, writable, closed;
	char *one = get_block(1000), *two = get_block(1000), *large = get_block(2 * MIB);
	char *good = get_block(2 * MIB), *freed, *addr, on_stack[64];
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
	freed = get_block(50000);
	shm_free(laundered(freed));

	{
		struct bad bad[] = {
			{ fill_request(one, 100, -1, 0), EBADF },
			{ fill_request(one, 100, -1, SHM_FILL_CURRENT), EBADF },
			{ fill_request(one, 100, closed, 0), EBADF },
			{ fill_request(one, 100, closed, SHM_FILL_CURRENT), EBADF },
			{ fill_request(one, 100, writable, 0), EBADF },
			{ fill_request(one, 100, writable, SHM_FILL_CURRENT), EBADF },
			{ fill_request(one, 100, directory, 0), EISDIR },
			{ fill_request(one, 100, directory, SHM_FILL_CURRENT), EISDIR },
			{ fill_request(one, 100, pipes[0], 0), ESPIPE },
			{ fill_request(one, 100, pipes[0], 5), ESPIPE },
			{ fill_request(one, 100, file, -2), EINVAL },
			{ fill_request(one, 100, file, INT64_MIN), EINVAL },
			{ fill_request(one, (size_t)INT64_MAX + 1, file, 0), EINVAL },
			{ fill_request(one, SIZE_MAX, file, 0), EINVAL },
			{ fill_request(one, INT64_MAX, file, 0), EFAULT },
			/* Past a block, across two, into one from before it. */
			{ fill_request(one, 1001, file, 0), EFAULT },
			{ fill_request(one + 999, 2, file, 0), EFAULT },
			{ fill_request(one + 1000, 1, file, 0), EFAULT },
			{ fill_request(one < two ? one : two, 1100, file, 0), EFAULT },
			{ fill_request(large, 2 * MIB + 1, file, 0), EFAULT },
			{ fill_request(large + 2 * MIB - 1, 2, pipes[0], SHM_FILL_CURRENT),
			  EFAULT },
			{ fill_request(freed, 100, file, 0), EFAULT },
			/* Past a region, and in none. */
			{ fill_request(addr, size + 1, file, 0), EFAULT },
			{ fill_request(addr + size - 1, 2, file, 0), EFAULT },
			{ fill_request(addr - 1, 2, file, 0), EFAULT },
			{ fill_request(on_stack, 64, file, 0), EFAULT },
			{ fill_request(NULL, 64, file, 0), EFAULT },
			{ fill_request((void *)-64L, 64, file, 0), EFAULT },
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
			batch[nr++] = fill_request(good + i * 50000, 50000, file, i * 50000);
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

		/* One after another, in both orders: none makes the next a good one. */
		for (size_t i = 0; i < COUNT(bad); i++)
			batch[i] = batch[2 * COUNT(bad) - 1 - i] = bad[i].request;
		CHECK_EQ(shm_fill(batch, 2 * COUNT(bad)), 0);
		for (size_t i = 0; i < COUNT(bad); i++) {
			CHECK_EQ(batch[i].result, -bad[i].error);
			CHECK_EQ(batch[2 * COUNT(bad) - 1 - i].result, -bad[i].error);
		}
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

/* A file that has something, then nothing but EIO: memory, with a hole in it. */
void check_half_a_file(void)
{
	struct shm_fill batch[3];
	unsigned char *there = mmap(NULL, 4 * MIB, PROT_READ | PROT_WRITE,
				    MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	int memory = open("/proc/self/mem", O_RDONLY | O_CLOEXEC);
	char *block = get_block(8 * MIB);
	size_t good = 2 * MIB + 8192;

	CHECK(there != MAP_FAILED && memory >= 0);
	pattern_write(there, 4 * MIB, 66, 0);
	CHECK_EQ(munmap(there + good, 4096), 0);
	memset(block, 0xee, 8 * MIB);
	batch[0] = fill_request(block, 4 * MIB, memory, (intptr_t)there);
	batch[1] = fill_request(block + 4 * MIB, 100, memory, (intptr_t)(there + good));
	batch[2] = fill_request(block + 5 * MIB, MIB, memory, (intptr_t)there);
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
