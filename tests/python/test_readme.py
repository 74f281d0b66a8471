# SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
"""The README's examples run as printed and say what it says."""

import importlib.util
import os
import re
import shutil
import subprocess
import sys
import tempfile
import unittest

import tap
import shmdev

TOP = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
PACKAGES = os.path.dirname(os.path.dirname(os.path.abspath(shmdev.__file__)))
BUILD = os.path.dirname(PACKAGES)


def example(language):
    with open(os.path.join(TOP, "README.md"), encoding="utf-8") as file:
        blocks = re.findall(rf"^```{language}\n(.*?)^```$", file.read(), re.M | re.S)
    assert len(blocks) == 1, f"one example in {language}, found {len(blocks)}"
    return blocks[0]


class TestReadme(unittest.TestCase):
    def setUp(self):
        self.directory = tempfile.mkdtemp()
        self.addCleanup(shutil.rmtree, self.directory)

    def write(self, name, text):
        path = os.path.join(self.directory, name)
        with open(path, "w", encoding="utf-8") as file:
            file.write(text)
        return path

    def run_here(self, *argv):
        done = subprocess.run(argv, cwd=TOP, capture_output=True, text=True, timeout=120,
                              env={**os.environ, "PYTHONPATH": PACKAGES}, check=False)
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        return done.stdout

    def test_python(self):
        if importlib.util.find_spec("numpy") is None:
            self.skipTest("no numpy for this interpreter")
        path = self.write("example.py", example("python"))
        self.assertEqual(self.run_here(sys.executable, path),
                         f"[199994, 199996, 199998] True {shmdev.info().backend}\n")

    def test_c(self):
        if not shutil.which("gcc"):
            self.skipTest("no gcc")
        source = self.write("example.c", example("c"))
        program = os.path.join(self.directory, "example")
        subprocess.run(["gcc", "-Wall", "-Wextra", "-Werror", "-Iinclude", "-o", program, source,
                        os.path.join(BUILD, "lib", "libshmdev.a"), "-luring"], cwd=TOP, check=True)
        size = os.path.getsize(os.path.join(TOP, "README.md"))
        self.assertEqual(self.run_here(program), f"{size} bytes: * shmdev\n")


if __name__ == "__main__":
    tap.main()
