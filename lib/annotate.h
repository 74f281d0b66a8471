/* SPDX-License-Identifier: LGPL-2.1-or-later OR MIT */
/*
 * What Valgrind and AddressSanitizer are told of the heap, so that they report a use of
 * freed memory and an overflow of a block as they do of malloc()'s.
 *
 * Valgrind: client requests, which are a few instructions without effect elsewhere, if its
 * header is there when the library is built.  AddressSanitizer: by weak symbols, so that
 * any build of the library serves a program that was built with it.
 *
 * Nothing of this is on the fast paths: who wants to be told has none (heap.annotate).
 */
#ifndef SHMDEV_LIB_ANNOTATE_H
#define SHMDEV_LIB_ANNOTATE_H

#include <stdbool.h>
#include <stddef.h>

#if __has_include(<valgrind/memcheck.h>)
#include <valgrind/memcheck.h>
#else
#define RUNNING_ON_VALGRIND				0
#define VALGRIND_MAKE_MEM_NOACCESS(addr, size)		((void)(addr), (void)(size))
#define VALGRIND_MAKE_MEM_DEFINED(addr, size)		((void)(addr), (void)(size))
#define VALGRIND_MALLOCLIKE_BLOCK(addr, size, rz, zero)	((void)(addr), (void)(size))
#define VALGRIND_FREELIKE_BLOCK(addr, rz)		((void)(addr))
#define VALGRIND_RESIZEINPLACE_BLOCK(addr, old, size, rz) \
	((void)(addr), (void)(old), (void)(size))
#endif

void __asan_poison_memory_region(void const volatile *addr, size_t size)
	__attribute__((weak));
void __asan_unpoison_memory_region(void const volatile *addr, size_t size)
	__attribute__((weak));

/* Left behind each block, for an overflow to run into. */
#define ANNOTATE_REDZONE	64

/* Whether somebody listens. */
static inline bool annotate_wanted(void)
{
	return __asan_poison_memory_region || RUNNING_ON_VALGRIND;
}

/* Memory that is no block. */
static inline void annotate_closed(void *addr, size_t size)
{
	if (__asan_poison_memory_region)
		__asan_poison_memory_region(addr, size);
	VALGRIND_MAKE_MEM_NOACCESS(addr, size);
}

/* Memory that is about to leave the heap. */
static inline void annotate_open(void *addr, size_t size)
{
	if (__asan_unpoison_memory_region)
		__asan_unpoison_memory_region(addr, size);
	VALGRIND_MAKE_MEM_DEFINED(addr, size);
}

/* A block begins; before it is cleared. */
static inline void annotate_alloc(void *addr, size_t size, bool zeroed)
{
	if (__asan_unpoison_memory_region)
		__asan_unpoison_memory_region(addr, size);
	VALGRIND_MALLOCLIKE_BLOCK(addr, size, 0, zeroed);
}

static inline void annotate_free(void *addr, size_t size)
{
	VALGRIND_FREELIKE_BLOCK(addr, 0);
	if (__asan_poison_memory_region)
		__asan_poison_memory_region(addr, size);
}

static inline void annotate_resize(void *addr, size_t old, size_t size)
{
	VALGRIND_RESIZEINPLACE_BLOCK(addr, old, size, 0);
	if (__asan_poison_memory_region && size < old)
		__asan_poison_memory_region((char *)addr + size, old - size);
	else if (__asan_unpoison_memory_region)
		__asan_unpoison_memory_region(addr, size);
}

#endif
