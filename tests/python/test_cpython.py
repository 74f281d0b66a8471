# SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
"""CPython's own tests, with the arrays and values of shmdev put in their place.

They come with the interpreter, or as libpythonX.Y-testsuite; where there are none
this is a skip.  What needs locks or Synchronized wrappers is wrapped by
multiprocessing's own: the memory below is ours.
"""

import ctypes
import importlib
import multiprocessing
import unittest
from multiprocessing import sharedctypes

import tap
from shmdev import RawArray, RawValue
from tap import THOROUGH


def cpython(*names):
    """The first of these modules there is, or None."""
    for name in names:
        try:
            return importlib.import_module(name)
        except (ImportError, unittest.SkipTest):
            continue
    return None


mp_tests = cpython("test._test_multiprocessing")
array_tests = cpython("test.test_ctypes.test_arrays", "ctypes.test.test_arrays")
pep3118_tests = cpython("test.test_ctypes.test_pep3118", "ctypes.test.test_pep3118")


def guarded(raw, lock, context):
    """What multiprocessing makes of lock= around a raw object."""
    if lock is False:
        return raw
    if lock in (True, None):
        lock = context.RLock()
    if not hasattr(lock, "acquire"):
        raise AttributeError(f"{lock!r} has no method 'acquire'")
    return sharedctypes.synchronized(raw, lock, ctx=context)


class Ours:
    """What _test_multiprocessing takes from its class; the rest is the context's."""

    TYPE = "processes"
    RawArray = staticmethod(RawArray)
    RawValue = staticmethod(RawValue)

    def setUp(self):
        super().setUp()
        # Some tests name that of the module, and mean the same.
        self.addCleanup(setattr, mp_tests, "Value", mp_tests.Value)
        mp_tests.Value = self.Value

    @property
    def Process(self):
        return self.context.Process

    @property
    def Lock(self):
        return self.context.Lock

    @property
    def RLock(self):
        return self.context.RLock

    def Value(self, kind, *args, lock=True):
        return guarded(RawValue(kind, *args), lock, self.context)

    def Array(self, kind, data, *, lock=True):
        return guarded(RawArray(kind, data), lock, self.context)


def forms(base):
    """base under each start method, with our memory."""
    for method in multiprocessing.get_all_start_methods() if THOROUGH else ["fork"]:
        name = f"{base.__name__.lstrip('_')}_{method}"
        made = type(name, (Ours, base, unittest.TestCase),
                    {"context": multiprocessing.get_context(method), "__module__": __name__})
        globals()[name] = made


if mp_tests:
    for base in (mp_tests._TestValue, mp_tests._TestArray, mp_tests._TestSharedCTypes):
        forms(base)
else:

    class Multiprocessing(unittest.TestCase):
        @unittest.skip("this interpreter comes without test._test_multiprocessing")
        def test_multiprocessing(self):
            pass


class SharedFactory:
    """ctype, n -> a callable like the class, whose arrays are shared.

    As a class it is compared, so that one (ctype, n) must give one factory.
    """

    _made = {}

    def __new__(cls, ctype, length):
        try:
            return cls._made[ctype, length]
        except KeyError:
            self = cls._made[ctype, length] = super().__new__(cls)
            self._arguments = ctype, length
            return self

    def __call__(self, *items):
        made = RawArray(*self._arguments)
        made.__init__(*items)
        return made


class ClassFactory:
    """ctype, n -> the class of our arrays, kept for as long as the tests run."""

    _made = {}

    def __new__(cls, ctype, length):
        made = type(RawArray(ctype, length))
        return cls._made.setdefault((ctype, length), made)


if array_tests:
    for factory in (SharedFactory, ClassFactory):

        class Arrays(array_tests.ArrayTestCase):
            factory = staticmethod(factory)

            def setUp(self):
                self.addCleanup(setattr, array_tests, "ARRAY", array_tests.ARRAY)
                array_tests.ARRAY = self.factory

        Arrays.__name__ = Arrays.__qualname__ = f"Arrays_{factory.__name__}"
        globals()[Arrays.__name__] = Arrays
    del Arrays
else:

    class CtypesArrays(unittest.TestCase):
        @unittest.skip("this interpreter comes without the tests of ctypes")
        def test_arrays(self):
            pass


if pep3118_tests:

    class PEP3118(unittest.TestCase):
        """Shape and format of what its table has for arrays."""

        def test_formats(self):
            tables = pep3118_tests.native_types + getattr(pep3118_tests, "endian_types", [])
            seen = 0
            for tp, *_ in tables:
                if not (isinstance(tp, type) and issubclass(tp, ctypes.Array)):
                    continue
                expected = memoryview(tp())
                found = memoryview(RawArray(tp._type_, tp._length_))
                self.assertEqual((found.format, found.shape, found.itemsize, found.readonly),
                                 (expected.format, expected.shape, expected.itemsize,
                                  expected.readonly))
                seen += 1
            self.assertGreater(seen, 3)


if __name__ == "__main__":
    tap.main()
