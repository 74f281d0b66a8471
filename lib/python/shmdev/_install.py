# SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
"""multiprocessing's own names, led to this package and back.

Every context looks RawArray and its like up in multiprocessing.sharedctypes at each
call, and multiprocessing's heap looks up Arena, so that these names are all there is
to replace.  multiprocessing is imported when that is done.
"""

from __future__ import annotations

from contextlib import contextmanager
from threading import RLock

from . import _classes, _guarded, _shmdev
from ._late import imports

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Iterator

_lock = RLock()
_depth = 0
_replaced: list[tuple[Any, str, Any]] = []


def _replace(owner: Any, name: str, ours: Any) -> None:
    _replaced.append((owner, name, getattr(owner, name)))
    setattr(owner, name, ours)


def install() -> None:
    """Make multiprocessing use this package, in a program that knows nothing of it.

    From now on RawArray, RawValue, Array, Value and sharedctypes.copy of multiprocessing
    and of all its contexts are those of this package, and multiprocessing's heap takes
    its memory from regions.  What was made before stays as it is.  What was imported
    from multiprocessing.sharedctypes by name before stays multiprocessing's, on memory
    of this package.

    A process started by spawn or forkserver begins without: call install() where it
    sees it too, at the top of the main module, not under "if __name__ ...".  What it
    is given works in any case.

    Calls nest; each is undone by one of uninstall().  Any thread may call this.

    New in version 0.1.
    """
    global _depth
    with imports:
        from multiprocessing import heap, sharedctypes

    from ._arena import Arena

    with _lock:
        _depth += 1
        if _depth > 1:
            return
        _replace(sharedctypes, "RawArray", _shmdev.RawArray)
        _replace(sharedctypes, "RawValue", _classes.RawValue)
        _replace(sharedctypes, "Array", _guarded.Array)
        _replace(sharedctypes, "Value", _guarded.Value)
        _replace(sharedctypes, "copy", _guarded.copy)
        _replace(heap, "Arena", Arena)
        # The heap in use would go on with what is free in the arenas it has.
        _replace(heap.BufferWrapper, "_heap", heap.Heap())


def uninstall() -> None:
    """Undo one install(); with the last, multiprocessing is as it was before the first.

    Arrays and values live on.  Raises RuntimeError if there is nothing to undo.

    New in version 0.1.
    """
    global _depth
    with _lock:
        if not _depth:
            raise RuntimeError("uninstall() without install()")
        _depth -= 1
        while _replaced and not _depth:
            setattr(*_replaced.pop())


@contextmanager
def installed() -> Iterator[None]:
    """install() for as long as a with statement lasts:

        with shmdev.installed():
            ...

    New in version 0.1.
    """
    install()
    try:
        yield
    finally:
        uninstall()
