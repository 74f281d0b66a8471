/* SPDX-License-Identifier: LGPL-2.1-or-later OR MIT */
/*
 * libshmdev: shared memory that is ready to write now.
 *
 * Three calls are the front door: shm_alloc(), shm_free(), shm_fill().  All else
 * is shmdev_<noun>_<verb>.
 *
 * Conventions.  Calls that return int give 0 or more on success and -errno on
 * failure; calls that return a pointer give NULL and set errno.  Free, unref and
 * close accept NULL and preserve errno.  Sizes are in bytes.  Every call may be
 * made from any thread.  None may be made from a signal handler.
 *
 * Fork.  The child sees the memory its parent had and may go on using and freeing
 * it; what it allocates from then on is its own and comes from regions of its
 * own.  A block that existed at a fork is never handed out again by either side,
 * so that neither can see the other's later data in it; its memory goes back when
 * the last block of its region is freed.
 *
 * Version 0.1 brought everything in this header.
 */
#ifndef SHMDEV_H
#define SHMDEV_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define SHMDEV_VERSION_MAJOR	0
#define SHMDEV_VERSION_MINOR	1

#define SHMDEV_API		__attribute__((visibility("default")))
#define SHMDEV_NODISCARD	__attribute__((warn_unused_result))

/* That what comes of this call goes back by that one: for the analyzer of GCC 11. */
#if defined(__GNUC__) && !defined(__clang__) && __GNUC__ >= 11
#define SHMDEV_FREED_BY(call)	__attribute__((malloc(call, 1)))
#else
#define SHMDEV_FREED_BY(call)
#endif

/* --- Blocks: memory by the byte -------------------------------------------- */

/* Blocks are aligned to this, a cache line, and on request to powers of two up to that. */
#define SHMDEV_ALIGN		64
#define SHMDEV_ALIGN_MAX	(1UL << 30)

/*
 * Give back a block of shm_alloc() or shmdev_block_*(); from any thread, and from a
 * child of the process that allocated it.  NULL does nothing.  A pointer that is not the
 * start of a live block is a bug of the caller and aborts the process with a message.
 */
SHMDEV_API void shm_free(void *ptr);

/*
 * Allocate @size bytes of shared memory, zeroed and aligned to SHMDEV_ALIGN.
 * Small blocks share regions, large ones get a region of their own.
 *
 * NULL + errno: EINVAL @size is 0 (NULL would be ambiguous); ENOMEM no memory, or
 * @size is beyond what an address space holds; what shmdev_region_create() gives.
 */
SHMDEV_API SHMDEV_NODISCARD void *shm_alloc(size_t size)
	__attribute__((malloc, alloc_size(1), assume_aligned(SHMDEV_ALIGN)))
	SHMDEV_FREED_BY(shm_free);

/* The caller is going to overwrite the whole block: do not clear reused memory. */
#define SHMDEV_BLOCK_NOZERO	(1U << 0)
/* A region, and so a descriptor, of its own: shared, nothing else is shared with it. */
#define SHMDEV_BLOCK_OWN	(1U << 1)
/* Memory of NUMA node .node, if there is room there. */
#define SHMDEV_BLOCK_NODE	(1U << 2)
/* In huge pages, and ENOMEM if they are not to be had: the device or hugetlb. */
#define SHMDEV_BLOCK_HUGE	(1U << 3)

/*
 * shm_alloc() with SHMDEV_BLOCK_NOZERO or 0; other flags are EINVAL, those of
 * shmdev_block_alloc_with() too.  With SHMDEV_BLOCK_NOZERO the contents are bytes that
 * this process wrote earlier, or zero; never another process's.
 */
SHMDEV_API SHMDEV_NODISCARD void *shmdev_block_alloc(size_t size, unsigned int flags)
	__attribute__((malloc, alloc_size(1), assume_aligned(SHMDEV_ALIGN)))
	SHMDEV_FREED_BY(shm_free);

/* shm_alloc(), at a multiple of @align.  EINVAL as well: @align is no power of two, or is
 * above SHMDEV_ALIGN_MAX. */
SHMDEV_API SHMDEV_NODISCARD void *shmdev_block_alloc_aligned(size_t align, size_t size)
	__attribute__((malloc, alloc_align(1), alloc_size(2), assume_aligned(SHMDEV_ALIGN)))
	SHMDEV_FREED_BY(shm_free);

/**
 * struct shmdev_block_options - what a block shall be, beside large
 * @flags: SHMDEV_BLOCK_*
 * @node: with SHMDEV_BLOCK_NODE: a NUMA node; else 0
 * @align: a power of two up to SHMDEV_ALIGN_MAX; 0 and what is below SHMDEV_ALIGN are that
 * @reserved: must be 0
 */
struct shmdev_block_options {
	uint32_t flags;
	int32_t node;
	uint64_t align;
	uint64_t reserved[6];
};

/*
 * shm_alloc() with *@options, or without if that is NULL.  Blocks with a node or of huge
 * pages share regions with their like only and take whole pages of 4 KiB.
 *
 * NULL + errno: as shm_alloc(), and EINVAL *@options is bad, or there is no such node;
 * ENOMEM there are no huge pages for SHMDEV_BLOCK_HUGE.
 */
SHMDEV_API SHMDEV_NODISCARD void *
shmdev_block_alloc_with(size_t size, const struct shmdev_block_options *options)
	__attribute__((malloc, alloc_size(1), assume_aligned(SHMDEV_ALIGN)))
	SHMDEV_FREED_BY(shm_free);

/*
 * Let a block be of @size bytes: what is in it stays, up to the smaller of both sizes, and
 * what it grows by is zero.  It is returned at the same place or, if there is no room or
 * it is to be less than half as large, at another, and @ptr is freed.  Where it moves to is
 * as shmdev_block_alloc_with() would give it by *@options, or without if that is NULL; if
 * it is not where these would allow it, it moves.  @ptr NULL allocates.  Who has been told
 * of a block (shmdev_block_share(), a fork) sees the old one, if it moves.
 *
 * NULL + errno, and the block is as it was: as shmdev_block_alloc_with().  A @ptr that is
 * no live block aborts, as shm_free() does.
 */
SHMDEV_API SHMDEV_NODISCARD void *
shmdev_block_resize(void *ptr, size_t size, const struct shmdev_block_options *options)
	__attribute__((alloc_size(2), assume_aligned(SHMDEV_ALIGN)));

/*
 * To how many bytes the block can be resized without moving now.  What is above the size
 * that was asked for is not the caller's before that.  0 if @ptr is NULL.
 */
SHMDEV_API size_t shmdev_block_usable_size(const void *ptr);

struct shmdev_region;

/*
 * Find the region that a live block of this process lies in, so that it can be
 * sent: store the byte offset of @ptr in *@offset and return the region with a
 * reference of the caller's own (shmdev_region_unref()).  @ptr may point into the
 * middle of a block.  From now on the block counts as known to others: after
 * shm_free() its bytes are not handed out again while the region lives.
 *
 * NULL + errno: ENOENT @ptr is in no live block.
 */
SHMDEV_API SHMDEV_NODISCARD struct shmdev_region *shmdev_block_share(const void *ptr,
								     size_t *offset);

/* --- Regions: memory by the file ------------------------------------------- */

/* Where a region's memory comes from, best first. */
enum shmdev_backend {
	SHMDEV_BACKEND_DEVICE,	/* /dev/shmdev: zeroed huge pages, ready */
	SHMDEV_BACKEND_HUGETLB,	/* memfd of reserved huge pages, zeroed at first touch */
	SHMDEV_BACKEND_THP,	/* memfd with transparent huge pages where it gets them */
	SHMDEV_BACKEND_MEMFD,	/* memfd of base pages */
	SHMDEV_BACKEND_NR,
};

/*
 * All of the memory is allocated here, or it is ENOMEM: a touch then can neither be
 * refused nor have somebody killed for want of memory.  So it is with the device anyway.
 * For the others it takes time, as a touch of each page would.
 */
#define SHMDEV_REGION_COMMIT	(1U << 0)

/*
 * Make a region of at least @size bytes, rounded up to the backend's page size,
 * zeroed, mapped for reading and writing.  The caller holds one reference.  A
 * region is a file and a mapping of all of it; it lives as long as a descriptor
 * or a mapping of it, in whatever process, and not a moment longer.
 *
 * The best backend that can serve the request now is taken: memory is reserved
 * here (hugetlb) or allocated here (device), so that a touch does not end in
 * SIGBUS for want of it; where that fails the next backend is tried.  If the
 * environment variable SHMDEV_BACKEND, read at the first use, names one
 * (device, hugetlb, thp, memfd), nothing else is tried.
 *
 * @flags are SHMDEV_REGION_*, or 0.
 *
 * NULL + errno: EINVAL @size is 0, @flags has one that is unknown, or SHMDEV_BACKEND is
 * not a name of a backend; ENOMEM no memory; ENODEV, ENXIO, EACCES, EOPNOTSUPP the backend
 * that was asked for is not there or not allowed (shmdev_backend_probe() tells);
 * EMFILE, ENFILE no descriptor left; EFBIG @size is above RLIMIT_FSIZE (memfds);
 * EDQUOT the module's limit for this user, or for all, is reached (the device).
 */
SHMDEV_API SHMDEV_NODISCARD struct shmdev_region *shmdev_region_create(size_t size,
								       unsigned int flags);

/*
 * Map the region that descriptor @fd stands for, as received from another
 * process.  @fd stays the caller's.  The same region gives the same mapping: if
 * this process has it already, that one is returned with one more reference.
 *
 * NULL + errno: EBADF; EINVAL @fd is not a region (a region is of the device, or a
 * memfd that cannot shrink: F_SEAL_SHRINK; anything else could be truncated into a
 * SIGBUS) or is empty; EACCES it is not open for writing; ENOMEM, EMFILE.
 */
SHMDEV_API SHMDEV_NODISCARD struct shmdev_region *shmdev_region_open(int fd);

/* One more reference; returns @region.  One fewer; the last unmaps and closes. */
SHMDEV_API struct shmdev_region *shmdev_region_ref(struct shmdev_region *region);
SHMDEV_API void shmdev_region_unref(struct shmdev_region *region);

/* Its address here, its size, its descriptor (close-on-exec; stays the region's). */
SHMDEV_API void *shmdev_region_addr(const struct shmdev_region *region);
SHMDEV_API size_t shmdev_region_size(const struct shmdev_region *region);
SHMDEV_API int shmdev_region_fd(const struct shmdev_region *region);
SHMDEV_API enum shmdev_backend shmdev_region_backend(const struct shmdev_region *region);

/* The size of its pages, where it got the ones that its backend is chosen for. */
SHMDEV_API size_t shmdev_region_page_size(const struct shmdev_region *region);

/*
 * How many of its bytes this process has mapped by huge pages now: of the device all that
 * is in such, of memfds what has been touched.  Reads /proc/self/smaps, which takes as long
 * as there are mappings.  0, or -errno: EOPNOTSUPP there is no /proc; EACCES, EMFILE,
 * ENFILE, ENOMEM, EIO.
 */
SHMDEV_API SHMDEV_NODISCARD int
shmdev_region_huge_bytes(const struct shmdev_region *region, uint64_t *bytes);

/*
 * As shmdev_region_open(), to read only: through a descriptor that is open for reading
 * alone, also if @fd is not, so that mprotect(2) cannot make it writable.  It is a
 * mapping of its own beside one for writing.
 *
 * NULL + errno: as there; EOPNOTSUPP @fd is open for writing and cannot be reopened (a
 * memfd, where there is no /proc).
 */
SHMDEV_API SHMDEV_NODISCARD struct shmdev_region *shmdev_region_open_rdonly(int fd);

/* 1 if @region can only be read in this process, 0 if it can be written. */
SHMDEV_API int shmdev_region_rdonly(const struct shmdev_region *region);

/* Mappings that exist may go on writing. */
#define SHMDEV_SEAL_FUTURE	(1U << 0)

/*
 * Let nobody write to @region from now on, in any process, for ever.  @region itself
 * becomes one to be read, at the same address; no other call may use it, and no thread
 * write to it, meanwhile.  With SHMDEV_SEAL_FUTURE only later mappings for writing are
 * refused, and @region stays what it is.
 *
 * 0, or -errno: EBUSY another process has it mapped for writing (as a child after a
 * fork has), or there is I/O on it; EPERM it holds blocks of shm_alloc() that share it;
 * EACCES it is one to be read only, and not sealed; EINVAL @flags; EOPNOTSUPP, ENOMEM,
 * EMFILE.  After an error all is as before.
 */
SHMDEV_API SHMDEV_NODISCARD int shmdev_region_seal(struct shmdev_region *region,
						   unsigned int flags);

/* --- Sharing: memory by a name --------------------------------------------- */

#define SHMDEV_HANDLE_VERSION	1

/* What a handle's region is found by. */
#define SHMDEV_HANDLE_TOKEN		1	/* a token of the device */
#define SHMDEV_HANDLE_DESCRIPTOR	2	/* a descriptor of the process that exported it */

/* Room for the text of a handle of this version, with its NUL, and some more. */
#define SHMDEV_HANDLE_TEXT_SIZE	256

/**
 * struct shmdev_handle - memory, for other processes
 * @version: SHMDEV_HANDLE_VERSION
 * @kind: SHMDEV_HANDLE_*
 * @offset: where it begins in its region
 * @size: how many bytes there are: to the end of the block of shm_alloc(), or, of other
 *	  memory, of the region
 * @region_size: bytes of the region
 * @dev: its file's st_dev
 * @ino: its file's st_ino
 * @boot: the machine's boot id, or zeros if it was not to be had
 * @token: SHMDEV_HANDLE_TOKEN: its token; else 0
 * @pid: SHMDEV_HANDLE_DESCRIPTOR: of which process; else 0
 * @fd: and which descriptor
 * @started: and when that process was started, as /proc has it
 * @pid_namespace: and in which namespace it is @pid
 * @reserved: 0
 *
 * Plain bytes: copy it, send it, store it, in whatever way.  It does not keep the memory.
 * It is for processes of the same user on the same machine; for a token, who may have it is
 * for the region's owner and mode to say.
 */
struct shmdev_handle {
	uint32_t version;
	uint32_t kind;
	uint64_t offset;
	uint64_t size;
	uint64_t region_size;
	uint64_t dev;
	uint64_t ino;
	uint8_t boot[16];
	uint8_t token[16];
	uint32_t pid;
	uint32_t fd;
	uint64_t started;
	uint64_t pid_namespace;
	uint64_t reserved[3];
};

/*
 * Fill in *@handle so that others can attach the memory at @ptr, which may be anywhere in a
 * block of shm_alloc(), in a region, or in what was attached.  A block counts as known to
 * others from now on, as with shmdev_block_share().  In a child after fork() it is the
 * child that exports, also what it inherited.
 *
 * 0, or -errno: ENOENT @ptr is in no live block and no region; EOPNOTSUPP there is no
 * /proc, which memory that is not of the device takes (shmdev_send() does not); ENOMEM.
 */
SHMDEV_API SHMDEV_NODISCARD int shmdev_export(const void *ptr, struct shmdev_handle *handle);

/* The same for all of @region, whatever is in it. */
SHMDEV_API SHMDEV_NODISCARD int shmdev_region_export(struct shmdev_region *region,
						     struct shmdev_handle *handle);

/*
 * Map what @handle stands for, and return where it is here.  The same memory gives the
 * same address, as long as it is mapped; each call takes one shmdev_detach().  Once it
 * is attached, the process that exported it need not live.
 *
 * NULL + errno: ENOENT it is gone: the process that exported it has ended or let go of
 * the region, or the token is of no region; EACCES another user's, or it is sealed
 * against writing, or its process is not dumpable; EXDEV @handle is of another machine,
 * of the time before it was booted, or of another pid or time namespace; EOPNOTSUPP
 * there is no /proc; EPROTONOSUPPORT a version this library does not know; EINVAL not a
 * handle, or not of a region; ENODEV, ENXIO the device is not there; ENOMEM, EMFILE, ENFILE.
 */
SHMDEV_API SHMDEV_NODISCARD void *shmdev_attach(const struct shmdev_handle *handle);

/* The same, to read only; beside a mapping for writing it is one of its own. */
SHMDEV_API SHMDEV_NODISCARD const void *
shmdev_attach_rdonly(const struct shmdev_handle *handle);

/*
 * The same, as a region with a reference of the caller's (shmdev_region_unref()), whatever
 * the handle's place in it.
 */
SHMDEV_API SHMDEV_NODISCARD struct shmdev_region *
shmdev_region_attach(const struct shmdev_handle *handle);
SHMDEV_API SHMDEV_NODISCARD struct shmdev_region *
shmdev_region_attach_rdonly(const struct shmdev_handle *handle);

/*
 * Undo one shmdev_attach() or shmdev_recv(); @ptr is what it returned, or any other
 * address in the same region's mapping.  NULL does nothing.  What was not attached aborts the
 * process with a message.
 */
SHMDEV_API void shmdev_detach(const void *ptr);

/*
 * Write @handle as text, of letters, digits and '-', into @buf of @size bytes.  Its length
 * without the NUL, or -errno: ENOSPC it does not fit (nothing is written); EINVAL,
 * EPROTONOSUPPORT as for shmdev_attach().
 */
SHMDEV_API SHMDEV_NODISCARD int shmdev_handle_format(const struct shmdev_handle *handle,
						     char *buf, size_t size);

/*
 * Read *@handle from @text, which must be as shmdev_handle_format() wrote it, to the letter.
 * 0, or -errno, and *@handle is untouched: EINVAL it is not; EPROTONOSUPPORT it is of
 * another version.
 */
SHMDEV_API SHMDEV_NODISCARD int shmdev_handle_parse(const char *text,
						    struct shmdev_handle *handle);

/*
 * As shmdev_block_share(), of memory of any kind: of a block, of a region, or attached.
 *
 * NULL + errno: ENOENT it is none of these.
 */
SHMDEV_API SHMDEV_NODISCARD struct shmdev_region *shmdev_region_of(const void *ptr,
								   size_t *offset);

/* The other side can read only, and, if it is another user, get no more than that. */
#define SHMDEV_SEND_RDONLY	(1U << 0)

/*
 * Send the memory at @ptr, as of shmdev_export(), through the connected unix(7) socket
 * @sock, by a descriptor.  Takes no /proc (with SHMDEV_SEND_RDONLY, memfds do), crosses
 * namespaces and users, and what is under way keeps the memory.  Waits if @sock does.
 *
 * 0, or -errno: ENOENT as there; EINVAL @flags; EAGAIN @sock would have to wait and is
 * non-blocking; what sendmsg(2) gives (no SIGPIPE comes with EPIPE).
 */
SHMDEV_API SHMDEV_NODISCARD int shmdev_send(int sock, const void *ptr, unsigned int flags);

/*
 * Receive what shmdev_send() sent next through @sock, attach it as shmdev_attach() does, or
 * as shmdev_attach_rdonly() if it was sent with SHMDEV_SEND_RDONLY, and store its size in
 * *@size unless @size is NULL.
 *
 * NULL + errno: ENODATA the other side has closed; EAGAIN nothing there, and @sock is
 * non-blocking; EBADMSG not from shmdev_send(), and it is lost; EPROTONOSUPPORT from
 * that of a later version; EINVAL not of a region; EMFILE; ENOMEM; what recvmsg(2) gives.
 */
SHMDEV_API SHMDEV_NODISCARD void *shmdev_recv(int sock, size_t *size);

/* --- Fills and drains: files into shared memory, and back ------------------- */

/* Read from, or write to, where the descriptor stands (and move it), as read(2) does. */
#define SHM_FILL_CURRENT	((int64_t)-1)
#define SHM_DRAIN_CURRENT	SHM_FILL_CURRENT

/* A signal that is caught while this request waits ends it: -EINTR. */
#define SHM_FILL_INTR		(1U << 0)
#define SHM_DRAIN_INTR		SHM_FILL_INTR

/* The result is good only once the file is on stable storage: fsync(2). */
#define SHM_DRAIN_SYNC		(1U << 1)

/**
 * struct shm_fill - one read of a batch
 * @dst: where to; [@dst, @dst + @len) must lie within one region that this process
 *	 has mapped through this library and, if it touches blocks of shm_alloc(),
 *	 within one of them
 * @len: bytes wanted; 0 is allowed and done
 * @offset: where from, in the file; SHM_FILL_CURRENT for pipes, sockets and
 *	    terminals, or to go on where the descriptor stands
 * @fd: what to read from; with O_DIRECT neither @dst, @len nor @offset needs to be
 *	aligned (what is not goes through a buffer)
 * @flags: SHM_FILL_*, or 0
 * @result: out: bytes that arrived, fewer than @len only if the file ended there,
 *	    or -errno if an error came
 * @done: out: the bytes from @dst on that are the file's, whatever @result says; what
 *	  is behind them may have been overwritten, too
 *
 * Errors of a request: EBADF, EISDIR, EIO and what else read(2) gives; EFAULT the
 * destination is not as described; EINVAL @flags, @offset or @len is bad, or the sum of
 * these two is above INT64_MAX; ESPIPE an offset on what cannot seek; EAGAIN a
 * non-blocking descriptor had nothing (bytes that came before it are reported instead);
 * EINTR see SHM_FILL_INTR; ECANCELED shmdev_job_cancel().
 */
struct shm_fill {
	void *dst;
	size_t len;
	int64_t offset;
	int fd;
	unsigned int flags;
	int64_t result;
	size_t done;
};

/*
 * Do all of @reqs, in no particular order, in batches by io_uring where the kernel
 * allows it and by preadv(2) where not, on more than one processor where that pays;
 * return when all are done.  Requests with SHM_FILL_CURRENT on the same descriptor are
 * done in the order they stand.
 *
 * 0 if every request has its @result (good or bad); -EINVAL @reqs is NULL with
 * @nr > 0; -ENOMEM the bookkeeping could not be had, and nothing was read.
 */
SHMDEV_API SHMDEV_NODISCARD int shm_fill(struct shm_fill *reqs, unsigned int nr);

/**
 * struct shm_drain - one write of a batch: a fill the other way round
 * @src: where from; as @dst of a fill
 * @len: bytes to be written
 * @offset: where to, in the file, or SHM_DRAIN_CURRENT
 * @fd: what to write to; with O_APPEND only at SHM_DRAIN_CURRENT
 * @flags: SHM_DRAIN_*, or 0
 * @result: out: @len, or -errno; fewer than @len only if a non-blocking descriptor
 *	    took no more
 * @done: out: the bytes from @src on that were written, whatever @result says; of
 *	  what is behind them, some may have been, too
 *
 * Errors as those of fills, and ENOSPC, EDQUOT, EFBIG, EPIPE and what else write(2)
 * and fsync(2) give; no SIGPIPE or SIGXFSZ comes with them.
 */
struct shm_drain {
	const void *src;
	size_t len;
	int64_t offset;
	int fd;
	unsigned int flags;
	int64_t result;
	size_t done;
};

/* As shm_fill(). */
SHMDEV_API SHMDEV_NODISCARD int shm_drain(struct shm_drain *reqs, unsigned int nr);

/**
 * struct shmdev_path - one file of a batch, by name
 * @dst: where to, as of a fill
 * @len: bytes wanted, from the start of the file; 0: only its size
 * @path: its name
 * @dirfd: what @path starts from if it is relative: a descriptor of a directory, or
 *	   AT_FDCWD
 * @flags: must be 0
 * @result: out: bytes that arrived, fewer than @len only if the file ended there, or
 *	    -errno
 * @done: out: as of a fill
 * @size: out: the file's size when it was read, or 0 if it could not be looked at; if
 *	  it is above @result there is more of the file
 *
 * Errors of a request: those of a fill and of open(2).
 */
struct shmdev_path {
	void *dst;
	size_t len;
	const char *path;
	int dirfd;
	unsigned int flags;
	int64_t result;
	size_t done;
	uint64_t size;
};

/*
 * Open, read and close all of @reqs, many at a time.  Meant for many small files.
 * Returns as shm_fill().
 */
SHMDEV_API SHMDEV_NODISCARD int shmdev_path_fill(struct shmdev_path *reqs, unsigned int nr);

/* --- Jobs: fills and drains while one does something else ------------------- */

struct shmdev_job;

/*
 * Begin what shm_fill() and shm_drain() do, and return.  @reqs and the memory they
 * name are the job's until it is done.  Each job has a thread, in which no signal is
 * delivered; several may run at a time.  A job is not waited for at exit.  In a child
 * after fork() it is the parent's: there it is done, with no results in @reqs.
 *
 * NULL + errno: EINVAL as above; ENOMEM, EMFILE, ENFILE; EAGAIN no thread to be had.
 */
SHMDEV_API SHMDEV_NODISCARD struct shmdev_job *shmdev_fill_start(struct shm_fill *reqs,
								 unsigned int nr);
SHMDEV_API SHMDEV_NODISCARD struct shmdev_job *shmdev_drain_start(struct shm_drain *reqs,
								  unsigned int nr);

/* For poll(2) and its kin: readable once the job is done.  It stays the job's. */
SHMDEV_API int shmdev_job_fd(const struct shmdev_job *job);

/* Bytes read or written so far; any time. */
SHMDEV_API uint64_t shmdev_job_bytes(const struct shmdev_job *job);

/*
 * Wait until @job is done, for at most @timeout milliseconds, or without end if that
 * is negative.  0: every request has its result; -ENOMEM: none has, and nothing was
 * done; -ETIMEDOUT; -EINTR a signal was caught; -ECHILD it is the parent's.
 */
SHMDEV_API SHMDEV_NODISCARD int shmdev_job_wait(struct shmdev_job *job, int timeout);

/*
 * Let @job end soon: what has not been done gets -ECANCELED.  Does not wait for it;
 * any number of times, also when it is done.
 */
SHMDEV_API void shmdev_job_cancel(struct shmdev_job *job);

/* Cancel @job if it is not done, wait for its end, and forget it. */
SHMDEV_API void shmdev_job_free(struct shmdev_job *job);

/* --- Memory to memory ------------------------------------------------------- */

/*
 * memcpy(3), and memory filled with copies of the @size bytes at @pattern (the last of
 * them cut off where @len ends), on as many processors as that pays for.  Any memory;
 * what is read and what is written must not overlap.  @size 0 does nothing.
 */
SHMDEV_API void shmdev_copy(void *dst, const void *src, size_t len);
SHMDEV_API void shmdev_set(void *dst, size_t len, const void *pattern, size_t size);

/*
 * All of [@dst, @dst + @len) is about to be written, by other means than these calls and
 * fills, which need not be told: of memory of ours that nobody has touched whole huge pages
 * are made now, if that can be, where base pages would be made one by one as they are
 * written to.  Nothing that is there changes.  Some MiB at a time, by the thread that is
 * going to write them, are best.  Any memory; there is nothing that could fail.
 */
SHMDEV_API void shmdev_prepare(void *dst, size_t len);

/* --- Ready memory: zeroed before it is asked for ----------------------------- */

/**
 * struct shmdev_ready_options - what may be kept ready
 * @limit: bytes at the most
 * @size: 0, or of what size a region shall be ready from the start and as long as this
 *	  lasts: at least 256 KiB, and with what it is rounded up to (an eighth of it, or
 *	  huge pages) not above @limit
 * @reserved: must be 0
 */
struct shmdev_ready_options {
	uint64_t limit;
	uint64_t size;
	uint64_t reserved[6];
};

/*
 * Have a thread of the lowest priority make regions before they are asked for, allocated,
 * zeroed and mapped, so that shmdev_region_create() and the allocator need only take them.
 * It learns what sizes are wanted from what is asked for, 256 KiB and more, and such
 * regions may be up to an eighth larger than that.  What nobody asks for in 10 seconds goes
 * back, and so does all if memory gets short or is wanted elsewhere in this process.  If it
 * is on, @options hold from now on.  The environment variable SHMDEV_READY does the same.
 *
 * For memfds; the device's memory is ready without.  A child after fork() has none of it.
 *
 * 0, or -errno: EINVAL @options is NULL or bad; EAGAIN no thread to be had; EBUSY another
 * thread is in shmdev_ready_stop(); ENOMEM.
 */
SHMDEV_API SHMDEV_NODISCARD int shmdev_ready_start(const struct shmdev_ready_options *options);

/* End the thread, and give back what is ready.  Nothing happens if there is none. */
SHMDEV_API void shmdev_ready_stop(void);

/*
 * Wait until all that is wanted and has room is ready, for at most @timeout milliseconds,
 * or without end if that is negative.  0, or -errno: ETIMEDOUT; EINVAL it is not on; with
 * what a region could not be made, which will be tried again in some seconds: ENOMEM there
 * is not enough memory that lies about, and as shmdev_region_create().
 */
SHMDEV_API SHMDEV_NODISCARD int shmdev_ready_wait(int timeout);

/**
 * struct shmdev_ready_info - what came of it in this process
 * @limit: as of shmdev_ready_start(); 0 if it is off
 * @bytes: ready now
 * @regions: and in how many regions
 * @hits: regions that were ready when they were asked for
 * @misses: and that were not, of a size that could have been
 * @made_bytes: made ready so far
 * @dropped_bytes: given back unused so far
 * @cpu_ns: processor time that this took
 * @reserved: 0
 */
struct shmdev_ready_info {
	uint64_t limit;
	uint64_t bytes;
	uint64_t regions;
	uint64_t hits;
	uint64_t misses;
	uint64_t made_bytes;
	uint64_t dropped_bytes;
	uint64_t cpu_ns;
	uint64_t reserved[8];
};

/* Fill in *@info. */
SHMDEV_API void shmdev_ready_get(struct shmdev_ready_info *info);

/* --- Information ------------------------------------------------------------ */

/* How shm_fill() reads and shm_drain() writes, best first. */
enum shmdev_fill_engine {
	SHMDEV_FILL_FIXED,	/* io_uring into registered buffers */
	SHMDEV_FILL_RING,	/* io_uring */
	SHMDEV_FILL_PREADV,	/* preadv(2) */
	SHMDEV_FILL_NR,
};

/**
 * struct shmdev_info - what this process is running on
 * @backend: what the next region would come from
 * @fill_engine: how shm_fill() reads into such a region
 * @page_size: its page size
 * @regions: regions mapped now
 * @region_bytes: their total size
 * @blocks: live blocks of shm_alloc()
 * @block_bytes: their total size
 * @reserved: 0
 */
struct shmdev_info {
	enum shmdev_backend backend;
	enum shmdev_fill_engine fill_engine;
	uint64_t page_size;
	uint64_t regions;
	uint64_t region_bytes;
	uint64_t blocks;
	uint64_t block_bytes;
	uint64_t reserved[8];
};

/*
 * Fill in *@info.  0, or -errno as shmdev_region_create() would give if no backend
 * can serve (then *@info is untouched).  Probes as far as needed; makes no region.
 */
SHMDEV_API int shmdev_info_get(struct shmdev_info *info);

/* "device", "hugetlb", "thp", "memfd"; NULL for anything else. */
SHMDEV_API const char *shmdev_backend_name(enum shmdev_backend backend);

/* "fixed", "ring", "preadv"; NULL for anything else. */
SHMDEV_API const char *shmdev_fill_engine_name(enum shmdev_fill_engine engine);

/*
 * Whether regions could come from @backend now: 0, or -errno and why not, as a
 * sentence a person can act on, in @buf of @size bytes (NUL-terminated, cut if need
 * be; @buf may be NULL if @size is 0).  -EINVAL: no such backend.  A backend that
 * SHMDEV_BACKEND rules out is -EPERM and says so.
 */
SHMDEV_API int shmdev_backend_probe(enum shmdev_backend backend, char *buf, size_t size);

#ifdef __cplusplus
}
#endif

#endif /* SHMDEV_H */
