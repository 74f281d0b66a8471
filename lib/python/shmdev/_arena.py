# SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
"""The heap of multiprocessing on regions; see _install."""

from __future__ import annotations

import os
from multiprocessing import heap, reduction

from . import _shmdev

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


class Arena(heap.Arena):
    """What multiprocessing's heap cuts its blocks from: here it is a region."""

    def __init__(self, size: int, fd: int = -1) -> None:
        if fd == -1:
            self._over(size, _shmdev.region_create(size))
        else:
            # One of multiprocessing's own, that a process without us has sent.
            super().__init__(size, fd)

    def _over(self, size: int, region: _shmdev.Region) -> None:
        self.size = size
        self.fd = region.fileno()
        self.buffer: Any = memoryview(region)

    def __reduce__(self) -> Any:
        return _rebuild_arena, (self.size, reduction.DupFd(self.fd))


def _rebuild_arena(size: int, duplicate: Any) -> Arena:
    fd = duplicate.detach()
    try:
        arena = Arena.__new__(Arena)
        arena._over(size, _shmdev.region_open(fd))
        return arena
    finally:
        os.close(fd)
