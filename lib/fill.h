/* SPDX-License-Identifier: LGPL-2.1-or-later OR MIT */
#ifndef SHMDEV_LIB_FILL_H
#define SHMDEV_LIB_FILL_H

#include "shmdev.h"

/* How a batch goes into regions of @backend, where there is more than one read in it. */
enum shmdev_fill_engine fill_engine(enum shmdev_backend backend);

#endif
