# SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
"""Sending arrays and values to processes that multiprocessing starts.

An object travels as its ctypes type, its length, its region and its place there;
the region travels as a descriptor.  Nothing is registered with multiprocessing: a
reducer for a class would keep the class for ever.
"""

from __future__ import annotations

import ctypes
import os
import sys
from multiprocessing import context, reduction

from . import _classes, _shmdev

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def reduce_data(data: Any) -> tuple[Any, ...]:
    """__reduce_ex__() of shared arrays and values."""
    if context.get_spawning_popen() is None:
        raise RuntimeError(
            f"{type(data).__name__} objects of shmdev should only be shared between "
            "processes through inheritance: pass them in args= of a Process or "
            "initargs= of a Pool"
        )
    if isinstance(data, ctypes.Array):
        ctype, length = data._type_, data._length_
    else:
        # The classes in front of it are ours and cannot be found by name.
        classes = type(data).__mro__
        ctype = next(c for c in classes if not issubclass(c, _classes.SharedData))
        length = None
    region, offset = locate(data)
    return _rebuild_data, (_describe(ctype), length, region, offset)


def locate(data: Any) -> tuple[_shmdev.Region, int]:
    """The region that data lies in, and where.  TypeError if it lies in none."""
    try:
        return _shmdev.region_locate(ctypes.addressof(data))
    except FileNotFoundError:
        raise TypeError(
            f"this {type(data).__name__} object is not in shared memory"
        ) from None


class Wrapper:
    """What multiprocessing's reducer of ctypes objects sends in place of the memory."""

    def __init__(self, data: Any) -> None:
        self._region, self._offset = locate(data)
        self._size = ctypes.sizeof(data)

    def create_memoryview(self) -> memoryview:
        return memoryview(self._region)[self._offset : self._offset + self._size]


def _rebuild_data(description: Any, length: Any, region: Any, offset: int) -> Any:
    made = _classes.entry(_undescribe(description), length)[0]
    return made.from_buffer(region, offset)


def _describe(ctype: Any) -> Any:
    """ctype as pickle can send it: by name, or (item type, length) if it has none."""
    found: Any = sys.modules.get(ctype.__module__)
    for name in ctype.__qualname__.split("."):
        found = getattr(found, name, None)
    if found is not ctype and issubclass(ctype, ctypes.Array):
        return _describe(ctype._type_), ctype._length_
    return ctype


def _undescribe(description: Any) -> Any:
    if isinstance(description, tuple):
        item, length = description
        return _undescribe(item) * length
    return description


def reduce_region(region: Any) -> tuple[Any, ...]:
    """__reduce__() of regions: a duplicate of the descriptor."""
    context.assert_spawning(region)
    return _rebuild_region, (reduction.DupFd(region.fileno()),)


def _rebuild_region(duplicate: Any) -> Any:
    fd = duplicate.detach()
    try:
        return _shmdev.region_open(fd)
    finally:
        os.close(fd)
