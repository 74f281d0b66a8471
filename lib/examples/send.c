// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
#include <shmdev.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

int main(void)
{
	size_t size;
	char *memory;
	int pair[2];

	if (socketpair(AF_UNIX, SOCK_SEQPACKET, 0, pair))
		return 1;
	if (!fork()) {
		memory = shm_alloc(1 << 20);
		strcpy(memory, "It was under way when its maker ended.");
		return shmdev_send(pair[0], memory, SHMDEV_SEND_RDONLY) != 0;
	}
	wait(NULL);
	memory = shmdev_recv(pair[1], &size);
	if (!memory)
		return 1;
	printf("%zu bytes: %s\n", size, memory);
	shmdev_detach(memory);
	return 0;
}
