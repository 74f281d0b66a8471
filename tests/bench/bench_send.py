#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
"""Hand an array to another process that reads every page of it, and wait for its answer.

All use the same pipe for what they send and for the answer.  The array is there and
has been written to, in the memory that each way wants it in: what it costs to get data
there is not in these numbers (bench_rawarray, bench_fill).  The receiver forgets
what it got when it has read it, so that the next time it is mapped anew, but in the
cases that say otherwise.

bench_send.py [bytes ...]; what is not installed is named, and left out.
"""

import multiprocessing
import os
import sys
import uuid

import numpy
import shmdev
from harness import Case, Report, Unavailable

SIZES = (1 << 10, 1 << 20, 1 << 30)
PAGE = 4096


def read_pages(array):
    """A byte of each page, added up."""
    return int(array.reshape(-1).view(numpy.uint8)[::PAGE].sum())


# --- the other process: what it makes of a message, and how it lets go of it ------------

_kept = []


def take_array(message):
    return read_pages(message)


def take_and_keep(message):
    _kept[:] = [message]
    return read_pages(message)


def take_raw(message):
    return read_pages(message.numpy())


def take_shared_memory(message):
    from multiprocessing import resource_tracker, shared_memory

    name, size = message
    # Before 3.13 who attaches would be taken for the owner, and the name removed at its end.
    register, resource_tracker.register = resource_tracker.register, lambda *_: None
    try:
        memory = shared_memory.SharedMemory(name)
    finally:
        resource_tracker.register = register
    array = numpy.ndarray(size, numpy.uint8, memory.buf)
    result = read_pages(array)
    del array
    memory.close()
    return result


def take_shared_array(message):
    import SharedArray

    return read_pages(SharedArray.attach(message))


def take_posix_ipc(message):
    import mmap

    import posix_ipc

    name, size = message
    memory = posix_ipc.SharedMemory(name)
    mapped = mmap.mmap(memory.fd, size)
    memory.close_fd()
    return read_pages(numpy.frombuffer(mapped, numpy.uint8))


def take_torch(message):
    return read_pages(message.numpy())


def take_arrow(message):
    import pyarrow

    with pyarrow.memory_map(message) as file:
        return read_pages(numpy.frombuffer(file.read_buffer(), numpy.uint8))


def serve(pipe):
    while True:
        message = pipe.recv()
        if message is None:
            return
        take, message = message
        answer = take(message)
        message = None
        pipe.send(answer)


# --- this process: the array, and what is sent for it ---------------------------------


class Way:
    """A name, what is sent, what becomes of it there, and how to get rid of it."""

    def __init__(self, name, make, take, drop=lambda kept: None, note=''):
        self.name, self.make, self.take, self.drop, self.note = name, make, take, drop, note


def ones(buffer):
    numpy.frombuffer(buffer, numpy.uint8)[:] = 1


def need_dev_shm(size):
    found = os.statvfs('/dev/shm')
    if found.f_bavail * found.f_frsize < size + (1 << 20):
        raise Unavailable(f'/dev/shm has {found.f_bavail * found.f_frsize >> 20} MiB left')


def need(module):
    try:
        return __import__(module)
    except ImportError:
        raise Unavailable(f'no {module} for this interpreter') from None


def make_shared_memory(size):
    from multiprocessing import shared_memory

    need_dev_shm(size)
    memory = shared_memory.SharedMemory(create=True, size=size)
    ones(memory.buf)
    return memory, (memory.name, size)


def drop_shared_memory(memory):
    memory.close()
    memory.unlink()


def make_shared_array(size):
    module = need('SharedArray')
    need_dev_shm(size)
    name = f'shm://bench-{uuid.uuid4().hex}'
    array = module.create(name, size, numpy.uint8)
    array[:] = 1
    return (array, name), name


def drop_shared_array(kept):
    import SharedArray

    SharedArray.delete(kept[1])


def make_posix_ipc(size):
    import mmap

    module = need('posix_ipc')
    need_dev_shm(size)
    memory = module.SharedMemory(None, module.O_CREX, size=size)
    mapped = mmap.mmap(memory.fd, size)
    memory.close_fd()
    ones(mapped)
    return (memory, mapped), (memory.name, size)


def drop_posix_ipc(kept):
    kept[0].unlink()


def make_torch(size):
    torch = need('torch')
    need('torch.multiprocessing')
    need_dev_shm(size)
    tensor = torch.ones(size, dtype=torch.uint8).share_memory_()
    return tensor, tensor


def make_arrow(size):
    pyarrow = need('pyarrow')
    need_dev_shm(size)
    path = f'/dev/shm/bench-{uuid.uuid4().hex}'
    with pyarrow.create_memory_map(path, size) as file:
        file.write(numpy.ones(size, numpy.uint8))
    return path, path


def twice(obj):
    return obj, obj


WAYS = (
    Way('a pipe, numpy array', lambda size: twice(numpy.ones(size, numpy.uint8)), take_array,
        note='pickled: what Queue and Pipe do'),
    Way('shmdev.ndarray', lambda size: twice(shmdev.ones(size, numpy.uint8)), take_array),
    Way('shmdev.ndarray, known there', lambda size: twice(shmdev.ones(size, numpy.uint8)),
        take_and_keep, note='the receiver has kept it since the last time'),
    Way('shmdev.RawArray', lambda size: twice(shmdev.RawArray('B', numpy.ones(size, numpy.uint8))),
        take_raw),
    Way('shared_memory', make_shared_memory, take_shared_memory, drop_shared_memory),
    Way('SharedArray', make_shared_array, take_shared_array, drop_shared_array),
    Way('posix_ipc, mmap', make_posix_ipc, take_posix_ipc, drop_posix_ipc),
    Way('torch, shared tensor', make_torch, take_torch),
    Way('pyarrow, memory map in /dev/shm', make_arrow, take_arrow, os.unlink),
)


class SendCase(Case):
    """A way for one size; the array is made at the first run, and is there until close()."""

    def __init__(self, way, size, pipe):
        super().__init__(way.name, self.hand_over, note=way.note)
        self.way, self.size, self.pipe = way, size, pipe
        self.kept = self.message = None

    def hand_over(self):
        self.pipe.send((self.way.take, self.message))
        if self.pipe.recv() != -(-self.size // PAGE):
            raise RuntimeError(f'{self.name}: what was read there is wrong')

    def warm_up(self):
        self.kept, self.message = self.way.make(self.size)
        return super().warm_up()

    def close(self):
        if self.message is not None:
            kept, self.kept, self.message = self.kept, None, None
            self.way.drop(kept)


def main(sizes=SIZES):
    report = Report('Sending', backend=shmdev.info().backend)
    context = multiprocessing.get_context('spawn')
    pipe, theirs = context.Pipe()
    child = context.Process(target=serve, args=(theirs,))
    child.start()
    for size in sizes:
        unit = f'{size >> 20} MiB' if size >> 20 else f'{size >> 10} KiB'
        cases = [SendCase(way, size, pipe) for way in WAYS]
        try:
            report.group(f'{unit}, until another process has read each page', cases)
        finally:
            for case in cases:
                case.close()
    pipe.send(None)
    child.join()
    return report


if __name__ == '__main__':
    main([int(size) for size in sys.argv[1:]] or SIZES).save('build/bench', 'send')
