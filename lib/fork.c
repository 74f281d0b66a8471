// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
#define _GNU_SOURCE
#include "fork.h"

#include <pthread.h>
#include <stdbool.h>

#include "heap.h"
#include "region.h"
#include "ring.h"

/* Writers first: threads that make and drop regions in a loop must not starve fork(). */
#define GATE_INITIALIZER PTHREAD_RWLOCK_WRITER_NONRECURSIVE_INITIALIZER_NP

static pthread_rwlock_t gate = GATE_INITIALIZER;

void fork_gate_enter(void)
{
	pthread_rwlock_rdlock(&gate);
}

void fork_gate_leave(void)
{
	pthread_rwlock_unlock(&gate);
}

static void before_fork(void)
{
	pthread_rwlock_wrlock(&gate);
	heap_fork_prepare();
	region_fork_prepare();
	ring_fork_prepare();
}

static void after_fork_parent(void)
{
	ring_fork_parent();
	region_fork_parent();
	heap_fork_parent();
	pthread_rwlock_unlock(&gate);
}

static void after_fork_child(void)
{
	/*
	 * A read-write lock remembers its writer by thread id, which is another in
	 * the child: unlocking would take us for a reader.  Nobody else is here.
	 */
	gate = (pthread_rwlock_t)GATE_INITIALIZER;
	ring_fork_child();
	region_fork_child();
	heap_fork_child();
}

int fork_init(void)
{
	static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
	static bool done;
	int err = 0;

	if (__atomic_load_n(&done, __ATOMIC_ACQUIRE))
		return 0;
	/* Not pthread_once(): what failed for want of memory may go well the next time. */
	pthread_mutex_lock(&lock);
	if (!done) {
		err = -pthread_atfork(before_fork, after_fork_parent, after_fork_child);
		__atomic_store_n(&done, !err, __ATOMIC_RELEASE);
	}
	pthread_mutex_unlock(&lock);
	return err;
}
