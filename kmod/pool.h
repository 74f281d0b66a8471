/* SPDX-License-Identifier: GPL-2.0-only */
/* Huge pages, zeroed before anyone asks for them. */
#ifndef SHMDEV_POOL_H
#define SHMDEV_POOL_H

#include <linux/types.h>

struct folio;

struct shmdev_pool_stats {
	u64 target_bytes;
	u64 low_bytes;
	u64 bytes;
	u64 hits;
	u64 misses;
	u64 zeroed_bytes;
	u64 shrunk_bytes;
};

int shmdev_pool_init(void);
void shmdev_pool_exit(void);

/*
 * A zeroed folio of HPAGE_PMD_ORDER from @nid's pool, with one reference, which the
 * caller owns; NULL when the pool is empty.  Does not sleep and does not wake the
 * refill thread: shmdev_pool_refill() does, once the caller has what it wants, so
 * that zeroing does not compete with the request that caused it.
 */
struct folio *shmdev_pool_take(int nid);
void shmdev_pool_refill(void);

/* Whether it is worth preparing for shmdev_pool_take(), which may still have nothing. */
bool shmdev_pool_has(int nid);

/* Of one node, or of all together: NUMA_NO_NODE. */
void shmdev_pool_read_stats(int nid, struct shmdev_pool_stats *stats);
/* CPU time that filling it has taken.  May sleep. */
u64 shmdev_pool_read_cpu_ns(int nid);

#endif /* SHMDEV_POOL_H */
