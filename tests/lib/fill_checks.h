/* SPDX-License-Identifier: LGPL-2.1-or-later OR MIT */
/* What fills have to come to, whatever is in their way; each check for a test to call. */
#ifndef SHMDEV_TESTS_FILL_CHECKS_H
#define SHMDEV_TESTS_FILL_CHECKS_H

#include "transfer.h"

/* How long the file of the first check is. */
#define FILE_LEN	(5 * MIB + 1234)

/*
 * Every size at every offset, one by one, and all in one batch, from @file, of pattern 3,
 * which is closed.  @direct: a block is the least that is written, within what was asked
 * for.
 */
void check_sizes_and_offsets_of(int file, bool direct);
void check_sizes_and_offsets(void);
void check_many_small(void);

/* Several requests of one pipe are done in order; the last finds the end. */
void check_stream(int reader, int write_end);
void check_pipe(void);
void check_two_pipes(void);
void check_nonblocking(void);

void check_bad_requests(void);
void check_half_a_file(void);

#endif
