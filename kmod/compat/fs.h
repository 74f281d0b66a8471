/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef SHMDEV_COMPAT_FS_H
#define SHMDEV_COMPAT_FS_H

#include <linux/fs.h>
#include <linux/pagemap.h>
#include <linux/version.h>

/* c1632a0f1120 ("fs: port ->setattr() to pass mnt_idmap"), 6.3 */
#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 3, 0)
#define mnt_idmap user_namespace
#define nop_mnt_idmap init_user_ns
#endif

/* 2cb1e08985e3 ("splice: Use filemap_splice_read() instead of generic_file_splice_read()"), 6.5 */
#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 5, 0)
#define filemap_splice_read generic_file_splice_read
#endif

/* af7628d6ec19 ("fs: convert error_remove_page to error_remove_folio"), 6.8 */
#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 8, 0)
#define error_remove_folio error_remove_page
#define generic_error_remove_folio generic_error_remove_page
#endif

#endif /* SHMDEV_COMPAT_FS_H */
