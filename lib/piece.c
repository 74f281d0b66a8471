// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
#define _GNU_SOURCE
#include "piece.h"

#include <errno.h>
#include <sys/uio.h>
#include <unistd.h>

#include "backend.h"
#include "direct.h"
#include "fresh.h"

bool is_stream(const struct job *job)
{
	return job->req->offset == SHM_FILL_CURRENT;
}

void batch_interrupt(struct batch *batch)
{
	__atomic_store_n(&batch->interrupted, true, __ATOMIC_RELAXED);
}

bool batch_is_interrupted(const struct batch *batch)
{
	return __atomic_load_n(&batch->interrupted, __ATOMIC_RELAXED);
}

int job_stop(const struct batch *batch, const struct job *job)
{
	if (batch->control && __atomic_load_n(&batch->control->stopped, __ATOMIC_ACQUIRE))
		return ECANCELED;
	return job->req->flags & SHM_FILL_INTR && batch_is_interrupted(batch) ? EINTR : 0;
}

/* As job_cut().  Locked. */
static void job_cut_locked(struct job *job, size_t at, int error)
{
	/* Pieces come in any order; what is nearest to the start counts. */
	if (at >= job->end)
		return;
	job->end = at;
	/* A descriptor that has no more just now gave something: that is a success. */
	job->error = error == EAGAIN && at ? 0 : error;
}

void job_cut(struct batch *batch, struct job *job, size_t at, int error)
{
	pthread_mutex_lock(&batch->lock);
	job_cut_locked(job, at, error);
	pthread_mutex_unlock(&batch->lock);
}

/* The next piece of @job, or false.  Locked. */
static bool job_begin(const struct batch *batch, struct job *job, struct piece *piece)
{
	bool gathered = job->begun < job->gather;
	size_t most = gathered ? batch->turn : batch->chunk;

	if (job->begun >= job->end)
		return false;
	if (batch->direction == DRAIN && !job->is_direct)
		/* Writers of one file wait for each other; it is all for one of them. */
		most = SIZE_MAX;
	else if (gathered && !job->is_direct)
		/* No huge page is two threads', one of which would be there too early. */
		most -= (uintptr_t)(job->req->memory + job->begun) % HUGE_SIZE;
	else
		/* O_DIRECT wants to begin at a block, so all but the first piece do. */
		most -= (uint64_t)(job->req->offset + job->begun) % most;
	piece->job = job;
	piece->at = job->begun;
	piece->len = job->end - job->begun < most ? job->end - job->begun : most;
	job->begun += piece->len;
	return true;
}

void stream_begin(struct job *job, struct piece *piece)
{
	*piece = (struct piece){ job, 0, job->end };
}

struct piece piece_split(const struct batch *batch, struct piece *piece)
{
	/* As in job_begin(). */
	size_t most = batch->chunk - piece_offset(piece) % batch->chunk;
	struct piece first = { piece->job, piece->at, piece->len < most ? piece->len : most };

	piece->at += first.len;
	piece->len -= first.len;
	return first;
}

bool piece_advance(struct batch *batch, struct piece *piece, ssize_t result)
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

char *piece_memory(const struct piece *piece)
{
	return piece->job->req->memory + piece->at;
}

int64_t piece_offset(const struct piece *piece)
{
	const struct transfer *req = piece->job->req;

	return is_stream(piece->job) ? SHM_FILL_CURRENT : req->offset + (int64_t)piece->at;
}

ssize_t piece_read(const struct batch *batch, const struct piece *piece, size_t most,
		   int flags)
{
	struct iovec memory = { piece_memory(piece), piece->len < most ? piece->len : most };
	int64_t offset = piece_offset(piece);
	int fd = piece->job->req->fd;
	ssize_t got;

	if (batch->by_file && piece->job->by_file &&
	    fresh_is(memory.iov_base, memory.iov_len) && !is_direct(fd)) {
		got = fresh_read(memory.iov_base, memory.iov_len, fd, offset, flags);
		if (got >= 0)
			return got;
		if (got != -EOPNOTSUPP) {
			errno = -got;
			return -1;
		}
	}
	return flags ? preadv2(fd, &memory, 1, offset, flags) : preadv(fd, &memory, 1, offset);
}

ssize_t piece_plain(const struct batch *batch, const struct piece *piece, size_t most)
{
	struct iovec memory = { piece_memory(piece), piece->len < most ? piece->len : most };
	int64_t offset = piece_offset(piece);
	int fd = piece->job->req->fd;
	ssize_t done;

	if (batch->direction == FILL)
		done = offset == SHM_FILL_CURRENT ? readv(fd, &memory, 1)
						  : piece_read(batch, piece, most, 0);
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

void piece_finish(struct batch *batch, struct piece *piece)
{
	while (piece_advance(batch, piece, piece_plain(batch, piece, batch->chunk)))
		;
}

/* --- By whoever has nothing else to do ------------------------------------------------------ */

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

/* Make the huge pages that begin in @piece. */
static void piece_gather(const struct batch *batch, const struct piece *piece)
{
	size_t end = piece->at + piece->len + HUGE_SIZE - 1;

	if (piece->at >= piece->job->gather)
		return;
	if (end > piece->job->gather)
		end = piece->job->gather;
	fresh_gather(piece_memory(piece), end - piece->at, batch->turn + HUGE_SIZE);
}

unsigned int batch_take(struct batch *batch, struct piece *pieces, unsigned int most,
			size_t bytes)
{
	unsigned int nr = 0;
	size_t taken = 0;

	pthread_mutex_lock(&batch->lock);
	while (nr < most && taken < bytes && batch_next_file(batch, &pieces[nr]))
		taken += pieces[nr++].len;
	pthread_mutex_unlock(&batch->lock);
	for (unsigned int i = 0; i < nr; i++)
		piece_gather(batch, &pieces[i]);
	return nr;
}

void *batch_help(void *argument)
{
	struct batch *batch = argument;
	struct piece pieces[TAKE];
	unsigned int nr;

	while ((nr = batch_take(batch, pieces, TAKE, batch->chunk)))
		for (unsigned int i = 0; i < nr; i++)
			piece_finish(batch, &pieces[i]);
	return NULL;
}
