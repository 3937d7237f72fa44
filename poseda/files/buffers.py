"""Arrays from raw bytes, with what the file claims about them checked before anything is made."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from poseda.errors import DataError
from poseda.files.opening import printable

_LARGEST_CODE_POINT = 0x10FFFF


def check_shape(shape: object, where: str) -> tuple[int, ...]:
    """A shape as a tuple of plain integers, none negative. Raises DataError."""
    if not isinstance(shape, tuple) or not all(type(n) is int and n >= 0 for n in shape) or len(shape) > 32:
        raise DataError(f"{where}: claims the array shape {printable(_shown(shape), 60)}; the file is damaged.")
    return shape


def check_bytes(shape: Sequence[int], dtype: np.dtype[Any], found: int, where: str) -> None:
    """Raise DataError unless an array of this shape and dtype takes exactly the bytes that were found."""
    needed = math.prod(shape) * dtype.itemsize  # plain integers: no overflow
    if needed != found or (dtype.itemsize == 0 and math.prod(shape) > 0):
        claim = f"{dtype} of shape {printable(_shown(tuple(shape)), 60)}"
        raise DataError(f"{where}: claims {claim} but holds {found} bytes of it; the file is damaged.")


def array_of(raw: bytearray | NDArray[np.uint8], dtype: np.dtype[Any], shape: tuple[int, ...], fortran: bool,
             where: str) -> NDArray[Any]:  # fmt: skip
    """The plain array that lies in `raw`, without a copy where its byte order is the machine's."""
    check_bytes(shape, dtype, len(raw), where)
    if len(raw) == 0:
        return np.zeros(shape, dtype.newbyteorder("="))
    array = np.frombuffer(raw, dtype).reshape(shape, order="F" if fortran else "C")
    if not dtype.isnative:
        array = array.astype(dtype.newbyteorder("="))
    if dtype.kind == "U" and int(np.frombuffer(array.tobytes(), np.uint32).max()) > _LARGEST_CODE_POINT:
        raise DataError(f"{where}: holds characters that do not exist; the file is damaged.")
    return array


def _shown(shape: object) -> str:
    """A shape of a hostile file may hold integers that Python refuses to print."""
    try:
        return str(shape)
    except ValueError:
        return "of more than 4300 digits"
