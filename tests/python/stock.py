# SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
"""shmdev beside multiprocessing: do the same with both and compare."""

import ctypes
import math
import warnings

try:
    import numpy
except ImportError:
    numpy = None

TYPECODES = "cubBhHiIlLqQfd"

NUMBERS = (
    ctypes.c_bool,
    ctypes.c_byte,
    ctypes.c_ubyte,
    ctypes.c_short,
    ctypes.c_ushort,
    ctypes.c_int,
    ctypes.c_uint,
    ctypes.c_long,
    ctypes.c_ulong,
    ctypes.c_float,
    ctypes.c_double,
    ctypes.c_longdouble,
)


class Point(ctypes.Structure):
    _fields_ = [("x", ctypes.c_int), ("y", ctypes.c_double)]


class Overlay(ctypes.Union):
    _fields_ = [("byte", ctypes.c_ubyte), ("truth", ctypes.c_bool)]


def items(array):
    """The items so that equal means the same: NaN too, and -0.0 is not 0.0."""
    def plain(item):
        if isinstance(item, float):
            return "nan" if math.isnan(item) else repr(item)
        if isinstance(item, ctypes.Structure):
            return [plain(getattr(item, name)) for name, _ in item._fields_]
        if isinstance(item, ctypes.Array):
            return [plain(i) for i in item]
        if isinstance(item, ctypes.Union):
            return bytes(item)
        return (type(item), item)

    return [plain(item) for item in array]


def outcome(function, *args):
    """("value", what came) or ("raised", the class of what came)."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return "value", function(*args)
        except Exception as error:
            return "raised", type(error)


def construct(make, ctype, source):
    kind, result = outcome(make, ctype, source)
    return (kind, items(result)) if kind == "value" else (kind, result)


def assign(make, ctype, length, key, source):
    """What an assignment raised, and what the array was after it."""
    array = make(ctype, length)
    raised = outcome(array.__setitem__, key, source)
    return raised, items(array)
