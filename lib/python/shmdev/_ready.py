# SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
"""Memory that is zeroed before it is asked for, where the module does not do that."""

from __future__ import annotations

import time

from . import _shmdev

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NamedTuple
else:
    from collections import namedtuple

# How long, in milliseconds, until an interrupt is looked for.
_STEP = 100

if TYPE_CHECKING:

    class ReadyInfo(NamedTuple):
        limit: int
        bytes: int
        regions: int
        hits: int
        misses: int
        made_bytes: int
        dropped_bytes: int
        cpu_seconds: float

else:
    ReadyInfo = namedtuple(
        "ReadyInfo", "limit bytes regions hits misses made_bytes dropped_bytes cpu_seconds"
    )
    ReadyInfo.__module__ = "shmdev"
    ReadyInfo.__doc__ = """What ready_info() found.

limit is that of ready_start(), or 0 if it is off; bytes in so many regions are ready
now; hits and misses count the regions that were ready when they were asked for, and
that were not; made_bytes and dropped_bytes, what has been made, and given back unused;
cpu_seconds is the processor time that it took.

New in version 0.1."""


def ready_start(limit: int, size: int = 0) -> None:
    """Keep up to limit bytes of memory ready, zeroed before they are asked for.

    A thread of the lowest priority learns which sizes of large arrays (256 KiB and more)
    are made, and makes their memory beforehand.  With size, memory for an array of so
    many bytes is ready from the start.  What nobody asks for in 10 seconds goes back, and
    all of it if memory gets short.  May be called again, with other numbers.

    SHMDEV_READY=256M in the environment does the same.  With the kernel module this does
    nothing: there memory is ready anyway.  A child after a fork has none of it, and may
    start its own.  Raises ValueError for numbers that cannot be, OSError where there is no
    thread to be had.  Any thread may call this.

    New in version 0.1.
    """
    _shmdev.ready_start(limit, size)


def ready_stop() -> None:
    """Give back what is ready, and keep nothing ready from now on.

    Nothing happens if it is off.  Any thread may call this; a fork does not matter to it.

    New in version 0.1.
    """
    _shmdev.ready_stop()


def ready_wait(timeout: float | None = None) -> bool:
    """Wait until what is wanted is ready; False after timeout seconds.

    Raises RuntimeError if ready_start() was not called, or not in this process after a
    fork, and MemoryError if there is not enough memory that nobody would miss.  Can be
    interrupted.  Any thread may call this.

    New in version 0.1.
    """
    end = None if timeout is None else time.monotonic() + timeout
    while True:
        rest = _STEP if end is None else int((end - time.monotonic()) * 1000)
        if _shmdev.ready_wait(max(0, min(rest, _STEP))):
            return True
        if rest <= 0:
            return False


def ready_info() -> ReadyInfo:
    """Tell what is ready, how often that was of use, and what it cost; see ReadyInfo.

    Any thread may call this; a child after a fork counts from 0.

    New in version 0.1.
    """
    return ReadyInfo(*_shmdev.ready_get())
