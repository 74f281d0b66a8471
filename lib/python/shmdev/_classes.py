# SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
"""The classes of shared arrays and values.

An array of n items of ctype is an instance of a subclass of ctype * n, so that all
that ctypes does with such an array it does with ours: POINTER arguments, assignment
to fields of structures, from_buffer.  RawArray (in C) looks into entries for a class
that it was not asked for lately, and asks entry() for one that is not there.
"""

from __future__ import annotations

import ctypes
import os
import weakref
from collections import deque
from functools import partial
from struct import calcsize
from sys import byteorder
from threading import RLock

from . import _shmdev
from ._late import imports

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

typecodes: dict[str, Any] = {
    "c": ctypes.c_char,
    "u": ctypes.c_wchar,
    "b": ctypes.c_byte,
    "B": ctypes.c_ubyte,
    "h": ctypes.c_short,
    "H": ctypes.c_ushort,
    "i": ctypes.c_int,
    "I": ctypes.c_uint,
    "l": ctypes.c_long,
    "L": ctypes.c_ulong,
    "q": ctypes.c_longlong,
    "Q": ctypes.c_ulonglong,
    "f": ctypes.c_float,
    "d": ctypes.c_double,
}

# Simple types that are numbers, so that their format says all about them.
_NUMBERS = frozenset("?cbBhHiIlLqQfdg")

_SimpleType = type(ctypes.c_int)


class _Wrapper:
    """The memory of an object as multiprocessing.sharedctypes wants to find it.

    multiprocessing's copy() makes its objects of our class and registers a reducer of
    its own for it, which asks them and ours for their _wrapper.  It stores one in the
    objects it makes: so this must not be a property, which would not let it.
    """

    def __get__(self, data: Any, owner: Any = None) -> Any:
        if data is None:
            return self
        with imports:
            from . import _sharing

        return _sharing.Wrapper(data)


def _reduced(data: Any) -> Any:
    """What the class that data is of, without us, says to pickle."""
    for cls in type(data).__mro__:
        if "__reduce__" in cls.__dict__ and not issubclass(cls, SharedData):
            return cls.__reduce__(data)
    raise AssertionError("object has a __reduce__")


class SharedData:
    """Base of all ctypes objects whose memory is shared."""

    __slots__ = ()
    _wrapper = _Wrapper()

    def __reduce_ex__(self, protocol: Any) -> Any:
        with imports:
            from . import _sharing

        return _sharing.reduce_data(self)

    # A copy is a ctypes object with memory of its own, as that of any other.

    def __copy__(self) -> Any:
        make, arguments = _reduced(self)
        return make(*arguments)

    def __deepcopy__(self, memo: Any) -> Any:
        from copy import deepcopy

        make, arguments = _reduced(self)
        return make(*deepcopy(arguments, memo))


# PEP 3118 codes whose items memoryview can read and write.
_NATIVE = frozenset("?cbBhHiIlLqQfd")


class SharedArray(SharedData):
    """Base of arrays of anything."""

    __slots__ = ()

    def __repr__(self) -> str:
        data: Any = self
        text = f"shmdev {data._type_.__name__} * {data._length_}"
        if isinstance(data._type_, _SimpleType) and isinstance(data._type_._type_, str):
            few = len(data) <= 6
            items = [repr(data[i]) for i in range(len(data) if few else 3)]
            if not few:
                items += ["...", *(repr(data[i]) for i in (-3, -2, -1))]
            text += f": [{', '.join(items)}]"
        return f"<{text}>"

    @property
    def region(self) -> _shmdev.Region:
        """The region that the array lies in: its size, backend, page_size, huge_share.

        Whoever holds a region can hand it on: when the array is freed, its memory is
        not used again while the region lives.  TypeError if the array is not in shared
        memory, as one made by calling its class.  New in version 0.1.
        """
        with imports:
            from . import _sharing

        return _sharing.locate(self)[0]

    def memoryview(self) -> memoryview:
        """The array's memory with items in native format, which can be read and written.

        memoryview(array) has the format that ctypes gives it, such as "<i", of which
        Python knows no items.  Where there is no native format (structures, the other
        byte order, c_wchar, c_longdouble) this is memoryview(array).

        New in version 0.1.
        """
        view: Any = memoryview(self)  # type: ignore[arg-type]
        code = view.format.lstrip("@<" if byteorder == "little" else "@>")
        if code in _NATIVE and not view.nbytes:
            # Without items there is nothing to keep, and cast() does not like zeros.
            view = memoryview(bytearray(8))
            view = view.cast(code)[:0]
        elif code in _NATIVE and calcsize(code) == view.itemsize:
            view = view.cast("B").cast(code, view.shape)
        return view  # type: ignore[no-any-return]

    def numpy(self) -> Any:
        """The array's memory as a numpy array, not copied.

        ValueError if numpy has no type for the items.  New in version 0.1.
        """
        from importlib import import_module

        with imports:
            numpy = import_module("numpy")
        return numpy.asarray(self)

    def __dlpack_device__(self) -> tuple[int, int]:
        """The CPU's memory.  New in version 0.1."""
        return 1, 0

    def __dlpack__(
        self,
        *,
        stream: Any = None,
        max_version: tuple[int, int] | None = None,
        dl_device: tuple[int, int] | None = None,
        copy: bool | None = None,
    ) -> Any:
        """The array as a DLPack tensor, for the from_dlpack() of another library.

        BufferError if that has no type for the items or asks for another device.  New in
        version 0.1.
        """
        if stream is not None:
            raise BufferError("memory of the CPU has no streams")
        if dl_device not in (None, self.__dlpack_device__()):
            raise BufferError(f"the array is not on device {dl_device}")
        data = self.__copy__() if copy else self
        versioned = max_version is not None and max_version[0] >= 1
        return _shmdev.dlpack(data, versioned, bool(copy))


class SharedNumbers(_shmdev.FastArray, SharedArray):
    """Base of arrays of numbers."""

    __slots__ = ()


# (ctype, length) -> (weak reference to the class, size in bytes, number, swapped).
# The length is None for a single value.  An entry goes when its class does: a class
# lives as long as an array of it, or until the garbage collector comes.
entries: dict[tuple[Any, Any], tuple[Any, int, int, bool]] = {}

# Held by who changes the entries.  A class can go at any moment, as in a child whose
# parent's other thread held the lock at the fork: its weak reference's callback does
# not wait for the lock, but leaves the key for who has it next.
_lock = RLock()
_gone: deque[tuple[Any, Any]] = deque()


def _forked() -> None:
    # Here nobody can release what another thread of the parent held.
    global _lock
    _lock = RLock()
    _shmdev.forked()


os.register_at_fork(after_in_child=_forked)


# Not a closure in entry(): CPython 3.11 and 3.12 do not survive it when there is no
# memory for one's cells.
def _forget(key: tuple[Any, Any], _: Any) -> None:
    _gone.append(key)
    if _lock.acquire(blocking=False):
        try:
            while _gone:
                key = _gone.popleft()
                found = entries.get(key)
                if found and found[0]() is None:
                    del entries[key]
        finally:
            _lock.release()


def _format_number(ctype: Any) -> tuple[int, bool]:
    """What items of ctype are to the conversions in C."""
    if isinstance(ctype, _SimpleType) and ctype._type_ in _NUMBERS:
        item = memoryview(ctype.from_buffer_copy(bytes(ctypes.sizeof(ctype))))
        assert item.format is not None
        return _shmdev.format_number(item.format, item.itemsize)
    return _shmdev.NUMBER_UNKNOWN, False


def _plain_array(base: Any) -> bool:
    """Whether nobody but ctypes stores items of base."""
    return (
        base.__init__ is ctypes.Array.__init__
        and base.__setitem__ is ctypes.Array.__setitem__
    )


# The slot of FastArray, in the classes' own dictionaries.
_FAST = {name: _shmdev.FastArray.__dict__[name] for name in ("__setitem__", "__delitem__")}


def _make(base: Any, mixin: Any) -> Any:
    """A subclass of base and mixin, under base's metaclass and name."""
    if mixin is not SharedNumbers:
        return type(base)(base.__name__, (mixin, base), {"__module__": __package__})
    # ctypes looks for its own class among an array's bases with each element that it
    # stores, from the front: so ours come behind.
    return type(base)(base.__name__, (base, mixin), {"__module__": __package__, **_FAST})


def entry(ctype: Any, length: Any) -> tuple[type[Any], int, int, bool]:
    """Find or make the class of length items of ctype, or of a single one.

    As in entries, with the class itself in the first place.
    """
    if not isinstance(ctype, type):
        raise TypeError(f"{ctype!r} is neither a typecode nor a ctypes type")
    number, swapped = _shmdev.NUMBER_UNKNOWN, False
    base: Any = ctype
    mixin: type = SharedData
    if length is not None:
        base = base * length
        if not (isinstance(base, type) and issubclass(base, ctypes.Array)):
            raise TypeError(f"{ctype!r} is not a ctypes type")
        if _plain_array(base):
            number, swapped = _format_number(ctype)
        mixin = SharedArray if number == _shmdev.NUMBER_UNKNOWN else SharedNumbers
    size = ctypes.sizeof(base)  # TypeError for what is not of ctypes

    if issubclass(base, SharedData):  # a value of a class of ours
        return base, size, number, swapped

    key = ctype, length
    with _lock:
        known = entries.get(key)
        made = known[0]() if known else None
        if made is None:
            made = _make(base, mixin)
            entries[key] = weakref.ref(made, partial(_forget, key)), size, number, swapped
    return made, size, number, swapped


def reduce_region(region: _shmdev.Region) -> Any:
    """__reduce__() of regions."""
    with imports:
        from . import _sharing
    return _sharing.reduce_region(region)


def class_like(data: Any) -> type[Any]:
    """The class of shared objects that are what data is, a ctypes object."""
    ctype: Any = type(data)
    if isinstance(data, ctypes.Array) and ctype._type_ * ctype._length_ is ctype:
        return entry(ctype._type_, ctype._length_)[0]
    return entry(ctype, None)[0]


_shmdev.classes_from(typecodes, entries, entry)


def RawValue(typecode_or_type: Any, *args: Any) -> Any:
    """A ctypes object in shared memory, without a lock.

    typecode_or_type is as for RawArray(); args go to its constructor.  The memory is
    zero before.  The object is an instance of a subclass of the type; it can be an
    argument of a multiprocessing.Process under every start method, and its memory
    lives as long as it or a view of it, in any process.

    Raises TypeError for an unknown type, what the constructor raises, MemoryError,
    and OSError where no backend can serve.  Any thread may call this.

    New in version 0.1.
    """
    ctype = typecodes.get(typecode_or_type, typecode_or_type)
    made, size, _, _ = entry(ctype, None)
    value = made.from_buffer(_shmdev.block(size))
    value.__init__(*args)
    return value
