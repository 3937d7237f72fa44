"""World-space motion seen through the cameras of a rig: where camera-frame poses and their 2D come from."""

from __future__ import annotations

from collections.abc import Sequence as SequenceOf
from dataclasses import dataclass

import torch
from torch import Tensor

from poseda.data.clips import LabelledClips, Provenance, Sequence
from poseda.errors import DataError
from poseda.geometry.camera import Camera, project_frames
from poseda.skeleton import Skeleton

NEAREST_MM = 500.0
SHORTEST_PIECE = 10  # frames


@dataclass(frozen=True)
class Take:
    """One recording of one person, and the numbers of the cameras that see it."""

    name: str
    subject: str
    action: str
    cameras: tuple[int, ...]


def see_takes(
    world: Tensor,
    bounds: Tensor,
    takes: SequenceOf[Take],
    cameras: Camera,
    skeleton: Skeleton,
    fps: float,
    provenance: Provenance,
) -> LabelledClips:
    """World motion (F, J, 3) mm, z up, cut into takes by bounds (S + 1,), as each take's cameras see it.

    A frame is dropped where a joint is outside the image or nearer than 0.5 m; the sequence is cut there
    and pieces shorter than 10 frames go too. The provenance notes say how many frames went. Raises
    DataError where all go.
    """
    take_of_frame = torch.arange(len(takes)).repeat_interleave(bounds.diff())
    parts = [
        _one_camera(world, take_of_frame, takes, cameras[camera : camera + 1], camera)
        for camera in sorted({camera for take in takes for camera in take.cameras})
    ]
    asked = sum(part.asked for part in parts)
    poses = torch.cat([part.poses for part in parts])
    if len(poses) == 0:
        raise DataError(f"{provenance.name}: no frame has the whole person inside an image ({asked} were tried).")
    counts = torch.cat([part.counts for part in parts])
    pixels = torch.cat([part.pixels for part in parts])
    return LabelledClips(
        keypoints=pixels,
        confidence=pixels.new_ones(pixels.shape[:2]),
        bounds=torch.cat([counts.new_zeros(1), counts.cumsum(0)]),
        sequences=tuple(sequence for part in parts for sequence in part.sequences),
        cameras=cameras,
        skeleton=skeleton,
        fps=fps,
        provenance=_with_note(provenance, asked - len(poses), asked),
        poses=poses,
    )


def body_in_image(camera: Camera, points: Tensor, pixels: Tensor) -> Tensor:
    """Frames (F,) whose joints (1, F, J, 3) mm are 0.5 m away or more, and in the image (1, F, J, 2)."""
    size = torch.stack([camera.width, camera.height], dim=-1).view(1, 1, 1, 2)
    inside = ((pixels >= 0) & (pixels < size)).all(-1)
    # a distortion polynomial can fold a far-off point back into the image: ask the plain pinhole as well
    focal = torch.stack([camera.fx, camera.fy], dim=-1).view(1, 1, 1, 2)
    centre = torch.stack([camera.cx, camera.cy], dim=-1).view(1, 1, 1, 2)
    pinhole = points[..., :2] / points[..., 2:].clamp(min=1.0) * focal + centre
    near = ((pinhole >= -0.25 * size) & (pinhole < 1.25 * size)).all(-1)
    return (inside & near & (points[..., 2] >= NEAREST_MM)).all(-1).squeeze(0)


@dataclass(frozen=True)
class _Part:
    """What one camera sees."""

    poses: Tensor
    pixels: Tensor
    counts: Tensor
    sequences: tuple[Sequence, ...]
    asked: int


def _one_camera(world: Tensor, take_of_frame: Tensor, takes: SequenceOf[Take], camera: Camera, index: int) -> _Part:
    seen = torch.tensor([index in take.cameras for take in takes])
    frames = seen[take_of_frame].nonzero().squeeze(-1)
    points = camera.world_to_camera(world[frames].unsqueeze(0))  # (1, F, J, 3)
    pixels = project_frames(camera, points[0]).unsqueeze(0)
    keep, counts, owners = _pieces(body_in_image(camera, points, pixels), take_of_frame[frames])
    named = tuple(_piece(takes[owner], index, number) for owner, number in owners)
    return _Part(points[0, keep], pixels[0, keep], counts, named, len(frames))


def _pieces(good: Tensor, take: Tensor) -> tuple[Tensor, Tensor, list[tuple[int, int]]]:
    """Runs of good frames in one take: kept (F,) bool, length of each run, its (take, number in it)."""
    joined = torch.zeros_like(good)
    joined[1:] = good[1:] & good[:-1] & (take[1:] == take[:-1])
    run = (good & ~joined).cumsum(0) - 1
    lengths = torch.bincount(run[good])
    long_enough = lengths >= SHORTEST_PIECE
    kept = good.clone()
    kept[good] = long_enough[run[good]]
    owners = take[good & ~joined][long_enough].tolist()
    numbers: dict[int, int] = {}
    named = []
    for owner in owners:
        named.append((owner, numbers.setdefault(owner, 0)))
        numbers[owner] += 1
    return kept, lengths[long_enough], named


def _piece(take: Take, camera: int, number: int) -> Sequence:
    return Sequence(f"{take.name}/camera{camera}/piece{number}", take.subject, take.action, camera)


def _with_note(provenance: Provenance, dropped: int, asked: int) -> Provenance:
    note = (
        f"dropped {dropped} of {asked} frames ({100.0 * dropped / asked:.1f} %) "
        "with a joint outside the image or nearer than 0.5 m, or in pieces under 10 frames"
    )
    joined = f"{provenance.notes}; {note}" if provenance.notes else note
    return Provenance(**{**provenance.__dict__, "notes": joined})
