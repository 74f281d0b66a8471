/* SPDX-License-Identifier: LGPL-2.1-or-later OR MIT */
/*
 * Tests that print TAP.  Each runs in a process of its own: with a library that has
 * not been used, with limits, filters and credentials of its own, and if it crashes
 * or hangs it takes no other with it.
 */
#ifndef SHMDEV_TESTS_TAP_H
#define SHMDEV_TESTS_TAP_H

#include <errno.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

struct tap_test {
	const char *name;
	void (*run)(void);
};

#define TAP_TEST(function)	{ #function, function }

#define TAP_SKIPPED		77
#define TAP_TIMEOUT		300

/* Where a test says why it was skipped.  One for all files of a program. */
__attribute__((weak)) int tap_reason_fd = -1;

static inline void tap_note(const char *format, ...)
	__attribute__((format(printf, 1, 2)));
static inline void tap_note(const char *format, ...)
{
	va_list args;

	va_start(args, format);
	printf("# ");
	vprintf(format, args);
	printf("\n");
	va_end(args);
	fflush(stdout);
}

static inline _Noreturn void tap_skip(const char *format, ...)
	__attribute__((format(printf, 1, 2)));
static inline _Noreturn void tap_skip(const char *format, ...)
{
	va_list args;

	va_start(args, format);
	vdprintf(tap_reason_fd, format, args);
	va_end(args);
	exit(TAP_SKIPPED);
}

#define CHECK(condition)							\
	do {									\
		if (!(condition)) {						\
			int errno_ = errno;					\
										\
			tap_note("%s:%d: not so: %s (errno %d, %s)", __FILE__,	\
				 __LINE__, #condition, errno_, strerror(errno_)); \
			exit(1);						\
		}								\
	} while (0)

#define CHECK_EQ(value, expected)						\
	do {									\
		long long value_ = (long long)(value);				\
		long long expected_ = (long long)(expected);			\
										\
		if (value_ != expected_) {					\
			tap_note("%s:%d: %s is %lld (%#llx), not %lld (%#llx)",	\
				 __FILE__, __LINE__, #value, value_, value_,	\
				 expected_, expected_);				\
			exit(1);						\
		}								\
	} while (0)

/* That @pointer is NULL, and errno is @error. */
#define CHECK_FAILS(pointer, error)						\
	do {									\
		errno = 0;							\
		CHECK((pointer) == NULL);					\
		CHECK_EQ(errno, error);						\
	} while (0)

static inline _Noreturn void tap_child(const struct tap_test *test, int reason_fd)
{
	tap_reason_fd = reason_fd;
	setpgid(0, 0);
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	alarm(TAP_TIMEOUT);
	test->run();
	exit(0);
}

/* True if the test did not fail. */
static inline int tap_run_one(const struct tap_test *test, size_t number)
{
	char reason[512] = "";
	int pipes[2], status;
	ssize_t len;
	pid_t child;

	fflush(stdout);
	if (pipe(pipes)) {
		perror("pipe");
		exit(1);
	}
	child = fork();
	if (child < 0) {
		perror("fork");
		exit(1);
	}
	if (!child) {
		close(pipes[0]);
		tap_child(test, pipes[1]);
	}
	close(pipes[1]);
	while (waitpid(child, &status, 0) < 0 && errno == EINTR)
		;
	/* Nothing that it started outlives it. */
	kill(-child, SIGKILL);
	if (WIFEXITED(status) && WEXITSTATUS(status) == TAP_SKIPPED) {
		len = read(pipes[0], reason, sizeof(reason) - 1);
		printf("ok %zu %s # SKIP %s\n", number, test->name, len > 0 ? reason : "");
	} else if (WIFEXITED(status) && !WEXITSTATUS(status)) {
		printf("ok %zu %s\n", number, test->name);
	} else {
		if (WIFSIGNALED(status))
			tap_note("killed by signal %d, %s", WTERMSIG(status),
				 strsignal(WTERMSIG(status)));
		else
			tap_note("exit status %d", WEXITSTATUS(status));
		printf("not ok %zu %s\n", number, test->name);
		close(pipes[0]);
		return 0;
	}
	close(pipes[0]);
	return 1;
}

/* With names as arguments: only those.  The exit status of the program. */
static inline int tap_run(const struct tap_test *tests, size_t nr, int argc, char **argv)
{
	size_t chosen = 0, number = 0;
	int good = 1;

	for (size_t i = 0; i < nr; i++)
		for (int a = 1; a < argc; a++)
			chosen += !strcmp(argv[a], tests[i].name);
	printf("1..%zu\n", argc > 1 ? chosen : nr);
	for (size_t i = 0; i < nr; i++) {
		int wanted = argc == 1;

		for (int a = 1; a < argc; a++)
			wanted |= !strcmp(argv[a], tests[i].name);
		if (wanted)
			good &= tap_run_one(&tests[i], ++number);
	}
	return !good;
}

#define TAP_MAIN(...)								\
	int main(int argc, char **argv)						\
	{									\
		static const struct tap_test tests[] = { __VA_ARGS__ };		\
										\
		return tap_run(tests, sizeof(tests) / sizeof(tests[0]), argc, argv); \
	}

#endif
