# SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
"""Shared memory that is ready to write now.

RawArray() and RawValue() pass for those of multiprocessing and are built and
assigned at memory speed, on huge pages where there are any.  fill() reads files
into them and drain() writes them to files.  info() tells where the memory comes from.

The environment variable SHMDEV_BACKEND (device, hugetlb, thp, memfd), read at the
first use, forces one kind of memory; without it the best that can serve is taken.
"""

from ._classes import RawValue
from ._fill import drain, drain_batch, fill, fill_batch
from ._shmdev import Info, RawArray, __version__, info

__all__ = [
    "Info",
    "RawArray",
    "RawValue",
    "__version__",
    "drain",
    "drain_batch",
    "fill",
    "fill_batch",
    "info",
]
