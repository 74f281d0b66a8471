// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/*
 * Files to memory and back, in the ways one has: a tool of tests/bench/bench_fill.py.
 *
 * Its arguments are a directory with the file "large" and, in "many", files "0" and so on of
 * 64 KiB; how many these are; and how many records of 4 KiB are to be read of the large one.
 * Reads lines "<job> <way>" and answers each with the time of one run, and the processor
 * time of it.
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

#include "tool.h"

#define MIB	((size_t)1 << 20)
#define RECORD	4096
#define FILE_SIZE	((size_t)64 << 10)

static size_t size;		/* of the large file */
static size_t room;		/* of the memory: for that or for all the files */
static size_t nr_files, nr_records;
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

static void *file_map(int fd, size_t len)
{
	void *mapped = mmap(NULL, len, PROT_READ, MAP_SHARED, fd, 0);

	if (mapped == MAP_FAILED)
		die("mmap");
	return mapped;
}

static void cached_mmap(void)
{
	void *mapped = file_map(file, size);

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

static void direct_whole(void)
{
	read_pieces(direct, memory, size, size);
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
	for (size_t i = 0; i < nr_records; i++)
		if (pread(file, place(i), RECORD, random_record() * RECORD) != RECORD)
			die("pread");
}

static void records_mmap(void)
{
	const char *mapped = file_map(file, size);

	for (size_t i = 0; i < nr_records; i++)
		memcpy(place(i), mapped + random_record() * RECORD, RECORD);
	munmap((void *)mapped, size);
}

static void records_shmdev(void)
{
	struct shm_fill *reqs = calloc(nr_records, sizeof(*reqs));

	if (!reqs)
		die("calloc");
	for (size_t i = 0; i < nr_records; i++)
		reqs[i] = (struct shm_fill){ .dst = place(i), .len = RECORD, .fd = file,
					     .offset = random_record() * RECORD };
	if (shm_fill(reqs, nr_records))
		die("shm_fill");
	for (size_t i = 0; i < nr_records; i++)
		if (reqs[i].result != RECORD)
			die("a record");
	free(reqs);
}

static void files_read_to(char *to)
{
	for (size_t i = 0; i < nr_files; i++) {
		int fd = open(names[i], O_RDONLY | O_CLOEXEC);

		if (fd < 0 || read(fd, to + i * FILE_SIZE, FILE_SIZE) != FILE_SIZE)
			die(names[i]);
		close(fd);
	}
}

static void files_mmap(void)
{
	for (size_t i = 0; i < nr_files; i++) {
		int fd = open(names[i], O_RDONLY | O_CLOEXEC);
		void *mapped;

		if (fd < 0)
			die(names[i]);
		mapped = file_map(fd, FILE_SIZE);
		memcpy(memory + i * FILE_SIZE, mapped, FILE_SIZE);
		munmap(mapped, FILE_SIZE);
		close(fd);
	}
}

static void files_shmdev_to(char *to)
{
	struct shmdev_path *reqs = calloc(nr_files, sizeof(*reqs));

	if (!reqs)
		die("calloc");
	for (size_t i = 0; i < nr_files; i++)
		reqs[i] = (struct shmdev_path){ .dst = to + i * FILE_SIZE, .len = FILE_SIZE,
						.path = names[i], .dirfd = AT_FDCWD };
	if (shmdev_path_fill(reqs, nr_files))
		die("shmdev_path_fill");
	for (size_t i = 0; i < nr_files; i++)
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

/*
 * As many bytes as all the files have, in as many reads, and of one file that is open: what is
 * left when nothing is opened and closed.
 */
static int64_t part(size_t i)
{
	return i % (size / FILE_SIZE) * FILE_SIZE;
}

static void bytes_pread(void)
{
	for (size_t i = 0; i < nr_files; i++)
		if (pread(file, memory + i * FILE_SIZE, FILE_SIZE, part(i)) != FILE_SIZE)
			die("pread");
}

static void bytes_shmdev(void)
{
	struct shm_fill *reqs = calloc(nr_files, sizeof(*reqs));

	if (!reqs)
		die("calloc");
	for (size_t i = 0; i < nr_files; i++)
		reqs[i] = (struct shm_fill){ .dst = memory + i * FILE_SIZE, .len = FILE_SIZE,
					     .fd = file, .offset = part(i) };
	if (shm_fill(reqs, nr_files))
		die("shm_fill");
	for (size_t i = 0; i < nr_files; i++)
		if (reqs[i].result != FILE_SIZE)
			die("a part");
	free(reqs);
}

static void bytes_memcpy(void)
{
	for (size_t i = 0; i < nr_files; i++)
		memcpy(memory + i * FILE_SIZE, source + part(i), FILE_SIZE);
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

static int open_large(void)
{
	int fd = open("large", O_RDONLY | O_CLOEXEC);

	if (fd < 0)
		die("large");
	return fd;
}

static void new_memfd(void)
{
	int fd = open_large(), memfd = memfd_create("bench", MFD_CLOEXEC);
	char *mapped;

	if (memfd < 0 || ftruncate(memfd, size))
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
	int fd = open_large();
	void *block = shm_alloc(size);

	if (!block)
		die("shm_alloc");
	fill(fd, block, size, 0);
	shm_free(block);
	close(fd);
}

/* Memory that is given back each time: what it costs to write to it first. */
static void into_new(void *(*put)(void *to))
{
	void *block = shm_alloc(room);

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
	{ "direct read", direct_read },		{ "direct whole", direct_whole },
	{ "direct shmdev", direct_shmdev },
	{ "records pread", records_pread },	{ "records mmap", records_mmap },
	{ "records shmdev", records_shmdev },
	{ "files read", files_read },		{ "files mmap", files_mmap },
	{ "files shmdev", files_shmdev },	{ "bytes pread", bytes_pread },
	{ "bytes shmdev", bytes_shmdev },	{ "bytes memcpy", bytes_memcpy },
	{ "pipe read", pipe_read },		{ "pipe shmdev", pipe_shmdev },
	{ "new memfd", new_memfd },		{ "new shmdev", new_shmdev },
	{ "new ready", new_shmdev },
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

/* What only brings its own has no need of it. */
static void prepare_memory(void)
{
	struct shmdev_region *shared;

	if (memory)
		return;
	shared = shmdev_region_create(room, 0);
	source = malloc(size);
	if (!shared || !source)
		die("memory");
	memory = shmdev_region_addr(shared);
	memset(memory, 1, room);
	for (size_t at = 0; at < size; at++)
		source[at] = at * 7 >> 3;
}

/* What is not measured of a run.  0, or -errno: that backend is not to be had. */
static int make_ready(const char *line)
{
	struct shmdev_ready_options options = { .limit = size + size / 8 + 2 * MIB, .size = size };
	struct shmdev_info info;
	int err;

	if (strncmp(line, "new ", 4)) {
		prepare_memory();
		return 0;
	}
	err = strcmp(line, "new memfd") ? shmdev_info_get(&info) : 0;
	if (err || strcmp(line, "new ready"))
		return err;
	if (info.backend == SHMDEV_BACKEND_DEVICE) {
		wait_for_pool(size);
		return 0;
	}
	err = shmdev_ready_start(&options);
	return err ?: shmdev_ready_wait(60000);
}

static void answer(const char *line)
{
	for (size_t i = 0; i < sizeof(ways) / sizeof(ways[0]); i++) {
		double start, cpu;
		int err;

		if (strcmp(ways[i].name, line))
			continue;
		if (!strncmp(line, "direct", 6) && direct < 0) {
			printf("unavailable no O_DIRECT there\n");
			return;
		}
		err = make_ready(line);
		if (err) {
			printf("unavailable %s\n", strerror(-err));
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
	struct stat st;

	if (chdir(directory))
		die(directory);
	file = open("large", O_RDONLY | O_CLOEXEC);
	out = open("out", O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	direct = open("large", O_RDONLY | O_DIRECT | O_CLOEXEC);
	if (file < 0 || out < 0 || fstat(file, &st))
		die("large");
	size = st.st_size;
	room = size > nr_files * FILE_SIZE ? size : nr_files * FILE_SIZE;
	names = calloc(nr_files, sizeof(*names));
	if (!names)
		die("memory");
	for (size_t i = 0; i < nr_files; i++)
		snprintf(names[i], sizeof(names[i]), "many/%zu", i);
}

int main(int argc, char **argv)
{
	char line[64];

	if (argc != 4)
		return 2;
	nr_files = strtoul(argv[2], NULL, 0);
	nr_records = strtoul(argv[3], NULL, 0);
	prepare(argv[1]);
	while (fgets(line, sizeof(line), stdin)) {
		line[strcspn(line, "\n")] = '\0';
		answer(line);
		fflush(stdout);
	}
	return 0;
}
