// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
#include "backend.h"
#include "fill.h"
#include "heap.h"
#include "region.h"
#include "shmdev.h"

int shmdev_info_get(struct shmdev_info *info)
{
	int backend = backend_next();

	if (backend < 0)
		return backend;
	*info = (struct shmdev_info){
		.backend = backend,
		.fill_engine = fill_engine(backend),
		.page_size = backend_page_size(backend),
	};
	region_count(&info->regions, &info->region_bytes);
	heap_count(&info->blocks, &info->block_bytes);
	return 0;
}

const char *shmdev_fill_engine_name(enum shmdev_fill_engine engine)
{
	static const char *const names[SHMDEV_FILL_NR] = {
		[SHMDEV_FILL_FIXED] = "fixed",
		[SHMDEV_FILL_RING] = "ring",
		[SHMDEV_FILL_PREADV] = "preadv",
	};

	return (unsigned int)engine < SHMDEV_FILL_NR ? names[engine] : NULL;
}
