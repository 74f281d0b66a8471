# SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
"""CPython's own tests, with the arrays and values of shmdev put in their place.

They come with the interpreter, or as libpythonX.Y-testsuite; where there are none
this is a skip.  Those of multiprocessing run as they are under shmdev.install(), those
of ctypes with their array factory replaced.  There are no deviations: where one becomes
necessary, it is a skip here that says why.
"""

import ctypes
import importlib
import multiprocessing
import unittest

import tap
import shmdev
from shmdev import RawArray
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


class Ours:
    """What _test_multiprocessing takes from its class: the context's, led to us."""

    TYPE = "processes"

    def setUp(self):
        super().setUp()
        shmdev.install()
        self.addCleanup(shmdev.uninstall)
        # The module has imported two of the names itself, one of the default context.
        for name, ours in (("Value", self.context.Value), ("copy", shmdev.copy)):
            self.addCleanup(setattr, mp_tests, name, getattr(mp_tests, name))
            setattr(mp_tests, name, ours)

    def __getattr__(self, name):
        if name in ("Process", "Lock", "RLock", "Value", "Array", "RawValue", "RawArray"):
            return getattr(self.context, name)
        raise AttributeError(name)


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
