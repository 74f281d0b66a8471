/* SPDX-License-Identifier: GPL-2.0-only */
/* Inserting and removing the module. */
#ifndef SHMDEV_KSELFTEST_MODULE_H
#define SHMDEV_KSELFTEST_MODULE_H

#include <sys/syscall.h>
#include <sys/utsname.h>

#include "util.h"

static inline int module_remove(void)
{
	return result(syscall(__NR_delete_module, "shmdev", O_NONBLOCK));
}

/* SHMDEV_KO names the module's file; by default where make puts it. */
static inline int module_insert(const char *params)
{
	const char *path = getenv("SHMDEV_KO");
	struct utsname uts;
	char buf[512];
	int fd, ret;

	if (!path) {
		uname(&uts);
		snprintf(buf, sizeof(buf), "build/kmod/%s/shmdev.ko", uts.release);
		path = buf;
	}
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	ret = result(syscall(__NR_finit_module, fd, params, 0));
	close(fd);
	return ret;
}

#endif /* SHMDEV_KSELFTEST_MODULE_H */
