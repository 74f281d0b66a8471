# SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
"""The package's types: mypy --strict over it and over a program, and stubtest."""

import os
import subprocess
import sys
import tempfile
import unittest

import tap
import shmdev
from tap import THOROUGH

HERE = os.path.dirname(os.path.abspath(__file__))
PACKAGES = os.path.dirname(os.path.dirname(os.path.abspath(shmdev.__file__)))


@unittest.skipUnless(THOROUGH, "done where the backend is memfd")
@unittest.skipUnless(tap.extra("mypy"), "no mypy for this interpreter")
class Types(unittest.TestCase):
    def run_module(self, *arguments):
        with tempfile.TemporaryDirectory() as directory:
            done = subprocess.run(
                [sys.executable, "-m", *arguments], cwd=directory, capture_output=True, text=True,
                env={**os.environ, "PYTHONPATH": PACKAGES, "MYPYPATH": PACKAGES,
                     "MYPY_CACHE_DIR": directory}, timeout=170)
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)

    @unittest.skipUnless(tap.extra("distributed"), "no dask.distributed for this interpreter")
    def test_package(self):
        self.run_module("mypy", "--strict", "-p", "shmdev")

    def test_program(self):
        self.run_module("mypy", "--strict", os.path.join(HERE, "typed.py"))

    def test_stub(self):
        with tempfile.NamedTemporaryFile("w", suffix=".txt") as allowed:
            if sys.version_info < (3, 12):
                # Buffers have no methods there.
                allowed.write("shmdev.*\\.__(release_)?buffer__\n")
                allowed.flush()
            self.run_module("mypy.stubtest", "shmdev", "--allowlist", allowed.name)


if __name__ == "__main__":
    tap.main()
