# SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
"""Shared memory that is ready to write now.

RawArray(), RawValue(), Array(), Value(), copy() and synchronized() pass for those of
multiprocessing.sharedctypes; arrays are built and assigned at memory speed, on huge
pages where there are any.  install() puts them in multiprocessing's place for a program
that knows nothing of this package.  fill() reads files into them and drain() writes them
to files.  empty(), zeros(), array() and so on make numpy arrays in shared memory.

All of these can be sent to other processes of the same user at any time, through queues,
pipes, pools, executors and plain pickles: the other side gets the same memory, and the
same lock of what has one.  export() and attach() do it by a text.  info() tells
where the memory comes from; so does "python -m shmdev".  ready_start() has memory
zeroed before it is asked for, where the kernel module does not.

The environment variable SHMDEV_BACKEND (device, hugetlb, thp, memfd), read at the
first use, forces one kind of memory; without it the best that can serve is taken.
"""

try:
    from . import _shmdev  # noqa: F401
except ImportError:
    import importlib.util
    import sys

    if importlib.util.find_spec(f"{__name__}._shmdev") is not None:
        raise
    raise ImportError(
        f"shmdev in {__path__[0]} was not built for this Python: build it with"
        f" 'make PYTHON={sys.executable}', or install it with pip"
    ) from None

from ._classes import RawValue
from ._creation import arange, array, asarray, empty, empty_like, full, ones, zeros
from ._fill import drain, drain_batch, fill, fill_batch
from ._guarded import Array, Value, copy, synchronized
from ._holds import set_hold
from ._install import install, installed, uninstall
from ._load import fromfile, load, load_many, save, tofile
from ._ready import ReadyInfo, ready_info, ready_start, ready_stop, ready_wait
from ._shmdev import Info, RawArray, Region, __version__, info
from ._travel import attach, by_value, export, seal

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from ._ndarray import ndarray
else:

    def __getattr__(name: str) -> "Any":
        # The class is made of numpy's, which is not imported before it is needed.
        if name != "ndarray":
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        from ._late import imports

        with imports:
            from ._ndarray import ndarray

        globals()["ndarray"] = ndarray
        return ndarray


__all__ = [
    "Array",
    "Info",
    "RawArray",
    "RawValue",
    "ReadyInfo",
    "Region",
    "Value",
    "__version__",
    "arange",
    "array",
    "asarray",
    "attach",
    "by_value",
    "copy",
    "drain",
    "drain_batch",
    "empty",
    "empty_like",
    "export",
    "fill",
    "fill_batch",
    "fromfile",
    "full",
    "info",
    "install",
    "installed",
    "load",
    "load_many",
    "ones",
    "ready_info",
    "ready_start",
    "ready_stop",
    "ready_wait",
    "save",
    "seal",
    "set_hold",
    "synchronized",
    "tofile",
    "uninstall",
    "zeros",
]
