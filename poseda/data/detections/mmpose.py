"""MMPose: what its Inferencer and its demo scripts save, for a video or an image, in one file or many."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from poseda.data.detections.found import Collector, Document, Found, frame_of, person_of, whole
from poseda.errors import DataError
from poseda.files.checks import a_dict, a_list

TITLE = "MMPose predictions"
LAYOUT = "list of {frame_id, instances: [{keypoints: [[x, y], ...], keypoint_scores}]}, {instance_info}, or instances"


def recognises(document: Document) -> bool:
    """Frames with instances, bare or under instance_info; or the instances of one image."""
    value = document.value
    if isinstance(value, dict):
        return isinstance(value.get("instance_info"), list)
    first = value[0] if isinstance(value, list) and value else None
    return isinstance(first, dict) and ("instances" in first or {"keypoints", "keypoint_scores"} <= first.keys())


def read(documents: Iterable[Document]) -> Found:
    """All people of all frames, with joint names where the file has them. Raises DataError naming file and frame."""
    found = Collector()
    names: tuple[str, ...] = ()
    for document in documents:
        value = document.value
        if isinstance(value, dict):
            names = _joint_names(value.get("meta_info"), document.where) or names
            value = value.get("instance_info")
        entries = a_list(value, document.where)
        if entries and isinstance(entries[0], dict) and "instances" in entries[0]:
            _add_video(found, document, entries)
        else:
            _add_instances(found, frame_of(document.stem, document.where), entries, document.where)
    return found.points(TITLE, names)


def _add_video(found: Collector, document: Document, frames: list[Any]) -> None:
    for number, entry in enumerate(frames):
        where = f"{document.where}: frame {number}"
        frame = a_dict(entry, where)
        name = frame.get("frame_id", number)
        if isinstance(name, bool) or not isinstance(name, int | float):
            raise DataError(f"{where}: frame_id is {type(name).__name__}; expected a number.")
        key = (document.stem, whole(name, where, "frame_id"))
        _add_instances(found, key, a_list(frame.get("instances"), f"{where}: instances"), where)


def _add_instances(found: Collector, key: tuple[str, int], instances: list[Any], where: str) -> None:
    place = found.start(*key)
    for number, entry in enumerate(instances):
        person = a_dict(entry, f"{where}: instance {number}")
        track = person_of(person.get("track_id"), where)
        found.add(place, f"{where}: instance {number}", person.get("keypoints"), track, person.get("keypoint_scores"))


def _joint_names(meta: object, where: str) -> tuple[str, ...]:
    """Joint names in their order, from keypoint_id2name or keypoint_name2id; empty where there are none."""
    if not isinstance(meta, dict):
        return ()
    numbers = meta.get("keypoint_id2name")
    if not isinstance(numbers, dict):
        inverse = meta.get("keypoint_name2id")
        numbers = {str(i): name for name, i in inverse.items()} if isinstance(inverse, dict) else {}
    names = [numbers.get(str(index)) for index in range(len(numbers))]
    if not all(isinstance(name, str) for name in names):
        raise DataError(f"{where}: meta_info does not name its {len(names)} joints 0 to {len(names) - 1}.")
    return tuple(map(str, names))
