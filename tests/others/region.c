// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/*
 * region through <from> <to> <bytes of a request> [direct]
 *	All of a file into shared memory, and of that into another file.
 * region hold <bytes>
 *	Print what a region of that size can be opened by, until standard input ends.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <shmdev.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static _Noreturn void die(const char *what, int error)
{
	fprintf(stderr, "region: %s: %s\n", what, strerror(error));
	exit(1);
}

static void fill_all(char *memory, size_t size, size_t piece, int fd)
{
	unsigned int nr = (size + piece - 1) / piece;
	struct shm_fill *reqs = calloc(nr, sizeof(*reqs));
	int error;

	if (!reqs)
		die("fills", errno);
	for (unsigned int i = 0; i < nr; i++) {
		size_t at = i * piece;

		reqs[i] = (struct shm_fill){ .dst = memory + at, .fd = fd, .offset = at,
					     .len = size - at < piece ? size - at : piece };
	}
	error = shm_fill(reqs, nr);
	if (error)
		die("shm_fill", -error);
	for (unsigned int i = 0; i < nr; i++)
		if (reqs[i].result != (int64_t)reqs[i].len)
			die("a fill", reqs[i].result < 0 ? -reqs[i].result : EIO);
	free(reqs);
}

static void drain_all(const char *memory, size_t size, size_t piece, int fd)
{
	unsigned int nr = (size + piece - 1) / piece;
	struct shm_drain *reqs = calloc(nr, sizeof(*reqs));
	int error;

	if (!reqs)
		die("drains", errno);
	for (unsigned int i = 0; i < nr; i++) {
		size_t at = i * piece;

		reqs[i] = (struct shm_drain){ .src = memory + at, .fd = fd, .offset = at,
					      .len = size - at < piece ? size - at : piece };
	}
	error = shm_drain(reqs, nr);
	if (error)
		die("shm_drain", -error);
	for (unsigned int i = 0; i < nr; i++)
		if (reqs[i].result != (int64_t)reqs[i].len)
			die("a drain", reqs[i].result < 0 ? -reqs[i].result : EIO);
	free(reqs);
}

static void through(const char *from, const char *to, size_t piece, int flags)
{
	int in = open(from, O_RDONLY | O_CLOEXEC | flags), out;
	struct stat st;
	char *memory;

	if (in < 0 || fstat(in, &st))
		die(from, errno);
	out = open(to, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | flags, 0600);
	if (out < 0)
		die(to, errno);
	memory = shm_alloc(st.st_size);
	if (!memory)
		die("shm_alloc", errno);
	fill_all(memory, st.st_size, piece, in);
	drain_all(memory, st.st_size, piece, out);
	shm_free(memory);
}

static void hold(size_t size)
{
	struct shmdev_region *region = shmdev_region_create(size, 0);
	const char *memory;

	if (!region)
		die("shmdev_region_create", errno);
	printf("/proc/%d/fd/%d\n", (int)getpid(), shmdev_region_fd(region));
	fflush(stdout);
	while (getchar() != EOF)
		;
	/* That it was this memory that was written to. */
	memory = shmdev_region_addr(region);
	for (size_t at = 0; at < size; at++)
		if (memory[at])
			return;
	die("nothing was written to the region", EIO);
}

int main(int argc, char **argv)
{
	if (argc >= 5 && !strcmp(argv[1], "through"))
		through(argv[2], argv[3], strtoul(argv[4], NULL, 0), argc > 5 ? O_DIRECT : 0);
	else if (argc == 3 && !strcmp(argv[1], "hold"))
		hold(strtoul(argv[2], NULL, 0));
	else
		return 2;
	return 0;
}
