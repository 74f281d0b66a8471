// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/*
 * Files to memory and back, in the ways one has: a tool of tests/bench/bench_fill.py.
 *
 * Its argument is a directory with the file "large" and, in "many", files "0" to "9999" of
 * 64 KiB.  Reads lines "<job> <way>" and answers each with the time of one run, and the
 * processor time of it.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <shmdev.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define MIB	((size_t)1 << 20)
#define RECORD	4096
#define RECORDS	1000000
#define FILES	10000
#define FILE_SIZE	((size_t)64 << 10)

static size_t size;		/* of the large file, and of the memory */
static int file, direct, out;
static char *memory, *source;	/* shared and in use; private, with data */
static char (*names)[32];

static _Noreturn void die(const char *what)
{
	fprintf(stderr, "bench/fill: %s: %s\n", what, strerror(errno));
	exit(1);
}

/* --- One piece after another ----------------------------------------------------- */

static void read_pieces(int fd, char *to, size_t len, size_t piece)
{
	for (size_t at = 0; at < len;) {
		ssize_t got = pread(fd, to + at, len - at < piece ? len - at : piece, at);

		if (got <= 0)
			die("pread");
		at += got;
	}
}

static void fill(int fd, void *dst, size_t len, int64_t offset)
{
	struct shm_fill one = { .dst = dst, .len = len, .fd = fd, .offset = offset };

	if (shm_fill(&one, 1) || one.result != (int64_t)len)
		die("shm_fill");
}

static void cached_read(void)
{
	read_pieces(file, memory, size, MIB);
}

static void cached_whole(void)
{
	read_pieces(file, memory, size, size);
}

static void cached_mmap(void)
{
	void *mapped = mmap(NULL, size, PROT_READ, MAP_SHARED, file, 0);

	if (mapped == MAP_FAILED)
		die("mmap");
	memcpy(memory, mapped, size);
	munmap(mapped, size);
}

static void cached_shmdev(void)
{
	fill(file, memory, size, 0);
}

static void direct_read(void)
{
	read_pieces(direct, memory, size, MIB);
}

static void direct_shmdev(void)
{
	fill(direct, memory, size, 0);
}

/* --- Records, files, a pipe ------------------------------------------------------- */

static uint64_t random_record(void)
{
	static uint64_t state = 88172645463325252ULL;

	state ^= state << 13;
	state ^= state >> 7;
	state ^= state << 17;
	return state % (size / RECORD);
}

/* Where the next one goes: from the start again, where there are more than there is room for. */
static char *place(size_t number)
{
	return memory + number % (size / RECORD) * RECORD;
}

static void records_pread(void)
{
	for (size_t i = 0; i < RECORDS; i++)
		if (pread(file, place(i), RECORD, random_record() * RECORD) != RECORD)
			die("pread");
}

static void records_shmdev(void)
{
	struct shm_fill *reqs = calloc(RECORDS, sizeof(*reqs));

	if (!reqs)
		die("calloc");
	for (size_t i = 0; i < RECORDS; i++)
		reqs[i] = (struct shm_fill){ .dst = place(i), .len = RECORD, .fd = file,
					     .offset = random_record() * RECORD };
	if (shm_fill(reqs, RECORDS))
		die("shm_fill");
	for (size_t i = 0; i < RECORDS; i++)
		if (reqs[i].result != RECORD)
			die("a record");
	free(reqs);
}

static void files_read_to(char *to)
{
	for (int i = 0; i < FILES; i++) {
		int fd = open(names[i], O_RDONLY | O_CLOEXEC);

		if (fd < 0 || read(fd, to + i * FILE_SIZE, FILE_SIZE) != FILE_SIZE)
			die(names[i]);
		close(fd);
	}
}

static void files_shmdev_to(char *to)
{
	struct shmdev_path *reqs = calloc(FILES, sizeof(*reqs));

	if (!reqs)
		die("calloc");
	for (int i = 0; i < FILES; i++)
		reqs[i] = (struct shmdev_path){ .dst = to + i * FILE_SIZE, .len = FILE_SIZE,
						.path = names[i], .dirfd = AT_FDCWD };
	if (shmdev_path_fill(reqs, FILES))
		die("shmdev_path_fill");
	for (int i = 0; i < FILES; i++)
		if (reqs[i].result != FILE_SIZE || reqs[i].size != FILE_SIZE)
			die(names[i]);
	free(reqs);
}

static void files_read(void)
{
	files_read_to(memory);
}

static void files_shmdev(void)
{
	files_shmdev_to(memory);
}

static void *feed(void *argument)
{
	int fd = *(int *)argument;

	for (size_t at = 0; at < size;) {
		ssize_t put = write(fd, source + at, size - at);

		if (put < 0)
			die("write");
		at += put;
	}
	close(fd);
	return NULL;
}

static void from_pipe(bool by_shmdev)
{
	pthread_t thread;
	int pipes[2];

	if (pipe2(pipes, O_CLOEXEC) || pthread_create(&thread, NULL, feed, &pipes[1]))
		die("pipe");
	if (by_shmdev)
		fill(pipes[0], memory, size, SHM_FILL_CURRENT);
	for (size_t at = by_shmdev ? size : 0; at < size;) {
		ssize_t got = read(pipes[0], memory + at, size - at);

		if (got <= 0)
			die("read");
		at += got;
	}
	pthread_join(thread, NULL);
	close(pipes[0]);
}

static void pipe_read(void)
{
	from_pipe(false);
}

static void pipe_shmdev(void)
{
	from_pipe(true);
}

/* --- Into new memory --------------------------------------------------------------- */

static void new_memfd(void)
{
	int fd = open("large", O_RDONLY | O_CLOEXEC), memfd = memfd_create("bench", MFD_CLOEXEC);
	char *mapped;

	if (fd < 0 || memfd < 0 || ftruncate(memfd, size))
		die("memfd");
	mapped = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, memfd, 0);
	if (mapped == MAP_FAILED)
		die("mmap");
	read_pieces(fd, mapped, size, size);
	munmap(mapped, size);
	close(memfd);
	close(fd);
}

static void new_shmdev(void)
{
	int fd = open("large", O_RDONLY | O_CLOEXEC);
	void *block = shm_alloc(size);

	if (fd < 0 || !block)
		die("shm_alloc");
	fill(fd, block, size, 0);
	shm_free(block);
	close(fd);
}

/* Memory that is given back each time: what it costs to write to it first. */
static void into_new(void *(*put)(void *to))
{
	void *block = shm_alloc(size);

	if (!block)
		die("shm_alloc");
	put(block);
	shm_free(block);
}

static void *put_memcpy(void *to)
{
	return memcpy(to, source, size);
}

static void *put_copy(void *to)
{
	shmdev_copy(to, source, size);
	return to;
}

static void *put_memset(void *to)
{
	return memset(to, 7, size);
}

static void *put_set(void *to)
{
	shmdev_set(to, size, "\x07", 1);
	return to;
}

static void *put_files_read(void *to)
{
	files_read_to(to);
	return to;
}

static void *put_files_shmdev(void *to)
{
	files_shmdev_to(to);
	return to;
}

static void newfiles_read(void)
{
	into_new(put_files_read);
}

static void newfiles_shmdev(void)
{
	into_new(put_files_shmdev);
}

static void newcopy_memcpy(void)
{
	into_new(put_memcpy);
}

static void newcopy_shmdev(void)
{
	into_new(put_copy);
}

static void newset_memset(void)
{
	into_new(put_memset);
}

static void newset_shmdev(void)
{
	into_new(put_set);
}

/* --- The other way, and memory only -------------------------------------------------- */

static void drain_write(void)
{
	for (size_t at = 0; at < size;) {
		ssize_t put = pwrite(out, memory + at, size - at < MIB ? size - at : MIB, at);

		if (put <= 0)
			die("pwrite");
		at += put;
	}
}

static void drain_shmdev(void)
{
	struct shm_drain one = { .src = memory, .len = size, .fd = out };

	if (shm_drain(&one, 1) || one.result != (int64_t)size)
		die("shm_drain");
}

static void copy_memcpy(void)
{
	memcpy(memory, source, size);
}

static void copy_shmdev(void)
{
	shmdev_copy(memory, source, size);
}

static void set_memset(void)
{
	memset(memory, 7, size);
}

static void set_shmdev(void)
{
	shmdev_set(memory, size, "\x07", 1);
}

static const struct way {
	const char *name;
	void (*run)(void);
} ways[] = {
	{ "cached read", cached_read },		{ "cached whole", cached_whole },
	{ "cached mmap", cached_mmap },		{ "cached shmdev", cached_shmdev },
	{ "direct read", direct_read },		{ "direct shmdev", direct_shmdev },
	{ "records pread", records_pread },	{ "records shmdev", records_shmdev },
	{ "files read", files_read },		{ "files shmdev", files_shmdev },
	{ "pipe read", pipe_read },		{ "pipe shmdev", pipe_shmdev },
	{ "new memfd", new_memfd },		{ "new shmdev", new_shmdev },
	{ "drain write", drain_write },		{ "drain shmdev", drain_shmdev },
	{ "copy memcpy", copy_memcpy },		{ "copy shmdev", copy_shmdev },
	{ "set memset", set_memset },		{ "set shmdev", set_shmdev },
	{ "newcopy memcpy", newcopy_memcpy },	{ "newcopy shmdev", newcopy_shmdev },
	{ "newfiles read", newfiles_read },	{ "newfiles shmdev", newfiles_shmdev },
	{ "newset memset", newset_memset },	{ "newset shmdev", newset_shmdev },
};

static double seconds_of(const struct timeval *time)
{
	return time->tv_sec + time->tv_usec / 1e6;
}

static double cpu_now(void)
{
	struct rusage usage;

	getrusage(RUSAGE_SELF, &usage);
	return seconds_of(&usage.ru_utime) + seconds_of(&usage.ru_stime);
}

static double now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec + ts.tv_nsec / 1e9;
}

static void answer(const char *line)
{
	for (size_t i = 0; i < sizeof(ways) / sizeof(ways[0]); i++) {
		double start, cpu;

		if (strcmp(ways[i].name, line))
			continue;
		if (!strncmp(line, "direct", 6) && direct < 0) {
			printf("unavailable no O_DIRECT there\n");
			return;
		}
		start = now();
		cpu = cpu_now();
		ways[i].run();
		printf("seconds=%.9f cpu=%.6f\n", now() - start, cpu_now() - cpu);
		return;
	}
	printf("unavailable no such way: %s\n", line);
}

static void prepare(const char *directory)
{
	struct shmdev_region *region;
	struct stat st;
	size_t room;

	if (chdir(directory))
		die(directory);
	file = open("large", O_RDONLY | O_CLOEXEC);
	out = open("out", O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	direct = open("large", O_RDONLY | O_DIRECT | O_CLOEXEC);
	if (file < 0 || out < 0 || fstat(file, &st))
		die("large");
	size = st.st_size;
	room = size > FILES * FILE_SIZE ? size : FILES * FILE_SIZE;
	region = shmdev_region_create(room, 0);
	source = malloc(size);
	names = calloc(FILES, sizeof(*names));
	if (!region || !source || !names)
		die("memory");
	memory = shmdev_region_addr(region);
	memset(memory, 1, room);
	for (size_t at = 0; at < size; at++)
		source[at] = at * 7 >> 3;
	for (int i = 0; i < FILES; i++)
		snprintf(names[i], sizeof(names[i]), "many/%d", i);
}

int main(int argc, char **argv)
{
	char line[64];

	if (argc != 2)
		return 2;
	prepare(argv[1]);
	while (fgets(line, sizeof(line), stdin)) {
		line[strcspn(line, "\n")] = '\0';
		answer(line);
		fflush(stdout);
	}
	return 0;
}
