# SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
"""Anything into anything, beside multiprocessing: values, exceptions, partial writes.

The cases come from a generator of our own and, where hypothesis is installed, from that
too, which finds the smallest one that differs.
"""

import array
import ctypes
import random
import unittest
from multiprocessing.sharedctypes import RawArray as StockArray

import tap
from shmdev import RawArray
from stock import NUMBERS, Overlay, Point, assign, construct
from tap import THOROUGH

hypothesis = tap.extra("hypothesis")

TYPES = NUMBERS + (ctypes.c_char, ctypes.c_wchar, ctypes.c_int.__ctype_be__, Point, Overlay,
                   ctypes.c_int * 2)

# Good and bad for each of the types; an item is chosen by its place.
ITEMS = (0, 1, -1, 255, 2**31, -(2**63), 2**64 + 5, 10**400, True, False, 0.0, -2.5, 1e300,
         float("inf"), None, "x", "xy", "", b"x", b"xy", b"", (1, 2), (), (1, 2.5, 3), [1, 2],
         ctypes.c_int(7), ctypes.c_ubyte(8), ctypes.c_char(b"c"), Point(1, 2), Overlay(3), 1j)

# What a sequence of items can be.
KINDS = (list, tuple, lambda items: dict.fromkeys(range(len(items))), lambda items: items * 2,
         lambda items: array.array("q", [i for i in items if type(i) is int and -5 < i < 2**31]),
         lambda items: bytes(len(items)), lambda items: memoryview(bytearray(b"ab" * len(items))),
         lambda items: range(len(items)), lambda items: "ab" * len(items),
         lambda items: (ctypes.c_short * len(items))(*range(len(items))))


class Cases(unittest.TestCase):
    def check(self, ctype, kind, places, length, start, stop, step):
        source = KINDS[kind]([ITEMS[place] for place in places])
        self.assertEqual(construct(RawArray, ctype, source),
                         construct(StockArray, ctype, source))
        key = slice(start, stop, step)
        self.assertEqual(assign(RawArray, ctype, length, key, source),
                         assign(StockArray, ctype, length, key, source))
        if places:
            value, index = ITEMS[places[0]], start if start is not None else 0
            self.assertEqual(assign(RawArray, ctype, length, index, value),
                             assign(StockArray, ctype, length, index, value))

    def test_own(self):
        seed = random.SystemRandom().randrange(2**32)
        chance = random.Random(seed)

        def place():
            return chance.choice((None, chance.randrange(-9, 9)))

        for number in range(6000 if THOROUGH else 300):
            # Mostly items of a type or two, so that there are good ones before a bad one.
            some = chance.sample(range(len(ITEMS)), 2)
            length = chance.randrange(8)
            places = [chance.choice(some) for _ in range(chance.choice((length, length, 3)))]
            case = (chance.choice(TYPES), chance.randrange(len(KINDS)), places, length, place(),
                    place(), chance.choice((None, 1, -1, 2, -3, 0)))
            with self.subTest(seed=seed, number=number, case=case):
                self.check(*case)

    @unittest.skipUnless(hypothesis, "no hypothesis for this interpreter")
    def test_hypothesis(self):
        from hypothesis import strategies

        edge = strategies.none() | strategies.integers(-9, 9)

        @hypothesis.settings(max_examples=1500 if THOROUGH else 100, deadline=None, database=None)
        @hypothesis.given(strategies.tuples(
            strategies.sampled_from(TYPES), strategies.integers(0, len(KINDS) - 1),
            strategies.lists(strategies.integers(0, len(ITEMS) - 1), max_size=8),
            strategies.integers(0, 8), edge, edge, strategies.none() | strategies.integers(-3, 3)))
        def check(case):
            self.check(*case)

        check()


if __name__ == "__main__":
    tap.main()
