// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
#define _GNU_SOURCE
#include "stream.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <unistd.h>

/*
 * With the 64 KiB of a new pipe reader and writer wait for each other all the time, with this
 * they work at a time.  Who knows of sizes takes fs.pipe-max-size, which is twice as much.
 */
#define PIPE_NEW	(16 * sysconf(_SC_PAGESIZE))
#define PIPE_WIDE	(1 << 19)
#define PIPE_WORTH_IT	(1 << 20)

bool is_nonblocking(int fd)
{
	int flags = fcntl(fd, F_GETFL);

	/* A bad descriptor does not block either. */
	return flags < 0 || flags & O_NONBLOCK;
}

struct job *batch_next_stream(struct batch *batch)
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

bool streams_are_polled(const struct batch *batch)
{
	return batch->nr_streams > 1 || (batch->nr_streams && streams_end_early(batch));
}

void streams_widen(struct batch *batch)
{
	const struct job *first = &batch->jobs[batch->nr_files];
	size_t bytes = 0;

	/* Of many streams none is to take more than it has: a user has 128 of these. */
	if (batch->direction == DRAIN || batch->nr_streams != 1 || is_nonblocking(first->req->fd))
		return;
	for (const struct job *job = first; job; job = job->next)
		bytes += job->end;
	if (bytes < PIPE_WORTH_IT || fcntl(first->req->fd, F_GETPIPE_SZ) != PIPE_NEW)
		return;
	/* The user may have too many (fs.pipe-user-pages-soft): then it stays as it is. */
	batch->is_wide = fcntl(first->req->fd, F_SETPIPE_SZ, PIPE_WIDE) == PIPE_WIDE;
}

void streams_narrow(const struct batch *batch)
{
	int fd, left;

	if (!batch->is_wide)
		return;
	fd = batch->jobs[batch->nr_files].req->fd;
	/* Somebody else has made it what it is meanwhile, or there is more in it: EBUSY. */
	if (fcntl(fd, F_GETPIPE_SZ) != PIPE_WIDE || fcntl(fd, F_SETPIPE_SZ, PIPE_NEW) < 0)
		return;
	/* If it is full now, a writer waits to whom poll(2) has said that it would not. */
	if (ioctl(fd, FIONREAD, &left) || left)
		fcntl(fd, F_SETPIPE_SZ, PIPE_WIDE);
}

void stream_wait(struct batch *batch, const struct piece *piece)
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

void streams_plain(struct batch *batch)
{
	struct piece piece;
	struct job *job;

	while ((job = batch_next_stream(batch))) {
		stream_begin(job, &piece);
		if (!streams_are_polled(batch) || is_nonblocking(job->req->fd))
			piece_finish(batch, &piece);
		else
			stream_wait(batch, &piece);
	}
	streams_poll(batch);
}
