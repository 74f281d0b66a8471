// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/* Fills from pipes and sockets, and from where a file stands. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <pthread.h>
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

static void write_all(int fd, const char *bytes, size_t len)
{
	for (ssize_t put; len; bytes += put, len -= put) {
		put = write(fd, bytes, len);
		CHECK(put > 0);
	}
}

/* A pipe that much is to come from is wide while it does; what is in it stays in it. */
static void large_fills_widen_a_pipe(void)
{
	enum { MORE = 50000 };
	size_t len = 2 * MIB;
	char *block, *bytes = malloc(len + MORE), *rest = malloc(MORE);
	struct shm_fill request;
	int pipes[2], before;
	pthread_t thread;

	need_backend();
	CHECK(bytes && rest);
	CHECK_EQ(pipe2(pipes, O_CLOEXEC), 0);
	before = fcntl(pipes[0], F_GETPIPE_SZ);
	CHECK(before >= MORE && before < (int)MIB);
	block = get_block(len);
	pattern_write(bytes, len + MORE, 51, 0);
	request = fill_request(block, len, pipes[0], SHM_FILL_CURRENT);
	CHECK_EQ(pthread_create(&thread, NULL, fill_it, &request), 0);
	while (fcntl(pipes[0], F_GETPIPE_SZ) != (int)MIB)
		sched_yield();
	write_all(pipes[1], bytes, len + MORE);
	CHECK_EQ(pthread_join(thread, NULL), 0);
	CHECK_EQ(request.result, (int64_t)len);
	CHECK(pattern_is(block, len, 51, 0));
	CHECK_EQ(fcntl(pipes[0], F_GETPIPE_SZ), before);
	CHECK_EQ(read(pipes[0], rest, MORE), MORE);
	CHECK(pattern_is(rest, MORE, 51, len));

	/* Who made it wide keeps it so. */
	CHECK_EQ(fcntl(pipes[1], F_SETPIPE_SZ, MIB), (int)MIB);
	write_all(pipes[1], bytes, MIB);
	request = fill_request(block, MIB, pipes[0], SHM_FILL_CURRENT);
	CHECK_EQ(shm_fill(&request, 1), 0);
	CHECK_EQ(request.result, (int64_t)MIB);
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
