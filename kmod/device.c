// SPDX-License-Identifier: GPL-2.0-only
/*
 * /dev/shmdev: the ioctl interface of include/uapi/linux/shmdev.h.
 *
 * The layer on top: it checks what user space asks for and leaves the work to the
 * regions, which take their memory from the pool.
 */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/cpuset.h>
#include <linux/fcntl.h>
#include <linux/file.h>
#include <linux/fs.h>
#include <linux/mempolicy.h>
#include <linux/miscdevice.h>
#include <linux/mm.h>
#include <linux/module.h>
#include <linux/nodemask.h>
#include <linux/nospec.h>
#include <linux/string.h>
#include <linux/topology.h>
#include <linux/uaccess.h>
#include <uapi/linux/shmdev.h>

#include "debugfs.h"
#include "limit.h"
#include "memory.h"
#include "pool.h"
#include "region.h"
#include "sysfs.h"
#include "token.h"
#include "trace.h"

/* Forever, for every architecture and for 32-bit callers on 64-bit kernels. */
static_assert(sizeof(struct shmdev_query) == 128);
static_assert(sizeof(struct shmdev_alloc) == 64);
static_assert(sizeof(struct shmdev_attach) == 64);

#define SHMDEV_ALLOC_FLAGS	(SHMDEV_ALLOC_STRICT | SHMDEV_ALLOC_NODE | SHMDEV_ALLOC_NODE_STRICT)
#define SHMDEV_ATTACH_FLAGS	SHMDEV_ATTACH_RDONLY

static long shmdev_ioctl_query(void __user *arg)
{
	struct shmdev_limit_stats limit;
	struct shmdev_pool_stats pool;
	struct shmdev_query query;

	if (copy_from_user(&query, arg, sizeof(query)))
		return -EFAULT;
	if (memchr_inv(query.reserved, 0, sizeof(query.reserved)))
		return -EINVAL;

	shmdev_pool_read_stats(NUMA_NO_NODE, &pool);
	shmdev_limit_read_stats(&limit);
	query = (struct shmdev_query) {
		.abi_version = SHMDEV_ABI_VERSION,
		.huge_page_shift = HPAGE_PMD_SHIFT,
		.alloc_flags = SHMDEV_ALLOC_FLAGS,
		.pool_target_bytes = pool.target_bytes,
		.pool_bytes = pool.bytes,
		.pool_hits = pool.hits,
		.pool_misses = pool.misses,
		.regions = limit.regions,
		.region_bytes = limit.bytes,
		.max_region_bytes = shmdev_region_max_bytes(),
		.limit_bytes = limit.limit_bytes,
		.user_limit_bytes = limit.user_limit_bytes,
		.user_bytes = limit.user_bytes,
	};
	return copy_to_user(arg, &query, sizeof(query)) ? -EFAULT : 0;
}

/* The nearest node with memory that the caller may use and wants to. */
static int shmdev_nearest_node(void)
{
	nodemask_t allowed = cpuset_current_mems_allowed;
	int local = numa_mem_id(), nearest = NUMA_NO_NODE, nid;
#ifdef CONFIG_NUMA
	nodemask_t wanted;

	/* A policy that names no nodes is one for the local node. */
	if (current->mempolicy) {
		nodes_and(wanted, allowed, current->mempolicy->nodes);
		if (!nodes_empty(wanted))
			allowed = wanted;
	}
#endif
	if (node_isset(local, allowed) && node_state(local, N_MEMORY))
		return local;
	for_each_node_mask(nid, allowed)
		if (node_state(nid, N_MEMORY) &&
		    (nearest == NUMA_NO_NODE ||
		     node_distance(local, nid) < node_distance(local, nearest)))
			nearest = nid;
	/* Read while it is written, the mask may be empty. */
	return nearest == NUMA_NO_NODE ? local : nearest;
}

static int shmdev_check_node(struct shmdev_alloc *alloc)
{
	bool strict = alloc->flags & SHMDEV_ALLOC_NODE_STRICT;

	if (!(alloc->flags & SHMDEV_ALLOC_NODE))
		return alloc->node || strict ? -EINVAL : 0;
	if (alloc->node < 0 || alloc->node >= MAX_NUMNODES)
		return -EINVAL;
	/* It is an index, and comes from user space: also for who runs ahead of the test. */
	alloc->node = array_index_nospec(alloc->node, MAX_NUMNODES);
	if (!node_state(alloc->node, N_MEMORY))
		return -EINVAL;
	if (strict && !node_isset(alloc->node, cpuset_current_mems_allowed))
		return -EINVAL;
	return 0;
}

/* For the trace: 0 if @file is an error. */
static u64 shmdev_region_ino(struct file *file)
{
	return IS_ERR(file) ? 0 : file_inode(file)->i_ino;
}

/*
 * Let the caller have @file, or an error, as descriptor @fd, which it has reserved, and
 * @answer as what the ioctl says beside.
 */
static long shmdev_publish(int fd, struct file *file, void __user *arg, const void *answer,
			   size_t size)
{
	int err;

	if (IS_ERR(file)) {
		err = PTR_ERR(file);
		goto err_put_fd;
	}
	if (copy_to_user(arg, answer, size)) {
		err = -EFAULT;
		goto err_put_file;
	}
	/* Nothing can fail any more: from here on other threads see the descriptor. */
	fd_install(fd, file);
	return fd;

err_put_file:
	fput(file);
err_put_fd:
	put_unused_fd(fd);
	return err;
}

static long shmdev_ioctl_alloc(void __user *arg)
{
	struct shmdev_memory_request req;
	struct shmdev_alloc alloc;
	struct file *file;
	int fd, err;

	if (copy_from_user(&alloc, arg, sizeof(alloc)))
		return -EFAULT;
	if (alloc.pad || memchr_inv(alloc.reserved, 0, sizeof(alloc.reserved)))
		return -EINVAL;
	if (alloc.flags & ~SHMDEV_ALLOC_FLAGS)
		return -EOPNOTSUPP;
	if (!alloc.size)
		return -EINVAL;
	if (alloc.size > shmdev_region_max_bytes())
		return -EFBIG;
	err = shmdev_check_node(&alloc);
	if (err)
		return err;

	req = (struct shmdev_memory_request) {
		/* The maximum is a multiple of the huge page size: no overflow. */
		.size = ALIGN(alloc.size, HPAGE_PMD_SIZE),
		.strict = alloc.flags & SHMDEV_ALLOC_STRICT,
		.node = alloc.flags & SHMDEV_ALLOC_NODE,
		.node_strict = alloc.flags & SHMDEV_ALLOC_NODE_STRICT,
		.nid = alloc.flags & SHMDEV_ALLOC_NODE ? alloc.node : shmdev_nearest_node(),
	};
	fd = get_unused_fd_flags(O_CLOEXEC);
	if (fd < 0)
		return fd;
	file = shmdev_region_create(&req);
	trace_alloc(shmdev_region_ino(file), req.size, req.huge_bytes, req.pool_bytes, req.nid,
		    PTR_ERR_OR_ZERO(file));
	alloc.size = req.size;
	alloc.huge_bytes = req.huge_bytes;
	alloc.pool_bytes = req.pool_bytes;
	return shmdev_publish(fd, file, arg, &alloc, sizeof(alloc));
}

static long shmdev_ioctl_attach(void __user *arg)
{
	struct shmdev_attach attach;
	struct shmdev_token token;
	struct file *file;
	int fd;

	if (copy_from_user(&attach, arg, sizeof(attach)))
		return -EFAULT;
	if (memchr_inv(attach.reserved, 0, sizeof(attach.reserved)))
		return -EINVAL;
	if (attach.flags & ~SHMDEV_ATTACH_FLAGS)
		return -EOPNOTSUPP;

	BUILD_BUG_ON(sizeof(token) != sizeof(attach.token));
	memcpy(&token, attach.token, sizeof(token));
	fd = get_unused_fd_flags(O_CLOEXEC);
	if (fd < 0)
		return fd;
	file = shmdev_region_attach(&token, attach.flags & SHMDEV_ATTACH_RDONLY);
	trace_attach(shmdev_region_ino(file), attach.flags & SHMDEV_ATTACH_RDONLY,
		     PTR_ERR_OR_ZERO(file));
	return shmdev_publish(fd, file, arg, &attach, sizeof(attach));
}

static long shmdev_ioctl(struct file *file, unsigned int cmd, unsigned long arg)
{
	switch (cmd) {
	case SHMDEV_IOC_QUERY:
		return shmdev_ioctl_query((void __user *)arg);
	case SHMDEV_IOC_ALLOC:
		return shmdev_ioctl_alloc((void __user *)arg);
	case SHMDEV_IOC_ATTACH:
		return shmdev_ioctl_attach((void __user *)arg);
	default:
		return -ENOTTY;
	}
}

static const struct file_operations shmdev_fops = {
	.owner		= THIS_MODULE,
	.open		= nonseekable_open,
	.unlocked_ioctl	= shmdev_ioctl,
	.compat_ioctl	= compat_ptr_ioctl,
};

static struct miscdevice shmdev_misc = {
	.minor	= MISC_DYNAMIC_MINOR,
	.name	= "shmdev",
	.fops	= &shmdev_fops,
	/* Whoever may open it can take memory: the administrator says who. */
	.mode	= 0660,
};

static int __init shmdev_init(void)
{
	int err;

	err = shmdev_token_init();
	if (err)
		return err;
	err = shmdev_pool_init();
	if (err)
		goto err_token_exit;
	err = shmdev_sysfs_init();
	if (err)
		goto err_pool_exit;
	shmdev_debugfs_init();
	shmdev_misc.groups = shmdev_sysfs_groups();
	err = misc_register(&shmdev_misc);
	if (err)
		goto err_debugfs_exit;
	return 0;

err_debugfs_exit:
	shmdev_debugfs_exit();
	shmdev_sysfs_exit();
err_pool_exit:
	shmdev_pool_exit();
err_token_exit:
	shmdev_token_exit();
	return err;
}

/* Not called while a region or a descriptor of the device exists. */
static void __exit shmdev_exit(void)
{
	misc_deregister(&shmdev_misc);
	shmdev_debugfs_exit();
	shmdev_sysfs_exit();
	shmdev_pool_exit();
	shmdev_token_exit();
}

module_init(shmdev_init);
module_exit(shmdev_exit);

MODULE_DESCRIPTION("Shared memory of huge pages that are zeroed before they are asked for");
MODULE_AUTHOR("the shmdev developers");
MODULE_LICENSE("GPL");
MODULE_VERSION(SHMDEV_VERSION);
