/* SPDX-License-Identifier: LGPL-2.1-or-later OR MIT */
/*
 * A batch that is being done, what its requests have come to, and the pieces that are done
 * at a time.
 *
 * A request with an offset is cut into pieces that are done in any order, by the calling
 * thread and by its crew.  One of SHM_FILL_CURRENT is done as it stands, and the next of
 * the same descriptor after it: together they are a stream, which only the calling thread
 * deals with.
 */
#ifndef SHMDEV_LIB_PIECE_H
#define SHMDEV_LIB_PIECE_H

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "batch.h"
#include "fixed.h"
#include "transfer.h"

/* How many pieces are taken at a time, where they are small. */
#define TAKE		16

struct pollfd;

struct job {
	struct transfer *req;
	struct job *next;	/* of the stream */
	size_t begun;		/* bytes that pieces have been made of */
	size_t end;		/* where its data ends, as far as is known */
	int error;		/* what came at end, or 0 */
	bool is_direct;
	bool by_file;		/* fresh memory, by way of its memfd */
	size_t gather;		/* before here its memory may be fresh, and will be written */
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
	bool is_wide;		/* the only one: a pipe, made so by us */

	/* Why to end before the end. */
	struct control *control;	/* may be NULL */
	bool has_intr;			/* some of the requests */
	bool interrupted;		/* atomic */

	/* Those that want to be fsynced, by descriptor. */
	struct job **syncs;
	unsigned int nr_syncs;

	bool is_single;			/* read(2) */
	bool wants_ring;
	bool by_file;			/* fresh memory, by way of its memfd */
	unsigned int crew_size;
	struct fixed fixed;

	/* The descriptor last looked at while requests are collected, and its F_GETFL. */
	int looked_at, looked_flags;
	unsigned int nr_looks;
	size_t nr_pieces, nr_direct;
	size_t work;			/* for a crew: in bytes */
	size_t turn;			/* what is gathered at a time, and one piece */
};

bool is_stream(const struct job *job);

void batch_interrupt(struct batch *batch);
bool batch_is_interrupted(const struct batch *batch);

/* Why @job is to be ended now, or 0. */
int job_stop(const struct batch *batch, const struct job *job);

/*
 * The data of @job ends at @at, because of @error or, if that is 0, of the file's end.
 */
void job_cut(struct batch *batch, struct job *job, size_t at, int error);

void stream_begin(struct job *job, struct piece *piece);

/* Cut off of @piece what one read may ask for, the first of it. */
struct piece piece_split(const struct batch *batch, struct piece *piece);

/* Take @result, as of read(2) or -errno, into account.  True if @piece is to go on. */
bool piece_advance(struct batch *batch, struct piece *piece, ssize_t result);

char *piece_memory(const struct piece *piece);
int64_t piece_offset(const struct piece *piece);

/*
 * Read what is next of @piece, which has an offset, by preadv2(2) with @flags: bytes, or -1
 * and errno.
 */
ssize_t piece_read(const struct batch *batch, const struct piece *piece, size_t most,
		   int flags);

/* By a system call, @most bytes at the most.  As read(2), or -errno. */
ssize_t piece_plain(const struct batch *batch, const struct piece *piece, size_t most);

/* Do @piece, and in a stream all after it. */
void piece_finish(struct batch *batch, struct piece *piece);

/*
 * Up to @most pieces, with an offset, of together little more than @bytes, except where one
 * is gathered; their number.
 */
unsigned int batch_take(struct batch *batch, struct piece *pieces, unsigned int most,
			size_t bytes);

/* Do what others have not begun: each of the crew, and in the end the caller. */
void *batch_help(void *batch);

#endif
