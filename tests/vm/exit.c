// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/*
 * $(exit N) for GNU make: end make itself, with status N.
 *
 * make has one status, 2, for every recipe that fails, and whoever runs "make vm" wants
 * to know how the command ended, or that it was the machine that failed (125).
 */
#include <gnumake.h>
#include <stdlib.h>

/* What make asks of what it loads; so are both of this file's licences. */
int plugin_is_GPL_compatible;

static char *make_exit(const char *name, unsigned int argc, char **argv)
{
	(void)name;
	(void)argc;
	exit(atoi(argv[0]));
}

int exit_gmk_setup(const gmk_floc *where)
{
	(void)where;
	gmk_add_function("exit", make_exit, 1, 1, GMK_FUNC_DEFAULT);
	return 1;
}
