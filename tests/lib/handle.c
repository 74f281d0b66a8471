// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/* Handles: what they look like, who may use them, and what comes of those that are gone. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <stddef.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#include "tap.h"
#include "util.h"

#define MIB	((size_t)1 << 20)

static struct shmdev_handle export_of(const void *ptr)
{
	struct shmdev_handle handle;

	memset(&handle, 0xff, sizeof(handle));
	CHECK_EQ(shmdev_export(ptr, &handle), 0);
	return handle;
}

/* --- a second process, that attaches what it is told -------------------------------- */

/*
 * A process that knows nothing of the first: this program anew, as
 * "<program> --attach <how> <where>", which adds 1 to the int there and prints what it
 * found, or the error.
 */
static int attach_main(const char *how, const char *where)
{
	struct shmdev_handle handle;
	char text[SHMDEV_HANDLE_TEXT_SIZE] = "";
	int *number, err = 0;

	if (!strcmp(how, "pipe") || !strcmp(how, "file")) {
		int fd = !strcmp(how, "pipe") ? atoi(where) : open(where, O_RDONLY);

		if (read(fd, &handle, sizeof(handle)) != sizeof(handle))
			return 2;
	} else if (!strcmp(how, "environment")) {
		err = shmdev_handle_parse(getenv(where), &handle);
	} else {
		snprintf(text, sizeof(text), "%s", where);
		err = shmdev_handle_parse(text, &handle);
	}
	if (err)
		return 3;
	number = shmdev_attach(&handle);
	if (!number) {
		printf("%d\n", -errno);
		return 0;
	}
	printf("%d\n", (*number)++);
	shmdev_detach(number);
	return 0;
}

/* What that process prints. */
static int exec_attach(const char *how, const char *where, const char *value)
{
	int pair[2], status, said;
	char text[32] = "";
	pid_t child;

	CHECK_EQ(pipe(pair), 0);
	fflush(stdout);
	child = fork();
	CHECK(child >= 0);
	if (!child) {
		dup2(pair[1], 1);
		if (!strcmp(how, "environment"))
			setenv(where, value, 1);
		execl("/proc/self/exe", "handle", "--attach", how, where, NULL);
		_exit(126);
	}
	close(pair[1]);
	CHECK(read(pair[0], text, sizeof(text) - 1) > 0);
	close(pair[0]);
	CHECK_EQ(waitpid(child, &status, 0), child);
	CHECK_EQ(status, 0);
	CHECK_EQ(sscanf(text, "%d", &said), 1);
	return said;
}

static void by_pipe_file_environment_and_argument(void)
{
	char text[SHMDEV_HANDLE_TEXT_SIZE], path[] = "/tmp/shmdev-test-XXXXXX", number[16];
	static const size_t sizes[] = { 4, 100, 70000, 5 * MIB };
	struct shmdev_handle handle;
	int pair[2], file;

	need_backend();
	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		int *value = shm_alloc(sizes[i]);

		CHECK(value);
		*value = 41;
		handle = export_of(value);
		CHECK_EQ(handle.size, sizes[i]);

		CHECK_EQ(pipe(pair), 0);
		CHECK_EQ(write(pair[1], &handle, sizeof(handle)), sizeof(handle));
		snprintf(number, sizeof(number), "%d", pair[0]);
		CHECK_EQ(exec_attach("pipe", number, NULL), 41);
		close(pair[0]);
		close(pair[1]);

		strcpy(path, "/tmp/shmdev-test-XXXXXX");
		file = mkstemp(path);
		CHECK_EQ(write(file, &handle, sizeof(handle)), sizeof(handle));
		CHECK_EQ(exec_attach("file", path, NULL), 42);
		close(file);
		unlink(path);

		CHECK(shmdev_handle_format(&handle, text, sizeof(text)) > 0);
		CHECK_EQ(exec_attach("environment", "SHMDEV_TEST_HANDLE", text), 43);
		CHECK_EQ(exec_attach("argument", text, NULL), 44);
		CHECK_EQ(*value, 45);
		shm_free(value);
	}
}

/* --- exporting ---------------------------------------------------------------------- */

static void export_of_anything(void)
{
	struct shmdev_region *region;
	struct shmdev_handle handle, twin;
	char *small, *large, *base;
	size_t size;

	need_backend();
	small = shm_alloc(1000);
	large = shm_alloc(3 * MIB + 5);
	region = shmdev_region_create(4096, 0);
	CHECK(small && large && region);

	handle = export_of(small);
	CHECK_EQ(handle.version, SHMDEV_HANDLE_VERSION);
	CHECK_EQ(handle.size, 1000);
	twin = export_of(small);
	CHECK(!memcmp(&handle, &twin, sizeof(handle)));
	twin = export_of(small + 999);
	CHECK_EQ(twin.size, 1);
	CHECK_EQ(twin.offset, handle.offset + 999);
	CHECK_EQ(export_of(large + MIB).size, 2 * MIB + 5);

	base = shmdev_region_addr(region);
	size = shmdev_region_size(region);
	handle = export_of(base);
	CHECK_EQ(handle.offset, 0);
	CHECK_EQ(handle.size, size);
	CHECK_EQ(handle.region_size, size);
	CHECK_EQ(export_of(base + size - 1).size, 1);

	CHECK_EQ(shmdev_export(NULL, &twin), -ENOENT);
	CHECK_EQ(shmdev_export(&handle, &twin), -ENOENT);
	CHECK_EQ(shmdev_export(small + 1000, &twin), -ENOENT);
	CHECK_EQ(twin.size, 1);
	shm_free(laundered(small));
	CHECK_EQ(shmdev_export(small, &twin), -ENOENT);
	shm_free(laundered(large));
	CHECK_EQ(shmdev_export(large, &twin), -ENOENT);
	shmdev_region_unref(region);
	CHECK_EQ(shmdev_export(base, &twin), -ENOENT);
}

static void what_was_exported_is_not_used_again(void)
{
	char *block, *again, *kept;

	need_backend();
	kept = shm_alloc(1);		/* and with it the region */
	block = shm_alloc(500);
	CHECK(kept && block);
	export_of(block + 100);
	shm_free(block);
	for (int i = 0; i < 100; i++) {
		again = shm_alloc(500);
		CHECK(again && again != block);
	}
}

static void attach_here_is_the_same(void)
{
	struct shmdev_handle handle;
	char *block, *large, *kept;

	need_backend();
	kept = shm_alloc(1);
	block = shm_alloc(1000);
	large = shm_alloc(4 * MIB);
	CHECK(kept && block && large);
	handle = export_of(block + 10);
	CHECK(shmdev_attach(&handle) == block + 10);
	CHECK(shmdev_attach(&handle) == block + 10);
	shmdev_detach(block);		/* anywhere in the region */
	shmdev_detach(block + 10);

	/* An attachment keeps the memory when the block goes. */
	handle = export_of(large);
	CHECK(shmdev_attach(&handle) == large);
	memset(large, 7, 4 * MIB);
	shm_free(laundered(large));
	CHECK_EQ(shmdev_export(laundered(large), &handle), 0);	/* attached memory now */
	CHECK(is_all(large, 4 * MIB, 7));
	CHECK_EQ(info_now().regions, 2);
	shmdev_detach(large + 4 * MIB - 1);
	CHECK_EQ(info_now().regions, 1);
	CHECK_FAILS(shmdev_attach(&handle), ENOENT);

	errno = ESTALE;
	shmdev_detach(NULL);
	CHECK_EQ(errno, ESTALE);
}

static void detach_stranger(void *what)
{
	int null = open("/dev/null", O_WRONLY);

	dup2(null, 2);
	shmdev_detach(what);
}

static void detach_of_what_was_not_attached_aborts(void)
{
	struct shmdev_handle handle;
	char *block;
	int status;

	need_backend();
	block = shm_alloc(1000);
	handle = export_of(block);
	status = in_child(detach_stranger, block);
	CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT);
	status = in_child(detach_stranger, &status);
	CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT);
	CHECK(shmdev_attach(&handle) == block);
	shmdev_detach(block);
	status = in_child(detach_stranger, block);
	CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT);
	shm_free(block);
}

/* --- between processes -------------------------------------------------------------- */

/* A child that exports @size bytes of the pattern 5, and lives until *@end is closed. */
static pid_t exporter(size_t size, struct shmdev_handle *handle, int *end)
{
	int told[2], stop[2];
	pid_t child;

	CHECK_EQ(pipe2(told, O_CLOEXEC), 0);
	CHECK_EQ(pipe2(stop, O_CLOEXEC), 0);
	fflush(stdout);
	child = fork();
	CHECK(child >= 0);
	if (!child) {
		char *block = shm_alloc(size), byte;

		close(stop[1]);
		if (!block || shmdev_export(block, handle))
			_exit(1);
		pattern_write(block, size, 5, 0);
		if (write(told[1], handle, sizeof(*handle)) != sizeof(*handle))
			_exit(1);
		/* Until it is closed. */
		_exit(read(stop[0], &byte, 1) != 0);
	}
	close(told[1]);
	close(stop[0]);
	CHECK_EQ(read(told[0], handle, sizeof(*handle)), sizeof(*handle));
	close(told[0]);
	*end = stop[1];
	return child;
}

static void end_exporter(pid_t child, int end)
{
	close(end);
	wait_good(child);
}

static void region_of_anything(void)
{
	struct shmdev_region *region, *of, *reader;
	struct shmdev_handle handle;
	char *small, *here;
	size_t offset;
	pid_t child;
	int end;

	need_backend();
	small = shm_alloc(1000);
	region = shmdev_region_create(4096, 0);
	of = shmdev_region_of(small + 7, &offset);
	CHECK(of && (char *)shmdev_region_addr(of) + offset == small + 7);
	/* All of it, also where no block is. */
	CHECK_EQ(shmdev_region_export(of, &handle), 0);
	CHECK_EQ(handle.offset, 0);
	CHECK_EQ(handle.size, shmdev_region_size(of));
	here = shmdev_attach(&handle);
	CHECK(here == (char *)shmdev_region_addr(of));
	shmdev_detach(here);
	CHECK(shmdev_region_attach(&handle) == of);
	shmdev_region_unref(of);
	reader = shmdev_region_attach_rdonly(&handle);
	CHECK(reader && reader != of && shmdev_region_rdonly(reader));
	shmdev_region_unref(reader);
	handle.ino = ~handle.ino;
	CHECK_FAILS(shmdev_region_attach(&handle), ENOENT);
	shmdev_region_unref(of);
	CHECK(shmdev_region_of((char *)shmdev_region_addr(region) + 9, &offset) == region);
	CHECK_EQ(offset, 9);
	shmdev_region_unref(region);
	shmdev_region_unref(region);
	CHECK_FAILS(shmdev_region_of(small + 1000, &offset), ENOENT);
	CHECK_FAILS(shmdev_region_of(&offset, &offset), ENOENT);
	CHECK_FAILS(shmdev_region_of(NULL, &offset), ENOENT);
	child = exporter(3 * MIB, &handle, &end);
	here = shmdev_attach(&handle);
	of = shmdev_region_of(here + 3, &offset);
	CHECK(of);
	CHECK_EQ(offset, handle.offset + 3);
	end_exporter(child, end);
	shmdev_detach(here);
	CHECK(pattern_is((char *)shmdev_region_addr(of) + offset, 1000, 5, 3));
	shmdev_region_unref(of);
	shm_free(small);
}

static void exporter_gone_after_the_attach(void)
{
	static const size_t sizes[] = { 300, 3 * MIB };
	struct shmdev_handle handle;
	unsigned int descriptors;

	need_backend();
	descriptors = count_descriptors();
	for (size_t i = 0; i < 2; i++) {
		int end;
		pid_t child = exporter(sizes[i], &handle, &end);
		char *here = shmdev_attach(&handle), *again;

		CHECK(here);
		CHECK_EQ(handle.size, sizes[i]);
		end_exporter(child, end);
		CHECK(pattern_is(here, sizes[i], 5, 0));
		memset(here, 1, sizes[i]);
		/* As long as it is here it can be had by the same name. */
		again = shmdev_attach(&handle);
		CHECK(again == here);
		CHECK_EQ(info_now().regions, 1);
		shmdev_detach(again);
		CHECK_EQ(info_now().regions, 1);
		shmdev_detach(here);
		CHECK_EQ(info_now().regions, 0);
		CHECK_FAILS(shmdev_attach(&handle), ENOENT);
		CHECK_FAILS(shmdev_attach_rdonly(&handle), ENOENT);
	}
	CHECK_EQ(count_descriptors(), descriptors);
	CHECK_EQ(count_region_mappings(), 0);
}

static void exporter_gone_before_the_attach(void)
{
	struct shmdev_handle handle;
	unsigned int descriptors;
	pid_t child;
	int end;

	need_backend();
	child = exporter(3 * MIB, &handle, &end);
	descriptors = count_descriptors() - 1;
	end_exporter(child, end);
	CHECK_FAILS(shmdev_attach(&handle), ENOENT);
	child = exporter(3 * MIB, &handle, &end);
	CHECK_EQ(kill(child, SIGKILL), 0);
	CHECK_EQ(waitpid(child, NULL, 0), child);
	close(end);
	CHECK_FAILS(shmdev_attach(&handle), ENOENT);
	CHECK_EQ(count_descriptors(), descriptors);
	CHECK_EQ(info_now().regions, 0);
}

static void a_zombie_has_nothing(void)
{
	struct shmdev_handle handle;
	siginfo_t info;
	pid_t child;
	int end;

	need_backend();
	child = exporter(3 * MIB, &handle, &end);
	close(end);
	CHECK_EQ(waitid(P_PID, child, &info, WEXITED | WNOWAIT), 0);
	CHECK_FAILS(shmdev_attach(&handle), ENOENT);
	wait_good(child);
}

/* A handle whose numbers have become those of something else. */
static void a_number_used_again_is_not_opened(void)
{
	struct shmdev_handle handle, wrong;
	struct shmdev_region *mine;
	char *block, path[64];
	int fifo, end;
	pid_t child;

	if (need_backend() == SHMDEV_BACKEND_DEVICE)
		tap_skip("the device has tokens");
	child = exporter(2 * MIB, &handle, &end);

	wrong = handle;			/* another process has its pid */
	wrong.pid = getpid();
	CHECK_FAILS(shmdev_attach(&wrong), ENOENT);
	wrong = handle;
	wrong.started++;
	CHECK_FAILS(shmdev_attach(&wrong), ENOENT);
	wrong = handle;			/* that was never opened */
	wrong.fd = 1000;
	CHECK_FAILS(shmdev_attach(&wrong), ENOENT);
	wrong = handle;			/* another file, or another region, has its number */
	wrong.ino++;
	CHECK_FAILS(shmdev_attach(&wrong), ENOENT);
	wrong = handle;
	wrong.dev++;
	CHECK_FAILS(shmdev_attach(&wrong), ENOENT);
	wrong = handle;
	wrong.region_size += 2 * MIB;
	CHECK_FAILS(shmdev_attach(&wrong), ENOENT);
	wrong = handle;
	wrong.pid = 1 << 30;
	CHECK_FAILS(shmdev_attach(&wrong), ENOENT);

	/* Of ourselves: the descriptor is closed, then a FIFO, whose open would wait. */
	block = shm_alloc(2 * MIB);
	wrong = export_of(block);
	mine = shmdev_block_share(block, &(size_t){ 0 });
	CHECK_EQ(shmdev_region_fd(mine), wrong.fd);
	shmdev_region_unref(mine);
	shm_free(block);
	CHECK_FAILS(shmdev_attach(&wrong), ENOENT);
	snprintf(path, sizeof(path), "/tmp/shmdev-test-%d", getpid());
	CHECK_EQ(mkfifo(path, 0600), 0);
	fifo = open(path, O_RDONLY | O_NONBLOCK);
	CHECK_EQ(unlink(path), 0);
	CHECK_EQ(dup2(fifo, wrong.fd), wrong.fd);
	CHECK_FAILS(shmdev_attach(&wrong), ENOENT);
	/* And a memfd of the same size. */
	close(wrong.fd);
	mine = shmdev_region_create(2 * MIB, 0);
	CHECK(mine);
	CHECK_EQ(shmdev_region_fd(mine), wrong.fd);
	CHECK_FAILS(shmdev_attach(&wrong), ENOENT);
	shmdev_region_unref(mine);
	end_exporter(child, end);
}

struct told {
	struct shmdev_handle handle;
	int result;
	bool readonly;
};

/* As another user; the verdict goes through *@told, which is shared. */
static void attach_as_nobody(void *argument)
{
	struct told *told = argument;

	CHECK_EQ(setgid(65534), 0);
	CHECK_EQ(setuid(65534), 0);
	told->result = shmdev_attach(&told->handle) ? 0 : -errno;
}

static struct told *told_make(void)
{
	struct told *told = mmap(NULL, sizeof(*told), PROT_READ | PROT_WRITE,
				 MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	CHECK(told != MAP_FAILED);
	told->result = 1;
	return told;
}

static void another_user_may_not(void)
{
	struct told *told = told_make();
	pid_t child;
	int end;

	if (need_backend() == SHMDEV_BACKEND_DEVICE && access("/dev/shmdev", R_OK | W_OK))
		tap_skip("no device");
	if (geteuid())
		tap_skip("needs root to become another user");
	child = exporter(3 * MIB, &told->handle, &end);
	CHECK_EQ(in_child(attach_as_nobody, told), 0);
	CHECK_EQ(told->result, -EACCES);
	end_exporter(child, end);
}

static void attach_without_proc(void *argument)
{
	struct told *told = argument;

	if (unshare(CLONE_NEWNS) || mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) ||
	    mount("none", "/proc", "tmpfs", 0, NULL)) {
		told->result = 2;
		return;
	}
	told->result = shmdev_attach(&told->handle) ? 0 : -errno;
	/* Nor can it export. */
	if (told->result == -EOPNOTSUPP) {
		char *block = shm_alloc(100);

		CHECK(block);
		CHECK_EQ(shmdev_export(block, &told->handle), -EOPNOTSUPP);
	}
}

static void without_proc_memfds_say_so(void)
{
	struct told *told = told_make();
	enum shmdev_backend backend = need_backend();
	pid_t child;
	int end;

	if (geteuid())
		tap_skip("needs root to hide /proc");
	child = exporter(3 * MIB, &told->handle, &end);
	CHECK_EQ(in_child(attach_without_proc, told), 0);
	if (told->result == 2)
		tap_skip("no mount namespace to be had");
	CHECK_EQ(told->result, backend == SHMDEV_BACKEND_DEVICE ? 0 : -EOPNOTSUPP);
	end_exporter(child, end);
}

static void attach_elsewhere(void *argument)
{
	struct told *told = argument;

	if (unshare(CLONE_NEWNS)) {
		told->result = 2;
		return;
	}
	told->result = shmdev_attach(&told->handle) ? 0 : -errno;
}

static void another_mount_namespace_is_no_obstacle(void)
{
	struct told *told = told_make();
	pid_t child;
	int end;

	need_backend();
	if (geteuid())
		tap_skip("needs root to make a namespace");
	child = exporter(3 * MIB, &told->handle, &end);
	CHECK_EQ(in_child(attach_elsewhere, told), 0);
	if (told->result == 2)
		tap_skip("no mount namespace to be had");
	CHECK_EQ(told->result, 0);
	end_exporter(child, end);
}

static void attach_in_pid_namespace(void *argument)
{
	struct told *told = argument;
	int status;
	pid_t inner;

	if (unshare(CLONE_NEWNS | CLONE_NEWPID)) {
		told->result = 2;
		return;
	}
	inner = fork();
	CHECK(inner >= 0);
	if (!inner) {
		CHECK_EQ(mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL), 0);
		CHECK_EQ(mount("proc", "/proc", "proc", 0, NULL), 0);
		told->result = shmdev_attach(&told->handle) ? 0 : -errno;
		_exit(0);
	}
	CHECK_EQ(waitpid(inner, &status, 0), inner);
	CHECK_EQ(status, 0);
}

static void another_pid_namespace_says_so(void)
{
	struct told *told = told_make();
	enum shmdev_backend backend = need_backend();
	pid_t child;
	int end;

	if (geteuid())
		tap_skip("needs root to make a namespace");
	child = exporter(3 * MIB, &told->handle, &end);
	CHECK_EQ(in_child(attach_in_pid_namespace, told), 0);
	if (told->result == 2)
		tap_skip("no pid namespace to be had");
	CHECK_EQ(told->result, backend == SHMDEV_BACKEND_DEVICE ? 0 : -EXDEV);
	end_exporter(child, end);
}

static void of_another_machine_says_so(void)
{
	struct shmdev_handle handle;
	char *block;

	need_backend();
	block = shm_alloc(100);
	handle = export_of(block);
	handle.boot[3] ^= 1;
	CHECK_FAILS(shmdev_attach(&handle), EXDEV);
	CHECK_FAILS(shmdev_attach_rdonly(&handle), EXDEV);
	shm_free(block);
}

static void export_inherited(void *argument)
{
	char *block = argument;
	struct shmdev_handle handle = export_of(block);
	char text[SHMDEV_HANDLE_TEXT_SIZE];

	if (handle.kind == SHMDEV_HANDLE_DESCRIPTOR)
		CHECK_EQ(handle.pid, getpid());
	/* The parent let go of it: nobody but this child has it. */
	CHECK(shmdev_handle_format(&handle, text, sizeof(text)) > 0);
	CHECK_EQ(exec_attach("argument", text, NULL), 77);
	CHECK_EQ(*(int *)block, 78);
}

static void a_child_exports_what_it_inherited(void)
{
	int *block;
	pid_t child;
	int go[2];
	char byte;

	need_backend();
	block = shm_alloc(3 * MIB);
	*block = 77;
	export_of(block);		/* so that the parent is known to itself */
	CHECK_EQ(pipe(go), 0);
	fflush(stdout);
	child = fork();
	CHECK(child >= 0);
	if (!child) {
		CHECK_EQ(read(go[0], &byte, 1), 1);
		export_inherited(block);
		fflush(stdout);
		_exit(0);
	}
	shm_free(block);
	CHECK_EQ(write(go[1], "", 1), 1);
	wait_good(child);
}

static void detach_inherited(void *argument)
{
	char *here = argument;

	CHECK(pattern_is(here, 3 * MIB, 5, 0));
	shmdev_detach(here);
	CHECK_EQ(info_now().regions, 0);
	CHECK_EQ(count_region_mappings(), 0);
}

static void a_child_has_what_its_parent_attached(void)
{
	struct shmdev_handle handle;
	pid_t child;
	char *here;
	int end;

	need_backend();
	child = exporter(3 * MIB, &handle, &end);
	here = shmdev_attach(&handle);
	CHECK(here);
	end_exporter(child, end);
	CHECK_EQ(in_child(detach_inherited, here), 0);
	CHECK(pattern_is(here, 3 * MIB, 5, 0));
	shmdev_detach(here);
}

/* --- to read only ------------------------------------------------------------------- */

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

/* --- the struct and its text -------------------------------------------------------- */

static void layout_is_for_ever(void)
{
#define AT(field, offset)	CHECK_EQ(offsetof(struct shmdev_handle, field), offset)
	CHECK_EQ(sizeof(struct shmdev_handle), 128);
	CHECK_EQ(_Alignof(struct shmdev_handle), 8);
	AT(version, 0);
	AT(kind, 4);
	AT(offset, 8);
	AT(size, 16);
	AT(region_size, 24);
	AT(dev, 32);
	AT(ino, 40);
	AT(boot, 48);
	AT(token, 64);
	AT(pid, 80);
	AT(fd, 84);
	AT(started, 88);
	AT(pid_namespace, 96);
	AT(reserved, 104);
#undef AT
	CHECK_EQ(SHMDEV_HANDLE_VERSION, 1);
	CHECK_EQ(SHMDEV_HANDLE_TOKEN, 1);
	CHECK_EQ(SHMDEV_HANDLE_DESCRIPTOR, 2);
}

static const struct shmdev_handle sample = {
	.version = 1, .kind = 2, .offset = 0x1234, .size = 0x100, .region_size = 0x200000,
	.dev = 1, .ino = 0xfedcba9876543210,
	.boot = { 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15 },
	.pid = 4711, .fd = 5, .started = 99, .pid_namespace = 0xeffffffc,
};

static const char sample_text[] =
	"shmdev1-00000002" "0000000000001234" "0000000000000100" "0000000000200000"
	"0000000000000001" "fedcba9876543210" "000102030405060708090a0b0c0d0e0f"
	"00000000000000000000000000000000" "00001267" "00000005" "0000000000000063"
	"00000000effffffc";

static void text_is_for_ever(void)
{
	struct shmdev_handle handle;
	char text[SHMDEV_HANDLE_TEXT_SIZE];

	CHECK_EQ(shmdev_handle_format(&sample, text, sizeof(text)), sizeof(sample_text) - 1);
	CHECK(!strcmp(text, sample_text));
	CHECK_EQ(shmdev_handle_parse(sample_text, &handle), 0);
	CHECK(!memcmp(&handle, &sample, sizeof(handle)));

	CHECK_EQ(shmdev_handle_format(&sample, text, sizeof(sample_text)),
		 sizeof(sample_text) - 1);
	text[0] = 'x';
	CHECK_EQ(shmdev_handle_format(&sample, text, sizeof(sample_text) - 1), -ENOSPC);
	CHECK_EQ(shmdev_handle_format(&sample, NULL, 0), -ENOSPC);
	CHECK_EQ(text[0], 'x');
}

static void check_text(const char *text, int error)
{
	struct shmdev_handle handle = sample;

	CHECK_EQ(shmdev_handle_parse(text, &handle), error);
	CHECK(!memcmp(&handle, &sample, sizeof(handle)));
}

static void parse_is_strict(void)
{
	char text[SHMDEV_HANDLE_TEXT_SIZE + 2];
	const size_t len = sizeof(sample_text) - 1;

	for (size_t cut = 0; cut < len; cut++) {
		memcpy(text, sample_text, cut);
		text[cut] = '\0';
		check_text(text, -EINVAL);
	}
	for (size_t at = 0; at < len; at++) {
		static const char wrong[] = { 'g', ' ', 'A', '/', ':', '`', '-', '\n', (char)0xff };

		for (size_t i = 0; i < sizeof(wrong); i++) {
			strcpy(text, sample_text);
			if (text[at] == wrong[i])
				continue;
			text[at] = wrong[i];
			check_text(text, -EINVAL);
		}
	}
	snprintf(text, sizeof(text), "%s0", sample_text);
	check_text(text, -EINVAL);
	snprintf(text, sizeof(text), "%s\n", sample_text);
	check_text(text, -EINVAL);
	snprintf(text, sizeof(text), " %s", sample_text);
	check_text(text, -EINVAL);
	check_text("", -EINVAL);
	check_text("shmdev", -EINVAL);
	check_text("shmdev-", -EINVAL);
	check_text("shmdev0-00", -EINVAL);
	check_text("shmdev01-00", -EINVAL);
	/* What a later version writes, whatever that is. */
	check_text("shmdev2-", -EPROTONOSUPPORT);
	check_text("shmdev2-anything at all", -EPROTONOSUPPORT);
	check_text("shmdev10-0", -EPROTONOSUPPORT);
	check_text("shmdev99999999999999999999999-0", -EPROTONOSUPPORT);
}

static void bad_structs(void)
{
	struct shmdev_handle handle;
	char text[SHMDEV_HANDLE_TEXT_SIZE];

#define BAD(error, change)						\
	do {								\
		handle = sample;					\
		change;							\
		CHECK_FAILS(shmdev_attach(&handle), error);		\
		CHECK_FAILS(shmdev_attach_rdonly(&handle), error);	\
		CHECK_EQ(shmdev_handle_format(&handle, text, sizeof(text)), -error); \
	} while (0)
	BAD(EINVAL, handle.version = 0);
	BAD(EPROTONOSUPPORT, handle.version = 2);
	BAD(EINVAL, handle.kind = 0);
	BAD(EINVAL, handle.kind = 3);
	BAD(EINVAL, handle.size = 0);
	BAD(EINVAL, handle.size = handle.region_size);
	BAD(EINVAL, handle.size = UINT64_MAX);
	BAD(EINVAL, handle.offset = UINT64_MAX);
	BAD(EINVAL, handle.offset = handle.region_size + 1);
	BAD(EINVAL, handle.region_size = UINT64_MAX);
	BAD(EINVAL, handle.token[0] = 1);
	BAD(EINVAL, handle.pid = 0);
	BAD(EINVAL, handle.pid = 1U << 31);
	BAD(EINVAL, handle.fd = 1U << 31);
	for (int i = 0; i < 3; i++)
		BAD(EINVAL, handle.reserved[i] = 1);
	BAD(EINVAL, handle.kind = SHMDEV_HANDLE_TOKEN);
	BAD(EINVAL, handle.kind = SHMDEV_HANDLE_TOKEN; handle.token[0] = 1);
	BAD(EINVAL, handle = (struct shmdev_handle){ 0 });
	BAD(EINVAL, memset(&handle, 0, sizeof(handle)); handle.version = 1);
#undef BAD
}

/* --- sockets ------------------------------------------------------------------------ */

static void send_and_receive(void)
{
	static const int types[] = { SOCK_STREAM, SOCK_SEQPACKET, SOCK_DGRAM };
	struct shmdev_handle handle;
	unsigned int descriptors;
	char *block, *here;
	int pair[2], end;
	pid_t child;
	size_t size;

	need_backend();
	for (size_t i = 0; i < 3; i++) {
		CHECK_EQ(socketpair(AF_UNIX, types[i] | SOCK_CLOEXEC, 0, pair), 0);
		child = exporter(3 * MIB, &handle, &end);
		block = shmdev_attach(&handle);
		CHECK(block);
		end_exporter(child, end);
		descriptors = count_descriptors();
		CHECK_EQ(shmdev_send(pair[0], block + 17, 0), 0);
		CHECK_EQ(shmdev_send(pair[0], block, SHMDEV_SEND_RDONLY), 0);
		CHECK_EQ(shmdev_send(pair[0], block, 0), 0);
		CHECK_EQ(count_descriptors(), descriptors);
		/* What is under way keeps the memory. */
		shmdev_detach(block);
		CHECK_EQ(info_now().regions, 0);

		here = shmdev_recv(pair[1], &size);
		CHECK(here);
		CHECK_EQ(size, handle.region_size - handle.offset - 17);
		CHECK(pattern_is(here, 3 * MIB - 17, 5, 17));
		block = shmdev_recv(pair[1], NULL);
		CHECK(block && block != here - 17);
		CHECK(pattern_is(block, 3 * MIB, 5, 0));
		CHECK_EQ(mprotect((void *)((uintptr_t)block & -4096L), 4096,
				  PROT_READ | PROT_WRITE), -1);
		shmdev_detach(block);
		block = shmdev_recv(pair[1], &size);
		CHECK(block == here - 17);
		shmdev_detach(block);
		shmdev_detach(here);
		CHECK_EQ(info_now().regions, 0);
		CHECK_EQ(count_descriptors(), descriptors - 1);

		CHECK_EQ(shmdev_send(pair[0], &size, 0), -ENOENT);
		CHECK_EQ(shmdev_send(pair[0], NULL, 0), -ENOENT);
		CHECK_EQ(fcntl(pair[1], F_SETFL, O_NONBLOCK), 0);
		CHECK_FAILS(shmdev_recv(pair[1], NULL), EAGAIN);
		close(pair[0]);
		if (types[i] != SOCK_DGRAM)
			CHECK_FAILS(shmdev_recv(pair[1], NULL), ENODATA);
		close(pair[1]);
	}
}

static void send_errors(void)
{
	unsigned int descriptors;
	char *block;
	int pair[2], sent = 0, err;

	need_backend();
	block = shm_alloc(2 * MIB);
	CHECK_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, pair), 0);
	descriptors = count_descriptors();
	CHECK_EQ(shmdev_send(pair[0], block, 2), -EINVAL);
	CHECK_EQ(shmdev_send(-1, block, 0), -EBADF);
	CHECK_EQ(shmdev_send(open("/dev/null", O_RDWR), block, 0), -ENOTSOCK);
	close(descriptors);
	while (!(err = shmdev_send(pair[0], block, sent % 2 ? SHMDEV_SEND_RDONLY : 0)))
		sent++;
	CHECK(err == -EAGAIN || err == -ETOOMANYREFS);
	CHECK(sent > 10);
	close(pair[1]);
	CHECK_EQ(shmdev_send(pair[0], block, 0), -EPIPE);
	CHECK_FAILS(shmdev_recv(-1, NULL), EBADF);
	shm_free(block);
}

/* Bytes and descriptors as somebody else may send them. */
static void raw_send(int sock, const void *bytes, size_t len, const int *fds, size_t nr)
{
	union {
		struct cmsghdr header;
		char bytes[CMSG_SPACE(4 * sizeof(int))];
	} control = { 0 };
	struct iovec data = { (void *)bytes, len };
	struct msghdr message = { .msg_iov = &data, .msg_iovlen = 1 };

	if (nr) {
		message.msg_control = &control;
		message.msg_controllen = CMSG_SPACE(nr * sizeof(int));
		control.header.cmsg_level = SOL_SOCKET;
		control.header.cmsg_type = SCM_RIGHTS;
		control.header.cmsg_len = CMSG_LEN(nr * sizeof(int));
		memcpy(CMSG_DATA(&control.header), fds, nr * sizeof(int));
	}
	CHECK_EQ(sendmsg(sock, &message, 0), len);
}

static void receive_is_not_fooled(void)
{
	struct { uint32_t magic, version; uint64_t offset, size, reserved; } good, message;
	unsigned int descriptors;
	struct shmdev_region *region;
	int pair[2], fds[4];
	char *here;

	need_backend();
	region = shmdev_region_create(2 * MIB, 0);
	CHECK_EQ(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, pair), 0);
	CHECK_EQ(shmdev_send(pair[0], shmdev_region_addr(region), 0), 0);
	CHECK_EQ(recv(pair[1], &good, sizeof(good), 0), sizeof(good));
	for (int i = 0; i < 4; i++)
		fds[i] = shmdev_region_fd(region);
	descriptors = count_descriptors();

#define TRY(error, len, nr, change)						\
	do {									\
		message = good;							\
		change;								\
		raw_send(pair[0], &message, len, fds, nr);			\
		CHECK_FAILS(shmdev_recv(pair[1], NULL), error);			\
		CHECK_EQ(count_descriptors(), descriptors);			\
	} while (0)
	TRY(EBADMSG, sizeof(good), 0, (void)0);
	TRY(EBADMSG, sizeof(good) - 1, 1, (void)0);
	TRY(EBADMSG, 1, 1, (void)0);
	TRY(EBADMSG, sizeof(good), 4, (void)0);
	TRY(EBADMSG, sizeof(good), 1, message.magic++);
	TRY(EPROTONOSUPPORT, sizeof(good), 1, message.version++);
	TRY(EPROTONOSUPPORT, sizeof(good), 1, message.reserved++);
	TRY(EINVAL, sizeof(good), 1, message.size = 0);
	TRY(EINVAL, sizeof(good), 1, message.size += 1);
	TRY(EINVAL, sizeof(good), 1, message.offset = UINT64_MAX);
	TRY(EINVAL, sizeof(good), 1, message.offset = good.size + 1);
	fds[0] = pair[0];
	TRY(EINVAL, sizeof(good), 1, (void)0);
	fds[0] = memfd_create("test", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	CHECK_EQ(ftruncate(fds[0], 2 * MIB), 0);
	descriptors++;
	TRY(EINVAL, sizeof(good), 1, (void)0);	/* it could shrink */
#undef TRY
	raw_send(pair[0], &good, sizeof(good), &fds[1], 1);
	here = shmdev_recv(pair[1], NULL);
	CHECK(here == shmdev_region_addr(region));
	shmdev_detach(here);
	shmdev_region_unref(region);
}

static void *attach_and_detach(void *argument)
{
	const struct shmdev_handle *handle = argument;

	for (int i = 0; i < 300; i++) {
		char *here = shmdev_attach(handle);

		CHECK(here);
		__atomic_add_fetch((int *)here, 1, __ATOMIC_RELAXED);
		shmdev_detach(here);
	}
	return NULL;
}

static void threads_attach_and_detach(void)
{
	struct shmdev_handle handle;
	pthread_t threads[4];
	pid_t child;
	char *here;
	int end, before;

	need_backend();
	child = exporter(2 * MIB, &handle, &end);
	here = shmdev_attach(&handle);
	before = *(int *)here;
	shmdev_detach(here);
	for (int i = 0; i < 4; i++)
		CHECK_EQ(pthread_create(&threads[i], NULL, attach_and_detach, &handle), 0);
	for (int i = 0; i < 4; i++)
		CHECK_EQ(pthread_join(threads[i], NULL), 0);
	CHECK_EQ(info_now().regions, 0);
	here = shmdev_attach(&handle);
	CHECK_EQ(*(int *)here, before + 4 * 300);
	shmdev_detach(here);
	end_exporter(child, end);
}

static void no_descriptor_left(void)
{
	struct shmdev_handle handle;
	unsigned int descriptors;
	int spare[64], nr = 0, end;
	pid_t child;
	char *here;

	need_backend();
	child = exporter(2 * MIB, &handle, &end);
	shmdev_detach(shmdev_attach(&handle));
	descriptors = count_descriptors();
	CHECK_EQ(prlimit(0, RLIMIT_NOFILE, &(struct rlimit){ descriptors + 8, 64 }, NULL), 0);
	while ((spare[nr] = dup(2)) >= 0)
		nr++;
	/* One descriptor more each time, until there are enough. */
	while (!(here = shmdev_attach(&handle))) {
		CHECK_EQ(errno, EMFILE);
		CHECK(nr > 0);
		close(spare[--nr]);
	}
	shmdev_detach(here);
	while (nr)
		close(spare[--nr]);
	CHECK_EQ(count_descriptors(), descriptors);
	end_exporter(child, end);
}

/* --- storms -------------------------------------------------------------------------- */

/* Attach what comes, at any time of its exporter's life, until killed. */
static void attacher(int from)
{
	struct shmdev_handle handle;

	while (read(from, &handle, sizeof(handle)) == sizeof(handle)) {
		char *here = handle.offset % 128 ? shmdev_attach(&handle) :
						   (char *)shmdev_attach_rdonly(&handle);

		if (!here) {
			if (errno != ENOENT && errno != EACCES)
				_exit(1);
			continue;
		}
		/* What is there is what was exported, and nothing else's. */
		if (handle.size >= 64 && !pattern_is(here, 64, 5, 0))
			_exit(2);
		shmdev_detach(here);
	}
	_exit(0);
}

static void storming_exporter(int to, unsigned int number)
{
	uint32_t random = number * 2654435761U | 1;

	for (;;) {
		size_t size = 64 << random_below(&random, 17);
		char *block = shm_alloc(size);
		struct shmdev_handle handle;

		if (!block)
			_exit(errno == ENOMEM ? 0 : 1);
		pattern_write(block, 64, 5, 0);
		if (shmdev_export(block, &handle))
			_exit(1);
		for (int i = 0; i < 3; i++)
			if (write(to, &handle, sizeof(handle)) != sizeof(handle))
				_exit(1);
		if (random_below(&random, 2))
			shm_free(block);
	}
}

/* KiB that the machine has given to memory of the kind in use, or 0 if it does not say. */
static long memory_in_use(enum shmdev_backend backend)
{
	long kib[4] = { 0 };
	static const char *const fields[] = {
		"HugePages_Total:", "HugePages_Free:", "HugePages_Rsvd:", "Shmem:",
	};
	FILE *meminfo = fopen("/proc/meminfo", "re");
	char line[128];

	CHECK(meminfo);
	while (fgets(line, sizeof(line), meminfo))
		for (int i = 0; i < 4; i++)
			if (!strncmp(line, fields[i], strlen(fields[i])))
				kib[i] = atol(line + strlen(fields[i]));
	fclose(meminfo);
	switch (backend) {
	case SHMDEV_BACKEND_DEVICE:
		return 0;
	case SHMDEV_BACKEND_HUGETLB:
		return (kib[0] - (kib[1] - kib[2])) * 2048;
	default:
		return kib[3];
	}
}

static void kill_storm(void)
{
	enum shmdev_backend backend;
	long before, after = 0;
	const char *soak = getenv("SHMDEV_SOAK");
	int rounds = 40 * (soak ? atoi(soak) : 1);
	unsigned int descriptors;
	uint32_t random = 99;
	int channel[2];

	backend = need_backend();
	CHECK_EQ(pipe(channel), 0);
	info_now();
	before = memory_in_use(backend);
	descriptors = count_descriptors();
	for (int round = 0; round < rounds; round++) {
		pid_t children[4];

		for (unsigned int i = 0; i < 4; i++) {
			fflush(stdout);
			children[i] = fork();
			CHECK(children[i] >= 0);
			if (children[i])
				continue;
			if (i % 2)
				attacher(channel[0]);
			storming_exporter(channel[1], round * 4 + i);
		}
		usleep(2000 + random_below(&random, 20000));
		/* In any order; those who are left go on with handles of the dead. */
		for (unsigned int left = 4; left; left--) {
			unsigned int i = random_below(&random, left);
			int status;

			CHECK_EQ(kill(children[i], SIGKILL), 0);
			CHECK_EQ(waitpid(children[i], &status, 0), children[i]);
			if (!WIFSIGNALED(status))
				CHECK_EQ(status, 0);
			children[i] = children[left - 1];
		}
	}
	CHECK_EQ(info_now().regions, 0);
	CHECK_EQ(count_descriptors(), descriptors);
	CHECK_EQ(count_region_mappings(), 0);
	/* Others use the machine too: what would be left here is more, and stays. */
	for (int tries = 0; tries < 200; tries++) {
		after = memory_in_use(backend);
		if (after <= before + 8192)
			return;
		usleep(50000);
	}
	tap_note("%ld KiB in use before, %ld after", before, after);
	exit(1);
}

static const struct tap_test tests[] = {
	TAP_TEST(by_pipe_file_environment_and_argument),
	TAP_TEST(export_of_anything),
	TAP_TEST(region_of_anything),
	TAP_TEST(what_was_exported_is_not_used_again),
	TAP_TEST(attach_here_is_the_same),
	TAP_TEST(detach_of_what_was_not_attached_aborts),
	TAP_TEST(exporter_gone_after_the_attach),
	TAP_TEST(exporter_gone_before_the_attach),
	TAP_TEST(a_zombie_has_nothing),
	TAP_TEST(a_number_used_again_is_not_opened),
	TAP_TEST(another_user_may_not),
	TAP_TEST(without_proc_memfds_say_so),
	TAP_TEST(another_mount_namespace_is_no_obstacle),
	TAP_TEST(another_pid_namespace_says_so),
	TAP_TEST(of_another_machine_says_so),
	TAP_TEST(a_child_exports_what_it_inherited),
	TAP_TEST(a_child_has_what_its_parent_attached),
	TAP_TEST(attach_to_read),
	TAP_TEST(open_to_read),
	TAP_TEST(seal),
	TAP_TEST(seal_with_a_writer_is_busy),
	TAP_TEST(layout_is_for_ever),
	TAP_TEST(text_is_for_ever),
	TAP_TEST(parse_is_strict),
	TAP_TEST(bad_structs),
	TAP_TEST(send_and_receive),
	TAP_TEST(send_errors),
	TAP_TEST(receive_is_not_fooled),
	TAP_TEST(threads_attach_and_detach),
	TAP_TEST(no_descriptor_left),
	TAP_TEST(kill_storm),
};

int main(int argc, char **argv)
{
	if (argc == 4 && !strcmp(argv[1], "--attach"))
		return attach_main(argv[2], argv[3]);
	return tap_run(tests, sizeof(tests) / sizeof(tests[0]), argc, argv);
}
