"""NASA Common Data Format, in which Human3.6M publishes its poses: one variable of a file."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from poseda.errors import DataError, require
from poseda.files.inflate import check_inflated
from poseda.files.opening import check_size, file_size, one_line, printable

_UNCOMPRESSED = bytes.fromhex("0000ffff")
_LARGEST_VALUE = 16


def load_cdf(path: Path, variable: str, *, limit: int = 4 << 30) -> NDArray[Any]:
    """One variable of numbers of a CDF file, records first (needs cdflib).

    Raises MissingDataError, DataError in one line for a file or variable that cannot be read or that would take
    more than `limit` bytes, ConfigError without cdflib.
    """
    path = Path(path)
    file_size(path, limit)
    cdflib = require("cdflib", "prepare")
    where = f"{path}: variable '{printable(variable)}'"
    with one_line(str(path), "not a readable CDF file"):
        with path.open("rb") as raw:
            _check_compression(raw, path, limit)
        with cdflib.CDF(path) as file:
            info = file.cdf_info()
            names = [*info.zVariables, *info.rVariables]
            if variable not in names:
                raise DataError(f"{path}: has no variable '{printable(variable)}'; it holds {_listed(names)}.")
            about = file.varinq(variable)
            values = math.prod(int(n) for n in about.Dim_Sizes) * (int(about.Last_Rec) + 1)
            check_size(values * _LARGEST_VALUE, limit, where)
            array = np.asarray(file.varget(variable))
    if array.dtype.kind not in "fiu":
        raise DataError(f"{where}: is {printable(str(array.dtype), 40)}; only numbers are read.")
    return array if array.dtype.isnative else array.astype(array.dtype.newbyteorder("="))


def _check_compression(file: BinaryIO, path: Path, limit: int) -> None:
    """Refuse a file that is compressed as a whole and becomes larger than `limit`."""
    head = file.read(64)
    start = head.find(b"\x1f\x8b", 8)
    if head[4:8] != _UNCOMPRESSED and start > 0:
        file.seek(start)
        check_inflated(file, limit, limit, str(path))


def _listed(names: list[str]) -> str:
    return printable(", ".join(names), 200) or "none"
