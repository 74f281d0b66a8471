# SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
"""Arrays as arguments of processes, under each start method."""

import ctypes
import gc
import importlib.util
import multiprocessing
import os
import pickle
import unittest
from multiprocessing import context

import tap
import shmdev
from shmdev import RawArray, RawValue
from shmdev import _shmdev

TIMEOUT = 60


# Each child imports this file: what is slow to import is imported where it is used.
HAS_NUMPY = importlib.util.find_spec("numpy") is not None


class Point(ctypes.Structure):
    _fields_ = [("x", ctypes.c_int), ("y", ctypes.c_double)]


class Named(ctypes.c_int * 3):
    """An array type that pickle finds by its name."""


class Values(ctypes.Structure):
    _fields_ = [("row", ctypes.c_int * 3), ("point", Point)]


# --- what the children do: a failed assertion is exit status 1 ---


def double(*arrays):
    for a in arrays:
        if isinstance(a, ctypes.Array):
            a[:] = [2 * v for v in a]
        else:
            a.value *= 2


def change_everything(char, wide, number, nested, named, values, point, empty, short):
    assert char.value == b"hello" and wide.value == "wörld" and number.value == 1.5
    assert [list(row) for row in nested] == [[1, 2, 3], [4, 5, 6]]
    assert list(named[0]) == [7, 8, 9] and isinstance(named[0], Named)
    assert (values[1].row[2], values[1].point.y, point.x) == (5, 2.5, 11)
    assert len(empty) == 0 and short[0] == 258
    char.value, wide.value, number.value = b"bye", "welt", 2.5
    nested[1][2] = 60
    named[0][0] = 70
    values[1].point.y = 25.0
    point.x = 110
    short[0] = 259


def exchange(a, to_child, to_parent):
    """Take turns: each side adds to what the other wrote."""
    for turn in range(20):
        assert to_child.recv() == turn
        a[0] += 1
        a[len(a) - 1] = turn
        to_parent.send(turn)


def pass_on(method, a, *others):
    child = multiprocessing.get_context(method).Process(target=double, args=(a, *others))
    child.start()
    child.join(TIMEOUT)
    assert child.exitcode == 0, child.exitcode
    a[1] += 1


def same_region(a, b, c):
    first, at_a = _shmdev.region_locate(ctypes.addressof(a))
    second, at_b = _shmdev.region_locate(ctypes.addressof(b))
    assert first is second and at_a != at_b
    assert a[0] == 1 and b[0] == 2 and c[0] == 3
    # What was received can be used as any other array.
    b[:] = a
    view = memoryview(b)
    del a, b
    gc.collect()
    assert bytes(view) == b"\1\0\0\0"


def keep_reading(a, go, ready):
    assert a[0] == 42
    ready.set()
    assert go.wait(TIMEOUT)
    assert list(a) == [42] * len(a), a[:4]


def own_allocations(a):
    """What a child allocates is its own."""
    before = list(a)
    for _ in range(50):
        b = RawArray("i", len(a))
        assert not any(b)
        b[:] = [-1] * len(b)
    assert list(a) == before


def count_descriptors(a):
    region, _ = _shmdev.region_locate(ctypes.addressof(a))
    mine = os.fstat(region.fileno())
    found = []
    for fd in map(int, os.listdir("/proc/self/fd")):
        try:
            if os.path.samestat(os.fstat(fd), mine):
                found.append(fd)
        except OSError:
            pass  # that of the listing itself
    assert found == [region.fileno()], found
    assert not os.get_inheritable(region.fileno())


_initial = None


def pool_initializer(a):
    global _initial
    _initial = a


def pool_add(index):
    _initial[index] += index
    return os.getpid()


class Methods:
    def run_child(self, target, *args):
        child = self.context.Process(target=target, args=args)
        child.start()
        child.join(TIMEOUT)
        self.assertEqual(child.exitcode, 0)

    def test_numbers(self):
        arrays = [RawArray(code, [1, 2, 3]) for code in "bBhHiIlLqQfd"]
        arrays += [RawValue(code, 5) for code in "id"]
        self.run_child(double, *arrays)
        for a in arrays:
            self.assertEqual(list(a) if isinstance(a, ctypes.Array) else [a.value],
                             [2, 4, 6] if isinstance(a, ctypes.Array) else [10])

    def test_all_kinds(self):
        char = RawArray("c", b"hello\0\0\0")
        wide = RawArray("u", "wörld\0")
        number = RawValue("d", 1.5)
        nested = RawArray(ctypes.c_int * 3, [(1, 2, 3), (4, 5, 6)])
        named = RawArray(Named, [(7, 8, 9)])
        values = RawArray(Values, 2)
        values[1].row[2], values[1].point.y = 5, 2.5
        point = RawValue(Point, 11, 0)
        empty = RawArray("i", 0)
        short = RawArray("h", [258])
        self.run_child(change_everything, char, wide, number, nested, named, values, point, empty,
                       short)
        self.assertEqual((char.value, wide.value, number.value), (b"bye", "welt", 2.5))
        self.assertEqual((nested[1][2], named[0][0], values[1].point.y), (60, 70, 25.0))
        self.assertEqual((point.x, short[0]), (110, 259))

    def test_large(self):
        a = RawArray("i", 3_000_000)
        a[0] = a[2_999_999] = 21
        a[1_500_000] = -4
        self.run_child(double_ends, a)
        self.assertEqual((a[0], a[1_500_000], a[2_999_999]), (42, -8, 42))

    def test_each_sees_the_other(self):
        a = RawArray("i", 1000)
        to_child, from_parent = self.context.Pipe()
        from_child, to_parent = self.context.Pipe()
        child = self.context.Process(target=exchange, args=(a, from_parent, to_parent))
        child.start()
        for turn in range(20):
            a[0] += 10
            to_child.send(turn)
            self.assertTrue(from_child.poll(TIMEOUT))
            self.assertEqual(from_child.recv(), turn)
            self.assertEqual((a[0], a[999]), (11 * (turn + 1), turn))
        child.join(TIMEOUT)
        self.assertEqual(child.exitcode, 0)

    def test_arrays_of_one_region(self):
        a, b, c = (RawArray("i", [n]) for n in (1, 2, 3))
        self.run_child(same_region, a, b, c)
        self.assertEqual(b[0], 1)

    def test_grandchild(self):
        for method in multiprocessing.get_all_start_methods():
            with self.subTest(then=method):
                a, b = RawArray("i", [1, 2, 3]), RawValue("i", 4)
                self.run_child(pass_on, method, a, b)
                self.assertEqual((list(a), b.value), ([2, 5, 6], 8))

    def test_sender_lets_go(self):
        """A freed array that a child knows is not given to anybody else."""
        a = RawArray("i", [42] * 500)
        go, ready = self.context.Event(), self.context.Event()
        child = self.context.Process(target=keep_reading, args=(a, go, ready))
        child.start()
        self.assertTrue(ready.wait(TIMEOUT))
        del a
        gc.collect()
        later = [RawArray("i", [-1] * 500) for _ in range(50)]
        go.set()
        child.join(TIMEOUT)
        self.assertEqual(child.exitcode, 0)
        del later

    def test_sender_lets_go_before_the_child_looks(self):
        child = self.context.Process(target=check_and_leave, args=(RawArray("i", [42] * 500),))
        child.start()
        gc.collect()
        later = [RawArray("i", [-1] * 500) for _ in range(50)]
        child.join(TIMEOUT)
        self.assertEqual(child.exitcode, 0)
        del later

    def test_child_allocates_its_own(self):
        a = RawArray("i", range(100))
        RawArray("i", [5] * 100)  # freed: neither side may hand it out dirty
        self.run_child(own_allocations, a)
        for _ in range(50):
            self.assertFalse(any(RawArray("i", 100)))
        self.assertEqual(list(a), list(range(100)))

    def test_pool_initargs(self):
        a = RawArray("i", 100)
        with self.context.Pool(2, pool_initializer, (a,)) as pool:
            pool.map(pool_add, range(100), chunksize=5)
        self.assertEqual(list(a), list(range(100)))

    def test_no_descriptor_is_left_here(self):
        self.run_child(double, RawArray("i", 1))
        before = len(os.listdir("/proc/self/fd"))
        for _ in range(3):
            self.run_child(double, RawArray("i", [1, 2]), RawValue("i"))
            self.run_child(double_ends, RawArray("b", 5 << 20))
        gc.collect()
        self.assertLessEqual(len(os.listdir("/proc/self/fd")), before)

    def test_one_descriptor_there(self):
        for size in (10, 5 << 20):
            self.run_child(count_descriptors, RawArray("b", size))

    def test_private_array(self):
        made = type(RawArray("i", 3))(1, 2, 3)
        if self.context.get_start_method() == "fork":
            self.run_child(double, made)
            self.assertEqual(list(made), [1, 2, 3])
        else:
            child = self.context.Process(target=double, args=(made,))
            with self.assertRaisesRegex(TypeError, "not in shared memory"):
                child.start()

    @unittest.skipUnless(HAS_NUMPY, "no numpy for this interpreter")
    def test_numpy_view_of_received(self):
        a = RawArray("d", 1000)
        self.run_child(numpy_fill, a)
        self.assertEqual(sum(a), 1000 * 999 / 2)


def double_ends(a):
    for index in (0, len(a) // 2, len(a) - 1):
        a[index] *= 2


def check_and_leave(a):
    assert list(a) == [42] * 500


def numpy_fill(a):
    import numpy

    view = numpy.asarray(a)
    del a
    gc.collect()
    view[:] = numpy.arange(1000)


class Fork(Methods, unittest.TestCase):
    context = multiprocessing.get_context("fork")


class Spawn(Methods, unittest.TestCase):
    context = multiprocessing.get_context("spawn")


class ForkServer(Methods, unittest.TestCase):
    context = multiprocessing.get_context("forkserver")


class Rebuilding(unittest.TestCase):
    """What arrives is checked: it may come from a broken peer."""

    def test_offset_beyond_the_region(self):
        from shmdev import _sharing

        a = RawArray("i", 4)
        region, offset = _shmdev.region_locate(ctypes.addressof(a))
        good = _sharing.load("data1", ctypes.c_int, 4, region, offset)
        good[0] = 5
        self.assertEqual(a[0], 5)
        for length, at in ((4, region.size), (4, -1), (region.size, 0)):
            self.assertRaises(ValueError, _sharing.load, "data1", ctypes.c_int, length, region, at)

    def test_region(self):
        a = RawArray("i", [1, 2])
        region, offset = _shmdev.region_locate(ctypes.addressof(a))
        again, _ = _shmdev.region_locate(ctypes.addressof(a) + 4)
        self.assertIs(again, region)
        self.assertIs(_shmdev.region_open(region.fileno()), region)
        self.assertEqual(region.backend, shmdev.info().backend)
        self.assertEqual(os.fstat(region.fileno()).st_size, region.size)
        self.assertEqual(bytes(memoryview(region)[offset:offset + 8]), bytes(a))
        del a
        gc.collect()
        self.assertEqual(bytes(memoryview(region)[offset:offset + 4]), b"\1\0\0\0")
        for dumps in (multiprocessing.reduction.ForkingPickler.dumps, pickle.dumps):
            self.assertIs(pickle.loads(dumps(region)), region)

    def test_bad_descriptors(self):
        with open(__file__) as file:
            self.assertRaises(OSError, _shmdev.region_open, file.fileno())
        self.assertRaises(ValueError, _shmdev.region_open, -1)
        self.assertRaises(TypeError, _shmdev.region_open, "a")
        with self.assertRaises(OSError) as caught:
            _shmdev.region_open(10**6)
        self.assertIn("shmdev_region_open: ", str(caught.exception))

    def test_memory_that_is_not_ours(self):
        self.assertRaises(FileNotFoundError, _shmdev.region_locate,
                          ctypes.addressof(ctypes.c_int()))
        self.assertIsNone(context.get_spawning_popen())


if __name__ == "__main__":
    tap.main()
