// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
#define _GNU_SOURCE
#include "request.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "backend.h"
#include "crew.h"
#include "fresh.h"
#include "heap.h"
#include "region.h"

bool memory_is_ours(const void *memory, size_t len, bool write, struct stretch *stretch)
{
	if (stretch_has(stretch, memory, len) ||
	    (region_around(memory, len, write, stretch) &&
	     heap_check_range(memory, len, stretch)))
		return true;
	stretch->size = 0;
	return false;
}

/* What a request costs besides its bytes, in bytes that could be copied meanwhile. */
#define OVERHEAD	4096

/*
 * Gathered at a time, at the most.  More than a cache holds, which a copy would feel, but a read
 * hardly does; and where processors are busy, to ask for 8 MiB at a time took twice as long.
 */
#define TURN		(32 * HUGE_SIZE)

/* The flags of the open file, 0 if there is none. */
static int batch_look(struct batch *batch, int fd)
{
	if (!batch->nr_looks || fd != batch->looked_at) {
		batch->nr_looks++;
		batch->looked_at = fd;
		batch->looked_flags = fcntl(fd, F_GETFL);
		if (batch->looked_flags < 0)
			batch->looked_flags = 0;
	}
	return batch->looked_flags;
}

/* 0 or -errno; notes in @batch what memory the good ones have. */
static int request_check(const struct transfer *req, struct batch *batch,
			 struct stretch *stretch)
{
	unsigned int known = batch->direction == FILL ? SHM_FILL_INTR
						      : SHM_DRAIN_INTR | SHM_DRAIN_SYNC;

	if (req->flags & ~known || req->offset < SHM_FILL_CURRENT || req->len > INT64_MAX ||
	    req->offset > INT64_MAX - (int64_t)req->len)
		return -EINVAL;
	if (!req->len)
		return 0;
	if (!memory_is_ours(req->memory, req->len, batch->direction == FILL, stretch))
		return -EFAULT;
	if (req->offset == SHM_FILL_CURRENT)
		return 0;
	/* It would append, wherever it is told to write. */
	if (batch->direction == DRAIN && batch_look(batch, req->fd) & O_APPEND)
		return -EINVAL;
	fixed_add(&batch->fixed, stretch->backend, stretch->region, req->memory, req->len);
	return 0;
}

static int by_stream_and_position(const void *left, const void *right)
{
	const struct transfer *a = ((const struct job *)left)->req;
	const struct transfer *b = ((const struct job *)right)->req;

	if (a->fd != b->fd)
		return a->fd < b->fd ? -1 : 1;
	return a < b ? -1 : a > b;
}

/* How to write to the memory of @job. */
static void job_look(struct job *job)
{
	const struct transfer *req = job->req;
	struct stat st;

	/* What is small is asked for when it is read. */
	job->by_file = req->len < HUGE_SIZE || fresh_in_part(req->memory, req->len);
	if (req->len < HUGE_SIZE || !job->by_file)
		return;
	/* Not beyond the end of the file: no page is made that nothing is read into. */
	if (fstat(req->fd, &st) || !S_ISREG(st.st_mode) || st.st_size <= req->offset)
		return;
	job->gather = st.st_size - req->offset;
	if (job->gather > req->len)
		job->gather = req->len;
}

/* So that there are several for each of the crew. */
static size_t turn_of(const struct batch *batch)
{
	size_t turn = batch->work / (4 * batch->crew_size) & -HUGE_SIZE;

	if (turn > TURN)
		turn = TURN;
	if (turn < HUGE_SIZE)
		turn = HUGE_SIZE;
	return turn < batch->chunk ? batch->chunk : turn;
}

static void batch_add_file(struct batch *batch, struct job *job)
{
	const struct transfer *req = job->req;

	/* It makes no difference to a single read. */
	job->is_direct = !batch->is_single && batch_look(batch, req->fd) & O_DIRECT;
	if (batch->direction == FILL)
		job_look(job);
	batch->jobs[batch->nr_files++] = *job;
	batch->nr_direct += job->is_direct;
	batch->nr_pieces += req->len / batch->chunk + 1;
	if (!job->is_direct)
		batch->work += req->len + OVERHEAD;
}

static void streams_sort(struct batch *batch)
{
	struct job *streamed = &batch->jobs[batch->nr_files];

	if (batch->nr_streamed > 1)
		qsort(streamed, batch->nr_streamed, sizeof(*streamed), by_stream_and_position);
	for (unsigned int i = 0; i < batch->nr_streamed; i++) {
		if (i + 1 < batch->nr_streamed && streamed[i].req->fd == streamed[i + 1].req->fd)
			streamed[i].next = &streamed[i + 1];
		else
			batch->nr_streams++;
	}
	batch->next_streamed = batch->nr_files;
}

void batch_collect(struct batch *batch, struct transfer *reqs, unsigned int nr)
{
	struct stretch stretch = { .size = 0 };

	for (struct transfer *req = reqs; req < reqs + nr; req++) {
		struct job job = { .req = req, .end = req->len };

		req->done = 0;
		req->result = request_check(req, batch, &stretch);
		if (req->result || !(req->len || req->flags & SHM_DRAIN_SYNC))
			continue;
		if (req->flags & SHM_FILL_INTR)
			batch->has_intr = true;
		if (req->flags & SHM_DRAIN_SYNC)
			batch->nr_syncs++;
		if (is_stream(&job) && req->len)
			/* From the end, and put in order below. */
			batch->jobs[nr - ++batch->nr_streamed] = job;
		else
			batch_add_file(batch, &job);
	}
	memmove(&batch->jobs[batch->nr_files], &batch->jobs[nr - batch->nr_streamed],
		batch->nr_streamed * sizeof(*batch->jobs));
	streams_sort(batch);

	/*
	 * A single read or write has nothing to be done at the same time; and one into the
	 * page cache is handed by the ring to a thread of the kernel, so that it only
	 * takes longer.
	 */
	if (batch->direction == FILL || batch->nr_direct)
		batch->wants_ring = batch->nr_pieces + batch->nr_streams > 1;
	else
		batch->wants_ring = batch->nr_streams > 1 || batch->nr_syncs > 1;

	batch->crew_size = crew_size(batch->work);
	batch->by_file = batch->crew_size <= FRESH_THREADS;
	batch->turn = turn_of(batch);
	if (batch->direction == DRAIN && batch->crew_size > batch->nr_looks)
		batch->crew_size = batch->nr_looks;
}
