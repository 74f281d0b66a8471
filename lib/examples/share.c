// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
#include <shmdev.h>
#include <stdio.h>
#include <string.h>

/* share: show a handle, wait for input, show the memory; share HANDLE: write to it */
int main(int argc, char **argv)
{
	char text[SHMDEV_HANDLE_TEXT_SIZE], *memory;
	struct shmdev_handle handle;

	if (argc == 1) {
		memory = shm_alloc(100);
		if (!memory || shmdev_export(memory, &handle) ||
		    shmdev_handle_format(&handle, text, sizeof(text)) < 0)
			return 1;
		puts(text);
		fflush(stdout);
		getchar();
		puts(memory);
		shm_free(memory);
		return 0;
	}
	if (shmdev_handle_parse(argv[1], &handle)) {
		fprintf(stderr, "not a handle\n");
		return 1;
	}
	memory = shmdev_attach(&handle);
	if (!memory) {
		perror("shmdev_attach");
		return 1;
	}
	strcpy(memory, "Hello from over there.");
	shmdev_detach(memory);
	return 0;
}
