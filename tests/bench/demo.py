#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
"""The main job, start to end: stock multiprocessing beside shmdev, every element checked."""

import argparse
import ctypes
import multiprocessing

import numpy
import shmdev

import bench_fill
import bench_rawarray
import bench_region
from harness import Report


def negate(array, connection):
    """In another process: tell what is there, and change it."""
    values = numpy.frombuffer(array, dtype=numpy.int32)
    connection.send(int(values.sum(dtype=numpy.int64)))
    numpy.negative(values, out=values)
    connection.close()


def share(report, n):
    """Hand an array to a second process by each start method; return elements compared."""
    checked = 0
    for method in multiprocessing.get_all_start_methods():
        context = multiprocessing.get_context(method)
        values = numpy.random.default_rng(n).integers(-2**30, 2**30, n, dtype=numpy.int64)
        array = shmdev.RawArray(ctypes.c_int, values)
        here, there = context.Pipe()
        process = context.Process(target=negate, args=(array, there))
        process.start()
        there.close()
        if here.recv() != int(values.sum()):
            raise AssertionError(f'{method}: the other process read something else')
        process.join()
        if process.exitcode:
            raise AssertionError(f'{method}: the other process failed')
        checked += bench_rawarray.check(array, -values.astype(numpy.int32), method)
    report.remark(f'a second process ({", ".join(multiprocessing.get_all_start_methods())}) '
                  f'read {n:,} elements and negated them: all seen here')
    return checked


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--name', help='of the JSON file; none without')
    parser.add_argument('--regions', action='store_true', help='measure bare regions too')
    arguments = parser.parse_args()

    info = shmdev.info()
    report = Report(f'shmdev demo: {info.backend}, pages of {info.page_size >> 10} KiB, '
                    f'fills by {info.fill_engine}')
    for backend, reason in info.unavailable.items():
        report.remark(f'not {backend}: {reason}')
    checked = 0
    for n in bench_rawarray.SIZES:
        checked += bench_rawarray.measure(report, n)
    checked += share(report, bench_rawarray.SIZES[0])
    checked += bench_fill.measure(report)
    if arguments.regions:
        bench_region.measure(report, 256)
    report.remark(f'{checked:,} elements compared, all equal')
    if arguments.name:
        print('  written:', report.save('build/bench', arguments.name))


if __name__ == '__main__':
    main()
