# SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
"""Files into shared memory."""

from __future__ import annotations

import os

from . import _shmdev

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Iterable


def _descriptor(file: Any) -> int:
    return file if isinstance(file, int) else int(file.fileno())


def _error(err: int) -> OSError:
    return OSError(err, f"shm_fill: {os.strerror(err)}")


def fill(dest: Any, file: Any, offset: int | None = 0) -> int:
    """Read from file into dest, as many bytes as dest has; return how many came.

    dest is a contiguous writable buffer in shared memory of this package: an array, a
    value, a memoryview or numpy view of one.  file is a descriptor or has fileno().
    offset is the place in the file to read from; with None the read starts where the
    descriptor stands and moves it, as pipes and sockets need (what a buffered Python
    file has read ahead is not seen).  Fewer bytes than dest has came only if the file
    ended.

    Raises OSError with the errno of the read; EFAULT if dest is not shared memory of
    this package.  Other threads run meanwhile; dest cannot be freed under the read.

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
    results: list[int | OSError] = [
        count if count >= 0 else _error(-count)
        for count in _shmdev.fill(
            [(dest, _descriptor(file), offset) for dest, file, offset in requests]
        )
    ]
    if not return_exceptions:
        for result in results:
            if isinstance(result, OSError):
                raise result
    return results
