// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/*
 * How long until another process has memory mapped and has read from it: a tool of
 * tests/bench/bench_share.py.  The memory is there and written to before; a run is from
 * naming it to the other's answer, and what it costs the other to let go is not in it.
 */
#define _GNU_SOURCE
#include <shmdev.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/socket.h>

#include "tool.h"

#define NAME	"/shmdev-bench"

/* What the other process is told. */
struct order {
	int way;
	size_t size;
	struct shmdev_handle handle;
};

static int channel[2];		/* ours, the other's */

static int descriptor_send(int fd)
{
	union {
		struct cmsghdr header;
		char bytes[CMSG_SPACE(sizeof(int))];
	} control = { 0 };
	struct iovec data = { "", 1 };
	struct msghdr message = {
		.msg_iov = &data, .msg_iovlen = 1,
		.msg_control = &control, .msg_controllen = sizeof(control),
	};

	control.header.cmsg_level = SOL_SOCKET;
	control.header.cmsg_type = SCM_RIGHTS;
	control.header.cmsg_len = CMSG_LEN(sizeof(int));
	memcpy(CMSG_DATA(&control.header), &fd, sizeof(fd));
	return sendmsg(channel[0], &message, 0) == 1 ? 0 : -errno;
}

static int descriptor_receive(void)
{
	union {
		struct cmsghdr header;
		char bytes[CMSG_SPACE(sizeof(int))];
	} control;
	char byte;
	struct iovec data = { &byte, 1 };
	struct msghdr message = {
		.msg_iov = &data, .msg_iovlen = 1,
		.msg_control = &control, .msg_controllen = sizeof(control),
	};
	int fd = -1;

	if (recvmsg(channel[1], &message, MSG_CMSG_CLOEXEC) == 1)
		memcpy(&fd, CMSG_DATA(&control.header), sizeof(fd));
	return fd;
}

/* --- ways: make the memory, name it, and, in the other process, get it and let go ------- */

struct memory {
	void *addr;
	size_t size;
	int fd;
};

static int mapped_make(struct memory *memory)
{
	if (memory->fd < 0 || ftruncate(memory->fd, memory->size))
		return -errno;
	memory->addr = mmap(NULL, memory->size, PROT_READ | PROT_WRITE, MAP_SHARED, memory->fd, 0);
	return memory->addr == MAP_FAILED ? -errno : 0;
}

static int posix_make(struct memory *memory)
{
	shm_unlink(NAME);
	memory->fd = shm_open(NAME, O_RDWR | O_CREAT | O_EXCL, 0600);
	return mapped_make(memory);
}

static int memfd_make(struct memory *memory)
{
	memory->fd = memfd_create("bench", MFD_CLOEXEC);
	return mapped_make(memory);
}

static void mapped_drop(struct memory *memory)
{
	munmap(memory->addr, memory->size);
	close(memory->fd);
}

static int nothing_name(const struct memory *memory, struct order *order)
{
	(void)memory, (void)order;
	return 0;
}

static int mapped_get(struct memory *memory)
{
	memory->addr = mmap(NULL, memory->size, PROT_READ | PROT_WRITE, MAP_SHARED, memory->fd, 0);
	return memory->addr == MAP_FAILED ? -errno : 0;
}

static int posix_get(const struct order *order, struct memory *memory)
{
	(void)order;
	memory->fd = shm_open(NAME, O_RDWR, 0);
	return memory->fd < 0 ? -errno : mapped_get(memory);
}

static int memfd_get(const struct order *order, struct memory *memory)
{
	(void)order;
	memory->fd = descriptor_receive();
	return memory->fd < 0 ? -EBADF : mapped_get(memory);
}

static int memfd_pass(const struct memory *memory)
{
	return descriptor_send(memory->fd);
}

static int nothing_pass(const struct memory *memory)
{
	(void)memory;
	return 0;
}

static int block_make(struct memory *memory)
{
	memory->addr = shm_alloc(memory->size);
	return memory->addr ? 0 : -errno;
}

static void block_drop(struct memory *memory)
{
	shm_free(memory->addr);
}

static int block_name(const struct memory *memory, struct order *order)
{
	return shmdev_export(memory->addr, &order->handle);
}

static int block_pass(const struct memory *memory)
{
	return shmdev_send(channel[0], memory->addr, 0);
}

static int handle_get(const struct order *order, struct memory *memory)
{
	memory->addr = shmdev_attach(&order->handle);
	return memory->addr ? 0 : -errno;
}

static int message_get(const struct order *order, struct memory *memory)
{
	(void)order;
	memory->addr = shmdev_recv(channel[1], NULL);
	return memory->addr ? 0 : -errno;
}

static void attached_drop(struct memory *memory)
{
	shmdev_detach(memory->addr);
}

static const struct way {
	const char *name;
	int (*make)(struct memory *memory);
	int (*name_it)(const struct memory *memory, struct order *order);
	int (*pass)(const struct memory *memory);
	int (*get)(const struct order *order, struct memory *memory);
	void (*let_go)(struct memory *memory);
	void (*drop)(struct memory *memory);
	bool known;		/* the other has the region already */
} ways[] = {
	{ "shm_open", posix_make, nothing_name, nothing_pass, posix_get, mapped_drop,
	  mapped_drop, false },
	{ "memfd", memfd_make, nothing_name, memfd_pass, memfd_get, mapped_drop, mapped_drop,
	  false },
	{ "handle", block_make, block_name, nothing_pass, handle_get, attached_drop, block_drop,
	  false },
	{ "handle-known", block_make, block_name, nothing_pass, handle_get, attached_drop,
	  block_drop, true },
	{ "send", block_make, nothing_name, block_pass, message_get, attached_drop, block_drop,
	  false },
};

static _Noreturn void other_main(void)
{
	struct memory memory, known = { 0 };
	struct order order;
	int result;

	while (read(channel[1], &order, sizeof(order)) == sizeof(order)) {
		const struct way *way = &ways[order.way];

		memory = (struct memory){ .size = order.size };
		result = way->get(&order, &memory);
		if (!result)
			result = *(volatile unsigned char *)memory.addr;
		if (write(channel[1], &result, sizeof(result)) != sizeof(result))
			_exit(1);
		if (result < 0)
			continue;
		/* Asked again, it is known until the next. */
		if (known.addr)
			attached_drop(&known);
		known.addr = NULL;
		if (way->known)
			known = memory;
		else
			way->let_go(&memory);
	}
	_exit(0);
}

static int ask(const struct way *way, const struct memory *memory, struct order *order)
{
	int result, err;

	err = way->name_it(memory, order);
	if (err)
		return err;
	if (write(channel[0], order, sizeof(*order)) != sizeof(*order))
		return -errno;
	err = way->pass(memory);
	if (err)
		return err;
	if (read(channel[0], &result, sizeof(result)) != sizeof(result))
		return -EIO;
	return result < 0 ? result : result == 7 ? 0 : -EBADMSG;
}

static int measure_way(const struct way *way, size_t size)
{
	struct memory memory = { .size = size };
	struct order order = { .way = way - ways, .size = size };
	double start, end;
	int err;

	err = way->make(&memory);
	if (err)
		return err;
	memset(memory.addr, 7, size);
	err = way->known ? ask(way, &memory, &order) : 0;
	start = now();
	if (!err)
		err = ask(way, &memory, &order);
	end = now();
	way->drop(&memory);
	if (!err)
		printf("seconds=%.9f\n", end - start);
	return err;
}

/* The names alone: 1,000 of one block. */
static int measure_export(size_t size)
{
	struct shmdev_handle handle;
	void *block = shm_alloc(size);
	double start;
	int err = block ? 0 : -errno;

	start = now();
	for (int i = 0; !err && i < 1000; i++)
		err = shmdev_export(block, &handle);
	if (!err)
		printf("seconds=%.9f\n", (now() - start) / 1000);
	shm_free(block);
	return err;
}

static int measure(const char *name, size_t size)
{
	if (!strcmp(name, "export"))
		return measure_export(size);
	for (size_t i = 0; i < sizeof(ways) / sizeof(*ways); i++)
		if (!strcmp(name, ways[i].name))
			return measure_way(&ways[i], size);
	return -EINVAL;
}

int main(void)
{
	int status;

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, channel))
		return 1;
	/* Before the library is used: the other one knows of no region. */
	switch (fork()) {
	case -1:
		return 1;
	case 0:
		close(channel[0]);
		other_main();
	}
	close(channel[1]);
	status = tool_main(measure);
	shm_unlink(NAME);
	return status;
}
