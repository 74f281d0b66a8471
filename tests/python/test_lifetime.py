# SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
"""Memory lives as long as somebody uses it, and not a moment longer."""

import contextlib
import ctypes
import fcntl
import gc
import os
import select
import signal
import struct
import subprocess
import sys
import tempfile
import time
import unittest

import tap
import shmdev
from shmdev import RawArray
from shmdev import _shmdev
from stock import numpy

BIG = 24 << 20  # a region of its own on every backend


def live():
    """Blocks and their bytes, after what is unreachable has gone."""
    gc.collect()
    info = shmdev.info()
    return info.blocks, info.block_bytes


class Views(unittest.TestCase):
    def setUp(self):
        self.before = live()

    def tearDown(self):
        self.assertEqual(live(), self.before)

    def test_block_goes_with_its_array(self):
        a = RawArray("B", BIG)
        blocks, size = live()
        self.assertEqual(blocks, self.before[0] + 1)
        self.assertGreaterEqual(size, self.before[1] + BIG)
        del a
        gc.disable()
        try:
            # No garbage collection is needed for it.
            info = shmdev.info()
            self.assertEqual((info.blocks, info.block_bytes), self.before)
        finally:
            gc.enable()

    def views(self, a):
        yield memoryview(a)
        yield memoryview(a).cast("B")[3:]
        yield (ctypes.c_byte * 4).from_buffer(a)
        yield ctypes.cast(a, ctypes.POINTER(ctypes.c_int))
        yield ctypes.pointer(a)
        yield ctypes.byref(a)
        if numpy:
            yield numpy.asarray(a)
            yield numpy.frombuffer(a, "B")[::2].reshape(-1, 2)

    def test_views_keep_it(self):
        for size in (64, BIG):
            for index in range(len(list(self.views(RawArray("i", 4))))):
                with self.subTest(size=size, view=index):
                    a = RawArray("b", [1] * 8 + [0] * (size - 8) if size == 64 else size)
                    address = ctypes.addressof(a)
                    ctypes.memset(address, 0x5A, 8)
                    view = list(self.views(a))[index]
                    del a
                    self.assertEqual(live()[0], self.before[0] + 1)
                    # Nobody else gets the memory meanwhile.
                    others = [RawArray("b", size) for _ in range(3)]
                    self.assertEqual(ctypes.string_at(address, 8), b"\x5a" * 8)
                    self.assertNotIn(address, map(ctypes.addressof, others))
                    del others, view

    def test_elements_keep_it(self):
        class Pair(ctypes.Structure):
            _fields_ = [("a", ctypes.c_int), ("b", ctypes.c_int)]

        array = RawArray(Pair, [(1, 2), (3, 4)])
        second = array[1]
        del array
        self.assertEqual(live()[0], self.before[0] + 1)
        self.assertEqual((second.a, second.b), (3, 4))
        del second, Pair

    def test_attributes_and_cycles(self):
        a = RawArray("i", 100)
        a.me = a
        del a
        self.assertEqual(live(), self.before)

    def test_failed_construction(self):
        class Failing:
            def __index__(self):
                raise KeyError

        for source in ([1, 2, "x"], [Failing()], [1.5], b"a" * 10, (x for x in ()), object()):
            for ctype in ("i", "c", "u"):
                with contextlib.suppress(TypeError, KeyError):
                    RawArray(ctype, source)

    def test_region_object_keeps_it(self):
        a = RawArray("i", [1, 2, 3])
        region, offset = _shmdev.region_locate(ctypes.addressof(a))
        view = (ctypes.c_int * 3).from_buffer(region, offset)
        del a, region
        gc.collect()
        self.assertEqual(list(view), [1, 2, 3])

    def test_fork_child_can_free_it(self):
        a = RawArray("i", [1, 2, 3])
        pid = os.fork()
        if not pid:
            status = 1
            try:
                a[0] = 10
                del a
                gc.collect()
                status = 0
            finally:
                os._exit(status)
        self.assertEqual(os.waitpid(pid, 0)[1], 0)
        self.assertEqual(list(a), [10, 2, 3])
        del a


class Closing(unittest.TestCase):
    """A region is closed by hand, and not under anybody's feet."""

    def views(self, region):
        yield memoryview(region)
        yield memoryview(region)[4:8]
        yield (ctypes.c_int * 3).from_buffer(region, 8)
        yield ctypes.pointer((ctypes.c_int * 3).from_buffer(region, 8))
        if numpy:
            yield numpy.frombuffer(region, "i4")[::2]
            yield numpy.asarray(region).reshape(2, -1)

    def test_views(self):
        region = _shmdev.region_create(BIG)
        for index in range(len(list(self.views(region)))):
            with self.subTest(view=index):
                gc.collect()
                view = list(self.views(region))[index]
                gc.collect()
                with self.assertRaises(BufferError):
                    region.close()
                with self.assertRaises(BufferError), region:
                    pass
                self.assertFalse(region.closed)
                memoryview(view)
                del view
        gc.collect()
        regions = shmdev.info().regions
        region.close()
        self.assertTrue(region.closed)
        self.assertEqual(shmdev.info().regions, regions - 1)
        region.close()

    def test_closed(self):
        with _shmdev.region_create(BIG) as region:
            descriptor = region.fileno()
        self.assertRaises(OSError, os.fstat, descriptor)
        for use in (region.fileno, region.__enter__, lambda: region.size, lambda: region.backend,
                    lambda: region.page_size, lambda: region.huge_share):
            with self.assertRaisesRegex(ValueError, "closed"):
                use()
        self.assertRaises((ValueError, BufferError), memoryview, region)
        self.assertRaises((ValueError, BufferError), (ctypes.c_int * 3).from_buffer, region)
        self.assertEqual(repr(region), "<shmdev.Region, closed>")

    def test_arrays_keep_their_memory(self):
        for size in (12, BIG):
            a = RawArray("b", size)
            first = a.region
            first.close()
            a[:12] = b"still there!"
            second = a.region
            self.assertIsNot(second, first)
            self.assertIs(a.region, second)
            self.assertEqual(bytes(second).count(b"still there!"), 1)
            del first
            self.assertIs(a.region, second)
            second.close()

    def test_received(self):
        """An array over a Region is a view of it; one by one the same region comes again."""
        made = _shmdev.region_create(BIG)
        descriptor = os.dup(made.fileno())
        self.addCleanup(os.close, descriptor)
        a = (ctypes.c_int * 4).from_buffer(made, 64)
        self.assertRaises(BufferError, made.close)
        self.assertIs(_shmdev.region_locate(ctypes.addressof(a))[0], made)
        del a
        made.close()
        again = _shmdev.region_open(descriptor)
        self.assertIsNot(again, made)
        again.close()


class Descriptors(unittest.TestCase):
    def count(self):
        return len(os.listdir("/proc/self/fd"))

    def test_large_regions_close_theirs(self):
        RawArray("b", BIG)
        gc.collect()
        before = self.count()
        for _ in range(5):
            a = RawArray("b", BIG)
            self.assertLessEqual(self.count(), before + 1)
            del a
        gc.collect()
        self.assertLessEqual(self.count(), before)

    def test_no_names(self):
        """No file has a name that could be left behind."""
        before = set(os.listdir("/proc/self/fd"))
        a = RawArray("b", BIG)
        for fd in set(os.listdir("/proc/self/fd")) - before:
            with contextlib.suppress(FileNotFoundError):
                target = os.readlink(f"/proc/self/fd/{fd}")
                self.assertFalse(os.path.exists(target), target)
        own = shmdev.info().regions
        self.assertGreater(own, 0)
        del a


class Backing:
    """Bytes the machine has given to shared memory of the kind in use."""

    def __init__(self):
        self.backend = shmdev.info().backend

    def used(self):
        if self.backend == "device":
            # SHMDEV_IOC_QUERY; region_bytes is the eighth of its 64-bit fields.
            query = bytearray(128)
            request = 3 << 30 | len(query) << 16 | 0xE9 << 8
            with open("/dev/shmdev", "rb") as device:
                fcntl.ioctl(device, request, query)
            return struct.unpack_from("<Q", query, 8 + 8 * 7)[0]
        with open("/proc/meminfo") as file:
            fields = {line.split(":")[0]: int(line.split()[1]) for line in file}
        if self.backend == "hugetlb":
            free = fields["HugePages_Free"] - fields["HugePages_Rsvd"]
            return (fields["HugePages_Total"] - free) * fields["Hugepagesize"] * 1024
        return fields["Shmem"] * 1024


WORKER = """
import multiprocessing, os, signal, sys
import shmdev

def idle(a):
    a[-1] = 1
    os.write(1, b"ready\\n")
    signal.pause()

if __name__ == "__main__":
    a = shmdev.RawArray("b", {size})
    a[:] = bytes([7]) * len(a)
    context = multiprocessing.get_context("{method}")
    child = context.Process(target=idle, args=(a,))
    child.start()
    idle(a)
"""


class Kill(unittest.TestCase):
    """kill -9 of everyone: nothing is left."""

    SIZE = 48 << 20

    def killed(self, method):
        # Others use the machine too: what they take or give back in between can spoil
        # a trial, while memory that stays behind spoils them all.
        trials = []
        for _ in range(5):
            taken, left = self.trial(method)
            trials.append((taken, left))
            if taken > self.SIZE * 3 // 4 and left < self.SIZE // 4:
                return
        self.fail(f"(bytes taken, bytes left) of {self.SIZE}: {trials}")

    def trial(self, method):
        backing = Backing()
        before = backing.used()
        env = {**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
        worker = subprocess.Popen(
            [sys.executable, self.script(method)],
            stdout=subprocess.PIPE,
            env=env,
            start_new_session=True,
        )
        try:
            said = b""
            while said.count(b"ready") < 2:
                self.assertTrue(select.select([worker.stdout], [], [], 60)[0], said)
                more = os.read(worker.stdout.fileno(), 100)
                self.assertTrue(more, f"the workers died: {said}")
                said += more
            taken = backing.used() - before
        finally:
            # The session: the worker, its child and multiprocessing's helpers.
            os.killpg(worker.pid, signal.SIGKILL)
            worker.wait()
            worker.stdout.close()
        deadline = time.monotonic() + 60
        while True:
            # The child is not ours to wait for; it takes a moment to die.
            left = backing.used() - before
            if left < self.SIZE // 4 or time.monotonic() > deadline:
                return taken, left
            time.sleep(0.02)

    def script(self, method):
        directory = tempfile.TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        path = os.path.join(directory.name, "worker.py")
        with open(path, "w") as file:
            file.write(WORKER.format(size=self.SIZE, method=method))
        return path

    def test_fork(self):
        self.killed("fork")

    def test_spawn(self):
        self.killed("spawn")

    def test_forkserver(self):
        self.killed("forkserver")

    def test_one_of_two(self):
        """The survivor keeps the memory."""
        read, write = os.pipe()
        a = RawArray("b", BIG)
        a[0] = 1
        pid = os.fork()
        if not pid:
            a[1] = 2
            os.write(write, b"x")
            signal.pause()
            os._exit(0)
        os.read(read, 1)
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        os.close(read)
        os.close(write)
        self.assertEqual((a[0], a[1], a[BIG - 1]), (1, 2, 0))
        a[BIG - 1] = 3


if __name__ == "__main__":
    tap.main()
