// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/*
 * Any column into any other: what is strided or byte-swapped passes through a
 * small buffer that stays in the first-level cache, so that there need be one
 * conversion kernel for a pair of numbers and no more.
 */
#include "convert.h"
#include "kernels.h"
#include "parallel.h"

#include <errno.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <shmdev.h>

/* Two buffers of this many of the largest item take half of a 32 KiB cache. */
#define CHUNK 512

/*
 * Bytes read and written that are worth a thread of their own, also where other
 * processors are busy and it has to wait for one.
 */
#define PARALLEL_BYTES (16 << 20)

/*
 * Processors part what is written at multiples of this, a huge page, so that none of these
 * is made by two of them; and do so many at a time, which a cache still has when they are
 * zeroed, or read, and then written to.
 */
#define UNIT_BYTES	(2 << 20)
#define UNITS		4

/* So many are worth a thread where the kernel has to zero them as well. */
#define GRAIN_ABSENT	2

_Static_assert((sizeof(long double) & (sizeof(long double) - 1)) == 0,
	       "moves are found by the log2 of the size");

/* Best first. */
static const struct kernel_set {
	const char *name;
	const struct kernels *kernels;
} kernel_sets[] = {
#ifdef __x86_64__
	{ "avx512", &kernels_avx512 },
	{ "avx2", &kernels_avx2 },
#endif
	{ "base", &kernels_base },
	{ NULL, NULL },
};

static bool kernel_set_runs(const struct kernel_set *set)
{
#ifdef __x86_64__
	__builtin_cpu_init();
	if (set->kernels == &kernels_avx512)
		return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
		       __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
	if (set->kernels == &kernels_avx2)
		return __builtin_cpu_supports("avx2");
#endif
	return set->kernels;
}

static const struct kernels *kernels_chosen;

/* Threads that come first together choose the same, so that they need no order. */
static const struct kernels *kernels_get(void)
{
	const struct kernels *kernels = __atomic_load_n(&kernels_chosen, __ATOMIC_RELAXED);
	const struct kernel_set *set = kernel_sets;

	if (kernels)
		return kernels;
	while (!kernel_set_runs(set))
		set++;
	__atomic_store_n(&kernels_chosen, set->kernels, __ATOMIC_RELAXED);
	return set->kernels;
}

const char *convert_kernels_next(const char *name)
{
	const struct kernel_set *set = kernel_sets;

	if (name) {
		while (set->name && strcmp(set->name, name))
			set++;
		if (set->name)
			set++;
	}
	while (set->name && !kernel_set_runs(set))
		set++;
	return set->name;
}

int convert_kernels_use(const char *name)
{
	for (const struct kernel_set *set = kernel_sets; set->name; set++) {
		if (strcmp(set->name, name) || !kernel_set_runs(set))
			continue;
		__atomic_store_n(&kernels_chosen, set->kernels, __ATOMIC_RELAXED);
		return 0;
	}
	return -EINVAL;
}

bool convert_is_defined(enum number to, enum number from)
{
	if (to == NUMBER_UNKNOWN || from == NUMBER_UNKNOWN || to == NUMBER_F16)
		return false;
	if (to == NUMBER_CHAR)
		return from == NUMBER_CHAR || from == NUMBER_U8;
	if (from == NUMBER_CHAR)
		return false;
	if (number_is_integer(to))
		return !number_is_float(from);
	return true;
}

static bool column_is_plain(const struct column *column)
{
	return !column->format.swapped &&
	       column->stride == (ptrdiff_t)number_size(column->format.number);
}

bool convert_is_copy(const struct column *to, const struct column *from)
{
	return column_is_plain(to) && column_is_plain(from) &&
	       !kernels_get()->convert[to->format.number][from->format.number];
}

/* The bytes from the lowest item to the end of the highest. */
static void column_extent(const struct column *column, size_t n, uintptr_t *low,
			  uintptr_t *high)
{
	uintptr_t first = (uintptr_t)column->first;
	uintptr_t last = first + (n - 1) * column->stride;

	*low = first < last ? first : last;
	*high = (first < last ? last : first) + number_size(column->format.number);
}

static bool columns_overlap(const struct column *a, const struct column *b, size_t n)
{
	uintptr_t a_low, a_high, b_low, b_high;

	column_extent(a, n, &a_low, &a_high);
	column_extent(b, n, &b_low, &b_high);
	return a_low < b_high && b_low < a_high;
}

/* Contiguous native items in or out of a column. */
static void column_load(const struct kernels *kernels, void *to, const struct column *from,
			size_t at, size_t n)
{
	size_t size = number_size(from->format.number);

	kernels->move[__builtin_ctzl(size)][from->format.swapped](
		to, size, from->first + (ptrdiff_t)at * from->stride, from->stride, n);
}

static void column_store(const struct kernels *kernels, const struct column *to, size_t at,
			 const void *from, size_t n)
{
	size_t size = number_size(to->format.number);

	kernels->move[__builtin_ctzl(size)][to->format.swapped](
		to->first + (ptrdiff_t)at * to->stride, to->stride, from, size, n);
}

static void convert_disjoint(const struct column *to, const struct column *from, size_t n)
{
	const struct kernels *kernels = kernels_get();
	kernel_convert *kernel = kernels->convert[to->format.number][from->format.number];
	_Alignas(64) char loaded[CHUNK * sizeof(long double)];
	_Alignas(64) char converted[CHUNK * sizeof(long double)];
	size_t to_size = number_size(to->format.number);
	bool to_plain = column_is_plain(to), from_plain = column_is_plain(from);
	size_t done, step;

	if (to_plain && from_plain) {
		if (kernel)
			kernel(to->first, from->first, n);
		else
			memcpy(to->first, from->first, n * to_size);
		return;
	}
	/* Without a kernel both sides have one size, and one move does all of it. */
	if (!kernel && to_plain) {
		column_load(kernels, to->first, from, 0, n);
		return;
	}
	if (!kernel && from_plain) {
		column_store(kernels, to, 0, from->first, n);
		return;
	}

	for (done = 0; done < n; done += step) {
		const void *source = loaded;
		void *target = to_plain ? to->first + done * to_size : converted;

		step = n - done < CHUNK ? n - done : CHUNK;
		if (from_plain)
			source = from->first + done * from->stride;
		else
			column_load(kernels, loaded, from, done, step);
		if (!kernel)
			target = loaded;
		else
			kernel(target, source, step);
		if (!to_plain)
			column_store(kernels, to, done, target, step);
	}
}

struct conversion {
	const struct column *to, *from;
	size_t n;
	size_t unit;		/* items of one, */
	size_t lead;		/* and of the first that are none of ours */
};

static struct column column_from(const struct column *column, size_t first)
{
	struct column rest = *column;

	rest.first += (ptrdiff_t)first * rest.stride;
	return rest;
}

/* The first item of a unit, or the end. */
static size_t unit_first(const struct conversion *conversion, size_t unit)
{
	size_t at = unit * conversion->unit;

	at = at < conversion->lead ? 0 : at - conversion->lead;
	return at < conversion->n ? at : conversion->n;
}

static void conversion_part(const void *loop, size_t first, size_t nr)
{
	const struct conversion *conversion = loop;
	ptrdiff_t size = number_size(conversion->to->format.number);
	size_t end = first + nr, step;

	for (; first < end; first += step) {
		size_t at = unit_first(conversion, first), n;
		struct column to = column_from(conversion->to, at);
		struct column from = column_from(conversion->from, at);

		step = end - first < UNITS ? end - first : UNITS;
		n = unit_first(conversion, first + step) - at;
		if (to.stride == size)
			shmdev_prepare(to.first, n * size);
		convert_disjoint(&to, &from, n);
	}
}

/* Whether the page that @addr lies in is not there. */
static bool is_absent(const char *addr)
{
	uintptr_t page = (uintptr_t)addr & -(uintptr_t)sysconf(_SC_PAGESIZE);
	unsigned char there;

	return !mincore((void *)page, 1, &there) && !(there & 1);
}

static void convert_parallel(const struct column *to, const struct column *from, size_t n)
{
	size_t size = number_size(to->format.number), from_size = number_size(from->format.number);
	size_t unit = UNIT_BYTES / size, unit_bytes = unit * (size + from_size);
	size_t grain = (PARALLEL_BYTES + unit_bytes - 1) / unit_bytes;
	struct conversion conversion = {
		.to = to,
		.from = from,
		.n = n,
		.unit = unit,
		.lead = (uintptr_t)to->first % UNIT_BYTES / size,
	};
	size_t units = (conversion.lead + n + unit - 1) / unit;

	if (units > GRAIN_ABSENT && grain > GRAIN_ABSENT &&
	    is_absent(to->first + (ptrdiff_t)(n / 2) * to->stride))
		grain = GRAIN_ABSENT;
	if (units < 2 * grain)
		conversion_part(&conversion, 0, units);
	else if (convert_is_copy(to, from))
		shmdev_copy(to->first, from->first, n * size);
	else
		parallel_run(conversion_part, &conversion, units, grain);
}

int convert_column(const struct column *to, const struct column *from, size_t n)
{
	size_t size = number_size(from->format.number);
	struct column copied = {
		.stride = size,
		.format.number = from->format.number,
	};

	if (!n)
		return 0;
	if (!columns_overlap(to, from, n)) {
		/* Of less than a unit, whatever the items are, nothing is to be prepared. */
		if (n < UNIT_BYTES / sizeof(long double))
			convert_disjoint(to, from, n);
		else
			convert_parallel(to, from, n);
		return 0;
	}
	if (convert_is_copy(to, from)) {
		memmove(to->first, from->first, n * size);
		return 0;
	}
	if (n > PTRDIFF_MAX / size || !(copied.first = malloc(n * size)))
		return -ENOMEM;
	column_load(kernels_get(), copied.first, from, 0, n);
	convert_parallel(to, &copied, n);
	free(copied.first);
	return 0;
}
