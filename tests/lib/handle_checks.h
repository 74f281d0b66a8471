/* SPDX-License-Identifier: LGPL-2.1-or-later OR MIT */
/* What the tests of handles have in common. */
#ifndef SHMDEV_TESTS_HANDLE_CHECKS_H
#define SHMDEV_TESTS_HANDLE_CHECKS_H

#include <shmdev.h>
#include <sys/types.h>

#include "tap.h"

/* Of what can be exported. */
struct shmdev_handle export_of(const void *ptr);

/* A child that exports @size bytes of the pattern 5, and lives until *@end is closed. */
pid_t exporter(size_t size, struct shmdev_handle *handle, int *end);
void end_exporter(pid_t child, int end);

/*
 * A process that knows nothing of this one attaches what "pipe", "file", "environment" or
 * "argument" has @where (in the environment: @value), and adds 1 to the int there.  What that
 * was before, or the error.  The program must be run by handle_run().
 */
int exec_attach(const char *how, const char *where, const char *value);
int handle_run(const struct tap_test *tests, size_t nr, int argc, char **argv);

#endif
