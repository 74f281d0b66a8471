# SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
"""Shared memory that is ready to write now.

RawArray(), RawValue(), Array(), Value(), copy() and synchronized() pass for those of
multiprocessing.sharedctypes; arrays are built and assigned at memory speed, on huge
pages where there are any.  install() puts them in multiprocessing's place for a program
that knows nothing of this package.  fill() reads files into them and drain() writes them
to files.  info() tells where the memory comes from; so does "python -m shmdev".

The environment variable SHMDEV_BACKEND (device, hugetlb, thp, memfd), read at the
first use, forces one kind of memory; without it the best that can serve is taken.
"""

from ._classes import RawValue
from ._fill import drain, drain_batch, fill, fill_batch
from ._guarded import Array, Value, copy, synchronized
from ._install import install, installed, uninstall
from ._shmdev import Info, RawArray, Region, __version__, info

__all__ = [
    "Array",
    "Info",
    "RawArray",
    "RawValue",
    "Region",
    "Value",
    "__version__",
    "copy",
    "drain",
    "drain_batch",
    "fill",
    "fill_batch",
    "info",
    "install",
    "installed",
    "synchronized",
    "uninstall",
]
