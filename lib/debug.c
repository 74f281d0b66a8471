// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
#define _GNU_SOURCE
#include "debug.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

int debug_state = DEBUG_UNKNOWN;

bool debug_read(void)
{
	const char *text = secure_getenv("SHMDEV_DEBUG");
	bool on = text && *text && strcmp(text, "0");

	/* Two threads that come here at a time find the same. */
	__atomic_store_n(&debug_state, on ? DEBUG_ON : DEBUG_OFF, __ATOMIC_RELAXED);
	return on;
}

void debug_say(const char *format, ...)
{
	char line[512];
	int saved = errno;
	va_list args;
	size_t len;

	len = snprintf(line, sizeof(line), "shmdev[%d]: ", (int)getpid());
	va_start(args, format);
	vsnprintf(line + len, sizeof(line) - len - 1, format, args);
	va_end(args);
	len = strlen(line);
	line[len++] = '\n';
	/* Where it cannot be written, there is nobody to be told. */
	if (write(STDERR_FILENO, line, len) < 0)
		errno = saved;
	errno = saved;
}
