// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/*
 * Regions of memfds: of reserved huge pages, of transparent ones, of base pages.
 *
 * A memfd of ours is sealed against growing and shrinking as soon as it has its size:
 * nobody who gets its descriptor can truncate it under the others' feet, which would end
 * in SIGBUS.  Seals against writing can be added, by whoever has a descriptor that is
 * open for writing: they do not touch the mappings that exist.
 *
 * Its memory is zeroed by the kernel at first touch, and so it is not populated
 * here unless that is asked for (commit.c): that would be to zero all of it now.
 */
#define _GNU_SOURCE
#include "backend.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <linux/magic.h>
#include <linux/memfd.h>
#include <linux/mempolicy.h>

#include "commit.h"
#include "debug.h"
#include "bounds.h"

#ifndef MFD_NOEXEC_SEAL		/* Linux 6.3 */
#define MFD_NOEXEC_SEAL		0x0008U
#endif

#define THP_DIR		"/sys/kernel/mm/transparent_hugepage/"
#define HUGETLB_DIR	"/sys/kernel/mm/hugepages/hugepages-2048kB/"

/* As many as a kernel can be built for. */
#define NODES_MAX	1024
#define BITS		(8 * (int)sizeof(unsigned long))

/* What memfd_create(2) says, in the words of shmdev_region_create(). */
static int memfd_errno(int err)
{
	switch (err) {
	case ENOSYS:		/* no such call, or a filter that says so */
	case EINVAL:		/* a flag it does not know */
	case ENODEV:		/* no huge pages of that size */
	case ENOENT:
		return -EOPNOTSUPP;
	case EPERM:
		return -EACCES;
	default:
		return -err;
	}
}

/* A sealed memfd of @size bytes, or -errno. */
static int memfd_make(size_t size, unsigned int flags)
{
	struct rlimit limit;
	int fd, err;

	/*
	 * Beyond RLIMIT_FSIZE ftruncate() sends SIGXFSZ, which kills; a library has
	 * no business to change what signals do.
	 */
	if (!getrlimit(RLIMIT_FSIZE, &limit) && size > limit.rlim_cur)
		return -EFBIG;

	flags |= MFD_CLOEXEC | MFD_ALLOW_SEALING;
	fd = memfd_create("shmdev", flags | MFD_NOEXEC_SEAL);
	if (fd < 0 && errno == EINVAL)
		fd = memfd_create("shmdev", flags);
	if (fd < 0)
		return memfd_errno(errno);

	if (ftruncate(fd, size)) {
		/* EINVAL: more than a file of this kind can be. */
		err = errno == EINVAL || errno == EFBIG ? -ENOMEM : -errno;
		goto close_fd;
	}
	/*
	 * A memfd is made with mode 0777: then who is given a descriptor for reading
	 * alone, be it another user, could open it again for writing.
	 */
	if (fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW) || fchmod(fd, 0600)) {
		err = -errno;
		goto close_fd;
	}
	return fd;

close_fd:
	close(fd);
	return err;
}

static int memfd_map(struct backing *backing)
{
	bool thp = backing->backend == SHMDEV_BACKEND_THP;
	/* Base pages may yet become huge ones (fresh.c).  Those of hugetlb are aligned anyway. */
	bool may_be_huge = backing->backend == SHMDEV_BACKEND_MEMFD && backing->size >= HUGE_SIZE;
	size_t align = thp || may_be_huge ? HUGE_SIZE : 0;
	void *addr;

	/*
	 * Without MAP_NORESERVE, so that huge pages are reserved here or not to be
	 * had, and a touch finds one.
	 */
	if (backing->addr) {
		addr = mmap(backing->addr, backing->size, backing_access(backing),
			    MAP_SHARED | MAP_FIXED, backing->fd, 0);
		addr = addr == MAP_FAILED ? NULL : addr;
	} else {
		addr = map_aligned(backing->fd, backing->size, align, backing_access(backing));
	}
	if (!addr)
		return errno == EPERM ? -EACCES : -errno;

	/* As the device does: 64 GiB of data in a core file help nobody. */
	madvise(addr, backing->size, MADV_DONTDUMP);
	/* A hint: where it is refused, memory comes in base pages. */
	if (thp)
		madvise(addr, backing->size, MADV_HUGEPAGE);
	backing->addr = addr;
	return 0;
}

/*
 * Let memory of @backing come from @node while there is some: a policy of the file, for
 * whoever touches it.  0 or -errno.
 */
static int memfd_prefer(const struct backing *backing, int node)
{
	unsigned long mask[NODES_MAX / BITS] = { 0 };

	if (node >= NODES_MAX)
		return -EINVAL;
	mask[node / BITS] = 1UL << node % BITS;
	/* The kernel takes one bit less than it is told. */
	if (!syscall(SYS_mbind, backing->addr, backing->size, MPOL_PREFERRED, mask,
		     NODES_MAX + 1, 0))
		return 0;
	switch (errno) {
	case ENOSYS:
		return -EOPNOTSUPP;
	case EPERM:		/* a filter says so */
		return -EACCES;
	default:
		return -errno;
	}
}

static int memfd_backing(size_t size, size_t unit, unsigned int flags,
			 enum shmdev_backend backend, const struct placement *placement,
			 struct backing *backing)
{
	int err;

	*backing = (struct backing){ .backend = backend };
	err = round_size(size, unit, &backing->size);
	if (err)
		return err;
	backing->fd = memfd_make(backing->size, flags);
	if (backing->fd < 0)
		return backing->fd;
	err = memfd_map(backing);
	if (err)
		goto close_fd;
	if (placement->on_node) {
		err = memfd_prefer(backing, placement->node);
		if (err)
			goto unmap;
	}
	return 0;

unmap:
	munmap(backing->addr, backing->size);
close_fd:
	close(backing->fd);
	return err;
}

static int memfd_seal(int fd, bool future)
{
	int seal = future ? F_SEAL_FUTURE_WRITE : F_SEAL_WRITE;
	int seals;

	if (!fcntl(fd, F_ADD_SEALS, seal))
		return 0;
	if (errno == EINVAL)		/* one that this kernel does not know */
		return -EOPNOTSUPP;
	if (errno != EPERM)
		return -errno;
	/* Open for reading alone; but it may be what was asked for already. */
	seals = fcntl(fd, F_GET_SEALS);
	return seals >= 0 && seals & seal ? 0 : -EACCES;
}

/* Whether a memfd can be made at all, and if not, why. */
static int memfd_try(unsigned int flags, const struct reason *why)
{
	int fd = memfd_make(HUGE_SIZE, flags);

	if (fd < 0) {
		if (fd == -EFBIG)
			reason_set(why, "RLIMIT_FSIZE is too small for a region: raise it"
				   " with 'ulimit -f unlimited'");
		else
			reason_set(why, "memfd_create does not work here: %s",
				   strerrordesc_np(-fd));
		return fd;
	}
	close(fd);
	return 0;
}

/*
 * Whether @fd is of the file system @magic and can never shrink.  Only memfds have
 * seals: files of a mounted tmpfs or hugetlbfs do not.
 */
static bool sealed_memfd(int fd, long magic)
{
	struct statfs fs;
	int seals;

	if (fstatfs(fd, &fs) || fs.f_type != magic)
		return false;
	seals = fcntl(fd, F_GET_SEALS);
	return seals >= 0 && seals & F_SEAL_SHRINK;
}

static int ordinary_secure(const struct backing *backing, bool all)
{
	struct limits limits;
	int err;

	if (!all) {
		/*
		 * A memfd is not charged for what it could hold but for each page that is
		 * touched, and with vm.overcommit_memory at 2 that may be refused.
		 */
		err = limits_get(&limits);
		if (err || !limits.commit)
			return err;
		debug("vm.overcommit_memory is 2: memory is allocated when it is asked for");
	}
	return commit_ordinary(backing);
}

/* --- hugetlb ---------------------------------------------------------------- */

#define HUGETLB_FLAGS	(MFD_HUGETLB | MFD_HUGE_2MB)

static int hugetlb_create(size_t size, const struct placement *placement,
			  struct backing *backing)
{
	return memfd_backing(size, HUGE_SIZE, HUGETLB_FLAGS, SHMDEV_BACKEND_HUGETLB, placement,
			     backing);
}

/*
 * What is reserved is there; but not for this process where a control group bounds
 * what is touched, or if it lies on nodes where this process may not have memory.
 */
static int hugetlb_secure(const struct backing *backing, bool all)
{
	struct limits limits = { .hugetlb = false };
	int err;

	if (!all && !limits_on_nodes()) {
		err = limits_get(&limits);
		if (err || !limits.hugetlb)
			return err;
		debug("a control group bounds huge pages: they are allocated when they are asked for");
	}
	return commit_huge(backing);
}

/* A number from sysfs; 0 if it is not there. */
static unsigned long hugetlb_count(const char *path)
{
	unsigned long count = 0;
	FILE *file = fopen(path, "re");

	if (file) {
		if (fscanf(file, "%lu", &count) != 1)
			count = 0;
		fclose(file);
	}
	return count;
}

static void hugetlb_explain(int err, const struct reason *why)
{
	unsigned long total, idle, more;

	switch (err) {
	case -EOPNOTSUPP:
		reason_set(why, "this kernel has no huge pages of 2 MiB for memfds");
		break;
	case -ENOMEM:
		total = hugetlb_count(HUGETLB_DIR "nr_hugepages");
		idle = hugetlb_count(HUGETLB_DIR "free_hugepages") -
		       hugetlb_count(HUGETLB_DIR "resv_hugepages");
		more = hugetlb_count(HUGETLB_DIR "nr_overcommit_hugepages");
		if (idle && total)
			reason_set(why, "%lu huge pages are free, but none for this process:"
				   " raise hugetlb.2MB.max and hugetlb.2MB.rsvd.max of its"
				   " control group, or let it have their memory nodes", idle);
		else if (!total && !more)
			reason_set(why, "vm.nr_hugepages is 0: set it with"
				   " 'sysctl vm.nr_hugepages=N', N for each 2 MiB");
		else if (more)
			reason_set(why, "none of %lu huge pages is free and unreserved, and of"
				   " %lu more (vm.nr_overcommit_hugepages) none is to be had:"
				   " raise vm.nr_hugepages", total, more);
		else
			reason_set(why, "none of %lu huge pages is free and unreserved: raise"
				   " vm.nr_hugepages", total);
		break;
	case -EFBIG:
		reason_set(why, "RLIMIT_FSIZE is too small for a region: raise it"
			   " with 'ulimit -f unlimited'");
		break;
	default:
		reason_set(why, "cannot make a memfd of huge pages: %s", strerrordesc_np(-err));
	}
}

static int hugetlb_probe(const struct reason *why)
{
	static const struct placement anywhere;
	struct backing backing;
	int err;

	/* Reserving a page, and giving it back, is the only question not to lie. */
	err = hugetlb_create(HUGE_SIZE, &anywhere, &backing);
	if (!err) {
		err = hugetlb_secure(&backing, false);
		backing_drop(&backing);
	}
	if (err && why->size)
		hugetlb_explain(err, why);
	return err;
}

static bool hugetlb_owns(int fd, const struct stat *st)
{
	return S_ISREG(st->st_mode) && sealed_memfd(fd, HUGETLBFS_MAGIC);
}

const struct backend_ops hugetlb_backend = {
	.name = "hugetlb",
	.page_size = HUGE_SIZE,
	.create = hugetlb_create,
	.secure = hugetlb_secure,
	.probe = hugetlb_probe,
	.owns = hugetlb_owns,
	.map = memfd_map,
	.reopen = reopen_by_proc,
	.seal = memfd_seal,
};

/* --- transparent huge pages --------------------------------------------------- */

/*
 * The word in brackets of a sysfs choice, as in "always [advise] never"; "" if there
 * is no such file.  0 or -errno.
 */
static int sysfs_choice(const char *path, char word[16])
{
	char line[128], *open_bracket;
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t len;

	word[0] = '\0';
	if (fd < 0)
		return errno == ENOENT || errno == ENOTDIR ? 0 : -errno;
	len = read(fd, line, sizeof(line) - 1);
	close(fd);
	if (len < 0)
		return -EIO;
	line[len] = '\0';
	open_bracket = strchr(line, '[');
	if (open_bracket)
		sscanf(open_bracket, "[%15[a-z_]]", word);
	return 0;
}

static bool is_one_of(const char *word, const char *const *words)
{
	for (; *words; words++)
		if (!strcmp(word, *words))
			return true;
	return false;
}

/* Whether memfds can have transparent huge pages.  0, or -errno and why not. */
static int thp_enabled(const struct reason *why)
{
	static const char *const willing[] = { "always", "within_size", "advise", NULL };
	const char *path = THP_DIR "shmem_enabled";
	char all[16], sized[16], *word = all;
	int err;

	err = sysfs_choice(path, all);
	if (err)
		goto unreadable;
	if (!all[0]) {
		reason_set(why, "this kernel has no transparent huge pages for shared memory");
		return -EOPNOTSUPP;
	}
	if (!strcmp(all, "force"))
		return 0;
	/* Linux 6.10 has a choice for each size besides; deny and force overrule it. */
	if (strcmp(all, "deny")) {
		err = sysfs_choice(THP_DIR "hugepages-2048kB/shmem_enabled", sized);
		if (err)
			goto unreadable;
		if (sized[0] && strcmp(sized, "inherit")) {
			word = sized;
			path = THP_DIR "hugepages-2048kB/shmem_enabled";
		}
	}
	if (!is_one_of(word, willing)) {
		reason_set(why, "%s is '%s': write 'advise' to it", path, word);
		return -EOPNOTSUPP;
	}
	return 0;

unreadable:
	reason_set(why, "cannot read %s: %s", path, strerrordesc_np(-err));
	return err;
}

static int thp_probe(const struct reason *why)
{
	int err = thp_enabled(why);

	return err ? err : memfd_try(0, why);
}

static int thp_create(size_t size, const struct placement *placement,
		      struct backing *backing)
{
	const struct reason silent = { NULL, 0 };
	int err = thp_enabled(&silent);

	if (err)
		return err;
	/* It may have huge pages; nobody can promise. */
	if (placement->strict)
		return -ENOMEM;
	return memfd_backing(size, HUGE_SIZE, 0, SHMDEV_BACKEND_THP, placement, backing);
}

static bool thp_owns(int fd, const struct stat *st)
{
	const struct reason silent = { NULL, 0 };

	/*
	 * A memfd does not say whether its maker wanted huge pages.  One that can have
	 * them is mapped so that it gets them.
	 */
	return S_ISREG(st->st_mode) && st->st_size % HUGE_SIZE == 0 &&
	       sealed_memfd(fd, TMPFS_MAGIC) && !thp_enabled(&silent);
}

const struct backend_ops thp_backend = {
	.name = "thp",
	.page_size = HUGE_SIZE,
	.create = thp_create,
	.secure = ordinary_secure,
	.probe = thp_probe,
	.owns = thp_owns,
	.map = memfd_map,
	.reopen = reopen_by_proc,
	.seal = memfd_seal,
};

/* --- base pages ------------------------------------------------------------- */

static int memfd_create_base(size_t size, const struct placement *placement,
			     struct backing *backing)
{
	if (placement->strict)
		return -ENOMEM;
	return memfd_backing(size, sysconf(_SC_PAGESIZE), 0, SHMDEV_BACKEND_MEMFD, placement,
			     backing);
}

static int memfd_probe(const struct reason *why)
{
	return memfd_try(0, why);
}

static bool memfd_owns(int fd, const struct stat *st)
{
	return S_ISREG(st->st_mode) && sealed_memfd(fd, TMPFS_MAGIC);
}

const struct backend_ops memfd_backend = {
	.name = "memfd",
	.page_size = 0,			/* the machine's */
	.create = memfd_create_base,
	.secure = ordinary_secure,
	.probe = memfd_probe,
	.owns = memfd_owns,
	.map = memfd_map,
	.reopen = reopen_by_proc,
	.seal = memfd_seal,
};
