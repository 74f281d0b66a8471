/* SPDX-License-Identifier: LGPL-2.1-or-later OR MIT */
/*
 * Reads and writes by io_uring.  A ring is one thread's from ring_get() to ring_put();
 * between that it is kept for the next, because to make one costs as much as a small fill.
 */
#ifndef SHMDEV_LIB_RING_H
#define SHMDEV_LIB_RING_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#include "transfer.h"

struct ring;
struct statx;

/* NULL: not now or not here; to be done without. */
struct ring *ring_get(void);

/* Nothing may be on its way. */
void ring_put(struct ring *ring);

/*
 * Let transfers go directly to the pages of @spans, until ring_unregister() or
 * ring_put().  0 or -errno: -EOPNOTSUPP if the kernel refuses such memory,
 * or is so slow about it that it does not pay.
 */
int ring_register(struct ring *ring, const struct iovec *spans, unsigned int nr);
void ring_unregister(struct ring *ring);

/*
 * What follows queues an operation, of which there are no more at a time than the
 * tuning's depth, each under a @cookie that ring_reap() gives back.
 *
 * A transfer: @offset may be -1: where the descriptor stands.  @span is the number of the
 * registered span that [@memory, @memory + @len) lies in, or -1.
 */
void ring_transfer(struct ring *ring, enum direction direction, int fd, void *memory,
		   size_t len, int64_t offset, int span, void *cookie);
void ring_fsync(struct ring *ring, int fd, void *cookie);

/*
 * Open, read from the start and close a file, as a chain, and look at it; several at a
 * time, each with a @slot of its own below the depth, after ring_files_prepare(): 0, or
 * -errno if this kernel cannot.  The path has to stay there until it is done.
 */
enum { FILE_LOOK, FILE_OPEN, FILE_READ, FILE_CLOSE, FILE_STEPS };

struct ring_file {
	const char *path;
	int dirfd;
	unsigned int slot;
	void *dst;
	size_t len;			/* 0: only look */
	int results[FILE_STEPS];	/* out: as of the system calls, or -errno */
	struct statx *stx;		/* to be filled in: size and type */
	unsigned int pending;
};

int ring_files_prepare(struct ring *ring);
void ring_file_read(struct ring *ring, struct ring_file *file);

/* ring_reap() where there are only files; in *@done one of which all is done, or NULL. */
bool ring_reap_file(struct ring *ring, struct ring_file **done);

/*
 * Besides these: let @cookie come back when @fd, an eventfd, is readable; and make what is
 * on its way under @cookie come back soon, where that can be.  The cancelling itself comes
 * back as NULL.
 */
void ring_watch(struct ring *ring, int fd, void *cookie);
void ring_cancel(struct ring *ring, void *cookie);

/*
 * Submit what is queued and wait until something is done.  0; -EINTR a signal was
 * caught, if @interruptible; or another -errno if this ring cannot go on: then nothing is
 * on its way, what is not reaped was never begun, and all that is left to do is to reap
 * and to put.
 */
int ring_wait(struct ring *ring, bool interruptible);

/* The same without waiting. */
int ring_submit(struct ring *ring);

/* Take the result of what is done, as the system call would give it or -errno. */
bool ring_reap(struct ring *ring, void **cookie, int *result);

/* Whether an error may be of the ring's making, and not what the system call would say. */
bool ring_is_doubtful(int result);

void ring_fork_prepare(void);
void ring_fork_parent(void);
void ring_fork_child(void);

#endif
