#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
"""Arrays of 1 to 10^8 items, by pair of types, beside multiprocessing, numpy, array.array.

Six pairs of types go through all lengths beside all of them; then all pairs there are,
through all lengths, as tables of how long ours takes in times of numpy's.

What takes minutes otherwise is not run and the time it would take is told, from the length before:
so many times longer is a loop over items.  Arguments are the largest length (10^8: 8 GB of memory)
and the minutes after which nothing more is begun; what is left out is told.
"""

import argparse
import array
import ctypes
import multiprocessing
import os
import time

import numpy
import shmdev

from harness import Case, Report, measure, seconds

LARGEST = 10**8
MINUTES = 12

# What loops over items needs minutes, or many times the memory, for more than that.
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
BRIEF = {"max_samples": 7, "budget": 0.1}


class Deadline:
    """When to begin nothing more, and what has not been begun."""

    def __init__(self, minutes):
        self.end = time.monotonic() + minutes * 60
        self.left_out = []

    def allows(self, what, memory=0):
        """Whether there is time for it, and so many bytes of memory; else it is noted."""
        if time.monotonic() > self.end:
            reason = "no time"
        elif memory > available() // 2:
            reason = f"takes {memory >> 20} MiB"
        else:
            return True
        self.left_out.append(f"{what} ({reason})")
        return False


def available():
    """Bytes of memory that can be had."""
    with open("/proc/meminfo", encoding="ascii") as file:
        for line in file:
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) << 10
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def equal(a, expected):
    if not numpy.array_equal(numpy.frombuffer(a, expected.dtype), expected):
        raise AssertionError("items differ")


def assign(array_, source):
    array_[:] = source


def typecode(ctype):
    """Of array.array."""
    return numpy.dtype(ctype).char


def extrapolate(report, n, name, known, largest):
    """Tell what @name would take for n items, by what it took for the most it was asked for."""
    if n > largest in known:
        told = known[largest] * (n / largest)
        report.remark(f"{name}: not run; {n // largest} times its {seconds(known[largest])} for"
                      f" {largest:,} are {seconds(told)}")


def measure_pair(report, n, dtype, ctype, stock):
    """@stock: what it took for other lengths, {(what, name): {n: seconds}}."""
    source = (numpy.arange(n) % 251).astype(dtype)
    target = numpy.dtype(ctype)
    title = f"{n:,} {dtype} to {ctype.__name__}"
    looped = n <= STOCK_LARGEST

    cases = [Case("shmdev", lambda: shmdev.RawArray(ctype, source)),
             Case("x.astype", lambda: source.astype(target))]
    if looped:
        cases += [Case("array.array", lambda: array.array(typecode(ctype), source)),
                  Case("multiprocessing", lambda: multiprocessing.RawArray(ctype, source))]
    results = report.group(f"construct: {title}", cases, reference="x.astype", **QUICK)
    for name in ("array.array", "multiprocessing"):
        known = stock.setdefault(("construct", dtype, ctype, name), {})
        if looped:
            known[n] = results[name].median
        extrapolate(report, n, name, known, STOCK_LARGEST)
    ours, private = shmdev.RawArray(ctype, source), source.astype(target)
    equal(ours, private)

    ctypes.memset(ours, 0, ctypes.sizeof(ours))
    cases = [Case("shmdev", lambda: assign(ours, source)),
             Case("numpy.copyto", lambda: numpy.copyto(private, source, casting="unsafe"))]
    if looped:
        plain = multiprocessing.RawArray(ctype, n)
        cases.append(Case("multiprocessing", lambda: assign(plain, source)))
    results = report.group(f"a[:] = x: {title}", cases, reference="numpy.copyto", **QUICK)
    known = stock.setdefault(("assign", dtype, ctype), {})
    if looped:
        known[n] = results["multiprocessing"].median
    extrapolate(report, n, "multiprocessing", known, STOCK_LARGEST)
    equal(ours, private)


def measure_length(report, n):
    report.group(f"allocate only: {n:,} c_int", [
        Case("shmdev", lambda: shmdev.RawArray("i", n)),
        Case("numpy.zeros", lambda: numpy.zeros(n, "i4")),
        Case("multiprocessing", lambda: multiprocessing.RawArray("i", n)),
    ], reference="multiprocessing", **QUICK)
    if n > LIST_LARGEST:
        report.remark(f"lists: not of more than {LIST_LARGEST:,} items, which are 400 MB")
        return
    source = list(range(n))
    report.group(f"construct from a list: {n:,} c_int", [
        Case("shmdev", lambda: shmdev.RawArray("i", source)),
        Case("array.array", lambda: array.array("i", source)),
        Case("numpy.array", lambda: numpy.array(source, "i4")),
    ] + ([Case("multiprocessing", lambda: multiprocessing.RawArray("i", source))]
         if n <= STOCK_LARGEST else []), reference="array.array", **QUICK)
    ours, plain = shmdev.RawArray("i", source), array.array("i", source)
    stock = multiprocessing.RawArray("i", source)
    report.group(f"a[:] read: {n:,} c_int", [
        Case("shmdev", lambda: ours[:]),
        Case("multiprocessing", lambda: stock[:]),
        Case("array.array, tolist()", plain.tolist),
        Case("a.memoryview().tolist()", lambda: ours.memoryview().tolist()),
    ], reference="multiprocessing", **QUICK)


def is_defined(source, target):
    """Whether ctypes has it: no float, and no bool of numpy's, becomes an integer."""
    kind = numpy.dtype(source).kind
    return kind in "iu" or numpy.dtype(target).kind not in "iu"


def measure_all_pairs(report, n, deadline):
    """Tables of both operations: a line a source, a column a target."""
    tables = {"RawArray(c, x) / x.astype(c)": {}, "a[:] = x / numpy.copyto(a, x)": {}}
    for source in SOURCES:
        x = (numpy.arange(n) % 97).astype(source)
        rows = [table.setdefault(source, []) for table in tables.values()]
        for ctype in TARGETS:
            target = numpy.dtype(ctype)
            told = is_defined(source, ctype) and deadline.allows(
                f"{n:,} {source} to {ctype.__name__}", 4 * n * target.itemsize)
            if not told:
                for row in rows:
                    row.append(None)
                continue
            ours, private = shmdev.RawArray(ctype, x), x.astype(target)
            pairs = ((lambda: shmdev.RawArray(ctype, x), lambda: x.astype(target)),
                     (lambda: assign(ours, x),
                      lambda: numpy.copyto(private, x, casting="unsafe")))
            for row, (run, limit) in zip(rows, pairs):
                results, _ = measure([Case("ours", run), Case("numpy", limit)], **BRIEF)
                row.append(results["ours"].median / results["numpy"].median)
            equal(ours, private)
    if all(cell is None for row in tables["a[:] = x / numpy.copyto(a, x)"].values() for cell in row):
        return
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


def main(largest, minutes):
    report = Report("Arrays by length", backend=shmdev.info().backend)
    deadline = Deadline(minutes)
    lengths = [10**e for e in range(9) if 10**e <= largest]
    stock = {}
    measure_elements(report)
    for n in lengths:
        for dtype, ctype in PAIRS:
            if deadline.allows(f"{n:,} {dtype} to {ctype.__name__}", 6 * 8 * n):
                measure_pair(report, n, dtype, ctype, stock)
        if deadline.allows(f"{n:,} c_int from nothing and from a list", 6 * 8 * n):
            measure_length(report, n)
    for n in lengths:
        measure_all_pairs(report, n, deadline)
    for what in deadline.left_out:
        report.remark(f"not measured: {what}")
    return report


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("largest", type=int, nargs="?", default=LARGEST)
    parser.add_argument("--minutes", type=float, default=MINUTES)
    arguments = parser.parse_args()
    main(arguments.largest, arguments.minutes).save("build/bench", "sizes")
