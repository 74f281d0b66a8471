// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/* Handles: what is exported and attached, and what comes of those that are gone. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <pthread.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include "handle_checks.h"
#include "tap.h"
#include "util.h"

#define MIB	((size_t)1 << 20)

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
	wrong = handle;			/* that was never opened */
	wrong.fd = 1000;
	CHECK_FAILS(shmdev_attach(&wrong), ENOENT);
	wrong.started++;
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
	TAP_TEST(threads_attach_and_detach),
	TAP_TEST(no_descriptor_left),
};

int main(int argc, char **argv)
{
	return handle_run(tests, sizeof(tests) / sizeof(tests[0]), argc, argv);
}
