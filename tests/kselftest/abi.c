// SPDX-License-Identifier: GPL-2.0-only
/* What all commands have in common: layout, sizes, flags, reserved bytes, bad pointers. */
#include "util.h"

/* A command and a good argument for it. */
struct command {
	const char *name;
	unsigned int cmd;
	bool of_region;
	size_t flags;			/* offset, 0 if there are none */
	size_t flags_size;
	uint64_t known;
	size_t zero, zero_end;		/* must be 0, */
	size_t zero2, zero2_end;	/* and this */
	bool gives_fd;
};

#define RESERVED(type) offsetof(type, reserved), sizeof(type)

static const struct command commands[] = {
	{
		"QUERY", SHMDEV_IOC_QUERY, false, 0, 0, 0,
		RESERVED(struct shmdev_query), 0, 0, false,
	}, {
		"ALLOC", SHMDEV_IOC_ALLOC, false,
		offsetof(struct shmdev_alloc, flags), 8,
		SHMDEV_ALLOC_STRICT | SHMDEV_ALLOC_NODE | SHMDEV_ALLOC_NODE_STRICT,
		RESERVED(struct shmdev_alloc),
		/* The node is one of them, without its flag. */
		offsetof(struct shmdev_alloc, node), offsetof(struct shmdev_alloc, huge_bytes),
		true,
	}, {
		"ATTACH", SHMDEV_IOC_ATTACH, false,
		offsetof(struct shmdev_attach, flags), 8, SHMDEV_ATTACH_RDONLY,
		RESERVED(struct shmdev_attach), 0, 0, true,
	}, {
		"STAT", SHMDEV_IOC_STAT, true, 0, 0, 0,
		RESERVED(struct shmdev_stat), 0, 0, false,
	}, {
		"EXPORT", SHMDEV_IOC_EXPORT, true,
		offsetof(struct shmdev_export, flags), 8, 0,
		RESERVED(struct shmdev_export), 0, 0, false,
	}, {
		"SEAL", SHMDEV_IOC_SEAL, true,
		offsetof(struct shmdev_seal, seals), 4,
		SHMDEV_SEAL_WRITE | SHMDEV_SEAL_FUTURE_WRITE,
		RESERVED(struct shmdev_seal),
		offsetof(struct shmdev_seal, pad), offsetof(struct shmdev_seal, reserved), false,
	},
};

#define NR_COMMANDS (sizeof(commands) / sizeof(*commands))

static long ioctl_native(int fd, unsigned int cmd, void *arg)
{
	return result(ioctl(fd, cmd, arg));
}

#ifdef __x86_64__
/* As a 32-bit program calls; @arg must lie in the lower 4 GiB. */
static long ioctl_32(int fd, unsigned int cmd, void *arg)
{
	long ret;

	asm volatile("int $0x80" : "=a" (ret)
		     : "a" (54), "b" (fd), "c" (cmd), "d" ((uint32_t)(unsigned long)arg)
		     : "memory", "r8", "r9", "r10", "r11");
	return (int)ret;
}
#endif

FIXTURE(abi) {
	int dev;
	int region;
	int ro;
	char *page;		/* one that can be had, and none after it */
	struct shmdev_export export;
	struct shmdev_query before;
	struct shmdev_stat stat;
	int next_fd;
};

FIXTURE_VARIANT(abi) {
	long (*call)(int fd, unsigned int cmd, void *arg);
};

FIXTURE_VARIANT_ADD(abi, native) {
	.call = ioctl_native,
};

#ifdef __x86_64__
FIXTURE_VARIANT_ADD(abi, as_32_bit) {
	.call = ioctl_32,
};
#endif

static int lowest_fd(void)
{
	int fd = dup(0);

	close(fd);
	return fd;
}

FIXTURE_SETUP(abi)
{
	self->dev = device_open();
	ASSERT_LE(0, self->dev);
	self->region = alloc(self->dev, HUGE);
	ASSERT_LE(0, self->region);
	ASSERT_EQ(0, region_export(self->region, &self->export));
	self->page = mmap(NULL, 8192, PROT_READ | PROT_WRITE,
			  MAP_PRIVATE | MAP_ANONYMOUS | MAP_32BIT, -1, 0);
	ASSERT_NE(MAP_FAILED, self->page);
	ASSERT_EQ(0, munmap(self->page + 4096, 4096));
	ASSERT_EQ(0, query(self->dev, &self->before));
	ASSERT_EQ(0, region_stat(self->region, &self->stat));
	self->next_fd = lowest_fd();
}

/* Whatever failed has changed nothing. */
#define EXPECT_UNCHANGED()								\
do {											\
	struct shmdev_query now_;							\
	struct shmdev_stat stat_;							\
											\
	EXPECT_EQ(0, query(self->dev, &now_));						\
	EXPECT_EQ(self->before.regions, now_.regions);					\
	EXPECT_EQ(self->before.region_bytes, now_.region_bytes);			\
	EXPECT_EQ(self->before.user_bytes, now_.user_bytes);				\
	EXPECT_EQ(0, region_stat(self->region, &stat_));				\
	EXPECT_EQ(0, memcmp(&self->stat, &stat_, sizeof(stat_)));			\
	EXPECT_EQ(self->next_fd, lowest_fd());						\
} while (0)

FIXTURE_TEARDOWN(abi)
{
	munmap(self->page, 4096);
	close(self->region);
	close(self->dev);
}

/* A good argument, so that it ends where the page does. */
static void *argument(const struct command *command, char *page,
		      const struct shmdev_export *export)
{
	char *arg = page + 4096 - _IOC_SIZE(command->cmd);

	memset(page, 0, 4096);
	switch (command->cmd) {
	case SHMDEV_IOC_ALLOC:
		((struct shmdev_alloc *)arg)->size = HUGE;
		break;
	case SHMDEV_IOC_ATTACH:
		memcpy(arg, export->token, sizeof(export->token));
		break;
	case SHMDEV_IOC_SEAL:
		((struct shmdev_seal *)arg)->seals = SHMDEV_SEAL_FUTURE_WRITE;
		break;
	}
	return arg;
}

#define EACH_COMMAND(c) (const struct command *c = commands; c < commands + NR_COMMANDS; c++)
#define FD(c)		((c)->of_region ? self->region : self->dev)
#define ARGUMENT(c)	argument(c, self->page, &self->export)

TEST_F(abi, reserved_bytes)
{
	for EACH_COMMAND(c) {
		for (size_t i = 0; i < _IOC_SIZE(c->cmd); i++) {
			char *arg = ARGUMENT(c);

			if (!(i >= c->zero && i < c->zero_end) &&
			    !(i >= c->zero2 && i < c->zero2_end))
				continue;
			for (int bit = 0; bit < 8; bit += 7) {
				arg[i] = 1 << bit;
				EXPECT_EQ(-EINVAL, variant->call(FD(c), c->cmd, arg)) {
					TH_LOG("%s, byte %zu", c->name, i);
				}
			}
		}
	}
	EXPECT_UNCHANGED();
}

TEST_F(abi, unknown_flags)
{
	for EACH_COMMAND(c) {
		for (size_t bit = 0; bit < c->flags_size * 8; bit++) {
			char *arg = ARGUMENT(c);

			if (c->known & 1ULL << bit)
				continue;
			arg[c->flags + bit / 8] |= 1 << bit % 8;
			EXPECT_EQ(-EOPNOTSUPP, variant->call(FD(c), c->cmd, arg)) {
				TH_LOG("%s, bit %zu", c->name, bit);
			}
		}
	}
	EXPECT_UNCHANGED();
}

TEST_F(abi, bad_pointers)
{
	for EACH_COMMAND(c) {
		char *arg = ARGUMENT(c);

		EXPECT_EQ(-EFAULT, variant->call(FD(c), c->cmd, NULL));
		EXPECT_EQ(-EFAULT, variant->call(FD(c), c->cmd, (void *)1));
		EXPECT_EQ(-EFAULT, variant->call(FD(c), c->cmd, (void *)-1L));
		/* One byte short. */
		EXPECT_EQ(-EFAULT, variant->call(FD(c), c->cmd, arg + 1));
	}
	EXPECT_UNCHANGED();
}

/* What can be read and not written: what was made must go again. */
TEST_F(abi, read_only_argument)
{
	for EACH_COMMAND(c) {
		char *arg = ARGUMENT(c);

		/* A seal is set all the same: it cannot be taken back. */
		if (c->cmd == SHMDEV_IOC_SEAL)
			continue;
		ASSERT_EQ(0, mprotect(self->page, 4096, PROT_READ));
		EXPECT_EQ(-EFAULT, variant->call(FD(c), c->cmd, arg)) {
			TH_LOG("%s", c->name);
		}
		ASSERT_EQ(0, mprotect(self->page, 4096, PROT_READ | PROT_WRITE));
	}
	EXPECT_UNCHANGED();
}

TEST_F(abi, good_arguments)
{
	for EACH_COMMAND(c) {
		long ret = variant->call(FD(c), c->cmd, ARGUMENT(c));

		if (!c->gives_fd) {
			EXPECT_EQ(0, ret) {
				TH_LOG("%s", c->name);
			}
			continue;
		}
		EXPECT_EQ(self->next_fd, ret);
		EXPECT_EQ(FD_CLOEXEC, fcntl(ret, F_GETFD));
		close(ret);
	}
}

/* A command is its number, its direction and its size, and belongs to one kind of file. */
TEST_F(abi, unknown_commands)
{
	static const unsigned int dirs[] = { _IOC_NONE, _IOC_READ, _IOC_WRITE,
					     _IOC_READ | _IOC_WRITE };
	static const size_t sizes[] = { 0, 1, 8, 31, 32, 33, 40, 63, 64, 65, 72, 120, 127, 128,
					129, 136, 4096 };

	memset(self->page, 0, 4096);
	for (unsigned int nr = 0; nr < 256; nr++)
		for (size_t d = 0; d < 4; d++)
			for (size_t s = 0; s < sizeof(sizes) / sizeof(*sizes); s++) {
				unsigned int cmd = _IOC(dirs[d], SHMDEV_IOC_TYPE, nr, sizes[s]);
				bool of_device = false, of_region = false;

				for EACH_COMMAND(c) {
					of_device |= c->cmd == cmd && !c->of_region;
					of_region |= c->cmd == cmd && c->of_region;
				}
				if (!of_device)
					ASSERT_EQ(-ENOTTY, variant->call(self->dev, cmd,
									 self->page)) {
						TH_LOG("command %#x", cmd);
					}
				if (!of_region)
					ASSERT_EQ(-ENOTTY, variant->call(self->region, cmd,
									 self->page)) {
						TH_LOG("command %#x", cmd);
					}
			}
	EXPECT_TRUE(all_zero(self->page, 4096));
	EXPECT_UNCHANGED();
}

TEST_F(abi, wrong_descriptor)
{
	int null = open("/dev/null", O_RDWR | O_CLOEXEC);

	ASSERT_LE(0, null);
	for EACH_COMMAND(c) {
		EXPECT_EQ(-ENOTTY, variant->call(null, c->cmd, ARGUMENT(c)));
		EXPECT_EQ(-EBADF, variant->call(-1, c->cmd, ARGUMENT(c)));
	}
	close(null);
	EXPECT_UNCHANGED();
}

/* Offsets in structs, numbers in commands: for ever. */
#define FIELD(offset, type, field) EXPECT_EQ(offset, offsetof(struct type, field))

TEST(layout)
{
	EXPECT_EQ(128, sizeof(struct shmdev_query));
	FIELD(0, shmdev_query, abi_version);
	FIELD(4, shmdev_query, huge_page_shift);
	FIELD(8, shmdev_query, features);
	FIELD(16, shmdev_query, alloc_flags);
	FIELD(24, shmdev_query, pool_target_bytes);
	FIELD(32, shmdev_query, pool_bytes);
	FIELD(40, shmdev_query, pool_hits);
	FIELD(48, shmdev_query, pool_misses);
	FIELD(56, shmdev_query, regions);
	FIELD(64, shmdev_query, region_bytes);
	FIELD(72, shmdev_query, max_region_bytes);
	FIELD(80, shmdev_query, limit_bytes);
	FIELD(88, shmdev_query, user_limit_bytes);
	FIELD(96, shmdev_query, user_bytes);
	FIELD(104, shmdev_query, reserved);
	EXPECT_EQ(64, sizeof(struct shmdev_alloc));
	FIELD(0, shmdev_alloc, size);
	FIELD(8, shmdev_alloc, flags);
	FIELD(16, shmdev_alloc, node);
	FIELD(20, shmdev_alloc, pad);
	FIELD(24, shmdev_alloc, huge_bytes);
	FIELD(32, shmdev_alloc, pool_bytes);
	FIELD(40, shmdev_alloc, reserved);
	EXPECT_EQ(64, sizeof(struct shmdev_attach));
	FIELD(0, shmdev_attach, token);
	FIELD(16, shmdev_attach, flags);
	FIELD(24, shmdev_attach, reserved);
	EXPECT_EQ(64, sizeof(struct shmdev_stat));
	FIELD(0, shmdev_stat, size);
	FIELD(8, shmdev_stat, huge_bytes);
	FIELD(16, shmdev_stat, flags);
	FIELD(24, shmdev_stat, seals);
	FIELD(28, shmdev_stat, node);
	FIELD(32, shmdev_stat, reserved);
	EXPECT_EQ(64, sizeof(struct shmdev_export));
	FIELD(0, shmdev_export, token);
	FIELD(16, shmdev_export, flags);
	FIELD(24, shmdev_export, reserved);
	EXPECT_EQ(32, sizeof(struct shmdev_seal));
	FIELD(0, shmdev_seal, seals);
	FIELD(4, shmdev_seal, pad);
	FIELD(8, shmdev_seal, reserved);
	EXPECT_EQ(0xc080e900, SHMDEV_IOC_QUERY);
	EXPECT_EQ(0xc040e901, SHMDEV_IOC_ALLOC);
	EXPECT_EQ(0xc040e902, SHMDEV_IOC_ATTACH);
	EXPECT_EQ(0xc040e910, SHMDEV_IOC_STAT);
	EXPECT_EQ(0xc040e911, SHMDEV_IOC_EXPORT);
	EXPECT_EQ(0xc020e912, SHMDEV_IOC_SEAL);
	EXPECT_EQ(1, SHMDEV_ALLOC_STRICT);
	EXPECT_EQ(2, SHMDEV_ALLOC_NODE);
	EXPECT_EQ(4, SHMDEV_ALLOC_NODE_STRICT);
	EXPECT_EQ(1, SHMDEV_ATTACH_RDONLY);
	EXPECT_EQ(1, SHMDEV_STAT_EXPORTED);
	EXPECT_EQ(1, SHMDEV_SEAL_WRITE);
	EXPECT_EQ(2, SHMDEV_SEAL_FUTURE_WRITE);
	EXPECT_EQ(0x73686d64, SHMDEV_MAGIC);
}

/* A caller that knows version 1 of the header, spelt out as it was. */
struct query_v1 {
	uint32_t abi_version, huge_page_shift;
	uint64_t features, alloc_flags, pool_target_bytes, pool_bytes, pool_hits, pool_misses,
		 regions, region_bytes, max_region_bytes, reserved[6];
};

TEST_F(abi, older_caller)
{
	struct query_v1 *q = (void *)self->page;

	ASSERT_EQ(sizeof(*q), _IOC_SIZE(SHMDEV_IOC_QUERY));
	memset(q, 0, sizeof(*q));
	ASSERT_EQ(0, variant->call(self->dev, 0xc080e900, q));
	EXPECT_LE(1, q->abi_version);
	EXPECT_EQ(21, q->huge_page_shift);
	EXPECT_EQ(3, q->alloc_flags & 3);
	EXPECT_EQ(1, q->regions);
	EXPECT_EQ(HUGE, q->region_bytes);
	/* It may hand back what it was given, and knows nothing of what is in there now. */
	memset(q->reserved, 0, sizeof(q->reserved));
	EXPECT_EQ(0, variant->call(self->dev, 0xc080e900, q));
}

TEST_HARNESS_MAIN
