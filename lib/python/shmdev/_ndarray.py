# SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
"""numpy arrays in shared memory.  Only this module and _npy import numpy."""

from __future__ import annotations

from operator import index
from sys import maxsize
from typing import Any

import numpy

from . import _sharing, _shmdev


class ndarray(numpy.ndarray):
    """A numpy array in shared memory.

    Made by shmdev.empty(), zeros(), ones(), full(), array(), asarray(), empty_like() and
    arange().  It and its views are pickled as a reference to their memory: sent to
    another process of this machine and user they are the same memory there.  What ufuncs
    return is an ordinary numpy array, unless out= is one of these.  What numpy copies
    (copy(), astype(), a[[1, 2]]) is of this class, but in private memory, and is pickled
    as numpy does, and so is numpy.asarray(a).

    New in version 0.1.
    """

    def __array_wrap__(self, array: Any, context: Any = None, return_scalar: bool = False) -> Any:
        if array is self:  # it is where the result was asked to be
            return array
        return array[()] if return_scalar or not array.ndim else plain(array)

    def __reduce_ex__(self, protocol: Any) -> Any:
        # An array without items may lie anywhere.
        if not self.size:
            return _sharing.load, ("arrayvalues1", plain(self))
        first = self.__array_interface__["data"][0]
        low, high = _extent(self)
        try:
            parcel, offset = _sharing.pack(first + low)
        except FileNotFoundError:
            return plain(self).__reduce_ex__(protocol)
        if high - low > parcel.region.size - offset:
            raise ValueError("the array reaches beyond its memory")
        fields = (
            parcel, offset - low, self.shape, self.strides, self.dtype, self.flags.writeable,
        )
        if type(self) is ndarray:
            return _sharing.load, ("array1", *fields)
        return _sharing.load, ("array1", *fields, type(self)), self.__dict__ or None

    def __reduce__(self) -> Any:
        return self.__reduce_ex__(2)

    def __setstate__(self, state: Any) -> None:
        if isinstance(state, dict):  # of a class made of this one
            self.__dict__.update(state)
        else:
            super().__setstate__(state)


ndarray.__module__ = "shmdev"


def plain(array: Any) -> Any:
    """The array as one of numpy's own class."""
    return array.view(numpy.ndarray)


def _extent(array: Any) -> tuple[int, int]:
    """The first byte of array and the one behind its last, from its first item on."""
    low, high = 0, array.itemsize
    for length, stride in zip(array.shape, array.strides):
        if stride < 0:
            low += (length - 1) * stride
        else:
            high += (length - 1) * stride
    return low, high


def rebuild(
    region: Any,
    offset: int,
    shape: tuple[int, ...],
    strides: tuple[int, ...],
    dtype: Any,
    writeable: bool,
    cls: Any = ndarray,
) -> Any:
    # Not over the region itself, of which numpy would keep no buffer.
    memory = numpy.frombuffer(region, numpy.uint8)
    array = numpy.ndarray.__new__(cls, shape, dtype, memory, offset, strides)
    if not writeable:
        array.flags.writeable = False
    return array


def dtype_of(description: Any) -> Any:
    """The type that numpy.lib.format.dtype_to_descr() describes so."""
    return numpy.lib.format.descr_to_dtype(description)


# --- creation -----------------------------------------------------------------------------


def _make(shape: Any, dtype: Any, order: Any, zeroed: bool) -> Any:
    dtype = numpy.dtype(dtype)
    if dtype.hasobject:
        raise TypeError(f"objects cannot be in shared memory: {dtype!r}")
    if order not in ("C", "F"):
        raise ValueError(f"order must be 'C' or 'F', not {order!r}")
    sizes = tuple(shape) if hasattr(shape, "__iter__") else (shape,)
    size = dtype.itemsize
    for length in sizes:
        length = index(length)
        if length < 0:
            raise ValueError("negative dimensions are not allowed")
        size *= length
    if size > maxsize:
        raise ValueError(f"array is too big: {size} bytes")
    # An empty buffer would be none to numpy.
    memory = numpy.frombuffer(_shmdev.block(size or 1, zeroed), numpy.uint8)  # type: ignore
    return ndarray(sizes, dtype, memory, order=order)


def empty(shape: Any, dtype: Any = float, order: Any = "C") -> Any:
    return _make(shape, dtype, order, False)


def zeros(shape: Any, dtype: Any = float, order: Any = "C") -> Any:
    return _make(shape, dtype, order, True)


def full(shape: Any, fill_value: Any, dtype: Any = None, order: Any = "C") -> Any:
    if dtype is None:
        dtype = numpy.asarray(fill_value).dtype
    made = empty(shape, dtype, order)
    numpy.copyto(made, fill_value, casting="unsafe")
    return made


def _order(order: Any, source: Any) -> str:
    if order in ("K", "A", None):
        return "F" if source.flags.fnc else "C"
    return str(order)


def array(object: Any, dtype: Any = None, *, order: Any = "K", ndmin: int = 0) -> Any:
    source = numpy.asanyarray(object)
    made = empty(source.shape, source.dtype if dtype is None else dtype, _order(order, source))
    numpy.copyto(made, source, casting="unsafe")
    if made.ndim < ndmin:
        made = made.reshape((1,) * (ndmin - made.ndim) + made.shape)
    return made


def is_shared(array: Any) -> bool:
    """Whether array is one of ours, and in shared memory."""
    if not isinstance(array, ndarray) or not array.size:
        return isinstance(array, ndarray)
    low, _ = _extent(array)
    try:
        _shmdev.region_locate(array.__array_interface__["data"][0] + low)
    except FileNotFoundError:
        return False
    return True


def asarray(a: Any, dtype: Any = None, order: Any = None) -> Any:
    if is_shared(a) and (dtype is None or a.dtype == numpy.dtype(dtype)):
        if order in (None, "K", "A") or a.flags["C" if order == "C" else "F"]:
            return a
    return array(a, dtype, order=order or "K")


def empty_like(prototype: Any, dtype: Any = None, order: Any = "K", shape: Any = None) -> Any:
    source = numpy.asanyarray(prototype)
    return empty(
        source.shape if shape is None else shape,
        source.dtype if dtype is None else dtype,
        _order(order, source),
    )


def arange(*arguments: Any, dtype: Any = None) -> Any:
    return array(numpy.arange(*arguments, dtype=dtype))
