// SPDX-License-Identifier: GPL-2.0-only
/*
 * The memory of a region is its page cache.
 *
 * All folios are there when the region is published, so that a fault has nothing to
 * allocate but page tables; they are dirty and the mapping is unevictable, so that
 * nothing takes them away.
 *
 * Locking: inode lock, folio lock, and inside it what unmapping takes.  A fault, the
 * only way to a new mapping or pin, waits for the folio lock.
 */
#include <linux/gfp.h>
#include <linux/jiffies.h>
#include <linux/minmax.h>
#include <linux/mm.h>
#include <linux/nodemask.h>
#include <linux/pagemap.h>
#include <linux/sched/signal.h>
#include <linux/swap.h>

#include "compat/mm.h"
#include "memory.h"
#include "pool.h"

#ifndef CONFIG_TRANSPARENT_HUGEPAGE
#error "shmdev needs a kernel with CONFIG_TRANSPARENT_HUGEPAGE"
#endif

/*
 * ENOMEM for the caller rather than the OOM killer for anyone; what else that takes is
 * in shmdev_memory_may_take().  Movable, as it moves unless it is pinned, and whoever pins
 * it for long moves it first where it must not stay.
 */
#define MEMORY_GFP	(GFP_HIGHUSER_MOVABLE | __GFP_ZERO | __GFP_NOWARN)
#define MEMORY_CHARGE_GFP (GFP_KERNEL | __GFP_RETRY_MAYFAIL | __GFP_NOWARN)

/* How long a reference that is only passing may take to go away. */
#define MEMORY_SETTLE	(HZ / 5)

/* --- populating ------------------------------------------------------------ */

/*
 * The page allocator alone would say no only after everything else has been taken, and
 * whoever faults in that moment is killed for it.
 */
bool shmdev_memory_may_take(u64 size)
{
	return (long)(size >> PAGE_SHIFT) <= si_mem_available();
}

/* Consumes the caller's reference of @folio. */
static int memory_add_folio(struct address_space *mapping, struct folio *folio, pgoff_t index)
{
	int err;

	__folio_mark_uptodate(folio);
	/* Charges the caller's memory cgroup; the only exported way to do so. */
	err = filemap_add_folio(mapping, folio, index, MEMORY_CHARGE_GFP);
	if (!err) {
		folio_mark_dirty(folio);
		folio_unlock(folio);
	}
	folio_put(folio);
	return err;
}

static struct folio *memory_alloc_folio(const struct shmdev_memory_request *req, gfp_t gfp,
					unsigned int order)
{
	if (req->node_strict)
		gfp |= __GFP_THISNODE;
	/* The latter goes by the caller's memory policy. */
	return req->node ? __folio_alloc_node(gfp, order, req->nid) : folio_alloc(gfp, order);
}

/* The next smaller order that a file may have: 6.1 has no folios of two pages. */
static unsigned int memory_smaller_order(unsigned int order)
{
	return order > 2 ? order - 1 : 0;
}

/* Fill one huge page's worth of @mapping by smaller folios, the largest there are. */
static int memory_add_small(struct address_space *mapping, pgoff_t index,
			    const struct shmdev_memory_request *req)
{
	unsigned int order = memory_smaller_order(HPAGE_PMD_ORDER);
	pgoff_t end = index + HPAGE_PMD_NR;
	struct folio *folio;
	int err;

	while (index < end) {
		/* Do not labour for a large one, but do for the smallest. */
		gfp_t gfp = order ? MEMORY_GFP & ~__GFP_DIRECT_RECLAIM :
				    MEMORY_GFP | __GFP_RETRY_MAYFAIL;

		if (fatal_signal_pending(current))
			return -EINTR;
		folio = memory_alloc_folio(req, gfp, order);
		if (!folio) {
			if (!order)
				return -ENOMEM;
			order = memory_smaller_order(order);
			continue;
		}
		err = memory_add_folio(mapping, folio, index);
		if (err)
			return err;
		index += 1UL << order;
	}
	return 0;
}

int shmdev_memory_populate(struct address_space *mapping, struct shmdev_memory_request *req)
{
	gfp_t gfp = MEMORY_GFP | (req->strict ? __GFP_RETRY_MAYFAIL : __GFP_NORETRY);
	struct folio *folio;
	u64 pos;
	int err;

	req->huge_bytes = 0;
	req->pool_bytes = 0;
	for (pos = 0; pos < req->size; pos += HPAGE_PMD_SIZE) {
		if (fatal_signal_pending(current))
			return -EINTR;
		cond_resched();

		folio = shmdev_pool_take(req->nid);
		if (folio)
			req->pool_bytes += HPAGE_PMD_SIZE;
		else if (shmdev_memory_may_take(req->size - pos))
			folio = memory_alloc_folio(req, gfp, HPAGE_PMD_ORDER);
		else
			return -ENOMEM;
		if (!folio && req->strict)
			return -ENOMEM;

		if (folio) {
			req->huge_bytes += HPAGE_PMD_SIZE;
			err = memory_add_folio(mapping, folio, pos >> PAGE_SHIFT);
		} else {
			/* Compaction has failed once: from now on only what is at hand. */
			gfp &= ~__GFP_DIRECT_RECLAIM;
			err = memory_add_small(mapping, pos >> PAGE_SHIFT, req);
		}
		if (err)
			return err;
	}
	return 0;
}

/* --- whose it is ----------------------------------------------------------- */

/*
 * Unmap @folio, which the caller has locked and referenced, from everywhere, and say
 * whether anyone else has a hold on it.  If not, nobody will until it is unlocked but
 * those who look it up in the page cache: they read, or wait for the folio lock.
 */
static bool memory_unmap_idle(struct folio *folio)
{
	long expected = folio_nr_pages(folio) + 1;
	bool on_lru;

	unmap_mapping_pages(folio->mapping, folio->index, folio_nr_pages(folio), false);
	/*
	 * Against a GUP-fast on another CPU, which takes its reference first and then
	 * looks again whether the page is still mapped.
	 */
	smp_mb();
	if (folio_mapped(folio))
		return false;
	if (folio_test_large(folio))
		return folio_ref_count(folio) == expected;
	/*
	 * A small one may wait for long in some CPU's batch to be put on its LRU list, and
	 * has a reference for that.  A pin of it would count much more.
	 */
	on_lru = folio_test_lru(folio);
	return folio_ref_count(folio) == expected + !on_lru && folio_test_lru(folio) == on_lru;
}

int shmdev_memory_settle(struct address_space *mapping)
{
	pgoff_t index = 0, end = i_size_read(mapping->host) >> PAGE_SHIFT;
	unsigned long deadline = jiffies + MEMORY_SETTLE;
	struct folio *folio;
	bool idle;

	while (index < end) {
		cond_resched();
		if (fatal_signal_pending(current))
			return -EINTR;
		folio = filemap_lock_folio(mapping, index);
		if (IS_ERR_OR_NULL(folio)) {	/* broken, and taken out */
			index++;
			continue;
		}
		idle = memory_unmap_idle(folio);
		if (idle) {
			index = folio->index + folio_nr_pages(folio);
			deadline = jiffies + MEMORY_SETTLE;
		}
		folio_unlock(folio);
		folio_put(folio);
		if (idle)
			continue;
		if (time_after(jiffies, deadline))
			return -EBUSY;
		schedule_timeout_killable(1);
	}
	return 0;
}

/* --- zeroing --------------------------------------------------------------- */

/*
 * Put @new in the place of @old, both of the same order and on the same node and held by
 * nobody but the caller and the page cache; consumes the caller's reference of @new.
 *
 * replace_page_cache_folio() charges @new to the memory cgroup of @old, limit or not, for
 * the moment until @old is freed.  But it counts references as if a folio had one page.
 */
static void memory_replace_folio(struct folio *old, struct folio *new)
{
	long nr = folio_nr_pages(old);

	__folio_set_locked(new);
	__folio_mark_uptodate(new);
	folio_ref_add(new, nr - 1);
	replace_page_cache_folio(old, new);
	folio_put_refs(old, nr - 1);
	folio_mark_dirty(new);
	folio_add_lru(new);
	folio_unlock(new);
	folio_put(new);
}

bool shmdev_memory_broken(struct folio *folio)
{
	return folio_test_hwpoison(folio) ||
	       (folio_test_large(folio) && folio_test_has_hwpoisoned(folio));
}

static bool memory_has_failed(void)
{
	int nid;

	for_each_online_node(nid)
		if (shmdev_node_has_failed(nid))
			return true;
	return false;
}

/* The first page of @folio from offset @pos of the file on that is marked; its end if none. */
static loff_t memory_find_broken(struct folio *folio, loff_t pos)
{
	loff_t start = folio_pos(folio), end = start + folio_size(folio);

	if (!shmdev_memory_broken(folio))
		return end;
	while (pos < end && !PageHWPoison(folio_page(folio, (pos - start) >> PAGE_SHIFT)))
		pos = round_down(pos, PAGE_SIZE) + PAGE_SIZE;
	return pos;
}

size_t shmdev_memory_sound(struct address_space *mapping, loff_t pos, size_t len)
{
	loff_t at = pos, end = pos + len, next;
	struct folio *folio;

	if (!memory_has_failed())
		return len;
	while (at < end) {
		folio = filemap_get_folio(mapping, at >> PAGE_SHIFT);
		if (IS_ERR_OR_NULL(folio))	/* taken out: reading it will say so */
			break;
		next = folio_pos(folio) + folio_size(folio);
		at = memory_find_broken(folio, at);
		folio_put(folio);
		if (at < next)
			return min_t(u64, at - pos, len);
	}
	return len;
}

/*
 * Zero a folio that the caller has locked, as far as it lies in [@start, @end).
 *
 * A whole huge page is exchanged for one of the pool if nobody holds it; a pin would be
 * left with memory that is not the region's.  Where the pool has none, clearing the one
 * that is there costs no more than clearing another.
 */
static int memory_zero_folio(struct folio *folio, loff_t start, loff_t end, u64 *exchanged)
{
	loff_t pos = folio_pos(folio);
	size_t from = max(start, pos) - pos;
	size_t to = min_t(loff_t, end - pos, folio_size(folio));
	bool whole = to - from == folio_size(folio);
	struct folio *new = NULL;

	if (whole && folio_order(folio) == HPAGE_PMD_ORDER &&
	    shmdev_pool_has(folio_nid(folio)) && memory_unmap_idle(folio))
		new = shmdev_pool_take(folio_nid(folio));
	if (new) {
		/* The allocator does not look at tails: what is broken goes to nobody. */
		if (shmdev_memory_broken(folio))
			folio_get(folio);
		memory_replace_folio(folio, new);
		*exchanged += HPAGE_PMD_SIZE;
		return 0;
	}
	/* One that is not uptodate is in the place of a broken one, see below. */
	if (shmdev_memory_broken(folio) || (!whole && !folio_test_uptodate(folio)))
		return -EHWPOISON;
	folio_zero_range(folio, from, to - from);
	if (whole) {
		folio_mark_uptodate(folio);
		folio_mark_dirty(folio);
	}
	return 0;
}

/*
 * Memory failure has taken the page out: a zeroed one mends the region.  Whoever tried to
 * read it has already put a new one there, which could not be read.
 */
static int memory_mend(struct address_space *mapping, loff_t pos, loff_t end)
{
	struct folio *folio;

	if (!PAGE_ALIGNED(pos) || end - pos < PAGE_SIZE)
		return -EHWPOISON;
	folio = folio_alloc(MEMORY_GFP | __GFP_RETRY_MAYFAIL, 0);
	return folio ? memory_add_folio(mapping, folio, pos >> PAGE_SHIFT) : -ENOMEM;
}

int shmdev_memory_zero(struct address_space *mapping, loff_t start, loff_t end, u64 *exchanged)
{
	loff_t whole = round_up(start, HPAGE_PMD_SIZE), whole_end = round_down(end, HPAGE_PMD_SIZE);
	loff_t pos = start;
	struct folio *folio;
	int err = 0;

	/* What will be exchanged, if all goes well, for the sake of one TLB flush for all. */
	if (whole < whole_end && shmdev_pool_has(numa_mem_id()))
		unmap_mapping_pages(mapping, whole >> PAGE_SHIFT,
				    (whole_end - whole) >> PAGE_SHIFT, false);

	while (pos < end && !err) {
		cond_resched();
		if (fatal_signal_pending(current))
			return -EINTR;
		folio = filemap_lock_folio(mapping, pos >> PAGE_SHIFT);
		if (IS_ERR_OR_NULL(folio)) {
			err = memory_mend(mapping, pos, end);
			if (!err)
				pos += PAGE_SIZE;
			else if (err == -EEXIST)	/* by a reader, just now */
				err = 0;
			continue;
		}
		pos = folio_pos(folio) + folio_size(folio);
		err = memory_zero_folio(folio, start, end, exchanged);
		folio_unlock(folio);
		folio_put(folio);
	}
	return err;
}
