"""The npz and npy files of others: sizes checked before memory is taken, objects through the restricted unpickler."""

from __future__ import annotations

import io
import math
import zipfile
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, cast

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from poseda.errors import DataError
from poseda.files.buffers import array_of, check_bytes, check_shape
from poseda.files.opening import check_size, file_size, one_line, printable
from poseda.files.pickles import read_pickle

_CHUNK = 1 << 20
_KIND_NAMES = {"f": "float", "i": "int", "u": "unsigned", "b": "bool", "S": "bytes", "U": "text", "O": "objects"}


@dataclass(frozen=True)
class _Header:
    """What a .npy says of itself; `content` is the number of bytes behind the header."""

    shape: tuple[int, ...]
    fortran: bool
    dtype: np.dtype[Any]
    content: int


def open_npz(path: Path, *, limit: int = 4 << 30) -> Npz:
    """Open an npz file (a context manager); arrays are read when asked for.

    Raises MissingDataError, or DataError in one line where it is no npz file or where its arrays together
    declare more than `limit` bytes.
    """
    path = Path(path)
    file_size(path, limit)
    with one_line(str(path), "not a readable npz file"):
        archive = zipfile.ZipFile(path)
    try:
        check_size(sum(entry.file_size for entry in archive.infolist()), limit, str(path))
    except DataError:
        archive.close()
        raise
    return Npz(path, archive)


class Npz:
    """The arrays of an npz file by key. All methods raise DataError that names file and key, in one line."""

    def __init__(self, path: Path, archive: zipfile.ZipFile) -> None:
        self.path = path
        self._archive = archive
        entries = [entry for entry in archive.infolist() if entry.filename.endswith(".npy")]
        self._entries = {entry.filename.removesuffix(".npy"): entry for entry in entries}
        self._headers: dict[str, _Header] = {}

    @property
    def keys(self) -> tuple[str, ...]:
        """The keys in the order of the file."""
        return tuple(self._entries)

    def __contains__(self, key: object) -> bool:
        return key in self._entries

    def __enter__(self) -> Npz:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the file."""
        self._archive.close()

    def shape(self, key: str) -> tuple[int, ...]:
        """The shape of an array, from its header alone."""
        return self._header(key).shape

    def dtype(self, key: str) -> np.dtype[Any]:
        """The dtype of an array, from its header alone."""
        return self._header(key).dtype

    def array(self, key: str, dtype_kinds: str = "fiub") -> NDArray[Any]:
        """An array of plain values; `dtype_kinds` are the dtype kinds that are accepted ("f" float, "i" int ...)."""
        where = self._where(key)
        with one_line(where, "cannot be read"), self._stream(key) as stream:
            return _read_plain(stream, _read_header(stream, self._size(key), where), dtype_kinds, where)

    def texts(self, key: str) -> list[str]:
        """A 1-D array of texts, of bytes in UTF-8, or of objects that are either."""
        where = self._where(key)
        values = self.objects(key) if self.dtype(key).hasobject else self.array(key, "US")
        if not isinstance(values, np.ndarray) or values.ndim != 1:
            raise DataError(f"{where}: is not a 1-D array of texts.")
        with one_line(where, "holds bytes that are not UTF-8"):
            texts = [item.decode("utf-8") if isinstance(item, bytes) else item for item in values.tolist()]
        for number, text in enumerate(texts):
            if not isinstance(text, str):
                raise DataError(f"{where}: item {number} is of type {type(text).__name__}; expected a text.")
        return [str(text) for text in texts]

    def objects(self, key: str) -> Any:
        """An array of objects, such as dicts of arrays, through the restricted unpickler; of a 0-d one, its item."""
        where = self._where(key)
        with one_line(where, "cannot be read"), self._stream(key) as stream:
            header = _read_header(stream, self._size(key), where)
            if not header.dtype.hasobject:
                raise DataError(f"{where}: is {header.dtype} {header.shape}; expected an array of objects.")
            value = read_pickle(stream, header.content, where)
            while stream.read(_CHUNK):  # to the end, where the checksum is compared
                pass
        if not isinstance(value, np.ndarray) or value.dtype != object or value.shape != header.shape:
            raise DataError(f"{where}: its content is not the array of objects {header.shape} that it declares.")
        return value.item() if value.ndim == 0 else value

    def _where(self, key: str) -> str:
        return f"{self.path}: key '{printable(key)}'"

    def _size(self, key: str) -> int:
        return self._entries[key].file_size

    def _header(self, key: str) -> _Header:
        if key not in self._headers:
            where = self._where(key)
            with one_line(where, "cannot be read"), self._stream(key) as stream:
                self._headers[key] = _read_header(stream, self._size(key), where)
        return self._headers[key]

    def _stream(self, key: str) -> BinaryIO:
        if key not in self._entries:
            known = ", ".join(self.keys[:8]) + (", ..." if len(self.keys) > 8 else "")
            raise DataError(f"{self.path}: has no key '{printable(key)}'; it holds {printable(known, 200) or 'none'}.")
        entry = self._entries[key]
        if entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise DataError(f"{self._where(key)}: is compressed in a way that numpy does not write.")
        return cast(BinaryIO, io.BufferedReader(cast(Any, self._archive.open(entry)), _CHUNK))


def load_npy(path: Path, *, limit: int = 4 << 30) -> NDArray[Any]:
    """The array of a .npy file: bool, integers, floats, bytes or texts, never objects.

    Raises MissingDataError, or DataError in one line.
    """
    path = Path(path)
    size = file_size(path, limit)
    with one_line(str(path), "cannot be read"), path.open("rb") as stream:
        return _read_plain(stream, _read_header(stream, size, str(path)), "fiubSU", str(path))


def _read_header(stream: BinaryIO, size: int, where: str) -> _Header:
    """The header of a .npy of `size` bytes, if an array of plain values would fill exactly the rest."""
    with one_line(where, "cannot be read: it is not an npy array"):
        version = npy.read_magic(stream)
        if version not in ((1, 0), (2, 0)):
            raise ValueError(f"version {version} of the format")
        read = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
        shape, fortran, dtype = read(stream)
    content = size - stream.tell()
    shape = check_shape(shape, where)
    if dtype.hasobject:
        if math.prod(shape) > content:  # each object takes a byte at least
            raise DataError(f"{where}: cannot be read: it claims {math.prod(shape):.3g} objects in {content} bytes.")
    else:
        check_bytes(shape, dtype, content, where)
    return _Header(shape, fortran, dtype, content)


def _read_plain(stream: BinaryIO, header: _Header, kinds: str, where: str) -> NDArray[Any]:
    if header.dtype.hasobject or header.dtype.kind not in kinds:
        expected = " or ".join(_KIND_NAMES.get(kind, kind) for kind in kinds)
        raise DataError(f"{where}: is {printable(str(header.dtype), 40)} {header.shape}; expected {expected}.")
    raw = np.empty(header.content, np.uint8)
    view, filled = memoryview(cast(Any, raw)), 0
    while filled < len(raw):
        count = stream.readinto(view[filled : filled + _CHUNK])  # type: ignore[attr-defined]  # io.BufferedIOBase
        if not count:
            raise DataError(f"{where}: cannot be read: the file ends too early.")
        filled += count
    stream.read(1)  # the end, where the checksum is compared
    return array_of(raw, header.dtype, header.shape, header.fortran, where)
