// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
#define _GNU_SOURCE
#include "flight.h"

#include <errno.h>
#include <limits.h>
#include <string.h>
#include <sys/uio.h>

#include "crew.h"
#include "stream.h"
#include "tuning.h"

/* How much is on its way in a ring while others help: what it has, they cannot take. */
#define WINDOW		((size_t)16 << 20)

/* How many turns the ring has at the most, between two looks whether a file is in memory. */
#define PAUSE_MAX	64

struct slot {
	struct piece piece;
	size_t weight;		/* of bytes on their way */
	bool busy;
};

/* What is on its way in a ring. */
struct flight {
	struct batch *batch;
	struct ring *ring;
	unsigned int depth, nr_idle;
	size_t window, weight;
	struct piece rest;	/* of a large one, not on its way yet */
	bool watching;
	int blind;		/* a descriptor that does not tell what is in memory, or -1 */
	unsigned int pause;	/* how many turns are the ring's, and how many are left */
	unsigned int left;
	long sleeps;		/* of ours */
	bool slept;		/* in this turn */
	struct slot slots[DEPTH_MAX], *idle[DEPTH_MAX];		/* as many as the depth */
};

static void slot_queue(struct flight *flight, struct slot *slot)
{
	const struct piece *piece = &slot->piece;
	struct batch *batch = flight->batch;
	size_t len = piece->len < batch->chunk ? piece->len : batch->chunk;
	char *memory = piece_memory(piece);
	int span = -1;

	if (!is_stream(piece->job)) {
		/* Not before: a batch that is in the page cache pins nothing. */
		fixed_register(&batch->fixed, flight->ring);
		span = fixed_find(&batch->fixed, memory, len);
	}
	slot->busy = true;
	ring_transfer(flight->ring, batch->direction, piece->job->req->fd, memory, len,
		      piece_offset(piece), span, slot);
}

static void slot_begin(struct flight *flight, const struct piece *piece)
{
	struct slot *slot = flight->idle[--flight->nr_idle];

	slot->piece = *piece;
	/* A stream keeps nothing from anybody. */
	slot->weight = is_stream(piece->job) ? 0 : piece->len;
	flight->weight += slot->weight;
	slot_queue(flight, slot);
}

static void slot_end(struct flight *flight, struct slot *slot)
{
	slot->busy = false;
	flight->weight -= slot->weight;
	flight->idle[flight->nr_idle++] = slot;
}

/* Begin some of what is left of a large piece, or end it. */
static void flight_go_on(struct flight *flight)
{
	struct batch *batch = flight->batch;
	struct piece first = piece_split(batch, &flight->rest);

	if (job_stop(batch, first.job)) {
		piece_advance(batch, &first, -ECANCELED);
		flight->rest.len = 0;
	} else {
		slot_begin(flight, &first);
	}
}

/*
 * What is in the page cache is had for less by a system call than by a ring.  True if
 * there is something left of @piece.
 *
 * Some file systems do not tell what is, tmpfs and overlayfs among them, and of these a
 * ring has each read done by a thread of the kernel.  They are read as they are, and the
 * ring has its turn when that has made us sleep.
 */
static bool piece_outlasts_cache(struct flight *flight, struct piece *piece)
{
	struct batch *batch = flight->batch;
	int fd = piece->job->req->fd;
	ssize_t got = 0;
	bool more;

	if (batch->direction != FILL || piece->job->is_direct)
		return true;
	if (fd != flight->blind) {
		do {
			got = piece_read(batch, piece, batch->chunk, RWF_NOWAIT);
		} while (got >= 0 && piece_advance(batch, piece, got));
		if (got >= 0)
			return false;
		/* Whether that is an error, the ring will find out. */
		if (errno != EOPNOTSUPP)
			return true;
		if (flight->blind < 0)
			thread_slept(&flight->sleeps);
		flight->blind = fd;
	}
	/* A signal that comes during such a read is not seen: a stream would wait on. */
	if (flight->left || flight->slept || (batch->has_intr && batch->nr_streams))
		return true;
	do {
		got = piece_plain(batch, piece, batch->chunk);
		more = piece_advance(batch, piece, got);
		/* Of many small ones, it is enough to ask after all of them. */
		if (more || flight->pause)
			flight->slept = thread_slept(&flight->sleeps);
	} while (more && !flight->slept);
	return more;
}

/* After some pieces: whose turn it is. */
static void flight_turn(struct flight *flight)
{
	if (flight->left) {
		flight->left--;
		return;
	}
	flight->slept |= thread_slept(&flight->sleeps);
	flight->pause = flight->slept ? 2 * flight->pause + 1 : 0;
	if (flight->pause > PAUSE_MAX)
		flight->pause = PAUSE_MAX;
	flight->left = flight->slept && flight->batch->has_intr ? UINT_MAX : flight->pause;
	flight->slept = false;
}

/*
 * Begin what there is room for, and what is not too odd for a ring; do the odd.  True if
 * there is more, and no need to wait for it.
 */
static bool flight_load(struct flight *flight)
{
	struct batch *batch = flight->batch;
	struct piece piece, pieces[TAKE];
	struct job *job;
	unsigned int nr;
	size_t taken = 0;

	/* Streams first: they may take long, and with too many nothing else would get by. */
	while (batch->nr_streams <= flight->depth / 2 && (job = batch_next_stream(batch))) {
		stream_begin(job, &piece);
		/* A ring would wait where read(2) says EAGAIN. */
		if (is_nonblocking(job->req->fd))
			piece_finish(batch, &piece);
		else if (job_stop(batch, job) && !piece_advance(batch, &piece, -ECANCELED))
			continue;
		else
			slot_begin(flight, &piece);
	}
	while (flight->nr_idle && flight->weight < flight->window) {
		/* What is on its way, as streams are, is to be looked after now and then. */
		if (taken >= WINDOW)
			return true;
		if (flight->rest.len) {
			flight_go_on(flight);
			continue;
		}
		nr = flight->nr_idle < TAKE ? flight->nr_idle : TAKE;
		nr = batch_take(batch, pieces, nr, batch->chunk);
		if (!nr)
			break;
		if (flight->blind >= 0 && !flight->left)
			thread_slept(&flight->sleeps);
		for (unsigned int i = 0; i < nr; i++) {
			taken += pieces[i].len;
			if (!piece_outlasts_cache(flight, &pieces[i]))
				continue;
			if (pieces[i].len > batch->chunk)
				/* Then there is none behind it. */
				flight->rest = pieces[i];
			else
				slot_begin(flight, &pieces[i]);
		}
		if (flight->blind < 0)
			continue;
		flight_turn(flight);
		/* What the ring has is to be on its way before we may sleep again. */
		if (flight->pause && !flight->left)
			return true;
	}
	return false;
}

/* Make what is to be ended come back. */
static void flight_stop(struct flight *flight)
{
	for (struct slot *slot = flight->slots; slot < flight->slots + flight->depth; slot++)
		if (slot->busy && job_stop(flight->batch, slot->piece.job))
			ring_cancel(flight->ring, slot);
}

static void flight_reap(struct flight *flight, bool requeue)
{
	struct batch *batch = flight->batch;
	struct slot *slot;
	void *cookie;
	int result;

	while (ring_reap(flight->ring, &cookie, &result)) {
		if (!cookie)
			continue;
		if (cookie == flight) {
			flight->watching = false;
			flight_stop(flight);
			continue;
		}
		slot = cookie;
		if (ring_is_doubtful(result) && !job_stop(batch, slot->piece.job))
			result = piece_plain(batch, &slot->piece, batch->chunk);
		if (!piece_advance(batch, &slot->piece, result))
			slot_end(flight, slot);
		else if (requeue)
			slot_queue(flight, slot);
	}
}

/* Let nothing be on its way; false if the ring breaks. */
static bool flight_land(struct flight *flight)
{
	int err = 0;

	if (flight->watching)
		ring_cancel(flight->ring, flight);
	while (flight->watching && !err) {
		err = ring_wait(flight->ring, false);
		flight_reap(flight, false);
	}
	return !err;
}

bool batch_ring(struct batch *batch, struct ring *ring)
{
	struct flight flight;
	bool stopped = false;
	int err = 0;

	memset(&flight, 0, offsetof(struct flight, slots));
	flight.batch = batch;
	flight.ring = ring;
	flight.depth = tuning_get()->depth;
	flight.window = SIZE_MAX;
	flight.blind = -1;
	for (unsigned int i = 0; i < flight.depth; i++) {
		flight.slots[i].busy = false;
		flight.idle[flight.nr_idle++] = &flight.slots[i];
	}
	if (batch->crew_size > 1) {
		flight.window = batch->work / (4 * batch->crew_size);
		if (flight.window > WINDOW)
			flight.window = WINDOW;
	}
	if (batch->control) {
		ring_watch(ring, batch->control->stop_fd, &flight);
		flight.watching = true;
	}

	do {
		bool more = flight_load(&flight);

		if (!stopped && batch_is_interrupted(batch)) {
			flight_stop(&flight);
			stopped = true;
		}
		if (!more && flight.nr_idle == flight.depth)
			break;
		if (more)
			err = ring_submit(ring);
		else
			err = ring_wait(ring, batch->has_intr && !batch_is_interrupted(batch));
		if (err == -EINTR) {
			batch_interrupt(batch);
			/* Now: what is loaded next, of others, may take its time. */
			flight_stop(&flight);
			stopped = true;
			err = 0;
		}
		flight_reap(&flight, !err);
	} while (!err);
	if (!err)
		return flight_land(&flight);

	if (flight.rest.len)
		piece_finish(batch, &flight.rest);
	for (struct slot *slot = flight.slots; slot < flight.slots + flight.depth; slot++) {
		if (!slot->busy)
			continue;
		if (is_stream(slot->piece.job) && streams_are_polled(batch))
			stream_wait(batch, &slot->piece);
		else
			piece_finish(batch, &slot->piece);
	}
	return false;
}
