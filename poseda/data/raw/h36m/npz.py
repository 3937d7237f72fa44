"""Human3.6M as VideoPose3D stores it: data_3d_h36m.npz with any data_2d_h36m_<detector>.npz."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from poseda.data.raw.h36m.takes import (
    CAMERAS,
    FPS,
    chosen_cameras,
    expected_frames,
    in_order,
    is_damaged,
    reduce_joints,
    see,
    skeleton_of,
    split_of,
    take_name,
)
from poseda.data.raw.h36m.videopose3d import (
    Detections,
    Takes,
    find_detections,
    lazy_takes,
    open_detections,
    world_poses,
)
from poseda.data.recordings import RawDataset, RawOptions, Recording, Unit
from poseda.errors import DataError
from poseda.skeleton import Skeleton, get_skeleton

PREFIX = "data_2d_h36m_"


def open_videopose3d(path: Path, options: RawOptions, licence: str) -> RawDataset:
    """The 3D of `path` with the 2D that the options ask for; the 3D is read at once, for it is one pickled object."""
    takes = lazy_takes(path, "positions_3d")
    found = find_detections(path.parent, PREFIX, options.keypoints)
    detections = open_detections(found, PREFIX) if found else None
    joints = _joints(takes(), path)
    skeleton = skeleton_of(joints, f"{path}: positions_3d")
    target = _target(skeleton, detections)
    cameras = chosen_cameras(options)
    said = f"2D of {found.name}" if found else "2D projected through the published cameras"
    units = [
        Unit(
            name=subject,
            split=split_of(subject, path),
            files=(path, found) if found else (path,),
            read=partial(_read, path, takes, detections, subject, joints, target, cameras),
        )
        for subject in in_order(list(takes()))
    ]
    return RawDataset(
        name="h36m",
        recognised=f"Human3.6M, VideoPose3D npz ({joints} joints, metres, world; {said})",
        skeleton=target,
        fps=FPS,
        licence=licence,
        label_scale="metric",
        keypoints=detections.name if detections else "gt",
        units=tuple(units),
        notes=_notes(detections, target),
        expected=expected_frames(options),
    )


def _joints(takes: Takes, path: Path) -> int:
    """Joints of the first take; all others must have as many."""
    for subject, actions in takes.items():
        for take, value in actions.items():
            return int(world_poses(value, f"{path}: positions_3d['{subject}']['{take}']").shape[1])
    raise DataError(f"{path}: positions_3d: holds no take.")


def _target(skeleton: Skeleton, detections: Detections | None) -> Skeleton:
    """16 joints where the 3D or the 2D has no nose: one between its neighbours would be nobody's label."""
    orders = (skeleton, *([detections.skeleton] if detections else []))
    return get_skeleton("h36m17" if all("nose" in order.joints for order in orders) else "h36m16")


def _notes(detections: Detections | None, target: Skeleton) -> str:
    if detections is None:
        return "2D: projected from the 3D through the published cameras, lens distortion included."
    if "pelvis" not in detections.skeleton.joints:
        return f"2D: {target.name} from {detections.skeleton.name} by names; pelvis, spine, thorax, head are midpoints."
    return ""


def _read(
    path: Path,
    takes: Callable[[], Takes],
    detections: Detections | None,
    subject: str,
    joints: int,
    target: Skeleton,
    cameras: tuple[str, ...],
) -> Iterator[Recording]:
    for key, value in takes()[subject].items():
        take, where = take_name(str(key)), f"{path}: positions_3d['{subject}']['{key}']"
        if is_damaged(subject, take):
            continue
        world = world_poses(value, where)
        if world.shape[1] != joints:
            raise DataError(f"{where}: has {world.shape[1]} joints, the takes before it {joints}.")
        keypoints = None
        if detections is not None:
            keypoints = {
                name: detections.keypoints(subject, key, CAMERAS.index(name), len(CAMERAS), len(world), target)
                for name in cameras
            }
        yield from see(subject, take, reduce_joints(world), skeleton_of(joints, where), target, cameras, keypoints)
