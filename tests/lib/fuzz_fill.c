// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/*
 * Arrays of requests that bytes make up: for libFuzzer ("make fuzz"), and for a while, of
 * bytes made up here, as a test.  What each request must come to is known from the
 * request alone; memory that none may write to stays as it was.
 */
#define _GNU_SOURCE
#include <fcntl.h>

#include "tap.h"
#include "util.h"

#define MEMORY		((size_t)1 << 20)
#define ROOM		(4 * MEMORY)	/* a region's size, in whatever pages */
#define FILE_LEN	100000
#define NR_MAX		24
#define SEED		5
#define UNTOUCHED	0xee

enum kind { REGULAR, DIRECT, HOLE, DIRECTORY, PIPE, WRITABLE, CLOSED, NR_KINDS };

static struct {
	char *memory;		/* a region; its middle is what requests are about */
	int fds[NR_KINDS];
	int out;		/* what good drains write to */
	unsigned char *model;	/* of out */
	size_t out_len;
} world;

static void world_make(void)
{
	struct shmdev_region *region = shmdev_region_create(ROOM, 0);
	char path[64];
	int pipes[2];

	CHECK(region);
	world.memory = (char *)shmdev_region_addr(region) + MEMORY;
	memset(world.memory - MEMORY, UNTOUCHED, ROOM);
	world.fds[REGULAR] = pattern_file(FILE_LEN, SEED);
	snprintf(path, sizeof(path), "/proc/self/fd/%d", world.fds[REGULAR]);
	world.fds[DIRECT] = open(path, O_RDONLY | O_DIRECT | O_CLOEXEC);
	if (world.fds[DIRECT] < 0)
		world.fds[DIRECT] = world.fds[REGULAR];
	world.fds[HOLE] = pattern_file(0, SEED);
	CHECK_EQ(ftruncate(world.fds[HOLE], FILE_LEN), 0);
	world.fds[DIRECTORY] = open("/", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	CHECK_EQ(pipe2(pipes, O_CLOEXEC | O_NONBLOCK), 0);
	world.fds[PIPE] = pipes[0];
	world.fds[WRITABLE] = open("/dev/null", O_WRONLY | O_CLOEXEC);
	world.fds[CLOSED] = 900;
	world.out = pattern_file(0, SEED);
	world.model = calloc(2, MEMORY);
	CHECK(world.model);
}

struct bytes {
	const uint8_t *at, *end;
};

static uint32_t take(struct bytes *bytes, int nr)
{
	uint32_t value = 0;

	while (nr--)
		value = value << 8 | (bytes->at < bytes->end ? *bytes->at++ : 0);
	return value;
}

static int64_t offset_from(struct bytes *bytes)
{
	switch (take(bytes, 1) % 8) {
	case 0:
		return SHM_FILL_CURRENT;
	case 1:
		return -(int64_t)take(bytes, 4);
	case 2:
		return INT64_MAX - take(bytes, 1);
	case 3:
		return FILE_LEN + take(bytes, 1) - 128;
	case 4:
		return take(bytes, 1) * 4096;
	default:
		return take(bytes, 3) % (FILE_LEN + 1000);
	}
}

/* Mostly within the middle. */
static char *memory_from(struct bytes *bytes, size_t *len)
{
	char *memory = world.memory + take(bytes, 3) % MEMORY;

	*len = take(bytes, 1) % 2 ? take(bytes, 1) : take(bytes, 3) % 200000;
	switch (take(bytes, 1) % 16) {
	case 0:
		return NULL;
	case 1:
		return (char *)&world;
	case 2:
		return world.memory + ROOM - MEMORY - take(bytes, 1);
	case 3:
		*len = SIZE_MAX - take(bytes, 3);
		return memory;
	default:
		return memory;
	}
}

static bool is_ours(const char *memory, size_t len)
{
	size_t before = memory - (world.memory - MEMORY);

	return memory >= world.memory - MEMORY && before < ROOM && len <= ROOM - before;
}

/* What a fill of @kind must come to. */
static int64_t expected(const struct shm_fill *fill, enum kind kind)
{
	if (fill->flags & ~SHM_FILL_INTR || fill->offset < SHM_FILL_CURRENT ||
	    fill->len > INT64_MAX || fill->offset > INT64_MAX - (int64_t)fill->len)
		return -EINVAL;
	if (!fill->len)
		return 0;
	if (!is_ours(fill->dst, fill->len))
		return -EFAULT;
	switch (kind) {
	case DIRECTORY:
		return -EISDIR;
	case PIPE:
		return fill->offset == SHM_FILL_CURRENT ? -EAGAIN : -ESPIPE;
	case WRITABLE:
	case CLOSED:
		return -EBADF;
	default:
		if (fill->offset >= FILE_LEN)
			return 0;
		return (int64_t)fill->len < FILE_LEN - fill->offset
			? (int64_t)fill->len : FILE_LEN - fill->offset;
	}
}

static void try_fills(struct bytes *bytes, unsigned int nr)
{
	struct shm_fill fills[NR_MAX];
	enum kind kinds[NR_MAX];
	char *low = world.memory + ROOM - MEMORY, *high = world.memory - MEMORY;

	for (unsigned int i = 0; i < nr; i++) {
		struct shm_fill *fill = &fills[i];

		kinds[i] = take(bytes, 1) % NR_KINDS;
		*fill = (struct shm_fill){ .fd = world.fds[kinds[i]], .offset = offset_from(bytes),
					   .flags = take(bytes, 1) % 16 ? 0 : take(bytes, 1) };
		fill->dst = memory_from(bytes, &fill->len);
		/* Where a descriptor stands is the pipe's affair, others share theirs. */
		if (fill->offset == SHM_FILL_CURRENT && kinds[i] < DIRECTORY)
			fill->offset = 0;
		if (expected(fill, kinds[i]) <= 0)
			continue;
		if ((char *)fill->dst < low)
			low = fill->dst;
		if ((char *)fill->dst + fill->len > high)
			high = (char *)fill->dst + fill->len;
	}
	CHECK_EQ(shm_fill(fills, nr), 0);
	for (unsigned int i = 0; i < nr; i++) {
		int64_t want = expected(&fills[i], kinds[i]);

		if (fills[i].result != want)
			tap_note("request %u of %u: kind %d, dst %p, len %zu, offset %lld", i, nr,
				 kinds[i], fills[i].dst, fills[i].len, (long long)fills[i].offset);
		CHECK_EQ(fills[i].result, want);
		CHECK_EQ(fills[i].done, want < 0 ? 0 : want);
	}
	/* Nothing else can have been written over the only one. */
	if (nr == 1 && fills[0].result > 0) {
		if (kinds[0] == HOLE)
			CHECK(is_all(fills[0].dst, fills[0].done, 0));
		else
			CHECK(pattern_is(fills[0].dst, fills[0].done, SEED, fills[0].offset));
	}
	if (high > low) {
		CHECK(is_all(world.memory - MEMORY, low - (world.memory - MEMORY), UNTOUCHED));
		CHECK(is_all(high, world.memory + ROOM - MEMORY - high, UNTOUCHED));
		memset(low, UNTOUCHED, high - low);
	} else {
		CHECK(is_all(world.memory - MEMORY, ROOM, UNTOUCHED));
	}
}

/* Drains that do not overlap, each at its place, and their bytes in the file. */
static void try_drains(struct bytes *bytes, unsigned int nr)
{
	static unsigned char back[2 * MEMORY];
	struct shm_drain drains[NR_MAX];
	size_t at = 0;

	for (unsigned int i = 0; i < nr; i++) {
		size_t len = take(bytes, 2) % 40000, from = take(bytes, 2);

		at += take(bytes, 1) % 2 ? take(bytes, 1) : 0;
		drains[i] = (struct shm_drain){ .src = world.memory + from, .len = len,
						.offset = at, .fd = world.out };
		pattern_write(world.memory + from, len, SEED + i, 0);
		at += len;
	}
	for (unsigned int i = 0; i < nr; i++)
		memcpy(world.model + drains[i].offset, drains[i].src, drains[i].len);
	CHECK_EQ(shm_drain(drains, nr), 0);
	for (unsigned int i = 0; i < nr; i++) {
		CHECK_EQ(drains[i].result, drains[i].len);
		CHECK_EQ(drains[i].done, drains[i].len);
		if (drains[i].len && drains[i].offset + drains[i].len > world.out_len)
			world.out_len = drains[i].offset + drains[i].len;
	}
	CHECK_EQ(pread(world.out, back, sizeof(back), 0), world.out_len);
	CHECK(!memcmp(back, world.model, world.out_len));
	memset(world.memory, UNTOUCHED, 65536 + 40000);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct bytes bytes = { data, data + size };
	unsigned int what;

	if (!world.memory)
		world_make();
	what = take(&bytes, 1);
	if (what % 4)
		try_fills(&bytes, 1 + what / 4 % NR_MAX);
	else
		try_drains(&bytes, 1 + what / 4 % NR_MAX);
	return 0;
}

#ifndef FUZZER
static void try_random_bytes(void)
{
	uint32_t random = 2463534242U;
	uint8_t bytes[400];

	for (int i = 0; i < 600; i++) {
		for (size_t b = 0; b < sizeof(bytes); b++)
			bytes[b] = random_next(&random) >> 8;
		LLVMFuzzerTestOneInput(bytes, random_below(&random, sizeof(bytes)));
	}
}

static void random_requests(void)
{
	need_backend();
	try_random_bytes();
}

static void random_requests_in_small_pieces(void)
{
	setenv("SHMDEV_CHUNK", "4096", 1);
	setenv("SHMDEV_DEPTH", "3", 1);
	need_backend();
	try_random_bytes();
}

TAP_MAIN(TAP_TEST(random_requests),
	 TAP_TEST(random_requests_in_small_pieces))
#endif
