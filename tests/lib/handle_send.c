// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/* Handles: memory that is sent by sockets. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <linux/capability.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>

#include "handle_checks.h"
#include "tap.h"
#include "util.h"

#define MIB	((size_t)1 << 20)

static void send_and_receive(void)
{
	static const int types[] = { SOCK_STREAM, SOCK_SEQPACKET, SOCK_DGRAM };
	struct shmdev_handle handle;
	unsigned int descriptors;
	char *block, *here;
	int pair[2], end;
	pid_t child;
	size_t size;

	need_backend();
	for (size_t i = 0; i < 3; i++) {
		CHECK_EQ(socketpair(AF_UNIX, types[i] | SOCK_CLOEXEC, 0, pair), 0);
		child = exporter(3 * MIB, &handle, &end);
		block = shmdev_attach(&handle);
		CHECK(block);
		end_exporter(child, end);
		descriptors = count_descriptors();
		CHECK_EQ(shmdev_send(pair[0], block + 17, 0), 0);
		CHECK_EQ(shmdev_send(pair[0], block, SHMDEV_SEND_RDONLY), 0);
		CHECK_EQ(shmdev_send(pair[0], block, 0), 0);
		CHECK_EQ(count_descriptors(), descriptors);
		/* What is under way keeps the memory. */
		shmdev_detach(block);
		CHECK_EQ(info_now().regions, 0);

		here = shmdev_recv(pair[1], &size);
		CHECK(here);
		CHECK_EQ(size, handle.region_size - handle.offset - 17);
		CHECK(pattern_is(here, 3 * MIB - 17, 5, 17));
		block = shmdev_recv(pair[1], NULL);
		CHECK(block && block != here - 17);
		CHECK(pattern_is(block, 3 * MIB, 5, 0));
		CHECK_EQ(mprotect((void *)((uintptr_t)block & -4096L), 4096,
				  PROT_READ | PROT_WRITE), -1);
		shmdev_detach(block);
		block = shmdev_recv(pair[1], &size);
		CHECK(block == here - 17);
		shmdev_detach(block);
		shmdev_detach(here);
		CHECK_EQ(info_now().regions, 0);
		CHECK_EQ(count_descriptors(), descriptors - 1);

		CHECK_EQ(shmdev_send(pair[0], &size, 0), -ENOENT);
		CHECK_EQ(shmdev_send(pair[0], NULL, 0), -ENOENT);
		CHECK_EQ(fcntl(pair[1], F_SETFL, O_NONBLOCK), 0);
		CHECK_FAILS(shmdev_recv(pair[1], NULL), EAGAIN);
		close(pair[0]);
		if (types[i] != SOCK_DGRAM)
			CHECK_FAILS(shmdev_recv(pair[1], NULL), ENODATA);
		close(pair[1]);
	}
}

static void send_errors(void)
{
	unsigned int descriptors;
	char *block;
	int pair[2], sent = 0, err;

	need_backend();
	block = shm_alloc(2 * MIB);
	CHECK_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, pair), 0);
	descriptors = count_descriptors();
	CHECK_EQ(shmdev_send(pair[0], block, 2), -EINVAL);
	CHECK_EQ(shmdev_send(-1, block, 0), -EBADF);
	CHECK_EQ(shmdev_send(open("/dev/null", O_RDWR), block, 0), -ENOTSOCK);
	close(descriptors);
	while (!(err = shmdev_send(pair[0], block, sent % 2 ? SHMDEV_SEND_RDONLY : 0)))
		sent++;
	CHECK(err == -EAGAIN || err == -ETOOMANYREFS);
	CHECK(sent > 10);
	close(pair[1]);
	CHECK_EQ(shmdev_send(pair[0], block, 0), -EPIPE);
	CHECK_FAILS(shmdev_recv(-1, NULL), EBADF);
	shm_free(block);
}

/* Bytes and descriptors as somebody else may send them. */
static void raw_send(int sock, const void *bytes, size_t len, const int *fds, size_t nr)
{
	union {
		struct cmsghdr header;
		char bytes[CMSG_SPACE(4 * sizeof(int))];
	} control = { 0 };
	struct iovec data = { (void *)bytes, len };
	struct msghdr message = { .msg_iov = &data, .msg_iovlen = 1 };

	if (nr) {
		message.msg_control = &control;
		message.msg_controllen = CMSG_SPACE(nr * sizeof(int));
		control.header.cmsg_level = SOL_SOCKET;
		control.header.cmsg_type = SCM_RIGHTS;
		control.header.cmsg_len = CMSG_LEN(nr * sizeof(int));
		memcpy(CMSG_DATA(&control.header), fds, nr * sizeof(int));
	}
	CHECK_EQ(sendmsg(sock, &message, 0), len);
}

static void receive_is_not_fooled(void)
{
	struct { uint32_t magic, version; uint64_t offset, size, reserved; } good, message;
	unsigned int descriptors;
	struct shmdev_region *region;
	int pair[2], fds[4];
	char *here;

	need_backend();
	region = shmdev_region_create(2 * MIB, 0);
	CHECK_EQ(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, pair), 0);
	CHECK_EQ(shmdev_send(pair[0], shmdev_region_addr(region), 0), 0);
	CHECK_EQ(recv(pair[1], &good, sizeof(good), 0), sizeof(good));
	for (int i = 0; i < 4; i++)
		fds[i] = shmdev_region_fd(region);
	descriptors = count_descriptors();

#define TRY(error, len, nr, change)						\
	do {									\
		message = good;							\
		change;								\
		raw_send(pair[0], &message, len, fds, nr);			\
		CHECK_FAILS(shmdev_recv(pair[1], NULL), error);			\
		CHECK_EQ(count_descriptors(), descriptors);			\
	} while (0)
	TRY(EBADMSG, sizeof(good), 0, (void)0);
	TRY(EBADMSG, sizeof(good) - 1, 1, (void)0);
	TRY(EBADMSG, 1, 1, (void)0);
	TRY(EBADMSG, sizeof(good), 4, (void)0);
	TRY(EBADMSG, sizeof(good), 1, message.magic++);
	TRY(EPROTONOSUPPORT, sizeof(good), 1, message.version++);
	TRY(EPROTONOSUPPORT, sizeof(good), 1, message.reserved++);
	TRY(EINVAL, sizeof(good), 1, message.size = 0);
	TRY(EINVAL, sizeof(good), 1, message.size += 1);
	TRY(EINVAL, sizeof(good), 1, message.offset = UINT64_MAX);
	TRY(EINVAL, sizeof(good), 1, message.offset = good.size + 1);
	fds[0] = pair[0];
	TRY(EINVAL, sizeof(good), 1, (void)0);
	fds[0] = memfd_create("test", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	CHECK_EQ(ftruncate(fds[0], 2 * MIB), 0);
	descriptors++;
	TRY(EINVAL, sizeof(good), 1, (void)0);	/* it could shrink */
#undef TRY
	raw_send(pair[0], &good, sizeof(good), &fds[1], 1);
	here = shmdev_recv(pair[1], NULL);
	CHECK(here == shmdev_region_addr(region));
	shmdev_detach(here);
	shmdev_region_unref(region);
}

static void receive_locked(void *argument)
{
	const struct rlimit limit = { MIB, MIB };
	struct __user_cap_header_struct header = { .version = _LINUX_CAPABILITY_VERSION_3 };
	struct __user_cap_data_struct caps[2];
	const int *pair = argument;

	/* What may lock as much as it likes, is not refused. */
	CHECK_EQ(syscall(SYS_capget, &header, caps), 0);
	caps[0].effective &= ~(1U << CAP_IPC_LOCK);
	CHECK_EQ(syscall(SYS_capset, &header, caps), 0);
	CHECK_EQ(setrlimit(RLIMIT_MEMLOCK, &limit), 0);
	/* Not mlockall(3), which sanitizers make nothing of. */
	CHECK_EQ(syscall(SYS_mlockall, MCL_FUTURE), 0);
	CHECK_FAILS(shmdev_recv(pair[1], NULL), ENOMEM);
	CHECK_EQ(syscall(SYS_munlockall), 0);
	/* That message is gone, and there is no other. */
	CHECK_FAILS(shmdev_recv(pair[1], NULL), EAGAIN);
}

/* The kernel says EAGAIN for memory that may not be locked, as for a message that is not there. */
static void receive_what_cannot_be_mapped(void)
{
	struct shmdev_region *region;
	int pair[2];

	need_backend();
	region = shmdev_region_create(4 * MIB, 0);
	CHECK(region);
	CHECK_EQ(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK, 0, pair), 0);
	/* Read-only, as that is none that the child has already. */
	CHECK_EQ(shmdev_send(pair[0], shmdev_region_addr(region), SHMDEV_SEND_RDONLY), 0);
	CHECK_EQ(in_child(receive_locked, pair), 0);
	shmdev_region_unref(region);
}

TAP_MAIN(TAP_TEST(send_and_receive),
	 TAP_TEST(send_errors),
	 TAP_TEST(receive_is_not_fooled),
	 TAP_TEST(receive_what_cannot_be_mapped))
