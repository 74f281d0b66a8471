// SPDX-License-Identifier: GPL-2.0-only
/*
 * The pool: per NUMA node a list of zeroed huge folios and a thread that fills it.
 *
 * The thread takes only memory that lies about: no direct reclaim, no compaction.
 * Where nothing does, it tells kswapd, as whoever finds too few huge pages does, and
 * comes back later.  What it has put aside, the shrinker gives back; until then it is
 * counted as reclaimable.
 *
 * Locking: pool_node.lock guards the list and its length.  It is innermost, held
 * for a few instructions, and nothing is allocated or freed under it, so that the
 * shrinker may run in whatever context memory ran out in.
 */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/atomic.h>
#include <linux/cpuset.h>
#include <linux/freezer.h>
#include <linux/gfp.h>
#include <linux/kthread.h>
#include <linux/list.h>
#include <linux/math64.h>
#include <linux/mm.h>
#include <linux/module.h>
#include <linux/moduleparam.h>
#include <linux/nodemask.h>
#include <linux/sched.h>
#include <linux/sizes.h>
#include <linux/slab.h>
#include <linux/spinlock.h>
#include <linux/vmstat.h>
#include <linux/wait.h>

#include "compat/mm.h"
#include "compat/shrinker.h"
#include "pool.h"

/* Zeroed once, whatever init_on_alloc says: with this flag the two do not add up. */
#define POOL_GFP ((GFP_HIGHUSER & ~__GFP_DIRECT_RECLAIM) | __GFP_ZERO | __GFP_THISNODE | \
		  __GFP_NORETRY | __GFP_NOWARN)

/* How long the thread leaves memory alone after it found none or was asked for some. */
#define POOL_BACKOFF	(5 * HZ)

struct pool_node {
	int nid;
	u64 first_page;			/* its place among the pages of all nodes with a pool */
	u64 nr_pages;
	struct task_struct *thread;
	spinlock_t lock;		/* guards folios and nr */
	struct list_head folios;	/* by folio->lru */
	unsigned long nr;
	atomic64_t hits;
	atomic64_t misses;
	unsigned long backoff_since;	/* jiffies; only the thread and the shrinker write */
};

/* Filled before the device exists and emptied when it is gone: no lock. */
static struct pool_node *pool_nodes[MAX_NUMNODES];
static struct shrinker *pool_shrinker;
/* Memory of all nodes with a pool. */
static u64 pool_nr_pages;

/* Static, so that writing the parameter needs none of the above. */
static DECLARE_WAIT_QUEUE_HEAD(pool_wait);

/* --- target ---------------------------------------------------------------- */

#define POOL_MB_DEFAULT	UINT_MAX

static unsigned int pool_mb = POOL_MB_DEFAULT;

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

static int pool_mb_set(const char *val, const struct kernel_param *kp)
{
	int err = param_set_uint_minmax(val, kp, 0, pool_mb_max());

	if (!err)
		wake_up_all(&pool_wait);
	return err;
}

static int pool_mb_get(char *buf, const struct kernel_param *kp)
{
	return scnprintf(buf, PAGE_SIZE, "%u\n", pool_mb_now());
}

static const struct kernel_param_ops pool_mb_ops = {
	.set	= pool_mb_set,
	.get	= pool_mb_get,
};

module_param_cb(pool_mb, &pool_mb_ops, &pool_mb, 0644);
MODULE_PARM_DESC(pool_mb, "MiB of zeroed huge pages to hold ready, all nodes together; 0 holds none (default: 1/16 of memory, at most 1024)");

/*
 * Huge pages that @node should hold: of the whole, its share of memory.  As a difference
 * of sums, so that all of them together are the whole, however it is rounded.
 */
static unsigned long pool_target(const struct pool_node *node)
{
	u64 target = (u64)pool_mb_now() * SZ_1M >> HPAGE_PMD_SHIFT;
	u64 last_page = node->first_page + node->nr_pages;

	return mul_u64_u64_div_u64(target, last_page, pool_nr_pages) -
	       mul_u64_u64_div_u64(target, node->first_page, pool_nr_pages);
}

/* --- the list -------------------------------------------------------------- */

static void pool_put(struct pool_node *node, struct folio *folio)
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
 * The same, but sound.  Memory failure cannot take a page out of the pool, it only marks
 * it; and the page allocator does not look at the tails of what it is given.  So a marked
 * one goes to nobody: it is lost, as broken memory is.
 */
static struct folio *pool_get(struct pool_node *node, unsigned long keep)
{
	struct folio *folio;

	while ((folio = pool_pop(node, keep)) && pool_poisoned(folio))
		pr_warn_ratelimited("node %d: leaving out a huge page with broken memory\n",
				    node->nid);
	return folio;
}

bool shmdev_pool_has(int nid)
{
	struct pool_node *node = pool_nodes[nid];

	return node && READ_ONCE(node->nr);
}

struct folio *shmdev_pool_take(int nid)
{
	struct pool_node *node = pool_nodes[nid];
	struct folio *folio;

	/* A node whose memory came after the module has no pool. */
	if (!node || !node_isset(nid, cpuset_current_mems_allowed))
		return NULL;
	folio = pool_get(node, 0);
	atomic64_inc(folio ? &node->hits : &node->misses);
	return folio;
}

void shmdev_pool_read_stats(struct shmdev_pool_stats *stats)
{
	struct pool_node *node;
	int nid;

	*stats = (struct shmdev_pool_stats) {};
	for (nid = 0; nid < MAX_NUMNODES; nid++) {
		node = pool_nodes[nid];
		if (!node)
			continue;
		stats->target_bytes += (u64)pool_target(node) * HPAGE_PMD_SIZE;
		stats->bytes += (u64)READ_ONCE(node->nr) * HPAGE_PMD_SIZE;
		stats->hits += atomic64_read(&node->hits);
		stats->misses += atomic64_read(&node->misses);
	}
}

/* --- the thread ------------------------------------------------------------ */

static bool pool_backing_off(struct pool_node *node)
{
	unsigned long since = READ_ONCE(node->backoff_since);

	/* A range, so that a backoff of long ago is not taken for one to come. */
	return time_in_range(jiffies, since, since + POOL_BACKOFF - 1);
}

static void pool_back_off(struct pool_node *node)
{
	WRITE_ONCE(node->backoff_since, jiffies);
}

static bool pool_has_work(struct pool_node *node)
{
	unsigned long nr = READ_ONCE(node->nr), target = pool_target(node);

	return nr > target || (nr < target && !pool_backing_off(node));
}

static int pool_thread(void *data)
{
	struct pool_node *node = data;
	struct folio *folio;

	set_user_nice(current, MAX_NICE);
	set_freezable();
	while (!kthread_should_stop()) {
		/* The timeout is for the end of a backoff, which nobody announces. */
		wait_event_freezable_timeout(pool_wait,
					     kthread_should_stop() || pool_has_work(node),
					     POOL_BACKOFF);
		if (kthread_should_stop())
			break;
		/* The wait does neither when there is work all the time. */
		try_to_freeze();
		cond_resched();

		folio = pool_get(node, pool_target(node));
		if (folio) {
			folio_put(folio);
			continue;
		}
		if (!pool_has_work(node))
			continue;
		folio = __folio_alloc_node(POOL_GFP, HPAGE_PMD_ORDER, node->nid);
		if (folio)
			pool_put(node, folio);
		else
			pool_back_off(node);
	}
	return 0;
}

void shmdev_pool_refill(void)
{
	wake_up_all(&pool_wait);
}

/* --- the shrinker ---------------------------------------------------------- */

static unsigned long pool_shrink_count(struct shrinker *shrinker, struct shrink_control *sc)
{
	struct pool_node *node = pool_nodes[sc->nid];
	unsigned long nr = node ? READ_ONCE(node->nr) : 0;

	return nr ? nr << HPAGE_PMD_ORDER : SHRINK_EMPTY;
}

static unsigned long pool_shrink_scan(struct shrinker *shrinker, struct shrink_control *sc)
{
	struct pool_node *node = pool_nodes[sc->nid];
	unsigned long freed = 0;
	struct folio *folio;

	if (!node)
		return SHRINK_STOP;
	pool_back_off(node);
	while (freed < sc->nr_to_scan) {
		folio = pool_get(node, 0);
		if (!folio)
			break;
		folio_put(folio);
		freed += HPAGE_PMD_NR;
	}
	sc->nr_scanned = freed;
	return freed ?: SHRINK_STOP;
}

/* --- life ------------------------------------------------------------------ */

static void pool_node_destroy(struct pool_node *node)
{
	struct folio *folio;

	kthread_stop(node->thread);
	while ((folio = pool_get(node, 0))) {
		folio_put(folio);
		cond_resched();
	}
	kfree(node);
}

static struct pool_node *pool_node_create(int nid, u64 first_page)
{
	struct pool_node *node = kzalloc_node(sizeof(*node), GFP_KERNEL, nid);
	struct task_struct *thread;

	if (!node)
		return ERR_PTR(-ENOMEM);
	node->nid = nid;
	node->first_page = first_page;
	node->nr_pages = node_present_pages(nid);
	node->backoff_since = jiffies - POOL_BACKOFF;
	spin_lock_init(&node->lock);
	INIT_LIST_HEAD(&node->folios);

	thread = kthread_create_on_node(pool_thread, node, nid, "shmdev_pool/%d", nid);
	if (IS_ERR(thread)) {
		kfree(node);
		return ERR_CAST(thread);
	}
	if (!cpumask_empty(cpumask_of_node(nid)))
		set_cpus_allowed_ptr(thread, cpumask_of_node(nid));
	node->thread = thread;
	wake_up_process(thread);
	return node;
}

static void pool_nodes_destroy(void)
{
	int nid;

	for (nid = 0; nid < MAX_NUMNODES; nid++) {
		if (!pool_nodes[nid])
			continue;
		pool_node_destroy(pool_nodes[nid]);
		pool_nodes[nid] = NULL;
	}
}

int shmdev_pool_init(void)
{
	struct pool_node *node;
	u64 first_page = 0;
	int nid, err;

	pool_nr_pages = 0;
	for_each_node_state(nid, N_MEMORY)
		pool_nr_pages += node_present_pages(nid);
	for_each_node_state(nid, N_MEMORY) {
		node = pool_node_create(nid, first_page);
		if (IS_ERR(node)) {
			err = PTR_ERR(node);
			goto err_nodes_destroy;
		}
		pool_nodes[nid] = node;
		first_page += node->nr_pages;
	}
	pool_shrinker = shmdev_shrinker_create(SHRINKER_NUMA_AWARE, KBUILD_MODNAME,
					       HPAGE_PMD_NR, pool_shrink_count,
					       pool_shrink_scan);
	if (!pool_shrinker) {
		err = -ENOMEM;
		goto err_nodes_destroy;
	}
	return 0;

err_nodes_destroy:
	pool_nodes_destroy();
	return err;
}

void shmdev_pool_exit(void)
{
	shmdev_shrinker_destroy(pool_shrinker);
	pool_nodes_destroy();
}
