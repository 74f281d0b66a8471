# SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
"""Array, Value, copy, synchronized; install() and what it undoes."""

import ctypes
import gc
import multiprocessing
import os
import subprocess
import sys
import tempfile
import threading
import unittest
import weakref
from multiprocessing import heap, sharedctypes

import tap
import shmdev
from shmdev import _shmdev
from stock import Point, items, outcome
from tap import THOROUGH

METHODS = multiprocessing.get_all_start_methods() if THOROUGH else ["spawn"]
TIMEOUT = 60


def is_ours(obj):
    """Whether a ctypes object lies in a region of this package."""
    try:
        _shmdev.region_locate(ctypes.addressof(obj))
    except FileNotFoundError:
        return False
    return True


class Locks(unittest.TestCase):
    """What lock= may be, beside multiprocessing."""

    def both(self, name, *args, **kwargs):
        ours = outcome(lambda: getattr(shmdev, name)(*args, **kwargs))
        stock = outcome(lambda: getattr(sharedctypes, name)(*args, **kwargs))
        self.assertEqual(ours[0], stock[0])
        if ours[0] == "raised":
            self.assertIs(ours[1], stock[1])
            return None
        self.assertEqual(isinstance(ours[1], sharedctypes.SynchronizedBase),
                         isinstance(stock[1], sharedctypes.SynchronizedBase))
        return ours[1]

    def test_kinds(self):
        own = multiprocessing.Lock()
        for name, args in (("Value", ("i", 5)), ("Array", ("i", [1, 2])), ("Array", ("c", 3)),
                           ("Value", (Point, 1, 2)), ("Array", (Point, 2))):
            for lock in (True, None, own, 1, 1.0, threading.Lock()):
                with self.subTest(name=name, args=args, lock=lock):
                    guarded = self.both(name, *args, lock=lock)
                    self.assertTrue(is_ours(guarded.get_obj()))
                    if hasattr(lock, "acquire"):
                        self.assertIs(guarded.get_lock(), lock)
                    else:
                        self.assertIs(type(guarded.get_lock()), type(multiprocessing.RLock()))
            self.assertTrue(is_ours(self.both(name, *args, lock=False)))
            for lock in (0, "lock", [], object(), 2):
                self.assertIsNone(self.both(name, *args, lock=lock))
        self.assertIsNone(self.both("Array", "i", 3, True))     # lock is by name only
        self.assertIsNone(self.both("Array", "x", 3))
        self.assertIsNone(self.both("Value", "i", 1, 2))

    def test_classes(self):
        for made, kind in (
            (shmdev.Value("i"), sharedctypes.Synchronized),
            (shmdev.Array("i", 3), sharedctypes.SynchronizedArray),
            (shmdev.Array("c", 3), sharedctypes.SynchronizedString),
        ):
            self.assertIs(type(made), kind)
        point = shmdev.Value(Point, 3, 1.5)
        self.assertEqual((point.x, point.y), (3, 1.5))
        point.y = 2.5
        self.assertEqual(point.get_obj().y, 2.5)
        self.assertRaises(AssertionError, shmdev.synchronized, point)

    def test_contexts(self):
        for method in METHODS:
            ctx = multiprocessing.get_context(method)
            for made in (shmdev.Value("i", ctx=ctx), shmdev.Array("i", 2, ctx=ctx),
                         shmdev.synchronized(shmdev.RawArray("i", 2), ctx=ctx)):
                self.assertIs(type(made.get_lock()), type(ctx.RLock()))

    def test_lock_is_held(self):
        value = shmdev.Value("i", 1)
        with value:
            got = []
            thread = threading.Thread(target=lambda: got.append(value.acquire(False)))
            thread.start()
            thread.join()
            self.assertEqual(got, [False])
            value.value += 1
        self.assertEqual(value.value, 2)

    def test_slices(self):
        import array

        guarded = shmdev.Array("i", 1000)
        guarded[::2] = array.array("q", range(500))
        self.assertEqual(guarded[:6:2], [0, 1, 2])
        text = shmdev.Array("c", b"hello\0\0")
        self.assertEqual((text.value, text.raw, text[1:3]), (b"hello", b"hello\0\0", b"el"))

    def test_nothing_is_pinned(self):
        """multiprocessing keeps the class of every array it made."""
        tap.skip_where_classes_stay(self)
        refs = []
        for length in range(7000, 7010):
            guarded = shmdev.Array("h", length)
            refs += [weakref.ref(type(guarded.get_obj())),
                     weakref.ref(type(shmdev.copy(guarded.get_obj())))]

            class Local(ctypes.Structure):
                _fields_ = [("x", ctypes.c_int)]

            refs.append(weakref.ref(type(shmdev.Value(Local).get_obj())))
        del guarded, Local
        gc.collect()
        self.assertEqual([ref() for ref in refs], [None] * len(refs))


class Copies(unittest.TestCase):
    def test_kinds(self):
        class Named(ctypes.c_int * 3):
            pass

        for obj in (ctypes.c_int(5), (ctypes.c_int * 3)(1, 2, 3), Point(1, 2.5), Named(1, 2, 3),
                    shmdev.RawArray("d", [1, 2]), shmdev.RawValue("i", 7),
                    shmdev.RawValue(Named, 4, 5, 6), (ctypes.c_int * 0)(),
                    shmdev.RawArray("c", b"abc"), (Point * 2)((1, 2), (3, 4))):
            with self.subTest(obj=obj):
                again = shmdev.copy(obj)
                self.assertTrue(is_ours(again))
                self.assertEqual(bytes(again), bytes(obj))
                self.assertIsInstance(again, type(sharedctypes.copy(obj)).__mro__[
                    2 if is_ours(obj) else 0])
                twice = shmdev.copy(again)
                self.assertIs(type(twice), type(again))
                ctypes.memset(ctypes.addressof(twice), 0xFF, ctypes.sizeof(twice))
                self.assertEqual(bytes(again), bytes(obj))

    def test_wrong(self):
        for obj in (5, None, ctypes.c_int, [1], b"abc"):
            self.assertRaises(TypeError, shmdev.copy, obj)

    def test_value_of_our_own_class(self):
        array = shmdev.RawArray("i", [1, 2])
        value = shmdev.RawValue(type(array), 3, 4)
        self.assertEqual(list(value), [3, 4])
        self.assertTrue(is_ours(value))

    def test_stock_copy(self):
        """multiprocessing's copy() registers its reducer for the class; ours go on."""
        array = shmdev.RawArray("i", range(4))
        again = sharedctypes.copy(array)
        self.assertEqual(list(again), list(array))
        for method in METHODS:
            child = multiprocessing.get_context(method).Process(target=increment,
                                                                args=([array, again],))
            child.start()
            child.join(TIMEOUT)
            self.assertEqual(child.exitcode, 0)
        self.assertEqual(list(array), [n + len(METHODS) for n in range(4)])
        self.assertEqual(list(again), list(array))


def increment(objects):
    for obj in objects:
        for index in range(len(obj)):
            obj[index] += 1


PROGRAM = """
import multiprocessing, sys, ctypes

class Point(ctypes.Structure):
    _fields_ = [("x", ctypes.c_int), ("y", ctypes.c_double)]

def modify(number, numbers, text, points, raw, wrapper):
    number.value **= 2
    with numbers.get_lock():
        numbers[:] = [n * 2 for n in numbers]
    text.value = text.value.upper()
    for point in points:
        point.x += 1
    raw[0] = -1
    wrapper.create_memoryview()[:3] = b"abc"

def main(method):
    from multiprocessing import sharedctypes, heap
    context = multiprocessing.get_context(method)
    lock = context.RLock()
    number = context.Value("i", 7)
    numbers = context.Array("d", range(5), lock=lock)
    text = context.Array("c", b"hello world", lock=lock)
    points = context.Array(Point, [(1, 2.5), (3, 4.5)], lock=lock)
    raw = context.RawArray("h", 3)
    wrapper = heap.BufferWrapper(100)
    child = context.Process(target=modify, args=(number, numbers, text, points, raw, wrapper))
    child.start()
    child.join()
    print(child.exitcode, number.value, numbers[:], text.value, [p.x for p in points], raw[:],
          bytes(wrapper.create_memoryview()[:4]))
    return [number.get_obj(), numbers.get_obj(), text.get_obj(), points.get_obj(), raw,
            ctypes.c_char.from_buffer(wrapper.create_memoryview())]
"""

UNINSTALLED = PROGRAM + """
if __name__ == "__main__":
    main(sys.argv[1])
"""

INSTALLED = "import shmdev\nshmdev.install()\n" + PROGRAM + """
if __name__ == "__main__":
    from shmdev import _shmdev
    for obj in main(sys.argv[1]):
        _shmdev.region_locate(ctypes.addressof(obj))
    with open("/proc/self/maps") as file:
        files = file.read()
    assert "/pym-" not in files, files      # multiprocessing's arenas
"""

# The parent alone knows of it.
IN_PARENT = PROGRAM + """
if __name__ == "__main__":
    import shmdev
    with shmdev.installed():
        main(sys.argv[1])
"""


class Installed(unittest.TestCase):
    def run_program(self, text, method):
        with tempfile.TemporaryDirectory() as directory:
            path = os.path.join(directory, "program.py")
            with open(path, "w") as file:
                file.write(text)
            env = {**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
            done = subprocess.run([sys.executable, path, method], env=env, capture_output=True,
                                  text=True, timeout=120)
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        return done.stdout

    def test_unmodified_program(self):
        for method in METHODS:
            expected = self.run_program(UNINSTALLED, method)
            self.assertTrue(expected.startswith("0 49 "), expected)
            for text in (INSTALLED, IN_PARENT):
                with self.subTest(method=method):
                    self.assertEqual(self.run_program(text, method), expected)

    def test_undone(self):
        names = [(sharedctypes, n) for n in ("RawArray", "RawValue", "Array", "Value", "copy",
                                             "synchronized")]
        names += [(heap, "Arena"), (heap.BufferWrapper, "_heap")]
        before = [getattr(*name) for name in names]
        with shmdev.installed():
            shmdev.install()
            inside = multiprocessing.RawArray("i", [1, 2, 3])
            self.assertIs(sharedctypes.RawArray, shmdev.RawArray)
            shmdev.uninstall()
            self.assertIs(sharedctypes.Value, shmdev.Value)
            wrapper = heap.BufferWrapper(1000)
        self.assertEqual([getattr(*name) for name in names], before)
        self.assertFalse(is_ours(multiprocessing.RawArray("i", 3)))
        self.assertTrue(is_ours(inside))
        self.assertEqual(items(inside), items(multiprocessing.RawArray("i", [1, 2, 3])))
        wrapper.create_memoryview()[-1] = 5
        self.assertRaises(RuntimeError, shmdev.uninstall)
        with self.assertRaises(KeyError):
            with shmdev.installed():
                raise KeyError
        self.assertEqual([getattr(*name) for name in names], before)

    def test_imported_by_name_before(self):
        from multiprocessing.sharedctypes import RawArray, RawValue

        with shmdev.installed():
            for made in (RawArray("i", 3), RawArray("i", [1, 2]), RawValue("d", 2.5)):
                self.assertTrue(is_ours(made))

    def test_heap_gives_back(self):
        with shmdev.installed():
            gc.collect()
            before = shmdev.info().region_bytes
            large = heap.BufferWrapper(48 << 20)
            self.assertGreaterEqual(shmdev.info().region_bytes, before + (48 << 20))
            self.assertFalse(any(large.create_memoryview()[:: 1 << 16]))
            del large
            gc.collect()
            self.assertLess(shmdev.info().region_bytes, before + (48 << 20))


if __name__ == "__main__":
    tap.main()
