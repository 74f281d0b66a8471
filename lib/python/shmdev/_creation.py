# SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
"""numpy arrays in shared memory: numpy is imported when the first is made."""

from __future__ import annotations

from ._late import imports

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from ._ndarray import ndarray


def empty(shape: Any, dtype: Any = float, order: str = "C") -> ndarray:
    """numpy.empty() in shared memory: an array with whatever was there before, of this process.

    Raises what numpy.empty() does, TypeError if dtype has Python objects in it, MemoryError,
    and OSError where no backend can serve; so do the functions below.

    New in version 0.1.
    """
    with imports:
        from . import _ndarray

    made: ndarray = _ndarray.empty(shape, dtype, order)
    return made


def zeros(shape: Any, dtype: Any = float, order: str = "C") -> ndarray:
    """numpy.zeros() in shared memory; fresh memory is zero at no cost.

    New in version 0.1.
    """
    with imports:
        from . import _ndarray

    made: ndarray = _ndarray.zeros(shape, dtype, order)
    return made


def ones(shape: Any, dtype: Any = float, order: str = "C") -> ndarray:
    """numpy.ones() in shared memory.

    New in version 0.1.
    """
    with imports:
        from . import _ndarray

    made: ndarray = _ndarray.full(shape, 1, dtype, order)
    return made


def full(
    shape: Any, fill_value: Any, dtype: Any = None, order: str = "C"
) -> ndarray:
    """numpy.full() in shared memory.

    New in version 0.1.
    """
    with imports:
        from . import _ndarray

    made: ndarray = _ndarray.full(shape, fill_value, dtype, order)
    return made


def array(
    object: Any, dtype: Any = None, *, order: str = "K", ndmin: int = 0
) -> ndarray:
    """A copy of object in shared memory, as numpy.array() makes one.

    New in version 0.1.
    """
    with imports:
        from . import _ndarray

    made: ndarray = _ndarray.array(object, dtype, order=order, ndmin=ndmin)
    return made


def asarray(a: Any, dtype: Any = None, order: str | None = None) -> ndarray:
    """a itself if it is such an array, in shared memory, and as asked for; else array(a).

    New in version 0.1.
    """
    with imports:
        from . import _ndarray

    made: ndarray = _ndarray.asarray(a, dtype, order)
    return made


def empty_like(
    prototype: Any, dtype: Any = None, order: str = "K", shape: Any = None
) -> ndarray:
    """numpy.empty_like() in shared memory; prototype need not be there.

    New in version 0.1.
    """
    with imports:
        from . import _ndarray

    made: ndarray = _ndarray.empty_like(prototype, dtype, order, shape)
    return made


def arange(*arguments: Any, dtype: Any = None) -> ndarray:
    """numpy.arange() in shared memory.

    New in version 0.1.
    """
    with imports:
        from . import _ndarray

    made: ndarray = _ndarray.arange(*arguments, dtype=dtype)
    return made
