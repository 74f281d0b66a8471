/* SPDX-License-Identifier: LGPL-2.1-or-later OR MIT */
/* What is read or written where the descriptor stands: pipes, sockets, terminals. */
#ifndef SHMDEV_LIB_STREAM_H
#define SHMDEV_LIB_STREAM_H

#include <stdbool.h>

#include "piece.h"

/* The request that begins the next stream, or NULL. */
struct job *batch_next_stream(struct batch *batch);

bool is_nonblocking(int fd);

/* Whether streams are waited for with poll(2): then batch->waiting and polls are there. */
bool streams_are_polled(const struct batch *batch);

/*
 * A new pipe that much is to come from holds more until it has.  Who reads without waiting, or
 * has said how much there is to be in it, may count on that.
 */
void streams_widen(struct batch *batch);
void streams_narrow(const struct batch *batch);

/* Leave @piece to streams_plain(). */
void stream_wait(struct batch *batch, const struct piece *piece);

/* By system calls, what has not been begun by a ring, and what waits. */
void streams_plain(struct batch *batch);

#endif
