#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
"""A file in the page cache into shared memory, beside what one would do without."""

import ctypes
import mmap
import os
import tempfile

import numpy
import shmdev

from harness import Case, Report

MIB = 256


def measure(report, mib=MIB):
    """Measure and check; return how many elements were compared."""
    size = mib << 20
    expected = numpy.random.default_rng(mib).integers(0, 256, size, dtype=numpy.uint8)
    with tempfile.NamedTemporaryFile() as file:
        file.write(expected)
        file.flush()
        fd = os.open(file.name, os.O_RDONLY)

        def memfd_and_read():
            memory = os.memfd_create('bench')
            os.ftruncate(memory, size)
            mapped = mmap.mmap(memory, size)
            done = 0
            while done < size:
                done += os.preadv(fd, [memoryview(mapped)[done:]], done)
            os.close(memory)
            return mapped

        def alloc_and_fill():
            array = shmdev.RawArray(ctypes.c_ubyte, size)
            shmdev.fill(array, fd)
            return array

        report.group(f'{mib} MiB file, cached, into new shared memory', [
            Case('memfd + mmap + preadv', memfd_and_read),
            Case('shmdev.RawArray + fill', alloc_and_fill),
            Case('numpy.fromfile', lambda: numpy.fromfile(file.name, numpy.uint8),
                 note='private'),
        ])
        array = alloc_and_fill()
        checked = len(array)
        if not numpy.array_equal(numpy.frombuffer(array, numpy.uint8), expected):
            raise AssertionError('fill: bytes differ')

        there = memoryview(memfd_and_read())
        buffer = bytearray(expected)
        report.group(f'{mib} MiB file, cached, into shared memory in use', [
            Case('preadv', lambda: os.preadv(fd, [there], 0)),
            Case('shmdev.fill', lambda: shmdev.fill(array, fd)),
            Case('memcpy', lambda: ctypes.memmove(array, (ctypes.c_char * size)
                                                  .from_buffer(buffer), size), note='the limit'),
        ])
        os.close(fd)
    return checked


def main():
    info = shmdev.info()
    report = Report('Fills', backend=info.backend, engine=info.fill_engine)
    measure(report)
    return report


if __name__ == '__main__':
    main().save('build/bench', 'fill')
