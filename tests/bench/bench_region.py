#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
"""How long until shared memory can be written, beside memfd of every kind and the two
drivers that hand out memory.

All ways end with a write to each 4 KiB.  The pool's own work, done before, is told apart:
it is part of the price.
"""

import pool
from harness import Report, Setting, Tool, ToolCase, seconds

TOOL = 'build/tests/bench/region'
SIZES = (2, 64, 1024)
NR_HUGEPAGES = '/proc/sys/vm/nr_hugepages'
SHMEM_THP = '/sys/kernel/mm/transparent_hugepage/shmem_enabled'
UDMABUF_MB = '/sys/module/udmabuf/parameters/size_limit_mb'


def measure(report, mib):
    device = Tool([TOOL], {'SHMDEV_BACKEND': 'device'})
    plain = Tool([TOOL])
    cases = [
        ToolCase('memfd + MFD_HUGETLB', plain, f'hugetlb {mib}', 'reserved before'),
        ToolCase('the same, MAP_POPULATE', plain, f'hugetlb-populate {mib}', 'reserved before'),
        ToolCase('memfd, THP', plain, f'thp {mib}'),
        ToolCase('memfd, 4 KiB', plain, f'memfd {mib}'),
        ToolCase('dma_heap, system', plain, f'dma-heap {mib}'),
        ToolCase('udmabuf of a memfd', plain, f'udmabuf {mib}'),
        ToolCase('shmdev, from pool', device, f'shmdev {mib}'),
    ]
    hugepages = str(mib // 2 + 8)
    with (Setting(NR_HUGEPAGES, hugepages), Setting(SHMEM_THP, 'advise'),
          Setting(UDMABUF_MB, str(mib))):
        with Setting(pool.POOL_MB, str(mib + 64)):
            before = pool.cpu()
            results = report.group(f'{mib} MiB ready to write', cases)
            spent = pool.cpu() - before
            pooled = cases[-1].details
            if 'shmdev, from pool' in results and spent:
                # The warm-up filled the pool anew too, and the target itself was filled once.
                runs = len(pooled) + 1 + (mib + 64) / mib
                report.remark(f'beside that, CPU time of the pool for each {mib} MiB: about '
                              f'{seconds(spent / runs)}; giving back: '
                              f'{seconds(sorted(d["put"] for d in pooled)[len(pooled) // 2])}')
        with Setting(pool.POOL_MB, '0'):
            report.group(f'{mib} MiB ready to write, pool empty', [
                ToolCase('memfd + MFD_HUGETLB', plain, f'hugetlb {mib}', 'reserved before'),
                ToolCase('shmdev, on a miss', device, f'shmdev {mib}'),
            ])
    device.close()
    plain.close()


def main(sizes=SIZES):
    report = Report('Regions')
    for mib in sizes:
        measure(report, mib)
    return report


if __name__ == '__main__':
    main().save('build/bench', 'region')
