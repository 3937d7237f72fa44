"""Compressed data unpacked piece by piece, with their size counted: a few megabytes may hold terabytes of zeros."""

from __future__ import annotations

import io
import zlib
from typing import TYPE_CHECKING, BinaryIO

from poseda.files.opening import check_size

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

_CHUNK = 1 << 20
_EITHER_HEADER = 32 + zlib.MAX_WBITS  # zlib or gzip


class Inflated(io.RawIOBase):
    """What the next `count` bytes of a file, a zlib or gzip stream, unpack to; wrap it in an io.BufferedReader.

    Reading raises DataError that begins with `where` once more than `limit` bytes came out, zlib.error for a
    damaged stream.
    """

    def __init__(self, file: BinaryIO, count: int, limit: int, where: str) -> None:
        self._file = file
        self._left = count
        self._limit = limit
        self._where = where
        self._stream = zlib.decompressobj(_EITHER_HEADER)
        self.size = 0
        """Bytes that came out so far."""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: WriteableBuffer, /) -> int:
        view = memoryview(buffer)
        while not self._stream.eof:
            packed = self._stream.unconsumed_tail or self._next()
            data = self._stream.decompress(packed, len(view))
            if data:
                self.size += len(data)
                check_size(self.size, self._limit, self._where)
                view[: len(data)] = data
                return len(data)
            if not packed:
                break
        return 0

    def _next(self) -> bytes:
        packed = self._file.read(min(self._left, _CHUNK))
        self._left -= len(packed)
        return packed


def check_inflated(file: BinaryIO, count: int, limit: int, where: str) -> None:
    """Raise DataError where the next `count` bytes of a file unpack to more than `limit`."""
    stream = io.BufferedReader(Inflated(file, count, limit, where), _CHUNK)
    while stream.read(_CHUNK):
        pass
