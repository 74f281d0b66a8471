# SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
"""Arrays pass between the workers of a dask cluster on one machine without a copy."""

import numpy as np
import shmdev
import shmdev.dask  # registers how arrays travel; the workers have to, too
from dask.distributed import Client, LocalCluster


def produce(n):
    return shmdev.arange(n, dtype=np.int64)


def change(a):
    a[0] = 42
    return int(a.sum())


def main():
    with LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None,
                      preload=["shmdev.dask"]) as cluster, Client(cluster) as client:
        first, second = client.scheduler_info()["workers"]
        made = client.submit(produce, 1_000_000, workers=[first])
        total = client.submit(change, made, workers=[second]).result()
        here = made.result()
    # The second worker changed the first one's array, and this process sees it.
    assert isinstance(here, shmdev.ndarray) and here[0] == 42
    assert total == here.sum() == 499_999_500_042
    print(total)


if __name__ == "__main__":
    main()
