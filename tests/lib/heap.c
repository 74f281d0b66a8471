// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/* Blocks: shm_alloc(), shm_free(), shmdev_block_alloc(), shmdev_block_share(). */
#define _GNU_SOURCE
#include <fcntl.h>
#include <pthread.h>
#include <sys/mman.h>

#include "tap.h"
#include "util.h"

#define MIB	((size_t)1 << 20)

/* A region that blocks share, and those of large ones for the next: without any block. */
#define STAYS	(64 * MIB)

static void *get(size_t size)
{
	void *block = shm_alloc(size);

	CHECK(block);
	CHECK_EQ((uintptr_t)block % SHMDEV_ALIGN, 0);
	CHECK(is_all(block, size, 0));
	return block;
}

static void blocks_are_aligned_zero_and_apart(void)
{
	static const size_t sizes[] = {
		1, 2, 63, 64, 65, 127, 128, 1000, 4095, 4096, 4097, 65536, 400000,
		MIB - 1, MIB, MIB + 1, 2 * MIB, 5 * MIB + 3,
	};
	enum { NR = sizeof(sizes) / sizeof(sizes[0]) };
	char *blocks[NR];

	need_backend();
	for (int round = 0; round < 3; round++) {
		for (int i = 0; i < NR; i++) {
			blocks[i] = get(sizes[i]);
			memset(blocks[i], i + 1, sizes[i]);
		}
		for (int i = 0; i < NR; i++)
			CHECK(is_all(blocks[i], sizes[i], i + 1));
		for (int i = 0; i < NR; i++)
			shm_free(blocks[i]);
	}
	CHECK_EQ(info_now().blocks, 0);
}

static void nonsense_is_refused(void)
{
	need_backend();
	CHECK_FAILS(shm_alloc(0), EINVAL);
	CHECK_FAILS(shmdev_block_alloc(0, SHMDEV_BLOCK_NOZERO), EINVAL);
	CHECK_FAILS(shmdev_block_alloc(64, SHMDEV_BLOCK_NOZERO << 1), EINVAL);
	CHECK_FAILS(shmdev_block_alloc(64, ~0U), EINVAL);
	/* volatile: the compiler knows that these are too much. */
	for (volatile size_t size = SIZE_MAX; size > (size_t)1 << 47; size /= 2) {
		int error = size > SIZE_MAX / 4 ? ENOMEM : errno_without_room();

		CHECK_FAILS(shm_alloc(size), error);
		CHECK_FAILS(shmdev_block_alloc(size - 4096, SHMDEV_BLOCK_NOZERO), error);
	}
	CHECK_EQ(info_now().regions, 0);
	CHECK_EQ(count_region_mappings(), 0);
}

static void free_takes_null_and_leaves_errno(void)
{
	void *small, *large;

	need_backend();
	small = get(100);
	large = get(3 * MIB);
	errno = ESTALE;
	shm_free(NULL);
	shm_free(small);
	shm_free(large);
	CHECK_EQ(errno, ESTALE);
}

static void what_was_freed_last_is_used_first(void)
{
	static const size_t sizes[] = { 64, 1000, 4096, 65536, 400000, MIB };

	need_backend();
	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		char *first = shmdev_block_alloc(sizes[i], SHMDEV_BLOCK_NOZERO), *block;

		CHECK(first);
		for (int round = 0; round < 100; round++) {
			memset(first, 0x11, sizes[i]);
			shm_free(laundered(first));
			block = shmdev_block_alloc(sizes[i], SHMDEV_BLOCK_NOZERO);
			CHECK(block);
			if (round)
				CHECK(block == first);
			first = block;
		}
		shm_free(first);
		/* And cleared, unless that is waived. */
		block = get(sizes[i]);
		shm_free(block);
		CHECK_EQ(info_now().regions, 1);
	}
}

/* --- A model ------------------------------------------------------------------ */

struct model {
	struct held {
		unsigned char *block;
		size_t size;
		uint32_t seed;
	} held[400];
	uint32_t random;
	size_t bytes;
};

static size_t model_size(uint32_t *random)
{
	switch (random_below(random, 16)) {
	case 0 ... 7:
		return 1 + random_below(random, 300);
	case 8 ... 12:
		return 1 + random_below(random, 9000);
	case 13 ... 14:
		return 1 + random_below(random, 200000);
	default:
		return random_below(random, 8) ? 1 + random_below(random, MIB + 100) :
						 1 + random_below(random, 3 * MIB);
	}
}

/* The whole of small blocks, of large ones the ends and some pages between. */
static void mark(struct held *held)
{
	if (held->size <= 8192) {
		pattern_write(held->block, held->size, held->seed, 0);
		return;
	}
	pattern_write(held->block, 4096, held->seed, 0);
	pattern_write(held->block + held->size - 4096, 4096, held->seed, 4096);
	for (size_t at = 65536; at + 4096 < held->size; at += 65536)
		held->block[at] = held->seed;
}

static void check_marked(const struct held *held)
{
	if (held->size <= 8192) {
		CHECK(pattern_is(held->block, held->size, held->seed, 0));
		return;
	}
	CHECK(pattern_is(held->block, 4096, held->seed, 0));
	CHECK(pattern_is(held->block + held->size - 4096, 4096, held->seed, 4096));
	for (size_t at = 65536; at + 4096 < held->size; at += 65536)
		CHECK_EQ(held->block[at], (unsigned char)held->seed);
}

static void model_step(struct model *model)
{
	struct held *held = &model->held[random_below(&model->random, 400)];
	unsigned int flags = random_below(&model->random, 4) ? 0 : SHMDEV_BLOCK_NOZERO;

	if (held->block) {
		check_marked(held);
		shm_free(held->block);
		model->bytes -= held->size;
		held->block = NULL;
		return;
	}
	held->size = model_size(&model->random);
	/* A VM of 3 GiB, in which all is on huge pages, must do. */
	if (model->bytes + held->size > 64 * MIB)
		return;
	held->seed = random_next(&model->random);
	held->block = shmdev_block_alloc(held->size, flags);
	CHECK(held->block);
	CHECK_EQ((uintptr_t)held->block % SHMDEV_ALIGN, 0);
	if (!flags)
		CHECK(is_all(held->block, held->size, 0));
	model->bytes += held->size;
	mark(held);
}

static void model_end(struct model *model)
{
	for (int i = 0; i < 400; i++) {
		if (!model->held[i].block)
			continue;
		check_marked(&model->held[i]);
		shm_free(model->held[i].block);
	}
}

static void random_blocks_agree_with_a_model(void)
{
	static struct model model = { .random = 12345 };
	struct shmdev_info info;
	uint64_t blocks, bytes;

	need_backend();
	for (int step = 0; step < 30000; step++) {
		model_step(&model);
		if (step % 1000)
			continue;
		blocks = bytes = 0;
		for (int i = 0; i < 400; i++) {
			blocks += !!model.held[i].block;
			bytes += model.held[i].block ? model.held[i].size : 0;
		}
		info = info_now();
		CHECK_EQ(info.blocks, blocks);
		CHECK_EQ(info.block_bytes, bytes);
		CHECK(info.region_bytes >= bytes);
	}
	/* Not much more than what is in it, even after all that. */
	info = info_now();
	tap_note("%llu blocks of %llu KiB in %llu regions of %llu KiB",
		 (unsigned long long)info.blocks, (unsigned long long)info.block_bytes / 1024,
		 (unsigned long long)info.regions, (unsigned long long)info.region_bytes / 1024);
	model_end(&model);
	info = info_now();
	CHECK_EQ(info.blocks, 0);
	CHECK_EQ(info.block_bytes, 0);
	CHECK(info.region_bytes <= STAYS);
}

/* --- Threads ------------------------------------------------------------------ */

/* Blocks that one thread made and another is to check and free. */
static struct held mail[64];
static pthread_mutex_t mail_lock = PTHREAD_MUTEX_INITIALIZER;

static void swap_mail(uint32_t *random, struct held *mine)
{
	struct held *box = &mail[random_below(random, 64)], other;

	pthread_mutex_lock(&mail_lock);
	other = *box;
	*box = *mine;
	*mine = other;
	pthread_mutex_unlock(&mail_lock);
}

static void *allocate_and_swap(void *argument)
{
	struct model *model = calloc(1, sizeof(*model));
	struct held *held;

	CHECK(model);
	model->random = (uintptr_t)argument;
	for (int step = 0; step < 15000; step++) {
		model_step(model);
		held = &model->held[random_below(&model->random, 400)];
		model->bytes -= held->block ? held->size : 0;
		swap_mail(&model->random, held);
		model->bytes += held->block ? held->size : 0;
	}
	model_end(model);
	free(model);
	return NULL;
}

static void *free_mail(void *unused)
{
	(void)unused;
	for (int i = 0; i < 64; i++) {
		if (!mail[i].block)
			continue;
		check_marked(&mail[i]);
		shm_free(mail[i].block);
	}
	return NULL;
}

static void threads_free_what_others_allocated(void)
{
	pthread_t threads[4];

	need_backend();
	for (uintptr_t i = 0; i < 4; i++)
		CHECK_EQ(pthread_create(&threads[i], NULL, allocate_and_swap,
					(void *)(i * 77 + 1)), 0);
	for (int i = 0; i < 4; i++)
		CHECK_EQ(pthread_join(threads[i], NULL), 0);
	/* What a thread has freed it may keep until it ends, and all of a region with it. */
	CHECK_EQ(pthread_create(&threads[0], NULL, free_mail, NULL), 0);
	CHECK_EQ(pthread_join(threads[0], NULL), 0);
	CHECK_EQ(info_now().blocks, 0);
	CHECK(info_now().region_bytes <= STAYS);
}

/* --- Where the memory is --------------------------------------------------------- */

static void pieces_become_whole_again(void)
{
	enum { NR = 1500 };
	static char *blocks[NR];
	uint32_t random = 99;
	uint64_t regions;

	need_backend();
	for (int i = 0; i < NR; i++)
		blocks[i] = get(1024);
	regions = info_now().regions;
	for (int left = NR - 1; left > 0; left--) {
		int i = random_below(&random, left);

		shm_free(blocks[i]);
		blocks[i] = blocks[left - 1];
	}
	/* All but one are free, in one or two pieces. */
	shm_free(get(600 * 1024));
	CHECK_EQ(info_now().regions, regions);
	shm_free(blocks[NR - 1]);
}

static void large_blocks_come_and_go_with_a_region(void)
{
	struct shmdev_info before, with;
	char *small, *large;

	need_backend();
	small = get(100);
	before = info_now();
	CHECK_EQ(before.regions, 1);
	large = get(MIB + 1);
	with = info_now();
	CHECK_EQ(with.regions, 2);
	CHECK(with.region_bytes >= before.region_bytes + MIB + 1);
	CHECK_EQ(with.blocks, 2);
	CHECK_EQ(with.block_bytes, 100 + MIB + 1);
	shm_free(large);
	CHECK_EQ(info_now().region_bytes, before.region_bytes);
	CHECK_EQ(count_region_mappings(), 1);
	shm_free(small);
}

static void a_burst_is_given_back(void)
{
	enum { NR = 60 };
	char *blocks[NR];
	unsigned int descriptors;

	need_backend();
	info_now();
	descriptors = count_descriptors();
	for (int i = 0; i < NR; i++) {
		blocks[i] = get(MIB);
		blocks[i][MIB - 1] = 1;
	}
	CHECK(info_now().region_bytes >= NR * MIB);
	/* Few regions, not one for each. */
	CHECK(info_now().regions <= 8);
	for (int i = 0; i < NR; i++)
		shm_free(blocks[i]);
	CHECK(info_now().regions <= 1);
	CHECK(info_now().region_bytes <= 32 * MIB);
	CHECK(count_region_mappings() <= 1);
	CHECK(count_descriptors() <= descriptors + 1);
}

/* --- Sharing --------------------------------------------------------------------- */

static void share_finds_the_region(void)
{
	struct shmdev_region *region, *again;
	char *small, *large;
	size_t offset;

	need_backend();
	small = get(1000);
	large = get(3 * MIB);
	memcpy(small + 500, "hello", 6);

	region = shmdev_block_share(small + 500, &offset);
	CHECK(region);
	CHECK_EQ(strcmp((char *)shmdev_region_addr(region) + offset, "hello"), 0);
	CHECK((char *)shmdev_region_addr(region) + offset == small + 500);
	again = shmdev_block_share(small, &offset);
	CHECK(again == region);
	shmdev_region_unref(again);

	again = shmdev_block_share(large + 3 * MIB - 1, &offset);
	CHECK(again && again != region);
	CHECK_EQ(offset, 3 * MIB - 1);
	/* The reference is ours: it outlives the block. */
	large[7] = 7;
	shm_free(large);
	CHECK_EQ(((char *)shmdev_region_addr(again))[7], 7);
	shmdev_region_unref(again);
	shm_free(small);
	shmdev_region_unref(region);
	CHECK_EQ(info_now().regions, 0);
}

static void share_of_no_block_is_enoent(void)
{
	struct shmdev_region *region;
	char *small, *large;
	size_t offset = 1234;
	int on_stack;

	need_backend();
	CHECK_FAILS(shmdev_block_share(&on_stack, &offset), ENOENT);
	CHECK_FAILS(shmdev_block_share(NULL, &offset), ENOENT);
	small = get(100);
	large = get(MIB + 1);
	CHECK_FAILS(shmdev_block_share(small + 100, &offset), ENOENT);
	CHECK_FAILS(shmdev_block_share(small + 4096, &offset), ENOENT);
	CHECK_FAILS(shmdev_block_share(large + MIB + 1, &offset), ENOENT);
	shm_free(laundered(large));
	CHECK_FAILS(shmdev_block_share(large, &offset), ENOENT);
	region = shmdev_region_create(4096, 0);
	CHECK(region);
	CHECK_FAILS(shmdev_block_share(shmdev_region_addr(region), &offset), ENOENT);
	shmdev_region_unref(region);
	CHECK_EQ(offset, 1234);
	shm_free(laundered(small));
	CHECK_FAILS(shmdev_block_share(small, &offset), ENOENT);
}

static void shared_blocks_are_not_reused(void)
{
	struct shmdev_region *region;
	char *anchor, *shared, *block, *seen;
	size_t offset;

	need_backend();
	anchor = get(64);
	shared = get(4096);
	region = shmdev_block_share(shared, &offset);
	CHECK(region);
	strcpy(shared, "a peer may still look at this");
	shm_free(laundered(shared));
	for (int i = 0; i < 2000; i++) {
		block = shmdev_block_alloc(4096, SHMDEV_BLOCK_NOZERO);
		CHECK(block);
		CHECK(block + 4096 <= shared || shared + 4096 <= block);
		if (i % 2)
			shm_free(block);
	}
	seen = peer_view(region, offset, 4096);
	CHECK_EQ(strcmp(seen, "a peer may still look at this"), 0);
	free(seen);
	shmdev_region_unref(region);
	shm_free(anchor);
}

/* --- Bugs of the caller ---------------------------------------------------------- */

static void twice(void *block)
{
	shm_free(laundered(block));
	shm_free(block);
}

static void once(void *block)
{
	shm_free(block);
}

static void check_aborts(void (*body)(void *), void *argument, const char *message)
{
	char said[4096] = "";
	size_t len = 0;
	int pipes[2], status;
	ssize_t got;
	pid_t child;

	CHECK_EQ(pipe(pipes), 0);
	child = fork();
	CHECK(child >= 0);
	if (!child) {
		dup2(pipes[1], STDERR_FILENO);
		body(argument);
		_exit(0);
	}
	close(pipes[1]);
	CHECK_EQ(waitpid(child, &status, 0), child);
	CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT);
	while ((got = read(pipes[0], said + len, sizeof(said) - 1 - len)) > 0)
		len += got;
	CHECK(strstr(said, "shm_free") && strstr(said, message));
	close(pipes[0]);
}

static void wrong_pointers_abort(void)
{
	struct shmdev_region *region;
	char *small, *other, *large, *freed, on_stack[64];

	need_backend();
	small = get(1000);
	other = get(1000);
	large = get(2 * MIB);
	freed = get(5000);
	shm_free(laundered(freed));
	region = shmdev_region_create(4096, 0);
	CHECK(region);

	check_aborts(twice, small, "freed already");
	check_aborts(twice, large, "not from shm_alloc");
	check_aborts(once, freed, "freed already");
	check_aborts(once, small + 1, "not the start of a block");
	check_aborts(once, small + 64, "not the start of a live block");
	check_aborts(once, large + 64, "not the start of a block");
	check_aborts(once, large + 4096, "not the start of a block");
	check_aborts(once, on_stack, "not from shm_alloc");
	check_aborts(once, shmdev_region_addr(region), "not from shm_alloc");
	check_aborts(once, (void *)64, "not from shm_alloc");

	shm_free(laundered(small));
	check_aborts(once, small, "freed already");
	shm_free(other);
	shm_free(large);
	shmdev_region_unref(region);
}

TAP_MAIN(TAP_TEST(blocks_are_aligned_zero_and_apart),
	 TAP_TEST(nonsense_is_refused),
	 TAP_TEST(free_takes_null_and_leaves_errno),
	 TAP_TEST(what_was_freed_last_is_used_first),
	 TAP_TEST(random_blocks_agree_with_a_model),
	 TAP_TEST(threads_free_what_others_allocated),
	 TAP_TEST(pieces_become_whole_again),
	 TAP_TEST(large_blocks_come_and_go_with_a_region),
	 TAP_TEST(a_burst_is_given_back),
	 TAP_TEST(share_finds_the_region),
	 TAP_TEST(share_of_no_block_is_enoent),
	 TAP_TEST(shared_blocks_are_not_reused),
	 TAP_TEST(wrong_pointers_abort))
