/* SPDX-License-Identifier: LGPL-2.1-or-later OR MIT */
/*
 * O_DIRECT without its rules: reads and writes whose memory, offset or length is not
 * aligned as the file wants it, in pieces of any size.  The number of bytes, which may
 * be fewer than asked for, or -errno; 0 at the file's end.
 */
#ifndef SHMDEV_LIB_DIRECT_H
#define SHMDEV_LIB_DIRECT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

bool is_direct(int fd);

ssize_t direct_read(int fd, char *dst, size_t len, int64_t offset);
ssize_t direct_write(int fd, const char *src, size_t len, int64_t offset);

#endif
