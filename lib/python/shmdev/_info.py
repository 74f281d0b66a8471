# SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
"""What this process is running on."""

from dataclasses import dataclass
from typing import Dict

from . import _shmdev


@dataclass(frozen=True)
class Info:
    """What info() found."""

    #: Where the next region would come from: "device", "hugetlb", "thp" or "memfd".
    backend: str
    #: How fill() reads: "fixed" or "ring" (io_uring), or "preadv".
    fill_engine: str
    #: The size in bytes of the pages of such a region.
    page_size: int
    #: Regions mapped now, and their bytes.
    regions: int
    region_bytes: int
    #: Live blocks (arrays and values), and their bytes.
    blocks: int
    block_bytes: int
    #: For each better backend the reason why it is not in use, best first.
    unavailable: Dict[str, str]


def info() -> Info:
    """Tell what memory this process gets, and why none better.

    Makes no region.  Raises OSError where no backend can serve.  Any thread may call
    this; after a fork the child counts what it inherited.

    New in version 0.1.
    """
    backend, engine, page_size, regions, region_bytes, blocks, block_bytes = _shmdev.info()
    unavailable: Dict[str, str] = {}
    for name, _, reason in _shmdev.probe():
        if name == backend:
            break
        unavailable[name] = reason
    return Info(
        backend, engine, page_size, regions, region_bytes, blocks, block_bytes, unavailable
    )
