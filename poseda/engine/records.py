"""What a run leaves behind: its folder, metrics.jsonl, results.json, and text tables."""

from __future__ import annotations

import json
import math
import os
import platform
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, is_dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from poseda import __version__
from poseda.engine.checkpoint import atomic_write
from poseda.errors import DataError
from poseda.files.atomic import naming


@dataclass(frozen=True)
class RunFolder:
    """Where the files of one run are."""

    path: Path

    @property
    def lifter(self) -> Path:
        """The trained or adapted lifter."""
        return self.path / "lifter.safetensors"

    @property
    def source_lifter(self) -> Path:
        """The source-trained lifter that an adaptation started from, where it was trained in the same run."""
        return self.path / "source.safetensors"

    @property
    def results(self) -> Path:
        """The numbers, with everything that they depend on."""
        return self.path / "results.json"

    @property
    def predictions(self) -> Path:
        """Poses of a target without labels."""
        return self.path / "poses.npz"

    @property
    def plots(self) -> Path:
        """Folder of figures."""
        return self.path / "plots"

    def training(self, phase: str) -> Path:
        """Folder of one training phase ("source", "adapt"): its metrics.jsonl and resume state."""
        return self.path / phase


@dataclass(frozen=True)
class Column:
    """One column of a table: the rows' key, heading, decimals, and whether the least or greatest is best."""

    key: str
    title: str = ""
    digits: int = 1
    best: Literal["", "min", "max"] = ""


def environment() -> dict[str, object]:
    """Versions, commit, platform and threads that a number may depend on."""
    return {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": np.__version__,
        "poseda": __version__,
        "git": git_hash(Path.cwd()),
        "platform": platform.platform(),
        "device": torch.cuda.get_device_name() if torch.cuda.is_available() else platform.processor(),
        "threads": torch.get_num_threads(),
    }


def git_hash(folder: Path) -> str:
    """Commit of the repository around `folder`, "-dirty" if tracked files differ; "" without one."""
    commit = _git(folder, "rev-parse", "HEAD")
    return commit + ("-dirty" if commit and _git(folder, "status", "--porcelain", "-uno") else "")


def write_results(
    path: Path, results: Mapping[str, object], *, seed: int, protocol: str, data: Sequence[object]
) -> None:
    """Write results.json: the results with seed, protocol, the data's provenance and the environment.

    `data` holds Provenance objects (or plain mappings); NumPy and torch numbers become plain ones, and those
    that are not finite null.
    """
    record = {
        "results": results,
        "protocol": protocol,
        "seed": seed,
        "data": data,
        "environment": environment(),
    }
    atomic_write(path, (json.dumps(_plain(record), indent=2, allow_nan=False) + "\n").encode())


def append_jsonl(path: Path, record: Mapping[str, object]) -> None:
    """Append one record as one line, in one write."""
    with naming(path), path.open("ab", buffering=0) as file:
        file.write((json.dumps(_plain(record), allow_nan=False) + "\n").encode())


def read_jsonl(path: Path) -> list[dict[str, Any]]:
    """Records of a file that `append_jsonl` made. Raises DataError with the number of a broken line."""
    records = []
    for number, line in enumerate(path.read_text().splitlines(), 1):
        try:
            records.append(json.loads(line))
        except ValueError:
            raise DataError(f"{path}, line {number}: not a JSON record.") from None
    return records


def format_table(
    rows: Sequence[Mapping[str, object]], columns: Sequence[Column | str], protocol: str, *, note: str = ""
) -> str:
    """Text table with aligned columns, best values marked * (see Column), and the protocol beneath.

    Values that are absent or None are shown as "-". `note` (such as "stand-in data") gets a line of its own.
    """
    specs = [Column(column) if isinstance(column, str) else column for column in columns]
    body = [_column_cells(rows, column) for column in specs]
    cells = [[column.title or column.key, *texts] for column, texts in zip(specs, body, strict=True)]
    widths = [max(map(len, column)) for column in cells]
    numeric = [any(isinstance(row.get(column.key), int | float) for row in rows) for column in specs]
    lines = []
    for line in zip(*cells, strict=True):
        padded = (t.rjust(w) if n else t.ljust(w) for t, w, n in zip(line, widths, numeric, strict=True))
        lines.append("  ".join(padded).rstrip())
    lines.insert(1, "  ".join("-" * width for width in widths))
    lines.append(f"protocol: {protocol}" + ("   * best" if any(column.best for column in specs) else ""))
    return "\n".join([*lines, note] if note else lines)


def _column_cells(rows: Sequence[Mapping[str, object]], column: Column) -> list[str]:
    """Texts of one column; a marked column keeps room for the mark so that the digits stay aligned."""
    values = [row.get(column.key) for row in rows]
    shown = [_cell(value, column.digits) for value in values]
    if not column.best:
        return shown
    numbers = [float(v) for v in values if isinstance(v, int | float) and math.isfinite(v)]
    if not numbers:
        return shown
    best = _cell(min(numbers) if column.best == "min" else max(numbers), column.digits)
    return [text + ("*" if text == best else " ") for text in shown]


def _cell(value: object, digits: int) -> str:
    if value is None or (isinstance(value, float) and not math.isfinite(value)):
        return "-"
    return f"{value:.{digits}f}" if isinstance(value, float) else str(value)


def _plain(value: object) -> object:
    """Plain JSON values of dataclasses, mappings, sequences, paths, NumPy and torch values."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_plain(item) for item in value]
    if is_dataclass(value) and not isinstance(value, type):
        return _plain(asdict(value))
    if isinstance(value, torch.Tensor | np.ndarray | np.generic):
        return _plain(value.tolist())
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return os.fspath(value) if isinstance(value, Path) else value


def _git(folder: Path, *arguments: str) -> str:
    try:
        done = subprocess.run(["git", *arguments], cwd=folder, capture_output=True, text=True, timeout=5, check=True)
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout.strip()
