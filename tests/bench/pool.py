# SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
"""The module's pool, as benchmarks see it."""

import fcntl
import glob
import os
import struct
import time

POOL_MB = '/sys/module/shmdev/parameters/pool_mb'

# SHMDEV_IOC_QUERY and the fields of struct shmdev_query up to pool_misses.
_QUERY = 0xc080e900
_FIELDS = struct.Struct('II6Q')


def state():
    """(target, bytes, hits, misses) of the pool."""
    answer = bytearray(128)
    fd = os.open('/dev/shmdev', os.O_RDWR | os.O_CLOEXEC)
    try:
        fcntl.ioctl(fd, _QUERY, answer)
    finally:
        os.close(fd)
    return _FIELDS.unpack_from(answer)[4:]


def wait_until_full():
    """Let the pool recover from what has been taken."""
    while True:
        target, held, _, _ = state()
        if held >= target:
            return
        time.sleep(0.002)


def cpu():
    """Seconds that the pool's threads have run."""
    total = 0
    for path in glob.glob('/proc/[0-9]*/comm'):
        try:
            with open(path, encoding='utf-8') as file:
                if not file.read().startswith('shmdev_pool'):
                    continue
            with open(os.path.join(os.path.dirname(path), 'schedstat'), encoding='utf-8') as file:
                total += int(file.read().split()[0])
        except OSError:
            continue
    return total / 1e9
