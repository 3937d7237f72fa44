"""One variable of a MATLAB v5 file, element by element, forwards only."""

from __future__ import annotations

import io
import math
import struct
from collections.abc import Collection
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from poseda.errors import DataError
from poseda.files.opening import check_size, printable

MATRIX, COMPRESSED = 14, 15
DEEPEST = 50
"""Levels of cells and structs in each other; data sets have two or three."""
_CELL, _STRUCT, _CHAR, _OPAQUE = 1, 2, 4, 17
_CLASSES = {6: "f8", 7: "f4", 8: "i1", 9: "u1", 10: "i2", 11: "u2", 12: "i4", 13: "u4", 14: "i8", 15: "u8"}
_REFUSED = {3: "an object", 5: "a sparse matrix", 16: "a function", _OPAQUE: "an object"}
_STORED = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8", 12: "i8", 13: "u8"}
_ENCODINGS = {1: "latin1", 2: "latin1", 4: "utf-16", 16: "utf-8", 17: "utf-16", 18: "utf-32"}
_COMPLEX, _LOGICAL = 0x0800, 0x0200
_POINTER = 8
_LONGEST_NAME = 1 << 12
_LONGEST_NAMES = 1 << 20
_MOST_DIMENSIONS = 32


class Mat5Reader:
    """Reads one variable whose tag has been read; `room` is what is left of the bytes that it may take."""

    def __init__(self, stream: BinaryIO | io.BufferedReader, order: str, where: str, room: int) -> None:
        self._stream = stream
        self._order = order
        self._file = where
        self._where = where
        self._limit = room
        self.room = room

    def variable(self, names: Collection[str] | None) -> tuple[str, Any]:
        """(name, value) of the variable; a value that is not among `names` is not read (None)."""
        flags, shape, name = self._header()
        self._where = f"{self._file}: key '{printable(name)}'"
        if not name or (names is not None and name not in names):
            return name, None
        return name, self._value(flags, shape, 1)

    def _matrix(self, depth: int) -> Any:
        """A matrix inside a cell or struct, its tag included."""
        kind, count = struct.unpack(f"{self._order}II", self._exactly(8))
        if kind != MATRIX:
            raise ValueError("a cell holds something else than a matrix")
        if count == 0:
            return np.zeros((0, 0))
        flags, shape, _ = self._header()
        return self._value(flags, shape, depth)

    def _header(self) -> tuple[int, tuple[int, ...], str]:
        """(class and flags, shape, name)."""
        _, _, flags, _ = struct.unpack(f"{self._order}IIII", self._exactly(16))
        if flags & 0xFF == _OPAQUE:
            return flags, (), self._element(_LONGEST_NAME)[1].decode("latin1")  # an object without a shape
        _, content = self._element(4 * _MOST_DIMENSIONS)
        shape = tuple(int(n) for n in np.frombuffer(content, f"{self._order}i4"))
        if len(shape) < 2 or min(shape) < 0:
            raise ValueError(f"an array of the shape {shape}")
        return flags, shape, self._element(_LONGEST_NAME)[1].decode("latin1")

    def _value(self, flags: int, shape: tuple[int, ...], depth: int) -> Any:
        kind = flags & 0xFF
        if kind in _REFUSED:
            raise DataError(f"{self._where}: holds {_REFUSED[kind]}; only numbers, texts, cells and structs are read.")
        if depth > DEEPEST:
            raise DataError(f"{self._where}: its cells lie more than {DEEPEST} levels deep; no data set does.")
        if kind == _CELL:
            return self._cells(math.prod(shape), depth).reshape(shape, order="F")
        if kind == _STRUCT:
            return self._struct(shape, depth)
        if kind == _CHAR:
            return self._texts(shape)
        if kind not in _CLASSES:
            raise ValueError(f"an array of the unknown class {kind}")
        numbers = self._numbers(math.prod(shape), "u1" if flags & _LOGICAL else _CLASSES[kind])
        if flags & _COMPLEX:
            numbers = numbers + 1j * self._numbers(math.prod(shape), _CLASSES[kind])
        return numbers.reshape(shape, order="F")

    def _cells(self, count: int, depth: int) -> NDArray[Any]:
        self._take(count * _POINTER)
        cells = [self._matrix(depth + 1) for _ in range(count)]  # ends where the file does, whatever it claims
        return np.fromiter(cells, object, count)

    def _struct(self, shape: tuple[int, ...], depth: int) -> NDArray[Any]:
        (width,) = struct.unpack(f"{self._order}i", self._element(4)[1])
        _, content = self._element(_LONGEST_NAMES)
        if width <= 0 or len(content) % width:
            raise ValueError("a struct whose field names have no length")
        starts = range(0, len(content), width)
        fields = [content[start : start + width].split(b"\0")[0].decode("latin1") for start in starts]
        if not fields and math.prod(shape) > 1:
            raise ValueError("structs without fields")
        cells = self._cells(math.prod(shape) * len(fields), depth).reshape(math.prod(shape), len(fields))
        made = np.empty(math.prod(shape), [(field, object) for field in fields])
        for column, field in enumerate(fields):
            made[field] = cells[:, column]
        return made.reshape(shape, order="F")

    def _texts(self, shape: tuple[int, ...]) -> NDArray[Any]:
        """One text for each row, as MATLAB keeps several texts of one length."""
        kind, content = self._element()
        if kind not in _ENCODINGS:
            raise ValueError(f"a text of the unknown type {kind}")
        encoding = _ENCODINGS[kind] + ("-le" if self._order == "<" else "-be") * (kind in (4, 17, 18))
        text = content.decode(encoding)
        self._take(4 * math.prod(shape))
        text = text or " " * min(math.prod(shape), 1)  # a blank may have no content
        if len(text) != math.prod(shape):
            raise ValueError(f"a text of {len(text)} characters where {math.prod(shape)} are announced")
        if not text:
            return np.zeros((0,), "U1")
        letters = np.array(list(text), "U1").reshape(shape, order="F")
        return np.ascontiguousarray(letters).view(f"U{shape[-1]}")[..., 0]

    def _numbers(self, count: int, dtype: str) -> NDArray[Any]:
        kind, content = self._element()
        if kind not in _STORED:
            raise ValueError(f"numbers of the unknown type {kind}")
        stored = np.frombuffer(content, self._order + _STORED[kind])
        if len(stored) != count:
            raise ValueError(f"{len(stored)} numbers where {count} are announced")
        self._take(count * np.dtype(dtype).itemsize)
        return stored.astype(dtype)

    def _element(self, longest: int | None = None) -> tuple[int, bytes]:
        """(type, content) of an element of at most `longest` bytes, or of what the variable may still take."""
        head = self._exactly(8)
        kind, count = struct.unpack(f"{self._order}II", head)
        if kind >> 16:  # up to four bytes lie in the tag itself
            if kind >> 16 > 4:
                raise ValueError("an element that does not fit its tag")
            return kind & 0xFFFF, head[4 : 4 + (kind >> 16)]
        if longest is None:
            check_size(self._limit - self.room + count, self._limit, self._where)
        elif count > longest:
            raise ValueError(f"{count} bytes are announced, at most {longest} can be")
        return kind, self._exactly(count + -count % 8)[:count]

    def _take(self, count: int) -> None:
        """Count memory before it is taken."""
        check_size(self._limit - self.room + count, self._limit, self._where)
        self.room -= count

    def _exactly(self, count: int) -> bytes:
        data = self._stream.read(count)
        if len(data) != count:
            raise ValueError("the file ends too early")
        return data
