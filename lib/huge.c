// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/* How much of a region is mapped by huge pages: only the kernel knows. */
#define _GNU_SOURCE
#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "shmdev.h"

/*
 * What a line says of huge pages, in bytes.  Those of the device are of a file that is
 * neither of shmem nor of hugetlbfs.
 */
static uint64_t line_huge(const char *line)
{
	static const char *const fields[] = {
		"FilePmdMapped:", "ShmemPmdMapped:", "Shared_Hugetlb:", "Private_Hugetlb:",
	};
	unsigned long long kilobytes;

	for (size_t i = 0; i < sizeof(fields) / sizeof(*fields); i++)
		if (!strncmp(line, fields[i], strlen(fields[i])) &&
		    sscanf(line + strlen(fields[i]), "%llu", &kilobytes) == 1)
			return kilobytes << 10;
	return 0;
}

int shmdev_region_huge_bytes(const struct shmdev_region *region, uint64_t *bytes)
{
	uintptr_t low = (uintptr_t)shmdev_region_addr(region);
	uintptr_t high = low + shmdev_region_size(region);
	FILE *smaps = fopen("/proc/self/smaps", "re");
	unsigned long long start, end;
	bool inside = false;
	uint64_t sum = 0;
	char line[256];
	int err = 0;

	if (!smaps)
		return errno == ENOENT || errno == ENOTDIR ? -EOPNOTSUPP : -errno;
	/* A region is one mapping or, after an mprotect(2), several neighbours. */
	while (fgets(line, sizeof(line), smaps)) {
		if (sscanf(line, "%llx-%llx ", &start, &end) == 2)
			inside = start >= low && end <= high;
		else if (inside)
			sum += line_huge(line);
	}
	if (ferror(smaps))
		err = -EIO;
	fclose(smaps);
	if (!err)
		*bytes = sum;
	return err;
}
