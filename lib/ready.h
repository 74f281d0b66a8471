/* SPDX-License-Identifier: LGPL-2.1-or-later OR MIT */
/*
 * Regions of memfds that are ready before they are asked for.
 *
 * The lock is the innermost but malloc's: fork gate > heap > regions > ready.  The callers
 * of ready_take() and ready_yield() are behind the gate.
 */
#ifndef SHMDEV_LIB_READY_H
#define SHMDEV_LIB_READY_H

#include <stdbool.h>
#include <stddef.h>

#include "backend.h"

/*
 * A ready region of at least @size bytes, which is the caller's from now on; false: there is
 * none, and one of this size is wanted from now on.
 */
bool ready_take(size_t size, struct backing *backing);

/*
 * Give back what is ready, of huge pages or of ordinary memory, for somebody who finds none
 * left.  Whether there was anything.
 */
bool ready_yield(enum shmdev_backend backend);

void ready_fork_prepare(void);
void ready_fork_parent(void);
void ready_fork_child(void);

#endif
