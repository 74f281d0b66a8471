# SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
"""assign(): beside a model in Python's own numbers, and numpy's table of casts."""

import array
import ctypes
import itertools
import math
import struct
import sys
import threading
import unittest

import tap
from shmdev import RawArray
from stock import NUMBERS, items, numpy
from tap import part_of

LONG_DOUBLE = ctypes.c_longdouble
FLOATS = (ctypes.c_float, ctypes.c_double, LONG_DOUBLE)
INTEGERS = tuple(t for t in NUMBERS if t not in FLOATS and t is not ctypes.c_bool)

EDGES = [0, 1, 100, 127, 128, 255, 256, 32767, 32768, 65535, 65536, 2**31 - 1, 2**31, 2**32 - 1,
         2**32, 2**53 + 2, 2**63 - 1024, 2**63 - 1, 2**63, 2**64 - 2048, 2**64 - 1, 2**64, 2**70]
VALUES = EDGES + [-v for v in EDGES]
FRACTIONS = [0.5, -0.5, 0.999, -0.999, 127.5, -128.5, 255.9, 1e10, -1e10, 1e38, 3.5e38, -3.5e38,
             1e300, -1e300, 2.0**63 - 1024, -(2.0**63) - 2048, float("inf"), float("-inf"),
             float("nan"), -0.0]


def limits(ctype):
    bits = 8 * ctypes.sizeof(ctype)
    signed = ctype(-1).value < 0
    return (-(1 << bits - 1), (1 << bits - 1) - 1) if signed else (0, (1 << bits) - 1)


class Refused(Exception):
    pass


def stored(ctype, value, overflow):
    """What the docstring says an item becomes, by Python's ints and floats."""
    if ctype is ctypes.c_bool:
        return bool(value)
    if ctype in FLOATS:
        found = ctype(value).value
        if math.isinf(found) and math.isfinite(value) and overflow != "wrap":
            if overflow == "raise":
                raise Refused(OverflowError)
            return math.copysign(struct.unpack("f", b"\xff\xff\x7f\x7f")[0], value)
        return found
    low, high = limits(ctype)
    if isinstance(value, float) and not math.isfinite(value):
        if overflow == "wrap" or (overflow == "raise" and math.isnan(value)):
            raise Refused(ValueError)
        if overflow == "raise":
            raise Refused(OverflowError)
        return 0 if math.isnan(value) else high if value > 0 else low
    value = int(value)
    if overflow == "wrap":
        return ctype(value & (2**64 - 1)).value
    if overflow == "raise" and not low <= value <= high:
        raise Refused(OverflowError)
    return min(max(value, low), high)


def sources():
    """Buffers of every type with what it can hold of the edges."""
    for ctype in INTEGERS:
        low, high = limits(ctype)
        values = [v for v in VALUES if low <= v <= high]
        yield (ctype * len(values))(*values), values
    for ctype in FLOATS:
        values = [ctype(v).value for v in FRACTIONS + VALUES]
        yield (ctype * len(values))(*values), values
    yield (ctypes.c_bool * 2)(False, True), [False, True]


class Model(unittest.TestCase):
    def check(self, target, source, values, overflow):
        a = RawArray(target, [1] * len(values))
        try:
            expected = [stored(target, v, overflow) for v in values]
        except Refused as refused:
            # Which of several is told first is not said; one of those there are.
            wanted = {refused.args[0]}
            for value in values:
                try:
                    stored(target, value, overflow)
                except Refused as other:
                    wanted.add(other.args[0])
            with self.assertRaises(tuple(wanted)):
                a.assign(source, casting="unsafe", overflow=overflow)
            self.assertEqual(list(a), [1] * len(values), "something was stored")
            return False
        a.assign(source, casting="unsafe", overflow=overflow)
        self.assertEqual(items(a), items(expected))
        return True

    def test_pairs(self):
        targets = NUMBERS + (ctypes.c_int.__ctype_be__, ctypes.c_double.__ctype_be__)
        for target, (source, values), overflow in part_of(itertools.product(
                targets, list(sources()), ("wrap", "raise", "saturate"))):
            plain = {ctypes.c_int.__ctype_be__: ctypes.c_int,
                     ctypes.c_double.__ctype_be__: ctypes.c_double}.get(target, target)
            with self.subTest(target=target, source=type(source), overflow=overflow):
                if target is plain:
                    whole = self.check(target, source, values, overflow)
                    # One by one, so that no value hides behind another.
                    for i, value in enumerate([] if whole else values):
                        self.check(target, (source._type_ * 1)(value), [value], overflow)
                else:
                    a, b = RawArray(target, len(values)), RawArray(plain, len(values))
                    for array_ in a, b:
                        try:
                            array_.assign(source, casting="unsafe", overflow=overflow)
                        except (OverflowError, ValueError):
                            pass
                    self.assertEqual(items(a), items(b))

    def test_long(self):
        """Pieces, and an item that is wrong in the last of them."""
        for n in (511, 512, 513, 5000):
            source = array.array("d", [n + 0.75 for n in range(n)])
            a = RawArray("h", n)
            a.assign(source, casting="unsafe", overflow="raise")
            self.assertEqual(list(a), list(range(n)))
            source[-1] = 1e6
            for overflow, last in (("saturate", 32767), ("wrap", 16960)):
                a.assign(source, casting="unsafe", overflow=overflow)
                self.assertEqual(list(a), [*range(n - 1), last])
            a[:] = [3] * n
            self.assertRaises(OverflowError, a.assign, source, casting="unsafe", overflow="raise")
            self.assertEqual(set(a), {3})

    def test_large_lets_others_run(self):
        source = array.array("d", bytes(16 << 20))
        a = RawArray("i", len(source))
        counted = []
        thread = threading.Thread(target=lambda: counted.extend(range(1000)))
        thread.start()
        a.assign(source, casting="unsafe", overflow="raise")
        thread.join()
        self.assertEqual(len(counted), 1000)


class Arguments(unittest.TestCase):
    def test_casting_without_numpy(self):
        i, d = RawArray("i", 2), RawArray("d", 2)
        i.assign(array.array("q", [1, 2]))
        d.assign(i, casting="safe")
        self.assertEqual(list(d), [1.0, 2.0])
        for target, source, casting in ((i, d, "same_kind"), (i, array.array("q", [1, 2]), "safe"),
                                        (i, array.array("I", [1, 2]), "safe"), (d, i, "equiv"),
                                        (RawArray(ctypes.c_int.__ctype_be__, 2), i, "no")):
            self.assertRaises(TypeError, target.assign, source, casting=casting)
        RawArray(ctypes.c_int.__ctype_be__, 2).assign(i, casting="equiv")

    def test_wrong(self):
        a = RawArray("i", [7, 8, 9])
        for error, args, options in (
            (TypeError, (), {}),
            (TypeError, ([1, 2, 3],), {}),
            (TypeError, (5,), {}),
            (ValueError, (b"12",), {}),
            (ValueError, (b"123",), {"casting": "any"}),
            (ValueError, (b"123",), {"overflow": "clip"}),
            (TypeError, (b"123", "safe"), {}),
            (TypeError, (memoryview(b"123").cast("c"),), {}),
            (TypeError, ((ctypes.c_wchar * 3)(),), {}),
            (TypeError, (b"123",), {"casting": None}),
        ):
            with self.subTest(args=args, options=options):
                self.assertRaises(error, a.assign, *args, **options)
                self.assertEqual(list(a), [7, 8, 9])
        self.assertRaises(TypeError, RawArray("c", 3).assign, b"123")
        self.assertFalse(hasattr(RawArray("u", 3), "assign"))
        view = memoryview(b"123")
        view.release()
        self.assertRaises(ValueError, a.assign, view)

    def test_nothing(self):
        for source in (b"", (ctypes.c_double * 0)(), RawArray("i", 0), memoryview(b"")):
            RawArray("i", 0).assign(source)
            self.assertRaises(ValueError, RawArray("i", 1).assign, source)
        self.assertRaises(ValueError, RawArray("i", 0).assign, b"1")

    def test_dimensions(self):
        table = memoryview(bytes(range(24))).cast("B", (2, 3, 4))
        a = RawArray("i", 24)
        a.assign(table)
        self.assertEqual(list(a), list(range(24)))
        a.assign(memoryview(a)[::-1])
        self.assertEqual(list(a), list(range(23, -1, -1)))
        one = RawArray("i", 1)
        one.assign(ctypes.c_short(5))
        self.assertEqual(one[0], 5)

    @unittest.skipUnless(sys.version_info >= (3, 12), "no buffers by classes of Python")
    def test_resize_meanwhile(self):
        """The source's code moves the array; what is stored goes where it is then."""
        a = type(RawArray("i", 1000))()         # memory of its own, which ctypes may resize

        class Source:
            def __buffer__(self, flags):
                ctypes.resize(a, 1 << 20)
                return memoryview(array.array("i", range(1000)))

        a.assign(Source())
        self.assertEqual(list(a), list(range(1000)))

    def test_releases_its_source(self):
        source = bytearray(b"123")
        a = RawArray("b", 3)
        a.assign(source)
        for options in ({"casting": "no"}, {"overflow": "nonsense"}):
            with self.assertRaises((TypeError, ValueError)):
                a.assign(source, **options)
        with self.assertRaises(ValueError):
            RawArray("b", 2).assign(source)
        source.append(0)


@unittest.skipUnless(numpy, "no numpy for this interpreter")
class Numpy(unittest.TestCase):
    def test_casting(self):
        """Numpy's own table, for every pair."""
        dtypes = "?bBhHiIlLqQefdg"
        for target, source, casting in itertools.product(
                [c for c in dtypes if c != "e"], dtypes + "><",
                ("no", "equiv", "safe", "same_kind", "unsafe")):
            dtype = numpy.dtype({">": ">i4", "<": "<i4"}.get(source, source))
            ctype = numpy.ctypeslib.as_ctypes_type(target) if target != "g" else LONG_DOUBLE
            a = RawArray(ctype, 2)
            with self.subTest(target=target, source=source, casting=casting):
                if numpy.can_cast(dtype, target, casting):
                    a.assign(numpy.ones(2, dtype), casting=casting)
                    self.assertEqual(list(a), [1, 1])
                else:
                    self.assertRaises(TypeError, a.assign, numpy.ones(2, dtype), casting=casting)

    def test_layouts(self):
        """Rows of any strides, of any number of dimensions."""
        base = numpy.arange(7 * 6 * 5 * 4, dtype="i8").reshape(7, 6, 5, 4)
        views = [base, base.T, base[::-1], base[:, ::2, ::-1, 1:], base[..., 0], base[:, :0],
                 base.transpose(1, 3, 0, 2), numpy.asfortranarray(base), base[3, 2, 1, 0],
                 numpy.broadcast_to(base[0, 0, 0], (3, 4)), base[:, :1, :, :], base.astype(">i8"),
                 base[:, None, ::3]]
        for view, code, overflow in itertools.product(views, "qhd", ("wrap", "raise", "saturate")):
            a = RawArray(code, view.size)
            a.assign(view, overflow=overflow)
            self.assertEqual(list(a), view.ravel().tolist())

    def test_overlap(self):
        a = RawArray("q", range(36))
        table = a.numpy().reshape(6, 6)
        for view in (table.T, table[::-1], table[:, ::-1], table[::-1].T):
            expected = view.ravel().tolist()
            a.assign(view)
            self.assertEqual(list(a), expected)
        half = RawArray("i", range(36))
        half.assign(half.numpy().view("h")[::2], overflow="raise")
        self.assertEqual(list(half), list(range(36)))

    def test_halves(self):
        every = numpy.arange(65536, dtype="u2").view("e")
        finite = every[numpy.isfinite(every)]
        a = RawArray("i", len(finite))
        a.assign(finite, casting="unsafe", overflow="raise")
        self.assertEqual(list(a), finite.astype("i4").tolist())

    def test_as_numpy_wraps(self):
        x = numpy.random.default_rng(3).integers(-(2**62), 2**62, 3001)
        for code in "bBhHiIqQfd":
            a = RawArray(code, x.size)
            a.assign(x, casting="unsafe")
            self.assertEqual(list(a), x.astype(a.numpy().dtype).tolist())


if __name__ == "__main__":
    tap.main()
