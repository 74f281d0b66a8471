/* SPDX-License-Identifier: LGPL-2.1-or-later OR MIT */
/*
 * SHMDEV_DEBUG=1: what was decided and why, on standard error, a line and a write(2) for
 * each.  No lock, no allocation, no stdio of the program's: it may be used wherever the
 * library is, between fork() and execve() too.  Off, it costs a load and a branch.
 */
#ifndef SHMDEV_LIB_DEBUG_H
#define SHMDEV_LIB_DEBUG_H

#include <stdbool.h>

enum debug_state { DEBUG_UNKNOWN, DEBUG_OFF, DEBUG_ON };

extern int debug_state;		/* atomic */

bool debug_read(void);
void debug_say(const char *format, ...) __attribute__((format(printf, 1, 2), cold));

static inline bool debug_on(void)
{
	int state = __atomic_load_n(&debug_state, __ATOMIC_RELAXED);

	return state == DEBUG_UNKNOWN ? debug_read() : state == DEBUG_ON;
}

#define debug(...)								\
	do {									\
		if (__builtin_expect(debug_on(), false))			\
			debug_say(__VA_ARGS__);					\
	} while (0)

#endif
