// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/*
 * Every call that the library makes of libc, the kernel and liburing, failing one
 * after another, and all calls of one function failing: what comes of it is an error
 * of the header, or a way round; nothing is left behind; the next try goes well.
 *
 * Linked with the static library and -Wl,--wrap for each function in FUNCTIONS.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <liburing.h>
#include <pthread.h>
#include <stdarg.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include "tap.h"
#include "util.h"

#define MIB	((size_t)1 << 20)

enum function {
	F_CALLOC, F_REALLOCARRAY, F_MMAP, F_MEMFD_CREATE, F_FTRUNCATE, F_FSTAT, F_FSTATFS,
	F_FCNTL, F_OPEN, F_OPENAT, F_READ, F_IOCTL, F_POLL, F_PTHREAD_ATFORK, F_PTHREAD_CREATE, F_EVENTFD,
	F_RING_INIT, F_RING_REGISTER, F_RING_SUBMIT, F_FOPEN, F_FALLOCATE, F_MADVISE,
	F_NR,
};

static const char *const names[F_NR] = {
	"calloc", "reallocarray", "mmap", "memfd_create", "ftruncate", "fstat", "fstatfs",
	"fcntl", "open", "openat", "read", "ioctl", "poll", "pthread_atfork", "pthread_create", "eventfd",
	"io_uring_queue_init_params", "io_uring_register_buffers", "io_uring_submit_and_wait",
	"fopen", "fallocate", "madvise",
};

/* Faults come only while the library is called, and not in the test's own calls. */
static bool armed;
static long calls, fail_at = -1;
static int fail_all = -1;
static int failed = -1;

static bool fails(enum function function)
{
	if (!armed)
		return false;
	/* A thread of the library's may call, too. */
	if (fail_all == (int)function ||
	    __atomic_fetch_add(&calls, 1, __ATOMIC_RELAXED) == fail_at) {
		__atomic_store_n(&failed, function, __ATOMIC_RELAXED);
		return true;
	}
	return false;
}

#define REAL(function)	__real_##function
#define WRAP(result, function, ...)						\
	result __real_##function(__VA_ARGS__);					\
	result __wrap_##function(__VA_ARGS__);					\
	result __wrap_##function(__VA_ARGS__)

#define FAIL_WITH(function, error, value)					\
	do {									\
		if (fails(function)) {						\
			errno = error;						\
			return value;						\
		}								\
	} while (0)

WRAP(void *, calloc, size_t nr, size_t size)
{
	FAIL_WITH(F_CALLOC, ENOMEM, NULL);
	return REAL(calloc)(nr, size);
}

WRAP(void *, reallocarray, void *old, size_t nr, size_t size)
{
	FAIL_WITH(F_REALLOCARRAY, ENOMEM, NULL);
	return REAL(reallocarray)(old, nr, size);
}

WRAP(void *, mmap, void *addr, size_t size, int access, int flags, int fd, off_t offset)
{
	FAIL_WITH(F_MMAP, ENOMEM, MAP_FAILED);
	return REAL(mmap)(addr, size, access, flags, fd, offset);
}

WRAP(int, memfd_create, const char *name, unsigned int flags)
{
	FAIL_WITH(F_MEMFD_CREATE, ENFILE, -1);
	return REAL(memfd_create)(name, flags);
}

WRAP(int, ftruncate, int fd, off_t size)
{
	FAIL_WITH(F_FTRUNCATE, ENOMEM, -1);
	return REAL(ftruncate)(fd, size);
}

WRAP(int, fstat, int fd, struct stat *st)
{
	FAIL_WITH(F_FSTAT, ENOMEM, -1);
	return REAL(fstat)(fd, st);
}

struct statfs;
WRAP(int, fstatfs, int fd, struct statfs *st)
{
	FAIL_WITH(F_FSTATFS, ENOMEM, -1);
	return REAL(fstatfs)(fd, st);
}

int __real_fcntl(int fd, int command, ...);
int __wrap_fcntl(int fd, int command, ...);
int __wrap_fcntl(int fd, int command, ...)
{
	va_list args;
	long argument;

	va_start(args, command);
	argument = va_arg(args, long);
	va_end(args);
	FAIL_WITH(F_FCNTL, EMFILE, -1);
	return __real_fcntl(fd, command, argument);
}

int __real_open(const char *path, int flags, ...);
int __wrap_open(const char *path, int flags, ...);
int __wrap_open(const char *path, int flags, ...)
{
	va_list args;
	mode_t mode;

	va_start(args, flags);
	mode = va_arg(args, int);
	va_end(args);
	FAIL_WITH(F_OPEN, EMFILE, -1);
	return __real_open(path, flags, mode);
}

int __real_openat(int dir, const char *path, int flags, ...);
int __wrap_openat(int dir, const char *path, int flags, ...);
int __wrap_openat(int dir, const char *path, int flags, ...)
{
	va_list args;
	mode_t mode;

	va_start(args, flags);
	mode = va_arg(args, int);
	va_end(args);
	FAIL_WITH(F_OPENAT, EMFILE, -1);
	return __real_openat(dir, path, flags, mode);
}

WRAP(ssize_t, read, int fd, void *buffer, size_t len)
{
	FAIL_WITH(F_READ, EIO, -1);
	return REAL(read)(fd, buffer, len);
}

int __real_ioctl(int fd, unsigned long request, ...);
int __wrap_ioctl(int fd, unsigned long request, ...);
int __wrap_ioctl(int fd, unsigned long request, ...)
{
	va_list args;
	void *argument;

	va_start(args, request);
	argument = va_arg(args, void *);
	va_end(args);
	FAIL_WITH(F_IOCTL, ENOMEM, -1);
	return __real_ioctl(fd, request, argument);
}

WRAP(FILE *, fopen, const char *path, const char *mode)
{
	FAIL_WITH(F_FOPEN, EMFILE, NULL);
	return REAL(fopen)(path, mode);
}

WRAP(int, fallocate, int fd, int mode, off_t offset, off_t len)
{
	FAIL_WITH(F_FALLOCATE, ENOSPC, -1);
	return REAL(fallocate)(fd, mode, offset, len);
}

WRAP(int, madvise, void *addr, size_t len, int advice)
{
	FAIL_WITH(F_MADVISE, ENOMEM, -1);
	return REAL(madvise)(addr, len, advice);
}

struct pollfd;
WRAP(int, poll, struct pollfd *polls, unsigned long nr, int timeout)
{
	FAIL_WITH(F_POLL, ENOMEM, -1);
	return REAL(poll)(polls, nr, timeout);
}

WRAP(int, pthread_atfork, void (*prepare)(void), void (*parent)(void), void (*child)(void))
{
	if (fails(F_PTHREAD_ATFORK))
		return ENOMEM;
	return REAL(pthread_atfork)(prepare, parent, child);
}

WRAP(int, pthread_create, pthread_t *thread, const pthread_attr_t *attributes,
     void *(*body)(void *), void *argument)
{
	if (fails(F_PTHREAD_CREATE))
		return EAGAIN;
	return REAL(pthread_create)(thread, attributes, body, argument);
}

WRAP(int, eventfd, unsigned int count, int flags)
{
	FAIL_WITH(F_EVENTFD, EMFILE, -1);
	return REAL(eventfd)(count, flags);
}

WRAP(int, io_uring_queue_init_params, unsigned int entries, struct io_uring *ring,
     struct io_uring_params *params)
{
	if (fails(F_RING_INIT))
		return -ENOMEM;
	return REAL(io_uring_queue_init_params)(entries, ring, params);
}

WRAP(int, io_uring_register_buffers, struct io_uring *ring, const struct iovec *buffers,
     unsigned int nr)
{
	if (fails(F_RING_REGISTER))
		return -ENOMEM;
	return REAL(io_uring_register_buffers)(ring, buffers, nr);
}

static int submit_error = -EPERM;

WRAP(int, io_uring_submit_and_wait, struct io_uring *ring, unsigned int nr)
{
	if (fails(F_RING_SUBMIT))
		return submit_error;
	return REAL(io_uring_submit_and_wait)(ring, nr);
}

/* --- A program ------------------------------------------------------------------- */

#define LIB(call)								\
	({									\
		errno = 0;							\
		armed = true;							\
		__typeof__(call) result_ = (call);				\
		armed = false;							\
		result_;							\
	})

static int file;

static bool is_documented(int error)
{
	switch (error) {
	case ENOMEM:
	case EMFILE:
	case ENFILE:
	case ENODEV:
	case EACCES:
	case EOPNOTSUPP:
		return true;
	default:
		/* What the faults themselves give. */
		return failed == F_READ && error == EIO;
	}
}

static bool wanted(const void *pointer, bool must)
{
	int error = errno;

	if (pointer)
		return true;
	if (must || !is_documented(error))
		tap_note("errno %d, %s, after %s failed", error, strerror(error),
			 failed < 0 ? "nothing" : names[failed]);
	CHECK(!must);
	CHECK(is_documented(error));
	return false;
}

static void fill_blocks(char *block, bool must)
{
	struct shm_fill fills[6];
	int pipes[2], others[2], err;

	CHECK_EQ(pipe(pipes), 0);
	CHECK_EQ(pipe(others), 0);
	CHECK_EQ(write(pipes[1], "hello", 5), 5);
	CHECK_EQ(write(others[1], "world", 5), 5);
	close(pipes[1]);
	close(others[1]);
	for (int i = 0; i < 4; i++)
		fills[i] = (struct shm_fill){ .dst = block + i * MIB / 2, .len = MIB / 2,
					      .offset = i * MIB / 2, .fd = file };
	fills[4] = (struct shm_fill){ .dst = block + 2 * MIB, .len = 100,
				      .offset = SHM_FILL_CURRENT, .fd = pipes[0] };
	fills[5] = (struct shm_fill){ .dst = block + 2 * MIB + 100, .len = 100,
				      .offset = SHM_FILL_CURRENT, .fd = others[0] };

	memset(block, 0xee, 3 * MIB);
	err = LIB(shm_fill(fills, 6));
	if (err) {
		CHECK(!must);
		CHECK_EQ(err, -ENOMEM);
		CHECK(is_all(block, 3 * MIB, 0xee));
	} else {
		/* Whatever failed, there is another way to read. */
		for (int i = 0; i < 4; i++)
			CHECK_EQ(fills[i].result, MIB / 2);
		CHECK_EQ(fills[4].result, 5);
		CHECK_EQ(fills[5].result, 5);
		CHECK(pattern_is(block, 2 * MIB, 1, 0));
		CHECK(!memcmp(block + 2 * MIB, "hello", 5));
		CHECK(!memcmp(block + 2 * MIB + 100, "world", 5));
	}
	close(pipes[0]);
	close(others[0]);
}

/* The only thing that is wrong with it is that it could not be looked at. */
static bool unknown(int error)
{
	return error == EINVAL && failed >= 0;
}

static void hand_on(bool must)
{
	struct shmdev_region *region = LIB(shmdev_region_create(3 * MIB, 0));
	struct shmdev_handle handle;
	const char *reader;
	char *received;
	int pair[2], err;

	if (!wanted(region, must))
		return;
	memset(shmdev_region_addr(region), 7, 3 * MIB);
	err = LIB(shmdev_export(shmdev_region_addr(region), &handle));
	errno = -err;
	if (wanted(err ? NULL : region, must)) {
		reader = LIB(shmdev_attach_rdonly(&handle));
		if (unknown(errno) || wanted(reader, must)) {
			CHECK(!reader || is_all(reader, 3 * MIB, 7));
			LIB((shmdev_detach(reader), 0));
		}
	}

	CHECK_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, pair), 0);
	for (unsigned int flags = 0; flags <= SHMDEV_SEND_RDONLY; flags++) {
		err = LIB(shmdev_send(pair[0], shmdev_region_addr(region), flags));
		errno = -err;
		if (!wanted(err ? NULL : region, must))
			continue;
		received = LIB(shmdev_recv(pair[1], NULL));
		if (!unknown(errno) && wanted(received, must))
			LIB((shmdev_detach(received), 0));
	}
	close(pair[0]);
	close(pair[1]);

	err = LIB(shmdev_region_seal(region, 0));
	errno = -err;
	CHECK_EQ(shmdev_region_rdonly(region), !err);
	if (!wanted(err ? NULL : region, must))
		memset(shmdev_region_addr(region), 7, 3 * MIB);
	CHECK(is_all(shmdev_region_addr(region), 3 * MIB, 7));
	LIB((shmdev_region_unref(region), 0));
}

static void program(bool must)
{
	struct shmdev_region *region, *opened, *found;
	struct shmdev_info info;
	char *small[40], *large, why[256];
	size_t offset;
	int fd, err;

	region = LIB(shmdev_region_create(3 * MIB, 0));
	if (wanted(region, must)) {
		CHECK(is_all(shmdev_region_addr(region), shmdev_region_size(region), 0));
		fd = dup(shmdev_region_fd(region));
		opened = LIB(shmdev_region_open(fd));
		/* A file that cannot be looked at is not known to be a region. */
		if (opened || errno != EINVAL || failed < 0) {
			if (wanted(opened, must)) {
				CHECK(opened == region);
				LIB((shmdev_region_unref(opened), 0));
			}
		}
		LIB((shmdev_region_unref(region), 0));
		opened = LIB(shmdev_region_open(fd));
		if (opened || errno != EINVAL || failed < 0) {
			if (wanted(opened, must)) {
				memset(shmdev_region_addr(opened), 1, 3 * MIB);
				LIB((shmdev_region_unref(opened), 0));
			}
		}
		close(fd);
	}

	hand_on(must);
	region = LIB(shmdev_region_create(3 * MIB, SHMDEV_REGION_COMMIT));
	if (wanted(region, must)) {
		CHECK(is_all(shmdev_region_addr(region), shmdev_region_size(region), 0));
		LIB((shmdev_region_unref(region), 0));
	}

	for (int i = 0; i < 40; i++) {
		small[i] = LIB(shm_alloc(200000));
		if (wanted(small[i], must)) {
			CHECK(is_all(small[i], 200000, 0));
			memset(small[i], i + 1, 200000);
		}
	}
	large = LIB(shm_alloc(3 * MIB));
	if (wanted(large, must)) {
		fill_blocks(large, must);
		found = LIB(shmdev_block_share(large + 5, &offset));
		/* Not at its start, if there was no descriptor for one of its own. */
		CHECK(found && (char *)shmdev_region_addr(found) + offset == large + 5);
		LIB((shmdev_region_unref(found), 0));
	}
	err = LIB(shmdev_info_get(&info));
	CHECK(!err || (!must && is_documented(-err)));
	for (int i = 0; i < SHMDEV_BACKEND_NR; i++) {
		err = LIB(shmdev_backend_probe(i, why, sizeof(why)));
		CHECK(err <= 0 && !err == !why[0]);
	}
	for (int i = 0; i < 40; i++) {
		CHECK(!small[i] || is_all(small[i], 200000, i + 1));
		LIB((shm_free(small[i]), 0));
	}
	LIB((shm_free(large), 0));
}

static unsigned int rings(void)
{
	return count_descriptors_of("anon_inode:[io_uring]", NULL);
}

#define DONE	3

/* One process that meets with the fault, and recovers. */
static void meet(void *unused)
{
	unsigned int descriptors = count_descriptors(), regions;
	struct shmdev_info info;

	(void)unused;
	program(false);
	if (fail_all < 0 && failed < 0)
		_exit(DONE);

	/* What is left is one empty region of the heap at most, and rings. */
	fail_at = fail_all = -1;
	info = info_now();
	CHECK_EQ(info.blocks, 0);
	regions = info.regions;
	CHECK(regions <= 1);
	CHECK_EQ(count_region_mappings(), regions);
	CHECK_EQ(count_descriptors(), descriptors + regions + rings());

	failed = -1;
	program(true);
	CHECK(info_now().regions <= 1);
	CHECK_EQ(count_descriptors(), descriptors + info_now().regions + rings());
}

static void one_call_after_another_fails(void)
{
	int status;

	forbid_cached_reads();
	need_backend();
	file = pattern_file(2 * MIB, 1);
	for (fail_at = 0; ; fail_at++) {
		status = in_child(meet, NULL);
		if (WIFEXITED(status) && WEXITSTATUS(status) == DONE)
			break;
		if (status)
			tap_note("call number %ld", fail_at);
		CHECK(WIFEXITED(status) && !WEXITSTATUS(status));
	}
	tap_note("%ld calls", fail_at);
	CHECK(fail_at > 50);
}

static void all_calls_of_a_function_fail(void)
{
	int status;

	need_backend();
	file = pattern_file(2 * MIB, 1);
	for (fail_all = 0; fail_all < F_NR; fail_all++) {
		status = in_child(meet, NULL);
		if (status)
			tap_note("all calls of %s", names[fail_all]);
		CHECK(WIFEXITED(status) && !WEXITSTATUS(status));
	}
}

/* --- Memory that is ready ---------------------------------------------------------- */

/* Whether there is some, or why not; what is asked for meanwhile is to be had all the same. */
static void use_ready_memory(bool must)
{
	const struct shmdev_ready_options options = { .limit = 16 * MIB, .size = 2 * MIB };
	struct shmdev_ready_info info;
	struct shmdev_region *region;
	int err;

	/* For the thread as well, until it has ended. */
	armed = true;
	err = shmdev_ready_start(&options);
	if (!err)
		err = shmdev_ready_wait(-1);
	errno = -err;
	if (err == -EAGAIN && failed == F_PTHREAD_CREATE) {
		CHECK(!must);
	} else if (wanted(err ? NULL : &options, must)) {
		shmdev_ready_get(&info);
		CHECK(info.regions > 0 && info.bytes >= 2 * MIB && info.bytes <= 16 * MIB);
	}
	region = shmdev_region_create(2 * MIB, 0);
	if (wanted(region, must)) {
		CHECK(is_all(shmdev_region_addr(region), 2 * MIB, 0));
		shmdev_region_unref(region);
	}
	shmdev_ready_stop();
	armed = false;
	shmdev_ready_get(&info);
	CHECK_EQ(info.limit, 0);
	CHECK_EQ(info.regions, 0);
	CHECK_EQ(info.bytes, 0);
}

static void check_no_region_left(void)
{
	CHECK_EQ(info_now().regions, 0);
	CHECK_EQ(count_region_mappings(), 0);
	CHECK_EQ(count_descriptors_of("/memfd:shmdev (deleted)", NULL), 0);
}

static void meet_ready(void *unused)
{
	unsigned int descriptors;

	(void)unused;
	use_ready_memory(false);
	if (fail_all < 0 && failed < 0)
		_exit(DONE);
	fail_at = fail_all = -1;
	check_no_region_left();
	failed = -1;
	use_ready_memory(true);
	check_no_region_left();
	/* What is kept open to look at limits by is open now. */
	descriptors = count_descriptors();
	use_ready_memory(true);
	check_no_region_left();
	CHECK_EQ(count_descriptors(), descriptors);
}

static void ready_memory_fails(void)
{
	int status;

	if (need_backend() == SHMDEV_BACKEND_DEVICE)
		tap_skip("the device's memory is ready without");
	for (fail_at = 0;; fail_at++) {
		status = in_child(meet_ready, NULL);
		if (WIFEXITED(status) && WEXITSTATUS(status) == DONE)
			break;
		if (status)
			tap_note("call %ld", fail_at);
		CHECK_EQ(status, 0);
	}
	tap_note("%ld calls", fail_at);
	CHECK(fail_at > 10);
	fail_at = -1;
	for (fail_all = 0; fail_all < F_NR; fail_all++) {
		status = in_child(meet_ready, NULL);
		if (status)
			tap_note("all of %s", names[fail_all]);
		CHECK_EQ(status, 0);
	}
}

/* --- Jobs and rings ------------------------------------------------------------------ */

/* What cannot be started leaves nothing behind, and the next one can. */
static void a_job_cannot_be_started(void)
{
	static const int errors[] = { [F_CALLOC] = ENOMEM, [F_EVENTFD] = EMFILE,
				      [F_PTHREAD_CREATE] = EAGAIN };
	unsigned int descriptors = count_descriptors();
	struct shmdev_job *job = NULL;

	for (fail_at = 0; !job; fail_at++) {
		calls = 0;
		failed = -1;
		job = LIB(shmdev_fill_start(NULL, 0));
		if (job)
			break;
		tap_note("%s", failed < 0 ? "nothing failed" : names[failed]);
		CHECK(failed >= 0);
		CHECK_EQ(errno, errors[failed]);
		CHECK_EQ(count_descriptors(), descriptors);
	}
	/* Two descriptors, the thread and what it takes. */
	CHECK(fail_at >= 4);
	CHECK_EQ(shmdev_job_wait(job, -1), 0);
	shmdev_job_free(job);
	CHECK_EQ(count_descriptors(), descriptors);
}

/* Where there are no threads to help, the call does it all. */
static void no_crew(void)
{
	struct shm_fill fill = { .len = 12 * MIB };

	need_backend();
	file = pattern_file(12 * MIB, 1);
	fill.fd = file;
	fill.dst = shm_alloc(12 * MIB);
	CHECK(fill.dst);
	setenv("SHMDEV_THREADS", "4", 1);
	fail_all = F_PTHREAD_CREATE;
	CHECK_EQ(LIB(shm_fill(&fill, 1)), 0);
	CHECK_EQ(failed, F_PTHREAD_CREATE);
	CHECK_EQ(fill.result, 12 * MIB);
	CHECK(pattern_is(fill.dst, 12 * MIB, 1, 0));
	shm_free(fill.dst);
}

/* A ring that breaks in the middle: at each of its calls, in each way. */
static void break_the_ring(void *unused)
{
	char *block = shm_alloc(40 * MIB);
	struct shm_fill fill = { .dst = block, .len = 40 * MIB, .fd = file };

	(void)unused;
	if (!block && errno == ENOMEM)
		_exit(TAP_SKIPPED);
	CHECK(block);
	memset(block, 0xee, 40 * MIB);
	CHECK_EQ(LIB(shm_fill(&fill, 1)), 0);
	CHECK_EQ(fill.result, 30 * MIB + 77);
	CHECK(pattern_is(block, 30 * MIB + 77, 1, 0));
	CHECK(is_all(block + 30 * MIB + 77, 10 * MIB - 77, 0xee));
	shm_free(block);
	if (failed < 0)
		_exit(DONE);
}

static void a_ring_breaks_in_the_middle(void)
{
	static const int errors[] = { EPERM, EAGAIN, EBUSY, EINTR, EBADF, ENOMEM, EOPNOTSUPP };
	int status;

	forbid_cached_reads();
	need_backend();
	file = pattern_file(30 * MIB + 77, 1);
	for (size_t e = 0; e < sizeof(errors) / sizeof(errors[0]); e++) {
		submit_error = -errors[e];
		for (fail_at = 0; ; fail_at++) {
			status = in_child(break_the_ring, NULL);
			if (WIFEXITED(status) && WEXITSTATUS(status) == TAP_SKIPPED)
				tap_skip("no 40 MiB to be had");
			if (WIFEXITED(status) && WEXITSTATUS(status) == DONE)
				break;
			if (status)
				tap_note("call %ld, error %d", fail_at, errors[e]);
			CHECK(WIFEXITED(status) && !WEXITSTATUS(status));
		}
	}
}

TAP_MAIN(TAP_TEST(one_call_after_another_fails),
	 TAP_TEST(all_calls_of_a_function_fail),
	 TAP_TEST(ready_memory_fails),
	 TAP_TEST(a_job_cannot_be_started),
	 TAP_TEST(no_crew),
	 TAP_TEST(a_ring_breaks_in_the_middle))
