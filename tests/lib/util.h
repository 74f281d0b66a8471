/* SPDX-License-Identifier: LGPL-2.1-or-later OR MIT */
/* What several tests of the library need. */
#ifndef SHMDEV_TESTS_UTIL_H
#define SHMDEV_TESTS_UTIL_H

#include <shmdev.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

/* The backend that regions come from in this run; skips the test if there is none. */
enum shmdev_backend need_backend(void);

/* Descriptors open in this process; mappings of regions in it. */
unsigned int count_descriptors(void);
unsigned int count_region_mappings(void);

/* How many descriptors are open on what /proc/self/fd calls @target; one of them. */
unsigned int count_descriptors_of(const char *target, int *one);

/*
 * Those that are neither a region's nor a ring's, of which some are kept for later: after a
 * call there are as many as before.
 */
unsigned int count_other_descriptors(void);

/* What the library says is mapped, and is allocated. */
struct shmdev_info info_now(void);

bool is_all(const void *memory, size_t len, unsigned char value);

/*
 * What a peer sees of @region, in memory of malloc(): its bytes are read by the descriptor,
 * because those that are in no block are none that this process may read.
 */
void *peer_view(const struct shmdev_region *region, size_t offset, size_t len);

/* What mmap(2) has for more than there can be: ENOMEM, or, of Valgrind, EINVAL. */
int errno_without_room(void);

/* A byte for each position of the stream @seed. */
unsigned char pattern_at(uint32_t seed, uint64_t position);
void pattern_write(void *memory, size_t len, uint32_t seed, uint64_t position);
bool pattern_is(const void *memory, size_t len, uint32_t seed, uint64_t position);

/* A file without a name, with @len bytes of the pattern @seed. */
int pattern_file(size_t len, uint32_t seed);

/* Deterministic pseudo-random numbers; the state must not be 0. */
uint32_t random_next(uint32_t *state);
uint32_t random_below(uint32_t *state, uint32_t limit);

/* @pointer, of which the compiler does not know that it was freed: to compare, or to err. */
static inline void *laundered(void *pointer)
{
	__asm__("" : "+r"(pointer));
	return pointer;
}

/* Run @body in a child; its wait status. */
int in_child(void (*body)(void *), void *argument);

/* Wait for @child and check that it exits with 0. */
void wait_good(pid_t child);

/* Make system call @nr fail with @error from now on, in this process and its children. */
void forbid_syscall(int nr, int error);

/* The same for calls of @nr whose argument number @arg is @value. */
void forbid_syscall_with(int nr, int arg, unsigned int value, int error);

/*
 * Leave what is in the page cache to the ring, too: a fill gets it by preadv2(2), and files by
 * name as long as, by getrusage(2), no read has made it sleep.
 */
void forbid_cached_reads(void);

#endif
