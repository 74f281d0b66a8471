// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/* Fork: what a child sees, allocates, frees and holds; while other threads work. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <pthread.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include "tap.h"
#include "util.h"

#define MIB	((size_t)1 << 20)

static void *get(size_t size)
{
	void *block = shm_alloc(size);

	CHECK(block);
	CHECK(is_all(block, size, 0));
	return block;
}

static ino_t inode_of(const void *block)
{
	struct shmdev_region *region;
	struct stat st;
	size_t offset;

	region = shmdev_block_share(block, &offset);
	CHECK(region);
	CHECK_EQ(fstat(shmdev_region_fd(region), &st), 0);
	shmdev_region_unref(region);
	return st.st_ino;
}

static void check_child(void (*body)(void *), void *argument)
{
	int status = in_child(body, argument);

	CHECK(WIFEXITED(status));
	CHECK_EQ(WEXITSTATUS(status), 0);
}

static void answer(void *block)
{
	CHECK_EQ(strcmp(block, "from the parent"), 0);
	strcpy(block, "from the child");
}

static void both_see_one_memory(void)
{
	char *small, *large;

	need_backend();
	small = get(100);
	large = get(4 * MIB);
	strcpy(small, "from the parent");
	strcpy(large + 3 * MIB, "from the parent");
	check_child(answer, small);
	check_child(answer, large + 3 * MIB);
	CHECK_EQ(strcmp(small, "from the child"), 0);
	CHECK_EQ(strcmp(large + 3 * MIB, "from the child"), 0);
	shm_free(small);
	shm_free(large);
}

static ino_t parents;

static void allocate_apart(void *unused)
{
	void *blocks[200];

	(void)unused;
	for (int i = 0; i < 200; i++) {
		blocks[i] = get(64 + i * 100);
		memset(blocks[i], 0xcc, 64 + i * 100);
		CHECK(inode_of(blocks[i]) != parents);
	}
	for (int i = 0; i < 200; i++)
		shm_free(blocks[i]);
}

static void a_child_allocates_from_regions_of_its_own(void)
{
	char *block, *later[100];

	need_backend();
	block = get(100);
	shm_free(get(5000));
	parents = inode_of(block);
	check_child(allocate_apart, NULL);
	/* Its data are not in our memory. */
	for (int i = 0; i < 100; i++)
		later[i] = get(2000);
	for (int i = 0; i < 100; i++)
		shm_free(later[i]);
	shm_free(block);
}

static void nothing(void *unused)
{
	(void)unused;
}

static void blocks_of_before_a_fork_are_not_reused(void)
{
	char *block, *anchor, *other;

	need_backend();
	anchor = get(64);
	block = get(4096);
	check_child(nothing, NULL);
	shm_free(laundered(block));
	for (int i = 0; i < 2000; i++) {
		other = shmdev_block_alloc(4096, SHMDEV_BLOCK_NOZERO);
		CHECK(other);
		CHECK(other + 4096 <= block || block + 4096 <= other);
		if (i % 2)
			shm_free(other);
	}
	/* What was allocated since is. */
	other = shmdev_block_alloc(50000, SHMDEV_BLOCK_NOZERO);
	CHECK(other);
	shm_free(other);
	other = shmdev_block_alloc(50000, SHMDEV_BLOCK_NOZERO);
	for (int i = 0; i < 10; i++) {
		shm_free(laundered(other));
		CHECK(shmdev_block_alloc(50000, SHMDEV_BLOCK_NOZERO) == other);
	}
	shm_free(other);
	shm_free(anchor);
}

static void *inherited[20];

static void free_inherited(void *unused)
{
	void *own;

	(void)unused;
	CHECK_EQ(info_now().blocks, 20);
	for (int i = 0; i < 20; i++) {
		CHECK(is_all(inherited[i], 1000, i + 1));
		shm_free(inherited[i]);
	}
	CHECK_EQ(info_now().blocks, 0);
	CHECK_EQ(info_now().regions, 0);
	CHECK_EQ(count_region_mappings(), 0);
	own = get(1000);
	CHECK_EQ(info_now().regions, 1);
	shm_free(own);
}

static void a_child_frees_what_it_inherited(void)
{
	need_backend();
	for (int i = 0; i < 20; i++) {
		inherited[i] = get(i < 18 ? 1000 : 2 * MIB);
		memset(inherited[i], i + 1, 1000);
	}
	check_child(free_inherited, NULL);
	for (int i = 0; i < 20; i++) {
		CHECK(is_all(inherited[i], 1000, i + 1));
		shm_free(inherited[i]);
	}
	CHECK_EQ(info_now().regions, 0);
}

static void hold_nothing(void *unused)
{
	(void)unused;
	CHECK_EQ(info_now().regions, 0);
	CHECK_EQ(count_region_mappings(), 0);
}

static void a_child_does_not_hold_what_is_free(void)
{
	need_backend();
	shm_free(get(1000));
	CHECK_EQ(info_now().regions, 1);
	check_child(hold_nothing, NULL);
	CHECK_EQ(info_now().regions, 1);
}

static void free_it(void *block)
{
	shm_free(block);
}

static void answer_through_a_grandchild(void *block)
{
	char *own = get(100);

	strcpy(own, "of the child");
	check_child(answer, block);
	CHECK_EQ(strcmp(block, "from the child"), 0);
	CHECK_EQ(strcmp(own, "of the child"), 0);
	check_child(free_it, block);
	check_child(free_it, own);
	shm_free(own);
	shm_free(block);
	CHECK_EQ(info_now().blocks, 0);
}

static void grandchildren_are_children(void)
{
	char *block;

	need_backend();
	block = get(100);
	strcpy(block, "from the parent");
	check_child(answer_through_a_grandchild, block);
	CHECK_EQ(strcmp(block, "from the child"), 0);
	shm_free(block);
}

/* --- Fork in the middle of it -------------------------------------------------- */

static bool stop;
static int source;

static void *allocate_all_the_time(void *argument)
{
	uint32_t random = (uintptr_t)argument;
	unsigned char *blocks[50] = { NULL };
	struct shmdev_region *region;

	while (!__atomic_load_n(&stop, __ATOMIC_RELAXED)) {
		int i = random_below(&random, 50);

		if (blocks[i]) {
			CHECK_EQ(blocks[i][0], i + 1);
			shm_free(blocks[i]);
			blocks[i] = NULL;
		} else {
			blocks[i] = shm_alloc(random_below(&random, 12) ?
					      1 + random_below(&random, 20000) :
					      MIB + 1 + random_below(&random, MIB));
			CHECK(blocks[i]);
			CHECK_EQ(blocks[i][0], 0);
			blocks[i][0] = i + 1;
		}
		if (!random_below(&random, 10)) {
			region = shmdev_region_create(4096, 0);
			CHECK(region);
			shmdev_region_unref(region);
		}
	}
	for (int i = 0; i < 50; i++)
		shm_free(blocks[i]);
	return NULL;
}

/* So much that others help. */
#define PART	(2 * MIB)

static void *fill_all_the_time(void *unused)
{
	char *block = shm_alloc(3 * PART);

	(void)unused;
	CHECK(block);
	while (!__atomic_load_n(&stop, __ATOMIC_RELAXED)) {
		struct shm_fill fills[3];

		for (int i = 0; i < 3; i++)
			fills[i] = (struct shm_fill){ .dst = block + i * PART, .len = PART,
						      .offset = i * PART, .fd = source };
		CHECK_EQ(shm_fill(fills, 3), 0);
		for (int i = 0; i < 3; i++)
			CHECK_EQ(fills[i].result, PART);
		CHECK(pattern_is(block + PART - 100, 200, 5, PART - 100));
	}
	shm_free(block);
	return NULL;
}

static void be_a_child(void *unused)
{
	struct shmdev_region *region;
	struct shm_fill fills[2];
	char *block;

	(void)unused;
	/* Nothing that the other threads of the parent had in their hands is here. */
	CHECK_EQ(count_region_mappings(), info_now().regions);
	CHECK_EQ(count_descriptors_of("anon_inode:[io_uring]", NULL),
		 info_now().fill_engine == SHMDEV_FILL_PREADV ? 0 : 1);

	block = get(100);
	shm_free(block);
	block = get(2 * MIB);
	for (int i = 0; i < 2; i++)
		fills[i] = (struct shm_fill){ .dst = block + i * MIB, .len = MIB,
					      .offset = i * MIB, .fd = source };
	CHECK_EQ(shm_fill(fills, 2), 0);
	CHECK(fills[0].result == (int64_t)MIB && fills[1].result == (int64_t)MIB);
	CHECK(pattern_is(block + MIB - 100, 200, 5, MIB - 100));
	shm_free(block);
	region = shmdev_region_create(4096, 0);
	CHECK(region);
	shmdev_region_unref(region);
}

static void fork_while_threads_work(void)
{
	pthread_t threads[3];

	need_backend();
	source = pattern_file(3 * PART, 5);
	for (uintptr_t i = 0; i < 2; i++)
		CHECK_EQ(pthread_create(&threads[i], NULL, allocate_all_the_time,
					(void *)(i + 1)), 0);
	CHECK_EQ(pthread_create(&threads[2], NULL, fill_all_the_time, NULL), 0);
	for (int i = 0; i < 100; i++)
		check_child(be_a_child, NULL);
	__atomic_store_n(&stop, true, __ATOMIC_RELAXED);
	for (int i = 0; i < 3; i++)
		CHECK_EQ(pthread_join(threads[i], NULL), 0);
	CHECK_EQ(info_now().blocks, 0);
	CHECK(info_now().regions <= 1);
	CHECK_EQ(count_region_mappings(), info_now().regions);
}

static void *fill_from_pipes(void *argument)
{
	CHECK_EQ(shm_fill(argument, 2), 0);
	return NULL;
}

static void fill_again(void *block)
{
	be_a_child(NULL);
	CHECK(is_all(block, 200, 0));
}

static void fork_while_a_fill_waits(void)
{
	struct shm_fill fills[2];
	pthread_t thread;
	int first[2], second[2];
	char *block;

	need_backend();
	source = pattern_file(3 * MIB, 5);
	block = get(4096);
	CHECK_EQ(pipe2(first, O_CLOEXEC), 0);
	CHECK_EQ(pipe2(second, O_CLOEXEC), 0);
	fills[0] = (struct shm_fill){ .dst = block, .len = 100, .offset = SHM_FILL_CURRENT,
				      .fd = first[0] };
	fills[1] = (struct shm_fill){ .dst = block + 100, .len = 100,
				      .offset = SHM_FILL_CURRENT, .fd = second[0] };
	CHECK_EQ(pthread_create(&thread, NULL, fill_from_pipes, fills), 0);
	/*
	 * Whether it waits already when we fork is chance, and all moments are good;
	 * the fork must not wait for the fill, for it is we who write.
	 */
	for (int i = 0; i < 20; i++)
		check_child(fill_again, block);
	CHECK_EQ(write(second[1], "b", 1), 1);
	CHECK_EQ(write(first[1], "a", 1), 1);
	check_child(nothing, NULL);
	close(first[1]);
	close(second[1]);
	CHECK_EQ(pthread_join(thread, NULL), 0);
	CHECK_EQ(fills[0].result, 1);
	CHECK_EQ(fills[1].result, 1);
	CHECK(block[0] == 'a' && block[100] == 'b');
	shm_free(block);
}

static void one_more_region(void *region)
{
	struct shmdev_region *again = shmdev_region_open(shmdev_region_fd(region));

	CHECK(again == region);
	strcpy(shmdev_region_addr(region), "from the child");
	shmdev_region_unref(again);
	shmdev_region_unref(region);
	CHECK_EQ(info_now().regions, 0);
}

static void regions_are_inherited(void)
{
	struct shmdev_region *region;

	need_backend();
	region = shmdev_region_create(4096, 0);
	CHECK(region);
	check_child(one_more_region, region);
	CHECK_EQ(strcmp(shmdev_region_addr(region), "from the child"), 0);
	shmdev_region_unref(region);
}

TAP_MAIN(TAP_TEST(both_see_one_memory),
	 TAP_TEST(a_child_allocates_from_regions_of_its_own),
	 TAP_TEST(blocks_of_before_a_fork_are_not_reused),
	 TAP_TEST(a_child_frees_what_it_inherited),
	 TAP_TEST(a_child_does_not_hold_what_is_free),
	 TAP_TEST(grandchildren_are_children),
	 TAP_TEST(regions_are_inherited),
	 TAP_TEST(fork_while_threads_work),
	 TAP_TEST(fork_while_a_fill_waits))
