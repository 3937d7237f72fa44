"""3DPW as SPIN and AdaptPose redistribute it: one npz file of rows, without cameras and without sequences."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from poseda.data.body_files import Bodies
from poseda.data.body_model import Doubles
from poseda.data.raw_root import place_by_keypoints
from poseda.data.recordings import Recording, Split, Unit
from poseda.errors import DataError
from poseda.files.checks import an_array
from poseda.files.npz import open_npz
from poseda.files.opening import printable
from poseda.geometry.camera import Camera, denormalise_screen
from poseda.skeleton import get_skeleton

FPS = 30.0
_SPIN_KEYS = ("imgname", "center", "scale", "pose", "shape", "gender")
_SPIN_MARGIN = 1.2  # SPIN's box is this much larger than the one around the keypoints, and stored / 200 px
_BOX_JOINTS = tuple(i for i, name in enumerate(get_skeleton("h36m17").joints) if name[0] in "lr" or name == "nose")
_BOX_STEPS = 10
_LARGEST_SCREEN = 20.0  # screen coordinates of anybody in sight are below 2, pixels reach hundreds
_LEAST_BEND_MM = 2.0
_FITS_PX = 3.0
_JUMP_MM = 500.0  # 15 m/s at 30 frames/s: another person, or another sequence

Opened = tuple[str, tuple[Unit, ...], str]


@dataclass(frozen=True)
class Layout:
    """A layout that was recognised."""

    skeleton: str
    """Joint order of its recordings."""
    open: Callable[[Callable[[], Bodies]], Opened]
    """What was found, the units, and notes; the argument gives the body model where one is needed."""
    expected: Mapping[str, int] | None = None
    """Frames that must come out."""


def _with_keys(files: Sequence[Path], keys: Sequence[str]) -> list[Path]:
    found = []
    for path in files:
        if path.suffix == ".npz":
            with open_npz(path) as archive:
                found += [path] if all(key in archive for key in keys) else []
    return found


def published_cameras() -> Camera:
    """3DPW's two cameras: the phone held upright, 1080 x 1920, and on its side."""
    return Camera.create(
        fx=[1961.853, 1969.231], fy=[1969.231, 1961.853], cx=[540.0, 960.0], cy=[960.0, 540.0],
        width=[1080.0, 1920.0], height=[1920.0, 1080.0], dtype=torch.float64,
    )  # fmt: skip


def spin_layout(files: Sequence[Path]) -> Layout | None:
    """SPIN's 3dpw_test.npz among `files`, or None."""
    found = _with_keys(files, _SPIN_KEYS)
    return Layout("h36m17", partial(_open_spin, found[0]), {"test": 35515}) if found else None


def _open_spin(path: Path, smpl: Callable[[], Bodies]) -> Opened:
    bodies = smpl()
    unit = Unit("test", "test", (path, *bodies.paths), partial(_read_spin, path, bodies))
    notes = (
        "root-relative labels are exact; the file has no translation, camera or 2D: the root stands where the person "
        "fills SPIN's box through 3DPW's published camera (upright unless a box leaves that image), and the 2D are "
        "that projection; people are known by sequence and number only"
    )
    return f"SPIN's {path.name}, {bodies.found}", (unit,), "; ".join(filter(None, (notes, bodies.notes)))


def _read_spin(path: Path, bodies: Bodies) -> Iterator[Recording]:
    """Runs of consecutive frames of one person."""
    with open_npz(path) as archive:
        names, genders = archive.texts("imgname"), archive.texts("gender")
        sizes = {"pose": (72,), "shape": (10,), "center": (2,), "scale": ()}
        rows = {
            key: an_array(archive.array(key), f"{path}: key {key}", (len(names), *size)).astype(np.float64)
            for key, size in sizes.items()
        }
    if len(genders) != len(names) or not names:
        raise DataError(f"{path}: key gender: {len(genders)} rows, imgname has {len(names)}; get the file again.")
    sequences = np.array([PurePosixPath(name).parent.name for name in names])
    numbers = _frame_numbers(names, path)
    new_sequence = _differs(sequences)
    new_person = new_sequence | (np.diff(numbers, prepend=numbers[:1]) <= 0) | _differs(rows["shape"])
    persons = new_person.cumsum()
    first = np.maximum.accumulate(np.where(new_sequence, persons, 0))  # the first person of each row's sequence
    starts = np.flatnonzero(new_person | (np.diff(numbers, prepend=numbers[:1] - 1) != 1))
    lying = {name: rows["center"][sequences == name, 0].max() > 1080 for name in np.unique(sequences)}
    for start, stop in zip(starts, [*starts[1:], len(names)], strict=True):
        part = {key: value[start:stop] for key, value in rows.items()}
        camera = published_cameras()[1 if lying[sequences[start]] else 0]
        pose = 1000 * bodies.skinning(genders[start]).joints(part["pose"], part["shape"])
        pose = place_by_box(pose, part["center"], part["scale"] * 200 / _SPIN_MARGIN, camera)
        who = f"{sequences[start]}/person{persons[start] - first[start]}"
        yield Recording(
            name=f"{who}/{numbers[start]}",
            subject=who,
            action="",
            camera=camera,
            fps=FPS,
            keypoints=camera.project(torch.from_numpy(pose)[None])[0].numpy(),
            poses=pose,
        )


def _differs(values: NDArray[Any]) -> NDArray[np.bool_]:
    """(N,) of values (N,) or (N, n): whether a row differs from the one before; the first does."""
    changed = (values[1:] != values[:-1]).reshape(len(values) - 1, -1).any(-1)
    return np.concatenate([[True], changed])


def _frame_numbers(names: Sequence[str], path: Path) -> NDArray[np.int64]:
    """Of imageFiles/<sequence>/image_00012.jpg the 12."""
    ends = [PurePosixPath(name).stem.rpartition("_")[2] for name in names]
    wrong = next((row for row, end in enumerate(ends) if not (end.isascii() and end.isdigit() and len(end) < 10)), None)
    if wrong is not None:
        name = printable(names[wrong], 80)
        raise DataError(f"{path}: key imgname, row {wrong}: '{name}' has no frame number (image_00012.jpg).")
    return np.array(ends, dtype=np.int64)


def place_by_box(poses: Doubles, centre: Doubles, size: Doubles, camera: Camera) -> Doubles:
    """Poses (T, 17, 3) mm moved to where they fill boxes of centre (T, 2) px and longer side (T,) px.

    The box is that of nose and limbs, as of detected keypoints. Found by a fixed-point iteration from the weak-
    perspective place; not finite for boxes without a size. An approximation: unseen limbs make a box small.
    """
    focal = torch.stack((camera.fx, camera.fy), -1).numpy()
    middle = torch.stack((camera.cx, camera.cy), -1).numpy()
    low, high = poses[:, _BOX_JOINTS, :2].min(1), poses[:, _BOX_JOINTS, :2].max(1)
    with np.errstate(divide="ignore", invalid="ignore"):
        depth = ((high - low) * focal).max(-1) / size
        place = np.concatenate([(centre - middle) / focal * depth[:, None] - (low + high) / 2, depth[:, None]], -1)
        for _ in range(_BOX_STEPS):
            seen = camera.project(torch.from_numpy(poses + place[:, None])[None])[0, :, _BOX_JOINTS].numpy()
            low, high = seen.min(1), seen.max(1)
            place[:, 2] *= (high - low).max(-1) / size
            place[:, :2] += (centre - (low + high) / 2) / focal * place[:, 2:]
    return np.asarray(poses + place[:, None])


def adaptpose_layout(files: Sequence[Path]) -> Layout | None:
    """AdaptPose's data_3dpw_gt_{train,test}.npz among `files`, or None."""
    found = _with_keys(files, ("positions_3d", "positions_2d"))
    return Layout("h36m16", partial(_open_adaptpose, found)) if found else None


def _open_adaptpose(files: Sequence[Path], smpl: Callable[[], Bodies]) -> Opened:
    units, said = [], []
    for path in files:
        split: Split | None = "train" if "train" in path.stem else "test" if "test" in path.stem else None
        order = _order(_metric(path)[0], path)
        said.append(f"{path.name} ({'left' if order[1] == 4 else 'right'} leg first)")
        units.append(Unit(path.stem, split, (path,), partial(_read_adaptpose, path, order)))
    notes = (
        "which rows are left was measured: knees bend forwards, shoulders lie as hips do; cameras are 3DPW's published "
        "one, upright or on its side, whichever projects the 3D onto the 2D; the file names no people: a jump of "
        f"{_JUMP_MM:g} mm starts another"
    )
    return f"AdaptPose's {', '.join(said)}", tuple(units), notes


def _metric(path: Path) -> tuple[Doubles, Doubles]:
    """positions_3d (N, 16, 3) mm and positions_2d (N, 16, 2) of a file."""
    with open_npz(path) as archive:
        poses = an_array(archive.array("positions_3d"), f"{path}: key positions_3d", (None, 16, 3)).astype(np.float64)
        points = an_array(archive.array("positions_2d"), f"{path}: key positions_2d", (len(poses), 16, 2))
    thigh = float(np.median(np.linalg.norm(poses[:, [1, 4]] - poses[:, [2, 5]], axis=-1))) if len(poses) else 0.0
    unit = next((unit for unit in (1000.0, 1.0) if 200 < unit * thigh < 700), None)
    if unit is None:
        raise DataError(f"{path}: key positions_3d: joints 1-2 and 4-5 are {thigh:g} apart: no thighs in m or mm.")
    return poses * unit, points.astype(np.float64)


def _order(poses: Doubles, path: Path) -> list[int]:
    """Rows in the order of h36m16: (N, 16, 3) mm; AdaptPose's own code takes rows 1-3 as the left leg.

    The sides are measured: a person's front is left x up, in any right-handed frame, and a knee lies before the line
    from hip to ankle.
    """
    front = np.cross(poses[:, 1] - poses[:, 4], poses[:, 8] - poses[:, 0])
    front /= np.linalg.norm(front, axis=-1, keepdims=True).clip(min=1e-9)
    knees = poses[:, [2, 5]] - (poses[:, [1, 4]] + poses[:, [3, 6]]) / 2
    bend = float(np.einsum("tkc,tc->", knees, front) / (2 * len(poses)))
    alike = float(((poses[:, 1] - poses[:, 4]) * (poses[:, 10] - poses[:, 13])).sum(-1).mean())
    if not abs(bend) > _LEAST_BEND_MM:
        raise DataError(f"{path}: key positions_3d: knees bend by {bend:.1f} mm: left and right cannot be told apart.")
    first, second = [1, 2, 3], [4, 5, 6]
    arms = [10, 11, 12, 13, 14, 15] if (bend > 0) == (alike > 0) else [13, 14, 15, 10, 11, 12]
    return [0, *(second + first if bend > 0 else first + second), 7, 8, 9, *arms]


def _read_adaptpose(path: Path, order: list[int]) -> Iterator[Recording]:
    """Runs of frames of one camera without a jump."""
    poses, points = _metric(path)
    poses, points = poses[:, order], points[:, order]
    tries = [_place(poses, points, published_cameras()[index]) for index in range(2)]
    errors = np.stack([error for _, _, error in tries])
    chosen = errors.argmin(0)
    typical = float(np.median(errors.min(0)))
    if not typical < _FITS_PX:
        raise DataError(
            f"{path}: its 2D are {typical:.0f} px from the projection of its 3D through 3DPW's camera, upright or on "
            "its side; prepare 3DPW from its sequenceFiles."
        )
    kept = np.stack([placed for placed, _, _ in tries])[chosen, np.arange(len(poses))]
    jump = np.linalg.norm(np.diff(kept, axis=0), axis=-1).mean(-1) > _JUMP_MM
    starts = [0, *(np.flatnonzero(jump | (np.diff(chosen) != 0)) + 1)]
    for number, (start, stop) in enumerate(zip(starts, [*starts[1:], len(poses)], strict=True)):
        index = int(chosen[start])
        name = f"{path.stem}/{number}"
        yield Recording(
            name, name, "", published_cameras()[index], FPS, tries[index][1][start:stop], kept[start:stop]
        )


def _place(poses: Doubles, points: Doubles, camera: Camera) -> tuple[Doubles, Doubles, Doubles]:
    """Absolute poses, px and the mean distance in px of each frame, were `camera` the one."""
    pixels = points
    if np.nanmax(abs(points)) < _LARGEST_SCREEN:
        pixels = denormalise_screen(torch.from_numpy(points)[None], camera.width, camera.height)[0].numpy()
    relative = bool((np.linalg.norm(poses[:, 0], axis=-1) < 1).all())
    placed = _by_keypoints(poses, pixels, camera) if relative else poses
    projected = camera.project(torch.from_numpy(placed)[None])[0].numpy()
    return placed, pixels, np.nan_to_num(np.linalg.norm(projected - pixels, axis=-1).mean(-1), nan=np.inf)


def _by_keypoints(poses: Doubles, pixels: Doubles, camera: Camera) -> Doubles:
    """Absolute poses; NaN where this camera sees no frame so."""
    try:
        return np.asarray(place_by_keypoints(poses, pixels, camera), dtype=np.float64)
    except DataError:
        return np.full_like(poses, np.nan)
