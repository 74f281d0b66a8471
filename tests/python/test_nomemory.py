# SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
"""Each allocation of Python's fails once: MemoryError or success, and nothing leaks."""

import array
import collections
import ctypes
import gc
import itertools
import operator
import sys
import unittest
from functools import partial

import tap
import shmdev
from shmdev import RawArray, _shmdev
from stock import Point
from tap import THOROUGH

try:
    import _testcapi
except ImportError:
    _testcapi = None

# Beyond the allocations of any of the calls below.
ALLOCATIONS = 150 if THOROUGH else 40


# A sequence that is neither list nor buffer, and runs no Python code: CPython 3.12 loses
# the exception where a frame cannot be had.
FEW = collections.deque([300, 301, 302])


@unittest.skipUnless(hasattr(_testcapi, "set_nomemory"), "no _testcapi.set_nomemory here")
@unittest.skipIf(hasattr(sys, "_is_gil_enabled") and not sys._is_gil_enabled(),
                 "allocations of other threads would fail, too")
class NoMemory(unittest.TestCase):
    def check(self, call, expected=2):
        """call() under each failure, of which it notices more than expected.

        call is no function in Python that needs a frame, or a cell, to begin with: CPython
        3.11 to 3.13 do not survive it when there is no memory for those.
        """
        call()      # imports and caches
        gc.collect()
        before = shmdev.info().blocks
        noticed = 0
        gc.disable()
        try:
            for last in (1, 1000):      # one allocation fails, or all from it on
                for number in range(ALLOCATIONS):
                    _testcapi.set_nomemory(number, number + last)
                    try:
                        call()
                        failed = False
                    except MemoryError:
                        failed = True
                    finally:
                        _testcapi.remove_mem_hooks()
                    noticed += failed
        finally:
            gc.enable()
        call()
        gc.collect()
        self.assertGreater(noticed, expected)
        self.assertEqual(shmdev.info().blocks, before)

    def test_from_length(self):
        self.check(partial(RawArray, "i", 1000))
        self.check(partial(RawArray, Point, 3))

    def test_new_class(self):
        made = map(RawArray, itertools.repeat("h"), itertools.count(50_000))
        self.check(partial(next, made))

    def test_from_data(self):
        buffer = array.array("q", range(100))
        for source in ([300, 301, 2**70], (1.5, 2), {300, 301}, buffer, b"abc", FEW,
                       memoryview(buffer)[::2], range(300, 310)):
            self.check(partial(RawArray, "d", source))

    def test_assignment(self):
        a = RawArray("d", 3)
        numbers = RawArray("q", 100)
        for source in ([300, 301, 2**70], array.array("h", [1, 2, 3]), FEW, range(300, 303)):
            self.check(partial(operator.setitem, a, slice(None, None, -1), source), -1)
        self.check(partial(numbers.assign, memoryview(numbers)[::-1]), 0)
        with self.assertRaises(TypeError):
            numbers[:3] = [1, "x", 2]

    def test_regions(self):
        a = RawArray("i", 1000)
        address = ctypes.addressof(a)
        self.check(partial(_shmdev.region_locate, address))
        region = a.region
        self.check(partial(_shmdev.region_open, region.fileno()), -1)
        self.assertIs(a.region, region)

    def test_views(self):
        a = RawArray("i", 300)
        for call in (partial(_shmdev.dlpack, a, False, False),
                     partial(_shmdev.dlpack, a, True, False), shmdev.info, _shmdev.probe):
            self.check(call, 0)


if __name__ == "__main__":
    tap.main()
