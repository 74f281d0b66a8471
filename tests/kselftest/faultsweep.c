// SPDX-License-Identifier: GPL-2.0-only
/*
 * Every allocation and every copy to or from user space fails once, and each time the
 * operation either does all of its work or says so and has done nothing.
 *
 * fail-nth makes the n-th of what may fail in this task fail, whichever kind it is, for
 * n = 1, 2, ... until an operation is through with nothing injected.
 */
#include <sys/sendfile.h>
#include <sys/uio.h>

#include "module.h"
#include "util.h"

#define FAIL_NTH	"/proc/thread-self/fail-nth"
#define FAULTS		"/sys/kernel/debug/"
#define SIZE		(4 * HUGE)
#define MANY		5000

/* --- failing ---------------------------------------------------------------- */

static const char *const kinds[] = { "failslab", "fail_page_alloc", "fail_usercopy" };

static int faults_write(const char *kind, const char *name, const char *value)
{
	char path[128];

	snprintf(path, sizeof(path), FAULTS "%s/%s", kind, name);
	return write_file(path, value);
}

/* By default only what cannot wait may fail, and each failure prints a backtrace. */
static int faults_everywhere(bool on)
{
	const char *spare = on ? "N" : "Y";
	int err = 0;

	for (size_t i = 0; i < sizeof(kinds) / sizeof(*kinds); i++)
		err = err ?: faults_write(kinds[i], "verbose", on ? "0" : "2");
	err = err ?: faults_write("failslab", "ignore-gfp-wait", spare);
	err = err ?: faults_write("fail_page_alloc", "ignore-gfp-wait", spare);
	err = err ?: faults_write("fail_page_alloc", "ignore-gfp-highmem", spare);
	return err ?: faults_write("fail_page_alloc", "min-order", on ? "0" : "1");
}

static int fail_nth_set(int fd, int n)
{
	char text[16];
	int len = snprintf(text, sizeof(text), "%d", n);

	return result(pwrite(fd, text, len, 0)) == len ? 0 : -EIO;
}

/* Stop, and say whether it has happened. */
static bool fail_nth_stop(int fd)
{
	char text[16] = "";
	bool happened;

	/* What was left over may hit this copy; then it had not happened before. */
	happened = pread(fd, text, sizeof(text) - 1, 0) > 0 && atoi(text) == 0;
	/* And this one, which ends it too. */
	if (fail_nth_set(fd, 0))
		fail_nth_set(fd, 0);
	return happened;
}

/*
 * Make only what the module itself asks for fail.  It is the only one, and so alone in its
 * part of the address space.
 */
static int faults_of_module(bool on)
{
	unsigned long text = 0;
	char start[32] = "0", end[32] = "0xffffffffffffffff";
	FILE *file;
	int err = 0;

	if (on) {
		file = fopen("/sys/module/shmdev/sections/.text", "re");
		if (!file)
			return -errno;
		if (fscanf(file, "%lx", &text) != 1)
			err = -EIO;
		fclose(file);
		snprintf(start, sizeof(start), "%#lx", text - (32UL << 20));
		snprintf(end, sizeof(end), "%#lx", text + (32UL << 20));
	}
	for (size_t i = 0; i < sizeof(kinds) / sizeof(*kinds); i++) {
		err = err ?: faults_write(kinds[i], "require-start", start);
		err = err ?: faults_write(kinds[i], "require-end", end);
	}
	return err;
}

/* --- operations ------------------------------------------------------------- */

/* Few pages: each is a copy that fails once.  They are of two huge pages. */
static char buffer[5 * 4096];
#define SPLICED	(2 * 4096)

/* What an operation finds and leaves; -1 and MAP_FAILED for what is not there. */
struct state {
	int dev;
	int fd;
	int fd2;
	int fd3;
	char *p;
	size_t size;	/* mapped at p */
	struct shmdev_export export;
};

static int nothing(struct state *state)
{
	return 0;
}

static int pool_holds(int dev, const char *mb, uint64_t bytes)
{
	struct shmdev_query q;
	int err = write_file(PARAM_POOL_MB, mb);

	if (err)
		return err;
	return WAIT_FOR(!query(dev, &q) && q.pool_bytes == bytes) ? 0 : -ETIMEDOUT;
}

static int pool_full(struct state *state)
{
	return pool_holds(state->dev, "16", 16 << 20);
}

static int pool_empty(struct state *state)
{
	return pool_holds(state->dev, "0", 0);
}

static int region(struct state *state)
{
	state->fd = alloc(state->dev, SIZE);
	return state->fd < 0 ? state->fd : 0;
}

static int region_exported(struct state *state)
{
	return region(state) ?: region_export(state->fd, &state->export);
}

static int mapping_from(struct state *state, off_t offset)
{
	int err = region(state);

	if (err)
		return err;
	state->size = SIZE - offset;
	state->p = mmap(NULL, state->size, PROT_READ | PROT_WRITE, MAP_SHARED, state->fd, offset);
	return state->p == MAP_FAILED ? -errno : 0;
}

static int mapping(struct state *state)
{
	return mapping_from(state, 0);
}

/* Where no huge page can be mapped. */
static int mapping_askew(struct state *state)
{
	return mapping_from(state, 4096);
}

static int mapping_touched(struct state *state)
{
	int err = mapping(state);

	if (!err)
		memset(state->p, 1, state->size);
	return err;
}

static int mapping_touched_pool(struct state *state)
{
	return mapping_touched(state) ?: pool_full(state);
}

static int mapping_touched_no_pool(struct state *state)
{
	return mapping_touched(state) ?: pool_empty(state);
}

/* What zeroing has to put a new page in the place of. */
static int mapping_broken(struct state *state)
{
	int err = mapping_touched(state);

	return err ?: result(madvise(state->p + HUGE + 4096, 4096, MADV_HWPOISON));
}

/* A pipe at p2 with as much in it as is spliced. */
static int region_pipe(struct state *state)
{
	int fds[2], err = region(state);

	if (err)
		return err;
	if (pipe2(fds, O_CLOEXEC))
		return -errno;
	state->fd2 = fds[0];
	state->fd3 = fds[1];
	return 0;
}

static int region_pipe_full(struct state *state)
{
	int err = region_pipe(state);

	return err ?: write(state->fd3, buffer, SPLICED) == SPLICED ? 0 : -EIO;
}

static int region_file(struct state *state)
{
	int err = region(state);

	if (err)
		return err;
	state->fd2 = result(memfd_create("sweep", MFD_CLOEXEC));
	return state->fd2 < 0 ? state->fd2 : 0;
}

static int mapping_alone(struct state *state)
{
	int err = mapping(state);

	close(state->fd);
	state->fd = -1;
	return err;
}

static long run_open(struct state *state)
{
	return state->fd = device_open();
}

static long run_query(struct state *state)
{
	struct shmdev_query q;

	return query(state->dev, &q);
}

static long alloc_untouched(struct state *state, uint64_t flags)
{
	const struct shmdev_alloc wanted = { .size = SIZE, .flags = flags };
	struct shmdev_alloc a = wanted;

	state->fd = result(ioctl(state->dev, SHMDEV_IOC_ALLOC, &a));
	/* An error that nothing documents. */
	return state->fd < 0 && memcmp(&a, &wanted, sizeof(a)) ? -ENOTRECOVERABLE : state->fd;
}

static long run_alloc(struct state *state)
{
	return alloc_untouched(state, 0);
}

static long run_alloc_strict(struct state *state)
{
	return alloc_untouched(state, SHMDEV_ALLOC_STRICT);
}

static long run_attach(struct state *state)
{
	/* The region that it is of is the one that was there before. */
	return state->fd2 = attach(state->dev, &state->export);
}

static long run_export(struct state *state)
{
	return region_export(state->fd, &state->export);
}

static long run_seal(struct state *state)
{
	long ret = region_seal(state->fd, SHMDEV_SEAL_WRITE);

	/* What could not be told has been done all the same, and is for ever. */
	return ret == -EFAULT ? 0 : ret;
}

static long run_stat(struct state *state)
{
	struct shmdev_stat stat;

	return region_stat(state->fd, &stat);
}

/* Short is no error, and what is not told of is as it was. */
static long run_pwrite(struct state *state)
{
	return result(pwrite(state->fd, buffer, sizeof(buffer), HUGE - 5000));
}

static long run_pread(struct state *state)
{
	return result(pread(state->fd, buffer, sizeof(buffer), HUGE - 5000));
}

static long run_writev(struct state *state)
{
	struct iovec iov[2] = {
		{ .iov_base = buffer, .iov_len = 4096 },
		{ .iov_base = buffer + 4096, .iov_len = 4096 },
	};

	return result(pwritev(state->fd, iov, 2, HUGE - 4096));
}

static long run_splice_read(struct state *state)
{
	loff_t offset = HUGE - 4096;

	return result(splice(state->fd, &offset, state->fd3, NULL, SPLICED, 0));
}

static long run_splice_write(struct state *state)
{
	loff_t offset = HUGE - 4096;

	return result(splice(state->fd2, NULL, state->fd, &offset, SPLICED, 0));
}

static long run_sendfile(struct state *state)
{
	loff_t offset = HUGE - 4096;

	return result(sendfile(state->fd2, state->fd, &offset, SPLICED));
}

static long run_attach_rdonly(struct state *state)
{
	return state->fd2 = attach_flags(state->dev, &state->export, SHMDEV_ATTACH_RDONLY);
}

static long run_reopen(struct state *state)
{
	return state->fd2 = reopen(state->fd, O_RDWR);
}

static long run_fchmod(struct state *state)
{
	return result(fchmod(state->fd, 0660));
}

static long read_all(const char *path)
{
	int fd = result(open(path, O_RDONLY | O_CLOEXEC));
	long ret;

	if (fd < 0)
		return fd;
	do
		ret = result(read(fd, buffer, sizeof(buffer)));
	while (ret > 0);
	close(fd);
	return ret;
}

static long run_fdinfo(struct state *state)
{
	char path[64];

	snprintf(path, sizeof(path), "/proc/self/fdinfo/%d", state->fd);
	return read_all(path);
}

static long run_list(struct state *state)
{
	return read_all("/sys/kernel/debug/shmdev/regions");
}

static long run_attribute(struct state *state)
{
	return read_all("/sys/class/misc/shmdev/pool_refill_cpu_ns");
}

/* A page that nobody could be given is still missing, and nothing else is. */
static long run_mend(struct state *state)
{
	long ret = zero_range(state->fd, HUGE + 4096, 4096);

	if (state->p[HUGE] != 1 || state->p[HUGE + 8192] != 1)
		return -ENOTRECOVERABLE;
	return !ret && state->p[HUGE + 4096] ? -ENOTRECOVERABLE : ret;
}

static long run_map_rdonly(struct state *state)
{
	state->size = SIZE;
	state->p = map_rdonly(state->fd, SIZE);
	return state->p == MAP_FAILED ? -errno : 0;
}

static long run_map_populate(struct state *state)
{
	state->size = SIZE;
	state->p = mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, state->fd,
			0);
	return state->p == MAP_FAILED ? -errno : 0;
}

static long run_zero(struct state *state)
{
	long ret = zero_range(state->fd, 1, SIZE - 1);

	/* What it exchanges is there, what it clears takes none: it has no reason to fail. */
	return ret || all_zero(state->p + 1, SIZE - 1) ? ret : -ENOTRECOVERABLE;
}

static long run_map(struct state *state)
{
	state->size = SIZE;
	state->p = map(state->fd, SIZE);
	return state->p == MAP_FAILED ? -errno : 0;
}

/* A fault that finds no memory is tried again: all there is to see is that it ends. */
static long run_touch(struct state *state)
{
	for (size_t i = 0; i < state->size; i += HUGE / 2) {
		if (state->p[i])
			return -ENOTRECOVERABLE;
		state->p[i] = 1;
	}
	return 0;
}

/* The kernel's own touch. */
static long run_touch_by_kernel(struct state *state)
{
	return result(uname((struct utsname *)state->p));
}

static long run_unmap_part(struct state *state)
{
	return result(munmap(state->p + HUGE + 4096, 4096));
}

static long run_unmap(struct state *state)
{
	long ret = result(munmap(state->p, state->size));

	if (!ret)
		state->p = MAP_FAILED;
	return ret;
}

static long run_pool_mb(struct state *state)
{
	return write_file(PARAM_POOL_MB, "8");
}

FIXTURE(sweep) {
	struct state state;
	int fail_nth;
	int fds;
	char pool_mb[16];
};

FIXTURE_VARIANT(sweep) {
	const char *name;
	/* Nothing fails in this: what the operation needs. */
	int (*before)(struct state *state);
	/* 0 or more, or -errno. */
	long (*run)(struct state *state);
	/* What it may say, beside ENOMEM. */
	int errors[4];
	/* It takes nothing that could fail. */
	bool none;
};

#define OPERATION(name_, before_, run_, ...)					\
	FIXTURE_VARIANT_ADD(sweep, name_) {					\
		.name = #name_, .before = before_, .run = run_,			\
		.errors = { __VA_ARGS__ }					\
	}

#define OPERATION_NONE(name_, before_, run_)					\
	FIXTURE_VARIANT_ADD(sweep, name_) {					\
		.name = #name_, .before = before_, .run = run_, .none = true	\
	}

OPERATION(open, nothing, run_open, EFAULT);
OPERATION(query, nothing, run_query, EFAULT);
OPERATION(alloc_from_pool, pool_full, run_alloc, EFAULT);
OPERATION(alloc_on_miss, pool_empty, run_alloc, EFAULT);
OPERATION(alloc_strict, pool_empty, run_alloc_strict, EFAULT);
OPERATION(attach, region_exported, run_attach, EFAULT);
OPERATION(attach_rdonly, region_exported, run_attach_rdonly, EFAULT);
OPERATION(reopen, region, run_reopen, EFAULT);
OPERATION_NONE(fchmod, region, run_fchmod);
OPERATION(export, region, run_export, EFAULT);
OPERATION(seal, region, run_seal, EFAULT);
OPERATION(stat, region, run_stat, EFAULT);
OPERATION(pread, region, run_pread, EFAULT);
OPERATION(pwrite, region, run_pwrite, EFAULT);
OPERATION(pwritev, region, run_writev, EFAULT);
OPERATION(splice_read, region_pipe, run_splice_read, EFAULT);
OPERATION(splice_write, region_pipe_full, run_splice_write, EFAULT);
OPERATION(sendfile, region_file, run_sendfile, EFAULT);
OPERATION(fdinfo, region, run_fdinfo, EFAULT);
OPERATION(list_of_regions, region, run_list, EFAULT);
OPERATION(attribute, nothing, run_attribute, EFAULT);
OPERATION(zero_from_pool, mapping_touched_pool, run_zero);
OPERATION_NONE(zero_in_place, mapping_touched_no_pool, run_zero);
OPERATION(zero_mends, mapping_broken, run_mend);
OPERATION(map, region, run_map);
OPERATION(map_rdonly, region, run_map_rdonly);
OPERATION(map_populate, region, run_map_populate);
OPERATION(touch, mapping, run_touch);
OPERATION(touch_small, mapping_askew, run_touch);
OPERATION(touch_by_kernel, mapping, run_touch_by_kernel, EFAULT);
OPERATION(unmap_part, mapping_touched, run_unmap_part);
OPERATION(unmap, mapping_touched, run_unmap);
OPERATION(unmap_last, mapping_alone, run_unmap);
OPERATION(pool_mb, nothing, run_pool_mb, EFAULT);

/* --- the sweep -------------------------------------------------------------- */

/* What must be as it was after an operation that has failed. */
struct census {
	uint64_t regions;
	uint64_t bytes;
	int fds;
};

static bool census_take(int dev, struct census *census)
{
	struct shmdev_query q;

	if (query(dev, &q))
		return false;
	*census = (struct census){ .regions = q.regions, .bytes = q.region_bytes };
	for (int fd = 0; fd < 256; fd++)
		census->fds += fcntl(fd, F_GETFD) >= 0;
	return true;
}

static bool census_same(int dev, const struct census *before)
{
	struct census now;

	return census_take(dev, &now) && !memcmp(&now, before, sizeof(now));
}

static void state_clear(struct state *state)
{
	if (state->p != MAP_FAILED)
		munmap(state->p, state->size);
	if (state->fd >= 0)
		close(state->fd);
	if (state->fd2 >= 0)
		close(state->fd2);
	if (state->fd3 >= 0)
		close(state->fd3);
	state->p = MAP_FAILED;
	state->fd = state->fd2 = state->fd3 = -1;
}

/* What lies on the processors' own lists, which MemFree leaves out. */
static long memory_per_cpu(void)
{
	FILE *file = fopen("/proc/zoneinfo", "re");
	long sum = 0, count;
	char line[128];

	while (file && fgets(line, sizeof(line), file))
		if (sscanf(line, " count: %ld", &count) == 1)
			sum += count * 4096;
	if (file)
		fclose(file);
	return sum;
}

/* What is free or lies in the pool. */
static long memory_free(int dev)
{
	struct shmdev_query q;

	return query(dev, &q) ? -1 :
	       meminfo("MemFree") + memory_per_cpu() + (long)q.pool_bytes;
}

FIXTURE_SETUP(sweep)
{
	self->fail_nth = open(FAIL_NTH, O_RDWR | O_CLOEXEC);
	if (self->fail_nth < 0)
		SKIP(return, "this kernel has no fault injection");
	ASSERT_EQ(0, faults_everywhere(true));
	self->state = (struct state){ .dev = device_open(), .fd = -1, .fd2 = -1,
				      .fd3 = -1, .p = MAP_FAILED };
	ASSERT_LE(0, self->state.dev);
	snprintf(self->pool_mb, sizeof(self->pool_mb), "%ld", read_long(PARAM_POOL_MB));
}

FIXTURE_TEARDOWN(sweep)
{
	EXPECT_EQ(0, write_file(PARAM_POOL_MB, self->pool_mb));
	EXPECT_EQ(0, faults_everywhere(false));
	close(self->state.dev);
	close(self->fail_nth);
}

static bool documented(const FIXTURE_VARIANT(sweep) *variant, long error)
{
	for (size_t i = 0; i < sizeof(variant->errors) / sizeof(*variant->errors); i++)
		if (variant->errors[i] && error == -variant->errors[i])
			return true;
	return error == -ENOMEM;
}

TEST_F(sweep, every_fault)
{
	struct state *state = &self->state;
	struct census idle, before;
	int failed = 0, survived = 0, untouched = 0;
	long free_before;

	ASSERT_TRUE(census_take(state->dev, &idle));
	ASSERT_EQ(0, variant->before(state));
	state_clear(state);
	free_before = memory_free(state->dev);
	/* How many there are varies a little: the end is where three in a row meet none. */
	for (int n = 1; untouched < 3; n++) {
		bool happened;
		long ret;

		ASSERT_GT(MANY, n);
		ASSERT_EQ(0, variant->before(state));
		ASSERT_TRUE(census_take(state->dev, &before));

		ASSERT_EQ(0, fail_nth_set(self->fail_nth, n));
		ret = variant->run(state);
		happened = fail_nth_stop(self->fail_nth);

		if (ret < 0) {
			EXPECT_TRUE(happened);
			EXPECT_TRUE(documented(variant, ret));
			EXPECT_TRUE(census_same(state->dev, &before));
		}
		failed += happened && ret < 0;
		survived += happened && ret >= 0;
		untouched = happened ? 0 : untouched + 1;

		state_clear(state);
		ASSERT_TRUE(census_same(state->dev, &idle)) {
			TH_LOG("after fault %d: %ld", n, ret);
		}
		if (!__test_passed(_metadata)) {
			TH_LOG("fault %d: %ld", n, ret);
			break;
		}
	}
	TH_NOTE("%s: %d faults, %d errors", variant->name, failed + survived, failed);
	/* Coarse, as others allocate, too: an operation that forgets its pages is seen. */
	EXPECT_GT(2 * (long)SIZE, free_before - memory_free(state->dev));
	EXPECT_EQ(variant->none, !(failed + survived));
}

/* --- loading ---------------------------------------------------------------- */

FIXTURE(load) {
	int fail_nth;
};

FIXTURE_SETUP(load)
{
	self->fail_nth = open(FAIL_NTH, O_RDWR | O_CLOEXEC);
	if (self->fail_nth < 0)
		SKIP(return, "this kernel has no fault injection");
	ASSERT_EQ(0, faults_everywhere(true));
	ASSERT_EQ(0, faults_of_module(true));
	ASSERT_EQ(0, module_remove());
}

FIXTURE_TEARDOWN(load)
{
	EXPECT_EQ(0, faults_of_module(false));
	EXPECT_EQ(0, faults_everywhere(false));
	close(self->fail_nth);
	EXPECT_EQ(0, module_insert(""));
}

/* The loader's own work is not ours to test: it complains of some failures. */
TEST_F(load, every_fault)
{
	int failed = 0, survived = 0, untouched = 0;

	for (int n = 1; untouched < 3; n++) {
		bool happened;
		int ret;

		ASSERT_GT(MANY, n);
		ASSERT_EQ(0, fail_nth_set(self->fail_nth, n));
		ret = module_insert("pool_mb=8");
		happened = fail_nth_stop(self->fail_nth);
		if (ret) {
			ASSERT_TRUE(happened);
			ASSERT_EQ(-ENOMEM, ret);
			ASSERT_EQ(-ENOENT, device_open());
		} else {
			ASSERT_EQ(0, module_remove());
		}
		failed += happened && ret;
		survived += happened && !ret;
		untouched = happened ? 0 : untouched + 1;
	}
	TH_NOTE("insmod: %d faults, %d errors", failed + survived, failed);
	EXPECT_LT(0, failed);
}

TEST_HARNESS_MAIN
