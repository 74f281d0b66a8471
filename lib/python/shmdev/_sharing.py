# SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
"""Sending arrays and values to other processes of this machine and user.

An object travels as its type, its region and its place there.  To a process that
multiprocessing is about to start, a region travels as a descriptor; in any other pickle,
as a handle (see shmdev_export(3)), which takes none.  Several objects of one region
name it once.  Nothing is registered with multiprocessing but one class of our own: a
reducer for a class would keep the class for ever.
"""

from __future__ import annotations

import ctypes
import errno
import os
import sys
import types
import weakref
from multiprocessing import context, reduction

from . import _classes, _holds, _shmdev
from ._late import imports

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


# This module is imported when something is first pickled.  If that is for multiprocessing, its
# pickler has looked up the reducers that there are before ours is registered below.
_dumps: Any = reduction.ForkingPickler.dumps
_SENDERS = (reduction.dump.__code__, _dumps.__func__.__code__)


def _sender() -> int | None:
    """The id of the frame, if there is one, in which multiprocessing pickles."""
    frame: types.FrameType | None = sys._getframe()
    while frame is not None and frame.f_code not in _SENDERS:
        frame = frame.f_back
    return id(frame) if frame else None


_imported_by = _sender()


class Parcel:
    """A region on its way; there is one of it in a pickle."""

    __slots__ = ("__weakref__", "region")

    def __init__(self, region: _shmdev.Region) -> None:
        self.region = region

    def __reduce__(self) -> tuple[Any, ...]:
        return self._reduce(_imported_by is not None and _imported_by == _sender())

    def _reduce(self, sent: bool) -> tuple[Any, ...]:
        region = self.region
        if context.get_spawning_popen() is not None:
            return _rebuild_region, (reduction.DupFd(region.fileno()), region.readonly)
        try:
            handle = _shmdev.region_handle(region)
        except OSError as error:
            raise _explained(error) from None
        return load, ("region1", handle, region.readonly, *_holds.hold(region, sent))


def _reduce_sent(parcel: Parcel) -> tuple[Any, ...]:
    """Parcel.__reduce__() for the pickles that multiprocessing sends."""
    return parcel._reduce(True)


reduction.ForkingPickler.register(Parcel, _reduce_sent)

_parcels: weakref.WeakKeyDictionary[_shmdev.Region, Any] = weakref.WeakKeyDictionary()


def _parcel(region: _shmdev.Region) -> Parcel:
    """The parcel of region: the same as long as a pickle has it."""
    known = _parcels.get(region)
    parcel = known() if known else None
    if parcel is None:
        parcel = Parcel(region)
        _parcels[region] = weakref.ref(parcel)
    return parcel


def pack(address: int) -> tuple[Parcel, int]:
    """A parcel of the memory at address, which somebody keeps, and the place in it."""
    region, offset = _shmdev.region_locate(address)
    return _parcel(region), offset


def reduce_data(data: Any) -> tuple[Any, ...]:
    """__reduce_ex__() of shared arrays and values."""
    ctype, length = ctype_of(data)
    try:
        parcel, offset = pack(ctypes.addressof(data))
    except FileNotFoundError:
        raise _not_shared(data) from None
    return load, ("data1", _describe(ctype), length, parcel, offset)


def ctype_of(data: Any) -> tuple[Any, Any]:
    """The ctypes type of shared data, or of its items and how many."""
    if isinstance(data, ctypes.Array):
        return data._type_, data._length_
    # The classes in front of it are ours and cannot be found by name.
    return next(c for c in type(data).__mro__ if not issubclass(c, _classes.SharedData)), None


def _not_shared(data: Any) -> TypeError:
    return TypeError(f"this {type(data).__name__} object is not in shared memory")


def locate(data: Any) -> tuple[_shmdev.Region, int]:
    """The region that data lies in, and where.  TypeError if it lies in none."""
    try:
        return _shmdev.region_locate(ctypes.addressof(data))
    except FileNotFoundError:
        raise _not_shared(data) from None


class Wrapper:
    """What multiprocessing's reducer of ctypes objects sends in place of the memory."""

    def __init__(self, data: Any) -> None:
        self._region, self._offset = locate(data)
        self._size = ctypes.sizeof(data)

    def create_memoryview(self) -> memoryview:
        return memoryview(self._region)[self._offset : self._offset + self._size]


def reduce_region(region: Any) -> tuple[Any, ...]:
    """__reduce__() of regions."""
    return load, ("same1", _parcel(region))


# --- loading: what these are called, and what they are called with, is for ever ---------


def load(kind: str, *fields: Any) -> Any:
    """What is in every pickle of ours: a kind with a version, and what it consists of."""
    loader = _loaders.get(kind)
    if loader is None:
        raise ValueError(
            f"a {kind!r}, pickled by a later version of shmdev than {_shmdev.__version__}"
        )
    return loader(*fields)


def attach(handle: bytes, readonly: bool) -> tuple[_shmdev.Region, int, int]:
    """_shmdev.attach(), with what a user can do about its errors."""
    try:
        return _shmdev.attach(handle, readonly)
    except OSError as error:
        raise _explained(error) from None


_EXPLANATIONS = {
    errno.ENOENT: "the shared memory is gone: the process that sent it has ended, or freed it "
    "before it was loaded here",
    errno.EXDEV: "the shared memory is of another machine, container or boot: send "
    "shmdev.by_value(array) to send its bytes",
    errno.EACCES: "the shared memory is another user's, or sealed against writing",
    errno.EPROTONOSUPPORT: "the shared memory was sent by a later version of shmdev",
    errno.EOPNOTSUPP: "there is no /proc, by which the shared memory could be found: send "
    "shmdev.by_value(array) to send its bytes",
}


def _explained(error: OSError) -> OSError:
    assert error.errno is not None
    text = _EXPLANATIONS.get(error.errno)
    return OSError(error.errno, f"{text} ({error.strerror})") if text else error


def _load_region(handle: bytes, readonly: bool, *receipt: Any) -> _shmdev.Region:
    try:
        region, _, _ = attach(handle, readonly)
    except PermissionError:
        # It may have been sealed in the meantime.
        region, _, _ = attach(handle, True)
    _holds.arrived(*receipt)
    return region


def _load_data(description: Any, length: Any, region: Any, offset: int) -> Any:
    if region.readonly:
        raise PermissionError(
            errno.EACCES, "the array is sealed, and ctypes knows no arrays to read only"
        )
    made = _classes.entry(_undescribe(description), length)[0]
    return made.from_buffer(region, offset)


def _load_values(description: Any, length: Any, values: Any) -> Any:
    made, size, _, _ = _classes.entry(_undescribe(description), length)
    data = made.from_buffer(_shmdev.block(size))
    memoryview(data).cast("B")[:] = memoryview(values).cast("B")
    return data


def _load_array(*fields: Any) -> Any:
    with imports:
        from . import _ndarray

    return _ndarray.rebuild(*fields)


def _load_array_values(values: Any) -> Any:
    with imports:
        from . import _ndarray

    return _ndarray.array(values)


def _load_guarded(obj: Any, lock: Any) -> Any:
    with imports:
        from . import _guarded

    return _guarded.synchronized(obj, lock)


def _load_lock(region: Any, offset: int) -> Any:
    with imports:
        from . import _guarded

    return _guarded.lock_over(region, offset)


def _load_same(region: Any) -> Any:
    return region


_loaders = {
    "array1": _load_array,
    "arrayvalues1": _load_array_values,
    "data1": _load_data,
    "guarded1": _load_guarded,
    "lock1": _load_lock,
    "region1": _load_region,
    "same1": _load_same,
    "values1": _load_values,
}


def _describe(ctype: Any) -> Any:
    """ctype as pickle can send it: by name, or (item type, length) if it has none."""
    found: Any = sys.modules.get(ctype.__module__)
    for name in ctype.__qualname__.split("."):
        found = getattr(found, name, None)
    if found is not ctype and issubclass(ctype, ctypes.Array):
        return _describe(ctype._type_), ctype._length_
    return ctype


def _undescribe(description: Any) -> Any:
    if isinstance(description, tuple):
        item, length = description
        return _undescribe(item) * length
    return description


def _rebuild_region(duplicate: Any, readonly: bool) -> Any:
    fd = duplicate.detach()
    try:
        return _shmdev.region_open(fd, readonly)
    finally:
        os.close(fd)


# --- by value -----------------------------------------------------------------------------


class ByValue:
    """What by_value() returns: its pickle has the bytes."""

    __slots__ = ("_data",)

    def __init__(self, data: Any) -> None:
        self._data = data

    def __reduce_ex__(self, protocol: Any) -> tuple[Any, ...]:
        data = self._data
        if not isinstance(data, _classes.SharedData):
            with imports:
                from . import _ndarray

            return load, ("arrayvalues1", _ndarray.plain(data))
        ctype, length = ctype_of(data)
        view = memoryview(data).cast("B")  # type: ignore[arg-type]
        values: Any
        if protocol >= 5:
            from pickle import PickleBuffer

            values = PickleBuffer(view)
        else:
            values = bytes(view)
        return load, ("values1", _describe(ctype), length, values)
