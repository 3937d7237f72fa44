"""OpenPose (--write_json): one JSON file for each frame, BODY_25 or COCO-18."""

from __future__ import annotations

from collections.abc import Iterable

from poseda.data.detections.found import Collector, Document, Found, frame_of, person_of
from poseda.files.checks import a_dict, a_list

TITLE = "OpenPose frames"
LAYOUT = "folder with {people: [{pose_keypoints_2d: [x, y, confidence, ...]}]} for each frame"

_BODIES = {"people": ("pose_keypoints_2d", "pose_keypoints"), "bodies": ("joints",)}


def recognises(document: Document) -> bool:
    """An object with a list of people; the list is empty where nobody was seen."""
    return isinstance(document.value, dict) and isinstance(document.value.get("people"), list)


def read(documents: Iterable[Document]) -> Found:
    """All people of all frames; a frame's number is in its file's name. Raises DataError that names the file."""
    found = Collector()
    for document in documents:
        key = found.start(*frame_of(document.stem, document.where))
        add_people(found, key, document.value, document.where)
    return found.triplets(TITLE)


def add_people(found: Collector, key: tuple[int, int], frame: object, where: str) -> None:
    """People of one frame; one of whom only a face or hands were found is passed over. Raises DataError."""
    values = a_dict(frame, where)
    group = next((name for name in _BODIES if name in values), "people")
    for number, entry in enumerate(a_list(values.get(group), f"{where}: {group}")):
        place = f"{where}: {group} {number}"
        person = a_dict(entry, place)
        row = next((person[name] for name in _BODIES[group] if name in person), None)
        if row != []:
            found.add(key, place, row, person_of(person.get("person_id"), place))
