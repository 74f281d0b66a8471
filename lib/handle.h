/* SPDX-License-Identifier: LGPL-2.1-or-later OR MIT */
#ifndef SHMDEV_LIB_HANDLE_H
#define SHMDEV_LIB_HANDLE_H

#include "shmdev.h"

/* 0; -EPROTONOSUPPORT: of a later version; -EINVAL: not a handle. */
int handle_check(const struct shmdev_handle *handle);

#endif
