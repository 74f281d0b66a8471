// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/*
 * Numbers into memory that nobody has touched yet.
 *
 * In a memfd of base pages each page costs a fault at first touch and is zeroed by it,
 * which takes several times as long as to convert what goes there.  write(2) takes
 * fresh pages without either: they are written from a buffer that stays in the cache,
 * and are mapped when somebody looks, 16 at a time.  And where memory has run out this
 * is an error, and not a SIGBUS.
 */
#include "shmdevmodule.h"

#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

/* Blocks from here on have a region of their own: all of it is fresh. */
#define FRESH_BYTES	(2 << 20)

/* It stays in the second-level cache, beside what is read. */
#define BUFFER_BYTES	(256 << 10)

struct file_part {
	int fd;
	off_t offset;
};

/* 0 or -errno. */
static int part_write(const struct file_part *part, size_t at, const char *bytes, size_t size)
{
	while (size) {
		ssize_t written = pwrite(part->fd, bytes, size, part->offset + at);

		if (written > 0) {
			at += written;
			bytes += written;
			size -= written;
		} else if (!written || errno != EINTR) {
			return written ? -errno : -EIO;
		}
	}
	return 0;
}

/* Convert @n items of @from and write them.  0 or -errno. */
static int part_store(const struct file_part *part, const struct column *from,
		      const struct format *format, Py_ssize_t n)
{
	size_t size = number_size(format->number);
	Py_ssize_t step, room = BUFFER_BYTES / size;
	struct column rest = *from;
	struct column buffer = {
		.first = malloc(BUFFER_BYTES),
		.stride = size,
		.format = *format,
	};
	int err = buffer.first ? 0 : -ENOMEM;

	for (Py_ssize_t done = 0; !err && done < n; done += step) {
		step = Py_MIN(n - done, room);
		err = convert_column(&buffer, &rest, step);
		if (!err)
			err = part_write(part, done * size, buffer.first, step * size);
		rest.first += step * rest.stride;
	}
	free(buffer.first);
	return err;
}

int fresh_store(const struct block *block, const struct source *source,
		const struct format *format, Py_ssize_t n)
{
	struct shmdev_region *region;
	struct file_part part;
	size_t offset;
	int err = -EINVAL;

	if (block->size < FRESH_BYTES)
		return 0;
	/* It counts as known to others from now on, which is nothing to one that is alone. */
	region = shmdev_block_share(block->bytes, &offset);
	if (!region)
		return 0;
	part = (struct file_part){ shmdev_region_fd(region), offset };
	if (shmdev_region_backend(region) == SHMDEV_BACKEND_MEMFD) {
		Py_BEGIN_ALLOW_THREADS
		err = part_store(&part, &source->column, format, n);
		Py_END_ALLOW_THREADS
	}
	shmdev_region_unref(region);
	switch (err) {
	case 0:
		return 1;
	case -ENOMEM:
	case -ENOSPC:
		error_set_backend("shm_alloc", block->size, ENOMEM);
		return -1;
	default:	/* a call that is not allowed here, say: the mapping always is */
		return 0;
	}
}
