/* SPDX-License-Identifier: LGPL-2.1-or-later OR MIT */
/*
 * Memory that nobody has touched, of memfds of base pages.
 *
 * A store to it takes a fault for each page, in which the kernel zeroes what is about to
 * be overwritten: together 0.8 us, where 4 KiB are copied in 0.3.  write(2) to the memfd
 * makes the same pages without either, and then they are mapped many at a time.
 *
 * Writers of one file wait for each other, faults do not: from three threads on, the
 * faults win.  Huge pages are zeroed at once, and there is no write(2) that makes them.
 */
#ifndef SHMDEV_LIB_FRESH_H
#define SHMDEV_LIB_FRESH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/*
 * Have [@memory, @memory + @len), all of which is about to be written, as huge pages where
 * nobody has touched it.  The kernel zeroes those as fast as memory goes, and to make 512
 * pages one by one, map them and give them back costs five times that.  They are asked for
 * by MADV_COLLAPSE (Linux 6.1), which does not depend on what shmem_enabled says of memory
 * that is just touched.  Where they are not to be had, nothing has changed.
 *
 * @most, at least HUGE_SIZE, are asked for at a time.  Each time the kernel has all processors
 * drain their lists of pages, and waits for those that are busy.
 */
void fresh_gather(char *memory, size_t len, size_t most);

/* Of so much, what was zeroed is still in a cache when it is written to. */
#define FRESH_CACHED	(4 * HUGE_SIZE)

/* What follows is for memory that is not to be had so.  Up to so many threads. */
#define FRESH_THREADS	2

/* Whether [@memory, @memory + @len) is not there, as far as a look at some of it tells. */
bool fresh_is_absent(const char *memory, size_t len);

/* Whether it is memory as above, and enough of it. */
bool fresh_is(const char *memory, size_t len);

/*
 * Whether some of it seems to be, so that it pays to ask for each piece of it: to ask takes
 * 1 us for each page looked at, where 8 KiB are copied.
 */
bool fresh_in_part(const char *memory, size_t len);

/*
 * What preadv2(2) does with @flags, by way of the memfd: bytes read or -errno;
 * -EOPNOTSUPP if that cannot be, and nothing has been done.
 */
ssize_t fresh_read(char *memory, size_t len, int fd, int64_t offset, int flags);

/* Copy @len bytes to @memory; how many have been, the rest is to be copied otherwise. */
size_t fresh_copy(char *memory, const char *src, size_t len);

/* Map here what has been written, as stores would have. */
void fresh_map(char *memory, size_t len);

#endif
