// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/*
 * Batches: check the requests, cut them into pieces, do these by a ring or without, put
 * the results together.
 *
 * A request with an offset is cut into pieces that are done in any order, by the calling
 * thread and by its crew.  One of SHM_FILL_CURRENT is done as it stands, and the next of
 * the same descriptor after it: together they are a stream, which only the calling thread
 * deals with.
 */
#define _GNU_SOURCE
#include "batch.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#include "crew.h"
#include "direct.h"
#include "fixed.h"
#include "heap.h"
#include "region.h"
#include "ring.h"
#include "tuning.h"

/* Batches up to this need no memory. */
#define FEW		8

/* How many pieces are taken at a time, where they are small. */
#define TAKE		16

/* How much is on its way in a ring while others help: what it has, they cannot take. */
#define WINDOW		((size_t)16 << 20)

/* What a request costs besides its bytes, in bytes that could be copied meanwhile. */
#define OVERHEAD	4096

struct job {
	struct transfer *req;
	struct job *next;	/* of the stream */
	size_t begun;		/* bytes that pieces have been made of */
	size_t end;		/* where its data ends, as far as is known */
	int error;		/* what came at end, or 0 */
	bool is_direct;
};

/* What is to be done at a time, or its rest. */
struct piece {
	struct job *job;
	size_t at, len;
};

struct batch {
	enum direction direction;
	size_t chunk;

	/* Requests with an offset, then those of streams, stream after stream. */
	struct job *jobs;
	unsigned int nr_files, nr_streamed;

	/* What has not been begun: a request, a request that begins a stream. */
	unsigned int next_file, next_streamed;

	/* Of next_file, what hangs on it, and the jobs' begun, end and error. */
	pthread_mutex_t lock;
	int seekable;		/* the descriptor last found to be so, or -1 */

	/* Streams that have been begun, without a ring, and wait: polls[1 + i]. */
	unsigned int nr_streams, nr_waiting;
	struct piece *waiting;
	struct pollfd *polls;

	/* Why to end before the end. */
	struct control *control;	/* may be NULL */
	bool has_intr;			/* some of the requests */
	bool interrupted;		/* atomic */

	/* Those that want to be fsynced, by descriptor. */
	struct job **syncs;
	unsigned int nr_syncs;

	bool is_single;			/* read(2) */
	bool wants_ring;
	unsigned int crew_size;
	struct fixed fixed;

	/* The descriptor last looked at while requests are collected, and its F_GETFL. */
	int looked_at, looked_flags;
	unsigned int nr_looks;
	size_t nr_pieces, nr_direct;
	size_t work;			/* for a crew: in bytes */
};

/* --- Pieces --------------------------------------------------------------------- */

static bool is_stream(const struct job *job)
{
	return job->req->offset == SHM_FILL_CURRENT;
}

static void batch_interrupt(struct batch *batch)
{
	__atomic_store_n(&batch->interrupted, true, __ATOMIC_RELAXED);
}

static bool batch_is_interrupted(const struct batch *batch)
{
	return __atomic_load_n(&batch->interrupted, __ATOMIC_RELAXED);
}

/* Why @job is to be ended now, or 0. */
static int job_stop(const struct batch *batch, const struct job *job)
{
	if (batch->control && __atomic_load_n(&batch->control->stopped, __ATOMIC_ACQUIRE))
		return ECANCELED;
	return job->req->flags & SHM_FILL_INTR && batch_is_interrupted(batch) ? EINTR : 0;
}

/*
 * The data of @job ends at @at, because of @error or, if that is 0, of the file's end.
 * Locked.
 */
static void job_cut_locked(struct job *job, size_t at, int error)
{
	/* Pieces come in any order; what is nearest to the start counts. */
	if (at >= job->end)
		return;
	job->end = at;
	/* A descriptor that has no more just now gave something: that is a success. */
	job->error = error == EAGAIN && at ? 0 : error;
}

static void job_cut(struct batch *batch, struct job *job, size_t at, int error)
{
	pthread_mutex_lock(&batch->lock);
	job_cut_locked(job, at, error);
	pthread_mutex_unlock(&batch->lock);
}

/* The next piece of @job, or false.  Locked. */
static bool job_begin(const struct batch *batch, struct job *job, struct piece *piece)
{
	size_t most = batch->chunk;

	if (job->begun >= job->end)
		return false;
	if (batch->direction == DRAIN && !job->is_direct)
		/* Writers of one file wait for each other; it is all for one of them. */
		most = SIZE_MAX;
	else
		/* O_DIRECT wants to begin at a block, so all but the first piece do. */
		most -= (uint64_t)(job->req->offset + job->begun) % batch->chunk;
	piece->job = job;
	piece->at = job->begun;
	piece->len = job->end - job->begun < most ? job->end - job->begun : most;
	job->begun += piece->len;
	return true;
}

static void stream_begin(struct job *job, struct piece *piece)
{
	*piece = (struct piece){ job, 0, job->end };
}

/* Take @result, as of read(2) or -errno, into account.  True if @piece is to go on. */
static bool piece_advance(struct batch *batch, struct piece *piece, ssize_t result)
{
	struct job *job = piece->job;
	int stop;

	if (result == -EINTR && batch->has_intr)
		batch_interrupt(batch);
	stop = job_stop(batch, job);

	if (result > 0) {
		piece->at += result;
		piece->len -= result;
		if (batch->control)
			__atomic_add_fetch(&batch->control->bytes, result, __ATOMIC_RELAXED);
	} else if (result != -EINTR && !(result == -ECANCELED && stop)) {
		job_cut(batch, job, piece->at, -result);
		piece->len = 0;
	}
	if (piece->len) {
		if (!stop)
			return true;
		job_cut(batch, job, piece->at, stop);
	}

	if (!is_stream(job))
		return false;
	while ((job = job->next)) {
		stop = job_stop(batch, job);
		if (!stop) {
			stream_begin(job, piece);
			return true;
		}
		job_cut(batch, job, 0, stop);
	}
	return false;
}

static char *piece_memory(const struct piece *piece)
{
	return piece->job->req->memory + piece->at;
}

static int64_t piece_offset(const struct piece *piece)
{
	const struct transfer *req = piece->job->req;

	return is_stream(piece->job) ? SHM_FILL_CURRENT : req->offset + (int64_t)piece->at;
}

/* By a system call, @most bytes at the most. */
static ssize_t piece_plain(const struct batch *batch, const struct piece *piece, size_t most)
{
	struct iovec memory = { piece_memory(piece), piece->len < most ? piece->len : most };
	int64_t offset = piece_offset(piece);
	int fd = piece->job->req->fd;
	ssize_t done;

	if (batch->direction == FILL)
		done = offset == SHM_FILL_CURRENT ? readv(fd, &memory, 1)
						  : preadv(fd, &memory, 1, offset);
	else
		done = offset == SHM_FILL_CURRENT ? writev(fd, &memory, 1)
						  : pwritev(fd, &memory, 1, offset);
	if (done >= 0)
		return done;
	if (errno != EINVAL || offset == SHM_FILL_CURRENT || !is_direct(fd))
		return -errno;
	return batch->direction == FILL
		? direct_read(fd, memory.iov_base, memory.iov_len, offset)
		: direct_write(fd, memory.iov_base, memory.iov_len, offset);
}

/* Do @piece, and in a stream all after it. */
static void piece_finish(struct batch *batch, struct piece *piece)
{
	while (piece_advance(batch, piece, piece_plain(batch, piece, batch->chunk)))
		;
}

/* --- Requests with an offset ------------------------------------------------------ */

/*
 * 0, or why there are no offsets in @fd: a ring would read from a pipe and forget them.
 * Descriptors come in runs.  Locked.
 */
static int seek_error(struct batch *batch, int fd)
{
	if (fd == batch->seekable)
		return 0;
	if (lseek(fd, 0, SEEK_CUR) < 0)
		return errno;
	batch->seekable = fd;
	return 0;
}

/* Locked. */
static bool batch_next_file(struct batch *batch, struct piece *piece)
{
	for (; batch->next_file < batch->nr_files; batch->next_file++) {
		struct job *job = &batch->jobs[batch->next_file];
		int error = job_stop(batch, job);

		if (job->begun >= job->end)
			continue;
		if (!error && !job->begun && batch->wants_ring)
			error = seek_error(batch, job->req->fd);
		if (error)
			job_cut_locked(job, job->begun, error);
		else if (job_begin(batch, job, piece))
			return true;
	}
	return false;
}

/* Up to @most pieces of together little more than @bytes; their number. */
static unsigned int batch_take(struct batch *batch, struct piece *pieces, unsigned int most,
			       size_t bytes)
{
	unsigned int nr = 0;
	size_t taken = 0;

	pthread_mutex_lock(&batch->lock);
	while (nr < most && taken < bytes && batch_next_file(batch, &pieces[nr]))
		taken += pieces[nr++].len;
	pthread_mutex_unlock(&batch->lock);
	return nr;
}

/* Do what others have not begun: each of the crew, and in the end the caller. */
static void *batch_help(void *argument)
{
	struct batch *batch = argument;
	struct piece pieces[TAKE];
	unsigned int nr;

	while ((nr = batch_take(batch, pieces, TAKE, batch->chunk)))
		for (unsigned int i = 0; i < nr; i++)
			piece_finish(batch, &pieces[i]);
	return NULL;
}

/* --- Streams -------------------------------------------------------------------- */

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

/* Whether a stream may have to be left before it has moved. */
static bool streams_end_early(const struct batch *batch)
{
	return batch->control || batch->has_intr;
}

static bool streams_are_polled(const struct batch *batch)
{
	return batch->nr_streams > 1 || (batch->nr_streams && streams_end_early(batch));
}

static void stream_wait(struct batch *batch, const struct piece *piece)
{
	batch->polls[1 + batch->nr_waiting] = (struct pollfd){
		.fd = piece->job->req->fd,
		.events = batch->direction == FILL ? POLLIN : POLLOUT,
	};
	batch->waiting[batch->nr_waiting++] = *piece;
}

/* What can be read or written without waiting, now that poll(2) says so. */
static size_t stream_room(const struct batch *batch, int fd)
{
	/* A pipe takes that much if it takes anything. */
	return batch->direction == DRAIN && lseek(fd, 0, SEEK_CUR) < 0 ? PIPE_BUF : batch->chunk;
}

/* Let stream number @i go on by @result; true if that was its end. */
static bool stream_advance(struct batch *batch, unsigned int i, ssize_t result)
{
	if (piece_advance(batch, &batch->waiting[i], result))
		return false;
	batch->polls[1 + i].fd = -1;
	return true;
}

/*
 * Several streams, each of which may have nothing for a while: take from each what
 * it has, as a ring would, so that who writes to them may do so in any order.
 */
static void streams_poll(struct batch *batch)
{
	unsigned int left = batch->nr_waiting, alone = streams_end_early(batch) ? 0 : 1;
	struct pollfd *polls = batch->polls;

	if (!left)
		return;
	polls[0] = (struct pollfd){ batch->control ? batch->control->stop_fd : -1, POLLIN, 0 };
	while (left > alone) {
		/* Those that are to be ended, before anything waits for them. */
		for (unsigned int i = 0; i < batch->nr_waiting; i++)
			if (polls[1 + i].fd >= 0 && job_stop(batch, batch->waiting[i].job))
				left -= stream_advance(batch, i, -ECANCELED);
		if (left <= alone)
			break;
		if (poll(polls, 1 + batch->nr_waiting, -1) < 0) {
			if (errno == EINTR && batch->has_intr)
				batch_interrupt(batch);
			if (errno == EINTR || errno == EAGAIN)
				continue;
			break;
		}
		for (unsigned int i = 0; i < batch->nr_waiting; i++) {
			int fd = polls[1 + i].fd;

			if (fd >= 0 && polls[1 + i].revents)
				left -= stream_advance(batch, i,
						       piece_plain(batch, &batch->waiting[i],
								   stream_room(batch, fd)));
		}
	}
	/* The only one, or, where poll() is not to be had, one after another. */
	for (unsigned int i = 0; i < batch->nr_waiting; i++)
		if (polls[1 + i].fd >= 0)
			piece_finish(batch, &batch->waiting[i]);
}

/* What has not been begun by a ring, and what waits. */
static void batch_plain(struct batch *batch)
{
	struct piece piece;
	struct job *job;

	batch_help(batch);
	while ((job = batch_next_stream(batch))) {
		stream_begin(job, &piece);
		if (!streams_are_polled(batch) || is_nonblocking(job->req->fd))
			piece_finish(batch, &piece);
		else
			stream_wait(batch, &piece);
	}
	streams_poll(batch);
}

/* --- With a ring ---------------------------------------------------------------- */

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
	bool watching;
	struct slot slots[DEPTH_MAX], *idle[DEPTH_MAX];		/* as many as the depth */
};

static void slot_queue(struct flight *flight, struct slot *slot)
{
	const struct piece *piece = &slot->piece;
	struct batch *batch = flight->batch;
	size_t len = piece->len < batch->chunk ? piece->len : batch->chunk;
	char *memory = piece_memory(piece);
	int span = is_stream(piece->job) ? -1 : fixed_find(&batch->fixed, memory, len);

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

/*
 * What is in the page cache is had for less by a system call than by a ring.  True if
 * there is something left of @piece.
 */
static bool piece_outlasts_cache(struct batch *batch, struct piece *piece)
{
	ssize_t got;

	if (batch->direction != FILL || piece->job->is_direct)
		return true;
	do {
		struct iovec to = { piece_memory(piece), piece->len };

		got = preadv2(piece->job->req->fd, &to, 1, piece_offset(piece), RWF_NOWAIT);
		/* Whether that is an error, the ring will find out. */
		if (got < 0)
			return true;
	} while (piece_advance(batch, piece, got));
	return false;
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
		nr = flight->nr_idle < TAKE ? flight->nr_idle : TAKE;
		nr = batch_take(batch, pieces, nr, batch->chunk);
		if (!nr)
			break;
		for (unsigned int i = 0; i < nr; i++) {
			taken += pieces[i].len;
			if (piece_outlasts_cache(batch, &pieces[i]))
				slot_begin(flight, &pieces[i]);
		}
	}
	return false;
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
		if (is_doubtful(result) && !job_stop(batch, slot->piece.job))
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

/* As much of @batch as @ring will do: all, and true, unless it breaks. */
static bool batch_ring(struct batch *batch, struct ring *ring)
{
	struct flight flight;
	int err = 0;

	memset(&flight, 0, offsetof(struct flight, slots));
	flight.batch = batch;
	flight.ring = ring;
	flight.depth = tuning_get()->depth;
	flight.window = SIZE_MAX;
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

	fixed_register(&batch->fixed, ring);
	do {
		bool more = flight_load(&flight);

		if (!more && flight.nr_idle == flight.depth)
			break;
		if (more)
			err = ring_submit(ring);
		else
			err = ring_wait(ring, batch->has_intr && !batch_is_interrupted(batch));
		if (err == -EINTR) {
			batch_interrupt(batch);
			flight_stop(&flight);
			err = 0;
		}
		flight_reap(&flight, !err);
	} while (!err);
	if (!err)
		return flight_land(&flight);

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

/* --- Onto stable storage ---------------------------------------------------------- */

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

			if (result == -EINTR || is_doubtful(result))
				result = -sync_plain((*first)->req->fd);
			syncs_note(batch, first - batch->syncs, -result);
			flying--;
		}
	}
	return true;
}

static void batch_sync(struct batch *batch, struct ring *ring)
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

/* --- Requests ------------------------------------------------------------------- */

bool memory_is_ours(const void *memory, size_t len, const void **region,
		    enum shmdev_backend *backend)
{
	*region = region_around(memory, len, backend);
	return *region && heap_check_range(memory, len);
}

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
static int request_check(const struct transfer *req, struct batch *batch)
{
	unsigned int known = batch->direction == FILL ? SHM_FILL_INTR
						      : SHM_DRAIN_INTR | SHM_DRAIN_SYNC;
	enum shmdev_backend backend;
	const void *region;

	if (req->flags & ~known || req->offset < SHM_FILL_CURRENT || req->len > INT64_MAX ||
	    req->offset > INT64_MAX - (int64_t)req->len)
		return -EINVAL;
	if (!req->len)
		return 0;
	if (!memory_is_ours(req->memory, req->len, &region, &backend))
		return -EFAULT;
	if (req->offset == SHM_FILL_CURRENT)
		return 0;
	/* It would append, wherever it is told to write. */
	if (batch->direction == DRAIN && batch_look(batch, req->fd) & O_APPEND)
		return -EINVAL;
	fixed_add(&batch->fixed, backend, region, req->memory, req->len);
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

static void batch_add_file(struct batch *batch, struct job *job)
{
	const struct transfer *req = job->req;

	/* It makes no difference to a single read. */
	job->is_direct = !batch->is_single && batch_look(batch, req->fd) & O_DIRECT;
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

/* Sort the good ones of @reqs into @batch, which has room for all of them. */
static void batch_collect(struct batch *batch, struct transfer *reqs, unsigned int nr)
{
	for (struct transfer *req = reqs; req < reqs + nr; req++) {
		struct job job = { .req = req, .end = req->len };

		req->done = 0;
		req->result = request_check(req, batch);
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
	if (batch->direction == DRAIN && batch->crew_size > batch->nr_looks)
		batch->crew_size = batch->nr_looks;
}

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

	crew_start(&crew, batch->crew_size, batch_help, batch);
	if (ring && (batch->direction == FILL || batch->nr_direct || batch->nr_streams > 1))
		works = batch_ring(batch, ring);
	batch_plain(batch);
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
