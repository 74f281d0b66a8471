// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
#define _GNU_SOURCE
#include "process.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* All of a small file of @dir, as a string.  0 or -errno. */
static int file_read(int dir, const char *name, char *text, size_t size)
{
	int fd = openat(dir, name, O_RDONLY | O_CLOEXEC);
	ssize_t len;
	int err;

	if (fd < 0)
		return -errno;
	len = read(fd, text, size - 1);
	err = len < 0 ? -errno : 0;
	close(fd);
	if (err)
		return err;
	text[len] = '\0';
	return 0;
}

/* The 22nd field of /proc/<pid>/stat, of which @dir is the directory.  0 or -errno. */
static int started_read(int dir, uint64_t *started)
{
	unsigned long long ticks;
	char text[1024], *at;
	int err;

	err = file_read(dir, "stat", text, sizeof(text));
	if (err)
		return err;
	/* The second is a name in parentheses that may have anything in it. */
	at = strrchr(text, ')');
	if (!at || sscanf(at + 1, " %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %*u %*u"
			  " %*d %*d %*d %*d %*d %*d %llu", &ticks) != 1)
		return -EIO;
	*started = ticks;
	return 0;
}

static uint64_t namespace_of(int dir, const char *kind)
{
	struct stat st;

	return fstatat(dir, kind, &st, 0) ? 0 : st.st_ino;
}

/* Where there is no such process there may be no /proc, either. */
static int proc_missing(void)
{
	return access("/proc/self/fd", X_OK) && (errno == ENOENT || errno == ENOTDIR);
}

/* 0 or -errno. */
static int self_read(struct process *process)
{
	char link[32];
	ssize_t len;
	int dir, err;

	/* Not getpid(): /proc may be that of an outer namespace. */
	len = readlink("/proc/self", link, sizeof(link) - 1);
	if (len < 0)
		return -errno;
	link[len] = '\0';
	process->pid = strtoul(link, NULL, 10);
	dir = open("/proc/self", O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (dir < 0)
		return -errno;
	process->namespace = namespace_of(dir, "ns/pid");
	err = started_read(dir, &process->started);
	close(dir);
	return err;
}

static struct {
	pthread_mutex_t lock;
	struct process process;
	pid_t pid;		/* whose it is: a child by clone(2) is not told */
	unsigned char boot_id[BOOT_ID_SIZE];
	bool boot_id_known;
} known = {
	.lock = PTHREAD_MUTEX_INITIALIZER,
};

int process_self(struct process *process)
{
	pid_t pid = getpid();
	int err;

	pthread_mutex_lock(&known.lock);
	err = known.pid == pid ? 0 : self_read(&known.process);
	known.pid = err ? 0 : pid;
	*process = known.process;
	pthread_mutex_unlock(&known.lock);
	return err == -ENOENT || err == -ENOTDIR ? -EOPNOTSUPP : err;
}

void process_fork_child(void)
{
	/* Another thread of the parent may have held it, and been in the midst of it. */
	pthread_mutex_init(&known.lock, NULL);
	known.pid = 0;
	known.boot_id_known = false;
}

static int hex_digit(char c)
{
	return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* 0 or -errno. */
static int boot_id_read(unsigned char id[BOOT_ID_SIZE])
{
	unsigned int digits = 0;
	char text[64];
	int err;

	err = file_read(AT_FDCWD, "/proc/sys/kernel/random/boot_id", text, sizeof(text));
	if (err)
		return err;
	memset(id, 0, BOOT_ID_SIZE);
	for (const char *at = text; *at && digits < 2 * BOOT_ID_SIZE; at++) {
		if (hex_digit(*at) < 0)
			continue;
		id[digits / 2] |= hex_digit(*at) << (digits % 2 ? 0 : 4);
		digits++;
	}
	return digits == 2 * BOOT_ID_SIZE ? 0 : -EIO;
}

void process_boot_id(unsigned char id[BOOT_ID_SIZE])
{
	pthread_mutex_lock(&known.lock);
	if (!known.boot_id_known)
		known.boot_id_known = !boot_id_read(known.boot_id);
	if (known.boot_id_known)
		memcpy(id, known.boot_id, BOOT_ID_SIZE);
	else
		memset(id, 0, BOOT_ID_SIZE);
	pthread_mutex_unlock(&known.lock);
}

static bool stat_is(const struct stat *st, uint64_t dev, uint64_t ino, uint64_t size)
{
	return st->st_dev == dev && st->st_ino == ino && (uint64_t)st->st_size == size;
}

/* Why there is nothing by that number. */
static int explain_gone(const struct process *process)
{
	struct process self;

	if (proc_missing())
		return -EOPNOTSUPP;
	if (process_self(&self) || self.namespace != process->namespace)
		return -EXDEV;
	return -ENOENT;
}

/* What came of looking into /proc/<pid>, in the words of process_open(). */
static int look_errno(int err, const struct process *process)
{
	switch (err) {
	case ENOENT:
	case ENOTDIR:
	case ESRCH:
		return explain_gone(process);
	case EPERM:
		return -EACCES;
	default:
		return -err;
	}
}

/* Why @process has not got what it was said to have. */
static int explain_other(const struct process *process)
{
	char name[32];
	uint64_t started;
	int dir, err;

	snprintf(name, sizeof(name), "/proc/%u", process->pid);
	dir = open(name, O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (dir < 0)
		return look_errno(errno, process);
	err = started_read(dir, &started);
	if (err)
		err = look_errno(-err, process);
	/* Times are told in the reader's time namespace. */
	else if (started != process->started &&
		 namespace_of(dir, "ns/time") != namespace_of(AT_FDCWD, "/proc/self/ns/time"))
		err = -EXDEV;
	else
		err = explain_gone(process);
	close(dir);
	return err;
}

int process_open(const struct process *process, uint32_t fd, int access, uint64_t dev,
		 uint64_t ino, uint64_t size)
{
	struct stat st;
	char name[48];
	int found, opened;

	/* To open something else could do anything: look first, and open what was looked at. */
	snprintf(name, sizeof(name), "/proc/%u/fd/%u", process->pid, fd);
	found = open(name, O_PATH | O_CLOEXEC);
	if (found < 0)
		return errno == ENOENT ? explain_other(process) : look_errno(errno, process);
	if (fstat(found, &st)) {
		opened = -errno;
	} else if (!stat_is(&st, dev, ino, size)) {
		opened = explain_other(process);
	} else {
		snprintf(name, sizeof(name), "/proc/self/fd/%d", found);
		opened = open(name, access | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
		if (opened < 0)
			opened = look_errno(errno, process);
	}
	close(found);
	return opened;
}
