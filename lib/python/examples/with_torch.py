# SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
"""A PyTorch DataLoader whose workers read one shared tensor, however small /dev/shm is."""

import shmdev
import torch
from torch.utils.data import DataLoader, Dataset

SAMPLES, FEATURES = 20_000, 256  # 20 MB


class Rows(Dataset):
    """A tensor is made of the array where it is used: it would travel by /dev/shm."""

    def __init__(self, data):
        self.data = data

    def __len__(self):
        return len(self.data)

    def __getitem__(self, row):
        return torch.from_dlpack(self.data)[row].sum()


def main():
    data = shmdev.ones((SAMPLES, FEATURES), dtype="float32")
    tensor = torch.from_dlpack(data)
    assert tensor.data_ptr() == data.ctypes.data
    tensor *= 2  # and the array has it, too
    loader = DataLoader(Rows(data), batch_size=500, num_workers=2)
    total = sum(batch.sum().item() for batch in loader)
    assert total == 2.0 * SAMPLES * FEATURES
    print(total)


if __name__ == "__main__":
    main()
