#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
"""How long until another process has memory mapped and has read from it, by its name or
by its descriptor.  A run has the wake-up of the other process in it, and of this one by its
answer, whichever way."""

from harness import Report, Tool, ToolCase

TOOL = 'build/tests/bench/share'
SIZES = (2, 64)


def main(sizes=SIZES):
    report = Report('Sharing')
    tool = Tool([TOOL])
    for mib in sizes:
        report.group(f'{mib} MiB, until another process has read from it', [
            ToolCase('shm_open, by name', tool, f'shm_open {mib}'),
            ToolCase('memfd, SCM_RIGHTS', tool, f'memfd {mib}'),
            ToolCase('shmdev_export, shmdev_attach', tool, f'handle {mib}'),
            ToolCase('the same, the region is known there', tool, f'handle-known {mib}'),
            ToolCase('shmdev_send, shmdev_recv', tool, f'send {mib}'),
        ])
    report.group('the name alone', [ToolCase('shmdev_export', tool, 'export 1')])
    tool.close()
    return report


if __name__ == '__main__':
    main().save('build/bench', 'share')
