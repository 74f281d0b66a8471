/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef SHMDEV_COMPAT_MM_H
#define SHMDEV_COMPAT_MM_H

#include <linux/mm.h>
#include <linux/version.h>

/* bc292ab00f6c ("mm: introduce vma->vm_flags wrapper functions"), 6.3 */
#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 3, 0)
static inline void vm_flags_set(struct vm_area_struct *vma, vm_flags_t flags)
{
	vma->vm_flags |= flags;
}
#endif

#endif /* SHMDEV_COMPAT_MM_H */
