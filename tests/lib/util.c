// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
#define _GNU_SOURCE
#include "util.h"

#include <dirent.h>
#include <fcntl.h>
#include <stddef.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

#include <linux/filter.h>
#include <linux/seccomp.h>

#include "tap.h"

enum shmdev_backend need_backend(void)
{
	const char *forced = getenv("SHMDEV_BACKEND");
	struct shmdev_info info;
	char why[256];

	if (!shmdev_info_get(&info))
		return info.backend;
	for (int i = 0; i < SHMDEV_BACKEND_NR; i++) {
		if (forced && strcmp(forced, shmdev_backend_name(i)))
			continue;
		shmdev_backend_probe(i, why, sizeof(why));
		tap_skip("no %s: %s", shmdev_backend_name(i), why);
	}
	tap_note("SHMDEV_BACKEND is no backend");
	exit(1);
}

unsigned int count_descriptors_of(const char *target, int *one)
{
	DIR *dir = opendir("/proc/self/fd");
	char link[256];
	struct dirent *entry;
	unsigned int count = 0;

	CHECK(dir);
	while ((entry = readdir(dir))) {
		ssize_t len;

		if (entry->d_name[0] == '.' || atoi(entry->d_name) == dirfd(dir))
			continue;
		len = readlinkat(dirfd(dir), entry->d_name, link, sizeof(link) - 1);
		if (len < 0)
			continue;
		link[len] = '\0';
		if (target && strcmp(link, target))
			continue;
		if (one)
			*one = atoi(entry->d_name);
		count++;
	}
	closedir(dir);
	return count;
}

unsigned int count_descriptors(void)
{
	return count_descriptors_of(NULL, NULL);
}

unsigned int count_other_descriptors(void)
{
	return count_descriptors() - count_descriptors_of("anon_inode:[io_uring]", NULL) -
	       (unsigned int)info_now().regions;
}

/*
 * By name, as /proc/self/maps has it: "/memfd:shmdev (deleted)", and for a region of
 * the device some name with "shmdev" in it that is not a file of this project.
 */
unsigned int count_region_mappings(void)
{
	FILE *maps = fopen("/proc/self/maps", "re");
	unsigned int count = 0;
	char line[4352];

	CHECK(maps);
	while (fgets(line, sizeof(line), maps)) {
		if (strstr(line, "/memfd:shmdev"))
			count++;
		else if (strstr(line, "shmdev") && strstr(line, " rw-s "))
			count++;
	}
	fclose(maps);
	return count;
}

struct shmdev_info info_now(void)
{
	struct shmdev_info info;

	CHECK_EQ(shmdev_info_get(&info), 0);
	return info;
}

bool is_all(const void *memory, size_t len, unsigned char value)
{
	const unsigned char *bytes = memory;

	return !len || (bytes[0] == value && !memcmp(bytes, bytes + 1, len - 1));
}

void *peer_view(const struct shmdev_region *region, size_t offset, size_t len)
{
	char *seen = malloc(len);

	CHECK(seen);
	for (size_t at = 0; at < len;) {
		ssize_t got = pread(shmdev_region_fd(region), seen + at, len - at, offset + at);

		CHECK(got > 0);
		at += got;
	}
	return seen;
}

int errno_without_room(void)
{
	CHECK(mmap(NULL, (size_t)1 << 50, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE,
		   -1, 0) == MAP_FAILED);
	return errno;
}

unsigned char pattern_at(uint32_t seed, uint64_t position)
{
	uint64_t x = (position / 8 + 1) * 0x9e3779b97f4a7c15ULL + seed * 0xd1b54a32d192ed03ULL;

	x ^= x >> 29;
	return x >> position % 8 * 8;
}

void pattern_write(void *memory, size_t len, uint32_t seed, uint64_t position)
{
	unsigned char *bytes = memory;

	for (size_t i = 0; i < len; i++)
		bytes[i] = pattern_at(seed, position + i);
}

bool pattern_is(const void *memory, size_t len, uint32_t seed, uint64_t position)
{
	const unsigned char *bytes = memory;

	for (size_t i = 0; i < len; i++)
		if (bytes[i] != pattern_at(seed, position + i))
			return false;
	return true;
}

int pattern_file(size_t len, uint32_t seed)
{
	const char *directory = getenv("TMPDIR");
	unsigned char buffer[1 << 14];
	char path[256];
	int fd;

	snprintf(path, sizeof(path), "%s/shmdev-test-XXXXXX", directory ? directory : "/tmp");
	fd = mkostemp(path, O_CLOEXEC);
	CHECK(fd >= 0);
	unlink(path);
	for (size_t at = 0; at < len; at += sizeof(buffer)) {
		size_t piece = len - at < sizeof(buffer) ? len - at : sizeof(buffer);

		pattern_write(buffer, piece, seed, at);
		CHECK_EQ(pwrite(fd, buffer, piece, at), piece);
	}
	return fd;
}

uint32_t random_next(uint32_t *state)
{
	*state ^= *state << 13;
	*state ^= *state >> 17;
	*state ^= *state << 5;
	return *state;
}

uint32_t random_below(uint32_t *state, uint32_t limit)
{
	return (uint64_t)random_next(state) * limit >> 32;
}

int in_child(void (*body)(void *), void *argument)
{
	int status;
	pid_t child;

	fflush(stdout);
	child = fork();
	CHECK(child >= 0);
	if (!child) {
		body(argument);
		/* Not exit(): its handlers are for the parent, who may have threads. */
		fflush(stdout);
		_exit(0);
	}
	CHECK_EQ(waitpid(child, &status, 0), child);
	return status;
}

void wait_good(pid_t child)
{
	int status;

	CHECK_EQ(waitpid(child, &status, 0), child);
	CHECK(WIFEXITED(status));
	CHECK_EQ(WEXITSTATUS(status), 0);
}

static void filter_set(struct sock_filter *filter, unsigned short length)
{
	struct sock_fprog program = { length, filter };

	CHECK_EQ(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), 0);
	CHECK_EQ(prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program), 0);
}

void forbid_syscall(int nr, int error)
{
	struct sock_filter filter[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, nr, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | error),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};

	filter_set(filter, sizeof(filter) / sizeof(filter[0]));
}

void forbid_syscall_with(int nr, int arg, unsigned int value, int error)
{
	/* Of an argument its lower half, which is first on the machines that run this. */
	struct sock_filter filter[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, nr, 0, 3),
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, args[arg])),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, value, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | error),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};

	filter_set(filter, sizeof(filter) / sizeof(filter[0]));
}

void forbid_cached_reads(void)
{
	forbid_syscall(SYS_preadv2, EAGAIN);
	forbid_syscall(SYS_getrusage, EPERM);
}
