#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
"""Files into shared memory and back, beside what one would do without.

BENCH_MIB is the size of the large file, 1024 if it is not set.
"""

import contextlib
import ctypes
import json
import mmap
import os
import random
import resource
import shutil
import statistics
import subprocess
import tempfile
import time

import numpy
import shmdev

from harness import Case, Report, Tool, ToolCase, Unavailable, seconds

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


def output_of(command):
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise Unavailable((done.stderr or done.stdout).strip().split('\n')[-1])
    return done.stdout


class Fio:
    """fio's io_uring engine on the large file: seconds for as many bytes as it has."""

    def __init__(self, name, path, size, *options, note='its own few buffers'):
        self.name, self.note, self.details = name, note, []
        self.size = size
        self.command = ['fio', '--name=bench', '--ioengine=io_uring', f'--filename={path}',
                        f'--size={size}', '--output-format=json', '--thread', '--invalidate=0',
                        *options]

    def warm_up(self):
        elapsed = self.sample()
        self.details.clear()
        return elapsed

    def sample(self):
        if not shutil.which('fio'):
            raise Unavailable('fio is not installed')
        said = output_of(self.command)
        jobs = json.loads(said[said.index('{'):])['jobs']
        elapsed = max(job['read']['runtime'] for job in jobs) / 1e3
        cpu = sum((job['usr_cpu'] + job['sys_cpu']) / 100 * job['job_runtime'] / 1e3
                  for job in jobs)
        self.details.append({'seconds': elapsed, 'cpu': cpu})
        return elapsed


class Program:
    """A program that does the job, and is started for it."""

    def __init__(self, name, *command, note=''):
        self.name, self.command, self.note, self.details = name, command, note, []

    def warm_up(self):
        return self.sample()

    def sample(self):
        before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
        output_of(self.command)
        elapsed = time.perf_counter() - start
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        self.details.append({'seconds': elapsed, 'cpu': after.ru_utime + after.ru_stime -
                             before.ru_utime - before.ru_stime})
        return elapsed


class Cold(ToolCase):
    """With nothing in the page cache to begin with."""

    def sample(self):
        os.sync()
        try:
            with open('/proc/sys/vm/drop_caches', 'w', encoding='ascii') as file:
                file.write('3')
        except OSError as error:
            raise Unavailable(f'drop_caches: {error.strerror}') from None
        return super().sample()


def compare(report, title, cases, budget=4, **options):
    """A group, and the processor time of its cases."""
    report.group(title, cases, budget=budget, **options)
    times = [f'{case.name} {seconds(statistics.median(d["cpu"] for d in case.details))}'
             for case in cases if getattr(case, 'details', None)]
    report.remark('processor time: ' + ', '.join(times))


def make_files(directory, mib):
    """What the tool wants to have there."""
    block = random.Random(1).randbytes(1 << 20)
    with open(f'{directory}/large', 'wb') as file:
        for _ in range(mib):
            file.write(block)
        os.fsync(file.fileno())
    os.mkdir(f'{directory}/many')
    for number in range(10_000):
        with open(f'{directory}/many/{number}', 'wb') as file:
            file.write(block[:65536])


def measure_all(report, directory, mib):
    """Every job beside the ways one has without the library."""
    make_files(directory, mib)
    tool = Tool(['build/tests/bench/fill', directory])
    large, size = f'{directory}/large', mib << 20

    def case(job, way, name, note='', kind=ToolCase):
        return kind(name, tool, f'{job} {way}', note)

    compare(report, f'{mib} MiB file, cached, into shared memory in use', [
        case('cached', 'read', 'pread, 1 MiB each'),
        case('cached', 'whole', 'preadv, all at once'),
        case('cached', 'mmap', 'mmap + memcpy'),
        Fio('fio io_uring', large, size, '--rw=read', '--bs=512k', '--iodepth=16'),
        Case('numpy.fromfile', lambda: numpy.fromfile(large, numpy.uint8), note='private'),
        Program('cp to /dev/shm', 'cp', large, '/dev/shm/shmdev-bench'),
        case('cached', 'shmdev', 'shm_fill'),
        case('copy', 'memcpy', 'memcpy', note='the limit of one processor'),
        case('copy', 'shmdev', 'shmdev_copy', note='the limit'),
    ])
    with contextlib.suppress(FileNotFoundError):
        os.unlink('/dev/shm/shmdev-bench')
    compare(report, f'{mib} MiB file, O_DIRECT', [
        case('direct', 'read', 'pread, 1 MiB each'),
        Fio('fio io_uring', large, size, '--rw=read', '--bs=512k', '--iodepth=32', '--direct=1'),
        case('direct', 'shmdev', 'shm_fill'),
    ])
    compare(report, '1,000,000 records of 4 KiB, cached, at random', [
        case('records', 'pread', 'pread'),
        Fio('fio io_uring', large, size, '--rw=randread', '--bs=4k', '--iodepth=64',
            '--norandommap', '--gtod_reduce=1', f'--io_size={4096 * 1_000_000}'),
        case('records', 'shmdev', 'shm_fill'),
    ], budget=20)
    compare(report, '10,000 files of 64 KiB, cached', [
        case('files', 'read', 'open, read, close'),
        case('files', 'shmdev', 'shmdev_path_fill'),
    ])
    compare(report, '10,000 files of 64 KiB, cold', [
        case('files', 'read', 'open, read, close', kind=Cold),
        case('files', 'shmdev', 'shmdev_path_fill', kind=Cold),
    ])
    compare(report, f'{mib} MiB from a pipe', [
        case('pipe', 'read', 'read'),
        case('pipe', 'shmdev', 'shm_fill'),
    ])
    compare(report, f'{mib} MiB file, cached, into new shared memory, and given back', [
        case('new', 'memfd', 'open + memfd + read'),
        case('new', 'shmdev', 'open + shm_alloc + shm_fill'),
    ])
    compare(report, f'{mib} MiB into a file, in the page cache, that is there', [
        case('drain', 'write', 'pwrite, 1 MiB each'),
        case('drain', 'shmdev', 'shm_drain'),
    ])
    compare(report, f'{mib} MiB of memory', [
        case('set', 'memset', 'memset'),
        case('set', 'shmdev', 'shmdev_set'),
    ])
    tool.close()


def main():
    info = shmdev.info()
    report = Report('Fills', backend=info.backend, engine=info.fill_engine)
    measure(report)
    with tempfile.TemporaryDirectory() as directory:
        measure_all(report, directory, int(os.environ.get('BENCH_MIB', '1024')))
    return report


if __name__ == '__main__':
    main().save('build/bench', 'fill')
