"""HDF5 files of others (also MATLAB v7.3): plain arrays that lie in the file itself."""

from __future__ import annotations

import math
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from poseda.errors import DataError, require
from poseda.files.opening import check_size, file_size, one_line, printable

_SIGNATURE = b"\x89HDF\r\n\x1a\n"
_LARGEST_FILE = 1 << 50


def is_hdf5(path: Path) -> bool:
    """Whether a file is HDF5, as a MATLAB v7.3 file is; False where there is none."""
    path = Path(path)
    if not path.is_file():
        return False
    with one_line(str(path), "cannot be opened"), path.open("rb") as file:
        for offset in (0, 512, 1024, 2048):  # a block of the writer's own may come first (HDF5 format, superblock)
            file.seek(offset)
            if file.read(8) == _SIGNATURE:
                return True
    return False


def open_hdf5(path: Path) -> Hdf5:
    """Open an HDF5 file (a context manager; needs h5py); arrays are read when asked for.

    Raises MissingDataError, DataError in one line where it is not HDF5, ConfigError without h5py.
    """
    path = Path(path)
    file_size(path, _LARGEST_FILE)
    h5py = require("h5py", "prepare")
    with one_line(str(path), "not a readable HDF5 file"):
        return Hdf5(path, h5py.File(path, "r"))


class Hdf5:
    """The arrays of an HDF5 file; "group/name" reaches into groups. Errors are DataError of one line with the key."""

    def __init__(self, path: Path, file: Any) -> None:
        self.path = path
        self._file = file

    @property
    def keys(self) -> tuple[str, ...]:
        """Names at the top of the file, sorted."""
        with one_line(str(self.path), "not a readable HDF5 file"):
            return tuple(sorted(str(key) for key in self._file))

    def __contains__(self, key: object) -> bool:
        try:
            self._dataset(str(key))
        except DataError:
            return False
        return True

    def __enter__(self) -> Hdf5:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def shape(self, key: str) -> tuple[int, ...]:
        """The shape of an array as stored (the axes of a MATLAB v7.3 file are reversed)."""
        return tuple(int(n) for n in self._dataset(key).shape)

    def array(self, key: str, limit: int = 4 << 30) -> NDArray[Any]:
        """An array of numbers as stored (the axes of a MATLAB v7.3 file are reversed), of at most `limit` bytes."""
        where = self._where(key)
        dataset = self._dataset(key)
        with one_line(where, "cannot be read"):
            for sizes in (dataset.shape, dataset.chunks or ()):  # a chunk is unpacked whole
                check_size(math.prod(int(n) for n in sizes) * dataset.dtype.itemsize, limit, where)
            values = np.asarray(dataset[()])
            return values if values.dtype.isnative else values.astype(values.dtype.newbyteorder("="))

    def _where(self, key: str) -> str:
        return f"{self.path}: key '{printable(key)}'"

    def _dataset(self, key: str) -> Any:
        """The dataset of numbers behind a key, if all of it lies in this file."""
        h5py = require("h5py", "prepare")
        where = self._where(key)
        with one_line(where, "cannot be read"):
            node = self._file
            for name in key.strip("/").split("/"):
                link = node.get(name, getlink=True) if isinstance(node, h5py.Group) else None
                if link is None:
                    known = printable(", ".join(self.keys), 200) or "none"
                    raise DataError(f"{self.path}: has no key '{printable(key)}'; it holds {known}.")
                if not isinstance(link, h5py.HardLink):
                    raise DataError(f"{where}: is a link to elsewhere, which is not followed.")
                node = node[name]
            if not isinstance(node, h5py.Dataset) or node.shape is None:
                raise DataError(f"{where}: is not an array.")
            if node.is_virtual or node.external:
                raise DataError(f"{where}: takes its values from other files, which are not read.")
            if node.dtype.kind not in "fiub":
                raise DataError(f"{where}: is {printable(str(node.dtype), 40)}; only numbers are read.")
            return node
