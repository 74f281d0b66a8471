# SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
"""Pool.map over slices of one big array, which each worker changes where it lies."""

import multiprocessing

import numpy as np
import shmdev


def negate(part):
    np.negative(part, out=part)
    return part.size


def main():
    a = shmdev.ones((1024, 4096), dtype=np.int32)
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        sizes = pool.map(negate, [a[i : i + 128] for i in range(0, 1024, 128)])
    assert sum(sizes) == a.size and (a == -1).all()
    print(len(sizes), "slices negated in place")


if __name__ == "__main__":
    main()
