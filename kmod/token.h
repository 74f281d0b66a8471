/* SPDX-License-Identifier: GPL-2.0-only */
/* Tokens: the way to a region for whom nobody hands a descriptor. */
#ifndef SHMDEV_TOKEN_H
#define SHMDEV_TOKEN_H

#include <linux/types.h>

struct shmdev_region;

/* 128 random bits; two halves, so that they compare in the same time whatever they are. */
struct shmdev_token {
	u64 half[2];
};

int shmdev_token_init(void);
void shmdev_token_exit(void);

/* Give @region its token, if it has none.  The caller holds the inode's lock. */
int shmdev_token_create(struct shmdev_region *region);

/* Nobody will find @region any more; it must not be freed before an RCU grace period. */
void shmdev_token_remove(struct shmdev_region *region);

/* The region that has @token, NULL if there is none; for a reader of RCU. */
struct shmdev_region *shmdev_token_find(const struct shmdev_token *token);

#endif /* SHMDEV_TOKEN_H */
