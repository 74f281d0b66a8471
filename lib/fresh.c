// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
#define _GNU_SOURCE
#include "fresh.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/uio.h>
#include <unistd.h>

#include "fork.h"
#include "region.h"

#ifndef MADV_POPULATE_READ	/* Linux 5.14 */
#define MADV_POPULATE_READ	22
#endif

#ifndef MADV_COLLAPSE		/* Linux 6.1 */
#define MADV_COLLAPSE	25
#endif

/* Less is not worth the questions. */
#define LEAST	((size_t)32 << 10)

/*
 * What goes through a buffer, and is written while fork() waits: it stays in a processor's
 * own cache, and malloc(3) does not map it.
 */
#define BOUNCE	((size_t)64 << 10)

static uintptr_t page_size(void)
{
	return sysconf(_SC_PAGESIZE);
}

/* Whether the page that @addr lies in is not there, for anybody. */
static bool is_absent(const char *addr)
{
	uintptr_t page = (uintptr_t)addr & -page_size();
	unsigned char there;

	return !mincore((void *)page, 1, &there) && !(there & 1);
}

bool fresh_is_absent(const char *memory, size_t len)
{
	/* A sample: what is there is written to as well, and only takes longer. */
	return is_absent(memory + len / 2) && is_absent(memory) && is_absent(memory + len - 1);
}

/* Whether [@memory, @memory + @len) is of such a memfd, and enough of it. */
static bool could_be_fresh(const char *memory, size_t len)
{
	struct stretch stretch;

	return len >= LEAST && region_around(memory, len, true, &stretch) &&
	       stretch.backend == SHMDEV_BACKEND_MEMFD;
}

bool fresh_is(const char *memory, size_t len)
{
	return could_be_fresh(memory, len) && fresh_is_absent(memory, len);
}

bool fresh_in_part(const char *memory, size_t len)
{
	return could_be_fresh(memory, len) && (is_absent(memory + len / 2) || is_absent(memory) ||
					       is_absent(memory + len - 1));
}

void fresh_gather(char *memory, size_t len, size_t most)
{
	char *at = (char *)(((uintptr_t)memory + HUGE_SIZE - 1) & -HUGE_SIZE);
	size_t step;

	most &= -HUGE_SIZE;
	for (; at + HUGE_SIZE <= memory + len; at += step) {
		step = (memory + len - at) & -HUGE_SIZE;
		if (step > most)
			step = most;
		if (!fresh_is(at, step))
			continue;
		/* Of nothing at all the kernel makes nothing.  fresh_is() does not look there. */
		for (size_t huge = 0; huge < step; huge += HUGE_SIZE)
			(void)*(volatile char *)(at + huge + page_size());
		if (madvise(at, step, MADV_COLLAPSE))
			return;
	}
}

/* Write to the file that @memory is of; bytes written, 0 if it cannot be. */
static size_t file_write(const char *memory, const char *src, size_t len)
{
	struct shmdev_region *region;
	struct rlimit limit;
	ssize_t put = 0;
	size_t offset;

	/* The reference is nobody else's: a child would keep it. */
	fork_gate_enter();
	region = region_at(memory);
	if (region) {
		offset = memory - (const char *)shmdev_region_addr(region);
		/* Beyond it write(2) kills.  A store does not. */
		if (region_has_fd(region) &&
		    !getrlimit(RLIMIT_FSIZE, &limit) && offset + len <= limit.rlim_cur)
			put = pwrite(shmdev_region_fd(region), src, len, offset);
		region_put(region);
	}
	fork_gate_leave();
	return put > 0 ? put : 0;
}

size_t fresh_copy(char *memory, const char *src, size_t len)
{
	size_t done = 0, piece, put;

	while (done < len) {
		piece = len - done < BOUNCE ? len - done : BOUNCE;
		put = file_write(memory + done, src + done, piece);
		done += put;
		if (put < piece)
			break;
	}
	return done;
}

void fresh_map(char *memory, size_t len)
{
	uintptr_t page = page_size(), start = (uintptr_t)memory & -page;

	/* Where that is not to be had, each will be mapped when it is touched. */
	if (len)
		madvise((void *)start, ((uintptr_t)memory + len - start + page - 1) & -page,
			MADV_POPULATE_READ);
}

ssize_t fresh_read(char *memory, size_t len, int fd, int64_t offset, int flags)
{
	struct iovec bounce = { malloc(BOUNCE), BOUNCE };
	ssize_t got = 0, result = 0;
	size_t done = 0, put;
	int saved = errno;

	if (!bounce.iov_base)
		return -EOPNOTSUPP;
	while (done < len) {
		bounce.iov_len = len - done < BOUNCE ? len - done : BOUNCE;
		got = flags ? preadv2(fd, &bounce, 1, offset + (int64_t)done, flags)
			    : preadv(fd, &bounce, 1, offset + (int64_t)done);
		if (got <= 0) {
			result = got ? -errno : 0;
			break;
		}
		put = file_write(memory + done, bounce.iov_base, got);
		done += put;
		if (put < (size_t)got) {
			result = -EOPNOTSUPP;
			break;
		}
		if ((size_t)got < bounce.iov_len)
			break;
	}
	free(bounce.iov_base);
	fresh_map(memory, done);
	errno = saved;
	return done ? (ssize_t)done : result;
}
