# SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
"""What a program does to send arrays by other means than pickles."""

from __future__ import annotations

import ctypes
import json
from base64 import b64decode, urlsafe_b64encode

from . import _classes, _shmdev
from ._late import imports

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def _find_simple_types() -> dict[str, Any]:
    types: list[Any] = [
        kind
        for kind in vars(ctypes).values()
        if isinstance(kind, type) and issubclass(kind, ctypes._SimpleCData)
        if isinstance(getattr(kind, "_type_", None), str)
    ]
    return {kind._type_: kind for kind in types if kind.__module__ == "ctypes"}


# The simple types of ctypes in native byte order, by their format.
_simple_types = _find_simple_types()


def _name_type(ctype: Any) -> Any:
    code = getattr(ctype, "_type_", None)
    # What has a pointer in it means nothing elsewhere.
    if isinstance(code, str) and code not in "POzZ" and _simple_types.get(code) is ctype:
        return code
    if issubclass(ctype, ctypes.Array) and ctype._type_ * ctype._length_ is ctype:
        return [_name_type(ctype._type_), ctype._length_]
    raise TypeError(
        f"{ctype.__name__} cannot be described in a text: export a memoryview of the array"
    )


def _type_named(name: Any) -> Any:
    if isinstance(name, list):
        item, length = name
        return _type_named(item) * length
    return _simple_types[name]


def _describe(obj: Any) -> tuple[int, dict[str, Any]]:
    """Where obj is, and what is to be made of it."""
    if isinstance(obj, _classes.SharedData):
        with imports:
            from ._sharing import ctype_of

        ctype, length = ctype_of(obj)
        return ctypes.addressof(obj), {"k": "data", "t": _name_type(ctype), "n": length}  # type: ignore
    import sys

    numpy = sys.modules.get("numpy")
    if numpy is not None and isinstance(obj, numpy.ndarray):
        with imports:
            from . import _ndarray

        low, _ = _ndarray._extent(obj)
        described = numpy.lib.format.dtype_to_descr(obj.dtype)
        return obj.__array_interface__["data"][0] + low, {
            "k": "array", "f": -low, "s": obj.shape, "i": obj.strides, "d": described,
        }
    view = memoryview(obj)
    if not view.c_contiguous:
        raise TypeError("only contiguous buffers can be exported")
    return _shmdev.address(view), {"k": "bytes", "n": view.nbytes}


def export(obj: Any) -> str:
    """A text by which any process of this user on this machine can attach() obj.

    obj is an array or value of this package, a numpy array in shared memory or a view of
    one, or any other contiguous buffer there, such as a memoryview; of that its bytes are
    exported.  The text has letters, digits and "-_=." only: for command lines, environments and
    files.

    It is a name and keeps nothing: the memory must live until the other process has
    attached it.  Raises TypeError if obj is not in shared memory or has a type that cannot
    be written down.

    New in version 0.1.
    """
    address, described = _describe(obj)
    try:
        handle = _shmdev.handle(address)
    except FileNotFoundError:
        raise TypeError(f"this {type(obj).__name__} object is not in shared memory") from None
    packed = json.dumps({"v": 1, **described}, separators=(",", ":")).encode()
    return f"{_shmdev.handle_format(handle)}.{urlsafe_b64encode(packed).decode()}"


def _descr(described: Any) -> Any:
    """numpy's description of a type, of which JSON has made lists of all tuples."""
    if not isinstance(described, list):
        return described
    if described and all(isinstance(field, list) for field in described):
        return [
            (name if isinstance(name, str) else tuple(name), _descr(kind), *map(tuple, shape))
            for name, kind, *shape in described
        ]
    kind, shape = described
    return _descr(kind), tuple(shape)


def attach(text: str, readonly: bool = False) -> Any:
    """What another process has exported: an array over the same memory.

    It is of the kind that was exported.  With readonly it cannot be written through what
    is returned, whatever one does; arrays of ctypes are then memoryviews, because ctypes
    has no arrays to read only.  The exporter may end afterwards.

    Raises ValueError if text is not of export(), or of a later version of it;
    FileNotFoundError if the memory is gone; PermissionError if it is another user's, or
    sealed and readonly is not set; OSError (EXDEV) if it is of another machine.

    New in version 0.1.
    """
    with imports:
        from . import _sharing

    if not isinstance(text, str):
        raise TypeError(f"text must be str, not {type(text).__name__}")
    handle_text, dot, packed = text.partition(".")
    handle = _shmdev.handle_parse(handle_text)
    try:
        described = json.loads(b64decode(packed.encode(), b"-_", validate=True))
        version = described["v"]
    except (ValueError, TypeError, KeyError):
        raise ValueError("not what shmdev.export() returns") from None
    if version != 1:
        raise ValueError("exported by a later version of shmdev")
    region, offset, size = _sharing.attach(handle, readonly)
    try:
        return _make(region, offset, size, described)
    except (KeyError, TypeError):
        raise ValueError("not what shmdev.export() returns") from None


def _make(region: _shmdev.Region, offset: int, size: int, described: dict[str, Any]) -> Any:
    kind = described["k"]
    if kind == "array":
        with imports:
            from . import _ndarray

        return _ndarray.rebuild(
            region,
            offset + described["f"],
            tuple(described["s"]),
            tuple(described["i"]),
            _ndarray.dtype_of(_descr(described["d"])),
            not region.readonly,
        )
    if kind == "bytes":
        return memoryview(region)[offset : offset + described["n"]]
    if kind != "data":
        raise ValueError("exported by a later version of shmdev")
    made, nbytes, _, _ = _classes.entry(_type_named(described["t"]), described["n"])
    if not region.readonly:
        return made.from_buffer(region, offset)
    view = memoryview(region)[offset : offset + nbytes]
    # The format of the same in private memory, where memoryview knows it.
    item = made()
    shared: Any = item if isinstance(item, _classes.SharedArray) else None
    code: Any = shared.memoryview().format if shared is not None and nbytes else "B"
    try:
        return view.cast(code)
    except ValueError:
        return view


def seal(obj: Any) -> Any:
    """Let nobody have the memory of obj for writing who has it not yet; for ever.

    obj is an array with a region of its own: PermissionError if it is too small to have one
    (1 MiB or less).  Whoever can write to it, this process too, still can, by what it has;
    the memory is for reading alone when the last of these is gone.  Returns obj as it can be
    read, as attach(readonly=True) does; in a pickle it is that, too.

    New in version 0.1.
    """
    with imports:
        from . import _sharing

    address, described = _describe(obj)
    try:
        region, _ = _shmdev.region_locate(address)
    except FileNotFoundError:
        raise TypeError(f"this {type(obj).__name__} object is not in shared memory") from None
    region.seal()
    return _make(*_sharing.attach(_shmdev.handle(address), True), described)


def by_value(obj: Any) -> Any:
    """obj, an array or value, as something to be sent whose pickle has the bytes.

    What is loaded is obj in shared memory of the loading process, which may be another
    user's or on another machine: shmdev.by_value(a) in place of a.  With protocol 5 and a
    buffer_callback the bytes stay out of band.

    New in version 0.1.
    """
    with imports:
        from . import _sharing

    return _sharing.ByValue(obj)
