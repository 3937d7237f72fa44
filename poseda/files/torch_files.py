"""The torch.save files of others, in both formats, without running anything of them.

torch.load(weights_only=True) is not used: it refuses the random states, namespaces and numpy scalars that most
published checkpoints hold beside their weights, and it reads the optimiser's tensors too. Here there is one way for
all files: foreign objects become inert records, and a tensor's numbers are read only when they are asked for.
"""

from __future__ import annotations

import io
import math
import struct
import sys
import zipfile
import zlib
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, NoReturn

import torch
from torch import Tensor

from poseda.errors import DataError
from poseda.files.makers import MAKERS, Name, fill
from poseda.files.opening import file_size, one_line, printable
from poseda.files.pickles import Reader, Record, Source
from poseda.files.stubs import settle

_ZIP = b"PK\x03\x04"
_MAGIC = 0x1950A86A20F9469CFC6C
_LEGACY = b"\x80\x02\x8a\x0a" + _MAGIC.to_bytes(10, "little")
_PROTOCOL = 1001
_LONGEST_PICKLE = 256 << 20
_DTYPES = {
    "DoubleStorage": torch.float64, "FloatStorage": torch.float32, "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16, "LongStorage": torch.int64, "IntStorage": torch.int32,
    "ShortStorage": torch.int16, "CharStorage": torch.int8, "ByteStorage": torch.uint8, "BoolStorage": torch.bool,
}  # fmt: skip
_REBUILT = ("torch._utils._rebuild_tensor_v2", "torch._utils._rebuild_tensor")
_PARAMETERS = ("torch._utils._rebuild_parameter", "torch._utils._rebuild_parameter_with_state")
_HARMLESS = (
    "argparse.Namespace", "types.SimpleNamespace", "functools.partial", "collections.", "datetime.", "pathlib.",
    *(f"builtins.{name}" for name in ("int", "float", "complex", "bool", "str", "list", "tuple", "dict", "slice")),
)  # fmt: skip
"""What of the standard library a checkpoint may mention; the rest can only be there to be run."""


@dataclass(frozen=True, eq=False)
class StoredTensor:
    """A tensor in a file: everything about it is checked, and nothing of it is read before `read`."""

    path: Path
    where: str
    shape: tuple[int, ...]
    stride: tuple[int, ...]
    dtype: torch.dtype
    first: int
    """Its first number's index in the storage."""
    storage: _Storage

    def read(self) -> Tensor:
        """The tensor itself, contiguous, on the CPU. Raises DataError where the file has changed or is damaged."""
        return self._part(self._stored())

    def _stored(self) -> Tensor:
        """All numbers of its storage."""
        with one_line(self.where, "cannot be read"), self.path.open("rb") as file:
            file.seek(self.storage.offset)
            data = bytearray(file.read(self.storage.count * self.dtype.itemsize))
            if self.storage.crc is not None and zlib.crc32(data) != self.storage.crc:
                raise DataError(f"{self.where}: its bytes do not have the checksum that the file gives; get it again.")
            return torch.frombuffer(data, dtype=self.dtype) if data else torch.empty(0, dtype=self.dtype)

    def _part(self, stored: Tensor) -> Tensor:
        """Its own numbers, contiguous, of those of its storage."""
        if 0 in self.shape:
            return torch.empty(self.shape, dtype=self.dtype)
        with one_line(self.where, "cannot be read"):
            return stored.as_strided(self.shape, self.stride, self.first).clone(memory_format=torch.contiguous_format)

    @property
    def _view(self) -> tuple[_Storage, int, tuple[int, ...], tuple[int, ...]]:
        """What is equal for tied weights, and for them alone."""
        return self.storage, self.first, self.shape, self.stride


def read_tensors(tensors: Mapping[str, StoredTensor]) -> dict[str, Tensor]:
    """All these tensors of one file, each of its storages read once; tied weights are one tensor.

    Raises DataError as `StoredTensor.read` does, and where they have more numbers than the file holds for them: parts
    of a storage that overlap would let a small file fill any memory.
    """
    views = {tensor._view: tensor for tensor in tensors.values()}
    claimed = sum(math.prod(view.shape) for view in views.values())
    held = sum(storage.count for storage in {view.storage for view in views.values()})
    if claimed > held:
        path = next(iter(tensors.values())).path
        raise DataError(f"{path}: its tensors have {claimed} numbers and only {held} are stored; it is refused.")
    read: dict[object, Tensor] = {}
    last: _Storage | None = None
    for view in sorted(views.values(), key=lambda each: each.storage.offset):
        if view.storage != last:
            last, stored = view.storage, view._stored()
        read[view._view] = view._part(stored)
    return {key: read[tensor._view] for key, tensor in tensors.items()}


@dataclass(frozen=True)
class _Storage:
    """Where `count` numbers lie in the file, and the checksum of their bytes, if the file has one."""

    offset: int
    count: int
    dtype: torch.dtype
    crc: int | None = None


@dataclass(frozen=True, eq=False)
class TorchFile:
    """What a torch.save file holds: `root` of plain values and inert records, tensors among them."""

    path: Path
    root: Any
    storages: Mapping[str, _Storage]

    def tensors(self, value: object) -> dict[str, StoredTensor] | None:
        """A dictionary's tensors by name; None unless it is a dictionary from names to tensors alone.

        Raises DataError, in one line, for a tensor whose claims about its storage are false.
        """
        if not isinstance(value, dict) or not value or not all(isinstance(key, str) for key in value):
            return None
        inner = [_innermost(each) for each in value.values()]
        records = [each for each in inner if isinstance(each, Record) and each.name in _REBUILT]
        if len(records) < len(inner):
            return None
        return {key: self._tensor(key, each) for key, each in zip(value, records, strict=True)}

    def _tensor(self, key: str, record: Record) -> StoredTensor:
        where = f"{self.path}: {printable(key)}"
        storage, first, shape, stride = (*record.args, *[None] * 4)[:4]
        if not isinstance(storage, Record) or storage.name != "storage" or storage.args[0] not in self.storages:
            raise DataError(f"{where}: a tensor without a storage in this file; it is damaged.")
        stored, (start, count) = self.storages[storage.args[0]], storage.args[1:]
        if not (_whole(shape) and _whole(stride) and len(shape) == len(stride) <= 32 and _whole((first,))):
            raise DataError(f"{where}: a tensor of an impossible shape; the file is damaged.")
        last = first + sum((size - 1) * step for size, step in zip(shape, stride, strict=True))
        if 0 not in shape and (last >= count or math.prod(shape) > count):
            raise DataError(f"{where}: shape {printable(str(shape), 60)} does not fit the {count} numbers stored.")
        return StoredTensor(self.path, where, shape, stride, stored.dtype, start + first, stored)


def is_torch_file(path: Path | str) -> bool:
    """Whether a file begins as torch.save's do, in one of its two formats (a zip archive, or its legacy mark)."""
    try:
        with Path(path).open("rb") as file:
            start = file.read(len(_LEGACY))
    except OSError:
        return False
    return start.startswith(_ZIP) or start == _LEGACY


def open_torch(path: Path | str, *, limit: int = 8 << 30) -> TorchFile:
    """What a torch.save file of any version since 0.4 holds, without its numbers.

    Objects other than plain containers, numbers, texts, numpy arrays and tensors become inert records; those of the
    standard library that are no data (os.system) are refused by name. Raises MissingDataError, or DataError in one
    line: larger than `limit`, damaged, or storages of other sizes than declared.
    """
    path = Path(path)
    size = file_size(path, limit)
    with one_line(str(path), "not a whole torch.save file"), path.open("rb") as file:
        start = file.read(len(_LEGACY))
        file.seek(0)
        if start.startswith(_ZIP):
            return _open_zip(path, file, size)
        if start == _LEGACY:
            return _open_legacy(path, file, size)
    raise DataError(f"{path}: not a file of torch.save (neither its zip archive nor its older format).")


def _open_zip(path: Path, file: BinaryIO, size: int) -> TorchFile:
    archive = zipfile.ZipFile(file)
    entries = {entry.filename.partition("/")[2]: entry for entry in archive.infolist()}
    packed = any(entry.compress_type != zipfile.ZIP_STORED for entry in entries.values())
    if packed or sum(entry.file_size for entry in archive.infolist()) > size:
        raise DataError(f"{path}: its parts declare more bytes than the file has, or are compressed; it is refused.")
    if "data.pkl" not in entries:
        raise DataError(f"{path}: a zip archive without data.pkl; not a file of torch.save.")
    if "byteorder" in entries and archive.read(entries["byteorder"]) != b"little":
        raise DataError(f"{path}: written on a big-endian machine; only little-endian files are read.")
    pickled = entries["data.pkl"]
    if pickled.file_size > _LONGEST_PICKLE:
        raise DataError(f"{path}: its data.pkl is larger than {_LONGEST_PICKLE >> 20} MiB; no checkpoint's is.")
    data = archive.read(pickled)
    reader = _TorchReader(Source(io.BytesIO(data), len(data)), str(path))
    root = settle(reader.load(), str(path))
    storages = {}
    for key, (dtype, count) in reader.declared.items():
        entry = entries.get(f"data/{key}")
        if entry is None or entry.file_size != count * dtype.itemsize:
            _refuse_size(path, key, count * dtype.itemsize, entry.file_size if entry else 0)
        storages[key] = _Storage(_content(file, entry), count, dtype, entry.CRC)
    return TorchFile(path, root, storages)


def _content(file: BinaryIO, entry: zipfile.ZipInfo) -> int:
    """Where an entry's bytes begin: behind its own header, whose length only that header tells."""
    file.seek(entry.header_offset)
    header = file.read(30)
    if len(header) != 30 or not header.startswith(_ZIP):
        raise zipfile.BadZipFile("an entry is not where the directory says")
    name, extra = struct.unpack("<HH", header[26:30])
    return entry.header_offset + 30 + int(name) + int(extra)


def _open_legacy(path: Path, file: BinaryIO, size: int) -> TorchFile:
    """Five pickles in a row (mark, version, machine, values, keys of the storages), then the storages."""
    where, source = str(path), Source(file, size)
    _, version, machine = (settle(_TorchReader(source, where).load(), where) for _ in range(3))
    if version != _PROTOCOL or not isinstance(machine, dict) or machine.get("little_endian") is not True:
        raise DataError(f"{path}: of another version of torch.save than {_PROTOCOL}, or from a big-endian machine.")
    reader = _TorchReader(source, where)
    root = settle(reader.load(), where)
    keys = settle(_TorchReader(source, where).load(), where)
    if not isinstance(keys, list) or any(type(key) is not str for key in keys):
        raise DataError(f"{path}: its list of storages is damaged.")
    storages = {}
    for key in keys:
        (found,) = struct.unpack("<q", source.read(8))
        dtype, count = reader.declared.get(key, (torch.uint8, -1))
        offset = file.tell()
        if found != count or offset + count * dtype.itemsize > size:
            _refuse_size(path, key, count * dtype.itemsize, min(found * dtype.itemsize, size - offset))
        storages[key] = _Storage(offset, count, dtype)
        file.seek(count * dtype.itemsize, io.SEEK_CUR)
    return TorchFile(path, root, storages)


def _refuse_size(path: Path, key: str, declared: int, found: int) -> NoReturn:
    raise DataError(f"{path}: the storage {printable(key)} is declared with {declared} bytes and has {found}; damaged.")


class _TorchReader(Reader):
    """The restricted unpickler, to which every foreign name is a record, and a storage a record of its key."""

    def __init__(self, source: Source, where: str) -> None:
        super().__init__(source, where, frozenset())
        self.declared: dict[str, tuple[torch.dtype, int]] = {}

    def find_class(self, module: str, name: str) -> Any:
        """A maker of our own, or a record of the name alone."""
        module = {"__builtin__": "builtins", "copy_reg": "copyreg"}.get(module, module)
        dotted = f"{module}.{name}"
        if dotted == "copyreg._reconstructor":
            return Name(dotted, lambda args: Record(args[0].name if isinstance(args[0], Record) else "object"))
        if dotted.replace("numpy._core.", "numpy.core.") in MAKERS:
            return super().find_class(module, name)
        if module.partition(".")[0] in sys.stdlib_module_names and not _harmless(dotted):
            self._refuse(dotted)
        return Record(dotted)

    def _refuse(self, what: str) -> NoReturn:
        raise DataError(f"{self._where}: holds a pickled {printable(what)}, which is refused: no checkpoint needs it.")

    def _call(self, function: object, args: object) -> object:
        if isinstance(function, Record) and isinstance(args, tuple):
            self._spend(args)
            return Record(function.name, args)
        return super()._call(function, args)

    def _persistent(self) -> None:
        given = self.stack.pop()
        kind = given[0] if isinstance(given, tuple) and given else None
        if kind == "module" and isinstance(given[1], Record):
            self.append(given[1])  # a class, with the source text that torch.save put beside it
        elif kind == "storage" and len(given) in (5, 6) and isinstance(given[1], Record):
            self.append(self._storage(*given[1:]))
        else:
            self._refuse("persistent id")

    def _storage(self, kind: Record, key: Any, location: Any, count: Any, view: Any = None) -> Record:
        dtype = _DTYPES.get(kind.name.removeprefix("torch.").removeprefix("cuda."))
        if dtype is None:
            self._refuse(kind.name)
        claim = (dtype, count)
        if type(key) is not str or not _whole((count,)) or self.declared.setdefault(key, claim) != claim:
            self._refuse("storage declared in two ways")
        start, length = (0, count) if view is None else view[1:]
        if not _whole((start, length)) or start + length > count:
            self._refuse("view of a storage that it does not fit")
        return Record("storage", (key, start, length))

    def _build_inert(self) -> None:
        if type(self.stack[-2]) is OrderedDict:
            self.stack.pop()  # the versions of a state dict's modules
        else:
            Reader.dispatch[b"b"[0]](self)

    def _set_inert(self) -> None:
        value, key = self.stack.pop(), self.stack.pop()
        if not isinstance(self.stack[-1], Record):
            fill(self.stack[-1], [key, value])

    def _set_all_inert(self) -> None:
        items = self.pop_mark()
        if not isinstance(self.stack[-1], Record):  # what a foreign dictionary holds is dropped
            fill(self.stack[-1], items)

    dispatch = type(Reader.dispatch)(
        {**Reader.dispatch, b"Q"[0]: _persistent, b"b"[0]: _build_inert, b"s"[0]: _set_inert, b"u"[0]: _set_all_inert}
    )


def _harmless(dotted: str) -> bool:
    return any(dotted == name or (name.endswith(".") and dotted.startswith(name)) for name in _HARMLESS)


def _innermost(value: object) -> object:
    """The tensor inside a pickled parameter."""
    if isinstance(value, Record) and value.name in _PARAMETERS and value.args:
        return value.args[0]
    return value


def _whole(numbers: object) -> bool:
    """Whether this is a tuple of plain integers that are not negative and not above 2^48."""
    return isinstance(numbers, tuple) and all(type(n) is int and 0 <= n < 1 << 48 for n in numbers)
