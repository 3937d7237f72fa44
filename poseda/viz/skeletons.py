"""Sample frames as stick figures: the 2D input, predictions side by side, the truth."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from torch import Tensor

from poseda.errors import DataError, ShapeError
from poseda.skeleton import Skeleton
from poseda.viz.density import Array
from poseda.viz.style import FAINT, GHOST, LEFT, RIGHT, TEXT, TRUNK, new_figure

TILE, TILES = 500.0, 3


def plot_skeletons(
    keypoints: Tensor,
    predictions: Mapping[str, Tensor],
    skeleton: Skeleton,
    *,
    truth: Tensor | None = None,
    visible: Tensor | None = None,
    up: Tensor | None = None,
    labels: Sequence[str] = (),
    azimuth: float = 50.0,
    elevation: float = 12.0,
    title: str = "",
    remark: str = "",
) -> Figure:
    """Draw a row a frame: 2D input, predictions, truth. keypoints: (N, J, 2) px; poses: (N, J, 3) mm, camera.

    Poses are made root-relative and seen from a camera that has gone `azimuth` degrees round them and
    `elevation` above, since errors in depth cannot be seen from the front. `up` (N, 3) or (3,) is the upward
    direction in the camera frame (R's column of the world's upward axis); without it -y. Under a prediction
    stands its mean joint error, and the truth lies behind it in grey. `visible` (N, J) leaves out keypoints;
    `labels` name the rows.
    """
    poses = dict(predictions) | ({} if truth is None else {"truth": truth})
    _check(keypoints, poses, skeleton)
    basis = display_basis(len(keypoints), up, azimuth, elevation)
    seen = {name: seen_from(pose, skeleton, basis) for name, pose in poses.items()}
    views = body_views(np.stack(list(seen.values())), elevation)
    ghost = seen.get("truth")
    rows, columns = len(keypoints), 1 + len(poses)
    figure = new_figure(2.1 * columns, 2.35 * rows + 0.4, title, remark)
    grid = figure.subplots(rows, columns, squeeze=False)
    for axes, name in zip(grid[0], ["2D input", *poses], strict=True):
        axes.set_title(name, fontsize=9.5, color=TEXT)
    points = _numpy(keypoints)
    shown = np.ones(points.shape[:2]) if visible is None else _numpy(visible)
    for row in range(rows):
        _draw_input(grid[row, 0], points[row], shown[row], skeleton)
        grid[row, 0].set_ylabel(labels[row] if row < len(labels) else "", fontsize=8.5, color=TEXT)
        for axes, (name, frames) in zip(grid[row, 1:], seen.items(), strict=True):
            behind = None if ghost is None or name == "truth" else ghost[row]
            draw_body(axes, frames[row], behind, skeleton, views[row])
    return figure


def draw_skeleton(
    axes: Axes,
    points: Array,
    skeleton: Skeleton,
    *,
    visible: Array | None = None,
    colour: str = "",
    width: float = 2.0,
) -> None:
    """Draw a stick figure: left blue, right orange, trunk dark, far bones first. points: (J, 2) or (J, 3).

    A third column is depth, toward the viewer. A `colour` replaces the three. Bones with an end not `visible`
    are left out.
    """
    shown = np.ones(len(points), bool) if visible is None else visible.astype(bool)
    bones = np.array([bone for bone in skeleton.bones if shown[list(bone)].all()], dtype=int).reshape(-1, 2)
    if points.shape[1] == 3:
        bones = bones[np.argsort(points[bones, 2].mean(axis=1))]
    colours = [colour or _side_colour(int(child), skeleton) for _, child in bones]
    axes.add_collection(LineCollection(list(points[bones, :2]), colors=colours, linewidths=width, capstyle="round"))
    dots = points[shown]
    dot_colours = [colour or _side_colour(int(j), skeleton) for j in np.flatnonzero(shown)]
    axes.scatter(dots[:, 0], dots[:, 1], s=2.2 * width**2, c=dot_colours, linewidths=0, zorder=3 if not colour else 2)


def _side_colour(joint: int, skeleton: Skeleton) -> str:
    return LEFT if joint in skeleton.left else RIGHT if joint in skeleton.right else TRUNK


def _draw_input(axes: Axes, points: Array, visible: Array, skeleton: Skeleton) -> None:
    """The 2D input, cut out round the person, y down."""
    axes.set(xticks=[], yticks=[], aspect="equal")
    for spine in axes.spines.values():
        spine.set_color("#DDDDDD")
    if not visible.any():
        axes.text(0.5, 0.5, "no keypoints", transform=axes.transAxes, ha="center", fontsize=8.5, color=FAINT)
        return
    draw_skeleton(axes, points, skeleton, visible=visible)
    box = points[visible.astype(bool)]
    middle, half = (box.max(0) + box.min(0)) / 2, 0.62 * max(float(np.ptp(box, axis=0).max()), 1.0)
    axes.set(xlim=(middle[0] - half, middle[0] + half), ylim=(middle[1] + half, middle[1] - half))


@dataclass(frozen=True)
class View:
    """What a 3D panel shows: a square of side 2 * half; its floor lies at `floor` and climbs by `rise`."""

    floor: float
    rise: float
    half: float

    @property
    def low(self) -> float:
        """Display height of the panel's lower edge: that of the floor's near edge."""
        return self.floor - self.rise * TILE * TILES / 2 - 0.03 * self.half


def body_views(bodies: Array, elevation: float) -> list[View]:
    """One scale for all rows; each stands on the lowest joint of its bodies. bodies: (columns, N, J, 3)"""
    rise = float(np.sin(np.radians(elevation)))
    floors = bodies[..., 1].min(axis=(0, 2))
    heights = bodies[..., 1].max(axis=(0, 2)) - floors + rise * TILE * TILES / 2
    half = 1.05 * max(float(np.abs(bodies[..., 0]).max()), float(heights.max()) / 2, TILE * TILES / 2)
    return [View(float(floor), rise, half) for floor in floors]


def draw_body(axes: Axes, body: Array, truth: Array | None, skeleton: Skeleton, view: View) -> None:
    """One 3D pose over a floor of half-metre tiles, the truth behind it, its mean joint error below."""
    _draw_floor(axes, view)
    if truth is not None:
        draw_skeleton(axes, truth, skeleton, colour=GHOST, width=1.6)
        error = float(np.linalg.norm(body - truth, axis=1).mean())
        axes.set_xlabel(f"{error:.0f} mm", fontsize=8.5, color=TEXT, labelpad=1)
    draw_skeleton(axes, body, skeleton)
    axes.set(xlim=(-view.half, view.half), ylim=(view.low, view.low + 2 * view.half), aspect="equal")
    axes.set(xticks=[], yticks=[])
    for spine in axes.spines.values():
        spine.set_visible(False)


def _draw_floor(axes: Axes, view: View) -> None:
    """A square of floor tiles below the root, as the display camera sees it."""
    ticks = (np.arange(TILES + 1) - TILES / 2) * TILE
    ends = np.array([ticks[0], ticks[-1]])
    along = [np.stack([ends, np.full(2, view.floor + view.rise * t)], axis=1) for t in ticks]
    across = [np.stack([np.full(2, t), view.floor + view.rise * ends], axis=1) for t in ticks]
    axes.add_collection(LineCollection([*along, *across], colors="#E4E4E4", linewidths=0.8, zorder=0))


def seen_from(poses: Tensor, skeleton: Skeleton, basis: Array) -> Array:
    """Root-relative poses in the display frame: right, up, toward the viewer. (N, J, 3) mm -> (N, J, 3) mm"""
    points = _numpy(poses)
    relative = points - points[:, skeleton.root : skeleton.root + 1]
    seen: Array = relative @ basis.swapaxes(1, 2)
    return seen


def display_basis(frames: int, up: Tensor | None, azimuth: float, elevation: float) -> Array:
    """Rows right, up, toward the viewer of the display camera in each frame's camera frame. -> (N, 3, 3)"""
    upward = np.broadcast_to([0.0, -1.0, 0.0] if up is None else _numpy(up), (frames, 3))
    upward = upward / np.linalg.norm(upward, axis=1, keepdims=True)
    forward = np.array([0.0, 0.0, 1.0]) - upward[:, 2:] * upward
    # A camera that looks straight down has no forward direction on the floor; up in its image takes over.
    forward = np.where(np.linalg.norm(forward, axis=1, keepdims=True) > 1e-6, forward, [0.0, -1.0, 0.0])
    forward = forward / np.linalg.norm(forward, axis=1, keepdims=True)
    right = np.cross(forward, upward)
    a, e = np.radians(azimuth), np.radians(elevation)
    right, forward = np.cos(a) * right + np.sin(a) * forward, np.cos(a) * forward - np.sin(a) * right
    seen_up = np.cos(e) * upward + np.sin(e) * forward
    return np.stack([right, seen_up, np.cross(right, seen_up)], axis=1)


def _numpy(points: Tensor) -> Array:
    array: Array = points.detach().cpu().double().numpy()
    return array


def _check(keypoints: Tensor, poses: Mapping[str, Tensor], skeleton: Skeleton) -> None:
    if not poses:
        raise DataError("There is no prediction and no truth to draw.")
    expected = (len(keypoints), skeleton.num_joints)
    for name, points in {"keypoints": keypoints, **poses}.items():
        size = 2 if name == "keypoints" else 3
        if tuple(points.shape) != (*expected, size) or not len(points):
            raise ShapeError(f"'{name}' must be {(*expected, size)} with a frame or more: got {tuple(points.shape)}.")
