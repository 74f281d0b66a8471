# SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
"""Make this machine able to serve a memfd backend for as long as its tests run."""

import contextlib
import fcntl
import os
import re

MEMFD_BACKENDS = ('hugetlb', 'thp', 'memfd')

# What the tests hold at a time is well below it.
HUGE_PAGES_BYTES = 512 << 20

_NR_HUGEPAGES = '/proc/sys/vm/nr_hugepages'
_LOCK = '/tmp/shmdev-host.lock'        # of tests/lib/thp.c, too
_SHMEM_ENABLED = '/sys/kernel/mm/transparent_hugepage/shmem_enabled'


class Unavailable(Exception):
    """This machine cannot; the reason."""


def _read(path):
    with open(path, encoding='ascii') as file:
        return file.read().strip()


def _write(path, value):
    with open(path, 'w', encoding='ascii') as file:
        file.write(str(value))


@contextlib.contextmanager
def _machine_lock():
    """The settings are the machine's: one run at a time may change them."""
    fd = os.open(_LOCK, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)


def _meminfo(field):
    return int(re.search(rf'^{field}:\s*(\d+)', _read('/proc/meminfo'), re.M)[1])


@contextlib.contextmanager
def _hugetlb():
    try:
        wanted = HUGE_PAGES_BYTES // (_meminfo('Hugepagesize') << 10)
    except TypeError:
        raise Unavailable('this kernel has no hugetlb pages') from None
    if _meminfo('HugePages_Free') - _meminfo('HugePages_Rsvd') >= wanted:
        yield
        return
    if os.geteuid():
        raise Unavailable(f'needs {wanted} free huge pages, or root to reserve them '
                          f'({_NR_HUGEPAGES})')
    before = int(_read(_NR_HUGEPAGES))
    try:
        try:
            _write(_NR_HUGEPAGES, before + wanted)
        except OSError as error:
            raise Unavailable(f'{_NR_HUGEPAGES}: {error.strerror}') from None
        got = int(_read(_NR_HUGEPAGES)) - before
        if got < wanted:
            raise Unavailable(f'only {max(got, 0)} of {wanted} huge pages could be had')
        yield
    finally:
        with contextlib.suppress(OSError):      # read-only: then it was not changed
            _write(_NR_HUGEPAGES, before)


@contextlib.contextmanager
def _thp():
    try:
        before = re.search(r'\[(\w+)\]', _read(_SHMEM_ENABLED))[1]
    except FileNotFoundError:
        raise Unavailable('this kernel has no huge pages in shared memory') from None
    if before == 'advise':
        yield
        return
    if os.geteuid():
        raise Unavailable(f'needs "advise" in {_SHMEM_ENABLED} (is: {before}), or root to set it')
    try:
        _write(_SHMEM_ENABLED, 'advise')
    except OSError as error:
        raise Unavailable(f'{_SHMEM_ENABLED}: {error.strerror}') from None
    try:
        yield
    finally:
        _write(_SHMEM_ENABLED, before)


@contextlib.contextmanager
def provided(backend):
    """A context in which @backend works here, or Unavailable."""
    if backend == 'memfd':
        yield
        return
    with _machine_lock(), {'hugetlb': _hugetlb, 'thp': _thp}[backend]():
        yield
