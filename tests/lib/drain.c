// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/* Drains: what gets into files and streams, what is reported, and by which engine. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>

#include "transfer.h"

/* --- What arrives -------------------------------------------------------------- */

/* A file and what should be in it. */
struct model {
	int fd;
	size_t size;
	char *bytes;
};

static struct model model_make(size_t room)
{
	struct model model = { .fd = pattern_file(0, 1), .bytes = calloc(1, room) };

	CHECK(model.bytes);
	return model;
}

static void model_write(struct model *model, const char *src, size_t len, size_t offset)
{
	memcpy(model->bytes + offset, src, len);
	if (offset + len > model->size)
		model->size = offset + len;
}

static void model_check_and_drop(struct model *model)
{
	char *found = malloc(model->size + 1);

	CHECK(found);
	CHECK_EQ(pread(model->fd, found, model->size + 1, 0), model->size);
	CHECK(!memcmp(found, model->bytes, model->size));
	free(found);
	free(model->bytes);
	close(model->fd);
}

static const size_t sizes[] = {
	1, 511, 512, 4095, 4096, 4097, 65536, MIB - 1, MIB, MIB + 1, 3 * MIB + 17,
};

static const size_t offsets[] = { 0, 1, 4095, 4096, MIB - 3, 2 * MIB, 5 * MIB + 1 };

/* @flags: with which the file is opened, too. */
static void check_sizes_and_offsets(int flags)
{
	struct model model = model_make(12 * MIB);
	char *block = get_block(4 * MIB), path[64];
	uint32_t random = 5;
	int fd;

	snprintf(path, sizeof(path), "/proc/self/fd/%d", model.fd);
	fd = open(path, O_WRONLY | O_CLOEXEC | flags);
	if (fd < 0 && flags & O_DIRECT)
		tap_skip("no O_DIRECT here: %s", strerror(errno));
	CHECK(fd >= 0);
	for (size_t s = 0; s < COUNT(sizes); s++) {
		for (size_t o = 0; o < COUNT(offsets); o++) {
			/* Memory at a block, and not. */
			size_t at = o % 2 ? random_below(&random, 5000) : 0;

			pattern_write(block + at, sizes[s], s * 100 + o, 0);
			CHECK_EQ(drain_one(block + at, sizes[s], fd, offsets[o]), sizes[s]);
			model_write(&model, block + at, sizes[s], offsets[o]);
		}
	}
	close(fd);
	shm_free(block);
	model_check_and_drop(&model);
}

static void sizes_and_offsets(void)
{
	need_backend();
	check_sizes_and_offsets(0);
}

static void direct_io_of_any_size_and_offset(void)
{
	need_backend();
	check_sizes_and_offsets(O_DIRECT);
}

/* Records from random places to a place each, in several files, in no order. */
static void check_batch(unsigned int flags)
{
	enum { NR = 3000, FILES = 7 };
	struct shm_drain *batch = calloc(NR, sizeof(*batch));
	char *block = get_block(8 * MIB);
	struct model models[FILES];
	uint32_t random = 99;

	CHECK(batch);
	pattern_write(block, 8 * MIB, 12, 0);
	for (int f = 0; f < FILES; f++)
		models[f] = model_make(16 * MIB);
	for (int i = 0; i < NR; i++) {
		struct model *model = &models[random_below(&random, FILES)];
		size_t len = random_below(&random, 20) ? random_below(&random, 9000)
						       : random_below(&random, MIB);
		const char *src = block + random_below(&random, 8 * MIB - len);

		if (model->size + len > 16 * MIB)
			len = 0;
		batch[i] = drain_request(src, len, model->fd, model->size);
		batch[i].flags = flags;
		model_write(model, src, len, model->size);
	}
	for (int i = NR - 1; i > 0; i--) {
		int j = random_below(&random, i + 1);
		struct shm_drain other = batch[i];

		batch[i] = batch[j];
		batch[j] = other;
	}
	CHECK_EQ(shm_drain(batch, NR), 0);
	for (int i = 0; i < NR; i++) {
		CHECK_EQ(batch[i].result, batch[i].len);
		CHECK_EQ(batch[i].done, batch[i].len);
	}
	for (int f = 0; f < FILES; f++)
		model_check_and_drop(&models[f]);
	free(batch);
	shm_free(block);
}

static void a_batch_into_several_files(void)
{
	need_backend();
	check_batch(0);
}

static void synced_batch(void)
{
	need_backend();
	check_batch(SHM_DRAIN_SYNC);
}

static void nothing_to_do(void)
{
	struct shm_drain none;

	need_backend();
	CHECK_EQ(shm_drain(NULL, 0), 0);
	CHECK_EQ(shm_drain(&none, 0), 0);
	CHECK_EQ(shm_drain(NULL, 1), -EINVAL);
	CHECK_EQ(drain_one(NULL, 0, -1, 0), 0);
}

/* --- Streams -------------------------------------------------------------------- */

struct reader {
	int fd;
	size_t len;
	uint32_t seed, random;
};

/* Read the pattern in dribs and drabs, to the end. */
static void *read_slowly(void *argument)
{
	struct reader *reader = argument;
	unsigned char buffer[70000];
	ssize_t got;

	for (size_t at = 0; at < reader->len; at += got) {
		got = read(reader->fd, buffer, 1 + random_below(&reader->random, sizeof(buffer)));
		CHECK(got > 0);
		CHECK(pattern_is(buffer, got, reader->seed, at));
		sched_yield();
	}
	return NULL;
}

static void check_stream(int read_end, int write_end)
{
	static const size_t lens[] = { 1, 1000, MIB, 2 * MIB - 3, 0, 500 };
	struct reader reader = { read_end, 0, 21, 9 };
	struct shm_drain batch[COUNT(lens)];
	char *block = get_block(4 * MIB);
	pthread_t thread;

	pattern_write(block, 4 * MIB, 21, 0);
	for (size_t i = 0; i < COUNT(lens); i++) {
		batch[i] = drain_request(block + reader.len, lens[i], write_end, SHM_DRAIN_CURRENT);
		reader.len += lens[i];
	}
	CHECK_EQ(pthread_create(&thread, NULL, read_slowly, &reader), 0);
	CHECK_EQ(shm_drain(batch, COUNT(lens)), 0);
	for (size_t i = 0; i < COUNT(lens); i++)
		CHECK_EQ(batch[i].result, lens[i]);
	CHECK_EQ(pthread_join(thread, NULL), 0);
	shm_free(block);
	close(read_end);
	close(write_end);
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

static void *read_one_and_then_the_other(void *argument)
{
	read_slowly(argument);
	return read_slowly((struct reader *)argument + 1);
}

/* The reader empties one pipe and then the other; whoever insists on an order hangs. */
static void check_two_pipes(void)
{
	for (int swapped = 0; swapped < 2; swapped++) {
		struct reader readers[2] = { { 0, MIB, 31, 3 }, { 0, MIB, 32, 4 } };
		char *block = get_block(2 * MIB);
		struct shm_drain batch[4];
		int one[2], other[2];
		pthread_t thread;

		CHECK_EQ(pipe2(one, O_CLOEXEC), 0);
		CHECK_EQ(pipe2(other, O_CLOEXEC), 0);
		readers[0].fd = one[0];
		readers[1].fd = other[0];
		pattern_write(block, MIB, 31, 0);
		pattern_write(block + MIB, MIB, 32, 0);
		batch[swapped] = drain_request(block, MIB - 10, one[1], SHM_DRAIN_CURRENT);
		batch[!swapped] = drain_request(block + MIB, MIB - 10, other[1], SHM_DRAIN_CURRENT);
		batch[2] = drain_request(block + MIB - 10, 10, one[1], SHM_DRAIN_CURRENT);
		batch[3] = drain_request(block + 2 * MIB - 10, 10, other[1], SHM_DRAIN_CURRENT);
		CHECK_EQ(pthread_create(&thread, NULL, read_one_and_then_the_other, readers), 0);
		CHECK_EQ(shm_drain(batch, 4), 0);
		for (int i = 0; i < 4; i++)
			CHECK_EQ(batch[i].result, batch[i].len);
		CHECK_EQ(pthread_join(thread, NULL), 0);
		for (int i = 0; i < 2; i++) {
			close(one[i]);
			close(other[i]);
		}
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
	struct shm_drain batch[2];
	char *block = get_block(2 * MIB);
	int pipes[2];

	CHECK_EQ(pipe2(pipes, O_CLOEXEC | O_NONBLOCK), 0);
	CHECK_EQ(fcntl(pipes[1], F_SETPIPE_SZ, 65536), 65536);
	batch[0] = drain_request(block, MIB, pipes[1], SHM_DRAIN_CURRENT);
	batch[1] = drain_request(block + MIB, MIB, pipes[1], SHM_DRAIN_CURRENT);
	CHECK_EQ(shm_drain(batch, 2), 0);
	CHECK_EQ(batch[0].result, 65536);
	CHECK_EQ(batch[0].done, 65536);
	CHECK_EQ(batch[1].result, -EAGAIN);
	CHECK_EQ(batch[1].done, 0);
	close(pipes[0]);
	close(pipes[1]);
	shm_free(block);
}

static void what_takes_no_more_says_so(void)
{
	need_backend();
	check_nonblocking();
}

static void current_moves_the_position(void)
{
	struct model model = model_make(4 * MIB);
	struct shm_drain batch[3];
	char *block;

	need_backend();
	block = get_block(3 * MIB);
	pattern_write(block, 3 * MIB, 7, 0);
	CHECK_EQ(lseek(model.fd, 100, SEEK_SET), 100);
	batch[0] = drain_request(block, MIB, model.fd, SHM_DRAIN_CURRENT);
	batch[1] = drain_request(block + MIB, 5, model.fd, 3);
	batch[2] = drain_request(block + 2 * MIB, MIB, model.fd, SHM_DRAIN_CURRENT);
	CHECK_EQ(shm_drain(batch, 3), 0);
	model_write(&model, block, MIB, 100);
	model_write(&model, block + MIB, 5, 3);
	model_write(&model, block + 2 * MIB, MIB, 100 + MIB);
	CHECK_EQ(lseek(model.fd, 0, SEEK_CUR), 100 + 2 * MIB);
	model_check_and_drop(&model);
	shm_free(block);
}

static void what_appends_has_no_offset(void)
{
	struct model model = model_make(4 * MIB);
	struct shm_drain batch[3];
	char *block;

	need_backend();
	block = get_block(3 * MIB);
	pattern_write(block, 3 * MIB, 7, 0);
	CHECK_EQ(drain_one(block, 10, model.fd, 0), 10);
	model_write(&model, block, 10, 0);
	CHECK_EQ(fcntl(model.fd, F_SETFL, O_APPEND), 0);
	for (int i = 0; i < 3; i++)
		batch[i] = drain_request(block + i * MIB, MIB, model.fd, SHM_DRAIN_CURRENT);
	batch[1].offset = 0;
	CHECK_EQ(shm_drain(batch, 3), 0);
	CHECK_EQ(batch[0].result, MIB);
	CHECK_EQ(batch[1].result, -EINVAL);
	CHECK_EQ(batch[2].result, MIB);
	model_write(&model, block, MIB, 10);
	model_write(&model, block + 2 * MIB, MIB, 10 + MIB);
	model_check_and_drop(&model);
	shm_free(block);
}

/* --- Errors ----------------------------------------------------------------------- */

/* SIGPIPE's default is to kill. */
static void check_no_reader(void)
{
	struct shm_drain batch[3];
	char *block = get_block(3 * MIB);
	int pipes[2], pair[2], file = pattern_file(0, 1);
	sigset_t pending;

	CHECK_EQ(pipe2(pipes, O_CLOEXEC), 0);
	CHECK_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
	close(pipes[0]);
	close(pair[0]);
	CHECK_EQ(drain_one(block, 100, pipes[1], SHM_DRAIN_CURRENT), -EPIPE);
	batch[0] = drain_request(block, MIB, pipes[1], SHM_DRAIN_CURRENT);
	batch[1] = drain_request(block, MIB, file, 0);
	batch[2] = drain_request(block, MIB, pair[1], SHM_DRAIN_CURRENT);
	CHECK_EQ(shm_drain(batch, 3), 0);
	CHECK_EQ(batch[0].result, -EPIPE);
	CHECK_EQ(batch[1].result, MIB);
	CHECK_EQ(batch[2].result, -EPIPE);
	CHECK_EQ(sigpending(&pending), 0);
	CHECK(!sigismember(&pending, SIGPIPE));
	CHECK_EQ(sigprocmask(SIG_BLOCK, NULL, &pending), 0);
	CHECK(!sigismember(&pending, SIGPIPE));
	close(pipes[1]);
	close(pair[1]);
	close(file);
	shm_free(block);
}

static void a_pipe_without_a_reader(void)
{
	need_backend();
	check_no_reader();
}

/* Who blocks SIGPIPE and has one pending keeps it. */
static void a_pending_sigpipe_stays(void)
{
	sigset_t pipe_only, pending;
	char *block;
	int pipes[2];

	need_backend();
	block = get_block(100);
	sigemptyset(&pipe_only);
	sigaddset(&pipe_only, SIGPIPE);
	CHECK_EQ(sigprocmask(SIG_BLOCK, &pipe_only, NULL), 0);
	CHECK_EQ(raise(SIGPIPE), 0);
	CHECK_EQ(pipe2(pipes, O_CLOEXEC), 0);
	close(pipes[0]);
	CHECK_EQ(drain_one(block, 100, pipes[1], SHM_DRAIN_CURRENT), -EPIPE);
	CHECK_EQ(sigpending(&pending), 0);
	CHECK(sigismember(&pending, SIGPIPE));
	shm_free(block);
}

static void check_bad_requests(void)
{
	int file = pattern_file(0, 1), pipes[2], read_only, directory, closed;
	char *block = get_block(1000), *good = get_block(2 * MIB), on_stack[64];
	struct shm_drain batch[64];
	size_t nr = 0;

	CHECK_EQ(pipe2(pipes, O_CLOEXEC), 0);
	read_only = open("/dev/zero", O_RDONLY | O_CLOEXEC);
	directory = open("/", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	/* A number that nothing else gets meanwhile. */
	closed = fcntl(file, F_DUPFD_CLOEXEC, 200);
	close(closed);
	{
		struct bad {
			struct shm_drain request;
			int error;
		} bad[] = {
			{ drain_request(block, 100, file, -2), EINVAL },
			{ drain_request(block, 100, -1, 0), EBADF },
			{ drain_request(block, 100, -1, SHM_DRAIN_CURRENT), EBADF },
			{ drain_request(block, 100, closed, 0), EBADF },
			{ drain_request(block, 100, read_only, 0), EBADF },
			{ drain_request(block, 100, read_only, SHM_DRAIN_CURRENT), EBADF },
			{ drain_request(block, 100, directory, 0), EBADF },
			{ drain_request(block, 100, pipes[1], 0), ESPIPE },
			{ drain_request(block, 100, pipes[0], SHM_DRAIN_CURRENT), EBADF },
			{ drain_request(block, SIZE_MAX, file, 0), EINVAL },
			{ drain_request(block, 1001, file, 0), EFAULT },
			{ drain_request(block + 999, 2, file, 0), EFAULT },
			{ drain_request(on_stack, 64, file, 0), EFAULT },
			{ drain_request(NULL, 64, pipes[1], SHM_DRAIN_CURRENT), EFAULT },
			{ drain_request(block, 100, file, INT64_MAX), EINVAL },
			{ drain_request(block, 100, file, INT64_MAX - 50), EINVAL },
		};

		for (size_t i = 0; i < COUNT(bad); i++) {
			CHECK_EQ(shm_drain(&bad[i].request, 1), 0);
			if (bad[i].request.result != -bad[i].error)
				tap_note("bad request %zu alone", i);
			CHECK_EQ(bad[i].request.result, -bad[i].error);
			CHECK_EQ(bad[i].request.done, 0);
		}
		bad[0].request.offset = 0;
		bad[0].request.flags = 1U << 31;
		pattern_write(good, 2 * MIB, 51, 0);
		for (size_t i = 0; i < COUNT(bad); i++) {
			batch[nr++] = bad[i].request;
			batch[nr++] = drain_request(good + i * 50000, 50000, file, i * 50000);
		}
		CHECK(nr <= COUNT(batch));
		CHECK_EQ(shm_drain(batch, nr), 0);
		for (size_t i = 0; i < COUNT(bad); i++) {
			if (batch[2 * i].result != -bad[i].error)
				tap_note("bad request %zu among good ones", i);
			CHECK_EQ(batch[2 * i].result, -bad[i].error);
			CHECK_EQ(batch[2 * i + 1].result, 50000);
		}
		CHECK_EQ(pread(file, good, 2 * MIB, 0), nr / 2 * 50000);
		CHECK(pattern_is(good, nr / 2 * 50000, 51, 0));
	}
	shm_free(block);
	shm_free(good);
	close(file);
	close(read_only);
	close(directory);
	close(pipes[0]);
	close(pipes[1]);
}

static void bad_requests_do_not_disturb_good_ones(void)
{
	need_backend();
	check_bad_requests();
}

/* A file system of its own, in a name space of its own; its directory. */
static int small_file_system(const char *options)
{
	char where[] = "/tmp/shmdev-test-XXXXXX";
	int dir;

	if (unshare(CLONE_NEWNS) || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL))
		tap_skip("cannot mount: %s", strerror(errno));
	CHECK(mkdtemp(where));
	CHECK_EQ(mount("shmdev-test", where, "tmpfs", 0, options), 0);
	dir = open(where, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	CHECK(dir >= 0);
	CHECK_EQ(umount2(where, MNT_DETACH), 0);
	CHECK_EQ(rmdir(where), 0);
	return dir;
}

/* What is said to have been written can be read, and no more is said than fits. */
static void a_full_disk(void)
{
	struct shm_drain batch[3];
	char *block, *back;
	int dir, files[3];

	need_backend();
	dir = small_file_system("size=4m");
	block = get_block(8 * MIB);
	back = get_block(8 * MIB);
	pattern_write(block, 8 * MIB, 61, 0);
	for (int i = 0; i < 3; i++) {
		char name[] = { 'a' + i, '\0' };

		files[i] = openat(dir, name, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
		CHECK(files[i] >= 0);
		batch[i] = drain_request(block + i * 2 * MIB + 5, i < 2 ? 3 * MIB : 100,
					 files[i], 0);
	}
	CHECK_EQ(ftruncate(files[2], 4096), 0);
	CHECK_EQ(pwrite(files[2], "", 1, 0), 1);
	CHECK_EQ(shm_drain(batch, 3), 0);
	tap_note("%zu and %zu of %zu bytes", batch[0].done, batch[1].done, 3 * MIB);
	CHECK_EQ(batch[2].result, 100);
	CHECK(batch[0].result == -ENOSPC || batch[1].result == -ENOSPC);
	CHECK(batch[0].done + batch[1].done > 2 * MIB);
	CHECK(batch[0].done + batch[1].done < 4 * MIB);
	for (int i = 0; i < 2; i++) {
		if (batch[i].result >= 0)
			CHECK_EQ(batch[i].result, 3 * MIB);
		else
			CHECK_EQ(batch[i].result, -ENOSPC);
		CHECK(pread(files[i], back, 3 * MIB, 0) >= (ssize_t)batch[i].done);
		CHECK(!memcmp(back, batch[i].src, batch[i].done));
	}
	shm_free(block);
	shm_free(back);
}

static void a_file_that_may_not_grow(void)
{
	struct rlimit limit = { 3 * MIB + 5, 3 * MIB + 5 };
	struct shm_drain one;
	char *block;
	int file;

	need_backend();
	block = get_block(8 * MIB);
	file = pattern_file(0, 1);
	CHECK_EQ(setrlimit(RLIMIT_FSIZE, &limit), 0);
	one = drain_request(block, 8 * MIB, file, 0);
	CHECK_EQ(shm_drain(&one, 1), 0);
	CHECK_EQ(one.result, -EFBIG);
	CHECK_EQ(one.done, 3 * MIB + 5);
	CHECK_EQ(drain_one(block, 10, file, 4 * MIB), -EFBIG);
	shm_free(block);
}

/* fsync(2) is what fails here, so it is called, and what it says is reported. */
static void a_failing_fsync(void)
{
	struct shm_drain batch[5];
	char *block;
	int file, other, pipes[2];

	forbid_syscall(SYS_fsync, EIO);
	forbid_syscall(SYS_io_uring_setup, EPERM);
	need_backend();
	block = get_block(MIB);
	file = pattern_file(0, 1);
	other = pattern_file(0, 1);
	CHECK_EQ(pipe2(pipes, O_CLOEXEC), 0);
	batch[0] = drain_request(block, 1000, file, 0);
	batch[1] = drain_request(block, 1000, file, 1000);
	batch[2] = drain_request(block, 1000, other, 0);
	batch[3] = drain_request(block, 1000, pipes[0], SHM_DRAIN_CURRENT);
	batch[4] = drain_request(NULL, 0, other, 0);
	batch[0].flags = batch[3].flags = batch[4].flags = SHM_DRAIN_SYNC;
	CHECK_EQ(shm_drain(batch, 5), 0);
	CHECK_EQ(batch[0].result, -EIO);
	CHECK_EQ(batch[0].done, 1000);
	CHECK_EQ(batch[1].result, 1000);
	CHECK_EQ(batch[2].result, 1000);
	CHECK_EQ(batch[3].result, -EBADF);
	CHECK_EQ(batch[4].result, -EIO);
	shm_free(block);
}

static void check_sync(void)
{
	struct shm_drain batch[20];
	char *block = get_block(MIB);
	int pipes[2];

	CHECK_EQ(pipe2(pipes, O_CLOEXEC), 0);
	for (int i = 0; i < 19; i++) {
		batch[i] = drain_request(block, 3000, pattern_file(0, 1), i);
		batch[i].flags = SHM_DRAIN_SYNC;
	}
	/* What has no storage says so, of what has been written nonetheless. */
	batch[19] = drain_request(block, 3000, pipes[1], SHM_DRAIN_CURRENT);
	batch[19].flags = SHM_DRAIN_SYNC;
	CHECK_EQ(shm_drain(batch, 20), 0);
	for (int i = 0; i < 19; i++) {
		CHECK_EQ(batch[i].result, 3000);
		close(batch[i].fd);
	}
	CHECK_EQ(batch[19].result, -EINVAL);
	CHECK_EQ(batch[19].done, 3000);
	close(pipes[0]);
	close(pipes[1]);
	shm_free(block);
}

static void what_cannot_be_synced(void)
{
	need_backend();
	check_sync();
}

/* --- Engines ------------------------------------------------------------------------- */

/* And nothing of it is left behind. */
static void check_everything(void)
{
	unsigned int before = count_other_descriptors();

	check_sizes_and_offsets(0);
	check_batch(0);
	check_pipe();
	check_two_pipes();
	check_nonblocking();
	check_no_reader();
	check_bad_requests();
	check_sync();
	CHECK_EQ(count_other_descriptors(), before);
	CHECK(count_descriptors_of("anon_inode:[io_uring]", NULL) <= 4);
}

static void without_io_uring(void)
{
	forbid_syscall(SYS_io_uring_setup, EPERM);
	need_backend();
	CHECK_EQ(info_now().fill_engine, SHMDEV_FILL_PREADV);
	check_everything();
}

static void io_uring_refused_later(void)
{
	need_backend();
	if (info_now().fill_engine == SHMDEV_FILL_PREADV)
		tap_skip("no io_uring here");
	check_everything();
	forbid_syscall(SYS_io_uring_enter, EPERM);
	check_everything();
}

static void odd_tuning(void)
{
	setenv("SHMDEV_CHUNK", "12345", 1);
	setenv("SHMDEV_DEPTH", "1", 1);
	setenv("SHMDEV_THREADS", "5", 1);
	need_backend();
	check_everything();
}

TAP_MAIN(TAP_TEST(sizes_and_offsets),
	 TAP_TEST(direct_io_of_any_size_and_offset),
	 TAP_TEST(a_batch_into_several_files),
	 TAP_TEST(synced_batch),
	 TAP_TEST(nothing_to_do),
	 TAP_TEST(requests_of_a_pipe_are_done_in_order),
	 TAP_TEST(requests_of_a_socket_are_done_in_order),
	 TAP_TEST(no_pipe_waits_for_another),
	 TAP_TEST(what_takes_no_more_says_so),
	 TAP_TEST(current_moves_the_position),
	 TAP_TEST(what_appends_has_no_offset),
	 TAP_TEST(a_pipe_without_a_reader),
	 TAP_TEST(a_pending_sigpipe_stays),
	 TAP_TEST(bad_requests_do_not_disturb_good_ones),
	 TAP_TEST(a_full_disk),
	 TAP_TEST(a_file_that_may_not_grow),
	 TAP_TEST(a_failing_fsync),
	 TAP_TEST(what_cannot_be_synced),
	 TAP_TEST(without_io_uring),
	 TAP_TEST(io_uring_refused_later),
	 TAP_TEST(odd_tuning))
