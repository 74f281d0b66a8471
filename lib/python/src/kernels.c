// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/*
 * The innermost loops, written so that the compiler vectorises them for the
 * instruction set this object is compiled for.  -DKERNELS=name names the set.
 *
 * Values follow ctypes: integers wrap; whatever becomes a floating number passes
 * through a double, as it does through a Python float (an int64 that becomes a
 * float is rounded twice); truth is "not zero".
 */
#include "kernels.h"

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#ifndef KERNELS
#define KERNELS kernels_base
#endif

/*
 * Items may lie at any address and be accessed as any type.  Without aligned(1)
 * the vectoriser may use aligned moves once it has peeled a few items.
 */
#define UNALIGNED __attribute__((aligned(1), may_alias))
typedef uint8_t truth_item UNALIGNED;
typedef int8_t i8_item UNALIGNED;
typedef uint8_t u8_item UNALIGNED;
typedef int16_t i16_item UNALIGNED;
typedef uint16_t u16_item UNALIGNED;
typedef int32_t i32_item UNALIGNED;
typedef uint32_t u32_item UNALIGNED;
typedef int64_t i64_item UNALIGNED;
typedef uint64_t u64_item UNALIGNED;
typedef uint16_t f16_item UNALIGNED;
typedef float f32_item UNALIGNED;
typedef double f64_item UNALIGNED;
typedef long double ld_item UNALIGNED;
typedef unsigned __int128 u128_item UNALIGNED;

/*
 * Shifted into place a half is a float whose exponent is 112 too small; the
 * multiplication mends that, for subnormals too, and is exact.
 */
static inline float half_value(uint16_t half)
{
	uint32_t bits = (uint32_t)(half & 0x7fff) << 13;
	float value;

	memcpy(&value, &bits, sizeof(value));
	value *= 0x1p112f;
	memcpy(&bits, &value, sizeof(bits));
	bits |= (half & 0x7c00) == 0x7c00 ? 0x7f800000 : 0;
	bits |= (uint32_t)(half & 0x8000) << 16;
	memcpy(&value, &bits, sizeof(value));
	return value;
}

/* The value of a stored item ... */
#define truth_value(x)	((x) != 0)
#define i8_value(x)	(x)
#define u8_value(x)	(x)
#define i16_value(x)	(x)
#define u16_value(x)	(x)
#define i32_value(x)	(x)
#define u32_value(x)	(x)
#define i64_value(x)	(x)
#define u64_value(x)	(x)
#define f16_value(x)	half_value(x)
#define f32_value(x)	(x)
#define f64_value(x)	(x)
#define ld_value(x)	(x)

/* ... and the item that stores a value. */
#define truth_of(value)	((value) != 0)
#define u8_of(value)	((uint8_t)(value))
#define u16_of(value)	((uint16_t)(value))
#define u32_of(value)	((uint32_t)(value))
#define u64_of(value)	((uint64_t)(value))
#define f32_of(value)	((float)(double)(value))
#define f64_of(value)	((double)(value))
#define ld_of(value)	((long double)(double)(value))

#define CONVERT_AS(name, to, from, store)					\
static void name(void *target, const void *source, size_t n)			\
{										\
	to##_item *restrict t = target;						\
	const from##_item *restrict s = source;					\
										\
	for (size_t i = 0; i < n; i++)						\
		t[i] = store(from##_value(s[i]));				\
}

#define CONVERT_BY(to, from, store)	CONVERT_AS(to##_from_##from, to, from, store)
#define CONVERT(to, from)		CONVERT_BY(to, from, to##_of)

/* A float has all of these numbers: whether they are a double first makes no difference. */
#define CONVERT_FROM_SMALL(to, store)						\
	CONVERT_BY(to, truth, store)						\
	CONVERT_BY(to, i8, store) CONVERT_BY(to, u8, store)			\
	CONVERT_BY(to, i16, store) CONVERT_BY(to, u16, store)

#define CONVERT_FROM_OTHERS(to)							\
	CONVERT(to, i32) CONVERT(to, u32) CONVERT(to, i64) CONVERT(to, u64)	\
	CONVERT(to, f16) CONVERT(to, f32)

CONVERT_FROM_SMALL(truth, truth_of)	CONVERT_FROM_OTHERS(truth)
CONVERT_FROM_SMALL(f32, (float))	CONVERT_FROM_OTHERS(f32)
CONVERT_FROM_SMALL(f64, f64_of)		CONVERT_FROM_OTHERS(f64)
CONVERT_FROM_SMALL(ld, ld_of)		CONVERT_FROM_OTHERS(ld)

CONVERT(truth, f64) CONVERT(truth, ld)
CONVERT(f32, f64) CONVERT(f32, ld)
CONVERT(f64, ld)
CONVERT(ld, f64) CONVERT_AS(ld_rounded, ld, ld, ld_of)

#if __LDBL_MANT_DIG__ == 64
/* As the x87 has it: 64 bits of which the first is 1, and 15 of exponent. */
struct x87 {
	uint64_t mantissa, rest;
} UNALIGNED;

/* Whether all are 0 or normal numbers of doubles. */
static bool ld_are_doubles(const void *source, size_t n)
{
	const struct x87 *s = source;
	uint64_t odd = 0;

	for (size_t i = 0; i < n; i++) {
		uint64_t mantissa = s[i].mantissa, exponent = s[i].rest & 0x7fff;
		uint64_t any = mantissa | exponent, above = exponent - (16383 - 1022);
		/* In their first bits, which vectors have no faster way to compare. */
		uint64_t is_any = any | -any, is_beyond = above | (2 * 1022 + 1 - above);

		odd |= mantissa << 53 | (is_any & (is_beyond | ~mantissa)) >> 63;
	}
	return !odd;
}

/*
 * These are what they were once they have been doubles, and to see that takes a fifth of the
 * time in which the x87 makes them so.
 */
static void ld_from_ld(void *target, const void *source, size_t n)
{
	const size_t size = sizeof(long double);
	size_t step;

	for (size_t i = 0; i < n; i += step) {
		step = n - i < 64 ? n - i : 64;
		if (ld_are_doubles((const char *)source + i * size, step))
			memcpy((char *)target + i * size, (const char *)source + i * size,
			       step * size);
		else
			ld_rounded((char *)target + i * size, (const char *)source + i * size, step);
	}
}
#else
#define ld_from_ld	ld_rounded
#endif

/* Integers: signs only matter where the value gets wider. */
CONVERT(u8, truth) CONVERT(u8, u16) CONVERT(u8, u32) CONVERT(u8, u64)
CONVERT(u16, truth) CONVERT(u16, i8) CONVERT(u16, u8) CONVERT(u16, u32) CONVERT(u16, u64)
CONVERT(u32, truth) CONVERT(u32, i8) CONVERT(u32, u8) CONVERT(u32, i16) CONVERT(u32, u16)
CONVERT(u32, u64)
CONVERT(u64, truth) CONVERT(u64, i8) CONVERT(u64, u8) CONVERT(u64, i16) CONVERT(u64, u16)
CONVERT(u64, i32) CONVERT(u64, u32)

#define as_is(x)	(x)
#define swap16(x)	__builtin_bswap16(x)
#define swap32(x)	__builtin_bswap32(x)
#define swap64(x)	__builtin_bswap64(x)

/* The frequent strides get loops of their own, in which they are constants. */
#define MOVE(name, item, change)						\
static void name(char *to, ptrdiff_t to_stride, const char *from,		\
		 ptrdiff_t from_stride, size_t n)				\
{										\
	const ptrdiff_t size = sizeof(item);					\
	item *restrict t = (item *)to;						\
	const item *restrict s = (const item *)from;				\
										\
	if (to_stride == size && from_stride == size) {				\
		for (size_t i = 0; i < n; i++)					\
			t[i] = change(s[i]);					\
	} else if (to_stride == size && from_stride == 2 * size) {		\
		for (size_t i = 0; i < n; i++)					\
			t[i] = change(s[2 * i]);				\
	} else if (to_stride == size && from_stride == -size) {			\
		for (size_t i = 0; i < n; i++)					\
			t[i] = change(s[-(ptrdiff_t)i]);			\
	} else if (to_stride == size && from_stride == 0) {			\
		for (size_t i = 0; i < n; i++)					\
			t[i] = change(s[0]);					\
	} else {								\
		for (size_t i = 0; i < n; i++) {				\
			*(item *)to = change(*(const item *)from);		\
			to += to_stride;					\
			from += from_stride;					\
		}								\
	}									\
}

MOVE(move8, u8_item, as_is)
MOVE(move16, u16_item, as_is)
MOVE(move32, u32_item, as_is)
MOVE(move64, u64_item, as_is)
MOVE(move128, u128_item, as_is)
MOVE(move16_swapped, u16_item, swap16)
MOVE(move32_swapped, u32_item, swap32)
MOVE(move64_swapped, u64_item, swap64)

/* All but a double, which stays what it is in a double. */
#define FROM_NUMBERS(to)							\
	[NUMBER_BOOL] = to##_from_truth,						\
	[NUMBER_I8] = to##_from_i8, [NUMBER_U8] = to##_from_u8,			\
	[NUMBER_I16] = to##_from_i16, [NUMBER_U16] = to##_from_u16,		\
	[NUMBER_I32] = to##_from_i32, [NUMBER_U32] = to##_from_u32,		\
	[NUMBER_I64] = to##_from_i64, [NUMBER_U64] = to##_from_u64,		\
	[NUMBER_F16] = to##_from_f16, [NUMBER_F32] = to##_from_f32,		\
	[NUMBER_LONG_DOUBLE] = to##_from_ld

#define ROW_TO_8 {								\
	[NUMBER_BOOL] = u8_from_truth,						\
	[NUMBER_I16] = u8_from_u16, [NUMBER_U16] = u8_from_u16,			\
	[NUMBER_I32] = u8_from_u32, [NUMBER_U32] = u8_from_u32,			\
	[NUMBER_I64] = u8_from_u64, [NUMBER_U64] = u8_from_u64,			\
}

#define ROW_TO_16 {								\
	[NUMBER_BOOL] = u16_from_truth,						\
	[NUMBER_I8] = u16_from_i8, [NUMBER_U8] = u16_from_u8,			\
	[NUMBER_I32] = u16_from_u32, [NUMBER_U32] = u16_from_u32,		\
	[NUMBER_I64] = u16_from_u64, [NUMBER_U64] = u16_from_u64,		\
}

#define ROW_TO_32 {								\
	[NUMBER_BOOL] = u32_from_truth,						\
	[NUMBER_I8] = u32_from_i8, [NUMBER_U8] = u32_from_u8,			\
	[NUMBER_I16] = u32_from_i16, [NUMBER_U16] = u32_from_u16,		\
	[NUMBER_I64] = u32_from_u64, [NUMBER_U64] = u32_from_u64,		\
}

#define ROW_TO_64 {								\
	[NUMBER_BOOL] = u64_from_truth,						\
	[NUMBER_I8] = u64_from_i8, [NUMBER_U8] = u64_from_u8,			\
	[NUMBER_I16] = u64_from_i16, [NUMBER_U16] = u64_from_u16,		\
	[NUMBER_I32] = u64_from_i32, [NUMBER_U32] = u64_from_u32,		\
}

const struct kernels KERNELS = {
	.convert = {
		[NUMBER_BOOL] = { FROM_NUMBERS(truth), [NUMBER_F64] = truth_from_f64 },
		[NUMBER_I8] = ROW_TO_8,
		[NUMBER_U8] = ROW_TO_8,
		[NUMBER_I16] = ROW_TO_16,
		[NUMBER_U16] = ROW_TO_16,
		[NUMBER_I32] = ROW_TO_32,
		[NUMBER_U32] = ROW_TO_32,
		[NUMBER_I64] = ROW_TO_64,
		[NUMBER_U64] = ROW_TO_64,
		[NUMBER_F32] = { FROM_NUMBERS(f32), [NUMBER_F64] = f32_from_f64 },
		[NUMBER_F64] = { FROM_NUMBERS(f64) },
		[NUMBER_LONG_DOUBLE] = { FROM_NUMBERS(ld), [NUMBER_F64] = ld_from_f64 },
	},
	.move = {
		{ move8, move8 },
		{ move16, move16_swapped },
		{ move32, move32_swapped },
		{ move64, move64_swapped },
		{ move128 },
	},
};
