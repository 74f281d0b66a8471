// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/*
 * Handles, and their text: "shmdev1-" and the fields in order, each as hexadecimal
 * digits, most significant first, of its whole width.  For each handle there is one
 * text.  What this version does not use is not in it: a version that does has another
 * number in front.
 */
#include "handle.h"

#include <errno.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

_Static_assert(sizeof(struct shmdev_handle) == 128, "the size of a handle is for ever");

#define PREFIX	"shmdev"
#define VERSION	"1-"

struct field {
	unsigned short offset;
	unsigned short size;
	bool bytes;		/* not one number */
};

#define NUMBER(name)	{ offsetof(struct shmdev_handle, name),			\
			  sizeof(((struct shmdev_handle *)0)->name), false }
#define BYTES(name)	{ offsetof(struct shmdev_handle, name),			\
			  sizeof(((struct shmdev_handle *)0)->name), true }

static const struct field fields[] = {
	NUMBER(kind), NUMBER(offset), NUMBER(size), NUMBER(region_size), NUMBER(dev),
	NUMBER(ino), BYTES(boot), BYTES(token), NUMBER(pid), NUMBER(fd), NUMBER(started),
	NUMBER(pid_namespace),
};

#define NR_FIELDS	(sizeof(fields) / sizeof(fields[0]))

static bool is_zero(const void *memory, size_t size)
{
	const unsigned char *bytes = memory;

	while (size && !*bytes)
		bytes++, size--;
	return !size;
}

int handle_check(const struct shmdev_handle *handle)
{
	bool token = handle->kind == SHMDEV_HANDLE_TOKEN;

	if (!handle->version)
		return -EINVAL;
	if (handle->version != SHMDEV_HANDLE_VERSION)
		return -EPROTONOSUPPORT;
	if (!token && handle->kind != SHMDEV_HANDLE_DESCRIPTOR)
		return -EINVAL;
	if (!is_zero(handle->reserved, sizeof(handle->reserved)))
		return -EINVAL;
	if (!handle->size || handle->region_size > PTRDIFF_MAX ||
	    handle->offset > handle->region_size ||
	    handle->size > handle->region_size - handle->offset)
		return -EINVAL;
	if (token)
		return is_zero(handle->token, sizeof(handle->token)) || handle->pid ||
		       handle->fd || handle->started || handle->pid_namespace ? -EINVAL : 0;
	return !is_zero(handle->token, sizeof(handle->token)) || !handle->pid ||
	       handle->pid > INT32_MAX || handle->fd > INT32_MAX ? -EINVAL : 0;
}

/* The byte of @field that digits 2 * @i and 2 * @i + 1 are. */
static size_t byte_place(const struct field *field, size_t i)
{
#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
	if (!field->bytes)
		return field->offset + field->size - 1 - i;
#endif
	return field->offset + i;
}

int shmdev_handle_format(const struct shmdev_handle *handle, char *buf, size_t size)
{
	static const char digits[] = "0123456789abcdef";
	const unsigned char *bytes = (const unsigned char *)handle;
	char text[SHMDEV_HANDLE_TEXT_SIZE] = PREFIX VERSION;
	size_t len = strlen(text);
	int err = handle_check(handle);

	if (err)
		return err;
	for (size_t f = 0; f < NR_FIELDS; f++) {
		for (size_t i = 0; i < fields[f].size; i++) {
			unsigned char byte = bytes[byte_place(&fields[f], i)];

			text[len++] = digits[byte >> 4];
			text[len++] = digits[byte & 15];
		}
	}
	text[len] = '\0';
	if (size <= len)
		return -ENOSPC;
	memcpy(buf, text, len + 1);
	return len;
}

/* The value of a lower-case digit, or -1. */
static int digit(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* Whether @text is that of another version. */
static bool other_version(const char *text)
{
	size_t len = strspn(text, "0123456789");

	return len && text[0] != '0' && text[len] == '-';
}

int shmdev_handle_parse(const char *text, struct shmdev_handle *handle)
{
	struct shmdev_handle parsed = { .version = SHMDEV_HANDLE_VERSION };
	unsigned char *bytes = (unsigned char *)&parsed;
	int err;

	if (strncmp(text, PREFIX, strlen(PREFIX)))
		return -EINVAL;
	text += strlen(PREFIX);
	if (strncmp(text, VERSION, strlen(VERSION)))
		return other_version(text) ? -EPROTONOSUPPORT : -EINVAL;
	text += strlen(VERSION);
	for (size_t f = 0; f < NR_FIELDS; f++) {
		for (size_t i = 0; i < fields[f].size; i++, text += 2) {
			/* A text that ends here is not looked at behind its end. */
			int high = digit(text[0]);
			int low = high < 0 ? -1 : digit(text[1]);

			if (low < 0)
				return -EINVAL;
			bytes[byte_place(&fields[f], i)] = high << 4 | low;
		}
	}
	if (*text)
		return -EINVAL;
	err = handle_check(&parsed);
	if (!err)
		*handle = parsed;
	return err;
}
