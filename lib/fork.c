// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
#include "fork.h"

#include <pthread.h>
#include <stdbool.h>

#include "heap.h"
#include "process.h"
#include "ready.h"
#include "region.h"
#include "ring.h"

/*
 * Not a pthread_rwlock_t: that cannot be unlocked in a child, because it knows its
 * writer by thread id, and readers in a loop would starve fork().
 */
static struct {
	pthread_mutex_t lock;
	pthread_cond_t changed;
	unsigned int inside;
	bool closed;
} gate = {
	.lock = PTHREAD_MUTEX_INITIALIZER,
	.changed = PTHREAD_COND_INITIALIZER,
};

void fork_gate_enter(void)
{
	pthread_mutex_lock(&gate.lock);
	while (gate.closed)
		pthread_cond_wait(&gate.changed, &gate.lock);
	gate.inside++;
	pthread_mutex_unlock(&gate.lock);
}

void fork_gate_leave(void)
{
	pthread_mutex_lock(&gate.lock);
	if (!--gate.inside && gate.closed)
		pthread_cond_broadcast(&gate.changed);
	pthread_mutex_unlock(&gate.lock);
}

static void before_fork(void)
{
	pthread_mutex_lock(&gate.lock);
	while (gate.closed)		/* by another thread that forks */
		pthread_cond_wait(&gate.changed, &gate.lock);
	gate.closed = true;
	while (gate.inside)
		pthread_cond_wait(&gate.changed, &gate.lock);

	heap_fork_prepare();
	region_fork_prepare();
	ready_fork_prepare();
	ring_fork_prepare();
}

static void after_fork_parent(void)
{
	ring_fork_parent();
	ready_fork_parent();
	region_fork_parent();
	heap_fork_parent();

	gate.closed = false;
	pthread_cond_broadcast(&gate.changed);
	pthread_mutex_unlock(&gate.lock);
}

static void after_fork_child(void)
{
	ring_fork_child();
	process_fork_child();
	ready_fork_child();
	region_fork_child();
	heap_fork_child();

	gate.closed = false;
	/* Its waiters are not here. */
	pthread_cond_init(&gate.changed, NULL);
	pthread_mutex_unlock(&gate.lock);
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
