"""Taking values from a foreign file apart: each helper returns the value as what it must be, or says what it is."""

from __future__ import annotations

import numbers
from typing import Any

import numpy as np
from numpy.typing import NDArray

from poseda.errors import DataError
from poseda.files.opening import printable

_KIND_NAMES = {"f": "float", "i": "int", "u": "unsigned", "b": "bool", "S": "bytes", "U": "text", "O": "object"}


def a_dict(value: object, where: str) -> dict[Any, Any]:
    """A dictionary, also one that lies alone in an object array. Raises DataError "<where>: ..."."""
    if isinstance(value, np.ndarray) and value.dtype == object and value.size == 1:
        value = value.item()
    if not isinstance(value, dict):
        raise _wrong(value, where, "a dictionary")
    return value


def a_list(value: object, where: str) -> list[Any]:
    """A list, from a list, a tuple or a 1-D object array. Raises DataError "<where>: ..."."""
    if isinstance(value, np.ndarray) and value.dtype == object and value.ndim == 1:
        return list(value)
    if not isinstance(value, list | tuple):
        raise _wrong(value, where, "a list")
    return list(value)


def an_array(value: object, where: str, shape: tuple[int | None, ...], kinds: str = "fiu") -> NDArray[Any]:
    """An array of a shape (None: any length) and of one of some dtype kinds ("f" float, "i" int, "u" ...).

    Lists of numbers become arrays. Raises DataError "<where>: ..." with both shapes.
    """
    try:
        array = np.asarray(value)
    except Exception:  # rows of several lengths raise ValueError, odd values others
        raise _wrong(value, where, f"an array {_shape_text(shape)}") from None
    fits = array.ndim == len(shape) and all(n is None or n == m for n, m in zip(shape, array.shape, strict=True))
    if not fits or array.dtype.kind not in kinds:
        kind = " or ".join(_KIND_NAMES.get(k, k) for k in kinds)
        found = f"{printable(str(array.dtype), 40)} {array.shape}" if array.ndim else _describe(value)
        raise DataError(f"{where}: is {found}; expected {kind} {_shape_text(shape)}.")
    return array


def a_number(value: object, where: str) -> float:
    """A finite number, also a 0-d or one-element array. Raises DataError "<where>: ..."."""
    if isinstance(value, np.ndarray) and value.size == 1:
        value = value.item()
    if isinstance(value, bool | np.bool_) or not isinstance(value, numbers.Real):
        raise _wrong(value, where, "a number")
    try:
        number = float(value)
    except OverflowError:
        number = float("inf")
    if not np.isfinite(number):
        raise DataError(f"{where}: is {number}; expected a finite number.")
    return number


def a_text(value: object, where: str) -> str:
    """A text, also from bytes in UTF-8 or a one-element array. Raises DataError "<where>: ..."."""
    if isinstance(value, np.ndarray) and value.size == 1:
        value = value.item()
    if isinstance(value, bytes):
        try:
            return value.decode("utf-8")
        except UnicodeDecodeError:
            raise DataError(f"{where}: holds bytes that are not UTF-8; expected a text.") from None
    if not isinstance(value, str):
        raise _wrong(value, where, "a text")
    return str(value)


def _wrong(value: object, where: str, expected: str) -> DataError:
    return DataError(f"{where}: is {_describe(value)}; expected {expected}.")


def _describe(value: object) -> str:
    """What a value is, in a few words."""
    if isinstance(value, np.ndarray):
        return f"an array {printable(str(value.dtype), 40)} {value.shape}"
    if isinstance(value, str | float) or (isinstance(value, int) and value.bit_length() <= 64):
        return f"{type(value).__name__} '{printable(str(value), 40)}'"  # Python does not print longer integers
    if isinstance(value, dict | list | tuple):
        return f"a {type(value).__name__} of {len(value)}"
    return f"of type {printable(type(value).__name__, 40)}"


def _shape_text(shape: tuple[int | None, ...]) -> str:
    sizes = ["any" if n is None else str(n) for n in shape]
    return f"({', '.join(sizes)}{',' if len(sizes) == 1 else ''})"
