// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/*
 * What it takes to allocate and free, zeroing included: a tool of
 * tests/bench/bench_alloc.py.  "calloc" is of whatever library is preloaded.
 *
 * Reads lines "<shm|calloc> <way> <number> <threads>" and answers each with the time of one
 * run, which is of one alloc() and one free(), by the clock and by that of the processors.
 */
#define _GNU_SOURCE
#include <pthread.h>
#include <shmdev.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/wait.h>

#include "tool.h"

struct allocator {
	const char *name;
	void *(*alloc)(size_t size);
	void (*free)(void *block);
};

static void *calloc_alloc(size_t size)
{
	return calloc(1, size);
}

static const struct allocator allocators[] = {
	{ "shm", shm_alloc, shm_free },
	{ "calloc", calloc_alloc, free },
};

static uint32_t random_next(uint32_t *state)
{
	*state ^= *state << 13;
	*state ^= *state >> 17;
	*state ^= *state << 5;
	return *state;
}

/* --- Speed -------------------------------------------------------------------------- */

#define LIVE_MAX	1024
#define LIVE_BYTES	((size_t)4 << 20)
#define THREADS_MAX	16

static struct {
	const struct allocator *allocator;
	size_t size;
	unsigned int runs;
	unsigned int threads;
	pthread_barrier_t barrier;
	unsigned int failures;		/* atomic */
	double start[THREADS_MAX], end[THREADS_MAX];
	double processor[THREADS_MAX];
} job;

/* Written to, as it would be. */
static inline void *get(void)
{
	char *block = job.allocator->alloc(job.size);

	if (!block)
		__atomic_add_fetch(&job.failures, 1, __ATOMIC_RELAXED);
	else
		*(volatile char *)block = 1;
	return block;
}

/* The same block over and over. */
static void pair_run(void *blocks[], unsigned int live)
{
	(void)blocks, (void)live;
	for (unsigned int i = 0; i < job.runs; i++)
		job.allocator->free(get());
}

/* One of many is exchanged, at random. */
static void churn_run(void *blocks[], unsigned int live)
{
	uint32_t random = 4711;

	for (unsigned int i = 0; i < job.runs; i++) {
		void **block = &blocks[(uint64_t)random_next(&random) * live >> 32];

		job.allocator->free(*block);
		*block = get();
	}
}

/* As many as there may be, and all of them freed, the first one first. */
static void burst_run(void *blocks[], unsigned int live)
{
	for (unsigned int i = 0; i < job.runs; i += live) {
		for (unsigned int j = 0; j < live; j++)
			blocks[j] = get();
		for (unsigned int j = 0; j < live; j++)
			job.allocator->free(blocks[j]);
	}
	memset(blocks, 0, live * sizeof(*blocks));
}

/* Blocks of one thread are freed by another, a slot each. */
static void *mail[LIVE_MAX];

static void mail_run(void *blocks[], unsigned int live)
{
	uint32_t random = (uintptr_t)&blocks;

	random |= 1;
	for (unsigned int i = 0; i < job.runs; i++) {
		void **box = &mail[(uint64_t)random_next(&random) * live >> 32];

		job.allocator->free(__atomic_exchange_n(box, get(), __ATOMIC_ACQ_REL));
	}
}

static const struct way {
	const char *name;
	void (*run)(void *blocks[], unsigned int live);
} ways[] = {
	{ "pair", pair_run }, { "churn", churn_run }, { "burst", burst_run },
	{ "mail", mail_run },
};

static const struct way *chosen;

/* Seconds that this thread had a processor, which others may want, too. */
static double processor_now(void)
{
	struct timespec time;

	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
	return time.tv_sec + time.tv_nsec / 1e9;
}

static void *thread_main(void *argument)
{
	unsigned int thread = (uintptr_t)argument;
	void *blocks[LIVE_MAX] = { NULL };
	unsigned int live = LIVE_BYTES / job.size;

	if (live > LIVE_MAX)
		live = LIVE_MAX;
	if (chosen->run == churn_run)
		for (unsigned int i = 0; i < live; i++)
			blocks[i] = get();
	pthread_barrier_wait(&job.barrier);
	job.start[thread] = now();
	job.processor[thread] = -processor_now();
	chosen->run(blocks, live);
	job.processor[thread] += processor_now();
	job.end[thread] = now();
	pthread_barrier_wait(&job.barrier);
	for (unsigned int i = 0; i < live; i++)
		job.allocator->free(blocks[i]);
	return NULL;
}

static int measure_speed(const struct way *way)
{
	pthread_t threads[THREADS_MAX];
	double start, end, processor = 0;

	/* Some milliseconds, and for a burst at least one of them. */
	job.runs = 200000000 / (1000 + job.size);
	job.failures = 0;
	chosen = way;
	if (!job.size || job.size > LIVE_BYTES || !job.threads || job.threads > THREADS_MAX)
		return -EINVAL;
	pthread_barrier_init(&job.barrier, NULL, job.threads);
	for (uintptr_t i = 0; i < job.threads; i++)
		if (pthread_create(&threads[i], NULL, thread_main, (void *)i))
			exit(1);
	for (unsigned int i = 0; i < job.threads; i++)
		pthread_join(threads[i], NULL);
	pthread_barrier_destroy(&job.barrier);
	start = job.start[0];
	end = job.end[0];
	for (unsigned int i = 1; i < job.threads; i++) {
		start = job.start[i] < start ? job.start[i] : start;
		end = job.end[i] > end ? job.end[i] : end;
	}
	for (unsigned int i = 0; i < LIVE_MAX; i++) {
		job.allocator->free(mail[i]);
		mail[i] = NULL;
	}
	if (job.failures)
		return -ENOMEM;
	for (unsigned int i = 0; i < job.threads; i++)
		processor += job.processor[i];
	printf("seconds=%.12f processor=%.12f\n", (end - start) / job.runs,
	       processor / job.threads / job.runs);
	return 0;
}

/* --- Memory -------------------------------------------------------------------------- */

static size_t status_bytes(const char *key)
{
	FILE *file = fopen("/proc/self/status", "r");
	char line[256];
	size_t kib = 0;

	while (file && fgets(line, sizeof(line), file))
		if (!strncmp(line, key, strlen(key)))
			sscanf(line + strlen(key), ": %zu", &kib);
	if (file)
		fclose(file);
	return kib << 10;
}

/* Evenly in powers of two from 16 bytes to 64 KiB; some larger ones. */
static size_t mixed_size(uint32_t *random)
{
	unsigned int log2 = random_next(random) % 256 ? 4 + random_next(random) % 12 :
							16 + random_next(random) % 4;

	return (1UL << log2) + random_next(random) % (1UL << log2);
}

struct held {
	char *block;
	size_t size;
};

static void exchange(const struct allocator *allocator, struct held *held, uint32_t *random,
		     size_t *payload)
{
	*payload -= held->size;
	allocator->free(held->block);
	held->size = mixed_size(random);
	held->block = allocator->alloc(held->size);
	if (!held->block)
		_exit(1);
	memset(held->block, 1, held->size);
	*payload += held->size;
}

/*
 * In a process of its own: blocks of mixed sizes, exchanged many times; how much memory the
 * process ever had for how much was in them.  And how much stays when all are freed, and
 * when all but each 64th of them are.
 */
static _Noreturn void mixed_main(const struct allocator *allocator, size_t target)
{
	unsigned int nr = target / 7400;	/* the average */
	struct held *held = mmap(NULL, nr * sizeof(*held), PROT_READ | PROT_WRITE,
				 MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
	size_t payload = 0, most = 0, before, peak, few, few_payload;
	uint32_t random = 12345;
	double start;

	if (held == MAP_FAILED)
		_exit(1);
	before = status_bytes("VmRSS");
	start = now();
	for (unsigned int i = 0; i < nr; i++)
		exchange(allocator, &held[i], &random, &payload);
	for (unsigned int i = 0; i < 4 * nr; i++) {
		exchange(allocator, &held[random_next(&random) % nr], &random, &payload);
		if (payload > most)
			most = payload;
	}
	start = (now() - start) / (5 * nr);
	peak = status_bytes("VmHWM");
	for (unsigned int i = 0; i < nr; i++) {
		if (i % 64 == 0)
			continue;
		payload -= held[i].size;
		allocator->free(held[i].block);
	}
	few = status_bytes("VmRSS");
	few_payload = payload;
	for (unsigned int i = 0; i < nr; i += 64)
		allocator->free(held[i].block);
	printf("seconds=%.12f payload=%zu peak=%zu few_payload=%zu few=%zu none=%zu\n", start, most,
	       peak - before, few_payload, few - before, status_bytes("VmRSS") - before);
	fflush(stdout);
	_exit(0);
}

static int measure_mixed(const struct allocator *allocator, size_t target)
{
	int status;
	pid_t child = fork();

	if (child < 0)
		return -errno;
	if (!child)
		mixed_main(allocator, target);
	if (waitpid(child, &status, 0) != child || status)
		return -ENOMEM;
	return 0;
}

/* ------------------------------------------------------------------------------------- */

static int measure(const char *allocator, const char *way, size_t number, unsigned int threads)
{
	for (size_t i = 0; i < sizeof(allocators) / sizeof(*allocators); i++) {
		if (strcmp(allocators[i].name, allocator))
			continue;
		if (!strcmp(way, "mixed"))
			return measure_mixed(&allocators[i], number);
		job.allocator = &allocators[i];
		job.size = number;
		job.threads = threads;
		for (size_t j = 0; j < sizeof(ways) / sizeof(*ways); j++)
			if (!strcmp(ways[j].name, way))
				return measure_speed(&ways[j]);
	}
	return -EINVAL;
}

int main(void)
{
	char line[128], allocator[32], way[32];
	unsigned long number;
	unsigned int threads;

	setvbuf(stdout, NULL, _IOLBF, 0);
	while (fgets(line, sizeof(line), stdin)) {
		int err = sscanf(line, "%31s %31s %lu %u", allocator, way, &number,
				 &threads) == 4 ? measure(allocator, way, number, threads) :
						  -EINVAL;

		if (err)
			printf("unavailable %s\n", strerror(-err));
	}
	return 0;
}
