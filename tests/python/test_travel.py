# SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
"""export, attach, seal and by_value; processes that may not have what was sent."""

import ctypes
import errno
import gc
import importlib.util
import os
import pickle
import subprocess
import sys
import unittest

import tap
import shmdev
from shmdev import RawArray, RawValue

TIMEOUT = 60
HAS_NUMPY = importlib.util.find_spec("numpy") is not None
LARGE = 3 << 20
TEXT = r"shmdev1-[0-9a-f]+\.[A-Za-z0-9_=-]+"

CLONE_NEWNS = 0x20000
MS_REC, MS_PRIVATE = 0x4000, 1 << 18
NOBODY = 65534


class Point(ctypes.Structure):
    _fields_ = [("x", ctypes.c_int)]


def run(code, *arguments):
    """What another interpreter prints that knows nothing of us."""
    where = os.path.dirname(os.path.dirname(os.path.abspath(shmdev.__file__)))
    done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True,
                          env={**os.environ, "PYTHONPATH": where}, timeout=TIMEOUT)
    if done.returncode:
        raise AssertionError(done.stderr)
    return done.stdout.strip()


def in_child(function):
    """What function returns, a text, in a child of a fork."""
    read, write = os.pipe()
    sys.stdout.flush()
    pid = os.fork()
    if not pid:
        try:
            text = str(function())
        except BaseException as error:
            text = f"{type(error).__name__}: {error}"
        os.write(write, text.encode())
        os._exit(0)
    os.close(write)
    with open(read, encoding="utf-8") as file:
        text = file.read()
    os.waitpid(pid, 0)
    return text


def fork_and_load(prepare, load):
    """load(), in a process that has nothing of this one mapped, after prepare()."""
    where = os.path.dirname(os.path.dirname(os.path.abspath(shmdev.__file__)))
    here = os.path.dirname(os.path.abspath(__file__))
    code = f"""
import sys
sys.path[:0] = [{where!r}, {here!r}]
import shmdev, test_travel
# Whoever it becomes may not be able to read these.
import multiprocessing.synchronize, shmdev._sharing
print(test_travel.guarded({prepare!r}, {load!r}))
"""
    return run(code)


def guarded(prepare, load):
    try:
        exec(prepare, globals())
        return eval(load, globals())
    except BaseException as error:
        return f"{type(error).__name__}({getattr(error, 'errno', None)}): {error}"


class Texts(unittest.TestCase):
    """export() and attach()."""

    def test_arrays(self):
        for array in (RawArray("i", [1, 2, 3]), RawArray("d", [0.5]), RawArray("c", b"abc"),
                      RawArray("q", LARGE // 8), RawArray("i", 0),
                      RawArray(ctypes.c_int * 2, [(1, 2), (3, 4)]), RawValue("i", 5)):
            text = shmdev.export(array)
            self.assertRegex(text, f"^{TEXT}$")
            again = shmdev.attach(text)
            self.assertRaisesRegex(TypeError, "not bytes", shmdev.attach, text.encode())
            self.assertIs(type(again), type(array))
            self.assertEqual(ctypes.addressof(again), ctypes.addressof(array))

    def test_another_process(self):
        array = RawArray("i", [1, 2, 3])
        text = shmdev.export(array)
        self.assertEqual(run("import shmdev, sys\n"
                             "a = shmdev.attach(sys.argv[1])\n"
                             "a[1] = 20\n"
                             "print(list(a), type(a).__name__)", text), "[1, 20, 3] c_int_Array_3")
        self.assertEqual(array[1], 20)

    def test_exporter_ends(self):
        """What was attached stays."""
        code = ("import shmdev, sys\n"
                "a = shmdev.RawArray('i', [5] * 1000000)\n"
                "print(shmdev.export(a), flush=True)\n"
                "sys.stdin.read()\n")
        where = os.path.dirname(os.path.dirname(os.path.abspath(shmdev.__file__)))
        exporter = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE,
                                    stdout=subprocess.PIPE, text=True,
                                    env={**os.environ, "PYTHONPATH": where})
        text = exporter.stdout.readline().strip()
        array = shmdev.attach(text)
        exporter.kill()
        exporter.wait(TIMEOUT)
        exporter.stdin.close()
        exporter.stdout.close()
        self.assertEqual(set(array), {5})
        self.assertEqual(ctypes.addressof(shmdev.attach(text)), ctypes.addressof(array))
        del array
        gc.collect()
        with self.assertRaisesRegex(FileNotFoundError, "the shared memory is gone"):
            shmdev.attach(text)

    def test_views(self):
        array = RawArray("i", range(10))
        part = memoryview(array).cast("B")[8:16]
        attached = shmdev.attach(shmdev.export(part))
        self.assertEqual(attached.tobytes(), part.tobytes())
        attached[0] = 99
        self.assertEqual(array[2], 99)
        with self.assertRaisesRegex(TypeError, "contiguous"):
            shmdev.export(memoryview(array).cast("B")[::2])

    def test_readonly(self):
        array = RawArray("i", [1, 2, 3])
        text = shmdev.export(array)
        view = shmdev.attach(text, readonly=True)
        self.assertEqual((view.format, view.readonly, view.tolist()), ("i", True, [1, 2, 3]))
        array[0] = 7
        self.assertEqual(view[0], 7)
        with self.assertRaises(TypeError):
            view[0] = 1
        # It is no matter of Python: the mapping cannot be written, by the kernel neither.
        libc = ctypes.CDLL(None, use_errno=True)
        with open("/dev/zero", "rb") as zero:
            for made, result in ((array, 1), (view, -1)):
                address = ctypes.c_void_p(shmdev._shmdev.address(made))
                self.assertEqual(libc.read(zero.fileno(), address, ctypes.c_size_t(1)), result)
        self.assertEqual((ctypes.get_errno(), array[0]), (errno.EFAULT, 0))

    def test_wrong_texts(self):
        good = shmdev.export(RawArray("i", 3))
        handle, _, packed = good.partition(".")
        for text in ("", "x", handle, f"{handle}.", f"{handle}.AAAA", f".{packed}", good[1:],
                     good.replace("shmdev1", "shmdevx"), f"{handle}.{packed}!", "ä.ö"):
            self.assertRaises(ValueError, shmdev.attach, text)
        for text in (5, None, b"abc"):
            self.assertRaises((TypeError, AttributeError), shmdev.attach, text)
        with self.assertRaisesRegex(ValueError, "later version"):
            shmdev.attach(good.replace("shmdev1-", "shmdev2-", 1))
        from base64 import urlsafe_b64encode

        keep = RawArray("i", 3)
        handle, _, _ = shmdev.export(keep).partition(".")

        def attach(described):
            return shmdev.attach(f"{handle}.{urlsafe_b64encode(described).decode()}")

        self.assertEqual(len(attach(b'{"v":1,"k":"bytes","n":5}')), 5)
        for described in (b'{"v":2}', b'{"v":1,"k":"other"}'):
            with self.assertRaisesRegex(ValueError, "later version"):
                attach(described)
        for described in (b'{"v":1}', b'{"v":1,"k":"data"}', b'{"v":1,"k":"data","t":"y","n":1}',
                          b'{"v":1,"k":"data","t":"i","n":"x"}', b"[]", b"5", b"{",
                          b'{"v":1,"k":"data","t":"i","n":99999999}',
                          b'{"v":1,"k":"data","t":"i","n":-1}', b'{"v":1,"k":"bytes","n":"x"}'):
            with self.assertRaises(ValueError):
                attach(described)

    def test_what_has_no_text(self):
        with self.assertRaisesRegex(TypeError, "memoryview"):
            shmdev.export(RawArray(Point, 3))
        for private in ((ctypes.c_int * 3)(), bytearray(8), type(RawArray("i", 3))()):
            with self.assertRaisesRegex(TypeError, "not in shared memory"):
                shmdev.export(private)
        self.assertRaises(TypeError, shmdev.export, 5)

    @unittest.skipUnless(HAS_NUMPY, "no numpy for this interpreter")
    def test_numpy(self):
        import numpy

        base = shmdev.arange(60, dtype="i4").reshape(5, 12)
        record = shmdev.zeros(3, [("a", "i4"), ("b", "f8", (2,)), ("c", [("d", "u1")])])
        for array in (base, base[::2, 1::3], base[::-1, ::-2], base.T, base.view(">u2"), record,
                      shmdev.array(7), shmdev.zeros(4, "S5"), shmdev.zeros(4, "M8[s]")):
            with self.subTest(array=array):
                again = shmdev.attach(shmdev.export(array))
                self.assertIs(type(again), shmdev.ndarray)
                self.assertEqual((again.dtype, again.shape, again.strides),
                                 (array.dtype, array.shape, array.strides))
                self.assertEqual(again.tobytes(), array.tobytes())
                self.assertTrue(numpy.shares_memory(again, array))
                reader = shmdev.attach(shmdev.export(array), readonly=True)
                self.assertFalse(reader.flags.writeable)
                with self.assertRaises(ValueError):
                    reader.flags.writeable = True
        with self.assertRaisesRegex(TypeError, "not in shared memory"):
            shmdev.export(numpy.zeros(3))
        base[:] = 5
        self.assertEqual(run("import shmdev, sys\nprint(shmdev.attach(sys.argv[1]).sum())",
                             shmdev.export(base[::2, 1::3])), "60")


class Seals(unittest.TestCase):
    def test_array(self):
        array = RawArray("i", LARGE // 4)
        array[5] = 6
        text = shmdev.export(array)
        sealed = shmdev.seal(array)
        self.assertTrue(sealed.readonly)
        self.assertEqual((sealed[5], len(sealed)), (6, LARGE // 4))
        array[6] = 7    # who has it can
        self.assertEqual(sealed[6], 7)
        attach = "import shmdev, sys\nprint(shmdev.attach(sys.argv[1], bool(sys.argv[2]))[5])"
        self.assertEqual(run(attach, text, "readonly"), "6")
        with self.assertRaisesRegex(AssertionError, "PermissionError.*sealed against writing"):
            run(attach, text, "")

    def test_small(self):
        with self.assertRaises(PermissionError):
            shmdev.seal(RawArray("i", 3))
        with self.assertRaisesRegex(TypeError, "not in shared memory"):
            shmdev.seal(bytearray(10))

    @unittest.skipUnless(HAS_NUMPY, "no numpy for this interpreter")
    def test_numpy(self):
        sealed = shmdev.seal(shmdev.full(LARGE // 8, 1.5))
        self.assertFalse(sealed.flags.writeable)
        with self.assertRaises(ValueError):
            sealed[0] = 1
        again = pickle.loads(pickle.dumps(sealed))
        self.assertFalse(again.flags.writeable)
        self.assertEqual(again.sum(), LARGE // 8 * 1.5)


class Values(unittest.TestCase):
    """by_value()."""

    def test_data(self):
        for array in (RawArray("i", [1, 2, 3]), RawArray(Point, 4), RawValue("d", 1.5),
                      RawArray("i", 0)):
            for protocol in range(2, 6):
                again = pickle.loads(pickle.dumps(shmdev.by_value(array), protocol))
                self.assertIs(type(again), type(array))
                self.assertEqual(bytes(again), bytes(array))
                shmdev._shmdev.region_locate(ctypes.addressof(again))
                ctypes.memset(ctypes.addressof(again), 1, ctypes.sizeof(again))
                self.assertEqual(bytes(array), bytes(array).replace(b"\1" * 100, b""))

    def test_out_of_band(self):
        array = RawArray("i", range(100_000))
        buffers = []
        data = pickle.dumps(shmdev.by_value(array), 5, buffer_callback=buffers.append)
        self.assertLess(len(data), 1000)
        self.assertEqual(sum(one.raw().nbytes for one in buffers), 400_000)
        again = pickle.loads(data, buffers=[bytes(one.raw()) for one in buffers])
        self.assertEqual(bytes(again), bytes(array))
        self.assertNotEqual(ctypes.addressof(again), ctypes.addressof(array))

    def test_names_have_no_buffers(self):
        """What travels as a name has nothing to be sent beside it."""
        buffers = []
        pickle.dumps(RawArray("i", 1000), 5, buffer_callback=buffers.append)
        self.assertEqual(buffers, [])

    @unittest.skipUnless(HAS_NUMPY, "no numpy for this interpreter")
    def test_numpy(self):
        import numpy

        array = shmdev.arange(12.0).reshape(3, 4)[::2]
        again = pickle.loads(pickle.dumps(shmdev.by_value(array)))
        self.assertIs(type(again), shmdev.ndarray)
        self.assertEqual(again.tolist(), array.tolist())
        self.assertFalse(numpy.shares_memory(again, array))
        shmdev.export(again)
        buffers = []
        whole = shmdev.ones(1000)
        pickle.dumps(shmdev.by_value(whole), 5, buffer_callback=buffers.append)
        self.assertEqual([one.raw().nbytes for one in buffers], [8000])


@unittest.skipIf(os.geteuid(), "needs root, to be others")
class Others(unittest.TestCase):
    def setUp(self):
        self.array = RawArray("i", [42] * (LARGE // 4))
        self.backend = shmdev.info().backend
        self.load = f"__import__('pickle').loads({pickle.dumps(self.array)!r})[0]"
        self.attach = f"shmdev.attach({shmdev.export(self.array)!r})[0]"

    def test_this_user(self):
        for load in self.load, self.attach:
            self.assertEqual(fork_and_load("pass", load), "42")

    def test_another_user(self):
        become = f"os.setgroups([]); os.setgid({NOBODY}); os.setuid({NOBODY})"
        for load in self.load, self.attach:
            said = fork_and_load(become, load)
            self.assertRegex(said, rf"^PermissionError\({errno.EACCES}\): .*another user's")

    def test_another_user_has_the_bytes(self):
        """by_value(), where the reference is refused; a text has no such way."""
        become = ("os.environ.pop('SHMDEV_BACKEND', None)      # what that user may have\n"
                  f"os.setgroups([]); os.setgid({NOBODY}); os.setuid({NOBODY})")
        data = pickle.dumps(shmdev.by_value(RawArray("i", [42, 7])))
        self.assertEqual(
            fork_and_load(become, f"list(__import__('pickle').loads({data!r}))"), "[42, 7]")

    def test_sender_without_proc(self):
        """Memory is to be had there, but a memfd has no name for others."""
        leave = (f"libc = ctypes.CDLL(None, use_errno=True)\n"
                 f"assert not libc.unshare({CLONE_NEWNS}), 'no namespace'\n"
                 f"assert not libc.mount(b'none', b'/', None, {MS_REC | MS_PRIVATE}, None)\n"
                 "assert not libc.mount(b'none', b'/proc', b'tmpfs', 0, None)\n"
                 "array = RawArray('i', [42] * 1000000)\n")
        self.assertIn(fork_and_load(leave, "array[999999]"), ("42", "AssertionError(None): no namespace"))
        again = "__import__('pickle').loads(__import__('pickle').dumps({}))[5]"
        said = fork_and_load(leave, again.format("array"))
        if "no namespace" in said:
            self.skipTest(said)
        if self.backend == "device":
            self.assertEqual(said, "42")
        else:
            self.assertRegex(said, rf"^OSError\({errno.EOPNOTSUPP}\): .*there is no /proc.*by_value")
        self.assertEqual(fork_and_load(leave, again.format("shmdev.by_value(array)")), "42")

    def test_another_mount_namespace(self):
        leave = (f"libc = ctypes.CDLL(None, use_errno=True)\n"
                 f"assert not libc.unshare({CLONE_NEWNS}), 'no namespace'\n"
                 f"assert not libc.mount(b'none', b'/', None, {MS_REC | MS_PRIVATE}, None)\n")
        for load in self.load, self.attach:
            said = fork_and_load(leave, load)
            if "no namespace" in said:
                self.skipTest(said)
            self.assertEqual(said, "42")
        # And without /proc, where it was mounted.
        for load in self.load, self.attach:
            said = fork_and_load(
                leave + "assert not libc.mount(b'none', b'/proc', b'tmpfs', 0, None)\n", load)
            if self.backend == "device":
                self.assertEqual(said, "42")
            else:
                self.assertRegex(said, rf"^OSError\({errno.EOPNOTSUPP}\): .*there is no /proc")

    def test_another_machine(self):
        """Or an earlier time of this one: the handle knows another boot."""
        with open("/proc/sys/kernel/random/boot_id") as file:
            boot = bytes.fromhex(file.read().strip().replace("-", ""))
        data = pickle.dumps(self.array)
        self.assertIn(boot, data)
        other = data.replace(boot, bytes(reversed(boot)))
        with self.assertRaisesRegex(OSError, r"another machine.*by_value") as caught:
            pickle.loads(other)
        self.assertEqual(caught.exception.errno, errno.EXDEV)


if __name__ == "__main__":
    tap.main()
