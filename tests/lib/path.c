// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/* Files by name: what is in them, how large they are, and what is wrong with them. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#include "tap.h"
#include "util.h"

#define MIB	((size_t)1 << 20)
#define COUNT(array)	(sizeof(array) / sizeof((array)[0]))

/* A directory of files "0", "1" ..., each with the pattern of its number. */
static int dir;
static char dir_name[64];

static char *name_of(int number)
{
	static char names[4000][8];

	snprintf(names[number], sizeof(names[number]), "%d", number);
	return names[number];
}

static size_t size_of(int number)
{
	static const size_t odd[] = { 0, 1, 4095, 4096, 4097, 70000, 300001 };

	return (size_t)number < COUNT(odd) ? odd[number] : 100 + (size_t)number * 37 % 9000;
}

static void remove_files(void)
{
	char command[128];

	snprintf(command, sizeof(command), "rm -rf %s", dir_name);
	CHECK_EQ(system(command), 0);
}

static void make_files(int nr)
{
	static char bytes[300001];

	strcpy(dir_name, "/tmp/shmdev-test-XXXXXX");
	CHECK(mkdtemp(dir_name));
	dir = open(dir_name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	CHECK(dir >= 0);
	for (int i = 0; i < nr; i++) {
		int fd = openat(dir, name_of(i), O_WRONLY | O_CREAT | O_CLOEXEC, 0600);

		CHECK(fd >= 0);
		pattern_write(bytes, size_of(i), i, 0);
		CHECK_EQ(write(fd, bytes, size_of(i)), size_of(i));
		close(fd);
	}
}

static struct shmdev_path request(void *dst, size_t len, const char *path)
{
	return (struct shmdev_path){ .dst = dst, .len = len, .path = path, .dirfd = dir,
				     .result = 0x5555, .done = 0x5555, .size = 0x5555 };
}

/* Sizes first, and then all into one block, each file with the room it needs. */
static void check_sizes_then_bytes(int nr)
{
	struct shmdev_path *reqs = calloc(nr, sizeof(*reqs));
	size_t at = 0;
	char *block;

	CHECK(reqs);
	for (int i = 0; i < nr; i++)
		reqs[i] = request(NULL, 0, name_of(i));
	CHECK_EQ(shmdev_path_fill(reqs, nr), 0);
	for (int i = 0; i < nr; i++) {
		CHECK_EQ(reqs[i].result, 0);
		CHECK_EQ(reqs[i].done, 0);
		CHECK_EQ(reqs[i].size, size_of(i));
		at += reqs[i].size;
	}
	block = shm_alloc(at);
	CHECK(block);
	at = 0;
	for (int i = 0; i < nr; i++) {
		reqs[i] = request(block + at, reqs[i].size, name_of(i));
		at += reqs[i].len;
	}
	CHECK_EQ(shmdev_path_fill(reqs, nr), 0);
	for (int i = 0; i < nr; i++) {
		CHECK_EQ(reqs[i].result, size_of(i));
		CHECK_EQ(reqs[i].done, size_of(i));
		CHECK_EQ(reqs[i].size, size_of(i));
		CHECK(pattern_is(reqs[i].dst, size_of(i), i, 0));
	}
	shm_free(block);
	free(reqs);
}

/* Too little room, and too much. */
static void check_other_rooms(int nr)
{
	enum { ROOM = 5000 };
	struct shmdev_path *reqs = calloc(nr, sizeof(*reqs));
	char *block = shm_alloc((size_t)nr * ROOM);

	CHECK(reqs && block);
	memset(block, 0xee, (size_t)nr * ROOM);
	for (int i = 0; i < nr; i++)
		reqs[i] = request(block + (size_t)i * ROOM, ROOM, name_of(i));
	CHECK_EQ(shmdev_path_fill(reqs, nr), 0);
	for (int i = 0; i < nr; i++) {
		size_t want = size_of(i) < ROOM ? size_of(i) : ROOM;

		CHECK_EQ(reqs[i].result, want);
		CHECK_EQ(reqs[i].done, want);
		CHECK_EQ(reqs[i].size, size_of(i));
		CHECK(pattern_is(reqs[i].dst, want, i, 0));
		CHECK(is_all((char *)reqs[i].dst + want, ROOM - want, 0xee));
	}
	shm_free(block);
	free(reqs);
}

static void check_bad_ones(void)
{
	char *block = shm_alloc(1000), on_stack[64], long_name[5000];
	struct shmdev_path reqs[32];
	static const struct {
		int error;
	} what[] = { { ENOENT }, { ENOENT }, { EISDIR }, { ENOTDIR }, { ENAMETOOLONG }, { EFAULT },
		     { EFAULT }, { EFAULT }, { EINVAL }, { EINVAL }, { EBADF }, { ELOOP } };

	CHECK(block);
	memset(long_name, 'x', sizeof(long_name) - 1);
	long_name[sizeof(long_name) - 1] = '\0';
	CHECK(!symlinkat("loop", dir, "loop") || errno == EEXIST);
	reqs[0] = request(block, 1000, "nothing");
	reqs[1] = request(block, 1000, "");
	reqs[2] = request(block, 1000, ".");
	reqs[3] = request(block, 1000, "3/4");
	reqs[4] = request(block, 1000, long_name);
	reqs[5] = request(block, 1000, NULL);
	reqs[6] = request(block, 1001, "3");
	reqs[7] = request(on_stack, 64, "3");
	reqs[8] = request(block, SIZE_MAX, "3");
	reqs[9] = request(block, 1000, "3");
	reqs[9].flags = 1;
	reqs[10] = request(block, 1000, "3");
	reqs[10].dirfd = -1;
	reqs[11] = request(block, 1000, "loop");
	for (size_t i = 0; i < COUNT(what); i++) {
		CHECK_EQ(shmdev_path_fill(&reqs[i], 1), 0);
		if (reqs[i].result != -what[i].error)
			tap_note("bad one %zu", i);
		CHECK_EQ(reqs[i].result, -what[i].error);
		CHECK_EQ(reqs[i].done, 0);
		reqs[12 + i] = request(block, size_of(i), name_of(i));
		if (size_of(i) > 1000)
			reqs[12 + i].len = 0;
	}
	CHECK_EQ(shmdev_path_fill(reqs, 12 + COUNT(what)), 0);
	for (size_t i = 0; i < COUNT(what); i++) {
		CHECK_EQ(reqs[i].result, -what[i].error);
		CHECK_EQ(reqs[12 + i].result, reqs[12 + i].len);
		CHECK_EQ(reqs[12 + i].size, size_of(i));
	}
	/* Only looked at. */
	reqs[0].len = reqs[11].len = 0;
	CHECK_EQ(shmdev_path_fill(reqs, 12), 0);
	CHECK_EQ(reqs[0].result, -ENOENT);
	CHECK_EQ(reqs[11].result, -ELOOP);
	shm_free(block);
}

/* Files that are larger than they say. */
static void check_odd_files(void)
{
	char *block = shm_alloc(3 * MIB);
	struct shmdev_path reqs[4];

	CHECK(block);
	reqs[0] = request(block, MIB, "/proc/self/status");
	reqs[1] = request(block + MIB, 10, "/proc/self/status");
	reqs[2] = request(block + 2 * MIB, MIB, "/dev/null");
	reqs[3] = request(block + MIB + 10, 1000, "/dev/zero");
	CHECK_EQ(shmdev_path_fill(reqs, 4), 0);
	CHECK(reqs[0].result > 100 && reqs[0].result < (int64_t)MIB);
	CHECK_EQ(reqs[0].size, 0);
	CHECK(!memcmp(block, "Name:", 5));
	CHECK_EQ(reqs[1].result, 10);
	CHECK_EQ(reqs[2].result, 0);
	CHECK_EQ(reqs[3].result, 1000);
	shm_free(block);
}

static void check_everything(void)
{
	unsigned int before;

	check_other_rooms(100);
	before = count_descriptors();
	check_sizes_then_bytes(1000);
	check_other_rooms(1000);
	check_sizes_then_bytes(2);
	check_other_rooms(1);
	check_bad_ones();
	check_odd_files();
	CHECK_EQ(count_descriptors(), before);
}

static void many_files(void)
{
	need_backend();
	CHECK_EQ(shmdev_path_fill(NULL, 0), 0);
	CHECK_EQ(shmdev_path_fill(NULL, 1), -EINVAL);
	make_files(1000);
	check_everything();
	remove_files();
}

/* Enough that others help, and not all in the page cache. */
static void files_that_are_not_cached(void)
{
	need_backend();
	make_files(3000);
	sync();
	for (int i = 0; i < 3000; i++) {
		int fd = openat(dir, name_of(i), O_RDONLY | O_CLOEXEC);

		CHECK(fd >= 0);
		if (i % 3)
			CHECK_EQ(posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED), 0);
		close(fd);
	}
	check_sizes_then_bytes(3000);
	remove_files();
}

static void by_the_ring(void)
{
	forbid_cached_reads();
	need_backend();
	make_files(1000);
	check_everything();
	remove_files();
}

static void from_the_working_directory(void)
{
	struct shmdev_path one;
	char *block;

	need_backend();
	make_files(10);
	block = shm_alloc(10000);
	CHECK(block);
	CHECK_EQ(fchdir(dir), 0);
	one = request(block, 10000, "8");
	one.dirfd = AT_FDCWD;
	CHECK_EQ(shmdev_path_fill(&one, 1), 0);
	CHECK_EQ(one.result, size_of(8));
	CHECK_EQ(chdir("/"), 0);
	remove_files();
	shm_free(block);
}

static void what_may_not_be_read(void)
{
	struct shmdev_path reqs[2];
	char *block;

	need_backend();
	/* While we may have it: the device is root's. */
	block = shm_alloc(100);
	CHECK(block);
	if (!geteuid() && (setegid(65534) || seteuid(65534)))
		tap_skip("cannot be somebody else: %s", strerror(errno));
	make_files(2);
	CHECK_EQ(fchmodat(dir, "1", 0, 0), 0);
	for (int i = 0; i < 2; i++)
		reqs[i] = request(block + i, i, "1");
	CHECK_EQ(shmdev_path_fill(reqs, 2), 0);
	CHECK_EQ(reqs[0].result, 0);
	CHECK_EQ(reqs[0].size, 1);
	CHECK_EQ(reqs[1].result, -EACCES);
	CHECK_EQ(reqs[1].size, 0);
	remove_files();
	/* A sanitizer wants to look around in the end. */
	CHECK_EQ(seteuid(getuid()), 0);
	CHECK_EQ(prctl(PR_SET_DUMPABLE, 1), 0);
	shm_free(block);
}

static void without_io_uring(void)
{
	forbid_syscall(SYS_io_uring_setup, EPERM);
	need_backend();
	make_files(1000);
	check_everything();
	remove_files();
}

/* A ring there is, but it has no table of files. */
static void without_registered_files(void)
{
	forbid_syscall(SYS_io_uring_register, EOPNOTSUPP);
	forbid_cached_reads();
	need_backend();
	make_files(1000);
	check_everything();
	remove_files();
}

static void io_uring_refused_later(void)
{
	forbid_cached_reads();
	need_backend();
	if (info_now().fill_engine == SHMDEV_FILL_PREADV)
		tap_skip("no io_uring here");
	make_files(1000);
	check_other_rooms(100);
	forbid_syscall(SYS_io_uring_enter, EPERM);
	check_sizes_then_bytes(1000);
	check_everything();
	remove_files();
}

static void odd_tuning(void)
{
	setenv("SHMDEV_DEPTH", "1", 1);
	setenv("SHMDEV_THREADS", "5", 1);
	forbid_cached_reads();
	need_backend();
	make_files(1000);
	check_everything();
	remove_files();
}

/* The ring's files are in no table of the process. */
static void no_descriptors_left(void)
{
	struct rlimit limit;
	struct shmdev_path reqs[20];
	char *block;

	forbid_cached_reads();
	need_backend();
	/* There is a ring then. */
	make_files(21);
	check_sizes_then_bytes(21);
	block = shm_alloc(20 * MIB);
	CHECK(block);
	CHECK_EQ(getrlimit(RLIMIT_NOFILE, &limit), 0);
	limit.rlim_cur = 3;
	CHECK_EQ(setrlimit(RLIMIT_NOFILE, &limit), 0);
	/* Not of 0, which has nothing in it: that is not opened. */
	for (int i = 0; i < 20; i++)
		reqs[i] = request(block + i * MIB, size_of(i + 1), name_of(i + 1));
	CHECK_EQ(shmdev_path_fill(reqs, 20), 0);
	limit.rlim_cur = 256;
	CHECK_EQ(setrlimit(RLIMIT_NOFILE, &limit), 0);
	for (int i = 0; i < 20; i++) {
		if (reqs[i].result == -EMFILE && info_now().fill_engine == SHMDEV_FILL_PREADV)
			continue;
		CHECK_EQ(reqs[i].result, reqs[i].len);
		CHECK(pattern_is(reqs[i].dst, reqs[i].len, i + 1, 0));
	}
	remove_files();
	shm_free(block);
}

TAP_MAIN(TAP_TEST(many_files),
	 TAP_TEST(files_that_are_not_cached),
	 TAP_TEST(by_the_ring),
	 TAP_TEST(from_the_working_directory),
	 TAP_TEST(what_may_not_be_read),
	 TAP_TEST(without_io_uring),
	 TAP_TEST(without_registered_files),
	 TAP_TEST(io_uring_refused_later),
	 TAP_TEST(odd_tuning),
	 TAP_TEST(no_descriptors_left))
