# SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
"""python -m shmdev: what memory this machine has for us, and why none better."""

import platform
import sys

from . import _shmdev


def main() -> int:
    if len(sys.argv) > 1:
        print("usage: python3 -m shmdev", file=sys.stderr)
        return 2
    print(f"shmdev {_shmdev.__version__}")
    print(f"Python {platform.python_version()}, Linux {platform.release()}")
    print(f"conversions by {', '.join(_shmdev.kernels())} (the first is in use)")
    print("\nbackends, best first:")
    for name, err, reason in _shmdev.probe():
        print(f"  {name:8} {reason if err else 'available'}")
    try:
        info = _shmdev.info()
    except (OSError, MemoryError) as error:
        print(f"\nno memory to be had: {error}")
        return 1
    print(f"\nin use: {info.backend}, pages of {info.page_size >> 10} KiB")
    print(f"fills go by {info.fill_engine}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
