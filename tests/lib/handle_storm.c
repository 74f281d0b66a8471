// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/* Handles: processes that are killed at any time leave nothing behind. */
#define _GNU_SOURCE
#include "tap.h"
#include "util.h"

/* Attach what comes, at any time of its exporter's life, until killed. */
static void attacher(int from)
{
	struct shmdev_handle handle;

	while (read(from, &handle, sizeof(handle)) == sizeof(handle)) {
		char *here = handle.offset % 128 ? shmdev_attach(&handle) :
						   (char *)shmdev_attach_rdonly(&handle);

		if (!here) {
			if (errno != ENOENT && errno != EACCES)
				_exit(1);
			continue;
		}
		/* What is there is what was exported, and nothing else's. */
		if (handle.size >= 64 && !pattern_is(here, 64, 5, 0))
			_exit(2);
		shmdev_detach(here);
	}
	_exit(0);
}

static void storming_exporter(int to, unsigned int number)
{
	uint32_t random = number * 2654435761U | 1;

	for (;;) {
		size_t size = 64 << random_below(&random, 17);
		char *block = shm_alloc(size);
		struct shmdev_handle handle;

		if (!block)
			_exit(errno == ENOMEM ? 0 : 1);
		pattern_write(block, 64, 5, 0);
		if (shmdev_export(block, &handle))
			_exit(1);
		for (int i = 0; i < 3; i++)
			if (write(to, &handle, sizeof(handle)) != sizeof(handle))
				_exit(1);
		if (random_below(&random, 2))
			shm_free(block);
	}
}

/* KiB that others may have taken meanwhile: what would be left behind is more. */
#define TOLERATED	8192

/* KiB that the machine has given to memory of the kind in use, or 0 if it does not say. */
static long memory_in_use(enum shmdev_backend backend)
{
	long kib[4] = { 0 };
	static const char *const fields[] = {
		"HugePages_Total:", "HugePages_Free:", "HugePages_Rsvd:", "Shmem:",
	};
	FILE *meminfo = fopen("/proc/meminfo", "re");
	char line[128];

	CHECK(meminfo);
	while (fgets(line, sizeof(line), meminfo))
		for (int i = 0; i < 4; i++)
			if (!strncmp(line, fields[i], strlen(fields[i])))
				kib[i] = atol(line + strlen(fields[i]));
	fclose(meminfo);
	switch (backend) {
	case SHMDEV_BACKEND_DEVICE:
		return 0;
	case SHMDEV_BACKEND_HUGETLB:
		return (kib[0] - (kib[1] - kib[2])) * 2048;
	default:
		return kib[3];
	}
}

/* Exporters and attachers, all of them killed; the KiB that are there afterwards and stay. */
static long storm(enum shmdev_backend backend)
{
	long before, left = 0;
	const char *soak = getenv("SHMDEV_SOAK");
	int rounds = 40 * (soak ? atoi(soak) : 1);
	unsigned int descriptors;
	uint32_t random = 99;
	int channel[2];

	CHECK_EQ(pipe(channel), 0);
	before = memory_in_use(backend);
	descriptors = count_descriptors();
	for (int round = 0; round < rounds; round++) {
		pid_t children[4];

		for (unsigned int i = 0; i < 4; i++) {
			fflush(stdout);
			children[i] = fork();
			CHECK(children[i] >= 0);
			if (children[i])
				continue;
			if (i % 2)
				attacher(channel[0]);
			storming_exporter(channel[1], round * 4 + i);
		}
		usleep(2000 + random_below(&random, 20000));
		/* In any order; those who are left go on with handles of the dead. */
		for (unsigned int left = 4; left; left--) {
			unsigned int i = random_below(&random, left);
			int status;

			CHECK_EQ(kill(children[i], SIGKILL), 0);
			CHECK_EQ(waitpid(children[i], &status, 0), children[i]);
			if (!WIFSIGNALED(status))
				CHECK_EQ(status, 0);
			children[i] = children[left - 1];
		}
	}
	CHECK_EQ(info_now().regions, 0);
	CHECK_EQ(count_descriptors(), descriptors);
	CHECK_EQ(count_region_mappings(), 0);
	close(channel[0]);
	close(channel[1]);
	for (int tries = 0; tries < 200; tries++) {
		left = memory_in_use(backend) - before;
		if (left <= TOLERATED)
			break;
		usleep(50000);
	}
	return left;
}

/* Others use the machine too, which can spoil a trial; what we leave behind spoils them all. */
static void kill_storm(void)
{
	enum shmdev_backend backend = need_backend();
	long left = 0;

	info_now();
	for (int trial = 0; trial < 3; trial++) {
		left = storm(backend);
		if (left <= TOLERATED)
			return;
		tap_note("%ld KiB more in use than before", left);
	}
	CHECK(left <= TOLERATED);
}

TAP_MAIN(TAP_TEST(kill_storm))
