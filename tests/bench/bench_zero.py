#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
"""How long until used shared memory is zero again: ZERO_RANGE of a region beside memset
and beside punching a hole in a memfd.

All ways end with a write to each page that could fault.  The pool's own work, done
before, is told apart: it is part of the price.
"""

import pool
from harness import Report, Setting, Tool, ToolCase, seconds

TOOL = 'build/tests/bench/zero'
SIZES = (2, 64, 512)


def measure(report, tool, mib):
    # What is timed is little beside what it takes to make so much memory dirty.
    samples = {'max_samples': 41 if mib < 256 else 7}
    zero = ToolCase('shmdev, ZERO_RANGE', tool, f'shmdev-zero {mib}')
    with Setting('/proc/sys/vm/nr_hugepages', str(mib // 2 + 8)):
        with Setting(pool.POOL_MB, str(mib + 64)):
            report.group(f'{mib} MiB zeroed', [
                ToolCase('memfd + MFD_HUGETLB, memset', tool, f'hugetlb-memset {mib}'),
                ToolCase('memfd + MFD_HUGETLB, punched, touched', tool, f'hugetlb-punch {mib}'),
                ToolCase('memfd, 4 KiB, memset', tool, f'memfd-memset {mib}'),
                ToolCase('memfd, 4 KiB, punched, touched', tool, f'memfd-punch {mib}'),
                ToolCase('shmdev, memset', tool, f'shmdev-memset {mib}'),
                zero,
            ], **samples)
            if zero.details:
                middle = sorted(d['zero'] for d in zero.details)[len(zero.details) // 2]
                report.remark(f'of ZERO_RANGE, the call itself: {seconds(middle)}')
            before = pool.cpu()
            pool.wait_until_full()
            zero.sample()
            pool.wait_until_full()
            report.remark('CPU time of the pool for one region and its zeroing, together '
                          f'{2 * mib} MiB: {seconds(pool.cpu() - before)}')
        with Setting(pool.POOL_MB, '0'):
            report.group(f'{mib} MiB zeroed, pool empty', [
                ToolCase('shmdev, memset', tool, f'shmdev-memset {mib}'),
                ToolCase('shmdev, ZERO_RANGE', tool, f'shmdev-zero {mib}'),
            ], **samples)


def main(sizes=SIZES):
    report = Report('Zeroing')
    tool = Tool([TOOL])
    for mib in sizes:
        measure(report, tool, mib)
    tool.close()
    return report


if __name__ == '__main__':
    main().save('build/bench', 'zero')
