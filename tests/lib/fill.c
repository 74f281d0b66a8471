// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/* Fills: what arrives, what is reported, and by which engine. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>

#include <linux/capability.h>
#include <linux/io_uring.h>

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
				  .result = 0x5555 };
}

/* The result of a batch of one. */
static int64_t fill(void *dst, size_t len, int fd, int64_t offset)
{
	struct shm_fill one = request(dst, len, fd, offset);

	CHECK_EQ(shm_fill(&one, 1), 0);
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
static void check_sizes_and_offsets(void)
{
	enum { NR = COUNT(sizes) * COUNT(offsets) };
	static struct shm_fill batch[NR];
	int file = pattern_file(FILE_LEN, 3);
	char *block = get(4 * MIB), *all;
	size_t at = 0, n = 0;

	for (size_t s = 0; s < COUNT(sizes); s++) {
		for (size_t o = 0; o < COUNT(offsets); o++) {
			int64_t want = expected_result(sizes[s], offsets[o]);

			memset(block, 0xee, sizes[s] + 1);
			CHECK_EQ(fill(block, sizes[s], file, offsets[o]), want);
			CHECK(pattern_is(block, want, 3, offsets[o]));
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
		CHECK(is_all((char *)batch[n].dst + want, batch[n].len + 1 - want, 0xee));
	}
	shm_free(all);
	close(file);
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
	shm_free(freed);

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
		bad[0].request.flags = 1;
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

/* --- Other kinds of files ----------------------------------------------------------- */

static void direct_io(void)
{
	char path[64], *block;
	int file, direct;

	need_backend();
	file = pattern_file(3 * MIB + 1000, 71);
	CHECK_EQ(fsync(file), 0);
	snprintf(path, sizeof(path), "/proc/self/fd/%d", file);
	direct = open(path, O_RDONLY | O_DIRECT | O_CLOEXEC);
	if (direct < 0)
		tap_skip("no O_DIRECT here: %s", strerror(errno));
	block = get(4 * MIB);
	CHECK_EQ(fill(block, 4 * MIB, direct, 0), 3 * MIB + 1000);
	CHECK(pattern_is(block, 3 * MIB + 1000, 71, 0));
	memset(block, 0, 4 * MIB);
	CHECK_EQ(fill(block, 4096, direct, 3 * MIB), 1000);
	CHECK(pattern_is(block, 1000, 71, 3 * MIB));
	shm_free(block);
	close(direct);
	close(file);
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
	need_backend();
	CHECK(engine_now() != SHMDEV_FILL_FIXED);
	check_everything();
}

/* A program that closes "all other" descriptors, a daemon say, closes ours too. */
static void the_ring_is_closed_by_the_program(void)
{
	int ring, file;
	char byte;

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
	 TAP_TEST(what_does_not_block_says_eagain),
	 TAP_TEST(current_moves_the_position),
	 TAP_TEST(bad_requests_do_not_disturb_good_ones),
	 TAP_TEST(only_bad_requests),
	 TAP_TEST(sparse_files),
	 TAP_TEST(direct_io),
	 TAP_TEST(nonblocking_regular_file),
	 TAP_TEST(devices_and_proc),
	 TAP_TEST(from_a_region),
	 TAP_TEST(threads_fill),
	 TAP_TEST(signals_do_no_harm),
	 TAP_TEST(the_best_engine_is_used),
	 TAP_TEST(io_uring_refused_with_eperm),
	 TAP_TEST(io_uring_refused_with_enosys),
	 TAP_TEST(io_uring_refused_later),
	 TAP_TEST(registering_refused),
	 TAP_TEST(registering_refused_from_the_start),
	 TAP_TEST(little_memory_may_be_locked),
	 TAP_TEST(the_ring_is_closed_by_the_program),
	 TAP_TEST(no_descriptor_for_a_ring))
