# SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
"""joblib's processes work on one array; no memmap in a temporary directory comes of it."""

import numpy as np
import shmdev
from joblib import Parallel, delayed


def scale(a, column):
    a[:, column] *= column
    return float(a[:, column].sum())


def main():
    a = shmdev.ones((100_000, 8))
    sums = Parallel(n_jobs=2)(delayed(scale)(a, column) for column in range(8))
    assert sums == [100_000.0 * column for column in range(8)]
    assert (a == np.arange(8)).all()
    print(sums)


if __name__ == "__main__":
    main()
