"""AlphaPose: its own list, and its --format cmu and open, in one file or one file for each image (sep-json)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from poseda.data.detections.coco import is_flat, read_entries
from poseda.data.detections.found import Collector, Document, Found, frame_of
from poseda.data.detections.openpose import add_people
from poseda.files.checks import a_dict
from poseda.files.opening import printable

TITLE = "AlphaPose results"
LAYOUT = 'list of {image_id: "12.jpg", keypoints: [x, y, confidence, ...], idx}, or {"12.jpg": {bodies or people}}'


def recognises(document: Document) -> bool:
    """A list of people with images by name, or with idx or box; or people by the image's name; or bodies."""
    value = document.value
    if isinstance(value, dict):
        return _is_frame(value, "bodies") or (bool(value) and all(_is_frame(frame) for frame in value.values()))
    first = value[0] if isinstance(value, list) and value else None
    if not isinstance(first, dict) or "image_id" not in first or not is_flat(first.get("keypoints")):
        return False
    return isinstance(first["image_id"], str) or bool({"idx", "box"} & first.keys())


def read(documents: Iterable[Document]) -> Found:
    """All people of all images. Raises DataError that names file and entry."""
    documents = iter(documents)
    first = next(documents)
    if isinstance(first.value, list):
        return read_entries(_chain(first, documents), TITLE)
    found = Collector()
    for document in _chain(first, documents):
        for image, frame in _frames(document):
            where = document.where if image == document.stem else f"{document.where}: {printable(image, 60)}"
            add_people(found, found.start(*frame_of(image, where)), frame, where)
    return found.triplets(TITLE)


def _chain(first: Document, others: Iterator[Document]) -> Iterator[Document]:
    yield first
    yield from others


def _frames(document: Document) -> Iterator[tuple[str, object]]:
    value = a_dict(document.value, document.where)
    return iter([(document.stem, value)] if _is_frame(value) else value.items())


def _is_frame(value: object, *keys: str) -> bool:
    names = keys or ("bodies", "people")
    return isinstance(value, dict) and any(isinstance(value.get(name), list) for name in names)
