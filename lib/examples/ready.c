// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
#include <err.h>
#include <shmdev.h>
#include <stdio.h>
#include <string.h>

#define SIZE	((size_t)32 << 20)

int main(void)
{
	struct shmdev_ready_options options = { .limit = 2 * SIZE, .size = SIZE };
	struct shmdev_ready_info info;
	struct shmdev_region *region;

	if (shmdev_ready_start(&options) || shmdev_ready_wait(10000))
		errx(1, "no memory is ready");
	region = shmdev_region_create(SIZE, 0);
	if (!region)
		err(1, "no region");
	memset(shmdev_region_addr(region), 1, SIZE);	/* no fault in here */

	shmdev_ready_get(&info);
	if (info.hits == 1 || shmdev_region_backend(region) == SHMDEV_BACKEND_DEVICE)
		puts("It was ready.");
	shmdev_region_unref(region);
	shmdev_ready_stop();
	return 0;
}
