"""A sequence in motion, as a GIF: the 2D input beside the predicted pose, from the camera's side and from another."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import BinaryIO

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from PIL import Image
from torch import Tensor

from poseda.errors import ConfigError, DataError
from poseda.files.atomic import atomic_write
from poseda.skeleton import Skeleton
from poseda.viz.density import Array
from poseda.viz.skeletons import body_views, display_basis, draw_body, draw_skeleton, seen_from
from poseda.viz.style import TEXT, new_figure

LARGEST_FRAMES = 250
FASTEST = 12.5
AZIMUTHS = {"pose, from the camera": 0.0, "pose, from the side": 70.0}
_ELEVATION = 12.0


def save_animation(
    path: str | Path,
    keypoints: Tensor,
    poses: Tensor,
    skeleton: Skeleton,
    *,
    fps: float,
    visible: Tensor | None = None,
    remark: str = "",
    report: Callable[[int, int], None] = lambda done, total: None,
) -> int:
    """Write a .gif of one sequence and return the number of frames drawn.

    keypoints: (T, J, 2) px; poses: (T, J, 3) mm, camera frame, any root; visible: (T, J). At most 12.5 frames a
    second are drawn, at the true speed, and 250 in all: what is longer is cut. Raises ConfigError for another suffix
    and DataError for an empty sequence.
    """
    path = Path(path)
    if path.suffix != ".gif":
        raise ConfigError(f"animation={path} must end in .gif.")
    if not len(poses):
        raise DataError("There is no frame to animate.")
    every = max(1, round(fps / FASTEST))
    shown = slice(0, LARGEST_FRAMES * every, every)
    points = keypoints[shown].detach().cpu().double().numpy()
    there = np.ones(points.shape[:2], bool) if visible is None else visible[shown].cpu().numpy().astype(bool)
    bodies = {
        name: seen_from(poses[shown], skeleton, display_basis(len(points), None, azimuth, _ELEVATION))
        for name, azimuth in AZIMUTHS.items()
    }
    pictures = _pictures(points, there, bodies, skeleton, remark, report)
    atomic_write(path, partial(_write, pictures=pictures, milliseconds=1000.0 * every / fps))
    return len(pictures)


def _pictures(
    points: Array,
    there: Array,
    bodies: dict[str, Array],
    skeleton: Skeleton,
    remark: str,
    report: Callable[[int, int], None],
) -> list[Image.Image]:
    """A picture a frame, all with one scale, so that nothing but the person moves."""
    figure = new_figure(7.2, 2.9, remark=remark)
    figure.set_dpi(90)
    canvas = FigureCanvasAgg(figure)
    views = body_views(np.stack(list(bodies.values())), _ELEVATION)  # one scale; the lowest joint stands on the floor
    limits = _limits(points, there)
    panels = figure.subplots(1, 1 + len(bodies))
    pictures = []
    for number in range(len(points)):
        for axes, name in zip(panels, ["2D input", *bodies], strict=True):
            axes.clear()
            axes.set_title(name, fontsize=9.5, color=TEXT)
        panels[0].set(xticks=[], yticks=[], aspect="equal", xlim=limits[:2], ylim=limits[2:])
        draw_skeleton(panels[0], points[number], skeleton, visible=there[number])
        for axes, frames in zip(panels[1:], bodies.values(), strict=True):
            draw_body(axes, frames[number], None, skeleton, views[number])
        canvas.draw()  # type: ignore[no-untyped-call]
        pixels = np.asarray(canvas.buffer_rgba())  # type: ignore[no-untyped-call]
        picture = Image.fromarray(pixels).convert("RGB")
        pictures.append(picture.quantize(64, dither=Image.Dither.NONE))
        report(number + 1, len(points))
    return pictures


def _limits(points: Array, there: Array) -> tuple[float, float, float, float]:
    """Left, right, lower and upper end of a square that holds the person in all frames; y points down."""
    seen = points[there]
    if not len(seen):
        return 0.0, 1.0, 1.0, 0.0
    middle, half = (seen.max(0) + seen.min(0)) / 2, 0.55 * max(float(np.ptp(seen, axis=0).max()), 1.0)
    return middle[0] - half, middle[0] + half, middle[1] + half, middle[1] - half


def _write(file: BinaryIO, pictures: list[Image.Image], milliseconds: float) -> None:
    first, *rest = pictures
    first.save(file, format="GIF", save_all=True, append_images=rest, duration=milliseconds, loop=0)
