/* SPDX-License-Identifier: GPL-2.0-only */
/* A region: one file, its memory made when it is made. */
#ifndef SHMDEV_REGION_H
#define SHMDEV_REGION_H

#include <linux/fs.h>
#include <linux/path.h>
#include <linux/rhashtable-types.h>
#include <linux/sched.h>
#include <linux/spinlock_types.h>
#include <linux/types.h>
#include <linux/uidgid.h>

#include "token.h"

struct shmdev_limit_user;
struct shmdev_memory_request;

/* What goes with a region's inode, for as long; freed after an RCU grace period. */
struct shmdev_region {
	struct shmdev_limit_user *user;
	u64 huge_bytes;
	int nid;
	u32 seals;			/* SHMDEV_SEAL_*; written under the inode's lock */
	bool exported;			/* once true, token is set; the same */
	struct shmdev_token token;
	struct rhash_head token_node;
	spinlock_t lock;		/* guards files; innermost */
	unsigned int files;		/* open ones; while there are any, they hold path */
	struct path path;
	/* For debugfs.c. */
	struct list_head list;
	struct inode *inode;
	kuid_t made_by;
	pid_t made_by_pid;
	char made_by_comm[TASK_COMM_LEN];
	time64_t made_at;		/* seconds since boot */
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

/* For each file of the region that is opened and closed. */
int shmdev_region_file_get(struct shmdev_region *region);
void shmdev_region_file_put(struct shmdev_region *region);

/* The inode's lock, which somebody may hold for as long as zeroing takes; -EINTR. */
static inline int shmdev_region_lock(struct inode *inode)
{
	return down_write_killable(&inode->i_rwsem);
}

#endif /* SHMDEV_REGION_H */
