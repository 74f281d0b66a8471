// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/*
 * Memory for other processes: by a handle, or by a descriptor through a socket.
 *
 * A region of the device has a token.  A memfd is found as a descriptor of the process
 * that exported it, and what is found there is made sure to be that memfd before it is
 * opened, and after.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "backend.h"
#include "fork.h"
#include "handle.h"
#include "heap.h"
#include "process.h"
#include "region.h"
#include "shmdev.h"

_Static_assert(sizeof(((struct shmdev_handle *)0)->token) == TOKEN_SIZE, "one token");
_Static_assert(sizeof(((struct shmdev_handle *)0)->boot) == BOOT_ID_SIZE, "one boot id");

/* The region that @ptr lies in, with a reference, and what is behind @ptr; or NULL. */
static struct shmdev_region *find(const void *ptr, size_t *offset, size_t *left)
{
	struct shmdev_region *region = heap_share(ptr, offset, left);

	if (region)
		return region;
	region = region_at(ptr);
	if (!region)
		return NULL;
	/*
	 * Where the heap has no block there was one, or will be.  Whoever has the region,
	 * or an attachment of it, may have what is left of one that was shared and freed.
	 */
	if (heap_knows(ptr) && !region_is_held(region)) {
		shmdev_region_unref(region);
		return NULL;
	}
	*offset = (const char *)ptr - (const char *)shmdev_region_addr(region);
	*left = shmdev_region_size(region) - *offset;
	return region;
}

/* --- Handles -------------------------------------------------------------------- */

static int export_region(struct shmdev_region *region, struct shmdev_handle *handle)
{
	struct region_identity identity;
	struct process self;
	int err;

	err = region_export(region, &identity);
	if (err)
		return err;
	handle->region_size = identity.size;
	handle->dev = identity.dev;
	handle->ino = identity.ino;
	process_boot_id(handle->boot);
	if (shmdev_region_backend(region) == SHMDEV_BACKEND_DEVICE) {
		handle->kind = SHMDEV_HANDLE_TOKEN;
		memcpy(handle->token, identity.token, TOKEN_SIZE);
		return 0;
	}
	err = process_self(&self);
	if (err)
		return err;
	handle->kind = SHMDEV_HANDLE_DESCRIPTOR;
	handle->pid = self.pid;
	handle->started = self.started;
	handle->pid_namespace = self.namespace;
	handle->fd = shmdev_region_fd(region);
	return 0;
}

int shmdev_export(const void *ptr, struct shmdev_handle *handle)
{
	struct shmdev_handle made = { .version = SHMDEV_HANDLE_VERSION };
	struct shmdev_region *region;
	size_t offset, left;
	int err;

	region = find(ptr, &offset, &left);
	if (!region)
		return -ENOENT;
	made.offset = offset;
	made.size = left;
	err = export_region(region, &made);
	shmdev_region_unref(region);
	if (!err)
		*handle = made;
	return err;
}

int shmdev_region_export(struct shmdev_region *region, struct shmdev_handle *handle)
{
	struct shmdev_handle made = {
		.version = SHMDEV_HANDLE_VERSION, .size = shmdev_region_size(region),
	};
	int err = export_region(region, &made);

	if (!err)
		*handle = made;
	return err;
}

/* Whether @handle was made on this machine since it was booted, as far as one can know. */
static bool is_of_here(const struct shmdev_handle *handle)
{
	static const unsigned char unknown[BOOT_ID_SIZE];
	unsigned char boot[BOOT_ID_SIZE];

	process_boot_id(boot);
	return !memcmp(handle->boot, boot, BOOT_ID_SIZE) ||
	       !memcmp(handle->boot, unknown, BOOT_ID_SIZE) ||
	       !memcmp(boot, unknown, BOOT_ID_SIZE);
}

/* A descriptor of what @handle stands for, or -errno. */
static int handle_open(const struct shmdev_handle *handle, bool readonly)
{
	struct process process = {
		.pid = handle->pid, .started = handle->started,
		.namespace = handle->pid_namespace,
	};

	if (handle->kind == SHMDEV_HANDLE_TOKEN)
		return backing_attach(handle->token, readonly);
	return process_open(&process, handle->fd, readonly ? O_RDONLY : O_RDWR, handle->dev,
			    handle->ino, handle->region_size);
}

/* Behind the gate.  0 or -errno. */
static int region_find(const struct shmdev_handle *handle, bool readonly, bool attach,
		       struct shmdev_region **region)
{
	struct region_identity identity = {
		.dev = handle->dev, .ino = handle->ino, .size = handle->region_size,
	};
	int fd, err;

	memcpy(identity.token, handle->token, TOKEN_SIZE);
	*region = region_get_known(&identity, readonly, attach);
	if (*region)
		return 0;
	fd = handle_open(handle, readonly);
	if (fd < 0)
		return fd;
	err = region_get(fd, &identity, readonly, attach, region);
	close(fd);
	return err;
}

/* The region of @handle; NULL + errno. */
static struct shmdev_region *handle_region(const struct shmdev_handle *handle, bool readonly,
					   bool attach)
{
	struct shmdev_region *region;
	int err;

	err = handle_check(handle);
	if (!err && !is_of_here(handle))
		err = -EXDEV;
	if (!err)
		err = fork_init();
	if (!err) {
		fork_gate_enter();
		err = region_find(handle, readonly, attach, &region);
		fork_gate_leave();
	}
	if (err) {
		errno = -err;
		return NULL;
	}
	return region;
}

static void *attach(const struct shmdev_handle *handle, bool readonly)
{
	/* A peer may write to it meanwhile: what was checked is what is used. */
	const struct shmdev_handle copy = *handle;
	struct shmdev_region *region = handle_region(&copy, readonly, true);

	return region ? (char *)shmdev_region_addr(region) + copy.offset : NULL;
}

struct shmdev_region *shmdev_region_attach(const struct shmdev_handle *handle)
{
	const struct shmdev_handle copy = *handle;

	return handle_region(&copy, false, false);
}

struct shmdev_region *shmdev_region_attach_rdonly(const struct shmdev_handle *handle)
{
	const struct shmdev_handle copy = *handle;

	return handle_region(&copy, true, false);
}

void *shmdev_attach(const struct shmdev_handle *handle)
{
	return attach(handle, false);
}

const void *shmdev_attach_rdonly(const struct shmdev_handle *handle)
{
	return attach(handle, true);
}

void shmdev_detach(const void *ptr)
{
	int err = errno;
	bool attached;

	if (!ptr)
		return;
	fork_gate_enter();
	attached = region_detach(ptr);
	fork_gate_leave();
	if (!attached) {
		fprintf(stderr, "shmdev: shmdev_detach(%p): not attached\n", ptr);
		abort();
	}
	errno = err;
}

struct shmdev_region *shmdev_region_of(const void *ptr, size_t *offset)
{
	struct shmdev_region *region;
	size_t left;

	region = find(ptr, offset, &left);
	if (!region)
		errno = ENOENT;
	return region;
}

/* --- Sockets -------------------------------------------------------------------- */

/* What goes beside a descriptor. */
struct message {
	uint32_t magic;
	uint32_t version;
	uint64_t offset;
	uint64_t size;
	uint64_t reserved;
};

#define MESSAGE_MAGIC	0x73686d64U
#define MESSAGE_VERSION	1

union control {
	struct cmsghdr header;
	char bytes[CMSG_SPACE(sizeof(int))];
};

/* Does not wait.  0 or -errno. */
static int message_send(int sock, const struct message *message, int fd)
{
	union control control = { 0 };
	struct iovec data = { (void *)message, sizeof(*message) };
	struct msghdr header = {
		.msg_iov = &data, .msg_iovlen = 1,
		.msg_control = &control, .msg_controllen = sizeof(control),
	};
	ssize_t sent;

	control.header.cmsg_level = SOL_SOCKET;
	control.header.cmsg_type = SCM_RIGHTS;
	control.header.cmsg_len = CMSG_LEN(sizeof(int));
	memcpy(CMSG_DATA(&control.header), &fd, sizeof(fd));
	do
		sent = sendmsg(sock, &header, MSG_NOSIGNAL | MSG_DONTWAIT);
	while (sent < 0 && errno == EINTR);
	if (sent < 0)
		return -errno;
	/* Less than a page: a socket takes all of it or nothing. */
	return sent == sizeof(*message) ? 0 : -EIO;
}

/* Close what came in @header but for the first of it, which is stored in *@fd. */
static void descriptors_take(struct msghdr *header, int *fd)
{
	for (struct cmsghdr *one = CMSG_FIRSTHDR(header); one; one = CMSG_NXTHDR(header, one)) {
		size_t nr = (one->cmsg_len - CMSG_LEN(0)) / sizeof(int);

		if (one->cmsg_level != SOL_SOCKET || one->cmsg_type != SCM_RIGHTS)
			continue;
		for (size_t i = 0; i < nr; i++) {
			int came;

			memcpy(&came, CMSG_DATA(one) + i * sizeof(int), sizeof(came));
			if (*fd < 0)
				*fd = came;
			else
				close(came);
		}
	}
}

/*
 * A whole message, and its descriptor, which is then the caller's.  Does not wait: it was
 * sent at once, so that a part of one is no part of ours.  0 or -errno.
 */
static int message_receive(int sock, struct message *message, int *fd)
{
	union control control;
	struct iovec data = { message, sizeof(*message) };
	struct msghdr header = {
		.msg_iov = &data, .msg_iovlen = 1,
		.msg_control = &control, .msg_controllen = sizeof(control),
	};
	ssize_t got;
	int err;

	*fd = -1;
	do
		got = recvmsg(sock, &header, MSG_CMSG_CLOEXEC | MSG_DONTWAIT);
	while (got < 0 && errno == EINTR);
	if (got < 0)
		return -errno;
	descriptors_take(&header, fd);
	if (!got && *fd < 0)
		return -ENODATA;
	/* Cut off: no descriptor could be had here, or more than one came. */
	err = header.msg_flags & MSG_CTRUNC && *fd < 0 ? -EMFILE : -EBADMSG;
	if (got < (ssize_t)sizeof(*message) || *fd < 0 ||
	    header.msg_flags & (MSG_CTRUNC | MSG_TRUNC) || message->magic != MESSAGE_MAGIC)
		goto close_fd;
	err = -EPROTONOSUPPORT;
	if (message->version != MESSAGE_VERSION || message->reserved)
		goto close_fd;
	return 0;

close_fd:
	if (*fd >= 0)
		close(*fd);
	return err;
}

/* Send @message and a descriptor of @region.  Behind the gate. */
static int region_send(int sock, const struct message *message,
		       const struct shmdev_region *region, bool readonly)
{
	int fd, err;

	if (!readonly)
		return message_send(sock, message, shmdev_region_fd(region));
	fd = region_reopen(region);
	if (fd < 0)
		return fd;
	err = message_send(sock, message, fd);
	close(fd);
	return err;
}

/*
 * Wait until @sock takes a message, unless its owner does not want to wait.  In front of
 * the gate, where no fork waits for the other side.  0 or -errno.
 */
static int wait_writable(int sock)
{
	struct pollfd poller = { .fd = sock, .events = POLLOUT };
	int flags = fcntl(sock, F_GETFL);

	if (flags < 0)
		return -errno;
	if (flags & O_NONBLOCK)
		return -EAGAIN;
	return poll(&poller, 1, -1) < 0 && errno != EINTR ? -errno : 0;
}

int shmdev_send(int sock, const void *ptr, unsigned int flags)
{
	struct message message = { .magic = MESSAGE_MAGIC, .version = MESSAGE_VERSION };
	struct shmdev_region *region;
	size_t offset, left;
	int err;

	if (flags & ~SHMDEV_SEND_RDONLY)
		return -EINVAL;
	region = find(ptr, &offset, &left);
	if (!region)
		return -ENOENT;
	message.offset = offset;
	message.size = left;

	do {
		fork_gate_enter();
		err = region_send(sock, &message, region, flags & SHMDEV_SEND_RDONLY);
		fork_gate_leave();
	} while (err == -EAGAIN && !(err = wait_writable(sock)));
	shmdev_region_unref(region);
	return err;
}

/* Behind the gate.  0 or -errno. */
static int attach_received(int fd, const struct message *message, struct shmdev_region **region)
{
	struct region_identity identity = { 0 };
	struct stat st;
	int flags = fcntl(fd, F_GETFL);

	if (flags < 0 || fstat(fd, &st))
		return -errno;
	if (flags & O_PATH)
		return -EINVAL;
	if (st.st_size <= 0 || !message->size || message->offset > (uint64_t)st.st_size ||
	    message->size > st.st_size - message->offset)
		return -EINVAL;
	identity.dev = st.st_dev;
	identity.ino = st.st_ino;
	identity.size = st.st_size;
	return region_get(fd, &identity, (flags & O_ACCMODE) == O_RDONLY, true, region);
}

/* Wait for a message, as long as @sock lets us.  0 or -errno. */
static int wait_readable(int sock)
{
	ssize_t got;
	char byte;

	do
		got = recv(sock, &byte, 1, MSG_PEEK);
	while (got < 0 && errno == EINTR);
	return got < 0 ? -errno : 0;
}

/* The next message, attached.  0 or -errno. */
static int receive(int sock, struct message *message, struct shmdev_region **region)
{
	int fd, err;

	do {
		/* As in wait_writable(), no fork waits for the other side. */
		err = wait_readable(sock);
		if (err)
			return err;
		fork_gate_enter();
		err = message_receive(sock, message, &fd);
		if (!err) {
			err = attach_received(fd, message, region);
			close(fd);
			/* Of mmap, with RLIMIT_MEMLOCK: this message is gone. */
			if (err == -EAGAIN)
				err = -ENOMEM;
		}
		fork_gate_leave();
	} while (err == -EAGAIN);	/* another thread has taken it */
	return err;
}

void *shmdev_recv(int sock, size_t *size)
{
	struct shmdev_region *region;
	struct message message;
	int err;

	err = fork_init();
	if (!err)
		err = receive(sock, &message, &region);
	if (err) {
		errno = -err;
		return NULL;
	}
	if (size)
		*size = message.size;
	return (char *)shmdev_region_addr(region) + message.offset;
}
