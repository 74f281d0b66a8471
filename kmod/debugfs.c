// SPDX-License-Identifier: GPL-2.0-only
/*
 * The list of all regions: who made them, and what keeps them.
 *
 * Locking: debugfs_mutex guards the list; a region is on it until it begins to go, so that
 * whoever holds the mutex may look at any region that is on the list, and at its inode.
 * Inside of it are the lock of the mapping and that of the region.
 *
 * While the file is open it holds the module, as any other.
 */
#include <linux/cred.h>
#include <linux/debugfs.h>
#include <linux/fs.h>
#include <linux/list.h>
#include <linux/module.h>
#include <linux/mutex.h>
#include <linux/rbtree.h>
#include <linux/sched.h>
#include <linux/seq_file.h>
#include <linux/timekeeping.h>
#include <linux/uidgid.h>

#include "debugfs.h"
#include "region.h"

static DEFINE_MUTEX(debugfs_mutex);
static LIST_HEAD(debugfs_regions);
static struct dentry *debugfs_dir;

static unsigned int debugfs_count_maps(struct address_space *mapping)
{
	struct rb_node *rb;
	unsigned int nr = 0;

	i_mmap_lock_read(mapping);
	for (rb = rb_first_cached(&mapping->i_mmap); rb; rb = rb_next(rb))
		nr++;
	i_mmap_unlock_read(mapping);
	return nr;
}

static unsigned int debugfs_count_files(struct shmdev_region *region)
{
	unsigned int nr;

	spin_lock(&region->lock);
	nr = region->files;
	spin_unlock(&region->lock);
	return nr;
}

static void *regions_start(struct seq_file *seq, loff_t *pos)
{
	mutex_lock(&debugfs_mutex);
	return seq_list_start_head(&debugfs_regions, *pos);
}

static void *regions_next(struct seq_file *seq, void *v, loff_t *pos)
{
	return seq_list_next(v, &debugfs_regions, pos);
}

static void regions_stop(struct seq_file *seq, void *v)
{
	mutex_unlock(&debugfs_mutex);
}

static int regions_show(struct seq_file *seq, void *v)
{
	struct shmdev_region *region;
	struct inode *inode;

	if (v == &debugfs_regions) {
		seq_puts(seq, "ino size huge node maps files exported seals age uid pid comm\n");
		return 0;
	}
	region = list_entry(v, struct shmdev_region, list);
	inode = region->inode;
	seq_printf(seq, "%llu %lld %llu %d %u %u %d %#x %lld %u %d ", (u64)inode->i_ino,
		   i_size_read(inode), region->huge_bytes, region->nid,
		   debugfs_count_maps(inode->i_mapping), debugfs_count_files(region),
		   READ_ONCE(region->exported), READ_ONCE(region->seals),
		   ktime_get_boottime_seconds() - region->made_at,
		   from_kuid_munged(seq_user_ns(seq), region->made_by), region->made_by_pid);
	/* Whatever a process calls itself, it is one word of one line. */
	seq_escape(seq, region->made_by_comm, " \t\n\\");
	seq_putc(seq, '\n');
	return 0;
}

static const struct seq_operations regions_sops = {
	.start	= regions_start,
	.next	= regions_next,
	.stop	= regions_stop,
	.show	= regions_show,
};
DEFINE_SEQ_ATTRIBUTE(regions);

void shmdev_debugfs_add(struct shmdev_region *region)
{
	region->made_by = current_uid();
	region->made_by_pid = task_tgid_nr(current);
	get_task_comm(region->made_by_comm, current);
	region->made_at = ktime_get_boottime_seconds();
	mutex_lock(&debugfs_mutex);
	list_add_tail(&region->list, &debugfs_regions);
	mutex_unlock(&debugfs_mutex);
}

void shmdev_debugfs_remove(struct shmdev_region *region)
{
	mutex_lock(&debugfs_mutex);
	list_del_init(&region->list);
	mutex_unlock(&debugfs_mutex);
}

/* Without debugfs there is no list, and nothing else depends on it. */
void shmdev_debugfs_init(void)
{
	debugfs_dir = debugfs_create_dir("shmdev", NULL);
	debugfs_create_file("regions", 0400, debugfs_dir, NULL, &regions_fops);
}

void shmdev_debugfs_exit(void)
{
	debugfs_remove(debugfs_dir);
}
