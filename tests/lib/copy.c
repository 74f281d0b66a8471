// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/* Copies and patterns: every byte, and none besides. */
#include "tap.h"
#include "util.h"

#define MIB	((size_t)1 << 20)
#define COUNT(array)	(sizeof(array) / sizeof((array)[0]))
#define GUARD	100

static const size_t sizes[] = {
	0, 1, 63, 64, 65, 4095, 16384, 16385, MIB - 1, MIB, MIB + 1, 5 * MIB + 3,
	16 * MIB - 1, 16 * MIB, 17 * MIB + 12345,
};

static void check_copies(void)
{
	size_t room = sizes[COUNT(sizes) - 1] + 2 * GUARD + 128;
	char *from = malloc(room), *to = shm_alloc(room);

	CHECK(from && to);
	pattern_write(from, room, 1, 0);
	for (size_t s = 0; s < COUNT(sizes); s++) {
		for (size_t shift = 0; shift < 70; shift += 23) {
			char *src = from + (shift * 7) % 64, *dst = to + GUARD + shift;

			memset(to, 0xee, sizes[s] + 2 * GUARD + shift);
			shmdev_copy(dst, src, sizes[s]);
			CHECK(!memcmp(dst, src, sizes[s]));
			CHECK(is_all(to, GUARD + shift, 0xee));
			CHECK(is_all(dst + sizes[s], GUARD, 0xee));
		}
	}
	free(from);
	shm_free(to);
}

static void check_patterns(void)
{
	static const size_t periods[] = { 1, 2, 3, 8, 100, 4096, 32767, 32768, 32769, 3 * MIB };
	size_t room = sizes[COUNT(sizes) - 1] + 2 * GUARD;
	char *pattern = malloc(3 * MIB), *to = shm_alloc(room), *dst = to + GUARD;

	CHECK(pattern && to);
	pattern_write(pattern, 3 * MIB, 2, 0);
	for (size_t s = 0; s < COUNT(sizes); s++) {
		for (size_t p = 0; p < COUNT(periods); p++) {
			size_t period = periods[p], first;

			memset(to, 0xee, sizes[s] + 2 * GUARD);
			shmdev_set(dst, sizes[s], pattern, period);
			first = sizes[s] < period ? sizes[s] : period;
			CHECK(!memcmp(dst, pattern, first));
			/* Each byte is what the one a period before is. */
			CHECK(!memcmp(dst, dst + first, sizes[s] - first));
			CHECK(is_all(to, GUARD, 0xee));
			CHECK(is_all(dst + sizes[s], GUARD, 0xee));
		}
	}
	memset(to, 0xee, GUARD);
	shmdev_set(to, GUARD, pattern, 0);
	CHECK(is_all(to, GUARD, 0xee));
	shmdev_copy(NULL, NULL, 0);
	shmdev_set(NULL, 0, NULL, 0);
	free(pattern);
	shm_free(to);
}

static void copies(void)
{
	need_backend();
	check_copies();
}

static void patterns(void)
{
	need_backend();
	check_patterns();
}

static void by_one_thread(void)
{
	setenv("SHMDEV_THREADS", "1", 1);
	need_backend();
	check_copies();
	check_patterns();
}

static void by_many_threads(void)
{
	setenv("SHMDEV_THREADS", "7", 1);
	need_backend();
	check_copies();
	check_patterns();
}

TAP_MAIN(TAP_TEST(copies),
	 TAP_TEST(patterns),
	 TAP_TEST(by_one_thread),
	 TAP_TEST(by_many_threads))
