// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/*
 * Blocks with options at random, in threads that exchange and resize them and fork, beside a
 * model of them: none overlaps another, what is to be zero is, what was written stays.
 */
#define _GNU_SOURCE
#include <pthread.h>

#include "tap.h"
#include "util.h"

#define KIB	((size_t)1 << 10)
#define MIB	((size_t)1 << 20)

#define THREADS		3
#define SLOTS		120
#define BYTES_MAX	(24 * MIB)
/* Each has a region, which is of a huge page at least. */
#define OWN_MAX		8

struct held {
	char *block;
	size_t size, room;
	uint64_t align;
	uint32_t flags;
	uint32_t seed;
};

struct model {
	struct held held[SLOTS];
	uint32_t random;
	size_t bytes;
	unsigned int own;
	unsigned long refused;		/* for want of huge pages */
	bool child;
	bool shared;			/* with a child, which sees what is written */
	bool forks;
};

/* What all threads have, from the first byte to the last that they may use. */
static struct {
	pthread_mutex_t lock;
	struct range {
		const char *start, *end;
	} ranges[2 * THREADS * SLOTS];
	unsigned int nr;
} all = { .lock = PTHREAD_MUTEX_INITIALIZER };

/* Flags that this backend has something for. */
static uint32_t flags_possible;

static void all_add(const struct held *held)
{
	const char *start = held->block, *end = start + held->room;

	pthread_mutex_lock(&all.lock);
	for (unsigned int i = 0; i < all.nr; i++)
		CHECK(end <= all.ranges[i].start || all.ranges[i].end <= start);
	CHECK(all.nr < sizeof(all.ranges) / sizeof(all.ranges[0]));
	all.ranges[all.nr++] = (struct range){ start, end };
	pthread_mutex_unlock(&all.lock);
}

static void all_remove(const struct held *held)
{
	unsigned int i = 0;

	pthread_mutex_lock(&all.lock);
	while (i < all.nr && all.ranges[i].start != held->block)
		i++;
	CHECK(i < all.nr);
	CHECK(all.ranges[i].end == held->block + held->room);
	all.ranges[i] = all.ranges[--all.nr];
	pthread_mutex_unlock(&all.lock);
}

/* --- One block ------------------------------------------------------------------------- */

/* The whole of a small one, of a large one its ends, and a byte of each page. */
static void mark(struct held *held, uint32_t seed)
{
	held->seed = seed;
	if (held->size <= 16 * KIB) {
		pattern_write(held->block, held->size, seed, 0);
		return;
	}
	pattern_write(held->block, 4 * KIB, seed, 0);
	pattern_write(held->block + held->size - 4 * KIB, 4 * KIB, seed, 1);
	for (size_t at = 4 * KIB; at < held->size - 4 * KIB; at += 4 * KIB)
		held->block[at] = pattern_at(seed, at);
}

/* The first @size bytes of what it was when it had as many as @held says. */
static void check_marked(const struct held *held, size_t size)
{
	if (held->size <= 16 * KIB) {
		CHECK(pattern_is(held->block, size, held->seed, 0));
		return;
	}
	CHECK(pattern_is(held->block, size < 4 * KIB ? size : 4 * KIB, held->seed, 0));
	if (size == held->size)
		CHECK(pattern_is(held->block + size - 4 * KIB, 4 * KIB, held->seed, 1));
	for (size_t at = 4 * KIB; at < size && at < held->size - 4 * KIB; at += 4 * KIB)
		CHECK(held->block[at] == (char)pattern_at(held->seed, at));
}

static size_t size_any(uint32_t *random)
{
	static const size_t below[] = { 300, 9 * KIB, 40 * KIB, 140 * KIB, MIB + 5000, 3 * MIB };
	unsigned int dice = random_below(random, 40);

	return 1 + random_below(random, below[dice < 16 ? 0 : dice < 26 ? 1 : dice < 32 ? 2 :
					      dice < 37 ? 3 : dice < 39 ? 4 : 5]);
}

static void options_any(struct model *model, struct shmdev_block_options *options)
{
	static const uint64_t aligns[] = { 1, 64, 128, 4 * KIB, 8 * KIB, 256 * KIB };
	uint32_t *random = &model->random, flags = 0;

	*options = (struct shmdev_block_options){ 0 };
	if (random_below(random, 3))
		return;
	options->align = random_below(random, 2) ? aligns[random_below(random, 6)] : 0;
	flags |= random_below(random, 2) ? SHMDEV_BLOCK_NOZERO : 0;
	flags |= random_below(random, 5) ? 0 : SHMDEV_BLOCK_OWN;
	flags |= random_below(random, 4) ? 0 : SHMDEV_BLOCK_NODE;
	flags |= random_below(random, 4) ? 0 : SHMDEV_BLOCK_HUGE;
	if (model->own >= OWN_MAX)
		flags &= ~SHMDEV_BLOCK_OWN;
	options->flags = flags & flags_possible;
}

static bool is_own(const struct held *held)
{
	return held->flags & SHMDEV_BLOCK_OWN || held->size > MIB;
}

/* It is where and as large as it was to be; a child has others to look at than its parent. */
static void block_enters(struct model *model, struct held *held)
{
	CHECK((uintptr_t)held->block % SHMDEV_ALIGN == 0);
	CHECK(!held->align || (uintptr_t)held->block % held->align == 0);
	held->room = shmdev_block_usable_size(held->block);
	CHECK(held->room >= held->size);
	model->bytes += held->size;
	model->own += is_own(held);
	if (!model->child)
		all_add(held);
}

static void block_leaves(struct model *model, const struct held *held)
{
	if (!model->child)
		all_remove(held);
	model->bytes -= held->size;
	model->own -= is_own(held);
}

/* --- Steps ----------------------------------------------------------------------------- */

static void step_alloc(struct model *model, struct held *held)
{
	struct shmdev_block_options options;

	options_any(model, &options);
	*held = (struct held){
		.size = size_any(&model->random), .align = options.align, .flags = options.flags,
	};
	if (model->bytes + held->size > BYTES_MAX || (is_own(held) && model->own >= OWN_MAX))
		return;
	held->block = shmdev_block_alloc_with(held->size, &options);
	if (!held->block && options.flags & SHMDEV_BLOCK_HUGE) {
		CHECK_EQ(errno, ENOMEM);
		model->refused++;
		return;
	}
	CHECK(held->block);
	if (!(options.flags & SHMDEV_BLOCK_NOZERO))
		CHECK(is_all(held->block, held->size, 0));
	block_enters(model, held);
	mark(held, random_next(&model->random));
}

static void step_free(struct model *model, struct held *held)
{
	check_marked(held, held->size);
	block_leaves(model, held);
	shm_free(held->block);
	held->block = NULL;
}

static void step_resize(struct model *model, struct held *held)
{
	struct shmdev_block_options options;
	struct held was = *held;
	char *block;

	options_any(model, &options);
	held->size = size_any(&model->random);
	held->align = options.align;
	held->flags = options.flags;
	if (model->bytes + held->size > BYTES_MAX || (is_own(held) && model->own >= OWN_MAX)) {
		*held = was;
		return;
	}
	check_marked(&was, was.size);
	block_leaves(model, &was);
	block = shmdev_block_resize(held->block, held->size, &options);
	if (!block) {
		CHECK(options.flags & SHMDEV_BLOCK_HUGE);
		CHECK_EQ(errno, ENOMEM);
		model->refused++;
		*held = was;
		block_enters(model, held);
		return;
	}
	held->block = block;
	/* What was there is there, for as much as there is of both. */
	was.block = block;
	check_marked(&was, was.size < held->size ? was.size : held->size);
	if (held->size > was.size && !(options.flags & SHMDEV_BLOCK_NOZERO))
		CHECK(is_all(block + was.size, held->size - was.size, 0));
	block_enters(model, held);
	mark(held, random_next(&model->random));
}

static void model_step(struct model *model)
{
	struct held *held = &model->held[random_below(&model->random, SLOTS)];

	if (!held->block)
		step_alloc(model, held);
	else if (random_below(&model->random, 3))
		step_free(model, held);
	else if (!model->shared)
		step_resize(model, held);
}

static void model_end(struct model *model)
{
	for (int i = 0; i < SLOTS; i++)
		if (model->held[i].block)
			step_free(model, &model->held[i]);
	CHECK_EQ(model->bytes, 0);
	CHECK_EQ(model->own, 0);
}

/* --- Threads and processes --------------------------------------------------------------- */

/* A block of one thread becomes another's. */
static struct held mail[32];
static pthread_mutex_t mail_lock = PTHREAD_MUTEX_INITIALIZER;

static void step_mail(struct model *model)
{
	struct held *mine = &model->held[random_below(&model->random, SLOTS)], other;
	struct held *box = &mail[random_below(&model->random, 32)];

	pthread_mutex_lock(&mail_lock);
	other = *mine;
	*mine = *box;
	*box = other;
	pthread_mutex_unlock(&mail_lock);
	if (other.block) {
		model->bytes -= other.size;
		model->own -= is_own(&other);
	}
	if (mine->block) {
		model->bytes += mine->size;
		model->own += is_own(mine);
	}
}

/*
 * The child has what this thread has, by the same addresses, and sees of it what it was, until
 * the end: whatever parent and child free, no one of them has it for another block.
 */
static _Noreturn void child_main(struct model *model)
{
	model->child = true;
	for (int step = 0; step < 300; step++)
		model_step(model);
	model_end(model);
	_exit(0);
}

static void step_fork(struct model *model)
{
	pid_t child;

	model->shared = true;
	child = fork();
	CHECK(child >= 0);
	if (!child)
		child_main(model);
	for (int step = 0; step < 300; step++)
		model_step(model);
	wait_good(child);
	model->shared = false;
}

static void *model_main(void *argument)
{
	struct model *model = argument;
	const int steps = model->forks ? 2000 : 8000;

	for (int step = 0; step < steps; step++) {
		model_step(model);
		if (step % 4 == 0)
			step_mail(model);
		if (model->forks && step % 250 == 249)
			step_fork(model);
	}
	model_end(model);
	return NULL;
}

static void models_run(bool forks, uint32_t seed)
{
	static struct model models[THREADS];
	enum shmdev_backend backend = need_backend();
	const struct shmdev_block_options node = { .flags = SHMDEV_BLOCK_NODE };
	char *block = shmdev_block_alloc_with(100, &node);
	struct model rest = { .random = 1 };
	pthread_t threads[THREADS];
	unsigned long refused = 0;

	flags_possible = SHMDEV_BLOCK_NOZERO | SHMDEV_BLOCK_OWN | SHMDEV_BLOCK_HUGE;
	if (block)
		flags_possible |= SHMDEV_BLOCK_NODE;
	else
		CHECK(errno == EACCES || errno == EOPNOTSUPP);
	shm_free(block);
	for (unsigned int i = 0; i < THREADS; i++) {
		models[i].random = seed + i * 977;
		models[i].forks = forks;
		CHECK_EQ(pthread_create(&threads[i], NULL, model_main, &models[i]), 0);
	}
	for (unsigned int i = 0; i < THREADS; i++) {
		CHECK_EQ(pthread_join(threads[i], NULL), 0);
		refused += models[i].refused;
	}
	for (unsigned int i = 0; i < 32; i++) {
		rest.held[i] = mail[i];
		rest.bytes += mail[i].block ? mail[i].size : 0;
		rest.own += mail[i].block && is_own(&mail[i]);
	}
	model_end(&rest);
	CHECK_EQ(all.nr, 0);
	/* Base pages are refused to who wants huge ones, always. */
	if (backend == SHMDEV_BACKEND_MEMFD || backend == SHMDEV_BACKEND_THP)
		CHECK(refused > 0);
	tap_note("%lu without huge pages", refused);
	CHECK_EQ(info_now().blocks, 0);
	CHECK_EQ(info_now().block_bytes, 0);
	/* One that is kept without a block, and memory for large ones. */
	CHECK(info_now().region_bytes <= 64 * MIB);
}

static void threads_agree_with_a_model(void)
{
	models_run(false, 4711);
}

static void threads_that_fork_agree_with_a_model(void)
{
#ifdef __SANITIZE_ADDRESS__
	tap_skip("of gcc 12, AddressSanitizer's own allocator is locked in a child of threads");
#endif
	models_run(true, 815);
}

TAP_MAIN(TAP_TEST(threads_agree_with_a_model),
	 TAP_TEST(threads_that_fork_agree_with_a_model))
