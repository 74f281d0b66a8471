# SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
"""Doing it again and again costs no memory, no descriptor and no reference."""

import array
import ctypes
import gc
import os
import sys
import unittest
import weakref

import tap
import shmdev
from shmdev import RawArray, RawValue, _classes
from stock import Point, numpy
from tap import THOROUGH


def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


class Memory(unittest.TestCase):
    def check(self, function, repeats, allowed=1 << 20):
        """After a warm-up of the same length the resident set stands still."""
        repeats //= 1 if THOROUGH else 10
        for _ in range(repeats):
            function()
        gc.collect()
        before = resident()
        for _ in range(repeats):
            function()
        gc.collect()
        self.assertLess(resident() - before, allowed)

    def test_allocation(self):
        self.check(lambda: RawArray("i", 1000), 20_000)

    def test_large_allocation(self):
        self.check(lambda: RawArray("b", 5 << 20), 200)

    def test_from_buffer(self):
        source = array.array("q", range(1000))
        self.check(lambda: RawArray("i", source), 20_000)

    def test_from_list(self):
        source = list(range(2**40, 2**40 + 1000))
        self.check(lambda: RawArray("i", source), 5_000)

    def test_from_anything(self):
        class Items:
            def __len__(self):
                return 3

            def __getitem__(self, index):
                if index > 2:
                    raise IndexError
                return 10**20 + index

        self.check(lambda: RawArray("i", Items()), 5_000)
        self.check(lambda: RawArray(Point, [(1, 2.5)] * 3), 5_000)
        self.check(lambda: RawArray("i", {10**20, 2, 3}), 5_000)

    def test_assignment(self):
        a = RawArray("i", 1000)
        sources = [array.array("q", range(1000)), list(range(1000)), range(1000), bytes(1000),
                   memoryview(a), [ctypes.c_int(3)] * 1000]

        def assign():
            for source in sources:
                a[:] = source
                a[::-1] = source
            a[5] = 10**20

        self.check(assign, 200)

    def test_failures(self):
        tap.skip_where_classes_stay(self)  # nor the half of one: c_int * 2**62
        a = RawArray("i", 4)

        def fail():
            for source in ([1, 2, 3, "x"], [1], b"12345", array.array("d", [1.5] * 4), None,
                           [10**50, 1.5, 1, 1]):
                with self.assertRaises((TypeError, ValueError)):
                    a[:] = source
            for args in (("x", 3), ("i", -1), ("i", [1.5]), ("i", None), ("i", 2**62), ([], 1),
                         ("b", 2**60), ("c", [256]), (int, 3), (None, 3)):
                with self.assertRaises((TypeError, ValueError, OverflowError, MemoryError)):
                    RawArray(*args)
            with self.assertRaises(TypeError):
                type(a)().__reduce_ex__(2)

        self.check(fail, 500)

    def test_values(self):
        self.check(lambda: RawValue(Point, 1, 2.5), 10_000)

    def test_many_lengths(self):
        """A class for each of 100,000 lengths, and none of them stays."""
        tap.skip_where_classes_stay(self)
        for ctype in (ctypes.c_short, ctypes.c_byte):
            gc.collect()
            before, entries = resident(), len(_classes.entries)
            for n in range(100_000 if THOROUGH else 10_000):
                RawArray(ctype, n)
            gc.collect()
        self.assertLess(resident() - before, 2 << 20)
        self.assertLessEqual(len(_classes.entries), entries + 10)

    def test_many_types(self):
        """A user's type can go away too."""
        tap.skip_where_classes_stay(self)
        refs = []
        for _ in range(200):
            class Item(ctypes.Structure):
                _fields_ = [("x", ctypes.c_int)]

            RawArray(Item, 3)[0].x = 5
            RawValue(Item, 5)
            refs.append(weakref.ref(Item))
        del Item
        # Arrays go first, then their classes, then the types in the keys of the cache.
        for _ in range(3):
            gc.collect()
        self.assertEqual([r for r in refs if r() is not None], [])


class References(unittest.TestCase):
    def check(self, function, *objects):
        function()
        gc.collect()
        before = [sys.getrefcount(o) for o in objects]
        for _ in range(100):
            function()
        gc.collect()
        self.assertEqual([sys.getrefcount(o) for o in objects], before)

    def test_sources_and_types(self):
        source = array.array("q", [2**40, 1])
        items = [2**50 + 1, 1.5]
        bad = object()

        class Item(ctypes.Structure):
            _fields_ = [("x", ctypes.c_int)]

        def use():
            a = RawArray(ctypes.c_double, source)
            a[:] = source
            a[:] = items
            a[:] = tuple(items)
            RawArray(ctypes.c_double, items)
            RawArray(Item, 2)
            RawValue(Item)
            for data in ([bad, bad], bad):
                with self.assertRaises((TypeError, ValueError)):
                    a[:] = data
                with self.assertRaises(TypeError):
                    RawArray("i", data)
            with self.assertRaises(TypeError):
                RawArray(bad, 3)

        self.check(use, source, items, items[0], items[1], bad, Item, None, ctypes.c_double,
                   ctypes.Array)

    def test_buffers_are_released(self):
        """A bytearray that is still exported cannot be resized."""
        data = bytearray(b"abcd")
        a = RawArray("i", data)
        a[:] = data
        a[::-1] = data
        for wrong in ("d", "c", "u"):
            try:
                RawArray(wrong, memoryview(data).cast("f"))
            except TypeError:
                pass
        with self.assertRaises(ValueError):
            a[:2] = data
        with self.assertRaises(OSError):
            shmdev.fill(data, 10**6)
        data.append(1)
        self.assertEqual(list(a), list(b"dcba"))

    def test_one_class(self):
        tap.skip_where_classes_stay(self)
        a = RawArray("i", 12345)
        self.assertEqual(len({id(type(RawArray("i", 12345))) for _ in range(100)}), 1)
        ref = weakref.ref(type(a))
        del a
        gc.collect()
        self.assertIsNone(ref())
        self.assertEqual(len(RawArray("i", 12345)), 12345)

    @unittest.skipUnless(numpy, "no numpy for this interpreter")
    def test_numpy(self):
        source = numpy.arange(100)[::2]

        def use():
            a = RawArray("i", source)
            a[:] = source
            with self.assertRaises(TypeError):
                RawArray("i", numpy.ones(3))
            with self.assertRaises(TypeError):
                RawArray("i", numpy.ma.array([1, 2], mask=[0, 1]))
            return numpy.asarray(a)

        self.check(use, source, source.base, numpy.memmap, numpy.ndarray)


try:
    import _interpreters as interpreters
except ImportError:
    try:
        import _xxsubinterpreters as interpreters
    except ImportError:
        interpreters = None


@unittest.skipUnless(interpreters, "this interpreter offers no others")
class Interpreters(unittest.TestCase):
    USE = """
import shmdev, ctypes
a = shmdev.RawArray("i", b"abc")
a[:] = [4, 5, 6]
assert list(a) == [4, 5, 6]
assert isinstance(a, ctypes.c_int * 3)
shmdev._shmdev.region_locate(ctypes.addressof(a))
try:
    a[:] = [1, "x", 2]
except TypeError:
    pass
else:
    raise AssertionError
"""

    def run_in_another(self, code):
        """What it raised, as text, or None."""
        other = interpreters.create()
        try:
            run = getattr(interpreters, "exec", interpreters.run_string)
            return run(other, f"import sys; sys.path[:] = {sys.path!r}\n" + code)
        except Exception as error:
            return error
        finally:
            interpreters.destroy(other)

    def test_each_has_its_own(self):
        if self.run_in_another("import ctypes") is not None:
            self.skipTest("ctypes refuses to be imported in another interpreter")
        before = shmdev.info().blocks
        for _ in range(5):
            self.assertIsNone(self.run_in_another(self.USE))
            self.assertEqual(list(RawArray("i", b"abc")), list(b"abc"))
        gc.collect()
        self.assertEqual(shmdev.info().blocks, before)


class Descriptors(unittest.TestCase):
    def test_all_calls(self):
        def use():
            a = RawArray("i", range(10))
            b = RawArray("b", 5 << 20)
            region, offset = shmdev._shmdev.region_locate(ctypes.addressof(a))
            shmdev._shmdev.region_open(region.fileno())
            with open("/dev/zero", "rb") as zero:
                shmdev.fill(b, zero)
            shmdev.info()

        use()
        gc.collect()
        before = len(os.listdir("/proc/self/fd"))
        for _ in range(20):
            use()
        gc.collect()
        self.assertLessEqual(len(os.listdir("/proc/self/fd")), before)


if __name__ == "__main__":
    tap.main()
