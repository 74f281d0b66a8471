/* SPDX-License-Identifier: LGPL-2.1-or-later OR MIT */
/*
 * What a fork must find in order, and the order of all locks of the library.
 *
 *   fork gate  >  heap  >  regions  >  ready regions  >  rings  >  malloc's own
 *
 * The gate is held for reading (by any number of threads) while a descriptor or a
 * mapping is in the hands of a thread and in no table, and for writing by fork().
 * So a child never inherits a mapping that nobody knows of and nobody gives back.
 * It is not recursive: calls of the API take it, what they are made of does not.
 */
#ifndef SHMDEV_LIB_FORK_H
#define SHMDEV_LIB_FORK_H

/* Before anything is made that a fork matters to.  0 or -errno. */
int fork_init(void);

void fork_gate_enter(void);
void fork_gate_leave(void);

#endif
