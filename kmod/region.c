// SPDX-License-Identifier: GPL-2.0-only
/*
 * Regions are files of a pseudo file system, their memory is the page cache.
 *
 * This is what makes them ordinary memory: rmap, page pins, memory cgroup charge,
 * memory failure and PMD mappings all come from the core.  All folios are there when
 * the file is published, so that a fault has nothing to allocate but page tables;
 * they are dirty and the mapping is unevictable, so that nothing takes them away.
 *
 * A used folio never goes back to the pool, because nobody but the core can know
 * that the last pin of it is gone: the page allocator gets it, and the pool refills
 * itself.
 */
#include <linux/atomic.h>
#include <linux/file.h>
#include <linux/gfp.h>
#include <linux/mm.h>
#include <linux/module.h>
#include <linux/mount.h>
#include <linux/pagemap.h>
#include <linux/pseudo_fs.h>
#include <linux/sched/signal.h>
#include <uapi/linux/shmdev.h>

#include "compat/fs.h"
#include "compat/mm.h"
#include "pool.h"
#include "region.h"

#ifndef CONFIG_TRANSPARENT_HUGEPAGE
#error "shmdev needs a kernel with CONFIG_TRANSPARENT_HUGEPAGE"
#endif

/*
 * ENOMEM for the caller rather than the OOM killer for anyone; what else that takes is
 * in region_may_take().
 */
#define REGION_GFP	(GFP_HIGHUSER | __GFP_ZERO | __GFP_NOWARN)
#define REGION_CHARGE_GFP (GFP_KERNEL | __GFP_RETRY_MAYFAIL | __GFP_NOWARN)

static atomic64_t region_count = ATOMIC64_INIT(0);
static atomic64_t region_bytes = ATOMIC64_INIT(0);

/* Never reused while the module is loaded, unlike the 32 bits of get_next_ino(). */
static atomic64_t region_next_ino = ATOMIC64_INIT(1);

/* Valid while the caller has a region_fs_get() to its name. */
static struct vfsmount *region_mnt;
static int region_mnt_count;

static int region_fs_get(void);
static void region_fs_put(void);

/* --- file ------------------------------------------------------------------ */

static const struct vm_operations_struct region_vm_ops = {
	.fault		= filemap_fault,
	.map_pages	= filemap_map_pages,
};

static int region_mmap(struct file *file, struct vm_area_struct *vma)
{
	u64 end = ((u64)vma->vm_pgoff + vma_pages(vma)) << PAGE_SHIFT;

	/*
	 * A private mapping would copy a huge page in small ones at each write.  The
	 * test is not for VM_SHARED, which is off for read-only descriptors.
	 */
	if (!(vma->vm_flags & VM_MAYSHARE))
		return -EINVAL;
	/* Beyond the end there is nothing but SIGBUS: refuse it while one can. */
	if (end > i_size_read(file_inode(file)))
		return -EINVAL;

	vm_flags_set(vma, VM_DONTEXPAND | VM_DONTDUMP);
	vma->vm_ops = &region_vm_ops;
	return 0;
}

/* For those who come through /proc/<pid>/fd; a new region's file has its get already. */
static int region_open(struct inode *inode, struct file *file)
{
	return region_fs_get();
}

static int region_release(struct inode *inode, struct file *file)
{
	region_fs_put();
	return 0;
}

static const struct file_operations region_fops = {
	.owner			= THIS_MODULE,
	.open			= region_open,
	.release		= region_release,
	.mmap			= region_mmap,
	.get_unmapped_area	= thp_get_unmapped_area,
	.llseek			= generic_file_llseek,
	.fsync			= noop_fsync,
};

/* --- inode ----------------------------------------------------------------- */

static int region_setattr(struct mnt_idmap *idmap, struct dentry *dentry, struct iattr *attr)
{
	int err;

	/* As a memfd with F_SEAL_SHRINK | F_SEAL_GROW answers. */
	if (attr->ia_valid & ATTR_SIZE)
		return -EPERM;
	err = setattr_prepare(idmap, dentry, attr);
	if (err)
		return err;
	setattr_copy(idmap, d_inode(dentry), attr);
	return 0;
}

static const struct inode_operations region_iops = {
	.setattr	= region_setattr,
};

/* Only for what memory failure has taken out of the cache: there is no other hole. */
static int region_read_folio(struct file *file, struct folio *folio)
{
	folio_unlock(folio);
	return -EIO;
}

static const struct address_space_operations region_aops = {
	.read_folio		= region_read_folio,
	.dirty_folio		= noop_dirty_folio,
	.migrate_folio		= filemap_migrate_folio,
	.error_remove_folio	= generic_error_remove_folio,
};

static void region_evict(struct inode *inode)
{
	truncate_inode_pages_final(inode->i_mapping);
	clear_inode(inode);
	/* The root of the file system comes here too. */
	if (!S_ISREG(inode->i_mode))
		return;
	atomic64_sub(i_size_read(inode), &region_bytes);
	atomic64_dec(&region_count);
}

static struct inode *region_new_inode(u64 size)
{
	struct inode *inode = alloc_anon_inode(region_mnt->mnt_sb);

	if (IS_ERR(inode))
		return inode;

	inode->i_ino = atomic64_inc_return(&region_next_ino);
	inode->i_mode |= S_IFREG;
	/* A region has no name to come back by: with its last file, watches end too. */
	clear_nlink(inode);
	/* Other processes get at it: security modules shall have a say. */
	inode->i_flags &= ~S_PRIVATE;
	inode->i_op = &region_iops;
	inode->i_fop = &region_fops;
	inode->i_mapping->a_ops = &region_aops;
	mapping_set_large_folios(inode->i_mapping);
	mapping_set_unevictable(inode->i_mapping);
	inode_set_bytes(inode, size);
	i_size_write(inode, size);

	atomic64_inc(&region_count);
	atomic64_add(size, &region_bytes);
	return inode;
}

/* --- file system ----------------------------------------------------------- */

static const struct super_operations region_sops = {
	.statfs		= simple_statfs,
	.evict_inode	= region_evict,
};

static int region_init_fs_context(struct fs_context *fc)
{
	struct pseudo_fs_context *ctx = init_pseudo(fc, SHMDEV_MAGIC);

	if (!ctx)
		return -ENOMEM;
	ctx->ops = &region_sops;
	/* Memory that others write is not for execution. */
	fc->s_iflags |= SB_I_NOEXEC | SB_I_NODEV;
	return 0;
}

/*
 * The owner makes each superblock hold the module until the core has finished with
 * it, the only thing that outlives a region's last fput().  For the same reason it
 * is not mounted for good, which would hold the module for ever, but while a region's
 * file is open.
 */
static struct file_system_type region_fs_type = {
	.owner			= THIS_MODULE,
	.name			= "shmdev",
	.init_fs_context	= region_init_fs_context,
	.kill_sb		= kill_anon_super,
};

static int region_fs_get(void)
{
	return simple_pin_fs(&region_fs_type, &region_mnt, &region_mnt_count);
}

static void region_fs_put(void)
{
	simple_release_fs(&region_mnt, &region_mnt_count);
}

/* --- making one ------------------------------------------------------------ */

/*
 * Whether @nr_pages can be had without taking what others live on.  The page allocator
 * alone would say no only after everything else has been taken, and whoever faults in
 * that moment is killed for it.
 */
static bool region_may_take(pgoff_t nr_pages)
{
	return (long)nr_pages <= si_mem_available();
}

/* Consumes the caller's reference of @folio. */
static int region_add_folio(struct address_space *mapping, struct folio *folio, pgoff_t index)
{
	int err;

	__folio_mark_uptodate(folio);
	/* Charges the caller's memory cgroup; the only exported way to do so. */
	err = filemap_add_folio(mapping, folio, index, REGION_CHARGE_GFP);
	if (!err) {
		folio_mark_dirty(folio);
		folio_unlock(folio);
	}
	folio_put(folio);
	return err;
}

/* The next smaller order that a file may have: 6.1 has no folios of two pages. */
static unsigned int region_smaller_order(unsigned int order)
{
	return order > 2 ? order - 1 : 0;
}

/*
 * Fill one huge page's worth of @mapping from @index on by smaller folios, the
 * largest there are.
 */
static int region_add_small(struct address_space *mapping, pgoff_t index, int nid)
{
	unsigned int order = region_smaller_order(HPAGE_PMD_ORDER);
	pgoff_t end = index + HPAGE_PMD_NR;
	struct folio *folio;
	int err;

	while (index < end) {
		/* Do not labour for a large one, but do for the smallest. */
		gfp_t gfp = order ? REGION_GFP & ~__GFP_DIRECT_RECLAIM :
				    REGION_GFP | __GFP_RETRY_MAYFAIL;

		if (fatal_signal_pending(current))
			return -EINTR;
		folio = __folio_alloc_node(gfp, order, nid);
		if (!folio) {
			if (!order)
				return -ENOMEM;
			order = region_smaller_order(order);
			continue;
		}
		err = region_add_folio(mapping, folio, index);
		if (err)
			return err;
		index += 1UL << order;
	}
	return 0;
}

static int region_populate(struct address_space *mapping, pgoff_t nr_pages, int nid,
			   bool strict, u64 *huge_bytes, u64 *pool_bytes)
{
	gfp_t gfp = REGION_GFP | (strict ? __GFP_RETRY_MAYFAIL : __GFP_NORETRY);
	struct folio *folio;
	pgoff_t index;
	int err;

	*huge_bytes = 0;
	*pool_bytes = 0;
	for (index = 0; index < nr_pages; index += HPAGE_PMD_NR) {
		if (fatal_signal_pending(current))
			return -EINTR;
		cond_resched();

		folio = shmdev_pool_take(nid);
		if (folio)
			*pool_bytes += HPAGE_PMD_SIZE;
		else if (region_may_take(nr_pages - index))
			folio = __folio_alloc_node(gfp, HPAGE_PMD_ORDER, nid);
		else
			return -ENOMEM;
		if (!folio && strict)
			return -ENOMEM;

		if (folio) {
			*huge_bytes += HPAGE_PMD_SIZE;
			err = region_add_folio(mapping, folio, index);
		} else {
			/* Compaction has failed once: from now on only what is at hand. */
			gfp &= ~__GFP_DIRECT_RECLAIM;
			err = region_add_small(mapping, index, nid);
		}
		if (err)
			return err;
	}
	return 0;
}

u64 shmdev_region_max_bytes(void)
{
	return round_down((u64)totalram_pages() << PAGE_SHIFT, HPAGE_PMD_SIZE);
}

struct file *shmdev_region_create(u64 size, int nid, bool strict, u64 *huge_bytes,
				  u64 *pool_bytes)
{
	struct inode *inode;
	struct file *file;
	int err;

	BUILD_BUG_ON(HPAGE_PMD_ORDER > MAX_PAGECACHE_ORDER);

	/* Before the pool is emptied for what cannot come about. */
	if (!region_may_take(size >> PAGE_SHIFT))
		return ERR_PTR(-ENOMEM);
	err = region_fs_get();
	if (err)
		return ERR_PTR(err);
	inode = region_new_inode(size);
	if (IS_ERR(inode)) {
		err = PTR_ERR(inode);
		goto err_fs_put;
	}
	err = region_populate(inode->i_mapping, size >> PAGE_SHIFT, nid, strict, huge_bytes,
			      pool_bytes);
	shmdev_pool_refill();
	if (err)
		goto err_put_inode;

	file = alloc_file_pseudo(inode, region_mnt, "shmdev", O_RDWR | O_LARGEFILE,
				 &region_fops);
	if (IS_ERR(file)) {
		err = PTR_ERR(file);
		goto err_put_inode;
	}
	/* fput() drops a reference that alloc_file_pseudo() does not take. */
	__module_get(THIS_MODULE);
	return file;

err_put_inode:
	iput(inode);
err_fs_put:
	region_fs_put();
	return ERR_PTR(err);
}

void shmdev_region_read_stats(struct shmdev_region_stats *stats)
{
	stats->regions = atomic64_read(&region_count);
	stats->bytes = atomic64_read(&region_bytes);
}
