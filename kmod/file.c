// SPDX-License-Identifier: GPL-2.0-only
/* What can be done with a descriptor of a region. */
#include <linux/compat.h>
#include <linux/falloc.h>
#include <linux/file.h>
#include <linux/fs.h>
#include <linux/minmax.h>
#include <linux/mm.h>
#include <linux/module.h>
#include <linux/pagemap.h>
#include <linux/sched/signal.h>
#include <linux/seq_file.h>
#include <linux/sizes.h>
#include <linux/string.h>
#include <linux/uaccess.h>
#include <linux/uio.h>
#include <uapi/linux/shmdev.h>

#include "compat/fs.h"
#include "compat/mm.h"
#include "compat/uio.h"
#include "memory.h"
#include "pool.h"
#include "region.h"
#include "seal.h"
#include "trace.h"

/* Forever, for every architecture and for 32-bit callers on 64-bit kernels. */
static_assert(sizeof(struct shmdev_stat) == 64);
static_assert(sizeof(struct shmdev_export) == 64);
static_assert(sizeof(struct shmdev_seal) == 32);

/* For those who come by a token or /proc/<pid>/fd; a new region's file is counted already. */
static int file_open(struct inode *inode, struct file *file)
{
	file->f_mode |= FMODE_NOWAIT;
	return shmdev_region_file_get(shmdev_region_of(inode));
}

static int file_release(struct inode *inode, struct file *file)
{
	shmdev_region_file_put(shmdev_region_of(inode));
	return 0;
}

/* --- mapping --------------------------------------------------------------- */

static const struct vm_operations_struct file_vm_ops = {
	.fault		= filemap_fault,
	.map_pages	= filemap_map_pages,
};

static int file_mmap(struct file *file, struct vm_area_struct *vma)
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
	if (shmdev_sealed(shmdev_region_of(file_inode(file)))) {
		if (vma->vm_flags & VM_WRITE)
			return -EPERM;
		vm_flags_clear(vma, VM_MAYWRITE);
	}

	vm_flags_set(vma, VM_DONTEXPAND | VM_DONTDUMP);
	vma->vm_ops = &file_vm_ops;
	return 0;
}

/* --- reading --------------------------------------------------------------- */

/* How many of @count bytes at @pos can be read, or -EIO. */
static ssize_t file_readable(struct file *file, loff_t pos, size_t count)
{
	loff_t size = i_size_read(file_inode(file));
	size_t sound;

	if (pos >= size || !count)
		return count;
	sound = shmdev_memory_sound(file->f_mapping, pos, min_t(u64, count, size - pos));
	return sound ?: -EIO;
}

static ssize_t file_read_iter(struct kiocb *iocb, struct iov_iter *to)
{
	size_t count = iov_iter_count(to), kept;
	ssize_t ret = file_readable(iocb->ki_filp, iocb->ki_pos, count);

	if (ret < 0)
		return ret;
	kept = count - ret;
	iov_iter_truncate(to, ret);
	ret = generic_file_read_iter(iocb, to);
	/* What was not asked for the caller gets back: it may go on with the iterator. */
	iov_iter_reexpand(to, iov_iter_count(to) + kept);
	return ret;
}

static ssize_t file_splice_read(struct file *file, loff_t *pos, struct pipe_inode_info *pipe,
				size_t len, unsigned int flags)
{
	ssize_t ret = file_readable(file, *pos, len);

	return ret < 0 ? ret : filemap_splice_read(file, pos, pipe, ret, flags);
}

/* --- writing and zeroing --------------------------------------------------- */

/* As much as is copied with preemption off and, where kmap maps pages one by one, at a time. */
#define FILE_WRITE_MAX	(IS_ENABLED(CONFIG_DEBUG_KMAP_LOCAL_FORCE_MAP) ? PAGE_SIZE : SZ_64K)

/*
 * Copy to one folio; 0 if the source has to be faulted in anew.
 *
 * The folio is locked, or migration would leave behind what is written while it copies;
 * so the source, which may be the same folio, must not fault.
 */
static ssize_t file_write_folio(struct address_space *mapping, loff_t pos, size_t bytes,
				struct iov_iter *from)
{
	struct folio *folio = filemap_lock_folio(mapping, pos >> PAGE_SHIFT);
	size_t offset, copied;

	/* Memory failure has taken it out. */
	if (IS_ERR_OR_NULL(folio))
		return -EIO;
	/* Then somebody has tried to read it; or it could not be taken out. */
	if (!folio_test_uptodate(folio) || shmdev_memory_broken(folio)) {
		folio_unlock(folio);
		folio_put(folio);
		return -EIO;
	}
	offset = offset_in_folio(folio, pos);
	bytes = min(bytes, folio_size(folio) - offset);
	copied = copy_folio_from_iter_atomic(folio, offset, bytes, from);
	flush_dcache_folio(folio);
	folio_unlock(folio);
	folio_put(folio);
	return copied;
}

static ssize_t file_write(struct address_space *mapping, loff_t pos, struct iov_iter *from)
{
	size_t bytes = min_t(size_t, iov_iter_count(from), FILE_WRITE_MAX - offset_in_page(pos));
	ssize_t copied;
	size_t missing;

	do {
		if (fatal_signal_pending(current))
			return -EINTR;
		missing = fault_in_iov_iter_readable(from, bytes);
		if (missing == bytes)
			return -EFAULT;
		bytes -= missing;
		copied = file_write_folio(mapping, pos, bytes, from);
		/* Gone again at once: with a page at a time it cannot be for want of luck. */
		bytes = min_t(size_t, bytes, PAGE_SIZE - offset_in_page(pos));
	} while (!copied);
	return copied;
}

static ssize_t file_write_iter(struct kiocb *iocb, struct iov_iter *from)
{
	struct inode *inode = file_inode(iocb->ki_filp);
	loff_t size = i_size_read(inode);
	ssize_t ret, done = 0;
	size_t beyond = 0;

	if (iocb->ki_flags & IOCB_NOWAIT)
		ret = inode_trylock(inode) ? 0 : -EAGAIN;
	else
		ret = shmdev_region_lock(inode);
	if (ret)
		return ret;

	ret = generic_write_checks(iocb, from);
	if (ret <= 0)
		goto out_unlock;
	if (shmdev_sealed(shmdev_region_of(inode))) {
		ret = -EPERM;
		goto out_unlock;
	}
	if (iocb->ki_pos >= size) {
		ret = -ENOSPC;
		goto out_unlock;
	}
	/* What lies beyond the end the caller gets back: it may go on with the iterator. */
	if (iov_iter_count(from) > size - iocb->ki_pos) {
		beyond = iov_iter_count(from) - (size - iocb->ki_pos);
		iov_iter_truncate(from, size - iocb->ki_pos);
	}
	ret = file_update_time(iocb->ki_filp);
	while (!ret && iov_iter_count(from)) {
		cond_resched();
		ret = file_write(inode->i_mapping, iocb->ki_pos, from);
		if (ret < 0)
			break;
		iocb->ki_pos += ret;
		done += ret;
		ret = 0;
	}
	iov_iter_reexpand(from, iov_iter_count(from) + beyond);
out_unlock:
	inode_unlock(inode);
	return done ?: ret;
}

static long file_fallocate(struct file *file, int mode, loff_t offset, loff_t len)
{
	struct inode *inode = file_inode(file);
	u64 exchanged = 0;
	int err;

	if (mode != (FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE))
		return -EOPNOTSUPP;
	if (offset + len > i_size_read(inode))
		return -EINVAL;

	err = shmdev_region_lock(inode);
	if (err)
		return err;
	if (shmdev_sealed(shmdev_region_of(inode)))
		err = -EPERM;
	else
		err = shmdev_memory_zero(inode->i_mapping, offset, offset + len, &exchanged);
	inode_unlock(inode);
	shmdev_pool_refill();
	trace_zero(inode->i_ino, offset, len, exchanged, err);
	return err;
}

/* --- about it -------------------------------------------------------------- */

static void file_stat(const struct inode *inode, struct shmdev_stat *stat)
{
	const struct shmdev_region *region = shmdev_region_of(inode);

	*stat = (struct shmdev_stat) {
		.size = i_size_read(inode),
		.huge_bytes = region->huge_bytes,
		.flags = READ_ONCE(region->exported) ? SHMDEV_STAT_EXPORTED : 0,
		.seals = READ_ONCE(region->seals),
		.node = region->nid,
	};
}

static void file_show_fdinfo(struct seq_file *seq, struct file *file)
{
	struct shmdev_stat stat;

	file_stat(file_inode(file), &stat);
	seq_printf(seq, "shmdev-size:\t%llu\n", stat.size);
	seq_printf(seq, "shmdev-huge:\t%llu\n", stat.huge_bytes);
	seq_printf(seq, "shmdev-node:\t%d\n", stat.node);
	seq_printf(seq, "shmdev-seals:\t0x%x\n", stat.seals);
	seq_printf(seq, "shmdev-exported:\t%u\n", !!(stat.flags & SHMDEV_STAT_EXPORTED));
}

/* --- ioctls ---------------------------------------------------------------- */

static long file_ioctl_stat(struct file *file, void __user *arg)
{
	struct shmdev_stat stat;

	if (copy_from_user(&stat, arg, sizeof(stat)))
		return -EFAULT;
	if (memchr_inv(stat.reserved, 0, sizeof(stat.reserved)))
		return -EINVAL;
	file_stat(file_inode(file), &stat);
	return copy_to_user(arg, &stat, sizeof(stat)) ? -EFAULT : 0;
}

static long file_ioctl_export(struct file *file, void __user *arg)
{
	struct inode *inode = file_inode(file);
	struct shmdev_region *region = shmdev_region_of(inode);
	struct shmdev_export export;
	int err;

	if (copy_from_user(&export, arg, sizeof(export)))
		return -EFAULT;
	if (memchr_inv(export.reserved, 0, sizeof(export.reserved)))
		return -EINVAL;
	if (export.flags)
		return -EOPNOTSUPP;

	err = shmdev_region_lock(inode);
	if (err)
		return err;
	err = shmdev_token_create(region);
	inode_unlock(inode);
	if (err)
		return err;
	BUILD_BUG_ON(sizeof(export.token) != sizeof(region->token));
	memcpy(export.token, &region->token, sizeof(export.token));
	return copy_to_user(arg, &export, sizeof(export)) ? -EFAULT : 0;
}

static long file_ioctl_seal(struct file *file, void __user *arg)
{
	struct inode *inode = file_inode(file);
	struct shmdev_seal seal;
	int err;

	if (copy_from_user(&seal, arg, sizeof(seal)))
		return -EFAULT;
	if (seal.pad || memchr_inv(seal.reserved, 0, sizeof(seal.reserved)))
		return -EINVAL;
	if (seal.seals & ~SHMDEV_SEALS)
		return -EOPNOTSUPP;
	if (!seal.seals)
		return -EINVAL;
	if (!(file->f_mode & FMODE_WRITE))
		return -EPERM;

	err = shmdev_seal_add(inode, seal.seals);
	if (err)
		return err;
	seal.seals = READ_ONCE(shmdev_region_of(inode)->seals);
	return copy_to_user(arg, &seal, sizeof(seal)) ? -EFAULT : 0;
}

static long file_ioctl(struct file *file, unsigned int cmd, unsigned long arg)
{
	switch (cmd) {
	case SHMDEV_IOC_STAT:
		return file_ioctl_stat(file, (void __user *)arg);
	case SHMDEV_IOC_EXPORT:
		return file_ioctl_export(file, (void __user *)arg);
	case SHMDEV_IOC_SEAL:
		return file_ioctl_seal(file, (void __user *)arg);
	default:
		return -ENOTTY;
	}
}

const struct file_operations shmdev_region_fops = {
	.owner			= THIS_MODULE,
	.open			= file_open,
	.release		= file_release,
	.llseek			= generic_file_llseek,
	.read_iter		= file_read_iter,
	.write_iter		= file_write_iter,
	.splice_read		= file_splice_read,
	.splice_write		= iter_file_splice_write,
	.fallocate		= file_fallocate,
	.fsync			= noop_fsync,
	.mmap			= file_mmap,
	.get_unmapped_area	= thp_get_unmapped_area,
	.unlocked_ioctl		= file_ioctl,
	.compat_ioctl		= compat_ptr_ioctl,
	.show_fdinfo		= file_show_fdinfo,
};
