// SPDX-License-Identifier: GPL-2.0-only
/*
 * The thread of a node that zeroes memory before anyone asks for it.
 *
 * It runs when nobody else wants the processor, takes only memory that lies about, by
 * neither reclaim nor compaction of its own, and leaves memory alone for some seconds
 * after it was short.  Where no huge page lies about, it tells kswapd, as whoever finds too
 * few of them does, and comes back later.
 *
 * It is not woken for each page: above the low watermark what was taken is replaced
 * together with what is taken in the next moment, below it at once.
 */
#include <linux/freezer.h>
#include <linux/gfp.h>
#include <linux/jiffies.h>
#include <linux/kthread.h>
#include <linux/ktime.h>
#include <linux/mm.h>
#include <linux/mmzone.h>
#include <linux/sched.h>
#include <linux/vmstat.h>

#include "compat/kthread.h"
#include "pool_node.h"
#include "trace.h"

/*
 * Zeroed once, whatever init_on_alloc says: with __GFP_ZERO the two do not add up.  By the
 * page allocator, that is through the caches: non-temporal stores take as long and would
 * spare the second-level cache of whoever had the processor before, see
 * tests/bench/bench_clear.py, but the allocator has none, and where init_on_alloc is set it
 * clears anyway.
 *
 * __GFP_NOMEMALLOC because who cannot wait may otherwise have of the reserves.  Not
 * movable, or memory that is there to be taken away could not be.
 */
#define REFILL_GFP ((GFP_HIGHUSER & ~__GFP_DIRECT_RECLAIM) | __GFP_ZERO | __GFP_THISNODE | \
		    __GFP_NORETRY | __GFP_NOMEMALLOC | __GFP_NOWARN)

/* How long the thread leaves memory alone after it was short. */
#define REFILL_BACKOFF	(5 * HZ)

/* How long it waits for more to be taken, above the low watermark. */
#define REFILL_LINGER	(HZ / 10)

/* How much time that it has slept for too long it may make up for. */
#define REFILL_SLACK	(100 * NSEC_PER_MSEC)

/* --- when ------------------------------------------------------------------ */

static long refill_backoff_left(const struct pool_node *node)
{
	unsigned long since = READ_ONCE(node->backoff_since), now = jiffies;

	/* A range, so that a backoff of long ago is not taken for one to come. */
	return time_in_range(now, since, since + REFILL_BACKOFF - 1) ?
	       since + REFILL_BACKOFF - now : 0;
}

void refill_back_off(struct pool_node *node)
{
	WRITE_ONCE(node->backoff_since, jiffies);
}

static bool refill_too_many(const struct pool_node *node)
{
	return READ_ONCE(node->nr) > READ_ONCE(node->target);
}

static bool refill_too_few(const struct pool_node *node)
{
	return READ_ONCE(node->nr) < READ_ONCE(node->target);
}

static bool refill_low(const struct pool_node *node)
{
	return READ_ONCE(node->nr) < READ_ONCE(node->low);
}

/*
 * Whether others are short of memory, or soon would be: nothing above the high watermark
 * that is free or could be so at once, but a small part of the node for good measure.
 * As in si_mem_available(), half of the page cache is what others live on.
 */
static bool refill_memory_low(const struct pool_node *node)
{
	struct pglist_data *pgdat = NODE_DATA(node->nid);
	long spare = -(long)(node->nr_pages / 32 + HPAGE_PMD_NR);
	int i;

	for (i = 0; i <= gfp_zone(REFILL_GFP); i++) {
		struct zone *zone = &pgdat->node_zones[i];

		if (!populated_zone(zone))
			continue;
		spare += zone_page_state(zone, NR_FREE_PAGES);
		spare -= high_wmark_pages(zone);
	}
	spare += atomic_long_read(&pgdat->vm_stat[NR_INACTIVE_FILE]) / 2;
	spare += atomic_long_read(&pgdat->vm_stat[NR_ACTIVE_FILE]) / 2;
	return spare < 0;
}

/* --- the thread ------------------------------------------------------------ */

/* Sleep until @condition or for @timeout; at most until there is something to give back. */
#define refill_sleep(node, condition, timeout)						\
({											\
	struct pool_node *node_ = (node);						\
											\
	wait_event_freezable_timeout(node_->wait, kthread_should_stop() ||		\
				     refill_too_many(node_) || (condition), timeout);	\
})

static void refill_rest(struct pool_node *node)
{
	WRITE_ONCE(node->resting, true);
	/* Sets the task's state, which is a barrier, before it looks; see refill_poke(). */
	wait_event_freezable(node->wait, kthread_should_stop() || refill_too_many(node) ||
			     refill_too_few(node));
	WRITE_ONCE(node->resting, false);
}

static void refill_give_back(struct pool_node *node)
{
	struct folio *folio;

	while (!kthread_should_stop() && (folio = pool_get(node, READ_ONCE(node->target)))) {
		folio_put(folio);
		cond_resched();
	}
}

/* When the next page may be zeroed, so that no more are in a second than may be. */
static u64 refill_due(const struct pool_node *node, u64 paced)
{
	return paced + READ_ONCE(node->pace_ns);
}

static bool refill_is_due(const struct pool_node *node, u64 paced)
{
	return !READ_ONCE(node->pace_ns) || ktime_get_ns() >= refill_due(node, paced);
}

static bool refill_one(struct pool_node *node)
{
	struct folio *folio = NULL;

	if (!refill_memory_low(node))
		folio = __folio_alloc_node(REFILL_GFP, HPAGE_PMD_ORDER, node->nid);
	if (folio) {
		atomic64_inc(&node->zeroed);
		pool_put(node, folio);
	}
	trace_refill(node->nid, (u64)READ_ONCE(node->nr) * HPAGE_PMD_SIZE,
		     (u64)READ_ONCE(node->target) * HPAGE_PMD_SIZE, folio);
	return folio;
}

static void refill_fill(struct pool_node *node, u64 *paced)
{
	while (!kthread_should_stop() && refill_too_few(node)) {
		long left = refill_backoff_left(node);

		try_to_freeze();
		cond_resched();
		if (READ_ONCE(node->paused)) {
			refill_sleep(node, !READ_ONCE(node->paused), MAX_SCHEDULE_TIMEOUT);
		} else if (left) {
			refill_sleep(node, false, left);
		} else if (!refill_is_due(node, *paced)) {
			s64 ns = refill_due(node, *paced) - ktime_get_ns();

			refill_sleep(node, refill_is_due(node, *paced),
				     nsecs_to_jiffies(max_t(s64, ns, 0)) + 1);
		} else {
			*paced = max(refill_due(node, *paced), ktime_get_ns() - REFILL_SLACK);
			if (!refill_one(node))
				refill_back_off(node);
		}
	}
}

static int refill_thread(void *data)
{
	struct pool_node *node = data;
	u64 paced = 0;

	set_user_nice(current, MAX_NICE);
	set_freezable();
	while (!kthread_should_stop()) {
		refill_rest(node);
		refill_sleep(node, refill_low(node), REFILL_LINGER);
		refill_give_back(node);
		refill_fill(node, &paced);
	}
	/* kthread_stop() waits for it. */
	node->cpu_ns += current->se.sum_exec_runtime;
	return 0;
}

/* --- from outside ---------------------------------------------------------- */

void refill_poke(struct pool_node *node)
{
	/* What was taken before whether it rests; it looks the other way round. */
	smp_mb();
	if (refill_too_few(node) && (READ_ONCE(node->resting) || refill_low(node)))
		wake_up(&node->wait);
}

void refill_wake(struct pool_node *node)
{
	wake_up(&node->wait);
}

u64 refill_cpu_ns(const struct pool_node *node)
{
	return node->cpu_ns + (node->thread ? READ_ONCE(node->thread->se.sum_exec_runtime) : 0);
}

int refill_start(struct pool_node *node)
{
	struct task_struct *thread;

	thread = kthread_create_on_node(refill_thread, node, node->nid, "shmdev_pool/%d",
					node->nid);
	if (IS_ERR(thread))
		return PTR_ERR(thread);
	shmdev_kthread_to_node(thread, node->nid);
	node->thread = thread;
	wake_up_process(thread);
	return 0;
}

void refill_stop(struct pool_node *node)
{
	kthread_stop(node->thread);
	node->thread = NULL;
}
