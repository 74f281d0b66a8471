// SPDX-License-Identifier: GPL-2.0-only
/*
 * Limits: regions are memory that cannot be swapped out, as locked memory is, and who
 * may lock what he likes may have as many as he likes.
 *
 * A region counts for the real user id of the process that made it, whatever fchown()
 * does, until its memory goes.
 *
 * Locking: limit_lock guards the counts, the table and what is in it.  It is innermost.
 */
#include <linux/capability.h>
#include <linux/cred.h>
#include <linux/err.h>
#include <linux/hashtable.h>
#include <linux/mm.h>
#include <linux/moduleparam.h>
#include <linux/sizes.h>
#include <linux/slab.h>
#include <linux/spinlock.h>
#include <linux/uidgid.h>

#include "limit.h"

struct shmdev_limit_user {
	struct hlist_node node;
	kuid_t uid;
	u64 bytes;		/* never 0: without regions there is no entry */
};

static DEFINE_SPINLOCK(limit_lock);
static DEFINE_HASHTABLE(limit_users, 7);
static u64 limit_regions;
static u64 limit_bytes;

/* --- parameters ------------------------------------------------------------ */

#define LIMIT_MB_DEFAULT	UINT_MAX

static unsigned int limit_mb = LIMIT_MB_DEFAULT;
static unsigned int user_limit_mb = LIMIT_MB_DEFAULT;

/* Half of memory, or as the parameter says. */
static unsigned int limit_mb_now(const unsigned int *param)
{
	unsigned int mb = READ_ONCE(*param);

	return mb == LIMIT_MB_DEFAULT ? totalram_pages() / 2 / (SZ_1M >> PAGE_SHIFT) : mb;
}

static u64 limit_bytes_now(const unsigned int *param)
{
	return (u64)limit_mb_now(param) * SZ_1M;
}

static int limit_mb_set(const char *val, const struct kernel_param *kp)
{
	return param_set_uint_minmax(val, kp, 0, LIMIT_MB_DEFAULT - 1);
}

static int limit_mb_get(char *buf, const struct kernel_param *kp)
{
	return scnprintf(buf, PAGE_SIZE, "%u\n", limit_mb_now(kp->arg));
}

static const struct kernel_param_ops limit_mb_ops = {
	.set	= limit_mb_set,
	.get	= limit_mb_get,
};

module_param_cb(limit_mb, &limit_mb_ops, &limit_mb, 0644);
__MODULE_PARM_TYPE(limit_mb, "uint");
MODULE_PARM_DESC(limit_mb, "MiB that all regions together may have; CAP_IPC_LOCK overrides (default: half of memory)");
module_param_cb(user_limit_mb, &limit_mb_ops, &user_limit_mb, 0644);
__MODULE_PARM_TYPE(user_limit_mb, "uint");
MODULE_PARM_DESC(user_limit_mb, "MiB that the regions of one user may have; CAP_IPC_LOCK overrides (default: half of memory)");

/* --- counting -------------------------------------------------------------- */

static struct shmdev_limit_user *limit_find_user(kuid_t uid)
{
	struct shmdev_limit_user *user;

	lockdep_assert_held(&limit_lock);
	hash_for_each_possible(limit_users, user, node, __kuid_val(uid))
		if (uid_eq(user->uid, uid))
			return user;
	return NULL;
}

static bool limit_allows(const struct shmdev_limit_user *user, u64 bytes)
{
	return limit_bytes + bytes <= limit_bytes_now(&limit_mb) &&
	       (user ? user->bytes : 0) + bytes <= limit_bytes_now(&user_limit_mb);
}

static struct shmdev_limit_user *limit_try_charge(u64 bytes, bool exempt)
{
	struct shmdev_limit_user *user, *unused;
	kuid_t uid = current_uid();

	unused = kzalloc(sizeof(*unused), GFP_KERNEL_ACCOUNT);
	if (!unused)
		return ERR_PTR(-ENOMEM);

	spin_lock(&limit_lock);
	user = limit_find_user(uid);
	if (!exempt && !limit_allows(user, bytes)) {
		user = ERR_PTR(-EDQUOT);
		goto out_unlock;
	}
	if (!user) {
		swap(user, unused);
		user->uid = uid;
		hash_add(limit_users, &user->node, __kuid_val(uid));
	}
	user->bytes += bytes;
	limit_bytes += bytes;
	limit_regions++;
out_unlock:
	spin_unlock(&limit_lock);
	kfree(unused);
	return user;
}

struct shmdev_limit_user *shmdev_limit_charge(u64 bytes)
{
	struct shmdev_limit_user *user = limit_try_charge(bytes, false);

	/* Last, because to ask for it is to have used it. */
	if (user == ERR_PTR(-EDQUOT) && capable(CAP_IPC_LOCK))
		user = limit_try_charge(bytes, true);
	return user;
}

void shmdev_limit_uncharge(struct shmdev_limit_user *user, u64 bytes)
{
	spin_lock(&limit_lock);
	limit_regions--;
	limit_bytes -= bytes;
	user->bytes -= bytes;
	if (user->bytes)
		user = NULL;
	else
		hash_del(&user->node);
	spin_unlock(&limit_lock);
	kfree(user);
}

void shmdev_limit_read_stats(struct shmdev_limit_stats *stats)
{
	struct shmdev_limit_user *user;

	stats->limit_bytes = limit_bytes_now(&limit_mb);
	stats->user_limit_bytes = limit_bytes_now(&user_limit_mb);
	spin_lock(&limit_lock);
	stats->regions = limit_regions;
	stats->bytes = limit_bytes;
	user = limit_find_user(current_uid());
	stats->user_bytes = user ? user->bytes : 0;
	spin_unlock(&limit_lock);
}
