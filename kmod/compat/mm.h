/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef SHMDEV_COMPAT_MM_H
#define SHMDEV_COMPAT_MM_H

#include <linux/mm.h>
#include <linux/pagemap.h>
#include <linux/version.h>

/* bc292ab00f6c ("mm: introduce vma->vm_flags wrapper functions"), 6.3 */
#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 3, 0)
static inline void vm_flags_set(struct vm_area_struct *vma, vm_flags_t flags)
{
	vma->vm_flags |= flags;
}

static inline void vm_flags_clear(struct vm_area_struct *vma, vm_flags_t flags)
{
	vma->vm_flags &= ~flags;
}
#endif

/* 3720dd6dcae7 ("mm: convert replace_page_cache_page() to replace_page_cache_folio()"), 6.3 */
#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 3, 0)
static inline void replace_page_cache_folio(struct folio *old, struct folio *new)
{
	replace_page_cache_page(&old->page, &new->page);
}
#endif

/*
 * MAX_PAGECACHE_ORDER, what the page cache takes, is of 6.6 and of the late releases of 6.1.
 * Before, it took what has a page table.
 */
#ifndef MAX_PAGECACHE_ORDER
#define MAX_PAGECACHE_ORDER	HPAGE_PMD_ORDER
#endif

/*
 * Whether memory failure has had to do with node @nid since boot, or may have.
 * 18f41fa616ee ("mm: memory-failure: Add memory failure stats to sysfs"), 6.3, counts.
 */
static inline bool shmdev_node_has_failed(int nid)
{
#if !defined(CONFIG_MEMORY_FAILURE)
	return false;
#elif LINUX_VERSION_CODE < KERNEL_VERSION(6, 3, 0)
	return true;
#else
	return READ_ONCE(NODE_DATA(nid)->mf_stats.total);
#endif
}

#endif /* SHMDEV_COMPAT_MM_H */
