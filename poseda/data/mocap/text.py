"""Text files of numbers from outside: size, encoding and numbers checked, mistakes named by file and line."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from math import isfinite
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from poseda.errors import DataError, MissingDataError

LARGEST_BYTES = 1 << 28


def read_lines(path: Path, limit: int = LARGEST_BYTES) -> list[str]:
    """Lines of a text file (UTF-8, or Latin-1 as old files are). MissingDataError without it, DataError if it is
    larger than `limit` bytes or no text."""
    if not path.is_file():
        raise MissingDataError(f"no file {path}.")
    size = path.stat().st_size
    if size > limit:
        raise DataError(f"{path}: holds {size / 2**20:.0f} MiB; the limit for a text file is {limit / 2**20:.0f} MiB.")
    data = path.read_bytes()
    if b"\0" in data[:4096]:
        raise DataError(f"{path}: not a text file.")
    try:
        return data.decode("utf-8-sig").splitlines()
    except UnicodeDecodeError:
        return data.decode("latin-1").splitlines()


def numbers(words: Sequence[str], path: Path, line: int, count: int) -> list[float]:
    """`count` finite numbers from the words of a line (counted from 1), or DataError that names the line."""
    if len(words) != count:
        raise DataError(f"{path}: line {line} has {len(words)} numbers, expected {count}.")
    return [number(word, path, line) for word in words]


def number(word: str, path: Path, line: int) -> float:
    """One finite number, or DataError that names the line."""
    try:
        value = float(word)
    except ValueError:
        raise DataError(f"{path}: line {line} has '{word[:30]}' where a number is expected.") from None
    if not isfinite(value):
        raise DataError(f"{path}: line {line} has {word}, which is not a finite number.")
    return value


def number_rows(rows: Sequence[Sequence[str]], lines: Sequence[int], path: Path) -> NDArray[np.float64]:
    """All words of rows, whose lengths were checked, as one flat array. `lines` are the rows' line numbers."""
    try:
        values = np.array([float(word) for row in rows for word in row])
    except ValueError:
        values = np.array([np.nan])
    if not np.isfinite(values).all():
        raise DataError(_first_wrong(rows, lines, path))
    return values


def _first_wrong(rows: Iterable[Sequence[str]], lines: Iterable[int], path: Path) -> str:
    """The sentence about the first word that is no finite number."""
    try:
        for row, line in zip(rows, lines, strict=True):
            numbers(row, path, line, len(row))
    except DataError as error:
        return str(error)
    return f"{path}: has a number that is not finite."
