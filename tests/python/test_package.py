# SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
"""The source distribution, the wheel built from it, and what an installed package does."""

import glob
import importlib.metadata
import os
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import tempfile
import unittest
import zipfile

import tap
import shmdev
from tap import THOROUGH

TOP = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
SOURCE = os.path.join(TOP, "lib", "python")

# Of a package in the current directory.
USE = """
import ctypes, io, os, sys, tempfile
sys.path.insert(0, os.getcwd())
import shmdev
assert shmdev.__file__.startswith(os.getcwd()), shmdev.__file__
a = shmdev.RawArray("i", b"abc")
a[::-1] = [1, 2, 3]
assert isinstance(a, ctypes.c_int * 3) and a[:] == [3, 2, 1]
with tempfile.TemporaryFile() as file:
    file.write(bytes(range(12)))
    file.flush()
    assert shmdev.fill(a, file) == 12
assert bytes(a) == bytes(range(12))
with shmdev.Value("i", 4):
    pass
print(shmdev.__version__, shmdev.info().fill_engine, *shmdev._shmdev.kernels())
"""


def python(code, directory):
    env = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run([sys.executable, "-c", code], cwd=directory, env=env,
                          capture_output=True, text=True, timeout=170)
    if done.returncode:
        raise AssertionError(f"{code}: {done.stdout}{done.stderr}")
    return done.stdout.split()


@unittest.skipUnless(THOROUGH, "built where the backend is memfd")
@unittest.skipUnless(shutil.which(os.environ.get("CC", "cc").split()[0]), "no C compiler")
@unittest.skipUnless(os.path.exists(os.path.join(sysconfig.get_path("include"), "Python.h")),
                     "no Python.h")
class Package(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        directory = tempfile.TemporaryDirectory()
        cls.addClassCleanup(directory.cleanup)
        cls.directory = directory.name
        (name,) = python(f"import sys; sys.path.insert(0, {SOURCE!r}); import backend; "
                         f"print(backend.build_sdist({cls.directory!r}))", cls.directory)
        with tarfile.open(os.path.join(cls.directory, name)) as archive:
            cls.names = archive.getnames()
            if hasattr(tarfile, "data_filter"):
                archive.extractall(cls.directory, filter="data")
            else:
                archive.extractall(cls.directory)
        cls.unpacked = os.path.join(cls.directory, name[: -len(".tar.gz")])

    def install(self, change=""):
        """Build a wheel from the unpacked archive and unpack that; where."""
        target = tempfile.mkdtemp(dir=self.directory)
        (name,) = python(f"import sys; sys.path.insert(0, {self.unpacked!r}); import backend\n"
                         f"{change}\nprint(backend.build_wheel({target!r}))", self.unpacked)
        with zipfile.ZipFile(os.path.join(target, name)) as archive:
            self.assertIsNone(archive.testzip())
            archive.extractall(target)
        self.assertRegex(name, rf"^shmdev-{shmdev.__version__}-cp3\d+-cp3\d+[td]?-linux_\w+\.whl$")
        return target

    def test_wheel(self):
        target = self.install()
        version, _, *kernels = python(USE, target)
        self.assertEqual((version, kernels), (shmdev.__version__, shmdev._shmdev.kernels()))
        here = {os.path.basename(name) for name in glob.glob(os.path.join(SOURCE, "shmdev", "*.*"))}
        here.add(f"_shmdev{sysconfig.get_config_var('EXT_SUFFIX')}")
        self.assertEqual(set(os.listdir(os.path.join(target, "shmdev"))) - {"__pycache__"}, here)
        (info,) = glob.glob(os.path.join(target, "*.dist-info"))
        with open(os.path.join(info, "RECORD"), encoding="utf-8") as file:
            recorded = {line.split(",")[0] for line in file}
        self.assertLessEqual({f"shmdev/{name}" for name in here}, recorded)
        found = importlib.metadata.Distribution.at(info)
        self.assertEqual((found.metadata["Name"], found.version), ("shmdev", shmdev.__version__))
        for name in found.files:
            self.assertTrue(os.path.exists(os.path.join(target, name)), name)

    def test_without_liburing(self):
        target = self.install("backend.Compiler.can_link = lambda *_: False")
        self.assertEqual(python(USE, target)[1], "preadv")

    def test_sources_are_all_there(self):
        """What build.mk and backend.py compile are the same files."""
        for pattern, inner in (("lib/*.[ch]", "project/lib"), ("lib/python/src/*.[ch]", "src"),
                               ("lib/python/shmdev/*.py", "shmdev")):
            for path in glob.glob(os.path.join(TOP, pattern)):
                name = f"{os.path.basename(self.unpacked)}/{inner}/{os.path.basename(path)}"
                self.assertIn(name, self.names)


class Page(unittest.TestCase):
    def run_page(self, *arguments, **env):
        path = os.path.dirname(os.path.dirname(shmdev.__file__))
        return subprocess.run([sys.executable, "-m", "shmdev", *arguments],
                              capture_output=True, text=True, timeout=120,
                              env={**os.environ, "PYTHONPATH": path, **env})

    def test_page(self):
        done = self.run_page()
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        info = shmdev.info()
        for text in (f"shmdev {shmdev.__version__}", f"in use: {info.backend}", info.fill_engine,
                     *info.unavailable.values(), *shmdev._shmdev.kernels()):
            self.assertIn(text, done.stdout)

    def test_no_backend(self):
        done = self.run_page(SHMDEV_BACKEND="nonsense")
        self.assertEqual((done.returncode, done.stderr), (1, ""))
        self.assertIn("no memory to be had", done.stdout)

    def test_no_memory(self):
        with open("/proc/sys/vm/nr_hugepages", encoding="ascii") as file:
            if int(file.read()):
                self.skipTest("there are huge pages")
        done = self.run_page(SHMDEV_BACKEND="hugetlb")
        self.assertEqual((done.returncode, done.stderr), (1, ""))
        self.assertIn("no memory to be had", done.stdout)

    def test_arguments(self):
        done = self.run_page("--help")
        self.assertEqual((done.returncode, done.stdout), (2, ""))
        self.assertIn("usage", done.stderr)


if __name__ == "__main__":
    tap.main()
