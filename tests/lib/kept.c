// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/* Memory of large blocks that the next block gets, where it need not be zero. */
#define _GNU_SOURCE
#include <sys/resource.h>
#include <sys/wait.h>

#include "tap.h"
#include "util.h"

#define MIB	((size_t)1 << 20)
#define LARGE	(4 * MIB)

static char *get_dirty(size_t size)
{
	char *block = shmdev_block_alloc(size, SHMDEV_BLOCK_NOZERO);

	CHECK(block);
	return block;
}

/*
 * Only memory that costs nothing until it is touched is kept, and none where a tool
 * watches.
 */
static void need_kept(void)
{
	enum shmdev_backend backend = need_backend();
	uint64_t before;

	if (backend != SHMDEV_BACKEND_MEMFD && backend != SHMDEV_BACKEND_THP)
		tap_skip("%s: memory is given back at once", shmdev_backend_name(backend));
	before = info_now().regions;
	shm_free(get_dirty(LARGE));
	if (info_now().regions == before)
		tap_skip("a tool watches, or memory is taken at once");
}

static void the_next_one_gets_it(void)
{
	unsigned int descriptors;
	char *block, *next;

	need_kept();
	block = get_dirty(LARGE);
	memset(block, 1, LARGE);
	descriptors = count_descriptors();
	for (int i = 0; i < 10; i++) {
		shm_free(laundered(block));
		CHECK_EQ(info_now().blocks, 0);
		next = get_dirty(LARGE - i * 4096);
		CHECK(next == block);
		CHECK(is_all(next, LARGE - i * 4096, 1));
		CHECK_EQ(count_descriptors(), descriptors);
	}
	shm_free(laundered(block));
	/* Much less is not worth it. */
	next = get_dirty(LARGE / 2);
	CHECK(next != block);
	shm_free(next);

	/* But the same is, however much more its region is: of huge pages, nearly twice that. */
	block = get_dirty(MIB + 1);
	shm_free(laundered(block));
	next = get_dirty(MIB + 1);
	CHECK(next == block);
	shm_free(next);
}

static void zero_is_zero(void)
{
	char *block, *other;

	need_kept();
	block = get_dirty(LARGE);
	memset(block, 0xff, LARGE);
	shm_free(laundered(block));
	other = shm_alloc(LARGE);
	CHECK(other);
	CHECK(is_all(other, LARGE, 0));
	/* Nor is memory of what was asked for as zero kept. */
	memset(other, 0xfe, LARGE);
	shm_free(other);

	/* What it grows by is zero, whatever was there before it. */
	other = get_dirty(LARGE - MIB / 2);
	CHECK(other == block);
	memset(other, 0xff, LARGE - MIB / 2);
	CHECK(shmdev_block_resize(other, LARGE, NULL) == other);
	CHECK(is_all(other, LARGE - MIB / 2, 0xff));
	CHECK(is_all(other + LARGE - MIB / 2, MIB / 2, 0));
	shm_free(other);
}

static void alignment_is_kept(void)
{
	struct shmdev_block_options options = { .flags = SHMDEV_BLOCK_NOZERO };
	char *block;

	need_kept();
	for (size_t align = 64; align <= 4 * MIB; align *= 2) {
		options.align = align;
		block = shmdev_block_alloc_with(LARGE, &options);
		CHECK(block);
		CHECK_EQ((uintptr_t)block % align, 0);
		memset(block, 0xff, LARGE);
		CHECK(is_all(block, LARGE, 0xff));
		shm_free(block);
	}
}

static void what_others_know_is_not(void)
{
	struct shmdev_region *region;
	char *block, *other;
	size_t offset;

	need_kept();
	block = get_dirty(LARGE);
	memset(block, 7, LARGE);
	region = shmdev_block_share(block, &offset);
	CHECK(region);
	shm_free(laundered(block));
	for (int i = 0; i < 10; i++) {
		other = get_dirty(LARGE);
		CHECK(other != block);
		memset(other, 8, LARGE);
		shm_free(other);
	}
	CHECK(is_all((char *)shmdev_region_addr(region) + offset, LARGE, 7));
	shmdev_region_unref(region);
}

static char *of_parent;

static void look_and_drop(void *unused)
{
	(void)unused;
	/* What the parent has for its next block is none of the child's. */
	CHECK_EQ(info_now().regions, 1);
	CHECK(is_all(of_parent, LARGE, 5));
	shm_free(of_parent);
	CHECK_EQ(info_now().regions, 0);
	CHECK(get_dirty(LARGE));
}

static void a_child_has_none(void)
{
	char *kept;

	need_kept();
	of_parent = get_dirty(LARGE);
	memset(of_parent, 5, LARGE);
	kept = get_dirty(LARGE);
	shm_free(laundered(kept));
	CHECK_EQ(in_child(look_and_drop, NULL), 0);
	/* One that a child had is not used again; one that none had is. */
	CHECK(get_dirty(LARGE) == kept);
	memset(of_parent, 6, LARGE);
	shm_free(of_parent);
	CHECK(is_all(get_dirty(LARGE), LARGE, 0));
}

static void it_is_not_much(void)
{
	char *blocks[40];
	uint64_t before;

	need_kept();
	before = info_now().region_bytes;
	for (int i = 0; i < 40; i++)
		blocks[i] = get_dirty(LARGE);
	for (int i = 0; i < 40; i++)
		shm_free(blocks[i]);
	CHECK(info_now().region_bytes <= before + 32 * MIB);
	/* And one that is larger than all of that goes at once. */
	before = info_now().region_bytes;
	shm_free(get_dirty(33 * MIB));
	CHECK_EQ(info_now().region_bytes, before);
}

/* What is kept for no block is nothing that another may miss. */
static void it_goes_before_memory_is_out(void)
{
	struct rlimit limit;
	char *blocks[7], *other;

	need_kept();
	for (int i = 0; i < 7; i++)
		blocks[i] = get_dirty(LARGE);
	for (int i = 0; i < 7; i++)
		shm_free(blocks[i]);
	CHECK_EQ(getrlimit(RLIMIT_NOFILE, &limit), 0);
	limit.rlim_cur = count_descriptors() + 3;
	CHECK_EQ(setrlimit(RLIMIT_NOFILE, &limit), 0);
	for (int i = 0; i < 5; i++) {
		other = shm_alloc(8 * MIB);
		CHECK(other);
	}
}

/* Memory of another kind that cannot be had is ENOMEM, and nothing that is kept. */
static void it_is_not_of_another_kind(void)
{
	struct shmdev_block_options options = {
		.flags = SHMDEV_BLOCK_NOZERO | SHMDEV_BLOCK_HUGE,
	};
	char *block;

	need_kept();
	/* No huge pages are sure with these backends. */
	shm_free(get_dirty(LARGE));
	CHECK_FAILS(shmdev_block_alloc_with(LARGE, &options), ENOMEM);
	/* And what was kept is no region any more to whoever has the address still. */
	block = get_dirty(LARGE);
	shm_free(laundered(block));
	CHECK_FAILS(shmdev_region_of(block, NULL), ENOENT);
}

TAP_MAIN(TAP_TEST(the_next_one_gets_it),
	 TAP_TEST(it_is_not_of_another_kind),
	 TAP_TEST(zero_is_zero),
	 TAP_TEST(alignment_is_kept),
	 TAP_TEST(what_others_know_is_not),
	 TAP_TEST(a_child_has_none),
	 TAP_TEST(it_is_not_much),
	 TAP_TEST(it_goes_before_memory_is_out))
