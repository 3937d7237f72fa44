"""Archives joined from parts as streams: what is joined is never in memory as a whole."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable, Iterator, Mapping
from collections.abc import Sequence as SequenceOf
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from poseda.data.archive import open_archive
from poseda.data.clips import Sequence
from poseda.data.header import MAGIC, VERSION, Header, header_fields
from poseda.errors import DataError
from poseda.files.atomic import atomic_write

Keep = Callable[[Sequence], bool]
_PIECE = 1 << 24  # bytes copied at once
_TYPES = {"scored": "BOOL"}
"""Tensors of an archive that are not F32, and hold one byte a number."""


@dataclass(frozen=True)
class _Part:
    """One archive of which some sequences are taken: its header, and where its tensors lie in the file."""

    path: Path
    header: Header
    bounds: NDArray[np.int64]
    taken: tuple[int, ...]
    places: Mapping[str, tuple[int, tuple[int, ...]]]
    """Tensor -> (offset in the file, shape)."""

    @property
    def lengths(self) -> list[int]:
        return [int(self.bounds[s + 1] - self.bounds[s]) for s in self.taken]

    def runs(self) -> Iterator[tuple[int, int]]:
        """First and last frame + 1 of neighbouring sequences that are taken."""
        for s in self.taken:
            yield int(self.bounds[s]), int(self.bounds[s + 1])


def join_archives(paths: SequenceOf[Path], output: Path, keep: Keep, record: Mapping[str, object]) -> int:
    """Write the sequences of all parts that `keep` accepts as one archive, and return its number of scored frames.

    `record` (plain JSON) is stored beside the header: where the archive comes from. Equal cameras are stored once. An
    existing file is replaced at once, never half. Raises DataError where nothing is kept or the parts do not fit
    together.
    """
    parts = [part for part in (_open(path, keep) for path in paths) if part.taken]
    if not parts:
        raise DataError(f"{output}: no sequence is left for it.")
    names = _common_tensors(parts)
    header = _joined_header(parts)
    bounds = np.cumsum([0, *(length for part in parts for length in part.lengths)], dtype=np.int64)
    metadata = {MAGIC: str(VERSION), "header": json.dumps(header), "prepared": json.dumps(dict(record))}
    atomic_write(output, partial(_write, parts=parts, names=names, bounds=bounds, metadata=metadata))
    output.chmod(0o644)
    return open_archive(output).num_scored


def _open(path: Path, keep: Keep) -> _Part:
    header = open_archive(path).header
    start, entries = _tensor_table(path)
    places = {name: (start + entry["data_offsets"][0], tuple(entry["shape"])) for name, entry in entries.items()}
    offset, (count,) = places.pop("bounds")
    bounds = np.fromfile(path, dtype="<i8", count=count, offset=offset)
    taken = tuple(s for s, sequence in enumerate(header.sequences) if keep(sequence))
    return _Part(path, header, bounds, taken, places)


def _tensor_table(path: Path) -> tuple[int, dict[str, Any]]:
    """Where the tensors of a safetensors file of ours begin, and the entry of each."""
    with path.open("rb") as file:
        (size,) = struct.unpack("<Q", file.read(8))
        entries = json.loads(file.read(size))
    entries.pop("__metadata__", None)
    return 8 + size, entries


def _common_tensors(parts: SequenceOf[_Part]) -> tuple[str, ...]:
    first = parts[0]
    for part in parts[1:]:
        same = (part.places.keys() == first.places.keys(), part.header.skeleton == first.header.skeleton,
                part.header.fps == first.header.fps)  # fmt: skip
        if not all(same):
            raise DataError(f"{part.path.name} does not fit {first.path.name}: other tensors, joints or frame rate.")
    return tuple(sorted(first.places, key=_width, reverse=True))  # what is one byte wide last: the others stay aligned


def _joined_header(parts: SequenceOf[_Part]) -> dict[str, Any]:
    """The first part's header with the sequences and the cameras of all, each camera once."""
    cameras: dict[str, int] = {}
    sequences = []
    for part in parts:
        fields = header_fields(part.header)
        numbers = [cameras.setdefault(json.dumps(camera), len(cameras)) for camera in fields["cameras"]]
        for s in part.taken:
            sequence = part.header.sequences[s]
            sequences.append({**asdict(sequence), "camera": numbers[sequence.camera]})
    return {
        **header_fields(parts[0].header),
        "cameras": [json.loads(camera) for camera in cameras],
        "sequences": sequences,
    }


def _write(
    file: BinaryIO,
    parts: SequenceOf[_Part],
    names: SequenceOf[str],
    bounds: NDArray[np.int64],
    metadata: Mapping[str, str],
) -> None:
    """A safetensors file: length of the table, table, tensors one after the other."""
    table: dict[str, Any] = {"__metadata__": dict(metadata)}
    shapes = {name: (int(bounds[-1]), *parts[0].places[name][1][1:]) for name in names}
    place = 8 * len(bounds)
    table["bounds"] = {"dtype": "I64", "shape": [len(bounds)], "data_offsets": [0, place]}
    for name, shape in shapes.items():
        end = place + _width(name) * int(np.prod(shape, dtype=np.int64))
        table[name] = {"dtype": _TYPES.get(name, "F32"), "shape": list(shape), "data_offsets": [place, end]}
        place = end
    text = json.dumps(table).encode()
    text += b" " * (-len(text) % 8)  # tensors start at a multiple of 8 bytes
    file.write(struct.pack("<Q", len(text)) + text + bounds.astype("<i8").tobytes())
    for name in names:
        for part in parts:
            _copy(part, name, file)


def _width(name: str) -> int:
    """Bytes of a number."""
    return 1 if name in _TYPES else 4


def _copy(part: _Part, name: str, file: BinaryIO) -> None:
    """The taken frames of one tensor."""
    offset, shape = part.places[name]
    width = _width(name) * int(np.prod(shape[1:], dtype=np.int64))
    with part.path.open("rb") as source:
        for first, end in part.runs():
            source.seek(offset + first * width)
            left = (end - first) * width
            while left:
                piece = source.read(min(left, _PIECE))
                file.write(piece)
                left -= len(piece)
