// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/* Handles: memory that is attached to be read only, and memory that nobody may write to. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <sys/mman.h>

#include "handle_checks.h"
#include "tap.h"
#include "util.h"

#define MIB	((size_t)1 << 20)

#define FAULTED	42

static void faulted(int signal)
{
	(void)signal;
	_exit(FAULTED);
}

static void write_to(void *argument)
{
	/* Caught: the kernel's log is for what nobody expects. */
	CHECK(signal(SIGSEGV, faulted) != SIG_ERR);
	*(volatile char *)argument = 1;
}

static void check_read_only(const void *memory)
{
	int status = in_child(write_to, (void *)memory);

	CHECK(WIFEXITED(status));
	CHECK_EQ(WEXITSTATUS(status), FAULTED);
}

static void fill_into(const char *memory)
{
	int file = pattern_file(4096, 1);
	struct shm_fill fill = { .dst = (char *)memory, .len = 4096, .fd = file };
	struct shm_drain drain = { .src = memory, .len = 4096, .fd = file };

	CHECK_EQ(shm_fill(&fill, 1), 0);
	CHECK_EQ(fill.result, -EFAULT);
	CHECK_EQ(shm_drain(&drain, 1), 0);
	CHECK_EQ(drain.result, 4096);
	close(file);
}

static void attach_to_read(void)
{
	const size_t page = sysconf(_SC_PAGESIZE);
	struct shmdev_handle handle;
	const char *reader, *again;
	char *writer;
	pid_t child;
	int end;

	need_backend();
	child = exporter(4 * MIB, &handle, &end);
	reader = shmdev_attach_rdonly(&handle);
	CHECK(reader);
	CHECK(pattern_is(reader, 4 * MIB, 5, 0));
	again = shmdev_attach_rdonly(&handle);
	CHECK(again == reader);
	shmdev_detach(again);

	check_read_only(reader);
	CHECK_EQ(mprotect((char *)reader, page, PROT_READ | PROT_WRITE), -1);
	CHECK_EQ(errno, EACCES);
	fill_into(reader);

	/* One for writing is beside it, of the same memory. */
	writer = shmdev_attach(&handle);
	CHECK(writer && writer != reader);
	writer[5] ^= 1;
	CHECK_EQ(reader[5], writer[5]);
	writer[5] ^= 1;
	shmdev_detach(writer);
	end_exporter(child, end);
	CHECK(pattern_is(reader, 4 * MIB, 5, 0));
	/* To hand it on, by what we have. */
	handle = export_of(reader);
	again = shmdev_attach_rdonly(&handle);
	CHECK(again == reader);
	shmdev_detach(again);
	shmdev_detach(reader);
	CHECK_EQ(info_now().regions, 0);
}

static void open_to_read(void)
{
	struct shmdev_region *region, *reader;

	need_backend();
	region = shmdev_region_create(2 * MIB, 0);
	CHECK_EQ(shmdev_region_rdonly(region), 0);
	reader = shmdev_region_open_rdonly(shmdev_region_fd(region));
	CHECK(reader && reader != region);
	CHECK_EQ(shmdev_region_rdonly(reader), 1);
	CHECK_EQ(fcntl(shmdev_region_fd(reader), F_GETFL) & O_ACCMODE, O_RDONLY);
	CHECK(shmdev_region_open_rdonly(shmdev_region_fd(reader)) == reader);
	shmdev_region_unref(reader);
	CHECK_FAILS(shmdev_region_open(shmdev_region_fd(reader)), EACCES);
	memset(shmdev_region_addr(region), 3, 2 * MIB);
	CHECK(is_all(shmdev_region_addr(reader), 2 * MIB, 3));
	CHECK_FAILS(shmdev_region_open_rdonly(-1), EBADF);
	CHECK_FAILS(shmdev_region_open_rdonly(0), EINVAL);
	shmdev_region_unref(region);
	shmdev_region_unref(reader);
	CHECK_EQ(info_now().regions, 0);
}

static void seal(void)
{
	struct shmdev_handle handle;
	struct shmdev_region *region;
	char text[SHMDEV_HANDLE_TEXT_SIZE];
	const char *reader;
	char *block, *addr;
	size_t offset, size;

	need_backend();
	region = shmdev_region_create(4 * MIB, 0);
	CHECK(region);
	addr = shmdev_region_addr(region);
	size = shmdev_region_size(region);
	pattern_write(addr, size, 9, 0);
	CHECK_EQ(shmdev_region_seal(region, 2), -EINVAL);
	CHECK_EQ(shmdev_region_rdonly(region), 0);

	CHECK_EQ(shmdev_region_seal(region, 0), 0);
	CHECK(shmdev_region_addr(region) == addr);
	CHECK_EQ(shmdev_region_rdonly(region), 1);
	CHECK(pattern_is(addr, size, 9, 0));
	check_read_only(addr);
	CHECK_EQ(mprotect(addr, 4096, PROT_READ | PROT_WRITE), -1);
	CHECK_EQ(shmdev_region_seal(region, 0), 0);	/* it is */

	/* Others can read it, and nothing else. */
	handle = export_of(addr);
	CHECK_FAILS(shmdev_attach(&handle), EACCES);
	reader = shmdev_attach_rdonly(&handle);
	CHECK(reader == addr);
	shmdev_detach(reader);
	CHECK(shmdev_handle_format(&handle, text, sizeof(text)) > 0);
	CHECK_EQ(exec_attach("argument", text, NULL), -EACCES);
	shmdev_region_unref(region);
	CHECK_EQ(info_now().regions, 0);

	/* Blocks that share a region cannot be sealed; one that is alone in it can. */
	block = shm_alloc(100);
	region = shmdev_block_share(block, &offset);
	CHECK_EQ(shmdev_region_seal(region, 0), -EPERM);
	CHECK_EQ(shmdev_region_seal(region, SHMDEV_SEAL_FUTURE), -EPERM);
	shmdev_region_unref(region);
	block[0] = 1;
	shm_free(block);
	block = shm_alloc(8 * MIB);
	block[8 * MIB - 1] = 6;
	region = shmdev_block_share(block, &offset);
	CHECK_EQ(shmdev_region_seal(region, 0), 0);
	shmdev_region_unref(region);
	CHECK_EQ(block[8 * MIB - 1], 6);
	shm_free(block);
}

static void seal_with_a_writer_is_busy(void)
{
	struct shmdev_handle handle;
	struct shmdev_region *region;
	int told[2], go[2];
	pid_t child;
	char *addr, byte = 0;

	need_backend();
	region = shmdev_region_create(2 * MIB, 0);
	addr = shmdev_region_addr(region);
	CHECK_EQ(pipe(told), 0);
	CHECK_EQ(pipe(go), 0);
	fflush(stdout);
	child = fork();
	CHECK(child >= 0);
	if (!child) {
		CHECK_EQ(write(told[1], "", 1), 1);
		CHECK_EQ(read(go[0], &byte, 1), 1);
		addr[1] = 2;	/* it still can */
		_exit(0);
	}
	CHECK_EQ(read(told[0], &byte, 1), 1);
	CHECK_EQ(shmdev_region_seal(region, 0), -EBUSY);
	CHECK_EQ(shmdev_region_rdonly(region), 0);
	addr[0] = 1;		/* and so can we */
	CHECK_EQ(count_region_mappings(), 1);

	/* Nobody new: that can be had. */
	CHECK_EQ(shmdev_region_seal(region, SHMDEV_SEAL_FUTURE), 0);
	CHECK_EQ(shmdev_region_rdonly(region), 0);
	addr[0] = 3;
	handle = export_of(addr);
	CHECK(shmdev_attach(&handle) == addr);	/* the one we have */
	shmdev_detach(addr);
	CHECK_EQ(write(go[1], "", 1), 1);
	wait_good(child);
	CHECK_EQ(addr[1], 2);
	CHECK_EQ(shmdev_region_seal(region, 0), 0);
	CHECK_EQ(addr[0], 3);
	check_read_only(addr);
	shmdev_region_unref(region);
}

static const struct tap_test tests[] = {
	TAP_TEST(attach_to_read),
	TAP_TEST(open_to_read),
	TAP_TEST(seal),
	TAP_TEST(seal_with_a_writer_is_busy),
};

int main(int argc, char **argv)
{
	return handle_run(tests, sizeof(tests) / sizeof(tests[0]), argc, argv);
}
