/* SPDX-License-Identifier: GPL-2.0-only */
/* One NUMA node's part of the pool: what pool.c and refill.c share. */
#ifndef SHMDEV_POOL_NODE_H
#define SHMDEV_POOL_NODE_H

#include <linux/atomic.h>
#include <linux/list.h>
#include <linux/spinlock.h>
#include <linux/types.h>
#include <linux/wait.h>

struct folio;
struct task_struct;

/*
 * Lives as long as the module, for each node that there may ever be, so that readers need
 * no lock to find it; whether the node has memory says nr_pages.
 */
struct pool_node {
	int nid;

	spinlock_t lock;		/* guards folios and nr; innermost */
	struct list_head folios;	/* by folio->lru */
	unsigned long nr;		/* huge pages, as target and low */

	/* Written under pool_mutex, read by anyone. */
	u64 nr_pages;			/* of memory that the pool may take from; small ones */
	unsigned long target;
	unsigned long low;		/* with less, the thread does not wait to be asked again */
	u64 pace_ns;			/* so long, at least, for each huge page; 0: no matter */
	bool paused;			/* some of the memory is being taken away */

	/* Under pool_mutex. */
	struct task_struct *thread;	/* there is one while nr_pages is not 0 */
	u64 cpu_ns;			/* of those that have ended */

	wait_queue_head_t wait;		/* the thread, for anything to do */
	bool resting;			/* the thread has nothing to do: wake it for anything */
	unsigned long backoff_since;	/* jiffies; only the thread and the shrinker write */

	atomic64_t hits;
	atomic64_t misses;
	atomic64_t zeroed;		/* huge pages, as shrunk */
	atomic64_t shrunk;
};

/* --- pool.c ---------------------------------------------------------------- */

void pool_put(struct pool_node *node, struct folio *folio);
/* A sound folio, if there are more than @keep; with a reference, the caller's. */
struct folio *pool_get(struct pool_node *node, unsigned long keep);

/* --- refill.c -------------------------------------------------------------- */

/* Both with pool_mutex held, which the thread never takes. */
int refill_start(struct pool_node *node);
void refill_stop(struct pool_node *node);
/* CPU time of the threads of @node, in ns.  With pool_mutex held. */
u64 refill_cpu_ns(const struct pool_node *node);

/* Leave memory alone for some seconds.  Does not sleep. */
void refill_back_off(struct pool_node *node);
/* Something was taken: wake the thread if that is a reason to. */
void refill_poke(struct pool_node *node);
/* Something else has changed. */
void refill_wake(struct pool_node *node);

#endif /* SHMDEV_POOL_NODE_H */
