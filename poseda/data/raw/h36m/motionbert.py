"""Human3.6M as MotionBERT stores it: h36m_sh_conf_cam_source_final.pkl, whose labels are image-space ("2.5D").

train and test hold, for N frames: joint_2d (N, 17, 2) px and confidence (N, 17[, 1]) of Stacked Hourglass,
joint3d_image (N, 17, 3), camera_name (N,) and source (N,) such as s_09_act_05_subact_02_ca_01. joint3d_image is made
(H36M-Toolbox, LCN) from the pose P in the camera, with a pinhole without lens distortion, as

    u = fx X/Z + cx,  v = fy Y/Z + cy,  w = (Z - Z_pelvis) (fx/Z_pelvis + 1/2000)

so that one view alone leaves the scale open: poses k times as large and as far away have (but for the 1/2000) the same
label. The test part adds 2.5d_factor, a scale in mm/px fitted to each frame; the train part has nothing. But u and v
are exact projections of the motion capture into four calibrated, synchronous cameras: the rays of one take's views meet
in the joint itself. So joints are triangulated, which is exact to the files' rounding, needs neither w nor the factor,
and shows by its residual whether the views do belong together.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from functools import cache, partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from poseda.data.raw.h36m.takes import (
    CAMERAS,
    FPS,
    Keypoints,
    camera_of,
    chosen_cameras,
    expected_frames,
    in_order,
    see,
    split_of,
)
from poseda.data.recordings import Floats, RawDataset, RawOptions, Recording, Unit
from poseda.errors import DataError, choose
from poseda.files.checks import a_dict, a_list, an_array
from poseda.files.pickles import load_pickle
from poseda.skeleton import get_skeleton

_ACTIONS = ("Directions", "Discussion", "Eating", "Greeting", "Phoning", "Posing", "Purchases", "Sitting",
            "SittingDown", "Smoking", "Photo", "Waiting", "Walking", "WalkDog", "WalkTogether")  # fmt: skip
_FIRST_ACTION = 2  # act_02 is Directions
_SOURCE = re.compile(r"s_(\d+)_act_(\d+)_subact_(\d+)_ca_\d+")
_EXPECTED = {"train": 1_559_752, "test": 566_920}
_PARTS = ("train", "test")
_WORST_PX = 1.0
_LONGEST_NAME = 64
_NOTES = (
    "3D: triangulated from the image-space labels of the take's cameras, exact to the file's rounding; frames that "
    "fewer than two cameras label are left out. MotionBERT's own evaluation also leaves out S9 Greeting subact 2, "
    "SittingDown subact 2 and Waiting subact 1, whose motion capture is damaged; they are kept here."
)


class _Part(NamedTuple):
    """train or test of the file, checked."""

    pixels: Floats
    confidence: Floats
    image: Floats
    takes: Mapping[str, Mapping[str, Mapping[str, slice]]]
    """Subject -> take -> camera -> frames."""


def open_motionbert(path: Path, options: RawOptions, licence: str) -> RawDataset:
    """MotionBERT's pickle, which can only be read whole, with its 2D; keypoints=gt projects the 3D instead."""
    detector = choose(options.keypoints or "sh", ("sh", "gt"), "2D in MotionBERT's file")
    cameras = chosen_cameras(options)

    @cache
    def parts() -> dict[str, _Part]:
        content = a_dict(load_pickle(path), str(path))
        missing = [name for name in _PARTS if name not in content]
        if missing:
            raise DataError(f"{path}: has no '{missing[0]}'; it is not MotionBERT's h36m_sh_conf_cam_source_final.pkl.")
        return {name: _part(content[name], f"{path}: {name}") for name in _PARTS}

    units = [
        Unit(
            name=f"{part}/{subject}",
            split=split_of(subject, path),
            files=(path,),
            read=partial(_read, path, parts, part, subject, cameras, detector),
        )
        for part in _PARTS
        for subject in in_order(list(parts()[part].takes))
    ]
    said = "Stacked Hourglass 2D with confidence" if detector == "sh" else "2D projected through the published cameras"
    return RawDataset(
        name="h36m",
        recognised=f"Human3.6M, MotionBERT pickle (image-space labels, triangulated; {said})",
        skeleton=get_skeleton("h36m17"),
        fps=FPS,
        licence=licence,
        label_scale="metric",
        keypoints=detector,
        units=tuple(units),
        notes=_NOTES,
        expected=expected_frames(options, _EXPECTED),
    )


def _part(content: object, where: str) -> _Part:
    fields = a_dict(content, where)
    missing = [key for key in ("joint_2d", "confidence", "joint3d_image", "camera_name", "source") if key not in fields]
    if missing:
        raise DataError(f"{where}: has no '{missing[0]}'; it is not MotionBERT's Human3.6M file.")
    image = an_array(fields["joint3d_image"], f"{where}['joint3d_image']", (None, 17, 3))
    frames = len(image)
    confidence = fields["confidence"]
    flat = getattr(confidence, "ndim", 0) == 2
    confidence = an_array(confidence, f"{where}['confidence']", (frames, 17) if flat else (frames, 17, 1))
    sources = _texts(fields["source"], frames, f"{where}['source']")
    names = _texts(fields["camera_name"], frames, f"{where}['camera_name']")
    return _Part(
        an_array(fields["joint_2d"], f"{where}['joint_2d']", (frames, 17, 2)),
        confidence.reshape(frames, 17),
        image,
        _clips(sources, names, where),
    )


def _texts(value: object, frames: int, where: str) -> NDArray[np.str_]:
    """(N,) names of a list or array of strings or whole numbers; cut, since arrays pad to the longest."""
    values = value.tolist() if isinstance(value, np.ndarray) and value.ndim == 1 else a_list(value, where)
    names = np.array([str(name)[:_LONGEST_NAME] for name in values], np.str_)
    if names.shape != (frames,):
        raise DataError(f"{where}: has shape {names.shape}; joint3d_image asks for ({frames},).")
    return names


def _clips(sources: NDArray[np.str_], names: NDArray[np.str_], where: str) -> dict[str, dict[str, dict[str, slice]]]:
    """Subject -> take -> camera -> frames: a clip is a run of frames with one source."""
    if not len(sources):
        return {}
    starts = np.flatnonzero(np.concatenate([[True], sources[1:] != sources[:-1]]))
    takes: dict[str, dict[str, dict[str, slice]]] = {}
    for start, stop in zip(starts.tolist(), [*starts[1:].tolist(), len(sources)], strict=True):
        subject, take = _parse(str(sources[start]), f"{where}['source'][{start}]")
        camera = str(names[start])
        if camera not in CAMERAS or (names[start:stop] != camera).any():
            raise DataError(f"{where}['camera_name'][{start}]: {camera} is not one camera of {', '.join(CAMERAS)}.")
        views = takes.setdefault(subject, {}).setdefault(take, {})
        if camera in views:
            raise DataError(f"{where}['source'][{start}]: {sources[start]} comes a second time for camera {camera}.")
        views[camera] = slice(start, stop)
    return takes


def _parse(source: str, where: str) -> tuple[str, str]:
    """S9 and "Greeting subact2" of s_09_act_05_subact_02_ca_01."""
    match = _SOURCE.fullmatch(source)
    number = int(match[2]) - _FIRST_ACTION if match else -1
    if match is None or not 0 <= number < len(_ACTIONS):
        raise DataError(f"{where}: {source[:60]!r} is not a clip of Human3.6M such as s_09_act_05_subact_02_ca_01.")
    return f"S{int(match[1])}", f"{_ACTIONS[number]} subact{int(match[3])}"


def _read(
    path: Path, parts: Callable[[], dict[str, _Part]], name: str, subject: str, cameras: tuple[str, ...], detector: str
) -> Iterator[Recording]:
    skeleton, part = get_skeleton("h36m17"), parts()[name]
    for take, views in part.takes[subject].items():
        labels = {camera: part.image[frames] for camera, frames in views.items()}
        world = _triangulate_take(subject, labels, f"{path}: {subject}/{take}")
        for camera in (camera for camera in cameras if camera in views):
            frames = views[camera]
            here = world[: frames.stop - frames.start]
            seen = {camera: Keypoints(part.pixels[frames], np.clip(part.confidence[frames], 0.0, 1.0))}
            yield from see(subject, take, here, skeleton, skeleton, (camera,), None if detector == "gt" else seen)


def _triangulate_take(subject: str, views: Mapping[str, Floats], where: str) -> Floats:
    """World joints (T, 17, 3) mm of a take from the labels of its views.

    NaN in frames that only one view has, or in which the views contradict each other. Raises DataError where most do.
    """
    if len(views) < 2:
        raise DataError(
            f"{where}: only camera {', '.join(views)} labels it, which leaves depth open; "
            "prepare data_3d_h36m.npz instead."
        )
    frames = max(len(view) for view in views.values())
    cameras = [camera_of(subject, name) for name in views]
    rays = np.full((len(views), frames, 17, 2), np.nan)
    for place, (camera, view) in enumerate(zip(cameras, views.values(), strict=True)):
        centre = np.array([float(camera.cx), float(camera.cy)])
        rays[place, : len(view)] = (view[..., :2] - centre) / np.array([float(camera.fx), float(camera.fy)])
    R, t = (torch.cat([getattr(camera, key) for camera in cameras]).numpy() for key in ("R", "t"))
    world, error = triangulate(rays, R, t)
    worst = np.nan_to_num(error).max((0, 2)) * float(cameras[0].fx)  # (T,) px
    world[worst > _WORST_PX] = np.nan
    pixels = float(np.median(worst))
    if pixels > _WORST_PX:
        raise DataError(
            f"{where}: the labels of its cameras miss each other by {pixels:.1f} px; they are not of the same frames, "
            "or not in Human3.6M's own camera frames."
        )
    return world


def triangulate(rays: Floats, R: Floats, t: Floats) -> tuple[Floats, Floats]:
    """Points where the rays of several views meet best, and how far off they are.

    rays (V, ..., 2) are x/z, y/z without distortion, NaN where a view has none; R (V, 3, 3) and t (V, 3) mm take the
    world to the cameras. Each view states two linear equations (r1 - x r3) X = x t3 - t1 on the point; returns the
    least-squares points (..., 3) mm, NaN where fewer than two views have one, and the distance between ray and point
    (V, ...) at depth 1.
    """
    ahead, lift = R[:, 2], (1,) * (rays.ndim - 2)
    rows = R[:, :2].reshape(-1, *lift, 2, 3) - rays[..., None] * ahead.reshape(-1, *lift, 1, 3)
    offsets = rays * t[:, 2].reshape(-1, *lift, 1) - t[:, :2].reshape(-1, *lift, 2)
    seen = np.asarray(np.isfinite(rays).all(-1))
    rows, offsets = np.where(seen[..., None, None], rows, 0.0), np.where(seen[..., None], offsets, 0.0)
    normal = np.einsum("v...ka,v...kb->...ab", rows, rows)
    enough = seen.sum(0) >= 2
    normal = np.where(enough[..., None, None], normal, np.eye(3))
    points = np.linalg.solve(normal, np.einsum("v...ka,v...k->...a", rows, offsets)[..., None])[..., 0]
    points = np.where(enough[..., None], points, np.nan)
    inside = np.einsum("vab,...b->v...a", R, points) + t.reshape(-1, *lift, 3)
    return points, np.linalg.norm(inside[..., :2] / inside[..., 2:] - rays, axis=-1)
