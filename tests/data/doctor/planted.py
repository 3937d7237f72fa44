"""Faults planted in good clips: what a reader of raw data would give if that mistake had been made."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np
import torch

from poseda.data.clips import LabelledClips
from poseda.data.recordings import Recording
from poseda.geometry.camera import Camera
from poseda.skeleton import get_skeleton


class Data:
    """Whole arrays that a fault may change: poses (F, J, 3), keypoints (F, J, 2), cameras, their numbers, fps."""

    def __init__(self, clips: LabelledClips) -> None:
        self.clips = clips
        self.poses = clips.poses.double().numpy().copy()
        self.keypoints = clips.keypoints.double().numpy().copy()
        self.confidence = clips.confidence.double().numpy().copy()
        self.cameras = clips.cameras
        self.numbers = [sequence.camera for sequence in clips.sequences]
        self.fps = clips.fps
        self.labelled = True

    def recordings(self) -> Iterator[Recording]:
        bounds = self.clips.bounds.tolist()
        for number, sequence in enumerate(self.clips.sequences):
            rows = slice(bounds[number], bounds[number + 1])
            yield Recording(
                name=sequence.name,
                subject=sequence.subject,
                action=sequence.action,
                camera=self.cameras[self.numbers[number]],
                fps=self.fps,
                keypoints=self.keypoints[rows],
                poses=self.poses[rows] if self.labelled else None,
                confidence=self.confidence[rows],
            )

    @property
    def frame_camera(self) -> torch.Tensor:
        return self.clips.camera_index

    @property
    def sizes(self) -> tuple[np.ndarray, np.ndarray]:
        """(F, 1) widths and (F, 1) heights of the frames' images."""
        cameras = self.clips.cameras_at(torch.arange(self.clips.num_frames))
        return cameras.width.double().numpy()[:, None], cameras.height.double().numpy()[:, None]

    def reorder(self, order: list[int], what: str = "both") -> None:
        if what != "2D":
            self.poses = self.poses[:, order]
        if what != "3D":
            self.keypoints = self.keypoints[:, order]


Fault = Callable[[Data], None]
H36M = get_skeleton("h36m17")
LEGS, ARMS = (1, 2, 3, 4, 5, 6), (14, 15, 16, 11, 12, 13)


def exchanged(*pairs: tuple[str, str]) -> list[int]:
    order = list(range(17))
    for one, other in pairs:
        a, b = H36M.index(one), H36M.index(other)
        order[a], order[b] = order[b], order[a]
    return order


def mirrored(*parts: str) -> list[int]:
    return exchanged(*[("l" + part, "r" + part) for part in parts])


def limbs() -> list[int]:
    order = list(range(17))
    for leg, arm in zip(LEGS, ARMS, strict=True):
        order[leg], order[arm] = arm, leg
    return order


def in_3dhp_order() -> list[int]:
    """Data that are in the order of 3dhp17 and are declared to be in that of h36m17."""
    return [H36M.index(name) for name in get_skeleton("3dhp17").joints]


def reorder(order: list[int], what: str = "both") -> Fault:
    return lambda data: data.reorder(order, what)


def coco_2d(data: Data) -> None:
    """The 2D in COCO's order: eyes and ears are made beside the nose."""
    names = get_skeleton("coco17").joints
    nose, head = data.keypoints[:, H36M.index("nose")], data.keypoints[:, H36M.index("head")]
    face = {"leye": 0.4, "reye": 0.45, "lear": 0.85, "rear": 0.9}
    data.keypoints = np.stack(
        [nose + face[n] * (head - nose) if n in face else data.keypoints[:, H36M.index(n)] for n in names], 1
    )


def scale_poses(factor: float) -> Fault:
    def plant(data: Data) -> None:
        data.poses *= factor

    return plant


def axes(*rows: tuple[int, int, int]) -> Fault:
    def plant(data: Data) -> None:
        data.poses = data.poses @ np.array(rows, dtype=float).T

    return plant


def world(known: bool, up: str = "z") -> Fault:
    """World coordinates; the cameras keep their extrinsics or not."""

    def plant(data: Data) -> None:
        poses = torch.from_numpy(data.poses)
        cameras = data.cameras.to(dtype=torch.float64)[data.frame_camera]
        data.poses = cameras.camera_to_world(poses).numpy()
        if up == "y":
            data.poses = data.poses @ np.array([[1, 0, 0], [0, 0, 1], [0, -1, 0]], dtype=float).T
        if not known:
            eye = torch.eye(3).expand(len(data.cameras), 3, 3)
            data.cameras = replace(data.cameras, R=eye, t=torch.zeros(len(data.cameras), 3))

    return plant


def mirror_x(what: str) -> Fault:
    def plant(data: Data) -> None:
        if what != "2D":
            data.poses[..., 0] *= -1
        if what != "3D":
            data.keypoints[..., 0] = data.sizes[0] - data.keypoints[..., 0]

    return plant


def flip_y(what: str) -> Fault:
    def plant(data: Data) -> None:
        if what != "2D":
            data.poses[..., 1] *= -1
        if what != "3D":
            data.keypoints[..., 1] = data.sizes[1] - data.keypoints[..., 1]

    return plant


def universal(factors: dict[str, float] | float) -> Fault:
    """Each person scaled about the pelvis."""

    def plant(data: Data) -> None:
        owner = [s.subject for s in data.clips.sequences]
        frame = data.clips.sequence_index.numpy()
        factor = np.array([factors if isinstance(factors, float) else factors.get(o, 1.0) for o in owner])[frame]
        root = data.poses[:, :1]
        data.poses = root + factor[:, None, None] * (data.poses - root)

    return plant


def normalised(data: Data) -> None:
    width, height = data.sizes
    data.keypoints = data.keypoints * 2 / width[..., None] - np.stack([np.ones_like(width), height / width], -1)


def portrait(data: Data, width: float = 1080.0, height: float = 1920.0) -> None:
    """Seen by portrait cameras in the same places, without distortion."""
    count = len(data.cameras)
    data.cameras = Camera.create(
        fx=torch.full((count,), 1500.0), fy=1500.0, cx=width / 2 + 3, cy=height / 2 - 5, width=width, height=height,
        R=data.cameras.R, t=data.cameras.t,
    )  # fmt: skip
    shown = data.cameras.to(dtype=torch.float64)[data.frame_camera].project(torch.from_numpy(data.poses))
    data.keypoints = shown.numpy()


def wrong_side(data: Data) -> None:
    """Normalised by the height, brought back by the width."""
    portrait(data)
    w, h = 1080.0, 1920.0
    by_height = data.keypoints / h * 2 - np.array([w / h, 1.0])
    data.keypoints = (by_height + np.array([1.0, h / w])) * w / 2


def each_its_side(data: Data) -> None:
    """x normalised by the width and y by the height, both brought back by the width."""
    portrait(data)
    w, h = 1080.0, 1920.0
    data.keypoints = (data.keypoints / np.array([w, h]) * 2 - 1 + np.array([1.0, h / w])) * w / 2


def sides_exchanged(data: Data) -> None:
    portrait(data)
    data.cameras = replace(data.cameras, width=data.cameras.height, height=data.cameras.width)


def resized(data: Data) -> None:
    data.keypoints = data.keypoints / 2


def wrong_focal(data: Data) -> None:
    data.cameras = replace(data.cameras, fx=data.cameras.fx * 1.25, fy=data.cameras.fy * 1.25)


def cameras_mixed(data: Data) -> None:
    """Two cameras exchanged in every sequence that either sees."""
    first, other = data.numbers[0], next(n for n in data.numbers if n != data.numbers[0])
    data.numbers = [{first: other, other: first}.get(n, n) for n in data.numbers]


def lag(frames: int, every: int = 1) -> Fault:
    """2D of `frames` later in every sequence, or in every `every`-th."""

    def plant(data: Data) -> None:
        bounds = data.clips.bounds.tolist()
        for low, high in list(itertools.pairwise(bounds))[::every]:
            rows = np.clip(np.arange(low, high) + frames, low, high - 1)
            data.keypoints[low:high] = data.keypoints[rows]

    return plant


def root_relative(data: Data) -> None:
    data.poses = data.poses - data.poses[:, :1]


def image_space(data: Data) -> None:
    data.poses[..., :2] = data.keypoints


def too_fast(data: Data) -> None:
    data.fps *= 10


def other_people(data: Data) -> None:
    """The 2D of other frames."""
    data.keypoints = np.roll(data.keypoints, len(data.keypoints) // 2, 0)


def some_missing(data: Data) -> None:
    data.confidence[::3, H36M.index("lwrist")] = 0.0
    data.confidence[:, H36M.index("head")] = 0.0
    data.keypoints[data.confidence == 0] = np.nan
