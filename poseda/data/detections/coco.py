"""COCO results, as pycocotools and most detectors write them."""

from __future__ import annotations

from collections.abc import Iterable

from poseda.data.detections.found import Collector, Document, Found, frame_of, person_of
from poseda.errors import DataError
from poseda.files.checks import a_dict, a_list

TITLE = "COCO results"
LAYOUT = "list of {image_id: number, keypoints: [x, y, confidence, ...]}"


def recognises(document: Document) -> bool:
    """A list of people with flat keypoints and numbered images, and nothing that only AlphaPose writes."""
    entries = document.value
    first = entries[0] if isinstance(entries, list) and entries else None
    return (
        isinstance(first, dict)
        and is_flat(first.get("keypoints"))
        and isinstance(first.get("image_id"), int | float)
        and not {"idx", "box"} & first.keys()
    )


def is_flat(keypoints: object) -> bool:
    """Whether keypoints are a list, and not one of [x, y] lists."""
    return isinstance(keypoints, list) and not (keypoints and isinstance(keypoints[0], list))


def read(documents: Iterable[Document]) -> Found:
    """All people of all images. Raises DataError that names file and entry."""
    return read_entries(documents, TITLE)


def read_entries(documents: Iterable[Document], form: str) -> Found:
    """A flat list of people, as COCO and AlphaPose write it. Raises DataError that names file and entry."""
    found = Collector()
    files: dict[tuple[int, int], str] = {}
    for document in documents:
        for number, entry in enumerate(a_list(document.value, document.where)):
            where = f"{document.where}: entry {number}"
            person = a_dict(entry, where)
            key = found.start(*frame_of(person.get("image_id"), where))
            if files.setdefault(key, document.where) != document.where:
                raise DataError(f"{where}: image {key[1]} is in {files[key]} too; read each video's file alone.")
            track = person_of(person.get("track_id", person.get("idx")), where)
            found.add(key, where, person.get("keypoints"), track)
    return found.triplets(form)
