#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
"""Instructions, user's and kernel's, for each huge page: to allocate and map it, to write
to it, to give it back.

Where the clock counts instructions: make vm ICOUNT=1 APPEND=nr_cpus=1.  With a single
processor the pool's thread runs when nobody measures.
"""

import statistics

import pool
from harness import Report, Setting, Tool, Unavailable

TOOL = 'build/tests/bench/region'
NR_HUGEPAGES = '/proc/sys/vm/nr_hugepages'
SMALL, LARGE = 16, 144      # MiB; what both have in common is not the pages'
PAGES = (LARGE - SMALL) // 2
RUNS = 15
STEPS = ('get', 'touch', 'put')


def clock_counts():
    with open('/proc/cmdline', encoding='utf-8') as file:
        return 'shmdev_vm.clock=instructions' in file.read().split()


def medians(tool, way, mib):
    answers = [tool.ask(f'{way} {mib}') for _ in range(RUNS + 1)][1:]
    return {step: statistics.median(answer[step] for answer in answers) for step in STEPS}


def measure(report, name, tool, way):
    try:
        small, large = medians(tool, way, SMALL), medians(tool, way, LARGE)
    except Unavailable as reason:
        report.remark(f'{name:28} unavailable: {reason}')
        return
    slopes = [(large[step] - small[step]) * 1e9 / PAGES for step in STEPS]
    report.remark(f'{name:28}' + ''.join(f'{slope:14,.0f}' for slope in slopes))


def main():
    report = Report('Instructions for each huge page')
    if not clock_counts():
        report.remark('the clock does not count instructions here: make vm ICOUNT=1')
        return
    report.remark(f'{"":28}' + ''.join(f'{step:>14}' for step in
                                       ('alloc + map', 'write 4 KiB', 'unmap + free')))
    device, plain = Tool([TOOL], {'SHMDEV_BACKEND': 'device'}), Tool([TOOL])
    with Setting(NR_HUGEPAGES, str(LARGE // 2 + 8)):
        with Setting(pool.POOL_MB, str(LARGE + 64)):
            measure(report, 'shmdev, from pool', device, 'shmdev')
        with Setting(pool.POOL_MB, '0'):
            measure(report, 'shmdev, on a miss', device, 'shmdev')
        measure(report, 'memfd + MFD_HUGETLB', plain, 'hugetlb')
        measure(report, 'memfd, 4 KiB', plain, 'memfd')
        measure(report, 'anonymous, THP', plain, 'anonymous')
        measure(report, 'dma_heap, system', plain, 'dma-heap')
    device.close()
    plain.close()


if __name__ == '__main__':
    main()
