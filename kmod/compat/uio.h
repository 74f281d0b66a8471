/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef SHMDEV_COMPAT_UIO_H
#define SHMDEV_COMPAT_UIO_H

#include <linux/mm.h>
#include <linux/uio.h>
#include <linux/version.h>

/* 908a1ad8944f ("iov_iter: Handle compound highmem pages in copy_page_from_iter_atomic()"), 6.6 */
#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 6, 0)
static inline size_t copy_folio_from_iter_atomic(struct folio *folio, size_t offset,
						 size_t bytes, struct iov_iter *i)
{
	return copy_page_from_iter_atomic(folio_page(folio, offset / PAGE_SIZE),
					  offset_in_page(offset), bytes, i);
}
#endif

#endif /* SHMDEV_COMPAT_UIO_H */
