# SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
"""Arrays and values with a lock.

The wrappers are multiprocessing's own classes, so that isinstance() and pickling hold;
only the memory below them is of this package.  multiprocessing is imported when the
first is made.
"""

from __future__ import annotations

import ctypes

from . import _classes, _shmdev

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def synchronized(obj: Any, lock: Any = None, ctx: Any = None) -> Any:
    """Guard a shared array or value with a lock: multiprocessing's wrapper around obj.

    Without a lock, one is made by ctx.RLock(), ctx being a context of multiprocessing
    (by default the one in use).  The wrapper has get_obj(), get_lock(), acquire() and
    release(), is a context manager that holds the lock, and takes it for each access.

    Any thread and process may use the wrapper.

    New in version 0.1.
    """
    from multiprocessing import sharedctypes

    return sharedctypes.synchronized(obj, lock, ctx)


def _guard(obj: Any, lock: Any, ctx: Any) -> Any:
    if lock is False:
        return obj
    if lock in (True, None):
        if not ctx:
            from multiprocessing import get_context

            ctx = get_context()
        lock = ctx.RLock()
    if not hasattr(lock, "acquire"):
        raise AttributeError(f"{lock!r} has no method 'acquire'")
    return synchronized(obj, lock, ctx)


def Value(typecode_or_type: Any, *args: Any, lock: Any = True, ctx: Any = None) -> Any:
    """RawValue() with a lock around it.

    lock is True or None for a recursive lock of ctx (a context of multiprocessing, by
    default the one in use), a lock to use, or False for none: then the result is that
    of RawValue().  See synchronized() for what the wrapper can do; one around a
    Structure has a property for each field.

    Raises what RawValue() does, and AttributeError if lock is not one.

    New in version 0.1.
    """
    return _guard(_classes.RawValue(typecode_or_type, *args), lock, ctx)


def Array(
    typecode_or_type: Any, size_or_initializer: Any, *, lock: Any = True, ctx: Any = None
) -> Any:
    """RawArray() with a lock around it; lock and ctx are as for Value().

    Assigning to a slice of the wrapper holds the lock and is as fast as with a
    RawArray.

    Raises what RawArray() does, and AttributeError if lock is not one.

    New in version 0.1.
    """
    return _guard(_shmdev.RawArray(typecode_or_type, size_or_initializer), lock, ctx)


def copy(obj: Any) -> Any:
    """A ctypes object in shared memory of its own with the bytes of obj.

    obj is any ctypes object, shared or not.  What it points to is not copied.

    Raises TypeError if obj is not of ctypes, MemoryError, and OSError where no backend
    can serve.

    New in version 0.1.
    """
    made = _classes.class_like(obj)
    size = ctypes.sizeof(obj)
    new = made.from_buffer(_shmdev.block(size))
    ctypes.memmove(ctypes.addressof(new), ctypes.addressof(obj), size)
    return new
