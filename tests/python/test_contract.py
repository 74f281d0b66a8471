# SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
"""What multiprocessing.RawArray promises, point by point, and RawValue."""

import array
import copy
import ctypes
import gc
import os
import pickle
import subprocess
import sys
import unittest
import weakref
from multiprocessing.reduction import ForkingPickler
from multiprocessing.sharedctypes import RawArray as StockArray
from multiprocessing.sharedctypes import RawValue as StockValue

import tap
import shmdev
from shmdev import RawArray, RawValue
from stock import TYPECODES, Overlay, Point, assign, construct, items, numpy, outcome


class Types(unittest.TestCase):
    def test_typecodes(self):
        for code in TYPECODES:
            with self.subTest(code=code):
                ours, stock = RawArray(code, 3), StockArray(code, 3)
                self.assertIs(ours._type_, stock._type_)
                self.assertEqual(memoryview(ours).format, memoryview(stock).format)
                self.assertEqual(items(ours), items(stock))

    def test_ctypes_types(self):
        types = [
            getattr(ctypes, name)
            for name in dir(ctypes)
            if isinstance(getattr(ctypes, name), type(ctypes.c_int))
            and isinstance(getattr(getattr(ctypes, name), "_type_", None), str)
        ]
        self.assertGreater(len(types), 20)
        types += [Point, Overlay, ctypes.c_int * 3, Point * 2, ctypes.POINTER(ctypes.c_int)]
        types += [ctypes.c_int.__ctype_be__, ctypes.c_double.__ctype_le__]
        types += [ctypes.CFUNCTYPE(None)]
        for ctype in types:
            with self.subTest(ctype=ctype):
                ours, stock = RawArray(ctype, 3), StockArray(ctype, 3)
                self.assertIs(ours._type_, ctype)
                self.assertEqual(ctypes.sizeof(ours), ctypes.sizeof(stock))
                self.assertEqual(bytes(ours), bytes(stock))
                self.assertEqual(memoryview(ours).format, memoryview(stock).format)
                self.assertEqual(memoryview(ours).shape, memoryview(stock).shape)

    def test_unknown_types(self):
        for ctype in ("x", "ii", "", "?", int, object, None, 5, [], {}, list, b"i", type):
            for data in (3, [1], -1):
                with self.subTest(ctype=ctype, data=data):
                    self.assertRaises(TypeError, StockArray, ctype, data)
                    self.assertRaises(TypeError, RawArray, ctype, data)

    def test_true_subclass(self):
        a = RawArray(ctypes.c_int, 5)
        self.assertIsInstance(a, ctypes.c_int * 5)
        self.assertTrue(issubclass(type(a), ctypes.c_int * 5))
        self.assertIs(type(type(a)), type(ctypes.Array))
        self.assertEqual(type(a).__name__, "c_int_Array_5")
        self.assertIs(type(a), type(RawArray("i", 5)))
        self.assertIsNot(type(a), type(RawArray("i", 6)))

    def test_passes_for_a_ctypes_array(self):
        class Holder(ctypes.Structure):
            _fields_ = [("values", ctypes.c_int * 5)]

        a = RawArray(ctypes.c_int, range(5))
        holder = Holder()
        holder.values = a
        self.assertEqual(list(holder.values), list(range(5)))
        pointer = ctypes.cast(a, ctypes.POINTER(ctypes.c_int))
        pointer[2] = 77
        self.assertEqual(a[2], 77)
        qsort = ctypes.CDLL(None).qsort
        qsort.argtypes = [ctypes.POINTER(ctypes.c_int), ctypes.c_size_t, ctypes.c_size_t,
                          ctypes.c_void_p]
        compare = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_int),
                                   ctypes.POINTER(ctypes.c_int))
        qsort(a, 5, 4, ctypes.cast(compare(lambda p, q: q[0] - p[0]), ctypes.c_void_p))
        self.assertEqual(list(a), [77, 4, 3, 1, 0])
        (ctypes.c_int * 5).from_buffer(a)[0] = -1
        self.assertEqual(a[0], -1)
        self.assertEqual(list((ctypes.c_int * 5).from_buffer_copy(a)), list(a))
        ctypes.memmove(a, b"\1\0\0\0", 4)
        self.assertEqual(a[0], 1)
        self.assertEqual(ctypes.pointer(a)[0][4], 0)

    def test_keywords(self):
        a = RawArray(typecode_or_type="i", size_or_initializer=2)
        self.assertEqual(len(a), 2)
        self.assertEqual(len(RawArray("i", size_or_initializer=[1, 2, 3])), 3)
        self.assertRaises(TypeError, RawArray)
        self.assertRaises(TypeError, RawArray, "i")
        self.assertRaises(TypeError, RawArray, "i", 1, 2)
        self.assertRaises(TypeError, RawArray, "i", typecode_or_type="i")
        self.assertRaises(TypeError, RawArray, "i", size=1)
        self.assertRaises(TypeError, RawArray, size=1, typecode_or_type="i")


class Sizes(unittest.TestCase):
    def test_sizes(self):
        class Odd(int):
            def __hash__(self):
                return 7

            def __eq__(self, other):
                return True

        for size in (0, 1, True, False, 5, 4097, Odd(3), Odd(5)):
            with self.subTest(size=size):
                ours, stock = RawArray("i", size), StockArray("i", size)
                self.assertEqual(len(ours), len(stock))
                self.assertEqual(list(ours), list(stock))

    def test_bad_sizes(self):
        sizes = [-1, -(2**40), -(2**70), 2**62, 2**70, 2.0, None, 1j]
        if numpy:
            sizes += [numpy.int64(5), numpy.array(5)]
        for size in sizes:
            with self.subTest(size=size):
                stock = outcome(StockArray, "i", size)
                self.assertEqual(stock[0], "raised")
                self.assertEqual(outcome(RawArray, "i", size), stock)

    def test_beyond_memory(self):
        # multiprocessing makes a sparse file of it, and SIGBUS comes later.
        self.assertRaises(MemoryError, RawArray, "b", 2**60)

    def test_length_zero(self):
        a = RawArray("i", 0)
        self.assertEqual((len(a), list(a), bytes(a)), (0, [], b""))
        a[:] = []
        a[:] = b""
        self.assertRaises(ValueError, a.__setitem__, slice(None), [1])
        self.assertRaises(IndexError, a.__setitem__, 0, 1)

    def test_zero_on_reuse(self):
        for size in (1, 64, 1000, 100_000, 3_000_000):
            for _ in range(4):
                a = RawArray("B", size)
                self.assertEqual(bytes(a).count(0), size)
                a[:] = b"\xff" * size
                del a

    def test_zero_after_data(self):
        # The constructor from data may use memory that was not cleared.
        for _ in range(4):
            a = RawArray("B", b"\xaa" * 5000)
            del a
            self.assertEqual(bytes(RawArray("B", 5000)), bytes(5000))

    def test_zero_where_initializer_ends_early(self):
        class Short:
            def __len__(self):
                return 1000

            def __iter__(self):
                return iter([7] * 10)

        for _ in range(4):
            a = RawArray("B", b"\xaa" * 1000)
            del a
            self.assertEqual(bytes(RawArray("B", Short())), b"\7" * 10 + bytes(990))

    def test_alignment(self):
        for size in range(0, 300, 7):
            self.assertEqual(ctypes.addressof(RawArray("b", size)) % 64, 0)


class Initializers(unittest.TestCase):
    def test_kinds(self):
        class Sequence:
            def __len__(self):
                return 3

            def __getitem__(self, index):
                return [5, 6, 7][index]

        class TooLong:
            def __len__(self):
                return 2

            def __iter__(self):
                return iter([1, 2, 3])

        class NoLength:
            def __iter__(self):
                return iter([1, 2])

        class NotIterable:
            def __len__(self):
                return 2

        class Failing:
            def __len__(self):
                return 2

            def __iter__(self):
                yield 1
                raise KeyError

        class Scripted(bytes):
            def __iter__(self):
                return iter([1, 2])

            def __getitem__(self, index):
                return 9

        class Liar(bytes):
            def __len__(self):
                return 2

        sources = [
            [1, 2, 3], (1, 2, 3), range(5), {1, 2, 3}, {1: "a", 2: "b"}, frozenset([4]), b"abc",
            bytearray(b"abc"), memoryview(b"abc"), array.array("h", [1, -1]), "abc", "", [], b"",
            (i for i in range(3)), iter([1]), 1.5, None, object(), {1: 2}.keys(), {1: 2}.items(),
            Sequence(), TooLong(), NoLength(), NotIterable(), Failing(), Scripted(b"ab"),
            Liar(b"abc"), [[1], [2]], [None], ["a"], [b"a"], [b"ab"], [1, 2.0], [2.0, 1],
            [True, False], [2**100, -(2**100)], memoryview(b"abcd").cast("B", (2, 2)),
            [ctypes.c_int(3)], [ctypes.c_short(3)], (ctypes.c_int * 2)(1, 2),
            (ctypes.c_int * 2 * 2)(), [float("nan"), float("inf"), -0.0], [10**400],
        ]
        for ctype in ("i", "d", "f", "B", "c", "u", ctypes.c_bool, ctypes.c_longdouble):
            for source in sources:
                with self.subTest(ctype=ctype, source=source):
                    if hasattr(source, "__next__"):
                        self.assertRaises(TypeError, RawArray, ctype, source)
                    else:
                        self.assertEqual(
                            construct(RawArray, ctype, source),
                            construct(StockArray, ctype, source),
                        )

    def test_structures(self):
        for source in ([(1, 2.5), (3, 4.5)], [Point(1, 2)], [(1,), ()], [(1, 2, 3)], [1], [None]):
            with self.subTest(source=source):
                self.assertEqual(
                    construct(RawArray, Point, source), construct(StockArray, Point, source)
                )
        a = RawArray(Point, [(1, 2.5), (3, 4.5)])
        a[1].x = 9
        self.assertEqual([(p.x, p.y) for p in a], [(1, 2.5), (9, 4.5)])
        a[0] = Point(7, 7)
        self.assertEqual(a[0].y, 7)

    def test_nested(self):
        row = ctypes.c_int * 3
        for source in ([(1, 2, 3), (4, 5, 6)], [row(1, 2, 3)], [(1,)], [[1, 2, 3]], [1]):
            with self.subTest(source=source):
                self.assertEqual(
                    construct(RawArray, row, source), construct(StockArray, row, source)
                )

    def test_list_changed_by_its_items(self):
        # The constructor takes the items of this moment.
        def source():
            data = []

            class Evil:
                def __index__(self):
                    data.clear()
                    return 5

            data.extend([1, 2, Evil(), 3, 4])
            return data

        self.assertEqual(construct(RawArray, "i", source()), construct(StockArray, "i", source()))
        self.assertEqual(
            assign(RawArray, "i", 5, slice(None), source()),
            assign(StockArray, "i", 5, slice(None), source()),
        )

    def test_overridden_class(self):
        """ctypes sends each item through an override, and so must we."""
        seen = []

        class Meta(type(ctypes.c_int)):
            def __mul__(self, length):
                return type("Loud", (Loud,), {"_type_": ctypes.c_int, "_length_": length})

        class Loud(ctypes.Array):
            _type_ = ctypes.c_int
            _length_ = 0

            def __setitem__(self, index, value):
                seen.append((index, value))
                super().__setitem__(index, value)

        class Item(ctypes.c_int, metaclass=Meta):
            pass

        results = []
        for make in (RawArray, StockArray):
            seen.clear()
            a = make(Item, b"\1\2\3")
            a[:] = b"\3\2\1"
            results.append((list(a), list(seen)))
        self.assertEqual(*results)

    def test_override_after_the_fact(self):
        a = RawArray("i", [1, 2, 3])

        class Doubling(type(a)):
            def __setitem__(self, index, value):
                super().__setitem__(index, [2 * v for v in value])

        b = Doubling()
        b[:] = [1, 2, 3]
        self.assertEqual(list(b), [2, 4, 6])


class Access(unittest.TestCase):
    def test_get(self):
        for code, data in (("i", range(7)), ("c", b"abcdefg"), ("u", "abcdefg")):
            ours, stock = RawArray(code, data), StockArray(code, data)
            for key in (0, -1, 6, 7, -8, slice(None), slice(2, 5), slice(None, None, -2),
                        slice(5, 2), "a", None, 1.0, (1, 2)):
                with self.subTest(code=code, key=key):
                    self.assertEqual(
                        outcome(ours.__getitem__, key), outcome(stock.__getitem__, key)
                    )

    def test_set_item(self):
        for code in TYPECODES:
            for key in (0, -1, 2, 3, -4, True, "a", None, 1.0, 2**70):
                for value in (1, 2**40 + 5, 1.5, b"a", "a", None, [1], 1e300):
                    with self.subTest(code=code, key=key, value=value):
                        self.assertEqual(
                            assign(RawArray, code, 3, key, value),
                            assign(StockArray, code, 3, key, value),
                        )

    def test_slice_lengths(self):
        for key in (slice(None), slice(1, 4), slice(4, 1), slice(None, None, -1), slice(7, 9),
                    slice(0, 5, 3), slice(-2, None), slice(None, None, 0), slice("a", None)):
            for source in ([], [1], [1, 2], [1, 2, 3, 4, 5], b"12345", b"123", (1, 2, 3), 5, None,
                           range(5), {1, 2, 3, 4, 5}, {1: 1}, iter([1]), memoryview(b"12345"),
                           array.array("d", [1.0] * 5), "12345"):
                with self.subTest(key=key, source=source):
                    self.assertEqual(
                        assign(RawArray, "i", 5, key, source),
                        assign(StockArray, "i", 5, key, source),
                    )

    def test_message_of_wrong_length(self):
        with self.assertRaisesRegex(ValueError, "^Can only assign sequence of same size$"):
            RawArray("i", 3)[:] = b"1234"

    def test_step_overflow(self):
        for code, data in (("i", (1,)), ("i", b"\1"), ("c", b"A"), ("u", "X"), ("d", [2.5])):
            a = RawArray(code, 5)
            a[3::2**63 - 1] = data
            self.assertEqual(a[3], data[0] if code != "c" else b"A")
            a[1::-(2**63)] = data
            self.assertEqual(a[1], a[3])

    def test_partial_writes(self):
        for source in ([1, 2, "x", 4], [1, 2.5, 3, 4], (1, 2, None, 4), [1, 2, 3, 10**400]):
            for code in "idcu":
                for key in (slice(None), slice(None, None, -1)):
                    with self.subTest(code=code, source=source, key=key):
                        self.assertEqual(
                            assign(RawArray, code, 4, key, source),
                            assign(StockArray, code, 4, key, source),
                        )

    def test_delete(self):
        for key in (0, slice(None), slice(0, 0)):
            self.assertRaises(TypeError, RawArray("i", 3).__delitem__, key)
            self.assertRaises(TypeError, RawArray(Point, 3).__delitem__, key)

    def test_resize_during_assignment(self):
        """An array that owns its memory can move it while items are converted."""
        array_class = type(RawArray("i", 4))
        own = array_class()

        class Mover:
            def __len__(self):
                return 4

            def __getitem__(self, index):
                ctypes.resize(own, 1 << (20 + index))
                return index + 10

        own[:] = Mover()
        self.assertEqual(list(own), [10, 11, 12, 13])
        self.assertRaises(ValueError, ctypes.resize, RawArray("i", 4), 1 << 20)

    def test_char_arrays(self):
        ours, stock = RawArray("c", 8), StockArray("c", 8)
        for a in ours, stock:
            a.value = b"hello"
        self.assertEqual((ours.value, ours.raw), (stock.value, stock.raw))
        for a in ours, stock:
            a.raw = b"12345678"
        self.assertEqual((ours.value, ours[:]), (stock.value, stock[:]))
        self.assertRaises(ValueError, setattr, ours, "value", b"123456789")
        wide = RawArray("u", 4)
        wide.value = "ab"
        self.assertEqual((wide.value, wide[:]), ("ab", "ab\0\0"))
        self.assertRaises(AttributeError, getattr, RawArray("i", 1), "value")


class Objects(unittest.TestCase):
    def test_attributes(self):
        a = RawArray("i", 3)
        self.assertIs(a._type_, ctypes.c_int)
        self.assertEqual(a._length_, 3)
        a.note = "mine"
        self.assertEqual(a.note, "mine")
        self.assertEqual(len(a), 3)

    def test_hash_and_equality(self):
        self.assertRaises(TypeError, hash, RawArray("i", 3))
        self.assertNotEqual(RawArray("i", 3), RawArray("i", 3))

    def test_weakref(self):
        a = RawArray("i", 3)
        ref = weakref.ref(a)
        self.assertIs(ref(), a)
        del a
        gc.collect()
        self.assertIsNone(ref())

    def test_buffer(self):
        view = memoryview(RawArray("i", [1, 2, 3]))
        self.assertEqual((view.format, view.itemsize, view.shape), ("<i", 4, (3,)))
        self.assertFalse(view.readonly)
        view.cast("B").cast("i")[1] = 9
        self.assertEqual(list(view.cast("B").cast("i")), [1, 9, 3])

    def test_copy(self):
        for a in (RawArray("i", [1, 2, 3]), RawValue("i", 5), RawArray(Point, 2)):
            for duplicate in (copy.copy(a), copy.deepcopy(a)):
                self.assertEqual(bytes(duplicate), bytes(a))
                self.assertIsInstance(duplicate, type(a).__mro__[-3])
                ctypes.memset(ctypes.addressof(duplicate), 0xFF, ctypes.sizeof(duplicate))
                self.assertNotEqual(bytes(duplicate), bytes(a))

    def test_picklable_at_any_time(self):
        """Unlike multiprocessing's, and what is loaded is the same memory."""
        for a in (RawArray("i", 3), RawValue("i")):
            for dumps in (pickle.dumps, ForkingPickler.dumps):
                same = pickle.loads(dumps(a))
                self.assertEqual(ctypes.addressof(same), ctypes.addressof(a))
                self.assertIs(type(same), type(a))

    def test_stock_helpers(self):
        from multiprocessing import sharedctypes

        guarded = sharedctypes.synchronized(RawArray("i", [1, 2, 3]))
        with guarded:
            guarded[:] = [4, 5, 6]
        self.assertEqual(guarded[:], [4, 5, 6])
        duplicate = sharedctypes.copy(RawArray("i", [1, 2, 3]))
        self.assertEqual(list(duplicate), [1, 2, 3])

    def test_class_of_array_makes_private_arrays(self):
        made = type(RawArray("i", 3))(1, 2, 3)
        made[:] = b"\4\5\6"
        self.assertEqual(list(made), [4, 5, 6])

    def test_internal_types(self):
        from shmdev import _shmdev

        self.assertRaises(TypeError, _shmdev.Block)
        self.assertRaises(TypeError, _shmdev.Region)
        with self.assertRaises(TypeError):
            _shmdev.FastArray()[0:1] = [1]

    def test_version(self):
        self.assertRegex(shmdev.__version__, r"^\d+\.\d+\.\d+$")


@unittest.skipUnless(numpy, "no numpy for this interpreter")
class Numpy(unittest.TestCase):
    def test_sees_it_without_a_copy(self):
        a = RawArray("i", [1, 2, 3])
        for view in (numpy.frombuffer(a, "i"), numpy.asarray(a), numpy.ctypeslib.as_array(a)):
            self.assertEqual(view.dtype, numpy.int32)
            view[1] += 40
            self.assertEqual(view.ctypes.data, ctypes.addressof(a))
        self.assertEqual(list(a), [1, 122, 3])
        table = numpy.asarray(RawArray(ctypes.c_int * 2, [(1, 2), (3, 4)]))
        self.assertEqual(table.tolist(), [[1, 2], [3, 4]])

    def test_package_does_not_import_it(self):
        code = (
            "import sys, shmdev; a = shmdev.RawArray('i', b'123'); a[:] = b'456'; "
            "sys.exit('numpy' in sys.modules)"
        )
        env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
        subprocess.run([sys.executable, "-c", code], env=env, check=True)


class Values(unittest.TestCase):
    def test_values(self):
        for code in TYPECODES:
            self.assertEqual(RawValue(code).value, StockValue(code).value)
        self.assertEqual(RawValue("i", 2**40 + 5).value, 5)
        self.assertEqual(RawValue(ctypes.c_double, 2.5).value, 2.5)
        point = RawValue(Point, 3, 1.5)
        self.assertEqual((point.x, point.y), (3, 1.5))
        self.assertIsInstance(point, Point)
        self.assertEqual(list(RawValue(ctypes.c_int * 2, 1, 2)), [1, 2])

    def test_bad_values(self):
        for args in (("x",), (int,), (None,), ("i", "a"), ("i", 1, 2), ([],), (object,),
                     (ctypes.Structure,)):
            with self.subTest(args=args):
                self.assertEqual(outcome(RawValue, *args), outcome(StockValue, *args))

    def test_zero_on_reuse(self):
        for _ in range(100):
            value = RawValue("q")
            self.assertEqual(value.value, 0)
            value.value = -1
            del value


if __name__ == "__main__":
    tap.main()
