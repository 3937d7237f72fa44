"""The files that detections come in: one JSON file, one npz file, or a folder with a JSON file for each frame."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from poseda.data.detections.found import Document
from poseda.errors import MissingDataError
from poseda.files.json_files import load_json
from poseda.files.npz import open_npz

Documents = Callable[[], Iterator[Document]]
"""Reads the documents one after the other, each time from the first."""

_ZIP = b"PK\x03\x04"


@contextmanager
def open_documents(path: Path) -> Iterator[Documents]:
    """Documents of a file or folder; files of a folder in the order of the numbers in their names.

    Raises MissingDataError where nothing is there, DataError where a file cannot be read.
    """
    if path.is_dir():
        files = sorted((f for f in path.glob("*.json") if not f.name.startswith(".")), key=_natural)
        if not files:
            raise MissingDataError(f"{path}: no .json file in this folder.")
        yield lambda: (Document(file.stem, str(file), load_json(file)) for file in files)
    elif not path.is_file():
        raise MissingDataError(f"{path}: there is no such file or folder.")
    elif _is_zip(path):
        with open_npz(path) as npz:
            yield _only(Document(path.stem, str(path), npz))
    else:
        yield _only(Document(path.stem, str(path), load_json(path)))


def _only(document: Document) -> Documents:
    return lambda: iter((document,))


def _is_zip(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(len(_ZIP)) == _ZIP


def _natural(path: Path) -> list[tuple[int, int, str]]:
    """Sorts 2.json before 10.json."""
    parts = re.split(r"(\d+)", path.stem)
    return [(1, int(part[-20:]), "") if part.isdigit() else (0, 0, part) for part in parts]
