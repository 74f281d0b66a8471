// SPDX-License-Identifier: GPL-2.0-only
/*
 * Threads and processes do everything to everything, and check.
 *
 * Each region has a tag, and each of its bytes is 0 or the tag: whatever happens in
 * whatever order, nothing else may ever be seen in it.
 * The seed is printed; SHMDEV_SEED repeats it, as far as the scheduler does.
 */
#include <pthread.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/socket.h>

#include "ring.h"
#include "util.h"

enum { PROCESSES = 3, THREADS = 2, SLOTS = 4, MAX_HUGE = 3 };

/* What one process knows: slots that its threads use at the same time. */
struct slot {
	pthread_mutex_t lock;
	int fd;
	size_t size;
	uint8_t tag;
	char *map;
	size_t map_len;
};

/* What all know: tokens of regions, one for each slot of each process. */
struct shared {
	struct shmdev_export tokens[PROCESSES * SLOTS];
	uint64_t operations;
	char error[256];
};

static struct slot slots[SLOTS];
static struct shared *shared;
static int device, me, mail[PROCESSES][2];

static void fail(const char *what, long value, int slot)
{
	if (!shared->error[0])
		snprintf(shared->error, sizeof(shared->error), "%s: %ld (%s) in slot %d of %d",
			 what, value, value < 0 ? strerror(-value) : "", slot, me);
	_exit(1);
}

/* Everything that may be read is 0 or the tag. */
static void check(const struct slot *slot, const char *p, size_t len, const char *what)
{
	for (size_t i = 0; i < len; i += 97)
		if (p[i] && (uint8_t)p[i] != slot->tag)
			fail(what, (uint8_t)p[i], slot - slots);
}

static void drop(struct slot *slot)
{
	if (slot->map)
		munmap(slot->map, slot->map_len);
	if (slot->fd > 0)
		close(slot->fd);
	slot->map = NULL;
	slot->fd = -1;
}

static void adopt(struct slot *slot, int fd, uint8_t tag)
{
	struct stat st;

	drop(slot);
	if (fstat(fd, &st))
		fail("fstat", -errno, slot - slots);
	slot->fd = fd;
	slot->size = st.st_size;
	slot->tag = tag;
}

static void op_alloc(struct slot *slot, unsigned int *seed)
{
	size_t size = (rand_r(seed) % MAX_HUGE + 1) * HUGE;
	int fd = alloc_flags(device, size, rand_r(seed) % 4 ? 0 : SHMDEV_ALLOC_STRICT);

	if (fd == -ENOMEM)
		return;
	if (fd < 0)
		fail("alloc", fd, slot - slots);
	adopt(slot, fd, rand_r(seed) % 255 + 1);
}

static void op_map(struct slot *slot, unsigned int *seed)
{
	size_t offset, len;
	char *p;

	if (slot->fd < 0)
		return;
	offset = rand_r(seed) % slot->size & ~4095UL;
	len = rand_r(seed) % (slot->size - offset) + 1;
	p = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_SHARED |
		 (rand_r(seed) % 4 ? 0 : MAP_POPULATE), slot->fd, offset);
	if (p == MAP_FAILED) {
		if (errno != EPERM && errno != EACCES && errno != ENOMEM)
			fail("mmap", -errno, slot - slots);
		return;
	}
	if (slot->map)
		munmap(slot->map, slot->map_len);
	slot->map = p;
	slot->map_len = len;
}

static void op_touch(struct slot *slot, unsigned int *seed)
{
	size_t at, len;

	if (!slot->map)
		return;
	at = rand_r(seed) % slot->map_len;
	len = rand_r(seed) % (slot->map_len - at) + 1;
	len = len < 100000 ? len : 100000;
	check(slot, slot->map + at, len, "mapping");
	memset(slot->map + at, slot->tag, len);
}

static void op_pwrite(struct slot *slot, unsigned int *seed)
{
	static __thread char buf[70000];
	size_t len = rand_r(seed) % sizeof(buf);
	ssize_t n;

	if (slot->fd < 0)
		return;
	memset(buf, slot->tag, len);
	n = pwrite(slot->fd, buf, len, rand_r(seed) % slot->size);
	if (n < 0 && errno != EPERM && errno != EBADF)
		fail("pwrite", -errno, slot - slots);
}

static void op_pread(struct slot *slot, unsigned int *seed)
{
	static __thread char buf[70000];
	ssize_t n;

	if (slot->fd < 0)
		return;
	n = pread(slot->fd, buf, rand_r(seed) % sizeof(buf), rand_r(seed) % slot->size);
	if (n < 0)
		fail("pread", -errno, slot - slots);
	check(slot, buf, n, "pread");
}

static void op_splice(struct slot *slot, unsigned int *seed)
{
	static __thread char buf[65536];
	int pipe_fd[2];
	loff_t offset;
	ssize_t n;

	if (slot->fd < 0 || pipe(pipe_fd))
		return;
	offset = rand_r(seed) % slot->size;
	n = splice(slot->fd, &offset, pipe_fd[1], NULL, sizeof(buf), SPLICE_F_NONBLOCK);
	if (n < 0 && errno != EAGAIN)
		fail("splice", -errno, slot - slots);
	if (n > 0 && rand_r(seed) % 2) {
		n = read(pipe_fd[0], buf, n);
		check(slot, buf, n, "splice");
	}
	close(pipe_fd[0]);
	close(pipe_fd[1]);
}

static void op_zero(struct slot *slot, unsigned int *seed)
{
	off_t offset;
	int ret;

	if (slot->fd < 0)
		return;
	offset = rand_r(seed) % 3 ? rand_r(seed) % slot->size :
				    rand_r(seed) % slot->size & ~(HUGE - 1);
	ret = zero_range(slot->fd, offset, slot->size - offset);
	if (ret && ret != -EPERM && ret != -EBADF)
		fail("fallocate", ret, slot - slots);
}

static void op_seal(struct slot *slot, unsigned int *seed)
{
	uint32_t seals = rand_r(seed) % 2 ? SHMDEV_SEAL_WRITE : SHMDEV_SEAL_FUTURE_WRITE;
	int ret;

	/* Rarely, or there would be nothing else soon. */
	if (slot->fd < 0 || rand_r(seed) % 8)
		return;
	ret = region_seal(slot->fd, seals);
	if (ret && ret != -EBUSY && ret != -EPERM)
		fail("seal", ret, slot - slots);
}

static void op_export(struct slot *slot, unsigned int *seed)
{
	struct shmdev_export export;
	int ret;

	(void)seed;
	if (slot->fd < 0)
		return;
	ret = region_export(slot->fd, &export);
	if (ret)
		fail("export", ret, slot - slots);
	/* Who reads it while it is written has a token of nothing. */
	shared->tokens[me * SLOTS + (slot - slots)] = export;
}

/* Of a process that may just be dropping it. */
static void op_attach(struct slot *slot, unsigned int *seed)
{
	int i = rand_r(seed) % (PROCESSES * SLOTS);
	struct shmdev_export export = shared->tokens[i];
	int fd = attach_flags(device, &export, rand_r(seed) % 3 ? 0 : SHMDEV_ATTACH_RDONLY);

	if (fd == -ENOENT)
		return;
	if (fd < 0)
		fail("attach", fd, slot - slots);
	close(fd);
}

/* By SCM_RIGHTS, to any process, itself too; what nobody fetches goes with the socket. */
static void op_send(struct slot *slot, unsigned int *seed)
{
	char control[CMSG_SPACE(sizeof(int))] = {};
	struct iovec iov = { &slot->tag, 1 };
	struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1, .msg_control = control,
			      .msg_controllen = sizeof(control) };
	struct cmsghdr *cmsg = CMSG_FIRSTHDR(&msg);

	if (slot->fd < 0)
		return;
	cmsg->cmsg_level = SOL_SOCKET;
	cmsg->cmsg_type = SCM_RIGHTS;
	cmsg->cmsg_len = CMSG_LEN(sizeof(int));
	memcpy(CMSG_DATA(cmsg), &slot->fd, sizeof(int));
	sendmsg(mail[rand_r(seed) % PROCESSES][1], &msg, MSG_DONTWAIT);
}

static void op_receive(struct slot *slot, unsigned int *seed)
{
	char control[CMSG_SPACE(sizeof(int))] = {};
	uint8_t tag;
	struct iovec iov = { &tag, 1 };
	struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1, .msg_control = control,
			      .msg_controllen = sizeof(control) };
	struct cmsghdr *cmsg;
	int fd;

	(void)seed;
	if (recvmsg(mail[me][0], &msg, MSG_DONTWAIT | MSG_CMSG_CLOEXEC) != 1)
		return;
	cmsg = CMSG_FIRSTHDR(&msg);
	if (!cmsg)
		fail("recvmsg without a descriptor", 0, slot - slots);
	memcpy(&fd, CMSG_DATA(cmsg), sizeof(fd));
	adopt(slot, fd, tag);
}

static void op_unmap_part(struct slot *slot, unsigned int *seed)
{
	size_t len;

	if (!slot->map || slot->map_len <= 4096)
		return;
	len = (rand_r(seed) % (slot->map_len / 4096) + 1) * 4096;
	if (len >= slot->map_len)
		len = slot->map_len & ~4095UL;
	if (rand_r(seed) % 2)
		len = len < 8192 ? len : 4096;
	munmap(slot->map, len);
	slot->map += len;
	slot->map_len -= len;
	if (!slot->map_len)
		slot->map = NULL;
}

static void op_remap(struct slot *slot, unsigned int *seed)
{
	char *p;

	(void)seed;
	if (!slot->map)
		return;
	p = mremap(slot->map, slot->map_len, slot->map_len, MREMAP_MAYMOVE | MREMAP_DONTUNMAP);
	if (p != MAP_FAILED) {
		munmap(slot->map, slot->map_len);
		slot->map = p;
	}
	/* It does not grow. */
	if (mremap(slot->map, slot->map_len, slot->map_len + MAX_HUGE * HUGE,
		   MREMAP_MAYMOVE) != MAP_FAILED)
		fail("mremap grows", 0, slot - slots);
}

static void op_advise(struct slot *slot, unsigned int *seed)
{
	/* All that there is, but for what breaks memory. */
	int advice = rand_r(seed) % 30;

	if (!slot->map || advice == MADV_DONTFORK)
		return;
	madvise(slot->map, slot->map_len & ~4095UL, advice);
}

static void op_protect(struct slot *slot, unsigned int *seed)
{
	(void)seed;
	if (!slot->map)
		return;
	mprotect(slot->map, slot->map_len, PROT_READ);
	check(slot, slot->map, slot->map_len < 4096 ? slot->map_len : 4096, "protected");
	if (mprotect(slot->map, slot->map_len, PROT_READ | PROT_WRITE))
		fail("mprotect", -errno, slot - slots);
}

static void op_lock(struct slot *slot, unsigned int *seed)
{
	if (!slot->map)
		return;
	if (rand_r(seed) % 2)
		mlock(slot->map, slot->map_len);
	else
		munlock(slot->map, slot->map_len);
}

/* Pinned for a while, mapped or not. */
static void op_pin(struct slot *slot, unsigned int *seed)
{
	struct ring ring;

	if (!slot->map || ring_open(&ring))
		return;
	ring_pin(&ring, slot->map, slot->map_len);
	if (rand_r(seed) % 2) {
		munmap(slot->map, slot->map_len);
		slot->map = NULL;
	}
	if (slot->fd > 0)
		op_zero(slot, seed);
	ring_close(&ring);
}

/* A child with all of it, or with the memory too (vfork), that ends in one way or another. */
static void op_fork(struct slot *slot, unsigned int *seed)
{
	int how = rand_r(seed) % 3;
	pid_t pid = how == 1 ? vfork() : fork();

	if (!pid) {
		if (how == 0 && slot->map)
			*(volatile char *)slot->map = slot->tag;
		if (how == 2)
			execl("/bin/true", "true", NULL);
		_exit(0);
	}
	if (pid > 0)
		waitpid(pid, NULL, 0);
}

static void op_drop(struct slot *slot, unsigned int *seed)
{
	if (rand_r(seed) % 3) {
		drop(slot);
	} else if (slot->fd > 0) {
		/* The mapping alone. */
		close(slot->fd);
		slot->fd = -1;
	}
}

static void (*const ops[])(struct slot *slot, unsigned int *seed) = {
	op_alloc, op_alloc, op_map, op_map, op_touch, op_touch, op_touch, op_pwrite, op_pread,
	op_splice, op_zero, op_zero, op_seal, op_export, op_attach, op_attach, op_send,
	op_receive, op_unmap_part, op_remap, op_advise, op_protect, op_lock, op_pin, op_fork,
	op_drop,
};

static void *work(void *arg)
{
	unsigned int seed = (unsigned long)arg;
	int rounds = soak(400);

	for (int i = 0; i < rounds; i++) {
		struct slot *slot = &slots[rand_r(&seed) % SLOTS];

		pthread_mutex_lock(&slot->lock);
		ops[rand_r(&seed) % (sizeof(ops) / sizeof(*ops))](slot, &seed);
		pthread_mutex_unlock(&slot->lock);
		__atomic_add_fetch(&shared->operations, 1, __ATOMIC_RELAXED);
	}
	return NULL;
}

static void process(unsigned int seed)
{
	pthread_t threads[THREADS];

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	for (int i = 0; i < SLOTS; i++) {
		pthread_mutex_init(&slots[i].lock, NULL);
		slots[i].fd = -1;
	}
	for (long i = 0; i < THREADS; i++)
		if (pthread_create(&threads[i], NULL, work, (void *)(seed * 100L + me * 10 + i)))
			fail("pthread_create", -errno, -1);
	for (int i = 0; i < THREADS; i++)
		pthread_join(threads[i], NULL);
	_exit(0);
}

TEST(everything)
{
	unsigned int seed = getenv("SHMDEV_SEED") ? atoi(getenv("SHMDEV_SEED")) : time(NULL);
	struct shmdev_query q;
	pid_t pids[PROCESSES];
	int status;

	TH_LOG("SHMDEV_SEED=%u", seed);
	device = device_open();
	ASSERT_LE(0, device);
	shared = mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS,
		      -1, 0);
	ASSERT_NE(MAP_FAILED, (void *)shared);
	for (int i = 0; i < PROCESSES; i++)
		ASSERT_EQ(0, socketpair(AF_UNIX, SOCK_DGRAM, 0, mail[i]));
	for (me = 0; me < PROCESSES; me++) {
		pids[me] = fork();
		ASSERT_LE(0, pids[me]);
		if (!pids[me])
			process(seed);
	}
	for (int i = 0; i < PROCESSES; i++) {
		/* One of them dies without notice, in the middle of something. */
		if (i == PROCESSES - 1 && seed % 2)
			kill(pids[i], SIGKILL);
		ASSERT_EQ(pids[i], waitpid(pids[i], &status, 0));
		EXPECT_TRUE(!status || (WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL)) {
			TH_LOG("process %d: status %#x: %s", i, status, shared->error);
		}
	}
	EXPECT_STREQ("", shared->error);
	TH_LOG("%llu operations", (unsigned long long)shared->operations);
	EXPECT_LT(0, shared->operations);
	for (int i = 0; i < PROCESSES; i++) {
		close(mail[i][0]);
		close(mail[i][1]);
	}
	/* What was in the sockets goes by the garbage collector of the sockets. */
	EXPECT_TRUE(WAIT_FOR(!query(device, &q) && !q.regions)) {
		TH_LOG("%llu regions are left", q.regions);
	}
	EXPECT_EQ(0, q.region_bytes);
	close(device);
}

TEST_HARNESS_MAIN
