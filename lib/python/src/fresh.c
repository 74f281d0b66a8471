// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/*
 * Numbers into memory that nobody has touched yet.
 *
 * In a memfd of base pages each page costs a fault at first touch and is zeroed by it,
 * which takes several times as long as to convert what goes there.  shmdev_copy() has a way
 * without either, where there are so few processors that it is the better one: numbers are
 * converted into a buffer and copied from that, by two threads that do both in turns.
 */
#include "shmdevmodule.h"
#include "parallel.h"

#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

/* What shmdev_copy() looks at is this long. */
#define BUFFER_BYTES	(1 << 20)

/* Less than so many of them are not worth a thread. */
#define BUFFERS_EACH	8

struct fresh {
	char *bytes;
	const struct column *from;
	const struct format *format;
	size_t n;
	size_t step;		/* items that go through a buffer at a time */
};

/* Do some of its buffers. */
static void fresh_part(const void *loop, size_t first, size_t nr)
{
	const struct fresh *fresh = loop;
	size_t size = number_size(fresh->format->number), at = first * fresh->step;
	size_t end = at + nr * fresh->step;
	struct column from = *fresh->from, to = { .stride = size, .format = *fresh->format };
	char *buffer = malloc(fresh->step * size);

	if (end > fresh->n)
		end = fresh->n;
	for (; at < end; at += fresh->step) {
		size_t step = Py_MIN(fresh->step, end - at);

		from.first = fresh->from->first + (ptrdiff_t)at * fresh->from->stride;
		to.first = buffer ? buffer : fresh->bytes + at * size;
		/* Memory for nobody else yet: nothing overlaps, which is all that could fail. */
		(void)convert_column(&to, &from, step);
		if (buffer)
			shmdev_copy(fresh->bytes + at * size, buffer, step * size);
	}
	free(buffer);
}

/* Whether the page that @addr lies in is not there. */
static bool is_absent(const char *addr)
{
	uintptr_t page = (uintptr_t)addr & -(uintptr_t)sysconf(_SC_PAGESIZE);
	unsigned char there;

	return !mincore((void *)page, 1, &there) && !(there & 1);
}

/* Whether new memory comes from base pages.  It may change; then time is lost, no more. */
static bool pages_are_small(void)
{
	static int known;	/* atomic */
	int small = __atomic_load_n(&known, __ATOMIC_RELAXED);
	struct shmdev_info info;

	if (!small) {
		small = !shmdev_info_get(&info) && info.backend == SHMDEV_BACKEND_MEMFD ? 1 : -1;
		__atomic_store_n(&known, small, __ATOMIC_RELAXED);
	}
	return small > 0;
}

bool fresh_store(const struct block *block, const struct source *source,
		 const struct format *format, Py_ssize_t n)
{
	size_t size = number_size(format->number), nr = block->size / BUFFER_BYTES;
	struct fresh fresh = { block->bytes, &source->column, format, n, 0 };
	struct column to = { block->bytes, size, *format };

	/* A sample tells; what is there already is written to as well, and takes longer. */
	if (!nr || !pages_are_small() || parallel_most(nr, BUFFERS_EACH) > 2 ||
	    !is_absent(fresh.bytes) || !is_absent(fresh.bytes + block->size / 2))
		return false;
	/* None is a short one, which would be stored. */
	fresh.step = (n + nr - 1) / nr;
	Py_BEGIN_ALLOW_THREADS
	if (convert_is_copy(&to, &source->column))
		shmdev_copy(fresh.bytes, source->column.first, n * size);
	else
		parallel_run(fresh_part, &fresh, nr, BUFFERS_EACH);
	Py_END_ALLOW_THREADS
	return true;
}
