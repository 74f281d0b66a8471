// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/*
 * Batches: the requests are checked, cut into pieces, done by a ring or without, and put
 * together again.
 */
#define _GNU_SOURCE
#include "batch.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "crew.h"
#include "flight.h"
#include "request.h"
#include "ring.h"
#include "stream.h"
#include "sync.h"
#include "tuning.h"

/* Batches up to this need no memory. */
#define FEW		8

/* Room for what streams and syncs take.  0 or -ENOMEM. */
static int batch_prepare(struct batch *batch)
{
	unsigned int nr = 0;

	if (streams_are_polled(batch)) {
		batch->waiting = calloc(batch->nr_streams, sizeof(*batch->waiting));
		batch->polls = calloc(1 + (size_t)batch->nr_streams, sizeof(*batch->polls));
		if (!batch->waiting || !batch->polls)
			return -ENOMEM;
	}
	if (!batch->nr_syncs)
		return 0;
	batch->syncs = calloc(batch->nr_syncs, sizeof(*batch->syncs));
	if (!batch->syncs)
		return -ENOMEM;
	for (unsigned int i = 0; i < batch->nr_files + batch->nr_streamed; i++)
		if (batch->jobs[i].req->flags & SHM_DRAIN_SYNC)
			batch->syncs[nr++] = &batch->jobs[i];
	return 0;
}

static void batch_do(struct batch *batch)
{
	struct ring *ring = batch->wants_ring ? ring_get() : NULL;
	bool works = ring;
	struct crew crew;

	streams_widen(batch);
	crew_start(&crew, batch->crew_size, batch_help, batch);
	if (ring && (batch->direction == FILL || batch->nr_direct || batch->nr_streams > 1))
		works = batch_ring(batch, ring);
	batch_help(batch);
	streams_plain(batch);
	streams_narrow(batch);
	crew_join(&crew);
	if (batch->nr_syncs)
		batch_sync(batch, works ? ring : NULL);
	if (ring)
		ring_put(ring);
}

/*
 * write(2) sends these to who has no reader, or writes beyond RLIMIT_FSIZE, and their
 * default is to kill.  The result says it, too.
 */
static void signals_hold(sigset_t *held, sigset_t *before)
{
	sigset_t pending;

	sigemptyset(held);
	sigpending(&pending);
	if (!sigismember(&pending, SIGPIPE))
		sigaddset(held, SIGPIPE);
	if (!sigismember(&pending, SIGXFSZ))
		sigaddset(held, SIGXFSZ);
	pthread_sigmask(SIG_BLOCK, held, before);
}

static void signals_release(const sigset_t *held, const sigset_t *before)
{
	while (sigtimedwait(held, NULL, &(struct timespec){ 0, 0 }) > 0 || errno == EINTR)
		;
	pthread_sigmask(SIG_SETMASK, before, NULL);
}

int batch_run(enum direction direction, struct transfer *reqs, unsigned int nr,
	      struct control *control)
{
	struct job few[FEW];
	sigset_t held, before;
	struct batch batch;
	int err;

	if (!nr)
		return 0;
	if (!reqs)
		return -EINVAL;

	memset(&batch, 0, offsetof(struct batch, fixed));
	batch.direction = direction;
	batch.chunk = tuning_get()->chunk;
	batch.control = control;
	batch.seekable = -1;
	batch.is_single = direction == FILL && nr == 1 && reqs->len <= batch.chunk;
	batch.nr_looks = 0;
	batch.nr_pieces = batch.nr_direct = batch.work = 0;
	pthread_mutex_init(&batch.lock, NULL);
	fixed_init(&batch.fixed);
	batch.jobs = nr <= FEW ? few : calloc(nr, sizeof(*batch.jobs));
	if (!batch.jobs)
		return -ENOMEM;
	batch_collect(&batch, reqs, nr);
	err = batch_prepare(&batch);
	if (err)
		goto free_batch;

	if (direction == DRAIN)
		signals_hold(&held, &before);
	batch_do(&batch);
	if (direction == DRAIN)
		signals_release(&held, &before);

	for (unsigned int i = 0; i < batch.nr_files + batch.nr_streamed; i++) {
		const struct job *job = &batch.jobs[i];

		job->req->done = job->end;
		job->req->result = job->error ? -job->error : (int64_t)job->end;
	}

free_batch:
	free(batch.syncs);
	free(batch.waiting);
	free(batch.polls);
	if (batch.jobs != few)
		free(batch.jobs);
	pthread_mutex_destroy(&batch.lock);
	return err;
}
