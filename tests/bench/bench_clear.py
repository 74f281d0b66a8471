#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
"""The ways to clear a huge page, and what each takes away from whoever works beside it.

This is about the processor: run it on a real one.
"""

import statistics

from harness import Report, Tool, ToolCase, seconds

TOOL = 'build/tests/bench/clear'
WORKING_SETS = (1, 16)      # MiB
WAYS = {
    'stosb': 'rep stosb, 4 KiB each (clear_page_erms)',
    'stosq': 'rep stosq, 4 KiB each (clear_page_rep)',
    'stosb-whole': 'rep stosb, all at once',
    'movnti': 'movnti (non-temporal)',
}


def measure(report, tool, mib):
    nothing = ToolCase('nothing', tool, f'nothing {mib}')
    cases = [ToolCase(name, tool, f'{way} {mib}') for way, name in WAYS.items()]
    report.group(f'2 MiB cleared beside {mib} MiB that somebody works with', cases)
    for _ in range(21):
        nothing.sample()
    for case in [nothing] + cases:
        if case.details:
            read = statistics.median(answer['read'] for answer in case.details)
            report.remark(f'afterwards, reading the {mib} MiB: {seconds(read):>8}  {case.name}')


def main(sizes=WORKING_SETS):
    report = Report('Clearing')
    tool = Tool([TOOL])
    for mib in sizes:
        measure(report, tool, mib)
    tool.close()
    return report


if __name__ == '__main__':
    main().save('build/bench', 'clear')
