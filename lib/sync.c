// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
#include "sync.h"

#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

#include "tuning.h"

static int by_descriptor(const void *left, const void *right)
{
	const struct job *a = *(struct job *const *)left, *b = *(struct job *const *)right;

	return (a->req->fd > b->req->fd) - (a->req->fd < b->req->fd);
}

/* The end of those of batch->syncs that have the descriptor of the one at @first. */
static unsigned int syncs_end(const struct batch *batch, unsigned int first)
{
	unsigned int end = first;

	while (end < batch->nr_syncs &&
	       batch->syncs[end]->req->fd == batch->syncs[first]->req->fd)
		end++;
	return end;
}

/* What fsync(2) says goes for all of a descriptor; also if it says it twice. */
static void syncs_note(struct batch *batch, unsigned int first, int error)
{
	unsigned int end = syncs_end(batch, first);

	for (; first < end; first++)
		if (!batch->syncs[first]->error)
			batch->syncs[first]->error = error;
}

static int sync_plain(int fd)
{
	int err;

	do {
		err = fsync(fd) ? errno : 0;
	} while (err == EINTR);
	return err;
}

/* Several at a time: a journal writes them together.  False if the ring breaks. */
static bool syncs_ring(struct batch *batch, struct ring *ring)
{
	unsigned int depth = tuning_get()->depth, next = 0, flying = 0;
	void *cookie;
	int result;

	while (next < batch->nr_syncs || flying) {
		for (; next < batch->nr_syncs && flying < depth; next = syncs_end(batch, next)) {
			ring_fsync(ring, batch->syncs[next]->req->fd, &batch->syncs[next]);
			flying++;
		}
		if (ring_wait(ring, false))
			return false;
		while (ring_reap(ring, &cookie, &result)) {
			struct job **first = cookie;

			if (result == -EINTR || ring_is_doubtful(result))
				result = -sync_plain((*first)->req->fd);
			syncs_note(batch, first - batch->syncs, -result);
			flying--;
		}
	}
	return true;
}

void batch_sync(struct batch *batch, struct ring *ring)
{
	unsigned int nr = 0;

	/* What went wrong stays so. */
	for (unsigned int i = 0; i < batch->nr_syncs; i++) {
		struct job *job = batch->syncs[i];

		if (!job->error)
			job->error = job_stop(batch, job);
		if (!job->error)
			batch->syncs[nr++] = job;
	}
	batch->nr_syncs = nr;
	qsort(batch->syncs, batch->nr_syncs, sizeof(*batch->syncs), by_descriptor);
	/* A single one needs no ring.  To do some twice does no harm. */
	if (ring && syncs_end(batch, 0) < batch->nr_syncs && syncs_ring(batch, ring))
		return;
	for (unsigned int i = 0; i < batch->nr_syncs; i = syncs_end(batch, i))
		syncs_note(batch, i, sync_plain(batch->syncs[i]->req->fd));
}
