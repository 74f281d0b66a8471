// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
#define _GNU_SOURCE
#include "backend.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "debug.h"
#include "ready.h"

static const struct backend_ops *const backends[SHMDEV_BACKEND_NR] = {
	[SHMDEV_BACKEND_DEVICE] = &device_backend,
	[SHMDEV_BACKEND_HUGETLB] = &hugetlb_backend,
	[SHMDEV_BACKEND_THP] = &thp_backend,
	[SHMDEV_BACKEND_MEMFD] = &memfd_backend,
};

/*
 * What SHMDEV_BACKEND said at the first use: everything (NULL), one backend, or
 * nothing, for a name that we do not know.  A value that changes later, or differs
 * between threads that look, would give a process two minds.
 */
static pthread_once_t choice_once = PTHREAD_ONCE_INIT;
static const char *choice_name;
static int choice;

#define CHOICE_ANY	(-1)

static void choice_read(void)
{
	const char *name = secure_getenv("SHMDEV_BACKEND");

	choice = CHOICE_ANY;
	if (!name)
		return;
	for (choice = 0; choice < SHMDEV_BACKEND_NR; choice++)
		if (!strcmp(name, backends[choice]->name))
			break;
	if (choice == SHMDEV_BACKEND_NR) {
		debug("SHMDEV_BACKEND is '%s', and there is none of that name", name);
		choice = -EINVAL;
	}
	choice_name = strdup(name);
}

/* One of enum shmdev_backend, CHOICE_ANY, or -EINVAL. */
static int choice_get(void)
{
	pthread_once(&choice_once, choice_read);
	return choice;
}

_Static_assert(CHOICE_ANY != -EINVAL, "two meanings of one value");

static int backing_secure(const struct backing *backing, bool all)
{
	const struct backend_ops *ops = backends[backing->backend];

	return ops->secure ? ops->secure(backing, all) : 0;
}

/* What was tried, and what came of it, for whoever wants to follow it. */
static void create_tell(int backend, size_t size, int err, const struct backing *backing)
{
	char text[256] = "";
	const struct reason why = { text, sizeof(text) };

	if (!err) {
		debug_say("region of %zu bytes: %s, at %p, descriptor %d", backing->size,
			  backends[backend]->name, backing->addr, backing->fd);
		return;
	}
	/* A probe asks for little: what it finds need not be what failed. */
	if (backends[backend]->probe(&why) != err)
		text[0] = '\0';
	debug_say("region of %zu bytes: not %s: %s%s%s", size, backends[backend]->name,
		  strerrorname_np(-err), *text ? ": " : "", text);
}

static int create_by(int backend, size_t size, const struct placement *placement,
		     struct backing *backing)
{
	int err = backends[backend]->create(size, placement, backing);

	if (!err) {
		err = backing_secure(backing, placement->commit);
		if (err)
			backing_drop(backing);
	}
	if (debug_on())
		create_tell(backend, size, err, backing);
	return err;
}

/* As create_by(); what is only kept ready does not count as used up. */
static int create_or_yield(int backend, size_t size, const struct placement *placement,
			   struct backing *backing)
{
	int err = create_by(backend, size, placement, backing);

	if (err == -ENOMEM && backend != SHMDEV_BACKEND_DEVICE && ready_yield(backend))
		err = create_by(backend, size, placement, backing);
	return err;
}

/* What is kept ready, if it will do. */
static bool take_ready(size_t size, const struct placement *placement, struct backing *backing)
{
	if (placement->strict || placement->on_node || !ready_take(size, backing))
		return false;
	debug("region of %zu bytes: %s, ready, at %p, descriptor %d", backing->size,
	      backends[backing->backend]->name, backing->addr, backing->fd);
	return true;
}

int backing_create(size_t size, const struct placement *placement, struct backing *backing)
{
	int only = choice_get();
	int err = -EINVAL;

	if (only == -EINVAL)
		return -EINVAL;
	if (only == SHMDEV_BACKEND_DEVICE)
		return create_by(only, size, placement, backing);
	if (only >= 0) {
		if (take_ready(size, placement, backing))
			return 0;
		return create_or_yield(only, size, placement, backing);
	}

	err = create_by(SHMDEV_BACKEND_DEVICE, size, placement, backing);
	if (!err || take_ready(size, placement, backing))
		return 0;
	for (int i = SHMDEV_BACKEND_DEVICE + 1; i < SHMDEV_BACKEND_NR; i++) {
		err = create_or_yield(i, size, placement, backing);
		if (!err)
			break;
	}
	return err;
}

int backing_create_ready(size_t size, struct backing *backing)
{
	static const struct placement anywhere;
	const struct reason silent = { NULL, 0 };
	int only = choice_get();
	int err = -EINVAL;

	if (only == -EINVAL)
		return -EINVAL;
	if (only == SHMDEV_BACKEND_DEVICE ||
	    (only == CHOICE_ANY && !backends[SHMDEV_BACKEND_DEVICE]->probe(&silent)))
		return -ENODEV;
	for (int i = SHMDEV_BACKEND_DEVICE + 1; i < SHMDEV_BACKEND_NR; i++) {
		if (only >= 0 && i != only)
			continue;
		err = create_by(i, size, &anywhere, backing);
		if (!err)
			break;
	}
	return err;
}

int backing_create_by(enum shmdev_backend backend, size_t size, struct backing *backing)
{
	static const struct placement anywhere;

	return create_by(backend, size, &anywhere, backing);
}

int backend_of(int fd, const struct stat *st)
{
	for (int i = 0; i < SHMDEV_BACKEND_NR; i++)
		if (backends[i]->owns(fd, st))
			return i;
	return -EINVAL;
}

/* A descriptor of our own of the file @fd, for reading alone if @readonly. */
static int descriptor_own(int fd, enum shmdev_backend backend, bool readonly)
{
	int flags, own;

	if (readonly) {
		flags = fcntl(fd, F_GETFL);
		if (flags < 0)
			return -errno;
		if ((flags & O_ACCMODE) != O_RDONLY)
			return backends[backend]->reopen(fd);
	}
	own = fcntl(fd, F_DUPFD_CLOEXEC, 0);
	return own < 0 ? -errno : own;
}

int backing_open(int fd, size_t size, enum shmdev_backend backend, bool readonly,
		 struct backing *backing)
{
	int err;

	*backing = (struct backing){ .backend = backend, .size = size, .readonly = readonly };
	backing->fd = descriptor_own(fd, backend, readonly);
	if (backing->fd < 0)
		return backing->fd;
	err = backends[backend]->map(backing);
	if (err) {
		close(backing->fd);
		return err;
	}
	/* Its maker may not have minded, or may have been in another control group. */
	err = backing_secure(backing, false);
	if (err)
		backing_drop(backing);
	return err;
}

void backing_drop(const struct backing *backing)
{
	munmap(backing->addr, backing->size);
	close(backing->fd);
}

int backing_seal(struct backing *backing, bool future)
{
	const struct backend_ops *ops = backends[backing->backend];
	struct backing readable = *backing;
	int err, again;

	if (future || backing->readonly)
		return ops->seal(backing->fd, future);

	readable.readonly = true;
	readable.fd = ops->reopen(backing->fd);
	if (readable.fd < 0)
		return readable.fd;
	err = ops->map(&readable);
	if (err)
		goto close_readable;
	err = ops->seal(backing->fd, false);
	if (err)
		goto map_writable;
	close(backing->fd);
	*backing = readable;
	return 0;

map_writable:
	again = ops->map(backing);
	if (again) {
		/* For want of memory for the mapping itself: then it is as if sealed. */
		close(backing->fd);
		*backing = readable;
		return again;
	}
close_readable:
	close(readable.fd);
	return err;
}

int backing_reopen(const struct backing *backing)
{
	return backends[backing->backend]->reopen(backing->fd);
}

int backing_export(const struct backing *backing, unsigned char token[TOKEN_SIZE])
{
	const struct backend_ops *ops = backends[backing->backend];

	return ops->export ? ops->export(backing->fd, token) : -EOPNOTSUPP;
}

int backing_attach(const unsigned char token[TOKEN_SIZE], bool readonly)
{
	/* There is one kind of tokens. */
	return device_backend.attach(token, readonly);
}

int backend_next(void)
{
	const struct reason silent = { NULL, 0 };
	int only = choice_get();
	int err = -EINVAL;

	if (only == -EINVAL)
		return -EINVAL;
	if (only >= 0) {
		err = backends[only]->probe(&silent);
		return err ? err : only;
	}
	for (int i = 0; i < SHMDEV_BACKEND_NR; i++) {
		err = backends[i]->probe(&silent);
		if (!err)
			return i;
	}
	return err;
}

size_t backend_page_size(enum shmdev_backend backend)
{
	size_t size = backends[backend]->page_size;

	return size ? size : (size_t)sysconf(_SC_PAGESIZE);
}

const char *shmdev_backend_name(enum shmdev_backend backend)
{
	/* The enum may be unsigned or signed; what comes in may be anything. */
	if ((unsigned int)backend >= SHMDEV_BACKEND_NR)
		return NULL;
	return backends[backend]->name;
}

int shmdev_backend_probe(enum shmdev_backend backend, char *buf, size_t size)
{
	const struct reason why = { buf, size };
	int only;

	if ((unsigned int)backend >= SHMDEV_BACKEND_NR || (!buf && size))
		return -EINVAL;
	reason_set(&why, "%s", "");

	only = choice_get();
	if (only != CHOICE_ANY && only != (int)backend) {
		reason_set(&why, "ruled out by SHMDEV_BACKEND=%s in the environment%s",
			   choice_name ? choice_name : "",
			   only == -EINVAL ? ", which names no backend" : "");
		return -EPERM;
	}
	return backends[backend]->probe(&why);
}

int round_size(size_t size, size_t unit, size_t *rounded)
{
	/* Half of the address space at most: differences of pointers stay exact. */
	if (size > (size_t)PTRDIFF_MAX - unit)
		return -ENOMEM;
	*rounded = (size + unit - 1) & ~(unit - 1);
	return 0;
}

int reopen_by_proc(int fd)
{
	char path[32];
	int again;

	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	again = open(path, O_RDONLY | O_CLOEXEC);
	if (again >= 0)
		return again;
	return errno == ENOENT || errno == ENOTDIR ? -EOPNOTSUPP : -errno;
}

void *map_aligned(int fd, size_t size, size_t align, int access)
{
	char *reserved, *start, *addr;

	if (align <= (size_t)sysconf(_SC_PAGESIZE)) {
		addr = mmap(NULL, size, access, MAP_SHARED, fd, 0);
		return addr == MAP_FAILED ? NULL : addr;
	}

	if (size > SIZE_MAX - align) {
		errno = ENOMEM;
		return NULL;
	}
	/*
	 * Find room for more than is needed, and map where in it is aligned.  Not over it: what
	 * is there goes first, and if there is no memory for the new, another thread may have
	 * mapped something there before we could give it back.
	 */
	do {
		reserved = mmap(NULL, size + align, PROT_NONE,
				MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
		if (reserved == MAP_FAILED)
			return NULL;
		start = (char *)(((uintptr_t)reserved + align - 1) & ~(uintptr_t)(align - 1));
		munmap(reserved, size + align);
		addr = mmap(start, size, access, MAP_SHARED | MAP_FIXED_NOREPLACE, fd, 0);
	} while (addr == MAP_FAILED && errno == EEXIST);
	return addr == MAP_FAILED ? NULL : addr;
}

void reason_set(const struct reason *why, const char *format, ...)
{
	va_list args;

	if (!why->size)
		return;
	va_start(args, format);
	vsnprintf(why->text, why->size, format, args);
	va_end(args);
}
