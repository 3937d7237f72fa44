"""MATLAB files of v5 to v7 of others.

scipy reads them in C, follows cells in cells without end and trusts sizes that it finds: a damaged file can end the
process. Here each size is checked against the bytes that are there. The layout is that of the MAT-File Format, Level 5.
"""

from __future__ import annotations

import io
import struct
from collections.abc import Collection
from pathlib import Path
from typing import Any, BinaryIO

from poseda.errors import DataError
from poseda.files.hdf5 import is_hdf5
from poseda.files.inflate import Inflated
from poseda.files.mat5 import COMPRESSED, MATRIX, Mat5Reader
from poseda.files.opening import file_size, one_line

__all__ = ["is_hdf5", "load_mat"]

_HEADER = 128
_CHUNK = 1 << 20


def load_mat(path: Path, names: Collection[str] | None = None, *, limit: int = 4 << 30) -> dict[str, Any]:
    """The variables (those of `names` that are there; None: all) of a MATLAB file of v5 to v7, by name.

    As from scipy.io.loadmat: numbers are arrays of two dimensions or more, of the class that MATLAB shows
    (logical: uint8); cells are object arrays; structs are structured arrays of objects; texts are arrays of
    strings, one for each row. Sparse matrices, objects and functions are refused. Raises MissingDataError, or
    DataError in one line for a file that is damaged, would take more than `limit` bytes in memory, is of v4, or
    is of v7.3, which is HDF5 (`open_hdf5`).
    """
    path = Path(path)
    size = file_size(path, limit)
    if is_hdf5(path):
        raise DataError(f"{path}: a MATLAB v7.3 file, which is HDF5; read it with open_hdf5, or save it as v7.")
    with one_line(str(path), "not a readable MATLAB file"), path.open("rb") as file:
        order = {b"IM": "<", b"MI": ">"}.get(file.read(_HEADER)[-2:])
        if order is None:
            raise DataError(f"{path}: not a readable MATLAB file of v5 to v7; save it as v7.")
        return _read_variables(file, size, order, path, names, limit)


def _read_variables(
    file: BinaryIO, size: int, order: str, path: Path, names: Collection[str] | None, limit: int
) -> dict[str, Any]:
    values: dict[str, Any] = {}
    room = limit
    while tag := file.read(8):
        kind, count = struct.unpack(f"{order}II", tag)
        end = file.tell() + count
        if end > size:
            raise ValueError("the file ends too early")
        stream: BinaryIO | io.BufferedReader = file
        if kind == COMPRESSED:
            stream = io.BufferedReader(Inflated(file, count, limit, str(path)), _CHUNK)
            (inner, _) = struct.unpack(f"{order}II", stream.read(8))
        if (inner if kind == COMPRESSED else kind) != MATRIX:
            raise ValueError("a variable of an unknown type")
        reader = Mat5Reader(stream, order, str(path), room)
        name, value = reader.variable(names)
        room = reader.room
        if name and (names is None or name in names):  # MATLAB keeps workspaces of functions without a name
            values[name] = value
            while kind == COMPRESSED and stream.read(_CHUNK):  # to the end, where the checksum is compared
                pass
        file.seek(end)
    return values
