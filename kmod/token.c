// SPDX-License-Identifier: GPL-2.0-only
/*
 * The table from tokens to regions.
 *
 * It holds no reference: a region takes itself out when it goes.  How long a lookup
 * takes tells nothing about the tokens that are there: the table is ordered by a keyed
 * hash of them, and they are compared as a whole.
 */
#include <linux/random.h>
#include <linux/rhashtable.h>
#include <linux/siphash.h>

#include "region.h"
#include "token.h"

static siphash_key_t token_key __read_mostly;
static struct rhashtable token_table;

static u32 token_hash(const void *data, u32 len, u32 seed)
{
	const struct shmdev_token *token = data;

	return siphash_2u64(token->half[0], token->half[1], &token_key);
}

static int token_compare(struct rhashtable_compare_arg *arg, const void *object)
{
	const struct shmdev_region *region = object;
	const struct shmdev_token *token = arg->key;

	return !!((region->token.half[0] ^ token->half[0]) |
		  (region->token.half[1] ^ token->half[1]));
}

static const struct rhashtable_params token_params = {
	.key_len		= sizeof(struct shmdev_token),
	.key_offset		= offsetof(struct shmdev_region, token),
	.head_offset		= offsetof(struct shmdev_region, token_node),
	.hashfn			= token_hash,
	.obj_cmpfn		= token_compare,
	.automatic_shrinking	= true,
};

int shmdev_token_create(struct shmdev_region *region)
{
	int err;

	if (region->exported)
		return 0;
	get_random_bytes(&region->token, sizeof(region->token));
	err = rhashtable_insert_fast(&token_table, &region->token_node, token_params);
	if (err)
		/* It is busy growing, or too large to grow: nothing else is wrong here. */
		return -ENOMEM;
	WRITE_ONCE(region->exported, true);
	return 0;
}

void shmdev_token_remove(struct shmdev_region *region)
{
	if (region->exported)
		rhashtable_remove_fast(&token_table, &region->token_node, token_params);
}

struct shmdev_region *shmdev_token_find(const struct shmdev_token *token)
{
	return rhashtable_lookup(&token_table, token, token_params);
}

int shmdev_token_init(void)
{
	get_random_bytes(&token_key, sizeof(token_key));
	return rhashtable_init(&token_table, &token_params);
}

void shmdev_token_exit(void)
{
	rhashtable_destroy(&token_table);
}
