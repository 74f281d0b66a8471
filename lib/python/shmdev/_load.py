# SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
"""numpy arrays from files and to files: numpy is imported when the first is."""

from __future__ import annotations

from ._late import imports

TYPE_CHECKING = False
if TYPE_CHECKING:
    import os
    from typing import Any, Callable, Iterable, Literal, Union, overload

    from ._ndarray import ndarray

    _Path = Union[str, bytes, os.PathLike[str], os.PathLike[bytes]]
    _Progress = Union[Callable[[int, int], object], bool, None]


def fromfile(
    file: _Path,
    dtype: Any = float,
    shape: Any = None,
    offset: int = 0,
    *,
    order: str = "C",
    progress: _Progress = None,
) -> ndarray:
    """The numbers in file, from byte offset on, as an array of shape in shared memory.

    file is the name of a file, not of a pipe or terminal: fill() reads from these.  Without
    shape the rest of the file is taken, as one dimension; one of the lengths may be -1 for
    as many as there are.  It is read at once, in large pieces, past the page cache where
    that pays, and other threads run meanwhile.

    progress is called with the bytes that have come and all that are to come, at the
    beginning, some 20 times a second, and at the end; progress=True shows a bar by tqdm,
    which has to be installed.  If it raises, or Ctrl-C comes, reading stops, the memory is
    free again, and the exception goes on.

    Raises OSError as open() does and with the errno of the read; ValueError if the file is
    shorter than that (there is no array of less) or, without shape, has a part of an item;
    what empty() does.

    New in version 0.1.
    """
    with imports:
        from . import _npy

    return _npy.fromfile(file, dtype, shape, offset, order, progress)  # type: ignore[no-any-return]


def load(
    file: _Path, member: str | None = None, *, progress: _Progress = None
) -> ndarray:
    """The array of a .npy file, or one of a .npz file, in shared memory.

    Of a .npz file member is the name of an array; it can be left out if there is one only.
    What numpy.savez() wrote is read from where it lies, with its checksum verified; what
    numpy.savez_compressed() wrote is decompressed into its place.  Types, byte order and
    Fortran order are as in the file.

    progress and Ctrl-C: see fromfile().

    Raises OSError as there; ValueError if the file is of neither kind, cut off, damaged, or
    has Python objects, which are not in shared memory; KeyError if there is no such member.

    New in version 0.1.
    """
    with imports:
        from . import _npy

    (array,) = _npy.load_many([(file, member)], progress, False)
    return array  # type: ignore[no-any-return]


if TYPE_CHECKING:

    @overload
    def load_many(
        files: Iterable[_Path | tuple[_Path, str | None]],
        *,
        return_exceptions: Literal[False] = False,
        progress: _Progress = None,
    ) -> list[ndarray]: ...
    @overload
    def load_many(
        files: Iterable[_Path | tuple[_Path, str | None]],
        *,
        return_exceptions: bool,
        progress: _Progress = None,
    ) -> list[ndarray | Exception]: ...


def load_many(
    files: Iterable[_Path | tuple[_Path, str | None]],
    *,
    return_exceptions: bool = False,
    progress: _Progress = None,
) -> list[Any]:
    """load() of many files at once: names, or pairs of a name and a member.

    Files are opened as many at a time as there are descriptors for.  The first error is
    raised, and there are no arrays then; with return_exceptions each error stands in its
    place in the list, beside the arrays of the others.

    New in version 0.1.
    """
    with imports:
        from . import _npy

    pairs = [file if isinstance(file, tuple) else (file, None) for file in files]
    return _npy.load_many(pairs, progress, return_exceptions)


def tofile(array: Any, file: _Path, *, sync: bool = False, progress: _Progress = None) -> None:
    """Write the bytes of array to file, in C order, as its method tofile() does.

    array is of this package or whatever numpy makes an array of; what is not contiguous is
    copied first.  What is in shared memory is written at once, in large pieces.

    The file takes the place of one that was there when it is whole: after an error, an
    exception of progress (see fromfile()) or Ctrl-C the old one is as it was.  With sync it is
    on stable storage then.  (A process that is killed meanwhile leaves a file .shmdev-*.)

    Raises OSError with the errno of the call; ValueError if file is there and is not a
    regular file, or array has Python objects.

    New in version 0.1.
    """
    with imports:
        from . import _npy

    _npy.tofile(array, file, sync, progress)


def save(file: _Path, array: Any, *, sync: bool = False, progress: _Progress = None) -> None:
    """Write array to file in numpy's format, as numpy.save() does; see tofile().

    .npy is added to a name that does not end so.

    New in version 0.1.
    """
    with imports:
        from . import _npy

    _npy.save(file, array, sync, progress)
