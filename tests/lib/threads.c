// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/* What threads keep of the heap for themselves, and when it goes back. */
#define _GNU_SOURCE
#include <pthread.h>
#include <sys/resource.h>

#include "tap.h"
#include "util.h"

#define MIB	((size_t)1 << 20)

/* Kept without a block; at most one region is. */
#define STAYS	(32 * MIB)

/* A thread that does what it is told, and lives until it is ended. */
struct worker {
	pthread_t thread;
	pthread_barrier_t barrier;
	void (*job)(void *);
	void *argument;
};

static void *work(void *argument)
{
	struct worker *worker = argument;

	for (;;) {
		pthread_barrier_wait(&worker->barrier);
		if (!worker->job)
			return NULL;
		worker->job(worker->argument);
		pthread_barrier_wait(&worker->barrier);
	}
}

static void worker_start(struct worker *worker)
{
	CHECK_EQ(pthread_barrier_init(&worker->barrier, NULL, 2), 0);
	CHECK_EQ(pthread_create(&worker->thread, NULL, work, worker), 0);
}

static void worker_do(struct worker *worker, void (*job)(void *), void *argument)
{
	worker->job = job;
	worker->argument = argument;
	pthread_barrier_wait(&worker->barrier);
	pthread_barrier_wait(&worker->barrier);
}

static void worker_end(struct worker *worker)
{
	worker->job = NULL;
	pthread_barrier_wait(&worker->barrier);
	CHECK_EQ(pthread_join(worker->thread, NULL), 0);
	pthread_barrier_destroy(&worker->barrier);
}

/* --- Blocks of some pages ------------------------------------------------------------- */

#define RUN	((size_t)64 << 10)

struct blocks {
	char *at[16];
	unsigned int nr;
	size_t size;
};

static void blocks_get(void *argument)
{
	struct blocks *blocks = argument;

	for (unsigned int i = 0; i < blocks->nr; i++) {
		blocks->at[i] = shm_alloc(blocks->size);
		CHECK(blocks->at[i] && is_all(blocks->at[i], blocks->size, 0));
		memset(blocks->at[i], 0x5a, blocks->size);
	}
}

static void blocks_free(void *argument)
{
	struct blocks *blocks = argument;

	for (unsigned int i = 0; i < blocks->nr; i++)
		shm_free(laundered(blocks->at[i]));
}

static void blocks_get_and_free(void *argument)
{
	blocks_get(argument);
	blocks_free(argument);
}

static bool overlap(const char *block, size_t size, const struct blocks *blocks)
{
	for (unsigned int i = 0; i < blocks->nr; i++)
		if (block < blocks->at[i] + blocks->size && blocks->at[i] < block + size)
			return true;
	return false;
}

/* As long as it lives, what a thread has freed last is for itself; it is cleared all the same. */
static void a_thread_has_its_own_again(void)
{
	struct blocks theirs = { .nr = 4, .size = RUN }, mine = { .nr = 4, .size = RUN };
	struct worker worker;

	need_backend();
	worker_start(&worker);
	worker_do(&worker, blocks_get, &theirs);
	blocks_get(&mine);
	blocks_free(&mine);
	worker_do(&worker, blocks_free, &theirs);
	for (int round = 0; round < 3; round++) {
		struct blocks again = { .nr = 4, .size = RUN - round };

		worker_do(&worker, blocks_get, &again);
		for (unsigned int i = 0; i < 4; i++) {
			CHECK(overlap(again.at[i], RUN, &theirs));
			CHECK(!overlap(again.at[i], RUN, &mine));
		}
		worker_do(&worker, blocks_free, &again);
	}
	CHECK_EQ(info_now().blocks, 0);
	worker_end(&worker);
}

static void when_it_ends_all_goes_back(void)
{
	static const size_t sizes[] = { 64, 1000, 8192, 32768, RUN, 2 * RUN };
	struct worker worker;
	char *anchor;

	need_backend();
	anchor = shm_alloc(1);
	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		struct blocks theirs = { .nr = 8, .size = sizes[i] };
		char *block;

		/* Alone in what the region has left, to be found again. */
		worker_start(&worker);
		worker_do(&worker, blocks_get_and_free, &theirs);
		worker_end(&worker);
		/* Of pages, as that goes back to whoever is the next to want any. */
		block = shm_alloc(8 * RUN);
		CHECK(block);
		CHECK(overlap(block, 8 * RUN, &theirs));
		shm_free(block);
		CHECK_EQ(info_now().regions, 1);
	}
	shm_free(anchor);
}

/* A region does not stay for what a thread that lives keeps of it. */
static void what_is_kept_keeps_no_region(void)
{
	enum { NR = 140 };
	static char *fillers[NR];
	struct blocks theirs[NR / 20];
	struct worker worker;
	unsigned int nr = 0;

	need_backend();
	worker_start(&worker);
	for (int i = 0; i < NR; i++) {
		fillers[i] = shm_alloc(MIB / 2);
		CHECK(fillers[i]);
		if (i % 20)
			continue;
		theirs[nr] = (struct blocks){ .nr = 1, .size = RUN };
		worker_do(&worker, blocks_get, &theirs[nr++]);
	}
	CHECK(info_now().regions > 1);
	for (unsigned int i = 0; i < nr; i++)
		worker_do(&worker, blocks_free, &theirs[i]);
	for (int i = 0; i < NR; i++)
		shm_free(fillers[i]);
	CHECK_EQ(info_now().blocks, 0);
	CHECK(info_now().regions <= 1);
	CHECK(info_now().region_bytes <= STAYS);
	worker_end(&worker);
}

/* Nor does another thread go without, where there is no region to be had any more. */
static void what_is_kept_is_not_missed(void)
{
	struct blocks theirs = { .nr = 8, .size = RUN };
	struct rlimit before, limit;
	struct worker worker;
	bool found = false;
	char *block;

	need_backend();
	worker_start(&worker);
	worker_do(&worker, blocks_get_and_free, &theirs);
	CHECK_EQ(info_now().regions, 1);
	CHECK_EQ(getrlimit(RLIMIT_NOFILE, &before), 0);
	limit = before;
	limit.rlim_cur = count_descriptors();
	CHECK_EQ(setrlimit(RLIMIT_NOFILE, &limit), 0);
	while ((block = shm_alloc(RUN)))
		found |= overlap(block, RUN, &theirs);
	CHECK(errno == EMFILE);
	CHECK(found);
	CHECK_EQ(setrlimit(RLIMIT_NOFILE, &before), 0);
	worker_end(&worker);
}

/* --- Bugs of the caller ------------------------------------------------------------------ */

static void free_quietly(void *argument)
{
	CHECK(freopen("/dev/null", "w", stderr));
	shm_free(argument);
}

static void what_is_kept_cannot_be_freed(void)
{
	struct blocks theirs = { .nr = 1, .size = RUN };
	struct worker worker;
	int status;

	need_backend();
	worker_start(&worker);
	worker_do(&worker, blocks_get_and_free, &theirs);
	status = in_child(free_quietly, theirs.at[0]);
	CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT);
	worker_end(&worker);
	status = in_child(free_quietly, theirs.at[0]);
	CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT);
}

/* --- With forks -------------------------------------------------------------------------- */

static bool stopping;		/* atomic */

static void exchange(void *argument)
{
	static const size_t sizes[] = { 100, 9000, 20000, RUN, RUN + 5000 };
	uint32_t random = (uintptr_t)argument;
	char *blocks[24] = { NULL };
	size_t size[24];

	while (!__atomic_load_n(&stopping, __ATOMIC_RELAXED)) {
		unsigned int i = random_below(&random, 24);

		if (blocks[i]) {
			CHECK(is_all(blocks[i], size[i], (unsigned char)(uintptr_t)argument));
			shm_free(blocks[i]);
		}
		size[i] = sizes[random_below(&random, 5)];
		blocks[i] = shm_alloc(size[i]);
		CHECK(blocks[i] && is_all(blocks[i], size[i], 0));
		memset(blocks[i], (uintptr_t)argument, size[i]);
	}
	for (unsigned int i = 0; i < 24; i++)
		shm_free(blocks[i]);
}

static void *exchange_main(void *argument)
{
	exchange(argument);
	return NULL;
}

/* What a child has seen of a thread's block is not written to by whoever has it next. */
static void forks_do_not_stop_them_for_good(void)
{
	pthread_t threads[3];
	char *mine;

	need_backend();
	mine = shm_alloc(RUN);
	CHECK(mine);
	memset(mine, 0x77, RUN);
	for (uintptr_t i = 0; i < 3; i++)
		CHECK_EQ(pthread_create(&threads[i], NULL, exchange_main, (void *)(i + 1)), 0);
	for (int round = 0; round < 60; round++) {
		pid_t child;

		fflush(stdout);
		child = fork();
		CHECK(child >= 0);
		if (!child) {
			char *block = shm_alloc(RUN);

			if (!block || !is_all(block, RUN, 0) || !is_all(mine, RUN, 0x77))
				_exit(1);
			shm_free(block);
			shm_free(mine);
			_exit(0);
		}
		wait_good(child);
	}
	__atomic_store_n(&stopping, true, __ATOMIC_RELAXED);
	for (int i = 0; i < 3; i++)
		CHECK_EQ(pthread_join(threads[i], NULL), 0);
	shm_free(mine);
	CHECK_EQ(info_now().blocks, 0);
	CHECK(info_now().regions <= 1);
}

TAP_MAIN(TAP_TEST(a_thread_has_its_own_again),
	 TAP_TEST(when_it_ends_all_goes_back),
	 TAP_TEST(what_is_kept_keeps_no_region),
	 TAP_TEST(what_is_kept_is_not_missed),
	 TAP_TEST(what_is_kept_cannot_be_freed),
	 TAP_TEST(forks_do_not_stop_them_for_good))
