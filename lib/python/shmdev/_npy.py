# SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
"""The formats .npy and .npz, and raw numbers: into arrays and out of them."""

from __future__ import annotations

import ast
import contextlib
import errno
import io
import operator
import os
import resource
import secrets
import stat
import struct
import zipfile
import zlib
from typing import Any, BinaryIO, Iterator

import numpy
from numpy.lib import format as npy

from . import _ndarray, _shmdev

# What is decompressed or checked at a time: a signal waits as long as that takes.
_CHUNK = 4 << 20

# Files that are open at a time, at most.
_MOST_FILES = 256

# As numpy's own limit, for headers whose text is evaluated.
_MAX_HEADER = 10000

_PREFIX_SIZE = 6


class _Progress:
    """Tells a callback, or a bar of tqdm, how many of total bytes are done."""

    def __init__(self, progress: Any, total: int) -> None:
        self.failed = False
        self._bar: Any = None
        self._total = total
        self._done = 0
        if progress is True:
            from tqdm import tqdm  # type: ignore[import-untyped,unused-ignore]

            self._bar = tqdm(total=total, unit="B", unit_scale=True, unit_divisor=1024)
            progress = self._show
        self._callback = progress
        self.during(0)

    def _show(self, done: int, total: int) -> None:
        self._bar.update(done - self._bar.n)

    def during(self, size: int) -> None:
        """So many bytes of what is being done are done."""
        # A file may have grown since total was made.
        try:
            self._callback(min(self._done + size, self._total), self._total)
        except BaseException:
            self.failed = True
            raise

    def add(self, size: int) -> None:
        self._done += size
        self.during(0)

    def __enter__(self) -> _Progress:
        return self

    def __exit__(self, *exception: object) -> None:
        if self._bar is not None:
            self._bar.close()


class _Silence:
    """In the place of a _Progress where nobody wants to know."""

    during = None
    failed = False

    def add(self, size: int) -> None:
        pass

    def __enter__(self) -> _Silence:
        return self

    def __exit__(self, *exception: object) -> None:
        pass


def _watch(progress: Any, total: int) -> _Progress | _Silence:
    if progress is None or progress is False:
        return _Silence()
    if progress is not True and not callable(progress):
        raise TypeError("progress must be callable, True or None")
    return _Progress(progress, total)


def _forget(error: BaseException) -> None:
    """Let the frames of this module that error has passed let go of memory."""
    # An interactive interpreter would keep it until there is another error.
    traceback = error.__traceback__
    while traceback:
        if traceback.tb_frame.f_globals is globals():
            with contextlib.suppress(RuntimeError):  # it is still running
                traceback.tb_frame.clear()
        traceback = traceback.tb_next


def _open(path: Any) -> tuple[BinaryIO, int]:
    """The file and its size."""
    file = open(os.fspath(path), "rb")
    try:
        mode = os.fstat(file.fileno()).st_mode
        if not stat.S_ISREG(mode) and not stat.S_ISBLK(mode):
            raise ValueError(f"{_name(path)}: not a file that has a size")
        size = file.seek(0, os.SEEK_END)
        file.seek(0)
    except BaseException:
        file.close()
        raise
    return file, size


def _name(path: Any, member: str | None = None) -> str:
    name = os.fsdecode(path)
    return name if member is None else f"{name}[{member!r}]"


def _bytes_of(array: Any) -> Any:
    """The memory of an array that is contiguous in either order."""
    return (array if array.flags.c_contiguous else array.T).reshape(-1).view(numpy.uint8)


def _is_of_system(error: Exception) -> bool:
    """Whether it was no matter of what is in the file."""
    # Of decompressors some raise an OSError of their own.
    return isinstance(error, MemoryError) or isinstance(error, OSError) and bool(error.errno)


# --- the header of a .npy -----------------------------------------------------------------


def _read_header_3(stream: Any) -> tuple[tuple[int, ...], bool, Any]:
    """numpy reads this version, of names that are not Latin-1, by no public call."""
    prefix = stream.read(4)
    if len(prefix) < 4:
        raise ValueError("cut off in the header")
    (length,) = struct.unpack("<I", prefix)
    if length > _MAX_HEADER:
        raise ValueError(f"a header of {length} bytes is above {_MAX_HEADER}")
    text = stream.read(length)
    if len(text) < length:
        raise ValueError("cut off in the header")
    header = ast.literal_eval(text.decode())
    if not isinstance(header, dict) or header.keys() != npy.EXPECTED_KEYS:
        raise ValueError("the header has other keys than it should")
    return header["shape"], header["fortran_order"], npy.descr_to_dtype(header["descr"])


_READERS: dict[tuple[int, int], Any] = {
    (1, 0): npy.read_array_header_1_0,
    (2, 0): npy.read_array_header_2_0,
    (3, 0): _read_header_3,
}


def _read_header(stream: Any, name: str) -> tuple[tuple[int, ...], bool, Any]:
    """Shape, whether it is in Fortran order, and type; stream is then at the items."""
    try:
        version = npy.read_magic(stream)
        if version not in _READERS:
            raise ValueError(f"version {version} of the format is not known")
        shape, fortran_order, dtype = _READERS[version](stream)
        if not isinstance(shape, tuple) or not all(
            type(length) is int and length >= 0 for length in shape
        ):
            raise ValueError(f"{shape!r} is no shape")
        if not isinstance(fortran_order, bool):
            raise ValueError("fortran_order is no bool")
    except Exception as error:  # evaluating text can fail in many ways
        if _is_of_system(error):
            raise
        raise ValueError(f"{name}: not a .npy file, or damaged: {error}") from error
    if dtype.hasobject:
        raise ValueError(f"{name}: Python objects cannot be in shared memory: {dtype!r}")
    return shape, fortran_order, dtype


def _header(array: Any) -> bytes:
    """What stands in front of the items of array in a .npy file."""
    fields = npy.header_data_from_array_1_0(array)
    for write in (npy.write_array_header_1_0, npy.write_array_header_2_0):
        stream = io.BytesIO()
        try:
            write(stream, fields)
        except UnicodeEncodeError:
            break
        except ValueError:  # too long
            continue
        return stream.getvalue()
    text = repr({key: fields[key] for key in sorted(fields)}).encode()
    start = npy.magic(3, 0)
    length = -(-(len(start) + 4 + len(text) + 1) // npy.ARRAY_ALIGN) * npy.ARRAY_ALIGN
    length -= len(start) + 4
    return start + struct.pack("<I", length) + text.ljust(length - 1) + b"\n"


# --- where an array lies in a file ----------------------------------------------------------


class _Place:
    """An array in an open file: at an offset, or what a stream decompresses."""

    def __init__(self, file: BinaryIO, path: Any, member: str | None) -> None:
        self.path = path
        self.member = member
        self.name = _name(path, member)
        self.offset = 0
        self.stream: Any = None
        # A stored member's checksum, and that of its header.
        self.crc: int | None = None
        self.header_crc = 0
        self._file = file

    def of_npy(self, size: int) -> _Place:
        self._describe(self._file)
        self.offset = self._file.tell()
        self._check(size - self.offset)
        return self

    def of_npz(self) -> _Place:
        try:
            archive = zipfile.ZipFile(self._file)
        except Exception as error:
            raise self._damage(error) from None
        info = self._find(archive)
        try:
            if info.header_offset < 0:
                raise EOFError("its beginning is missing")
            stream = archive.open(info)
        except Exception as error:
            raise self._damage(error) from None
        self._describe(stream)
        header_size = stream.tell()
        if info.compress_type == zipfile.ZIP_STORED:
            start = self._start_of(info)
            self.offset = start + header_size
            self.crc = info.CRC
            self.header_crc = zlib.crc32(os.pread(self._file.fileno(), header_size, start))
            stream.close()
        else:
            self.stream = stream
        self._check(info.file_size - header_size)
        return self

    def _find(self, archive: zipfile.ZipFile) -> zipfile.ZipInfo:
        """Its entry: of a name with or without .npy, or the only one."""
        names = [name for name in archive.namelist() if name.endswith(".npy")]
        if self.member is None:
            if len(names) != 1:
                raise ValueError(
                    f"{self.name}: which of its {len(names)} members? "
                    + ", ".join(repr(name[:-4]) for name in names)
                )
            return archive.getinfo(names[0])
        for name in (self.member, f"{self.member}.npy"):
            if name in names:
                return archive.getinfo(name)
        raise KeyError(f"{_name(self.path)} has no member {self.member!r}")

    def _start_of(self, info: zipfile.ZipInfo) -> int:
        """Where a member's bytes begin, behind a header that archive.open() has checked."""
        header = os.pread(self._file.fileno(), 30, info.header_offset)
        name_size, extra_size = struct.unpack_from("<HH", header, 26)
        return info.header_offset + 30 + int(name_size) + int(extra_size)

    def _describe(self, stream: Any) -> None:
        self.shape, fortran_order, self.dtype = _read_header(stream, self.name)
        self.order = "F" if fortran_order else "C"
        self.size = self.dtype.itemsize
        for length in self.shape:
            self.size *= length

    def _check(self, size: int) -> None:
        if size < self.size:
            raise self.cut_off(size)

    def cut_off(self, size: int) -> ValueError:
        return ValueError(
            f"{self.name}: cut off: there are {size} bytes of {self.size} for "
            f"shape {self.shape} of {self.dtype!r}"
        )

    def _damage(self, error: Exception) -> Exception:
        """What is to be raised for an error of reading an archive."""
        if _is_of_system(error):
            return error
        return ValueError(f"{self.name}: damaged, or not to be read: {error}")

    def decompress(self, array: Any, watch: _Progress | _Silence) -> None:
        memory = memoryview(_bytes_of(array)) if self.size else memoryview(b"")
        done = 0
        try:
            while done < self.size:
                size = self.stream.readinto(memory[done : done + _CHUNK])
                if not size:
                    raise EOFError("it ends too early")
                done += size
                watch.add(size)
            while self.stream.read(_CHUNK):  # the checksum is looked at in the end
                pass
        except Exception as error:  # each way to compress has its own
            if watch.failed:
                raise
            raise self._damage(error) from None

    def verify(self, array: Any) -> None:
        crc = self.header_crc
        memory = memoryview(_bytes_of(array))
        for start in range(0, self.size, _CHUNK):
            crc = zlib.crc32(memory[start : start + _CHUNK], crc)
        if crc != self.crc:
            raise self._damage(zipfile.BadZipFile("its checksum is another"))


def _place(file: BinaryIO, size: int, path: Any, member: str | None) -> _Place:
    prefix = file.read(_PREFIX_SIZE)
    file.seek(0)
    if prefix.startswith((b"PK\3\4", b"PK\5\6")):
        return _Place(file, path, member).of_npz()
    if member is not None:
        raise ValueError(f"{_name(path)}: not a .npz file: it has no members")
    return _Place(file, path, None).of_npy(size)


# --- loading --------------------------------------------------------------------------------


class _Batch:
    """Arrays whose files are open, and that are read at once."""

    def __init__(self, results: list[Any], watch: Any, return_exceptions: bool) -> None:
        self._results = results
        self._watch = watch
        self._return_exceptions = return_exceptions
        # Others need descriptors, too.
        self._most = min(_MOST_FILES, resource.getrlimit(resource.RLIMIT_NOFILE)[0] // 4)
        self._files: list[BinaryIO] = []
        self._left: list[tuple[int, _Place, Any, BinaryIO]] = []

    def _fail(self, index: int, error: Exception) -> None:
        if self._watch.failed or not self._return_exceptions:
            raise error
        _forget(error)
        self._results[index] = error

    def add(self, index: int, path: Any, member: str | None) -> None:
        if len(self._files) >= self._most:
            self.run()
        try:
            self._prepare(index, path, member)
            return
        except OSError as error:
            if error.errno not in (errno.EMFILE, errno.ENFILE):
                self._fail(index, error)
                return
        except Exception as error:
            self._fail(index, error)
            return
        self.run()
        try:
            self._prepare(index, path, member)
        except Exception as error:
            self._fail(index, error)

    def _prepare(self, index: int, path: Any, member: str | None) -> None:
        file, size = _open(path)
        self._files.append(file)
        place = _place(file, size, path, member)
        array = _ndarray.empty(place.shape, place.dtype, place.order)
        if place.stream is None and place.size:
            self._left.append((index, place, array, file))
            return
        if place.stream is not None:
            place.decompress(array, self._watch)
        self._results[index] = array
        self._files.pop().close()

    def run(self) -> None:
        """Read all, and close the files."""
        counts = _shmdev.fill(
            [
                (_bytes_of(array), file.fileno(), place.offset)
                for _, place, array, file in self._left
            ],
            self._watch.during,
        )
        for (index, place, array, _), count in zip(self._left, counts):
            try:
                _check_count(place, count)
                if place.crc is not None:
                    place.verify(array)
                self._results[index] = array
            except Exception as error:
                self._fail(index, error)
        self._watch.add(sum(count for count in counts if count > 0))
        self.close()

    def close(self) -> None:
        self._left.clear()
        while self._files:
            self._files.pop().close()


def _check_count(place: Any, count: int) -> None:
    if count < 0:
        raise OSError(-count, f"shm_fill: {os.strerror(-count)}", place.path)
    if count < place.size:  # it has become shorter meanwhile
        raise place.cut_off(count)


def _size_of(path: Any, member: str | None) -> int:
    file, size = _open(path)
    with file:
        place = _place(file, size, path, member)
        return int(place.size)


def _total(sources: list[tuple[Any, str | None]], return_exceptions: bool) -> int:
    total = 0
    for path, member in sources:
        try:
            total += _size_of(path, member)
        except Exception:  # it will come again
            if not return_exceptions:
                raise
    return total


def load_many(
    sources: list[tuple[Any, str | None]], progress: Any, return_exceptions: bool
) -> list[Any]:
    total = _total(sources, return_exceptions) if progress else 0
    results: list[Any] = [None] * len(sources)
    with _watch(progress, total) as watch:
        batch = _Batch(results, watch, return_exceptions)
        try:
            for index, (path, member) in enumerate(sources):
                batch.add(index, path, member)
            batch.run()
        except BaseException as error:
            results.clear()
            _forget(error)
            raise
        finally:
            batch.close()
    return results


def _shape_from(shape: Any, itemsize: int, size: int, name: str) -> tuple[int, ...]:
    """shape, whose -1 stands for what size bytes are enough for."""
    shape = (-1,) if shape is None else shape
    lengths = list(map(operator.index, shape if hasattr(shape, "__iter__") else (shape,)))
    if any(length < -1 for length in lengths) or lengths.count(-1) > 1:
        raise ValueError(f"{shape!r} is no shape, with one length at most that is -1")
    if -1 in lengths:
        item = itemsize
        for length in lengths:
            item *= abs(length)
        if not item or size % item:
            raise ValueError(f"{name}: {size} bytes are no multiple of {item}")
        lengths[lengths.index(-1)] = size // item
    return tuple(lengths)


def fromfile(path: Any, dtype: Any, shape: Any, offset: Any, order: Any, progress: Any) -> Any:
    dtype = numpy.dtype(dtype)
    offset = operator.index(offset)
    if offset < 0:
        raise ValueError("offset must not be negative")
    file, size = _open(path)
    with file:
        place = _Place(file, path, None)
        place.offset = offset
        place.dtype = dtype
        place.shape = _shape_from(shape, dtype.itemsize, max(size - offset, 0), place.name)
        place.size = dtype.itemsize
        for length in place.shape:
            place.size *= length
        if max(size - offset, 0) < place.size:
            raise place.cut_off(max(size - offset, 0))
        array = _ndarray.empty(place.shape, dtype, order)
        try:
            with _watch(progress, place.size) as watch:
                if place.size:
                    (count,) = _shmdev.fill(
                        [(_bytes_of(array), file.fileno(), offset)], watch.during
                    )
                    _check_count(place, count)
                    watch.add(count)
        except BaseException as error:
            del array
            _forget(error)
            raise
    return array


# --- saving ---------------------------------------------------------------------------------


@contextlib.contextmanager
def _replacing(path: Any, sync: bool) -> Iterator[int]:
    """The descriptor of a file that takes the place of path, if all goes well."""
    target = os.path.realpath(os.fsdecode(path))
    directory = os.path.dirname(target)
    try:
        mode = os.stat(target).st_mode
    except FileNotFoundError:
        mode = None
    if mode is not None:
        if stat.S_ISDIR(mode):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), path)
        if not stat.S_ISREG(mode):
            raise ValueError(f"{_name(path)}: not a regular file: drain() writes to others")
        if not os.access(target, os.W_OK, effective_ids=True):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), path)
    new = os.path.join(directory, f".shmdev-{secrets.token_hex(8)}")
    # The umask of the process applies, as to any new file.
    fd = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
    try:
        try:
            if mode is not None:
                os.fchmod(fd, stat.S_IMODE(mode))
            yield fd
            if sync:
                os.fsync(fd)
        finally:
            os.close(fd)
        os.replace(new, target)
    except BaseException:
        with contextlib.suppress(OSError):  # it may have its name already
            os.unlink(new)
        raise
    if sync:
        folder = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def _write_private(fd: int, memory: Any, watch: Any) -> None:
    memory = memoryview(memory)
    while memory:
        size = os.write(fd, memory[:_CHUNK])
        memory = memory[size:]
        watch.add(size)


def _write(path: Any, array: Any, header: bytes, sync: bool, progress: Any) -> None:
    """array is contiguous, in either order."""
    with _replacing(path, sync) as fd, _watch(progress, array.nbytes) as watch:
        left = header
        while left:
            left = left[os.write(fd, left) :]
        if not array.nbytes:
            return
        (count,) = _shmdev.drain([(_bytes_of(array), fd, len(header))], sync, watch.during)
        if count == -errno.EFAULT:  # it is not in shared memory
            os.lseek(fd, len(header), os.SEEK_SET)
            _write_private(fd, _bytes_of(array), watch)
            return
        if count < 0:
            raise OSError(-count, f"shm_drain: {os.strerror(-count)}", path)
        watch.add(count)


def _array_from(array: Any) -> Any:
    array = numpy.asarray(array)
    if array.dtype.hasobject:
        raise ValueError(f"Python objects are not written: {array.dtype!r}")
    return array


def tofile(array: Any, path: Any, sync: bool, progress: Any) -> None:
    _write(path, numpy.ascontiguousarray(_array_from(array)), b"", sync, progress)


def save(path: Any, array: Any, sync: bool, progress: Any) -> None:
    path = os.fsdecode(path)
    if not path.endswith(".npy"):
        path += ".npy"
    array = _array_from(array)
    if not array.flags.forc:
        array = numpy.ascontiguousarray(array)
    _write(path, array, _header(array), sync, progress)
