// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/*
 * A thread that makes regions before they are asked for: zeroed, allocated, mapped.
 *
 * What will be wanted is what has been: of each size that was asked for lately one region
 * is held, and one more for each time that there was none, within a bound.  The zeroing is
 * no less work than it was; it is done on another processor, or when there is nothing
 * else to do, and not while somebody waits.
 *
 * A slot belongs to the thread while it is MAKING, and then to whoever holds the lock.  A
 * descriptor and a mapping are in a slot, or in the hands of a thread that is behind the
 * fork gate: so a child knows all that it has to give back.  Only the populating, which
 * takes long, is done outside of the gate, in a slot.
 */
#define _GNU_SOURCE
#include "ready.h"

#include <errno.h>
#include <pthread.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <time.h>

#include "bounds.h"
#include "commit.h"
#include "crew.h"
#include "debug.h"
#include "fork.h"

/* Smaller regions are not worth a descriptor that waits. */
#define LEAST		((size_t)256 << 10)

#define SLOTS		64
#define WANTS		16
#define TARGET_MAX	8

/* Far above what there is, and sums of it do not overflow. */
#define LIMIT_MAX	(1ULL << 56)

/* In milliseconds: what nobody has asked for in so long is given back; */
#define IDLE		10000
/* how often to look whether others want for memory, while there is something to give; */
#define WATCH		1000
/* and how long to let it alone when there was none. */
#define BACKOFF		5000

enum slot_state { EMPTY, MAKING, READY };

struct slot {
	enum slot_state state;
	size_t key;
	struct backing backing;
};

/* A size of which there shall be regions. */
struct want {
	size_t key;		/* 0: none */
	unsigned int target;
	uint64_t asked;		/* when last */
	bool pinned;		/* asked for by shmdev_ready_start() */
};

/* UNKNOWN: SHMDEV_READY has not been read. */
enum state { UNKNOWN, OFF, ON, STOPPING };

static struct {
	pthread_mutex_t lock;
	pthread_cond_t changed;		/* of anything; monotonic, made with the first thread */
	bool has_changed;

	enum state state;		/* atomic: written with the lock held */
	bool cancel;			/* atomic: what is MAKING shall be given up */
	pthread_t thread;
	size_t limit;
	struct want wants[WANTS];
	struct slot slots[SLOTS];
	uint64_t retry;			/* not before */
	int err;			/* why; 0: nothing went wrong */
	bool settled;			/* all that is wanted, and has room, is ready */

	struct shmdev_ready_info info;	/* what counts up */
	uint64_t cpu_before;		/* of threads before this one */
} ready = {
	.lock = PTHREAD_MUTEX_INITIALIZER,
	.state = UNKNOWN,
};

static enum state state_get(void)
{
	return __atomic_load_n(&ready.state, __ATOMIC_ACQUIRE);
}

static void state_set(enum state state)
{
	__atomic_store_n(&ready.state, state, __ATOMIC_RELEASE);
}

static uint64_t milliseconds(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

/* Wait for a change, or until @until, if that is not 0.  Locked. */
static void change_wait(uint64_t until)
{
	struct timespec ts = { .tv_sec = until / 1000, .tv_nsec = until % 1000 * 1000000 };

	if (until)
		pthread_cond_timedwait(&ready.changed, &ready.lock, &ts);
	else
		pthread_cond_wait(&ready.changed, &ready.lock);
}

/*
 * The size that serves @size: up to an eighth more, so that arrays of nearly the same
 * length can follow each other.
 */
static size_t key_of(size_t size)
{
	size_t unit = LEAST / 8;

	while (unit * 16 <= size)
		unit *= 2;
	return (size + unit - 1) & ~(unit - 1);
}

/* --- What there is; all locked ------------------------------------------------------- */

static size_t held_bytes(void)
{
	size_t bytes = 0;

	for (struct slot *slot = ready.slots; slot < ready.slots + SLOTS; slot++)
		if (slot->state != EMPTY)
			bytes += slot->backing.size;
	return bytes;
}

static struct slot *slot_find(enum slot_state state, size_t key)
{
	for (struct slot *slot = ready.slots; slot < ready.slots + SLOTS; slot++)
		if (slot->state == state && (!key || slot->key == key))
			return slot;
	return NULL;
}

static unsigned int slots_of(size_t key)
{
	unsigned int nr = 0;

	for (struct slot *slot = ready.slots; slot < ready.slots + SLOTS; slot++)
		nr += slot->state != EMPTY && slot->key == key;
	return nr;
}

static struct want *want_find(size_t key)
{
	for (struct want *want = ready.wants; want < ready.wants + WANTS; want++)
		if (want->key == key)
			return want;
	return NULL;
}

/* That of @key, which may take the place of the one that was not asked for longest. */
static struct want *want_get(size_t key)
{
	struct want *want = want_find(key);

	if (want)
		return want;
	for (struct want *other = ready.wants; other < ready.wants + WANTS; other++)
		if (!other->pinned && (!want || other->asked < want->asked))
			want = other;
	*want = (struct want){ .key = key };
	return want;
}

/* What @key may take: some backends round up to huge pages. */
static size_t need_of(size_t key)
{
	return (key + HUGE_SIZE - 1) & ~(HUGE_SIZE - 1);
}

/*
 * A ready one that is less wanted than what was asked for at @since: of a size that nobody
 * wants any more, or of the one that was asked for before all others.  And how many bytes
 * all such hold.
 */
static struct slot *slot_least(uint64_t since, size_t *bytes)
{
	struct slot *least = NULL;
	uint64_t oldest = since, asked;

	*bytes = 0;
	for (struct slot *slot = ready.slots; slot < ready.slots + SLOTS; slot++) {
		struct want *want;

		if (slot->state != READY)
			continue;
		want = want_find(slot->key);
		asked = want ? want->asked : 0;
		if ((want && want->pinned) || asked >= since)
			continue;
		*bytes += slot->backing.size;
		if (!least || asked < oldest) {
			oldest = asked;
			least = slot;
		}
	}
	return least;
}

/*
 * The size to be made next: of those that lack some and could have them, the one that was
 * asked for last.  NULL: none.  And what must go for it first, or NULL.
 */
static struct want *want_next(struct slot **victim)
{
	struct want *next = NULL;
	size_t held = held_bytes(), less;

	*victim = NULL;
	for (struct want *want = ready.wants; want < ready.wants + WANTS; want++) {
		struct slot *least;
		bool fits;

		if (!want->key || slots_of(want->key) >= want->target ||
		    (next && want->asked <= next->asked))
			continue;
		least = slot_least(want->asked, &less);
		fits = held + need_of(want->key) <= ready.limit && slot_find(EMPTY, 0);
		/* Nothing goes for one that would not fit in the end. */
		if (!fits && (!least || held - less + need_of(want->key) > ready.limit))
			continue;
		next = want;
		*victim = fits ? NULL : least;
	}
	return next;
}

/* --- The thread ------------------------------------------------------------------------ */

/* Give @slot, which is READY, back.  Locked, but not meanwhile: it takes long. */
static void slot_drop(struct slot *slot)
{
	struct backing backing = slot->backing;

	slot->state = EMPTY;
	ready.info.dropped_bytes += backing.size;
	pthread_mutex_unlock(&ready.lock);
	backing_drop(&backing);
	pthread_mutex_lock(&ready.lock);
}

/* Whether others want for memory that they could have from here. */
static bool is_short(void)
{
	struct headroom headroom;

	return !headroom_get(&headroom) && headroom.bytes < headroom.total / 16;
}

/* Give back what was asked for too long ago, and all if memory is short.  Locked. */
static void stock_trim(void)
{
	uint64_t now = milliseconds();
	bool all = false;

	for (struct want *want = ready.wants; want < ready.wants + WANTS; want++)
		if (want->key && !want->pinned && now - want->asked >= IDLE)
			want->key = 0;
	if (slot_find(READY, 0)) {
		pthread_mutex_unlock(&ready.lock);
		all = is_short();
		pthread_mutex_lock(&ready.lock);
	}
	if (all) {
		debug("ready pool: memory is short, all is given back");
		ready.err = -ENOMEM;
		ready.retry = now + BACKOFF;
	}
	for (struct slot *slot = ready.slots; slot < ready.slots + SLOTS; slot++)
		if (slot->state == READY &&
		    (!want_find(slot->key) || held_bytes() > ready.limit ||
		     (all && slot->backing.backend != SHMDEV_BACKEND_HUGETLB)))
			slot_drop(slot);
}

/* Make a region of @key bytes into a slot that is MAKING.  0 or -errno.  Behind the gate. */
static int slot_create(size_t key, struct slot **made)
{
	struct backing backing;
	int err = backing_create_ready(key, &backing);

	if (err)
		return err;
	pthread_mutex_lock(&ready.lock);
	*made = slot_find(EMPTY, 0);
	/* What THP rounds up to may be too much. */
	if (*made && state_get() == ON && held_bytes() + backing.size <= ready.limit) {
		**made = (struct slot){ .state = MAKING, .key = key, .backing = backing };
		__atomic_store_n(&ready.cancel, false, __ATOMIC_RELAXED);
	} else {
		err = -ECANCELED;
	}
	pthread_mutex_unlock(&ready.lock);
	if (err)
		backing_drop(&backing);
	return err;
}

/* Whether there is as much that nobody will miss. */
static int room_check(const struct backing *backing)
{
	struct headroom headroom;
	int err;

	if (backing->backend == SHMDEV_BACKEND_HUGETLB)
		return 0;
	err = headroom_get(&headroom);
	if (err)
		return err;
	return headroom.bytes >= headroom.total / 8 + backing->size ? 0 : -ENOMEM;
}

/* One more region of @key bytes.  0 or -errno. */
static int slot_make(size_t key)
{
	struct slot *slot;
	int err;

	fork_gate_enter();
	err = slot_create(key, &slot);
	fork_gate_leave();
	if (err)
		return err;

	err = room_check(&slot->backing);
	if (!err)
		err = commit_ready(&slot->backing, &ready.cancel);

	pthread_mutex_lock(&ready.lock);
	if (err) {
		/* With the lock: somebody may wait for what it held. */
		backing_drop(&slot->backing);
		slot->state = EMPTY;
	} else {
		slot->state = READY;
		ready.info.made_bytes += slot->backing.size;
		debug("ready pool: %zu bytes of %s made", slot->backing.size,
		      shmdev_backend_name(slot->backing.backend));
	}
	pthread_cond_broadcast(&ready.changed);
	pthread_mutex_unlock(&ready.lock);
	return err;
}

static void cpu_note(void)
{
	struct timespec ts;

	if (!clock_gettime(CLOCK_THREAD_CPUTIME_ID, &ts))
		ready.info.cpu_ns = ready.cpu_before + (uint64_t)ts.tv_sec * 1000000000 +
				    ts.tv_nsec;
}

/* Make the one that is wanted next.  Locked, but not meanwhile. */
static void stock_fill(size_t key)
{
	int err;

	pthread_mutex_unlock(&ready.lock);
	err = slot_make(key);
	pthread_mutex_lock(&ready.lock);
	if (!err)
		return;
	if (err == -ENODEV) {
		debug("ready pool: the device's memory is ready without");
		memset(ready.wants, 0, sizeof(ready.wants));
		return;
	}
	/* Also if it was cancelled: who did that wants the memory, or an end. */
	debug("ready pool: no region of %zu bytes: %s", key, strerrorname_np(-err));
	ready.err = err == -ECANCELED ? -ENOMEM : err;
	ready.retry = milliseconds() + BACKOFF;
}

static void *ready_body(void *unused)
{
	struct want *want;
	struct slot *victim;
	uint64_t now;

	(void)unused;
	prctl(PR_SET_NAME, "shmdev-ready");
	/* Where this is refused, it competes with the others; no more than that. */
	setpriority(PRIO_PROCESS, 0, 19);

	/*
	 * The gate comes before the lock.  What is given back is in no slot meanwhile, and
	 * so that is done behind it; populating is not.
	 */
	for (;;) {
		fork_gate_enter();
		pthread_mutex_lock(&ready.lock);
		if (state_get() == ON) {
			stock_trim();
			if (!ready.err && want_next(&victim) && victim)
				slot_drop(victim);
		}
		pthread_mutex_unlock(&ready.lock);
		fork_gate_leave();

		pthread_mutex_lock(&ready.lock);
		if (state_get() != ON)
			break;
		now = milliseconds();
		if (now >= ready.retry)
			ready.err = 0;
		want = ready.err ? NULL : want_next(&victim);
		if (want && !victim)
			stock_fill(want->key);
		cpu_note();
		if (!want) {
			ready.settled = !ready.err;
			pthread_cond_broadcast(&ready.changed);
			if (slot_find(READY, 0))
				change_wait(now + WATCH);
			else
				change_wait(ready.err ? ready.retry : 0);
		}
		pthread_mutex_unlock(&ready.lock);
	}
	cpu_note();
	pthread_mutex_unlock(&ready.lock);
	return NULL;
}

/* --- What the thread is for --------------------------------------------------------------- */

static void ready_read(void);

bool ready_take(size_t size, struct backing *backing)
{
	struct want *want;
	struct slot *slot = NULL;
	size_t key;

	if (state_get() == UNKNOWN)
		ready_read();
	if (state_get() != ON || size < LEAST)
		return false;

	pthread_mutex_lock(&ready.lock);
	if (state_get() != ON || size > ready.limit || key_of(size) > ready.limit)
		goto unlock;
	key = key_of(size);
	want = want_get(key);
	want->asked = milliseconds();
	slot = slot_find(READY, key);
	if (slot) {
		*backing = slot->backing;
		slot->state = EMPTY;
		ready.info.hits++;
	} else {
		ready.info.misses++;
	}
	if (want->target < (slot ? 1 : TARGET_MAX))
		want->target++;
	ready.settled = false;
	pthread_cond_broadcast(&ready.changed);
unlock:
	pthread_mutex_unlock(&ready.lock);
	return slot;
}

/* Whether somebody who finds no memory of @backend could have that of @slot. */
static bool slot_serves(const struct slot *slot, enum shmdev_backend backend)
{
	return (slot->backing.backend == SHMDEV_BACKEND_HUGETLB) ==
	       (backend == SHMDEV_BACKEND_HUGETLB);
}

bool ready_yield(enum shmdev_backend backend)
{
	struct slot *making;
	bool any = false;

	if (state_get() != ON)
		return false;
	pthread_mutex_lock(&ready.lock);
	for (struct slot *slot = ready.slots; slot < ready.slots + SLOTS; slot++) {
		if (slot->state != READY || !slot_serves(slot, backend))
			continue;
		slot_drop(slot);
		any = true;
	}
	/* The thread gives it back with the lock held, and needs no gate for that. */
	while ((making = slot_find(MAKING, 0)) && slot_serves(making, backend)) {
		__atomic_store_n(&ready.cancel, true, __ATOMIC_RELAXED);
		any = true;
		change_wait(0);
	}
	if (any) {
		ready.settled = false;
		ready.err = -ENOMEM;
		ready.retry = milliseconds() + BACKOFF;
	}
	pthread_mutex_unlock(&ready.lock);
	return any;
}

/* --- Fork ----------------------------------------------------------------------------- */

void ready_fork_prepare(void)
{
	pthread_mutex_lock(&ready.lock);
}

void ready_fork_parent(void)
{
	pthread_mutex_unlock(&ready.lock);
}

/* The thread is the parent's, and so is all that it has made. */
void ready_fork_child(void)
{
	for (struct slot *slot = ready.slots; slot < ready.slots + SLOTS; slot++) {
		if (slot->state != EMPTY)
			backing_drop(&slot->backing);
		slot->state = EMPTY;
	}
	if (state_get() != UNKNOWN)
		state_set(OFF);
	ready.has_changed = false;
	memset(ready.wants, 0, sizeof(ready.wants));
	memset(&ready.info, 0, sizeof(ready.info));
	ready.cpu_before = 0;
	pthread_mutex_unlock(&ready.lock);
}

/* --- On and off -------------------------------------------------------------------------- */

/* A condition that goes by the monotonic clock.  0 or -errno.  Locked. */
static int changed_init(void)
{
	pthread_condattr_t attributes;
	int err;

	if (ready.has_changed)
		return 0;
	err = pthread_condattr_init(&attributes);
	if (err)
		return -err;
	err = pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
	if (!err)
		err = pthread_cond_init(&ready.changed, &attributes);
	pthread_condattr_destroy(&attributes);
	ready.has_changed = !err;
	return -err;
}

/* Behind the gate, so that a child does not take a thread for its own that is not there. */
static int ready_start(size_t limit, size_t size)
{
	struct want *want;
	int err;

	pthread_mutex_lock(&ready.lock);
	if (state_get() == STOPPING) {
		err = -EBUSY;
		goto unlock;
	}
	err = changed_init();
	if (err)
		goto unlock;
	if (state_get() != ON) {
		err = -crew_thread(&ready.thread, ready_body, NULL);
		if (err)
			goto unlock;
		ready.err = 0;
		ready.retry = 0;
		state_set(ON);
	}
	ready.limit = limit;
	for (want = ready.wants; want < ready.wants + WANTS; want++)
		want->pinned = false;
	if (size) {
		want = want_get(key_of(size));
		want->pinned = true;
		want->asked = milliseconds();
		want->target = want->target ? want->target : 1;
	}
	ready.settled = false;
	pthread_cond_broadcast(&ready.changed);
unlock:
	pthread_mutex_unlock(&ready.lock);
	return err;
}

/* A number of bytes with K, M, G or nothing behind it; 0 if it is none. */
static size_t bytes_of(const char *text)
{
	static const char units[] = "KMG";
	unsigned long long number;
	const char *unit;
	char *end;

	if (*text < '0' || *text > '9')
		return 0;
	errno = 0;
	number = strtoull(text, &end, 10);
	if (errno)
		return 0;
	if (*end) {
		unit = strchr(units, *end);
		if (!unit || end[1] || number > SIZE_MAX >> (10 * (unit - units + 1)))
			return 0;
		number <<= 10 * (unit - units + 1);
	}
	return number;
}

static void ready_once(void)
{
	const char *text = secure_getenv("SHMDEV_READY");
	size_t limit;
	int saved = errno, err;

	pthread_mutex_lock(&ready.lock);
	if (state_get() == UNKNOWN)
		state_set(OFF);
	else
		text = NULL;		/* the program has said what it wants */
	pthread_mutex_unlock(&ready.lock);
	limit = text ? bytes_of(text) : 0;
	if (limit && limit <= LIMIT_MAX) {
		err = ready_start(limit, 0);
		if (err)
			debug("no ready pool: %s", strerrorname_np(-err));
	} else if (text) {
		debug("no ready pool: SHMDEV_READY=%s is no number of bytes", text);
	}
	errno = saved;
}

/* What the environment says; behind the gate. */
static void ready_read(void)
{
	static pthread_once_t once = PTHREAD_ONCE_INIT;

	pthread_once(&once, ready_once);
}

static bool options_are_good(const struct shmdev_ready_options *options)
{
	for (size_t i = 0; i < sizeof(options->reserved) / sizeof(*options->reserved); i++)
		if (options->reserved[i])
			return false;
	if (!options->limit || options->limit > LIMIT_MAX)
		return false;
	return !options->size || (options->size >= LEAST && options->size <= options->limit &&
				  need_of(key_of(options->size)) <= options->limit);
}

int shmdev_ready_start(const struct shmdev_ready_options *options)
{
	int err;

	if (!options || !options_are_good(options))
		return -EINVAL;
	err = fork_init();
	if (err)
		return err;
	fork_gate_enter();
	err = ready_start(options->limit, options->size);
	fork_gate_leave();
	return err;
}

void shmdev_ready_stop(void)
{
	struct backing dropped;
	struct slot *slot;
	pthread_t thread;
	int saved = errno;

	pthread_mutex_lock(&ready.lock);
	if (state_get() == UNKNOWN)
		state_set(OFF);
	if (state_get() != ON) {
		pthread_mutex_unlock(&ready.lock);
		return;
	}
	state_set(STOPPING);
	__atomic_store_n(&ready.cancel, true, __ATOMIC_RELAXED);
	thread = ready.thread;
	pthread_cond_broadcast(&ready.changed);
	pthread_mutex_unlock(&ready.lock);

	/* Not behind the gate, which the thread may be waiting at. */
	pthread_join(thread, NULL);

	do {
		fork_gate_enter();
		pthread_mutex_lock(&ready.lock);
		slot = slot_find(READY, 0);
		if (slot) {
			dropped = slot->backing;
			slot->state = EMPTY;
			ready.info.dropped_bytes += dropped.size;
		} else {
			memset(ready.wants, 0, sizeof(ready.wants));
			ready.cpu_before = ready.info.cpu_ns;
			state_set(OFF);
			pthread_cond_broadcast(&ready.changed);
		}
		pthread_mutex_unlock(&ready.lock);
		if (slot)
			backing_drop(&dropped);
		fork_gate_leave();
	} while (slot);
	errno = saved;
}

/* exit(3) and the thread: it is not to be in the middle of what is taken apart. */
__attribute__((destructor)) static void ready_end(void)
{
	shmdev_ready_stop();
}

int shmdev_ready_wait(int timeout)
{
	uint64_t until = timeout < 0 ? 0 : milliseconds() + timeout;
	int err = 0;

	pthread_mutex_lock(&ready.lock);
	while (state_get() == ON && !ready.settled && !ready.err) {
		if (until && milliseconds() >= until) {
			err = -ETIMEDOUT;
			break;
		}
		change_wait(until);
	}
	if (!err)
		err = state_get() != ON ? -EINVAL : ready.settled ? 0 : ready.err;
	pthread_mutex_unlock(&ready.lock);
	return err;
}

void shmdev_ready_get(struct shmdev_ready_info *info)
{
	pthread_mutex_lock(&ready.lock);
	*info = ready.info;
	info->limit = state_get() == ON ? ready.limit : 0;
	for (struct slot *slot = ready.slots; slot < ready.slots + SLOTS; slot++) {
		if (slot->state != READY)
			continue;
		info->regions++;
		info->bytes += slot->backing.size;
	}
	pthread_mutex_unlock(&ready.lock);
}
