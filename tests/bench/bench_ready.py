#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
"""Shared memory until it can be written, without the module: from a pool of the process's own
(shmdev_ready_start()), beside all that a program would use instead.

All ways end with a write to each 4 KiB.  A run of the pool begins when there is one region
ready: it is for programs that now and then do something else.  What the zeroing costs does
not go away, and so the processor time of all threads, from before a region is made ready to
when it has been given back, is told beside it.
"""

import statistics

from harness import Report, Setting, Tool, ToolCase, seconds

TOOL = 'build/tests/bench/region'
SIZES = (2, 64, 256, 1024)
NR_HUGEPAGES = '/proc/sys/vm/nr_hugepages'
SHMEM_THP = '/sys/kernel/mm/transparent_hugepage/shmem_enabled'


def measure(report, mib):
    plain = Tool([TOOL])
    tools = []
    cases = [
        ToolCase('memfd, 4 KiB', plain, f'memfd {mib}'),
        ToolCase('memfd + MFD_HUGETLB', plain, f'hugetlb {mib}', 'reserved before'),
        ToolCase('the same, MAP_POPULATE', plain, f'hugetlb-populate {mib}', 'reserved before'),
        ToolCase('memfd, THP', plain, f'thp {mib}'),
        ToolCase('shm_open', plain, f'shm_open {mib}'),
        ToolCase('mmap, shared, anonymous', plain, f'shared {mib}'),
        ToolCase('shmget', plain, f'sysv {mib}'),
    ]
    for name in ('hugetlb', 'thp', 'memfd'):
        for way, told in (('shmdev', ''), ('ready', ', ready')):
            # One each: what has ready memory would give it to the other way, too.
            tools.append(Tool([TOOL], {'SHMDEV_BACKEND': name}))
            cases.append(ToolCase(f'shmdev, {name}{told}', tools[-1], f'{way} {mib}'))
    # Ready and being made anew, at a time.
    with Setting(NR_HUGEPAGES, str(mib // 2 * 2 + 32)), Setting(SHMEM_THP, 'advise'):
        results = report.group(f'{mib} MiB ready to write', cases)
        for tool in (plain, *tools):
            tool.close()
    report.remark('processor time of a run, all threads, making ready and giving back included:')
    for case in cases[-6:]:
        if case.name in results:
            spent = statistics.median(detail['cpu'] for detail in case.details)
            report.remark(f'  {case.name:26} {seconds(spent)}')


def main(sizes=SIZES):
    report = Report('Ready memory')
    for mib in sizes:
        measure(report, mib)
    return report


if __name__ == '__main__':
    main().save('build/bench', 'ready')
