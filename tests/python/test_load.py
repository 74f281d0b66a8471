# SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
"""numpy arrays from files and to files."""

import _thread
import errno
import gc
import io
import os
import random
import resource
import signal
import stat
import subprocess
import sys
import tempfile
import threading
import time
import unittest
import warnings
import zipfile

import tap
import shmdev
from stock import numpy
from tap import THOROUGH

tqdm = tap.extra("tqdm")


def memory_held():
    gc.collect()
    info = shmdev.info()
    return info.block_bytes


class Case(unittest.TestCase):
    def setUp(self):
        self.directory = tempfile.TemporaryDirectory()
        self.addCleanup(self.directory.cleanup)

    def path(self, name):
        return os.path.join(self.directory.name, name)

    def write(self, name, data):
        with open(self.path(name), "wb") as file:
            file.write(data)
        return self.path(name)

    def npy(self, array, version=None):
        stream = io.BytesIO()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            numpy.lib.format.write_array(stream, numpy.asanyarray(array), version)
        return stream.getvalue()

    def check(self, got, expected):
        self.assertIs(type(got), shmdev.ndarray)
        self.assertEqual(got.dtype, expected.dtype)
        self.assertEqual(got.shape, expected.shape)
        for flag in ("c_contiguous", "f_contiguous"):
            self.assertEqual(getattr(got.flags, flag), getattr(expected.flags, flag), flag)
        self.assertEqual(got.tobytes(), expected.tobytes())
        self.assertTrue(got.flags.writeable)


def examples():
    chance = numpy.random.default_rng(7)
    yield numpy.arange(10)
    yield numpy.array(5.5)
    yield numpy.zeros(0)
    yield numpy.zeros((3, 0, 2), "i2")
    yield numpy.array(["a", "\u03c0\u03c0"])
    yield numpy.array(["", ""], "U0")
    yield numpy.array([b"abc", b"d"])
    yield numpy.array(["2020-01-01", "NaT"], "datetime64[s]")
    yield numpy.array([1, 2], "timedelta64[ms]")
    yield chance.standard_normal((7, 11, 3))
    yield numpy.asfortranarray(chance.standard_normal((7, 11, 3)))
    yield chance.integers(0, 2, 1001).astype(bool)
    for dtype in ("<i4", ">i4", ">f8", "f2", "c16", "g", ">u2", "i1"):
        yield chance.integers(0, 100, (12, 5)).astype(dtype)
    yield numpy.zeros(3, [("a", ">i4"), ("b", "f8", (2, 2)), ("c", "S3")])
    yield numpy.ones(3, [("\u03c0", "i4")])
    yield numpy.ones(2, [(f"{'long' * 10}{i}", "i4") for i in range(100)])
    yield numpy.array([], [("a", "i4")])
    yield chance.integers(0, 255, 5_000_003).astype("u1")


@unittest.skipUnless(numpy, "no numpy for this interpreter")
class Formats(Case):
    def test_npy(self):
        for number, array in enumerate(examples()):
            with self.subTest(dtype=array.dtype, shape=array.shape):
                path = self.write(f"{number}.npy", self.npy(array))
                self.check(shmdev.load(path), array)
                self.check(shmdev.load(os.fsencode(path)), array)

    def test_versions_of_the_format(self):
        array = numpy.arange(6).reshape(2, 3)
        for version in ((1, 0), (2, 0), (3, 0)):
            self.check(shmdev.load(self.write("a.npy", self.npy(array, version))), array)
        data = bytearray(self.npy(array))
        data[6] = 4
        with self.assertRaisesRegex(ValueError, "a.npy: .*4"):
            shmdev.load(self.write("a.npy", data))

    def test_what_is_behind_the_array(self):
        array = numpy.arange(10)
        data = self.npy(array)
        self.check(shmdev.load(self.write("a.npy", data + b"more")), array)

    def test_npz(self):
        arrays = {f"a{number}": array for number, array in enumerate(examples())}
        for save, name in ((numpy.savez, "s.npz"), (numpy.savez_compressed, "c.npz")):
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                save(self.path(name), **arrays)
            for member, array in arrays.items():
                with self.subTest(name=name, member=member):
                    self.check(shmdev.load(self.path(name), member), array)
                    self.check(shmdev.load(self.path(name), member + ".npy"), array)
            pairs = [(self.path(name), member) for member in arrays]
            for got, array in zip(shmdev.load_many(pairs), arrays.values()):
                self.check(got, array)

    def test_members(self):
        numpy.savez(self.path("one.npz"), only=numpy.arange(3))
        self.check(shmdev.load(self.path("one.npz")), numpy.arange(3))
        numpy.savez(self.path("two.npz"), a=numpy.arange(3), b=numpy.arange(4))
        with self.assertRaisesRegex(ValueError, "two.npz.*'a', 'b'"):
            shmdev.load(self.path("two.npz"))
        with self.assertRaisesRegex(KeyError, "two.npz.*'c'"):
            shmdev.load(self.path("two.npz"), "c")
        numpy.savez(self.path("none.npz"))
        with self.assertRaisesRegex(ValueError, "none.npz.* 0 members"):
            shmdev.load(self.path("none.npz"))
        with self.assertRaisesRegex(ValueError, "a.npy.*no members"):
            shmdev.load(self.write("a.npy", self.npy(numpy.arange(3))), "a")

    def test_other_ways_to_compress(self):
        array = numpy.arange(100_000)
        for method in (zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA):
            with zipfile.ZipFile(self.path("a.npz"), "w", method) as archive:
                archive.writestr("x.npy", self.npy(array))
            self.check(shmdev.load(self.path("a.npz"), "x"), array)
            with open(self.path("a.npz"), "r+b") as file:
                file.seek(600)
                file.write(bytes(100))
            with self.assertRaisesRegex(ValueError, "a.npz.*damaged"):
                shmdev.load(self.path("a.npz"), "x")

    def test_archive_behind_something(self):
        with zipfile.ZipFile(self.path("a.npz"), "w") as archive:
            archive.writestr("x.npy", self.npy(numpy.arange(5)))
        with open(self.path("a.npz"), "rb") as file:
            whole = file.read()
        # The local header of a member may be longer than the directory says.
        self.check(shmdev.load(self.write("b.npz", whole), "x"), numpy.arange(5))
        with self.assertRaisesRegex(ValueError, "b.npz"):
            shmdev.load(self.write("b.npz", b"junk" + whole), "x")

    def test_loaded_arrays_are_shared(self):
        array = numpy.arange(1000)
        got = shmdev.load(self.write("a.npy", self.npy(array)))
        pid = os.fork()
        if not pid:
            got[:] = 5
            os._exit(0)
        os.waitpid(pid, 0)
        self.assertTrue((got == 5).all())


@unittest.skipUnless(numpy, "no numpy for this interpreter")
class Errors(Case):
    def test_missing(self):
        for call in (shmdev.load, shmdev.fromfile):
            with self.assertRaises(FileNotFoundError) as caught:
                call(self.path("none"))
            self.assertEqual(caught.exception.filename, self.path("none"))
            self.assertRaises(IsADirectoryError, call, self.directory.name)
            self.assertRaises(ValueError, call, "/dev/null")
            self.assertRaises(TypeError, call, 5)
            self.assertRaises(TypeError, call, io.BytesIO())

    @unittest.skipIf(os.geteuid() == 0, "root may read it")
    def test_permission(self):
        path = self.write("a.npy", self.npy(numpy.arange(3)))
        os.chmod(path, 0)
        self.assertRaises(PermissionError, shmdev.load, path)

    @unittest.skipUnless(os.geteuid() == 0, "takes root")
    def test_permission_of_another_user(self):
        path = self.write("a.npy", self.npy(numpy.arange(3)))
        os.chmod(self.directory.name, 0o755)
        os.chmod(path, 0)
        pid = os.fork()
        if not pid:
            status = 1
            try:
                os.setresuid(65534, 65534, 65534)
                for call in (shmdev.load, shmdev.fromfile, lambda p: shmdev.save(p, [1])):
                    try:
                        call(path)
                    except PermissionError as error:
                        status = int(error.errno != errno.EACCES)
                    else:
                        status = 2
                    if status:
                        break
            finally:
                os._exit(status)
        self.assertEqual(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), 0)

    def test_cut_off_at_any_byte(self):
        for array in (numpy.arange(5), numpy.arange(5, dtype=">f8").reshape(5, 1)):
            data = self.npy(array)
            held = memory_held()
            for length in range(len(data)):
                with self.assertRaisesRegex(ValueError, "a.npy"):
                    shmdev.load(self.write("a.npy", data[:length]))
            self.assertEqual(memory_held(), held)

    def test_cut_off_archives(self):
        for save in (numpy.savez, numpy.savez_compressed):
            save(self.path("a.npz"), x=numpy.arange(20))
            with open(self.path("a.npz"), "rb") as file:
                data = file.read()
            for length in range(len(data)):
                with self.assertRaisesRegex(ValueError, "b.npz"):
                    shmdev.load(self.write("b.npz", data[:length]), "x")

    def test_damaged_archives(self):
        """Each byte changed: an error, or what was there."""
        for save in (numpy.savez, numpy.savez_compressed):
            array = numpy.arange(20)
            save(self.path("a.npz"), x=array)
            with open(self.path("a.npz"), "rb") as file:
                data = file.read()
            found = 0
            for place in range(0, len(data), 1 if THOROUGH else 7):
                changed = bytearray(data)
                changed[place] ^= 0x11
                try:
                    got = shmdev.load(self.write("b.npz", changed), "x")
                except (ValueError, KeyError):
                    found += 1
                else:
                    self.assertEqual(got.tolist(), array.tolist(), place)
            self.assertGreater(found, len(data) // 2 if THOROUGH else 0)

    def test_damaged_headers(self):
        """Whatever stands in a header, it is an array or a ValueError."""
        chance = random.Random(9)
        data = self.npy(numpy.arange(8))
        for _ in range(3000 if THOROUGH else 100):
            changed = bytearray(data)
            for _ in range(chance.randrange(1, 4)):
                changed[chance.randrange(128)] = chance.randrange(256)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                try:
                    got = shmdev.load(self.write("a.npy", changed))
                except ValueError:
                    continue
            self.assertIsInstance(got, shmdev.ndarray)

    def test_shapes_that_lie(self):
        for shape in ("(2**62,)", "(99999999999999,)", "(-1,)", "(True,)", "3", "(3.0,)", "[3]"):
            header = "{'descr': '<i8', 'fortran_order': False, 'shape': %s, }" % shape
            text = header.encode().ljust(117) + b"\n"
            data = b"\x93NUMPY\1\0" + len(text).to_bytes(2, "little") + text + bytes(8)
            with self.assertRaisesRegex(ValueError, "a.npy", msg=shape):
                shmdev.load(self.write("a.npy", data))

    def test_objects(self):
        for array in (numpy.array([None]), numpy.array([(1, None)], [("a", "i4"), ("b", "O")])):
            stream = io.BytesIO()
            numpy.save(stream, array, allow_pickle=True)
            with self.assertRaisesRegex(ValueError, "objects"):
                shmdev.load(self.write("a.npy", stream.getvalue()))
        self.assertRaises(TypeError, shmdev.fromfile, self.write("b", bytes(8)), "O")
        for call in (shmdev.save, lambda path, array: shmdev.tofile(array, path)):
            with self.assertRaisesRegex(ValueError, "objects"):
                call(self.path("c.npy"), numpy.array([None]))
            self.assertFalse(os.path.exists(self.path("c.npy")))

    @unittest.skipUnless(shmdev.info().backend in ("memfd", "thp"), "needs a memfd")
    def test_no_memory(self):
        """The backend's error is the caller's."""
        path = self.write("a.npy", self.npy(numpy.arange(1 << 20)))
        descriptors = len(os.listdir("/proc/self/fd"))
        before = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, before[1]))
        try:
            with self.assertRaises(OSError) as caught:
                shmdev.load(path)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
        self.assertEqual(caught.exception.errno, errno.EFBIG)
        self.assertEqual(len(os.listdir("/proc/self/fd")), descriptors)

    def test_shorter_meanwhile(self):
        path = self.write("a.npy", self.npy(numpy.arange(1 << 20)))
        held = memory_held()

        def shorten(done, total):
            os.truncate(path, 4096)

        with self.assertRaisesRegex(ValueError, "cut off"):
            shmdev.load(path, progress=shorten)
        self.assertEqual(memory_held(), held)


@unittest.skipUnless(numpy, "no numpy for this interpreter")
class Raw(Case):
    def setUp(self):
        super().setUp()
        self.data = random.Random(3).getrandbits(8 * 4800).to_bytes(4800, "little")
        self.file = self.write("raw", self.data)

    def test_shapes(self):
        whole = numpy.frombuffer(self.data, "<i4")
        self.check(shmdev.fromfile(self.file, "<i4"), whole)
        self.check(shmdev.fromfile(self.file, "<i4", -1), whole)
        self.check(shmdev.fromfile(self.file, "<i4", 7), whole[:7])
        self.check(shmdev.fromfile(self.file, "<i4", (30, 40)), whole.reshape(30, 40))
        self.check(shmdev.fromfile(self.file, "<i4", (30, -1), 0), whole.reshape(30, 40))
        self.check(shmdev.fromfile(self.file, "<i4", (30, 40), order="F"),
                   whole.reshape((30, 40), order="F"))
        self.check(shmdev.fromfile(self.file, "<i4", (), 8), whole[2].reshape(()))
        self.check(shmdev.fromfile(self.file, ">f8", (3,), 3),
                   numpy.frombuffer(self.data[3:27], ">f8"))
        self.check(shmdev.fromfile(self.file, "u1", None, 4800), numpy.zeros(0, "u1"))
        self.check(shmdev.fromfile(self.file, "u1", 0, 9), numpy.zeros(0, "u1"))
        self.check(shmdev.fromfile(self.file, ("<i4", 2), 3), whole[:6].reshape(3, 2))

    def test_wrong_shapes(self):
        for shape, offset in ((1201, 0), ((30, 41), 0), (1, 4797), (1, 4801), (1, 2**62)):
            with self.assertRaisesRegex(ValueError, "raw: cut off"):
                shmdev.fromfile(self.file, "<i4", shape, offset)
        for shape, offset in ((None, 1), ((7, -1), 0), ((0, -1), 0)):
            with self.assertRaisesRegex(ValueError, "raw: .*multiple"):
                shmdev.fromfile(self.file, "<i4", shape, offset)
        for shape in (-2, (-1, -1), (-1, -2)):
            with self.assertRaisesRegex(ValueError, "no shape"):
                shmdev.fromfile(self.file, "<i4", shape)
        self.assertRaises(ValueError, shmdev.fromfile, self.file, "<i4", 1, -4)
        self.assertRaises(ValueError, shmdev.fromfile, self.file, "<i4", 1, order="K")
        self.assertRaises(TypeError, shmdev.fromfile, self.file, "<i4", 1.5)
        self.assertRaises(TypeError, shmdev.fromfile, self.file, "<i4", 1, 0.5)
        self.assertRaises(TypeError, shmdev.fromfile, self.file, "no type")
        self.assertRaises(ValueError, shmdev.fromfile, self.file, "V0")


@unittest.skipUnless(numpy, "no numpy for this interpreter")
class Many(Case):
    def test_more_files_than_descriptors(self):
        """800 files with 64 descriptors, and the order is kept."""
        paths = [self.write(f"{i}.npy", self.npy(numpy.full(50 + i, i))) for i in range(800)]
        before = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (64, before[1]))
        try:
            for progress in (None, lambda done, total: None):
                arrays = shmdev.load_many(iter(paths), progress=progress)
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, before)
        for i, array in enumerate(arrays):
            self.check(array, numpy.full(50 + i, i))
        self.assertEqual(shmdev.load_many([]), [])

    def test_errors_in_their_places(self):
        good = self.write("good.npy", self.npy(numpy.arange(5)))
        numpy.savez_compressed(self.path("a.npz"), x=numpy.arange(6))
        sources = [good, self.path("none"), (self.path("a.npz"), "x"), (self.path("a.npz"), "y"),
                   self.write("bad.npy", b"bad"), good]
        told = []
        for progress in (None, lambda *numbers: told.append(numbers)):
            results = shmdev.load_many(sources, return_exceptions=True, progress=progress)
            self.assertEqual([type(result) for result in results],
                             [shmdev.ndarray, FileNotFoundError, shmdev.ndarray, KeyError,
                              ValueError, shmdev.ndarray])
            self.assertRaises(FileNotFoundError, shmdev.load_many, sources, progress=progress)
        self.assertEqual(told[-1], (128, 128))

    def test_error_of_progress_is_nobodys(self):
        numpy.savez_compressed(self.path("a.npz"), x=numpy.arange(6))

        def progress(done, total):
            if done:
                raise OSError(errno.EMFILE, "mine")

        for sources in ([(self.path("a.npz"), "x")] * 2,
                        [self.write("good.npy", self.npy(numpy.arange(5)))]):
            with self.assertRaisesRegex(OSError, "mine"):
                shmdev.load_many(sources, return_exceptions=True, progress=progress)


@unittest.skipUnless(numpy, "no numpy for this interpreter")
class Progress(Case):
    SIZE = (64 << 20) if THOROUGH else (16 << 20)

    def big(self, array=None):
        path = self.path("big.npy")
        if not os.path.exists(path):
            with open(path, "wb") as file:
                numpy.lib.format.write_array_header_1_0(
                    file, {"descr": "|u1", "fortran_order": False, "shape": (self.SIZE,)})
                file.truncate(file.tell() + self.SIZE)
        return path

    def test_numbers(self):
        numpy.savez_compressed(self.path("c.npz"), x=numpy.zeros(self.SIZE // 2, "u1"))
        numpy.savez(self.path("s.npz"), x=numpy.zeros(self.SIZE // 4, "u1"))
        for call, total in (
                (lambda told: shmdev.load(self.big(), progress=told), self.SIZE),
                (lambda told: shmdev.load(self.path("c.npz"), "x", progress=told),
                 self.SIZE // 2),
                (lambda told: shmdev.load_many(
                    [self.big(), (self.path("c.npz"), "x"), (self.path("s.npz"), "x")],
                    progress=told), self.SIZE * 7 // 4),
                (lambda told: shmdev.fromfile(self.big(), "u1", progress=told),
                 self.SIZE + 128),
                (lambda told: shmdev.save(self.path("out"), shmdev.zeros(self.SIZE, "u1"),
                                          progress=told), self.SIZE),
                (lambda told: shmdev.tofile(numpy.zeros(self.SIZE, "u1"), self.path("out"),
                                            progress=told), self.SIZE)):
            told = []
            call(lambda done, total: told.append((done, total)))
            self.assertEqual(told[0], (0, total))
            self.assertEqual(told[-1], (total, total))
            self.assertEqual(told, sorted(told))
            self.assertEqual({told_total for _, told_total in told}, {total})
        with self.assertRaises(TypeError):
            shmdev.load(self.big(), progress=5)

    @unittest.skipUnless(tqdm, "no tqdm for this interpreter")
    def test_bar(self):
        program = "import shmdev, sys; shmdev.load(sys.argv[1], progress=True)"
        run = subprocess.run([sys.executable, "-c", program, self.big()], check=True,
                             stderr=subprocess.PIPE, text=True)
        self.assertIn("100%", run.stderr)

    def interrupted(self, call):
        """Ctrl-C during call: KeyboardInterrupt at once, and nothing is held although it is."""
        calls = 0

        def told(done, total):
            nonlocal calls
            calls += 1
            if calls == 1:
                os.kill(os.getpid(), signal.SIGINT)

        held, descriptors = memory_held(), os.listdir("/proc/self/fd")
        with self.assertRaises(KeyboardInterrupt) as caught:
            call(told)
        self.assertEqual(calls, 1)
        self.assertEqual(memory_held(), held)
        self.assertLessEqual(len(os.listdir("/proc/self/fd")), len(descriptors))
        del caught

    def test_interrupt(self):
        self.interrupted(lambda told: shmdev.load(self.big(), progress=told))
        self.interrupted(lambda told: shmdev.load_many([self.big()] * 3, progress=told))
        self.interrupted(lambda told: shmdev.fromfile(self.big(), "u1", progress=told))
        numpy.savez_compressed(self.path("c.npz"), x=numpy.zeros(self.SIZE, "u1"))
        self.interrupted(lambda told: shmdev.load(self.path("c.npz"), "x", progress=told))

    def test_error_of_progress(self):
        class Stop(Exception):
            pass

        for moment in (0, 1):  # there is one call at the end, if it all goes quickly
            calls = 0

            def told(done, total):
                nonlocal calls
                calls += 1
                if calls > moment:
                    raise Stop

            held = memory_held()
            with self.assertRaises(Stop) as caught:
                shmdev.load_many([self.big()] * 2, progress=told)
            self.assertEqual(memory_held(), held)
            del caught

    def test_interrupt_while_reading(self):
        """At any moment, with progress and without: all or nothing."""
        chance = random.Random(8)
        path = self.big()
        # What stays: regions that are kept for the next who wants one.
        shmdev.load(path)
        for number in range(20 if THOROUGH else 4):
            progress = (lambda done, total: None) if number % 2 else None
            held = memory_held()
            timer = threading.Timer(chance.random() * 0.03, _thread.interrupt_main)
            array = None
            try:
                timer.start()
                array = shmdev.load(path, progress=progress)
                timer.join()
                time.sleep(1)  # the interrupt that is still to come ends it
            except KeyboardInterrupt:
                pass
            timer.join()
            if array is not None:
                self.assertEqual(array.size, self.SIZE)
            del array
            self.assertEqual(memory_held(), held)

    def test_interrupted_save(self):
        """The old file is there as it was, and no other."""
        array = shmdev.zeros(self.SIZE, "u1")
        shmdev.save(self.path("a.npy"), numpy.arange(5))
        for call in (lambda told: shmdev.save(self.path("a.npy"), array, progress=told),
                     lambda told: shmdev.save(self.path("a.npy"), array[::-1], progress=told),
                     lambda told: shmdev.tofile(array, self.path("a.npy"), progress=told)):
            self.interrupted(call)
            self.assertEqual(os.listdir(self.directory.name), ["a.npy"])
            self.check(shmdev.load(self.path("a.npy")), numpy.arange(5))


@unittest.skipUnless(numpy, "no numpy for this interpreter")
class Saving(Case):
    def test_as_numpy_does(self):
        for array in examples():
            for source in (array, shmdev.array(array)):
                with self.subTest(dtype=array.dtype, shape=array.shape, cls=type(source)):
                    with warnings.catch_warnings():
                        warnings.simplefilter("ignore")
                        numpy.save(self.path("theirs.npy"), array)
                        shmdev.save(self.path("ours"), source)
                    got = numpy.load(self.path("ours.npy"))
                    self.assertEqual(got.dtype, array.dtype)
                    self.assertEqual(got.shape, array.shape)
                    self.assertEqual(got.tobytes(), array.tobytes())
                    self.assertEqual(os.path.getsize(self.path("ours.npy")),
                                     os.path.getsize(self.path("theirs.npy")))
                    shmdev.tofile(source, self.path("ours.raw"))
                    array.tofile(self.path("theirs.raw"))
                    with open(self.path("ours.raw"), "rb") as ours, \
                            open(self.path("theirs.raw"), "rb") as theirs:
                        self.assertEqual(ours.read(), theirs.read())

    def test_parts(self):
        array = shmdev.array(numpy.arange(24).reshape(4, 6))
        for part in (array[1:], array[:, 1:3], array[::-1], array.T, array[2, 3], array[:0]):
            shmdev.save(self.path("a.npy"), part, sync=True)
            numpy.testing.assert_array_equal(numpy.load(self.path("a.npy")), part)
            shmdev.tofile(part, self.path("a.raw"), sync=True)
            with open(self.path("a.raw"), "rb") as file:
                self.assertEqual(file.read(), numpy.asarray(part).tobytes())

    def test_others(self):
        shmdev.save(self.path("a.npy"), shmdev.RawArray("i", [1, 2, 3]))
        self.assertEqual(numpy.load(self.path("a.npy")).tolist(), [1, 2, 3])
        shmdev.save(self.path("a.npy"), [[1.5], [2]])
        self.assertEqual(numpy.load(self.path("a.npy")).tolist(), [[1.5], [2]])

    def test_mode_and_links(self):
        before = os.umask(0o027)
        try:
            shmdev.save(self.path("a.npy"), [1])
        finally:
            os.umask(before)
        self.assertEqual(stat.S_IMODE(os.stat(self.path("a.npy")).st_mode), 0o640)
        os.chmod(self.path("a.npy"), 0o604)
        os.symlink("a.npy", self.path("link.npy"))
        shmdev.save(self.path("link.npy"), [2])
        self.assertTrue(os.path.islink(self.path("link.npy")))
        self.assertEqual(stat.S_IMODE(os.stat(self.path("a.npy")).st_mode), 0o604)
        self.assertEqual(numpy.load(self.path("a.npy")).tolist(), [2])

    def test_errors(self):
        self.assertRaises(FileNotFoundError, shmdev.save, self.path("none/a.npy"), [1])
        os.mkdir(self.path("folder.npy"))
        self.assertRaises(IsADirectoryError, shmdev.save, self.path("folder.npy"), [1])
        self.assertRaises(ValueError, shmdev.tofile, [1], "/dev/null")
        self.assertRaises(TypeError, shmdev.tofile, [1], 1)

    def test_full(self):
        """A limit on the size of files: the error is that of the write, the old file stays."""
        for array in (shmdev.zeros(1 << 20, "u1"), numpy.zeros(1 << 20, "u1")):
            shmdev.save(self.path("a.npy"), [1])
            before = resource.getrlimit(resource.RLIMIT_FSIZE)
            handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, before[1]))
            try:
                with self.assertRaises(OSError) as caught:
                    shmdev.save(self.path("a.npy"), array)
            finally:
                resource.setrlimit(resource.RLIMIT_FSIZE, before)
                signal.signal(signal.SIGXFSZ, handler)
            self.assertEqual(caught.exception.errno, errno.EFBIG)
            self.assertEqual(os.listdir(self.directory.name), ["a.npy"])
            self.assertEqual(numpy.load(self.path("a.npy")).tolist(), [1])


class WithoutNumpy(unittest.TestCase):
    def test_import(self):
        program = "import sys, shmdev; sys.exit('numpy' in sys.modules)"
        subprocess.run([sys.executable, "-c", program], check=True,
                       env=dict(os.environ, PYTHONPATH=os.pathsep.join(sys.path)))


if __name__ == "__main__":
    tap.main()
