#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
"""What one alloc() and one free() take, of memory that is zero, beside calloc() of three
libraries, whose memory cannot be shared; and how much memory it takes beside what is in it.

pair: the same block again and again; churn: one of up to 1,024 live blocks (4 MiB) is
exchanged, at random; burst: as many are allocated, then freed, the first one first; mail: each
thread puts its blocks where others find them, and frees what it finds there.  With two threads
it is the time of a pair in each of them.
"""

import argparse
import glob
import statistics

from harness import Report, Tool, ToolCase

TOOL = 'build/tests/bench/alloc'
SIZES = (16, 64, 256, 1024, 4096, 8192, 16384, 32768, 65536)
SHMDEV = 'shm_alloc, shm_free'
OTHERS = {'jemalloc': 'libjemalloc.so.2', 'mimalloc': 'libmimalloc.so.2'}
MIXED = 256 << 20


def tools():
    """(name, tool, allocator) of each; jemalloc and mimalloc are Debian's."""
    yield SHMDEV, Tool([TOOL]), 'shm'
    yield 'glibc', Tool([TOOL]), 'calloc'
    for name, library in OTHERS.items():
        found = glob.glob(f'/usr/lib/*/{library}')
        if found:
            yield name, Tool([TOOL], {'LD_PRELOAD': found[0]}), 'calloc'


def processor_times(cases):
    """How often the others' least processor time ours is; who else wants them matters less."""
    medians = {case.name: statistics.median(d['processor'] for d in case.details)
               for case in cases}
    return medians.pop(SHMDEV) / min(medians.values())


def speed(report, candidates, ways, sizes, options):
    worst = []
    for threads in (1, 2):
        for way in ways:
            if way == 'mail' and threads == 1:
                continue
            for size in sizes:
                cases = [ToolCase(name, tool, f'{allocator} {way} {size} {threads}')
                         for name, tool, allocator in candidates]
                results = report.group(f'{way}, {size} bytes, {threads} thread(s)', cases,
                                       **options)
                best = min((r.median, name) for name, r in results.items() if name != SHMDEV)
                times = results[SHMDEV].median / best[0]
                worst.append(times)
                report.remark(f'{times:.2f} times the best of the others, {best[1]}; '
                              f'{processor_times(cases):.2f} by the time of processors')
    report.remark(f'against the best of the others: median {statistics.median(worst):.2f}, '
                  f'worst {max(worst):.2f}, above 1.5 in {sum(w > 1.5 for w in worst)} of '
                  f'{len(worst)}')


def memory(report, candidates):
    cases = [ToolCase(name, tool, f'{allocator} mixed {MIXED} 1')
             for name, tool, allocator in candidates]
    report.group(f'mixed sizes, {MIXED >> 20} MiB, written', cases, max_samples=3)
    for case in cases:
        if not case.details:
            continue
        d = case.details[0]
        report.remark(f'{case.name}: at most {d["peak"] / d["payload"]:.3f} bytes resident for '
                      f'each in a block; of all but each 64th block freed '
                      f'{d["few"] / d["few_payload"]:.1f}; of none left '
                      f'{d["none"] / 2**20:.1f} MiB stay')


def main(ways=('pair', 'churn', 'burst', 'mail'), sizes=SIZES, samples=21):
    report = Report('Allocator', backend=chosen())
    candidates = list(tools())
    speed(report, candidates, ways, sizes, {'max_samples': samples})
    memory(report, candidates)
    for _, tool, _ in candidates:
        tool.close()
    return report


def chosen():
    """Where the memory is from in this run."""
    import shmdev  # pylint: disable=import-outside-toplevel
    return shmdev.info().backend


if __name__ == '__main__':
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--ways', nargs='+', default=('pair', 'churn', 'burst', 'mail'))
    parser.add_argument('--sizes', nargs='+', type=int, default=SIZES)
    parser.add_argument('--samples', type=int, default=21)
    arguments = parser.parse_args()
    main(arguments.ways, arguments.sizes, arguments.samples).save('build/bench', 'alloc')
