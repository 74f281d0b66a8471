// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/*
 * Memory of memfds that is had now and not when it is touched.
 *
 * A touch that finds no memory is a signal: SIGBUS where a limit of huge pages or of
 * vm.overcommit_memory says no, SIGKILL where the out-of-memory killer has to find some.
 * A system call gets ENOMEM instead of the first, but not of the second: the kernel
 * kills before it lets a page of a file fail.  So nothing is asked for here that is not
 * seen to be there, and something is left over.  It is looked at again before half of it
 * is used, because others allocate, too.
 */
#define _GNU_SOURCE
#include "backend.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>

#include "debug.h"
#include "bounds.h"

#ifndef MADV_POPULATE_READ		/* Linux 5.14 */
#define MADV_POPULATE_READ	22
#define MADV_POPULATE_WRITE	23
#endif

/*
 * At a time: enough for a system call not to count, little enough for others not to wait
 * for the address space, and for a program with a fast timer to get on.
 */
#define STEP	HUGE_SIZE
#define STEP_MIN	((size_t)64 << 10)

enum way { BY_FALLOCATE, BY_FAULT };

/* Fill the holes in [@offset, @offset + @len).  0 or -errno. */
static int step_fill(const struct backing *backing, size_t offset, size_t len, enum way way)
{
	if (way == BY_FALLOCATE)
		return fallocate(backing->fd, FALLOC_FL_KEEP_SIZE, offset, len) ? -errno : 0;
	return madvise((char *)backing->addr + offset, len, backing->readonly ?
		       MADV_POPULATE_READ : MADV_POPULATE_WRITE) ? -errno : 0;
}

static int range_fill(const struct backing *backing, size_t offset, size_t end, enum way *way)
{
	size_t step = STEP, len;
	int err;

	while (offset < end) {
		len = end - offset < step ? end - offset : step;
		err = step_fill(backing, offset, len, *way);
		switch (err) {
		case 0:
			offset += len;
			break;
		case -EINTR:
			/* Of what a signal interrupts, nothing is done. */
			step = step > STEP_MIN ? step / 2 : step;
			break;
		case -EINVAL:
			if (*way == BY_FALLOCATE || backing->readonly)
				return -EOPNOTSUPP;
			*way = BY_FALLOCATE;	/* an older kernel */
			break;
		case -EFAULT:			/* what would have been SIGBUS */
		case -ENOSPC:
			return -ENOMEM;
		default:
			return err;
		}
	}
	return 0;
}

/* How much may be taken before one has to look again; 0: none.  0 or -errno. */
static int budget_get(size_t wanted, size_t *budget)
{
	struct headroom headroom;
	uint64_t there, spare;
	int err = headroom_get(&headroom);

	if (err)
		return err;
	/* What tables of pages and others of the group take meanwhile. */
	spare = headroom.total / 64;
	if (spare < 4 * STEP)
		spare = 4 * STEP < headroom.total / 4 ? 4 * STEP : headroom.total / 4;
	there = headroom.bytes + headroom.swap;
	if (there < headroom.bytes)
		there = UINT64_MAX;
	if (there < spare || there - spare < wanted) {
		debug("%zu bytes cannot be committed: of %llu bytes %llu are to be had", wanted,
		      (unsigned long long)headroom.total, (unsigned long long)there);
		*budget = 0;
		return 0;
	}
	there = (there - spare) / 2;
	*budget = there < STEP ? STEP : there > wanted ? wanted : there & ~(uint64_t)(STEP - 1);
	return 0;
}

int commit_ordinary(const struct backing *backing)
{
	/*
	 * By fallocate() base pages are zeroed when they are touched; but it does not know
	 * of the mapping's wish for huge pages.
	 */
	enum way way = backing->backend == SHMDEV_BACKEND_THP || backing->readonly ? BY_FAULT :
										   BY_FALLOCATE;
	size_t done = 0, budget, len;
	int err;

	while (done < backing->size) {
		err = budget_get(backing->size - done, &budget);
		if (err)
			return err;
		if (!budget)
			return -ENOMEM;
		len = backing->size - done < budget ? backing->size - done : budget;
		err = range_fill(backing, done, done + len, &way);
		if (err)
			return err;
		done += len;
	}
	return 0;
}

int commit_huge(const struct backing *backing)
{
	/* Through the mapping: so it is by the policy that a touch would follow. */
	enum way way = BY_FAULT;

	return range_fill(backing, 0, backing->size, &way);
}

/* How often the room that is left is looked at: it takes as long as some huge pages do. */
#define LOOK	(32 * STEP)

int commit_ready(const struct backing *backing, const bool *cancel)
{
	bool reserved = backing->backend == SHMDEV_BACKEND_HUGETLB;
	enum way way = BY_FAULT;
	size_t done, budget, len;
	int err;

	for (done = 0; done < backing->size; done += len) {
		if (__atomic_load_n(cancel, __ATOMIC_RELAXED))
			return -ECANCELED;
		if (!reserved && done % LOOK == 0) {
			err = budget_get(backing->size - done, &budget);
			if (err)
				return err;
			if (!budget)
				return -ENOMEM;
		}
		len = backing->size - done < STEP ? backing->size - done : STEP;
		err = range_fill(backing, done, done + len, &way);
		if (err)
			return err;
	}
	return 0;
}
