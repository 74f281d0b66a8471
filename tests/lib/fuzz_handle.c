// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/*
 * Handles made up from bytes, as text and as structs: what is taken for one is written
 * back to the letter, and attaching it is an error or the one region that there is.
 * With -DFUZZER the bytes are libFuzzer's (make fuzz); without, this is a test with
 * random ones.
 */
#include <errno.h>
#include <stdint.h>

#include "tap.h"
#include "util.h"

static struct shmdev_handle good;
static char *block;

static void world_make(void)
{
	block = shm_alloc(1000);
	CHECK(block);
	CHECK_EQ(shmdev_export(block, &good), 0);
}

static void try_text(const uint8_t *data, size_t size)
{
	char text[SHMDEV_HANDLE_TEXT_SIZE + 256], again[SHMDEV_HANDLE_TEXT_SIZE];
	struct shmdev_handle handle;
	int err;

	if (size >= sizeof(text))
		return;
	memcpy(text, data, size);
	text[size] = '\0';
	err = shmdev_handle_parse(text, &handle);
	CHECK(!err || err == -EINVAL || err == -EPROTONOSUPPORT);
	if (err)
		return;
	CHECK_EQ(shmdev_handle_format(&handle, again, sizeof(again)), strlen(text));
	CHECK(!strcmp(text, again));
}

/* The good one, with some of its bytes changed: {where, by what}. */
static void try_struct(const uint8_t *data, size_t size)
{
	struct shmdev_handle handle = good, back;
	char text[SHMDEV_HANDLE_TEXT_SIZE];
	char *here;
	int len;

	for (; size >= 2; data += 2, size -= 2)
		((uint8_t *)&handle)[data[0] % sizeof(handle)] ^= data[1];
	len = shmdev_handle_format(&handle, text, sizeof(text));
	CHECK(len > 0 || len == -EINVAL || len == -EPROTONOSUPPORT);
	if (len > 0) {
		CHECK_EQ(shmdev_handle_parse(text, &back), 0);
		CHECK(!memcmp(&back, &handle, sizeof(back)));
	}
	here = shmdev_attach(&handle);
	if (!here)
		return;
	CHECK(len > 0);
	CHECK(here == block - good.offset + handle.offset);
	CHECK(handle.size <= good.region_size - handle.offset);
	shmdev_detach(here);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	if (!block)
		world_make();
	if (size && data[0] % 2)
		try_struct(data + 1, size - 1);
	else if (size)
		try_text(data + 1, size - 1);
	return 0;
}

#ifndef FUZZER
static void random_handles(void)
{
	char text[SHMDEV_HANDLE_TEXT_SIZE + 1] = "t";
	uint32_t random = 362436069U;
	uint8_t bytes[40];

	need_backend();
	world_make();
	for (int i = 0; i < 20000; i++) {
		size_t len = random_below(&random, sizeof(bytes));

		for (size_t b = 0; b < sizeof(bytes); b++)
			bytes[b] = random_next(&random) >> 8;
		bytes[0] |= 1;
		LLVMFuzzerTestOneInput(bytes, len % 8);
		LLVMFuzzerTestOneInput(bytes, len);
		/* A text with one character changed. */
		len = shmdev_handle_format(&good, text + 1, sizeof(text) - 1);
		text[1 + random_below(&random, len)] = random_next(&random) >> 8;
		text[0] = 't';
		LLVMFuzzerTestOneInput((uint8_t *)text, len + 1);
	}
	CHECK_EQ(info_now().regions, 1);
}

TAP_MAIN(TAP_TEST(random_handles))
#endif
