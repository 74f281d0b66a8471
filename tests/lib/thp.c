// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/* Transparent huge pages for shared memory, with each setting that the kernel has for them. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <sys/file.h>

#include "tap.h"
#include "util.h"

#define MIB	((size_t)1 << 20)
#define THP	"/sys/kernel/mm/transparent_hugepage/"
#define OF_ALL	THP "shmem_enabled"
#define OF_SIZE	THP "hugepages-2048kB/shmem_enabled"

/* Those of the machine are changed by one at a time; of tests/backends.py, too. */
#define LOCK	"/tmp/shmdev-host.lock"

/* What @path offers, and which of it is in use; false: nothing. */
static bool choices_read(const char *path, char *words, size_t size, char *chosen)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t len;

	if (fd < 0)
		return false;
	len = read(fd, words, size - 1);
	CHECK(len > 0);
	close(fd);
	words[len] = '\0';
	CHECK_EQ(sscanf(strchr(words, '['), "[%31[a-z_]]", chosen), 1);
	for (char *at = words; *at; at++)
		if (*at == '[' || *at == ']' || *at == '\n')
			*at = ' ';
	return true;
}

static bool choose(const char *path, const char *word)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC);
	bool done;

	if (fd < 0)
		return false;
	done = write(fd, word, strlen(word)) == (ssize_t)strlen(word);
	close(fd);
	return done;
}

static bool is_one_of(const char *word, const char *words)
{
	const char *at = strstr(words, word);

	return at && at[-1] == ' ' && at[strlen(word)] == ' ';
}

struct setting {
	const char *path, *word;
	bool willing;
};

static void check_none(const struct setting *setting)
{
	char why[256];

	CHECK_EQ(shmdev_backend_probe(SHMDEV_BACKEND_THP, why, sizeof(why)), -EOPNOTSUPP);
	/* So that one knows what to write, and where. */
	CHECK(strstr(why, setting->path) && strstr(why, setting->word) && strstr(why, "advise"));
	/* What is forced says why it is not to be had. */
	CHECK_FAILS(shmdev_region_create(8 * MIB, 0), EOPNOTSUPP);
	CHECK_FAILS(shm_alloc(100), EOPNOTSUPP);
}

static void check_some(void)
{
	struct shmdev_region *region;
	char why[256], *memory, *small;
	uint64_t huge;

	CHECK_EQ(shmdev_backend_probe(SHMDEV_BACKEND_THP, why, sizeof(why)), 0);
	region = shmdev_region_create(8 * MIB, 0);
	CHECK(region);
	CHECK_EQ(shmdev_region_backend(region), SHMDEV_BACKEND_THP);
	memory = shmdev_region_addr(region);
	CHECK((uintptr_t)memory % (2 * MIB) == 0);
	CHECK(is_all(memory, 8 * MIB, 0));
	pattern_write(memory, 8 * MIB, 3, 0);
	CHECK(pattern_is(memory, 8 * MIB, 3, 0));
	CHECK_EQ(shmdev_region_huge_bytes(region, &huge), 0);
	CHECK(huge <= 8 * MIB);
	tap_note("%llu of 8 MiB huge", (unsigned long long)huge / MIB);
	shmdev_region_unref(region);
	small = shm_alloc(100);
	CHECK(small && is_all(small, 100, 0));
	shm_free(small);
	CHECK_EQ(info_now().blocks, 0);
}

static void check_setting(void *argument)
{
	const struct setting *setting = argument;

	CHECK_EQ(setenv("SHMDEV_BACKEND", "thp", 1), 0);
	if (setting->willing)
		check_some();
	else
		check_none(setting);
	fflush(stdout);
}

/* All of @path, of which @willing are those that give some; whether all was well. */
static bool try_all(const char *path, const char *willing)
{
	char words[256], before[32], *rest = words, *word;
	bool good = true;

	if (!choices_read(path, words, sizeof(words), before))
		return true;
	while ((word = strsep(&rest, " "))) {
		struct setting setting = { path, word, is_one_of(word, willing) };
		int status;

		/* "inherit" is what the other file says, whatever that is. */
		if (!*word || !strcmp(word, "inherit"))
			continue;
		/* Of another kernel's, or of none of this machine's sizes. */
		if (!choose(path, word)) {
			tap_note("%s: the kernel does not take '%s'", path, word);
			continue;
		}
		tap_note("%s: %s", path, word);
		status = in_child(check_setting, &setting);
		good &= !status;
	}
	/* Whatever has been found, before anything else. */
	CHECK(choose(path, before));
	return good;
}

static void each_setting(void)
{
	char words[256], of_all[32], of_size[32];
	const char *forced = getenv("SHMDEV_BACKEND");
	bool good, has_sizes;
	int lock;

	/* With another one the lock may be our own caller's. */
	if (!forced || strcmp(forced, "memfd"))
		tap_skip("for SHMDEV_BACKEND=memfd, once is enough");
	if (geteuid() || access(OF_ALL, W_OK))
		tap_skip("needs root to write to " OF_ALL);
	lock = open(LOCK, O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600);
	CHECK(lock >= 0);
	CHECK_EQ(flock(lock, LOCK_EX), 0);
	CHECK(choices_read(OF_ALL, words, sizeof(words), of_all));

	has_sizes = choices_read(OF_SIZE, words, sizeof(words), of_size);
	if (has_sizes)
		CHECK(choose(OF_SIZE, "inherit"));
	good = try_all(OF_ALL, " always within_size advise force ");
	/* What overrules the other is not to be in use. */
	CHECK(choose(OF_ALL, "never"));
	good &= try_all(OF_SIZE, " always within_size advise ");
	CHECK(choose(OF_ALL, of_all));
	if (has_sizes)
		CHECK(choose(OF_SIZE, of_size));
	CHECK(good);
	close(lock);
}

TAP_MAIN(TAP_TEST(each_setting))
