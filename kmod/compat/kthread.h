/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef SHMDEV_COMPAT_KTHREAD_H
#define SHMDEV_COMPAT_KTHREAD_H

#include <linux/cpumask.h>
#include <linux/kthread.h>
#include <linux/sched/isolation.h>
#include <linux/topology.h>
#include <linux/version.h>

/*
 * Let @thread run on node @nid, where it can.  To be called anew when a processor comes,
 * as the core forgets it when the node's last processor goes.
 *
 * d1a89197589c ("kthread: Default affine kthread to its preferred NUMA node"), 6.14, does all
 * of that for who is created by kthread_create_on_node().
 */
static inline void shmdev_kthread_to_node(struct task_struct *thread, int nid)
{
#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 14, 0)
	const struct cpumask *cpus = housekeeping_cpumask(HK_TYPE_KTHREAD);
	cpumask_var_t mask;

	/* Without one it runs everywhere, which is no mistake. */
	if (!alloc_cpumask_var(&mask, GFP_KERNEL))
		return;
	if (cpumask_and(mask, cpus, cpumask_of_node(nid)) &&
	    cpumask_intersects(mask, cpu_online_mask))
		cpus = mask;
	set_cpus_allowed_ptr(thread, cpus);
	free_cpumask_var(mask);
#endif
}

#endif /* SHMDEV_COMPAT_KTHREAD_H */
