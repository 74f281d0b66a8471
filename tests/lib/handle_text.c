// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/* Handles: the struct and its text. */
#define _GNU_SOURCE
#include <stddef.h>

#include "tap.h"
#include "util.h"

static void layout_is_for_ever(void)
{
#define AT(field, offset)	CHECK_EQ(offsetof(struct shmdev_handle, field), offset)
	CHECK_EQ(sizeof(struct shmdev_handle), 128);
	CHECK_EQ(_Alignof(struct shmdev_handle), 8);
	AT(version, 0);
	AT(kind, 4);
	AT(offset, 8);
	AT(size, 16);
	AT(region_size, 24);
	AT(dev, 32);
	AT(ino, 40);
	AT(boot, 48);
	AT(token, 64);
	AT(pid, 80);
	AT(fd, 84);
	AT(started, 88);
	AT(pid_namespace, 96);
	AT(reserved, 104);
#undef AT
	CHECK_EQ(SHMDEV_HANDLE_VERSION, 1);
	CHECK_EQ(SHMDEV_HANDLE_TOKEN, 1);
	CHECK_EQ(SHMDEV_HANDLE_DESCRIPTOR, 2);
}

static const struct shmdev_handle sample = {
	.version = 1, .kind = 2, .offset = 0x1234, .size = 0x100, .region_size = 0x200000,
	.dev = 1, .ino = 0xfedcba9876543210,
	.boot = { 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15 },
	.pid = 4711, .fd = 5, .started = 99, .pid_namespace = 0xeffffffc,
};

static const char sample_text[] =
	"shmdev1-00000002" "0000000000001234" "0000000000000100" "0000000000200000"
	"0000000000000001" "fedcba9876543210" "000102030405060708090a0b0c0d0e0f"
	"00000000000000000000000000000000" "00001267" "00000005" "0000000000000063"
	"00000000effffffc";

static void text_is_for_ever(void)
{
	struct shmdev_handle handle;
	char text[SHMDEV_HANDLE_TEXT_SIZE];

	CHECK_EQ(shmdev_handle_format(&sample, text, sizeof(text)), sizeof(sample_text) - 1);
	CHECK(!strcmp(text, sample_text));
	CHECK_EQ(shmdev_handle_parse(sample_text, &handle), 0);
	CHECK(!memcmp(&handle, &sample, sizeof(handle)));

	CHECK_EQ(shmdev_handle_format(&sample, text, sizeof(sample_text)),
		 sizeof(sample_text) - 1);
	text[0] = 'x';
	CHECK_EQ(shmdev_handle_format(&sample, text, sizeof(sample_text) - 1), -ENOSPC);
	CHECK_EQ(shmdev_handle_format(&sample, NULL, 0), -ENOSPC);
	CHECK_EQ(text[0], 'x');
}

static void check_text(const char *text, int error)
{
	struct shmdev_handle handle = sample;

	CHECK_EQ(shmdev_handle_parse(text, &handle), error);
	CHECK(!memcmp(&handle, &sample, sizeof(handle)));
}

static void parse_is_strict(void)
{
	char text[SHMDEV_HANDLE_TEXT_SIZE + 2];
	const size_t len = sizeof(sample_text) - 1;

	for (size_t cut = 0; cut < len; cut++) {
		memcpy(text, sample_text, cut);
		text[cut] = '\0';
		check_text(text, -EINVAL);
	}
	for (size_t at = 0; at < len; at++) {
		static const char wrong[] = { 'g', ' ', 'A', '/', ':', '`', '-', '\n', (char)0xff };

		for (size_t i = 0; i < sizeof(wrong); i++) {
			strcpy(text, sample_text);
			if (text[at] == wrong[i])
				continue;
			text[at] = wrong[i];
			check_text(text, -EINVAL);
		}
	}
	snprintf(text, sizeof(text), "%s0", sample_text);
	check_text(text, -EINVAL);
	snprintf(text, sizeof(text), "%s\n", sample_text);
	check_text(text, -EINVAL);
	snprintf(text, sizeof(text), " %s", sample_text);
	check_text(text, -EINVAL);
	check_text("", -EINVAL);
	check_text("shmdev", -EINVAL);
	check_text("shmdev-", -EINVAL);
	check_text("shmdev0-00", -EINVAL);
	check_text("shmdev01-00", -EINVAL);
	/* What a later version writes, whatever that is. */
	check_text("shmdev2-", -EPROTONOSUPPORT);
	check_text("shmdev2-anything at all", -EPROTONOSUPPORT);
	check_text("shmdev10-0", -EPROTONOSUPPORT);
	check_text("shmdev99999999999999999999999-0", -EPROTONOSUPPORT);
}

static void bad_structs(void)
{
	struct shmdev_handle handle;
	char text[SHMDEV_HANDLE_TEXT_SIZE];

#define BAD(error, change)						\
	do {								\
		handle = sample;					\
		change;							\
		CHECK_FAILS(shmdev_attach(&handle), error);		\
		CHECK_FAILS(shmdev_attach_rdonly(&handle), error);	\
		CHECK_EQ(shmdev_handle_format(&handle, text, sizeof(text)), -error); \
	} while (0)
	BAD(EINVAL, handle.version = 0);
	BAD(EPROTONOSUPPORT, handle.version = 2);
	BAD(EINVAL, handle.kind = 0);
	BAD(EINVAL, handle.kind = 3);
	BAD(EINVAL, handle.size = 0);
	BAD(EINVAL, handle.size = handle.region_size);
	BAD(EINVAL, handle.size = UINT64_MAX);
	BAD(EINVAL, handle.offset = UINT64_MAX);
	BAD(EINVAL, handle.offset = handle.region_size + 1);
	BAD(EINVAL, handle.region_size = UINT64_MAX);
	BAD(EINVAL, handle.token[0] = 1);
	BAD(EINVAL, handle.pid = 0);
	BAD(EINVAL, handle.pid = 1U << 31);
	BAD(EINVAL, handle.fd = 1U << 31);
	for (int i = 0; i < 3; i++)
		BAD(EINVAL, handle.reserved[i] = 1);
	BAD(EINVAL, handle.kind = SHMDEV_HANDLE_TOKEN);
	BAD(EINVAL, handle.kind = SHMDEV_HANDLE_TOKEN; handle.token[0] = 1);
	BAD(EINVAL, handle = (struct shmdev_handle){ 0 });
	BAD(EINVAL, memset(&handle, 0, sizeof(handle)); handle.version = 1);
#undef BAD
}

TAP_MAIN(TAP_TEST(layout_is_for_ever),
	 TAP_TEST(text_is_for_ever),
	 TAP_TEST(parse_is_strict),
	 TAP_TEST(bad_structs))
