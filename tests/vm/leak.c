// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/*
 * A module that goes by the name of shmdev and does what only a debug kernel finds, for
 * test_harness.py: it forgets memory, or has a LICENSE for which lockdep switches itself
 * off.
 */
#include <linux/module.h>
#include <linux/slab.h>

/* Not in the init section, which is gone when its name would be looked for. */
static noinline int leak_some(void)
{
	int i;

	/* More than may be left over by chance in a register or on a stack. */
	for (i = 0; i < 16; i++)
		if (!kmalloc(100, GFP_KERNEL))
			return -ENOMEM;
	return 0;
}

static int __init leak_init(void)
{
	return leak_some();
}

static void __exit leak_exit(void)
{
}

module_init(leak_init);
module_exit(leak_exit);

MODULE_DESCRIPTION("Forgets memory");
MODULE_LICENSE(LICENSE);
