// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/* PEP 3118 formats of single numbers. */
#include "number.h"

#include <stdint.h>

enum class { CLASS_NONE, CLASS_BOOL, CLASS_CHAR, CLASS_SIGNED, CLASS_UNSIGNED, CLASS_FLOAT };

static const struct {
	enum class class;
	size_t size;
} numbers[NUMBER_NR] = {
	[NUMBER_BOOL] = { CLASS_BOOL, 1 },
	[NUMBER_CHAR] = { CLASS_CHAR, 1 },
	[NUMBER_I8] = { CLASS_SIGNED, 1 },
	[NUMBER_U8] = { CLASS_UNSIGNED, 1 },
	[NUMBER_I16] = { CLASS_SIGNED, 2 },
	[NUMBER_U16] = { CLASS_UNSIGNED, 2 },
	[NUMBER_I32] = { CLASS_SIGNED, 4 },
	[NUMBER_U32] = { CLASS_UNSIGNED, 4 },
	[NUMBER_I64] = { CLASS_SIGNED, 8 },
	[NUMBER_U64] = { CLASS_UNSIGNED, 8 },
	[NUMBER_F16] = { CLASS_FLOAT, 2 },
	[NUMBER_F32] = { CLASS_FLOAT, 4 },
	[NUMBER_F64] = { CLASS_FLOAT, 8 },
	[NUMBER_LONG_DOUBLE] = { CLASS_FLOAT, sizeof(long double) },
};

/* Sizes of a code in native mode and in standard mode; 0: not allowed there. */
static const struct {
	enum class class;
	unsigned char native, standard;
} codes[128] = {
	['?'] = { CLASS_BOOL, sizeof(_Bool), 1 },
	['c'] = { CLASS_CHAR, 1, 1 },
	['b'] = { CLASS_SIGNED, 1, 1 },
	['B'] = { CLASS_UNSIGNED, 1, 1 },
	['h'] = { CLASS_SIGNED, sizeof(short), 2 },
	['H'] = { CLASS_UNSIGNED, sizeof(short), 2 },
	['i'] = { CLASS_SIGNED, sizeof(int), 4 },
	['I'] = { CLASS_UNSIGNED, sizeof(int), 4 },
	['l'] = { CLASS_SIGNED, sizeof(long), 4 },
	['L'] = { CLASS_UNSIGNED, sizeof(long), 4 },
	['q'] = { CLASS_SIGNED, sizeof(long long), 8 },
	['Q'] = { CLASS_UNSIGNED, sizeof(long long), 8 },
	['n'] = { CLASS_SIGNED, sizeof(size_t), 0 },
	['N'] = { CLASS_UNSIGNED, sizeof(size_t), 0 },
	['e'] = { CLASS_FLOAT, 2, 2 },
	['f'] = { CLASS_FLOAT, sizeof(float), 4 },
	['d'] = { CLASS_FLOAT, sizeof(double), 8 },
	/* No standard size, but ctypes and numpy write '<g' for the native one. */
	['g'] = { CLASS_FLOAT, sizeof(long double), sizeof(long double) },
};

size_t number_size(enum number number)
{
	return numbers[number].size;
}

bool number_is_integer(enum number number)
{
	return numbers[number].class == CLASS_SIGNED || numbers[number].class == CLASS_UNSIGNED;
}

bool number_is_signed(enum number number)
{
	return numbers[number].class == CLASS_SIGNED;
}

bool number_is_float(enum number number)
{
	return numbers[number].class == CLASS_FLOAT;
}

struct format format_parse(const char *format, size_t itemsize)
{
	const bool little = __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__;
	const struct format unknown = { .number = NUMBER_UNKNOWN };
	struct format found = { .number = NUMBER_BOOL };
	bool standard = false;
	unsigned char code;
	size_t size;

	if (!format)
		format = "B";
	switch (*format) {
	case '<':
	case '>':
	case '!':
		found.swapped = (*format == '<') != little;
		/* fall through */
	case '=':
		standard = true;
		/* fall through */
	case '@':
	case '^':	/* numpy: native sizes, not aligned */
		format++;
	}

	code = *format;
	if (code >= sizeof(codes) / sizeof(codes[0]) || !code || format[1])
		return unknown;
	size = standard ? codes[code].standard : codes[code].native;
	if (codes[code].class == CLASS_NONE || !size || size != itemsize)
		return unknown;
	if (size == 1)
		found.swapped = false;
	/* Byte-swapped, it is a matter of its padding: nobody agrees on that. */
	if (code == 'g' && found.swapped)
		return unknown;

	while (numbers[found.number].class != codes[code].class ||
	       numbers[found.number].size != size)
		if (++found.number == NUMBER_NR)
			return unknown;
	return found;
}
