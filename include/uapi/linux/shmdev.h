/* SPDX-License-Identifier: GPL-2.0 WITH Linux-syscall-note */
/*
 * Ready-to-write shared memory: the interface of /dev/shmdev and of what it makes.
 *
 * The device hands out regions: shared memory, backed by huge pages wherever
 * they can be had, that is zeroed before anyone asks for it.  A region is a
 * file, and standard calls do all they can on it:
 *
 *   fstat(2)		size and identity: st_dev and st_ino are one region's as long as
 *			it lives, in every process
 *   mmap(2)		MAP_SHARED only and without PROT_EXEC: otherwise EINVAL, EPERM;
 *			all of it must lie within the region (EINVAL).  Nothing swaps it
 *			out, locked or not; MAP_POPULATE and MADV_POPULATE_WRITE map all of it
 *   pread(2), pwrite(2), readv, writev, splice(2), sendfile(2), lseek(2)
 *			as for a file that cannot grow: ENOSPC at its end, and EIO where its
 *			memory is broken; copy_file_range(2) between regions, as for all files
 *			of one file system
 *   fallocate(2)	FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE, any range of the
 *			region: zeroes it, whole huge pages by zeroed ones of the pool, in
 *			time that depends on their number and not on their size.  Every
 *			mapping sees it; whoever reads meanwhile gets old bytes or zeros.
 *			EINVAL beyond the end; EPERM sealed; EINTR a fatal signal came, a part
 *			may be zeroed; EHWPOISON, ENOMEM broken memory is in the way and
 *			there is no other; other modes EOPNOTSUPP
 *   fchmod(2), fchown(2)
 *			who may attach it, and reopen it by way of /proc/<pid>/fd; made with
 *			mode 0600 for the caller
 *   ftruncate(2)	EPERM
 *   close(2)		a region lives as long as a descriptor, a mapping or a pin of it
 *
 * /proc/<pid>/fdinfo shows what SHMDEV_IOC_STAT gives.  A region is never in a core
 * dump.
 *
 * Errors of every command:
 *
 *   ENOTTY	 not a command of this file, or a struct of another size
 *   EFAULT	 the argument does not point to readable and writable memory
 *   EINVAL	 a reserved field is not zero
 *   EOPNOTSUPP	 a flag this kernel module does not know
 *
 *   EINTR	 a fatal signal came
 *
 * and of single commands where they are described.  A command that fails has
 * changed nothing, but that a token and a seal stay whose answer could not be written.
 *
 * Rule of extension: a struct never changes its size or the meaning of a field.
 * Flags and reserved fields (zero-checked) take what is added; what does not fit
 * becomes a new command.  All structs are the same for 32-bit callers.
 *
 * Negotiation: abi_version of SHMDEV_IOC_QUERY, which is in every version, says how
 * much of this header the module has: all that is not marked, or marked with a version
 * up to that one.  A caller uses what both have; whatever it asks for beyond that is
 * refused by EOPNOTSUPP or ENOTTY, not done in part.  Nothing that once worked is taken
 * away, so a module newer than the caller needs no thought.
 */
#ifndef _UAPI_LINUX_SHMDEV_H
#define _UAPI_LINUX_SHMDEV_H

#include <linux/const.h>
#include <linux/ioctl.h>
#include <linux/types.h>

/* Of the interface described by this header. */
#define SHMDEV_ABI_VERSION	2

/* 0xE9 is in nobody's range in Documentation/userspace-api/ioctl/ioctl-number.rst. */
#define SHMDEV_IOC_TYPE		0xE9

/* f_type of a region in fstatfs(2): "shmd" */
#define SHMDEV_MAGIC		0x73686d64

/* --- of the device ----------------------------------------------------------- */

/**
 * struct shmdev_query - what the module offers and how it is doing
 * @abi_version: out: SHMDEV_ABI_VERSION of the module
 * @huge_page_shift: out: log2 of the huge page size; every region is a multiple
 *		     of it
 * @features: out: bits for what depends on more than the version; none yet
 * @alloc_flags: out: the SHMDEV_ALLOC_* flags that are understood
 * @pool_target_bytes: out: zeroed memory the pool tries to hold ready
 * @pool_bytes: out: zeroed memory the pool holds ready now
 * @pool_hits: out: huge pages that were asked of the pool and there
 * @pool_misses: out: huge pages that were asked of the pool and not there
 * @regions: out: regions that exist
 * @region_bytes: out: their total size
 * @max_region_bytes: out: the largest size SHMDEV_IOC_ALLOC accepts
 * @limit_bytes: out: what @region_bytes may grow to without CAP_IPC_LOCK; since
 *		 version 2, before it 0
 * @user_limit_bytes: out: the same for the regions made by one user; since version 2
 * @user_bytes: out: total size of the regions made by the caller's real user id that
 *		exist; since version 2
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
	__u64 limit_bytes;
	__u64 user_limit_bytes;
	__u64 user_bytes;
	__u64 reserved[3];
};

/* Huge pages or nothing: ENOMEM instead of smaller pages. */
#define SHMDEV_ALLOC_STRICT		_BITULL(0)
/* Memory of @node, if there is room there. */
#define SHMDEV_ALLOC_NODE		_BITULL(1)
/* With SHMDEV_ALLOC_NODE: of @node or nothing.  Since version 2. */
#define SHMDEV_ALLOC_NODE_STRICT	_BITULL(2)

/**
 * struct shmdev_alloc - make a region
 * @size: in: bytes wanted, at least 1; out: bytes of the region, @size rounded
 *	  up to a multiple of the huge page size
 * @flags: in: SHMDEV_ALLOC_*
 * @node: in: with SHMDEV_ALLOC_NODE, the NUMA node the memory should come from; else 0
 * @pad: in: must be 0
 * @huge_bytes: out: how much of the region is in huge pages
 * @pool_bytes: out: how much of the region came from the pool
 * @reserved: in: must be 0
 *
 * Returns the region's descriptor, open for reading and writing, close-on-exec.
 * All of the memory is there when the call returns, zero, and charged to the
 * caller's memory cgroup; touching it takes no more memory than page tables do.
 *
 * Without SHMDEV_ALLOC_NODE memory comes from the pool of the caller's own node or, if
 * its memory policy or its cpuset does not allow that one, of the first that they allow;
 * what the pool does not have comes from where the memory policy says.
 *
 * Errors:
 *
 *   EINVAL	 @size is 0; @node is not a node with memory, or given without its flag,
 *		 or, with SHMDEV_ALLOC_NODE_STRICT, outside the caller's cpuset;
 *		 SHMDEV_ALLOC_NODE_STRICT without SHMDEV_ALLOC_NODE
 *   EFBIG	 @size is above max_region_bytes
 *   EDQUOT	 it would be more than limit_bytes or user_limit_bytes; since version 2
 *   ENOMEM	 not enough memory that others do not live on, here or in the memory
 *		 cgroup, or, with the strict flags, not enough of the kind
 *   EMFILE	 the process has no descriptor left
 *   ENFILE	 the system has no file left
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

/* Open for reading alone: can neither be mapped writable nor written to. */
#define SHMDEV_ATTACH_RDONLY		_BITULL(0)

/**
 * struct shmdev_attach - a descriptor of the region that a token stands for
 * @token: in: as SHMDEV_IOC_EXPORT gave it
 * @flags: in: SHMDEV_ATTACH_*
 * @reserved: in: must be 0
 *
 * Returns a descriptor, open for reading and writing or for reading alone,
 * close-on-exec.  Since version 2.
 *
 * Errors:
 *
 *   ENOENT	 no region that lives has this token
 *   EACCES	 the region's owner and mode do not allow it; CAP_DAC_OVERRIDE helps
 *   ENOMEM, EMFILE, ENFILE
 */
struct shmdev_attach {
	__u8 token[16];
	__u64 flags;
	__u64 reserved[5];
};

#define SHMDEV_IOC_QUERY	_IOWR(SHMDEV_IOC_TYPE, 0x00, struct shmdev_query)
#define SHMDEV_IOC_ALLOC	_IOWR(SHMDEV_IOC_TYPE, 0x01, struct shmdev_alloc)
#define SHMDEV_IOC_ATTACH	_IOWR(SHMDEV_IOC_TYPE, 0x02, struct shmdev_attach)

/* --- of a region ------------------------------------------------------------- */

/* Has a token. */
#define SHMDEV_STAT_EXPORTED		_BITULL(0)

/**
 * struct shmdev_stat - what fstat(2) does not tell of a region
 * @size: out: bytes
 * @huge_bytes: out: how much of it was made of huge pages
 * @flags: out: SHMDEV_STAT_*
 * @seals: out: SHMDEV_SEAL_*
 * @node: out: the NUMA node that its memory was asked of first
 * @reserved: in: must be 0
 *
 * Since version 2.
 */
struct shmdev_stat {
	__u64 size;
	__u64 huge_bytes;
	__u64 flags;
	__u32 seals;
	__s32 node;
	__u64 reserved[4];
};

/**
 * struct shmdev_export - a token for a region
 * @token: out: 128 random bits, always the same for the same region
 * @flags: in: must be 0
 * @reserved: in: must be 0
 *
 * Whoever has the token, and may by the region's owner and mode, gets a descriptor by
 * SHMDEV_IOC_ATTACH.  The token does not keep the region and ends with it.  Since
 * version 2.
 *
 * Errors: ENOMEM
 */
struct shmdev_export {
	__u8 token[16];
	__u64 flags;
	__u64 reserved[5];
};

/* No writing from now on, by nobody. */
#define SHMDEV_SEAL_WRITE		_BITUL(0)
/* No writing but by mappings that exist. */
#define SHMDEV_SEAL_FUTURE_WRITE	_BITUL(1)

/**
 * struct shmdev_seal - give up writing
 * @seals: in: SHMDEV_SEAL_* to add, at least one; out: all that the region has
 * @pad: in: must be 0
 * @reserved: in: must be 0
 *
 * A seal is for all descriptors of the region, in every process, and for ever; whoever has
 * one that is open for writing may set it, as with memfds.  Then
 * write(2), fallocate(2) and mmap(2) with PROT_WRITE are EPERM, and mprotect(2) of a later
 * mapping EACCES; with SHMDEV_SEAL_WRITE, mmap(2) of a descriptor that is open for writing
 * is EPERM also without PROT_WRITE.  Since version 2.
 *
 * Errors:
 *
 *   EINVAL	 @seals is 0
 *   EPERM	 the descriptor is not open for writing
 *   EBUSY	 with SHMDEV_SEAL_WRITE: a mapping through a descriptor that is open for
 *		 writing exists, or something else has a hold on the memory: a pin, I/O
 *		 that is under way, a pipe
 */
struct shmdev_seal {
	__u32 seals;
	__u32 pad;
	__u64 reserved[3];
};

#define SHMDEV_IOC_STAT		_IOWR(SHMDEV_IOC_TYPE, 0x10, struct shmdev_stat)
#define SHMDEV_IOC_EXPORT	_IOWR(SHMDEV_IOC_TYPE, 0x11, struct shmdev_export)
#define SHMDEV_IOC_SEAL		_IOWR(SHMDEV_IOC_TYPE, 0x12, struct shmdev_seal)

#endif /* _UAPI_LINUX_SHMDEV_H */
