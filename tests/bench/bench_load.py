#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
"""A .npy file for four worker processes, until each of them has read every page.

BENCH_MIB is the size of the array, 1024 if it is not set.
"""

import contextlib
import multiprocessing
import os
import tempfile
from multiprocessing import resource_tracker, shared_memory

import numpy
import shmdev

from harness import Case, Report

MIB = 1024
WORKERS = 4
PAGE = 4096


def pages_sum(array):
    """Something of every page."""
    return int(array.reshape(-1).view(numpy.uint8)[::PAGE].sum(dtype=numpy.uint64))


def by_block(name, shape, dtype):
    """What a worker does with shared_memory: attach, look, let go."""
    block = shared_memory.SharedMemory(name)
    try:
        return pages_sum(numpy.ndarray(shape, dtype, block.buf))
    finally:
        block.close()


def worker(pipe):
    while True:
        call, arguments = pipe.recv()
        if not call:
            return
        pipe.send(call(*arguments))


def loaded(path):
    return pages_sum(numpy.load(path))


def mapped(path):
    return pages_sum(numpy.load(path, mmap_mode='r'))


class Crew:
    """Processes that are there already, as in a pool."""

    def __init__(self, expected):
        self.expected = expected
        # One that all of them share: each of its own takes the others' memory for lost.
        resource_tracker.ensure_running()
        self.pipes, self.processes = [], []
        for _ in range(WORKERS):
            mine, theirs = multiprocessing.Pipe()
            process = multiprocessing.Process(target=worker, args=(theirs,), daemon=True)
            process.start()
            theirs.close()
            self.pipes.append(mine)
            self.processes.append(process)

    def ask(self, call, *arguments):
        for pipe in self.pipes:
            pipe.send((call, arguments))
        for pipe in self.pipes:
            if pipe.recv() != self.expected:
                raise AssertionError(f'{call.__name__}: the pages are not those of the file')

    def close(self):
        for pipe in self.pipes:
            pipe.send((None, ()))
            pipe.close()
        for process in self.processes:
            process.join()


def forget(path):
    """Let the kernel drop the file's pages from its cache; it must have been synced."""
    with open(path, 'rb') as file:
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def measure(report, mib, directory=None):
    chance = numpy.random.default_rng(mib)
    with tempfile.TemporaryDirectory(dir=directory) as directory:
        path = os.path.join(directory, 'a.npy')
        array = chance.integers(0, 1 << 62, (mib << 20) // 8)
        shmdev.save(path, array, sync=True)
        expected = pages_sum(array)
        del array
        crew = Crew(expected)

        def load_and_send():
            crew.ask(pages_sum, shmdev.load(path))

        def load_and_copy():
            private = numpy.load(path)
            block = shared_memory.SharedMemory(create=True, size=private.nbytes)
            try:
                shared = numpy.ndarray(private.shape, private.dtype, block.buf)
                shared[:] = private
                del shared
                crew.ask(by_block, block.name, private.shape, private.dtype)
            finally:
                block.close()
                block.unlink()

        def cases(before):
            return [
                Case('numpy.load, copy to shared_memory', load_and_copy, before),
                Case('shmdev.load, sent', load_and_send, before),
                Case('numpy.load in each worker', lambda: crew.ask(loaded, path), before,
                     note=f'{WORKERS} copies'),
                Case('numpy.memmap in each worker', lambda: crew.ask(mapped, path), before,
                     note='read only'),
            ]

        with contextlib.closing(crew):
            options = {'max_samples': 9, 'budget': 20}
            report.group(f'{mib} MiB .npy, cached, {WORKERS} workers', cases(None), **options)
            report.group(f'{mib} MiB .npy, not cached, {WORKERS} workers',
                         cases(lambda: forget(path)), **options)
            report.group(f'{mib} MiB .npy, cached, in one process', [
                Case('numpy.load', lambda: numpy.load(path), note='private'),
                Case('shmdev.load', lambda: shmdev.load(path)),
                Case('shmdev.load, progress=',
                     lambda: shmdev.load(path, progress=lambda done, total: None)),
            ], **options)


def main():
    report = Report('Loading', backend=shmdev.info().backend, engine=shmdev.info().fill_engine)
    measure(report, int(os.environ.get('BENCH_MIB', MIB)))
    return report


if __name__ == '__main__':
    main().save('build/bench', 'load')
