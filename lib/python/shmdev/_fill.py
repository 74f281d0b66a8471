# SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
"""Files into shared memory, and back."""

from __future__ import annotations

import errno
import os

from . import _shmdev

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Iterable


_HINTS = {
    errno.EFAULT: "the buffer is not in shared memory of shmdev",
    errno.ESPIPE: "offset must be None for what cannot seek",
}


def _descriptor(file: Any) -> int:
    if isinstance(file, int):
        return file
    if not hasattr(file, "fileno"):
        raise TypeError(f"file must be a descriptor or a file, not {type(file).__name__}")
    return int(file.fileno())


def _error(call: str, number: int) -> OSError:
    hint = _HINTS.get(number)
    return OSError(number, f"{call}: {os.strerror(number)}" + (f": {hint}" if hint else ""))


def _checked(call: str, counts: list[int], return_exceptions: bool) -> list[int | OSError]:
    """counts with errors for negative ones, the first of which is raised."""
    results: list[int | OSError] = [
        count if count >= 0 else _error(call, -count) for count in counts
    ]
    if not return_exceptions:
        for result in results:
            if isinstance(result, OSError):
                raise result
    return results


def fill(dest: Any, file: Any, offset: int | None = 0) -> int:
    """Read from file into dest, as many bytes as dest has; return how many came.

    dest is a contiguous writable buffer in shared memory of this package: an array, a
    value, a memoryview or numpy view of one.  file is a descriptor or has fileno().
    offset is the place in the file to read from, its start if nothing is said, wherever the
    file stands; with None the read starts where the descriptor stands and moves it, as
    pipes and sockets need (what a buffered Python file has read ahead is not seen).  Fewer
    bytes than dest has came only if the file ended.

    Raises OSError with the errno of the read; EFAULT if dest is not shared memory of
    this package.  Other threads run meanwhile; dest cannot be freed under the read.
    Signal handlers run, too; if one raises (as Ctrl-C does), what has come until then
    is in dest.

    New in version 0.1.
    """
    (result,) = fill_batch([(dest, file, offset)])
    assert isinstance(result, int)
    return result


def fill_batch(
    requests: Iterable[tuple[Any, Any, int | None]], *, return_exceptions: bool = False
) -> list[int | OSError]:
    """Do many fills at once: requests are (dest, file, offset), each as for fill().

    They are done in no particular order, but those with offset None on one descriptor
    in the order they stand.  Returns how many bytes came for each.  If a request
    fails, the others are done nonetheless; then the first error is raised, or with
    return_exceptions each error stands in its place in the list.

    New in version 0.1.
    """
    return _checked(
        "shm_fill",
        _shmdev.fill([(dest, _descriptor(file), offset) for dest, file, offset in requests]),
        return_exceptions,
    )


def drain(source: Any, file: Any, offset: int | None = 0, *, sync: bool = False) -> int:
    """Write all of source to file; return how many bytes that were.

    source is a contiguous buffer in shared memory of this package.  file and offset are
    as for fill(); a file that was opened for appending has to have None.  Fewer bytes than
    source has are written only to a non-blocking pipe or socket.  With sync it
    returns when they are on stable storage, as after os.fsync().

    Raises OSError with the errno of the write; there may have been bytes before it.

    New in version 0.1.
    """
    (result,) = drain_batch([(source, file, offset)], sync=sync)
    assert isinstance(result, int)
    return result


def drain_batch(
    requests: Iterable[tuple[Any, Any, int | None]],
    *,
    sync: bool = False,
    return_exceptions: bool = False,
) -> list[int | OSError]:
    """Do many drains at once, as fill_batch() does many fills.

    New in version 0.1.
    """
    return _checked(
        "shm_drain",
        _shmdev.drain(
            [(source, _descriptor(file), offset) for source, file, offset in requests], sync
        ),
        return_exceptions,
    )
