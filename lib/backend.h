/* SPDX-License-Identifier: LGPL-2.1-or-later OR MIT */
/* Where the memory of regions comes from: one table of four, best first. */
#ifndef SHMDEV_LIB_BACKEND_H
#define SHMDEV_LIB_BACKEND_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include "shmdev.h"

#define HUGE_SIZE	((size_t)2 << 20)
#define TOKEN_SIZE	16

/* A descriptor and a mapping of all of its file; the holder owns both. */
struct backing {
	int fd;
	void *addr;
	size_t size;
	enum shmdev_backend backend;
	bool readonly;		/* so is the descriptor */
};

/* What is wanted of memory besides its size. */
struct placement {
	bool commit;		/* all of it is to be allocated at once */
	bool strict;		/* in huge pages or not at all */
	bool on_node;		/* on @node, if there is room; else @node is 0 */
	int node;
};

/* A sentence for a person, written into a buffer of any size. */
struct reason {
	char *text;
	size_t size;
};

struct backend_ops {
	const char *name;

	/* What sizes are rounded up to, and what pages there are at best. */
	size_t page_size;

	/* Make @size bytes, rounded up, zeroed, mapped.  0 or -errno. */
	int (*create)(size_t size, const struct placement *placement,
		      struct backing *backing);

	/*
	 * See to it that no touch of @backing, which is mapped, can end in SIGBUS; with
	 * @all, that none can want for memory either.  0 or -errno.  NULL: it is so.
	 */
	int (*secure)(const struct backing *backing, bool all);

	/* Whether create() could do it now: 0, or -errno and why not. */
	int (*probe)(const struct reason *why);

	/* Whether the file that @fd, of which @st tells, is one of this backend's. */
	bool (*owns)(int fd, const struct stat *st);

	/*
	 * Map @backing->size bytes of @backing->fd: over what is at @backing->addr or, if
	 * that is NULL, anywhere.  0 or -errno.
	 */
	int (*map)(struct backing *backing);

	/* A descriptor of the file @fd that is open for reading alone, or -errno. */
	int (*reopen)(int fd);

	/* No writing to the file @fd, or only by mappings that exist.  0 or -errno. */
	int (*seal)(int fd, bool future);

	/*
	 * A token by which other processes get the file @fd, and the way back: a
	 * descriptor, or -errno.  NULL where there are none.
	 */
	int (*export)(int fd, unsigned char token[TOKEN_SIZE]);
	int (*attach)(const unsigned char token[TOKEN_SIZE], bool readonly);
};

extern const struct backend_ops device_backend;
extern const struct backend_ops hugetlb_backend;
extern const struct backend_ops thp_backend;
extern const struct backend_ops memfd_backend;

/* By the best backend that can, or the one SHMDEV_BACKEND names.  0 or -errno. */
int backing_create(size_t size, const struct placement *placement, struct backing *backing);

/*
 * By the best backend but the device, which has ready memory of its own; for the pool of
 * what is ready, and so without a look at it.  -ENODEV: the device is there, or wanted.
 */
int backing_create_ready(size_t size, struct backing *backing);

/* By @backend, whatever SHMDEV_BACKEND says. */
int backing_create_by(enum shmdev_backend backend, size_t size, struct backing *backing);

/* Which backend the file that @fd, of which @st tells, is of; -EINVAL if of none. */
int backend_of(int fd, const struct stat *st);

/*
 * Map @size bytes, all, of the region @fd of @backend; on a descriptor of our own, which
 * with @readonly is open for reading alone, whatever @fd is.
 */
int backing_open(int fd, size_t size, enum shmdev_backend backend, bool readonly,
		 struct backing *backing);

/*
 * Seal it.  Without @future the mapping is made one for reading first, at the same place,
 * and stays that if it went well.  0 or -errno.
 */
int backing_seal(struct backing *backing, bool future);

/* As the operations say; -EOPNOTSUPP where there are no tokens. */
int backing_reopen(const struct backing *backing);
int backing_export(const struct backing *backing, unsigned char token[TOKEN_SIZE]);
int backing_attach(const unsigned char token[TOKEN_SIZE], bool readonly);

void backing_drop(const struct backing *backing);

/* What the next region would come from, or -errno. */
int backend_next(void);
size_t backend_page_size(enum shmdev_backend backend);

/* For the files that implement backends. */

/* @size rounded up to a multiple of @unit, a power of two.  0 or -ENOMEM. */
int round_size(size_t size, size_t unit, size_t *rounded);

/* Map @size bytes of @fd, shared, with @access, at a multiple of @align; NULL + errno. */
void *map_aligned(int fd, size_t size, size_t align, int access);

/* What a mapping of @backing is to allow. */
static inline int backing_access(const struct backing *backing)
{
	return backing->readonly ? PROT_READ : PROT_READ | PROT_WRITE;
}

/* reopen() by way of /proc/self/fd. */
int reopen_by_proc(int fd);

void reason_set(const struct reason *why, const char *format, ...)
	__attribute__((format(printf, 2, 3)));

#endif
