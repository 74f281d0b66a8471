// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/* Blocks to order: shmdev_block_alloc_aligned(), _with(), _resize(), _usable_size(). */
#define _GNU_SOURCE
#include <pthread.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include "tap.h"
#include "util.h"

#define KIB	((size_t)1 << 10)
#define MIB	((size_t)1 << 20)

static const size_t sizes[] = {
	1, 64, 65, 513, 640, 1000, 4096, 5000, 20000, 32 * KIB, 32 * KIB + 1, 100000,
	400000, MIB, MIB + 1, 3 * MIB,
};

#define NR_SIZES	(sizeof(sizes) / sizeof(sizes[0]))

static bool is_aligned(const void *block, size_t align)
{
	return (uintptr_t)block % align == 0;
}

/* --- Alignment ----------------------------------------------------------------- */

static void alignments_are_kept(void)
{
	char *blocks[NR_SIZES];

	need_backend();
	for (size_t align = 1; align <= 4 * MIB; align *= 2) {
		for (size_t i = 0; i < NR_SIZES; i++) {
			blocks[i] = shmdev_block_alloc_aligned(align, sizes[i]);
			if (!blocks[i] && errno == ENOMEM && sizes[i] > MIB / 2)
				continue;
			CHECK(blocks[i]);
			CHECK(is_aligned(blocks[i], align) && is_aligned(blocks[i], SHMDEV_ALIGN));
			CHECK(is_all(blocks[i], sizes[i], 0));
			memset(blocks[i], i + 1, sizes[i]);
		}
		for (size_t i = 0; i < NR_SIZES; i++) {
			if (!blocks[i])
				continue;
			CHECK(is_all(blocks[i], sizes[i], i + 1));
			shm_free(blocks[i]);
		}
	}
	CHECK_EQ(info_now().blocks, 0);
	CHECK(info_now().regions <= 1);
}

/* Where it costs nothing, up to the most. */
static void the_largest_alignment(void)
{
	enum shmdev_backend backend = need_backend();
	char *block;

	if (backend != SHMDEV_BACKEND_MEMFD && backend != SHMDEV_BACKEND_THP)
		tap_skip("it takes 1 GiB of memory here");
	block = shmdev_block_alloc_aligned(SHMDEV_ALIGN_MAX, 100);
	CHECK(block);
	CHECK(is_aligned(block, SHMDEV_ALIGN_MAX));
	shm_free(block);
	CHECK(info_now().regions <= 1);
}

static void bad_options_are_refused(void)
{
	struct shmdev_block_options bad[] = {
		{ .align = 3 }, { .align = 65 }, { .align = 2 * SHMDEV_ALIGN_MAX },
		{ .align = 1ULL << 63 }, { .align = UINT64_MAX }, { .flags = 1U << 4 },
		{ .flags = 1U << 31 }, { .node = 1 }, { .node = -1 },
		{ .flags = SHMDEV_BLOCK_NODE, .node = -1 },
		{ .flags = SHMDEV_BLOCK_NODE, .node = INT32_MAX },
		{ .flags = SHMDEV_BLOCK_NODE | SHMDEV_BLOCK_OWN, .node = 1000 },
		{ .reserved = { 1 } }, { .reserved = { 0, 0, 0, 0, 0, 1 } },
	};
	char *block;

	need_backend();
	block = shm_alloc(100);
	CHECK(block);
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		CHECK_FAILS(shmdev_block_alloc_with(100, &bad[i]), EINVAL);
		CHECK_FAILS(shmdev_block_resize(block, 200000, &bad[i]), EINVAL);
		CHECK_FAILS(shmdev_block_resize(NULL, 100, &bad[i]), EINVAL);
	}
	/* The compiler, which would tell, does not know them. */
	for (volatile size_t align = 0; align <= 48; align += 48)
		CHECK_FAILS(shmdev_block_alloc_aligned(align, 100), EINVAL);
	CHECK_FAILS(shmdev_block_alloc_aligned(64, 0), EINVAL);
	CHECK_FAILS(shmdev_block_alloc_with(0, NULL), EINVAL);
	CHECK_FAILS(shmdev_block_resize(block, 0, NULL), EINVAL);
	CHECK_FAILS(shmdev_block_resize(NULL, 0, NULL), EINVAL);
	for (unsigned int flag = 1; flag < 32; flag++)
		CHECK_FAILS(shmdev_block_alloc(100, 1U << flag), EINVAL);
	for (volatile size_t size = SIZE_MAX; size > (size_t)1 << 47; size /= 2) {
		int error = size > SIZE_MAX / 4 ? ENOMEM : errno_without_room();

		CHECK_FAILS(shmdev_block_alloc_aligned(SHMDEV_ALIGN_MAX, size), error);
		CHECK_FAILS(shmdev_block_resize(block, size, NULL), error);
	}
	CHECK_EQ(info_now().blocks, 1);
	shm_free(block);
}

/* --- Regions of their own, nodes, huge pages ------------------------------------- */

static void own_regions_are_shared_with_nothing(void)
{
	const struct shmdev_block_options own = { .flags = SHMDEV_BLOCK_OWN };
	struct shmdev_region *region;
	char *blocks[3], *other, *seen;
	size_t offset;

	need_backend();
	other = shm_alloc(64);
	CHECK(other);
	for (int i = 0; i < 3; i++) {
		blocks[i] = shmdev_block_alloc_with(100, &own);
		CHECK(blocks[i]);
		CHECK_EQ(info_now().regions, i + 2);
		region = shmdev_block_share(blocks[i], &offset);
		CHECK(region);
		CHECK_EQ(offset, 0);
		seen = peer_view(region, 0, shmdev_region_size(region));
		CHECK(is_all(seen, shmdev_region_size(region), 0));
		free(seen);
		shmdev_region_unref(region);
	}
	for (int i = 0; i < 3; i++)
		shm_free(blocks[i]);
	CHECK_EQ(info_now().regions, 1);
	shm_free(other);
}

static void nodes_are_asked_for(void)
{
	struct shmdev_block_options options = { .flags = SHMDEV_BLOCK_NODE };
	char *blocks[40], *large, *plain;

	need_backend();
	plain = shm_alloc(1000);
	CHECK(plain);
	for (int i = 0; i < 40; i++) {
		blocks[i] = shmdev_block_alloc_with(100 + i * 1000, &options);
		if (!blocks[i] && (errno == EACCES || errno == EOPNOTSUPP))
			tap_skip("the kernel takes no memory policy here");
		CHECK(blocks[i]);
		memset(blocks[i], i + 1, 100 + i * 1000);
	}
	/* They have a region for themselves, all of them one. */
	CHECK_EQ(info_now().regions, 2);
	options.flags |= SHMDEV_BLOCK_OWN;
	large = shmdev_block_alloc_with(MIB, &options);
	CHECK(large);
	CHECK_EQ(info_now().regions, 3);
	for (int i = 0; i < 40; i++) {
		CHECK(is_all(blocks[i], 100 + i * 1000, i + 1));
		shm_free(blocks[i]);
	}
	CHECK_EQ(info_now().regions, 2);
	shm_free(large);
	shm_free(plain);
	CHECK(info_now().regions <= 1);
}

static void huge_pages_or_none(void)
{
	const struct shmdev_block_options huge = { .flags = SHMDEV_BLOCK_HUGE };
	enum shmdev_backend backend = need_backend();
	struct shmdev_region *region;
	size_t offset;
	char *block;

	block = shmdev_block_alloc_with(1000, &huge);
	if (backend == SHMDEV_BACKEND_THP || backend == SHMDEV_BACKEND_MEMFD) {
		CHECK(!block);
		CHECK_EQ(errno, ENOMEM);
		return;
	}
	if (!block && errno == ENOMEM)
		tap_skip("no huge page is free");
	CHECK(block);
	region = shmdev_block_share(block, &offset);
	CHECK(region);
	CHECK_EQ(shmdev_region_page_size(region), 2 * MIB);
	shmdev_region_unref(region);
	shm_free(block);
}

/* --- Resize ------------------------------------------------------------------------ */

static void resized_blocks_keep_what_they_have(void)
{
	char *block;

	need_backend();
	for (size_t i = 0; i < NR_SIZES; i++) {
		for (size_t j = 0; j < NR_SIZES; j++) {
			size_t old = sizes[i], size = sizes[j], kept = old < size ? old : size;

			block = shm_alloc(old);
			CHECK(block);
			memset(block, 0x5a, old);
			block = shmdev_block_resize(block, size, NULL);
			CHECK(block);
			CHECK(is_aligned(block, SHMDEV_ALIGN));
			CHECK(is_all(block, kept, 0x5a));
			CHECK(is_all(block + kept, size - kept, 0));
			CHECK_EQ(info_now().blocks, 1);
			CHECK_EQ(info_now().block_bytes, size);
			/* And there and back again. */
			memset(block, 0x5b, size);
			block = shmdev_block_resize(block, old, NULL);
			CHECK(block);
			block = shmdev_block_resize(block, size, NULL);
			CHECK(block);
			CHECK(is_all(block, kept, 0x5b));
			CHECK(is_all(block + kept, size - kept, 0));
			shm_free(block);
		}
	}
	CHECK(info_now().regions <= 1);
}

static void a_block_grows_byte_by_byte(void)
{
	char *block = NULL, *other = NULL;

	need_backend();
	for (size_t size = 1; size < 3 * MIB; size += 1 + size / 7) {
		size_t old = size == 1 ? 0 : (size - 1) * 7 / 8;

		block = shmdev_block_resize(block, size, NULL);
		CHECK(block);
		(void)old;
		for (size_t at = size; at-- > 0 && !block[at];)
			block[at] = 0x77;
		CHECK(is_all(block, size, 0x77));
		/* Something that is in the way. */
		if (size % 3 == 0) {
			shm_free(other);
			other = shm_alloc(size);
			CHECK(other);
			memset(other, 0x33, size);
		}
	}
	shm_free(block);
	shm_free(other);
	CHECK_EQ(info_now().blocks, 0);
}

static void usable_size_is_what_can_be_had(void)
{
	char *block, *resized;
	size_t usable;

	need_backend();
	CHECK_EQ(shmdev_block_usable_size(NULL), 0);
	for (size_t i = 0; i < NR_SIZES; i++) {
		block = shm_alloc(sizes[i]);
		CHECK(block);
		memset(block, 1, sizes[i]);
		usable = shmdev_block_usable_size(block);
		CHECK(usable >= sizes[i]);
		resized = shmdev_block_resize(block, usable, NULL);
		CHECK(resized == laundered(block));
		CHECK(is_all(resized, sizes[i], 1));
		CHECK(is_all(resized + sizes[i], usable - sizes[i], 0));
		CHECK_EQ(shmdev_block_usable_size(resized), usable);
		memset(resized, 2, usable);
		shm_free(resized);
	}
}

static void resizing_heeds_the_options(void)
{
	const struct shmdev_block_options page = { .align = 4096 };
	const struct shmdev_block_options own = { .flags = SHMDEV_BLOCK_OWN };
	const struct shmdev_block_options dirty = { .flags = SHMDEV_BLOCK_NOZERO };
	char *block, *moved;
	uint64_t regions;

	need_backend();
	shm_free(shm_alloc(64));
	block = shm_alloc(64);
	while (block && is_aligned(block, 4096))
		block = shm_alloc(64);
	CHECK(block);
	memset(block, 9, 64);
	regions = info_now().regions;
	moved = shmdev_block_resize(block, 64, &page);
	CHECK(moved && is_aligned(moved, 4096) && is_all(moved, 64, 9));
	moved = shmdev_block_resize(moved, 60, &own);
	CHECK(moved && is_all(moved, 60, 9));
	CHECK_EQ(info_now().regions, regions + 1);
	moved = shmdev_block_resize(moved, 100, &dirty);
	CHECK(moved && is_all(moved, 60, 9));
	shm_free(moved);
}

static void what_others_know_stays_as_it_was(void)
{
	/* Else it could grow where it is. */
	const struct shmdev_block_options own = { .flags = SHMDEV_BLOCK_OWN };
	struct shmdev_region *region;
	char *block, *moved, *theirs;
	size_t offset;

	need_backend();
	for (size_t i = 0; i < NR_SIZES; i++) {
		block = shm_alloc(sizes[i]);
		CHECK(block);
		memset(block, 4, sizes[i]);
		region = shmdev_block_share(block, &offset);
		CHECK(region);
		theirs = (char *)shmdev_region_addr(region) + offset;
		moved = shmdev_block_resize(block, 8 * MIB, &own);
		CHECK(moved && moved != theirs);
		memset(moved, 5, 8 * MIB);
		CHECK(is_all(theirs, sizes[i], 4));
		shm_free(moved);
		shmdev_region_unref(region);
	}
}

/* --- Few descriptors ----------------------------------------------------------------- */

static void many_blocks_take_few_descriptors(void)
{
	enum shmdev_backend backend = need_backend();
	const size_t most = backend == SHMDEV_BACKEND_MEMFD || backend == SHMDEV_BACKEND_THP ?
			    6 * MIB : 64 * KIB;
	struct rlimit limit;
	static char *blocks[5000];
	static size_t lengths[5000];
	uint32_t random = 4711;

	/* Valgrind has no other hard limit than the one it began with. */
	CHECK_EQ(getrlimit(RLIMIT_NOFILE, &limit), 0);
	limit.rlim_cur = 64;
	CHECK_EQ(setrlimit(RLIMIT_NOFILE, &limit), 0);
	for (int i = 0; i < 5000; i++) {
		lengths[i] = 1 + random_below(&random, 1 + random_below(&random, most));
		blocks[i] = shm_alloc(lengths[i]);
		CHECK(blocks[i]);
		blocks[i][0] = blocks[i][lengths[i] - 1] = i % 100 + 1;
	}
	tap_note("%llu regions of %llu MiB", (unsigned long long)info_now().regions,
		 (unsigned long long)info_now().region_bytes / MIB);
	for (int i = 0; i < 5000; i++) {
		CHECK_EQ(blocks[i][0], i % 100 + 1);
		CHECK_EQ(blocks[i][lengths[i] - 1], i % 100 + 1);
		shm_free(blocks[i]);
	}
	CHECK_EQ(info_now().blocks, 0);
	CHECK(info_now().regions <= 1);
}

/* --- Memory goes back ------------------------------------------------------------------ */

static size_t resident(void)
{
	size_t pages = 0, shared = 0;
	FILE *file = fopen("/proc/self/statm", "re");

	CHECK(file);
	CHECK_EQ(fscanf(file, "%*u %*u %zu", &shared), 1);
	fclose(file);
	(void)pages;
	return shared * sysconf(_SC_PAGESIZE);
}

/* A block pins the region, and all else was freed. */
static void memory_of_a_burst_goes_back_though_a_block_stays(void)
{
	enum { NR = 100 };
	enum shmdev_backend backend = need_backend();
	char *blocks[NR], *anchor = NULL;
	size_t before, full, after;

	if (backend != SHMDEV_BACKEND_MEMFD)
		tap_skip("memory is not given back in such parts");
	before = resident();
	for (int i = 0; i < NR; i++) {
		blocks[i] = shm_alloc(900 * KIB);
		CHECK(blocks[i]);
		memset(blocks[i], 1, 900 * KIB);
		if (i == NR / 2)
			anchor = shm_alloc(40000);
	}
	CHECK(anchor);
	full = resident();
	CHECK(full - before > 85 * MIB);
	for (int i = 0; i < NR; i++)
		shm_free(blocks[i]);
	after = resident();
	tap_note("MiB resident: %zu, %zu with the burst, %zu after", before / MIB, full / MIB,
		 after / MIB);
	CHECK(after - before < 16 * MIB);
	/* And what comes of it is zero. */
	for (int i = 0; i < NR; i++) {
		blocks[i] = shm_alloc(900 * KIB);
		CHECK(blocks[i] && is_all(blocks[i], 900 * KIB, 0));
	}
	for (int i = 0; i < NR; i++)
		shm_free(blocks[i]);
	shm_free(anchor);
}

/* --- Bugs of the caller ------------------------------------------------------------------ */

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
	while ((got = read(pipes[0], said + len, sizeof(said) - 1 - len)) > 0)
		len += got;
	CHECK_EQ(waitpid(child, &status, 0), child);
	CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT);
	CHECK(strstr(said, message));
	close(pipes[0]);
}

static void resize_it(void *block)
{
	CHECK(shmdev_block_resize(block, 100, NULL));
}

static void measure_it(void *block)
{
	CHECK(shmdev_block_usable_size(block));
}

static void free_twice(void *size)
{
	char *block = shm_alloc((uintptr_t)size);

	shm_free(laundered(block));
	shm_free(block);
}

static void *free_it(void *block)
{
	shm_free(laundered(block));
	return NULL;
}

/* What another thread freed, before its owner noticed, and after. */
static void free_after_another_thread(void *size)
{
	char *block = shm_alloc((uintptr_t)size);
	pthread_t thread;

	CHECK_EQ(pthread_create(&thread, NULL, free_it, block), 0);
	CHECK_EQ(pthread_join(thread, NULL), 0);
	shm_free(block);
}

static void free_in_another_thread(void *size)
{
	char *block = shm_alloc((uintptr_t)size);
	pthread_t thread;

	shm_free(laundered(block));
	CHECK_EQ(pthread_create(&thread, NULL, free_it, block), 0);
	CHECK_EQ(pthread_join(thread, NULL), 0);
}

static void bugs_are_caught(void)
{
	char *block, *freed, on_stack[64];

	need_backend();
	block = shm_alloc(1000);
	freed = shm_alloc(1000);
	CHECK(block && freed);
	shm_free(laundered(freed));
	check_aborts(resize_it, freed, "freed already");
	check_aborts(resize_it, block + 64, "not the start of a live block");
	check_aborts(resize_it, on_stack, "not from shm_alloc");
	check_aborts(measure_it, freed, "freed already");
	check_aborts(measure_it, block + 1, "not the start of a block");
	/* Beyond what an address can be, and where our pages would be if it were cut off. */
	check_aborts(measure_it, (void *)((uintptr_t)block | 1ULL << 60), "not from shm_alloc");
	check_aborts(measure_it, (void *)UINTPTR_MAX, "not from shm_alloc");
	for (size_t i = 0; i < NR_SIZES; i++) {
		bool own = sizes[i] > MIB;

		check_aborts(free_twice, (void *)sizes[i], own ? "not from shm_alloc" :
								 "freed already");
		check_aborts(free_after_another_thread, (void *)sizes[i],
			     own ? "not from shm_alloc" : "freed already");
		check_aborts(free_in_another_thread, (void *)sizes[i],
			     own ? "not from shm_alloc" : "freed already");
	}
	shm_free(block);
}

TAP_MAIN(TAP_TEST(alignments_are_kept),
	 TAP_TEST(the_largest_alignment),
	 TAP_TEST(bad_options_are_refused),
	 TAP_TEST(own_regions_are_shared_with_nothing),
	 TAP_TEST(nodes_are_asked_for),
	 TAP_TEST(huge_pages_or_none),
	 TAP_TEST(resized_blocks_keep_what_they_have),
	 TAP_TEST(a_block_grows_byte_by_byte),
	 TAP_TEST(usable_size_is_what_can_be_had),
	 TAP_TEST(resizing_heeds_the_options),
	 TAP_TEST(what_others_know_stays_as_it_was),
	 TAP_TEST(many_blocks_take_few_descriptors),
	 TAP_TEST(memory_of_a_burst_goes_back_though_a_block_stays),
	 TAP_TEST(bugs_are_caught))
