// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/* Fills from pipes and sockets, and from where a file stands. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <pthread.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include "fill_checks.h"

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
	block = get_block((NR + 1) * LEN);
	file = pattern_file(LEN, 4);
	for (int i = 0; i < NR; i++) {
		CHECK_EQ(pipe2(pipes[i], O_CLOEXEC), 0);
		batch[i] = fill_request(block + i * LEN, LEN, pipes[i][0], SHM_FILL_CURRENT);
	}
	batch[NR] = fill_request(block + NR * LEN, LEN, file, 0);
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

static void *fill_it(void *request)
{
	CHECK_EQ(shm_fill(request, 1), 0);
	return NULL;
}

static bool is_empty(int pipe)
{
	int bytes;

	CHECK_EQ(ioctl(pipe, FIONREAD, &bytes), 0);
	return !bytes;
}

static void write_all(int fd, const char *bytes, size_t len)
{
	for (ssize_t put; len; bytes += put, len -= put) {
		put = write(fd, bytes, len);
		CHECK(put > 0);
	}
}

/* A fill of @request, which has to wait, until the pipe has got to @size. */
static pthread_t fill_begin(struct shm_fill *request, int size)
{
	pthread_t thread;

	CHECK_EQ(pthread_create(&thread, NULL, fill_it, request), 0);
	while (fcntl(request->fd, F_GETPIPE_SZ) != size)
		sched_yield();
	return thread;
}

static void fill_end(pthread_t thread, const struct shm_fill *request, uint32_t seed)
{
	CHECK_EQ(pthread_join(thread, NULL), 0);
	CHECK_EQ(request->result, (int64_t)request->len);
	CHECK(pattern_is(request->dst, request->len, seed, 0));
}

/* A pipe that much is to come from is wide while it does. */
static void large_fills_widen_a_pipe(void)
{
	const int wide = 512 << 10, new = 16 * sysconf(_SC_PAGESIZE);
	size_t len = 2 * MIB, more = 5000;
	char *block, *bytes = malloc(len + more), *rest = malloc(more);
	struct shm_fill request;
	pthread_t thread;
	int pipes[2];

	need_backend();
	CHECK(bytes && rest);
	pattern_write(bytes, len + more, 51, 0);
	CHECK_EQ(pipe2(pipes, O_CLOEXEC), 0);
	CHECK_EQ(fcntl(pipes[0], F_GETPIPE_SZ), new);
	block = get_block(len);
	request = fill_request(block, len, pipes[0], SHM_FILL_CURRENT);

	thread = fill_begin(&request, wide);
	write_all(pipes[1], bytes, len);
	fill_end(thread, &request, 51);
	CHECK_EQ(fcntl(pipes[0], F_GETPIPE_SZ), new);

	/* With something in it, it stays: somebody may have been told that there is room. */
	memset(block, 0, len);
	thread = fill_begin(&request, wide);
	write_all(pipes[1], bytes, len - 1);
	while (!is_empty(pipes[0]))
		sched_yield();
	write_all(pipes[1], bytes + len - 1, 1 + more);
	fill_end(thread, &request, 51);
	CHECK_EQ(fcntl(pipes[0], F_GETPIPE_SZ), wide);
	CHECK_EQ(read(pipes[0], rest, more), (ssize_t)more);
	CHECK(pattern_is(rest, more, 51, len));

	/* Who has set a size, before or meanwhile, keeps it. */
	CHECK_EQ(fcntl(pipes[1], F_SETPIPE_SZ, 2 * new), 2 * new);
	thread = fill_begin(&request, 2 * new);
	write_all(pipes[1], bytes, len);
	fill_end(thread, &request, 51);
	CHECK_EQ(fcntl(pipes[1], F_SETPIPE_SZ, new), new);
	thread = fill_begin(&request, wide);
	CHECK_EQ(fcntl(pipes[1], F_SETPIPE_SZ, MIB), (int)MIB);
	write_all(pipes[1], bytes, len);
	fill_end(thread, &request, 51);
	CHECK_EQ(fcntl(pipes[0], F_GETPIPE_SZ), (int)MIB);

	close(pipes[0]);
	close(pipes[1]);
	shm_free(block);
	free(rest);
	free(bytes);
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
	block = get_block(4 * MIB);
	file = pattern_file(3 * MIB, 41);
	CHECK_EQ(lseek(file, 100, SEEK_SET), 100);
	batch[0] = fill_request(block, 50, file, SHM_FILL_CURRENT);
	batch[1] = fill_request(block + 50, MIB + 50, file, SHM_FILL_CURRENT);
	batch[2] = fill_request(block + 3 * MIB, 1000, file, 7);
	batch[3] = fill_request(block + MIB + 100, MIB, file, SHM_FILL_CURRENT);
	batch[4] = fill_request(block + 2 * MIB + 100, MIB - 100, file, SHM_FILL_CURRENT);
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

TAP_MAIN(TAP_TEST(requests_of_a_pipe_are_done_in_order),
	 TAP_TEST(requests_of_a_socket_are_done_in_order),
	 TAP_TEST(no_pipe_waits_for_another),
	 TAP_TEST(more_pipes_than_are_done_at_a_time),
	 TAP_TEST(large_fills_widen_a_pipe),
	 TAP_TEST(what_does_not_block_says_eagain),
	 TAP_TEST(current_moves_the_position))
