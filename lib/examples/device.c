// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
#include <err.h>
#include <fcntl.h>
#include <linux/shmdev.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

int main(void)
{
	struct shmdev_query query = { .abi_version = 0 };
	struct shmdev_alloc alloc = { .size = 1 };
	struct shmdev_export export = { .flags = 0 };
	struct shmdev_attach attach = { .flags = SHMDEV_ATTACH_RDONLY };
	char *memory, *again;
	int device, region, other;

	device = open("/dev/shmdev", O_RDWR | O_CLOEXEC);
	if (device < 0)
		err(2, "/dev/shmdev");
	if (ioctl(device, SHMDEV_IOC_QUERY, &query) || query.abi_version < 2)
		errx(1, "not the device, or too old a module");

	/* A region: zeroed memory that is there already, as a file. */
	region = ioctl(device, SHMDEV_IOC_ALLOC, &alloc);
	if (region < 0)
		err(1, "no memory");
	memory = mmap(NULL, alloc.size, PROT_READ | PROT_WRITE, MAP_SHARED, region, 0);
	if (memory == MAP_FAILED)
		err(1, "mmap");
	strcpy(memory, "Hello from the device.");

	/* The token would go to another process, which opens the device, too. */
	if (ioctl(region, SHMDEV_IOC_EXPORT, &export))
		err(1, "no token");
	memcpy(attach.token, export.token, sizeof(attach.token));
	other = ioctl(device, SHMDEV_IOC_ATTACH, &attach);
	if (other < 0)
		err(1, "attach");
	again = mmap(NULL, alloc.size, PROT_READ, MAP_SHARED, other, 0);
	if (again == MAP_FAILED)
		err(1, "mmap");
	printf("%llu bytes: %s\n", (unsigned long long)alloc.size, again);
	return 0;
}
