// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/* A file into shared memory, and a child that works on it.  cc hello.c -lshmdev */
#include <fcntl.h>
#include <stdio.h>
#include <sys/wait.h>
#include <unistd.h>

#include <shmdev.h>

int main(int argc, char **argv)
{
	size_t size = 1 << 20;
	char *text = shm_alloc(size);		/* zeroed; shared with children */
	struct shm_fill fill = { .dst = text, .len = size - 1 };

	fill.fd = open(argc > 1 ? argv[1] : argv[0], O_RDONLY);
	if (!text || fill.fd < 0 || shm_fill(&fill, 1) || fill.result < 0)
		return 1;

	if (fork() == 0) {
		for (char *c = text; *c; c++)
			if (*c >= 'a' && *c <= 'z')
				*c -= 'a' - 'A';
		_exit(0);
	}
	wait(NULL);
	printf("%lld bytes: %.40s\n", (long long)fill.result, text);
	shm_free(text);
	return 0;
}
