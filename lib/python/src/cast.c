// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/*
 * What needs no more than ctypes' conversion goes to convert_column() as a whole.  The
 * rest goes through a buffer piece by piece: floats become 64-bit integers there, and
 * what is beyond the target's range is clamped, before it is converted as usual.
 */
#include "cast.h"

#include <float.h>
#include <math.h>
#include <stdint.h>

#define PIECE 512

/* A piece of numbers as integers of any size, double or long double. */
union piece {
	_Alignas(64) char bytes[PIECE * sizeof(long double)];
	int64_t i64[PIECE];
	uint64_t u64[PIECE];
	double f64[PIECE];
	long double ld[PIECE];
};

static int kind(enum number number)
{
	if (number == NUMBER_BOOL)
		return 0;
	if (number_is_float(number))
		return 3;
	return number_is_signed(number) ? 2 : 1;
}

/* Whether @to holds every value of @from; by numpy, a double holds 64-bit integers. */
static bool cast_is_safe(enum number to, enum number from)
{
	size_t to_size = number_size(to), from_size = number_size(from);

	if (kind(to) < kind(from))
		return false;
	if (kind(to) == kind(from))
		return to_size >= from_size;
	if (kind(from) == 0)
		return true;
	return to_size > from_size || (kind(to) == 3 && to_size >= sizeof(double));
}

bool cast_is_allowed(enum casting casting, const struct format *to, const struct format *from)
{
	switch (casting) {
	case CASTING_NO:
		return to->number == from->number && to->swapped == from->swapped;
	case CASTING_EQUIV:
		return to->number == from->number;
	case CASTING_SAFE:
		return cast_is_safe(to->number, from->number);
	case CASTING_SAME_KIND:
		return kind(to->number) >= kind(from->number);
	default:
		return true;
	}
}

/* --- pieces: each changes the numbers of a piece, and tells what was beyond -------- */

/* What lies in the ranges of two integer types. */
struct range {
	int64_t low;
	uint64_t high;
};

static int64_t integer_min(enum number number)
{
	return number_is_signed(number) ? INT64_MIN >> (64 - 8 * number_size(number)) : 0;
}

static uint64_t integer_max(enum number number)
{
	unsigned int bits = 8 * number_size(number) - number_is_signed(number);

	return UINT64_MAX >> (64 - bits);
}

static struct range range_of(enum number a, enum number b)
{
	struct range range = { integer_min(a), integer_max(a) };

	if (integer_min(b) > range.low)
		range.low = integer_min(b);
	if (integer_max(b) < range.high)
		range.high = integer_max(b);
	return range;
}

#define CLAMP(type)								\
static unsigned int clamp_##type(void *items, size_t n, struct range range)	\
{										\
	const type low = range.low, high = range.high;				\
	bool beyond = false;							\
	type *item = items;							\
										\
	for (size_t i = 0; i < n; i++) {					\
		type clamped = item[i] < low ? low : item[i] > high ? high : item[i]; \
										\
		beyond |= clamped != item[i];					\
		item[i] = clamped;						\
	}									\
	return beyond ? CAST_OUT_OF_RANGE : 0;					\
}

CLAMP(int8_t) CLAMP(uint8_t) CLAMP(int16_t) CLAMP(uint16_t)
CLAMP(int32_t) CLAMP(uint32_t) CLAMP(int64_t) CLAMP(uint64_t)

static unsigned int piece_clamp(union piece *piece, enum number number, size_t n,
				struct range range)
{
	switch (number) {
	case NUMBER_I8:
		return clamp_int8_t(piece, n, range);
	case NUMBER_U8:
		return clamp_uint8_t(piece, n, range);
	case NUMBER_I16:
		return clamp_int16_t(piece, n, range);
	case NUMBER_U16:
		return clamp_uint16_t(piece, n, range);
	case NUMBER_I32:
		return clamp_int32_t(piece, n, range);
	case NUMBER_U32:
		return clamp_uint32_t(piece, n, range);
	case NUMBER_I64:
		return clamp_int64_t(piece, n, range);
	default:
		return clamp_uint64_t(piece, n, range);
	}
}

/*
 * Floats to 64-bit integers, in place.  A double has no values between 2**63 - 1 and
 * 2**63, and a long double has no fractions there: the comparisons are exact.
 */
#define INTEGERS_OF(type, modulo)						\
static unsigned int type##_to_i64(type *from, int64_t *to, size_t n)		\
{										\
	unsigned int flags = 0;							\
										\
	for (size_t i = 0; i < n; i++) {					\
		type value = from[i];						\
										\
		if (value >= -0x1p63 && value < 0x1p63) {			\
			to[i] = (int64_t)value;					\
			continue;						\
		}								\
		flags |= isnan(value) ? CAST_NO_INTEGER : CAST_OUT_OF_RANGE;	\
		to[i] = isnan(value) ? 0 : value < 0 ? INT64_MIN : INT64_MAX;	\
	}									\
	return flags;								\
}										\
										\
static unsigned int type##_to_u64(type *from, uint64_t *to, size_t n)		\
{										\
	unsigned int flags = 0;							\
										\
	for (size_t i = 0; i < n; i++) {					\
		type value = from[i];						\
										\
		if (value > -1 && value < 0x1p64) {				\
			to[i] = (uint64_t)value;				\
			continue;						\
		}								\
		flags |= isnan(value) ? CAST_NO_INTEGER : CAST_OUT_OF_RANGE;	\
		to[i] = value > 0 ? UINT64_MAX : 0;				\
	}									\
	return flags;								\
}										\
										\
static unsigned int type##_wrapped(type *from, uint64_t *to, size_t n)		\
{										\
	unsigned int flags = 0;							\
										\
	for (size_t i = 0; i < n; i++) {					\
		type value = from[i];						\
										\
		if (value >= -0x1p63 && value < 0x1p63) {			\
			to[i] = (int64_t)value;					\
		} else if (isfinite(value)) {					\
			value = modulo(value, (type)0x1p64);			\
			to[i] = value < 0 ? -(uint64_t)-value : (uint64_t)value; \
		} else {							\
			flags = CAST_NO_INTEGER;				\
			to[i] = 0;						\
		}								\
	}									\
	return flags;								\
}

typedef long double long_double;

INTEGERS_OF(double, fmod)
INTEGERS_OF(long_double, fmodl)

/* To the integers that @to is clamped from: their type. */
static enum number piece_truncate(union piece *piece, enum number number, size_t n,
				  enum number to, enum overflow overflow, unsigned int *flags)
{
	bool is_double = number == NUMBER_F64;

	if (overflow == OVERFLOW_WRAP) {
		*flags |= is_double ? double_wrapped(piece->f64, piece->u64, n) :
				      long_double_wrapped(piece->ld, piece->u64, n);
		return NUMBER_U64;
	}
	if (to == NUMBER_U64) {
		*flags |= is_double ? double_to_u64(piece->f64, piece->u64, n) :
				      long_double_to_u64(piece->ld, piece->u64, n);
		return NUMBER_U64;
	}
	*flags |= is_double ? double_to_i64(piece->f64, piece->i64, n) :
			      long_double_to_i64(piece->ld, piece->i64, n);
	return NUMBER_I64;
}

/* Finite values that would become infinities, to the largest that does not. */
static unsigned int piece_clamp_floats(union piece *piece, enum number number, size_t n,
				       enum number to)
{
	unsigned int flags = 0;

	for (size_t i = 0; i < n; i++) {
		long double value = number == NUMBER_F64 ? piece->f64[i] : piece->ld[i];
		bool fits = to == NUMBER_F32 ? !isinf((float)(double)value) :
					       !isinf((double)value);

		if (fits || isinf(value))
			continue;
		flags = CAST_OUT_OF_RANGE;
		value = copysignl(to == NUMBER_F32 ? (long double)FLT_MAX : DBL_MAX, value);
		if (number == NUMBER_F64)
			piece->f64[i] = value;
		else
			piece->ld[i] = value;
	}
	return flags;
}

/* --- columns ----------------------------------------------------------------------- */

/* Whether convert_column() does by itself what @overflow asks for. */
static bool cast_is_plain(enum number to, enum number from, enum overflow overflow)
{
	struct range range;

	if (to == NUMBER_BOOL || from == NUMBER_BOOL)
		return true;
	if (number_is_float(to))
		return overflow == OVERFLOW_WRAP || !number_is_float(from) ||
		       number_size(to) >= number_size(from);
	if (number_is_float(from))
		return false;
	range = range_of(to, from);
	return overflow == OVERFLOW_WRAP ||
	       (range.low == integer_min(from) && range.high == integer_max(from));
}

/*
 * Load @n numbers into @piece as they may be converted to @to.  Returns their type; what
 * was not as it should be is added to *@flags.
 */
static enum number piece_load(union piece *piece, const struct column *from, size_t n,
			      enum number to, enum overflow overflow, unsigned int *flags)
{
	enum number number = from->format.number;
	struct column loaded;

	if (number == NUMBER_F16 || number == NUMBER_F32)
		number = NUMBER_F64;
	loaded = (struct column){
		.first = piece->bytes,
		.stride = number_size(number),
		.format.number = number,
	};
	(void)convert_column(&loaded, from, n);		/* no overlap: it cannot fail */

	if (number_is_float(to)) {
		*flags |= piece_clamp_floats(piece, number, n, to);
		return number;
	}
	if (number_is_float(number))
		number = piece_truncate(piece, number, n, to, overflow, flags);
	if (overflow != OVERFLOW_WRAP)
		*flags |= piece_clamp(piece, number, n, range_of(to, number));
	return number;
}

static struct column column_at(const struct column *column, size_t at)
{
	struct column rest = *column;

	rest.first += (ptrdiff_t)at * rest.stride;
	return rest;
}

unsigned int cast_check(enum number to, const struct column *from, size_t n,
			enum overflow overflow)
{
	unsigned int flags = 0;
	union piece piece;

	if (overflow == OVERFLOW_SATURATE || cast_is_plain(to, from->format.number, overflow))
		return 0;
	for (size_t at = 0; at < n && !flags; at += PIECE) {
		struct column rest = column_at(from, at);

		piece_load(&piece, &rest, n - at < PIECE ? n - at : PIECE, to, overflow, &flags);
	}
	return flags;
}

void cast_store(const struct column *to, const struct column *from, size_t n,
		enum overflow overflow)
{
	unsigned int flags = 0;		/* cast_check() has looked */
	union piece piece;

	if (cast_is_plain(to->format.number, from->format.number, overflow)) {
		(void)convert_column(to, from, n);	/* no overlap: it cannot fail */
		return;
	}
	for (size_t at = 0; at < n; at += PIECE) {
		struct column source = column_at(from, at), target = column_at(to, at);
		size_t step = n - at < PIECE ? n - at : PIECE;

		source.format.number = piece_load(&piece, &source, step, to->format.number,
						  overflow, &flags);
		source.format.swapped = false;
		source.first = piece.bytes;
		source.stride = number_size(source.format.number);
		(void)convert_column(&target, &source, step);
	}
}
