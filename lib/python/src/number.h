/* SPDX-License-Identifier: LGPL-2.1-or-later OR MIT */
/*
 * The numbers that arrays are made of, and how PEP 3118 spells them.  Knows
 * nothing of Python objects.
 */
#ifndef SHMDEV_PYTHON_NUMBER_H
#define SHMDEV_PYTHON_NUMBER_H

#include <stdbool.h>
#include <stddef.h>

enum number {
	NUMBER_BOOL,
	NUMBER_CHAR,	/* one byte that Python shows as bytes: c_char */
	NUMBER_I8,
	NUMBER_U8,
	NUMBER_I16,
	NUMBER_U16,
	NUMBER_I32,
	NUMBER_U32,
	NUMBER_I64,
	NUMBER_U64,
	NUMBER_F16,
	NUMBER_F32,
	NUMBER_F64,
	NUMBER_LONG_DOUBLE,
	NUMBER_NR,
	NUMBER_UNKNOWN = NUMBER_NR,
};

/* A number in one of the two byte orders. */
struct format {
	enum number number;
	bool swapped;		/* not in this machine's byte order */
};

size_t number_size(enum number number);
bool number_is_integer(enum number number);	/* not bool, not char */
bool number_is_signed(enum number number);	/* an integer with a sign */
bool number_is_float(enum number number);

/*
 * What a buffer of @itemsize bytes an item and PEP 3118 @format (NULL is "B") holds.
 * NUMBER_UNKNOWN for all that is not a single number.
 */
struct format format_parse(const char *format, size_t itemsize);

#endif /* SHMDEV_PYTHON_NUMBER_H */
