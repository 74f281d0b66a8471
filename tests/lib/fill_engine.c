// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/* Fills: with io_uring, and with what there is where it is refused, or half of it. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <sys/resource.h>
#include <sys/syscall.h>

#include <linux/capability.h>
#include <linux/io_uring.h>

#include "fill_checks.h"

static enum shmdev_fill_engine engine_now(void)
{
	enum shmdev_fill_engine engine = info_now().fill_engine;

	tap_note("engine: %s", shmdev_fill_engine_name(engine));
	return engine;
}

/* Each leaves no descriptor behind, of a ring no more than are kept. */
static void check_everything(void)
{
	static const struct {
		const char *name;
		void (*run)(void);
	} checks[] = {
		{ "sizes and offsets", check_sizes_and_offsets },
		{ "many small requests", check_many_small },
		{ "a pipe", check_pipe },
		{ "two pipes", check_two_pipes },
		{ "what does not block", check_nonblocking },
		{ "bad requests", check_bad_requests },
		{ "half a file", check_half_a_file },
	};

	for (size_t i = 0; i < COUNT(checks); i++) {
		unsigned int before = count_other_descriptors();

		checks[i].run();
		if (count_other_descriptors() != before)
			tap_note("after %s", checks[i].name);
		CHECK_EQ(count_other_descriptors(), before);
		CHECK(count_descriptors_of("anon_inode:[io_uring]", NULL) <= 4);
	}
}

#define FEAT_OF_6_3	(1U << 13)

/* Whether io_uring works here at all, as the kernel and not the library says. */
static bool kernel_has_io_uring(bool *registers)
{
	struct io_uring_params params = { 0 };
	long fd = syscall(SYS_io_uring_setup, 1, &params);

	if (fd < 0) {
		tap_note("io_uring_setup: %s", strerror(errno));
		return false;
	}
	close(fd);
	/* Before, it takes longer to unregister memory than to fill it. */
	*registers = params.features & FEAT_OF_6_3;
	return true;
}

static void the_best_engine_is_used(void)
{
	enum shmdev_backend backend = need_backend();
	bool huge = backend == SHMDEV_BACKEND_DEVICE || backend == SHMDEV_BACKEND_HUGETLB;
	enum shmdev_fill_engine engine = engine_now();
	bool registers;

	if (!kernel_has_io_uring(&registers))
		CHECK_EQ(engine, SHMDEV_FILL_PREADV);
	else
		CHECK_EQ(engine, huge && registers ? SHMDEV_FILL_FIXED : SHMDEV_FILL_RING);
	check_everything();
	CHECK_EQ(count_descriptors_of("anon_inode:[io_uring]", NULL),
		 engine != SHMDEV_FILL_PREADV);
}

static void the_ring_reads_it_all(void)
{
	forbid_cached_reads();
	need_backend();
	if (engine_now() == SHMDEV_FILL_PREADV)
		tap_skip("no io_uring here");
	check_everything();
}

/* As on tmpfs and overlayfs. */
static void files_that_do_not_tell(void)
{
	forbid_syscall(SYS_preadv2, EOPNOTSUPP);
	need_backend();
	check_everything();
	/* And each read was a long one. */
	forbid_syscall(SYS_getrusage, EPERM);
	check_everything();
}

static void check_refused_by(int nr, int error)
{
	/* First of all: a ring that is there already goes on working. */
	forbid_syscall(nr, error);
	need_backend();
	CHECK_EQ(engine_now(), SHMDEV_FILL_PREADV);
	check_everything();
	CHECK_EQ(count_descriptors_of("anon_inode:[io_uring]", NULL), 0);
}

static void io_uring_refused_with_eperm(void)
{
	check_refused_by(SYS_io_uring_setup, EPERM);
}

static void io_uring_refused_with_enosys(void)
{
	check_refused_by(SYS_io_uring_setup, ENOSYS);
}

/* A filter that comes when there is a ring already, and one that half works. */
static void io_uring_refused_later(void)
{
	forbid_cached_reads();
	need_backend();
	if (engine_now() == SHMDEV_FILL_PREADV)
		tap_skip("no io_uring here");
	check_many_small();
	forbid_syscall(SYS_io_uring_enter, EPERM);
	check_everything();
	forbid_syscall(SYS_io_uring_setup, EPERM);
	check_everything();
	CHECK_EQ(engine_now(), SHMDEV_FILL_PREADV);
}

static void registering_refused(void)
{
	forbid_cached_reads();
	need_backend();
	if (engine_now() == SHMDEV_FILL_PREADV)
		tap_skip("no io_uring here");
	forbid_syscall(SYS_io_uring_register, EOPNOTSUPP);
	check_everything();
}

static void registering_refused_from_the_start(void)
{
	bool registers;

	if (!kernel_has_io_uring(&registers))
		tap_skip("no io_uring here");
	forbid_syscall(SYS_io_uring_register, EOPNOTSUPP);
	forbid_cached_reads();
	need_backend();
	CHECK_EQ(engine_now(), SHMDEV_FILL_RING);
	check_everything();
}

static void drop_capability(int number)
{
	struct __user_cap_header_struct header = { _LINUX_CAPABILITY_VERSION_3, 0 };
	struct __user_cap_data_struct data[2];

	CHECK_EQ(syscall(SYS_capget, &header, data), 0);
	data[CAP_TO_INDEX(number)].effective &= ~CAP_TO_MASK(number);
	CHECK_EQ(syscall(SYS_capset, &header, data), 0);
}

static void little_memory_may_be_locked(void)
{
	struct rlimit limit = { 65536, 65536 };

	/* Who has this capability is not limited. */
	drop_capability(CAP_IPC_LOCK);
	CHECK_EQ(setrlimit(RLIMIT_MEMLOCK, &limit), 0);
	forbid_cached_reads();
	need_backend();
	CHECK(engine_now() != SHMDEV_FILL_FIXED);
	check_everything();
}

/* For the whole machine, so not on one that others may be using. */
static void io_uring_disabled(void)
{
	int setting = open("/proc/sys/kernel/io_uring_disabled", O_RDWR | O_CLOEXEC);

	if (setting < 0)
		tap_skip("kernel.io_uring_disabled: %s", strerror(errno));
	if (!getenv("SHMDEV_VM"))
		tap_skip("the setting is for the whole machine; only in a virtual one");
	CHECK_EQ(pwrite(setting, "2", 1, 0), 1);
	need_backend();
	CHECK_EQ(engine_now(), SHMDEV_FILL_PREADV);
	check_everything();
	CHECK_EQ(count_descriptors_of("anon_inode:[io_uring]", NULL), 0);
	CHECK_EQ(pwrite(setting, "0", 1, 0), 1);
}

static void odd_tuning(void)
{
	setenv("SHMDEV_CHUNK", "12345", 1);
	setenv("SHMDEV_DEPTH", "1", 1);
	setenv("SHMDEV_THREADS", "5", 1);
	forbid_cached_reads();
	need_backend();
	check_everything();
}

static void tuning_that_is_none(void)
{
	setenv("SHMDEV_CHUNK", "-1", 1);
	setenv("SHMDEV_DEPTH", "1000000000000000000000", 1);
	setenv("SHMDEV_THREADS", "many", 1);
	need_backend();
	check_everything();
}

/* A program that closes "all other" descriptors, a daemon say, closes ours too. */
static void the_ring_is_closed_by_the_program(void)
{
	int ring, file;
	char byte;

	forbid_cached_reads();
	need_backend();
	if (engine_now() == SHMDEV_FILL_PREADV)
		tap_skip("no io_uring here");
	check_many_small();
	CHECK_EQ(count_descriptors_of("anon_inode:[io_uring]", &ring), 1);
	close(ring);
	check_everything();

	/* And its number is another file's now, which we must leave alone. */
	CHECK_EQ(count_descriptors_of("anon_inode:[io_uring]", &ring), 1);
	file = pattern_file(4096, 91);
	CHECK_EQ(dup2(file, ring), ring);
	check_everything();
	CHECK_EQ(pread(ring, &byte, 1, 0), 1);
	CHECK_EQ((unsigned char)byte, pattern_at(91, 0));
}

static void no_descriptor_for_a_ring(void)
{
	struct rlimit limit;
	struct shm_fill batch[4];
	char *block;
	int file;

	need_backend();
	block = get_block(4 * MIB);
	file = pattern_file(4 * MIB, 92);
	CHECK_EQ(getrlimit(RLIMIT_NOFILE, &limit), 0);
	limit.rlim_cur = 3;
	CHECK_EQ(setrlimit(RLIMIT_NOFILE, &limit), 0);
	for (int i = 0; i < 4; i++)
		batch[i] = fill_request(block + i * MIB, MIB, file, i * MIB);
	CHECK_EQ(shm_fill(batch, 4), 0);
	for (int i = 0; i < 4; i++)
		CHECK_EQ(batch[i].result, MIB);
	CHECK(pattern_is(block, 4 * MIB, 92, 0));
	shm_free(block);
	/* A sanitizer wants to look around in the end. */
	limit.rlim_cur = 256;
	CHECK_EQ(setrlimit(RLIMIT_NOFILE, &limit), 0);
}

TAP_MAIN(TAP_TEST(the_best_engine_is_used),
	 TAP_TEST(the_ring_reads_it_all),
	 TAP_TEST(files_that_do_not_tell),
	 TAP_TEST(io_uring_refused_with_eperm),
	 TAP_TEST(io_uring_refused_with_enosys),
	 TAP_TEST(io_uring_refused_later),
	 TAP_TEST(registering_refused),
	 TAP_TEST(registering_refused_from_the_start),
	 TAP_TEST(little_memory_may_be_locked),
	 TAP_TEST(io_uring_disabled),
	 TAP_TEST(odd_tuning),
	 TAP_TEST(tuning_that_is_none),
	 TAP_TEST(the_ring_is_closed_by_the_program),
	 TAP_TEST(no_descriptor_for_a_ring))
