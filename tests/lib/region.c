// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/* Regions: create, open, references, errors, and that nothing is left behind. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <pthread.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include "tap.h"
#include "util.h"

#define MIB	((size_t)1 << 20)

static struct shmdev_region *make(size_t size)
{
	struct shmdev_region *region = shmdev_region_create(size, 0);

	CHECK(region);
	return region;
}

static void create_gives_zeroed_memory(void)
{
	static const size_t sizes[] = { 1, 64, 4096, 4097, 2 * MIB, 2 * MIB + 1, 7 * MIB };
	size_t page;

	need_backend();
	page = info_now().page_size;
	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		struct shmdev_region *region = make(sizes[i]);
		size_t size = shmdev_region_size(region);
		int fd = shmdev_region_fd(region);
		char *addr = shmdev_region_addr(region);
		struct stat st;
		char *other;

		CHECK(size >= sizes[i] && size - sizes[i] < page && size % page == 0);
		CHECK_EQ(shmdev_region_backend(region), info_now().backend);
		CHECK_EQ(shmdev_region_page_size(region), info_now().page_size);
		CHECK_EQ(fstat(fd, &st), 0);
		CHECK_EQ(st.st_size, size);
		CHECK(fcntl(fd, F_GETFD) & FD_CLOEXEC);
		CHECK(is_all(addr, size, 0));
		memset(addr, 0x5a, size);
		CHECK(is_all(addr, size, 0x5a));
		/* It is the file that was written to. */
		other = mmap(NULL, size, PROT_READ, MAP_SHARED, fd, 0);
		CHECK(other != MAP_FAILED && other != addr);
		CHECK(is_all(other, size, 0x5a));
		munmap(other, size);
		shmdev_region_unref(region);
	}
}

static void create_refuses_nonsense(void)
{
	need_backend();
	CHECK_FAILS(shmdev_region_create(0, 0), EINVAL);
	CHECK_FAILS(shmdev_region_create(4096, 1U << 31), EINVAL);
	CHECK_FAILS(shmdev_region_create(4096, ~0U), EINVAL);
	CHECK_FAILS(shmdev_region_create(SIZE_MAX, 0), ENOMEM);
	CHECK_FAILS(shmdev_region_create(SIZE_MAX - 4095, 0), ENOMEM);
	CHECK_FAILS(shmdev_region_create(SIZE_MAX / 2, 0), ENOMEM);
	CHECK_FAILS(shmdev_region_create(SIZE_MAX / 2 - 2 * MIB, 0), ENOMEM);
	CHECK_FAILS(shmdev_region_create((size_t)1 << 62, 0), ENOMEM);
	CHECK_FAILS(shmdev_region_create((size_t)1 << 48, 0), ENOMEM);
	CHECK_EQ(info_now().regions, 0);
	CHECK_EQ(count_region_mappings(), 0);
}

static void last_reference_unmaps_and_closes(void)
{
	struct shmdev_region *region;
	unsigned char resident;
	void *addr;
	int fd;

	need_backend();
	region = make(2 * MIB);
	addr = shmdev_region_addr(region);
	fd = shmdev_region_fd(region);

	CHECK(shmdev_region_ref(region) == region);
	shmdev_region_unref(region);
	CHECK_EQ(info_now().regions, 1);
	memset(addr, 1, 4096);

	errno = ESTALE;
	shmdev_region_unref(region);
	CHECK_EQ(errno, ESTALE);
	CHECK(mincore(addr, 4096, &resident) == -1 && errno == ENOMEM);
	CHECK(fcntl(fd, F_GETFD) == -1 && errno == EBADF);
	CHECK_EQ(info_now().regions, 0);
	CHECK_EQ(info_now().region_bytes, 0);

	errno = ESTALE;
	shmdev_region_unref(NULL);
	CHECK_EQ(errno, ESTALE);
}

static void open_of_the_same_is_the_same(void)
{
	struct shmdev_region *region, *other, *again;
	char path[64];
	int fd, reopened;

	need_backend();
	region = make(2 * MIB);
	other = make(2 * MIB);
	fd = dup(shmdev_region_fd(region));
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	reopened = open(path, O_RDWR | O_CLOEXEC);
	/* The device may not allow it: its regions have no name. */
	if (reopened >= 0) {
		again = shmdev_region_open(reopened);
		CHECK(again == region);
		shmdev_region_unref(again);
		close(reopened);
	}
	again = shmdev_region_open(shmdev_region_fd(other));
	CHECK(again == other);
	shmdev_region_unref(again);

	again = shmdev_region_open(fd);
	CHECK(again == region);
	CHECK_EQ(info_now().regions, 2);
	CHECK_EQ(info_now().region_bytes, shmdev_region_size(region) + shmdev_region_size(other));

	/* The one that was opened outlives the one that was created. */
	shmdev_region_unref(region);
	memset(shmdev_region_addr(again), 3, 4096);
	shmdev_region_unref(again);
	CHECK_EQ(info_now().regions, 1);

	/* The descriptor stayed ours, and is the region even now. */
	again = shmdev_region_open(fd);
	CHECK(again);
	CHECK(shmdev_region_fd(again) != fd);
	CHECK(is_all(shmdev_region_addr(again), 4096, 3));
	close(fd);
	memset(shmdev_region_addr(again), 4, 4096);
	shmdev_region_unref(again);
	shmdev_region_unref(other);
}

static int sealed_memfd(size_t size, int seals)
{
	int fd = memfd_create("test", MFD_CLOEXEC | MFD_ALLOW_SEALING);

	CHECK(fd >= 0);
	CHECK_EQ(ftruncate(fd, size), 0);
	CHECK_EQ(fcntl(fd, F_ADD_SEALS, seals), 0);
	return fd;
}

static void check_refused(int fd, int error)
{
	unsigned int descriptors = count_descriptors();

	CHECK_FAILS(shmdev_region_open(fd), error);
	CHECK_EQ(count_descriptors(), descriptors);
	CHECK_EQ(info_now().regions, 0);
	close(fd);
}

static void open_refuses_what_is_no_region(void)
{
	char path[] = "/dev/shm/shmdev-test-XXXXXX";
	int pair[2], fd;

	need_backend();
	check_refused(-1, EBADF);
	check_refused(1000000, EBADF);
	check_refused(open("/", O_PATH), EBADF);
	check_refused(open("/", O_RDONLY | O_DIRECTORY), EINVAL);
	check_refused(open("/dev/zero", O_RDWR), EINVAL);
	check_refused(open("/proc/self/exe", O_RDONLY), EINVAL);
	check_refused(pattern_file(8192, 1), EINVAL);
	CHECK_EQ(pipe(pair), 0);
	check_refused(pair[0], EINVAL);
	check_refused(pair[1], EINVAL);
	CHECK_EQ(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
	check_refused(pair[0], EINVAL);
	close(pair[1]);

	/* Could be truncated under our feet, or is empty. */
	check_refused(memfd_create("test", MFD_CLOEXEC), EINVAL);
	check_refused(sealed_memfd(8192, 0), EINVAL);
	check_refused(sealed_memfd(8192, F_SEAL_GROW), EINVAL);
	check_refused(sealed_memfd(0, F_SEAL_SHRINK), EINVAL);
	/* The same file system, but a file with a name. */
	fd = mkstemp(path);
	if (fd >= 0) {
		unlink(path);
		CHECK_EQ(ftruncate(fd, 2 * MIB), 0);
		check_refused(fd, EINVAL);
	} else {
		tap_note("no /dev/shm to try a file of");
	}
}

static void open_refuses_what_cannot_be_written(void)
{
	struct shmdev_region *region;
	char path[64];
	int fd;

	need_backend();
	check_refused(sealed_memfd(8192, F_SEAL_SHRINK | F_SEAL_WRITE), EACCES);
	check_refused(sealed_memfd(8192, F_SEAL_SHRINK | F_SEAL_FUTURE_WRITE), EACCES);

	region = make(4096);
	snprintf(path, sizeof(path), "/proc/self/fd/%d", shmdev_region_fd(region));
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd >= 0) {
		CHECK_FAILS(shmdev_region_open(fd), EACCES);
		shmdev_region_unref(region);
		check_refused(fd, EACCES);
	} else {
		tap_note("a region of this backend cannot be opened again: %s", strerror(errno));
		shmdev_region_unref(region);
	}
}

static void open_takes_a_stranger_that_cannot_shrink(void)
{
	static const size_t sizes[] = { 1, 4096, 5000, 2 * MIB, 4 * MIB + 4096 };

	need_backend();
	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		int fd = sealed_memfd(sizes[i], F_SEAL_SHRINK);
		struct shmdev_region *region = shmdev_region_open(fd);

		CHECK(region);
		CHECK_EQ(shmdev_region_size(region), sizes[i]);
		memset(shmdev_region_addr(region), 9, sizes[i]);
		CHECK(shmdev_region_backend(region) == SHMDEV_BACKEND_MEMFD ||
		      shmdev_region_backend(region) == SHMDEV_BACKEND_THP);
		shmdev_region_unref(region);
		close(fd);
	}
	CHECK_EQ(info_now().regions, 0);
}

static void size_cannot_change(void)
{
	struct shmdev_region *region;
	size_t size;
	int fd;

	need_backend();
	region = make(4 * MIB);
	size = shmdev_region_size(region);
	fd = shmdev_region_fd(region);
	CHECK_EQ(ftruncate(fd, 0), -1);
	CHECK_EQ(ftruncate(fd, size / 2), -1);
	CHECK_EQ(ftruncate(fd, size * 2), -1);
	/* And nobody can forbid those who have it to write. */
	CHECK_EQ(fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE), -1);
	memset(shmdev_region_addr(region), 1, size);
	shmdev_region_unref(region);
}

static int shared_fd;
static pthread_barrier_t barrier;

static void *open_and_drop(void *unused)
{
	struct shmdev_region *regions[200];

	(void)unused;
	pthread_barrier_wait(&barrier);
	for (int i = 0; i < 200; i++) {
		regions[i] = shmdev_region_open(shared_fd);
		CHECK(regions[i]);
		__atomic_add_fetch((int *)shmdev_region_addr(regions[i]), 1, __ATOMIC_RELAXED);
		if (i % 3 == 0)
			shmdev_region_unref(regions[i]);
	}
	for (int i = 0; i < 200; i++) {
		CHECK(i % 3 == 0 || regions[i] == regions[1]);
		if (i % 3)
			shmdev_region_unref(regions[i]);
	}
	return NULL;
}

static void threads_open_one_region(void)
{
	struct shmdev_region *region;
	pthread_t threads[4];

	need_backend();
	region = make(4096);
	shared_fd = dup(shmdev_region_fd(region));
	shmdev_region_unref(region);

	CHECK_EQ(pthread_barrier_init(&barrier, NULL, 4), 0);
	for (int i = 0; i < 4; i++)
		CHECK_EQ(pthread_create(&threads[i], NULL, open_and_drop, NULL), 0);
	for (int i = 0; i < 4; i++)
		CHECK_EQ(pthread_join(threads[i], NULL), 0);
	CHECK_EQ(info_now().regions, 0);

	region = shmdev_region_open(shared_fd);
	CHECK(region);
	CHECK_EQ(*(int *)shmdev_region_addr(region), 4 * 200);
	shmdev_region_unref(region);
}

static void many_come_and_go(void)
{
	struct shmdev_region *regions[100];
	unsigned int descriptors;
	uint32_t random = 7;

	need_backend();
	info_now();
	descriptors = count_descriptors();
	for (int i = 0; i < 100; i++) {
		regions[i] = shmdev_region_create(4096, 0);
		if (!regions[i] && errno == ENOMEM)
			tap_skip("not memory enough for 100 regions");
		CHECK(regions[i]);
		*(int *)shmdev_region_addr(regions[i]) = i;
	}
	CHECK_EQ(info_now().regions, 100);
	CHECK_EQ(count_descriptors(), descriptors + 100);
	for (int left = 100; left; left--) {
		int i = random_below(&random, left);
		struct shmdev_region *again = shmdev_region_open(shmdev_region_fd(regions[i]));

		CHECK(again == regions[i]);
		shmdev_region_unref(again);
		shmdev_region_unref(regions[i]);
		regions[i] = regions[left - 1];
	}
	CHECK_EQ(info_now().regions, 0);
	CHECK_EQ(count_region_mappings(), 0);
	CHECK_EQ(count_descriptors(), descriptors);
}

static void no_descriptor_left(void)
{
	struct rlimit limit;
	struct shmdev_region *region;
	unsigned int mappings;

	need_backend();
	region = make(4096);
	mappings = count_region_mappings();
	CHECK_EQ(getrlimit(RLIMIT_NOFILE, &limit), 0);
	limit.rlim_cur = 3;
	CHECK_EQ(setrlimit(RLIMIT_NOFILE, &limit), 0);
	CHECK_FAILS(shmdev_region_create(4096, 0), EMFILE);
	limit.rlim_cur = 256;
	CHECK_EQ(setrlimit(RLIMIT_NOFILE, &limit), 0);
	CHECK_EQ(count_region_mappings(), mappings);
	shmdev_region_unref(region);
	region = make(4096);
	shmdev_region_unref(region);
}

static void beyond_the_file_size_limit_is_an_error_and_not_a_signal(void)
{
	struct rlimit limit = { 1 * MIB, RLIM_INFINITY };

	if (need_backend() == SHMDEV_BACKEND_DEVICE)
		tap_skip("the device makes its regions with their size");
	CHECK_EQ(setrlimit(RLIMIT_FSIZE, &limit), 0);
	CHECK_FAILS(shmdev_region_create(2 * MIB, 0), EFBIG);
}

static void regions_are_not_dumped(void)
{
	struct shmdev_region *region;
	bool found = false;
	char line[4352];
	FILE *smaps;

	need_backend();
	region = make(2 * MIB);
	smaps = fopen("/proc/self/smaps", "re");
	CHECK(smaps);
	while (fgets(line, sizeof(line), smaps)) {
		unsigned long start, end;

		if (sscanf(line, "%lx-%lx ", &start, &end) == 2)
			found = start == (unsigned long)shmdev_region_addr(region);
		else if (found && !strncmp(line, "VmFlags:", 8))
			break;
	}
	CHECK(found && strstr(line, " dd"));
	fclose(smaps);
	shmdev_region_unref(region);
}

static void huge_bytes_are_what_is_mapped(void)
{
	enum shmdev_backend backend = need_backend();
	struct shmdev_region *region = shmdev_region_create(8 << 20, 0);
	uint64_t bytes = 1;

	CHECK(region);
	if (backend != SHMDEV_BACKEND_DEVICE) {
		CHECK_EQ(shmdev_region_huge_bytes(region, &bytes), 0);
		CHECK_EQ(bytes, 0);
	}
	memset(shmdev_region_addr(region), 1, 8 << 20);
	CHECK_EQ(shmdev_region_huge_bytes(region, &bytes), 0);
	if (backend == SHMDEV_BACKEND_HUGETLB)
		CHECK_EQ(bytes, 8 << 20);
	else if (backend == SHMDEV_BACKEND_MEMFD)
		CHECK_EQ(bytes, 0);
	else
		CHECK(bytes <= 8 << 20 && bytes % (2 << 20) == 0);
	tap_note("%llu of 8 MiB", (unsigned long long)bytes);
	/* Half of it is another mapping then, and no less of the region. */
	CHECK_EQ(mprotect(shmdev_region_addr(region), 4 << 20, PROT_READ), 0);
	CHECK_EQ(shmdev_region_huge_bytes(region, &bytes), 0);
	if (backend == SHMDEV_BACKEND_HUGETLB)
		CHECK_EQ(bytes, 8 << 20);
	shmdev_region_unref(region);
}

static bool stopping;		/* atomic */

static void *map_and_write(void *argument)
{
	const size_t size = 2 * MIB;

	(void)argument;
	while (!__atomic_load_n(&stopping, __ATOMIC_RELAXED)) {
		char *mine = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS,
				  -1, 0);

		CHECK(mine != MAP_FAILED);
		for (size_t at = 0; at < size; at += 65536)
			mine[at] = 1;
		for (size_t at = 0; at < size; at += 65536)
			CHECK_EQ(mine[at], 1);
		CHECK_EQ(munmap(mine, size), 0);
	}
	return NULL;
}

/* Whatever is tried and cannot be had, huge pages of hugetlb above all. */
static void others_keep_what_they_map(void)
{
	pthread_t threads[2];

	CHECK_EQ(unsetenv("SHMDEV_BACKEND"), 0);
	need_backend();
	for (int i = 0; i < 2; i++)
		CHECK_EQ(pthread_create(&threads[i], NULL, map_and_write, NULL), 0);
	for (int i = 0; i < 3000; i++)
		shmdev_region_unref(make(2 * MIB + 12345 * i % MIB));
	__atomic_store_n(&stopping, true, __ATOMIC_RELAXED);
	for (int i = 0; i < 2; i++)
		CHECK_EQ(pthread_join(threads[i], NULL), 0);
}

TAP_MAIN(TAP_TEST(create_gives_zeroed_memory),
	 TAP_TEST(create_refuses_nonsense),
	 TAP_TEST(last_reference_unmaps_and_closes),
	 TAP_TEST(open_of_the_same_is_the_same),
	 TAP_TEST(open_refuses_what_is_no_region),
	 TAP_TEST(open_refuses_what_cannot_be_written),
	 TAP_TEST(open_takes_a_stranger_that_cannot_shrink),
	 TAP_TEST(size_cannot_change),
	 TAP_TEST(threads_open_one_region),
	 TAP_TEST(many_come_and_go),
	 TAP_TEST(no_descriptor_left),
	 TAP_TEST(beyond_the_file_size_limit_is_an_error_and_not_a_signal),
	 TAP_TEST(regions_are_not_dumped),
	 TAP_TEST(huge_bytes_are_what_is_mapped),
	 TAP_TEST(others_keep_what_they_map))
