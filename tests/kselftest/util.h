/* SPDX-License-Identifier: GPL-2.0-only */
/* What every test of the device needs. */
#ifndef SHMDEV_KSELFTEST_UTIL_H
#define SHMDEV_KSELFTEST_UTIL_H

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <sched.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include <linux/shmdev.h>

#include "kselftest_harness.h"

/*
 * The harness gives 30 seconds, which is little for gigabytes, an emulated processor or a
 * soak.  Who runs the program knows how long that may take.
 */
#undef TEST_TIMEOUT_DEFAULT
#define TEST_TIMEOUT_DEFAULT 36000

#define DEVICE		"/dev/shmdev"
#define PARAM(name)	"/sys/module/shmdev/parameters/" name
#define PARAM_POOL_MB	PARAM("pool_mb")
#define PARAM_LIMIT_MB	PARAM("limit_mb")
#define PARAM_USER_LIMIT_MB PARAM("user_limit_mb")
#define HUGE		(2UL << 20)

/* A call's result as the kernel gave it: 0 or more, or -errno. */
static inline long result(long ret)
{
	return ret < 0 ? -errno : ret;
}

static inline int device_open(void)
{
	return result(open(DEVICE, O_RDWR | O_CLOEXEC));
}

static inline int query(int dev, struct shmdev_query *q)
{
	memset(q, 0, sizeof(*q));
	return result(ioctl(dev, SHMDEV_IOC_QUERY, q));
}

static inline int alloc_flags(int dev, uint64_t size, uint64_t flags)
{
	struct shmdev_alloc a = { .size = size, .flags = flags };

	return result(ioctl(dev, SHMDEV_IOC_ALLOC, &a));
}

static inline int alloc(int dev, uint64_t size)
{
	return alloc_flags(dev, size, 0);
}

static inline int region_stat(int fd, struct shmdev_stat *stat)
{
	memset(stat, 0, sizeof(*stat));
	return result(ioctl(fd, SHMDEV_IOC_STAT, stat));
}

static inline int region_export(int fd, struct shmdev_export *export)
{
	memset(export, 0, sizeof(*export));
	return result(ioctl(fd, SHMDEV_IOC_EXPORT, export));
}

static inline int attach_flags(int dev, const struct shmdev_export *export, uint64_t flags)
{
	struct shmdev_attach a = { .flags = flags };

	memcpy(a.token, export->token, sizeof(a.token));
	return result(ioctl(dev, SHMDEV_IOC_ATTACH, &a));
}

static inline int attach(int dev, const struct shmdev_export *export)
{
	return attach_flags(dev, export, 0);
}

static inline int region_seal(int fd, uint32_t seals)
{
	struct shmdev_seal seal = { .seals = seals };

	return result(ioctl(fd, SHMDEV_IOC_SEAL, &seal));
}

/* The same region by another descriptor. */
static inline int reopen(int fd, int flags)
{
	char path[64];

	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	return result(open(path, flags | O_CLOEXEC));
}

static inline int zero_range(int fd, off_t offset, off_t len)
{
	return result(fallocate(fd, FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE, offset, len));
}

static inline void *map(int fd, size_t size)
{
	return mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
}

static inline void *map_rdonly(int fd, size_t size)
{
	return mmap(NULL, size, PROT_READ, MAP_SHARED, fd, 0);
}

static inline bool all_zero(const void *ptr, size_t size)
{
	const char *p = ptr;

	return !*p && !memcmp(p, p + 1, size - 1);
}

/*
 * Wait, for as long as a loaded emulator may need, until @cond holds.  A timeout is
 * a failure of the test, never a pass.
 */
#define WAIT_FOR(cond)								\
({										\
	int ms_ = 0;								\
										\
	while (!(cond) && ms_ < 300000) {					\
		usleep(10000);							\
		ms_ += 10;							\
	}									\
	ms_ < 300000;								\
})

static inline int write_file(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC);
	long ret;

	if (fd < 0)
		return -errno;
	ret = result(write(fd, text, strlen(text)));
	close(fd);
	return ret < 0 ? ret : 0;
}

static inline long read_long(const char *path)
{
	FILE *file = fopen(path, "re");
	long value;

	if (!file)
		return -errno;
	if (fscanf(file, "%ld", &value) != 1)
		value = -EIO;
	fclose(file);
	return value;
}

/* Bytes of a line of /proc/meminfo, -1 if it is not there. */
static inline long meminfo(const char *name)
{
	FILE *file = fopen("/proc/meminfo", "re");
	size_t len = strlen(name);
	char line[128];
	long kb = -1;

	while (file && kb < 0 && fgets(line, sizeof(line), file))
		if (!strncmp(line, name, len) && line[len] == ':')
			sscanf(line + len + 1, "%ld", &kb);
	if (file)
		fclose(file);
	return kb < 0 ? -1 : kb * 1024;
}

/* Run the statements given in a child; its exit status is the value. */
#define IN_CHILD(...)								\
({										\
	pid_t pid_ = fork();							\
	int status_;								\
										\
	if (!pid_) {								\
		__VA_ARGS__;								\
		_exit(0);							\
	}									\
	waitpid(pid_, &status_, 0);						\
	WIFEXITED(status_) ? WEXITSTATUS(status_) : 128 + WTERMSIG(status_);	\
})

/* The same, as somebody without privileges. */
#define NOBODY	65534
#define AS_USER(uid, ...)							\
	IN_CHILD({								\
		if (setgroups(0, NULL) || setgid(uid) || setuid(uid))		\
			_exit(99);						\
		__VA_ARGS__;							\
	})

static inline int set_mb(const char *param, long mb)
{
	char text[32];

	snprintf(text, sizeof(text), "%ld", mb);
	return write_file(param, text);
}

static inline int set_pool_mb(long mb)
{
	return set_mb(PARAM_POOL_MB, mb);
}

static inline bool pool_is(int dev, uint64_t bytes)
{
	struct shmdev_query q;

	return !query(dev, &q) && q.pool_bytes == bytes;
}

/* What "make check" shows, also of a test that passes. */
#define TH_NOTE(fmt, ...)							\
do {										\
	fprintf(TH_LOG_STREAM, "# note: " fmt "\n", ##__VA_ARGS__);		\
	fflush(TH_LOG_STREAM);							\
} while (0)

/* For tests that do the same many times: more of it in a soak. */
static inline int soak(int times)
{
	const char *factor = getenv("SHMDEV_SOAK");

	return factor ? times * atoi(factor) : times;
}

#endif /* SHMDEV_KSELFTEST_UTIL_H */
