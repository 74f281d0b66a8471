/* SPDX-License-Identifier: GPL-2.0 WITH Linux-syscall-note */
/*
 * Ready-to-write shared memory: the interface of /dev/shmdev.
 *
 * The device hands out regions: shared memory, backed by huge pages wherever
 * they can be had, that is zeroed before anyone asks for it.  A region is a
 * file.  Standard calls do all they can on it: fstat(2) gives its size and
 * identity, mmap(2) with MAP_SHARED maps it, close(2) drops it.  It lives as
 * long as a descriptor, a mapping or a pin of it does.
 *
 * Errors of every command:
 *
 *   ENOTTY	 not a command of this device, or a struct of another size
 *   EFAULT	 the argument does not point to readable and writable memory
 *   EINVAL	 a reserved field is not zero
 *   EOPNOTSUPP	 a flag this kernel module does not know
 *
 * and of single commands where they are described.  A command that fails has
 * changed nothing.
 *
 * Rule of extension: a struct never changes its size or the meaning of a field.
 * Flags and reserved fields (zero-checked) take what is added; what does not fit
 * becomes a new command.  Ask SHMDEV_IOC_QUERY before use: a flag that is not in
 * alloc_flags gives EOPNOTSUPP, a command that is not there gives ENOTTY.
 */
#ifndef _UAPI_LINUX_SHMDEV_H
#define _UAPI_LINUX_SHMDEV_H

#include <linux/const.h>
#include <linux/ioctl.h>
#include <linux/types.h>

/*
 * Version of the interface described by this header.  It grows when something
 * is added; nothing that once worked is taken away.
 */
#define SHMDEV_ABI_VERSION	1

/* 0xE9 is in nobody's range in Documentation/userspace-api/ioctl/ioctl-number.rst. */
#define SHMDEV_IOC_TYPE		0xE9

/* f_type of a region in fstatfs(2): "shmd" */
#define SHMDEV_MAGIC		0x73686d64

/**
 * struct shmdev_query - what the module offers and how it is doing
 * @abi_version: out: SHMDEV_ABI_VERSION of the module
 * @huge_page_shift: out: log2 of the huge page size; every region is a multiple
 *		     of it
 * @features: out: bits for what has been added after version 1; none yet
 * @alloc_flags: out: the SHMDEV_ALLOC_* flags that are understood
 * @pool_target_bytes: out: zeroed memory the pool tries to hold ready
 * @pool_bytes: out: zeroed memory the pool holds ready now
 * @pool_hits: out: huge pages that were asked of the pool and there
 * @pool_misses: out: huge pages that were asked of the pool and not there
 * @regions: out: regions that exist
 * @region_bytes: out: their total size
 * @max_region_bytes: out: the largest size SHMDEV_IOC_ALLOC accepts
 * @reserved: in: must be 0
 *
 * The counters are sums over all NUMA nodes since the module was loaded; each is
 * exact, but they are not read at one instant.
 */
struct shmdev_query {
	__u32 abi_version;
	__u32 huge_page_shift;
	__u64 features;
	__u64 alloc_flags;
	__u64 pool_target_bytes;
	__u64 pool_bytes;
	__u64 pool_hits;
	__u64 pool_misses;
	__u64 regions;
	__u64 region_bytes;
	__u64 max_region_bytes;
	__u64 reserved[6];
};

/* Huge pages or nothing: ENOMEM instead of smaller pages. */
#define SHMDEV_ALLOC_STRICT	_BITULL(0)
/* Memory of @node, if there is room; without it, of the caller's own node. */
#define SHMDEV_ALLOC_NODE	_BITULL(1)

/**
 * struct shmdev_alloc - make a region
 * @size: in: bytes wanted, at least 1; out: bytes of the region, @size rounded
 *	  up to a multiple of the huge page size
 * @flags: in: SHMDEV_ALLOC_*
 * @node: in: with SHMDEV_ALLOC_NODE, the NUMA node the memory should come from, a
 *	  preference and not a promise; else 0
 * @pad: in: must be 0
 * @huge_bytes: out: how much of the region is in huge pages
 * @pool_bytes: out: how much of the region came from the pool
 * @reserved: in: must be 0
 *
 * Returns the region's descriptor, open for reading and writing, close-on-exec.
 * All of the memory is there when the call returns, zero, and charged to the
 * caller's memory cgroup; touching it takes no more memory than page tables do.
 *
 * Errors:
 *
 *   EINVAL	 @size is 0; @node is not a node with memory, or given without its flag
 *   EFBIG	 @size is above max_region_bytes
 *   ENOMEM	 not enough memory that others do not live on, here or in the memory
 *		 cgroup, or, with SHMDEV_ALLOC_STRICT, not enough huge pages
 *   EMFILE	 the process has no descriptor left
 *   ENFILE	 the system has no file left
 *   EINTR	 a fatal signal came
 */
struct shmdev_alloc {
	__u64 size;
	__u64 flags;
	__s32 node;
	__u32 pad;
	__u64 huge_bytes;
	__u64 pool_bytes;
	__u64 reserved[3];
};

#define SHMDEV_IOC_QUERY	_IOWR(SHMDEV_IOC_TYPE, 0x00, struct shmdev_query)
#define SHMDEV_IOC_ALLOC	_IOWR(SHMDEV_IOC_TYPE, 0x01, struct shmdev_alloc)

#endif /* _UAPI_LINUX_SHMDEV_H */
