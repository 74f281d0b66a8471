// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/*
 * Memory to memory, shared out to a crew, and past the caches where it is so much that
 * they would have nothing of it in the end.
 */
#include <errno.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include "backend.h"
#include "crew.h"
#include "fresh.h"
#include "shmdev.h"

/*
 * From here on stores that bypass the caches win: by 1.3 to 1.5 on a copy of 16 to 64 MiB,
 * where memcpy(3) has yet to begin with them, and by more than 2 on a pattern.
 */
#define MUCH	((size_t)16 << 20)

/*
 * What is copied at a time, and so much of it one of the crew takes of fresh memory: no two
 * shall wait for the same huge page.
 */
#define PIECE	((size_t)1 << 20)
#define TURN	8

/* A pattern is repeated to about this, so that it is copied in long runs, from a cache. */
#define TILE	((size_t)32 << 10)

/* --- Past the caches ------------------------------------------------------------- */

#ifdef __SSE2__
#include <emmintrin.h>

#define LINE	64
#define PAGE	4096
#define PAGES	4

static inline void line_stream(char *dst, const char *src)
{
	for (int i = 0; i < LINE; i += 16)
		_mm_stream_si128((__m128i *)(dst + i), _mm_loadu_si128((const __m128i *)(src + i)));
}

/* @cached: what is at @src, which is a tile. */
static void copy_past(char *dst, const char *src, size_t len, bool cached)
{
	size_t head = -(uintptr_t)dst & (LINE - 1);

	if (head > len)
		head = len;
	memcpy(dst, src, head);
	dst += head;
	src += head;
	len -= head;
	/* What is only written goes fastest as it stands. */
	for (; cached && len >= LINE; len -= LINE) {
		line_stream(dst, src);
		dst += LINE;
		src += LINE;
	}
	/* Several pages at a time, for the sake of memory's own rows. */
	for (; len >= PAGES * PAGE; len -= PAGES * PAGE) {
		for (int at = 0; at < PAGE; at += LINE) {
			for (int page = 0; page < PAGES * PAGE; page += PAGE) {
				_mm_prefetch(src + page + at + 4 * LINE, _MM_HINT_T0);
				line_stream(dst + page + at, src + page + at);
			}
		}
		dst += PAGES * PAGE;
		src += PAGES * PAGE;
	}
	memcpy(dst, src, len);
	/* What others are told of next is to be there. */
	_mm_sfence();
}
#else
static void copy_past(char *dst, const char *src, size_t len, bool cached)
{
	(void)cached;
	memcpy(dst, src, len);
}
#endif

/* --- Shared out -------------------------------------------------------------------- */

struct copying {
	char *dst;
	const char *src;
	size_t len;
	size_t period;		/* of the source, which repeats; or 0 */
	size_t piece;
	size_t next;		/* atomic */
	bool past;
	bool fresh;		/* nobody has touched it */
	bool by_file;		/* of that what cannot be gathered, by way of its memfd */
};

static void copy_some(const struct copying *copying, size_t at, size_t len)
{
	size_t run = copying->period ? copying->period : len, start = at;
	bool was_fresh = copying->by_file && fresh_is(copying->dst + at, len);
	bool by_file = was_fresh;

	for (; len; at += run, len -= run) {
		const char *src = copying->period ? copying->src : copying->src + at;
		char *dst = copying->dst + at;
		size_t done = 0;

		if (run > len)
			run = len;
		if (by_file)
			done = fresh_copy(dst, src, run);
		by_file = done == run;
		if (copying->past)
			copy_past(dst + done, src + done, run - done, copying->period);
		else
			memcpy(dst + done, src + done, run - done);
	}
	if (was_fresh)
		fresh_map(copying->dst + start, at - start);
}

/* Huge pages are gathered with the one of [@at, @at + @len) that they begin in. */
static void gather(const struct copying *copying, size_t at, size_t len)
{
	size_t ahead = copying->len - at - len, more = HUGE_SIZE - 1;

	fresh_gather(copying->dst + at, len + (ahead < more ? ahead : more), FRESH_CACHED);
}

static void *copy_share(void *argument)
{
	struct copying *copying = argument;
	size_t turn = copying->piece * (copying->fresh ? TURN : 1);
	size_t at, len, piece;

	for (;;) {
		at = __atomic_fetch_add(&copying->next, turn, __ATOMIC_RELAXED);
		if (at >= copying->len)
			return NULL;
		len = copying->len - at;
		if (len > turn)
			len = turn;
		if (copying->fresh)
			gather(copying, at, len);
		for (; len; at += piece, len -= piece) {
			piece = len < copying->piece ? len : copying->piece;
			copy_some(copying, at, piece);
		}
	}
}

/* How to write to [@dst, @dst + @len), to none of which it has been yet. */
static void look_at(struct copying *copying, const char *dst, size_t len)
{
	copying->fresh = fresh_is_absent(dst, len);
	/* What the kernel zeroes for us is in a cache then, to be written to there. */
	copying->past = len >= MUCH && !copying->fresh;
}

static void copy_all(struct copying *copying)
{
	unsigned int size = crew_size(copying->len);
	struct crew crew;

	copying->by_file = copying->fresh && size <= FRESH_THREADS;
	crew_start(&crew, size, copy_share, copying);
	copy_share(copying);
	crew_join(&crew);
}

void shmdev_prepare(void *dst, size_t len)
{
	int saved = errno;

	fresh_gather(dst, len, FRESH_CACHED);
	errno = saved;
}

void shmdev_copy(void *dst, const void *src, size_t len)
{
	struct copying copying = { .dst = dst, .src = src, .len = len, .piece = PIECE };

	if (len < PIECE) {
		if (len)
			memcpy(dst, src, len);
		return;
	}
	look_at(&copying, dst, len);
	copy_all(&copying);
}

void shmdev_set(void *dst, size_t len, const void *pattern, size_t size)
{
	size_t tile = size < TILE ? TILE - TILE % (size ? size : 1) : size, made, more;
	struct copying copying = { .src = dst, .period = tile };

	if (!size || !len)
		return;
	if (tile > len)
		tile = len;
	look_at(&copying, dst, len);
	/* The first tile, by doubling. */
	made = size < tile ? size : tile;
	memcpy(dst, pattern, made);
	for (; made < tile; made += more) {
		more = made < tile - made ? made : tile - made;
		memcpy((char *)dst + made, dst, more);
	}
	/* The rest from it. */
	copying.dst = (char *)dst + tile;
	copying.len = len - tile;
	copying.piece = tile < PIECE ? PIECE - PIECE % tile : tile;
	copy_all(&copying);
}
