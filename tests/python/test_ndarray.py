# SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
"""numpy arrays in shared memory, as those who know numpy expect them."""

import copy
import ctypes
import gc
import importlib.util
import pickle
import subprocess
import sys
import unittest

import tap
import shmdev
from shmdev import RawArray

if importlib.util.find_spec("numpy") is not None:
    import numpy
else:
    numpy = None


def is_shared(array):
    """Whether all of it lies in a region."""
    try:
        region, offset = shmdev._shmdev.region_locate(array.__array_interface__["data"][0])
    except FileNotFoundError:
        return False
    return array.flags.c_contiguous and offset + array.nbytes <= region.size


@unittest.skipIf(numpy is None, "no numpy for this interpreter")
class Base(unittest.TestCase):
    def same(self, ours, numpys):
        """One is in every respect but the memory what numpy makes."""
        self.assertIs(type(ours), shmdev.ndarray)
        self.assertEqual((ours.shape, ours.dtype), (numpys.shape, numpys.dtype))
        if numpys.size:     # without items they mean nothing, and are what they like
            self.assertEqual(ours.strides, numpys.strides)
        for flag in ("C_CONTIGUOUS", "F_CONTIGUOUS", "WRITEABLE", "ALIGNED"):
            self.assertEqual(ours.flags[flag], numpys.flags[flag], flag)
        numpy.testing.assert_array_equal(ours, numpys, strict=False)


class Creation(Base):
    SHAPES = ((), 0, 5, (5,), [2, 3], (3, 4, 2), (3, 0, 2), (1, 1, 1), numpy and numpy.int64(4))
    TYPES = (float, "i1", "u2", ">i4", bool, complex, "f2", "S7", "U3", "M8[us]", "m8[D]",
             [("a", "i4"), ("b", "f8", (2, 2))], numpy and numpy.dtype("V5"), "c8", None)

    def test_shapes_types_orders(self):
        for shape in self.SHAPES:
            for dtype in self.TYPES:
                for order in "CF":
                    with self.subTest(shape=shape, dtype=dtype, order=order):
                        self.same(shmdev.zeros(shape, dtype, order),
                                  numpy.zeros(shape, dtype, order))
                        ours = shmdev.empty(shape, dtype, order=order)
                        theirs = numpy.empty(shape, dtype, order=order)
                        self.assertEqual((ours.shape, ours.dtype), (theirs.shape, theirs.dtype))
                        if theirs.size:
                            self.assertEqual(ours.strides, theirs.strides)
        for dtype in (float, int, "u1", bool, complex):
            self.same(shmdev.ones((2, 3), dtype), numpy.ones((2, 3), dtype))

    def test_full(self):
        for value in (5, 2.5, True, 1j, "ab", b"x", [1, 2, 3]):
            self.same(shmdev.full((2, 3), value), numpy.full((2, 3), value))
        self.same(shmdev.full(3, 2.7, int), numpy.full(3, 2.7, int))
        self.same(shmdev.full((2, 2), 1, order="F"), numpy.full((2, 2), 1, order="F"))

    def test_array(self):
        base = numpy.arange(24.0).reshape(2, 3, 4)
        for source in ([1, 2], [[1.5], [2]], 5, (), base, base.T, base[::-1, ::2], base[..., None],
                       numpy.asfortranarray(base[0]), numpy.array(["a", "bc"]), range(4),
                       RawArray("i", [1, 2]), b"abc", [True]):
            with self.subTest(source=source):
                theirs = numpy.array(source)
                ours = shmdev.array(source)
                self.assertIs(type(ours), shmdev.ndarray)
                self.assertEqual((ours.dtype, ours.shape), (theirs.dtype, theirs.shape))
                self.assertEqual(ours.tolist(), theirs.tolist())
                self.same(shmdev.array(source, order="C"), numpy.array(source, order="C"))
                self.same(shmdev.array(source, order="F"), numpy.array(source, order="F"))
                self.assertFalse(numpy.shares_memory(ours, numpy.asarray(source)))
        self.same(shmdev.array([1, 2], "f4"), numpy.array([1, 2], "f4"))
        self.same(shmdev.array([1, 2], ndmin=3), numpy.array([1, 2], ndmin=3))

    def test_asarray(self):
        ours = shmdev.arange(6).reshape(2, 3)
        self.assertIs(shmdev.asarray(ours), ours)
        self.assertIs(shmdev.asarray(ours, ours.dtype, order="C"), ours)
        view = ours[:, 1:]
        self.assertIs(shmdev.asarray(view), view)
        for changed in (shmdev.asarray(ours, "f4"), shmdev.asarray(ours, order="F"),
                        shmdev.asarray(numpy.arange(3)), shmdev.asarray([1, 2]),
                        shmdev.asarray(ours.copy())):
            self.assertIs(type(changed), shmdev.ndarray)
            self.assertFalse(numpy.shares_memory(changed, ours))
            shmdev.export(changed)

    def test_empty_like_and_arange(self):
        for source in (numpy.zeros((2, 3), "i2"), numpy.zeros((2, 3), order="F"), [1.5, 2]):
            theirs = numpy.empty_like(source)
            ours = shmdev.empty_like(source)
            self.assertEqual((ours.shape, ours.dtype, ours.strides),
                             (theirs.shape, theirs.dtype, theirs.strides))
        self.assertEqual(shmdev.empty_like([1, 2], dtype="u1", shape=(3, 3)).nbytes, 9)
        for arguments in ((5,), (2, 9), (1, 2, 0.25), (9, 0, -2), (0,)):
            self.same(shmdev.arange(*arguments), numpy.arange(*arguments))
        self.same(shmdev.arange(4, dtype="f4"), numpy.arange(4, dtype="f4"))

    def test_memory_is_zero_and_shared(self):
        for _ in range(20):
            array = shmdev.zeros(3000)
            self.assertFalse(array.any())
            self.assertTrue(is_shared(array))
            array[:] = 1

    def test_errors(self):
        """What numpy refuses, and for the same reason."""
        for arguments in ((-1,), ((2, -3),), ("x",), (2.5,), (3, "no such")):
            with self.subTest(arguments=arguments):
                for make in ("empty", "zeros", "ones"):
                    try:
                        getattr(numpy, make)(*arguments)
                    except (TypeError, ValueError) as error:
                        with self.assertRaises(type(error)):
                            getattr(shmdev, make)(*arguments)
        for dtype in (object, "O", [("a", "i4"), ("b", object)]):
            for make in (lambda: shmdev.zeros(3, dtype), lambda: shmdev.array([None], dtype)):
                with self.assertRaisesRegex(TypeError, "objects cannot be in shared memory"):
                    make()
        with self.assertRaisesRegex(TypeError, "objects"):
            shmdev.array([None, {}])
        self.assertRaises(ValueError, shmdev.zeros, 3, float, "X")
        for size in (2**62, 2**45):
            self.assertRaises((MemoryError, ValueError, OSError), shmdev.zeros, size, "u8")

    def test_numpy_is_imported_when_needed(self):
        code = ("import sys, shmdev\n"
                "shmdev.RawArray('i', [1, 2]); shmdev.Value('i')\n"
                "assert 'numpy' not in sys.modules\n"
                "shmdev.zeros(3)\n"
                "assert 'numpy' in sys.modules\n")
        subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


class Semantics(Base):
    def setUp(self):
        if numpy is not None:
            self.array = shmdev.arange(12.0).reshape(3, 4)

    def test_ufuncs(self):
        """New arrays are numpy's own; those in place stay what they are."""
        array = self.array
        for result in (array + 1, 2 * array, -array, numpy.sqrt(array), array == array,
                       array @ array.T, numpy.add(array, array), array.astype(int) // 2,
                       numpy.where(array > 3, array, 0), numpy.concatenate([array, array])):
            self.assertIs(type(numpy.asarray(result)), numpy.ndarray)
        self.assertIs(type(array + 1), numpy.ndarray)
        before = array.__array_interface__["data"]
        array += 1
        array *= 2
        numpy.subtract(array, 2, out=array)
        self.assertIs(type(array), shmdev.ndarray)
        self.assertEqual(array.__array_interface__["data"], before)
        self.assertEqual(array.ravel().tolist(), [2.0 * n for n in range(12)])
        out = shmdev.empty((3, 4))
        self.assertIs(numpy.add(array, 1, out=out), out)
        self.assertEqual(out[0, 1], 3)
        self.assertIs(numpy.cumsum(array, axis=1, out=out), out)
        first, second = numpy.divmod(array, 5)
        self.assertIs(type(first), numpy.ndarray)

    def test_reductions(self):
        array = self.array
        for value in (array.sum(), array.mean(), array.max(), array.std(), numpy.median(array),
                      array.dot(array.T).trace(), numpy.dot(array[0], array[0]), array[1, 2],
                      array.prod(), numpy.linalg.norm(array)):
            self.assertIsInstance(value, numpy.float64)
        self.assertIsInstance(array.argmax(), numpy.intp)
        self.assertIsInstance((array > 3).all(), numpy.bool_)
        self.assertIsInstance(numpy.add.reduce(array[0]), numpy.float64)
        self.assertEqual(array.sum(axis=0).tolist(), [12, 15, 18, 21])
        self.assertEqual(array.sum(axis=(0, 1), keepdims=True).shape, (1, 1))
        self.assertIsInstance(shmdev.array(5) + 1, numpy.int64)

    def test_views(self):
        array = self.array
        for view in (array[1:], array[::2, ::-1], array.T, array.reshape(4, 3), array.ravel(),
                     array.view("i8"), array[None], array[..., 1], array.swapaxes(0, 1),
                     numpy.flip(array), array.squeeze(), array.real):
            self.assertIs(type(view), shmdev.ndarray)
            self.assertTrue(numpy.shares_memory(view, array))
            again = pickle.loads(pickle.dumps(view))
            self.assertTrue(numpy.shares_memory(again, array))
            self.assertEqual((again.shape, again.strides, again.dtype),
                             (view.shape, view.strides, view.dtype))
            self.assertEqual(again.tolist(), view.tolist())
        # A view keeps the memory.
        view = shmdev.full(1000, 7)[100:200]
        gc.collect()
        shmdev.zeros(1000)
        self.assertEqual(set(view.tolist()), {7})

    def test_read_only_views(self):
        view = self.array[:]
        view.flags.writeable = False
        again = pickle.loads(pickle.dumps(view))
        self.assertFalse(again.flags.writeable)
        wide = numpy.broadcast_to(self.array[0], (5, 4), subok=True)
        again = pickle.loads(pickle.dumps(wide))
        self.assertEqual((again.shape, again.strides, again.flags.writeable),
                         (wide.shape, wide.strides, False))

    def test_copies(self):
        """They have memory of their own, and are pickled as numpy's are."""
        for made in (self.array.copy(), copy.copy(self.array), copy.deepcopy(self.array),
                     self.array.astype("f4"), self.array[[0, 2]], self.array[self.array > 3],
                     numpy.array(self.array)):
            self.assertFalse(numpy.shares_memory(made, self.array))
            again = pickle.loads(pickle.dumps(made))
            self.assertEqual(again.tolist(), made.tolist())
            self.assertFalse(numpy.shares_memory(again, made))
            self.assertFalse(is_shared(again))
        plain = numpy.asarray(self.array)
        self.assertIs(type(plain), numpy.ndarray)
        self.assertTrue(numpy.shares_memory(plain, self.array))
        self.assertFalse(numpy.shares_memory(pickle.loads(pickle.dumps(plain)), plain))

    def test_structured(self):
        array = shmdev.zeros(3, [("x", "i4"), ("y", "f8", (2,))])
        array["x"] = 5
        array[1]["y"][0] = 2.5
        again = pickle.loads(pickle.dumps(array))
        again["x"][2] = 6
        self.assertEqual((array["x"].tolist(), array["y"][1].tolist()), ([5, 5, 6], [2.5, 0]))
        field = pickle.loads(pickle.dumps(array["y"]))
        self.assertTrue(numpy.shares_memory(field, array))
        records = array.view(numpy.recarray)
        self.assertEqual(records.x.tolist(), [5, 5, 6])

    def test_subclasses(self):
        again = pickle.loads(pickle.dumps(Labelled.make("name")))
        self.assertIs(type(again), Labelled)
        self.assertEqual((again.label, again.tolist()), ("name", [1, 1, 1]))
        self.assertTrue(is_shared(again))

    def test_protocols(self):
        array = shmdev.arange(5)
        for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
            again = pickle.loads(pickle.dumps(array, protocol))
            self.assertTrue(numpy.shares_memory(again, array))
        self.assertTrue(numpy.shares_memory(numpy.from_dlpack(array), array))
        self.assertEqual(memoryview(array).tolist(), list(range(5)))
        self.assertEqual(ctypes.c_long.from_buffer(array).value, 0)

    def test_text(self):
        self.assertEqual(repr(shmdev.arange(3)), "ndarray([0, 1, 2])")
        self.assertEqual(str(shmdev.arange(3)), "[0 1 2]")

    def test_beyond_its_memory(self):
        """Made by stride tricks: refused, and not sent as something else."""
        wrong = numpy.lib.stride_tricks.as_strided(
            shmdev.zeros(10, "u1"), (1 << 30,), (1,), subok=True)
        with self.assertRaisesRegex(ValueError, "beyond its memory"):
            pickle.dumps(wrong)

    def test_region_is_not_pinned(self):
        before = shmdev.info().blocks
        array = shmdev.zeros(100)
        views = [array[:5], array.T, pickle.loads(pickle.dumps(array))]
        del array, views
        gc.collect()
        shmdev.set_hold(0, 0)
        shmdev.set_hold()
        # The first pickle leaves the ledger behind.
        self.assertLessEqual(shmdev.info().blocks, before + 1)


if numpy is not None:
    class Labelled(shmdev.ndarray):
        @classmethod
        def make(cls, label):
            made = shmdev.ones(3).view(cls)
            made.label = label
            return made


if __name__ == "__main__":
    tap.main()
