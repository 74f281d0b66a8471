/* SPDX-License-Identifier: GPL-2.0-only */
/* A region: one file, its memory made when it is made. */
#ifndef SHMDEV_REGION_H
#define SHMDEV_REGION_H

#include <linux/fs.h>
#include <linux/rhashtable-types.h>
#include <linux/types.h>

#include "token.h"

struct shmdev_limit_user;
struct shmdev_memory_request;

/* What goes with a region's inode, for as long. */
struct shmdev_region {
	struct inode *inode;
	struct shmdev_limit_user *user;
	u64 huge_bytes;
	int nid;
	u32 seals;			/* SHMDEV_SEAL_*; written under the inode's lock */
	bool exported;			/* once true, token is set; the same */
	struct shmdev_token token;
	struct rhash_head token_node;
	struct rcu_head rcu;
};

static inline struct shmdev_region *shmdev_region_of(const struct inode *inode)
{
	return inode->i_private;
}

extern const struct file_operations shmdev_region_fops;

/* The largest size that may be asked for. */
u64 shmdev_region_max_bytes(void);

/* A new region; the caller owns the file.  @req tells what it is made of. */
struct file *shmdev_region_create(struct shmdev_memory_request *req);

/*
 * Another file of the region that has @token.  -ENOENT: there is none; -EACCES: the
 * caller may not, by its owner and mode.
 */
struct file *shmdev_region_attach(const struct shmdev_token *token, bool rdonly);

/* While a region's file is open, the file system of the regions is mounted. */
int shmdev_region_fs_get(void);
void shmdev_region_fs_put(void);

#endif /* SHMDEV_REGION_H */
