"""HumanEva-I in VideoPose3D's layout: data_3d_humaneva15.npz with data_2d_humaneva15_<detector>.npz.

Both hold {"Train/S1" ... "Validate/S3": {"Walking 1 chunk0": ...}}: 15 joints in metres in the world, and three
cameras of 640x480 px at 60 frames/s; chunks are what motion-capture drop-outs leave. Extrinsics are published in
VideoPose3D's table, intrinsics only with the gated data set. But the gt file's 2D are the projections of the 3D, so
intrinsics and lens follow from them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import product
from pathlib import Path

import numpy as np
import torch

from poseda.data.raw.h36m.videopose3d import (
    Detections,
    Takes,
    find_detections,
    lazy_takes,
    open_detections,
    world_poses,
)
from poseda.data.recordings import Floats, RawDataset, RawOptions, Recording, Unit
from poseda.errors import DataError, MissingDataError, choose
from poseda.geometry.camera import Camera
from poseda.skeleton import get_skeleton

TITLE = "HumanEva-I"
SITE = "humaneva.is.tue.mpg.de"
LAYOUTS = ("data_3d_humaneva15.npz with data_2d_humaneva15_gt.npz and any other data_2d_humaneva15_<detector>.npz",)
USES = ("keypoints", "cameras", "test_subjects")

_POSITIONS = "data_3d_humaneva15.npz"
_PREFIX = "data_2d_humaneva15_"
_CAMERAS = ("C1", "C2", "C3")
_SIZE = (640.0, 480.0)
_WORST_PX = 5.0
# Camera to world as a quaternion w x y z, and the camera's centre in mm: HumanEva's calibration as printed in
# VideoPose3D's table. S3 was recorded with the cameras of S1.
_S1 = (((0.424207, -0.4983646, -0.5802981, 0.4847012), (4062.227, 663.2477, 1528.397)),
       ((0.6503354, -0.7481602, -0.0919284, 0.0941766), (844.8131, -3805.2092, 1504.9929)),
       ((0.0664734, -0.0690535, 0.7416416, -0.6639132), (-797.67377, 3916.3174, 1433.6602)))  # fmt: skip
_S2 = (((0.4214752, -0.4961493, -0.5838273, 0.4851187), (4112.9121, 626.4929, 1545.2988)),
       ((0.6501393, -0.7476588, -0.0954617, 0.0959808), (923.574, -3877.9243, 1504.5518)),
       ((0.0699353, -0.0712403, 0.7421637, -0.662742), (-781.4915, 3838.8853, 1444.9929)))  # fmt: skip
_EXTRINSICS = {"S1": _S1, "S2": _S2, "S3": _S1}
# Chunks whose head stands in a wrong place, left out by users of this file (GSPS, DLow and their successors).
_DAMAGED = {("Train/S3", "Walking 1 chunk0"), ("Train/S3", "Walking 1 chunk2"), ("Validate/S3", "Walking 1 chunk4")}


def open_raw(raw: Path, options: RawOptions) -> RawDataset:
    """HumanEva-I in a folder (or its 3D file), humaneva15, 60 frames/s.

    Train/S1 and Validate/S1 are one person. By default people are named S1, S2, S3 and the split is by person; where
    `test_subjects` names halves such as Validate/S1, halves are the subjects, as in papers that train and test on the
    same people. Raises MissingDataError without the gt 2D, from which the cameras are found, and DataError where 2D
    and 3D do not fit.
    """
    path, truth = _files(raw)
    found = find_detections(path.parent, _PREFIX, options.keypoints) or truth
    takes, detections = lazy_takes(path, "positions_3d"), open_detections(found, _PREFIX)
    names = tuple(choose(name, _CAMERAS, f"camera of {TITLE}") for name in options.cameras) or _CAMERAS
    halves = [half for half in takes() if takes()[half]]
    cameras, error = _cameras(halves, takes(), open_detections(truth, _PREFIX), path)
    by_person = not any("/" in name for name in options.test_subjects)
    units = [
        Unit(
            name=half,
            split=None,
            files=(path, truth) if found == truth else (path, truth, found),
            read=partial(_read, path, takes, detections, half, names, cameras, by_person),
        )
        for half in sorted(halves)
    ]
    halved = "Train/ and Validate/ are the same people: those tested were seen in training."
    return RawDataset(
        name="humaneva",
        recognised=f"{TITLE}, VideoPose3D npz (15 joints, metres, world; 2D of {found.name})",
        skeleton=get_skeleton("humaneva15"),
        fps=60.0,
        licence="HumanEva licence: research only, no redistribution; terms at humaneva.is.tue.mpg.de.",
        label_scale="metric",
        keypoints=detections.name,
        units=tuple(units),
        notes=(
            f"Cameras: published extrinsics; intrinsics and lens solved from the gt 2D, met to {error:.2f} px. "
            f"{'Split by person.' if by_person else halved} S3's walking chunks with a misplaced head are left out."
        ),
    )


def _files(raw: Path) -> tuple[Path, Path]:
    """The files of the 3D and of the gt 2D."""
    path = raw if raw.suffix == ".npz" else raw / _POSITIONS
    truth = path.parent / f"{_PREFIX}gt.npz"
    for file, use in ((path, "the 3D"), (truth, "the 2D from which the cameras are found")):
        if not file.is_file():
            raise MissingDataError(f"{file}: there is no such file; it holds {use} of {TITLE}.")
    return path, truth


def _person(half: str, where: object) -> str:
    """S1 of Train/S1; DataError for a person without published cameras."""
    person = half.rpartition("/")[2]
    if person not in _EXTRINSICS:
        raise DataError(f"{where}: subject '{half}' has no published cameras; known: Train/ and Validate/ S1, S2, S3.")
    return person


def _world(value: object, where: str) -> Floats:
    """(T, 15, 3) mm in the world; DataError for other joints."""
    world = world_poses(value, where)
    if world.shape[1] != 15:
        raise DataError(f"{where}: has {world.shape[1]} joints; HumanEva-15 has 15.")
    return world


def _cameras(
    halves: Sequence[str], takes: Takes, truth: Detections, path: Path
) -> tuple[dict[tuple[str, str], Camera], float]:
    """The camera of each (person, camera name), from all of a person's frames; and the worst error (rms, px)."""
    cameras, errors = {}, [0.0]
    skeleton = get_skeleton("humaneva15")
    for person, (number, name) in product(sorted({_person(half, path) for half in halves}), enumerate(_CAMERAS)):
        points, pixels = [], []
        for half in (half for half in halves if _person(half, path) == person):
            for take, value in takes[half].items():
                world = _world(value, f"{path}: positions_3d['{half}']['{take}']")
                seen = truth.keypoints(half, take, number, len(_CAMERAS), len(world), skeleton)
                points.append(world.reshape(-1, 3))
                pixels.append(seen.pixels.reshape(-1, 2))
        R, t = _extrinsics(person, number)
        camera, error = fit_intrinsics(np.concatenate(points), np.concatenate(pixels), R, t, f"{path}: 3D of {person}")
        mirrored = min(float(camera.fx), float(camera.fy)) <= 0
        if mirrored or not error <= _WORST_PX:
            raise DataError(
                f"{truth.path}: 2D of {person} in {name} is {'mirrored' if mirrored else f'{error:.1f} px off the 3D'} "
                "under any intrinsics; "
                "joints, units or cameras are not those of VideoPose3D's HumanEva."
            )
        cameras[person, name] = camera
        errors.append(error)
    return cameras, max(errors)


def _extrinsics(person: str, number: int) -> tuple[Floats, Floats]:
    """World to camera: R (3, 3), t (3,) mm."""
    (w, *vector), centre = _EXTRINSICS[person][number]
    x, y, z = vector
    scale = float(np.linalg.norm([w, x, y, z]))
    w, v = w / scale, np.array([x, y, z]) / scale
    cross = np.array([[0.0, -v[2], v[1]], [v[2], 0.0, -v[0]], [-v[1], v[0], 0.0]])
    to_world = np.eye(3) * (w * w - v @ v) + 2 * np.outer(v, v) + 2 * w * cross
    return to_world.T, -to_world.T @ np.array(centre)


def fit_intrinsics(points: Floats, pixels: Floats, R: Floats, t: Floats, where: str) -> tuple[Camera, float]:
    """A float64 camera with OpenCV's lens that sees world points (N, 3) mm at pixels (N, 2), and its rms error in px.

    With the extrinsics known, u is linear in fx, cx and fx times each of k1 k2 p1 p2, and v in fy, cy and fy times
    each: two linear least-squares problems, exact for true projections. Their two answers for the coefficients are
    averaged. Rows that are not finite are left out. Raises DataError where the points are not before the camera.
    """
    seen = np.isfinite(points).all(-1) & np.isfinite(pixels).all(-1)
    inside = points[seen] @ R.T + t
    if len(inside) < 8 or not (inside[:, 2] > 0).all():
        raise DataError(
            f"{where}: does not stand before the published cameras; it is not in metres in HumanEva's world."
        )
    x, y = (inside[:, :2] / inside[:, 2:]).T
    u, v = pixels[seen].astype(np.float64).T
    r2, one = x * x + y * y, np.ones_like(x)
    fx, *bend_u, cx = _solve([x, x * r2, x * r2**2, 2 * x * y, r2 + 2 * x * x, one], u)
    fy, *bend_v, cy = _solve([y, y * r2, y * r2**2, r2 + 2 * y * y, 2 * x * y, one], v)
    lens = (np.array(bend_u) / fx + np.array(bend_v) / fy) / 2
    camera = Camera.create(
        fx=fx, fy=fy, cx=cx, cy=cy, width=_SIZE[0], height=_SIZE[1], radial=(lens[0], lens[1], 0.0),
        tangential=(lens[2], lens[3]), R=torch.from_numpy(R), t=torch.from_numpy(t), dtype=torch.float64,
    )  # fmt: skip
    error = camera.project(torch.from_numpy(inside)[None])[0].numpy() - np.stack([u, v], -1)
    return camera, float(np.sqrt((error**2).sum(-1).mean()))


def _solve(columns: list[Floats], values: Floats) -> list[float]:
    """Least-squares weights of the columns, each (N,), that make up `values` (N,)."""
    solution: list[float] = np.linalg.lstsq(np.stack(columns, -1), values, rcond=None)[0].tolist()
    return solution


def _read(
    path: Path,
    takes: Callable[[], Takes],
    detections: Detections,
    half: str,
    names: Sequence[str],
    cameras: dict[tuple[str, str], Camera],
    by_person: bool,
) -> Iterator[Recording]:
    person, skeleton = _person(half, path), get_skeleton("humaneva15")
    for take, name in product(takes()[half], names):
        world = _world(takes()[half][take], f"{path}: positions_3d['{half}']['{take}']")
        camera = cameras[person, name]
        seen = detections.keypoints(half, take, _CAMERAS.index(name), len(_CAMERAS), len(world), skeleton)
        yield Recording(
            name=f"{half}/{take}/{name}",
            subject=person if by_person else half,
            action=str(take).split(" ")[0],
            camera=camera,
            fps=60.0,
            keypoints=seen.pixels,
            poses=camera.world_to_camera(torch.from_numpy(world)[None])[0].float().numpy(),
            confidence=seen.confidence,
            keep=np.full(len(world), (half, take) not in _DAMAGED),
        )
