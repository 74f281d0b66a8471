// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/* Handles: who may use them, and from where; and what a child has of them. */
#define _GNU_SOURCE
#include <sched.h>
#include <sys/mman.h>
#include <sys/mount.h>

#include "handle_checks.h"
#include "tap.h"
#include "util.h"

#define MIB	((size_t)1 << 20)

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

static const struct tap_test tests[] = {
	TAP_TEST(another_user_may_not),
	TAP_TEST(without_proc_memfds_say_so),
	TAP_TEST(another_mount_namespace_is_no_obstacle),
	TAP_TEST(another_pid_namespace_says_so),
	TAP_TEST(of_another_machine_says_so),
	TAP_TEST(a_child_exports_what_it_inherited),
	TAP_TEST(a_child_has_what_its_parent_attached),
};

int main(int argc, char **argv)
{
	return handle_run(tests, sizeof(tests) / sizeof(tests[0]), argc, argv);
}
