// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
#define _GNU_SOURCE
#include "direct.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "fork.h"

#define BOUNCE	((size_t)1 << 20)

/* Where the kernel does not tell: no block is larger without saying so. */
#define ALIGN	4096

bool is_direct(int fd)
{
	int flags = fcntl(fd, F_GETFL);

	return flags >= 0 && flags & O_DIRECT;
}

/* What offsets into @fd have to be a multiple of: a power of two, up to BOUNCE. */
static size_t file_align(int fd)
{
#ifdef STATX_DIOALIGN		/* Linux 6.1 */
	struct statx stx;

	if (!statx(fd, "", AT_EMPTY_PATH, STATX_DIOALIGN, &stx) &&
	    stx.stx_mask & STATX_DIOALIGN && stx.stx_dio_offset_align &&
	    stx.stx_dio_offset_align <= BOUNCE)
		return stx.stx_dio_offset_align;
#else
	(void)fd;
#endif
	return ALIGN;
}

static void *bounce_get(size_t align)
{
	void *bounce;

	return posix_memalign(&bounce, align < ALIGN ? ALIGN : align, BOUNCE) ? NULL : bounce;
}

ssize_t direct_read(int fd, char *dst, size_t len, int64_t offset)
{
	size_t align = file_align(fd), head = offset & (align - 1), wanted;
	char *bounce = bounce_get(align);
	ssize_t got;

	if (!bounce)
		return -ENOMEM;
	/* From the block that it begins in to the end of the one that it ends in. */
	wanted = len < BOUNCE - head ? (head + len + align - 1) & ~(align - 1) : BOUNCE;
	got = pread(fd, bounce, wanted, offset - head);
	if (got < 0) {
		got = -errno;
	} else {
		got = (size_t)got > head ? got - head : 0;
		if ((size_t)got > len)
			got = len;
		memcpy(dst, bounce + head, got);
	}
	free(bounce);
	return got;
}

/*
 * Less than a block goes through the page cache: the kernel reads the rest of the block,
 * and keeps others from writing it until ours is in.
 */
static ssize_t cached_write(int fd, const char *src, size_t len, int64_t offset)
{
	char path[32];
	ssize_t put;
	int cached;

	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	fork_gate_enter();
	cached = open(path, O_WRONLY | O_CLOEXEC);
	if (cached < 0) {
		/* A file that may not be opened again: there is no other way. */
		put = -EINVAL;
	} else {
		put = pwrite(cached, src, len, offset);
		if (put < 0)
			put = -errno;
		close(cached);
	}
	fork_gate_leave();
	return put;
}

ssize_t direct_write(int fd, const char *src, size_t len, int64_t offset)
{
	size_t align = file_align(fd), head = offset & (align - 1);
	char *bounce;
	ssize_t put;

	if (head || len < align)
		return cached_write(fd, src, len < align - head ? len : align - head, offset);

	bounce = bounce_get(align);
	if (!bounce)
		return -ENOMEM;
	len = (len < BOUNCE ? len : BOUNCE) & ~(align - 1);
	memcpy(bounce, src, len);
	put = pwrite(fd, bounce, len, offset);
	if (put < 0)
		put = -errno;
	free(bounce);
	return put;
}
