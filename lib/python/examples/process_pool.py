# SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
"""A ProcessPoolExecutor whose workers fill the rows of one array."""

from concurrent.futures import ProcessPoolExecutor

import numpy as np
import shmdev


def fill(table, row):
    table[row] = np.arange(table.shape[1]) * row
    return row


def main():
    table = shmdev.zeros((64, 10_000), dtype=np.int64)
    with ProcessPoolExecutor(2) as executor:
        rows = set(executor.map(fill, [table] * len(table), range(len(table))))
    assert rows == set(range(64))
    assert (table == np.outer(np.arange(64), np.arange(10_000))).all()
    print(len(rows), "rows filled")


if __name__ == "__main__":
    main()
