# SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
"""numpy writes its results into shared memory, by out=, for another process to read."""

import multiprocessing

import numpy as np
import shmdev


def reader(result, queue):
    queue.put(float(result.sum()))


def main():
    a = shmdev.arange(1_000_000, dtype=np.float64)
    result = shmdev.empty_like(a)
    np.multiply(a, 2, out=result)

    queue = multiprocessing.Queue()
    process = multiprocessing.Process(target=reader, args=(result, queue))
    process.start()
    total = queue.get()
    process.join()
    assert total == 999_999 * 1_000_000
    print(total)


if __name__ == "__main__":
    main()
