// SPDX-License-Identifier: GPL-2.0-only
/*
 * Attributes of the device: one number each, of all nodes together and, in a directory of
 * its own, of each node that there may ever be.
 *
 * They live as long as the device: who removes it waits for those who read.
 */
#include <linux/container_of.h>
#include <linux/device.h>
#include <linux/nodemask.h>
#include <linux/numa.h>
#include <linux/slab.h>
#include <linux/sysfs.h>

#include "limit.h"
#include "pool.h"
#include "sysfs.h"

struct sysfs_attr {
	struct device_attribute attr;
	int nid;
	u64 (*read)(int nid);
};

#define POOL_VALUE(field)						\
static u64 sysfs_read_##field(int nid)					\
{									\
	struct shmdev_pool_stats stats;					\
									\
	shmdev_pool_read_stats(nid, &stats);				\
	return stats.field;						\
}

POOL_VALUE(target_bytes)
POOL_VALUE(low_bytes)
POOL_VALUE(bytes)
POOL_VALUE(hits)
POOL_VALUE(misses)
POOL_VALUE(zeroed_bytes)
POOL_VALUE(shrunk_bytes)

static u64 sysfs_read_regions(int nid)
{
	struct shmdev_limit_stats stats;

	shmdev_limit_read_stats(&stats);
	return stats.regions;
}

static u64 sysfs_read_region_bytes(int nid)
{
	struct shmdev_limit_stats stats;

	shmdev_limit_read_stats(&stats);
	return stats.bytes;
}

/* Those of each node first. */
static const struct {
	const char *name;
	u64 (*read)(int nid);
} sysfs_values[] = {
	{ "pool_target_bytes", sysfs_read_target_bytes },
	{ "pool_low_bytes", sysfs_read_low_bytes },
	{ "pool_bytes", sysfs_read_bytes },
	{ "pool_hits", sysfs_read_hits },
	{ "pool_misses", sysfs_read_misses },
	{ "pool_zeroed_bytes", sysfs_read_zeroed_bytes },
	{ "pool_shrunk_bytes", sysfs_read_shrunk_bytes },
	{ "pool_refill_cpu_ns", shmdev_pool_read_cpu_ns },
	{ "regions", sysfs_read_regions },
	{ "region_bytes", sysfs_read_region_bytes },
};

#define SYSFS_NODE_VALUES	8
#define SYSFS_VALUES		ARRAY_SIZE(sysfs_values)

struct sysfs_group {
	struct attribute_group group;
	char name[16];
	struct sysfs_attr attrs[SYSFS_VALUES];
	struct attribute *list[SYSFS_VALUES + 1];
};

/* NULL at the end. */
static const struct attribute_group **sysfs_groups;

static ssize_t sysfs_show(struct device *dev, struct device_attribute *attr, char *buf)
{
	const struct sysfs_attr *value = container_of(attr, struct sysfs_attr, attr);

	return sysfs_emit(buf, "%llu\n", value->read(value->nid));
}

static const struct attribute_group *sysfs_group_create(int nid)
{
	size_t i, nr = nid == NUMA_NO_NODE ? SYSFS_VALUES : SYSFS_NODE_VALUES;
	struct sysfs_group *group = kzalloc(sizeof(*group), GFP_KERNEL);

	if (!group)
		return NULL;
	for (i = 0; i < nr; i++) {
		struct sysfs_attr *value = &group->attrs[i];

		sysfs_attr_init(&value->attr.attr);
		value->attr.attr.name = sysfs_values[i].name;
		value->attr.attr.mode = 0444;
		value->attr.show = sysfs_show;
		value->nid = nid;
		value->read = sysfs_values[i].read;
		group->list[i] = &value->attr.attr;
	}
	group->group.attrs = group->list;
	if (nid != NUMA_NO_NODE) {
		scnprintf(group->name, sizeof(group->name), "node%d", nid);
		group->group.name = group->name;
	}
	return &group->group;
}

int shmdev_sysfs_init(void)
{
	int nid, nr = 0;

	sysfs_groups = kcalloc(num_possible_nodes() + 2, sizeof(*sysfs_groups), GFP_KERNEL);
	if (!sysfs_groups)
		return -ENOMEM;
	sysfs_groups[nr] = sysfs_group_create(NUMA_NO_NODE);
	if (!sysfs_groups[nr++])
		goto err_exit;
	for_each_node(nid) {
		sysfs_groups[nr] = sysfs_group_create(nid);
		if (!sysfs_groups[nr++])
			goto err_exit;
	}
	return 0;

err_exit:
	shmdev_sysfs_exit();
	return -ENOMEM;
}

void shmdev_sysfs_exit(void)
{
	const struct attribute_group **group;

	for (group = sysfs_groups; *group; group++)
		kfree(container_of(*group, struct sysfs_group, group));
	kfree(sysfs_groups);
	sysfs_groups = NULL;
}

const struct attribute_group **shmdev_sysfs_groups(void)
{
	return sysfs_groups;
}
