// SPDX-License-Identifier: GPL-2.0-only
/*
 * Regions are files of a pseudo file system, their memory is the page cache.
 *
 * This is what makes them ordinary memory: rmap, page pins, memory cgroup charge,
 * memory failure and PMD mappings all come from the core.
 *
 * A used folio never goes back to the pool, because nobody but the core can know
 * that the last pin of it is gone: the page allocator gets it, and the pool refills
 * itself.
 */
#include <linux/atomic.h>
#include <linux/cred.h>
#include <linux/dcache.h>
#include <linux/file.h>
#include <linux/mm.h>
#include <linux/module.h>
#include <linux/mount.h>
#include <linux/pagemap.h>
#include <linux/path.h>
#include <linux/pseudo_fs.h>
#include <linux/rcupdate.h>
#include <linux/slab.h>
#include <linux/spinlock.h>
#include <uapi/linux/shmdev.h>

#include "compat/fs.h"
#include "compat/mm.h"
#include "debugfs.h"
#include "limit.h"
#include "memory.h"
#include "pool.h"
#include "region.h"
#include "trace.h"

/* Never reused while the module is loaded, unlike the 32 bits of get_next_ino(). */
static atomic64_t region_next_ino = ATOMIC64_INIT(1);

/* Valid while the caller has a region_fs_get() to its name. */
static struct vfsmount *region_mnt;
static int region_mnt_count;

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
	struct shmdev_region *region = shmdev_region_of(inode);

	/* The root of the file system comes here too, and is none. */
	if (region) {
		shmdev_token_remove(region);
		shmdev_debugfs_remove(region);
	}
	truncate_inode_pages_final(inode->i_mapping);
	clear_inode(inode);
	if (!region)
		return;
	trace_release(inode->i_ino, i_size_read(inode));
	shmdev_limit_uncharge(region->user, i_size_read(inode));
	kfree_rcu(region, rcu);
}

static struct inode *region_new_inode(const struct shmdev_memory_request *req)
{
	struct shmdev_limit_user *user;
	struct shmdev_region *region;
	struct inode *inode;
	int err;

	user = shmdev_limit_charge(req->size);
	if (IS_ERR(user))
		return ERR_CAST(user);
	region = kzalloc(sizeof(*region), GFP_KERNEL_ACCOUNT);
	if (!region) {
		err = -ENOMEM;
		goto err_uncharge;
	}
	inode = alloc_anon_inode(region_mnt->mnt_sb);
	if (IS_ERR(inode)) {
		err = PTR_ERR(inode);
		goto err_free_region;
	}

	region->user = user;
	region->nid = req->nid;
	spin_lock_init(&region->lock);
	INIT_LIST_HEAD(&region->list);
	region->inode = inode;

	inode->i_private = region;
	inode->i_ino = atomic64_inc_return(&region_next_ino);
	inode->i_mode |= S_IFREG;
	/* A region has no name to come back by: with its last file, watches end too. */
	clear_nlink(inode);
	/* Other processes get at it: security modules shall have a say. */
	inode->i_flags &= ~S_PRIVATE;
	inode->i_op = &region_iops;
	inode->i_fop = &shmdev_region_fops;
	inode->i_mapping->a_ops = &region_aops;
	mapping_set_large_folios(inode->i_mapping);
	mapping_set_unevictable(inode->i_mapping);
	inode_set_bytes(inode, req->size);
	i_size_write(inode, req->size);
	return inode;

err_free_region:
	kfree(region);
err_uncharge:
	shmdev_limit_uncharge(user, req->size);
	return ERR_PTR(err);
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

/* --- files ----------------------------------------------------------------- */

u64 shmdev_region_max_bytes(void)
{
	return round_down((u64)totalram_pages() << PAGE_SHIFT, HPAGE_PMD_SIZE);
}

struct file *shmdev_region_create(struct shmdev_memory_request *req)
{
	struct shmdev_region *region;
	struct inode *inode;
	struct file *file;
	int err;

	BUILD_BUG_ON(HPAGE_PMD_ORDER > MAX_PAGECACHE_ORDER);

	/* Before the pool is emptied for what cannot come about. */
	if (!shmdev_memory_may_take(req->size))
		return ERR_PTR(-ENOMEM);
	err = region_fs_get();
	if (err)
		return ERR_PTR(err);
	inode = region_new_inode(req);
	if (IS_ERR(inode)) {
		err = PTR_ERR(inode);
		goto err_fs_put;
	}
	err = shmdev_memory_populate(inode->i_mapping, req);
	shmdev_pool_refill();
	if (err)
		goto err_put_inode;

	file = alloc_file_pseudo(inode, region_mnt, "shmdev", O_RDWR | O_LARGEFILE,
				 &shmdev_region_fops);
	if (IS_ERR(file)) {
		err = PTR_ERR(file);
		goto err_put_inode;
	}
	/* What an open() sets and alloc_file_pseudo() does not, as in memfd_create(). */
	file->f_mode |= FMODE_LSEEK | FMODE_PREAD | FMODE_PWRITE | FMODE_NOWAIT;
	/* fput() drops a reference that alloc_file_pseudo() does not take. */
	__module_get(THIS_MODULE);

	region = shmdev_region_of(inode);
	region->huge_bytes = req->huge_bytes;
	region->path = file->f_path;
	region->files = 1;
	shmdev_debugfs_add(region);
	return file;

err_put_inode:
	iput(inode);
err_fs_put:
	region_fs_put();
	return ERR_PTR(err);
}

int shmdev_region_file_get(struct shmdev_region *region)
{
	int err = region_fs_get();

	if (err)
		return err;
	spin_lock(&region->lock);
	region->files++;
	spin_unlock(&region->lock);
	return 0;
}

void shmdev_region_file_put(struct shmdev_region *region)
{
	spin_lock(&region->lock);
	region->files--;
	spin_unlock(&region->lock);
	region_fs_put();
}

/*
 * A reference to mount and dentry of the region that has @token.  Its files have one and
 * give it up after region->files has told of it; all else, as a reference to the inode,
 * would not keep the superblock.
 */
static bool region_get_path(const struct shmdev_token *token, struct path *path)
{
	struct shmdev_region *region;
	bool alive = false;

	rcu_read_lock();
	region = shmdev_token_find(token);
	if (region) {
		spin_lock(&region->lock);
		alive = region->files;
		if (alive) {
			*path = region->path;
			path_get(path);
		}
		spin_unlock(&region->lock);
	}
	rcu_read_unlock();
	return alive;
}

struct file *shmdev_region_attach(const struct shmdev_token *token, bool rdonly)
{
	struct path path;
	struct file *file;
	int err;

	if (!region_get_path(token, &path))
		return ERR_PTR(-ENOENT);
	err = inode_permission(&nop_mnt_idmap, d_inode(path.dentry),
			       MAY_READ | (rdonly ? 0 : MAY_WRITE));
	if (err)
		file = ERR_PTR(err);
	else
		file = dentry_open(&path, (rdonly ? O_RDONLY : O_RDWR) | O_LARGEFILE,
				   current_cred());
	path_put(&path);
	return file;
}
