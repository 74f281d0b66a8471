# SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
"""Buffers of numbers into arrays of numbers: each pair, stride and byte order.

What comes out is what multiprocessing makes of the same source, item by item.  It
refuses memoryviews of most formats (NotImplementedError); there the items as a list
are the reference.
"""

import array
import ctypes
import itertools
import mmap
import os
import random
import struct
import tempfile
import threading
import time
import sys
import unittest
import warnings
from multiprocessing.sharedctypes import RawArray as StockArray

import shmdev
import tap
from tap import THOROUGH, part_of
from shmdev import RawArray
from shmdev import _shmdev
from stock import (
    NUMBERS,
    Overlay,
    assign,
    construct,
    items,
    numpy,
    outcome,
)

EDGES = [0, 1, 2, 127, 128, 255, 256, 32767, 32768, 65535, 2**24 + 1, 2**31 - 1, 2**31, 2**32 - 1,
         2**53 + 1, 2**62 + 2**38 + 1, 2**63 - 1, 2**63, 2**64 - 1]
FLOAT_EDGES = [0.0, -0.0, 0.5, 1.0, -1.5, 65504.0, 1e-8, 3.4e38, 1e39, 1e300, -1e300, 5e-324,
               float("inf"), float("-inf"), float("nan"), 16777217.0]
INTEGERS = tuple(t for t in NUMBERS if t._type_ not in "?fdg")
DESTINATIONS = NUMBERS + (
    ctypes.c_char,
    ctypes.c_wchar,
    ctypes.c_int.__ctype_be__,
    ctypes.c_double.__ctype_be__,
    ctypes.c_ushort.__ctype_be__,
)


def gathers():
    """Whether this kernel makes huge pages of a memfd's base pages when it is asked to."""
    size, collapse = 2 << 20, 25
    fd = os.memfd_create("gathers")
    try:
        os.ftruncate(fd, size)
        with mmap.mmap(-1, 2 * size) as room:
            at = ctypes.addressof(ctypes.c_char.from_buffer(room)) + size - 1 & -size
            libc = ctypes.CDLL(None, use_errno=True)
            libc.mmap.restype = ctypes.c_void_p
            libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int,
                                  ctypes.c_int, ctypes.c_long]
            libc.madvise.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
            fixed = 0x10
            if libc.mmap(at, size, mmap.PROT_READ | mmap.PROT_WRITE, mmap.MAP_SHARED | fixed,
                         fd, 0) != at:
                raise OSError(ctypes.get_errno(), "mmap")
            ctypes.memset(at, 1, 1)
            return libc.madvise(at, size, collapse) == 0
    finally:
        os.close(fd)


def integers(bits, signed):
    low, high = (-(1 << bits - 1), (1 << bits - 1) - 1) if signed else (0, (1 << bits) - 1)
    return [v for e in EDGES for v in (e, -e) if low <= v <= high]


class Differential(unittest.TestCase):
    def check(self, ctype, source, key=slice(None), length=None):
        """source into ours beside source into stock, by constructor and slice."""
        if key == slice(None):
            expected = construct(StockArray, ctype, source)
            if expected[1] is NotImplementedError:
                expected = construct(StockArray, ctype, source.tolist())
            found = construct(RawArray, ctype, source)
            self.assertEqual(found, expected, f"{ctype.__name__} from {describe(source)}")
        length = len(source) if length is None else length
        expected = assign(StockArray, ctype, length, key, source)
        if expected[0][1] is NotImplementedError:
            expected = assign(StockArray, ctype, length, key, source.tolist())
        found = assign(RawArray, ctype, length, key, source)
        self.assertEqual(found, expected, f"{ctype.__name__}[{key}] = {describe(source)}")

    def check_as(self, ctype, source, reference):
        """source into ours beside reference into stock."""
        message = f"{ctype.__name__} from {describe(source)}"
        self.assertEqual(
            construct(RawArray, ctype, source), construct(StockArray, ctype, reference), message
        )
        self.assertEqual(
            assign(RawArray, ctype, len(source), slice(None), source),
            assign(StockArray, ctype, len(source), slice(None), reference),
            message,
        )


def describe(source):
    try:
        view = memoryview(source)
    except (TypeError, ValueError, BufferError):
        return repr(source)
    return f"{type(source).__name__} {view.format!r} {view.shape} {view.strides} {source!r}"


class Builtin(Differential):
    """Sources that need no numpy."""

    def native_sources(self):
        for code in "bBhHiIlLqQ":
            values = integers(8 * array.array(code).itemsize, code.islower())
            yield array.array(code, values)
        for code in "fd":
            with_room = [v for v in FLOAT_EDGES if code == "d" or abs(v) < 3.5e38 or v != v
                         or v in (float("inf"), float("-inf"))]
            yield array.array(code, with_room)

    def test_pairs(self):
        for source, ctype in part_of(itertools.product(self.native_sources(), DESTINATIONS)):
            self.check(ctype, source)
            self.check(ctype, memoryview(source))

    def test_bytes(self):
        data = bytes(range(256))
        for ctype in DESTINATIONS:
            for source in (data, bytearray(data), memoryview(data), memoryview(data)[::-3],
                           memoryview(data).cast("c"), memoryview(data).cast("b"),
                           memoryview(data).cast("?"), memoryview(data).cast("?")[5:90:7]):
                self.check(ctype, source)

    def test_ctypes_sources(self):
        class MyInt(ctypes.c_int):
            pass

        for source_type in part_of(DESTINATIONS + (MyInt,)):
            fill = b"A" if source_type is ctypes.c_char else "A" if source_type is ctypes.c_wchar else 3
            source = (source_type * 3)(fill, fill, fill)
            shared = RawArray(source_type, [fill] * 3)
            for ctype in DESTINATIONS + (MyInt,):
                for s in (source, shared):
                    expected = construct(StockArray, ctype, source)
                    if ctype is MyInt:
                        self.assertEqual(outcome(lambda: bytes(RawArray(ctype, s))),
                                         outcome(lambda: bytes(StockArray(ctype, source))))
                        continue
                    self.assertEqual(construct(RawArray, ctype, s), expected)
                    self.check(ctype, s)

    def test_unions_and_structures_are_no_numbers(self):
        # Their format is "B" as well.
        for ctype in (ctypes.c_ubyte, ctypes.c_bool, ctypes.c_char, ctypes.c_double):
            source = (Overlay * 2)()
            self.check(ctype, source)
            stock = StockArray(Overlay, 2)
            self.assertEqual(assign(RawArray, Overlay, 2, slice(None), b"ab"),
                             assign(StockArray, Overlay, 2, slice(None), b"ab"))
            del stock

    def test_mmap(self):
        # Its items are bytes when it is iterated over.
        with mmap.mmap(-1, 4096) as source:
            source[:3] = b"abc"
            for ctype in (ctypes.c_char, ctypes.c_ubyte, ctypes.c_bool, ctypes.c_int):
                self.check(ctype, source)

    def test_formats(self):
        """Formats memoryview has no items for: byte orders, n and N, standard sizes."""
        try:
            import _testbuffer
        except ImportError:
            self.skipTest("this interpreter has no _testbuffer")
        values = [0, 1, 2, 100]
        orders = ("", "@", "=", "<", ">", "!")
        for order, code in part_of(itertools.product(orders, "?bBhHiIlLqQnNefd")):
            if code in "nN" and order not in ("", "@"):
                continue
            source = _testbuffer.ndarray(values, shape=[4], format=order + code)
            strided = _testbuffer.ndarray(values * 2, shape=[4], strides=[
                2 * struct.calcsize(order + code)], format=order + code)
            backward = _testbuffer.ndarray(values, shape=[4], strides=[
                -struct.calcsize(order + code)], offset=3 * struct.calcsize(order + code),
                format=order + code)
            for ctype in (ctypes.c_int, ctypes.c_double, ctypes.c_bool, ctypes.c_ulong):
                for s in (source, strided, backward):
                    refused = code in "efd" and ctype in (ctypes.c_int, ctypes.c_ulong)
                    reference = memoryview(s) if refused else s.tolist()
                    self.check_as(ctype, memoryview(s), reference)

    def test_indirect_and_odd_formats(self):
        try:
            import _testbuffer
        except ImportError:
            self.skipTest("this interpreter has no _testbuffer")
        pil = _testbuffer.ndarray([1, 2, 3], shape=[3], format="i", flags=_testbuffer.ND_PIL)
        self.check(ctypes.c_int, memoryview(pil))
        self.check(ctypes.c_int, memoryview(pil[::-1]))
        for source in (
            _testbuffer.ndarray([(1, 2), (3, 4)], shape=[2], format="ii"),
            _testbuffer.ndarray([b"ab", b"cd"], shape=[2], format="2s"),
            _testbuffer.ndarray([1, 2], shape=[2], format="P"),
            _testbuffer.ndarray(5, shape=[], format="i"),
            _testbuffer.ndarray([1, 2, 3, 4], shape=[2, 2], format="i"),
        ):
            for ctype in (ctypes.c_int, ctypes.c_bool, ctypes.c_double):
                view = memoryview(source)
                self.assertEqual(construct(RawArray, ctype, view),
                                 construct(StockArray, ctype, view), describe(source))
                self.assertEqual(assign(RawArray, ctype, 2, slice(None), view),
                                 assign(StockArray, ctype, 2, slice(None), view))

    def test_released_memoryview(self):
        view = memoryview(b"abc")
        view.release()
        self.assertEqual(construct(RawArray, "i", view), construct(StockArray, "i", view))
        self.assertEqual(assign(RawArray, "i", 3, slice(None), view),
                         assign(StockArray, "i", 3, slice(None), view))

    def test_slices(self):
        source = array.array("q", range(2**31 - 3, 2**31 + 4))
        bounds = (None, 0, 1, 3, 6, 7, 9, -1, -3, -7, -9)
        steps = (None, 1, 2, 3, -1, -2, -7, 100)
        for start, stop, step in part_of(itertools.product(bounds, bounds, steps)):
            key = slice(start, stop, step)
            fitting = len(range(*key.indices(7)))
            for data in (source[:fitting], memoryview(source)[:fitting], list(source[:fitting]),
                         tuple(source[:fitting])):
                self.check(ctypes.c_int, data, key=key, length=7)
            self.check(ctypes.c_int, source[:fitting + 1][:7], key=key, length=7)

    def test_overlap(self):
        """As if the source had been copied first, whatever the strides."""
        views = [slice(0, 40), slice(3, 43), slice(39, None, -1), slice(0, 80, 2), slice(79, 0, -2),
                 slice(10, 50)]
        for ctype, code in ((ctypes.c_int, "i"), (ctypes.c_ubyte, "B"), (ctypes.c_double, "d")):
            for target, origin in itertools.product(views, views):
                for source_code in ("native", "B"):
                    a = RawArray(ctype, range(100, 180))
                    flat = memoryview(a).cast("B").cast(code)
                    source = flat[origin] if source_code == "native" else memoryview(a).cast("B")[
                        origin]
                    expected = list(a)
                    expected[target] = source.tolist()
                    a[target] = source
                    self.assertEqual(list(a), expected)

    def test_itself(self):
        a = RawArray("i", range(10))
        a[:] = a
        self.assertEqual(list(a), list(range(10)))
        a[::-1] = a
        self.assertEqual(list(a), list(range(9, -1, -1)))

    def test_lengths(self):
        """Around the vector widths and the chunks, and nothing beyond the end."""
        for n in list(range(0, 70)) + [511, 512, 513, 1023, 1024, 1025, 1537]:
            wide = array.array("q", range(n))
            for ctype in (ctypes.c_byte, ctypes.c_int, ctypes.c_float, ctypes.c_double,
                          ctypes.c_int.__ctype_be__):
                guard = RawArray(ctype, n + 2)
                for source in (wide, memoryview(wide)[::-1]):
                    guard[1:-1] = source
                    expected = [0] + [ctype(v).value for v in source] + [0]
                    self.assertEqual(list(guard), expected)

    def test_random(self):
        seed = random.SystemRandom().randrange(2**32)
        chance = random.Random(seed)
        for _ in part_of(range(4000)):
            with self.subTest(seed=seed):
                self.random_case(chance)

    def random_case(self, chance):
        ctype = chance.choice(DESTINATIONS)
        code = chance.choice("bBhHiIlLqQfd")
        length = chance.randrange(40)
        if code in "fd":
            values = [chance.choice((0.0, 1.5, -2.0, chance.gauss(0, 1e6))) for _ in range(length)]
        else:
            values = [chance.choice(integers(8 * struct.calcsize(code), code.islower()))
                      for _ in range(length)]
        key = slice(*(chance.choice((None, chance.randrange(-45, 45))) for _ in range(2)),
                    chance.choice((None, 1, -1, 2, -3, 5)))
        fitting = len(range(*key.indices(length)))
        source = array.array(code, (values * 2)[: fitting + chance.choice((0, 0, 0, 0, 1))])
        source = chance.choice((source, memoryview(source), list(source), tuple(source)))
        self.check(ctype, source, key=key, length=length)


class Threads(unittest.TestCase):
    def test_large_copies_let_others_run(self):
        data = bytearray(16 << 20)
        a = RawArray("H", len(data))
        go = threading.Event()
        during = []
        stamps = []

        def copy():
            go.wait()
            # However quick they are, one of many does not end before others had a turn.
            for _ in range(500):
                start = time.perf_counter()
                a[:] = data
                end = time.perf_counter()
                during.append(sum(start < stamp < end for stamp in stamps))
                if during[-1] > 2:
                    break
                stamps.clear()

        interval = sys.getswitchinterval()
        sys.setswitchinterval(1000)  # nobody gives the GIL up unasked
        try:
            thread = threading.Thread(target=copy)
            thread.start()
            go.set()
            while thread.is_alive():
                stamps.append(time.perf_counter())
                time.sleep(0.0001)
        finally:
            sys.setswitchinterval(interval)
        self.assertGreater(max(during), 2)

    @unittest.skipUnless(THOROUGH, "takes memory; done where the backend is memfd")
    def test_several_processors(self):
        """Parts of a large copy meet, and the threads that made them are gone."""
        data = random.Random(5).randbytes(1_000_003) * 16
        allowed = os.sched_getaffinity(0)
        self.addCleanup(os.sched_setaffinity, 0, allowed)
        before = len(os.listdir("/proc/self/task"))
        for processors in (allowed, {min(allowed)}):
            os.sched_setaffinity(0, processors)
            a = RawArray("H", data)
            flat = memoryview(a).cast("B")
            self.assertTrue(flat[::2] == data and not any(flat[1::200]))
            a[::-1] = data
            self.assertTrue(flat[-2::-2] == data and not any(flat[1::200]))
            swapped = RawArray(ctypes.c_ushort.__ctype_be__, data)
            self.assertTrue(memoryview(swapped).cast("B")[1::2] == data)
        # A thread that was joined stands in /proc for another moment.
        deadline = time.monotonic() + 60
        while len(os.listdir("/proc/self/task")) > before:
            self.assertLess(time.monotonic(), deadline)

    def test_source_is_held(self):
        """The source cannot be resized while it is read, and can be afterwards."""
        data = bytearray(8 << 20)
        a = RawArray("H", len(data))
        thread = threading.Thread(target=a.__setitem__, args=(slice(None), data))
        thread.start()
        refused = 0
        while thread.is_alive():
            try:
                data.append(0)
                data.pop()
            except BufferError:
                refused += 1
        thread.join()
        data.append(0)
        self.assertEqual(len(data), (8 << 20) + 1)

    def test_many_threads(self):
        errors = []

        def work(number):
            source = array.array("i", [number]) * 10_000
            for _ in range(50):
                a = RawArray("i", source)
                b = RawArray("i", 10_000)
                if any(b) or a[0] != number or a[9_999] != number:
                    errors.append(number)
                b[:] = a
                if b[5000] != number:
                    errors.append(number)

        threads = [threading.Thread(target=work, args=(n,)) for n in range(1, 7)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.assertEqual(errors, [])


@unittest.skipUnless(numpy, "no numpy for this interpreter")
class Numpy(Differential):
    def arrays(self):
        """One array of each dtype, with edges in it."""
        for kind, sizes in (("i", (1, 2, 4, 8)), ("u", (1, 2, 4, 8))):
            for size in sizes:
                values = integers(8 * size, kind == "i")
                yield numpy.array(values, f"{kind}{size}")
        with numpy.errstate(over="ignore"):
            for dtype in ("e", "f", "d", "g"):
                yield numpy.array(FLOAT_EDGES).astype(dtype)
        yield numpy.array([True, False, True])
        yield numpy.array([1 + 2j, 3])
        yield numpy.array([b"a", b"b"])
        yield numpy.array(["a", "b"])
        yield numpy.array([b"ab", b"c"])
        yield numpy.array([1, 2.5, None], object)
        yield numpy.array([1, 2], "datetime64[s]")
        yield numpy.array([(1, 2.0)], [("a", "i4"), ("b", "f8")])

    def test_pairs(self):
        for source, ctype in part_of(itertools.product(self.arrays(), DESTINATIONS)):
            swapped = source.astype(source.dtype.newbyteorder())
            readonly = source.copy()
            readonly.flags.writeable = False
            for s in (source, source[::-1], source[::2], source[:0], swapped, swapped[::-1],
                      readonly, numpy.broadcast_to(source[:1], 5), numpy.repeat(source, 3)[::3]):
                self.check(ctype, s)

    def test_halves(self):
        every = numpy.arange(0, 65536, 1 if THOROUGH else 41, dtype="u2").view("e")
        for ctype in (ctypes.c_float, ctypes.c_double, ctypes.c_bool):
            self.check(ctype, every)
        self.check(ctypes.c_float, every.astype(">e"))

    def test_long_doubles(self):
        """Those that a double cannot hold, alone and among others, become ones that it can."""
        one = numpy.longdouble(1)
        odd = [one + one / 2**60, 2 - one / 2**53, 0, -0.0, numpy.inf, -numpy.inf, numpy.nan]
        for exponent in (-16445, -16382, -1080, -1075, -1074, -1023, -1022, -1021, 1022, 1023, 1024,
                         16383):
            power = numpy.ldexp(one, exponent)
            odd += [power, -power, power * (1 + one / 2**52), power * (1 + numpy.ldexp(one, -63))]
        odd = numpy.array(odd, "g")
        bits = odd[:1].copy().view("u8")
        if numpy.finfo("g").nmant == 63:    # no number, to the x87
            bits[0] = 1 << 62
            odd = numpy.append(odd, bits.view("g"))
        for value in odd:
            among = numpy.arange(200).astype("g")
            among[70] = value
            for source in (numpy.array([value]), among, numpy.repeat(value, 3)):
                self.check(ctypes.c_longdouble, source)
                with numpy.errstate(all="ignore"):
                    expected = source.astype("d").astype("g")
                ours = numpy.frombuffer(RawArray(ctypes.c_longdouble, source), "g")
                # Equal does not tell a zero's sign.
                self.assertEqual([repr(x) for x in ours], [repr(x) for x in expected])

    def test_unaligned(self):
        for dtype in ("i2", "i4", "i8", "f4", "f8", ">i4"):
            source = numpy.frombuffer(bytes(range(200)), dtype, offset=1, count=20)
            self.assertFalse(source.flags.aligned)
            for ctype in (ctypes.c_short, ctypes.c_int, ctypes.c_long, ctypes.c_double):
                self.check(ctype, source)
        packed = numpy.zeros(50, [("tag", "u1"), ("value", "<i8")])
        packed["value"] = range(50)
        self.check(ctypes.c_int, packed["value"])

    def test_dimensions(self):
        for source in (numpy.zeros((3, 1)), numpy.zeros((3, 2), int), numpy.zeros((3, 0)),
                       numpy.zeros((3, 1), int), numpy.asfortranarray(numpy.ones((3, 2)))):
            for ctype in (ctypes.c_int, ctypes.c_double, ctypes.c_bool, ctypes.c_char):
                self.check(ctype, source)
        self.assertRaises(TypeError, RawArray, "i", numpy.array(5))
        self.assertRaises(TypeError, RawArray, "i", numpy.zeros((2, 2), int))
        self.assertRaises(ValueError, RawArray("i", 1).__setitem__, slice(None), numpy.array(5))

    def test_subclasses(self):
        class Scripted(numpy.ndarray):
            def __getitem__(self, index):
                return 42

            def __iter__(self):
                return iter([43] * len(self))

        class Quiet(numpy.ndarray):
            pass

        with tempfile.TemporaryFile() as file:
            file.write(bytes(range(64)))
            file.flush()
            for source in (
                numpy.arange(3).view(Scripted),
                numpy.arange(3).view(Quiet),
                numpy.ma.array([1, 2, 3]),
                numpy.ma.array([1, 2, 3], mask=[0, 1, 0]),
                numpy.arange(3).view(numpy.recarray),
                numpy.memmap(file, "i2", "r"),
                numpy.memmap(file, "i8", "c"),
            ):
                for ctype in (ctypes.c_int, ctypes.c_double, ctypes.c_ubyte):
                    self.check(ctype, source)

    def test_lists_of_scalars(self):
        for dtype in ("i1", "u8", "f4", "f8", "?", "i8"):
            source = list(numpy.array([0, 1, 100]).astype(dtype))
            for ctype in DESTINATIONS:
                self.check(ctype, source)
                self.check(ctype, source + [1])

    def test_overlap(self):
        base = RawArray("i", range(64))
        view = numpy.asarray(base)
        for source in (view[:32], view[::2], view[32:0:-1], view[16:48], view.view("i2")[:32],
                       view.view("i8"), view.view(">i4")[8:40]):
            for key in (slice(0, 32), slice(16, 48), slice(None, None, 2), slice(40, 8, -1)):
                base[:] = range(64)
                expected = view.copy()
                expected[key] = source.copy().astype("i4")
                base[key] = source
                self.assertEqual(list(base), expected.tolist())

    def test_large(self):
        x = numpy.random.default_rng(7).integers(-(2**40), 2**40, 1_000_003)
        a = RawArray("i", x)
        self.assertTrue(numpy.array_equal(numpy.asarray(a), x.astype("i4")))
        a[::-1] = x
        self.assertTrue(numpy.array_equal(numpy.asarray(a)[::-1], x.astype("i4")))
        b = RawArray("d", x[::-1])
        self.assertTrue(numpy.array_equal(numpy.asarray(b), x[::-1].astype("d")))

    def test_large_of_every_kind(self):
        """Memory that is all fresh may be filled another way than by storing to it."""
        n = 300_007
        x = numpy.random.default_rng(8).integers(-(2**40), 2**40, 2 * n)
        x.flags.writeable = False
        for source in (x[:n], x[::2], x[n - 1 :: -1], x[:n].astype(">i8"), x[:n].astype("e"),
                       x[:n].view("i4")[3 : n + 3], numpy.broadcast_to(x[5], n), x[:n] > 0):
            for ctype in (ctypes.c_longlong, ctypes.c_double, ctypes.c_longdouble,
                          ctypes.c_longlong.__ctype_be__, ctypes.c_double.__ctype_be__):
                code = numpy.dtype(ctype)
                if source.dtype.kind in "fb" and code.kind == "i":
                    continue    # ctypes refuses those
                with self.subTest(source=source.dtype, strides=source.strides, ctype=ctype):
                    a = RawArray(ctype, source)
                    with warnings.catch_warnings():
                        warnings.simplefilter("ignore")     # infinities of halves
                        expected = source.astype("d").astype(code)
                        if code.kind == "i":
                            expected = source.astype(code)
                    self.assertTrue(numpy.array_equal(numpy.frombuffer(a, code), expected,
                                                      equal_nan=code.kind == "f"))

    def test_large_at_any_place(self):
        """What is written is parted at huge pages, wherever it begins and ends."""
        n = 3_000_017
        x = numpy.random.default_rng(9).integers(-(2**40), 2**40, n)
        for ctype in (ctypes.c_int, ctypes.c_short, ctypes.c_longlong, ctypes.c_float):
            for key in (slice(0, n), slice(3, n - 5), slice(n // 2 - 1, None),
                        slice(n - 1, None, -1), slice(1, None, 2)):
                with self.subTest(ctype=ctype, key=key):
                    expected = numpy.zeros(n, ctype)
                    expected[key] = x[key]
                    a = RawArray(ctype, n)
                    a[key] = x[key]
                    self.assertTrue(numpy.array_equal(numpy.frombuffer(a, ctype), expected))

    @unittest.skipUnless(gathers(), "this kernel does not collapse pages of a memfd")
    def test_large_are_in_huge_pages(self):
        """Where memory is of base pages: to make and to drop these takes several times as long."""
        if shmdev.info().backend != "memfd":
            self.skipTest("for base pages only")
        huge = 2 << 20
        for dtype, ctype in (("i8", ctypes.c_int), ("i4", ctypes.c_int), ("f8", ctypes.c_float),
                             ("u1", ctypes.c_double), (">i4", ctypes.c_int), ("i4", ctypes.c_short)):
            n = 40 * huge // ctypes.sizeof(ctype)       # more than is kept for the next
            x = (numpy.arange(n) % 251).astype(dtype)
            a, b = RawArray(ctype, x), RawArray(ctype, n)
            b[:] = x
            for made in (a, b):
                with self.subTest(dtype=dtype, ctype=ctype, constructed=made is a):
                    # One that somebody looks at just then is left as it is.
                    self.assertGreater(made.region.huge_share, 0.9)
                    self.assertTrue(numpy.array_equal(numpy.frombuffer(made, ctype), x))

    def test_values_of_two_bytes(self):
        """Every vector lane and tail of the kernels, in all sizes of the results."""
        every = numpy.arange(0, 65536, 17 if THOROUGH else 501, dtype="u2")
        for dtype in ("u2", "i2", "e", ">i2"):
            source = every.view(dtype)
            for ctype in NUMBERS:
                if dtype == "e" and issubclass(ctype, INTEGERS):
                    continue
                with numpy.errstate(invalid="ignore"):
                    expected = source.astype("d" if dtype == "e" else "i8")
                found = RawArray(ctype, source)
                self.assertEqual(items(found), items([ctype(v).value for v in expected.tolist()]))


# The best kernels of this machine were in use so far.  Now the others, as far as they
# matter.
def with_kernels(name, case, tests):
    def set_up(self):
        _shmdev.kernels_use(name)
        self.addCleanup(_shmdev.kernels_use, _shmdev.kernels()[0])

    inherited = {test: None for test in dir(case) if test.startswith("test_")}
    made = {"setUp": set_up, "__module__": __name__, **inherited}
    made.update((test, getattr(case, test)) for test in tests)
    globals()[f"{case.__name__}_{name}"] = type(f"{case.__name__}_{name}", (case,), made)


for _name in _shmdev.kernels()[1:]:
    with_kernels(_name, Builtin, ["test_pairs", "test_bytes", "test_lengths"])
    with_kernels(_name, Numpy, ["test_pairs", "test_values_of_two_bytes", "test_unaligned",
                                "test_long_doubles"])


if __name__ == "__main__":
    tap.main()
