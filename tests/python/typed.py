# SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
"""What a type checker should accept and find; test_typing.py runs one over it."""

import array
import ctypes
from typing import Any

import shmdev

a = shmdev.RawArray(ctypes.c_int, [1, 2])
b = shmdev.RawArray("i", 3)
a[:] = b
a[:2] = b"12"
a[:] = array.array("q", [1, 2])
a[0] = 5
first: int = a[0]
items: list[Any] = a[:]
a.assign(memoryview(b"12"), casting="unsafe", overflow="raise")
a.assign(b"12", casting="all")  # type: ignore[arg-type]
size: int = a.region.size
share: float = a.region.huge_share
view: memoryview = a.memoryview()
backend: str = shmdev.info().backend
count: int = shmdev.fill(a, 0)
pointer: "ctypes.Array[ctypes.c_int]" = a
value = shmdev.Value("i", 5, lock=False)
shmdev.RawArray(ctypes.c_int, 1.5)  # type: ignore[call-overload]
with shmdev.installed():
    pass
loaded = shmdev.load("a.npz", "x", progress=True)
shmdev.save(b"name", loaded, progress=lambda done, total: None)
for one in shmdev.load_many(["a.npy", ("a.npz", "x")]):
    shmdev.tofile(one, "raw")
shmdev.load_many([1])  # type: ignore[list-item]
