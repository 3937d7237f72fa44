"""The index of source models: which there are, and the size and SHA-256 that their files must have."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from poseda.errors import CheckpointError, DataError, MissingDataError, choose
from poseda.files.json_files import load_json

FOLDER = Path(__file__).resolve().parent
INDEX = "index.json"
"""{"shipped": {name: {sha256, size}}, "hub": {name: {sha256, size, url}}}: shipped ones lie beside it."""


@dataclass(frozen=True)
class Entry:
    """One model of the index."""

    name: str
    sha256: str
    """Of the whole file, in hexadecimal."""
    size: int
    """Bytes."""
    url: str = ""
    """Where it is fetched from; "" for one that lies in the package."""

    def file(self, cache: Path | None = None) -> Path:
        """Where the file lies, or would lie once it is fetched."""
        folder = (cache or default_cache()) if self.url else FOLDER
        return folder / f"{self.name}.safetensors"


def default_cache() -> Path:
    """The folder for fetched models."""
    return Path.home() / ".cache" / "poseda"


def read_index() -> dict[str, Entry]:
    """Name -> entry of all models. Raises DataError for an index that is not one."""
    path = FOLDER / INDEX
    content = load_json(path)
    groups = [content.get(group) for group in ("shipped", "hub")] if isinstance(content, dict) else [None]
    if not all(isinstance(group, dict) for group in groups):
        raise DataError(f"{path}: expected an object of 'shipped' and 'hub'.")
    return {name: _entry(path, name, given) for group in groups for name, given in group.items()}  # type: ignore[union-attr]


def _entry(path: Path, name: str, given: Any) -> Entry:
    kinds = {"sha256": str, "size": int, "url": str}
    fields = given if isinstance(given, dict) else {}
    wrong = fields.keys() - kinds.keys() or {"sha256", "size"} - fields.keys()
    if wrong or any(not isinstance(value, kinds[key]) for key, value in fields.items()) or Path(name).name != name:
        raise DataError(f"{path}: the entry '{name:.80}' must have sha256, size and, in hub, url.")
    return Entry(name, **fields)


def list_names(pattern: str) -> tuple[str, ...]:
    """Sorted names of the models that match a pattern as of a shell."""
    return tuple(sorted(name for name in read_index() if fnmatchcase(name, pattern)))


def find_entry(name: str) -> Entry:
    """The entry of a model; ConfigError with the nearest name where there is none."""
    entries = read_index()
    return entries[choose(name, entries, "source model")]


def verified(entry: Entry, cache: Path | None = None) -> Path:
    """The file of a model that is here, after its size and hash have been compared with the index."""
    path = entry.file(cache)
    if not path.is_file():
        if not entry.url:
            raise MissingDataError(f"{path} is missing, and belongs to the package: install poseda anew.")
        raise MissingDataError(
            f"The source model {entry.name} has not been fetched yet ({entry.size / 1e6:.1f} MB): "
            f"python -m poseda.models model={entry.name} fetch=true"
        )
    if path.stat().st_size != entry.size or digest(path) != entry.sha256:
        way = "fetch it again" if entry.url else "install poseda anew"
        raise CheckpointError(f"{path} is damaged: its size or SHA-256 is not that of the index; delete it and {way}.")
    return path


def digest(path: Path) -> str:
    """SHA-256 of a file in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
