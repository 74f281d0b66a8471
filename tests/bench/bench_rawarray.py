#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
"""RawArray from data, assigned by slice, and allocated alone, beside multiprocessing."""

import ctypes
import multiprocessing

import numpy
import shmdev

import pool
from harness import Case, Report

SIZES = (100_000, 25_000_000)

# Arrays from here on have regions of their own.
ALONE = 1 << 20


def check(array, expected, what):
    """Every element, and not by a fast path of ours."""
    got = numpy.frombuffer(array, dtype=numpy.int32)
    if not numpy.array_equal(got, expected):
        raise AssertionError(f'{what}: elements differ')
    return len(got)


def measure(report, n):
    """Measure and check arrays of n items; return how many elements were compared."""
    source = numpy.random.default_rng(n).integers(-2**31, 2**31, n, dtype=numpy.int64)
    expected = source.astype(numpy.int32)
    checked = 0
    # In a loop, large arrays outrun the pool: both are told, a full pool and an outrun one.
    outruns = shmdev.info().backend == 'device' and expected.nbytes > ALONE
    full = {'before': pool.wait_until_full} if outruns else {}

    report.group(f'RawArray(c_int, ndarray of {n:,} int64)', [
        Case('multiprocessing', lambda: multiprocessing.RawArray(ctypes.c_int, source)),
        Case('shmdev', lambda: shmdev.RawArray(ctypes.c_int, source), **full),
        Case('x.astype(int32)', lambda: source.astype(numpy.int32), note='the limit, private'),
    ])
    ours = shmdev.RawArray(ctypes.c_int, source)
    checked += check(ours, expected, 'constructor')

    theirs = multiprocessing.RawArray(ctypes.c_int, n)
    private = numpy.empty(n, dtype=numpy.int32)

    def assign(array):
        array[:] = source

    ctypes.memset(ours, 0, ctypes.sizeof(ours))
    report.group(f'a[:] = ndarray of {n:,} int64', [
        Case('multiprocessing', lambda: assign(theirs)),
        Case('shmdev', lambda: assign(ours)),
        Case('numpy.copyto', lambda: numpy.copyto(private, source, casting='unsafe'),
             note='the limit, private'),
    ])
    checked += check(ours, expected, 'slice') + check(theirs, expected, 'slice of multiprocessing')

    report.group(f'RawArray(c_int, {n:,}), zeroed and not touched', [
        Case('multiprocessing', lambda: multiprocessing.RawArray(ctypes.c_int, n)),
        Case('shmdev', lambda: shmdev.RawArray(ctypes.c_int, n), **full),
    ] + ([Case('shmdev, pool outrun', lambda: shmdev.RawArray(ctypes.c_int, n))] if outruns else []))

    def touch(array):
        numpy.frombuffer(array, dtype=numpy.int32).fill(1)

    report.group(f'RawArray(c_int, {n:,}), then every element written', [
        Case('multiprocessing', lambda: touch(multiprocessing.RawArray(ctypes.c_int, n))),
        Case('shmdev', lambda: touch(shmdev.RawArray(ctypes.c_int, n)), **full),
    ])
    checked += check(shmdev.RawArray(ctypes.c_int, n), numpy.zeros(n, numpy.int32), 'zeroed')
    return checked


def measure_lists(report, n):
    source = list(range(n))
    report.group(f'RawArray(c_int, list of {n:,})', [
        Case('multiprocessing', lambda: multiprocessing.RawArray(ctypes.c_int, source)),
        Case('shmdev', lambda: shmdev.RawArray(ctypes.c_int, source)),
    ])
    return check(shmdev.RawArray(ctypes.c_int, source), numpy.arange(n, dtype=numpy.int32), 'list')


def main():
    report = Report('RawArray', backend=shmdev.info().backend)
    for n in SIZES:
        measure(report, n)
    measure_lists(report, SIZES[0])
    return report


if __name__ == '__main__':
    main().save('build/bench', 'rawarray')
