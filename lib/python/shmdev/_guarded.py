# SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
"""Arrays and values with a lock.

The wrappers and the locks are multiprocessing's own classes; only the memory below them
is of this package.  A lock of multiprocessing's contexts is a semaphore, which goes only
to a process that is being started: in its place the lock has one in shared memory, which
goes wherever that goes, and is not held for ever by who was killed.  multiprocessing is
imported when the first is made.
"""

from __future__ import annotations

import ctypes
from functools import partial

from . import _classes, _shmdev
from ._late import imports

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def synchronized(obj: Any, lock: Any = None, ctx: Any = None) -> Any:
    """Guard a shared array or value with a lock: multiprocessing's wrapper around obj.

    Without a lock, one is made as by ctx.RLock(), ctx being a context of multiprocessing
    (by default the one in use).  The wrapper has get_obj(), get_lock(), acquire() and
    release(), is a context manager that holds the lock, and takes it for each access.

    With such a lock the wrapper can be sent to other processes at any time, as the array
    or value itself can; with a lock that was handed in, where that can be sent.  If a
    process or thread ends, or executes another program, while it holds such a lock, another
    one gets it that waits, after a second at most; what is guarded is as it was left.

    Any thread and process may use the wrapper.

    New in version 0.1.
    """
    with imports:
        from multiprocessing import sharedctypes

    if lock is None:
        lock = _new_lock(ctx)
    made = sharedctypes.synchronized(obj, lock, ctx)
    # An instance's own, so that multiprocessing's classes stay as they are.
    made.__reduce_ex__ = partial(_reduce_guarded, obj, lock)
    return made


def _reduce_guarded(obj: Any, lock: Any, protocol: Any) -> tuple[Any, ...]:
    with imports:
        from . import _sharing

    return _sharing.load, ("guarded1", obj, lock)


_LOCK_SIZE = 32


def _new_lock(ctx: Any) -> Any:
    """What ctx.RLock() makes, in shared memory unless ctx has locks of its own."""
    with imports:
        from multiprocessing import context, get_context

    ctx = ctx or get_context()
    stock = getattr(type(ctx), "RLock", None) is context.BaseContext.RLock
    if not stock or "RLock" in getattr(ctx, "__dict__", ()):
        return ctx.RLock()
    return lock_over(_shmdev.block(_LOCK_SIZE), 0)


def lock_over(memory: Any, offset: int) -> Any:
    """The lock in shared memory as an RLock of multiprocessing."""
    with imports:
        from multiprocessing import synchronize

    lock: Any = synchronize.RLock.__new__(synchronize.RLock)
    lock._semlock = _shmdev.lock(memory, offset)
    lock._make_methods()
    lock.__reduce_ex__ = partial(_reduce_lock, lock._semlock)
    return lock


def _reduce_lock(semlock: _shmdev.Lock, protocol: Any) -> tuple[Any, ...]:
    with imports:
        from . import _sharing

    return _sharing.load, ("lock1", *_sharing.pack(semlock.address))


def _guard(obj: Any, lock: Any, ctx: Any) -> Any:
    if lock is False:
        return obj
    if lock in (True, None):
        lock = _new_lock(ctx)
    if not hasattr(lock, "acquire"):
        raise AttributeError(f"{lock!r} has no method 'acquire'")
    return synchronized(obj, lock, ctx)


def Value(typecode_or_type: Any, *args: Any, lock: Any = True, ctx: Any = None) -> Any:
    """RawValue() with a lock around it.

    lock is True or None for a recursive lock as of ctx (a context of multiprocessing, by
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
