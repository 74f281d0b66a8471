#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
"""Arrays of 1 to 10^8 items, by pair of types, beside multiprocessing, numpy, array.array.

Six pairs of types go through all lengths; all pairs there are, through some of them,
as a table of how long ours takes in times of numpy's.

An argument is the largest length (10^8 takes 1.5 GB and some minutes).
"""

import array
import ctypes
import multiprocessing
import sys

import numpy
import shmdev

from harness import Case, Report, measure

LARGEST = 10**8

# What multiprocessing needs minutes or many times the memory for is not asked of it.
STOCK_LARGEST = 10**6
LIST_LARGEST = 10**7

PAIRS = (("int64", ctypes.c_int), ("int32", ctypes.c_int), ("float64", ctypes.c_double),
         ("float64", ctypes.c_float), ("uint8", ctypes.c_int), (">i4", ctypes.c_int))

QUICK = {"max_samples": 21, "budget": 0.4}

# All pairs: what can be stored as what without a TypeError.
SOURCES = ("?", "i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8", "f2", "f4", "f8", "g", ">i4", ">f8")
TARGETS = (ctypes.c_bool, ctypes.c_byte, ctypes.c_ubyte, ctypes.c_short, ctypes.c_ushort,
           ctypes.c_int, ctypes.c_uint, ctypes.c_long, ctypes.c_ulong, ctypes.c_float,
           ctypes.c_double, ctypes.c_longdouble)
ALL_PAIRS_LENGTHS = (1, 10**3, 10**6)
BRIEF = {"max_samples": 7, "budget": 0.05}


def equal(a, expected):
    if not numpy.array_equal(numpy.frombuffer(a, expected.dtype), expected):
        raise AssertionError("items differ")


def assign(array_, source):
    array_[:] = source


def measure_pair(report, n, dtype, ctype):
    source = (numpy.arange(n) % 251).astype(dtype)
    target = numpy.dtype(ctype)
    title = f"{n:,} {dtype} to {ctype.__name__}"
    with_stock = n <= STOCK_LARGEST

    report.group(f"construct: {title}", [
        Case("shmdev", lambda: shmdev.RawArray(ctype, source)),
        Case("x.astype", lambda: source.astype(target)),
    ] + ([Case("multiprocessing", lambda: multiprocessing.RawArray(ctype, source))]
         if with_stock else []), reference="x.astype", **QUICK)
    ours, private = shmdev.RawArray(ctype, source), numpy.empty(n, target)
    equal(ours, source.astype(target))

    ctypes.memset(ours, 0, ctypes.sizeof(ours))
    cases = [Case("shmdev", lambda: assign(ours, source)),
             Case("numpy.copyto", lambda: numpy.copyto(private, source, casting="unsafe"))]
    if with_stock:
        stock = multiprocessing.RawArray(ctype, n)
        cases.append(Case("multiprocessing", lambda: assign(stock, source)))
    report.group(f"a[:] = x: {title}", cases, reference="numpy.copyto", **QUICK)
    equal(ours, source.astype(target))


def measure_length(report, n):
    report.group(f"allocate only: {n:,} c_int", [
        Case("shmdev", lambda: shmdev.RawArray("i", n)),
        Case("numpy.zeros", lambda: numpy.zeros(n, "i4")),
        Case("multiprocessing", lambda: multiprocessing.RawArray("i", n)),
    ], reference="multiprocessing", **QUICK)
    if n > LIST_LARGEST:
        return
    source = list(range(n))
    report.group(f"construct from a list: {n:,} c_int", [
        Case("shmdev", lambda: shmdev.RawArray("i", source)),
        Case("array.array", lambda: array.array("i", source)),
        Case("numpy.array", lambda: numpy.array(source, "i4")),
    ] + ([Case("multiprocessing", lambda: multiprocessing.RawArray("i", source))]
         if n <= STOCK_LARGEST else []), reference="array.array", **QUICK)
    ours, plain = shmdev.RawArray("i", source), (ctypes.c_int * n)(*source)
    report.group(f"a[:] read: {n:,} c_int", [
        Case("shmdev", lambda: ours[:]),
        Case("ctypes", lambda: plain[:]),
        Case("a.memoryview().tolist()", lambda: ours.memoryview().tolist()),
    ], reference="ctypes", **QUICK)


def is_defined(source, target):
    """Whether ctypes has it: no float, and no bool of numpy's, becomes an integer."""
    kind = numpy.dtype(source).kind
    return kind in "iu" or numpy.dtype(target).kind not in "iu"


def measure_all_pairs(report, n):
    """Tables of both operations: a line a source, a column a target."""
    tables = {"RawArray(c, x) / x.astype(c)": {}, "a[:] = x / numpy.copyto(a, x)": {}}
    for source in SOURCES:
        x = (numpy.arange(n) % 97).astype(source)
        rows = [table.setdefault(source, []) for table in tables.values()]
        for ctype in TARGETS:
            if not is_defined(source, ctype):
                for row in rows:
                    row.append(None)
                continue
            target = numpy.dtype(ctype)
            ours, private = shmdev.RawArray(ctype, n), numpy.empty(n, target)
            pairs = ((lambda: shmdev.RawArray(ctype, x), lambda: x.astype(target)),
                     (lambda: assign(ours, x),
                      lambda: numpy.copyto(private, x, casting="unsafe")))
            for row, (run, limit) in zip(rows, pairs):
                results, _ = measure([Case("ours", run), Case("numpy", limit)], **BRIEF)
                row.append(results["ours"].median / results["numpy"].median)
            equal(ours, x.astype(target))
    names = [ctype.__name__[2:] for ctype in TARGETS]
    for title, table in tables.items():
        report.table(f"{title}: {n:,} items", names, table)


def measure_elements(report):
    ours, plain = shmdev.RawArray("i", 1000), (ctypes.c_int * 1000)()

    def get(a):
        for _ in range(200):
            a[500]; a[501]; a[502]; a[503]; a[504]

    def put(a):
        for _ in range(200):
            a[500] = 1; a[501] = 1; a[502] = 1; a[503] = 1; a[504] = 1

    for what, function in (("get", get), ("set", put)):
        report.group(f"1,000 times {what} one element", [
            Case("shmdev", lambda: function(ours)), Case("ctypes", lambda: function(plain)),
        ], reference="ctypes")


def main(largest):
    report = Report("Arrays by length", backend=shmdev.info().backend)
    lengths = [10**e for e in range(9) if 10**e <= largest]
    for n in lengths:
        for dtype, ctype in PAIRS:
            measure_pair(report, n, dtype, ctype)
        measure_length(report, n)
    measure_elements(report)
    for n in ALL_PAIRS_LENGTHS:
        if n <= largest:
            measure_all_pairs(report, n)
    return report


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else LARGEST).save("build/bench", "sizes")
