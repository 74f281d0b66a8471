# SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
"""Other ways to look at an array: memoryview(), numpy(), DLPack, region, repr."""

import ctypes
import gc
import unittest

import tap
import shmdev
from shmdev import RawArray, _shmdev
from stock import NUMBERS, TYPECODES, Point, numpy


class Wide(ctypes.Union):
    """Its format is "B", its size is not."""

    _fields_ = [("x", ctypes.c_int)]


class Views(unittest.TestCase):
    def test_memoryview(self):
        for code in TYPECODES:
            a = RawArray(code, 3)
            view = a.memoryview()
            self.assertEqual((view.shape, view.nbytes), ((3,), ctypes.sizeof(a)))
            if code == "u":
                self.assertEqual(view.format, memoryview(a).format)
                continue
            view[1] = b"A" if code == "c" else 65
            self.assertEqual(view.tolist(), list(a))
            self.assertEqual(a[1], b"A" if code == "c" else 65)
            self.assertEqual(len(view.format), 1)

    def test_memoryview_of_others(self):
        table = RawArray(ctypes.c_short * 3, [(1, 2, 3), (4, 5, 6)])
        self.assertEqual(table.memoryview().tolist(), [[1, 2, 3], [4, 5, 6]])
        table.memoryview()[1, 2] = 60
        self.assertEqual(table[1][2], 60)
        for ctype in (Point, Wide, ctypes.c_int.__ctype_be__, ctypes.c_longdouble, ctypes.c_void_p):
            a = RawArray(ctype, 2)
            view = a.memoryview()
            self.assertEqual((view.format, view.shape), (memoryview(a).format, (2,)))
        for ctype in (ctypes.c_int, ctypes.c_bool, Point):
            self.assertEqual(RawArray(ctype, 0).memoryview().shape, (0,))

    def test_views_keep_the_memory(self):
        gc.collect()
        before = shmdev.info().blocks
        for make in (lambda a: a.memoryview(), lambda a: a.region, lambda a: a.__dlpack__(),
                     lambda a: a.numpy() if numpy else memoryview(a)):
            view = make(RawArray("i", [1, 2, 3]))
            gc.collect()
            self.assertEqual(shmdev.info().blocks, before + (0 if hasattr(view, "fileno") else 1))
            del view
            gc.collect()
            self.assertEqual(shmdev.info().blocks, before)

    def test_region(self):
        a = RawArray("b", 5 << 20)
        ctypes.memset(a, 1, len(a))
        region = a.region
        self.assertIsInstance(region, shmdev.Region)
        self.assertIs(a.region, region)
        info = shmdev.info()
        self.assertEqual((region.backend, region.page_size), (info.backend, info.page_size))
        self.assertGreaterEqual(region.size, len(a))
        self.assertEqual(region.size % region.page_size, 0)
        self.assertIn(region.backend, repr(region))
        if region.backend == "hugetlb":
            self.assertEqual(region.huge_share, 1.0)
        elif region.backend == "memfd":
            self.assertEqual(region.huge_share, 0.0)
        self.assertLessEqual(0.0, region.huge_share)
        self.assertLessEqual(region.huge_share, 1.0)
        self.assertRaises(TypeError, lambda: type(a)().region)

    def test_repr(self):
        for ctype, data, text in (
            ("i", [1, 2, 3], "<shmdev c_int * 3: [1, 2, 3]>"),
            ("i", 0, "<shmdev c_int * 0: []>"),
            ("d", range(100), "<shmdev c_double * 100: [0.0, 1.0, 2.0, ..., 97.0, 98.0, 99.0]>"),
            ("c", b"ab", "<shmdev c_char * 2: [b'a', b'b']>"),
            (Point, 2, "<shmdev Point * 2>"),
            (ctypes.c_int * 2, 3, "<shmdev c_int_Array_2 * 3>"),
        ):
            self.assertEqual(repr(RawArray(ctype, data)), text)
        self.assertIn("[1, 2]", repr(shmdev.Array("i", [1, 2])))


class DLPack(unittest.TestCase):
    def test_capsules(self):
        a = RawArray("i", [1, 2, 3])
        self.assertEqual(a.__dlpack_device__(), (1, 0))
        for options, name in (({}, "dltensor"), ({"max_version": None}, "dltensor"),
                              ({"max_version": (0, 8)}, "dltensor"),
                              ({"max_version": (1, 0)}, "dltensor_versioned"),
                              ({"max_version": (2, 3), "dl_device": (1, 0), "copy": True},
                               "dltensor_versioned")):
            capsule = a.__dlpack__(**options)
            self.assertIn(f'"{name}"', repr(capsule))
        for options in ({"stream": 1}, {"dl_device": (2, 0)}):
            self.assertRaises(BufferError, a.__dlpack__, **options)
        for ctype in (Point, ctypes.c_char, ctypes.c_wchar, ctypes.c_longdouble,
                      ctypes.c_int.__ctype_be__):
            for options in ({}, {"max_version": (1, 0)}):
                self.assertRaises(BufferError, RawArray(ctype, 2).__dlpack__, **options)
        self.assertRaises(BufferError, _shmdev.dlpack, memoryview(b"abcd")[::2], False, False)

    def test_consumed_by_a_foreign_thread(self):
        """As C does it: by the structures, and the deleter is called where there is no Python."""
        class Tensor(ctypes.Structure):
            _fields_ = [("data", ctypes.c_void_p), ("device_type", ctypes.c_int32),
                        ("device_id", ctypes.c_int32), ("ndim", ctypes.c_int32),
                        ("code", ctypes.c_uint8), ("bits", ctypes.c_uint8),
                        ("lanes", ctypes.c_uint16), ("shape", ctypes.POINTER(ctypes.c_int64)),
                        ("strides", ctypes.POINTER(ctypes.c_int64)),
                        ("byte_offset", ctypes.c_uint64)]

        class Managed(ctypes.Structure):
            _fields_ = [("tensor", Tensor), ("manager", ctypes.c_void_p),
                        ("deleter", ctypes.c_void_p)]

        class Versioned(ctypes.Structure):
            _fields_ = [("major", ctypes.c_uint32), ("minor", ctypes.c_uint32),
                        ("manager", ctypes.c_void_p), ("deleter", ctypes.c_void_p),
                        ("flags", ctypes.c_uint64), ("tensor", Tensor)]

        pointer_of = ctypes.pythonapi.PyCapsule_GetPointer
        pointer_of.restype = ctypes.c_void_p
        pointer_of.argtypes = [ctypes.py_object, ctypes.c_char_p]
        rename = ctypes.pythonapi.PyCapsule_SetName
        rename.argtypes = [ctypes.py_object, ctypes.c_char_p]
        libc = ctypes.CDLL(None)
        libc.pthread_create.argtypes = [ctypes.c_void_p] * 4
        libc.pthread_join.argtypes = [ctypes.c_void_p] * 2
        gc.collect()
        before = shmdev.info().blocks
        for kind, name, used, options in (
            (Managed, b"dltensor", b"used_dltensor", {}),
            (Versioned, b"dltensor_versioned", b"used_dltensor_versioned",
             {"max_version": (1, 0)}),
        ):
            with self.subTest(name):
                table = RawArray(ctypes.c_float * 3, [(1, 2, 3), (4, 5, 6)])
                address = ctypes.addressof(table)
                capsule = table.__dlpack__(**options)
                del table
                managed = kind.from_address(pointer_of(capsule, name))
                tensor = managed.tensor
                self.assertEqual((tensor.data, tensor.device_type, tensor.ndim, tensor.code,
                                  tensor.bits, tensor.lanes, tensor.byte_offset),
                                 (address, 1, 2, 2, 32, 1, 0))
                self.assertEqual((tensor.shape[:2], tensor.strides[:2]), ([2, 3], [3, 1]))
                if kind is Versioned:
                    self.assertEqual((managed.major, managed.flags), (1, 0))
                self.assertEqual(rename(capsule, used), 0)
                del capsule         # the consumer's by now
                gc.collect()
                self.assertEqual(shmdev.info().blocks, before + 1)
                thread = ctypes.c_void_p()
                self.assertEqual(libc.pthread_create(ctypes.byref(thread), None, managed.deleter,
                                                     ctypes.addressof(managed)), 0)
                self.assertEqual(libc.pthread_join(thread, None), 0)
                self.assertEqual(shmdev.info().blocks, before)

    @unittest.skipUnless(hasattr(numpy, "from_dlpack"), "no numpy that takes DLPack")
    def test_numpy(self):
        for ctype in NUMBERS:
            if ctype in (ctypes.c_longdouble,):
                continue
            a = RawArray(ctype, [0, 1, 1])
            if ctype is ctypes.c_bool and numpy.__version__ < "1.25":
                continue
            view = numpy.from_dlpack(a)
            self.assertEqual(view.tolist(), list(a))
            self.assertEqual(view.ctypes.data, ctypes.addressof(a))
            self.assertEqual(view.dtype, a.numpy().dtype)
        table = RawArray(ctypes.c_double * 3, [(1, 2, 3), (4, 5, 6)])
        self.assertEqual(numpy.from_dlpack(table).tolist(), [[1, 2, 3], [4, 5, 6]])

    @unittest.skipUnless(hasattr(numpy, "from_dlpack"), "no numpy that takes DLPack")
    def test_lifetime(self):
        gc.collect()
        before = shmdev.info().blocks
        view = numpy.from_dlpack(RawArray("i", [5, 6]))
        gc.collect()
        self.assertEqual((view.tolist(), shmdev.info().blocks), ([5, 6], before + 1))
        del view
        gc.collect()
        self.assertEqual(shmdev.info().blocks, before)
        for _ in range(100):
            RawArray("i", 3).__dlpack__(max_version=(1, 0))
        self.assertEqual(shmdev.info().blocks, before)


@unittest.skipUnless(numpy, "no numpy for this interpreter")
class Numpy(unittest.TestCase):
    def test_numpy(self):
        for code in TYPECODES.replace("u", ""):     # '<u' is no format to numpy
            a = RawArray(code, 4)
            view = a.numpy()
            self.assertEqual((view.shape, view.nbytes, view.ctypes.data),
                             ((4,), ctypes.sizeof(a), ctypes.addressof(a)))
        self.assertEqual(RawArray(Point, 2).numpy().dtype.names, ("x", "y"))
        self.assertEqual(RawArray(ctypes.c_int * 2, 3).numpy().shape, (3, 2))
        self.assertEqual(RawArray("i", 0).numpy().shape, (0,))


if __name__ == "__main__":
    tap.main()
