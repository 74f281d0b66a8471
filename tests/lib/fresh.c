// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/*
 * Memory that nobody has touched: what is filled, copied and set there, and what of it
 * goes by way of its memfd; with any backend, which must make no difference to the data.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>

#include "transfer.h"

#define SIZE	(12 * MIB)

#define HUGE	(2 * MIB)

#ifndef MADV_COLLAPSE
#define MADV_COLLAPSE	25
#endif

/* A region, for the sake of memory that has not been touched. */
static struct shmdev_region *region_new(char **memory)
{
	struct shmdev_region *region = shmdev_region_create(SIZE, 0);

	CHECK(region);
	*memory = shmdev_region_addr(region);
	return region;
}

/*
 * AddressSanitizer has a byte for each eight, and a fault for each page of these that it has
 * not looked at yet; this looks at all of them.
 */
void *__asan_region_is_poisoned(void *start, size_t size) __attribute__((weak));

static long faults_now(void)
{
	struct rusage usage;

	CHECK_EQ(getrusage(RUSAGE_THREAD, &usage), 0);
	return usage.ru_minflt;
}

static const struct place {
	size_t at, len;
	int64_t offset;
} places[] = {
	{ 0, SIZE, 0 }, { 0, SIZE, 1 }, { 64, 3 * MIB, 4096 }, { 4095, MIB + 2, 4097 },
	{ 5 * MIB + 1, 65536, 0 }, { 8192, 32768, 77 }, { 1, 32767, 5 }, { SIZE - 300000, 300000, 9 },
	{ MIB, 7 * MIB, 13 * MIB },		/* the end of the file is in it */
	{ 3 * MIB, MIB, 40 * MIB },		/* and before it */
};

#define FILE_SIZE	(16 * MIB + 555)

/* Fill, in one request and in several; what is around stays zero. */
static void check_fills(void)
{
	int file = pattern_file(FILE_SIZE, 71);

	for (size_t i = 0; i < COUNT(places); i++) {
		for (int parts = 1; parts <= 3; parts++) {
			const struct place *place = &places[i];
			size_t want = place->offset < (int64_t)FILE_SIZE ?
				      FILE_SIZE - place->offset : 0, piece = place->len / parts, got = 0;
			struct shm_fill batch[3];
			struct shmdev_region *region;
			char *memory;

			region = region_new(&memory);
			if (want > place->len)
				want = place->len;
			for (int part = 0; part < parts; part++)
				batch[part] = fill_request(memory + place->at + part * piece,
							   part == parts - 1 ?
							   place->len - part * piece : piece, file,
							   place->offset + part * piece);
			CHECK_EQ(shm_fill(batch, parts), 0);
			for (int part = 0; part < parts; part++) {
				CHECK(batch[part].result >= 0);
				CHECK_EQ(batch[part].result, batch[part].done);
				got += batch[part].result;
			}
			CHECK_EQ(got, want);
			CHECK(pattern_is(memory + place->at, want, 71, place->offset));
			CHECK(is_all(memory, place->at, 0));
			CHECK(is_all(memory + place->at + want, SIZE - place->at - want, 0));
			shmdev_region_unref(region);
		}
	}
	close(file);
}

static void check_copies(void)
{
	char *from = malloc(SIZE + 100), *memory;

	CHECK(from);
	pattern_write(from, SIZE + 100, 72, 0);
	for (size_t i = 0; i < COUNT(places); i++) {
		const struct place *place = &places[i];
		struct shmdev_region *region = region_new(&memory);

		shmdev_copy(memory + place->at, from + place->offset % 100, place->len);
		CHECK(!memcmp(memory + place->at, from + place->offset % 100, place->len));
		CHECK(is_all(memory, place->at, 0));
		CHECK(is_all(memory + place->at + place->len, SIZE - place->at - place->len, 0));
		shmdev_region_unref(region);

		region = region_new(&memory);
		shmdev_set(memory + place->at, place->len, from, 77);
		CHECK(!memcmp(memory + place->at, from, 77));
		CHECK(!memcmp(memory + place->at, memory + place->at + 77, place->len - 77));
		CHECK(is_all(memory, place->at, 0));
		CHECK(is_all(memory + place->at + place->len, SIZE - place->at - place->len, 0));
		shmdev_region_unref(region);
	}
	free(from);
}

static void what_is_put_there(void)
{
	need_backend();
	check_fills();
	check_copies();
}

static void by_one_thread(void)
{
	setenv("SHMDEV_THREADS", "1", 1);
	need_backend();
	check_fills();
	check_copies();
}

static void by_many_threads(void)
{
	setenv("SHMDEV_THREADS", "7", 1);
	need_backend();
	check_fills();
	check_copies();
}

/* Base pages, touched by one thread whose faults can be counted. */
static void need_faults(void)
{
	setenv("SHMDEV_THREADS", "1", 1);
	if (need_backend() != SHMDEV_BACKEND_MEMFD)
		tap_skip("for base pages only");
#ifdef __SANITIZE_THREAD__
	tap_skip("ThreadSanitizer has memory of its own that is touched beside ours");
#endif
}

/* A fault for each page there is not, and nor is one when the memory is used. */
static void pages_are_not_faulted_one_by_one(void)
{
	long pages = SIZE / sysconf(_SC_PAGESIZE), faults;
	struct shmdev_region *region;
	char *memory, *from;
	int file;

	need_faults();
	file = pattern_file(SIZE, 73);
	from = malloc(SIZE);
	CHECK(from);
	memset(from, 1, SIZE);
	for (int way = 0; way < 3; way++) {
		region = region_new(&memory);
		if (__asan_region_is_poisoned)
			CHECK(!__asan_region_is_poisoned(memory, SIZE));
		faults = faults_now();
		if (way == 0)
			CHECK_EQ(fill_one(memory, SIZE, file, 0), SIZE);
		else if (way == 1)
			shmdev_copy(memory, from, SIZE);
		else
			shmdev_set(memory, SIZE, "ab", 2);
		faults = faults_now() - faults;
		tap_note("%ld faults for %ld pages", faults, pages);
		CHECK(faults < pages / 2);
		if (shmdev_region_page_size(region) == (size_t)sysconf(_SC_PAGESIZE)) {
			faults = faults_now();
			for (size_t at = 0; at < SIZE; at += 4096)
				memory[at]++;
			CHECK(faults_now() - faults < pages / 8);
		}
		shmdev_region_unref(region);
	}
	free(from);
	close(file);
}

/* Whether the kernel makes huge pages of a memfd's base pages when it is asked to. */
static bool kernel_gathers(void)
{
	int fd = memfd_create("gathers", MFD_CLOEXEC);
	char *room = mmap(NULL, SIZE + HUGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0), *at;
	bool gathers;

	CHECK(fd >= 0 && room != MAP_FAILED);
	CHECK_EQ(ftruncate(fd, SIZE), 0);
	at = (char *)(((uintptr_t)room + HUGE - 1) & -HUGE);
	CHECK(mmap(at, SIZE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, fd, 0) == at);
	for (size_t huge = 0; huge < SIZE; huge += HUGE)
		at[huge] = 1;
	gathers = !madvise(at, SIZE, MADV_COLLAPSE);
	CHECK_EQ(munmap(room, SIZE + HUGE), 0);
	close(fd);
	return gathers;
}

static void need_gathering(void)
{
	if (need_backend() != SHMDEV_BACKEND_MEMFD)
		tap_skip("for base pages only");
	if (!kernel_gathers())
		tap_skip("this kernel does not collapse pages of a memfd");
}

static uint64_t huge_bytes(const struct shmdev_region *region)
{
	uint64_t bytes;

	CHECK_EQ(shmdev_region_huge_bytes(region, &bytes), 0);
	return bytes;
}

/* One that somebody looks at just then is left as it is. */
static bool is_huge(const struct shmdev_region *region, size_t len)
{
	uint64_t bytes = huge_bytes(region);

	tap_note("%llu of %zu bytes in huge pages", (unsigned long long)bytes, len);
	return bytes >= len - HUGE && bytes <= len;
}

static void copies_make_huge_pages(void)
{
	char *from = malloc(SIZE), *memory;
	struct shmdev_region *region;

	need_gathering();
	CHECK(from);
	pattern_write(from, SIZE, 80, 0);
	region = region_new(&memory);
	shmdev_copy(memory, from, SIZE);
	CHECK(is_huge(region, SIZE));
	CHECK(pattern_is(memory, SIZE, 80, 0));
	shmdev_region_unref(region);
	free(from);
}

/* Pieces meet in the midst of one.  Of two threads the second might write to it meanwhile. */
static void pieces_make_huge_pages(void)
{
	char *from = malloc(SIZE), *memory;
	struct shmdev_region *region;

	setenv("SHMDEV_THREADS", "1", 1);
	need_gathering();
	CHECK(from);
	pattern_write(from, SIZE, 81, 0);
	region = region_new(&memory);
	shmdev_copy(memory + MIB, from, SIZE - MIB);
	CHECK(is_huge(region, SIZE - HUGE));
	CHECK(pattern_is(memory + MIB, SIZE - MIB, 81, 0));
	shmdev_region_unref(region);

	/* The first is touched by the tile that all others are made from. */
	region = region_new(&memory);
	shmdev_set(memory, SIZE, "abc", 3);
	CHECK(is_huge(region, SIZE - HUGE));
	shmdev_region_unref(region);
	free(from);
}

/* Pages of [@at, @at + @len) that are there. */
static size_t pages_there(char *at, size_t len)
{
	size_t pages = len / sysconf(_SC_PAGESIZE), there = 0;
	unsigned char *map = malloc(pages);

	CHECK(map);
	CHECK_EQ(mincore(at, len, map), 0);
	for (size_t page = 0; page < pages; page++)
		there += map[page] & 1;
	free(map);
	return there;
}

/* And none for what the file does not have. */
static void fills_make_huge_pages(void)
{
	size_t len = SIZE - MIB - 777, whole = len & -HUGE, end = (len + HUGE - 1) & -HUGE;
	int file = pattern_file(len, 81);
	struct shmdev_region *region;
	char *memory;

	need_gathering();
	region = region_new(&memory);
	CHECK_EQ(fill_one(memory, SIZE, file, 0), len);
	CHECK_EQ(huge_bytes(region), whole);
	CHECK(pattern_is(memory, len, 81, 0));
	CHECK_EQ(pages_there(memory + end, SIZE - end), 0);
	shmdev_region_unref(region);

	/* Some of it is there. */
	region = region_new(&memory);
	memory[SIZE / 2] = 1;
	CHECK_EQ(fill_one(memory, SIZE, file, 0), len);
	CHECK(pattern_is(memory, len, 81, 0));
	CHECK(is_all(memory + len, SIZE - len, 0));
	shmdev_region_unref(region);
	close(file);
}

/* What is gathered at a time is more than is read at a time. */
static void fills_that_wait_for_a_disk(void)
{
	int file = pattern_file(SIZE + 555, 82), fds[2];
	struct shmdev_region *region;
	char *memory, path[64];

	setenv("SHMDEV_CHUNK", "65536", 1);
	setenv("SHMDEV_DEPTH", "5", 1);
	need_gathering();
	CHECK_EQ(fsync(file), 0);
	snprintf(path, sizeof(path), "/proc/self/fd/%d", file);
	fds[0] = file;
	fds[1] = open(path, O_RDONLY | O_DIRECT | O_CLOEXEC);
	for (int i = 0; i < 2 && fds[i] >= 0; i++) {
		for (int64_t offset = 0; offset <= 512; offset += 512) {
			CHECK_EQ(posix_fadvise(file, 0, 0, POSIX_FADV_DONTNEED), 0);
			region = region_new(&memory);
			CHECK_EQ(fill_one(memory, SIZE, fds[i], offset), SIZE);
			/* Reads past the page cache end at blocks, and so in some huge page. */
			if (i == 0 || offset == 0)
				CHECK_EQ(huge_bytes(region), SIZE);
			CHECK(pattern_is(memory, SIZE, 82, offset));
			shmdev_region_unref(region);
		}
	}
	if (fds[1] >= 0)
		close(fds[1]);
	close(file);
}

/* What has been gathered and not begun ends, too. */
static void fills_that_are_cancelled(void)
{
	int file = pattern_file(SIZE, 83);
	unsigned int whole = 0, ended = 0;
	struct shmdev_region *region;
	struct shmdev_job *job;
	struct shm_fill fill;
	char *memory;

	setenv("SHMDEV_CHUNK", "4096", 1);
	setenv("SHMDEV_DEPTH", "2", 1);
	need_gathering();
	CHECK_EQ(fsync(file), 0);
	for (int round = 0; round < 40; round++) {
		CHECK_EQ(posix_fadvise(file, 0, 0, POSIX_FADV_DONTNEED), 0);
		region = region_new(&memory);
		fill = fill_request(memory, SIZE, file, 0);
		job = shmdev_fill_start(&fill, 1);
		CHECK(job);
		/* At several places, once not at all. */
		while (shmdev_job_bytes(job) < round * SIZE / 39 && shmdev_job_wait(job, 0))
			;
		if (round < 39)
			shmdev_job_cancel(job);
		CHECK_EQ(shmdev_job_wait(job, -1), 0);
		shmdev_job_free(job);
		if (fill.result == -ECANCELED)
			ended++;
		else
			CHECK_EQ(fill.result, SIZE);
		whole += fill.result == SIZE;
		CHECK(fill.done == SIZE || fill.result < 0);
		CHECK(pattern_is(memory, fill.done, 83, 0));
		shmdev_region_unref(region);
	}
	tap_note("%u whole, %u cancelled", whole, ended);
	CHECK(whole && ended);
	close(file);
}

static void prepared_is_what_is_asked_for(void)
{
	struct shmdev_region *region;
	char *memory;

	need_gathering();
	region = region_new(&memory);
	shmdev_prepare(memory, HUGE - 1);
	shmdev_prepare(memory + 1, 2 * HUGE - 2);
	CHECK_EQ(pages_there(memory, SIZE), 0);
	errno = 77;
	shmdev_prepare(memory + 1, 3 * HUGE - 2);
	CHECK_EQ(errno, 77);
	CHECK_EQ(huge_bytes(region), HUGE);
	CHECK_EQ(pages_there(memory, HUGE), 0);
	CHECK_EQ(pages_there(memory + 2 * HUGE, SIZE - 2 * HUGE), 0);
	shmdev_prepare(memory, SIZE);
	CHECK(is_all(memory, SIZE, 0));
	shmdev_region_unref(region);
}

/* Whatever the memory is, and whosever. */
static void preparing_changes_nothing(void)
{
	char *own = malloc(SIZE), *memory;
	struct shmdev_region *region, *reader;

	need_backend();
	CHECK(own);
	memset(own, 5, SIZE);
	region = region_new(&memory);
	for (size_t at = 4096; at < SIZE; at += 3 * MIB + 4096)
		memset(memory + at, 6, 100);
	for (size_t i = 0; i < COUNT(places); i++) {
		shmdev_prepare(memory + places[i].at, places[i].len);
		shmdev_prepare(own + places[i].at, places[i].len);
		shmdev_prepare(memory + places[i].at, 0);
	}
	CHECK(is_all(own, SIZE, 5));
	for (size_t at = 4096; at < SIZE; at += 3 * MIB + 4096) {
		CHECK(is_all(memory + at, 100, 6));
		memset(memory + at, 0, 100);
	}
	CHECK(is_all(memory, SIZE, 0));

	reader = shmdev_region_open_rdonly(shmdev_region_fd(region));
	CHECK(reader);
	shmdev_prepare(shmdev_region_addr(reader), SIZE);
	CHECK(is_all(shmdev_region_addr(reader), SIZE, 0));
	shmdev_prepare(NULL, SIZE);
	shmdev_region_unref(reader);
	shmdev_region_unref(region);
	free(own);
}

/* Linux before 6.1; then they go by way of the memfd. */
static void without_gathering(void)
{
	forbid_syscall_with(SYS_madvise, 2, MADV_COLLAPSE, EINVAL);
	what_is_put_there();
	pages_are_not_faulted_one_by_one();
}

/* What is there already of a large request keeps the rest from nothing. */
static void some_of_it_is_there(void)
{
	static const size_t there[] = { 0, SIZE / 2, SIZE - 1 };
	long pages = SIZE / sysconf(_SC_PAGESIZE), faults;
	struct shmdev_region *region;
	char *memory;
	int file;

	need_faults();
	file = pattern_file(SIZE, 76);
	for (size_t missing = 0; missing < COUNT(there); missing++) {
		region = region_new(&memory);
		if (__asan_region_is_poisoned)
			CHECK(!__asan_region_is_poisoned(memory, SIZE));
		for (size_t i = 0; i < COUNT(there); i++)
			if (i != missing)
				memory[there[i]] = 1;
		faults = faults_now();
		CHECK_EQ(fill_one(memory, SIZE, file, 0), SIZE);
		faults = faults_now() - faults;
		tap_note("%ld faults for %ld pages", faults, pages);
		CHECK(faults < pages / 2);
		CHECK(pattern_is(memory, SIZE, 76, 0));
		shmdev_region_unref(region);
	}
	close(file);
}

/* write(2) to the memfd is refused from the start, or from some size on. */
static void without_pwrite(void)
{
	forbid_syscall(SYS_pwrite64, EPERM);
	forbid_syscall_with(SYS_madvise, 2, MADV_COLLAPSE, EINVAL);
	need_backend();
	check_copies();
}

static void fills_without_pwrite(void)
{
	struct shmdev_region *region;
	char *memory;
	int file;

	need_backend();
	region = region_new(&memory);
	file = pattern_file(SIZE, 74);
	forbid_syscall(SYS_pwrite64, EPERM);
	CHECK_EQ(fill_one(memory, SIZE, file, 0), SIZE);
	CHECK(pattern_is(memory, SIZE, 74, 0));
	shmdev_region_unref(region);
	close(file);
}

/* Beyond this limit write(2) kills; a fill has nothing to do with it. */
static void under_a_file_size_limit(void)
{
	struct rlimit limit = { 3 * MIB + 1000, RLIM_INFINITY };
	struct shmdev_region *region, *second;
	char *memory, *other;
	int file;

	need_backend();
	region = region_new(&memory);
	second = region_new(&other);
	file = pattern_file(SIZE, 75);
	CHECK_EQ(setrlimit(RLIMIT_FSIZE, &limit), 0);
	CHECK_EQ(fill_one(memory, SIZE, file, 0), SIZE);
	CHECK(pattern_is(memory, SIZE, 75, 0));
	shmdev_copy(other, memory, SIZE);
	CHECK(pattern_is(other, SIZE, 75, 0));
	shmdev_region_unref(region);
	shmdev_region_unref(second);
	close(file);
}

/* A peer made it append: what is written goes elsewhere, or nowhere. */
static void a_descriptor_that_appends(void)
{
	struct shmdev_region *region, *second;
	char *memory, *other;
	int file;

	need_backend();
	region = region_new(&memory);
	second = region_new(&other);
	file = pattern_file(SIZE, 76);
	if (fcntl(shmdev_region_fd(region), F_SETFL, O_APPEND) ||
	    fcntl(shmdev_region_fd(second), F_SETFL, O_APPEND))
		tap_skip("it does not append: %s", strerror(errno));
	CHECK_EQ(fill_one(memory, SIZE, file, 0), SIZE);
	CHECK(pattern_is(memory, SIZE, 76, 0));
	shmdev_copy(other, memory, SIZE);
	CHECK(pattern_is(other, SIZE, 76, 0));
	shmdev_region_unref(region);
	shmdev_region_unref(second);
	close(file);
}

/* What came before an error is there, and what it says is so. */
static void a_source_that_fails(void)
{
	unsigned char *there = mmap(NULL, SIZE, PROT_READ | PROT_WRITE,
				    MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	int source = open("/proc/self/mem", O_RDONLY | O_CLOEXEC);
	size_t good = 5 * MIB + 8192;
	struct shmdev_region *region;
	struct shm_fill one;
	char *memory;

	need_backend();
	CHECK(there != MAP_FAILED && source >= 0);
	pattern_write(there, SIZE, 77, 0);
	CHECK_EQ(munmap(there + good, 4096), 0);
	region = region_new(&memory);
	one = fill_request(memory, SIZE, source, (intptr_t)there);
	CHECK_EQ(shm_fill(&one, 1), 0);
	CHECK_EQ(one.result, -EIO);
	CHECK_EQ(one.done, good);
	CHECK(pattern_is(memory, good, 77, 0));
	shmdev_region_unref(region);
	close(source);
}

/* A region that is filled while this process forks is not one more of the child's. */
static void a_child_keeps_nothing(void)
{
	struct shm_fill batch[4];
	struct shmdev_region *region;
	struct shmdev_job *job;
	char *memory;
	int file;

	need_backend();
	file = pattern_file(SIZE / 4, 78);
	for (int round = 0; round < 40; round++) {
		pid_t child;

		region = region_new(&memory);
		for (int i = 0; i < 4; i++)
			batch[i] = fill_request(memory + i * SIZE / 4, SIZE / 4, file, 0);
		job = shmdev_fill_start(batch, 4);
		CHECK(job);
		while (round % 2 && !shmdev_job_bytes(job) && shmdev_job_wait(job, 0))
			;
		child = fork();
		CHECK(child >= 0);
		if (!child) {
			shmdev_job_free(job);
			shmdev_region_unref(region);
			CHECK_EQ(info_now().regions, 0);
			CHECK_EQ(count_region_mappings(), 0);
			_exit(0);
		}
		CHECK_EQ(shmdev_job_wait(job, -1), 0);
		for (int i = 0; i < 4; i++)
			CHECK_EQ(batch[i].result, SIZE / 4);
		CHECK(pattern_is(memory + 3 * SIZE / 4, SIZE / 4, 78, 0));
		wait_good(child);
		shmdev_job_free(job);
		shmdev_region_unref(region);
	}
	close(file);
}

/* A program that has closed the region's descriptor, and opened another file. */
static void a_number_that_is_another_file(void)
{
	char *memory, *source = malloc(SIZE);
	struct shmdev_region *region;
	int file = pattern_file(4096, 3);

	need_backend();
	CHECK(source);
	pattern_write(source, SIZE, 4, 0);
	region = region_new(&memory);
	CHECK_EQ(dup2(file, shmdev_region_fd(region)), shmdev_region_fd(region));
	/* Less than a huge page, which is written to by way of the file for certain. */
	shmdev_copy(memory + MIB, source, MIB);
	CHECK(pattern_is(memory + MIB, MIB, 4, 0));
	CHECK_EQ(lseek(file, 0, SEEK_END), 4096);
	shmdev_copy(memory + 4 * MIB, source, 8 * MIB);
	CHECK(pattern_is(memory + 4 * MIB, 8 * MIB, 4, 0));
	CHECK_EQ(lseek(file, 0, SEEK_END), 4096);
	CHECK_EQ(lseek(file, 0, SEEK_SET), 0);
	CHECK_EQ(read(file, source, 4096), 4096);
	CHECK(pattern_is(source, 4096, 3, 0));
	shmdev_region_unref(region);
	close(file);
	free(source);
}

TAP_MAIN(TAP_TEST(what_is_put_there),
	 TAP_TEST(by_one_thread),
	 TAP_TEST(by_many_threads),
	 TAP_TEST(pages_are_not_faulted_one_by_one),
	 TAP_TEST(copies_make_huge_pages),
	 TAP_TEST(fills_make_huge_pages),
	 TAP_TEST(fills_that_wait_for_a_disk),
	 TAP_TEST(fills_that_are_cancelled),
	 TAP_TEST(pieces_make_huge_pages),
	 TAP_TEST(prepared_is_what_is_asked_for),
	 TAP_TEST(preparing_changes_nothing),
	 TAP_TEST(without_gathering),
	 TAP_TEST(some_of_it_is_there),
	 TAP_TEST(without_pwrite),
	 TAP_TEST(fills_without_pwrite),
	 TAP_TEST(under_a_file_size_limit),
	 TAP_TEST(a_descriptor_that_appends),
	 TAP_TEST(a_number_that_is_another_file),
	 TAP_TEST(a_source_that_fails),
	 TAP_TEST(a_child_keeps_nothing))
