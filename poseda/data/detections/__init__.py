"""2D detections of one's own video as clips without labels; one file a detector's format.

A format's file states TITLE (its name for the user), LAYOUT (its structure in one line, for messages),
`recognises(document) -> bool`, which looks at the structure of one document and never at its name, and
`read(documents) -> Found`, which takes all documents apart and raises DataError in one line that names file and entry.
Of no document two formats may say that it is theirs. Nothing else has to be edited to add one; files without TITLE are
what all formats share. Collector.triplets and Collector.points build the arrays.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Protocol, cast

from poseda.data.detections.assembly import Detections, assemble
from poseda.data.detections.documents import Documents, open_documents
from poseda.data.detections.found import Document, Found
from poseda.data.detections.options import DetectionOptions
from poseda.errors import DataError
from poseda.files.npz import Npz
from poseda.files.opening import printable
from poseda.plugins import list_plugins
from poseda.skeleton import get_skeleton

__all__ = ["DetectionOptions", "Detections", "list_formats", "read_detections"]


class DetectorFormat(Protocol):
    """A module of this package that reads one detector's output."""

    TITLE: str
    LAYOUT: str

    def recognises(self, document: Document) -> bool:
        """Whether a document has this format's structure."""

    def read(self, documents: Iterable[Document]) -> Found:
        """All people in all documents."""


def list_formats() -> tuple[str, ...]:
    """Names of all formats, sorted."""
    return list_plugins(__path__, "TITLE")


def read_detections(
    path: str | Path, options: DetectionOptions | None = None, skeleton: str = "h36m17"
) -> Detections:
    """Clips, in the joints of `skeleton`, of the people in a detector's file, or in a folder with one JSON file a
    frame.

    The format is told by its structure. Raises MissingDataError where nothing is there, DataError where the content is
    not what it must be, ConfigError for an option that does not fit or is needed; each in one line.
    """
    path = Path(path)
    with open_documents(path) as documents:
        form = _recognise(documents, path)
        found = form.read(documents())
    return assemble(found, options or DetectionOptions(), get_skeleton(skeleton), path)


def _recognise(documents: Documents, path: Path) -> DetectorFormat:
    """The format of the first document that is not empty. Raises DataError with what was seen and what is known."""
    formats = [_format(name) for name in list_formats()]
    seen = next(_filled(documents()), None)
    if seen is None:
        raise DataError(f"{path}: no person was detected in any frame.")
    for form in formats:
        if form.recognises(seen):
            return form
    known = "; ".join(f"{form.TITLE}: {form.LAYOUT}" for form in formats)
    raise DataError(f"{seen.where}: holds {_describe(seen.value)}, no known detections. Known are {known}.")


def _filled(documents: Iterator[Document]) -> Iterator[Document]:
    return (document for document in documents if document.value not in ([], {}))


def _format(name: str) -> DetectorFormat:
    return cast(DetectorFormat, importlib.import_module(f"{__name__}.{name}"))


def _describe(value: object) -> str:
    if isinstance(value, dict):
        return f"an object with keys {printable(', '.join(map(str, list(value)[:6])), 80)}"
    if isinstance(value, list):
        return f"a list of {len(value)}, the first {_describe(value[0])}" if value else "an empty list"
    if isinstance(value, Npz):
        return f"arrays {printable(', '.join(value.keys[:6]), 80)}"
    return f"a value of type {type(value).__name__}"
