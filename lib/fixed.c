// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
#define _GNU_SOURCE
#include "fixed.h"

#include <errno.h>
#include <string.h>
#include <stdint.h>

#include "backend.h"
#include "debug.h"
#include "fork.h"

/* io_uring takes no more in one piece. */
#define SPAN_MAX	((size_t)1 << 30)

enum verdict { UNKNOWN, WORKS, REFUSED };

/* By backend: what the kernel said.  Atomic. */
static int verdicts[SHMDEV_BACKEND_NR];

static void verdict_note(enum shmdev_backend backend, int err)
{
	debug("io_uring and buffers of %s: %s", shmdev_backend_name(backend),
	      err ? strerrorname_np(-err) : "registered");
	/* Other errors, as ENOMEM for RLIMIT_MEMLOCK, are of the moment. */
	if (!err)
		__atomic_store_n(&verdicts[backend], WORKS, __ATOMIC_RELAXED);
	else if (err == -EOPNOTSUPP)
		__atomic_store_n(&verdicts[backend], REFUSED, __ATOMIC_RELAXED);
}

static bool worth_it(enum shmdev_backend backend)
{
	return backend == SHMDEV_BACKEND_DEVICE || backend == SHMDEV_BACKEND_HUGETLB;
}

/*
 * Whether one span can stand for both, which it can if the gap between, which would be
 * pinned too, is less than a huge page: then it makes no page that was not there.
 */
static bool span_unite(const struct iovec *a, const struct iovec *b, struct iovec *both)
{
	char *a_start = a->iov_base, *a_end = a_start + a->iov_len;
	char *b_start = b->iov_base, *b_end = b_start + b->iov_len;
	char *start = a_start < b_start ? a_start : b_start;
	char *end = a_end > b_end ? a_end : b_end;

	if ((size_t)(end - start) >= a->iov_len + b->iov_len + HUGE_SIZE ||
	    (size_t)(end - start) > SPAN_MAX)
		return false;
	*both = (struct iovec){ start, end - start };
	return true;
}

static void span_add(struct fixed *fixed, const void *region, struct iovec span)
{
	unsigned int i = fixed->nr;

	/* Latest first: requests tend to stand in order. */
	while (i-- > 0) {
		if (fixed->regions[i] != region ||
		    !span_unite(&fixed->spans[i], &span, &span))
			continue;
		/* It may reach others now: take this one out and look again. */
		fixed->nr--;
		fixed->spans[i] = fixed->spans[fixed->nr];
		fixed->regions[i] = fixed->regions[fixed->nr];
		i = fixed->nr;
	}
	/* What finds no room is read without. */
	if (fixed->nr == FIXED_SPANS)
		return;
	fixed->regions[fixed->nr] = region;
	fixed->spans[fixed->nr++] = span;
}

void fixed_add(struct fixed *fixed, enum shmdev_backend backend, const void *region,
	       char *dst, size_t len)
{
	size_t piece;

	if (!worth_it(backend) ||
	    __atomic_load_n(&verdicts[backend], __ATOMIC_RELAXED) == REFUSED)
		return;
	/* One backend for each batch: an error is that backend's. */
	if (fixed->nr && fixed->backend != backend)
		return;
	fixed->backend = backend;
	fixed->wanted += len;
	for (; len; dst += piece, len -= piece) {
		piece = len < SPAN_MAX ? len : SPAN_MAX;
		span_add(fixed, region, (struct iovec){ dst, piece });
	}
}

void fixed_register(struct fixed *fixed, struct ring *ring)
{
	size_t pinned = 0;
	int err;

	if (fixed->asked)
		return;
	fixed->asked = true;
	for (unsigned int i = 0; i < fixed->nr; i++)
		pinned += fixed->spans[i].iov_len;
	/* Small reads far apart: to pin the gaps would take longer than to read. */
	if (fixed->wanted < pinned / 4)
		fixed->nr = 0;
	if (!fixed->nr)
		return;
	err = ring_register(ring, fixed->spans, fixed->nr);
	verdict_note(fixed->backend, err);
	if (err)
		fixed->nr = 0;
}

int fixed_find(const struct fixed *fixed, const char *dst, size_t len)
{
	for (unsigned int i = 0; i < fixed->nr; i++) {
		const char *start = fixed->spans[i].iov_base;

		if (dst >= start && dst + len <= start + fixed->spans[i].iov_len)
			return i;
	}
	return -1;
}

bool fixed_works(struct ring *ring, enum shmdev_backend backend)
{
	int verdict = __atomic_load_n(&verdicts[backend], __ATOMIC_RELAXED);
	struct backing backing;
	struct iovec span;

	if (!worth_it(backend))
		return false;
	if (verdict != UNKNOWN)
		return verdict == WORKS;

	/* Behind the gate until it is gone: nobody else knows of it. */
	fork_gate_enter();
	if (!backing_create_by(backend, HUGE_SIZE, &backing)) {
		span = (struct iovec){ backing.addr, HUGE_SIZE };
		verdict_note(backend, ring_register(ring, &span, 1));
		ring_unregister(ring);
		backing_drop(&backing);
	}
	fork_gate_leave();
	return __atomic_load_n(&verdicts[backend], __ATOMIC_RELAXED) == WORKS;
}
