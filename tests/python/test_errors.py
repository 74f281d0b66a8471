# SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
"""What is said when it cannot be done, and what the machine is said to offer."""

import errno
import os
import resource
import subprocess
import sys
import unittest

import tap
import shmdev

BACKENDS = ["device", "hugetlb", "thp", "memfd"]


def run(code, backend=None, **limits):
    """Run code in an interpreter of its own and return what it printed."""
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
    env.pop("SHMDEV_BACKEND", None)
    if backend is not None:
        env["SHMDEV_BACKEND"] = backend

    def limit():
        for name, value in limits.items():
            resource.setrlimit(getattr(resource, name), (value, value))

    done = subprocess.run([sys.executable, "-c", "import shmdev, ctypes, os\n" + code], env=env,
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                          preexec_fn=limit, timeout=120)
    if done.returncode:
        raise AssertionError(f"exit status {done.returncode}: {done.stdout}{done.stderr}")
    return done.stdout.strip()


TRY = """
try:
    shmdev.{call}
except OSError as error:
    print(error.errno, error.strerror)
except MemoryError as error:
    print(12, error)
"""


class Backends(unittest.TestCase):
    def test_bad_name(self):
        for call in ("RawArray('i', 5)", "RawArray('i', [1])", "RawValue('i')", "info()"):
            for name in ("nonsense", "Device", "memfd ", "hugetlb,thp"):
                with self.subTest(call=call, name=name):
                    number, _, text = run(TRY.format(call=call), name).partition(" ")
                    self.assertEqual(int(number), errno.EINVAL)
                    self.assertIn(f"SHMDEV_BACKEND is '{name}'", text)

    def test_import_needs_no_backend(self):
        self.assertEqual(run("print(shmdev.__version__)", "nonsense"), shmdev.__version__)

    @unittest.skipIf(os.path.exists("/dev/shmdev"), "the module is loaded")
    def test_module_is_missing(self):
        for call in ("RawArray('i', 5)", "RawArray('i', [1])", "RawValue('i')", "info()"):
            with self.subTest(call=call):
                number, _, text = run(TRY.format(call=call), "device").partition(" ")
                self.assertIn(int(number), (errno.ENOENT, errno.ENODEV, errno.ENXIO))
                self.assertIn("/dev/shmdev", text)
        reason = shmdev._shmdev.probe()[0]
        self.assertEqual(reason[0], "device")
        if not os.environ.get("SHMDEV_BACKEND"):
            self.assertIn("insmod", reason[2])

    def test_forced_backends(self):
        """Each backend that is there serves, and names itself."""
        for name, err, _ in eval(run("print(shmdev._shmdev.probe())")):
            with self.subTest(backend=name):
                if err:
                    number, _, text = run(TRY.format(call="RawArray('i', 5)"), name).partition(" ")
                    self.assertGreater(int(number), 0)
                    self.assertRegex(text, r"^shm_alloc\(20\): .+: .+", "no reason is given")
                else:
                    code = """
a = shmdev.RawArray("i", range(1000))
region, _ = shmdev._shmdev.region_locate(ctypes.addressof(a))
assert list(a) == list(range(1000))
print(shmdev.info().backend, region.backend)
"""
                    self.assertEqual(run(code, name), f"{name} {name}")

    def test_no_descriptor_left(self):
        code = """
first = shmdev.RawArray("i", 1)
held = []
try:
    while True:
        held.append(os.open("/dev/null", os.O_RDONLY))
except OSError:
    pass
try:
    shmdev.RawArray("b", 64 << 20)
except OSError as error:
    print(error.errno)
held.clear()
shmdev.RawArray("i", 1)[0] = 5
"""
        number = run(code, shmdev.info().backend, RLIMIT_NOFILE=64)
        self.assertEqual(int(number), errno.EMFILE)

    def test_no_memory(self):
        code = """
first = shmdev.RawArray("i", 1)
try:
    shmdev.RawArray("b", 1 << 38)
except MemoryError as error:
    print(error)
shmdev.RawArray("i", 1)[0] = 5
"""
        said = run(code, shmdev.info().backend, RLIMIT_AS=8 << 30)
        self.assertIn(f"shm_alloc({1 << 38}): Cannot allocate memory", said)


class Information(unittest.TestCase):
    def test_info(self):
        a = shmdev.RawArray("i", 1000)
        info = shmdev.info()
        self.assertIn(info.backend, BACKENDS)
        forced = os.environ.get("SHMDEV_BACKEND")
        if forced:
            self.assertEqual(info.backend, forced)
        self.assertIn(info.fill_engine, ("fixed", "ring", "preadv"))
        self.assertEqual(info.page_size & (info.page_size - 1), 0)
        self.assertGreaterEqual(info.page_size, 4096)
        if info.backend in ("device", "hugetlb"):
            self.assertGreater(info.page_size, 4096)
        self.assertGreaterEqual(info.regions, 1)
        self.assertGreaterEqual(info.region_bytes, info.block_bytes)
        self.assertGreaterEqual(info.blocks, 1)
        self.assertGreaterEqual(info.block_bytes, 4000)
        self.assertEqual(list(info.unavailable), BACKENDS[: BACKENDS.index(info.backend)])
        for reason in info.unavailable.values():
            self.assertRegex(reason, r"\w+ \w+")
        with self.assertRaises(AttributeError):
            info.backend = "other"
        del a

    def test_makes_no_region(self):
        self.assertEqual(run("print(shmdev.info().regions, shmdev.info().blocks)"), "0 0")

    def test_docstrings(self):
        for name in shmdev.__all__:
            if not name.startswith("_"):
                self.assertRegex(getattr(shmdev, name).__doc__, r"\w+")
        for name in ("RawArray", "RawValue", "fill", "fill_batch", "info"):
            self.assertIn("New in version 0.1", getattr(shmdev, name).__doc__)


if __name__ == "__main__":
    tap.main()
