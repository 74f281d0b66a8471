// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/*
 * Files by name: opened, read and closed, by system calls as long as all is in the page
 * cache, by chains in a ring after that, where the kernel has them; by system calls where it
 * has not, and by the crew.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "crew.h"
#include "fresh.h"
#include "request.h"
#include "ring.h"
#include "tuning.h"

/* What to open and close a file costs, in bytes that could be copied meanwhile. */
#define OVERHEAD	16384

/* A ring's reads count in 32 bits.  For what is larger there are the system calls. */
#define READ_MAX	((size_t)1 << 30)

struct paths {
	struct shmdev_path *reqs;
	unsigned int nr;
	unsigned int next;	/* atomic */
	bool by_file;		/* fresh memory, by way of its memfd */
};

/* A file that is on its way in a ring. */
struct slot {
	struct ring_file file;	/* first: the ring gives it back */
	struct statx stx;
	struct shmdev_path *req;
	bool busy;
};

static int request_check(const struct shmdev_path *req)
{
	struct stretch stretch = { .size = 0 };

	if (req->flags || req->len > INT64_MAX)
		return -EINVAL;
	if (!req->path)
		return -EFAULT;
	if (req->len && !memory_is_ours(req->dst, req->len, true, &stretch))
		return -EFAULT;
	return 0;
}

/* The next request that is good, or NULL. */
static struct shmdev_path *paths_next(struct paths *paths)
{
	struct shmdev_path *req;
	unsigned int i;

	for (;;) {
		/* It stops there, and never comes round. */
		i = __atomic_load_n(&paths->next, __ATOMIC_RELAXED);
		do {
			if (i == paths->nr)
				return NULL;
		} while (!__atomic_compare_exchange_n(&paths->next, &i, i + 1, true,
						      __ATOMIC_RELAXED, __ATOMIC_RELAXED));
		req = &paths->reqs[i];
		req->done = 0;
		req->size = 0;
		req->result = request_check(req);
		if (!req->result)
			return req;
	}
}

static void path_done(struct shmdev_path *req, size_t done)
{
	req->done = done;
	req->result = done;
}

/* --- By system calls ---------------------------------------------------------------- */

static int path_open(const struct shmdev_path *req)
{
	int fd;

	do {
		fd = openat(req->dirfd, req->path, O_RDONLY | O_CLOEXEC | O_NOCTTY);
	} while (fd < 0 && errno == EINTR);
	return fd < 0 ? -errno : fd;
}

/* Bytes, or -errno. */
static ssize_t path_read_some(const struct paths *paths, const struct shmdev_path *req, int fd)
{
	char *dst = (char *)req->dst + req->done;
	size_t len = req->len - req->done;
	/* There is often room for more than the file has. */
	size_t most = req->size > req->done && req->size - req->done < len ?
		      req->size - req->done : len;
	ssize_t got = -EOPNOTSUPP;

	if (paths->by_file && fresh_is(dst, most))
		got = fresh_read(dst, most, fd, req->done, 0);
	if (got == -EOPNOTSUPP) {
		got = pread(fd, dst, len, req->done);
		if (got < 0)
			got = -errno;
	}
	return got;
}

/* Read @fd, whose end is known if it is a regular file of some size.  0 or -errno. */
static int path_read(const struct paths *paths, struct shmdev_path *req, int fd, bool has_size)
{
	ssize_t got;

	while (req->done < req->len && !(has_size && req->done == req->size)) {
		got = path_read_some(paths, req, fd);
		if (got == -EINTR)
			continue;
		if (got < 0)
			return got;
		if (!got)
			break;
		req->done += got;
	}
	return 0;
}

static void path_plain(const struct paths *paths, struct shmdev_path *req)
{
	struct stat st;
	int fd, err;

	if (!req->len) {
		if (fstatat(req->dirfd, req->path, &st, 0))
			req->result = -errno;
		else
			req->size = st.st_size;
		return;
	}
	fd = path_open(req);
	if (fd < 0) {
		req->result = fd;
		return;
	}
	req->done = 0;
	req->size = 0;
	if (!fstat(fd, &st))
		req->size = st.st_size;
	err = path_read(paths, req, fd, req->size && S_ISREG(st.st_mode));
	req->result = err ? err : (int64_t)req->done;
	close(fd);
}

/*
 * As long as all of it is in memory, which no ring has for less.  A request for which there
 * was no descriptor, which a ring does not need, or NULL.
 */
static struct shmdev_path *paths_cached(struct paths *paths)
{
	struct shmdev_path *req;
	long sleeps = 0;

	thread_slept(&sleeps);
	while ((req = paths_next(paths))) {
		path_plain(paths, req);
		if (req->result == -EMFILE || req->result == -ENFILE)
			return req;
		if (thread_slept(&sleeps))
			break;
	}
	return NULL;
}

static void *paths_plain(void *argument)
{
	struct shmdev_path *req;

	while ((req = paths_next(argument)))
		path_plain(argument, req);
	return NULL;
}

/* --- By a ring ---------------------------------------------------------------------- */

static void slot_begin(struct slot *slot, struct shmdev_path *req, struct ring *ring)
{
	slot->busy = true;
	slot->req = req;
	slot->file.path = req->path;
	slot->file.dirfd = req->dirfd;
	slot->file.dst = req->dst;
	slot->file.len = req->len < READ_MAX ? req->len : READ_MAX;
	slot->file.stx = &slot->stx;
	ring_file_read(ring, &slot->file);
}

static void slot_end(const struct paths *paths, struct slot *slot)
{
	const int *results = slot->file.results;
	struct shmdev_path *req = slot->req;
	uint64_t size = slot->stx.stx_size;

	slot->busy = false;
	if (!results[FILE_LOOK] && !req->len) {
		req->size = size;
	} else if (!results[FILE_LOOK] && !results[FILE_OPEN] && results[FILE_READ] >= 0 &&
		   ((size_t)results[FILE_READ] == req->len ||
		    (S_ISREG(slot->stx.stx_mode) && (uint64_t)results[FILE_READ] == size))) {
		req->size = size;
		path_done(req, results[FILE_READ]);
	} else {
		/*
		 * Whether that is an error, and which, and whether there is more than
		 * came: the system calls know better than the ring.
		 */
		path_plain(paths, req);
	}
}

/* All that is left, and before that @first, if it is not NULL. */
static void paths_ring(struct paths *paths, struct ring *ring, unsigned int depth,
		       struct shmdev_path *first)
{
	struct slot *slots = calloc(depth, sizeof(*slots)), *slot;
	struct shmdev_path *req;
	struct ring_file *done;
	unsigned int flying = 0;
	int err = 0;

	if (!slots)
		return;
	for (unsigned int i = 0; i < depth; i++)
		slots[i].file.slot = i;
	for (slot = slots; slot < slots + depth; slot++, flying++, first = NULL) {
		req = first ? first : paths_next(paths);
		if (!req)
			break;
		slot_begin(slot, req, ring);
	}
	while (flying && !err) {
		err = ring_wait(ring, false);
		while (ring_reap_file(ring, &done)) {
			if (!done)
				continue;
			slot = (struct slot *)done;
			slot_end(paths, slot);
			flying--;
			req = err ? NULL : paths_next(paths);
			if (!req)
				continue;
			slot_begin(slot, req, ring);
			flying++;
		}
	}
	for (slot = slots; flying && slot < slots + depth; slot++)
		if (slot->busy)
			path_plain(paths, slot->req);
	free(slots);
}

int shmdev_path_fill(struct shmdev_path *reqs, unsigned int nr)
{
	struct paths paths = { .reqs = reqs, .nr = nr };
	unsigned int depth = tuning_get()->depth, size;
	struct ring *ring = NULL;
	struct shmdev_path *req;
	struct crew crew;
	size_t work = 0;

	if (!nr)
		return 0;
	if (!reqs)
		return -EINVAL;
	for (unsigned int i = 0; i < nr; i++)
		work += OVERHEAD + (reqs[i].len < SSIZE_MAX / nr ? reqs[i].len : 0);

	size = crew_size(work);
	paths.by_file = size <= FRESH_THREADS;
	crew_start(&crew, size, paths_plain, &paths);
	req = paths_cached(&paths);
	if (nr > 1 && (req || __atomic_load_n(&paths.next, __ATOMIC_RELAXED) < nr))
		ring = ring_get();
	if (ring) {
		/* What is on its way the others cannot take. */
		if (size > 1 && depth > nr / (4 * size) + 1)
			depth = nr / (4 * size) + 1;
		if (!ring_files_prepare(ring))
			paths_ring(&paths, ring, depth, req);
		ring_put(ring);
	}
	paths_plain(&paths);
	crew_join(&crew);
	return 0;
}
