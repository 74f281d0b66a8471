/* SPDX-License-Identifier: LGPL-2.1-or-later OR MIT */
/* What bounds the memory of this process, as far as the kernel lets it be known. */
#ifndef SHMDEV_LIB_BOUNDS_H
#define SHMDEV_LIB_BOUNDS_H

#include <stdbool.h>
#include <stdint.h>

/*
 * Whether to reserve memory does not do, and a touch of it could still be refused, which
 * is SIGBUS.  Looked up at most once a second: limits that come later come for memory
 * that is there already, too.
 */
struct limits {
	bool hugetlb;		/* a control group bounds what is touched of huge pages */
	bool commit;		/* vm.overcommit_memory is 2: each page is asked for anew */
};

/* 0 or -errno. */
int limits_get(struct limits *limits);

/* Whether the calling thread may not use all memory nodes that there are. */
bool limits_on_nodes(void);

/*
 * How much memory could be had now without anybody being killed or much being swapped
 * out for it, and of how much: by the machine and by each control group, whichever is
 * the tightest.
 */
struct headroom {
	uint64_t bytes;
	uint64_t total;
	uint64_t swap;		/* what could be had beyond that by swapping */
};

/* 0 or -errno. */
int headroom_get(struct headroom *headroom);

#endif
