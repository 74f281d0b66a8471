// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/* Regions that travel to other processes, and what is left when processes die. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include <linux/shmdev.h>

#include "tap.h"
#include "util.h"

#define MIB	((size_t)1 << 20)

/* Send @fd and @offset, by the only means there is between unrelated processes. */
static void send_region(int socket, int fd, size_t offset)
{
	union {
		struct cmsghdr header;
		char bytes[CMSG_SPACE(sizeof(int))];
	} control = { 0 };
	struct iovec data = { &offset, sizeof(offset) };
	struct msghdr message = {
		.msg_iov = &data, .msg_iovlen = 1,
		.msg_control = &control, .msg_controllen = sizeof(control),
	};

	control.header.cmsg_level = SOL_SOCKET;
	control.header.cmsg_type = SCM_RIGHTS;
	control.header.cmsg_len = CMSG_LEN(sizeof(int));
	memcpy(CMSG_DATA(&control.header), &fd, sizeof(fd));
	CHECK_EQ(sendmsg(socket, &message, 0), sizeof(offset));
}

static int receive_region(int socket, size_t *offset)
{
	union {
		struct cmsghdr header;
		char bytes[CMSG_SPACE(sizeof(int))];
	} control;
	struct iovec data = { offset, sizeof(*offset) };
	struct msghdr message = {
		.msg_iov = &data, .msg_iovlen = 1,
		.msg_control = &control, .msg_controllen = sizeof(control),
	};
	int fd;

	CHECK_EQ(recvmsg(socket, &message, MSG_CMSG_CLOEXEC), sizeof(*offset));
	CHECK_EQ(message.msg_controllen, CMSG_SPACE(sizeof(int)));
	memcpy(&fd, CMSG_DATA(&control.header), sizeof(fd));
	return fd;
}

static void send_block(int socket, const void *block)
{
	size_t offset;
	struct shmdev_region *region = shmdev_block_share(block, &offset);

	CHECK(region);
	send_region(socket, shmdev_region_fd(region), offset);
	shmdev_region_unref(region);
}

static void say(int socket, char word)
{
	CHECK_EQ(write(socket, &word, 1), 1);
}

static void hear(int socket, char word)
{
	char heard;

	CHECK_EQ(read(socket, &heard, 1), 1);
	CHECK_EQ(heard, word);
}

/* A process that has nothing of ours but a socket: forked before all else. */
static pid_t start_peer(void (*peer)(int), int *socket)
{
	int pair[2];
	pid_t child;

	CHECK_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
	fflush(stdout);
	child = fork();
	CHECK(child >= 0);
	if (!child) {
		close(pair[0]);
		peer(pair[1]);
		exit(0);
	}
	close(pair[1]);
	*socket = pair[0];
	return child;
}

static void look_and_change(int socket)
{
	struct shmdev_region *region, *again;
	size_t offset;
	int fd;

	/* Two blocks of one region: one mapping. */
	fd = receive_region(socket, &offset);
	region = shmdev_region_open(fd);
	CHECK(region);
	close(fd);
	CHECK_EQ(strcmp((char *)shmdev_region_addr(region) + offset, "first"), 0);
	strcpy((char *)shmdev_region_addr(region) + offset, "seen first");

	fd = receive_region(socket, &offset);
	again = shmdev_region_open(fd);
	CHECK(again == region);
	close(fd);
	CHECK_EQ(info_now().regions, 1);
	CHECK_EQ(strcmp((char *)shmdev_region_addr(region) + offset, "second"), 0);
	strcpy((char *)shmdev_region_addr(region) + offset, "seen second");

	/* It cannot be cut down to size by us. */
	CHECK_EQ(ftruncate(shmdev_region_fd(region), 0), -1);
	say(socket, 'd');

	/* It lives on when its maker has let go. */
	hear(socket, 'f');
	CHECK_EQ(strcmp((char *)shmdev_region_addr(region) + offset, "seen second"), 0);
	memset(shmdev_region_addr(region), 1, shmdev_region_size(region));
	shmdev_region_unref(region);
	shmdev_region_unref(again);
	CHECK_EQ(info_now().regions, 0);
}

static void a_region_travels_by_socket(void)
{
	char *first, *second;
	int socket;
	pid_t peer;

	peer = start_peer(look_and_change, &socket);
	need_backend();
	first = shm_alloc(1000);
	second = shm_alloc(100000);
	CHECK(first && second);
	strcpy(first, "first");
	strcpy(second, "second");
	send_block(socket, first);
	send_block(socket, second);
	hear(socket, 'd');
	CHECK_EQ(strcmp(first, "seen first"), 0);
	CHECK_EQ(strcmp(second, "seen second"), 0);
	shm_free(first);
	shm_free(second);
	CHECK_EQ(info_now().regions, 0);
	say(socket, 'f');
	wait_good(peer);
}

static void fill_for_another(int socket)
{
	struct shmdev_region *region;
	struct shm_fill fill;
	size_t offset;
	int fd = receive_region(socket, &offset);

	region = shmdev_region_open(fd);
	CHECK(region);
	fill = (struct shm_fill){
		.dst = (char *)shmdev_region_addr(region) + offset,
		.len = 3 * MIB,
		.fd = pattern_file(3 * MIB, 12),
	};
	CHECK_EQ(shm_fill(&fill, 1), 0);
	CHECK_EQ(fill.result, 3 * MIB);
	say(socket, 'd');
}

static void a_peer_fills_a_block(void)
{
	char *block;
	int socket;
	pid_t peer;

	peer = start_peer(fill_for_another, &socket);
	need_backend();
	block = shm_alloc(3 * MIB);
	CHECK(block);
	send_block(socket, block);
	hear(socket, 'd');
	CHECK(pattern_is(block, 3 * MIB, 12, 0));
	wait_good(peer);
	shm_free(block);
}

/* --- Death ----------------------------------------------------------------------- */

/*
 * How much memory there is that our regions could be holding: huge pages in use or
 * reserved, bytes of the device's regions, or memory of memfds and the like.
 */
static uint64_t held_bytes(enum shmdev_backend backend)
{
	struct shmdev_query query = { 0 };
	unsigned long total = 0, free_pages = 0, reserved = 0, shmem = 0;
	char line[128];
	FILE *file;
	int device;

	if (backend == SHMDEV_BACKEND_DEVICE) {
		device = open("/dev/shmdev", O_RDWR | O_CLOEXEC);
		CHECK(device >= 0);
		CHECK_EQ(ioctl(device, SHMDEV_IOC_QUERY, &query), 0);
		close(device);
		return query.region_bytes;
	}
	file = fopen("/proc/meminfo", "re");
	CHECK(file);
	while (fgets(line, sizeof(line), file)) {
		sscanf(line, "HugePages_Total: %lu", &total);
		sscanf(line, "HugePages_Free: %lu", &free_pages);
		sscanf(line, "HugePages_Rsvd: %lu", &reserved);
		sscanf(line, "Shmem: %lu", &shmem);
	}
	fclose(file);
	if (backend == SHMDEV_BACKEND_HUGETLB)
		return (total - free_pages + reserved) * 2 * MIB;
	return shmem * 1024;
}

#define HELD	(48 * MIB)

static void hold_and_wait(int socket)
{
	struct shmdev_region *region = shmdev_region_create(HELD / 2, 0);
	char *block = shm_alloc(HELD / 2);

	if (!region || !block) {
		CHECK_EQ(errno, ENOMEM);
		say(socket, 'n');
		pause();
	}
	memset(shmdev_region_addr(region), 1, HELD / 2);
	memset(block, 1, HELD / 2);
	/* By a descriptor that is still on its way, and one in a socket nobody reads. */
	send_block(socket, block);
	say(socket, 'r');
	pause();
}

static void kill_leaves_nothing(void)
{
	enum shmdev_backend backend;
	uint64_t before, with, after;
	int socket, fd, status;
	size_t offset;
	pid_t peer;
	char word;

	backend = need_backend();
	before = held_bytes(backend);
	peer = start_peer(hold_and_wait, &socket);
	fd = receive_region(socket, &offset);
	CHECK_EQ(read(socket, &word, 1), 1);
	if (word == 'n')
		tap_skip("no memory for the victim");
	with = held_bytes(backend);
	close(fd);
	CHECK_EQ(kill(peer, SIGKILL), 0);
	CHECK_EQ(waitpid(peer, &status, 0), peer);
	close(socket);
	/* Others use the machine too; half of what was held must have come and gone. */
	for (int tries = 0; tries < 6000; tries++) {
		after = held_bytes(backend);
		if (after + HELD / 2 < with)
			break;
		poll(NULL, 0, 10);
	}
	tap_note("MiB held: %llu before, %llu with it, %llu after",
		 (unsigned long long)(before / MIB), (unsigned long long)(with / MIB),
		 (unsigned long long)(after / MIB));
	CHECK(after + HELD / 2 < with);
}

static void the_heir_of_a_killed_process_has_it_all(void)
{
	struct shmdev_region *region;
	int socket, fd, status;
	size_t offset;
	pid_t peer;
	char word;

	need_backend();
	peer = start_peer(hold_and_wait, &socket);
	fd = receive_region(socket, &offset);
	CHECK_EQ(read(socket, &word, 1), 1);
	if (word == 'n')
		tap_skip("no memory for the victim");
	CHECK_EQ(kill(peer, SIGKILL), 0);
	CHECK_EQ(waitpid(peer, &status, 0), peer);
	region = shmdev_region_open(fd);
	CHECK(region);
	close(fd);
	CHECK(is_all((char *)shmdev_region_addr(region) + offset, HELD / 2, 1));
	shmdev_region_unref(region);
}

TAP_MAIN(TAP_TEST(a_region_travels_by_socket),
	 TAP_TEST(a_peer_fills_a_block),
	 TAP_TEST(kill_leaves_nothing),
	 TAP_TEST(the_heir_of_a_killed_process_has_it_all))
