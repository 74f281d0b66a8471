/* SPDX-License-Identifier: LGPL-2.1-or-later OR MIT */
/* Conversions by rules other than ctypes': numpy's.  Knows nothing of Python objects. */
#ifndef SHMDEV_PYTHON_CAST_H
#define SHMDEV_PYTHON_CAST_H

#include "convert.h"

/* Which casts are meant: as numpy has it, each allows what the one before does. */
enum casting { CASTING_NO, CASTING_EQUIV, CASTING_SAFE, CASTING_SAME_KIND, CASTING_UNSAFE };

/* What becomes of a value that the target cannot hold. */
enum overflow { OVERFLOW_WRAP, OVERFLOW_RAISE, OVERFLOW_SATURATE };

bool cast_is_allowed(enum casting casting, const struct format *to, const struct format *from);

/* What is the matter with some of the numbers. */
#define CAST_NO_INTEGER		(1U << 0)	/* a NaN, or with WRAP an infinity; not with SATURATE */
#define CAST_OUT_OF_RANGE	(1U << 1)

/*
 * Look for numbers of @from that cannot be stored as @to by the rule @overflow, and
 * stores nothing.  CAST_*, or 0 if there is none.
 */
unsigned int cast_check(enum number to, const struct column *from, size_t n,
			enum overflow overflow);

/*
 * Store the @n numbers of @from, of which cast_check() found nothing to say, in @to.
 * They do not overlap.  Floats lose their fractions where they become integers.
 */
void cast_store(const struct column *to, const struct column *from, size_t n,
		enum overflow overflow);

#endif /* SHMDEV_PYTHON_CAST_H */
