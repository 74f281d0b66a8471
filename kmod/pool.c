// SPDX-License-Identifier: GPL-2.0-only
/*
 * The pool: per NUMA node a list of zeroed huge folios, which refill.c fills.
 *
 * What it has put aside, the shrinker gives back; until then it is counted as reclaimable.
 *
 * Locking: pool_mutex guards which nodes have a thread and what they aim at.  It is taken
 * inside of the kernel's locks for CPU and memory hotplug and for parameters; threads do not
 * take it, so that they may be waited for under it, and neither does who allocates.
 * pool_node.lock guards a list and its length.  It is innermost, held for a few
 * instructions, and nothing is allocated or freed under it, so that the shrinker may run in
 * whatever context memory ran out in.
 */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/cpuhotplug.h>
#include <linux/cpuset.h>
#include <linux/gfp.h>
#include <linux/list.h>
#include <linux/math64.h>
#include <linux/memory.h>
#include <linux/mm.h>
#include <linux/module.h>
#include <linux/moduleparam.h>
#include <linux/mutex.h>
#include <linux/nodemask.h>
#include <linux/notifier.h>
#include <linux/sched.h>
#include <linux/sizes.h>
#include <linux/slab.h>
#include <linux/spinlock.h>
#include <linux/vmstat.h>

#include "compat/kthread.h"
#include "compat/mm.h"
#include "compat/shrinker.h"
#include "pool.h"
#include "pool_node.h"
#include "trace.h"

/* Filled before the device exists and emptied when it is gone: no lock. */
static struct pool_node *pool_nodes[MAX_NUMNODES];
static struct shrinker *pool_shrinker;
static enum cpuhp_state pool_cpuhp;

static DEFINE_MUTEX(pool_mutex);
/* Before and after, parameters and hotplug are of no consequence. */
static bool pool_up;

/* --- parameters ------------------------------------------------------------ */

#define POOL_MB_DEFAULT	UINT_MAX

static unsigned int pool_mb = POOL_MB_DEFAULT;
static unsigned int pool_low_percent = 75;
static unsigned int refill_mb_s;

static unsigned int pool_mb_max(void)
{
	return min_t(u64, ((u64)totalram_pages() << PAGE_SHIFT) / 2 / SZ_1M, UINT_MAX - 1);
}

static unsigned int pool_mb_default(void)
{
	return min_t(u64, ((u64)totalram_pages() << PAGE_SHIFT) / 16 / SZ_1M, 1024);
}

static unsigned int pool_mb_now(void)
{
	unsigned int mb = READ_ONCE(pool_mb);

	return mb == POOL_MB_DEFAULT ? pool_mb_default() : mb;
}

/*
 * How long a huge page may take on a node with so many pages of all.
 *
 * The divisions are an asm on x86 that the compiler may do before it looks at what they
 * depend on: no divisor is ever 0.
 */
static u64 pool_pace_ns(u64 nr_pages, u64 all)
{
	u64 ns = mul_u64_u64_div_u64(HPAGE_PMD_SIZE, NSEC_PER_SEC,
				     (u64)max(refill_mb_s, 1U) * SZ_1M);

	return mul_u64_u64_div_u64(ns, all, max_t(u64, nr_pages, 1));
}

/*
 * What each node should hold, of the whole: its share of memory.  As a difference of sums,
 * so that all of them together are the whole, however it is rounded.
 */
static void pool_retarget(void)
{
	u64 whole = (u64)pool_mb_now() * SZ_1M >> HPAGE_PMD_SHIFT;
	u64 all = 0, sum = 0;
	struct pool_node *node;
	int nid;

	lockdep_assert_held(&pool_mutex);
	for_each_node(nid)
		all += pool_nodes[nid]->nr_pages;
	all = max_t(u64, all, 1);
	for_each_node(nid) {
		unsigned long target;

		node = pool_nodes[nid];
		if (!node->nr_pages)
			continue;
		target = mul_u64_u64_div_u64(whole, sum + node->nr_pages, all) -
			 mul_u64_u64_div_u64(whole, sum, all);
		sum += node->nr_pages;
		WRITE_ONCE(node->target, target);
		WRITE_ONCE(node->low, mul_u64_u64_div_u64(target, pool_low_percent, 100));
		WRITE_ONCE(node->pace_ns, refill_mb_s ? pool_pace_ns(node->nr_pages, all) : 0);
		refill_wake(node);
	}
}

static int pool_param_set(const char *val, const struct kernel_param *kp, unsigned int max)
{
	int err;

	mutex_lock(&pool_mutex);
	err = param_set_uint_minmax(val, kp, 0, max);
	if (!err && pool_up)
		pool_retarget();
	mutex_unlock(&pool_mutex);
	return err;
}

static int pool_mb_set(const char *val, const struct kernel_param *kp)
{
	return pool_param_set(val, kp, pool_mb_max());
}

static int pool_mb_get(char *buf, const struct kernel_param *kp)
{
	return scnprintf(buf, PAGE_SIZE, "%u\n", pool_mb_now());
}

static int pool_percent_set(const char *val, const struct kernel_param *kp)
{
	return pool_param_set(val, kp, 100);
}

static int pool_rate_set(const char *val, const struct kernel_param *kp)
{
	return pool_param_set(val, kp, UINT_MAX);
}

static const struct kernel_param_ops pool_mb_ops = {
	.set	= pool_mb_set,
	.get	= pool_mb_get,
};

static const struct kernel_param_ops pool_percent_ops = {
	.set	= pool_percent_set,
	.get	= param_get_uint,
};

static const struct kernel_param_ops pool_rate_ops = {
	.set	= pool_rate_set,
	.get	= param_get_uint,
};

module_param_cb(pool_mb, &pool_mb_ops, &pool_mb, 0644);
__MODULE_PARM_TYPE(pool_mb, "uint");
MODULE_PARM_DESC(pool_mb, "MiB of zeroed huge pages to hold ready, all nodes together; 0 holds none (default: 1/16 of memory, at most 1024)");
module_param_cb(pool_low_percent, &pool_percent_ops, &pool_low_percent, 0644);
__MODULE_PARM_TYPE(pool_low_percent, "uint");
MODULE_PARM_DESC(pool_low_percent, "below so much of pool_mb what is taken is replaced at once, above it together with what is taken in the next 0.1 s (default: 75)");
module_param_cb(refill_mb_s, &pool_rate_ops, &refill_mb_s, 0644);
__MODULE_PARM_TYPE(refill_mb_s, "uint");
MODULE_PARM_DESC(refill_mb_s, "MiB that may be zeroed for the pool in a second, all nodes together; 0: as fast as idle processors can (default: 0)");

/* --- the list -------------------------------------------------------------- */

void pool_put(struct pool_node *node, struct folio *folio)
{
	spin_lock(&node->lock);
	list_add(&folio->lru, &node->folios);
	node->nr++;
	spin_unlock(&node->lock);
	mod_node_page_state(NODE_DATA(node->nid), NR_KERNEL_MISC_RECLAIMABLE, HPAGE_PMD_NR);
}

/* Take one folio off the list, if there are more than @keep. */
static struct folio *pool_pop(struct pool_node *node, unsigned long keep)
{
	struct folio *folio = NULL;

	spin_lock(&node->lock);
	if (node->nr > keep) {
		folio = list_first_entry(&node->folios, struct folio, lru);
		list_del(&folio->lru);
		node->nr--;
	}
	spin_unlock(&node->lock);
	if (folio)
		mod_node_page_state(NODE_DATA(node->nid), NR_KERNEL_MISC_RECLAIMABLE,
				    -HPAGE_PMD_NR);
	return folio;
}

/* The flags of all the pages are much to read: not while nothing has ever failed. */
static bool pool_poisoned(struct folio *folio)
{
	unsigned int i;

	if (!shmdev_node_has_failed(folio_nid(folio)))
		return false;
	for (i = 0; i < HPAGE_PMD_NR; i++)
		if (PageHWPoison(folio_page(folio, i)))
			return true;
	return false;
}

/*
 * Sound ones only.  Memory failure cannot take a page out of the pool, it only marks
 * it; and the page allocator does not look at the tails of what it is given.  So a marked
 * one goes to nobody: it is lost, as broken memory is.
 */
struct folio *pool_get(struct pool_node *node, unsigned long keep)
{
	struct folio *folio;

	while ((folio = pool_pop(node, keep)) && pool_poisoned(folio))
		pr_warn_ratelimited("node %d: leaving out a huge page with broken memory\n",
				    node->nid);
	return folio;
}

bool shmdev_pool_has(int nid)
{
	return READ_ONCE(pool_nodes[nid]->nr);
}

struct folio *shmdev_pool_take(int nid)
{
	struct pool_node *node = pool_nodes[nid];
	struct folio *folio;

	if (!node_isset(nid, cpuset_current_mems_allowed))
		return NULL;
	folio = pool_get(node, 0);
	atomic64_inc(folio ? &node->hits : &node->misses);
	return folio;
}

void shmdev_pool_refill(void)
{
	int nid;

	for_each_online_node(nid)
		refill_poke(pool_nodes[nid]);
}

static void pool_add_stats(struct shmdev_pool_stats *stats, const struct pool_node *node)
{
	stats->target_bytes += (u64)READ_ONCE(node->target) * HPAGE_PMD_SIZE;
	stats->low_bytes += (u64)READ_ONCE(node->low) * HPAGE_PMD_SIZE;
	stats->bytes += (u64)READ_ONCE(node->nr) * HPAGE_PMD_SIZE;
	stats->hits += atomic64_read(&node->hits);
	stats->misses += atomic64_read(&node->misses);
	stats->zeroed_bytes += atomic64_read(&node->zeroed) * HPAGE_PMD_SIZE;
	stats->shrunk_bytes += atomic64_read(&node->shrunk) * HPAGE_PMD_SIZE;
}

void shmdev_pool_read_stats(int nid, struct shmdev_pool_stats *stats)
{
	*stats = (struct shmdev_pool_stats) {};
	if (nid != NUMA_NO_NODE)
		return pool_add_stats(stats, pool_nodes[nid]);
	for_each_node(nid)
		pool_add_stats(stats, pool_nodes[nid]);
}

u64 shmdev_pool_read_cpu_ns(int nid)
{
	u64 ns = 0;

	mutex_lock(&pool_mutex);
	if (nid != NUMA_NO_NODE)
		ns = refill_cpu_ns(pool_nodes[nid]);
	else
		for_each_node(nid)
			ns += refill_cpu_ns(pool_nodes[nid]);
	mutex_unlock(&pool_mutex);
	return ns;
}

/* --- the shrinker ---------------------------------------------------------- */

static unsigned long pool_shrink_count(struct shrinker *shrinker, struct shrink_control *sc)
{
	unsigned long nr = READ_ONCE(pool_nodes[sc->nid]->nr);

	return nr ? nr << HPAGE_PMD_ORDER : SHRINK_EMPTY;
}

static unsigned long pool_shrink_scan(struct shrinker *shrinker, struct shrink_control *sc)
{
	struct pool_node *node = pool_nodes[sc->nid];
	unsigned long freed = 0;
	struct folio *folio;

	if (!node)	/* debugfs asks for any number below nr_node_ids */
		return SHRINK_STOP;
	refill_back_off(node);
	while (freed < sc->nr_to_scan) {
		folio = pool_get(node, 0);
		if (!folio)
			break;
		folio_put(folio);
		freed += HPAGE_PMD_NR;
		atomic64_inc(&node->shrunk);
	}
	if (freed)
		trace_shrink(node->nid, (u64)sc->nr_to_scan << PAGE_SHIFT, (u64)freed << PAGE_SHIFT,
			     (u64)READ_ONCE(node->nr) * HPAGE_PMD_SIZE);
	/* It has to find out for itself when the time for more has come. */
	refill_poke(node);
	sc->nr_scanned = freed;
	return freed ?: SHRINK_STOP;
}

/* --- nodes come and go ------------------------------------------------------- */

/* Memory that the pool may take from: none that is there to be taken away again. */
static u64 pool_count_pages(int nid)
{
	u64 nr = 0;
	int i;

	if (!node_state(nid, N_MEMORY))
		return 0;
	for (i = 0; i < ZONE_MOVABLE; i++)
		nr += zone_managed_pages(&NODE_DATA(nid)->node_zones[i]);
	return nr;
}

static void pool_drain(struct pool_node *node)
{
	struct folio *folio;

	while ((folio = pool_get(node, 0))) {
		folio_put(folio);
		cond_resched();
	}
}

/* A thread for each node with memory, and for no other. */
static int pool_update(void)
{
	int nid, err = 0;

	lockdep_assert_held(&pool_mutex);
	for_each_node(nid) {
		struct pool_node *node = pool_nodes[nid];
		u64 nr_pages = pool_count_pages(nid);

		if (nr_pages && !node->thread) {
			int ret = refill_start(node);

			if (ret) {
				pr_warn("node %d: no thread: %d\n", nid, ret);
				nr_pages = 0;
				err = ret;
			}
		}
		WRITE_ONCE(node->nr_pages, nr_pages);
		if (nr_pages)
			continue;
		WRITE_ONCE(node->target, 0);
		WRITE_ONCE(node->low, 0);
		if (node->thread)
			refill_stop(node);
		pool_drain(node);
	}
	pool_retarget();
	return err;
}

static void pool_pause(struct pool_node *node, bool paused)
{
	WRITE_ONCE(node->paused, paused);
	refill_wake(node);
}

/*
 * While memory of a node is taken away, the pool leaves it all it has: whatever is moved
 * out needs room.  (What has pages of the pool in it is refused before anyone is asked, as
 * are all pages of the kernel's.  Memory that is there to be taken away, of ZONE_MOVABLE,
 * has none.)
 */
static int pool_memory_notify(struct notifier_block *nb, unsigned long action, void *data)
{
	const struct memory_notify *arg = data;
	struct pool_node *node;
	int nid;

	mutex_lock(&pool_mutex);
	switch (pool_up ? action : 0) {
	case MEM_GOING_OFFLINE:
		node = pool_nodes[pfn_to_nid(arg->start_pfn)];
		pool_pause(node, true);
		pool_drain(node);
		break;
	case MEM_CANCEL_OFFLINE:
	case MEM_OFFLINE:
		for_each_node(nid)
			pool_pause(pool_nodes[nid], false);
		fallthrough;
	case MEM_ONLINE:
		/* An error has been told of; nobody could do more about it. */
		pool_update();
		break;
	}
	mutex_unlock(&pool_mutex);
	return NOTIFY_OK;
}

static struct notifier_block pool_memory_nb = {
	.notifier_call	= pool_memory_notify,
};

static int pool_cpu_online(unsigned int cpu)
{
	int nid;

	mutex_lock(&pool_mutex);
	for_each_node(nid)
		if (pool_nodes[nid]->thread)
			shmdev_kthread_to_node(pool_nodes[nid]->thread, nid);
	mutex_unlock(&pool_mutex);
	return 0;
}

/* --- life ------------------------------------------------------------------ */

static int pool_nodes_create(void)
{
	struct pool_node *node;
	int nid;

	for_each_node(nid) {
		node = kzalloc_node(sizeof(*node), GFP_KERNEL,
				    node_state(nid, N_MEMORY) ? nid : NUMA_NO_NODE);
		if (!node)
			return -ENOMEM;
		node->nid = nid;
		spin_lock_init(&node->lock);
		INIT_LIST_HEAD(&node->folios);
		init_waitqueue_head(&node->wait);
		node->backoff_since = jiffies - MAX_JIFFY_OFFSET;
		pool_nodes[nid] = node;
	}
	return 0;
}

static void pool_nodes_destroy(void)
{
	int nid;

	for_each_node(nid) {
		kfree(pool_nodes[nid]);
		pool_nodes[nid] = NULL;
	}
}

static int pool_start(void)
{
	int err;

	mutex_lock(&pool_mutex);
	pool_up = true;
	err = pool_update();
	mutex_unlock(&pool_mutex);
	return err;
}

static void pool_stop(void)
{
	int nid;

	mutex_lock(&pool_mutex);
	pool_up = false;
	for_each_node(nid) {
		if (pool_nodes[nid]->thread)
			refill_stop(pool_nodes[nid]);
		pool_drain(pool_nodes[nid]);
	}
	mutex_unlock(&pool_mutex);
}

int shmdev_pool_init(void)
{
	int err;

	err = pool_nodes_create();
	if (err)
		goto err_nodes_destroy;
	pool_shrinker = shmdev_shrinker_create(SHRINKER_NUMA_AWARE, KBUILD_MODNAME,
					       HPAGE_PMD_NR, pool_shrink_count,
					       pool_shrink_scan);
	if (!pool_shrinker) {
		err = -ENOMEM;
		goto err_nodes_destroy;
	}
	err = register_memory_notifier(&pool_memory_nb);
	if (err)
		goto err_shrinker_destroy;
	err = cpuhp_setup_state_nocalls(CPUHP_AP_ONLINE_DYN, "shmdev:online", pool_cpu_online,
					NULL);
	if (err < 0)
		goto err_unregister;
	pool_cpuhp = err;
	err = pool_start();
	if (err)
		goto err_stop;
	return 0;

err_stop:
	pool_stop();
	cpuhp_remove_state_nocalls(pool_cpuhp);
err_unregister:
	unregister_memory_notifier(&pool_memory_nb);
err_shrinker_destroy:
	shmdev_shrinker_destroy(pool_shrinker);
err_nodes_destroy:
	pool_nodes_destroy();
	return err;
}

void shmdev_pool_exit(void)
{
	pool_stop();
	cpuhp_remove_state_nocalls(pool_cpuhp);
	unregister_memory_notifier(&pool_memory_nb);
	shmdev_shrinker_destroy(pool_shrinker);
	pool_nodes_destroy();
}
