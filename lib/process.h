/* SPDX-License-Identifier: LGPL-2.1-or-later OR MIT */
/* Processes as /proc knows them: which one we are, and the descriptors of others. */
#ifndef SHMDEV_LIB_PROCESS_H
#define SHMDEV_LIB_PROCESS_H

#include <stdint.h>
#include <sys/stat.h>

#define BOOT_ID_SIZE	16

/*
 * A process, by a number that others have after it, and by when it was started, in
 * clock ticks since the machine was; and the namespace in which it has this number.
 */
struct process {
	uint32_t pid;
	uint64_t started;
	uint64_t namespace;
};

/* Who we are.  0, or -EOPNOTSUPP: there is no /proc. */
int process_self(struct process *process);

/* A child is not who its parent was. */
void process_fork_child(void);

/* A number for this machine since it was booted; zeros where there is no /proc. */
void process_boot_id(unsigned char id[BOOT_ID_SIZE]);

/*
 * Open the file that is descriptor @fd of @process, with @access, if it is the one of
 * @dev, @ino and @size.  Nothing else is opened, whose number ever it has become; if
 * another process has the number, and that file by the same one, the file it is.
 *
 * The descriptor, close-on-exec, or: -ENOENT the process, its descriptor or the file
 * is gone; -EXDEV it is gone or in another namespace; -EACCES it is another user's, or
 * hides; -EOPNOTSUPP there is no /proc; -EMFILE, -ENFILE, -ENOMEM.
 */
int process_open(const struct process *process, uint32_t fd, int access, uint64_t dev,
		 uint64_t ino, uint64_t size);

#endif
