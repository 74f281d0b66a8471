# SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
"""Which test programs there are, and which of them T= means.

A test has a name of four parts, <where>/<suite>/<program>/<test>:
host-thp/lib/heap/reuse_is_zero, vm-6.1/kselftest/region/pmd_mapped.
"""

import fnmatch
import glob
import os
import re
from collections import namedtuple

# name: without the directory and what all have in common; source: where it is written;
# arguments: to run it; target: for make, what must be there first.
Program = namedtuple('Program', 'suite name source arguments target')

SUITES = ('kselftest', 'lib', 'python')

_MAIN = re.compile(r'\bmain\(|^(TEST_HARNESS|TAP)_MAIN', re.M)


def path(where, program):
    return f'{where}/{program.suite}/{program.name}'


def source_read(program):
    with open(program.source, encoding='utf-8') as file:
        return file.read()


def _name(source):
    return os.path.splitext(os.path.basename(source))[0].removeprefix('test_')


def _built(suite, build):
    for source in sorted(glob.glob(f'tests/{suite}/*.c') + glob.glob(f'tests/{suite}/*.sh')):
        binary = f'{build}/tests/{suite}/{os.path.splitext(os.path.basename(source))[0]}'
        program = Program(suite, _name(source), source, [binary], binary)
        if source.endswith('.sh') or _MAIN.search(source_read(program)):
            yield program


def programs(suite, build, python):
    """Those of a suite.  What they are follows from the sources: a program that should
    have been built and was not is missed, one whose source is gone is not run."""
    if suite == 'python':
        return [Program(suite, _name(source), source, [python, source], 'python')
                for source in sorted(glob.glob('tests/python/test_*.py'))]
    return list(_built(suite, build))


# --- T= -------------------------------------------------------------------------------

def matches(pattern, name):
    return fnmatch.fnmatchcase(name, f'*{pattern}*')


class Selection:
    """What T= chose: whole programs, or single tests in programs."""

    def __init__(self, pattern, candidates):
        """@candidates: (where, Program) of all there are."""
        self.pattern = pattern
        self.chosen = [(where, program) for where, program in candidates
                       if matches(pattern, path(where, program) + '/')]
        self.whole = bool(self.chosen)
        if not self.whole:
            self.chosen = [(where, program) for where, program in candidates
                           if self._may_hold(where, program)]

    def _may_hold(self, where, program):
        """Whether the source has what the last part of the pattern is made of."""
        head, _, tail = self.pattern.rpartition('/')
        if head and not fnmatch.fnmatchcase(path(where, program), f'*{head}'):
            return False
        pieces = [piece for piece in re.split(r'\W+', tail) if piece]
        source = source_read(program)
        return bool(pieces) and all(piece in source for piece in pieces)

    def programs(self, where):
        return [program for at, program in self.chosen if at == where]

    def wants(self, where, program, test):
        """Whether a test counts; what a program does as a whole ('') always does."""
        return self.whole or not test or matches(self.pattern, f'{path(where, program)}/{test}')
