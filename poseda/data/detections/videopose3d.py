"""VideoPose3D's data_2d_custom_<name>.npz: COCO keypoints of whole videos, with the size of the image."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

from poseda.data.detections.found import Document, Floats, Found, Video
from poseda.errors import DataError
from poseda.files.checks import a_dict, a_list, a_number, an_array
from poseda.files.npz import Npz

TITLE = "VideoPose3D custom"
LAYOUT = "npz with positions_2d[video]['custom'] = [(T, 17, 2)] and metadata with video_metadata"

_LAYOUTS = {"coco": "coco17", "h36m": "h36m17"}


def recognises(document: Document) -> bool:
    """An npz file with 2D positions and their metadata."""
    return isinstance(document.value, Npz) and {"positions_2d", "metadata"} <= set(document.value.keys)


def read(documents: Iterable[Document]) -> Found:
    """All frames of all videos, one track for each array. Raises DataError that names video and key."""
    document = next(iter(documents))
    npz, where = document.value, document.where
    assert isinstance(npz, Npz)  # recognised
    metadata = a_dict(npz.objects("metadata"), f"{where}: metadata")
    positions = a_dict(npz.objects("positions_2d"), f"{where}: positions_2d")
    sizes = a_dict(metadata.get("video_metadata", {}), f"{where}: video_metadata")
    videos = tuple(_video(str(name), sizes.get(name), where) for name in positions)
    parts = [(v, track, array) for v, name in enumerate(positions) for track, array in _arrays(positions, name, where)]
    if not sum(len(array) for _, _, array in parts):
        raise DataError(f"{where}: positions_2d holds no frame.")
    if len({array.shape[1:] for _, _, array in parts}) > 1:
        raise DataError(f"{where}: videos differ in their joints; one file must hold one joint layout.")
    return _join(parts, videos, _LAYOUTS.get(str(metadata.get("layout_name")), ""))


def _join(parts: list[tuple[int, int, Floats]], videos: tuple[Video, ...], layout: str) -> Found:
    values = np.concatenate([array for _, _, array in parts])
    scored = values.shape[2] == 3
    lengths = [len(array) for _, _, array in parts]
    longest = [max((len(a) for video, _, a in parts if video == v), default=0) for v in range(len(videos))]
    return Found(
        form=TITLE,
        keypoints=values[..., :2],
        scores=values[..., 2] if scored else np.isfinite(values).all(-1).astype(np.float64),
        frame=np.concatenate([np.arange(length, dtype=np.int64) for length in lengths]),
        video=np.repeat(np.array([v for v, _, _ in parts], dtype=np.int64), lengths),
        person=np.repeat(np.array([track for _, track, _ in parts], dtype=np.int64), lengths),
        videos=videos,
        frames=sum(longest),
        layout=layout,
        scored=scored,
    )


def _arrays(positions: dict[Any, Any], name: object, where: str) -> Iterator[tuple[int, Floats]]:
    place = f"{where}: positions_2d[{str(name)!r}]"
    actions = a_dict(positions[name], place)
    if "custom" not in actions:
        seen = ", ".join(map(str, list(actions)[:3]))
        raise DataError(f"{place}: no 'custom' but {seen}; files of a data set's subjects are read by prepare.")
    for track, array in enumerate(a_list(actions["custom"], f"{place}['custom']")):
        values = an_array(array, f"{place}['custom'][{track}]", (None, None, None), "fiu").astype(np.float64)
        if values.shape[2] not in (2, 3) or not values.shape[1]:
            raise DataError(f"{place}['custom'][{track}]: shape {values.shape}; expected (frames, joints, 2 or 3).")
        yield track, values


def _video(name: str, size: object, where: str) -> Video:
    if size is None:
        return Video(name)
    place = f"{where}: video_metadata[{name!r}]"
    values = a_dict(size, place)
    width, height, fps = (a_number(values.get(key, 0), f"{place}[{key!r}]") for key in ("w", "h", "fps"))
    if not all(0 <= value < 1e6 for value in (width, height, fps)):
        raise DataError(f"{place}: w={width:g}, h={height:g}, fps={fps:g}; expected positive numbers.")
    return Video(name, width, height, fps)
