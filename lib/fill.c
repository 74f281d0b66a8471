// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/*
 * Fills: check a batch, cut it into reads, do them by a ring or without, put the
 * results together.
 *
 * A request with an offset is cut into pieces that are read in any order.  One of
 * SHM_FILL_CURRENT is read piece after piece, and the next of the same descriptor
 * after it: together they are a stream.
 */
#define _GNU_SOURCE
#include "fill.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>

#include "fixed.h"
#include "heap.h"
#include "region.h"
#include "ring.h"

/*
 * How much one read of a ring asks for: from 512 KiB on, size makes no difference,
 * and 16 of them on their way are what a disk wants.
 */
#define RING_PIECE	((size_t)1 << 20)

/* Without a ring, and from streams: what read(2) takes at a time, rounded down. */
#define PLAIN_PIECE	((size_t)1 << 30)

/* Batches up to this need no memory. */
#define FEW		8

struct job {
	struct shm_fill *req;
	size_t begun;		/* bytes that reads have been made for */
	size_t end;		/* where its data ends, as far as is known */
	int error;		/* what came at end, or 0 */
	struct job *next;	/* of the stream */
};

/* One read that is to be done, or its rest. */
struct read {
	struct job *job;
	size_t at, len;
};

struct batch {
	/* Requests with an offset, then those of streams, stream after stream. */
	struct job *jobs;
	unsigned int nr_files, nr_streamed;

	/* What has not been begun: a request, a request that begins a stream. */
	unsigned int next_file, next_streamed;

	/* Streams that have been begun, without a ring, and wait for data. */
	unsigned int nr_streams, nr_waiting;
	struct read *waiting;
	struct pollfd *polls;

	bool is_small;		/* one read: nothing to do at the same time */
	int seekable;		/* the descriptor last found to be so, or -1 */
	struct fixed fixed;
};

/* --- Reads ---------------------------------------------------------------------- */

static bool is_stream(const struct job *job)
{
	return job->req->offset == SHM_FILL_CURRENT;
}

/* The data of @job ends at @at, because of @error or, if that is 0, of the file's end. */
static void job_cut(struct job *job, size_t at, int error)
{
	/* Pieces come in any order; what is nearest to the start counts. */
	if (at >= job->end)
		return;
	job->end = at;
	/* A descriptor that has no more just now gave something: that is a success. */
	job->error = error == EAGAIN && at ? 0 : error;
}

/* The next piece of @job, or false. */
static bool job_begin(struct job *job, size_t piece, struct read *read)
{
	if (job->begun >= job->end)
		return false;
	read->job = job;
	read->at = job->begun;
	read->len = job->end - job->begun < piece ? job->end - job->begun : piece;
	job->begun += read->len;
	return true;
}

/* Take @result, as of read(2) or -errno, into account.  True if @read is to go on. */
static bool read_advance(struct read *read, ssize_t result)
{
	struct job *job = read->job;

	if (result == -EINTR)
		return true;
	if (result > 0) {
		read->at += result;
		read->len -= result;
		if (read->len)
			return true;
	} else {
		job_cut(job, read->at, -result);
	}

	if (!is_stream(job))
		return false;
	while (!job_begin(job, PLAIN_PIECE, read)) {
		job = job->next;
		if (!job)
			return false;
	}
	return true;
}

static void *read_dst(const struct read *read)
{
	return (char *)read->job->req->dst + read->at;
}

static int64_t read_offset(const struct read *read)
{
	const struct shm_fill *req = read->job->req;

	return is_stream(read->job) ? SHM_FILL_CURRENT : req->offset + (int64_t)read->at;
}

static ssize_t read_plain(const struct read *read)
{
	struct iovec to = { read_dst(read), read->len };
	ssize_t got;

	if (is_stream(read->job))
		got = readv(read->job->req->fd, &to, 1);
	else
		got = preadv(read->job->req->fd, &to, 1, read_offset(read));
	return got < 0 ? -errno : got;
}

/* Do @read, and in a stream all after it. */
static void read_through(struct read *read)
{
	while (read_advance(read, read_plain(read)))
		;
}

static void job_plain(struct job *job)
{
	struct read read;

	while (job_begin(job, PLAIN_PIECE, &read))
		read_through(&read);
}

/* --- Batches -------------------------------------------------------------------- */

static bool is_nonblocking(int fd)
{
	int flags = fcntl(fd, F_GETFL);

	/* A bad descriptor does not block either. */
	return flags < 0 || flags & O_NONBLOCK;
}

/* The request that begins the next stream, or NULL. */
static struct job *batch_next_stream(struct batch *batch)
{
	struct job *job, *last;

	if (batch->next_streamed == batch->nr_files + batch->nr_streamed)
		return NULL;
	job = &batch->jobs[batch->next_streamed];
	for (last = job; last->next; last = last->next)
		;
	batch->next_streamed = last - batch->jobs + 1;
	return job;
}

/* --- Without a ring ------------------------------------------------------------- */

static void stream_wait(struct batch *batch, const struct read *read)
{
	batch->polls[batch->nr_waiting] =
		(struct pollfd){ .fd = read->job->req->fd, .events = POLLIN };
	batch->waiting[batch->nr_waiting++] = *read;
}

/*
 * Several streams, each of which may have nothing for a while: take from each what
 * it has, as a ring would, so that who writes to them may do so in any order.
 */
static void streams_poll(struct batch *batch)
{
	struct pollfd *polls = batch->polls;
	unsigned int left = batch->nr_waiting;

	while (left > 1) {
		if (poll(polls, batch->nr_waiting, -1) < 0) {
			if (errno == EINTR || errno == EAGAIN)
				continue;
			break;
		}
		for (unsigned int i = 0; i < batch->nr_waiting; i++) {
			if (polls[i].fd < 0 || !polls[i].revents)
				continue;
			if (read_advance(&batch->waiting[i], read_plain(&batch->waiting[i])))
				continue;
			polls[i].fd = -1;
			left--;
		}
	}
	/* The only one, or, where poll() is not to be had, one after another. */
	for (unsigned int i = 0; i < batch->nr_waiting; i++)
		if (polls[i].fd >= 0)
			read_through(&batch->waiting[i]);
}

/* What has not been begun by a ring, and what waits. */
static void batch_plain(struct batch *batch)
{
	struct job *job;
	struct read read;

	for (; batch->next_file < batch->nr_files; batch->next_file++)
		job_plain(&batch->jobs[batch->next_file]);

	while ((job = batch_next_stream(batch))) {
		job_begin(job, PLAIN_PIECE, &read);
		if (batch->nr_streams == 1 || is_nonblocking(job->req->fd))
			read_through(&read);
		else
			stream_wait(batch, &read);
	}
	streams_poll(batch);
}

/* --- With a ring ---------------------------------------------------------------- */

struct slot {
	struct read read;
	bool busy;
};

/* A ring would read from a pipe and forget the offset.  Descriptors come in runs. */
static bool is_seekable(struct batch *batch, int fd)
{
	if (fd == batch->seekable)
		return true;
	if (lseek(fd, 0, SEEK_CUR) < 0)
		return false;
	batch->seekable = fd;
	return true;
}

/* What is left to be done by a ring, and not too odd for it; the odd is done here. */
static bool batch_next(struct batch *batch, struct read *read)
{
	struct job *job;

	/* Streams first: they may take long. */
	while ((job = batch_next_stream(batch))) {
		job_begin(job, PLAIN_PIECE, read);
		/* A ring would wait where read(2) says EAGAIN. */
		if (!is_nonblocking(job->req->fd))
			return true;
		read_through(read);
	}

	for (; batch->next_file < batch->nr_files; batch->next_file++) {
		job = &batch->jobs[batch->next_file];
		if (!job->begun && !is_seekable(batch, job->req->fd))
			job_plain(job);
		else if (job_begin(job, RING_PIECE, read))
			return true;
	}
	return false;
}

static void slot_queue(struct slot *slot, struct batch *batch, struct ring *ring)
{
	const struct read *read = &slot->read;
	char *dst = read_dst(read);

	slot->busy = true;
	ring_read(ring, read->job->req->fd, dst, read->len, read_offset(read),
		  is_stream(read->job) ? -1 : fixed_find(&batch->fixed, dst, read->len), slot);
}

/* Errors that may be of the ring's making, and not what read(2) would say. */
static bool is_doubtful(int result)
{
	switch (result) {
	case -EAGAIN:
	case -ECANCELED:
	case -EFAULT:
	case -EINVAL:
	case -ENOMEM:
	case -EOPNOTSUPP:
		return true;
	default:
		return false;
	}
}

/* As much of @batch as @ring will do: all, unless it breaks. */
static void batch_ring(struct batch *batch, struct ring *ring)
{
	struct slot slots[RING_DEPTH] = { 0 }, *idle[RING_DEPTH], *slot;
	unsigned int nr_idle = 0;
	void *cookie;
	int result, err;

	for (slot = slots; slot < slots + RING_DEPTH; slot++)
		idle[nr_idle++] = slot;

	fixed_register(&batch->fixed, ring);
	do {
		while (nr_idle && batch_next(batch, &idle[nr_idle - 1]->read))
			slot_queue(idle[--nr_idle], batch, ring);
		if (nr_idle == RING_DEPTH)
			return;
		err = ring_wait(ring);
		while (ring_reap(ring, &cookie, &result)) {
			slot = cookie;
			if (is_doubtful(result))
				result = read_plain(&slot->read);
			slot->busy = read_advance(&slot->read, result);
			if (!slot->busy)
				idle[nr_idle++] = slot;
			else if (!err)
				slot_queue(slot, batch, ring);
		}
	} while (!err);

	for (slot = slots; slot < slots + RING_DEPTH; slot++) {
		if (!slot->busy)
			continue;
		if (is_stream(slot->read.job) && batch->nr_streams > 1)
			stream_wait(batch, &slot->read);
		else
			read_through(&slot->read);
	}
}

enum shmdev_fill_engine fill_engine(enum shmdev_backend backend)
{
	enum shmdev_fill_engine engine = SHMDEV_FILL_RING;
	struct ring *ring = ring_get();

	if (!ring)
		return SHMDEV_FILL_PREADV;
	if (fixed_works(ring, backend))
		engine = SHMDEV_FILL_FIXED;
	ring_put(ring);
	return engine;
}

/* --- Requests ------------------------------------------------------------------- */

/* 0 or -errno; notes in @batch that memory will be read into. */
static int request_check(const struct shm_fill *req, struct batch *batch)
{
	enum shmdev_backend backend;
	const void *region;

	if (req->flags || req->offset < SHM_FILL_CURRENT || req->len > INT64_MAX)
		return -EINVAL;
	if (!req->len)
		return 0;
	region = region_around(req->dst, req->len, &backend);
	if (!region || !heap_check_range(req->dst, req->len))
		return -EFAULT;
	if (req->offset != SHM_FILL_CURRENT)
		fixed_add(&batch->fixed, backend, region, req->dst, req->len);
	return 0;
}

static int by_stream_and_position(const void *left, const void *right)
{
	const struct shm_fill *a = ((const struct job *)left)->req;
	const struct shm_fill *b = ((const struct job *)right)->req;

	if (a->fd != b->fd)
		return a->fd < b->fd ? -1 : 1;
	return a < b ? -1 : a > b;
}

/* Sort the good ones of @reqs into @batch, which has room for all of them. */
static void batch_collect(struct batch *batch, struct shm_fill *reqs, unsigned int nr)
{
	struct job *streamed;
	size_t reads = 0;

	for (struct shm_fill *req = reqs; req < reqs + nr; req++) {
		struct job job = { .req = req, .end = req->len };

		req->result = request_check(req, batch);
		if (req->result || !req->len)
			continue;
		if (is_stream(&job)) {
			/* From the end, and put in order below. */
			batch->jobs[nr - ++batch->nr_streamed] = job;
			continue;
		}
		batch->jobs[batch->nr_files++] = job;
		reads += (req->len - 1) / RING_PIECE + 1;
	}

	streamed = &batch->jobs[batch->nr_files];
	memmove(streamed, &batch->jobs[nr - batch->nr_streamed],
		batch->nr_streamed * sizeof(*streamed));
	if (batch->nr_streamed > 1)
		qsort(streamed, batch->nr_streamed, sizeof(*streamed), by_stream_and_position);
	for (unsigned int i = 0; i < batch->nr_streamed; i++) {
		if (i + 1 < batch->nr_streamed && streamed[i].req->fd == streamed[i + 1].req->fd)
			streamed[i].next = &streamed[i + 1];
		else
			batch->nr_streams++;
	}
	batch->next_streamed = batch->nr_files;
	batch->is_small = reads + batch->nr_streams <= 1;
}

int shm_fill(struct shm_fill *reqs, unsigned int nr)
{
	struct job few[FEW];
	struct batch batch;
	struct ring *ring;
	int err = 0;

	if (!nr)
		return 0;
	if (!reqs)
		return -EINVAL;

	memset(&batch, 0, offsetof(struct batch, fixed));
	batch.seekable = -1;
	fixed_init(&batch.fixed);
	batch.jobs = nr <= FEW ? few : calloc(nr, sizeof(*batch.jobs));
	if (!batch.jobs)
		return -ENOMEM;
	batch_collect(&batch, reqs, nr);
	if (batch.nr_streams > 1) {
		batch.waiting = calloc(batch.nr_streams, sizeof(*batch.waiting));
		batch.polls = calloc(batch.nr_streams, sizeof(*batch.polls));
		if (!batch.waiting || !batch.polls) {
			err = -ENOMEM;
			goto free_batch;
		}
	}

	ring = batch.is_small ? NULL : ring_get();
	if (ring) {
		batch_ring(&batch, ring);
		ring_put(ring);
	}
	batch_plain(&batch);

	for (unsigned int i = 0; i < batch.nr_files + batch.nr_streamed; i++) {
		const struct job *job = &batch.jobs[i];

		job->req->result = job->error ? -job->error : (int64_t)job->end;
	}

free_batch:
	free(batch.waiting);
	free(batch.polls);
	if (batch.jobs != few)
		free(batch.jobs);
	return err;
}
