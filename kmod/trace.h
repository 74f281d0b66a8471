/* SPDX-License-Identifier: GPL-2.0-only */
/* Tracepoints: events/shmdev in tracefs, shmdev:* for perf, tracepoint:shmdev:* for bpftrace. */
#undef TRACE_SYSTEM
#define TRACE_SYSTEM shmdev

#if !defined(SHMDEV_TRACE_H) || defined(TRACE_HEADER_MULTI_READ)
#define SHMDEV_TRACE_H

#include <linux/tracepoint.h>
#include <linux/types.h>

/* SHMDEV_IOC_ALLOC has ended: with a region, or with an error and inode 0. */
TRACE_EVENT(alloc,
	    TP_PROTO(u64 ino, u64 size, u64 huge, u64 pool, int nid, int err),
	    TP_ARGS(ino, size, huge, pool, nid, err),
	    TP_STRUCT__entry(__field(u64, ino)
			     __field(u64, size)
			     __field(u64, huge)
			     __field(u64, pool)
			     __field(int, node)
			     __field(int, err)),
	    TP_fast_assign(__entry->ino = ino;
			   __entry->size = size;
			   __entry->huge = huge;
			   __entry->pool = pool;
			   __entry->node = nid;
			   __entry->err = err;),
	    TP_printk("ino=%llu size=%llu huge=%llu pool=%llu node=%d err=%d", __entry->ino,
		      __entry->size, __entry->huge, __entry->pool, __entry->node, __entry->err)
);

/* The last user of a region is gone and its memory goes back, in this context. */
TRACE_EVENT(release,
	    TP_PROTO(u64 ino, u64 size),
	    TP_ARGS(ino, size),
	    TP_STRUCT__entry(__field(u64, ino)
			     __field(u64, size)),
	    TP_fast_assign(__entry->ino = ino;
			   __entry->size = size;),
	    TP_printk("ino=%llu size=%llu", __entry->ino, __entry->size)
);

/* SHMDEV_IOC_ATTACH has ended: with a descriptor of a region, or with an error and inode 0. */
TRACE_EVENT(attach,
	    TP_PROTO(u64 ino, bool rdonly, int err),
	    TP_ARGS(ino, rdonly, err),
	    TP_STRUCT__entry(__field(u64, ino)
			     __field(bool, rdonly)
			     __field(int, err)),
	    TP_fast_assign(__entry->ino = ino;
			   __entry->rdonly = rdonly;
			   __entry->err = err;),
	    TP_printk("ino=%llu rdonly=%d err=%d", __entry->ino, __entry->rdonly, __entry->err)
);

/* fallocate(ZERO_RANGE) has ended; so much of the range was exchanged for pages of the pool. */
TRACE_EVENT(zero,
	    TP_PROTO(u64 ino, u64 offset, u64 len, u64 exchanged, int err),
	    TP_ARGS(ino, offset, len, exchanged, err),
	    TP_STRUCT__entry(__field(u64, ino)
			     __field(u64, offset)
			     __field(u64, len)
			     __field(u64, exchanged)
			     __field(int, err)),
	    TP_fast_assign(__entry->ino = ino;
			   __entry->offset = offset;
			   __entry->len = len;
			   __entry->exchanged = exchanged;
			   __entry->err = err;),
	    TP_printk("ino=%llu offset=%llu len=%llu exchanged=%llu err=%d", __entry->ino,
		      __entry->offset, __entry->len, __entry->exchanged, __entry->err)
);

/* The pool's thread has put a huge page more aside, or found none and lets memory alone. */
TRACE_EVENT(refill,
	    TP_PROTO(int nid, u64 bytes, u64 target, bool found),
	    TP_ARGS(nid, bytes, target, found),
	    TP_STRUCT__entry(__field(int, node)
			     __field(u64, bytes)
			     __field(u64, target)
			     __field(bool, found)),
	    TP_fast_assign(__entry->node = nid;
			   __entry->bytes = bytes;
			   __entry->target = target;
			   __entry->found = found;),
	    TP_printk("node=%d bytes=%llu target=%llu found=%d", __entry->node, __entry->bytes,
		      __entry->target, __entry->found)
);

/* Memory was short and the pool has given some of it back. */
TRACE_EVENT(shrink,
	    TP_PROTO(int nid, u64 wanted, u64 freed, u64 bytes),
	    TP_ARGS(nid, wanted, freed, bytes),
	    TP_STRUCT__entry(__field(int, node)
			     __field(u64, wanted)
			     __field(u64, freed)
			     __field(u64, bytes)),
	    TP_fast_assign(__entry->node = nid;
			   __entry->wanted = wanted;
			   __entry->freed = freed;
			   __entry->bytes = bytes;),
	    TP_printk("node=%d wanted=%llu freed=%llu bytes=%llu", __entry->node, __entry->wanted,
		      __entry->freed, __entry->bytes)
);

#endif /* SHMDEV_TRACE_H */

/* Found by way of -I, see Kbuild. */
#undef TRACE_INCLUDE_PATH
#define TRACE_INCLUDE_PATH .
#undef TRACE_INCLUDE_FILE
#define TRACE_INCLUDE_FILE trace
#include <trace/define_trace.h>
