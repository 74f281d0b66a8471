// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
#define _GNU_SOURCE
#include "handle_checks.h"

#include <fcntl.h>

#include "util.h"

struct shmdev_handle export_of(const void *ptr)
{
	struct shmdev_handle handle;

	memset(&handle, 0xff, sizeof(handle));
	CHECK_EQ(shmdev_export(ptr, &handle), 0);
	return handle;
}

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

int exec_attach(const char *how, const char *where, const char *value)
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

pid_t exporter(size_t size, struct shmdev_handle *handle, int *end)
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

void end_exporter(pid_t child, int end)
{
	close(end);
	wait_good(child);
}

int handle_run(const struct tap_test *tests, size_t nr, int argc, char **argv)
{
	if (argc == 4 && !strcmp(argv[1], "--attach"))
		return attach_main(argv[2], argv[3]);
	return tap_run(tests, nr, argc, argv);
}
