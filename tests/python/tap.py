# SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
"""Run the unittest cases of the main module and print TAP on stdout.

A test file ends with tap.main(); it takes the arguments of unittest, such as
-k pattern.  Without PYTHONPATH the package of ./build is tested.
"""

import gc
import importlib
import importlib.util
import itertools
import os
import sys
import unittest
import weakref

if importlib.util.find_spec("shmdev") is None:
    _top = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    sys.path.append(os.path.join(_top, os.environ.get("O", "build"), "python"))

# What does not hang on where the memory comes from is tested in full on the plainest
# backend; on the others, which a slow guest may have to run, a part of it will do.
THOROUGH = os.environ.get("SHMDEV_BACKEND", "memfd") == "memfd"


def skip_where_classes_stay(test):
    """Python 3.13 without a GIL keeps all classes, once it had a second thread."""
    ref = weakref.ref(type("Gone", (), {}))
    gc.collect()
    if ref() is not None:
        test.skipTest("this interpreter frees no class")


def extra(name):
    """A module that not everybody has, or None; make check-extras has it, or fails."""
    if importlib.util.find_spec(name):
        return importlib.import_module(name)
    if os.environ.get("SHMDEV_EXTRAS"):
        raise ImportError(f"make check-extras should have installed {name}")
    return None


def part_of(cases):
    """All the cases, or each eleventh."""
    return cases if THOROUGH else itertools.islice(cases, 0, None, 11)


class TapResult(unittest.TestResult):
    """One line a test; what failed and why as diagnostics in front of it."""

    def __init__(self, stream):
        super().__init__()
        self._tap = stream
        self.count = 0
        self._diagnostics = []
        self._said = False
        self._failed = False

    def _print(self, text):
        print(text, file=self._tap, flush=True)

    def _say(self, verdict, test, remark=""):
        self._said = True
        for line in self._diagnostics:
            self._print(f"# {line}")
        name = test.id().replace("__main__.", "", 1).replace("#", r"\#")
        self.count += 1
        self._print(f"{verdict} {self.count} {name}{remark}")

    def _explain(self, test, err, what):
        self._diagnostics.append(f"{what}: {test}")
        self._diagnostics += self._exc_info_to_string(err, test).splitlines()

    def say_plan(self):
        self._print(f"1..{self.count}" + ("" if self.count else " # SKIP no test chosen"))

    def startTest(self, test):
        super().startTest(test)
        self._diagnostics = []
        self._said = False
        self._failed = False

    def addSuccess(self, test):
        super().addSuccess(test)
        self._say("ok", test)

    def addError(self, test, err):
        super().addError(test, err)
        self._explain(test, err, "error")
        # Failed setUpClass or setUpModule: there has been no startTest.
        if not isinstance(test, unittest.TestCase):
            self._say("not ok", test)
            self._diagnostics = []
        self._failed = True

    def addFailure(self, test, err):
        super().addFailure(test, err)
        self._explain(test, err, "failure")
        self._failed = True

    def addSubTest(self, test, subtest, err):
        super().addSubTest(test, subtest, err)
        if err is not None:
            self._explain(subtest, err, "subtest")
            self._failed = True

    def addSkip(self, test, reason):
        super().addSkip(test, reason)
        # A skipped part of a test (its test_case) does not make the test a skip.
        if hasattr(test, "test_case"):
            self._diagnostics.append(f"skipped: {test}: {reason}")
        else:
            self._say("ok", test, f" # SKIP {reason}")

    def addExpectedFailure(self, test, err):
        super().addExpectedFailure(test, err)
        self._explain(test, err, "expected failure")
        self._say("not ok", test, " # TODO expected failure")

    def addUnexpectedSuccess(self, test):
        super().addUnexpectedSuccess(test)
        self._diagnostics.append("succeeded, but is marked as an expected failure")
        self._say("not ok", test)

    def stopTest(self, test):
        super().stopTest(test)
        if not self._said:
            self._say("not ok" if self._failed else "ok", test)
        self._diagnostics = []


class TapRunner:
    def run(self, test):
        result = TapResult(sys.stdout)
        test(result)
        result.say_plan()
        return result


def main():
    # Not by unittest's own exit: that of 3.12.1 takes a file of skipped tests for a failure.
    program = unittest.main(testRunner=TapRunner(), exit=False)
    sys.exit(not program.result.wasSuccessful())
